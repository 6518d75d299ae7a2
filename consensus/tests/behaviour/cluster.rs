//! The delegates agree whatever network, disks and crashes do; and the checks that say so can fail.

use std::collections::BTreeSet;

use ledger::PublicKey;

use crate::simulation::{Cluster, Plan, Report};
use crate::street::{self, Purpose};

fn run(plan: &Plan) -> Report {
    Cluster::new(plan.clone()).run()
}

/// Runs a plan in which nobody is dishonest: nothing forbidden happens and nobody is accused.
fn assert_sound(plan: &Plan) -> Report {
    let report = run(plan);
    assert_eq!(report.violation, None, "{plan:?}");
    assert_eq!(report.accused, BTreeSet::new(), "{plan:?}");
    assert_eq!(report.recovered, 0, "a synced log loses nothing: {plan:?}");
    report
}

fn sum(reports: &[Report], of: impl Fn(&Report) -> u64) -> u64 {
    reports.iter().map(of).sum()
}

#[test]
fn without_faults_every_block_is_decided_in_its_first_round() {
    let plan = Plan { loss: 0, crashes: false, partitions: false, ..Plan::new(1, 4) };
    let report = assert_sound(&plan);
    assert_eq!(report.rounds_above_zero, 0);
    assert!(report.height > 20, "{report:?}");
}

/// Four delegates, and proof that the faults did happen.
fn four_delegates(seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let reports: Vec<_> = seeds.map(|seed| assert_sound(&Plan::new(seed, 4))).collect();
    assert!(sum(&reports, |report| report.crashes) > 5 * count);
    assert!(sum(&reports, |report| report.dropped) > 100 * count);
    assert!(sum(&reports, |report| report.rounds_above_zero) > count);
}

#[test]
fn four_delegates_agree_and_go_on_under_loss_partitions_and_crashes() {
    four_delegates(0..25);
}

#[test]
fn four_delegates_agree_on_more_seeds() {
    four_delegates(25..50);
}

#[test]
fn seven_delegates_agree_and_go_on_under_loss_partitions_and_crashes() {
    let reports: Vec<_> = (100..106).map(|seed| assert_sound(&Plan::new(seed, 7))).collect();
    assert!(sum(&reports, |report| report.crashes) > 30);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let plan = Plan { two_faced: Some(2), ..Plan::new(7, 4) };
    let (first, second) = (run(&plan), run(&plan));
    assert_eq!(first, second);
    assert_ne!(first.trace, run(&Plan { seed: 8, ..plan }).trace);
}

#[test]
fn a_two_faced_voter_is_proven_and_nobody_else_is() {
    for seed in 0..6_u64 {
        let liar = usize::try_from(seed % 4).expect("a small number");
        let report = run(&Plan { two_faced: Some(liar), ..Plan::new(seed, 4) });
        assert_eq!(report.violation, None, "seed {seed}");
        let culprit = PublicKey::of(&street::key(Purpose::Term, liar));
        assert_eq!(report.accused, BTreeSet::from([culprit]), "seed {seed}");
    }
}

/// The negative control: without a log and without asking others an honest node says two things. If this passed
/// unnoticed, the tests above would prove nothing.
#[test]
fn a_log_dropped_at_a_crash_is_caught() {
    let caught = (0..8).filter(|seed| {
        let report = run(&Plan { forget_logs: true, ..Plan::new(*seed, 4) });
        report.violation.is_some_and(|what| what.contains("double-signed") || what.contains("disagreement"))
    });
    assert!(caught.count() >= 4);
}

/// Disks that never synced are outside of what is promised. Still, asking others for what was said keeps the chain one:
/// it may cost progress, not agreement.
#[test]
fn asking_others_keeps_the_chain_one_even_when_every_disk_lies() {
    let reports: Vec<_> = (0..5).map(|seed| run(&Plan { lying_disks: true, ..Plan::new(seed, 4) })).collect();
    for report in &reports {
        let only_stalled = report.violation.as_ref().is_none_or(|what| what.contains("stalled"));
        assert!(only_stalled, "{report:?}");
    }
    assert!(sum(&reports, |report| report.recovered) > 5);
}

/// Seats change hands in every epoch, with loss, partitions and crashes: who leaves and who joins says nothing twice, and the
/// chain goes on under each set.
#[test]
fn delegates_change_while_blocks_go_on() {
    let reports: Vec<_> = (200..206).map(|seed| assert_sound(&Plan::with_elections(seed))).collect();
    for report in &reports {
        assert!(report.term >= 2, "at least one election seated others: {report:?}");
    }
    let followers_decided = reports.iter().filter(|report| report.decided_by.contains(&street::home(4)));
    assert!(followers_decided.count() >= 3, "homes that only followed decide blocks later");
    assert!(sum(&reports, |report| report.crashes) > 30);
}

#[test]
fn without_faults_every_home_decides_blocks_in_turn() {
    let plan = Plan { loss: 0, crashes: false, partitions: false, ..Plan::with_elections(1) };
    let report = assert_sound(&plan);
    assert_eq!(report.decided_by.len(), 8, "{report:?}");
    assert_eq!(report.rounds_above_zero, 0, "no set change costs a round: {report:?}");
}

#[test]
fn a_two_faced_delegate_is_ejected_and_replaced() {
    for seed in 300..303 {
        let liar = 4;
        let plan =
            Plan { two_faced: Some(liar), crashes: false, partitions: false, ..Plan::with_elections(seed) };
        let report = run(&plan);
        assert_eq!(report.violation, None, "seed {seed}");
        assert_eq!(report.ejected, BTreeSet::from([street::home(liar)]), "seed {seed}: {report:?}");
    }
}
