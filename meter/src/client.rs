//! The client: one task owns the one connection to a meter, everybody else holds a [`Meter`] handle.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use energy::{MeterSerial, WattHours};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use crate::back_off::BackOff;
use crate::error::MeterError;
use crate::link::{Answer, Link};
use crate::profile::{Profile, Span};
use crate::sunspec;

/// Requests of one kind that may wait: with a time-out of 500 ms, more could not be answered within any useful deadline.
const QUEUE_MAX: usize = 8;
/// No request waits longer, whatever its caller allows.
const DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// How often the serial number is read again on a connection that stays up.
const SERIAL_EVERY: Duration = Duration::from_secs(3600);

/// Which device to read, and how.
#[derive(Debug, Clone)]
pub struct MeterConfig {
    /// Address and port of the Modbus TCP server.
    pub address: SocketAddr,
    /// Modbus unit id.
    pub unit: u8,
    /// What is in its registers.
    pub profile: &'static Profile,
    /// Longest wait for one answer; 500 ms suits meters, up to 5 s some inverters.
    pub timeout: Duration,
}

/// Both cumulative registers of a meter at one instant, from one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnergySample {
    /// Serial number of the meter that answered, read on the same connection.
    pub serial: MeterSerial,
    /// Cumulative import register.
    pub import: WattHours,
    /// Cumulative export register.
    pub export: WattHours,
    /// The block as the meter sent it.
    pub raw: Vec<u16>,
    /// Smallest step of these registers now.
    pub quantum: WattHours,
    /// SHA-256 of the profile that decoded them.
    pub profile_hash: [u8; 32],
    /// Time from question to answer.
    pub round_trip: Duration,
    /// Middle of the request on the monotonic clock: when the registers stood so, within half the round trip.
    pub middle: Instant,
}

/// Momentary values of a meter, for showing; nothing is settled on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSample {
    /// Power in W; positive is import.
    pub power_w: i64,
    /// Voltage of each phase against neutral in mV, where the meter has it.
    pub voltage_mv: [Option<u32>; 3],
    /// Grid frequency in mHz, where the meter has it.
    pub frequency_mhz: Option<u32>,
    /// Middle of the request on the monotonic clock.
    pub middle: Instant,
}

/// A handle to one meter. Clones share its connection; the connection ends with the last of them.
#[derive(Debug, Clone)]
pub struct Meter {
    address: SocketAddr,
    energy: mpsc::Sender<Ask<EnergySample>>,
    live: mpsc::Sender<Ask<LiveSample>>,
}

impl Meter {
    /// Starts the task that owns the connection. It connects when first asked. Must be called within a tokio runtime.
    #[must_use]
    pub fn spawn(config: MeterConfig) -> Self {
        let (energy, energy_asks) = mpsc::channel(QUEUE_MAX);
        let (live, live_asks) = mpsc::channel(QUEUE_MAX);
        let meter = Self { address: config.address, energy, live };
        let back_off = BackOff::new(u64::from(config.address.port()) << 8 | u64::from(config.unit));
        let owner = Owner { config, session: None, bound: None, serial_every: SERIAL_EVERY, back_off };
        tokio::spawn(owner.run(energy_asks, live_asks));
        meter
    }

    /// Reads both energy registers within `deadline`. Goes before all waiting live reads, and is tried on the wire also
    /// while a failing device is otherwise left alone: a boundary comes only once.
    ///
    /// # Errors
    /// [`MeterError`]; there is never a partial or an old value.
    pub async fn read_energy(&self, deadline: Duration) -> Result<EnergySample, MeterError> {
        self.ask(&self.energy, deadline).await
    }

    /// Reads momentary values within `deadline`. A device that failed lately is left alone for 1 to 60 s; the call
    /// then fails at once with [`MeterError::Resting`].
    ///
    /// # Errors
    /// [`MeterError`]; there is never a partial or an old value.
    pub async fn read_live(&self, deadline: Duration) -> Result<LiveSample, MeterError> {
        self.ask(&self.live, deadline).await
    }

    async fn ask<T>(&self, queue: &mpsc::Sender<Ask<T>>, deadline: Duration) -> Result<T, MeterError> {
        let address = self.address;
        let deadline = Instant::now() + deadline.min(DEADLINE_MAX);
        let (reply, answer) = oneshot::channel();
        queue.try_send(Ask { deadline, reply }).map_err(|error| match error {
            TrySendError::Full(_) => MeterError::Busy { address, waiting: QUEUE_MAX },
            TrySendError::Closed(_) => MeterError::Closed,
        })?;
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(MeterError::Closed),
            Err(_) => Err(MeterError::Late { address }),
        }
    }
}

