//! Each rule of the planner by the situation that calls for it.

use agent::{
    Ahead, Battery, Charger, Devices, Goal, Heat, Plan, Prices, Session, Standing, Step, Wishes, follow,
    plan, unplanned,
};
use energy::{Interval, Mtu, Price, WattHours};

use crate::homes::wh;

const START: u64 = 1_752_960;
/// 1 cent in µ.
const CENT: i64 = 10_000;

fn from() -> Interval {
    Interval::from_index(START, Mtu::Min15)
}

/// An interval at the supplier alone: prices in cents.
fn ahead(load: i64, pv: i64, import: i64, export: i64) -> Ahead {
    let (import, export) = (Price::new(import * CENT), Price::new(export * CENT));
    let prices = Prices {
        supplier_import: import,
        supplier_export: export,
        local_import: import,
        local_export: export,
        import_permille: 0,
        export_permille: 0,
    };
    Ahead {
        load: wh(load),
        pv: wh(pv),
        heat: WattHours::ZERO,
        prices,
        bought: WattHours::ZERO,
        sold: WattHours::ZERO,
        import_cap: wh(10_000),
        export_cap: wh(10_000),
    }
}

fn battery() -> Battery {
    Battery {
        capacity: wh(10_000),
        charge: wh(1_000),
        discharge: wh(1_000),
        efficiency_permille: 900,
        reserve: wh(0),
        wear: Price::ZERO,
    }
}

fn with_battery(battery: Battery) -> Devices {
    Devices { battery: Some(battery), ..Devices::default() }
}

fn with_charger(power: i64) -> Devices {
    Devices { charger: Some(Charger { power: wh(power) }), ..Devices::default() }
}

fn with_heat(power: i64, store: i64) -> Devices {
    Devices { heat: Some(Heat { power: wh(power), store: wh(store) }), ..Devices::default() }
}

fn holding(battery: i64) -> Standing {
    Standing { battery: wh(battery), ..Standing::default() }
}

fn session(needed: i64, minimum: i64, deadline: u64) -> Standing {
    let deadline = Interval::from_index(START + deadline, Mtu::Min15);
    Standing {
        session: Some(Session { needed: wh(needed), minimum: wh(minimum), deadline }),
        ..Standing::default()
    }
}

fn planned(devices: &Devices, standing: &Standing, ahead: &[Ahead]) -> Plan {
    plan(devices, &Wishes::default(), standing, from(), ahead)
}

fn each(plan: &Plan, part: impl Fn(&Step) -> WattHours) -> Vec<u64> {
    plan.steps.iter().map(|step| part(step).get()).collect()
}

fn vehicle(plan: &Plan) -> Vec<u64> {
    each(plan, |step| step.vehicle)
}

fn discharged(plan: &Plan) -> Vec<u64> {
    each(plan, |step| step.discharge)
}

fn total(amounts: &[u64]) -> u64 {
    amounts.iter().sum()
}

#[test]
fn a_home_without_devices_is_planned_as_it_is() {
    let days = [ahead(300, 0, 25, 8), ahead(100, 400, 25, 8)];
    let plan = planned(&Devices::default(), &Standing::default(), &days);
    assert_eq!(plan.steps, unplanned(&Devices::default(), &Standing::default(), &days));
    // 0.3 kWh × 0.25 − 0.3 kWh × 0.08 of the currency, in n.
    assert_eq!(plan.cost.get(), 75_000_000 - 24_000_000);
    assert_eq!(plan.cost, plan.cost_unplanned);
}

#[test]
fn at_flat_prices_the_battery_serves_the_home_alone() {
    let mut day = vec![ahead(100, 900, 25, 8); 8];
    day.extend(vec![ahead(400, 0, 25, 8); 8]);
    let plan = planned(&with_battery(battery()), &holding(0), &day);
    let (sun, night) = plan.steps.split_at(8);
    // 400 Wh × 8 are needed: at 90 % 3 556 Wh go in, in the earliest sun, and nothing else.
    assert!(sun.iter().all(|step| step.import.is_zero()));
    assert!(
        night.iter().all(|step| step.discharge == wh(400) && step.import.is_zero() && step.export.is_zero())
    );
    // What the night does not need is worth a kWh of the supplier's afterwards: it is kept, not sold.
    assert!(sun.iter().all(|step| step.charge == wh(800) && step.export.is_zero()));
}

