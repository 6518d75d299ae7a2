//! What one replica does and refuses to do.

use consensus::log::{Record, encode_frame};
use consensus::message::{Message, Polka, RoundCertificate, RoundVote, Statement};
use consensus::{Effect, Input, Origin, Replica, Timer, new_log, read_records};
use energy::Interval;
use ledger::VoteKind::{Precommit, Prevote};
use ledger::codec::Encode as _;
use ledger::{BlockId, Hash32, PublicKey, VerifiedEntry};

use crate::bench::{Bench, DELEGATES, clean_log, genesis, proposer};
use crate::street::{self, Journal, Purpose};

/// Ten seconds and more, as a validator must have held an entry to insist on it.
const LONG_BEFORE_MS: u64 = 11_000;

pub fn first_interval(bench: &Bench) -> Interval {
    Interval::containing(bench.genesis.start, bench.genesis.mtu)
}

/// A validator that hears two homes' readings of the first interval `lead_ms` before its deadline, at the deadline.
fn readings_before_deadline(lead_ms: u64) -> (Bench, Vec<VerifiedEntry>) {
    let mut bench = Bench::validator_before_deadline();
    bench.market = bench.replica.ledger().next_deadline().minus_ms(lead_ms);
    let interval = first_interval(&bench);
    let mut readings = Vec::new();
    for number in 0..2 {
        let bytes = Journal::new(number, bench.chain()).read(interval);
        bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(street::home(number)) });
        readings.push(bench.verified(&bytes));
    }
    bench.pass(lead_ms);
    assert!(bench.replica.ledger().deadline_at(bench.market));
    (bench, readings)
}

#[test]
fn a_replica_can_move_to_its_own_thread() {
    const fn assert_send<T: Send>() {}
    assert_send::<Replica>();
    assert_send::<Effect>();
}

#[test]
fn a_good_proposal_gets_both_votes_and_is_committed_before_anything_of_the_next_height() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    let block = executed.block.id();
    bench.propose(0, &executed.block, None);
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block)));
    let others = bench.others();
    bench.hear_votes(&others[..2], Prevote, 1, 0, Some(block));
    assert_eq!(bench.voted(Precommit, 1, 0), Some(Some(block)));
    bench.hear_votes(&others[..2], Precommit, 1, 0, Some(block));
    assert_eq!(bench.replica.height(), 1);
    let commits = bench.commits();
    assert_eq!(commits.len(), 1);
    let delegates = bench.genesis.delegate_set().unwrap();
    assert_eq!(commits[0].certificate.verify(&bench.chain(), &delegates), Ok(()));
    assert_eq!(commits[0].certificate.signatures.len(), 3);
}

#[test]
fn what_binds_leaves_only_after_the_log_is_synced() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    bench.propose(0, &executed.block, None);
    let position = |wanted: fn(&Effect) -> bool| bench.effects.iter().position(wanted).unwrap();
    let appended = position(|effect| matches!(effect, Effect::AppendLog(_)));
    let synced = position(|effect| matches!(effect, Effect::SyncLog));
    let sent = position(|effect| matches!(effect, Effect::ToDelegates(_)));
    assert!(appended < synced && synced < sent);
    let logged = read_records(&bench.log).records;
    assert!(logged.iter().any(|record| matches!(record, Record::Vote(vote) if vote.kind == Prevote)));
    assert!(
        logged
            .iter()
            .any(|record| matches!(record, Record::Body(body) if *body == executed.block.to_bytes()))
    );
}

#[test]
fn a_block_from_the_future_or_the_past_gets_nil_and_a_later_round_is_more_patient() {
    for (shift_ms, ahead) in [(1500, true), (3500, false)] {
        let mut bench = Bench::validator();
        bench.pass(10_000);
        let time = if ahead { bench.market.plus_ms(shift_ms) } else { bench.market.minus_ms(shift_ms) };
        let executed = bench.build(time, &[]);
        bench.propose(0, &executed.block, None);
        assert_eq!(bench.voted(Prevote, 1, 0), Some(None), "{shift_ms}");
        // Round 1 doubles the window: 2 s ahead, 6 s behind.
        let others = bench.others();
        bench.hear_votes(&others[..2], Prevote, 1, 1, None);
        bench.propose(1, &executed.block, None);
        assert_eq!(bench.voted(Prevote, 1, 1), Some(Some(executed.block.id())), "{shift_ms}");
    }
}

#[test]
fn a_block_with_a_polka_is_exempt_from_the_clock() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market.plus_ms(60_000), &[]);
    let block = executed.block.id();
    bench.propose(0, &executed.block, None);
    assert_eq!(bench.voted(Prevote, 1, 0), Some(None));
    let others = bench.others();
    bench.hear_votes(&others, Prevote, 1, 0, Some(block));
    assert_eq!(bench.voted(Precommit, 1, 0), Some(Some(block)), "more than two thirds found it good");
}

#[test]
fn a_block_proposed_again_on_a_polka_is_exempt_from_the_clock() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market.plus_ms(60_000), &[]);
    let block = executed.block.id();
    let others = bench.others();
    // This node never saw round 0: it is told of the polka, and of round 1.
    let votes = others.iter().map(|number| bench.vote(*number, Prevote, 1, 0, Some(block)));
    let signatures = votes.map(|vote| (vote.voter, vote.signature)).collect();
    bench.hear_votes(&others[..2], Precommit, 1, 1, None);
    bench.hear(others[0], &Message::Polka(Polka { height: 1, round: 0, block, signatures }));
    bench.propose(1, &executed.block, Some(0));
    assert_eq!(bench.voted(Prevote, 1, 1), Some(Some(block)));
}

