//! When too many delegates are lost, members and roles seat others, and nothing but the seats changes.

use ledger::codec::{Decode, Encode};
use ledger::{
    Attestation, Block, BlockError, Body, Certificate, Chain, Header, Ledger, Outcome, RECOVERY_AFTER_MS,
    Recovery, RecoveryError, SeatOffer, Signature, StandingLimits, UnverifiedBlock, VoteKind,
    vote_signing_bytes,
};

use crate::fixture::{
    AUDITOR, Fixture, METERING, OPERATOR, TREASURER, TRUSTEE, Use, assert_same, at, home, key,
};

const HOMES: u8 = 6;
/// Key numbers of new seats: consensus keys from here, cosigner keys 20 above.
const NEW: u8 = 100;

fn street() -> Fixture {
    let mut street = Fixture::new(HOMES);
    street.baselines(HOMES);
    let entries: Vec<_> =
        (1..=HOMES).map(|number| street.read(number, 0, u64::from(number) * 100, 300)).collect();
    street.block(at(16), &entries);
    street.after(40, &[]);
    street
}

fn numbered(ledger: &Ledger, number: u32) -> Chain {
    Chain { recovery: number, ..*ledger.chain() }
}

fn offer(chain: &Chain, number: u8) -> SeatOffer {
    let keys = [(Use::Member, number), (Use::Term, NEW + number), (Use::Term, NEW + 20 + number)];
    let [member, consensus, cosigner] = keys.map(|of| key(of).signing());
    SeatOffer::sign(chain, home(number), &member, &consensus, &cosigner)
}

/// Recovery 1 a day after the last block, which seats these homes.
fn proposed(ledger: &Ledger, seats: &[u8]) -> Block {
    let chain = numbered(ledger, 1);
    let offers = seats.iter().map(|number| offer(&chain, *number)).collect();
    let time = ledger.head_time().plus_ms(RECOVERY_AFTER_MS);
    ledger.propose_recovery(None, (1, time), offers).unwrap().block
}

fn attest(block: &mut Block, ledger: &Ledger, signers: &[(Use, u8)]) {
    for signer in signers {
        let attestation =
            Attestation::sign(&block.header, ledger.height(), ledger.head(), &key(*signer).signing());
        block.recovery.as_mut().unwrap().attest(attestation);
    }
}

const ENOUGH: [(Use, u8); 6] =
    [(Use::Member, 2), (Use::Member, 3), (Use::Member, 5), (Use::Member, 6), OPERATOR, AUDITOR];

fn recovered(street: &Fixture) -> Block {
    let mut block = proposed(&street.ledger, &[2, 3, 5, 6]);
    attest(&mut block, &street.ledger, &ENOUGH);
    block
}

fn why(ledger: &Ledger, block: &Block) -> RecoveryError {
    match ledger.execute(block) {
        Err(BlockError::Recovery(error)) => error,
        other => panic!("not refused as a recovery: {:?}", other.map(|executed| executed.block)),
    }
}

#[test]
fn members_and_roles_seat_others_and_nobodys_money_changes() {
    let mut street = street();
    let balances: Vec<_> = (1..=HOMES).map(|number| street.balance(number)).collect();
    let before = street.ledger.clone();
    let executed = before.execute(&recovered(&street)).unwrap();
    assert!(executed.postings.is_empty() && executed.readings.is_empty());
    let [Outcome::Election(election)] = executed.outcomes.as_slice() else {
        panic!("{:?}", executed.outcomes)
    };
    assert_eq!((election.result.word(), election.term, election.faults), ("recovered", 1, 1));
    street.ledger = executed.ledger.clone();
    assert_eq!((1..=HOMES).map(|number| street.balance(number)).collect::<Vec<_>>(), balances);
    let after = &street.ledger;
    assert!(after.is_recovered() && !before.is_recovered());
    assert_eq!(after.chain().recovery, 1);
    let homes: Vec<_> = after.delegates().as_slice().iter().map(|seat| seat.home.clone()).collect();
    for number in [2, 3, 5, 6] {
        assert!(homes.contains(&home(number)));
    }
    assert_eq!(after.delegates(), after.next_delegates());
    assert_eq!((after.epoch().after, after.epoch().start), (after.height(), after.head_time()));
    // The chain goes on: readings of the outage are taken before anything of it is settled.
    let limits = StandingLimits::default();
    let entry = street.verified(Body::StandingLimits { home: home(1), limits }, (Use::Member, 1), &[]);
    let reading = street.read(1, 1, 50, 0);
    let next = street.ledger.head_time().plus_ms(1_000);
    let taken = street.block(next, &[entry, reading]);
    assert!(taken.postings.is_empty(), "nothing settles before readings had time to arrive");
    assert!(!street.ledger.is_recovered());
    street.ledger.check_invariants().unwrap();
}

