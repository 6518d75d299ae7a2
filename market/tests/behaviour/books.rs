//! Random books of orders: few prices, so that ties are the rule.

use energy::{NodeId, Price, WattHours};
use market::{Network, NodeSpec, Order, Side, Supplier};
use proptest::prelude::*;

use crate::random::networks;

/// An order that names its node by its place in [`Market::nodes`].
#[derive(Debug, Clone)]
pub struct RandomOrder {
    pub id: String,
    pub node: NodeId,
    pub side: Side,
    pub price: i64,
    pub quantity: u64,
}

impl RandomOrder {
    /// True for orders that nobody may treat differently.
    pub fn same_but_for_id(&self, other: &Self) -> bool {
        (&self.node, self.side, self.price, self.quantity)
            == (&other.node, other.side, other.price, other.quantity)
    }
}

/// One auction's input.
#[derive(Debug, Clone)]
pub struct Market {
    pub nodes: Vec<NodeSpec>,
    pub orders: Vec<RandomOrder>,
    pub supplier: Option<Supplier>,
}

impl Market {
    pub fn orders(&self, network: &Network) -> Vec<Order<String>> {
        let order = |order: &RandomOrder| Order {
            id: order.id.clone(),
            node: network.index_of(&order.node).unwrap(),
            side: order.side,
            price: Price::new(order.price),
            quantity: WattHours::new(order.quantity),
        };
        self.orders.iter().map(order).collect()
    }

    /// The same market with every energy `factor` times as large.
    pub fn scaled(mut self, factor: u64) -> Self {
        let scale = |energy: &mut WattHours| *energy = WattHours::new(energy.get() * factor);
        for node in &mut self.nodes {
            node.up.iter_mut().chain(&mut node.down).for_each(scale);
        }
        self.orders.iter_mut().for_each(|order| order.quantity *= factor);
        if let Some(supplier) = &mut self.supplier {
            supplier.import_limit.iter_mut().chain(&mut supplier.export_limit).for_each(scale);
        }
        self
    }

    /// The same market with its lists in another sequence.
    pub fn shuffled(&self, seed: u64) -> Self {
        let mut market = self.clone();
        let key = |text: &str| {
            text.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        };
        market.nodes.sort_by_key(|node| key(node.id.as_str()));
        market.orders.sort_by_key(|order| key(&order.id));
        market
    }
}

fn quantities() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(10u64), 1 => Just(1), 1 => Just(0), 4 => 1u64..60]
}

fn prices() -> impl Strategy<Value = i64> {
    prop_oneof![3 => (-2i64..10).prop_map(|ten| ten * 10), 1 => -30i64..110]
}

fn suppliers() -> impl Strategy<Value = Supplier> {
    let limit = prop_oneof![2 => Just(None), 1 => (0u64..80).prop_map(Some)];
    (prices(), prop_oneof![Just(0i64), 0i64..60], limit.clone(), limit).prop_map(
        |(export, spread, import, limit)| Supplier {
            import_price: Price::new(export + spread),
            export_price: Price::new(export),
            import_limit: import.map(WattHours::new),
            export_limit: limit.map(WattHours::new),
        },
    )
}

pub fn markets() -> impl Strategy<Value = Market> {
    let order = (any::<prop::sample::Index>(), any::<bool>(), prices(), quantities(), "[a-c]{0,2}");
    (networks(), prop::collection::vec(order, 0..24), prop::option::of(suppliers())).prop_map(
        |(nodes, orders, supplier)| {
            let order =
                |(place, (node, buys, price, quantity, name)): (usize, (prop::sample::Index, _, _, _, _))| {
                    RandomOrder {
                        id: format!("{name}{place}"),
                        node: node.get(&nodes).id.clone(),
                        side: if buys { Side::Buy } else { Side::Sell },
                        price,
                        quantity,
                    }
                };
            let orders = orders.into_iter().enumerate().map(order).collect();
            Market { nodes, orders, supplier }
        },
    )
}
