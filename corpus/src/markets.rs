//! The auction, forward matching and settlement of any small market.

use energy::{Money, NodeId, Price, WattHours};
use market::{
    Account, Clearing, Division, Losses, Metered, Network, NodeSpec, Order, Position, Posting, SettleHome,
    Settlement, Sharing, Side, Supplier, SupplierLeg, Tariff, Terms, Unused, clear, match_forward, settle,
    settle_late,
};

use crate::Choices;

/// The auction and posted matching of one book of orders.
pub fn auction(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let network = network(&mut choices);
    let supplier = supplier(&mut choices);
    let orders = orders(&mut choices, &network);
    let mut turned = orders.clone();
    turned.reverse();
    let cleared = clear(&network, &orders, supplier.as_ref());
    match &cleared {
        Ok(clearing) => {
            judge_flows(&network, &orders, clearing);
            judge_prices(&network, &orders, supplier.as_ref(), clearing);
            let mut again = clear(&network, &turned, supplier.as_ref()).unwrap();
            again.fills.reverse();
            assert_eq!(again, *clearing, "the order in which orders are given changes nothing");
        }
        Err(_) => assert!(clear(&network, &turned, supplier.as_ref()).is_err()),
    }
    let tariff = tariff(&mut choices);
    let matched = match_forward(&network, &tariff, &orders);
    let Ok(matched) = matched else { return };
    let mut again = match_forward(&network, &tariff, &turned).unwrap();
    again.fills.reverse();
    again.amounts.reverse();
    assert_eq!(again, matched);
    let (mut sold, mut bought, mut paid) = (0u128, 0u128, 0i128);
    for ((order, fill), amount) in orders.iter().zip(&matched.fills).zip(&matched.amounts) {
        assert!(*fill <= order.quantity);
        let value = i128::from(order.price.get()) * i128::from(fill.get());
        paid += amount.get();
        match order.side {
            Side::Sell => {
                sold += u128::from(fill.get());
                assert!(amount.get() >= value, "a seller gets its limit at least");
            }
            Side::Buy => {
                bought += u128::from(fill.get());
                assert!(-amount.get() <= value, "a buyer pays its limit at most");
            }
        }
    }
    assert_eq!((sold, paid + matched.fees.get()), (bought, 0));
    assert!(matched.fees >= Money::ZERO);
}

/// One interval's settlement under any terms.
pub fn settlement(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let network = network(&mut choices);
    let terms = Terms {
        network: &network,
        tariff: tariff(&mut choices),
        leg: choices.pick(&[SupplierLeg::Ledger, SupplierLeg::Outside]),
        sharing: sharing(&mut choices),
        losses: choices.pick(&[Losses::Recorded, Losses::Community]),
    };
    let root = (!choices.one_in(3)).then(|| metered(&mut choices));
    let homes = homes(&mut choices, &network);
    let settled = settle(&terms, &homes, Money::ZERO, Money::ZERO, root);
    let mut turned = homes.clone();
    turned.reverse();
    let again = settle(&terms, &turned, Money::ZERO, Money::ZERO, root);
    match &settled {
        Ok(settlement) => {
            judge_settlement(&homes, settlement);
            let mut again = again.unwrap();
            again.homes.reverse();
            assert_eq!(again, *settlement, "the order in which homes are given changes nothing");
        }
        Err(_) => assert!(again.is_err()),
    }
    for home in &homes {
        if let Ok((result, postings)) = settle_late(&terms, home) {
            assert_book(&postings);
            assert!(home.free_balance.add(of_home(&postings, home.id)).unwrap() >= Money::ZERO);
            assert!(result.claim >= Money::ZERO);
        }
    }
}

fn network(choices: &mut Choices<'_>) -> Network {
    let count = 1 + choices.one_of(6);
    let id = |place: usize| NodeId::new(&format!("n{place}")).unwrap();
    let node = |place: usize, choices: &mut Choices<'_>| NodeSpec {
        id: id(place),
        parent: place.checked_sub(1).map(|most| id(choices.one_of(most + 1))),
        fee_up: fee(choices),
        fee_down: fee(choices),
        up: limit(choices),
        down: limit(choices),
    };
    let nodes: Vec<_> = (0..count).map(|place| node(place, choices)).collect();
    Network::new(&nodes).unwrap()
}

fn fee(choices: &mut Choices<'_>) -> Price {
    let small = i64::from(choices.byte() % 32);
    Price::new(choices.pick(&[0, 0, small, 10, 1_000_000_000_000 - small]))
}

