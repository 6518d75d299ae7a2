//! Orders: only what the home controls, at limits that follow from the plan, inside the rules of the book.

use agent::{
    Account, Action, Ahead, Band, Battery, Charger, Desk, Devices, Heat, OFFER_AHEAD_MS, OpenOffer, Plan,
    Prices, Session, Standing, Step, Wishes, offers,
};
use energy::{Interval, Money, Mtu, Price, Timestamp, WattHours};
use market::{FREEZE_MS, GATE_LEAD_MS, ORDER_MIN, Side};
use proptest::prelude::*;

const FIRST: Interval = Interval::from_index(1_000_000, Mtu::Min15);

fn wh(energy: u64) -> WattHours {
    WattHours::new(energy)
}

fn price(micro: i64) -> Price {
    Price::new(micro)
}

/// Interval `place` of the plan.
fn at(place: u64) -> Interval {
    Interval::from_index(FIRST.index() + place, Mtu::Min15)
}

/// Where an interval stands in the plan.
fn place_of(interval: Interval) -> usize {
    usize::try_from(interval.index() - FIRST.index()).unwrap()
}

/// As the plan begins.
fn now() -> Timestamp {
    FIRST.start()
}

/// Half of everything is served by neighbours: imports cost 237 500, exports bring 122 500.
fn prices() -> Prices {
    Prices {
        supplier_import: price(300_000),
        supplier_export: price(80_000),
        local_import: price(175_000),
        local_export: price(165_000),
        import_permille: 500,
        export_permille: 500,
    }
}

/// A home, its plan for some intervals and its account; tests change what they are about.
#[derive(Debug, Clone)]
struct Home {
    devices: Devices,
    standing: Standing,
    wishes: Wishes,
    account: Account,
    plan: Plan,
    ahead: Vec<Ahead>,
    bands: Vec<Band>,
    open: Vec<OpenOffer>,
}

impl Home {
    /// Nothing happens in twelve intervals.
    fn idle() -> Self {
        let battery = Battery {
            capacity: wh(10_000),
            charge: wh(1_250),
            discharge: wh(1_250),
            efficiency_permille: 900,
            reserve: wh(0),
            wear: price(20_000),
        };
        let ahead = Ahead {
            load: wh(0),
            pv: wh(0),
            heat: wh(0),
            prices: prices(),
            bought: wh(0),
            sold: wh(0),
            import_cap: wh(10_000),
            export_cap: wh(10_000),
        };
        let account =
            Account { free: Money::new(10_000_000_000), maximum: wh(5_000), entries_left: 60, trading: true };
        let devices = Devices {
            battery: Some(battery),
            charger: Some(Charger { power: wh(2_750) }),
            heat: Some(Heat { power: wh(1_000), store: wh(2_000) }),
            curtailable: false,
        };
        let steps = vec![Step::default(); 12];
        Self {
            devices,
            standing: Standing::default(),
            wishes: Wishes::default(),
            account,
            plan: Plan { from: FIRST, steps, cost: Money::ZERO, cost_unplanned: Money::ZERO },
            ahead: vec![ahead; 12],
            bands: vec![],
            open: vec![],
        }
    }

    fn with(place: usize, step: Step) -> Self {
        let mut home = Self::idle();
        home.plan.steps[place] = step;
        home
    }

    /// Sells 1 000 Wh of its battery in interval 2.
    fn selling() -> Self {
        Self::with(2, Step { discharge: wh(1_000), export: wh(1_000), ..Step::default() })
    }

    /// Charges its vehicle with 2 000 Wh in interval 2.
    fn charging() -> Self {
        Self::with(2, Step { vehicle: wh(2_000), import: wh(2_000), ..Step::default() })
    }

    fn desk(&self) -> Desk<'_> {
        let Self { devices, standing, wishes, account, plan, ahead, bands, open } = self;
        Desk { plan, ahead, devices, standing, wishes, account, bands, open }
    }

    fn offers(&self) -> Vec<Action> {
        offers(&self.desk(), now())
    }

    /// Its only action, which places an order: side, price, quantity.
    fn placed(&self) -> (Side, i64, u64) {
        match self.offers()[..] {
            [Action::Place { interval, side, price, quantity, .. }] if interval == at(2) => {
                (side, price.get(), quantity.get())
            }
            ref other => panic!("{other:?}"),
        }
    }

    fn has_open(mut self, side: Side, micro: i64, energy: u64) -> Self {
        let (price, quantity) = (price(micro), wh(energy));
        self.open.push(OpenOffer { id: [9; 32], interval: at(2), side, price, quantity, changes: 0 });
        self
    }
}

