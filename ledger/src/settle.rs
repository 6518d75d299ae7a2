//! What market time makes due: gates, and the settlement of intervals at their deadlines.

use std::collections::BTreeMap;
use std::sync::Arc;

use energy::{Balance, HomeId, Interval, Money, Quality, Timestamp, WattHours};
use market::{
    Account, HomeMatch, HomeSettlement, Metered, Network, Position, Posting, SettleHome, Settlement,
    SupplierLeg, settle, settle_correction, settle_late,
};

use crate::apply::{Step, gate_of};
use crate::crypto::{Hash32, Salt};
use crate::entry::TariffPoint;
use crate::error::{EntryError, InvariantError};
use crate::genesis::{Forward, ReadingSource};
use crate::outcome::{HomeOutcome, IntervalOutcome, Outcome, OutcomeKind, PostingRecord};
use crate::rates::Rates;
use crate::state::{OpenPosition, Pending, State};
use crate::trade::BreachOutcome;

/// Between two blocks further apart in market time there was an outage …
const OUTAGE_MS: u64 = 600_000;
/// … but on an accelerated chain only if they are also so far apart in wall time: a block takes its time at any speed.
const OUTAGE_WALL_MS: u64 = 2000;
/// After an outage readings have this long to arrive before anything settles.
const GRACE_MS: u64 = 600_000;
/// An interval that could not be settled this long after its deadline settles at the supplier's tariff.
const OVERDUE_MS: u64 = 86_400_000;
/// Outcomes of one block at the most, roughly: after a long outage the intervals that wait are settled over several blocks.
pub(crate) const OUTCOMES_MAX: usize = 16_384;
/// Tells the salt of a breach from those of settlements and orders.
const BREACH_SALT: u8 = 0xf2;
/// Totals are public only of so many homes …
pub(crate) const ANONYMITY_HOMES: usize = 15;
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
    pub fn grace_from(&self, time: Timestamp) -> Timestamp {
        let speed = self.rules.genesis.clock.map_or(1, |clock| clock.speed);
        let outage_ms = OUTAGE_WALL_MS.saturating_mul(u64::from(speed)).max(OUTAGE_MS);
        if time.ms_since(self.time) > outage_ms { time.plus_ms(GRACE_MS) } else { self.grace_until }
    }

    /// True if a block of `time` settles an interval, says what one provisionally comes to, or closes a gate.
    pub fn has_due(&self, time: Timestamp) -> bool {
        let deadlines = self.provisional_deadline().into_iter().chain([self.deadline(self.next_to_settle)]);
        let settles = deadlines.min().is_some_and(|first| first.max(self.grace_from(time)) <= time);
        settles || self.next_gate_time().is_some_and(|gate| gate <= time)
    }

    /// When the next gate closes, where there is forward trading.
    pub fn next_gate_time(&self) -> Option<Timestamp> {
        match self.rules.genesis.forward {
            Forward::Off => None,
            Forward::Auction | Forward::Posted => Some(gate_of(self.interval(self.next_gate))),
        }
    }
}

impl Step {
    /// Moves time on to `time` and does what became due, in order of (time, kind, interval). What would make the block too
    /// large is left to the next one, which is due at once.
    pub fn advance(&mut self, time: Timestamp) -> Result<(), EntryError> {
        self.state.grace_until = self.state.grace_from(time);
        let of_one = self.state.members.len().saturating_add(1);
        let before = self.outcomes.len();
        for _ in 0..OUTCOMES_MAX.div_euclid(of_one).max(1) {
            // A gate has as many outcomes as orders.
            if self.outcomes.len().saturating_sub(before) >= OUTCOMES_MAX {
                break;
            }
            let due = self.state.due(self.state.next_to_settle);
            let provisional = self.state.next_provisional_time().filter(|provisional| *provisional <= due);
            match self.state.next_gate_time() {
                Some(gate) if gate <= provisional.unwrap_or(due) && gate <= time => {
                    let interval = self.state.interval(self.state.next_gate);
                    self.close_gate(interval, time)?;
                    self.state.next_gate = interval.next().index();
                }
                _ if provisional.is_some_and(|provisional| provisional <= time) => {
                    self.give_provisional(self.state.interval(self.state.next_provisional), time)?;
                }
                _ if due <= time => {
                    let interval = self.state.interval(self.state.next_to_settle);
                    self.settle_interval(interval, time)?;
                    self.state.next_to_settle = interval.next().index();
                    self.state.next_provisional = self.state.next_provisional.max(interval.next().index());
                }
                _ => break,
            }
        }
        self.state.time = time;
        Ok(())
    }

