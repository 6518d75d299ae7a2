//! The transformer's meter against the sum of all homes.
//!
//! Between two boundaries at which every meter was read, what flows through the transformer is what the homes take less
//! what they give, and losses. Two questions: does the sum fit, within what meters and losses may do ([`check`]), and
//! does what it leaves over rise and fall with the registers of one home ([`suspects`](super::suspects))?
//!
//! A step lasts from one such boundary to the next, so a missed reading makes a longer step instead of a hole. Where a
//! register is coarser than 10 Wh, steps last an hour at least: its rounding does not grow with time, energy does.
//!
//! A step exists only where every meter is exact. A home that is honest for a while and then gives estimates only would
//! keep everybody's old word alive, so a good word is said only while the steps reach into the present ([`Present`]), and
//! of a home only while its own boundaries do.

use std::ops::Range;

use energy::HomeId;

use super::series::{Flow, MeterSeries};
use super::statistics::figure;
use super::suspects::{self, Suspicion, Verdict};
use super::{Evidence, Finding, HomeEvidence};

/// Steps needed for any word: half a day of quarter-hours, or two days of hours.
const STEPS_MIN: usize = 48;
/// Registers coarser than this, in Wh, are looked at over an hour at least.
const COARSE_WH: f64 = 10.0;
/// What a meter of accuracy class 1 may err by (IEC 62053-21), also class B of EN 50470-3.
const METER_CLASS: f64 = 0.01;
/// The sum fits if it does in this share of the time that the steps last, in percent.
const FITTING_PERCENT: usize = 95;
/// A good word needs this share of the window's last day, in percent …
const LAST_DAY_PERCENT: usize = 75;
/// … and this share of all the time since the first step, in percent.
const SINCE_PERCENT: usize = 50;
/// More registers named than one for so many homes, and it is not the homes that are wrong.
const NAMED_SHARE: usize = 4;

/// What is lost between the transformer's meter and the homes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossModel {
    /// Lost whatever flows, in W: the transformer's no-load losses if its meter is on the medium-voltage side, else 0.
    pub fixed_w: f64,
    /// At least this part of the net flow, in ‰.
    pub least_permille: f64,
    /// At most this part of all that the homes take and give, in ‰.
    pub most_permille: f64,
}

impl Default for LossModel {
    /// No fixed losses, 1 to 4 % of the flow: what low-voltage networks lose.
    fn default() -> Self {
        Self { fixed_w: 0.0, least_permille: 10.0, most_permille: 40.0 }
    }
}

/// How small an error the transformer's sum would have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Of which home's registers.
    pub home: HomeId,
    /// An error of this size in either register, ‰ of what it counted, would have been named within the window. `None`:
    /// none would, because the home moves with others or too little for the coarseness of the meters.
    pub detectable_permille: Option<u32>,
}

/// One stretch of time between two boundaries at which every meter was read.
#[derive(Debug)]
pub(super) struct Step {
    /// Place of its first boundary in the window.
    pub from: usize,
    /// Place of its last one.
    pub to: usize,
    /// UTC day of its end.
    pub day: u64,
    /// Its length.
    pub hours: f64,
    /// Through the transformer.
    pub root: Flow,
    /// Of each home, in the order of the evidence.
    pub homes: Vec<Flow>,
}

impl Step {
    /// What the homes take together less what they give, Wh.
    pub fn sum(&self) -> f64 {
        self.homes.iter().map(|flow| flow.net()).sum()
    }

    /// What the homes do not account for, losses included, Wh.
    pub fn residual(&self) -> f64 {
        self.root.net() - self.sum()
    }
}

/// How the sum of all homes fits the transformer over the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumCheck {
    /// Stretches of time that could be compared.
    pub steps: u32,
    /// In how many ‰ of the time they last the sum fits, once what named registers explain is taken away.
    pub fitting_permille: u32,
}

/// What the transformer says about every home.
pub(super) struct Outcome {
    /// One per home, in the order of the evidence.
    pub findings: Vec<Finding>,
    pub sum: Option<SumCheck>,
    pub suspicions: Vec<Suspicion>,
    pub watched: Vec<Watched>,
}

