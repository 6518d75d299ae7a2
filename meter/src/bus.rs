//! The bus: one task owns the one connection to a serial line, a gateway or a device; everybody else holds a [`Bus`]
//! handle.
//!
//! Several meters share a bus. Requests for the end of an interval go before all others; both queues are bounded, and
//! every request has a deadline. Whatever goes wrong on the wire ends the connection; on lines without transaction ids
//! what is still on its way is then discarded until the line is quiet, and the guard decides which request may follow.

mod actor;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::time::timeout_at;

use self::actor::Actor;
use crate::endpoint::{Endpoint, HostPort};
use crate::error::MeterError;
use crate::profile::{Function, Profile, Span};

/// Requests of one urgency that may wait on one bus: one for each unit a serial line can have, which is 247.
const QUEUE_MAX: usize = 256;
/// The most registers one request may ask for (Modbus Application Protocol V1.1b3, section 6.3).
const REGISTERS_MAX: u16 = 125;
/// No request waits longer, whatever its caller allows.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// Suits most meters at 9600 Bd.
const TIMEOUT: Duration = Duration::from_millis(500);

/// How to reach a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusConfig {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Longest wait for one answer; 500 ms suits meters, up to 5 s some inverters.
    pub timeout: Duration,
    /// Pause between connecting and the first request, which some inverters need.
    pub connect_delay: Duration,
    /// Silence between an answer and the next request, where the line needs more than the 3.5 characters of the norm.
    pub frame_gap: Duration,
    /// Take answers whose transaction or unit id is not that of the question, as some Modbus TCP gateways send them.
    /// Only while a single unit is read on this bus; answers are then told apart by their length. Off by default.
    pub lenient_header: bool,
}

impl BusConfig {
    /// A bus with a time-out of 500 ms, no delays and strict headers.
    #[must_use]
    pub const fn new(endpoint: Endpoint) -> Self {
        let (connect_delay, frame_gap) = (Duration::ZERO, Duration::ZERO);
        Self { endpoint, timeout: TIMEOUT, connect_delay, frame_gap, lenient_header: false }
    }

    /// A bus with the time-out and delays that devices of this profile need.
    #[must_use]
    pub fn for_profile(endpoint: Endpoint, profile: &Profile) -> Self {
        let defaults = profile.bus();
        Self {
            timeout: defaults.timeout,
            connect_delay: defaults.connect_delay,
            frame_gap: defaults.frame_gap,
            ..Self::new(endpoint)
        }
    }
}

/// What has happened on a bus since it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusReport {
    /// Where it is.
    pub endpoint: Endpoint,
    /// True while a connection is open.
    pub connected: bool,
    /// Connections made.
    pub connections: u64,
    /// Requests sent, probes among them.
    pub requests: u64,
    /// Requests sent only to tell late answers apart.
    pub probes: u64,
    /// Answers with registers.
    pub answers: u64,
    /// Modbus exceptions.
    pub refusals: u64,
    /// Requests without a fitting answer.
    pub failures: u64,
    /// How long the line was in use, waiting for answers included.
    pub busy: Duration,
    /// How long the bus has been open.
    pub age: Duration,
}

impl BusReport {
    /// The share of its time the line was in use, in thousandths.
    #[must_use]
    pub fn load_per_mille(&self) -> u32 {
        let share = self.busy.as_micros() * 1_000 / self.age.as_micros().max(1);
        u32::try_from(share.min(1_000)).unwrap_or(1_000)
    }
}

/// A handle to a bus. Clones, and all handles of one process to the same socket or port, share its connection; it is
/// closed with the last of them.
#[derive(Debug, Clone)]
pub struct Bus {
    shared: Arc<Shared>,
    config: Arc<BusConfig>,
    /// What the place is open as, if that is something else.
    conflict: Option<Arc<Endpoint>>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    urgent: mpsc::Sender<Job>,
    calm: mpsc::Sender<Job>,
    counts: Arc<Mutex<BusReport>>,
    /// Units that were silent lately, as those that read them told.
    resting: Mutex<BTreeMap<u8, Rest>>,
    opened: Instant,
}

/// A unit that is left alone for a while: each attempt would cost its neighbours a time-out.
#[derive(Debug, Clone)]
struct Rest {
    until: Instant,
    failures: u32,
    last: String,
}

/// A socket or a port, whatever is spoken on it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Socket(HostPort),
    Port(PathBuf),
}