fn limit(choices: &mut Choices<'_>) -> Option<WattHours> {
    let small = u64::from(choices.byte());
    choices.pick(&[None, None, Some(small), Some(0), Some(u64::MAX - small)]).map(WattHours::new)
}

fn price(choices: &mut Choices<'_>) -> Price {
    let small = i64::from(choices.byte());
    let prices =
        [small, small, small, -small, 1_000_000_000_000 - small, -1_000_000_000_000, i64::MAX - small];
    Price::new(choices.pick(&prices))
}

fn energy(choices: &mut Choices<'_>) -> WattHours {
    let small = u64::from(choices.byte());
    WattHours::new(choices.pick(&[
        small,
        small,
        small,
        small * 3_000_000_019,
        (1 << 59) - small,
        u64::MAX - small,
    ]))
}

fn tariff(choices: &mut Choices<'_>) -> Tariff {
    let (one, two) = (price(choices), price(choices));
    if choices.one_in(8) {
        return Tariff { import_price: one, export_price: two };
    }
    Tariff { import_price: one.max(two), export_price: one.min(two) }
}

fn supplier(choices: &mut Choices<'_>) -> Option<Supplier> {
    let Tariff { import_price, export_price } = tariff(choices);
    let (import_limit, export_limit) = (limit(choices), limit(choices));
    (!choices.one_in(4)).then_some(Supplier { import_price, export_price, import_limit, export_limit })
}

fn orders(choices: &mut Choices<'_>, network: &Network) -> Vec<Order<u16>> {
    let mut orders = Vec::new();
    while choices.more() && orders.len() < 24 {
        let node = network.index_of(&network.specs()[choices.one_of(network.len())].id).unwrap();
        let position = u16::try_from(orders.len()).unwrap();
        let id = position ^ u16::from(choices.byte()) << 8;
        let side = choices.pick(&[Side::Buy, Side::Sell]);
        orders.push(Order { id, node, side, price: price(choices), quantity: energy(choices) });
    }
    orders
}

fn whole(energy: WattHours) -> i128 {
    i128::from(energy.get())
}

/// Every fill is inside its order, every flow inside its limits, and every node balances.
fn judge_flows(network: &Network, orders: &[Order<u16>], clearing: &Clearing) {
    let mut net = vec![0i128; network.len()];
    net[network.root().get()] += whole(clearing.import) - whole(clearing.export);
    for (order, fill) in orders.iter().zip(&clearing.fills) {
        assert!(*fill <= order.quantity);
        net[order.node.get()] += if order.side == Side::Sell { whole(*fill) } else { -whole(*fill) };
    }
    for (place, spec) in network.specs().iter().enumerate() {
        let flow = i128::from(clearing.flows[place]);
        net[place] -= flow;
        let Some(parent) = &spec.parent else {
            assert_eq!(flow, 0, "nothing is above the root");
            continue;
        };
        net[network.index_of(parent).unwrap().get()] += flow;
        assert!(
            spec.up.is_none_or(|up| flow <= whole(up)) && spec.down.is_none_or(|down| -flow <= whole(down))
        );
    }
    assert!(net.iter().all(|net| *net == 0), "{net:?}");
}

/// Nobody trades beyond its limit, nobody in the money is left out, and what buyers pay more than sellers get is fees and rent.
fn judge_prices(network: &Network, orders: &[Order<u16>], supplier: Option<&Supplier>, clearing: &Clearing) {
    let price = |place: usize| clearing.prices[place].map(|price| i128::from(price.get()));
    let mut left = 0;
    let mut welfare = -clearing.fees.get();
    for (order, fill) in orders.iter().zip(&clearing.fills) {
        let Some(here) = price(order.node.get()) else {
            assert!(order.quantity.is_zero(), "a node with orders has a price");
            continue;
        };
        let sign = if order.side == Side::Buy { 1 } else { -1 };
        let limit = i128::from(order.price.get());
        let gain = sign * (limit - here);
        assert!(fill.is_zero() || gain >= 0, "{order:?} fills {fill} at {here}");
        assert!(*fill == order.quantity || gain <= 0, "{order:?} fills {fill} at {here}");
        left += sign * here * whole(*fill);
        welfare += sign * limit * whole(*fill);
    }
    let (import, export) = (whole(clearing.import), whole(clearing.export));
    assert!(import == 0 || export == 0);
    if import != 0 || export != 0 {
        left -= price(network.root().get()).unwrap() * (import - export);
        let supplier = supplier.unwrap();
        assert!(supplier.import_limit.is_none_or(|limit| import <= whole(limit)));
        assert!(supplier.export_limit.is_none_or(|limit| export <= whole(limit)));
        welfare += i128::from(supplier.export_price.get()) * export
            - i128::from(supplier.import_price.get()) * import;
    }
    assert!(clearing.fees >= Money::ZERO && clearing.congestion_rent >= Money::ZERO);
    assert_eq!(left, clearing.fees.get() + clearing.congestion_rent.get());
    assert_eq!(welfare, clearing.welfare.get());
    assert!(welfare >= 0, "no trade at all is worth 0");
}

