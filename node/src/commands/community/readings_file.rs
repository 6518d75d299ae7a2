//! What a metering operator delivers: a CSV table of energies by home and interval.
//!
//! Columns (docs/community.md): whose it is (`home`, `meter` or `point`), `start` or `from`, if it likes `end` or `to`, and
//! `import_wh` and `export_wh`, or the same in kWh. A home's import and export may stand in different rows, as where each
//! direction has a metering point of its own.

use std::collections::{BTreeMap, BTreeSet};

use energy::{HomeId, Interval, Mtu, Timestamp, WattHours};

use super::when::{Moment, moment};
use crate::tariff::day_ahead::decimal;
use crate::zone::Zone;

/// No file is longer, in bytes.
pub(super) const BYTES_MAX: u64 = 64 << 20;
/// No file has more rows: a month of quarter-hours of 130 homes.
pub(super) const ROWS_MAX: usize = 400_000;

/// What a table is read by.
pub(super) struct Reading<'a> {
    /// Which home a word in the first column means.
    pub homes: &'a dyn Fn(&str) -> Option<HomeId>,
    /// Where clocks are for times without an offset; `None`: such times are refused.
    pub zone: Option<&'a Zone>,
    /// Length of an interval.
    pub mtu: Mtu,
}

/// Import and export of an interval; `None`: the file never mentions that direction for the home.
pub(super) type Stated = [Option<WattHours>; 2];

/// What a file says of each home, by index of the interval.
pub(super) type Delivered = BTreeMap<HomeId, BTreeMap<u64, Stated>>;

/// Import and export of one interval as far as rows have said them, Wh, with their lines.
type Said = [Option<(u64, u64)>; 2];

/// Reads a table.
///
/// # Errors
/// Every fault with its line.
pub(super) fn read(text: &str, how: &Reading<'_>) -> Result<Delivered, Vec<String>> {
    let first = text.lines().next().unwrap_or_default();
    let delimiter = if first.contains(';') { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).delimiter(delimiter).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| vec![format!("1: {error}")])?.clone();
    let columns = Columns::of(&header, delimiter == b';').map_err(|what| vec![format!("1: {what}")])?;
    let mut table = Table { how, columns, said: BTreeMap::new(), twice: BTreeMap::new(), faults: Vec::new() };
    for (count, record) in reader.records().enumerate() {
        if count >= ROWS_MAX {
            table.faults.push(format!("{}: more than {ROWS_MAX} rows; split the file by days", count + 2));
            break;
        }
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                if let Err(what) = table.take(&record, line) {
                    table.faults.push(format!("{line}: {what}"));
                }
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                table.faults.push(format!("{line}: another number of fields than the first line"));
            }
        }
    }
    table.finish()
}

/// Where things stand in a row.
struct Columns {
    whose: usize,
    start: usize,
    end: Option<usize>,
    /// Import and export.
    energy: [Option<usize>; 2],
    /// Digits behind the point that a Wh has in the table's unit.
    places: usize,
    /// A comma stands before the fraction.
    has_comma: bool,
}

impl Columns {
    fn of(header: &csv::StringRecord, has_comma: bool) -> Result<Self, String> {
        let known = [
            "home",
            "meter",
            "point",
            "start",
            "from",
            "end",
            "to",
            "import_wh",
            "export_wh",
            "import_kwh",
            "export_kwh",
        ];
        if let Some(stranger) = header.iter().find(|name| !known.contains(name)) {
            return Err(format!("column {stranger:?} is not known here; known: {}", known.join(", ")));
        }
        let one_of = |names: &[&str]| -> Result<Option<usize>, String> {
            let mut found = header.iter().enumerate().filter(|(_, name)| names.contains(name));
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => {
                    Err(format!("only one of the columns {} can stand here", names.join(", ")))
                }
                (found, _) => Ok(found.map(|(at, _)| at)),
            }
        };
        let needed = |names: &[&str]| {
            one_of(names)?.ok_or_else(|| format!("a column {} is missing", names.join(" or ")))
        };
        let in_kwh = header.iter().any(|name| name.ends_with("_kwh"));
        if in_kwh && header.iter().any(|name| name.ends_with("_wh")) {
            return Err("energy stands in Wh or in kWh, not in both".to_owned());
        }
        let energy = [one_of(&["import_wh", "import_kwh"])?, one_of(&["export_wh", "export_kwh"])?];
        if energy == [None, None] {
            return Err("a column import_wh, export_wh, import_kwh or export_kwh is missing".to_owned());
        }
        Ok(Self {
            whose: needed(&["home", "meter", "point"])?,
            start: needed(&["start", "from"])?,
            end: one_of(&["end", "to"])?,
            energy,
            places: if in_kwh { 3 } else { 0 },
            has_comma,
        })
    }

    fn energy(&self, text: &str) -> Result<u64, String> {
        let text = if self.has_comma { text.replace(',', ".") } else { text.to_owned() };
        let wh = decimal(&text, self.places)?;
        u64::try_from(wh).map_err(|_| format!("{text} is below zero; import and export are two columns"))
    }
}

