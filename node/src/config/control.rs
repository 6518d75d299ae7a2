//! `[device.*.modbus]`: where a controlled device is, and what its registers mean.
//!
//! Read and checked in every build, so that a file means the same everywhere; used by builds with the feature
//! `control-modbus` only.

use std::time::Duration;

use agent::Kind;
use meter::HostPort;

use super::document::Section;
use super::meters::{Address, check_unit};
use super::value::{FromToml, Mismatch, words};
use toml::de::DeValue;

/// The port of Modbus TCP (Modbus Messaging on TCP/IP V1.0b, section 4.3.2).
const PORT: u16 = 502;
/// No answer is awaited longer or shorter, ms.
const TIMEOUT_MS: std::ops::RangeInclusive<u32> = 50..=10_000;
/// What is awaited unless said otherwise, ms.
const TIMEOUT_DEFAULT_MS: u32 = 1_000;
/// An inverter falls back after so long without a command unless said otherwise, s.
const REVERT_DEFAULT_S: u16 = 300;
/// Shorter than a minute a lost frame would end a command; longer than an hour protects from nothing. 0: never.
const REVERT_S: std::ops::RangeInclusive<u16> = 60..=3_600;

/// A device that is controlled over Modbus TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModbusSettings {
    /// Host and port.
    pub at: HostPort,
    /// Modbus unit.
    pub unit: u8,
    /// An answer is awaited this long.
    pub timeout: Duration,
    /// What is written where.
    pub map: ControlMap,
    /// Counts what it took, if it does.
    pub taken: Option<EnergyRegister>,
    /// Counts what it gave, if it does.
    pub given: Option<EnergyRegister>,
}

/// What is written where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlMap {
    /// `SunSpec` model 124.
    Sunspec {
        /// The inverter falls back by itself so long after the last command, s; 0: it need not be able to.
        revert_s: u16,
    },
    /// Registers as the maker describes them.
    Registers(Box<RegisterMap>),
}

/// Registers as the maker describes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterMap {
    /// The set-point.
    pub power: Option<PowerRegister>,
    /// Who decides: the node or the device; or on and off.
    pub mode: Option<ModeRegister>,
    /// Written with every command and every repetition.
    pub watchdog: Option<WatchdogRegister>,
    /// How full or warm it is.
    pub level: Option<LevelRegister>,
    /// Whether a vehicle is at the charger.
    pub connected: Option<ConnectedRegister>,
    /// What was written is read back and compared.
    pub verify: bool,
    /// Everything is written again this often, as a device needs that forgets otherwise.
    pub repeat: Option<Duration>,
}

/// A register or two that hold one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Address on the wire, of the first.
    pub register: u16,
    /// How the number is written.
    pub form: Form,
    /// Which half comes first, where there are two.
    pub order: WordOrder,
    /// The Modbus function by which it is read (3, 4) or written (6, 16).
    pub function: u8,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One register, 0 or more.
    U16,
    /// One register, with sign.
    I16,
    /// Two registers, 0 or more.
    U32,
    /// Two registers, with sign.
    I32,
}

impl Form {
    /// Registers that it takes.
    #[must_use]
    pub const fn words(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 => 2,
        }
    }
}

/// Which half of a number of 32 bits comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordOrder {
    /// The high half, as Modbus has it.
    HighFirst,
    /// The low half.
    LowFirst,
}

/// The set-point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerRegister {
    /// Where.
    pub place: Place,
    /// Watts that one of the unit stands for: 1 for W, phases × volts for A.
    pub watts_per_unit: u32,
    /// The register holds the value times 10 to this.
    pub decimals: i8,
    /// True if a number above zero discharges.
    pub discharge_is_positive: bool,
    /// What is below this, as the register has it, is written as 0.
    pub least: Option<u32>,
    /// What is above this, as the register has it, is refused.
    pub most: Option<u32>,
}

