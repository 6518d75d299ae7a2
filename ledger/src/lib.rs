//! The ledger: what is signed, who has what, and which block says so.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod apply;
mod block;
pub mod codec;
mod crypto;
mod entry;
mod error;
mod genesis;
mod ledger;
mod outcome;
mod settle;
mod state;
mod table;
pub mod tree;

pub use block::*;
pub use crypto::{Hash32, PublicKey, Salt, Signature};
pub use entry::*;
pub use error::{BlockError, EntryError, InvariantError, SnapshotError};
pub use genesis::*;
pub use ledger::{Executed, HEARTBEAT_MS, Ledger, Proposed, money_of_members};
pub use outcome::*;
pub use settle::sum_by_account;
pub use state::{Member, MeterState};
pub use table::Table;
