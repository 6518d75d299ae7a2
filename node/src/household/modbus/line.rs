//! One conversation with a device: connected, asked or told a few registers, closed. A device that takes one client only is
//! free again for others, and no late answer can be taken for the next.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use meter::HostPort;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::{Request, Response, Slave};

use super::error::ModbusError;
use super::number;
use crate::config::control::{ModbusSettings, Place};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long closing in good order may take.
const CLOSE_MAX: Duration = Duration::from_millis(200);
/// Reads holding registers.
pub(super) const HOLDING: u8 = 3;
/// Reads input registers.
const INPUT: u8 = 4;
/// Writes one register.
const WRITE_ONE: u8 = 6;
/// Writes several registers at once.
pub(super) const WRITE_MANY: u8 = 16;

/// An open connection to one unit.
pub(super) struct Line {
    context: Context,
    at: HostPort,
    unit: u8,
    wait: Duration,
}

impl Line {
    /// Connects. A host name is looked up anew every time: addresses change.
    pub(super) async fn open(settings: &ModbusSettings) -> Result<Self, ModbusError> {
        let ModbusSettings { at, unit, timeout: wait, .. } = settings;
        let connecting = timeout(CONNECT_MAX, TcpStream::connect((at.host.as_str(), at.port)));
        let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let unreachable = |cause| ModbusError::Unreachable { at: at.clone(), cause };
        let stream = connected.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let context = tcp::attach_slave(stream, Slave(*unit));
        Ok(Self { context, at: at.clone(), unit: *unit, wait: *wait })
    }

    /// Closes in good order.
    pub(super) async fn close(mut self) {
        // Whether the other side still listens makes no difference.
        let _ = timeout(CLOSE_MAX, self.context.disconnect()).await;
    }

    /// Reads `count` registers.
    pub(super) async fn read(
        &mut self,
        function: u8,
        register: u16,
        count: u16,
    ) -> Result<Vec<u16>, ModbusError> {
        let request = match function {
            INPUT => Request::ReadInputRegisters(register, count),
            _ => Request::ReadHoldingRegisters(register, count),
        };
        match self.call(request, "read", register).await? {
            Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words)
                if words.len() == usize::from(count) =>
            {
                Ok(words)
            }
            _ => Err(self.odd(register)),
        }
    }

    /// Writes registers in one request.
    pub(super) async fn write(
        &mut self,
        function: u8,
        register: u16,
        words: &[u16],
    ) -> Result<(), ModbusError> {
        let request = match (function, words) {
            (WRITE_ONE, [word]) => Request::WriteSingleRegister(register, *word),
            _ => Request::WriteMultipleRegisters(register, Cow::Owned(words.to_vec())),
        };
        match self.call(request, "write", register).await? {
            Response::WriteSingleRegister(at, word) if at == register && words.len() == 1 => {
                // Some devices answer with what they made of it.
                if [word] == words { Ok(()) } else { Err(self.not_kept(register, words, &[word])) }
            }
            Response::WriteMultipleRegisters(at, count)
                if at == register && usize::from(count) == words.len() =>
            {
                Ok(())
            }
            _ => Err(self.odd(register)),
        }
    }

    /// Reads a number; one that the device marks as absent is an error.
    pub(super) async fn number(&mut self, place: &Place) -> Result<i64, ModbusError> {
        let words = self.read(place.function, place.register, place.form.words()).await?;
        number::decode(place, &words).ok_or_else(|| self.absent(place.register))
    }

    /// The device has no value there.
    pub(super) fn absent(&self, register: u16) -> ModbusError {
        ModbusError::Absent { at: self.at.clone(), unit: self.unit, register }
    }

    /// The device did not keep what was written.
    pub(super) fn not_kept(&self, register: u16, wrote: &[u16], read: &[u16]) -> ModbusError {
        let (at, wrote, read) = (self.at.clone(), wrote.to_vec(), read.to_vec());
        ModbusError::NotKept { at, unit: self.unit, register, wrote, read }
    }

    /// Where the device is, for messages.
    pub(super) fn place(&self) -> (HostPort, u8) {
        (self.at.clone(), self.unit)
    }

    // `call`, not `read_…_registers`: those panic in debug builds if the device sends another number of words.
    async fn call(
        &mut self,
        request: Request<'_>,
        what: &'static str,
        register: u16,
    ) -> Result<Response, ModbusError> {
        let (at, unit) = self.place();
        match timeout(self.wait, self.context.call(request)).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(exception))) => Err(ModbusError::Refused {
                at,
                unit,
                what,
                register,
                code: exception.into(),
                says: exception,
            }),
            Ok(Err(cause)) => Err(ModbusError::Broken { at, unit, cause }),
            Err(_) => Err(ModbusError::Silent { at, unit, waited_ms: self.wait.as_millis() }),
        }
    }

    fn odd(&self, register: u16) -> ModbusError {
        ModbusError::Odd { at: self.at.clone(), unit: self.unit, register }
    }
}
