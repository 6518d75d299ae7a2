//! Serial lines: our client on one end of a socat pair of pseudo terminals, pymodbus, noise or nothing on the other;
//! and the unit-test server of libmodbus, which has its faults built in.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use energy::{MeterSerial, WattHours};
use meter::{Bus, BusConfig, Endpoint, Identity, Meter, MeterError, Profile};
use tokio_serial::SerialStream;

use crate::support::{AMPLE, PtyPair, PymodbusMeter};

/// Long for pymodbus on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(2);
const UNITS: [&str; 3] =
    ["1=eastron-sdm630:21040123:5000", "2=abb-b23:77:7000", "3=eastron-sdm630:33:123456"];

fn serial(path: PathBuf) -> Endpoint {
    Endpoint::Serial { path, line: "9600 8N1".parse().unwrap() }
}

fn bus(endpoint: Endpoint, timeout: Duration) -> Bus {
    Bus::open(BusConfig { timeout, ..BusConfig::new(endpoint) })
}

fn meter_on(bus: &Bus, unit: u8, profile: &str) -> Meter {
    Meter::on(bus, unit, Profile::by_name(profile).unwrap(), None)
}

/// Reads the three meters of [`UNITS`] by turns, and one of them again and again.
async fn read_three_meters(bus: &Bus) {
    let meters = [(1, "eastron-sdm630"), (2, "abb-b23"), (3, "eastron-sdm630")]
        .map(|(unit, profile)| meter_on(bus, unit, profile));
    let held = [("21040123", 5_000), ("77", 7_000), ("33", 123_456)];
    for _ in 0..3 {
        for (meter, (serial, import)) in meters.iter().zip(held) {
            let energy = meter.read_energy(AMPLE).await.unwrap();
            assert_eq!((energy.serial, energy.identity), (MeterSerial::new(serial).unwrap(), Identity::Read));
            assert_eq!(energy.import, Some(WattHours::new(import)));
        }
    }
    for _ in 0..5 {
        let live = meters[2].read_live(AMPLE).await.unwrap();
        assert_eq!((live.power_w, live.frequency_mhz), (3, Some(49_980)));
        assert_eq!(live.voltage_mv, [Some(230_100), Some(231_200), Some(229_300)]);
    }
    let (energy, live) = meters[0].read_all(AMPLE).await.unwrap();
    assert_eq!((energy.import, live.power_w), (Some(WattHours::new(5_000)), 1), "one request holds both");
    let (energy, live) = meters[1].read_all(AMPLE).await.unwrap();
    assert_eq!((energy.import, live.power_w), (Some(WattHours::new(7_000)), 2), "two requests");
    let report = bus.report();
    assert_eq!((report.failures, report.connections), (0, 1));
    assert!(report.requests >= 20 && report.load_per_mille() > 0, "{report:?}");
}

#[tokio::test]
async fn three_meters_on_one_serial_line_of_pymodbus_read_back() {
    let ptys = PtyPair::start();
    let far = ptys.far().display().to_string();
    let _server = PymodbusMeter::start_script("line_server.py", &[&["--device", &far][..], &UNITS].concat());
    read_three_meters(&bus(serial(ptys.near()), TIMEOUT)).await;
}

#[tokio::test]
async fn three_meters_behind_one_rtu_over_tcp_server_of_pymodbus_read_back() {
    let server = PymodbusMeter::start_script("line_server.py", &UNITS);
    read_three_meters(&bus(Endpoint::RtuOverTcp(server.address.into()), TIMEOUT)).await;
}

#[tokio::test]
async fn a_sunspec_meter_is_discovered_on_a_line_whose_requests_must_differ() {
    let server = PymodbusMeter::start_script("line_server.py", &["126=sunspec-203:SN-126:9000"]);
    let bus = bus(Endpoint::RtuOverTcp(server.address.into()), TIMEOUT);
    let meter = meter_on(&bus, 126, "sunspec-203");
    let energy = meter.read_energy(AMPLE).await.unwrap();
    assert_eq!((energy.serial.as_str(), energy.import), ("SN-126", Some(WattHours::new(9_000))));
    assert_eq!(meter.read_live(AMPLE).await.unwrap().power_w, 126);
    assert_eq!(meter.read_energy_afresh(AMPLE).await.unwrap().import, Some(WattHours::new(9_000)));
    let report = bus.report();
    assert_eq!((report.failures, report.connections), (0, 2), "read afresh over a connection of its own");
}

#[tokio::test]
async fn a_serial_meter_that_was_frozen_or_killed_is_read_again_within_five_seconds_of_its_return() {
    let ptys = PtyPair::start();
    let far = ptys.far().display().to_string();
    let start = || PymodbusMeter::start_script("line_server.py", &["--device", &far, UNITS[0]]);
    let mut server = start();
    let meter = meter_on(&bus(serial(ptys.near()), Duration::from_millis(500)), 1, "eastron-sdm630");
    meter.read_live(AMPLE).await.unwrap();
    server.freeze(true);
    stays_away(&meter).await;
    server.freeze(false);
    comes_back(&meter).await;
    server.kill();
    stays_away(&meter).await;
    let _server = start();
    comes_back(&meter).await;
}

