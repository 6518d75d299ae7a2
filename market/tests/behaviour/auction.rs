//! What must hold for every auction, on random networks: against an LP solver, against a plain second implementation of the
//! rules, and rule by rule.

use crate::books::{Market, RandomOrder, markets};
use crate::plain;
use crate::random::node;
use energy::{Money, Price, WattHours};
use market::{Clearing, ENERGY_MAX, MarketError, Network, Order, PRICE_MAX, Side, Supplier, clear};
use microlp::{ComparisonOp, LinearExpr, OptimizationDirection, Problem, Variable};
use proptest::prelude::*;

fn cleared(market: &Market) -> (Network, Clearing) {
    let network = Network::new(&market.nodes).unwrap();
    let clearing = clear(&network, &market.orders(&network), market.supplier.as_ref()).unwrap();
    (network, clearing)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn fills_stay_inside_orders_and_flows_inside_limits_and_every_node_balances(market in markets()) {
        let (network, clearing) = cleared(&market);
        let orders = market.orders(&network);
        let mut net = vec![0i64; network.len()];
        net[network.root().get()] += wh(clearing.import) - wh(clearing.export);
        for (order, fill) in orders.iter().zip(&clearing.fills) {
            prop_assert!(*fill <= order.quantity);
            net[order.node.get()] += if order.side == Side::Sell { wh(*fill) } else { -wh(*fill) };
        }
        for (place, spec) in network.specs().iter().enumerate() {
            let flow = clearing.flows[place];
            net[place] -= flow;
            if let Some(parent) = &spec.parent {
                net[network.index_of(parent).unwrap().get()] += flow;
                prop_assert!(spec.up.is_none_or(|up| flow <= wh(up)));
                prop_assert!(spec.down.is_none_or(|down| -flow <= wh(down)));
            } else {
                prop_assert_eq!(flow, 0);
            }
        }
        prop_assert!(net.iter().all(|net| *net == 0), "{:?}", net);
    }

    #[test]
    fn welfare_is_the_optimum_of_an_independent_lp_solver(market in markets()) {
        let (network, clearing) = cleared(&market);
        let optimum = lp_welfare(&network, &market.orders(&network), market.supplier.as_ref());
        prop_assert_eq!(clearing.welfare, Money::new(optimum));
    }

    #[test]
    fn nobody_trades_beyond_its_limit_and_no_order_in_the_money_is_left_out(market in markets()) {
        let (network, clearing) = cleared(&market);
        for (order, fill) in market.orders(&network).iter().zip(&clearing.fills) {
            let Some(price) = clearing.prices[order.node.get()] else {
                prop_assert!(order.quantity.is_zero(), "a node with orders has a price");
                continue;
            };
            let gain = match order.side {
                Side::Buy => order.price.get() - price.get(),
                Side::Sell => price.get() - order.price.get(),
            };
            prop_assert!(fill.is_zero() || gain >= 0, "{:?} fills {} at {}", order, fill, price);
            prop_assert!(*fill == order.quantity || gain <= 0, "{:?} fills {} at {}", order, fill, price);
        }
    }

    #[test]
    fn the_supplier_trades_inside_its_limits_and_prices(market in markets()) {
        let (network, clearing) = cleared(&market);
        let Some(supplier) = market.supplier else {
            prop_assert_eq!((clearing.import, clearing.export), (WattHours::ZERO, WattHours::ZERO));
            return Ok(());
        };
        prop_assert!(supplier.import_limit.is_none_or(|limit| clearing.import <= limit));
        prop_assert!(supplier.export_limit.is_none_or(|limit| clearing.export <= limit));
        prop_assert!(clearing.import.is_zero() || clearing.export.is_zero());
        let root = clearing.prices[network.root().get()];
        prop_assert!(clearing.import.is_zero() || root.unwrap() >= supplier.import_price);
        prop_assert!(clearing.export.is_zero() || root.unwrap() <= supplier.export_price);
    }

    #[test]
    fn what_buyers_pay_beyond_what_sellers_get_is_fees_and_rent_and_rent_needs_an_edge_at_its_limit(
        market in markets(),
    ) {
        let (network, clearing) = cleared(&market);
        let (mut fees, mut rent) = (0, 0);
        for (place, spec) in network.specs().iter().enumerate() {
            let (flow, Some(parent)) = (clearing.flows[place], &spec.parent) else { continue };
            if flow == 0 {
                continue;
            }
            let price = |place: usize| clearing.prices[place].unwrap().get();
            let (here, above) = (price(place), price(network.index_of(parent).unwrap().get()));
            let (fee, limit) = if flow > 0 { (spec.fee_up, spec.up) } else { (spec.fee_down, spec.down) };
            let edge_rent = i128::from((above - here) * flow) - i128::from(fee.get() * flow.abs());
            prop_assert!(edge_rent >= 0);
            prop_assert!(edge_rent == 0 || limit.is_some_and(|limit| wh(limit) == flow.abs()));
            fees += i128::from(fee.get() * flow.abs());
            rent += edge_rent;
        }
        prop_assert_eq!((clearing.fees.get(), clearing.congestion_rent.get()), (fees, rent));
        prop_assert_eq!(cash_left(&network, &market, &clearing), fees + rent);
    }

    #[test]
    fn equal_orders_at_one_node_get_equal_shares_to_one_watt_hour(market in markets(), twins in 2usize..5) {
        let mut market = market;
        let Some(first) = market.orders.first().cloned() else { return Ok(()) };
        for twin in 0..twins {
            market.orders.push(RandomOrder { id: format!("twin{twin}"), ..first.clone() });
        }
        let (_, clearing) = cleared(&market);
        let fills = market.orders.iter().zip(&clearing.fills);
        let same: Vec<u64> = fills
            .filter(|(order, _)| order.same_but_for_id(&first))
            .map(|(_, fill)| fill.get())
            .collect();
        prop_assert!(same.len() > twins);
        prop_assert!(same.iter().max().unwrap() - same.iter().min().unwrap() <= 1, "{:?}", same);
    }

    #[test]
    fn the_sequence_of_orders_and_nodes_never_reaches_the_clearing(market in markets(), seed in any::<u64>()) {
        let (network, clearing) = cleared(&market);
        let shuffled = market.shuffled(seed);
        let (network_2, clearing_2) = cleared(&shuffled);
        for (order, fill) in market.orders.iter().zip(&clearing.fills) {
            let place = shuffled.orders.iter().position(|other| other.id == order.id).unwrap();
            prop_assert_eq!(*fill, clearing_2.fills[place]);
        }
        for (place, spec) in network.specs().iter().enumerate() {
            let place_2 = network_2.index_of(&spec.id).unwrap().get();
            prop_assert_eq!(clearing.prices[place], clearing_2.prices[place_2]);
            prop_assert_eq!(clearing.flows[place], clearing_2.flows[place_2]);
        }
        let money = |clearing: &Clearing| (clearing.fees, clearing.congestion_rent, clearing.welfare);
        prop_assert_eq!(money(&clearing), money(&clearing_2));
    }

    #[test]
    fn fills_flows_and_prices_are_those_of_the_rules_written_out_plainly(
        market in markets(),
        // Small energies and such that need more than 32 bits are kept in steps of different width.
        factor in prop_oneof![3 => Just(1), 1 => Just(3_000_000_019)],
    ) {
        let market = market.scaled(factor);
        let (network, clearing) = cleared(&market);
        let plain = plain::clear(&network, &market.orders(&network), market.supplier.as_ref());
        prop_assert_eq!(&clearing.flows, &plain.flows);
        prop_assert_eq!(clearing.fills.iter().map(|fill| wh(*fill)).collect::<Vec<_>>(), plain.fills);
        prop_assert_eq!(clearing.prices.iter().map(|price| price.map(Price::get)).collect::<Vec<_>>(), plain.prices);
    }
}

