//! One block of registers to the values of a sample: all of it or nothing.

use std::collections::BTreeMap;

use energy::{MeterSerial, WattHours};

use crate::decode::{Decoded, Kind};
use crate::profile::{EnergyBlock, Function, LiveBlock, Profile, Register};

/// No register counts further: 1 TWh, a thousand years of a street.
const REGISTER_WH_MAX: i64 = 1_000_000_000_000;
/// Frequency a public grid can have, mHz.
const FREQUENCY_MHZ: std::ops::RangeInclusive<i64> = 45_000..=65_000;
/// A phase above this is not low voltage, mV.
const VOLTAGE_MV_MAX: i64 = 300_000;
/// At least one phase must be above this, mV: a meter without any would not run.
const VOLTAGE_MV_MIN: i64 = 80_000;

/// Why a block gives no sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlockError {
    /// A value the sample cannot do without was not sent.
    Absent(&'static str),
    /// A value cannot be.
    Implausible { quantity: &'static str, problem: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnergyValues {
    pub(crate) import: WattHours,
    pub(crate) export: WattHours,
    pub(crate) quantum: WattHours,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveValues {
    pub(crate) power_w: i64,
    pub(crate) voltage_mv: [Option<u32>; 3],
    pub(crate) frequency_mhz: Option<u32>,
}

fn implausible(quantity: &'static str, problem: impl Into<String>) -> BlockError {
    BlockError::Implausible { quantity, problem: problem.into() }
}

impl Register {
    /// Its words in `block`, and the power of ten that turns them into base units; `None` where the device says that
    /// there is no value.
    fn words<'a>(&self, block: &'a [u16]) -> Result<Option<(&'a [u16], i32)>, BlockError> {
        let end = self.offset + usize::from(self.kind.words());
        let words =
            block.get(self.offset..end).ok_or_else(|| implausible(self.name, "the block is too short"))?;
        let Some(scale) = self.scale else { return Ok(Some((words, self.exponent))) };
        match block.get(scale).map(|word| word.cast_signed()) {
            // A value whose scale is not known is not known.
            None | Some(i16::MIN) => Ok(None),
            Some(factor @ -10..=10) => Ok(Some((words, self.exponent + i32::from(factor)))),
            Some(factor) => {
                Err(implausible(self.name, format!("scale factor {factor} is outside -10 to 10")))
            }
        }
    }

    /// Its value in base units (Wh, W, mV, mHz) and the smallest step of it.
    fn value(&self, block: &[u16]) -> Result<Option<(i64, u64)>, BlockError> {
        let Some((words, exponent)) = self.words(block)? else { return Ok(None) };
        let raw = words.iter().fold(0, |bits, word| bits << 16 | u64::from(*word));
        if self.absent == Some(raw) {
            return Ok(None);
        }
        match self.kind.decode(words, exponent) {
            Decoded::Absent => Ok(None),
            Decoded::Value(value) => Ok(Some((value, self.kind.step(words, exponent)))),
            Decoded::OutOfRange => Err(implausible(self.name, "the number is out of range")),
        }
    }

    fn counter(&self, block: &[u16]) -> Result<(WattHours, u64), BlockError> {
        let (value, step) = self.value(block)?.ok_or(BlockError::Absent(self.name))?;
        match u64::try_from(value) {
            Ok(wh) if value <= REGISTER_WH_MAX => Ok((WattHours::new(wh), step)),
            _ => Err(implausible(self.name, format!("{value} Wh is not a meter's register"))),
        }
    }

    fn gated(
        &self,
        block: &[u16],
        gate: &std::ops::RangeInclusive<i64>,
        unit: &str,
    ) -> Result<Option<u32>, BlockError> {
        match self.value(block)? {
            None => Ok(None),
            Some((value, _)) if gate.contains(&value) => Ok(u32::try_from(value).ok()),
            Some((value, _)) => Err(implausible(self.name, format!("{value} {unit}"))),
        }
    }
}

impl EnergyBlock {
    /// Both registers, or neither.
    pub(crate) fn decode(&self, block: &[u16]) -> Result<EnergyValues, BlockError> {
        let (import, import_step) = self.import.counter(block)?;
        let (export, export_step) = self.export.counter(block)?;
        let quantum = WattHours::new(self.quantum_wh.max(import_step).max(export_step));
        Ok(EnergyValues { import, export, quantum })
    }
}

impl LiveBlock {
    /// Power and what else the block has, if every value of it is plausible.
    pub(crate) fn decode(&self, block: &[u16]) -> Result<LiveValues, BlockError> {
        let (power_w, _) = self.power.value(block)?.ok_or(BlockError::Absent(self.power.name))?;
        if power_w.unsigned_abs() > self.power_max_w {
            return Err(implausible(
                self.power.name,
                format!("{power_w} W; this device ends at {} W", self.power_max_w),
            ));
        }
        let mut voltage_mv = [None; 3];
        for (phase, register) in voltage_mv.iter_mut().zip(&self.voltage) {
            if let Some(register) = register {
                *phase = register.gated(block, &(0..=VOLTAGE_MV_MAX), "mV")?;
            }
        }
        if voltage_mv.iter().any(Option::is_some)
            && voltage_mv.iter().flatten().all(|mv| i64::from(*mv) < VOLTAGE_MV_MIN)
        {
            return Err(implausible("voltage", "no phase is above 80 V"));
        }
        let frequency_mhz = match &self.frequency {
            Some(register) => register.gated(block, &FREQUENCY_MHZ, "mHz")?,
            None => None,
        };
        Ok(LiveValues { power_w, voltage_mv, frequency_mhz })
    }
}

/// What a device of some profile holds at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    /// Serial number.
    pub serial: MeterSerial,
    /// Cumulative import register.
    pub import: WattHours,
    /// Cumulative export register.
    pub export: WattHours,
    /// Power in W; positive is import.
    pub power_w: i64,
    /// Voltage of the three phases against neutral, mV.
    pub voltage_mv: [u32; 3],
    /// Grid frequency, mHz.
    pub frequency_mhz: u32,
}

