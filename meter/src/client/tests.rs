use super::*;
use crate::endpoint::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A device with empty energy registers and, from the third time it is asked, another serial number.
async fn exchanged_under_the_hand() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut asked = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 12];
            while stream.read_exact(&mut request).await.is_ok() {
                let is_serial = request[7] == 3;
                asked += u8::from(is_serial);
                let body = if is_serial { vec![0, 0, 0, if asked < 3 { 7 } else { 8 }] } else { vec![0; 8] };
                let length = u8::try_from(body.len()).unwrap();
                let head = [request[0], request[1], 0, 0, 0, length + 3, request[6], request[7], length];
                stream.write_all(&[&head[..], &body].concat()).await.unwrap();
            }
        }
    });
    Endpoint::Tcp(address.into())
}

fn urgent(within: Duration) -> Read {
    Read { want: Want::Energy, urgent: true, fresh: false, deadline: Instant::now() + within }
}

fn sdm630() -> Arc<Profile> {
    Profile::by_name("eastron-sdm630").unwrap()
}

#[tokio::test]
async fn a_meter_exchanged_on_an_open_connection_is_told_once_and_never_read_under_the_old_number() {
    let timeout = Duration::from_secs(5);
    let bus = Bus::open(BusConfig { timeout, ..BusConfig::new(exchanged_under_the_hand().await) });
    let mut owner = Owner::new(bus, 1, sdm630(), None);
    owner.serial_every = Duration::ZERO;
    let mut read = async || owner.energy_sample(urgent(timeout)).await;
    assert_eq!(read().await.unwrap().serial.as_str(), "7");
    let error = read().await.unwrap_err();
    let MeterError::WrongSerial { expected, found } = error else { panic!("{error}") };
    assert_eq!((expected.as_str(), found.as_str()), ("7", "8"));
    assert_eq!(read().await.unwrap().serial.as_str(), "8");
}

/// A device with empty energy registers that has no holding registers.
async fn without_serial() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 12];
        while stream.read_exact(&mut request).await.is_ok() {
            let body = if request[7] == 3 { vec![0x83, 2] } else { [&[4, 8][..], &[0; 8]].concat() };
            let head = [request[0], request[1], 0, 0, 0, u8::try_from(body.len() + 1).unwrap(), request[6]];
            stream.write_all(&[&head[..], &body].concat()).await.unwrap();
        }
    });
    Endpoint::Tcp(address.into())
}

#[tokio::test]
async fn a_meter_without_a_serial_number_has_the_one_its_owner_typed_and_says_so() {
    let bus = Bus::open(BusConfig::new(without_serial().await));
    let deadline = Duration::from_secs(5);
    let refused = Meter::on(&bus, 1, sdm630(), None).read_energy(deadline).await.unwrap_err();
    assert!(matches!(refused, MeterError::Refused { function: 3, code: 2, .. }), "{refused}");
    let typed = MeterSerial::new("NAMEPLATE-1").unwrap();
    let energy = Meter::on(&bus, 1, sdm630(), Some(typed.clone())).read_energy(deadline).await.unwrap();
    assert_eq!((energy.serial, energy.identity), (typed, Identity::Nameplate));
}

/// Single precision numbers with the low word of each first.
fn low_words_first(values: &[f32]) -> Vec<u16> {
    values
        .iter()
        .flat_map(|value| [value.to_bits() & 0xFFFF, value.to_bits() >> 16])
        .map(|it| u16::try_from(it).unwrap())
        .collect()
}

#[tokio::test]
async fn words_in_the_wrong_order_are_named_as_the_likely_cause() {
    let mut owner = Owner::new(Bus::open(BusConfig::new(without_serial().await)), 1, sdm630(), None);
    let error = sdm630().energy.decode(&low_words_first(&[3_456.789, 2.5])).unwrap_err();
    assert_eq!(
        owner.discarded(error).to_string(),
        "the meter sent an impossible import: 0 Wh from words that are not 0; the block looks right with low word \
         first: the profile's word order is probably wrong; correct it in profile eastron-sdm630 or choose the \
         profile of this very model"
    );
}

/// A device on Modbus TCP that answers each question, numbered from 1, with what `answer` makes of its function, its
/// number and how many registers it asks for; with nothing for `None`.
async fn device(mut answer: impl FnMut(u8, u32, u8) -> Option<Vec<u8>> + Send + 'static) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 12];
            while stream.read_exact(&mut request).await.is_ok() {
                number += 1;
                let Some(body) = answer(request[7], number, request[11]) else { continue };
                let length = u8::try_from(body.len() + 1).unwrap();
                let head = [request[0], request[1], 0, 0, 0, length, request[6]];
                stream.write_all(&[&head[..], &body].concat()).await.unwrap();
            }
        }
    });
    Endpoint::Tcp(address.into())
}

