use energy::{MeterSerial, Quality, WattHours};
use ledger::{Body, EntryError, SignatureError};

use crate::fixture::*;

#[test]
fn the_first_reading_is_a_baseline_only() {
    let mut street = Fixture::new(2);
    let entry = street.read(1, -1, 123_456, 7);
    let executed = street.block(at(1), &[entry]);
    assert_eq!((executed.outcomes.len(), executed.postings.len(), executed.readings.len()), (0, 0, 1));
    street.after(30, &[]);
    assert_eq!(street.settled(1, 0).metered, None);
    assert_eq!(street.balance(1), DEPOSIT);
}

#[test]
fn a_falling_register_is_refused_and_both_values_are_named() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let mut reading = street.record(1, 0);
    reading.import_register = WattHours::new(999);
    let entry = street.sign_record(1, reading.clone());
    assert_eq!(
        street.refusal(at(16), &entry).to_string(),
        "the import register fell from 1000 Wh to 999 Wh; if the meter was exchanged, register it first"
    );
    (reading.import_register, reading.export_register) = (WattHours::new(1_000), WattHours::new(0));
    let entry = street.sign_record(1, reading);
    assert!(matches!(street.refusal(at(16), &entry), EntryError::RegisterFell { register: "export", .. }));
}

#[test]
fn more_energy_than_a_connection_carries_is_refused() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let mut reading = street.record(1, 1);
    reading.import_register = WattHours::new(1_000 + 2_000_000);
    let entry = street.sign_record(1, reading.clone());
    assert!(street.ledger.check(&entry, at(31)).is_ok(), "1 MWh in each of two intervals is possible");
    reading.import_register = WattHours::new(1_000 + 2_000_001);
    let entry = street.sign_record(1, reading.clone());
    assert_eq!(
        street.refusal(at(31), &entry).to_string(),
        "the import register grew by 2000001 Wh where 2000000 Wh are possible; if the meter was exchanged, register it \
         first"
    );
    // A wrapped decoder would otherwise have stopped the settlement of the whole street.
    (reading.import_register, reading.export_register) = (WattHours::new(1_000), WattHours::new(u64::MAX));
    let entry = street.sign_record(1, reading);
    assert!(matches!(street.refusal(at(31), &entry), EntryError::Implausible { register: "export", .. }));
}

#[test]
fn a_new_meter_is_registered_before_it_is_read_and_starts_with_a_baseline() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let before = street.read(1, 0, 100, 0);
    street.after(16, &[before]);
    street.exchange_meter(1, 1, 5, 5);
    let reading = street.record(1, 1);
    let entry = street.sign_record(1, reading);
    assert_eq!(
        street.refusal(at(31), &entry).to_string(),
        "the reading is of meter M-1 epoch 1, but M-1 epoch 0 is registered; register the new meter first"
    );
    let register = Body::MeterRegistration { home: Some(home(1)), meter: registration(1, 1), exchange: None };
    let alone = street.verified(register.clone(), (Use::Member, 1), &[]);
    assert!(matches!(street.refusal(at(17), &alone), EntryError::NotEntitled { needed: "the operator", .. }));
    let register = street.verified(register, (Use::Member, 1), &[OPERATOR]);
    let baseline = street.read(1, 1, 0, 0);
    let next = street.read(1, 2, 40, 0);
    street.after(17, &[register]);
    street.after(46, &[baseline, next]);
    street.after(60, &[]);
    assert_eq!(street.settled(1, 0).metered.unwrap().import, wh(100));
    assert_eq!(street.settled(1, 1).metered, None, "the interval of the exchange has only a baseline");
    assert_eq!(street.settled(1, 2).metered.unwrap().import, wh(40));
    let again = Body::MeterRegistration { home: Some(home(1)), meter: registration(1, 1), exchange: None };
    let again = street.verified(again, (Use::Member, 1), &[OPERATOR]);
    assert!(matches!(street.refusal(at(63), &again), EntryError::Malformed { .. }), "epochs only grow");
}

