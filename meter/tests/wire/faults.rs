//! A device that answers late, short, cut, to another question, or not at all: always a typed error, never a wrong
//! value, and the right value again as soon as it behaves.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use energy::WattHours;
use meter::{Bus, BusConfig, Endpoint, Meter, MeterError, Profile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{AMPLE, meter_at};

/// Long for a device on this machine, however busy it is.
const TIMEOUT: Duration = Duration::from_millis(500);

/// What the device does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Right,
    /// The right answer, after the client has given up.
    Late,
    /// Two registers fewer, or more, than asked for.
    Short,
    Long,
    /// The right answer without its last two bytes.
    Cut,
    /// The right answer to another transaction.
    OtherTransaction,
    /// The right answer from another unit.
    OtherUnit,
    /// Bytes that are no Modbus at all.
    Noise,
    /// Closes the connection.
    Close,
    /// Refuses with this exception code.
    Exception(u8),
    /// Accepts the question and says nothing.
    Nothing,
}

/// A device with the energy registers of an SDM630 holding 3456.789 and 2.5 kWh, scripted by what it does with the
/// n-th energy request; the serial number is always answered. After the script it behaves.
struct Device {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    /// Function and length of every request.
    shapes: Shapes,
}

type Shapes = Arc<Mutex<Vec<(u8, u8)>>>;

impl Device {
    async fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let shapes = Shapes::default();
        let device = Self {
            address,
            asked: Arc::clone(&asked),
            connections: Arc::clone(&connections),
            shapes: Arc::clone(&shapes),
        };
        let script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&asked), Arc::clone(&shapes)));
            }
        });
        device
    }

    fn meter(&self) -> Meter {
        meter_at(self.address, "eastron-sdm630", TIMEOUT)
    }

    /// Answers that are told apart by nothing but their length never follow each other.
    fn assert_no_two_alike_in_a_row(&self) {
        let shapes = self.shapes.lock().unwrap();
        assert!(shapes.len() > 2 && shapes.windows(2).all(|pair| pair[0] != pair[1]), "{shapes:?}");
    }

    /// The settings of a bus that leads to it.
    fn bus(&self) -> BusConfig {
        BusConfig { timeout: TIMEOUT, ..BusConfig::new(Endpoint::Tcp(self.address.into())) }
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Vec<Act>>, asked: Arc<AtomicUsize>, shapes: Shapes) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).await.is_ok() {
        shapes.lock().unwrap().push((request[7], request[11]));
        let is_serial = request[7] == 3;
        let act = if is_serial {
            Act::Right
        } else {
            script.get(asked.fetch_add(1, Ordering::SeqCst)).copied().unwrap_or(Act::Right)
        };
        if act == Act::Late {
            tokio::time::sleep(TIMEOUT * 2).await;
        }
        let answer = answer(&request, act);
        if stream.write_all(&answer).await.is_err() || act == Act::Close {
            return;
        }
    }
}

/// The bytes of the answer to `request`.
fn answer(request: &[u8; 12], act: Act) -> Vec<u8> {
    let (transaction, unit, function) = ([request[0], request[1]], request[6], request[7]);
    let mut words: Vec<u16> = if function == 3 {
        vec![321, 3067]
    } else {
        [3_456.789f32, 2.5]
            .iter()
            .flat_map(|kwh| [kwh.to_bits() >> 16, kwh.to_bits() & 0xFFFF])
            .map(|it| u16::try_from(it).unwrap())
            .collect()
    };
    words.resize(usize::from(request[11]), 0);
    match act {
        Act::Nothing | Act::Close => return Vec::new(),
        Act::Noise => return b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        Act::Exception(code) => return frame(transaction, unit, &[function | 0x80, code]),
        Act::Short => words.truncate(2),
        Act::Long => words.extend([0, 0]),
        _ => {}
    }
    let mut body = vec![function, u8::try_from(words.len() * 2).unwrap()];
    body.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    match act {
        Act::OtherTransaction => frame([transaction[0] ^ 0x40, transaction[1]], unit, &body),
        Act::OtherUnit => frame(transaction, unit ^ 3, &body),
        Act::Cut => {
            let whole = frame(transaction, unit, &body);
            whole[..whole.len() - 2].to_vec()
        }
        _ => frame(transaction, unit, &body),
    }
}

fn frame(transaction: [u8; 2], unit: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 1).unwrap().to_be_bytes();
    [&transaction[..], &[0, 0], &length, &[unit], body].concat()
}

/// The right registers, from a device that behaves again.
async fn assert_right(meter: &Meter) {
    let energy = meter.read_energy(AMPLE).await.unwrap();
    assert_eq!(
        (energy.import, energy.export),
        (Some(WattHours::new(3_456_789)), Some(WattHours::new(2_500)))
    );
}

