//! A small community to try rules on: keys from fixed bytes, meters with registers and journals, blocks at times.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, Money, Mtu, NodeId, Price, Quality, Reading,
    TakenAt, Timestamp, WattHours,
};
use ledger::{
    Admission, BlockError, Body, Caps, Delegate, Entry, EntryError, Executed, Forward, Genesis,
    GenesisMember, HomeOutcome, IntervalOutcome, Ledger, MemberKeys, MeterExchange, MeterRegistration,
    Outcome, OutcomeKind, Proposed, PublicKey, Registers, Roles, RootMeter, Salt, SignedEntry, TariffPoint,
    VerifiedEntry, reading_hash,
};
use market::{Account, NodeSpec, SupplierLeg};

/// What a key is for; the first byte of its seed.
#[derive(Debug, Clone, Copy)]
pub enum Use {
    Member = 1,
    Reading = 2,
    Network = 3,
    Term = 4,
    Role = 5,
}

pub const OPERATOR: (Use, u8) = (Use::Role, 1);
pub const TREASURER: (Use, u8) = (Use::Role, 2);
pub const AUDITOR: (Use, u8) = (Use::Role, 3);
pub const METERING: (Use, u8) = (Use::Role, 4);
pub const ROOT_METER: (Use, u8) = (Use::Role, 5);
pub const TRUSTEE: (Use, u8) = (Use::Role, 6);

/// 1 000 of the currency.
pub const DEPOSIT: i64 = 1_000_000_000_000;
/// The most a treasurer moves alone.
pub const TRANSFER_MAX: i64 = 500_000_000_000;

pub const fn key(of: (Use, u8)) -> SigningKeySeed {
    SigningKeySeed([of.0 as u8, of.1])
}

/// Two bytes that make a key.
#[derive(Debug, Clone, Copy)]
pub struct SigningKeySeed([u8; 2]);

impl SigningKeySeed {
    pub fn signing(self) -> SigningKey {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&self.0);
        SigningKey::from_bytes(&seed)
    }

    pub fn public(self) -> PublicKey {
        PublicKey::of(&self.signing())
    }
}

pub fn home(number: u8) -> HomeId {
    HomeId::new(&format!("h{number:03}")).unwrap()
}

pub fn account(number: u8) -> Account<HomeId> {
    Account::Home(home(number))
}

pub fn start() -> Timestamp {
    Timestamp::parse("2026-06-01T00:00:00Z").unwrap()
}

/// The start and `minutes` more.
pub fn at(minutes: u64) -> Timestamp {
    start().plus_ms(minutes * 60_000)
}

pub fn tariff(import: i64, export: i64) -> TariffPoint {
    TariffPoint { import_price: Price::new(import), export_price: Price::new(export) }
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
        owner: format!("owner {number}"),
        node: NodeId::new(node).unwrap(),
        size: ledger::ConnectionSize::default(),
        keys: MemberKeys {
            member: key((Use::Member, number)).public(),
            reading: key((Use::Reading, number)).public(),
            network: key((Use::Network, number)).public(),
        },
        meter: registration(number, 0),
    }
}

fn node(id: &str, parent: Option<&str>, fee_up: i64, fee_down: i64) -> NodeSpec {
    NodeSpec {
        id: NodeId::new(id).unwrap(),
        parent: parent.map(|parent| NodeId::new(parent).unwrap()),
        fee_up: Price::new(fee_up),
        fee_down: Price::new(fee_down),
        up: None,
        down: None,
    }
}

