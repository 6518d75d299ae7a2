//! Neighbour matching: metered surpluses and deficits shared nearest first, at the mid-market rate.
//!
//! For everybody, with no forecast and no order. M is the middle of the community's two supplier prices, floored.
//! Nodes are visited from the leaves to the root; at each, the unmatched surplus and deficit below it meet: the smaller
//! side is matched whole, the larger rationed pro rata. A seller receives M less the `fee_up` of its path to that
//! node, a buyer pays M plus the `fee_down` of its own, and the fees go to the network. What remains at the root is the
//! supplier's.
//!
//! A home sits out where the local price would be worse than its own supplier's or than its own limits. Both only get
//! worse on the way up, so a home that once sits out does so to the root. Edge limits play no part: the energy has
//! flowed.

use std::cmp::Reverse;

use energy::{Money, Price, QuantityError, WattHours, midpoint_floor};

use crate::error::{check_price, places_by_id};
use crate::network::RankedNode;
use crate::ration::pro_rata;
use crate::{ENERGY_MAX, MarketError, Network, NodeIndex};

/// The most homes of one interval.
const HOMES_MAX: usize = 1 << 24;

/// The supplier's two prices of one interval, without network fees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tariff {
    /// What it charges for energy.
    pub import_price: Price,
    /// What it pays for energy.
    pub export_price: Price,
}

impl Tariff {
    /// M, the price of local energy before fees: the middle of the two, floored.
    pub(crate) fn middle(&self) -> Price {
        midpoint_floor(self.import_price, self.export_price)
    }
}

/// One home's metered interval, after its forward position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchHome<Id> {
    /// Its name. Breaks ties, so no two may be equal.
    pub id: Id,
    /// Where it is connected.
    pub node: NodeIndex,
    /// Its deficit.
    pub import: WattHours,
    /// Its surplus.
    pub export: WattHours,
    /// The least it wants to receive locally; `None` is any price that its supplier does not beat.
    pub min_sell: Option<Price>,
    /// The most it wants to pay locally; `None` is any price that its supplier does not beat.
    pub max_buy: Option<Price>,
    /// What its own supplier charges, where it has its own contract; `None` is the community's tariff.
    pub import_price: Option<Price>,
    /// What its own supplier pays; `None` is the community's tariff.
    pub export_price: Option<Price>,
    /// The most it may buy locally: what its free balance pays for. `None` is unlimited.
    pub buy_cap: Option<WattHours>,
}

/// What became of one home's energy. Amounts are what the home receives (negative: pays), after network fees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HomeMatch {
    /// Sold to neighbours.
    pub sold: WattHours,
    /// Bought from neighbours.
    pub bought: WattHours,
    /// Received for both.
    pub local_amount: Money,
    /// Taken from its supplier.
    pub supplier_import: WattHours,
    /// Given to its supplier.
    pub supplier_export: WattHours,
    /// Received for both.
    pub supplier_amount: Money,
}

impl HomeMatch {
    /// What the home receives in all.
    ///
    /// # Errors
    /// [`QuantityError`] outside the range of [`Money`], which results of this crate never are.
    pub fn amount(&self) -> Result<Money, QuantityError> {
        self.local_amount.add(self.supplier_amount)
    }
}

/// One interval's matching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// By home, in the order given.
    pub homes: Vec<HomeMatch>,
    /// Energy matched at each node, in the order of the network's nodes.
    pub matched: Vec<WattHours>,
    /// All network fees: of local energy and of the supplier's.
    pub fees: Money,
    /// The part of `fees` on local energy.
    pub local_fees: Money,
    /// Taken from suppliers by all homes.
    pub supplier_import: WattHours,
    /// Given to suppliers by all homes.
    pub supplier_export: WattHours,
    /// What the suppliers receive, net of network fees.
    pub supplier_amount: Money,
}

/// Matches one interval. With `tariff.import_price < tariff.export_price` there is no local trade: every home is at its
/// supplier.
///
/// # Errors
/// [`MarketError`]: two homes with one id, a node that is not the network's, a price beyond [`crate::PRICE_MAX`],
/// energy beyond [`ENERGY_MAX`].
pub fn match_neighbours<Id: Ord>(
    network: &Network,
    tariff: &Tariff,
    homes: &[MatchHome<Id>],
) -> Result<Matching, MarketError> {
    check_tariff(tariff)?;
    let ranks = check_homes(network, homes)?;
    let places = places_by_id("home", homes.iter().map(|home| &home.id))?;
    let mut matched = vec![WattHours::ZERO; network.len()];
    let mut results = vec![HomeMatch::default(); homes.len()];
    if tariff.import_price >= tariff.export_price {
        let middle = tariff.middle().get();
        let mut pools = Pools { middle, results: &mut results, sells: vec![], buys: vec![] };
        pools.visit(network, claims(network, homes, &ranks, places.as_deref(), tariff), &mut matched)?;
    }
    let mut matching = Matching {
        homes: results,
        matched,
        fees: Money::ZERO,
        local_fees: Money::ZERO,
        supplier_import: WattHours::ZERO,
        supplier_export: WattHours::ZERO,
        supplier_amount: Money::ZERO,
    };
    matching.local_fees = Money::sum(matching.homes.iter().map(|home| home.local_amount))?.neg()?;
    matching.fees = matching.local_fees;
    for (index, home) in homes.iter().enumerate() {
        matching.leave_to_supplier(network, tariff, home, index)?;
    }
    Ok(matching)
}

