//! Device profiles: what a meter model keeps in which register, as data.
//!
//! A profile is one TOML text. It names two blocks, each read with one request and standing or falling as a whole:
//! `energy` with both cumulative registers, `live` with power and what else is cheap. Its test vectors are part of
//! it and are checked whenever it is parsed, so a profile whose words do not decode to its values does not load.

mod file;

use std::sync::LazyLock;

use energy::WattHours;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use self::file::{Dimension, EnergyFile, File, Point, Vectors};
use crate::block::BlockError;
use crate::decode::Kind;

/// The longest profile accepted, in bytes: twenty times the longest built in.
const PROFILE_BYTES_MAX: usize = 64 * 1024;

const BUILT_IN: [&str; 3] = [
    include_str!("../profiles/eastron-sdm630.toml"),
    include_str!("../profiles/abb-b23.toml"),
    include_str!("../profiles/sunspec-203.toml"),
];

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Longer than any real one.
    #[error("profile of {0} bytes is longer than {PROFILE_BYTES_MAX}")]
    TooLong(usize),
    /// Not TOML, or not the TOML of a profile; says line and column.
    #[error("profile is not valid: {0}")]
    Toml(toml::de::Error),
    /// The named field contradicts the rest.
    #[error("profile field {field}: {problem}")]
    Field {
        /// Path of the field, e.g. `energy.import.unit`.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The words of a test vector do not decode to its values.
    #[error("profile field vector.{block}: {problem}")]
    Vector {
        /// `energy` or `live`.
        block: &'static str,
        /// What came out instead.
        problem: String,
    },
}

/// One meter model: where its registers are and what they mean.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) file: File,
    pub(crate) energy: EnergyBlock,
    pub(crate) live: LiveBlock,
    hash: [u8; 32],
}

impl Profile {
    /// The profiles that come with the program.
    #[must_use]
    pub fn builtin() -> &'static [Self] {
        static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
            BUILT_IN
                .iter()
                .map(|toml| Profile::parse(toml).expect("every built-in profile is parsed by a test"))
                .collect()
        });
        &PROFILES
    }

    /// The built-in profile of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::builtin().iter().find(|profile| profile.name() == name)
    }

    /// Parses and checks one profile, its test vectors included.
    ///
    /// # Errors
    /// [`ProfileError`] naming the line or the field.
    pub fn parse(toml: &str) -> Result<Self, ProfileError> {
        if toml.len() > PROFILE_BYTES_MAX {
            return Err(ProfileError::TooLong(toml.len()));
        }
        let file: File = toml::from_str(toml).map_err(ProfileError::Toml)?;
        file.check()?;
        let profile = Self {
            energy: EnergyBlock::new(&file)?,
            live: LiveBlock::new(&file)?,
            hash: Sha256::digest(toml.as_bytes()).into(),
            file,
        };
        profile.check_vectors()?;
        Ok(profile)
    }

    /// Its name, e.g. `eastron-sdm630`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// The device models it describes.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.file.device
    }

    /// Where its register table comes from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.file.source
    }

    /// SHA-256 of the TOML text: names exactly this table in every reading.
    #[must_use]
    pub const fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Smallest step of the energy registers by design; a float or scaled register may step wider
    /// ([`crate::EnergySample::quantum`] is the step of one sample).
    #[must_use]
    pub const fn quantum(&self) -> WattHours {
        WattHours::new(self.file.energy.quantum_wh)
    }

    /// OBIS codes (IEC 62056-61) of the import and export registers.
    #[must_use]
    pub fn energy_obis(&self) -> (&str, &str) {
        (&self.file.energy.import.obis, &self.file.energy.export.obis)
    }

    /// The most registers one request may ask this device for.
    pub(crate) const fn registers_per_read(&self) -> u16 {
        self.file.limits.registers_per_read
    }

    /// Registers from the base that the blocks reach to, for profiles whose base is discovered.
    pub(crate) fn words_from_base(&self) -> u32 {
        let end = |span: Span| u32::from(span.address) + u32::from(span.count);
        end(self.energy.span).max(end(self.live.span))
    }

    fn check_vectors(&self) -> Result<(), ProfileError> {
        let Vectors { energy, live } = &self.file.vector;
        let got = self.energy.decode(&words_of_hex("energy", &energy.words)?);
        let wanted = (WattHours::new(energy.import_wh), WattHours::new(energy.export_wh));
        same("energy", &got.map(|it| (it.import, it.export)), &wanted)?;
        let got = self.live.decode(&words_of_hex("live", &live.words)?);
        same("live", &got, &live.values())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    block: &'static str,
    got: &Result<T, BlockError>,
    wanted: &T,
) -> Result<(), ProfileError> {
    match got {
        Ok(got) if got == wanted => Ok(()),
        got => {
            Err(ProfileError::Vector { block, problem: format!("decodes to {got:?} instead of {wanted:?}") })
        }
    }
}

