//! The network: a tree of nodes, checked once, then walked without recursion.
//!
//! Nodes are renumbered by **rank**: the position in a walk from the root that visits a node before its children and
//! children by ascending id. A subtree is then one range of ranks, "children before parents" is the ranks backwards,
//! and a list sorted by rank lists a node's own things first and then its children's, in the order that rationing
//! uses.

use std::ops::Range;

use energy::{NodeId, Price, WattHours};

use crate::{ENERGY_MAX, PRICE_MAX};

/// The most nodes of one network. With [`PRICE_MAX`] it bounds the fees of any path.
pub const NODES_MAX: usize = 100_000;

/// One node and its edge to its parent, as written in a genesis or case file. The root's fees and limits have no
/// meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub id: NodeId,
    /// The node nearer to the external grid; `None` for the root.
    pub parent: Option<NodeId>,
    /// Network charge on energy crossing the edge toward the root.
    pub fee_up: Price,
    /// Network charge on energy crossing the edge away from the root.
    pub fee_down: Price,
    /// The most energy that may cross toward the root in one interval; `None` is unlimited.
    pub up: Option<WattHours>,
    /// The most energy that may cross away from the root in one interval; `None` is unlimited.
    pub down: Option<WattHours>,
}

/// A node, by its position in the order in which the network was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(u32);

impl NodeIndex {
    /// The position, from 0.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// A list of nodes is not a network. Positions count from 0 in the order given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No nodes at all.
    #[error("a network needs at least one node, the root")]
    Empty,
    /// More than [`NODES_MAX`].
    #[error("a network of {count} nodes is too large; at most {NODES_MAX} are taken")]
    TooManyNodes {
        /// How many were given.
        count: usize,
    },
    /// Two nodes have the same id.
    #[error("node {index} has the same id {id} as node {first}")]
    DuplicateId {
        /// Position of the later one.
        index: usize,
        /// Position of the earlier one.
        first: usize,
        /// Their id.
        id: NodeId,
    },
    /// A parent is not in the list.
    #[error("the parent {parent} of node {index} ({id}) does not exist")]
    UnknownParent {
        /// Position of the node.
        index: usize,
        /// Its id.
        id: NodeId,
        /// The parent it names.
        parent: NodeId,
    },
    /// Two nodes without a parent.
    #[error("node {index} ({id}) is a second root beside node {first} ({first_id}); give it a parent")]
    SecondRoot {
        /// Position of the later one.
        index: usize,
        /// Its id.
        id: NodeId,
        /// Position of the earlier one.
        first: usize,
        /// The earlier one's id.
        first_id: NodeId,
    },
    /// Every node has a parent, so they run in a cycle.
    #[error("no node is the root: every node has a parent, so node {index} ({id}) is on a cycle")]
    NoRoot {
        /// Position of a node on the cycle.
        index: usize,
        /// Its id.
        id: NodeId,
    },
    /// Some nodes are each other's ancestors.
    #[error("node {index} ({id}) is on a cycle: following its parents leads back to it")]
    Cycle {
        /// Position of a node on the cycle.
        index: usize,
        /// Its id.
        id: NodeId,
    },
    /// A fee below zero would pay for moving energy in circles.
    #[error("{field} of node {index} ({id}) is {fee}; a fee is never below zero")]
    NegativeFee {
        /// Position of the node.
        index: usize,
        /// Its id.
        id: NodeId,
        /// `fee_up` or `fee_down`.
        field: &'static str,
        /// The fee given.
        fee: Price,
    },
    /// A fee or limit is for a node that the network does not have.
    #[error("a fee or limit is for node {node}, but the network has {nodes} nodes")]
    UnknownNode {
        /// The node's position.
        node: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// Two fees or two limits for one node: which of them holds would depend on their sequence.
    #[error("node {index} ({id}) is given two fees or limits; keep one")]
    GivenTwice {
        /// Position of the node.
        index: usize,
        /// Its id.
        id: NodeId,
    },
    /// A fee above [`PRICE_MAX`].
    #[error("{field} of node {index} ({id}) is {fee}, above {PRICE_MAX}")]
    FeeTooHigh {
        /// Position of the node.
        index: usize,
        /// Its id.
        id: NodeId,
        /// `fee_up` or `fee_down`.
        field: &'static str,
        /// The fee given.
        fee: Price,
    },
}

/// A checked network.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    specs: Vec<NodeSpec>,
    /// Positions in order of ids.
    by_id: Vec<u32>,
    /// Rank of each position.
    ranks: Vec<u32>,
    /// Edges and subtrees by rank.
    nodes: Vec<RankedNode>,
}

