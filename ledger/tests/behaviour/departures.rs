use energy::{Balance, Price};
use ledger::{
    Body, EntryError, Forward, Order, OrderOutcome, OrderResult, Outcome, ReadingSource, VerifiedEntry,
};
use market::{Account, Metered, Side};

use crate::fixture::*;

const DELEGATES: [(Use, u8); 4] = [(Use::Member, 1), (Use::Member, 2), (Use::Member, 3), (Use::Member, 4)];

fn departure(street: &mut Fixture, number: u8, from: i64) -> VerifiedEntry {
    let body = Body::Departure { home: home(number), from: street.interval(from) };
    street.verified(body, (Use::Member, number), &[OPERATOR])
}

/// Homes 1 to `homes`, of which the last leaves after interval 1.
fn leaving(homes: u8) -> Fixture {
    let mut street = Fixture::new(homes);
    street.baselines(homes);
    let entry = departure(&mut street, homes, 2);
    street.after(2, &[entry]);
    street
}

#[test]
fn a_member_that_left_is_settled_to_its_last_interval_and_counts_in_no_later_one() {
    let mut street = leaving(3);
    let mut entries = Vec::new();
    for offset in 0..2 {
        entries.push(street.read(1, offset, 0, 500));
        entries.push(street.read(3, offset, 200, 0));
    }
    // The reading at the moment it leaves comes after it left, and settles as ever.
    street.after(40, &entries);
    street.after(60, &[]);
    assert_eq!(street.settled(3, 1).metered.unwrap().import, wh(200));
    assert_eq!(street.community(1).unwrap().1.homes, 3);
    let last = street.community(2).unwrap().1;
    assert_eq!((last.homes, last.missing), (2, 2), "of the two that stayed nobody has read yet");
    assert!(street.outcomes_of(3, 2, ledger::OutcomeKind::Settled).is_empty());
    let after = street.read(3, 2, 50, 0);
    assert_eq!(
        street.refusal(at(61), &after),
        EntryError::NoMemberIn { home: home(3), interval: street.interval(2) }
    );
    assert_eq!(street.ledger.leaves(&home(3)), Some(street.interval(2)));
    assert_eq!(street.ledger.leaves(&home(1)), None);
}

#[test]
fn what_a_leaving_member_still_owes_in_readings_may_come_late() {
    let mut street = leaving(2);
    let first = street.read(2, 0, 100, 0);
    street.after(16, &[first]);
    street.after(120, &[]);
    let last = street.read(2, 1, 70, 0);
    street.after(121, &[last]);
    assert_eq!(street.late(2, 1).amount, nano(-70 * 300_000));
}

#[test]
fn totals_become_secret_when_a_departure_leaves_too_few_homes() {
    for (leaves, public) in [(false, true), (true, false)] {
        let mut street = Fixture::new(15);
        street.baselines(15);
        if leaves {
            let entry = departure(&mut street, 15, 1);
            street.after(2, &[entry]);
        }
        let homes = if leaves { 14 } else { 15 };
        let mut entries: Vec<_> = (1..=15).map(|number| street.read(number, 0, 0, 0)).collect();
        entries.extend((1..=homes).map(|number| match number % 2 {
            0 => street.read(number, 1, 100, 0),
            _ => street.read(number, 1, 0, 100),
        }));
        street.after(31, &entries);
        street.after(45, &[]);
        let outcome = street.community(1).unwrap().1;
        assert_eq!((outcome.homes, outcome.public), (u32::from(homes), public));
    }
}

#[test]
fn the_balance_of_one_who_left_stays_until_it_is_withdrawn_and_claims_are_paid_first() {
    let mut street = Fixture::with(2, |genesis| genesis.members[1].deposit = Balance::ZERO);
    street.baselines(2);
    let entry = departure(&mut street, 2, 1);
    street.after(2, &[entry]);
    let reading = street.read(2, 0, 100, 0);
    street.after(30, &[reading]);
    let owed = 100 * 300_000;
    assert_eq!(street.ledger.claim(&account(2), &Account::Supplier).get(), owed);
    let deposit =
        Body::Deposit { home: Some(home(2)), amount: Balance::new(owed + 9), reference: String::new() };
    let deposit = street.verified(deposit, TREASURER, &[]);
    street.after(60, &[deposit]);
    assert_eq!((street.balance(2), street.ledger.claim(&account(2), &Account::Supplier).get()), (9, 0));
    let out = |amount| Body::Withdrawal {
        home: Some(home(2)),
        amount: Balance::new(amount),
        reference: String::new(),
    };
    let neighbour = street.verified(out(9), TREASURER, &[(Use::Member, 1)]);
    assert!(matches!(street.refusal(at(61), &neighbour), EntryError::NotEntitled { .. }));
    let own = street.verified(out(9), TREASURER, &[(Use::Member, 2)]);
    street.after(61, &[own]);
    assert_eq!(street.balance(2), 0);
}

