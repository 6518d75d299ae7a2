//! The TOML of a profile, field by field, and the checks of single fields.

use energy::MeterSerial;
use serde::Deserialize;

use super::{Function, ProfileError, Register, Span, ensure};
use crate::block::LiveValues;
use crate::decode::Kind;

/// The most registers one request may ask for (Modbus Application Protocol V1.1b3, section 6.3).
const REGISTERS_PER_READ_MAX: u16 = 125;
/// The longest text identity, in registers of two characters: what a [`MeterSerial`] holds.
const TEXT_REGISTERS_MAX: u16 = 16;

/// A whole profile.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) source: String,
    pub(crate) discover: Option<Discover>,
    pub(super) limits: Limits,
    pub(crate) identity: Identity,
    pub(super) energy: EnergyFile,
    pub(super) live: LiveFile,
    pub(super) vector: Vectors,
}

impl File {
    pub(super) fn check(&self) -> Result<(), ProfileError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure((1..=40).contains(&self.name.len()) && self.name.bytes().all(plain), "name", || {
            "must be 1 to 40 characters of a-z, 0-9 and '-'".to_owned()
        })?;
        ensure(!self.source.trim().is_empty(), "source", || {
            "say where the register table comes from".to_owned()
        })?;
        let most = self.limits.registers_per_read;
        ensure((1..=REGISTERS_PER_READ_MAX).contains(&most), "limits.registers_per_read", || {
            format!("{most}; Modbus allows 1 to {REGISTERS_PER_READ_MAX}")
        })?;
        ensure(self.energy.quantum_wh >= 1, "energy.quantum_wh", || "must be at least 1".to_owned())?;
        self.identity.check()
    }
}

/// How the register base is found.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discover {
    /// `SunSpec` model whose header the addresses count from.
    pub(crate) sunspec_model: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) registers_per_read: u16,
    pub(super) power_max_w: u64,
}

/// Where the serial number is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    function: Function,
    address: u16,
    #[serde(rename = "type")]
    kind: IdentityKind,
    registers: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum IdentityKind {
    U32,
    Text,
}

impl Identity {
    fn check(&self) -> Result<(), ProfileError> {
        let fits = match (self.kind, self.registers) {
            (IdentityKind::U32, None) => true,
            (IdentityKind::Text, Some(registers)) => (1..=TEXT_REGISTERS_MAX).contains(&registers),
            _ => false,
        };
        ensure(fits, "identity.registers", || {
            format!("a text takes 1 to {TEXT_REGISTERS_MAX} registers, a u32 names none")
        })?;
        ensure(self.address.checked_add(self.span().count).is_some(), "identity.address", || {
            "the serial number ends beyond register 0xffff".to_owned()
        })
    }

    pub(crate) fn span(&self) -> Span {
        Span { function: self.function, address: self.address, count: self.registers.unwrap_or(2) }
    }

