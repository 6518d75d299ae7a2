//! Who decides blocks: seats by their keys, which are public, and this home's own part.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// One seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Seat {
    /// Its consensus key of this term, hexadecimal.
    pub key: String,
    /// Blocks of the last day that were counted; absent before the first.
    pub blocks: Option<u64>,
    /// How many of them it signed.
    pub signed: Option<u64>,
    /// True for this home's own.
    pub own: bool,
}

/// The delegates after the last block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delegates {
    /// Version of this document.
    pub schema_version: u32,
    /// Counts the epochs.
    pub epoch: u32,
    /// The earliest market time of the next election.
    pub next_election: Time,
    /// The term of the delegates.
    pub term: u32,
    /// How many of them may fail.
    pub faults: u32,
    /// Seats that changed hands since the last election.
    pub changed: u32,
    /// Who decides the next block, by keys.
    pub seats: Vec<Seat>,
    /// How many stand by.
    pub standbys: u32,
    /// How many stand for the coming term.
    pub candidates: u32,
    /// True if this home stands for the coming term.
    pub stands: bool,
    /// True if this home's vote counts.
    pub has_stake: bool,
    /// Until when this home may not be a delegate; absent if it may.
    pub barred_until: Option<Time>,
}
