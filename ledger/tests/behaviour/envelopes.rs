use energy::{HomeId, Interval, NodeId};
use ledger::{Body, ConnectionSize, EntryError, EnvelopePoint, Forward, OrderResult, Outcome, VerifiedEntry};
use market::Side;

use crate::fixture::*;
use crate::forward::{Wanted, gate, orders, posted, result_of, street_of, wanted};

fn envelope(
    street: &mut Fixture,
    node: &str,
    offset: i64,
    points: &[(Option<u64>, Option<u64>)],
) -> VerifiedEntry {
    signed_by(street, node, offset, points, &[])
}

fn countersigned(
    street: &mut Fixture,
    node: &str,
    offset: i64,
    points: &[(Option<u64>, Option<u64>)],
) -> VerifiedEntry {
    signed_by(street, node, offset, points, &[AUDITOR])
}

fn signed_by(
    street: &mut Fixture,
    node: &str,
    offset: i64,
    points: &[(Option<u64>, Option<u64>)],
    others: &[(Use, u8)],
) -> VerifiedEntry {
    let points =
        points.iter().map(|(up, down)| EnvelopePoint { up: up.map(wh), down: down.map(wh) }).collect();
    let node = NodeId::new(node).unwrap();
    let body = Body::Envelope { node, from: street.interval(offset), points };
    street.verified(body, OPERATOR, others)
}

fn cap(street: &mut Fixture, number: u8, offset: i64, import: u64, export: u64) -> VerifiedEntry {
    let points = vec![ConnectionSize { import: wh(import), export: wh(export) }];
    let body = Body::ConnectionCap { home: home(number), from: street.interval(offset), points };
    street.verified(body, OPERATOR, &[])
}

#[test]
fn an_unpublished_envelope_is_the_genesis_share_of_the_edges_rating() {
    for forward in [Forward::Posted, Forward::Auction] {
        for (permille, filled) in [(1000, 700), (500, 350), (0, 0)] {
            let mut street = street_of(2, forward, |genesis| {
                genesis.market.envelope_permille = permille;
                genesis.network[2].up = Some(wh(700));
                genesis.network[3].down = Some(wh(5_000));
            });
            let of = [wanted(1, Side::Sell, 100_000, 900), wanted(2, Side::Buy, 200_000, 900)];
            let entries = orders(&mut street, &of);
            street.after(3, &entries);
            street.after(25, &[]);
            assert_eq!(result_of(&street, &entries[0]).filled, wh(filled), "{forward:?} {permille}");
            assert_eq!(result_of(&street, &entries[1]).filled, wh(filled));
        }
    }
}

#[test]
fn a_published_envelope_binds_its_edge_and_interval_alone() {
    for forward in [Forward::Posted, Forward::Auction] {
        let mut street = street_of(4, forward, |genesis| genesis.network[2].up = Some(wh(700)));
        let mut all = Vec::new();
        for offset in 2..6 {
            // Homes 1 and 3 share feeder f1: what they trade with each other crosses no edge.
            let of = [
                wanted(1, Side::Sell, 100_000, 900),
                wanted(2, Side::Buy, 200_000, 900),
                wanted(3, Side::Buy, 200_000, 100),
            ];
            all.push(orders(&mut street, &of.map(|of| Wanted { offset, ..of })));
        }
        let published = [
            countersigned(&mut street, "f1", 3, &[(Some(120), None), (None, None)]),
            envelope(&mut street, "lv", 5, &[(Some(0), Some(0))]),
            envelope(&mut street, "f2", 5, &[(None, Some(0))]),
        ];
        let entries: Vec<_> = all.concat().into_iter().chain(published).collect();
        street.after(3, &entries);
        let node = NodeId::new("f1").unwrap();
        let of = |street: &Fixture, offset| street.ledger.envelope(&node, street.interval(offset)).unwrap();
        assert_eq!(of(&street, 2), EnvelopePoint { up: Some(wh(350)), down: None });
        assert_eq!(of(&street, 3), EnvelopePoint { up: Some(wh(120)), down: None });
        street.after(70, &[]);
        let sold: Vec<_> = all.iter().map(|of| result_of(&street, &of[0]).filled.get()).collect();
        let next_door: Vec<_> = all.iter().map(|of| result_of(&street, &of[2]).filled.get()).collect();
        assert_eq!(sold, [450, 220, 900, 100], "{forward:?}");
        assert_eq!(next_door, [100; 4]);
        if forward == Forward::Auction {
            assert_eq!(gate(&street, 3).unwrap().node_prices.len(), 4);
        }
    }
}