#[test]
fn the_battery_does_not_cycle_where_the_spread_does_not_pay_loss_and_wear() {
    // 20 / 0.9 = 22.2 cents to have a kWh, and 3 cents of wear, against 25 it saves: not worth it. Against 26: worth it.
    let day = |high| {
        let mut day = vec![ahead(500, 0, 20, 8); 8];
        day.extend(vec![ahead(500, 0, high, 8); 4]);
        // The median afterwards is 20.
        day.extend(vec![ahead(500, 0, 20, 8); 8]);
        day
    };
    let devices = with_battery(Battery { wear: Price::new(3 * CENT), ..battery() });
    let idle = planned(&devices, &holding(0), &day(25));
    assert_eq!(total(&each(&idle, |step| step.charge)), 0);
    let cycling = planned(&devices, &holding(0), &day(26));
    assert_eq!(discharged(&cycling)[8..12], [500; 4]);
    assert!(cycling.cost < cycling.cost_unplanned);
}

#[test]
fn with_equal_prices_both_ways_nothing_is_stored_for_nothing() {
    let mut day = vec![ahead(100, 900, 25, 25); 8];
    day.extend(vec![ahead(400, 0, 25, 25); 8]);
    let plan = planned(&with_battery(battery()), &holding(0), &day);
    assert!(plan.steps.iter().all(|step| step.charge.is_zero() && step.discharge.is_zero()));
}

#[test]
fn a_battery_stops_at_its_reserve() {
    let day = vec![ahead(500, 0, 40, 8); 12];
    let devices = with_battery(Battery { reserve: wh(2_000), ..battery() });
    let plan = planned(&devices, &holding(3_200), &day);
    assert_eq!(total(&discharged(&plan)), 1_200);
}

#[test]
fn a_battery_below_its_reserve_is_filled_up_to_it_at_the_cheapest_and_gives_nothing_before() {
    let mut day = vec![ahead(500, 0, 40, 8); 40];
    day.extend(vec![ahead(500, 0, 20, 8); 10]);
    day.extend(vec![ahead(500, 0, 40, 8); 70]);
    let devices = with_battery(Battery { reserve: wh(2_000), ..battery() });
    let plan = planned(&devices, &holding(500), &day);
    assert_eq!(total(&discharged(&plan)[..40]), 0);
    assert_eq!(total(&each(&plan, |step| step.charge)[..40]), 0);
    assert!(total(&each(&plan, |step| step.charge)[40..50]) >= 1_667);
    // Flat and dear: within a day all the same.
    let flat = vec![ahead(500, 0, 40, 8); 192];
    let plan = planned(&devices, &holding(500), &flat);
    assert_eq!(total(&each(&plan, |step| step.charge)[..96]), 1_667);
}

#[test]
fn the_battery_is_not_emptied_at_the_end_of_the_horizon() {
    // Selling at 8 what saves 25 later would look like a gain if the end were the end.
    let day = vec![ahead(0, 0, 25, 8); 190];
    let plan = planned(&with_battery(battery()), &holding(5_000), &day);
    assert_eq!(total(&discharged(&plan)), 0);
}

#[test]
fn the_battery_sells_at_a_peak_unless_the_household_asks_for_more() {
    let mut day = vec![ahead(100, 0, 20, 8); 20];
    day.extend(vec![ahead(100, 0, 60, 55); 4]);
    day.extend(vec![ahead(100, 0, 20, 8); 20]);
    let devices = with_battery(battery());
    let sold = planned(&devices, &holding(4_000), &day);
    assert_eq!(each(&sold, |step| step.export)[20..24], [900; 4]);
    let wishes = Wishes { min_sell: Some(Price::new(56 * CENT)), ..Wishes::default() };
    let kept = plan(&devices, &wishes, &holding(4_000), from(), &day);
    assert_eq!(total(&each(&kept, |step| step.export)), 0);
    assert_eq!(discharged(&kept)[20..24], [100; 4]);
}

