//! A simulated meter: a real Modbus TCP server with the register map of an Eastron SDM630.
//!
//! It serves what [`SimulatedMeter::set`] latched last, so a replayed profile latches at each boundary and every client
//! reads the same registers until the next. Registers below 4 096 kWh decode to the exact watt-hour.

use std::future::{Future, Ready, ready};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use energy::{MeterSerial, WattHours};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use crate::block::{EncodeError, RegisterImage, Registers};
use crate::profile::Profile;

/// The unit id it answers to.
const UNIT: u8 = 1;
/// Clients served at once; further connections are closed. A real meter serves one to eight.
const CLIENTS_MAX: usize = 64;
/// Pause after the listener failed (for instance no file handle left).
const LISTENER_PAUSE: Duration = Duration::from_millis(100);
/// A grid without trouble.
const VOLTAGE_MV: [u32; 3] = [230_000; 3];
const FREQUENCY_MHZ: u32 = 50_000;

/// A simulated SDM630. Clones are the same meter.
#[derive(Debug, Clone)]
pub struct SimulatedMeter {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    profile: &'static Profile,
    serial: MeterSerial,
    image: Mutex<Result<RegisterImage, EncodeError>>,
    unplugged: watch::Sender<bool>,
    clients: Arc<Semaphore>,
}

impl SimulatedMeter {
    /// A meter with empty registers. Serial numbers of this model are whole numbers below 4 294 967 295, without
    /// leading zeros; with any other, [`Self::serve`] fails.
    #[must_use]
    pub fn new(serial: MeterSerial) -> Self {
        let profile = &Profile::builtin()[0];
        let registers = registers(serial.clone(), 0, 0, 0);
        let state = State {
            profile,
            serial,
            image: Mutex::new(profile.encode(&registers)),
            unplugged: watch::Sender::new(false),
            clients: Arc::new(Semaphore::new(CLIENTS_MAX)),
        };
        Self { state: Arc::new(state) }
    }

    /// Latches the registers: cumulative energy in quarters of a watt-hour, floored to whole Wh as shown, and power in
    /// W with import positive. Both registers and the power change together for every client.
    pub fn set(&self, import_quarter_wh: u64, export_quarter_wh: u64, power_w: i64) {
        let registers =
            registers(self.state.serial.clone(), import_quarter_wh / 4, export_quarter_wh / 4, power_w);
        let image = self.state.profile.encode(&registers);
        *self.state.image.lock().unwrap_or_else(PoisonError::into_inner) = image;
    }

    /// With `true` drops all connections and answers nobody until `false`.
    pub fn unplug(&self, unplugged: bool) {
        self.state.unplugged.send_replace(unplugged);
    }

    /// Serves Modbus TCP on `listener` until `shutdown` completes; connections end with it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the serial number has no form in this model's registers.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        if let Err(error) = &*self.state.image.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error.clone()));
        }
        tokio::select! {
            () = shutdown => Ok(()),
            () = self.serve_while_plugged(listener) => Ok(()),
        }
    }

    async fn serve_while_plugged(&self, listener: TcpListener) {
        let server = Server::new(listener);
        let mut unplugged = self.state.unplugged.subscribe();
        loop {
            wait_until(&mut unplugged, false).await;
            tokio::select! {
                // Dropping the server's future ends every connection.
                () = wait_until(&mut unplugged, true) => {}
                error = self.serve_clients(&server) => {
                    tracing::warn!(%error, "simulated meter cannot accept clients");
                    tokio::time::sleep(LISTENER_PAUSE).await;
                }
            }
        }
    }

    async fn serve_clients(&self, server: &Server) -> io::Error {
        let on_connected = async |stream, address| {
            let Ok(permit) = Arc::clone(&self.state.clients).try_acquire_owned() else { return Ok(None) };
            let client = Client { state: Arc::clone(&self.state), _permit: Arc::new(permit) };
            accept_tcp_connection(stream, address, |_| Ok(Some(client.clone())))
        };
        let on_error = |error| tracing::debug!(%error, "simulated meter lost a client");
        match server.serve(&on_connected, on_error).await {
            Err(error) => error,
            Ok(()) => io::ErrorKind::UnexpectedEof.into(),
        }
    }
}

