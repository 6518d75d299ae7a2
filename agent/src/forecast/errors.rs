//! How far forecasts were off: measured, so that nobody has to believe them.

use std::collections::VecDeque;
use std::fmt;

use energy::{Interval, Mtu, WattHours};

use super::{Expected, Forecast, History};

/// Days that errors are shown over.
pub const ERROR_DAYS: u32 = 14;

/// How far ahead a forecast was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lead {
    /// For the interval that ends one hour later.
    Hour,
    /// For the one that ends six hours later.
    SixHours,
    /// For the one that ends a day later.
    Day,
}

impl Lead {
    /// All.
    pub const ALL: [Self; 3] = [Self::Hour, Self::SixHours, Self::Day];

    /// Its length in hours.
    #[must_use]
    pub const fn hours(self) -> u32 {
        match self {
            Self::Hour => 1,
            Self::SixHours => 6,
            Self::Day => 24,
        }
    }

    /// Where in a forecast it stands.
    fn step(self, mtu: Mtu) -> usize {
        (self.hours() * 60 / mtu.minutes()) as usize - 1
    }
}

/// What was forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Uncontrolled load.
    Load,
    /// Solar generation, counted only where there is any, expected, seen, or seen the day before: at night every forecast is right.
    Sun,
}

impl Quantity {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Load, Self::Sun];

    fn of(self, load: WattHours, pv: WattHours) -> i64 {
        let energy = if self == Self::Load { load } else { pv };
        i64::try_from(energy.get()).unwrap_or(i64::MAX)
    }
}

/// Errors of one quantity at one lead, over the days kept. Energies are per hour (Wh/h, as mean power in W).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Mean absolute error, Wh/h.
    pub mean_absolute: u64,
    /// Mean of forecast less actual, Wh/h: positive if too much is forecast.
    pub bias: i64,
    /// 1 000 × (1 − error / error of "as yesterday at this time"): 1 000 is perfect, 0 no better than yesterday, negative worse.
    /// `None` while no yesterday is known, or yesterday was always exactly right.
    pub skill_permille: Option<i64>,
    /// Forecasts compared.
    pub count: u64,
    /// Days with any.
    pub days: u32,
}

/// Sums over one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    count: u64,
    absolute: u64,
    signed: i64,
    /// Where yesterday is known: the forecast's error, and yesterday's.
    with_yesterday: u64,
    yesterday: u64,
}

/// One day's errors by quantity and lead.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Day {
    number: u64,
    sums: [[Sums; 3]; 2],
}

/// A forecast that waits for its interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    index: u64,
    lead: Lead,
    expected: Expected,
}

/// Errors of a home's forecasts over the last [`ERROR_DAYS`] days; memory is bounded by them and by the longest lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    mtu: Mtu,
    said: VecDeque<Said>,
    days: VecDeque<Day>,
}

impl Errors {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(mtu: Mtu) -> Self {
        Self { mtu, said: VecDeque::new(), days: VecDeque::new() }
    }

    /// Remembers what a forecast says about one hour, six hours and a day ahead; a later forecast of the same lead for the
    /// same interval replaces it.
    pub fn note(&mut self, forecast: &Forecast) {
        if forecast.from.mtu() != self.mtu {
            return;
        }
        for lead in Lead::ALL {
            let step = lead.step(self.mtu);
            let Some(expected) = forecast.steps.get(step).copied() else { continue };
            let index = forecast.from.index().saturating_add(step as u64);
            self.said.retain(|said| (said.index, said.lead) != (index, lead));
            self.said.push_back(Said { index, lead, expected });
        }
        // One per interval and lead is all that can still be waiting.
        let waiting: usize = Lead::ALL.iter().map(|lead| lead.step(self.mtu) + 1).sum();
        while self.said.len() > waiting {
            self.said.pop_front();
        }
    }

    /// Compares what was said about `interval` with what `history` says it was.
    pub fn learn(&mut self, interval: Interval, history: &History) {
        let Some(was) = history.at(interval) else { return };
        let index = interval.index();
        let per_day = u64::from(self.mtu.per_day());
        let before = index.checked_sub(per_day).map(|index| Interval::from_index(index, self.mtu));
        let before = before.and_then(|interval| history.at(interval));
        let due: Vec<Said> = self.said.iter().filter(|said| said.index == index).copied().collect();
        self.said.retain(|said| said.index != index);
        for said in due {
            for quantity in Quantity::ALL {
                let expected = quantity.of(said.expected.load, said.expected.pv);
                let actual = quantity.of(was.load, was.pv);
                let yesterday = before.map(|before| quantity.of(before.load, before.pv));
                let nothing = expected == 0 && actual == 0 && yesterday.unwrap_or_default() == 0;
                if quantity == Quantity::Load || !nothing {
                    self.sums(index / per_day, quantity, said.lead).add(expected, actual, yesterday);
                }
            }
        }
    }

    fn sums(&mut self, day: u64, quantity: Quantity, lead: Lead) -> &mut Sums {
        let place = self.days.iter().position(|known| known.number == day).unwrap_or_else(|| {
            self.days.push_back(Day { number: day, sums: Default::default() });
            self.days.len() - 1
        });
        let surplus = self.days.len().saturating_sub(ERROR_DAYS as usize).min(place);
        self.days.drain(..surplus);
        &mut self.days[place - surplus].sums[quantity as usize][lead as usize]
    }

