//! What must hold for every matching, on random networks.

use crate::random::{networks, node};
use energy::{Money, Price, WattHours};
use market::{
    HomeMatch, MarketError, MatchHome, Matching, Network, NodeIndex, NodeSpec, Tariff, match_neighbours,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Street {
    nodes: Vec<NodeSpec>,
    tariff: Tariff,
    homes: Vec<MatchHome<String>>,
}

impl Street {
    fn network(&self) -> Network {
        Network::new(&self.nodes).unwrap()
    }

    fn matched(&self) -> Matching {
        match_neighbours(&self.network(), &self.tariff, &self.homes).unwrap()
    }

    /// Homes with their results.
    fn results<'a>(
        &'a self,
        matching: &'a Matching,
    ) -> impl Iterator<Item = (&'a MatchHome<String>, &'a HomeMatch)> {
        self.homes.iter().zip(&matching.homes)
    }

    /// The home's prices at its own supplier, with network fees: (pays, receives).
    fn alone(&self, network: &Network, home: &MatchHome<String>) -> (i64, i64) {
        let import = home.import_price.unwrap_or(self.tariff.import_price).get();
        let export = home.export_price.unwrap_or(self.tariff.export_price).get();
        (
            import + network.fee_down_from_root(home.node).get(),
            export - network.fee_up_to_root(home.node).get(),
        )
    }
}

fn streets() -> impl Strategy<Value = Street> {
    let price = || prop::option::weighted(0.2, (-40i64..200).prop_map(Price::new));
    let energy = || prop_oneof![2 => Just(0u64), 1 => Just(25), 3 => 0u64..300].prop_map(WattHours::new);
    let home = (
        any::<prop::sample::Index>(),
        (energy(), energy()),
        (price(), price(), price(), price()),
        prop::option::weighted(0.2, energy()),
        "[a-c]{0,2}",
    );
    (networks(), prop::collection::vec(home, 0..14), -30i64..60, -5i64..150).prop_map(
        |(nodes, homes, export, spread)| {
            let network = Network::new(&nodes).unwrap();
            let homes =
                homes.into_iter().enumerate().map(|(place, (at, energy, prices, buy_cap, name))| MatchHome {
                    id: format!("{name}{place}"),
                    node: network.index_of(&at.get(&nodes).id).unwrap(),
                    import: energy.0,
                    export: energy.1,
                    min_sell: prices.0,
                    max_buy: prices.1,
                    import_price: prices.2,
                    export_price: prices.3,
                    buy_cap,
                });
            let homes = homes.collect();
            let tariff =
                Tariff { import_price: Price::new(export + spread), export_price: Price::new(export) };
            Street { nodes, tariff, homes }
        },
    )
}

