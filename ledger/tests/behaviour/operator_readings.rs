use ledger::{Body, EntryError, Outcome, OutcomeKind, Proposed, ReadingSource, VerifiedEntry};
use market::{Metered, PostingKind};

use crate::fixture::*;

/// The operator's readings settle, two hours after an interval's end: interval 0 at 135 minutes.
fn street(homes: u8) -> Fixture {
    let mut street = Fixture::with(homes, |genesis| {
        genesis.market.reading_source = ReadingSource::MeteringOperator;
        genesis.due_after_ms = 7_200_000;
    });
    street.baselines(homes);
    street
}

fn delivered(street: &mut Fixture, number: u8, from: i64, points: &[(u64, u64)]) -> VerifiedEntry {
    let points =
        points.iter().map(|(import, export)| Metered { import: wh(*import), export: wh(*export) }).collect();
    let body = Body::OperatorReading { home: home(number), from: street.interval(from), points };
    street.verified(body, METERING, &[])
}

fn metered(import: u64, export: u64) -> Option<Metered> {
    Some(Metered { import: wh(import), export: wh(export) })
}

#[test]
fn what_the_operator_delivers_is_what_settles_and_not_what_the_nodes_read() {
    let mut street = street(2);
    let nodes = [street.read(1, 0, 0, 480), street.read(2, 0, 290, 0)];
    street.after(16, &nodes);
    let operator = [delivered(&mut street, 1, 0, &[(0, 500)]), delivered(&mut street, 2, 0, &[(300, 0)])];
    street.after(60, &operator);
    assert_eq!(street.ledger.next_deadline(), at(135));
    street.after(135, &[]);
    let (seller, buyer) = (street.settled(1, 0), street.settled(2, 0));
    assert_eq!((seller.metered, buyer.metered), (metered(0, 500), metered(300, 0)));
    assert_eq!(buyer.amount, nano(-300 * 175_000));
    assert_eq!(i128::from(street.balance(1) - DEPOSIT), seller.amount.get());
    assert_eq!(street.community(0).unwrap().1.missing, 0);
}

#[test]
fn the_nodes_readings_give_a_provisional_result_once_and_no_money_moves() {
    let mut street = street(2);
    let nodes = [street.read(1, 0, 0, 480), street.read(2, 0, 290, 0)];
    street.after(16, &nodes);
    street.idle_until(30);
    assert!(street.ledger.deadline_at(at(30)) && !street.ledger.deadline_at(at(30).minus_ms(1)));
    assert_eq!(street.ledger.next_due(), at(30));
    let executed = street.block(at(30), &[]).clone();
    assert!(executed.postings.is_empty());
    assert_eq!(executed.outcomes.len(), 2, "a result for each home, and none for the community");
    let (seller, buyer) =
        (street.outcome(1, 0, OutcomeKind::Provisional), street.outcome(2, 0, OutcomeKind::Provisional));
    assert_eq!((seller.metered, seller.matched.sold), (metered(0, 480), wh(290)));
    assert_eq!((buyer.amount, buyer.baseline), (nano(-290 * 175_000), nano(-290 * 300_000)));
    assert_eq!((street.balance(1), street.balance(2)), (DEPOSIT, DEPOSIT));
    assert!(street.community(0).is_none());
    let operator = [delivered(&mut street, 1, 0, &[(0, 500)]), delivered(&mut street, 2, 0, &[(300, 0)])];
    street.after(135, &operator);
    for number in [1, 2] {
        assert_eq!(street.outcomes_of(number, 0, OutcomeKind::Provisional).len(), 1);
        assert_eq!(street.outcomes_of(number, 0, OutcomeKind::Settled).len(), 1);
    }
    let salts = [OutcomeKind::Provisional, OutcomeKind::Settled].map(|kind| street.outcome(1, 0, kind).salt);
    assert_ne!(salts[0], salts[1]);
}

#[test]
fn a_node_that_reads_too_late_has_no_part_in_the_provisional_result() {
    let mut street = street(2);
    let first = street.read(1, 0, 0, 480);
    street.after(16, &[first]);
    street.after(30, &[]);
    assert_eq!(street.outcome(2, 0, OutcomeKind::Provisional).metered, None);
    // Its lump still counts for the interval that has no provisional result yet.
    let lump = street.read(2, 1, 300, 0);
    street.after(31, &[lump]);
    street.after(45, &[]);
    assert_eq!(street.outcomes_of(2, 0, OutcomeKind::Provisional).len(), 1);
    assert_eq!(street.outcome(2, 1, OutcomeKind::Provisional).metered, metered(150, 0));
}

