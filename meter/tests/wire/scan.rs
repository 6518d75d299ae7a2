//! Scanning buses that pymodbus serves: what is on them is found without being told, and doubt is said.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meter::scan::{FoundUnit, Place, ScanConfig, ScanReport, scan};
use meter::{Endpoint, Profile};

use crate::support::python;

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `bus_server.py` with these arguments; the TCP port it listens on, 0 on a serial line.
fn bus(arguments: &[&str]) -> (Running, u16) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/bus_server.py");
    let mut command = Command::new(python());
    let mut process = command
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
    let port = line.trim().strip_prefix("PORT ").and_then(|port| port.parse().ok());
    (Running(process), port.unwrap_or_else(|| panic!("the bus did not start: it said {line:?}")))
}

/// Two ends of a serial line, joined by socat.
fn serial_line(folder: &Path) -> (Running, PathBuf, PathBuf) {
    let [device, ours] = ["device", "ours"].map(|end| folder.join(end));
    let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
    let socat = Command::new("socat").args([end(&device), end(&ours)]).spawn();
    let socat = Running(socat.expect("socat is not installed; run `cargo xtask test`, which installs it"));
    let started = Instant::now();
    while !(device.exists() && ours.exists()) {
        assert!(started.elapsed() < Duration::from_secs(20), "socat made no line");
        std::thread::sleep(Duration::from_millis(20));
    }
    (socat, device, ours)
}

async fn scanned(place: Place, units: impl IntoIterator<Item = u8>) -> ScanReport {
    let mut config = ScanConfig::new(place);
    config.units = units.into_iter().collect();
    // What a person is promised is a minute, but a busy machine may take longer.
    config.budget = Duration::from_secs(180);
    let profiles: Vec<Arc<Profile>> = Profile::builtin().to_vec();
    scan(&config, &profiles, |_| {}).await.expect("it can be opened")
}

fn local(port: u16) -> Place {
    Place::Network { host: "127.0.0.1".to_owned(), port: Some(port) }
}

/// Unit, profile and serial number of everything found.
fn told(units: &[FoundUnit]) -> Vec<(u8, &str, &str)> {
    let certain = |it: &FoundUnit| it.certain().map_or_else(|| panic!("doubt: {it:#?}"), |fit| fit.clone());
    assert!(units.iter().all(|it| it.complete));
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let serial = |it: &FoundUnit| leak(certain(it).serial.expect("a serial number").to_string());
    units.iter().map(|it| (it.unit, leak(certain(it).profile.name().to_owned()), serial(it))).collect()
}

const THREE: [&str; 3] = ["eastron-sdm630:1:21040123", "abb-b23:2:555", "sunspec-203:60:7E1-B"];
/// The SunSpec device carries an inverter and a meter, each with a serial number of its own.
const FOUND: [(u8, &str, &str); 4] = [
    (1, "eastron-sdm630", "21040123"),
    (2, "abb-b23", "555"),
    (60, "sunspec-103", "INVERTER-1"),
    (60, "sunspec-203", "7E1-B"),
];

#[tokio::test(flavor = "multi_thread")]
async fn three_models_on_one_serial_bus_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (_socat, device, ours) = serial_line(folder.path());
    let path = device.to_string_lossy().into_owned();
    let (_bus, _) = bus(&[&["serial", "--path", &path][..], &THREE].concat());
    let report = scanned(Place::Serial(ours.clone()), 1..=247).await;
    // All 247 unit ids take 32 s on two idle cores, a minute is promised; a busy machine may take longer.
    assert!(report.took < Duration::from_secs(120), "{:?}", report.took);
    assert_eq!(told(&report.units), FOUND);
    assert!(report.untried.is_empty(), "{:?}", report.untried);
    // A pty knows no baud rate: the first line tried is the one.
    let Some(Endpoint::Serial { path, line }) = report.endpoint else { panic!("{:?}", report.endpoint) };
    assert_eq!((path, line.to_string()), (ours, "9600 8N1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_models_behind_a_transparent_gateway_are_found_and_its_framing_too() {
    let (_bus, port) = bus(&[&["rtu-tcp"][..], &THREE].concat());
    let report = scanned(local(port), 1..=70).await;
    assert_eq!(told(&report.units), FOUND);
    assert!(matches!(report.endpoint, Some(Endpoint::RtuOverTcp(_))), "{:?}", report.endpoint);
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_a_gateway_only_refuses_are_not_found() {
    let (_bus, port) = bus(&[&["tcp"][..], &THREE].concat());
    let report = scanned(local(port), (1..=247).chain([255])).await;
    assert_eq!(told(&report.units), FOUND);
    assert!(matches!(report.endpoint, Some(Endpoint::Tcp(_))), "{:?}", report.endpoint);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_that_says_nothing_where_it_has_no_register_is_found() {
    let (_bus, port) = bus(&["rtu-tcp", "--mute", "abb-b23:2:555"]);
    let report = scanned(local(port), [2]).await;
    assert_eq!(told(&report.units), [FOUND[1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_answers_to_every_unit_id_is_one_device() {
    let (_bus, port) = bus(&["tcp", "eastron-sdm630:0:21040123"]);
    let report = scanned(local(port), 1..=247).await;
    assert_eq!(told(&report.units), [FOUND[0]]);
    assert!(report.notes[0].contains("answers to every unit id"), "{:?}", report.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_hears_itself_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("port");
    let echo =
        Command::new("socat").arg(format!("pty,raw,echo=0,link={}", port.display())).arg("exec:cat").spawn();
    let _echo = Running(echo.expect("socat is not installed; run `cargo xtask test`, which installs it"));
    let started = Instant::now();
    while !port.exists() {
        assert!(started.elapsed() < Duration::from_secs(20), "socat made no line");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let report = scanned(Place::Serial(port), [1]).await;
    assert!(
        report.endpoint.is_none() && report.notes[0].contains("the RS485 adapter hears what it sends"),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_bus_says_what_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let (_socat, _device, ours) = serial_line(folder.path());
    let report = scanned(Place::Serial(ours), [1]).await;
    assert!(report.endpoint.is_none() && report.units.is_empty());
    assert!(
        report.notes[0].contains("check that the meter has power, that A and B are not swapped"),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_port_that_is_not_there_cannot_be_scanned() {
    let config = ScanConfig::new(Place::Serial("/dev/no-such-port".into()));
    let error = scan(&config, &[], |_| {}).await.unwrap_err();
    assert!(
        error.to_string().starts_with("there is no serial port /dev/no-such-port; check that"),
        "{error}"
    );
}
