use energy::{NodeId, Price};
use ledger::{Body, EntryError, FeePoint, Ledger, OutcomeKind, VerifiedEntry};

use crate::fixture::*;

const fn fee(up: i64, down: i64) -> FeePoint {
    FeePoint { up: Price::new(up), down: Price::new(down) }
}

fn series(
    street: &mut Fixture,
    node: &str,
    from: i64,
    points: &[FeePoint],
    others: &[(Use, u8)],
) -> VerifiedEntry {
    let from = street.interval(from);
    let body = Body::NetworkFees { node: NodeId::new(node).unwrap(), from, points: points.to_vec() };
    street.verified(body, OPERATOR, others)
}

/// F↑ and F↓ of home 1's feeder.
fn ways(street: &Fixture, offset: i64) -> (i64, i64) {
    let network = street.ledger.network_at(street.interval(offset));
    let node = network.index_of(&NodeId::new("f1").unwrap()).unwrap();
    (network.fee_up_to_root(node).get(), network.fee_down_from_root(node).get())
}

#[test]
fn published_fees_hold_in_their_interval_for_neighbours_supplier_and_baseline() {
    let mut street = Fixture::new(4);
    street.baselines(4);
    let entries = [
        series(&mut street, "f1", 5, &[fee(3_000, 20_000)], &[]),
        series(&mut street, "lv", 5, &[fee(1_000, 60_000)], &[]),
    ];
    street.after(2, &entries);
    assert_eq!(
        (ways(&street, 4), ways(&street, 5), ways(&street, 6)),
        ((0, 50_000), (4_000, 80_000), (0, 50_000))
    );
    let read = |street: &mut Fixture, offset| {
        [street.read(1, offset, 0, 500), street.read(2, offset, 300, 0), street.read(3, offset, 100, 0)]
    };
    let mut entries: Vec<_> = (0..5)
        .flat_map(|offset| (1..=3).map(move |number| (number, offset)))
        .map(|(number, offset)| street.read(number, offset, 0, 0))
        .collect();
    entries.extend(read(&mut street, 5));
    street.after(91, &entries);
    street.after(105, &[]);
    let (seller, far, near) = (street.settled(1, 5), street.settled(2, 5), street.settled(3, 5));
    // Next door nothing is crossed but the buyer's own feeder and the seller's: 3 and 1 meet at f1 itself.
    assert_eq!((near.matched.bought, near.matched.local_amount), (wh(100), nano(-100 * 165_000)));
    assert_eq!((far.matched.bought, far.matched.local_amount), (wh(300), nano(-300 * 175_000)));
    assert_eq!(seller.matched.local_amount, nano(100 * 165_000 + 300 * 162_000));
    assert_eq!(seller.matched.supplier_amount, nano(100 * (80_000 - 4_000)));
    assert_eq!(near.baseline, nano(-100 * (250_000 + 80_000)));
    assert_eq!(seller.baseline, nano(500 * (80_000 - 4_000)));
}

#[test]
fn where_no_fees_arrive_the_last_ordinary_ones_of_that_quarter_hour_hold() {
    let mut street = Fixture::new(2);
    let day = 96;
    let ordinary = series(&mut street, "f1", 5, &[fee(0, 11_000), fee(0, 12_000)], &[]);
    let exceptional = series(&mut street, "f1", 5 + day, &[fee(0, 2_000_000)], &[AUDITOR]);
    street.block(at(1), &[ordinary, exceptional]);
    for settled in [false, true] {
        let down = |offset| ways(&street, offset).1 - 40_000;
        assert_eq!([4, 5, 6, 7].map(down), [10_000, 11_000, 12_000, 10_000]);
        assert_eq!(down(6 + day), 12_000, "the next day");
        assert_eq!(down(5 + day), 2_000_000, "what was countersigned holds in its own interval …");
        assert_eq!(down(5 + 2 * day), 11_000, "… and in no other");
        assert_eq!(down(6 + 300 * day), if settled { 12_000 } else { 10_000 });
        street.idle_until(150);
    }
}

