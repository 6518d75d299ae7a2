use energy::Timestamp;
use proptest::prelude::*;

use super::*;

const BOOT: [u8; 16] = [1; 16];
const LIMITS: CounterLimits = CounterLimits { power_max_w: Some(11_000), speed: 1 };

fn at(second: u64) -> TakenAt {
    let time = Timestamp::from_unix_ms(1_700_000_000_000 + second * 1_000);
    TakenAt { time, monotonic_ms: second * 1_000, boot_id: BOOT }
}

fn registers(import: u64, export: u64) -> EnergyRegisters {
    EnergyRegisters { import: WattHours::new(import), export: WattHours::new(export) }
}

fn look_of(serial: &str, second: u64, import: u64, export: u64) -> Look {
    Look {
        serial: MeterSerial::new(serial).unwrap(),
        registers: registers(import, export),
        quantum: WattHours::new(1),
        modulus: None,
        at: at(second),
        clock: ClockQuality::Synced,
    }
}

fn look(second: u64, import: u64, export: u64) -> Look {
    look_of("A1", second, import, export)
}

fn serial(serial: &str) -> MeterSerial {
    MeterSerial::new(serial).unwrap()
}

/// A look at registers that begin again at 655 360 Wh: 16 bits of 10 Wh, as small inverters have.
fn rolling(second: u64, import: u64, export: u64) -> Look {
    Look { modulus: Some(WattHours::new(655_360)), ..look(second, import, export) }
}

/// A counter whose last registers, read at second 0, are `import` and `export`.
fn after(limits: CounterLimits, import: u64, export: u64) -> Counter {
    Counter::after(limits, look(0, import, export))
}

fn accepted(import: u64, export: u64, glitch: u32) -> Result<Accepted, Hold> {
    Ok(Accepted { registers: registers(import, export), glitch })
}

#[track_caller]
fn held(outcome: Result<Accepted, Hold>) -> Suspicion {
    match outcome {
        Err(Hold::Suspect { why, .. }) => why,
        other => panic!("not suspected but {other:?}"),
    }
}

#[test]
fn a_counter_that_shows_zero_for_a_moment_books_neither_the_fall_nor_the_return() {
    let mut counter = after(LIMITS, 53_700_000, 20);
    assert_eq!(
        held(counter.observe(look(10, 0, 20))).to_string(),
        "the import register fell from 53700000 Wh to 0 Wh"
    );
    assert_eq!(counter.observe(look(20, 53_700_030, 20)), accepted(53_700_030, 20, 1));
    for second in [30, 40, 50] {
        held(counter.observe(look(second, 0, 0)));
    }
    assert_eq!(counter.observe(look(60, 53_700_100, 20)), accepted(53_700_100, 20, 3));
    assert_eq!(counter.awaiting(), None);
}

#[test]
fn a_counter_stuck_at_zero_is_no_reset_however_long_it_lasts() {
    let mut counter = after(LIMITS, 53_700_000, 20);
    for second in (10..3_600).step_by(10) {
        held(counter.observe(look(second, 0, 0)));
    }
    held(counter.observe(look(3_600, 53_705_000, 20)));
    assert_eq!(counter.observe(look(3_610, 53_705_000, 20)), accepted(53_705_000, 20, 0));
}

#[test]
fn a_reset_is_concluded_from_three_looks_over_a_minute_that_count_up() {
    let mut counter = after(LIMITS, 9_000, 500);
    for second in [10, 20, 30, 40, 50, 60] {
        held(counter.observe(look(second, second / 10, 0)));
    }
    assert_eq!(counter.awaiting(), None, "50 s are not enough");
    assert_eq!(counter.observe(look(70, 7, 0)), accepted(7, 0, 0));
    let change = counter.awaiting().unwrap();
    assert_eq!(
        (change.closing.registers, change.opening.registers),
        (registers(9_000, 500), registers(1, 0))
    );
    assert_eq!((change.closing.at, change.opening.at), (at(0), at(10)));
    assert_eq!(change.evidence, Evidence::CountsOnLower { looks: 7, over_ms: 60_000 });
    assert_eq!((counter.series(), counter.published_series()), (1, 0));
    counter.registered(&serial("A1"));
    assert_eq!((counter.awaiting(), counter.published_series()), (None, 1));
    assert_eq!(counter.observe(look(80, 9, 0)), accepted(9, 0, 0));
}

