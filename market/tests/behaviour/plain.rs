//! The auction's rules written out as the design states them: every node's curve is built whole, and every node is solved again
//! on the way down. Slow, and shares no code with the crate.

use std::collections::BTreeMap;

use energy::WattHours;
use market::{Network, Order, Side, Supplier};

/// What [`clear`] finds, in plain numbers.
pub struct Plain {
    pub flows: Vec<i64>,
    pub fills: Vec<i64>,
    pub prices: Vec<Option<i64>>,
}

/// A group of equal steps: (price, class) to quantity.
type Steps = BTreeMap<(i64, u8), i64>;

#[derive(Clone, Default)]
struct Curve {
    base: i64,
    steps: Steps,
}

/// A participant in a node's rationing, in order: own orders by id, then children by id.
enum Part {
    Order(usize),
    Import,
    Export,
    Child(usize),
}

struct Solver<'a> {
    network: &'a Network,
    orders: &'a [Order<String>],
    supplier: Option<(i64, i64, i64, i64)>,
    /// What is used of each order's step, and of the supplier's two.
    used: Vec<i64>,
    import_used: i64,
    export_used: i64,
    flows: Vec<i64>,
}

pub fn clear(network: &Network, orders: &[Order<String>], supplier: Option<&Supplier>) -> Plain {
    let total: i64 = orders.iter().map(|order| wh(order.quantity)).sum();
    let supplier = supplier.map(|it| {
        let limit = |limit: Option<WattHours>| limit.map_or(total + 1, wh);
        (it.import_price.get(), it.export_price.get(), limit(it.import_limit), limit(it.export_limit))
    });
    let (used, flows) = (vec![0; orders.len()], vec![0; network.len()]);
    let mut solver = Solver { network, orders, supplier, used, import_used: 0, export_used: 0, flows };
    let root = network.root().get();
    solver.solve(root, 0);
    let mut prices = vec![None; network.len()];
    solver.price(root, None, &mut prices);
    let fill = |(order, used): (&Order<String>, &i64)| match order.side {
        Side::Sell => *used,
        Side::Buy => wh(order.quantity) - used,
    };
    let fills = orders.iter().zip(&solver.used).map(fill).collect();
    Plain { flows: solver.flows, fills, prices }
}

