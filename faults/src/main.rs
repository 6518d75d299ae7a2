//! `cargo xtask faults`: lets things go wrong around real nodes, and says what came of it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what this program finds is printed")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use faults::report::{self, Plan};
use faults::{nat, scenario};

/// Real nodes in network namespaces, and everything that can go wrong around them. Needs root.
#[derive(Debug, Parser)]
#[command(name = "faults")]
struct Cli {
    /// The program under test; if not said, the one beside this.
    #[arg(long, global = true, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where nodes keep their data and logs, and what is there is removed first; if not said, beside this program.
    #[arg(long, global = true, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// `json`: one object on stdout.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Seven nodes: partitions, kills, stops, clocks and disks, while people trade.
    Street {
        /// Only these, in this order; `faults list` names them.
        #[arg(long = "scenario", value_name = "NAME")]
        scenarios: Vec<String>,
        /// The three of the test run.
        #[arg(long, conflicts_with = "scenarios")]
        short: bool,
        /// Which nodes are hit, and which packets are lost.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// So many seconds after everything is right again, the chain must have gone on at every node.
        #[arg(long, default_value_t = 30)]
        resume_within: u64,
    },
    /// Two homes behind two routers, and two relays.
    Nat,
    /// What can go wrong.
    List,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let own = std::env::current_exe()?;
    let beside = own.parent().unwrap_or(Path::new("."));
    let program = cli.program.unwrap_or_else(|| beside.join("commonwatt"));
    let folder = std::path::absolute(cli.folder.unwrap_or_else(|| beside.join("faults-run")))?;
    match cli.what {
        What::Street { ref scenarios, short, seed, resume_within } => {
            let chosen = match (short, scenarios.as_slice()) {
                (true, _) => scenario::SHORT.map(str::to_owned).to_vec(),
                (false, []) => scenario::ALL.iter().map(|it| it.name.to_owned()).collect(),
                (false, chosen) => chosen.to_vec(),
            };
            let plan = Plan {
                program: program.canonicalize()?,
                folder,
                seed,
                scenarios: chosen,
                resume_within: Duration::from_secs(resume_within),
            };
            let report = report::run(&plan, &mut |line| eprintln!("{line}"))?;
            match cli.output {
                Output::Text => println!("{}", report::summary(&report)),
                Output::Json => println!("{}", serde_json::to_string(&report)?),
            }
        }
        What::Nat => {
            let report = nat::run_all(&program.canonicalize()?, &folder)?;
            match cli.output {
                Output::Text => println!("{}", nat::summary(&report)),
                Output::Json => println!("{}", serde_json::to_string(&report)?),
            }
        }
        What::List => {
            for scenario in &scenario::ALL {
                println!("{:<13} {}", scenario.name, scenario.about);
            }
        }
    }
    Ok(())
}
