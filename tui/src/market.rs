//! What is traded ahead, as an operator looks at it: gates, and what positions ask of each edge. No I/O, no clock.

use api::{BreachRow, EdgeEnvelope, ForwardMode, GateRow, MarketRules, OpenPosition, Time};

use crate::model::{Home, Model};

/// What one home's node says about trading ahead.
#[derive(Debug, Clone)]
pub struct Market {
    /// The rules, with the network.
    pub rules: MarketRules,
    /// Positions of the home that wait for settlement.
    pub positions: Vec<OpenPosition>,
    /// When the home carried more than the operator's cap in the last day, newest first.
    pub breaches: Vec<BreachRow>,
    /// The newest gates that have closed, newest first.
    pub gates: Vec<GateRow>,
    /// What trading ahead may send over each edge in the interval of the newest gate.
    pub envelopes: Vec<EdgeEnvelope>,
}

impl Market {
    /// The interval of the newest gate that has closed.
    pub fn newest(&self) -> Option<Time> {
        self.gates.first().map(|gate| gate.interval_start)
    }

    /// What the home sold less what it bought for an interval, Wh.
    fn net(&self, interval: Time) -> i64 {
        let of_it = self.positions.iter().filter(|position| position.interval_start == interval);
        of_it.map(|it| it.sold_wh.cast_signed().saturating_sub(it.bought_wh.cast_signed())).sum()
    }
}

/// What positions ask of one edge, Wh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeUse {
    /// The node below it.
    pub node: String,
    /// Toward the root, and the most; absent: unlimited.
    pub up: (u64, Option<u64>),
    /// Away from the root, and the most.
    pub down: (u64, Option<u64>),
}

impl EdgeUse {
    /// True if positions ask for more than the envelope: then not all of them were cleared under it.
    pub fn is_over(&self) -> bool {
        [self.up, self.down].iter().any(|(used, most)| most.is_some_and(|most| *used > most))
    }
}

impl Model {
    /// What the node that is asked about the community says of trading ahead; `None` before it was asked, or where nothing is
    /// traded ahead.
    pub fn forward(&self) -> Option<&Market> {
        let leader = self.leader().and_then(|index| self.homes.get(index));
        let known = leader.into_iter().chain(&self.homes).find_map(|home| home.market.as_deref());
        known.filter(|market| market.rules.forward != ForwardMode::Off)
    }

    /// What the positions of the homes shown ask of each edge in the interval of the newest gate.
    pub fn edges(&self) -> Vec<EdgeUse> {
        let Some((market, interval)) = self.forward().and_then(|it| Some((it, it.newest()?))) else {
            return Vec::new();
        };
        let nets: Vec<(&str, i64)> = self
            .homes
            .iter()
            .filter_map(|home: &Home| home.market.as_ref())
            .map(|of| (of.rules.node.as_str(), of.net(interval)))
            .collect();
        let edges = market.rules.edges.iter().filter(|edge| edge.parent.is_some());
        let used = edges.map(|edge| {
            let below = nets.iter().filter(|(node, _)| market.is_below(node, &edge.node));
            let net: i64 = below.map(|(_, net)| net).sum();
            let envelope = market.envelopes.iter().find(|it| it.node == edge.node);
            EdgeUse {
                node: edge.node.clone(),
                up: (net.max(0).unsigned_abs(), envelope.and_then(|it| it.up_wh)),
                down: (net.min(0).unsigned_abs(), envelope.and_then(|it| it.down_wh)),
            }
        });
        used.collect()
    }
}

impl Market {
    /// Whether `node` hangs below the edge of `edge`, or is its own node.
    fn is_below(&self, node: &str, edge: &str) -> bool {
        let parent = |node: &str| {
            self.rules.edges.iter().find(|it| it.node == node).and_then(|it| it.parent.as_deref())
        };
        // A tree is no deeper than it has nodes.
        let mut at = Some(node);
        for _ in 0..=self.rules.edges.len() {
            match at {
                Some(here) if here == edge => return true,
                Some(here) => at = parent(here),
                None => return false,
            }
        }
        false
    }
}
