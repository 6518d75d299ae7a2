//! What the counter says when it does not publish a look, in words for the person who has to act.

use std::fmt;

use energy::{MeterSerial, TakenAt, WattHours};
use serde::{Deserialize, Serialize};

use super::EnergyRegisters;

/// One of the two cumulative registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Register {
    /// From the grid.
    Import,
    /// To the grid.
    Export,
}

impl Register {
    pub(super) const fn of(self, registers: EnergyRegisters) -> WattHours {
        match self {
            Self::Import => registers.import,
            Self::Export => registers.export,
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Import => "import",
            Self::Export => "export",
        })
    }
}

/// Why a look is not believed, gravest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Suspicion {
    /// Another meter answered.
    #[error("meter {found} answers where meter {expected} was")]
    OtherMeter {
        /// Whose registers the baseline is.
        #[serde(with = "super::memory::serial")]
        expected: MeterSerial,
        /// Who answered.
        #[serde(with = "super::memory::serial")]
        found: MeterSerial,
    },
    /// A register shows what it cannot.
    #[error(
        "the {register} register shows {value}, but it is declared to begin again at {modulus}; the profile's modulus_wh is probably wrong"
    )]
    BeyondModulus {
        /// Which.
        register: Register,
        /// What it shows.
        #[serde(with = "super::memory::wh")]
        value: WattHours,
        /// Where it should have begun again.
        #[serde(with = "super::memory::wh")]
        modulus: WattHours,
    },
    /// A register fell: a glitch, another meter, or a reset. Never clamped.
    #[error("the {register} register fell from {before} to {after}")]
    Fell {
        /// Which.
        register: Register,
        /// At the baseline.
        #[serde(with = "super::memory::wh")]
        before: WattHours,
        /// Now.
        #[serde(with = "super::memory::wh")]
        after: WattHours,
    },
    /// A register rose by more than the connection can carry.
    #[error("the {register} register rose by {rise}, but the connection carries at most {most} in that time")]
    Leapt {
        /// Which.
        register: Register,
        /// The rise.
        #[serde(with = "super::memory::wh")]
        rise: WattHours,
        /// The most that is possible.
        #[serde(with = "super::memory::wh")]
        most: WattHours,
    },
    /// A register seems to have passed its declared end; believed once it counts on.
    #[error("the {register} register went from {before} past its end to {after}")]
    RollingOver {
        /// Which.
        register: Register,
        /// At the baseline, as the meter showed it.
        #[serde(with = "super::memory::wh")]
        before: WattHours,
        /// Now.
        #[serde(with = "super::memory::wh")]
        after: WattHours,
    },
    /// A register rose while nobody looked, for longer than a minute or for an unknown time; believed once a second look
    /// agrees.
    #[error(
        "the {register} register rose by {rise} while it was not read, and one look alone does not count"
    )]
    Unwatched {
        /// Which.
        register: Register,
        /// The rise.
        #[serde(with = "super::memory::wh")]
        rise: WattHours,
    },
}

impl Suspicion {
    pub(super) const fn gravity(&self) -> u8 {
        match self {
            Self::OtherMeter { .. } => 5,
            Self::BeyondModulus { .. } => 4,
            Self::Fell { .. } => 3,
            Self::Leapt { .. } => 2,
            Self::RollingOver { .. } => 1,
            Self::Unwatched { .. } => 0,
        }
    }

    /// True if both are of one kind: looks that are wrong in different ways do not agree.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// What it comes to if the meter goes on saying so.
    const fn outlook(&self) -> &'static str {
        match self {
            Self::RollingOver { .. } | Self::Unwatched { .. } => "once it is confirmed, it counts",
            _ => "if it stays so, the meter was reset or exchanged",
        }
    }
}

/// The registers of one meter when one of its epochs began or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stand {
    /// What they showed.
    pub registers: EnergyRegisters,
    /// When.
    #[serde(with = "super::memory::taken_at")]
    pub at: TakenAt,
}

