//! The rules for orders that the ledger holds everybody to and an agent plans by (docs/market.md, "Forward trading").

use energy::WattHours;

/// A gate closes this long before its interval starts, ms.
pub const GATE_LEAD_MS: u64 = 300_000;
/// Orders are taken from this long before the start of their interval, ms.
pub const OPENS_MS: u64 = 172_800_000;
/// No order is made smaller or worse this long before its gate, ms.
pub const FREEZE_MS: u64 = 300_000;
/// The least energy of an order.
pub const ORDER_MIN: WattHours = WattHours::new(100);
/// Replacements and cancels of one member for one interval, at the most.
pub const CHANGES_MAX: u8 = 8;
/// Orders and other entries that one member may sign in an hour; readings are bounded by time itself.
pub const ENTRIES_PER_HOUR: u32 = 64;
