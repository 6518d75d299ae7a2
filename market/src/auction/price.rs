//! Flows, prices and money, from what is used of every step.
//!
//! From the leaves up: each node's net export, and the prices of the last step used and the first one unused in its
//! curve. Both follow from its own orders and its children's, since what lies next to a child's flow in the child's
//! curve is what lies next to it in the parent's, with the edge's fee. From the root down: each node's price inside that
//! range and tied to its parent's by the edge between them.

use std::cmp::Ordering;
use std::hint::select_unpredictable;

use energy::{Money, Price, QuantityError, WattHours, midpoint_floor};

use super::curve::Used;
use super::{Clearing, Desk, Order, Side};
use crate::network::RankedNode;
use crate::{MarketError, Network};

/// A range of prices. An open side holds the end of `i64`, which no price reaches.
#[derive(Debug, Clone, Copy)]
struct Range {
    /// Not below: the last step used.
    low: i64,
    /// Not above: the first step unused.
    high: i64,
}

impl Default for Range {
    fn default() -> Self {
        Self { low: OPEN_LOW, high: OPEN_HIGH }
    }
}

const OPEN_LOW: i64 = i64::MIN;
const OPEN_HIGH: i64 = i64::MAX;

impl Range {
    fn raise_low(&mut self, price: i64) {
        self.low = self.low.max(price);
    }

    fn lower_high(&mut self, price: i64) {
        self.high = self.high.min(price);
    }

    /// A step of `quantity` at `price`, `used` of it used.
    fn admit(&mut self, price: i64, used: u64, quantity: u64) {
        self.raise_low(select_unpredictable(used > 0, price, OPEN_LOW));
        self.lower_high(select_unpredictable(used < quantity, price, OPEN_HIGH));
    }

    /// The midpoint, floored; the closed side if one is open; otherwise the parent's price.
    fn price(self, parent: Option<i64>) -> Option<i64> {
        match (self.low, self.high) {
            (OPEN_LOW, OPEN_HIGH) => parent,
            (OPEN_LOW, closed) | (closed, OPEN_HIGH) => Some(closed),
            (low, high) => Some(midpoint_floor(Price::new(low), Price::new(high)).get()),
        }
    }
}

/// What is known of a node's subtree, by rank.
#[derive(Debug, Clone, Copy, Default)]
struct Subtree {
    /// Net export, Wh.
    net: i64,
    /// The least net export: everybody buys, nobody sells, within the limits below.
    least: i64,
    /// The greatest net export.
    most: i64,
    /// Prices of the last step used and the first unused.
    range: Range,
}

/// Puts the clearing together.
pub(super) fn conclude<Id>(
    network: &Network,
    orders: &[Order<Id>],
    ranks: &[u32],
    desk: Option<&Desk>,
    mut used: Used,
) -> Result<Clearing, MarketError> {
    let mut subtrees = vec![Subtree::default(); network.len()];
    let mut welfare = 0i128;
    for ((order, rank), used) in orders.iter().zip(ranks).zip(&mut used.orders) {
        let net = net(order, *used);
        // 64 × 64 bits never wrap 128, nor do sums of them, and saturating ones would cost a call for each order.
        let cost = i128::from(order.price.get()).wrapping_mul(i128::from(net));
        welfare = welfare.wrapping_sub(cost);
        if let Some(subtree) = subtrees.get_mut(*rank as usize) {
            subtree.admit(order, net, *used);
        }
        // From here on it is the fill.
        *used = net.unsigned_abs();
    }
    if let (Some(desk), Some(root)) = (desk, subtrees.first_mut()) {
        root.range.admit(desk.import_price, used.import, desk.import_limit);
        root.range.admit(desk.export_price, used.export_given_up, desk.export_limit);
    }
    sum_up(network, &mut subtrees);
    let by_rank = prices(network, &subtrees);
    let (fees, congestion_rent) = edges_money(network, &subtrees, &by_rank)?;
    let import = WattHours::new(used.import);
    let export =
        WattHours::new(desk.map_or(0, |desk| desk.export_limit).saturating_sub(used.export_given_up));
    let mut welfare = Money::new(welfare).sub(fees)?;
    if let Some(desk) = desk {
        let paid = Price::new(desk.import_price).cost_of(import)?;
        welfare = welfare.sub(paid)?.add(Price::new(desk.export_price).cost_of(export)?)?;
    }
    let mut prices = vec![None; network.len()];
    let mut flows = vec![0; network.len()];
    for ((node, subtree), price) in network.nodes().iter().zip(&subtrees).zip(by_rank) {
        let index = node.index as usize;
        prices.get_mut(index).into_iter().for_each(|slot| *slot = price.map(Price::new));
        flows.get_mut(index).into_iter().for_each(|slot| *slot = subtree.net);
    }
    flows.get_mut(network.root().get()).into_iter().for_each(|slot| *slot = 0);
    // The same memory by another name.
    let fills = used.orders.into_iter().map(WattHours::new).collect();
    Ok(Clearing { prices, flows, fills, import, export, fees, congestion_rent, welfare })
}

