//! One interval's money: what must hold for every street by every rule, and examples to check by hand.

use crate::random::node;
use crate::streets::{of, streets};
use energy::{Money, Price, WattHours};
use market::{
    Account, HomeSettlement, Losses, MarketError, Metered, Network, NodeSpec, Position, Posting, PostingKind,
    SettleHome, Settlement, Sharing, SupplierLeg, Tariff, Terms, losses, settle, settle_correction,
    settle_late,
};
use proptest::prelude::*;

fn of_home(postings: &[Posting<u32>], id: u32) -> Money {
    Money::sum(postings.iter().filter(|it| it.account == Account::Home(id)).map(|it| it.amount)).unwrap()
}

/// Sorted, one per account and kind, none of zero, and they sum to zero.
fn assert_a_book(postings: &[Posting<u32>]) {
    assert!(postings.is_sorted_by(|a, b| (&a.account, a.kind) < (&b.account, b.kind)), "{postings:?}");
    assert!(postings.iter().all(|posting| posting.amount != Money::ZERO), "{postings:?}");
    assert_eq!(Money::sum(postings.iter().map(|posting| posting.amount)), Ok(Money::ZERO));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn postings_sum_to_zero_and_never_take_a_home_below_zero(street in streets()) {
        let settlement = street.settled();
        assert_a_book(&settlement.postings);
        for (home, result) in street.homes.iter().zip(&settlement.homes) {
            let posted = of_home(&settlement.postings, home.id);
            prop_assert!(!home.free_balance.add(posted).unwrap().is_negative());
            prop_assert!(!result.claim.is_negative());
            let owed = match street.leg {
                SupplierLeg::Ledger => result.amount().unwrap().add(result.claim).unwrap(),
                SupplierLeg::Outside => result.position.amount.add(result.matched.local_amount).unwrap(),
            };
            prop_assert_eq!(posted, owed, "only a claim stays unposted");
            // A claim means that nothing is left.
            prop_assert!(result.claim == Money::ZERO || home.free_balance.add(posted) == Ok(Money::ZERO));
        }
    }

    #[test]
    fn every_metered_watt_hour_is_settled_once(street in streets()) {
        for result in street.settled().homes {
            let HomeSettlement { metered, position, matched, .. } = result;
            let Some(metered) = metered else {
                prop_assert_eq!(matched, market::HomeMatch::default(), "the position settles alone");
                continue;
            };
            let wh = |energy: WattHours| i64::try_from(energy.get()).unwrap();
            let metered = wh(metered.import) - wh(metered.export);
            let local = wh(position.bought) - wh(position.sold) + wh(matched.bought) - wh(matched.sold);
            prop_assert_eq!(metered, local + wh(matched.supplier_import) - wh(matched.supplier_export));
        }
    }

    #[test]
    fn the_network_and_the_congestion_account_get_exactly_theirs(street in streets()) {
        let settlement = street.settled();
        let rent = of(&settlement.postings, &Account::Congestion, PostingKind::Rent);
        prop_assert_eq!(rent, street.rent);
        let local: Money = Money::sum(settlement.homes.iter().map(|home| home.matched.local_amount)).unwrap();
        let metered = match street.leg {
            SupplierLeg::Ledger => settlement.fees,
            SupplierLeg::Outside => local.neg().unwrap(),
        };
        let network = of(&settlement.postings, &Account::Network, PostingKind::Fee);
        prop_assert_eq!(network, street.forward_fees().add(metered).unwrap());
        if street.leg == SupplierLeg::Outside {
            prop_assert!(settlement.postings.iter().all(|posting| posting.account != Account::Supplier));
        }
    }

    #[test]
    fn a_late_reading_settles_what_the_supplier_alone_would_have(street in streets()) {
        let network = street.network();
        for home in &street.homes {
            let (result, postings) = settle_late(&street.terms(&network), home).unwrap();
            assert_a_book(&postings);
            prop_assert!(postings.iter().all(|posting| posting.kind == PostingKind::Late));
            let posted = of_home(&postings, home.id);
            prop_assert!(!home.free_balance.add(posted).unwrap().is_negative());
            prop_assert_eq!(result.matched.local_amount, Money::ZERO);
            if street.leg == SupplierLeg::Ledger {
                prop_assert_eq!(posted, result.matched.supplier_amount.add(result.claim).unwrap());
            }
            // Alone in the network, settling in time comes to the same.
            let alone = [SettleHome { position: Position { amount: Money::ZERO, ..home.position }, ..home.clone() }];
            let crossed = Tariff { import_price: street.tariff.import_price, export_price: Price::new(1_000) };
            let own = [SettleHome { import_price: Some(home.import_price.unwrap_or(street.tariff.import_price)),
                export_price: Some(home.export_price.unwrap_or(street.tariff.export_price)), ..alone[0].clone() }];
            let neighbours = Terms { tariff: crossed, sharing: Sharing::Neighbour, losses: Losses::Recorded, ..street.terms(&network) };
            let timely = settle(&neighbours, &own, Money::ZERO, Money::ZERO, None).unwrap();
            prop_assert_eq!(timely.homes[0].matched, result.matched);
            prop_assert_eq!((result.loss, result.incentive), (Money::ZERO, Money::ZERO));
        }
    }

    #[test]
    fn correcting_there_and_back_never_pays(street in streets(), import in -500i64..500, export in -500i64..500) {
        let network = street.network();
        for home in &street.homes {
            let correct = |import, export| settle_correction(&street.terms(&network), home, import, export).unwrap();
            let (there, claim, postings) = correct(import, export);
            let (back, _, _) = correct(-import, -export);
            prop_assert!(there.add(back).unwrap() <= Money::ZERO);
            assert_a_book(&postings);
            let posted = of_home(&postings, home.id);
            prop_assert!(!home.free_balance.add(posted).unwrap().is_negative());
            if street.leg == SupplierLeg::Ledger {
                prop_assert_eq!(posted, there.add(claim).unwrap());
            } else {
                prop_assert!(postings.is_empty() && claim == Money::ZERO);
            }
            let fees = of(&postings, &Account::Network, PostingKind::Correction);
            prop_assert!(!fees.is_negative());
        }
    }
}

