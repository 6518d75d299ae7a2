//! Who becomes a delegate, and how a seat is lost.

use std::collections::BTreeSet;

use ledger::{
    Ballot, BlockError, Body, Certificate, DelegateSet, ElectionResult, EntryError, Evidence, EvidenceError,
    Hash32, Ledger, PublicKey, SeatFate, SeatLoss, Signature, SignedProposal, Stake, Statement, TermKeys,
};
use proptest::prelude::*;

use crate::fixture::*;
use crate::town::{EPOCH, Town, term_key};

fn homes(numbers: &[u8]) -> BTreeSet<energy::HomeId> {
    numbers.iter().map(|number| home(*number)).collect()
}

const ALL: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// Eight homes, of which those given hold the seats of term 2; all of them stand again each epoch and vote for them.
fn elected(seats: [u8; 4]) -> Town {
    let mut town = Town::new(8);
    let mut entries: Vec<_> = ALL.iter().map(|number| town.stand(*number, 0)).collect();
    // Each of the four is approved by two, so all have seats.
    for number in ALL {
        entries.push(town.approve(number, &[seats[usize::from((number - 1) / 2)]]));
    }
    let first = town.epoch_of(&entries);
    assert_eq!(first.result, ElectionResult::Turnout, "votes of this epoch do not count at its end");
    assert_eq!(town.epoch(&ALL).result, ElectionResult::Elected);
    assert_eq!(town.seated(), homes(&seats));
    town
}

#[test]
fn without_votes_the_founders_stay() {
    let mut town = Town::new(8);
    for _ in 0..3 {
        let held = town.epoch(&ALL);
        assert_eq!((held.result, held.turnout_permille, held.term), (ElectionResult::Turnout, 0, 0));
        assert_eq!(held.seats.len(), 4);
    }
    assert_eq!(town.seated(), homes(&[1, 2, 3, 4]));
    town.replay();
}

#[test]
fn an_election_comes_with_the_first_block_after_a_day_and_96_blocks() {
    let mut street = Fixture::new(4);
    for minutes in 1..=95 {
        street.block(at(minutes), &[]);
    }
    street.block(at(1441), &[]);
    assert_eq!(street.ledger.epoch().number, 1, "block 96, a day and a minute later");
    for minutes in 0..95 {
        street.block(at(2885 + minutes), &[]);
    }
    assert_eq!(street.ledger.epoch().number, 1, "a day later, but 95 blocks");
    street.block(at(2990), &[]);
    let epoch = street.ledger.epoch();
    assert_eq!((epoch.number, epoch.after, epoch.start), (2, 192, at(2990)));
}

#[test]
fn a_vote_counts_two_epochs_later_and_until_then_the_former_one_does() {
    let mut town = elected([1, 2, 3, 5]);
    // Epoch 2: everybody turns to others.
    let mut entries = Vec::new();
    for number in ALL {
        entries.push(town.stand(number, 0));
        entries.push(town.approve(number, &[[4, 6, 7, 8][usize::from((number - 1) / 2)]]));
    }
    assert_eq!(town.epoch_of(&entries).result, ElectionResult::Elected);
    assert_eq!(town.seated(), homes(&[1, 2, 3, 5]), "the former votes");
    let state = town.ledger().ballot(&home(1)).unwrap();
    assert_eq!((state.counted, state.cast_in), (Ballot::Approve(homes(&[4])), 2));
    town.epoch(&ALL);
    assert_eq!(town.seated(), homes(&[4, 6, 7, 8]));
    town.replay();
}

#[test]
fn a_set_decides_from_two_heights_after_its_election_on() {
    let mut town = Town::new(8);
    let mut entries = town.all_approve(8, &[5, 6, 7]);
    entries.extend(ALL.map(|number| town.stand(number, 0)));
    town.epoch_of(&entries);
    town.epoch(&ALL);
    // The election was in the last block.
    let (founders, elected) =
        (town.ledger().last_delegates().clone(), town.ledger().next_delegates().clone());
    assert_eq!((founders.term(), elected.term()), (0, 2));
    assert_eq!(town.ledger().delegates(), &founders, "the next block is the old set's");
    town.block(&[]);
    assert_eq!((town.ledger().last_delegates(), town.ledger().delegates()), (&founders, &elected));
    let by_founders = town.certificate().unwrap();
    town.block(&[]);
    assert_eq!(town.ledger().last_delegates(), &elected);
    let chain = *town.ledger().chain();
    assert!(by_founders.verify(&chain, &founders).is_ok() && by_founders.verify(&chain, &elected).is_err());
    assert!(town.certificate().unwrap().verify(&chain, &elected).is_ok());
}