#[test]
fn with_the_operators_readings_due_as_early_there_is_no_provisional_result() {
    let mut street = Fixture::with(2, |genesis| {
        genesis.market.reading_source = ReadingSource::MeteringOperator;
    });
    street.baselines(2);
    let entries = [street.read(1, 0, 0, 480), delivered(&mut street, 1, 0, &[(0, 500)])];
    street.after(30, &entries);
    assert_eq!(street.settled(1, 0).metered, metered(0, 500));
    let provisional =
        |outcome: &Outcome| matches!(outcome, Outcome::Home(of) if of.kind == OutcomeKind::Provisional);
    assert!(!street.outcomes().any(|(_, outcome)| provisional(outcome)));
}

#[test]
fn after_an_outage_what_settles_at_once_gets_no_provisional_result() {
    let mut street = street(2);
    let entry = delivered(&mut street, 1, 0, &[(0, 500)]);
    street.after(20, &[entry]);
    street.block(at(200), &[]);
    let executed = street.block(at(210), &[]).clone();
    let kinds = |offset| {
        let interval = street.interval(offset);
        let of = |outcome: &Outcome| match outcome {
            Outcome::Home(of) if of.interval == interval => Some(of.kind),
            _ => None,
        };
        executed.outcomes.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(kinds(0), [OutcomeKind::Settled; 2]);
    assert_eq!(kinds(4), [OutcomeKind::Settled; 2], "due at 195");
    assert_eq!(kinds(5), [OutcomeKind::Settled; 2], "due at 210, in this very block");
    assert_eq!(kinds(6), [OutcomeKind::Provisional; 2]);
    assert_eq!(kinds(12), [OutcomeKind::Provisional; 2]);
    assert_eq!(kinds(13), [], "not yet");
}

#[test]
fn before_the_deadline_the_newest_delivery_counts() {
    let mut street = street(2);
    let first = delivered(&mut street, 2, 0, &[(900, 7), (100, 0), (100, 0)]);
    street.after(60, &[first]);
    let second = delivered(&mut street, 2, 0, &[(300, 0), (120, 0)]);
    street.after(61, &[second]);
    street.after(165, &[]);
    let found = [0, 1, 2].map(|offset| street.settled(2, offset).metered);
    assert_eq!(found, [metered(300, 0), metered(120, 0), metered(100, 0)]);
}

#[test]
fn a_delivery_after_the_deadline_settles_what_was_missing_late_and_once() {
    let mut street = street(2);
    let first = delivered(&mut street, 1, 0, &[(0, 500)]);
    street.after(60, &[first]);
    street.after(135, &[]);
    assert_eq!((street.settled(2, 0).metered, street.community(0).unwrap().1.missing), (None, 1));
    let body =
        Body::Correction { home: home(2), interval: street.interval(0), import_delta: 0, export_delta: 1 };
    let correction = street.verified(body, METERING, &[OPERATOR]);
    assert!(matches!(street.refusal(at(136), &correction), EntryError::NotRead { .. }), "it may still come");
    // Late for interval 0, in time for 1.
    let late = delivered(&mut street, 2, 0, &[(300, 0), (200, 0)]);
    let executed = street.after(136, &[late]).clone();
    assert!(executed.postings.iter().all(|posting| posting.kind == PostingKind::Late));
    assert_eq!(street.late(2, 0).amount, nano(-300 * 300_000), "with the supplier alone");
    let again = delivered(&mut street, 2, 0, &[(300, 0)]);
    assert_eq!(
        street.refusal(at(137), &again),
        EntryError::SettledAlready { home: home(2), interval: street.interval(0) }
    );
    let settled = delivered(&mut street, 1, 0, &[(0, 501)]);
    assert!(street.refusal(at(137), &settled).to_string().contains("a correction"));
    street.after(150, &[]);
    assert_eq!(street.settled(2, 1).metered, metered(200, 0));
    let body =
        Body::Correction { home: home(1), interval: street.interval(0), import_delta: 0, export_delta: 1 };
    let correction = street.verified(body, METERING, &[OPERATOR]);
    street.after(151, &[correction]);
    assert_eq!(street.outcome(1, 0, OutcomeKind::Correction).amount, nano(80_000));
}

#[test]
fn a_delivery_that_is_refused_in_one_interval_is_refused_whole() {
    let mut street = street(2);
    let entries = [delivered(&mut street, 1, 0, &[(0, 500)]), delivered(&mut street, 2, 1, &[(10, 0)])];
    street.after(60, &entries);
    street.after(135, &[]);
    let both = delivered(&mut street, 1, 0, &[(0, 400), (0, 400)]);
    assert!(matches!(street.refusal(at(136), &both), EntryError::SettledAlready { .. }));
    street.after(150, &[]);
    assert_eq!(street.settled(1, 1).metered, None);
}

#[test]
fn only_the_metering_operator_delivers_and_only_what_can_have_been_metered() {
    let mut street = street(2);
    street.idle_until(40);
    let body = Body::OperatorReading {
        home: home(1),
        from: street.interval(0),
        points: vec![Metered { import: wh(1), export: wh(0) }],
    };
    for signer in [OPERATOR, TREASURER, (Use::Member, 1), (Use::Reading, 1)] {
        let foreign = street.verified(body.clone(), signer, &[METERING]);
        assert!(matches!(
            street.refusal(at(40), &foreign),
            EntryError::NotEntitled { needed: "the metering operator", .. }
        ));
    }
    let mut refused = |number, from, points: &[(u64, u64)]| {
        let entry = delivered(&mut street, number, from, points);
        street.refusal(at(40), &entry)
    };
    assert_eq!(refused(9, 0, &[(1, 0)]), EntryError::UnknownHome { home: home(9) });
    assert!(matches!(refused(1, 0, &[]), EntryError::Malformed { .. }));
    assert!(
        matches!(refused(1, 1, &[(1, 0), (1, 0)]), EntryError::FromTheFuture { .. }),
        "interval 2 is not over"
    );
    assert!(matches!(refused(1, -1, &[(1, 0)]), EntryError::TooOld { .. }));
    for point in [(1_000_001, 0), (0, 1_000_001)] {
        assert!(matches!(refused(1, 0, &[(5, 5), point]), EntryError::Implausible { .. }));
    }
    let mut nodes_only = Fixture::new(2);
    let entry = nodes_only.verified(body, METERING, &[]);
    nodes_only.idle_until(40);
    let error = nodes_only.refusal(at(40), &entry);
    assert_eq!(error, EntryError::OtherSource);
    assert!(error.to_string().contains("market.reading_source = \"node\""));
}

#[test]
fn a_day_of_quarter_hours_for_two_days_fits_one_delivery_and_settles_each_once() {
    let mut street = Fixture::with(1, |genesis| {
        genesis.market.reading_source = ReadingSource::MeteringOperator;
        genesis.due_after_ms = 5 * 86_400_000;
    });
    let minutes = 192 * 15;
    let points: Vec<_> = (0..192).map(|point| (100 + point, point % 3)).collect();
    let entry = delivered(&mut street, 1, 0, &points);
    assert!(entry.bytes().len() <= ledger::ENTRY_BYTES_MAX, "{}", entry.bytes().len());
    street.block(at(minutes), &[entry]);
    // Two blocks a day: after a gap the first waits for readings, the second settles.
    for day in 5..=7 {
        street.block(at(day * 1440 + 720), &[]);
        street.block(at(day * 1440 + 730), &[]);
    }
    for (offset, (import, export)) in (0..).zip(points) {
        assert_eq!(street.settled(1, offset).metered, metered(import, export));
    }
}

#[test]
fn the_nodes_own_chain_of_records_is_kept_as_ever() {
    let mut street = street(1);
    let (first, second) = (street.read(1, 0, 10, 0), street.read(1, 1, 10, 0));
    street.after(31, std::slice::from_ref(&second));
    assert!(matches!(
        street.refusal(at(32), &first),
        EntryError::NumberUsed { .. } | EntryError::BrokenChain { .. }
    ));
    assert!(matches!(street.refusal(at(32), &second), EntryError::NumberUsed { .. }));
    let readings = street.blocks.iter().map(|executed| executed.readings.len()).sum::<usize>();
    assert_eq!(readings, 2, "the baseline and the second");
}

#[test]
fn deliveries_for_different_homes_in_any_order_give_the_same_state() {
    let mut street = street(3);
    street.idle_until(40);
    let bodies: Vec<_> = (1..=3)
        .map(|number| delivered(&mut street, number, 0, &[(u64::from(number) * 100, 5)]).entry().body.clone())
        .collect();
    let results: Vec<_> = [[0, 1, 2], [2, 1, 0], [1, 2, 0]]
        .map(|order| {
            let entries: Vec<_> =
                order.iter().map(|at| street.verified(bodies[*at].clone(), METERING, &[])).collect();
            let mut ledger = street.ledger.propose(at(40), &entries).unwrap().executed.ledger;
            while ledger.next_to_settle() < street.interval(1) {
                ledger = ledger.propose(ledger.head_time().plus_ms(300_000), &[]).unwrap().executed.ledger;
            }
            [1, 2, 3].map(|number| ledger.balance(&account(number)))
        })
        .into_iter()
        .collect();
    assert!(results.iter().all(|balances| *balances == results[0]));
    assert_ne!(results[0][0].get(), DEPOSIT);
}

#[test]
fn a_block_settles_only_so_many_late_readings_and_the_next_one_takes_the_rest() {
    // 192 intervals of 90 homes are more than a block settles late.
    let homes = 90;
    let mut street = Fixture::with(homes, |genesis| {
        genesis.market.reading_source = ReadingSource::MeteringOperator;
    });
    // Two blocks a day: after a gap the first waits, the second settles.
    for hours in [24, 48, 50] {
        street.block(at(60 * hours), &[]);
        street.block(at(60 * hours + 10), &[]);
        while street.ledger.next_deadline() <= street.ledger.head_time() {
            street.block(street.ledger.head_time().plus_ms(1_000), &[]);
        }
    }
    assert!(street.ledger.next_to_settle() >= street.interval(192));
    let points = [(1, 0); 192];
    let entries: Vec<_> = (1..=homes).map(|number| delivered(&mut street, number, 0, &points)).collect();
    let time = street.ledger.head_time().plus_ms(1_000);
    let limits = ledger::StandingLimits::default();
    let other = street.verified(Body::StandingLimits { home: home(1), limits }, (Use::Member, 1), &[]);
    let Proposed { executed, refused } = street.propose(time, &entries);
    assert!(refused.len() >= 4 && refused.iter().all(|(_, error)| *error == EntryError::BlockFull));
    let left: Vec<_> =
        entries.iter().filter(|entry| refused.iter().any(|(id, _)| *id == entry.id())).cloned().collect();
    assert!(left.iter().all(|entry| executed.lacked_room_for(entry)));
    assert!(!executed.lacked_room_for(&other), "what settles nothing has room");
    let rest = street.block(time.plus_ms(1_000), &left).clone();
    assert!(!rest.lacked_room_for(&entries[0]), "and so have readings in the next block");
    assert_eq!(street.late(homes, 191).metered, metered(1, 0));
}

/// What the state grew by over 40 days in which the metering operator delivered nothing.
fn grown_without_readings(homes: u8) -> (Fixture, usize) {
    let mut street = street(homes);
    let before = street.ledger.snapshot().len();
    // Three blocks a day: after a gap the first waits, the others settle.
    for day in 1..=40 {
        for minutes in [0, 10, 11] {
            street.block(at(day * 1440 + minutes), &[]);
        }
    }
    assert!(street.ledger.next_to_settle() > street.interval(39 * 96));
    let grown = street.ledger.snapshot().len() - before;
    (street, grown)
}

#[test]
fn forty_days_without_readings_take_no_more_room_with_every_interval() {
    let ((_, of_two), (mut street, of_twelve)) = (grown_without_readings(2), grown_without_readings(12));
    // Prices are kept for all together; so the difference is what ten homes more need: a run of intervals each.
    assert!(of_twelve - of_two <= 10 * 64, "{} bytes for ten homes", of_twelve - of_two);
    // Each of those readings may still come, once, and settles its own interval.
    let late = delivered(&mut street, 12, 20 * 96, &[(300, 0), (200, 0)]);
    let time = street.ledger.head_time().plus_ms(60_000);
    street.block(time, &[late]);
    assert_eq!(
        [0, 1].map(|more| street.late(12, 20 * 96 + more).metered),
        [metered(300, 0), metered(200, 0)]
    );
    for (offset, settled) in
        [(20 * 96 - 1, false), (20 * 96, true), (20 * 96 + 1, true), (20 * 96 + 2, false)]
    {
        let again = delivered(&mut street, 12, offset, &[(1, 0)]);
        let found = street.ledger.check(&again, time.plus_ms(1));
        assert_eq!(matches!(found, Err(EntryError::SettledAlready { .. })), settled, "{offset}: {found:?}");
    }
}

#[test]
fn readings_that_never_came_are_forgotten_with_their_prices() {
    let (mut street, _) = grown_without_readings(1);
    let hole = delivered(&mut street, 1, 30 * 96, &[(5, 0)]);
    street.block(street.ledger.head_time().plus_ms(60_000), &[hole]);
    for day in 41..=92 {
        for minutes in [0, 10, 11] {
            street.block(at(day * 1440 + minutes), &[]);
        }
    }
    assert!(
        street.ledger.next_to_settle() > street.interval(90 * 96 + 1),
        "intervals before day 30 are forgotten"
    );
    let time = street.ledger.head_time().plus_ms(1);
    let old = delivered(&mut street, 1, 29 * 96, &[(1, 0)]);
    assert!(matches!(street.refusal(time, &old), EntryError::TooOld { .. }));
    let newer = delivered(&mut street, 1, 40 * 96, &[(1, 0)]);
    street.block(time, &[newer]);
    let restored = ledger::Ledger::restore(&street.genesis, &street.ledger.snapshot()).unwrap();
    assert_eq!(restored.state_root(), street.ledger.state_root());
}