#[test]
fn what_the_battery_gives_beyond_the_own_need_is_sold() {
    // 300 of 1 000 Wh serve the home.
    let step = Step { discharge: wh(1_000), export: wh(700), ..Step::default() };
    assert_eq!(Home::with(2, step).placed(), (Side::Sell, 122_500, 700));
    // With 900 Wh of sun over, 1 900 Wh go out; the battery's 1 000 are offered, the sun is not.
    let step = Step { discharge: wh(1_000), export: wh(1_900), ..Step::default() };
    assert_eq!(Home::with(2, step).placed(), (Side::Sell, 122_500, 1_000));
}

#[test]
fn what_vehicle_battery_and_heat_take_from_outside_is_bought() {
    // 400 Wh of load are not offered; of 1 500 Wh for devices the sun covers 600.
    let step = Step { vehicle: wh(1_000), heat: wh(500), import: wh(1_900), ..Step::default() };
    assert_eq!(Home::with(2, step).placed(), (Side::Buy, 237_500, 1_500));
    let step = Step { vehicle: wh(1_000), heat: wh(500), import: wh(900), ..Step::default() };
    assert_eq!(Home::with(2, step).placed(), (Side::Buy, 237_500, 900));
}

#[test]
fn sun_and_uncontrolled_load_are_never_offered() {
    for step in [
        Step { export: wh(3_000), ..Step::default() },
        Step { import: wh(3_000), ..Step::default() },
        Step { charge: wh(1_000), export: wh(500), ..Step::default() },
        Step { discharge: wh(1_000), import: wh(200), ..Step::default() },
    ] {
        assert_eq!(Home::with(2, step).offers(), [], "{step:?}");
    }
}

#[test]
fn what_a_position_covers_already_is_not_offered_again() {
    let mut home = Home::selling();
    home.ahead[2].sold = wh(400);
    assert_eq!(home.placed().2, 600);
    home.ahead[2].sold = wh(950);
    assert_eq!(home.offers(), [], "50 Wh are too little for an order");
}

#[test]
fn who_bought_for_an_interval_does_not_sell_in_it() {
    let mut home = Home::selling();
    home.ahead[2].bought = wh(100);
    assert_eq!(home.offers(), []);
}

#[test]
fn a_sale_brings_at_least_what_keeping_the_energy_is_worth() {
    // In interval 5 the home imports at 280 000 although its battery could give more.
    let mut home = Home::selling();
    home.plan.steps[5] = Step { discharge: wh(500), import: wh(300), ..Step::default() };
    home.ahead[5].prices = Prices { local_import: price(280_000), import_permille: 1_000, ..prices() };
    assert_eq!(home.placed(), (Side::Sell, 280_000, 1_000));
    // At full power it could not: then only later exports are left, at today's price.
    home.plan.steps[5].discharge = wh(1_250);
    assert_eq!(home.placed(), (Side::Sell, 122_500, 1_000));
}

#[test]
fn energy_that_must_be_charged_again_is_not_sold_below_what_that_costs() {
    // Charging again costs 135 000 at the connection, 150 000 at 90 % efficiency; this sale's wear is 20 000.
    let mut home = Home::selling();
    home.plan.steps[4] = Step { charge: wh(1_000), import: wh(1_000), ..Step::default() };
    home.ahead[4].prices = Prices { local_import: price(135_000), import_permille: 1_000, ..prices() };
    let sale = |home: &Home| {
        home.offers().into_iter().find_map(|action| match action {
            Action::Place { side: Side::Sell, price, .. } => Some(price.get()),
            _ => None,
        })
    };
    assert_eq!(sale(&home), Some(170_000));
    // From the sun it costs the export forgone: 122 500 ÷ 0.9 + 20 000.
    home.plan.steps[4].import = wh(0);
    home.ahead[4].prices = prices();
    assert_eq!(sale(&home), Some(156_111));
}

#[test]
fn a_vehicle_pays_no_more_than_in_the_dearest_other_interval_before_its_deadline() {
    let mut home = Home::charging();
    home.standing.session = Some(Session { needed: wh(2_000), minimum: wh(0), deadline: at(4) });
    assert_eq!(home.placed().1, 237_500, "elsewhere it would cost the same");
    for place in [0, 1, 3] {
        home.ahead[place].prices = Prices {
            local_import: price(100_000 + i64::try_from(place).unwrap()),
            import_permille: 1_000,
            ..prices()
        };
    }
    assert_eq!(home.placed().1, 100_003);
    home.plan.steps[3].vehicle = wh(2_750);
    assert_eq!(home.offers().len(), 1, "fed by the sun: nothing to buy in interval 3");
    assert_eq!(home.placed().1, 100_001, "interval 3 has no room left, interval 4 comes too late");
    home.standing.session = Some(Session { needed: wh(2_000), minimum: wh(0), deadline: at(3) });
    home.plan.steps[..2].iter_mut().for_each(|step| step.vehicle = wh(2_750));
    assert_eq!(home.placed().1, 237_500, "no other interval is left");
}

