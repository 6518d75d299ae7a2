//! Orders that the ledger refuses: each with its reason, and recorded nowhere.

use energy::{Balance, Interval, Mtu, Price};
use ledger::{Body, ConnectionSize, EntryError, EntryId, Forward, Hash32, Order, Stream, VerifiedEntry};
use market::Side;

use crate::fixture::*;
use crate::forward::{Wanted, cancel, limit, order, order_body, orders, posted, reserved, street_of, wanted};

/// Why an entry is refused; and nothing of it remains in the next block, nor in the state after it.
fn refused(street: &Fixture, time: energy::Timestamp, entry: &VerifiedEntry) -> EntryError {
    let reason = street.refusal(time, entry);
    let (with, without) = (
        street.ledger.propose(time, std::slice::from_ref(entry)).unwrap().executed,
        street.ledger.propose(time, &[]).unwrap().executed,
    );
    assert_same(&with, &without);
    let signer = &entry.entry().signer;
    for stream in [Stream::Orders, Stream::Rest] {
        assert_eq!(with.ledger.last_number(signer, stream), street.ledger.last_number(signer, stream));
    }
    assert!(!with.ledger.is_used(entry.entry()) || street.ledger.is_used(entry.entry()));
    reason
}

fn sell(street: &mut Fixture, offset: i64) -> VerifiedEntry {
    order(street, &Wanted { offset, ..wanted(1, Side::Sell, 100_000, 200) })
}

#[test]
fn an_order_for_a_past_or_closed_interval_is_refused() {
    let mut street = posted(2);
    street.after(26, &[]);
    for (offset, why) in
        [(-3, "before the chain"), (0, "delivered"), (1, "under way"), (2, "its gate closed")]
    {
        let entry = sell(&mut street, offset);
        let reason = refused(&street, at(27), &entry);
        let EntryError::GateClosed { interval, gate, time, .. } = reason else { panic!("{why}: {reason}") };
        assert_eq!((interval, gate), (street.interval(offset), interval.start().minus_ms(300_000)));
        assert_eq!(time, at(27));
    }
    let open = sell(&mut street, 3);
    assert!(street.ledger.check(&open, at(27)).is_ok());
}

#[test]
fn an_order_is_refused_that_could_only_be_void() {
    // The last block came just before the gate of interval 2, the next comes after its start: there is no gate in between.
    let mut street = posted(2);
    street.after(24, &[]);
    let entry = sell(&mut street, 2);
    assert!(street.ledger.check(&entry, at(30)).is_ok());
    let reason = refused(&street, at(30).plus_ms(1), &entry);
    assert!(matches!(reason, EntryError::GateClosed { .. }), "{reason}");
}

#[test]
fn an_order_is_refused_too_early() {
    let mut street = posted(2);
    let entry = sell(&mut street, 2 * 96 + 1);
    let reason = refused(&street, at(15).minus_ms(1), &entry);
    assert!(matches!(reason, EntryError::GateClosed { opens, .. } if opens == at(15)), "{reason}");
    assert!(street.ledger.check(&entry, at(15)).is_ok());
}

#[test]
fn an_order_beyond_funds_is_refused() {
    let deposit = 200 * 200_000;
    let mut street =
        street_of(2, Forward::Posted, |genesis| genesis.members[1].deposit = Balance::new(deposit));
    let over = order(&mut street, &wanted(2, Side::Buy, 200_001, 200));
    let (free, needed) = (nano(deposit.into()), nano(200 * 200_001));
    assert_eq!(refused(&street, at(3), &over), EntryError::NoFunds { free, needed });
    // Also where other orders took what there was, for whatever interval.
    let first = order(&mut street, &Wanted { offset: 9, ..wanted(2, Side::Buy, 200_000, 100) });
    street.after(3, &[first]);
    let second = order(&mut street, &wanted(2, Side::Buy, 200_000, 101));
    let (free, needed) = (nano(100 * 200_000), nano(101 * 200_000));
    assert_eq!(refused(&street, at(4), &second), EntryError::NoFunds { free, needed });
    // A sale that may have to be bought from the supplier is no other.
    let sale = order(&mut street, &wanted(2, Side::Sell, 80_000, 100));
    let (free, needed) = (nano(100 * 200_000), nano(100 * (300_000 - 80_000)));
    assert_eq!(refused(&street, at(4), &sale), EntryError::NoFunds { free, needed });
}