#[test]
fn every_set_of_signers_is_enough_exactly_with_half_the_members_and_two_roles() {
    let street = street();
    let block = proposed(&street.ledger, &[1, 2, 3, 4]);
    let roles = [OPERATOR, AUDITOR, TRUSTEE];
    for members in 0..1u32 << HOMES {
        // Which members they are plays no part, so one choice of each size is enough beside all roles.
        if members.trailing_ones() != members.count_ones() {
            continue;
        }
        for of_roles in 0..1u32 << roles.len() {
            let members: Vec<_> = (1..=HOMES)
                .filter(|number| members >> (number - 1) & 1 == 1)
                .map(|number| (Use::Member, number))
                .collect();
            let some =
                roles.iter().enumerate().filter(|(at, _)| of_roles >> at & 1 == 1).map(|(_, role)| *role);
            let some: Vec<_> = some.collect();
            let mut block = block.clone();
            attest(&mut block, &street.ledger, &members);
            attest(&mut block, &street.ledger, &some);
            let enough = members.len() * 2 > usize::from(HOMES) && some.len() >= 2;
            assert_eq!(street.ledger.execute(&block).is_ok(), enough, "{members:?} {some:?}");
        }
    }
}

#[test]
fn only_members_and_the_three_roles_have_a_say() {
    let street = street();
    for stranger in [TREASURER, METERING, (Use::Reading, 1), (Use::Term, 1), (Use::Member, 77)] {
        let mut block = recovered(&street);
        attest(&mut block, &street.ledger, &[stranger]);
        assert_eq!(why(&street.ledger, &block), RecoveryError::Unknown { key: key(stranger).public() });
    }
}

#[test]
fn a_recovery_below_what_any_signer_holds_is_worthless() {
    let mut street = street();
    let mut block = recovered(&street);
    let behind = street.ledger.clone();
    street.after(45, &[]);
    let signer = (Use::Member, 1);
    attest(&mut block, &street.ledger, &[signer]);
    let found = why(&behind, &block);
    assert_eq!(
        found,
        RecoveryError::Higher { key: key(signer).public(), height: behind.height() + 1 },
        "{found}"
    );
    // And it does not follow from the later block.
    assert!(matches!(street.ledger.execute(&block), Err(BlockError::DoesNotFollow { .. })));
    // A signer that holds less is welcome.
    let mut block = proposed(&street.ledger, &[1, 2, 3, 4]);
    attest(&mut block, &behind, &ENOUGH);
    street.ledger.execute(&block).unwrap();
    // One that holds another block at the same height shows that something is wrong.
    let forked = Attestation::sign(
        &block.header,
        street.ledger.height(),
        behind.head(),
        &key((Use::Member, 1)).signing(),
    );
    block.recovery.as_mut().unwrap().attest(forked);
    assert!(matches!(why(&street.ledger, &block), RecoveryError::Form { .. }));
}

#[test]
fn there_is_none_within_24_hours_of_a_block() {
    let ledger = street().ledger;
    let early = ledger.head_time().plus_ms(RECOVERY_AFTER_MS - 1);
    let offers = vec![offer(&numbered(&ledger, 1), 1)];
    assert_eq!(
        ledger.propose_recovery(None, (1, early), offers).unwrap_err(),
        BlockError::Recovery(RecoveryError::TooEarly { last: ledger.head_time(), time: early })
    );
}

