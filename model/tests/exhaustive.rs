//! Every state of small cases. Bounds are chosen so that all of it takes seconds; `cargo run --release -p model --example
//! larger` takes larger ones.
#![expect(clippy::print_stdout, reason = "numbers of states and counterexamples, for docs/model.md")]

use std::collections::BTreeMap;

use ledger::{Candidate, Hash32, elect, turnout};
use model::elections::{self, ballots, candidates, owned, ownerships, profiles, voters};
use model::rounds::{Log, Quorum, Rounds};
use model::seats::{Seats, Start};
use model::sets::Sets;
use stateright::{Checker, Model};

#[test]
fn with_a_log_that_is_kept_nobody_honest_contradicts_itself_and_one_value_is_decided() {
    for log in [Log::Kept, Log::LostAndBarred] {
        let checked = Rounds::new(2, 1, log, Quorum::TwoThirds).checker().spawn_bfs().join();
        checked.assert_no_discovery("agreement");
        checked.assert_no_discovery("no honest delegate contradicts itself");
        checked.assert_any_discovery("a value is decided");
        checked.assert_any_discovery("after the crash a value is decided");
        assert!(checked.is_done() && checked.unique_state_count() > 1_000);
        println!("{log:?}: {} states", checked.unique_state_count());
    }
}

#[test]
fn without_the_log_or_its_order_an_honest_delegate_contradicts_itself() {
    for log in [Log::Off, Log::WrittenAfterwards, Log::LostAndAsked] {
        let model = Rounds::new(2, 1, log, Quorum::TwoThirds);
        let checked = model.checker().spawn_bfs().join();
        let path = checked.discovery("no honest delegate contradicts itself");
        println!("{log:?}: {} states, {:?}", checked.unique_state_count(), path.unwrap().into_actions());
    }
}

#[test]
fn without_the_log_two_values_are_decided() {
    let checked = Rounds::new(2, 1, Log::Off, Quorum::TwoThirds).checker().spawn_bfs().join();
    println!("{:?}", checked.discovery("agreement").unwrap().into_actions());
}

#[test]
fn with_a_quorum_of_half_two_values_are_decided() {
    let checked = Rounds::new(2, 0, Log::Kept, Quorum::Half).checker().spawn_bfs().join();
    println!("{:?}", checked.discovery("agreement").unwrap().into_actions());
}

#[test]
fn sets_that_change_two_heights_later_keep_one_block_final_in_each_height() {
    let checked = Sets { heights: 3, lag: 2 }.checker().spawn_bfs().join();
    checked.assert_properties();
    println!("{} states", checked.unique_state_count());
}

#[test]
fn a_set_that_changes_at_once_makes_two_blocks_final() {
    let checked = Sets { heights: 1, lag: 0 }.checker().spawn_bfs().join();
    let path = checked.discovery("one block is final in each height").unwrap();
    println!("{:?}", path.into_actions());
}

#[test]
fn a_set_that_changes_one_height_later_is_not_known_where_its_first_votes_arrive() {
    let checked = Sets { heights: 2, lag: 1 }.checker().spawn_bfs().join();
    checked.assert_no_discovery("one block is final in each height");
    assert!(checked.discovery("whoever works on a height knows the set of the next").is_some());
}

#[test]
fn on_the_real_ledger_seats_change_hands_by_the_rules_in_every_order_of_a_few_blocks() {
    for start in [Start::Genesis, Start::Elected] {
        let checked = Seats { start, blocks: 3 }.checker().spawn_bfs().join();
        checked.assert_properties();
        println!("{start:?}: {} states", checked.unique_state_count());
    }
}

#[test]
fn every_profile_of_five_voters_elects_by_phragmens_rule_and_proportionally() {
    let mut count = [0, 0];
    profiles(5, &ballots(5), |profile| count[usize::from(elections::judge(profile, 5))] += 1);
    println!("{count:?}");
    assert!(count[0] > 100 && count[1] > 100_000);
}

#[test]
fn the_order_in_which_four_voters_are_given_never_changes_who_is_elected() {
    let choices = ballots(4);
    let all = (0..choices.len().pow(4))
        .step_by(3)
        .map(|number| [0, 1, 2, 3].map(|place| choices[number / choices.len().pow(place) % choices.len()]));
    for profile in all {
        let (given, standing) = (voters(&profile), candidates(4));
        let (mut turned, mut others) = (given.clone(), standing.clone());
        turned.reverse();
        others.rotate_left(1);
        assert_eq!(
            elect(&given, &standing, &Hash32::ZERO),
            elect(&turned, &others, &Hash32::ZERO),
            "{profile:?}"
        );
    }
}

#[test]
fn however_homes_are_owned_no_owner_has_more_than_its_part_of_the_votes_or_two_seats() {
    let mut judged = 0;
    ownerships(8, |owners| {
        let count = owners.iter().max().unwrap() + 1;
        let part = u64::try_from(count.min(5)).unwrap();
        for owner in 0..count {
            // Only this owner's homes vote, so what is cast is what it counts for.
            let electorate = owned(owners, |home| u8::from(owners[home] == owner));
            let (cast, all) = turnout(&electorate);
            // Floors take up to a part of a share from each home.
            assert!(cast * part <= all + 8 * part, "{owners:?}: owner {owner} has {cast} of {all}");
        }
        let electorate = owned(owners, |home| 1 << (home % 3) | 1 << 7);
        let standing: Vec<_> = electorate
            .iter()
            .map(|of| Candidate { home: of.home.clone(), owner: of.owner.clone() })
            .collect();
        let elected = elect(&electorate, &standing, &Hash32::ZERO).unwrap();
        let owner_of: BTreeMap<_, _> = standing.iter().map(|of| (&of.home, &of.owner)).collect();
        let mut seated: Vec<_> =
            elected.seats.iter().chain(&elected.standbys).map(|home| owner_of[home]).collect();
        seated.sort();
        assert!(seated.is_sorted_by(|one, two| one < two), "{owners:?}: {seated:?}");
        judged += 1;
    });
    assert_eq!(judged, 4_140, "the number of ways to divide eight homes (Bell)");
}
