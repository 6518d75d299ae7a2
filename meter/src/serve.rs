//! A meter for more than one program: a read-only Modbus TCP server in front of a device.
//!
//! Many inverters and gateways take one client. The node is that client, and other software reads from the node: the
//! same unit ids, functions and register addresses as on the device. A request is answered from what was read last if
//! that is younger than [`ShareConfig::age_max`], else the device is asked once, however many clients wait. What cannot
//! be had fresh is an exception, never an old value, and all registers of one answer come from one read of the device.
//!
//! The node's own reads come first. A span that the device refused or never answered is not asked for again for
//! minutes, a shared question waits a second and no longer, and while [`ShareConfig::quiet`] says so the device is not
//! asked at all.
//!
//! There is no authentication because Modbus has none. Instead: nothing can be written (every function but the two that
//! read registers is refused with exception 0x01), only the units named are served, and the default address is
//! loopback. A LAN address lets everybody on that LAN read the meter, as a meter with an Ethernet port does: give one
//! only in a network you would plug such a meter into.

mod clients;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::clients::{Clients, Heard};
use crate::bus::Bus;
use crate::error::MeterError;
use crate::frame::{Answer, Framing, Read, Requests, exception};
use crate::profile::{Profile, Span};

/// Where other software finds the meter unless told otherwise: this machine only, and a port that needs no root.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1502);
/// A client that asks nothing for this long is cut off; the slowest pollers ask every five minutes.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// A client that does not take its answer for this long is cut off.
const SEND_MAX: Duration = Duration::from_secs(5);
/// Pause after the listener failed (for instance no file handle left).
const LISTENER_PAUSE: Duration = Duration::from_millis(100);
/// Blocks remembered at once; more than any poll plan has.
const BLOCKS_MAX: usize = 256;
/// A span that the device refused is not asked for again for this long, nor longer one that it never answered. Devices
/// do not get further registers, short of new firmware.
const REFUSAL_MAX: Duration = Duration::from_secs(300);
/// How long it is remembered whether a span was ever answered: longer than any answer stands.
const MEMORY: Duration = Duration::from_secs(900);

/// How a meter is shared.
#[derive(Debug, Clone)]
pub struct ShareConfig {
    /// Unit ids that are served, each with the profile whose blocks are read whole, so that a client that asks for one
    /// value after the other costs the device one read and gets values of one instant.
    pub units: BTreeMap<u8, Option<Arc<Profile>>>,
    /// No value is older than this when it is sent.
    pub age_max: Duration,
    /// Longest wait for the device.
    pub deadline: Duration,
    /// Clients at once; for a further one the longest idle is cut off.
    pub clients_max: usize,
    /// While this says so, what is not known fresh is answered as busy; `None`: never.
    pub quiet: Option<Quiet>,
}

/// Tells when the device belongs to its owner alone.
#[derive(Clone)]
pub struct Quiet(Arc<dyn Fn() -> bool + Send + Sync>);

impl Quiet {
    /// Quiet whenever `now` is true.
    #[must_use]
    pub fn when(now: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl fmt::Debug for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Quiet").field(&(self.0)()).finish()
    }
}

impl ShareConfig {
    /// Values at most a second old, a second of patience, sixteen clients, no quiet times.
    #[must_use]
    pub const fn new(units: BTreeMap<u8, Option<Arc<Profile>>>) -> Self {
        let second = Duration::from_secs(1);
        Self { units, age_max: second, deadline: second, clients_max: 16, quiet: None }
    }
}

/// Where the registers come from: the bus that the node itself reads through, so that sharing opens no connection.
pub trait RegisterSource: Send + Sync + 'static {
    /// Reads `count` registers (`function` 3 holding, 4 input) of `unit` from the device itself.
    ///
    /// # Errors
    /// [`MeterError`]; there is never a partial or an old value.
    fn read_registers(
        &self,
        unit: u8,
        function: u8,
        address: u16,
        count: u16,
        deadline: Duration,
    ) -> impl Future<Output = Result<Vec<u16>, MeterError>> + Send;
}

impl RegisterSource for Bus {
    async fn read_registers(
        &self,
        unit: u8,
        function: u8,
        address: u16,
        count: u16,
        deadline: Duration,
    ) -> Result<Vec<u16>, MeterError> {
        self.read_raw(unit, function, address, count, deadline).await
    }
}

/// A shared meter. Clones share the same memory of what was read.
#[derive(Debug)]
pub struct Share<S> {
    inner: Arc<Inner<S>>,
}

impl<S> Clone for Share<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

