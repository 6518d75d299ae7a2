//! A street of four homes over five weeks on a real ledger, stored as a node stores it: clocks change, a meter is gone
//! for a night, an account runs dry, money comes and goes, a reading is corrected after its month was closed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ed25519_dalek::SigningKey;
use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, Mtu, NodeId, Price, Quality, Reading, TakenAt,
    Timestamp, WattHours,
};
use ledger::{
    Body, Certificate, Entry, Executed, FeePoint, Genesis, Ledger, OwnContract, PublicKey, Salt, Signature,
    TariffPoint, VerifiedEntry, VoteKind, reading_hash, vote_signing_bytes,
};
use node::genesis_file;
use node::store::Durability;
use node::store::ledger_db::LedgerDb;

const HOUR_MS: u64 = 3_600_000;
const MINUTE_MS: u64 = 60_000;
const HOMES: u8 = 4;
/// Midnight in Berlin.
const START: &str = "2026-09-29T22:00:00Z";
/// Midnight in Berlin, in winter.
const END: &str = "2026-11-03T23:00:00Z";
/// The meter of h4 does not answer for 20 hours around the change of clocks.
const GONE: [&str; 2] = ["2026-10-24T10:00:00Z", "2026-10-25T06:00:00Z"];

/// A folder with `ledger.db` and `genesis.toml`, made once for all tests.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bill-street");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        Street::new(&folder, "ledger").run();
        folder
    })
}

/// The same chain where the supplier bills its energy itself, up to 3 October.
pub fn outside() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bill-outside");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        let mut street = Street::new(&folder, "outside");
        street.end = at("2026-10-02T22:00:00Z");
        street.run();
        folder
    })
}

fn at(time: &str) -> Timestamp {
    Timestamp::parse(time).unwrap()
}

fn key(purpose: u8, number: u8) -> SigningKey {
    SigningKey::from_bytes(&[purpose * 16 + number; 32])
}

fn public(purpose: u8, number: u8) -> String {
    PublicKey::of(&key(purpose, number)).hex()
}

fn home(number: u8) -> HomeId {
    HomeId::new(&format!("h{number}")).unwrap()
}

const MEMBER: u8 = 1;
const READING: u8 = 2;
const NETWORK: u8 = 3;
const TERM: u8 = 4;
const ROLE: u8 = 5;
const OPERATOR: u8 = 1;
const TREASURER: u8 = 2;

/// An accelerated chain, so that two blocks an hour are no outage.
fn genesis_toml(supplier_leg: &str) -> String {
    let roles = ["operator", "treasurer", "auditor"];
    let role = |(at, name): (usize, &&str)| {
        format!("{name} = \"{}\"\n", public(ROLE, u8::try_from(at).unwrap() + 1))
    };
    let roles: String = roles.iter().enumerate().map(role).collect();
    let member = |number: u8| {
        let (owner, node) =
            (if number < 3 { "Lane Housing" } else { "Own" }, if number < 3 { "f1" } else { "f2" });
        let deposit = [20, 300, 30, 100][usize::from(number) - 1];
        let keys = [("member", MEMBER), ("reading", READING), ("network", NETWORK)];
        let keys = keys.map(|(name, purpose)| format!("{name} = \"{}\"", public(purpose, number))).join(", ");
        let hash = "07".repeat(32);
        format!(
            "[[member]]\nhome = \"h{number}\"\nowner = \"{owner}\"\nnode = \"{node}\"\ndeposit_n = {deposit}000000000\n\
             keys = {{ {keys} }}\nmeter = {{ serial = \"m{number}\", profile_hash = \"{hash}\" }}\n\
             [[delegate]]\nhome = \"h{number}\"\nkey = \"{}\"\n",
            public(TERM, number)
        )
    };
    let members: String = (1..=HOMES).map(member).collect();
    format!(
        "name = \"Lane East\"\ncurrency = \"EUR\"\nmtu_minutes = 60\nstart = {START}\ndue_after_ms = 900000\n\
         supplier_leg = \"{supplier_leg}\"\nsupplier_credit_n = 1000000000000\n\
         [clock]\norigin = {START}\nwall_origin = {START}\nspeed = 3600\nassurance_every = 24\nepoch_every = 24\n\
         [tariff]\nimport_price = 250000\nexport_price = 80000\n\
         [caps]\nprice_min = -100000\nprice_max = 1000000\ntransfer_max_n = 1000000000000\n[roles]\n{roles}\
         [[node]]\nid = \"grid\"\n\
         [[node]]\nid = \"lv\"\nparent = \"grid\"\nfee_down = 40000\n\
         [[node]]\nid = \"f1\"\nparent = \"lv\"\nfee_down = 10000\n\
         [[node]]\nid = \"f2\"\nparent = \"lv\"\nfee_down = 10000\nfee_up = 2000\n{members}"
    )
}

