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

use energy::{Money, Price, QuantityError, WattHours, midpoint_floor};

use crate::error::{check_price, places_by_id};
use crate::pool::{Claim, Claims, Edges, Met, meet_all};
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
    Street::check(network, tariff, homes)?.nearest_first(None)
}

/// What of a home's energy may be traded locally at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// The most it may sell.
    pub(crate) export: WattHours,
    /// The most it may buy, means aside.
    pub(crate) import: WattHours,
}

/// One interval's homes, checked.
pub(crate) struct Street<'a, Id> {
    network: &'a Network,
    tariff: &'a Tariff,
    homes: &'a [MatchHome<Id>],
    /// Of each home's node.
    ranks: Vec<u32>,
    /// Of each home in ascending order of ids; `None` if they are given so.
    places: Option<Vec<u32>>,
}

impl<'a, Id: Ord> Street<'a, Id> {
    pub(crate) fn check(
        network: &'a Network,
        tariff: &'a Tariff,
        homes: &'a [MatchHome<Id>],
    ) -> Result<Self, MarketError> {
        check_tariff(tariff)?;
        let ranks = check_homes(network, homes)?;
        let places = places_by_id("home", homes.iter().map(|home| &home.id))?;
        Ok(Self { network, tariff, homes, ranks, places })
    }

    /// Neighbour matching of `parts` of the homes' energy, or of all of it.
    pub(crate) fn nearest_first(&self, parts: Option<&[Part]>) -> Result<Matching, MarketError> {
        // With crossed prices there is no local trade.
        let trades = self.tariff.import_price >= self.tariff.export_price;
        let part = |index: usize, home: &MatchHome<Id>| {
            let whole = Part { export: home.export, import: home.import };
            let nothing = Part { export: WattHours::ZERO, import: WattHours::ZERO };
            let given = parts.map_or(Some(whole), |parts| parts.get(index).copied());
            given.filter(|_| trades).unwrap_or(nothing)
        };
        let claims =
            self.homes.iter().enumerate().map(|(index, home)| self.claims(index, home, part(index, home)));
        self.conclude(meet_all(self.network, self.tariff.middle(), Edges::Open, claims.collect())?)
    }

    /// The place of a home among the ids.
    pub(crate) fn place(&self, index: usize) -> usize {
        self.places.as_ref().and_then(|places| places.get(index)).map_or(index, |place| *place as usize)
    }

    /// The most a home may buy for its means; `None` is unlimited.
    pub(crate) fn buy_cap(&self, index: usize) -> Option<WattHours> {
        self.homes.get(index).and_then(|home| home.buy_cap)
    }

    fn claims(&self, index: usize, home: &MatchHome<Id>, part: Part) -> Claims {
        let rank = self.ranks.get(index).copied().unwrap_or(0);
        let (node, place) = (self.network.ranked(rank), self.place(index));
        let own = own_tariff(self.tariff, home.import_price, home.export_price);
        let limit = home.min_sell.map_or(i64::MIN, |limit| limit.get().saturating_add(node.fees_up));
        let (left, limit) = (part.export.get(), limit.max(own.export_price.get()));
        let sell = Claim { party: index, place, left, limit, fees: node.fees_up };
        let limit = home.max_buy.map_or(i64::MAX, |limit| limit.get().saturating_sub(node.fees_down));
        let left = home.buy_cap.map_or(part.import, |cap| cap.min(part.import)).get();
        let limit = limit.min(own.import_price.get());
        let buy = Claim { party: index, place, left, limit, fees: node.fees_down };
        Claims { rank: rank as usize, sell, buy }
    }

    /// Adds what is left of every home, with its supplier.
    pub(crate) fn conclude(&self, met: Met) -> Result<Matching, MarketError> {
        let local = Money::sum(met.parties.iter().map(|home| home.local_amount))?.neg()?;
        let mut matching = Matching {
            homes: met.parties,
            matched: met.matched,
            fees: local,
            local_fees: local,
            supplier_import: WattHours::ZERO,
            supplier_export: WattHours::ZERO,
            supplier_amount: Money::ZERO,
        };
        for (index, home) in self.homes.iter().enumerate() {
            matching.leave_to_supplier(self.network, self.tariff, home, index)?;
        }
        Ok(matching)
    }
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
