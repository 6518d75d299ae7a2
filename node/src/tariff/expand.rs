//! From a schedule to one point an interval.

use chrono::NaiveDateTime;
use energy::{Interval, Mtu, Price, Timestamp};
use ledger::TariffPoint;

use super::day_ahead::SeriesError;
use super::schedule::{Prices, Schedule};

/// The prices of one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Which.
    pub interval: Interval,
    /// The supplier's prices.
    pub tariff: TariffPoint,
    /// Fees of the schedule's edges in their order, µ/kWh: toward the root, and away from it.
    pub network: Vec<(i64, i64)>,
}

/// Why a schedule has no price for an interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// No window holds, and nothing is said for the rest.
    #[error("no window of {what} holds at {at} ({day}); add one, or a `price` for all other hours")]
    Uncovered {
        /// Which prices.
        what: String,
        /// Local time.
        at: NaiveDateTime,
        /// Which kind of day.
        day: &'static str,
    },
    /// The price changes within an interval.
    #[error(
        "a window of {what} begins or ends within the interval that starts at {at}; the market's intervals have {minutes} minutes"
    )]
    Straddled {
        /// Which prices.
        what: String,
        /// Local time.
        at: NaiveDateTime,
        /// Length of an interval.
        minutes: u32,
    },
    /// A fee below zero.
    #[error("{what} is {price} µ/kWh at {at}; network fees are never below zero")]
    NegativeFee {
        /// Which fee.
        what: String,
        /// What it would be.
        price: i64,
        /// Local time.
        at: NaiveDateTime,
    },
    /// The file with the prices.
    #[error(transparent)]
    Series(#[from] SeriesError),
}

