//! Each block says who signed the one before.

use consensus::message::Message;
use ledger::{Block, Certificate, VoteKind};

use crate::bench::{Bench, clean_log, genesis, proposer};

/// A delegate that proposes at height 2, just after height 1 was decided by itself and two others.
fn proposer_of_the_second() -> (Bench, Vec<usize>) {
    let genesis = genesis();
    let me = proposer(&genesis, 2, 0);
    let mut bench = Bench::with_log(me, &clean_log(&genesis, me, 1));
    bench.pace();
    let block = bench.build(bench.market, &[]).block;
    bench.propose(0, &block, None);
    let others = bench.others();
    for kind in [VoteKind::Prevote, VoteKind::Precommit] {
        bench.hear_votes(&others[..2], kind, 1, 0, Some(block.id()));
    }
    assert_eq!(bench.replica.height(), 1);
    (bench, others)
}

/// The certificate in the block that the bench proposes at height 2.
fn proposed_certificate(bench: &mut Bench) -> Certificate {
    bench.pass(600_000);
    bench.pace();
    let block = bench.logged_blocks().into_iter().find(|block| block.header.height == 2);
    block.expect("a proposal").last_commit.expect("a certificate")
}

#[test]
fn a_block_carries_the_certificate_of_its_parent() {
    let (mut bench, _) = proposer_of_the_second();
    let certificate = proposed_certificate(&mut bench);
    assert_eq!(certificate, bench.commits()[0].certificate);
    assert_eq!(certificate.signatures.len(), 3);
}

#[test]
fn a_precommit_that_comes_after_the_decision_is_written_down_all_the_same() {
    let (mut bench, others) = proposer_of_the_second();
    let block = bench.commits()[0].certificate.block;
    // Neither for nil, nor a prevote, nor of another round, nor with another's signature.
    let late = others[2];
    bench.hear_votes(&[late], VoteKind::Precommit, 1, 0, None);
    bench.hear_votes(&[late], VoteKind::Prevote, 1, 0, Some(block));
    bench.hear_votes(&[late], VoteKind::Precommit, 1, 1, Some(block));
    let mut forged = bench.vote(late, VoteKind::Precommit, 1, 0, Some(block));
    forged.signature = bench.vote(others[0], VoteKind::Precommit, 1, 0, Some(block)).signature;
    bench.hear(late, &Message::Vote(forged));
    for _ in 0..2 {
        bench.hear_votes(&[late], VoteKind::Precommit, 1, 0, Some(block));
    }
    let certificate = proposed_certificate(&mut bench);
    assert_eq!(certificate.signatures.len(), 4);
    let ledger = bench.replica.ledger();
    assert_eq!(certificate.verify(ledger.chain(), ledger.last_delegates()), Ok(()));
}

#[test]
fn a_block_that_does_not_say_who_signed_the_one_before_gets_nil() {
    let genesis = genesis();
    let me = proposer(&genesis, 2, 3);
    let mut bench = Bench::with_log(me, &clean_log(&genesis, me, 1));
    bench.pace();
    let block = bench.build(bench.market, &[]).block;
    bench.propose(0, &block, None);
    let others = bench.others();
    for kind in [VoteKind::Prevote, VoteKind::Precommit] {
        bench.hear_votes(&others, kind, 1, 0, Some(block.id()));
    }
    bench.pass(600_000);
    bench.pace();
    let silent: Block = bench.replica.ledger().propose(bench.market, &[]).expect("a block").executed.block;
    bench.propose(0, &silent, None);
    assert_eq!(bench.voted(VoteKind::Prevote, 2, 0), Some(None));
    assert!(bench.notes().contains("does not say who signed the block before"), "{}", bench.notes());
}
