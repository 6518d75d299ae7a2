//! Which home's readings explain what the transformer's sum leaves over.
//!
//! **Regression.** What is left over is fitted, over the whole window at once, by every register of every home, by time
//! (fixed losses) and by the square of the flow (losses in the trunk). The coefficient of a register is the part of it
//! that is missing from the sum: 0.25 for a home that reports four fifths of its import, also for one that reports a quarter
//! too much export. All registers at once, because alone every home would be accused that lives by the same clock as the one
//! at fault. A register counts only by how it differs from all others; homes that always move together cannot be told
//! apart, and then none of them is named.
//!
//! **CUSUM.** Each day gives one estimate of each coefficient with its scatter. The excess over what losses and meters may do
//! is summed up, never below zero (E. S. Page, Biometrika 41 (1954) 100). No day counts for more than
//! [`DAY_MOST`], so nobody is named in fewer than three days or for one odd day.

use energy::{HomeId, Interval};

use super::Evidence;
use super::linear::{dot, gram, inverse};
use super::series::{Flow, MeterSeries};
use super::statistics::{figure, median};
use super::transformer::{Step, Watched};

/// An honest register's coefficient stays within ± this: marginal losses are at the most twice the mean ones of 4 %, and
/// two meters of class 1 differ by 2 %.
const HONEST: f64 = 0.10;
/// What a CUSUM forgets each day, in standard deviations: half the shift to be found.
const DAY_SLACK: f64 = 0.5;
/// The most one day adds, in standard deviations.
pub(super) const DAY_MOST: f64 = 4.0;
/// A home is named where its sum exceeds this. An honest register in the worst case, its coefficient at the very edge of
/// what is honest, is named by chance once in a million days (Siegmund's approximation, e^(ALARM + 1.166) / 2k²).
const ALARM: f64 = 12.0;
/// No day's estimate is taken for more exact than this: meters drift within their class.
const SCATTER_MIN: f64 = 0.02;
/// What is said to be detectable is said with this reserve: the scatter of one month is known from thirty numbers only.
const SCATTER_RESERVE: f64 = 1.5;
/// A register must move on its own this many times more than its rounding (in variance), or a day says nothing:
/// rounding looks like a coefficient of −1, here of at most −1/40.
const CLEAR_OF_ROUNDING: f64 = 40.0;
/// A register that counted fewer steps than this over the window is left out.
const COUNTS_MIN: f64 = 20.0;
/// What a coefficient may be before anything is known: 0 ± this.
const PRIOR: f64 = 0.5;
/// Time and squared flow, which every fit has.
const COMMON_COLUMNS: usize = 2;

/// One of a meter's two registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// What the home takes.
    Import,
    /// What it gives.
    Export,
}

impl Register {
    const fn of(self, flow: &Flow) -> f64 {
        match self {
            Self::Import => flow.import,
            Self::Export => flow.export,
        }
    }
}

/// A register whose readings explain what is missing from the transformer's sum. It may be a meter with a fault, a wrong
/// transformer ratio or wire, or a forgery: the figure does not say which. One that harms its own home is listed here
/// too, and is no contradiction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// Whose register.
    pub home: HomeId,
    /// Which.
    pub register: Register,
    /// What is missing, ‰ of what the register counted: positive if import is reported too low, or export too high.
    pub permille: i32,
    /// The first interval of the first day that adds to it.
    pub since: Interval,
}

/// What the days say about one register.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Place of its home in the evidence.
    pub home: usize,
    register: Register,
    /// Coefficient of the whole window.
    whole: f64,
    /// Coefficient of each day with information, and its scatter; in order.
    days: Vec<DayEstimate>,
    /// The day since which it is named.
    pub since: Option<u64>,
    /// It is named for reporting to the home's advantage: import too low or export too high.
    pub profits: bool,
}

#[derive(Debug, Clone, Copy)]
struct DayEstimate {
    day: u64,
    coefficient: f64,
    scatter: f64,
    /// How many times the register's own movement exceeds what is needed to stand out of the rounding.
    clear: f64,
}

impl Verdict {
    /// What this register explains of a step's residual, Wh.
    pub fn explains(&self, step: &Step) -> f64 {
        let of_day = self.days.iter().find(|it| it.day == step.day).map_or(self.whole, |it| it.coefficient);
        step.homes.get(self.home).map_or(0.0, |flow| self.register.of(flow)) * of_day
    }