#[test]
fn a_minute_of_two_looks_is_no_reset() {
    let mut counter = after(LIMITS, 9_000, 500);
    held(counter.observe(look(10, 1, 0)));
    held(counter.observe(look(90, 5, 0)));
    assert_eq!(counter.awaiting(), None);
    assert!(counter.observe(look(100, 6, 0)).is_ok());
    assert!(counter.awaiting().is_some());
}

#[test]
fn another_serial_number_is_an_exchange_once_it_answered_for_half_a_minute() {
    let mut counter = after(LIMITS, 9_000, 500);
    for second in [10, 20, 30] {
        let why = held(counter.observe(look_of("B2", second, 3, 0)));
        assert_eq!(why.to_string(), "meter B2 answers where meter A1 was");
    }
    assert!(counter.observe(look_of("B2", 40, 3, 0)).is_ok(), "it need not count up: its name is enough");
    let change = counter.awaiting().unwrap().clone();
    assert_eq!((change.old_serial.as_str(), change.new_serial.as_str()), ("A1", "B2"));
    let hold = Hold::Unregistered { change: Box::new(change) };
    assert_eq!(
        hold.to_string(),
        "meter A1 was exchanged for B2 between 2023-11-14T22:13:20Z (closing import 9000 Wh, export 500 Wh) and \
         2023-11-14T22:13:30Z (opening import 3 Wh, export 0 Wh); readings are kept back until the new epoch is \
         registered: commonwatt meter register --serial B2 --closing 9000,500 --opening 3,0"
    );
}

#[test]
fn one_answer_of_a_neighbours_meter_changes_nothing() {
    let mut counter = after(LIMITS, 9_000, 500);
    held(counter.observe(look_of("B2", 10, 9_001, 500)));
    assert_eq!(counter.observe(look(20, 9_002, 500)), accepted(9_002, 500, 1));
}

#[test]
fn the_old_counter_coming_back_takes_an_unregistered_change_back() {
    let mut counter = after(LIMITS, 53_700_000, 20);
    for second in (10..=100).step_by(10) {
        let _ = counter.observe(look(second, second, 0));
    }
    assert!(counter.awaiting().is_some());
    assert_eq!(counter.observe(look(110, 53_700_200, 20)), accepted(53_700_200, 20, 0));
    assert_eq!((counter.awaiting(), counter.series()), (None, 0));
}

#[test]
fn two_resets_before_a_registration_are_two_changes_in_order() {
    let mut counter = after(LIMITS, 9_000, 0);
    for second in (10..=80).step_by(10) {
        let _ = counter.observe(look(second, 100 + second, 0));
    }
    for second in (90..=160).step_by(10) {
        let _ = counter.observe(look(second, second - 80, 0));
    }
    assert_eq!((counter.series(), counter.published_series()), (2, 0));
    let bounds = |counter: &Counter| {
        let change = counter.awaiting().unwrap();
        (change.closing.registers.import.get(), change.opening.registers.import.get())
    };
    assert_eq!(bounds(&counter), (9_000, 110));
    counter.registered(&serial("A1"));
    assert_eq!(bounds(&counter), (180, 10));
    counter.registered(&serial("A1"));
    assert_eq!(counter.observe(look(170, 90, 0)), accepted(90, 0, 0));
}

