use ledger::{Body, EntryError, Genesis, GenesisError, Ledger, MemberKeys, Stream};

use crate::fixture::*;
use crate::town::Town;

const DELEGATES: [(Use, u8); 4] = [(Use::Member, 1), (Use::Member, 2), (Use::Member, 3), (Use::Member, 4)];

#[test]
fn an_admission_needs_the_operator_and_more_than_half_of_the_delegates() {
    let mut street = Fixture::new(7);
    let body = Body::Admission(admission(8));
    let mut refused = |by: (Use, u8), others: &[(Use, u8)]| {
        let entry = street.verified(body.clone(), by, others);
        match street.refusal(at(1), &entry) {
            EntryError::NotEntitled { kind: "admission", needed } => needed,
            other => panic!("{other}"),
        }
    };
    assert!(refused(OPERATOR, &DELEGATES[..2]).contains("more than half of the seats"));
    assert_eq!(refused((Use::Member, 5), &DELEGATES), "the operator");
    let others = [(Use::Member, 5), (Use::Member, 6), (Use::Member, 7), (Use::Member, 1), (Use::Member, 2)];
    assert!(refused(OPERATOR, &others).contains("more than half of the seats"), "members without a seat");
    let term_keys = [(Use::Term, 1), (Use::Term, 2), (Use::Term, 3)];
    assert!(refused(OPERATOR, &term_keys).contains("member key"));
    let admitted = street.verified(body, OPERATOR, &DELEGATES[1..]);
    street.block(at(1), &[admitted]);
    assert_eq!(street.ledger.member(&home(8)).unwrap().admission, admission(8));
    assert_eq!(street.ledger.members().len(), 8);
    let entries = [street.read(8, -1, 0, 0), street.read(8, 0, 10, 0)];
    street.after(16, &entries);
    street.after(30, &[]);
    assert_eq!(street.settled(8, 0).metered.unwrap().import, wh(10));
}

/// Whether an admission that homes 1 to 3 countersigned is taken now.
fn would_admit(town: &mut Town) -> bool {
    let entry = town.street.verified(Body::Admission(admission(9)), OPERATOR, &DELEGATES[..3]);
    let time = town.ledger().head_time().plus_ms(1);
    town.ledger().check(&entry, time).is_ok()
}

#[test]
fn who_was_a_delegate_up_to_two_epochs_ago_still_countersigns() {
    let mut town = Town::new(8);
    let votes = town.all_approve(8, &[5, 6, 7]);
    town.epoch_of(&votes);
    assert!(would_admit(&mut town));
    // Homes 5 to 8 take the seats at the end of epoch 1.
    town.epoch(&[5, 6, 7, 8]);
    assert_eq!(town.ledger().epoch().number, 2);
    for epoch in 2..5 {
        assert_eq!(town.ledger().epoch().number, epoch);
        assert!(would_admit(&mut town), "epoch {epoch}");
        town.epoch(&[5, 6, 7, 8]);
    }
    assert!(!would_admit(&mut town), "three epochs after they last had a seat");
}

#[test]
fn several_homes_of_one_owner_countersign_as_one() {
    let mut town = Town::with(8, |genesis| {
        for member in genesis.members.iter_mut().take(3) {
            member.admission.owner = "landlord".to_owned();
        }
    });
    assert!(!would_admit(&mut town));
}