    fn settle_interval(&mut self, interval: Interval, time: Timestamp) -> Result<(), EntryError> {
        self.return_rent(interval)?;
        self.settle_silent()?;
        self.remember_tariff(interval, self.state.tariff_at(interval));
        self.state.remember_fees(interval);
        let rates = self.state.rates_at(interval);
        let root = self.root_of(interval);
        self.state.pending_root.remove(&interval.index());
        let homes = self.homes_of(interval)?;
        let (settlements, matched) = if self.is_overdue(interval, time) {
            (self.settle_with_supplier(&rates, &homes)?, WattHours::ZERO)
        } else {
            self.settle_with_neighbours(&rates, &homes, root)?
        };
        self.close_interval(&rates, &homes, &settlements, matched, root)?;
        self.drop_limits(interval);
        Ok(())
    }

    /// What the root meter showed, if it says anything about the members: a connection under it that is none is no loss.
    pub(crate) fn root_of(&self, interval: Interval) -> Option<Metered> {
        let root = self.state.pending_root.get(&interval.index()).copied();
        let all = || self.state.members.iter().all(|(_, member)| member.is_member_in(interval));
        root.filter(|_| all())
    }

    /// Forgets envelopes with their interval, and caps a day later: until then a late reading can show a breach.
    fn drop_limits(&mut self, interval: Interval) {
        let settled = interval.index();
        let day = u64::from(interval.mtu().per_day());
        self.state.envelopes.extract(|(index, _)| *index <= settled);
        self.state.caps.extract(|(index, _)| index.saturating_add(day) <= settled);
    }

    /// Says so where a home's meter showed more in an interval than the operator's cap.
    fn report_breach(&mut self, interval: Interval, home: &Home) {
        let Some(metered) = home.input.metered.filter(|_| home.quality != Some(Quality::Gap)) else { return };
        let id = &home.input.id;
        let Some(cap) = self.state.caps.get(&(interval.index(), id.clone())).copied() else { return };
        if metered.import > cap.import || metered.export > cap.export {
            let salt = derived_salt(&home.salt.0, interval, BREACH_SALT);
            let breach = BreachOutcome { home: id.clone(), interval, metered, cap, salt };
            self.outcomes.push(Outcome::Breach(breach));
        }
    }

    /// A day after the deadline nothing is matched any more.
    fn is_overdue(&self, interval: Interval, time: Timestamp) -> bool {
        time > self.state.deadline(interval.index()).plus_ms(OVERDUE_MS)
    }

    fn settle_with_neighbours(
        &mut self,
        rates: &Rates,
        homes: &[Home],
        root: Option<Metered>,
    ) -> Result<(Vec<HomeSettlement>, WattHours), EntryError> {
        let forward = self.state.forward.remove(&rates.interval.index()).unwrap_or_default();
        let inputs: Vec<_> = homes.iter().map(|home| home.input.clone()).collect();
        let mut result = settle(&rates.terms(), &inputs, forward.fees, forward.rent, root)?;
        self.post_all(rates.interval, std::mem::take(&mut result.postings))?;
        if rates.leg == SupplierLeg::Ledger {
            self.hold_supplier_for(rates.interval, homes, &result)?;
        }
        let matched = result.matched.iter().try_fold(WattHours::ZERO, |sum, node| sum.add(*node))?;
        Ok((result.homes, matched))
    }

    /// Holds the supplier to its credit in what it paid for an interval.
    fn hold_supplier_for(
        &mut self,
        interval: Interval,
        homes: &[Home],
        result: &Settlement<HomeId>,
    ) -> Result<(), EntryError> {
        // All fees less those on local energy, which the homes paid among themselves.
        let local = Money::sum(result.homes.iter().map(|home| home.matched.local_amount))?;
        let mut received = vec![(Account::Network, result.fees.add(local)?)];
        for (home, settled) in homes.iter().zip(&result.homes) {
            let amount = settled.matched.supplier_amount.add(settled.loss)?;
            received.push((Account::Home(home.input.id.clone()), amount));
        }
        self.hold_supplier_to_its_credit(interval, received.into_iter())
    }

