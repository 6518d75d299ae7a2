//! A simulated street: homes that cook, wash, charge and generate, a network that loses energy and voltage, meters with
//! class errors and steps. Everything follows from a seed.

use energy::{HomeId, Interval, Mtu, NodeId, Timestamp, WattHours};
use meter::assurance::{
    Evidence, HomeEvidence, LossModel, MeterSeries, Place, PvDeclaration, Registers, elevation_deg,
};

pub const PER_DAY: usize = 96;
const HOURS: f64 = 0.25;

/// Small deterministic random source (SplitMix64, S. Vigna).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.roll()
    }

    /// Nearly Gaussian: mean 0, standard deviation 1.
    pub fn noise(&mut self) -> f64 {
        (0..12).map(|_| self.roll()).sum::<f64>() - 6.0
    }
}

/// What one home does, W per interval: import and export apart.
#[derive(Clone)]
pub struct Home {
    pub import_w: Vec<f64>,
    pub export_w: Vec<f64>,
    pub pv: Option<PvDeclaration>,
    pub feeder: usize,
    /// What its meter counts of 1 Wh: within class 1.
    gain: f64,
    start_wh: f64,
    pub volts: Vec<f64>,
}

impl Home {
    fn net_w(&self, at: usize) -> f64 {
        self.import_w[at] - self.export_w[at]
    }
}

pub struct Street {
    pub homes: Vec<Home>,
    pub days: usize,
    pub quantum: u64,
    root_gain: f64,
    losses_w: Vec<f64>,
    dice: Dice,
}

/// 2026-06-01, near Kassel.
pub fn first() -> Interval {
    Interval::parse("2026-06-01T00:00:00Z", Mtu::Min15).unwrap()
}

pub fn place() -> Place {
    Place::new(51.3, 9.5).unwrap()
}

impl Street {
    pub fn new(homes: usize, days: usize, quantum: u64, seed: u64) -> Self {
        Self::changed(homes, days, quantum, seed, |_| ())
    }

    /// A street whose homes are changed before anything flows.
    pub fn changed(
        homes: usize,
        days: usize,
        quantum: u64,
        seed: u64,
        change: impl FnOnce(&mut Vec<Home>),
    ) -> Self {
        let mut dice = Dice(seed);
        let clouds = clouds(days, &mut dice);
        let sun: Vec<f64> = (0..days * PER_DAY).map(|at| sun(at) * clouds[at]).collect();
        let mut homes: Vec<Home> = (0..homes).map(|number| home(number, &sun, days, &mut dice)).collect();
        change(&mut homes);
        let root_gain = dice.between(0.99, 1.01);
        let mut street = Self { homes, days, quantum, root_gain, losses_w: Vec::new(), dice };
        street.flow();
        street
    }

    /// Losses and voltages that follow from what the homes do.
    fn flow(&mut self) {
        let count = self.homes.len() as f64;
        let mut grid = 0.0;
        let feeders = 1 + self.homes.len() / 20;
        for at in 0..self.days * PER_DAY {
            let mut of_feeder = vec![0.0; feeders];
            self.homes.iter().for_each(|home| of_feeder[home.feeder % feeders] += home.net_w(at));
            let sum: f64 = of_feeder.iter().sum();
            // 1.5 % in the trunk at 1.5 kW a home, 1 % in each service cable at 5 kW.
            let trunk = 0.015 * sum * sum / (1500.0 * count);
            let cables: f64 = self.homes.iter().map(|home| 0.01 * home.net_w(at).powi(2) / 5000.0).sum();
            self.losses_w.push(150.0 + trunk + cables);
            // The network above: tap changers and other streets.
            grid = 0.97 * grid + 0.25 * self.dice.noise();
            let evening = 1.2 * (std::f64::consts::TAU * (at as f64 / 96.0 + 0.25)).cos();
            let busbar = 236.0 + grid + evening - 2.0 * sum / (1500.0 * count);
            for home in &mut self.homes {
                let along = 1.5 * of_feeder[home.feeder % feeders] / (1500.0 * count / feeders as f64);
                let own = 0.8 * (home.import_w[at] - home.export_w[at]) / 5000.0;
                home.volts.push(busbar - along - own + 0.03 * self.dice.noise());
            }
        }
    }