    /// The errors of a quantity at a lead; `None` while nothing could be compared.
    #[must_use]
    pub fn of(&self, quantity: Quantity, lead: Lead) -> Option<Measure> {
        let (mut all, mut days) = (Sums::default(), 0);
        for day in &self.days {
            let sums = &day.sums[quantity as usize][lead as usize];
            days += u32::from(sums.count > 0);
            all.merge(sums);
        }
        let hourly = 60 / u64::from(self.mtu.minutes());
        let count = i64::try_from(all.count).ok().filter(|count| *count > 0)?;
        Some(Measure {
            mean_absolute: all.absolute.saturating_mul(hourly) / all.count,
            bias: all.signed.saturating_mul(60 / i64::from(self.mtu.minutes())) / count,
            skill_permille: all.skill_permille(),
            count: all.count,
            days,
        })
    }

    /// A line for the household about forecasts a day ahead: `load ±0.31 kWh/h, sun ±0.42 kWh/h over the last 14 days`.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary { load: self.of(Quantity::Load, Lead::Day), sun: self.of(Quantity::Sun, Lead::Day) }
    }
}

impl Sums {
    fn add(&mut self, expected: i64, actual: i64, yesterday: Option<i64>) {
        let error = expected.saturating_sub(actual);
        self.count += 1;
        self.absolute = self.absolute.saturating_add(error.unsigned_abs());
        self.signed = self.signed.saturating_add(error);
        if let Some(yesterday) = yesterday {
            self.with_yesterday = self.with_yesterday.saturating_add(error.unsigned_abs());
            self.yesterday = self.yesterday.saturating_add(yesterday.abs_diff(actual));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.absolute = self.absolute.saturating_add(other.absolute);
        self.signed = self.signed.saturating_add(other.signed);
        self.with_yesterday = self.with_yesterday.saturating_add(other.with_yesterday);
        self.yesterday = self.yesterday.saturating_add(other.yesterday);
    }

    fn skill_permille(&self) -> Option<i64> {
        let ratio = u128::from(self.with_yesterday) * 1_000
            / u128::from(Some(self.yesterday).filter(|sum| *sum > 0)?);
        i64::try_from(ratio).ok().map(|ratio| 1_000 - ratio)
    }
}

/// What a household is told about its forecasts, a day ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Uncontrolled load.
    pub load: Option<Measure>,
    /// Solar generation; `None` without any.
    pub sun: Option<Measure>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [("load", self.load), ("sun", self.sun)];
        let known: Vec<_> = named.into_iter().filter_map(|(name, measure)| Some((name, measure?))).collect();
        for (place, (name, measure)) in known.iter().enumerate() {
            let hundredths = measure.mean_absolute.saturating_add(5) / 10;
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{name} ±{}.{:02} kWh/h", hundredths / 100, hundredths % 100)?;
        }
        match known.iter().map(|(_, measure)| measure.days).max() {
            None => f.write_str("nothing measured yet"),
            Some(1) => f.write_str(" over the last day"),
            Some(days) => write!(f, " over the last {days} days"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::{LocalTime, Seen};

    const UTC: LocalTime = LocalTime { east_s: 0, change: None };

    fn at(index: u64) -> Interval {
        Interval::from_index(index, Mtu::Min15)
    }

    fn forecast(from: u64, load: u64) -> Forecast {
        let one = Expected { load: WattHours::new(load), ..Expected::default() };
        Forecast { from: at(from), steps: vec![one; 96], days: 0 }
    }

    fn recorded(load: impl Fn(u64) -> u64, range: std::ops::Range<u64>) -> History {
        let mut history = History::new(Mtu::Min15, None);
        for index in range {
            let seen = Seen { import: WattHours::new(load(index)), ..Seen::default() };
            assert!(history.record(at(index), &seen, &UTC));
        }
        history
    }

    #[test]
    fn errors_are_compared_with_what_came_and_with_yesterday() {
        // 100 Wh on the first day, 200 Wh on the second; the forecast said 230 Wh.
        let history = recorded(|index| if index < 96 { 100 } else { 200 }, 0..192);
        let mut errors = Errors::new(Mtu::Min15);
        errors.note(&forecast(96, 230));
        (96..192).for_each(|index| errors.learn(at(index), &history));
        for lead in Lead::ALL {
            let measure = errors.of(Quantity::Load, lead).unwrap();
            // 30 Wh too much a quarter-hour; yesterday is 100 Wh off.
            let expected =
                Measure { mean_absolute: 120, bias: 120, skill_permille: Some(700), count: 1, days: 1 };
            assert_eq!(measure, expected, "{lead:?}");
        }
        assert_eq!(
            errors.of(Quantity::Sun, Lead::Day),
            None,
            "no sun, no forecast of it, nothing to measure"
        );
        assert_eq!(errors.summary().to_string(), "load ±0.12 kWh/h over the last day");
    }

    #[test]
    fn without_a_yesterday_there_is_no_skill() {
        let history = recorded(|_| 100, 96..192);
        let mut errors = Errors::new(Mtu::Min15);
        errors.note(&forecast(96, 90));
        (96..192).for_each(|index| errors.learn(at(index), &history));
        let measure = errors.of(Quantity::Load, Lead::Hour).unwrap();
        assert_eq!((measure.mean_absolute, measure.bias, measure.skill_permille), (40, -40, None));
    }

    #[test]
    fn old_days_and_old_forecasts_are_forgotten() {
        let history = recorded(|index| if index < 20 * 96 { 0 } else { 100 }, 0..60 * 96 / 2);
        let mut errors = Errors::new(Mtu::Min15);
        for index in 96..30 * 96 {
            errors.learn(at(index), &history);
            errors.note(&forecast(index + 1, 100));
            assert!(errors.said.len() <= 4 + 24 + 96 && errors.days.len() <= ERROR_DAYS as usize);
        }
        let measure = errors.of(Quantity::Load, Lead::Hour).unwrap();
        assert_eq!(measure.days, ERROR_DAYS);
        // Of the fourteen days kept, the first four were wrong by 400 Wh/h.
        assert_eq!((measure.count, measure.mean_absolute), (14 * 96, 114));
    }
}
