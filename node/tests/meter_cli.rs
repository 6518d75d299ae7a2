//! `commonwatt meter …` as people call it, against pymodbus servers and simulated meters: what it finds and prints, its
//! exit codes, and that every failure names its likely cause and the next step.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use energy::MeterSerial;
use meter::simulator::SimulatedMeter;
use serde_json::Value;

/// How a call ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code, shows everything if it is another.
    #[track_caller]
    fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stderr says all of `parts`.
    #[track_caller]
    fn saying(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in\n{}", self.stderr);
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonwatt"));
    command.env_remove("COMMONWATT_LOG").env_remove("COMMONWATT_CONFIG").stdin(Stdio::null());
    command.arg("meter").args(line.split_whitespace());
    command
}

fn meter(line: &str) -> Ended {
    Ended::of(command(line).output().unwrap())
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts meter's `bus_server.py` with these arguments; the TCP port it listens on.
fn bus(arguments: &[&str]) -> (Running, u16) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let given = std::env::var_os("COMMONWATT_PYTHON").map(PathBuf::from);
    let mut process = Command::new(given.unwrap_or_else(|| root.join(".venv/bin/python")))
        .arg(root.join("meter/tests/peers/bus_server.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("no python with pymodbus; run `cargo xtask test`, which installs it");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
    let port = line.trim().strip_prefix("PORT ").and_then(|port| port.parse().ok());
    (Running(process), port.unwrap_or_else(|| panic!("the bus did not start: it said {line:?}")))
}

/// A simulated SDM630 in this process, with the runtime that serves it.
struct Simulated {
    meter: SimulatedMeter,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Simulated {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let meter = SimulatedMeter::new(MeterSerial::new("21040123").unwrap());
        runtime.spawn(meter.clone().serve(listener, std::future::pending()));
        Self { meter, address, _runtime: runtime }
    }

    /// Lets the counters run at `counted_w` and shows `power_w`, from now on.
    fn flow(&self, counted_w: u64, power_w: i64) {
        let (meter, started) = (self.meter.clone(), Instant::now());
        self._runtime.spawn(async move {
            loop {
                let quarters = u64::try_from(started.elapsed().as_millis()).unwrap() * counted_w / 900_000;
                meter.set(4_000_000 + quarters, 0, power_w);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
}

const THREE: [&str; 4] = ["rtu-tcp", "eastron-sdm630:1:21040123", "abb-b23:2:555", "sunspec-203:17:7E1-B"];

#[test]
fn every_profile_is_listed_with_step_serial_and_line() {
    let list = meter("profiles").with(0);
    let line = list.stdout.lines().find(|line| line.starts_with("eastron-sdm630 ")).expect("the SDM630");
    for part in ["1 Wh", "read", "9600 8N1", "502 unit 1", "Eastron SDM630"] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    let json = meter("profiles --output json").with(0).json();
    let profiles = json["profiles"].as_array().unwrap();
    assert!(
        profiles.len() >= 24
            && profiles.iter().all(|it| it["source"].as_str().is_some_and(|it| !it.is_empty()))
    );
    let one = meter("profiles abb-b23").with(0).stdout;
    for part in ["step     10 Wh", "1-0:1.8.0", "0x5000", "github.com/volkszaehler/mbmd"] {
        assert!(one.contains(part), "{part:?} is not in\n{one}");
    }
    meter("profiles abb-b32")
        .with(78)
        .saying(&["there is no meter profile \"abb-b32\"", "did you mean \"abb-b23\"?"]);
}

#[test]
fn a_profile_is_checked_and_every_fault_shown_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = include_str!("../../meter/profiles/eastron-sdm630.toml");
    let file = folder.path().join("mine.toml");
    let check = |text: String| {
        fs::write(&file, text).unwrap();
        meter(&format!("check {}", file.display()))
    };
    let valid = check(text.replacen("eastron-sdm630", "mine", 1)).with(0);
    assert!(valid.stdout.contains("profile mine is valid"), "{}", valid.stdout);
    check(format!("{text}# changed\n"))
        .with(0)
        .saying(&["a profile of the program is called eastron-sdm630 too"]);
    let wrong = text.replacen("registers_per_read", "registers_pre_read", 1).replacen(
        "function = 4",
        "function = 6",
        1,
    );
    let line = |part: &str| wrong.lines().position(|line| line.contains(part)).unwrap() + 1;
    let place = |part: &str| format!("mine.toml:{}:", line(part));
    check(wrong.clone()).with(1).saying(&[
        &place("registers_pre_read"),
        "did you mean `registers_per_read`?",
        &place("function = 6"),
        "errors in",
    ]);
    let json = meter(&format!("check {} --output json", file.display())).with(1).json();
    let lines: Vec<u64> =
        json["faults"].as_array().unwrap().iter().map(|it| it["line"].as_u64().unwrap()).collect();
    assert!(lines.contains(&u64::try_from(line("function = 6")).unwrap()), "{json:#}");
    meter("check /no/such/profile.toml").with(78).saying(&["cannot open the file"]);
}

#[test]
fn what_a_scan_prints_is_a_configuration_that_reads_the_meters() {
    let (_bus, port) = bus(&THREE);
    let scan = format!("scan --address 127.0.0.1:{port} --units 1-20");
    let text = meter(&scan).with(0).saying(&["trying 127.0.0.1", "finding out what unit 17 is"]).stdout;
    let json = meter(&format!("{scan} --output json")).with(0).json();
    let units = json["places"][0]["units"].as_array().unwrap();
    let found: Vec<(u64, &str)> = units
        .iter()
        .map(|it| (it["unit"].as_u64().unwrap(), it["fits"][0]["profile"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [(1, "eastron-sdm630"), (2, "abb-b23"), (17, "sunspec-103"), (17, "sunspec-203")]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("commonwatt.toml");
    // What is commented out without a space are the further meters.
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    let sections: Vec<&str> = lines.collect();
    fs::write(&config, format!("home = \"h001\"\ndata_dir = \"data\"\n{}", sections.join("\n"))).unwrap();
    for (name, serial) in [("meter", "21040123"), ("unit-2", "555"), ("unit-17-203", "7E1-B")] {
        let line = format!("read --output json --config {} --meter {name}", config.display());
        assert_eq!(meter(&line).with(0).json()["serial"], serial);
    }
    let nobody = format!("read --config {} --meter roof", config.display());
    meter(&nobody)
        .with(78)
        .saying(&["the configuration has no meter \"roof\"; it has meter, unit-2, unit-17-103"]);
}

#[test]
fn a_profile_of_ones_own_gets_onto_the_join_card() {
    let folder = tempfile::tempdir().unwrap();
    let commonwatt = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_commonwatt"));
        Ended::of(command.current_dir(folder.path()).args(line.split_whitespace()).output().unwrap())
    };
    commonwatt("init --data-dir h --home h001").with(0);
    let own = include_str!("../../meter/profiles/abb-b23.toml").replacen("abb-b23", "my-meter", 1);
    fs::create_dir(folder.path().join("h/profiles")).unwrap();
    fs::write(folder.path().join("h/profiles/my-meter.toml"), own).unwrap();
    let file = folder.path().join("h/commonwatt.toml");
    let home = "home = \"h001\"\n";
    let config =
        fs::read_to_string(&file).unwrap().replacen(home, &format!("{home}profiles = \"profiles\"\n"), 1);
    fs::write(&file, config).unwrap();
    let card =
        commonwatt("init --data-dir h --home h001 --meter-profile my-meter --meter-serial 5").with(0).json();
    assert_eq!((&card["meter"]["profile"], &card["meter"]["serial"]), (&"my-meter".into(), &"5".into()));
}

#[test]
fn two_profiles_that_fit_are_both_named_with_what_tells_them_apart() {
    let (_bus, port) = bus(&["tcp", "eastron-sdm630:1:21040123"]);
    let folder = tempfile::tempdir().unwrap();
    let text =
        include_str!("../../meter/profiles/eastron-sdm630.toml").replacen("eastron-sdm630", "exchanged", 1);
    // Import and export the other way round, as a map may be that was copied carelessly.
    let swapped = text.replace("address = 0x0048, type", "address = 0x00FF, type");
    let swapped = swapped.replace("address = 0x004A, type", "address = 0x0048, type");
    let swapped = swapped.replace("address = 0x00FF, type", "address = 0x004A, type");
    let swapped = swapped.replace("import_wh = 12_345_670", "import_wh = 8_901_230");
    let swapped = swapped.replace("export_wh = 8_901_230", "export_wh = 12_345_670");
    fs::write(folder.path().join("exchanged.toml"), swapped).unwrap();
    let folder = folder.path().display();
    let scan =
        meter(&format!("scan --address 127.0.0.1:{port} --units 1 --profiles {folder}")).with(0).stdout;
    for part in [
        "2 profiles fit it: compare the import register on its display, the export register on its display",
        "profile = \"eastron-sdm630\"",
        "# or: profile = \"exchanged\"",
    ] {
        assert!(scan.contains(part), "{part:?} is not in\n{scan}");
    }
}

#[test]
fn a_scan_of_nothing_says_what_to_check() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let line = format!("scan --address 127.0.0.1:{port} --units 1,3 --seconds 8");
    meter(&line).with(5).saying(&[
        "nothing answered as Modbus",
        "switch Modbus TCP on in the device",
        "no meter was found",
    ]);
    drop(silent);
    meter(&line).with(5).saying(&["nothing listens on that port"]);
    meter("scan --device /dev/no-such-port")
        .with(5)
        .saying(&["there is no serial port /dev/no-such-port", "ls -l /dev/serial/by-id"]);
}

#[test]
fn every_quantity_is_read_with_its_obis_code_and_its_registers() {
    let (_bus, port) = bus(&THREE);
    let line = format!("read --address 127.0.0.1:{port} --transport rtu-tcp --unit 2 --profile abb-b23");
    let json = meter(&format!("{line} --output json")).with(0).json();
    assert_eq!(
        (&json["serial"], &json["identity"], &json["quantum_wh"]),
        (&"555".into(), &"read".into(), &10.into())
    );
    let of = |name: &str| {
        json["quantities"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap().clone()
    };
    let import = of("import");
    assert_eq!(
        (&import["obis"], &import["value"], &import["unit"]),
        (&"1-0:1.8.0".into(), &1_236_000.into(), &"Wh".into())
    );
    assert_eq!(import["registers"], "0000 0000 0001 e2d0");
    assert_eq!((&of("voltage_l2")["value"], &of("power")["value"]), (&231_200.into(), &502.into()));
    assert_eq!((&of("current_l1")["quality"], &of("current_l1")["value"]), (&"absent".into(), &Value::Null));
    let text = meter(&line).with(0).stdout;
    for part in [
        "meter 555, abb-b23 at 127.0.0.1",
        "1-0:1.8.0",
        "1236.000",
        "0000 0000 0001 e2d0",
        "step of the counters 10 Wh",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn watching_shows_what_fails_as_absent_and_goes_on() {
    let simulated = Simulated::start();
    simulated.meter.set(4_000_000, 0, 700);
    let line = format!(
        "read --watch --every 1 --output json --profile eastron-sdm630 --address {}",
        simulated.address
    );
    let mut watching = command(&line).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let watching = Running(watching);
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["serial"], "21040123");
    simulated.meter.unplug(true);
    let failed =
        std::iter::repeat_with(&mut next).take(5).find(|line| !line["error"].is_null()).expect("an error");
    assert!(
        failed["quantities"].is_null()
            && failed["error"]["message"].as_str().unwrap().contains("check the unit id")
    );
    simulated.meter.unplug(false);
    assert!(
        std::iter::repeat_with(&mut next).take(15).any(|line| line["serial"] == "21040123"),
        "it came back"
    );
    drop(watching);
}

#[test]
fn registers_are_shown_as_they_are() {
    let (_bus, port) = bus(&THREE);
    let line = format!(
        "raw --address 127.0.0.1:{port} --transport rtu-tcp --unit 1 --function 4 --register 0x48 --count 4"
    );
    let json = meter(&format!("{line} --output json")).with(0).json();
    let first = &json["registers"][0];
    assert_eq!(
        (&first["register"], &first["hex"], &first["u16"]),
        (&72.into(), &"449a".into(), &17_562.into())
    );
    assert_eq!(first["high_first"]["f32"], 1_235.0);
    assert!(meter(&line).with(0).stdout.contains("0x0048 72  449a  17562"));
    let absent =
        format!("raw --address 127.0.0.1:{port} --transport rtu-tcp --unit 1 --register 9 --count 3");
    meter(&absent).with(1).saying(&["refused to read register 0x0009 (function 3)", "exception 0x02"]);
    meter("raw --function 5 --register 0 --address m").with(2);
    meter("raw --register 0 --address m --transport serial").with(2).saying(&["say --device PATH"]);
    meter("raw --register 0 --device /dev/ttyUSB0 --transport rtu-tcp").with(2).saying(&["say --address"]);
    meter("read --profile abb-b23 --transport tcp").with(2).saying(&["say --address"]);
    meter("read --config c.toml --transport tcp").with(2).saying(&["--transport"]);
    meter("raw --register 0")
        .with(2)
        .saying(&["which meter? say --config FILE, --address HOST:PORT or --device PATH"]);
}

#[test]
fn a_meter_whose_counters_agree_with_its_power_passes_the_test() {
    let simulated = Simulated::start();
    simulated.flow(72_000, 72_000);
    let line =
        format!("test --seconds 4 --every-ms 100 --profile eastron-sdm630 --address {}", simulated.address);
    let json = meter(&format!("{line} --output json")).with(0).json();
    assert_eq!((&json["ok"], &json["failures"]), (&true.into(), &serde_json::json!({})));
    assert!(json["round_trip_ms"]["p99"].as_f64().unwrap() >= json["round_trip_ms"]["p50"].as_f64().unwrap());
    assert!(json["verdict"].as_str().unwrap().contains("its counters agree with its power"), "{json:#}");
}

#[test]
fn a_swapped_sign_fails_the_test_with_its_cause() {
    let simulated = Simulated::start();
    simulated.flow(72_000, -72_000);
    let line =
        format!("test --seconds 4 --every-ms 100 --profile eastron-sdm630 --address {}", simulated.address);
    let ended = meter(&line).with(3).stdout;
    for part in ["[!!]", "the sign of power is swapped against the counters", "do not settle on this meter"] {
        assert!(ended.contains(part), "{part:?} is not in\n{ended}");
    }
}

#[test]
fn a_served_meter_is_read_like_the_meter_itself_and_only_read() {
    let simulated = Simulated::start();
    simulated.meter.set(4_000_000, 0, 700);
    let line = format!("serve --listen 127.0.0.1:0 --profile eastron-sdm630 --address {}", simulated.address);
    let mut serving = command(&line).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(serving.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let _serving = Running(serving);
    let served = said.split(" at ").nth(1).and_then(|at| at.split(',').next()).expect(&said).to_owned();
    let read = format!("read --output json --profile eastron-sdm630 --address {served}");
    assert_eq!(meter(&read).with(0).json()["quantities"][0]["value"], 1_000_000);
    let (host, port) = served.split_once(':').unwrap();
    let write = ["-m", "tcp", "-a", "1", "-r", "1", "-1", "-p", port, host, "7"];
    let mbpoll = Command::new("mbpoll").args(write).output();
    let mbpoll = mbpoll.expect("mbpoll is not installed; run `cargo xtask test`, which installs it");
    let told = String::from_utf8_lossy(&mbpoll.stderr).into_owned();
    assert!(!mbpoll.status.success() && told.contains("Illegal function"), "{told}");
    let taken = format!("serve --listen {served} --profile eastron-sdm630 --address {}", simulated.address);
    meter(&taken).with(1).saying(&["another program listens there", "choose another `listen`"]);
}

/// Runs the kettle check and lets power become `with_kettle` once the kettle is called for.
fn commission(with_kettle: i64, more: &str) -> Ended {
    let simulated = Simulated::start();
    simulated.meter.set(4_000_000, 0, 310);
    let line = format!(
        "commission --yes --seconds 6 --profile eastron-sdm630 --address {} {more}",
        simulated.address
    );
    let mut process = command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stderr, mut said) = (BufReader::new(process.stderr.take().unwrap()), String::new());
    while !said.contains("switch the kettle") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended early:\n{said}");
    }
    simulated.meter.set(4_000_000, 0, with_kettle);
    stderr.read_to_string(&mut said).unwrap();
    let ended = Ended::of(process.wait_with_output().unwrap());
    Ended { stderr: said, ..ended }
}

#[test]
fn a_kettle_that_raises_import_passes_and_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("check.json");
    let more = format!("--display-import 1000 --record {} --output json", record.display());
    let json = commission(310 + 2_000, &more).with(0).json();
    assert_eq!(
        (&json["passed"], &json["verdict"], &json["serial"]),
        (&true.into(), &"passed".into(), &"21040123".into())
    );
    assert_eq!(
        (&json["display"]["import_wh"], &json["registers_before"]["import_wh"]),
        (&1_000_000.into(), &1_000_000.into())
    );
    assert!(json["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(record).unwrap()).unwrap(), json);
}

#[test]
fn a_person_is_asked_for_the_display_and_for_the_kettle() {
    let simulated = Simulated::start();
    simulated.meter.set(4_000_000, 8_000, 310);
    let line = format!(
        "commission --seconds 8 --output json --profile eastron-sdm630 --address {}",
        simulated.address
    );
    let mut process =
        command(&line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut said) = (process.stdin.take().unwrap(), String::new());
    stdin.write_all(b"1000,2\n\n").unwrap();
    let mut stderr = BufReader::new(process.stderr.take().unwrap());
    while !said.contains("Fill the kettle (1500 to 2500 W), switch it on, then press Enter.") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended early:\n{said}");
    }
    assert!(said.contains("What does the meter's display show as import (1.8.0), in kWh?"), "{said}");
    simulated.meter.set(4_000_000, 8_000, 310 + 2_100);
    stdin.write_all(b"\n").unwrap();
    stderr.read_to_string(&mut said).unwrap();
    let ended = Ended { stderr: said, ..Ended::of(process.wait_with_output().unwrap()) }.with(0).json();
    assert_eq!(
        (&ended["display"]["import_wh"], &ended["display"]["export_wh"]),
        (&1_000_200.into(), &Value::Null)
    );
    assert_eq!(
        (&ended["verdict"], &ended["display"]["text"]),
        (&"passed".into(), &"the registers agree with the display".into())
    );
}

#[test]
fn a_kettle_that_lowers_import_names_the_swapped_sign_and_what_to_change() {
    let ended = commission(310 - 2_000, "").with(3).stdout;
    for part in ["import fell by 2000 W", "the sign is swapped", "current transformers", "`invert = true`"] {
        assert!(ended.contains(part), "{part:?} is not in\n{ended}");
    }
}

#[test]
fn a_kettle_that_changes_nothing_and_a_display_that_differs_are_told_apart() {
    let nothing = commission(330, "").with(3).stdout;
    assert!(nothing.contains("the meter measures another circuit"), "{nothing}");
    let third = commission(310 + 667, "").with(3).stdout;
    assert!(third.contains("a phase is not measured"), "{third}");
    let display = commission(310 + 2_000, "--display-import 100").with(3).stdout;
    assert!(
        display.contains("the display shows import 100.000 kWh and the register says 1000.000 kWh"),
        "{display}"
    );
}

#[test]
fn an_unplugged_meter_names_cable_unit_and_other_clients() {
    let simulated = Simulated::start();
    simulated.meter.unplug(true);
    let line = format!("read --profile eastron-sdm630 --address {}", simulated.address);
    meter(&line).with(5).saying(&[
        "did not answer within 500 ms",
        "check the unit id, the bus cable",
        "commonwatt meter scan",
    ]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = format!("read --profile eastron-sdm630 --address {nobody}");
    meter(&line)
        .with(5)
        .saying(&["nothing listens on that port; switch Modbus TCP on in it, or correct the port"]);
}

#[test]
fn a_wrong_profile_says_so_and_how_to_find_the_right_one() {
    let (_bus, port) = bus(&THREE);
    let line =
        format!("read --transport rtu-tcp --unit 2 --profile eastron-sdm630 --address 127.0.0.1:{port}");
    meter(&line).with(1).saying(&[
        "the profile is probably for another model",
        "`commonwatt meter scan` says which profile fits",
    ]);
    let line = format!("read --transport rtu-tcp --unit 1 --profile sunspec-203 --address 127.0.0.1:{port}");
    meter(&line).with(1).saying(&["no SunSpec model 203", "check the unit id"]);
    let line = format!("read --profile eastron-smd630 --address 127.0.0.1:{port}");
    meter(&line).with(78).saying(&["did you mean \"eastron-sdm630\"?"]);
}

#[test]
fn a_wrong_unit_id_says_so_on_a_bus_and_behind_a_gateway() {
    let (_bus, port) = bus(&THREE);
    let line =
        format!("read --transport rtu-tcp --unit 9 --profile eastron-sdm630 --address 127.0.0.1:{port}");
    meter(&line).with(5).saying(&["unit 9 did not answer", "check the unit id", "finds the unit ids"]);
    let (_bus, port) = bus(&["tcp", "eastron-sdm630:1:21040123"]);
    let line = format!("read --unit 9 --profile eastron-sdm630 --address 127.0.0.1:{port}");
    meter(&line).with(1).saying(&["device failure: check the unit id"]);
}

#[test]
fn a_wrong_word_order_is_named_and_the_right_one_with_it() {
    let (_bus, port) = bus(&THREE);
    let folder = tempfile::tempdir().unwrap();
    let text = include_str!("../../meter/profiles/abb-b23.toml").replacen("abb-b23", "low-first", 1);
    fs::write(folder.path().join("low.toml"), low_first(&text)).unwrap();
    let folder = folder.path().display();
    let line = format!(
        "read --transport rtu-tcp --unit 2 --profile low-first --profiles {folder} --address 127.0.0.1:{port}"
    );
    meter(&line)
        .with(1)
        .saying(&["looks right with high word first", "the profile's word order is probably wrong"]);
}

/// The ABB profile as somebody writes it who takes the low word to come first: order and vectors, not the device.
fn low_first(profile: &str) -> String {
    let (head, vectors) = profile.split_once("[vector.energy]").unwrap();
    let head = head.replacen("\nsource = ", "\nwords = \"low-first\"\nsource = ", 1);
    let head = head.replacen("type = \"u32\"\n", "type = \"u32\"\nwords = \"high-first\"\n", 1);
    let (energy, live) = vectors.split_once("[vector.live]").unwrap();
    let energy = with_words(energy, |words| words.chunks_mut(4).for_each(<[&str]>::reverse));
    // The frequency at the end is one register.
    let live = with_words(live, |words| words[..44].chunks_mut(2).for_each(<[&str]>::reverse));
    format!("{head}[vector.energy]{energy}[vector.live]{live}")
}

/// The text with the registers of its `words` changed.
fn with_words(text: &str, change: fn(&mut [&str])) -> String {
    let start = text.find("words = \"").unwrap() + "words = ".len();
    let length = text[start..].find("\n").unwrap();
    let quoted = match text[start..].strip_prefix("\"\"\"") {
        Some(rest) => &text[start..start + 6 + rest.find("\"\"\"").unwrap()],
        None => &text[start..start + length],
    };
    let mut words: Vec<&str> = quoted.trim_matches('"').split_whitespace().collect();
    change(&mut words);
    text.replacen(quoted, &format!("{:?}", words.join(" ")), 1)
}

/// True if this process may do everything, so that a forbidden port has to be tried as somebody else.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

#[test]
fn a_serial_port_without_permission_names_the_group_to_join() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let [port, other] = ["port", "other"].map(|end| folder.path().join(end));
    let end = |path: &Path| format!("pty,raw,echo=0,mode=000,link={}", path.display());
    let socat = Command::new("socat").args([end(&port), end(&other)]).spawn();
    let _socat = Running(socat.expect("socat is not installed; run `cargo xtask test`, which installs it"));
    let started = Instant::now();
    while !(port.exists() && other.exists()) {
        assert!(started.elapsed() < Duration::from_secs(20), "socat made no line");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The program lies where its user may not go, so it gets a place that everybody may.
    let program = folder.path().join("commonwatt");
    let own = env!("CARGO_BIN_EXE_commonwatt");
    fs::hard_link(own, &program).or_else(|_| fs::copy(own, &program).map(drop)).unwrap();
    let mut command = if is_root() {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
        nobody
    } else {
        Command::new(&program)
    };
    command.env_remove("COMMONWATT_CONFIG").args([
        "meter",
        "read",
        "--profile",
        "eastron-sdm630",
        "--device",
    ]);
    let ended = Ended::of(command.arg(&port).output().unwrap());
    ended.with(5).saying(&[
        "no permission to open the serial port",
        "group dialout",
        "sudo usermod -aG dialout",
        "log in again",
    ]);
}
