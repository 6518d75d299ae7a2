//! What of the community's trading a member may see (audit design, "Anonymity rule").
//!
//! Totals from five homes up, none of them with more than 15 % of the quantity; prices of an auction only with three who
//! bought and three who sold, since a price between two shows what they asked; those of nodes only where the ledger made them
//! public, and of them the home's own and the root's. Orders of others are never shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::{COMMUNITY_MIN, CommunityBook, Depth, NodePrice, Time};
use energy::{HomeId, Interval, Timestamp, WattHours};
use ledger::Forward;
use market::{Network, Side};

/// Of so many homes on each side at least is a price.
const TRADERS_MIN: u32 = 3;
/// No home has a larger part of a total, in percent.
const SHARE_MAX: u128 = 15;

/// Who had a part in a gate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// True if its leaf is public: the ledger's own, stricter rule holds.
    pub public: bool,
    /// Homes with an order.
    pub homes: u32,
    /// Homes that bought something.
    pub buyers: u32,
    /// Homes that sold something.
    pub sellers: u32,
    /// The most that one home traded, Wh.
    pub largest_wh: u64,
    /// What was sold in all, Wh.
    pub volume_wh: u64,
}

impl Parts {
    /// Whether members see how much was traded.
    pub fn shows_volume(&self) -> bool {
        let traders = self.buyers.saturating_add(self.sellers);
        // A home is on one side, so the side's total is the volume.
        self.public || (traders >= COMMUNITY_MIN && is_small(self.largest_wh, self.volume_wh))
    }

    /// Whether members see how many orders there were.
    pub const fn shows_orders(&self) -> bool {
        self.public || self.homes >= COMMUNITY_MIN
    }

    /// Whether members see the prices. Posted ones follow from the supplier's, whatever the orders.
    pub fn shows_prices(&self, forward: Forward) -> bool {
        forward == Forward::Posted
            || self.public
            || (self.buyers >= TRADERS_MIN && self.sellers >= TRADERS_MIN)
    }
}

/// True if a part is not more than its share of all.
fn is_small(part: u64, all: u64) -> bool {
    u128::from(part) * 100 <= u128::from(all) * SHARE_MAX
}

/// One side's open orders of an interval, by home.
type Book = BTreeMap<HomeId, WattHours>;

/// What was last shown of one side, and when it was taken.
#[derive(Debug, Clone)]
struct Shown {
    as_of: Timestamp,
    book: Book,
}

impl Shown {
    const fn nothing(now: Timestamp) -> Self {
        Self { as_of: now, book: Book::new() }
    }

    /// Shows `book` from now on, if enough other homes than `asker` changed theirs.
    fn renew(&mut self, book: Book, asker: &HomeId, now: Timestamp) -> Option<Depth> {
        if changed(&self.book, &book, asker) >= COMMUNITY_MIN as usize {
            *self = Self { as_of: now, book };
        }
        depth(&self.book, asker)
    }
}

/// The totals of open orders that were last shown, by interval and side: purchases, then sales.
///
/// A running total gives every new order away to whoever asks before and after it. So a side is renewed only when at least
/// five homes changed their orders of that side since it was shown last. The home that asks does not count, neither there
/// nor among the homes a total needs: it knows its own orders, and could change them to see the others'.
#[derive(Debug, Clone, Default)]
pub struct DepthCache(Arc<Mutex<BTreeMap<Interval, [Shown; 2]>>>);

impl DepthCache {
    /// The totals to show to `asker` of `book`, the open orders of an interval as of `now`.
    pub fn show(
        &self,
        interval: Interval,
        book: Vec<(HomeId, Side, WattHours)>,
        asker: &HomeId,
        now: Timestamp,
    ) -> CommunityBook {
        let (buys, sells): (Vec<_>, Vec<_>) = book.into_iter().partition(|(_, side, _)| *side == Side::Buy);
        let side = |rows: Vec<(HomeId, Side, WattHours)>| -> Book {
            rows.into_iter().map(|(home, _, energy)| (home, energy)).collect()
        };
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Gates that have closed are not asked about any more.
        shown.retain(|of, _| of.start() >= now.minus_ms(market::GATE_LEAD_MS));
        let nothing = || [Shown::nothing(now), Shown::nothing(now)];
        let [bought, sold] = shown.entry(interval).or_insert_with(nothing);
        let buy = bought.renew(side(buys), asker, now);
        let sell = sold.renew(side(sells), asker, now);
        // The age of what is shown is that of its older side; a side that is not shown has none.
        let as_of = match (buy, sell) {
            (Some(_), None) => bought.as_of,
            (None, Some(_)) => sold.as_of,
            _ => bought.as_of.min(sold.as_of),
        };
        CommunityBook { interval_start: Time(interval.start()), buy, sell, as_of: Time(as_of) }
    }
}