/// Some value of [`Registers`] has no form in this device's registers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{device} cannot hold this {quantity} in its registers")]
pub struct EncodeError {
    /// Name of the profile.
    pub device: String,
    /// What does not fit.
    pub quantity: &'static str,
}

/// The register table of one device at one instant, as its profile lays it out. Addresses of a discovered profile
/// count from its model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterImage(BTreeMap<(Function, u16), u16>);

impl RegisterImage {
    /// The words that Modbus `function` (3 holding, 4 input) answers; `None` if one of them does not exist.
    #[must_use]
    pub fn read(&self, function: u8, address: u16, count: u16) -> Option<Vec<u16>> {
        let function = Function::try_from(function).ok()?;
        let word = |offset| self.0.get(&(function, address.checked_add(offset)?)).copied();
        (0..count).map(word).collect()
    }

    fn write(&mut self, function: Function, address: u16, words: &[u16]) {
        for (address, word) in (address..).zip(words) {
            self.0.insert((function, address), *word);
        }
    }
}

impl Profile {
    /// The register table of a device that holds `registers`: energies floored to its step, scale factors 10⁰, and
    /// "no value" in every word of its blocks that the profile does not describe.
    ///
    /// # Errors
    /// [`EncodeError`] if a value has no form in these registers.
    pub fn encode(&self, registers: &Registers) -> Result<RegisterImage, EncodeError> {
        let mut image = RegisterImage::default();
        let misfit = |quantity| EncodeError { device: self.name().to_owned(), quantity };
        let identity = &self.file.identity;
        let serial = identity.encode(&registers.serial).ok_or_else(|| misfit("serial number"))?;
        image.write(identity.span().function, identity.span().address, &serial);
        for (span, kind) in
            [(self.live.span, self.live.power.kind), (self.energy.span, self.energy.import.kind)]
        {
            let filler: Vec<u16> = if kind == Kind::F32 { vec![0x7FC0, 0] } else { vec![0xFFFF] };
            let words: Vec<u16> = filler.into_iter().cycle().take(usize::from(span.count)).collect();
            image.write(span.function, span.address, &words);
        }
        for (span, register, value) in self.values(registers) {
            let value = value.ok_or_else(|| misfit(register.name))?;
            let words =
                register.kind.encode(value, register.exponent).ok_or_else(|| misfit(register.name))?;
            let address_of =
                |offset: usize| u16::try_from(offset).map(|offset| span.address.saturating_add(offset));
            let at = |offset| address_of(offset).map_err(|_| misfit(register.name));
            image.write(span.function, at(register.offset)?, &words);
            if let Some(scale) = register.scale {
                image.write(span.function, at(scale)?, &[0]);
            }
        }
        Ok(image)
    }