#[test]
fn who_follows_a_member_votes_as_it_does() {
    let mut town = Town::new(8);
    let mut entries = vec![town.approve(1, &[5, 6, 7])];
    entries.extend((2..=8).map(|number| town.vote(number, Ballot::Follow(home(1)))));
    entries.extend(ALL.map(|number| town.stand(number, 0)));
    town.epoch_of(&entries);
    let held = town.epoch(&ALL);
    assert_eq!((held.result, held.turnout_permille), (ElectionResult::Elected, 1000));
    assert!(town.seated().is_superset(&homes(&[5, 6, 7])));
    let error = |town: &mut Town, ballot: Ballot| {
        let vote = town.vote(1, ballot);
        town.street.refusal(town.ledger().head_time().plus_ms(1), &vote)
    };
    assert!(matches!(error(&mut town, Ballot::Follow(home(1))), EntryError::Malformed { .. }));
    assert_eq!(error(&mut town, Ballot::Follow(home(99))), EntryError::UnknownHome { home: home(99) });
    assert_eq!(
        error(&mut town, Ballot::Approve(homes(&[2, 99]))),
        EntryError::UnknownHome { home: home(99) }
    );
}

#[test]
fn who_opts_out_is_no_candidate_until_it_says_otherwise() {
    let mut town = Town::new(8);
    let mut entries = town.all_approve(8, &[5, 6, 7]);
    entries.push(town.opt_out(5));
    town.epoch_of(&entries);
    town.epoch(&[1, 2, 3, 4, 6, 7, 8]);
    assert!(town.ledger().has_opted_out(&home(5)) && !town.seated().contains(&home(5)));
    assert!(town.seated().is_superset(&homes(&[6, 7])));
    // Standing and then thinking better of it in one epoch.
    let entries = [town.stand(6, 0)];
    town.block(&entries);
    assert_eq!(town.ledger().candidates(), [home(6)]);
    let entries = [town.opt_out(6)];
    town.block(&entries);
    assert_eq!(town.ledger().candidates(), []);
    assert!(town.seated().contains(&home(6)), "its seat is its own until the next election");
    town.epoch(&ALL[..5]);
    assert!(town.seated().contains(&home(5)) && !town.ledger().has_opted_out(&home(5)));
    assert!(!town.seated().contains(&home(6)));
}

#[test]
fn below_half_of_the_votes_the_delegates_and_their_standbys_stay() {
    let mut town = elected([1, 2, 3, 5]);
    let (set, standbys) = (town.ledger().next_delegates().clone(), town.ledger().standbys().to_vec());
    let mut entries: Vec<_> = (1..=5).map(|number| town.approve(number, &[])).collect();
    entries.extend(ALL.map(|number| town.stand(number, 0)));
    assert_eq!(town.epoch_of(&entries).result, ElectionResult::Elected, "by the former votes");
    let held = town.epoch(&ALL);
    assert_eq!((held.result, held.turnout_permille), (ElectionResult::Turnout, 375));
    assert_eq!(town.ledger().next_delegates().term(), 3);
    // The last election that was held gave the seats of term 3; one more below half keeps them.
    let set_of_three = town.ledger().next_delegates().clone();
    assert_ne!(set_of_three, set, "the same homes, new keys");
    assert_eq!(town.epoch(&ALL).result, ElectionResult::Turnout);
    assert_eq!(town.ledger().next_delegates(), &set_of_three);
    assert_eq!(town.ledger().standbys().len(), standbys.len());
    let key = town.key_of(1);
    let evidence = town.evidence(&key, town.ledger().height());
    let report = town.report(8, evidence);
    town.block(&[report]);
    assert!(matches!(town.seat_outcomes()[0].fate, SeatFate::Replaced(_)), "with a key of term 3");
    town.replay();
}

#[test]
fn nobody_stands_and_the_delegates_stay() {
    let mut town = Town::new(8);
    let entries = town.all_approve(8, &[5, 6, 7]);
    town.epoch_of(&entries);
    let held = town.epoch(&[]);
    assert_eq!((held.result, held.candidates, held.term), (ElectionResult::Candidates, 0, 0));
}

#[test]
fn too_few_candidates_leave_a_set_that_bears_a_failure_in_place() {
    let mut town = Town::new(8);
    let votes = town.all_approve(8, &[5, 6, 7]);
    town.epoch_of(&votes);
    let held = town.epoch(&[5, 6, 7]);
    assert_eq!((held.result, held.candidates, held.seats.len()), (ElectionResult::Few, 3, 4));
    assert_eq!((held.term, held.faults), (0, 1));
    // A fourth candidate, and the seats are filled anew.
    let held = town.epoch(&[5, 6, 7, 8]);
    assert_eq!((held.result, held.seats.len()), (ElectionResult::Elected, 4));
    town.replay();
}

