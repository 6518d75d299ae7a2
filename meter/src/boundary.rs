//! Registers at the ends of intervals: the samples of one meter become the readings that are signed and settled on.
//!
//! Pure: time is handed in, nothing is read or stored. The caller writes each reading to the home's journal and says
//! so with [`BoundaryTracker::recorded`]; until then nothing has changed, so a crash between the two loses nothing.
//!
//! The energy of an interval is the difference of two cumulative registers and of nothing else. A boundary that could
//! not be read leaves no reading: the next one is a [`Quality::Gap`] whose energy covers the intervals between. A
//! register that falls, leaps or belongs to another meter is refused and the old baseline kept, so a counter that
//! shows 0 for a moment costs one boundary and books nothing.

use energy::{
    ClockQuality, Interval, MeterSerial, Quality, RAW_REGISTERS_MAX, Reading, TakenAt, Timestamp, WattHours,
};

use crate::client::EnergySample;
use crate::error::MeterError;

/// How far from the boundary the middle of the request may lie, in ms of wall time (meter design, "boundary read
/// within 2 s"). With an accelerated market clock multiply it by the speed.
pub const BOUNDARY_TOLERANCE_MS: u64 = 2_000;

/// A boundary gives no reading. Nothing has changed: the next one is measured from the same baseline.
#[derive(Debug, thiserror::Error)]
pub enum BoundaryError {
    /// The meter could not be read.
    #[error("the meter was not read at the end of interval {interval}; the next reading will cover it")]
    NotRead {
        /// The interval left without a reading.
        interval: Interval,
        /// Why.
        #[source]
        cause: MeterError,
    },
    /// Read, but not at the boundary.
    #[error(
        "the registers taken at {taken} are not those of the boundary {boundary}: more than {tolerance_ms} ms apart; the next reading will cover the interval"
    )]
    NotAtBoundary {
        /// When they were taken.
        taken: Timestamp,
        /// The end of the interval.
        boundary: Timestamp,
        /// The most allowed, ms of market time.
        tolerance_ms: u64,
    },
    /// The interval has a reading, or lies before one.
    #[error(
        "interval {interval} does not come after {last}, the last one read; each interval is read once, in order"
    )]
    NotLater {
        /// The interval asked for.
        interval: Interval,
        /// The last one recorded.
        last: Interval,
    },
    /// Another meter answered.
    #[error(
        "meter {found} was read where the last reading is of {expected}; if it was exchanged, commission the new one (a new meter epoch)"
    )]
    SerialChanged {
        /// Serial number of the last reading.
        expected: MeterSerial,
        /// Serial number of the sample.
        found: MeterSerial,
    },
    /// A cumulative register fell: a glitch, another meter, or a reset. Never clamped.
    #[error(
        "the {register} register fell from {before} to {after}; nothing is booked; if it stays there the meter was reset or exchanged, so commission it again (a new meter epoch)"
    )]
    RanBackwards {
        /// `import` or `export`.
        register: &'static str,
        /// At the last reading.
        before: WattHours,
        /// In the sample.
        after: WattHours,
    },
    /// A register rose by more than the connection can carry.
    #[error(
        "the {register} register rose by {energy} since the last reading, but the connection point carries at most {most} in that time; nothing is booked; if it stays, commission the meter again (a new meter epoch)"
    )]
    Leapt {
        /// `import` or `export`.
        register: &'static str,
        /// The rise.
        energy: WattHours,
        /// The most that is possible.
        most: WattHours,
    },
    /// The record would not fit its format.
    #[error("no reading can be recorded: {0}")]
    Unrecordable(&'static str),
}

/// The last reading in the home's journal: the baseline of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRecord {
    /// Its page number.
    pub record_number: u64,
    /// Its hash, as the ledger's canonical bytes give it.
    pub hash: [u8; 32],
    /// The interval it ends.
    pub interval: Interval,
    /// The meter it is of.
    pub serial: MeterSerial,
    /// Its epoch.
    pub meter_epoch: u32,
    /// Import register at the interval's end.
    pub import: WattHours,
    /// Export register at the interval's end.
    pub export: WattHours,
}

impl LastRecord {
    /// The baseline that `reading` leaves, with the hash of its canonical bytes.
    #[must_use]
    pub fn of(reading: &Reading, hash: [u8; 32]) -> Self {
        Self {
            record_number: reading.record_number,
            hash,
            interval: reading.interval,
            serial: reading.serial.clone(),
            meter_epoch: reading.meter_epoch,
            import: reading.import_register,
            export: reading.export_register,
        }
    }
}