    /// What the meters and nodes of this street report.
    pub fn evidence(&mut self) -> Evidence {
        let (days, quantum) = (self.days, self.quantum);
        let root_w: Vec<f64> = (0..days * PER_DAY)
            .map(|at| self.homes.iter().map(|it| it.net_w(at)).sum::<f64>() + self.losses_w[at])
            .collect();
        let (import, export): (Vec<f64>, Vec<f64>) =
            root_w.iter().map(|w| (w.max(0.0), (-w).max(0.0))).unzip();
        let root = meter(&import, &export, self.root_gain, 5_000.0, quantum);
        let homes = (0..self.homes.len()).map(|number| self.home_evidence(number)).collect();
        Evidence {
            from: first(),
            intervals: days * PER_DAY,
            root: Some(root),
            losses: LossModel { fixed_w: 150.0, ..LossModel::default() },
            place: Some(place()),
            homes,
        }
    }

    fn home_evidence(&mut self, number: usize) -> HomeEvidence {
        let home = &self.homes[number];
        let mut series = meter(&home.import_w, &home.export_w, home.gain, home.start_wh, self.quantum);
        let mut voltage_dv: Vec<Option<u16>> = home.volts.iter().map(|&volts| Some(tenths(volts))).collect();
        // One boundary in two thousand is missed, and some homes are offline for an afternoon.
        for reading in &mut series.readings {
            if self.dice.roll() < 0.0005 {
                *reading = None;
            }
        }
        if number % 10 == 3 {
            series.readings.iter_mut().skip(1250).take(20).for_each(|reading| *reading = None);
            voltage_dv.iter_mut().skip(1250).take(20).for_each(|voltage| *voltage = None);
        }
        HomeEvidence {
            home: HomeId::new(&format!("h{number:03}")).unwrap(),
            identified: true,
            feeder: NodeId::new(&format!("F{}", home.feeder)).unwrap(),
            meter: series,
            voltage_dv,
            pv: vec![(0, home.pv)],
            inverter_permille: Vec::new(),
        }
    }
}

fn clouds(days: usize, dice: &mut Dice) -> Vec<f64> {
    let mut cover = 0.0;
    let weather = |_| {
        cover = 0.9 * cover + 0.4 * dice.noise();
        (0.75 + 0.25 * f64::tanh(cover)).clamp(0.15, 1.0)
    };
    (0..days * PER_DAY).map(weather).collect()
}

/// Output of a roof per W peak under a clear sky.
fn sun(at: usize) -> f64 {
    let middle = Timestamp::from_unix_ms(first().start().unix_ms() + at as u64 * 900_000 + 450_000);
    0.85 * elevation_deg(&place(), middle).to_radians().sin().max(0.0)
}

fn home(number: usize, sun: &[f64], days: usize, dice: &mut Dice) -> Home {
    let mut load = base_load(days, dice);
    if number % 6 == 4 {
        charge_a_car(&mut load, days, dice);
    }
    let peak = if number % 3 == 1 { dice.between(3000.0, 9000.0).round() } else { 0.0 };
    let (mut import_w, mut export_w) = (Vec::new(), Vec::new());
    for (load, sun) in load.iter().zip(sun) {
        let (mut taken, mut given) = (0.0, 0.0);
        // Three parts of five minutes: within one interval a home may do both.
        for _ in 0..3 {
            let net = load * dice.between(0.6, 1.4) - peak * sun * dice.between(0.9, 1.05);
            taken += net.max(0.0) / 3.0;
            given += (-net).max(0.0) / 3.0;
        }
        import_w.push(taken);
        export_w.push(given);
    }
    let pv = (peak > 0.0).then_some(PvDeclaration { peak_w: peak as u32, storage: false });
    let (gain, start_wh) = (dice.between(0.99, 1.01), dice.between(0.0, 9e6));
    Home { import_w, export_w, pv, feeder: number % 7, gain, start_wh, volts: Vec::new() }
}

