//! What one small order can do: nothing to a posted price, and a bounded thing to an auction's.

use crate::books::{Market, RandomOrder, markets};
use crate::posted::{self, tariffs};
use crate::random::node;
use energy::{NodeId, Price, WattHours};
use market::{Clearing, Network, NodeSpec, Order, Side, Tariff, clear, match_forward};
use proptest::prelude::*;

/// An order that comes to a book: where, side, limit, how it sorts among the ids.
fn decoys() -> impl Strategy<Value = (prop::sample::Index, bool, i64, String)> {
    (any::<prop::sample::Index>(), any::<bool>(), -40i64..120, "[a-c~]{0,2}")
}

fn with(
    market: &Market,
    (at, buys, price, name): (prop::sample::Index, bool, i64, String),
    quantity: u64,
) -> Market {
    let mut more = market.clone();
    let node = at.get(&market.nodes).id.clone();
    let side = if buys { Side::Buy } else { Side::Sell };
    more.orders.push(RandomOrder { id: format!("{name}!"), node, side, price, quantity });
    more
}

/// How many nodes the longest way to the root has.
fn levels(network: &Network) -> u64 {
    let length = |spec: &NodeSpec| posted::path(network, network.index_of(&spec.id).unwrap()).len();
    network.specs().iter().map(length).max().unwrap() as u64
}

/// What all orders but the last trade differently, in total.
fn moved(network: &Network, tariff: &Tariff, with: &[Order<String>], without: &[Order<String>]) -> u64 {
    let fills = |orders: &[Order<String>]| match_forward(network, tariff, orders).unwrap().fills;
    let both = fills(with).into_iter().zip(fills(without)).take(without.len().min(with.len() - 1));
    both.map(|(a, b)| a.get().abs_diff(b.get())).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_posted_price_is_the_same_whatever_the_book(market in markets(), tariff in tariffs(), decoy in decoys()) {
        // Without fees everybody trades at M; with fees a trade's price is M and its way's (tests of forward trading).
        let free: Vec<_> = market.nodes.iter().map(|node| NodeSpec { fee_up: Price::ZERO, fee_down: Price::ZERO, ..node.clone() }).collect();
        let network = Network::new(&free).unwrap();
        let middle = Price::new((tariff.import_price.get() + tariff.export_price.get()).div_euclid(2));
        for market in [with(&market, decoy, 1), market] {
            let orders = market.orders(&network);
            let result = match_forward(&network, &tariff, &orders).unwrap();
            for ((order, fill), amount) in orders.iter().zip(result.fills).zip(result.amounts) {
                let value = middle.cost_of(fill).unwrap();
                prop_assert_eq!(amount, if order.side == Side::Sell { value } else { value.neg().unwrap() });
            }
        }
    }

    #[test]
    fn one_watt_hour_more_or_less_in_a_posted_book_moves_little(market in markets(), tariff in tariffs(), decoy in decoys()) {
        let unlimited: Vec<_> = market.nodes.iter().map(|node| NodeSpec { up: None, down: None, ..node.clone() }).collect();
        let more = with(&market, decoy, 1);
        for (nodes, holds) in [(&unlimited, false), (&market.nodes, true)] {
            let network = Network::new(nodes).unwrap();
            let (orders, count, levels) = (more.orders(&network), more.orders.len() as u64, levels(&network));
            let bound = if holds { 2 * (levels + 1) * (1 + count * levels) } else { 1 + count * levels };
            let decoy = moved(&network, &tariff, &orders, &orders[..orders.len() - 1]);
            prop_assert!(decoy <= bound, "{} of {}", decoy, bound);
            // The same of an order that is there and withholds 1 Wh.
            let mut less = orders.clone();
            less.rotate_left(1);
            let whole = less.clone();
            let last = less.last_mut().unwrap();
            last.quantity = last.quantity.saturating_sub(WattHours::new(1));
            let withheld = moved(&network, &tariff, &whole, &less);
            prop_assert!(withheld <= bound, "{} of {}", withheld, bound);
        }
    }

    #[test]
    fn in_an_auction_an_order_moves_the_price_no_further_than_its_own_energy_reaches(
        market in markets(),
        decoy in decoys(),
        quantity in prop_oneof![2 => Just(1u64), 1 => 1u64..40],
    ) {
        let nodes = [node("one", None)];
        let mut market = Market { nodes: nodes.to_vec(), supplier: None, ..market };
        market.orders.iter_mut().for_each(|order| order.node = nodes[0].id.clone());
        let buys = decoy.1;
        let more = with(&market, decoy, quantity);
        let network = Network::new(&nodes).unwrap();
        let price = clear(&network, &more.orders(&network), None).unwrap().prices[0].unwrap().get();
        let book = UnitBook::of(&market);
        let (lowest, highest) = if buys { (0, quantity) } else { (quantity, 0) };
        prop_assert!(book.used(lowest).is_none_or(|lowest| lowest <= price), "{} {:?}", price, book);
        prop_assert!(book.unused(highest).is_none_or(|highest| price <= highest), "{} {:?}", price, book);
    }

    #[test]
    fn in_a_network_too(market in markets(), decoy in decoys(), quantity in prop_oneof![2 => Just(1u64), 1 => 1u64..40]) {
        let network = Network::new(&market.nodes).unwrap();
        let buys = decoy.1;
        let after = cleared(&network, &with(&market, decoy.clone(), quantity));
        let at_any_price = (decoy.0, buys, if buys { ANY } else { -ANY }, decoy.3);
        let forced = with(&market, at_any_price, quantity);
        for (place, price) in after.prices.iter().enumerate() {
            let (Some(price), at) = (price, &network.specs()[place].id) else { continue };
            let (below, above) = if buys { (&market, &forced) } else { (&forced, &market) };
            prop_assert!(worth_of_one_more(&network, below, at) <= price.get());
            prop_assert!(price.get() <= cost_of_one_more(&network, above, at));
        }
    }
}