/// One request on its way to the owner of the connection.
#[derive(Debug)]
struct Ask<T> {
    deadline: Instant,
    reply: oneshot::Sender<Result<T, MeterError>>,
}

/// A connection on which the device has said who it is.
struct Session {
    link: Link,
    serial: MeterSerial,
    serial_read: Instant,
    /// Where this device has them.
    places: Places,
}

/// The registers of a profile on one device, counted from where its map begins.
#[derive(Debug, Clone, Copy)]
struct Places {
    identity: Span,
    energy: Span,
    live: Span,
}

/// Which block to read.
#[derive(Debug, Clone, Copy)]
enum Want {
    Energy,
    Live,
}

/// One block as read.
struct Fetched {
    words: Vec<u16>,
    serial: MeterSerial,
    round_trip: Duration,
    middle: Instant,
}

struct Owner {
    config: MeterConfig,
    /// Taken out while in use and put back only if it is still in step.
    session: Option<Session>,
    /// The first serial number seen: another one is another meter.
    bound: Option<MeterSerial>,
    serial_every: Duration,
    back_off: BackOff,
}

impl Owner {
    async fn run(
        mut self,
        mut energy: mpsc::Receiver<Ask<EnergySample>>,
        mut live: mpsc::Receiver<Ask<LiveSample>>,
    ) {
        loop {
            tokio::select! {
                biased;
                Some(ask) = energy.recv() => {
                    if !ask.reply.is_closed() {
                        let result = self.energy_sample(ask.deadline).await;
                        // The caller may have gone meanwhile: nobody is left to tell.
                        let _ = ask.reply.send(self.noted(result));
                    }
                }
                Some(ask) = live.recv() => {
                    if !ask.reply.is_closed() {
                        let result = self.live_sample_unless_resting(ask.deadline).await;
                        let _ = ask.reply.send(result);
                    }
                }
                else => break,
            }
        }
    }

    async fn energy_sample(&mut self, deadline: Instant) -> Result<EnergySample, MeterError> {
        let profile = self.config.profile;
        let Fetched { words, serial, round_trip, middle } = self.fetch(Want::Energy, deadline).await?;
        let values = profile.energy.decode(&words).map_err(|error| self.discarded(error))?;
        Ok(EnergySample {
            serial,
            import: values.import,
            export: values.export,
            raw: words,
            quantum: values.quantum,
            profile_hash: profile.hash(),
            round_trip,
            middle,
        })
    }

    async fn live_sample_unless_resting(&mut self, deadline: Instant) -> Result<LiveSample, MeterError> {
        if let Some(pause) = self.back_off.pause(Instant::now()) {
            return Err(MeterError::Resting {
                address: self.config.address,
                failures: self.back_off.failures(),
                retry_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                last: self.back_off.last().to_owned(),
            });
        }
        let result = self.live_sample(deadline).await;
        self.noted(result)
    }

    async fn live_sample(&mut self, deadline: Instant) -> Result<LiveSample, MeterError> {
        let profile = self.config.profile;
        let Fetched { words, middle, .. } = self.fetch(Want::Live, deadline).await?;
        let values = profile.live.decode(&words).map_err(|error| self.discarded(error))?;
        Ok(LiveSample {
            power_w: values.power_w,
            voltage_mv: values.voltage_mv,
            frequency_mhz: values.frequency_mhz,
            middle,
        })
    }

    /// A block that was understood and cannot be: what is wrong with it may be wrong with the connection.
    fn discarded(&mut self, error: crate::block::BlockError) -> MeterError {
        self.session = None;
        MeterError::of_block(error, self.config.profile.name())
    }

    /// Keeps the back-off and the log in step with `result`.
    fn noted<T>(&mut self, result: Result<T, MeterError>) -> Result<T, MeterError> {
        let address = self.config.address;
        match &result {
            Ok(_) if self.back_off.failures() > 0 => {
                tracing::info!(%address, failures = self.back_off.failures(), "meter is back");
                self.back_off.succeeded();
            }
            // Too little time given is the caller's doing, not the device's.
            Ok(_) | Err(MeterError::Late { .. }) => {}
            Err(error) => {
                if self.back_off.failures() == 0 {
                    tracing::warn!(%address, %error, "meter read failed");
                }
                self.back_off.failed(Instant::now(), error.is_outage(), error.to_string());
            }
        }
        result
    }

    /// Reads one block. A connection may have died unnoticed since it was last used, and that shows only in using it:
    /// then, once, a fresh one is tried at once.
    async fn fetch(&mut self, want: Want, deadline: Instant) -> Result<Fetched, MeterError> {
        let reused = self.session.is_some();
        match self.fetch_once(want, deadline).await {
            Err(error) if reused && error.may_be_stale_connection() => {
                // Without time for a second try, the first failure is the one to tell.
                self.fetch_once(want, deadline).await.map_err(|second| match second {
                    MeterError::Late { .. } => error,
                    second => second,
                })
            }
            result => result,
        }
    }

