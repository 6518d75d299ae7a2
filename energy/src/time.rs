//! Market time: instants in milliseconds and intervals in whole market time units, always UTC.

use std::fmt;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

/// Something said about time could not be understood or does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not an RFC 3339 instant between 1970 and 9999.
    #[error("{0:?} is not an RFC 3339 time such as 2026-07-14T12:30:00Z")]
    NotRfc3339(String),
    /// An interval must begin on a whole market time unit.
    #[error("{time} is not the start of a {minutes}-minute interval")]
    NotABoundary {
        /// The instant given.
        time: Timestamp,
        /// Length of the market time unit.
        minutes: u32,
    },
    /// Only 5, 15, 30 and 60 minutes exist.
    #[error("a market time unit of {0} minutes does not exist; use 5, 15, 30 or 60")]
    NotAnMtu(u32),
    /// Beyond the range of the calendar.
    #[error("a time beyond the year 9999")]
    OutOfRange,
}

/// The last representable instant: the end of the year 9999, so that every instant has an RFC 3339 form.
const LAST_MS: u64 = 253_402_300_799_999;

/// An instant of market time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The instant `ms` milliseconds after the Unix epoch; later than the year 9999 is cut to its end.
    #[must_use]
    pub const fn from_unix_ms(ms: u64) -> Self {
        Self(if ms > LAST_MS { LAST_MS } else { ms })
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// This instant `ms` milliseconds later (cut at the end of the calendar).
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self::from_unix_ms(self.0.saturating_add(ms))
    }

    /// This instant `ms` milliseconds earlier (cut at the epoch).
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is later.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Its year in UTC.
    #[must_use]
    pub fn year(self) -> i32 {
        let time = i64::try_from(self.0).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
        time.map_or(9999, |time| time.year())
    }

    /// Parses RFC 3339, any offset; fractions below a millisecond are cut.
    ///
    /// # Errors
    /// [`TimeError::NotRfc3339`].
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let refused = || TimeError::NotRfc3339(text.to_owned());
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|_| refused())?;
        let ms = u64::try_from(parsed.timestamp_millis()).map_err(|_| refused())?;
        if ms > LAST_MS { Err(refused()) } else { Ok(Self(ms)) }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with milliseconds only where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
        match time {
            Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => f.write_str("beyond the calendar"),
        }
    }
}

/// Length of one market time unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Mtu {
    /// 5 minutes.
    Min5,
    /// 15 minutes, the default.
    #[default]
    Min15,
    /// 30 minutes.
    Min30,
    /// One hour.
    Min60,
}

impl Mtu {
    /// The unit of `minutes` minutes.
    ///
    /// # Errors
    /// [`TimeError::NotAnMtu`] for anything but 5, 15, 30, 60.
    pub const fn from_minutes(minutes: u32) -> Result<Self, TimeError> {
        match minutes {
            5 => Ok(Self::Min5),
            15 => Ok(Self::Min15),
            30 => Ok(Self::Min30),
            60 => Ok(Self::Min60),
            other => Err(TimeError::NotAnMtu(other)),
        }
    }

    /// Its length in minutes.
    #[must_use]
    pub const fn minutes(self) -> u32 {
        match self {
            Self::Min5 => 5,
            Self::Min15 => 15,
            Self::Min30 => 30,
            Self::Min60 => 60,
        }
    }

    /// Its length in milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        match self {
            Self::Min5 => 300_000,
            Self::Min15 => 900_000,
            Self::Min30 => 1_800_000,
            Self::Min60 => 3_600_000,
        }
    }

    /// How many of it make a day of 24 hours.
    #[must_use]
    pub const fn per_day(self) -> u32 {
        match self {
            Self::Min5 => 288,
            Self::Min15 => 96,
            Self::Min30 => 48,
            Self::Min60 => 24,
        }
    }
}

/// One delivery interval: start inclusive, end exclusive, UTC. Built only from an index of whole market time units
/// since the Unix epoch, so an interval that straddles two of them cannot exist. Orders by time within one market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    index: u64,
    mtu: Mtu,
}

