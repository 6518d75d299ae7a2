//! What came of a run, and of many.

use std::collections::{BTreeMap, BTreeSet};

use energy::HomeId;
use ledger::PublicKey;

use super::plan::{Control, Plan};

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The run's seed.
    pub seed: u64,
    /// Hash over every effect of every node, in order: the same for the same plan, on every machine.
    pub trace: String,
    /// Virtual wall ms.
    pub virtual_ms: u64,
    /// Events that happened.
    pub events: u64,
    /// The highest final block.
    pub height: u64,
    /// Entries in final blocks.
    pub entries: u64,
    /// Intervals that were settled.
    pub intervals: u64,
    /// Energy that was metered and settled, import and export together, Wh.
    pub settled_wh: u64,
    /// Orders in final blocks.
    pub orders: u64,
    /// Blocks that were not decided in their first round.
    pub rounds_above_zero: u64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Own statements that a node had lost and was told by others.
    pub recovered: u64,
    /// Messages lost.
    pub dropped: u64,
    /// Messages that arrived twice.
    pub repeated: u64,
    /// Times that the network was cut.
    pub cuts: u64,
    /// Bits that flipped in a log.
    pub log_flips: u64,
    /// Bits that flipped in a stored block.
    pub block_flips: u64,
    /// Seconds after healing until time had come as far as blocks whose makers' clocks were ahead.
    pub waited_s: u64,
    /// Damaged blocks that a start found, named and fetched again.
    pub damaged: u64,
    /// Jumps of clocks.
    pub jumps: u64,
    /// Pairs of entries with one number.
    pub twins: u64,
    /// Statements that contradicted another, sent by dishonest delegates.
    pub lies: u64,
    /// Messages that their sender had no right to.
    pub forgeries: u64,
    /// The term of the last delegates.
    pub term: u32,
    /// Elections that seated somebody.
    pub elections: u64,
    /// Seats that went to another home, by election, ejection or recovery.
    pub seats_changed: u64,
    /// How often something was looked at that must hold.
    pub checks: u64,
    /// Members that joined after the beginning, and that left.
    pub joined: u64,
    /// See `joined`.
    pub left: u64,
    /// Recoveries that the community agreed on, and drafts of such that were given up because somebody held more.
    pub recoveries: u64,
    /// See `recoveries`.
    pub abandoned: u64,
    /// Blocks that were final at nodes whose disks were lost, or that nobody reached, and that a recovery gave up.
    pub given_up: u64,
    /// Nodes that held such blocks, stopped, and were told by a person to follow the recovery.
    pub followed: u64,
    /// Messages of the former number that arrived after a recovery.
    pub late_words: u64,
    /// Homes that began with a state that another member gave, and given states that were spoilt and refused.
    pub given_states: u64,
    /// See `given_states`.
    pub spoilt_states: u64,
    /// Entries of floods.
    pub flooded: u64,
    /// The most entries that ever waited at one node.
    pub pool_max: u64,
    /// The most blocks from the one after which a home signed an entry until the one that took it up.
    pub blocks_waited_max: u64,
    /// Homes that ever signed a block's certificate.
    pub decided_by: BTreeSet<HomeId>,
    /// Homes that lost a seat for contradicting themselves.
    pub ejected: BTreeSet<HomeId>,
    /// Homes that lost a seat for silence.
    pub silenced: BTreeSet<HomeId>,
    /// Keys that were proven to have signed twice, as nodes reported it.
    pub accused: BTreeSet<PublicKey>,
    /// Keys that contradicted themselves before an honest node often enough that it must have proven it.
    pub provable: u64,
    /// Homes of which that stands on the ledger.
    pub convicted: BTreeSet<HomeId>,
    /// The first thing that must never happen, if it did.
    pub violation: Option<String>,
}

/// What came of many runs.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Runs.
    pub seeds: u64,
    /// Sums over all runs: name and number, in a fixed order.
    pub sums: BTreeMap<&'static str, u64>,
    /// In how many runs each fault was on.
    pub faults: BTreeMap<String, u64>,
    /// Dishonest homes that contradict themselves when they hold a seat.
    pub liars: u64,
    /// Keys that did so before an honest node often enough that it must have proven it.
    pub provable: u64,
    /// Homes that were convicted of it.
    pub convicted: u64,
    /// Seeds that failed, and why.
    pub failures: Vec<(u64, String, String)>,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, plan: &Plan, report: &Report) {
        self.seeds += 1;
        for name in plan.faults.names() {
            *self.faults.entry(name.to_owned()).or_default() += 1;
        }
        for face in plan.faces.values() {
            *self.faults.entry(face.word().to_owned()).or_default() += 1;
            self.liars += u64::from(face.contradicts_itself());
        }
        for (name, on) in [("elections", plan.elections), ("agents", plan.agents)] {
            *self.faults.entry(name.to_owned()).or_default() += u64::from(on);
        }
        self.provable += report.provable;
        self.convicted += report.convicted.len() as u64;
        for (name, number) in report.numbers() {
            *self.sums.entry(name).or_default() += number;
        }
        if let Some(violation) = &report.violation {
            self.failures.push((plan.seed, violation.clone(), report.trace.clone()));
        }
    }
}

impl Report {
    /// What can be added up, by name.
    #[must_use]
    pub const fn numbers(&self) -> [(&'static str, u64); 32] {
        [
            ("virtual_ms", self.virtual_ms),
            ("events", self.events),
            ("heights", self.height),
            ("entries", self.entries),
            ("intervals", self.intervals),
            ("settled_wh", self.settled_wh),
            ("orders", self.orders),
            ("rounds_above_zero", self.rounds_above_zero),
            ("crashes", self.crashes),
            ("recovered", self.recovered),
            ("dropped", self.dropped),
            ("repeated", self.repeated),
            ("cuts", self.cuts),
            ("log_flips", self.log_flips),
            ("block_flips", self.block_flips),
            ("damaged_blocks", self.damaged),
            ("clock_jumps", self.jumps),
            ("waited_for_time_s", self.waited_s),
            ("twins", self.twins),
            ("lies", self.lies),
            ("forgeries", self.forgeries),
            ("elections", self.elections),
            ("seats_changed", self.seats_changed),
            ("checks", self.checks),
            ("recoveries", self.recoveries),
            ("recoveries_abandoned", self.abandoned),
            ("blocks_given_up", self.given_up),
            ("nodes_told_to_follow", self.followed),
            ("late_words", self.late_words),
            ("flooded", self.flooded),
            ("given_states", self.given_states),
            ("spoilt_states_refused", self.spoilt_states),
        ]
    }
}

/// The command that runs a seed again, alone, with its events.
#[must_use]
pub fn replay_command(seed: u64, control: Option<Control>) -> String {
    let control = control.map(|control| format!(" --without {}", control.word())).unwrap_or_default();
    format!("cargo xtask sim --from {seed} --seeds 1 --trace{control}")
}
