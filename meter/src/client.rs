//! The client: one task knows one meter (who it is, where its registers are, how it fared lately) and reads it through
//! its bus; everybody else holds a [`Meter`] handle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use energy::{MeterSerial, WattHours};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout_at};

use crate::back_off::BackOff;
use crate::block::BlockError;
use crate::bus::{Answer, Bus, BusConfig, DEADLINE_MAX, Denied, Wish, near};
use crate::error::MeterError;
use crate::plan::Plan;
use crate::profile::{Profile, Span};
use crate::sunspec::{self, Place};

/// Requests of one kind that may wait: with a time-out of 500 ms, more could not be answered within any useful deadline.
const QUEUE_MAX: usize = 8;
/// How often the serial number is read again on a connection that stays up.
const SERIAL_EVERY: Duration = Duration::from_secs(3600);
/// Pause after a device said that it is busy (exceptions 0x05 and 0x06).
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// How often the connection may change under one read, because of other meters on the bus.
const CONNECTIONS_MAX: usize = 4;
/// What the messages call it.
const SERIAL: &str = "serial number";

/// Which device to read, and how.
#[derive(Debug, Clone)]
pub struct MeterConfig {
    /// The bus it is on.
    pub bus: BusConfig,
    /// Modbus unit id.
    pub unit: u8,
    /// What is in its registers.
    pub profile: Arc<Profile>,
    /// The serial number on its nameplate, typed in by its owner, for models that have it in no register.
    pub nameplate: Option<MeterSerial>,
}

/// How it is known which meter answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Its serial number was read from it on the same connection.
    Read,
    /// Its owner typed the serial number in: a weak identity, for an exchanged meter would not be noticed by it.
    Nameplate,
}

/// Both cumulative registers of a meter at one instant, from one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnergySample {
    /// Serial number of the meter that answered.
    pub serial: MeterSerial,
    /// How that is known.
    pub identity: Identity,
    /// Cumulative import register; `None` if this model has none (a generation meter). A register that should be there
    /// and gives no value is an error instead.
    pub import: Option<WattHours>,
    /// Cumulative export register; `None` if this model has none.
    pub export: Option<WattHours>,
    /// The block as the meter sent it.
    pub raw: Vec<u16>,
    /// Smallest step of these registers now.
    pub quantum: WattHours,
    /// Where these registers begin again at 0, as the device scales them now, if that is declared.
    pub modulus: Option<WattHours>,
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
    /// Current of each phase in mA, where the meter has it.
    pub current_ma: [Option<i64>; 3],
    /// Grid frequency in mHz, where the meter has it.
    pub frequency_mhz: Option<u32>,
    /// The block as the meter sent it.
    pub raw: Vec<u16>,
    /// Middle of the request on the monotonic clock.
    pub middle: Instant,
}

/// A handle to one meter. Clones are the same meter; its bus is closed when no handle to any of its meters is left.
#[derive(Debug, Clone)]
pub struct Meter {
    bus: Bus,
    profile: Arc<Profile>,
    energy: mpsc::Sender<Ask<EnergySample>>,
    live: mpsc::Sender<Calm>,
}

impl Meter {
    /// A meter on the bus that its settings name. It connects when first asked. Must be called within a tokio runtime.
    #[must_use]
    pub fn spawn(config: MeterConfig) -> Self {
        let MeterConfig { bus, unit, profile, nameplate } = config;
        Self::on(&Bus::open(bus), unit, profile, nameplate)
    }

    /// A meter on an open bus. Must be called within a tokio runtime.
    #[must_use]
    pub fn on(bus: &Bus, unit: u8, profile: Arc<Profile>, nameplate: Option<MeterSerial>) -> Self {
        let (energy, energy_asks) = mpsc::channel(QUEUE_MAX);
        let (live, live_asks) = mpsc::channel(QUEUE_MAX);
        let owner = Owner::new(bus.clone(), unit, Arc::clone(&profile), nameplate);
        tokio::spawn(owner.run(energy_asks, live_asks));
        Self { bus: bus.clone(), profile, energy, live }
    }

