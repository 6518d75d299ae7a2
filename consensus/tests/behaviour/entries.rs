//! What a replica does with entries: taken in once, kept in bounds, handed on, sent again until they are final.

use consensus::message::Message;
use consensus::{Effect, Input, Origin, Timer};
use ledger::VoteKind::{Precommit, Prevote};
use ledger::codec::Encode as _;

use crate::bench::{Bench, DELEGATES, genesis, proposer};
use crate::replica::first_interval;
use crate::street::{self, Journal};

#[test]
fn an_entry_is_refused_with_its_reason_and_taken_once() {
    let mut bench = Bench::validator();
    let mut journal = Journal::new(bench.me, bench.chain());
    let bytes = journal.limit();
    bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Own });
    bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(5)) });
    assert_eq!(bench.replica.mempool_len(), 1);
    let gossiped = bench.effects.iter().filter(|effect| matches!(effect, Effect::GossipEntries(_))).count();
    assert_eq!(gossiped, 1);
    let mut forged = journal.limit();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    bench.step(Input::Entry { bytes: forged, origin: Origin::Own });
    assert!(bench.notes().contains("forged"), "{}", bench.notes());
    bench.step(Input::Entry { bytes: vec![0; 5000], origin: Origin::Own });
    assert!(bench.notes().contains("the limit is 4096"), "{}", bench.notes());
    assert_eq!(bench.replica.mempool_len(), 1);
}

#[test]
fn one_signer_cannot_fill_the_pool() {
    let mut bench = Bench::validator();
    let mut journal = Journal::new(5, bench.chain());
    for _ in 0..600 {
        let bytes = journal.limit();
        bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(5)) });
    }
    assert_eq!(bench.replica.mempool_len(), 512);
    let bytes = Journal::new(4, bench.chain()).limit();
    bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(4)) });
    assert_eq!(bench.replica.mempool_len(), 513);
}

#[test]
fn an_own_entry_beyond_the_room_for_it_is_never_called_refused() {
    let mut bench = Bench::validator();
    let mut journal = Journal::new(bench.me, bench.chain());
    for _ in 0..4097 {
        let bytes = journal.limit();
        bench.step(Input::Entry { bytes, origin: Origin::Own });
    }
    assert_eq!(bench.replica.mempool_len(), 4096);
    assert!(
        !bench.effects.iter().any(|effect| matches!(effect, Effect::Refused { .. })),
        "{}",
        bench.notes()
    );
}

#[test]
fn an_own_entry_is_sent_again_until_it_is_final() {
    let mut bench = Bench::with_log(DELEGATES, &[]);
    let interval = first_interval(&bench);
    bench.market = interval.end().plus_ms(10);
    let bytes = Journal::new(DELEGATES, bench.chain()).read(interval);
    bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Own });
    let count = |bench: &Bench| {
        let sent = Message::Entries(vec![bytes.clone()]);
        bench.said().into_iter().filter(|message| *message == sent).count()
    };
    assert_eq!(count(&bench), 1);
    bench.pass(5000);
    bench.step(Input::Timer(Timer::Resend));
    assert_eq!(count(&bench), 2);
    bench.step(Input::PeerUp(street::home(1)));
    assert!(bench.sent_to(1).contains(&Message::Entries(vec![bytes.clone()])));
    let entry = bench.verified(&bytes);
    let executed = bench.build(bench.market, &[entry]);
    let certificate = bench.certificate(1, 0, executed.block.id());
    bench.step(Input::Final {
        from: street::home(0),
        bytes: Message::Final(executed.block.to_bytes(), certificate).to_bytes(),
    });
    assert_eq!(bench.replica.mempool_len(), 0);
    bench.pass(5000);
    bench.step(Input::Timer(Timer::Resend));
    assert_eq!(count(&bench), 2);
}

#[test]
fn what_others_sent_and_no_block_took_is_handed_on_once() {
    let mut bench = Bench::validator();
    let bytes = Journal::new(5, bench.chain()).limit();
    bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(street::home(5)) });
    let sent = Message::Entries(vec![bytes]);
    for _ in 0..3 {
        bench.pass(1000);
        bench.step(Input::Timer(Timer::Relay));
    }
    assert_eq!(bench.said().into_iter().filter(|message| *message == sent).count(), 1);
}