/// A node seen by the algorithms, at its rank.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct RankedNode {
    /// Position in the order given.
    pub(crate) index: u32,
    /// Rank of the parent; 0 for the root itself.
    pub(crate) parent: u32,
    /// One past the last rank of its subtree.
    pub(crate) end: u32,
    /// Fee toward the root, µ/kWh.
    pub(crate) fee_up: i64,
    /// Fee away from the root, µ/kWh.
    pub(crate) fee_down: i64,
    /// Limit toward the root, Wh.
    pub(crate) up: Option<u64>,
    /// Limit away from the root, Wh.
    pub(crate) down: Option<u64>,
    /// Sum of `fee_up` from here to the root, µ/kWh.
    pub(crate) fees_up: i64,
    /// Sum of `fee_down` from the root to here, µ/kWh.
    pub(crate) fees_down: i64,
}

impl RankedNode {
    /// True if energy crosses its edge without any fee or limit, as if there were none.
    pub(crate) const fn is_free(&self) -> bool {
        self.fee_up == 0 && self.fee_down == 0 && self.up.is_none() && self.down.is_none()
    }
}

impl Network {
    /// Checks `nodes`. Their order is free: a parent may come after its children.
    ///
    /// # Errors
    /// [`NetworkError`], with the position and the id of the node at fault.
    pub fn new(nodes: &[NodeSpec]) -> Result<Self, NetworkError> {
        if nodes.len() > NODES_MAX {
            return Err(NetworkError::TooManyNodes { count: nodes.len() });
        }
        nodes.iter().enumerate().try_for_each(|(index, node)| check_fees(index, node))?;
        let by_id = sorted_by_id(nodes)?;
        let parents = parents_of(nodes, &by_id)?;
        let root = only_root(nodes, &parents)?;
        let order = walk(&by_id, &parents, root);
        if order.len() < nodes.len() {
            return Err(cycle(nodes, &parents, &order));
        }
        let ranks = inverse(&order);
        let nodes_by_rank = rank(nodes, &order, &ranks, &parents);
        Ok(Self { specs: nodes.to_vec(), by_id, ranks, nodes: nodes_by_rank })
    }

    /// The same tree with other fees on some of its edges, as (node, toward the root, away from it): network charges depend
    /// on the quarter-hour. All other fees and all limits stay. The tree is not walked again: sums of fees are renewed by
    /// rank.
    ///
    /// # Errors
    /// [`NetworkError`]: a node that is not the network's or is named twice, a fee out of range.
    pub fn with_fees(&self, fees: &[(NodeIndex, Price, Price)]) -> Result<Self, NetworkError> {
        let mut network = self.changing(fees.iter().map(|(node, ..)| *node))?;
        for (node, up, down) in fees {
            let Some(spec) = network.specs.get_mut(node.get()) else { continue };
            (spec.fee_up, spec.fee_down) = (*up, *down);
            check_fees(node.get(), spec)?;
        }
        network.renew_edges();
        Ok(network)
    }

    /// The same tree with other limits on some of its edges, as (node, toward the root, away from it), `None` unlimited:
    /// the operator publishes an envelope per edge and interval. All other limits and all fees stay.
    ///
    /// # Errors
    /// [`NetworkError`]: a node that is not the network's or is named twice.
    pub fn with_limits(
        &self,
        limits: &[(NodeIndex, Option<WattHours>, Option<WattHours>)],
    ) -> Result<Self, NetworkError> {
        let mut network = self.changing(limits.iter().map(|(node, ..)| *node))?;
        for (node, up, down) in limits {
            if let Some(spec) = network.specs.get_mut(node.get()) {
                (spec.up, spec.down) = (*up, *down);
            }
        }
        network.renew_edges();
        Ok(network)
    }

