//! A home's exports against the sun.
//!
//! Only the export register is looked at, because that is what others can see: a home's whole generation beside its
//! exchange would give away its consumption. No module exports more than its peak power × what a clear sky lets
//! through × 1.25 (cold modules, light from the edges of clouds), and none anything while the sun is more than 2° below
//! the horizon. A battery moves energy in time, so with one only the sum of a day is bounded.
//!
//! The peak power is the home's own word, so this binds it to one word, said beforehand, until somebody counts its modules:
//! each day is judged by what was declared before it, and a day before the first word is not judged.

use energy::HomeId;

use super::series::Flow;
use super::statistics::{correlation, figure, median};
use super::sun::{Place, clear_sky_fraction, elevation_deg};
use super::{Evidence, Finding, HomeEvidence, PvDeclaration};

/// Above the rated power: cold modules, reflections, the bright edges of clouds.
const MARGIN: f64 = 1.25;
/// What a meter may count at night without anything generating, in W.
const DARK_SLACK_W: f64 = 5.0;
/// One day beyond the bound may be a clock or a day's change of meter; two are not.
const DAYS_BEYOND: usize = 2;
/// Fewer quanta exported in all say nothing.
const COUNTS_MIN: f64 = 10.0;
/// Exports look like a neighbour's from this correlation over a day on.
const ALIKE_FROM: f64 = 0.8;
/// Neighbours needed to compare with, and intervals in which either exported.
const NEIGHBOURS_MIN: usize = 2;
const ALIKE_INTERVALS_MIN: usize = 12;

/// How often a home's exports had the shape of its neighbours'. It supports the finding and never makes one: a washing
/// machine at noon changes the shape of an honest home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// Which home.
    pub home: HomeId,
    /// Days that could be compared.
    pub days: u32,
    /// Days with a correlation above 0.8 with the median of the others.
    pub alike: u32,
}

/// One finding about one home.
pub(super) fn check(evidence: &Evidence, home: &HomeEvidence) -> Finding {
    let window = evidence.window();
    let exported: f64 = home.meter.flows(window).map(|(_, _, flow)| flow.export).sum();
    let counts = exported / home.meter.quantum_wh();
    let declared: Vec<PvDeclaration> = home.pv.iter().filter_map(|(_, pv)| *pv).collect();
    match (declared.as_slice(), evidence.place) {
        ([], _) if counts < COUNTS_MIN => Finding::NotApplicable,
        // A battery alone: nothing comes from the sun.
        ([_, ..], _) if declared.iter().all(|pv| pv.peak_w == 0) => Finding::NotApplicable,
        ([_, ..], Some(place)) if counts >= COUNTS_MIN => against_sun(evidence, home, &place),
        // It exports and does not say from what, or it has not exported.
        _ => Finding::Unknown,
    }
}

/// What the home had declared when this place of the window came.
fn declared_at(home: &HomeEvidence, position: usize) -> Option<PvDeclaration> {
    home.pv.iter().rev().find(|(from, _)| *from <= position).and_then(|(_, pv)| *pv)
}

fn against_sun(evidence: &Evidence, home: &HomeEvidence, place: &Place) -> Finding {
    let days = days(evidence, home, place);
    let beyond: Vec<&Day> = days.iter().filter(|day| day.beyond > 0.0).collect();
    let largest = |days: &[&Day]| figure(days.iter().map(|day| day.permille()).fold(0.0, f64::max));
    let exported: f64 = days.iter().map(|day| day.exported).sum();
    let declares = home.pv.last().is_some_and(|(_, pv)| pv.is_some());
    match beyond.len() {
        count if count >= DAYS_BEYOND => Finding::Contradicts { figure: largest(&beyond) },
        // Of what was exported under a declaration, which still stands.
        0 if declares && exported >= COUNTS_MIN * home.meter.quantum_wh() => {
            Finding::Consistent { figure: largest(&days.iter().collect::<Vec<_>>()) }
        }
        _ => Finding::Unknown,
    }
}

/// One UTC day of one home's exports, Wh.
#[derive(Debug, Clone, Copy, Default)]
struct Day {
    day: u64,
    storage: bool,
    exported: f64,
    bound: f64,
    /// What exceeds the bound of its own time.
    beyond: f64,
}

impl Day {
    /// ‰ of the bound; what exceeds the bound at its own time counts as beyond the whole day's.
    fn permille(&self) -> f64 {
        let bound = self.bound.max(1.0);
        if self.beyond > 0.0 { (1.0 + self.beyond / bound) * 1000.0 } else { self.exported / bound * 1000.0 }
    }
}

/// Consecutive steps that are held against the bound together.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    day: u64,
    dark: bool,
    storage: bool,
    exported: f64,
    bound: f64,
}

