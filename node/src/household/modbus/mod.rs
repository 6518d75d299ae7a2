//! Devices controlled over Modbus TCP: batteries, chargers, heat.
//!
//! A device is told only what its [`Channel`](super::device::Channel) took and logged. Before the first register is written
//! it is checked once more that the device can do it; what is written is read back where the map says so. Every conversation has a
//! connection of its own and bounded waits. What cannot be asked or told is an error that says where and what to look
//! at, never a value that was made up.
//!
//! Compiled with the feature `control-modbus` only. The crate `meter` reads and has no way to write; nothing of it is used here
//! but the words for addresses.

mod error;
mod line;
mod number;
mod registers;
mod sunspec;
mod vehicle;

use std::sync::Arc;
use std::time::Duration;

use agent::{Control, Kind};
use energy::{Mtu, WattHours};

use self::error::ModbusError;
use self::line::Line;
use self::registers::Registers;
use self::sunspec::{Rating, Sunspec};
use self::vehicle::{Look, Rule, Vehicles};
use super::device::{Answer, Counted, Device, DeviceError, DeviceState};
use crate::clock::Clock;
use crate::config::control::{ControlMap, EnergyRegister, ModbusSettings};
use crate::config::household::{Control as Way, HouseholdSettings};
use crate::zone::Zone;

/// What needs no repetition is looked at this often: a device that was restarted has forgotten its command.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A revert time is begun anew when so much of it has passed: two attempts may fail.
const REVERT_PARTS: u32 = 3;

/// Every device of the home that is controlled over Modbus.
#[must_use]
pub fn devices(
    settings: &HouseholdSettings,
    mtu: Mtu,
    zone: Zone,
    clock: &Arc<dyn Clock>,
) -> Vec<Box<dyn Device>> {
    let HouseholdSettings { battery, charger, heat, .. } = settings;
    let chosen =
        |control: Way, modbus: &Option<ModbusSettings>| modbus.clone().filter(|_| control == Way::Modbus);
    let battery = battery.as_ref().and_then(|battery| {
        let rating = (watts(battery.charge_w), watts(battery.discharge_w));
        let modbus = chosen(battery.control, &battery.modbus)?;
        Some(ModbusDevice::new(Kind::Battery, modbus, rating, battery.capacity, battery.reserve_percent))
    });
    let charger = charger.as_ref().and_then(|charger| {
        let modbus = chosen(charger.control, &charger.modbus)?;
        let rating = (watts(charger.power_w), 0);
        let device = ModbusDevice::new(Kind::Charger, modbus, rating, charger.capacity, 0);
        let vehicles = Vehicles::new(Rule::of(charger, mtu, zone));
        Some(ModbusDevice { parking: Some((vehicles, Arc::clone(clock))), ..device })
    });
    let heat = heat.as_ref().and_then(|heat| {
        let modbus = chosen(heat.control, &heat.modbus)?;
        Some(ModbusDevice::new(Kind::Heat, modbus, (watts(heat.power_w), 0), heat.store, 0))
    });
    let all = [battery, charger, heat].into_iter().flatten();
    all.map(|device| Box::new(device) as Box<dyn Device>).collect()
}

/// The configuration allows no power beyond what fits.
fn watts(power: u64) -> u32 {
    u32::try_from(power).unwrap_or(u32::MAX)
}

/// One device and how it is spoken to.
struct ModbusDevice {
    kind: Kind,
    settings: ModbusSettings,
    /// The most it takes, W.
    taking_w: u32,
    /// The most it gives, W.
    giving_w: u32,
    /// What it stores when full.
    store: WattHours,
    driver: Driver,
    /// The vehicles at a charger, and the time.
    parking: Option<(Vehicles, Arc<dyn Clock>)>,
}

/// How its registers are laid out.
enum Driver {
    Sunspec(Sunspec),
    Registers(Registers),
}

impl ModbusDevice {
    fn new(
        kind: Kind,
        settings: ModbusSettings,
        (taking_w, giving_w): (u32, u32),
        store: WattHours,
        reserve_percent: u32,
    ) -> Self {
        let driver = match &settings.map {
            ControlMap::Sunspec { revert_s } => {
                let rating = Rating { taking: taking_w.into(), giving: giving_w.into() };
                Driver::Sunspec(Sunspec::new(*revert_s, rating, reserve_percent))
            }
            ControlMap::Registers(map) => {
                Driver::Registers(Registers::new(map.as_ref().clone(), kind, taking_w))
            }
        };
        Self { kind, settings, taking_w, giving_w, store, driver, parking: None }
    }