    /// Every register of the profile with its block and the value to write.
    fn values(&self, registers: &Registers) -> Vec<(crate::profile::Span, Register, Option<i64>)> {
        let (energy, live) = (&self.energy, &self.live);
        let wh = |energy: WattHours| i64::try_from(energy.get()).ok();
        let mut values = vec![
            (live.span, live.power, Some(registers.power_w)),
            (energy.span, energy.import, wh(registers.import)),
            (energy.span, energy.export, wh(registers.export)),
        ];
        let phases = live.voltage.iter().zip(registers.voltage_mv);
        values.extend(phases.filter_map(|(it, mv)| it.map(|it| (live.span, it, Some(i64::from(mv))))));
        values.extend(live.frequency.map(|it| (live.span, it, Some(i64::from(registers.frequency_mhz)))));
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Registers {
        Registers {
            serial: MeterSerial::new("21040123").unwrap(),
            import: WattHours::new(3_456_789),
            export: WattHours::new(1_234),
            power_w: -5_231,
            voltage_mv: [230_000, 231_000, 229_000],
            frequency_mhz: 50_000,
        }
    }

    fn blocks_of(profile: &Profile, registers: &Registers) -> (Vec<u16>, Vec<u16>) {
        let image = profile.encode(registers).unwrap();
        let read =
            |span: crate::profile::Span| image.read(span.function.code(), span.address, span.count).unwrap();
        (read(profile.energy.span), read(profile.live.span))
    }

    #[test]
    fn what_every_profile_encodes_it_decodes_within_one_quantum() {
        for profile in Profile::builtin() {
            let wanted = registers();
            let (energy, live) = blocks_of(profile, &wanted);
            let values = profile.energy.decode(&energy).unwrap();
            assert_eq!(values.quantum, profile.quantum());
            for (got, wanted) in [(values.import, wanted.import), (values.export, wanted.export)] {
                assert_eq!(got.get(), wanted.get() / values.quantum.get() * values.quantum.get());
            }
            let values = profile.live.decode(&live).unwrap();
            assert_eq!(values.power_w, wanted.power_w);
            assert_eq!(values.voltage_mv, wanted.voltage_mv.map(Some));
            assert_eq!(values.frequency_mhz, Some(wanted.frequency_mhz));
        }
    }

    #[test]
    fn a_block_with_one_absent_register_gives_nothing() {
        let sdm = Profile::by_name("eastron-sdm630").unwrap();
        let nan = [0x4640, 0xE6AE, 0x7FC0, 0x0000];
        assert_eq!(sdm.energy.decode(&nan), Err(BlockError::Absent("export")));
        let abb = Profile::by_name("abb-b23").unwrap();
        let all_ones = [0, 0, 0, 5, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF];
        assert_eq!(abb.energy.decode(&all_ones), Err(BlockError::Absent("export")));
    }

    #[test]
    fn a_scale_factor_that_is_missing_or_absurd_gives_no_value() {
        let sunspec = Profile::by_name("sunspec-203").unwrap();
        let (mut energy, _) = blocks_of(sunspec, &registers());
        energy[16] = 0x8000;
        assert_eq!(sunspec.energy.decode(&energy), Err(BlockError::Absent("import")));
        energy[16] = 11;
        let told = BlockError::Implausible {
            quantity: "import",
            problem: "scale factor 11 is outside -10 to 10".into(),
        };
        assert_eq!(sunspec.energy.decode(&energy), Err(told));
        energy[16] = 2;
        assert_eq!(
            sunspec.energy.decode(&energy).unwrap().quantum,
            WattHours::new(100),
            "the factor is the step"
        );
    }

    #[test]
    fn a_value_no_grid_has_discards_the_whole_live_block() {
        let profile = Profile::by_name("abb-b23").unwrap();
        let live_of = |change: &dyn Fn(&mut Registers)| {
            let mut registers = registers();
            change(&mut registers);
            profile.live.decode(&blocks_of(profile, &registers).1)
        };
        let implausible = |quantity| move |error: BlockError| matches!(error, BlockError::Implausible { quantity: it, .. } if it == quantity);
        assert!(live_of(&|it| it.voltage_mv[1] = 400_000).is_err_and(implausible("voltage_l2")));
        assert!(live_of(&|it| it.voltage_mv = [3_000; 3]).is_err_and(implausible("voltage")));
        assert!(live_of(&|it| it.frequency_mhz = 10_000).is_err_and(implausible("frequency")));
        assert!(live_of(&|it| it.power_w = 8_000_000).is_err_and(implausible("power")));
        assert!(live_of(&|it| it.voltage_mv = [230_000, 0, 0]).is_ok(), "a single-phase home");
    }

    #[test]
    fn a_negative_or_endless_register_is_implausible() {
        let sdm = Profile::by_name("eastron-sdm630").unwrap();
        for words in [[0xC640, 0xE6AE, 0x460B, 0x14EC], [0x7F80, 0, 0, 0], [0x5F00, 0, 0, 0]] {
            let error = sdm.energy.decode(&words).unwrap_err();
            assert!(matches!(error, BlockError::Implausible { quantity: "import", .. }), "{error:?}");
        }
    }

    #[test]
    fn what_has_no_register_form_is_refused_by_name() {
        let serial = MeterSerial::new("SIM-1").unwrap();
        let error = Profile::builtin()[0].encode(&Registers { serial, ..registers() }).unwrap_err();
        assert_eq!(error.to_string(), "eastron-sdm630 cannot hold this serial number in its registers");
    }
}