const TARIFF: Tariff = Tariff { import_price: Price::new(250), export_price: Price::new(80) };

/// One street below a transformer that charges 40 on energy from the grid; M is 165.
fn street() -> Network {
    let street = NodeSpec { fee_down: Price::new(40), ..node("street", Some("grid")) };
    Network::new(&[node("grid", None), street]).unwrap()
}

/// Between neighbours, with the supplier on the ledger.
fn terms(network: &Network) -> Terms<'_> {
    let (leg, sharing, losses) = (SupplierLeg::Ledger, Sharing::Neighbour, Losses::Recorded);
    Terms { network, tariff: TARIFF, leg, sharing, losses }
}

fn home(network: &Network, id: u32, import: u64, export: u64) -> SettleHome<u32> {
    SettleHome {
        id,
        node: network.index_of(&node("street", None).id).unwrap(),
        metered: Some(Metered { import: WattHours::new(import), export: WattHours::new(export) }),
        position: Position::default(),
        min_sell: None,
        max_buy: None,
        import_price: None,
        export_price: None,
        share_permyriad: 0,
        participation_permille: 1000,
        free_balance: Money::new(1_000_000),
    }
}

fn position(sold: u64, bought: u64, amount: i128) -> Position {
    Position { sold: WattHours::new(sold), bought: WattHours::new(bought), amount: Money::new(amount) }
}

fn lines(postings: &[Posting<u32>]) -> Vec<String> {
    let account = |account: &Account<u32>| match account {
        Account::Home(id) => format!("home {id}"),
        other => format!("{other:?}").to_lowercase(),
    };
    postings
        .iter()
        .map(|it| format!("{} {} {}", account(&it.account), it.kind.word(), it.amount.get()))
        .collect()
}

fn settled(network: &Network, leg: SupplierLeg, homes: &[SettleHome<u32>]) -> Settlement<u32> {
    let forward = Money::sum(homes.iter().map(|home| home.position.amount)).unwrap();
    let terms = Terms { leg, ..terms(network) };
    settle(&terms, homes, forward.neg().unwrap(), Money::ZERO, None).unwrap()
}

