//! Device profiles: what a meter model keeps in which register, as data.
//!
//! A profile is one TOML text. It names two blocks, each read with one request and standing or falling as a whole:
//! `energy` with the cumulative registers, `live` with power and what else is cheap. Its test vectors are part of it
//! and are checked whenever it is parsed, so a profile whose words do not decode to its values does not load.

mod builtin;
mod document;
mod identity;
mod table;
mod units;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use energy::WattHours;
use sha2::{Digest, Sha256};

pub(crate) use self::document::nearest;
pub(crate) use self::identity::Identity;
use crate::decode::{Kind, WordOrder};
use crate::endpoint::Line;

/// The longest profile accepted, in bytes: ten times the longest built in.
pub(crate) const PROFILE_BYTES_MAX: usize = 64 * 1024;

/// One thing that is wrong with a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileFault {
    /// Bytes of the text it is about; `None` for the text as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong, one line.
    pub title: String,
    /// What stands beside the marked bytes: what is expected there. May be empty.
    pub label: String,
    /// What to do, where that is not obvious.
    pub help: Option<String>,
}

impl fmt::Display for ProfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if self.label.is_empty() { Ok(()) } else { write!(f, " ({})", self.label) }
    }
}

/// A profile cannot be used: everything that is wrong with it, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileError {
    faults: Vec<ProfileFault>,
    /// Line and column of the first fault, counted from 1.
    place: Option<(usize, usize)>,
}

impl ProfileError {
    fn new(text: &str, mut faults: Vec<ProfileFault>) -> Self {
        faults.sort_by_key(|fault| fault.span.as_ref().map_or((0, 0), |span| (span.start, span.end)));
        let place = faults.first().and_then(|fault| line_and_column(text, fault.span.as_ref()?.start));
        Self { faults, place }
    }

    fn of_text(title: String) -> Self {
        let fault = ProfileFault { span: None, title, label: String::new(), help: None };
        Self { faults: vec![fault], place: None }
    }

    /// All faults; never empty.
    #[must_use]
    pub fn faults(&self) -> &[ProfileFault] {
        &self.faults
    }
}

fn line_and_column(text: &str, position: usize) -> Option<(usize, usize)> {
    let before = text.get(..position)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("profile is not valid: ")?;
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        if let Some(fault) = self.faults.first() {
            write!(f, "{fault}")?;
        }
        match self.faults.len() {
            0 | 1 => Ok(()),
            count => write!(f, "; {} more", count - 1),
        }
    }
}

impl std::error::Error for ProfileError {}

/// Whether a three-phase meter counts what remains of import and export after adding the phases at each instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Netting {
    /// The phases are added first: 1 kW in on one phase and 1 kW out on another count nothing.
    Vector,
    /// Each phase counts for itself: the same counts 1 kW in both registers.
    PerPhase,
    /// Not known, or a setting of the device.
    Unknown,
}

impl Netting {
    /// Its name in a profile.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::PerPhase => "per_phase",
            Self::Unknown => "unknown",
        }
    }
}

/// How a device is usually reached, from its manual; what a user sets goes before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusDefaults {
    /// Serial line as delivered; `None` for devices without one.
    pub line: Option<Line>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Pause between connecting and the first question.
    pub connect_delay: Duration,
    /// Silence the device wants on a serial line before the next question.
    pub frame_gap: Duration,
    /// True if the device serves one TCP client only.
    pub single_client: bool,
    /// Modbus unit id as delivered.
    pub unit: u8,
    /// TCP port as delivered, or of a usual gateway.
    pub port: u16,
}

/// One quantity of a profile and where the device keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity<'a> {
    /// `import`, `export`, `power`, `voltage_l1`, `current_l1`, `frequency` …; a power that is the sum of several
    /// registers has several entries.
    pub name: &'static str,
    /// OBIS code (IEC 62056-61).
    pub obis: &'a str,
    /// Modbus function that reads it.
    pub function: u8,
    /// First register; counts from the header of the model where the profile is discovered.
    pub register: u16,
    /// Registers taken.
    pub registers: u16,
    /// First of them, counted from the start of its block: the raw words of a sample begin there.
    pub offset: usize,
}

