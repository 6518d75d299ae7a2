//! How far the community's meters can be believed: what a home collects about its own, and what the node at the
//! transformer makes of everybody's.
//!
//! A home's [`Collector`] turns what its devices show anyway into one small record a day, the [`DayEvidence`]. The node that
//! reads the transformer's meter holds all final readings and these records against each other ([`Gathering`],
//! [`meter::assurance::assess`]) and states one level per meter ([`statements`]).
//!
//! Of all this only [`Gatherer`] and [`Assessor`] know clock and database; the rest is rows in, values for entries out.

mod assessor;
mod collector;
mod publish;
#[cfg(test)]
mod tests;

pub use assessor::{
    Community, EvidenceRow, Gathering, HomeRow, ReadingRow, STATEMENT_METERS_MAX, WINDOW_DAYS, due,
    due_homes, feeders, statements, window_start,
};
pub use collector::{Collector, DayEvidence, Sampling};
pub use publish::{Assessor, Gatherer};