/// The prices of a one-node book, Wh by Wh: what sellers ask and what buyers would give up for, in order. The first of them are
/// used, as many as buyers want.
#[derive(Debug)]
struct UnitBook {
    prices: Vec<i64>,
    used: usize,
}

impl UnitBook {
    fn of(market: &Market) -> Self {
        let each = market.orders.iter().flat_map(|order| (0..order.quantity).map(|_| order.price));
        let mut prices: Vec<i64> = each.collect();
        prices.sort_unstable();
        let buys = market.orders.iter().filter(|order| order.side == Side::Buy);
        Self { prices, used: usize::try_from(buys.map(|order| order.quantity).sum::<u64>()).unwrap() }
    }

    /// The price of the last Wh used but `skip`.
    fn used(&self, skip: u64) -> Option<i64> {
        let place = self.used.checked_sub(1 + usize::try_from(skip).unwrap())?;
        self.prices.get(place).copied()
    }

    /// The price of the first Wh unused after `skip`.
    fn unused(&self, skip: u64) -> Option<i64> {
        self.prices.get(self.used + usize::try_from(skip).unwrap()).copied()
    }
}

/// Beyond any price and way of a random market.
const ANY: i64 = 1_000_000;

fn cleared(network: &Network, market: &Market) -> Clearing {
    clear(network, &market.orders(network), market.supplier.as_ref()).unwrap()
}

/// What welfare gains from one order more, of 1 Wh at any price.
fn gain(network: &Network, market: &Market, at: &NodeId, side: Side) -> i64 {
    let mut more = market.clone();
    let price = if side == Side::Buy { ANY } else { -ANY };
    more.orders.push(RandomOrder { id: "?".to_owned(), node: at.clone(), side, price, quantity: 1 });
    let gain = cleared(network, &more).welfare.sub(cleared(network, market).welfare).unwrap();
    i64::try_from(gain.get()).unwrap()
}

/// What one more Wh given at a node is worth to the book.
fn worth_of_one_more(network: &Network, market: &Market, at: &NodeId) -> i64 {
    gain(network, market, at, Side::Sell) - ANY
}

/// What one more Wh taken at a node costs the book.
fn cost_of_one_more(network: &Network, market: &Market, at: &NodeId) -> i64 {
    ANY - gain(network, market, at, Side::Buy)
}

#[test]
fn in_a_book_of_two_the_sizes_decide_the_price_and_one_watt_hour_can_swing_it() {
    let network = Network::new(&[node("one", None)]).unwrap();
    let order = |id: &str, side, price, quantity| Order {
        id: id.to_owned(),
        node: network.root(),
        side,
        price: Price::new(price),
        quantity: WattHours::new(quantity),
    };
    let price = |sold, decoy: Option<Order<String>>| {
        let two = [order("b", Side::Buy, 300_000, 500), order("s", Side::Sell, 100_000, sold)];
        let orders: Vec<_> = two.into_iter().chain(decoy).collect();
        clear(&network, &orders, None).unwrap().prices[0].unwrap().get()
    };
    assert_eq!(price(500, None), 200_000);
    assert_eq!(price(500, Some(order("d", Side::Sell, 100_001, 1))), 100_000);
    assert_eq!(price(500, Some(order("d", Side::Buy, 299_999, 1))), 299_999);
    // Uneven sizes leave no gap: the larger order's limit is the price, and a decoy in between changes nothing.
    assert_eq!((price(502, None), price(498, None)), (100_000, 300_000));
    assert_eq!(price(502, Some(order("d", Side::Sell, 100_001, 1))), 100_000);
    assert_eq!(price(498, Some(order("d", Side::Sell, 100_001, 1))), 300_000);
}
