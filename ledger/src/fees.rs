//! Network fees by edge and interval: which hold, and the network with them.
//!
//! As with tariffs: what was published for an interval holds there; where nothing was, the last ordinary fees that were
//! valid at that time of day; else those of genesis. A settled interval keeps its own for late readings and corrections.

use std::sync::Arc;

use energy::{Interval, NodeId, Price, QuantityError};
use market::{Network, NodeIndex, NodeSpec};

use crate::entry::FeePoint;
use crate::genesis::PRICE_LIMIT;
use crate::state::{MEMORY_DAYS, State};

impl State {
    /// The network with the fees of an interval. At no cost where none were ever published; else it looks up every edge, so ask
    /// once for a whole gate or settlement, and for one home's way [`State::path_at`].
    pub fn network_at(&self, interval: Interval) -> Arc<Network> {
        let usual = &self.rules.network;
        if self.has_genesis_fees() {
            return usual.clone();
        }
        self.published_network(interval).map_or_else(|| usual.clone(), Arc::new)
    }

    /// The nodes from `node` to the root, with the fees of an interval on their edges.
    pub fn path_at(&self, interval: Interval, node: NodeIndex) -> Vec<NodeSpec> {
        let (network, published) = (&self.rules.network, !self.has_genesis_fees());
        let mut path = Vec::new();
        let mut next = network.specs().get(node.get());
        while let Some(spec) = next {
            let mut spec = spec.clone();
            if let Some(FeePoint { up, down }) = self.fee_at(interval, &spec.id).filter(|_| published) {
                (spec.fee_up, spec.fee_down) = (up, down);
            }
            let parent = spec.parent.as_ref().and_then(|parent| network.index_of(parent));
            next = parent.and_then(|parent| network.specs().get(parent.get()));
            path.push(spec);
        }
        path
    }

    /// Network fees between a node and the root in an interval: (F↑, F↓).
    pub fn fees_of_path(&self, interval: Interval, node: NodeIndex) -> Result<(Price, Price), QuantityError> {
        let path = self.path_at(interval, node);
        // The root's own fees have no meaning.
        let edges = path.iter().filter(|spec| spec.parent.is_some());
        edges.into_iter().try_fold((Price::ZERO, Price::ZERO), |(up, down), spec| {
            Ok((up.add(spec.fee_up)?, down.add(spec.fee_down)?))
        })
    }

    fn has_genesis_fees(&self) -> bool {
        self.fees.is_empty() && self.last_fees.is_empty()
    }

    /// The network with the fees of an interval; `None` where they are those of genesis.
    fn published_network(&self, interval: Interval) -> Option<Network> {
        let network = &self.rules.network;
        let fees: Vec<_> = network
            .specs()
            .iter()
            .filter_map(|spec| {
                let FeePoint { up, down } = self.fee_at(interval, &spec.id)?;
                Some((network.index_of(&spec.id)?, up, down))
            })
            .collect();
        if fees.is_empty() { None } else { network.with_fees(&fees).ok() }
    }

    /// The fees of the edge from `node` to its parent, if others than those of genesis.
    fn fee_at(&self, interval: Interval, node: &NodeId) -> Option<FeePoint> {
        let at = |index: u64| self.fees.get(&(index, node.clone())).copied();
        let index = interval.index();
        if index < self.next_to_settle || at(index).is_some() {
            return at(index);
        }
        // Days that are not settled yet first.
        let day = u64::from(self.mtu().per_day());
        let days = (1..=MEMORY_DAYS).map_while(|days| index.checked_sub(days.saturating_mul(day)));
        days.take_while(|index| *index >= self.next_to_settle)
            .filter_map(at)
            .find(|point| self.is_ordinary_fee(point))
            .or_else(|| self.last_fees.get(&(interval.of_day(), node.clone())).copied())
    }

    /// True if neither is above the highest ordinary price.
    pub fn is_ordinary_fee(&self, point: &FeePoint) -> bool {
        point.up.max(point.down) <= self.rules.genesis.caps.price_max
    }

    /// Keeps the fees of an interval that is being settled, and forgets those that nothing can need any more.
    pub fn remember_fees(&mut self, interval: Interval) {
        if self.has_genesis_fees() {
            return;
        }
        let forgotten = self.oldest_remembered().checked_sub(1);
        let rules = self.rules.clone();
        for spec in rules.network.specs() {
            if let Some(point) = self.fee_at(interval, &spec.id) {
                self.keep_fee(interval, &spec.id, point);
            }
            if let Some(index) = forgotten {
                self.fees.remove(&(index, spec.id.clone()));
            }
        }
    }

    fn keep_fee(&mut self, interval: Interval, node: &NodeId, point: FeePoint) {
        let key = (interval.index(), node.clone());
        if !self.fees.contains(&key) {
            self.fees.insert(key, point);
        }
        let key = (interval.of_day(), node.clone());
        if self.is_ordinary_fee(&point) && self.last_fees.get(&key) != Some(&point) {
            self.last_fees.insert(key, point);
        }
    }
}

/// True if the fees between the root and some node come to more than any price on the ledger.
pub(crate) fn is_dear(network: &Network) -> bool {
    highest_path(network) > PRICE_LIMIT
}

/// The highest fee that can be published for one edge: so much that those of the longest path together are no more than any
/// price on the ledger. With edges whose fees are those of genesis a path then comes to twice that at the most, and no bill is
/// larger than accounts can hold.
pub(crate) fn fee_max(network: &Network) -> Price {
    let (root, one) = (network.root(), Price::new(1));
    let edges = indexes(network).filter(|node| *node != root).map(|node| (node, one, one));
    let length =
        network.with_fees(&edges.collect::<Vec<_>>()).map_or(0, |counted| highest_path(&counted).get());
    Price::new(PRICE_LIMIT.get().checked_div(length).unwrap_or(PRICE_LIMIT.get()))
}

/// The highest sum of fees from the root to any node or back.
fn highest_path(network: &Network) -> Price {
    let fees = |node| network.fee_up_to_root(node).max(network.fee_down_from_root(node));
    indexes(network).map(fees).max().unwrap_or(Price::ZERO)
}

fn indexes(network: &Network) -> impl Iterator<Item = NodeIndex> {
    network.specs().iter().filter_map(|spec| network.index_of(&spec.id))
}