    /// What is in its registers.
    #[must_use]
    pub const fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Its bus.
    #[must_use]
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Reads the energy registers within `deadline`. Goes before all waiting live reads of all meters on the bus, and is
    /// tried on the wire also while a failing device is otherwise left alone: a boundary comes only once.
    ///
    /// # Errors
    /// [`MeterError`]; there is never a partial or an old value. [`MeterError::WrongSerial`] once when another meter
    /// answers than before; later samples carry its serial number.
    pub async fn read_energy(&self, deadline: Duration) -> Result<EnergySample, MeterError> {
        self.ask(&self.energy, deadline, |ask| ask).await
    }

    /// Reads the energy registers over a connection made for it: for values that look wrong.
    ///
    /// # Errors
    /// As [`Meter::read_energy`].
    pub async fn read_energy_afresh(&self, deadline: Duration) -> Result<EnergySample, MeterError> {
        self.ask(&self.energy, deadline, |ask| Ask { fresh: true, ..ask }).await
    }

    /// Reads the energy registers within `deadline`, for showing: waits like [`Meter::read_live`].
    ///
    /// # Errors
    /// As [`Meter::read_energy`], and [`MeterError::Resting`].
    pub async fn read_energy_calmly(&self, deadline: Duration) -> Result<EnergySample, MeterError> {
        self.ask(&self.live, deadline, Calm::Energy).await
    }

    /// Reads momentary values within `deadline`. A device that failed lately is left alone for a while; the call
    /// then fails at once with [`MeterError::Resting`].
    ///
    /// # Errors
    /// [`MeterError`]; there is never a partial or an old value.
    pub async fn read_live(&self, deadline: Duration) -> Result<LiveSample, MeterError> {
        self.ask(&self.live, deadline, Calm::Live).await
    }

    /// Reads energy registers and momentary values within `deadline`: with one request where the profile's blocks
    /// allow it, else with two, energy first. Waits like [`Meter::read_live`].
    ///
    /// # Errors
    /// [`MeterError`]; there is never a partial or an old value.
    pub async fn read_all(&self, deadline: Duration) -> Result<(EnergySample, LiveSample), MeterError> {
        self.ask(&self.live, deadline, Calm::All).await
    }

    async fn ask<T, A>(
        &self,
        queue: &mpsc::Sender<A>,
        deadline: Duration,
        of: impl FnOnce(Ask<T>) -> A,
    ) -> Result<T, MeterError> {
        let endpoint = || self.bus.endpoint().clone();
        let deadline = Instant::now() + deadline.min(DEADLINE_MAX);
        let (reply, answer) = oneshot::channel();
        queue.try_send(of(Ask { deadline, fresh: false, reply })).map_err(|error| match error {
            TrySendError::Full(_) => MeterError::Busy { endpoint: endpoint(), waiting: QUEUE_MAX },
            TrySendError::Closed(_) => MeterError::Closed,
        })?;
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(MeterError::Closed),
            Err(_) => Err(MeterError::Late { endpoint: endpoint() }),
        }
    }
}

/// One request on its way to the meter's task.
#[derive(Debug)]
struct Ask<T> {
    deadline: Instant,
    fresh: bool,
    reply: oneshot::Sender<Result<T, MeterError>>,
}

/// A request that waits for those at the end of an interval.
#[derive(Debug)]
enum Calm {
    Live(Ask<LiveSample>),
    Energy(Ask<EnergySample>),
    All(Ask<(EnergySample, LiveSample)>),
}

/// What was learnt of the device on one connection.
struct Session {
    /// `None` for a device that was not asked anything yet, because nothing has to be known of it.
    connection: Option<u64>,
    serial: MeterSerial,
    identity: Identity,
    serial_read: Instant,
    /// Where this device has its registers.
    plan: Arc<Plan>,
}

/// Which block to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Energy,
    Live,
    /// Both in one request.
    Both,
}

