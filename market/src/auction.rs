//! The auction: one welfare-optimal clearing of the whole network.
//!
//! It maximises accepted buy value − accepted sell cost − import cost + export value − fees × flow, under the edge
//! limits and the balance of every node. That is a min-cost flow on a tree, so an integer optimum exists and needs no
//! solver:
//!
//! 1. **Steps** ([`curve`]). A sell of q at s is a step: net export rises by q once the local price passes s. A buy of
//!    q at b starts from −q and has a step that gives it up above b. The supplier is one more pair at the root.
//! 2. **Up.** Each node's steps and its children's, in order of (price, class), form its curve. Crossing the edge, the
//!    exporting part gets `fee_up` added to its prices, the importing part `fee_down` taken off, and what exceeds the
//!    limits is cut off.
//! 3. **Root.** Net export is 0: steps below are used whole, the marginal group is rationed.
//! 4. **Rationing** is pro rata over a node's own orders by ascending id, then over its children by ascending id, and
//!    so on down.
//! 5. **Prices** ([`price`]) follow from what was used, from the leaves up, and are then fixed from the root down.

mod curve;
mod price;
mod sort;

use energy::{Money, Price, WattHours};

use crate::error::{check_price, places_by_id};
use crate::{ENERGY_MAX, MarketError, Network, NodeIndex};

/// What an order wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// To take energy, paying at most the order's price.
    Buy,
    /// To give energy, receiving at least the order's price.
    Sell,
}

/// One order of one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<Id> {
    /// Its name; on the ledger the hash of its signed entry. Breaks ties, so no two may be equal.
    pub id: Id,
    /// Where it stands.
    pub node: NodeIndex,
    /// Buy or sell.
    pub side: Side,
    /// The limit: the most a buyer pays, the least a seller receives, at its own node.
    pub price: Price,
    /// The most it trades.
    pub quantity: WattHours,
}

/// The supplier at the root: sells at `import_price` and buys at `export_price`, which must not be the higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supplier {
    /// What it asks for energy the community imports.
    pub import_price: Price,
    /// What it gives for energy the community exports.
    pub export_price: Price,
    /// The most it delivers; `None` is unlimited.
    pub import_limit: Option<WattHours>,
    /// The most it takes; `None` is unlimited.
    pub export_limit: Option<WattHours>,
}

/// The result of an auction. Everyone at a node trades at that node's price, the supplier at the root's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clearing {
    /// Price of each node, in the order of the network's nodes; `None` where nothing can be traded.
    pub prices: Vec<Option<Price>>,
    /// Energy crossing each node's edge toward the root, Wh (negative: away from it), in the order of the nodes; 0 at
    /// the root.
    pub flows: Vec<i64>,
    /// What each order trades, in the order given.
    pub fills: Vec<WattHours>,
    /// Bought from the supplier.
    pub import: WattHours,
    /// Sold to the supplier.
    pub export: WattHours,
    /// Network fees, for the network account.
    pub fees: Money,
    /// What edges at their limit leave between the prices at their two ends, for the congestion account.
    pub congestion_rent: Money,
    /// Accepted buy value − accepted sell cost − import cost + export value − fees.
    pub welfare: Money,
}

/// Clears `orders` in `network`, with the supplier if one takes part.
///
/// Costs O(orders × depth) after sorting each node's own orders; edges without fee and limit add no depth. Orders
/// given by ascending id save sorting the ids.
///
/// # Errors
/// [`MarketError`]: two orders with one id, a node that is not the network's, a price beyond [`crate::PRICE_MAX`],
/// energy beyond [`ENERGY_MAX`], a supplier that buys above its own selling price.
pub fn clear<Id: Ord>(
    network: &Network,
    orders: &[Order<Id>],
    supplier: Option<&Supplier>,
) -> Result<Clearing, MarketError> {
    let (ranks, total) = check_orders(network, orders)?;
    let desk = supplier.map(|supplier| Desk::open(supplier, total)).transpose()?;
    let places = places_by_id("order", orders.iter().map(|order| &order.id))?;
    let (places, desk) = (places.as_deref(), desk.as_ref());
    let used = curve::solve(&curve::Input { network, orders, total, ranks: &ranks, places, desk });
    price::conclude(network, orders, &ranks, desk, used)
}

/// The supplier's two steps at the root: no order can exhaust an unlimited one.
struct Desk {
    import_price: i64,
    export_price: i64,
    import_limit: u64,
    export_limit: u64,
}

impl Desk {
    /// `total` is the energy of all orders.
    fn open(supplier: &Supplier, total: WattHours) -> Result<Self, MarketError> {
        let (import, export) = (supplier.import_price, supplier.export_price);
        check_price("supplier", 0, "import_price", import)?;
        check_price("supplier", 0, "export_price", export)?;
        if import < export {
            return Err(MarketError::SupplierPricesCrossed { import, export });
        }
        let beyond = total.get().saturating_add(1);
        let capped = |limit: Option<WattHours>| limit.map_or(beyond, |limit| limit.get().min(beyond));
        Ok(Self {
            import_price: import.get(),
            export_price: export.get(),
            import_limit: capped(supplier.import_limit),
            export_limit: capped(supplier.export_limit),
        })
    }
}

/// Checks ranges and returns the rank of each order's node and the energy of all orders.
pub(crate) fn check_orders<Id>(
    network: &Network,
    orders: &[Order<Id>],
) -> Result<(Vec<u32>, WattHours), MarketError> {
    if orders.len() > curve::ORDERS_MAX {
        return Err(MarketError::TooMany { what: "orders", count: orders.len(), max: curve::ORDERS_MAX });
    }
    let mut total = WattHours::ZERO;
    let mut ranks = Vec::with_capacity(orders.len());
    for (index, order) in orders.iter().enumerate() {
        let unknown =
            MarketError::UnknownNode { what: "order", index, node: order.node.get(), nodes: network.len() };
        ranks.push(network.rank_of(order.node).ok_or(unknown)?);
        check_price("order", index, "price", order.price)?;
        total = total
            .add(order.quantity)
            .ok()
            .filter(|total| *total <= ENERGY_MAX)
            .ok_or(MarketError::TooMuchEnergy { what: "orders", index })?;
    }
    Ok((ranks, total))
}