    /// Each home alone with its supplier; its forward position stands.
    fn settle_with_supplier(
        &mut self,
        rates: &Rates,
        homes: &[Home],
    ) -> Result<Vec<HomeSettlement>, EntryError> {
        let alone: Vec<Home> = homes
            .iter()
            .map(|home| Home { input: SettleHome { metered: None, ..home.input.clone() }, ..home.clone() })
            .collect();
        // Without metered energy only the positions settle …
        let (mut settlements, _) = self.settle_with_neighbours(rates, &alone, None)?;
        // … and then each home's energy less its position, with the supplier.
        for (home, settlement) in homes.iter().zip(&mut settlements) {
            if home.input.metered.is_none() {
                continue;
            }
            let free_balance = self.free_balance(&Account::Home(home.input.id.clone()))?.max(Money::ZERO);
            let input = SettleHome { free_balance, ..home.input.clone() };
            let (late, postings) = settle_late(&rates.terms(), &input)?;
            self.post_alone(rates.interval, postings)?;
            settlement.metered = late.metered;
            settlement.matched = late.matched;
            settlement.claim = settlement.claim.add(late.claim)?;
        }
        Ok(settlements)
    }

    /// Takes the interval's inputs out of the state.
    fn homes_of(&mut self, interval: Interval) -> Result<Vec<Home>, EntryError> {
        let names = self.state.homes_in(interval);
        names.iter().map(|home| self.home_of(interval, home)).collect()
    }

    fn home_of(&mut self, interval: Interval, home: &HomeId) -> Result<Home, EntryError> {
        let key = (interval.index(), home.clone());
        let pending = self.state.pending.remove(&key);
        self.state.provisional.remove(&key);
        let by_operator = self.state.rules.genesis.market.reading_source == ReadingSource::MeteringOperator;
        if by_operator && pending.is_none() {
            self.state.set_unread(home, interval.index());
        }
        let open = self.take_position(interval, home)?;
        let position = open.map(|open| open.position).unwrap_or_default();
        let input = self.input(interval, home, pending.as_ref(), position)?;
        if let Some(open) = open.filter(|_| pending.is_none()) {
            self.keep_unread(interval, home, open)?;
        }
        Ok(input)
    }

    /// Takes a position out of the state and frees its reserve.
    fn take_position(
        &mut self,
        interval: Interval,
        home: &HomeId,
    ) -> Result<Option<OpenPosition>, EntryError> {
        let open = self.state.positions.remove(&(interval.index(), home.clone()));
        if let Some(open) = open {
            self.change_reserve(home, open.reserve.as_money().neg()?)?;
        }
        Ok(open)
    }

    /// Keeps a position that settles without a reading, as delivered, for the reading that may still come. What it brings stays
    /// reserved: nobody takes out the price of energy that it may turn out not to have delivered. So the free balance is after
    /// the settlement what it was before. With a supplier outside nothing late is paid here, so nothing is kept for it.
    fn keep_unread(
        &mut self,
        interval: Interval,
        home: &HomeId,
        open: OpenPosition,
    ) -> Result<(), EntryError> {
        let kept = match self.state.rules.genesis.supplier_leg {
            SupplierLeg::Ledger => open.reserve.as_money().add(open.position.amount)?.max(Money::ZERO),
            SupplierLeg::Outside => Money::ZERO,
        };
        self.change_reserve(home, kept)?;
        let kept = OpenPosition { reserve: Balance::ZERO.credit(kept)?, ..open };
        self.state.positions.insert((interval.index(), home.clone()), kept);
        Ok(())
    }

