//! How simulated devices obey: what they were told, within what they can, beside the home's own meter.

use agent::{Devices, Standing, Step};
use energy::WattHours;
use sim::home::Given;

/// What devices do in an interval when they were told `planned`: they keep to it, and the battery answers for the
/// difference only where the connection would otherwise do the opposite of what was asked. Asked to stand still,
/// the connection does: every battery follows its home's own meter within seconds.
#[must_use]
pub fn obey(devices: &Devices, standing: &Standing, planned: &Step, given: Given) -> Step {
    let heat = devices.heat.map_or(0, |heat| {
        let (level, need) = (standing.heat.get(), given.heat.get());
        let least = need.saturating_sub(level);
        let most = (heat.store.get() + need).saturating_sub(level);
        planned.heat.get().min(most).max(least).min(heat.power.get())
    });
    let vehicle = devices.charger.map_or(0, |charger| {
        let needed = standing.session.map_or(0, |session| session.needed.get());
        planned.vehicle.get().min(charger.power.get()).min(needed)
    });
    let takes = given.load.get() + heat + vehicle;
    let (pv, net) = (given.pv.get(), takes.cast_signed() - given.pv.get().cast_signed());
    // Giving up sun stops an export and never makes an import.
    let expected = if net < 0 { (net + planned.curtailed.get().min(pv).cast_signed()).min(0) } else { net };
    let battery = answer(devices, standing, planned, expected);
    let rest = net - battery;
    let curtailed = if planned.curtailed.is_zero() {
        0
    } else {
        // Sun is given up for what should not be exported, be it more or less than expected.
        (-rest - planned.export.get().cast_signed()).clamp(0, pv.cast_signed())
    };
    let rest = rest + curtailed;
    let wh = |energy: i64| WattHours::new(energy.max(0).unsigned_abs());
    Step {
        charge: wh(-battery),
        discharge: wh(battery),
        vehicle: WattHours::new(vehicle),
        heat: WattHours::new(heat),
        curtailed: wh(curtailed),
        import: wh(rest),
        export: wh(-rest),
    }
}

/// What the battery gives (takes, if negative) when the rest of the home takes `net`.
fn answer(devices: &Devices, standing: &Standing, planned: &Step, net: i64) -> i64 {
    let Some(battery) = devices.battery else { return 0 };
    let planned_power = planned.discharge.get().cast_signed() - planned.charge.get().cast_signed();
    let rest = net - planned_power;
    let wanted = if (rest > 0 && planned.import.is_zero()) || (rest < 0 && planned.export.is_zero()) {
        net
    } else {
        planned_power
    };
    let gives = standing.battery.saturating_sub(battery.reserve).min(battery.discharge);
    let room = battery.capacity.saturating_sub(standing.battery).get() * 1000;
    let takes = room.div_ceil(u64::from(battery.efficiency_permille).max(1)).min(battery.charge.get());
    wanted.clamp(-takes.cast_signed(), gives.get().cast_signed())
}

#[cfg(test)]
mod tests {
    use agent::{Battery, Charger, Heat, advance};

    use super::*;

    const fn wh(energy: u64) -> WattHours {
        WattHours::new(energy)
    }

    fn devices() -> Devices {
        Devices {
            battery: Some(Battery {
                capacity: wh(10_000),
                charge: wh(1_000),
                discharge: wh(1_000),
                efficiency_permille: 900,
                reserve: wh(1_000),
                wear: energy::Price::new(30_000),
            }),
            charger: Some(Charger { power: wh(900) }),
            heat: Some(Heat { power: wh(500), store: wh(2_000) }),
            curtailable: true,
        }
    }

    fn given(load: u64, pv: u64, heat: u64) -> Given {
        Given { load: wh(load), pv: wh(pv), heat: wh(heat) }
    }

    fn half_full() -> Standing {
        Standing { battery: wh(5_000), ..Standing::default() }
    }

    /// Charge, discharge, import, export.
    fn flows(planned: Step, given: Given) -> [u64; 4] {
        let step = obey(&devices(), &half_full(), &planned, given);
        [step.charge, step.discharge, step.import, step.export].map(WattHours::get)
    }

    #[test]
    fn a_home_planned_to_stand_still_is_held_there_by_its_battery() {
        let still = Step { discharge: wh(200), ..Step::default() };
        assert_eq!(flows(still, given(300, 0, 0)), [0, 300, 0, 0]);
        assert_eq!(flows(still, given(300, 700, 0)), [400, 0, 0, 0]);
        assert_eq!(flows(still, given(1_500, 0, 0)), [0, 1_000, 500, 0], "as far as its power goes");
    }

    #[test]
    fn what_was_planned_with_the_grid_is_kept_and_never_turned_around() {
        let sells = Step { discharge: wh(800), export: wh(500), ..Step::default() };
        assert_eq!(flows(sells, given(400, 0, 0)), [0, 800, 0, 400]);
        assert_eq!(flows(sells, given(900, 0, 0)), [0, 900, 0, 0], "a sale does not become a purchase");
        let charges = Step { charge: wh(600), import: wh(800), ..Step::default() };
        assert_eq!(flows(charges, given(100, 0, 0)), [600, 0, 700, 0]);
        assert_eq!(
            flows(charges, given(0, 900, 0)),
            [900, 0, 0, 0],
            "sun is not sold while it charges from the grid"
        );
        let waits = Step { import: wh(300), ..Step::default() };
        assert_eq!(flows(waits, given(350, 0, 0)), [0, 0, 350, 0], "what is kept for later stays");
    }

    #[test]
    fn a_battery_gives_nothing_below_its_reserve_and_takes_nothing_above_its_capacity() {
        let standing = Standing { battery: wh(1_100), ..Standing::default() };
        let step = obey(&devices(), &standing, &Step::default(), given(800, 0, 0));
        assert_eq!((step.discharge, step.import), (wh(100), wh(700)));
        let standing = Standing { battery: wh(9_550), ..Standing::default() };
        let step = obey(&devices(), &standing, &Step::default(), given(0, 800, 0));
        assert_eq!((step.charge, step.export), (wh(500), wh(300)));
        assert_eq!(advance(&devices(), &standing, &step, wh(0)).battery, wh(10_000));
    }

    #[test]
    fn heat_is_never_missing_and_never_beyond_its_store() {
        let made = |planned: u64, level: u64, need: u64| {
            let standing = Standing { heat: wh(level), ..Standing::default() };
            let planned = Step { heat: wh(planned), import: wh(1), ..Step::default() };
            obey(&devices(), &standing, &planned, given(0, 0, need)).heat.get()
        };
        assert_eq!(made(0, 0, 300), 300, "forgotten by the plan, made all the same");
        assert_eq!(made(0, 200, 300), 100);
        assert_eq!(made(500, 1_900, 100), 200, "no further ahead than its store");
        assert_eq!(made(900, 0, 0), 500, "no more than its power");
    }

    #[test]
    fn sun_is_given_up_only_for_what_should_not_be_exported() {
        let step = Step { curtailed: wh(400), ..Step::default() };
        let full = Standing { battery: wh(10_000), ..Standing::default() };
        let done = |pv: u64| obey(&devices(), &full, &step, given(100, pv, 0));
        assert_eq!((done(900).curtailed, done(900).export), (wh(800), wh(0)), "more sun than expected");
        assert_eq!((done(300).curtailed, done(300).export), (wh(200), wh(0)), "less sun than expected");
        assert_eq!((done(50).curtailed, done(50).import), (wh(0), wh(0)), "the battery serves the home");
    }
}
