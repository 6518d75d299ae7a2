//! The files of a data set, in either layout, as checked values. Sizes and ranges are limited before anything is kept.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use csv::StringRecord;
use energy::{HomeId, Interval, Mtu, NodeId, WattHours};

use super::{DatasetError, DemoHome, HomeKind, QUARTERS_PER_DAY, Season};

/// More than any file of a street of some hundred homes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// More than any home, line or transformer of a street: 10 MW. Keeps every later sum far inside its type.
const WATTS_MAX: u32 = 10_000_000;

macro_rules! builtin_files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../data/simbench-1-LV-semiurb4--2-sw/", $name)))),*]
    };
}

/// The files inside the program.
pub(super) const BUILTIN: &[(&str, &str)] = builtin_files![
    "homes.csv",
    "buses.csv",
    "lines.csv",
    "transformer.csv",
    "summer_load_base_w.csv",
    "summer_load_hp_w.csv",
    "summer_load_ev_w.csv",
    "summer_pv_w.csv",
    "summer_pvb_out_w.csv",
    "summer_pvb_raw_w.csv",
    "winter_load_base_w.csv",
    "winter_load_hp_w.csv",
    "winter_load_ev_w.csv",
    "winter_pv_w.csv",
    "winter_pvb_out_w.csv",
    "winter_pvb_raw_w.csv",
];

/// Where the files come from.
pub(super) enum Source<'a> {
    /// Out of the program.
    Builtin,
    /// Out of a folder.
    Folder(&'a Path),
}

impl Source<'_> {
    /// The file's text, or `None` where there is no such file.
    fn text(&self, file: &str) -> Result<Option<Cow<'static, str>>, DatasetError> {
        match self {
            Self::Builtin => {
                Ok(BUILTIN.iter().find(|(name, _)| *name == file).map(|(_, text)| Cow::Borrowed(*text)))
            }
            Self::Folder(folder) => read_limited(&folder.join(file), file).map(|text| text.map(Cow::Owned)),
        }
    }

    fn table(&self, file: &str) -> Result<Table, DatasetError> {
        let missing = || DatasetError::Missing { file: file.to_owned() };
        Table::parse(file, &self.text(file)?.ok_or_else(missing)?)
    }
}

fn read_limited(path: &Path, file: &str) -> Result<Option<String>, DatasetError> {
    let unreadable = |cause| DatasetError::Unreadable { path: path.to_owned(), cause };
    let opened = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    let mut text = String::new();
    opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(DatasetError::TooLarge { file: file.to_owned(), limit: FILE_BYTES_MAX });
    }
    Ok(Some(text))
}

/// `what` is wrong between `file` and another.
pub(super) fn inconsistent(file: &str, what: String) -> DatasetError {
    DatasetError::Inconsistent { file: file.to_owned(), what }
}

/// One CSV file with a header; every row has as many cells as the header.
struct Table {
    file: String,
    header: StringRecord,
    rows: Vec<StringRecord>,
}

impl Table {
    fn parse(file: &str, text: &str) -> Result<Self, DatasetError> {
        let not_a_table = |cause| DatasetError::NotATable { file: file.to_owned(), cause };
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().map_err(not_a_table)?.clone();
        let rows = reader.into_records().collect::<Result<_, _>>().map_err(not_a_table)?;
        Ok(Self { file: file.to_owned(), header, rows })
    }

    fn column(&self, name: &str) -> Result<usize, DatasetError> {
        let no_column = || DatasetError::NoColumn { file: self.file.clone(), column: name.to_owned() };
        self.header.iter().position(|column| column == name).ok_or_else(no_column)
    }