/// How many homes other than `asker` have other orders than before.
fn changed(before: &Book, now: &Book, asker: &HomeId) -> usize {
    let differs = |home: &&HomeId| before.get(*home) != now.get(*home);
    let gone = before.keys().filter(|home| !now.contains_key(*home));
    now.keys().filter(differs).chain(gone).filter(|home| *home != asker).count()
}

/// The total of a side, where enough homes other than `asker` are in it and none of them has too large a part of what
/// they have together.
fn depth(book: &Book, asker: &HomeId) -> Option<Depth> {
    let sum = |quantity: u64, (_, energy): (&HomeId, &WattHours)| quantity.saturating_add(energy.get());
    let others = || book.iter().filter(|(home, _)| *home != asker);
    let largest = others().map(|(_, energy)| energy.get()).max().unwrap_or(0);
    let is_shown = others().count() >= COMMUNITY_MIN as usize && is_small(largest, others().fold(0, sum));
    is_shown.then(|| Depth {
        homes: u32::try_from(book.len()).unwrap_or(u32::MAX),
        quantity_wh: book.iter().fold(0, sum),
    })
}

/// The prices of a gate that a home sees: at its own node and at the network's root. That of another node can be what
/// the single home there asked.
pub fn prices_for(prices: Vec<NodePrice>, network: &Network, own: Option<&str>) -> Vec<NodePrice> {
    let root = network.specs().iter().find(|spec| spec.parent.is_none());
    let root = root.map(|root| root.id.as_str());
    let is_seen = |price: &NodePrice| [own, root].contains(&Some(price.node.as_str()));
    prices.into_iter().filter(is_seen).collect()
}

#[cfg(test)]
mod tests {
    use energy::{Mtu, NodeId, Price};
    use market::NodeSpec;

    use super::*;

    fn home(number: u64) -> HomeId {
        HomeId::new(&format!("h{number:03}")).unwrap()
    }

    /// Open orders to sell of so many homes, `each` Wh.
    fn sellers(count: u64, each: u64) -> Vec<(HomeId, Side, WattHours)> {
        (1..=count).map(|number| (home(number), Side::Sell, WattHours::new(each))).collect()
    }

    /// Who asks; it has no orders where a test does not say so.
    fn asker() -> HomeId {
        home(999)
    }

    fn interval() -> Interval {
        Interval::from_index(1_000_000, Mtu::Min15)
    }

    fn now(minutes: u64) -> Timestamp {
        interval().start().minus_ms((600 - minutes) * 60_000)
    }

    #[test]
    fn totals_are_of_five_homes_or_more_and_none_has_too_large_a_part() {
        let shown = |book| DepthCache::default().show(interval(), book, &asker(), now(0)).sell;
        assert_eq!(shown(sellers(4, 100)), None);
        assert_eq!(shown(sellers(6, 100)), None, "each of six has more than 15 %");
        assert_eq!(shown(sellers(7, 100)), Some(Depth { homes: 7, quantity_wh: 700 }));
        let mut uneven = sellers(9, 100);
        uneven[0].2 = WattHours::new(141);
        assert_eq!(shown(uneven.clone()), Some(Depth { homes: 9, quantity_wh: 941 }), "14.98 %");
        uneven[0].2 = WattHours::new(142);
        assert_eq!(shown(uneven), None, "15.07 %");
    }

