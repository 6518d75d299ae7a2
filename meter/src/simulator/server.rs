//! Simulated meters on a wire: a listener or a serial line, the units on it, and one answer after the other.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::SimulatedMeter;
use super::faults::Fault;
use crate::frame::{Answer, Framing, Request, Requests, exception};

/// Clients served at once; further connections are closed. A real meter serves one to eight.
const CLIENTS_MAX: usize = 64;
/// Pause after the listener failed (for instance no file handle left).
const LISTENER_PAUSE: Duration = Duration::from_millis(100);
/// A simulated meter waits for its client for ever, as a real one does.
const IDLE_MAX: Duration = Duration::MAX;

/// Simulated meters that share one wire, each with its unit id. Clones are the same bus.
#[derive(Debug, Clone)]
pub struct SimulatedBus {
    units: BTreeMap<u8, SimulatedMeter>,
    unplugged: Arc<watch::Sender<bool>>,
}

impl Default for SimulatedBus {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedBus {
    /// A bus nobody is on yet.
    #[must_use]
    pub fn new() -> Self {
        Self { units: BTreeMap::new(), unplugged: Arc::new(watch::Sender::new(false)) }
    }

    /// The bus with `meter` at `unit`. A meter unplugged there is silent on RTU and exception 0x0B on TCP.
    #[must_use]
    pub fn with(mut self, unit: u8, meter: SimulatedMeter) -> Self {
        self.units.insert(unit, meter);
        self
    }

    /// With `true` drops all connections and answers nobody until `false`.
    pub fn unplug(&self, unplugged: bool) {
        self.unplugged.send_replace(unplugged);
    }

    /// Serves `listener` until `shutdown` completes; connections end with it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if a serial number has no form in its model's registers.
    pub async fn serve(
        self,
        listener: TcpListener,
        framing: Framing,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let mut unplugged = self.unplugged.subscribe();
        let units = self.checked()?;
        tokio::select! {
            () = shutdown => Ok(()),
            () = serve_while_plugged(&units, &listener, framing, &mut unplugged) => Ok(()),
        }
    }

    /// Serves one stream, for instance a serial line, until it ends or `shutdown` completes.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] as [`Self::serve`], or what ended the stream.
    pub async fn serve_stream(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        framing: Framing,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let units = self.checked()?;
        tokio::select! {
            () = shutdown => Ok(()),
            ended = serve_client(&units, stream, framing) => ended,
        }
    }

    fn checked(&self) -> io::Result<Units> {
        match self.units.values().find_map(SimulatedMeter::problem) {
            Some(problem) => Err(io::Error::new(io::ErrorKind::InvalidInput, problem)),
            None => Ok(Units(Arc::new(self.units.clone()))),
        }
    }
}

/// Serves one meter as unit 1 of Modbus TCP; unplugging it takes the whole server away.
pub(super) async fn serve_alone(
    meter: SimulatedMeter,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let mut unplugged = meter.unplugged();
    let units = SimulatedBus::new().with(super::UNIT, meter).checked()?;
    tokio::select! {
        () = shutdown => Ok(()),
        () = serve_while_plugged(&units, &listener, Framing::Tcp, &mut unplugged) => Ok(()),
    }
}

async fn serve_while_plugged(
    units: &Units,
    listener: &TcpListener,
    framing: Framing,
    unplugged: &mut watch::Receiver<bool>,
) {
    loop {
        wait_until(unplugged, false).await;
        tokio::select! {
            // Dropping the other future ends every connection.
            () = wait_until(unplugged, true) => {}
            error = serve_clients(units, listener, framing) => {
                tracing::warn!(%error, "simulated meter cannot accept clients");
                sleep(LISTENER_PAUSE).await;
            }
        }
    }
}

async fn wait_until(unplugged: &mut watch::Receiver<bool>, wanted: bool) {
    // The sender lives in the meter or bus that is being served: waiting cannot fail.
    let _ = unplugged.wait_for(|unplugged| *unplugged == wanted).await;
}

async fn serve_clients(units: &Units, listener: &TcpListener, framing: Framing) -> io::Error {
    let (mut clients, room) = (JoinSet::new(), Arc::new(Semaphore::new(CLIENTS_MAX)));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return error,
        };
        while clients.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let units = units.clone();
        clients.spawn(async move {
            let _permit = permit;
            if let Err(error) = serve_socket(&units, stream, framing).await {
                tracing::debug!(%error, "simulated meter lost a client");
            }
        });
    }
}

