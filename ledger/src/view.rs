//! What the ledger knows of the forward market, for those who show it to a home.
//!
//! Everything here is read from the state and changes nothing. It names homes: who shows it to others keeps to the
//! anonymity rule.

use energy::{Balance, HomeId, Interval, Money, Timestamp, WattHours};
use market::{Account, ENTRIES_PER_HOUR, FREEZE_MS, OPENS_MS, Position, Side};

use crate::apply::gate_of;
use crate::crypto::PublicKey;
use crate::genesis::Forward;
use crate::ledger::Ledger;

/// Milliseconds of an hour, in which entries of one signer are counted.
const HOUR_MS: u64 = 3_600_000;

/// When orders for an interval are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderWindow {
    /// The first instant.
    pub opens: Timestamp,
    /// From here on no order is made smaller or worse.
    pub freezes: Timestamp,
    /// The block at or past it clears the orders.
    pub gate: Timestamp,
}

impl OrderWindow {
    /// That of an interval.
    #[must_use]
    pub const fn of(interval: Interval) -> Self {
        let gate = gate_of(interval);
        Self { opens: interval.start().minus_ms(OPENS_MS), freezes: gate.minus_ms(FREEZE_MS), gate }
    }
}

/// A firm position that waits for its settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirmPosition {
    /// Delivery.
    pub interval: Interval,
    /// What was traded, and what it comes to.
    pub position: Position,
    /// What it keeps reserved of its home's balance.
    pub reserve: Balance,
}

impl Ledger {
    /// The first interval for which orders are taken; `None` where nothing is traded forward.
    #[must_use]
    pub fn first_open(&self) -> Option<Interval> {
        (self.genesis_terms().forward != Forward::Off).then(|| self.next_gate())
    }

    /// A home's positions that wait for their settlement, by interval.
    #[must_use]
    pub fn positions(&self, home: &HomeId) -> Vec<FirmPosition> {
        let waiting = self.next_to_settle().index();
        let mine = self.state().positions.iter().filter(|((index, of), _)| *index >= waiting && of == home);
        let mut rows: Vec<_> = mine
            .map(|((index, _), open)| {
                let interval = self.state().interval(*index);
                FirmPosition { interval, position: open.position, reserve: open.reserve }
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.interval);
        rows
    }

    /// What every home has in the book of an interval, by home: its side and the energy of its open orders. For totals,
    /// which are shown only under the anonymity rule.
    #[must_use]
    pub fn book(&self, interval: Interval) -> Vec<(HomeId, Side, WattHours)> {
        let rows = self.members().into_iter().filter_map(|(home, _)| {
            let mine = self.state().book.get(&(interval.index(), home.clone()))?;
            let side = mine.orders.first()?.side;
            let sum = mine.orders.iter().fold(0_u64, |sum, open| sum.saturating_add(open.quantity.get()));
            Some((home.clone(), side, WattHours::new(sum)))
        });
        rows.collect()
    }

    /// What a home can spend: its balance and its credit, less what its orders and positions keep reserved.
    #[must_use]
    pub fn free(&self, home: &HomeId) -> Money {
        let credit = self.genesis_terms().market.money.credit();
        let balance = self.balance(&Account::Home(home.clone())).as_money();
        let free = balance.add(credit.as_money()).and_then(|sum| sum.sub(self.reserved(home).as_money()));
        // Three 64-bit amounts cannot leave 128 bits.
        free.unwrap_or(Money::ZERO)
    }

    /// How many more entries `signer` may sign in the hour of `time`; readings apart.
    #[must_use]
    pub fn entries_left(&self, signer: &PublicKey, time: Timestamp) -> u32 {
        let numbers = self.state().numbers.get(signer).copied().unwrap_or_default();
        let this_hour = numbers.hour == time.unix_ms().wrapping_div(HOUR_MS);
        ENTRIES_PER_HOUR.saturating_sub(if this_hour { numbers.in_hour } else { 0 })
    }
}