/// Holds all homes together, and then each, against the transformer.
///
/// A home is named only if what it explains makes the sum fit again, and only if few are: where something below the
/// transformer has no meter, or the transformer's own is wrong, the fit puts it down to whoever resembles it.
pub(super) fn check(evidence: &Evidence) -> Outcome {
    let Some(root) = &evidence.root else { return nothing(evidence, Finding::NotApplicable) };
    let steps = steps(evidence, root);
    if steps.len() < STEPS_MIN {
        return nothing(evidence, Finding::Unknown);
    }
    let verdicts = suspects::verdicts(evidence, root, &steps);
    let watched = suspects::watched(evidence, &verdicts);
    let named: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.since.is_some()).collect();
    let residuals: Vec<f64> = steps.iter().map(|step| step.residual() - explained(&named, step)).collect();
    let lasting =
        |steps: &mut dyn Iterator<Item = &Step>| steps.map(|step| step.to - step.from).sum::<usize>();
    let fitting = steps.iter().zip(&residuals).filter(|(step, rest)| fits(evidence, root, step, **rest));
    let (fitting, all) = (lasting(&mut fitting.map(|(step, _)| step)), lasting(&mut steps.iter()).max(1));
    let sum = Some(SumCheck { steps: count(steps.len()), fitting_permille: count(fitting * 1000 / all) });
    let few = named.len() <= (evidence.homes.len() / NAMED_SHARE).max(1);
    if !few || fitting * 100 < all * FITTING_PERCENT {
        return Outcome { sum, watched, ..nothing(evidence, Finding::Unknown) };
    }
    let present = Present::of(evidence, &steps);
    let steps_reach = present.reached_by(|range| covered(&steps, range));
    let through = steps.iter().map(|step| step.root.gross()).sum::<f64>().max(1.0);
    let permille = |energy: f64| figure(energy / through * 1000.0);
    let rest = permille(residuals.iter().sum());
    let finding = |home: usize| {
        let own: Vec<&Verdict> = named.iter().copied().filter(|verdict| verdict.home == home).collect();
        match (own.is_empty(), own.iter().any(|verdict| verdict.profits)) {
            (true, _) if steps_reach && present.reached_by(|range| read(evidence, home, range)) => {
                Finding::Consistent { figure: rest }
            }
            (true, _) => Finding::Unknown,
            (_, true) => Finding::Contradicts {
                figure: permille(steps.iter().map(|step| explained(&own, step)).sum()),
            },
            // What it reports is to its own harm: for the operator to look at, and no ground to accuse.
            (_, false) => Finding::Unknown,
        }
    };
    let findings = (0..evidence.homes.len()).map(finding).collect();
    Outcome { findings, sum, suspicions: suspects::suspicions(evidence, &named), watched }
}

/// The places that a good word has to rest on.
struct Present {
    last_day: Range<usize>,
    since: Range<usize>,
}

impl Present {
    fn of(evidence: &Evidence, steps: &[Step]) -> Self {
        let end = evidence.window();
        let first = steps.first().map_or(end, |step| step.from + 1);
        Self { last_day: end.saturating_sub(evidence.per_day())..end, since: first..end }
    }

    /// True if `counted` finds enough of both ranges.
    fn reached_by(&self, counted: impl Fn(&Range<usize>) -> usize) -> bool {
        let enough = |range: &Range<usize>, percent| counted(range) * 100 >= range.len() * percent;
        enough(&self.last_day, LAST_DAY_PERCENT) && enough(&self.since, SINCE_PERCENT)
    }
}

/// How many intervals of a range lie within steps.
fn covered(steps: &[Step], range: &Range<usize>) -> usize {
    let within = |step: &Step| (step.to + 1).min(range.end).saturating_sub((step.from + 1).max(range.start));
    steps.iter().map(within).sum()
}

/// How many boundaries of a range this home's meter was read at.
fn read(evidence: &Evidence, home: usize, range: &Range<usize>) -> usize {
    range.clone().filter(|&position| evidence.homes[home].meter.has(position)).count()
}

fn nothing(evidence: &Evidence, finding: Finding) -> Outcome {
    let unwatched = |home: &HomeEvidence| Watched { home: home.home.clone(), detectable_permille: None };
    let watched = evidence.homes.iter().map(unwatched).collect();
    Outcome { findings: vec![finding; evidence.homes.len()], sum: None, suspicions: Vec::new(), watched }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What these registers explain of a step's residual, Wh.
fn explained(verdicts: &[&Verdict], step: &Step) -> f64 {
    verdicts.iter().map(|verdict| verdict.explains(step)).sum()
}

/// Every stretch between boundaries at which all meters were read, in order.
fn steps(evidence: &Evidence, root: &MeterSeries) -> Vec<Step> {
    let meters = || evidence.homes.iter().map(|home| &home.meter).chain([root]);
    let coarse = meters().any(|meter| meter.quantum_wh() > COARSE_WH);
    let hours_min = if coarse { 1.0 } else { 0.0 };
    let complete = (0..evidence.window()).filter(|&position| meters().all(|meter| meter.has(position)));
    let mut boundaries: Vec<usize> = Vec::new();
    for position in complete {
        let far = |&last: &usize| evidence.hours(position - last) >= hours_min;
        if boundaries.last().is_none_or(far) {
            boundaries.push(position);
        }
    }
    boundaries.windows(2).filter_map(|pair| step(evidence, root, pair[0], pair[1])).collect()
}

fn step(evidence: &Evidence, root: &MeterSeries, from: usize, to: usize) -> Option<Step> {
    let homes: Option<Vec<Flow>> = evidence.homes.iter().map(|home| home.meter.flow(from, to)).collect();
    let (day, hours) = (evidence.day(to), evidence.hours(to - from));
    Some(Step { from, to, day, hours, root: root.flow(from, to)?, homes: homes? })
}

/// True if losses, the meters' class and their coarseness can leave `residual` over.
fn fits(evidence: &Evidence, root: &MeterSeries, step: &Step, residual: f64) -> bool {
    let gross: f64 = step.homes.iter().map(|flow| flow.gross()).sum();
    let LossModel { fixed_w, least_permille, most_permille } = evidence.losses;
    let fixed = fixed_w * step.hours;
    let coarseness = |meter: &MeterSeries, flow: &Flow| meter.quantum_wh() * flow.moving();
    let homes: f64 =
        evidence.homes.iter().zip(&step.homes).map(|(home, flow)| coarseness(&home.meter, flow)).sum();
    let tolerance = METER_CLASS * (gross + step.root.gross()) + homes + coarseness(root, &step.root);
    let least = fixed + least_permille / 1000.0 * step.sum().abs();
    let most = fixed + most_permille / 1000.0 * gross;
    (least - tolerance..=most + tolerance).contains(&residual)
}
