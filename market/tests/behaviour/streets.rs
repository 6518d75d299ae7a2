//! Random streets to settle, by every rule: few prices and energies, so that ties and empty pockets are the rule.

use energy::{Money, Price, WattHours};
use market::{
    Account, Division, Losses, Metered, Network, NodeSpec, Position, Posting, PostingKind, SettleHome,
    Settlement, Sharing, SupplierLeg, Tariff, Terms, Unused, settle,
};
use proptest::prelude::*;

use crate::random::networks;

#[derive(Debug, Clone)]
pub struct Street {
    pub nodes: Vec<NodeSpec>,
    pub tariff: Tariff,
    pub leg: SupplierLeg,
    pub sharing: Sharing,
    pub losses: Losses,
    pub homes: Vec<SettleHome<u32>>,
    pub rent: Money,
    pub root: Option<Metered>,
}

impl Street {
    pub fn network(&self) -> Network {
        Network::new(&self.nodes).unwrap()
    }

    /// What forward buyers paid beyond what forward sellers received, without the rent.
    pub fn forward_fees(&self) -> Money {
        let forward = Money::sum(self.homes.iter().map(|home| home.position.amount)).unwrap();
        forward.add(self.rent).unwrap().neg().unwrap()
    }

    pub fn terms<'a>(&self, network: &'a Network) -> Terms<'a> {
        let Self { tariff, leg, sharing, losses, .. } = *self;
        Terms { network, tariff, leg, sharing, losses }
    }

    pub fn settled(&self) -> Settlement<u32> {
        let network = self.network();
        settle(&self.terms(&network), &self.homes, self.forward_fees(), self.rent, self.root).unwrap()
    }
}

fn money(range: std::ops::Range<i64>) -> impl Strategy<Value = Money> {
    range.prop_map(|nano| Money::new(nano.into()))
}

fn energies() -> impl Strategy<Value = WattHours> {
    prop_oneof![1 => Just(0u64), 3 => 0u64..300].prop_map(WattHours::new)
}

fn positions() -> impl Strategy<Value = Position> {
    let sold = (energies(), money(-2_000..30_000));
    prop_oneof![
        3 => Just(Position::default()),
        1 => sold.prop_map(|(sold, amount)| Position { sold, bought: WattHours::ZERO, amount }),
        1 => (energies(), money(-30_000..2_000))
            .prop_map(|(bought, amount)| Position { sold: WattHours::ZERO, bought, amount }),
    ]
}

fn rules() -> impl Strategy<Value = Sharing> {
    let price = || prop::option::weighted(0.8, (-40i64..200).prop_map(Price::new));
    let unused = prop_oneof![Just(Unused::Lost), Just(Unused::PassedOn)];
    let division = prop_oneof![Just(Division::Producers), Just(Division::Consumers), Just(Division::Halves)];
    prop_oneof![
        3 => Just(Sharing::Neighbour),
        2 => (price(), unused).prop_map(|(price, unused)| Sharing::StaticKey { price, unused }),
        2 => price().prop_map(|price| Sharing::DynamicKey { price }),
        1 => (0i64..200, division)
            .prop_map(|(payment, division)| Sharing::Incentive { payment: Price::new(payment), division }),
    ]
}

/// What of a meter takes part, and an agreed share; those of the most homes of a street come to less than the whole.
fn parts() -> impl Strategy<Value = (u32, u32)> {
    (
        prop_oneof![3 => Just(1000u32), 1 => Just(0), 1 => 0u32..=1000],
        prop_oneof![1 => Just(0u32), 2 => Just(700), 2 => 0u32..=833],
    )
}

fn homes() -> impl Strategy<Value = SettleHome<u32>> {
    let price = || prop::option::weighted(0.2, (-40i64..200).prop_map(Price::new));
    let metered = (energies(), energies()).prop_map(|(import, export)| Metered { import, export });
    let spare = prop_oneof![1 => Just(Money::ZERO), 2 => money(0..3_000), 3 => money(0..60_000)];
    let energy = (prop::option::weighted(0.9, metered), positions(), spare);
    (energy, (price(), price(), price(), price()), parts()).prop_map(
        |((metered, position, spare), prices, (participation_permille, share_permyriad))| SettleHome {
            id: 0,
            node: Network::new(&[crate::random::node("root", None)]).unwrap().root(),
            metered,
            position,
            min_sell: prices.0,
            max_buy: prices.1,
            import_price: prices.2,
            export_price: prices.3,
            share_permyriad,
            participation_permille,
            // The reserve of a position covers it.
            free_balance: spare.add(Money::ZERO.max(position.amount.neg().unwrap())).unwrap(),
        },
    )
}

pub fn streets() -> impl Strategy<Value = Street> {
    let legs = prop_oneof![Just(SupplierLeg::Ledger), Just(SupplierLeg::Outside)];
    let losses = prop_oneof![Just(Losses::Recorded), Just(Losses::Community)];
    let root = (0u64..2_000, 0u64..400).prop_map(|(import, export)| Metered {
        import: WattHours::new(import),
        export: WattHours::new(export),
    });
    let homes = prop::collection::vec((any::<prop::sample::Index>(), homes()), 0..12);
    (
        (networks(), homes, prop::option::weighted(0.8, root)),
        (-60i64..60, -5i64..150),
        (legs, rules(), losses, money(0..500)),
    )
        .prop_map(|((nodes, homes, root), (export, spread), (leg, sharing, losses, rent))| {
            let network = Network::new(&nodes).unwrap();
            let place = |(id, (at, home)): (u32, (prop::sample::Index, SettleHome<u32>))| SettleHome {
                id,
                node: network.index_of(&at.get(&nodes).id).unwrap(),
                ..home
            };
            let homes = (0..).zip(homes).map(place).collect();
            let tariff =
                Tariff { import_price: Price::new(export + spread), export_price: Price::new(export) };
            Street { nodes, tariff, leg, sharing, losses, homes, rent, root }
        })
}

pub fn of(postings: &[Posting<u32>], account: &Account<u32>, kind: PostingKind) -> Money {
    Money::sum(postings.iter().filter(|it| it.account == *account && it.kind == kind).map(|it| it.amount))
        .unwrap()
}