#[test]
fn a_new_meter_cannot_be_read_in_intervals_the_old_one_was_read_in() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let entries = [street.read(1, 0, 100, 0), street.read(1, 1, 100, 0)];
    street.after(31, &entries);
    let register = Body::MeterRegistration { home: Some(home(1)), meter: registration(1, 1), exchange: None };
    let register = street.verified(register, (Use::Member, 1), &[OPERATOR]);
    street.after(32, &[register]);
    street.exchange_meter(1, 1, 0, 0);
    // Between its baseline and the next reading the interval 1 would wait for its deadline twice.
    let early = street.record(1, 0);
    let early = street.sign_record(1, early);
    assert!(matches!(street.refusal(at(33), &early), EntryError::OutOfOrder { .. }));
    let same = street.record(1, 1);
    let same = street.sign_record(1, same);
    assert!(
        street.ledger.check(&same, at(33)).is_ok(),
        "the end of the last interval is where the new one begins"
    );
}

#[test]
fn a_meter_counts_for_one_home() {
    let mut street = Fixture::new(2);
    let register = Body::MeterRegistration { home: Some(home(1)), meter: registration(2, 1), exchange: None };
    let register = street.verified(register, (Use::Member, 1), &[OPERATOR]);
    let EntryError::Malformed { what } = street.refusal(at(1), &register) else {
        panic!("refused otherwise")
    };
    assert_eq!(what, "the meter's serial number is registered for another home");
}

#[test]
fn a_number_is_used_once_and_only_upwards() {
    let mut street = Fixture::new(2);
    let first = street.read(1, -1, 0, 0);
    let second = street.read(1, 0, 10, 0);
    street.block(at(1), std::slice::from_ref(&first));
    assert!(street.ledger.is_used(first.entry()));
    let error = street.refusal(at(16), &first);
    assert_eq!(
        error.to_string(),
        "number 1 of stream Readings was used already; the next of this signer must be above 1"
    );
    // A gap is allowed; what was left out can no longer come.
    let third = street.read(1, 1, 10, 0);
    street.after(31, &[third]);
    assert!(street.ledger.is_used(second.entry()));
    assert!(matches!(street.refusal(at(32), &second), EntryError::NumberUsed { number: 2, last: 3, .. }));
}

#[test]
fn numbers_of_different_streams_do_not_hold_each_other_up() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let reading = street.read(1, 0, 10, 0);
    let limits = Body::StandingLimits { home: home(1), limits: ledger::StandingLimits::default() };
    let limits = street.verified(limits, (Use::Member, 1), &[]);
    street.after(16, &[limits]);
    street.after(17, &[reading]);
}

#[test]
fn a_forged_signature_and_another_chain_are_refused() {
    let mut street = Fixture::new(2);
    let chain = *street.ledger.chain();
    let reading = Body::Reading { home: Some(home(1)), reading: street.record(1, -1) };
    let entry = street.entry(reading, (Use::Reading, 1));
    let forged = entry.clone().sign(&chain, &key((Use::Reading, 2)).signing());
    let author = key((Use::Reading, 1)).public();
    assert_eq!(forged.verify(&chain), Err(SignatureError::Forged { key: author }));
    let other = Fixture::with(2, |genesis| genesis.name = "Other street".to_owned());
    let foreign = entry.clone().sign(other.ledger.chain(), &key((Use::Reading, 1)).signing());
    assert_eq!(foreign.verify(&chain), Err(SignatureError::Forged { key: author }));
    let recovered = ledger::Chain { recovery: 1, ..chain };
    let old = entry.sign(&recovered, &key((Use::Reading, 1)).signing());
    assert_eq!(old.verify(&chain), Err(SignatureError::Forged { key: author }));
}