#[test]
fn an_owner_has_one_seat_whatever_its_homes() {
    let mut town = Town::with(12, |genesis| {
        for member in genesis.members.iter_mut().take(6) {
            member.admission.owner = "landlord".to_owned();
        }
    });
    let mut entries: Vec<_> = (1..=12).map(|number| town.approve(number, &[1, 2, 3])).collect();
    entries.extend((1..=12).map(|number| town.stand(number, 0)));
    town.epoch_of(&entries);
    let all: Vec<u8> = (1..=12).collect();
    let held = town.epoch(&all);
    assert_eq!(held.seats.len(), 7);
    assert_eq!(town.seated().iter().filter(|seat| **seat <= home(6)).count(), 1);
    assert_eq!(held.turnout_permille, 1000);
}

#[test]
fn candidates_prove_that_they_hold_fresh_keys() {
    let mut town = Town::new(8);
    let chain = *town.ledger().chain();
    let (own, cosigner) = (term_key(5, 1, 1, 0), term_key(5, 1, 2, 0));
    let body = |consensus: PublicKey, cosigner: PublicKey| Body::Candidacy {
        home: home(5),
        term: 1,
        keys: Some(TermKeys { consensus, cosigner }),
    };
    let unproven = body(PublicKey::of(&own), PublicKey::of(&cosigner));
    let half = town.street.signed(unproven.clone(), (Use::Member, 5), &[]).countersign(&chain, &own);
    for signed in [half, town.street.signed(unproven, (Use::Member, 5), &[])] {
        let entry = signed.verify(&chain).unwrap();
        let error = town.street.refusal(at(5), &entry);
        assert!(matches!(error, EntryError::NotEntitled { kind: "candidacy", .. }), "{error}");
    }
    // By another member.
    let foreign = body(PublicKey::of(&own), PublicKey::of(&cosigner));
    let foreign = town.street.signed(foreign, (Use::Member, 6), &[]);
    let foreign = foreign.countersign(&chain, &own).countersign(&chain, &cosigner).verify(&chain).unwrap();
    assert!(matches!(town.street.refusal(at(5), &foreign), EntryError::NotEntitled { .. }));
    // Keys that mean something else.
    let reused = [
        (key((Use::Member, 6)).signing(), cosigner.clone()),
        (own.clone(), key((Use::Reading, 5)).signing()),
        (key((Use::Term, 5)).signing(), key(OPERATOR).signing()),
        (key((Use::Term, 1)).signing(), cosigner.clone()),
        (own.clone(), key(ROOT_METER).signing()),
    ];
    for (consensus, cosigner) in reused {
        let entry = town.stand_with(5, 1, &[consensus, cosigner]);
        assert!(matches!(town.street.refusal(at(5), &entry), EntryError::KeyInUse { .. }));
    }
    let for_later = town.stand_with(5, 2, &[own, cosigner]);
    assert_eq!(town.street.refusal(at(5), &for_later), EntryError::OtherTerm { term: 2, coming: 1 });
}

#[test]
fn a_term_key_is_never_used_again_for_anything() {
    let mut town = Town::new(8);
    let used = [term_key(5, 1, 1, 0), term_key(5, 1, 2, 0)];
    town.epoch(&[5]);
    let soon = town.ledger().head_time().plus_ms(1);
    let (old, new) = (used.clone(), [term_key(5, 2, 1, 0), term_key(5, 2, 2, 0)]);
    for keys in [old.clone(), [new[0].clone(), old[0].clone()], [old[1].clone(), new[1].clone()]] {
        let entry = town.stand_with(5, 2, &keys);
        assert!(matches!(town.street.refusal(soon, &entry), EntryError::KeyInUse { .. }));
        let by_another = town.stand_with(6, 2, &keys);
        assert!(matches!(town.street.refusal(soon, &by_another), EntryError::KeyInUse { .. }));
    }
    let member = PublicKey::of(&used[1]);
    let keys = ledger::MemberKeys { member, ..admission(6).keys };
    let rotation = town.street.verified(Body::KeyRotation { home: home(6), keys }, (Use::Member, 6), &[]);
    assert_eq!(town.street.refusal(soon, &rotation), EntryError::KeyInUse { key: member });
    // Keys for one term may be changed, a few times.
    for change in 1..=9 {
        let entry = town.stand(5, change);
        town.block_after(1, &[entry]);
    }
    let entry = town.stand(5, 10);
    let soon = town.ledger().head_time().plus_ms(1);
    assert!(matches!(town.street.refusal(soon, &entry), EntryError::Malformed { .. }));
}

