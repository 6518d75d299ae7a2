//! Does a home's voltage move with that of its neighbours?
//!
//! Homes below one transformer share what the network above does to the voltage, and along a feeder what everybody's
//! load does. That is hard to invent without measuring it there. What is compared are means of whole intervals, not
//! minutes: a fifteenth of the data, and no appliance shows in it.
//!
//! **Movement, not level.** All voltages sag in the evening, so levels correlate between any two places (0.75 to 0.95
//! between the two recorded low-voltage grids this was tried on, against 0.96 to 1.0 within one feeder). Compared are the
//! changes from interval to interval, less what is usual at that time of day once there are days enough to know it
//! (−0.1 to 0.55 between the grids, 0.93 to 1.0 within).

use std::collections::BTreeMap;

use energy::NodeId;

use super::statistics::{correlation, figure, median};
use super::{Evidence, Finding, HomeEvidence};

/// Looked at: the last week of the window.
const DAYS: usize = 7;
/// Shared intervals needed for any word: a day of quarter-hours.
const SHARED_MIN: usize = 96;
/// A contradiction needs this share of the week's intervals, in percent.
const WEEK_PERCENT: usize = 80;
/// Neighbours needed: the median of fewer is one home's word.
const NEIGHBOURS_MIN: usize = 2;
/// From this correlation on, the home is where it says.
const CONSISTENT_FROM: f64 = 0.7;
/// Below it, it is not.
const CONTRADICTS_BELOW: f64 = 0.3;
/// Days needed to know what is usual at a time of day.
const USUAL_DAYS: usize = 4;

/// Change of voltage at each place of the week; `None` where either end is missing.
type Movement = Vec<Option<f64>>;

/// One finding per home.
pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let end = evidence.window();
    let start = end.saturating_sub(DAYS * evidence.per_day());
    let movements: Vec<Movement> =
        evidence.homes.iter().map(|home| movement(home, start, end, evidence.per_day())).collect();
    let groups = groups(&evidence.homes, &movements);
    let finding = |(at, home): (usize, &HomeEvidence)| {
        if home.voltage_dv.iter().all(Option::is_none) {
            return Finding::NotApplicable;
        }
        let mine = groups.get(&home.feeder).filter(|group| group.len() > NEIGHBOURS_MIN);
        // A feeder with too few of them: everybody below the transformer.
        let everybody: Vec<usize> = groups.values().flatten().copied().collect();
        let others: Vec<usize> =
            mine.unwrap_or(&everybody).iter().copied().filter(|&other| other != at).collect();
        compare(&movements, at, &others, DAYS * evidence.per_day())
    };
    evidence.homes.iter().enumerate().map(finding).collect()
}

/// The homes of each feeder whose voltage is known, by their places.
fn groups(homes: &[HomeEvidence], movements: &[Movement]) -> BTreeMap<NodeId, Vec<usize>> {
    let mut groups: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (at, home) in homes.iter().enumerate() {
        if movements[at].iter().flatten().count() >= SHARED_MIN / 2 {
            groups.entry(home.feeder.clone()).or_default().push(at);
        }
    }
    groups
}

fn movement(home: &HomeEvidence, start: usize, end: usize, per_day: usize) -> Movement {
    let at = |position: usize| home.voltage_dv.get(position).copied().flatten().map(f64::from);
    let changes: Movement =
        (start + 1..end).map(|position| Some(at(position)? - at(position - 1)?)).collect();
    if end - start < USUAL_DAYS * per_day {
        return changes;
    }
    let usual: Vec<f64> = (0..per_day).map(|time| usual_at(&changes, time, per_day)).collect();
    changes
        .iter()
        .zip(usual.iter().cycle())
        .map(|(change, usual)| change.map(|change| change - usual))
        .collect()
}

/// Mean change at this time of day.
fn usual_at(changes: &Movement, time: usize, per_day: usize) -> f64 {
    let known: Vec<f64> = changes.iter().skip(time).step_by(per_day).copied().flatten().collect();
    if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / known.len() as f64 }
}

fn compare(movements: &[Movement], at: usize, others: &[usize], week: usize) -> Finding {
    let mut pairs = Vec::new();
    for (position, own) in movements[at].iter().enumerate() {
        let mut theirs: Vec<f64> = others.iter().filter_map(|&other| movements[other][position]).collect();
        if let (Some(own), true) = (own, theirs.len() >= NEIGHBOURS_MIN) {
            pairs.extend(median(&mut theirs).map(|their| (*own, their)));
        }
    }
    // A day of intervals has one change fewer.
    if pairs.len() + 1 < SHARED_MIN {
        return Finding::Unknown;
    }
    let Some(correlation) = correlation(&pairs) else { return Finding::Unknown };
    let whole_week = pairs.len() * 100 >= week * WEEK_PERCENT;
    let figure = figure(correlation * 1000.0);
    match correlation {
        r if r >= CONSISTENT_FROM => Finding::Consistent { figure },
        r if r < CONTRADICTS_BELOW && whole_week => Finding::Contradicts { figure },
        _ => Finding::Unknown,
    }
}
