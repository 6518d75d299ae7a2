//! What a device of some profile would hold in its registers: the other direction of a profile, for simulated meters.

use std::collections::BTreeMap;

use energy::{MeterSerial, WattHours};

use crate::decode::Kind;
use crate::profile::{Discover, Function, LiveBlock, Profile, Register, Sign, Span};

/// Where the map of a discovered device begins.
const SUNSPEC_BASE: u16 = 40_000;
/// "SunS".
const SUNSPEC_MARKER: [u16; 2] = [0x5375, 0x6E53];
/// Header of the common model, which holds the serial number.
const COMMON_BASE: u16 = SUNSPEC_BASE + 2;
/// Registers of the common model after its header.
const COMMON_LENGTH: u16 = 66;
/// Header of the model that a discovered profile describes.
pub(crate) const MODEL_BASE: u16 = COMMON_BASE + 2 + COMMON_LENGTH;

/// What a device of some profile holds at one instant. Currents follow from power and voltages, equal on all phases.
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

/// The register table of one device at one instant, as its profile lays it out. A discovered profile has a whole
/// `SunSpec` map from register 40000: marker, common model, its own model, end.
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
        for (address, word) in (address..=u16::MAX).zip(words) {
            self.0.insert((function, address), *word);
        }
    }

    /// Puts what this kind of device sends for "no value" into the registers of `span` that hold nothing yet.
    fn fill(&mut self, span: Span, like: Option<&Register>) {
        let filler = match like {
            Some(it) if it.kind == Kind::F32 => it.kind.words_of(0x7FC0_0000, it.order),
            Some(it) if it.scale.is_some() => vec![0x8000],
            _ => vec![0xFFFF],
        };
        let addresses = (span.address..=u16::MAX).take(usize::from(span.count));
        for (address, word) in addresses.zip(filler.into_iter().cycle()) {
            self.0.entry((span.function, address)).or_insert(word);
        }
    }
}

impl Profile {
    /// The register table of a device that holds `registers`: energies floored to its step, scale factors as fine as
    /// the values allow, "no value" in every word of its blocks that the profile does not describe. Values that the
    /// profile has no register for are left out.
    ///
    /// # Errors
    /// [`EncodeError`] if a value has no form in these registers.
    pub fn encode(&self, registers: &Registers) -> Result<RegisterImage, EncodeError> {
        let misfit = |quantity| EncodeError { device: self.name().to_owned(), quantity };
        let mut image = RegisterImage::default();
        let (base, common) = match self.discover {
            None => (0, 0),
            Some(model) => {
                let fits = image.write_sunspec_frame(model, self.live.power.first());
                fits.ok_or_else(|| misfit("register map"))?;
                (MODEL_BASE, COMMON_BASE)
            }
        };
        if let Some(identity) = &self.identity {
            let serial = identity.encode(&registers.serial).ok_or_else(|| misfit("serial number"))?;
            let span = identity.span().counted_from(common).ok_or_else(|| misfit("serial number"))?;
            image.write(span.function, span.address, &serial);
        }
        let blocks = [
            (self.live.span, self.live.spare, self.live.values_of(registers)),
            (self.energy.span, self.energy.spare, self.energy_values(registers)),
        ];
        // One block may lie inside the other: first what has no value, then every value.
        for (span, spare, values) in &blocks {
            let span = Span { count: span.count + spare, ..*span };
            let span = span.counted_from(base).ok_or_else(|| misfit("register map"))?;
            image.fill(span, values.first().map(|(register, _)| *register));
        }
        for (span, _, values) in &blocks {
            let span = span.counted_from(base).ok_or_else(|| misfit("register map"))?;
            image.write_values(span, values).map_err(misfit)?;
        }
        Ok(image)
    }

    fn energy_values(&self, registers: &Registers) -> Vec<(&Register, i64)> {
        let wh = |energy: WattHours| i64::try_from(energy.get()).unwrap_or(i64::MAX);
        let import = self.energy.import.iter().map(|it| (it, wh(registers.import)));
        import.chain(self.energy.export.iter().map(|it| (it, wh(registers.export)))).collect()
    }
}

impl RegisterImage {
    /// `None` if the model would reach beyond the last register.
    fn write_sunspec_frame(&mut self, model: Discover, like: Option<&Register>) -> Option<()> {
        let end = MODEL_BASE.checked_add(2)?.checked_add(model.length)?;
        end.checked_add(1)?;
        let holding = Function::Holding;
        self.write(holding, SUNSPEC_BASE, &SUNSPEC_MARKER);
        self.write(holding, COMMON_BASE, &[1, COMMON_LENGTH]);
        self.write(holding, COMMON_BASE + 2, &[0; COMMON_LENGTH as usize]);
        self.fill(Span { function: holding, address: MODEL_BASE, count: model.length + 2 }, like);
        self.write(holding, MODEL_BASE, &[model.sunspec_model, model.length]);
        self.write(holding, end, &[0xFFFF, 0]);
        Some(())
    }

