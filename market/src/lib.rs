//! The market: who trades how much with whom, and at what price.
//!
//! Pure functions over a [`Network`] (a tree of nodes with fees and limits on its edges):
//!
//! - [`clear`]: the auction. One welfare-optimal clearing of buy and sell orders in the whole network, with a price
//!   at every node.
//! - [`match_neighbours`]: metered surpluses and deficits shared nearest first, at the middle of the supplier's two
//!   prices.
//! - [`match_forward`]: posted orders for an interval to come, matched like neighbours inside the limits of the edges.
//! - [`settle`] (and [`settle_late`], [`settle_correction`]): one interval's money by its [`Terms`], as postings
//!   that sum to zero.
//!
//! Quantities are integers of `energy` (Wh, µ/kWh, n). A price times an energy is an amount exactly, so no amount is
//! ever rounded; only quantities are, when a group of equals is rationed. The order in which orders or homes are
//! given never reaches a result.
//!
//! What is deliberately absent: I/O, a clock, randomness, floating point, unordered maps, recursion over the
//! network.
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

mod auction;
mod error;
mod forward;
mod matching;
mod network;
mod order_rules;
mod pool;
mod ration;
mod settlement;
mod sharing;
mod terms;

pub use auction::{Clearing, Order, Side, Supplier, clear};
pub use error::{ENERGY_MAX, MarketError, PRICE_MAX};
pub use forward::{ForwardMatch, match_forward};
pub use matching::{HomeMatch, MatchHome, Matching, Tariff, match_neighbours};
pub use network::{NODES_MAX, Network, NetworkError, NodeIndex, NodeSpec};
pub use order_rules::{CHANGES_MAX, ENTRIES_PER_HOUR, FREEZE_MS, GATE_LEAD_MS, OPENS_MS, ORDER_MIN};
pub use settlement::{
    Account, HomeSettlement, Metered, Position, Posting, PostingKind, SettleHome, Settlement, SupplierLeg,
    losses, settle, settle_correction, settle_late,
};
pub use sharing::LOSSES_MAX_PERCENT;
pub use terms::{Division, Losses, Sharing, Terms, Unused};
