//! `commonwatt sim`: a recorded street in one process, as fast as the machine allows.

use std::path::Path;
use std::thread;
use std::time::Instant;

use sim::dataset::{Recording, Season};
use sim::{Options, Report};

use super::{CommandError, out};
use crate::cli::{self, Exit, Output, SimArgs, Switch};

/// The data set that is part of the program.
const BUILTIN: &str = "builtin";

/// Simulates and prints what came of it.
///
/// # Errors
/// [`CommandError`]: data that cannot be read, more asked for than was recorded, or a fault of the ledger.
pub(super) fn sim(args: &SimArgs, output: Output) -> Result<Exit, CommandError> {
    let season = match args.season {
        cli::Season::Summer => Season::Summer,
        cli::Season::Winter => Season::Winter,
    };
    let recording = if args.data == Path::new(BUILTIN) {
        Recording::builtin(season)
    } else {
        Recording::load(&args.data, season)
    };
    let recording = recording.map_err(|error| CommandError::config(chain_of(&error)))?;
    let options = options(args, season)?;
    let started = Instant::now();
    let mut report = run(args, &recording, &options)?;
    report.wall_s = started.elapsed().as_secs_f64();
    match output {
        Output::Text => out::text(&report.to_string()),
        Output::Json => {
            let value = serde_json::to_value(&report);
            out::json(&value.map_err(|error| CommandError::failed(error.to_string()))?);
        }
    }
    Ok(if report.hold() { Exit::Ok } else { Exit::Exceptions })
}

fn options(args: &SimArgs, season: Season) -> Result<Options, CommandError> {
    let number =
        |number: u32| usize::try_from(number).map_err(|error| CommandError::failed(error.to_string()));
    Ok(Options {
        homes: args.homes.map(number).transpose()?,
        forward: args.forward,
        agents: args.agents == Switch::On,
        goals: args.goals,
        tariff: args.tariff,
        batteries: args.batteries == Switch::On,
        seed: args.seed,
        threads: thread::available_parallelism().map_or(1, usize::from),
        ..Options::new(season, number(args.weeks)?)
    })
}

#[cfg(feature = "optimum")]
fn run(args: &SimArgs, recording: &Recording, options: &Options) -> Result<Report, CommandError> {
    let run = if args.optimum { sim::simulate_against_optimum } else { sim::simulate };
    run(recording, options).map_err(|error| CommandError::failed(chain_of(&error)))
}

#[cfg(not(feature = "optimum"))]
fn run(_: &SimArgs, recording: &Recording, options: &Options) -> Result<Report, CommandError> {
    sim::simulate(recording, options).map_err(|error| CommandError::failed(chain_of(&error)))
}

/// An error with everything that caused it.
fn chain_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
