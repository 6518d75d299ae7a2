//! `commonwatt tariff`: a schedule made into explicit prices, and handed to the ledger.

use std::path::PathBuf;

use chrono::Days;
use clap::{Args, Subcommand, ValueEnum};
use energy::{Interval, Mtu, Timestamp};
use serde_json::{Value, json};

use super::hand_in::usage;
use super::{CommandError, out};
use crate::cli::{Exit, Output};
use crate::genesis_file;
use crate::tariff::expand::{Point, expand};
use crate::tariff::schedule::Schedule;
use crate::zone::{Zone, date};

mod publish;

pub use publish::PublishArgs;

/// What to do with a tariff.
#[derive(Debug, Subcommand)]
pub enum TariffCommand {
    /// Shows the explicit prices that a schedule comes to, one point an interval.
    Expand(ExpandArgs),
    /// Signs the supplier's prices and the network fees of a schedule and hands them to a running node.
    Publish(PublishArgs),
}

/// How points are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Text,
    /// For spreadsheets.
    Csv,
}

/// Which days.
#[derive(Debug, Clone, Args)]
pub struct DaysArgs {
    /// First day, or the first interval as RFC 3339.
    #[arg(long, value_name = "DATE|TIME")]
    pub from: Option<String>,
    /// How many local days, the first one counted.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
}

/// Which schedule to expand.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt tariff expand tariff.toml --from 2026-10-25 --days 2
  commonwatt tariff expand tariff.toml --from 2026-10-25 --format csv > prices.csv
  commonwatt tariff expand tariff.toml --from 2026-10-25 --mtu 60 --output json

docs/tariffs.md explains the schedule: day types, windows, day-ahead series, network fees.")]
pub struct ExpandArgs {
    /// The schedule.
    #[arg(value_name = "SCHEDULE.toml")]
    pub schedule: PathBuf,
    /// Which days.
    #[command(flatten)]
    pub days: DaysArgs,
    /// Length of an interval, minutes; that of --genesis if named.
    #[arg(long, value_name = "MINUTES", conflicts_with = "genesis")]
    pub mtu: Option<u32>,
    /// Genesis of the community.
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Expands or publishes.
///
/// # Errors
/// [`CommandError`]: a schedule, key or file that cannot be used, prices that the ledger would refuse, or a node that
/// does not answer.
pub(super) fn tariff(command: &TariffCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        TariffCommand::Expand(args) => expand_command(args, output),
        TariffCommand::Publish(args) => super::block_on(publish::publish(args, output))?,
    }
}

fn expand_command(args: &ExpandArgs, output: Output) -> Result<Exit, CommandError> {
    let schedule = Schedule::load(&args.schedule)?;
    let mtu = match (&args.genesis, args.mtu) {
        (Some(path), _) => genesis_file::load(path)?.mtu,
        (None, minutes) => {
            Mtu::from_minutes(minutes.unwrap_or(15)).map_err(|error| usage(error.to_string()))?
        }
    };
    let points = points(&schedule, &args.days, mtu)?;
    match (output, args.format) {
        (Output::Json, _) => out::json(&as_json(&schedule, &points, mtu)),
        (Output::Text, Format::Text) => print_table(&schedule, &points),
        (Output::Text, Format::Csv) => print_csv(&schedule, &points)?,
    }
    Ok(Exit::Ok)
}

fn points(schedule: &Schedule, days: &DaysArgs, mtu: Mtu) -> Result<Vec<Point>, CommandError> {
    let (from, until) = bounds(&schedule.zone, days, mtu)?;
    expand(schedule, mtu, from, until).map_err(|error| CommandError::config(error.to_string()))
}

