//! A whole profile out of its TOML, with the checks of one field against another.

use std::fmt::Debug;
use std::time::Duration;

use energy::WattHours;

use super::document::Section;
use super::units::{Dimension, Name, Obis};
use super::{
    BusDefaults, Discover, EnergyBlock, Function, Identity, Limits, LiveBlock, Netting, Profile, Register,
    Sign, Span,
};
use crate::block::BlockError;
use crate::decode::{Kind, WordOrder};

/// The most registers one request may ask for (Modbus Application Protocol V1.1b3, section 6.3).
const REGISTERS_PER_READ_MAX: u16 = 125;
/// Larger than any grid connection this program is for, W.
const POWER_MAX_W: u64 = 1_000_000_000;
/// Wh that no register counts to: 1 PWh.
const WH_MAX: u64 = 1_000_000_000_000_000;

const VOLTAGES: [&str; 3] = ["voltage_l1", "voltage_l2", "voltage_l3"];
const CURRENTS: [&str; 3] = ["current_l1", "current_l2", "current_l3"];

/// The profile at `root`; every fault is reported there.
pub(super) fn profile(root: &Section<'_>, hash: [u8; 32]) -> Option<Profile> {
    let name = root.required::<Name>("name");
    let device = said(root, "device", "name the models it is for");
    let source = said(root, "source", "say where the register table comes from");
    let order = root.or("words", WordOrder::HighFirst);
    let bus = bus(root.section("bus").as_ref());
    let discover = root.section("discover").map(|section| discover(&section));
    let limits = root.required_section("limits").and_then(|section| limits(&section));
    let identity = root.section("identity").map(|section| Identity::read(&section));
    let shape = Shape { order, discover: discover.flatten(), limits };
    let energy =
        root.flawless(|| root.required_section("energy").and_then(|section| energy_block(&section, &shape)));
    let live =
        root.flawless(|| root.required_section("live").and_then(|section| live_block(&section, &shape)));
    if let Some(vector) = root.required_section("vector") {
        check_vectors(&vector, energy.as_ref(), live.as_ref());
    }
    Some(Profile {
        name: name?.0,
        device: device?,
        source: source?,
        bus,
        discover: match discover {
            None => None,
            Some(discover) => Some(discover?),
        },
        limits: limits?,
        identity: match identity {
            None => None,
            Some(identity) => Some(identity?),
        },
        energy: energy?,
        live: live?,
        hash,
    })
}

fn said(section: &Section<'_>, key: &'static str, what: &str) -> Option<String> {
    let text = section.required::<String>(key)?;
    if text.trim().is_empty() {
        section.fault(key, "is empty", what, None);
    }
    Some(text)
}

/// Defaults of Modbus itself where the profile says nothing: TCP port 502, unit 1.
fn bus(section: Option<&Section<'_>>) -> BusDefaults {
    let milliseconds = |key, default, range| {
        Duration::from_millis(section.map_or(default, |section| section.within(key, default, range)))
    };
    BusDefaults {
        line: section.and_then(|section| section.optional("line")),
        timeout: milliseconds("timeout_ms", 500, 50..=60_000),
        connect_delay: milliseconds("connect_delay_ms", 0, 0..=60_000),
        frame_gap: milliseconds("frame_gap_ms", 0, 0..=5_000),
        single_client: section.is_some_and(|section| section.or("single_client", false)),
        unit: section.map_or(1, |section| section.or("unit", 1)),
        port: section.map_or(502, |section| section.within("port", 502, 1..=u16::MAX)),
    }
}

fn discover(section: &Section<'_>) -> Option<Discover> {
    let sunspec_model = section.required_within("sunspec_model", 1..=0xFFFE);
    let length = section.required_within("length", 1..=0xFFFC);
    Some(Discover { sunspec_model: sunspec_model?, length: length? })
}

