//! Posted forward orders: what must hold for every book, and against the rules written out plainly.

use crate::books::{Market, markets};
use crate::posted::{self, Trade, tariffs};
use crate::random::node;
use energy::{Money, NodeId, Price, WattHours};
use market::{
    MarketError, MatchHome, Network, NodeSpec, Order, PRICE_MAX, Side, Tariff, match_forward,
    match_neighbours,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn fills_and_amounts_are_those_of_the_rules_written_out_plainly(market in markets(), tariff in tariffs()) {
        let network = Network::new(&market.nodes).unwrap();
        let orders = market.orders(&network);
        let result = match_forward(&network, &tariff, &orders).unwrap();
        let trades = posted::trades(&network, &tariff, &orders);
        let mut fills = vec![0; orders.len()];
        let mut amounts = vec![0; orders.len()];
        let mut matched = vec![0; network.len()];
        for Trade { order, node, energy } in trades {
            fills[order] += energy;
            // The price depends on the tariff and on the way, and on nothing else.
            let price = posted::price(&network, &tariff, &orders[order], node);
            let sign = if orders[order].side == Side::Sell { 1 } else { -1 };
            amounts[order] += sign * i128::from(price) * i128::from(energy);
            matched[node.get()] += energy;
        }
        prop_assert_eq!(result.fills.iter().map(|fill| fill.get()).collect::<Vec<_>>(), fills);
        prop_assert_eq!(result.amounts.iter().map(|amount| amount.get()).collect::<Vec<_>>(), amounts);
        // Every Wh matched at a node is one sold and one bought.
        prop_assert_eq!(result.matched.iter().map(|energy| 2 * energy.get()).collect::<Vec<_>>(), matched);
    }

    #[test]
    fn what_is_sold_is_bought_and_the_network_gets_the_difference(market in markets(), tariff in tariffs()) {
        let network = Network::new(&market.nodes).unwrap();
        let orders = market.orders(&network);
        let result = match_forward(&network, &tariff, &orders).unwrap();
        let side = |side: Side| orders.iter().zip(&result.fills).filter(|it| it.0.side == side).map(|it| it.1.get()).sum::<u64>();
        let matched: u64 = result.matched.iter().map(|energy| energy.get()).sum();
        prop_assert_eq!((side(Side::Sell), side(Side::Buy)), (matched, matched));
        prop_assert_eq!(Money::sum(result.amounts.iter().copied().chain([result.fees])), Ok(Money::ZERO));
        prop_assert!(!result.fees.is_negative());
        prop_assert!(tariff.import_price >= tariff.export_price || matched == 0);
    }

    #[test]
    fn nobody_trades_beyond_its_limit_or_worse_than_with_the_supplier(market in markets(), tariff in tariffs()) {
        let network = Network::new(&market.nodes).unwrap();
        let orders = market.orders(&network);
        let result = match_forward(&network, &tariff, &orders).unwrap();
        for ((order, fill), amount) in orders.iter().zip(&result.fills).zip(&result.amounts) {
            prop_assert!(*fill <= order.quantity);
            let value = |price: Price| price.cost_of(*fill).unwrap();
            match order.side {
                Side::Sell => {
                    let supplier = tariff.export_price.sub(network.fee_up_to_root(order.node)).unwrap();
                    prop_assert!(*amount >= value(order.price.max(supplier)));
                }
                Side::Buy => {
                    let supplier = tariff.import_price.add(network.fee_down_from_root(order.node)).unwrap();
                    prop_assert!(amount.neg().unwrap() <= value(order.price.min(supplier)));
                }
            }
        }
    }

    #[test]
    fn no_edge_carries_more_than_its_limit(market in markets(), tariff in tariffs()) {
        let network = Network::new(&market.nodes).unwrap();
        let orders = market.orders(&network);
        let result = match_forward(&network, &tariff, &orders).unwrap();
        let mut flows = vec![0i64; network.len()];
        for (order, fill) in orders.iter().zip(&result.fills) {
            let fill = i64::try_from(fill.get()).unwrap();
            for node in posted::path(&network, order.node) {
                flows[node.get()] += if order.side == Side::Sell { fill } else { -fill };
            }
        }
        for (spec, flow) in network.specs().iter().zip(flows) {
            let within = |limit: Option<WattHours>, flow: i64| limit.is_none_or(|limit| flow <= i64::try_from(limit.get()).unwrap());
            prop_assert!(spec.parent.is_none() || (within(spec.up, flow) && within(spec.down, -flow)));
        }
    }

    #[test]
    fn without_limits_orders_are_matched_exactly_like_neighbours(market in markets(), tariff in tariffs()) {
        let unlimited: Vec<_> = market.nodes.iter().map(|node| NodeSpec { up: None, down: None, ..node.clone() }).collect();
        let network = Network::new(&unlimited).unwrap();
        let orders = market.orders(&network);
        let homes: Vec<_> = orders.iter().map(as_home).collect();
        let result = match_forward(&network, &tariff, &orders).unwrap();
        let matching = match_neighbours(&network, &tariff, &homes).unwrap();
        for (place, home) in matching.homes.iter().enumerate() {
            prop_assert_eq!(result.fills[place], home.sold.add(home.bought).unwrap());
            prop_assert_eq!(result.amounts[place], home.local_amount);
        }
        prop_assert_eq!((result.matched, result.fees), (matching.matched, matching.local_fees));
    }

    #[test]
    fn the_sequence_of_orders_and_nodes_never_reaches_the_result(market in markets(), tariff in tariffs(), seed in any::<u64>()) {
        let of = |market: &Market| {
            let network = Network::new(&market.nodes).unwrap();
            let result = match_forward(&network, &tariff, &market.orders(&network)).unwrap();
            let mut orders: Vec<_> = market.orders.iter().map(|order| order.id.clone())
                .zip(result.fills.into_iter().zip(result.amounts)).collect();
            let mut nodes: Vec<_> = market.nodes.iter().map(|node| node.id.clone()).zip(result.matched).collect();
            orders.sort();
            nodes.sort();
            (orders, nodes, result.fees)
        };
        prop_assert_eq!(of(&market), of(&market.shuffled(seed)));
    }
}

