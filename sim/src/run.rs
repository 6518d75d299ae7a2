//! A run: interval after interval, homes act, the ledger takes what they signed and settles what is due.

use std::collections::BTreeMap;
use std::thread;

use agent::{Alike, Cleared, HORIZON, Standing};
use energy::{HomeId, Interval, Money, Price};
use ledger::{IntervalOutcome, Outcome, TariffPoint, VerifiedEntry};
use market::{Account, Network, NodeIndex, NodeSpec};

use crate::SimError;
use crate::brain::{Brain, Place, Totals};
use crate::chain::{Came, Community, DEPOSIT, GATE_AFTER_MS, READINGS_AFTER_MS};
use crate::desk::{Desk, Tick};
use crate::home::{Household, Running};
use crate::options::{Forward, Options, WEEK};

/// A day's prices are published at this quarter-hour of the day before, as day-ahead prices are: 13:00.
const PUBLISHED_AT: usize = 52;
/// From how many metered homes up members see their community's totals.
const COMMUNITY_MIN: u32 = 5;
/// Refused entries of which the reason is kept.
const REASONS_MAX: usize = 8;

/// How devices stood at a week's beginning or the run's end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark {
    /// By home, before any vehicle comes or leaves.
    pub(crate) standing: Vec<Standing>,
    /// Out of all batteries so far, Wh.
    pub(crate) discharged: u64,
}

impl Mark {
    /// Of all homes, in their order.
    pub(crate) fn of<'r>(running: impl Iterator<Item = &'r Running>) -> Self {
        running.fold(Self::default(), |mut mark, running| {
            mark.standing.push(running.standing);
            mark.discharged += running.tally.discharged;
            mark
        })
    }
}

/// What a run on the ledger left behind.
pub(crate) struct Ran<'a> {
    /// The homes, in the order of the recording.
    pub(crate) desks: Vec<Desk<'a>>,
    /// At every week's beginning, and at the end.
    #[cfg_attr(not(feature = "optimum"), expect(dead_code, reason = "the optimum is computed between them"))]
    pub(crate) marks: Vec<Mark>,
    /// Blocks.
    pub(crate) blocks: u64,
    /// What all homes received for the intervals of each week.
    #[cfg_attr(not(feature = "optimum"), expect(dead_code, reason = "the optimum is compared with them"))]
    pub(crate) weeks: Vec<Money>,
    /// True if every home's balance is its deposit and what was settled, and every metered Wh was settled.
    pub(crate) books_agree: bool,
    /// Root of the transparency tree: every entry and every outcome.
    pub(crate) hash: String,
    /// Entries that were refused …
    pub(crate) refused: u64,
    /// … and why the first ones were.
    pub(crate) reasons: Vec<String>,
}

/// Makes the agent of a home with devices; `None` where it has none.
pub(crate) type Brains<'b> = &'b dyn Fn(Place) -> Option<Box<dyn Brain>>;

struct Run<'a> {
    options: Options,
    first: Interval,
    community: Community,
    /// In the order of work, which spreads flexible homes over the threads; its numbers give the order of homes.
    desks: Vec<Desk<'a>>,
    numbers: Vec<usize>,
    places: BTreeMap<HomeId, usize>,
    /// Prices and totals of what was settled last.
    settled: Option<(TariffPoint, Option<Totals>)>,
    /// What public gates cleared of intervals that are not settled yet.
    gates: BTreeMap<Interval, Cleared>,
    weeks: Vec<Money>,
    refused: u64,
    reasons: Vec<String>,
}