#[test]
fn a_battery_pays_no_more_than_its_energy_brings_later_after_losses_and_wear() {
    // The best later use saves 200 000: (200 000 − 20 000) × 0.9.
    let step = Step { charge: wh(1_000), import: wh(1_000), ..Step::default() };
    let mut home = Home::with(2, step);
    home.plan.steps[7] = Step { discharge: wh(900), ..Step::default() };
    home.ahead[7].prices = Prices { local_import: price(200_000), import_permille: 1_000, ..prices() };
    assert_eq!(home.placed(), (Side::Buy, 162_000, 1_000));
}

#[test]
fn heat_pays_no_more_than_while_its_store_would_last() {
    let step = Step { heat: wh(1_000), import: wh(1_000), ..Step::default() };
    let mut home = Home::with(2, step);
    home.ahead.iter_mut().for_each(|ahead| ahead.heat = wh(1_000));
    for place in [3, 4] {
        home.ahead[place].prices =
            Prices { local_import: price(150_000), import_permille: 1_000, ..prices() };
    }
    assert_eq!(home.placed(), (Side::Buy, 150_000, 1_000), "2 000 Wh of store last two intervals");
}

#[test]
fn the_households_limits_hold() {
    let mut home = Home::selling();
    home.wishes.min_sell = Some(price(200_000));
    assert_eq!(home.placed().1, 200_000);
    home.wishes.min_sell = Some(price(300_001));
    assert_eq!(home.offers(), [], "above what anybody may pay");
    let mut home = Home::charging();
    home.wishes.max_buy = Some(price(150_000));
    assert_eq!(home.placed().1, 150_000);
    home.wishes.max_buy = Some(price(79_999));
    assert_eq!(home.offers(), [], "below what anybody may ask");
}

#[test]
fn limits_lie_in_the_markets_band() {
    let mut home = Home::selling();
    home.bands = vec![Band { low: price(130_000), high: price(140_000) }; 12];
    assert_eq!(home.placed().1, 130_000);
    let mut home = Home::charging();
    home.bands = vec![Band { low: price(80_000), high: price(190_000) }; 12];
    assert_eq!(home.placed().1, 190_000);
}

#[test]
fn an_order_is_at_most_what_the_connection_is_certified_for() {
    let mut home = Home::charging();
    home.account.maximum = wh(1_500);
    assert_eq!(home.placed().2, 1_500);
    home.ahead[2].bought = wh(300);
    assert_eq!(home.placed().2, 1_200);
}

#[test]
fn an_order_is_at_most_what_the_free_balance_reserves() {
    // A purchase reserves its limit: 237 500 µ × 1 000 Wh. A sale reserves what not delivering would cost: 300 000 − 122 500.
    let mut home = Home::charging();
    home.account.free = Money::new(237_500 * 1_000);
    assert_eq!(home.placed().2, 1_000);
    let mut home = Home::selling();
    home.account.free = Money::new(177_500 * 300 + 1);
    assert_eq!(home.placed().2, 300);
    home.account.free = Money::new(177_500 * 99);
    assert_eq!(home.offers(), [], "less than 100 Wh");
    // Where exporting costs 50 000, a purchase that is not taken does too.
    let mut home = Home::charging();
    home.bands = vec![Band { low: price(-50_000), high: price(300_000) }; 12];
    home.account.free = Money::new(287_500 * 700);
    assert_eq!(home.placed().2, 700);
}

#[test]
fn the_nearest_gate_gets_the_balance_first() {
    let mut home = Home::charging();
    home.plan.steps[3] = home.plan.steps[2];
    home.account.free = Money::new(237_500 * 2_500);
    let quantities: Vec<u64> = home
        .offers()
        .iter()
        .map(|action| match action {
            Action::Place { quantity, .. } => quantity.get(),
            Action::Cancel { .. } => panic!("nothing to cancel"),
        })
        .collect();
    assert_eq!(quantities, [2_000, 500]);
}

