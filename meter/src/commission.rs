//! The kettle check: a load of known size is switched on, and the meter must see it as import.
//!
//! A register map says what a value should mean; only a known flow of energy shows that it does. Signs and mappings that
//! were wrong for months are the most repeated defect of meter software (among others evcc-io/evcc pull request 33432).

use std::fmt;
use std::ops::RangeInclusive;

/// Samples in a row that must agree before a change counts: a fridge that starts is not the kettle.
const SUSTAINED: usize = 3;
/// Part of the least draw, in percent, that counts as nothing at all.
const NOTHING_PERCENT: u32 = 10;
/// Samples needed before the switch and after it.
pub const SAMPLES_MIN: usize = 5;

/// What is switched on, in W.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kettle {
    low_w: u32,
    high_w: u32,
}

impl Default for Kettle {
    /// An electric kettle: 1.5 to 2.5 kW.
    fn default() -> Self {
        Self { low_w: 1_500, high_w: 2_500 }
    }
}

/// How the check ended. Its text says what is wrong, why most likely, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Import rose by what the kettle draws.
    Passed {
        /// Rise of import, W.
        rose_w: u32,
    },
    /// Import fell by what the kettle draws.
    Swapped {
        /// Fall of import, W.
        fell_w: u32,
    },
    /// Power rose as it should, and the export register counted it.
    RegistersSwapped {
        /// What the import register rose by, Wh.
        import_wh: u64,
        /// What the export register rose by, Wh.
        export_wh: u64,
    },
    /// The meter answers and its values move, but not with the kettle.
    AnotherCircuit {
        /// The largest change that lasted, W.
        changed_w: i64,
    },
    /// Not one value moved, not even a voltage.
    Frozen,
    /// A third of what the kettle draws.
    Third {
        /// The change, W.
        changed_w: i64,
    },
    /// Ten, a hundred or a thousand times more or less than the kettle draws.
    WrongScale {
        /// The change, W.
        changed_w: i64,
        /// The power of ten it is too large (positive) or too small (negative) by.
        ten: i32,
    },
    /// A change that fits nothing above.
    OtherSize {
        /// The change, W.
        changed_w: i64,
        /// Least draw expected, W.
        low_w: u32,
        /// Greatest draw expected, W.
        high_w: u32,
    },
    /// The house itself moves too much to see a kettle.
    Unsteady {
        /// Difference between the greatest and the least power before the switch, W.
        spread_w: u64,
    },
    /// Fewer than [`SAMPLES_MIN`] good samples before or after the switch.
    TooFew {
        /// Samples before.
        before: usize,
        /// Samples after.
        after: usize,
    },
}

impl Kettle {
    /// A load of `watts` by its nameplate: mains voltage and the nameplate together leave a quarter either way.
    #[must_use]
    pub const fn of_watts(watts: u32) -> Self {
        Self { low_w: watts / 4 * 3, high_w: watts.saturating_add(watts / 4) }
    }

    /// The draw that is expected, W.
    #[must_use]
    pub const fn range_w(&self) -> RangeInclusive<u32> {
        self.low_w..=self.high_w
    }

    /// Judges power in W (positive is import) before and after the switch. `moved` tells whether any value of the meter
    /// (power, a voltage, frequency) ever differed from the first sample.
    #[must_use]
    pub fn judge(&self, before: &[i64], after: &[i64], moved: bool) -> Verdict {
        if before.len() < SAMPLES_MIN || after.len() < SAMPLES_MIN {
            return Verdict::TooFew { before: before.len(), after: after.len() };
        }
        if !moved {
            return Verdict::Frozen;
        }
        let spread_w = spread(before);
        if spread_w > u64::from(self.low_w / 2) {
            return Verdict::Unsteady { spread_w };
        }
        self.of_change(sustained_change(median(before), after))
    }

    /// Judges what both registers rose by while `kettle_wh` were drawn, after power was [passed](Verdict::Passed).
    /// `None` if it is too little to tell, or as it should be.
    #[must_use]
    pub fn judge_registers(
        &self,
        import_wh: u64,
        export_wh: u64,
        kettle_wh: u64,
        quantum_wh: u64,
    ) -> Option<Verdict> {
        let tellable = kettle_wh >= quantum_wh.saturating_mul(3);
        let swapped = export_wh >= quantum_wh.saturating_mul(2) && import_wh <= quantum_wh;
        (tellable && swapped).then_some(Verdict::RegistersSwapped { import_wh, export_wh })
    }

