//! A small neighbourhood: its genesis, and what its homes sign.

use ed25519_dalek::SigningKey;
use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, Mtu, NodeId, Price, Quality, Reading, TakenAt,
    Timestamp, WattHours,
};
use ledger::codec::Encode as _;
use ledger::{
    Admission, Ballot, Body, Caps, Chain, Delegate, Entry, EntryId, Forward, Genesis, GenesisMember, Hash32,
    MemberKeys, MeterRegistration, Order, PublicKey, Roles, Salt, StandingLimits, TariffPoint, reading_hash,
};
use market::{NodeSpec, Side, SupplierLeg};

/// What a key is for.
#[derive(Clone, Copy)]
pub enum Purpose {
    Member = 1,
    Reading = 2,
    Network = 3,
    Term = 4,
    Role = 5,
}

pub fn key(purpose: Purpose, number: usize) -> SigningKey {
    let mut seed = [purpose as u8; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    SigningKey::from_bytes(&seed)
}

/// A home's key for a term: to vote, or to cosign.
pub fn term_key(number: usize, term: u32, cosigner: bool) -> SigningKey {
    let mut seed = [if cosigner { 8 } else { 7 }; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    seed[8..12].copy_from_slice(&term.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

fn public(purpose: Purpose, number: usize) -> PublicKey {
    PublicKey::of(&key(purpose, number))
}

pub fn home(number: usize) -> HomeId {
    HomeId::new(&format!("H{number:02}")).expect("a valid id")
}

pub fn start() -> Timestamp {
    Timestamp::parse("2016-06-13T00:00:00Z").expect("a valid time")
}

/// The interval whose gate is the first to close: the one after the chain's first.
pub fn first_traded() -> Interval {
    Interval::containing(start(), Mtu::Min15).next()
}

/// Its gate.
pub fn first_gate() -> Timestamp {
    first_traded().start().minus_ms(300_000)
}

/// A forward order of a home for that interval.
pub fn order(number: usize, chain: &Chain) -> Vec<u8> {
    let key = key(Purpose::Member, number);
    let order = Order {
        home: home(number),
        interval: first_traded(),
        side: Side::Buy,
        price: Price::new(200_000),
        quantity: WattHours::new(100),
        replaces: None,
    };
    let body = Body::Order(order);
    Entry { signer: PublicKey::of(&key), number: 1, salt: Salt([3; 16]), body }.sign(chain, &key).to_bytes()
}

/// Price limits of a home under a number of the caller's choice.
pub fn limit_with_number(home_number: usize, number: u64, price: i64, chain: &Chain) -> Vec<u8> {
    let key = key(Purpose::Member, home_number);
    let limits = StandingLimits { min_sell: None, max_buy: Some(Price::new(price)) };
    let body = Body::StandingLimits { home: home(home_number), limits };
    Entry { signer: PublicKey::of(&key), number, salt: Salt([5; 16]), body }.sign(chain, &key).to_bytes()
}

/// A home's vote for two others.
pub fn vote(number: usize, chain: &Chain) -> Vec<u8> {
    let key = key(Purpose::Member, number);
    let ballot = Ballot::Approve([home(0), home(1)].into());
    let body = Body::Vote { home: home(number), ballot };
    Entry { signer: PublicKey::of(&key), number: 1, salt: Salt([6; 16]), body }.sign(chain, &key).to_bytes()
}

/// Takes a home's order back.
pub fn cancel(number: usize, order: EntryId, chain: &Chain) -> Vec<u8> {
    let key = key(Purpose::Member, number);
    let body = Body::Cancel { home: home(number), order };
    Entry { signer: PublicKey::of(&key), number: 2, salt: Salt([4; 16]), body }.sign(chain, &key).to_bytes()
}

fn meter(number: usize) -> MeterRegistration {
    MeterRegistration {
        serial: MeterSerial::new(&format!("M{number}")).expect("a valid serial"),
        epoch: 0,
        profile_hash: [1; 32],
        quantum: WattHours::new(1),
    }
}

fn admission(number: usize) -> Admission {
    Admission {
        home: home(number),
        owner: format!("owner {number}"),
        node: NodeId::new("f1").expect("a valid id"),
        size: ledger::ConnectionSize::default(),
        keys: MemberKeys {
            member: public(Purpose::Member, number),
            reading: public(Purpose::Reading, number),
            network: public(Purpose::Network, number),
        },
        meter: meter(number),
    }
}

/// `delegates` of `homes` homes hold a seat.
pub fn genesis(homes: usize, delegates: usize) -> Genesis {
    let node = |id: &str, parent: Option<&str>| NodeSpec {
        id: NodeId::new(id).expect("a valid id"),
        parent: parent.map(|parent| NodeId::new(parent).expect("a valid id")),
        fee_up: Price::ZERO,
        fee_down: Price::new(10_000),
        up: None,
        down: None,
    };
    Genesis {
        name: "Cluster street".to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start: start(),
        clock: None,
        due_after_ms: 900_000,
        forward: Forward::Off,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::new(1_000_000_000_000),
        network: vec![node("grid", None), node("f1", Some("grid"))],
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(1_000_000_000_000),
        },
        roles: Roles {
            operator: public(Purpose::Role, 1),
            treasurer: public(Purpose::Role, 2),
            auditor: public(Purpose::Role, 3),
            trustee: None,
            metering_operator: None,
        },
        root_meter: None,
        members: (0..homes)
            .map(|number| GenesisMember {
                admission: admission(number),
                participation: ledger::Participation::default(),
                deposit: Balance::new(100_000_000_000),
            })
            .collect(),
        delegates: (0..delegates)
            .map(|number| Delegate { key: public(Purpose::Term, number), home: home(number) })
            .collect(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    }
}

/// One home's journal: the numbers and the chain of what it signs.
pub struct Journal {
    number: usize,
    chain: Chain,
    import: u64,
    export: u64,
    record: u64,
    previous: [u8; 32],
    next: u64,
}

impl Journal {
    pub fn new(number: usize, chain: Chain) -> Self {
        let import = 1000 * number as u64;
        Self { number, chain, import, export: 0, record: 0, previous: [0; 32], next: 0 }
    }

    /// Signs the meter at the end of `interval`; even homes import, odd ones export.
    pub fn read(&mut self, interval: Interval) -> Vec<u8> {
        let energy = 100 + (interval.index() * 7 + self.number as u64 * 13) % 50;
        if self.number.is_multiple_of(2) {
            self.import += energy;
        } else {
            self.export += energy;
        }
        self.record += 1;
        let reading = Reading {
            serial: meter(self.number).serial,
            meter_epoch: 0,
            interval,
            import_register: WattHours::new(self.import),
            export_register: WattHours::new(self.export),
            raw_registers: vec![1, 2],
            quantum: WattHours::new(1),
            profile_hash: [1; 32],
            quality: Quality::Good,
            clock_quality: ClockQuality::Synced,
            taken_at: TakenAt { time: interval.end(), monotonic_ms: self.record, boot_id: [0; 16] },
            record_number: self.record,
            previous_hash: self.previous,
        };
        self.previous = reading_hash(&reading);
        let body = Body::Reading { home: Some(home(self.number)), reading };
        self.sign(body, &key(Purpose::Reading, self.number))
    }

    /// Signs price limits that differ each time.
    pub fn limit(&mut self) -> Vec<u8> {
        let price = i64::try_from(200_000 + self.next).expect("a small number");
        let limits = StandingLimits { min_sell: None, max_buy: Some(Price::new(price)) };
        let body = Body::StandingLimits { home: home(self.number), limits };
        self.sign(body, &key(Purpose::Member, self.number))
    }

    fn sign(&mut self, body: Body, key: &SigningKey) -> Vec<u8> {
        self.entry(body, key).sign(&self.chain, key).to_bytes()
    }

    fn entry(&mut self, body: Body, key: &SigningKey) -> Entry {
        self.next += 1;
        let digest = Hash32::of(&[&self.next.to_be_bytes(), home(self.number).as_str().as_bytes()]).0;
        let mut salt = [0; 16];
        salt.copy_from_slice(&digest[..16]);
        Entry { signer: PublicKey::of(key), number: self.next, salt: Salt(salt), body }
    }
}