#[test]
fn a_departure_needs_both_signatures_comes_before_its_interval_and_only_once() {
    let mut street = Fixture::new(3);
    let body = Body::Departure { home: home(3), from: street.interval(2) };
    let alone = street.verified(body.clone(), (Use::Member, 3), &[]);
    assert!(matches!(street.refusal(at(1), &alone), EntryError::NotEntitled { needed: "the operator", .. }));
    let pushed_out = street.verified(body, OPERATOR, &[TREASURER, AUDITOR]);
    assert!(matches!(
        street.refusal(at(1), &pushed_out),
        EntryError::NotEntitled { needed: "the member", .. }
    ));
    let backwards = departure(&mut street, 3, 0);
    assert!(matches!(street.refusal(at(1), &backwards), EntryError::Retroactive { .. }));
    let right = departure(&mut street, 3, 2);
    street.block(at(1), &[right]);
    let again = departure(&mut street, 3, 9);
    assert_eq!(
        street.refusal(at(2), &again),
        EntryError::NoMemberIn { home: home(3), interval: street.interval(2) }
    );
}

#[test]
fn keys_and_serial_number_of_one_who_left_are_never_used_again() {
    let mut street = Fixture::new(4);
    let entry = departure(&mut street, 4, 1);
    street.block(at(1), &[entry]);
    street.idle_until(60);
    let mut admitted = |change: &dyn Fn(&mut ledger::Admission)| {
        let mut new = admission(5);
        change(&mut new);
        let entry = street.verified(Body::Admission(new), OPERATOR, &DELEGATES);
        street.refusal(at(60), &entry)
    };
    assert!(matches!(
        admitted(&|new| new.keys.member = admission(4).keys.member),
        EntryError::KeyInUse { .. }
    ));
    assert!(matches!(admitted(&|new| new.meter = registration(4, 1)), EntryError::Malformed { .. }));
    assert_eq!(admitted(&|new| new.home = home(4)), EntryError::AlreadyMember { home: home(4) });
}

#[test]
fn a_delegate_that_leaves_keeps_its_seat() {
    let mut street = Fixture::new(4);
    let before = street.ledger.delegates().clone();
    let entry = departure(&mut street, 4, 1);
    street.block(at(1), &[entry]);
    street.idle_until(60);
    assert_eq!(*street.ledger.delegates(), before);
}

#[test]
fn the_share_of_one_who_left_is_free_for_others_from_then_on() {
    let mut street = Fixture::with(2, |genesis| {
        genesis.members[0].participation.share_permyriad = 4_000;
        genesis.members[1].participation.share_permyriad = 6_000;
    });
    let entry = departure(&mut street, 2, 4);
    street.block(at(1), &[entry]);
    let more = |street: &mut Fixture, from| {
        let participation = ledger::Participation { share_permyriad: 10_000, permille: 1_000 };
        let body = Body::ParticipationChange { home: home(1), from: street.interval(from), participation };
        street.verified(body, (Use::Member, 1), &[OPERATOR])
    };
    let early = more(&mut street, 3);
    assert!(matches!(street.refusal(at(2), &early), EntryError::Shares { sum: 16_000, .. }));
    let right = more(&mut street, 4);
    street.block(at(2), &[right]);
    let body = Body::ParticipationChange {
        home: home(2),
        from: street.interval(5),
        participation: ledger::Participation::default(),
    };
    let gone = street.verified(body, (Use::Member, 2), &[OPERATOR]);
    assert!(matches!(street.refusal(at(3), &gone), EntryError::NoMemberIn { .. }));
}

/// What became of orders so far.
fn results(street: &Fixture) -> Vec<OrderOutcome> {
    let of = street.outcomes().filter_map(|(_, outcome)| match outcome {
        Outcome::Order(of) => Some(of.clone()),
        _ => None,
    });
    of.collect()
}