/// Energy between two readings of one meter epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntervalEnergy {
    /// From the grid.
    pub import: WattHours,
    /// To the grid.
    pub export: WattHours,
    /// How many intervals it covers; more than 1 after a gap.
    pub intervals: u64,
}

/// Turns the samples of one home's meter into its chain of readings.
#[derive(Debug, Clone)]
pub struct BoundaryTracker {
    meter_epoch: u32,
    last: Option<LastRecord>,
    power_max_w: Option<u64>,
}

impl BoundaryTracker {
    /// Goes on from `last`, the newest reading in the journal (`None` for the first ever). A `meter_epoch` other than
    /// that of `last` begins a new series: its first reading is an opening register and nothing is differenced.
    #[must_use]
    pub const fn new(meter_epoch: u32, last: Option<LastRecord>) -> Self {
        Self { meter_epoch, last, power_max_w: None }
    }

    /// Refuses registers that rise faster than `power_max_w` (the main fuse) with a fifth to spare.
    #[must_use]
    pub const fn with_power_max(mut self, power_max_w: u64) -> Self {
        self.power_max_w = Some(power_max_w);
        self
    }

    /// The newest reading recorded.
    #[must_use]
    pub const fn last(&self) -> Option<&LastRecord> {
        self.last.as_ref()
    }

    /// The reading for the end of `interval`, from what the meter said there. `taken_at` is the middle of the request
    /// in market time; it may lie `tolerance_ms` of market time from the boundary.
    ///
    /// # Errors
    /// [`BoundaryError`] if there is no reading; the baseline stays as it was.
    pub fn boundary(
        &self,
        interval: Interval,
        sample: Result<EnergySample, MeterError>,
        taken_at: TakenAt,
        clock_quality: ClockQuality,
        tolerance_ms: u64,
    ) -> Result<Reading, BoundaryError> {
        self.check_order(interval)?;
        let sample = sample.map_err(|cause| BoundaryError::NotRead { interval, cause })?;
        check_time(interval.end(), taken_at.time, tolerance_ms)?;
        self.check_registers(interval, &sample)?;
        if sample.raw.len() > RAW_REGISTERS_MAX {
            return Err(BoundaryError::Unrecordable("more raw registers than one answer holds"));
        }
        let (record_number, previous_hash) = self.page()?;
        Ok(Reading {
            serial: sample.serial,
            meter_epoch: self.meter_epoch,
            interval,
            import_register: sample.import,
            export_register: sample.export,
            raw_registers: sample.raw,
            quantum: sample.quantum,
            profile_hash: sample.profile_hash,
            quality: self.quality(interval, clock_quality),
            clock_quality,
            taken_at,
            record_number,
            previous_hash,
        })
    }

    /// Says that `reading` is in the journal and that its canonical bytes hash to `hash`: it is the baseline now.
    pub fn recorded(&mut self, reading: &Reading, hash: [u8; 32]) {
        self.last = Some(LastRecord::of(reading, hash));
    }

    /// The energy of `reading` since the last one recorded; `None` for the first of a meter epoch, and for a reading
    /// that does not follow.
    #[must_use]
    pub fn energy_of(&self, reading: &Reading) -> Option<IntervalEnergy> {
        let last = self.baseline()?;
        Some(IntervalEnergy {
            import: reading.import_register.sub(last.import).ok()?,
            export: reading.export_register.sub(last.export).ok()?,
            intervals: intervals_since(last, reading.interval)?,
        })
    }

    /// The last record, if registers may be differenced across it.
    fn baseline(&self) -> Option<&LastRecord> {
        self.last.as_ref().filter(|last| last.meter_epoch == self.meter_epoch)
    }

    /// Page number and previous hash of the next record. The chain goes on across meter epochs.
    fn page(&self) -> Result<(u64, [u8; 32]), BoundaryError> {
        match &self.last {
            None => Ok((0, [0; 32])),
            Some(last) => {
                let next = last.record_number.checked_add(1);
                Ok((next.ok_or(BoundaryError::Unrecordable("the page counter is exhausted"))?, last.hash))
            }
        }
    }

    fn check_order(&self, interval: Interval) -> Result<(), BoundaryError> {
        match &self.last {
            Some(last) if interval.start() < last.interval.end() => {
                Err(BoundaryError::NotLater { interval, last: last.interval })
            }
            _ => Ok(()),
        }
    }

