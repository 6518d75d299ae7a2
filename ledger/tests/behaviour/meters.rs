//! Meters that take the place of others: no Wh is lost, none is invented, whatever happens between two readings.

use energy::Quality;
use ledger::{Body, EntryError, MeterExchange, MeterRegistration, Outcome, OutcomeKind, Registers};
use proptest::prelude::*;

use crate::fixture::*;

fn at_exchange(closing: (u64, u64), opening: (u64, u64)) -> Option<MeterExchange> {
    let registers = |(import, export)| Registers { import: wh(import), export: wh(export) };
    Some(MeterExchange { closing: registers(closing), opening: registers(opening) })
}

fn registered(number: u8, epoch: u32, exchange: Option<MeterExchange>) -> Body {
    Body::MeterRegistration { home: Some(home(number)), meter: registration(number, epoch), exchange }
}

#[test]
fn with_the_registers_at_the_exchange_no_watt_hour_is_lost() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let before = street.read(1, 0, 100, 40);
    street.after(16, &[before]);
    // In interval 1 the old meter counts 30 and 5 Wh more, is taken off, and the new one counts 12 and 3.
    street.count(1, 30, 5);
    let register = street.register_exchange(1, 1, 7_000, 9_000);
    street.after(20, &[register]);
    let first = street.read(1, 1, 12, 3);
    street.after(31, &[first]);
    let next = street.read(1, 2, 50, 0);
    street.after(46, &[next]);
    street.after(65, &[]);
    let metered = |offset| street.settled(1, offset).metered.unwrap();
    assert_eq!((metered(0).import, metered(0).export), (wh(100), wh(40)));
    assert_eq!((metered(1).import, metered(1).export), (wh(42), wh(8)));
    assert_eq!((metered(2).import, metered(2).export), (wh(50), wh(0)));
    assert_eq!(street.settled(1, 1).quality, Some(Quality::Good), "one interval is no lump");
}

#[test]
fn an_exchange_over_several_intervals_is_a_lump_like_any_other() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.count(1, 40, 0);
    let register = street.register_exchange(1, 1, 0, 0);
    street.after(17, &[register]);
    let reading = street.read(1, 3, 61, 0);
    street.after(64, &[reading]);
    street.after(76, &[]);
    let late = |offset| street.late(1, offset).metered.unwrap().import;
    assert_eq!([late(0), late(1), late(2)], [wh(26), wh(25), wh(25)]);
    let last = street.settled(1, 3);
    assert_eq!((last.metered.unwrap().import, last.quality), (wh(25), Some(Quality::Gap)));
}

#[test]
fn two_exchanges_between_two_readings_lose_nothing_either() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.count(1, 30, 1);
    let first = street.register_exchange(1, 1, 100, 100);
    street.count(1, 20, 2);
    let second = street.register_exchange(1, 2, 0, 0);
    let reading = street.read(1, 0, 10, 4);
    street.after(16, &[first, second, reading]);
    street.after(30, &[]);
    let metered = street.settled(1, 0).metered.unwrap();
    assert_eq!((metered.import, metered.export), (wh(60), wh(7)));
}

#[test]
fn an_exchange_without_registers_cannot_drop_the_energy_of_the_one_before() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.count(1, 30, 1);
    let first = street.register_exchange(1, 1, 100, 100);
    street.after(2, &[first]);
    let without = street.verified(registered(1, 2, None), (Use::Member, 1), &[OPERATOR]);
    let EntryError::Malformed { what } = street.refusal(at(3), &without) else { panic!("refused otherwise") };
    assert!(what.contains("would be lost; give the closing and opening registers"), "{what}");
    let again = at_exchange((100, 100), (7, 7));
    let with = street.verified(registered(1, 2, again), (Use::Member, 1), &[OPERATOR]);
    street.exchange_meter(1, 2, 7, 7);
    let reading = street.read(1, 0, 10, 4);
    street.after(16, &[with, reading]);
    street.after(30, &[]);
    let metered = street.settled(1, 0).metered.unwrap();
    assert_eq!((metered.import, metered.export), (wh(40), wh(5)));
    // Once it is read nothing waits any more.
    let baseline = street.verified(registered(1, 3, None), (Use::Member, 1), &[OPERATOR]);
    assert!(street.ledger.check(&baseline, at(31)).is_ok());
}

#[test]
fn a_closing_register_below_the_last_reading_is_refused() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let exchange = at_exchange((1_000, 499), (0, 0));
    let entry = street.verified(registered(1, 1, exchange), (Use::Member, 1), &[OPERATOR]);
    assert_eq!(
        street.refusal(at(2), &entry).to_string(),
        "the old meter's closing export register is 499 Wh, below the 500 Wh at which it was read before; give what \
         it showed last"
    );
}