    /// A copy, if `nodes` are all its own and all different.
    fn changing(&self, nodes: impl Iterator<Item = NodeIndex>) -> Result<Self, NetworkError> {
        let mut given = vec![false; self.specs.len()];
        for node in nodes {
            let unknown = NetworkError::UnknownNode { node: node.get(), nodes: given.len() };
            let (slot, spec) = given.get_mut(node.get()).zip(self.specs.get(node.get())).ok_or(unknown)?;
            if std::mem::replace(slot, true) {
                return Err(NetworkError::GivenTwice { index: node.get(), id: spec.id.clone() });
            }
        }
        Ok(self.clone())
    }

    /// Writes the fees and limits of `specs` to the edges by rank, summed down from the root.
    fn renew_edges(&mut self) {
        for rank in 1..self.nodes.len() {
            let Some(node) = self.nodes.get(rank).copied() else { continue };
            let above = self.ranked(node.parent);
            let (Some(spec), Some(slot)) = (self.specs.get(node.index as usize), self.nodes.get_mut(rank))
            else {
                continue;
            };
            *slot = RankedNode { index: node.index, parent: node.parent, end: node.end, ..edge(spec, above) };
        }
    }

    /// How many nodes there are; at least 1.
    #[must_use]
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Never true: a network has a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// The nodes in the order given.
    #[must_use]
    pub fn specs(&self) -> &[NodeSpec] {
        &self.specs
    }

    /// The node with this id.
    #[must_use]
    pub fn index_of(&self, id: &NodeId) -> Option<NodeIndex> {
        find(&self.specs, &self.by_id, id).map(NodeIndex)
    }

    /// The id of a node; `None` if the index is another network's.
    #[must_use]
    pub fn id(&self, node: NodeIndex) -> Option<&NodeId> {
        self.specs.get(node.get()).map(|spec| &spec.id)
    }

    /// The external grid's node.
    #[must_use]
    pub fn root(&self) -> NodeIndex {
        NodeIndex(self.ranked(0).index)
    }

    /// Sum of `fee_up` on the way from the node to the root (F↑); 0 for an index of another network.
    #[must_use]
    pub fn fee_up_to_root(&self, node: NodeIndex) -> Price {
        Price::new(self.at(node).fees_up)
    }

    /// Sum of `fee_down` on the way from the root to the node (F↓); 0 for an index of another network.
    #[must_use]
    pub fn fee_down_from_root(&self, node: NodeIndex) -> Price {
        Price::new(self.at(node).fees_down)
    }

    /// The nodes by rank.
    pub(crate) fn nodes(&self) -> &[RankedNode] {
        &self.nodes
    }

    /// The rank of a node, if it is one of this network.
    pub(crate) fn rank_of(&self, node: NodeIndex) -> Option<u32> {
        self.ranks.get(node.get()).copied()
    }

    /// The node at a rank; an isolated default beyond the last one.
    pub(crate) fn ranked(&self, rank: u32) -> RankedNode {
        self.nodes.get(rank as usize).copied().unwrap_or_default()
    }

    /// The ranks of a node's subtree, itself first.
    pub(crate) fn subtree(&self, rank: u32) -> Range<u32> {
        rank..self.ranked(rank).end
    }

    /// The lowest node above (or at) all of these ranks; the root for none.
    pub(crate) fn lowest_above(&self, ranks: impl Iterator<Item = u32> + Clone) -> RankedNode {
        let Some((first, last)) = ranks.clone().min().zip(ranks.max()) else { return self.ranked(0) };
        // A subtree is a range of ranks: it holds all of them if it holds the first and the last.
        let mut node = self.ranked(first);
        while last >= node.end && node.end < self.ranked(0).end {
            node = self.ranked(node.parent);
        }
        node
    }