/// The error of a read whose two attempts both meet `act`, and the right value right after it, each on a connection of
/// its own; and that one such fault costs no read.
async fn error_of(act: Act) -> MeterError {
    let device = Device::start(vec![act; 2]).await;
    let meter = device.meter();
    let error = meter.read_energy(AMPLE).await.unwrap_err();
    let began = Instant::now();
    assert_right(&meter).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let connections = device.connections.load(Ordering::SeqCst);
    assert_eq!(connections, 3, "after {act:?} the connection must be a fresh one");
    let once = Device::start(vec![act]).await;
    assert_right(&once.meter()).await;
    assert_eq!(
        once.connections.load(Ordering::SeqCst),
        2,
        "the first failure is followed by another try at once"
    );
    error
}

#[tokio::test]
async fn a_late_answer_is_silence_and_never_the_answer_to_the_next_question() {
    assert!(matches!(error_of(Act::Late).await, MeterError::Silent { unit: 1, waited_ms: 500, .. }));
}

#[tokio::test]
async fn an_answer_of_another_length_is_discarded() {
    assert!(matches!(error_of(Act::Short).await, MeterError::BadLength { register: 0x48, got: 2, .. }));
    assert!(matches!(error_of(Act::Long).await, MeterError::BadLength { register: 0x48, asked: 4, got: 6 }));
}

#[tokio::test]
async fn a_cut_answer_noise_and_no_answer_are_told_apart() {
    assert!(matches!(error_of(Act::Noise).await, MeterError::Noise { bytes: 28, .. }));
    assert!(matches!(error_of(Act::Cut).await, MeterError::Broken { .. }));
    assert!(matches!(error_of(Act::Nothing).await, MeterError::Silent { .. }));
}

#[tokio::test]
async fn an_answer_to_another_question_breaks_the_connection() {
    for act in [Act::OtherTransaction, Act::OtherUnit, Act::Close] {
        let error = error_of(act).await;
        assert!(matches!(error, MeterError::Broken { .. }), "{act:?}: {error:?}");
    }
}

fn meter_on(bus: &Bus) -> Meter {
    Meter::on(bus, 1, Profile::by_name("eastron-sdm630").unwrap(), None)
}

#[tokio::test]
async fn a_gateway_with_ids_of_its_own_is_read_only_if_its_owner_says_so() {
    for act in [Act::OtherTransaction, Act::OtherUnit] {
        let device = Device::start(vec![act; 9]).await;
        let lenient = Bus::open(BusConfig { lenient_header: true, ..device.bus() });
        let meter = meter_on(&lenient);
        for _ in 0..4 {
            assert_right(&meter).await;
        }
        assert_eq!(lenient.report().connections, 1);
        device.assert_no_two_alike_in_a_row();
        drop((meter, lenient));
        let error = meter_on(&Bus::open(device.bus())).read_energy(AMPLE).await.unwrap_err();
        assert!(matches!(error, MeterError::Broken { .. }), "{act:?}: {error}");
        assert!(error.to_string().contains("a gateway that alters transaction or unit ids"), "{error}");
    }
}

#[tokio::test]
async fn after_a_gateway_gave_up_its_next_answer_is_not_taken_for_the_one_awaited() {
    let device = Device::start(vec![Act::Exception(0x0B)]).await;
    let bus = Bus::open(device.bus());
    let meter = meter_on(&bus);
    let error = meter.read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Refused { code: 0x0B, .. }), "{error}");
    assert!(error.to_string().contains("the gateway cannot reach that unit"), "{error}");
    assert_right(&meter).await;
    assert_eq!(bus.report().connections, 1);
    device.assert_no_two_alike_in_a_row();
}

#[tokio::test]
async fn a_device_that_needs_time_after_connecting_gets_it_whatever_the_deadline() {
    let device = Device::start(Vec::new()).await;
    let meter = meter_on(&Bus::open(BusConfig { connect_delay: Duration::from_millis(400), ..device.bus() }));
    let error = meter.read_energy(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, MeterError::Late { .. }), "{error}");
    assert_eq!(device.asked.load(Ordering::SeqCst), 0, "nothing is asked before");
    assert_right(&meter).await;
    assert_eq!(device.connections.load(Ordering::SeqCst), 1, "the connection made before is used");
}