#[test]
fn a_settled_interval_keeps_its_fees_for_late_readings_and_corrections() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let first = series(&mut street, "f2", 5, &[fee(0, 30_000)], &[]);
    street.after(2, &[first]);
    street.idle_until(106);
    let day_after = series(&mut street, "f2", 5 + 96, &[fee(0, 90_000)], &[]);
    street.after(107, &[day_after]);
    let entries: Vec<_> = (0..6).map(|offset| street.read(2, offset, 10, 0)).collect();
    street.after(108, &entries);
    assert_eq!(street.late(2, 4).amount, nano(-10 * 300_000));
    assert_eq!(street.late(2, 5).amount, nano(-10 * (250_000 + 40_000 + 30_000)));
    let body =
        Body::Correction { home: home(2), interval: street.interval(5), import_delta: 7, export_delta: 0 };
    let correction = street.verified(body, METERING, &[OPERATOR]);
    street.after(109, &[correction]);
    assert_eq!(street.outcome(2, 5, OutcomeKind::Correction).amount, nano(-7 * 320_000));
    // A day and a half later, when the next day's fees are the last that were valid at that time, still.
    street.idle_until(2_000);
    assert_eq!(ways(&street, 5).1, 50_000, "another feeder's");
    let network = street.ledger.network_at(street.interval(5));
    let node = network.index_of(&NodeId::new("f2").unwrap()).unwrap();
    assert_eq!(network.fee_down_from_root(node), Price::new(70_000));
}

#[test]
fn fees_are_forgotten_with_the_tariffs_and_not_before() {
    let mut street = Fixture::with(1, |genesis| genesis.mtu = energy::Mtu::Min60);
    let entry = series(&mut street, "f1", 3, &[fee(0, 11_000), fee(0, 10_000)], &[]);
    street.block(at(1), &[entry]);
    let size = |street: &Fixture| street.ledger.snapshot().len();
    street.idle_until(8 * 60);
    let kept = size(&street);
    // Days of outage, in which intervals settle without anybody: quicker than heartbeats.
    for day in 1..63 {
        street.block(at(day * 1440 + 600), &[]);
        street.block(at(day * 1440 + 605), &[]);
        street.block(at(day * 1440 + 611), &[]);
    }
    assert!(street.ledger.next_to_settle() > street.interval(3 + 61 * 24));
    let down = |offset| ways(&street, offset).1 - 40_000;
    assert_eq!(down(3 + 62 * 24), 11_000, "it is still the last one of that hour");
    assert_eq!(down(3), 10_000, "forgotten: only genesis is left");
    // Two hours a day over 60 days and no more, beside 60 days of tariffs.
    assert!(size(&street) < kept + 60 * (24 * 24 + 2 * 40), "{} {kept}", size(&street));
}

