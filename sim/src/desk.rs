//! One home's side of a run: what it lives through, what its meter says, what its agent wants, what it was paid.

use agent::Goal;
use energy::{Interval, Money, Timestamp};
use ledger::{Body, EntryId, HomeOutcome, Order, OrderOutcome, TariffPoint, VerifiedEntry};
use market::Position;

use crate::SimError;
use crate::brain::{Brain, Decision, Lived, Moment, Settled, Totals, Traded, Wish};
use crate::chain::Member;
use crate::home::{Flow, Household, Running};

/// What the ledger settled for one home in a whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// What it received (negative: paid).
    pub(crate) amount: Money,
    /// What its supplier alone would have come to for the same energy.
    pub(crate) baseline: Money,
    /// Sold to neighbours after metering, Wh.
    pub(crate) sold: u64,
    /// Bought from neighbours after metering, Wh.
    pub(crate) bought: u64,
    /// Sold forward and delivered, Wh.
    pub(crate) forward_sold: u64,
    /// Bought forward and taken, Wh.
    pub(crate) forward_bought: u64,
    /// Taken from the supplier, Wh.
    pub(crate) supplier_import: u64,
    /// Given to the supplier, Wh.
    pub(crate) supplier_export: u64,
    /// What its meter counted in settled intervals.
    pub(crate) metered: Flow,
    /// Intervals that were settled.
    pub(crate) intervals: u64,
    /// Intervals without a forward position that left it worse off than its supplier alone: none.
    pub(crate) worse_off: u64,
}

impl Account {
    /// Adds an interval's settlement.
    fn book(&mut self, outcome: &HomeOutcome) -> Result<(), SimError> {
        let HomeOutcome { position, matched, .. } = outcome;
        let metered = outcome.metered.unwrap_or_default();
        self.amount = self.amount.add(outcome.amount)?;
        self.baseline = self.baseline.add(outcome.baseline)?;
        self.metered.import += metered.import.get();
        self.metered.export += metered.export.get();
        self.sold += matched.sold.get();
        self.bought += matched.bought.get();
        self.forward_sold += position.sold.min(metered.export).get();
        self.forward_bought += position.bought.min(metered.import).get();
        self.supplier_import += matched.supplier_import.get();
        self.supplier_export += matched.supplier_export.get();
        self.intervals += 1;
        if *position == Position::default() && outcome.amount < outcome.baseline {
            self.worse_off += 1;
        }
        Ok(())
    }
}

/// What all homes are told as an interval begins.
pub(crate) struct Tick<'a> {
    /// Intervals since the run began.
    pub(crate) at: usize,
    /// The one that begins.
    pub(crate) interval: Interval,
    /// When.
    pub(crate) now: Timestamp,
    /// False when the run is over and only readings are left.
    pub(crate) lives: bool,
    /// The supplier's prices from this interval on.
    pub(crate) tariff: &'a [TariffPoint],
    /// Prices of the interval that was settled since the last one, and its totals where members see them.
    pub(crate) settled: Option<(TariffPoint, Option<Totals>)>,
}

