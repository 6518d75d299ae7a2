//! Posted forward trading: orders for an interval to come, matched at its gate exactly like neighbours.
//!
//! The price is M of the interval for everybody, less or plus the fees of the path: no order can set it. An order sits out
//! where its limit does not admit that price. Unlike metered energy, what is traded forward has not flowed yet, so the limits
//! of the edges hold (the operator's forward envelope): a subtree offers at most `up` over its edge and asks for at
//! most `down` from above, each rationed pro rata.

use energy::{Money, WattHours};

use crate::auction::check_orders;
use crate::error::places_by_id;
use crate::matching::check_tariff;
use crate::pool::{Claim, Claims, Edges, meet_all};
use crate::{MarketError, Network, Order, Side, Tariff};

/// What became of posted orders. Everything is in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardMatch {
    /// What each order trades.
    pub fills: Vec<WattHours>,
    /// What each order's home receives (negative: pays), network fees included.
    pub amounts: Vec<Money>,
    /// Network fees, for the network account: what buyers pay more than sellers receive.
    pub fees: Money,
    /// Energy matched at each node, in the order of the network's nodes.
    pub matched: Vec<WattHours>,
}

/// Matches posted orders of one interval: nearest first at M of `tariff`, inside the limits of the edges of `network`. With
/// `tariff.import_price < tariff.export_price` there is no local trade and every order stays unfilled.
///
/// A sell receives M less `fee_up` of the path from its node to where it is matched, a buy pays M plus `fee_down` of its own
/// path; neither ever gets a price worse than its limit.
///
/// # Errors
/// [`MarketError`]: two orders with one id, a node that is not the network's, a price beyond [`crate::PRICE_MAX`], energy
/// beyond [`crate::ENERGY_MAX`].
pub fn match_forward<Id: Ord>(
    network: &Network,
    tariff: &Tariff,
    orders: &[Order<Id>],
) -> Result<ForwardMatch, MarketError> {
    check_tariff(tariff)?;
    let (ranks, _) = check_orders(network, orders)?;
    let places = places_by_id("order", orders.iter().map(|order| &order.id))?;
    let trades = tariff.import_price >= tariff.export_price;
    let mut claims = Vec::with_capacity(orders.len());
    for (index, (order, rank)) in orders.iter().zip(ranks).enumerate() {
        let place =
            places.as_ref().and_then(|places| places.get(index)).map_or(index, |place| *place as usize);
        let quantity = if trades { order.quantity.get() } else { 0 };
        claims.push(claims_of(
            network,
            order,
            rank,
            Claim { party: index, place, left: quantity, limit: 0, fees: 0 },
        ));
    }
    let met = meet_all(network, tariff.middle(), Edges::Limited, claims)?;
    let amounts: Vec<Money> = met.parties.iter().map(|order| order.local_amount).collect();
    Ok(ForwardMatch {
        fills: met.parties.iter().map(|order| order.sold.max(order.bought)).collect(),
        fees: Money::sum(amounts.iter().copied())?.neg()?,
        amounts,
        matched: met.matched,
    })
}

/// An order's claim on its own side, and an empty one on the other.
fn claims_of<Id>(network: &Network, order: &Order<Id>, rank: u32, claim: Claim) -> Claims {
    let (node, limit) = (network.ranked(rank), order.price.get());
    let (rank, nothing) = (rank as usize, Claim { left: 0, ..claim });
    match order.side {
        Side::Sell => {
            let sell = Claim { limit: limit.saturating_add(node.fees_up), fees: node.fees_up, ..claim };
            Claims { rank, sell, buy: nothing }
        }
        Side::Buy => {
            let buy = Claim { limit: limit.saturating_sub(node.fees_down), fees: node.fees_down, ..claim };
            Claims { rank, sell: nothing, buy }
        }
    }
}
