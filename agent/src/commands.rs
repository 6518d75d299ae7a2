//! What the agent tells a device: a command that only the right device takes, once, in time, from the right signer.
//!
//! A [`Command`] names its channel (one device at one home), a number that only grows, when it ends, and who signs. Its
//! canonical bytes are signed; who holds the key signs, and who checks signatures turns [`Signed`] into [`Verified`]. The
//! device's [`Acceptor`] takes a verified command or refuses it, and says why in a [`Verdict`] for the log. When a command
//! ends and none follows, the device falls back to its safe default.
//!
//! What is deliberately absent: keys, transport, a clock (the caller says what time it is).

mod acceptor;

use std::fmt;

use energy::{Mtu, Timestamp, WattHours};

pub use acceptor::{Acceptor, Pairing, Refusal, Verdict};

use crate::home::{Devices, Step};

/// First bytes of what is signed: a signature made for anything else is worthless here.
const PURPOSE: &[u8; 24] = b"commonwatt/command/v1\0\0\0";
/// Length of a command's canonical bytes.
pub const COMMAND_BYTES: usize = PURPOSE.len() + 32 + 8 + 8 + 32 + 1 + 4;
/// A command may bind a device no longer than this: two intervals of the longest market time unit.
pub const LIFETIME_MAX_MS: u64 = 7_200_000;

/// One device at one home: 32 bytes that device and agent agreed on when they were paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub [u8; 32]);

/// What kind of device is commanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A battery.
    Battery,
    /// A charger for a vehicle.
    Charger,
    /// A heat pump or boiler.
    Heat,
    /// An inverter of solar panels.
    Inverter,
}

/// What a device shall do. Powers in W at the home's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// Battery: take this much; 0 stands still.
    Charge(u32),
    /// Battery: give this much.
    Discharge(u32),
    /// Battery: take at least this much, and more where the home would otherwise give energy away.
    ChargeAtLeast(u32),
    /// Battery: take this much, or less, or give, where the home would otherwise take energy from outside.
    ChargeAtMost(u32),
    /// Battery: give at least this much, and more where the home would otherwise take energy from outside.
    DischargeAtLeast(u32),
    /// Battery: give this much, or less, or take, where the home would otherwise give energy away.
    DischargeAtMost(u32),
    /// Charger: give the vehicle at most this much; 0 waits.
    Vehicle(u32),
    /// Heat: stay off as long as comfort allows.
    HeatOff,
    /// Heat: run, as the device itself sees fit.
    HeatOn,
    /// Heat: take this much.
    Heat(u32),
    /// Inverter: generate at most this much.
    PvLimit(u32),
    /// Inverter: generate no more than leaves this much for the connection to give.
    ExportLimit(u32),
    /// The device does as it does without an agent.
    Release(Kind),
}

