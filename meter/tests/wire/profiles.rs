//! Every built-in profile against devices that nobody here encoded: pymodbus turns the values into registers, pysunspec2
//! builds the `SunSpec` images, and our client must read back what they hold. The other way round, pymodbus and pysunspec2
//! read what our encoder lays out.

use std::future::{Ready, ready};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use energy::{MeterSerial, WattHours};
use meter::{EnergySample, Identity, LiveSample, Profile, RegisterImage, Registers};
use tokio::net::TcpListener;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use crate::support::{AMPLE, meter_on, python};

/// Some profiles have a pause after connecting.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What every device of a case holds: Wh, W, mV, mA, mHz.
struct Case {
    import: u64,
    export: u64,
    power: i64,
    voltage: [u32; 3],
    current: [i64; 3],
    frequency: u32,
    /// Where a `SunSpec` map begins, and what else is in it.
    base: u16,
    behind_inverter: bool,
    model_after: bool,
    /// Scale factors of energy, power, voltage, current and frequency.
    scales: [i16; 5],
}

const CASES: [Case; 4] = [
    Case {
        import: 0,
        export: 0,
        power: 0,
        voltage: [230_000, 229_900, 230_200],
        current: [0, 0, 0],
        frequency: 50_000,
        base: 40_000,
        behind_inverter: false,
        model_after: false,
        scales: [0, 0, -1, -2, -2],
    },
    Case {
        import: 1_234,
        export: 400,
        power: -5_231,
        voltage: [230_100, 231_200, 229_300],
        current: [2_500, 3_200, 1_700],
        frequency: 49_900,
        base: 0,
        behind_inverter: true,
        model_after: false,
        scales: [0, 0, -2, -3, -2],
    },
    // Beyond 2^24 Wh a float no longer holds every watt-hour.
    Case {
        import: 98_765_430,
        export: 16_777_220,
        power: 11_000,
        voltage: [241_000, 239_500, 240_700],
        current: [15_000, 16_000, 17_500],
        frequency: 50_100,
        base: 50_000,
        behind_inverter: true,
        model_after: true,
        scales: [1, 1, -1, -1, -2],
    },
    // A home that sells more than it buys.
    Case {
        import: 1_000,
        export: 34_567_890,
        power: -2_345,
        voltage: [225_400, 226_000, 224_800],
        current: [3_300, 3_500, 3_600],
        frequency: 49_800,
        base: 40_000,
        behind_inverter: false,
        model_after: true,
        scales: [-1, -1, -2, -2, -1],
    },
];

impl Case {
    fn json(&self) -> String {
        let Self { import, export, power, voltage, current, frequency, base, .. } = self;
        let Self { behind_inverter, model_after, scales: [energy, watts, volts, amperes, hertz], .. } = self;
        format!(
            r#"{{"import": {import}, "export": {export}, "power": {power}, "voltage": {voltage:?},
            "current": {current:?}, "frequency": {frequency}, "base": {base}, "behind_inverter": {behind_inverter},
            "model_after": {model_after}, "scales": {{"energy": {energy}, "power": {watts}, "voltage": {volts},
            "current": {amperes}, "frequency": {hertz}}}}}"#
        )
    }
}

/// One device of the Python process.
#[derive(Debug)]
struct Device {
    case: usize,
    address: SocketAddr,
    unit: u8,
    profile: String,
    serial: Option<MeterSerial>,
}

impl Device {
    /// From `METER <case> <port> <unit> <profile> <serial or ->`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("METER ")?.split(' ');
        Some(Self {
            case: words.next()?.parse().ok()?,
            address: SocketAddr::from(([127, 0, 0, 1], words.next()?.parse().ok()?)),
            unit: words.next()?.parse().ok()?,
            profile: words.next()?.to_owned(),
            serial: words.next().filter(|word| *word != "-").map(|word| MeterSerial::new(word).unwrap()),
        })
    }
}

/// The Python process; it ends with this value.
struct Devices {
    process: Child,
    all: Vec<Device>,
}