struct Street {
    ledger: Ledger,
    db: LedgerDb,
    end: Timestamp,
    records: Vec<Option<Reading>>,
    /// What each meter has counted.
    registers: Vec<(u64, u64)>,
    numbers: u64,
}

impl Street {
    fn new(folder: &Path, supplier_leg: &str) -> Self {
        let path = folder.join("genesis.toml");
        fs::write(&path, genesis_toml(supplier_leg)).unwrap();
        let genesis: Genesis = genesis_file::load(&path).unwrap();
        let ledger = Ledger::genesis(&genesis).unwrap();
        let db = LedgerDb::open(&folder.join("ledger.db"), Durability::Normal, &genesis, &home(1)).unwrap();
        let meters = usize::from(HOMES);
        Self {
            ledger,
            db,
            end: at(END),
            records: vec![None; meters],
            registers: vec![(10_000, 500); meters],
            numbers: 0,
        }
    }

    fn run(&mut self) {
        let mut boundary = at(START);
        while boundary <= self.end {
            let readings = self.readings(boundary);
            self.block(boundary.plus_ms(10_000), &readings);
            let other = self.happens(boundary);
            self.block(boundary.plus_ms(16 * MINUTE_MS), &other);
            boundary = boundary.plus_ms(HOUR_MS);
        }
    }

    fn block(&mut self, time: Timestamp, entries: &[VerifiedEntry]) {
        let proposed = self.ledger.propose(time, entries).unwrap();
        assert_eq!(proposed.refused, [], "at {time}");
        self.ledger = proposed.executed.ledger.clone();
        let certificate = self.certify(&proposed.executed);
        self.db.commit(&proposed.executed, &certificate, 40, 1_800_000_000_000).unwrap();
    }

    fn certify(&self, executed: &Executed) -> Certificate {
        let (height, block, round) = (executed.block.header.height, executed.block.id(), 0);
        let message =
            vote_signing_bytes(self.ledger.chain(), VoteKind::Precommit, height, round, Some(&block));
        let vote = |number| {
            let term = key(TERM, number);
            let seat = self.ledger.delegates().seat_of(&PublicKey::of(&term)).unwrap();
            (u8::try_from(seat).unwrap(), Signature::sign(&term, &message))
        };
        let mut signatures: Vec<_> = (1..=3).map(vote).collect();
        signatures.sort_by_key(|(seat, _)| *seat);
        Certificate { height, round, block, signatures }
    }

    fn sign(&mut self, signer: &SigningKey, also: &[SigningKey], body: Body) -> VerifiedEntry {
        self.numbers += 1;
        let salt = Salt([u8::try_from(self.numbers % 251).unwrap(); 16]);
        let entry = Entry { signer: PublicKey::of(signer), number: self.numbers, salt, body };
        let chain = *self.ledger.chain();
        let signed = entry.sign(&chain, signer);
        let signed = also.iter().fold(signed, |signed, key| signed.countersign(&chain, key));
        signed.verify(&chain).unwrap()
    }

    /// Every meter that answers, at the end of the interval before `boundary`.
    fn readings(&mut self, boundary: Timestamp) -> Vec<VerifiedEntry> {
        let interval = Interval::containing(boundary, Mtu::Min60).previous().unwrap();
        let is_first = boundary == at(START);
        let gone = (at(GONE[0])..at(GONE[1])).contains(&boundary);
        let mut entries = Vec::new();
        for meter in 0..usize::from(HOMES) {
            let (import, export) = if is_first { (0, 0) } else { energy(meter, interval) };
            self.registers[meter].0 += import;
            self.registers[meter].1 += export;
            if !(gone && meter == 3) {
                entries.push(self.reading(meter, interval));
            }
        }
        entries
    }

    fn reading(&mut self, meter: usize, interval: Interval) -> VerifiedEntry {
        let number = u8::try_from(meter).unwrap() + 1;
        let last = self.records[meter].take();
        let (record_number, previous_hash) =
            last.map_or((1, [0; 32]), |last| (last.record_number + 1, reading_hash(&last)));
        let reading = Reading {
            serial: MeterSerial::new(&format!("m{number}")).unwrap(),
            meter_epoch: 0,
            interval,
            import_register: WattHours::new(self.registers[meter].0),
            export_register: WattHours::new(self.registers[meter].1),
            raw_registers: vec![1],
            quantum: WattHours::new(1),
            profile_hash: [7; 32],
            quality: Quality::Good,
            clock_quality: ClockQuality::Synced,
            taken_at: TakenAt { time: interval.end(), monotonic_ms: 5, boot_id: [9; 16] },
            record_number,
            previous_hash,
        };
        self.records[meter] = Some(reading.clone());
        self.sign(&key(READING, number), &[], Body::Reading { home: Some(home(number)), reading })
    }

