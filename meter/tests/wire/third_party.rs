//! Neither side is judged by its twin: our client reads pymodbus, Debian's `mbpoll` reads our simulator.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use energy::{ClockQuality, Interval, MeterSerial, Mtu, Quality, Reading, TakenAt, WattHours};
use meter::simulator::SimulatedMeter;
use meter::{BoundaryTracker, CounterLimits, Hold, Meter, MeterError, Observation, Profile, TrackerConfig};
use tokio::net::TcpListener;

use crate::support::{AMPLE, PymodbusMeter, meter_at};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What one pymodbus server holds and what must be read back from it.
struct Held {
    profile: &'static str,
    import_wh: u64,
    export_wh: u64,
    power_w: i64,
    arguments: &'static [&'static str],
}

/// Reads `held` back through a client that knows only the profile.
async fn read_back(held: &Held) {
    let numbers =
        [held.import_wh.to_string(), held.export_wh.to_string(), format!("--power-w={}", held.power_w)];
    let fixed = [held.profile, "--import-wh", &numbers[0], "--export-wh", &numbers[1], &numbers[2]];
    let server = PymodbusMeter::start(&[&fixed, held.arguments].concat());
    let meter = meter_at(server.address, held.profile, TIMEOUT);

    let energy = meter.read_energy(AMPLE).await.unwrap();
    assert_eq!(energy.serial, MeterSerial::new("21040123").unwrap(), "{}", held.profile);
    let quantum = energy.quantum.get();
    assert!(quantum >= Profile::by_name(held.profile).unwrap().quantum().get());
    for (got, wanted) in
        [(energy.import.unwrap().get(), held.import_wh), (energy.export.unwrap().get(), held.export_wh)]
    {
        assert!(
            got.abs_diff(wanted) < quantum,
            "{}: {got} Wh for {wanted} Wh, quantum {quantum} Wh",
            held.profile
        );
    }
    assert!(energy.round_trip < TIMEOUT && energy.middle < Instant::now());

    let live = meter.read_live(AMPLE).await.unwrap();
    assert!(live.power_w.abs_diff(held.power_w) <= held.power_w.unsigned_abs() / 1000, "{} W", live.power_w);
    assert_eq!(live.voltage_mv, [Some(230_100), Some(231_200), Some(229_300)]);
    assert_eq!(live.frequency_mhz, Some(49_980));
}

#[tokio::test]
async fn an_sdm630_served_by_pymodbus_reads_back() {
    let held = |import_wh, export_wh, power_w| Held {
        profile: "eastron-sdm630",
        import_wh,
        export_wh,
        power_w,
        arguments: &[],
    };
    for held in [
        held(0, 0, 0),
        held(3_456_789, 1, -5_231),
        held(4_095_999, 2_000_001, 11_000),
        held(98_765_432, 1_234_567, 90),
    ] {
        read_back(&held).await;
    }
}

#[tokio::test]
async fn an_abb_b23_served_by_pymodbus_reads_back() {
    let held = |import_wh, export_wh, power_w| Held {
        profile: "abb-b23",
        import_wh,
        export_wh,
        power_w,
        arguments: &[],
    };
    for held in [held(0, 0, 0), held(3_456_780, 10, -5_231), held(987_654_321, 5_005, 60_000)] {
        read_back(&held).await;
    }
}

#[tokio::test]
async fn a_sunspec_203_served_by_pymodbus_is_found_at_each_base_and_reads_back() {
    let held = |import_wh, export_wh, power_w, arguments| Held {
        profile: "sunspec-203",
        import_wh,
        export_wh,
        power_w,
        arguments,
    };
    for held in [
        held(3_456_789, 1_234, -5_231, &["--base", "40000"] as &[&str]),
        held(0, 0, 0, &["--base", "50000"]),
        held(3_456_789, 1_234, 99_000, &["--base", "0", "--energy-factor", "1"]),
        held(1_000_000, 7, 12, &["--energy-factor", "-1"]),
    ] {
        read_back(&held).await;
    }
}

#[tokio::test]
async fn registers_below_4096_kwh_come_from_pymodbus_to_the_exact_watt_hour() {
    for (import, export) in [("1", "4095999"), ("1234567", "2048001"), ("3999999", "333")] {
        let server = PymodbusMeter::start(&["eastron-sdm630", "--import-wh", import, "--export-wh", export]);
        let energy = meter_at(server.address, "eastron-sdm630", TIMEOUT).read_energy(AMPLE).await.unwrap();
        assert_eq!(
            (energy.import.unwrap().get().to_string(), energy.export.unwrap().get().to_string()),
            (import.into(), export.into())
        );
        assert_eq!(energy.quantum, WattHours::new(1));
    }
}