#[test]
fn a_claimed_polka_that_nobody_has_seen_exempts_from_nothing() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market.plus_ms(60_000), &[]);
    let others = bench.others();
    bench.hear_votes(&others[..2], Prevote, 1, 1, None);
    bench.propose(1, &executed.block, Some(0));
    assert_ne!(bench.voted(Prevote, 1, 1), Some(Some(executed.block.id())));
}

#[test]
fn a_deadline_block_that_leaves_out_a_reading_received_in_time_gets_nil_and_the_reading_is_sent_on() {
    let (mut bench, readings) = readings_before_deadline(LONG_BEFORE_MS);
    let executed = bench.build(bench.market, &readings[..1]);
    bench.propose(0, &executed.block, None);
    assert_eq!(bench.voted(Prevote, bench.height(), 0), Some(None), "{}", bench.notes());
    let handed_on = bench.said().into_iter().any(|message| match message {
        Message::Entries(entries) => entries == vec![readings[1].bytes().to_vec()],
        _ => false,
    });
    assert!(handed_on);
}

#[test]
fn a_deadline_block_with_all_that_was_received_in_time_gets_the_vote() {
    let (mut bench, readings) = readings_before_deadline(LONG_BEFORE_MS);
    let executed = bench.build(bench.market, &readings);
    bench.propose(0, &executed.block, None);
    assert_eq!(bench.voted(Prevote, bench.height(), 0), Some(Some(executed.block.id())));
}

#[test]
fn a_reading_received_only_just_before_the_deadline_may_be_left_out() {
    let (mut bench, _) = readings_before_deadline(5000);
    let executed = bench.build(bench.market, &[]);
    bench.propose(0, &executed.block, None);
    assert_eq!(bench.voted(Prevote, bench.height(), 0), Some(Some(executed.block.id())));
}

#[test]
fn after_round_f_a_deadline_block_is_taken_as_it_is() {
    let (mut bench, _) = readings_before_deadline(LONG_BEFORE_MS);
    let others = bench.others();
    let executed = bench.build(bench.market, &[]);
    let height = bench.height();
    bench.hear_votes(&others[..2], Prevote, height, 2, None);
    bench.propose(2, &executed.block, None);
    assert_eq!(bench.voted(Prevote, bench.height(), 2), Some(Some(executed.block.id())));
}

/// A validator at the first gate that heard an order `lead_ms` before it, or (with `None`) never did.
fn order_before_gate(lead_ms: Option<u64>) -> (Bench, VerifiedEntry) {
    let mut bench = Bench::validator_before_gate();
    let lead = lead_ms.unwrap_or(10_000);
    bench.market = street::first_gate().minus_ms(lead);
    let bytes = street::order(0, &bench.chain());
    if lead_ms.is_some() {
        bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(street::home(0)) });
    }
    bench.pass(lead);
    let order = bench.verified(&bytes);
    (bench, order)
}

#[test]
fn a_gate_block_with_orders_known_before_the_gate_gets_the_vote() {
    let (mut bench, order) = order_before_gate(Some(5_000));
    let executed = bench.build(bench.market, &[order]);
    assert_eq!(executed.block.entries.len(), 1);
    bench.propose(0, &executed.block, None);
    assert_eq!(bench.voted(Prevote, bench.height(), 0), Some(Some(executed.block.id())), "{}", bench.notes());
}

#[test]
fn a_gate_block_with_an_order_nobody_knew_before_the_gate_gets_nil_until_round_f() {
    for lead_ms in [None, Some(1_000)] {
        let (mut bench, order) = order_before_gate(lead_ms);
        let executed = bench.build(bench.market, &[order]);
        assert_eq!(executed.block.entries.len(), 1);
        bench.propose(0, &executed.block, None);
        let height = bench.height();
        assert_eq!(bench.voted(Prevote, height, 0), Some(None), "heard {lead_ms:?} ms before");
        assert!(bench.notes().contains("not here before the gate"), "{}", bench.notes());
        let others = bench.others();
        bench.hear_votes(&others[..2], Prevote, height, 2, None);
        bench.propose(2, &executed.block, None);
        assert_eq!(bench.voted(Prevote, height, 2), Some(Some(executed.block.id())), "{}", bench.notes());
    }
}

#[test]
fn a_block_whose_entries_do_not_give_its_header_gets_nil() {
    let (mut bench, readings) = readings_before_deadline(LONG_BEFORE_MS);
    let mut block = bench.build(bench.market, &readings).block;
    block.entries.pop();
    bench.propose(0, &block, None);
    assert_eq!(bench.voted(Prevote, bench.height(), 0), Some(None), "{}", bench.notes());
}

#[test]
fn false_entries_beside_a_true_header_harm_only_who_sends_them() {
    let (mut bench, readings) = readings_before_deadline(LONG_BEFORE_MS);
    let good = bench.build(bench.market, &readings).block;
    let mut false_copy = good.clone();
    false_copy.entries.pop();
    let (author, message) = bench.proposal(bench.height(), 0, &good, None);
    let Message::Proposal(proposal, _) = message.clone() else { panic!("a proposal") };
    let meddler = bench.others().into_iter().find(|number| *number != author).unwrap();
    bench.hear(meddler, &Message::Proposal(proposal, false_copy.to_bytes()));
    assert_eq!(bench.voted(Prevote, bench.height(), 0), None);
    bench.hear(author, &message);
    assert_eq!(bench.voted(Prevote, bench.height(), 0), Some(Some(good.id())));
}

