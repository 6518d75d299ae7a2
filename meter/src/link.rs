//! One Modbus TCP connection to one unit, in step: every answer is checked against its question.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::{ExceptionCode, Request, Response, Slave};

use crate::error::MeterError;
use crate::profile::{Function, Span};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Pause after a device said that it is busy (exceptions 0x05 and 0x06).
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// A connection. Whoever gets an error that does not [keep the connection](MeterError::keeps_connection) must drop it:
/// an answer may still be on its way, and would be taken for the answer to the next question.
pub(crate) struct Link {
    context: Context,
    address: SocketAddr,
    unit: u8,
    timeout: Duration,
}

/// The registers asked for, and when.
pub(crate) struct Answer {
    pub(crate) words: Vec<u16>,
    pub(crate) asked: Instant,
    pub(crate) round_trip: Duration,
}

impl Link {
    /// Connects within `deadline`; each read then waits at most `wait`.
    pub(crate) async fn connect(
        address: SocketAddr,
        unit: u8,
        wait: Duration,
        deadline: Instant,
    ) -> Result<Self, MeterError> {
        let unreachable = |cause| MeterError::Unreachable { address, cause };
        let connecting = timeout(CONNECT_MAX.min(left(deadline, address)?), TcpStream::connect(address));
        let stream = connecting
            .await
            .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        Ok(Self { context: tcp::attach_slave(stream, Slave(unit)), address, unit, timeout: wait })
    }

    /// Reads exactly the registers of `span`. A busy device is asked again while the deadline allows.
    pub(crate) async fn read(&mut self, span: Span, deadline: Instant) -> Result<Answer, MeterError> {
        loop {
            let asked = Instant::now();
            let exception = match self.ask(span, deadline).await? {
                Ok(words) => return Ok(Answer { words, asked, round_trip: asked.elapsed() }),
                Err(exception) => exception,
            };
            let busy = matches!(exception, ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy);
            if !busy || deadline.saturating_duration_since(Instant::now()) <= BUSY_PAUSE {
                let Span { function, address: register, .. } = span;
                return Err(MeterError::Refused {
                    function: function.code(),
                    register,
                    code: exception.into(),
                });
            }
            sleep(BUSY_PAUSE).await;
        }
    }

    /// One question, one answer: the outer error breaks the connection, the inner is the device's refusal.
    async fn ask(
        &mut self,
        span: Span,
        deadline: Instant,
    ) -> Result<Result<Vec<u16>, ExceptionCode>, MeterError> {
        let Span { function, address: register, count } = span;
        let request = match function {
            Function::Holding => Request::ReadHoldingRegisters(register, count),
            Function::Input => Request::ReadInputRegisters(register, count),
        };
        let wait = self.timeout.min(left(deadline, self.address)?);
        let waited_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        // `call`, not `read_…_registers`: those panic in debug builds if the device sends another number of words.
        let answer = timeout(wait, self.context.call(request))
            .await
            .map_err(|_| MeterError::Silent { address: self.address, unit: self.unit, waited_ms })?
            .map_err(|cause| MeterError::Broken { address: self.address, cause })?;
        let words = match answer {
            Ok(Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words)) => words,
            // The function code was compared above us; nothing else carries these two codes.
            Ok(_) => Vec::new(),
            Err(exception) => return Ok(Err(exception)),
        };
        let (asked, got) = (usize::from(count), words.len());
        if asked == got { Ok(Ok(words)) } else { Err(MeterError::BadLength { register, asked, got }) }
    }
}

/// Time left until `deadline`.
fn left(deadline: Instant, address: SocketAddr) -> Result<Duration, MeterError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(MeterError::Late { address }) } else { Ok(left) }
}