    fn check_registers(&self, interval: Interval, sample: &EnergySample) -> Result<(), BoundaryError> {
        let Some(last) = self.baseline() else { return Ok(()) };
        if last.serial != sample.serial {
            return Err(BoundaryError::SerialChanged {
                expected: last.serial.clone(),
                found: sample.serial.clone(),
            });
        }
        let most = self
            .power_max_w
            .map(|watts| most_energy(watts, last.interval.end(), interval.end(), sample.quantum));
        for (register, before, after) in
            [("import", last.import, sample.import), ("export", last.export, sample.export)]
        {
            let energy =
                after.sub(before).map_err(|_| BoundaryError::RanBackwards { register, before, after })?;
            match most {
                Some(most) if energy > most => return Err(BoundaryError::Leapt { register, energy, most }),
                _ => {}
            }
        }
        Ok(())
    }

    /// An untrusted clock outweighs a gap: the gap still shows in the intervals of the chain.
    fn quality(&self, interval: Interval, clock: ClockQuality) -> Quality {
        let missed = self.baseline().is_some_and(|last| last.interval.end() < interval.start());
        match (clock, missed) {
            (ClockQuality::Unsynced, _) => Quality::Unsynced,
            (_, true) => Quality::Gap,
            (_, false) => Quality::Good,
        }
    }
}

fn check_time(boundary: Timestamp, taken: Timestamp, tolerance_ms: u64) -> Result<(), BoundaryError> {
    let apart = taken.ms_since(boundary).max(boundary.ms_since(taken));
    if apart <= tolerance_ms {
        Ok(())
    } else {
        Err(BoundaryError::NotAtBoundary { taken, boundary, tolerance_ms })
    }
}

/// What `watts` and a fifth more carry between two instants, plus one step of the register.
fn most_energy(watts: u64, from: Timestamp, to: Timestamp, quantum: WattHours) -> WattHours {
    const MS_PER_HOUR: u128 = 3_600_000;
    let watt_ms = u128::from(watts).saturating_mul(u128::from(to.ms_since(from))).saturating_mul(6) / 5;
    let wh = watt_ms.div_ceil(MS_PER_HOUR).saturating_add(u128::from(quantum.get()));
    WattHours::new(u64::try_from(wh).unwrap_or(u64::MAX))
}