#[test]
fn a_flood_of_proposals_does_not_keep_out_the_next_honest_one() {
    let mut bench = Bench::validator();
    let others = bench.others();
    let flood: Vec<_> = (0..80).map(|shift| bench.build(bench.market.plus_ms(shift), &[]).block).collect();
    for (round, block) in (0..400_u32).step_by(5).zip(&flood) {
        bench.propose(round, block, None);
    }
    bench.hear_votes(&others[..2], Prevote, 1, 2, None);
    let honest = bench.build(bench.market.plus_ms(900), &[]).block;
    bench.propose(2, &honest, None);
    assert_eq!(bench.voted(Prevote, 1, 2), Some(Some(honest.id())));
}

#[test]
fn one_delegate_cannot_push_the_rest_through_rounds_or_certificates() {
    let mut bench = Bench::validator();
    let block = bench.build(bench.market, &[]).block;
    bench.propose(0, &block, None);
    let liar = bench.others()[0];
    for round in 1..300 {
        let vote = bench.vote(liar, Precommit, 1, round, None);
        let (voter, signature) = (vote.voter, vote.signature);
        let votes = vec![RoundVote { kind: Precommit, block: None, voter, signature }];
        bench.hear(liar, &Message::Round(RoundCertificate { height: 1, round, skip: true, votes }));
        bench.hear(liar, &Message::Vote(vote));
    }
    assert_eq!(bench.replica.round(), Some(0));
    // It held the votes of the next ten rounds at most: that is what it could tell the liar about itself.
    let key = PublicKey::of(&street::key(Purpose::Term, liar));
    bench.hear(liar, &Message::RecoverRequest { height: 1, key });
    let held = bench.sent_to(liar).into_iter().find_map(|message| match message {
        Message::RecoverResponse { statements, .. } => Some(statements.len()),
        _ => None,
    });
    assert!(held.is_some_and(|count| count <= 12), "{held:?}");
}

#[test]
fn a_proposal_of_who_is_not_the_proposer_is_not_heard() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    let (_, message) = bench.proposal(1, 1, &executed.block, None);
    let Message::Proposal(mut proposal, body) = message else { panic!("a proposal") };
    proposal.round = 0;
    let from = proposer(&bench.genesis, 1, 1);
    bench.hear(from, &Message::Proposal(proposal, body));
    assert_eq!(bench.replica.round(), None, "it does not even start the height");
}

#[test]
fn two_votes_of_one_delegate_are_evidence_against_it() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    let block = executed.block.id();
    let others = bench.others();
    bench.propose(0, &executed.block, None);
    bench.hear_votes(&others[..1], Prevote, 1, 0, None);
    bench.hear_votes(&others, Prevote, 1, 0, Some(block));
    bench.hear_votes(&others, Precommit, 1, 0, Some(block));
    assert_eq!(bench.replica.height(), 1);
    let evidence = bench.evidence();
    assert_eq!(evidence.len(), 1);
    assert_eq!(*evidence[0].culprit(), PublicKey::of(&street::key(Purpose::Term, others[0])));
    assert!(evidence[0].first.holds(&bench.chain()) && evidence[0].second.holds(&bench.chain()));
    assert_ne!(evidence[0].first, evidence[0].second);
}

#[test]
fn the_proposer_puts_in_what_waits_and_starts_only_with_work() {
    let genesis = genesis();
    let me = proposer(&genesis, 1, 0);
    let mut bench = Bench::with_log(me, &clean_log(&genesis, me, 1));
    bench.pace();
    assert_eq!(bench.replica.round(), None, "nothing to do");
    let bytes = Journal::new(5, bench.chain()).limit();
    bench.step(Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(street::home(5)) });
    let outlines = bench.said().into_iter().filter_map(|message| match message {
        Message::Outline(_, outline) => Some(outline),
        _ => None,
    });
    let outlines: Vec<_> = outlines.collect();
    assert_eq!(outlines.len(), 1);
    assert_eq!(outlines[0].entries, [bench.verified(&bytes).id()]);
}

#[test]
fn an_empty_chain_gets_a_heartbeat_when_it_is_due() {
    let genesis = genesis();
    let me = proposer(&genesis, 1, 0);
    let mut bench = Bench::with_log(me, &clean_log(&genesis, me, 1));
    bench.pass(ledger::HEARTBEAT_MS - 2000);
    bench.pace();
    assert_eq!(bench.replica.round(), None);
    bench.pass(2000);
    bench.pace();
    assert_eq!(bench.replica.round(), Some(0));
}

#[test]
fn a_node_that_does_not_know_what_time_it_is_follows_and_does_not_vote() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    let block = executed.block.id();
    bench.propose(0, &executed.block, None);
    bench.replica.trust_clock(false);
    // The height it had started it finishes; the next one it does not start.
    let others = bench.others();
    bench.hear_votes(&others[..2], Prevote, 1, 0, Some(block));
    bench.hear_votes(&others[..2], Precommit, 1, 0, Some(block));
    assert_eq!(bench.replica.height(), 1);
    assert!(!bench.replica.is_voting());
    bench.pass(600_000);
    bench.pace();
    assert_eq!((bench.replica.round(), bench.voted(Prevote, 2, 0)), (None, None));
    bench.replica.trust_clock(true);
    bench.pace();
    assert_eq!(bench.replica.round(), Some(0));
}