    /// Refuses what is for another device or beyond this one's rating, whoever let it pass.
    fn check(&self, control: Control) -> Result<(), ModbusError> {
        if control.kind() != self.kind {
            return Err(ModbusError::Foreign(control));
        }
        let rated = match control {
            Control::Discharge(_) | Control::DischargeAtLeast(_) | Control::DischargeAtMost(_) => {
                self.giving_w
            }
            _ => self.taking_w,
        };
        let watts = control.watts();
        if watts <= rated { Ok(()) } else { Err(ModbusError::BeyondRating { watts, rated }) }
    }

    async fn tell(&mut self, control: Control) -> Result<(), ModbusError> {
        self.check(control)?;
        let mut line = Line::open(&self.settings).await?;
        let told = match &mut self.driver {
            Driver::Sunspec(sunspec) => sunspec.tell(&mut line, control).await,
            Driver::Registers(registers) => registers.tell(&mut line, control).await,
        };
        line.close().await;
        if told.is_ok()
            && let Some((vehicles, clock)) = &mut self.parking
        {
            let watts = if matches!(control, Control::Release(_)) { self.taking_w } else { control.watts() };
            vehicles.told(watts, clock.market());
        }
        told
    }

    async fn ask(&mut self) -> Result<DeviceState, ModbusError> {
        let mut line = Line::open(&self.settings).await?;
        let state = self.look(&mut line).await;
        line.close().await;
        state
    }

    async fn look(&mut self, line: &mut Line) -> Result<DeviceState, ModbusError> {
        let registers = match &mut self.driver {
            Driver::Sunspec(sunspec) => {
                let hundredths = sunspec.charge(line).await?;
                let stored = WattHours::new(self.store.get().saturating_mul(hundredths.into()) / 10_000);
                return Ok(DeviceState::Battery { stored });
            }
            Driver::Registers(registers) => registers,
        };
        let level = registers.level(line).await?.zip(registers.map().level);
        let stored = level.map(|(value, register)| number::filled(&register, value, self.store));
        let Some((vehicles, clock)) = &mut self.parking else {
            // The configuration was refused where a battery or heat has no level.
            let stored = stored.ok_or_else(|| line.absent(0))?;
            return Ok(match self.kind {
                Kind::Heat => DeviceState::Heat { ahead: stored },
                _ => DeviceState::Battery { stored },
            });
        };
        let connected = registers.connected(line).await?;
        let taken = read_counter(line, self.settings.taken.as_ref()).await?;
        let look = Look { now: clock.market(), connected, stored, taken };
        Ok(DeviceState::Charger { session: vehicles.session(&look) })
    }

    async fn count(&mut self) -> Result<Option<Counted>, ModbusError> {
        let ModbusSettings { taken, given, .. } = &self.settings;
        if taken.is_none() && given.is_none() {
            return Ok(None);
        }
        let mut line = Line::open(&self.settings).await?;
        let counted = async {
            let taken = read_counter(&mut line, taken.as_ref()).await?;
            let given = read_counter(&mut line, given.as_ref()).await?;
            let [taken, given] = [taken, given].map(Option::unwrap_or_default);
            Ok(Some(Counted { taken, given }))
        };
        let counted = counted.await;
        line.close().await;
        counted
    }

    fn fault(&self, what: &'static str, error: &ModbusError) -> DeviceError {
        let device = match self.kind {
            Kind::Battery => "battery",
            Kind::Charger => "charger",
            Kind::Heat => "heat",
            Kind::Inverter => "inverter",
        };
        DeviceError { device, what, why: error.to_string() }
    }
}

async fn read_counter(
    line: &mut Line,
    register: Option<&EnergyRegister>,
) -> Result<Option<WattHours>, ModbusError> {
    let Some(register) = register else { return Ok(None) };
    let value = line.number(&register.place).await?;
    let counted = number::counted(register, value);
    counted.map(Some).ok_or_else(|| line.absent(register.place.register))
}

impl Device for ModbusDevice {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn rated_w(&self) -> u32 {
        self.taking_w.max(self.giving_w)
    }

    fn state(&mut self) -> Answer<'_, DeviceState> {
        Box::pin(async move { self.ask().await.map_err(|error| self.fault("asked", &error)) })
    }

    fn set(&mut self, control: Control) -> Answer<'_, ()> {
        Box::pin(async move { self.tell(control).await.map_err(|error| self.fault("told", &error)) })
    }

    fn repeat_every(&self) -> Option<Duration> {
        match &self.driver {
            Driver::Sunspec(sunspec) if sunspec.revert_s() > 0 => {
                Some(Duration::from_secs(sunspec.revert_s().into()) / REVERT_PARTS)
            }
            Driver::Sunspec(_) => Some(LOOK_EVERY),
            Driver::Registers(registers) => {
                let map = registers.map();
                map.repeat.or_else(|| map.verify.then_some(LOOK_EVERY))
            }
        }
    }

    fn counted(&mut self) -> Answer<'_, Option<Counted>> {
        Box::pin(async move { self.count().await.map_err(|error| self.fault("asked", &error)) })
    }
}