#[test]
fn the_quota_goes_to_the_nearest_gates() {
    let mut home = Home::charging();
    home.plan.steps = vec![home.plan.steps[2]; 12];
    home.account.entries_left = 3;
    let intervals: Vec<Interval> = home
        .offers()
        .iter()
        .map(|action| match action {
            Action::Place { interval, .. } => *interval,
            Action::Cancel { .. } => panic!("nothing to cancel"),
        })
        .collect();
    assert_eq!(intervals, [at(1), at(2), at(3)], "the gate of interval 0 is closed");
    home.account.entries_left = 0;
    assert_eq!(home.offers(), []);
}

#[test]
fn orders_are_placed_only_for_the_next_two_hours() {
    let mut home = Home::charging();
    home.plan.steps = vec![home.plan.steps[2]; 12];
    let last = home.offers().last().copied();
    assert!(matches!(last, Some(Action::Place { interval, .. }) if interval == at(8)), "{last:?}");
}

#[test]
fn nothing_is_done_in_the_last_minutes_before_a_gate() {
    let home = Home::charging().has_open(Side::Sell, 122_500, 1_000);
    let frozen = at(2).start().minus_ms(GATE_LEAD_MS + FREEZE_MS);
    assert_eq!(offers(&home.desk(), frozen), []);
    assert_eq!(offers(&home.desk(), frozen.minus_ms(1)).len(), 1);
}

#[test]
fn an_order_is_replaced_only_for_a_material_difference() {
    let unchanged = Home::selling().has_open(Side::Sell, 122_500, 1_000);
    assert_eq!(unchanged.offers(), []);
    for (micro, energy) in [(127_499, 1_000), (122_500, 1_099), (122_500, 901)] {
        assert_eq!(Home::selling().has_open(Side::Sell, micro, energy).offers(), [], "{micro} {energy}");
    }
    for (side, micro, energy) in [
        (Side::Sell, 127_500, 1_000),
        (Side::Sell, 122_500, 1_120),
        (Side::Sell, 122_500, 890),
        (Side::Buy, 122_500, 1_000),
    ] {
        let home = Home::selling().has_open(side, micro, energy);
        let [Action::Place { replaces, quantity, .. }] = home.offers()[..] else {
            panic!("{micro} {energy}")
        };
        assert_eq!((replaces, quantity), (Some([9; 32]), wh(1_000)));
    }
}

#[test]
fn what_is_not_wanted_any_more_is_taken_back() {
    let home = Home::idle().has_open(Side::Sell, 122_500, 1_000);
    assert_eq!(home.offers(), [Action::Cancel { id: [9; 32] }]);
    let mut beyond = Home::idle().has_open(Side::Sell, 122_500, 1_000);
    beyond.plan.steps.clear();
    assert_eq!(beyond.offers(), [Action::Cancel { id: [9; 32] }], "also where no plan reaches");
}

#[test]
fn a_replacement_uses_the_reserve_of_the_order_it_replaces() {
    let mut home = Home::charging().has_open(Side::Buy, 237_500, 1_000);
    home.account.free = Money::new(237_500 * 600);
    assert_eq!(home.placed().2, 1_600);
    home.account.free = Money::new(237_500 * 50);
    assert_eq!(home.offers(), [], "1 050 Wh are no material difference");
}

#[test]
fn the_last_change_that_the_market_takes_is_kept_for_a_cancel() {
    let mut home = Home::selling().has_open(Side::Sell, 122_500, 500);
    home.open[0].changes = 7;
    assert_eq!(home.offers(), []);
    home.plan.steps[2] = Step::default();
    assert_eq!(home.offers(), [Action::Cancel { id: [9; 32] }]);
    home.open[0].changes = 8;
    assert_eq!(home.offers(), []);
}

#[test]
fn a_second_order_for_one_interval_is_taken_back() {
    let mut home = Home::selling().has_open(Side::Sell, 122_500, 1_000).has_open(Side::Sell, 122_500, 1_000);
    home.open[1].id = [8; 32];
    assert_eq!(home.offers(), [Action::Cancel { id: [8; 32] }]);
}

#[test]
fn once_the_stop_loss_holds_orders_are_taken_back_and_none_placed() {
    let mut home = Home::selling().has_open(Side::Sell, 122_500, 1_000);
    home.plan.steps[3] = home.plan.steps[2];
    home.account.trading = false;
    assert_eq!(home.offers(), [Action::Cancel { id: [9; 32] }]);
}

fn any_step() -> impl Strategy<Value = Step> {
    let energy = || prop_oneof![Just(0u64), 0u64..4_000].prop_map(wh);
    (energy(), energy(), energy(), energy(), energy(), energy(), any::<[bool; 2]>()).prop_map(
        |(charge, discharge, vehicle, heat, import, export, [charges, imports])| {
            let (charge, discharge) = if charges { (charge, wh(0)) } else { (wh(0), discharge) };
            let (import, export) = if imports { (import, wh(0)) } else { (wh(0), export) };
            Step { charge, discharge, vehicle, heat, curtailed: wh(0), import, export }
        },
    )
}