impl Matching {
    /// Settles what is left of one home with its supplier.
    fn leave_to_supplier<Id>(
        &mut self,
        network: &Network,
        tariff: &Tariff,
        home: &MatchHome<Id>,
        index: usize,
    ) -> Result<(), QuantityError> {
        let Some(result) = self.homes.get_mut(index) else { return Ok(()) };
        let own = own_tariff(tariff, home.import_price, home.export_price);
        result.supplier_import = home.import.sub(result.bought)?;
        result.supplier_export = home.export.sub(result.sold)?;
        let leg = SupplierBill::of(network, home.node, &own, result.supplier_import, result.supplier_export)?;
        result.supplier_amount = leg.home;
        self.fees = self.fees.add(leg.fees)?;
        self.supplier_amount = self.supplier_amount.add(leg.supplier()?)?;
        self.supplier_import = self.supplier_import.add(result.supplier_import)?;
        self.supplier_export = self.supplier_export.add(result.supplier_export)?;
        Ok(())
    }
}

/// The prices of a home's own supplier.
pub(crate) fn own_tariff(tariff: &Tariff, import: Option<Price>, export: Option<Price>) -> Tariff {
    Tariff {
        import_price: import.unwrap_or(tariff.import_price),
        export_price: export.unwrap_or(tariff.export_price),
    }
}

/// One home's energy from and to its supplier, in money.
pub(crate) struct SupplierBill {
    /// What the home receives: (export price − F↑) × export − (import price + F↓) × import.
    pub(crate) home: Money,
    /// What the network receives: F↑ × export + F↓ × import.
    pub(crate) fees: Money,
}

impl SupplierBill {
    pub(crate) fn of(
        network: &Network,
        node: NodeIndex,
        own: &Tariff,
        import: WattHours,
        export: WattHours,
    ) -> Result<Self, QuantityError> {
        let (fee_up, fee_down) = (network.fee_up_to_root(node), network.fee_down_from_root(node));
        let received = own.export_price.sub(fee_up)?.cost_of(export)?;
        let paid = own.import_price.add(fee_down)?.cost_of(import)?;
        let fees = fee_up.cost_of(export)?.add(fee_down.cost_of(import)?)?;
        Ok(Self { home: received.sub(paid)?, fees })
    }

    /// What the supplier receives, net of fees.
    pub(crate) fn supplier(&self) -> Result<Money, QuantityError> {
        self.home.add(self.fees)?.neg()
    }
}

/// Refuses prices beyond the range.
pub(crate) fn check_tariff(tariff: &Tariff) -> Result<(), MarketError> {
    check_price("tariff", 0, "import_price", tariff.import_price)?;
    check_price("tariff", 0, "export_price", tariff.export_price)
}

/// Checks ranges and returns the rank of each home's node.
fn check_homes<Id>(network: &Network, homes: &[MatchHome<Id>]) -> Result<Vec<u32>, MarketError> {
    if homes.len() > HOMES_MAX {
        return Err(MarketError::TooMany { what: "homes", count: homes.len(), max: HOMES_MAX });
    }
    let mut total = WattHours::ZERO;
    let mut ranks = Vec::with_capacity(homes.len());
    for (index, home) in homes.iter().enumerate() {
        let unknown =
            MarketError::UnknownNode { what: "home", index, node: home.node.get(), nodes: network.len() };
        ranks.push(network.rank_of(home.node).ok_or(unknown)?);
        let prices = [
            ("min_sell", home.min_sell),
            ("max_buy", home.max_buy),
            ("import_price", home.import_price),
            ("export_price", home.export_price),
        ];
        for (field, price) in prices {
            check_price("home", index, field, price.unwrap_or(Price::ZERO))?;
        }
        total = (total.add(home.import).and_then(|sum| sum.add(home.export)).ok())
            .filter(|total| *total <= ENERGY_MAX)
            .ok_or(MarketError::TooMuchEnergy { what: "homes", index })?;
    }
    Ok(ranks)
}

/// What one home still has to sell, or to buy.
#[derive(Clone, Copy)]
struct Claim {
    /// Position among the homes given.
    home: usize,
    /// Place among the ids.
    place: usize,
    left: u64,
    /// The home's own price limit, moved to the root: for a seller the least M + F↑(v), for a buyer the most M − F↓(v),
    /// at which it takes part at node v.
    limit: i64,
    /// F↑ or F↓ of the home's node.
    fees: i64,
}