/// One home in a run.
pub(crate) struct Desk<'a> {
    pub(crate) household: &'a Household,
    pub(crate) running: Running,
    pub(crate) account: Account,
    /// What its connection carried, by interval.
    pub(crate) flows: Vec<Flow>,
    pub(crate) agent: Option<Box<dyn Brain>>,
    /// What its agent is about, if it has one.
    pub(crate) goal: Option<Goal>,
    /// Its forward position in the interval that begins, and what it can spend.
    pub(crate) position: Position,
    pub(crate) free: Money,
    /// What it has to say, to be put into the next block.
    pub(crate) entries: Vec<VerifiedEntry>,
    /// Orders sent so far.
    pub(crate) orders: u64,
    pub(crate) member: Member,
    lived: Option<Lived>,
    settled: Option<HomeOutcome>,
    /// What its orders traded, for intervals that are not settled yet.
    traded: Vec<Traded>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(
        household: &'a Household,
        member: Member,
        goal: Goal,
        agent: Option<Box<dyn Brain>>,
    ) -> Self {
        Self {
            goal: agent.is_some().then_some(goal),
            household,
            running: Running::new(household),
            account: Account::default(),
            flows: Vec::new(),
            agent,
            position: Position::default(),
            free: Money::ZERO,
            entries: Vec::new(),
            orders: 0,
            member,
            lived: None,
            settled: None,
            traded: Vec::new(),
        }
    }

    /// Takes note of what an order of its own came to at its gate.
    pub(crate) fn cleared(&mut self, outcome: &OrderOutcome) {
        let OrderOutcome { interval, side, filled, amount, .. } = *outcome;
        if !filled.is_zero() {
            self.traded.push(Traded { interval, side, filled, amount });
        }
    }

    /// What it traded ahead of an interval that is settled; what lies before is forgotten.
    fn traded(&mut self, interval: Interval) -> Option<Traded> {
        self.traded.retain(|traded| traded.interval >= interval);
        self.traded.iter().find(|traded| traded.interval == interval).copied()
    }

    /// Takes note of what was settled.
    pub(crate) fn settle(&mut self, outcome: HomeOutcome) -> Result<(), SimError> {
        self.account.book(&outcome)?;
        self.settled = Some(outcome);
        Ok(())
    }

    /// Reads the meter of the interval that ended, decides about the one that begins and lives through it. What is signed
    /// waits in `entries`.
    pub(crate) fn turn(&mut self, tick: &Tick<'_>) -> Result<(), SimError> {
        let ended = tick.interval.previous().ok_or(SimError::BeforeTime)?;
        self.entries.push(self.member.read(ended)?);
        if !tick.lives {
            return Ok(());
        }
        self.running.begin(self.household, tick.at);
        let step = match self.decide(tick) {
            Some(decision) => {
                self.send(&decision.wishes)?;
                if decision.rests {
                    self.running.carry_on(self.household, tick.at)
                } else {
                    self.running.carry_out(self.household, tick.at, &decision.step, &decision.expected)
                }
            }
            None => self.running.carry_on(self.household, tick.at),
        };
        let flow = Flow { import: step.import.get(), export: step.export.get() };
        self.lived = Some(Lived { given: self.household.given(tick.at), step });
        self.flows.push(flow);
        self.member.count(flow);
        Ok(())
    }

    fn decide(&mut self, tick: &Tick<'_>) -> Option<Decision> {
        let settled = self.settled.take();
        let traded = settled.as_ref().and_then(|outcome| self.traded(outcome.interval));
        let agent = self.agent.as_mut()?;
        let moment = Moment {
            now: tick.now,
            interval: tick.interval,
            standing: self.running.standing,
            position: self.position,
            free: self.free,
            tariff: tick.tariff,
            lived: self.lived,
            settled: settled.zip(tick.settled).map(|(outcome, (tariff, totals))| Settled {
                outcome,
                tariff,
                totals,
                traded,
            }),
        };
        agent.decide(&moment)
    }

    /// Signs an agent's wishes.
    fn send(&mut self, wishes: &[Wish]) -> Result<(), SimError> {
        let mut names = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let home = self.household.home.id.clone();
            let body = match *wish {
                Wish::Place { interval, side, price, quantity, replaces } => {
                    Body::Order(Order { home, interval, side, price, quantity, replaces })
                }
                Wish::Cancel { order } => Body::Cancel { home, order },
            };
            let entry = self.member.say(body)?;
            names.push(entry.id());
            self.entries.push(entry);
        }
        self.orders += names.len() as u64;
        if let Some(agent) = self.agent.as_mut().filter(|_| !names.is_empty()) {
            agent.sent(&names);
        }
        Ok(())
    }

    /// An entry of its own was refused.
    pub(crate) fn refused(&mut self, entry: EntryId) {
        if let Some(agent) = &mut self.agent {
            agent.refused(entry);
        }
    }
}