impl Solver<'_> {
    fn children(&self, node: usize) -> Vec<usize> {
        let specs = self.network.specs();
        let mut children: Vec<usize> =
            (0..specs.len()).filter(|child| specs[*child].parent.as_ref() == Some(&specs[node].id)).collect();
        children.sort_by_key(|child| specs[*child].id.as_str());
        children
    }

    /// Own orders by id with the supplier, then children by id, each with its curve.
    fn parts(&self, node: usize) -> Vec<(Part, Curve)> {
        let mut own: Vec<usize> =
            (0..self.orders.len()).filter(|it| self.orders[*it].node.get() == node).collect();
        own.sort_by_key(|it| self.orders[*it].id.as_str());
        let step = |base, key, quantity| Curve { base, steps: Steps::from([(key, quantity)]) };
        let mut parts = vec![];
        for order in own {
            let (price, quantity) = (self.orders[order].price.get(), wh(self.orders[order].quantity));
            parts.push((
                Part::Order(order),
                match self.orders[order].side {
                    Side::Sell => step(0, (price, 0), quantity),
                    Side::Buy => step(-quantity, (price, 3), quantity),
                },
            ));
        }
        if let (Some((import, export, most_in, most_out)), None) =
            (self.supplier, &self.network.specs()[node].parent)
        {
            parts.push((Part::Import, step(0, (import, 2), most_in)));
            parts.push((Part::Export, step(-most_out, (export, 1), most_out)));
        }
        parts.extend(self.children(node).into_iter().map(|child| (Part::Child(child), self.crossed(child))));
        parts
    }

    fn curve(&self, node: usize) -> Curve {
        let mut whole = Curve::default();
        for (_, curve) in self.parts(node) {
            whole.base += curve.base;
            for (key, quantity) in curve.steps {
                *whole.steps.entry(key).or_default() += quantity;
            }
        }
        whole
    }

    /// A node's curve as its parent sees it.
    fn crossed(&self, node: usize) -> Curve {
        let spec = &self.network.specs()[node];
        let up = spec.up.map_or(i64::MAX, wh);
        let down = spec.down.map_or(i64::MIN, |down| -wh(down));
        let curve = self.curve(node);
        let mut crossed = Curve { base: curve.base.max(down), steps: Steps::new() };
        let mut at = curve.base;
        for ((price, class), quantity) in curve.steps {
            let (from, to) = (at, at + quantity);
            at = to;
            let importing = to.min(0).min(up) - from.max(down).min(to.min(0).min(up));
            let exporting = to.min(up) - from.max(0).max(down).min(to.min(up));
            if importing > 0 {
                *crossed.steps.entry((price - spec.fee_down.get(), class)).or_default() += importing;
            }
            if exporting > 0 {
                *crossed.steps.entry((price + spec.fee_up.get(), class)).or_default() += exporting;
            }
        }
        crossed
    }

    /// Gives every part of a node its share of the node's net export.
    fn solve(&mut self, node: usize, net: i64) {
        self.flows[node] = net;
        let whole = self.curve(node);
        let mut left = net - whole.base;
        let parts = self.parts(node);
        let mut used = vec![0; parts.len()];
        for (key, quantity) in whole.steps {
            let claims: Vec<i64> =
                parts.iter().map(|(_, curve)| *curve.steps.get(&key).unwrap_or(&0)).collect();
            let amount = left.min(quantity);
            left -= amount;
            for (used, share) in used.iter_mut().zip(pro_rata(amount, &claims)) {
                *used += share;
            }
        }
        for ((part, curve), used) in parts.into_iter().zip(used) {
            match part {
                Part::Order(order) => self.used[order] = used,
                Part::Import => self.import_used = used,
                Part::Export => self.export_used = used,
                Part::Child(child) => self.solve(child, curve.base + used),
            }
        }
    }

    fn price(&self, node: usize, parent: Option<i64>, prices: &mut [Option<i64>]) {
        let (spec, net) = (&self.network.specs()[node], self.flows[node]);
        let (mut low, mut high) = (i64::MIN, i64::MAX);
        let curve = self.curve(node);
        let mut at = curve.base;
        for ((price, _), quantity) in curve.steps.into_iter().filter(|(_, quantity)| *quantity > 0) {
            if net > at {
                low = low.max(price);
            }
            at += quantity;
            if net < at {
                high = high.min(price);
            }
        }
        if let Some(parent) = parent {
            let (out, into) = (parent - spec.fee_up.get(), parent + spec.fee_down.get());
            let full_up = spec.up.is_some_and(|up| net == wh(up));
            let full_down = spec.down.is_some_and(|down| -net == wh(down));
            let (floor, ceiling) = match net {
                1.. => (if full_up { i64::MIN } else { out }, out),
                0 => (if full_up { i64::MIN } else { out }, if full_down { i64::MAX } else { into }),
                _ => (into, if full_down { i64::MAX } else { into }),
            };
            (low, high) = (low.max(floor), high.min(ceiling));
        }
        assert!(low <= high, "no price fits node {node}");
        prices[node] = match (low, high) {
            (i64::MIN, i64::MAX) => parent,
            (i64::MIN, closed) | (closed, i64::MAX) => Some(closed),
            (low, high) => Some((low + high).div_euclid(2)),
        };
        for child in self.children(node) {
            self.price(child, prices[node], prices);
        }
    }
}

fn wh(energy: WattHours) -> i64 {
    energy.get().try_into().unwrap()
}

/// Floor first, then the largest remainder, ties to the earlier.
fn pro_rata(amount: i64, claims: &[i64]) -> Vec<i64> {
    let total: i64 = claims.iter().sum();
    if total == 0 {
        return vec![0; claims.len()];
    }
    let product = |claim: i64| i128::from(amount) * i128::from(claim);
    let share = |claim: &i64| i64::try_from(product(*claim) / i128::from(total)).unwrap();
    let mut shares: Vec<i64> = claims.iter().map(share).collect();
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by_key(|it| std::cmp::Reverse(product(claims[*it]) % i128::from(total)));
    let left = amount - shares.iter().sum::<i64>();
    order.into_iter().take(usize::try_from(left).unwrap()).for_each(|it| shares[it] += 1);
    shares
}