struct Table<'a> {
    how: &'a Reading<'a>,
    columns: Columns,
    said: BTreeMap<HomeId, BTreeMap<u64, Said>>,
    /// Local times that clocks showed twice, with what was metered at each.
    twice: BTreeMap<(HomeId, usize, Timestamp), Vec<u64>>,
    faults: Vec<String>,
}

impl Table<'_> {
    fn take(&mut self, record: &csv::StringRecord, line: u64) -> Result<(), String> {
        let field = |at: usize| record.get(at).unwrap_or_default();
        let whose = field(self.columns.whose);
        let home = (self.how.homes)(whose)
            .ok_or_else(|| format!("{whose:?} is no home, meter or point known here"))?;
        let start = self.moment(field(self.columns.start))?;
        let end = self.columns.end.map(|at| self.moment(field(at))).transpose()?;
        let mut is_empty = true;
        for (direction, at) in self.columns.energy.into_iter().enumerate() {
            let text = at.map(field).unwrap_or_default();
            if !text.is_empty() {
                is_empty = false;
                let wh = self.columns.energy(text)?;
                let interval = self.interval(&home, direction, start, line)?;
                ends(interval, end)?;
                self.say(&home, interval, direction, wh, line)?;
            }
        }
        if is_empty { Err("no energy stands in it; write 0 where none flowed".to_owned()) } else { Ok(()) }
    }

    /// When `text` is. A clock that nobody named would put every energy an hour or two away from where it was.
    fn moment(&self, text: &str) -> Result<Moment, String> {
        match self.how.zone {
            Some(zone) => moment(text, zone),
            None => match moment(text, &Zone::UTC) {
                Ok(Moment::Once(time)) if Timestamp::parse(text.trim()).is_ok() => Ok(Moment::Once(time)),
                Ok(_) => Err(format!("{text:?} has no offset; --zone NAME says where clocks are")),
                Err(what) => Err(what),
            },
        }
    }

    /// The interval that starts then. Of a local time that comes twice the first row means the earlier one.
    fn interval(
        &mut self,
        home: &HomeId,
        direction: usize,
        start: Moment,
        line: u64,
    ) -> Result<Interval, String> {
        let time = match start {
            Moment::Once(time) => time,
            Moment::Twice(first, last) => {
                let lines = self.twice.entry((home.clone(), direction, first)).or_default();
                lines.push(line);
                if lines.len() == 1 { first } else { last }
            }
        };
        Interval::starting_at(time, self.how.mtu).map_err(|error| error.to_string())
    }

    fn say(
        &mut self,
        home: &HomeId,
        interval: Interval,
        direction: usize,
        wh: u64,
        line: u64,
    ) -> Result<(), String> {
        let of_home = self.said.entry(home.clone()).or_default();
        let said = of_home.entry(interval.index()).or_default();
        let name = ["import", "export"].get(direction).copied().unwrap_or_default();
        let Some(place) = said.get_mut(direction) else { return Ok(()) };
        if let Some((_, before)) = place {
            return Err(format!("{name} of {home} at {interval} stands in line {before} already"));
        }
        *place = Some((wh, line));
        Ok(())
    }

    fn finish(mut self) -> Result<Delivered, Vec<String>> {
        for ((home, _, first), lines) in &self.twice {
            if let [line] = lines.as_slice() {
                let local = self.how.zone.unwrap_or(&Zone::UTC).clock(*first);
                self.faults.push(format!(
                    "{line}: clocks show {local} twice on that day, and {home} has one row for it; write times with their offset"
                ));
            }
        }
        let mut delivered = Delivered::new();
        for (home, series) in &self.said {
            let energies = whole(home, series, self.how.mtu, &mut self.faults);
            delivered.insert(home.clone(), energies);
        }
        if self.faults.is_empty() && delivered.is_empty() {
            self.faults.push("2: there is no row".to_owned());
        }
        if self.faults.is_empty() { Ok(delivered) } else { Err(self.faults) }
    }
}