fn limits(section: &Section<'_>) -> Option<Limits> {
    let registers_per_read = section.required_within("registers_per_read", 1..=REGISTERS_PER_READ_MAX);
    let max_hole = section.within("max_hole", 0, 0..=REGISTERS_PER_READ_MAX);
    let power_max_w = section.required_within("power_max_w", 1..=POWER_MAX_W);
    Some(Limits { registers_per_read: registers_per_read?, max_hole, power_max_w: power_max_w? })
}

/// What the blocks of one profile have in common.
struct Shape {
    order: WordOrder,
    discover: Option<Discover>,
    limits: Option<Limits>,
}

impl Shape {
    /// Function, address and count of a block, and the registers it may be lengthened by.
    fn span(&self, section: &Section<'_>) -> Option<(Span, u16)> {
        let function = section.required::<Function>("function");
        let address = section.required::<u16>("address");
        let most = self.limits.map_or(REGISTERS_PER_READ_MAX, |limits| limits.registers_per_read);
        let count = section.required_within::<u16>("count", 1..=most);
        let spare = section.within("spare", 0, 0..=most);
        let span = Span { function: function?, address: address?, count: count? };
        if span.count + spare > most {
            let label = format!("with these the block has {}; one read takes {most}", span.count + spare);
            section.fault("spare", "makes the block too long", &label, None);
        }
        let end = span.end() + u32::from(spare);
        if end > 0x1_0000 {
            section.fault("address", "cannot be used: the block ends beyond register 0xffff", "", None);
        }
        if let Some(model) = self.discover.filter(|model| end > u32::from(model.length) + 2) {
            let label = format!("the model has {} registers, its header included", model.length + 2);
            section.fault("count", "reaches beyond the model", &label, None);
        }
        Some((span, spare))
    }

    fn register(
        &self,
        section: &Section<'_>,
        name: &'static str,
        dimension: Dimension,
        span: Option<Span>,
    ) -> Option<Register> {
        let address = section.required::<u16>("address");
        let kind = section.required::<Kind>("type");
        let unit = section.required::<String>("unit");
        let exponent = unit.and_then(|unit| {
            let exponent = dimension.exponent(&unit);
            if exponent.is_none() {
                section.fault("unit", &format!("cannot be used: {unit:?}"), &dimension.hint(), None);
            }
            exponent
        });
        let obis = section.required::<Obis>("obis");
        let order = section.or("words", self.order);
        let scale_register = section.optional::<u16>("scale_register");
        let absent = section.optional::<u64>("absent");
        let sign = sign(section, dimension);
        let (kind, span) = (kind?, span?);
        if absent.is_some_and(|absent| absent.checked_shr(u32::from(kind.words()) * 16).unwrap_or(0) > 0) {
            let label = format!("the value has {} registers of 16 bits", kind.words());
            section.fault("absent", "can never be sent", &label, None);
        }
        let scale = match scale_register {
            None => None,
            Some(register) => Some(offset(section, "scale_register", register, 1, span)?),
        };
        let offset = offset(section, "address", address?, kind.words(), span)?;
        let obis = obis?.0;
        Some(Register { name, obis, offset, kind, order, exponent: exponent?, scale, absent, sign })
    }
}

/// Where in the block the registers of the address `key` are; a fault if they are outside.
fn offset(section: &Section<'_>, key: &str, address: u16, words: u16, span: Span) -> Option<usize> {
    let offset = span.offset(address, words);
    if offset.is_none() {
        let label = format!("the block is {} registers from {:#06x}", span.count, span.address);
        section.fault(key, "is not inside the block", &label, None);
    }
    offset
}

fn sign(section: &Section<'_>, dimension: Dimension) -> Sign {
    let invert = section.or("invert", false);
    let absolute = section.or("absolute", false);
    if invert && absolute {
        section.fault("absolute", "contradicts `invert`: a dropped sign cannot be turned", "keep one", None);
    }
    let has_direction = matches!(dimension, Dimension::Power | Dimension::Current);
    if invert && !has_direction {
        section.fault("invert", "is for power and current only", "this quantity has no direction", None);
    }
    match (invert, absolute) {
        (true, false) if has_direction => Sign::Inverted,
        (false, true) => Sign::Dropped,
        _ => Sign::AsSent,
    }
}

