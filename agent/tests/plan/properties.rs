//! What holds for every home, however odd.

use agent::{
    Ahead, Battery, Charger, Devices, Goal, Heat, Plan, Prices, Session, Standing, Wishes, advance, follow,
    plan, unplanned,
};
use energy::{Interval, Mtu, Price, WattHours};
use proptest::prelude::*;

use crate::homes::{Home, Kit, home, wh};
use crate::optimum::cost;

const START: u64 = 1_752_960;

fn energy(most: i64) -> impl Strategy<Value = WattHours> {
    prop_oneof![3 => 0..=most, 1 => Just(0), 1 => Just(most)].prop_map(wh)
}

fn price() -> impl Strategy<Value = Price> {
    (-30_i64..60).prop_map(|cents| Price::new(cents * 10_000))
}

prop_compose! {
    fn a_battery()(
        capacity in energy(12_000),
        charge in energy(1_500),
        discharge in energy(1_500),
        efficiency_permille in 500_u32..=1_000,
        reserve in energy(4_000),
        wear in 0_i64..6,
    ) -> Battery {
        Battery { capacity, charge, discharge, efficiency_permille, reserve, wear: Price::new(wear * 10_000) }
    }
}

prop_compose! {
    fn some_devices()(
        battery in prop::option::of(a_battery()),
        charger in prop::option::of(energy(2_750)),
        heat in prop::option::of((energy(900), energy(4_000))),
        curtailable: bool,
    ) -> Devices {
        let charger = charger.map(|power| Charger { power });
        Devices { battery, charger, heat: heat.map(|(power, store)| Heat { power, store }), curtailable }
    }
}

prop_compose! {
    fn some_standing()(
        battery in energy(12_000),
        session in prop::option::of((energy(30_000), energy(5_000), 0_u64..60)),
        heat in energy(4_000),
    ) -> Standing {
        let session = session.map(|(needed, minimum, deadline)| Session {
            needed,
            minimum,
            deadline: Interval::from_index(START + deadline, Mtu::Min15),
        });
        Standing { battery, session, heat }
    }
}

prop_compose! {
    fn prices()(
        supplier_import in price(),
        supplier_export in price(),
        local_import in price(),
        local_export in price(),
        import_permille in 0_u32..=1_000,
        export_permille in 0_u32..=1_000,
    ) -> Prices {
        Prices { supplier_import, supplier_export, local_import, local_export, import_permille, export_permille }
    }
}

prop_compose! {
    fn an_interval()(
        load in energy(1_500),
        pv in energy(2_500),
        heat in energy(1_000),
        prices in prices(),
        traded in prop_oneof![2 => Just(0), 1 => -1_500_i64..1_500],
        import_cap in prop_oneof![energy(3_000), Just(wh(20_000))],
        export_cap in prop_oneof![energy(3_000), Just(wh(20_000))],
    ) -> Ahead {
        Ahead { load, pv, heat, prices, bought: wh(traded), sold: wh(-traded), import_cap, export_cap }
    }
}

prop_compose! {
    fn some_wishes()(
        goal in prop_oneof![Just(Goal::SaveMoney), Just(Goal::StayGreen), Just(Goal::StayIndependent)],
        max_buy in prop::option::of(price()),
        min_sell in prop::option::of(price()),
    ) -> Wishes {
        Wishes { goal, max_buy, min_sell }
    }
}

prop_compose! {
    fn any_home()(
        devices in some_devices(),
        wishes in prop_oneof![Just(Wishes::default()), some_wishes()],
        standing in some_standing(),
        ahead in prop::collection::vec(an_interval(), 1..50),
    ) -> Home {
        Home { devices, wishes, standing, from: Interval::from_index(START, Mtu::Min15), ahead }
    }
}

fn planned(home: &Home) -> Plan {
    plan(&home.devices, &home.wishes, &home.standing, home.from, &home.ahead)
}

fn signed(energy: WattHours) -> i64 {
    i64::try_from(energy.get()).unwrap()
}

fn base(ahead: &Ahead) -> i64 {
    signed(ahead.load) - signed(ahead.pv)
}

