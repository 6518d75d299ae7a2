//! Sharing by key, incentives, participation and losses: what must hold for every street.

use crate::posted::path;
use crate::streets::{Street, of, streets};
use energy::{Money, Price, WattHours};
use market::{
    Account, Division, HomeSettlement, Losses, MarketError, Metered, Network, NodeIndex, NodeSpec,
    PostingKind, SettleHome, Settlement, Sharing, SupplierLeg, Unused, losses, settle, settle_correction,
};
use proptest::prelude::*;

impl Street {
    fn results<'a>(
        &'a self,
        settlement: &'a Settlement<u32>,
    ) -> impl Iterator<Item = (&'a SettleHome<u32>, &'a HomeSettlement)> + Clone {
        self.homes.iter().zip(&settlement.homes)
    }

    /// The lowest node above all homes that take part.
    fn meeting_point(&self, network: &Network) -> NodeIndex {
        let above_all = |node: &NodeIndex| {
            let mut part = self.homes.iter().filter(|home| home.participation_permille > 0);
            part.all(|home| path(network, home.node).contains(node))
        };
        let deepest = self.homes.iter().find(|home| home.participation_permille > 0);
        let way = deepest.map_or(vec![network.root()], |home| path(network, home.node));
        way.into_iter().find(above_all).unwrap()
    }
}

/// What of the home's energy after its position takes part, as (import, export).
fn taking_part(home: &SettleHome<u32>, result: &HomeSettlement) -> (u64, u64) {
    let part = |whole: WattHours| whole.get() * u64::from(home.participation_permille) / 1000;
    let matched = result.matched;
    (
        part(matched.bought.add(matched.supplier_import).unwrap()),
        part(matched.sold.add(matched.supplier_export).unwrap()),
    )
}

fn value(price: i64, energy: u64) -> i128 {
    i128::from(price) * i128::from(energy)
}

/// The key's fixed price, 0 without one; `None` for other rules.
fn key_price(sharing: Sharing) -> Option<i64> {
    match sharing {
        Sharing::StaticKey { price, .. } | Sharing::DynamicKey { price } => Some(price.map_or(0, Price::get)),
        Sharing::Neighbour | Sharing::Incentive { .. } => None,
    }
}