#[test]
fn a_closing_register_further_than_a_connection_carries_is_refused() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    // Since the end of interval −1, in interval 0: 1 MWh at the most.
    let most = at_exchange((1_001_000, 500), (0, 0));
    let entry = street.verified(registered(1, 1, most), (Use::Member, 1), &[OPERATOR]);
    assert!(street.ledger.check(&entry, at(2)).is_ok());
    let more = at_exchange((1_001_001, 500), (0, 0));
    let entry = street.verified(registered(1, 1, more), (Use::Member, 1), &[OPERATOR]);
    assert!(matches!(
        street.refusal(at(2), &entry),
        EntryError::ClosingImplausible { register: "import", .. }
    ));
}

#[test]
fn a_reading_below_the_opening_register_is_refused() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let register = street.register_exchange(1, 1, 50, 50);
    street.block(at(2), &[register]);
    street.exchange_meter(1, 1, 49, 50);
    let reading = street.record(1, 0);
    let entry = street.sign_record(1, reading);
    assert!(matches!(street.refusal(at(16), &entry), EntryError::RegisterFell { register: "import", .. }));
}

#[test]
fn what_was_never_read_cannot_be_closed() {
    let mut street = Fixture::new(2);
    let entry = street.verified(registered(1, 1, at_exchange((5, 5), (0, 0))), (Use::Member, 1), &[OPERATOR]);
    let EntryError::Malformed { what } = street.refusal(at(1), &entry) else { panic!("refused otherwise") };
    assert!(what.contains("never read"), "{what}");
}

#[test]
fn the_carried_energy_and_the_new_meters_together_stay_plausible() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.count(1, 600_000, 0);
    let register = street.register_exchange(1, 1, 0, 0);
    street.block(at(2), &[register]);
    street.count(1, 400_001, 0);
    let reading = street.record(1, 0);
    let entry = street.sign_record(1, reading);
    assert!(matches!(street.refusal(at(16), &entry), EntryError::Implausible { register: "import", .. }));
}

#[test]
fn the_root_meter_is_replaced_by_operator_and_auditor_and_losses_go_on() {
    let mut street = Fixture::new(1);
    let entries = [street.read(1, -1, 0, 0), street.read(0, -1, 5_000, 0)];
    street.block(at(1), &entries);
    street.count(0, 60, 0);
    let meter = MeterRegistration { epoch: 1, ..street.genesis.root_meter.clone().unwrap().registration() };
    let body = Body::MeterRegistration { home: None, meter, exchange: None };
    let alone = street.verified(body.clone(), OPERATOR, &[]);
    assert!(matches!(street.refusal(at(2), &alone), EntryError::NotEntitled { needed: "the auditor", .. }));
    let member = street.verified(body, (Use::Member, 1), &[OPERATOR, AUDITOR]);
    assert!(matches!(street.refusal(at(2), &member), EntryError::NotEntitled { needed: "the operator", .. }));
    let register = street.register_exchange(0, 1, 8, 0);
    street.block(at(2), &[register]);
    assert_eq!(street.ledger.root_meter().unwrap().epoch, 1);
    let mut old = street.record(0, 0);
    old.meter_epoch = 0;
    let old = street.sign_record(0, old);
    assert!(matches!(street.refusal(at(16), &old), EntryError::OtherMeter { .. }));
    let entries = [street.read(0, 0, 48, 0), street.read(1, 0, 100, 0)];
    street.after(16, &entries);
    street.after(30, &[]);
    assert_eq!(street.community(0).unwrap().1.losses, Some(60 + 48 - 100));
}

#[test]
fn without_its_registers_a_new_root_meter_starts_with_a_baseline_in_no_interval_read_before() {
    let mut street = Fixture::new(1);
    let entries = [street.read(0, -1, 5_000, 0), street.read(0, 0, 100, 0), street.read(0, 1, 100, 0)];
    street.after(31, &entries);
    let meter = MeterRegistration { epoch: 1, ..street.genesis.root_meter.clone().unwrap().registration() };
    let body = Body::MeterRegistration { home: None, meter, exchange: None };
    let register = street.verified(body, OPERATOR, &[AUDITOR]);
    street.after(32, &[register]);
    street.exchange_meter(0, 1, 0, 0);
    let early = street.record(0, 0);
    let early = street.sign_record(0, early);
    assert!(matches!(street.refusal(at(33), &early), EntryError::OutOfOrder { .. }));
    let baseline = street.read(0, 1, 3, 0);
    assert!(street.ledger.check(&baseline, at(33)).is_ok());
}