/// One meter model: where its registers are and what they mean.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(crate) name: String,
    pub(crate) device: String,
    pub(crate) source: String,
    pub(crate) bus: BusDefaults,
    pub(crate) discover: Option<Discover>,
    pub(crate) limits: Limits,
    /// Where the serial number is; `None` for models that have none to read.
    pub(crate) identity: Option<Identity>,
    pub(crate) energy: EnergyBlock,
    pub(crate) live: LiveBlock,
    pub(crate) hash: [u8; 32],
}

impl Profile {
    /// The profiles that come with the program, meters first; the first is the SDM630.
    #[must_use]
    pub fn builtin() -> &'static [Arc<Self>] {
        static PROFILES: LazyLock<Vec<Arc<Profile>>> = LazyLock::new(|| {
            let parsed =
                |toml: &&str| Profile::parse(toml).expect("every built-in profile is parsed by a test");
            builtin::TEXTS.iter().map(|toml| Arc::new(parsed(toml))).collect()
        });
        &PROFILES
    }

    /// The built-in profile of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Arc<Self>> {
        Self::builtin().iter().find(|profile| profile.name() == name).cloned()
    }

    /// Parses and checks one profile, its test vectors included.
    ///
    /// # Errors
    /// [`ProfileError`] with every fault, each at its place.
    pub fn parse(toml: &str) -> Result<Self, ProfileError> {
        if toml.len() > PROFILE_BYTES_MAX {
            let title = format!("{} bytes are more than the limit of {PROFILE_BYTES_MAX}", toml.len());
            return Err(ProfileError::of_text(title));
        }
        let hash = Sha256::digest(toml.as_bytes()).into();
        document::read(toml, |root| table::profile(root, hash))
            .map_err(|faults| ProfileError::new(toml, faults))
    }

    /// Its name, e.g. `eastron-sdm630`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device models it describes.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Where its register table comes from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How the device is usually reached.
    #[must_use]
    pub const fn bus(&self) -> &BusDefaults {
        &self.bus
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
        WattHours::new(self.energy.quantum_wh)
    }

    /// The energy at which the registers begin again at 0, where they do within a meter's life. For registers with a
    /// `SunSpec` scale factor this is the modulus at factor 0, and each step of the factor moves it by a power of ten.
    #[must_use]
    pub fn modulus(&self) -> Option<WattHours> {
        self.energy.modulus_wh.map(WattHours::new)
    }

    /// Whether the phases are added before they are counted.
    #[must_use]
    pub const fn netting(&self) -> Netting {
        self.energy.netting
    }

    /// OBIS codes of the import and export registers, as far as the model has them; at least one is there.
    #[must_use]
    pub fn energy_obis(&self) -> (Option<&str>, Option<&str>) {
        let obis = |register: &'static str| {
            self.quantities().into_iter().find(|it| it.name == register).map(|it| it.obis)
        };
        (obis("import"), obis("export"))
    }

    /// True if the device can be asked for its serial number; if not, a user types what the nameplate says.
    #[must_use]
    pub const fn has_serial(&self) -> bool {
        self.identity.is_some()
    }

    /// Power in W beyond which a value of this model cannot be.
    #[must_use]
    pub const fn power_max_w(&self) -> u64 {
        self.limits.power_max_w
    }

    /// The `SunSpec` model that is looked for on the device, for profiles without fixed addresses.
    #[must_use]
    pub fn sunspec_model(&self) -> Option<u16> {
        self.discover.map(|discover| discover.sunspec_model)
    }

    /// Every quantity of the profile: energies, power, voltages, currents, frequency.
    #[must_use]
    pub fn quantities(&self) -> Vec<Quantity<'_>> {
        let energy = self.energy.registers().map(|register| (self.energy.span, register));
        let live = self.live.registers().map(|register| (self.live.span, register));
        energy.chain(live).map(|(span, register)| register.quantity(span)).collect()
    }

    /// The most registers one request may ask this device for.
    pub(crate) const fn registers_per_read(&self) -> u16 {
        self.limits.registers_per_read
    }

    /// Registers from the base that the blocks reach to, for profiles whose base is discovered.
    pub(crate) fn words_from_base(&self) -> u32 {
        self.energy.span.end().max(self.live.span.end())
    }
}