impl Interval {
    /// The `index`-th unit since the Unix epoch.
    #[must_use]
    pub const fn from_index(index: u64, mtu: Mtu) -> Self {
        Self { index, mtu }
    }

    /// The interval that contains `time`.
    #[must_use]
    pub const fn containing(time: Timestamp, mtu: Mtu) -> Self {
        let index = match time.0.checked_div(mtu.ms()) {
            Some(index) => index,
            None => 0,
        };
        Self { index, mtu }
    }

    /// The interval that starts at `time`.
    ///
    /// # Errors
    /// [`TimeError::NotABoundary`] if none starts there.
    pub fn starting_at(time: Timestamp, mtu: Mtu) -> Result<Self, TimeError> {
        let interval = Self::containing(time, mtu);
        if interval.start() == time {
            Ok(interval)
        } else {
            Err(TimeError::NotABoundary { time, minutes: mtu.minutes() })
        }
    }

    /// Parses the RFC 3339 start of an interval.
    ///
    /// # Errors
    /// [`TimeError`] if it is no time, or no boundary.
    pub fn parse(text: &str, mtu: Mtu) -> Result<Self, TimeError> {
        Self::starting_at(Timestamp::parse(text)?, mtu)
    }

    /// Whole market time units since the Unix epoch.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// The market time unit it counts in.
    #[must_use]
    pub const fn mtu(self) -> Mtu {
        self.mtu
    }

    /// First instant.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp::from_unix_ms(self.index.saturating_mul(self.mtu.ms()))
    }

    /// First instant after it.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        Timestamp::from_unix_ms(self.index.saturating_add(1).saturating_mul(self.mtu.ms()))
    }

    /// The interval after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { index: self.index.saturating_add(1), mtu: self.mtu }
    }

    /// The interval before it; `None` at the epoch.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        self.index.checked_sub(1).map(|index| Self { index, mtu: self.mtu })
    }

    /// Which unit of its UTC day it is, from 0.
    #[must_use]
    pub fn of_day(self) -> u32 {
        let slot = self.index.checked_rem(u64::from(self.mtu.per_day())).unwrap_or_default();
        u32::try_from(slot).unwrap_or_default()
    }
}

impl fmt::Display for Interval {
    /// The start, RFC 3339 UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.start().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_interval_prints_and_parses_its_start_in_utc() {
        let interval = Interval::parse("2016-06-13T02:15:00+02:00", Mtu::Min15).unwrap();
        assert_eq!(interval.to_string(), "2016-06-13T00:15:00Z");
        assert_eq!(interval.end().to_string(), "2016-06-13T00:30:00Z");
        assert_eq!(interval.of_day(), 1);
    }

    #[test]
    fn an_interval_cannot_start_between_boundaries() {
        let error = Interval::parse("2016-06-13T00:10:00Z", Mtu::Min15).unwrap_err();
        assert_eq!(error.to_string(), "2016-06-13T00:10:00Z is not the start of a 15-minute interval");
    }

    #[test]
    fn what_is_no_time_is_named() {
        for text in ["", "yesterday", "2016-06-13", "1969-12-31T23:59:59Z", "2016-06-13T00:00:00"] {
            assert_eq!(Timestamp::parse(text), Err(TimeError::NotRfc3339(text.to_owned())));
        }
        assert_eq!(Mtu::from_minutes(10), Err(TimeError::NotAnMtu(10)));
    }

    #[test]
    fn milliseconds_survive_printing() {
        let time = Timestamp::from_unix_ms(1_465_776_000_250);
        assert_eq!(time.to_string(), "2016-06-13T00:00:00.250Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_exactly_one_interval(ms in 0..=LAST_MS, minutes in prop::sample::select(vec![5u32, 15, 30, 60])) {
            let mtu = Mtu::from_minutes(minutes).unwrap();
            let time = Timestamp::from_unix_ms(ms);
            let interval = Interval::containing(time, mtu);
            prop_assert!(interval.start() <= time);
            prop_assert!(time < interval.end() || interval.end().unix_ms() == LAST_MS);
            prop_assert_eq!(Interval::parse(&interval.to_string(), mtu), Ok(interval));
        }
    }
}
