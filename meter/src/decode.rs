//! Register words to whole numbers and back, decoding without floating point.
//!
//! Every quantity is a whole number of its base unit: Wh, W, mV, mHz. A register says `raw × 10^exponent` base
//! units; what remains below one base unit is rounded half away from zero. Rounding a cumulative register is
//! monotone and differences telescope, so no error accumulates over intervals.

/// Which word of a value of several registers comes first. The bytes of a word are always big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordOrder {
    /// ABCD, as Modbus devices mostly send.
    HighFirst,
    /// CDAB: all words of the value in reverse.
    LowFirst,
}

impl WordOrder {
    /// `words` of one value in this order, high word first; and back again.
    pub(crate) fn high_first(self, words: &[u16]) -> Vec<u16> {
        match self {
            Self::HighFirst => words.to_vec(),
            Self::LowFirst => words.iter().rev().copied().collect(),
        }
    }

    /// `words` of one value in this order, as the bits of a number.
    pub(crate) fn bits(self, words: &[u16]) -> u64 {
        let joined = |bits: u64, word: &u16| bits << 16 | u64::from(*word);
        match self {
            Self::HighFirst => words.iter().fold(0, joined),
            Self::LowFirst => words.iter().rev().fold(0, joined),
        }
    }

    /// The other one.
    pub(crate) const fn flipped(self) -> Self {
        match self {
            Self::HighFirst => Self::LowFirst,
            Self::LowFirst => Self::HighFirst,
        }
    }
}

