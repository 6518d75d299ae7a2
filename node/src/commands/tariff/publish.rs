//! `commonwatt tariff publish`: the supplier's prices and the network's fees of a schedule, signed by the operator.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use energy::{Interval, NodeId, Price, Timestamp};
use ledger::{
    Body, Chain, FeePoint, Forward, Genesis, PRICE_LIMIT, PRICES_AHEAD_MS, SignedEntry, TARIFF_NOTICE_MS,
    TARIFF_POINTS_MAX, TariffPoint,
};
use market::GATE_LEAD_MS;
use serde_json::{Value, json};

use super::{DaysArgs, points};
use crate::cli::{Exit, Output};
use crate::commands::hand_in::{self, NodeArgs, Outcome, Roles, usage};
use crate::commands::{CommandError, out};
use crate::tariff::expand::Point;
use crate::tariff::schedule::Schedule;

/// The kinds of entries that are published.
const KINDS: [&str; 2] = ["tariff-series", "network-fees"];

/// What to publish, and who signs.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt tariff publish tariff.toml --from 2026-10-26 --days 2 --operator-key operator.key --config commonwatt.toml
  Outside the caps of the genesis, or at less than an hour's notice, treasurer or auditor signs too:
    commonwatt tariff publish tariff.toml --from 2026-10-26T14:00:00+01:00 --operator-key operator.key \\
      --sign-also treasurer.key --config commonwatt.toml
  The same with the treasurer elsewhere:
    commonwatt tariff publish tariff.toml --from 2026-10-26 --operator-key operator.key --config commonwatt.toml \\
      --sign-only prices.txt
    commonwatt tariff publish --show prices.txt
    commonwatt tariff publish --countersign prices.txt --sign-also treasurer.key --config commonwatt.toml")]