impl Control {
    /// The kind of device it is for.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Charge(_)
            | Self::Discharge(_)
            | Self::ChargeAtLeast(_)
            | Self::ChargeAtMost(_)
            | Self::DischargeAtLeast(_)
            | Self::DischargeAtMost(_) => Kind::Battery,
            Self::Vehicle(_) => Kind::Charger,
            Self::HeatOff | Self::HeatOn | Self::Heat(_) => Kind::Heat,
            Self::PvLimit(_) | Self::ExportLimit(_) => Kind::Inverter,
            Self::Release(kind) => kind,
        }
    }

    /// The power it names, W; 0 where it names none.
    #[must_use]
    pub const fn watts(self) -> u32 {
        match self {
            Self::Charge(watts)
            | Self::Discharge(watts)
            | Self::ChargeAtLeast(watts)
            | Self::ChargeAtMost(watts)
            | Self::DischargeAtLeast(watts)
            | Self::DischargeAtMost(watts)
            | Self::Vehicle(watts)
            | Self::Heat(watts)
            | Self::PvLimit(watts)
            | Self::ExportLimit(watts) => watts,
            Self::HeatOff | Self::HeatOn | Self::Release(_) => 0,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Charge(_) => 1,
            Self::Discharge(_) => 2,
            Self::Vehicle(_) => 3,
            Self::HeatOff => 4,
            Self::HeatOn => 5,
            Self::Heat(_) => 6,
            Self::PvLimit(_) => 7,
            Self::Release(Kind::Battery) => 8,
            Self::Release(Kind::Charger) => 9,
            Self::Release(Kind::Heat) => 10,
            Self::Release(Kind::Inverter) => 11,
            Self::ChargeAtLeast(_) => 12,
            Self::ChargeAtMost(_) => 13,
            Self::DischargeAtLeast(_) => 14,
            Self::DischargeAtMost(_) => 15,
            Self::ExportLimit(_) => 16,
        }
    }

    fn from_code(code: u8, watts: u32) -> Option<Self> {
        let control = match code {
            1 => Self::Charge(watts),
            2 => Self::Discharge(watts),
            3 => Self::Vehicle(watts),
            4 => Self::HeatOff,
            5 => Self::HeatOn,
            6 => Self::Heat(watts),
            7 => Self::PvLimit(watts),
            8 => Self::Release(Kind::Battery),
            9 => Self::Release(Kind::Charger),
            10 => Self::Release(Kind::Heat),
            11 => Self::Release(Kind::Inverter),
            12 => Self::ChargeAtLeast(watts),
            13 => Self::ChargeAtMost(watts),
            14 => Self::DischargeAtLeast(watts),
            15 => Self::DischargeAtMost(watts),
            16 => Self::ExportLimit(watts),
            _ => return None,
        };
        // Each command has one form: no power where none is named.
        (control.watts() == watts).then_some(control)
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Charge(watts) => write!(f, "charge the battery with {watts} W"),
            Self::Discharge(watts) => write!(f, "discharge the battery with {watts} W"),
            Self::ChargeAtLeast(watts) => {
                write!(f, "charge the battery with {watts} W, and with what is left over")
            }
            Self::ChargeAtMost(watts) => {
                write!(f, "charge the battery with {watts} W, from what is left over only")
            }
            Self::DischargeAtLeast(watts) => {
                write!(f, "discharge the battery with {watts} W, and as much as the home takes")
            }
            Self::DischargeAtMost(watts) => {
                write!(f, "discharge the battery with {watts} W, for the home only")
            }
            Self::Vehicle(watts) => write!(f, "charge the vehicle with {watts} W"),
            Self::HeatOff => f.write_str("heat off"),
            Self::HeatOn => f.write_str("heat on"),
            Self::Heat(watts) => write!(f, "heat with {watts} W"),
            Self::PvLimit(watts) => write!(f, "generate at most {watts} W"),
            Self::ExportLimit(watts) => write!(f, "give at most {watts} W away"),
            Self::Release(kind) => write!(f, "leave the {} to itself", kind.word()),
        }
    }
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Battery => "battery",
            Self::Charger => "charger",
            Self::Heat => "heat",
            Self::Inverter => "inverter",
        }
    }
}

/// What one step of a plan asks of each device there is.
///
/// Load and sun never are what was expected. So the battery is told which way the connection may go: where the plan takes
/// nothing from outside it serves what the home needs beyond expectation, where the plan gives nothing away it takes what
/// is left over beyond expectation, and where the connection was to stand still it follows the home's own meter, as it does when
/// left to itself. An inverter that is to generate less is told how much may be given away; so it is where the operator caps what
/// the connection gives (`export_cap`), since more sun may come than was expected.
#[must_use]
pub fn controls(step: &Step, devices: &Devices, mtu: Mtu, export_cap: Option<WattHours>) -> Vec<Control> {
    let watts = |energy: WattHours| {
        u32::try_from(energy.get().saturating_mul(60) / u64::from(mtu.minutes())).unwrap_or(u32::MAX)
    };
    let (charge, discharge) = (watts(step.charge), watts(step.discharge));
    let battery = match (step.discharge.is_zero(), step.import.is_zero(), step.export.is_zero()) {
        (_, true, true) => Control::Release(Kind::Battery),
        (true, false, _) => Control::ChargeAtLeast(charge),
        (true, true, false) => Control::ChargeAtMost(charge),
        (false, false, _) => Control::DischargeAtMost(discharge),
        (false, true, false) => Control::DischargeAtLeast(discharge),
    };
    let planned = (!step.curtailed.is_zero()).then_some(step.export);
    let inverter = planned.into_iter().chain(export_cap).min();
    let inverter =
        inverter.map_or(Control::Release(Kind::Inverter), |most| Control::ExportLimit(watts(most)));
    let mut all = Vec::new();
    all.extend(devices.battery.map(|_| battery));
    all.extend(devices.charger.map(|_| Control::Vehicle(watts(step.vehicle))));
    all.extend(devices.heat.map(|_| Control::Heat(watts(step.heat))));
    all.extend(devices.curtailable.then_some(inverter));
    all
}