fn words_of_hex(block: &'static str, text: &str) -> Result<Vec<u16>, ProfileError> {
    let word = |digits: &str| match u16::from_str_radix(digits, 16) {
        Ok(word) if digits.len() == 4 => Ok(word),
        _ => Err(ProfileError::Vector {
            block,
            problem: format!("{digits:?} is not a register of four hex digits"),
        }),
    };
    text.split_whitespace().map(word).collect()
}

/// Energy block of a profile, ready to decode.
#[derive(Debug, Clone)]
pub(crate) struct EnergyBlock {
    pub(crate) span: Span,
    pub(crate) import: Register,
    pub(crate) export: Register,
    pub(crate) quantum_wh: u64,
}

/// Live block of a profile, ready to decode.
#[derive(Debug, Clone)]
pub(crate) struct LiveBlock {
    pub(crate) span: Span,
    pub(crate) power: Register,
    pub(crate) voltage: [Option<Register>; 3],
    pub(crate) frequency: Option<Register>,
    pub(crate) power_max_w: u64,
}

/// Consecutive registers read by one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) function: Function,
    pub(crate) address: u16,
    pub(crate) count: u16,
}

/// One value inside a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Register {
    pub(crate) name: &'static str,
    /// First word, counted from the start of the block.
    pub(crate) offset: usize,
    pub(crate) kind: Kind,
    /// Power of ten from the raw number to the base unit (Wh, W, mV, mHz).
    pub(crate) exponent: i32,
    /// Word of the block that holds a `SunSpec` scale factor, added to `exponent`.
    pub(crate) scale: Option<usize>,
    /// One more raw value that means "no value".
    pub(crate) absent: Option<u64>,
}

/// The two Modbus functions that read registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "u8")]
pub(crate) enum Function {
    Holding = 3,
    Input = 4,
}

impl Function {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Holding => 3,
            Self::Input => 4,
        }
    }
}

impl TryFrom<u8> for Function {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        match code {
            3 => Ok(Self::Holding),
            4 => Ok(Self::Input),
            other => Err(format!("function {other} does not read registers; use 3 (holding) or 4 (input)")),
        }
    }
}

impl EnergyBlock {
    fn new(file: &File) -> Result<Self, ProfileError> {
        let EnergyFile { function, address, count, quantum_wh, import, export } = &file.energy;
        let span = Span { function: *function, address: *address, count: *count };
        span.check("energy", file.limits.registers_per_read)?;
        let register = |name, point: &Point| point.register("energy", name, Dimension::Energy, span);
        Ok(Self {
            span,
            import: register("import", import)?,
            export: register("export", export)?,
            quantum_wh: *quantum_wh,
        })
    }
}

impl LiveBlock {
    fn new(file: &File) -> Result<Self, ProfileError> {
        let live = &file.live;
        let span = Span { function: live.function, address: live.address, count: live.count };
        span.check("live", file.limits.registers_per_read)?;
        let optional = |name, dimension, point: &Option<Point>| {
            point.as_ref().map(|point| point.register("live", name, dimension, span)).transpose()
        };
        Ok(Self {
            span,
            power: live.power.register("live", "power", Dimension::Power, span)?,
            voltage: [
                optional("voltage_l1", Dimension::Voltage, &live.voltage_l1)?,
                optional("voltage_l2", Dimension::Voltage, &live.voltage_l2)?,
                optional("voltage_l3", Dimension::Voltage, &live.voltage_l3)?,
            ],
            frequency: optional("frequency", Dimension::Frequency, &live.frequency)?,
            power_max_w: file.limits.power_max_w,
        })
    }
}

impl Span {
    /// The same registers counted from `base`; `None` beyond register 0xffff.
    pub(crate) fn counted_from(self, base: u16) -> Option<Self> {
        let address = self.address.checked_add(base)?;
        address.checked_add(self.count - 1).map(|_| Self { address, ..self })
    }

