//! Times the auction on the case of a file, for comparison with other programs on the same orders.
//!
//! `cargo run --release -p market --example time_clearing -- CASE.json RUNS`: prints the median in ms and the volume sold.
//! The file is read before the clock starts; only [`market::clear`] is timed.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for developers, on a file made by one")]

use std::hint::black_box;
use std::time::Instant;

use energy::{NodeId, Price, WattHours};
use market::{Network, NodeSpec, Order, Side, clear};
use serde_json::Value;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap();
    let runs: usize = arguments.next().map_or(11, |runs| runs.parse().unwrap());
    let case: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let node = NodeId::new("lv").unwrap();
    let (fee_up, fee_down) = (Price::ZERO, Price::ZERO);
    let spec = NodeSpec { id: node.clone(), parent: None, fee_up, fee_down, up: None, down: None };
    let network = Network::new(&[spec]).unwrap();
    let node = network.index_of(&node).unwrap();
    let order = |order: &Value| Order {
        id: order["id"].as_str().unwrap().to_owned(),
        node,
        side: if order["side"] == "sell" { Side::Sell } else { Side::Buy },
        price: Price::new(order["price"].as_i64().unwrap()),
        quantity: WattHours::new(order["qty"].as_u64().unwrap()),
    };
    let orders: Vec<_> = case["orders"].as_array().unwrap().iter().map(order).collect();
    let mut times = Vec::new();
    let mut sold = 0;
    for _ in 0..runs {
        let start = Instant::now();
        let clearing = black_box(clear(&network, black_box(&orders), None).unwrap());
        times.push(start.elapsed());
        let fills = orders.iter().zip(&clearing.fills);
        sold = fills.filter(|(order, _)| order.side == Side::Sell).map(|(_, fill)| fill.get()).sum::<u64>();
    }
    times.sort_unstable();
    println!("{{\"ms\": {:.4}, \"sold_wh\": {sold}}}", times[runs / 2].as_secs_f64() * 1000.0);
}
