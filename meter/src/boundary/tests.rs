use super::*;

const FIRST: u64 = 1_628_640;
const MTU: Mtu = Mtu::Min15;

fn interval(number: u64) -> Interval {
    Interval::from_index(FIRST + number, MTU)
}

fn config(meter_epoch: u32) -> TrackerConfig {
    let registered = Some(registered(meter_epoch, "21040123"));
    TrackerConfig { registered, mtu: MTU, limits: CounterLimits::default() }
}

fn registered(epoch: u32, serial: &str) -> RegisteredMeter {
    RegisteredMeter { epoch, serial: MeterSerial::new(serial).unwrap(), profile_hash: [7; 32] }
}

/// `ms` after the end of interval `number` (before it, if negative), on both clocks.
fn at(number: u64, ms: i64) -> TakenAt {
    let unix_ms = interval(number).end().unix_ms().checked_add_signed(ms).unwrap();
    TakenAt { time: Timestamp::from_unix_ms(unix_ms), monotonic_ms: unix_ms, boot_id: [1; 16] }
}

fn seen(at: TakenAt, import: u64, export: u64) -> Observation {
    let registers = EnergyRegisters { import: WattHours::new(import), export: WattHours::new(export) };
    let look = Look {
        serial: MeterSerial::new("21040123").unwrap(),
        registers,
        quantum: WattHours::new(1),
        modulus: None,
        at,
        clock: ClockQuality::Synced,
    };
    Observation { look, raw: vec![1, 2, 3, 4], profile_hash: [7; 32] }
}

fn of_meter(serial: &str, observation: Observation) -> Observation {
    let serial = MeterSerial::new(serial).unwrap();
    Observation { look: Look { serial, ..observation.look }, ..observation }
}

/// A tracker whose meter was seen steadily a minute before the end of interval 0.
fn tracker() -> BoundaryTracker {
    let mut tracker = BoundaryTracker::new(config(0), None);
    for ms in [-61_000, -60_500] {
        let _ = tracker.observe(seen(at(0, ms), 1_000, 50));
    }
    tracker
}

/// Sees the registers and records the reading at the end of `number`.
fn record(tracker: &mut BoundaryTracker, number: u64, import: u64, export: u64) -> Reading {
    tracker.observe(seen(at(number, 0), import, export)).unwrap();
    let reading = tracker.reading(interval(number)).unwrap();
    tracker.recorded(&reading, [u8::try_from(number).unwrap(); 32]);
    reading
}

#[test]
fn readings_are_chained_numbered_and_carry_the_whole_sample() {
    let mut tracker = BoundaryTracker::new(config(3), None);
    assert_eq!(tracker.observe(seen(at(4, -900), 1_000, 50)), Err(Hold::First));
    let first = record(&mut tracker, 4, 1_000, 50);
    assert_eq!((first.record_number, first.previous_hash, first.quality), (0, [0; 32], Quality::Good));
    assert_eq!(tracker.observe(seen(at(5, 1_999), 1_400, 50)), Ok(0));
    let second = tracker.reading(interval(5)).unwrap();
    assert_eq!((second.record_number, second.previous_hash, second.quality), (1, [4; 32], Quality::Good));
    assert_eq!(
        (second.meter_epoch, second.interval, second.raw_registers.clone()),
        (3, interval(5), vec![1, 2, 3, 4])
    );
    assert_eq!((second.profile_hash, second.quantum), ([7; 32], WattHours::new(1)));
    assert_eq!((second.taken_at, second.clock_quality), (at(5, 1_999), ClockQuality::Synced));
    let energy = IntervalEnergy { import: WattHours::new(400), export: WattHours::ZERO, intervals: 1 };
    assert_eq!(tracker.energy_of(&second), Some(energy));
    assert_eq!(BoundaryTracker::new(config(3), None).energy_of(&first), None);
}

