//! Benches: criterion for pure functions, the program's own `bench` for what needs a neighbourhood.

use clap::{Args as ClapArgs, ValueEnum};

/// What to measure.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which bench.
    what: What,
    /// How many delegates (ledger, year).
    #[arg(long, default_value_t = 4)]
    delegates: u8,
    /// How many days (year).
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// How many seconds of load (ledger).
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// How many signed orders a second (ledger).
    #[arg(long, default_value_t = 5000)]
    rate: u32,
    /// Instead of orders at a rate, a neighbourhood of so many homes (ledger).
    #[arg(long, conflicts_with = "rate")]
    homes: Option<u32>,
    /// `json`: the last line on stdout is one object (ledger, year, meter).
    #[arg(long, default_value = "text")]
    output: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// The auction and neighbour matching.
    Market,
    /// Blocks, signatures, settlement as pure functions.
    State,
    /// Entries per second and finality through real nodes.
    Ledger,
    /// Months of a neighbourhood through ledger and store: time, size, bytes written.
    Year,
    /// Meter reads per second, processor time and memory, beside pymodbus and libmodbus.
    Meter,
}

/// Runs one bench in release mode.
///
/// # Errors
/// If it fails.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match args.what {
        What::Market => crate::run::run("cargo", &["bench", "--package", "market"]),
        What::State => crate::run::run("cargo", &["bench", "--package", "ledger"]),
        What::Ledger => ledger(args),
        What::Year => year(args),
        What::Meter => meter(args),
    }
}

fn ledger(args: &Args) -> anyhow::Result<()> {
    let (delegates, seconds) = (args.delegates.to_string(), args.seconds.to_string());
    let (what, how_much) = match args.homes {
        Some(homes) => ("--homes", homes.to_string()),
        None => ("--rate", args.rate.to_string()),
    };
    let load = ["--delegates", &delegates, "--seconds", &seconds, what, &how_much, "--output", &args.output];
    let mut arguments = vec!["run", "--release", "--quiet", "--package", "node", "--", "bench", "ledger"];
    arguments.extend(load);
    crate::run::run("cargo", &arguments)
}

fn year(args: &Args) -> anyhow::Result<()> {
    let (delegates, days) = (args.delegates.to_string(), args.days.to_string());
    let figures = ["--delegates", &delegates, "--days", &days, "--output", &args.output];
    let mut arguments = vec!["run", "--release", "--quiet", "--package", "node", "--", "bench", "year"];
    arguments.extend(figures);
    crate::run::run("cargo", &arguments)
}

fn meter(args: &Args) -> anyhow::Result<()> {
    crate::peers::install()?;
    crate::soak::lab("--release", "bench", &["--output".to_owned(), args.output.clone()])
}
