//! One open connection to a bus: sends one question, and takes for its answer only what can be nothing else.

use std::io;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{Error, ExceptionCode, ExceptionResponse, ProtocolError, Request, Response, Slave};

use crate::endpoint::Endpoint;
use crate::error::MeterError;
use crate::profile::{Function, Span};
use crate::transport::{Heard, Port, Wire};

/// How long closing a connection in good order may take.
const CLOSE_MAX: Duration = Duration::from_millis(200);
/// Bytes of an RTU exception: unit, function, code, check sum.
const EXCEPTION_BYTES: usize = 5;

/// A connection. After any error of [`Link::ask`] it must be closed: an answer may still be on its way.
pub(crate) struct Link {
    context: Context,
    wire: Wire,
    endpoint: Endpoint,
    /// Which connection of its bus this is.
    pub(crate) generation: u64,
    /// When the line was last in use.
    used: Instant,
}

/// What a device says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The registers asked for, all of them.
    Words(Vec<u16>),
    /// A Modbus exception.
    Exception(u8),
}

/// A question to one unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) unit: u8,
    pub(crate) span: Span,
    pub(crate) wait: Duration,
    /// Take an answer with another transaction or unit id, as some gateways send it.
    pub(crate) lenient: bool,
}

impl Link {
    pub(crate) fn new(port: Port, endpoint: Endpoint, generation: u64) -> Self {
        let wire = Wire::new(port);
        let anybody = Slave(0);
        let context = if endpoint.is_rtu() {
            rtu::attach_slave(wire.clone(), anybody)
        } else {
            tcp::attach_slave(wire.clone(), anybody)
        };
        Self { context, wire, endpoint, generation, used: Instant::now() }
    }

    /// Discards what still comes in answer to earlier questions, until nothing came for `quiet`.
    pub(crate) async fn fall_quiet(&mut self, quiet: Duration, longest: Duration) -> io::Result<bool> {
        self.wire.discard_until_quiet(quiet, longest).await
    }

    /// True if the connection is up and nothing lies in its input that nobody asked for.
    pub(crate) fn is_in_order(&self) -> bool {
        matches!(self.wire.take_unasked(), Ok(0))
    }

    /// Waits until the line has been silent for `gap`.
    pub(crate) async fn keep_gap(&mut self, gap: Duration) {
        let silent = self.used.elapsed();
        if silent < gap {
            sleep(gap.saturating_sub(silent)).await;
        }
    }

    /// Closes in good order: a device with one client only takes the next one at once.
    pub(crate) async fn close(mut self) {
        // Whether the other side still listens makes no difference.
        let _ = timeout(CLOSE_MAX, self.context.disconnect()).await;
    }

    /// One question, one answer.
    pub(crate) async fn ask(&mut self, question: Question) -> Result<Reply, MeterError> {
        let Question { unit, span, wait, lenient } = question;
        let request = match span.function {
            Function::Holding => Request::ReadHoldingRegisters(span.address, span.count),
            Function::Input => Request::ReadInputRegisters(span.address, span.count),
        };
        self.wire.listen_anew();
        self.context.set_slave(Slave(unit));
        // `call`, not `read_…_registers`: those panic in debug builds if the device sends another number of words.
        let called = timeout(wait, self.context.call(request)).await;
        self.used = Instant::now();
        let answer = match called {
            Ok(Ok(answer)) => answer,
            Ok(Err(Error::Protocol(ProtocolError::HeaderMismatch { result, message }))) => {
                if !lenient || function_of(&result) != span.function.code() {
                    return Err(self.broken(ProtocolError::HeaderMismatch { result, message }.into()));
                }
                result.map_err(|exception| exception.exception)
            }
            Ok(Err(cause)) => return Err(self.garbled(question, cause)),
            Err(_) => return Err(self.silent(question)),
        };
        self.checked(question, answer)
    }

    /// The answer, if it is as long as it must be and came alone.
    fn checked(
        &self,
        question: Question,
        answer: Result<Response, ExceptionCode>,
    ) -> Result<Reply, MeterError> {
        let Question { unit, span, .. } = question;
        let (function, asked) = (span.function.code(), usize::from(span.count));
        let (reply, on_wire, length) = match answer {
            Ok(Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words)) => {
                let got = words.len();
                if got != asked {
                    return Err(MeterError::BadLength { register: span.address, asked, got });
                }
                (Reply::Words(words), function, EXCEPTION_BYTES + 2 * got)
            }
            Ok(_) => return Err(MeterError::BadLength { register: span.address, asked, got: 0 }),
            Err(exception) => (Reply::Exception(exception.into()), function | 0x80, EXCEPTION_BYTES),
        };
        if !self.endpoint.is_rtu() || self.wire.heard_exactly(unit, on_wire, length) {
            return Ok(reply);
        }
        let not_alone = io::Error::new(io::ErrorKind::InvalidData, "more than one answer came");
        Err(self.garbled(question, not_alone.into()))
    }

    fn broken(&self, cause: Error) -> MeterError {
        MeterError::Broken { endpoint: self.endpoint.clone(), cause }
    }

    /// Something came that is no answer.
    fn garbled(&self, question: Question, cause: Error) -> MeterError {
        match self.heard(question) {
            Heard::Nothing | Heard::Cut => self.broken(cause),
            heard => self.misheard(question, heard),
        }
    }

    /// No answer came in time.
    fn silent(&self, question: Question) -> MeterError {
        self.misheard(question, self.heard(question))
    }

    fn heard(&self, question: Question) -> Heard {
        self.wire.heard(self.endpoint.is_rtu(), question.unit, question.span.function.code())
    }

    fn misheard(&self, question: Question, heard: Heard) -> MeterError {
        let Question { unit, wait, .. } = question;
        let endpoint = self.endpoint.clone();
        match heard {
            Heard::Nothing => {
                let waited_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                MeterError::Silent { endpoint, unit, waited_ms }
            }
            Heard::Echo => MeterError::Echo { endpoint, unit },
            Heard::Noise(bytes) => MeterError::Noise { endpoint, unit, bytes },
            Heard::Cut => {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the answer broke off");
                MeterError::Broken { endpoint, cause: cut.into() }
            }
        }
    }
}

fn function_of(result: &Result<Response, ExceptionResponse>) -> u8 {
    match result {
        Ok(response) => response.function_code().value(),
        Err(exception) => exception.function.value(),
    }
}