#[test]
fn a_meter_that_counts_only_one_way_is_told_so() {
    let some = Some(WattHours::new(7));
    assert_eq!(both(some, some).unwrap().import, WattHours::new(7));
    assert_eq!(both(None, some).unwrap_err(), BoundaryError::NoRegister { register: Register::Import });
    assert_eq!(
        both(some, None).unwrap_err().to_string(),
        "this meter has no export register, and readings need both import and export; measure the connection point \
         with a meter that counts both ways"
    );
}

#[test]
fn a_missed_boundary_makes_the_next_reading_a_gap_over_all_its_intervals() {
    let mut tracker = tracker();
    record(&mut tracker, 0, 1_000, 50);
    for number in [1, 2] {
        assert!(matches!(tracker.reading(interval(number)), Err(BoundaryError::NotAtBoundary { .. })));
    }
    tracker.observe(seen(at(3, 0), 1_900, 50)).unwrap();
    let gap = tracker.reading(interval(3)).unwrap();
    assert_eq!((gap.quality, gap.record_number), (Quality::Gap, 1));
    assert_eq!(tracker.energy_of(&gap).unwrap().intervals, 3);
    tracker.recorded(&gap, [9; 32]);
    assert_eq!(record(&mut tracker, 4, 1_950, 50).quality, Quality::Good);
}

#[test]
fn the_sample_nearest_to_a_boundary_within_two_seconds_is_its_registers() {
    let mut tracker = tracker();
    for (ms, import) in [(-2_001, 1_010), (-1_500, 1_011), (900, 1_012), (1_900, 1_013)] {
        tracker.observe(seen(at(0, ms), import, 50)).unwrap();
    }
    let reading = tracker.reading(interval(0)).unwrap();
    assert_eq!((reading.import_register.get(), reading.quality), (1_012, Quality::Good));
}

