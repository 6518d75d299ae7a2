//! `commonwatt ledger head`, `block`, `why-missed`: the chain as a running node sees it.

use std::path::PathBuf;

use api::{Client, LedgerBlock, LedgerHead, Missed, Time};
use clap::Args;
use energy::Timestamp;
use serde_json::json;

use crate::cli::{Exit, Output, StatusArgs};
use crate::commands::hand_in::usage;
use crate::commands::{CommandError, out, status};

/// Which node to ask.
#[derive(Debug, Clone, Args)]
pub struct AskArgs {
    /// Address of its API.
    #[arg(long, value_name = "URL", requires = "token_file", required_unless_present = "config")]
    pub connect: Option<String>,
    /// File that holds the token of its API.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Its configuration file, which names both.
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    pub config: Option<PathBuf>,
}

impl AskArgs {
    /// The way to the node.
    ///
    /// # Errors
    /// A configuration, address or token that cannot be used.
    pub(super) fn client(&self) -> Result<Client, CommandError> {
        let (connect, token_file, config) =
            (self.connect.clone(), self.token_file.clone(), self.config.clone());
        let (url, token) = status::address(&StatusArgs { connect, token_file, config, page: false })?;
        Client::new(&url, &token).map_err(|error| status::refused(&error))
    }
}

/// Of which node.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt ledger head --config /var/lib/commonwatt/commonwatt.toml
  commonwatt ledger head --connect http://127.0.0.1:8480 --token-file api.token --output json

Exit code 6 while the node is fetching blocks.")]
pub struct HeadArgs {
    /// The node.
    #[command(flatten)]
    pub node: AskArgs,
}

/// Which block.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt ledger block 1042 --config /var/lib/commonwatt/commonwatt.toml
  commonwatt ledger block 1042 --config commonwatt.toml --output json

What the entries say is not shown: it is their authors'.")]
pub struct BlockArgs {
    /// Its height.
    #[arg(value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(1..))]
    pub height: u64,
    /// The node.
    #[command(flatten)]
    pub node: AskArgs,
}

/// Which time.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt ledger why-missed --config /var/lib/commonwatt/commonwatt.toml            the last day
  commonwatt ledger why-missed --hours 2 --config /var/lib/commonwatt/commonwatt.toml
  commonwatt ledger why-missed --interval 2026-06-13T08:00:00Z --config commonwatt.toml

A round fails when its proposer is away, or when too few delegates find its block good in time. The node's own notes say
what it found wrong itself; they go back to its last start.")]
pub struct WhyMissedArgs {
    /// How far back, hours of market time.
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=744))]
    pub hours: u32,
    /// From the start of this interval on, for an hour.
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse, conflicts_with = "hours")]
    pub interval: Option<Timestamp>,
    /// The node.
    #[command(flatten)]
    pub node: AskArgs,
}

const HOUR_MS: u64 = 3_600_000;

/// Shows the head.
///
/// # Errors
/// [`CommandError`]: a node that does not answer.
pub(in crate::commands) async fn head(args: &HeadArgs, output: Output) -> Result<Exit, CommandError> {
    let client = args.node.client()?;
    let head = client.ledger_head().await.map_err(|error| status::refused(&error))?;
    match output {
        Output::Json => out::json(&json!(head)),
        Output::Text => print_head(&head),
    }
    Ok(if head.syncing { Exit::NotReady } else { Exit::Ok })
}

fn print_head(head: &LedgerHead) {
    let recovered = match head.recovery {
        0 => String::new(),
        times => format!(", recovery {times}"),
    };
    let rows = [
        ("chain", format!("{}{recovered}", head.chain)),
        ("height", format!("{}{}", head.height, if head.syncing { " (fetching more)" } else { "" })),
        ("block", head.id.clone()),
        ("time", head.time.to_string()),
        ("epoch", format!("{}, delegates of term {}", head.epoch, head.term)),
        ("members", head.members.to_string()),
        ("tree", format!("{} leaves, root {}", head.tree_size, head.tree_root)),
        ("state root", head.state_root.clone()),
    ];
    rows.iter().for_each(|(name, value)| out::line(&format!("{name:<11} {value}")));
    if head.bank_short {
        out::note(
            "warning: the accounts add up to more than the bank holds by the last attestation: nothing is paid out until \
             treasurer and auditor attest a balance that covers them",
        );
    }
}

