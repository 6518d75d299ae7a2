//! What market time makes due: gates, and the settlement of intervals at their deadlines.

use std::collections::BTreeMap;

use energy::{HomeId, Interval, Money, Quality, Timestamp, WattHours};
use market::{
    Account, HomeMatch, HomeSettlement, Metered, Position, Posting, SettleHome, SupplierLeg, Tariff, settle,
    settle_correction, settle_late,
};

use crate::apply::{Step, gate_of};
use crate::crypto::{Hash32, Salt};
use crate::entry::TariffPoint;
use crate::error::{EntryError, InvariantError};
use crate::genesis::Forward;
use crate::outcome::{HomeOutcome, IntervalOutcome, Outcome, OutcomeKind, PostingRecord};
use crate::state::{Pending, State};

/// Between two blocks further apart in market time there was an outage …
const OUTAGE_MS: u64 = 600_000;
/// … but on an accelerated chain only if they are also so far apart in wall time: a block takes its time at any speed.
const OUTAGE_WALL_MS: u64 = 2000;
/// After an outage readings have this long to arrive before anything settles.
const GRACE_MS: u64 = 600_000;
/// An interval that could not be settled this long after its deadline settles at the supplier's tariff.
const OVERDUE_MS: u64 = 86_400_000;
/// Outcomes of one block at the most, roughly: after a long outage the intervals that wait are settled over several blocks.
const OUTCOMES_MAX: usize = 16_384;
/// Totals are public only of so many homes …
const ANONYMITY_HOMES: usize = 15;
/// … of which none has more than this share, in percent.
const ANONYMITY_SHARE: u128 = 15;

impl State {
    /// When an interval settles, as things stand.
    pub fn due(&self, index: u64) -> Timestamp {
        self.deadline(index).max(self.grace_until)
    }

    /// When it would settle without outages.
    fn deadline(&self, index: u64) -> Timestamp {
        self.interval(index).end().plus_ms(self.rules.genesis.due_after_ms)
    }

    /// Until when nothing settles if the next block is of `time`.
    fn grace_from(&self, time: Timestamp) -> Timestamp {
        let speed = self.rules.genesis.clock.map_or(1, |clock| clock.speed);
        let outage_ms = OUTAGE_WALL_MS.saturating_mul(u64::from(speed)).max(OUTAGE_MS);
        if time.ms_since(self.time) > outage_ms { time.plus_ms(GRACE_MS) } else { self.grace_until }
    }

    /// True if a block of `time` settles an interval or closes a gate.
    pub fn has_due(&self, time: Timestamp) -> bool {
        let settles = self.deadline(self.next_to_settle).max(self.grace_from(time)) <= time;
        settles || self.next_gate_time().is_some_and(|gate| gate <= time)
    }

    /// When the next gate closes, where there is forward trading.
    pub fn next_gate_time(&self) -> Option<Timestamp> {
        match self.rules.genesis.forward {
            Forward::Off => None,
            Forward::Auction => Some(gate_of(self.interval(self.next_gate))),
        }
    }
}

impl Step {
    /// Moves time on to `time` and does what became due, in order of (time, kind, interval). What would make the block too
    /// large is left to the next one, which is due at once.
    pub fn advance(&mut self, time: Timestamp) -> Result<(), EntryError> {
        self.state.grace_until = self.state.grace_from(time);
        let of_one = self.state.members.len().saturating_add(1);
        for _ in 0..OUTCOMES_MAX.div_euclid(of_one).max(1) {
            let due = self.state.due(self.state.next_to_settle);
            match self.state.next_gate_time() {
                Some(gate) if gate <= due && gate <= time => {
                    let interval = self.state.interval(self.state.next_gate);
                    self.close_gate(interval, time)?;
                    self.state.next_gate = interval.next().index();
                }
                _ if due <= time => {
                    let interval = self.state.interval(self.state.next_to_settle);
                    self.settle_interval(interval, time)?;
                    self.state.next_to_settle = interval.next().index();
                }
                _ => break,
            }
        }
        self.state.time = time;
        Ok(())
    }

    fn settle_interval(&mut self, interval: Interval, time: Timestamp) -> Result<(), EntryError> {
        let tariff = self.state.tariff_at(interval);
        self.remember_tariff(interval, tariff);
        let homes = self.homes_of(interval)?;
        let (settlements, matched) = if self.is_overdue(interval, time) {
            (self.settle_with_supplier(interval, tariff, &homes)?, WattHours::ZERO)
        } else {
            self.settle_with_neighbours(interval, tariff, &homes)?
        };
        self.close_interval(interval, tariff, &homes, &settlements, matched)
    }