/// How a new epoch was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    /// Another serial number answered steadily.
    OtherSerial {
        /// In so many looks.
        looks: u32,
        /// Over so many ms.
        over_ms: u64,
    },
    /// The same meter counts on from lower registers.
    CountsOnLower {
        /// In so many looks.
        looks: u32,
        /// Over so many ms.
        over_ms: u64,
    },
    /// The same meter counts on from registers that were leapt to. Never concluded, only proposed.
    CountsOnHigher {
        /// In so many looks.
        looks: u32,
        /// Over so many ms.
        over_ms: u64,
    },
}

/// One meter epoch ended and another began. Energy is never differenced across it: within the old epoch it is
/// `closing` − last reading, within the new one reading − `opening`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochChange {
    /// The meter before.
    #[serde(with = "super::memory::serial")]
    pub old_serial: MeterSerial,
    /// The last registers believed of it, counting on across rollovers as its readings do.
    pub closing: Stand,
    /// The meter after; the same one after a reset.
    #[serde(with = "super::memory::serial")]
    pub new_serial: MeterSerial,
    /// The first registers seen of it.
    pub opening: Stand,
    /// How it was recognised.
    pub evidence: Evidence,
}

impl fmt::Display for EpochChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (closing, opening) = (self.closing.registers, self.opening.registers);
        if self.old_serial == self.new_serial {
            write!(f, "the registers of meter {} were set anew", self.old_serial)?;
        } else {
            write!(f, "meter {} was exchanged for {}", self.old_serial, self.new_serial)?;
        }
        write!(
            f,
            " between {} (closing import {}, export {}) and {} (opening import {}, export {})",
            self.closing.at.time,
            closing.import,
            closing.export,
            self.opening.at.time,
            opening.import,
            opening.export
        )
    }
}

impl EpochChange {
    /// The end of the command that registers it.
    fn options(&self) -> String {
        let (closing, opening) = (self.closing.registers, self.opening.registers);
        format!(
            "--serial {} --closing {},{} --opening {},{}",
            self.new_serial,
            closing.import.get(),
            closing.export.get(),
            opening.import.get(),
            opening.export.get()
        )
    }
}

/// A look is not published now. Nothing is booked and nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// The very first registers: one look alone is not believed.
    #[error("the first registers of this meter are read a second time before they count")]
    First,
    /// Looked at again.
    #[error(
        "{why}; nothing is booked and it is read again ({looks} so far); {}",
        why.outlook()
    )]
    Suspect {
        /// What is wrong.
        why: Suspicion,
        /// Looks that agree on it.
        looks: u32,
    },
    /// Registers leapt and stayed there. Only a person can tell a meter that was set anew from a wrong scale.
    #[error(
        "{why}, and it stays there; nothing is booked; check the profile, power_max_w in the configuration and the display of the meter, and if the meter was set anew commission it: commonwatt meter register {}",
        change.options()
    )]
    Leapt {
        /// What is wrong.
        why: Suspicion,
        /// What to register, if it is right.
        change: Box<EpochChange>,
    },
    /// Another meter answers than the registered one, which was never seen here since it was registered.
    #[error(
        "meter {found} answers, but meter {registered} is registered; nothing is booked until {registered} answers; check address and unit, or commission the meter that is there: commonwatt meter register --serial {found}"
    )]
    NotRegistered {
        /// The meter that the ledger takes readings of.
        registered: MeterSerial,
        /// Who answered.
        found: MeterSerial,
    },
    /// The registered meter is read with another profile than it is registered with.
    #[error(
        "meter {serial} is read with another device profile than it is registered with; nothing is booked; configure the profile it was registered with, or register the meter anew: commonwatt meter register --profile NAME"
    )]
    OtherProfile {
        /// The meter.
        serial: MeterSerial,
    },
    /// The meter counts on in an epoch that is not registered.
    #[error(
        "{change}; readings are kept back until the new epoch is registered: commonwatt meter register {}",
        change.options()
    )]
    Unregistered {
        /// The change to register first.
        change: Box<EpochChange>,
    },
}
