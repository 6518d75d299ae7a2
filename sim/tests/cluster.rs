//! The neighbourhood agrees whatever network, disks, clocks and crashes do; and the checks that say so can fail.

use std::collections::BTreeSet;

use sim::cluster::{Control, Face, Faults, Plan, Report, Totals, founding_key, home, replay_command, run};

/// Runs a plan in which nobody is dishonest: nothing forbidden happens and nobody is accused.
fn assert_sound(plan: &Plan) -> Report {
    let report = run(plan.clone());
    assert_eq!(report.violation, None, "{plan:?}");
    assert_eq!(report.accused, BTreeSet::new(), "{plan:?}");
    assert_eq!(report.recovered, 0, "a synced log loses nothing: {plan:?}");
    report
}

fn sum(reports: &[Report], of: impl Fn(&Report) -> u64) -> u64 {
    reports.iter().map(of).sum()
}

/// How many of the first seeds fail without a safeguard as they should; some only come to a standstill.
fn failing(control: Control, seeds: u64, words: &[&str]) -> usize {
    let reports = (0..seeds).map(|seed| run(Plan::rough(seed, 4, 1).without(control)));
    let violations: Vec<_> = reports.filter_map(|report| report.violation).collect();
    let (as_they_should, others): (Vec<_>, Vec<_>) =
        violations.iter().partition(|violation| words.iter().any(|word| violation.contains(word)));
    assert!(others.iter().all(|violation| violation.contains("stalled")), "{control:?}: {others:?}");
    as_they_should.len()
}

#[test]
fn without_faults_every_block_is_decided_in_its_first_round() {
    let report = assert_sound(&Plan::quiet(1, 4, 1));
    assert_eq!(report.rounds_above_zero, 0);
    assert!(report.height > 20, "{report:?}");
    assert!(report.settled_wh > 0 && report.orders > 0, "{report:?}");
}

#[test]
fn four_delegates_agree_and_go_on_under_loss_partitions_and_crashes() {
    let reports: Vec<_> = (0..8).map(|seed| assert_sound(&Plan::rough(seed, 4, 1))).collect();
    assert!(sum(&reports, |report| report.crashes) > 40);
    assert!(sum(&reports, |report| report.dropped) > 800);
    assert!(sum(&reports, |report| report.rounds_above_zero) > 8);
}

#[test]
fn seven_delegates_agree_and_go_on_under_loss_partitions_and_crashes() {
    let reports: Vec<_> = (100..102).map(|seed| assert_sound(&Plan::rough(seed, 7, 1))).collect();
    assert!(sum(&reports, |report| report.crashes) > 10);
}

