//! Past intervals of a few weeks, and what like days of them say about a coming one.

use std::collections::VecDeque;

use energy::{Interval, Mtu, Timestamp};

use super::LocalTime;

/// No interval of the calendar has a higher index: the year 9999 ends below it, counted in units of 5 minutes.
const LAST_INDEX: u64 = 1_000_000_000;

/// One remembered interval.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry<T> {
    /// Whole market time units that local time was ahead of UTC.
    shift: i16,
    value: T,
}

/// Values of past intervals, at most `days` of them; older ones fall out as newer ones come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ring<T> {
    mtu: Mtu,
    days: u64,
    /// Index of the first entry.
    first: u64,
    entries: VecDeque<Option<Entry<T>>>,
}

/// How far other days tell about a day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Likeness {
    /// Days looked back.
    pub(crate) days: u64,
    /// A day this much older counts half.
    pub(crate) half_life_days: f64,
    /// What a workday counts for a weekend and the other way round, of 1.
    pub(crate) other_day: f64,
    /// Neighbouring intervals up to this far count too, the farther the less.
    pub(crate) halo_minutes: u32,
}

/// Sums of weighted values, and the sum of their weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weighted<const N: usize = 1> {
    pub(crate) sums: [f64; N],
    pub(crate) weight: f64,
}

impl<const N: usize> Default for Weighted<N> {
    fn default() -> Self {
        Self { sums: [0.0; N], weight: 0.0 }
    }
}

impl<const N: usize> Weighted<N> {
    pub(crate) fn add(&mut self, values: [f64; N], weight: f64) {
        self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * weight);
        self.weight += weight;
    }

    /// Another's sums and weight, counted `share` times.
    pub(crate) fn merge(&mut self, other: &Self, share: f64) {
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| *sum += other * share);
        self.weight += other.weight * share;
    }

    /// The means, where `prior` counts as much as `weight` more of it; `prior` if nothing is known.
    pub(crate) fn mean(&self, prior: [f64; N], weight: f64) -> [f64; N] {
        let all = self.weight + weight;
        let mut means = prior;
        if all > 0.0 {
            means.iter_mut().zip(self.sums).for_each(|(mean, sum)| *mean = (sum + *mean * weight) / all);
        }
        means
    }
}

impl<T: Copy> Ring<T> {
    pub(crate) fn new(mtu: Mtu, days: u32) -> Self {
        Self { mtu, days: u64::from(days), first: 0, entries: VecDeque::new() }
    }

    pub(crate) fn mtu(&self) -> Mtu {
        self.mtu
    }

    fn capacity(&self) -> u64 {
        self.days * u64::from(self.mtu.per_day())
    }

    /// Index after the newest entry; 0 if there is none.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Remembers `value`; `false` if the interval is of another market time unit, older than the ring goes, or beyond the
    /// calendar.
    pub(crate) fn record(&mut self, interval: Interval, local: &LocalTime, value: T) -> bool {
        let index = interval.index();
        let too_old = index.saturating_add(self.capacity()) < self.end();
        if interval.mtu() != self.mtu || too_old || index > LAST_INDEX {
            return false;
        }
        self.make_room(index);
        let entry = Entry { shift: local.shift(interval), value };
        let place = index.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(slot) = place.and_then(|place| self.entries.get_mut(place)) else { return false };
        *slot = Some(entry);
        true
    }

    /// Stretches the ring to `index`, backwards or forwards, and drops what is then too old.
    fn make_room(&mut self, index: u64) {
        if self.entries.is_empty() || index >= self.end() + self.capacity() {
            self.entries.clear();
            self.first = index;
        }
        while index < self.first && (self.entries.len() as u64) < self.capacity() {
            self.entries.push_front(None);
            self.first -= 1;
        }
        while index >= self.end() {
            self.entries.push_back(None);
        }
        while self.entries.len() as u64 > self.capacity() {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    fn entry(&self, index: u64) -> Option<&Entry<T>> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(place)?.as_ref()
    }

    pub(crate) fn at(&self, index: u64) -> Option<T> {
        self.entry(index).map(|entry| entry.value)
    }

    /// Everything known before `until`, newest first, at most `count` intervals back.
    pub(crate) fn back(&self, until: u64, count: u64) -> impl Iterator<Item = (u64, T)> + '_ {
        let until = until.min(self.end());
        let from = until.saturating_sub(count).max(self.first);
        (from..until).rev().filter_map(|index| Some((index, self.at(index)?)))
    }