/// One read as it is asked for.
#[derive(Debug, Clone, Copy)]
struct Read {
    want: Want,
    urgent: bool,
    fresh: bool,
    deadline: Instant,
}

/// One block as read.
struct Fetched {
    span: Span,
    words: Vec<u16>,
    serial: MeterSerial,
    identity: Identity,
    plan: Arc<Plan>,
    round_trip: Duration,
    middle: Instant,
}

impl Fetched {
    /// The words of `span`, which lies in what was read.
    fn part(&self, span: Span) -> &[u16] {
        let from = usize::from(span.address.saturating_sub(self.span.address));
        self.words.get(from..from + usize::from(span.count)).unwrap_or_default()
    }
}

/// Reads of one unit that belong together: all on one connection.
pub(crate) struct Asker {
    bus: Bus,
    unit: u8,
    /// `None` while nothing is known of the device.
    probes: Option<Arc<[Span]>>,
    urgent: bool,
    /// Asks for a new connection with the first read.
    fresh: bool,
    connection: Option<u64>,
    deadline: Instant,
}

impl Asker {
    /// Reads exactly the registers of `span`, behind which there are `spare` ones. A busy device is asked again while
    /// the deadline allows.
    pub(crate) async fn read(&mut self, span: Span, spare: u16) -> Result<Answer, Denied> {
        loop {
            let wish = self.wish(span, spare);
            let denied = match self.bus.ask(wish).await {
                Ok(answer) => {
                    self.connection = Some(answer.connection);
                    return Ok(answer);
                }
                Err(denied) => denied,
            };
            let busy = matches!(denied, Denied::Refused { code: 0x05 | 0x06, .. });
            if !busy || self.deadline.saturating_duration_since(Instant::now()) <= BUSY_PAUSE {
                return Err(denied);
            }
            sleep(BUSY_PAUSE).await;
        }
    }

    fn wish(&mut self, span: Span, spare: u16) -> Wish {
        let probes = self.probes.clone().unwrap_or_else(|| near(span).into());
        let Self { unit, urgent, connection, deadline, .. } = *self;
        Wish {
            unit,
            span,
            spare,
            probes,
            urgent,
            connection,
            fresh: std::mem::take(&mut self.fresh),
            deadline,
        }
    }
}

struct Owner {
    bus: Bus,
    unit: u8,
    profile: Arc<Profile>,
    nameplate: Option<MeterSerial>,
    session: Option<Session>,
    /// Where a discovered device had its models last.
    place: Option<Place>,
    /// The device refused to be read across its blocks.
    apart: bool,
    /// The serial number seen last: another one is another meter.
    bound: Option<MeterSerial>,
    /// A serial number was read from a device here: the one that is typed in no longer stands for it.
    has_serial: bool,
    serial_every: Duration,
    back_off: BackOff,
}

impl Owner {
    fn new(bus: Bus, unit: u8, profile: Arc<Profile>, nameplate: Option<MeterSerial>) -> Self {
        let place = bus.endpoint().to_string();
        let seed = place.bytes().fold(u64::from(unit), |seed, byte| seed.rotate_left(5) ^ u64::from(byte));
        Self {
            bus,
            unit,
            profile,
            nameplate,
            session: None,
            place: None,
            apart: false,
            bound: None,
            has_serial: false,
            serial_every: SERIAL_EVERY,
            back_off: BackOff::of_unit(seed),
        }
    }

    async fn run(mut self, mut energy: mpsc::Receiver<Ask<EnergySample>>, mut live: mpsc::Receiver<Calm>) {
        loop {
            tokio::select! {
                biased;
                Some(ask) = energy.recv() => {
                    if !ask.reply.is_closed() {
                        let Ask { deadline, fresh, .. } = ask;
                        let read = Read { want: Want::Energy, urgent: true, fresh, deadline };
                        let result = self.energy_sample(read).await;
                        // The caller may have gone meanwhile: nobody is left to tell.
                        let _ = ask.reply.send(self.noted(result));
                    }
                }
                Some(ask) = live.recv() => self.calm(ask).await,
                else => break,
            }
        }
    }

