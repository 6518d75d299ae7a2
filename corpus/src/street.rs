//! A small community to judge things in: four homes on two feeders, four more that can join.

use std::sync::LazyLock;

use energy::{Balance, HomeId, MeterSerial, Mtu, NodeId, Price, Timestamp, WattHours};
use ledger::{
    Admission, Caps, Chain, ConnectionSize, Delegate, DemoClock, Forward, Genesis, GenesisMember, Ledger,
    MarketTerms, MemberKeys, MeterRegistration, Participation, Roles, RootMeter, Stake, TariffPoint,
};
use market::{NodeSpec, SupplierLeg};

use crate::keys::{self, AUDITOR, METERING, OPERATOR, ROOT_METER, TREASURER, TRUSTEE};

/// How many homes it is founded with; as many more can be admitted.
pub const FOUNDERS: u8 = 4;
/// Homes there are keys for.
pub const HOMES: u8 = 8;

pub fn home(number: u8) -> HomeId {
    HomeId::new(&format!("h{number:03}")).unwrap()
}

/// Which home an id names.
pub fn number_of(id: &HomeId) -> Option<u8> {
    (1..=HOMES).find(|number| home(*number) == *id)
}

pub fn registration(number: u8, epoch: u32) -> MeterRegistration {
    MeterRegistration {
        serial: MeterSerial::new(&format!("M-{number}")).unwrap(),
        epoch,
        profile_hash: [9; 32],
        quantum: WattHours::new(1),
    }
}

pub fn admission(number: u8) -> Admission {
    let node = if number % 2 == 1 { "f1" } else { "f2" };
    Admission {
        home: home(number),
        owner: format!("owner {}", number.min(HOMES - 1)),
        node: NodeId::new(node).unwrap(),
        size: ConnectionSize::default(),
        keys: MemberKeys {
            member: keys::public(keys::member(number)),
            reading: keys::public(keys::reader(number)),
            network: keys::public(keys::network(number)),
        },
        meter: registration(number, 0),
    }
}

fn node(id: &str, parent: Option<&str>, fee: i64, limit: Option<u64>) -> NodeSpec {
    NodeSpec {
        id: NodeId::new(id).unwrap(),
        parent: parent.map(|parent| NodeId::new(parent).unwrap()),
        fee_up: Price::ZERO,
        fee_down: Price::new(fee),
        up: limit.map(WattHours::new),
        down: limit.map(WattHours::new),
    }
}

/// Prepaid, without forward trading, metered by the homes; every 4 intervals and blocks an epoch.
pub fn genesis() -> Genesis {
    let start = Timestamp::parse("2026-06-01T00:00:00Z").unwrap();
    Genesis {
        name: "Test street".to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start,
        clock: Some(DemoClock {
            origin: start,
            wall_origin: start,
            speed: 1,
            assurance_every: 4,
            epoch_every: 4,
        }),
        due_after_ms: 900_000,
        forward: Forward::Off,
        market: MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::new(1_000_000_000_000),
        network: vec![
            node("grid", None, 0, None),
            node("lv", Some("grid"), 40_000, None),
            node("f1", Some("lv"), 10_000, Some(2_000)),
            node("f2", Some("lv"), 10_000, None),
        ],
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(500_000_000_000),
        },
        roles: Roles {
            operator: keys::public(OPERATOR),
            treasurer: keys::public(TREASURER),
            auditor: keys::public(AUDITOR),
            trustee: Some(keys::public(TRUSTEE)),
            metering_operator: Some(keys::public(METERING)),
        },
        root_meter: Some(RootMeter {
            key: keys::public(ROOT_METER),
            serial: MeterSerial::new("ROOT").unwrap(),
            profile_hash: [9; 32],
            quantum: WattHours::new(1),
        }),
        members: (1..=FOUNDERS)
            .map(|number| GenesisMember {
                admission: admission(number),
                participation: Participation::default(),
                deposit: Balance::new(1_000_000_000_000),
            })
            .collect(),
        delegates: (1..=FOUNDERS)
            .map(|number| Delegate { key: keys::public(keys::term(number, 0)), home: home(number) })
            .collect(),
        stake: Stake::Membership,
        replicas: ledger::Replicas::All,
    }
}

static FIRST: LazyLock<Ledger> = LazyLock::new(|| Ledger::genesis(&genesis()).unwrap());

/// The community at its first height.
pub fn ledger() -> Ledger {
    FIRST.clone()
}

/// Its chain.
pub fn chain() -> Chain {
    *FIRST.chain()
}