    /// How many intervals before `until` are known.
    pub(crate) fn known(&self, until: u64) -> u64 {
        self.back(until, self.capacity()).count() as u64
    }

    /// What stands at one quarter-hour of local time; `hint` is the shift that probably held. On a day when clocks changed,
    /// the entry's own shift decides.
    fn at_local(&self, local: u64, hint: i16) -> Option<(u64, T)> {
        let index = local.checked_add_signed(-i64::from(hint))?;
        let entry = self.entry(index)?;
        if entry.shift == hint {
            return Some((index, entry.value));
        }
        let shift = entry.shift;
        let index = local.checked_add_signed(-i64::from(shift))?;
        self.entry(index).filter(|entry| entry.shift == shift).map(|entry| (index, entry.value))
    }

    /// For each of `count` intervals from `from`: what like days before `until` say, neighbours smoothed in.
    pub(crate) fn pattern<const N: usize>(
        &self,
        like: &Likeness,
        (from, count): (u64, usize),
        until: u64,
        local: &LocalTime,
        pick: impl Fn(&T) -> Option<[f64; N]>,
    ) -> Vec<Weighted<N>> {
        let halo = (like.halo_minutes / self.mtu.minutes()) as usize;
        let start = from.saturating_sub(halo as u64);
        let fades: Vec<f64> =
            (1..=like.days).map(|day| 0.5f64.powf(day as f64 / like.half_life_days)).collect();
        let raw: Vec<Weighted<N>> = (0..(count + 2 * halo) as u64)
            .map(|step| self.like(like, &fades, start.saturating_add(step), until, local, &pick))
            .collect();
        let smooth = |place: usize| {
            let mut all = Weighted::default();
            for (offset, one) in raw.iter().skip(place).take(2 * halo + 1).enumerate() {
                all.merge(one, 1.0 - halo.abs_diff(offset) as f64 / (halo + 1) as f64);
            }
            all
        };
        (0..count).map(smooth).collect()
    }

    /// The same local time of past days, weighted by age (`fades`, from yesterday on) and kind of day.
    fn like<const N: usize>(
        &self,
        like: &Likeness,
        fades: &[f64],
        target: u64,
        until: u64,
        local: &LocalTime,
        pick: &impl Fn(&T) -> Option<[f64; N]>,
    ) -> Weighted<N> {
        let per_day = u64::from(self.mtu.per_day());
        let shift = local.shift(Interval::from_index(target, self.mtu));
        let mut all = Weighted::default();
        let Some(here) = target.checked_add_signed(i64::from(shift)) else { return all };
        let weekend = is_weekend(here / per_day);
        let mut there = here;
        for fade in fades {
            // Local time is never a day off: what lies further before the first entry is not there.
            there = match there.checked_sub(per_day) {
                Some(there) if there + per_day >= self.first => there,
                _ => break,
            };
            let Some((index, value)) = self.at_local(there, shift) else { continue };
            let Some(values) = pick(&value).filter(|_| index < until) else { continue };
            let alike = if is_weekend(there / per_day) == weekend { 1.0 } else { like.other_day };
            all.add(values, fade * alike);
        }
        all
    }
}

/// Saturday or Sunday; day 0, 1970-01-01, was a Thursday.
fn is_weekend(day: u64) -> bool {
    (day + 3) % 7 >= 5
}

impl LocalTime {
    /// Whole market time units that local time is ahead of UTC at an interval's start.
    fn shift(&self, interval: Interval) -> i16 {
        let unit_s = i64::from(interval.mtu().minutes()) * 60;
        let units = i64::from(self.east_s(interval.start())).div_euclid(unit_s);
        i16::try_from(units).unwrap_or_default()
    }