    async fn fetch_once(&mut self, want: Want, deadline: Instant) -> Result<Fetched, MeterError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open(deadline).await?,
        };
        let result = session.fetch(want, self.config.profile, self.serial_every, deadline).await;
        if result.as_ref().map_or_else(MeterError::keeps_connection, |_| true) {
            self.session = Some(session);
        }
        result
    }

    /// Connects, finds the register base where the profile asks for it, and reads who answers.
    async fn open(&mut self, deadline: Instant) -> Result<Session, MeterError> {
        let MeterConfig { address, unit, profile, timeout } = self.config;
        let mut link = Link::connect(address, unit, timeout, deadline).await?;
        let places = match profile.file.discover {
            None => Places::of(profile, 0, 0),
            Some(discover) => {
                match sunspec::find(&mut link, discover.sunspec_model, profile, deadline).await? {
                    Some(place) => Places::of(profile, place.model, place.common),
                    None => None,
                }
            }
        };
        let model = profile.file.discover.map_or(0, |discover| discover.sunspec_model);
        let places = places.ok_or(MeterError::NotFound { address, unit, model })?;
        let serial = read_serial(&mut link, places.identity, profile, deadline).await?;
        let expected = self.bound.get_or_insert_with(|| serial.clone());
        if *expected != serial {
            return Err(MeterError::WrongSerial { expected: expected.clone(), found: serial });
        }
        Ok(Session { link, serial, serial_read: Instant::now(), places })
    }
}

const SERIAL: &str = "serial number";

async fn read_serial(
    link: &mut Link,
    span: Span,
    profile: &'static Profile,
    deadline: Instant,
) -> Result<MeterSerial, MeterError> {
    let answer = link.read(span, deadline).await?;
    profile
        .file
        .identity
        .decode(&answer.words)
        .ok_or(MeterError::Absent { quantity: SERIAL, profile: profile.name() })
}

impl Places {
    /// `None` if the registers would end beyond 0xffff.
    fn of(profile: &Profile, base: u16, identity_base: u16) -> Option<Self> {
        Some(Self {
            identity: profile.file.identity.span().counted_from(identity_base)?,
            energy: profile.energy.span.counted_from(base)?,
            live: profile.live.span.counted_from(base)?,
        })
    }
}

impl Session {
    /// Reads the block first, for its time matters; then, once an hour, makes sure that the same meter answers.
    async fn fetch(
        &mut self,
        want: Want,
        profile: &'static Profile,
        serial_every: Duration,
        deadline: Instant,
    ) -> Result<Fetched, MeterError> {
        let span = match want {
            Want::Energy => self.places.energy,
            Want::Live => self.places.live,
        };
        let Answer { words, asked, round_trip } = self.link.read(span, deadline).await?;
        if self.serial_read.elapsed() >= serial_every {
            let found = read_serial(&mut self.link, self.places.identity, profile, deadline).await?;
            if found != self.serial {
                return Err(MeterError::WrongSerial { expected: self.serial.clone(), found });
            }
            self.serial_read = Instant::now();
        }
        Ok(Fetched { words, serial: self.serial.clone(), round_trip, middle: asked + round_trip / 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A device with empty energy registers and, from the third time it is asked, another serial number.
    async fn exchanged_under_the_hand() -> SocketAddr {
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
                    let body =
                        if is_serial { vec![0, 0, 0, if asked < 3 { 7 } else { 8 }] } else { vec![0; 8] };
                    let length = u8::try_from(body.len()).unwrap();
                    let head = [request[0], request[1], 0, 0, 0, length + 3, request[6], request[7], length];
                    stream.write_all(&[&head[..], &body].concat()).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn a_meter_exchanged_on_an_open_connection_is_noticed_and_refused_for_good() {
        let profile = &Profile::builtin()[0];
        let timeout = Duration::from_secs(5);
        let config = MeterConfig { address: exchanged_under_the_hand().await, unit: 1, profile, timeout };
        let (serial_every, back_off) = (Duration::ZERO, BackOff::new(0));
        let mut owner = Owner { config, session: None, bound: None, serial_every, back_off };
        let mut read = async || owner.energy_sample(Instant::now() + timeout).await;
        assert_eq!(read().await.unwrap().serial.as_str(), "7");
        for _ in 0..2 {
            let error = read().await.unwrap_err();
            let MeterError::WrongSerial { expected, found } = error else { panic!("{error}") };
            assert_eq!((expected.as_str(), found.as_str()), ("7", "8"));
        }
    }
}