#[test]
fn an_admission_of_a_member_an_unknown_node_or_a_key_in_use_is_refused() {
    let mut street = Fixture::new(4);
    let mut refused = |change: &dyn Fn(&mut ledger::Admission)| {
        let mut admission = admission(5);
        change(&mut admission);
        let entry = street.verified(Body::Admission(admission), OPERATOR, &DELEGATES);
        street.refusal(at(1), &entry)
    };
    assert_eq!(refused(&|new| new.home = home(1)), EntryError::AlreadyMember { home: home(1) });
    assert!(matches!(
        refused(&|new| new.node = energy::NodeId::new("f9").unwrap()),
        EntryError::UnknownNode { .. }
    ));
    assert!(matches!(refused(&|new| new.owner.clear()), EntryError::Malformed { .. }));
    assert!(matches!(
        refused(&|new| new.meter.serial = registration(1, 0).serial),
        EntryError::Malformed { .. }
    ));
    for taken in [(Use::Reading, 1), (Use::Network, 2), OPERATOR, METERING, (Use::Role, 5), (Use::Term, 1)] {
        let key = key(taken).public();
        assert_eq!(refused(&|new| new.keys.member = key), EntryError::KeyInUse { key });
    }
    let own = key((Use::Reading, 5)).public();
    assert_eq!(refused(&|new| new.keys.member = own), EntryError::KeyInUse { key: own });
}

#[test]
fn a_rotated_key_signs_from_then_on_and_the_old_one_never_again() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let old = admission(1).keys;
    let keys = MemberKeys {
        member: key((Use::Member, 101)).public(),
        reading: key((Use::Reading, 101)).public(),
        ..old
    };
    let rotation = Body::KeyRotation { home: home(1), keys };
    let foreign = street.verified(rotation.clone(), (Use::Member, 2), &[]);
    assert!(matches!(
        street.refusal(at(2), &foreign),
        EntryError::NotEntitled { needed: "the member's present key", .. }
    ));
    let own = street.verified(rotation, (Use::Member, 1), &[]);
    let by_old = street.read(1, 0, 10, 0);
    street.block(at(2), &[own]);
    assert!(matches!(street.refusal(at(16), &by_old), EntryError::NotEntitled { kind: "reading", .. }));
    let Body::Reading { reading, .. } = by_old.entry().body.clone() else { unreachable!() };
    let by_new = street.verified(Body::Reading { home: Some(home(1)), reading }, (Use::Reading, 101), &[]);
    street.after(16, std::slice::from_ref(&by_new));
    assert_eq!(street.ledger.last_number(&keys.reading, Stream::Readings), by_new.entry().number);
    // A key means one purpose of one member, for ever.
    for (number, signer) in [(1, 101), (2, 2)] {
        let keys =
            MemberKeys { member: old.member, ..street.ledger.member(&home(number)).unwrap().admission.keys };
        let back =
            street.verified(Body::KeyRotation { home: home(number), keys }, (Use::Member, signer), &[]);
        assert_eq!(street.refusal(at(17), &back), EntryError::KeyInUse { key: old.member });
    }
    let swapped = MemberKeys { member: keys.reading, reading: keys.member, network: keys.network };
    let swap = street.verified(Body::KeyRotation { home: home(1), keys: swapped }, (Use::Member, 101), &[]);
    assert_eq!(street.refusal(at(17), &swap), EntryError::KeyInUse { key: keys.reading });
}

#[test]
fn a_new_key_is_no_new_quota() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let limits = || Body::StandingLimits { home: home(1), limits: ledger::StandingLimits::default() };
    let mut entries: Vec<_> = (0..62).map(|_| street.verified(limits(), (Use::Member, 1), &[])).collect();
    let keys = MemberKeys { member: key((Use::Member, 101)).public(), ..admission(1).keys };
    entries.push(street.verified(Body::KeyRotation { home: home(1), keys }, (Use::Member, 1), &[]));
    street.block(at(3), &entries);
    let (last, over) = (
        street.verified(limits(), (Use::Member, 101), &[]),
        street.verified(limits(), (Use::Member, 101), &[]),
    );
    street.block(at(4), &[last]);
    assert_eq!(street.refusal(at(5), &over), EntryError::Quota { max: 64 });
    assert!(street.ledger.check(&over, at(60)).is_ok(), "the next hour");
}