fn most<T: Copy>(device: Option<T>, of: impl Fn(T) -> WattHours) -> WattHours {
    device.map_or(WattHours::ZERO, of)
}

/// Every limit of every device and of the connection, in every interval.
fn assert_it_can_be_carried_out(home: &Home, plan: &Plan) {
    let devices = &home.devices;
    let mut standing = home.standing;
    assert_eq!(plan.steps.len(), home.ahead.len());
    for (at, (step, ahead)) in plan.steps.iter().zip(&home.ahead).enumerate() {
        assert!(step.charge <= most(devices.battery, |battery| battery.charge));
        assert!(step.discharge <= most(devices.battery, |battery| battery.discharge));
        assert!(step.charge.is_zero() || step.discharge.is_zero());
        assert!(step.import.is_zero() || step.export.is_zero());
        assert!(step.vehicle <= most(devices.charger, |charger| charger.power));
        assert!(step.vehicle <= most(standing.session, |session| session.needed));
        assert!(step.heat <= most(devices.heat, |heat| heat.power));
        assert!(step.curtailed <= if devices.curtailable { ahead.pv } else { WattHours::ZERO });
        let moved = signed(step.charge) - signed(step.discharge) + signed(step.vehicle) + signed(step.heat);
        let net = base(ahead) + moved + signed(step.curtailed);
        assert_eq!(net, signed(step.import) - signed(step.export), "interval {at}");
        assert!(
            net <= signed(ahead.import_cap).max(base(ahead)),
            "interval {at} beyond its import cap: {step:?}"
        );
        let sun = if devices.curtailable { signed(ahead.pv) } else { 0 };
        assert!(
            net >= (-signed(ahead.export_cap)).min(base(ahead) + sun),
            "interval {at} beyond its export cap"
        );
        let before = standing;
        standing = advance(devices, &standing, step, ahead.heat);
        if let Some(battery) = devices.battery {
            assert!(step.discharge <= before.battery, "interval {at} gives what is not there");
            assert!(step.discharge.is_zero() || standing.battery >= battery.reserve.min(battery.capacity));
        }
        assert!(
            step.heat.is_zero()
                || signed(before.heat) + signed(step.heat) - signed(ahead.heat)
                    <= most(devices.heat, |heat| heat.store).get().max(before.heat.get()).try_into().unwrap()
        );
    }
}