#[test]
fn numbers_grow_and_each_recovery_follows_from_the_one_before() {
    let street = street();
    let once = street.ledger.execute(&recovered(&street)).unwrap().ledger;
    let time = once.head_time().plus_ms(RECOVERY_AFTER_MS);
    let offers = |number: u32| vec![offer(&numbered(&once, number), 1)];
    assert_eq!(
        once.propose_recovery(None, (1, time), offers(1)).unwrap_err(),
        BlockError::Recovery(RecoveryError::Number { found: 1, present: 1 })
    );
    let mut twice = once.propose_recovery(None, (3, time), offers(3)).unwrap().block;
    attest(&mut twice, &once, &ENOUGH);
    assert_eq!(once.execute(&twice).unwrap().ledger.chain().recovery, 3);
}

#[test]
fn what_was_signed_before_a_recovery_counts_for_nothing_after_it() {
    let mut street = street();
    let limits = StandingLimits::default();
    let body = Body::StandingLimits { home: home(1), limits };
    let old = street.signed(body, (Use::Member, 1), &[]);
    let ledger = street.ledger.execute(&recovered(&street)).unwrap().ledger;
    assert!(old.clone().verify(street.ledger.chain()).is_ok());
    assert!(old.verify(ledger.chain()).is_err());
    let block = street.ledger.head();
    let vote = |chain: &Chain| vote_signing_bytes(chain, VoteKind::Precommit, 9, 0, Some(&block));
    assert_ne!(vote(street.ledger.chain()), vote(ledger.chain()));
    // The old set cannot certify the next block, whatever it signs.
    let proposed = ledger.propose(ledger.head_time().plus_ms(1_000), &[]).unwrap().executed.block;
    let message = vote_signing_bytes(
        ledger.chain(),
        VoteKind::Precommit,
        proposed.header.height,
        0,
        Some(&proposed.id()),
    );
    let signatures = (0..4u8).map(|seat| (seat, Signature::sign(&key((Use::Term, 1)).signing(), &message)));
    let certificate = Certificate {
        height: proposed.header.height,
        round: 0,
        block: proposed.id(),
        signatures: signatures.collect(),
    };
    assert!(certificate.verify(ledger.chain(), ledger.delegates()).is_err());
}

/// The fault that a recovery with these offers has.
fn fault_of(ledger: &Ledger, offers: Vec<SeatOffer>) -> RecoveryError {
    let time = ledger.head_time().plus_ms(RECOVERY_AFTER_MS);
    match ledger.propose_recovery(None, (1, time), offers) {
        Err(BlockError::Recovery(error)) => error,
        other => panic!("{:?}", other.map(|executed| executed.block)),
    }
}

#[test]
fn a_seat_is_for_a_member_who_offered_to_hold_it_with_keys_of_its_own() {
    let street = street();
    let ledger = &street.ledger;
    let chain = numbered(ledger, 1);
    let fits = || offer(&chain, 1);
    let of_other_recovery = offer(&numbered(ledger, 2), 1);
    let for_another = SeatOffer { home: home(2), ..fits() };
    let old_key = key((Use::Term, 1)).signing();
    let member = key((Use::Member, 1)).signing();
    let seated_before = SeatOffer::sign(&chain, home(1), &member, &old_key, &key((Use::Term, 9)).signing());
    let stranger = key((Use::Member, 70)).signing();
    let no_member = SeatOffer::sign(&chain, home(70), &stranger, &old_key, &old_key);
    let member_2 = key((Use::Member, 2)).signing();
    let [first, second] = [NEW + 1, NEW + 21].map(|number| key((Use::Term, number)).signing());
    let with_keys_of_1 = SeatOffer::sign(&chain, home(2), &member_2, &second, &first);
    for (offers, what) in [
        (vec![], "1 to 31"),
        (vec![of_other_recovery], "not signed"),
        (vec![for_another], "not signed"),
        (vec![seated_before], "used before"),
        (vec![no_member], "no member"),
        (vec![fits(), fits()], "has a seat already"),
        (vec![fits(), with_keys_of_1], "one of its keys"),
    ] {
        let fault = fault_of(ledger, offers).to_string();
        assert!(fault.contains(what), "{what}: {fault}");
    }
}