/// The points of the intervals that start from `from` to before `until`.
///
/// # Errors
/// [`ExpandError`]: the first interval that has no price.
pub fn expand(
    schedule: &Schedule,
    mtu: Mtu,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Point>, ExpandError> {
    let mut points = Vec::new();
    let mut interval = Interval::containing(from, mtu);
    while interval.start() < until {
        points.push(point(schedule, interval)?);
        interval = interval.next();
    }
    Ok(points)
}

fn point(schedule: &Schedule, interval: Interval) -> Result<Point, ExpandError> {
    let price = |prices: &Prices, what: &str| price_at(schedule, prices, what, interval);
    let tariff = TariffPoint {
        import_price: Price::new(price(&schedule.import, "[import]")?),
        export_price: Price::new(price(&schedule.export, "[export]")?),
    };
    let fee = |prices: &Prices, what: String| match price(prices, &what)? {
        price if price < 0 => {
            Err(ExpandError::NegativeFee { what, price, at: schedule.zone.clock(interval.start()) })
        }
        price => Ok(price),
    };
    let edges = schedule.network.iter().map(|edge| {
        let name = |direction: &str| format!("[network.{direction}] of node {}", edge.node);
        Ok((fee(&edge.up, name("up"))?, fee(&edge.down, name("down"))?))
    });
    Ok(Point { interval, tariff, network: edges.collect::<Result<_, ExpandError>>()? })
}

fn price_at(
    schedule: &Schedule,
    prices: &Prices,
    what: &str,
    interval: Interval,
) -> Result<i64, ExpandError> {
    let (windows, otherwise) = match prices {
        Prices::Series { series, formula } => return Ok(formula.apply(series.at(interval)?)),
        Prices::Windows { windows, otherwise } => (windows, otherwise),
    };
    let at = schedule.zone.clock(interval.start());
    let (date, minute) = (at.date(), schedule.zone.minute(interval.start()));
    let day = schedule.day_type(date);
    let end = minute + interval.mtu().minutes();
    let bounds = windows.iter().filter(|window| window.is_of(date, day)).flat_map(|window| &window.pieces);
    if bounds.flat_map(|(from, until)| [*from, *until]).any(|bound| minute < bound && bound < end) {
        return Err(ExpandError::Straddled { what: what.to_owned(), at, minutes: interval.mtu().minutes() });
    }
    let held = windows.iter().find(|window| window.holds(date, day, minute)).map(|window| window.price);
    held.or(*otherwise).ok_or_else(|| ExpandError::Uncovered { what: what.to_owned(), at, day: day.word() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::document::Document;
    use crate::zone::date;

    fn schedule(text: &str) -> Schedule {
        Schedule::read(&Document::of_text(Path::new("tariff.toml"), text)).unwrap()
    }

    fn day(schedule: &Schedule, day: &str, mtu: Mtu) -> Result<Vec<Point>, ExpandError> {
        let first = date(day).unwrap();
        let (from, until) =
            (schedule.zone.midnight(first), schedule.zone.midnight(first.succ_opt().unwrap()));
        expand(schedule, mtu, from, until)
    }

    const BERLIN: &str = "zone = \"Europe/Berlin\"\nholidays = [2026-10-03]\n[import]\nprice = 300000\n\
        [[import.window]]\ndays = [\"workday\", \"saturday\"]\nfrom = \"02:00\"\nuntil = \"03:00\"\nprice = 100000\n\
        [[import.window]]\ndays = [\"sunday\", \"holiday\"]\nfrom = \"02:00\"\nuntil = \"03:00\"\nprice = -20000\n\
        [export]\nprice = 80000\n\
        [[network]]\nnode = \"lv\"\n[network.down]\nprice = 40000\n[[network.down.window]]\nfrom = \"17:00\"\nuntil = \"20:00\"\nprice = 90000\n";

    fn count(points: &[Point], price: i64) -> usize {
        points.iter().filter(|point| point.tariff.import_price.get() == price).count()
    }

    #[test]
    fn days_on_which_clocks_change_have_92_and_100_quarter_hours() {
        let berlin = schedule(BERLIN);
        let spring = day(&berlin, "2026-03-29", Mtu::Min15).unwrap();
        assert_eq!((spring.len(), count(&spring, -20_000)), (92, 0), "there is no 02:00 on that day");
        let autumn = day(&berlin, "2026-10-25", Mtu::Min15).unwrap();
        assert_eq!((autumn.len(), count(&autumn, -20_000)), (100, 8), "02:00 comes twice");
        assert_eq!(day(&berlin, "2026-10-26", Mtu::Min15).unwrap().len(), 96);
        assert_eq!(autumn[8].interval.to_string(), "2026-10-25T00:00:00Z");
    }

    #[test]
    fn holidays_and_weekdays_have_their_own_prices_and_fees_their_own_hours() {
        let berlin = schedule(BERLIN);
        assert_eq!(
            count(&day(&berlin, "2026-10-03", Mtu::Min15).unwrap(), -20_000),
            4,
            "a holiday on a Saturday"
        );
        let monday = day(&berlin, "2026-10-05", Mtu::Min60).unwrap();
        assert_eq!((monday.len(), count(&monday, 100_000)), (24, 1));
        let dear = monday.iter().filter(|point| point.network == [(0, 90_000)]).count();
        assert_eq!((dear, monday.iter().filter(|point| point.network == [(0, 40_000)]).count()), (3, 21));
    }

    #[test]
    fn an_interval_without_a_price_or_with_two_is_named() {
        let gap = BERLIN.replacen("price = 300000\n", "", 1);
        let error = day(&schedule(&gap), "2026-10-05", Mtu::Min15).unwrap_err().to_string();
        assert!(error.contains("no window of [import] holds at 2026-10-05 00:00:00 (workday)"), "{error}");
        let odd = BERLIN.replacen("until = \"03:00\"", "until = \"02:20\"", 1);
        let error = day(&schedule(&odd), "2026-10-05", Mtu::Min15).unwrap_err().to_string();
        assert!(error.contains("within the interval that starts at 2026-10-05 02:15:00"), "{error}");
        assert!(day(&schedule(&odd), "2026-10-05", Mtu::Min5).is_ok());
        let negative = BERLIN.replace("price = 90000", "price = -1");
        let error = day(&schedule(&negative), "2026-10-05", Mtu::Min15).unwrap_err().to_string();
        assert!(error.contains("[network.down] of node lv is -1 µ/kWh"), "{error}");
    }
}
