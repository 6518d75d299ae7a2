//! What homes do: energy flows, meters are read, orders are given, delegates are voted for.

use std::sync::OnceLock;

use agent::{Alike, HORIZON, Wishes};
use consensus::{Input, Origin};
use energy::{HomeId, Interval, Money, Price, WattHours};
use ledger::{
    Ballot, Body, EntryId, Executed, Forward, HomeOutcome, Ledger, Order, Outcome, PublicKey, StandingLimits,
    TermKeys,
};
use market::{Account, Side};

use super::plan::Plan;
use super::street::{self, TARIFF};
use super::world::World;
use crate::brain::{Brain, Decision, Lived, Moment, Place, Settled, Wish};
use crate::dataset::{Recording, Season};
use crate::home::{Flow, Household, Running};
use crate::mind::Mind;

/// Limits of the orders that a rule gives.
const RULE_PRICE: Price = Price::new(170_000);

/// Who lives in a home.
pub(crate) enum House {
    /// Nobody in particular: a load by a rule.
    Rule,
    /// A recorded household with its devices and its agent.
    Agent(Box<Resident>),
}

/// A household with an agent. What an agent remembers it finds in its databases at every start, so it outlives crashes here.
pub(crate) struct Resident {
    home: HomeId,
    household: Household,
    running: Running,
    mind: Mind,
    lived: Option<Lived>,
    settled: Option<HomeOutcome>,
}

/// The street that comes with the program, read once.
fn recording() -> Option<&'static Recording> {
    static RECORDING: OnceLock<Option<Recording>> = OnceLock::new();
    RECORDING.get_or_init(|| Recording::builtin(Season::Summer).ok()).as_ref()
}

impl House {
    pub(crate) fn new(number: usize, plan: &Plan, ledger: &Ledger) -> Self {
        let recorded = recording().filter(|_| plan.agents);
        let found = recorded.and_then(|recording| Some((recording, recording.homes.get(number)?)));
        let Some((recording, recorded)) = found else { return Self::Rule };
        let household = Household::new(recorded, recording.first, recording.intervals, true);
        if !household.is_flexible() {
            return Self::Rule;
        }
        let network = ledger.network();
        let node = network.index_of(&street::admission(number).node).unwrap_or_else(|| network.root());
        let mind = Mind::new(Place {
            devices: household.devices,
            wishes: Wishes::default(),
            connection: household.connection,
            fee_down: network.fee_down_from_root(node),
            fee_up: network.fee_up_to_root(node),
            local_fee_down: Price::ZERO,
            local_fee_up: Price::ZERO,
            peak_w: household.home.pv_w + household.home.battery_pv_w,
            alike: Alike { taking: 2, giving: 2 },
            taste: number as u64,
            trades: plan.forward != Forward::Off,
        });
        let running = Running::new(&household);
        let home = street::home(number);
        Self::Agent(Box::new(Resident { home, household, running, mind, lived: None, settled: None }))
    }

    /// A block is final.
    pub(crate) fn take_note(&mut self, executed: &Executed) {
        let Self::Agent(resident) = self else { return };
        for outcome in &executed.outcomes {
            if let Outcome::Home(outcome) = outcome
                && outcome.home == resident.home
            {
                resident.settled = Some(outcome.clone());
            }
        }
    }
}

impl Resident {
    /// Lives through an interval: what its connection carries, and what its agent wants of the order book.
    fn live(&mut self, interval: Interval, ledger: Option<&Ledger>) -> (Flow, Vec<Wish>) {
        let at = interval.index().saturating_sub(self.household.first().index());
        let at = usize::try_from(at).unwrap_or_default();
        self.running.begin(&self.household, at);
        let decision = ledger.and_then(|ledger| self.decide(interval, ledger));
        let step = match &decision {
            Some(decision) if !decision.rests => {
                self.running.carry_out(&self.household, at, &decision.step, &decision.expected)
            }
            _ => self.running.carry_on(&self.household, at),
        };
        self.lived = Some(Lived { given: self.household.given(at), step });
        let flow = Flow { import: step.import.get(), export: step.export.get() };
        (flow, decision.map(|decision| decision.wishes).unwrap_or_default())
    }