    fn at(&self, node: NodeIndex) -> RankedNode {
        self.rank_of(node).map(|rank| self.ranked(rank)).unwrap_or_default()
    }
}

fn check_fees(index: usize, node: &NodeSpec) -> Result<(), NetworkError> {
    for (field, fee) in [("fee_up", node.fee_up), ("fee_down", node.fee_down)] {
        let id = || node.id.clone();
        if fee < Price::ZERO {
            return Err(NetworkError::NegativeFee { index, id: id(), field, fee });
        }
        if fee > PRICE_MAX {
            return Err(NetworkError::FeeTooHigh { index, id: id(), field, fee });
        }
    }
    Ok(())
}

/// Positions in order of ids.
fn sorted_by_id(nodes: &[NodeSpec]) -> Result<Vec<u32>, NetworkError> {
    let mut sorted: Vec<(&NodeId, u32)> = nodes.iter().map(|node| &node.id).zip(0..).collect();
    sorted.sort_unstable();
    if let Some([first, second]) = sorted.array_windows().find(|[a, b]| a.0 == b.0) {
        let (index, first) = (second.1 as usize, first.1 as usize);
        return Err(NetworkError::DuplicateId { index, first, id: second.0.clone() });
    }
    Ok(sorted.into_iter().map(|(_, position)| position).collect())
}

fn find(nodes: &[NodeSpec], by_id: &[u32], id: &NodeId) -> Option<u32> {
    let place =
        by_id.binary_search_by(|&position| nodes.get(position as usize).map(|node| &node.id).cmp(&Some(id)));
    by_id.get(place.ok()?).copied()
}

/// The position of each node's parent; `None` for a root.
fn parents_of(nodes: &[NodeSpec], by_id: &[u32]) -> Result<Vec<Option<u32>>, NetworkError> {
    let parent_of = |(index, node): (usize, &NodeSpec)| match &node.parent {
        None => Ok(None),
        Some(parent) => find(nodes, by_id, parent).map(Some).ok_or_else(|| NetworkError::UnknownParent {
            index,
            id: node.id.clone(),
            parent: parent.clone(),
        }),
    };
    nodes.iter().enumerate().map(parent_of).collect()
}

fn only_root(nodes: &[NodeSpec], parents: &[Option<u32>]) -> Result<u32, NetworkError> {
    let mut roots =
        nodes.iter().zip(parents).zip(0u32..).filter_map(|((node, parent), position)| match parent {
            None => Some((position, node)),
            Some(_) => None,
        });
    match (roots.next(), roots.next()) {
        (Some((root, _)), None) => Ok(root),
        (Some((first, earlier)), Some((index, later))) => Err(NetworkError::SecondRoot {
            index: index as usize,
            id: later.id.clone(),
            first: first as usize,
            first_id: earlier.id.clone(),
        }),
        (None, _) => Err(cycle(nodes, parents, &[])),
    }
}

/// Positions in order of rank: a node before its children, children by ascending id. Nodes on a cycle are missing.
fn walk(by_id: &[u32], parents: &[Option<u32>], root: u32) -> Vec<u32> {
    let parent_of = |position: u32| parents.get(position as usize).copied().flatten();
    // Children of each parent stand together, by descending id, so that the stack yields the smallest first.
    let mut edges: Vec<(u32, u32)> =
        by_id.iter().rev().filter_map(|&position| Some((parent_of(position)?, position))).collect();
    edges.sort_by_key(|(parent, _)| *parent);
    let mut order = Vec::with_capacity(by_id.len());
    let mut open = vec![root];
    while let Some(position) = open.pop() {
        order.push(position);
        let first = edges.partition_point(|(parent, _)| *parent < position);
        let children = edges.iter().skip(first).take_while(|(parent, _)| *parent == position);
        open.extend(children.map(|(_, child)| *child));
    }
    order
}

