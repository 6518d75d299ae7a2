//! A device by the registers that its maker describes: a set-point, who decides, a watchdog, and what it says of itself.
//!
//! A set-point holds a power; it does not follow the home's meter. What the agent wants held at a power is written as one; what shall
//! serve the home or take what is left over is left to the device, which follows its own meter. `docs/household.md` has
//! the table.

use agent::{Control, Kind};

use super::error::ModbusError;
use super::line::{HOLDING, Line};
use super::number::{encode, set_point};
use crate::config::control::{Place, RegisterMap};

/// Spans that a temperature may lie beyond its comfort and still be one.
const SPANS_BEYOND: i64 = 5;

/// The driver.
#[derive(Debug)]
pub(super) struct Registers {
    map: RegisterMap,
    kind: Kind,
    /// The most it takes, W.
    rated_w: u32,
}

/// What a command means for a device that is told a power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// Takes this much; below zero: gives. W.
    Power(i64),
    /// Decides by itself.
    Itself,
}

/// A number and where it goes.
struct Write {
    place: Place,
    value: i64,
    /// Equal or not, it is written.
    always: bool,
}

impl Registers {
    pub(super) fn new(map: RegisterMap, kind: Kind, rated_w: u32) -> Self {
        Self { map, kind, rated_w }
    }

    /// What it is made of.
    pub(super) fn map(&self) -> &RegisterMap {
        &self.map
    }

    /// Does this. Everything is worked out before the first register is written.
    pub(super) async fn tell(&self, line: &mut Line, control: Control) -> Result<(), ModbusError> {
        for write in self.writes(aim(control, self.rated_w)?)? {
            self.write(line, &write).await?;
        }
        Ok(())
    }

    /// How full or warm it is, as its register has it.
    pub(super) async fn level(&self, line: &mut Line) -> Result<Option<i64>, ModbusError> {
        let Some(level) = &self.map.level else { return Ok(None) };
        let value = line.number(&level.place).await?;
        let span = level.full - level.empty;
        let beyond = if self.kind == Kind::Heat { span.saturating_mul(SPANS_BEYOND) } else { 0 };
        let (least, most) = (level.empty - beyond, level.full + beyond);
        if (least..=most).contains(&value) {
            return Ok(Some(value));
        }
        let (at, unit) = line.place();
        Err(ModbusError::Impossible { at, unit, register: level.place.register, value, least, most })
    }

    /// Whether a vehicle is there; `None`: the map does not say.
    pub(super) async fn connected(&self, line: &mut Line) -> Result<Option<bool>, ModbusError> {
        let Some(connected) = &self.map.connected else { return Ok(None) };
        let value = line.number(&connected.place).await?;
        Ok(Some(connected.values.contains(&value)))
    }

    /// What is written, in this order: what keeps it obeying, then how much, then who decides. When it is left to itself that comes
    /// first, so that no set-point is in force that nobody wants.
    fn writes(&self, aim: Aim) -> Result<Vec<Write>, ModbusError> {
        let RegisterMap { power, mode, watchdog, .. } = &self.map;
        let repeats = self.map.repeat.is_some();
        // A battery that decides by itself has no set-point; a charger or heat may take what it can.
        let watts = match aim {
            Aim::Power(watts) => watts,
            Aim::Itself if self.kind == Kind::Battery => 0,
            Aim::Itself => i64::from(self.rated_w),
        };
        let value = power.as_ref().map(|power| set_point(power, watts)).transpose()?;
        let set = power.as_ref().zip(value);
        let set = set.map(|(power, value)| Write { place: power.place, value, always: repeats });
        // A set-point below the least that the device can do is none.
        let is_off = watts == 0 || value == Some(0);
        let mode = mode.as_ref().map(|mode| {
            let value = match aim {
                Aim::Itself => mode.release,
                Aim::Power(_) if is_off => mode.off.unwrap_or(mode.command),
                Aim::Power(_) => mode.command,
            };
            Write { place: mode.place, value, always: repeats }
        });
        let watchdog =
            watchdog.map(|watchdog| Write { place: watchdog.place, value: watchdog.value, always: true });
        let writes: [Option<Write>; 3] = match aim {
            Aim::Power(_) => [watchdog, set, mode],
            // Its watchdog runs out by itself.
            Aim::Itself => [mode, set, None],
        };
        Ok(writes.into_iter().flatten().collect())
    }

