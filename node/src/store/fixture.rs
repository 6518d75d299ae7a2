//! A street of five homes for the tests of the store: real keys, real entries, real blocks and certificates.

use ed25519_dalek::SigningKey;
use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, Mtu, NodeId, Price, Quality, Reading, TakenAt,
    Timestamp, WattHours,
};
use ledger::{
    Admission, AssuranceStatement, Body, Caps, Certificate, Delegate, Entry, Executed, Finding, Forward,
    Genesis, GenesisMember, Ledger, MemberKeys, MeterAssurance, MeterEvidence, MeterRegistration, PublicKey,
    PvDeclaration, Roles, RootMeter, Salt, Signature, SignedEntry, StandingLimits, Stream, TariffPoint,
    VerifiedEntry, VoteKind, reading_hash, vote_signing_bytes,
};
use market::{NodeSpec, SupplierLeg};

use super::ledger_db::LedgerDb;

const HOMES: u8 = 4;
const MINUTE_MS: u64 = 60_000;

/// Four founding homes with a seat each (h1 has solar power), one that joins, and a root meter.
pub struct Street {
    pub genesis: Genesis,
    pub ledger: Ledger,
    /// Last record of each home's meter, then of the root meter.
    records: Vec<Option<Reading>>,
    numbers: u64,
}

pub fn key(purpose: u8, home: u8) -> SigningKey {
    SigningKey::from_bytes(&[purpose * 16 + home; 32])
}

pub fn home(number: u8) -> HomeId {
    HomeId::new(&format!("h{number}")).unwrap()
}

fn public(purpose: u8, home: u8) -> PublicKey {
    PublicKey::of(&key(purpose, home))
}

pub const MEMBER: u8 = 1;
pub const READING: u8 = 2;
const NETWORK: u8 = 3;
const TERM: u8 = 4;
pub const ROLE: u8 = 5;

fn admission(number: u8) -> Admission {
    Admission {
        home: home(number),
        owner: format!("owner {number}"),
        node: NodeId::new(if number < 3 { "feeder-1" } else { "feeder-2" }).unwrap(),
        size: ledger::ConnectionSize::default(),
        keys: MemberKeys {
            member: public(MEMBER, number),
            reading: public(READING, number),
            network: public(NETWORK, number),
        },
        meter: MeterRegistration {
            serial: MeterSerial::new(&format!("m{number}")).unwrap(),
            epoch: 0,
            profile_hash: [7; 32],
            quantum: WattHours::new(1),
        },
    }
}

fn node(id: &str, parent: Option<&str>, fee_down: i64) -> NodeSpec {
    NodeSpec {
        id: NodeId::new(id).unwrap(),
        parent: parent.map(|parent| NodeId::new(parent).unwrap()),
        fee_up: Price::ZERO,
        fee_down: Price::new(fee_down),
        up: None,
        down: (fee_down > 0).then(|| WattHours::new(40_000)),
    }
}

pub fn start() -> Timestamp {
    Timestamp::parse("2016-06-13T22:30:00Z").unwrap()
}

pub fn first_interval() -> Interval {
    Interval::starting_at(start(), Mtu::Min15).unwrap()
}