/// Names a node on a cycle: from any node that the walk missed, as many steps toward the root as there are nodes.
fn cycle(nodes: &[NodeSpec], parents: &[Option<u32>], order: &[u32]) -> NetworkError {
    let mut missed = vec![true; nodes.len()];
    for &position in order {
        if let Some(slot) = missed.get_mut(position as usize) {
            *slot = false;
        }
    }
    let mut index = missed.iter().position(|missed| *missed).unwrap_or(0);
    for _ in nodes {
        index = parents.get(index).copied().flatten().map_or(index, |parent| parent as usize);
    }
    match nodes.get(index).map(|node| node.id.clone()) {
        None => NetworkError::Empty,
        Some(id) if order.is_empty() => NetworkError::NoRoot { index, id },
        Some(id) => NetworkError::Cycle { index, id },
    }
}

/// The rank of every position.
fn inverse(order: &[u32]) -> Vec<u32> {
    let mut ranks = vec![0; order.len()];
    for (rank, &position) in (0u32..).zip(order) {
        if let Some(slot) = ranks.get_mut(position as usize) {
            *slot = rank;
        }
    }
    ranks
}

/// The nodes in order of rank, with fees summed down from the root and subtrees closed up toward it.
fn rank(nodes: &[NodeSpec], order: &[u32], ranks: &[u32], parents: &[Option<u32>]) -> Vec<RankedNode> {
    let mut ranked: Vec<RankedNode> = Vec::with_capacity(order.len());
    for (rank, &index) in (0u32..).zip(order) {
        let parent = parents.get(index as usize).copied().flatten();
        let parent_rank = parent.and_then(|parent| ranks.get(parent as usize).copied());
        let above = parent_rank.and_then(|parent| ranked.get(parent as usize).copied());
        let own = match (nodes.get(index as usize), above) {
            (Some(spec), Some(above)) => edge(spec, above),
            _ => RankedNode::default(),
        };
        let parent = parent_rank.unwrap_or(0);
        ranked.push(RankedNode { index, parent, end: rank.saturating_add(1), ..own });
    }
    for rank in (1..ranked.len()).rev() {
        let Some(node) = ranked.get(rank).copied() else { continue };
        if let Some(parent) = ranked.get_mut(node.parent as usize) {
            parent.end = parent.end.max(node.end);
        }
    }
    ranked
}