#[test]
fn countersignatures_stand_once_and_in_order_and_never_for_the_author() {
    let mut street = Fixture::new(2);
    let chain = *street.ledger.chain();
    let body = Body::BankBalance { amount: energy::Balance::new(1) };
    let twice = street.signed(body.clone(), TREASURER, &[AUDITOR, AUDITOR]);
    assert_eq!(twice.verify(&chain), Err(SignatureError::Disordered));
    let own = street.signed(body, TREASURER, &[TREASURER]);
    assert_eq!(own.verify(&chain), Err(SignatureError::Disordered));
}

#[test]
fn signatures_may_come_in_any_order_and_make_the_same_entry() {
    let mut street = Fixture::new(2);
    let chain = *street.ledger.chain();
    let body = Body::BankBalance { amount: energy::Balance::new(1) };
    let entry = street.entry(body, TREASURER);
    let [author, other] = [TREASURER, AUDITOR].map(|who| key(who).signing());
    let first = entry.clone().sign(&chain, &author).countersign(&chain, &other);
    let begun = ledger::SignedEntry::unsigned(entry).countersign(&chain, &other);
    assert_eq!(begun.clone().verify(&chain), Err(SignatureError::NoAuthor));
    let begun = begun.countersign(&chain, &author);
    assert_eq!(begun, first);
    assert_eq!(begun.verify(&chain).unwrap().id(), first.verify(&chain).unwrap().id());
}

#[test]
fn what_nobody_else_could_decode_is_not_signed_into_a_block() {
    let mut street = Fixture::new(2);
    let chain = *street.ledger.chain();
    let body = Body::Deposit { home: None, amount: energy::Balance::new(1), reference: "x".repeat(65) };
    assert_eq!(street.signed(body, TREASURER, &[]).verify(&chain), Err(SignatureError::NotCanonical));
    let mut reading = street.record(1, -1);
    reading.raw_registers = vec![0; 126];
    let body = Body::Reading { home: Some(home(1)), reading };
    assert_eq!(street.signed(body, (Use::Reading, 1), &[]).verify(&chain), Err(SignatureError::NotCanonical));
    let points = vec![tariff(1, 1); 193];
    let body = Body::TariffSeries { from: street.interval(10), points };
    assert_eq!(street.signed(body, OPERATOR, &[]).verify(&chain), Err(SignatureError::NotCanonical));
}

#[test]
fn a_reading_is_signed_by_its_homes_reading_key() {
    let mut street = Fixture::new(2);
    let reading = street.record(1, -1);
    for signer in [(Use::Member, 1), (Use::Reading, 2), OPERATOR] {
        let body = Body::Reading { home: Some(home(1)), reading: reading.clone() };
        let entry = street.verified(body, signer, &[]);
        assert!(matches!(street.refusal(at(1), &entry), EntryError::NotEntitled { kind: "reading", .. }));
    }
    let body = Body::Reading { home: Some(home(99)), reading };
    let entry = street.verified(body, (Use::Reading, 99), &[]);
    assert_eq!(street.refusal(at(1), &entry), EntryError::UnknownHome { home: home(99) });
}

#[test]
fn a_reading_from_the_future_or_before_the_chain_is_refused() {
    let mut street = Fixture::new(2);
    let entry = street.read(1, 0, 0, 0);
    assert!(matches!(street.refusal(at(14), &entry), EntryError::FromTheFuture { .. }));
    assert!(street.ledger.check(&entry, at(15)).is_ok(), "at the interval's end it is no future");
    let reading = street.record(1, -2);
    let entry = street.sign_record(1, reading);
    assert!(matches!(street.refusal(at(14), &entry), EntryError::BeforeTheStart { .. }));
}

#[test]
fn only_what_the_meter_showed_is_settled_on() {
    let mut street = Fixture::new(2);
    for quality in Quality::ALL {
        let mut reading = street.record(1, -1);
        reading.quality = quality;
        let entry = street.sign_record(1, reading);
        if matches!(quality, Quality::Good | Quality::Estimated | Quality::Gap) {
            assert!(street.ledger.check(&entry, at(1)).is_ok(), "{quality:?}");
        } else {
            assert_eq!(street.refusal(at(1), &entry), EntryError::Unusable { quality });
        }
    }
}