    fn of_change(&self, changed_w: i64) -> Verdict {
        let size = u32::try_from(changed_w.unsigned_abs()).unwrap_or(u32::MAX);
        if self.range_w().contains(&size) {
            return match changed_w {
                ..0 => Verdict::Swapped { fell_w: size },
                _ => Verdict::Passed { rose_w: size },
            };
        }
        if size < self.low_w / 100 * NOTHING_PERCENT {
            return Verdict::AnotherCircuit { changed_w };
        }
        if (self.low_w / 3..=self.high_w / 3).contains(&size) {
            return Verdict::Third { changed_w };
        }
        match self.scale_of(size) {
            Some(ten) => Verdict::WrongScale { changed_w, ten },
            None => Verdict::OtherSize { changed_w, low_w: self.low_w, high_w: self.high_w },
        }
    }

    /// The power of ten that `size` is wrong by, if it is one.
    fn scale_of(&self, size: u32) -> Option<i32> {
        let (size, low, high) = (u64::from(size), u64::from(self.low_w), u64::from(self.high_w));
        [(1, 10), (2, 100), (3, 1_000)].into_iter().find_map(|(ten, factor)| {
            let too_large = (low * factor..=high * factor).contains(&size);
            let too_small = (low..=high).contains(&(size * factor));
            if too_large { Some(ten) } else { too_small.then_some(-ten) }
        })
    }
}

/// The middle of `powers`, which are not empty.
fn median(powers: &[i64]) -> i64 {
    let mut sorted = powers.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// Greatest less least, without the tenth of the samples at either end.
fn spread(powers: &[i64]) -> u64 {
    let mut sorted = powers.to_vec();
    sorted.sort_unstable();
    let cut = sorted.len() / 10;
    match (sorted.get(cut), sorted.get(sorted.len() - 1 - cut)) {
        (Some(least), Some(greatest)) => greatest.abs_diff(*least),
        _ => 0,
    }
}

/// The largest change against `base` that lasted: a battery may even it out again after some seconds, so it need not
/// last to the end.
fn sustained_change(base: i64, after: &[i64]) -> i64 {
    let changes = after.windows(SUSTAINED).map(|window| median(window).saturating_sub(base));
    changes.max_by_key(|change| change.unsigned_abs()).unwrap_or(0)
}

impl Verdict {
    /// True if the meter sees the kettle as import.
    #[must_use]
    pub const fn passed(&self) -> bool {
        matches!(self, Self::Passed { .. })
    }

    /// One word for programs.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed { .. } => "passed",
            Self::Swapped { .. } => "swapped",
            Self::RegistersSwapped { .. } => "registers_swapped",
            Self::AnotherCircuit { .. } => "another_circuit",
            Self::Frozen => "frozen",
            Self::Third { .. } => "third",
            Self::WrongScale { .. } => "wrong_scale",
            Self::OtherSize { .. } => "other_size",
            Self::Unsteady { .. } => "unsteady",
            Self::TooFew { .. } => "too_few",
        }
    }
}

/// `rose by 650 W` or `fell by 650 W`.
fn moved_by(changed_w: i64) -> String {
    let way = if changed_w < 0 { "fell" } else { "rose" };
    format!("{way} by {} W", changed_w.unsigned_abs())
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Passed { rose_w } => {
                write!(f, "import rose by {rose_w} W with the kettle: the meter is connected the right way round")
            }
            Self::Swapped { fell_w } => write!(
                f,
                "import fell by {fell_w} W when the kettle was switched on: the sign is swapped; either the current \
                 transformers or the meter's in and out face the wrong way (turn them, or set the direction in the \
                 meter's menu), or this device counts export as positive (then use a profile with `invert = true` at \
                 its power)"
            ),
            Self::RegistersSwapped { import_wh, export_wh } => write!(
                f,
                "power rose with the kettle, but the export register counted it ({export_wh} Wh, import {import_wh} \
                 Wh): the profile has import and export exchanged; choose another profile, or exchange the two \
                 addresses in a profile of your own"
            ),
            Self::AnotherCircuit { changed_w } => write!(
                f,
                "the kettle changed nothing (power {}): the meter measures another circuit, or a battery evens the \
                 kettle out; check the unit id, switch a battery off, and use a socket behind this meter",
                moved_by(changed_w)
            ),
            Self::Frozen => f.write_str(
                "not one value moved, not even a voltage: the meter or its gateway is frozen and repeats old values; \
                 restart the gateway or the meter, then check again",
            ),
            Self::Third { changed_w } => write!(
                f,
                "power {}, a third of the kettle: a phase is not measured, or the value is the mean of three phases; \
                 check that every current transformer and every phase is connected, and that the meter's menu says \
                 3 phases 4 wires",
                moved_by(changed_w)
            ),
            Self::WrongScale { changed_w, ten } => write!(
                f,
                "power {}, {} times too {}: the scale is wrong; check the ratio of the current transformers in the \
                 meter's menu and that the profile is for this model",
                moved_by(changed_w),
                10u32.pow(ten.unsigned_abs()),
                if ten > 0 { "large" } else { "small" }
            ),
            Self::OtherSize { changed_w, low_w, high_w } => write!(
                f,
                "power {} instead of rising by {low_w} to {high_w} W: something else was switched too, or the ratio \
                 of the current transformers is wrong; repeat with nothing else running, and say what the kettle's \
                 label says with --watts",
                moved_by(changed_w)
            ),
            Self::Unsteady { spread_w } => write!(
                f,
                "power moved by {spread_w} W before the kettle was switched on: too much to see it; switch large \
                 appliances off, wait for steady sun, and repeat"
            ),
            Self::TooFew { before, after } => write!(
                f,
                "only {before} good samples before and {after} after the switch; {SAMPLES_MIN} are needed each: run \
                 `commonwatt meter test` to see why reads fail"
            ),
        }
    }
}