fn value(price: i64, energy: WattHours) -> i128 {
    i128::from(price) * i128::from(energy.get())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn no_home_is_worse_off_than_with_its_supplier_alone(street in streets()) {
        let (network, matching) = (street.network(), street.matched());
        for (home, result) in street.results(&matching) {
            let (pays, receives) = street.alone(&network, home);
            let alone = value(receives, home.export) - value(pays, home.import);
            prop_assert!(result.amount().unwrap().get() >= alone, "{:?} {:?}", home, result);
        }
    }

    #[test]
    fn every_watt_hour_goes_to_one_place_and_no_limit_is_passed(street in streets()) {
        let matching = street.matched();
        let sum = |energy: fn(&HomeMatch) -> WattHours| matching.homes.iter().map(|home| energy(home).get()).sum::<u64>();
        for (home, result) in street.results(&matching) {
            prop_assert_eq!(result.sold.add(result.supplier_export), Ok(home.export));
            prop_assert_eq!(result.bought.add(result.supplier_import), Ok(home.import));
            prop_assert!(home.buy_cap.is_none_or(|cap| result.bought <= cap));
            let local = result.local_amount.get();
            if result.bought.is_zero() && let Some(least) = home.min_sell {
                prop_assert!(local >= value(least.get(), result.sold));
            }
            if result.sold.is_zero() && let Some(most) = home.max_buy {
                prop_assert!(-local <= value(most.get(), result.bought));
            }
        }
        let matched: u64 = matching.matched.iter().map(|wh| wh.get()).sum();
        prop_assert_eq!((sum(|home| home.sold), sum(|home| home.bought)), (matched, matched));
        prop_assert_eq!(sum(|home| home.supplier_import), matching.supplier_import.get());
        prop_assert_eq!(sum(|home| home.supplier_export), matching.supplier_export.get());
    }

    #[test]
    fn what_homes_the_supplier_and_the_network_receive_sums_to_zero(street in streets()) {
        let (network, matching) = (street.network(), street.matched());
        let homes = Money::sum(matching.homes.iter().map(|home| home.amount().unwrap())).unwrap();
        let all = Money::sum([homes, matching.supplier_amount, matching.fees]);
        prop_assert_eq!(all, Ok(Money::ZERO));
        prop_assert!(!matching.local_fees.is_negative());
        let supplier_fees: i128 = street.results(&matching).map(|(home, result)| {
            value(network.fee_down_from_root(home.node).get(), result.supplier_import)
                + value(network.fee_up_to_root(home.node).get(), result.supplier_export)
        }).sum();
        prop_assert_eq!(matching.fees.get() - matching.local_fees.get(), supplier_fees);
    }

    #[test]
    fn no_willing_neighbours_are_left_unmatched_at_any_node(street in streets()) {
        let (network, matching) = (street.network(), street.matched());
        if street.tariff.import_price < street.tariff.export_price {
            prop_assert!(matching.homes.iter().all(|home| home.sold.is_zero() && home.bought.is_zero()));
            return Ok(());
        }
        for place in 0..network.len() {
            let at = network.index_of(&network.specs()[place].id).unwrap();
            let left = |willing: &dyn Fn(&MatchHome<String>, &HomeMatch) -> bool| {
                street.results(&matching).any(|(home, result)| below(&network, at, home.node) && willing(home, result))
            };
            let (low, high) = (street.tariff.import_price.get(), street.tariff.export_price.get());
            let middle = (low + high).div_euclid(2);
            let seller = left(&|home, result| {
                let price = middle - network.fee_up_to_root(home.node).get() + network.fee_up_to_root(at).get();
                !result.supplier_export.is_zero()
                    && price >= home.min_sell.map_or(i64::MIN, Price::get).max(street.alone(&network, home).1)
            });
            let buyer = left(&|home, result| {
                let price = middle + network.fee_down_from_root(home.node).get() - network.fee_down_from_root(at).get();
                !result.supplier_import.is_zero()
                    && home.buy_cap.is_none_or(|cap| result.bought < cap)
                    && price <= home.max_buy.map_or(i64::MAX, Price::get).min(street.alone(&network, home).0)
            });
            prop_assert!(!(seller && buyer), "at {}", network.specs()[place].id);
        }
    }

    #[test]
    fn twins_get_equal_shares_to_one_watt_hour(street in streets()) {
        let mut street = street;
        let Some(first) = street.homes.first().cloned() else { return Ok(()) };
        for twin in ["twin1", "twin2", "0twin"] {
            street.homes.push(MatchHome { id: twin.to_owned(), ..first.clone() });
        }
        let matching = street.matched();
        let twins: Vec<_> = street.results(&matching).filter(|(home, _)| home.id == first.id || home.id.contains("twin")).collect();
        prop_assert_eq!(twins.len(), 4);
        for share in [|home: &HomeMatch| home.sold.get(), |home: &HomeMatch| home.bought.get()] {
            let shares: Vec<u64> = twins.iter().map(|(_, result)| share(result)).collect();
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{:?}", shares);
        }
    }

    #[test]
    fn the_sequence_of_homes_never_reaches_the_matching(street in streets(), turn in 0usize..14) {
        let matching = street.matched();
        let mut turned = street;
        let turn = turn.min(turned.homes.len());
        turned.homes.rotate_left(turn);
        turned.homes.reverse();
        let mut again = turned.matched();
        again.homes.reverse();
        again.homes.rotate_right(turn);
        prop_assert_eq!(matching, again);
    }
}