/// Both claims of one home.
struct Claims {
    rank: usize,
    sell: Claim,
    buy: Claim,
}

/// All homes' claims, the last rank first.
fn claims<Id>(
    network: &Network,
    homes: &[MatchHome<Id>],
    ranks: &[u32],
    places: Option<&[u32]>,
    tariff: &Tariff,
) -> Vec<Claims> {
    let mut claims = Vec::with_capacity(homes.len());
    for (index, (home, rank)) in homes.iter().zip(ranks).enumerate() {
        let place = places.and_then(|places| places.get(index)).map_or(index, |place| *place as usize);
        let node = network.ranked(*rank);
        let own = own_tariff(tariff, home.import_price, home.export_price);
        let limit = home.min_sell.map_or(i64::MIN, |limit| limit.get().saturating_add(node.fees_up));
        let (left, limit) = (home.export.get(), limit.max(own.export_price.get()));
        let sell = Claim { home: index, place, left, limit, fees: node.fees_up };
        let limit = home.max_buy.map_or(i64::MAX, |limit| limit.get().saturating_sub(node.fees_down));
        let left = home.buy_cap.map_or(home.import, |cap| cap.min(home.import)).get();
        let limit = limit.min(own.import_price.get());
        let buy = Claim { home: index, place, left, limit, fees: node.fees_down };
        claims.push(Claims { rank: *rank as usize, sell, buy });
    }
    claims.sort_unstable_by_key(|claims| (Reverse(claims.rank), claims.sell.place));
    claims
}

/// Where a subtree's claims begin on the two stacks.
struct Start {
    rank: usize,
    sells: usize,
    buys: usize,
}

/// The unmatched claims of all subtrees visited, each subtree's together on top of the ones before.
struct Pools<'a> {
    middle: i64,
    results: &'a mut [HomeMatch],
    sells: Vec<Claim>,
    buys: Vec<Claim>,
}

impl Pools<'_> {
    /// Matches from the leaves to the root, writing what is matched at each node.
    fn visit(
        &mut self,
        network: &Network,
        claims: Vec<Claims>,
        matched: &mut [WattHours],
    ) -> Result<(), QuantityError> {
        let mut claims = claims.into_iter().peekable();
        let mut below: Vec<Start> = vec![];
        for (rank, node) in network.nodes().iter().enumerate().rev() {
            let mut start = Start { rank, sells: self.sells.len(), buys: self.buys.len() };
            while let Some(child) = below.pop_if(|child| child.rank < node.end as usize) {
                start = Start { rank, ..child };
            }
            while let Some(home) = claims.next_if(|home| home.rank == rank) {
                self.sells.extend(Some(home.sell).filter(|sell| sell.left > 0));
                self.buys.extend(Some(home.buy).filter(|buy| buy.left > 0));
            }
            if let Some(slot) = matched.get_mut(node.index as usize) {
                *slot = self.meet(node, &start)?;
            }
            below.push(start);
        }
        Ok(())
    }

    /// Matches what a node's subtree has left.
    fn meet(&mut self, node: &RankedNode, start: &Start) -> Result<WattHours, QuantityError> {
        if self.sells.len() == start.sells || self.buys.len() == start.buys {
            return Ok(WattHours::ZERO);
        }
        let (lowest, highest) =
            (self.middle.saturating_add(node.fees_up), self.middle.saturating_sub(node.fees_down));
        self.sells.extract_if(start.sells.., |claim| claim.limit > lowest).for_each(drop);
        self.buys.extract_if(start.buys.., |claim| claim.limit < highest).for_each(drop);
        let matched = left(&self.sells, start.sells).min(left(&self.buys, start.buys));
        if matched == 0 {
            return Ok(WattHours::ZERO);
        }
        for (claim, share) in take(&mut self.sells, start.sells, matched) {
            let Some(home) = self.results.get_mut(claim.home) else { continue };
            home.sold = home.sold.add(share)?;
            home.local_amount =
                home.local_amount.add(Price::new(lowest.saturating_sub(claim.fees)).cost_of(share)?)?;
        }
        for (claim, share) in take(&mut self.buys, start.buys, matched) {
            let Some(home) = self.results.get_mut(claim.home) else { continue };
            home.bought = home.bought.add(share)?;
            home.local_amount =
                home.local_amount.sub(Price::new(highest.saturating_add(claim.fees)).cost_of(share)?)?;
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
    let pool = claims.get_mut(start..).unwrap_or_default();
    let quantities: Vec<u64> = pool.iter().map(|claim| claim.left).collect();
    let mut shares = Vec::with_capacity(quantities.len());
    pro_rata(amount, &quantities, |at| pool.get(at).map(|claim| claim.place), &mut shares);
    let taken = pool.iter().copied().zip(shares.iter().copied().map(WattHours::new)).collect();
    for (claim, share) in pool.iter_mut().zip(&shares) {
        claim.left = claim.left.saturating_sub(*share);
    }
    claims.extract_if(start.., |claim| claim.left == 0).for_each(drop);
    taken
}
