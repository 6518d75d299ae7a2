//! Nearest first at a fixed price: the machinery of matching metered energy and of posted forward orders.
//!
//! Nodes are visited from the leaves to the root. At each, what is unmatched below it meets: the smaller side is matched
//! whole, the larger rationed pro rata. A claim whose limit the price at a node does not admit is dropped there: prices only
//! get worse on the way up.

use std::cmp::Reverse;

use energy::{Price, QuantityError, WattHours};

use crate::network::RankedNode;
use crate::ration::pro_rata;
use crate::{HomeMatch, Network};

/// What one party still has to sell, or to buy.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    /// Position among the parties given.
    pub(crate) party: usize,
    /// Place among the ids.
    pub(crate) place: usize,
    pub(crate) left: u64,
    /// The party's own price limit, moved to the root: for a seller the least M + F↑(v), for a buyer the most M − F↓(v),
    /// at which it takes part at node v.
    pub(crate) limit: i64,
    /// F↑ or F↓ of the party's node.
    pub(crate) fees: i64,
}

/// Both claims of one party.
pub(crate) struct Claims {
    pub(crate) rank: usize,
    pub(crate) sell: Claim,
    pub(crate) buy: Claim,
}

/// Whether the limits of edges hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edges {
    /// Metered energy has flowed.
    Open,
    /// Trading must not add more than the network bears.
    Limited,
}

/// What came of it.
pub(crate) struct Met {
    /// By party, in the order given: sold, bought, and the amount of both.
    pub(crate) parties: Vec<HomeMatch>,
    /// By node, in the order of the network's nodes.
    pub(crate) matched: Vec<WattHours>,
}

/// Matches at the price `middle`, from the leaves to the root.
pub(crate) fn meet_all(
    network: &Network,
    middle: Price,
    edges: Edges,
    mut claims: Vec<Claims>,
) -> Result<Met, QuantityError> {
    claims.sort_unstable_by_key(|claims| (Reverse(claims.rank), claims.sell.place));
    let met = Met {
        parties: vec![HomeMatch::default(); claims.len()],
        matched: vec![WattHours::ZERO; network.len()],
    };
    let mut pools = Pools { network, middle: middle.get(), edges, met, sells: vec![], buys: vec![] };
    pools.visit(claims)?;
    Ok(pools.met)
}

/// Where a subtree's claims begin on the two stacks.
struct Start {
    rank: usize,
    sells: usize,
    buys: usize,
}

/// The unmatched claims of all subtrees visited, each subtree's together on top of the ones before.
struct Pools<'a> {
    network: &'a Network,
    middle: i64,
    edges: Edges,
    met: Met,
    sells: Vec<Claim>,
    buys: Vec<Claim>,
}