/// The answer with `words` registers, the last of which is `last`.
fn registers(function: u8, words: u8, last: u8) -> Option<Vec<u8>> {
    let mut body = vec![0; 2 + 2 * usize::from(words)];
    (body[0], body[1]) = (function, 2 * words);
    *body.last_mut().unwrap() = last;
    Some(body)
}

#[tokio::test]
async fn after_a_gateway_said_that_the_unit_is_gone_its_serial_number_is_read_before_a_value_counts() {
    for code in [0x04, 0x0A, 0x0B] {
        let (mut reads, mut serial) = (0, 7);
        let endpoint = device(move |function, _, words| {
            if function == 3 {
                return registers(3, words, serial);
            }
            reads += 1;
            // The second read finds the unit gone; the meter that is there afterwards is another one.
            if reads == 2 {
                serial = 8;
                return Some(vec![0x84, code]);
            }
            registers(4, words, 0)
        })
        .await;
        let (bus, deadline) = (Bus::open(BusConfig::new(endpoint)), Duration::from_secs(5));
        let meter = Meter::on(&bus, 1, sdm630(), None);
        assert_eq!(meter.read_energy(deadline).await.unwrap().serial.as_str(), "7");
        let gone = meter.read_energy(deadline).await.unwrap_err();
        assert!(matches!(gone, MeterError::Refused { code: said, .. } if said == code), "{gone}");
        let exchanged = meter.read_energy(deadline).await.unwrap_err();
        assert!(matches!(exchanged, MeterError::WrongSerial { .. }), "{code}: {exchanged}");
        assert_eq!(meter.read_energy(deadline).await.unwrap().serial.as_str(), "8");
    }
}

#[tokio::test]
async fn the_typed_serial_number_does_not_stand_for_a_meter_whose_own_was_read() {
    let mut serials = 0;
    let endpoint = device(move |function, _, words| {
        serials += u32::from(function == 3);
        if function == 3 && serials > 1 {
            Some(vec![0x83, 2])
        } else {
            registers(function, words, 7 * (function & 1))
        }
    })
    .await;
    let (bus, deadline) = (Bus::open(BusConfig::new(endpoint)), Duration::from_secs(5));
    let typed = MeterSerial::new("NAMEPLATE-1").unwrap();
    let meter = Meter::on(&bus, 1, sdm630(), Some(typed));
    let first = meter.read_energy(deadline).await.unwrap();
    assert_eq!((first.serial.as_str(), first.identity), ("7", Identity::Read));
    let error = meter.read_energy_afresh(deadline).await.unwrap_err();
    assert!(matches!(error, MeterError::Refused { function: 3, code: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_silent_unit_is_asked_for_the_end_of_an_interval_only_and_by_nobody_else() {
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let endpoint = device(move |_, number, _| {
        count.store(number, std::sync::atomic::Ordering::SeqCst);
        None
    })
    .await;
    let asked = || asked.load(std::sync::atomic::Ordering::SeqCst);
    let timeout = Duration::from_millis(50);
    let bus = Bus::open(BusConfig { timeout, ..BusConfig::new(endpoint) });
    let (meter, deadline) = (Meter::on(&bus, 1, sdm630(), None), Duration::from_secs(5));
    // So often that the pause is longer than what follows can take.
    for _ in 0..3 {
        let silent = meter.read_energy(deadline).await.unwrap_err();
        assert!(matches!(silent, MeterError::Silent { .. }), "{silent}");
    }
    let before = asked();
    assert!(matches!(meter.read_energy_calmly(deadline).await, Err(MeterError::Resting { .. })));
    assert!(matches!(bus.read_raw(1, 3, 0xFC00, 2, deadline).await, Err(MeterError::Resting { .. })));
    assert_eq!(asked(), before);
    assert!(matches!(bus.read_raw(2, 3, 0xFC00, 2, deadline).await, Err(MeterError::Silent { .. })));
    assert!(matches!(meter.read_energy(deadline).await, Err(MeterError::Silent { .. })));
    assert!(asked() > before + 1);
}

#[tokio::test]
async fn a_gateway_that_hands_a_late_answer_to_the_next_question_under_its_id_is_not_believed() {
    // One behind from the second question on, until the twelfth, before which it forgets what it still has.
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (count, mut before) = (Arc::clone(&asked), None);
    let endpoint = device(move |function, number, words| {
        count.store(number, std::sync::atomic::Ordering::SeqCst);
        let right = registers(function, words, u8::try_from(number).unwrap());
        if number >= 12 { right } else { std::mem::replace(&mut before, right) }
    })
    .await;
    let timeout = Duration::from_millis(100);
    let bus = Bus::open(BusConfig { timeout, ..BusConfig::new(endpoint) });
    let mut right = 0;
    for _ in 0..40 {
        if let Ok(words) = bus.read_raw(1, 4, 0x48, 4, Duration::from_secs(5)).await {
            let last = asked.load(std::sync::atomic::Ordering::SeqCst);
            assert_eq!(u32::from(words[3]), last, "an answer to an earlier question");
            right += 1;
        }
    }
    assert!(right > 20, "{right} values of a gateway in step again");
}