#[test]
fn sun_is_curtailed_only_where_giving_it_costs_money() {
    let day = [ahead(100, 900, 25, 8), ahead(100, 900, 25, 0), ahead(100, 900, 25, -3)];
    let tellable = Devices { curtailable: true, ..Devices::default() };
    let plan = planned(&tellable, &Standing::default(), &day);
    assert_eq!(each(&plan, |step| step.curtailed), [0, 0, 800]);
    assert_eq!(each(&plan, |step| step.export), [800, 800, 0]);
    let plan = planned(&Devices::default(), &Standing::default(), &day);
    assert_eq!(each(&plan, |step| step.curtailed), [0, 0, 0]);
    assert_eq!(each(&plan, |step| step.export), [800, 800, 800]);
}

#[test]
fn sun_is_curtailed_where_the_connection_cannot_carry_it() {
    let narrow = Ahead { export_cap: wh(300), ..ahead(100, 900, 25, 8) };
    let tellable = Devices { curtailable: true, ..Devices::default() };
    let plan = planned(&tellable, &Standing::default(), &[narrow]);
    assert_eq!((plan.steps[0].curtailed, plan.steps[0].export), (wh(500), wh(300)));
    // A battery takes it instead, were it only to give it back for what it is worth later.
    let devices = Devices { battery: Some(battery()), ..tellable };
    let plan = planned(&devices, &holding(0), &[narrow, ahead(800, 0, 25, 8)]);
    assert_eq!((plan.steps[0].curtailed, plan.steps[0].charge), (wh(0), wh(800)));
}

#[test]
fn the_battery_never_gives_beyond_the_export_cap() {
    let mut day = vec![Ahead { export_cap: wh(300), ..ahead(100, 0, 60, 55) }; 4];
    day.extend(vec![ahead(100, 0, 20, 8); 20]);
    let plan = planned(&with_battery(battery()), &holding(6_000), &day);
    assert_eq!(discharged(&plan)[..4], [400; 4]);
}

#[test]
fn the_vehicle_charges_in_the_cheapest_intervals_before_its_deadline() {
    let prices = [30, 20, 30, 10, 25, 5, 5];
    let day: Vec<Ahead> = prices.map(|price| ahead(200, 0, price, 2)).to_vec();
    let plan = planned(&with_charger(1_000), &session(2_500, 0, 5), &day);
    assert_eq!(vehicle(&plan), [0, 1_000, 0, 1_000, 500, 0, 0]);
}

#[test]
fn of_equal_prices_the_vehicle_takes_the_earliest_interval() {
    let plan = planned(&with_charger(1_000), &session(2_500, 0, 20), &vec![ahead(200, 0, 25, 8); 24]);
    assert_eq!(vehicle(&plan)[..4], [1_000, 1_000, 500, 0]);
}

#[test]
fn the_minimum_is_charged_at_once_whatever_it_costs() {
    let mut day = vec![ahead(200, 0, 90, 8); 4];
    day.extend(vec![ahead(200, 0, 10, 8); 20]);
    let wishes = Wishes { max_buy: Some(Price::new(20 * CENT)), ..Wishes::default() };
    let plan = plan(&with_charger(1_000), &wishes, &session(4_000, 1_500, 20), from(), &day);
    assert_eq!(vehicle(&plan)[..8], [1_000, 500, 0, 0, 1_000, 1_000, 500, 0]);
}