async fn stays_away(meter: &Meter) {
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(5) {
        assert!(meter.read_live(Duration::from_secs(2)).await.is_err(), "a value from a device that is away");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn comes_back(meter: &Meter) {
    let back = Instant::now();
    while let Err(error) = meter.read_live(Duration::from_secs(2)).await {
        assert!(
            back.elapsed() < Duration::from_secs(5),
            "not read again after {:?}: {error}",
            back.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_line_with_nobody_on_it_says_that_not_one_byte_came() {
    let ptys = PtyPair::start();
    let bus = bus(serial(ptys.near()), Duration::from_millis(300));
    let error = meter_on(&bus, 1, "eastron-sdm630").read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Silent { unit: 1, .. }), "{error}");
    assert!(error.to_string().contains("not one byte came: check that the meter is powered"), "{error}");
}

#[tokio::test]
async fn an_adapter_that_hears_itself_is_told_from_a_silent_line() {
    let ptys = PtyPair::start_between("PIPE");
    let bus = bus(serial(ptys.near()), Duration::from_millis(300));
    let error = meter_on(&bus, 1, "eastron-sdm630").read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Echo { .. }), "{error}");
    assert!(error.to_string().contains("does not mute its receiver"), "{error}");
}

#[tokio::test]
async fn a_wrong_baud_rate_is_told_from_a_silent_line() {
    let ptys = PtyPair::start();
    let mut far = OpenOptions::new().read(true).write(true).open(ptys.far()).unwrap();
    std::thread::spawn(move || {
        // What a reply looks like when its bits are read at another rate.
        while far.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
            far.write_all(&[0xF8, 0x80, 0x1E, 0x00, 0xE6, 0x78, 0x80]).unwrap();
        }
    });
    let bus = bus(serial(ptys.near()), Duration::from_millis(300));
    let error = meter_on(&bus, 1, "eastron-sdm630").read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Noise { bytes: 7, .. }), "{error}");
    assert!(error.to_string().contains("baud rate or parity is probably not the meter's"), "{error}");
}

#[tokio::test]
async fn a_line_with_a_second_master_says_so() {
    let ptys = PtyPair::start();
    let mut far = OpenOptions::new().write(true).open(ptys.far()).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(50)).is_err() {
            far.write_all(&[7, 4, 0, 0x48, 0, 4, 0x70, 0x79]).unwrap();
        }
    });
    let error = bus(serial(ptys.near()), TIMEOUT).read_raw(1, 3, 0, 2, AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Unquiet { .. }), "{error}");
    assert!(error.to_string().contains("another master"), "{error}");
    stop.send(()).unwrap();
    other.join().unwrap();
}

#[tokio::test]
async fn a_port_that_another_program_holds_and_one_that_is_not_there_say_so() {
    let ptys = PtyPair::start();
    let path = ptys.near().display().to_string();
    let held = SerialStream::open(&tokio_serial::new(&path, 9600).exclusive(true)).unwrap();
    let error = bus(serial(ptys.near()), TIMEOUT).read_raw(1, 3, 0, 2, AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::PortBusy { .. }), "{error}");
    assert!(error.to_string().contains("sudo fuser -v"), "{error}");
    drop(held);
    let missing = serial(ptys.near().with_file_name("missing"));
    let error = bus(missing, TIMEOUT).read_raw(1, 3, 0, 2, AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::NoPort { .. }), "{error}");
}

#[tokio::test]
async fn one_port_may_be_opened_again_with_another_line_setting_once_it_is_let_go_of() {
    let ptys = PtyPair::start();
    let far = ptys.far().display().to_string();
    let _server = PymodbusMeter::start_script("line_server.py", &["--device", &far, UNITS[0]]);
    for line in ["9600 8E1", "19200 8N1", "9600 8N1"] {
        let endpoint = Endpoint::Serial { path: ptys.near(), line: line.parse().unwrap() };
        // A pseudo terminal carries bytes at any rate.
        let opened = bus(endpoint, TIMEOUT);
        assert_eq!(opened.read_raw(1, 3, 0xFC00, 2, AMPLE).await.unwrap(), [321, 3067], "{line}");
        let other = Endpoint::Serial { path: ptys.near(), line: "2400 8N1".parse().unwrap() };
        let error = bus(other, TIMEOUT).read_raw(1, 3, 0xFC00, 2, AMPLE).await.unwrap_err();
        assert!(matches!(error, MeterError::Conflict { .. }), "{error}");
    }
}

/// The unit-test server of libmodbus, built from the source that its package brings, with another port or device.
struct Libmodbus(Child);

