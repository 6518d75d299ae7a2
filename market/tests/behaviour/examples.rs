//! The worked examples of docs/market.md: what stands there is what comes out.

use energy::{Money, NodeId, Price, WattHours};
use market::{
    Division, Losses, Metered, Network, NodeSpec, Order, Position, SettleHome, Settlement, Sharing, Side,
    SupplierLeg, Tariff, Terms, Unused, clear, match_forward, settle, settle_correction,
};

use crate::random::node;

const DOCS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/market.md"));
const TARIFF: Tariff = Tariff { import_price: Price::new(250_000), export_price: Price::new(80_000) };
/// Id, feeder, Wh taken, Wh given, agreed share.
const STREET: [(&str, &str, u64, u64, u32); 4] = [
    ("ana", "f1", 500, 0, 5_000),
    ("ben", "f2", 300, 0, 3_000),
    ("cy", "f2", 100, 0, 2_000),
    ("sun", "f1", 0, 600, 0),
];

/// Two feeders, 10 000 µ/kWh each away from the root, below a transformer that charges 40 000.
fn network() -> Network {
    let fee = |spec: NodeSpec, fee| NodeSpec { fee_down: Price::new(fee), ..spec };
    let nodes = [
        node("grid", None),
        fee(node("lv", Some("grid")), 40_000),
        fee(node("f1", Some("lv")), 10_000),
        fee(node("f2", Some("lv")), 10_000),
    ];
    Network::new(&nodes).unwrap()
}

fn terms(network: &Network, sharing: Sharing) -> Terms<'_> {
    let (leg, losses) = (SupplierLeg::Ledger, Losses::Community);
    Terms { network, tariff: TARIFF, leg, sharing, losses }
}

fn homes(network: &Network) -> Vec<SettleHome<&'static str>> {
    let home = |(id, feeder, import, export, share_permyriad): (_, &str, _, _, _)| SettleHome {
        id,
        node: network.index_of(&NodeId::new(feeder).unwrap()).unwrap(),
        metered: Some(Metered { import: WattHours::new(import), export: WattHours::new(export) }),
        position: Position::default(),
        min_sell: None,
        max_buy: None,
        import_price: None,
        export_price: None,
        share_permyriad,
        participation_permille: 1000,
        free_balance: Money::new(1_000_000_000),
    };
    STREET.into_iter().map(home).collect()
}

/// The street's interval by a rule; 9 Wh are lost in the network.
fn settled(sharing: Sharing) -> Settlement<&'static str> {
    let network = network();
    let root = Metered { import: WattHours::new(309), export: WattHours::ZERO };
    settle(&terms(&network, sharing), &homes(&network), Money::ZERO, Money::ZERO, Some(root)).unwrap()
}

