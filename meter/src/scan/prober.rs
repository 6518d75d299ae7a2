//! One connection of a scan: asks, waits briefly, and remembers every unit that was ever heard.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{timeout, timeout_at};

use super::wire::{Content, Heard, NotModbusTcp, Question, find_rtu, tcp_at_start};
use crate::endpoint::Endpoint;
use crate::error::MeterError;
use crate::transport::Port;

/// How long opening may take.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// No answer to one read is longer; what comes beyond is noise.
const HEARD_BYTES_MAX: usize = 1024;
/// A bus is quiet after this long without a byte.
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for quiet: a bus that never is has another master.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// What came of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Words(Vec<u16>),
    Exception(u8),
    /// Nothing at all.
    Silent,
    /// Only our own question came back.
    Echo,
    /// Bytes that are no frame: another baud rate or parity, another protocol, or two masters.
    Noise,
    /// The other side ended the connection.
    Closed,
}

/// A connection to a bus or a gateway.
pub(crate) struct Prober {
    /// `None` once it ended and could not be opened again.
    port: Option<Port>,
    endpoint: Endpoint,
    transaction: u16,
    buffer: Vec<u8>,
    /// Units that a good frame came from, other than the gateway's "not there".
    heard: BTreeSet<u8>,
    /// True once our own question came back: the adapter does not mute its receiver.
    echoes: bool,
}

impl Prober {
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, MeterError> {
        let port = Port::open(endpoint, Instant::now() + OPEN_MAX).await?;
        Ok(Self {
            port: Some(port),
            endpoint: endpoint.clone(),
            transaction: 0,
            buffer: Vec::new(),
            heard: BTreeSet::new(),
            echoes: false,
        })
    }

    pub(crate) const fn heard(&self) -> &BTreeSet<u8> {
        &self.heard
    }

    pub(crate) const fn echoes(&self) -> bool {
        self.echoes
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes back that `unit` was heard.
    pub(crate) fn forget(&mut self, unit: u8) {
        self.heard.remove(&unit);
    }

    /// A fresh connection in place of one that ended. If that fails, the next question shows it.
    pub(crate) async fn reopen(&mut self) {
        // A serial port can be opened once only.
        self.port = None;
        self.port = Port::open(&self.endpoint, Instant::now() + OPEN_MAX).await.ok();
    }

    const fn is_tcp(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp(_))
    }

    /// Asks once and waits at most `wait` beyond the time the question itself takes on the line.
    pub(crate) async fn ask(&mut self, question: Question, wait: Duration) -> Outcome {
        self.transaction = self.transaction.wrapping_add(1);
        let frame = if self.is_tcp() { question.tcp(self.transaction) } else { question.rtu() };
        let Some(port) = &mut self.port else { return Outcome::Closed };
        if port.write_all(&frame).await.is_err() || port.flush().await.is_err() {
            return Outcome::Closed;
        }
        let deadline = Instant::now() + wait + line_time(&self.endpoint, question.count);
        self.buffer.clear();
        let mut echoed = false;
        loop {
            let mut chunk = [0; 512];
            let Some(port) = &mut self.port else { return Outcome::Closed };
            match timeout_at(deadline.into(), port.read(&mut chunk)).await {
                Err(_) => return self.after_silence(echoed),
                Ok(Err(_) | Ok(0)) => return Outcome::Closed,
                Ok(Ok(read)) => self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            }
            if !self.is_tcp() && self.buffer.starts_with(&frame) {
                self.buffer.drain(..frame.len());
                echoed = true;
                self.echoes = true;
            }
            if let Some(outcome) = self.understood(question) {
                return outcome;
            }
            if self.buffer.len() > HEARD_BYTES_MAX {
                self.buffer.clear();
                return Outcome::Noise;
            }
        }
    }

    /// Lets pass what still comes, until the bus is quiet.
    pub(crate) async fn settle(&mut self) {
        self.listen(QUIET).await;
        self.buffer.clear();
    }

    /// Hears who else answers, until nothing came for `quiet`.
    pub(crate) async fn listen(&mut self, quiet: Duration) {
        let end = Instant::now() + quiet + QUIET_MAX;
        let mut chunk = [0; 512];
        while Instant::now() < end {
            let Some(port) = &mut self.port else { return };
            let Ok(Ok(read @ 1..)) = timeout(quiet, port.read(&mut chunk)).await else { return };
            self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
            while let Some((heard, _)) = self.next_frame() {
                self.note(&heard);
            }
            if self.buffer.len() > HEARD_BYTES_MAX {
                self.buffer.clear();
            }
        }
    }

    const fn after_silence(&self, echoed: bool) -> Outcome {
        match (self.buffer.is_empty(), echoed) {
            (true, true) => Outcome::Echo,
            (true, false) => Outcome::Silent,
            (false, _) => Outcome::Noise,
        }
    }

    /// Takes every good frame out of the buffer; the answer to `question`, if it is among them.
    fn understood(&mut self, question: Question) -> Option<Outcome> {
        while let Some((heard, in_step)) = self.next_frame() {
            self.note(&heard);
            if in_step && question.is_answered_by(&heard) {
                return Some(match heard.content {
                    Content::Words(words) => Outcome::Words(words),
                    Content::Exception(code) => Outcome::Exception(code),
                });
            }
        }
        (self.is_tcp() && tcp_at_start(&self.buffer) == Err(NotModbusTcp)).then_some(Outcome::Noise)
    }

    /// The next good frame in the buffer, and whether it belongs to the last question as far as its framing tells.
    fn next_frame(&mut self) -> Option<(Heard, bool)> {
        let (heard, end, in_step) = if self.is_tcp() {
            let (transaction, heard, end) = tcp_at_start(&self.buffer).ok()??;
            (heard, end, transaction == self.transaction)
        } else {
            let (heard, end) = find_rtu(&self.buffer)?;
            (heard, end, true)
        };
        self.buffer.drain(..end);
        Some((heard, in_step))
    }

    fn note(&mut self, heard: &Heard) {
        let there = match heard.content {
            Content::Words(_) => true,
            Content::Exception(code) => is_from_device(code),
        };
        if there {
            self.heard.insert(heard.unit);
        }
    }
}

/// True for the exceptions that only a device that is there sends. With 0x04, 0x0A and 0x0B servers and gateways answer
/// for units that are not (pymodbus 3.16 sends 0x04).
pub(crate) const fn is_from_device(exception: u8) -> bool {
    matches!(exception, 0x01 | 0x02 | 0x03 | 0x05 | 0x06)
}

/// How long a question for `count` registers and its answer take on the line; nothing on TCP.
fn line_time(endpoint: &Endpoint, count: u16) -> Duration {
    match endpoint {
        Endpoint::Serial { line, .. } => line.time_of(8 + 5 + 2 * u32::from(count)),
        _ => Duration::ZERO,
    }
}
