//! The run itself: one queue of events in virtual time, handled one after the other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use consensus::{Input, Origin, Timer};
use energy::{HomeId, Timestamp};
use ledger::{Chain, Genesis, Hash32, Ledger};

use super::checks::Checks;
use super::clock::market_at;
use super::dice::Dice;
use super::faces::Lies;
use super::faults::Weather;
use super::intake::Intake;
use super::node::Node;
use super::plan::Plan;
use super::recovery::Ceremony;
use super::report::Report;
use super::seam::Seam;
use super::street;
use super::week::Office;

/// The meters and the homes are looked at so often, in virtual ms.
const LIFE_MS: u64 = 300;
/// Faults are thrown for so often.
const FAULTS_MS: u64 = 1000;
/// After healing there must be progress within this.
const PROGRESS_MS: u64 = 30_000;
/// A recovery that is under way then must come about within this.
const RECOVERY_MS: u64 = 60_000;
/// And after so much more everything that was signed must be settled or refused.
const SETTLED_MS: u64 = 12_000;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Deliver { from: usize, to: usize, input: Input },
    /// A timer of one life of a node runs out.
    Timer { node: usize, life: u64, timer: Timer },
    /// A node starts.
    Restart { node: usize },
    /// A node hands its replica an entry of its own.
    Submit { node: usize, bytes: Vec<u8> },
    /// Faults are thrown for.
    Faults,
    /// Homes live.
    Life,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) genesis: Genesis,
    pub(crate) chain: Chain,
    pub(crate) dice: Dice,
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: u64,
    pub(crate) healed: bool,
    /// Pairs that cannot hear one another: from, to.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    pub(crate) weather: Weather,
    pub(crate) lies: Lies,
    pub(crate) seam: Seam,
    pub(crate) office: Office,
    pub(crate) ceremony: Ceremony,
    pub(crate) intake: Intake,
    pub(crate) checks: Checks,
    pub(crate) report: Report,
    /// The last interval that has begun for the meters.
    pub(crate) interval: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    pub(crate) events: BTreeMap<u64, Event>,
    sequence: u64,
    trace: Hash32,
    /// What happened, in words, if somebody wants to read it.
    pub(crate) story: Option<Vec<String>>,
    homes: BTreeMap<HomeId, usize>,
}

impl World {
    /// A neighbourhood at its genesis.
    pub(crate) fn new(plan: Plan, tells: bool) -> Self {
        let genesis = street::genesis(&plan);
        let ledger = Ledger::genesis(&genesis).expect("a valid genesis");
        let chain = *ledger.chain();
        let all = plan.homes() + plan.suburb.homes;
        let nodes: Vec<_> = (0..all).map(|number| Node::new(number, &plan, &ledger)).collect();
        let homes = nodes.iter().map(|node| (node.home.clone(), node.number)).collect();
        let interval = energy::Interval::containing(street::start(), genesis.mtu).index();
        Self {
            dice: Dice::new(plan.seed),
            checks: Checks::new(&ledger),
            report: Report { seed: plan.seed, ..Report::default() },
            nodes,
            plan,
            genesis,
            chain,
            now: 0,
            healed: false,
            blocked: BTreeSet::new(),
            weather: Weather::default(),
            lies: Lies::default(),
            seam: Seam::default(),
            office: Office::default(),
            ceremony: Ceremony::default(),
            intake: Intake::default(),
            interval,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            trace: Hash32::ZERO,
            story: tells.then(Vec::new),
            homes,
        }
    }

    /// Faults for the planned time, then healing; checks along the way and at the end.
    pub(crate) fn run(&mut self) {
        self.begin_life();
        for node in 0..self.nodes.len() {
            if self.plan.faults.late.contains(&node) {
                let after = self.plan.faults_ms / 2 + self.dice.below(self.plan.faults_ms / 4);
                self.push(after, Event::Restart { node });
            } else {
                self.boot(node);
            }
        }
        self.plan_weather();
        self.push(FAULTS_MS, Event::Faults);
        self.push(LIFE_MS, Event::Life);
        self.run_until(self.plan.faults_ms);
        if self.report.violation.is_none() {
            self.heal();
            self.complete_recovery();
            self.let_time_catch_up();
            let before = self.checks.height();
            self.run_until(self.now + PROGRESS_MS);
            self.check_progress(before);
            self.run_until(self.now + SETTLED_MS);
            self.check_end();
        }
        self.report.virtual_ms = self.now;
        self.report.trace = self.trace.hex();
        self.close_report();
    }