/// One command to one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Command {
    /// Which device.
    pub channel: ChannelId,
    /// Strictly growing per channel, from 1.
    pub sequence: u64,
    /// From this instant on it no longer holds.
    pub expires: Timestamp,
    /// The public key that signs it.
    pub signer: [u8; 32],
    /// What to do.
    pub control: Control,
}

/// Bytes are no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Too short or too long.
    #[error("a command has {COMMAND_BYTES} bytes, not {0}; the sender may be of another version")]
    Length(usize),
    /// Made for something else.
    #[error("these bytes were made for another purpose than a command of this version")]
    Purpose,
    /// No such time.
    #[error("an expiry of {0} ms lies beyond the year 9999")]
    Expiry(u64),
    /// No such control.
    #[error("control {0} does not exist in this version, or names a power that it cannot have")]
    Control(u8),
}

impl Command {
    /// What is signed and sent: purpose, channel, sequence, expiry (ms since the epoch), signer, control, power; numbers
    /// big-endian. Every command has exactly one such form.
    #[must_use]
    pub fn canonical(&self) -> [u8; COMMAND_BYTES] {
        let parts: [&[u8]; 7] = [
            PURPOSE,
            &self.channel.0,
            &self.sequence.to_be_bytes(),
            &self.expires.unix_ms().to_be_bytes(),
            &self.signer,
            &[self.control.code()],
            &self.control.watts().to_be_bytes(),
        ];
        let mut bytes = [0; COMMAND_BYTES];
        for (byte, value) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *value;
        }
        bytes
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`CommandError`]; the length is looked at first.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, CommandError> {
        let bytes: &[u8; COMMAND_BYTES] = bytes.try_into().map_err(|_| CommandError::Length(bytes.len()))?;
        let (purpose, rest) = bytes.split_at(PURPOSE.len());
        if purpose != PURPOSE {
            return Err(CommandError::Purpose);
        }
        let mut reader = Fields(rest);
        let channel = ChannelId(reader.take());
        let sequence = u64::from_be_bytes(reader.take());
        let ms = u64::from_be_bytes(reader.take());
        let expires = Timestamp::from_unix_ms(ms);
        if expires.unix_ms() != ms {
            return Err(CommandError::Expiry(ms));
        }
        let signer = reader.take();
        let [code] = reader.take();
        let control = Control::from_code(code, u32::from_be_bytes(reader.take()));
        let control = control.ok_or(CommandError::Control(code))?;
        Ok(Self { channel, sequence, expires, signer, control })
    }
}

/// Fixed-length fields, one after the other; the total length was checked before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) =
            self.0.split_first_chunk::<N>().map_or(([0; N], [].as_slice()), |(field, rest)| (*field, rest));
        self.0 = rest;
        field
    }
}

/// A command with a signature that nobody has looked at yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// What is said.
    pub command: Command,
    /// Ed25519 over [`Command::canonical`].
    pub signature: [u8; 64],
}

/// A command whose signature is its signer's. Only [`Signed::verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified(Command);

impl Signed {
    /// Checks the signature with `check(key, message, signature)`, which must be a strict Ed25519 check.
    ///
    /// # Errors
    /// [`Refusal::BadSignature`].
    pub fn verify(
        &self,
        check: impl FnOnce(&[u8; 32], &[u8], &[u8; 64]) -> bool,
    ) -> Result<Verified, Refusal> {
        let genuine = check(&self.command.signer, &self.command.canonical(), &self.signature);
        genuine.then_some(Verified(self.command)).ok_or(Refusal::BadSignature)
    }
}