    async fn calm(&mut self, ask: Calm) {
        // As above, the callers may have gone.
        match ask {
            Calm::Live(ask) if !ask.reply.is_closed() => {
                let result = match self.resting() {
                    Some(resting) => Err(resting),
                    None => self.live_sample(ask.deadline).await,
                };
                let _ = ask.reply.send(self.noted(result));
            }
            Calm::Energy(ask) if !ask.reply.is_closed() => {
                let read = Read { want: Want::Energy, urgent: false, fresh: false, deadline: ask.deadline };
                let result = match self.resting() {
                    Some(resting) => Err(resting),
                    None => self.energy_sample(read).await,
                };
                let _ = ask.reply.send(self.noted(result));
            }
            Calm::All(ask) if !ask.reply.is_closed() => {
                let result = match self.resting() {
                    Some(resting) => Err(resting),
                    None => self.both_samples(ask.deadline).await,
                };
                let _ = ask.reply.send(self.noted(result));
            }
            Calm::Live(_) | Calm::Energy(_) | Calm::All(_) => {}
        }
    }

    async fn energy_sample(&mut self, read: Read) -> Result<EnergySample, MeterError> {
        let fetched = self.fetch(read).await?;
        self.energy_of(&fetched)
    }

    async fn live_sample(&mut self, deadline: Instant) -> Result<LiveSample, MeterError> {
        let fetched = self.fetch(Read { want: Want::Live, urgent: false, fresh: false, deadline }).await?;
        self.live_of(&fetched)
    }

    async fn both_samples(&mut self, deadline: Instant) -> Result<(EnergySample, LiveSample), MeterError> {
        let read = |want| Read { want, urgent: false, fresh: false, deadline };
        let fetched = self.fetch(read(Want::Both)).await?;
        let energy = self.energy_of(&fetched)?;
        if fetched.span.count >= fetched.plan.both.map_or(u16::MAX, |both| both.count) {
            return Ok((energy, self.live_of(&fetched)?));
        }
        let fetched = self.fetch(read(Want::Live)).await?;
        Ok((energy, self.live_of(&fetched)?))
    }

    fn energy_of(&mut self, fetched: &Fetched) -> Result<EnergySample, MeterError> {
        let raw = fetched.part(fetched.plan.energy);
        let values = self.profile.energy.decode(raw).map_err(|error| self.discarded(error))?;
        Ok(EnergySample {
            serial: fetched.serial.clone(),
            identity: fetched.identity,
            import: values.import,
            export: values.export,
            raw: raw.to_vec(),
            quantum: values.quantum,
            modulus: values.modulus,
            profile_hash: self.profile.hash(),
            round_trip: fetched.round_trip,
            middle: fetched.middle,
        })
    }

    fn live_of(&mut self, fetched: &Fetched) -> Result<LiveSample, MeterError> {
        let words = fetched.part(fetched.plan.live);
        let values = self.profile.live.decode(words).map_err(|error| self.discarded(error))?;
        Ok(LiveSample {
            power_w: values.power_w,
            voltage_mv: values.voltage_mv,
            current_ma: values.current_ma,
            frequency_mhz: values.frequency_mhz,
            raw: words.to_vec(),
            middle: fetched.middle,
        })
    }

    /// A block that was understood and cannot be: what is wrong with it may be wrong with the connection.
    fn discarded(&mut self, error: BlockError) -> MeterError {
        self.session = None;
        MeterError::of_block(error, self.profile.name())
    }

    /// The error of a read that must wait.
    fn resting(&self) -> Option<MeterError> {
        self.back_off.pause(Instant::now()).map(|pause| MeterError::Resting {
            endpoint: self.bus.endpoint().clone(),
            failures: self.back_off.failures(),
            retry_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            last: self.back_off.last().to_owned(),
        })
    }

