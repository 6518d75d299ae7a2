//! Larger bounds than the tests have, one after the other, with how many states there are and how long they take:
//! `cargo run --release -p model --example larger [NAME]`.
#![expect(clippy::print_stdout, reason = "it reports on stdout")]

use std::time::Instant;

use model::elections::{ballots, judge, profiles};
use model::rounds::{Log, Quorum, Rounds};
use model::seats::{Seats, Start};
use model::sets::Sets;
use stateright::{Checker, Model};

fn check<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + Clone + Send + Sync + std::fmt::Debug + PartialEq,
    M::Action: Send + Sync + std::fmt::Debug + PartialEq + Clone,
{
    let begin = Instant::now();
    let checked = model.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checked.unique_state_count(), checked.max_depth());
    println!("{name}: {states} states, depth {depth}, {} s", begin.elapsed().as_secs());
    for (property, path) in checked.discoveries() {
        println!("  {property}: {:?}", path.into_actions());
    }
}

fn elections(voters: usize, candidates: u8) {
    let begin = Instant::now();
    let mut profiled = 0u64;
    profiles(voters, &ballots(candidates), |profile| {
        judge(profile, candidates);
        profiled += 1;
    });
    let seconds = begin.elapsed().as_secs();
    println!("elections of {voters} voters, {candidates} candidates: {profiled} profiles, {seconds} s");
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let is_wanted = |name: &str| name.starts_with(&wanted);
    for (name, log) in [
        ("rounds-kept", Log::Kept),
        ("rounds-barred", Log::LostAndBarred),
        ("rounds-off", Log::Off),
        ("rounds-afterwards", Log::WrittenAfterwards),
        ("rounds-asked", Log::LostAndAsked),
    ] {
        if is_wanted(name) {
            check(name, Rounds::new(2, 1, log, Quorum::TwoThirds));
        }
    }
    if is_wanted("three-rounds") {
        check("three-rounds, no crash", Rounds::new(3, 0, Log::Kept, Quorum::TwoThirds));
    }
    if is_wanted("sets") {
        check("sets", Sets { heights: 4, lag: 2 });
    }
    for start in [Start::Genesis, Start::Elected] {
        if is_wanted("seats") {
            check("seats", Seats { start, blocks: 4 });
        }
    }
    if is_wanted("elections") {
        elections(6, 5);
        elections(5, 6);
    }
}
