//! What some makers' model registers say: it tells devices apart whose values lie at the same registers.
//!
//! Addresses are wire addresses. Sources: ABB and the EM24 Ethernet: github.com/victronenergy/dbus-modbus-client
//! fe12d8c9, abb.py and carlo_gavazzi.py; SDM120: github.com/volkszaehler/mbmd fb8f9c22, meters/rs485, and
//! github.com/nmakel/sdm_modbus fead3528.

use std::ops::RangeInclusive;

use crate::profile::{Function, Span};

/// A register whose value names models.
pub(super) struct ModelRegister {
    pub(super) span: Span,
    /// What it holds on these models, as one number.
    values: RangeInclusive<u32>,
    /// Names of the profiles for them.
    pub(super) profiles: &'static [&'static str],
    /// As people call it.
    pub(super) model: &'static str,
}

impl ModelRegister {
    /// True if `words` name these models.
    pub(super) fn names(&self, words: &[u16]) -> bool {
        let value = words.iter().fold(0u32, |value, word| value << 16 | u32::from(*word));
        self.values.contains(&value)
    }
}

const fn holding(address: u16, count: u16) -> Span {
    Span { function: Function::Holding, address, count }
}

/// Every register looked at.
pub(super) const MODEL_REGISTERS: [ModelRegister; 3] = [
    ModelRegister {
        span: holding(0x8960, 2),
        // "B21 " to "B24 ".
        values: 0x4232_3120..=0x4232_3420,
        profiles: &["abb-b23"],
        model: "ABB B21, B23 or B24",
    },
    ModelRegister {
        span: holding(0x000B, 1),
        values: 1648..=1653,
        profiles: &["carlo-gavazzi-em24-ethernet"],
        model: "Carlo Gavazzi EM24 Ethernet",
    },
    ModelRegister {
        span: holding(0xFC02, 1),
        values: 0x20..=0x20,
        profiles: &["eastron-sdm120"],
        model: "Eastron SDM120",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_register_names_profiles_that_exist() {
        let named = MODEL_REGISTERS.iter().flat_map(|register| register.profiles);
        assert!(named.clone().count() >= MODEL_REGISTERS.len());
        for name in named {
            assert!(crate::Profile::by_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_model_register_names_its_model_and_no_other() {
        let [abb, em24, sdm120] = &MODEL_REGISTERS;
        assert!(abb.names(&[0x4232, 0x3320]) && !abb.names(&[0x4133, 0x3320]) && !abb.names(&[0, 0]));
        assert!(em24.names(&[1650]) && !em24.names(&[1654]) && sdm120.names(&[0x20]));
    }
}
