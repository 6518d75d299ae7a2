//! A block that is full of what settles late: whoever proposes it is not blamed for it, and nothing that waits is lost.

use consensus::message::Message;
use consensus::{Effect, Input, Origin};
use energy::{Interval, Timestamp};
use ledger::VoteKind::Prevote;
use ledger::codec::{Decode as _, Encode as _};
use ledger::{EntryError, Ledger, SignedEntry, UnverifiedBlock, VerifiedEntry};

use crate::bench::{Bench, clean_log, genesis, proposer};
use crate::street::{self, Journal};

/// Homes that were silent so long that three of their readings are more than one block settles late.
const SILENT: usize = 4;
const DAYS: u64 = 58;
/// Longer than a validator must have held an entry to insist on it.
const LONG_BEFORE_MS: u64 = 11_000;

fn next(ledger: &Ledger, time: Timestamp, entries: &[VerifiedEntry]) -> Ledger {
    let proposed = ledger.propose(time, entries).expect("a block");
    assert_eq!(proposed.refused, []);
    proposed.executed.ledger
}

/// A ledger a minute before a deadline, all before it settled, and the journals of homes that gave a baseline at its beginning
/// and nothing since.
fn silent_homes() -> (Ledger, Vec<Journal>) {
    let genesis = genesis();
    let mut ledger = Ledger::genesis(&genesis).expect("a valid genesis");
    let first = Interval::containing(genesis.start, genesis.mtu);
    let mut journals: Vec<_> = (0..SILENT).map(|number| Journal::new(number, genesis.chain())).collect();
    let baselines: Vec<_> =
        journals.iter_mut().map(|journal| verified(&ledger, &journal.read(first))).collect();
    ledger = next(&ledger, first.end().plus_ms(1_000), &baselines);
    // After an outage the first block waits for readings; then as many intervals settle in each as fit.
    ledger = next(&ledger, genesis.start.plus_ms(DAYS * 86_400_000), &[]);
    ledger = next(&ledger, ledger.head_time().plus_ms(600_000), &[]);
    while ledger.next_deadline() <= ledger.head_time() {
        ledger = next(&ledger, ledger.head_time().plus_ms(1_000), &[]);
    }
    let until = ledger.next_deadline().minus_ms(60_000);
    while ledger.head_time() < until {
        let time = ledger.head_time().plus_ms(ledger::HEARTBEAT_MS).min(until);
        ledger = next(&ledger, time, &[]);
    }
    (ledger, journals)
}

fn verified(ledger: &Ledger, bytes: &[u8]) -> VerifiedEntry {
    SignedEntry::from_bytes(bytes).expect("an entry").verify(ledger.chain()).expect("signed")
}

/// A delegate at the deadline that heard one reading of each silent home long before it; it proposes in round `turn`.
fn at_the_deadline(turn: u32) -> (Bench, Vec<VerifiedEntry>) {
    let (ledger, mut journals) = silent_homes();
    let genesis = genesis();
    let height = ledger.height() + 1;
    let me = proposer(&genesis, height, turn);
    let deadline = ledger.next_deadline();
    let last = Interval::containing(deadline.minus_ms(LONG_BEFORE_MS), genesis.mtu).index() - 1;
    let mut bench = Bench::at(genesis, ledger, me, &clean_log(&crate::bench::genesis(), me, height));
    bench.market = deadline.minus_ms(LONG_BEFORE_MS);
    let mut readings = Vec::new();
    for (number, journal) in journals.iter_mut().enumerate() {
        let bytes = journal.read(Interval::from_index(last, bench.genesis.mtu));
        let origin = if number == me { Origin::Own } else { Origin::Peer(street::home(number)) };
        bench.step(Input::Entry { bytes: bytes.clone(), origin });
        readings.push(bench.verified(&bytes));
    }
    assert_eq!(bench.replica.mempool_len(), SILENT, "{}", bench.notes());
    bench.pass(LONG_BEFORE_MS);
    assert!(bench.replica.ledger().deadline_at(bench.market));
    (bench, readings)
}

/// The blocks it proposed, and as bytes.
fn proposed(bench: &Bench) -> Vec<(UnverifiedBlock, Vec<u8>)> {
    bench.logged_blocks().into_iter().map(|block| (block.clone(), bytes_of(bench, block))).collect()
}

fn bytes_of(bench: &Bench, block: UnverifiedBlock) -> Vec<u8> {
    block.verify(&bench.chain(), |_| None).expect("signed").to_bytes()
}

#[test]
fn a_block_full_of_what_settles_late_gets_the_vote_without_the_readings_it_had_no_room_for() {
    let (mut bench, readings) = at_the_deadline(3);
    let proposed = bench.propose_from(bench.market, &readings);
    assert_eq!(proposed.refused, [(readings[3].id(), EntryError::BlockFull)]);
    let full = proposed.executed.block;
    bench.propose(0, &full, None);
    assert_eq!(bench.voted(Prevote, bench.height(), 0), Some(Some(full.id())), "{}", bench.notes());
}

#[test]
fn a_block_with_room_left_is_still_blamed_for_what_it_leaves_out() {
    let (mut bench, readings) = at_the_deadline(3);
    let spare = bench.build(bench.market, &readings[..2]);
    bench.propose(0, &spare.block, None);
    assert_eq!(bench.voted(Prevote, bench.height(), 0), Some(None), "two more readings had room");
}

#[test]
fn what_a_full_block_had_no_room_for_waits_and_stands_in_the_next() {
    // In round 1, so that all readings are there before it proposes; then it has the first turn at the next height.
    let (mut bench, readings) = at_the_deadline(1);
    let (height, others) = (bench.height(), bench.others());
    bench.hear_votes(&others[..2], Prevote, height, 1, None);
    let (full, bytes) = proposed(&bench).pop().expect("its turn");
    assert_eq!(full.entries.len(), SILENT - 1, "{}", bench.notes());
    assert!(
        !bench.effects.iter().any(|effect| matches!(effect, Effect::Refused { .. })),
        "{}",
        bench.notes()
    );
    let certificate = bench.certificate(height, 1, full.header.id());
    bench.hear(others[0], &Message::Final(bytes, certificate));
    assert_eq!(bench.replica.height(), height, "{}", bench.notes());
    assert_eq!(bench.replica.mempool_len(), 1);
    bench.pass(2_000);
    bench.pace();
    let (next, _) = proposed(&bench).pop().expect("its turn again");
    let stands = |entry: &VerifiedEntry| {
        [&full, &next].map(|block| block.entries.iter().any(|of| of.to_bytes() == entry.bytes()))
    };
    let places: Vec<_> = readings.iter().map(stands).collect();
    assert!(places.iter().all(|place| place[0] != place[1]), "each in one of the two: {places:?}");
    assert_eq!((next.header.height, next.entries.len()), (height + 1, 1));
}