#[test]
fn heights_keep_their_distance() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    let block = executed.block.id();
    let others = bench.others();
    bench.propose(0, &executed.block, None);
    bench.hear_votes(&others, Prevote, 1, 0, Some(block));
    bench.hear_votes(&others, Precommit, 1, 0, Some(block));
    let bytes = Journal::new(5, bench.chain()).limit();
    bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(5)) });
    assert_eq!(bench.replica.round(), None, "the last height started less than a second ago");
    bench.pass(1000);
    bench.pace();
    assert_eq!(bench.replica.round(), Some(0));
}

#[test]
fn a_missing_log_of_a_chain_that_has_begun_bars_from_voting() {
    let mut first = Bench::validator();
    let executed = first.build(first.market, &[]);
    let final_block = (executed.block.to_bytes(), first.certificate(1, 0, executed.block.id()));
    first.hear(first.others()[0], &Message::Final(final_block.0, final_block.1));
    assert_eq!(first.replica.height(), 1);
    let (genesis, ledger, me) = (first.genesis.clone(), first.replica.ledger().clone(), first.me);
    let mut bench = Bench::at(genesis, ledger, me, &[]);
    assert!(!bench.replica.is_voting());
    assert!(bench.replica.barred().unwrap().contains("missing"));
    let executed = bench.build(bench.market, &[]);
    bench.propose(0, &executed.block, None);
    bench.pass(600_000);
    bench.pace();
    assert!(bench.said().is_empty());
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::AppendLog(_) | Effect::TrimLog(_))));
}

/// Found by simulation (seed 172): a home that had never held a seat stopped between making a key and winning one.
#[test]
fn a_missing_log_of_a_key_that_never_held_a_seat_is_founded() {
    let mut delegate = Bench::validator();
    let executed = delegate.build(delegate.market, &[]);
    let certificate = delegate.certificate(1, 0, executed.block.id());
    delegate.hear(delegate.others()[0], &Message::Final(executed.block.to_bytes(), certificate));
    let (genesis, ledger) = (delegate.genesis.clone(), delegate.replica.ledger().clone());
    let follower = Bench::at(genesis, ledger, DELEGATES, &[]);
    assert_eq!((follower.replica.height(), follower.replica.barred()), (1, None));
    let key = PublicKey::of(&street::key(Purpose::Term, DELEGATES));
    assert_eq!(follower.log, new_log(follower.chain(), key));
}

/// Found by simulation (seed 280): a founder whose node came late, and was killed before the others had answered it.
#[test]
fn a_founder_that_is_stopped_while_it_asks_asks_on_when_it_has_blocks() {
    let mut founder = Bench::with_log(3, &[]);
    let executed = founder.build(founder.market, &[]);
    let certificate = founder.certificate(1, 0, executed.block.id());
    founder.hear(founder.others()[0], &Message::Final(executed.block.to_bytes(), certificate));
    assert_eq!((founder.replica.height(), founder.replica.is_voting()), (1, false));
    let (genesis, ledger) = (founder.genesis.clone(), founder.replica.ledger().clone());

    let mut again = Bench::at(genesis.clone(), ledger.clone(), 3, &founder.log);
    assert_eq!((again.replica.barred(), again.replica.is_voting()), (None, false));
    let nothing = Message::RecoverResponse { height: 2, statements: vec![] };
    again.hear(again.others()[0], &nothing);
    again.hear(again.others()[1], &nothing);
    assert!(again.replica.is_voting());

    let lost = Bench::at(genesis, ledger, 3, &[]);
    assert!(
        lost.replica.barred().unwrap().contains("missing"),
        "with blocks and no log at all it may have voted"
    );
}

#[test]
fn a_founder_that_the_chain_shows_has_signed_is_barred_at_the_next_start_too() {
    let mut founder = Bench::with_log(0, &[]);
    let executed = founder.build(founder.market, &[]);
    let certificate = founder.certificate(1, 0, executed.block.id());
    founder.hear(founder.others()[0], &Message::Final(executed.block.to_bytes(), certificate));
    assert!(founder.replica.barred().unwrap().contains("the chain bears signatures of this term key"));
    assert_eq!(founder.log, []);
    let trimmed = founder.effects.iter().rposition(|effect| matches!(effect, Effect::TrimLog(_)));
    let stored = founder.effects.iter().position(|effect| matches!(effect, Effect::Commit(_)));
    assert!(trimmed < stored, "the log says so before the block that shows it is stored");
    let (genesis, ledger) = (founder.genesis.clone(), founder.replica.ledger().clone());
    assert!(Bench::at(genesis, ledger, 0, &founder.log).replica.barred().is_some());
}