/// Who decides, or on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModeRegister {
    /// Where.
    pub place: Place,
    /// While a command holds.
    pub command: i64,
    /// While it is told 0 W, if that is something else.
    pub off: Option<i64>,
    /// When it is left to itself.
    pub release: i64,
}

/// Keeps the device obeying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogRegister {
    /// Where.
    pub place: Place,
    /// What is written.
    pub value: i64,
}

/// How full or warm a device is, as its register has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelRegister {
    /// Where.
    pub place: Place,
    /// Nothing in it; at the lowest temperature of comfort.
    pub empty: i64,
    /// Full; at the highest temperature of comfort.
    pub full: i64,
}

/// Counts energy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnergyRegister {
    /// Where.
    pub place: Place,
    /// Wh that one of the unit stands for: 1 for Wh, 1 000 for kWh.
    pub wh_per_unit: u32,
    /// The register holds the value times 10 to this.
    pub decimals: i8,
}

/// Whether a vehicle is at the charger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedRegister {
    /// Where.
    pub place: Place,
    /// The numbers that say so.
    pub values: Vec<i64>,
}

/// Which kind of map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MapKind {
    Sunspec,
    Registers,
}

/// Unit of a set-point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PowerUnit {
    Watts,
    Amperes,
}

/// Unit of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EnergyUnit {
    Wh,
    Kwh,
}

/// Which way a number above zero goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Positive {
    Charge,
    Discharge,
}

words! {
    MapKind: "one of", [("sunspec", MapKind::Sunspec), ("registers", MapKind::Registers)];
    Form: "one of", [("u16", Form::U16), ("i16", Form::I16), ("u32", Form::U32), ("i32", Form::I32)];
    WordOrder: "one of", [("high-first", WordOrder::HighFirst), ("low-first", WordOrder::LowFirst)];
    PowerUnit: "one of", [("W", PowerUnit::Watts), ("A", PowerUnit::Amperes)];
    EnergyUnit: "one of", [("Wh", EnergyUnit::Wh), ("kWh", EnergyUnit::Kwh)];
    Positive: "one of", [("charge", Positive::Charge), ("discharge", Positive::Discharge)];
}

/// What a number is for: reading and writing have functions of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

/// Reads the section `modbus` of a device of this kind; `None` if there was a fault.
pub(super) fn read(section: &Section<'_>, kind: Kind) -> Option<ModbusSettings> {
    let address = section.required::<Address>("address");
    let unit = section.ask_within::<u8>("unit", 1..=255).unwrap_or(1);
    check_unit(section, unit);
    let timeout_ms = section.within("timeout_ms", TIMEOUT_DEFAULT_MS, TIMEOUT_MS);
    let map = match section.required::<MapKind>("map") {
        Some(MapKind::Sunspec) => read_sunspec(section, kind),
        Some(MapKind::Registers) => read_registers(section, kind),
        None => None,
    };
    let taken = super::swap(section.section("taken").map(|section| read_energy(&section)));
    let given = match kind {
        Kind::Battery => super::swap(section.section("given").map(|section| read_energy(&section))),
        _ => Some(None),
    };
    let (taken, given) = (taken?, given?);
    if kind == Kind::Battery && taken.is_some() != given.is_some() {
        let title = "a battery counts what it takes and what it gives, or neither".to_owned();
        section.fault_here(title, "write both `taken` and `given`, or none of them", None);
    }
    let Address { host, port } = address?;
    let at = HostPort { host, port: port.unwrap_or(PORT) };
    Some(ModbusSettings {
        at,
        unit,
        timeout: Duration::from_millis(timeout_ms.into()),
        map: map?,
        taken,
        given,
    })
}

fn read_sunspec(section: &Section<'_>, kind: Kind) -> Option<ControlMap> {
    if kind != Kind::Battery {
        let title = "the SunSpec map is for batteries (model 124)".to_owned();
        section.fault("map", title, "write map = \"registers\" and the maker's registers", None);
        return None;
    }
    // 0 is no time but the wish to do without.
    let never = section.optional::<u16>("revert_s") == Some(0);
    let revert_s = if never { 0 } else { section.within("revert_s", REVERT_DEFAULT_S, REVERT_S) };
    Some(ControlMap::Sunspec { revert_s })
}