/// The most a home may buy with a key: what it needs, inside its means after the costliest sale.
fn buying_cap(
    street: &Street,
    network: &Network,
    home: &SettleHome<u32>,
    result: &HomeSettlement,
) -> (u64, u64) {
    let (need, surplus) = taking_part(home, result);
    let price = key_price(street.sharing).unwrap();
    let way = path(network, home.node);
    let way = way.iter().take_while(|node| **node != street.meeting_point(network));
    let fees = way
        .map(|node| &network.specs()[node.get()])
        .fold((0, 0), |(up, down), spec| (up + spec.fee_up.get(), down + spec.fee_down.get()));
    let means = home.free_balance.add(home.position.amount).unwrap().get();
    let sale = value((fees.0 - price).max(0), surplus);
    let (left, surplus) = if sale <= means { (means - sale, surplus) } else { (means, 0) };
    let pays = price + fees.1;
    let cap = if pays <= 0 { u64::MAX } else { u64::try_from(left / i128::from(pays)).unwrap() };
    (need.min(cap), surplus)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_is_given_is_taken_and_only_what_takes_part(street in streets()) {
        let settlement = street.settled();
        let sum = |of: fn(&HomeSettlement) -> u64| settlement.homes.iter().map(of).sum::<u64>();
        let matched: u64 = settlement.matched.iter().map(|energy| energy.get()).sum();
        prop_assert_eq!((sum(|home| home.matched.sold.get()), sum(|home| home.matched.bought.get())), (matched, matched));
        for (home, result) in street.results(&settlement) {
            let (need, surplus) = taking_part(home, result);
            prop_assert!(result.matched.bought.get() <= need && result.matched.sold.get() <= surplus);
        }
    }

    #[test]
    fn between_neighbours_no_home_is_worse_off_than_with_its_supplier_alone(street in streets()) {
        let street = Street { sharing: Sharing::Neighbour, ..street };
        let (network, settlement) = (street.network(), street.settled());
        for (home, result) in street.results(&settlement) {
            let matched = result.matched;
            let pays = home.import_price.unwrap_or(street.tariff.import_price).get() + network.fee_down_from_root(home.node).get();
            let receives = home.export_price.unwrap_or(street.tariff.export_price).get() - network.fee_up_to_root(home.node).get();
            let alone = value(receives, matched.sold.get() + matched.supplier_export.get())
                - value(pays, matched.bought.get() + matched.supplier_import.get());
            prop_assert!(matched.amount().unwrap().get() >= alone, "{:?} {:?}", home, result);
        }
    }

    #[test]
    fn with_a_key_everyone_pays_its_price_and_the_way_to_where_all_meet(street in streets()) {
        let Some(price) = key_price(street.sharing) else { return Ok(()) };
        let (network, settlement) = (street.network(), street.settled());
        let meet = street.meeting_point(&network);
        for (home, result) in street.results(&settlement) {
            let between = |of: fn(&NodeSpec) -> Price| {
                let way = path(&network, home.node);
                way.iter().take_while(|node| **node != meet).map(|node| of(&network.specs()[node.get()]).get()).sum::<i64>()
            };
            let matched = result.matched;
            if matched.sold.is_zero() && matched.bought.is_zero() {
                prop_assert_eq!(matched.local_amount, Money::ZERO);
                continue;
            }
            let (up, down) = (between(|spec| spec.fee_up), between(|spec| spec.fee_down));
            let amount = value(price - up, matched.sold.get()) - value(price + down, matched.bought.get());
            prop_assert_eq!(matched.local_amount.get(), amount);
        }
        let elsewhere = settlement.matched.iter().enumerate().filter(|(node, _)| *node != meet.get());
        prop_assert!(elsewhere.into_iter().all(|(_, energy)| energy.is_zero()));
    }

    #[test]
    fn producers_give_to_a_key_pro_rata(street in streets()) {
        if key_price(street.sharing).is_none() { return Ok(()) }
        let (network, settlement) = (street.network(), street.settled());
        let offers: Vec<(u64, u64)> = street.results(&settlement).map(|(home, result)| {
            (buying_cap(&street, &network, home, result).1, result.matched.sold.get())
        }).collect();
        let (all, sold): (u64, u64) = (offers.iter().map(|it| it.0).sum(), offers.iter().map(|it| it.1).sum());
        for (offered, given) in offers {
            prop_assert!((given * all).abs_diff(offered * sold) < all.max(1), "{} of {}", given, offered);
        }
    }

    #[test]
    fn a_static_key_gives_everyone_its_share_or_what_it_can_take(street in streets()) {
        let Sharing::StaticKey { unused, .. } = street.sharing else { return Ok(()) };
        let (network, settlement) = (street.network(), street.settled());
        let bounds = street.results(&settlement).map(|(home, result)| buying_cap(&street, &network, home, result));
        let all: u64 = bounds.clone().map(|it| it.1).sum();
        let shares: u64 = street.homes.iter().map(|home| u64::from(home.share_permyriad)).sum();
        let (shared, taken) = (all * shares / 10_000, settlement.homes.iter().map(|it| it.matched.bought.get()).sum::<u64>());
        let takers: Vec<_> = street.results(&settlement).zip(bounds).collect();
        for ((home, result), (cap, _)) in &takers {
            let (share, bought) = (u64::from(home.share_permyriad), result.matched.bought.get());
            prop_assert!(bought <= *cap && (share > 0 || bought == 0));
            if unused == Unused::Lost {
                // Its exact share of what is shared, to less than 1 Wh, unless it cannot take so much.
                let low = bought * shares + shares.max(1) > shared * share || bought == *cap;
                prop_assert!(low && bought * shares < shared * share + shares.max(1), "{:?}", result);
            }
        }
        if unused == Unused::PassedOn {
            let room = takers.iter().any(|((home, result), (cap, _))| home.share_permyriad > 0 && result.matched.bought.get() < *cap);
            prop_assert!(taken == shared || !room);
        }
    }

    #[test]
    fn a_dynamic_key_serves_everyone_in_the_same_relation_to_its_consumption(street in streets()) {
        if !matches!(street.sharing, Sharing::DynamicKey { .. }) { return Ok(()) }
        let (network, settlement) = (street.network(), street.settled());
        let all: u64 = street.results(&settlement).map(|(home, result)| buying_cap(&street, &network, home, result).1).sum();
        let taken: u64 = settlement.homes.iter().map(|it| it.matched.bought.get()).sum();
        for (home, result) in street.results(&settlement) {
            let ((need, _), cap) = (taking_part(home, result), buying_cap(&street, &network, home, result).0);
            let bought = result.matched.bought.get();
            if bought == cap { continue }
            prop_assert_eq!(taken, all, "somebody still needs energy and has the means");
            for (other, its) in street.results(&settlement) {
                let (others_need, _) = taking_part(other, its);
                // Nobody has more for its consumption, to 1 Wh on either side.
                prop_assert!(its.matched.bought.get().saturating_sub(1) * need <= (bought + 1) * others_need);
            }
        }
    }

    #[test]
    fn an_incentive_is_shown_exactly_and_changes_nothing_else(street in streets()) {
        let Sharing::Incentive { payment, division } = street.sharing else {
            prop_assert!(street.settled().homes.iter().all(|home| home.incentive == Money::ZERO));
            return Ok(());
        };
        let settlement = street.settled();
        let part = |of: fn(Metered) -> WattHours| street.homes.iter().map(|home| {
            of(home.metered.unwrap_or_default()).get() * u64::from(home.participation_permille) / 1000
        }).collect::<Vec<u64>>();
        let (gave, took) = (part(|metered| metered.export), part(|metered| metered.import));
        let (gives, takes): (u64, u64) = (gave.iter().sum(), took.iter().sum());
        let all = value(payment.get(), gives.min(takes));
        prop_assert_eq!(settlement.incentive.get(), all);
        prop_assert_eq!(settlement.homes.iter().map(|home| home.incentive.get()).sum::<i128>(), all);
        let (producers, consumers) = match division {
            Division::Producers => (all, 0),
            Division::Consumers => (0, all),
            Division::Halves => (all - all / 2, all / 2),
        };
        for (home, (gave, took)) in settlement.homes.iter().zip(gave.into_iter().zip(took)) {
            prop_assert!(home.matched.sold.is_zero() && home.matched.bought.is_zero());
            prop_assert_eq!(home.matched.local_amount, Money::ZERO);
            let floors = producers * i128::from(gave) / i128::from(gives.max(1)) + consumers * i128::from(took) / i128::from(takes.max(1));
            prop_assert!((floors..=floors + 2).contains(&home.incentive.get()));
        }
        // What is posted is what would be if nobody took part.
        let mut alone = street.clone();
        alone.sharing = Sharing::Neighbour;
        alone.homes.iter_mut().for_each(|home| home.participation_permille = 0);
        prop_assert_eq!(settlement.postings, alone.settled().postings);
    }

    #[test]
    fn losses_are_paid_pro_rata_to_imports_or_not_at_all(mut street in streets(), permille in 0i64..130) {
        // The root meter says a little more than the homes'.
        let net = |of: Metered| of.import.signed_sub(of.export).unwrap();
        let homes = || street.homes.iter().map(|home| home.metered.unwrap_or_default());
        let taken: u64 = homes().map(|of| of.import.get()).sum();
        let all = homes().map(net).sum::<i64>() + i64::try_from(taken).unwrap() * permille / 1000;
        let part = |net: i64| WattHours::new(u64::try_from(net).unwrap_or(0));
        street.root = street.root.map(|_| Metered { import: part(all), export: part(-all) });
        let settlement = street.settled();
        let lost = losses(street.root, street.homes.iter().map(|home| home.metered));
        let imports: u64 = street.homes.iter().map(|home| home.metered.unwrap_or_default().import.get()).sum();
        let lost = match lost {
            Some(lost) if lost > 0 && imports > 0 && street.losses == Losses::Community => u64::try_from(lost).unwrap(),
            _ => 0,
        };
        // More than a tenth of what the meters took is no loss that anybody pays for.
        let lost = if lost * 10 <= imports { lost } else { 0 };
        let price = street.tariff.import_price.get();
        prop_assert_eq!(settlement.loss.get(), -value(price, lost));
        for (home, result) in street.results(&settlement) {
            let import = home.metered.unwrap_or_default().import.get();
            let exact = -value(price, lost * import);
            let close = (result.loss.get() * i128::from(imports) - exact).abs();
            prop_assert!(close <= i128::from(price.abs()) * i128::from(imports), "less than 1 Wh beside its part");
        }
        let posted = of(&settlement.postings, &Account::Supplier, PostingKind::Loss);
        if street.leg == SupplierLeg::Outside {
            prop_assert!(settlement.postings.iter().all(|posting| posting.kind != PostingKind::Loss));
        } else if settlement.homes.iter().all(|home| home.claim == Money::ZERO) {
            prop_assert_eq!(posted, settlement.loss.neg().unwrap());
        }
    }

    #[test]
    fn the_sequence_of_homes_never_reaches_the_settlement(street in streets(), turn in 0usize..12) {
        let settlement = street.settled();
        let mut turned = street;
        let turn = turn.min(turned.homes.len());
        turned.homes.rotate_left(turn);
        turned.homes.reverse();
        let mut again = turned.settled();
        again.homes.reverse();
        again.homes.rotate_right(turn);
        prop_assert_eq!(settlement, again);
    }

    #[test]
    fn a_meter_that_takes_no_part_is_its_suppliers_alone_and_corrected_at_its_prices(street in streets()) {
        let mut street = street;
        street.homes.iter_mut().for_each(|home| home.participation_permille = 0);
        let (network, settlement) = (street.network(), street.settled());
        for (home, result) in street.results(&settlement) {
            prop_assert!(result.matched.sold.is_zero() && result.matched.bought.is_zero());
            let pays = home.import_price.unwrap_or(street.tariff.import_price).get() + network.fee_down_from_root(home.node).get();
            let (less, _, _) = settle_correction(&street.terms(&network), home, -10, 0).unwrap();
            prop_assert_eq!(less.get(), value(pays, 10));
        }
    }
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let nodes = [crate::random::node("grid", None)];
    let network = Network::new(&nodes).unwrap();
    let home = |id, share_permyriad, participation_permille| SettleHome {
        id,
        node: network.root(),
        metered: None,
        position: market::Position::default(),
        min_sell: None,
        max_buy: None,
        import_price: None,
        export_price: None,
        share_permyriad,
        participation_permille,
        free_balance: Money::ZERO,
    };
    let refusal = |sharing, homes: &[SettleHome<u32>]| {
        let tariff = market::Tariff { import_price: Price::new(2), export_price: Price::new(1) };
        let (leg, losses) = (SupplierLeg::Ledger, Losses::Recorded);
        let terms = market::Terms { network: &network, tariff, leg, sharing, losses };
        settle(&terms, homes, Money::ZERO, Money::ZERO, None).err()
    };
    let key = Sharing::StaticKey { price: None, unused: Unused::Lost };
    let too_much = [home(1, 5_000, 1000), home(2, 5_001, 1000)];
    assert_eq!(refusal(key, &too_much), Some(MarketError::SharesTooHigh { sum: 10_001 }));
    // Without a static key shares do not count.
    assert_eq!(refusal(Sharing::DynamicKey { price: None }, &too_much), None);
    assert_eq!(refusal(key, &[home(1, 5_000, 1000), home(2, 5_000, 0)]), None);
    let whole = [home(1, 0, 1000), home(2, 0, 1001)];
    let refused = MarketError::ParticipationTooHigh { index: 1, permille: 1001 };
    assert_eq!(refusal(Sharing::Neighbour, &whole), Some(refused));
    let payment = Price::new(-1);
    let charge = Sharing::Incentive { payment, division: Division::Halves };
    assert_eq!(refusal(charge, &[]), Some(MarketError::NegativePayment { payment }));
    let dear = Sharing::DynamicKey { price: Some(Price::new(market::PRICE_MAX.get() + 1)) };
    assert!(matches!(refusal(dear, &[]), Some(MarketError::PriceOutOfRange { what: "sharing", .. })));
}