#[test]
fn an_order_beyond_the_connections_size_is_refused() {
    let mut street = street_of(2, Forward::Posted, |genesis| {
        genesis.members[0].admission.size = ConnectionSize { import: wh(4_000), export: wh(1_000) };
    });
    let beyond = |asked, max| EntryError::ConnectionLimit { asked: wh(asked), max: wh(max) };
    // Alone, …
    let alone = order(&mut street, &wanted(1, Side::Sell, 100_000, 1_001));
    assert_eq!(refused(&street, at(3), &alone), beyond(1_001, 1_000));
    let import = order(&mut street, &wanted(1, Side::Buy, 100_000, 4_001));
    assert_eq!(refused(&street, at(3), &import), beyond(4_001, 4_000));
    // … with what is open, but not counting what it replaces, …
    let first = order(&mut street, &wanted(1, Side::Sell, 100_000, 700));
    street.after(3, std::slice::from_ref(&first));
    let second = order(&mut street, &wanted(1, Side::Sell, 100_000, 301));
    assert_eq!(refused(&street, at(4), &second), beyond(1_001, 1_000));
    let instead = Wanted { replaces: Some(first.id()), ..wanted(1, Side::Sell, 100_000, 1_000) };
    let instead = order(&mut street, &instead);
    assert!(street.ledger.check(&instead, at(4)).is_ok());
    // … against the operator's cap, in its interval alone.
    let points = vec![ConnectionSize { import: wh(9_000), export: wh(800) }];
    let body = Body::ConnectionCap { home: home(1), from: street.interval(2), points };
    let cap = street.verified(body, OPERATOR, &[]);
    street.after(4, &[cap]);
    let capped = order(&mut street, &wanted(1, Side::Sell, 100_000, 101));
    assert_eq!(refused(&street, at(5), &capped), beyond(801, 800));
    let elsewhere = order(&mut street, &Wanted { offset: 3, ..wanted(1, Side::Sell, 100_000, 1_000) });
    assert!(street.ledger.check(&elsewhere, at(5)).is_ok());
    let import = order(&mut street, &Wanted { offset: 4, ..wanted(1, Side::Buy, 100_000, 4_001) });
    assert_eq!(refused(&street, at(5), &import), beyond(4_001, 4_000));
}

#[test]
fn more_energy_than_any_number_holds_is_refused() {
    let mut street = posted(2);
    let first = order(&mut street, &wanted(1, Side::Sell, 100_000, 200));
    street.after(3, &[first]);
    let huge = order(&mut street, &wanted(1, Side::Sell, 100_000, u64::MAX));
    assert!(matches!(refused(&street, at(4), &huge), EntryError::Quantity(_)));
    let huge = order(&mut street, &wanted(2, Side::Buy, 100_000, u64::MAX));
    assert!(matches!(refused(&street, at(4), &huge), EntryError::ConnectionLimit { .. }));
}

#[test]
fn a_duplicate_is_refused() {
    let mut street = posted(2);
    let entry = sell(&mut street, 2);
    street.after(3, std::slice::from_ref(&entry));
    let before = (street.ledger.state_root(), reserved(&street, 1));
    let number = entry.entry().number;
    let used = EntryError::NumberUsed { number, stream: Stream::Orders, last: number };
    assert_eq!(refused(&street, at(4), &entry), used, "the same entry");
    // Another order under the same number, and one under a lower.
    let chain = *street.ledger.chain();
    let body = order_body(&street, &wanted(1, Side::Sell, 90_000, 300));
    let mut other = street.entry(body, (Use::Member, 1));
    for (number, last) in [(number, number), (number - 1, number), (0, number)] {
        other.number = number;
        let signed = other.clone().sign(&chain, &key((Use::Member, 1)).signing()).verify(&chain).unwrap();
        let used = EntryError::NumberUsed { number, stream: Stream::Orders, last };
        assert_eq!(refused(&street, at(4), &signed), used);
    }
    assert_eq!((street.ledger.state_root(), reserved(&street, 1)), before);
    // Twice in one block it stands once.
    let next = sell(&mut street, 2);
    let proposed = street.propose(at(4), &[next.clone(), next]);
    assert_eq!((proposed.executed.block.entries.len(), proposed.refused.len()), (1, 1));
}