#[test]
fn a_rollover_is_believed_by_the_declared_modulus_alone_and_once_it_counts_on() {
    let mut counter = after(LIMITS, 655_350, 7);
    let why = held(counter.observe(rolling(10, 5, 7)));
    assert_eq!(why.to_string(), "the import register went from 655350 Wh past its end to 5 Wh");
    held(counter.observe(rolling(20, 5, 8)));
    assert_eq!(counter.observe(rolling(30, 20, 8)), accepted(655_380, 8, 0));
    assert_eq!(counter.observe(rolling(40, 40, 8)), accepted(655_400, 8, 0), "the second round goes on");

    let mut undeclared = after(LIMITS, 655_350, 7);
    assert!(matches!(held(undeclared.observe(look(10, 5, 7))), Suspicion::Fell { .. }));
    let mut early = after(LIMITS, 500_000, 7);
    assert!(matches!(held(early.observe(rolling(10, 5, 7))), Suspicion::Fell { .. }));
    let mut far = after(LIMITS, 600_000, 7);
    assert!(
        matches!(held(far.observe(rolling(10, 5, 7))), Suspicion::Fell { .. }),
        "55 kWh in 10 s are no rollover"
    );
}

#[test]
fn a_zero_beside_the_end_of_a_register_is_no_rollover() {
    let mut counter = after(LIMITS, 655_340, 7);
    for second in (10..100).step_by(10) {
        held(counter.observe(rolling(second, 0, 7)));
    }
    assert_eq!(counter.observe(rolling(100, 655_345, 7)), accepted(655_345, 7, 9));
}

#[test]
fn a_register_beyond_its_modulus_accuses_the_profile() {
    let why = held(after(LIMITS, 655_340, 7).observe(rolling(10, 655_360, 7)));
    assert!(why.to_string().ends_with("the profile's modulus_wh is probably wrong"), "{why}");
}

#[test]
fn a_leap_is_held_for_good_however_possible_time_makes_it() {
    let mut counter = after(LIMITS, 1_000, 0);
    for second in [10, 20, 30] {
        let why = held(counter.observe(look(second, 21_000 + second, 0)));
        assert_eq!(
            why.to_string(),
            "the import register rose by 20010 Wh, but the connection carries at most 38 Wh in that time"
        );
    }
    for second in (40..20_000).step_by(10) {
        let Err(hold) = counter.observe(look(second, 21_000 + second, 0)) else { panic!("believed") };
        let text = hold.to_string();
        assert!(
            text.contains("it stays there") && text.ends_with("--closing 1000,0 --opening 21010,0"),
            "{text}"
        );
    }
    held(counter.observe(look(20_000, 1_900, 0)));
    assert_eq!(counter.observe(look(20_001, 1_900, 0)), accepted(1_900, 0, 0));
}

#[test]
fn a_leap_that_a_person_registers_goes_on_from_where_it_is() {
    let mut counter = after(LIMITS, 1_000, 0);
    for second in [10, 20, 30, 40] {
        assert!(counter.observe(look(second, 21_000 + second, 0)).is_err());
    }
    counter.registered(&serial("A1"));
    assert_eq!(counter.observe(look(50, 21_050, 0)), accepted(21_050, 0, 0));
}

#[test]
fn a_meter_that_refreshes_its_registers_every_five_minutes_does_not_leap() {
    let mut counter = after(LIMITS, 1_000, 0);
    for second in (10..300).step_by(10) {
        assert_eq!(counter.observe(look(second, 1_000, 0)), accepted(1_000, 0, 0));
    }
    assert_eq!(counter.observe(look(300, 1_833, 0)), accepted(1_833, 0, 0), "10 kW for five minutes");
    assert!(matches!(held(counter.observe(look(310, 2_666, 0))), Suspicion::Leapt { .. }));
}

#[test]
fn the_first_registers_ever_need_a_second_look() {
    let mut counter = Counter::new(LIMITS);
    assert_eq!(counter.observe(look(0, 0, 0)), Err(Hold::First));
    assert_eq!(counter.observe(look(1, 53_700_000, 20)), Err(Hold::First), "the 0 was the glitch");
    assert_eq!(counter.observe(look(2, 53_700_000, 20)), accepted(53_700_000, 20, 0));
}

/// Hours after second 0 by the wall clock, `ms` after another boot.
fn rebooted(wall_second: u64, ms: u64, clock: ClockQuality, import: u64) -> Look {
    Look {
        at: TakenAt { boot_id: [2; 16], monotonic_ms: ms, ..at(wall_second) },
        clock,
        ..look(0, import, 0)
    }
}