    /// The cell in the column called `name`, read by `parse`.
    fn named<T>(
        &self,
        row: &StringRecord,
        name: &str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, DatasetError> {
        self.cell(row, self.column(name)?, expected, parse)
    }

    fn cell<T>(
        &self,
        row: &StringRecord,
        column: usize,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, DatasetError> {
        let text = row.get(column).unwrap_or_default();
        parse(text).ok_or_else(|| DatasetError::BadCell {
            file: self.file.clone(),
            // Only the header has no position.
            line: row.position().map_or(1, csv::Position::line),
            column: self.header.get(column).unwrap_or_default().to_owned(),
            text: text.chars().take(80).collect(),
            expected,
        })
    }

    /// A rating in kW, kVA or kWh, as W, VA or Wh.
    fn rating(&self, row: &StringRecord, name: &str) -> Result<u32, DatasetError> {
        self.named(row, name, "a number of at most three decimals from 0 to 10 000", thousandths)
    }
}

/// A decimal number in thousandths, exactly; `None` for more than three decimals, a sign, an exponent, or above the
/// limit.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let value = whole.parse::<u32>().ok()?.checked_mul(1000)?;
    let value = value.checked_add(format!("{decimals:0<3}").parse().ok()?)?;
    Some(value).filter(|value| *value <= WATTS_MAX)
}

fn whole_watts(text: &str) -> Option<u32> {
    text.parse().ok().filter(|watts| *watts <= WATTS_MAX)
}

fn home_id(text: &str) -> Option<HomeId> {
    HomeId::new(text).ok()
}

fn bus_id(text: &str) -> Option<NodeId> {
    NodeId::new(&format!("bus{text}")).ok().filter(|_| !text.is_empty())
}

fn home_kind(text: &str) -> Option<HomeKind> {
    match text {
        "household" => Some(HomeKind::Household),
        "commercial" => Some(HomeKind::Commercial),
        "farm" => Some(HomeKind::Farm),
        _ => None,
    }
}

/// `homes.csv` in its order; the registers are not in it and begin at 0.
pub(super) fn read_homes(source: &Source<'_>) -> Result<Vec<DemoHome>, DatasetError> {
    let table = source.table("homes.csv")?;
    let homes: Vec<_> = table.rows.iter().map(|row| read_home(&table, row)).collect::<Result<_, _>>()?;
    let ids: BTreeSet<_> = homes.iter().map(|home| &home.id).collect();
    if ids.len() < homes.len() {
        return Err(inconsistent(&table.file, "a home comes twice".to_owned()));
    }
    Ok(homes)
}

fn read_home(table: &Table, row: &StringRecord) -> Result<DemoHome, DatasetError> {
    Ok(DemoHome {
        id: table.named(row, "home", "a home id", home_id)?,
        node: table.named(row, "bus", "the number of a bus", bus_id)?,
        feeder: table.named(row, "feeder", "a feeder", |text| Some(text.to_owned()))?,
        kind: table.named(row, "kind", "household, commercial or farm", home_kind)?,
        peak_w: table.rating(row, "p_peak_kw")?,
        pv_w: table.rating(row, "pv_kwp")?,
        battery_pv_w: table.rating(row, "pvb_kwp")?,
        battery_wh: table.rating(row, "bat_kwh")?,
        battery_w: table.rating(row, "bat_kw")?,
        battery_efficiency_permille: table.rating(row, "bat_eff")?,
        heat_pump_w: table.rating(row, "hp_kw")?,
        ev_w: table.rating(row, "ev_kw")?,
        import_start: WattHours::ZERO,
        export_start: WattHours::ZERO,
    })
}

/// One bus and the edge above it.
pub(super) struct Bus {
    /// `bus15` for bus 15.
    pub id: NodeId,
    /// `None` for the busbar of the transformer.
    pub parent: Option<NodeId>,
    /// Edges up to the busbar.
    pub depth: u32,
    /// Rating of its line, or of the transformer, W.
    pub rating_w: u32,
}

/// `buses.csv` in its order (parents first), with the ratings out of `lines.csv` and `transformer.csv`.
pub(super) fn read_buses(source: &Source<'_>) -> Result<Vec<Bus>, DatasetError> {
    let lines = source.table("lines.csv")?;
    let mut ratings = BTreeMap::new();
    for row in &lines.rows {
        let line = lines.named(row, "line", "a line's name", |text| Some(text.to_owned()))?;
        ratings.insert(line, lines.rating(row, "pmax_kw")?);
    }
    let transformer = source.table("transformer.csv")?;
    let [row] = transformer.rows.as_slice() else {
        return Err(inconsistent(&transformer.file, "one transformer is needed, on one row".to_owned()));
    };
    ratings.insert("transformer".to_owned(), transformer.rating(row, "sn_kva")?);
    let table = source.table("buses.csv")?;
    table.rows.iter().map(|row| read_bus(&table, row, &ratings)).collect()
}

fn read_bus(table: &Table, row: &StringRecord, ratings: &BTreeMap<String, u32>) -> Result<Bus, DatasetError> {
    let parent = |text: &str| if text.is_empty() { Some(None) } else { bus_id(text).map(Some) };
    let bus = Bus {
        id: table.named(row, "bus", "the number of a bus", bus_id)?,
        parent: table.named(row, "parent_bus", "the number of a bus, or empty", parent)?,
        depth: table.named(row, "depth", "a number of lines", |text| text.parse().ok())?,
        rating_w: table.named(row, "via_line", "a line of lines.csv or transformer", |text| {
            ratings.get(text).copied()
        })?,
    };
    if bus.parent.is_none() != (bus.depth == 0) {
        return Err(inconsistent(
            &table.file,
            format!("{}: only the busbar has depth 0 and no parent", bus.id),
        ));
    }
    Ok(bus)
}

/// One quantity of one season: mean power per quarter-hour of every home that has it.
pub(super) struct Power {
    file: String,
    /// The first quarter-hour.
    pub first: Interval,
    /// W, equally many for every home.
    pub watts: BTreeMap<HomeId, Vec<u32>>,
}

impl Power {
    /// `what` in this table contradicts another.
    pub(super) fn contradiction(&self, what: String) -> DatasetError {
        inconsistent(&self.file, what)
    }
}

/// Reads `{season}_{quantity}_w.csv`, or `.._kw.csv` where that is not there.
pub(super) fn read_power(source: &Source<'_>, season: Season, quantity: &str) -> Result<Power, DatasetError> {
    let by_day = format!("{season}_{quantity}_w.csv");
    if let Some(text) = source.text(&by_day)? {
        return power_by_day(&Table::parse(&by_day, &text)?);
    }
    let by_quarter = format!("{season}_{quantity}_kw.csv");
    let Some(text) = source.text(&by_quarter)? else {
        return Err(DatasetError::Missing { file: format!("{by_day} (or {by_quarter})") });
    };
    power_by_quarter(&Table::parse(&by_quarter, &text)?)
}

/// Rows of `homes,day,` and 96 values in W; `homes` joins those with equal values by `+`.
fn power_by_day(table: &Table) -> Result<Power, DatasetError> {
    let (homes, day) = (table.column("homes")?, table.column("day")?);
    if (homes, day, table.header.len()) != (0, 1, QUARTERS_PER_DAY + 2) {
        return Err(inconsistent(
            &table.file,
            "the columns must be homes, day and 96 quarter-hours".to_owned(),
        ));
    }
    let mut power = empty_power(table, |text| quarter(&format!("{text}T00:00")), day)?;
    for row in &table.rows {
        let homes = table.cell(row, homes, "home ids joined by +", |text| {
            text.split('+').map(home_id).collect::<Option<Vec<_>>>()
        })?;
        let start =
            table.cell(row, day, "a day such as 2016-06-13", |text| quarter(&format!("{text}T00:00")))?;
        let watts = (2..row.len()).map(|column| table.cell(row, column, WHOLE_WATTS, whole_watts));
        let watts: Vec<u32> = watts.collect::<Result<_, _>>()?;
        for home in homes {
            let before = power.watts.entry(home).or_default();
            if start.index() != power.first.index() + before.len() as u64 {
                return Err(inconsistent(&table.file, format!("the day from {start} is not in its place")));
            }
            before.extend(&watts);
        }
    }
    equally_long(power)
}

const WHOLE_WATTS: &str = "a whole number of watts from 0 to 10 000 000";
const KILOWATTS: &str = "kW with at most three decimals, from 0 to 10 000";

/// Rows of `time` and one value in kW per home.
fn power_by_quarter(table: &Table) -> Result<Power, DatasetError> {
    let time = table.column("time")?;
    let mut power = empty_power(table, quarter, time)?;
    for (number, row) in table.rows.iter().enumerate() {
        let start = table.cell(row, time, "a quarter-hour such as 2016-06-13T00:15", quarter)?;
        if start.index() != power.first.index() + number as u64 {
            return Err(inconsistent(&table.file, format!("the quarter-hour {start} is not in its place")));
        }
    }
    for column in (0..table.header.len()).filter(|column| *column != time) {
        let home = table.cell(&table.header, column, "a home id", home_id)?;
        let watts = table.rows.iter().map(|row| table.cell(row, column, KILOWATTS, thousandths));
        if power.watts.contains_key(&home) {
            return Err(power.contradiction(format!("home {home} comes twice")));
        }
        power.watts.insert(home, watts.collect::<Result<_, _>>()?);
    }
    Ok(power)
}

/// A table's power without any values yet, from the time in its first row on.
fn empty_power(
    table: &Table,
    parse: impl Fn(&str) -> Option<Interval>,
    time: usize,
) -> Result<Power, DatasetError> {
    let row = table.rows.first().ok_or_else(|| inconsistent(&table.file, "there are no rows".to_owned()))?;
    let first = table.cell(row, time, "a time such as 2016-06-13", parse)?;
    Ok(Power { file: table.file.clone(), first, watts: BTreeMap::new() })
}

/// The quarter-hour that starts at a local time such as `2016-06-13T00:15`, taken as UTC.
fn quarter(text: &str) -> Option<Interval> {
    Interval::parse(&format!("{text}:00Z"), Mtu::Min15).ok()
}

fn equally_long(power: Power) -> Result<Power, DatasetError> {
    let longest = power.watts.values().map(Vec::len).max();
    let short = power.watts.iter().find(|(_, watts)| Some(watts.len()) != longest);
    match short {
        Some((home, _)) => Err(power.contradiction(format!("home {home} has fewer days than others"))),
        None => Ok(power),
    }
}
