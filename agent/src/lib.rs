//! The agent of one home: what it expects, what its devices should do, and what it offers to others.
//!
//! Pure functions, one way: what was metered and published becomes [`Ahead`] (what each of the next intervals will
//! probably bring), [`Ahead`] and the home's devices become a [`Plan`] for 48 hours, the plan becomes orders for energy
//! that the home controls. Nothing is remembered here between calls but what the caller hands in again.
//!
//! Energy and money are the integers of `energy`; floating point is used only inside forecasts, never for an amount.
//!
//! What is deliberately absent: I/O, a clock, randomness, keys, the ledger.

mod commands;
mod expect;
mod forecast;
mod guard;
mod home;
mod mind;
mod orders;
pub mod plan;
mod reach;
mod solar;

pub use commands::*;
pub use expect::*;
pub use forecast::*;
pub use guard::{Guard, Paid};
pub use home::*;
pub use mind::*;
pub use orders::*;
pub use plan::{advance, follow, plan, plan_within, unplanned};
pub use reach::*;
pub use solar::*;
