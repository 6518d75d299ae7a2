//! How simulated devices obey: what they were told, within what they can, beside the home's own meter.

use agent::{Devices, Standing, Step};
use energy::WattHours;
use sim::home::{Given, within_devices};

/// What devices do in an interval when they were told `planned`: they keep to it, and the battery answers for the
/// difference only where the connection would otherwise do the opposite of what was asked. Asked to stand still,
/// the connection does: every battery follows its home's own meter within seconds. Where an inverter was told a `limit`, sun is given
/// up for what the home would give beyond it, be that more or less than expected.
#[must_use]
pub fn obey(
    devices: &Devices,
    standing: &Standing,
    planned: &Step,
    limit: Option<WattHours>,
    given: Given,
) -> Step {
    let Step { heat, vehicle, .. } = within_devices(devices, standing, planned, given.heat);
    let (heat, vehicle) = (heat.get(), vehicle.get());
    let takes = given.load.get() + heat + vehicle;
    let (pv, net) = (given.pv.get(), takes.cast_signed() - given.pv.get().cast_signed());
    let battery = answer(devices, standing, planned, net);
    let rest = net - battery;
    let most = limit.map_or(i64::MAX, |limit| limit.get().cast_signed());
    let curtailed = (-rest).saturating_sub(most).clamp(0, pv.cast_signed());
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
        let step = obey(&devices(), &half_full(), &planned, None, given);
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
        let step = obey(&devices(), &standing, &Step::default(), None, given(800, 0, 0));
        assert_eq!((step.discharge, step.import), (wh(100), wh(700)));
        let standing = Standing { battery: wh(9_550), ..Standing::default() };
        let step = obey(&devices(), &standing, &Step::default(), None, given(0, 800, 0));
        assert_eq!((step.charge, step.export), (wh(500), wh(300)));
        assert_eq!(advance(&devices(), &standing, &step, wh(0)).battery, wh(10_000));
    }

    #[test]
    fn heat_is_never_missing_and_never_beyond_its_store() {
        let made = |planned: u64, level: u64, need: u64| {
            let standing = Standing { heat: wh(level), ..Standing::default() };
            let planned = Step { heat: wh(planned), import: wh(1), ..Step::default() };
            obey(&devices(), &standing, &planned, None, given(0, 0, need)).heat.get()
        };
        assert_eq!(made(0, 0, 300), 300, "forgotten by the plan, made all the same");
        assert_eq!(made(0, 200, 300), 100);
        assert_eq!(made(500, 1_900, 100), 200, "no further ahead than its store");
        assert_eq!(made(900, 0, 0), 500, "no more than its power");
    }

    #[test]
    fn sun_is_given_up_only_for_what_should_not_be_exported() {
        let full = Standing { battery: wh(10_000), ..Standing::default() };
        let done =
            |pv: u64, limit| obey(&devices(), &full, &Step::default(), Some(wh(limit)), given(100, pv, 0));
        assert_eq!((done(900, 0).curtailed, done(900, 0).export), (wh(800), wh(0)));
        assert_eq!((done(900, 500).curtailed, done(900, 500).export), (wh(300), wh(500)));
        assert_eq!((done(500, 500).curtailed, done(500, 500).export), (wh(0), wh(400)), "within the limit");
        assert_eq!(
            (done(50, 0).curtailed, done(50, 0).import),
            (wh(0), wh(0)),
            "the battery serves the home"
        );
    }

    #[test]
    fn a_battery_takes_what_may_not_be_given_before_any_sun_is_given_up() {
        let step = obey(&devices(), &half_full(), &Step::default(), Some(wh(100)), given(100, 1_500, 0));
        assert_eq!((step.charge, step.curtailed, step.export), (wh(1_000), wh(300), wh(100)));
    }
}
