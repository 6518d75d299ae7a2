//! The supplier's prices of a run: the same all day, by time of day, or following a day-ahead price.
//!
//! Source of the flat prices: those of the demo ([`IMPORT_PRICE`], [`EXPORT_PRICE`]). The other two are shapes made up for
//! simulation, with about the same mean: what they are good for is to ask how homes answer to such prices.

use std::fmt;
use std::str::FromStr;

use energy::{Interval, Price};
use ledger::TariffPoint;

use crate::dataset::{EXPORT_PRICE, IMPORT_PRICE, Season};
use crate::options::UnknownWord;

/// Time of use, from 23:00 to 7:00.
const NIGHT: Price = Price::new(150_000);
/// Time of use, from 17:00 to 21:00.
const PEAK: Price = Price::new(350_000);
/// What the supplier adds to the day-ahead price when it sells …
const DYNAMIC_ADDED: i64 = 160_000;
/// … and keeps of it when it buys.
const DYNAMIC_KEPT: i64 = 8_000;
/// Day-ahead price by hour in thousandths of the currency per kWh on a workday with much sun: low at noon.
const SUMMER: [i64; 24] =
    [85, 80, 76, 74, 76, 84, 98, 108, 100, 78, 52, 34, 22, 15, 18, 34, 60, 92, 122, 138, 132, 116, 102, 92];
/// The same of a dark workday: high in the morning and the evening.
const WINTER: [i64; 24] = [
    78, 74, 72, 72, 76, 88, 112, 132, 136, 124, 114, 108, 104, 102, 106, 116, 134, 152, 158, 146, 126, 108,
    96, 86,
];
/// How much lower it is at a weekend: below zero on a summer's noon.
const WEEKEND_OFF: i64 = 40;

/// How the supplier's prices change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TariffKind {
    /// 0.25 and 0.08 per kWh.
    #[default]
    Flat,
    /// 0.15 from 23:00 to 7:00, 0.35 from 17:00 to 21:00, 0.25 between; sun is always bought at 0.08.
    TimeOfUse,
    /// A day-ahead price by hour and day of the week plus 0.16; sun is bought at that price less 0.008, which can be below
    /// zero.
    Dynamic,
}

impl TariffKind {
    /// The word of the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::TimeOfUse => "tou",
            Self::Dynamic => "dynamic",
        }
    }

    /// True if the prices never change, so that there is nothing to publish.
    #[must_use]
    pub const fn is_constant(self) -> bool {
        matches!(self, Self::Flat)
    }

    /// The supplier's prices of an interval.
    #[must_use]
    pub fn at(self, season: Season, interval: Interval) -> TariffPoint {
        let hour = hour_of(interval);
        match self {
            Self::Flat => TariffPoint { import_price: IMPORT_PRICE, export_price: EXPORT_PRICE },
            Self::TimeOfUse => {
                let import_price = match hour {
                    0..7 | 23 => NIGHT,
                    17..21 => PEAK,
                    _ => IMPORT_PRICE,
                };
                TariffPoint { import_price, export_price: EXPORT_PRICE }
            }
            Self::Dynamic => {
                let shape = if season == Season::Summer { &SUMMER } else { &WINTER };
                let off = if is_weekend(interval) { WEEKEND_OFF } else { 0 };
                let price = (shape[hour] - off) * 1_000;
                TariffPoint {
                    import_price: Price::new(price + DYNAMIC_ADDED),
                    export_price: Price::new(price - DYNAMIC_KEPT),
                }
            }
        }
    }
}

impl fmt::Display for TariffKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for TariffKind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let known =
            [Self::Flat, Self::TimeOfUse, Self::Dynamic].into_iter().find(|known| known.word() == word);
        known.ok_or_else(|| UnknownWord::new(word, "tariff", "flat, tou or dynamic"))
    }
}

/// 0 to 23, of the recorded local time.
fn hour_of(interval: Interval) -> usize {
    (interval.of_day() * 24 / interval.mtu().per_day()) as usize
}

fn is_weekend(interval: Interval) -> bool {
    // Day 0 of the Unix epoch was a Thursday.
    let day = interval.index() / u64::from(interval.mtu().per_day());
    (day + 3) % 7 >= 5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Interval {
        Interval::parse(time, energy::Mtu::Min15).unwrap()
    }

    fn prices(kind: TariffKind, season: Season, time: &str) -> (i64, i64) {
        let point = kind.at(season, at(time));
        (point.import_price.get(), point.export_price.get())
    }

    #[test]
    fn prices_change_at_the_hours_that_are_documented() {
        let tou = |time| prices(TariffKind::TimeOfUse, Season::Summer, time).0;
        for (time, expected) in [
            ("2016-06-13T06:45:00Z", 150_000),
            ("2016-06-13T07:00:00Z", 250_000),
            ("2016-06-13T17:00:00Z", 350_000),
            ("2016-06-13T20:45:00Z", 350_000),
            ("2016-06-13T21:00:00Z", 250_000),
            ("2016-06-13T23:00:00Z", 150_000),
        ] {
            assert_eq!(tou(time), expected, "{time}");
        }
        assert_eq!(prices(TariffKind::Flat, Season::Winter, "2016-01-11T12:00:00Z"), (250_000, 80_000));
    }

    #[test]
    fn a_summer_sunday_noon_has_a_price_below_zero_and_a_workday_has_not() {
        // 2016-06-19 was a Sunday, the 20th a Monday.
        let noon = |time| prices(TariffKind::Dynamic, Season::Summer, time);
        assert_eq!(noon("2016-06-19T13:00:00Z"), (135_000, -33_000));
        assert_eq!(noon("2016-06-20T13:00:00Z"), (175_000, 7_000));
    }
}