    /// The serial number in `words`; `None` if the device sends none or one that is no [`MeterSerial`].
    pub(crate) fn decode(&self, words: &[u16]) -> Option<MeterSerial> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        match self.kind {
            IdentityKind::U32 => {
                let number = u32::from_be_bytes(bytes.try_into().ok()?);
                let absent = number == 0 || number == u32::MAX;
                if absent { None } else { MeterSerial::new(&number.to_string()).ok() }
            }
            IdentityKind::Text => {
                let text = String::from_utf8(bytes).ok()?;
                MeterSerial::new(text.trim_end_matches('\0').trim()).ok()
            }
        }
    }

    /// `serial` as the device would send it; `None` if it cannot.
    pub(crate) fn encode(&self, serial: &MeterSerial) -> Option<Vec<u16>> {
        let mut bytes = match self.kind {
            IdentityKind::U32 => serial.as_str().parse::<u32>().ok()?.to_be_bytes().to_vec(),
            IdentityKind::Text => serial.as_str().as_bytes().to_vec(),
        };
        let room = usize::from(self.span().count) * 2;
        if bytes.len() > room {
            return None;
        }
        bytes.resize(room, 0);
        let words: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        // "007" would come back as "7": a serial that does not survive is refused, not altered.
        (self.decode(&words).as_ref() == Some(serial)).then_some(words)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnergyFile {
    pub(super) function: Function,
    pub(super) address: u16,
    pub(super) count: u16,
    pub(super) quantum_wh: u64,
    pub(super) import: Point,
    pub(super) export: Point,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveFile {
    pub(super) function: Function,
    pub(super) address: u16,
    pub(super) count: u16,
    pub(super) power: Point,
    pub(super) voltage_l1: Option<Point>,
    pub(super) voltage_l2: Option<Point>,
    pub(super) voltage_l3: Option<Point>,
    pub(super) frequency: Option<Point>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Point {
    address: u16,
    #[serde(rename = "type")]
    kind: Kind,
    unit: String,
    pub(super) obis: String,
    scale_register: Option<u16>,
    absent: Option<u32>,
}

impl Point {
    pub(super) fn register(
        &self,
        block: &str,
        name: &'static str,
        dimension: Dimension,
        span: Span,
    ) -> Result<Register, ProfileError> {
        let field = |part: &str| format!("{block}.{name}.{part}");
        let outside = |part: &str| ProfileError::Field {
            field: field(part),
            problem: format!("is not inside the {block} block"),
        };
        ensure(is_obis(&self.obis), &field("obis"), || format!("{:?} is not like 1-0:1.8.0", self.obis))?;
        Ok(Register {
            name,
            offset: span.offset(self.address, self.kind.words()).ok_or_else(|| outside("address"))?,
            kind: self.kind,
            exponent: exponent_of(&self.unit, dimension).ok_or_else(|| ProfileError::Field {
                field: field("unit"),
                problem: dimension.hint(&self.unit),
            })?,
            scale: match self.scale_register {
                None => None,
                Some(address) => Some(span.offset(address, 1).ok_or_else(|| outside("scale_register"))?),
            },
            absent: self.absent.map(u64::from),
        })
    }
}

/// True for an OBIS code as IEC 62056-61 writes it: `A-B:C.D.E`.
fn is_obis(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['-', ':', '.']).collect();
    let shape: String = text.chars().filter(|it| !it.is_ascii_digit()).collect();
    parts.len() == 5 && shape == "-:.." && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Energy,
    Power,
    Voltage,
    Frequency,
}

impl Dimension {
    /// Unit symbols with their power of ten to the base unit Wh, W, mV or mHz.
    const fn units(self) -> &'static [(&'static str, i32)] {
        match self {
            Self::Energy => &[("Wh", 0), ("kWh", 3), ("MWh", 6)],
            Self::Power => &[("W", 0), ("kW", 3)],
            Self::Voltage => &[("V", 3), ("mV", 0)],
            Self::Frequency => &[("Hz", 3)],
        }
    }

    fn hint(self, unit: &str) -> String {
        let known: Vec<&str> = self.units().iter().map(|(symbol, _)| *symbol).collect();
        format!(
            "{unit:?} is not a step of a unit such as \"{0}\" or \"0.01 {0}\" (units: {1})",
            known[0],
            known.join(", ")
        )
    }
}

/// The power of ten of a step such as `0.01 kWh`, in base units of `dimension`.
fn exponent_of(unit: &str, dimension: Dimension) -> Option<i32> {
    const STEPS: [(&str, i32); 7] =
        [("0.001", -3), ("0.01", -2), ("0.1", -1), ("1", 0), ("10", 1), ("100", 2), ("1000", 3)];
    let (step, symbol) = unit.split_once(' ').unwrap_or(("1", unit));
    let power_of =
        |table: &[(&str, i32)], key: &str| table.iter().find(|(name, _)| *name == key).map(|(_, ten)| *ten);
    Some(power_of(&STEPS, step)? + power_of(dimension.units(), symbol)?)
}

/// Words with the values they mean, from a source other than this decoder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vectors {
    pub(super) energy: EnergyVector,
    pub(super) live: LiveVector,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnergyVector {
    pub(super) words: String,
    pub(super) import_wh: u64,
    pub(super) export_wh: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveVector {
    pub(super) words: String,
    power_w: i64,
    voltage_mv: Option<[u32; 3]>,
    frequency_mhz: Option<u32>,
}

impl LiveVector {
    pub(super) fn values(&self) -> LiveValues {
        LiveValues {
            power_w: self.power_w,
            voltage_mv: self.voltage_mv.map_or([None; 3], |phases| phases.map(Some)),
            frequency_mhz: self.frequency_mhz,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    #[test]
    fn a_serial_number_comes_back_as_written_or_is_refused() {
        let of = |profile: usize| &Profile::builtin()[profile].file.identity;
        let serial = |text| MeterSerial::new(text).unwrap();
        assert_eq!(of(0).encode(&serial("21040123")), Some(vec![321, 3067]));
        assert_eq!(of(0).decode(&[321, 3067]), Some(serial("21040123")));
        assert_eq!((of(0).encode(&serial("007")), of(0).encode(&serial("SIM-1"))), (None, None));
        assert_eq!((of(0).decode(&[0, 0]), of(0).decode(&[0xFFFF, 0xFFFF])), (None, None));
        let words = of(2).encode(&serial("7E1-B")).unwrap();
        assert_eq!((words.len(), of(2).decode(&words)), (16, Some(serial("7E1-B"))));
        assert_eq!(of(2).decode(&[0; 16]), None);
    }
}