impl Devices {
    /// Every built-in profile as a device, once per case.
    fn start() -> Self {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cases: Vec<String> = CASES.iter().map(Case::json).collect();
        let mut process = Command::new(python())
            .arg(crate_folder.join("tests/peers/profile_server.py"))
            .arg(crate_folder.join("profiles"))
            .arg(format!("[{}]", cases.join(",")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let lines: Vec<String> =
            lines.map(|line| line.expect("readable")).take_while(|line| line != "READY").collect();
        let all: Vec<Device> = lines.iter().filter_map(|line| Device::parse(line)).collect();
        assert!(
            all.len() == lines.len() && !all.is_empty(),
            "the pymodbus servers did not start; run `cargo xtask test`, which installs what they need: {lines:?}"
        );
        Self { process, all }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Compares one counter with what the device holds.
fn assert_counter(device: &Device, name: &str, sample: &EnergySample, got: Option<u64>, held: u64) {
    let profile = Profile::by_name(&device.profile).unwrap();
    let has_register = profile.quantities().iter().any(|quantity| quantity.name == name);
    let off = got.map(|got| got.abs_diff(held));
    let quantum = sample.quantum.get();
    assert!(
        off.is_some() == has_register && off.is_none_or(|off| off < quantum),
        "{device:?}: {name} {got:?} Wh for {held} Wh, quantum {quantum} Wh"
    );
}

fn assert_energy(device: &Device, sample: &EnergySample) {
    let case = &CASES[device.case];
    let profile = Profile::by_name(&device.profile).unwrap();
    assert_counter(device, "import", sample, sample.import.map(|it| it.get()), case.import);
    assert_counter(device, "export", sample, sample.export.map(|it| it.get()), case.export);
    assert!(sample.quantum >= profile.quantum() && sample.quantum.get() <= 100, "{device:?}");
    assert_eq!(sample.profile_hash, profile.hash());
    let identity = if device.serial.is_some() { Identity::Read } else { Identity::Nameplate };
    let serial = device.serial.clone().unwrap_or_else(nameplate);
    assert_eq!((&sample.serial, sample.identity), (&serial, identity), "{device:?}");
}

fn assert_live(device: &Device, sample: &LiveSample) {
    let case = &CASES[device.case];
    let profile = Profile::by_name(&device.profile).unwrap();
    let has = |name: &str| profile.quantities().iter().any(|quantity| quantity.name == name);
    // Each value is a whole number of steps of every register that holds it: nothing is lost but watts below one.
    assert!(
        sample.power_w.abs_diff(case.power) <= 1,
        "{device:?}: {} W for {} W",
        sample.power_w,
        case.power
    );
    for phase in 0..3 {
        let name = |quantity| format!("{quantity}_l{}", phase + 1);
        let voltage = has(&name("voltage")).then_some(case.voltage[phase]);
        assert_eq!(sample.voltage_mv[phase], voltage, "{device:?}");
        let current = has(&name("current")).then_some(case.current[phase]);
        assert_eq!(sample.current_ma[phase], current, "{device:?}");
    }
    assert_eq!(sample.frequency_mhz, has("frequency").then_some(case.frequency), "{device:?}");
}

fn nameplate() -> MeterSerial {
    MeterSerial::new("NAMEPLATE-1").unwrap()
}

#[tokio::test]
async fn every_built_in_profile_reads_back_what_pymodbus_and_pysunspec2_encoded() {
    let devices = Devices::start();
    assert_eq!(devices.all.len(), Profile::builtin().len() * CASES.len(), "every profile in every case");
    for device in &devices.all {
        let profile = Profile::by_name(&device.profile).unwrap();
        let meter = meter_on(device.address, device.unit, profile, Some(nameplate()), TIMEOUT);
        let energy = meter.read_energy(AMPLE).await.unwrap_or_else(|error| panic!("{device:?}: {error}"));
        assert_energy(device, &energy);
        let live = meter.read_live(AMPLE).await.unwrap_or_else(|error| panic!("{device:?}: {error}"));
        assert_live(device, &live);
    }
}

/// Our images of all profiles by name, the first as unit 1.
#[derive(Clone)]
struct Images(Arc<Vec<RegisterImage>>);

impl Service for Images {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let image = usize::from(request.slave).checked_sub(1).and_then(|unit| self.0.get(unit));
        let read = |function, address, count| image.and_then(|image| image.read(function, address, count));
        let answer = match request.request {
            Request::ReadHoldingRegisters(address, count) => {
                read(3, address, count).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(address, count) => {
                read(4, address, count).map(Response::ReadInputRegisters)
            }
            _ => None,
        };
        ready(answer.ok_or(ExceptionCode::IllegalDataAddress))
    }
}

/// Serves `images` on a port of its own for as long as the test runs.
async fn serve(images: Vec<RegisterImage>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let images = Images(Arc::new(images));
    tokio::spawn(async move {
        let on_connected =
            async |stream, address| accept_tcp_connection(stream, address, |_| Ok(Some(images.clone())));
        Server::new(listener).serve(&on_connected, |_| ()).await
    });
    port
}

fn serial_for(profile: &Profile) -> MeterSerial {
    MeterSerial::new(if profile.sunspec_model().is_some() { "CW-7E1.B4" } else { "21040123" }).unwrap()
}

/// What pymodbus and pysunspec2 read from the server at `port`: words after `VALUE` and `SERIAL`.
async fn read_by_others(port: u16) -> Vec<Vec<String>> {
    let output = tokio::task::spawn_blocking(move || {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        Command::new(python())
            .arg(crate_folder.join("tests/peers/profile_client.py"))
            .arg(crate_folder.join("profiles"))
            .arg(port.to_string())
            .output()
    });
    let output = output.await.unwrap().expect("python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the readers failed: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pymodbus_and_pysunspec2_read_what_our_encoder_lays_out_for_every_profile() {
    let mut profiles = Profile::builtin().to_vec();
    profiles.sort_by(|a, b| a.name().cmp(b.name()));
    let held = |profile: &Profile| Registers {
        serial: serial_for(profile),
        import: WattHours::new(3_456_700),
        export: WattHours::new(91_200),
        power_w: -5_231,
        voltage_mv: [230_100, 231_200, 229_300],
        frequency_mhz: 49_900,
    };
    let images = profiles.iter().map(|profile| profile.encode(&held(profile)).unwrap()).collect();
    let lines = read_by_others(serve(images).await).await;
    let mut seen = 0;
    for line in &lines {
        let [kind, profile, rest @ ..] = line.as_slice() else { panic!("{line:?}") };
        let profile = Profile::by_name(profile).unwrap();
        if kind == "SERIAL" {
            assert_eq!(rest, [serial_for(&profile).as_str()], "{line:?}");
            continue;
        }
        let (wanted, tolerance) = match rest[0].as_str() {
            "import" => (3_456_700.0, 1.0),
            "export" => (91_200.0, 1.0),
            "power" => (-5_231.0, 1.0),
            "voltage_l1" => (230.1, 0.001),
            "voltage_l2" => (231.2, 0.001),
            "voltage_l3" => (229.3, 0.001),
            "frequency" => (49.9, 0.001),
            // One phase carries all of it, two or three an equal share: 7.5 to 22.7 A.
            _ => (15.1, 7.7),
        };
        let value: f64 = rest[1].parse().unwrap();
        let value = if rest[0].starts_with("current") { value.abs() } else { value };
        assert!((value - wanted).abs() <= tolerance, "{line:?}");
        seen += 1;
    }
    let mut names: Vec<_> =
        profiles.iter().flat_map(|it| it.quantities().into_iter().map(|q| (it.name(), q.name))).collect();
    names.dedup();
    assert_eq!(seen, names.len(), "every quantity of every profile was read");
    let serials = lines.iter().filter(|line| line[0] == "SERIAL").count();
    assert_eq!(serials, profiles.iter().filter(|profile| profile.has_serial()).count());
}