fn days(evidence: &Evidence, home: &HomeEvidence, place: &Place) -> Vec<Day> {
    let quantum = home.meter.quantum_wh();
    let mut days: Vec<Day> = Vec::new();
    for run in runs(evidence, home, place) {
        if days.last().is_none_or(|day| day.day != run.day) {
            days.push(Day { day: run.day, storage: run.storage, ..Day::default() });
        }
        if let Some(day) = days.last_mut() {
            day.exported += run.exported;
            day.bound += run.bound;
            if !run.storage {
                day.beyond += (run.exported - run.bound - quantum).max(0.0);
            }
        }
    }
    for day in days.iter_mut().filter(|day| day.storage) {
        day.beyond = (day.exported - day.bound - quantum).max(0.0);
    }
    days
}

/// Each lit step alone, and all dark steps of a night (or of its part on one day) together: a coarse register ticks once
/// for what it gathered in many intervals, but not twice. A step that reaches into time without a declaration is left out.
fn runs(evidence: &Evidence, home: &HomeEvidence, place: &Place) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (from, to, Flow { export, .. }) in home.meter.flows(evidence.window()) {
        let bounds = (from + 1..=to)
            .map(|position| Some(bound_wh(evidence, place, position, declared_at(home, position)?.peak_w)));
        let Some((sun, pv)) = bounds.sum::<Option<f64>>().zip(declared_at(home, to)) else { continue };
        let (day, dark) = (evidence.day(to), sun <= 0.0);
        let bound = sun + DARK_SLACK_W * evidence.hours(to - from);
        match runs.last_mut().filter(|run| dark && run.dark && run.day == day) {
            Some(run) => {
                run.exported += export;
                run.bound += bound;
            }
            None => runs.push(Run { day, dark, storage: pv.storage, exported: export, bound }),
        }
    }
    runs
}

/// The most a home's modules export in the interval at this place, Wh: by the highest sun at its ends and its middle.
fn bound_wh(evidence: &Evidence, place: &Place, position: usize, peak_w: u32) -> f64 {
    let interval = evidence.interval(position);
    let half = interval.mtu().ms() / 2;
    let times = [interval.start(), interval.start().plus_ms(half), interval.end()];
    let highest = times.into_iter().map(|time| elevation_deg(place, time)).fold(-90.0, f64::max);
    f64::from(peak_w) * MARGIN * clear_sky_fraction(highest) * evidence.hours(1)
}

/// How alike the exports of homes with PV are, day by day.
pub(super) fn support(evidence: &Evidence) -> Vec<Support> {
    let exporters: Vec<(&HomeEvidence, Vec<Option<f64>>)> = evidence
        .homes
        .iter()
        .filter(|home| home.pv.iter().any(|(_, pv)| pv.is_some()))
        .map(|home| (home, exports(evidence, home)))
        .collect();
    let of_home = |(at, (home, own)): (usize, &(&HomeEvidence, Vec<Option<f64>>))| {
        let mut support = Support { home: home.home.clone(), days: 0, alike: 0 };
        let others: Vec<&[Option<f64>]> = exporters
            .iter()
            .enumerate()
            .filter(|(it, _)| *it != at)
            .map(|(_, (_, other))| other.as_slice())
            .collect();
        for start in (0..own.len()).step_by(evidence.per_day()) {
            let end = own.len().min(start + evidence.per_day());
            if let Some(r) = day_correlation(own, &others, start..end) {
                support.days += 1;
                support.alike += u32::from(r > ALIKE_FROM);
            }
        }
        support
    };
    exporters.iter().enumerate().map(of_home).collect()
}

/// Export of each interval, where both its ends were read.
fn exports(evidence: &Evidence, home: &HomeEvidence) -> Vec<Option<f64>> {
    let of = |position: usize| home.meter.flow(position.checked_sub(1)?, position).map(|flow| flow.export);
    (0..evidence.window()).map(of).collect()
}

fn day_correlation(
    own: &[Option<f64>],
    others: &[&[Option<f64>]],
    day: std::ops::Range<usize>,
) -> Option<f64> {
    let mut pairs = Vec::new();
    for position in day {
        let mut theirs: Vec<f64> =
            others.iter().filter_map(|other| other.get(position).copied().flatten()).collect();
        let own = own.get(position).copied().flatten();
        if let (Some(own), true) = (own, theirs.len() >= NEIGHBOURS_MIN) {
            pairs.extend(median(&mut theirs).map(|their| (own, their)));
        }
    }
    let lit = pairs.iter().filter(|(own, their)| own + their > 0.0).count();
    correlation(&pairs).filter(|_| lit >= ALIKE_INTERVALS_MIN)
}