#[test]
fn fees_follow_the_rules_of_tariffs() {
    let mut street = Fixture::new(2);
    let refused = |street: &mut Fixture, node: &str, from, point, others: &[(Use, u8)]| {
        let entry = series(street, node, from, &[point], others);
        street.refusal(at(1), &entry)
    };
    let ordinary = fee(0, 1);
    assert_eq!(
        refused(&mut street, "x", 5, ordinary, &[]),
        EntryError::UnknownNode { node: NodeId::new("x").unwrap() }
    );
    assert!(matches!(refused(&mut street, "grid", 5, ordinary, &[]), EntryError::Malformed { .. }));
    for point in [fee(-1, 0), fee(0, -1)] {
        let both = [TREASURER, AUDITOR];
        assert_eq!(
            refused(&mut street, "f1", 5, point, &both).to_string(),
            "a network fee is never below zero",
            "whoever signs"
        );
    }
    for point in [fee(1_000_001, 0), fee(0, 1_000_001)] {
        assert!(matches!(
            refused(&mut street, "f1", 5, point, &[]),
            EntryError::NotEntitled { kind: "network-fees", .. }
        ));
        for second in [TREASURER, AUDITOR] {
            let both = series(&mut street, "f1", 5, &[point], &[second]);
            assert!(street.ledger.check(&both, at(1)).is_ok());
        }
    }
    assert!(
        matches!(refused(&mut street, "f1", 4, ordinary, &[]), EntryError::NotEntitled { .. }),
        "59 minutes"
    );
    let countersigned = series(&mut street, "f1", 4, &[ordinary], &[TREASURER]);
    assert!(street.ledger.check(&countersigned, at(1)).is_ok());
    assert!(matches!(refused(&mut street, "f1", 0, ordinary, &[AUDITOR]), EntryError::Retroactive { .. }));
    let last = series(&mut street, "f1", 62 * 96 - 1, &[ordinary], &[]);
    assert!(street.ledger.check(&last, at(1)).is_ok());
    let far = refused(&mut street, "f1", 62 * 96, ordinary, &[TREASURER, AUDITOR]);
    assert!(far.to_string().contains("at most 62 days ahead"), "{far}");
    let empty = series(&mut street, "f1", 5, &[], &[]);
    assert!(matches!(street.refusal(at(1), &empty), EntryError::Malformed { .. }));
    let body = Body::NetworkFees {
        node: NodeId::new("f1").unwrap(),
        from: energy::Interval::containing(at(600), energy::Mtu::Min60),
        points: vec![ordinary],
    };
    let hourly = street.verified(body, OPERATOR, &[]);
    assert_eq!(street.refusal(at(1), &hourly), EntryError::WrongMtu);
    let body = Body::NetworkFees {
        node: NodeId::new("f1").unwrap(),
        from: street.interval(5),
        points: vec![ordinary],
    };
    let treasurer = street.verified(body, TREASURER, &[]);
    assert!(matches!(
        street.refusal(at(1), &treasurer),
        EntryError::NotEntitled { needed: "the operator", .. }
    ));
}

#[test]
fn the_notice_of_fees_counts_to_the_gate_where_energy_is_traded_forward() {
    let mut street = Fixture::with(2, |genesis| genesis.forward = ledger::Forward::Auction);
    let entry = series(&mut street, "f1", 5, &[fee(0, 1)], &[]);
    assert!(street.ledger.check(&entry, at(10)).is_ok());
    assert!(matches!(street.refusal(at(11), &entry), EntryError::NotEntitled { .. }));
}

#[test]
fn the_fees_of_a_path_stay_within_what_accounts_can_hold() {
    // The longest path has two edges: half of 1 000 per kWh for each.
    let mut street = Fixture::new(2);
    let max = Price::new(500_000_000);
    for node in ["lv", "f1", "f2"] {
        for over in [fee(max.get() + 1, 0), fee(0, max.get() + 1)] {
            let entry = series(&mut street, node, 5, &[over], &[TREASURER, AUDITOR]);
            assert_eq!(street.refusal(at(1), &entry), EntryError::FeeLimit { max });
        }
        let entry = series(&mut street, node, 5, &[fee(0, max.get())], &[AUDITOR]);
        assert!(street.ledger.check(&entry, at(1)).is_ok());
    }
}

#[test]
fn the_dearest_fees_and_the_most_energy_stop_nobodys_settlement() {
    let mut street = Fixture::with(3, |genesis| {
        genesis.caps.price_max = Price::new(1_000_000_000);
        genesis.tariff = tariff(1_000_000_000, 0);
        genesis.network[1].fee_down = Price::new(999_990_000);
    });
    street.baselines(3);
    let fees = ["f1", "f2"].map(|node| series(&mut street, node, 5, &[fee(0, 500_000_000)], &[]));
    street.after(2, &fees);
    let mut entries: Vec<_> = (1..=3).map(|number| street.read(number, 4, 0, 0)).collect();
    entries.extend([street.read(1, 5, 0, 0), street.read(2, 5, 1, 0), street.read(3, 5, 1_000_000, 0)]);
    street.after(91, &entries);
    street.after(105, &[]);
    let price = 1_000_000_000 + 999_990_000 + 500_000_000;
    assert_eq!(street.settled(3, 5).amount, nano(-1_000_000 * price));
}

#[test]
fn a_restored_snapshot_knows_the_same_fees() {
    let mut street = Fixture::new(2);
    let entry = series(&mut street, "f1", 5, &[fee(7, 11_000)], &[]);
    street.block(at(1), &[entry]);
    street.idle_until(150);
    let restored = Ledger::restore(&street.genesis, &street.ledger.snapshot()).unwrap();
    for offset in [4, 5, 6, 101] {
        let interval = street.interval(offset);
        assert_eq!(restored.network_at(interval), street.ledger.network_at(interval));
    }
    assert_eq!(ways(&street, 101), (7, 51_000));
}