    fn decide(&mut self, interval: Interval, ledger: &Ledger) -> Option<Decision> {
        let balance = ledger.balance(&Account::Home(self.home.clone())).as_money();
        let free = balance.sub(ledger.reserved(&self.home).as_money()).unwrap_or(Money::ZERO);
        let settled = self.settled.take();
        self.mind.decide(&Moment {
            now: interval.start(),
            interval,
            standing: self.running.standing,
            position: ledger.position(&self.home, interval),
            free,
            tariff: &[TARIFF; HORIZON],
            lived: self.lived,
            settled: settled.map(|outcome| Settled { outcome, tariff: TARIFF, totals: None, traded: None }),
        })
    }
}

impl World {
    /// Before the first interval begins.
    pub(crate) fn begin_life(&mut self) {
        let interval = Interval::from_index(self.interval, self.genesis.mtu);
        for number in 0..self.nodes.len() {
            let (flow, _) = self.live_through(number, interval);
            self.nodes[number].meter.flow(flow);
        }
    }

    /// Looks at meters and homes.
    pub(crate) fn live(&mut self) {
        let now = Interval::containing(self.market(), self.genesis.mtu).index();
        while self.interval < now {
            self.interval += 1;
            let interval = Interval::from_index(self.interval, self.genesis.mtu);
            for number in 0..self.nodes.len() {
                let (flow, wishes) = self.live_through(number, interval);
                self.nodes[number].meter.begin(flow);
                self.give_orders(number, interval, wishes);
            }
        }
        for number in 0..self.nodes.len() {
            let waiting = self.nodes[number].replica.as_ref().map_or(0, consensus::Replica::mempool_len);
            self.report.pool_max = self.report.pool_max.max(waiting as u64);
            self.read_meter(number);
        }
        self.see_to_members();
        if !self.healed && self.dice.chance(self.plan.limits_in_1000) {
            let number = self.dice.pick(self.nodes.len());
            self.change_limits(number);
        }
    }

    fn live_through(&mut self, number: usize, interval: Interval) -> (Flow, Vec<Wish>) {
        let node = &mut self.nodes[number];
        let ledger = node.replica.as_ref().map(|_| &node.ledger);
        match &mut node.house {
            House::Agent(resident) => resident.live(interval, ledger),
            House::Rule => (by_rule(number, interval), Vec::new()),
        }
    }

    /// Reads the meter if a boundary has come by the node's clock: signed and kept, then sent.
    fn read_meter(&mut self, number: usize) {
        let (quality, time) = (self.quality(number), self.market());
        let node = &mut self.nodes[number];
        if node.replica.is_none() && !node.is_light {
            return;
        }
        let clock = node.clock.market(self.now);
        let speed = node.clock.speed_at(self.now);
        let Some(interval) = node.journal.due(clock, quality, speed) else { return };
        if !self.is_read(number, interval) {
            return;
        }
        let node = &mut self.nodes[number];
        let shown = node.meter.at(time);
        let bytes = node.journal.read(interval, shown, quality, self.now);
        let height = self.checks.height();
        self.checks.signed_at.insert(super::checks::entry_id(&bytes), height);
        self.hand_over(number, bytes);
    }

    fn change_limits(&mut self, number: usize) {
        let price = 200_000 + i64::try_from(self.dice.below(50_000)).unwrap_or_default();
        let limits = StandingLimits { min_sell: None, max_buy: Some(Price::new(price)) };
        let body = Body::StandingLimits { home: self.nodes[number].home.clone(), limits };
        self.say(number, body);
    }

