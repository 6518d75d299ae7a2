//! Which month's bill something stands on.
//!
//! What the block booked that settled an interval stands on the bill of the interval's month. Everything else (late
//! readings, corrections, claims, money paid in and out) stands on the bill of the month that was open when it was
//! booked: a month closes with the block that settles its last interval. So a bill that was final never changes, and
//! everything stands on exactly one.

use energy::{Interval, Mtu, Timestamp};

use crate::zone::{Month, Zone};

/// A month with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthSpan {
    /// Which.
    pub month: Month,
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// The block that settled its last interval; `None` while it is open.
    pub closed_by: Option<u64>,
}

/// The months of a chain, from its first to the one billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// In order.
    pub months: Vec<MonthSpan>,
}

impl MonthSpan {
    /// The bounds of `month` where clocks are in `zone`, open.
    #[must_use]
    pub fn of(month: Month, zone: &Zone) -> Self {
        let (from, until) = (zone.midnight(month.first_day()), zone.midnight(month.next().first_day()));
        Self { month, from, until, closed_by: None }
    }

    /// The interval that starts last in it.
    #[must_use]
    pub fn last_interval(&self, mtu: Mtu) -> Interval {
        Interval::containing(self.until.minus_ms(1), mtu)
    }
}

impl Calendar {
    /// The months from that of `start` to `last`, each closed by the block that `settled_by` names for its last interval.
    ///
    /// # Errors
    /// What `settled_by` says.
    pub fn new<E>(
        start: Timestamp,
        last: Month,
        zone: &Zone,
        mtu: Mtu,
        settled_by: impl Fn(Interval) -> Result<Option<u64>, E>,
    ) -> Result<Self, E> {
        let mut months = Vec::new();
        let mut month = Month::of(zone.date(start));
        while month <= last {
            let span = MonthSpan::of(month, zone);
            let closed_by = settled_by(span.last_interval(mtu))?;
            months.push(MonthSpan { closed_by, ..span });
            month = month.next();
        }
        Ok(Self { months })
    }

    /// Position of the month on whose bill something stands that the block at `height` booked, for an interval that the
    /// block at `settled_by` settled; `None` if it is later than all of them.
    #[must_use]
    pub fn place(&self, interval: Option<Interval>, height: u64, settled_by: Option<u64>) -> Option<usize> {
        let own = interval.filter(|_| settled_by == Some(height)).map(Interval::start);
        self.months.iter().position(|month| match own {
            Some(start) => start < month.until,
            None => month.closed_by.is_none_or(|closed_by| height <= closed_by),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Interval {
        Interval::parse(time, Mtu::Min15).unwrap()
    }

    /// June closed by block 50, July by block 90, August open; clocks at +08:00.
    fn calendar() -> Calendar {
        let closes = |interval: Interval| -> Result<_, ()> {
            let known = [("2026-06-30T15:45:00Z", 50), ("2026-07-31T15:45:00Z", 90)];
            Ok(known.iter().find(|(time, _)| at(time) == interval).map(|(_, height)| *height))
        };
        let (start, last) =
            (Timestamp::parse("2026-06-10T00:00:00Z").unwrap(), Month::parse("2026-08").unwrap());
        Calendar::new(start, last, &Zone::of_minutes(480), Mtu::Min15, closes).unwrap()
    }

    #[test]
    fn a_month_begins_and_ends_at_local_midnight() {
        let july = calendar().months[1];
        assert_eq!(july.month.to_string(), "2026-07");
        assert_eq!(july.from.to_string(), "2026-06-30T16:00:00Z");
        assert_eq!(july.until.to_string(), "2026-07-31T16:00:00Z");
    }

    #[test]
    fn what_was_settled_in_time_stands_on_the_bill_of_its_interval_even_if_settled_in_the_next_month() {
        let calendar = calendar();
        // One block after an outage settles the last interval of June and the first of July.
        assert_eq!(calendar.place(Some(at("2026-06-30T15:45:00Z")), 50, Some(50)), Some(0));
        assert_eq!(calendar.place(Some(at("2026-06-30T16:00:00Z")), 50, Some(50)), Some(1));
    }

    #[test]
    fn what_comes_later_stands_on_the_bill_that_is_open_then() {
        let calendar = calendar();
        let in_june = Some(at("2026-06-20T10:00:00Z"));
        assert_eq!(calendar.place(in_june, 49, Some(20)), Some(0), "late, but June was open");
        assert_eq!(calendar.place(in_june, 51, Some(20)), Some(1), "June was closed");
        assert_eq!(calendar.place(None, 0, None), Some(0), "deposits of the genesis");
        assert_eq!(calendar.place(None, 90, None), Some(1));
        assert_eq!(calendar.place(None, 91, None), Some(2));
    }

    #[test]
    fn what_is_later_than_the_months_billed_stands_on_none_of_them() {
        let mut calendar = calendar();
        calendar.months.pop();
        assert_eq!(calendar.place(None, 91, None), None);
        assert_eq!(calendar.place(Some(at("2026-07-31T16:00:00Z")), 95, Some(95)), None);
    }
}
