//! Numbers in registers, and powers, energies and levels in them.

use energy::WattHours;

use super::error::ModbusError;
use crate::config::control::{EnergyRegister, Form, LevelRegister, Place, PowerRegister, WordOrder};

/// No device counts more, Wh: a hundred homes for a hundred years.
const COUNTED_MAX_WH: i128 = 1 << 40;

/// The words of a number; `None` if it does not fit.
pub(super) fn encode(place: &Place, value: i64) -> Option<Vec<u16>> {
    match place.form {
        Form::U16 => u16::try_from(value).ok().map(|word| vec![word]),
        Form::I16 => i16::try_from(value).ok().map(|word| vec![word.cast_unsigned()]),
        Form::U32 => u32::try_from(value).ok().map(|value| halves(value, place.order)),
        Form::I32 => i32::try_from(value).ok().map(|value| halves(value.cast_unsigned(), place.order)),
    }
}

/// The number in these words; `None` if there are too few, or if they say that there is none: all ones, or the lowest number
/// that has a sign (`SunSpec` information model specification, "not implemented").
pub(super) fn decode(place: &Place, words: &[u16]) -> Option<i64> {
    let whole = |words: &[u16]| match (words, place.order) {
        ([high, low], WordOrder::HighFirst) | ([low, high], WordOrder::LowFirst) => {
            Some(u32::from(*high) << 16 | u32::from(*low))
        }
        _ => None,
    };
    match (place.form, words) {
        (Form::U16, [word]) => (*word != u16::MAX).then_some(i64::from(*word)),
        (Form::I16, [word]) => {
            let value = word.cast_signed();
            (value != i16::MIN).then_some(i64::from(value))
        }
        (Form::U32, words) => whole(words).filter(|value| *value != u32::MAX).map(i64::from),
        (Form::I32, words) => {
            whole(words).map(u32::cast_signed).filter(|value| *value != i32::MIN).map(i64::from)
        }
        _ => None,
    }
}

fn halves(value: u32, order: WordOrder) -> Vec<u16> {
    let [a, b, c, d] = value.to_be_bytes();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match order {
        WordOrder::HighFirst => vec![high, low],
        WordOrder::LowFirst => vec![low, high],
    }
}

/// 10 to this, at most 10^20: two scale factors of `SunSpec`.
pub(super) fn power_of_ten(exponent: u32) -> i128 {
    10_i128.pow(exponent.min(20))
}

/// What stands in the register for `watts` that the device takes (below zero: gives): never more than that, rounded to zero.
pub(super) fn set_point(register: &PowerRegister, watts: i64) -> Result<i64, ModbusError> {
    let (up, down) = scale(register.decimals);
    let exact = i128::from(watts) * up / (i128::from(register.watts_per_unit.max(1)) * down);
    let signed = if register.discharge_is_positive { -exact } else { exact };
    let too_small = register.least.is_some_and(|least| signed.abs() < i128::from(least));
    let value = if too_small { 0 } else { signed };
    let refused = |limit: String| {
        let register = register.place.register;
        ModbusError::BeyondRegister { watts, value, register, limit }
    };
    if let Some(most) = register.most
        && value.abs() > i128::from(most)
    {
        return Err(refused(format!("at most {most}")));
    }
    let fits = i64::try_from(value).ok().filter(|value| encode(&register.place, *value).is_some());
    fits.ok_or_else(|| refused(format!("numbers of {} bits", 16 * register.place.form.words())))
}

/// The energy that a counter stands for; `None`: no device counts so much, or less than nothing.
pub(super) fn counted(register: &EnergyRegister, value: i64) -> Option<WattHours> {
    let (up, down) = scale(register.decimals);
    let energy = i128::from(value) * i128::from(register.wh_per_unit) * down / up;
    let possible = (0..=COUNTED_MAX_WH).contains(&energy);
    possible.then(|| u64::try_from(energy).ok()).flatten().map(WattHours::new)
}

/// What a number is multiplied with, and what it is divided by.
fn scale(decimals: i8) -> (i128, i128) {
    let factor = power_of_ten(u32::from(decimals.unsigned_abs()));
    if decimals < 0 { (1, factor) } else { (factor, 1) }
}