impl Libmodbus {
    /// `tcp` or `rtu`; `from` in the source is replaced by `to`.
    fn start(mode: &str, from: &str, to: &str) -> Self {
        let examples = Path::new("/usr/share/doc/libmodbus-dev/examples");
        let source = std::fs::read_to_string(examples.join("unit-test-server.c"))
            .expect("libmodbus-dev is not installed; run `cargo xtask test`, which installs it");
        assert!(source.contains(from));
        let name = format!("libmodbus-{}-{mode}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("server.c"), source.replace(from, to)).unwrap();
        let built = Command::new("sh")
            .arg("-c")
            .arg("gcc -w -I \"$0\" server.c -o server $(pkg-config --cflags --libs libmodbus)")
            .arg(examples)
            .current_dir(&folder)
            .status();
        assert!(built.unwrap().success(), "gcc, pkg-config and libmodbus-dev are needed");
        let server =
            Command::new(folder.join("server")).arg(mode).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(server.unwrap())
    }
}

impl Drop for Libmodbus {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads one register that libmodbus answers in good order; its bits and registers are 0 but for the input register.
async fn is_in_order(bus: &Bus) {
    assert_eq!(bus.read_raw(17, 4, 0x108, 1, AMPLE).await.unwrap(), [0x000A]);
    assert_eq!(bus.read_raw(17, 3, 0x160, 3, AMPLE).await.unwrap(), [0, 0, 0]);
}

/// Every fault that libmodbus has for readers, over RTU; the server stays.
#[tokio::test]
async fn the_faults_of_the_libmodbus_test_server_give_errors_and_never_values() {
    let ptys = PtyPair::start();
    let _server = Libmodbus::start("rtu", "/dev/ttyUSB0", &ptys.far().display().to_string());
    let endpoint = Endpoint::Serial { path: ptys.near(), line: "115200 8N1".parse().unwrap() };
    let bus = bus(endpoint, Duration::from_millis(250));
    let ready = Instant::now();
    while bus.read_raw(17, 4, 0x108, 1, AMPLE).await.is_err() {
        assert!(ready.elapsed() < AMPLE, "libmodbus does not answer");
    }
    is_in_order(&bus).await;
    let error = async |address, count| bus.read_raw(17, 3, address, count, AMPLE).await.unwrap_err();
    assert!(matches!(error(0x170, 1).await, MeterError::Refused { code: 6, .. }), "busy");
    is_in_order(&bus).await;
    assert!(matches!(error(0x171, 1).await, MeterError::Broken { .. }), "from another unit");
    is_in_order(&bus).await;
    assert!(matches!(error(0x172, 1).await, MeterError::Silent { .. }), "half a second late");
    is_in_order(&bus).await;
    assert!(
        matches!(error(0x160, 2).await, MeterError::BadLength { asked: 2, got: 1, .. }),
        "one register short"
    );
    is_in_order(&bus).await;
    assert!(
        matches!(bus.read_raw(18, 3, 0x160, 1, AMPLE).await, Err(MeterError::Silent { .. })),
        "no such unit"
    );
    is_in_order(&bus).await;
}

/// The same over TCP, where the server ends with its connection: each fault its own.
#[tokio::test]
async fn the_tcp_faults_of_the_libmodbus_test_server_give_errors_and_never_values() {
    for (address, count) in [(0x170, 1), (0x171, 1), (0x172, 1), (0x160, 2)] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let _server = Libmodbus::start("tcp", "1502", &port.to_string());
        let endpoint = Endpoint::Tcp(format!("127.0.0.1:{port}").parse().unwrap());
        let bus = bus(endpoint, Duration::from_millis(250));
        let ready = Instant::now();
        while bus.read_raw(17, 4, 0x108, 1, AMPLE).await.is_err() {
            assert!(ready.elapsed() < AMPLE, "libmodbus does not answer");
        }
        let error = bus.read_raw(17, 3, address, count, AMPLE).await.unwrap_err();
        let fits = match address {
            0x170 => matches!(error, MeterError::Refused { code: 6, .. }),
            0x171 => matches!(error, MeterError::Broken { .. }),
            0x172 => matches!(error, MeterError::Silent { .. }),
            _ => matches!(error, MeterError::BadLength { asked: 2, got: 1, .. }),
        };
        assert!(fits, "{address:#x}: {error}");
    }
    // Bytes of an answer that come one by one are an answer, if they come in time.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = Libmodbus::start("tcp", "1502", &port.to_string());
    let bus = bus(Endpoint::Tcp(format!("127.0.0.1:{port}").parse().unwrap()), AMPLE);
    let ready = Instant::now();
    while bus.read_raw(255, 4, 0x108, 1, AMPLE).await.is_err() {
        assert!(ready.elapsed() < AMPLE, "libmodbus does not answer");
    }
    assert_eq!(bus.read_raw(255, 3, 0x173, 1, AMPLE).await.unwrap(), [0]);
}