    /// The smallest lasting error, in ‰ of what the register then counts, that the CUSUM would have named within these days.
    fn detectable(&self) -> Option<u32> {
        (100..1000).step_by(5).find(|&permille| self.would_name(f64::from(permille) / 1000.0))
    }

    /// True if these days would have named a register that misses `part` of what it counts. It moves less by as much, so
    /// some days no longer stand out of the rounding, and the rest scatters more.
    fn would_name(&self, part: f64) -> bool {
        let telling = self.days.iter().filter(|it| it.clear >= 1.0 + part);
        let mut scatters: Vec<f64> = telling.map(|it| it.scatter * SCATTER_RESERVE * (1.0 + part)).collect();
        let a_day = ALARM / scatters.len() as f64 + DAY_SLACK;
        let scatter = median(&mut scatters);
        a_day <= DAY_MOST - DAY_SLACK && scatter.is_some_and(|scatter| HONEST + a_day * scatter <= part)
    }
}

/// A register as a column of the fit.
struct Column {
    home: usize,
    register: Register,
    /// Variance of its rounding over one step, Wh².
    rounding: f64,
}

/// Judges every register that counted; in the order of homes. Empty without enough steps for the fit.
pub(super) fn verdicts(evidence: &Evidence, root: &MeterSeries, steps: &[Step]) -> Vec<Verdict> {
    let columns = columns(evidence, steps);
    if steps.len() < 2 * (columns.len() + COMMON_COLUMNS) {
        return Vec::new();
    }
    let rows = rows(&columns, steps);
    let residuals: Vec<f64> = steps.iter().map(Step::residual).collect();
    let noise = noise(&columns, root, steps);
    let mut matrix = gram(&rows);
    for (at, row) in matrix.iter_mut().enumerate() {
        // Time and flow may have any coefficient; the trace of a prior keeps the fit solvable where both are the same.
        row[at] += if at < COMMON_COLUMNS { 1e-9 * row[at] + 1e-9 } else { noise / (PRIOR * PRIOR) };
    }
    let Some(inverse) = inverse(&matrix) else { return Vec::new() };
    let mut moments = vec![0.0; rows[0].len()];
    for (row, residual) in rows.iter().zip(&residuals) {
        moments.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * residual);
    }
    let coefficients: Vec<f64> = inverse.iter().map(|row| dot(row, &moments)).collect();
    let errors: Vec<f64> =
        rows.iter().zip(&residuals).map(|(row, it)| it - dot(row, &coefficients)).collect();
    let freedom = (rows.len() - rows[0].len()) as f64;
    let fit = Fit { spread: (dot(&errors, &errors) / freedom).sqrt(), rows, errors, steps };
    let of_column = |(at, column): (usize, Column)| {
        let at = at + COMMON_COLUMNS;
        verdict(&fit, &column, coefficients[at], &inverse[at], inverse[at][at])
    };
    columns.into_iter().enumerate().map(of_column).collect()
}

/// One fit of all registers.
struct Fit<'a> {
    rows: Vec<Vec<f64>>,
    /// What it leaves over.
    errors: Vec<f64>,
    /// Root mean square of these.
    spread: f64,
    steps: &'a [Step],
}

fn columns(evidence: &Evidence, steps: &[Step]) -> Vec<Column> {
    let mut columns = Vec::new();
    for (home, it) in evidence.homes.iter().enumerate() {
        let quantum = it.meter.quantum_wh();
        for register in [Register::Import, Register::Export] {
            let counted: f64 = steps.iter().map(|step| register.of(&step.homes[home])).sum();
            if counted >= COUNTS_MIN * quantum {
                // The difference of two numbers that are each cut to the quantum has a variance of q²/6.
                columns.push(Column { home, register, rounding: quantum * quantum / 6.0 });
            }
        }
    }
    columns
}

fn rows(columns: &[Column], steps: &[Step]) -> Vec<Vec<f64>> {
    let largest = steps.iter().map(|step| step.sum().abs()).fold(1.0, f64::max);
    let row = |step: &Step| {
        let sum = step.sum();
        let common = [step.hours, sum * sum / largest / step.hours];
        common.into_iter().chain(columns.iter().map(|it| it.register.of(&step.homes[it.home]))).collect()
    };
    steps.iter().map(row).collect()
}