    /// Seconds ahead of UTC at `time`.
    #[must_use]
    pub fn east_s(&self, time: Timestamp) -> i32 {
        match self.change {
            Some((from, east_s)) if time >= from => east_s,
            _ => self.east_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: LocalTime = LocalTime { east_s: 0, change: None };
    const SAME: Likeness = Likeness { days: 7, half_life_days: 1e9, other_day: 0.0, halo_minutes: 0 };

    fn hour(index: u64) -> Interval {
        Interval::from_index(index, Mtu::Min60)
    }

    #[test]
    fn the_ring_keeps_its_days_and_forgets_older_ones() {
        let mut ring = Ring::new(Mtu::Min60, 2);
        for index in 1_000..1_100 {
            assert!(ring.record(hour(index), &UTC, index));
        }
        assert_eq!((ring.at(1_051), ring.at(1_052), ring.at(1_099)), (None, Some(1_052), Some(1_099)));
        assert!(!ring.record(hour(1_051), &UTC, 0), "older than the ring goes");
        assert!(!ring.record(Interval::from_index(1_100, Mtu::Min15), &UTC, 0), "another unit");
        assert_eq!(ring.known(1_100), 48);
    }

    #[test]
    fn a_gap_stays_unknown_and_a_late_value_fills_it() {
        let mut ring = Ring::new(Mtu::Min60, 2);
        assert!(ring.record(hour(1_000), &UTC, 1) && ring.record(hour(1_003), &UTC, 4));
        assert_eq!(ring.at(1_001), None);
        assert!(ring.record(hour(1_001), &UTC, 2) && ring.record(hour(998), &UTC, 0));
        assert_eq!(
            [998, 1_000, 1_001, 1_002, 1_003].map(|index| ring.at(index)),
            [Some(0), Some(1), Some(2), None, Some(4)]
        );
    }

    #[test]
    fn a_clock_that_leaps_years_costs_no_memory() {
        let mut ring = Ring::new(Mtu::Min5, 56);
        assert!(ring.record(Interval::from_index(5_000_000, Mtu::Min5), &UTC, 1));
        assert!(ring.record(Interval::from_index(800_000_000, Mtu::Min5), &UTC, 2));
        assert_eq!((ring.entries.len(), ring.at(800_000_000)), (1, Some(2)));
        assert!(!ring.record(Interval::from_index(u64::MAX, Mtu::Min5), &UTC, 3), "no such time");
    }

    #[test]
    fn workdays_tell_about_workdays_and_weekends_about_weekends() {
        // Day 4 since 1970-01-01 is a Monday.
        let mut ring = Ring::new(Mtu::Min60, 14);
        for day in 4..18 {
            let value = if is_weekend(day) { 9.0 } else { 1.0 };
            assert!(ring.record(hour(day * 24 + 12), &UTC, value));
        }
        let on = |day: u64| {
            ring.pattern(&SAME, (day * 24 + 12, 1), day * 24, &UTC, |value| Some([*value]))[0]
                .mean([0.0], 0.0)[0]
        };
        assert!((on(18) - 1.0).abs() < 1e-9, "a Monday");
        assert!((on(23) - 9.0).abs() < 1e-9, "a Saturday");
    }

    #[test]
    fn breakfast_stays_at_seven_when_clocks_change() {
        // Days of hours; local time was UTC + 1 h up to day 9 and is UTC + 2 h from day 10 on: 7:00 moves from 6 to 5 UTC.
        let change = Some((hour(10 * 24 + 1).start(), 7_200));
        let zone = LocalTime { east_s: 3_600, change };
        let mut ring = Ring::new(Mtu::Min60, 14);
        for index in 4 * 24..12 * 24 {
            let local = index + if hour(index).start() >= zone.change.unwrap().0 { 2 } else { 1 };
            assert!(ring.record(hour(index), &zone, if local % 24 == 7 { 5.0 } else { 0.0 }));
        }
        let now = LocalTime { east_s: 7_200, change: None };
        let all = Likeness { other_day: 1.0, ..SAME };
        let seen = ring.pattern(&all, (12 * 24, 24), 12 * 24, &now, |value| Some([*value]));
        let hours: Vec<usize> = (0..24).filter(|hour| seen[*hour].sums[0] > 0.0).collect();
        assert_eq!(hours, [5]);
        assert!((seen[5].mean([0.0], 0.0)[0] - 5.0).abs() < 1e-9, "on every day before and after");
    }

    #[test]
    fn what_comes_after_the_forecast_is_made_is_not_used() {
        let mut ring = Ring::new(Mtu::Min60, 14);
        for index in 0..96 {
            assert!(ring.record(hour(index), &UTC, 1.0));
        }
        let all = Likeness { other_day: 1.0, ..SAME };
        let seen = ring.pattern(&all, (72, 1), 40, &UTC, |value| Some([*value]));
        assert!((seen[0].weight - 2.0).abs() < 1e-6, "of the days at 0, 24 and 48 h only two were past");
    }
}