/// The edge of `spec` to the node `above` it. Sums cannot overflow: fees and nodes are bounded. Limits beyond all energy there
/// can be limit nothing; cut to that, they are safe to calculate with as signed numbers.
fn edge(spec: &NodeSpec, above: RankedNode) -> RankedNode {
    let (fee_up, fee_down) = (spec.fee_up.get(), spec.fee_down.get());
    let limit = |limit: WattHours| limit.min(ENERGY_MAX).get();
    RankedNode {
        fee_up,
        fee_down,
        up: spec.up.map(limit),
        down: spec.down.map(limit),
        fees_up: above.fees_up.saturating_add(fee_up),
        fees_down: above.fees_down.saturating_add(fee_down),
        ..RankedNode::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, parent: Option<&str>) -> NodeSpec {
        NodeSpec {
            id: NodeId::new(id).unwrap(),
            parent: parent.map(|parent| NodeId::new(parent).unwrap()),
            fee_up: Price::new(1),
            fee_down: Price::new(10),
            up: None,
            down: None,
        }
    }

    fn refusal(nodes: &[NodeSpec]) -> String {
        Network::new(nodes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_tree_is_refused_with_the_node_at_fault() {
        let (root, a) = (node("grid", None), node("a", Some("grid")));
        assert_eq!(refusal(&[]), "a network needs at least one node, the root");
        assert_eq!(refusal(&[root.clone(), a.clone(), a.clone()]), "node 2 has the same id a as node 1");
        assert_eq!(
            refusal(&[root.clone(), node("b", Some("x"))]),
            "the parent x of node 1 (b) does not exist"
        );
        assert_eq!(
            refusal(&[root.clone(), a, node("z", None)]),
            "node 2 (z) is a second root beside node 0 (grid); give it a parent"
        );
        assert_eq!(
            refusal(&[node("a", Some("b")), node("b", Some("a"))]),
            "no node is the root: every node has a parent, so node 0 (a) is on a cycle"
        );
        let tail = node("t", Some("a"));
        assert_eq!(
            refusal(&[tail, root.clone(), node("a", Some("b")), node("b", Some("a"))]),
            "node 3 (b) is on a cycle: following its parents leads back to it"
        );
        assert_eq!(
            refusal(&[root, node("s", Some("s"))]),
            "node 1 (s) is on a cycle: following its parents leads back to it"
        );
    }

    #[test]
    fn fees_stay_between_zero_and_the_largest_price() {
        let mut bad = node("a", Some("grid"));
        bad.fee_down = Price::new(-1);
        assert_eq!(
            refusal(&[node("grid", None), bad.clone()]),
            "fee_down of node 1 (a) is -1 µ/kWh; a fee is never below zero"
        );
        bad.fee_down = Price::new(PRICE_MAX.get() + 1);
        assert!(matches!(
            Network::new(&[node("grid", None), bad]),
            Err(NetworkError::FeeTooHigh { index: 1, field: "fee_down", .. })
        ));
    }

    #[test]
    fn more_nodes_than_the_limit_are_refused() {
        let nodes: Vec<_> = (0..=NODES_MAX).map(|i| node(&format!("n{i}"), None)).collect();
        assert_eq!(Network::new(&nodes), Err(NetworkError::TooManyNodes { count: NODES_MAX + 1 }));
    }

    #[test]
    fn fees_add_up_along_the_path_and_the_roots_own_count_for_nothing() {
        // Children before parents: the order of the file is free.
        let nodes = [
            node("home", Some("feeder")),
            node("feeder", Some("lv")),
            node("lv", Some("grid")),
            node("grid", None),
        ];
        let network = Network::new(&nodes).unwrap();
        let at = |id: &str| network.index_of(&NodeId::new(id).unwrap()).unwrap();
        assert_eq!((network.len(), network.root(), at("home").get()), (4, at("grid"), 0));
        assert_eq!(network.fee_up_to_root(at("home")), Price::new(3));
        assert_eq!(network.fee_down_from_root(at("home")), Price::new(30));
        assert_eq!(network.fee_down_from_root(at("lv")), Price::new(10));
        assert_eq!(network.fee_down_from_root(at("grid")), Price::ZERO);
        assert_eq!(network.id(at("feeder")).map(NodeId::as_str), Some("feeder"));
        assert_eq!(network.index_of(&NodeId::new("nowhere").unwrap()), None);
    }

    #[test]
    fn a_subtree_is_a_range_of_ranks_with_children_by_id() {
        let nodes =
            [node("b", Some("grid")), node("grid", None), node("a", Some("grid")), node("c", Some("b"))];
        let network = Network::new(&nodes).unwrap();
        let order: Vec<_> =
            network.nodes().iter().map(|node| network.specs()[node.index as usize].id.as_str()).collect();
        assert_eq!(order, ["grid", "a", "b", "c"]);
        let rank = network.rank_of(network.index_of(&NodeId::new("b").unwrap()).unwrap()).unwrap();
        assert_eq!(network.subtree(rank), 2..4);
        assert_eq!(network.subtree(0), 0..4);
    }

    #[test]
    fn other_fees_and_limits_make_the_network_that_would_have_been_built_with_them() {
        let nodes = [
            node("home", Some("feeder")),
            node("feeder", Some("lv")),
            node("lv", Some("grid")),
            node("grid", None),
        ];
        let network = Network::new(&nodes).unwrap();
        let at = |id: &str| network.index_of(&NodeId::new(id).unwrap()).unwrap();
        let (price, wh) = (Price::new, |wh| Some(WattHours::new(wh)));
        let fees = [(at("lv"), price(5), price(50)), (at("grid"), price(7), price(70))];
        let limits = [(at("home"), wh(3), None), (at("lv"), None, wh(4))];
        let changed = network.with_fees(&fees).unwrap().with_limits(&limits).unwrap();
        let mut specs = nodes;
        (specs[2].fee_up, specs[2].fee_down, specs[2].down) = (price(5), price(50), wh(4));
        (specs[3].fee_up, specs[3].fee_down, specs[0].up) = (price(7), price(70), wh(3));
        assert_eq!(changed, Network::new(&specs).unwrap());
        assert_eq!(changed.fee_down_from_root(at("home")), price(70));
        assert_eq!(changed.with_fees(&[]), Ok(changed.clone()));
        let back = [(at("lv"), price(1), price(10)), (at("grid"), price(1), price(10))];
        let unlimited = [(at("home"), None, None), (at("lv"), None, None)];
        assert_eq!(changed.with_fees(&back).unwrap().with_limits(&unlimited), Ok(network));
    }

    #[test]
    fn a_limit_beyond_all_energy_counts_as_that() {
        let mut wide = node("a", Some("grid"));
        (wide.up, wide.down) = (Some(WattHours::new(u64::MAX)), Some(WattHours::new(1 << 63)));
        let built = Network::new(&[node("grid", None), wide.clone()]).unwrap();
        let plain = Network::new(&[node("grid", None), node("a", Some("grid"))]).unwrap();
        let changed = plain.with_limits(&[(NodeIndex(1), wide.up, wide.down)]).unwrap();
        for network in [built, changed] {
            let edge = network.ranked(1);
            assert_eq!((edge.up, edge.down), (Some(ENERGY_MAX.get()), Some(ENERGY_MAX.get())));
        }
    }

    #[test]
    fn changes_that_make_no_sense_are_refused() {
        let network = Network::new(&[node("grid", None), node("a", Some("grid"))]).unwrap();
        let a = NodeIndex(1);
        let fees = |fees: &[_]| network.with_fees(fees).unwrap_err().to_string();
        let free = (a, Price::ZERO, Price::ZERO);
        assert_eq!(fees(&[free, free]), "node 1 (a) is given two fees or limits; keep one");
        assert_eq!(
            fees(&[(a, Price::new(-1), Price::ZERO)]),
            "fee_up of node 1 (a) is -1 µ/kWh; a fee is never below zero"
        );
        assert!(fees(&[(a, Price::ZERO, Price::new(PRICE_MAX.get() + 1))]).contains("above"));
        assert_eq!(
            network.with_limits(&[(NodeIndex(2), None, None)]).unwrap_err().to_string(),
            "a fee or limit is for node 2, but the network has 2 nodes"
        );
        assert!(network.with_limits(&[(a, None, None), (a, None, None)]).is_err());
    }

    #[test]
    fn the_lowest_node_above_some_is_where_their_ways_to_the_root_meet() {
        let nodes = [
            node("a", Some("grid")),
            node("b", Some("grid")),
            node("b1", Some("b")),
            node("b2", Some("b")),
            node("b21", Some("b2")),
            node("grid", None),
        ];
        let network = Network::new(&nodes).unwrap();
        let rank = |id: &&str| network.rank_of(network.index_of(&NodeId::new(id).unwrap()).unwrap()).unwrap();
        let above = |ids: &[&str]| {
            let lowest = network.lowest_above(ids.iter().map(rank));
            network.specs()[lowest.index as usize].id.to_string()
        };
        assert_eq!(above(&["b21"]), "b21");
        assert_eq!(above(&["b21", "b2"]), "b2");
        assert_eq!(above(&["b21", "b1"]), "b");
        assert_eq!(above(&["b1", "b21", "b"]), "b");
        assert_eq!(above(&["a", "b21"]), "grid");
        assert_eq!(above(&["grid", "b21"]), "grid");
        assert_eq!(above(&[]), "grid");
    }

    #[test]
    fn a_chain_as_long_as_allowed_needs_no_stack() {
        let mut nodes: Vec<_> =
            (1..NODES_MAX).map(|i| node(&format!("n{i}"), Some(&format!("n{}", i - 1)))).collect();
        nodes.push(node("n0", None));
        let network = Network::new(&nodes).unwrap();
        let deepest = network.index_of(&NodeId::new(&format!("n{}", NODES_MAX - 1)).unwrap()).unwrap();
        assert_eq!(network.fee_down_from_root(deepest), Price::new(999_990));
    }
}