/// What the bits of one value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Every kind with its name in a profile.
    pub(crate) const NAMES: [(&'static str, Self); 8] = [
        ("u16", Self::U16),
        ("i16", Self::I16),
        ("u32", Self::U32),
        ("i32", Self::I32),
        ("u64", Self::U64),
        ("i64", Self::I64),
        ("f32", Self::F32),
        ("acc32", Self::Acc32),
    ];

    /// Registers taken.
    pub(crate) const fn words(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Acc32 => 2,
            Self::U64 | Self::I64 => 4,
        }
    }

    /// True for whole numbers that can be negative.
    pub(crate) const fn is_signed(self) -> bool {
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

    /// `bits`, no more than [`Kind::words`] hold, as base units.
    pub(crate) fn decode(self, bits: u64, exponent: i32) -> Decoded {
        if self == Self::F32 {
            return decode_f32(bits, exponent);
        }
        if self.absent() == Some(bits) {
            return Decoded::Absent;
        }
        let raw = if self.is_signed() { sign_extended(bits, self.words()) } else { i128::from(bits) };
        within_range(scaled(raw, 0, exponent))
    }

    /// True for a float that is not 0 and yet below 2^-40 of its unit: nothing measures that, so the words are in another
    /// order, or are no float.
    pub(crate) const fn is_dust(self, bits: u64) -> bool {
        const SMALLEST: u64 = (127 - 40) << 23;
        let magnitude = bits & 0x7FFF_FFFF;
        matches!(self, Self::F32) && magnitude != 0 && magnitude < SMALLEST
    }

    /// `value` base units as bits. Integers are floored to the register's step; `None` if they do not fit.
    pub(crate) fn encode(self, value: i64, exponent: i32) -> Option<u64> {
        if self == Self::F32 {
            Some(encode_f32(value, exponent))
        } else {
            self.encode_integer(value, exponent)
        }
    }

    /// The words that carry `bits`.
    pub(crate) fn words_of(self, bits: u64, order: WordOrder) -> Vec<u16> {
        let bytes = bits.to_be_bytes();
        let first = bytes.len() - usize::from(self.words()) * 2;
        let words: Vec<u16> =
            bytes[first..].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        order.high_first(&words)
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

    /// The smallest change of these bits, in whole base units (at least 1): for a float it grows with the value.
    pub(crate) fn step(self, bits: u64, exponent: i32) -> u64 {
        let two = if self == Self::F32 { f32_parts(bits).1 } else { 0 };
        let step = scaled_fraction(1, two, exponent).map(|(num, den)| num.div_ceil(den));
        step.and_then(|step| u64::try_from(step).ok()).unwrap_or(u64::MAX)
    }
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

    fn bits_of_f32(value: f32) -> u64 {
        u64::from(value.to_bits())
    }

    /// `words`, high word first, through `kind`.
    fn decoded(kind: Kind, words: &[u16], exponent: i32) -> Decoded {
        assert_eq!(words.len(), usize::from(kind.words()));
        kind.decode(WordOrder::HighFirst.bits(words), exponent)
    }

    #[test]
    fn a_float_register_below_4096_kwh_decodes_to_the_exact_watt_hour() {
        for wh in (0..4_096_000).step_by(7).chain(4_095_000..=4_096_000).chain(0..=2_000) {
            // The nearest single of the decimal, as another implementation would send it.
            let sent: f32 = format!("{}.{:03}", wh / 1000, wh % 1000).parse().unwrap();
            assert_eq!(Kind::F32.decode(bits_of_f32(sent), KWH), Decoded::Value(wh));
            assert_eq!(Kind::F32.encode(wh, KWH).unwrap(), bits_of_f32(sent), "{wh}");
        }
    }

    #[test]
    fn what_a_device_sends_for_no_value_is_absent_and_never_a_number() {
        for kind in [Kind::U16, Kind::I16, Kind::U32, Kind::I32, Kind::U64, Kind::I64, Kind::F32] {
            assert_eq!(kind.decode(kind.absent().unwrap(), 0), Decoded::Absent, "{kind:?}");
        }
        assert_eq!(Kind::F32.decode(bits_of_f32(-f32::NAN), KWH), Decoded::Absent);
        assert_eq!(decoded(Kind::F32, &[0x7F80, 0x0001], KWH), Decoded::Absent);
        assert_eq!(Kind::F32.decode(bits_of_f32(f32::INFINITY), KWH), Decoded::OutOfRange);
        assert_eq!(Kind::F32.decode(bits_of_f32(f32::MAX), KWH), Decoded::OutOfRange);
        assert_eq!(Kind::Acc32.decode(0, 0), Decoded::Value(0));
    }

    #[test]
    fn integers_of_every_width_and_sign_decode() {
        assert_eq!(decoded(Kind::U16, &[4998], 1), Decoded::Value(49_980));
        assert_eq!(decoded(Kind::I16, &[0xFFC7], 1), Decoded::Value(-570));
        assert_eq!(decoded(Kind::I32, &[0xFFFF, 0x218A], -2), Decoded::Value(-570));
        assert_eq!(decoded(Kind::U32, &[0x0012, 0xD687], 1), Decoded::Value(12_345_670));
        assert_eq!(decoded(Kind::U64, &[0, 0, 0x0012, 0xD687], 1), Decoded::Value(12_345_670));
        assert_eq!(decoded(Kind::I64, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFB], 0), Decoded::Value(-5));
        assert_eq!(decoded(Kind::U64, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], 1), Decoded::OutOfRange);
    }

    #[test]
    fn the_low_word_comes_first_where_the_profile_says_so() {
        assert_eq!(WordOrder::LowFirst.bits(&[0xD687, 0x0012]), 1_234_567);
        assert_eq!(WordOrder::LowFirst.bits(&[4, 3, 2, 1]), 0x0001_0002_0003_0004);
        assert_eq!(Kind::U32.words_of(1_234_567, WordOrder::LowFirst), [0xD687, 0x0012]);
        assert_eq!(Kind::U64.words_of(0x0001_0002_0003_0004, WordOrder::HighFirst), [1, 2, 3, 4]);
    }

    #[test]
    fn the_step_of_a_float_register_grows_with_its_value() {
        let step_at = |kwh: f32| Kind::F32.step(bits_of_f32(kwh), KWH);
        assert_eq!(
            [step_at(4_000.0), step_at(12_345.0), step_at(70_000.0), step_at(131_072.0)],
            [1, 1, 8, 16]
        );
        assert_eq!(Kind::U64.step(0, 1), 10);
        assert_eq!(Kind::Acc32.step(0, -2), 1);
    }

    #[test]
    fn a_float_that_nothing_measures_is_told_apart_from_0_and_from_a_small_one() {
        let is_dust = |value: f32| Kind::F32.is_dust(bits_of_f32(value));
        assert!(is_dust(f32::from_bits(1)) && is_dust(-1e-20) && is_dust(f32::from_bits(0x14EC_460B)));
        assert!(!is_dust(0.0) && !is_dust(-0.0) && !is_dust(0.000_001) && !is_dust(12_345.67));
        assert!(!Kind::U32.is_dust(1));
    }

    #[test]
    fn a_value_that_does_not_fit_is_not_encoded() {
        assert_eq!(Kind::U16.encode(-1, 0), None);
        assert_eq!(Kind::U16.encode(65_535, 0), None, "that is the word for absent");
        assert_eq!(Kind::I16.encode(-40_000, 0), None);
        assert_eq!(Kind::U64.encode(12_345_679, 1), Some(0x0012_D687), "floored to 10 Wh");
    }

    fn any_kind() -> impl Strategy<Value = Kind> {
        prop::sample::select(Kind::NAMES.map(|(_, kind)| kind).to_vec())
    }

    fn any_order() -> impl Strategy<Value = WordOrder> {
        prop::sample::select(vec![WordOrder::HighFirst, WordOrder::LowFirst])
    }

    proptest! {
        #[test]
        fn a_float_decodes_as_arithmetic_in_double_precision_says(bits: u32) {
            let value = f32::from_bits(bits);
            let kwh_in_wh = f64::from(value) * 1000.0;
            let decoded = Kind::F32.decode(u64::from(bits), KWH);
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
        fn what_any_kind_encodes_in_any_word_order_it_decodes_within_one_step(
            kind in any_kind(),
            order in any_order(),
            value in -10_000_000_000i64..10_000_000_000,
            exponent in -3i32..5,
        ) {
            if let Some(bits) = kind.encode(value, exponent) {
                let words = kind.words_of(bits, order);
                prop_assert_eq!(words.len(), usize::from(kind.words()));
                prop_assert_eq!(order.bits(&words), bits);
                let Decoded::Value(back) = kind.decode(bits, exponent) else { return Err(TestCaseError::fail("absent")) };
                // A float is the nearest, an integer the one below.
                prop_assert!(back.abs_diff(value) <= kind.step(bits, exponent), "{back} for {value}");
                prop_assert!(kind == Kind::F32 || (0..10i64.pow(exponent.max(0).unsigned_abs())).contains(&(value - back)));
            } else {
                let unsigned_and_negative = value < 0 && !kind.is_signed();
                prop_assert!(kind != Kind::F32 && (kind.words() < 4 || unsigned_and_negative));
            }
        }

        #[test]
        fn no_words_panic(
            words in prop::collection::vec(any::<u16>(), 4),
            kind in any_kind(),
            order in any_order(),
            exponent in -40i32..40,
        ) {
            let bits = order.bits(&words[..usize::from(kind.words())]);
            kind.decode(bits, exponent);
            kind.step(bits, exponent);
            kind.encode(i64::from_ne_bytes(bits.to_ne_bytes()), exponent);
        }
    }
}