    /// What people do.
    fn happens(&mut self, boundary: Timestamp) -> Vec<VerifiedEntry> {
        let mut entries = Vec::new();
        if boundary.unix_ms() % (24 * HOUR_MS) == 12 * HOUR_MS {
            entries.push(self.tariff(boundary.plus_ms(12 * HOUR_MS)));
        }
        let is = |time: &str| boundary == at(time);
        if is("2026-10-12T12:00:00Z") {
            entries.push(self.evening_fees());
        }
        let (operator, treasurer) = (key(ROLE, OPERATOR), key(ROLE, TREASURER));
        if is("2026-10-19T12:00:00Z") {
            let contract = OwnContract { import_price: Some(Price::new(220_000)), export_price: None };
            let body = Body::OwnContract { home: home(2), contract };
            entries.push(self.sign(&key(MEMBER, 2), std::slice::from_ref(&operator), body));
        }
        if is("2026-10-28T09:00:00Z") {
            let (amount, reference) = (Balance::new(40_000_000_000), "=SEPA 4711".to_owned());
            let body = Body::Deposit { home: Some(home(3)), amount, reference };
            entries.push(self.sign(&treasurer, &[], body));
        }
        if is("2026-10-31T09:00:00Z") {
            let (amount, reference) = (Balance::new(5_000_000_000), "payout 17".to_owned());
            let body = Body::Withdrawal { home: Some(home(1)), amount, reference };
            entries.push(self.sign(&treasurer, &[key(MEMBER, 1)], body));
        }
        if is("2026-11-02T09:00:00Z") {
            let interval = Interval::parse("2026-10-10T10:00:00Z", Mtu::Min60).unwrap();
            let body = Body::Correction { home: home(4), interval, import_delta: -50, export_delta: 0 };
            entries.push(self.sign(&key(MEMBER, 4), std::slice::from_ref(&operator), body));
        }
        entries
    }

    /// From 13 October on the second feeder costs more in the evening; published for one day, it holds for all that follow.
    fn evening_fees(&mut self) -> VerifiedEntry {
        let from = Interval::parse("2026-10-13T00:00:00Z", Mtu::Min60).unwrap();
        let fee = |hour: u64| FeePoint {
            up: Price::new(2_000),
            down: Price::new(if (17..20).contains(&hour) { 30_000 } else { 10_000 }),
        };
        let body =
            Body::NetworkFees { node: NodeId::new("f2").unwrap(), from, points: (0..24).map(fee).collect() };
        self.sign(&key(ROLE, OPERATOR), &[], body)
    }

    /// A day's prices: cheap at night, dear at noon, and below zero on Sunday mornings.
    fn tariff(&mut self, from: Timestamp) -> VerifiedEntry {
        let from = Interval::starting_at(from, Mtu::Min60).unwrap();
        let hour = |index: u64| {
            let of_day = index % 24;
            // 1970-01-01 was a Thursday.
            let sunday = (index / 24) % 7 == 3;
            let (import, export) = match of_day {
                9 if sunday => (-20_000, -60_000),
                10..=12 => (300_000, 80_000),
                20..=23 | 0..=4 => (180_001, 80_000),
                _ => (250_000, 80_000),
            };
            TariffPoint { import_price: Price::new(import), export_price: Price::new(export) }
        };
        let points = (from.index()..from.index() + 24).map(hour).collect();
        self.sign(&key(ROLE, OPERATOR), &[], Body::TariffSeries { from, points })
    }
}

/// What a meter counts in an hour: h1 has panels, h4 a small one behind a pump, the others only take.
fn energy(meter: usize, interval: Interval) -> (u64, u64) {
    let (index, hour) = (interval.index(), interval.index() % 24);
    let sun = if (6..17).contains(&hour) { 900 - 70 * hour.abs_diff(11) } else { 0 };
    match meter {
        0 => (if sun > 0 { 0 } else { 310 + index % 7 }, sun + index % 13),
        1 => (400 + (index * 37) % 211, 0),
        2 => (250 + (index * 53) % 131, 0),
        _ => (120 + index % 17, if sun > 0 { 40 + index % 5 } else { 0 }),
    }
}