    #[test]
    fn nobodys_order_is_the_difference_between_two_totals() {
        let cache = DepthCache::default();
        let first = cache.show(interval(), sellers(10, 100), &asker(), now(0));
        assert_eq!(first.sell, Some(Depth { homes: 10, quantity_wh: 1_000 }));
        for more in 1..5 {
            let again = cache.show(interval(), sellers(10 + more, 100), &asker(), now(more));
            assert_eq!(again, first, "{more} new orders do not show");
        }
        let renewed = cache.show(interval(), sellers(15, 100), &asker(), now(5));
        assert_eq!(renewed.sell, Some(Depth { homes: 15, quantity_wh: 1_500 }));
        assert_eq!(renewed.as_of, Time(now(5)));
        let fewer = cache.show(interval(), sellers(11, 100), &asker(), now(6));
        assert_eq!(fewer, renewed, "nor do four that were taken back");
    }

    #[test]
    fn orders_of_the_other_side_and_the_askers_own_renew_nothing() {
        let cache = DepthCache::default();
        let both = |buyers: u64, sellers: u64| {
            let buys = (1..=buyers).map(|number| (home(number), Side::Buy, WattHours::new(100)));
            let sells = (1..=sellers).map(|number| (home(500 + number), Side::Sell, WattHours::new(100)));
            buys.chain(sells).collect::<Vec<_>>()
        };
        let show = |book, minutes| cache.show(interval(), book, &asker(), now(minutes));
        let first = show(both(10, 10), 0);
        assert_eq!((first.buy, first.sell), (Some(Depth { homes: 10, quantity_wh: 1_000 }), first.buy));
        assert_eq!(show(both(14, 11), 1), first, "the one new seller would be the difference");
        let mut with_own = both(14, 11);
        with_own.push((asker(), Side::Buy, WattHours::new(150)));
        assert_eq!(show(with_own, 2), first, "the asker's own order is no fifth");
        let renewed = show(both(15, 11), 3);
        assert_eq!(renewed.buy, Some(Depth { homes: 15, quantity_wh: 1_500 }));
        assert_eq!((renewed.sell, renewed.as_of), (first.sell, first.as_of), "sales are as old as before");
    }

    #[test]
    fn the_askers_own_order_hides_nobody_in_a_total() {
        let asker = home(1);
        let shown = |book| DepthCache::default().show(interval(), book, &asker, now(0)).sell;
        assert_eq!(shown(sellers(7, 100)), None, "each of the six others has more than 15 % of theirs");
        assert_eq!(shown(sellers(8, 100)), Some(Depth { homes: 8, quantity_wh: 800 }), "its own is counted");
    }

    #[test]
    fn of_the_prices_of_a_gate_a_home_sees_its_own_nodes_and_the_roots() {
        let node = |id: &str, parent: Option<&str>| NodeSpec {
            id: NodeId::new(id).unwrap(),
            parent: parent.map(|parent| NodeId::new(parent).unwrap()),
            up: None,
            down: None,
            fee_up: Price::ZERO,
            fee_down: Price::ZERO,
        };
        let nodes = [node("grid", None), node("north", Some("grid")), node("south", Some("grid"))];
        let network = Network::new(&nodes).unwrap();
        let prices =
            ["grid", "north", "south"].map(|node| NodePrice { node: node.to_owned(), price: 200_000 });
        let seen = |own| -> Vec<_> {
            let seen = prices_for(prices.to_vec(), &network, own);
            seen.into_iter().map(|price| price.node).collect()
        };
        assert_eq!(seen(Some("south")), ["grid", "south"]);
        assert_eq!(seen(None), ["grid"]);
    }

    #[test]
    fn a_gate_shows_what_its_traders_cannot_be_told_from() {
        let parts = |homes, buyers, sellers, largest_wh, volume_wh| Parts {
            public: false,
            homes,
            buyers,
            sellers,
            largest_wh,
            volume_wh,
        };
        let two = parts(2, 1, 1, 400, 400);
        assert!(!two.shows_volume() && !two.shows_orders() && !two.shows_prices(Forward::Auction));
        assert!(two.shows_prices(Forward::Posted), "it follows from the supplier's prices");
        let six = parts(6, 3, 3, 200, 600);
        assert!(six.shows_prices(Forward::Auction) && six.shows_orders() && !six.shows_volume());
        let many = parts(20, 10, 10, 100, 1_000);
        assert!(many.shows_volume());
        assert!(Parts { public: true, ..two }.shows_volume());
    }
}