impl Place {
    fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Tcp(address) | Endpoint::RtuOverTcp(address) => Self::Socket(address.clone()),
            // Names in /dev/serial/by-id are links to the port.
            Endpoint::Serial { path, .. } => Self::Port(path.canonicalize().unwrap_or_else(|_| path.clone())),
        }
    }
}

/// A place that some handle of this process uses.
struct Open {
    place: Place,
    shared: Weak<Shared>,
    /// Held by the task that has the place open, until it has closed it.
    turn: Arc<AsyncMutex<()>>,
}

static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

impl Bus {
    /// A handle to the bus; it connects when first asked. Two meters on one place share its connection; the delays are
    /// those of the first. If the place is in use with another transport or line setting, every read says so. Must be
    /// called within a tokio runtime.
    #[must_use]
    pub fn open(config: BusConfig) -> Self {
        let place = Place::of(&config.endpoint);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|open| open.live().is_some() || open.turn.try_lock().is_err());
        let here = open.iter_mut().find(|open| open.place == place);
        if let Some(shared) = here.as_ref().and_then(|open| open.live()) {
            let differs = shared.endpoint != config.endpoint;
            let conflict = differs.then(|| Arc::new(shared.endpoint.clone()));
            return Self { shared, config: config.into(), conflict };
        }
        let turn = here.as_ref().map_or_else(Arc::default, |open| Arc::clone(&open.turn));
        let shared = Arc::new(Shared::start(config.clone(), Arc::clone(&turn)));
        let entry = Open { place, shared: Arc::downgrade(&shared), turn };
        match here {
            Some(here) => *here = entry,
            None => open.push(entry),
        }
        Self { shared, config: config.into(), conflict: None }
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.config.endpoint
    }

    /// Reads `count` registers of a unit from `address`, as they are: with `function` 3 holding, with 4 input registers.
    /// A unit that a [`Meter`](crate::Meter) on this bus found silent is left alone as long as that meter leaves it
    /// alone.
    ///
    /// # Errors
    /// [`MeterError`]; there is never a partial or an old value.
    pub async fn read_raw(
        &self,
        unit: u8,
        function: u8,
        address: u16,
        count: u16,
        deadline: Duration,
    ) -> Result<Vec<u16>, MeterError> {
        let kind = Function::try_from(function).map_err(|_| MeterError::BadFunction(function))?;
        let span = Span { function: kind, address, count };
        let ends = u32::from(address) + u32::from(count);
        if !(1..=REGISTERS_MAX).contains(&count) || ends > 0x1_0000 {
            return Err(MeterError::BadSpan { register: address, count });
        }
        if let Some(resting) = self.resting(unit) {
            return Err(resting);
        }
        let probes = near(span).into();
        let deadline = Instant::now() + deadline.min(DEADLINE_MAX);
        let (connection, fresh) = (None, false);
        let wish = Wish { unit, span, spare: 0, probes, urgent: false, connection, fresh, deadline };
        self.ask(wish).await.map(|answer| answer.words).map_err(|denied| denied.error(self.endpoint()))
    }

    /// A unit was silent: until then nobody asks it but for the end of an interval.
    pub(crate) fn rest(&self, unit: u8, until: Instant, failures: u32, last: &str) {
        self.rests().insert(unit, Rest { until, failures, last: last.to_owned() });
    }

    /// A unit answers.
    pub(crate) fn wake(&self, unit: u8) {
        self.rests().remove(&unit);
    }

    /// The error of a read that must wait for the unit's rest to end.
    fn resting(&self, unit: u8) -> Option<MeterError> {
        let Rest { until, failures, last } = self.rests().get(&unit)?.clone();
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| MeterError::Resting {
            endpoint: self.endpoint().clone(),
            failures,
            retry_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            last,
        })
    }

    fn rests(&self) -> MutexGuard<'_, BTreeMap<u8, Rest>> {
        self.shared.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has happened on the bus since it was opened.
    #[must_use]
    pub fn report(&self) -> BusReport {
        let counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        BusReport { age: self.shared.opened.elapsed(), ..counts.clone() }
    }

    /// Asks for one block of one unit.
    pub(crate) async fn ask(&self, wish: Wish) -> Result<Answer, Denied> {
        let endpoint = || self.config.endpoint.clone();
        if let Some(other) = &self.conflict {
            return Err(MeterError::Conflict { endpoint: endpoint(), other: other.as_ref().clone() }.into());
        }
        let queue = if wish.urgent { &self.shared.urgent } else { &self.shared.calm };
        let (timeout, lenient) = (self.config.timeout, self.config.lenient_header);
        let deadline = wish.deadline;
        let (reply, answer) = oneshot::channel();
        queue.try_send(Job { wish, timeout, lenient, reply }).map_err(|error| match error {
            TrySendError::Full(_) => MeterError::Busy { endpoint: endpoint(), waiting: QUEUE_MAX },
            TrySendError::Closed(_) => MeterError::Closed,
        })?;
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(MeterError::Closed.into()),
            Err(_) => Err(MeterError::Late { endpoint: endpoint() }.into()),
        }
    }
}