/// Homes 1 to `homes`, odd ones on feeder f1, even ones on f2; the first four at the most are delegates.
pub fn genesis(homes: u8) -> Genesis {
    Genesis {
        name: "Test street".to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start: start(),
        clock: None,
        due_after_ms: 900_000,
        forward: Forward::Off,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::new(DEPOSIT),
        network: vec![
            node("grid", None, 0, 0),
            node("lv", Some("grid"), 0, 40_000),
            node("f1", Some("lv"), 0, 10_000),
            node("f2", Some("lv"), 0, 10_000),
        ],
        tariff: tariff(250_000, 80_000),
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(TRANSFER_MAX),
        },
        roles: Roles {
            operator: key(OPERATOR).public(),
            treasurer: key(TREASURER).public(),
            auditor: key(AUDITOR).public(),
            trustee: Some(key(TRUSTEE).public()),
            metering_operator: Some(key(METERING).public()),
        },
        root_meter: Some(RootMeter {
            key: key(ROOT_METER).public(),
            serial: MeterSerial::new("ROOT").unwrap(),
            profile_hash: [9; 32],
            quantum: WattHours::new(1),
        }),
        members: (1..=homes)
            .map(|number| GenesisMember {
                admission: admission(number),
                participation: ledger::Participation::default(),
                deposit: Balance::new(DEPOSIT),
            })
            .collect(),
        delegates: (1..=homes.min(4))
            .map(|number| Delegate { key: key((Use::Term, number)).public(), home: home(number) })
            .collect(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    }
}

/// One meter with its home's journal; number 0 is the root meter.
#[derive(Debug, Clone, Default)]
struct Meter {
    epoch: u32,
    import: u64,
    export: u64,
    record: u64,
    previous: [u8; 32],
}

/// A chain under test, with all that ever came out of it.
pub struct Fixture {
    pub genesis: Genesis,
    pub ledger: Ledger,
    pub blocks: Vec<Executed>,
    meters: BTreeMap<u8, Meter>,
    number: u64,
}

impl Fixture {
    pub fn new(homes: u8) -> Self {
        Self::of(genesis(homes))
    }

    /// A community whose genesis `change` has altered.
    pub fn with(homes: u8, change: impl FnOnce(&mut Genesis)) -> Self {
        let mut genesis = genesis(homes);
        change(&mut genesis);
        Self::of(genesis)
    }

    fn of(genesis: Genesis) -> Self {
        let ledger = Ledger::genesis(&genesis).unwrap();
        ledger.check_invariants().unwrap();
        Self { genesis, ledger, blocks: Vec::new(), meters: BTreeMap::new(), number: 0 }
    }

    /// The interval `offset` after the first; −1 ends where the chain starts.
    pub fn interval(&self, offset: i64) -> Interval {
        let first = Interval::containing(self.genesis.start, self.genesis.mtu).index();
        Interval::from_index(first.checked_add_signed(offset).unwrap(), self.genesis.mtu)
    }

    /// The start of this chain and `minutes` more.
    pub fn time(&self, minutes: u64) -> Timestamp {
        self.genesis.start.plus_ms(minutes * 60_000)
    }

    pub fn entry(&mut self, body: Body, signer: (Use, u8)) -> Entry {
        self.number += 1;
        let salt = Salt([u8::try_from(self.number % 251).unwrap(); 16]);
        Entry { signer: key(signer).public(), number: self.number, salt, body }
    }

    /// An entry signed by its author and countersigned by `others`.
    pub fn signed(&mut self, body: Body, signer: (Use, u8), others: &[(Use, u8)]) -> SignedEntry {
        let chain = *self.ledger.chain();
        let signed = self.entry(body, signer).sign(&chain, &key(signer).signing());
        others.iter().fold(signed, |signed, other| signed.countersign(&chain, &key(*other).signing()))
    }

    pub fn verified(&mut self, body: Body, signer: (Use, u8), others: &[(Use, u8)]) -> VerifiedEntry {
        let chain = *self.ledger.chain();
        self.signed(body, signer, others).verify(&chain).unwrap()
    }

    /// The next record of a meter, as it stands; not signed, and not written into its journal.
    pub fn record(&self, number: u8, offset: i64) -> Reading {
        let meter = self.meters.get(&number).cloned().unwrap_or_default();
        let interval = self.interval(offset);
        let serial = if number == 0 { "ROOT".to_owned() } else { format!("M-{number}") };
        Reading {
            serial: MeterSerial::new(&serial).unwrap(),
            meter_epoch: meter.epoch,
            interval,
            import_register: WattHours::new(meter.import),
            export_register: WattHours::new(meter.export),
            raw_registers: vec![],
            quantum: WattHours::new(1),
            profile_hash: [9; 32],
            quality: Quality::Good,
            clock_quality: ClockQuality::Synced,
            taken_at: TakenAt { time: interval.end(), monotonic_ms: 0, boot_id: [0; 16] },
            record_number: meter.record + 1,
            previous_hash: meter.previous,
        }
    }