    /// A day after the deadline nothing is matched any more.
    fn is_overdue(&self, interval: Interval, time: Timestamp) -> bool {
        time > self.state.deadline(interval.index()).plus_ms(OVERDUE_MS)
    }

    fn settle_with_neighbours(
        &mut self,
        interval: Interval,
        tariff: TariffPoint,
        homes: &[Home],
    ) -> Result<(Vec<HomeSettlement>, WattHours), EntryError> {
        let forward = self.state.forward.remove(&interval.index()).unwrap_or_default();
        let inputs: Vec<_> = homes.iter().map(|home| home.input.clone()).collect();
        let rules = self.state.rules.clone();
        let leg = rules.genesis.supplier_leg;
        let result = settle(&rules.network, &prices(tariff), leg, &inputs, forward.fees, forward.rent)?;
        self.post_all(interval, result.postings)?;
        if leg == SupplierLeg::Ledger {
            // All fees less those on local energy, which the homes paid among themselves.
            let local = Money::sum(result.homes.iter().map(|home| home.matched.local_amount))?;
            let advanced = std::iter::once((Account::Network, result.fees.add(local)?));
            let paid = inputs
                .iter()
                .zip(&result.homes)
                .map(|(home, settled)| (Account::Home(home.id.clone()), settled.matched.supplier_amount));
            self.hold_supplier_to_its_credit(interval, advanced.chain(paid))?;
        }
        let matched = result.matched.iter().try_fold(WattHours::ZERO, |sum, node| sum.add(*node))?;
        Ok((result.homes, matched))
    }

    /// Each home alone with its supplier; its forward position stands.
    fn settle_with_supplier(
        &mut self,
        interval: Interval,
        tariff: TariffPoint,
        homes: &[Home],
    ) -> Result<Vec<HomeSettlement>, EntryError> {
        let alone: Vec<Home> = homes
            .iter()
            .map(|home| Home { input: SettleHome { metered: None, ..home.input.clone() }, ..home.clone() })
            .collect();
        // Without metered energy only the positions settle …
        let (mut settlements, _) = self.settle_with_neighbours(interval, tariff, &alone)?;
        // … and then each home's energy less its position, with the supplier.
        let rules = self.state.rules.clone();
        for (home, settlement) in homes.iter().zip(&mut settlements) {
            if home.input.metered.is_none() {
                continue;
            }
            let free_balance = self.free_balance(&Account::Home(home.input.id.clone()))?.max(Money::ZERO);
            let input = SettleHome { free_balance, ..home.input.clone() };
            let leg = rules.genesis.supplier_leg;
            let (late, postings) = settle_late(&rules.network, &prices(tariff), leg, &input)?;
            self.post_alone(interval, postings)?;
            settlement.metered = late.metered;
            settlement.matched = late.matched;
            settlement.claim = settlement.claim.add(late.claim)?;
        }
        Ok(settlements)
    }

    /// Takes the interval's inputs out of the state.
    fn homes_of(&mut self, interval: Interval) -> Result<Vec<Home>, EntryError> {
        let names: Vec<HomeId> =
            self.state.members.sorted().into_iter().map(|(home, _)| home.clone()).collect();
        names.iter().map(|home| self.home_of(interval, home)).collect()
    }

    fn home_of(&mut self, interval: Interval, home: &HomeId) -> Result<Home, EntryError> {
        let key = (interval.index(), home.clone());
        let pending = self.state.pending.remove(&key);
        let open = self.state.positions.remove(&key);
        if let Some(open) = open {
            self.change_reserve(home, open.reserve.as_money().neg()?)?;
            if pending.is_none() {
                // A later reading is settled less this position; it reserves nothing any more.
                let settled = crate::state::OpenPosition { reserve: energy::Balance::ZERO, ..open };
                self.state.positions.insert(key, settled);
            }
        }
        let position = open.map(|open| open.position).unwrap_or_default();
        self.input(interval, home, pending.as_ref(), position)
    }