#[test]
fn the_opposite_side_is_refused() {
    let mut street = posted(2);
    let first = sell(&mut street, 2);
    street.after(3, std::slice::from_ref(&first));
    let buy = order(&mut street, &wanted(1, Side::Buy, 100_000, 200));
    assert_eq!(limit(&refused(&street, at(4), &buy)), "a home buys or sells in one interval, not both");
    // The only order of a home may turn round, until the freeze.
    let turned = Wanted { replaces: Some(first.id()), ..wanted(1, Side::Buy, 100_000, 200) };
    let turned = order(&mut street, &turned);
    assert!(street.ledger.check(&turned, at(4)).is_ok());
    assert!(limit(&refused(&street, at(20), &turned)).starts_with("no worse limit"));
}

#[test]
fn an_order_for_nothing_or_next_to_nothing_is_refused() {
    let mut street = posted(2);
    for quantity in [0, 1, 99] {
        let entry = order(&mut street, &wanted(1, Side::Sell, 100_000, quantity));
        assert_eq!(limit(&refused(&street, at(3), &entry)), "an order is for at least 100 Wh");
    }
}

#[test]
fn nobody_orders_cancels_or_replaces_for_another() {
    let mut street = posted(3);
    let own = sell(&mut street, 2);
    street.after(3, std::slice::from_ref(&own));
    let signers = [
        (Use::Member, 2),
        (Use::Reading, 1),
        (Use::Network, 1),
        (Use::Term, 1),
        OPERATOR,
        TREASURER,
        AUDITOR,
        METERING,
        ROOT_METER,
    ];
    for signer in signers {
        let body = order_body(&street, &wanted(1, Side::Sell, 100_000, 200));
        // Whoever signs beside.
        for others in [&[][..], &[(Use::Member, 1)]] {
            let entry = street.verified(body.clone(), signer, others);
            let needed = EntryError::NotEntitled { kind: "order", needed: "the member" };
            assert_eq!(refused(&street, at(4), &entry), needed, "{signer:?}");
        }
        let body = Body::Cancel { home: home(1), order: own.id() };
        let entry = street.verified(body, signer, &[]);
        let needed = EntryError::NotEntitled { kind: "cancel", needed: "the member" };
        assert_eq!(refused(&street, at(4), &entry), needed, "{signer:?}");
    }
    let theirs = cancel(&mut street, 2, own.id());
    assert_eq!(refused(&street, at(4), &theirs), EntryError::NoSuchOrder);
    let instead = Wanted { replaces: Some(own.id()), ..wanted(3, Side::Sell, 100_000, 200) };
    let instead = order(&mut street, &instead);
    assert_eq!(refused(&street, at(4), &instead), EntryError::NoSuchOrder);
    let nobody = Order {
        home: home(9),
        interval: street.interval(2),
        side: Side::Buy,
        price: Price::new(100_000),
        quantity: wh(100),
        replaces: None,
    };
    let nobody = street.verified(Body::Order(nobody), (Use::Member, 1), &[]);
    assert_eq!(refused(&street, at(4), &nobody), EntryError::UnknownHome { home: home(9) });
}

