//! Prices that are known a day ahead, from a CSV file with the columns `start` and `price`.
//!
//! `start` is RFC 3339 with its offset, rows are in order. Each price holds for the file's resolution: the shortest
//! distance between two rows (an hour if there is only one). Nothing is filled in where a row is missing.

use std::path::Path;

use energy::{Interval, Timestamp};

/// No file is longer, in bytes.
pub const SERIES_BYTES_MAX: u64 = 16 << 20;
/// Prices hold for an hour at the most, in ms.
const HOUR_MS: u64 = 3_600_000;

/// What the file's prices are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The currency per MWh, as exchanges quote.
    PerMwh,
    /// The currency per kWh.
    PerKwh,
    /// µ/kWh, whole numbers.
    Micro,
}

impl Unit {
    /// All of them with their words.
    pub const WORDS: [(&'static str, Self); 3] =
        [("per-MWh", Self::PerMwh), ("per-kWh", Self::PerKwh), ("micro", Self::Micro)];

    /// How many decimal places of it make a µ/kWh.
    const fn places(self) -> usize {
        match self {
            Self::PerMwh => 3,
            Self::PerKwh => 6,
            Self::Micro => 0,
        }
    }
}

/// What is made of a price of the file: ⌊price × factor / 1000⌋ + `add`, then kept within the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formula {
    /// ‰.
    pub factor_permille: i64,
    /// µ/kWh.
    pub add: i64,
    /// µ/kWh.
    pub min: Option<i64>,
    /// µ/kWh.
    pub max: Option<i64>,
}

impl Formula {
    /// The price in µ/kWh that comes of `price` in µ/kWh.
    #[must_use]
    pub fn apply(&self, price: i64) -> i64 {
        let scaled = (i128::from(price) * i128::from(self.factor_permille)).div_euclid(1_000);
        let sum = scaled + i128::from(self.add);
        let low = self.min.map_or(sum, |min| sum.max(min.into()));
        let kept = self.max.map_or(low, |max| low.min(max.into()));
        i64::try_from(kept).unwrap_or(if kept < 0 { i64::MIN } else { i64::MAX })
    }
}

/// A series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Start and price, µ/kWh, in order.
    rows: Vec<(Timestamp, i64)>,
    /// How long each price holds, ms.
    resolution_ms: u64,
    /// What the file is called.
    name: String,
}

/// What is wrong with a series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// The file cannot be read.
    #[error("{name} cannot be read: {why}")]
    Unreadable {
        /// Which file.
        name: String,
        /// Why.
        why: String,
    },
    /// A row.
    #[error("{name}:{line}: {what}")]
    Row {
        /// Which file.
        name: String,
        /// Line, from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// No row holds in an interval.
    #[error("{name} has no price for {interval}; its rows end before it, or one is missing")]
    Missing {
        /// Which file.
        name: String,
        /// Which interval.
        interval: Interval,
    },
    /// Several prices in one interval.
    #[error("{name} has prices of {minutes} minutes, shorter than an interval of the market")]
    TooFine {
        /// Which file.
        name: String,
        /// Its resolution.
        minutes: u64,
    },
}

impl Series {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`SeriesError`], with the line.
    pub fn load(path: &Path, unit: Unit) -> Result<Self, SeriesError> {
        let name = path.display().to_string();
        let unreadable = |why: String| SeriesError::Unreadable { name: name.clone(), why };
        let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
        let length = file.metadata().map_err(|error| unreadable(error.to_string()))?.len();
        if length > SERIES_BYTES_MAX {
            return Err(unreadable(format!("it is longer than the limit of {SERIES_BYTES_MAX} bytes")));
        }
        let text = std::io::read_to_string(std::io::Read::take(file, SERIES_BYTES_MAX));
        Self::parse(&name, &text.map_err(|error| unreadable(error.to_string()))?, unit)
    }

    /// Reads a series that is already in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// [`SeriesError`], with the line.
    pub fn parse(name: &str, text: &str, unit: Unit) -> Result<Self, SeriesError> {
        let row_error = |line: u64, what: String| SeriesError::Row { name: name.to_owned(), line, what };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|error| row_error(1, error.to_string()))?.clone();
        let column = |wanted: &str| {
            let found = header.iter().position(|name| name == wanted);
            found.ok_or_else(|| {
                row_error(1, format!("there is no column `{wanted}`; `start` and `price` are needed"))
            })
        };
        let (start, price) = (column("start")?, column("price")?);
        let mut rows: Vec<(Timestamp, i64)> = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| {
                let line = error.position().map_or(0, csv::Position::line);
                row_error(line, "it has another number of fields than the first line".to_owned())
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |at: usize| record.get(at).unwrap_or_default();
            let time = Timestamp::parse(field(start)).map_err(|error| row_error(line, error.to_string()))?;
            let price = decimal(field(price), unit.places()).map_err(|what| row_error(line, what))?;
            if rows.last().is_some_and(|(last, _)| *last >= time) {
                return Err(row_error(line, format!("{time} does not come after the row before")));
            }
            rows.push((time, price));
        }
        let distances = rows.windows(2).filter_map(|pair| match pair {
            [(earlier, _), (later, _)] => Some(later.ms_since(*earlier)),
            _ => None,
        });
        let resolution_ms = distances.min().unwrap_or(HOUR_MS).min(HOUR_MS);
        Ok(Self { rows, resolution_ms, name: name.to_owned() })
    }

    /// The price that holds in the whole of `interval`, µ/kWh.
    ///
    /// # Errors
    /// [`SeriesError`] where there is none, or more than one.
    pub fn at(&self, interval: Interval) -> Result<i64, SeriesError> {
        if self.resolution_ms < interval.mtu().ms() {
            return Err(SeriesError::TooFine {
                name: self.name.clone(),
                minutes: self.resolution_ms / 60_000,
            });
        }
        let after = self.rows.partition_point(|(start, _)| *start <= interval.start());
        let row = after.checked_sub(1).and_then(|at| self.rows.get(at));
        let holds = row.filter(|(start, _)| interval.end() <= start.plus_ms(self.resolution_ms));
        holds
            .map(|(_, price)| *price)
            .ok_or_else(|| SeriesError::Missing { name: self.name.clone(), interval })
    }
}

