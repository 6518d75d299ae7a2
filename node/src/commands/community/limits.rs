//! `commonwatt community limits`: what the operator lets trading send over edges, and connections carry.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use energy::{HomeId, Interval, Mtu, Timestamp, WattHours};
use ledger::{
    Body, ConnectionSize, EnvelopePoint, Forward, Genesis, INTERVAL_ENERGY_MAX, Ledger, SignedEntry,
    TARIFF_POINTS_MAX,
};
use market::GATE_LEAD_MS;
use serde_json::{Value, json};

use super::limits_file::{self, Limits, Of, Pair};
use super::when::ZoneArgs;
use crate::cli::{Exit, Output};
use crate::commands::hand_in::{self, NodeArgs, Roles};
use crate::commands::money::accounts::LedgerArgs;
use crate::commands::{CommandError, out};

/// What to do with limits.
#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Signs the limits of a file and hands them to a running node.
    Publish(PublishArgs),
    /// Lists the limits that hold from now on: all of edges, and of connections the home's own.
    Show(ShowArgs),
}

/// What to publish.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt community limits publish tomorrow.csv --zone Europe/Vienna --operator-key operator.key \\
    --config commonwatt.toml
  commonwatt community limits publish works.toml --operator-key operator.key --config commonwatt.toml

A CSV has the columns node, from, until, up_wh, down_wh, or home, from, until, import_wh, export_wh; Wh of one interval,
an empty field is not limited, without until it is one interval. docs/community.md explains both kinds of files.")]
pub struct PublishArgs {
    /// The limits.
    #[arg(value_name = "FILE.csv|FILE.toml")]
    pub file: PathBuf,
    /// Key file of the operator.
    #[arg(long, value_name = "FILE")]
    pub operator_key: PathBuf,
    /// Key file of treasurer or auditor: an envelope above the edge's rating needs one, and so does one that is raised with less
    /// than an hour's notice.
    #[arg(long, value_name = "FILE")]
    pub sign_also: Vec<PathBuf>,
    /// Where clocks are.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What to list.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt community limits show --config commonwatt.toml
  commonwatt community limits show --hours 8 --db ledger.db --genesis genesis.toml --output json

Envelopes of edges are public. What a single connection may carry concerns its home alone, so with --config only the caps of
the home that the node serves are listed; the operator names a ledger with --db for those of the whole community.")]
pub struct ShowArgs {
    /// How far ahead.
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=192))]
    pub hours: u32,
    /// Which ledger.
    #[command(flatten)]
    pub ledger: LedgerArgs,
}

/// Signs limits and hands them in.
pub(super) async fn publish(args: &PublishArgs, output: Output) -> Result<Exit, CommandError> {
    let genesis = args.node.genesis()?;
    let zone = args.zone.or_of(&args.node)?;
    let limits = limits_file::load(&args.file, &zone, genesis.mtu)?;
    let key = hand_in::role_key(&args.operator_key, &Roles::of(&genesis).operator)?;
    let node = args.node.reach(&genesis).await?;
    check(&limits, &genesis, node.ledger.as_ref(), node.market_time().await?)?;
    let numbered = bodies(&limits, genesis.mtu).into_iter().zip(node.member.next_operator_number..);
    let signed = numbered.map(|(body, number)| hand_in::sign(body, number, &node.chain, &key));
    let roles = Roles::of(&genesis);
    let also = |entry: SignedEntry| {
        // A cap of one connection is the operator's alone.
        if !matches!(entry.unchecked().body, Body::Envelope { .. }) {
            return Ok(entry);
        }
        hand_in::with_roles(entry, &args.sign_also, &[roles.treasurer, roles.auditor], &node.chain)
    };
    let signed: Vec<SignedEntry> = signed.map(|entry| entry.and_then(also)).collect::<Result<_, _>>()?;
    let outcome = node.end(&signed, None).await?;
    let runs: Vec<Run> = limits.iter().flat_map(|(of, series)| runs(of, series, genesis.mtu)).collect();
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "final": outcome.is_final(),
            "state": outcome.word(),
            "entries": signed.len(),
            "limits": runs.iter().map(Run::json).collect::<Vec<_>>(),
        })),
        Output::Text => {
            runs.iter().for_each(|run| out::line(&run.line()));
            out::line(&format!("{} entries, {}", signed.len(), outcome.word()));
        }
    }
    Ok(Exit::Ok)
}