/// What a display may be off by: most show whole kWh, and it is read some seconds later, Wh.
const DISPLAY_WH: u64 = 1_000;

/// How the registers compare with what a person read from the display. In law the display is the measurement, the
/// register is evidence of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisplayVerdict {
    /// The same, as far as the display shows it.
    Agrees,
    /// Import shows what the export register says and the other way round.
    Exchanged,
    /// Another figure.
    Differs {
        /// `import` or `export`.
        register: &'static str,
        /// What the display shows, Wh.
        display_wh: u64,
        /// What the register says, Wh.
        register_wh: u64,
    },
}

impl DisplayVerdict {
    /// Compares what the display shows with the registers, in Wh, for those of (import, export) that are known on both
    /// sides; `None` if there is none.
    #[must_use]
    pub fn of(display: [Option<u64>; 2], registers: [Option<u64>; 2], quantum_wh: u64) -> Option<Self> {
        let allowed = DISPLAY_WH.max(quantum_wh.saturating_mul(2));
        let [import, export] = registers;
        let near = |shown: Option<u64>, register: Option<u64>| match (shown, register) {
            (Some(shown), Some(register)) => Some(shown.abs_diff(register) <= allowed),
            _ => None,
        };
        let straight = [near(display[0], import), near(display[1], export)];
        if straight == [None, None] {
            return None;
        }
        let Some(wrong) = straight.iter().position(|near| *near == Some(false)) else {
            return Some(Self::Agrees);
        };
        let crossed = [near(display[0], export), near(display[1], import)];
        if crossed.contains(&Some(true)) && !crossed.contains(&Some(false)) {
            return Some(Self::Exchanged);
        }
        let (register, display_wh, register_wh) = match wrong {
            0 => ("import", display[0], import),
            _ => ("export", display[1], export),
        };
        Some(Self::Differs { register, display_wh: display_wh?, register_wh: register_wh? })
    }
}

impl fmt::Display for DisplayVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agrees => f.write_str("the registers agree with the display"),
            Self::Exchanged => f.write_str(
                "the display shows as import what the export register says: the profile has the two exchanged; choose \
                 another profile, or exchange the addresses in a profile of your own",
            ),
            Self::Differs { register, display_wh, register_wh } => write!(
                f,
                "the display shows {register} {} kWh and the register says {} kWh: the profile reads another register \
                 (a tariff, a phase) or its scale is wrong; check the profile and the ratio of the current transformers",
                kwh(*display_wh),
                kwh(*register_wh)
            ),
        }
    }
}