impl Open {
    /// The handle's inside, if its task still runs: a runtime that was shut down takes its tasks with it.
    fn live(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade().filter(|shared| !shared.urgent.is_closed())
    }
}

impl Shared {
    fn start(config: BusConfig, turn: Arc<AsyncMutex<()>>) -> Self {
        let (urgent, urgent_jobs) = mpsc::channel(QUEUE_MAX);
        let (calm, calm_jobs) = mpsc::channel(QUEUE_MAX);
        let endpoint = config.endpoint.clone();
        let counts = Arc::new(Mutex::new(BusReport {
            endpoint: endpoint.clone(),
            connected: false,
            connections: 0,
            requests: 0,
            probes: 0,
            answers: 0,
            refusals: 0,
            failures: 0,
            busy: Duration::ZERO,
            age: Duration::ZERO,
        }));
        let actor = Actor::new(config, Arc::clone(&counts));
        tokio::spawn(async move {
            // The place may still be open under other settings, just let go of.
            let _turn = turn.lock_owned().await;
            actor.run(urgent_jobs, calm_jobs).await;
        });
        Self { endpoint, urgent, calm, counts, resting: Mutex::default(), opened: Instant::now() }
    }
}

/// Reads of other lengths near `span`, for a device of which nothing else is known.
pub(crate) fn near(span: Span) -> Vec<Span> {
    let counts = [span.count.saturating_sub(2), span.count.saturating_sub(1), span.count + 1, span.count + 2];
    let possible = |count: &u16| {
        (1..=REGISTERS_MAX).contains(count) && u32::from(span.address) + u32::from(*count) <= 0x1_0000
    };
    counts.into_iter().filter(possible).map(|count| Span { count, ..span }).collect()
}

/// One block wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) unit: u8,
    pub(crate) span: Span,
    /// Registers that may be read after it.
    pub(crate) spare: u16,
    /// Short reads that may be made for nothing.
    pub(crate) probes: Arc<[Span]>,
    /// For the end of an interval: goes before all others, and does not wait for a pause.
    pub(crate) urgent: bool,
    /// Only on this connection, because something was read on it that the answer depends on.
    pub(crate) connection: Option<u64>,
    /// On a connection made for it.
    pub(crate) fresh: bool,
    pub(crate) deadline: Instant,
}

/// A wish on its way to the owner of the connection.
#[derive(Debug)]
struct Job {
    wish: Wish,
    timeout: Duration,
    lenient: bool,
    reply: oneshot::Sender<Result<Answer, Denied>>,
}

/// The registers asked for, when, and on which connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) words: Vec<u16>,
    pub(crate) asked: Instant,
    pub(crate) round_trip: Duration,
    pub(crate) connection: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The connection is not the one wanted: what was read on that one must be read again.
    OtherConnection,
    /// The device refused.
    Refused {
        /// What was asked for.
        span: Span,
        /// Modbus exception code.
        code: u8,
        /// False if it may have been the late answer to an earlier question.
        certain: bool,
    },
    /// Anything else.
    Failed(MeterError),
}

impl From<MeterError> for Denied {
    fn from(error: MeterError) -> Self {
        Self::Failed(error)
    }
}

impl Denied {
    /// True if the device certainly has no such register, or says that it holds nothing.
    pub(crate) const fn is_no_such_value(&self) -> bool {
        match self {
            Self::Refused { code, certain, .. } => *certain && matches!(code, 0x01..=0x03),
            Self::Failed(error) => matches!(error, MeterError::Absent { .. } | MeterError::NoSerial { .. }),
            Self::OtherConnection => false,
        }
    }

    /// What to tell who asked.
    pub(crate) fn error(self, endpoint: &Endpoint) -> MeterError {
        match self {
            Self::Failed(error) => error,
            Self::Refused { span, code, .. } => {
                MeterError::Refused { function: span.function.code(), register: span.address, code }
            }
            Self::OtherConnection => {
                let cause = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                MeterError::Broken { endpoint: endpoint.clone(), cause: cause.into() }
            }
        }
    }
}