#[test]
fn a_homes_numbers_enter_a_block_in_their_order_whatever_order_they_came_in() {
    let genesis = genesis();
    let me = proposer(&genesis, 1, 0);
    // Not yet allowed to vote, so that nothing is proposed before all three are there.
    let mut bench = Bench::with_log(me, &[]);
    let mut journal = Journal::new(5, bench.chain());
    let mut entries: Vec<_> = (0..3).map(|_| journal.limit()).collect();
    entries.reverse();
    for bytes in entries {
        bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(5)) });
    }
    for number in &bench.others()[..2] {
        bench.hear(*number, &Message::RecoverResponse { height: 1, statements: vec![] });
    }
    let others = bench.others();
    let Some(block) = bench.voted(Prevote, 1, 0).flatten() else { panic!("it proposes and votes") };
    bench.hear_votes(&others, Prevote, 1, 0, Some(block));
    bench.hear_votes(&others, Precommit, 1, 0, Some(block));
    let commits = bench.commits();
    let numbers: Vec<_> =
        commits[0].executed.block.entries.iter().map(|entry| entry.entry().number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let gossips = bench.effects.iter().position(|effect| matches!(effect, Effect::GossipFinal(_)));
    let commits = bench.effects.iter().position(|effect| matches!(effect, Effect::Commit(_)));
    assert!(commits < gossips, "told to others only once it is stored here");
}

/// A proposer that may not vote yet, so that all entries are there before its turn begins.
fn proposer_that_waits() -> Bench {
    let me = proposer(&genesis(), 1, 0);
    Bench::with_log(me, &[])
}

/// Lets it begin; what it proposes.
fn let_it_propose(bench: &mut Bench) -> Vec<ledger::SignedEntry> {
    for number in &bench.others()[..2] {
        bench.hear(*number, &Message::RecoverResponse { height: 1, statements: vec![] });
    }
    bench.logged_blocks().pop().expect("a proposal").entries
}

#[test]
fn a_member_that_floods_does_not_hold_up_the_others() {
    let mut bench = proposer_that_waits();
    let mut flood = Journal::new(5, bench.chain());
    for _ in 0..400 {
        let bytes = flood.limit();
        bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(5)) });
    }
    let modest = Journal::new(4, bench.chain()).limit();
    bench.step(Input::Entry { bytes: modest.clone(), origin: Origin::Peer(street::home(4)) });
    let proposed = let_it_propose(&mut bench);
    let place = proposed.iter().position(|entry| entry.to_bytes() == modest).expect("it is in the block");
    assert!(place <= 16, "one turn of the flood comes before it: {place}");
    // What one hour's quota leaves over waits, and is no work.
    assert_eq!(proposed.len(), 65);
}

#[test]
fn an_entry_waits_a_second_for_the_number_before_it_and_no_longer() {
    for (waited_ms, expected) in [(0, vec![1]), (1_500, vec![1, 3])] {
        let mut bench = proposer_that_waits();
        let mut journal = Journal::new(5, bench.chain());
        let entries: Vec<_> = (0..3).map(|_| journal.limit()).collect();
        for bytes in [&entries[0], &entries[2]] {
            bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(street::home(5)) });
        }
        bench.pass(waited_ms);
        let proposed = let_it_propose(&mut bench);
        let numbers: Vec<_> = proposed.iter().map(|entry| entry.unchecked().number).collect();
        assert_eq!(numbers, expected, "after {waited_ms} ms");
    }
}

#[test]
fn of_two_entries_with_one_number_the_lower_hash_stays_whichever_came_first() {
    let chain = genesis().chain();
    let mut twins = [190_000, 210_000].map(|price| street::limit_with_number(5, 1, price, &chain));
    let mut kept = Vec::new();
    for _ in 0..2 {
        twins.reverse();
        let mut bench = proposer_that_waits();
        for bytes in &twins {
            bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(street::home(5)) });
        }
        assert_eq!(bench.replica.mempool_len(), 1);
        let lower = twins.iter().min_by_key(|bytes| bench.verified(bytes).id()).expect("two");
        let proposed = let_it_propose(&mut bench);
        assert_eq!(proposed[0].to_bytes(), *lower);
        kept.push(proposed[0].to_bytes());
    }
    assert_eq!(kept[0], kept[1]);
}

#[test]
fn own_entries_leave_at_once_and_then_in_frames() {
    let mut bench = Bench::validator();
    let mut journal = Journal::new(bench.me, bench.chain());
    let frames = |bench: &Bench| {
        let gossip = bench.effects.iter().filter_map(|effect| match effect {
            Effect::GossipEntries(bytes) => Some(bytes.clone()),
            _ => None,
        });
        gossip.map(|bytes| Message::from_bytes(&bytes).expect("a frame")).collect::<Vec<_>>()
    };
    let entries: Vec<_> = (0..40).map(|_| journal.limit()).collect();
    for bytes in &entries {
        bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Own });
    }
    assert_eq!(frames(&bench), [Message::Entries(entries[..1].to_vec())]);
    bench.pass(20);
    bench.step(Input::Timer(Timer::Frame));
    assert_eq!(frames(&bench)[1..], [Message::Entries(entries[1..].to_vec())]);
}

