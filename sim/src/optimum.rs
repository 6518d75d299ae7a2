//! How far a run is from the optimum: the least a community could have paid in a week, had everybody known everything.
//!
//! A linear program over one week, all homes and devices at once, between the states in which the run began and ended that
//! week: same batteries, same vehicles, same warmth, so that nothing is saved by emptying a store. It pays the supplier,
//! the network's fees on every edge and the wear of batteries; energy between homes costs nothing but the fees on its way.
//! A home's own limits are those of its devices. Vehicles take their minimum at once, as their households asked.
//!
//! **Exact aggregation.** Between nodes whose edge has no fee energy moves freely, so they are one node; what nothing
//! controls is one number per node and interval. So the size depends on devices and fees, not on homes. Edge limits play no part,
//! as they play none in the settlement of metered energy.
//!
//! The program is here; it is solved by `clarabel` behind the cargo feature `optimum`. Units: kWh, currency.

use std::collections::BTreeMap;

use agent::{Session, Standing};
use clarabel::algebra::CscMatrix;
use clarabel::solver::{
    DefaultSettingsBuilder, DefaultSolver, IPSolver, NonnegativeConeT, SolverStatus, ZeroConeT,
};
use energy::{Money, WattHours};
use ledger::TariffPoint;
use market::Network;

use crate::SimError;
use crate::home::{Household, WEAR};
use crate::options::{Options, WEEK};
use crate::report::OptimumWeek;
use crate::run::{Mark, Ran};
use crate::session::Stay;
use crate::study::{Scene, n};
use crate::without::{Unplanned, neighbours};

/// µ in a unit of the currency per kWh.
const MICRO: f64 = 1e-6;
/// Wh in a kWh.
const KILO: f64 = 1e-3;
/// Bounds closer than this leave no room, kWh.
const FIXED: f64 = 1e-9;
/// Iterations of the solver at the most; it needs some dozens.
const ITERATIONS: u32 = 200;
/// n in a unit of the currency.
const NANO: f64 = 1e9;

/// The optimum of every week of a run, beside what the run and its unplanned twin came to.
pub(crate) fn weeks(
    options: &Options,
    scene: &Scene,
    prices: &[TariffPoint],
    unplanned: &Unplanned,
    ran: &Ran<'_>,
) -> Result<Vec<OptimumWeek>, SimError> {
    let mut weeks = Vec::new();
    for (week, from) in (0..options.intervals).step_by(WEEK).enumerate() {
        let window = from..(from + WEEK).min(options.intervals);
        let least = |marks: &[Mark]| -> Result<i64, SimError> {
            let (Some(start), Some(end)) = (marks.get(week), marks.get(week + 1)) else {
                return Err(SimError::Optimum("a week without its states".to_owned()));
            };
            let program = Program::new(scene, prices, window.clone(), [&start.standing, &end.standing]);
            program.solve()
        };
        let flows: Vec<_> = unplanned.flows.iter().map(|flows| flows[window.clone()].to_vec()).collect();
        let sums =
            neighbours(&scene.network, &scene.households, &scene.nodes, &prices[window.clone()], &flows)?;
        let idle = Money::sum(sums.iter().map(|sum| sum.amount))?;
        weeks.push(OptimumWeek {
            week: week + 1,
            run_n: paid(ran.weeks.get(week).copied().unwrap_or_default(), &ran.marks, week)?,
            run_optimum_n: least(&ran.marks)?,
            unplanned_n: paid(idle, &unplanned.marks, week)?,
            unplanned_optimum_n: least(&unplanned.marks)?,
        });
    }
    Ok(weeks)
}

/// What a week cost, with wear.
fn paid(received: Money, marks: &[Mark], week: usize) -> Result<i64, SimError> {
    let until = |mark: usize| marks.get(mark).map_or(0, |mark| mark.discharged);
    let discharged = until(week + 1).saturating_sub(until(week));
    Ok(n(received.neg()?.add(WEAR.cost_of(WattHours::new(discharged))?)?))
}

/// A linear program: the least of `costs` · x over 0 ≤ x ≤ `most` with each of `rows` · x = its value.
struct Program {
    costs: Vec<f64>,
    least: Vec<f64>,
    most: Vec<f64>,
    /// Coefficients as (row, column, value).
    coefficients: Vec<(usize, usize, f64)>,
    values: Vec<f64>,
}

/// The nodes that fees tell apart.
struct Groups {
    /// By node of the network: its group.
    of: Vec<usize>,
    /// By group: the group above it and the fees up and down; the root has none.
    above: Vec<Option<(usize, f64, f64)>>,
}

