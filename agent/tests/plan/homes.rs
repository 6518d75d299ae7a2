//! Homes as they are: days with sun or without, tariffs flat, by time of use or dynamic, devices of the usual sizes.
//! Each follows from one number.

use agent::{Ahead, Battery, Charger, Devices, Heat, Prices, Session, Standing, Wishes};
use energy::{Interval, Mtu, Price, WattHours};

/// All that a plan is made from.
#[derive(Debug, Clone)]
pub struct Home {
    pub devices: Devices,
    pub wishes: Wishes,
    pub standing: Standing,
    pub from: Interval,
    pub ahead: Vec<Ahead>,
}

/// What a made-up home has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kit {
    pub battery: bool,
    pub charger: bool,
    pub heat: bool,
}

impl Kit {
    pub const BATTERY: Self = Self { battery: true, charger: false, heat: false };
    pub const ALL: Self = Self { battery: true, charger: true, heat: true };
}

/// A repeatable stream of numbers (Knuth's MMIX constants); only the upper bits are used.
pub struct Stream(u64);

impl Stream {
    pub fn new(seed: u64) -> Self {
        let mut stream = Self(seed);
        stream.below(2);
        stream
    }

    pub fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    pub fn within(&mut self, from: i64, to: i64) -> i64 {
        from + self.below(to - from + 1)
    }

    fn one_in(&mut self, count: i64) -> bool {
        self.below(count) == 0
    }
}

pub fn wh(energy: i64) -> WattHours {
    WattHours::new(u64::try_from(energy).unwrap_or(0))
}

/// A home that begins at midnight.
pub fn home(seed: u64, kit: Kit, intervals: usize) -> Home {
    let mut stream = Stream::new(seed);
    let devices = devices(&mut stream, kit);
    let standing = standing(&mut stream, &devices);
    let ahead = ahead(&mut stream, &devices, intervals);
    Home {
        devices,
        wishes: Wishes::default(),
        standing,
        from: Interval::from_index(1_752_960, Mtu::Min15),
        ahead,
    }
}

fn devices(stream: &mut Stream, kit: Kit) -> Devices {
    let capacity = stream.within(5_000, 15_000);
    let power = stream.within(500, 1_250);
    let battery = Battery {
        capacity: wh(capacity),
        charge: wh(power),
        discharge: wh(power),
        efficiency_permille: u32::try_from(stream.within(850, 980)).unwrap(),
        reserve: wh(capacity * stream.below(21) / 100),
        wear: Price::new(stream.below(5) * 10_000),
    };
    let charger = Charger { power: wh(if stream.one_in(2) { 925 } else { 2_750 }) };
    let power = stream.within(400, 900);
    let heat = Heat { power: wh(power), store: wh(power * stream.within(2, 10)) };
    Devices {
        battery: kit.battery.then_some(battery),
        charger: kit.charger.then_some(charger),
        heat: kit.heat.then_some(heat),
        curtailable: stream.one_in(2),
    }
}

fn standing(stream: &mut Stream, devices: &Devices) -> Standing {
    let battery = devices.battery.map_or(0, |battery| {
        let (reserve, capacity) = (battery.reserve.get(), battery.capacity.get());
        stream.within(i64::try_from(reserve).unwrap(), i64::try_from(capacity).unwrap())
    });
    let heat = devices.heat.map_or(0, |heat| stream.below(i64::try_from(heat.store.get()).unwrap()));
    let deadline = stream.within(24, 120);
    let needed = stream.within(3_000, (deadline * 800).min(40_000));
    let session = devices.charger.map(|_| Session {
        needed: wh(needed),
        minimum: WattHours::ZERO,
        deadline: Interval::from_index(1_752_960 + u64::try_from(deadline).unwrap(), Mtu::Min15),
    });
    Standing { battery: wh(battery), session, heat: wh(heat) }
}

/// A tariff: what each quarter-hour of the day costs.
fn tariff(stream: &mut Stream) -> Vec<i64> {
    let (low, high) = (stream.within(120_000, 200_000), stream.within(220_000, 400_000));
    match stream.below(3) {
        0 => vec![high; 96],
        1 => (0..96).map(|quarter| if (24..88).contains(&quarter) { high } else { low }).collect(),
        // Two peaks a day, cheap at night and at noon, and a little noise.
        _ => (0..96_i64)
            .map(|quarter| {
                let from_peak = (quarter - 32).abs().min((quarter - 76).abs()).min(20);
                high - (high - low) * from_peak / 20 + stream.below(10_000)
            })
            .collect(),
    }
}

fn ahead(stream: &mut Stream, devices: &Devices, intervals: usize) -> Vec<Ahead> {
    let import = tariff(stream);
    let export = 80_000 - stream.below(2) * stream.below(120_000);
    let peak = stream.below(3) * stream.within(600, 1_300);
    let (base, evening) = (stream.within(30, 120), stream.within(100, 700));
    let need = devices.heat.map_or(0, |heat| i64::try_from(heat.power.get()).unwrap() / 2);
    let mut sky = 1_000;
    let mut interval = |index: usize| {
        let quarter = i64::try_from(index % 96).unwrap();
        if quarter % 24 == 0 {
            sky = stream.within(200, 1_000);
        }
        // A parabola from 06:00 to 20:00.
        let sun = (28 * 28 - (quarter - 52) * (quarter - 52)).max(0) * peak / (28 * 28) * sky / 1_000;
        let busy = if (68..90).contains(&quarter) { stream.below(evening) } else { 0 };
        let traded = if stream.one_in(12) { stream.below(1_000) } else { 0 };
        let sells = stream.one_in(2);
        let supplier = import[index % 96];
        let middle = (supplier + export) / 2;
        Ahead {
            load: wh(base + busy + stream.below(80)),
            pv: wh(sun),
            heat: wh(stream.within(need / 4, need)),
            prices: Prices {
                supplier_import: Price::new(supplier),
                supplier_export: Price::new(export),
                local_import: Price::new(middle + 30_000),
                local_export: Price::new(middle),
                import_permille: u32::try_from(stream.below(if sun > 0 { 900 } else { 100 })).unwrap(),
                export_permille: u32::try_from(stream.below(500)).unwrap(),
            },
            bought: wh(if sells { 0 } else { traded }),
            sold: wh(if sells { traded } else { 0 }),
            import_cap: wh(4_300),
            export_cap: wh(4_300),
        }
    };
    (0..intervals).map(&mut interval).collect()
}
