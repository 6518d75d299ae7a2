//! The task that owns the connection.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Answer, BusConfig, BusReport, Denied, Job, Wish};
use crate::back_off::BackOff;
use crate::endpoint::{Endpoint, Line};
use crate::error::MeterError;
use crate::link::{Link, Question, Reply};
use crate::profile::{Function, Span};
use crate::transport::{Guard, Next, Port, Shape};

/// Requests sent for one wish: some probes may be refused.
const REQUESTS_MAX: usize = 6;
/// With less time left than this a request is not sent: its answer would only come late.
const TIME_MIN: Duration = Duration::from_millis(50);
/// How long opening a place may take when nobody waits.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// How long a line must be silent after a failure before it is used again, and below 9600 Bd.
const QUIET: Duration = Duration::from_millis(300);
const QUIET_SLOW: Duration = Duration::from_secs(1);
/// A line that is not silent by then is disturbed.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(3);

/// Owner of the connection to one bus.
pub(super) struct Actor {
    config: BusConfig,
    link: Option<Link>,
    connections: u64,
    /// Answers may still come on the line.
    unquiet: bool,
    guard: Guard,
    rest: BackOff,
    /// The units asked so far.
    units: BTreeSet<u8>,
    /// Spare registers that turned out not to be there.
    no_spare: BTreeSet<(u8, Function, u16)>,
    counts: Arc<Mutex<BusReport>>,
}

impl Actor {
    pub(super) fn new(config: BusConfig, counts: Arc<Mutex<BusReport>>) -> Self {
        let without_ids = config.endpoint.is_rtu();
        Self {
            link: None,
            connections: 0,
            // Somebody else may have asked just before this program started.
            unquiet: without_ids,
            guard: Guard::new(without_ids || config.lenient_header),
            rest: BackOff::of_bus(seed(&config.endpoint)),
            units: BTreeSet::new(),
            no_spare: BTreeSet::new(),
            counts,
            config,
        }
    }

    pub(super) async fn run(mut self, mut urgent: mpsc::Receiver<Job>, mut calm: mpsc::Receiver<Job>) {
        loop {
            let job = tokio::select! {
                biased;
                Some(job) = urgent.recv() => job,
                Some(job) = calm.recv() => job,
                else => break,
            };
            if job.reply.is_closed() {
                continue;
            }
            let result = self.answer(&job).await;
            // The caller may have gone meanwhile: nobody is left to tell.
            let _ = job.reply.send(result);
            self.make_quiet().await;
        }
        self.part().await;
    }