#[test]
fn who_contradicts_itself_is_replaced_two_heights_later_and_barred() {
    let mut town = elected([1, 2, 3, 5]);
    let (key, height) = (town.key_of(2), town.ledger().height());
    let standby = town.ledger().standbys()[0].clone();
    let evidence = town.evidence(&key, height);
    let balances: Vec<_> = ALL.iter().map(|number| town.street.balance(*number)).collect();
    let report = town.report(8, evidence.clone());
    town.block(&[report]);
    let seat = town.seat_outcomes()[0].clone();
    assert_eq!((seat.key, seat.reason), (key, SeatLoss::Equivocation));
    let new = town.ledger().next_delegates().of_home(&standby).unwrap().key;
    assert_eq!(seat.fate, SeatFate::Replaced(new));
    assert!(town.ledger().delegates().of_home(&home(2)).is_some(), "the next block is still its own");
    town.block(&[]);
    assert!(town.ledger().delegates().of_home(&home(2)).is_none());
    assert_eq!(town.ledger().delegates().len(), 4);
    // Once is enough, whoever says it.
    let again = town.report(7, evidence);
    let soon = town.ledger().head_time().plus_ms(1);
    let known = EntryError::Evidence(EvidenceError::Known { key });
    assert_eq!(town.street.refusal(soon, &again), known);
    // It may vote and trade, but not stand.
    let stand = town.stand(2, 0);
    let until = town.ledger().barred_until(&home(2)).unwrap();
    assert_eq!(town.street.refusal(soon, &stand), EntryError::Barred { home: home(2), until });
    let entries: Vec<_> = [1, 3, 4, 5, 6, 7, 8].map(|number| town.stand(number, 0)).into();
    let held = town.epoch_of(&entries);
    assert_eq!((held.result, held.candidates), (ElectionResult::Elected, 7));
    assert!(!town.seated().contains(&home(2)));
    let after: Vec<_> = ALL.iter().map(|number| town.street.balance(*number)).collect();
    assert_eq!(balances, after, "money is never punished");
    assert!(until > town.ledger().head_time().plus_ms(ledger::BARRED_MS - 86_400_000));
    town.replay();
}

#[test]
fn a_bar_ends_after_ninety_days() {
    let mut town = elected([1, 2, 3, 5]);
    let key = town.key_of(2);
    let evidence = town.evidence(&key, town.ledger().height());
    let report = town.report(8, evidence);
    town.block(&[report]);
    let until = town.ledger().barred_until(&home(2)).unwrap();
    town.block_after(ledger::BARRED_MS - 900_000, &[]);
    assert!(town.ledger().barred_until(&home(2)).is_some_and(|end| end == until));
    town.block_after(900_000, &[]);
    assert_eq!(town.ledger().barred_until(&home(2)), None);
    let stand = town.stand(2, 0);
    town.block(&[stand]);
}

