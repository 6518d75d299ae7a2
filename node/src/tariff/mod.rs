//! Tariffs as people write them, made into the explicit series that the ledger takes.
//!
//! A [`schedule`] says what a kWh costs by day type and hour, or names a [`day_ahead`] series and a formula; [`expand`]
//! makes one point an interval of it, in UTC, so that days on which clocks change are what they are. The ledger knows
//! nothing of schedules.

pub mod day_ahead;
pub mod expand;
pub mod schedule;