/// Everything that the ledger would refuse, said before anything is signed.
fn check(
    limits: &Limits,
    genesis: &Genesis,
    ledger: Option<&Ledger>,
    now: Timestamp,
) -> Result<(), CommandError> {
    for (of, series) in limits {
        let refuse = |what: String| Err(CommandError::config(format!("{of}: {what}")));
        if let Some(what) = unknown(of, genesis, ledger) {
            return refuse(what.to_owned());
        }
        let first = series.keys().next().map(|index| Interval::from_index(*index, genesis.mtu));
        let Some(first) = first else { continue };
        if first.start() <= now {
            return refuse(format!(
                "interval {first} has begun, market time is {now}: limits are never set backwards"
            ));
        }
        let gate = first.start().minus_ms(GATE_LEAD_MS);
        if matches!(of, Of::Edge(_)) && gate <= now {
            return refuse(format!(
                "the gate of {first} closed at {gate}: what was traded is firm; begin with a later interval"
            ));
        }
        let energies = series.values().flatten().flatten();
        if matches!(of, Of::Home(_)) && energies.into_iter().any(|wh| *wh > INTERVAL_ENERGY_MAX) {
            return refuse("a connection carries at most 1 MWh an interval".to_owned());
        }
    }
    Ok(())
}

/// Why there is no such edge or home to limit.
fn unknown(of: &Of, genesis: &Genesis, ledger: Option<&Ledger>) -> Option<&'static str> {
    match of {
        Of::Edge(_) if genesis.forward == Forward::Off => Some(
            "this community trades nothing ahead (forward = off), so there is nothing to limit on an edge",
        ),
        Of::Edge(node) => match genesis.network.iter().find(|spec| spec.id == *node) {
            None => Some("there is no such node in this community's network"),
            Some(spec) if spec.parent.is_none() => {
                Some("it is the root of the network and has no edge to a parent")
            }
            Some(_) => None,
        },
        // A home that was admitted later is known to the ledger alone.
        Of::Home(home) => {
            let is_unknown = ledger.is_some_and(|ledger| ledger.member(home).is_none());
            is_unknown.then_some("it is no member of this community")
        }
    }
}

fn bodies(limits: &Limits, mtu: Mtu) -> Vec<Body> {
    let mut bodies = Vec::new();
    for (of, series) in limits {
        let points: Vec<(u64, Pair)> = series.iter().map(|(index, pair)| (*index, *pair)).collect();
        for consecutive in points.chunk_by(|(left, _), (right, _)| left.saturating_add(1) == *right) {
            bodies.extend(consecutive.chunks(TARIFF_POINTS_MAX).filter_map(|chunk| body(of, chunk, mtu)));
        }
    }
    bodies
}

fn body(of: &Of, chunk: &[(u64, Pair)], mtu: Mtu) -> Option<Body> {
    let from = Interval::from_index(chunk.first()?.0, mtu);
    let pairs = chunk.iter().map(|(_, pair)| *pair);
    Some(match of {
        Of::Edge(node) => Body::Envelope {
            node: node.clone(),
            from,
            points: pairs.map(|[up, down]| EnvelopePoint { up, down }).collect(),
        },
        Of::Home(home) => {
            let size = |[import, export]: Pair| ConnectionSize {
                import: import.unwrap_or(INTERVAL_ENERGY_MAX),
                export: export.unwrap_or(INTERVAL_ENERGY_MAX),
            };
            Body::ConnectionCap { home: home.clone(), from, points: pairs.map(size).collect() }
        }
    })
}

/// Consecutive intervals with one limit.
struct Run {
    of: Of,
    from: Timestamp,
    until: Timestamp,
    pair: Pair,
}