    fn input(
        &self,
        interval: Interval,
        home: &HomeId,
        pending: Option<&Pending>,
        position: Position,
    ) -> Result<Home, EntryError> {
        let member =
            self.state.members.get(home).ok_or_else(|| EntryError::UnknownHome { home: home.clone() })?;
        let (limits, contract) = (member.limits_at(interval), member.contract_at(interval));
        Ok(Home {
            quality: pending.map(|pending| pending.quality),
            salt: pending.map_or(member.salt, |pending| pending.salt),
            input: SettleHome {
                id: home.clone(),
                node: self.state.node_of(member),
                metered: pending.map(|pending| pending.metered),
                position,
                min_sell: limits.min_sell,
                max_buy: limits.max_buy,
                import_price: contract.import_price,
                export_price: contract.export_price,
                free_balance: self.free_balance(&Account::Home(home.clone()))?.max(Money::ZERO),
            },
        })
    }

    fn remember_tariff(&mut self, interval: Interval, tariff: TariffPoint) {
        self.state.tariff.insert(interval.index(), tariff);
        self.state.last_tariff.insert(interval.of_day(), tariff);
        let oldest = self.state.oldest_remembered();
        if let Some(forgotten) = oldest.checked_sub(1) {
            self.state.tariff.remove(&forgotten);
        }
        self.state.positions.extract(|(index, _)| *index < oldest);
    }

    fn close_interval(
        &mut self,
        interval: Interval,
        tariff: TariffPoint,
        homes: &[Home],
        settlements: &[HomeSettlement],
        matched: WattHours,
    ) -> Result<(), EntryError> {
        let mut salts = Vec::new();
        for (home, settlement) in homes.iter().zip(settlements) {
            salts.extend_from_slice(&home.salt.0);
            self.close_home(interval, tariff, home, settlement, OutcomeKind::Settled)?;
        }
        let root = self.state.pending_root.remove(&interval.index());
        let sum = |of: fn(&HomeMatch) -> WattHours| {
            settlements.iter().try_fold(WattHours::ZERO, |sum, home| sum.add(of(&home.matched)))
        };
        let missing = settlements.iter().filter(|home| home.metered.is_none()).count();
        let outcome = IntervalOutcome {
            interval,
            tariff,
            matched,
            supplier_import: sum(|home| home.supplier_import)?,
            supplier_export: sum(|home| home.supplier_export)?,
            homes: u32::try_from(settlements.len()).unwrap_or(u32::MAX),
            missing: u32::try_from(missing).unwrap_or(u32::MAX),
            losses: market::losses(root, settlements.iter().map(|home| home.metered)),
            public: is_anonymous(settlements),
            salt: derived_salt(&Hash32::of(&[&salts]).0, interval, u8::MAX),
        };
        self.outcomes.push(Outcome::Interval(outcome));
        Ok(())
    }

    fn close_home(
        &mut self,
        interval: Interval,
        tariff: TariffPoint,
        home: &Home,
        settlement: &HomeSettlement,
        kind: OutcomeKind,
    ) -> Result<(), EntryError> {
        let id = home.input.id.clone();
        self.owe(Account::Home(id.clone()), Account::Supplier, settlement.claim)?;
        if let (Some(metered), Some(member)) = (settlement.metered, self.state.members.get_mut(&id)) {
            let totals = &mut member.totals;
            totals.import_settled = totals.import_settled.saturating_add(metered.import.get());
            totals.export_settled = totals.export_settled.saturating_add(metered.export.get());
        }
        // A late reading settles beside its position, which was paid for at the deadline.
        let position = if kind == OutcomeKind::Late { Position::default() } else { settlement.position };
        let outcome = HomeOutcome {
            home: id,
            interval,
            kind,
            metered: settlement.metered,
            position,
            matched: settlement.matched,
            amount: Money::sum([
                position.amount,
                settlement.matched.local_amount,
                settlement.matched.supplier_amount,
            ])?,
            baseline: self.supplier_alone(&home.input, tariff, settlement.metered.unwrap_or_default())?,
            claim: settlement.claim,
            quality: home.quality,
            salt: derived_salt(&home.salt.0, interval, kind as u8),
        };
        self.outcomes.push(Outcome::Home(outcome));
        Ok(())
    }

    /// What the supplier alone would have come to: export × (export price − F↑) − import × (import price + F↓).
    fn supplier_alone(
        &self,
        home: &SettleHome<HomeId>,
        tariff: TariffPoint,
        metered: Metered,
    ) -> Result<Money, EntryError> {
        let network = &self.state.rules.network;
        let import =
            home.import_price.unwrap_or(tariff.import_price).add(network.fee_down_from_root(home.node))?;
        let export =
            home.export_price.unwrap_or(tariff.export_price).sub(network.fee_up_to_root(home.node))?;
        Ok(export.cost_of(metered.export)?.sub(import.cost_of(metered.import)?)?)
    }