/// How much of `store` a level stands for, floored; what is below or above it counts as empty or full.
pub(super) fn filled(register: &LevelRegister, value: i64, store: WattHours) -> WattHours {
    let span = i128::from(register.full - register.empty).max(1);
    let above = i128::from(value.clamp(register.empty, register.full) - register.empty);
    let stored = i128::from(store.get()) * above / span;
    WattHours::new(u64::try_from(stored).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(form: Form, order: WordOrder) -> Place {
        Place { register: 100, form, order, function: 16 }
    }

    fn amperes(decimals: i8) -> PowerRegister {
        PowerRegister {
            place: place(Form::U16, WordOrder::HighFirst),
            watts_per_unit: 690,
            decimals,
            discharge_is_positive: false,
            least: Some(6),
            most: Some(16),
        }
    }

    #[test]
    fn a_number_comes_back_in_either_order_of_words_and_absent_is_no_number() {
        use {Form::*, WordOrder::*};
        for (form, values) in [
            (U16, vec![0, 1, 65_534]),
            (I16, vec![-32_767, -1, 0, 32_767]),
            (U32, vec![0, 0x1_0002, 4_294_967_294]),
            (I32, vec![-2_147_483_647, -1, 70_000]),
        ] {
            for order in [HighFirst, LowFirst] {
                let place = place(form, order);
                for &value in &values {
                    assert_eq!(decode(&place, &encode(&place, value).unwrap()), Some(value));
                }
                assert_eq!(decode(&place, &[]), None);
            }
        }
        assert_eq!(encode(&place(I32, HighFirst), -2), Some(vec![0xFFFF, 0xFFFE]));
        assert_eq!(encode(&place(I32, LowFirst), -2), Some(vec![0xFFFE, 0xFFFF]));
        assert_eq!(encode(&place(U16, HighFirst), -1), None);
        assert_eq!(encode(&place(I16, HighFirst), 32_768), None);
        assert_eq!(decode(&place(U16, HighFirst), &[0xFFFF]), None);
        assert_eq!(decode(&place(I16, HighFirst), &[0x8000]), None);
        assert_eq!(decode(&place(U32, HighFirst), &[0xFFFF, 0xFFFF]), None);
        assert_eq!(decode(&place(I32, LowFirst), &[0, 0x8000]), None);
    }

    #[test]
    fn a_set_point_is_never_above_what_was_told() {
        let of = |decimals, watts| set_point(&amperes(decimals), watts).map_err(|error| error.to_string());
        assert_eq!(of(0, 11_040), Ok(16));
        assert_eq!(of(0, 11_039), Ok(15));
        assert_eq!(of(0, 4_140), Ok(6));
        assert_eq!(of(0, 4_139), Ok(0), "a charger cannot give less than 6 A");
        assert!(of(0, 12_000).unwrap_err().contains("at most 16"));
        let tenths = PowerRegister { least: None, most: None, ..amperes(1) };
        assert_eq!(set_point(&tenths, 7_590).unwrap(), 110);
        let watts = PowerRegister {
            place: place(Form::I16, WordOrder::HighFirst),
            watts_per_unit: 1,
            decimals: -1,
            discharge_is_positive: true,
            least: None,
            most: None,
        };
        assert_eq!(set_point(&watts, 2_559).unwrap(), -255, "tens of watts, charging is negative");
        assert_eq!(set_point(&watts, -2_559).unwrap(), 255);
        assert!(set_point(&watts, 400_000).unwrap_err().to_string().contains("16 bits"));
    }

    #[test]
    fn counters_and_levels_are_scaled_and_bounded() {
        let counter = |wh_per_unit, decimals| EnergyRegister {
            place: place(Form::U32, WordOrder::HighFirst),
            wh_per_unit,
            decimals,
        };
        assert_eq!(counted(&counter(1_000, 2), 12_345), Some(WattHours::new(123_450)));
        assert_eq!(counted(&counter(1, -1), 12), Some(WattHours::new(120)));
        assert_eq!(counted(&counter(1, 0), -1), None);
        assert_eq!(counted(&counter(1_000, -4), i64::MAX), None);
        let level = LevelRegister { place: place(Form::I16, WordOrder::HighFirst), empty: 450, full: 550 };
        let of = |value| filled(&level, value, WattHours::new(6_000)).get();
        assert_eq!([of(400), of(450), of(475), of(550), of(600)], [0, 0, 1_500, 6_000, 6_000]);
    }
}
