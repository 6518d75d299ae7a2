//! `commonwatt meter scan`: what is out there, and the configuration that reads it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meter::scan::{Fit, FoundUnit, LINES, Place, ScanConfig, ScanReport};
use meter::{Endpoint, HostPort, Line, Parity, Profile};
use serde_json::{Value, json};

use super::args::ScanArgs;
use super::reach::{catalog, exit_of, told, usage};
use super::table::{kwh, thousandths};
use crate::cli::{Exit, Output};
use crate::commands::{CommandError, out};

/// Where Linux shows serial ports, names that outlive a restart first.
const PORT_FOLDERS: [(&str, &[&str]); 2] =
    [("/dev/serial/by-id", &[""]), ("/dev", &["ttyUSB", "ttyACM", "ttyAMA", "ttySC"])];

/// Scans every place that was said, or every serial port of this machine.
///
/// # Errors
/// [`CommandError`] if there is no place to scan or none of them can be opened.
pub(super) async fn scan(args: ScanArgs, output: Output) -> Result<Exit, CommandError> {
    let catalog = catalog(args.profiles.as_deref())?;
    let profiles: Vec<Arc<Profile>> = catalog.iter().cloned().collect();
    let mut reports = Vec::new();
    let mut failed = None;
    for place in places(&args)? {
        let config = ScanConfig {
            lines: lines(&args),
            units: args.units.0.clone(),
            budget: Duration::from_secs(args.seconds),
            ..ScanConfig::new(place)
        };
        match meter::scan::scan(&config, &profiles, |progress| out::note(&format!("{progress} …"))).await {
            Ok(report) => reports.push(report),
            Err(error) => {
                let message = told(&error);
                out::note(&format!("error: {message}"));
                failed = failed.or(Some((exit_of(&error), message)));
            }
        }
    }
    if let (true, Some((exit, message))) = (reports.is_empty(), failed) {
        return Err(CommandError::Other { exit, message });
    }
    match output {
        Output::Json => out::json(
            &json!({ "schema_version": 1, "places": reports.iter().map(as_json).collect::<Vec<_>>() }),
        ),
        Output::Text => print(&reports),
    }
    Ok(exit(&reports))
}

fn exit(reports: &[ScanReport]) -> Exit {
    let mut units = reports.iter().flat_map(|report| &report.units).peekable();
    match (units.peek().is_some(), units.any(|unit| !unit.fits.is_empty())) {
        (_, true) => Exit::Ok,
        (true, false) => Exit::Exceptions,
        (false, false) => Exit::Unreachable,
    }
}

fn places(args: &ScanArgs) -> Result<Vec<Place>, CommandError> {
    let mut places: Vec<Place> = args.devices.iter().cloned().map(Place::Serial).collect();
    for address in &args.addresses {
        places.push(network(address)?);
    }
    if places.is_empty() {
        places = serial_ports().into_iter().map(Place::Serial).collect();
        if places.is_empty() {
            return Err(CommandError::Other {
                exit: Exit::Unreachable,
                message: "this machine has no serial port that could lead to a meter; plug the RS485 adapter in, or name \
                          an inverter or gateway with --address HOST"
                    .to_owned(),
            });
        }
    }
    Ok(places)
}

fn network(address: &str) -> Result<Place, CommandError> {
    if !address.is_empty() && !address.contains([':', '/', ' ', '[', ']']) {
        return Ok(Place::Network { host: address.to_owned(), port: None });
    }
    let HostPort { host, port } = address.parse().map_err(|error| usage(&format!("--address: {error}")))?;
    Ok(Place::Network { host, port: Some(port) })
}

/// Serial ports of this machine, each once.
fn serial_ports() -> Vec<PathBuf> {
    let mut ports: Vec<PathBuf> = Vec::new();
    for (folder, prefixes) in PORT_FOLDERS {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .filter(|entry| {
                prefixes.iter().any(|prefix| entry.file_name().to_string_lossy().starts_with(prefix))
            })
            .map(|entry| entry.path())
            .collect();
        found.sort();
        for port in found {
            let same = |other: &PathBuf| other.canonicalize().ok() == port.canonicalize().ok();
            if !ports.iter().any(same) {
                ports.push(port);
            }
        }
    }
    ports
}