    async fn write(&self, line: &mut Line, write: &Write) -> Result<(), ModbusError> {
        let Place { register, form, function, .. } = write.place;
        // Values of the configuration were checked as it was read, set-points as they were made.
        let Some(words) = encode(&write.place, write.value) else {
            let (value, limit) = (write.value.into(), format!("numbers of {} bits", 16 * form.words()));
            return Err(ModbusError::BeyondRegister { watts: write.value, value, register, limit });
        };
        // Many devices keep registers in memory that wears out.
        let is_there =
            self.map.verify && !write.always && line.read(HOLDING, register, form.words()).await? == words;
        if is_there {
            return Ok(());
        }
        line.write(function, register, &words).await?;
        if !self.map.verify {
            return Ok(());
        }
        let now = line.read(HOLDING, register, form.words()).await?;
        if now == words { Ok(()) } else { Err(line.not_kept(register, &words, &now)) }
    }
}

/// What a command means for a device with a set-point. One that may only serve the home, or only take what is left over, would
/// need the home's meter: the device has one, so it decides by itself.
fn aim(control: Control, rated_w: u32) -> Result<Aim, ModbusError> {
    let aim = match control {
        Control::Charge(watts)
        | Control::ChargeAtLeast(watts)
        | Control::Vehicle(watts)
        | Control::Heat(watts) => Aim::Power(i64::from(watts)),
        Control::Discharge(watts) | Control::DischargeAtLeast(watts) => Aim::Power(-i64::from(watts)),
        Control::ChargeAtMost(0) | Control::DischargeAtMost(0) | Control::HeatOff => Aim::Power(0),
        Control::HeatOn => Aim::Power(i64::from(rated_w)),
        Control::ChargeAtMost(_) | Control::DischargeAtMost(_) | Control::Release(_) => Aim::Itself,
        Control::PvLimit(_) | Control::ExportLimit(_) => return Err(ModbusError::Foreign(control)),
    };
    Ok(aim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::control::{Form, ModeRegister, PowerRegister, WatchdogRegister, WordOrder};

    fn place(register: u16, form: Form) -> Place {
        Place { register, form, order: WordOrder::HighFirst, function: 16 }
    }

    fn map() -> RegisterMap {
        let power = PowerRegister {
            place: place(10, Form::I32),
            watts_per_unit: 1,
            decimals: 0,
            discharge_is_positive: true,
            least: None,
            most: None,
        };
        RegisterMap {
            power: Some(power),
            mode: Some(ModeRegister { place: place(20, Form::U16), command: 2, off: None, release: 1 }),
            watchdog: Some(WatchdogRegister { place: place(30, Form::U16), value: 60 }),
            level: None,
            connected: None,
            verify: true,
            repeat: Some(std::time::Duration::from_secs(20)),
        }
    }

    fn written(map: RegisterMap, kind: Kind, control: Control) -> Vec<(u16, i64)> {
        let registers = Registers::new(map, kind, 5_000);
        let writes = registers.writes(aim(control, 5_000).unwrap()).unwrap();
        writes.iter().map(|write| (write.place.register, write.value)).collect()
    }

    #[test]
    fn a_battery_is_told_a_power_or_left_to_its_own_meter() {
        let of = |control| written(map(), Kind::Battery, control);
        let itself = [(20, 1), (10, 0)];
        assert_eq!(of(Control::ChargeAtLeast(3_000)), [(30, 60), (10, -3_000), (20, 2)]);
        assert_eq!(of(Control::DischargeAtLeast(70_000)), [(30, 60), (10, 70_000), (20, 2)]);
        assert_eq!(of(Control::ChargeAtMost(0)), [(30, 60), (10, 0), (20, 2)]);
        assert_eq!(of(Control::ChargeAtMost(500)), itself);
        assert_eq!(of(Control::DischargeAtMost(500)), itself);
        assert_eq!(of(Control::Release(Kind::Battery)), itself);
    }

    #[test]
    fn heat_that_can_only_be_switched_is_on_for_any_power_and_may_run_when_left_to_itself() {
        let mode = ModeRegister { place: place(20, Form::U16), command: 3, off: Some(1), release: 2 };
        let map = RegisterMap { power: None, mode: Some(mode), watchdog: None, repeat: None, ..map() };
        let of = |control| written(map.clone(), Kind::Heat, control);
        assert_eq!(of(Control::Heat(800)), [(20, 3)]);
        assert_eq!(of(Control::HeatOn), [(20, 3)]);
        assert_eq!(of(Control::Heat(0)), [(20, 1)]);
        assert_eq!(of(Control::Release(Kind::Heat)), [(20, 2)]);
    }
}