/// Found by simulation (seed 5933): the block that its own precommit had decided was damaged on its disk.
#[test]
fn a_precommit_that_decides_is_in_the_log_before_the_block_is_stored_and_binds_where_that_is_lost() {
    let mut bench = Bench::validator();
    let (genesis, ledger) = (bench.genesis.clone(), bench.replica.ledger().clone());
    let executed = bench.build(bench.market, &[]);
    let block = Some(executed.block.id());
    bench.propose(0, &executed.block, None);
    let others = bench.others();
    bench.hear_votes(&others[..2], Precommit, 1, 0, block);
    assert_eq!(bench.replica.height(), 0);
    bench.hear_votes(&others[..2], Prevote, 1, 0, block);
    assert_eq!((bench.replica.height(), bench.voted(Precommit, 1, 0)), (1, Some(block)));
    let said = bench.effects.iter().rposition(|effect| matches!(effect, Effect::ToDelegates(_)));
    let synced = bench.effects.iter().rposition(|effect| matches!(effect, Effect::SyncLog));
    let stored = bench.effects.iter().position(|effect| matches!(effect, Effect::Commit(_)));
    assert!(synced < said && said < stored, "{synced:?} {said:?} {stored:?}");

    let mut again = Bench::at(genesis, ledger, bench.me, &bench.log);
    let nothing = Message::RecoverResponse { height: 1, statements: vec![] };
    others.iter().for_each(|other| again.hear(*other, &nothing));
    again.propose(0, &executed.block, None);
    assert_eq!(Some(again.replica.ledger().head()), block, "what it said and heard decides again");
    assert!([None, Some(block)].contains(&again.voted(Precommit, 1, 0)));
}

#[test]
fn a_damaged_log_bars_from_voting_and_is_left_as_it_is() {
    let genesis = genesis();
    let mut log = clean_log(&genesis, 0, 1);
    let flipped = log.len() - 3;
    log[flipped] ^= 1;
    log.extend(encode_frame(&[Record::Height(1)]));
    let bench = Bench::with_log(0, &log);
    assert!(bench.replica.barred().unwrap().contains("damaged at byte 0"));
    assert_eq!(bench.log, log);
}

#[test]
fn a_log_that_could_not_be_read_at_all_bars_from_voting_even_where_the_ledger_is_lost_too() {
    let bench = Bench::with_log(0, &consensus::damaged_log());
    assert!(bench.replica.barred().unwrap().contains("damaged at byte 0"));
    assert!(!bench.replica.is_voting());
}

#[test]
fn a_log_of_another_key_or_chain_bars_from_voting() {
    let genesis = genesis();
    let bench = Bench::with_log(0, &clean_log(&genesis, 1, 1));
    assert!(bench.replica.barred().unwrap().contains("another"));
}

#[test]
fn an_unclean_stop_asks_two_thirds_before_voting() {
    let genesis = genesis();
    let me = proposer(&genesis, 1, 3);
    let log = new_log(genesis.chain(), PublicKey::of(&street::key(Purpose::Term, me)));
    let mut bench = Bench::with_log(me, &log);
    assert!(!bench.replica.is_voting());
    assert!(matches!(bench.said()[..], [Message::RecoverRequest { height: 1, .. }]));
    let nothing = |height| Message::RecoverResponse { height, statements: vec![] };
    let others = bench.others();
    bench.hear(others[0], &nothing(1));
    bench.hear(others[0], &nothing(1));
    bench.hear(DELEGATES, &nothing(1));
    bench.hear(others[1], &nothing(0));
    assert!(!bench.replica.is_voting(), "one twice, an outsider, and one that is behind");
    bench.hear(others[1], &nothing(1));
    assert!(bench.replica.is_voting());
}

#[test]
fn a_clean_stop_is_written_and_believed() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    bench.propose(0, &executed.block, None);
    let prevoted = bench.voted(Prevote, 1, 0);
    bench.step(Input::Stop);
    assert_eq!(read_records(&bench.log).clean_stop, Some(1));
    let ledger = bench.replica.ledger().clone();
    let mut again = Bench::at(bench.genesis.clone(), ledger, bench.me, &bench.log);
    assert!(again.replica.is_voting());
    again.hear_votes(&bench.others()[..1], Prevote, 1, 0, None);
    assert_eq!(again.voted(Prevote, 1, 0), prevoted, "it says what it said");
}

#[test]
fn a_key_that_others_have_heard_of_does_not_vote_from_an_empty_log() {
    let mut bench = Bench::with_log(0, &[]);
    let said = bench.vote(0, Prevote, 1, 0, None);
    let others = bench.others();
    bench.hear(others[0], &Message::RecoverResponse { height: 1, statements: vec![Statement::Vote(said)] });
    assert!(bench.replica.barred().unwrap().contains("others hold statements"));
    bench.hear(others[1], &Message::RecoverResponse { height: 1, statements: vec![] });
    assert!(!bench.replica.is_voting());
}

#[test]
fn a_key_that_signed_blocks_does_not_vote_when_log_and_ledger_are_both_lost() {
    // The bench's certificates are signed by the homes 0, 1 and 2.
    let after_fetching_a_block = |me: usize| {
        let mut bench = Bench::with_log(me, &[]);
        let executed = bench.build(bench.market, &[]);
        let certificate = bench.certificate(1, 0, executed.block.id());
        let others = bench.others();
        bench.hear(others[0], &Message::Final(executed.block.to_bytes(), certificate));
        for other in &others[..2] {
            bench.hear(*other, &Message::RecoverResponse { height: 2, statements: vec![] });
        }
        assert_eq!(bench.replica.height(), 1);
        (bench.replica.barred().map(str::to_owned), bench.replica.is_voting())
    };
    let (barred, votes) = after_fetching_a_block(0);
    assert!(barred.unwrap().contains("the chain bears signatures of this term key"));
    assert!(!votes);
    assert_eq!(after_fetching_a_block(3), (None, true), "who only comes late may vote");
}