fn runs(of: &Of, series: &std::collections::BTreeMap<u64, Pair>, mtu: Mtu) -> Vec<Run> {
    let points: Vec<(u64, Pair)> = series.iter().map(|(index, pair)| (*index, *pair)).collect();
    let same = |(left, one): &(u64, Pair), (right, other): &(u64, Pair)| {
        left.saturating_add(1) == *right && one == other
    };
    let run = |run: &[(u64, Pair)]| {
        let ((first, pair), (last, _)) = (*run.first()?, *run.last()?);
        let (from, last) = (Interval::from_index(first, mtu), Interval::from_index(last, mtu));
        Some(Run { of: of.clone(), from: from.start(), until: last.end(), pair })
    };
    points.chunk_by(same).filter_map(run).collect()
}

impl Run {
    const fn names(&self) -> [&'static str; 2] {
        match self.of {
            Of::Edge(_) => ["up", "down"],
            Of::Home(_) => ["import", "export"],
        }
    }

    fn json(&self) -> Value {
        let (node, home) = match &self.of {
            Of::Edge(node) => (Some(node.as_str()), None),
            Of::Home(home) => (None, Some(home.as_str())),
        };
        let [first, second] = self.pair.map(|limit| limit.map(WattHours::get));
        let [of_first, of_second] = self.names().map(|name| format!("{name}_wh"));
        json!({
            "node": node,
            "home": home,
            "from": self.from.to_string(),
            "until": self.until.to_string(),
            of_first: first,
            of_second: second,
        })
    }

    fn line(&self) -> String {
        let [first, second] = self.pair.map(|limit| match limit {
            Some(wh) => format!("{} Wh", wh.get()),
            None => "not limited".to_owned(),
        });
        let [of_first, of_second] = self.names();
        let Self { of, from, until, .. } = self;
        format!("{of:<20} {from} to {until}  {of_first} {first}, {of_second} {second}")
    }
}

/// Lists limits that hold.
pub(super) fn show(args: &ShowArgs, output: Output) -> Result<Exit, CommandError> {
    let source = args.ledger.open()?;
    let limits = holding(&source.ledger, args.hours, |home| source.shows(home));
    let mtu = source.genesis.mtu;
    let runs: Vec<Run> = limits.iter().flat_map(|(of, series)| runs(of, series, mtu)).collect();
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "height": source.ledger.height(),
            "home": source.own_home.as_ref().map(HomeId::as_str),
            "limits": runs.iter().map(Run::json).collect::<Vec<_>>(),
        })),
        Output::Text if runs.is_empty() => out::line("nothing is limited"),
        Output::Text => runs.iter().for_each(|run| out::line(&run.line())),
    }
    if let Some(own) = &source.own_home {
        out::note(&format!(
            "of connections only that of home {own}, which this node serves; --db with --genesis shows all"
        ));
    }
    Ok(Exit::Ok)
}

/// What holds in the intervals that begin in the next `hours`: of an edge what was published, else the share of its rating;
/// and caps of the homes that `shows` says.
fn holding(ledger: &Ledger, hours: u32, shows: impl Fn(&HomeId) -> bool) -> Limits {
    let genesis = ledger.genesis_terms();
    let first = Interval::containing(ledger.head_time(), genesis.mtu).next().index();
    let ahead = u64::from(hours).saturating_mul(3_600_000).div_euclid(genesis.mtu.ms());
    let mut limits = Limits::new();
    for index in first..first.saturating_add(ahead) {
        let interval = Interval::from_index(index, genesis.mtu);
        let mut hold = |of: Of, pair: Pair| {
            if pair != [None, None] {
                limits.entry(of).or_default().insert(index, pair);
            }
        };
        let edges = genesis.network.iter().filter(|node| node.parent.is_some());
        for node in edges.filter(|_| genesis.forward != Forward::Off) {
            if let Some(EnvelopePoint { up, down }) = ledger.envelope(&node.id, interval) {
                hold(Of::Edge(node.id.clone()), [up, down]);
            }
        }
        for (home, _) in ledger.members().into_iter().filter(|(home, _)| shows(home)) {
            if let Some(cap) = ledger.connection_cap(home, interval) {
                let limit = |wh: WattHours| Some(wh).filter(|wh| *wh < INTERVAL_ENERGY_MAX);
                hold(Of::Home(home.clone()), [limit(cap.import), limit(cap.export)]);
            }
        }
    }
    limits
}