impl Groups {
    fn new(network: &Network) -> Self {
        let mut groups = Self { of: vec![0; network.len()], above: Vec::new() };
        let specs = network.specs();
        let place: BTreeMap<_, _> = specs.iter().enumerate().map(|(place, spec)| (&spec.id, place)).collect();
        let parent = |at: usize| specs[at].parent.as_ref().and_then(|parent| place.get(parent).copied());
        // The end of the free way up from a node is the group's own node.
        let top = |mut at: usize| {
            while let Some(above) =
                parent(at).filter(|_| specs[at].fee_up.get() == 0 && specs[at].fee_down.get() == 0)
            {
                at = above;
            }
            at
        };
        let mut numbers = BTreeMap::new();
        for at in 0..specs.len() {
            let next = numbers.len();
            groups.of[at] = *numbers.entry(top(at)).or_insert(next);
        }
        groups.above = vec![None; numbers.len()];
        for (at, group) in &numbers {
            let fee = |price: energy::Price| micro(price.get());
            groups.above[*group] =
                parent(*at).map(|above| (groups.of[above], fee(specs[*at].fee_up), fee(specs[*at].fee_down)));
        }
        groups
    }
}

#[expect(clippy::cast_precision_loss, reason = "prices and energies of a street are far below 2^53")]
fn micro(price: i64) -> f64 {
    price as f64 * MICRO
}

#[expect(clippy::cast_precision_loss, reason = "prices and energies of a street are far below 2^53")]
fn kwh(energy: u64) -> f64 {
    energy as f64 * KILO
}

impl Program {
    fn new(
        scene: &Scene,
        prices: &[TariffPoint],
        window: std::ops::Range<usize>,
        [start, end]: [&[Standing]; 2],
    ) -> Self {
        let mut program =
            Self { costs: vec![], least: vec![], most: vec![], coefficients: vec![], values: vec![] };
        let groups = Groups::new(&scene.network);
        let balances = program.network(&groups, &prices[window.clone()]);
        for (number, (household, node)) in scene.households.iter().zip(&scene.nodes).enumerate() {
            let group = groups.of[node.get()];
            let rows: Vec<_> = balances.iter().map(|rows| rows[group]).collect();
            for (at, row) in window.clone().zip(&rows) {
                let given = household.given(at);
                program.values[*row] += kwh(given.pv.get()) - kwh(given.load.get());
            }
            let of_home = Home { household, window: window.clone(), start: start[number], end: end[number] };
            program.battery(&of_home, &rows);
            program.heat(&of_home, &rows);
            program.vehicle(&of_home, &rows);
            program.curtailment(&of_home, &rows, &prices[window.clone()]);
        }
        program
    }

    fn variable(&mut self, cost: f64, least: f64, most: f64) -> usize {
        self.costs.push(cost);
        self.least.push(least);
        self.most.push(most);
        self.costs.len() - 1
    }

    /// A row Σ coefficients = value.
    fn row(&mut self, value: f64) -> usize {
        self.values.push(value);
        self.values.len() - 1
    }

    fn put(&mut self, row: usize, column: usize, coefficient: f64) {
        self.coefficients.push((row, column, coefficient));
    }

    /// Flows between groups and with the supplier; returns the balance of every group by interval: what its devices take less
    /// what reaches it = −what its homes take anyway.
    fn network(&mut self, groups: &Groups, prices: &[TariffPoint]) -> Vec<Vec<usize>> {
        let mut balances = Vec::with_capacity(prices.len());
        for price in prices {
            let rows: Vec<_> = groups.above.iter().map(|_| self.row(0.0)).collect();
            for (group, above) in groups.above.iter().enumerate() {
                let (from, up, down) = above.map_or_else(
                    || (None, -micro(price.export_price.get()), micro(price.import_price.get())),
                    |(above, up, down)| (Some(above), up, down),
                );
                let (up, down) =
                    (self.variable(up, 0.0, f64::INFINITY), self.variable(down, 0.0, f64::INFINITY));
                self.put(rows[group], down, -1.0);
                self.put(rows[group], up, 1.0);
                if let Some(above) = from {
                    self.put(rows[above], down, 1.0);
                    self.put(rows[above], up, -1.0);
                }
            }
            balances.push(rows);
        }
        balances
    }

