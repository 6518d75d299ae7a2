//! Proposals that name their entries: filled from what was heard, asked for where something is missing.

use consensus::message::{MESSAGE_VERSION, Message, Outline, REQUEST_ENTRIES_MAX};
use consensus::{Blame, Effect, Handed, Input, Origin, Timer};
use ledger::VoteKind::Prevote;
use ledger::{Block, EntryId, Hash32, VerifiedEntry};

use crate::bench::{Bench, DELEGATES, genesis, proposer};
use crate::street::{self, Journal};

/// Two entries, of which a validator has heard so many, and a block of both.
fn block_of_two(heard: usize) -> (Bench, Vec<VerifiedEntry>, Block) {
    let mut bench = Bench::validator();
    let mut entries = Vec::new();
    for home in [4, 5] {
        let bytes = Journal::new(home, bench.chain()).limit();
        if entries.len() < heard {
            bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(street::home(home)) });
        }
        entries.push(bench.verified(&bytes));
    }
    let block = bench.build(bench.market, &entries).block;
    assert_eq!(block.entries.len(), 2);
    (bench, entries, block)
}

/// The proposer sends the outline.
fn hear_outline(bench: &mut Bench, block: &Block) -> usize {
    let (from, message) = bench.outline(1, 0, block);
    bench.hear(from, &message);
    from
}

fn asked(bench: &Bench, number: usize) -> Vec<EntryId> {
    let requests = bench.sent_to(number).into_iter().filter_map(|message| match message {
        Message::EntriesRequest(wanted) => Some(wanted),
        _ => None,
    });
    requests.flatten().collect()
}

fn answer(entries: &[VerifiedEntry]) -> Message {
    Message::Entries(entries.iter().map(|entry| entry.bytes().to_vec()).collect())
}

#[test]
fn a_block_whose_entries_were_heard_needs_nothing_but_their_names() {
    let (mut bench, _, block) = block_of_two(2);
    let from = hear_outline(&mut bench, &block);
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block.id())), "{}", bench.notes());
    assert_eq!(asked(&bench, from), []);
    let logged: Vec<_> = bench.logged_blocks().iter().map(|block| block.header.id()).collect();
    assert_eq!(logged, [block.id()], "whole, for a restart without the pool");
}

#[test]
fn what_is_missing_is_asked_of_the_proposer_and_then_voted_for() {
    let (mut bench, entries, block) = block_of_two(1);
    let from = hear_outline(&mut bench, &block);
    assert_eq!(bench.voted(Prevote, 1, 0), None);
    assert_eq!(asked(&bench, from), [entries[1].id()]);
    bench.hear(from, &answer(&entries[1..]));
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block.id())), "{}", bench.notes());
    assert_eq!(bench.logged_blocks()[0].entries.len(), 2);
}

#[test]
fn gossip_that_brings_the_missing_entry_fills_the_block_as_well() {
    let (mut bench, entries, block) = block_of_two(1);
    hear_outline(&mut bench, &block);
    bench.step(Input::Entries { from: street::home(5), bytes: answer(&entries[1..]).to_bytes() });
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block.id())));
    let (mut bench, entries, block) = block_of_two(1);
    hear_outline(&mut bench, &block);
    let entries = vec![Handed::Verified(entries[1].clone())];
    bench.step(Input::Verified { from: street::home(5), entries, directly: false });
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block.id())));
}

#[test]
fn where_the_proposer_is_silent_those_who_prevoted_are_asked() {
    let (mut bench, entries, block) = block_of_two(1);
    let from = hear_outline(&mut bench, &block);
    let voter = bench.others().into_iter().find(|number| *number != from).expect("another delegate");
    bench.hear_votes(&[voter], Prevote, 1, 0, Some(block.id()));
    assert_eq!(asked(&bench, voter), []);
    bench.pass(300);
    bench.step(Input::Timer(Timer::Fill));
    assert_eq!(asked(&bench, voter), [entries[1].id()]);
    bench.hear(voter, &answer(&entries[1..]));
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block.id())));
}

#[test]
fn an_entry_the_pool_would_refuse_still_fills_the_block_it_stands_in() {
    let genesis = ledger::Genesis { forward: ledger::Forward::Auction, ..genesis() };
    let ledger = ledger::Ledger::genesis(&genesis).expect("a valid genesis");
    let me = proposer(&genesis, 1, 3);
    let log = crate::bench::clean_log(&genesis, me, 1);
    let mut bench = Bench::at(genesis, ledger, me, &log);
    // A cancel is worth nothing alone; its order stands before it in the same block.
    let order = bench.verified(&street::order(5, &bench.chain()));
    let cancel = bench.verified(&street::cancel(5, order.id(), &bench.chain()));
    let block = bench.build(bench.market, &[order.clone(), cancel.clone()]).block;
    assert_eq!(block.entries.len(), 2);
    let (from, message) = bench.outline(1, 0, &block);
    bench.hear(from, &message);
    bench.hear(from, &answer(&[order, cancel]));
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block.id())), "{}", bench.notes());
}

