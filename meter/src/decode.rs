//! Register words to whole numbers and back, decoding without floating point.
//!
//! Every quantity is a whole number of its base unit: Wh, W, mV, mHz. A register says `raw × 10^exponent` base
//! units; what remains below one base unit is rounded half away from zero. Rounding a cumulative register is
//! monotone and differences telescope, so no error accumulates over intervals.

use serde::Deserialize;

/// How the words of one value are to be read. Words are always high word first, bytes big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    /// IEEE 754 single precision.
    F32,
    /// `SunSpec` accumulator: unsigned, and 0 is a value (its points are mandatory in the models read here).
    Acc32,
}

/// What a meter sent for one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// The device's sign for "no value": never a number, and above all never 0.
    Absent,
    /// In base units.
    Value(i64),
    /// Infinite, or outside `i64`.
    OutOfRange,
}

impl Kind {
    /// Registers taken.
    pub(crate) const fn words(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Acc32 => 2,
            Self::U64 | Self::I64 => 4,
        }
    }

    const fn is_signed(self) -> bool {
        matches!(self, Self::I16 | Self::I32 | Self::I64)
    }

    /// The words a device sends for "no value": all ones, the most negative number, or NaN.
    pub(crate) const fn absent(self) -> Option<u64> {
        match self {
            Self::U16 => Some(0xFFFF),
            Self::I16 => Some(0x8000),
            Self::U32 => Some(0xFFFF_FFFF),
            Self::I32 => Some(0x8000_0000),
            Self::U64 => Some(u64::MAX),
            Self::I64 => Some(1 << 63),
            Self::F32 => Some(0x7FC0_0000),
            Self::Acc32 => None,
        }
    }

    /// `words` (exactly [`Kind::words`] of them) as base units.
    pub(crate) fn decode(self, words: &[u16], exponent: i32) -> Decoded {
        let bits = bits_of(words);
        if self == Self::F32 {
            return decode_f32(bits, exponent);
        }
        if self.absent() == Some(bits) {
            return Decoded::Absent;
        }
        let raw = if self.is_signed() { sign_extended(bits, self.words()) } else { i128::from(bits) };
        within_range(scaled(raw, 0, exponent))
    }

    /// `value` base units as words. Integers are floored to the register's step; `None` if they do not fit.
    pub(crate) fn encode(self, value: i64, exponent: i32) -> Option<Vec<u16>> {
        let bits = if self == Self::F32 {
            encode_f32(value, exponent)
        } else {
            self.encode_integer(value, exponent)?
        };
        Some(words_of(bits, self.words()))
    }

    fn encode_integer(self, value: i64, exponent: i32) -> Option<u64> {
        let power = 10i128.checked_pow(exponent.unsigned_abs())?;
        let value = i128::from(value);
        let raw = if exponent < 0 { value.checked_mul(power)? } else { value.div_euclid(power) };
        let width = u32::from(self.words()) * 16;
        let (lowest, highest) = if self.is_signed() {
            (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1)
        } else {
            (0, (1i128 << width) - 1)
        };
        let fits = (lowest..=highest).contains(&raw);
        let bits = u64::try_from(raw.rem_euclid(1i128 << width)).ok()?;
        (fits && self.absent() != Some(bits)).then_some(bits)
    }

    /// The smallest change of these words, in whole base units (at least 1): for a float it grows with the value.
    pub(crate) fn step(self, words: &[u16], exponent: i32) -> u64 {
        let two = if self == Self::F32 { f32_parts(bits_of(words)).1 } else { 0 };
        let step = scaled_fraction(1, two, exponent).map(|(num, den)| num.div_ceil(den));
        step.and_then(|step| u64::try_from(step).ok()).unwrap_or(u64::MAX)
    }
}

fn bits_of(words: &[u16]) -> u64 {
    words.iter().fold(0, |bits, word| bits << 16 | u64::from(*word))
}