    /// A home's input to the settlement of an interval, late readings and corrections of it included.
    pub(crate) fn input(
        &self,
        interval: Interval,
        home: &HomeId,
        pending: Option<&Pending>,
        position: Position,
    ) -> Result<Home, EntryError> {
        let member =
            self.state.members.get(home).ok_or_else(|| EntryError::UnknownHome { home: home.clone() })?;
        let (limits, contract) = (member.limits_at(interval), member.contract_at(interval));
        let part = member.participation_at(interval);
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
                share_permyriad: part.share_permyriad,
                participation_permille: part.permille,
                free_balance: self.free_balance(&Account::Home(home.clone()))?.max(Money::ZERO),
            },
        })
    }

    fn remember_tariff(&mut self, interval: Interval, tariff: TariffPoint) {
        self.state.tariff.insert(interval.index(), tariff);
        if self.state.is_ordinary_tariff(&tariff) {
            self.state.last_tariff.insert(interval.of_day(), tariff);
        }
        let oldest = self.state.oldest_remembered();
        if let Some(forgotten) = oldest.checked_sub(1) {
            self.state.tariff.remove(&forgotten);
        }
        self.state.forget_unread(oldest);
    }

    /// Settles the positions of intervals that are forgotten next and that no reading ever came for, as if the meter had shown
    /// nothing: silence must not pay better than a reading.
    fn settle_silent(&mut self) -> Result<(), EntryError> {
        let oldest = self.state.oldest_remembered();
        let silent = self.state.positions.iter().map(|(key, _)| key).filter(|(index, _)| *index < oldest);
        let mut silent: Vec<_> = silent.cloned().collect();
        silent.sort_unstable();
        silent
            .into_iter()
            .try_for_each(|(index, home)| self.settle_late(&home, self.state.interval(index), None))
    }

    fn close_interval(
        &mut self,
        rates: &Rates,
        homes: &[Home],
        settlements: &[HomeSettlement],
        matched: WattHours,
        root: Option<Metered>,
    ) -> Result<(), EntryError> {
        let (interval, tariff) = (rates.interval, rates.tariff);
        let mut salts = Vec::new();
        for (home, settlement) in homes.iter().zip(settlements) {
            salts.extend_from_slice(&home.salt.0);
            self.close_home(rates, home, settlement, OutcomeKind::Settled)?;
        }
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
        rates: &Rates,
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
        let outcome = self.outcome(rates, home, settlement, kind)?;
        self.outcomes.push(Outcome::Home(outcome));
        self.report_breach(rates.interval, home);
        Ok(())
    }

    /// What there is to say of a home's interval.
    pub(crate) fn outcome(
        &self,
        rates: &Rates,
        home: &Home,
        settlement: &HomeSettlement,
        kind: OutcomeKind,
    ) -> Result<HomeOutcome, EntryError> {
        let matched = settlement.matched;
        // A late reading settles beside its position, which was paid for at the deadline.
        let position = if kind == OutcomeKind::Late { Position::default() } else { settlement.position };
        let paid = [position.amount, matched.local_amount, matched.supplier_amount, settlement.loss];
        Ok(HomeOutcome {
            home: home.input.id.clone(),
            interval: rates.interval,
            kind,
            metered: settlement.metered,
            position,
            matched,
            amount: Money::sum(paid)?,
            baseline: supplier_alone(rates, &home.input, settlement.metered.unwrap_or_default())?,
            claim: settlement.claim,
            loss: settlement.loss,
            incentive: settlement.incentive,
            quality: home.quality,
            salt: derived_salt(&home.salt.0, rates.interval, kind as u8),
        })
    }

    /// A reading that came after its interval was settled without it; `None` where none will come any more.
    pub(crate) fn settle_late(
        &mut self,
        home: &HomeId,
        interval: Interval,
        pending: Option<&Pending>,
    ) -> Result<(), EntryError> {
        let open = self.take_position(interval, home)?;
        let position = open.map(|open| open.position).unwrap_or_default();
        let mut home = self.input(interval, home, pending, position)?;
        home.input.metered = Some(pending.map(|pending| pending.metered).unwrap_or_default());
        let rates = self.rates_of_one(interval, &mut home)?;
        let (settlement, postings) = settle_late(&rates.terms(), &home.input)?;
        self.post_alone(interval, postings)?;
        self.close_home(&rates, &home, &settlement, OutcomeKind::Late)
    }

    /// What a home settles by without its neighbours: on a network of its own way to the root alone, to which it is moved.
    fn rates_of_one(&self, interval: Interval, home: &mut Home) -> Result<Rates, EntryError> {
        let path = self.state.path_at(interval, home.input.node);
        let network = Network::new(&path).map_err(|_| EntryError::Malformed {
            what: "the way from the home to the root is no network; this is a fault of the program",
        })?;
        let first = path.first().and_then(|node| network.index_of(&node.id));
        home.input.node = first.unwrap_or_else(|| network.root());
        Ok(self.state.rates_on(interval, Arc::new(network)))
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
        let mut home = self.input(interval, home, None, Position::default())?;
        let rates = self.rates_of_one(interval, &mut home)?;
        let (amount, claim, postings) =
            settle_correction(&rates.terms(), &home.input, import_delta, export_delta)?;
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
            loss: Money::ZERO,
            incentive: Money::ZERO,
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
    /// Money is conserved, no member is below zero (where members pay by statement: beyond its credit), what is reserved is
    /// what open orders and positions need, every metered Wh is settled once or waits.
    pub fn check_invariants(&self) -> Result<(), InvariantError> {
        let sum: Money = self.accounts.iter().map(|(_, balance)| *balance).sum();
        if sum != Money::ZERO {
            return Err(InvariantError::MoneyNotConserved { sum });
        }
        let lowest = Balance::new(self.rules.genesis.market.money.credit().get().saturating_neg());
        for (account, balance) in self.accounts.iter() {
            if let (Account::Home(home), true) = (account, *balance < lowest) {
                return Err(InvariantError::BelowZero { home: home.clone(), balance: *balance });
            }
        }
        self.check_reserves()?;
        self.check_energy()
    }

    /// The homes that belong to the community in an interval, in ascending order.
    pub fn homes_in(&self, interval: Interval) -> Vec<HomeId> {
        let members = self.members.sorted().into_iter();
        members.filter(|(_, of)| of.is_member_in(interval)).map(|(home, _)| home.clone()).collect()
    }

    fn check_reserves(&self) -> Result<(), InvariantError> {
        let mut differences: BTreeMap<&HomeId, i128> = BTreeMap::new();
        let mut add = |home, reserve: Balance, sign: i128| {
            let difference = differences.entry(home).or_default();
            *difference = difference.saturating_add(sign.saturating_mul(reserve.as_money().get()));
        };
        self.reserves.iter().for_each(|(home, reserve)| add(home, *reserve, 1));
        self.positions.iter().for_each(|((_, home), open)| add(home, open.reserve, -1));
        for ((_, home), mine) in self.book.iter() {
            mine.orders.iter().for_each(|order| add(home, order.reserve, -1));
        }
        match differences.into_iter().find(|(_, difference)| *difference != 0) {
            None => Ok(()),
            Some((home, difference)) => {
                let reserved = self.reserves.get(home).copied().unwrap_or_default().as_money();
                let needed = Money::new(reserved.get().saturating_sub(difference));
                Err(InvariantError::ReservesDiffer { home: home.clone(), reserved, needed })
            }
        }
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
pub(crate) struct Home {
    pub input: SettleHome<HomeId>,
    pub quality: Option<Quality>,
    pub salt: Salt,
}

/// What the supplier alone would have come to: export × (export price − F↑) − import × (import price + F↓).
fn supplier_alone(rates: &Rates, home: &SettleHome<HomeId>, metered: Metered) -> Result<Money, EntryError> {
    let (tariff, network) = (rates.tariff, &rates.network);
    let import =
        home.import_price.unwrap_or(tariff.import_price).add(network.fee_down_from_root(home.node))?;
    let export = home.export_price.unwrap_or(tariff.export_price).sub(network.fee_up_to_root(home.node))?;
    Ok(export.cost_of(metered.export)?.sub(import.cost_of(metered.import)?)?)
}

pub(crate) fn derived_salt(secret: &[u8], interval: Interval, kind: u8) -> Salt {
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
    let (import, export): (Vec<u64>, Vec<u64>) = (metered(|of| of.import), metered(|of| of.export));
    let (taken, given) = (matched(|home| home.supplier_import), matched(|home| home.supplier_export));
    settlements.len() >= ANONYMITY_HOMES
        && !is_few(&sold)
        && !is_few(&bought)
        && ![import, export, sold, bought, taken, given].iter().any(|quantities| is_dominated(quantities))
}

/// One or two have something of it: what they have shows in the total.
pub(crate) fn is_few(quantities: &[u64]) -> bool {
    (1..3).contains(&quantities.iter().filter(|quantity| **quantity > 0).count())
}

/// One has more than its share of all.
pub(crate) fn is_dominated(quantities: &[u64]) -> bool {
    let sum: u128 = quantities.iter().map(|quantity| u128::from(*quantity)).sum();
    let largest = u128::from(quantities.iter().copied().max().unwrap_or(0));
    largest.saturating_mul(100) > sum.saturating_mul(ANONYMITY_SHARE)
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