#[derive(Debug)]
struct Inner<S> {
    source: S,
    config: ShareConfig,
    known: Mutex<BTreeMap<(u8, Read), Known>>,
    /// One question to the device at a time: who waits finds the answer in `known`.
    asking: Arc<Semaphore>,
}

/// What the device answered to one read.
#[derive(Debug, Clone)]
struct Known {
    /// Before the device was asked: no register in it is older.
    asked: Instant,
    answer: Result<Vec<u16>, u8>,
    /// How long the answer stands.
    stands: Duration,
    /// The device has answered this very read lately: if it does not now, it is away, and may be back any moment.
    answered: bool,
}

impl<S: RegisterSource> Share<S> {
    /// Shares what `source` reads.
    #[must_use]
    pub fn new(source: S, config: ShareConfig) -> Self {
        let (known, asking) = (Mutex::default(), Arc::new(Semaphore::new(1)));
        Self { inner: Arc::new(Inner { source, config, known, asking }) }
    }

    /// Serves Modbus TCP on `listener` until `shutdown` completes; connections end with it.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        if let Ok(address) = listener.local_addr()
            && !address.ip().is_loopback()
        {
            tracing::warn!(%address, "the meter can be read by everybody who reaches this address");
        }
        tokio::select! {
            () = shutdown => {}
            () = self.serve_clients(&listener) => {}
        }
    }

    async fn serve_clients(&self, listener: &TcpListener) {
        let (mut tasks, mut clients) = (JoinSet::new(), Clients::new(self.inner.config.clients_max));
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the shared meter cannot accept clients");
                    sleep(LISTENER_PAUSE).await;
                    continue;
                }
            };
            while tasks.try_join_next().is_some() {}
            let from = address.ip().to_canonical();
            clients.make_room(from);
            let (inner, heard) = (Arc::clone(&self.inner), Heard::now());
            let its = heard.clone();
            let task = tasks.spawn(async move {
                if let Err(error) = inner.serve_client(stream, &its).await {
                    tracing::debug!(%address, %error, "client of the shared meter is gone");
                }
            });
            clients.add(from, heard, task);
        }
    }
}

