//! How far a home's meter can be believed: findings of independent evidence, and the level that follows.
//!
//! A signature says who claims a reading, not that it is true: a household with root on its node can sign what it
//! likes. What binds it is what it does not control: the transformer's meter (the sum of all
//! homes), the sun (no roof gives more than the clear sky allows), its neighbours' voltages, and, weaker because it
//! stands in the same house, a second device. Each check ends in a [`Finding`]; [`assess`] makes of them one
//! [`MeterAssurance`] per home.
//!
//! Nothing is settled on any of this, so floating point is allowed here and only here in the meter layer; every
//! published figure is rounded to a whole number. Same evidence, same result: no clock, no I/O, no randomness.
//!
//! What no check can do is stated in `docs/assurance.md`: above all, a level is about readings, never about people.

mod inverter;
mod linear;
mod pv;
mod series;
mod statistics;
mod sun;
mod suspects;
mod transformer;
mod voltage;

use std::fmt;

use energy::{HomeId, Interval, NodeId};

pub use pv::Support;
pub use series::{MeterSeries, Registers};
pub use sun::{Place, PlaceError, clear_sky_fraction, elevation_deg};
pub use suspects::{Register, Suspicion};
pub use transformer::{LossModel, SumCheck, Watched};

/// Level 4 needs findings over at least this many days …
pub const LEVEL_4_DAYS: usize = 30;
/// … of whose boundaries at least this share, in percent, was read.
const LEVEL_4_COVERAGE_PERCENT: usize = 90;
/// … and that an error of this size in its registers, in ‰, would have shown in the transformer's sum: a sum too coarse to
/// show a quarter is no ground for the highest level.
pub const LEVEL_4_DETECTABLE_PERMILLE: u32 = 250;
/// The most days one assessment looks at; older evidence is left out. Bounds time and memory.
pub const WINDOW_DAYS_MAX: usize = 62;

/// What one kind of evidence says about one meter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Finding {
    /// There is nothing of this kind to check, e.g. no PV.
    NotApplicable,
    /// Not enough evidence for either word.
    #[default]
    Unknown,
    /// The evidence agrees with the readings.
    Consistent {
        /// Measured figure; its unit is that of the [`Check`].
        figure: i32,
    },
    /// The evidence cannot be had with true readings, whoever or whatever is at fault.
    Contradicts {
        /// Measured figure; its unit is that of the [`Check`].
        figure: i32,
    },
}

impl Finding {
    /// True for [`Finding::Consistent`].
    #[must_use]
    pub const fn is_consistent(self) -> bool {
        matches!(self, Self::Consistent { .. })
    }

    /// True for [`Finding::Contradicts`].
    #[must_use]
    pub const fn is_contradiction(self) -> bool {
        matches!(self, Self::Contradicts { .. })
    }
}

/// A kind of evidence, and the unit of its figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Figure: ‰ of the transformer's energy. Consistent: what all homes together leave over, losses included.
    /// Contradicts: what this home's readings alone explain of it.
    Transformer,
    /// Figure: ‰ of what the sun allows on the day that comes nearest to it; above 1000 what exceeded it.
    Pv,
    /// Figure: ‰, energy of the inverter over that of the PV meter.
    Inverter,
    /// Figure: correlation × 1000 of the voltage's movement with that of the neighbours.
    Voltage,
}

impl Check {
    /// `finding` as an English sentence without a full stop, for logs and the console.
    #[must_use]
    pub fn words(self, finding: Finding) -> Words {
        Words { check: self, finding }
    }
}

/// A finding that prints itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    check: Check,
    finding: Finding,
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Finding::{Consistent, Contradicts, NotApplicable, Unknown};
        match (self.check, self.finding) {
            (Check::Transformer, NotApplicable) => f.write_str("the community has no meter at its transformer"),
            (Check::Transformer, Unknown) => {
                f.write_str("too few intervals in which the transformer and every home were read, or a sum that does not fit")
            }
            (Check::Transformer, Consistent { figure }) => {
                write!(f, "the sum of the homes fits the transformer, which {figure} ‰ of its energy is lost from")
            }
            (Check::Transformer, Contradicts { figure }) => {
                write!(f, "this meter's readings explain {figure} ‰ of the transformer's energy that is missing from the sum")
            }
            (Check::Pv, NotApplicable) => f.write_str("no generation from the sun to check"),
            (Check::Pv, Unknown) => f.write_str("too little export, or too little known about it, to hold against the sun"),
            (Check::Pv, Consistent { figure }) => {
                write!(f, "exports stay within what the sun allows ({figure} ‰ of it on the best day)")
            }
            (Check::Pv, Contradicts { figure }) => {
                write!(f, "exports exceed what the sun allows ({figure} ‰ of it)")
            }
            (Check::Inverter, NotApplicable) => f.write_str("no inverter beside a meter of its own"),
            (Check::Inverter, Unknown) => f.write_str("too few days with generation to compare the inverter and its meter"),
            (Check::Inverter, Consistent { figure }) => {
                write!(f, "the inverter counted {figure} ‰ of what its meter counted, within 3 %")
            }
            (Check::Inverter, Contradicts { figure }) => {
                write!(f, "the inverter counted {figure} ‰ of what its meter counted, more than 3 % apart")
            }
            (Check::Voltage, NotApplicable) => f.write_str("the meter does not measure voltage"),
            (Check::Voltage, Unknown) => f.write_str("too few intervals shared with neighbours, or no clear answer"),
            (Check::Voltage, Consistent { figure }) => {
                write!(f, "its voltage moves with the neighbours' (correlation {figure} ‰)")
            }
            (Check::Voltage, Contradicts { figure }) => {
                write!(f, "its voltage does not move with the neighbours' (correlation {figure} ‰)")
            }
        }
    }
}