async fn wait_until(unplugged: &mut watch::Receiver<bool>, wanted: bool) {
    // The sender lives in the meter that is being served: waiting cannot fail.
    let _ = unplugged.wait_for(|unplugged| *unplugged == wanted).await;
}

fn registers(serial: MeterSerial, import_wh: u64, export_wh: u64, power_w: i64) -> Registers {
    Registers {
        serial,
        import: WattHours::new(import_wh),
        export: WattHours::new(export_wh),
        power_w,
        voltage_mv: VOLTAGE_MV,
        frequency_mhz: FREQUENCY_MHZ,
    }
}

/// One connected client.
#[derive(Clone)]
struct Client {
    state: Arc<State>,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Service for Client {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        ready(self.state.answer(request.slave, &request.request))
    }
}

impl State {
    fn answer(&self, unit: u8, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        if unit != UNIT {
            return Err(ExceptionCode::GatewayTargetDevice);
        }
        match *request {
            Request::ReadHoldingRegisters(address, count) => {
                self.read(3, address, count).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(address, count) => {
                self.read(4, address, count).map(Response::ReadInputRegisters)
            }
            // Nothing else, and above all no write.
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }

    fn read(&self, function: u8, address: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
        // The real device reads at most 80 registers at once.
        if count == 0 || count > self.profile.registers_per_read() {
            return Err(ExceptionCode::IllegalDataValue);
        }
        let image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        let image = image.as_ref().map_err(|_| ExceptionCode::ServerDeviceFailure)?;
        image.read(function, address, count).ok_or(ExceptionCode::IllegalDataAddress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> SimulatedMeter {
        SimulatedMeter::new(MeterSerial::new("21040123").unwrap())
    }

    #[test]
    fn quarters_of_a_watt_hour_are_floored_when_latched() {
        let meter = meter();
        let energies = |quarters| {
            meter.set(quarters, 7, -120);
            meter.state.answer(1, &Request::ReadInputRegisters(0x48, 4)).unwrap()
        };
        let words = |import_kwh: f32, export_kwh: f32| {
            let halves = |kwh: f32| [kwh.to_be_bytes()[..2].to_vec(), kwh.to_be_bytes()[2..].to_vec()];
            let word = |bytes: Vec<u8>| u16::from_be_bytes([bytes[0], bytes[1]]);
            Response::ReadInputRegisters(
                [halves(import_kwh), halves(export_kwh)].concat().into_iter().map(word).collect(),
            )
        };
        assert_eq!(energies(4_000 * 4), words(4.0, 0.001));
        assert_eq!(energies(4_000 * 4 + 3), words(4.0, 0.001));
        assert_eq!(energies(4_001 * 4), words(4.001, 0.001));
    }

    #[test]
    fn whatever_it_does_not_have_is_an_exception() {
        let answer = |unit, request| meter().state.answer(unit, &request).unwrap_err();
        assert_eq!(answer(2, Request::ReadInputRegisters(0, 2)), ExceptionCode::GatewayTargetDevice);
        assert_eq!(answer(1, Request::ReadInputRegisters(0x4D, 2)), ExceptionCode::IllegalDataAddress);
        assert_eq!(answer(1, Request::ReadInputRegisters(0xFFFF, 2)), ExceptionCode::IllegalDataAddress);
        assert_eq!(answer(1, Request::ReadHoldingRegisters(0, 2)), ExceptionCode::IllegalDataAddress);
        assert_eq!(answer(1, Request::ReadInputRegisters(0, 0)), ExceptionCode::IllegalDataValue);
        assert_eq!(answer(1, Request::ReadInputRegisters(0, 81)), ExceptionCode::IllegalDataValue);
        assert_eq!(answer(1, Request::WriteSingleRegister(0, 1)), ExceptionCode::IllegalFunction);
    }

    #[tokio::test]
    async fn a_serial_number_this_model_cannot_have_is_refused_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let meter = SimulatedMeter::new(MeterSerial::new("SIM-1").unwrap());
        let error = meter.serve(listener, std::future::pending()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "eastron-sdm630 cannot hold this serial number in its registers");
    }
}
