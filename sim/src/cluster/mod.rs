//! Whole nodes in one thread, replayable from a seed: meters, homes, journals, markets, ledgers, consensus and disks under a
//! network, clocks and disks that fail, with what must hold checked at every step (docs/faults.md).
//!
//! Every choice comes from the plan's seed, every instant from one queue of events in virtual time. What a run did is hashed:
//! the same plan gives the same hash, on every machine.
//!
//! What is deliberately absent: threads, sockets, files, the machine's clock, unordered maps.

mod checks;
mod clock;
mod dice;
mod disk;
mod ending;
mod faces;
mod faults;
mod given_up;
mod intake;
mod joining;
mod journal;
mod life;
mod meter;
mod network;
mod node;
mod plan;
mod recovery;
mod report;
mod seam;
mod street;
mod week;
mod world;

pub use plan::{Control, Face, Faults, Plan};
pub use report::{Report, Totals, replay_command};
pub use street::{founding_key, home};
pub use week::Suburb;

/// Carries out a plan.
#[must_use]
pub fn run(plan: Plan) -> Report {
    let mut world = world::World::new(plan, false);
    world.run();
    world.report
}

/// The same, and tells everything that happened.
#[must_use]
pub fn run_told(plan: Plan) -> (Report, Vec<String>) {
    let mut world = world::World::new(plan, true);
    world.run();
    (world.report, world.story.unwrap_or_default())
}