/// What can be said about one home's meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterAssurance {
    /// Whose meter.
    pub home: HomeId,
    /// 0 to 4, by the rule of [`level`].
    pub level: u8,
    /// Against the transformer's meter.
    pub transformer: Finding,
    /// Against the sun.
    pub pv: Finding,
    /// Inverter against PV meter.
    pub inverter: Finding,
    /// Against the neighbours' voltages.
    pub voltage: Finding,
}

impl MeterAssurance {
    /// The four findings with their kinds.
    #[must_use]
    pub const fn findings(&self) -> [(Check, Finding); 4] {
        [
            (Check::Transformer, self.transformer),
            (Check::Pv, self.pv),
            (Check::Inverter, self.inverter),
            (Check::Voltage, self.voltage),
        ]
    }
}

/// The assurance level that follows from findings.
///
/// 0: something contradicts, or the meter is not identified · 1: signed, chained readings of a meter identified by its
/// serial number · 2: and the transformer's sum is consistent · 3: and one more independent finding is · 4: and all that
/// apply are, over at least [`LEVEL_4_DAYS`] in which an error of [`LEVEL_4_DETECTABLE_PERMILLE`] would have shown (both:
/// `lasting`).
#[must_use]
pub fn level(identified: bool, transformer: Finding, others: [Finding; 3], lasting: bool) -> u8 {
    let contradicted =
        transformer.is_contradiction() || others.iter().any(|finding| finding.is_contradiction());
    if !identified || contradicted {
        return 0;
    }
    if !transformer.is_consistent() {
        return 1;
    }
    if !others.iter().any(|finding| finding.is_consistent()) {
        return 2;
    }
    let open = others.contains(&Finding::Unknown);
    if lasting && !open { 4 } else { 3 }
}

/// What a home says it generates with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PvDeclaration {
    /// Peak power of all modules in W.
    pub peak_w: u32,
    /// A battery that can export stands beside them.
    pub storage: bool,
}

/// Everything known about one home, on the window's grid of intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeEvidence {
    /// Which home.
    pub home: HomeId,
    /// Its readings are signed, chained and of a meter that says its own serial number (not one typed by somebody).
    pub identified: bool,
    /// The part of the network it says it hangs on: the node right below the transformer's busbar, or the busbar.
    pub feeder: NodeId,
    /// Its meter.
    pub meter: MeterSeries,
    /// Mean phase voltage of each interval in 0.1 V; shorter than the window or empty where it is not known.
    pub voltage_dv: Vec<Option<u16>>,
    /// The PV it declared (`None`: none), each from its place of the window on; ascending. What is declared later never
    /// applies to what was exported before.
    pub pv: Vec<(usize, Option<PvDeclaration>)>,
    /// One ratio a day: inverter's energy × 1000 / PV meter's energy; empty without the two devices.
    pub inverter_permille: Vec<u32>,
}

/// Everything known about a community over one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The window's first interval; every series begins at its end.
    pub from: Interval,
    /// How many intervals the window has; at most [`WINDOW_DAYS_MAX`] days are looked at, the first.
    pub intervals: usize,
    /// The meter at the transformer, if there is one.
    pub root: Option<MeterSeries>,
    /// What is lost between it and the homes.
    pub losses: LossModel,
    /// Where the community is; without it nothing can be held against the sun.
    pub place: Option<Place>,
    /// Its homes. The transformer's sum means something only if they are all that hangs below its meter.
    pub homes: Vec<HomeEvidence>,
}

impl Evidence {
    /// Intervals looked at.
    pub(crate) fn window(&self) -> usize {
        self.intervals.min(WINDOW_DAYS_MAX.saturating_mul(self.per_day()))
    }