async fn serve_socket(units: &Units, stream: TcpStream, framing: Framing) -> io::Result<()> {
    stream.set_nodelay(true)?;
    serve_client(units, stream, framing).await
}

async fn serve_client(
    units: &Units,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    framing: Framing,
) -> io::Result<()> {
    let mut requests = Requests::new(framing, IDLE_MAX);
    loop {
        let request = requests.next(&mut stream).await?;
        match units.reply(&request, framing) {
            Some(reply) => reply.send(&mut stream).await?,
            None => continue,
        }
    }
}

/// The meters on a wire.
#[derive(Debug, Clone)]
struct Units(Arc<BTreeMap<u8, SimulatedMeter>>);

impl Units {
    /// What the wire carries after `request`; `None` is silence.
    fn reply(&self, request: &Request, framing: Framing) -> Option<Reply> {
        let meter = self.0.get(&request.unit);
        // The task that takes the whole server away may be a moment late.
        if self.0.len() == 1 && meter.is_some_and(SimulatedMeter::is_unplugged) {
            return None;
        }
        let meter = meter.filter(|meter| !meter.is_unplugged());
        match (meter, framing) {
            (Some(meter), _) => {
                let fault = meter.next_fault();
                let result = request.read().and_then(|read| meter.read(read));
                Some(Reply::spoilt(request, Answer::to(request, result), framing, fault))
            }
            // A serial line carries nothing from a unit that is not there; a gateway says so.
            (None, Framing::Rtu) => None,
            (None, Framing::Tcp) => {
                Some(Reply::plain(Answer::to(request, Err(exception::NO_ANSWER)).frame(framing)))
            }
        }
    }
}

/// Bytes and how they are sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reply {
    after: Duration,
    /// Pause before each byte; zero sends them together.
    between: Duration,
    bytes: Vec<u8>,
    close: bool,
}

impl Reply {
    fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn spoilt(request: &Request, mut answer: Answer, framing: Framing, fault: Option<Fault>) -> Self {
        match fault {
            Some(Fault::Busy) => answer.result = Err(exception::BUSY),
            Some(Fault::WrongTransaction) if framing == Framing::Tcp => {
                answer.transaction = answer.transaction.wrapping_add(1);
            }
            Some(Fault::WrongTransaction | Fault::WrongUnit) => answer.unit = answer.unit.wrapping_add(1),
            Some(Fault::Short) => {
                answer.result.iter_mut().for_each(|words| words.truncate(words.len().saturating_sub(2)));
            }
            Some(Fault::Long) => answer.result.iter_mut().for_each(|words| words.extend([0, 0])),
            _ => {}
        }
        let mut reply = Self::plain(answer.frame(framing));
        match fault {
            Some(Fault::Late(after)) => reply.after = after,
            Some(Fault::Trickled(between)) => reply.between = between,
            Some(Fault::Lost) => reply.bytes.clear(),
            Some(Fault::Cut) => reply.bytes.truncate(reply.bytes.len().saturating_sub(2)),
            Some(Fault::Corrupted) => corrupt(&mut reply.bytes, framing),
            Some(Fault::Twice) => reply.bytes.extend_from_within(..),
            Some(Fault::Echoed) => reply.bytes = [request.rtu_bytes(), reply.bytes].concat(),
            Some(Fault::Closed) => reply.close = true,
            _ => {}
        }
        reply
    }