impl<S: RegisterSource> Inner<S> {
    async fn serve_client(self: &Arc<Self>, mut stream: TcpStream, heard: &Heard) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut requests = Requests::new(Framing::Tcp, IDLE_MAX);
        loop {
            let request = requests.next(&mut stream).await?;
            heard.again();
            let result = match request.read() {
                Ok(read) => self.registers(request.unit, read).await,
                Err(code) => Err(code),
            };
            let frame = Answer::to(&request, result).frame(Framing::Tcp);
            timeout(SEND_MAX, stream.write_all(&frame)).await??;
        }
    }

    /// Fresh registers, or the exception that says why there are none.
    async fn registers(self: &Arc<Self>, unit: u8, read: Read) -> Result<Vec<u16>, u8> {
        let Some(profile) = self.config.units.get(&unit) else { return Err(exception::NO_PATH) };
        let whole = profile.as_ref().map_or(read, |profile| block_around(profile, read));
        match self.part_of(unit, read, whole).await {
            // Some variants of a model lack a part of the block.
            Err(exception::ILLEGAL_ADDRESS | exception::ILLEGAL_VALUE) if whole != read => {
                self.part_of(unit, read, read).await
            }
            answer => answer,
        }
    }

    /// The registers of `read` out of a fresh read of `whole`.
    async fn part_of(self: &Arc<Self>, unit: u8, read: Read, whole: Read) -> Result<Vec<u16>, u8> {
        if let Some(answer) = self.fresh(unit, read, whole) {
            return answer;
        }
        if self.is_quiet() {
            return Err(exception::BUSY);
        }
        let asking = timeout(self.config.deadline, Arc::clone(&self.asking).acquire_owned()).await;
        let one = asking.map_err(|_| exception::BUSY)?.map_err(|_| exception::DEVICE_FAILURE)?;
        // Whoever asked before us may have brought it, and meanwhile the quiet time may have begun.
        if let Some(answer) = self.fresh(unit, read, whole) {
            return answer;
        }
        if self.is_quiet() {
            return Err(exception::BUSY);
        }
        // Whoever asked may be cut off meanwhile: the question goes on without him, or what came of it would be forgotten
        // and asked for again at once.
        let inner = Arc::clone(self);
        let asked = tokio::spawn(async move {
            let _one = one;
            inner.ask(unit, whole).await
        });
        let known = asked.await.map_err(|_| exception::DEVICE_FAILURE)?;
        part(&known, whole, read).unwrap_or(Err(exception::DEVICE_FAILURE))
    }

    fn is_quiet(&self) -> bool {
        self.config.quiet.as_ref().is_some_and(|quiet| (quiet.0)())
    }

    async fn ask(&self, unit: u8, read: Read) -> Known {
        let asked = Instant::now();
        let Read { function, address, count } = read;
        let result = self.source.read_registers(unit, function, address, count, self.config.deadline).await;
        let before = self.known().get(&(unit, read)).cloned();
        let stands =
            result.as_ref().err().map_or(Duration::ZERO, |error| self.stands(error, before.as_ref()));
        let answer = match result {
            Ok(words) if words.len() == usize::from(count) => Ok(words),
            Ok(_) => Err(exception::DEVICE_FAILURE),
            Err(error) => Err(exception_of(&error)),
        };
        let answered = answer.is_ok() || before.as_ref().is_some_and(|before| before.answered);
        let stands = if answered { self.config.age_max } else { stands.max(self.config.age_max) };
        let known = Known { asked, answer, stands, answered };
        self.remember(unit, read, known.clone());
        known
    }

    /// How long it stands that the device did not give what it has never given. A refusal of the register is its own
    /// word. Anything else that took the device's time may also mean that it is away: it stands twice as long each time.
    fn stands(&self, error: &MeterError, before: Option<&Known>) -> Duration {
        match error {
            MeterError::Refused { code: 0x01..=0x03, .. } => REFUSAL_MAX,
            MeterError::Refused { code: 0x05 | exception::BUSY, .. } => self.config.age_max,
            MeterError::Refused { .. } | MeterError::Silent { .. } | MeterError::Broken { .. } => {
                let last = before.map_or(self.config.age_max, |before| before.stands);
                last.saturating_mul(2).min(REFUSAL_MAX)
            }
            _ => self.config.age_max,
        }
    }

    /// What is known of `read` and young enough: from the same read of the device, or from a longer one around it. A
    /// refusal is known only of the very read that was refused.
    fn fresh(&self, unit: u8, read: Read, whole: Read) -> Option<Result<Vec<u16>, u8>> {
        let known = self.known();
        let young = |known: &Known| known.asked.elapsed() <= known.stands;
        if let Some(exact) = known.get(&(unit, whole)).filter(|known| young(known)) {
            return part(exact, whole, read);
        }
        known
            .iter()
            .filter(|((its_unit, _), known)| *its_unit == unit && young(known) && known.answer.is_ok())
            .find_map(|((_, span), known)| part(known, *span, read))
    }

    fn remember(&self, unit: u8, read: Read, answer: Known) {
        let mut known = self.known();
        known.retain(|_, known| known.asked.elapsed() <= MEMORY.max(known.stands));
        known.insert((unit, read), answer);
        if known.len() > BLOCKS_MAX {
            let oldest = known.iter().min_by_key(|(_, known)| known.asked).map(|(read, _)| *read);
            oldest.and_then(|oldest| known.remove(&oldest));
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<(u8, Read), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The block of `profile` that holds all of `read`; else `read` itself. Discovered profiles do not know where their
/// blocks are before discovery.
fn block_around(profile: &Profile, read: Read) -> Read {
    if profile.discover.is_some() {
        return read;
    }
    let whole = |Span { function, address, count }: Span| Read { function: function.code(), address, count };
    [profile.energy.span, profile.live.span]
        .into_iter()
        .map(whole)
        .find(|whole| offset_in(*whole, read).is_some())
        .unwrap_or(read)
}

/// Where `read` begins in `whole`, if it is inside.
fn offset_in(whole: Read, read: Read) -> Option<usize> {
    let offset = read.address.checked_sub(whole.address)?;
    let inside = u32::from(offset) + u32::from(read.count) <= u32::from(whole.count);
    (inside && whole.function == read.function).then_some(usize::from(offset))
}

/// The registers of `read` out of what is known of `whole`.
fn part(known: &Known, whole: Read, read: Read) -> Option<Result<Vec<u16>, u8>> {
    let start = offset_in(whole, read)?;
    match &known.answer {
        Ok(words) => Some(Ok(words.get(start..start + usize::from(read.count))?.to_vec())),
        Err(code) => Some(Err(*code)),
    }
}

/// What the client is told: the device's own refusal, or that the device behind the gateway does not answer.
fn exception_of(error: &MeterError) -> u8 {
    match error {
        MeterError::Refused { code, .. } => *code,
        MeterError::BadSpan { .. } => exception::ILLEGAL_ADDRESS,
        MeterError::Busy { .. } | MeterError::Late { .. } => exception::BUSY,
        _ => exception::NO_ANSWER,
    }
}

#[cfg(test)]
mod tests;
