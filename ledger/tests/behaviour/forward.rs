use std::collections::BTreeSet;

use energy::{Balance, Interval, NodeId, Price};
use ledger::{
    Body, EntryError, EntryId, FeePoint, Forward, GateOutcome, Genesis, OrderOutcome, OrderResult, Outcome,
    OutcomeKind, VerifiedEntry,
};
use market::{Account, PostingKind, Side};

use crate::fixture::*;

/// The middle of the fixture's tariff of 250 000 and 80 000. One feeder away a buyer pays its feeder's 10 000 on top.
pub const MIDDLE: i64 = 165_000;

pub fn street_of(homes: u8, forward: Forward, change: impl FnOnce(&mut Genesis)) -> Fixture {
    let mut street = Fixture::with(homes, |genesis| {
        genesis.forward = forward;
        change(genesis);
    });
    street.baselines(homes);
    street
}

fn street(homes: u8) -> Fixture {
    street_of(homes, Forward::Auction, |_| ())
}

pub fn posted(homes: u8) -> Fixture {
    street_of(homes, Forward::Posted, |_| ())
}

#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub home: u8,
    pub offset: i64,
    pub side: Side,
    pub price: i64,
    pub quantity: u64,
    pub replaces: Option<EntryId>,
}

/// For interval 2, which starts at 30 min: its gate is at 25, the freeze from 20.
pub const fn wanted(home: u8, side: Side, price: i64, quantity: u64) -> Wanted {
    Wanted { home, offset: 2, side, price, quantity, replaces: None }
}

pub fn order_body(street: &Fixture, of: &Wanted) -> Body {
    Body::Order(ledger::Order {
        home: home(of.home),
        interval: street.interval(of.offset),
        side: of.side,
        price: Price::new(of.price),
        quantity: wh(of.quantity),
        replaces: of.replaces,
    })
}

pub fn order(street: &mut Fixture, of: &Wanted) -> VerifiedEntry {
    let body = order_body(street, of);
    street.verified(body, (Use::Member, of.home), &[])
}

pub fn orders(street: &mut Fixture, wanted: &[Wanted]) -> Vec<VerifiedEntry> {
    wanted.iter().map(|wanted| order(street, wanted)).collect()
}

pub fn cancel(street: &mut Fixture, number: u8, order: EntryId) -> VerifiedEntry {
    street.verified(Body::Cancel { home: home(number), order }, (Use::Member, number), &[])
}

pub fn reserved(street: &Fixture, number: u8) -> i64 {
    street.ledger.reserved(&home(number)).get()
}

pub fn limit(error: &EntryError) -> &'static str {
    let EntryError::OrderLimits { what } = error else { panic!("{error}") };
    what
}