/// Runs `households` on a ledger of their own.
pub(crate) fn run<'a>(
    options: &Options,
    households: &'a [Household],
    network: &Network,
    first: Interval,
    brains: Brains<'_>,
) -> Result<Ran<'a>, SimError> {
    let (community, members) = Community::found(options, households, network.specs(), first)?;
    let (mut desks, mut flexible) = (Vec::new(), 0);
    let alike = Alike {
        taking: count(households, Household::is_flexible),
        giving: count(households, |household| household.devices.battery.is_some()),
    };
    for (number, (household, member)) in households.iter().zip(members).enumerate() {
        let place = place_of(options, household, (flexible, alike), network)?;
        flexible += usize::from(household.is_flexible());
        let agent = if household.is_flexible() { brains(place) } else { None };
        desks.push((number, Desk::new(household, member, place.wishes.goal, agent)));
    }
    let (numbers, desks): (Vec<_>, Vec<_>) = spread(desks, options.threads).into_iter().unzip();
    let places = desks.iter().enumerate().map(|(place, desk)| (desk.household.home.id.clone(), place));
    let mut run = Run {
        options: *options,
        first,
        community,
        places: places.collect(),
        desks,
        numbers,
        settled: None,
        gates: BTreeMap::new(),
        weeks: vec![Money::ZERO; options.intervals.div_ceil(WEEK)],
        refused: 0,
        reasons: Vec::new(),
    };
    let mut marks = Vec::new();
    for at in 0..=options.intervals {
        if at % WEEK == 0 || at == options.intervals {
            marks.push(run.mark());
        }
        run.tick(at)?;
    }
    run.settle_last()?;
    Ok(run.finish(marks))
}

fn place_of(
    options: &Options,
    household: &Household,
    (number, alike): (usize, Alike),
    network: &Network,
) -> Result<Place, SimError> {
    let node = &household.home.node;
    let node = network.index_of(node).ok_or_else(|| SimError::UnknownNode(node.clone()))?;
    Ok(Place {
        devices: household.devices,
        wishes: options.goals.of(number),
        connection: household.connection,
        fee_down: network.fee_down_from_root(node),
        fee_up: network.fee_up_to_root(node),
        // Most energy from neighbours comes over the busbar: all fees but those of the edge to the grid above.
        local_fee_down: local_fee(network, node, |node| node.fee_down)?,
        local_fee_up: local_fee(network, node, |node| node.fee_up)?,
        peak_w: household.home.pv_w + household.home.battery_pv_w,
        alike,
        taste: number as u64,
        trades: options.forward != Forward::Off,
    })
}

fn count(households: &[Household], which: impl Fn(&Household) -> bool) -> u32 {
    u32::try_from(households.iter().filter(|household| which(household)).count()).unwrap_or(u32::MAX)
}

/// The fees between a node and the first one below the root.
fn local_fee(network: &Network, node: NodeIndex, fee: fn(&NodeSpec) -> Price) -> Result<Price, SimError> {
    let (mut sum, mut at) = (Price::ZERO, network.specs().get(node.get()));
    while let Some(spec) = at {
        let above = spec.parent.as_ref().and_then(|parent| network.index_of(parent));
        at = above.and_then(|above| network.specs().get(above.get())).filter(|above| above.parent.is_some());
        if at.is_some() {
            sum = sum.add(fee(spec))?;
        }
    }
    Ok(sum)
}

/// Deals homes to threads so that each has as many with an agent as any other; each thread's are contiguous.
fn spread<'a>(desks: Vec<(usize, Desk<'a>)>, threads: usize) -> Vec<(usize, Desk<'a>)> {
    let (agents, others): (Vec<_>, Vec<_>) = desks.into_iter().partition(|(_, desk)| desk.agent.is_some());
    let mut hands: Vec<Vec<_>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
    for (card, desk) in agents.into_iter().chain(others).enumerate() {
        let hand = card % hands.len();
        hands[hand].push(desk);
    }
    hands.into_iter().flatten().collect()
}

impl<'a> Run<'a> {
    fn interval(&self, at: usize) -> Interval {
        Interval::from_index(self.first.index() + at as u64, self.first.mtu())
    }

    fn mark(&self) -> Mark {
        let mut running: Vec<_> = self.numbers.iter().zip(&self.desks).collect();
        running.sort_unstable_by_key(|(number, _)| **number);
        Mark::of(running.into_iter().map(|(_, desk)| &desk.running))
    }