#[test]
fn meters_that_say_more_than_can_be_summed_are_refused_even_if_positions_cover_them() {
    let nodes = [crate::random::node("grid", None)];
    let network = Network::new(&nodes).unwrap();
    let much = WattHours::new(market::ENERGY_MAX.get() - 1);
    let home = |id| SettleHome {
        id,
        node: network.root(),
        metered: Some(Metered { import: much, export: WattHours::ZERO }),
        position: market::Position { sold: WattHours::ZERO, bought: much, amount: Money::ZERO },
        min_sell: None,
        max_buy: None,
        import_price: None,
        export_price: None,
        share_permyriad: 0,
        participation_permille: 1000,
        free_balance: Money::ZERO,
    };
    let tariff = market::Tariff { import_price: Price::new(2), export_price: Price::new(1) };
    let (leg, losses, division) = (SupplierLeg::Ledger, Losses::Recorded, Division::Halves);
    let sharing = Sharing::Incentive { payment: Price::new(1), division };
    let terms = market::Terms { network: &network, tariff, leg, sharing, losses };
    let refusal = settle(&terms, &[home(1), home(2)], Money::ZERO, Money::ZERO, None).unwrap_err();
    assert_eq!(refusal, MarketError::TooMuchEnergy { what: "homes", index: 1 });
}