#[test]
fn evidence_that_proves_nothing_is_refused() {
    let mut town = elected([1, 2, 3, 5]);
    let (key, other, height) = (town.key_of(2), town.key_of(3), town.ledger().height());
    let soon = town.ledger().head_time().plus_ms(1);
    let good = town.evidence(&key, height);
    let refusal = |town: &mut Town, evidence: Evidence| {
        let report = town.report(8, evidence);
        match town.street.refusal(soon, &report) {
            EntryError::Evidence(error) => error,
            error => panic!("{error}"),
        }
    };
    let pair =
        |first: &Statement, second: &Statement| Evidence { first: first.clone(), second: second.clone() };
    let said = |key: &PublicKey, height: u64, block: Option<u8>| town.statement(key, height, block);
    let Statement::Vote(nil) = good.second.clone() else { unreachable!() };
    let proposal = Statement::Proposal(SignedProposal {
        height,
        round: 1,
        block: ledger::BlockId(Hash32([1; 32])),
        valid_round: None,
        proposer: key,
        signature: Signature([0; 64]),
    });
    let mut other_round = nil.clone();
    other_round.round = 2;
    let mut other_kind = nil.clone();
    other_kind.kind = ledger::VoteKind::Precommit;
    let no_contradiction = [
        pair(&good.first, &good.first),
        pair(&good.first, &said(&other, height, None)),
        pair(&good.first, &said(&key, height - 1, None)),
        pair(&good.first, &Statement::Vote(other_round)),
        pair(&good.first, &Statement::Vote(other_kind)),
        pair(&good.first, &proposal),
    ];
    let mut forged = nil;
    forged.block = Some(ledger::BlockId(Hash32([2; 32])));
    let forged = pair(&good.first, &Statement::Vote(forged));
    let stranger = PublicKey::of(&term_key(5, 1, 2, 0));
    town.keys.insert(stranger, term_key(5, 1, 2, 0));
    let of_cosigner = town.evidence(&stranger, height);
    let ahead = town.evidence(&key, height + 2);
    for evidence in no_contradiction {
        assert_eq!(refusal(&mut town, evidence), EvidenceError::NoContradiction);
    }
    assert_eq!(refusal(&mut town, forged), EvidenceError::Forged);
    assert_eq!(refusal(&mut town, of_cosigner), EvidenceError::UnknownKey { key: stranger });
    let next = height + 1;
    assert_eq!(refusal(&mut town, ahead), EvidenceError::Ahead { height: height + 2, next });
    // Of another chain.
    let foreign = Town::with(8, |genesis| genesis.name = "Elsewhere".to_owned());
    let foreign = Town { keys: town.keys.clone(), ..foreign };
    let foreign = foreign.evidence(&key, height);
    assert_eq!(refusal(&mut town, foreign), EvidenceError::Forged);
    // By one who is no member.
    let report = town.street.verified(Body::Misbehaviour(good), OPERATOR, &[]);
    assert!(matches!(town.street.refusal(soon, &report), EntryError::NotEntitled { .. }));
}

#[test]
fn two_proposals_of_one_round_are_evidence() {
    let mut town = elected([1, 2, 3, 5]);
    let (key, height) = (town.key_of(2), town.ledger().height());
    let chain = *town.ledger().chain();
    let propose = |byte: u8| {
        let unsigned = SignedProposal {
            height,
            round: 0,
            block: ledger::BlockId(Hash32([byte; 32])),
            valid_round: None,
            proposer: key,
            signature: Signature([0; 64]),
        };
        let signature = Signature::sign(&town.keys[&key], &unsigned.signing_bytes(&chain));
        Statement::Proposal(SignedProposal { signature, ..unsigned })
    };
    let evidence = Evidence { first: propose(1), second: propose(2) };
    let report = town.report(2, evidence);
    town.block(&[report]);
    assert!(matches!(town.seat_outcomes()[0].fate, SeatFate::Replaced(_)));
}

#[test]
fn evidence_counts_in_its_epoch_and_the_two_after_it() {
    let mut town = elected([1, 2, 3, 5]);
    let (key, height) = (town.key_of(2), town.ledger().height() + 1);
    town.block(&[]);
    let evidence = town.evidence(&key, height);
    let before = town.evidence(&key, height - 1);
    for _ in 0..2 {
        town.epoch(&ALL);
    }
    // The third epoch after it begins with the next election.
    let soon = town.ledger().head_time().plus_ms(1);
    let report = town.report(8, evidence.clone());
    assert_eq!(town.ledger().check(&report, soon), Ok(()));
    let report = town.report(8, before);
    let expired = EvidenceError::Expired { height: height - 1, after: height - 1 };
    assert_eq!(town.street.refusal(soon, &report), EntryError::Evidence(expired));
    town.epoch(&ALL);
    let soon = town.ledger().head_time().plus_ms(1);
    let report = town.report(8, evidence);
    let error = town.street.refusal(soon, &report);
    assert!(matches!(error, EntryError::Evidence(EvidenceError::Expired { .. })), "{error}");
}

#[test]
fn who_was_delegate_before_loses_the_seat_it_has_now() {
    let mut town = elected([1, 2, 3, 5]);
    let (key, height) = (town.key_of(2), town.ledger().height() + 1);
    town.epoch(&ALL);
    assert_ne!(town.key_of(2), key);
    let now = town.key_of(2);
    let evidence = town.evidence(&key, height);
    let report = town.report(8, evidence);
    town.block(&[report]);
    assert_eq!(town.seat_outcomes()[0].key, now);
    assert!(!town.seated().contains(&home(2)));
}