    /// One interval: everybody acts, readings and orders go into a block, then the next interval's gate closes.
    fn tick(&mut self, at: usize) -> Result<(), SimError> {
        let interval = self.interval(at);
        let now = interval.start().plus_ms(READINGS_AFTER_MS);
        let lives = at < self.options.intervals;
        let tariff = if lives && self.desks.iter().any(|desk| desk.agent.is_some()) {
            self.tariff_ahead(interval)
        } else {
            Vec::new()
        };
        let tick = Tick { at, interval, now, lives, tariff: &tariff, settled: self.settled.take() };
        turn_all(&mut self.desks, &tick, self.options.threads)?;
        let mut entries = self.published(at)?;
        // In the order of homes, not of work, or the number of threads would show.
        let mut said: Vec<_> = self.numbers.iter().zip(&mut self.desks).collect();
        said.sort_unstable_by_key(|(number, _)| **number);
        said.into_iter().for_each(|(_, desk)| entries.append(&mut desk.entries));
        let came = self.community.block(now, &entries)?;
        self.take(came, &entries)?;
        let came = self.community.block(interval.start().plus_ms(GATE_AFTER_MS), &[])?;
        self.take(came, &[])?;
        self.look_up(interval.next());
        Ok(())
    }

    /// The last interval's deadline comes a quarter of an hour after its readings.
    fn settle_last(&mut self) -> Result<(), SimError> {
        let time = self.interval(self.options.intervals + 1).start().plus_ms(READINGS_AFTER_MS);
        let came = self.community.block(time, &[])?;
        self.take(came, &[])
    }

    /// The supplier's prices as far as agents plan, as the ledger knows them.
    fn tariff_ahead(&self, from: Interval) -> Vec<TariffPoint> {
        let intervals =
            (0..HORIZON).map(|ahead| Interval::from_index(from.index() + ahead as u64, from.mtu()));
        if self.options.tariff.is_constant() {
            return vec![self.community.ledger.tariff_at(from); HORIZON];
        }
        intervals.map(|interval| self.community.ledger.tariff_at(interval)).collect()
    }

    /// What the operator publishes: the rest of the first day as the run begins, then each day's prices the day before.
    fn published(&mut self, at: usize) -> Result<Vec<VerifiedEntry>, SimError> {
        let day = self.first.mtu().per_day() as usize;
        let days = match at {
            _ if self.options.tariff.is_constant() => return Ok(Vec::new()),
            0 => 1..day,
            _ if at % day == PUBLISHED_AT => (at - PUBLISHED_AT + day)..(at - PUBLISHED_AT + 2 * day),
            _ => return Ok(Vec::new()),
        };
        let from = self.interval(days.start);
        let points = days.map(|at| self.options.tariff.at(self.options.season, self.interval(at))).collect();
        Ok(vec![self.community.tariff(from, points)?])
    }

    /// Hands outcomes and refusals to whom they concern.
    fn take(&mut self, came: Came, entries: &[VerifiedEntry]) -> Result<(), SimError> {
        for outcome in came.outcomes {
            match outcome {
                Outcome::Home(outcome) => {
                    let at = outcome.interval.index().saturating_sub(self.first.index());
                    let week = usize::try_from(at).unwrap_or(usize::MAX) / WEEK;
                    if let Some(sum) = self.weeks.get_mut(week) {
                        *sum = sum.add(outcome.amount)?;
                    }
                    self.desk(&outcome.home)?.settle(outcome)?;
                }
                Outcome::Interval(outcome) => {
                    let forward = self.gates.remove(&outcome.interval);
                    self.settled = Some((outcome.tariff, totals(&outcome, forward)));
                }
                Outcome::Gate(gate) => {
                    let price = gate.price.filter(|_| gate.public && !gate.void);
                    self.gates
                        .extend(price.map(|price| (gate.interval, Cleared { volume: gate.volume, price })));
                }
                Outcome::Order(outcome) => self.desk(&outcome.home)?.cleared(&outcome),
                // Sold flexibility, elections and seats change nothing for a household.
                Outcome::Breach(_) | Outcome::Election(_) | Outcome::Seat(_) => {}
            }
        }
        for (id, error) in came.refused {
            self.refused += 1;
            if self.reasons.len() < REASONS_MAX {
                self.reasons.push(error.to_string());
            }
            let entry = entries.iter().find(|entry| entry.id() == id);
            if let Some(home) = entry.and_then(|entry| entry.entry().body.home()).cloned() {
                self.desk(&home)?.refused(id);
            }
        }
        Ok(())
    }

