//! One block of registers to the values of a sample: all of it or nothing.

use energy::WattHours;

use crate::decode::{Decoded, WordOrder};
use crate::profile::{EnergyBlock, LiveBlock, Register, Sign};

/// No register counts further: 1 TWh, a thousand years of a street.
const REGISTER_WH_MAX: i64 = 1_000_000_000_000;
/// Frequency a public grid can have, mHz.
const FREQUENCY_MHZ: std::ops::RangeInclusive<i64> = 45_000..=65_000;
/// A phase above this is not low voltage, mV.
const VOLTAGE_MV_MAX: i64 = 300_000;
/// At least one phase must be above this, mV: a meter without any would not run.
const VOLTAGE_MV_MIN: i64 = 80_000;
/// No low-voltage phase carries more, mA: twice what the largest transformers feed.
const CURRENT_MA_MAX: i64 = 20_000_000;

/// Why a block gives no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    /// A value the sample cannot do without was not sent.
    #[error("there is no value for {0}")]
    Absent(&'static str),
    /// A value cannot be.
    #[error("impossible {quantity}: {problem}")]
    Implausible { quantity: &'static str, problem: String },
    /// A value cannot be, and the block looks right with the words of each value in the other order.
    #[error("impossible {quantity}: {problem}; the block looks right with {other_order}")]
    WordOrder { quantity: &'static str, problem: String, other_order: &'static str },
}

impl BlockError {
    /// The likely cause where the block is plausible with the words of each value the other way round.
    fn or_word_order(self, declared: Option<&Register>, is_plausible_flipped: impl FnOnce() -> bool) -> Self {
        match self {
            Self::Implausible { quantity, problem } if is_plausible_flipped() => {
                let other_order = match declared.map(|register| register.order) {
                    Some(WordOrder::LowFirst) => "high word first",
                    _ => "low word first",
                };
                Self::WordOrder { quantity, problem, other_order }
            }
            other => other,
        }
    }
}

/// The cumulative registers; `None` where the profile has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnergyValues {
    pub(crate) import: Option<WattHours>,
    pub(crate) export: Option<WattHours>,
    pub(crate) quantum: WattHours,
    /// Where they begin again at 0, as the device scales them now.
    pub(crate) modulus: Option<WattHours>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveValues {
    pub(crate) power_w: i64,
    pub(crate) voltage_mv: [Option<u32>; 3],
    pub(crate) current_ma: [Option<i64>; 3],
    pub(crate) frequency_mhz: Option<u32>,
}

fn implausible(quantity: &'static str, problem: impl Into<String>) -> BlockError {
    BlockError::Implausible { quantity, problem: problem.into() }
}

impl Register {
    /// Its bits in `block`, and the power of ten that turns them into base units; `None` where the device says that
    /// there is no value.
    fn bits(&self, block: &[u16]) -> Result<Option<(u64, i32)>, BlockError> {
        let end = self.offset + usize::from(self.kind.words());
        let words =
            block.get(self.offset..end).ok_or_else(|| implausible(self.name, "the block is too short"))?;
        let bits = self.order.bits(words);
        let Some(scale) = self.scale else { return Ok(Some((bits, self.exponent))) };
        match block.get(scale).map(|word| word.cast_signed()) {
            // A value whose scale is not known is not known.
            None | Some(i16::MIN) => Ok(None),
            Some(factor @ -10..=10) => Ok(Some((bits, self.exponent + i32::from(factor)))),
            Some(factor) => {
                Err(implausible(self.name, format!("scale factor {factor} is outside -10 to 10")))
            }
        }
    }

    /// Its scale factor in `block`, 0 for a register without one.
    fn factor(&self, block: &[u16]) -> Option<i16> {
        match self.scale {
            None => Some(0),
            Some(scale) => {
                block.get(scale).map(|word| word.cast_signed()).filter(|factor| (-10..=10).contains(factor))
            }
        }
    }

    /// Its value in base units (Wh, W, mV, mA, mHz) and the smallest step of it.
    fn value(&self, block: &[u16]) -> Result<Option<(i64, u64)>, BlockError> {
        let Some((bits, exponent)) = self.bits(block)? else { return Ok(None) };
        if self.absent == Some(bits) {
            return Ok(None);
        }
        let value = match self.kind.decode(bits, exponent) {
            Decoded::Absent => return Ok(None),
            Decoded::Value(value) => match self.sign {
                Sign::AsSent => Some(value),
                Sign::Inverted => value.checked_neg(),
                Sign::Dropped => value.checked_abs(),
            },
            Decoded::OutOfRange => None,
        };
        match value {
            Some(value) => Ok(Some((value, self.kind.step(bits, exponent)))),
            None => Err(implausible(self.name, "the number is out of range")),
        }
    }

    fn required(&self, block: &[u16]) -> Result<(i64, u64), BlockError> {
        self.value(block)?.ok_or(BlockError::Absent(self.name))
    }

    fn counter(&self, block: &[u16]) -> Result<(WattHours, u64), BlockError> {
        let (value, step) = self.required(block)?;
        if self.is_dust(block) {
            return Err(implausible(self.name, "0 Wh from words that are not 0"));
        }
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
    ) -> Result<Option<i64>, BlockError> {
        match self.value(block)? {
            Some((value, _)) if !gate.contains(&value) => {
                Err(implausible(self.name, format!("{value} {unit}")))
            }
            value => Ok(value.map(|(value, _)| value)),
        }
    }
}

/// The same three phases, each gated.
fn phases(
    registers: &[Option<Register>; 3],
    block: &[u16],
    gate: &std::ops::RangeInclusive<i64>,
    unit: &str,
) -> Result<[Option<i64>; 3], BlockError> {
    let mut values = [None; 3];
    for (value, register) in values.iter_mut().zip(registers) {
        if let Some(register) = register {
            *value = register.gated(block, gate, unit)?;
        }
    }
    Ok(values)
}

impl EnergyBlock {
    /// Every register the profile has, or none.
    pub(crate) fn decode(&self, block: &[u16]) -> Result<EnergyValues, BlockError> {
        self.decode_as_declared(block).map_err(|error| {
            let declared = self.registers().find(|register| register.kind.words() > 1);
            error.or_word_order(declared, || {
                let flipped = self.flipped();
                flipped.decode_as_declared(block).is_ok() && !flipped.registers().any(|it| it.is_dust(block))
            })
        })
    }

    fn decode_as_declared(&self, block: &[u16]) -> Result<EnergyValues, BlockError> {
        let counter = |register: &Option<Register>| {
            register.as_ref().map(|register| register.counter(block)).transpose()
        };
        let (import, export) = (counter(&self.import)?, counter(&self.export)?);
        let steps = [&import, &export].into_iter().flatten().map(|(_, step)| *step);
        let quantum = WattHours::new(steps.fold(self.quantum_wh, u64::max));
        let modulus = self.modulus(block);
        // Rounded to whole watt-hours, the last fractions of one before the end would show the end itself.
        let before_the_end = |(wh, _): (WattHours, u64)| match modulus {
            Some(end) if wh == end => end.saturating_sub(WattHours::new(1)),
            _ => wh,
        };
        Ok(EnergyValues {
            import: import.map(before_the_end),
            export: export.map(before_the_end),
            quantum,
            modulus,
        })
    }

    /// Where the registers begin again, moved by the `SunSpec` scale factor of the block; none is known where theirs
    /// differ. Rounded up, so that what is shown in whole watt-hours stays below it.
    fn modulus(&self, block: &[u16]) -> Option<WattHours> {
        let mut factors = self.registers().map(|register| register.factor(block));
        let factor = factors.next()??;
        if factors.any(|other| other != Some(factor)) {
            return None;
        }
        let ten = 10_u64.checked_pow(u32::from(factor.unsigned_abs()))?;
        let modulus = self.modulus_wh?;
        let scaled = if factor < 0 { Some(modulus.div_ceil(ten)) } else { modulus.checked_mul(ten) };
        scaled.map(WattHours::new)
    }

    /// The same block with the words of each value the other way round.
    fn flipped(&self) -> Self {
        let flipped = |register: &Option<Register>| register.as_ref().map(Register::flipped);
        Self { import: flipped(&self.import), export: flipped(&self.export), ..self.clone() }
    }
}

impl Register {
    fn is_dust(&self, block: &[u16]) -> bool {
        matches!(self.bits(block), Ok(Some((bits, _))) if self.kind.is_dust(bits))
    }

    fn flipped(&self) -> Self {
        Self { order: self.order.flipped(), ..self.clone() }
    }
}

impl LiveBlock {
    /// Power and what else the block has, if every value of it is plausible.
    pub(crate) fn decode(&self, block: &[u16]) -> Result<LiveValues, BlockError> {
        self.decode_as_declared(block).map_err(|error| {
            let declared = self.registers().find(|register| register.kind.words() > 1);
            error.or_word_order(declared, || {
                let flipped = self.flipped();
                flipped.decode_as_declared(block).is_ok() && !flipped.registers().any(|it| it.is_dust(block))
            })
        })
    }

    fn decode_as_declared(&self, block: &[u16]) -> Result<LiveValues, BlockError> {
        let power_w = self.power_w(block)?;
        let voltage_mv = phases(&self.voltage, block, &(0..=VOLTAGE_MV_MAX), "mV")?;
        if voltage_mv.iter().any(Option::is_some)
            && voltage_mv.iter().flatten().all(|mv| *mv < VOLTAGE_MV_MIN)
        {
            return Err(implausible("voltage", "no phase is above 80 V"));
        }
        let current_ma = phases(&self.current, block, &(-CURRENT_MA_MAX..=CURRENT_MA_MAX), "mA")?;
        let frequency_mhz = match &self.frequency {
            Some(register) => register.gated(block, &FREQUENCY_MHZ, "mHz")?,
            None => None,
        };
        // The gates leave nothing that does not fit.
        let unsigned = |value: i64| u32::try_from(value).ok();
        Ok(LiveValues {
            power_w,
            voltage_mv: voltage_mv.map(|it| it.and_then(unsigned)),
            current_ma,
            frequency_mhz: frequency_mhz.and_then(unsigned),
        })
    }

    fn power_w(&self, block: &[u16]) -> Result<i64, BlockError> {
        let mut sum = 0_i64;
        for register in &self.power {
            let (part, _) = register.required(block)?;
            let whole = sum.checked_add(part);
            sum = whole.ok_or_else(|| implausible(register.name, "the number is out of range"))?;
        }
        if sum.unsigned_abs() > self.power_max_w {
            let problem = format!("{sum} W; this device ends at {} W", self.power_max_w);
            return Err(implausible("power", problem));
        }
        Ok(sum)
    }

    /// The same block with the words of each value the other way round.
    fn flipped(&self) -> Self {
        let flipped = |register: &Option<Register>| register.as_ref().map(Register::flipped);
        Self {
            power: self.power.iter().map(Register::flipped).collect(),
            voltage: self.voltage.each_ref().map(flipped),
            current: self.current.each_ref().map(flipped),
            frequency: flipped(&self.frequency),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;
    use crate::image::Registers;
    use crate::image::tests::{blocks_of, registers};

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
        let (mut energy, _) = blocks_of(&sunspec, &registers());
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
    fn a_scale_factor_moves_the_end_of_the_register_and_no_value_reaches_it() {
        let sunspec = Profile::by_name("sunspec-203").unwrap();
        let (mut energy, _) = blocks_of(&sunspec, &registers());
        for (factor, modulus) in [(0, 4_294_967_296), (-2, 42_949_673), (1, 42_949_672_960)] {
            energy[16] = i16::cast_unsigned(factor);
            let values = sunspec.energy.decode(&energy).unwrap();
            assert_eq!(values.modulus, Some(WattHours::new(modulus)));
            for register in sunspec.energy.registers() {
                energy[register.offset..register.offset + 2].fill(0xFFFF);
            }
            let last = sunspec.energy.decode(&energy).unwrap().import.unwrap();
            assert!(last.get() < modulus && last.get() + values.quantum.get() >= modulus, "{last}");
        }
        let sdm = Profile::by_name("eastron-sdm630").unwrap();
        let (energy, _) = blocks_of(&sdm, &registers());
        assert_eq!(sdm.energy.decode(&energy).unwrap().modulus, None);
    }

    #[test]
    fn a_value_no_grid_has_discards_the_whole_live_block() {
        let profile = Profile::by_name("abb-b23").unwrap();
        let live_of = |change: &dyn Fn(&mut Registers)| {
            let mut registers = registers();
            change(&mut registers);
            profile.live.decode(&blocks_of(&profile, &registers).1)
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
    fn a_live_block_in_the_other_word_order_is_refused_with_the_likely_cause() {
        for profile in Profile::builtin() {
            let is_swappable = |it: &Register| it.kind.words() > 1;
            if !profile.live.voltage.iter().flatten().any(is_swappable) {
                continue;
            }
            let (_, words) = blocks_of(&profile.flipped(), &registers());
            let error = profile.live.decode(&words).unwrap_err();
            assert!(matches!(error, BlockError::WordOrder { .. }), "{}: {error}", profile.name());
        }
    }

    #[test]
    fn float_counters_in_the_other_word_order_are_never_0_but_refused_with_the_likely_cause() {
        let sdm = Profile::by_name("eastron-sdm630").unwrap();
        for (import, export) in [(12_345_670, 8_901_230), (2_000, 0), (0, 7), (3_456_789, 1_000)] {
            let held =
                Registers { import: WattHours::new(import), export: WattHours::new(export), ..registers() };
            let (words, _) = blocks_of(&sdm.flipped(), &held);
            let error = sdm.energy.decode(&words).unwrap_err();
            let likely = matches!(error, BlockError::WordOrder { other_order: "low word first", .. });
            assert!(likely, "{import} and {export} Wh: {error}");
        }
    }

    impl Profile {
        fn flipped(&self) -> Self {
            Self { energy: self.energy.flipped(), live: self.live.flipped(), ..self.clone() }
        }
    }
}
