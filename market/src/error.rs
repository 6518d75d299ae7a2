//! What the market refuses, and the ranges inside which its arithmetic is exact.

use energy::{Price, QuantityError, WattHours};

/// The largest price, fee or limit price taken, in either direction: 10¹² µ/kWh (a million of the currency per kWh).
/// Together with [`crate::NODES_MAX`] it keeps every sum of a price and the fees of a path inside 62 bits.
pub const PRICE_MAX: Price = Price::new(1_000_000_000_000);

/// The most energy one auction or one interval may sum up to: 2⁶⁰ Wh, so that signed sums fit 64 bits.
pub const ENERGY_MAX: WattHours = WattHours::new(1 << 60);

/// Input the market refuses. Positions count from 0 in the order given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarketError {
    /// More orders or homes than positions of 32 bits.
    #[error("{count} {what} are too many; at most {max} are taken")]
    TooMany {
        /// `orders` or `homes`.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// How many are taken.
        max: usize,
    },
    /// An order or a home stands at a node that the network does not have.
    #[error("{what} {index} is at node {node}, but the network has {nodes} nodes")]
    UnknownNode {
        /// `order` or `home`.
        what: &'static str,
        /// Its position.
        index: usize,
        /// The node's position.
        node: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// Two orders or homes have the same id: shares would depend on their sequence.
    #[error("{what} {second} has the same id as {what} {first}")]
    DuplicateId {
        /// `order` or `home`.
        what: &'static str,
        /// Position of one of them.
        first: usize,
        /// Position of a later one.
        second: usize,
    },
    /// A price beyond [`PRICE_MAX`].
    #[error("{field} of {what} {index} is {price}, beyond ±{PRICE_MAX}")]
    PriceOutOfRange {
        /// `order`, `home`, or `supplier` (index 0).
        what: &'static str,
        /// Its position.
        index: usize,
        /// The field, e.g. `price`, `min_sell`.
        field: &'static str,
        /// The price given.
        price: Price,
    },
    /// The energy given adds up to more than [`ENERGY_MAX`].
    #[error("the energy of all {what} up to {index} adds up to more than {ENERGY_MAX}")]
    TooMuchEnergy {
        /// `orders` or `homes`.
        what: &'static str,
        /// Position of the first one over the limit.
        index: usize,
    },
    /// In an auction the supplier must not buy above its own selling price: trading with itself would be unbounded.
    #[error("the supplier's import price {import} is below its export price {export}")]
    SupplierPricesCrossed {
        /// What it sells at.
        import: Price,
        /// What it buys at.
        export: Price,
    },
    /// A home's forward position has both a sale and a purchase.
    #[error("home {index} has sold and bought forward in the same interval; a position has one side")]
    TwoSidedPosition {
        /// The home's position.
        index: usize,
    },
    /// A home's free balance is below zero, so what it may buy is undefined.
    #[error("home {index} has a free balance below zero")]
    NegativeBalance {
        /// The home's position.
        index: usize,
    },
    /// The forward positions' amounts, fees and rent do not sum to zero: money would appear or vanish.
    #[error("forward amounts, fees and rent sum to {0} n instead of zero")]
    ForwardUnbalanced(i128),
    /// A home takes part with more than the whole of its meter.
    #[error("home {index} takes part with {permille} ‰ of its meter; at most 1000 are taken")]
    ParticipationTooHigh {
        /// The home's position.
        index: usize,
        /// The part given.
        permille: u32,
    },
    /// The agreed shares come to more than the whole.
    #[error(
        "the agreed shares add up to {sum} of 10000; lower some of them: more than there is cannot be shared"
    )]
    SharesTooHigh {
        /// What they add up to.
        sum: u64,
    },
    /// An incentive below zero would be a charge.
    #[error("the incentive is {payment}; it is paid to homes and never below zero")]
    NegativePayment {
        /// The payment given.
        payment: Price,
    },
    /// An operation left the range of its type.
    #[error(transparent)]
    Quantity(#[from] QuantityError),
}

/// Refuses a price beyond [`PRICE_MAX`].
pub(crate) fn check_price(
    what: &'static str,
    index: usize,
    field: &'static str,
    price: Price,
) -> Result<(), MarketError> {
    if price.get().unsigned_abs() > PRICE_MAX.get().unsigned_abs() {
        return Err(MarketError::PriceOutOfRange { what, index, field, price });
    }
    Ok(())
}

/// For every position its place in ascending order of ids; `None` if they are already given in that order.
///
/// # Errors
/// [`MarketError::DuplicateId`].
pub(crate) fn places_by_id<'a, Id: Ord + 'a>(
    what: &'static str,
    ids: impl Iterator<Item = &'a Id> + Clone,
) -> Result<Option<Vec<u32>>, MarketError> {
    if ids.clone().is_sorted_by(|a, b| a < b) {
        return Ok(None);
    }
    let mut sorted: Vec<(&Id, u32)> = ids.zip(0u32..).collect();
    sorted.sort_unstable();
    if let Some([first, second]) = sorted.array_windows().find(|[a, b]| a.0 == b.0) {
        return Err(MarketError::DuplicateId { what, first: first.1 as usize, second: second.1 as usize });
    }
    let mut places = vec![0; sorted.len()];
    for (place, (_, index)) in (0u32..).zip(&sorted) {
        if let Some(slot) = places.get_mut(*index as usize) {
            *slot = place;
        }
    }
    Ok(Some(places))
}