/// What a vehicle gets before its deadline; `None` without one.
fn charged_in_time(home: &Home, plan: &Plan) -> Option<u64> {
    let deadline = home.standing.session?.deadline.index() - START;
    let before = usize::try_from(deadline).unwrap();
    Some(plan.steps.iter().take(before).map(|step| step.vehicle.get()).sum())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_plan_can_be_carried_out_and_the_same_home_has_the_same_plan(home in any_home()) {
        let plan = planned(&home);
        assert_it_can_be_carried_out(&home, &plan);
        prop_assert_eq!(&plan, &planned(&home));
        prop_assert_eq!(plan.cost_unplanned.get(), cost(&home, &unplanned(&home.devices, &home.standing, &home.ahead)));
        prop_assert_eq!(plan.cost.get(), cost(&home, &plan.steps));
    }

    #[test]
    fn an_interval_that_comes_as_expected_is_carried_out_as_planned(home in any_home()) {
        let mut standing = home.standing;
        for (step, ahead) in planned(&home).steps.iter().zip(&home.ahead) {
            prop_assert_eq!(&follow(&home.devices, &standing, ahead, step, ahead.load, ahead.pv), step);
            standing = advance(&home.devices, &standing, step, ahead.heat);
        }
    }

    #[test]
    fn an_interval_that_comes_otherwise_still_keeps_every_limit(
        home in any_home(),
        really in prop::collection::vec((energy(1_500), energy(2_500)), 50),
    ) {
        let mut plan = planned(&home);
        let mut came = home.clone();
        let mut standing = home.standing;
        for (at, (load, pv)) in really.into_iter().enumerate().take(home.ahead.len()) {
            plan.steps[at] = follow(&home.devices, &standing, &home.ahead[at], &plan.steps[at], load, pv);
            came.ahead[at] = Ahead { load, pv, ..home.ahead[at] };
            standing = advance(&home.devices, &standing, &plan.steps[at], home.ahead[at].heat);
        }
        assert_it_can_be_carried_out(&came, &plan);
    }

    #[test]
    fn to_save_money_a_plan_never_costs_more_than_none(mut home in any_home()) {
        home.wishes = Wishes::default();
        for ahead in &mut home.ahead {
            // Without a plan nobody would obey a cap.
            (ahead.import_cap, ahead.export_cap) = (wh(20_000), wh(20_000));
            // Without a plan nobody would heat ahead of what cannot be served later.
            ahead.heat = ahead.heat.min(most(home.devices.heat, |heat| heat.power));
        }
        if let Some(battery) = &mut home.devices.battery {
            // Without a plan nobody would fill the reserve.
            battery.reserve = battery.reserve.min(home.standing.battery);
        }
        let plan = planned(&home);
        prop_assert!(plan.cost <= plan.cost_unplanned, "{} > {}", plan.cost, plan.cost_unplanned);
    }

    #[test]
    fn a_deadline_is_met_wherever_power_and_connection_allow(mut home in any_home(), battery in prop::option::of(a_battery())) {
        home.devices.battery = battery;
        let (Some(charger), Some(session)) = (home.devices.charger, home.standing.session) else { return Ok(()) };
        let plan = planned(&home);
        let before = usize::try_from(session.deadline.index() - START).unwrap();
        let later = u64::try_from(before.saturating_sub(home.ahead.len())).unwrap() * charger.power.get();
        // Heat that is needed keeps its place.
        let warm = |ahead: &Ahead| most(home.devices.heat, |heat| heat.power).min(ahead.heat);
        let room = |ahead: &Ahead| {
            u64::try_from(signed(ahead.import_cap) - base(ahead) - signed(warm(ahead))).unwrap_or(0)
        };
        let possible: u64 = home.ahead.iter().take(before).map(|ahead| room(ahead).min(charger.power.get())).sum();
        let owed = session.needed.get().saturating_sub(later);
        prop_assert!(charged_in_time(&home, &plan) >= Some(owed.min(possible)));
    }

    #[test]
    fn heat_that_is_needed_is_made_as_far_as_power_and_connection_allow(mut home in any_home()) {
        home.devices.charger = None;
        home.devices.battery = None;
        let Some(heat) = home.devices.heat else { return Ok(()) };
        let plan = planned(&home);
        let mut standing = home.standing;
        standing.heat = standing.heat.min(heat.store);
        let mut fullest = signed(standing.heat);
        for (step, ahead) in plan.steps.iter().zip(&home.ahead) {
            // Full power always is as warm as it can be; where that is enough, the plan must be enough.
            let power = signed(heat.power).min((signed(ahead.import_cap) - base(ahead)).max(0));
            let enough = fullest + power >= signed(ahead.heat);
            fullest = (fullest + power - signed(ahead.heat)).clamp(0, signed(heat.store));
            prop_assert!(!enough || standing.heat.get() + step.heat.get() >= ahead.heat.get());
            standing = advance(&home.devices, &standing, step, ahead.heat);
        }
    }

    #[test]
    fn extreme_amounts_and_prices_are_planned_too(
        mut home in any_home(),
        amount in any::<u64>(),
        price in any::<i64>(),
        at in 0_usize..50,
    ) {
        let at = at % home.ahead.len();
        let (amount, price) = (WattHours::new(amount), Price::new(price));
        let prices = Prices { supplier_import: price, local_export: price, ..home.ahead[at].prices };
        home.ahead[at] = Ahead { load: amount, prices, import_cap: amount, sold: amount, ..home.ahead[at] };
        home.standing.battery = amount;
        prop_assert_eq!(planned(&home).steps.len(), home.ahead.len());
    }
}

#[test]
fn more_than_two_days_are_planned_as_two() {
    let home = home(1, Kit::ALL, 250);
    let plan = planned(&home);
    assert_eq!(plan.steps.len(), agent::HORIZON);
}
