//! A home's side: one record a day from what its devices show anyway.
//!
//! Privacy: voltages leave the home as means of whole intervals, in which no appliance shows; generation never leaves it,
//! because beside the exchange it would give away the consumption. Of the inverter only a ratio does.

use energy::{ClockQuality, Interval, Mtu, Timestamp, WattHours};
use meter::assurance::PvDeclaration;

/// A phase below this, in mV, is not connected: a single-phase home on a three-phase meter.
const CONNECTED_MV: u32 = 50_000;
/// A ratio of two meters is formed only where both counted so many of their steps: two roundings are then below 1 %.
const STEPS_MIN: u64 = 200;
/// The largest ratio that is recorded, ‰.
const RATIO_MAX: u64 = 1_000_000;

/// How often the meter is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Length of an interval.
    pub mtu: Mtu,
    /// Wall-clock time between two samples, ms.
    pub every_ms: u64,
    /// Market seconds per wall second.
    pub speed: u32,
}

impl Sampling {
    /// Samples that an interval must have for its mean to count: a tenth of those that fit, and one on a clock so fast that
    /// not even that many do.
    fn least(self) -> u64 {
        let per_interval = self.mtu.ms() / self.every_ms.saturating_mul(u64::from(self.speed)).max(1);
        (per_interval / 10).max(1)
    }
}

/// What a home says about its meter for one UTC day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayEvidence {
    /// The day's first interval.
    pub from: Interval,
    /// Mean phase voltage of each interval of the day in 0.1 V, 0 where it is not known; empty if none is.
    pub voltage_dv: Vec<u16>,
    /// The PV the home declares.
    pub pv: Option<PvDeclaration>,
    /// Inverter's energy × 1000 / PV meter's energy, where both counted enough.
    pub inverter_permille: Option<u32>,
}

/// Gathers one day after the other. What was gathered is lost with the process: those intervals stay unknown.
#[derive(Debug)]
pub struct Collector {
    sampling: Sampling,
    pv: Option<PvDeclaration>,
    day: Option<Day>,
}

#[derive(Debug)]
struct Day {
    from: Interval,
    voltages: Vec<Mean>,
    generation: Option<Generation>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum_mv: u64,
    samples: u64,
}

/// Two meters of the same energy, from the day's first look at both to the last.
#[derive(Debug, Clone, Copy)]
struct Generation {
    first: [WattHours; 2],
    last: [WattHours; 2],
    /// The coarser of their steps.
    quantum: WattHours,
    /// A register fell: one of them was exchanged, or reset.
    broken: bool,
}

impl Collector {
    /// A collector for a home that declares this PV.
    #[must_use]
    pub const fn new(sampling: Sampling, pv: Option<PvDeclaration>) -> Self {
        Self { sampling, pv, day: None }
    }

    /// Takes one sample of the phase voltages, and gives the day before if `time` is on another one.
    pub fn voltage(
        &mut self,
        time: Timestamp,
        clock: ClockQuality,
        phases_mv: [Option<u32>; 3],
    ) -> Option<DayEvidence> {
        let (finished, position) = self.turn_to(time, clock)?;
        let connected: Vec<u64> =
            phases_mv.into_iter().flatten().filter(|&mv| mv >= CONNECTED_MV).map(u64::from).collect();
        let sum: u64 = connected.iter().sum();
        let mean = sum.checked_div(connected.len() as u64);
        let place = self.day.as_mut().and_then(|day| day.voltages.get_mut(position));
        if let (Some(mean_mv), Some(place)) = (mean, place) {
            place.sum_mv = place.sum_mv.saturating_add(mean_mv);
            place.samples = place.samples.saturating_add(1);
        }
        finished
    }

    /// Takes the energy registers of the inverter and of the meter beside it, read within one window, and gives the day before
    /// if `time` is on another one. `quantum` is the coarser step of the two.
    pub fn generation(
        &mut self,
        time: Timestamp,
        clock: ClockQuality,
        inverter: WattHours,
        meter: WattHours,
        quantum: WattHours,
    ) -> Option<DayEvidence> {
        let (finished, _) = self.turn_to(time, clock)?;
        if let Some(day) = &mut self.day {
            let now = [inverter, meter];
            let seen =
                day.generation.get_or_insert(Generation { first: now, last: now, quantum, broken: false });
            seen.broken |= seen.last.iter().zip(&now).any(|(before, after)| after < before);
            seen.last = now;
            seen.quantum = seen.quantum.max(quantum);
        }
        finished
    }

