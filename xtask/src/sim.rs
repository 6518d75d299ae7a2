//! Seeds of the simulated neighbourhood of whole nodes (docs/faults.md).

use clap::Args as ClapArgs;

use crate::run::run as run_program;

/// Which seeds, and how they are told.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// `json`: one object on stdout at the end.
    #[arg(long, default_value = "text")]
    output: String,
    /// Print everything that happens; for one seed.
    #[arg(long)]
    trace: bool,
    /// Take a safeguard away, which must make seeds fail: log-off, half-quorum, no-signature-check, no-fdatasync or
    /// lying-disk.
    #[arg(long, value_name = "SAFEGUARD")]
    without: Option<String>,
    /// Run every tenth seed twice and compare.
    #[arg(long)]
    twice: bool,
    /// Instead of seeds: 118 homes, 13 delegates, so many days with elections, joins, leaves and two ejections.
    #[arg(long, value_name = "N")]
    days: Option<String>,
    /// So many seeds at a time.
    #[arg(long, default_value = "1")]
    threads: String,
}

/// Runs the seeds in release mode.
///
/// # Errors
/// If one fails.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (from, seeds) = (args.from.to_string(), args.seeds.to_string());
    let quick = "remembered-signatures";
    let mut given = vec!["run", "--release", "--quiet", "--package", "sim", "--features", quick];
    given.extend(["--example", "cluster", "--"]);
    given.extend(["--from", &from, "--seeds", &seeds, "--output", &args.output, "--threads", &args.threads]);
    given.extend(args.without.iter().flat_map(|safeguard| ["--without", safeguard]));
    given.extend(args.days.iter().flat_map(|days| ["--days", days]));
    given.extend(args.trace.then_some("--trace"));
    given.extend(args.twice.then_some("--twice"));
    run_program("cargo", &given)
}

/// The seeds that are part of every test run, in the build that the tests made: every tenth is run twice, to the same trace.
///
/// # Errors
/// If one fails.
pub fn short() -> anyhow::Result<()> {
    let build = ["run", "--quiet", "--locked", "--package", "sim", "--example", "cluster", "--"];
    let seeds = ["--seeds", "200", "--twice", "--threads", "2"];
    run_program("cargo", &[build.as_slice(), &seeds].concat())
}
