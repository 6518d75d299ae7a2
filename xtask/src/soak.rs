//! Soaks: long runs against peers that misbehave.

use clap::{Args as ClapArgs, ValueEnum};

use crate::peers;
use crate::run::run as run_program;

/// What to soak, and for how long.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which layer.
    what: What,
    /// Minutes in all; fractions are allowed.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// `tcp`, `rtu` or `rtu-tcp` only; otherwise all three share the time.
    #[arg(long)]
    transport: Option<String>,
    /// Seed of faults, reads and outages.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// `json`: one object on stdout.
    #[arg(long, default_value = "text")]
    output: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Our client against a fault-injecting pymodbus server, libmodbus' test server, kills and freezes.
    Meter,
}

/// Runs one soak in release mode.
///
/// # Errors
/// If a value was wrong, a recovery took too long, or a peer is missing.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let What::Meter = args.what;
    peers::install()?;
    let mut given = vec!["--minutes".to_owned(), args.minutes.to_string()];
    given.extend(["--seed".to_owned(), args.seed.to_string(), "--output".to_owned(), args.output.clone()]);
    given.extend(args.transport.iter().flat_map(|it| ["--transport".to_owned(), it.clone()]));
    lab("--release", "soak", &given)
}

/// The minute that is part of every test run.
///
/// # Errors
/// As [`run`].
pub fn short() -> anyhow::Result<()> {
    lab("--locked", "soak", &["--minutes".to_owned(), "1".to_owned()])
}

/// Runs a trial of `meter/examples/lab`.
///
/// # Errors
/// If it fails.
pub fn lab(option: &str, trial: &str, given: &[String]) -> anyhow::Result<()> {
    let mut arguments = vec!["run", option, "--quiet", "--package", "meter", "--example", "lab", "--", trial];
    arguments.extend(given.iter().map(String::as_str));
    run_program("cargo", &arguments)
}
