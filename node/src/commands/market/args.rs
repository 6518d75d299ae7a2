//! What `commonwatt market` is asked.

use std::path::PathBuf;

use api::{HISTORY_DAYS_MAX, HOURS_AHEAD_MAX, Side, Time, is_request_id};
use clap::{Args, Subcommand, ValueEnum};
use energy::Timestamp;

/// Looks at the market and trades in it.
#[derive(Debug, Subcommand)]
pub enum MarketCommand {
    /// The rules of the market, and what this home may do in it.
    #[command(after_help = "\
Examples:
  commonwatt market rules --config /var/lib/commonwatt/commonwatt.toml
  commonwatt market rules --hours 4 --connect http://127.0.0.1:8480 --token-file api.token")]
    Rules(RulesArgs),
    /// The home's open orders and positions, and of the community what shows nobody.
    #[command(after_help = "\
Examples:
  commonwatt market book --config commonwatt.toml
  commonwatt market book --interval 2026-07-01T18:00:00Z --config commonwatt.toml")]
    Book(BookArgs),
    /// What the gate of an interval came to: the prices where they are public, else the home's own result.
    #[command(after_help = "\
Examples:
  commonwatt market curve --interval 2026-07-01T18:00:00Z --config commonwatt.toml
  commonwatt market curve --config commonwatt.toml               the first interval that is open")]
    Curve(BookArgs),
    /// The home's orders and fills, gates, and what they brought against the supplier alone.
    #[command(after_help = "\
Examples:
  commonwatt market history --config commonwatt.toml
  commonwatt market history --days 31 --limit 500 --output json --config commonwatt.toml")]
    History(HistoryArgs),
    /// Has the node sign an order for its home. What the ledger would refuse is said and not recorded.
    #[command(after_help = "\
Examples:
  commonwatt market order --interval 2026-07-01T18:00:00Z --side sell --quantity 1200 --price 0.165 \\
    --config commonwatt.toml
  commonwatt market order --interval 2026-07-01T18:00:00Z --side buy --quantity 500 --price 200000 --wait 30 \\
    --config commonwatt.toml

A price with a decimal point is in the currency per kWh (0.165), one without is in millionths of it (165000).
Exit code 1 if the order is refused; the reason is named and nothing is recorded.")]
    Order(OrderArgs),
    /// Has the node take an open order of its home back, until 5 minutes before the gate.
    #[command(after_help = "\
Examples:
  commonwatt market cancel 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --config commonwatt.toml")]
    Cancel(CancelArgs),
}

/// Which node to ask.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
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

/// How far ahead.
#[derive(Debug, Clone, Args)]
pub struct RulesArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Shows the intervals of so many hours ahead.
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(HOURS_AHEAD_MAX)))]
    pub hours: u32,
}

/// Which interval.
#[derive(Debug, Clone, Args)]
pub struct BookArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Start of the interval, e.g. 2026-07-01T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub interval: Option<Time>,
}

/// How far back.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// How many days back.
    #[arg(long, value_name = "N", default_value_t = 7,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(HISTORY_DAYS_MAX)))]
    pub days: u32,
    /// The most orders and gates that are listed; totals are of all.
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(api::PAGE_MAX)))]
    pub limit: u32,
}

/// An order.
#[derive(Debug, Clone, Args)]
pub struct OrderArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Start of the interval of delivery, e.g. 2026-07-01T18:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub interval: Time,
    /// Which way.
    #[arg(long, value_enum)]
    pub side: SideArg,
    /// How much, Wh.
    #[arg(long, value_name = "WH")]
    pub quantity: u64,
    /// Limit: 0.165 is in the currency per kWh, 165000 in millionths of it.
    #[arg(long, value_name = "PRICE", value_parser = price, allow_hyphen_values = true)]
    pub price: i64,
    /// The open order whose place it takes.
    #[arg(long, value_name = "ID")]
    pub replace: Option<String>,
    /// How it is seen to its end.
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// A cancel.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// The order, 64 hexadecimal digits.
    #[arg(value_name = "ID")]
    pub order: String,
    /// How it is seen to its end.
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// How an entry is named and followed.
#[derive(Debug, Clone, Args)]
pub struct FollowArgs {
    /// Names the request: the same one again is answered with the same entry and never makes a second one; random if
    /// not said.
    #[arg(long, value_name = "ID", value_parser = request_id)]
    pub request_id: Option<String>,
    /// Waits up to so many seconds until a block holds it.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub wait: Option<u32>,
}

/// Which way energy goes, seen from the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SideArg {
    /// Taken; pays at most the price.
    Buy,
    /// Given; receives at least the price.
    Sell,
}

impl SideArg {
    /// As the API names it.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Buy => Side::Buy,
            Self::Sell => Side::Sell,
        }
    }
}

fn time(text: &str) -> Result<Time, String> {
    Timestamp::parse(text).map(Time).map_err(|error| error.to_string())
}

fn request_id(text: &str) -> Result<String, String> {
    if is_request_id(text) {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 letters, digits, -, _ and . are allowed; agent-… is the household agent's".to_owned())
    }
}

/// A price in µ/kWh from what people write: with a decimal point in the currency per kWh, else in µ/kWh.
pub(in crate::commands) fn price(text: &str) -> Result<i64, String> {
    let what = || format!("{text:?} is no price; write 0.165 (per kWh) or 165000 (millionths per kWh)");
    let Some((whole, fraction)) = text.split_once('.') else { return text.parse().map_err(|_| what()) };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (sign, whole) = whole.strip_prefix('-').map_or((1, whole), |rest| (-1, rest));
    if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
        return Err(format!("{}, with at most 6 digits after the point", what()));
    }
    let micro: i64 = format!("{whole}{fraction:0<6}").parse().map_err(|_| what())?;
    Ok(sign * micro)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_with_a_point_is_per_kwh_and_one_without_is_in_millionths() {
        for (text, micro) in [
            ("0.165", 165_000),
            ("165000", 165_000),
            ("-0.05", -50_000),
            ("1.0", 1_000_000),
            ("-5", -5),
            ("0.000001", 1),
        ] {
            assert_eq!(price(text), Ok(micro), "{text}");
        }
        for bad in ["", ".", "1.", ".5", "0.1650001", "1e3", "0,165", "--1", "0.-5", "99999999999999.0"] {
            assert!(price(bad).is_err(), "{bad:?}");
        }
    }
}