fn any_prices() -> impl Strategy<Value = Prices> {
    let micro = -100_000i64..400_000;
    ([micro.clone(), micro.clone(), micro.clone(), micro], [0u32..=1_000, 0u32..=1_000]).prop_map(
        |(four, two)| {
            let [a, b, c, d] = four.map(price);
            Prices {
                supplier_import: a,
                supplier_export: b,
                local_import: c,
                local_export: d,
                import_permille: two[0],
                export_permille: two[1],
            }
        },
    )
}

fn any_home() -> impl Strategy<Value = Home> {
    let intervals = prop::collection::vec((any_step(), any_prices(), 0u64..2_000, any::<bool>()), 12);
    let open =
        prop::collection::vec((0u64..12, any::<bool>(), -50_000i64..300_000, 100u64..3_000, 0u8..9), 0..6);
    (intervals, open, 0i128..2_000_000_000, 100u64..5_000, 0u32..20).prop_map(
        |(intervals, open, free, maximum, entries_left)| {
            let mut home = Home::idle();
            for (place, (step, prices, position, sold)) in intervals.into_iter().enumerate() {
                home.plan.steps[place] = step;
                let (sold, bought) = if sold { (position, 0) } else { (0, position) };
                home.ahead[place] = Ahead { prices, sold: wh(sold), bought: wh(bought), ..home.ahead[place] };
            }
            for (number, (place, buys, micro, energy, changes)) in open.into_iter().enumerate() {
                let side = if buys { Side::Buy } else { Side::Sell };
                let id = [u8::try_from(number).unwrap(); 32];
                let (price, quantity) = (price(micro), wh(energy));
                home.open.push(OpenOffer { id, interval: at(place), side, price, quantity, changes });
            }
            home.account =
                Account { free: Money::new(free), maximum: wh(maximum), entries_left, trading: true };
            home
        },
    )
}

/// The market's reserve of an order, by market.md's formulas.
fn reserve(side: Side, limit: i64, energy: u64, prices: &Prices) -> i128 {
    let per_kwh = match side {
        Side::Sell => prices.supplier_import.get().max(0) - limit,
        Side::Buy => limit - prices.supplier_export.get().min(0),
    };
    i128::from(per_kwh.max(0)) * i128::from(energy)
}

proptest! {
    #[test]
    fn whatever_the_plan_orders_keep_to_the_rules(home in any_home()) {
        let actions = home.offers();
        prop_assert!(actions.len() <= home.account.entries_left as usize);
        let mut free = home.account.free.get();
        for action in &actions {
            let gone = |id: &[u8; 32]| home.open.iter().find(|open| open.id == *id).unwrap();
            let freed = |open: &OpenOffer| {
                let place = place_of(open.interval);
                reserve(open.side, open.price.get(), open.quantity.get(), &home.ahead[place].prices)
            };
            match action {
                Action::Cancel { id } => {
                    prop_assert!(gone(id).changes < 8 && now() < gone(id).interval.start().minus_ms(600_000));
                    free += freed(gone(id));
                }
                Action::Place { interval, side, price, quantity, replaces } => {
                    let place = place_of(*interval);
                    let (step, ahead) = (&home.plan.steps[place], &home.ahead[place]);
                    prop_assert!(now() < interval.start().minus_ms(600_000));
                    prop_assert!(replaces.is_some() || interval.start() <= now().plus_ms(OFFER_AHEAD_MS));
                    prop_assert!(ahead.prices.supplier_export <= *price && *price <= ahead.prices.supplier_import);
                    let (controlled, position, against) = match side {
                        Side::Sell => (step.discharge.min(step.export), ahead.sold, ahead.bought),
                        Side::Buy => {
                            let devices = step.charge.get() + step.vehicle.get() + step.heat.get();
                            (wh(devices).min(step.import), ahead.bought, ahead.sold)
                        }
                    };
                    prop_assert!(against.is_zero() && *quantity >= ORDER_MIN);
                    prop_assert!(quantity.get() + position.get() <= controlled.get().min(home.account.maximum.get()));
                    free += replaces.map_or(0, |id| freed(gone(&id)));
                    free -= reserve(*side, price.get(), quantity.get(), &ahead.prices);
                    prop_assert!(free >= 0, "more reserved than there is");
                }
            }
        }
        prop_assert_eq!(home.offers(), actions, "same home, same orders");
    }
}