    /// What a recovery still lacks after healing people see to now.
    fn complete_recovery(&mut self) {
        let end = self.now + RECOVERY_MS;
        while self.awaits_recovery() && self.now < end && self.report.violation.is_none() {
            self.run_until(self.now + FAULTS_MS);
        }
        let awaits = self.awaits_recovery();
        self.check(!awaits, || "no recovery came about after healing".to_owned());
    }

    /// A chain whose blocks were made by clocks that were ahead goes on when time has come so far.
    fn let_time_catch_up(&mut self) {
        while self.checks.ledger().head_time() > self.market() && self.report.violation.is_none() {
            self.report.waited_s += 1;
            self.run_until(self.now + FAULTS_MS);
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.report.violation.is_none() {
            match self.queue.peek() {
                Some(Reverse((at, _))) if *at <= end => {}
                _ => break,
            }
            let Some(Reverse((at, sequence))) = self.queue.pop() else { break };
            self.now = at;
            if let Some(event) = self.events.remove(&sequence) {
                self.report.events += 1;
                self.handle(event);
            }
        }
        if self.report.violation.is_none() {
            self.now = end;
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, input } => {
                if self.blocked.contains(&(from, to)) {
                    self.report.dropped += 1;
                } else if let Some(wait) = self.busy_for(to) {
                    self.push(wait, Event::Deliver { from, to, input });
                } else if self.nodes[to].replica.is_some() {
                    let input = self.take_in(to, input);
                    self.step(to, input);
                }
            }
            Event::Timer { node, life, timer } => self.fire(node, life, timer),
            Event::Restart { node } => self.boot(node),
            Event::Submit { node, bytes } => self.step(node, Input::Entry { bytes, origin: Origin::Own }),
            Event::Faults => {
                self.see_to_recovery();
                self.throw_faults();
                self.push(FAULTS_MS, Event::Faults);
            }
            Event::Life => {
                self.live();
                self.push(LIFE_MS, Event::Life);
            }
        }
    }

    fn fire(&mut self, node: usize, life: u64, timer: Timer) {
        if self.nodes[node].life != life {
            return;
        }
        if let Some(wait) = self.busy_for(node) {
            let sequence = self.push(wait, Event::Timer { node, life, timer });
            self.nodes[node].timers.insert(timer, sequence);
        } else {
            self.nodes[node].timers.remove(&timer);
            self.step(node, Input::Timer(timer));
        }
    }

    /// How long a node is still busy with its disk.
    fn busy_for(&self, node: usize) -> Option<u64> {
        self.nodes[node].busy_until.checked_sub(self.now).filter(|wait| *wait > 0)
    }

    /// Puts an event into the queue.
    pub(crate) fn push(&mut self, after: u64, event: Event) -> u64 {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + after, self.sequence)));
        self.events.insert(self.sequence, event);
        self.sequence
    }

    /// True market time.
    pub(crate) fn market(&self) -> Timestamp {
        market_at(self.now, self.plan.speed, self.plan.lapse())
    }

    pub(crate) fn number_of(&self, home: &HomeId) -> Option<usize> {
        self.homes.get(home).copied()
    }

    /// Writes a line into the trace, and into the story.
    pub(crate) fn tell(&mut self, node: usize, what: &str) {
        let line = format!("{} {node} {what}", self.now);
        self.trace = Hash32::of(&[&self.trace.0, line.as_bytes()]);
        if let Some(story) = &mut self.story {
            story.push(line);
        }
    }

    /// Notes the first thing that must never happen.
    pub(crate) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.report.checks += 1;
        if !holds && self.report.violation.is_none() {
            let what = what();
            self.report.violation = Some(format!("at {} ms: {what}", self.now));
        }
    }
}
