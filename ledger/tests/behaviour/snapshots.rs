use ledger::{Ledger, SnapshotError};

use crate::fixture::*;

/// A street in the middle of things: readings that wait, orders, claims, a rotated limit.
fn busy() -> Fixture {
    let mut street = Fixture::with(4, |genesis| {
        genesis.forward = ledger::Forward::Auction;
        genesis.members[3].deposit = energy::Balance::ZERO;
    });
    street.baselines(4);
    let limits = ledger::StandingLimits { min_sell: Some(energy::Price::new(90_000)), max_buy: None };
    let limits = ledger::Body::StandingLimits { home: home(1), limits };
    let limits = street.verified(limits, (Use::Member, 1), &[]);
    let sell = ledger::Body::Order(ledger::Order {
        home: home(2),
        interval: street.interval(7),
        side: market::Side::Sell,
        price: energy::Price::new(100_000),
        quantity: wh(500),
        replaces: None,
    });
    let sell = street.verified(sell, (Use::Member, 2), &[]);
    let series = ledger::Body::TariffSeries { from: street.interval(20), points: vec![tariff(1, 0); 3] };
    let series = street.verified(series, OPERATOR, &[]);
    street.after(2, &[limits, sell, series]);
    let entries = [street.read(1, 0, 0, 500), street.read(4, 0, 800, 0)];
    street.after(30, &entries);
    let entries = [street.read(1, 1, 0, 500), street.read(2, 1, 33, 1)];
    street.after(34, &entries);
    street
}

#[test]
fn a_restored_ledger_is_the_same_and_goes_on_to_the_same_roots() {
    let mut street = busy();
    let snapshot = street.ledger.snapshot();
    let mut restored = Ledger::restore(&street.genesis, &snapshot).unwrap();
    assert_eq!(restored.snapshot(), snapshot);
    assert_eq!(restored.state_root(), street.ledger.state_root());
    assert_eq!((restored.height(), restored.head()), (street.ledger.height(), street.ledger.head()));
    assert_eq!(restored.tree_root(), street.ledger.tree_root());
    for minutes in [46, 61, 100, 101, 111, 126] {
        let entry = street.read(3, i64::try_from(minutes).unwrap() / 15 - 1, 10, 0);
        let fits = street.ledger.check(&entry, at(minutes)).is_ok();
        let entries = if fits { vec![entry] } else { vec![] };
        let executed = street.block(at(minutes), &entries).clone();
        let again = restored.execute(&executed.block).unwrap();
        assert_same(&again, &executed);
        restored = again.ledger;
    }
}

#[test]
fn a_damaged_snapshot_is_refused_wherever_it_is_damaged() {
    let street = busy();
    let snapshot = street.ledger.snapshot();
    // Chain, height, head and tree stand outside the state; whoever hands a snapshot over proves them by the certified
    // header. What follows them is under the state root.
    let peaks = usize::try_from(street.ledger.tree_size().count_ones()).unwrap();
    let outside = 36 + 8 + 32 + 8 + 4 + 32 * peaks;
    for at in (outside..snapshot.len()).step_by(7) {
        for flip in [1, 0x80] {
            let mut damaged = snapshot.clone();
            damaged[at] ^= flip;
            assert!(Ledger::restore(&street.genesis, &damaged).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
    for length in [0, 1, 36, 100, outside, snapshot.len() - 1] {
        let cut = Ledger::restore(&street.genesis, &snapshot[..length]);
        assert!(matches!(cut, Err(SnapshotError::Codec(_))), "{length} bytes");
    }
    let longer = [&snapshot[..], &[0]].concat();
    assert!(matches!(Ledger::restore(&street.genesis, &longer), Err(SnapshotError::Codec(_))));
    let mut root = snapshot;
    root[outside] ^= 1;
    assert!(matches!(Ledger::restore(&street.genesis, &root), Err(SnapshotError::Root { .. })));
}

#[test]
fn a_snapshot_of_another_chain_is_refused() {
    let street = busy();
    let mut genesis = street.genesis.clone();
    genesis.name = "Other street".to_owned();
    let error = Ledger::restore(&genesis, &street.ledger.snapshot()).unwrap_err();
    assert!(matches!(error, SnapshotError::OtherChain { .. }), "{error}");
}