#[test]
fn what_cannot_be_charged_in_time_is_charged_at_full_power_until_it_is() {
    let mut day = vec![ahead(200, 0, 90, 8); 4];
    day.extend(vec![ahead(200, 0, 10, 8); 4]);
    let plan = planned(&with_charger(1_000), &session(5_500, 0, 3), &day);
    assert_eq!(vehicle(&plan), [1_000, 1_000, 1_000, 1_000, 1_000, 500, 0, 0]);
    let late = planned(&with_charger(1_000), &session(1_500, 0, 0), &day);
    assert_eq!(vehicle(&late), [1_000, 500, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn above_the_households_limit_the_vehicle_waits_as_long_as_its_deadline_allows() {
    let wishes = Wishes { max_buy: Some(Price::new(20 * CENT)), ..Wishes::default() };
    // One interval at the limit; the rest is needed all the same, as late as can be.
    let day: Vec<Ahead> = [25, 25, 20, 25, 25, 25].map(|price| ahead(200, 0, price, 2)).to_vec();
    let needed = plan(&with_charger(1_000), &wishes, &session(2_500, 0, 5), from(), &day);
    assert_eq!(vehicle(&needed), [0, 0, 1_000, 500, 1_000, 0]);
    // A deadline beyond the horizon leaves time to wait in: 4 intervals are left for 4.5 kWh.
    let waiting = plan(&with_charger(1_000), &wishes, &session(5_500, 0, 10), from(), &day);
    assert_eq!(vehicle(&waiting), [0, 0, 1_000, 0, 0, 500]);
    // Its own sun is not bought.
    let sunny = vec![ahead(200, 1_200, 25, 8); 6];
    let own = plan(&with_charger(1_500), &wishes, &session(1_000, 0, 10), from(), &sunny);
    assert_eq!(vehicle(&own)[..2], [1_000, 0]);
}

#[test]
fn devices_stand_still_where_load_exceeds_the_cap_and_the_battery_may_help() {
    let capped = Ahead { import_cap: wh(800), ..ahead(1_200, 0, 10, 2) };
    let mut day = vec![capped; 2];
    day.extend(vec![Ahead { import_cap: wh(800), ..ahead(300, 0, 40, 2) }; 4]);
    let devices = Devices { battery: Some(battery()), ..with_charger(1_000) };
    let standing = Standing { battery: wh(6_000), ..session(900, 0, 4) };
    let plan = planned(&with_charger(1_000), &standing, &day);
    assert_eq!(vehicle(&plan), [0, 0, 500, 400, 0, 0]);
    let plan = planned(&devices, &standing, &day);
    assert_eq!(vehicle(&plan)[2..].iter().sum::<u64>() + total(&vehicle(&plan)[..2]), 900);
    for (step, ahead) in plan.steps.iter().zip(&day) {
        assert!(step.import <= ahead.import_cap.max(ahead.load));
        assert!(step.charge.is_zero());
    }
}

#[test]
fn the_battery_helps_a_vehicle_through_a_connection_too_narrow_for_its_deadline() {
    // 300 Wh an interval are free for a vehicle that needs 700; the battery has the rest.
    let day = vec![Ahead { import_cap: wh(800), ..ahead(500, 0, 25, 8) }; 8];
    let devices = Devices { battery: Some(battery()), ..with_charger(1_000) };
    let full = Standing { battery: wh(9_000), ..session(2_800, 0, 4) };
    let helped = planned(&devices, &full, &day);
    assert_eq!(total(&vehicle(&helped)[..4]), 2_800);
    assert!(helped.steps.iter().all(|step| step.import <= wh(800)));
    // An empty battery cannot: what is left is charged as soon as it can be.
    let empty = planned(&devices, &session(2_800, 0, 4), &day);
    assert!(empty.steps.iter().all(|step| step.import <= wh(800)));
    assert_eq!(vehicle(&empty)[..4], [300; 4]);
    assert!(total(&vehicle(&empty)) >= 2_400);
}

#[test]
fn heat_runs_ahead_of_need_where_it_is_cheaper_and_within_its_store() {
    let hour = |price| Ahead { heat: wh(200), ..ahead(100, 0, price, 2) };
    let mut day = vec![hour(30); 4];
    day.extend(vec![hour(10); 4]);
    day.extend(vec![hour(30); 4]);
    let plan = planned(&with_heat(500, 600), &Standing::default(), &day);
    let taken = each(&plan, |step| step.heat);
    // Of equal prices the earliest: it is never later than needed, and the store is empty when it becomes cheap.
    assert_eq!(taken[..4], [500, 300, 0, 0]);
    assert_eq!(taken[4..8], [500, 500, 200, 200]);
    assert_eq!(taken[8..12], [200, 0, 0, 0]);
}

#[test]
fn heat_that_is_needed_is_always_made() {
    let cold = |need| Ahead { heat: wh(need), ..ahead(100, 0, 90, 2) };
    let wishes = Wishes { max_buy: Some(Price::new(5 * CENT)), ..Wishes::default() };
    // 700 Wh cannot be served by 500; it is not made up for afterwards.
    let day = [cold(300), cold(700), cold(300)];
    let plan = plan(&with_heat(500, 0), &wishes, &Standing::default(), from(), &day);
    assert_eq!(each(&plan, |step| step.heat), [300, 500, 300]);
    // With room ahead of it, it can.
    let ahead_of_it = agent::plan(&with_heat(500, 400), &wishes, &Standing::default(), from(), &day);
    assert_eq!(each(&ahead_of_it, |step| step.heat), [500, 500, 300]);
}

#[test]
fn a_green_household_prefers_its_neighbours_sun_for_a_small_extra_cost() {
    let neighbours = |price, permille| {
        let mut interval = ahead(200, 0, price, 2);
        interval.prices.import_permille = permille;
        interval
    };
    let day = [neighbours(22, 0), neighbours(25, 1_000), neighbours(19, 0)];
    let charging = |goal| {
        let wishes = Wishes { goal, ..Wishes::default() };
        vehicle(&plan(&with_charger(1_000), &wishes, &session(2_000, 0, 3), from(), &day))
    };
    assert_eq!(charging(Goal::SaveMoney), [1_000, 0, 1_000]);
    assert_eq!(charging(Goal::StayGreen), [0, 1_000, 1_000]);
}

#[test]
fn an_independent_household_neither_trades_for_a_small_gain_nor_sells_what_it_stored() {
    let mut day = vec![ahead(300, 0, 20, 8); 8];
    day.extend(vec![ahead(300, 0, 23, 23); 4]);
    day.extend(vec![ahead(300, 0, 20, 8); 8]);
    let steps = |goal| {
        let wishes = Wishes { goal, ..Wishes::default() };
        plan(&with_battery(battery()), &wishes, &holding(1_000), from(), &day)
    };
    let saving = steps(Goal::SaveMoney);
    assert!(total(&each(&saving, |step| step.charge)) > 0 && total(&each(&saving, |step| step.export)) > 0);
    let independent = steps(Goal::StayIndependent);
    assert_eq!(total(&each(&independent, |step| step.charge)), 0);
    assert_eq!(total(&each(&independent, |step| step.export)), 0);
    assert_eq!(total(&discharged(&independent)), 1_000);
    // What it costs is said at the prices that are really expected.
    assert!(independent.cost > saving.cost);
}

#[test]
fn sun_of_an_independent_household_is_given_rather_than_lost() {
    let wishes = Wishes { goal: Goal::StayIndependent, ..Wishes::default() };
    let tellable = Devices { curtailable: true, ..Devices::default() };
    let plan = plan(&tellable, &wishes, &Standing::default(), from(), &[ahead(100, 900, 25, 8)]);
    assert_eq!((plan.steps[0].curtailed, plan.steps[0].export), (wh(0), wh(800)));
}

#[test]
fn energy_bought_forward_is_taken_and_energy_sold_forward_is_delivered() {
    // 1 kWh bought for the second interval would be resold at 8; the vehicle takes it although others are cheaper to buy.
    let mut day = vec![ahead(0, 0, 20, 8); 4];
    day[1] = Ahead { bought: wh(1_000), ..ahead(0, 0, 40, 8) };
    let plan = planned(&with_charger(1_000), &session(1_000, 0, 4), &day);
    assert_eq!(vehicle(&plan), [0, 1_000, 0, 0]);
    assert_eq!(plan.cost.get(), 0);
    // What was sold and is not delivered is bought back at 40: the battery delivers.
    day[1] = Ahead { sold: wh(600), ..ahead(0, 0, 40, 8) };
    let plan = planned(&with_battery(battery()), &holding(2_000), &day);
    assert_eq!(discharged(&plan), [0, 600, 0, 0]);
    assert_eq!(plan.steps[1].export, wh(600));
}

#[test]
fn where_taking_costs_less_than_giving_brings_no_wh_goes_both_ways() {
    // A feed-in tariff of 12 against 5 at night: the battery buys at night and the sun is sold.
    let mut day = vec![ahead(300, 0, 5, 12); 12];
    day.extend(vec![ahead(300, 900, 30, 12); 12]);
    day.extend(vec![ahead(600, 0, 30, 12); 12]);
    let plan = planned(&with_battery(battery()), &holding(0), &day);
    for step in &plan.steps {
        assert!(step.import.is_zero() || step.export.is_zero());
        assert!(step.charge.is_zero() || step.discharge.is_zero());
    }
    assert!(total(&each(&plan, |step| step.charge)[..12]) > 9_000);
    assert!(plan.cost < plan.cost_unplanned);
}

#[test]
fn paid_to_take_energy_the_home_takes_it() {
    let mut day = vec![ahead(300, 0, 20, 5); 4];
    day.extend(vec![ahead(300, 700, -10, -12); 4]);
    day.extend(vec![ahead(300, 0, 20, 5); 8]);
    let devices = Devices { curtailable: true, ..with_battery(battery()) };
    let plan = planned(&devices, &holding(0), &day);
    assert_eq!(each(&plan, |step| step.charge)[4..8], [1_000; 4]);
    assert_eq!(each(&plan, |step| step.curtailed)[4..8], [700; 4]);
}

#[test]
fn what_the_forecast_missed_is_the_batterys_to_even_out() {
    let devices = with_battery(battery());
    let day = [ahead(400, 0, 25, 8), ahead(100, 600, 25, 8), ahead(300, 0, 25, 8)];
    let plan = planned(&devices, &holding(2_000), &day);
    let came =
        |at: usize, load, pv| follow(&devices, &holding(2_000), &day[at], &plan.steps[at], wh(load), wh(pv));
    // Planned to serve 400: it serves what comes, more or less, and takes an unexpected sun.
    assert_eq!((came(0, 550, 0).discharge, came(0, 550, 0).import), (wh(550), wh(0)));
    assert_eq!((came(0, 250, 0).discharge, came(0, 250, 0).export), (wh(250), wh(0)));
    assert_eq!(came(0, 250, 450).charge, wh(200));
    // Planned to take the sun: it takes what there is, and never buys.
    assert_eq!((came(1, 100, 300).charge, came(1, 100, 300).import), (wh(200), wh(0)));
}

#[test]
fn a_planned_purchase_or_sale_is_kept_when_the_forecast_was_wrong() {
    let devices = with_battery(battery());
    let mut day = vec![ahead(100, 0, 10, 8); 1];
    day.extend(vec![ahead(100, 0, 60, 55); 1]);
    day.extend(vec![ahead(100, 0, 20, 8); 4]);
    let plan = planned(&devices, &holding(500), &day);
    assert_eq!((plan.steps[0].charge, plan.steps[1].discharge), (wh(1_000), wh(1_000)));
    let bought = follow(&devices, &holding(500), &day[0], &plan.steps[0], wh(300), wh(0));
    assert_eq!((bought.charge, bought.import), (wh(1_000), wh(1_300)));
    let sold = follow(&devices, &holding(1_400), &day[1], &plan.steps[1], wh(300), wh(0));
    assert_eq!((sold.discharge, sold.export), (wh(1_000), wh(700)));
}
