//! The community of a bench, and what its members sign.

use std::collections::VecDeque;

use anyhow::Context as _;
use ed25519_dalek::SigningKey;
use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, Mtu, NodeId, Price, Quality, Reading, TakenAt,
    Timestamp, WattHours,
};
use ledger::codec::Encode;
use ledger::{
    Admission, Body, Caps, Chain, Delegate, DemoClock, Entry, Forward, Genesis, GenesisMember, Hash32,
    MemberKeys, MeterRegistration, Order, PublicKey, Roles, Salt, TariffPoint, reading_hash,
};
use market::{NodeSpec, Side, SupplierLeg};

use crate::identity::Identity;

/// Orders of one member for one interval.
const ORDERS_PER_INTERVAL: usize = 4;

/// So many signed orders, dealt round the authors so that none is early with its quota, each with its author.
pub(super) fn orders(
    chain: &Chain,
    authors: &[SigningKey],
    first: Interval,
    wanted: usize,
) -> Vec<(usize, Vec<u8>)> {
    let mut load = Vec::with_capacity(wanted);
    for round in 0.. {
        for (number, key) in authors.iter().enumerate() {
            if load.len() == wanted {
                return load;
            }
            let ahead = u64::try_from(round / ORDERS_PER_INTERVAL).unwrap_or(0);
            let interval = Interval::from_index(first.index() + 2 + ahead, Mtu::Min15);
            load.push((number, order(chain, (number, key), interval, round)));
        }
    }
    load
}

/// The order that a member signs as its entry number `round` + 1.
fn order(chain: &Chain, (number, key): (usize, &SigningKey), interval: Interval, round: usize) -> Vec<u8> {
    let order = Order {
        home: author(number),
        interval,
        side: if number.is_multiple_of(2) { Side::Buy } else { Side::Sell },
        price: Price::new(100_000 + 10 * i64::try_from(number).unwrap_or(0)),
        quantity: WattHours::new(100),
        replaces: None,
    };
    sign(chain, key, round, Body::Order(order))
}

fn sign(chain: &Chain, key: &SigningKey, round: usize, body: Body) -> Vec<u8> {
    let signer = PublicKey::of(key);
    let digest = Hash32::of(&[b"bench", &signer.0, &round.to_be_bytes()]).0;
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest[..16]);
    let number = u64::try_from(round).unwrap_or(0) + 1;
    Entry { signer, number, salt: Salt(salt), body }.sign(chain, key).to_bytes()
}

/// A home that is metered and trades: a reading for each interval, and orders for the ones to come.
pub(super) struct Household {
    number: usize,
    key: SigningKey,
    reading_key: SigningKey,
    orders: usize,
    records: u64,
    previous: [u8; 32],
}

impl Household {
    /// Home `number` of the authors.
    pub(super) fn new(number: usize, key: SigningKey) -> Self {
        let reading_key = key_of("reading", number);
        Self { number, key, reading_key, orders: 0, records: 0, previous: [0; 32] }
    }

    /// Its meter at the end of `interval`.
    pub(super) fn read(&mut self, chain: &Chain, interval: Interval) -> anyhow::Result<Vec<u8>> {
        self.records += 1;
        let (import, export) = (self.records * 120, self.records * 80);
        let reading = Reading {
            serial: meter_of(self.number)?.serial,
            meter_epoch: 0,
            interval,
            import_register: WattHours::new(import),
            export_register: WattHours::new(export),
            raw_registers: vec![0; 8],
            quantum: WattHours::new(1),
            profile_hash: [0; 32],
            quality: Quality::Good,
            clock_quality: ClockQuality::Synced,
            taken_at: TakenAt { time: interval.end(), monotonic_ms: self.records, boot_id: [0; 16] },
            record_number: self.records,
            previous_hash: self.previous,
        };
        self.previous = reading_hash(&reading);
        let round = usize::try_from(self.records)? - 1;
        let body = Body::Reading { home: Some(author(self.number)), reading };
        Ok(sign(chain, &self.reading_key, round, body))
    }