#[tokio::test]
async fn a_register_that_pymodbus_serves_as_nan_is_absent_and_never_zero() {
    let server = PymodbusMeter::start(&["eastron-sdm630", "--import-wh", "5000", "--export-wh", "nan"]);
    let error = meter_at(server.address, "eastron-sdm630", TIMEOUT).read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Absent { quantity: "export", .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_profile_is_refused_with_the_likely_cause() {
    let server = PymodbusMeter::start(&["abb-b23"]);
    let refused = meter_at(server.address, "eastron-sdm630", TIMEOUT).read_energy(AMPLE).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the meter refused to read register 0xfc00 (function 3): exception 0x02, illegal data address: the profile is \
         probably for another model"
    );
    let missing = meter_at(server.address, "sunspec-203", TIMEOUT).read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(missing, MeterError::NotFound { model: 203, .. }), "{missing}");
}

#[tokio::test]
async fn a_wrong_unit_id_is_refused_with_the_likely_cause() {
    let server = PymodbusMeter::start(&["eastron-sdm630", "--unit", "9"]);
    let error = meter_at(server.address, "eastron-sdm630", TIMEOUT).read_energy(AMPLE).await.unwrap_err();
    assert!(error.to_string().contains("check the unit id"), "{error}");
}

#[tokio::test]
async fn a_killed_meter_is_read_again_within_five_seconds_of_its_return() {
    let mut server = PymodbusMeter::start(&["eastron-sdm630", "--import-wh", "5000"]);
    let address = server.address;
    let meter = meter_at(address, "eastron-sdm630", Duration::from_millis(500));
    meter.read_live(AMPLE).await.unwrap();
    server.kill();
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(6) {
        assert!(meter.read_live(Duration::from_secs(1)).await.is_err(), "a value from a dead meter");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let port = address.port().to_string();
    let _server = PymodbusMeter::start(&["eastron-sdm630", "--import-wh", "6000", "--port", &port]);
    let back = Instant::now();
    while meter.read_live(Duration::from_secs(1)).await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(5), "not read again after {:?}", back.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(meter.read_energy(AMPLE).await.unwrap().import, Some(WattHours::new(6_000)));
}

#[tokio::test]
async fn another_meter_at_the_same_address_is_refused_by_its_serial_number() {
    let mut server = PymodbusMeter::start(&["eastron-sdm630", "--import-wh", "5000"]);
    let meter = meter_at(server.address, "eastron-sdm630", Duration::from_millis(500));
    meter.read_energy(AMPLE).await.unwrap();
    server.kill();
    let port = server.address.port().to_string();
    let _other =
        PymodbusMeter::start(&["eastron-sdm630", "--import-wh", "9", "--serial", "555", "--port", &port]);
    let error = meter.read_energy(AMPLE).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "meter 555 answers where meter 21040123 was; if it was exchanged, commission the new one (a new meter epoch), \
         else check address and unit id"
    );
}

/// A simulated meter on a port of its own.
async fn simulated() -> (SimulatedMeter, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let simulated = SimulatedMeter::new(MeterSerial::new("21040123").unwrap());
    tokio::spawn(simulated.clone().serve(listener, std::future::pending()));
    (simulated, address)
}

/// What `mbpoll` prints for each value it read, keyed by its one-based reference.
async fn mbpoll(address: SocketAddr, arguments: &[&str]) -> Vec<String> {
    let port = address.port().to_string();
    let fixed = ["-m", "tcp", "-p", &port, "-a", "1", "-1", "-q"];
    let all: Vec<String> =
        fixed.iter().chain(arguments).chain(&["127.0.0.1"]).map(ToString::to_string).collect();
    let run = tokio::task::spawn_blocking(move || Command::new("mbpoll").args(all).output());
    let output =
        run.await.unwrap().expect("mbpoll is not installed; run `cargo xtask test`, which installs it");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "mbpoll failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| line.split_once("]:")).map(|(_, value)| value.trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mbpoll_reads_what_the_simulator_latched() {
    let (simulated, address) = simulated().await;
    simulated.set(3_456_789 * 4 + 3, 2_500 * 4, -5_231);
    let energies = mbpoll(address, &["-t", "3:float", "-B", "-r", "73", "-c", "2"]).await;
    let kwh: Vec<f64> = energies.iter().map(|value| value.parse().unwrap()).collect();
    // mbpoll prints six significant digits.
    assert!((kwh[0] - 3_456.789).abs() < 0.01 && (kwh[1] - 2.5).abs() < 1e-6, "{energies:?}");
    assert_eq!(mbpoll(address, &["-t", "3:float", "-B", "-r", "53", "-c", "1"]).await, ["-5231"]);
    assert_eq!(mbpoll(address, &["-t", "3:float", "-B", "-r", "1", "-c", "3"]).await, ["230", "230", "230"]);
    assert_eq!(mbpoll(address, &["-t", "4", "-r", "64513", "-c", "2"]).await, ["321", "3067"]);
    // The same registers, bit by bit: 3456.789 and 2.5 as single precision numbers.
    let words = mbpoll(address, &["-t", "3:hex", "-r", "73", "-c", "4"]).await;
    let bits =
        |kwh: f32| [format!("0x{:04X}", kwh.to_bits() >> 16), format!("0x{:04X}", kwh.to_bits() & 0xFFFF)];
    assert_eq!(words, [bits(3_456.789), bits(2.5)].concat());
}