    /// A reading that came after its interval was settled without it.
    pub(crate) fn settle_late(
        &mut self,
        home: &HomeId,
        interval: Interval,
        pending: &Pending,
    ) -> Result<(), EntryError> {
        let tariff = self.state.tariff_at(interval);
        let open = self.state.positions.remove(&(interval.index(), home.clone()));
        let position = open.map(|open| open.position).unwrap_or_default();
        let home = self.input(interval, home, Some(pending), position)?;
        let rules = self.state.rules.clone();
        let leg = rules.genesis.supplier_leg;
        let (settlement, postings) = settle_late(&rules.network, &prices(tariff), leg, &home.input)?;
        self.post_alone(interval, postings)?;
        self.close_home(interval, tariff, &home, &settlement, OutcomeKind::Late)
    }

    /// The difference of a correction, at the price that is worse for the corrected home.
    pub(crate) fn settle_correction(
        &mut self,
        home: &HomeId,
        interval: Interval,
        import_delta: i64,
        export_delta: i64,
        salt: Salt,
    ) -> Result<(), EntryError> {
        let tariff = self.state.tariff_at(interval);
        let home = self.input(interval, home, None, Position::default())?;
        let rules = self.state.rules.clone();
        let leg = rules.genesis.supplier_leg;
        let (amount, claim, postings) =
            settle_correction(&rules.network, &prices(tariff), leg, &home.input, import_delta, export_delta)?;
        self.post_alone(interval, postings)?;
        self.owe(Account::Home(home.input.id.clone()), Account::Supplier, claim)?;
        let matched = HomeMatch { supplier_amount: amount, ..HomeMatch::default() };
        let outcome = HomeOutcome {
            home: home.input.id,
            interval,
            kind: OutcomeKind::Correction,
            metered: None,
            position: Position::default(),
            matched,
            amount,
            // A correction is no saving and no loss: the supplier alone would have corrected the same.
            baseline: amount,
            claim,
            quality: None,
            // The same home and interval can be corrected more than once, each time by an entry with a salt of its own.
            salt: derived_salt(&salt.0, interval, OutcomeKind::Correction as u8),
        };
        self.outcomes.push(Outcome::Home(outcome));
        Ok(())
    }

    /// The supplier pays to its credit limit; what is beyond waits as a claim on it: of the network first, then of the
    /// homes it bought from, in ascending order. Whatever the supplier receives pays such claims first.
    fn hold_supplier_to_its_credit(
        &mut self,
        interval: Interval,
        received: impl Iterator<Item = (Account<HomeId>, Money)>,
    ) -> Result<(), EntryError> {
        let limit = self.state.rules.genesis.supplier_credit.as_money().neg()?;
        for (creditor, amount) in received {
            let short = limit.sub(self.state.balance(&Account::Supplier).as_money())?;
            let held = short.min(amount);
            if held > Money::ZERO {
                self.post(Some(interval), creditor.clone(), market::PostingKind::Claim, held.neg()?)?;
                self.post(Some(interval), Account::Supplier, market::PostingKind::Claim, held)?;
                self.owe(Account::Supplier, creditor, held)?;
            }
        }
        self.pay_claims(&Account::Supplier)
    }

    /// Posts what one home settles with the supplier alone.
    fn post_alone(&mut self, interval: Interval, postings: Vec<Posting<HomeId>>) -> Result<(), EntryError> {
        let received: Vec<_> = postings
            .iter()
            .filter(|posting| posting.account != Account::Supplier)
            .map(|posting| (posting.account.clone(), posting.amount))
            // The network first.
            .rev()
            .collect();
        self.post_all(interval, postings)?;
        self.hold_supplier_to_its_credit(interval, received.into_iter())
    }

    /// What must hold after every block.
    pub fn check_invariants(&self) -> Result<(), InvariantError> {
        self.state.check_invariants()
    }

    /// Drops what was collected since a mark.
    pub fn rewind(&mut self, state: State, [outcomes, postings, readings, statements]: [usize; 4]) {
        self.state = state;
        self.outcomes.truncate(outcomes);
        self.postings.truncate(postings);
        self.readings.truncate(readings);
        self.statements.truncate(statements);
    }
}