#[test]
fn an_order_outside_the_suppliers_prices_at_its_node_is_refused() {
    let mut street = street_of(2, Forward::Auction, |genesis| genesis.network[2].fee_up = Price::new(5_000));
    let (low, high) = (Price::new(75_000), Price::new(300_000));
    assert_eq!(street.ledger.price_band(&home(1), street.interval(2)), Ok((low, high)));
    for side in [Side::Sell, Side::Buy] {
        for price in [74_999, 300_001, -1, i64::MIN, i64::MAX] {
            let entry = order(&mut street, &wanted(1, side, price, 100));
            let price = Price::new(price);
            assert_eq!(refused(&street, at(3), &entry), EntryError::PriceBand { price, low, high });
        }
        for price in [75_000, 300_000] {
            let entry = order(&mut street, &wanted(1, side, price, 100));
            assert!(street.ledger.check(&entry, at(3)).is_ok());
        }
    }
    let entry = order(&mut street, &wanted(2, Side::Sell, 79_999, 100));
    let reason = refused(&street, at(3), &entry).to_string();
    assert_eq!(
        reason,
        "the limit 79999 µ/kWh lies outside 80000 µ/kWh to 300000 µ/kWh, the supplier's prices at this node with network \
         fees; give one in between"
    );
}

#[test]
fn an_order_for_an_interval_of_another_length_is_refused() {
    let mut street = posted(2);
    for mtu in [Mtu::Min5, Mtu::Min30, Mtu::Min60] {
        let body = Body::Order(Order {
            home: home(1),
            interval: Interval::containing(at(120), mtu),
            side: Side::Sell,
            price: Price::new(100_000),
            quantity: wh(100),
            replaces: None,
        });
        let entry = street.verified(body, (Use::Member, 1), &[]);
        assert_eq!(refused(&street, at(3), &entry), EntryError::WrongMtu);
    }
}

#[test]
fn without_forward_trading_every_order_is_refused() {
    let mut street = street_of(2, Forward::Off, |_| ());
    let entry = sell(&mut street, 2);
    assert_eq!(refused(&street, at(3), &entry), EntryError::ForwardOff);
    let gone = cancel(&mut street, 1, entry.id());
    assert_eq!(refused(&street, at(3), &gone), EntryError::NoSuchOrder);
}

#[test]
fn more_orders_changes_or_entries_than_the_quotas_are_refused() {
    let mut street = posted(2);
    let open: Vec<_> = (0..4).map(|_| sell(&mut street, 2)).collect();
    street.after(3, &open);
    let fifth = sell(&mut street, 2);
    assert_eq!(limit(&refused(&street, at(4), &fifth)), "a home has at most 4 open orders for one interval");
    let unknown = cancel(&mut street, 1, EntryId(Hash32::ZERO));
    assert_eq!(refused(&street, at(4), &unknown), EntryError::NoSuchOrder);
    // 60 more in this hour, in other intervals; the next hour counts anew.
    let more: Vec<_> = (0..60).map(|turn| sell(&mut street, 3 + turn)).collect();
    street.after(4, &more);
    let beyond = sell(&mut street, 70);
    assert_eq!(refused(&street, at(59), &beyond), EntryError::Quota { max: 64 });
    let body = Body::StandingLimits { home: home(1), limits: ledger::StandingLimits::default() };
    let other = street.verified(body, (Use::Member, 1), &[]);
    assert_eq!(refused(&street, at(59), &other), EntryError::Quota { max: 64 });
    street.idle_until(60);
    assert!(street.ledger.check(&beyond, at(60)).is_ok());
}

#[test]
fn what_was_refused_does_not_stand_in_the_way_of_what_is_right() {
    let mut street = posted(2);
    let of = [
        wanted(1, Side::Sell, 10, 200),
        wanted(1, Side::Sell, 100_000, 200),
        wanted(1, Side::Buy, 100_000, 200),
        wanted(2, Side::Buy, 200_000, 10),
        wanted(2, Side::Buy, 200_000, 200),
    ];
    let entries = orders(&mut street, &of);
    let proposed = street.propose(at(3), &entries);
    assert_eq!((proposed.executed.block.entries.len(), proposed.refused.len()), (2, 3));
    let right = [entries[1].clone(), entries[4].clone()];
    let mut clean = posted(2);
    clean.block(at(3), &right);
    assert_eq!(clean.ledger.state_root(), street.ledger.state_root());
    assert_eq!((reserved(&street, 1), reserved(&street, 2)), (200 * 200_000, 200 * 200_000));
}