fn sharing(choices: &mut Choices<'_>) -> Sharing {
    let price = if choices.one_in(3) { None } else { Some(price(choices)) };
    match choices.one_of(6) {
        0 | 1 => Sharing::Neighbour,
        2 => Sharing::StaticKey { price, unused: Unused::Lost },
        3 => Sharing::StaticKey { price, unused: Unused::PassedOn },
        4 => Sharing::DynamicKey { price },
        _ => Sharing::Incentive {
            payment: price.unwrap_or_default(),
            division: choices.pick(&[Division::Producers, Division::Consumers, Division::Halves]),
        },
    }
}

fn metered(choices: &mut Choices<'_>) -> Metered {
    Metered { import: energy(choices), export: energy(choices) }
}

fn homes(choices: &mut Choices<'_>, network: &Network) -> Vec<SettleHome<u16>> {
    let mut homes = Vec::new();
    while choices.more() && homes.len() < 16 {
        let id = u16::try_from(homes.len()).unwrap() ^ u16::from(choices.byte()) << 8;
        let some_price = |choices: &mut Choices<'_>| choices.one_in(4).then(|| price(choices));
        homes.push(SettleHome {
            id,
            node: network.index_of(&network.specs()[choices.one_of(network.len())].id).unwrap(),
            metered: (!choices.one_in(6)).then(|| metered(choices)),
            position: Position::default(),
            min_sell: some_price(choices),
            max_buy: some_price(choices),
            import_price: some_price(choices),
            export_price: some_price(choices),
            share_permyriad: u32::from(choices.byte()) * 10,
            participation_permille: choices.pick(&[1000, 1000, 0, 1, 999, 1001]),
            free_balance: free_balance(choices),
        });
    }
    homes
}

fn free_balance(choices: &mut Choices<'_>) -> Money {
    let small = i128::from(choices.byte()) * 1_000;
    Money::new(choices.pick(&[1_000_000_000_000_000_000, small, 0, -1]))
}

fn of_home(postings: &[Posting<u16>], id: u16) -> Money {
    let of_home = postings.iter().filter(|posting| posting.account == Account::Home(id));
    Money::sum(of_home.map(|posting| posting.amount)).unwrap()
}

/// Sorted, one per account and kind, none of zero, and they sum to zero.
fn assert_book(postings: &[Posting<u16>]) {
    assert!(postings.is_sorted_by(|a, b| (&a.account, a.kind) < (&b.account, b.kind)), "{postings:?}");
    assert!(postings.iter().all(|posting| posting.amount != Money::ZERO), "{postings:?}");
    assert_eq!(Money::sum(postings.iter().map(|posting| posting.amount)), Ok(Money::ZERO));
}

fn judge_settlement(homes: &[SettleHome<u16>], settlement: &Settlement<u16>) {
    assert_book(&settlement.postings);
    for (home, result) in homes.iter().zip(&settlement.homes) {
        let posted = of_home(&settlement.postings, home.id);
        let after = home.free_balance.add(posted).unwrap();
        assert!(after >= Money::ZERO, "home {} at {after}", home.id);
        assert!(result.claim >= Money::ZERO && result.incentive >= Money::ZERO);
        assert!(result.claim == Money::ZERO || after == Money::ZERO, "a claim means that nothing is left");
        let (matched, metered) = (&result.matched, result.metered.unwrap_or_default());
        let local = whole(matched.bought) - whole(matched.sold);
        let from_supplier = whole(matched.supplier_import) - whole(matched.supplier_export);
        assert_eq!(whole(metered.import) - whole(metered.export), local + from_supplier);
    }
}