impl Pools<'_> {
    fn visit(&mut self, claims: Vec<Claims>) -> Result<(), QuantityError> {
        let mut claims = claims.into_iter().peekable();
        let mut below: Vec<Start> = vec![];
        for (rank, node) in self.network.nodes().iter().enumerate().rev() {
            let mut start = Start { rank, sells: self.sells.len(), buys: self.buys.len() };
            while let Some(child) = below.pop_if(|child| child.rank < node.end as usize) {
                start = Start { rank, ..child };
            }
            while let Some(party) = claims.next_if(|party| party.rank == rank) {
                self.sells.extend(Some(party.sell).filter(|sell| sell.left > 0));
                self.buys.extend(Some(party.buy).filter(|buy| buy.left > 0));
            }
            let matched = self.meet(node, &start)?;
            if let Some(slot) = self.met.matched.get_mut(node.index as usize) {
                *slot = matched;
            }
            if self.edges == Edges::Limited && rank > 0 {
                self.cross(node, &start);
            }
            below.push(start);
        }
        Ok(())
    }

    /// Takes what a subtree offers and asks for over the edge to its parent, inside the edge's limits. Who would sit out
    /// above takes no part of them.
    fn cross(&mut self, node: &RankedNode, start: &Start) {
        self.drop_unwilling(&self.network.ranked(node.parent), start);
        cut(&mut self.sells, start.sells, node.up);
        cut(&mut self.buys, start.buys, node.down);
    }

    /// Drops the claims that the price at `node` does not suit.
    fn drop_unwilling(&mut self, node: &RankedNode, start: &Start) {
        let (lowest, highest) = self.prices(node);
        self.sells.extract_if(start.sells.., |claim| claim.limit > lowest).for_each(drop);
        self.buys.extract_if(start.buys.., |claim| claim.limit < highest).for_each(drop);
    }

    /// The price at a node seen from the root: of sellers below it (M + F↑) and of buyers (M − F↓).
    fn prices(&self, node: &RankedNode) -> (i64, i64) {
        (self.middle.saturating_add(node.fees_up), self.middle.saturating_sub(node.fees_down))
    }

    /// Matches what a node's subtree has left.
    fn meet(&mut self, node: &RankedNode, start: &Start) -> Result<WattHours, QuantityError> {
        if self.sells.len() == start.sells || self.buys.len() == start.buys {
            return Ok(WattHours::ZERO);
        }
        self.drop_unwilling(node, start);
        let (lowest, highest) = self.prices(node);
        let matched = left(&self.sells, start.sells).min(left(&self.buys, start.buys));
        if matched == 0 {
            return Ok(WattHours::ZERO);
        }
        for (claim, share) in take(&mut self.sells, start.sells, matched) {
            let Some(party) = self.met.parties.get_mut(claim.party) else { continue };
            party.sold = party.sold.add(share)?;
            party.local_amount =
                party.local_amount.add(Price::new(lowest.saturating_sub(claim.fees)).cost_of(share)?)?;
        }
        for (claim, share) in take(&mut self.buys, start.buys, matched) {
            let Some(party) = self.met.parties.get_mut(claim.party) else { continue };
            party.bought = party.bought.add(share)?;
            party.local_amount =
                party.local_amount.sub(Price::new(highest.saturating_add(claim.fees)).cost_of(share)?)?;
        }
        Ok(WattHours::new(matched))
    }
}

/// What all claims from `start` on have left.
fn left(claims: &[Claim], start: usize) -> u64 {
    claims.iter().skip(start).fold(0u64, |sum, claim| sum.saturating_add(claim.left))
}

/// Rations `amount` among the claims from `start` on, drops those that have nothing left, and returns what each got.
fn take(claims: &mut Vec<Claim>, start: usize, amount: u64) -> Vec<(Claim, WattHours)> {
    let (pool, shares) = shares_of(claims, start, amount);
    let taken = pool.iter().copied().zip(shares.iter().copied().map(WattHours::new)).collect();
    for (claim, share) in pool.iter_mut().zip(&shares) {
        claim.left = claim.left.saturating_sub(*share);
    }
    claims.extract_if(start.., |claim| claim.left == 0).for_each(drop);
    taken
}

/// Rations the claims from `start` on to what an edge takes.
fn cut(claims: &mut Vec<Claim>, start: usize, limit: Option<u64>) {
    let Some(limit) = limit.filter(|limit| *limit < left(claims, start)) else { return };
    let (pool, shares) = shares_of(claims, start, limit);
    pool.iter_mut().zip(shares).for_each(|(claim, share)| claim.left = share);
    claims.extract_if(start.., |claim| claim.left == 0).for_each(drop);
}

/// The claims from `start` on, and each one's share of `amount`: pro rata, ties to the smaller id.
fn shares_of(claims: &mut [Claim], start: usize, amount: u64) -> (&mut [Claim], Vec<u64>) {
    let pool = claims.get_mut(start..).unwrap_or_default();
    let quantities: Vec<u64> = pool.iter().map(|claim| claim.left).collect();
    let mut shares = Vec::with_capacity(quantities.len());
    pro_rata(amount, &quantities, |at| pool.get(at).map(|claim| claim.place), &mut shares);
    (pool, shares)
}