pub struct PublishArgs {
    /// The schedule.
    #[arg(value_name = "SCHEDULE.toml", required_unless_present_any = ["countersign", "show"], conflicts_with_all = ["countersign", "show"])]
    pub schedule: Option<PathBuf>,
    /// Which days.
    #[command(flatten)]
    pub days: DaysArgs,
    /// Key file of the operator.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["countersign", "show"])]
    pub operator_key: Option<PathBuf>,
    /// Key file of the treasurer or the auditor, for a second signature.
    #[arg(long, value_name = "FILE")]
    pub sign_also: Option<PathBuf>,
    /// Writes the signed entries into a new file, and hands in nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["countersign", "show"])]
    pub sign_only: Option<PathBuf>,
    /// Adds the signature of --sign-also to such a file and hands it in.
    #[arg(long, value_name = "FILE", requires = "sign_also")]
    pub countersign: Option<PathBuf>,
    /// Prints what such a file says.
    #[arg(long, value_name = "FILE", conflicts_with = "countersign")]
    pub show: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Publishes, countersigns or shows.
pub(super) async fn publish(args: &PublishArgs, output: Output) -> Result<Exit, CommandError> {
    if let Some(path) = &args.show {
        print_entries(&hand_in::read(path, &KINDS)?, Outcome::Kept, output);
        return Ok(Exit::Ok);
    }
    let genesis = args.node.genesis()?;
    let (signed, outcome) = match &args.countersign {
        Some(path) => {
            let signed = also_signed(
                hand_in::read(path, &KINDS)?,
                args,
                (&genesis, &args.node.chain(&genesis).await?),
            )?;
            let outcome = args.node.end(&genesis, &signed, None).await?;
            (signed, outcome)
        }
        None => begin(args, &genesis).await?,
    };
    print_entries(&signed, outcome, output);
    if let Some(path) = &args.sign_only {
        out::note(&format!(
            "{} is written; commonwatt tariff publish --countersign {} --sign-also KEY adds a signature and hands it in",
            path.display(),
            path.display()
        ));
    }
    Ok(Exit::Ok)
}

fn also_signed(
    signed: Vec<SignedEntry>,
    args: &PublishArgs,
    (genesis, chain): (&Genesis, &Chain),
) -> Result<Vec<SignedEntry>, CommandError> {
    let Roles { treasurer, auditor, .. } = Roles::of(genesis);
    let keys: Vec<PathBuf> = args.sign_also.iter().cloned().collect();
    signed.into_iter().map(|entry| hand_in::with_roles(entry, &keys, &[treasurer, auditor], chain)).collect()
}

/// Signs the entries of the schedule, after everything that the ledger would refuse was refused; writes them or hands them
/// in.
async fn begin(args: &PublishArgs, genesis: &Genesis) -> Result<(Vec<SignedEntry>, Outcome), CommandError> {
    let schedule = Schedule::load(args.schedule.as_deref().unwrap_or(Path::new("")))?;
    let edges: Vec<NodeId> = schedule.network.iter().map(|edge| edge.node.clone()).collect();
    check_edges(&edges, genesis)?;
    let points = points(&schedule, &args.days, genesis.mtu)?;
    let operator = Roles::of(genesis).operator;
    let key = hand_in::role_key(args.operator_key.as_deref().unwrap_or(Path::new("")), &operator)?;
    let node = args.node.reach(genesis).await?;
    let reasons = check(&points, genesis, node.market_time().await?)?;
    if !reasons.is_empty() && args.sign_also.is_none() && args.sign_only.is_none() {
        return Err(usage(format!(
            "{}; so treasurer or auditor must sign too: --sign-also KEY if the key is here, else --sign-only FILE and \
             --countersign there",
            reasons.join("; ")
        )));
    }
    let numbered = bodies(&points, &edges).into_iter().zip(node.member.next_operator_number..);
    let signed = numbered.map(|(body, number)| hand_in::sign(body, number, &node.chain, &key));
    let signed = also_signed(signed.collect::<Result<_, _>>()?, args, (genesis, &node.chain))?;
    let outcome = node.end(&signed, args.sign_only.as_deref()).await?;
    Ok((signed, outcome))
}

/// Every edge of the schedule is one of the network, once.
fn check_edges(edges: &[NodeId], genesis: &Genesis) -> Result<(), CommandError> {
    let mut seen = BTreeSet::new();
    for edge in edges {
        let what = match genesis.network.iter().find(|node| node.id == *edge) {
            None => "is no node of this community's network",
            Some(node) if node.parent.is_none() => "is the root of the network and has no edge to a parent",
            Some(_) if !seen.insert(edge) => "stands twice",
            Some(_) => continue,
        };
        return Err(CommandError::config(format!(
            "[[network]] of node {edge}: it {what}; `commonwatt tariff expand` shows what a schedule comes to"
        )));
    }
    Ok(())
}

/// The entries' bodies: prices first, then the fees edge by edge.
fn bodies(points: &[Point], edges: &[NodeId]) -> Vec<Body> {
    let chunks =
        || points.chunks(TARIFF_POINTS_MAX).filter_map(|chunk| Some((chunk.first()?.interval, chunk)));
    let prices = chunks().map(|(from, chunk)| Body::TariffSeries {
        from,
        points: chunk.iter().map(|point| point.tariff).collect(),
    });
    let fees = edges.iter().enumerate().flat_map(|(at, node)| {
        let fee = move |point: &Point| {
            let (up, down) = point.network.get(at).copied().unwrap_or_default();
            FeePoint { up: Price::new(up), down: Price::new(down) }
        };
        chunks().map(move |(from, chunk)| Body::NetworkFees {
            node: node.clone(),
            from,
            points: chunk.iter().map(fee).collect(),
        })
    });
    prices.chain(fees).collect()
}

/// Why a second signature is needed, if it is.
///
/// # Errors
/// What no signature makes valid.
fn check(points: &[Point], genesis: &Genesis, now: Timestamp) -> Result<Vec<String>, CommandError> {
    let Some(first) = points.first() else { return Err(usage("no interval lies in these days")) };
    let start = first.interval.start();
    if start <= now {
        return Err(CommandError::failed(format!(
            "the first interval starts at {start}, and market time is {now}: prices are never changed backwards; begin \
             later with --from"
        )));
    }
    let end = points.last().map_or(start, |point| point.interval.end());
    if end.ms_since(now) > PRICES_AHEAD_MS {
        return Err(usage(format!(
            "the last prices end at {end}, and market time is {now}: prices are published at most {} days ahead; say fewer \
             --days and publish the rest later",
            PRICES_AHEAD_MS / 86_400_000
        )));
    }
    let low = Price::new(-PRICE_LIMIT.get());
    if let Some((point, what, _)) = outside(points, low, PRICE_LIMIT) {
        return Err(CommandError::config(format!(
            "the {what} at {} lies beyond 1 000 per kWh",
            point.interval
        )));
    }
    let mut reasons = Vec::new();
    let caps = genesis.caps;
    if let Some((point, what, values)) = outside(points, caps.price_min, caps.price_max) {
        reasons.push(format!(
            "the {what}s at {} ({values}) lie outside the caps of the genesis, {} to {}",
            point.interval,
            caps.price_min.get(),
            caps.price_max.get()
        ));
    }
    let first_use = if genesis.forward == Forward::Off { start } else { start.minus_ms(GATE_LEAD_MS) };
    if first_use.ms_since(now) < TARIFF_NOTICE_MS {
        reasons.push(format!(
            "the first prices count at {first_use}, less than an hour after market time {now}"
        ));
    }
    Ok(reasons)
}

/// The first point with a price outside the bounds, or a fee above them: a fee has no lowest one but zero.
fn outside(points: &[Point], min: Price, max: Price) -> Option<(&Point, &'static str, String)> {
    points.iter().find_map(|point| {
        let TariffPoint { import_price, export_price } = point.tariff;
        let pair = |left: i64, right: i64| format!("{left} and {right}");
        if [import_price, export_price].iter().any(|price| *price < min || max < *price) {
            return Some((point, "price", pair(import_price.get(), export_price.get())));
        }
        let (up, down) = point.network.iter().find(|(up, down)| max.get() < *up.max(down))?;
        Some((point, "network fee", pair(*up, *down)))
    })
}

/// The lowest and the highest of a value.
type Range = (i64, i64);

/// What an entry says, for people and programs.
struct Shown {
    from: Timestamp,
    until: Timestamp,
    points: usize,
    node: Option<NodeId>,
    /// Names and bounds of its two values.
    values: [(&'static str, Range); 2],
    number: u64,
}

fn shown(signed: &SignedEntry) -> Option<Shown> {
    let entry = signed.unchecked();
    let (from, node, values) = match &entry.body {
        Body::TariffSeries { from, points } => {
            let of = |point: &TariffPoint| (point.import_price.get(), point.export_price.get());
            (from, None, named(["import_price", "export_price"], points.iter().map(of).collect()))
        }
        Body::NetworkFees { node, from, points } => {
            let of = |point: &FeePoint| (point.up.get(), point.down.get());
            (from, Some(node.clone()), named(["fee_up", "fee_down"], points.iter().map(of).collect()))
        }
        _ => return None,
    };
    let (values, points) = values;
    let until = Interval::from_index(from.index().saturating_add(points as u64), from.mtu()).start();
    Some(Shown { from: from.start(), until, points, node, values, number: entry.number })
}

fn named(names: [&'static str; 2], pairs: Vec<(i64, i64)>) -> ([(&'static str, Range); 2], usize) {
    let range =
        |values: Vec<i64>| (values.iter().copied().min().unwrap_or(0), values.into_iter().max().unwrap_or(0));
    let points = pairs.len();
    let (left, right): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
    let [first, second] = names;
    ([(first, range(left)), (second, range(right))], points)
}

impl Shown {
    fn json(&self) -> Value {
        let mut value = json!({
            "from": self.from.to_string(),
            "until": self.until.to_string(),
            "points": self.points,
            "node": self.node.as_ref().map(NodeId::as_str),
            "number": self.number,
        });
        for (name, (min, max)) in self.values {
            value[name] = json!({ "min": min, "max": max });
        }
        value
    }

    fn line(&self) -> String {
        let of = self.node.as_ref().map(|node| format!(" of edge {node}")).unwrap_or_default();
        let [first, second] = self.values.map(|(name, (min, max))| {
            format!("{} {min} to {max}", name.trim_end_matches("_price").replace('_', " "))
        });
        let Self { from, until, points, number, .. } = self;
        format!("{from} to {until}: {points} points{of}, {first}, {second} µ/kWh, number {number}")
    }
}

fn print_entries(entries: &[SignedEntry], outcome: Outcome, output: Output) {
    let shown: Vec<Shown> = entries.iter().filter_map(shown).collect();
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "final": outcome.is_final(),
            "state": outcome.word(),
            "entries": shown.iter().map(Shown::json).collect::<Vec<_>>(),
        })),
        Output::Text => {
            let state = outcome.word();
            shown.iter().for_each(|it| out::line(&format!("{}, {state}", it.line())));
        }
    }
}