#[tokio::test]
async fn the_values_of_one_bus_are_read_by_one_connection_whoever_asks() {
    let device = Device::start(Vec::new()).await;
    let meters: Vec<Meter> = (0..5).map(|_| device.meter()).collect();
    for meter in &meters {
        assert_right(meter).await;
    }
    assert_eq!(device.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refusal_keeps_the_connection() {
    let device = Device::start(vec![Act::Exception(2)]).await;
    let meter = device.meter();
    let error = meter.read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Refused { function: 4, register: 0x48, code: 2 }), "{error:?}");
    assert_right(&meter).await;
    assert_eq!(device.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_busy_meter_is_asked_again_within_the_deadline_and_no_longer() {
    let device = Device::start(vec![Act::Exception(6), Act::Exception(5)]).await;
    let began = Instant::now();
    assert_right(&device.meter()).await;
    assert!(began.elapsed() >= Duration::from_millis(500), "two pauses of 250 ms");
    assert_eq!((device.asked.load(Ordering::SeqCst), device.connections.load(Ordering::SeqCst)), (3, 1));

    let device = Device::start(vec![Act::Exception(6); 100]).await;
    let error = device.meter().read_energy(Duration::from_millis(600)).await.unwrap_err();
    assert!(matches!(error, MeterError::Refused { code: 6, .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_died_unnoticed_costs_no_read() {
    let device = Device::start(vec![Act::Right, Act::Close]).await;
    let meter = device.meter();
    assert_right(&meter).await;
    assert_right(&meter).await;
    assert_eq!(device.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_failing_meter_is_left_alone_for_live_reads_but_not_at_a_boundary() {
    let device = Device::start(vec![Act::Nothing; 4]).await;
    let meter = device.meter();
    assert!(matches!(meter.read_live(AMPLE).await, Err(MeterError::Silent { .. })));
    let asked = device.asked.load(Ordering::SeqCst);
    let error = meter.read_live(AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Resting { failures: 1, .. }), "{error:?}");
    assert_eq!(device.asked.load(Ordering::SeqCst), asked, "left alone");
    assert!(matches!(meter.read_energy(AMPLE).await, Err(MeterError::Silent { .. })));
    assert!(device.asked.load(Ordering::SeqCst) > asked);
}

#[tokio::test]
async fn a_port_without_a_listener_is_unreachable_with_the_likely_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = meter_at(address, "eastron-sdm630", TIMEOUT).read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(error, MeterError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("nothing listens on that port"), "{error}");
}

#[tokio::test]
async fn a_request_never_outlives_its_deadline_and_the_queue_is_bounded() {
    let device = Device::start(vec![Act::Nothing; 1_000]).await;
    let meter = meter_at(device.address, "eastron-sdm630", AMPLE);
    let began = Instant::now();
    let reads: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let meter = meter.clone();
                async move { meter.read_energy(Duration::from_millis(400)).await }
            })
        })
        .collect();
    let mut busy = 0;
    for read in reads {
        match read.await.unwrap().unwrap_err() {
            MeterError::Busy { waiting: 8, .. } => busy += 1,
            MeterError::Late { .. } | MeterError::Silent { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!((1..20).contains(&busy), "{busy} refused");
}

/// A hundred reads of a device that misbehaves at every other one: each is right or an error.
#[tokio::test]
async fn no_value_read_from_a_misbehaving_meter_is_ever_wrong() {
    let bad = [
        Act::Late,
        Act::Short,
        Act::Cut,
        Act::OtherTransaction,
        Act::Close,
        Act::Long,
        Act::Noise,
        Act::Exception(4),
    ];
    let script: Vec<Act> =
        (0..100).map(|n| if n % 2 == 0 { Act::Right } else { bad[n / 2 % bad.len()] }).collect();
    let device = Device::start(script).await;
    let meter = device.meter();
    let (mut right, mut failed) = (0, 0);
    while device.asked.load(Ordering::SeqCst) < 100 {
        match meter.read_energy(AMPLE).await {
            Ok(energy) => {
                assert_eq!(
                    (energy.import, energy.export),
                    (Some(WattHours::new(3_456_789)), Some(WattHours::new(2_500)))
                );
                right += 1;
            }
            Err(_) => failed += 1,
        }
    }
    assert!(right >= 50 && failed >= 5, "{right} right, {failed} failed");
    assert!(device.connections.load(Ordering::SeqCst) > 30, "nearly every fault ends its connection");
}

/// A gateway whose answers all carry another transaction id than the question.
async fn gateway_with_ids_of_its_own(lenient_header: bool) -> Meter {
    use meter::simulator::{Fault, FaultPlan, SimulatedMeter};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().into());
    let device = SimulatedMeter::new(energy::MeterSerial::new("21040123").unwrap());
    device.set(5_000 * 4, 700 * 4, -120);
    device.schedule(FaultPlan::seeded(1).with(Fault::WrongTransaction, 1_000));
    tokio::spawn(device.serve(listener, std::future::pending()));
    let profile = Profile::by_name("eastron-sdm630").unwrap();
    let bus = BusConfig { lenient_header, ..BusConfig::for_profile(endpoint, &profile) };
    Meter::spawn(meter::MeterConfig { bus, unit: 1, profile, nameplate: None })
}

#[tokio::test]
async fn a_gateway_with_ids_of_its_own_is_refused_unless_it_is_configured() {
    let strict = gateway_with_ids_of_its_own(false).await;
    let error = strict.read_energy(Duration::from_secs(3)).await.unwrap_err();
    assert!(matches!(error, MeterError::Broken { .. }), "{error}");
    let lenient = gateway_with_ids_of_its_own(true).await;
    for _ in 0..3 {
        let energy = lenient.read_energy(Duration::from_secs(5)).await.unwrap();
        assert_eq!((energy.import, energy.export), (Some(WattHours::new(5_000)), Some(WattHours::new(700))));
        assert_eq!(lenient.read_live(Duration::from_secs(5)).await.unwrap().power_w, -120);
    }
}
