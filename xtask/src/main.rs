//! The project's own chores: `cargo xtask test` sets up what the tests need and runs them all; `cargo xtask bench`
//! measures, `cargo xtask sim` puts a simulated neighbourhood through faults, `cargo xtask soak` runs for long, `cargo xtask fuzz`
//! tries what nobody would write.
#![expect(clippy::print_stderr, reason = "a chore tells its user what it does on stderr")]

mod bench;
mod faults;
mod fuzz;
mod peers;
mod run;
mod sim;
mod soak;
mod test;

use clap::{Parser, Subcommand};

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Install what the tests need (says what), then format check, lints and every test.
    Test,
    /// Install what the tests need and stop.
    Setup,
    /// Measure; figures and machine go to docs/benchmarks.md by hand.
    Bench(bench::Args),
    /// Put a simulated neighbourhood of whole nodes through seeds of faults.
    Sim(sim::Args),
    /// Let things go wrong around real nodes in network namespaces (docs/network-faults.md).
    Faults(faults::Args),
    /// Let a layer run for long against peers that misbehave.
    Soak(soak::Args),
    /// Fuzz decoders, state machine, market and meters; what is kept of it runs in every test.
    Fuzz(fuzz::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().chore {
        Chore::Test => test::all(),
        Chore::Setup => peers::install(),
        Chore::Bench(args) => bench::run(&args),
        Chore::Sim(args) => sim::run(&args),
        Chore::Faults(args) => faults::run(&args),
        Chore::Soak(args) => soak::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
    }
}