#[test]
fn across_boots_the_time_of_day_counts_and_without_one_no_rise_is_impossible() {
    let first = |look| held(after(LIMITS, 1_000, 0).observe(look));
    let (synced, unsynced) = (ClockQuality::Synced, ClockQuality::Unsynced);
    assert!(matches!(first(rebooted(3_600, 0, synced, 10_000)), Suspicion::Unwatched { .. }));
    assert!(matches!(first(rebooted(600, 0, synced, 10_000)), Suspicion::Leapt { .. }));
    assert!(matches!(first(rebooted(600, 0, unsynced, 10_000)), Suspicion::Unwatched { .. }));
    assert!(matches!(first(rebooted(600, 0, unsynced, 200_001_000)), Suspicion::Leapt { .. }), "in a year");
    assert!(after(LIMITS, 1_000, 0).observe(rebooted(600, 0, unsynced, 1_100)).is_ok(), "a minute's worth");
}

#[test]
fn the_first_look_after_a_boot_without_time_is_believed_once_a_second_one_agrees() {
    let look = |ms, import| rebooted(0, ms, ClockQuality::Unsynced, import);
    let mut counter = after(LIMITS, 1_000, 0);
    held(counter.observe(look(0, 90_000)));
    held(counter.observe(look(500, 40_000)));
    assert_eq!(counter.observe(look(1_000, 40_001)), accepted(40_001, 0, 0), "the 90 kWh were the glitch");
}

#[test]
fn a_clock_that_was_set_back_while_the_node_was_off_makes_no_leap() {
    let mut counter = Counter::after(LIMITS, look(100_000, 1_000, 0));
    let look = |ms, import| rebooted(60 + ms / 1_000, ms, ClockQuality::Informative, import);
    assert!(matches!(held(counter.observe(look(0, 5_000))), Suspicion::Unwatched { .. }));
    assert_eq!(counter.observe(look(10_000, 5_010)), accepted(5_010, 0, 0));
}

#[test]
fn after_an_outage_a_rise_needs_a_second_look_within_half_a_minute() {
    let mut counter = after(LIMITS, 1_000, 0);
    let why = held(counter.observe(look(3_600, 9_000, 0)));
    assert_eq!(
        why.to_string(),
        "the import register rose by 8000 Wh while it was not read, and one look alone does not count"
    );
    held(counter.observe(look(3_640, 9_010, 0)));
    assert_eq!(counter.observe(look(3_650, 9_015, 0)), accepted(9_015, 0, 0));
}

#[test]
fn a_glitch_that_a_long_outage_would_explain_is_not_believed_alone() {
    let mut counter = after(LIMITS, 1_000, 0);
    held(counter.observe(look(36_000, 90_000, 0)));
    held(counter.observe(look(36_010, 9_000, 0)));
    assert_eq!(counter.observe(look(36_020, 9_010, 0)), accepted(9_010, 0, 0));
}

#[test]
fn a_register_stuck_at_zero_beside_one_that_counts_on_is_no_reset() {
    let mut counter = after(LIMITS, 53_700_000, 20);
    for second in (10..=120).step_by(10) {
        held(counter.observe(look(second, 0, 20 + second / 10)));
    }
    assert_eq!(counter.awaiting(), None);
    assert_eq!(counter.observe(look(130, 53_700_030, 33)), accepted(53_700_030, 33, 12));
}

#[test]
fn looks_that_are_wrong_in_different_ways_are_no_reset_together() {
    let mut counter = after(LIMITS, 1_000, 0);
    held(counter.observe(look(200, 995, 0)));
    for second in [210, 220, 230] {
        let outcome = counter.observe(look(second, 1_230 + second, 0));
        assert_eq!(counter.awaiting(), None, "{outcome:?}");
    }
    assert_eq!(counter.observe(look(290, 1_600, 0)), accepted(1_600, 0, 0));
}

