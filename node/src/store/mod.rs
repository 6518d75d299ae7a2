//! What a node keeps on its disk, and how it survives being killed at any instant.
//!
//! | file | what | written |
//! |---|---|---|
//! | `ledger.db` | blocks, certificates, snapshots, and tables for queries made from them | one transaction per block |
//! | `journal.db` | the home's own signed entries, its numbers, the chain of its reading records | before anything is sent |
//! | `household.db` | what devices were told and did | before a device acts |
//! | `orders.db` | the orders and cancels it signed for its home, and for which request | before anything is sent |
//! | `consensus-a.log`, `consensus-b.log` | what a delegate said and heard since the last block | synced before it speaks |
//! | `lock` | held while a process uses the folder | at start |
//!
//! Everything in `ledger.db` follows from its blocks: [`verify`](verify::verify) replays them and compares every row, and
//! a database of an older schema has its tables made anew from them when it is opened for writing. What is old is let go of bit by
//! bit ([`prune`]): other homes' bodies and rows, never what it takes to [prove](proof) or to go on. An empty store may begin with
//! the state of another node ([`joined`]). Where the home does not hold all bodies there is its own part of each block only
//! (`followed`).
//! The journal is the one file whose loss loses something that nobody else has; the consensus log is the one whose loss may cost a
//! delegate its seat, since it no longer knows what it has said.

pub mod billing;
mod bodies;
mod database;
mod error;
pub mod export;
mod followed;
mod hashed;
mod holding;
pub mod household;
pub mod joined;
pub mod journal;
mod leaves;
pub mod ledger_db;
pub mod log_file;
pub mod orders;
mod projection;
pub mod proof;
pub mod prune;
mod rebuild;
mod replay;
pub mod series;
pub mod verify;

#[cfg(test)]
pub(crate) mod fixture;

pub use bodies::Gone;
pub use database::Durability;
pub(crate) use database::quoted;
pub use error::{Damage, StoreError};
pub use followed::{FollowedError, blocks_for_home};
pub use hashed::Hashed;
pub(crate) use ledger_db::holdings;