pub fn genesis() -> Genesis {
    let member = |number| GenesisMember {
        admission: admission(number),
        participation: ledger::Participation::default(),
        deposit: Balance::new(50_000_000_000),
    };
    Genesis {
        name: "test street".to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start: start(),
        clock: None,
        due_after_ms: 15 * MINUTE_MS,
        forward: Forward::Off,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::new(1_000_000_000_000),
        network: vec![
            node("grid", None, 0),
            node("feeder-1", Some("grid"), 10_000),
            node("feeder-2", Some("grid"), 20_000),
        ],
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps {
            price_min: Price::new(0),
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(1_000_000_000_000),
        },
        roles: Roles {
            operator: public(ROLE, 1),
            treasurer: public(ROLE, 2),
            auditor: public(ROLE, 3),
            trustee: None,
            metering_operator: None,
        },
        root_meter: Some(RootMeter {
            key: public(READING, 15),
            serial: MeterSerial::new("root").unwrap(),
            profile_hash: [7; 32],
            quantum: WattHours::new(1),
        }),
        members: (1..=HOMES).map(member).collect(),
        delegates: (1..=HOMES)
            .map(|number| Delegate { key: public(TERM, number), home: home(number) })
            .collect(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    }
}

/// A reading for a home's meter at the end of `interval` with these registers.
pub fn reading(serial: &str, interval: Interval, registers: (u64, u64), record: (u64, [u8; 32])) -> Reading {
    Reading {
        serial: MeterSerial::new(serial).unwrap(),
        meter_epoch: 0,
        interval,
        import_register: WattHours::new(registers.0),
        export_register: WattHours::new(registers.1),
        raw_registers: vec![1, 2, 3],
        quantum: WattHours::new(1),
        profile_hash: [7; 32],
        quality: Quality::Good,
        clock_quality: ClockQuality::Synced,
        taken_at: TakenAt { time: interval.end(), monotonic_ms: 5, boot_id: [9; 16] },
        record_number: record.0,
        previous_hash: record.1,
    }
}

impl Street {
    pub fn new() -> Self {
        Self::of(genesis())
    }

    /// A street with other terms.
    pub fn of(genesis: Genesis) -> Self {
        let ledger = Ledger::genesis(&genesis).unwrap();
        Self { genesis, ledger, records: vec![None; usize::from(HOMES) + 1], numbers: 0 }
    }

    pub fn sign(&mut self, signer: &SigningKey, body: Body) -> SignedEntry {
        self.numbers += 1;
        let salt = Salt([u8::try_from(self.numbers % 251).unwrap(); 16]);
        let entry = Entry { signer: PublicKey::of(signer), number: self.numbers, salt, body };
        entry.sign(self.ledger.chain(), signer)
    }

    /// The readings of all meters at the end of an interval.
    pub fn readings(&mut self, interval: Interval) -> Vec<VerifiedEntry> {
        (0..=HOMES).map(|meter| self.reading_of(meter, interval)).collect()
    }

    fn reading_of(&mut self, meter: u8, interval: Interval) -> VerifiedEntry {
        let slot = usize::from(meter);
        let last = self.records[slot].take();
        let record = last.as_ref().map_or((1, [0; 32]), |last| (last.record_number + 1, reading_hash(last)));
        let before = last.map_or((1_000, 0), |last| (last.import_register.get(), last.export_register.get()));
        let is_root = meter == HOMES;
        let grown = match meter {
            0 => (0, 700 + interval.index() % 5),
            meter if is_root => (0, 3 + u64::from(meter)),
            meter => (100 + 90 * u64::from(meter), 2),
        };
        let serial = if is_root { "root".to_owned() } else { format!("m{}", meter + 1) };
        let reading = reading(&serial, interval, (before.0 + grown.0, before.1 + grown.1), record);
        self.records[slot] = Some(reading.clone());
        let (signer, home) = if is_root { (15, None) } else { (meter + 1, Some(home(meter + 1))) };
        let chain = *self.ledger.chain();
        self.sign(&key(READING, signer), Body::Reading { home, reading }).verify(&chain).unwrap()
    }

    /// The next block, decided by three of the four delegates.
    pub fn block(&mut self, time: Timestamp, entries: &[VerifiedEntry]) -> (Executed, Certificate) {
        let proposed = self.ledger.propose(time, entries).unwrap();
        assert_eq!(proposed.refused, []);
        self.ledger = proposed.executed.ledger.clone();
        let certificate = self.certify(&proposed.executed);
        (proposed.executed, certificate)
    }

    pub fn certify(&self, executed: &Executed) -> Certificate {
        let (height, block, round) = (executed.block.header.height, executed.block.id(), 2);
        let message =
            vote_signing_bytes(self.ledger.chain(), VoteKind::Precommit, height, round, Some(&block));
        let delegates = self.ledger.delegates();
        let vote = |number| {
            let seat = delegates.seat_of(&public(TERM, number)).unwrap();
            (u8::try_from(seat).unwrap(), Signature::sign(&key(TERM, number), &message))
        };
        let mut signatures: Vec<_> = (1..=3).map(vote).collect();
        signatures.sort_by_key(|(seat, _)| *seat);
        Certificate { height, round, block, signatures }
    }

    /// So many intervals: three blocks in each, every home read at every boundary, limits set in the first and a home
    /// admitted in the second.
    pub fn run(&mut self, intervals: u64) -> Vec<(Executed, Certificate)> {
        let mut blocks = Vec::new();
        for at in 0..=intervals {
            let boundary = start().plus_ms(at * 15 * MINUTE_MS);
            let ended = Interval::containing(boundary, Mtu::Min15).previous().unwrap();
            let readings = self.readings(ended);
            blocks.push(self.block(boundary.plus_ms(10_000), &readings));
            let other = match at {
                0 => vec![self.limits()],
                1 => vec![self.admission(), self.evidence(ended), self.statement(ended)],
                _ => vec![],
            };
            blocks.push(self.block(boundary.plus_ms(5 * MINUTE_MS), &other));
            blocks.push(self.block(boundary.plus_ms(10 * MINUTE_MS), &[]));
        }
        // The last interval's deadline.
        blocks.push(self.block(start().plus_ms((intervals + 1) * 15 * MINUTE_MS), &[]));
        blocks
    }

    fn limits(&mut self) -> VerifiedEntry {
        let limits = StandingLimits { min_sell: Some(Price::new(90_000)), max_buy: None };
        let signed = self.sign(&key(MEMBER, 1), Body::StandingLimits { home: home(1), limits });
        signed.verify(self.ledger.chain()).unwrap()
    }

    fn admission(&mut self) -> VerifiedEntry {
        let signed = self.sign(&key(ROLE, 1), Body::Admission(admission(5)));
        let chain = *self.ledger.chain();
        let signed = (1..=3).fold(signed, |signed, seat| signed.countersign(&chain, &key(MEMBER, seat)));
        signed.verify(&chain).unwrap()
    }

    /// What home 2 says of its meter.
    fn evidence(&mut self, from: Interval) -> VerifiedEntry {
        let pv = Some(PvDeclaration { peak_w: 5_000, storage: false });
        let evidence =
            MeterEvidence { home: home(2), from, voltage_dv: vec![2_310], pv, inverter_permille: None };
        let signed = self.sign(&key(READING, 2), Body::MeterEvidence(evidence));
        signed.verify(self.ledger.chain()).unwrap()
    }

    /// What the root meter's node found of homes 1 and 2.
    fn statement(&mut self, until: Interval) -> VerifiedEntry {
        let found = |number, level, voltage| MeterAssurance {
            home: home(number),
            level,
            transformer: Finding::Consistent { figure: 18 },
            pv: Finding::Unknown,
            inverter: Finding::NotApplicable,
            voltage,
        };
        let meters = vec![found(1, 2, Finding::Unknown), found(2, 3, Finding::Consistent { figure: 870 })];
        let body = Body::AssuranceStatement(AssuranceStatement { until, meters });
        let signed = self.sign(&key(READING, 15), body);
        signed.verify(self.ledger.chain()).unwrap()
    }

    /// An entry by a home about itself.
    pub fn own_limits(number: u64, chain: &ledger::Chain) -> SignedEntry {
        let body = Body::StandingLimits { home: home(1), limits: StandingLimits::default() };
        assert_eq!(body.stream(), Stream::Rest);
        Entry { signer: public(MEMBER, 1), number, salt: Salt([3; 16]), body }.sign(chain, &key(MEMBER, 1))
    }
}

/// Stores blocks, decided one second apart.
pub fn store(db: &mut LedgerDb, blocks: &[(Executed, Certificate)]) {
    for (executed, certificate) in blocks {
        db.commit(executed, certificate, 40, 1_700_000_000_000 + executed.block.header.height * 1000)
            .unwrap();
    }
}