#[test]
fn between_two_samples_a_minute_apart_the_registers_are_interpolated_and_marked() {
    let mut tracker = tracker();
    tracker.observe(seen(at(0, -20_000), 1_100, 50)).unwrap();
    assert!(tracker.reading(interval(0)).is_err());
    tracker.observe(seen(at(0, 40_000), 1_401, 80)).unwrap();
    let reading = tracker.reading(interval(0)).unwrap();
    // A third of the way, floored: 1100 + 301 / 3 and 50 + 30 / 3.
    assert_eq!((reading.import_register.get(), reading.export_register.get()), (1_200, 60));
    assert_eq!((reading.quality, reading.taken_at), (Quality::Estimated, at(0, 40_000)));

    let mut tracker = BoundaryTracker::new(config(0), None);
    for ms in [-21_500, -20_001, 40_000] {
        let _ = tracker.observe(seen(at(0, ms), 1_100, 50));
    }
    let error = tracker.reading(interval(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no registers were read within 2000 ms of 2016-06-13T00:15:00Z, nor twice within 60000 ms around it; the next \
         reading will cover the interval"
    );
}

#[test]
fn nothing_is_interpolated_across_a_clock_that_was_set() {
    let mut tracker = tracker();
    tracker.observe(seen(at(0, -20_000), 1_100, 50)).unwrap();
    let set = TakenAt { monotonic_ms: at(0, -10_000).monotonic_ms, ..at(0, 20_000) };
    tracker.observe(seen(set, 1_110, 50)).unwrap();
    assert!(tracker.reading(interval(0)).is_err());
}

#[test]
fn a_glitch_at_the_boundary_costs_nothing_if_the_next_look_is_in_time() {
    let mut tracker = tracker();
    record(&mut tracker, 0, 53_700, 50);
    assert!(tracker.observe(seen(at(1, 100), 0, 0)).is_err());
    let error = tracker.reading(interval(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "interval 2016-06-13T00:15:00Z has no reading: the import register fell from 53700 Wh to 0 Wh; nothing is \
         booked and it is read again (1 so far); if it stays so, the meter was reset or exchanged"
    );
    assert_eq!(tracker.observe(seen(at(1, 700), 54_000, 50)), Ok(1));
    assert_eq!(tracker.reading(interval(1)).unwrap().import_register.get(), 54_000);
}

#[test]
fn readings_of_an_unregistered_epoch_wait_and_none_is_lost() {
    let mut tracker = tracker();
    record(&mut tracker, 0, 9_000, 50);
    let new = |number, ms, import| of_meter("99", seen(at(number, ms), import, 0));
    for ms in [-60_000, -50_000, -40_000] {
        assert!(matches!(tracker.observe(new(1, ms, 5)), Err(Hold::Suspect { .. })));
    }
    for (number, import) in [(1, 40), (2, 300), (3, 700)] {
        assert!(matches!(tracker.observe(new(number, 0, import)), Err(Hold::Unregistered { .. })));
    }
    assert_eq!(tracker.due(at(3, 0), ClockQuality::Synced), Ok(None));
    tracker.registered(registered(1, "99"));
    let mut late = Vec::new();
    while let Some(reading) = tracker.due(at(3, 10), ClockQuality::Synced).unwrap() {
        tracker.recorded(&reading, [0; 32]);
        late.push((reading.meter_epoch, reading.interval, reading.import_register.get(), reading.quality));
    }
    let good = Quality::Good;
    assert_eq!(
        late,
        [(1, interval(1), 40, good), (1, interval(2), 300, good), (1, interval(3), 700, good)],
        "each boundary has its own reading"
    );
}

#[test]
fn a_registration_while_the_node_was_off_is_taken_up_with_the_change_that_waited() {
    let mut tracker = tracker();
    record(&mut tracker, 0, 9_000, 50);
    for ms in [10_000, 20_000, 30_000, 40_000, 50_000] {
        let _ = tracker.observe(of_meter("99", seen(at(0, ms), 5, 0)));
    }
    assert!(tracker.awaiting().is_some());
    let exchanged = TrackerConfig { registered: Some(registered(4, "99")), ..config(0) };
    let mut back = BoundaryTracker::resume(exchanged, tracker.last().cloned(), Some(tracker.memory()));
    assert_eq!((back.awaiting(), back.hold()), (None, None));
    assert_eq!(back.observe(of_meter("99", seen(at(1, 0), 400, 0))), Ok(0));
    assert_eq!(back.reading(interval(1)).unwrap().meter_epoch, 4);
}

#[test]
fn a_memory_older_than_the_journal_or_of_another_meter_is_not_used() {
    let mut old = tracker();
    record(&mut old, 0, 9_000, 50);
    let memory = old.memory();
    let later = record(&mut old, 1, 9_400, 50);
    let last = Some(LastRecord::of(&later, [1; 32]));
    let mut tracker = BoundaryTracker::resume(config(0), last.clone(), Some(memory.clone()));
    assert!(matches!(tracker.observe(seen(at(2, 0), 9_399, 50)), Err(Hold::Suspect { .. })));
    let exchanged = last.map(|last| LastRecord { serial: MeterSerial::new("5").unwrap(), ..last });
    let config = TrackerConfig { registered: Some(registered(0, "5")), ..config(0) };
    let mut tracker = BoundaryTracker::resume(config, exchanged, Some(memory));
    assert!(tracker.observe(of_meter("5", seen(at(2, 0), 9_400, 50))).is_ok());
}

#[test]
fn samples_without_a_time_of_day_become_readings_when_the_time_is_known() {
    let untimed = |number, ms, import| {
        let mut observation = seen(at(number, ms), import, 0);
        observation.look.at.time = Timestamp::EPOCH;
        observation.look.clock = ClockQuality::Unsynced;
        observation
    };
    let mut tracker = BoundaryTracker::new(config(0), None);
    let _ = tracker.observe(untimed(0, -500, 100));
    tracker.observe(untimed(0, 1_000, 100)).unwrap();
    for (number, ms, import) in [(1, -20_000, 190), (1, 10_000, 220), (2, 1_970, 400)] {
        tracker.observe(untimed(number, ms, import)).unwrap();
    }
    assert_eq!(tracker.due(at(2, 5_000), ClockQuality::Unsynced), Ok(None));
    assert_eq!(tracker.reading(interval(2)), Err(BoundaryError::NoTime));
    let mut readings = Vec::new();
    while let Some(reading) = tracker.due(at(5, 0), ClockQuality::Synced).unwrap() {
        tracker.recorded(&reading, [0; 32]);
        readings.push((reading.interval, reading.import_register.get(), reading.quality));
        assert_eq!(reading.clock_quality, ClockQuality::Informative);
    }
    assert_eq!(
        readings,
        [
            (interval(0), 100, Quality::Good),
            (interval(1), 210, Quality::Estimated),
            // 1.97 s beside the boundary, and 0.27 s of drift in three quarters of an hour.
            (interval(2), 400, Quality::Estimated),
        ]
    );
}

#[test]
fn a_day_without_time_keeps_a_day_of_samples_and_no_more() {
    let mut tracker = BoundaryTracker::new(config(0), None);
    for second in (0..2 * 86_400).step_by(10) {
        let mut observation = seen(at(0, second * 1_000), 1_000, 0);
        observation.look.clock = ClockQuality::Unsynced;
        let _ = tracker.observe(observation);
    }
    let first = tracker.due(at(192, 0), ClockQuality::Synced).unwrap().unwrap();
    assert_eq!(first.interval, interval(96), "the first day is gone, the second is whole");
}

#[test]
fn an_interval_is_read_once_and_in_order() {
    let mut tracker = tracker();
    record(&mut tracker, 0, 1_000, 50);
    assert_eq!(
        tracker.reading(interval(0)),
        Err(BoundaryError::NotLater { interval: interval(0), last: interval(0) })
    );
    assert_eq!(tracker.due(at(0, 1_000), ClockQuality::Synced), Ok(None));
}

#[test]
fn what_does_not_fit_the_record_is_refused() {
    let mut tracker = tracker();
    let long = Observation { raw: vec![0; RAW_REGISTERS_MAX + 1], ..seen(at(0, 0), 1_000, 50) };
    tracker.observe(long).unwrap();
    assert!(matches!(tracker.due(at(0, 1), ClockQuality::Synced), Err(BoundaryError::Unrecordable(_))));
    let mut tracker = self::tracker();
    let mut last = record(&mut tracker, 0, 1_000, 50);
    last.record_number = u64::MAX;
    tracker.recorded(&last, [0; 32]);
    tracker.observe(seen(at(1, 0), 1_000, 50)).unwrap();
    assert!(matches!(tracker.reading(interval(1)), Err(BoundaryError::Unrecordable(_))));
}

#[test]
fn with_an_accelerated_clock_the_tolerance_is_in_wall_time() {
    let limits = CounterLimits { speed: 60, ..CounterLimits::default() };
    let mut tracker = BoundaryTracker::new(TrackerConfig { limits, ..config(0) }, None);
    let _ = tracker.observe(seen(at(0, 0), 1_000, 50));
    tracker.observe(seen(at(0, 119_000), 1_000, 50)).unwrap();
    assert_eq!(tracker.reading(interval(0)).unwrap().quality, Quality::Good);
}

#[test]
fn on_a_fast_clock_a_sample_is_of_one_boundary_and_not_of_the_one_before() {
    let limits = CounterLimits { speed: 720, ..CounterLimits::default() };
    let mut tracker = BoundaryTracker::new(TrackerConfig { limits, ..config(0) }, None);
    let _ = tracker.observe(seen(at(1, 0), 1_000, 50));
    tracker.observe(seen(at(1, 100), 1_000, 50)).unwrap();
    assert!(
        tracker.reading(interval(0)).is_err(),
        "two seconds are 24 minutes here, and yet it was not read"
    );
    assert_eq!(tracker.due(at(1, 200), ClockQuality::Synced).unwrap().unwrap().interval, interval(1));
}

#[test]
fn an_exchange_registered_before_the_old_meter_is_taken_off_needs_no_second_registration() {
    let mut tracker = tracker();
    record(&mut tracker, 0, 53_700_000, 50);
    tracker.registered(registered(1, "99"));
    let error = tracker.observe(seen(at(1, 0), 53_700_300, 50)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "meter 21040123 answers, but meter 99 is registered; nothing is booked until 99 answers; check address and \
         unit, or commission the meter that is there: commonwatt meter register --serial 21040123"
    );
    assert_eq!(
        tracker.due(at(1, 10), ClockQuality::Synced),
        Ok(None),
        "the old lifetime total is in no reading"
    );
    let exchanged = TrackerConfig { registered: Some(registered(1, "99")), ..config(0) };
    let restarted = BoundaryTracker::resume(exchanged, tracker.last().cloned(), Some(tracker.memory()));
    for mut tracker in [tracker, restarted] {
        assert!(matches!(
            tracker.observe(seen(at(1, 5_000), 53_700_310, 50)),
            Err(Hold::NotRegistered { .. })
        ));
        assert_eq!(tracker.observe(of_meter("99", seen(at(2, -500), 7, 0))), Err(Hold::First));
        assert_eq!(tracker.observe(of_meter("99", seen(at(2, 0), 7, 0))), Ok(0));
        let reading = tracker.reading(interval(2)).unwrap();
        let said = (reading.meter_epoch, reading.serial.as_str(), reading.import_register.get());
        assert_eq!((said, tracker.awaiting()), ((1, "99", 7), None));
        assert_eq!(tracker.energy_of(&reading), None, "the ledger differences it with the opening registers");
    }
}

#[test]
fn at_the_start_another_meter_or_profile_than_the_registered_one_is_held() {
    let mut tracker = BoundaryTracker::new(config(0), None);
    let other = of_meter("5", seen(at(0, 0), 7, 0));
    assert!(matches!(tracker.observe(other), Err(Hold::NotRegistered { .. })));
    let misread = Observation { profile_hash: [8; 32], ..seen(at(0, 0), 7, 0) };
    let hold = tracker.observe(misread).unwrap_err();
    assert!(hold.to_string().starts_with("meter 21040123 is read with another device profile"), "{hold}");
    assert!(tracker.reading(interval(0)).is_err());
}

#[test]
fn samples_of_a_new_epoch_that_another_profile_decoded_are_not_published() {
    let mut tracker = tracker();
    record(&mut tracker, 0, 9_000, 50);
    for ms in [10_000, 20_000, 30_000, 40_000] {
        let _ = tracker.observe(of_meter("99", seen(at(0, ms), 5, 0)));
    }
    let _ = tracker.observe(of_meter("99", seen(at(1, 0), 40, 0)));
    tracker.registered(RegisteredMeter { profile_hash: [8; 32], ..registered(1, "99") });
    assert_eq!(tracker.due(at(1, 10), ClockQuality::Synced), Ok(None));
}

#[test]
fn an_interval_whose_later_reading_was_refused_is_read() {
    let mut tracker = tracker();
    let stands = record(&mut tracker, 0, 1_000, 50);
    record(&mut tracker, 90, 1_100, 50);
    tracker.observe(seen(at(1, 0), 1_200, 50)).unwrap();
    assert_eq!(tracker.due(at(1, 10), ClockQuality::Synced), Ok(None));
    tracker.rewind(Some(LastRecord::of(&stands, [0; 32])));
    assert_eq!(tracker.due(at(1, 10), ClockQuality::Synced).unwrap().unwrap().interval, interval(1));
}