    fn desk(&mut self, home: &HomeId) -> Result<&mut Desk<'a>, SimError> {
        let place = self.places.get(home).ok_or_else(|| SimError::UnknownHome(home.clone()))?;
        self.desks.get_mut(*place).ok_or_else(|| SimError::UnknownHome(home.clone()))
    }

    /// What agents look up on the ledger before they decide about `interval`.
    fn look_up(&mut self, interval: Interval) {
        if self.options.forward == Forward::Off {
            return;
        }
        let ledger = &self.community.ledger;
        for desk in self.desks.iter_mut().filter(|desk| desk.agent.is_some()) {
            let home = &desk.household.home.id;
            desk.position = ledger.position(home, interval);
            let balance = ledger.balance(&Account::Home(home.clone())).as_money();
            // Reserves never exceed the balance.
            desk.free = balance.sub(ledger.reserved(home).as_money()).unwrap_or_default();
        }
    }

    /// Compares what was settled with what stands on accounts and with what meters counted.
    fn books_agree(&self) -> bool {
        self.desks.iter().all(|desk| {
            let home = Account::Home(desk.household.home.id.clone());
            let balance = self.community.ledger.balance(&home).as_money();
            let paid_in = DEPOSIT.as_money().add(desk.account.amount);
            let settled = desk.account.intervals == self.options.intervals as u64;
            paid_in == Ok(balance) && settled && desk.account.metered == desk.member.counted()
        })
    }

    fn finish(mut self, marks: Vec<Mark>) -> Ran<'a> {
        let books_agree = self.books_agree();
        for desk in &mut self.desks {
            desk.running.begin(desk.household, self.options.intervals);
        }
        let mut desks: Vec<_> = self.numbers.into_iter().zip(self.desks).collect();
        desks.sort_unstable_by_key(|(number, _)| *number);
        Ran {
            desks: desks.into_iter().map(|(_, desk)| desk).collect(),
            marks,
            weeks: self.weeks,
            books_agree,
            blocks: self.community.blocks,
            hash: self.community.ledger.tree_root().hex(),
            refused: self.refused,
            reasons: self.reasons,
        }
    }
}

/// What members see of their own community: totals of so many homes (audit design, "Anonymity rule").
fn totals(outcome: &IntervalOutcome, forward: Option<Cleared>) -> Option<Totals> {
    let IntervalOutcome { matched, supplier_import, supplier_export, homes, missing, .. } = *outcome;
    let metered = homes.saturating_sub(missing);
    (metered >= COMMUNITY_MIN).then_some(Totals { matched, supplier_import, supplier_export, forward })
}

/// Every desk takes its turn; on more than one thread the result is the same, since none sees another.
fn turn_all(desks: &mut [Desk<'_>], tick: &Tick<'_>, threads: usize) -> Result<(), SimError> {
    let hand = desks.len().div_ceil(threads.max(1)).max(1);
    let turn = |desks: &mut [Desk<'_>]| desks.iter_mut().try_for_each(|desk| desk.turn(tick));
    let (mine, theirs) = desks.split_at_mut(hand.min(desks.len()));
    thread::scope(|scope| {
        let others: Vec<_> = theirs.chunks_mut(hand).map(|hand| scope.spawn(move || turn(hand))).collect();
        let mut result = turn(mine);
        for other in others {
            // A thread that panicked is a fault of this program; it goes on here.
            let done = other.join().unwrap_or_else(|fault| std::panic::resume_unwind(fault));
            result = result.and(done);
        }
        result
    })
}