/// What an order takes when its step is not used. No side is a branch here: orders' sides are not predictable.
fn base<Id>(order: &Order<Id>) -> i64 {
    select_unpredictable(order.side == Side::Buy, signed(order.quantity.get()), 0)
}

/// An order's net export: a seller sells what is used of its step, a buyer takes what is not.
fn net<Id>(order: &Order<Id>, used: u64) -> i64 {
    signed(used).saturating_sub(base(order))
}

/// Energy as a signed number; it fits, because all energy together does, and limits are cut to that.
fn signed(wh: u64) -> i64 {
    wh.cast_signed()
}

impl Subtree {
    fn admit<Id>(&mut self, order: &Order<Id>, net: i64, used: u64) {
        let (quantity, base) = (order.quantity.get(), base(order));
        self.net = self.net.wrapping_add(net);
        self.least = self.least.wrapping_sub(base);
        self.most = self.most.wrapping_add(signed(quantity).wrapping_sub(base));
        self.range.admit(order.price.get(), used, quantity);
    }
}

/// Adds every subtree to its parent's.
fn sum_up(network: &Network, subtrees: &mut [Subtree]) {
    for (rank, edge) in network.nodes().iter().enumerate().skip(1).rev() {
        let Some(child) = subtrees.get(rank).copied() else { continue };
        let Some(parent) = subtrees.get_mut(edge.parent as usize) else { continue };
        let least = edge.down.map_or(child.least, |down| child.least.max(signed(down).saturating_neg()));
        let most = edge.up.map_or(child.most, |up| child.most.min(signed(up)));
        parent.net = parent.net.saturating_add(child.net);
        parent.least = parent.least.saturating_add(least);
        parent.most = parent.most.saturating_add(most);
        let exporting = |price: i64| price.saturating_add(edge.fee_up);
        let importing = |price: i64| price.saturating_sub(edge.fee_down);
        // The step below a flow of 0 imports, the step above it exports.
        let Range { low, high } = child.range;
        if child.net > least && low != OPEN_LOW {
            parent.range.raise_low(if child.net > 0 { exporting(low) } else { importing(low) });
        }
        if child.net < most && high != OPEN_HIGH {
            parent.range.lower_high(if child.net >= 0 { exporting(high) } else { importing(high) });
        }
    }
}

/// Prices by rank, from the root down.
fn prices(network: &Network, subtrees: &[Subtree]) -> Vec<Option<i64>> {
    let mut prices: Vec<Option<i64>> = Vec::with_capacity(network.len());
    for (edge, subtree) in network.nodes().iter().zip(subtrees) {
        // The root, first of all, has no parent yet.
        let parent = prices.get(edge.parent as usize).copied().flatten();
        let range = parent.map_or(subtree.range, |parent| tie(subtree.range, parent, edge, subtree.net));
        prices.push(range.price(parent));
    }
    prices
}

/// Narrows a child's range to what the edge to its parent allows.
fn tie(mut range: Range, parent: i64, edge: &RankedNode, net: i64) -> Range {
    let exporting = parent.saturating_sub(edge.fee_up);
    let importing = parent.saturating_add(edge.fee_down);
    let at_up_limit = edge.up.is_some_and(|up| net >= signed(up));
    let at_down_limit = edge.down.is_some_and(|down| net <= signed(down).saturating_neg());
    let order = net.cmp(&0);
    if order != Ordering::Less && !at_up_limit {
        range.raise_low(exporting);
    }
    if order != Ordering::Greater && !at_down_limit {
        range.lower_high(importing);
    }
    match order {
        Ordering::Greater => range.lower_high(exporting),
        Ordering::Less => range.raise_low(importing),
        Ordering::Equal => {}
    }
    range
}

/// Network fees, and the rent of the edges at their limit.
fn edges_money(
    network: &Network,
    subtrees: &[Subtree],
    prices: &[Option<i64>],
) -> Result<(Money, Money), QuantityError> {
    let (mut fees, mut rent) = (Money::ZERO, Money::ZERO);
    for ((edge, subtree), price) in network.nodes().iter().zip(subtrees).zip(prices).skip(1) {
        let energy = WattHours::new(subtree.net.unsigned_abs());
        let (fee, spread) = match (subtree.net.cmp(&0), prices.get(edge.parent as usize), price) {
            (Ordering::Greater, Some(Some(parent)), Some(child)) => {
                (edge.fee_up, parent.saturating_sub(*child))
            }
            (Ordering::Less, Some(Some(parent)), Some(child)) => {
                (edge.fee_down, child.saturating_sub(*parent))
            }
            _ => continue,
        };
        fees = fees.add(Price::new(fee).cost_of(energy)?)?;
        rent = rent.add(Price::new(spread.saturating_sub(fee)).cost_of(energy)?)?;
    }
    Ok((fees, rent))
}