    /// A running node signs something of its member's and hands it to its replica.
    pub(crate) fn say(&mut self, number: usize, body: Body) -> Option<EntryId> {
        let node = &mut self.nodes[number];
        node.replica.as_ref()?;
        let bytes = node.journal.say(body, &[], self.now);
        let id = super::checks::entry_id(&bytes);
        let height = self.checks.height();
        self.checks.signed_at.insert(id, height);
        self.step(number, Input::Entry { bytes, origin: Origin::Own });
        Some(id)
    }

    fn give_orders(&mut self, number: usize, interval: Interval, wishes: Vec<Wish>) {
        if self.plan.forward == Forward::Off || self.nodes[number].replica.is_none() {
            return;
        }
        if matches!(self.nodes[number].house, House::Rule) {
            self.order_by_rule(number, interval);
            return;
        }
        let home = self.nodes[number].home.clone();
        let mut names = Vec::new();
        for wish in wishes {
            let home = home.clone();
            let body = match wish {
                Wish::Place { interval, side, price, quantity, replaces } => {
                    Body::Order(Order { home, interval, side, price, quantity, replaces })
                }
                Wish::Cancel { order } => Body::Cancel { home, order },
            };
            names.extend(self.say(number, body));
        }
        if let House::Agent(resident) = &mut self.nodes[number].house {
            resident.mind.sent(&names);
        }
    }

    /// One home in two orders for the next interval whose gate is open.
    fn order_by_rule(&mut self, number: usize, interval: Interval) {
        if self.dice.chance(500) {
            return;
        }
        let order = Order {
            home: self.nodes[number].home.clone(),
            interval: interval.next(),
            side: if number.is_multiple_of(2) { Side::Buy } else { Side::Sell },
            price: RULE_PRICE,
            quantity: WattHours::new(100 + self.dice.below(100)),
            replaces: None,
        };
        self.say(number, Body::Order(order));
    }

    /// What a node does for elections after each block: a key for the coming term, kept before it is published, and a
    /// candidacy; a vote for the homes after those of the last epoch; keys of past terms are destroyed.
    pub(crate) fn take_part(&mut self, number: usize) {
        let now = self.now;
        let term = self.nodes[number].ledger.coming_term();
        let (approved, stands) = (self.approved_by(number, term), self.stands(number));
        let node = &mut self.nodes[number];
        let ledger = &node.ledger;
        let (seated, voted) = (ledger.last_delegates().term(), node.voted_for >= term);
        let barred = ledger.barred_until(&node.home).is_some();
        node.term_keys.retain(|term, _| *term >= seated);
        let kept: Vec<_> = node.term_keys.values().map(PublicKey::of).collect();
        let Some(replica) = &mut node.replica else { return };
        replica.forget_term_keys(|key| kept.contains(key));
        let mut entries = Vec::new();
        if !voted {
            node.voted_for = term;
            let vote = Body::Vote { home: node.home.clone(), ballot: Ballot::Approve(approved) };
            entries.push(node.journal.say(vote, &[], now));
        }
        if stands && !barred && !node.term_keys.contains_key(&term) {
            let [key, cosigner] = street::term_keys(number, node.card, term);
            node.term_keys.insert(term, key.clone());
            replica.learn_term_key(key.clone());
            let keys = TermKeys { consensus: PublicKey::of(&key), cosigner: PublicKey::of(&cosigner) };
            let candidacy = Body::Candidacy { home: node.home.clone(), term, keys: Some(keys) };
            entries.push(node.journal.say(candidacy, &[key, cosigner], now));
        }
        for bytes in entries {
            self.step(number, Input::Entry { bytes, origin: Origin::Own });
        }
    }
}

/// Even homes import, odd ones export.
fn by_rule(number: usize, interval: Interval) -> Flow {
    let energy = 100 + (interval.index() * 7 + number as u64 * 13) % 50;
    if number.is_multiple_of(2) {
        Flow { import: energy, export: 0 }
    } else {
        Flow { import: 0, export: energy }
    }
}