#[test]
fn an_envelope_may_be_tightened_until_its_gate_and_no_later() {
    let mut street = posted(2);
    let of = [wanted(1, Side::Sell, 100_000, 900), wanted(2, Side::Buy, 200_000, 900)];
    let entries = orders(&mut street, &of);
    let first = envelope(&mut street, "f1", 2, &[(Some(500), None)]);
    street.after(3, &entries);
    street.after(4, &[first]);
    street.idle_until(25);
    // In the gate block itself.
    let tighter = envelope(&mut street, "f1", 2, &[(Some(200), None)]);
    street.block(at(25), &[tighter]);
    assert_eq!(result_of(&street, &entries[0]).filled, wh(200));
    let late = envelope(&mut street, "f1", 2, &[(Some(300), None)]);
    let (from, gate) = (street.interval(2), at(25));
    assert_eq!(street.refusal(at(26), &late), EntryError::AfterGate { from, gate });
    let past = envelope(&mut street, "f1", 1, &[(Some(300), None)]);
    assert!(matches!(street.refusal(at(26), &past), EntryError::Retroactive { .. }));
}

#[test]
fn a_higher_envelope_needs_notice_or_a_second_signature_and_one_above_the_rating_always_the_latter() {
    const RATING: u64 = 700;
    let mut street = street_of(2, Forward::Posted, |genesis| {
        (genesis.network[2].up, genesis.network[2].down) = (Some(wh(RATING)), Some(wh(RATING)));
    });
    let first = envelope(&mut street, "f1", 4, &[(Some(100), Some(100))]);
    street.after(3, &[first]);
    // Interval 4 begins at minute 60, so its gate closes at 55: no hour is left.
    let points = |up: u64, down: u64| vec![EnvelopePoint { up: Some(wh(up)), down: Some(wh(down)) }];
    let body = |street: &Fixture, points: Vec<EnvelopePoint>, offset: i64| Body::Envelope {
        node: NodeId::new("f1").unwrap(),
        from: street.interval(offset),
        points,
    };
    for (up, down, ordinary) in [(100, 100, true), (0, 50, true), (101, 100, false), (50, 101, false)] {
        let alone = street.verified(body(&street, points(up, down), 4), OPERATOR, &[]);
        assert_eq!(street.ledger.check(&alone, at(4)).is_ok(), ordinary, "{up} {down}");
        for second in [TREASURER, AUDITOR] {
            let both = street.verified(body(&street, points(up, down), 4), OPERATOR, &[second]);
            assert!(street.ledger.check(&both, at(4)).is_ok());
        }
    }
    let later = street.verified(body(&street, points(300, 300), 9), OPERATOR, &[]);
    assert!(street.ledger.check(&later, at(4)).is_ok(), "with notice");
    let beyond = street.verified(body(&street, points(RATING + 1, 0), 9), OPERATOR, &[]);
    assert!(matches!(street.refusal(at(4), &beyond), EntryError::NotEntitled { kind: "envelope", .. }));
    let agreed = street.verified(body(&street, points(RATING + 1, 0), 9), OPERATOR, &[AUDITOR]);
    assert!(street.ledger.check(&agreed, at(4)).is_ok());
}

#[test]
fn envelopes_and_caps_are_the_operators_and_bounded() {
    let mut street = posted(2);
    let node = NodeId::new("f1").unwrap();
    let (from, point) = (street.interval(4), EnvelopePoint { up: Some(wh(1)), down: None });
    let body = Body::Envelope { node, from, points: vec![point] };
    for other in [TREASURER, METERING, (Use::Member, 1)] {
        let entry = street.verified(body.clone(), other, &[]);
        assert!(matches!(
            street.refusal(at(3), &entry),
            EntryError::NotEntitled { needed: "the operator", .. }
        ));
    }
    let size = ConnectionSize { import: wh(1), export: wh(1) };
    let body = Body::ConnectionCap { home: home(1), from, points: vec![size] };
    let entry = street.verified(body, (Use::Member, 1), &[]);
    assert!(matches!(street.refusal(at(3), &entry), EntryError::NotEntitled { .. }));
    let root = envelope(&mut street, "grid", 4, &[(Some(1), None)]);
    assert_eq!(street.refusal(at(3), &root).to_string(), "the root has no edge to a parent");
    let unknown = envelope(&mut street, "f9", 4, &[(Some(1), None)]);
    assert!(matches!(street.refusal(at(3), &unknown), EntryError::UnknownNode { .. }));
    let nobody = cap(&mut street, 9, 4, 1, 1);
    assert_eq!(street.refusal(at(3), &nobody), EntryError::UnknownHome { home: home(9) });
    let impossible = cap(&mut street, 1, 4, 1_000_001, 1);
    assert!(matches!(street.refusal(at(3), &impossible), EntryError::Malformed { .. }));
    let begun = cap(&mut street, 1, 0, 1, 1);
    assert!(matches!(street.refusal(at(3), &begun), EntryError::Retroactive { .. }));
    let far = envelope(&mut street, "f1", 8 * 96, &[(Some(1), None)]);
    assert!(street.refusal(at(3), &far).to_string().contains("at most 8 days ahead"));
    let near = envelope(&mut street, "f1", 8 * 96 - 1, &[(Some(1), None)]);
    assert!(street.ledger.check(&near, at(3)).is_ok());
    let mut off = Fixture::new(2);
    off.baselines(2);
    let idle = envelope(&mut off, "f1", 4, &[(Some(1), None)]);
    assert_eq!(off.refusal(at(3), &idle), EntryError::ForwardOff);
}

