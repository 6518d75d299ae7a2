//! Trials of the meter layer that need other programs and time: `cargo xtask soak meter`, `cargo xtask bench meter`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its result goes to stdout, its progress to stderr"
)]

mod bench;
mod check;
mod client;
mod lot;
mod naive;
mod peers;
mod soak;
mod tally;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use self::peers::Libmodbus;
use self::soak::{Soak, Transport};
use self::tally::Tally;

/// No outage may keep a meter longer from being read once it is back.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, Subcommand)]
enum Trial {
    /// Our client against servers that misbehave: 0 wrong values, or exit code 1.
    Soak(SoakArgs),
    /// Reads per second, processor time and memory of our client and of others.
    Bench(bench::Args),
    /// One measurement of `bench`: a client that reads as fast as it can.
    #[command(hide = true)]
    Reader { port: u16, function: u8, registers: u16, seconds: f64 },
    /// One measurement of `bench`: a meter on each port, read twice a second.
    #[command(hide = true)]
    Fleet { seconds: f64, ports: String },
    /// So many simulated meters until standard input ends; prints their ports.
    #[command(hide = true)]
    Street { meters: usize },
}

#[derive(Debug, clap::Args)]
struct SoakArgs {
    /// Minutes in all; fractions are allowed.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// One transport only; otherwise all three share the time.
    #[arg(long)]
    transport: Option<Transport>,
    /// Seed of faults, reads and outages.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// `json`: one object on stdout.
    #[arg(long, default_value = "text")]
    output: String,
}

fn main() -> anyhow::Result<ExitCode> {
    let trial = Cli::parse().trial;
    // What is measured runs on one thread; the soak waits for other programs on the second.
    let mut runtime = match trial {
        Trial::Soak(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    runtime.worker_threads(2).enable_all().build()?.block_on(run(trial))
}

async fn run(trial: Trial) -> anyhow::Result<ExitCode> {
    match trial {
        Trial::Soak(args) => return soak(&args).await,
        Trial::Bench(args) => println!("{}", shown(&bench::run(&args)?, &args.output)),
        Trial::Reader { port, function, registers, seconds } => {
            let length = Duration::from_secs_f64(seconds);
            println!("{}", bench::reader(port, function, registers, length).await?);
        }
        Trial::Fleet { seconds, ports } => {
            println!("{}", bench::fleet(&ports, Duration::from_secs_f64(seconds)).await?);
        }
        Trial::Street { meters } => {
            println!("{}", bench::serve_street(meters).await?);
            bench::input_ends().await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for programs, several for people.
fn shown(value: &Value, output: &str) -> String {
    if output == "json" { value.to_string() } else { format!("{value:#}") }
}

async fn soak(args: &SoakArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.minutes > 0.0 && args.minutes <= 10_000.0, "minutes must be above 0 and at most 10000");
    let transports = args.transport.map_or_else(|| Transport::ALL.to_vec(), |one| vec![one]);
    let length = Duration::from_secs_f64(args.minutes * 60.0 / transports.len() as f64);
    let folder = tempfile::tempdir()?;
    let libmodbus = Libmodbus::compile("unit-test-server", folder.path())?;
    let (mut all, mut each) = (Tally::default(), serde_json::Map::new());
    for transport in transports {
        eprintln!("soak: {} for {:.0} s, seed {}", transport.name(), length.as_secs_f64(), args.seed);
        let folder = folder.path();
        let soak = Soak { transport, length, seed: args.seed, folder, libmodbus: &libmodbus };
        let tally = soak.run().await?;
        each.insert(transport.name().to_owned(), tally.json());
        all.add(&tally);
    }
    let mut result = all.json();
    result["seed"] = json!(args.seed);
    result["transports"] = Value::Object(each);
    println!("{}", shown(&result, &args.output));
    let good = all.wrong == 0 && all.slowest() <= RECOVERY_MAX;
    if !good {
        eprintln!(
            "soak FAILED: {} wrong values, slowest recovery {:?} (allowed: 0 and {RECOVERY_MAX:?})",
            all.wrong,
            all.slowest()
        );
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