#[test]
fn the_journal_may_skip_a_record_but_not_fork() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let mut reading = street.record(1, 0);
    reading.record_number = 1;
    let entry = street.sign_record(1, reading);
    assert_eq!(
        street.refusal(at(16), &entry).to_string(),
        "record 1 does not continue the journal: its number was used already"
    );
    let mut reading = street.record(1, 0);
    reading.previous_hash = [1; 32];
    let entry = street.sign_record(1, reading.clone());
    assert!(matches!(street.refusal(at(16), &entry), EntryError::BrokenChain { number: 2, .. }));
    // A record between that was never sent (a suspect one, say) is a visible gap.
    reading.record_number = 3;
    let entry = street.sign_record(1, reading);
    assert!(street.ledger.check(&entry, at(16)).is_ok());
}

#[test]
fn another_meter_profile_or_market_time_unit_is_refused() {
    let mut street = Fixture::new(2);
    let good = street.record(1, -1);
    let mut profile = good.clone();
    profile.profile_hash = [1; 32];
    let mut serial = good.clone();
    serial.serial = MeterSerial::new("M-2").unwrap();
    let mut epoch = good.clone();
    epoch.meter_epoch = 1;
    for reading in [profile.clone(), serial, epoch] {
        let entry = street.sign_record(1, reading);
        assert!(matches!(street.refusal(at(1), &entry), EntryError::OtherMeter { .. }));
    }
    let entry = street.sign_record(1, profile);
    let refusal = street.refusal(at(1), &entry).to_string();
    assert!(
        refusal.ends_with("another device profile than it is registered with; register the meter again"),
        "{refusal}"
    );
    let mut hourly = good;
    hourly.interval = energy::Interval::from_index(1, energy::Mtu::Min60);
    let entry = street.sign_record(1, hourly);
    assert_eq!(street.refusal(at(1), &entry), EntryError::WrongMtu);
}

#[test]
fn the_same_interval_is_not_read_twice() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let first = street.read(1, 0, 10, 0);
    street.after(16, &[first]);
    let again = street.read(1, 0, 10, 0);
    assert!(matches!(street.refusal(at(17), &again), EntryError::OutOfOrder { .. }));
}

#[test]
fn a_journal_older_than_the_remembered_prices_is_refused_and_the_next_reading_covers_it() {
    let mut street = Fixture::with(2, |genesis| genesis.mtu = energy::Mtu::Min60);
    street.baselines(2);
    let days: i64 = 61 * 24;
    // An outage of 61 days; ten minutes after it, everything settles without readings.
    street.block(at(days.unsigned_abs() * 60), &[]);
    street.block(at(days.unsigned_abs() * 60 + 10), &[]);
    assert_eq!(street.ledger.next_to_settle(), street.interval(days - 1));
    let now = at(days.unsigned_abs() * 60 + 11);
    let mut old = street.record(1, 2);
    old.import_register = WattHours::new(1_000 + 30);
    let old = street.sign_record(1, old);
    assert!(matches!(street.refusal(now, &old), EntryError::TooOld { .. }));
    // All 61 days in one lump: nothing is lost, everything falls on the 60 days whose prices are known.
    let lump = street.read(1, days - 1, 146_400, 0);
    let executed = street.block(now, &[lump]);
    let metered = executed.outcomes.iter().map(|outcome| match outcome {
        ledger::Outcome::Home(of) => of.metered.unwrap().import.get(),
        _ => 0,
    });
    let (late, pending): (u64, u64) = (metered.sum(), 146_400 / (60 * 24 + 1));
    assert_eq!(executed.outcomes.len(), 60 * 24);
    assert_eq!(late + pending, 146_400);
}