/// A delegate whose log lost its precommit for a block in round 0, told so by others.
fn with_recovered_lock(locked: BlockId, bench: &Bench) -> Bench {
    let me = bench.me;
    let log = new_log(bench.chain(), PublicKey::of(&street::key(Purpose::Term, me)));
    let mut again = Bench::with_log(me, &log);
    let said = again.vote(me, Precommit, 1, 0, Some(locked));
    let others = again.others();
    again.hear(others[0], &Message::RecoverResponse { height: 1, statements: vec![Statement::Vote(said)] });
    again.hear(others[1], &Message::RecoverResponse { height: 1, statements: vec![] });
    assert!(again.replica.is_voting());
    again
}

#[test]
fn a_recovered_precommit_still_locks() {
    let bench = Bench::validator();
    let locked = bench.build(bench.market, &[]).block;
    let other = bench.build(bench.market.plus_ms(1), &[]).block;
    let mut again = with_recovered_lock(locked.id(), &bench);
    let others = again.others();
    again.hear_votes(&others[..2], Prevote, 1, 1, None);
    again.propose(1, &other, None);
    assert_eq!(again.voted(Prevote, 1, 1), Some(None), "another block without a later polka");
    again.hear_votes(&others[..2], Prevote, 1, 2, None);
    again.propose(2, &locked, None);
    assert_eq!(again.voted(Prevote, 1, 2), Some(Some(locked.id())), "the block it is locked on");
    // And the substitution survives a restart: replaying gives the same votes, not a divergence.
    let ledger = again.replica.ledger().clone();
    let mut restarted = Bench::at(again.genesis.clone(), ledger, again.me, &again.log);
    for number in &others[..2] {
        restarted.hear(*number, &Message::RecoverResponse { height: 1, statements: vec![] });
    }
    restarted.hear_votes(&others[..1], Precommit, 1, 2, None);
    assert!(!restarted.notes().contains("replaying"), "{}", restarted.notes());
    assert_eq!(restarted.voted(Prevote, 1, 1), Some(None));
}

#[test]
fn a_recovered_lock_yields_to_a_later_polka() {
    let bench = Bench::validator();
    let locked = bench.build(bench.market, &[]).block;
    let other = bench.build(bench.market.plus_ms(1), &[]).block;
    let mut again = with_recovered_lock(locked.id(), &bench);
    let others = again.others();
    again.hear_votes(&others, Prevote, 1, 1, Some(other.id()));
    again.hear_votes(&others[..2], Prevote, 1, 2, None);
    again.propose(2, &other, Some(1));
    assert_eq!(again.voted(Prevote, 1, 2), Some(Some(other.id())));
}

#[test]
fn a_recovered_vote_is_repeated_never_contradicted() {
    let bench = Bench::validator();
    let block = bench.build(bench.market, &[]).block;
    let me = bench.me;
    let log = new_log(bench.chain(), PublicKey::of(&street::key(Purpose::Term, me)));
    let mut again = Bench::with_log(me, &log);
    let said = again.vote(me, Prevote, 1, 0, None);
    let others = again.others();
    again.hear(others[0], &Message::RecoverResponse { height: 1, statements: vec![Statement::Vote(said)] });
    again.hear(others[1], &Message::RecoverResponse { height: 1, statements: vec![] });
    again.propose(0, &block, None);
    assert_eq!(again.voted(Prevote, 1, 0), Some(None), "it had said nil");
    let ledger = again.replica.ledger().clone();
    let mut restarted = Bench::at(again.genesis.clone(), ledger, me, &again.log);
    for number in &others[..2] {
        restarted.hear(*number, &Message::RecoverResponse { height: 1, statements: vec![] });
    }
    restarted.hear_votes(&others[..1], Prevote, 1, 0, None);
    assert!(!restarted.notes().contains("replaying"), "{}", restarted.notes());
    assert_eq!(restarted.voted(Prevote, 1, 0), Some(None));
}

#[test]
fn a_statement_others_invented_binds_nobody() {
    let genesis = genesis();
    let me = proposer(&genesis, 1, 3);
    let log = new_log(genesis.chain(), PublicKey::of(&street::key(Purpose::Term, me)));
    let mut bench = Bench::with_log(me, &log);
    let others = bench.others();
    let mut forged = bench.vote(me, Prevote, 1, 0, None);
    forged.signature = bench.vote(others[0], Prevote, 1, 0, None).signature;
    for number in &others[..2] {
        let statements = vec![Statement::Vote(forged.clone())];
        bench.hear(*number, &Message::RecoverResponse { height: 1, statements });
    }
    let block = bench.build(bench.market, &[]).block;
    bench.propose(0, &block, None);
    assert_eq!(bench.voted(Prevote, 1, 0), Some(Some(block.id())));
}