fn kwh(wh: u64) -> String {
    format!("{}.{:03}", wh / 1000, wh % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: [i64; 6] = [310, 309, 310, 311, 310, 310];

    /// Power after the kettle added `change`.
    fn after(change: i64) -> Vec<i64> {
        BASE.iter().map(|power| power + change).collect()
    }

    fn judged(change: i64) -> Verdict {
        Kettle::default().judge(&BASE, &after(change), true)
    }

    #[test]
    fn a_rise_of_what_a_kettle_draws_passes() {
        assert_eq!(judged(1_980), Verdict::Passed { rose_w: 1_980 });
        assert!(judged(1_500).passed() && judged(2_500).passed());
        assert!(!judged(1_400).passed() && !judged(2_600).passed());
    }

    #[test]
    fn a_fall_by_as_much_is_a_swapped_sign_and_the_text_says_what_to_turn() {
        let verdict = judged(-2_010);
        assert_eq!(verdict, Verdict::Swapped { fell_w: 2_010 });
        let text = verdict.to_string();
        for part in
            ["import fell by 2010 W", "the sign is swapped", "current transformers", "`invert = true`"]
        {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn nothing_is_another_circuit_unless_not_even_a_voltage_moved() {
        assert_eq!(judged(12), Verdict::AnotherCircuit { changed_w: 12 });
        assert!(judged(-20).to_string().contains("measures another circuit"));
        let frozen = Kettle::default().judge(&[300; 6], &[300; 6], false);
        assert_eq!(frozen, Verdict::Frozen);
        assert!(frozen.to_string().contains("restart the gateway or the meter"));
    }

    #[test]
    fn a_third_is_a_phase_that_is_not_measured() {
        assert_eq!(judged(660), Verdict::Third { changed_w: 660 });
        assert!(
            judged(-660)
                .to_string()
                .contains("fell by 660 W, a third of the kettle: a phase is not measured")
        );
    }

    #[test]
    fn a_power_of_ten_is_a_wrong_scale() {
        assert_eq!(judged(20_100), Verdict::WrongScale { changed_w: 20_100, ten: 1 });
        assert_eq!(judged(200), Verdict::WrongScale { changed_w: 200, ten: -1 });
        assert!(judged(-2_000_000).to_string().contains("1000 times too large"));
        assert!(matches!(judged(1_100), Verdict::OtherSize { changed_w: 1_100, .. }));
    }

    #[test]
    fn a_restless_house_and_too_few_samples_are_no_verdict_on_the_meter() {
        let restless = [300, 2_200, 310, 2_300, 305, 2_250];
        assert!(matches!(Kettle::default().judge(&restless, &after(2_000), true), Verdict::Unsteady { .. }));
        let few = Kettle::default().judge(&BASE[..4], &after(2_000), true);
        assert_eq!(few, Verdict::TooFew { before: 4, after: 6 });
    }

    #[test]
    fn a_kettle_that_a_battery_evens_out_after_a_while_is_still_seen() {
        let evened: Vec<i64> = [2_310, 2_300, 2_305, 1_500, 700, 310, 305, 300, 310].to_vec();
        assert!(Kettle::default().judge(&BASE, &evened, true).passed());
        let blip = [310, 2_300, 312, 305, 300, 310];
        assert!(!Kettle::default().judge(&BASE, &blip, true).passed(), "one sample is no kettle");
    }

    #[test]
    fn export_falling_is_import_rising() {
        let sunny: Vec<i64> = BASE.iter().map(|power| power - 3_000).collect();
        let with_kettle: Vec<i64> = sunny.iter().map(|power| power + 2_000).collect();
        assert_eq!(Kettle::default().judge(&sunny, &with_kettle, true), Verdict::Passed { rose_w: 2_000 });
    }

    #[test]
    fn registers_that_count_the_wrong_way_are_noticed_once_there_is_enough_to_tell() {
        let kettle = Kettle::default();
        let swapped = kettle.judge_registers(0, 33, 33, 1);
        assert_eq!(swapped, Some(Verdict::RegistersSwapped { import_wh: 0, export_wh: 33 }));
        assert_eq!(kettle.judge_registers(33, 0, 33, 1), None);
        assert_eq!(kettle.judge_registers(0, 100, 33, 100), None, "less than a step of the counter");
    }

    #[test]
    fn a_display_agrees_or_the_text_says_which_register_does_not() {
        let of = |display, registers| DisplayVerdict::of(display, registers, 10);
        let registers = [Some(12_345_670), Some(8_901_230)];
        assert_eq!(of([Some(12_345_000), Some(8_901_000)], registers), Some(DisplayVerdict::Agrees));
        assert_eq!(of([Some(12_346_000), None], registers), Some(DisplayVerdict::Agrees));
        assert_eq!(of([None, None], registers), None);
        assert_eq!(of([Some(1), None], [None, Some(1)]), None);
        assert_eq!(of([Some(8_901_000), Some(12_345_000)], registers), Some(DisplayVerdict::Exchanged));
        let differs = of([Some(1_234_000), Some(8_901_000)], registers).unwrap();
        assert!(
            differs
                .to_string()
                .contains("the display shows import 1234.000 kWh and the register says 12345.670")
        );
    }

    #[test]
    fn a_nameplate_sets_the_range() {
        assert_eq!(Kettle::of_watts(2_000).range_w(), 1_500..=2_500);
        assert_eq!(Kettle::of_watts(1_000).range_w(), 750..=1_250);
    }

    proptest! {
        #[test]
        fn no_powers_panic(
            before in prop::collection::vec(any::<i64>(), 0..12),
            after in prop::collection::vec(any::<i64>(), 0..12),
            watts: u32,
            moved: bool,
        ) {
            let verdict = Kettle::of_watts(watts).judge(&before, &after, moved);
            prop_assert!(!verdict.to_string().is_empty() && !verdict.word().is_empty());
        }
    }
}