#[test]
fn a_cap_after_the_orders_cuts_the_later_ones_at_the_gate() {
    for forward in [Forward::Posted, Forward::Auction] {
        let mut street = street_of(2, forward, |_| ());
        let of = [
            wanted(1, Side::Sell, 100_000, 300),
            wanted(1, Side::Sell, 90_000, 300),
            wanted(1, Side::Sell, 80_000, 300),
            wanted(2, Side::Buy, 200_000, 900),
        ];
        let entries = orders(&mut street, &of);
        street.after(3, &entries);
        let cap = cap(&mut street, 1, 2, 1_000, 400);
        street.after(4, &[cap]);
        let interval = street.interval(2);
        let limit = ConnectionSize { import: wh(1_000), export: wh(400) };
        assert_eq!(street.ledger.connection_limit(&home(1), interval), Some(limit));
        assert_eq!(street.ledger.connection_cap(&home(1), interval), Some(limit));
        street.after(25, &[]);
        let filled: Vec<_> = entries.iter().map(|order| result_of(&street, order).filled.get()).collect();
        assert_eq!(filled, [300, 100, 0, 400], "{forward:?}");
        assert_eq!(result_of(&street, &entries[1]).result(), OrderResult::Partly);
        assert_eq!(street.ledger.position(&home(1), interval).sold, wh(400));
    }
}

fn breaches(street: &Fixture) -> Vec<(HomeId, Interval, u64, u64)> {
    let of = street.outcomes().filter_map(|(_, outcome)| match outcome {
        Outcome::Breach(of) => Some(of),
        _ => None,
    });
    of.map(|of| (of.home.clone(), of.interval, of.metered.import.get(), of.metered.export.get())).collect()
}

#[test]
fn a_connection_over_its_cap_is_recorded_as_a_breach() {
    // Without forward trading too: a cap is for what flows.
    let mut street = Fixture::new(4);
    street.baselines(4);
    let caps: Vec<_> = (1..=4)
        .flat_map(|number| [1, 2, 3].map(|offset| cap(&mut street, number, offset, 500, 100)))
        .collect();
    street.after(3, &caps);
    for offset in 0..4 {
        let entries = [
            street.read(1, offset, 501, 0),
            street.read(2, offset, 500, 100),
            street.read(3, offset, 0, if offset == 2 { 101 } else { 99 }),
        ];
        street.after(u64::try_from(offset).unwrap() * 15 + 16, &entries);
    }
    street.after(75, &[]);
    let over = |number, offset, import, export| (home(number), street.interval(offset), import, export);
    // Not interval 0, which has no cap; not home 2, which is just at its own.
    let expected = [over(1, 1, 501, 0), over(1, 2, 501, 0), over(3, 2, 0, 101), over(1, 3, 501, 0)];
    assert_eq!(breaches(&street), expected);
    // Home 4 comes late, with one reading over four intervals: of none of them it says how much flowed.
    let lump = street.read(4, 3, 40_000, 0);
    street.after(77, &[lump]);
    assert_eq!(breaches(&street).len(), 4);
}

#[test]
fn a_reading_up_to_a_day_late_still_shows_a_breach() {
    for (minutes, found) in [(60 + 24 * 60 - 20, 1), (60 + 24 * 60 + 20, 0)] {
        let mut street = Fixture::new(2);
        street.baselines(2);
        let cap = cap(&mut street, 1, 1, 500, 100);
        let first = street.read(1, 0, 0, 0);
        street.after(3, &[cap]);
        street.after(16, &[first]);
        street.idle_until(minutes);
        let late = street.read(1, 1, 600, 0);
        street.after(minutes, &[late]);
        assert_eq!(breaches(&street).len(), found);
        assert_eq!(street.late(1, 1).metered.unwrap().import, wh(600));
    }
}

#[test]
fn an_envelope_of_any_size_neither_unbalances_a_gate_nor_stops_the_chain() {
    for limit in [1 << 60, 1 << 63, u64::MAX - 999, u64::MAX] {
        let mut street = street_of(4, Forward::Auction, |_| ());
        let of = [wanted(1, Side::Sell, 100_000, 900), wanted(2, Side::Buy, 200_000, 500)];
        let mut entries = orders(&mut street, &of);
        let point = EnvelopePoint { up: Some(wh(limit)), down: Some(wh(limit)) };
        for node in ["f1", "f2"] {
            let (node, from) = (NodeId::new(node).unwrap(), street.interval(2));
            let body = Body::Envelope { node, from, points: vec![point] };
            entries.push(street.verified(body, OPERATOR, &[]));
        }
        street.after(3, &entries);
        street.after(25, &[]);
        let found = gate(&street, 2).unwrap();
        assert_eq!((found.void, found.volume, found.rent), (false, wh(500), nano(0)), "{limit}");
        let amounts = [0, 1].map(|place| result_of(&street, &entries[place]).amount.get());
        assert_eq!(amounts.iter().sum::<i128>() + found.fees.get(), 0);
        street.after(61, &[]);
        assert!(street.ledger.next_to_settle() > street.interval(2), "{limit}");
    }
}