/// Variance that one step's residual has from rounding, and from meters that drift by half a percent; Wh².
fn noise(columns: &[Column], root: &MeterSeries, steps: &[Step]) -> f64 {
    let mean = steps.iter().map(|step| step.root.gross()).sum::<f64>() / steps.len() as f64;
    let quantum = root.quantum_wh();
    let rounding: f64 = columns.iter().map(|column| column.rounding).sum();
    rounding + quantum * quantum / 6.0 + (0.005 * mean).powi(2) + 1.0
}

fn verdict(fit: &Fit<'_>, column: &Column, whole: f64, inverse: &[f64], own: f64) -> Verdict {
    // What this register does beyond what all others let one expect.
    let alone: Vec<f64> = fit.rows.iter().map(|row| dot(row, inverse) / own).collect();
    let mut days: Vec<DayEstimate> = Vec::new();
    let mut weights: Vec<f64> = Vec::new();
    for span in fit.steps.chunk_by(|left, right| left.day == right.day) {
        let first = fit.steps.partition_point(|step| step.from < span[0].from);
        let (alone, errors) = (&alone[first..first + span.len()], &fit.errors[first..first + span.len()]);
        let weight = dot(alone, alone);
        let clear = (weight / (CLEAR_OF_ROUNDING * column.rounding * span.len() as f64)).sqrt();
        if clear >= 1.0 {
            let coefficient = whole + dot(alone, errors) / weight;
            days.push(DayEstimate { day: span[0].day, coefficient, scatter: 0.0, clear });
            weights.push(weight);
        }
    }
    let spread = fit.spread.max(observed_spread(&days, &weights));
    for (day, weight) in days.iter_mut().zip(&weights) {
        day.scatter = (spread / weight.sqrt()).max(SCATTER_MIN);
    }
    let gained = alarm(&days, |it| it.coefficient - HONEST);
    let since = gained.or_else(|| alarm(&days, |it| -it.coefficient - HONEST));
    let (home, register, profits) = (column.home, column.register, gained.is_some());
    Verdict { home, register, whole, days, since, profits }
}

/// How far days lie apart, as the spread of one step's error: from the median change between neighbouring days, which
/// neither an odd day nor the beginning of a forgery moves.
fn observed_spread(days: &[DayEstimate], weights: &[f64]) -> f64 {
    let change = |(days, weights): (&[DayEstimate], &[f64])| {
        let expected = (1.0 / weights[0] + 1.0 / weights[1]).sqrt();
        (days[1].coefficient - days[0].coefficient).abs() / expected
    };
    let mut changes: Vec<f64> = days.windows(2).zip(weights.windows(2)).map(change).collect();
    // The median of the absolute values of a normal distribution is its deviation / 1.4826.
    1.4826 * median(&mut changes).unwrap_or_default()
}

/// The day from which on `excess` added up to an alarm.
fn alarm(days: &[DayEstimate], excess: impl Fn(&DayEstimate) -> f64) -> Option<u64> {
    let (mut sum, mut since) = (0.0, None);
    for it in days {
        sum += (excess(it) / it.scatter).min(DAY_MOST) - DAY_SLACK;
        if sum <= 0.0 {
            (sum, since) = (0.0, None);
        } else if since.is_none() {
            since = Some(it.day);
        }
        if sum > ALARM {
            return since;
        }
    }
    None
}

/// The named registers, for the operator.
pub(super) fn suspicions(evidence: &Evidence, verdicts: &[&Verdict]) -> Vec<Suspicion> {
    let mtu = evidence.from.mtu();
    let suspicion = |verdict: &&Verdict| {
        let since = verdict.since?;
        let mut later: Vec<f64> =
            verdict.days.iter().filter(|it| it.day >= since).map(|it| it.coefficient).collect();
        Some(Suspicion {
            home: evidence.homes.get(verdict.home)?.home.clone(),
            register: verdict.register,
            permille: figure(median(&mut later)? * 1000.0),
            since: Interval::from_index(since.saturating_mul(u64::from(mtu.per_day())), mtu),
        })
    };
    verdicts.iter().filter_map(suspicion).collect()
}

/// For each home the larger of what its two registers could have hidden.
pub(super) fn watched(evidence: &Evidence, verdicts: &[Verdict]) -> Vec<Watched> {
    let of_home = |at: usize| {
        let own = verdicts.iter().filter(|verdict| verdict.home == at);
        own.map(Verdict::detectable).reduce(|one, other| Some(one?.max(other?))).flatten()
    };
    let homes = evidence.homes.iter().enumerate();
    homes.map(|(at, it)| Watched { home: it.home.clone(), detectable_permille: of_home(at) }).collect()
}