impl Verified {
    /// What is said.
    #[must_use]
    pub const fn command(&self) -> &Command {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::{Battery, Charger};
    use energy::Price;
    use proptest::prelude::*;

    fn command() -> Command {
        let (channel, signer) = (ChannelId([1; 32]), [7; 32]);
        let expires = Timestamp::from_unix_ms(1_465_776_900_000);
        Command { channel, sequence: 1, expires, signer, control: Control::Charge(3_000) }
    }

    #[test]
    fn bytes_that_are_no_command_are_refused() {
        let bytes = command().canonical();
        assert_eq!(Command::from_canonical(&bytes[1..]), Err(CommandError::Length(COMMAND_BYTES - 1)));
        let mut other = bytes;
        other[0] = 0;
        assert_eq!(Command::from_canonical(&other), Err(CommandError::Purpose));
        let mut endless = bytes;
        endless[64..72].fill(0xff);
        assert_eq!(Command::from_canonical(&endless), Err(CommandError::Expiry(u64::MAX)));
        let mut unknown = bytes;
        unknown[COMMAND_BYTES - 5] = 99;
        assert_eq!(Command::from_canonical(&unknown), Err(CommandError::Control(99)));
        let mut second_form = Command { control: Control::HeatOff, ..command() }.canonical();
        second_form[COMMAND_BYTES - 1] = 1;
        assert_eq!(Command::from_canonical(&second_form), Err(CommandError::Control(4)));
    }

    #[test]
    fn a_plan_step_becomes_one_control_for_each_device() {
        let wh = WattHours::new;
        let battery = Battery {
            capacity: wh(10_000),
            charge: wh(1_250),
            discharge: wh(1_250),
            efficiency_permille: 950,
            reserve: wh(0),
            wear: Price::ZERO,
        };
        let charger = Some(Charger { power: wh(2_750) });
        let devices = Devices { battery: Some(battery), charger, heat: None, curtailable: true };
        let step = Step {
            discharge: wh(500),
            vehicle: wh(2_750),
            curtailed: wh(100),
            export: wh(40),
            ..Step::default()
        };
        let expected =
            [Control::DischargeAtLeast(2_000), Control::Vehicle(11_000), Control::ExportLimit(160)];
        assert_eq!(controls(&step, &devices, Mtu::Min15, None), expected);
        let still = [Kind::Battery, Kind::Inverter].map(Control::Release);
        assert_eq!(
            controls(&Step::default(), &devices, Mtu::Min15, None),
            [still[0], Control::Vehicle(0), still[1]],
        );
        assert_eq!(controls(&step, &Devices::default(), Mtu::Min15, None), []);
        let inverter = |step, cap| controls(step, &devices, Mtu::Min15, Some(wh(cap)))[2];
        assert_eq!(inverter(&step, 30), Control::ExportLimit(120), "never beyond the operator's cap");
        assert_eq!(inverter(&step, 70), Control::ExportLimit(160));
        assert_eq!(
            inverter(&Step::default(), 70),
            Control::ExportLimit(280),
            "more sun may come than expected"
        );
    }

    #[test]
    fn a_battery_is_told_which_way_the_connection_may_go() {
        let wh = WattHours::new;
        let battery = Battery {
            capacity: wh(10_000),
            charge: wh(1_250),
            discharge: wh(1_250),
            efficiency_permille: 950,
            reserve: wh(0),
            wear: Price::ZERO,
        };
        let devices = Devices { battery: Some(battery), ..Devices::default() };
        let told = |charge, discharge, import, export| {
            let (charge, discharge) = (wh(charge), wh(discharge));
            let step = Step { charge, discharge, import: wh(import), export: wh(export), ..Step::default() };
            controls(&step, &devices, Mtu::Min15, None)[0]
        };
        assert_eq!(told(200, 0, 300, 0), Control::ChargeAtLeast(800), "sun beyond the plan is stored too");
        assert_eq!(told(200, 0, 0, 300), Control::ChargeAtMost(800), "nothing is taken from outside for it");
        assert_eq!(told(0, 200, 0, 300), Control::DischargeAtLeast(800), "the home is served besides");
        assert_eq!(told(0, 200, 300, 0), Control::DischargeAtMost(800), "nothing of it is given away");
        assert_eq!(told(200, 0, 0, 0), Control::Release(Kind::Battery), "it follows the meter");
    }

    proptest! {
        #[test]
        fn every_command_has_one_canonical_form(
            channel: [u8; 32], sequence: u64, ms in 0u64..253_402_300_799_999, signer: [u8; 32], code in 1u8..=16, watts: u32,
        ) {
            let control = Control::from_code(code, watts).or_else(|| Control::from_code(code, 0)).unwrap();
            let expires = Timestamp::from_unix_ms(ms);
            let command = Command { channel: ChannelId(channel), sequence, expires, signer, control };
            let bytes = command.canonical();
            let read = Command::from_canonical(&bytes).unwrap();
            prop_assert_eq!(read, command);
            prop_assert_eq!(read.canonical(), bytes);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(command) = Command::from_canonical(&bytes) {
                prop_assert_eq!(command.canonical().to_vec(), bytes);
            }
        }
    }
}