    /// Keeps the back-off and the log in step with `result`.
    fn noted<T>(&mut self, result: Result<T, MeterError>) -> Result<T, MeterError> {
        let (endpoint, unit) = (self.bus.endpoint(), self.unit);
        match &result {
            Ok(_) if self.back_off.failures() > 0 => {
                tracing::info!(%endpoint, unit, failures = self.back_off.failures(), "meter is back");
                self.back_off.succeeded();
                self.bus.wake(unit);
            }
            Ok(_) => {}
            // Too little time given, or a bus that rests, is not the device's doing.
            Err(error) if error.is_not_asked() => {}
            Err(error) => {
                if self.back_off.failures() == 0 {
                    tracing::warn!(%endpoint, unit, %error, "meter read failed");
                }
                let away = error.is_outage();
                self.back_off.failed(Instant::now(), away, error.to_string());
                match self.back_off.until() {
                    Some(until) if away => {
                        self.bus.rest(unit, until, self.back_off.failures(), self.back_off.last());
                    }
                    _ => self.bus.wake(unit),
                }
            }
        }
        result
    }

    /// Reads one block. One answer may be lost or garbled, and a connection may have died unnoticed since it was last
    /// used: the first failure is followed by another try at once.
    async fn fetch(&mut self, read: Read) -> Result<Fetched, MeterError> {
        let is_first_failure = self.back_off.failures() == 0;
        match self.fetch_once(read).await {
            Err(error) if is_first_failure && error.may_pass() => {
                // Without time for a second try, the first failure is the one to tell.
                self.fetch_once(read).await.map_err(|second| match second {
                    MeterError::Late { .. } => error,
                    second => second,
                })
            }
            result => result,
        }
    }

    /// Reads one block under a serial number that was read on the same connection.
    async fn fetch_once(&mut self, read: Read) -> Result<Fetched, MeterError> {
        let mut read = read;
        if read.fresh {
            self.session = None;
        }
        let mut denied = Denied::OtherConnection;
        for _ in 0..CONNECTIONS_MAX {
            let result = self.fetch_in_session(&mut read).await;
            denied = match result {
                Ok(fetched) => return Ok(fetched),
                Err(denied) => denied,
            };
            match &denied {
                Denied::OtherConnection => self.session = None,
                Denied::Refused { code: 0x02 | 0x03, certain: true, .. }
                    if read.want == Want::Both && !self.apart =>
                {
                    self.apart = true;
                }
                _ => break,
            }
        }
        let error = denied.error(self.bus.endpoint());
        if error.may_be_exchanged() {
            self.session = None;
        }
        Err(error)
    }

    /// Reads the block first, for its time matters; then, once an hour, makes sure that the same meter answers.
    async fn fetch_in_session(&mut self, read: &mut Read) -> Result<Fetched, Denied> {
        let session = match self.session.take() {
            Some(session) => session,
            None => self.identify(read).await?,
        };
        let mut asker = self.asker(read, session.connection, Some(&session.plan));
        let (span, spare) = self.span_of(read.want, &session.plan);
        let Answer { words, asked, round_trip, connection } = match asker.read(span, spare).await {
            Ok(answer) => answer,
            Err(denied) => {
                // The session is still good if the connection is: the bus will tell.
                self.session = Some(session);
                return Err(denied);
            }
        };
        let mut session = Session { connection: Some(connection), ..session };
        let is_due = session.identity == Identity::Read && session.serial_read.elapsed() >= self.serial_every;
        if let (Some(identity), true) = (session.plan.identity, is_due) {
            let found = read_serial(&mut asker, identity, &self.profile).await?;
            self.bind(&found)?;
            session.serial_read = Instant::now();
        }
        let (serial, identity, plan) = (session.serial.clone(), session.identity, Arc::clone(&session.plan));
        self.session = Some(session);
        Ok(Fetched { span, words, serial, identity, plan, round_trip, middle: asked + round_trip / 2 })
    }