#[test]
fn a_meter_registered_before_it_answers_is_taken_up_when_it_does() {
    let mut counter = after(LIMITS, 9_000, 500);
    counter.registered(&serial("B2"));
    assert_eq!((counter.published_serial(), counter.series()), (None, 1));
    assert_eq!(counter.observe(look_of("B2", 10, 3, 0)), Err(Hold::First));
    assert_eq!(counter.observe(look_of("B2", 20, 4, 0)), accepted(4, 0, 0));
    assert_eq!((counter.awaiting(), counter.published_series()), (None, 1));
}

#[test]
fn a_leap_that_was_none_because_the_clock_was_slow_is_taken_back_when_it_is_set() {
    let after_boot = |wall_second, monotonic_second: u64, import| Look {
        at: TakenAt { boot_id: [2; 16], monotonic_ms: monotonic_second * 1_000, ..at(wall_second) },
        ..look(0, import, 0)
    };
    // Off for three hours, but the clock says one minute.
    let mut counter = after(LIMITS, 1_000, 0);
    assert!(matches!(held(counter.observe(after_boot(60, 5, 11_000))), Suspicion::Leapt { .. }));
    assert!(counter.observe(after_boot(70, 15, 11_010)).is_err());
    assert!(matches!(held(counter.observe(after_boot(10_825, 25, 11_020))), Suspicion::Unwatched { .. }));
    assert_eq!(counter.observe(after_boot(10_826, 26, 11_020)), accepted(11_020, 0, 0));
}

#[test]
fn a_broken_meter_cannot_pile_up_changes() {
    let mut counter = after(LIMITS, 1_000_000, 0);
    for second in (10..100_000).step_by(10) {
        let _ = counter.observe(look(second, 1 + second / 10 % 20, 0));
    }
    assert_eq!(counter.series(), 8);
    let text = counter.memory(0).to_text().unwrap();
    assert!(text.len() < 16 * 1024, "{}", text.len());
}

#[test]
fn a_damaged_memory_is_refused_with_what_is_wrong() {
    let text = after(LIMITS, 9_000, 500).memory(3).to_text().unwrap();
    assert_eq!(Memory::parse(&text).unwrap().meter_epoch, 3);
    for cut in 0..text.len() {
        assert!(
            matches!(Memory::parse(&text[..cut]), Err(MemoryError::Damaged(_))),
            "half a memory was read"
        );
    }
    let altered = Memory::parse(&text.replace("9000", "9001")).unwrap_err();
    assert_eq!(
        altered.to_string(),
        "the memory of the counter is damaged or of another version: it is not whole"
    );
    assert!(matches!(Memory::parse(&" ".repeat(70_000)), Err(MemoryError::TooLong(70_000))));
}

fn any_look() -> impl Strategy<Value = (u64, bool, u64, u64)> {
    (1u64..2_000, prop::bool::weighted(0.9), prop_oneof![0u64..200, 5_000u64..5_200, any::<u64>()], 0u64..50)
}

proptest! {
    #[test]
    fn whatever_a_meter_says_accepted_registers_never_fall_within_a_series_and_a_restart_changes_nothing(
        looks in prop::collection::vec(any_look(), 1..80),
        modulus in prop::option::of(100u64..6_000),
        speed in 1u32..1_000,
    ) {
        let limits = CounterLimits { speed, ..LIMITS };
        let mut counter = Counter::new(limits);
        let (mut last, mut second) = (None, 0u64);
        for (pause, same, import, export) in looks {
            second += pause;
            let mut restarted =
                Counter::from_memory(limits, Memory::parse(&counter.memory(0).to_text().unwrap()).unwrap());
            // TOML numbers have 63 bits, and so has no meter more.
            let import = import >> 1;
            let look = look_of(if same { "A1" } else { "B2" }, second, import, export);
            let look = Look { modulus: modulus.map(WattHours::new), ..look };
            let outcome = counter.observe(look.clone());
            prop_assert_eq!(&restarted.observe(look), &outcome);
            if let Ok(Accepted { registers, .. }) = outcome {
                if let Some((series, before)) = last.filter(|(series, _)| *series == counter.series()) {
                    let before: EnergyRegisters = before;
                    prop_assert!(registers.import >= before.import && registers.export >= before.export, "{}", series);
                }
                last = Some((counter.series(), registers));
            }
        }
    }
}