    /// Gives the day that ended before `now`, if it has not been given yet: for a time without samples.
    pub fn finish(&mut self, now: Timestamp) -> Option<DayEvidence> {
        let over = self.day.as_ref().is_some_and(|day| first_of_day(now, self.sampling.mtu) > day.from);
        if over { self.close() } else { None }
    }

    /// Makes the day of `time` the present one. `None`: the time cannot be trusted, or belongs to a day that is over.
    fn turn_to(&mut self, time: Timestamp, clock: ClockQuality) -> Option<(Option<DayEvidence>, usize)> {
        let mtu = self.sampling.mtu;
        let from = first_of_day(time, mtu);
        if clock == ClockQuality::Unsynced || self.day.as_ref().is_some_and(|day| from < day.from) {
            return None;
        }
        let finished = self.finish(time);
        let per_day = usize::try_from(mtu.per_day()).ok()?;
        self.day.get_or_insert_with(|| Day {
            from,
            voltages: vec![Mean::default(); per_day],
            generation: None,
        });
        let position = Interval::containing(time, mtu).index().checked_sub(from.index())?;
        Some((finished, usize::try_from(position).ok()?))
    }

    fn close(&mut self) -> Option<DayEvidence> {
        let day = self.day.take()?;
        let least = self.sampling.least();
        let mut voltage_dv: Vec<u16> = day.voltages.iter().map(|mean| mean.tenths(least)).collect();
        if voltage_dv.iter().all(|&voltage| voltage == 0) {
            voltage_dv.clear();
        }
        let inverter_permille = day.generation.and_then(Generation::permille);
        let says_something = !voltage_dv.is_empty() || self.pv.is_some() || inverter_permille.is_some();
        says_something.then_some(DayEvidence { from: day.from, voltage_dv, pv: self.pv, inverter_permille })
    }
}

impl Mean {
    /// In 0.1 V, rounded; 0 for too few samples, or what is no low voltage.
    fn tenths(self, least: u64) -> u16 {
        if self.samples < least {
            return 0;
        }
        let divisor = self.samples.saturating_mul(100);
        let rounded = self.sum_mv.saturating_add(divisor / 2).checked_div(divisor);
        rounded.and_then(|tenths| u16::try_from(tenths).ok()).filter(|&tenths| tenths <= 10_000).unwrap_or(0)
    }
}

impl Generation {
    fn permille(self) -> Option<u32> {
        let [inverter, meter] =
            [0, 1].map(|device| self.last[device].get().saturating_sub(self.first[device].get()));
        let enough = self.quantum.get().max(1).saturating_mul(STEPS_MIN);
        if self.broken || meter < enough {
            return None;
        }
        let ratio = u128::from(inverter) * 1000 / u128::from(meter);
        u32::try_from(ratio.min(u128::from(RATIO_MAX))).ok()
    }
}