    /// Sends it; an error ends the connection.
    async fn send(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.close {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // A sleep of nothing takes a millisecond.
        if !self.after.is_zero() {
            sleep(self.after).await;
        }
        let trickled = !self.between.is_zero();
        for bytes in self.bytes.chunks(if trickled { 1 } else { self.bytes.len().max(1) }) {
            if trickled {
                sleep(self.between).await;
            }
            stream.write_all(bytes).await?;
            stream.flush().await?;
        }
        Ok(())
    }
}

/// Damages a byte whose damage can be noticed: on TCP the protocol id, on a line the first value.
fn corrupt(bytes: &mut [u8], framing: Framing) {
    let at = if framing == Framing::Tcp { 3 } else { 3.min(bytes.len().saturating_sub(1)) };
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 0x5A;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::frame::crc;

    const READ: [u8; 8] = [1, 4, 0, 0x48, 0, 4, 0x71, 0xDF];

    /// What `fault` makes of the right answer `bytes` to [`READ`].
    async fn with(framing: Framing, fault: Option<Fault>) -> Reply {
        let serial = energy::MeterSerial::new("21040123").unwrap();
        let meter = SimulatedMeter::new(serial);
        meter.set(4_000_000, 8_000, 100);
        if let Some(fault) = fault {
            meter.inject(fault);
        }
        let units = SimulatedBus::new().with(1, meter).checked().unwrap();
        let mut stream = &READ[..];
        let request = Requests::new(Framing::Rtu, IDLE_MAX).next(&mut stream).await.unwrap();
        units.reply(&request, framing).unwrap()
    }

    #[tokio::test]
    async fn every_fault_changes_what_it_says_and_nothing_else() {
        let right = with(Framing::Rtu, None).await.bytes;
        assert_eq!((right.len(), crc(&right)), (13, 0));
        let bytes = async |fault| with(Framing::Rtu, Some(fault)).await.bytes;
        assert_eq!(bytes(Fault::Cut).await, right[..11]);
        assert_eq!(bytes(Fault::Twice).await, [&right[..], &right].concat());
        assert_eq!(bytes(Fault::Echoed).await, [&READ[..], &right].concat());
        assert!(bytes(Fault::Lost).await.is_empty());
        assert_ne!(crc(&bytes(Fault::Corrupted).await), 0);
        let other = bytes(Fault::WrongUnit).await;
        assert_eq!((other[0], &other[1..11], crc(&other)), (2, &right[1..11], 0));
        let (short, long) = (bytes(Fault::Short).await, bytes(Fault::Long).await);
        assert_eq!((short[2], short.len(), crc(&short)), (4, 9, 0));
        assert_eq!((long[2], long.len(), crc(&long)), (12, 17, 0));
        assert_eq!(bytes(Fault::Busy).await[..3], [1, 0x84, 6]);
        let late = with(Framing::Rtu, Some(Fault::Late(Duration::from_millis(70)))).await;
        assert_eq!((late.after, late.bytes), (Duration::from_millis(70), right.clone()));
        let trickled = with(Framing::Rtu, Some(Fault::Trickled(Duration::from_millis(5)))).await;
        assert_eq!((trickled.between, trickled.bytes), (Duration::from_millis(5), right));
        assert!(with(Framing::Rtu, Some(Fault::Closed)).await.close);
        let tcp = with(Framing::Tcp, Some(Fault::WrongTransaction)).await.bytes;
        assert_eq!(tcp[..8], [0, 1, 0, 0, 0, 11, 1, 4]);
    }

    #[tokio::test]
    async fn an_unplugged_bus_drops_its_clients_and_answers_again_once_plugged_in() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let meter = SimulatedMeter::new(energy::MeterSerial::new("21040123").unwrap());
        let bus = SimulatedBus::new().with(1, meter.clone()).with(2, meter);
        tokio::spawn(bus.clone().serve(listener, Framing::Rtu, std::future::pending()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&READ).await.unwrap();
        client.read_exact(&mut [0; 13]).await.unwrap();
        bus.unplug(true);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0, "the connection ends");
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&READ).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(100), client.read_u8()).await;
        assert!(answer.is_err(), "silence while unplugged");
        bus.unplug(false);
        client.read_exact(&mut [0; 13]).await.unwrap();
    }

    #[tokio::test]
    async fn a_line_is_silent_for_a_unit_that_is_not_there_and_a_gateway_says_so() {
        let units = SimulatedBus::new().checked().unwrap();
        let request = Requests::new(Framing::Rtu, IDLE_MAX).next(&mut &READ[..]).await.unwrap();
        assert_eq!(units.reply(&request, Framing::Rtu), None);
        assert_eq!(units.reply(&request, Framing::Tcp).unwrap().bytes[7..], [0x84, 0x0B]);
    }
}