/// A household: asleep, breakfast, evening, and what happens to be switched on.
fn base_load(days: usize, dice: &mut Dice) -> Vec<f64> {
    let scale = dice.between(0.5, 2.0);
    let shift = dice.between(-1.5, 1.5);
    let mut wander = 0.0;
    let mut event = (0, 0.0);
    let mut load = Vec::with_capacity(days * PER_DAY);
    for at in 0..days * PER_DAY {
        let hour = (at % PER_DAY) as f64 / 4.0 + shift;
        let bump = |centre: f64, width: f64| f64::exp(-((hour - centre) / width).powi(2));
        wander = 0.8 * wander + 0.25 * dice.noise();
        let usual =
            scale * (110.0 + 180.0 * bump(7.5, 1.2) + 120.0 * bump(12.5, 1.5) + 420.0 * bump(19.0, 2.2));
        let awake = 0.01 + 0.06 * (bump(8.0, 2.0) + bump(18.5, 3.0));
        if event.0 == 0 && dice.roll() < awake {
            event = (1 + (dice.roll() * 6.0) as usize, dice.between(400.0, 2200.0));
        }
        let appliance = if event.0 > 0 { event.1 } else { 0.0 };
        event.0 = event.0.saturating_sub(1);
        load.push(usual * f64::exp(0.5 * wander) + appliance);
    }
    load
}

fn charge_a_car(load: &mut [f64], days: usize, dice: &mut Dice) {
    for day in 0..days {
        if dice.roll() < 0.6 {
            let start = day * PER_DAY + 66 + (dice.roll() * 16.0) as usize;
            let end = (start + 6 + (dice.roll() * 12.0) as usize).min(load.len());
            load[start.min(end)..end].iter_mut().for_each(|w| *w += 3700.0);
        }
    }
}

fn tenths(volts: f64) -> u16 {
    (volts * 10.0).round() as u16
}

/// The registers of a meter that counts these powers, cut to its step.
fn meter(import_w: &[f64], export_w: &[f64], gain: f64, start_wh: f64, quantum: u64) -> MeterSeries {
    let (mut import, mut export) = (start_wh, start_wh / 2.0);
    let shown = |wh: f64| WattHours::new(wh as u64 / quantum * quantum);
    let of_interval = |(taken, given): (&f64, &f64)| {
        import += taken * gain * HOURS;
        export += given * gain * HOURS;
        Some(Registers { epoch: 0, import: shown(import), export: shown(export) })
    };
    let readings = import_w.iter().zip(export_w).map(of_interval).collect();
    MeterSeries { quantum: WattHours::new(quantum), readings }
}

/// Rewrites what a home's registers counted since `from`: its import × `import`, its export × `export`.
pub fn forge(home: &mut HomeEvidence, from: usize, import: f64, export: f64) {
    let quantum = home.meter.quantum.get();
    let honest = home.meter.readings[from..].iter().flatten().next().copied().unwrap();
    let scaled = |base: WattHours, now: WattHours, factor: f64| {
        let wh = base.get() as f64 + (now.get() - base.get()) as f64 * factor;
        WattHours::new(wh as u64 / quantum * quantum)
    };
    for reading in home.meter.readings[from..].iter_mut().flatten() {
        reading.import = scaled(honest.import, reading.import, import);
        reading.export = scaled(honest.export, reading.export, export);
    }
}

/// Adds `watts` to what the export register counted in the intervals of which `when` is true.
pub fn export_more(home: &mut HomeEvidence, watts: f64, when: impl Fn(usize) -> bool) {
    let quantum = home.meter.quantum.get();
    let mut more = 0.0;
    for (at, reading) in home.meter.readings.iter_mut().enumerate() {
        more += if when(at) { watts * HOURS } else { 0.0 };
        if let Some(reading) = reading {
            reading.export = WattHours::new((reading.export.get() + more as u64) / quantum * quantum);
        }
    }
}