#[test]
fn one_delegate_hands_on_what_another_did_not() {
    let mut bench = Bench::validator();
    let bytes = Journal::new(5, bench.chain()).limit();
    bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(street::home(5)) });
    let another = bench.others()[0];
    bench.hear(another, &Message::Entries(vec![bytes.clone()]));
    for _ in 0..8 {
        bench.pass(500);
        bench.step(Input::Timer(Timer::Relay));
    }
    assert!(
        !bench.said().contains(&Message::Entries(vec![bytes])),
        "all delegates have it from the other one"
    );
}

#[test]
fn an_order_is_forgotten_once_its_gate_has_closed() {
    let mut bench = Bench::validator_before_gate();
    let home = bench.me;
    let bytes = street::order(home, &bench.chain());
    bench.step(Input::Entry { bytes, origin: Origin::Own });
    assert_eq!(bench.replica.mempool_len(), 1, "{}", bench.notes());
    bench.market = street::first_gate();
    let executed = bench.build(bench.market, &[]);
    let certificate = bench.certificate(bench.height(), 0, executed.block.id());
    bench.step(Input::Final {
        from: street::home(0),
        bytes: Message::Final(executed.block.to_bytes(), certificate).to_bytes(),
    });
    assert_eq!(bench.replica.mempool_len(), 0);
    assert!(bench.notes().contains("the gate of its interval has closed"), "{}", bench.notes());
}

#[test]
fn while_much_waits_the_newest_entries_wait_for_the_others_to_check_them() {
    let mut bench = proposer_that_waits();
    for home in [0, 4, 5] {
        let mut journal = Journal::new(home, bench.chain());
        for _ in 0..350 {
            let bytes = journal.limit();
            bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(home)) });
        }
    }
    bench.pass(300);
    let newest = Journal::new(1, bench.chain()).limit();
    bench.step(Input::Entry { bytes: newest.clone(), origin: Origin::Peer(street::home(1)) });
    let proposed = let_it_propose(&mut bench);
    assert!(proposed.len() > 100, "{}", proposed.len());
    assert!(proposed.iter().all(|entry| entry.to_bytes() != newest));
}

#[test]
fn in_a_crowd_others_entries_are_tried_when_they_are_proposed_and_what_is_invalid_goes_then() {
    let mut bench = proposer_that_waits();
    let order = street::order(4, &bench.chain());
    let hand_in = |bench: &mut Bench, from: usize, bytes: Vec<u8>| {
        bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(from)) });
    };
    hand_in(&mut bench, 4, order.clone());
    assert_eq!(bench.replica.mempool_len(), 0, "nobody trades ahead here");
    for number in [4, 5] {
        let mut journal = Journal::new(number, bench.chain());
        for _ in 0..501 {
            let bytes = journal.limit();
            hand_in(&mut bench, number, bytes);
        }
    }
    hand_in(&mut bench, 4, order.clone());
    assert_eq!(bench.replica.mempool_len(), 1003);
    bench.pass(1000);
    let block = let_it_propose(&mut bench);
    assert!(!block.is_empty() && block.iter().all(|entry| entry.to_bytes() != order));
    assert_eq!(bench.replica.mempool_len(), 1002, "{}", bench.notes());
}

/// Whoever has taken a recovery up signs for the chain after it, whoever has not for the one before: both are honest.
#[test]
fn an_entry_of_another_recovery_is_not_taken_and_its_relayer_is_not_blamed() {
    let mut bench = Bench::validator();
    let blamed = |bench: &Bench| bench.effects.iter().any(|effect| matches!(effect, Effect::Blame { .. }));
    let relay = |bench: &mut Bench, bytes: Vec<u8>| {
        let bytes = Message::Entries(vec![bytes]).to_bytes();
        bench.step(Input::Entries { from: street::home(4), bytes });
    };
    let chain = bench.chain();
    for recovery in [1, 2] {
        let after = ledger::Chain { recovery, ..chain };
        relay(&mut bench, street::limit_with_number(5, 1, 200_000, &after));
        assert!(bench.notes().contains("before or after a recovery"), "{}", bench.notes());
    }
    assert!(!blamed(&bench) && bench.replica.mempool_len() == 0);
    let mut forged = street::limit_with_number(5, 1, 200_000, &chain);
    *forged.last_mut().unwrap() ^= 1;
    relay(&mut bench, forged);
    assert!(blamed(&bench));
    // Of another community it is as good as forged.
    bench.effects.clear();
    let elsewhere = ledger::Chain { id: ledger::Hash32([9; 32]), ..chain };
    relay(&mut bench, street::limit_with_number(5, 1, 200_000, &elsewhere));
    assert!(blamed(&bench));
}
