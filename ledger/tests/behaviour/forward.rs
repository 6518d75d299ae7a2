use energy::{Balance, Interval};
use ledger::{Body, EntryError, EntryId, Forward, OutcomeKind, VerifiedEntry};
use market::{Account, PostingKind, Side};

use crate::fixture::*;

fn street(homes: u8) -> Fixture {
    let mut street = Fixture::with(homes, |genesis| genesis.forward = Forward::Auction);
    street.baselines(homes);
    street
}

struct Wanted {
    home: u8,
    offset: i64,
    side: Side,
    price: i64,
    quantity: u64,
    replaces: Option<EntryId>,
}

const fn wanted(home: u8, side: Side, price: i64, quantity: u64) -> Wanted {
    Wanted { home, offset: 2, side, price, quantity, replaces: None }
}

fn order(street: &mut Fixture, of: &Wanted) -> VerifiedEntry {
    let body = Body::Order(ledger::Order {
        home: home(of.home),
        interval: street.interval(of.offset),
        side: of.side,
        price: energy::Price::new(of.price),
        quantity: wh(of.quantity),
        replaces: of.replaces,
    });
    street.verified(body, (Use::Member, of.home), &[])
}

fn cancel(street: &mut Fixture, number: u8, order: EntryId) -> VerifiedEntry {
    street.verified(Body::Cancel { home: home(number), order }, (Use::Member, number), &[])
}

fn reserved(street: &Fixture, number: u8) -> i64 {
    street.ledger.reserved(&home(number)).get()
}

fn limit(error: &EntryError) -> &'static str {
    let EntryError::OrderLimits { what } = error else { panic!("{error}") };
    what
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
    let band = "an order's limit lies between the supplier's prices at its node";
    assert_eq!(refused(wanted(1, Side::Sell, 79_999, 100)), band);
    assert_eq!(refused(wanted(1, Side::Buy, 300_001, 100)), band);
    assert_eq!(
        refused(wanted(1, Side::Buy, 300_000, 1_000_001)),
        "a home's orders for one interval come to at most 1 MWh"
    );
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
    // Interval 2 starts at 30 min; its gate is at 25, the freeze from 20.
    let mut street = street(2);
    let sell = order(&mut street, &wanted(1, Side::Sell, 100_000, 200));
    street.after(3, std::slice::from_ref(&sell));
    let less =
        order(&mut street, &Wanted { replaces: Some(sell.id()), ..wanted(1, Side::Sell, 100_000, 100) });
    assert!(street.ledger.check(&less, at(20).minus_ms(1)).is_ok());
    assert!(limit(&street.refusal(at(20), &less)).starts_with("no reduction"));
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
        price: energy::Price::new(100_000),
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
        genesis.caps.price_min = energy::Price::new(-1_000_000);
        genesis.tariff = tariff(-200_000, -500_000);
    });
    street.baselines(2);
    // The band at a feeder is −500 000 … −150 000.
    let sell = order(&mut street, &wanted(1, Side::Sell, -400_000, 100));
    street.after(3, &[sell]);
    assert_eq!(reserved(&street, 1), 100 * 400_000);
}