/// The first interval of the UTC day of `time`.
fn first_of_day(time: Timestamp, mtu: Mtu) -> Interval {
    let index = Interval::containing(time, mtu).index();
    Interval::from_index(index - index % u64::from(mtu.per_day()), mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNCED: ClockQuality = ClockQuality::Synced;

    fn collector(every_ms: u64, speed: u32, pv: Option<PvDeclaration>) -> Collector {
        Collector::new(Sampling { mtu: Mtu::Min15, every_ms, speed }, pv)
    }

    fn at(time: &str) -> Timestamp {
        Timestamp::parse(time).unwrap()
    }

    #[test]
    fn a_day_of_samples_becomes_the_means_of_its_intervals() {
        let mut home = collector(60_000, 1, None);
        for minute in 0..30u32 {
            let time = at("2026-06-01T10:00:00Z").plus_ms(u64::from(minute) * 60_000);
            // 230.00 V to 230.14 V in the first quarter-hour, 231 V on the only phase in the second.
            let phases = if minute < 15 {
                [Some(229_000 + minute * 10), Some(231_000 + minute * 10), None]
            } else {
                [Some(231_000), Some(0), Some(0)]
            };
            assert_eq!(home.voltage(time, SYNCED, phases), None);
        }
        assert_eq!(home.finish(at("2026-06-01T23:59:59Z")), None, "the day is not over");
        let day = home.finish(at("2026-06-02T00:00:00Z")).unwrap();
        assert_eq!(day.from.to_string(), "2026-06-01T00:00:00Z");
        assert_eq!((day.voltage_dv.len(), day.voltage_dv[40], day.voltage_dv[41]), (96, 2301, 2310));
        assert!(day.voltage_dv.iter().enumerate().all(|(at, &dv)| dv == 0 || at == 40 || at == 41));
        assert_eq!((day.pv, day.inverter_permille), (None, None));
        assert_eq!(home.finish(at("2026-06-03T00:00:00Z")), None, "a day is given once");
    }

    #[test]
    fn the_first_sample_of_a_day_gives_the_day_before() {
        let mut home = collector(60_000, 720, None);
        assert_eq!(home.voltage(at("2026-06-01T23:59:00Z"), SYNCED, [Some(230_000), None, None]), None);
        let day = home.voltage(at("2026-06-02T00:01:00Z"), SYNCED, [Some(240_000), None, None]).unwrap();
        assert_eq!((day.voltage_dv[95], day.voltage_dv[0]), (2300, 0));
        let next = home.finish(at("2026-06-03T00:00:00Z")).unwrap();
        assert_eq!((next.voltage_dv[0], next.from.to_string()), (2400, "2026-06-02T00:00:00Z".to_owned()));
    }

    #[test]
    fn a_mean_of_too_few_samples_is_unknown_not_zero_volts() {
        // 900 samples fit into an interval: 90 are needed.
        let mut home = collector(1000, 1, Some(PvDeclaration { peak_w: 5000, storage: false }));
        for second in 0..89 {
            home.voltage(
                at("2026-06-01T10:00:00Z").plus_ms(second * 1000),
                SYNCED,
                [Some(230_000), None, None],
            );
        }
        let day = home.finish(at("2026-06-02T00:00:00Z")).unwrap();
        assert!(day.voltage_dv.is_empty(), "and none at all is an empty list");
        assert_eq!(day.pv, Some(PvDeclaration { peak_w: 5000, storage: false }));
    }

    #[test]
    fn nothing_is_gathered_under_a_clock_that_was_never_set_or_goes_back_to_a_day_that_is_over() {
        let mut home = collector(60_000, 720, None);
        home.voltage(at("2026-06-01T10:00:00Z"), ClockQuality::Unsynced, [Some(230_000), None, None]);
        assert_eq!(home.finish(at("2026-06-02T00:00:00Z")), None);
        home.voltage(at("2026-06-02T10:00:00Z"), SYNCED, [Some(230_000), None, None]);
        assert_eq!(home.voltage(at("2026-06-01T10:00:00Z"), SYNCED, [Some(10), None, None]), None);
        let day = home.finish(at("2026-06-03T00:00:00Z")).unwrap();
        assert_eq!(day.from.to_string(), "2026-06-02T00:00:00Z");
    }

    #[test]
    fn a_home_that_has_nothing_to_say_says_nothing() {
        let mut home = collector(60_000, 720, None);
        home.voltage(at("2026-06-01T10:00:00Z"), SYNCED, [None; 3]);
        assert_eq!(home.finish(at("2026-06-02T00:00:00Z")), None);
    }

    #[test]
    fn the_ratio_of_two_meters_is_that_of_what_they_counted_in_the_day() {
        let day = |registers: &[(u64, u64)], quantum| {
            let mut home = collector(60_000, 720, None);
            for (minute, &(inverter, meter)) in (0..).zip(registers) {
                let time = at("2026-06-01T10:00:00Z").plus_ms(minute * 60_000);
                let [inverter, meter, quantum] = [inverter, meter, quantum].map(WattHours::new);
                home.generation(time, SYNCED, inverter, meter, quantum);
            }
            home.finish(at("2026-06-02T00:00:00Z")).and_then(|day| day.inverter_permille)
        };
        assert_eq!(day(&[(1000, 500), (3000, 1000), (11_000, 10_500)], 10), Some(1000));
        assert_eq!(day(&[(0, 0), (10_800, 10_000)], 10), Some(1080));
        assert_eq!(day(&[(0, 0), (20_000, 19_999)], 100), None, "fewer than 200 steps of 100 Wh");
        assert_eq!(day(&[(5000, 0), (0, 9000), (9000, 18_000)], 10), None, "a register fell");
        assert_eq!(day(&[(7, 7)], 10), None, "one look is no difference");
        assert_eq!(day(&[(0, 0), (u64::MAX, 2000)], 10), Some(1_000_000), "never more than an entry may say");
    }
}