    fn counts(&self) -> MutexGuard<'_, BusReport> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&mut self, job: &Job) -> Result<Answer, Denied> {
        let Wish { unit, span, spare, ref probes, connection, .. } = job.wish;
        self.units.insert(unit);
        if job.wish.fresh {
            self.part().await;
        }
        for _ in 0..REQUESTS_MAX {
            let current = self.connect(job).await?;
            if connection.is_some_and(|wanted| wanted != current) {
                return Err(Denied::OtherConnection);
            }
            let missing = self.no_spare.contains(&(unit, span.function, span.address));
            let spare = if missing { 0 } else { spare };
            match self.guard.next(unit, span, spare, probes, Instant::now()) {
                Next::Ask(count) => match self.exchange(job, Span { count, ..span }).await? {
                    (Reply::Exception(0x02 | 0x03), _) if count > span.count => {
                        self.no_spare.insert((unit, span.function, span.address));
                    }
                    (Reply::Exception(code), Said { certain, .. }) => {
                        return Err(Denied::Refused { span, code, certain });
                    }
                    (Reply::Words(mut words), Said { asked, round_trip, .. }) => {
                        words.truncate(span.count.into());
                        return Ok(Answer { words, asked, round_trip, connection: current });
                    }
                },
                Next::Probe(probe) => self.probe(job, probe).await?,
                Next::Nothing => break,
            }
        }
        Err(MeterError::OutOfStep { endpoint: self.config.endpoint.clone(), unit }.into())
    }

    /// A read whose value nobody uses. A device that is busy or away would refuse the next one, too.
    async fn probe(&mut self, job: &Job, probe: Span) -> Result<(), Denied> {
        self.counts().probes += 1;
        match self.exchange(job, probe).await? {
            (Reply::Exception(code @ (0x05 | 0x06 | 0x0A | 0x0B)), _) => {
                Err(Denied::Refused { span: probe, code, certain: false })
            }
            _ => Ok(()),
        }
    }

    /// One request on the wire. A failure ends the connection.
    async fn exchange(&mut self, job: &Job, span: Span) -> Result<(Reply, Said), Denied> {
        let (unit, shape) = (job.wish.unit, Shape::of(span));
        let endpoint = || self.config.endpoint.clone();
        let lenient = job.lenient && !self.config.endpoint.is_rtu() && self.units.len() == 1;
        let gap = gap(&self.config);
        let Some(link) = &mut self.link else { return Err(Denied::OtherConnection) };
        link.keep_gap(gap).await;
        let asked = Instant::now();
        let left = job.wish.deadline.saturating_duration_since(asked);
        if left < TIME_MIN.min(job.timeout) {
            return Err(MeterError::Late { endpoint: endpoint() }.into());
        }
        self.guard.sent(unit, shape, asked);
        let reply = link.ask(Question { unit, span, wait: job.timeout.min(left), lenient }).await;
        let round_trip = asked.elapsed();
        let certain = self.noted(unit, shape, &reply, round_trip);
        if reply.is_err() {
            self.part().await;
        }
        Ok((reply?, Said { certain, asked, round_trip }))
    }

    /// Keeps guard and counts in step with what came: true if an exception can only be the answer to this question.
    fn noted(&mut self, unit: u8, shape: Shape, reply: &Result<Reply, MeterError>, took: Duration) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.requests += 1;
        counts.busy += took;
        match reply {
            Ok(Reply::Words(_)) => {
                counts.answers += 1;
                self.guard.answered(unit, shape)
            }
            Ok(Reply::Exception(code)) => {
                counts.refusals += 1;
                // A gateway that gave up: its unit may still answer, and the gateway take that for the next answer.
                !matches!(code, 0x0A | 0x0B) && self.guard.refused(unit)
            }
            Err(error) => {
                counts.failures += 1;
                if !self.config.endpoint.is_rtu() && is_lost(error) {
                    self.guard.gone(unit);
                }
                false
            }
        }
    }

    /// A connection in good order, and its number.
    async fn connect(&mut self, job: &Job) -> Result<u64, Denied> {
        match &self.link {
            Some(link) if link.is_in_order() => return Ok(link.generation),
            Some(_) => self.part().await,
            None => {}
        }
        if let (Some(pause), false) = (self.rest.pause(Instant::now()), job.wish.urgent) {
            return Err(MeterError::Resting {
                endpoint: self.config.endpoint.clone(),
                failures: self.rest.failures(),
                retry_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                last: self.rest.last().to_owned(),
            }
            .into());
        }
        Ok(self.open(job.wish.deadline).await?)
    }

    /// Opens the place, and lets the line fall quiet if answers to earlier questions may still come. What follows the
    /// opening is not cut short by the deadline: else a device that needs more time than its callers allow would
    /// never be ready.
    async fn open(&mut self, deadline: Instant) -> Result<u64, MeterError> {
        let opened = Port::open(&self.config.endpoint, deadline).await;
        let port = opened.inspect_err(|error| self.note_failure(error))?;
        self.connections += 1;
        let mut link = Link::new(port, self.config.endpoint.clone(), self.connections);
        if !self.config.connect_delay.is_zero() {
            sleep(self.config.connect_delay).await;
        }
        if self.unquiet {
            if let Err(error) = fall_quiet(&mut link, &self.config.endpoint).await {
                self.note_failure(&error);
                link.close().await;
                return Err(error);
            }
            self.unquiet = false;
        }
        self.rest.succeeded();
        self.link = Some(link);
        let mut counts = self.counts();
        counts.connected = true;
        counts.connections = self.connections;
        Ok(self.connections)
    }

    fn note_failure(&mut self, error: &MeterError) {
        if !error.is_not_asked() {
            self.rest.failed(Instant::now(), true, error.to_string());
        }
    }

    /// Closes the connection. Without transaction ids its answers may come on the next one.
    async fn part(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.unquiet = self.config.endpoint.is_rtu();
        self.counts().connected = false;
        link.close().await;
    }

    /// After a failure on a line, waits for it to fall quiet before the next request comes, so that no request pays.
    async fn make_quiet(&mut self) {
        if self.unquiet && self.link.is_none() && self.rest.pause(Instant::now()).is_none() {
            // Noted where it happened; the next request tells who asks.
            let _ = self.open(Instant::now() + OPEN_MAX).await;
        }
    }
}

/// When a reply came, and what is known about it.
struct Said {
    certain: bool,
    asked: Instant,
    round_trip: Duration,
}

async fn fall_quiet(link: &mut Link, endpoint: &Endpoint) -> Result<(), MeterError> {
    let fallen = link.fall_quiet(quiet(endpoint), QUIET_WAIT_MAX).await;
    let endpoint = endpoint.clone();
    match fallen {
        Ok(true) => Ok(()),
        Ok(false) => Err(MeterError::Unquiet { endpoint }),
        Err(cause) => Err(MeterError::Broken { endpoint, cause: cause.into() }),
    }
}

fn quiet(endpoint: &Endpoint) -> Duration {
    match endpoint {
        Endpoint::Serial { line: Line { baud, .. }, .. } if *baud < 9600 => QUIET_SLOW,
        _ => QUIET,
    }
}

/// True if the connection itself failed: no answer outlives it. After anything else one may still come, for a gateway
/// that passes questions on to a serial line may hand what comes too late to the next question, under its id.
const fn is_lost(error: &MeterError) -> bool {
    matches!(error, MeterError::Broken { cause: tokio_modbus::Error::Transport(_), .. })
}

/// The silence before a request: that of the norm on a serial line, or what the device needs.
fn gap(config: &BusConfig) -> Duration {
    match &config.endpoint {
        Endpoint::Serial { line, .. } => config.frame_gap.max(line.silence()),
        _ => config.frame_gap,
    }
}

/// Differs between buses, so that their pauses do.
fn seed(endpoint: &Endpoint) -> u64 {
    endpoint.to_string().bytes().fold(0, |seed, byte| seed << 5 ^ seed >> 59 ^ u64::from(byte))
}