#[test]
fn a_log_whose_replay_says_otherwise_halts_the_node() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    bench.propose(0, &executed.block, None);
    let mut records = read_records(&bench.log).records;
    let me = bench.me;
    let other = bench.vote(me, Prevote, 1, 0, Some(BlockId(Hash32::of(&[b"never proposed"]))));
    for record in &mut records {
        if matches!(record, Record::Vote(vote) if vote.voter == other.voter) {
            *record = Record::Vote(other.clone());
        }
    }
    records.push(Record::CleanStop(1));
    let ledger = bench.replica.ledger().clone();
    let mut again = Bench::at(bench.genesis.clone(), ledger, me, &encode_frame(&records));
    again.hear_votes(&bench.others()[..1], Prevote, 1, 0, None);
    assert!(again.notes().contains("replaying the consensus log gave another prevote"), "{}", again.notes());
    assert!(again.said().is_empty(), "and says nothing");
}

#[test]
fn a_decision_that_was_logged_but_not_stored_is_stored_at_the_restart() {
    let mut bench = Bench::validator();
    let ledger = bench.replica.ledger().clone();
    let executed = bench.build(bench.market, &[]);
    let block = executed.block.id();
    let others = bench.others();
    bench.propose(0, &executed.block, None);
    bench.hear_votes(&others, Prevote, 1, 0, Some(block));
    // Two precommits of others reach the log with this node's own; the third decides and the power fails.
    let mut log = bench.log.clone();
    let votes = others.iter().map(|number| Record::Vote(bench.vote(*number, Precommit, 1, 0, Some(block))));
    log.extend(encode_frame(&votes.collect::<Vec<_>>()));
    let mut again = Bench::at(bench.genesis.clone(), ledger, bench.me, &log);
    for number in &others[..2] {
        again.hear(*number, &Message::RecoverResponse { height: 1, statements: vec![] });
    }
    again.hear_votes(&others[..1], Prevote, 1, 0, Some(block));
    assert_eq!(again.replica.height(), 1, "{}", again.notes());
    assert_eq!(again.commits()[0].certificate.block, block);
}

#[test]
fn a_log_that_has_grown_is_trimmed_after_the_commit_and_still_believed() {
    let mut bench = Bench::validator();
    let (mut trimmed, mut heights) = (None, 0);
    while trimmed.is_none() && heights < 2000 {
        heights += 1;
        bench.effects.clear();
        bench.pass(1000);
        let height = bench.height();
        let block = bench.build(bench.market, &[]).block;
        let others = bench.others();
        if proposer(&bench.genesis, height, 0) == bench.me {
            let certificate = bench.certificate(height, 0, block.id());
            bench.hear(others[0], &Message::Final(block.to_bytes(), certificate));
        } else {
            bench.propose(0, &block, None);
            bench.hear_votes(&others[..2], Prevote, height, 0, Some(block.id()));
            bench.hear_votes(&others[..2], Precommit, height, 0, Some(block.id()));
        }
        assert_eq!(bench.replica.height(), height, "{}", bench.notes());
        trimmed = bench.effects[1..].iter().position(|effect| matches!(effect, Effect::TrimLog(_)));
    }
    let committed = bench.effects[1..].iter().position(|effect| matches!(effect, Effect::Commit(_)));
    assert!(trimmed.is_some() && committed < trimmed, "after {heights} heights");
    assert!(bench.log.len() < 200, "{} bytes", bench.log.len());
    bench.step(Input::Stop);
    let again = Bench::at(bench.genesis.clone(), bench.replica.ledger().clone(), bench.me, &bench.log);
    assert!(again.replica.is_voting());
}

#[test]
fn a_follower_takes_final_blocks_and_says_nothing() {
    let mut bench = Bench::with_log(DELEGATES + 1, &[]);
    let executed = bench.build(bench.market, &[]);
    let certificate = bench.certificate(1, 0, executed.block.id());
    let bytes = Message::Final(executed.block.to_bytes(), certificate).to_bytes();
    bench.step(Input::Final { from: street::home(0), bytes });
    assert_eq!(bench.replica.height(), 1);
    assert!(bench.said().is_empty());
    assert!(!bench.replica.is_voting() && bench.replica.barred().is_none());
}

#[test]
fn a_key_without_a_seat_gets_a_log_that_says_it_signed_nothing() {
    let mut bench = Bench::with_log(DELEGATES, &[]);
    let executed = bench.build(bench.market, &[]);
    let certificate = bench.certificate(1, 0, executed.block.id());
    bench.hear(0, &Message::Final(executed.block.to_bytes(), certificate));
    let ledger = bench.replica.ledger().clone();
    assert_eq!(ledger.height(), 1);
    let again = Bench::at(bench.genesis.clone(), ledger, DELEGATES, &bench.log);
    assert_eq!(again.replica.barred(), None);
    assert!(!again.replica.is_voting());
}

#[test]
fn a_final_block_needs_the_signatures_of_more_than_two_thirds() {
    let mut bench = Bench::with_log(DELEGATES, &[]);
    let executed = bench.build(bench.market, &[]);
    let mut certificate = bench.certificate(1, 0, executed.block.id());
    certificate.signatures.pop();
    let bytes = Message::Final(executed.block.to_bytes(), certificate).to_bytes();
    bench.step(Input::Final { from: street::home(0), bytes });
    assert_eq!(bench.replica.height(), 0);
    assert!(bench.notes().contains("2 signatures where 3 are needed"), "{}", bench.notes());
}