/// A decimal number times 10^`places`, exactly.
///
/// # Errors
/// A sentence.
pub fn decimal(text: &str, places: usize) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not a number such as 84.12 or -3.5");
    let (sign, digits) = match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(wrong());
    }
    let significant = fraction.trim_end_matches('0');
    if significant.len() > places {
        return Err(format!("{text} has more digits behind the point than the {places} that can be kept"));
    }
    let scaled: i64 =
        format!("{whole}{significant:0<places$}").parse().map_err(|_| format!("{text} is too large"))?;
    Ok(sign * scaled)
}

#[cfg(test)]
mod tests {
    use energy::Mtu;

    use super::*;

    fn at(series: &Series, time: &str, mtu: Mtu) -> Result<i64, SeriesError> {
        series.at(Interval::parse(time, mtu).unwrap())
    }

    const HOURLY: &str = "start,price\n2026-07-14T00:00:00+02:00,84.12\n2026-07-14T01:00:00+02:00,-3.5\n\
                          2026-07-14T03:00:00+02:00,0\n";

    #[test]
    fn an_hourly_price_holds_in_its_four_quarters_and_a_missing_hour_is_not_filled_in() {
        let series = Series::parse("day.csv", HOURLY, Unit::PerMwh).unwrap();
        assert_eq!(at(&series, "2026-07-13T22:45:00Z", Mtu::Min15), Ok(84_120));
        assert_eq!(at(&series, "2026-07-13T23:00:00Z", Mtu::Min60), Ok(-3_500));
        for outside in ["2026-07-13T21:45:00Z", "2026-07-14T00:00:00Z", "2026-07-14T02:00:00Z"] {
            let error = at(&series, outside, Mtu::Min15).unwrap_err().to_string();
            assert!(error.contains(&format!("day.csv has no price for {outside}")), "{error}");
        }
    }

    #[test]
    fn quarter_hourly_prices_do_not_fit_an_hourly_market() {
        let text = "start,price\n2026-07-14T00:00:00Z,1\n2026-07-14T00:15:00Z,2\n";
        let series = Series::parse("day.csv", text, Unit::Micro).unwrap();
        assert_eq!(at(&series, "2026-07-14T00:15:00Z", Mtu::Min15), Ok(2));
        assert!(
            at(&series, "2026-07-14T00:00:00Z", Mtu::Min60).unwrap_err().to_string().contains("15 minutes")
        );
    }

    #[test]
    fn a_wrong_row_is_named_by_its_line() {
        for (spoilt, says) in [
            (HOURLY.replace("-3.5", "cheap"), "day.csv:3: \"cheap\" is not a number"),
            (HOURLY.replace("84.12", "84.1234"), "day.csv:2: 84.1234 has more digits"),
            (
                HOURLY.replace("T03:00:00+02:00", "T01:00:00+02:00"),
                "day.csv:4: 2026-07-13T23:00:00Z does not come after",
            ),
            (
                HOURLY.replace("2026-07-14T01:00:00+02:00", "14.7.2026"),
                "day.csv:3: \"14.7.2026\" is not an RFC 3339 time",
            ),
            (HOURLY.replace("start,price", "time,price"), "day.csv:1: there is no column `start`"),
            (HOURLY.replace("-3.5", "-3.5,9"), "day.csv:3: it has another number of fields"),
        ] {
            assert!(
                Series::parse("day.csv", &spoilt, Unit::PerMwh).unwrap_err().to_string().contains(says),
                "{spoilt}"
            );
        }
    }

    #[test]
    fn the_formula_floors_and_keeps_its_bounds_below_zero_too() {
        let formula = Formula { factor_permille: 1_070, add: 60_000, min: Some(0), max: Some(400_000) };
        assert_eq!(formula.apply(84_125), 90_013 + 60_000);
        assert_eq!(formula.apply(-100_001), 0);
        assert_eq!(formula.apply(1_000_000), 400_000);
        let open = Formula { factor_permille: 1_500, add: 0, min: None, max: None };
        assert_eq!((open.apply(-1), open.apply(1)), (-2, 1));
        assert_eq!(open.apply(i64::MAX), i64::MAX);
    }

    #[test]
    fn decimals_are_taken_exactly_or_not_at_all() {
        assert_eq!(decimal("-0.5", 3), Ok(-500));
        assert_eq!(decimal("12.3400", 2), Ok(1_234));
        for wrong in ["", ".5", "1e3", "1,5", "--1", "+1", "1.2.3", "٣"] {
            assert!(decimal(wrong, 9).is_err(), "{wrong}");
        }
        assert!(decimal("99999999999999999999", 0).is_err());
    }
}