fn as_home(order: &Order<String>) -> MatchHome<String> {
    let sells = order.side == Side::Sell;
    let of = |yes: bool| if yes { order.quantity } else { WattHours::ZERO };
    MatchHome {
        id: order.id.clone(),
        node: order.node,
        import: of(!sells),
        export: of(sells),
        min_sell: Some(order.price),
        max_buy: Some(order.price),
        import_price: None,
        export_price: None,
        buy_cap: None,
    }
}

/// Two feeders below a transformer; the first may give 100 Wh to the rest.
fn two_feeders() -> Network {
    let fee = |spec: NodeSpec, fee| NodeSpec { fee_down: Price::new(fee), ..spec };
    Network::new(&[
        node("lv", None),
        NodeSpec { up: Some(WattHours::new(100)), ..fee(node("f1", Some("lv")), 10) },
        fee(node("f2", Some("lv")), 10),
    ])
    .unwrap()
}

fn order(network: &Network, id: &str, at: &str, side: Side, price: i64, quantity: u64) -> Order<String> {
    let node = network.index_of(&NodeId::new(at).unwrap()).unwrap();
    let (price, quantity) = (Price::new(price), WattHours::new(quantity));
    Order { id: id.to_owned(), node, side, price, quantity }
}

const TARIFF: Tariff = Tariff { import_price: Price::new(250), export_price: Price::new(80) };

#[test]
fn an_edge_at_its_limit_is_shared_by_those_who_can_use_it() {
    let network = two_feeders();
    let orders = [
        order(&network, "a", "f1", Side::Sell, 150, 300),
        order(&network, "b", "f1", Side::Sell, 165, 100),
        // Wants more than M: sits out everywhere and takes no part of the edge.
        order(&network, "c", "f1", Side::Sell, 166, 900),
        order(&network, "d", "f2", Side::Buy, 175, 500),
        // Would take it next door, but not from the other feeder.
        order(&network, "e", "f2", Side::Buy, 174, 500),
    ];
    let result = match_forward(&network, &TARIFF, &orders).unwrap();
    assert_eq!(result.fills.iter().map(|fill| fill.get()).collect::<Vec<_>>(), [75, 25, 0, 100, 0]);
    let amounts: Vec<i128> = result.amounts.iter().map(|amount| amount.get()).collect();
    assert_eq!(amounts, [75 * 165, 25 * 165, 0, -100 * 175, 0]);
    assert_eq!(result.fees, Money::new(100 * 10));
}

#[test]
fn bad_orders_and_tariffs_are_refused() {
    let network = two_feeders();
    let twice = [order(&network, "a", "f1", Side::Sell, 1, 1), order(&network, "a", "f1", Side::Buy, 1, 1)];
    let refusal = match_forward(&network, &TARIFF, &twice).unwrap_err();
    assert_eq!(refusal, MarketError::DuplicateId { what: "order", first: 0, second: 1 });
    let dear = Tariff { import_price: Price::new(PRICE_MAX.get() + 1), ..TARIFF };
    let refusal = match_forward::<u32>(&network, &dear, &[]).unwrap_err();
    assert!(matches!(refusal, MarketError::PriceOutOfRange { what: "tariff", field: "import_price", .. }));
}