    fn battery(&mut self, home: &Home<'_>, rows: &[usize]) {
        let Some(battery) = home.household.devices.battery else { return };
        let efficiency = f64::from(battery.efficiency_permille) / 1000.0;
        let (floor, full) = (kwh(battery.reserve.min(home.start.battery).get()), kwh(battery.capacity.get()));
        let mut before = None;
        for (place, row) in rows.iter().enumerate() {
            let charge = self.variable(0.0, 0.0, kwh(battery.charge.get()));
            let discharge = self.variable(micro(battery.wear.get()), 0.0, kwh(battery.discharge.get()));
            let last = place + 1 == rows.len();
            let least = if last { kwh(home.end.battery.get()) } else { floor };
            let level = self.variable(0.0, least, full);
            self.put(*row, charge, 1.0);
            self.put(*row, discharge, -1.0);
            self.store(
                &mut before,
                level,
                kwh(home.start.battery.get()),
                0.0,
                &[(charge, efficiency), (discharge, -1.0)],
            );
        }
    }

    fn heat(&mut self, home: &Home<'_>, rows: &[usize]) {
        let Some(heat) = home.household.devices.heat else { return };
        let mut before = None;
        for (place, row) in rows.iter().enumerate() {
            let power = self.variable(0.0, 0.0, kwh(heat.power.get()));
            let last = place + 1 == rows.len();
            let least = if last { kwh(home.end.heat.get()) } else { 0.0 };
            let level = self.variable(0.0, least, kwh(heat.store.get()));
            self.put(*row, power, 1.0);
            let need = kwh(home.household.given(home.window.start + place).heat.get());
            self.store(&mut before, level, kwh(home.start.heat.get()), need, &[(power, 1.0)]);
        }
    }

    /// A store: its level is the level before plus what comes in less what is needed.
    fn store(
        &mut self,
        before: &mut Option<usize>,
        level: usize,
        start: f64,
        need: f64,
        into: &[(usize, f64)],
    ) {
        let value = if before.is_none() { start - need } else { -need };
        let row = self.row(value);
        self.put(row, level, 1.0);
        if let Some(before) = before.replace(level) {
            self.put(row, before, -1.0);
        }
        for (column, share) in into {
            self.put(row, *column, -share);
        }
    }

    fn vehicle(&mut self, home: &Home<'_>, rows: &[usize]) {
        let Some(charger) = home.household.devices.charger else { return };
        for (from, until, session) in home.sessions() {
            let total = self.row(kwh(session.needed.get()));
            let mut minimum = session.minimum.get();
            for at in from..until {
                let power = charger.power.get();
                let at_once = minimum.min(power);
                minimum -= at_once;
                let column = self.variable(0.0, kwh(at_once), kwh(power));
                self.put(rows[at - home.window.start], column, 1.0);
                self.put(total, column, 1.0);
            }
        }
    }

    /// Sun may be given up where exporting it could cost something.
    fn curtailment(&mut self, home: &Home<'_>, rows: &[usize], prices: &[TariffPoint]) {
        if !home.household.devices.curtailable {
            return;
        }
        for ((at, row), price) in home.window.clone().zip(rows).zip(prices) {
            let pv = home.household.given(at).pv.get();
            if pv > 0 && price.export_price.get() < 0 {
                let given_up = self.variable(0.0, 0.0, kwh(pv));
                self.put(*row, given_up, 1.0);
            }
        }
    }
}

/// One home over the week.
struct Home<'a> {
    household: &'a Household,
    window: std::ops::Range<usize>,
    start: Standing,
    end: Standing,
}

impl Home<'_> {
    /// What vehicles take in the week and when: what was still to do when it began, less what was when it ended.
    fn sessions(&self) -> Vec<(usize, usize, Session)> {
        let window = &self.window;
        let overlap = |stay: &&Stay| stay.from < window.end && stay.until > window.start;
        let stays = self.household.stays().iter().filter(overlap);
        let of_week = stays.filter_map(|stay| {
            let whole = stay.session(self.household.first());
            let begun = if stay.from < window.start { self.start.session? } else { whole };
            let left = self.end.session.filter(|_| stay.until >= window.end);
            let left = left.map_or(WattHours::ZERO, |session| session.needed);
            let (from, until) = (stay.from.max(window.start), stay.until.min(window.end));
            // A vehicle that left too early took what there was time for.
            let power = self.household.devices.charger.map_or(0, |charger| charger.power.get());
            let most = WattHours::new(power * (until - from) as u64);
            let needed = begun.needed.saturating_sub(left).min(most);
            Some((from, until, Session { needed, minimum: begun.minimum.min(needed), ..begun }))
        });
        of_week.filter(|(_, _, session)| !session.needed.is_zero()).collect()
    }
}