    /// Writes `values` where the block `span` has them; fails with the name of one that does not fit.
    fn write_values(&mut self, span: Span, values: &[(&Register, i64)]) -> Result<(), &'static str> {
        for (register, value) in values {
            let misfit = register.name;
            let address_of = |offset: usize| {
                u16::try_from(offset).ok().and_then(|offset| span.address.checked_add(offset)).ok_or(misfit)
            };
            let factor = scale_factor(register.scale, values).ok_or(misfit)?;
            let words = register.encode(*value, factor).ok_or(misfit)?;
            self.write(span.function, address_of(register.offset)?, &words);
            if let Some(scale) = register.scale {
                self.write(span.function, address_of(scale)?, &[factor.cast_unsigned()]);
            }
        }
        Ok(())
    }
}

/// The finest scale factor at which every value that shares the register `scale` fits; 0 where there is none.
fn scale_factor(scale: Option<usize>, values: &[(&Register, i64)]) -> Option<i16> {
    if scale.is_none() {
        return Some(0);
    }
    let sharing = || values.iter().filter(|(register, _)| register.scale == scale);
    // Finer than one base unit says nothing.
    let finest = sharing().map(|(register, _)| -register.exponent).max().unwrap_or(0);
    let mut factors = i16::try_from(finest).unwrap_or(0).max(-10)..=10;
    factors.find(|factor| sharing().all(|(register, value)| register.encode(*value, *factor).is_some()))
}

impl Register {
    /// The words of `value` base units at this scale factor; `None` if it does not fit.
    fn encode(&self, value: i64, factor: i16) -> Option<Vec<u16>> {
        let sent = match self.sign {
            Sign::AsSent | Sign::Dropped => value,
            Sign::Inverted => value.checked_neg()?,
        };
        let bits = self.kind.encode(sent, self.exponent + i32::from(factor))?;
        (self.absent != Some(bits)).then(|| self.kind.words_of(bits, self.order))
    }
}

impl LiveBlock {
    fn values_of(&self, registers: &Registers) -> Vec<(&Register, i64)> {
        let mut values = self.power_values(registers.power_w);
        for (register, millivolts) in self.voltage.iter().zip(registers.voltage_mv) {
            values.extend(register.iter().map(|it| (it, i64::from(millivolts))));
        }
        for (register, millivolts) in self.current.iter().zip(registers.voltage_mv) {
            values.extend(register.iter().map(|it| (it, self.current_ma(it, registers.power_w, millivolts))));
        }
        values.extend(self.frequency.iter().map(|it| (it, i64::from(registers.frequency_mhz))));
        values
    }

    /// Power over the registers that add up to it: import and export apart where some are inverted and some are not,
    /// else in equal parts with the remainder in the first.
    fn power_values(&self, power_w: i64) -> Vec<(&Register, i64)> {
        let inverted = |it: &&Register| it.sign == Sign::Inverted;
        let is_split =
            self.power.iter().any(|it| inverted(&it)) && !self.power.iter().all(|it| inverted(&it));
        let mut left = power_w;
        let mut values: Vec<(&Register, i64)> = Vec::new();
        let parts = i64::try_from(self.power.len()).unwrap_or(1).max(1);
        for register in self.power.iter().rev() {
            let is_last = values.len() + 1 == self.power.len();
            let part = match register.sign {
                Sign::Inverted if is_split => left.min(0),
                _ if is_split => left.max(0),
                _ if is_last => left,
                _ => power_w / parts,
            };
            left -= part;
            values.push((register, part));
        }
        values
    }