#[test]
fn at_most_as_many_seats_change_in_an_epoch_as_may_fail() {
    let mut town = elected([1, 2, 3, 5]);
    let height = town.ledger().height();
    let guilty = [town.key_of(1), town.key_of(2)];
    let reports: Vec<_> = guilty
        .iter()
        .map(|key| {
            let evidence = town.evidence(key, height);
            town.report(8, evidence)
        })
        .collect();
    town.block(&reports);
    let fates: Vec<_> = town.seat_outcomes().into_iter().map(|seat| (seat.key, seat.fate)).collect();
    assert!(matches!(fates[0], (key, SeatFate::Replaced(_)) if key == guilty[0]));
    assert_eq!(fates[1], (guilty[1], SeatFate::Kept), "recorded, and calls people");
    assert_eq!(town.ledger().seats_changed(), (1, 1));
    assert!(town.seated().contains(&home(2)) && town.ledger().barred_until(&home(2)).is_some());
    assert!(town.ledger().is_convicted(&guilty[1]));
    // The next election is without both.
    town.epoch(&ALL[2..]);
    assert!(town.seated().is_disjoint(&homes(&[1, 2])));
    assert_eq!(town.ledger().next_delegates().len(), 4);
}

#[test]
fn a_convicted_delegate_whose_seat_was_kept_loses_it_even_if_the_next_election_fails() {
    let mut town = Town::with(12, |genesis| {
        let seats = 1..=7;
        genesis.delegates =
            seats.map(|n| ledger::Delegate { key: key_of_founder(n), home: home(n) }).collect();
    });
    town.block(&[]);
    let reports: Vec<_> = [1, 2, 3]
        .into_iter()
        .map(|number| {
            let evidence = town.evidence(&key_of_founder(number), 1);
            town.report(8, evidence)
        })
        .collect();
    town.block(&reports);
    assert_eq!(town.seat_outcomes().last().unwrap().fate, SeatFate::Kept);
    // Nobody votes, so the founders stay; the third would leave four, which bear a failure.
    let held = town.epoch_of(&[]);
    assert_eq!(held.result, ElectionResult::Turnout);
    let last = town.seat_outcomes();
    assert_eq!((last.len(), last[0].key, last[0].fate), (1, key_of_founder(3), SeatFate::Removed));
    assert_eq!(town.seated(), homes(&[4, 5, 6, 7]));
    assert_eq!(town.ledger().seats_changed(), (1, 1));
    town.replay();
}

#[test]
fn without_standbys_four_seats_stay_and_more_shrink() {
    // The founders have no standbys.
    let mut town = Town::new(8);
    town.block(&[]);
    let key = town.key_of(1);
    let evidence = town.evidence(&key, 1);
    let report = town.report(8, evidence);
    town.block(&[report]);
    assert_eq!(town.seat_outcomes()[0].fate, SeatFate::Kept);
    assert_eq!(town.ledger().next_delegates().len(), 4);
    let mut town = Town::with(12, |genesis| {
        let seats = 1..=7;
        genesis.delegates =
            seats.map(|n| ledger::Delegate { key: key_of_founder(n), home: home(n) }).collect();
    });
    for (number, (left, fate)) in
        [(1, (6, SeatFate::Removed)), (2, (5, SeatFate::Removed)), (3, (5, SeatFate::Kept))]
    {
        let key = town.key_of(number);
        let evidence = town.evidence(&key, 1);
        let report = town.report(8, evidence);
        town.block(&[report]);
        assert_eq!((town.ledger().next_delegates().len(), town.seat_outcomes()[0].fate), (left, fate));
    }
    town.block(&[]);
    town.replay();
}

fn key_of_founder(number: u8) -> PublicKey {
    key((Use::Term, number)).public()
}

#[test]
fn who_signs_less_than_half_of_a_days_blocks_gives_its_seat_to_a_standby() {
    let mut town = elected([1, 2, 3, 5]);
    for _ in 0..2 {
        town.epoch(&ALL);
    }
    town.silent.insert(home(3));
    let (key, standby) = (town.key_of(3), town.ledger().standbys()[0].clone());
    let entries: Vec<_> = ALL.map(|number| town.stand(number, 0)).into();
    town.block(&entries);
    town.block(&[]);
    assert_eq!(town.seat_outcomes(), [], "two of four blocks are half");
    town.block(&[]);
    let seat = town.seat_outcomes()[0].clone();
    assert_eq!((seat.key, seat.reason), (key, SeatLoss::Silence));
    assert!(matches!(seat.fate, SeatFate::Replaced(_)));
    assert!(town.seated().contains(&standby) && !town.seated().contains(&home(3)));
    assert_eq!(town.ledger().barred_until(&home(3)), None);
    // It stands again and comes back with the next election.
    town.silent.clear();
    town.block(&[]);
    assert_eq!(town.ledger().epoch().after, town.ledger().height());
    assert!(town.seated().contains(&home(3)));
    assert_eq!(town.ledger().signed_lately(&home(1)).map(|(blocks, _)| blocks > 0), Some(true));
    town.replay();
}