    /// Signs a record with its home's reading key.
    pub fn sign_record(&mut self, number: u8, reading: Reading) -> VerifiedEntry {
        let home = (number > 0).then(|| home(number));
        let signer = if number == 0 { ROOT_METER } else { (Use::Reading, number) };
        self.verified(Body::Reading { home, reading }, signer, &[])
    }

    /// Lets a meter count on, and reads it at the end of an interval into its journal.
    pub fn read(&mut self, number: u8, offset: i64, import: u64, export: u64) -> VerifiedEntry {
        let meter = self.meters.entry(number).or_default();
        meter.import += import;
        meter.export += export;
        let reading = self.record(number, offset);
        let meter = self.meters.entry(number).or_default();
        meter.record = reading.record_number;
        meter.previous = reading_hash(&reading);
        self.sign_record(number, reading)
    }

    /// Baselines of homes 1 to `homes` at the end of interval −1, in a first block.
    pub fn baselines(&mut self, homes: u8) {
        let entries: Vec<_> = (1..=homes).map(|number| self.read(number, -1, 1_000, 500)).collect();
        self.block(self.time(1), &entries);
    }

    /// Lets a meter count on without a reading.
    pub fn count(&mut self, number: u8, import: u64, export: u64) {
        let meter = self.meters.entry(number).or_default();
        meter.import += import;
        meter.export += export;
    }

    /// Which meter it is by now.
    pub fn epoch(&self, number: u8) -> u32 {
        self.meters.get(&number).map_or(0, |meter| meter.epoch)
    }

    /// What a meter shows.
    pub fn registers(&self, number: u8) -> Registers {
        let meter = self.meters.get(&number).cloned().unwrap_or_default();
        Registers { import: wh(meter.import), export: wh(meter.export) }
    }

    /// A new meter at a home, its registration signed by member and operator with the registers of both; for the root meter
    /// (number 0) by operator and auditor.
    pub fn register_exchange(&mut self, number: u8, epoch: u32, import: u64, export: u64) -> VerifiedEntry {
        let closing = self.registers(number);
        self.exchange_meter(number, epoch, import, export);
        let exchange = Some(MeterExchange { closing, opening: self.registers(number) });
        if number == 0 {
            let meter =
                MeterRegistration { epoch, ..self.genesis.root_meter.clone().unwrap().registration() };
            let body = Body::MeterRegistration { home: None, meter, exchange };
            return self.verified(body, OPERATOR, &[AUDITOR]);
        }
        let meter = registration(number, epoch);
        let body = Body::MeterRegistration { home: Some(home(number)), meter, exchange };
        self.verified(body, (Use::Member, number), &[OPERATOR])
    }

    /// A new meter at a home: the registers start again.
    pub fn exchange_meter(&mut self, number: u8, epoch: u32, import: u64, export: u64) {
        let meter = self.meters.entry(number).or_default();
        (meter.epoch, meter.import, meter.export) = (epoch, import, export);
    }

    /// Heartbeats every 5 minutes, then a block with `entries` after `minutes`.
    pub fn after(&mut self, minutes: u64, entries: &[VerifiedEntry]) -> &Executed {
        self.idle_until(minutes);
        self.block(self.time(minutes), entries)
    }

    /// Heartbeats every 5 minutes before `minutes`.
    pub fn idle_until(&mut self, minutes: u64) {
        loop {
            let next = self.ledger.head_time().plus_ms(300_000);
            if next >= self.time(minutes) {
                break;
            }
            self.block(next, &[]);
        }
    }