fn wh(energy: WattHours) -> i64 {
    energy.get().try_into().unwrap()
}

/// Paid by buyers − paid to sellers − paid to the supplier, everyone at its node's price.
fn cash_left(network: &Network, market: &Market, clearing: &Clearing) -> i128 {
    let value = |node: usize, energy: i64| {
        clearing.prices[node].map_or(0, |price| i128::from(price.get()) * i128::from(energy))
    };
    let orders = market.orders(network);
    let community: i128 = orders
        .iter()
        .zip(&clearing.fills)
        .map(|(order, fill)| match order.side {
            Side::Buy => value(order.node.get(), wh(*fill)),
            Side::Sell => -value(order.node.get(), wh(*fill)),
        })
        .sum();
    community - value(network.root().get(), wh(clearing.import) - wh(clearing.export))
}

/// The greatest welfare, by the simplex method. The numbers of the random markets are small: the optimum of such a flow is
/// an integer, and what floating point adds to it is far below one half.
fn lp_welfare(network: &Network, orders: &[Order<String>], supplier: Option<&Supplier>) -> i128 {
    let mut problem = Problem::new(OptimizationDirection::Maximize);
    let mut balances: Vec<Vec<(Variable, f64)>> = vec![vec![]; network.len()];
    let most = |energy: Option<WattHours>| energy.map_or(f64::INFINITY, |energy| float(wh(energy)));
    for order in orders {
        let sign = if order.side == Side::Buy { 1.0 } else { -1.0 };
        let variable = problem.add_var(sign * float(order.price.get()), (0.0, most(Some(order.quantity))));
        balances[order.node.get()].push((variable, -sign));
    }
    for (place, spec) in network.specs().iter().enumerate() {
        let Some(parent) = &spec.parent else { continue };
        let parent = network.index_of(parent).unwrap().get();
        for (fee, limit, sign) in [(spec.fee_up, spec.up, 1.0), (spec.fee_down, spec.down, -1.0)] {
            let flow = problem.add_var(-float(fee.get()), (0.0, most(limit)));
            balances[place].push((flow, -sign));
            balances[parent].push((flow, sign));
        }
    }
    if let Some(supplier) = supplier {
        let import = problem.add_var(-float(supplier.import_price.get()), (0.0, most(supplier.import_limit)));
        let export = problem.add_var(float(supplier.export_price.get()), (0.0, most(supplier.export_limit)));
        balances[network.root().get()].extend([(import, 1.0), (export, -1.0)]);
    }
    for balance in balances {
        let mut sum = LinearExpr::empty();
        balance.into_iter().for_each(|(variable, factor)| sum.add(variable, factor));
        problem.add_constraint(sum, ComparisonOp::Eq, 0.0);
    }
    rounded(problem.solve().unwrap().objective())
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53 in these tests")]
fn float(number: i64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, reason = "checked to lie next to an integer")]
fn rounded(number: f64) -> i128 {
    assert!((number - number.round()).abs() < 1e-3, "{number} is no integer");
    number.round() as i128
}