/// How the register base is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Discover {
    /// `SunSpec` model whose header the addresses count from.
    pub(crate) sunspec_model: u16,
    /// Registers of the model after its header of two.
    pub(crate) length: u16,
}

/// What a device can take and measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) registers_per_read: u16,
    /// Registers without a meaning that one request may run over to join two blocks.
    pub(crate) max_hole: u16,
    pub(crate) power_max_w: u64,
}

/// Energy block of a profile, ready to decode. It has at least one of the two registers.
#[derive(Debug, Clone)]
pub(crate) struct EnergyBlock {
    pub(crate) span: Span,
    /// Registers after the block that the device answers too.
    pub(crate) spare: u16,
    pub(crate) import: Option<Register>,
    pub(crate) export: Option<Register>,
    pub(crate) quantum_wh: u64,
    pub(crate) modulus_wh: Option<u64>,
    pub(crate) netting: Netting,
}

impl EnergyBlock {
    pub(crate) fn registers(&self) -> impl Iterator<Item = &Register> {
        self.import.iter().chain(&self.export)
    }
}

/// Live block of a profile, ready to decode.
#[derive(Debug, Clone)]
pub(crate) struct LiveBlock {
    pub(crate) span: Span,
    /// Registers after the block that the device answers too.
    pub(crate) spare: u16,
    /// Power is the sum of these; at least one.
    pub(crate) power: Vec<Register>,
    pub(crate) voltage: [Option<Register>; 3],
    pub(crate) current: [Option<Register>; 3],
    pub(crate) frequency: Option<Register>,
    pub(crate) power_max_w: u64,
}

impl LiveBlock {
    pub(crate) fn registers(&self) -> impl Iterator<Item = &Register> {
        let phases = self.voltage.iter().chain(&self.current).flatten();
        self.power.iter().chain(phases).chain(&self.frequency)
    }
}

/// Consecutive registers read by one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) function: Function,
    pub(crate) address: u16,
    /// At least 1.
    pub(crate) count: u16,
}

impl Span {
    /// The same registers counted from `base`; `None` beyond register 0xffff.
    pub(crate) fn counted_from(self, base: u16) -> Option<Self> {
        let address = self.address.checked_add(base)?;
        address.checked_add(self.count.saturating_sub(1)).map(|_| Self { address, ..self })
    }

    /// The register after the last.
    pub(crate) fn end(self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    /// Offset of `address` in the block, if `words` registers from there are inside.
    fn offset(self, address: u16, words: u16) -> Option<usize> {
        let offset = address.checked_sub(self.address)?;
        (u32::from(offset) + u32::from(words) <= u32::from(self.count)).then_some(usize::from(offset))
    }
}

/// One value inside a block.
#[derive(Debug, Clone)]
pub(crate) struct Register {
    pub(crate) name: &'static str,
    pub(crate) obis: String,
    /// First word, counted from the start of the block.
    pub(crate) offset: usize,
    pub(crate) kind: Kind,
    pub(crate) order: WordOrder,
    /// Power of ten from the raw number to the base unit (Wh, W, mV, mA, mHz).
    pub(crate) exponent: i32,
    /// Word of the block that holds a `SunSpec` scale factor, added to `exponent`.
    pub(crate) scale: Option<usize>,
    /// One more raw value that means "no value".
    pub(crate) absent: Option<u64>,
    /// What the device says of its sign.
    pub(crate) sign: Sign,
}

/// How the sign a device sends becomes ours, where positive is import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    AsSent,
    /// Positive is export there.
    Inverted,
    /// The sign means nothing there.
    Dropped,
}

impl Register {
    fn quantity(&self, span: Span) -> Quantity<'_> {
        Quantity {
            name: self.name,
            obis: &self.obis,
            function: span.function.code(),
            register: u16::try_from(self.offset)
                .map_or(u16::MAX, |offset| span.address.saturating_add(offset)),
            registers: self.kind.words(),
            offset: self.offset,
        }
    }
}

/// The two Modbus functions that read registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

#[cfg(test)]
mod tests;
