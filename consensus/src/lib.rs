//! Agreement of the delegates on blocks: Tendermint over a pinned sans-IO core, and everything around it that decides
//! whether a vote is safe. No clock, no randomness, no socket, no disk: all of these are inputs and effects.
//!
//! [`Replica`] is the whole core of a node. [`log`] and [`message`] fix what it keeps and what it says, [`Agreement`] is
//! what it needs from a protocol, [`Tendermint`] the protocol used.

mod agreement;
mod context;
mod convert;
pub mod log;
mod mempool;
pub mod message;
mod replica;
mod tendermint;

pub use agreement::*;
pub use log::{damaged_log, new_log, read_records};
pub use mempool::{Handed, Origin, entry_id};
pub use replica::*;
pub use tendermint::Tendermint;