fn order(id: &str, network: &Network, side: Side, price: i64, quantity: u64) -> Order<String> {
    let (price, quantity) = (Price::new(price), WattHours::new(quantity));
    Order { id: id.to_owned(), node: network.root(), side, price, quantity }
}

#[test]
fn bad_orders_are_refused_with_their_position() {
    let network = Network::new(&[node("grid", None)]).unwrap();
    let larger = Network::new(&[node("a", Some("grid")), node("grid", None)]).unwrap();
    let sell = |id: &str| order(id, &network, Side::Sell, 1, 1);
    let refusal = |orders: &[Order<String>]| clear(&network, orders, None).unwrap_err().to_string();
    assert_eq!(refusal(&[sell("b"), sell("a"), sell("b")]), "order 2 has the same id as order 0");
    let stranger = order("c", &larger, Side::Sell, 1, 1);
    assert_eq!(refusal(&[sell("a"), stranger]), "order 1 is at node 1, but the network has 1 nodes");
    let dear = order("d", &network, Side::Buy, PRICE_MAX.get() + 1, 1);
    assert_eq!(refusal(&[dear]), "price of order 0 is 1000000000001 µ/kWh, beyond ±1000000000000 µ/kWh");
    let much = [sell("e"), order("f", &network, Side::Buy, 1, ENERGY_MAX.get())];
    assert_eq!(
        refusal(&much),
        "the energy of all orders up to 1 adds up to more than 1152921504606846976 Wh"
    );
}

#[test]
fn a_supplier_that_buys_above_its_own_selling_price_is_refused() {
    let network = Network::new(&[node("grid", None)]).unwrap();
    let supplier = Supplier {
        import_price: Price::new(1),
        export_price: Price::new(2),
        import_limit: None,
        export_limit: None,
    };
    let crossed = MarketError::SupplierPricesCrossed { import: Price::new(1), export: Price::new(2) };
    assert_eq!(clear::<u32>(&network, &[], Some(&supplier)), Err(crossed));
}

#[test]
fn the_largest_energy_at_the_largest_price_is_still_exact() {
    let nodes = [node("grid", None), node("a", Some("grid")), node("b", Some("a"))];
    let nodes = nodes.map(|node| market::NodeSpec { fee_up: PRICE_MAX, fee_down: PRICE_MAX, ..node });
    let network = Network::new(&nodes).unwrap();
    let half = ENERGY_MAX.get() / 2;
    let far = network.index_of(&nodes[2].id).unwrap();
    let orders = [
        Order { node: far, ..order("s", &network, Side::Sell, -PRICE_MAX.get(), half) },
        order("b", &network, Side::Buy, PRICE_MAX.get(), half),
    ];
    let clearing = clear(&network, &orders, None).unwrap();
    // Two fees of the largest price eat up the whole spread of two: the trade is worth nothing, and both refusing and taking
    // it are optimal. At equal prices the local sell comes first.
    assert_eq!(clearing.fills, [WattHours::new(half), WattHours::new(half)]);
    assert_eq!(clearing.fees, Money::new(2 * i128::from(PRICE_MAX.get()) * i128::from(half)));
    assert_eq!(clearing.welfare, Money::ZERO);
    assert_eq!(clearing.prices, [PRICE_MAX, Price::ZERO, Price::new(-PRICE_MAX.get())].map(Some));
}

#[test]
fn a_limit_larger_than_any_energy_clears_as_none() {
    let clearing_with = |limit: Option<u64>| {
        let limit = limit.map(WattHours::new);
        let nodes = [node("grid", None), node("a", Some("grid")), node("b", Some("grid"))];
        let nodes = nodes.map(|node| market::NodeSpec { up: limit, down: limit, ..node });
        let network = Network::new(&nodes).unwrap();
        let at = |place: usize| network.index_of(&nodes[place].id).unwrap();
        let orders = [
            Order { node: at(1), ..order("s", &network, Side::Sell, 100, 900) },
            Order { node: at(2), ..order("b", &network, Side::Buy, 200, 500) },
        ];
        clear(&network, &orders, None).unwrap()
    };
    let unlimited = clearing_with(None);
    assert_eq!(unlimited.fills, [WattHours::new(500); 2]);
    for limit in [ENERGY_MAX.get(), 1 << 63, u64::MAX] {
        assert_eq!(clearing_with(Some(limit)), unlimited, "{limit}");
    }
}
