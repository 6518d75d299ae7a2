//! Limits as operators write them: a CSV table of edges or of connections, or TOML with both.

use std::collections::BTreeMap;
use std::path::Path;

use energy::{HomeId, Interval, Mtu, NodeId, WattHours};
use toml::de::DeValue;

use super::when::starting;
use crate::commands::{CommandError, files};
use crate::config::document::{Document, Section};
use crate::config::value::{FromToml, Mismatch};
use crate::zone::Zone;

/// No file of limits is longer, in bytes.
const BYTES_MAX: u64 = 4 << 20;
/// Limits reach this far ahead (the ledger's rule), ms.
const AHEAD_MS: u64 = 691_200_000;
/// So many faults of a file are shown.
const FAULTS_SHOWN: usize = 20;

/// What a limit is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    /// The edge from a node to its parent: what forward trading may send over it, toward the root and away from it.
    Edge(NodeId),
    /// A home's connection: what it may take and give.
    Home(HomeId),
}

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Edge(node) => write!(f, "edge {node}"),
            Self::Home(home) => write!(f, "home {home}"),
        }
    }
}

/// Up and down of an edge, import and export of a connection; `None`: not limited.
pub(super) type Pair = [Option<WattHours>; 2];

/// Limits by what they are of and the index of the interval.
pub(super) type Limits = BTreeMap<Of, BTreeMap<u64, Pair>>;

/// A row before its times are read.
struct Row {
    /// For messages: the line, or the table of the file.
    place: String,
    of: Of,
    from: String,
    until: Option<String>,
    pair: Pair,
}

/// Reads the limits of a file; `zone` is where clocks are for times without an offset, if a TOML file does not say.
///
/// # Errors
/// Every fault at its place, the first of them shown.
pub(super) fn load(path: &Path, zone: &Zone, mtu: Mtu) -> Result<Limits, CommandError> {
    let is_toml = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"));
    let (rows, zone) = if is_toml {
        let (rows, said) = read_toml(path)?;
        (rows, said.unwrap_or(*zone))
    } else {
        let text = files::read_text(path, BYTES_MAX)?;
        (read_csv(&text).map_err(|faults| faulty(path, &faults))?, *zone)
    };
    let limits = collect(rows, &zone, mtu).map_err(|faults| faulty(path, &faults))?;
    if limits.is_empty() {
        return Err(CommandError::config(format!("{} holds no limit", path.display())));
    }
    Ok(limits)
}

/// All faults of a file as one message.
pub(super) fn faulty(path: &Path, faults: &[String]) -> CommandError {
    let shown = faults.iter().take(FAULTS_SHOWN).map(|fault| format!("\n  {}:{fault}", path.display()));
    let more = faults.len().saturating_sub(FAULTS_SHOWN);
    let rest = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    CommandError::config(format!(
        "{} cannot be used as it is; nothing was signed:{}{rest}",
        path.display(),
        shown.collect::<String>()
    ))
}

/// Spreads rows over their intervals; no interval may have two.
fn collect(rows: Vec<Row>, zone: &Zone, mtu: Mtu) -> Result<Limits, Vec<String>> {
    let (mut limits, mut faults) = (Limits::new(), Vec::new());
    for row in rows {
        match span(&row, zone, mtu) {
            Ok((first, end)) => {
                let series = limits.entry(row.of.clone()).or_default();
                let taken = (first..end).find(|index| series.insert(*index, row.pair).is_some());
                if let Some(index) = taken {
                    let interval = Interval::from_index(index, mtu);
                    faults
                        .push(format!("{}: a row before has a limit of {} at {interval}", row.place, row.of));
                }
            }
            Err(what) => faults.push(format!("{}: {what}", row.place)),
        }
    }
    if faults.is_empty() { Ok(limits) } else { Err(faults) }
}