/// Reads the boundary at the end of `number` as a node does: the very first registers twice.
async fn boundary_read(tracker: &mut BoundaryTracker, number: u64, meter: &Meter) -> Option<Reading> {
    let interval = Interval::from_index(1_628_640 + number, Mtu::Min15);
    let taken = TakenAt { time: interval.end(), monotonic_ms: number * 900_000, boot_id: [3; 16] };
    for _ in 0..2 {
        let sample = meter.read_energy(Duration::from_secs(3)).await.ok()?;
        let observation = Observation::of(sample, taken, ClockQuality::Synced).unwrap();
        if tracker.observe(observation) != Err(Hold::First) {
            break;
        }
    }
    tracker.reading(interval).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unplugged_meter_leaves_a_gap_and_loses_no_energy() {
    let (simulated, address) = simulated().await;
    let meter = meter_at(address, "eastron-sdm630", Duration::from_millis(500));
    let config = TrackerConfig { registered: None, mtu: Mtu::Min15, limits: CounterLimits::default() };
    let mut tracker = BoundaryTracker::new(config, None);
    let (mut quarters, mut booked, mut qualities) = (4_000_000, 0, Vec::new());
    for number in 0..8 {
        quarters += 1_001;
        simulated.set(quarters, 0, 1_001);
        simulated.unplug((3..5).contains(&number));
        let Some(reading) = boundary_read(&mut tracker, number, &meter).await else {
            qualities.push(None);
            continue;
        };
        booked += tracker.energy_of(&reading).map_or(0, |energy| energy.import.get());
        qualities.push(Some(reading.quality));
        tracker.recorded(&reading, [0; 32]);
    }
    let (good, gap) = (Some(Quality::Good), Some(Quality::Gap));
    assert_eq!(qualities, [good, good, good, None, None, gap, good, good]);
    assert_eq!(booked, quarters / 4 - (4_000_000 + 1_001) / 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_meter_is_read_again_within_five_seconds_of_its_return() {
    let (simulated, address) = simulated().await;
    let meter = meter_at(address, "eastron-sdm630", Duration::from_millis(500));
    simulated.set(0, 0, 100);
    assert_eq!(meter.read_live(AMPLE).await.unwrap().power_w, 100);
    simulated.unplug(true);
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(6) {
        assert!(meter.read_live(Duration::from_secs(2)).await.is_err(), "a value from a frozen meter");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    simulated.set(0, 0, 200);
    simulated.unplug(false);
    let back = Instant::now();
    loop {
        match meter.read_live(Duration::from_secs(2)).await {
            Ok(live) => break assert_eq!(live.power_w, 200),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        assert!(back.elapsed() < Duration::from_secs(5), "not read again after {:?}", back.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_read_one_simulated_meter_and_shutdown_ends_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let simulated = SimulatedMeter::new(MeterSerial::new("7").unwrap());
    simulated.set(400_000, 8_000, 250);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(simulated.serve(listener, async { stopped.await.unwrap_or(()) }));
    let meters: Vec<Meter> = (0..32).map(|_| meter_at(address, "eastron-sdm630", TIMEOUT)).collect();
    for meter in &meters {
        let energy = meter.read_energy(AMPLE).await.unwrap();
        assert_eq!(
            (energy.import, energy.export),
            (Some(WattHours::new(100_000)), Some(WattHours::new(2_000)))
        );
        assert_eq!(meter.read_live(AMPLE).await.unwrap().power_w, 250);
    }
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    assert!(
        meters[0].read_energy(Duration::from_secs(2)).await.is_err(),
        "a value from a meter that was shut down"
    );
}
