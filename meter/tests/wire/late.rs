//! A line without transaction ids whose answers come late, twice, cut, damaged, joined, from another unit or never:
//! whatever is taken for a value is the answer to the question asked for it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use meter::{Bus, BusConfig, Endpoint, Meter, MeterError, Profile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use crate::support::{AMPLE, rtu_frame};

/// Short, so that many answers come later.
const TIMEOUT: Duration = Duration::from_millis(120);

/// What becomes of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Right,
    /// Kept back this long; the unit does nothing else meanwhile.
    Late(u64),
    Lost,
    Cut,
    Damaged,
    /// Sent twice in one go, and once more a moment later.
    Twice,
    /// From another unit.
    OtherUnit,
    /// Two registers more.
    Long,
    /// After bytes that belong to nothing.
    AfterNoise,
    Exception(u8),
    /// The question itself, and no answer.
    Echo,
    /// The question itself, and the right answer.
    EchoAndRight,
}

/// Units on one line behind a gateway that passes bytes through: what a unit says reaches whoever is connected by then.
/// Its energy register and its power are the number of the request, so that every old answer shows.
pub struct LineUnits {
    pub address: SocketAddr,
    /// Requests taken off the line so far.
    pub asked: Arc<AtomicU32>,
    /// Unit, function and length of every request.
    shapes: Shapes,
}

type Shapes = Arc<std::sync::Mutex<Vec<[u8; 3]>>>;

impl LineUnits {
    /// `acts` in turn, then right answers. Units other than 1 to 4 do not exist.
    pub async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let (requests, inbox) = mpsc::unbounded_channel();
        let line = Arc::new(Mutex::new(None));
        let acts: VecDeque<Act> = acts.into_iter().collect();
        let shapes = Shapes::default();
        let noted = Arc::clone(&shapes);
        tokio::spawn(answer_all(inbox, acts, Arc::clone(&line), Arc::clone(&asked)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut from, to) = TcpStream::into_split(stream);
                *line.lock().await = Some(to);
                let (requests, noted) = (requests.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    let mut request = [0; 8];
                    while from.read_exact(&mut request).await.is_ok() {
                        noted.lock().unwrap().push([request[0], request[1], request[5]]);
                        requests.send(request).unwrap();
                    }
                });
            }
        });
        Self { address, asked, shapes }
    }

    /// The bus that leads to it.
    pub fn bus(&self) -> Bus {
        let endpoint = Endpoint::RtuOverTcp(self.address.into());
        Bus::open(BusConfig { timeout: TIMEOUT, ..BusConfig::new(endpoint) })
    }
}

type Line = Arc<Mutex<Option<OwnedWriteHalf>>>;

async fn answer_all(
    mut inbox: mpsc::UnboundedReceiver<[u8; 8]>,
    mut acts: VecDeque<Act>,
    line: Line,
    asked: Arc<AtomicU32>,
) {
    while let Some(request) = inbox.recv().await {
        if !(1..=4).contains(&request[0]) {
            continue;
        }
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        let act = acts.pop_front().unwrap_or(Act::Right);
        if let Act::Late(ms) = act {
            sleep(Duration::from_millis(ms)).await;
        }
        let bytes = bytes_of(request, number, act);
        say(&line, &bytes).await;
        if act == Act::Twice {
            sleep(Duration::from_millis(3)).await;
            say(&line, &bytes).await;
        }
    }
}

async fn say(line: &Line, bytes: &[u8]) {
    if let Some(to) = line.lock().await.as_mut() {
        // Whoever went away hears nothing.
        let _ = to.write_all(bytes).await;
    }
}

fn bytes_of(request: [u8; 8], number: u32, act: Act) -> Vec<u8> {
    let [unit, function, _, address, _, count, ..] = request;
    let count = u16::from(count) + if act == Act::Long { 2 } else { 0 };
    let words: Vec<u16> =
        (0..count).map(|offset| word(function, u16::from(address) + offset, number)).collect();
    let mut pdu = vec![unit, function, u8::try_from(2 * count).unwrap()];
    pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    let right = rtu_frame(&pdu);
    match act {
        Act::Right | Act::Late(_) | Act::Long => right,
        Act::Lost => Vec::new(),
        Act::Cut => right[..right.len() - 2].to_vec(),
        Act::Damaged => [&right[..right.len() - 1], &[right[right.len() - 1] ^ 0x5A]].concat(),
        Act::Twice => [&right[..], &right].concat(),
        Act::OtherUnit => rtu_frame(&[&[unit + 1], &pdu[1..]].concat()),
        Act::AfterNoise => [&[0xFF; 9][..], &right].concat(),
        Act::Exception(code) => rtu_frame(&[unit, function | 0x80, code]),
        Act::Echo => request.to_vec(),
        Act::EchoAndRight => [&request[..], &right].concat(),
    }
}