fn energy_block(section: &Section<'_>, shape: &Shape) -> Option<EnergyBlock> {
    let place = shape.span(section);
    let span = place.map(|(span, _)| span);
    let quantum_wh = section.required_within("quantum_wh", 1..=1_000_000);
    let modulus_wh = section.optional_within("modulus_wh", 1_000..=WH_MAX);
    let netting = section.or("netting", Netting::Unknown);
    let registers = ["import", "export"].map(|name| {
        let register = section.section(name)?;
        Some(counter(&register, name, shape, span, quantum_wh, modulus_wh.is_some()))
    });
    if registers.iter().all(Option::is_none) {
        section.fault("import", "and `export` are missing", "add one of them, or both", None);
        return None;
    }
    let [import, export] = registers;
    let (import, export) = (settled(import)?, settled(export)?);
    check_overlap(section, import.iter().chain(&export));
    let (span, spare) = place?;
    Some(EnergyBlock { span, spare, import, export, quantum_wh: quantum_wh?, modulus_wh, netting })
}

/// What may be missing but not be wrong: `None` if it was there and was refused.
fn settled<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

fn counter(
    section: &Section<'_>,
    name: &'static str,
    shape: &Shape,
    span: Option<Span>,
    quantum_wh: Option<u64>,
    has_modulus: bool,
) -> Option<Register> {
    let register = shape.register(section, name, Dimension::Energy, span)?;
    if register.kind == Kind::Acc32 && !has_modulus {
        section.fault(
            "type",
            "counts in a circle",
            "an accumulator of 32 bits begins again at 0",
            Some("add modulus_wh = 4_294_967_296 (at scale factor 0) to [energy]"),
        );
    }
    let step = register.kind.step(0, register.exponent);
    let is_fixed = register.kind != Kind::F32 && register.scale.is_none();
    if let Some(quantum) = quantum_wh.filter(|quantum| is_fixed && *quantum < step) {
        let label = format!("one step is {step} Wh, but quantum_wh is {quantum}");
        section.fault("unit", "is coarser than the quantum", &label, Some("set quantum_wh to the step"));
    }
    Some(register)
}

fn live_block(section: &Section<'_>, shape: &Shape) -> Option<LiveBlock> {
    let place = shape.span(section);
    let span = place.map(|(span, _)| span);
    let parts = section.required_sections("power");
    let power: Vec<_> =
        parts.iter().map(|part| shape.register(part, "power", Dimension::Power, span)).collect();
    drop(parts);
    let optional = |name, dimension| {
        settled(section.section(name).map(|register| shape.register(&register, name, dimension, span)))
    };
    let voltage = VOLTAGES.map(|name| optional(name, Dimension::Voltage));
    let current = CURRENTS.map(|name| optional(name, Dimension::Current));
    let frequency = optional("frequency", Dimension::Frequency)?;
    let block = LiveBlock {
        span: span?,
        spare: place?.1,
        power: power.into_iter().collect::<Option<Vec<_>>>().filter(|power| !power.is_empty())?,
        voltage: all(voltage)?,
        current: all(current)?,
        frequency,
        power_max_w: shape.limits?.power_max_w,
    };
    check_overlap(section, block.registers());
    Some(block)
}

fn all<T>([a, b, c]: [Option<T>; 3]) -> Option<[T; 3]> {
    Some([a?, b?, c?])
}

/// Two quantities out of the same words are a slip of the pen.
fn check_overlap<'a>(section: &Section<'_>, registers: impl Iterator<Item = &'a Register>) {
    let mut seen: Vec<&Register> = Vec::new();
    for register in registers {
        let words = |it: &Register| it.offset..it.offset + usize::from(it.kind.words());
        let mine = words(register);
        if let Some(other) =
            seen.iter().find(|other| words(other).start < mine.end && mine.start < words(other).end)
        {
            let problem = format!("has the same registers as `{}.{}`", section.path(), other.name);
            section.fault(register.name, &problem, "each quantity has registers of its own", None);
        }
        seen.push(register);
    }
}

