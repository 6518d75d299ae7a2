//! Provisional results, where the metering operator's readings settle: a quarter of an hour after an interval's end each home
//! is told once what its own node's reading would have come to. No money moves, and nothing of it counts in any total.

use energy::{HomeId, Interval, Money, Timestamp};
use market::{Account, settle};

use crate::apply::Step;
use crate::error::EntryError;
use crate::genesis::ReadingSource;
use crate::outcome::{Outcome, OutcomeKind};
use crate::settle::Home;
use crate::state::State;

/// Nodes' readings are awaited this long after the end of their interval.
const AWAITED_MS: u64 = 900_000;

impl State {
    /// When the next provisional result is due, as things stand; `None` where there is none: the nodes' own readings settle,
    /// or the operator's are due as early.
    pub fn next_provisional_time(&self) -> Option<Timestamp> {
        self.provisional_deadline().map(|deadline| deadline.max(self.grace_until))
    }

    /// The same without outages.
    pub fn provisional_deadline(&self) -> Option<Timestamp> {
        let genesis = &self.rules.genesis;
        let is_given = genesis.market.reading_source == ReadingSource::MeteringOperator
            && genesis.due_after_ms > AWAITED_MS;
        is_given.then(|| self.interval(self.next_provisional).end().plus_ms(AWAITED_MS))
    }
}

impl Step {
    /// Gives the provisional result of an interval, unless it settles in this same block.
    pub(crate) fn give_provisional(&mut self, interval: Interval, time: Timestamp) -> Result<(), EntryError> {
        let homes = self.provisional_homes(interval)?;
        self.state.next_provisional = interval.next().index();
        if self.state.due(interval.index()) <= time {
            return Ok(());
        }
        let rates = self.state.rates_at(interval);
        let forward = self.state.forward.get(&interval.index()).copied().unwrap_or_default();
        let inputs: Vec<_> = homes.iter().map(|home| home.input.clone()).collect();
        let root = self.root_of(interval);
        let result = settle(&rates.terms(), &inputs, forward.fees, forward.rent, root)?;
        for (home, settlement) in homes.iter().zip(&result.homes) {
            let outcome = self.outcome(&rates, home, settlement, OutcomeKind::Provisional)?;
            self.outcomes.push(Outcome::Home(outcome));
        }
        Ok(())
    }

    /// The interval's inputs as the nodes read them; their readings are needed no more.
    fn provisional_homes(&mut self, interval: Interval) -> Result<Vec<Home>, EntryError> {
        let names: Vec<HomeId> = self.state.homes_in(interval);
        names.iter().map(|home| self.provisional_home(interval, home)).collect()
    }

    fn provisional_home(&mut self, interval: Interval, home: &HomeId) -> Result<Home, EntryError> {
        let key = (interval.index(), home.clone());
        let read = self.state.provisional.remove(&key);
        let open = self.state.positions.get(&key).copied();
        let position = open.map(|open| open.position).unwrap_or_default();
        let mut home = self.input(interval, home, read.as_ref(), position)?;
        // At settlement what is reserved for its position is free.
        let reserved = open.map(|open| open.reserve).unwrap_or_default();
        let free = self.free_balance(&Account::Home(home.input.id.clone()))?;
        home.input.free_balance = free.add(reserved.as_money())?.max(Money::ZERO);
        Ok(home)
    }
}
