//! Simulated meters: real Modbus servers with the register map of a real model, which can do wrong what meters do wrong.
//!
//! A [`SimulatedMeter`] serves what [`SimulatedMeter::set`] latched last, so a replayed profile latches at each boundary
//! and every client reads the same registers until the next. Several of them share one wire on a [`SimulatedBus`].
//! Wrong answers are ordered one by one ([`SimulatedMeter::inject`]) or come by a seeded plan
//! ([`SimulatedMeter::schedule`]); wrong registers are states ([`SimulatedMeter::freeze`] and the like).

mod device;
mod faults;
mod server;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use energy::{MeterSerial, WattHours};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::device::{Counters, Device};
use self::faults::Faults;
pub use self::faults::{Fault, FaultPlan};
pub use self::server::SimulatedBus;
pub use crate::frame::Framing;
use crate::frame::Read;
use crate::image::EncodeError;
use crate::profile::Profile;

/// The unit id of a meter that is alone.
const UNIT: u8 = 1;
/// The model of [`SimulatedMeter::new`]. Below 4 096 kWh its registers decode to the exact watt-hour.
const MODEL: &str = "eastron-sdm630";

/// A simulated meter. Clones are the same meter.
#[derive(Debug, Clone)]
pub struct SimulatedMeter {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    device: Mutex<Device>,
    faults: Mutex<Faults>,
    unplugged: watch::Sender<bool>,
}

impl SimulatedMeter {
    /// An Eastron SDM630 with empty registers. Serial numbers of this model are whole numbers below 4 294 967 295,
    /// without leading zeros; with any other, [`Self::serve`] fails.
    ///
    /// # Panics
    /// Never: the profile is built in.
    #[must_use]
    pub fn new(serial: MeterSerial) -> Self {
        let profile = Profile::by_name(MODEL).expect("a built-in profile");
        Self::of(profile, serial)
    }

    /// A meter of the model that `profile` describes, with empty registers. A discovered (`SunSpec`) profile gets a map
    /// at register 40000 to be discovered in. If the model's registers cannot hold `serial`, [`Self::serve`] fails.
    #[must_use]
    pub fn of(profile: Arc<Profile>, serial: MeterSerial) -> Self {
        let state = State {
            device: Mutex::new(Device::new(profile, serial)),
            faults: Mutex::default(),
            unplugged: watch::Sender::new(false),
        };
        Self { state: Arc::new(state) }
    }

    /// Latches the registers: cumulative energy in quarters of a watt-hour, floored to whole Wh as shown, and power in
    /// W with import positive. Both registers and the power change together for every client. After
    /// [`Self::reset`] or [`Self::exchange`] the registers show what has been added since.
    pub fn set(&self, import_quarter_wh: u64, export_quarter_wh: u64, power_w: i64) {
        let passed = Counters { import: import_quarter_wh / 4, export: export_quarter_wh / 4 };
        self.device().set(passed, power_w);
    }

    /// With `true` drops all connections and answers nobody until `false`.
    pub fn unplug(&self, unplugged: bool) {
        self.state.unplugged.send_replace(unplugged);
    }

    /// Lets `fault` happen to the next answer; several happen one after the other.
    pub fn inject(&self, fault: Fault) {
        self.faults().order(fault);
    }

    /// Lets faults happen as `plan` says from now on; [`FaultPlan::default`] ends them.
    pub fn schedule(&self, plan: FaultPlan) {
        self.faults().follow(plan);
    }

    /// With `true` all registers stay as they are, whatever is set, and are answered without complaint until `false`.
    pub fn freeze(&self, frozen: bool) {
        self.device().freeze(frozen);
    }

    /// Lets the next `reads` of the energy registers show zero, then again what they showed before.
    pub fn glitch_to_zero(&self, reads: u32) {
        self.device().show_zero(reads);
    }

    /// Lets the energy registers begin again at zero, as after a memory loss.
    pub fn reset(&self) {
        self.device().restart(Counters::default());
    }

    /// Puts another meter of the same model in its place, which shows `import` and `export` now.
    pub fn exchange(&self, serial: MeterSerial, import: WattHours, export: WattHours) {
        self.device().exchange(serial, Counters { import: import.get(), export: export.get() });
    }

    /// Serves Modbus TCP as unit 1 on `listener` until `shutdown` completes; connections end with it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the serial number has no form in this model's registers.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        server::serve_alone(self, listener, shutdown).await
    }

    fn device(&self) -> MutexGuard<'_, Device> {
        self.state.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.state.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn problem(&self) -> Option<EncodeError> {
        self.device().problem()
    }

    fn read(&self, read: Read) -> Result<Vec<u16>, u8> {
        self.device().read(read)
    }

    fn next_fault(&self) -> Option<Fault> {
        self.faults().next()
    }

    fn is_unplugged(&self) -> bool {
        *self.state.unplugged.borrow()
    }

    fn unplugged(&self) -> watch::Receiver<bool> {
        self.state.unplugged.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::exception;

    fn meter() -> SimulatedMeter {
        SimulatedMeter::new(MeterSerial::new("21040123").unwrap())
    }

    fn input(address: u16, count: u16) -> Read {
        Read { function: 4, address, count }
    }

    #[test]
    fn quarters_of_a_watt_hour_are_floored_when_latched() {
        let meter = meter();
        let energies = |quarters| {
            meter.set(quarters, 7, -120);
            meter.read(input(0x48, 4)).unwrap()
        };
        let words = |import_kwh: f32, export_kwh: f32| {
            let halves = |kwh: f32| [kwh.to_bits() >> 16, kwh.to_bits() & 0xFFFF];
            [halves(import_kwh), halves(export_kwh)].concat().into_iter().map(|it| it.try_into().unwrap())
        };
        assert_eq!(energies(4_000 * 4), words(4.0, 0.001).collect::<Vec<u16>>());
        assert_eq!(energies(4_000 * 4 + 3), words(4.0, 0.001).collect::<Vec<u16>>());
        assert_eq!(energies(4_001 * 4), words(4.001, 0.001).collect::<Vec<u16>>());
    }

    #[test]
    fn registers_it_does_not_have_are_an_exception() {
        let answer = |read| meter().read(read).unwrap_err();
        assert_eq!(answer(input(0x4F, 2)), exception::ILLEGAL_ADDRESS);
        assert_eq!(answer(input(0xFFFF, 2)), exception::ILLEGAL_ADDRESS);
        assert_eq!(answer(Read { function: 3, address: 0, count: 2 }), exception::ILLEGAL_ADDRESS);
        assert_eq!(answer(input(0, 81)), exception::ILLEGAL_VALUE);
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
