//! A tariff as people write it: prices by day type and hour, or a day-ahead series and a formula, for import, export
//! and the network's edges. TOML.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{Datelike, NaiveDate, Weekday};
use energy::NodeId;
use toml::de::DeValue;

use super::day_ahead::{Formula, Series, Unit};
use crate::config::document::{Document, Section, nearest};
use crate::config::report::Report;
use crate::config::value::{FromToml, Mismatch};
use crate::zone::Zone;

/// No schedule is longer, in bytes.
pub const SCHEDULE_BYTES_MAX: u64 = 1 << 20;
/// Minutes of a day of 24 hours.
const DAY_MINUTES: u32 = 1_440;

/// A tariff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Where its clocks are.
    pub zone: Zone,
    /// Days of the type `holiday`.
    pub holidays: BTreeSet<NaiveDate>,
    /// Days that count as workdays whatever their weekday.
    pub workdays: BTreeSet<NaiveDate>,
    /// What a kWh from the supplier costs.
    pub import: Prices,
    /// What the supplier pays for one.
    pub export: Prices,
    /// Network fees of edges.
    pub network: Vec<EdgeFees>,
}

/// The fees of the edge from a node to its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeFees {
    /// The node.
    pub node: NodeId,
    /// Toward the root.
    pub up: Prices,
    /// Away from it.
    pub down: Prices,
}

/// How prices come about, µ/kWh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prices {
    /// By day type, month and hour.
    Windows {
        /// The windows; no two hold at once.
        windows: Vec<Window>,
        /// Where none holds.
        otherwise: Option<i64>,
    },
    /// From a file.
    Series {
        /// The file's prices.
        series: Series,
        /// What is made of them.
        formula: Formula,
    },
}

/// Hours with a price of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// On which days.
    pub days: Vec<DayType>,
    /// In which months, 1 to 12.
    pub months: Vec<u32>,
    /// Hours, as minutes of the day from (inclusive) to (exclusive); two pieces where they pass midnight.
    pub pieces: Vec<(u32, u32)>,
    /// µ/kWh.
    pub price: i64,
}

/// What kind of day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DayType {
    /// Monday to Friday, and days that are named so.
    Workday,
    /// A Saturday.
    Saturday,
    /// A Sunday.
    Sunday,
    /// A day that is named so.
    Holiday,
}

impl DayType {
    const WORDS: [(&'static str, Self); 4] = [
        ("workday", Self::Workday),
        ("saturday", Self::Saturday),
        ("sunday", Self::Sunday),
        ("holiday", Self::Holiday),
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, day)| *day == self).map_or("", |(word, _)| word)
    }
}

impl FromToml for DayType {
    fn expected() -> String {
        "one of \"workday\", \"saturday\", \"sunday\", \"holiday\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = value.as_str().ok_or(Mismatch::Type)?;
        let found = Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, day)| *day);
        let meant = || nearest(text, Self::WORDS.iter().map(|(word, _)| *word));
        found.ok_or_else(|| match meant() {
            Some(meant) => Mismatch::Value(format!("there is no day type {text:?}; did you mean {meant:?}?")),
            None => Mismatch::Value(format!("there is no day type {text:?}")),
        })
    }
}

/// A time of day, minutes after midnight; 24:00 is the day's end.
#[derive(Debug, Clone, Copy)]
struct TimeOfDay(u32);

impl FromToml for TimeOfDay {
    fn expected() -> String {
        "a time of day such as \"07:00\", up to \"24:00\"".to_owned()
    }

    /// Takes TOML's own local time and `HH:MM` in quotes.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = match value {
            DeValue::Datetime(time) => time.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => return Err(Mismatch::Type),
        };
        let wrong = || Mismatch::Value(format!("{text:?} is no time of day"));
        let short = text.strip_suffix(":00").filter(|short| short.len() == 5).unwrap_or(&text);
        let (hours, minutes) = short.split_once(':').filter(|_| short.len() == 5).ok_or_else(wrong)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| digits(text));
        let (hours, minutes) = (number(hours).ok_or_else(wrong)?, number(minutes).ok_or_else(wrong)?);
        let of_day = hours * 60 + minutes;
        if minutes < 60 && of_day <= DAY_MINUTES { Ok(Self(of_day)) } else { Err(wrong()) }
    }
}

impl Schedule {
    /// Reads the file at `path`; series in it count from its folder.
    ///
    /// # Errors
    /// [`Report`] with every fault at its place.
    pub fn load(path: &Path) -> Result<Self, Report> {
        Self::read(&Document::open(path, SCHEDULE_BYTES_MAX)?)
    }