/// Shows a block.
///
/// # Errors
/// As [`head`]; no such block.
pub(in crate::commands) async fn block(args: &BlockArgs, output: Output) -> Result<Exit, CommandError> {
    let client = args.node.client()?;
    let block = client.ledger_block(args.height).await.map_err(|error| status::refused(&error))?;
    match output {
        Output::Json => out::json(&json!(block)),
        Output::Text => print_block(&block),
    }
    Ok(Exit::Ok)
}

fn print_block(block: &LedgerBlock) {
    let seats: Vec<String> = block.signed.iter().map(u8::to_string).collect();
    let decided = if block.is_recovery {
        format!("by the members: recovery {}", block.recovery)
    } else {
        format!("in round {} by seats {}, {} ms", block.round, seats.join(" "), block.finality_ms)
    };
    let rows = [
        ("height", block.height.to_string()),
        ("block", block.id.clone()),
        ("parent", block.parent.clone()),
        ("time", block.time.to_string()),
        ("decided", decided),
        ("delegates", block.delegates.clone()),
        ("next", block.next_delegates.clone()),
        ("tree", format!("{} leaves, root {}", block.tree_size, block.tree_root)),
        ("state root", block.state_root.clone()),
        ("entries", block.entries.len().to_string()),
    ];
    rows.iter().for_each(|(name, value)| out::line(&format!("{name:<11} {value}")));
    block.entries.iter().for_each(|entry| out::line(&format!("  {}  {}", entry.id, entry.kind)));
}

/// Explains what was missed.
///
/// # Errors
/// As [`head`].
pub(in crate::commands) async fn why_missed(
    args: &WhyMissedArgs,
    output: Output,
) -> Result<Exit, CommandError> {
    let client = args.node.client()?;
    let (from, until) = match args.interval {
        Some(start) => (start, start.plus_ms(HOUR_MS)),
        None => {
            let status = client.status().await.map_err(|error| status::refused(&error))?;
            let until = status.market_time.0;
            (until.minus_ms(u64::from(args.hours) * HOUR_MS), until)
        }
    };
    if from >= until {
        return Err(usage("the time asked for lies before the chain"));
    }
    let missed = client.missed(Time(from), Time(until)).await.map_err(|error| status::refused(&error))?;
    match output {
        Output::Json => out::json(&json!(missed)),
        Output::Text => print_missed(&missed),
    }
    Ok(Exit::Ok)
}

fn print_missed(missed: &Missed) {
    out::line(&format!("{} … {}: {} blocks", missed.from, missed.until, missed.blocks));
    out::line(&format!(
        "{} took more than one round, {} came later than a heartbeat",
        missed.with_failed_rounds, missed.late
    ));
    for seat in &missed.seats {
        let own = if seat.own { "  this home" } else { "" };
        out::line(&format!(
            "seat {:<3} {}  missing from {} of {} blocks{own}",
            seat.seat, seat.key, seat.missed, seat.blocks
        ));
    }
    if !missed.seats.is_empty() {
        out::line(
            "a block is final as soon as more than two thirds of the seats signed it, so that each is missing from some; one \
             that is missing from more than half of a day's blocks loses its seat",
        );
    }
    for row in &missed.rows {
        let unsigned: Vec<String> = row.unsigned.iter().map(u8::to_string).collect();
        let unsigned = match unsigned.is_empty() {
            true => String::new(),
            false => format!(", without seats {}", unsigned.join(" ")),
        };
        out::line(&format!(
            "block {} of {}: {} s after the one before, {} failed rounds{unsigned}",
            row.height,
            row.time,
            row.after_ms / 1000,
            row.failed_rounds
        ));
    }
    for note in &missed.notes {
        out::line(&format!("{} height {}: {}", note.time, note.height, note.text));
    }
}