#[test]
fn the_root_meter_cannot_show_more_than_a_transformer_carries() {
    let mut street = Fixture::new(1);
    let first = street.read(0, -1, 0, 0);
    street.block(at(1), &[first]);
    let mut reading = street.record(0, 1);
    reading.import_register = wh(2_000_001);
    let entry = street.sign_record(0, reading);
    assert!(matches!(street.refusal(at(31), &entry), EntryError::Implausible { register: "import", .. }));
}

#[test]
fn a_home_cannot_count_by_the_root_meter_nor_the_root_by_a_homes() {
    let mut street = Fixture::new(2);
    let root = street.genesis.root_meter.clone().unwrap().registration();
    let as_home = Body::MeterRegistration {
        home: Some(home(1)),
        meter: MeterRegistration { epoch: 1, ..root },
        exchange: None,
    };
    let entry = street.verified(as_home, (Use::Member, 1), &[OPERATOR]);
    let EntryError::Malformed { what } = street.refusal(at(1), &entry) else { panic!("refused otherwise") };
    assert!(what.contains("root meter"), "{what}");
    let as_root = Body::MeterRegistration { home: None, meter: registration(2, 1), exchange: None };
    let entry = street.verified(as_root, OPERATOR, &[AUDITOR]);
    assert!(matches!(street.refusal(at(1), &entry), EntryError::Malformed { .. }));
}

#[test]
fn where_there_is_no_root_meter_none_can_be_registered() {
    let mut street = Fixture::with(1, |genesis| genesis.root_meter = None);
    let body = Body::MeterRegistration { home: None, meter: registration(9, 1), exchange: None };
    let entry = street.verified(body, OPERATOR, &[AUDITOR]);
    assert_eq!(street.refusal(at(1), &entry), EntryError::NoRootMeter);
}

#[test]
fn an_accepted_reading_says_by_which_meter_and_how_finely() {
    let mut street = Fixture::new(1);
    let mut reading = street.record(1, -1);
    reading.quantum = wh(10);
    let entry = street.sign_record(1, reading.clone());
    let accepted = street.block(at(1), &[entry]).readings[0].clone();
    assert_eq!((accepted.serial, accepted.epoch, accepted.quantum), (reading.serial, 0, wh(10)));
    assert_eq!(
        (accepted.profile_hash, accepted.clock_quality),
        (reading.profile_hash, reading.clock_quality)
    );
}

/// What happens in one interval of a meter's life.
#[derive(Debug, Clone)]
struct Stretch {
    /// Energy before and after the exchanges in it, and between them.
    counts: Vec<(u64, u64)>,
    /// Where each new meter's registers begin.
    openings: Vec<(u64, u64)>,
    is_read: bool,
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let pair = || (0_u64..900, 0_u64..900);
    (
        prop::collection::vec(pair(), 3),
        prop::collection::vec((0_u64..1 << 40, 0_u64..1 << 40), 0..3),
        any::<bool>(),
    )
        .prop_map(|(counts, openings, is_read)| Stretch { counts, openings, is_read })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Over any history of exchanges, resets and missing readings, what is settled is what was used: to the Wh.
    #[test]
    fn whatever_meters_follow_one_another_each_watt_hour_is_settled_once(
        life in prop::collection::vec(stretch(), 1..14),
    ) {
        let mut street = Fixture::new(1);
        street.baselines(1);
        let (mut used, mut covered, mut epoch) = ((0, 0), (0, 0), 0);
        for (offset, stretch) in life.iter().enumerate() {
            let (offset, mut entries) = (i64::try_from(offset).unwrap(), Vec::new());
            let minutes = 15 * u64::try_from(offset + 1).unwrap();
            for (position, (import, export)) in stretch.counts.iter().enumerate() {
                street.count(1, *import, *export);
                used = (used.0 + import, used.1 + export);
                if let Some((import, export)) = stretch.openings.get(position) {
                    epoch += 1;
                    entries.push(street.register_exchange(1, epoch, *import, *export));
                }
            }
            if stretch.is_read {
                entries.push(street.read(1, offset, 0, 0));
                covered = used;
            }
            street.after(minutes + 1, &entries);
        }
        street.after(15 * u64::try_from(life.len() + 2).unwrap() + 16, &[]);
        let mut settled = (0, 0);
        for (_, outcome) in street.outcomes() {
            let Outcome::Home(of) = outcome else { continue };
            prop_assert!(of.kind != OutcomeKind::Correction);
            let metered = of.metered.unwrap_or_default();
            settled = (settled.0 + metered.import.get(), settled.1 + metered.export.get());
        }
        prop_assert_eq!(settled, covered);
    }
}
