//! Where costs are not convex: taking costs less than giving brings, or is paid for. The plan against every way to act.

use agent::{Ahead, Battery, Devices, Prices, Standing, Step, Wishes, plan, unplanned};
use energy::{Interval, Mtu, Price, WattHours};

use crate::homes::{Home, Stream, wh};
use crate::optimum::{cost, rates, worth};

/// Wh that a small battery holds, and what it moves in one interval.
const CAPACITY: i64 = 120;
const POWER: i64 = 30;

fn interval(stream: &mut Stream) -> Ahead {
    let (import, export) = (stream.within(-100_000, 300_000), stream.within(-50_000, 250_000));
    let (import, export) = (Price::new(import), Price::new(export));
    Ahead {
        load: wh(stream.below(40)),
        pv: wh(stream.within(-40, 60)),
        heat: WattHours::ZERO,
        prices: Prices {
            supplier_import: import,
            supplier_export: export,
            local_import: import,
            local_export: export,
            import_permille: 0,
            export_permille: 0,
        },
        bought: WattHours::ZERO,
        sold: WattHours::ZERO,
        import_cap: wh(1_000),
        export_cap: wh(1_000),
    }
}

fn small_home(seed: u64) -> Home {
    let mut stream = Stream::new(seed);
    let battery = Battery {
        capacity: wh(CAPACITY),
        charge: wh(POWER),
        discharge: wh(POWER),
        efficiency_permille: u32::try_from(stream.within(800, 1_000)).unwrap(),
        reserve: WattHours::ZERO,
        wear: Price::new(stream.below(40_000)),
    };
    Home {
        devices: Devices { battery: Some(battery), ..Devices::default() },
        wishes: Wishes::default(),
        standing: Standing { battery: wh(stream.below(CAPACITY)), ..Standing::default() },
        from: Interval::from_index(1_752_960, Mtu::Min15),
        ahead: (0..48).map(|_| interval(&mut stream)).collect(),
    }
}

/// The least cost of all ways to charge and discharge in whole Wh.
fn least(home: &Home, battery: &Battery) -> i128 {
    let kept = i128::from((worth(home) - battery.wear.get()).max(0));
    let start = i64::try_from(home.standing.battery.get()).unwrap();
    let mut costs: Vec<i128> = (0..=CAPACITY).map(|level| kept * i128::from(start - level)).collect();
    for ahead in home.ahead.iter().rev() {
        let best = |level: i64| {
            (-POWER..=POWER)
                .filter_map(|moved| cost_from(battery, ahead, &costs, level, moved))
                .min()
                .unwrap()
        };
        costs = (0..=CAPACITY).map(best).collect();
    }
    costs[usize::try_from(start).unwrap()]
}

fn cost_from(battery: &Battery, ahead: &Ahead, later: &[i128], level: i64, moved: i64) -> Option<i128> {
    let gained = if moved > 0 { moved * i64::from(battery.efficiency_permille) / 1_000 } else { moved };
    let later = later.get(usize::try_from(level + gained).ok()?)?;
    let net = i64::try_from(ahead.load.get()).ok()? - i64::try_from(ahead.pv.get()).ok()? + moved;
    let (take, give) = rates(ahead);
    let now = i128::from(net) * i128::from(if net > 0 { take } else { give });
    Some(now + i128::from(battery.wear.get()) * i128::from((-moved).max(0)) + later)
}

#[test]
fn odd_prices_are_planned_within_a_fiftieth_of_the_best_way_to_act() {
    let (mut best, mut planned, mut idle) = (0, 0, 0);
    for seed in 0..20 {
        let home = small_home(seed);
        let battery = home.devices.battery.unwrap();
        let plan = plan(&home.devices, &home.wishes, &home.standing, home.from, &home.ahead);
        let least = least(&home, &battery);
        let steps: &[Step] = &plan.steps;
        assert!(cost(&home, steps) >= least, "home {seed}");
        best += least;
        planned += plan.cost.get();
        idle += cost(&home, &unplanned(&home.devices, &home.standing, &home.ahead));
    }
    assert!(50 * (planned - best) < idle - best, "best {best}, planned {planned}, without a plan {idle}");
}