fn words_of(bits: u64, words: u16) -> Vec<u16> {
    let bytes = bits.to_be_bytes();
    let first = bytes.len() - usize::from(words) * 2;
    bytes[first..].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

fn sign_extended(bits: u64, words: u16) -> i128 {
    let width = u32::from(words) * 16;
    let bits = i128::from(bits);
    if bits >> (width - 1) == 0 { bits } else { bits - (1i128 << width) }
}

fn within_range(value: Option<i128>) -> Decoded {
    match value.and_then(|value| i64::try_from(value).ok()) {
        Some(value) => Decoded::Value(value),
        None => Decoded::OutOfRange,
    }
}

/// Mantissa and binary exponent of a finite single: its magnitude is exactly `mantissa × 2^exponent`.
fn f32_parts(bits: u64) -> (u128, i32) {
    let biased = i32::try_from(bits >> 23 & 0xFF).unwrap_or(0);
    let fraction = u128::from(bits & 0x7F_FFFF);
    if biased == 0 { (fraction, -149) } else { (fraction | 1 << 23, biased - 150) }
}

fn decode_f32(bits: u64, exponent: i32) -> Decoded {
    let (mantissa, two) = f32_parts(bits);
    if bits & 0x7F80_0000 == 0x7F80_0000 {
        return if bits & 0x7F_FFFF == 0 { Decoded::OutOfRange } else { Decoded::Absent };
    }
    let magnitude = i128::try_from(mantissa).ok().and_then(|mantissa| scaled(mantissa, two, exponent));
    within_range(if bits >> 31 & 1 == 1 { magnitude.map(|it| -it) } else { magnitude })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the nearest single precision number is what a float register holds"
)]
fn encode_f32(value: i64, exponent: i32) -> u64 {
    let power = 10f64.powi(exponent.abs());
    let exact = value as f64;
    u64::from((if exponent < 0 { exact * power } else { exact / power } as f32).to_bits())
}

/// `raw × 2^two × 10^ten`, rounded half away from zero; `None` if it is too large to be meant.
fn scaled(raw: i128, two: i32, ten: i32) -> Option<i128> {
    let (num, den) = scaled_fraction(raw.unsigned_abs(), two, ten)?;
    let rounded = i128::try_from(num.checked_add(den / 2)? / den).ok()?;
    Some(if raw < 0 { -rounded } else { rounded })
}