#[test]
fn a_node_that_was_away_asks_who_is_ahead_and_another_one_after_a_false_answer() {
    let mut bench = Bench::with_log(DELEGATES, &[]);
    let executed = bench.build(bench.market, &[]);
    let certificate = bench.certificate(1, 0, executed.block.id());
    bench.hear(0, &Message::Status { height: 3 });
    bench.hear(1, &Message::Status { height: 3 });
    let asks = |bench: &Bench, number| {
        let sent = bench.sent_to(number);
        sent.iter().filter(|message| matches!(message, Message::SyncRequest { from_height: 1, .. })).count()
    };
    assert_eq!((asks(&bench, 0), asks(&bench, 1)), (1, 0));
    let mut forged = certificate.clone();
    forged.signatures[0].1.0[5] ^= 1;
    bench.hear(0, &Message::SyncResponse(vec![(executed.block.to_bytes(), forged)]));
    assert_eq!(bench.replica.height(), 0);
    assert_eq!((asks(&bench, 0), asks(&bench, 1)), (1, 1), "the other one is asked");
    bench.hear(1, &Message::SyncResponse(vec![(executed.block.to_bytes(), certificate)]));
    assert_eq!(bench.replica.height(), 1);
    let goes_on =
        bench.sent_to(1).iter().any(|message| matches!(message, Message::SyncRequest { from_height: 2, .. }));
    assert!(goes_on);
}

#[test]
fn members_without_a_seat_cannot_keep_a_delegate_from_voting_by_claiming_to_be_ahead() {
    let votes_after_claims_of = |liars: [usize; 2]| {
        let mut bench = Bench::validator();
        for number in liars {
            bench.hear(number, &Message::Status { height: u64::MAX });
        }
        let executed = bench.build(bench.market, &[]);
        bench.propose(0, &executed.block, None);
        bench.pace();
        bench.said().iter().any(|message| matches!(message, Message::Vote(_)))
    };
    assert!(votes_after_claims_of([DELEGATES, DELEGATES + 1]));
    let others = Bench::validator().others();
    assert!(!votes_after_claims_of([others[0], others[1]]), "two delegates of four: one of them is honest");
}

#[test]
fn who_does_not_answer_is_passed_over() {
    let mut bench = Bench::with_log(DELEGATES, &[]);
    bench.hear(0, &Message::Status { height: 3 });
    bench.hear(1, &Message::Status { height: 3 });
    bench.pass(2000);
    bench.step(Input::Timer(Timer::Sync));
    let asked = |number| bench.sent_to(number).iter().any(|sent| matches!(sent, Message::SyncRequest { .. }));
    assert!(asked(0) && asked(1));
}

#[test]
fn who_is_behind_is_told_and_served() {
    let mut bench = Bench::validator();
    let executed = bench.build(bench.market, &[]);
    let certificate = bench.certificate(1, 0, executed.block.id());
    bench.hear(bench.others()[0], &Message::Final(executed.block.to_bytes(), certificate));
    bench.hear(DELEGATES, &Message::Status { height: 0 });
    assert!(bench.sent_to(DELEGATES).contains(&Message::Status { height: 1 }));
    bench.hear(DELEGATES, &Message::SyncRequest { from_height: 1, max_bytes: u32::MAX });
    let served = bench.effects.iter().any(|effect| {
        matches!(effect, Effect::ServeBlocks { to, from_height: 1, max_bytes } if *to == street::home(DELEGATES) && *max_bytes <= 1 << 20)
    });
    assert!(served);
}

#[test]
fn a_delegate_that_is_overtaken_takes_the_decided_block_and_goes_on_voting() {
    let mut bench = Bench::validator();
    let stale = bench.build(bench.market.plus_ms(1), &[]);
    let decided = bench.build(bench.market, &[]);
    bench.propose(0, &stale.block, None);
    let certificate = bench.certificate(1, 2, decided.block.id());
    bench.hear(bench.others()[0], &Message::Final(decided.block.to_bytes(), certificate));
    assert_eq!(bench.replica.height(), 1);
    assert!(bench.replica.is_voting());
    bench.pass(2000);
    let next = bench.build(bench.market, &[]);
    let (from, message) = bench.proposal(2, 0, &next.block, None);
    if from != bench.me {
        bench.hear(from, &message);
        assert_eq!(bench.voted(Prevote, 2, 0), Some(Some(next.block.id())));
    }
}

#[test]
fn messages_of_far_heights_and_of_strangers_are_not_kept() {
    let mut bench = Bench::validator();
    let before = bench.effects.len();
    let others = bench.others();
    bench.hear_votes(&others[..1], Prevote, 9, 0, None);
    let stranger = bench.vote(DELEGATES, Prevote, 1, 0, None);
    bench.hear(DELEGATES, &Message::Vote(stranger.clone()));
    bench.hear(others[0], &Message::Vote(stranger));
    assert_eq!(bench.replica.round(), None, "neither starts the height");
    // The only thing that comes of it: whoever claims height 8 is asked for blocks.
    assert!(bench.effects.len() > before);
    assert!(bench.said().is_empty());
}

#[test]
fn a_single_delegate_decides_alone() {
    let genesis = street::genesis(2, 1);
    let ledger = ledger::Ledger::genesis(&genesis).unwrap();
    let mut bench = Bench::at(genesis, ledger, 0, &[]);
    assert!(bench.replica.is_voting());
    let mut journal = Journal::new(1, bench.chain());
    for height in 1..4 {
        let bytes = journal.limit();
        bench.pass(1000);
        bench.step(Input::Entry { bytes, origin: Origin::Peer(street::home(1)) });
        assert_eq!(bench.replica.height(), height, "{}", bench.notes());
    }
}
