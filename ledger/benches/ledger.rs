//! What one core of a delegate does with a block: `cargo bench -p ledger`.
//!
//! `verify` checks the signatures of 1 000 readings; `propose` and `execute` carry them out, signatures verified before;
//! `settle` is the deadline block of 118 homes that all read their meters; `state_root` takes up a snapshot of 118 homes, which
//! decodes it and computes every digest anew.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ed25519_dalek::SigningKey;
use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, Mtu, NodeId, Price, Quality, Reading, TakenAt,
    Timestamp, WattHours,
};
use ledger::{
    Admission, Body, Caps, Delegate, Entry, Forward, Genesis, GenesisMember, Ledger, MemberKeys,
    MeterRegistration, PublicKey, Roles, Salt, SignedEntry, TariffPoint, VerifiedEntry, reading_hash,
};
use market::{NodeSpec, SupplierLeg};

/// 2026-06-01T00:00:00Z.
const START_MS: u64 = 1_780_272_000_000;

fn at(minutes: u64) -> Timestamp {
    Timestamp::from_unix_ms(START_MS + minutes * 60_000)
}

fn key(purpose: u8, number: u16) -> SigningKey {
    let mut seed = [0; 32];
    seed[0] = purpose;
    seed[1..3].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

fn public(purpose: u8, number: u16) -> PublicKey {
    PublicKey::of(&key(purpose, number))
}

fn home(number: u16) -> HomeId {
    HomeId::new(&format!("h{number:04}")).unwrap()
}

fn serial(number: u16) -> MeterSerial {
    MeterSerial::new(&format!("M{number}")).unwrap()
}

/// Ten homes a feeder.
fn node(id: &str, parent: Option<&str>) -> NodeSpec {
    let (id, parent) = (NodeId::new(id).unwrap(), parent.map(|parent| NodeId::new(parent).unwrap()));
    NodeSpec { id, parent, fee_up: Price::ZERO, fee_down: Price::new(10_000), up: None, down: None }
}

fn member(number: u16) -> GenesisMember {
    let keys =
        MemberKeys { member: public(1, number), reading: public(2, number), network: public(3, number) };
    let meter = MeterRegistration {
        serial: serial(number),
        epoch: 0,
        profile_hash: [9; 32],
        quantum: WattHours::new(1),
    };
    let node = NodeId::new(&format!("f{}", number / 10)).unwrap();
    let admission = Admission {
        home: home(number),
        owner: format!("owner {number}"),
        node,
        size: ledger::ConnectionSize::default(),
        keys,
        meter,
    };
    GenesisMember {
        admission,
        participation: ledger::Participation::default(),
        deposit: Balance::new(1_000_000_000_000),
    }
}

fn genesis(homes: u16) -> Genesis {
    let feeders = (0..=homes / 10).map(|feeder| node(&format!("f{feeder}"), Some("grid")));
    Genesis {
        name: "Bench street".to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start: at(0),
        clock: None,
        due_after_ms: 900_000,
        forward: Forward::Off,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::new(1_000_000_000_000),
        network: std::iter::once(node("grid", None)).chain(feeders).collect(),
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(1),
        },
        roles: Roles {
            operator: public(5, 1),
            treasurer: public(5, 2),
            auditor: public(5, 3),
            trustee: None,
            metering_operator: None,
        },
        root_meter: None,
        members: (1..=homes).map(member).collect(),
        delegates: (1..=7).map(|number| Delegate { key: public(4, number), home: home(number) }).collect(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    }
}

/// A home's reading at the end of the interval of the chain's start, or of the one before.
fn reading(number: u16, record: u64, previous: Option<&Reading>) -> Reading {
    let interval = Interval::from_index(at(0).unix_ms() / 900_000 + record - 2, Mtu::Min15);
    let energy = u64::from(number % 7) * 100 * record;
    let (import, export) = if number.is_multiple_of(3) { (0, energy) } else { (energy, 0) };
    Reading {
        serial: serial(number),
        meter_epoch: 0,
        interval,
        import_register: WattHours::new(import),
        export_register: WattHours::new(export),
        raw_registers: vec![0; 8],
        quantum: WattHours::new(1),
        profile_hash: [9; 32],
        quality: Quality::Good,
        clock_quality: ClockQuality::Synced,
        taken_at: TakenAt { time: interval.end(), monotonic_ms: 1, boot_id: [0; 16] },
        record_number: record,
        previous_hash: previous.map_or([0; 32], reading_hash),
    }
}

fn sign(ledger: &Ledger, number: u16, reading: Reading) -> SignedEntry {
    let record = reading.record_number;
    let body = Body::Reading { home: Some(home(number)), reading };
    let entry = Entry { signer: public(2, number), number: record, salt: Salt([7; 16]), body };
    entry.sign(ledger.chain(), &key(2, number))
}

/// A ledger of homes that gave their baselines, and the signed readings of its first interval.
fn street(homes: u16) -> (Genesis, Ledger, Vec<SignedEntry>) {
    let genesis = genesis(homes);
    let ledger = Ledger::genesis(&genesis).unwrap();
    let (mut baselines, mut entries) = (Vec::new(), Vec::new());
    for number in 1..=homes {
        let first = reading(number, 1, None);
        entries.push(sign(&ledger, number, reading(number, 2, Some(&first))));
        baselines.push(sign(&ledger, number, first));
    }
    let baselines = verified(&ledger, &baselines);
    let ledger = ledger.propose(at(8), &baselines).unwrap().executed.ledger;
    (genesis, ledger, entries)
}

fn verified(ledger: &Ledger, entries: &[SignedEntry]) -> Vec<VerifiedEntry> {
    entries.iter().cloned().map(|entry| entry.verify(ledger.chain()).unwrap()).collect()
}

fn blocks(criterion: &mut Criterion) {
    let (_, ledger, signed) = street(1_000);
    let entries = verified(&ledger, &signed);
    criterion.bench_function("ledger::verify/entries=1000", |bencher| {
        bencher.iter_batched(|| signed.clone(), |signed| verified(&ledger, &signed), BatchSize::LargeInput);
    });
    criterion.bench_function("ledger::propose/entries=1000", |bencher| {
        bencher.iter(|| ledger.propose(at(16), black_box(&entries)).unwrap());
    });
    let proposed = ledger.propose(at(16), &entries).unwrap();
    assert!(proposed.refused.is_empty());
    let block = proposed.executed.block;
    criterion.bench_function("ledger::execute/entries=1000", |bencher| {
        bencher.iter(|| ledger.execute(black_box(&block)).unwrap());
    });
}

fn settlement(criterion: &mut Criterion) {
    let (genesis, ledger, signed) = street(118);
    let entries = verified(&ledger, &signed);
    let read = ledger.propose(at(16), &entries).unwrap().executed.ledger;
    let ready = read.propose(at(23), &[]).unwrap().executed.ledger;
    assert_eq!(ready.propose(at(30), &[]).unwrap().executed.outcomes.len(), 119);
    criterion.bench_function("ledger::settle/homes=118", |bencher| {
        bencher.iter(|| ready.propose(black_box(at(30)), &[]).unwrap());
    });
    let snapshot = ready.snapshot();
    criterion.bench_function("ledger::state_root/homes=118", |bencher| {
        bencher.iter(|| Ledger::restore(&genesis, black_box(&snapshot)).unwrap());
    });
}

criterion_group!(benches, blocks, settlement);
criterion_main!(benches);