#[test]
fn false_names_beside_a_true_header_harm_only_who_sends_them() {
    let (mut bench, entries, block) = block_of_two(2);
    let (author, message) = bench.outline(1, 0, &block);
    let Message::Outline(proposal, _) = message.clone() else { panic!("an outline") };
    let meddler = bench.others().into_iter().find(|number| *number != author).expect("another delegate");
    let mut false_outline = Outline::of(&block);
    false_outline.entries.pop();
    bench.hear(meddler, &Message::Outline(proposal, Box::new(false_outline.clone())));
    assert_eq!(bench.voted(Prevote, 1, 0), None, "{}", bench.notes());
    bench.hear(author, &message);
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block.id())));
    // The proposer itself gets nil for it.
    let mut bench = Bench::validator();
    bench.step(Input::Entry { bytes: entries[0].bytes().to_vec(), origin: Origin::Peer(street::home(4)) });
    let (author, message) = bench.outline(1, 0, &block);
    let Message::Outline(proposal, _) = message else { panic!("an outline") };
    bench.hear(author, &Message::Outline(proposal, Box::new(false_outline)));
    assert_eq!(bench.voted(Prevote, 1, 0), Some(None), "{}", bench.notes());
}

#[test]
fn a_named_entry_that_nobody_signed_gets_nil() {
    let (mut bench, entries, block) = block_of_two(1);
    let mut forged = entries[1].bytes().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let (from, message) = bench.outline(1, 0, &block);
    let Message::Outline(proposal, mut outline) = message else { panic!("an outline") };
    outline.entries[1] = EntryId(Hash32::of(&[b"commonwatt/entry/v1", &forged]));
    bench.hear(from, &Message::Outline(proposal, outline));
    bench.step(Input::Entry { bytes: forged, origin: Origin::Peer(street::home(from)) });
    assert_eq!(bench.voted(Prevote, 1, 0), Some(None), "{}", bench.notes());
}

#[test]
fn a_proposal_is_outlined_once_and_whole_when_it_is_repeated() {
    let genesis = genesis();
    let me = proposer(&genesis, 1, 0);
    let mut bench = Bench::with_log(me, &crate::bench::clean_log(&genesis, me, 1));
    let bytes = Journal::new(5, bench.chain()).limit();
    bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(5)) });
    let forms = |bench: &Bench| {
        let said = bench.said().into_iter().filter_map(|message| match message {
            Message::Outline(..) => Some("outline"),
            Message::Proposal(_, bytes) if !bytes.is_empty() => Some("whole"),
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    assert_eq!(forms(&bench), ["outline"]);
    let rebroadcast = bench.effects.iter().find_map(|effect| match effect {
        Effect::SetTimer { timer: timer @ Timer::Round { timeout, .. }, .. }
            if timeout.kind == consensus::log::TimeoutKind::Rebroadcast =>
        {
            Some(*timer)
        }
        _ => None,
    });
    bench.pass(5000);
    bench.step(Input::Timer(rebroadcast.expect("it repeats itself")));
    assert_eq!(forms(&bench), ["outline", "whole"]);
}

#[test]
fn only_delegates_are_answered_and_only_so_much() {
    let (mut bench, entries, _) = block_of_two(2);
    let wanted = Message::EntriesRequest(entries.iter().map(VerifiedEntry::id).collect());
    bench.hear(DELEGATES, &wanted);
    assert_eq!(bench.sent_to(DELEGATES), []);
    let peer = bench.others()[0];
    bench.hear(peer, &wanted);
    let given = |bench: &Bench| {
        let given = bench.sent_to(peer).into_iter().map(|message| match message {
            Message::Entries(entries) => entries.len(),
            _ => 0,
        });
        given.sum::<usize>()
    };
    assert_eq!(given(&bench), 2);
    let unknown = EntryId(Hash32::of(&[b"unknown"]));
    bench.hear(peer, &Message::EntriesRequest(vec![unknown; REQUEST_ENTRIES_MAX]));
    assert_eq!(given(&bench), 2);
    let bytes: usize = entries.iter().map(|entry| entry.bytes().len()).sum();
    for _ in 0..(5 << 20) / bytes {
        bench.hear(peer, &wanted);
    }
    assert!(given(&bench) * bytes / 2 <= 4 << 20, "{}", given(&bench));
}

#[test]
fn who_sends_what_cannot_be_read_or_was_not_signed_is_blamed() {
    let mut bench = Bench::validator();
    let blamed = |bench: &Bench| {
        let blamed = bench.effects.iter().filter_map(|effect| match effect {
            Effect::Blame { peer, what } => Some((peer.clone(), *what)),
            _ => None,
        });
        blamed.collect::<Vec<_>>()
    };
    let mut journal = Journal::new(5, bench.chain());
    let good = journal.limit();
    let mut forged = journal.limit();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    bench.hear(0, &Message::Entries(vec![good.clone(), good]));
    assert_eq!(blamed(&bench), []);
    // A later program's message is nobody's fault; a count of four thousand million entries is.
    bench.step(Input::Message { from: street::home(1), bytes: vec![99; 9] });
    let bomb = vec![MESSAGE_VERSION, 10, 0xff, 0xff, 0xff, 0xff];
    bench.step(Input::Message { from: street::home(1), bytes: bomb });
    bench.hear(2, &Message::Entries(vec![forged]));
    let expected = [(street::home(1), Blame::Unreadable), (street::home(2), Blame::Forged)];
    assert_eq!(blamed(&bench), expected[..]);
}