impl Program {
    /// The least cost, n.
    fn solve(mut self) -> Result<i64, SimError> {
        let fault = |what: String| SimError::Optimum(what);
        let columns = self.costs.len();
        let bounds: Vec<_> = self.least.iter().copied().zip(self.most.iter().copied()).enumerate().collect();
        for (column, (least, _)) in bounds.iter().filter(|(_, (least, most))| most - least < FIXED) {
            let row = self.row(*least);
            self.put(row, *column, 1.0);
        }
        let equalities = self.values.len();
        for (column, (least, most)) in bounds.into_iter().filter(|(_, (least, most))| most - least >= FIXED) {
            let row = self.row(-least);
            self.put(row, column, -1.0);
            if most.is_finite() {
                let row = self.row(most);
                self.put(row, column, 1.0);
            }
        }
        let rows = self.values.len();
        let (mut of_row, mut of_column, mut coefficients) = (vec![], vec![], vec![]);
        for (row, column, coefficient) in self.coefficients {
            of_row.push(row);
            of_column.push(column);
            coefficients.push(coefficient);
        }
        let matrix = CscMatrix::new_from_triplets(rows, columns, of_row, of_column, coefficients);
        let quadratic = CscMatrix::zeros((columns, columns));
        let cones = [ZeroConeT(equalities), NonnegativeConeT(rows - equalities)];
        let settings = DefaultSettingsBuilder::default().verbose(false).max_iter(ITERATIONS).build();
        let settings = settings.map_err(|error| fault(error.to_string()))?;
        let solver = DefaultSolver::new(&quadratic, &self.costs, &matrix, &self.values, &cones, settings);
        let mut solver = solver.map_err(|error| fault(error.to_string()))?;
        solver.solve();
        match solver.solution.status {
            SolverStatus::Solved => Ok(in_n(solver.solution.obj_val)),
            status => Err(fault(format!(
                "the solver ended with {status:?}; is an import price below the export price?"
            ))),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounded, and far below 2^63")]
fn in_n(amount: f64) -> i64 {
    (amount * NANO).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Recording, Season};
    use crate::{TariffKind, simulate_against_optimum};

    fn first_week(recording: &Recording, intervals: usize) -> OptimumWeek {
        let options = Options { intervals, ..Options::new(Season::Summer, 1) };
        simulate_against_optimum(recording, &options).unwrap().optimum[0]
    }

    #[test]
    fn where_nothing_can_be_moved_what_was_paid_is_the_optimum() {
        // Homes with sun and load and no device.
        let mut recording = Recording::builtin(Season::Summer).unwrap();
        recording
            .homes
            .retain(|home| home.home.battery_wh == 0 && home.heat_w.is_empty() && home.vehicle_w.is_empty());
        assert!(recording.homes.iter().any(|home| home.home.has_pv()));
        let week = first_week(&recording, 192);
        for (paid, least) in [(week.run_n, week.run_optimum_n), (week.unplanned_n, week.unplanned_optimum_n)]
        {
            assert!((paid - least).abs() < 1_000_000, "{paid} and {least} n: less than a thousandth apart");
        }
        assert!(week.run_n > 1_000_000_000, "more than one of the currency: {}", week.run_n);
    }

    #[test]
    fn with_and_without_agents_a_few_homes_pay_no_less_than_the_optimum_in_summer_and_winter() {
        for season in Season::ALL {
            let recording = Recording::builtin(season).unwrap();
            let run = |agents| {
                // At one price nothing is to be gained by another hour in winter.
                let tariff = TariffKind::TimeOfUse;
                let options =
                    Options { intervals: 192, homes: Some(10), agents, tariff, ..Options::new(season, 1) };
                simulate_against_optimum(&recording, &options).unwrap().optimum[0]
            };
            let (planned, left_alone) = (run(true), run(false));
            for week in [planned, left_alone] {
                for (paid, least) in
                    [(week.run_n, week.run_optimum_n), (week.unplanned_n, week.unplanned_optimum_n)]
                {
                    assert!(paid > least - 1_000_000, "{season}: {week:?}");
                }
            }
            // Without agents what was lived on the ledger is the unplanned twin.
            assert_eq!(left_alone.run_n, left_alone.unplanned_n, "{season}");
            let possible = left_alone.run_n - left_alone.run_optimum_n;
            assert!(possible > 1_000_000, "{season}: there is something to plan: {left_alone:?}");
        }
    }

    #[test]
    fn nobody_beats_the_optimum() {
        let week = first_week(&Recording::builtin(Season::Summer).unwrap(), 96);
        // The solver is exact to about a part in 10⁸.
        assert!(week.run_n > week.run_optimum_n - 1_000_000, "{week:?}");
        assert!(
            week.unplanned_n > week.unplanned_optimum_n + 1_000_000_000,
            "there is something to gain: {week:?}"
        );
    }
}