fn read_registers(section: &Section<'_>, kind: Kind) -> Option<ControlMap> {
    let power = super::swap(section.section("power").map(|section| read_power(&section, kind)));
    let mode = super::swap(section.section("mode").map(|section| read_mode(&section, kind)));
    let watchdog = super::swap(section.section("watchdog").map(|section| read_watchdog(&section)));
    let level = super::swap(section.section("level").map(|section| read_level(&section)));
    let connected = match kind {
        Kind::Charger => super::swap(section.section("connected").map(|section| read_connected(&section))),
        _ => Some(None),
    };
    let verify = section.or("verify", true);
    let repeat_s = section.ask_within::<u16>("repeat_s", 1..=3_600);
    let repeat = repeat_s.map(|seconds| Duration::from_secs(seconds.into()));
    let (power, mode, watchdog, level) = (power?, mode?, watchdog?, level?);
    let map = RegisterMap { power, mode, watchdog, level, connected: connected?, verify, repeat };
    check_complete(section, &map, kind);
    Some(ControlMap::Registers(Box::new(map)))
}

/// Without these the device could not be planned for, told anything, or left to itself.
fn check_complete(section: &Section<'_>, map: &RegisterMap, kind: Kind) {
    let missing = |key: &str, why: &str| {
        let title = format!("this map has no `{key}`: {why}");
        section.fault_here(title, &format!("add [device.….modbus.{key}]"), None);
    };
    match kind {
        Kind::Battery => {
            if map.power.is_none() {
                missing("power", "a battery is told how much to take or give");
            }
            if map.mode.is_none() {
                missing("mode", "without it a battery cannot be left to itself again");
            }
        }
        Kind::Charger if map.power.is_none() => {
            missing("power", "a charger is told how much to give at most");
        }
        Kind::Heat if map.power.is_none() && map.mode.is_none() => {
            missing("mode", "heat is told how much to take (`power`) or when to run (`mode`)");
        }
        _ => {}
    }
    if map.level.is_none() && matches!(kind, Kind::Battery | Kind::Heat) {
        missing("level", "a plan needs to know how full or warm it is");
    }
    if map.watchdog.is_some() && map.repeat.is_none() {
        let title = "a watchdog needs `repeat_s`: how often it is written".to_owned();
        section.fault_here(title, "add `repeat_s`, at most half of what the device waits", None);
    }
}

/// The keys that every register has.
fn read_place(section: &Section<'_>, of: Use) -> Option<Place> {
    let register = section.required::<u16>("register");
    let form = section.or("kind", Form::U16);
    let order = section.or("words", WordOrder::HighFirst);
    let usual = match (of, form.words()) {
        (Use::Read, _) => 3,
        (Use::Write, 1) => 6,
        (Use::Write, _) => 16,
    };
    let function = section.or("function", usual);
    let known: &[u8] = match (of, form.words()) {
        (Use::Read, _) => &[3, 4],
        (Use::Write, 1) => &[6, 16],
        (Use::Write, _) => &[16],
    };
    if !known.contains(&function) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        let label = format!("expected {}", known.join(" or "));
        let title = format!("Modbus function {function} does not {} such a number", of.word());
        section.fault("function", title, &label, None);
    }
    let register = register?;
    if register.checked_add(form.words() - 1).is_none() {
        section.fault("register", "the number would end beyond register 65535".to_owned(), "too high", None);
    }
    Some(Place { register, form, order, function })
}

