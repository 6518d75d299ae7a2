//! The neighbourhood of a run: its keys, which are secrets to nobody, and its genesis.

use ed25519_dalek::SigningKey;
use energy::{Balance, HomeId, MeterSerial, Mtu, NodeId, Price, Timestamp, WattHours};
use ledger::{
    Admission, Caps, ConnectionSize, Delegate, DemoClock, Genesis, GenesisMember, MemberKeys,
    MeterRegistration, PublicKey, Roles, TariffPoint,
};
use market::{NodeSpec, SupplierLeg};

use super::plan::Plan;

/// What each home pays in, in 10⁻⁹ of the currency: enough for weeks.
pub(crate) const DEPOSIT: Balance = Balance::new(1_000_000_000_000);
/// What the supplier charges and pays.
pub(crate) const TARIFF: TariffPoint =
    TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) };
/// What everybody's meter is read by.
pub(crate) const PROFILE: [u8; 32] = [1; 32];

/// What a key is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Member = 1,
    Reading = 2,
    Network = 3,
    Term = 4,
    Role = 5,
    TermConsensus = 7,
    TermCosigner = 8,
}

/// Numbers of the keys of roles.
pub(crate) const OPERATOR: usize = 1;
pub(crate) const TREASURER: usize = 2;
pub(crate) const AUDITOR: usize = 3;
pub(crate) const TRUSTEE: usize = 4;

fn key_of(purpose: Purpose, number: usize, term: u32) -> SigningKey {
    let mut seed = [purpose as u8; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    seed[8..12].copy_from_slice(&term.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

pub(crate) fn key(purpose: Purpose, number: usize) -> SigningKey {
    key_of(purpose, number, 0)
}

/// A home's keys for a term: to vote with, and to cosign with. They are made on a card, the home's first or a later one, and
/// lost with it.
pub(crate) fn term_keys(number: usize, card: u32, term: u32) -> [SigningKey; 2] {
    [Purpose::TermConsensus, Purpose::TermCosigner].map(|purpose| key_of(purpose, number, term | card << 24))
}

/// The consensus key that was made with a card.
pub(crate) fn card_key(number: usize, card: u32) -> SigningKey {
    key_of(Purpose::Term, number, card)
}

pub(crate) fn public(purpose: Purpose, number: usize) -> PublicKey {
    PublicKey::of(&key(purpose, number))
}

/// The name of a home.
///
/// # Panics
/// Never: the name is a valid id.
#[must_use]
pub fn home(number: usize) -> HomeId {
    HomeId::new(&format!("H{number:03}")).expect("a valid id")
}

/// The consensus key with which a founding delegate begins.
#[must_use]
pub fn founding_key(number: usize) -> PublicKey {
    public(Purpose::Term, number)
}

/// When the chain begins.
pub(crate) const fn start() -> Timestamp {
    // 2016-06-13T09:00:00Z: sun and people are about.
    Timestamp::from_unix_ms(1_465_808_400_000)
}

pub(crate) fn meter(number: usize) -> MeterRegistration {
    MeterRegistration {
        serial: MeterSerial::new(&format!("M{number}")).expect("a valid serial"),
        epoch: 0,
        profile_hash: PROFILE,
        quantum: WattHours::new(1),
    }
}

pub(crate) fn admission(number: usize) -> Admission {
    Admission {
        home: home(number),
        owner: format!("owner {number}"),
        node: NodeId::new("f1").expect("a valid id"),
        size: ConnectionSize::default(),
        keys: MemberKeys {
            member: public(Purpose::Member, number),
            reading: public(Purpose::Reading, number),
            network: public(Purpose::Network, number),
        },
        meter: meter(number),
    }
}

fn node(id: &str, parent: Option<&str>) -> NodeSpec {
    NodeSpec {
        id: NodeId::new(id).expect("a valid id"),
        parent: parent.map(|parent| NodeId::new(parent).expect("a valid id")),
        fee_up: Price::ZERO,
        fee_down: Price::new(10_000),
        up: None,
        down: None,
    }
}

/// The genesis of a plan: the first homes hold the seats.
pub(crate) fn genesis(plan: &Plan) -> Genesis {
    let founders = (0..plan.founders()).map(|number| GenesisMember {
        admission: admission(number),
        participation: ledger::Participation::default(),
        deposit: DEPOSIT,
    });
    let delegates =
        (0..plan.delegates).map(|number| Delegate { key: founding_key(number), home: home(number) });
    Genesis {
        name: "Simulated neighbourhood".to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start: start(),
        clock: Some(DemoClock {
            origin: start(),
            wall_origin: start(),
            speed: plan.speed,
            assurance_every: 96,
            epoch_every: plan.epoch_every,
        }),
        due_after_ms: Mtu::Min15.ms(),
        forward: plan.forward,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: DEPOSIT,
        network: vec![node("grid", None), node("f1", Some("grid"))],
        tariff: TARIFF,
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(1_000_000_000_000),
        },
        roles: Roles {
            operator: public(Purpose::Role, OPERATOR),
            treasurer: public(Purpose::Role, TREASURER),
            auditor: public(Purpose::Role, AUDITOR),
            trustee: Some(public(Purpose::Role, TRUSTEE)),
            metering_operator: None,
        },
        root_meter: None,
        members: founders.collect(),
        delegates: delegates.collect(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    }
}