#[test]
fn the_silent_keep_their_seats_where_nobody_stands_by() {
    let mut town = Town::new(8);
    town.silent.insert(home(3));
    for _ in 0..EPOCH + 2 {
        town.block(&[]);
    }
    let kept: Vec<_> =
        town.street.outcomes().filter(|(_, of)| matches!(of, ledger::Outcome::Seat(_))).collect();
    assert_eq!(kept.len(), 1);
    assert!(town.seated().contains(&home(3)));
}

#[test]
fn a_newcomer_counts_after_thirty_days_of_readings_and_nobody_after_thirty_days_of_silence() {
    let mut street = Fixture::with(4, |genesis| genesis.mtu = energy::Mtu::Min60);
    let admitted = street.verified(
        Body::Admission(admission(5)),
        OPERATOR,
        &[(Use::Member, 1), (Use::Member, 2), (Use::Member, 3)],
    );
    street.block(at(5), &[admitted]);
    let day = 24 * 60;
    for number in 0..61_u64 {
        let offset = i64::try_from(number * 24).unwrap();
        // Home 4 is silent from the start, home 5 falls silent after 31 days.
        let reads: Vec<u8> = if number <= 30 { vec![1, 5] } else { vec![1] };
        let entries: Vec<_> = reads.iter().map(|home| street.read(*home, offset, 1, 0)).collect();
        street.block(at(day * number + 90), &entries);
        let days = number + 1;
        assert!(street.ledger.has_stake(&home(1)));
        assert_eq!(street.ledger.has_stake(&home(4)), number < 30, "day {number}");
        assert_eq!(street.ledger.has_stake(&home(5)), days >= 30 && number < 60, "day {number}");
    }
    // Who is heard of again counts again.
    let entry = street.read(4, 61 * 24, 1, 0);
    street.block(at(61 * day + 90), &[entry]);
    assert!(street.ledger.has_stake(&home(4)) && !street.ledger.has_stake(&home(5)));
}

#[test]
fn certified_stake_weighs_what_was_metered_in_ninety_days() {
    let mut street = Fixture::with(4, |genesis| {
        genesis.stake = Stake::Certified;
        genesis.mtu = energy::Mtu::Min60;
    });
    street.baselines(4);
    // 50, 150, 350 and 750 kWh are one share more each; 49 999 Wh are none.
    let metered = [(1, 49_999, 1), (2, 50_000, 2), (3, 350_000, 4), (4, 999_000, 5)];
    let entries: Vec<_> = metered.iter().map(|(number, wh, _)| street.read(*number, 0, *wh, 0)).collect();
    street.block(at(65), &entries);
    for (number, _, shares) in metered {
        assert_eq!(street.ledger.shares(&home(number)), shares, "home {number}");
    }
    let restored = Ledger::restore(&street.genesis, &street.ledger.snapshot()).unwrap();
    assert_eq!(restored.shares(&home(3)), 4);
    street.block(at(90 * 1440 + 65), &[]);
    assert_eq!(street.ledger.shares(&home(4)), 5);
    street.block(at(91 * 1440 + 65), &[]);
    assert_eq!(street.ledger.shares(&home(4)), 1, "forgotten");
    let plain = Fixture::new(4);
    assert_eq!(plain.ledger.shares(&home(1)), 1);
}

#[test]
fn a_block_carries_the_certificate_of_its_parent_and_no_other() {
    let mut town = elected([1, 2, 3, 5]);
    town.block(&[]);
    let ledger = town.ledger().clone();
    let good = town.certificate().unwrap();
    let time = ledger.head_time().plus_ms(1000);
    let block = ledger.propose_after(Some(&good), time, &[]).unwrap().executed.block;
    assert_eq!(block.header.last_commit, good.hash());
    let with = |certificate: Option<Certificate>| {
        let mut other = block.clone();
        other.last_commit = certificate;
        ledger.execute(&other).unwrap_err()
    };
    // Another valid certificate of the same block is another block.
    let mut fewer = good.clone();
    fewer.signatures.pop();
    let differs = |error| matches!(error, BlockError::Differs { .. });
    assert!(differs(with(Some(fewer.clone()))) && differs(with(None)));
    fewer.signatures.pop();
    assert!(matches!(with(Some(fewer)), BlockError::LastCommit(_)));
    let mut elsewhere = good.clone();
    elsewhere.height -= 1;
    assert!(matches!(with(Some(elsewhere)), BlockError::DoesNotFollow { .. }));
    let mut forged = good.clone();
    forged.signatures[0].1 = Signature([1; 64]);
    assert!(matches!(with(Some(forged)), BlockError::LastCommit(_)));
    let genesis = Ledger::genesis(&town.street.genesis).unwrap();
    let first = genesis.propose_after(Some(&good), at(1), &[]).unwrap_err();
    assert!(matches!(first, BlockError::DoesNotFollow { .. }));
}

