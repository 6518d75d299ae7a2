//! The rules of posted forward trading written out plainly: every node's book is collected again from below. Slow, and shares no
//! code with the crate.

use energy::{Price, WattHours};
use market::{Network, NodeIndex, Order, Side, Tariff};
use proptest::prelude::*;

/// One order's part in what was matched at a node.
pub struct Trade {
    pub order: usize,
    pub node: NodeIndex,
    pub energy: u64,
}

/// Tariffs around the prices of random books, some of them crossed.
pub fn tariffs() -> impl Strategy<Value = Tariff> {
    (-30i64..60, -5i64..150).prop_map(|(export, spread)| Tariff {
        import_price: Price::new(export + spread),
        export_price: Price::new(export),
    })
}

/// A node and all above it, up to the root.
pub fn path(network: &Network, node: NodeIndex) -> Vec<NodeIndex> {
    let mut path = vec![node];
    while let Some(parent) = &network.specs()[path[path.len() - 1].get()].parent {
        path.push(network.index_of(parent).unwrap());
    }
    path
}

/// What an order pays or receives per kWh where it is matched at `node`, which is at or above its own.
pub fn price(network: &Network, tariff: &Tariff, order: &Order<String>, node: NodeIndex) -> i64 {
    let middle = (tariff.import_price.get() + tariff.export_price.get()).div_euclid(2);
    let way = path(network, order.node).into_iter().take_while(|on_way| *on_way != node);
    let specs = way.map(|on_way| &network.specs()[on_way.get()]);
    match order.side {
        Side::Sell => middle - specs.map(|spec| spec.fee_up.get()).sum::<i64>(),
        Side::Buy => middle + specs.map(|spec| spec.fee_down.get()).sum::<i64>(),
    }
}

/// All trades, of sellers and of buyers.
pub fn trades(network: &Network, tariff: &Tariff, orders: &[Order<String>]) -> Vec<Trade> {
    let mut plain = Plain { network, tariff, orders, trades: vec![] };
    if tariff.import_price >= tariff.export_price {
        plain.leave(network.root());
    }
    plain.trades
}

struct Plain<'a> {
    network: &'a Network,
    tariff: &'a Tariff,
    orders: &'a [Order<String>],
    trades: Vec<Trade>,
}

/// Orders with what they have left.
type Left = Vec<(usize, u64)>;

impl Plain<'_> {
    /// Matches in the subtree of `node` and returns what is left of its sellers and buyers.
    fn leave(&mut self, node: NodeIndex) -> (Left, Left) {
        let own = |side| {
            let orders = self.orders.iter().enumerate();
            let own = orders.filter(|(_, order)| order.node == node && order.side == side);
            own.map(|(index, order)| (index, order.quantity.get())).collect::<Left>()
        };
        let (mut sells, mut buys) = (own(Side::Sell), own(Side::Buy));
        let specs = self.network.specs();
        for child in specs.iter().filter(|spec| spec.parent.as_ref() == Some(&specs[node.get()].id)) {
            let (more_sells, more_buys) = self.leave(self.network.index_of(&child.id).unwrap());
            sells.extend(self.crossing(more_sells, node, child.up));
            buys.extend(self.crossing(more_buys, node, child.down));
        }
        sells.retain(|(order, _)| self.is_willing(*order, node));
        buys.retain(|(order, _)| self.is_willing(*order, node));
        let matched = total(&sells).min(total(&buys));
        (self.trade(&sells, matched, node), self.trade(&buys, matched, node))
    }

    /// What of a subtree's rest crosses its edge: of those who are willing above, as much as the edge takes.
    fn crossing(&self, mut left: Left, above: NodeIndex, limit: Option<WattHours>) -> Left {
        left.retain(|(order, _)| self.is_willing(*order, above));
        let limit = limit.map_or(u64::MAX, WattHours::get).min(total(&left));
        let shares = self.ration(&left, limit);
        left.iter().zip(shares).map(|((order, _), share)| (*order, share)).collect()
    }

    fn is_willing(&self, order: usize, node: NodeIndex) -> bool {
        let (order, limit) = (&self.orders[order], self.orders[order].price.get());
        let price = price(self.network, self.tariff, order, node);
        if order.side == Side::Sell { price >= limit } else { price <= limit }
    }

    fn trade(&mut self, left: &Left, matched: u64, node: NodeIndex) -> Left {
        let shares = self.ration(left, matched);
        let traded = left.iter().zip(&shares).map(|((order, _), energy)| Trade {
            order: *order,
            node,
            energy: *energy,
        });
        self.trades.extend(traded);
        left.iter().zip(shares).map(|((order, left), share)| (*order, left - share)).collect()
    }

    /// Pro rata, floors, largest remainders, ties to the smaller id.
    fn ration(&self, left: &Left, amount: u64) -> Vec<u64> {
        let all = total(left).max(1);
        let mut shares: Vec<u64> = left.iter().map(|(_, left)| amount * left / all).collect();
        let mut places: Vec<usize> = (0..left.len()).collect();
        places.sort_by_key(|place| {
            let (order, left) = left[*place];
            (std::cmp::Reverse(amount * left % all), self.orders[order].id.clone())
        });
        let missing = usize::try_from(amount - shares.iter().sum::<u64>()).unwrap();
        places.into_iter().take(missing).for_each(|place| shares[place] += 1);
        shares
    }
}

fn total(left: &Left) -> u64 {
    left.iter().map(|(_, energy)| energy).sum()
}
