//! Civil time at the edge: the community's days and months as UTC instants, with daylight saving where a zone has it.
//!
//! The ledger knows only UTC. Whoever bills by months or prices by hours of the day says where its clocks are: a name of
//! the IANA time zone database, or a fixed offset.

use std::fmt;

use chrono::{
    DateTime, Datelike, Days, FixedOffset, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone,
    Timelike, Utc,
};
use chrono_tz::Tz;
use energy::Timestamp;
use toml::de::DeValue;

use crate::config::value::{FromToml, Mismatch};

/// A civil day that a zone skipped is looked for this many minutes: a day at the most (Samoa, 30 December 2011).
const GAP_MINUTES: i64 = 1_440;

/// Where clocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Always the same distance from UTC.
    Fixed(FixedOffset),
    /// As the IANA time zone database says.
    Named(Tz),
}

/// What was said of a zone, a date or a month cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// Neither a name nor an offset.
    #[error(
        "{0:?} is no time zone; write a name such as Asia/Shanghai or Europe/Berlin, or an offset such as +08:00"
    )]
    Zone(String),
    /// No date.
    #[error("{0:?} is not a day such as 2026-07-14")]
    Date(String),
    /// No month.
    #[error("{0:?} is not a month such as 2026-07")]
    Month(String),
}

impl Zone {
    /// Clocks at UTC.
    pub const UTC: Self = Self::Named(Tz::UTC);

    /// The zone of a name or of an offset such as `+08:00`.
    ///
    /// # Errors
    /// [`ZoneError::Zone`].
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        let refused = || ZoneError::Zone(text.to_owned());
        if !text.starts_with(['+', '-']) {
            return text.parse().map(Self::Named).map_err(|_| refused());
        }
        // The whole text must be an offset, so that half a time never passes.
        let time =
            DateTime::parse_from_rfc3339(&format!("2000-01-01T00:00:00{text}")).map_err(|_| refused())?;
        Ok(Self::Fixed(*time.offset()))
    }

    /// Clocks that are always `minutes` ahead of UTC; UTC itself for what no clock shows.
    #[must_use]
    pub fn of_minutes(minutes: i32) -> Self {
        FixedOffset::east_opt(minutes.saturating_mul(60)).map_or(Self::UTC, Self::Fixed)
    }

    /// What clocks show at `time`.
    #[must_use]
    pub fn clock(&self, time: Timestamp) -> NaiveDateTime {
        self.at(time).naive_local()
    }

    /// `time` with the distance from UTC that clocks then have: `2026-07-14T12:30:00+08:00`.
    #[must_use]
    pub fn rfc3339(&self, time: Timestamp) -> String {
        self.at(time).to_rfc3339()
    }

    /// The first instant of a civil day.
    #[must_use]
    pub fn midnight(&self, date: NaiveDate) -> Timestamp {
        self.first_at(date, 0)
    }

    /// When clocks first show so many minutes since midnight on a civil day; where they skip that, the instant at which
    /// they do.
    #[must_use]
    pub fn first_at(&self, date: NaiveDate, minute: u32) -> Timestamp {
        let wanted = date.and_time(NaiveTime::MIN) + TimeDelta::minutes(i64::from(minute));
        let locals = (0..=GAP_MINUTES).map_while(|more| wanted.checked_add_signed(TimeDelta::minutes(more)));
        locals.into_iter().find_map(|local| self.first_instant(local)).unwrap_or(Timestamp::EPOCH)
    }

    /// When clocks first show so many minutes since midnight after `time`: today or tomorrow.
    #[must_use]
    pub fn next_at(&self, minute: u32, time: Timestamp) -> Timestamp {
        let today = self.date(time);
        let at = self.first_at(today, minute);
        if at > time { at } else { self.first_at(today + Days::new(1), minute) }
    }

    /// How far clocks are ahead of UTC at `time`, in seconds.
    #[must_use]
    pub fn seconds_east(&self, time: Timestamp) -> i32 {
        self.at(time).offset().local_minus_utc()
    }

    /// The first instant at which clocks are set within `ms` after `time`, if they are.
    #[must_use]
    pub fn next_change(&self, time: Timestamp, ms: u64) -> Option<Timestamp> {
        let before = self.seconds_east(time);
        let is_after = |ms: u64| self.seconds_east(time.plus_ms(ms)) != before;
        if !is_after(ms) {
            return None;
        }
        // No zone sets its clocks forth and back within days: halving finds the one change.
        let (mut unchanged, mut changed) = (0, ms);
        while changed - unchanged > 1 {
            let middle = unchanged.midpoint(changed);
            if is_after(middle) { changed = middle } else { unchanged = middle }
        }
        Some(time.plus_ms(changed))
    }

    /// The civil day of an instant.
    #[must_use]
    pub fn date(&self, time: Timestamp) -> NaiveDate {
        self.clock(time).date()
    }

    /// Minutes since midnight that clocks show.
    #[must_use]
    pub fn minute(&self, time: Timestamp) -> u32 {
        let clock = self.clock(time);
        clock.hour() * 60 + clock.minute()
    }

    fn at(&self, time: Timestamp) -> DateTime<FixedOffset> {
        let ms = i64::try_from(time.unix_ms()).unwrap_or(i64::MAX);
        let utc = DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH);
        match self {
            Self::Fixed(offset) => utc.with_timezone(offset),
            Self::Named(zone) => utc.with_timezone(zone).fixed_offset(),
        }
    }

    /// When clocks first show `local`; `None` where they skip it.
    fn first_instant(&self, local: NaiveDateTime) -> Option<Timestamp> {
        self.instants(local).map(|(first, _)| first)
    }

    /// When clocks first and last show `local`: twice the same but where they are set back; `None` where they skip it.
    #[must_use]
    pub fn instants(&self, local: NaiveDateTime) -> Option<(Timestamp, Timestamp)> {
        let shown = match self {
            Self::Fixed(offset) => offset.from_local_datetime(&local).map(|it| it.timestamp_millis()),
            Self::Named(zone) => zone.from_local_datetime(&local).map(|it| it.timestamp_millis()),
        };
        let time = |ms: i64| u64::try_from(ms).ok().map(Timestamp::from_unix_ms);
        time(shown.earliest()?).zip(time(shown.latest()?))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(offset) => offset.fmt(f),
            Self::Named(zone) => f.write_str(zone.name()),
        }
    }
}