/// The usual line settings, or those that were said.
fn lines(args: &ScanArgs) -> Vec<Line> {
    let parity = args.parity.map(Parity::from);
    if args.baud.is_empty() {
        let fits = |line: &Line| parity.is_none_or(|parity| line.parity == parity);
        return LINES.into_iter().filter(fits).collect();
    }
    let parities = parity.map_or(vec![Parity::None, Parity::Even, Parity::Odd], |parity| vec![parity]);
    // Two stop bits stand in for the missing parity bit.
    let stops = |parity: Parity| if parity == Parity::None { 1..=2 } else { 1..=1 };
    let of = |baud: u32, parity: Parity| stops(parity).map(move |stop_bits| Line { baud, parity, stop_bits });
    let with_parity = |baud: u32| parities.iter().flat_map(move |parity| of(baud, *parity));
    args.baud.iter().flat_map(|baud| with_parity(*baud)).collect()
}

fn print(reports: &[ScanReport]) {
    let (mut first, mut found) = (true, false);
    for report in reports {
        report.notes.iter().for_each(|note| out::note(&format!("note: {note}")));
        if !report.untried.is_empty() {
            out::note(&format!(
                "note: no time was left for units {}; name them with --units",
                ranges(&report.untried)
            ));
        }
        let Some(endpoint) = &report.endpoint else { continue };
        for unit in &report.units {
            found |= !unit.fits.is_empty();
            lines_of(unit, endpoint, first).iter().for_each(|line| out::line(line));
            first &= !unit.fits.first().is_some_and(Fit::has_both_registers);
        }
    }
    if !found {
        out::note("no meter was found");
    }
}

/// Unit ids as ranges: `4-9, 17`.
fn ranges(units: &[u8]) -> String {
    let mut sorted = units.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    let told = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        [only] => only.to_string(),
        [] => String::new(),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A unit as comments and a section of the configuration. Only the first with both registers can be `[meter]`.
fn lines_of(unit: &FoundUnit, endpoint: &Endpoint, first: bool) -> Vec<String> {
    let model = unit.sunspec_model.map(|model| format!(", SunSpec model {model}")).unwrap_or_default();
    let mut lines = vec![format!("# unit {}{model} at {endpoint}", unit.unit)];
    let Some(best) = unit.fits.first() else {
        let why =
            if unit.complete { "no profile fits it" } else { "time ran out before every profile was tried" };
        lines.push(format!(
            "#   it answers, but {why}; look at it with `commonwatt meter raw`, or write a profile (docs/meters.md)\n"
        ));
        return lines;
    };
    lines.extend(unit.fits.iter().flat_map(describe));
    if let Some(apart) = unit.apart() {
        lines.push(format!("#   {} profiles fit it: {apart}", unit.fits.len()));
    }
    if !unit.lesser.is_empty() {
        let names: Vec<String> = unit.lesser.iter().map(|fit| lesser(fit, best)).collect();
        lines.push(format!("#   less likely: {}", names.join(", ")));
    }
    if !unit.complete {
        lines.push(
            "#   time ran out before every profile was tried: scan again with --units and --seconds"
                .to_owned(),
        );
    }
    lines.extend(section(unit.unit, endpoint, best, first));
    for other in unit.fits.iter().skip(1) {
        lines.push(format!("# or: profile = \"{}\"", other.profile.name()));
    }
    lines.push(String::new());
    lines
}

/// Its name, and that it has the other sign, which no register tells.
fn lesser(fit: &Fit, best: &Fit) -> String {
    let opposite = fit.power_w != 0 && fit.power_w == best.power_w.saturating_neg();
    let note = if opposite { " (other sign: `commonwatt meter commission` decides)" } else { "" };
    format!("{}{note}", fit.profile.name())
}

fn describe(fit: &Fit) -> Vec<String> {
    let serial = fit
        .serial
        .as_ref()
        .map_or("no serial number register".to_owned(), |serial| format!("serial {serial}"));
    let energy =
        |what: &str, wh: Option<energy::WattHours>| wh.map(|wh| format!("{what} {} kWh", kwh(wh.get())));
    let volts: Vec<String> =
        fit.voltage_mv.iter().flatten().map(|mv| thousandths(i64::from(*mv), 1)).collect();
    let values = [
        energy("import", fit.import),
        energy("export", fit.export),
        Some(format!("{} W", fit.power_w)),
        (!volts.is_empty()).then(|| format!("{} V", volts.join(" "))),
    ];
    let values: Vec<String> = values.into_iter().flatten().collect();
    let mut lines = vec![
        format!("#   {}, {serial}", fit.profile.device()),
        format!("#   {}: compare with its display", values.join(", ")),
    ];
    lines.extend(fit.named.as_ref().map(|named| format!("#   {named}")));
    lines
}

/// The beginning of `[[meters]]`, with a name that no other unit here gets.
fn further(unit: u8, fit: &Fit) -> Vec<String> {
    let model = fit.profile.sunspec_model().map(|model| format!("-{model}")).unwrap_or_default();
    let role = if fit.has_both_registers() {
        "role = \"pv\"  # or inverter, battery, ev, heat_pump"
    } else {
        "role = \"inverter\""
    };
    vec!["[[meters]]".to_owned(), role.to_owned(), format!("name = \"unit-{unit}{model}\"")]
}

fn section(unit: u8, endpoint: &Endpoint, fit: &Fit, first: bool) -> Vec<String> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let first = first && fit.has_both_registers();
    let mut lines = if first { vec!["[meter]".to_owned()] } else { further(unit, fit) };
    match endpoint {
        Endpoint::Tcp(at) => lines.push(format!("address = {}", quoted(&at.to_string()))),
        Endpoint::RtuOverTcp(at) => {
            lines.push("transport = \"rtu-tcp\"".to_owned());
            lines.push(format!("address = {}", quoted(&at.to_string())));
        }
        Endpoint::Serial { path, line } => {
            lines.push(format!("device = {}", quoted(&path.display().to_string())));
            lines.push(format!("baud = {}", line.baud));
            lines.push(format!("parity = \"{}\"", parity_word(line.parity)));
            lines.push(format!("stop_bits = {}", line.stop_bits));
        }
    }
    lines.push(format!("unit = {unit}"));
    lines.push(format!("profile = {}", quoted(fit.profile.name())));
    if fit.serial.is_none() {
        lines.push("serial = \"\"  # the number on the meter's nameplate".to_owned());
    }
    if !first {
        lines = lines.into_iter().map(|line| format!("#{line}")).collect();
    }
    lines
}

