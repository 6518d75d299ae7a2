//! A whole run, and what it came to.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::load::{Load, Tally};
use crate::look::{self, Found};
use crate::random::Random;
use crate::scenario::{self, Outcome, Scenario};
use crate::street::Street;

/// How many homes there are, all of them delegates: two of them may fail.
pub const HOMES: u8 = 7;
/// Blocks before the first thing goes wrong.
const BLOCKS_FIRST: u64 = 3;
/// Intervals settled after the last fault: after an outage nothing settles for a while, so that readings can arrive.
const SETTLED_AFTER: u64 = 3;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program under test.
    pub program: PathBuf,
    /// Where nodes keep their data and logs; kept for looking at.
    pub folder: PathBuf,
    /// Which nodes are hit, and which packets are lost.
    pub seed: u64,
    /// What goes wrong, in this order.
    pub scenarios: Vec<String>,
    /// A chain must have gone on within this.
    pub resume_within: Duration,
}

/// What it came to.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How many nodes there were.
    pub nodes: u8,
    /// Median round trip between neighbours as the nodes measured it, ms; 0 if none did.
    pub rtt_ms: u64,
    /// Each scenario.
    pub scenarios: Vec<Outcome>,
    /// Orders handed in, refused, and times without an answer.
    pub orders: [u64; 3],
    /// Packets between neighbours: all, lost at random, cut off; and bytes.
    pub packets: [u64; 4],
    /// What the chains were found to hold.
    pub found: Found,
    /// The whole run, s.
    pub seconds: u64,
}

/// Runs the plan and tells `progress` what happens.
///
/// # Errors
/// What was promised and not kept, or what is missing to find out.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let began = Instant::now();
    let chosen: Vec<&Scenario> =
        plan.scenarios.iter().map(|name| scenario::named(name)).collect::<Result<_, _>>()?;
    if plan.folder.exists() {
        std::fs::remove_dir_all(&plan.folder)?;
    }
    let logs = || format!("data and logs are in {}", plan.folder.display());
    let mut street = Street::found(&plan.program, &plan.folder, HOMES, plan.seed)?;
    scenario::wait_for_blocks(&street, BLOCKS_FIRST).with_context(logs)?;
    let load = Load::begin(&street, plan.seed)?;
    let mut random = Random::new(plan.seed);
    let mut report = Report { seed: plan.seed, nodes: HOMES, ..Report::default() };
    for scenario in chosen {
        let outcome = scenario::play(scenario, (&mut street, &load), &mut random, plan.resume_within)
            .with_context(|| format!("{}: {}; {}", scenario.name, scenario.about, logs()))?;
        progress(&line(&outcome));
        report.scenarios.push(outcome);
    }
    report.rtt_ms = rtt(&street);
    let tally = settle(&mut street, load).with_context(logs)?;
    report.orders = [tally.asked, tally.refused, tally.unanswered];
    let passed = street.lan.wire().passed();
    report.packets = [passed.packets, passed.lost, passed.cut, passed.bytes];
    report.found = look::check(&street, &tally).with_context(logs)?;
    report.seconds = began.elapsed().as_secs();
    Ok(report)
}

/// Ends the trade, lets every node catch up, and stops them.
fn settle(street: &mut Street, load: Load) -> anyhow::Result<Tally> {
    let tally = load.end()?;
    let last = tally.acknowledged.values().map(|order| order.height).max().unwrap_or(0);
    scenario::wait_for_blocks(street, last)?;
    scenario::wait_until_settling(street, SETTLED_AFTER)?;
    scenario::wait_until_level(street)?;
    street.stop_all()?;
    Ok(tally)
}

/// The median of what all nodes measured.
fn rtt(street: &Street) -> u64 {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return 0 };
    let mut all: Vec<u64> = Vec::new();
    for home in street.homes() {
        let Ok(client) = street.client(home) else { continue };
        if let Ok(peers) = runtime.block_on(client.peers()) {
            all.extend(peers.items.iter().filter_map(|peer| peer.rtt_ms));
        }
    }
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

/// One scenario in one line, its notes below.
#[must_use]
pub fn line(outcome: &Outcome) -> String {
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    let mut text = format!(
        "{:<13} wrong for {:>7}, {:>3} blocks meanwhile; went on after {:>6}, all level after {:>6}; {} orders final",
        outcome.name,
        seconds(outcome.fault_ms),
        outcome.blocks_meanwhile,
        seconds(outcome.resumed_ms),
        seconds(outcome.level_ms),
        outcome.acknowledged,
    );
    for note in &outcome.notes {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{:<13} {note}", "");
    }
    text
}

/// The end of the report, for people.
#[must_use]
pub fn summary(report: &Report) -> String {
    let found = &report.found;
    format!(
        "every promise was kept: seed {}, {} nodes, round trip {} ms, {} s\n\
         chain of {} blocks with {} entries; {} orders and {} entries in the homes' books were called final, and each is in \
         every chain once\n\
         {} intervals settled, {} Wh, each once; accounts balance; every ledger verifies\n\
         orders: {} handed in, {} refused, {} times no answer; packets: {} sent ({} MB), {} lost, {} cut off",
        report.seed,
        report.nodes,
        report.rtt_ms,
        report.seconds,
        found.height,
        found.entries,
        found.acknowledged_orders,
        found.acknowledged_in_books,
        found.intervals,
        found.energy_wh,
        report.orders[0],
        report.orders[1],
        report.orders[2],
        report.packets[0],
        report.packets[3] / 1_000_000,
        report.packets[1],
        report.packets[2],
    )
}