#[test]
fn a_member_signs_at_most_64_entries_an_hour_readings_apart() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let limits = || Body::StandingLimits { home: home(1), limits: ledger::StandingLimits::default() };
    let entries: Vec<_> = (0..65).map(|_| street.verified(limits(), (Use::Member, 1), &[])).collect();
    let proposed = street.propose(at(16), &entries);
    assert_eq!(proposed.refused, [(entries[64].id(), EntryError::Quota { max: 64 })]);
    let reading = street.read(1, 0, 1, 0);
    assert!(street.ledger.check(&reading, at(17)).is_ok());
    assert_eq!(street.refusal(at(59), &entries[64]), EntryError::Quota { max: 64 });
    assert!(street.ledger.check(&entries[64], at(60)).is_ok(), "the next hour");
    // Roles are not members: a treasurer books a hundred deposits at once.
    let deposit = |n: u32| Body::Deposit {
        home: Some(home(1)),
        amount: energy::Balance::new(1),
        reference: n.to_string(),
    };
    let deposits: Vec<_> = (0..100).map(|n| street.verified(deposit(n), TREASURER, &[])).collect();
    street.block(at(17), &deposits);
}

fn fault(change: impl FnOnce(&mut Genesis)) -> GenesisError {
    let mut genesis = genesis(4);
    change(&mut genesis);
    Ledger::genesis(&genesis).unwrap_err()
}

#[test]
fn a_bad_genesis_is_refused_and_the_fault_named() {
    let says = |error: GenesisError, text: &str| assert!(error.to_string().contains(text), "{error}");
    says(fault(|of| of.name.clear()), "name must have");
    says(fault(|of| of.currency = "cny".to_owned()), "ISO 4217");
    says(fault(|of| of.due_after_ms = 899_999), "between 15 minutes and 5 days");
    says(fault(|of| of.due_after_ms = 432_000_001), "between 15 minutes and 5 days");
    says(fault(|of| of.caps.price_max = energy::Price::new(1_000_000_001)), "caps.price_min");
    says(fault(|of| of.tariff = tariff(1_000_001, 0)), "outside caps");
    says(fault(|of| of.tariff = tariff(100, 101)), "below its export_price");
    says(fault(|of| of.supplier_credit = energy::Balance::new(-1)), "supplier_credit");
    says(fault(|of| of.supplier_credit = energy::Balance::new(i64::MAX)), "supplier_credit");
    says(fault(|of| of.roles.auditor = of.roles.operator), "different keys");
    says(fault(|of| of.root_meter.as_mut().unwrap().key = of.roles.treasurer), "different keys");
    says(fault(|of| of.network[1].fee_down = energy::Price::new(999_999_999)), "network fees of a path");
    says(fault(|of| of.network.clear()), "at least one node");
    says(fault(|of| of.members[1].admission.home = home(1)), "home h001 stands twice");
    says(fault(|of| of.members[1].admission.node = energy::NodeId::new("x").unwrap()), "does not exist");
    says(fault(|of| of.members[1].admission.owner.clear()), "must name its owner");
    says(fault(|of| of.members[1].admission.owner = "x".repeat(65)), "must name its owner");
    says(fault(|of| of.members[1].admission.meter = registration(1, 0)), "serial of another home");
    says(fault(|of| of.members[1].deposit = energy::Balance::new(-1)), "negative deposit");
    says(
        fault(|of| of.members.iter_mut().for_each(|m| m.deposit = energy::Balance::new(i64::MAX / 3))),
        "4 billion",
    );
    says(fault(|of| of.members[1].admission.keys = admission(1).keys), "key that stands elsewhere");
    says(fault(|of| of.members[1].admission.keys.member = of.roles.operator), "key that stands elsewhere");
    says(fault(|of| of.delegates[0].home = home(9)), "delegate but no member");
    says(fault(|of| of.delegates[0].key = of.delegates[1].key), "distinct consensus keys");
    says(fault(|of| of.delegates.clear()), "1 to 31 homes");
    says(fault(|of| of.members = vec![of.members[0].clone(); 1025]), "more than 1024 members");
}