#[test]
fn neighbours_share_at_the_middle_and_the_supplier_does_the_rest() {
    let network = street();
    let homes = [home(&network, 1, 0, 100), home(&network, 2, 160, 0)];
    assert_eq!(
        lines(&settled(&network, SupplierLeg::Ledger, &homes).postings),
        [
            "home 1 local 16500",
            "home 2 local -16500",
            // 60 Wh at 250 + 40.
            "home 2 supplier -17400",
            "supplier supplier 15000",
            "network fee 2400",
        ]
    );
    assert_eq!(
        lines(&settled(&network, SupplierLeg::Outside, &homes).postings),
        ["home 1 local 16500", "home 2 local -16500"]
    );
}

#[test]
fn a_home_without_money_buys_nothing_locally_and_owes_its_supplier() {
    let network = street();
    let poor = SettleHome { free_balance: Money::new(5_000), ..home(&network, 2, 160, 0) };
    let settlement = settled(&network, SupplierLeg::Ledger, &[home(&network, 1, 0, 100), poor]);
    // The dearest local price it could meet is 165 + 40: 5 000 pay for 24 Wh, at 165 here.
    let [rich, poor] = settlement.homes[..] else { panic!("two homes") };
    assert_eq!((rich.matched.sold.get(), poor.matched.bought.get()), (24, 24));
    assert_eq!(poor.matched.supplier_amount, Money::new(-136 * 290));
    assert_eq!(poor.claim, Money::new(136 * 290 - (5_000 - 24 * 165)));
    assert_eq!(
        lines(&settlement.postings),
        [
            "home 1 local 3960",
            "home 1 supplier 6080",
            "home 2 local -3960",
            "home 2 supplier -1040",
            // It advances the network's 136 x 40 and pays for 76 Wh of export.
            "supplier supplier -10480",
            "network fee 5440",
        ]
    );
}

#[test]
fn a_forward_sale_is_served_first_and_what_is_missing_is_bought_back() {
    let network = street();
    let seller = SettleHome { position: position(150, 0, 24_000), ..home(&network, 1, 10, 100) };
    let buyer = SettleHome { position: position(0, 150, -25_000), ..home(&network, 2, 120, 5) };
    let settlement = settled(&network, SupplierLeg::Ledger, &[seller, buyer]);
    // The seller lacks 50 beyond its import of 10; the buyer has 30 left beyond its export of 5: 35 meet.
    let [seller, buyer] = settlement.homes[..] else { panic!("two homes") };
    assert_eq!((seller.matched.bought.get(), seller.matched.supplier_import.get()), (35, 25));
    assert_eq!((buyer.matched.sold.get(), buyer.matched.supplier_export.get()), (35, 0));
    assert_eq!(seller.amount(), Ok(Money::new(24_000 - 35 * 165 - 25 * 290)));
    assert_eq!(
        lines(&settlement.postings),
        [
            "home 1 forward 24000",
            "home 1 local -5775",
            "home 1 supplier -7250",
            "home 2 forward -25000",
            "home 2 local 5775",
            "supplier supplier 6250",
            "network fee 2000",
        ]
    );
}

#[test]
fn without_a_reading_the_position_settles_alone_and_a_late_one_settles_the_rest() {
    let network = street();
    let silent = SettleHome { metered: None, position: position(100, 0, 16_000), ..home(&network, 1, 0, 0) };
    let settlement = settled(&network, SupplierLeg::Ledger, std::slice::from_ref(&silent));
    assert_eq!(lines(&settlement.postings), ["home 1 forward 16000", "network fee -16000"]);
    let metered = Some(Metered { import: WattHours::new(7), export: WattHours::new(90) });
    let late = SettleHome { metered, ..silent };
    let (result, postings) = settle_late(&terms(&network), &late).unwrap();
    // 7 Wh of import and 10 Wh of the sale that never came, at 250 + 40.
    assert_eq!(lines(&postings), ["home 1 late -4930", "supplier late 4250", "network late 680"]);
    assert_eq!(result.amount(), Ok(Money::new(16_000 - 4_930)));
}