    /// Current of one phase when all carry the same power, mA. Registers that cannot be negative hold its magnitude.
    fn current_ma(&self, register: &Register, power_w: i64, millivolts: u32) -> i64 {
        let phases = i64::try_from(self.current.iter().flatten().count()).unwrap_or(1).max(1);
        // A dead phase carries nothing.
        let milliamperes =
            (power_w.saturating_mul(1_000_000) / phases).checked_div(i64::from(millivolts)).unwrap_or(0);
        if register.kind.is_signed() { milliamperes } else { milliamperes.saturating_abs() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;

    pub(crate) fn registers() -> Registers {
        Registers {
            serial: MeterSerial::new("21040123").unwrap(),
            import: WattHours::new(3_456_700),
            export: WattHours::new(1_200),
            power_w: -5_231,
            voltage_mv: [230_000, 231_000, 229_000],
            frequency_mhz: 50_000,
        }
    }

    /// The energy and the live block of a device that holds `registers`.
    pub(crate) fn blocks_of(profile: &Profile, registers: &Registers) -> (Vec<u16>, Vec<u16>) {
        let image = profile.encode(registers).unwrap();
        let base = if profile.discover.is_some() { MODEL_BASE } else { 0 };
        let read = |span: Span| image.read(span.function.code(), span.address + base, span.count).unwrap();
        (read(profile.energy.span), read(profile.live.span))
    }

    #[test]
    fn what_every_profile_encodes_it_decodes_within_one_quantum() {
        for (power_w, import) in [(-5_231, 3_456_789), (0, 0), (5_232, 99_999_999), (-20_000, 1), (20_001, 2)]
        {
            for profile in Profile::builtin() {
                let wanted = Registers { power_w, import: WattHours::new(import), ..registers() };
                let (energy, live) = blocks_of(profile, &wanted);
                let values = profile.energy.decode(&energy).unwrap();
                let quantum = values.quantum.get();
                for (register, got, wanted) in [
                    (&profile.energy.import, values.import, wanted.import),
                    (&profile.energy.export, values.export, wanted.export),
                ] {
                    assert_eq!(got.is_some(), register.is_some());
                    let off = got.map_or(0, |got| got.get().abs_diff(wanted.get()));
                    assert!(off < quantum.max(2), "{}: {got:?} for {wanted}", profile.name());
                }
                assert_live(profile, &live, &wanted);
            }
        }
    }

    fn assert_live(profile: &Profile, live: &[u16], wanted: &Registers) {
        let values = profile.live.decode(live).unwrap();
        assert!(values.power_w.abs_diff(wanted.power_w) <= 1, "{}: {} W", profile.name(), values.power_w);
        for (phase, register) in profile.live.voltage.iter().enumerate() {
            assert_eq!(values.voltage_mv[phase], register.as_ref().map(|_| wanted.voltage_mv[phase]));
        }
        let is_generating = wanted.power_w < 0;
        for (register, current) in profile.live.current.iter().zip(values.current_ma) {
            assert_eq!(register.is_some(), current.is_some(), "{}", profile.name());
            let is_signed = register.as_ref().is_some_and(|it| it.kind.is_signed());
            assert_eq!(current.is_some_and(|current| current < 0), is_signed && is_generating);
        }
        let frequency = profile.live.frequency.as_ref().map(|_| wanted.frequency_mhz);
        assert_eq!(values.frequency_mhz, frequency);
    }

    fn any_profile() -> impl Strategy<Value = Arc<Profile>> {
        prop::sample::select(Profile::builtin().to_vec())
    }

    proptest! {
        #[test]
        fn whatever_a_device_holds_comes_back_within_one_quantum(
            profile in any_profile(),
            import in 0u64..2_000_000_000,
            export in 0u64..2_000_000_000,
            power_w in -30_000i64..30_000,
            volts in 200u32..260,
        ) {
            let wanted = Registers {
                import: WattHours::new(import),
                export: WattHours::new(export),
                power_w,
                voltage_mv: [volts * 1_000; 3],
                ..registers()
            };
            let (energy, live) = blocks_of(&profile, &wanted);
            let values = profile.energy.decode(&energy).unwrap();
            for (got, wanted) in [(values.import, import), (values.export, export)] {
                let off = got.map_or(0, |got| got.get().abs_diff(wanted));
                prop_assert!(off <= values.quantum.get(), "{}: {got:?} for {wanted}", profile.name());
            }
            assert_live(&profile, &live, &wanted);
        }

        #[test]
        fn no_registers_of_a_device_make_the_decoder_panic(
            profile in any_profile(),
            words in prop::collection::vec(any::<u16>(), 0..=125),
        ) {
            if let Ok(values) = profile.energy.decode(&words) {
                prop_assert!(values.quantum >= profile.quantum());
            }
            if let Ok(values) = profile.live.decode(&words) {
                prop_assert!(values.power_w.unsigned_abs() <= profile.power_max_w());
            }
        }
    }

    #[test]
    fn a_discovered_device_serves_a_whole_map_with_its_serial_number_before_the_model() {
        let image = Profile::by_name("sunspec-203").unwrap().encode(&registers()).unwrap();
        assert_eq!(image.read(3, 40_000, 4), Some(vec![0x5375, 0x6E53, 1, 66]));
        assert_eq!(image.read(3, 40_052, 4), Some(vec![0x3231, 0x3034, 0x3031, 0x3233]), "21040123");
        assert_eq!(image.read(3, 40_070, 2), Some(vec![203, 105]));
        assert_eq!(image.read(3, 40_177, 2), Some(vec![0xFFFF, 0]));
        assert_eq!(image.read(3, 40_179, 1), None);
    }

    #[test]
    fn the_scale_factor_is_as_fine_as_all_values_that_share_it_allow() {
        let profile = Profile::by_name("sunspec-203").unwrap();
        for (power_w, factor) in [(5_231, 0_i16), (32_768, 1), (-327_670, 1), (-327_680, 2)] {
            let (_, live) = blocks_of(&profile, &Registers { power_w, ..registers() });
            let at = profile.live.power[0].scale.unwrap();
            // -32768 is the word for "no value".
            assert_eq!(live[at].cast_signed(), factor, "{power_w} W");
        }
    }

    #[test]
    fn what_has_no_register_form_is_refused_by_name() {
        let serial = MeterSerial::new("SIM-1").unwrap();
        let error = Profile::builtin()[0].encode(&Registers { serial, ..registers() }).unwrap_err();
        assert_eq!(error.to_string(), "eastron-sdm630 cannot hold this serial number in its registers");
    }
}