    /// Reads a schedule that is already in memory.
    ///
    /// # Errors
    /// See [`Schedule::load`].
    pub fn read(document: &Document) -> Result<Self, Report> {
        let folder = document.path().parent().unwrap_or(Path::new("")).to_owned();
        document.read(|top| {
            let zone = top.required("zone");
            let holidays: BTreeSet<NaiveDate> =
                top.list("holidays").unwrap_or_default().into_iter().collect();
            let workdays: BTreeSet<NaiveDate> =
                top.list("workdays").unwrap_or_default().into_iter().collect();
            if let Some(both) = holidays.intersection(&workdays).next() {
                top.fault("workdays", format!("{both} is a holiday as well"), "say one of the two", None);
            }
            let prices = |key| top.required_section(key).map(|section| read_prices(&section, &folder));
            let (import, export) = (prices("import"), prices("export"));
            let network: Vec<_> = top.sections("network").iter().map(|it| read_edge(it, &folder)).collect();
            Some(Self {
                zone: zone?,
                holidays,
                workdays,
                import: import??,
                export: export??,
                network: network.into_iter().collect::<Option<_>>()?,
            })
        })
    }

    /// What kind of day it is.
    #[must_use]
    pub fn day_type(&self, date: NaiveDate) -> DayType {
        if self.holidays.contains(&date) {
            return DayType::Holiday;
        }
        if self.workdays.contains(&date) {
            return DayType::Workday;
        }
        match date.weekday() {
            Weekday::Sat => DayType::Saturday,
            Weekday::Sun => DayType::Sunday,
            _ => DayType::Workday,
        }
    }
}

fn read_edge(section: &Section<'_>, folder: &Path) -> Option<EdgeFees> {
    let node = section.required("node");
    let nothing = Prices::Windows { windows: Vec::new(), otherwise: Some(0) };
    let up = section.section("up").map_or(Some(nothing.clone()), |up| read_prices(&up, folder));
    let down = section.section("down").map_or(Some(nothing), |down| read_prices(&down, folder));
    Some(EdgeFees { node: node?, up: up?, down: down? })
}

fn read_prices(section: &Section<'_>, folder: &Path) -> Option<Prices> {
    if section.has("series") {
        return read_series(section, folder);
    }
    let otherwise = section.optional::<i64>("price");
    let sections = section.sections("window");
    let windows: Vec<_> = sections.iter().map(read_window).collect();
    let windows: Vec<Window> = windows.into_iter().collect::<Option<_>>()?;
    for (at, (window, place)) in windows.iter().zip(&sections).enumerate() {
        if let Some(other) = windows.iter().take(at).position(|other| other.overlaps(window)) {
            let title = format!("this window and the {} one hold at the same time", ordinal(other + 1));
            place.fault_here(title, "which price would count?", None);
        }
    }
    if windows.is_empty() && otherwise.is_none() {
        let help =
            "`price = 250000` is 0.25 per kWh; [[…window]] tables add hours; `series` names a CSV file";
        section.fault_here(
            "no price is said here".to_owned(),
            "add `price`, `window` or `series`",
            Some(help.to_owned()),
        );
        return None;
    }
    Some(Prices::Windows { windows, otherwise })
}

fn ordinal(number: usize) -> String {
    match number {
        1 => "1st".to_owned(),
        2 => "2nd".to_owned(),
        3 => "3rd".to_owned(),
        other => format!("{other}th"),
    }
}

fn read_window(section: &Section<'_>) -> Option<Window> {
    let all = DayType::WORDS.map(|(_, day)| day).to_vec();
    let days = section.list("days").unwrap_or(all);
    let months = section.list::<u32>("months").unwrap_or_else(|| (1..=12).collect());
    if let Some(month) = months.iter().find(|month| !(1..=12).contains(*month)) {
        section.fault("months", format!("there is no month {month}"), "expected 1 to 12", None);
    }
    let (from, until) = (section.required::<TimeOfDay>("from"), section.required::<TimeOfDay>("until"));
    let price = section.required("price");
    let (from, until) = (from?.0, until?.0);
    if from == until {
        section.fault(
            "until",
            "the window ends where it begins".to_owned(),
            "for whole days: 00:00 to 24:00",
            None,
        );
    }
    // Over midnight: the hours before it and after it of the same days.
    let pieces = if from < until { vec![(from, until)] } else { vec![(0, until), (from, DAY_MINUTES)] };
    Some(Window { days, months, pieces, price: price? })
}

fn read_series(section: &Section<'_>, folder: &Path) -> Option<Prices> {
    let path = section.required::<std::path::PathBuf>("series");
    let unit = read_unit(section);
    let formula = Formula {
        factor_permille: section.or("factor_permille", 1_000),
        add: section.or("add", 0),
        min: section.optional("min"),
        max: section.optional("max"),
    };
    if let (Some(min), Some(max)) = (formula.min, formula.max)
        && max < min
    {
        section.fault("max", format!("`max` {max} is below `min` {min}"), "no price fits", None);
    }
    for key in ["price", "window"] {
        if section.has(key) {
            section.fault(
                key,
                format!("`{key}` and `series` exclude one another"),
                "say one of the two",
                None,
            );
            // Asked for, so that it is not unknown as well.
            let _: Option<i64> = if key == "price" { section.optional("price") } else { None };
            section.sections(key);
        }
    }
    match Series::load(&folder.join(path?), unit?) {
        Ok(series) => Some(Prices::Series { series, formula }),
        Err(error) => {
            section.fault("series", error.to_string(), "this file", None);
            None
        }
    }
}