/// A whole number in groups of three digits.
fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let from_end = |at: usize| digits.len() - at;
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.char_indices() {
        if at > 0 && from_end(at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A table's rows stand in the documentation, one after the other, below a heading.
fn assert_documented(heading: &str, rows: &[Vec<String>]) {
    let section = DOCS.split_once(heading).unwrap_or_else(|| panic!("no {heading} in docs/market.md")).1;
    let section = section.split("\n#").next().unwrap();
    let table: String = rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
    assert!(section.contains(&table), "docs/market.md, {heading}: these rows are expected:\n{table}");
}

fn energy_rows(settlement: &Settlement<&'static str>) -> Vec<Vec<String>> {
    let row = |((id, ..), home): (&(&str, _, _, _, _), &market::HomeSettlement)| {
        let matched = home.matched;
        let wh = |energy: WattHours| energy.get().to_string();
        vec![
            (*id).to_owned(),
            wh(matched.sold),
            wh(matched.bought),
            grouped(matched.local_amount.get()),
            wh(matched.supplier_import.add(matched.supplier_export).unwrap()),
            grouped(matched.supplier_amount.get()),
        ]
    };
    STREET.iter().zip(&settlement.homes).map(row).collect()
}

#[test]
fn every_rule_shares_the_documented_street_as_documented() {
    let price = Some(Price::new(120_000));
    for (heading, sharing) in [
        ("### `neighbour`", Sharing::Neighbour),
        ("### `static-key`, unused shares lost", Sharing::StaticKey { price, unused: Unused::Lost }),
        ("### `static-key`, unused shares passed on", Sharing::StaticKey { price, unused: Unused::PassedOn }),
        ("### `dynamic-key`", Sharing::DynamicKey { price }),
    ] {
        assert_documented(heading, &energy_rows(&settled(sharing)));
    }
}

#[test]
fn without_a_price_only_the_network_is_paid() {
    let settlement = settled(Sharing::DynamicKey { price: None });
    let local: Vec<i128> = settlement.homes.iter().map(|home| home.matched.local_amount.get()).collect();
    // Everyone's way to the transformer: 10 000 µ/kWh for what it got, nothing for what was given.
    assert_eq!(local, [-3_330_000, -2_000_000, -670_000, 0]);
}

#[test]
fn the_documented_incentive_is_what_comes_out() {
    let payment = Price::new(110_000);
    let paid = |division| {
        let settlement = settled(Sharing::Incentive { payment, division });
        settlement.homes.iter().map(|home| grouped(home.incentive.get())).collect::<Vec<_>>()
    };
    let columns = [paid(Division::Producers), paid(Division::Consumers), paid(Division::Halves)];
    let rows: Vec<Vec<String>> = STREET
        .iter()
        .enumerate()
        .map(|(place, home)| {
            let columns = columns.iter().map(|column| column[place].clone());
            std::iter::once(home.0.to_owned()).chain(columns).collect()
        })
        .collect();
    assert_documented("### `incentive`", &rows);
}

#[test]
fn the_documented_losses_are_what_comes_out() {
    let settlement = settled(Sharing::Neighbour);
    let rows: Vec<Vec<String>> = STREET
        .iter()
        .zip(&settlement.homes)
        .map(|(home, result)| vec![home.0.to_owned(), home.2.to_string(), grouped(result.loss.get())])
        .collect();
    assert_documented("## Losses", &rows);
    assert_eq!(settlement.loss, Money::new(-9 * 250_000));
}

#[test]
fn with_a_fixed_price_a_correction_is_settled_at_the_price_worse_for_the_home() {
    let network = network();
    let homes = homes(&network);
    let by = |sharing, place: usize, import, export| {
        settle_correction(&terms(&network, sharing), &homes[place], import, export).unwrap().0.get()
    };
    let key = |price: Option<i64>| Sharing::StaticKey { price: price.map(Price::new), unused: Unused::Lost };
    // Ana: 250 000 and ways of 50 000 with the supplier; 120 000 next door.
    assert_eq!(by(key(Some(120_000)), 0, 10, 0), -10 * 300_000);
    assert_eq!(by(key(Some(120_000)), 0, -10, 0), 10 * 120_000);
    // A law may fix a price above the supplier's: then more import costs that, at the far end of the network.
    assert_eq!(by(key(Some(260_000)), 0, 10, 0), -10 * 310_000);
    // What was free is not refunded.
    assert_eq!(by(key(None), 0, -10, 0), 0);
    // Sun has no share: it never had local energy, but gave some.
    assert_eq!(by(key(Some(120_000)), 3, -10, 0), 10 * 300_000);
    assert_eq!(by(key(Some(120_000)), 3, 0, -10), -10 * 120_000);
    assert_eq!(by(key(Some(120_000)), 3, 0, 10), 10 * 80_000);
    assert_eq!(by(key(None), 3, 0, 10), 0);
    // With an incentive nothing changes hands but with the supplier.
    let incentive = Sharing::Incentive { payment: Price::new(110_000), division: Division::Halves };
    assert_eq!(by(incentive, 0, -10, 0), 10 * 300_000);
    assert_eq!(by(incentive, 3, 0, -10), -10 * 80_000);
}

#[test]
fn the_documented_posted_orders_are_matched_as_documented() {
    let network = network();
    let feeder = network.index_of(&NodeId::new("f1").unwrap()).unwrap();
    let network = network.with_limits(&[(feeder, Some(WattHours::new(60)), None)]).unwrap();
    let order = |(id, at, side, price, quantity)| Order {
        id,
        node: network.index_of(&NodeId::new(at).unwrap()).unwrap(),
        side,
        price: Price::new(price),
        quantity: WattHours::new(quantity),
    };
    let orders = [
        ("sun", "f1", Side::Sell, 100_000, 400),
        ("ana", "f1", Side::Buy, 170_000, 300),
        ("ben", "f2", Side::Buy, 180_000, 200),
        ("cy", "f2", Side::Buy, 170_000, 200),
    ]
    .map(order);
    let result = match_forward(&network, &TARIFF, &orders).unwrap();
    let rows: Vec<Vec<String>> = orders
        .iter()
        .zip(result.fills.iter().zip(&result.amounts))
        .map(|(order, (fill, amount))| {
            let side = if order.side == Side::Sell { "sells" } else { "buys" };
            let limit = grouped(order.price.get().into());
            let row = [order.id.to_owned(), format!("{side} {}", order.quantity.get()), limit];
            row.into_iter().chain([fill.get().to_string(), grouped(amount.get())]).collect()
        })
        .collect();
    assert_documented("### Posted", &rows);
}

/// A repeatable stream of numbers (Knuth's MMIX constants); only the upper bits are used.
struct Stream(u64);

impl Stream {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A book of one node: half buy, half sell, at limits anywhere between 80 000 and 300 000; from 100 to 2 000 Wh each, or one to
/// four times 500.
fn book(stream: &mut Stream, network: &Network, count: u32, round: bool) -> Vec<Order<u32>> {
    let order = |id| Order {
        id,
        node: network.root(),
        side: if id % 2 == 0 { Side::Buy } else { Side::Sell },
        price: Price::new(i64::try_from(80_000 + stream.below(220_001)).unwrap()),
        quantity: WattHours::new(if round { 500 + 500 * stream.below(4) } else { 100 + stream.below(1_901) }),
    };
    (0..count).map(order).collect()
}

/// The furthest that one more order of a quantity, on either side and at or next to any limit of the book, moves the price;
/// `None` where the book trades nothing.
fn furthest(network: &Network, orders: &[Order<u32>], quantity: u64) -> Option<u64> {
    let before = clear(network, orders, None).unwrap();
    before.fills.iter().find(|fill| !fill.is_zero())?;
    let price = |orders: &[Order<u32>]| clear(network, orders, None).unwrap().prices[0].unwrap().get();
    let undisturbed = price(orders);
    let mut furthest = 0;
    let mut more = orders.to_vec();
    for limit in orders.iter().flat_map(|order| [-1, 0, 1].map(|beside| order.price.get() + beside)) {
        for side in [Side::Buy, Side::Sell] {
            let (node, quantity) = (network.root(), WattHours::new(quantity));
            more.push(Order { id: u32::MAX, node, side, price: Price::new(limit), quantity });
            furthest = furthest.max(price(&more).abs_diff(undisturbed));
            more.pop();
        }
    }
    Some(furthest)
}

#[test]
fn the_documented_reach_of_one_order_in_an_auction_is_what_is_measured() {
    let network = Network::new(&[node("one", None)]).unwrap();
    let mut stream = Stream(1);
    let rows: Vec<Vec<String>> = [2, 4, 10, 30, 100]
        .into_iter()
        .map(|count| {
            let mut row = vec![count.to_string()];
            for (round, quantity) in [(false, 1), (true, 1), (false, 100)] {
                let mut reach = vec![];
                while reach.len() < 51 {
                    reach.extend(furthest(&network, &book(&mut stream, &network, count, round), quantity));
                }
                reach.sort_unstable();
                row.extend([25, 45, 50].map(|place: usize| grouped(reach[place].into())));
            }
            row
        })
        .collect();
    assert_documented("### What one order can do", &rows);
}