impl Use {
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

fn read_power(section: &Section<'_>, kind: Kind) -> Option<PowerRegister> {
    let place = read_place(section, Use::Write);
    let watts_per_unit = match section.or("unit", PowerUnit::Watts) {
        PowerUnit::Watts => 1,
        PowerUnit::Amperes => {
            let phases = section.ask_within::<u32>("phases", 1..=3);
            if phases.is_none() && !section.has("phases") {
                let title = "a set-point in A needs `phases`".to_owned();
                section.fault_here(title, "add `phases = 1` or `phases = 3`", None);
            }
            phases.unwrap_or(1) * section.within::<u32>("volts", 230, 100..=480)
        }
    };
    let decimals = section.within::<i8>("decimals", 0, -4..=4);
    let discharge_is_positive =
        kind == Kind::Battery && section.required::<Positive>("positive") == Some(Positive::Discharge);
    let least = section.optional::<u32>("least");
    let most = section.optional::<u32>("most");
    let place = place?;
    if kind == Kind::Battery && matches!(place.form, Form::U16 | Form::U32) {
        let title = "a battery's set-point has a sign, and this kind of number has none".to_owned();
        section.fault("kind", title, "expected \"i16\" or \"i32\"", None);
    }
    Some(PowerRegister { place, watts_per_unit, decimals, discharge_is_positive, least, most })
}

fn read_mode(section: &Section<'_>, kind: Kind) -> Option<ModeRegister> {
    let place = read_place(section, Use::Write);
    let command = section.required::<i64>("command");
    let off = if kind == Kind::Battery { None } else { section.optional::<i64>("off") };
    let release = section.required::<i64>("release");
    let place = place?;
    for (key, value) in [("command", command), ("off", off), ("release", release)] {
        check_fits(section, key, value, &place);
    }
    Some(ModeRegister { place, command: command?, off, release: release? })
}

fn read_watchdog(section: &Section<'_>) -> Option<WatchdogRegister> {
    let place = read_place(section, Use::Write);
    let value = section.required::<i64>("value");
    let place = place?;
    check_fits(section, "value", value, &place);
    Some(WatchdogRegister { place, value: value? })
}

/// A number that its register cannot hold is a fault here, not when it is to be written.
fn check_fits(section: &Section<'_>, key: &str, value: Option<i64>, place: &Place) {
    let (least, most) = match place.form {
        Form::U16 => (0, i64::from(u16::MAX)),
        Form::I16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Form::U32 => (0, i64::from(u32::MAX)),
        Form::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
    };
    if let Some(value) = value
        && !(least..=most).contains(&value)
    {
        let title = format!("{value} does not fit into the register");
        section.fault(key, title, &format!("expected {least} to {most}"), None);
    }
}

fn read_level(section: &Section<'_>) -> Option<LevelRegister> {
    let place = read_place(section, Use::Read);
    let empty = section.or("empty", 0_i64);
    let full = section.or("full", 100_i64);
    let sane = -1_000_000..=1_000_000;
    if empty >= full || !sane.contains(&empty) || !sane.contains(&full) {
        let title = format!("`full` is {full} and `empty` is {empty}");
        let key = if section.has("full") { "full" } else { "empty" };
        section.fault(key, title, "expected `full` above `empty`, both within a million", None);
    }
    Some(LevelRegister { place: place?, empty, full })
}

fn read_energy(section: &Section<'_>) -> Option<EnergyRegister> {
    let place = read_place(section, Use::Read);
    let wh_per_unit = match section.or("unit", EnergyUnit::Wh) {
        EnergyUnit::Wh => 1,
        EnergyUnit::Kwh => 1_000,
    };
    let decimals = section.within::<i8>("decimals", 0, -4..=4);
    Some(EnergyRegister { place: place?, wh_per_unit, decimals })
}

fn read_connected(section: &Section<'_>) -> Option<ConnectedRegister> {
    let place = read_place(section, Use::Read);
    let values = section.list::<i64>("values").unwrap_or_default();
    if values.is_empty() || values.len() > 16 {
        let title = "`values` says which numbers mean that a vehicle is there".to_owned();
        section.fault("values", title, "expected 1 to 16 numbers, such as [2, 3]", None);
    }
    Some(ConnectedRegister { place: place?, values })
}