fn read_unit(section: &Section<'_>) -> Option<Unit> {
    let word = section.required::<String>("unit")?;
    if let Some((_, unit)) = Unit::WORDS.iter().find(|(known, _)| *known == word) {
        return Some(*unit);
    }
    let known = Unit::WORDS.map(|(word, _)| format!("\"{word}\"")).join(", ");
    section.fault("unit", format!("`unit` cannot be \"{word}\""), &format!("expected one of {known}"), None);
    None
}

impl Window {
    /// True if it holds at a minute of a day.
    #[must_use]
    pub fn holds(&self, date: NaiveDate, day: DayType, minute: u32) -> bool {
        self.is_of(date, day) && self.pieces.iter().any(|(from, until)| (*from..*until).contains(&minute))
    }

    /// True if it is of such a day.
    #[must_use]
    pub fn is_of(&self, date: NaiveDate, day: DayType) -> bool {
        self.days.contains(&day) && self.months.contains(&date.month())
    }

    fn overlaps(&self, other: &Self) -> bool {
        let shares_days = self.days.iter().any(|day| other.days.contains(day));
        let shares_months = self.months.iter().any(|month| other.months.contains(month));
        let shares_hours = self
            .pieces
            .iter()
            .any(|(from, until)| other.pieces.iter().any(|(start, end)| from < end && start < until));
        shares_days && shares_months && shares_hours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schedule, String> {
        Schedule::read(&Document::of_text(Path::new("tariff.toml"), text))
            .map_err(|report| report.render(false))
    }

    const SIMPLE: &str = "zone = \"Asia/Shanghai\"\nholidays = [2026-10-01]\nworkdays = [2026-10-10]\n\
        [import]\nprice = 250000\n[[import.window]]\ndays = [\"workday\"]\nfrom = \"22:00\"\nuntil = 06:00:00\nprice = 180000\n\
        [export]\nprice = 80000\n";

    #[test]
    fn day_types_are_weekdays_but_for_days_that_are_named() {
        let schedule = read(SIMPLE).unwrap();
        let day = |date: &str| schedule.day_type(crate::zone::date(date).unwrap()).word();
        assert_eq!(day("2026-10-01"), "holiday", "a Thursday");
        assert_eq!(day("2026-10-10"), "workday", "a Saturday that is worked");
        assert_eq!(
            (day("2026-10-17"), day("2026-10-18"), day("2026-10-19")),
            ("saturday", "sunday", "workday")
        );
    }

    #[test]
    fn a_window_over_midnight_is_the_night_hours_of_its_days() {
        let Prices::Windows { windows, .. } = read(SIMPLE).unwrap().import else { panic!() };
        let holds =
            |minute| windows[0].holds(crate::zone::date("2026-10-05").unwrap(), DayType::Workday, minute);
        assert_eq!([0, 359, 360, 1_319, 1_320, 1_439].map(holds), [true, true, false, false, true, true]);
    }

    #[test]
    fn every_fault_of_a_schedule_is_shown_at_its_place() {
        let text = "zone = \"Mars\"\n[import]\n[[import.window]]\ndays = [\"workdy\"]\nfrom = \"7\"\nuntil = \"12:00\"\nprice = 1\n\
                    [export]\nseries = \"none.csv\"\nunit = \"per-GWh\"\nprice = 3\n";
        let report = read(text).unwrap_err();
        for part in [
            "tariff.toml:1:8",
            "did you mean \"workday\"?",
            "tariff.toml:5:8",
            "`unit` cannot be \"per-GWh\"",
            "`price` and `series` exclude one another",
        ] {
            assert!(report.contains(part), "{part:?} is not in\n{report}");
        }
        let unread = text.replace("per-GWh", "per-MWh");
        assert!(read(&unread).unwrap_err().contains("none.csv cannot be read"));
        assert!(read(&SIMPLE.replace("price = 80000", "")).unwrap_err().contains("no price is said here"));
    }

    #[test]
    fn two_windows_that_hold_at_the_same_time_are_refused() {
        let more = "[[import.window]]\nmonths = [1]\nfrom = \"05:45\"\nuntil = \"07:00\"\nprice = 1\n";
        let report = read(&SIMPLE.replace("[export]", &format!("{more}[export]"))).unwrap_err();
        assert!(report.contains("this window and the 1st one hold at the same time"), "{report}");
        let apart = more.replace("months = [1]", "days = [\"sunday\"]");
        assert!(read(&SIMPLE.replace("[export]", &format!("{apart}[export]"))).is_ok());
    }
}