#[test]
fn homes_with_agents_trade_and_every_watt_hour_is_settled_across_crashes() {
    let report = assert_sound(&Plan { agents: true, ..Plan::rough(11, 4, 4) });
    assert!(report.settled_wh > 0 && report.intervals > 1, "{report:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let plan = |seed| Plan { faces: [(2, Face::DoubleVoter)].into(), ..Plan::rough(seed, 4, 1) };
    let (first, second) = (run(plan(7)), run(plan(7)));
    assert_eq!(first, second);
    assert_ne!(first.trace, run(plan(8)).trace);
}

#[test]
fn who_votes_or_proposes_twice_is_proven_and_nobody_else_is() {
    for seed in 0..4_u64 {
        let liar = usize::try_from(seed).expect("a small number");
        for face in [Face::DoubleVoter, Face::TwoFacedProposer] {
            let report = run(Plan { faces: [(liar, face)].into(), ..Plan::rough(seed, 4, 1) });
            assert_eq!(report.violation, None, "seed {seed}");
            assert!(report.lies > 0);
            let others: Vec<_> = report.accused.iter().filter(|key| **key != founding_key(liar)).collect();
            assert!(others.is_empty(), "seed {seed}: {others:?}");
            assert!(face == Face::TwoFacedProposer || report.convicted == [home(liar)].into(), "seed {seed}");
        }
    }
}

#[test]
fn a_forger_and_a_silent_delegate_move_nobody() {
    for face in [Face::Forger, Face::Silent] {
        let report = assert_sound(&Plan { faces: [(1, face)].into(), ..Plan::rough(21, 4, 1) });
        assert_eq!(report.forgeries > 0, face == Face::Forger);
    }
}

#[test]
fn a_lock_in_the_first_round_survives_minutes_of_partition() {
    let faults = Faults { lock: true, ..Faults::default() };
    let report =
        assert_sound(&Plan { faults, faces: [].into(), faults_ms: 160_000, ..Plan::quiet(31, 4, 1) });
    assert_eq!(report.cuts, 1, "{report:?}");
    assert!(report.dropped > 1000, "{report:?}");
}

#[test]
fn blocks_with_flipped_bits_are_named_and_fetched_again() {
    let faults = Faults { crashes: true, block_flips: true, ..Faults::default() };
    let reports: Vec<_> =
        (41..45).map(|seed| run(Plan { faults: faults.clone(), ..Plan::quiet(seed, 4, 1) })).collect();
    assert!(reports.iter().all(|report| report.violation.is_none()), "{reports:?}");
    assert!(sum(&reports, |report| report.damaged) > 0, "{reports:?}");
}

#[test]
fn a_home_that_joins_late_catches_up_and_votes() {
    let faults = Faults { late: vec![3], ..Faults::default() };
    let report = assert_sound(&Plan { faults, ..Plan::quiet(51, 4, 1) });
    assert!(report.decided_by.contains(&home(3)), "{report:?}");
}

#[test]
fn an_outage_across_gate_and_deadline_settles_nothing_twice() {
    let faults = Faults { outage: true, ..Faults::default() };
    let report = assert_sound(&Plan { faults, faults_ms: 100_000, ..Plan::quiet(61, 4, 1) });
    assert!(report.intervals > 2, "{report:?}");
}

/// Cards break for good, a day passes without a block, people seat others: the chain goes on with everybody's money as it was,
/// and what homes metered meanwhile is settled.
#[test]
fn two_of_four_delegates_lose_everything_and_the_community_recovers() {
    let report = assert_sound(&Plan::quiet(70, 4, 2).with_two_deleted(15_000));
    assert_eq!((report.recoveries, report.followed), (1, 0), "{report:?}");
    assert!(report.late_words > 100, "what was said before arrives again: {report:?}");
    assert!(report.intervals > 90, "the day without blocks is settled: {report:?}");
    let seats: BTreeSet<_> = (0..4).map(home).collect();
    assert!(!report.decided_by.is_subset(&seats), "others decide: {report:?}");
}

#[test]
fn a_recovery_comes_about_under_loss_partitions_crashes_and_elections() {
    let reports: Vec<_> =
        (80..84).map(|seed| assert_sound(&Plan::rough(seed, 4, 2).with_two_deleted(20_000))).collect();
    assert!(sum(&reports, |report| report.recoveries) >= 4, "{reports:?}");
    let elected = Plan::rough(84, 4, 4).with_elections().with_two_deleted(30_000);
    assert!(assert_sound(&elected).recoveries >= 1);
}

/// Who knows of a later block is asked, and the recovery follows from that; or it is out of reach, and follows the others.
#[test]
fn the_highest_certificate_wins_and_who_was_out_of_reach_is_told_to_follow() {
    let reports: Vec<_> =
        (71..79).map(|seed| assert_sound(&Plan::quiet(seed, 4, 2).with_two_deleted(15_000))).collect();
    assert!(sum(&reports, |report| report.abandoned) > 0, "{reports:?}");
    assert!(sum(&reports, |report| report.given_up) > 0, "{reports:?}");
    assert!(sum(&reports, |report| report.followed) > 0, "{reports:?}");
}

#[test]
fn a_home_that_joins_late_begins_with_a_given_state_and_never_with_a_spoilt_one() {
    let faults = Faults { late: vec![4], given_states: true, ..Faults::default() };
    let plan = |seed| Plan { faults: faults.clone(), faults_ms: 60_000, ..Plan::quiet(seed, 4, 2) };
    let honest = assert_sound(&plan(52));
    assert_eq!((honest.given_states, honest.spoilt_states), (1, 0), "{honest:?}");
    let liars = (53..77).map(|seed| run(Plan { faces: [(1, Face::Forger)].into(), ..plan(seed) }));
    let reports: Vec<_> = liars.collect();
    assert!(reports.iter().all(|report| report.violation.is_none()), "{reports:?}");
    assert_eq!(sum(&reports, |report| report.given_states), 24, "{reports:?}");
    assert!(sum(&reports, |report| report.spoilt_states) > 0, "{reports:?}");
}

/// A member that sends hundreds of entries in a second harms itself: what others sign is final within as many blocks as ever, and
/// no node keeps more of it than the member's share.
#[test]
fn a_flood_by_one_member_holds_up_nobody_and_stays_within_its_share() {
    let faults = |flooder| Faults { flooder, ..Faults::default() };
    let usual = assert_sound(&Plan::quiet(95, 4, 2));
    for flooder in [1, 5] {
        let flooded = assert_sound(&Plan { faults: faults(Some(flooder)), ..Plan::quiet(95, 4, 2) });
        assert!(flooded.flooded >= 5_000, "{flooded:?}");
        assert!(flooded.blocks_waited_max <= usual.blocks_waited_max + 1, "{usual:?} {flooded:?}");
        // Its shares of the two kinds, and what the others have waiting.
        assert!(flooded.pool_max <= 2 * 512 + 100, "{flooded:?}");
        assert!(flooded.entries < usual.entries + 200, "its quotas hold: {usual:?} {flooded:?}");
    }
}

/// Seats change hands in every epoch, with loss, partitions and crashes: who leaves and who joins says nothing twice, and the
/// chain goes on under each set.
#[test]
fn delegates_change_while_blocks_go_on() {
    let reports: Vec<_> =
        (200..202).map(|seed| assert_sound(&Plan::rough(seed, 4, 4).with_elections())).collect();
    for report in &reports {
        assert!(report.term >= 2, "at least one election seated others: {report:?}");
    }
}

#[test]
fn without_faults_every_home_decides_blocks_in_turn() {
    let report = assert_sound(&Plan { faults_ms: 110_000, ..Plan::quiet(1, 4, 4).with_elections() });
    assert_eq!(report.decided_by.len(), 8, "{report:?}");
    assert_eq!(report.rounds_above_zero, 0, "no set change costs a round: {report:?}");
}

#[test]
fn a_two_faced_delegate_is_ejected_and_replaced() {
    let faults = Faults { loss: 50, ..Faults::default() };
    let plan = Plan { faults, faces: [(4, Face::DoubleVoter)].into(), ..Plan::quiet(300, 4, 4) };
    let report = run(plan.with_elections());
    assert_eq!(report.violation, None);
    assert_eq!(report.ejected, BTreeSet::from([home(4)]), "{report:?}");
}

/// A small neighbourhood over days: 30 homes, of which ten have a node and nine stand for seven seats.
#[test]
fn days_with_elections_joins_leaves_and_two_ejections_settle_every_watt_hour() {
    // Of seeds in which neither is found out only after an election has taken its seat anyway.
    let report = run(Plan { epoch_every: 4, seed: 120, ..Plan::days(8, 30, 10, 7) }.for_days(8));
    assert_eq!(report.violation, None, "{report:?}");
    // Where an election has taken its seat before it was found out, it is convicted and has nothing to lose.
    assert_eq!(report.convicted, BTreeSet::from([home(0), home(1)]), "{report:?}");
    assert!(!report.ejected.is_empty() && report.ejected.is_subset(&report.convicted), "{report:?}");
    assert_eq!((report.joined, report.left), (3, 3), "{report:?}");
    assert!(report.elections >= 7, "{report:?}");
}

/// The negative controls: if these passed unnoticed, the tests above would prove nothing.
#[test]
fn a_log_dropped_at_a_crash_is_caught() {
    assert!(failing(Control::LogOff, 6, &["double-signed", "disagreement"]) >= 3);
}

#[test]
fn half_a_quorum_is_caught() {
    assert!(failing(Control::HalfQuorum, 6, &["disagreement"]) >= 2);
}

#[test]
fn signatures_that_nobody_checks_are_caught() {
    let words = ["honest delegate is accused", "halted", "disagreement", "double-signed"];
    assert!(failing(Control::NoSignatureCheck, 4, &words) >= 3);
}

#[test]
fn a_log_that_is_never_synced_is_caught() {
    assert_eq!(failing(Control::NoFdatasync, 4, &["spoke before its log was synced"]), 4);
}

/// Disks that lie are outside of what is promised. Still, asking others for what was said keeps the chain one: it may cost
/// progress, not agreement.
#[test]
fn asking_others_keeps_the_chain_one_even_when_every_disk_lies() {
    let control = Control::LyingDisk;
    let reports: Vec<_> = (0..4).map(|seed| run(Plan::rough(seed, 4, 1).without(control))).collect();
    for report in &reports {
        let only_late =
            |what: &String| ["stalled", " is at ", "not final"].iter().any(|word| what.contains(word));
        assert!(report.violation.as_ref().is_none_or(only_late), "{report:?}");
    }
    assert!(sum(&reports, |report| report.recovered) > 3);
}

/// A seed of the long run's mix is whole: its faults are named, its failure would say how to see it again.
#[test]
fn seeds_mix_all_faults_and_tell_how_to_run_them_again() {
    let mut totals = Totals::default();
    for seed in 0..400 {
        totals.add(&Plan::of(seed), &Report { seed, ..Report::default() });
    }
    let expected = 18 + Face::ALL.len() + 2;
    assert_eq!(totals.faults.len(), expected, "{:?}", totals.faults.keys());
    assert!(totals.faults.values().all(|seeds| *seeds >= 10), "{:?}", totals.faults);
    assert_eq!(Plan::of(9), Plan::of(9));
    assert_eq!(
        replay_command(9, Some(Control::LogOff)),
        "cargo xtask sim --from 9 --seeds 1 --trace --without log-off"
    );
}