impl State {
    /// Money is conserved, no member is below zero, every metered Wh is settled once or waits.
    pub fn check_invariants(&self) -> Result<(), InvariantError> {
        let sum: Money = self.accounts.iter().map(|(_, balance)| *balance).sum();
        if sum != Money::ZERO {
            return Err(InvariantError::MoneyNotConserved { sum });
        }
        for (account, balance) in self.accounts.iter() {
            if let (Account::Home(home), true) = (account, balance.as_money().is_negative()) {
                return Err(InvariantError::BelowZero { home: home.clone(), balance: *balance });
            }
        }
        self.check_energy()
    }

    fn check_energy(&self) -> Result<(), InvariantError> {
        let mut waiting: BTreeMap<&HomeId, (u64, u64)> = BTreeMap::new();
        for ((_, home), pending) in self.pending.iter() {
            let sums = waiting.entry(home).or_default();
            sums.0 = sums.0.saturating_add(pending.metered.import.get());
            sums.1 = sums.1.saturating_add(pending.metered.export.get());
        }
        for (home, member) in self.members.iter() {
            let totals = member.totals;
            let (import, export) = waiting.get(home).copied().unwrap_or_default();
            for (read, settled, pending) in [
                (totals.import_read, totals.import_settled, import),
                (totals.export_read, totals.export_settled, export),
            ] {
                if settled.checked_add(pending) != Some(read) {
                    return Err(InvariantError::EnergyNotConserved {
                        home: home.clone(),
                        read: WattHours::new(read),
                        settled: WattHours::new(settled),
                        pending: WattHours::new(pending),
                    });
                }
            }
        }
        Ok(())
    }
}

/// One home's part of a settlement.
#[derive(Debug, Clone)]
struct Home {
    input: SettleHome<HomeId>,
    quality: Option<Quality>,
    salt: Salt,
}

const fn prices(tariff: TariffPoint) -> Tariff {
    Tariff { import_price: tariff.import_price, export_price: tariff.export_price }
}

fn derived_salt(secret: &[u8], interval: Interval, kind: u8) -> Salt {
    let digest = Hash32::of(&[b"commonwatt/outcome/v1", secret, &interval.index().to_be_bytes(), &[kind]]).0;
    let mut salt = [0; 16];
    salt.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    Salt(salt)
}

/// The anonymity rule for totals: at least 15 homes, none with more than 15 % of any of the quantities; and at least
/// three who sold and three who bought, since the totals show what a price came from.
fn is_anonymous(settlements: &[HomeSettlement]) -> bool {
    let metered = |of: fn(&Metered) -> WattHours| {
        settlements.iter().map(|home| home.metered.as_ref().map_or(0, |metered| of(metered).get())).collect()
    };
    let matched = |of: fn(&HomeMatch) -> WattHours| {
        settlements.iter().map(|home| of(&home.matched).get()).collect::<Vec<u64>>()
    };
    let (sold, bought) = (matched(|home| home.sold), matched(|home| home.bought));
    let few =
        |quantities: &[u64]| (1..3).contains(&quantities.iter().filter(|quantity| **quantity > 0).count());
    let dominated = |quantities: &[u64]| {
        let sum: u128 = quantities.iter().map(|quantity| u128::from(*quantity)).sum();
        let largest = u128::from(quantities.iter().copied().max().unwrap_or(0));
        largest.saturating_mul(100) > sum.saturating_mul(ANONYMITY_SHARE)
    };
    let (import, export): (Vec<u64>, Vec<u64>) = (metered(|of| of.import), metered(|of| of.export));
    let (taken, given) = (matched(|home| home.supplier_import), matched(|home| home.supplier_export));
    settlements.len() >= ANONYMITY_HOMES
        && !few(&sold)
        && !few(&bought)
        && ![import, export, sold, bought, taken, given].iter().any(|quantities| dominated(quantities))
}

/// What was posted in a block, summed by account: for projections and tests.
#[must_use]
pub fn sum_by_account(postings: &[PostingRecord]) -> BTreeMap<Account<HomeId>, Money> {
    let mut sums = BTreeMap::new();
    for posting in postings {
        let sum: &mut Money = sums.entry(posting.account.clone()).or_default();
        // Postings were each credited to a 64-bit balance; their sum cannot leave 128 bits.
        *sum = sum.add(posting.amount).unwrap_or(*sum);
    }
    sums
}