/// First instant, and the first one after the last day.
fn bounds(zone: &Zone, days: &DaysArgs, mtu: Mtu) -> Result<(Timestamp, Timestamp), CommandError> {
    let text =
        days.from.as_deref().ok_or_else(|| usage("--from DATE says where to begin, e.g. 2026-10-26"))?;
    let (from, first_day) = if text.contains('T') {
        let time = Timestamp::parse(text).map_err(|error| usage(error.to_string()))?;
        (time, zone.date(time))
    } else {
        let day = date(text).map_err(|error| usage(error.to_string()))?;
        (zone.midnight(day), day)
    };
    Interval::starting_at(from, mtu).map_err(|error| usage(error.to_string()))?;
    let end = first_day.checked_add_days(Days::new(days.days.into()));
    Ok((from, zone.midnight(end.ok_or_else(|| usage("--days reaches beyond the calendar"))?)))
}

fn as_json(schedule: &Schedule, points: &[Point], mtu: Mtu) -> Value {
    let point = |point: &Point| {
        json!({
            "start": point.interval.to_string(),
            "import_price": point.tariff.import_price.get(),
            "export_price": point.tariff.export_price.get(),
        })
    };
    let edge = |(at, edge): (usize, &crate::tariff::schedule::EdgeFees)| {
        let fees = points.iter().map(|point| {
            let (up, down) = point.network.get(at).copied().unwrap_or_default();
            json!({ "start": point.interval.to_string(), "fee_up": up, "fee_down": down })
        });
        json!({ "node": edge.node.as_str(), "points": fees.collect::<Vec<_>>() })
    };
    json!({
        "schema_version": 1,
        "zone": schedule.zone.to_string(),
        "mtu_minutes": mtu.minutes(),
        "points": points.iter().map(point).collect::<Vec<_>>(),
        "network": schedule.network.iter().enumerate().map(edge).collect::<Vec<_>>(),
    })
}

fn header(schedule: &Schedule) -> Vec<String> {
    let mut header = ["start", "local", "day", "import_price", "export_price"].map(str::to_owned).to_vec();
    for edge in &schedule.network {
        header.extend([format!("{}_fee_up", edge.node), format!("{}_fee_down", edge.node)]);
    }
    header
}

fn row(schedule: &Schedule, point: &Point) -> Vec<String> {
    let start = point.interval.start();
    let mut row = vec![
        start.to_string(),
        schedule.zone.rfc3339(start),
        schedule.day_type(schedule.zone.date(start)).word().to_owned(),
        point.tariff.import_price.get().to_string(),
        point.tariff.export_price.get().to_string(),
    ];
    row.extend(point.network.iter().flat_map(|(up, down)| [up.to_string(), down.to_string()]));
    row
}

fn print_csv(schedule: &Schedule, points: &[Point]) -> Result<(), CommandError> {
    let write = || -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(header(schedule))?;
        points.iter().try_for_each(|point| writer.write_record(row(schedule, point)))?;
        writer.into_inner().map_err(|error| error.into_error().into())
    };
    let bytes = write().map_err(|error| CommandError::failed(format!("cannot make the CSV: {error}")))?;
    out::text(&String::from_utf8_lossy(&bytes));
    Ok(())
}

/// Runs of equal prices, a line each.
fn print_table(schedule: &Schedule, points: &[Point]) {
    out::line(&format!(
        "{:<26} {:<9} {:>5} {:>12} {:>12}  fees up/down",
        "from", "day", "n", "import", "export"
    ));
    let same = |left: &Point, right: &Point| (left.tariff, &left.network) == (right.tariff, &right.network);
    for run in points.chunk_by(same) {
        let Some(first) = run.first() else { continue };
        let fees = schedule.network.iter().zip(&first.network);
        let fees: Vec<String> = fees.map(|(edge, (up, down))| format!("{} {up}/{down}", edge.node)).collect();
        let start = first.interval.start();
        let line = format!(
            "{:<26} {:<9} {:>5} {:>12} {:>12}  {}",
            schedule.zone.rfc3339(start),
            schedule.day_type(schedule.zone.date(start)).word(),
            run.len(),
            first.tariff.import_price.get(),
            first.tariff.export_price.get(),
            fees.join(", ")
        );
        out::line(line.trim_end());
    }
}
