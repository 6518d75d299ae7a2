//! Our servers, read by programs that nobody here wrote: a shared meter, and simulated meters of any model.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use energy::{MeterSerial, WattHours};
use meter::serve::{Share, ShareConfig};
use meter::simulator::{Fault, FaultPlan, Framing, SimulatedBus, SimulatedMeter};
use meter::{Bus, BusConfig, Endpoint, Meter, MeterError, Profile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_serial::SerialPortBuilderExt;

use crate::support::{AMPLE, meter_at, python};

/// No value of the shared meters here may be older.
const AGE_MAX: Duration = Duration::from_millis(300);

fn serial() -> MeterSerial {
    MeterSerial::new("21040123").unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A simulated SDM630 and where it is.
async fn simulated() -> (SimulatedMeter, SocketAddr) {
    let (listener, address) = listener().await;
    let meter = SimulatedMeter::new(serial());
    tokio::spawn(meter.clone().serve(listener, std::future::pending()));
    (meter, address)
}

/// A shared meter in front of the device at `device`, for at most `clients_max`.
async fn shared(device: SocketAddr, clients_max: usize) -> SocketAddr {
    let (listener, address) = listener().await;
    let units = BTreeMap::from([(1, None)]);
    let deadline = Duration::from_millis(400);
    let config = ShareConfig { age_max: AGE_MAX, deadline, clients_max, ..ShareConfig::new(units) };
    let timeout = Duration::from_millis(200);
    let bus = Bus::open(BusConfig { timeout, ..BusConfig::new(Endpoint::Tcp(device.into())) });
    let share = Share::new(bus, config);
    tokio::spawn(async move { share.serve(listener, std::future::pending()).await });
    address
}

/// What a program prints, with an error for whatever it ends with.
async fn output_of(mut command: Command) -> Result<String, String> {
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run.await.unwrap().expect("not installed; run `cargo xtask setup`, which installs it");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() { Ok(out) } else { Err(out + &error) }
}

/// What `mbpoll` prints for each value it read, or its complaint.
async fn mbpoll(address: SocketAddr, arguments: &[&str]) -> Result<Vec<String>, String> {
    let mut command = Command::new("mbpoll");
    command.args(["-m", "tcp", "-p", &address.port().to_string(), "-a", "1", "-1", "-q"]);
    command.args(arguments).arg("127.0.0.1");
    let text = output_of(command).await?;
    let values = text.lines().filter_map(|line| line.split_once("]:"));
    Ok(values.map(|(_, value)| value.trim().to_owned()).collect())
}

/// What pymodbus gets from our server.
async fn pymodbus(framing: &str, address: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(python());
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/modbus_client.py"));
    command.args([framing, &address.port().to_string()]).args(arguments);
    output_of(command).await.unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn mbpoll_and_pymodbus_read_a_shared_meter_at_the_devices_own_registers() {
    let (meter, device) = simulated().await;
    meter.set(4_000_000, 8_000, -5_231);
    let address = shared(device, 4).await;
    let kwh = mbpoll(address, &["-t", "3:float", "-B", "-r", "73", "-c", "2"]).await;
    assert_eq!(kwh, Ok(vec!["1000".to_owned(), "2".to_owned()]));
    assert_eq!(mbpoll(address, &["-t", "4", "-r", "64513", "-c", "2"]).await.unwrap(), ["321", "3067"]);
    let words = pymodbus("tcp", address, &["read", "1", "4", "72", "4"]).await;
    let direct = pymodbus("tcp", device, &["read", "1", "4", "72", "4"]).await;
    assert_eq!((words.as_str(), direct.as_str()), ("17530 0 16384 0", "17530 0 16384 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_meter_refuses_every_function_but_the_two_reads() {
    let (meter, device) = simulated().await;
    meter.set(4_000_000, 0, 100);
    let address = shared(device, 4).await;
    for server in [address, device] {
        let told = pymodbus("tcp", server, &["others", "1"]).await;
        let answers: Vec<_> = told.lines().map(|line| line.split_once(' ').unwrap()).collect();
        assert_eq!(answers.len(), 10, "{told}");
        assert!(answers.iter().all(|(_, told)| *told == "EXCEPTION 1"), "{told}");
    }
    let mut write = Command::new("mbpoll");
    write.args(["-m", "tcp", "-p", &address.port().to_string(), "-r", "1", "127.0.0.1", "42"]);
    let refused = output_of(write).await;
    assert!(refused.as_ref().is_err_and(|told| told.contains("Illegal function")), "{refused:?}");
    let other_unit = pymodbus("tcp", address, &["read", "2", "4", "72", "4"]).await;
    assert_eq!(other_unit, "EXCEPTION 10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_meter_that_is_away_is_an_exception_and_never_an_old_value() {
    let (meter, device) = simulated().await;
    let address = shared(device, 4).await;
    let read = async || pymodbus("tcp", address, &["read", "1", "4", "52", "2"]).await;
    meter.set(0, 0, 1_000);
    assert_eq!(read().await, "17530 0");
    meter.unplug(true);
    tokio::time::sleep(AGE_MAX).await;
    assert_eq!(read().await, "EXCEPTION 11");
    meter.set(0, 0, 2);
    meter.unplug(false);
    tokio::time::sleep(AGE_MAX).await;
    assert_eq!(read().await, "16384 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_too_many_takes_the_place_of_the_one_that_asked_last_longest_ago() {
    let (meter, device) = simulated().await;
    meter.set(0, 0, 2);
    let address = shared(device, 2).await;
    let request = [0, 1, 0, 0, 0, 6, 1, 4, 0, 0x34, 0, 2];
    let answered = async |stream: &mut TcpStream| {
        stream.write_all(&request).await.is_ok() && stream.read_exact(&mut [0; 13]).await.is_ok()
    };
    let mut first = TcpStream::connect(address).await.unwrap();
    assert!(answered(&mut first).await);
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(answered(&mut second).await);
    assert!(answered(&mut first).await);
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(answered(&mut third).await);
    let ended = tokio::time::timeout(AMPLE, second.read(&mut [0; 1])).await.expect("still held");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(answered(&mut first).await && answered(&mut third).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn pymodbus_reads_several_simulated_models_on_one_rtu_wire() {
    let of = |profile: &str| SimulatedMeter::of(Profile::by_name(profile).unwrap(), serial());
    let (sdm, abb, sunspec) = (of("eastron-sdm630"), of("abb-b23"), of("sunspec-203"));
    sdm.set(4_000_000, 8_000, 0);
    abb.set(4_000_000, 8_000, 0);
    sunspec.set(4_000_000, 8_000, 0);
    let bus = SimulatedBus::new().with(3, sdm).with(7, abb).with(9, sunspec);
    let (listener, address) = listener().await;
    tokio::spawn(async move { bus.serve(listener, Framing::Rtu, std::future::pending()).await.unwrap() });
    let read = async |arguments: &[&str]| pymodbus("rtu-tcp", address, arguments).await;
    assert_eq!(read(&["read", "3", "4", "72", "4"]).await, "17530 0 16384 0");
    assert_eq!(read(&["read", "7", "3", "20480", "8"]).await, "0 0 1 34464 0 0 0 200");
    assert_eq!(read(&["read", "9", "3", "40000", "4"]).await, "21365 28243 1 66");
    assert_eq!(read(&["read", "3", "4", "200", "2"]).await, "EXCEPTION 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_built_in_model_can_be_simulated_and_all_share_one_wire() {
    let serial = MeterSerial::new("4711").unwrap();
    let profiles: Vec<(u8, &Arc<Profile>)> = (1..).zip(Profile::builtin()).collect();
    let bus = profiles.iter().fold(SimulatedBus::new(), |bus, (unit, profile)| {
        let meter = SimulatedMeter::of(Arc::clone(profile), serial.clone());
        meter.set(4 * (100_000 + 10_000 * u64::from(*unit)), 4 * 70_000, 3_000);
        bus.with(*unit, meter)
    });
    let (listener, address) = listener().await;
    tokio::spawn(async move { bus.serve(listener, Framing::Tcp, std::future::pending()).await.unwrap() });
    let bus = Bus::open(BusConfig::new(Endpoint::Tcp(address.into())));
    for (unit, profile) in profiles {
        let nameplate = (!profile.has_serial()).then(|| serial.clone());
        let meter = Meter::on(&bus, unit, Arc::clone(profile), nameplate);
        let sample =
            meter.read_energy(AMPLE).await.unwrap_or_else(|error| panic!("{}: {error}", profile.name()));
        assert_eq!(sample.serial, serial, "{}", profile.name());
        let wanted = [100_000 + 10_000 * u64::from(unit), 70_000];
        for (got, wanted) in [sample.import, sample.export].into_iter().zip(wanted) {
            let off = got.map_or(0, |got| got.get().abs_diff(wanted));
            assert!(off < sample.quantum.get().max(2), "{}: {got:?} for {wanted}", profile.name());
        }
        assert_eq!(meter.read_live(AMPLE).await.unwrap().power_w, 3_000, "{}", profile.name());
    }
}

/// The program, killed with this value.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mbpoll_reads_a_simulated_meter_on_a_serial_line() {
    let folder = tempfile::tempdir().unwrap();
    let (near, far) = (folder.path().join("near"), folder.path().join("far"));
    let end = |path: &std::path::Path| format!("pty,raw,echo=0,link={}", path.display());
    let socat = Command::new("socat").args([end(&near), end(&far)]).spawn();
    let _socat = Killed(socat.expect("socat is not installed; run `cargo xtask setup`, which installs it"));
    let begun = Instant::now();
    while !(near.exists() && far.exists()) {
        assert!(begun.elapsed() < AMPLE, "socat laid no line");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let line = tokio_serial::new(near.to_string_lossy(), 9_600).open_native_async().unwrap();
    let meter = SimulatedMeter::new(serial());
    meter.set(4_000_000, 8_000, 100);
    let bus = SimulatedBus::new().with(5, meter);
    tokio::spawn(bus.serve_stream(line, Framing::Rtu, std::future::pending()));
    let mut command = Command::new("mbpoll");
    command.args(["-m", "rtu", "-b", "9600", "-P", "none", "-a", "5"]);
    command.args(["-t", "3:float", "-B", "-r", "73", "-c", "2", "-1", "-q"]).arg(&far);
    let text = output_of(command).await.unwrap();
    let values: Vec<_> = text.lines().filter_map(|line| line.split_once("]:")).collect();
    assert_eq!(values.iter().map(|(_, value)| value.trim()).collect::<Vec<_>>(), ["1000", "2"], "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_glitch_a_reset_and_an_exchange_look_to_the_client_as_on_a_real_meter() {
    let (simulated, address) = simulated().await;
    let meter = meter_at(address, "eastron-sdm630", Duration::from_secs(2));
    let import = async || meter.read_energy(AMPLE).await.map(|sample| sample.import.unwrap());
    simulated.set(4_000_000, 0, 100);
    assert_eq!(import().await.unwrap(), WattHours::new(1_000_000));
    simulated.glitch_to_zero(1);
    assert_eq!(import().await.unwrap(), WattHours::new(0));
    assert_eq!(import().await.unwrap(), WattHours::new(1_000_000));
    simulated.reset();
    simulated.set(4_000_400, 0, 100);
    assert_eq!(import().await.unwrap(), WattHours::new(100));
    simulated.unplug(true);
    assert!(meter.read_energy(Duration::from_millis(200)).await.is_err(), "a value from an unplugged meter");
    simulated.exchange(MeterSerial::new("777").unwrap(), WattHours::new(5_000), WattHours::new(0));
    simulated.unplug(false);
    let other = import().await.unwrap_err();
    assert!(matches!(&other, MeterError::WrongSerial { found, .. } if found.as_str() == "777"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_simulated_meter_does_wrong_the_client_gives_the_right_value_or_none() {
    let (simulated, address) = simulated().await;
    simulated.set(4_000_000, 8_000, 100);
    let meter = meter_at(address, "eastron-sdm630", Duration::from_millis(150));
    let plan = [
        (Fault::Late(Duration::from_millis(100)), 60),
        (Fault::Late(Duration::from_millis(250)), 40),
        (Fault::Lost, 30),
        (Fault::Cut, 30),
        (Fault::Corrupted, 30),
        (Fault::WrongTransaction, 30),
        (Fault::WrongUnit, 30),
        (Fault::Short, 30),
        (Fault::Long, 30),
        (Fault::Busy, 30),
        (Fault::Trickled(Duration::from_millis(1)), 30),
        (Fault::Twice, 30),
        (Fault::Closed, 30),
    ];
    let all = plan.iter().fold(FaultPlan::seeded(3), |all, (fault, share)| all.with(*fault, *share));
    simulated.schedule(all);
    let (mut right, mut absent) = (0, 0);
    for _ in 0..150 {
        match meter.read_energy(Duration::from_secs(1)).await {
            Ok(sample) => {
                assert_eq!(sample.import, Some(WattHours::new(1_000_000)));
                assert_eq!(sample.export, Some(WattHours::new(2_000)));
                right += 1;
            }
            Err(_) => absent += 1,
        }
    }
    assert!(right > 50 && absent > 0, "{right} right, {absent} absent: the plan did nothing");
    simulated.schedule(FaultPlan::default());
    assert!(meter.read_energy(AMPLE).await.is_ok());
}