    fn check(self, block: &str, registers_per_read: u16) -> Result<(), ProfileError> {
        let fits = self.count >= 1 && self.count <= registers_per_read;
        ensure(fits, &format!("{block}.count"), || {
            format!("{} registers; one read of this device takes 1 to {registers_per_read}", self.count)
        })?;
        let ends = u32::from(self.address) + u32::from(self.count);
        ensure(ends <= 0x1_0000, &format!("{block}.address"), || {
            "the block ends beyond register 0xffff".to_owned()
        })
    }

    /// Offset of `address` in the block, if `words` registers from there are inside.
    fn offset(self, address: u16, words: u16) -> Option<usize> {
        let offset = address.checked_sub(self.address)?;
        (u32::from(offset) + u32::from(words) <= u32::from(self.count)).then_some(usize::from(offset))
    }
}

fn ensure(holds: bool, field: &str, problem: impl FnOnce() -> String) -> Result<(), ProfileError> {
    if holds { Ok(()) } else { Err(ProfileError::Field { field: field.to_owned(), problem: problem() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDM630: &str = BUILT_IN[0];

    /// The SDM630 profile with one change, which must be refused with a message holding `told`.
    fn refused(from: &str, to: &str, told: &str) {
        assert!(SDM630.contains(from), "{from}");
        let message = Profile::parse(&SDM630.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(message.contains(told), "{message}");
    }

    #[test]
    fn every_built_in_profile_parses_decodes_its_vectors_and_is_found_by_name() {
        let names: Vec<&str> = Profile::builtin().iter().map(Profile::name).collect();
        assert_eq!(names, ["eastron-sdm630", "abb-b23", "sunspec-203"]);
        for profile in Profile::builtin() {
            assert_eq!(Profile::by_name(profile.name()).unwrap().hash(), profile.hash());
            assert_eq!(profile.energy_obis(), ("1-0:1.8.0", "1-0:2.8.0"));
            assert!(!profile.source().is_empty() && !profile.device().is_empty());
        }
        assert_eq!(Profile::builtin().iter().map(|it| it.quantum().get()).collect::<Vec<_>>(), [1, 10, 1]);
        assert!(Profile::by_name("nobody").is_none());
    }

    #[test]
    fn the_hash_is_the_sha_256_of_the_text() {
        let (one, other) = (Profile::parse(SDM630).unwrap(), Profile::parse(&format!("{SDM630}\n")).unwrap());
        assert_eq!(one.hash().as_slice(), Sha256::digest(SDM630.as_bytes()).as_slice());
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn a_profile_that_contradicts_itself_is_refused_with_its_field() {
        refused("name = \"eastron-sdm630\"", "name = \"Eastron\"", "name: must be 1 to 40");
        refused("registers_per_read = 80", "registers_per_read = 126", "limits.registers_per_read: 126");
        refused(
            "count = 78",
            "count = 81",
            "live.count: 81 registers; one read of this device takes 1 to 80",
        );
        refused(
            "import = { address = 0x0048",
            "import = { address = 0x004B",
            "energy.import.address: is not inside",
        );
        refused(
            "unit = \"kWh\"",
            "unit = \"kW\"",
            "energy.import.unit: \"kW\" is not a step of a unit such as \"Wh\"",
        );
        refused("1-0:1.8.0", "1.8.0", "energy.import.obis: \"1.8.0\" is not like 1-0:1.8.0");
        refused("type = \"u32\"", "type = \"text\"", "identity.registers: a text takes");
        refused("quantum_wh = 1", "quantum_wh = 0", "energy.quantum_wh: must be at least 1");
    }

    #[test]
    fn a_profile_that_is_no_toml_of_ours_is_refused_with_its_line() {
        refused("function = 4", "function = 6", "function 6 does not read registers");
        refused("[limits]", "[limit]", "line 6");
        refused("registers_per_read", "registers_pre_read", "unknown field `registers_pre_read`");
        assert!(matches!(Profile::parse(&" ".repeat(70_000)), Err(ProfileError::TooLong(70_000))));
    }

    #[test]
    fn a_wrong_test_vector_is_refused_with_what_came_out() {
        refused(
            "import_wh = 12_345_670",
            "import_wh = 12_345_671",
            "vector.energy: decodes to Ok((WattHours(12345670)",
        );
        refused(
            "4640 e6ae 460b 14ec\"",
            "4640 e6ae 460b 14\"",
            "\"14\" is not a register of four hex digits",
        );
        refused("4640 e6ae 460b 14ec\"", "4640 e6ae\"", "vector.energy: decodes to Err(");
    }
}