/// The index of the first interval, and of the first one after the last.
fn span(row: &Row, zone: &Zone, mtu: Mtu) -> Result<(u64, u64), String> {
    let first = starting(&row.from, zone, mtu)?;
    let end = match &row.until {
        Some(until) => starting(until, zone, mtu)?,
        None => first.next(),
    };
    if end <= first {
        return Err(format!("until {end} does not come after from {first}"));
    }
    if end.start().ms_since(first.start()) > AHEAD_MS {
        return Err("limits reach at most 8 days ahead; publish the rest later".to_owned());
    }
    Ok((first.index(), end.index()))
}

fn wh(text: &str) -> Result<Option<WattHours>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(|wh| Some(WattHours::new(wh)));
    parsed.map_err(|_| format!("{text:?} is no whole number of Wh; empty means not limited"))
}

fn read_csv(text: &str) -> Result<Vec<Row>, Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| vec![format!("1: {error}")])?.clone();
    let column = |name: &str| header.iter().position(|column| column == name);
    let (of, pair) = match (column("node"), column("home")) {
        (Some(at), None) => (at, ["up_wh", "down_wh"]),
        (None, Some(at)) => (at, ["import_wh", "export_wh"]),
        _ => return Err(vec!["1: one column `node` or one column `home` says what is limited".to_owned()]),
    };
    let known = [if column("node").is_some() { "node" } else { "home" }, "from", "until", pair[0], pair[1]];
    if let Some(stranger) = header.iter().find(|name| !known.contains(name)) {
        return Err(vec![format!("1: column {stranger:?} is not known here; known: {}", known.join(", "))]);
    }
    let Some(from) = column("from") else { return Err(vec!["1: there is no column `from`".to_owned()]) };
    if pair.iter().all(|name| column(name).is_none()) {
        return Err(vec![format!("1: there is neither a column `{}` nor `{}`", pair[0], pair[1])]);
    }
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let place = |position: Option<&csv::Position>| position.map_or(0, csv::Position::line).to_string();
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                faults.push(format!(
                    "{}: another number of fields than the first line",
                    place(error.position())
                ));
                continue;
            }
        };
        let at = place(record.position());
        let field = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default();
        let row = || -> Result<Row, String> {
            let name = field(Some(of));
            let of = if pair[0] == "up_wh" {
                Of::Edge(NodeId::new(name).map_err(|error| error.to_string())?)
            } else {
                Of::Home(HomeId::new(name).map_err(|error| error.to_string())?)
            };
            let until = field(column("until"));
            Ok(Row {
                place: at.clone(),
                of,
                from: field(Some(from)).to_owned(),
                until: (!until.is_empty()).then(|| until.to_owned()),
                pair: [wh(field(column(pair[0])))?, wh(field(column(pair[1])))?],
            })
        };
        match row() {
            Ok(row) => rows.push(row),
            Err(what) => faults.push(format!("{at}: {what}")),
        }
    }
    if faults.is_empty() { Ok(rows) } else { Err(faults) }
}

/// A time as written, in quotes or as TOML's own.
struct Written(String);

impl FromToml for Written {
    fn expected() -> String {
        "a time such as \"2026-07-14T12:15\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        match value {
            DeValue::Datetime(time) => Ok(Self(time.to_string())),
            DeValue::String(text) => Ok(Self(text.to_string())),
            _ => Err(Mismatch::Type),
        }
    }
}

fn read_toml(path: &Path) -> Result<(Vec<Row>, Option<Zone>), CommandError> {
    let document = Document::open(path, BYTES_MAX)?;
    let read = document.read(|top| {
        let zone = top.optional("zone");
        let envelopes = top.sections("envelope");
        let caps = top.sections("cap");
        let edge = |(at, section): (usize, &Section<'_>)| {
            let of = section.required("node").map(Of::Edge);
            toml_row(section, format!("[[envelope]] {}", at + 1), of, ["up_wh", "down_wh"])
        };
        let home = |(at, section): (usize, &Section<'_>)| {
            let of = section.required("home").map(Of::Home);
            toml_row(section, format!("[[cap]] {}", at + 1), of, ["import_wh", "export_wh"])
        };
        let edges: Vec<_> = envelopes.iter().enumerate().map(edge).collect();
        let homes: Vec<_> = caps.iter().enumerate().map(home).collect();
        Some((edges.into_iter().chain(homes).collect::<Option<_>>()?, zone))
    });
    Ok(read?)
}