fn ends(interval: Interval, end: Option<Moment>) -> Result<(), String> {
    let fits = match end {
        None => true,
        Some(Moment::Once(time)) => time == interval.end(),
        Some(Moment::Twice(first, last)) => [first, last].contains(&interval.end()),
    };
    if fits {
        Ok(())
    } else {
        Err(format!("it does not end at {}, one interval after its start", interval.end()))
    }
}

/// Every interval. A direction that the file never mentions for a home is left open; one that it mentions elsewhere is missing.
fn whole(
    home: &HomeId,
    series: &BTreeMap<u64, Said>,
    mtu: Mtu,
    faults: &mut Vec<String>,
) -> BTreeMap<u64, Stated> {
    let is_said = |direction: fn(&Said) -> bool| series.values().any(direction);
    let used = [is_said(|said| said[0].is_some()), is_said(|said| said[1].is_some())];
    let mut energies = BTreeMap::new();
    for (index, said) in series {
        for (direction, name) in ["import", "export"].into_iter().enumerate() {
            if used[direction] && said[direction].is_none() {
                let line = said.iter().flatten().map(|(_, line)| *line).min().unwrap_or(0);
                let interval = Interval::from_index(*index, mtu);
                faults.push(format!(
                    "{line}: {name} of {home} at {interval} is missing; other intervals have it"
                ));
            }
        }
        energies.insert(*index, said.map(|said| said.map(|(wh, _)| WattHours::new(wh))));
    }
    energies
}

