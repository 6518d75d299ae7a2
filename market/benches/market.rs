//! Time of one auction and of one interval's matching, on one core.
//!
//! Networks are random trees in which every edge charges a fee and some have limits, the hardest realistic case: edges
//! without either cost nothing. Orders cross, and ids ascend as they do on the ledger, except where a name says otherwise.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use energy::{NodeId, Price, WattHours};
use market::{
    MatchHome, Network, NodeIndex, NodeSpec, Order, Side, Supplier, Tariff, clear, match_neighbours,
};

/// A repeatable stream of numbers (Knuth's MMIX constants); only the upper bits are used.
struct Stream(u64);

impl Stream {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn price(&mut self, bound: u64) -> Price {
        Price::new(i64::try_from(self.below(bound)).unwrap_or(0))
    }

    fn node(&mut self, network: &Network) -> Option<NodeIndex> {
        let nodes = network.specs();
        let at = usize::try_from(self.below(nodes.len() as u64)).ok()?;
        nodes.get(at).and_then(|node| network.index_of(&node.id))
    }
}

/// A tree of `count` nodes whose parents lie at most `reach` nodes back: 1 is a chain, `count` a random tree.
fn network(stream: &mut Stream, count: u64, reach: u64) -> Option<Network> {
    let mut nodes = vec![];
    for place in 0..count {
        let parent = place.checked_sub(1).map(|last| last - stream.below(reach.min(place)));
        let limit =
            |stream: &mut Stream| (stream.below(4) == 0).then(|| WattHours::new(stream.below(400_000)));
        nodes.push(NodeSpec {
            id: NodeId::new(&format!("n{place}")).ok()?,
            parent: parent.and_then(|parent| NodeId::new(&format!("n{parent}")).ok()),
            fee_up: stream.price(2_000),
            fee_down: stream.price(10_000),
            up: limit(stream),
            down: limit(stream),
        });
    }
    Network::new(&nodes).ok()
}

fn orders(stream: &mut Stream, network: &Network, count: u32) -> Option<Vec<Order<u32>>> {
    let order = |id| {
        Some(Order {
            id,
            node: stream.node(network)?,
            side: if stream.below(2) == 0 { Side::Buy } else { Side::Sell },
            price: Price::new(stream.price(220_000).get() + 80_000),
            quantity: WattHours::new(stream.below(2_000) + 100),
        })
    };
    (0..count).map(order).collect()
}

const SUPPLIER: Supplier = Supplier {
    import_price: Price::new(300_000),
    export_price: Price::new(80_000),
    import_limit: None,
    export_limit: None,
};

fn bench_clear(criterion: &mut Criterion, name: &str, count: u32, nodes: u64, reach: u64, shuffled: bool) {
    let stream = &mut Stream(1);
    let Some(network) = network(stream, nodes, reach) else { return };
    let Some(mut orders) = orders(stream, &network, count) else { return };
    if shuffled {
        orders.sort_by_key(|order| order.price);
    }
    criterion.bench_function(&format!("market::clear/{name}"), |bencher| {
        bencher.iter(|| clear(black_box(&network), black_box(&orders), Some(&SUPPLIER)));
    });
}

fn auctions(criterion: &mut Criterion) {
    bench_clear(criterion, "orders=1000", 1_000, 50, 50, false);
    bench_clear(criterion, "orders=10000", 10_000, 200, 200, false);
    bench_clear(criterion, "orders=100000", 100_000, 1_000, 1_000, false);
    bench_clear(criterion, "orders=100000,ids=shuffled", 100_000, 1_000, 1_000, true);
    bench_clear(criterion, "orders=100000,nodes=1", 100_000, 1, 1, false);
    bench_clear(criterion, "orders=100000,reach=20", 100_000, 1_000, 20, false);
}

fn home(stream: &mut Stream, network: &Network, id: u32) -> Option<MatchHome<u32>> {
    let (solar, energy) = (stream.below(3) == 0, WattHours::new(stream.below(1_500)));
    Some(MatchHome {
        id,
        node: stream.node(network)?,
        import: if solar { WattHours::ZERO } else { energy },
        export: if solar { energy } else { WattHours::ZERO },
        min_sell: (stream.below(10) == 0).then(|| stream.price(300_000)),
        max_buy: (stream.below(10) == 0).then(|| stream.price(300_000)),
        import_price: None,
        export_price: None,
        buy_cap: (stream.below(10) == 0).then(|| WattHours::new(stream.below(1_000))),
    })
}

fn matchings(criterion: &mut Criterion) {
    let stream = &mut Stream(2);
    let Some(network) = network(stream, 1_000, 1_000) else { return };
    let homes: Option<Vec<_>> = (0..10_000).map(|id| home(stream, &network, id)).collect();
    let Some(homes) = homes else { return };
    let tariff = Tariff { import_price: SUPPLIER.import_price, export_price: SUPPLIER.export_price };
    criterion.bench_function("market::match/homes=10000", |bencher| {
        bencher.iter(|| match_neighbours(black_box(&network), black_box(&tariff), black_box(&homes)));
    });
}

criterion_group!(benches, auctions, matchings);
criterion_main!(benches);
