//! `commonwatt community allocation`: what of each meter's energy was shared, as files for the distribution operator.

use chrono::{Days, NaiveDate};
use clap::{Args, ValueEnum};
use energy::{HomeId, Timestamp};
use ledger::Genesis;
use market::{Sharing, Unused};
use serde_json::json;

use crate::allocation::{self, Block, HISTORY_KINDS, History, Status};
use crate::cli::{Exit, Output};
use crate::commands::bill::stored;
use crate::commands::hand_in::usage;
use crate::commands::money::accounts::LedgerArgs;
use crate::commands::{CommandError, out};
use crate::zone::{Month, Zone, date};

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table.
    #[default]
    Csv,
    /// One JSON object.
    Json,
}

/// Which results.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt community allocation --month 2026-07 --zone Europe/Vienna --db ledger.db --genesis genesis.toml > july.csv
  commonwatt community allocation --from 2026-07-14 --days 2 --db ledger.db --genesis genesis.toml --format json

A node's --config shows its own home; for the whole community name a ledger with --db.
One row a home and interval, then a row `total`. Rows of the status `provisional` are the homes' own readings, which the
metering operator's will replace. docs/community.md explains every column.")]
pub struct AllocationArgs {
    /// A calendar month.
    #[arg(long, value_name = "YYYY-MM", value_parser = Month::parse, required_unless_present = "from", conflicts_with = "from")]
    pub month: Option<Month>,
    /// The first local day.
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub from: Option<NaiveDate>,
    /// How many local days, the first one counted.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "month",
          value_parser = clap::value_parser!(u32).range(1..=366))]
    pub days: u32,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where clocks are: a name such as Europe/Vienna, or an offset such as +08:00. Otherwise what --config says, then UTC.
    #[arg(long, value_name = "ZONE", value_parser = Zone::parse, allow_hyphen_values = true)]
    pub zone: Option<Zone>,
    /// Which ledger.
    #[command(flatten)]
    pub ledger: LedgerArgs,
}

impl AllocationArgs {
    /// The first day, and the first one after the last.
    fn bounds(&self) -> Result<(NaiveDate, NaiveDate), CommandError> {
        let first = match (self.month, self.from) {
            (Some(month), _) => return Ok((month.first_day(), month.next().first_day())),
            (None, Some(first)) => first,
            (None, None) => return Err(usage("--month YYYY-MM or --from DATE says which days")),
        };
        let end = first.checked_add_days(Days::new(self.days.into()));
        Ok((first, end.ok_or_else(|| usage("--days reaches beyond the calendar"))?))
    }
}

/// Prints results.
pub(super) fn allocation(args: &AllocationArgs, output: Output) -> Result<Exit, CommandError> {
    let (first, end) = args.bounds()?;
    let source = args.ledger.open()?;
    let zone = args.zone.or(source.zone).unwrap_or(Zone::UTC);
    let (from, until) = (zone.midnight(first), zone.midnight(end));
    let mut rows = source.db.metered(from, until).map_err(stored)?;
    rows.retain(|row| source.shows(&row.home));
    let history = source.db.booked(HISTORY_KINDS).map_err(stored)?;
    let blocks = allocation::allocation(&rows, &History::of(&source.genesis, &history));
    if blocks.is_empty() {
        return Err(CommandError::Other {
            exit: Exit::NotReady,
            message: format!(
                "nothing from {first} on is settled on this ledger; ask again later, or another node"
            ),
        });
    }
    match (output, args.format) {
        (Output::Text, Format::Csv) => {
            let table = allocation::csv(&blocks, &zone)
                .map_err(|error| CommandError::failed(format!("cannot make the CSV: {error}")))?;
            out::text(&table);
        }
        _ => out::json(&json!({
            "schema_version": 1,
            "community": source.genesis.name,
            "chain": source.genesis.chain().id.hex(),
            "height": source.ledger.height(),
            "mtu_minutes": source.genesis.mtu.minutes(),
            "zone": zone.to_string(),
            "home": source.own_home.as_ref().map(HomeId::as_str),
            "sharing": sharing(&source.genesis),
            "from": from.to_string(),
            "until": until.to_string(),
            "intervals": allocation::json(&blocks),
        })),
    }
    tell(&blocks, &source.genesis, (from, until));
    source.note_whole();
    Ok(Exit::Ok)
}

/// The rule that energy was shared by.
const fn sharing(genesis: &Genesis) -> &'static str {
    match genesis.market.sharing {
        Sharing::Neighbour => "neighbour",
        Sharing::StaticKey { unused: Unused::Lost, .. } => "static-key, unused shares are lost",
        Sharing::StaticKey { unused: Unused::PassedOn, .. } => "static-key, unused shares are passed on",
        Sharing::DynamicKey { .. } => "dynamic-key",
        Sharing::Incentive { .. } => "incentive",
    }
}

/// What somebody who reads the file must know.
fn tell(blocks: &[Block], genesis: &Genesis, (from, until): (Timestamp, Timestamp)) {
    let lines = || blocks.iter().flat_map(|block| &block.lines);
    for (status, what) in [
        (Status::Provisional, "are provisional: the metering operator's readings will replace them"),
        (Status::Missing, "were settled without a reading, which may still come"),
    ] {
        let count = lines().filter(|line| line.status == status).count();
        if count > 0 {
            out::note(&format!("{count} of {} rows {what}", lines().count()));
        }
    }
    let begin = from.max(genesis.start).unix_ms();
    let expected = until.unix_ms().saturating_sub(begin).div_euclid(genesis.mtu.ms());
    let there = blocks.len() as u64;
    if there < expected {
        out::note(&format!("{there} of {expected} intervals are there; the others are not settled yet"));
    }
}