    /// What to read, and how many registers may be read after it.
    fn span_of(&self, want: Want, plan: &Plan) -> (Span, u16) {
        let (energy, live) = ((plan.energy, plan.spare.0), (plan.live, plan.spare.1));
        match (want, plan.both) {
            (Want::Live, _) => live,
            (Want::Both, Some(both)) if !self.apart && both == plan.live => live,
            (Want::Both, Some(both)) if !self.apart => (both, 0),
            (Want::Energy | Want::Both, _) => energy,
        }
    }

    fn asker(&self, read: &mut Read, connection: Option<u64>, plan: Option<&Arc<Plan>>) -> Asker {
        let probes = plan.map(|plan| Arc::clone(&plan.probes));
        let (fresh, unit) = (std::mem::take(&mut read.fresh), self.unit);
        let Read { urgent, deadline, .. } = *read;
        Asker { bus: self.bus.clone(), unit, probes, urgent, fresh, connection, deadline }
    }

    /// Learns where the device has its registers and who it is.
    async fn identify(&mut self, read: &mut Read) -> Result<Session, Denied> {
        let mut asker = self.asker(read, None, None);
        let plan = Arc::new(self.plan(&mut asker).await?);
        asker.probes = Some(Arc::clone(&plan.probes));
        let read = match plan.identity {
            Some(span) => read_serial(&mut asker, span, &self.profile).await,
            None => Err(MeterError::NoSerial { profile: self.profile.name().to_owned() }.into()),
        };
        let (serial, identity) = match (read, &self.nameplate) {
            (Ok(serial), _) => (serial, Identity::Read),
            // Variants of a model may lack the register that others have. A meter that had it and has it no longer is
            // another meter, whatever is typed in.
            (Err(denied), Some(typed)) if denied.is_no_such_value() && !self.has_serial => {
                (typed.clone(), Identity::Nameplate)
            }
            (Err(denied), _) => return Err(denied),
        };
        self.has_serial |= identity == Identity::Read;
        self.bind(&serial)?;
        let connection = asker.connection;
        Ok(Session { connection, serial, identity, serial_read: Instant::now(), plan })
    }

    /// Tells once that another meter answers than before. From then on it is the one that is read: its samples carry
    /// its own serial number, and energy is never differenced across two.
    fn bind(&mut self, found: &MeterSerial) -> Result<(), MeterError> {
        match self.bound.replace(found.clone()) {
            Some(expected) if expected != *found => {
                Err(MeterError::WrongSerial { expected, found: found.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The plan for this device. A discovered one is looked at where it was last before it is searched anew.
    async fn plan(&mut self, asker: &mut Asker) -> Result<Plan, Denied> {
        let profile = Arc::clone(&self.profile);
        let (base, identity_base) = match discovered_model(&profile) {
            None => (0, 0),
            Some(model) => {
                let place = self.place(asker, model, profile.words_from_base()).await?;
                (place.model, place.common)
            }
        };
        Plan::new(&profile, base, identity_base)
            .ok_or_else(|| self.not_found(discovered_model(&profile)).into())
    }

    async fn place(&mut self, asker: &mut Asker, model: u16, words: u32) -> Result<Place, Denied> {
        if let Some(place) = self.place
            && sunspec::is_still_at(asker, place, model).await?
        {
            return Ok(place);
        }
        self.place = sunspec::find(asker, model, words).await?;
        self.place.ok_or_else(|| self.not_found(Some(model)).into())
    }

    fn not_found(&self, model: Option<u16>) -> MeterError {
        let endpoint = self.bus.endpoint().clone();
        MeterError::NotFound { endpoint, unit: self.unit, model: model.unwrap_or_default() }
    }
}

fn discovered_model(profile: &Profile) -> Option<u16> {
    profile.sunspec_model()
}

async fn read_serial(asker: &mut Asker, span: Span, profile: &Profile) -> Result<MeterSerial, Denied> {
    let answer = asker.read(span, 0).await?;
    let serial = profile.identity.as_ref().and_then(|identity| identity.decode(&answer.words));
    let absent = || MeterError::Absent { quantity: SERIAL, profile: profile.name().to_owned() };
    Ok(serial.ok_or_else(absent)?)
}

#[cfg(test)]
mod tests;