    /// Intervals of 24 hours.
    pub(crate) fn per_day(&self) -> usize {
        // At most 288.
        usize::try_from(self.from.mtu().per_day()).unwrap_or(usize::MAX)
    }

    /// The interval at this place of the window.
    pub(crate) fn interval(&self, position: usize) -> Interval {
        Interval::from_index(self.from.index().saturating_add(position as u64), self.from.mtu())
    }

    /// UTC day of this place of the window, counted from 1970.
    pub(crate) fn day(&self, position: usize) -> u64 {
        self.interval(position).index() / u64::from(self.from.mtu().per_day())
    }

    /// Length of `intervals` intervals in hours.
    pub(crate) fn hours(&self, intervals: usize) -> f64 {
        intervals as f64 * f64::from(self.from.mtu().minutes()) / 60.0
    }

    fn is_lasting(&self, home: &HomeEvidence) -> bool {
        let needed = LEVEL_4_DAYS.saturating_mul(self.per_day());
        let read = home.meter.readings.iter().take(self.window()).flatten().count();
        self.window() >= needed && read * 100 >= self.window() * LEVEL_4_COVERAGE_PERCENT
    }
}

/// The outcome for a community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// One per home, in the order of the evidence.
    pub meters: Vec<MeterAssurance>,
    /// How the sum of the homes fits the transformer; `None` where there is too little to compare.
    pub sum: Option<SumCheck>,
    /// Which registers contradict the transformer, and since when: for the operator, not for publication.
    pub suspicions: Vec<Suspicion>,
    /// How small an error the transformer's sum would have shown, per home.
    pub watched: Vec<Watched>,
    /// On how many days exports looked like the neighbours', per home with PV.
    pub support: Vec<Support>,
}

/// Holds all evidence against the readings.
#[must_use]
pub fn assess(evidence: &Evidence) -> Assessment {
    let sum = transformer::check(evidence);
    let voltages = voltage::check(evidence);
    let meters = evidence.homes.iter().zip(&sum.findings).zip(&sum.watched).zip(voltages);
    let meters = meters.map(|(((home, &transformer), watched), voltage)| {
        let (pv, inverter) = (pv::check(evidence, home), inverter::check(&home.inverter_permille));
        let sharp = watched.detectable_permille.is_some_and(|it| it <= LEVEL_4_DETECTABLE_PERMILLE);
        let lasting = sharp && evidence.is_lasting(home);
        let level = level(home.identified, transformer, [pv, inverter, voltage], lasting);
        MeterAssurance { home: home.home.clone(), level, transformer, pv, inverter, voltage }
    });
    Assessment {
        meters: meters.collect(),
        sum: sum.sum,
        suspicions: sum.suspicions,
        watched: sum.watched,
        support: pv::support(evidence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Finding = Finding::Consistent { figure: 1 };
    const BAD: Finding = Finding::Contradicts { figure: 1 };
    const NONE: Finding = Finding::NotApplicable;
    const OPEN: Finding = Finding::Unknown;

    #[test]
    fn no_level_claims_more_than_the_findings_give() {
        assert_eq!(level(false, GOOD, [GOOD; 3], true), 0, "a typed serial number identifies nothing");
        assert_eq!(level(true, OPEN, [GOOD; 3], true), 1, "nothing replaces the transformer's sum");
        assert_eq!(level(true, NONE, [GOOD; 3], true), 1);
        assert_eq!(level(true, GOOD, [NONE, OPEN, OPEN], true), 2);
        assert_eq!(level(true, GOOD, [NONE; 3], true), 2, "no second finding, however long");
        assert_eq!(level(true, GOOD, [NONE, OPEN, GOOD], true), 3, "an open question is not an answer");
        assert_eq!(level(true, GOOD, [NONE, NONE, GOOD], false), 3, "not for 30 days yet");
        assert_eq!(level(true, GOOD, [NONE, NONE, GOOD], true), 4);
    }

    #[test]
    fn one_contradiction_outweighs_everything() {
        for place in 0..4 {
            let mut findings = [GOOD; 4];
            findings[place] = BAD;
            let [transformer, others @ ..] = findings;
            assert_eq!(level(true, transformer, others, true), 0, "{place}");
        }
    }

    #[test]
    fn every_finding_has_words_of_its_own() {
        let checks = [Check::Transformer, Check::Pv, Check::Inverter, Check::Voltage];
        let all =
            checks.iter().flat_map(|check| [NONE, OPEN, GOOD, BAD].map(|it| check.words(it).to_string()));
        let mut words: Vec<String> = all.collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 16);
        assert!(words.iter().all(|text| !text.ends_with('.')));
    }
}