/// True if `node` is `top` or hangs below it.
fn below(network: &Network, top: NodeIndex, node: NodeIndex) -> bool {
    let mut at = node;
    while at != top {
        let Some(parent) = &network.specs()[at.get()].parent else { return false };
        at = network.index_of(parent).unwrap();
    }
    true
}

fn home(id: &str, node: NodeIndex, import: u64, export: u64) -> MatchHome<String> {
    MatchHome {
        id: id.to_owned(),
        node,
        import: WattHours::new(import),
        export: WattHours::new(export),
        min_sell: None,
        max_buy: None,
        import_price: None,
        export_price: None,
        buy_cap: None,
    }
}

const TARIFF: Tariff = Tariff { import_price: Price::new(250_000), export_price: Price::new(80_000) };

/// Two feeders below a transformer: 10 000 on each feeder's head, 40 000 on the transformer, away from the root.
fn two_feeders() -> (Network, impl Fn(&str) -> NodeIndex) {
    let fee = |spec: NodeSpec, fee| NodeSpec { fee_down: Price::new(fee), ..spec };
    let nodes = [
        node("grid", None),
        fee(node("lv", Some("grid")), 40_000),
        fee(node("f1", Some("lv")), 10_000),
        fee(node("f2", Some("lv")), 10_000),
    ];
    let network = Network::new(&nodes).unwrap();
    let inner = network.clone();
    (network, move |id| {
        inner.index_of(&nodes.iter().find(|node| node.id.as_str() == id).unwrap().id).unwrap()
    })
}

#[test]
fn the_nearest_neighbour_comes_first_and_distance_costs_its_fees() {
    let (network, at) = two_feeders();
    let homes =
        [home("far", at("f2"), 500, 0), home("near", at("f1"), 300, 0), home("sun", at("f1"), 0, 600)];
    let matching = match_neighbours(&network, &TARIFF, &homes).unwrap();
    let [far, near, sun] = &matching.homes[..] else { panic!("three homes") };
    // M is 165 000. The neighbour on the feeder pays just that, the one on the other feeder 10 000 more.
    assert_eq!((near.bought.get(), near.local_amount), (300, Money::new(-300 * 165_000)));
    assert_eq!((far.bought.get(), far.local_amount), (300, Money::new(-300 * 175_000)));
    assert_eq!((sun.sold.get(), sun.local_amount), (600, Money::new(600 * 165_000)));
    assert_eq!((far.supplier_import.get(), far.supplier_amount), (200, Money::new(-200 * 300_000)));
    assert_eq!(matching.local_fees, Money::new(300 * 10_000));
    assert_eq!(matching.fees, Money::new(300 * 10_000 + 200 * 50_000));
    assert_eq!(matching.supplier_amount, Money::new(200 * 250_000));
    assert_eq!(matching.matched[at("f1").get()].get(), 300);
    assert_eq!(matching.matched[at("lv").get()].get(), 300);
}

#[test]
fn bad_homes_are_refused_with_their_position() {
    let (network, at) = two_feeders();
    let refusal = |homes: &[MatchHome<String>]| match_neighbours(&network, &TARIFF, homes).unwrap_err();
    let homes = [home("b", at("f1"), 0, 0), home("a", at("f1"), 0, 0), home("b", at("f2"), 0, 0)];
    assert_eq!(refusal(&homes).to_string(), "home 2 has the same id as home 0");
    let dear = MatchHome { min_sell: Some(Price::new(i64::MIN)), ..home("a", at("f1"), 1, 1) };
    assert!(matches!(refusal(&[dear]), MarketError::PriceOutOfRange { index: 0, field: "min_sell", .. }));
    let much = [home("a", at("f1"), 1, 1), home("b", at("f1"), u64::MAX, 1)];
    assert_eq!(refusal(&much), MarketError::TooMuchEnergy { what: "homes", index: 1 });
}