    /// Proposes a block of all `entries`, and carries it out as another delegate would.
    pub fn block(&mut self, time: Timestamp, entries: &[VerifiedEntry]) -> &Executed {
        let proposed = self.propose(time, entries);
        assert_eq!(proposed.refused, vec![], "all entries are valid");
        self.blocks.last().unwrap()
    }

    /// Proposes a block of what is valid among `entries`, carries it out as another delegate would, and moves on.
    pub fn propose(&mut self, time: Timestamp, entries: &[VerifiedEntry]) -> Proposed {
        let proposed = self.ledger.propose(time, entries).unwrap();
        let executed = self.ledger.execute(&proposed.executed.block).unwrap();
        assert_same(&executed, &proposed.executed);
        executed.ledger.check_invariants().unwrap();
        self.ledger = executed.ledger.clone();
        self.blocks.push(executed);
        proposed
    }

    /// Why an entry is refused at a time: alone, by a proposer, and in a block of somebody who proposes it all the same.
    pub fn refusal(&self, time: Timestamp, entry: &VerifiedEntry) -> EntryError {
        let error = self.ledger.check(entry, time).unwrap_err();
        let proposed = self.ledger.propose(time, std::slice::from_ref(entry)).unwrap();
        assert_eq!(proposed.refused, [(entry.id(), error.clone())]);
        let mut block = proposed.executed.block;
        assert!(block.entries.is_empty());
        block.entries.push(entry.clone());
        let expected = BlockError::Entry { position: 0, error: error.clone() };
        assert_eq!(self.ledger.execute(&block).unwrap_err(), expected);
        error
    }

    pub fn balance(&self, number: u8) -> i64 {
        self.ledger.balance(&account(number)).get()
    }

    /// Every outcome of every block, with its height.
    pub fn outcomes(&self) -> impl Iterator<Item = (u64, &Outcome)> {
        self.blocks.iter().flat_map(|executed| {
            let height = executed.block.header.height;
            executed.outcomes.iter().map(move |outcome| (height, outcome))
        })
    }

    /// A home's outcomes of one kind for an interval.
    pub fn outcomes_of(&self, number: u8, offset: i64, kind: OutcomeKind) -> Vec<&HomeOutcome> {
        let interval = self.interval(offset);
        self.outcomes()
            .filter_map(|(_, outcome)| match outcome {
                Outcome::Home(of)
                    if of.home == home(number) && of.interval == interval && of.kind == kind =>
                {
                    Some(of)
                }
                _ => None,
            })
            .collect()
    }

    /// A home's only outcome of a kind for an interval.
    pub fn outcome(&self, number: u8, offset: i64, kind: OutcomeKind) -> &HomeOutcome {
        let found = self.outcomes_of(number, offset, kind);
        assert_eq!(found.len(), 1, "{kind:?} of home {number} in interval {offset}");
        found[0]
    }

    pub fn settled(&self, number: u8, offset: i64) -> &HomeOutcome {
        self.outcome(number, offset, OutcomeKind::Settled)
    }

    pub fn late(&self, number: u8, offset: i64) -> &HomeOutcome {
        self.outcome(number, offset, OutcomeKind::Late)
    }

    /// The community's outcome of an interval, if it is settled.
    pub fn community(&self, offset: i64) -> Option<(u64, &IntervalOutcome)> {
        let interval = self.interval(offset);
        self.outcomes().find_map(|(height, outcome)| match outcome {
            Outcome::Interval(of) if of.interval == interval => Some((height, of)),
            _ => None,
        })
    }
}

/// Two delegates that came to the same.
pub fn assert_same(left: &Executed, right: &Executed) {
    assert_eq!(left.block, right.block);
    assert_eq!(left.leaves, right.leaves);
    assert_eq!(left.outcomes, right.outcomes);
    assert_eq!(left.postings, right.postings);
    assert_eq!(left.readings, right.readings);
    assert_eq!(left.statements, right.statements);
    assert_eq!(left.ledger.snapshot(), right.ledger.snapshot());
}

pub fn wh(energy: u64) -> WattHours {
    WattHours::new(energy)
}

pub fn nano(amount: i128) -> Money {
    Money::new(amount)
}