/// Registers of an SDM630 that has counted `number` Wh and shows `number` W.
fn word(function: u8, address: u16, number: u32) -> u16 {
    if function == 3 {
        return [321, 3067][usize::from(address & 1)];
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of requests are small")]
    let number = number as f32;
    let value = match address & !1 {
        0 | 2 | 4 => 230.0,
        0x34 => number,
        0x46 => 50.0,
        0x48 | 0x4A => number / 1000.0,
        _ => 0.0,
    };
    let bits: [u8; 4] = f32::to_be_bytes(value);
    let at = usize::from(address & 1) * 2;
    u16::from_be_bytes([bits[at], bits[at + 1]])
}

fn meter_on(bus: &Bus, unit: u8) -> Meter {
    Meter::on(bus, unit, Profile::by_name("eastron-sdm630").unwrap(), None)
}

/// Reads power or energy: the number of the request that was answered.
async fn read(meter: &Meter, energy: bool) -> Result<u32, MeterError> {
    let deadline = Duration::from_secs(3);
    let number = if energy {
        i64::try_from(meter.read_energy(deadline).await?.import.unwrap().get()).unwrap()
    } else {
        meter.read_live(deadline).await?.power_w
    };
    Ok(u32::try_from(number).unwrap())
}

/// Reads, and says whether there was a value. One that answers an older request fails the test.
async fn read_checked(units: &LineUnits, meter: &Meter, energy: bool, told: &str) -> bool {
    let before = units.asked.load(Ordering::SeqCst);
    match read(meter, energy).await {
        Ok(number) => {
            let after = units.asked.load(Ordering::SeqCst);
            assert!(
                number > before && number <= after,
                "{told}: the answer to request {number} came for {}",
                before + 1
            );
            true
        }
        Err(_) => false,
    }
}

/// Small, seeded, the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn act(&mut self) -> Act {
        match self.below(40) {
            0..=3 => Act::Late(self.below(150) + 30),
            4..=5 => Act::Late(self.below(900) + 100),
            6 => Act::Lost,
            7 => Act::Cut,
            8 => Act::Damaged,
            9 => Act::Twice,
            10 => Act::OtherUnit,
            11 => Act::Long,
            12 => Act::AfterNoise,
            13 => Act::Exception(6),
            14 => Act::Exception(2),
            _ => Act::Right,
        }
    }
}

/// One unit on a disturbed line, the same two registers again and again, with nothing read in between.
async fn disturbed_raw(seed: u64, time: Duration) -> (u32, u32) {
    let mut dice = Dice(seed);
    let acts: Vec<Act> = (0..10_000).map(|_| dice.act()).collect();
    let units = LineUnits::start(acts).await;
    let bus = units.bus();
    let (mut right, mut absent) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < time {
        let before = units.asked.load(Ordering::SeqCst);
        let Ok(words) = bus.read_raw(1, 4, 0x34, 2, Duration::from_secs(3)).await else {
            absent += 1;
            continue;
        };
        let power = f32::from_bits(u32::from(words[0]) << 16 | u32::from(words[1]));
        #[expect(clippy::cast_precision_loss, reason = "numbers of requests are small")]
        let asked = (before + 1) as f32;
        assert!(power >= asked, "seed {seed}: the answer to request {power} came for {asked}");
        right += 1;
    }
    (right, absent)
}

