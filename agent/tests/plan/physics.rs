//! What devices do to what they hold, and what they do without a plan.

use agent::{Battery, Charger, Devices, Heat, Session, Standing, Step, advance, unplanned};
use energy::{Interval, Mtu, Price, WattHours};

use crate::homes::{Kit, home, wh};

fn devices() -> Devices {
    Devices {
        battery: Some(Battery {
            capacity: wh(5_000),
            charge: wh(1_000),
            discharge: wh(1_000),
            efficiency_permille: 950,
            reserve: wh(500),
            wear: Price::ZERO,
        }),
        charger: Some(Charger { power: wh(2_750) }),
        heat: Some(Heat { power: wh(500), store: wh(1_000) }),
        curtailable: true,
    }
}

#[test]
fn losses_are_on_the_way_in_and_a_broken_watt_hour_is_lost() {
    let held = |battery| Standing { battery: wh(battery), ..Standing::default() };
    let charge = |amount| Step { charge: wh(amount), ..Step::default() };
    assert_eq!(advance(&devices(), &held(100), &charge(101), WattHours::ZERO).battery, wh(195));
    assert_eq!(advance(&devices(), &held(100), &charge(1), WattHours::ZERO).battery, wh(100));
    assert_eq!(advance(&devices(), &held(4_900), &charge(500), WattHours::ZERO).battery, wh(5_000));
    let discharge = Step { discharge: wh(80), ..Step::default() };
    assert_eq!(advance(&devices(), &held(100), &discharge, WattHours::ZERO).battery, wh(20));
}

#[test]
fn heat_stays_within_its_store_and_a_vehicle_needs_what_it_was_not_given() {
    let session =
        Session { needed: wh(4_000), minimum: wh(3_000), deadline: Interval::from_index(9, Mtu::Min15) };
    let standing = Standing { heat: wh(800), session: Some(session), ..Standing::default() };
    let step = Step { heat: wh(500), vehicle: wh(2_750), ..Step::default() };
    let after = advance(&devices(), &standing, &step, wh(100));
    assert_eq!(after.heat, wh(1_000));
    assert_eq!(after.session, Some(Session { needed: wh(1_250), minimum: wh(250), ..session }));
    assert_eq!(advance(&devices(), &standing, &Step::default(), wh(900)).heat, WattHours::ZERO);
}

#[test]
fn what_no_device_holds_stays_as_it_is() {
    let standing = Standing { battery: wh(70), heat: wh(80), session: None };
    let step = Step { charge: wh(500), heat: wh(500), ..Step::default() };
    assert_eq!(advance(&Devices::default(), &standing, &step, wh(30)), standing);
}

#[test]
fn without_a_plan_the_vehicle_charges_at_once_and_the_battery_serves_the_home_alone() {
    let mut home = home(3, Kit::ALL, 96);
    home.devices.battery = devices().battery;
    home.standing.battery = wh(2_000);
    let mut standing = home.standing;
    let needed = standing.session.unwrap().needed;
    let steps = unplanned(&home.devices, &standing, &home.ahead);
    for (step, ahead) in steps.iter().zip(&home.ahead) {
        assert!(step.charge.is_zero() || step.import.is_zero(), "the battery never buys");
        assert!(step.discharge.is_zero() || step.export.is_zero(), "and never sells");
        assert_eq!(step.heat, ahead.heat);
        standing = advance(&home.devices, &standing, step, ahead.heat);
        assert!(standing.battery >= wh(500));
    }
    let charged: u64 = steps.iter().map(|step| step.vehicle.get()).sum();
    let intervals = steps.iter().take_while(|step| !step.vehicle.is_zero()).count();
    assert_eq!(charged, needed.get());
    let power = home.devices.charger.unwrap().power.get();
    assert_eq!(u64::try_from(intervals).unwrap(), needed.get().div_ceil(power));
}