#[test]
fn a_correction_settles_at_the_price_worse_for_the_home() {
    let network = street();
    let home = home(&network, 1, 0, 0);
    let check = |import, export, expected: &[&str]| {
        let (_, claim, postings) = settle_correction(&terms(&network), &home, import, export).unwrap();
        assert_eq!(
            (lines(&postings), claim),
            (expected.iter().map(ToString::to_string).collect(), Money::ZERO)
        );
    };
    check(10, 0, &["home 1 correction -2900", "supplier correction 2500", "network correction 400"]);
    check(-10, 0, &["home 1 correction 1650", "supplier correction -1650"]);
    check(0, 10, &["home 1 correction 800", "supplier correction -800"]);
    check(0, -10, &["home 1 correction -1650", "supplier correction 1650"]);
    check(0, 0, &[]);
    let poor = SettleHome { free_balance: Money::new(900), ..home.clone() };
    let (amount, claim, postings) = settle_correction(&terms(&network), &poor, 10, 0).unwrap();
    assert_eq!((amount, claim), (Money::new(-2_900), Money::new(2_000)));
    assert_eq!(
        lines(&postings),
        ["home 1 correction -900", "supplier correction 500", "network correction 400"]
    );
}

#[test]
fn a_seller_that_would_have_to_pay_for_selling_sits_out_beyond_its_means() {
    let far = NodeSpec { fee_up: Price::new(300), ..node("far", Some("grid")) };
    let network = Network::new(&[node("grid", None), far.clone()]).unwrap();
    let tariff = Tariff { import_price: Price::new(100), export_price: Price::new(0) };
    let seller = |free: i128| SettleHome {
        node: network.index_of(&far.id).unwrap(),
        free_balance: Money::new(free),
        ..home(&street(), 1, 0, 100)
    };
    let buyer = SettleHome { node: network.root(), ..home(&street(), 2, 100, 0) };
    let sold = |free| {
        let homes = [seller(free), buyer.clone()];
        let settlement =
            settle(&Terms { tariff, ..terms(&network) }, &homes, Money::ZERO, Money::ZERO, None).unwrap();
        assert!(!Money::new(free).add(of_home(&settlement.postings, 1)).unwrap().is_negative());
        settlement.homes[0].matched.sold.get()
    };
    // M is 50 and the way costs 300, so selling costs 250 per Wh; giving to the supplier costs 300.
    assert_eq!(sold(25_000), 100);
    assert_eq!(sold(24_999), 0);
}

#[test]
fn what_the_ledger_must_never_ask_for_is_refused() {
    let network = street();
    let refusal = |home: SettleHome<u32>, fees: i128| {
        settle(&terms(&network), &[home], Money::new(fees), Money::ZERO, None).unwrap_err()
    };
    let plain = home(&network, 1, 0, 0);
    let two_sided = SettleHome { position: position(1, 1, 0), ..plain };
    assert_eq!(refusal(two_sided, 0), MarketError::TwoSidedPosition { index: 0 });
    let uncovered = SettleHome { position: position(0, 1, -1_000_001), ..plain };
    assert_eq!(refusal(uncovered, 1_000_001), MarketError::NegativeBalance { index: 0 });
    let overdrawn = SettleHome { free_balance: Money::new(-1), ..plain };
    assert_eq!(refusal(overdrawn.clone(), 0), MarketError::NegativeBalance { index: 0 });
    assert!(settle_late(&terms(&network), &overdrawn).is_err());
    assert_eq!(refusal(plain, 5), MarketError::ForwardUnbalanced(5));
}

#[test]
fn losses_are_known_only_when_every_meter_is() {
    let metered =
        |import, export| Some(Metered { import: WattHours::new(import), export: WattHours::new(export) });
    let homes = [metered(100, 0), metered(0, 40)];
    assert_eq!(losses(metered(65, 0), homes.into_iter()), Some(5));
    assert_eq!(losses(metered(10, 0), homes.into_iter()), Some(-50));
    assert_eq!(losses(metered(65, 0), [metered(1, 0), None].into_iter()), None);
    assert_eq!(losses(None, homes.into_iter()), None);
}
