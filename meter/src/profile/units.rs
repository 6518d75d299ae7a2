//! Units of a profile as powers of ten, and its words as values of ours.

use toml::de::DeValue;

use super::document::{FromToml, Mismatch};
use super::{Function, Netting};
use crate::decode::{Kind, WordOrder};
use crate::endpoint::Line;

/// What kind of quantity a register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Energy,
    Power,
    Voltage,
    Current,
    Frequency,
}

impl Dimension {
    /// Unit symbols with their power of ten to the base unit Wh, W, mV, mA or mHz.
    const fn units(self) -> &'static [(&'static str, i32)] {
        match self {
            Self::Energy => &[("Wh", 0), ("kWh", 3), ("MWh", 6)],
            Self::Power => &[("W", 0), ("kW", 3)],
            Self::Voltage => &[("V", 3), ("mV", 0)],
            Self::Current => &[("A", 3), ("mA", 0)],
            Self::Frequency => &[("Hz", 3)],
        }
    }

    /// What to write for a unit of this kind.
    pub(super) fn hint(self) -> String {
        let known: Vec<&str> = self.units().iter().map(|(symbol, _)| *symbol).collect();
        format!(
            "expected a step of a unit such as \"{0}\" or \"0.01 {0}\" (units: {1})",
            known[0],
            known.join(", ")
        )
    }

    /// The power of ten of a step such as `0.01 kWh`, in base units of this kind.
    pub(super) fn exponent(self, unit: &str) -> Option<i32> {
        const STEPS: [(&str, i32); 8] = [
            ("0.0001", -4),
            ("0.001", -3),
            ("0.01", -2),
            ("0.1", -1),
            ("1", 0),
            ("10", 1),
            ("100", 2),
            ("1000", 3),
        ];
        let (step, symbol) = unit.split_once(' ').unwrap_or(("1", unit));
        let power_of = |table: &[(&str, i32)], key: &str| {
            table.iter().find(|(name, _)| *name == key).map(|(_, ten)| *ten)
        };
        Some(power_of(&STEPS, step)? + power_of(self.units(), symbol)?)
    }
}

/// An OBIS code as IEC 62056-61 writes it: `A-B:C.D.E`.
pub(super) struct Obis(pub(super) String);

impl FromToml for Obis {
    fn expected() -> String {
        "an OBIS code such as \"1-0:1.8.0\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = value.as_str().ok_or(Mismatch::Type)?;
        let parts: Vec<&str> = text.split(['-', ':', '.']).collect();
        let shape: String = text.chars().filter(|it| !it.is_ascii_digit()).collect();
        let fits = parts.len() == 5 && shape == "-:.." && parts.iter().all(|part| part.parse::<u8>().is_ok());
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(Mismatch::Value(format!("{text:?} is no OBIS code")))
        }
    }
}

/// The name of a profile.
pub(super) struct Name(pub(super) String);

impl FromToml for Name {
    fn expected() -> String {
        "1 to 40 characters of a-z, 0-9 and '-'".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = value.as_str().ok_or(Mismatch::Type)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=40).contains(&text.len()) && text.bytes().all(plain);
        if fits { Ok(Self(text.to_owned())) } else { Err(Mismatch::Value(format!("{text:?} is no name"))) }
    }
}

impl FromToml for Function {
    fn expected() -> String {
        "3 (holding registers) or 4 (input registers)".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        Self::try_from(u8::from_toml(value)?).map_err(Mismatch::Value)
    }
}

impl FromToml for Line {
    fn expected() -> String {
        "a serial line such as \"9600 8N1\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = value.as_str().ok_or(Mismatch::Type)?;
        text.parse().map_err(|_| Mismatch::Value(format!("{text:?} is no serial line")))
    }
}

macro_rules! named {
    ($kind:ty, $names:expr) => {
        impl FromToml for $kind {
            fn expected() -> String {
                let names: Vec<String> = $names.iter().map(|(name, _)| format!("{name:?}")).collect();
                format!("one of {}", names.join(", "))
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
                let text = value.as_str().ok_or(Mismatch::Type)?;
                let names = $names;
                let known = names.iter().find(|(name, _)| *name == text);
                known.map(|(_, it)| *it).ok_or_else(|| Mismatch::Value(format!("{text:?} is not known")))
            }
        }
    };
}

named!(Kind, Kind::NAMES);
named!(WordOrder, [("high-first", WordOrder::HighFirst), ("low-first", WordOrder::LowFirst)]);
named!(Netting, [Netting::Vector, Netting::PerPhase, Netting::Unknown].map(|it| (it.name(), it)));