    /// So many orders for `interval`.
    pub(super) fn trade(&mut self, chain: &Chain, interval: Interval, count: usize) -> VecDeque<Vec<u8>> {
        let first = self.orders;
        self.orders += count;
        let numbered = (self.number, &self.key);
        (first..self.orders).map(|round| order(chain, numbered, interval, round)).collect()
    }
}

fn meter_of(number: usize) -> anyhow::Result<MeterRegistration> {
    let serial = MeterSerial::new(&(number + 1).to_string())?;
    Ok(MeterRegistration { serial, epoch: 0, profile_hash: [0; 32], quantum: WattHours::new(1) })
}

pub(super) fn author(number: usize) -> HomeId {
    HomeId::new(&format!("m{number:04}")).unwrap_or_else(|_| unreachable!("m and digits make an id"))
}

/// Keys of the load's authors follow from their number: they hold no money but a bench's.
pub(super) fn key_of(purpose: &str, number: usize) -> SigningKey {
    SigningKey::from_bytes(&Hash32::of(&[b"bench", purpose.as_bytes(), &number.to_be_bytes()]).0)
}

/// A community of these members and of the delegates' own homes, whose market time goes `speed` times as fast as ours.
pub(super) fn genesis(
    authors: &[SigningKey],
    delegates: &[Identity],
    first: Interval,
    speed: u32,
) -> anyhow::Result<Genesis> {
    let root = root()?;
    let mut members = Vec::new();
    for (number, key) in authors.iter().enumerate() {
        let keys = MemberKeys {
            member: PublicKey::of(key),
            reading: PublicKey::of(&key_of("reading", number)),
            network: PublicKey::of(&key_of("network", number)),
        };
        members.push((author(number), keys, number));
    }
    for (number, identity) in delegates.iter().enumerate() {
        members.push((HomeId::new(&format!("d{number}"))?, identity.keys(), authors.len() + number));
    }
    let members = members
        .into_iter()
        .map(|(home, keys, number)| {
            let owner = home.to_string();
            let admission = Admission {
                home,
                owner,
                node: root.clone(),
                size: ledger::ConnectionSize::default(),
                keys,
                meter: meter_of(number)?,
            };
            Ok(GenesisMember {
                admission,
                participation: ledger::Participation::default(),
                deposit: Balance::new(1_000_000_000_000),
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let seats = delegates.iter().enumerate().map(|(number, identity)| {
        let key = identity.consensus_public().context("it has no consensus key")?;
        Ok(Delegate { key, home: HomeId::new(&format!("d{number}"))? })
    });
    let genesis = Genesis {
        clock: Some(DemoClock {
            origin: first.start(),
            wall_origin: first.start(),
            speed,
            assurance_every: Mtu::Min15.per_day(),
            epoch_every: Mtu::Min15.per_day(),
        }),
        members,
        delegates: seats.collect::<anyhow::Result<Vec<_>>>()?,
        ..terms("bench", first.start())?
    };
    genesis.validate()?;
    Ok(genesis)
}

/// A community in which every bench can trade, before it has members.
pub(super) fn terms(name: &str, start: Timestamp) -> anyhow::Result<Genesis> {
    let role = |name| PublicKey::of(&key_of(name, 0));
    Ok(Genesis {
        name: name.to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start,
        clock: None,
        due_after_ms: Mtu::Min15.ms(),
        forward: Forward::Auction,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::ZERO,
        network: vec![NodeSpec {
            id: root()?,
            parent: None,
            fee_up: Price::ZERO,
            fee_down: Price::ZERO,
            up: None,
            down: None,
        }],
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(1_000_000_000_000),
        },
        roles: Roles {
            operator: role("operator"),
            treasurer: role("treasurer"),
            auditor: role("auditor"),
            trustee: None,
            metering_operator: None,
        },
        root_meter: None,
        members: Vec::new(),
        delegates: Vec::new(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    })
}

/// The only node of its network.
pub(super) fn root() -> anyhow::Result<NodeId> {
    Ok(NodeId::new("grid")?)
}