/// `magnitude × 2^two × 10^ten` as a fraction; `None` if its numerator leaves 126 bits.
fn scaled_fraction(magnitude: u128, two: i32, ten: i32) -> Option<(u128, u128)> {
    let tens = 10u128.checked_pow(ten.unsigned_abs())?;
    // A denominator of 2^80 already makes every mantissa times 10^10 less than half: the value is 0.
    let twos = 1u128.checked_shl(two.unsigned_abs().min(if two < 0 { 80 } else { 127 }))?;
    let grow = if ten > 0 { tens } else { 1 };
    let num = magnitude.checked_mul(grow)?.checked_mul(if two > 0 { twos } else { 1 })?;
    let den = (if ten < 0 { tens } else { 1 }).checked_mul(if two < 0 { twos } else { 1 })?;
    (num < 1 << 126 && den < 1 << 126).then_some((num, den))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KWH: i32 = 3;

    fn words_of_f32(value: f32) -> Vec<u16> {
        words_of(u64::from(value.to_bits()), 2)
    }

    #[test]
    fn a_float_register_below_4096_kwh_decodes_to_the_exact_watt_hour() {
        for wh in (0..4_096_000).step_by(7).chain(4_095_000..=4_096_000).chain(0..=2_000) {
            // The nearest single of the decimal, as another implementation would send it.
            let sent: f32 = format!("{}.{:03}", wh / 1000, wh % 1000).parse().unwrap();
            assert_eq!(Kind::F32.decode(&words_of_f32(sent), KWH), Decoded::Value(wh));
            assert_eq!(Kind::F32.encode(wh, KWH).unwrap(), words_of_f32(sent), "{wh}");
        }
    }

    #[test]
    fn what_a_device_sends_for_no_value_is_absent_and_never_a_number() {
        for kind in [Kind::U16, Kind::I16, Kind::U32, Kind::I32, Kind::U64, Kind::I64, Kind::F32] {
            let words = words_of(kind.absent().unwrap(), kind.words());
            assert_eq!(kind.decode(&words, 0), Decoded::Absent, "{kind:?}");
        }
        assert_eq!(Kind::F32.decode(&words_of_f32(-f32::NAN), KWH), Decoded::Absent);
        assert_eq!(Kind::F32.decode(&[0x7F80, 0x0001], KWH), Decoded::Absent);
        assert_eq!(Kind::F32.decode(&words_of_f32(f32::INFINITY), KWH), Decoded::OutOfRange);
        assert_eq!(Kind::F32.decode(&words_of_f32(f32::MAX), KWH), Decoded::OutOfRange);
        assert_eq!(Kind::Acc32.decode(&[0, 0], 0), Decoded::Value(0));
    }

    #[test]
    fn integers_of_every_width_and_sign_decode() {
        assert_eq!(Kind::U16.decode(&[4998], 1), Decoded::Value(49_980));
        assert_eq!(Kind::I16.decode(&[0xFFC7], 1), Decoded::Value(-570));
        assert_eq!(Kind::I32.decode(&[0xFFFF, 0x218A], -2), Decoded::Value(-570));
        assert_eq!(Kind::U32.decode(&[0x0012, 0xD687], 1), Decoded::Value(12_345_670));
        assert_eq!(Kind::U64.decode(&[0, 0, 0x0012, 0xD687], 1), Decoded::Value(12_345_670));
        assert_eq!(Kind::I64.decode(&[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFB], 0), Decoded::Value(-5));
        assert_eq!(Kind::U64.decode(&[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], 1), Decoded::OutOfRange);
    }

    #[test]
    fn the_step_of_a_float_register_grows_with_its_value() {
        let step_at = |kwh: f32| Kind::F32.step(&words_of_f32(kwh), KWH);
        assert_eq!(
            [step_at(4_000.0), step_at(12_345.0), step_at(70_000.0), step_at(131_072.0)],
            [1, 1, 8, 16]
        );
        assert_eq!(Kind::U64.step(&[0; 4], 1), 10);
        assert_eq!(Kind::Acc32.step(&[0; 2], -2), 1);
    }

    #[test]
    fn a_value_that_does_not_fit_is_not_encoded() {
        assert_eq!(Kind::U16.encode(-1, 0), None);
        assert_eq!(Kind::U16.encode(65_535, 0), None, "that is the word for absent");
        assert_eq!(Kind::I16.encode(-40_000, 0), None);
        assert_eq!(Kind::U64.encode(12_345_679, 1), Some(vec![0, 0, 0x0012, 0xD687]), "floored to 10 Wh");
    }

    proptest! {
        #[test]
        fn a_float_decodes_as_arithmetic_in_double_precision_says(bits: u32) {
            let value = f32::from_bits(bits);
            let kwh_in_wh = f64::from(value) * 1000.0;
            let decoded = Kind::F32.decode(&words_of(u64::from(bits), 2), KWH);
            if value.is_nan() {
                prop_assert_eq!(decoded, Decoded::Absent);
            } else if kwh_in_wh.abs() > 9.3e18 {
                prop_assert_eq!(decoded, Decoded::OutOfRange);
            } else if kwh_in_wh.abs() < 4.5e15 {
                let Decoded::Value(wh) = decoded else { return Err(TestCaseError::fail("not a value")) };
                prop_assert_eq!(wh as f64, kwh_in_wh.round());
            }
        }

        #[test]
        fn integers_come_back_within_one_step(value in -1_000_000_000i64..1_000_000_000, exponent in -2i32..3) {
            let words = Kind::I64.encode(value, exponent).unwrap();
            let Decoded::Value(back) = Kind::I64.decode(&words, exponent) else { return Err(TestCaseError::fail("absent")) };
            prop_assert!((0..10i64.pow(exponent.max(0).unsigned_abs())).contains(&(value - back)));
        }

        #[test]
        fn no_words_panic(words in prop::collection::vec(any::<u16>(), 4), exponent in -20i32..20) {
            for kind in [Kind::U16, Kind::I16, Kind::U32, Kind::I32, Kind::U64, Kind::I64, Kind::F32, Kind::Acc32] {
                let words = &words[..usize::from(kind.words())];
                kind.decode(words, exponent);
                kind.step(words, exponent);
            }
        }
    }
}