/// What became of an order.
pub fn result_of(street: &Fixture, order: &VerifiedEntry) -> OrderOutcome {
    let found: Vec<_> = street
        .outcomes()
        .filter_map(|(_, outcome)| match outcome {
            Outcome::Order(of) if of.order == order.id() => Some(of.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), 1, "an order has one result");
    found[0].clone()
}

/// What a home filled, and received (paid, if negative).
fn fills(street: &Fixture, orders: &[VerifiedEntry]) -> Vec<(u64, i128)> {
    let results = orders.iter().map(|order| result_of(street, order));
    results.map(|of| (of.filled.get(), of.amount.get())).collect()
}

pub fn gate(street: &Fixture, offset: i64) -> Option<GateOutcome> {
    let interval = street.interval(offset);
    street.outcomes().find_map(|(_, outcome)| match outcome {
        Outcome::Gate(of) if of.interval == interval => Some(of.clone()),
        _ => None,
    })
}

#[test]
fn without_forward_trading_orders_are_refused() {
    let mut street = Fixture::new(2);
    let entry = order(&mut street, &wanted(1, Side::Sell, 100_000, 200));
    assert_eq!(street.refusal(at(1), &entry), EntryError::ForwardOff);
}

#[test]
fn an_order_reserves_what_it_can_cost_and_a_cancel_frees_it() {
    let mut street = street(2);
    let sell = order(&mut street, &wanted(1, Side::Sell, 100_000, 200));
    let buy = order(&mut street, &wanted(2, Side::Buy, 200_000, 200));
    street.after(3, &[sell.clone(), buy]);
    // A sale that is not delivered costs 300 000 less what it brings; a purchase costs its limit.
    assert_eq!(reserved(&street, 1), 200 * (300_000 - 100_000));
    assert_eq!(reserved(&street, 2), 200 * 200_000);
    let theirs = cancel(&mut street, 2, sell.id());
    assert_eq!(street.refusal(at(4), &theirs), EntryError::NoSuchOrder);
    let own = cancel(&mut street, 1, sell.id());
    street.after(4, &[own]);
    assert_eq!(reserved(&street, 1), 0);
    let again = cancel(&mut street, 1, sell.id());
    assert_eq!(street.refusal(at(5), &again), EntryError::NoSuchOrder);
}

#[test]
fn reserved_money_is_neither_withdrawn_nor_spent() {
    let mut street = Fixture::with(2, |genesis| {
        genesis.forward = Forward::Auction;
        genesis.members[1].deposit = Balance::new(100 * 250_000 + 50);
    });
    street.baselines(2);
    let over = order(&mut street, &wanted(2, Side::Buy, 250_001, 100));
    assert!(matches!(street.refusal(at(3), &over), EntryError::NoFunds { .. }));
    let buy = order(&mut street, &Wanted { offset: 8, ..wanted(2, Side::Buy, 250_000, 100) });
    street.after(3, &[buy]);
    let body = Body::Withdrawal { home: Some(home(2)), amount: Balance::new(51), reference: String::new() };
    let out = street.verified(body, TREASURER, &[(Use::Member, 2)]);
    assert_eq!(street.refusal(at(4), &out), EntryError::NoFunds { free: nano(50), needed: nano(51) });
    // Interval 0 settles while the order waits: nothing of the reserve pays for it.
    let entries = [street.read(1, 0, 0, 100), street.read(2, 0, 100, 0)];
    street.after(30, &entries);
    assert_eq!((street.settled(2, 0).matched.bought, street.balance(2)), (wh(0), 100 * 250_000));
}

#[test]
fn order_limits_are_named() {
    let mut street = street(2);
    let mut refused = |of: Wanted| {
        let entry = order(&mut street, &of);
        limit(&street.refusal(at(3), &entry))
    };
    assert_eq!(refused(wanted(1, Side::Sell, 100_000, 99)), "an order is for at least 100 Wh");
    let sell = order(&mut street, &wanted(1, Side::Sell, 100_000, 100));
    street.after(3, &[sell]);
    let buy = order(&mut street, &wanted(1, Side::Buy, 100_000, 100));
    assert_eq!(limit(&street.refusal(at(4), &buy)), "a home buys or sells in one interval, not both");
    let more: Vec<_> = (0..3).map(|_| order(&mut street, &wanted(1, Side::Sell, 100_000, 100))).collect();
    street.after(4, &more);
    let fifth = order(&mut street, &wanted(1, Side::Sell, 100_000, 100));
    assert_eq!(limit(&street.refusal(at(5), &fifth)), "a home has at most 4 open orders for one interval");
    let other = order(&mut street, &Wanted { offset: 3, ..wanted(1, Side::Buy, 100_000, 100) });
    assert!(street.ledger.check(&other, at(5)).is_ok(), "another interval, another side");
}

#[test]
fn an_order_is_replaced_at_most_eight_times() {
    let mut street = street(2);
    let mut last = order(&mut street, &wanted(1, Side::Sell, 100_000, 100));
    street.after(3, std::slice::from_ref(&last));
    for step in 1..=8 {
        let next = Wanted { replaces: Some(last.id()), ..wanted(1, Side::Sell, 100_000 + step, 100) };
        last = order(&mut street, &next);
        let time = street.ledger.head_time().plus_ms(1_000);
        street.block(time, std::slice::from_ref(&last));
    }
    assert_eq!(reserved(&street, 1), 100 * (300_000 - 100_008), "only the last one stands");
    let ninth =
        order(&mut street, &Wanted { replaces: Some(last.id()), ..wanted(1, Side::Sell, 100_000, 100) });
    assert!(limit(&street.refusal(at(4), &ninth)).contains("at most 8 times"));
    let unknown = order(
        &mut street,
        &Wanted { replaces: Some(EntryId(ledger::Hash32::ZERO)), ..wanted(2, Side::Buy, 100_000, 100) },
    );
    assert_eq!(street.refusal(at(4), &unknown), EntryError::NoSuchOrder);
}

#[test]
fn before_the_gate_orders_freeze_and_at_the_gate_they_count_once_more() {
    let mut street = street(2);
    let sell = order(&mut street, &wanted(1, Side::Sell, 100_000, 200));
    street.after(3, std::slice::from_ref(&sell));
    let less =
        order(&mut street, &Wanted { replaces: Some(sell.id()), ..wanted(1, Side::Sell, 100_000, 100) });
    assert!(street.ledger.check(&less, at(20).minus_ms(1)).is_ok());
    assert!(limit(&street.refusal(at(20), &less)).starts_with("no reduction"));
    let worse =
        order(&mut street, &Wanted { replaces: Some(sell.id()), ..wanted(1, Side::Sell, 100_001, 200) });
    assert!(street.ledger.check(&worse, at(20).minus_ms(1)).is_ok());
    assert!(limit(&street.refusal(at(20), &worse)).starts_with("no worse limit"));
    let back = cancel(&mut street, 1, sell.id());
    assert!(limit(&street.refusal(at(20), &back)).starts_with("no cancel"));
    let more =
        order(&mut street, &Wanted { replaces: Some(sell.id()), ..wanted(1, Side::Sell, 100_000, 300) });
    assert!(street.ledger.check(&more, at(20)).is_ok());
    // The gate block is the first at or past the gate; an order in it counts, later ones do not.
    let buy = order(&mut street, &wanted(2, Side::Buy, 200_000, 150));
    assert_eq!(street.ledger.next_due(), at(8), "the heartbeat");
    street.idle_until(25);
    assert!(street.ledger.deadline_at(at(25)));
    street.block(at(25), &[buy]);
    assert_eq!(
        reserved(&street, 1),
        150 * (300_000 - 100_000),
        "filled 150 at the price of the sale, which had more to give"
    );
    let late = order(&mut street, &wanted(2, Side::Buy, 200_000, 150));
    assert!(matches!(street.refusal(at(26), &late), EntryError::GateClosed { .. }));
}

#[test]
fn orders_are_taken_from_48_hours_before_the_start() {
    let mut street = street(2);
    let offset = 48 * 4 + 1;
    let early = order(&mut street, &Wanted { offset, ..wanted(1, Side::Sell, 100_000, 200) });
    assert!(matches!(street.refusal(at(15).minus_ms(1), &early), EntryError::GateClosed { .. }));
    assert!(street.ledger.check(&early, at(15)).is_ok());
    let body = Body::Order(ledger::Order {
        home: home(1),
        interval: Interval::containing(at(60), energy::Mtu::Min60),
        side: Side::Sell,
        price: Price::new(100_000),
        quantity: wh(100),
        replaces: None,
    });
    let hourly = street.verified(body, (Use::Member, 1), &[]);
    assert_eq!(street.refusal(at(15), &hourly), EntryError::WrongMtu);
}

/// Home 1 has sold, home 2 bought, 200 Wh for interval 2.
fn traded() -> (Fixture, i64) {
    let mut street = street(2);
    let sell = order(&mut street, &wanted(1, Side::Sell, 100_000, 200));
    let buy = order(&mut street, &wanted(2, Side::Buy, 200_000, 200));
    street.after(3, &[sell, buy]);
    street.after(25, &[]);
    let reserve = reserved(&street, 2);
    assert_eq!(reserved(&street, 1) % 200, 0);
    (street, reserve / 200)
}

#[test]
fn a_position_settles_at_its_price_and_the_rest_like_all_energy() {
    let (mut street, paid) = traded();
    let mut entries = Vec::new();
    for offset in 0..3 {
        let (export, import) = if offset == 2 { (250, 260) } else { (0, 0) };
        entries.push(street.read(1, offset, 0, export));
        entries.push(street.read(2, offset, import, 0));
    }
    street.after(46, &entries);
    let executed = street.after(60, &[]).clone();
    let (seller, buyer) = (street.settled(1, 2).clone(), street.settled(2, 2).clone());
    assert_eq!((seller.position.sold, buyer.position.bought), (wh(200), wh(200)));
    assert_eq!(buyer.position.amount, nano(-i128::from(paid) * 200));
    // The buyer pays the network for the way: both feeders and nothing up.
    let fee = -(seller.position.amount.get() + buyer.position.amount.get());
    assert_eq!(fee, 200 * 10_000);
    assert_eq!(
        (seller.matched.sold, buyer.matched.bought),
        (wh(50), wh(50)),
        "of 60 Wh the neighbour had 50 left"
    );
    assert_eq!(buyer.matched.supplier_import, wh(10));
    assert_eq!((reserved(&street, 1), reserved(&street, 2)), (0, 0));
    assert!(executed.postings.iter().any(|of| of.kind == PostingKind::Forward && of.account == account(1)));
    assert_eq!(street.ledger.balance(&Account::Congestion).get(), 0);
}

#[test]
fn a_position_without_readings_settles_alone_and_the_late_reading_beside_it() {
    let (mut street, paid) = traded();
    street.after(60, &[]);
    let buyer = street.settled(2, 2).clone();
    assert_eq!((buyer.metered, buyer.amount), (None, nano(-i128::from(paid) * 200)));
    assert_eq!(reserved(&street, 2), 0);
    let entries: Vec<_> =
        (0..3).map(|offset| street.read(2, offset, if offset == 2 { 260 } else { 0 }, 0)).collect();
    street.after(62, &entries);
    let late = street.late(2, 2);
    assert_eq!(late.metered.unwrap().import, wh(260));
    assert_eq!(
        (late.matched.supplier_import, late.amount),
        (wh(60), nano(-60 * 300_000)),
        "260 less the position"
    );
    assert!(street.outcomes_of(2, 2, OutcomeKind::Settled).len() == 1);
}

#[test]
fn a_clearing_after_the_start_is_void() {
    let mut street = street(2);
    let sell = order(&mut street, &wanted(1, Side::Sell, 100_000, 200));
    let buy = order(&mut street, &wanted(2, Side::Buy, 200_000, 200));
    street.after(3, &[sell, buy]);
    street.idle_until(25);
    street.block(at(30).plus_ms(1), &[]);
    assert_eq!((reserved(&street, 1), reserved(&street, 2)), (0, 0));
    street.after(60, &[]);
    assert_eq!(street.settled(2, 2).position, market::Position::default());
}

#[test]
fn a_tariff_that_changes_after_orders_were_taken_cannot_reserve_money_a_home_does_not_have() {
    let mut street = Fixture::with(2, |genesis| {
        genesis.forward = Forward::Auction;
        genesis.members[0].deposit = Balance::new(200 * 200_000);
        genesis.members[1].deposit = Balance::new(200 * 200_000);
    });
    street.baselines(2);
    let wanted = |home, side, price| Wanted { offset: 8, ..wanted(home, side, price, 200) };
    let sell = order(&mut street, &wanted(1, Side::Sell, 100_000));
    let buy = order(&mut street, &wanted(2, Side::Buy, 200_000));
    street.after(3, &[sell, buy]);
    assert_eq!(reserved(&street, 1), street.balance(1));
    let body = Body::TariffSeries { from: street.interval(8), points: vec![tariff(900_000, 80_000)] };
    let series = street.verified(body, OPERATOR, &[]);
    street.after(4, &[series]);
    street.after(115, &[]);
    assert!(reserved(&street, 1) <= street.balance(1));
    // Neither delivers nor takes: what the seller cannot pay is its supplier's claim, and nothing stops.
    for offset in 0..9 {
        let entries = [street.read(1, offset, 0, 0), street.read(2, offset, 0, 0)];
        street.after(130 + u64::try_from(offset).unwrap(), &entries);
    }
    street.after(150, &[]);
    assert!(street.settled(1, 8).claim > nano(0));
    assert_eq!(street.balance(1), 0);
}

#[test]
fn selling_below_zero_reserves_what_delivering_costs() {
    let mut street = Fixture::with(2, |genesis| {
        genesis.forward = Forward::Auction;
        genesis.caps.price_min = Price::new(-1_000_000);
        genesis.tariff = tariff(-200_000, -500_000);
    });
    street.baselines(2);
    // The band at a feeder is −500 000 … −150 000.
    let sell = order(&mut street, &wanted(1, Side::Sell, -400_000, 100));
    street.after(3, &[sell]);
    assert_eq!(reserved(&street, 1), 100 * 400_000);
}

#[test]
fn posted_orders_meet_nearest_first_in_the_middle_of_the_suppliers_prices() {
    let mut street = posted(3);
    let of = [
        wanted(1, Side::Sell, 100_000, 600),
        wanted(2, Side::Buy, 200_000, 500),
        wanted(3, Side::Buy, 200_000, 200),
    ];
    let entries = orders(&mut street, &of);
    street.after(3, &entries);
    street.after(25, &[]);
    // Home 3 is on the seller's feeder; home 2, on the other one, gets what is left and pays its feeder's fee.
    let middle = i128::from(MIDDLE);
    let expected = [(600, 600 * middle), (400, -400 * (middle + 10_000)), (200, -200 * middle)];
    assert_eq!(fills(&street, &entries), expected);
    let results: Vec<_> = entries.iter().map(|order| result_of(&street, order).result()).collect();
    assert_eq!(results, [OrderResult::Filled, OrderResult::Partly, OrderResult::Filled]);
    let gate = gate(&street, 2).unwrap();
    assert_eq!((gate.price, gate.node_prices.len()), (Some(Price::new(MIDDLE)), 0));
    assert_eq!((gate.volume, gate.orders, gate.void), (wh(600), 3, false));
    assert_eq!((gate.fees, gate.rent), (nano(400 * 10_000), nano(0)));
    // What is unfilled is released, the rest re-based to the price: a sale not delivered is bought for 300 000.
    assert_eq!(reserved(&street, 1), 600 * (300_000 - MIDDLE));
    assert_eq!(reserved(&street, 2), 400 * (MIDDLE + 10_000));
    assert_eq!(reserved(&street, 3), 200 * MIDDLE);
    let position = street.ledger.position(&home(2), street.interval(2));
    assert_eq!((position.bought, position.amount), (wh(400), nano(-400 * 175_000)));
}

#[test]
fn a_posted_order_sits_out_where_its_limit_does_not_admit_the_price() {
    let mut street = posted(4);
    let of = [
        wanted(1, Side::Sell, MIDDLE + 1, 100),
        wanted(3, Side::Sell, MIDDLE, 300),
        wanted(2, Side::Buy, MIDDLE + 9_999, 200),
        wanted(4, Side::Buy, MIDDLE + 10_000, 200),
    ];
    let entries = orders(&mut street, &of);
    street.after(3, &entries);
    street.after(25, &[]);
    let middle = i128::from(MIDDLE);
    assert_eq!(
        fills(&street, &entries),
        [(0, 0), (200, 200 * middle), (0, 0), (200, -200 * (middle + 10_000))]
    );
    assert_eq!(result_of(&street, &entries[0]).result(), OrderResult::Unfilled);
    assert_eq!((reserved(&street, 1), reserved(&street, 2)), (0, 0), "what is unfilled is released");
}

#[test]
fn posted_positions_settle_at_their_amounts_and_the_rest_like_all_energy() {
    let mut street = posted(3);
    let of = [wanted(1, Side::Sell, 100_000, 600), wanted(2, Side::Buy, 200_000, 500)];
    let entries = orders(&mut street, &of);
    street.after(3, &entries);
    let mut readings = Vec::new();
    for offset in 0..3 {
        let (export, import) = if offset == 2 { (550, 650) } else { (0, 0) };
        readings.push(street.read(1, offset, 0, export));
        readings.push(street.read(2, offset, import, 0));
        readings.push(street.read(3, offset, 0, 0));
    }
    street.after(46, &readings);
    street.after(60, &[]);
    let (seller, buyer) = (street.settled(1, 2), street.settled(2, 2));
    assert_eq!((seller.position.sold, seller.position.amount), (wh(500), nano(500 * 165_000)));
    assert_eq!((buyer.position.bought, buyer.position.amount), (wh(500), nano(-500 * 175_000)));
    assert_eq!((seller.matched.sold, buyer.matched.bought), (wh(50), wh(50)));
    assert_eq!(buyer.matched.supplier_import, wh(100));
    assert_eq!((reserved(&street, 1), reserved(&street, 2)), (0, 0));
    assert_eq!(street.ledger.balance(&Account::Network).get(), 550 * 10_000 + 100 * 50_000);
    assert_eq!(street.ledger.position(&home(1), street.interval(2)), market::Position::default());
}

#[test]
fn a_sale_that_is_not_delivered_is_bought_from_neighbours_and_supplier() {
    let mut street = posted(3);
    let entries =
        orders(&mut street, &[wanted(1, Side::Sell, 100_000, 500), wanted(2, Side::Buy, 200_000, 500)]);
    street.after(3, &entries);
    let readings: Vec<_> = (0..3)
        .flat_map(|offset| {
            let now = u64::from(offset == 2);
            [
                street.read(1, offset, 0, 0),
                street.read(2, offset, 500 * now, 0),
                street.read(3, offset, 0, 200 * now),
            ]
        })
        .collect();
    street.after(46, &readings);
    street.after(60, &[]);
    // 200 of the 500 Wh come from home 3 next door for 165 000, 300 from the supplier for 300 000.
    let seller = street.settled(1, 2);
    assert_eq!((seller.matched.bought, seller.matched.supplier_import), (wh(200), wh(300)));
    assert_eq!(seller.amount, nano(500 * 165_000 - 200 * 165_000 - 300 * 300_000));
    let buyer = street.settled(2, 2);
    assert_eq!(
        buyer.amount,
        nano(-500 * 175_000),
        "the buyer has what it bought, at the price it was sold for"
    );
}

#[test]
fn of_a_lump_over_a_forward_interval_its_part_settles_beside_the_position() {
    let mut street = posted(2);
    let entries =
        orders(&mut street, &[wanted(1, Side::Sell, 100_000, 300), wanted(2, Side::Buy, 200_000, 300)]);
    street.after(3, &entries);
    // One reading each for intervals 0 to 2.
    let lumps = [street.read(1, 2, 0, 901), street.read(2, 2, 600, 0)];
    street.after(46, &lumps);
    street.after(60, &[]);
    // Intervals 0 and 1 were settled without them.
    assert_eq!((street.late(1, 0).metered.unwrap().export, street.settled(1, 0).metered), (wh(301), None));
    let (seller, buyer) = (street.settled(1, 2), street.settled(2, 2));
    assert_eq!((seller.metered.unwrap().export, buyer.metered.unwrap().import), (wh(300), wh(200)));
    assert_eq!((seller.matched.supplier_export, buyer.matched.supplier_export), (wh(0), wh(100)));
    assert_eq!(
        buyer.amount,
        nano(-300 * 175_000 + 100 * 80_000),
        "what is bought too much goes to the supplier"
    );
}

#[test]
fn an_outage_across_the_gate_voids_every_order_and_says_so() {
    for forward in [Forward::Posted, Forward::Auction] {
        let mut street = street_of(2, forward, |_| ());
        let mut all = Vec::new();
        for offset in 2..5 {
            let of = [wanted(1, Side::Sell, 100_000, 200), wanted(2, Side::Buy, 200_000, 200)];
            all.extend(orders(&mut street, &of.map(|of| Wanted { offset, ..of })));
        }
        street.after(3, &all);
        street.idle_until(25);
        // The next block comes in the middle of interval 3, whose gate has passed too; that of interval 4 is still open.
        street.block(at(50), &[]);
        for order in &all[..4] {
            let result = result_of(&street, order);
            assert_eq!((result.result(), result.filled, result.amount), (OrderResult::Void, wh(0), nano(0)));
        }
        let closed = gate(&street, 3).unwrap();
        assert_eq!((closed.void, closed.orders, closed.volume, closed.price), (true, 2, wh(0), None));
        assert_eq!(gate(&street, 4), None);
        assert_eq!(reserved(&street, 2), 200 * 200_000, "that of interval 4");
        street.after(55, &[]);
        assert_eq!(result_of(&street, &all[4]).result(), OrderResult::Filled);
        street.after(61, &[]);
        assert_eq!(street.settled(1, 2).position, market::Position::default());
    }
}

#[test]
fn after_an_outage_across_the_deadline_positions_settle_with_what_arrived_meanwhile() {
    let mut street = posted(2);
    let entries =
        orders(&mut street, &[wanted(1, Side::Sell, 100_000, 200), wanted(2, Side::Buy, 200_000, 200)]);
    street.after(3, &entries);
    street.after(26, &[]);
    // Interval 2 is due at 60; the next block comes at 100, and readings have ten minutes more.
    let readings: Vec<_> = (0..3)
        .flat_map(|offset| {
            let now = u64::from(offset == 2);
            [street.read(1, offset, 0, 200 * now), street.read(2, offset, 230 * now, 0)]
        })
        .collect();
    street.block(at(100), &[]);
    assert!(street.community(2).is_none() && reserved(&street, 1) > 0);
    street.block(at(105), &readings);
    street.after(110, &[]);
    let (seller, buyer) = (street.settled(1, 2), street.settled(2, 2));
    assert_eq!((seller.amount, seller.matched.supplier_import), (nano(200 * 165_000), wh(0)));
    assert_eq!((buyer.position.bought, buyer.matched.supplier_import), (wh(200), wh(30)));
    assert_eq!((reserved(&street, 1), reserved(&street, 2)), (0, 0));
}

#[test]
fn a_day_after_the_deadline_positions_stand_and_all_else_is_the_suppliers() {
    let mut street = posted(2);
    let entries =
        orders(&mut street, &[wanted(1, Side::Sell, 100_000, 200), wanted(2, Side::Buy, 200_000, 200)]);
    street.after(3, &entries);
    street.after(26, &[]);
    let readings: Vec<_> = (0..3)
        .flat_map(|offset| {
            let now = u64::from(offset == 2);
            [street.read(1, offset, 0, 250 * now), street.read(2, offset, 230 * now, 0)]
        })
        .collect();
    street.block(at(60 + 24 * 60), &readings);
    street.after(60 + 24 * 60 + 10, &[]);
    let (seller, buyer) = (street.settled(1, 2), street.settled(2, 2));
    assert_eq!(
        (seller.position.sold, seller.matched.sold, seller.matched.supplier_export),
        (wh(200), wh(0), wh(50))
    );
    assert_eq!(
        (buyer.position.bought, buyer.matched.bought, buyer.matched.supplier_import),
        (wh(200), wh(0), wh(30))
    );
    assert_eq!(buyer.amount, nano(-200 * 175_000 - 30 * 300_000));
}

/// `sellers` homes from 1 on sell 100 Wh each at `price`, `buyers` more buy as much; `extra` on top by home 1.
fn crowd(homes: u8, sellers: u8, buyers: u8, extra: u64) -> Fixture {
    let mut street = posted(homes);
    let mut of: Vec<_> = (1..=sellers).map(|number| wanted(number, Side::Sell, 100_000, 100)).collect();
    of.extend((sellers + 1..=sellers + buyers).map(|number| wanted(number, Side::Buy, 300_000, 100)));
    of[0].quantity += extra;
    let entries = orders(&mut street, &of);
    street.after(3, &entries);
    street.after(25, &[]);
    street
}

#[test]
fn a_gate_is_public_only_where_nobody_can_be_told_apart() {
    for (homes, sellers, buyers, extra, public) in [
        (16, 8, 8, 0, true),
        (16, 8, 0, 0, false),
        (16, 0, 8, 0, false),
        (16, 7, 7, 0, true),
        (14, 7, 7, 0, false),
        (16, 8, 2, 0, false),
        (16, 8, 3, 0, false),
        (16, 1, 8, 0, false),
        (16, 8, 8, 100, false),
        (16, 1, 0, 0, false),
    ] {
        let street = crowd(homes, sellers, buyers, extra);
        let gate = gate(&street, 2).unwrap();
        assert_eq!(gate.public, public, "{homes} homes, {sellers} sellers, {buyers} buyers, {extra}");
        let sealed = street.outcomes().filter(|(_, outcome)| outcome.is_sealed()).count();
        let of_orders = usize::from(sellers) + usize::from(buyers);
        assert_eq!(sealed, of_orders + usize::from(!public), "orders are always sealed");
    }
    let mut quiet = crowd(16, 8, 8, 0);
    let salts: BTreeSet<_> = quiet.outcomes().map(|(_, outcome)| outcome.salt().0).collect();
    assert_eq!(salts.len(), 17, "every leaf has a salt of its own");
    quiet.after(40, &[]);
    assert_eq!(gate(&quiet, 3), None, "a gate without orders has nothing to say");
}

#[test]
fn who_leaves_orders_nothing_for_the_time_after_and_its_open_orders_come_to_nothing() {
    let mut street = posted(6);
    let of = [
        wanted(6, Side::Sell, 100_000, 200),
        Wanted { offset: 4, ..wanted(6, Side::Sell, 100_000, 200) },
        Wanted { offset: 4, ..wanted(2, Side::Buy, 200_000, 200) },
    ];
    let entries = orders(&mut street, &of);
    street.after(3, &entries);
    let body = Body::Departure { home: home(6), from: street.interval(4) };
    let departure = street.verified(body, (Use::Member, 6), &[OPERATOR]);
    street.after(4, &[departure]);
    let after = order(&mut street, &Wanted { offset: 4, ..wanted(6, Side::Sell, 100_000, 100) });
    assert!(limit(&street.refusal(at(5), &after)).contains("leaves the community"));
    let before = order(&mut street, &Wanted { offset: 3, ..wanted(6, Side::Sell, 100_000, 100) });
    assert!(street.ledger.check(&before, at(5)).is_ok());
    street.after(56, &[]);
    assert_eq!(result_of(&street, &entries[2]).filled, wh(0));
    assert_eq!(street.ledger.position(&home(6), street.interval(4)), market::Position::default());
    assert_eq!(reserved(&street, 6), 0);
}

#[test]
fn where_the_supplier_charges_less_than_it_pays_nothing_is_traded_forward() {
    for forward in [Forward::Posted, Forward::Auction] {
        let mut street = street_of(2, forward, |_| ());
        let of = [wanted(1, Side::Sell, 100_000, 200), wanted(2, Side::Buy, 200_000, 200)];
        let of = of.map(|of| Wanted { offset: 8, ..of });
        let entries = orders(&mut street, &of);
        street.after(3, &entries);
        let body = Body::TariffSeries { from: street.interval(8), points: vec![tariff(80_000, 90_000)] };
        let series = street.verified(body, OPERATOR, &[]);
        street.after(4, &[series]);
        let again = order(&mut street, &Wanted { offset: 8, ..wanted(1, Side::Sell, 100_000, 200) });
        assert!(limit(&street.refusal(at(5), &again)).contains("no local trade"));
        street.after(115, &[]);
        for order in &entries {
            assert_eq!(result_of(&street, order).result(), OrderResult::Unfilled);
        }
        assert_eq!((gate(&street, 8).unwrap().price, reserved(&street, 2)), (None, 0));
    }
}

#[test]
fn a_home_sees_its_open_orders_and_what_may_still_change() {
    let mut street = posted(2);
    let of = [
        Wanted { offset: 5, ..wanted(1, Side::Sell, 120_000, 300) },
        wanted(1, Side::Sell, 100_000, 200),
        wanted(1, Side::Sell, 110_000, 100),
        wanted(2, Side::Buy, 200_000, 200),
    ];
    let entries = orders(&mut street, &of);
    street.after(3, &entries);
    let mine = street.ledger.open_orders(&home(1));
    let ids: Vec<_> = mine.iter().map(|(interval, order)| (*interval, order.id)).collect();
    let (second, fifth) = (street.interval(2), street.interval(5));
    assert_eq!(ids, [(second, entries[1].id()), (second, entries[2].id()), (fifth, entries[0].id())]);
    let sum: i64 = mine.iter().map(|(_, order)| order.reserve.get()).sum();
    assert_eq!(sum, reserved(&street, 1));
    assert_eq!(street.ledger.changes_left(&home(1), second), 8);
    let back = cancel(&mut street, 1, entries[1].id());
    street.after(4, &[back]);
    assert_eq!(
        (street.ledger.changes_left(&home(1), second), street.ledger.open_orders(&home(1)).len()),
        (7, 2)
    );
    let band = (Price::new(80_000), Price::new(300_000));
    assert_eq!(street.ledger.price_band(&home(1), second), Ok(band));
    assert_eq!(street.ledger.next_gate(), street.interval(1));
}

#[test]
fn published_fees_count_in_the_band_the_gate_and_the_reserve_of_their_interval() {
    for forward in [Forward::Posted, Forward::Auction] {
        let mut street = street_of(3, forward, |_| ());
        let points = vec![FeePoint { up: Price::ZERO, down: Price::new(30_000) }];
        let node = NodeId::new("f2").unwrap();
        let body = Body::NetworkFees { node, from: street.interval(8), points };
        let fees = street.verified(body, OPERATOR, &[]);
        street.after(3, &[fees]);
        let (usual, dear) = (street.interval(7), street.interval(8));
        assert_eq!(street.ledger.price_band(&home(2), usual).unwrap().1, Price::new(300_000));
        assert_eq!(street.ledger.price_band(&home(2), dear).unwrap().1, Price::new(320_000));
        let sell = |offset| Wanted { offset, ..wanted(1, Side::Sell, MIDDLE, 100) };
        let buy = |offset| Wanted { offset, ..wanted(2, Side::Buy, MIDDLE + 29_999, 100) };
        let of = [sell(7), buy(7), sell(8), buy(8), Wanted { price: MIDDLE + 30_000, ..buy(8) }];
        let entries = orders(&mut street, &of);
        street.after(4, &entries);
        street.after(115, &[]);
        let filled = |at: usize| result_of(&street, &entries[at]).filled.get();
        assert_eq!([0, 1, 2, 3, 4].map(filled), [100, 100, 100, 0, 100], "{forward:?}");
        assert_eq!(gate(&street, 8).unwrap().fees, nano(100 * 30_000));
        let paid = result_of(&street, &entries[4]).amount;
        assert_eq!(
            (paid, reserved(&street, 2)),
            (nano(-100 * 195_000), 100 * 195_000 + reserve_of_seven(&street))
        );
    }
}

/// What the position of interval 7 keeps reserved for its buyer, home 2.
fn reserve_of_seven(street: &Fixture) -> i64 {
    let amount = street.ledger.position(&home(2), street.interval(7)).amount.get();
    i64::try_from(-amount).unwrap()
}

/// Home 1 sold 1 000 Wh for interval 2, with just the money to reserve for it; the meter of home 2, which bought them, was
/// read, its own was not; the interval is settled.
fn sold_in_silence(change: impl FnOnce(&mut Genesis)) -> Fixture {
    let mut street = street_of(2, Forward::Posted, |genesis| {
        genesis.members[0].deposit = Balance::new(200_000 * 1_000);
        change(genesis);
    });
    let of = [wanted(1, Side::Sell, 100_000, 1_000), wanted(2, Side::Buy, 200_000, 1_000)];
    let entries = orders(&mut street, &of);
    street.after(3, &entries);
    street.after(25, &[]);
    let read: Vec<_> =
        (0..3).map(|offset| street.read(2, offset, if offset == 2 { 1_000 } else { 0 }, 0)).collect();
    street.after(46, &read);
    street.after(60, &[]);
    street
}

/// What a withdrawal of one home is refused for, or `None`.
fn withdrawal(street: &mut Fixture, number: u8, amount: i64, minute: u64) -> Option<EntryError> {
    let amount = Balance::new(amount);
    let body = Body::Withdrawal { home: Some(home(number)), amount, reference: String::new() };
    let out = street.verified(body, TREASURER, &[(Use::Member, number)]);
    street.ledger.check(&out, at(minute)).err()
}

#[test]
fn what_a_sale_brings_is_not_taken_out_before_its_delivery_was_read() {
    let mut street = sold_in_silence(|_| ());
    assert_eq!(street.settled(1, 2).metered, None);
    // Free is what was free before the settlement: 200 000 less the 135 000 that a sale at 165 000 reserves, a Wh.
    assert_eq!(street.balance(1), (200_000 + MIDDLE) * 1_000);
    assert_eq!(reserved(&street, 1), 300_000 * 1_000);
    let free = (200_000 - 135_000) * 1_000;
    assert_eq!(withdrawal(&mut street, 1, free, 61), None);
    let error = withdrawal(&mut street, 1, free + 1, 61);
    assert!(matches!(error, Some(EntryError::NoFunds { .. })), "{error:?}");
    // It delivered nothing: what it sold it buys from the supplier, and all of that is paid.
    let late: Vec<_> = (0..3).map(|offset| street.read(1, offset, 0, 0)).collect();
    street.after(70, &late);
    let of = street.late(1, 2);
    assert_eq!((of.amount, of.claim), (nano(-300_000 * 1_000), nano(0)));
    assert_eq!((street.balance(1), reserved(&street, 1)), (free, 0));
}

#[test]
fn a_late_reading_of_what_was_delivered_frees_what_the_sale_brought() {
    let mut street = sold_in_silence(|_| ());
    let late: Vec<_> =
        (0..3).map(|offset| street.read(1, offset, 0, if offset == 2 { 1_000 } else { 0 })).collect();
    street.after(70, &late);
    assert_eq!((street.balance(1), reserved(&street, 1)), ((200_000 + MIDDLE) * 1_000, 0));
    let all = street.balance(1);
    assert_eq!(withdrawal(&mut street, 1, all, 71), None);
}

#[test]
fn on_credit_too_an_unread_sale_is_not_spent() {
    let mut street = sold_in_silence(|genesis| {
        genesis.members[0].deposit = Balance::ZERO;
        genesis.market.money = ledger::MoneyMode::Statement { credit: Balance::new(200_000 * 1_000) };
    });
    assert_eq!((street.balance(1), reserved(&street, 1)), (MIDDLE * 1_000, 300_000 * 1_000));
    assert!(withdrawal(&mut street, 1, 1, 61).is_some());
    let late: Vec<_> = (0..3).map(|offset| street.read(1, offset, 0, 0)).collect();
    street.after(70, &late);
    assert_eq!((street.late(1, 2).claim, street.balance(1)), (nano(0), -135_000 * 1_000));
}

#[test]
fn a_sale_that_nobody_ever_read_is_charged_as_not_delivered_before_it_is_forgotten() {
    let mut street = sold_in_silence(|_| ());
    // Its prices are remembered for 60 days.
    let forgets = street.interval(3 + 60 * 96);
    let mut days = 1;
    while street.ledger.next_to_settle() <= forgets {
        assert_eq!(
            (street.outcomes_of(1, 2, OutcomeKind::Late), reserved(&street, 1)),
            (vec![], 300_000 * 1_000)
        );
        street.block(at(days * 1440), &[]);
        street.block(at(days * 1440 + 10), &[]);
        days += 1;
    }
    let of = street.late(1, 2);
    assert_eq!(
        (of.metered, of.amount, of.claim),
        (Some(market::Metered::default()), nano(-300_000 * 1_000), nano(0))
    );
    assert_eq!((street.balance(1), reserved(&street, 1)), ((200_000 - 135_000) * 1_000, 0));
}

#[test]
fn a_public_gate_shows_no_price_of_a_node_with_few_homes() {
    // 16 homes: 12 on f1, 4 on f2, with 8 sellers and 8 buyers among them.
    let mut street = street_of(16, Forward::Auction, |genesis| {
        for (place, member) in genesis.members.iter_mut().enumerate() {
            member.admission.node = NodeId::new(if place % 4 == 0 { "f2" } else { "f1" }).unwrap();
        }
    });
    let side = |number| if number % 2 == 0 { Side::Sell } else { Side::Buy };
    let price = |number| if number % 2 == 0 { 100_000 } else { 300_000 };
    let of: Vec<_> = (1..=16).map(|number| wanted(number, side(number), price(number), 100)).collect();
    let entries = orders(&mut street, &of);
    street.after(3, &entries);
    street.after(25, &[]);
    let found = gate(&street, 2).unwrap();
    let at = |id| street.ledger.network().index_of(&NodeId::new(id).unwrap()).unwrap().get();
    assert!(found.public && found.price.is_some());
    assert!(found.node_prices[at("f1")].is_some());
    assert_eq!(["grid", "lv", "f2"].map(|id| found.node_prices[at(id)]), [None; 3]);
    let on_f2 = result_of(&street, &entries[0]);
    assert!(on_f2.filled > wh(0) && on_f2.amount < nano(0), "its own order says what it pays");
}