/// What a member or delegate may do in a random history.
#[derive(Debug, Clone)]
enum Deed {
    Approve(u8, Vec<u8>),
    Follow(u8, u8),
    Stand(u8, u8),
    OptOut(u8),
    Contradict(u8),
    Hush(u8),
    Speak,
}

fn deed() -> impl Strategy<Value = Deed> {
    let home = 1..=12_u8;
    prop_oneof![
        4 => (home.clone(), prop::collection::vec(home.clone(), 0..3)).prop_map(|(by, of)| Deed::Approve(by, of)),
        1 => (home.clone(), home.clone()).prop_map(|(by, of)| Deed::Follow(by, of)),
        6 => (home.clone(), 0..3_u8).prop_map(|(by, change)| Deed::Stand(by, change)),
        1 => home.clone().prop_map(Deed::OptOut),
        1 => home.clone().prop_map(Deed::Contradict),
        1 => home.prop_map(Deed::Hush),
        1 => Just(Deed::Speak),
    ]
}

impl Town {
    fn entry_of(&mut self, deed: &Deed) -> Option<ledger::VerifiedEntry> {
        Some(match deed {
            Deed::Approve(by, of) => self.approve(*by, of),
            Deed::Follow(by, of) => self.vote(*by, Ballot::Follow(home(*of))),
            Deed::Stand(by, change) => self.stand(*by, *change),
            Deed::OptOut(by) => self.opt_out(*by),
            Deed::Contradict(number) => {
                let key = self.ledger().delegates().of_home(&home(*number))?.key;
                let evidence = self.evidence(&key, self.ledger().height());
                self.report(1, evidence)
            }
            Deed::Hush(number) => {
                self.silent = homes(&[*number]);
                return None;
            }
            Deed::Speak => {
                self.silent.clear();
                return None;
            }
        })
    }
}

fn owners(town: &Town, set: &DelegateSet) -> BTreeSet<String> {
    let owner = |home: &energy::HomeId| town.ledger().member(home).unwrap().admission.owner.clone();
    set.as_slice().iter().map(|seat| owner(&seat.home)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_members_say_and_delegates_do_the_sets_stay_sound(
        blocks in prop::collection::vec(prop::collection::vec(deed(), 0..12), 24),
    ) {
        let mut town = Town::with(12, |genesis| {
            for member in &mut genesis.members[8..] {
                member.admission.owner = "landlord".to_owned();
            }
        });
        for deeds in &blocks {
            let soon = town.ledger().head_time().plus_ms(900_000);
            let entries: Vec<_> = deeds.iter().filter_map(|deed| town.entry_of(deed)).collect();
            // What is valid together, in this order.
            let certificate = town.certificate();
            let proposed = town.ledger().propose_after(certificate.as_ref(), soon, &entries).unwrap();
            let before = town.ledger().next_delegates().clone();
            let taken = proposed.executed.block.entries.clone();
            let outcomes = town.block(&taken).outcomes.clone();
            let election = outcomes.iter().find_map(|of| match of {
                ledger::Outcome::Election(held) => Some(held.result),
                _ => None,
            });
            let changes = town.seat_outcomes().into_iter().filter(|of| of.fate != SeatFate::Kept).count();
            let after = town.ledger().next_delegates().clone();
            prop_assert_eq!(owners(&town, &after).len(), after.len(), "one seat an owner");
            let (changed, faults) = town.ledger().seats_changed();
            prop_assert!(changed <= faults);
            if election == Some(ElectionResult::Elected) {
                prop_assert_eq!(after.len() % 3, 1);
                prop_assert_eq!(after.faults(), faults);
            } else {
                // Only seats whose loss is told of change hands, and within an epoch no more than may fail.
                let kept = after.as_slice().iter().filter(|seat| before.seat_of(&seat.key).is_some()).count();
                prop_assert!(before.len() - kept <= changes);
                prop_assert!(election.is_some() || changes <= usize::try_from(faults).unwrap());
                prop_assert_eq!(after.term(), before.term());
            }
        }
        town.replay();
    }
}
