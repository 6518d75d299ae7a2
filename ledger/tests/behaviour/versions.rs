//! How a running chain goes over to other rules.

use ledger::{BlockError, Body, EntryError, Ledger, RULE_VERSION, VerifiedEntry};

use crate::fixture::*;
use crate::town::Town;

const NEXT: u16 = RULE_VERSION + 1;

/// Eight homes, of which 1 to 4 decide, in a program that has the next rules, too.
fn newer() -> Town {
    let mut town = Town::new(8);
    town.street.ledger = town.street.ledger.clone().knowing(NEXT);
    town
}

fn signal(town: &mut Town, number: u8, version: u16) -> VerifiedEntry {
    let body = Body::RuleSignal { home: home(number), version };
    town.street.verified(body, (Use::Member, number), &[])
}

fn signals(town: &mut Town, homes: &[u8], version: u16) -> Vec<VerifiedEntry> {
    homes.iter().map(|number| signal(town, *number, version)).collect()
}

#[test]
fn two_thirds_of_delegates_and_members_over_two_epochs_bring_the_next_rules_at_an_epochs_start() {
    let mut town = newer();
    let entries = signals(&mut town, &[1, 2, 3, 5, 6, 7], NEXT);
    town.epoch_of(&entries);
    assert_eq!((town.ledger().rule_version(), town.ledger().coming_rules()), (RULE_VERSION, Some(NEXT)));
    town.epoch(&[]);
    assert_eq!((town.ledger().rule_version(), town.ledger().coming_rules()), (NEXT, None));
    let last = town.street.blocks.last().unwrap();
    assert_eq!(last.block.header.rule_version, RULE_VERSION, "the epoch's last block is of the old rules");
    assert_eq!(town.block(&[]).block.header.rule_version, NEXT);
    assert_eq!(town.ledger().signalled(&home(5)), Some(NEXT));
    assert_eq!(town.ledger().signalled(&home(8)), None);
}

#[test]
fn too_few_delegates_or_members_change_nothing() {
    // Five of eight members, among them all delegates; six of eight, among them two of four delegates.
    for homes in [&[1, 2, 3, 4, 5][..], &[1, 2, 5, 6, 7, 8][..]] {
        let mut town = newer();
        let entries = signals(&mut town, homes, NEXT);
        town.epoch_of(&entries);
        town.epoch(&[]);
        town.epoch(&[]);
        assert_eq!((town.ledger().rule_version(), town.ledger().coming_rules()), (RULE_VERSION, None));
    }
}

#[test]
fn who_takes_its_word_back_before_the_second_epoch_ends_stops_it() {
    let mut town = newer();
    let entries = signals(&mut town, &[1, 2, 3, 4, 5, 6], NEXT);
    town.epoch_of(&entries);
    assert_eq!(town.ledger().coming_rules(), Some(NEXT));
    let entries = [signal(&mut town, 6, RULE_VERSION)];
    town.epoch_of(&entries);
    assert_eq!((town.ledger().rule_version(), town.ledger().coming_rules()), (RULE_VERSION, None));
    let entries = [signal(&mut town, 6, NEXT)];
    town.epoch_of(&entries);
    assert_eq!(town.ledger().rule_version(), RULE_VERSION, "two epochs, counted anew");
    town.epoch(&[]);
    assert_eq!(town.ledger().rule_version(), NEXT);
}

#[test]
fn a_later_version_counts_for_every_one_before_it() {
    let mut town = newer();
    town.street.ledger = town.street.ledger.clone().knowing(NEXT + 1);
    let mut entries = signals(&mut town, &[1, 2, 3], NEXT);
    entries.extend(signals(&mut town, &[4, 5, 6], NEXT + 1));
    town.epoch_of(&entries);
    town.epoch(&[]);
    assert_eq!(town.ledger().rule_version(), NEXT);
}

#[test]
fn a_program_without_the_rules_in_force_stops_before_their_first_block_and_says_so() {
    let mut town = newer();
    let entries = signals(&mut town, &[1, 2, 3, 4, 5, 6], NEXT);
    town.epoch_of(&entries);
    town.epoch(&[]);
    let last = town.ledger().height();
    town.block(&[]);
    // The same blocks in a program that has the present rules only.
    let mut older = Ledger::genesis(&town.street.genesis).unwrap();
    for executed in &town.street.blocks[..usize::try_from(last).unwrap()] {
        older = older.execute(&executed.block).unwrap().ledger;
        assert_eq!(older.state_root(), executed.block.header.state_root);
    }
    assert_eq!(older.unknown_rules(), Some(NEXT));
    let next = &town.street.blocks.last().unwrap().block;
    let refused = older.execute(next).unwrap_err();
    assert!(
        matches!(refused, BlockError::UnknownRules { needed: NEXT, known: RULE_VERSION, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("update it"));
    let time = older.head_time().plus_ms(1);
    assert!(matches!(older.propose(time, &[]), Err(BlockError::UnknownRules { .. })));
    // Its state is that of all others, and an update goes on with it.
    let restored = Ledger::restore(&town.street.genesis, &older.snapshot()).unwrap();
    assert_eq!(restored.unknown_rules(), Some(NEXT));
    assert!(restored.knowing(NEXT).execute(next).is_ok());
}

#[test]
fn a_block_by_other_rules_than_those_in_force_is_refused() {
    let mut town = newer();
    let mut block = town.block(&[]).block.clone();
    block.header.rule_version = NEXT;
    let before = Ledger::genesis(&town.street.genesis).unwrap().knowing(NEXT);
    let refused = before.execute(&block).unwrap_err().to_string();
    assert!(refused.contains("other rules than those in force"), "{refused}");
}

#[test]
fn a_signal_is_the_members_own_and_says_something_new() {
    let mut town = newer();
    let entries = signals(&mut town, &[1], NEXT);
    town.block(&entries);
    let time = town.ledger().head_time().plus_ms(1);
    let again = signal(&mut town, 1, NEXT);
    assert!(matches!(town.street.refusal(time, &again), EntryError::Malformed { .. }));
    let body = Body::RuleSignal { home: home(2), version: NEXT };
    let others = town.street.verified(body, (Use::Member, 3), &[]);
    assert!(matches!(town.street.refusal(time, &others), EntryError::NotEntitled { .. }));
}