#[test]
fn one_owner_gets_one_seat() {
    let street = Fixture::with(HOMES, |genesis| {
        genesis.members[4].admission.owner = genesis.members[0].admission.owner.clone();
    });
    let chain = numbered(&street.ledger, 1);
    let fault = fault_of(&street.ledger, vec![offer(&chain, 1), offer(&chain, 5)]);
    assert_eq!(fault, RecoveryError::Seat { home: home(5), what: "its owner has a seat already" });
}

#[test]
fn an_attestation_is_of_one_block_and_stands_once() {
    let street = street();
    let ledger = &street.ledger;
    let mut block = recovered(&street);
    let other = proposed(ledger, &[1, 2, 3, 4]);
    let forged = Attestation::sign(&other.header, ledger.height(), ledger.head(), &key(TRUSTEE).signing());
    block.recovery.as_mut().unwrap().attest(forged);
    assert_eq!(why(ledger, &block), RecoveryError::Forged { key: key(TRUSTEE).public() });
    let mut block = recovered(&street);
    let attestations = &mut block.recovery.as_mut().unwrap().attestations;
    attestations.push(attestations[0].clone());
    assert!(matches!(why(ledger, &block), RecoveryError::Form { .. }));
    let mut block = recovered(&street);
    let before = block.clone();
    attest(&mut block, ledger, &ENOUGH);
    assert_eq!(block, before, "attesting again changes nothing");
}

#[test]
fn the_header_commits_to_the_seats() {
    let street = street();
    let mut block = recovered(&street);
    let chain = numbered(&street.ledger, 1);
    block.recovery.as_mut().unwrap().seats[0] = offer(&chain, 1);
    assert!(matches!(street.ledger.execute(&block), Err(BlockError::Differs { .. })));
    // As does the name of the recovery, which is no other chain's.
    let mut block = recovered(&street);
    block.header = Header { chain: Chain { id: block.header.state_root, recovery: 1 }, ..block.header };
    assert!(matches!(street.ledger.execute(&block), Err(BlockError::DoesNotFollow { .. })));
}

#[test]
fn a_recovered_ledger_is_restored_from_its_snapshot_and_decodes() {
    let street = street();
    let block = recovered(&street);
    let executed = street.ledger.execute(&block).unwrap();
    let restored = Ledger::restore(&street.genesis, &executed.ledger.snapshot()).unwrap();
    assert_eq!(restored.snapshot(), executed.ledger.snapshot());
    assert!(restored.is_recovered());
    let time = restored.head_time().plus_ms(300_000);
    let next = restored.propose(time, &[]).unwrap().executed;
    assert_same(&next, &executed.ledger.propose(time, &[]).unwrap().executed);
    let read = UnverifiedBlock::from_bytes(&block.to_bytes()).unwrap();
    assert_eq!(read.verify(executed.ledger.chain(), |_| None).unwrap(), block);
    let recovery = block.recovery.unwrap();
    let mut bytes = recovery.to_bytes();
    assert_eq!(Recovery::from_bytes(&bytes).unwrap(), recovery);
    bytes.push(0);
    assert!(Recovery::from_bytes(&bytes).is_err());
}

#[test]
fn support_says_who_is_missing_and_whether_the_old_set_could_go_on() {
    let street = street();
    let mut block = proposed(&street.ledger, &[2, 3, 5, 6]);
    attest(&mut block, &street.ledger, &[(Use::Member, 5), (Use::Member, 6), OPERATOR]);
    let support =
        |block: &Block| street.ledger.support(&block.header, &block.recovery.as_ref().unwrap().attestations);
    let found = support(&block).unwrap();
    assert_eq!((found.members, found.roles.clone()), (vec![home(5), home(6)], vec!["operator"]));
    assert_eq!(found.others.len(), 4);
    attest(&mut block, &street.ledger, &[(Use::Member, 3), (Use::Member, 2), TRUSTEE]);
    let found = support(&block).unwrap();
    assert!(found.is_enough() && found.needed() == 4);
    assert_eq!(found.unbound, [home(1), home(4)]);
    assert!(!found.may_be_contested(), "two of four cannot decide");
    let mut without = proposed(&street.ledger, &[2, 3, 5, 6]);
    attest(&mut without, &street.ledger, &[(Use::Member, 5)]);
    assert!(support(&without).unwrap().may_be_contested());
}