fn toml_row(section: &Section<'_>, place: String, of: Option<Of>, pair: [&'static str; 2]) -> Option<Row> {
    let (from, until) = (section.required::<Written>("from"), section.optional::<Written>("until"));
    let pair = pair.map(|name| section.optional::<WattHours>(name));
    Some(Row { place, of: of?, from: from?.0, until: until.map(|it| it.0), pair })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vienna() -> Zone {
        Zone::parse("Europe/Vienna").unwrap()
    }

    fn of_csv(text: &str) -> Result<Limits, Vec<String>> {
        collect(read_csv(text)?, &vienna(), Mtu::Min15)
    }

    fn edge(name: &str) -> Of {
        Of::Edge(NodeId::new(name).unwrap())
    }

    #[test]
    fn a_row_is_spread_over_its_intervals_and_one_without_end_is_one() {
        let text = "node,from,until,up_wh,down_wh\nf1,2026-11-01 06:00,2026-11-01T07:00:00+01:00,20000,\n\
                    f1,2026-11-01T07:00,,0,5\nf2,2026-11-01,2026-11-02,1,1\n";
        let limits = of_csv(text).unwrap();
        let six = Interval::parse("2026-11-01T05:00:00Z", Mtu::Min15).unwrap().index();
        let of_f1 = limits.get(&edge("f1")).unwrap();
        assert_eq!(of_f1.keys().copied().collect::<Vec<_>>(), (six..six + 5).collect::<Vec<_>>());
        assert_eq!(of_f1.get(&six), Some(&[Some(WattHours::new(20_000)), None]));
        assert_eq!(of_f1.get(&(six + 4)), Some(&[Some(WattHours::new(0)), Some(WattHours::new(5))]));
        assert_eq!(limits.get(&edge("f2")).unwrap().len(), 96);
    }

    #[test]
    fn a_day_of_23_or_25_hours_has_its_intervals() {
        for (day, next, intervals) in [("2026-03-29", "2026-03-30", 92), ("2026-10-25", "2026-10-26", 100)] {
            let text = format!("home,from,until,import_wh\nh1,{day},{next},1050\n");
            let limits = of_csv(&text).unwrap();
            assert_eq!(limits.values().next().unwrap().len(), intervals);
        }
    }

    #[test]
    fn every_bad_row_is_named_by_its_line() {
        let text = "node,from,until,up_wh,down_wh\nf1,noon,,1,1\nf1,2026-11-01 06:00,2026-11-01 06:00,1,1\n\
                    f1,2026-11-01 06:10,,1,1\nf1,2026-11-01 06:00,2026-12-01 06:00,1,1\n";
        let faults = of_csv(text).unwrap_err().join("\n");
        for part in ["2: \"noon\" is no time", "3: until", "4: ", "5: limits reach at most 8 days"] {
            assert!(faults.contains(part), "{part:?} is not in {faults}");
        }
        let twice = of_csv("node,from,up_wh\nf1,2026-11-01,1\nf1,2026-11-01 00:00,2\n").unwrap_err();
        assert!(twice[0].starts_with("3: a row before has a limit of edge f1"), "{twice:?}");
        for (text, says) in [
            ("node,home,from,up_wh\n", "one column `node` or one column `home`"),
            ("node,up_wh\n", "no column `from`"),
            ("home,from,up_wh\n", "column \"up_wh\" is not known"),
            ("home,from\n", "neither a column `import_wh`"),
            ("node,from,up_wh\nf1,2026-11-01,-5\n", "2: \"-5\" is no whole number"),
            ("node,from,up_wh\nf1,2026-11-01\n", "2: another number of fields"),
        ] {
            let faults = of_csv(text).unwrap_err();
            assert!(faults[0].contains(says), "{says:?}: {faults:?}");
        }
    }
}