const fn parity_word(parity: Parity) -> &'static str {
    match parity {
        Parity::None => "none",
        Parity::Even => "even",
        Parity::Odd => "odd",
    }
}

fn as_json(report: &ScanReport) -> Value {
    let endpoint = report.endpoint.as_ref().map(|endpoint| match endpoint {
        Endpoint::Tcp(at) => json!({ "transport": "tcp", "address": at.to_string() }),
        Endpoint::RtuOverTcp(at) => json!({ "transport": "rtu-tcp", "address": at.to_string() }),
        Endpoint::Serial { path, line } => json!({
            "transport": "serial",
            "device": path.display().to_string(),
            "baud": line.baud,
            "parity": parity_word(line.parity),
            "stop_bits": line.stop_bits,
        }),
    });
    let units: Vec<Value> = report
        .units
        .iter()
        .map(|unit| {
            json!({
                "unit": unit.unit,
                "sunspec_model": unit.sunspec_model,
                "fits": unit.fits.iter().map(fit_json).collect::<Vec<_>>(),
                "less_likely": unit.lesser.iter().map(fit_json).collect::<Vec<_>>(),
                "apart": unit.apart(),
                "complete": unit.complete,
            })
        })
        .collect();
    json!({
        "endpoint": endpoint,
        "units": units,
        "untried_units": report.untried,
        "notes": report.notes,
        "seconds": (report.took.as_secs_f64() * 10.0).round() / 10.0,
    })
}

fn fit_json(fit: &Fit) -> Value {
    json!({
        "profile": fit.profile.name(),
        "serial": fit.serial.as_ref().map(ToString::to_string),
        "import_wh": fit.import.map(energy::WattHours::get),
        "export_wh": fit.export.map(energy::WattHours::get),
        "power_w": fit.power_w,
        "voltage_mv": fit.voltage_mv,
        "frequency_mhz": fit.frequency_mhz,
        "named": fit.named,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_without_time_are_told_as_ranges() {
        assert_eq!(ranges(&[9, 4, 5, 6, 17, 255, 254]), "4-6, 9, 17, 254-255");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn an_address_may_leave_its_port_open() {
        let of = |text| network(text).unwrap();
        assert_eq!(of("inverter.lan"), Place::Network { host: "inverter.lan".to_owned(), port: None });
        assert_eq!(of("[fe80::1]:1502"), Place::Network { host: "fe80::1".to_owned(), port: Some(1502) });
        assert!(network("192.168.1.20:").is_err());
    }
}