impl FromToml for Zone {
    fn expected() -> String {
        "a time zone such as \"Asia/Shanghai\", or an offset such as \"+08:00\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = value.as_str().ok_or(Mismatch::Type)?;
        Self::parse(text).map_err(|error| Mismatch::Value(error.to_string()))
    }
}

impl FromToml for NaiveDate {
    fn expected() -> String {
        "a day such as 2026-07-14".to_owned()
    }

    /// Takes TOML's own local date and the same in quotes.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = match value {
            DeValue::Datetime(date) => date.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => return Err(Mismatch::Type),
        };
        date(&text).map_err(|error| Mismatch::Value(error.to_string()))
    }
}

/// The day `YYYY-MM-DD`, between 1970 and 9999.
///
/// # Errors
/// [`ZoneError::Date`].
pub fn date(text: &str) -> Result<NaiveDate, ZoneError> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let inside = date.filter(|date| text.len() == 10 && (1970..9999).contains(&date.year()));
    inside.ok_or_else(|| ZoneError::Date(text.to_owned()))
}

/// A calendar month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(NaiveDate);

impl Month {
    /// The month `YYYY-MM`.
    ///
    /// # Errors
    /// [`ZoneError::Month`].
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        date(&format!("{text}-01")).map(Self).map_err(|_| ZoneError::Month(text.to_owned()))
    }

    /// The month of a day.
    #[must_use]
    pub fn of(date: NaiveDate) -> Self {
        Self(date.with_day(1).unwrap_or(date))
    }

    /// Its first day.
    #[must_use]
    pub const fn first_day(self) -> NaiveDate {
        self.0
    }

    /// The month after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add_months(Months::new(1)).unwrap_or(self.0))
    }

    /// Its last day.
    #[must_use]
    pub fn last_day(self) -> NaiveDate {
        self.next().0.checked_sub_days(Days::new(1)).unwrap_or(self.0)
    }

    /// How many days it has.
    #[must_use]
    pub fn days(self) -> u32 {
        self.last_day().day()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(zone: &str, day: &str) -> u64 {
        let (zone, day) = (Zone::parse(zone).unwrap(), date(day).unwrap());
        let next = day.checked_add_days(Days::new(1)).unwrap();
        zone.midnight(next).ms_since(zone.midnight(day)) / 3_600_000
    }

    #[test]
    fn a_day_has_23_or_25_hours_when_clocks_change_and_24_otherwise() {
        assert_eq!(hours("Europe/Berlin", "2026-03-29"), 23);
        assert_eq!(hours("Europe/Berlin", "2026-10-25"), 25);
        assert_eq!(hours("Europe/Berlin", "2026-07-14"), 24);
        for day in ["2026-03-29", "2026-10-25"] {
            assert_eq!(hours("Asia/Shanghai", day), 24);
            assert_eq!(hours("+01:00", day), 24);
        }
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_with_its_first_instant() {
        // Clocks in Beirut went from 00:00 to 01:00 on that day.
        let zone = Zone::parse("Asia/Beirut").unwrap();
        let first = zone.midnight(date("2026-03-29").unwrap());
        assert_eq!(zone.rfc3339(first), "2026-03-29T01:00:00+03:00");
        assert_eq!(zone.clock(first.minus_ms(1)).date().to_string(), "2026-03-28");
    }

    #[test]
    fn a_time_of_day_comes_once_a_day_also_when_clocks_change() {
        let vienna = Zone::parse("Europe/Vienna").unwrap();
        let next =
            |minute, time: &str| vienna.rfc3339(vienna.next_at(minute, Timestamp::parse(time).unwrap()));
        // From 18:00 to 07:00 are 12 hours in the night of spring and 14 in that of autumn.
        assert_eq!(next(420, "2026-03-28T17:00:00Z"), "2026-03-29T07:00:00+02:00");
        assert_eq!(next(420, "2026-10-24T16:00:00Z"), "2026-10-25T07:00:00+01:00");
        assert_eq!(next(420, "2026-10-25T06:00:00Z"), "2026-10-26T07:00:00+01:00", "after, not at");
        // 02:30 is skipped in spring: what is to be ready then is ready when clocks leap. In autumn the first one counts.
        assert_eq!(next(150, "2026-03-28T17:00:00Z"), "2026-03-29T03:00:00+02:00");
        assert_eq!(next(150, "2026-10-24T16:00:00Z"), "2026-10-25T02:30:00+02:00");
        assert_eq!(next(150, "2026-10-25T00:45:00Z"), "2026-10-26T02:30:00+01:00", "its day has shown it");
    }

    #[test]
    fn the_next_change_of_clocks_is_found_to_the_millisecond() {
        const DAYS: u64 = 3 * 86_400_000;
        let change = |zone: &str, time: &str| {
            let zone = Zone::parse(zone).unwrap();
            zone.next_change(Timestamp::parse(time).unwrap(), DAYS).map(|it| it.to_string())
        };
        assert_eq!(change("Europe/Vienna", "2026-03-27T12:00:00Z").as_deref(), Some("2026-03-29T01:00:00Z"));
        assert_eq!(change("Europe/Vienna", "2026-10-25T00:59:59Z").as_deref(), Some("2026-10-25T01:00:00Z"));
        for (zone, time) in [
            ("Europe/Vienna", "2026-03-29T01:00:00Z"),
            ("Europe/Vienna", "2026-03-26T00:00:00Z"),
            ("Asia/Shanghai", "2026-03-28T12:00:00Z"),
            ("+01:00", "2026-03-28T12:00:00Z"),
        ] {
            assert_eq!(change(zone, time), None, "{zone} {time}");
        }
    }

    #[test]
    fn clocks_show_what_the_zone_says() {
        let time = Timestamp::parse("2026-10-25T01:30:00Z").unwrap();
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        assert_eq!(berlin.rfc3339(time), "2026-10-25T02:30:00+01:00", "the second 02:30 of that night");
        assert_eq!(berlin.minute(time), 150);
        assert_eq!(Zone::of_minutes(480).rfc3339(time), "2026-10-25T09:30:00+08:00");
        assert_eq!(Zone::parse("+08:00").unwrap(), Zone::of_minutes(480));
        assert_eq!(Zone::UTC.to_string(), "UTC");
    }

    #[test]
    fn what_is_no_zone_day_or_month_is_named() {
        for text in ["", "Berlin", "+8", "+08:00 ", "-08:61", "CEST+1"] {
            assert_eq!(Zone::parse(text), Err(ZoneError::Zone(text.to_owned())));
        }
        for text in ["", "2026-7-1", "2026-02-30", "1969-12-31", "9999-01-01", "2026-07-01T00:00:00"] {
            assert_eq!(date(text), Err(ZoneError::Date(text.to_owned())));
        }
        for text in ["2026", "2026-13", "2026-7", "2026-07-01"] {
            assert_eq!(Month::parse(text), Err(ZoneError::Month(text.to_owned())));
        }
    }

    #[test]
    fn months_follow_one_another() {
        let month = Month::parse("2027-12").unwrap();
        assert_eq!(
            (month.to_string(), month.next().to_string()),
            ("2027-12".to_owned(), "2028-01".to_owned())
        );
        assert_eq!(Month::parse("2028-02").unwrap().days(), 29);
        assert_eq!(Month::of(date("2028-02-29").unwrap()).last_day(), date("2028-02-29").unwrap());
    }
}
