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
    let gossiped = bench.effects.iter().filter(|effect| matches!(effect, Effect::GossipEntry(_))).count();
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