#[test]
fn the_order_of_fees_and_tariffs_in_a_block_does_not_matter() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let body = Body::TariffSeries { from: street.interval(5), points: vec![tariff(200_000, 70_000)] };
    let mut entries = vec![
        series(&mut street, "f1", 5, &[fee(1, 2)], &[]),
        series(&mut street, "f2", 5, &[fee(3, 4)], &[]),
        street.verified(body, OPERATOR, &[]),
    ];
    // Numbers of one signer go up, so each arrangement is of the same bodies signed in another order.
    let bodies: Vec<_> = entries.drain(..).map(|entry| entry.entry().body.clone()).collect();
    let networks: Vec<_> = [[0, 1, 2], [2, 0, 1], [1, 2, 0]]
        .map(|order| {
            let entries: Vec<_> =
                order.iter().map(|at| street.verified(bodies[*at].clone(), OPERATOR, &[])).collect();
            let ledger = street.ledger.propose(at(2), &entries).unwrap().executed.ledger;
            (ledger.network_at(street.interval(5)), ledger.tariff_at(street.interval(5)))
        })
        .into_iter()
        .collect();
    assert!(networks.iter().all(|found| *found == networks[0]));
}

#[test]
fn an_exceptional_tariff_holds_in_its_own_interval_alone() {
    let mut street = Fixture::new(2);
    let series = |street: &mut Fixture, offset, import, others: &[(Use, u8)]| {
        let body = Body::TariffSeries { from: street.interval(offset), points: vec![tariff(import, 80_000)] };
        street.verified(body, OPERATOR, others)
    };
    let entries =
        [series(&mut street, 5, 200_000, &[]), series(&mut street, 5 + 96, 2_000_000, &[TREASURER])];
    street.block(at(1), &entries);
    for _ in 0..2 {
        let price = |offset| street.ledger.tariff_at(street.interval(offset)).import_price.get();
        assert_eq!([5, 101, 197].map(price), [200_000, 2_000_000, 200_000]);
        // Until both are settled.
        while street.ledger.next_to_settle() <= street.interval(101) && street.ledger.head_time() > at(1) {
            let next = street.ledger.head_time().plus_ms(300_000);
            street.block(next, &[]);
        }
        street.block(street.ledger.head_time().plus_ms(300_000), &[]);
    }
}

#[test]
fn with_import_below_export_every_home_is_at_its_supplier_and_prices_may_be_negative() {
    let mut street = Fixture::with(2, |genesis| genesis.caps.price_min = Price::new(-500_000));
    street.baselines(2);
    let points = vec![tariff(50_000, 80_000), tariff(-120_000, -200_000)];
    let body = Body::TariffSeries { from: street.interval(5), points };
    let entry = street.verified(body, OPERATOR, &[]);
    street.after(2, &[entry]);
    let entries: Vec<_> =
        (0..=6).flat_map(|offset| [street.read(1, offset, 0, 400), street.read(2, offset, 300, 0)]).collect();
    street.after(106, &entries);
    street.after(120, &[]);
    let (seller, buyer) = (street.settled(1, 5), street.settled(2, 5));
    assert_eq!((seller.matched.sold, buyer.matched.bought), (wh(0), wh(0)), "import below export");
    assert_eq!((seller.amount, buyer.amount), (nano(400 * 80_000), nano(-300 * 100_000)));
    // M = −160 000: the seller pays 160 to be rid of a kWh instead of 200, the buyer gets it for −160 + 10.
    let (seller, buyer) = (street.settled(1, 6), street.settled(2, 6));
    assert_eq!(buyer.matched.bought, wh(300));
    assert_eq!(seller.matched.local_amount, nano(-300 * 160_000));
    assert_eq!(buyer.matched.local_amount, nano(300 * 150_000));
    assert!(seller.amount >= seller.baseline && buyer.amount >= buyer.baseline);
}