/// Two units on a disturbed line, power and energy by turns, for a while.
async fn disturbed(seed: u64, time: Duration) -> (u32, u32) {
    let mut dice = Dice(seed);
    let acts: Vec<Act> = (0..10_000).map(|_| dice.act()).collect();
    let units = LineUnits::start(acts).await;
    let bus = units.bus();
    let meters = [meter_on(&bus, 1), meter_on(&bus, 2)];
    let (mut right, mut absent) = (0, 0);
    let began = Instant::now();
    while began.elapsed() < time {
        let meter = &meters[usize::from(dice.below(3) == 0)];
        let told = format!("seed {seed}");
        if read_checked(&units, meter, dice.below(2) == 0, &told).await {
            right += 1;
        } else {
            absent += 1;
            sleep(Duration::from_millis(20)).await;
        }
    }
    (right, absent)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_on_a_disturbed_line_is_ever_taken_for_another() {
    let time = Duration::from_secs(12);
    let mut buses: Vec<_> = (1..=8).map(|seed| tokio::spawn(disturbed(seed, time))).collect();
    buses.extend((21..=28).map(|seed| tokio::spawn(disturbed_raw(seed, time))));
    let (mut right, mut absent) = (0, 0);
    for bus in buses {
        let (more_right, more_absent) = bus.await.unwrap();
        right += more_right;
        absent += more_absent;
    }
    assert!(right > 100 && absent > 50, "{right} right, {absent} absent: hardly a trial");
}

#[tokio::test]
async fn an_answer_later_than_the_line_is_drained_is_recognised_by_its_length() {
    // 120 ms of time-out and 300 ms of silence are over when it comes.
    let units = LineUnits::start([Act::Right, Act::Late(900)]).await;
    let bus = units.bus();
    let meter = meter_on(&bus, 1);
    for _ in 0..20 {
        read_checked(&units, &meter, false, "late").await;
        sleep(Duration::from_millis(20)).await;
    }
    assert!(read_checked(&units, &meter, true, "afterwards").await, "in step again");
}

#[tokio::test]
async fn no_two_requests_in_a_row_on_a_line_are_alike_and_each_unit_is_read() {
    let units = LineUnits::start([]).await;
    let bus = units.bus();
    let meters = [meter_on(&bus, 1), meter_on(&bus, 2), meter_on(&bus, 3)];
    for _ in 0..5 {
        for meter in &meters {
            assert!(read_checked(&units, meter, false, "in step").await);
        }
    }
    let several = bus.report();
    assert_eq!(
        (several.probes, several.failures, several.connections),
        (0, 0, 1),
        "units by turns need no probe"
    );
    for _ in 0..5 {
        assert!(read_checked(&units, &meters[0], false, "in step").await);
    }
    let report = bus.report();
    assert_eq!((report.requests, report.failures), (report.answers, 0));
    let shapes = units.shapes.lock().unwrap();
    assert!(shapes.windows(2).all(|pair| pair[0] != pair[1]), "{shapes:?}");
}

#[tokio::test]
async fn a_unit_that_is_not_there_costs_the_others_no_value() {
    let units = LineUnits::start([]).await;
    let bus = units.bus();
    let (here, away) = (meter_on(&bus, 1), meter_on(&bus, 9));
    let silent = away.read_energy(AMPLE).await.unwrap_err();
    assert!(matches!(silent, MeterError::Silent { unit: 9, .. }), "{silent}");
    assert!(read_checked(&units, &here, true, "beside a unit that is away").await);
    let resting = away.read_live(AMPLE).await.unwrap_err();
    assert!(matches!(resting, MeterError::Resting { .. }), "{resting}");
    assert!(read_checked(&units, &here, false, "beside a unit that rests").await);
}

#[tokio::test]
async fn the_echo_of_a_question_is_named_as_such() {
    for act in [Act::Echo, Act::EchoAndRight] {
        let units = LineUnits::start([act; 4]).await;
        let error = meter_on(&units.bus(), 1).read_energy(AMPLE).await.unwrap_err();
        assert!(matches!(error, MeterError::Echo { unit: 1, .. }), "{act:?}: {error}");
    }
}

#[tokio::test]
async fn registers_are_read_raw_and_never_a_late_answer() {
    let units = LineUnits::start([Act::Right, Act::Late(200)]).await;
    let bus = units.bus();
    assert_eq!(bus.read_raw(1, 3, 0xFC00, 2, AMPLE).await.unwrap(), [321, 3067]);
    assert!(matches!(bus.read_raw(1, 3, 0xFC00, 4, AMPLE).await, Err(MeterError::Silent { .. })));
    assert_eq!(bus.read_raw(1, 3, 0xFC00, 4, AMPLE).await.unwrap(), [321, 3067, 321, 3067]);
    assert!(
        matches!(bus.read_raw(1, 6, 0, 1, AMPLE).await, Err(MeterError::BadFunction(6))),
        "no way to write"
    );
    assert!(matches!(bus.read_raw(1, 3, 0, 126, AMPLE).await, Err(MeterError::BadSpan { count: 126, .. })));
    assert!(matches!(bus.read_raw(1, 3, 0xFFFF, 2, AMPLE).await, Err(MeterError::BadSpan { .. })));
}

#[tokio::test]
async fn one_place_has_one_transport() {
    let units = LineUnits::start([]).await;
    let bus = units.bus();
    let tcp = Bus::open(BusConfig::new(Endpoint::Tcp(units.address.into())));
    let error = tcp.read_raw(1, 3, 0xFC00, 2, AMPLE).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("{0} cannot be used while {0} (RTU over TCP) is", units.address)),
        "{error}"
    );
    let same = units.bus();
    same.read_raw(1, 3, 0xFC00, 2, AMPLE).await.unwrap();
    bus.read_raw(1, 3, 0xFC00, 4, AMPLE).await.unwrap();
    assert_eq!(bus.report().connections, 1, "handles to one place share its connection");
    drop((bus, same, tcp));
    let again = Bus::open(BusConfig::new(Endpoint::RtuOverTcp(units.address.into())));
    again.read_raw(1, 3, 0xFC00, 2, AMPLE).await.unwrap();
}
