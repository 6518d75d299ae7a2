//! Random small networks: few fees and limits, so that ties are the rule.

use energy::{NodeId, Price, WattHours};
use market::NodeSpec;
use proptest::prelude::*;

pub fn node(id: &str, parent: Option<&str>) -> NodeSpec {
    NodeSpec {
        id: NodeId::new(id).unwrap(),
        parent: parent.map(|parent| NodeId::new(parent).unwrap()),
        fee_up: Price::ZERO,
        fee_down: Price::ZERO,
        up: None,
        down: None,
    }
}

/// Trees of up to 9 nodes with parents anywhere before them, half of the edges free.
pub fn networks() -> impl Strategy<Value = Vec<NodeSpec>> {
    let fee = prop_oneof![3 => Just(0i64), 1 => Just(10), 1 => Just(20), 1 => 0i64..30];
    let limit = prop_oneof![4 => Just(None), 1 => Just(Some(0u64)), 3 => (0u64..80).prop_map(Some)];
    let edge = (any::<prop::sample::Index>(), fee.clone(), fee, limit.clone(), limit, "[a-z]{2}");
    prop::collection::vec(edge, 1..9).prop_map(|edges| {
        let mut nodes: Vec<NodeSpec> = vec![];
        for (place, (parent, fee_up, fee_down, up, down, name)) in edges.into_iter().enumerate() {
            let parent = (place > 0).then(|| parent.get(&nodes).id.clone());
            nodes.push(NodeSpec {
                parent,
                fee_up: Price::new(fee_up),
                fee_down: Price::new(fee_down),
                up: up.map(WattHours::new),
                down: down.map(WattHours::new),
                ..node(&format!("{name}{place}"), None)
            });
        }
        nodes
    })
}