#[test]
fn open_orders_of_one_who_leaves_are_taken_back_and_their_reserve_is_free() {
    let mut street = Fixture::with(2, |genesis| genesis.forward = Forward::Auction);
    street.baselines(2);
    let order = |street: &mut Fixture, offset| {
        let order = Order {
            home: home(2),
            interval: street.interval(offset),
            side: Side::Buy,
            price: Price::new(200_000),
            quantity: wh(1_000),
            replaces: None,
        };
        street.verified(Body::Order(order), (Use::Member, 2), &[])
    };
    let entries = [order(&mut street, 3), order(&mut street, 5)];
    street.after(2, &entries);
    let before = street.ledger.reserved(&home(2)).get();
    assert!(before > 0);
    let entry = departure(&mut street, 2, 4);
    street.after(3, &[entry]);
    assert_eq!(street.ledger.reserved(&home(2)).get(), before / 2);
    let ended = results(&street);
    assert_eq!(ended.len(), 1, "at once, not at a gate at which it does not stand any more");
    assert_eq!((ended[0].order, ended[0].interval), (entries[1].id(), street.interval(5)));
    assert_eq!((ended[0].result(), ended[0].quantity), (OrderResult::Unfilled, wh(1_000)));
    street.idle_until(120);
    assert_eq!(street.ledger.reserved(&home(2)).get(), 0);
    let ended: Vec<_> = results(&street).into_iter().map(|of| (of.order, of.result())).collect();
    let unfilled = |place: usize| (entries[place].id(), OrderResult::Unfilled);
    assert_eq!(ended, [unfilled(1), unfilled(0)], "every order has one result");
    let salts: std::collections::BTreeSet<_> = results(&street).iter().map(|of| of.salt.0).collect();
    assert_eq!(salts.len(), 2);
    let closed = departure(&mut street, 1, 9);
    assert!(street.refusal(at(131), &closed).to_string().contains("gate"), "its gate closed at 130");
}

#[test]
fn a_home_that_joins_and_one_that_leaves_at_a_months_end_are_settled_in_their_month() {
    let june = energy::Timestamp::parse("2026-06-30T22:00:00Z").unwrap();
    let mut street = Fixture::with(4, |genesis| genesis.start = june);
    street.baselines(4);
    // July begins with interval 8. Home 4 leaves then, home 5 joins then: admitted a little before.
    let leave = departure(&mut street, 4, 8);
    let join = street.verified(Body::Admission(admission(5)), OPERATOR, &DELEGATES);
    street.after(110, &[leave, join]);
    let mut entries: Vec<_> = (0..8).map(|offset| street.read(4, offset, 10, 0)).collect();
    let too_early = street.read(5, 5, 7_000, 0);
    assert!(matches!(street.refusal(street.time(111), &too_early), EntryError::NoMemberIn { .. }));
    entries.push(street.read(5, 7, 0, 0));
    entries.push(street.read(5, 8, 30, 0));
    street.after(136, &entries);
    street.after(170, &[]);
    let of = |number: u8| {
        let mut found: Vec<_> = street
            .outcomes()
            .filter_map(|(_, outcome)| match outcome {
                Outcome::Home(of) if of.home == home(number) && of.metered.is_some() => {
                    Some((of.interval, of.metered.unwrap().import.get()))
                }
                _ => None,
            })
            .collect();
        found.sort();
        found
    };
    assert_eq!(of(4), (0..8).map(|offset| (street.interval(offset), 10)).collect::<Vec<_>>());
    assert_eq!(of(5), [(street.interval(8), 30)], "nothing before July: its first reading is a baseline");
    let homes = |offset| street.community(offset).unwrap().1.homes;
    assert_eq!([6, 7, 8].map(homes), [4, 5, 4], "admitted in interval 7");
}

#[test]
fn the_operators_readings_of_one_who_left_end_where_it_left() {
    let mut street = Fixture::with(2, |genesis| {
        genesis.market.reading_source = ReadingSource::MeteringOperator;
        genesis.due_after_ms = 7_200_000;
    });
    let entry = departure(&mut street, 2, 2);
    street.block(at(1), &[entry]);
    street.idle_until(60);
    let delivery = |street: &mut Fixture, count| {
        let points = vec![Metered { import: wh(5), export: wh(0) }; count];
        let body = Body::OperatorReading { home: home(2), from: street.interval(0), points };
        street.verified(body, METERING, &[])
    };
    let over = delivery(&mut street, 3);
    assert!(matches!(street.refusal(at(60), &over), EntryError::NoMemberIn { .. }));
    let right = delivery(&mut street, 2);
    street.after(60, &[right]);
    street.after(200, &[]);
    assert_eq!(street.settled(2, 1).metered.unwrap().import, wh(5));
    assert_eq!(street.community(2).unwrap().1.homes, 1);
}