fn check_vectors(section: &Section<'_>, energy: Option<&EnergyBlock>, live: Option<&LiveBlock>) {
    if let Some(vector) = section.required_section("energy") {
        check_energy_vector(&vector, energy);
    }
    if let Some(vector) = section.required_section("live") {
        check_live_vector(&vector, live);
    }
}

fn check_energy_vector(section: &Section<'_>, block: Option<&EnergyBlock>) {
    let words = words(section, block.map(|block| block.span));
    let wanted = ["import_wh", "export_wh"].map(|key| section.optional::<u64>(key));
    let (Some(words), Some(block)) = (words, block) else { return };
    match block.decode(&words) {
        Err(error) => undecoded(section, &error),
        Ok(got) => {
            compare(section, "import_wh", got.import.map(WattHours::get).as_ref(), wanted[0].as_ref());
            compare(section, "export_wh", got.export.map(WattHours::get).as_ref(), wanted[1].as_ref());
        }
    }
}

fn check_live_vector(section: &Section<'_>, block: Option<&LiveBlock>) {
    let words = words(section, block.map(|block| block.span));
    let power_w = section.required::<i64>("power_w");
    let voltage_mv = section.list::<u32>("voltage_mv");
    let current_ma = section.list::<i64>("current_ma");
    let frequency_mhz = section.optional::<u32>("frequency_mhz");
    let (Some(words), Some(block)) = (words, block) else { return };
    match block.decode(&words) {
        Err(error) => undecoded(section, &error),
        Ok(got) => {
            compare(section, "power_w", Some(&got.power_w), power_w.as_ref());
            compare(section, "voltage_mv", phases(got.voltage_mv).as_ref(), voltage_mv.as_ref());
            compare(section, "current_ma", phases(got.current_ma).as_ref(), current_ma.as_ref());
            compare(section, "frequency_mhz", got.frequency_mhz.as_ref(), frequency_mhz.as_ref());
        }
    }
}

/// The values of the phases that are there, L1 first; `None` if none is.
fn phases<T>(values: [Option<T>; 3]) -> Option<Vec<T>> {
    let there: Vec<T> = values.into_iter().flatten().collect();
    (!there.is_empty()).then_some(there)
}

/// The registers of a test vector: as many as the block has.
fn words(section: &Section<'_>, block: Option<Span>) -> Option<Vec<u16>> {
    let text = section.required::<String>("words")?;
    let word = |digits: &str| {
        let word = u16::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 4);
        if word.is_none() {
            let problem = format!("cannot be used: {digits:?} is not a register of four hex digits");
            section.fault("words", &problem, "", None);
        }
        word
    };
    let words: Vec<u16> = text.split_whitespace().map(word).collect::<Option<_>>()?;
    let wanted = block.map_or(words.len(), |span| usize::from(span.count));
    if words.len() != wanted {
        let problem = format!("has {} registers, its block {wanted}", words.len());
        section.fault("words", &problem, "", Some("a vector is the whole block as the device sent it"));
        return None;
    }
    Some(words)
}

fn undecoded(section: &Section<'_>, error: &BlockError) {
    section.fault("words", &format!("does not decode: {error}"), "", None);
}

/// Reports where a vector's value is not what its words decode to.
fn compare<T: PartialEq + Debug>(section: &Section<'_>, key: &str, got: Option<&T>, wanted: Option<&T>) {
    match (got, wanted) {
        (Some(got), Some(wanted)) if got != wanted => {
            let problem = format!("is not what the words say: they decode to {got:?}");
            section.fault(key, &problem, &format!("here {wanted:?}"), None);
        }
        (Some(got), None) => {
            section.fault(key, "is missing", &format!("the words decode to {got:?}"), None);
        }
        (None, Some(_)) => section.fault(key, "has no register in this profile", "", None),
        _ => {}
    }
}