/// Runs of intervals that are missing between the first and the last one of a home: first, and first one after.
pub(super) fn gaps<T>(series: &BTreeMap<u64, T>, mtu: Mtu) -> Vec<(Interval, Interval)> {
    let indexes: BTreeSet<u64> = series.keys().copied().collect();
    let gap = |(left, right): (&u64, &u64)| {
        let after = left.saturating_add(1);
        (after < *right).then(|| (Interval::from_index(after, mtu), Interval::from_index(*right, mtu)))
    };
    indexes.iter().zip(indexes.iter().skip(1)).filter_map(gap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(name: &str) -> HomeId {
        HomeId::new(name).unwrap()
    }

    fn known(word: &str) -> Option<HomeId> {
        ["h1", "h2"].contains(&word).then(|| home(word))
    }

    fn of(text: &str) -> Result<Delivered, Vec<String>> {
        let zone = Zone::parse("Europe/Vienna").unwrap();
        read(text, &Reading { homes: &known, zone: Some(&zone), mtu: Mtu::Min15 })
    }

    fn said(import: u64, export: u64) -> Stated {
        [Some(WattHours::new(import)), Some(WattHours::new(export))]
    }

    fn faults(text: &str) -> String {
        of(text).unwrap_err().join("\n")
    }

    /// A local day of quarter-hours of one home, as clocks show them.
    fn day(date: &str) -> String {
        let zone = Zone::parse("Europe/Vienna").unwrap();
        let day = crate::zone::date(date).unwrap();
        let next = day.checked_add_days(chrono::Days::new(1)).unwrap();
        let (mut time, end) = (zone.midnight(day), zone.midnight(next));
        let mut text = "home;start;import_kwh\n".to_owned();
        while time < end {
            text += &format!("h1;{};0,25\n", zone.clock(time).format("%d.%m.%Y %H:%M"));
            time = time.plus_ms(900_000);
        }
        text
    }

    #[test]
    fn a_day_on_which_clocks_change_has_92_or_100_intervals_in_local_time() {
        for (date, rows) in [("2026-03-29", 92), ("2026-10-25", 100), ("2026-07-14", 96)] {
            let text = day(date);
            assert_eq!(text.lines().count(), rows + 1);
            let delivered = of(&text).unwrap();
            let series = delivered.get(&home("h1")).unwrap();
            assert_eq!(series.len(), rows, "{date}");
            assert_eq!(gaps(series, Mtu::Min15), [], "{date}");
            assert!(series.values().all(|it| *it == [Some(WattHours::new(250)), None]));
        }
        let once: String = day("2026-10-25")
            .lines()
            .enumerate()
            .filter(|(at, _)| *at != 13)
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        assert!(faults(&once).contains("clocks show 2026-10-25 02:00:00 twice"), "{}", faults(&once));
        assert!(
            faults("home,start,import_wh\nh1,2026-03-29 02:30,1\n")
                .contains("2: clocks in Europe/Vienna skip")
        );
    }

    #[test]
    fn both_directions_of_a_home_may_stand_in_rows_of_their_own() {
        let text = "home,from,to,import_wh,export_wh\nh1,2026-07-14T10:00:00Z,2026-07-14T10:15:00Z,5,\n\
                    h1,2026-07-14T10:00:00Z,2026-07-14T10:15:00Z,,7\nh2,2026-07-14T10:00:00Z,2026-07-14T10:15:00Z,1,0\n";
        let delivered = of(text).unwrap();
        let index = Interval::parse("2026-07-14T10:00:00Z", Mtu::Min15).unwrap().index();
        let metered = delivered.get(&home("h1")).unwrap().get(&index).unwrap();
        assert_eq!(*metered, said(5, 7));
        let missing = text.to_owned() + "h1,2026-07-14T10:15:00Z,2026-07-14T10:30:00Z,5,\n";
        assert!(faults(&missing).contains("5: export of h1 at 2026-07-14T10:15:00Z is missing"));
    }

    #[test]
    fn every_bad_line_is_named() {
        let text = "home,start,end,import_kwh\nh9,2026-07-14T10:00:00Z,2026-07-14T10:15:00Z,1\n\
                    h1,2026-07-14T10:07:00Z,2026-07-14T10:15:00Z,1\nh1,2026-07-14T10:00:00Z,2026-07-14T10:30:00Z,1\n\
                    h1,2026-07-14T10:00:00Z,2026-07-14T10:15:00Z,0.0001\nh1,2026-07-14T10:00:00Z,2026-07-14T10:15:00Z,-1\n\
                    h1,2026-07-14T10:00:00Z,2026-07-14T10:15:00Z,\nh1,2026-07-14T10:00:00Z\n\
                    h1,2026-07-14T10:15:00Z,2026-07-14T10:30:00Z,1\nh1,2026-07-14T10:15:00Z,2026-07-14T10:30:00Z,1\n";
        let told = faults(text);
        for part in [
            "2: \"h9\" is no home",
            "3: ",
            "4: it does not end at 2026-07-14T10:15:00Z",
            "5: 0.0001 has more digits",
            "6: -1 is below zero",
            "7: no energy stands in it",
            "8: another number of fields",
            "10: import of h1 at 2026-07-14T10:15:00Z stands in line 9 already",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        for (header, says) in [
            ("start,import_wh", "home or meter or point is missing"),
            ("home,start,from,import_wh", "only one of the columns start, from"),
            ("home,start", "a column import_wh"),
            ("home,start,import_wh,export_kwh", "not in both"),
            ("home,start,import_wh,price", "column \"price\" is not known"),
        ] {
            assert!(
                faults(&format!("{header}\n")).contains(says),
                "{header}: {}",
                faults(&format!("{header}\n"))
            );
        }
        assert!(faults("home,start,import_wh\n").contains("there is no row"));
    }

    #[test]
    fn times_without_an_offset_need_a_zone() {
        let of = |time: &str| {
            let text = format!("home,start,import_wh\nh1,{time},1\n");
            read(&text, &Reading { homes: &known, zone: None, mtu: Mtu::Min15 })
        };
        assert!(of("2026-07-14T10:00:00Z").is_ok() && of("2026-07-14T12:00:00+02:00").is_ok());
        for time in ["2026-07-14 12:00", "2026-07-14", "14.07.2026 12:00"] {
            let told = of(time).unwrap_err().join("\n");
            assert!(told.contains("2: ") && told.contains("has no offset; --zone"), "{told}");
        }
        assert!(of("noon").unwrap_err()[0].contains("is no time"));
    }

    #[test]
    fn gaps_are_the_intervals_between_what_is_there() {
        let text = "home,start,import_wh\nh1,2026-07-14T10:00:00Z,1\nh1,2026-07-14T10:45:00Z,1\n";
        let delivered = of(text).unwrap();
        let found = gaps(delivered.get(&home("h1")).unwrap(), Mtu::Min15);
        let at = |time: &str| Interval::parse(time, Mtu::Min15).unwrap();
        assert_eq!(found, [(at("2026-07-14T10:15:00Z"), at("2026-07-14T10:45:00Z"))]);
    }
}