fn intervals_since(last: &LastRecord, interval: Interval) -> Option<u64> {
    interval.end().ms_since(last.interval.end()).checked_div(interval.mtu().ms()).filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use energy::Mtu;
    use proptest::prelude::*;

    use super::*;

    const FIRST: u64 = 1_628_640;

    fn interval(number: u64) -> Interval {
        Interval::from_index(FIRST + number, Mtu::Min15)
    }

    fn sample(import: u64, export: u64) -> EnergySample {
        EnergySample {
            serial: MeterSerial::new("21040123").unwrap(),
            import: WattHours::new(import),
            export: WattHours::new(export),
            raw: vec![1, 2, 3, 4],
            quantum: WattHours::new(1),
            profile_hash: [7; 32],
            round_trip: Duration::from_millis(20),
            middle: Instant::now(),
        }
    }

    fn at(time: Timestamp) -> TakenAt {
        TakenAt { time, monotonic_ms: 5, boot_id: [1; 16] }
    }

    /// The reading at the end of `number`, taken `late_ms` after it.
    fn read(
        tracker: &BoundaryTracker,
        number: u64,
        sample: Result<EnergySample, MeterError>,
        late_ms: u64,
    ) -> Result<Reading, BoundaryError> {
        let taken = at(interval(number).end().plus_ms(late_ms));
        tracker.boundary(interval(number), sample, taken, ClockQuality::Synced, BOUNDARY_TOLERANCE_MS)
    }

    /// Takes and records the reading at the end of `number`.
    fn record(tracker: &mut BoundaryTracker, number: u64, import: u64, export: u64) -> Reading {
        let reading = read(tracker, number, Ok(sample(import, export)), 0).unwrap();
        tracker.recorded(&reading, [u8::try_from(number).unwrap(); 32]);
        reading
    }

    #[test]
    fn readings_are_chained_numbered_and_carry_the_whole_sample() {
        let mut tracker = BoundaryTracker::new(3, None);
        let first = record(&mut tracker, 4, 1_000, 50);
        assert_eq!((first.record_number, first.previous_hash, first.quality), (0, [0; 32], Quality::Good));
        let second = read(&tracker, 5, Ok(sample(1_400, 50)), 1_999).unwrap();
        assert_eq!((second.record_number, second.previous_hash, second.quality), (1, [4; 32], Quality::Good));
        assert_eq!(
            (second.meter_epoch, second.interval, second.raw_registers.clone()),
            (3, interval(5), vec![1, 2, 3, 4])
        );
        assert_eq!((second.profile_hash, second.quantum), ([7; 32], WattHours::new(1)));
        let energy = IntervalEnergy { import: WattHours::new(400), export: WattHours::ZERO, intervals: 1 };
        assert_eq!(
            (tracker.energy_of(&second), BoundaryTracker::new(3, None).energy_of(&first)),
            (Some(energy), None)
        );
    }

    #[test]
    fn a_missed_boundary_makes_the_next_reading_a_gap_over_all_its_intervals() {
        let mut tracker = BoundaryTracker::new(0, None);
        record(&mut tracker, 0, 1_000, 0);
        let silent =
            MeterError::Silent { address: "127.0.0.1:502".parse().unwrap(), unit: 1, waited_ms: 500 };
        assert!(matches!(read(&tracker, 1, Err(silent), 0), Err(BoundaryError::NotRead { .. })));
        assert!(matches!(read(&tracker, 2, Err(MeterError::Closed), 0), Err(BoundaryError::NotRead { .. })));
        let gap = record(&mut tracker.clone(), 3, 1_900, 0);
        assert_eq!((gap.quality, gap.record_number), (Quality::Gap, 1));
        assert_eq!(tracker.energy_of(&gap).unwrap().intervals, 3);
        tracker.recorded(&gap, [9; 32]);
        assert_eq!(record(&mut tracker, 4, 1_950, 0).quality, Quality::Good);
    }

    #[test]
    fn a_register_that_falls_is_refused_and_the_old_baseline_kept() {
        let mut tracker = BoundaryTracker::new(0, None);
        record(&mut tracker, 0, 53_700_000, 20);
        let error = read(&tracker, 1, Ok(sample(0, 20)), 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the import register fell from 53700000 Wh to 0 Wh; nothing is booked; if it stays there the meter was \
             reset or exchanged, so commission it again (a new meter epoch)"
        );
        assert!(matches!(
            read(&tracker, 1, Ok(sample(53_700_400, 19)), 0),
            Err(BoundaryError::RanBackwards { register: "export", .. })
        ));
        let back = read(&tracker, 2, Ok(sample(53_700_400, 20)), 0).unwrap();
        assert_eq!(back.quality, Quality::Gap);
        assert_eq!(
            tracker.energy_of(&back).unwrap().import,
            WattHours::new(400),
            "the lifetime total is not booked"
        );
    }

    #[test]
    fn a_leap_beyond_the_main_fuse_is_refused_and_more_time_allows_more() {
        let mut tracker = BoundaryTracker::new(0, None).with_power_max(10_000);
        record(&mut tracker, 0, 1_000, 0);
        // 10 kW and a fifth for a quarter of an hour are 3 kWh, and the register steps by 1 Wh.
        assert!(read(&tracker, 1, Ok(sample(4_001, 0)), 0).is_ok());
        let error = read(&tracker, 1, Ok(sample(4_002, 0)), 0).unwrap_err();
        assert!(
            matches!(error, BoundaryError::Leapt { register: "import", most, .. } if most == WattHours::new(3_001))
        );
        assert!(read(&tracker, 2, Ok(sample(4_002, 0)), 0).is_ok());
    }

    #[test]
    fn another_meter_is_refused_until_a_new_epoch_begins() {
        let mut tracker = BoundaryTracker::new(0, None);
        record(&mut tracker, 0, 9_000, 0);
        let other = EnergySample { serial: MeterSerial::new("99").unwrap(), ..sample(10, 0) };
        let error = read(&tracker, 1, Ok(other.clone()), 0).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("meter 99 was read where the last reading is of 21040123; if it was exchanged")
        );
        let next = BoundaryTracker::new(1, tracker.last().cloned());
        let opening = read(&next, 1, Ok(other), 0).unwrap();
        assert_eq!((opening.meter_epoch, opening.record_number, opening.previous_hash), (1, 1, [0; 32]));
        assert_eq!(opening.quality, Quality::Good);
        assert_eq!(next.energy_of(&opening), None, "nothing is differenced across an epoch");
    }

    #[test]
    fn registers_taken_away_from_the_boundary_are_not_its_registers() {
        let tracker = BoundaryTracker::new(0, None);
        assert!(read(&tracker, 0, Ok(sample(1, 1)), 2_000).is_ok());
        assert!(matches!(
            read(&tracker, 0, Ok(sample(1, 1)), 2_001),
            Err(BoundaryError::NotAtBoundary { .. })
        ));
        let early = |ms| {
            let taken = at(interval(0).end().minus_ms(ms));
            tracker.boundary(
                interval(0),
                Ok(sample(1, 1)),
                taken,
                ClockQuality::Synced,
                BOUNDARY_TOLERANCE_MS,
            )
        };
        assert!(early(2_000).is_ok());
        assert!(matches!(early(2_001), Err(BoundaryError::NotAtBoundary { .. })));
    }

    #[test]
    fn an_interval_is_read_once_and_in_order() {
        let mut tracker = BoundaryTracker::new(0, None);
        record(&mut tracker, 5, 1_000, 0);
        for number in [4, 5] {
            assert!(matches!(
                read(&tracker, number, Ok(sample(1_000, 0)), 0),
                Err(BoundaryError::NotLater { .. })
            ));
        }
    }

    #[test]
    fn a_reading_under_an_untrusted_clock_says_so() {
        let tracker = BoundaryTracker::new(0, None);
        let reading = |clock| {
            tracker
                .boundary(interval(0), Ok(sample(1, 1)), at(interval(0).end()), clock, 0)
                .map(|it| it.quality)
                .unwrap()
        };
        assert_eq!(reading(ClockQuality::Unsynced), Quality::Unsynced);
        assert_eq!(
            (reading(ClockQuality::Informative), reading(ClockQuality::Synced)),
            (Quality::Good, Quality::Good)
        );
    }

    #[test]
    fn what_does_not_fit_the_record_is_refused() {
        let mut tracker = BoundaryTracker::new(0, None);
        let long = EnergySample { raw: vec![0; RAW_REGISTERS_MAX + 1], ..sample(1, 1) };
        assert!(matches!(read(&tracker, 0, Ok(long), 0), Err(BoundaryError::Unrecordable(_))));
        let mut last = record(&mut tracker, 0, 1, 1);
        last.record_number = u64::MAX;
        tracker.recorded(&last, [0; 32]);
        assert!(matches!(read(&tracker, 1, Ok(sample(1, 1)), 0), Err(BoundaryError::Unrecordable(_))));
    }

    /// What a boundary may bring: energies since the one before, and what the meter shows instead of its registers.
    #[derive(Debug, Clone)]
    enum Event {
        Read { import: u64, export: u64 },
        Missed,
        GlitchToZero,
        OtherMeter,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0u64..20_000, 0u64..20_000).prop_map(|(import, export)| Event::Read { import, export }),
            2 => Just(Event::Missed),
            1 => Just(Event::GlitchToZero),
            1 => Just(Event::OtherMeter),
        ]
    }

    /// What the meter says for `event` while its true registers are `import` and `export`.
    fn said(event: &Event, import: u64, export: u64) -> Result<EnergySample, MeterError> {
        match event {
            Event::Read { .. } => Ok(sample(import, export)),
            Event::Missed => Err(MeterError::Closed),
            Event::GlitchToZero => Ok(sample(0, 0)),
            Event::OtherMeter => {
                Ok(EnergySample { serial: MeterSerial::new("2").unwrap(), ..sample(import, export) })
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_the_readings_sum_to_the_registers_and_gaps_show(
            events in prop::collection::vec(event(), 1..60),
            opening in 1u64..100_000_000,
        ) {
            let mut tracker = BoundaryTracker::new(0, None);
            record(&mut tracker, 0, opening, opening);
            let (mut import, mut export) = (opening, opening);
            let (mut booked_import, mut booked_export, mut covered, mut pages) = (0, 0, 0, 1);
            for (number, event) in (1u64..).zip(&events) {
                if let Event::Read { import: more, export: out } = event {
                    import += more;
                    export += out;
                }
                let Ok(reading) = read(&tracker, number, said(event, import, export), 0) else {
                    prop_assert!(!matches!(event, Event::Read { .. }), "a true register was refused");
                    continue;
                };
                prop_assert!(matches!(event, Event::Read { .. }), "{:?} became a reading", event);
                let energy = tracker.energy_of(&reading).unwrap();
                prop_assert_eq!(reading.quality == Quality::Gap, energy.intervals > 1);
                prop_assert_eq!(reading.record_number, pages);
                booked_import += energy.import.get();
                booked_export += energy.export.get();
                covered += energy.intervals;
                pages += 1;
                prop_assert_eq!((opening + booked_import, opening + booked_export), (import, export));
                prop_assert_eq!(covered, number);
                tracker.recorded(&reading, [0; 32]);
            }
        }
    }
}
