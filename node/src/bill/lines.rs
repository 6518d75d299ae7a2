//! The configured lines of a bill, computed in their order.

use chrono::NaiveDate;

use super::items::{Billed, Nano, Part, Split};
use super::sheet::{Columns, Line, Side, ceiling, runs};
use super::terms::{Basis, LineSpec};
use crate::zone::{Month, Zone};

/// What lines are charged on.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The month.
    pub month: Month,
    /// The days of the bill in it.
    pub days: &'a [NaiveDate],
    /// The outcomes of the bill.
    pub outcomes: &'a [Billed],
    /// Where clocks are.
    pub zone: &'a Zone,
    /// Charged for energy and network fees, without what was credited for export.
    pub charged: Columns,
    /// Which energy is the recipient's.
    pub side: Side,
    /// True where the grid's column is for information only.
    pub grid_is_outside: bool,
}

/// Computes `specs` one after another: each subtotal holds the lines before it. Lines without anything to charge them
/// on are left out.
#[must_use]
pub fn compute(specs: &[LineSpec], ground: &Ground<'_>) -> Vec<Line> {
    let mut subtotal = ground.charged;
    if ground.grid_is_outside {
        subtotal.grid = 0;
    }
    let mut lines = Vec::new();
    for spec in specs {
        let line = ground.line(spec, subtotal);
        if !line.is_empty() {
            subtotal = subtotal.plus(line.charge);
            lines.push(line);
        }
    }
    lines
}

impl Ground<'_> {
    fn line(&self, spec: &LineSpec, subtotal: Columns) -> Line {
        let rate = Nano::from(spec.rate);
        let (quantity, charge) = match spec.basis {
            Basis::Subtotal if spec.holds_on(self.month.first_day()) => {
                // ‰ of n has no exact result: up to the next n, toward the community.
                let share = |amount: Nano| ceiling(amount * rate, 1_000);
                (subtotal, Columns { community: share(subtotal.community), grid: share(subtotal.grid) })
            }
            Basis::Subtotal => Default::default(),
            Basis::Day | Basis::Month => {
                let days = self.days(spec);
                let is_daily = spec.basis == Basis::Day;
                let charge =
                    days.iter().map(|day| if is_daily { rate } else { self.of_day(rate, *day) }).sum();
                let quantity = in_part(spec.part, Nano::from(days.len() as u64));
                return Line {
                    spec: spec.clone(),
                    quantity,
                    charge: in_part(spec.part, charge),
                    days: runs(&days),
                };
            }
            basis => {
                let energy = self.energy(spec, basis);
                let charge = Columns { community: energy.community * rate, grid: energy.grid * rate };
                (energy, charge)
            }
        };
        Line { spec: spec.clone(), quantity, charge, days: Vec::new() }
    }

    /// The days of the bill on which the line holds. Fixed charges are whose who takes energy.
    fn days(&self, spec: &LineSpec) -> Vec<NaiveDate> {
        let days = if self.side == Side::Export { &[] } else { self.days };
        days.iter().copied().filter(|day| spec.holds_on(*day)).collect()
    }

    /// What of a month's charge falls on a day: all days of a month together are exactly the charge.
    fn of_day(&self, rate: Nano, day: NaiveDate) -> Nano {
        let until = |day: Nano| (rate * day).div_euclid(Nano::from(self.month.days()));
        let number = Nano::from(chrono::Datelike::day(&day));
        until(number) - until(number - 1)
    }

    fn energy(&self, spec: &LineSpec, basis: Basis) -> Columns {
        let held = self.outcomes.iter().filter(|it| spec.holds_on(self.zone.date(it.interval.start())));
        held.fold(Columns::default(), |sum, it| {
            let Split { community, grid } =
                if basis == Basis::Export { it.energy.export } else { it.energy.import };
            let wants = |part: Basis| basis == part || matches!(basis, Basis::TotalImport | Basis::Export);
            let community = if wants(Basis::CommunityImport) { community } else { 0 };
            let grid = if wants(Basis::GridImport) && !self.grid_is_outside { grid } else { 0 };
            sum.plus(Columns { community: community.into(), grid: grid.into() })
        })
    }
}

const fn in_part(part: Part, amount: Nano) -> Columns {
    match part {
        Part::Community => Columns { community: amount, grid: 0 },
        Part::Grid => Columns { community: 0, grid: amount },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use energy::{Interval, Mtu};
    use ledger::OutcomeKind;

    use super::super::items::Energy;
    use super::super::terms::Terms;
    use super::*;
    use crate::config::document::Document;
    use crate::zone::date;

    fn specs(text: &str) -> Vec<LineSpec> {
        Terms::read(&Document::of_text(Path::new("bill.toml"), text), false).unwrap().lines
    }

    fn spec(basis: &str, rate: i64, more: &str) -> String {
        format!("[[line]]\nname = \"{basis}\"\nbasis = \"{basis}\"\nrate = {rate}\nto = \"x\"\n{more}\n")
    }

    fn outcome(time: &str, import: (i64, i64), export: (i64, i64)) -> Billed {
        let split = |(community, grid)| Split { community, grid };
        Billed {
            interval: Interval::parse(time, Mtu::Min15).unwrap(),
            kind: OutcomeKind::Settled,
            height: 1,
            settled_by: 1,
            is_read: true,
            energy: Energy { import: split(import), export: split(export) },
            items: vec![],
            claim: 0,
            incentive: 0,
            booked: 0,
            booked_community: 0,
        }
    }

    fn days(first: u32, last: u32) -> Vec<NaiveDate> {
        (first..=last).map(|day| date(&format!("2026-07-{day:02}")).unwrap()).collect()
    }

    fn charges(text: &str, days: &[NaiveDate], side: Side, outside: bool) -> Vec<(Nano, Nano)> {
        let outcomes = [
            outcome("2026-07-10T00:00:00Z", (300, 700), (0, 0)),
            outcome("2026-07-20T15:45:00Z", (10, 20), (5, 6)),
            outcome("2026-07-20T16:00:00Z", (1, 2), (3, 4)),
        ];
        let ground = Ground {
            month: Month::parse("2026-07").unwrap(),
            days,
            outcomes: &outcomes,
            zone: &Zone::of_minutes(480),
            charged: Columns { community: 1_001, grid: 2_002 },
            side,
            grid_is_outside: outside,
        };
        compute(&specs(text), &ground).iter().map(|line| (line.charge.community, line.charge.grid)).collect()
    }

    #[test]
    fn each_basis_is_charged_in_its_column() {
        let all = ["community-import", "grid-import", "total-import", "export"]
            .map(|basis| spec(basis, 10, ""))
            .concat();
        let expected = [(3_110, 0), (0, 7_220), (3_110, 7_220), (80, 100)];
        assert_eq!(charges(&all, &days(1, 31), Side::Both, false), expected);
    }

    #[test]
    fn a_subtotal_holds_the_lines_before_it_and_rounds_up_to_the_next_n() {
        let text = [spec("subtotal", 130, ""), spec("grid-import", 1, ""), spec("subtotal", 1, "")].concat();
        // 13 % of 1001 and 2002; then 1 ‰ of 1132 and 2263 + 722.
        assert_eq!(charges(&text, &days(1, 31), Side::Both, false), [(131, 261), (0, 722), (2, 3)]);
        let rebate = spec("subtotal", -130, "");
        assert_eq!(charges(&rebate, &days(1, 31), Side::Both, false), [(-130, -260)]);
    }

    #[test]
    fn a_line_that_changes_within_the_month_is_charged_on_the_energy_of_its_days() {
        let text =
            [spec("total-import", 10, "until = 2026-07-21"), spec("total-import", 100, "from = 2026-07-21")]
                .concat();
        // 16:00 UTC is midnight at +08:00.
        assert_eq!(charges(&text, &days(1, 31), Side::Both, false), [(3_100, 7_200), (100, 200)]);
    }

    #[test]
    fn fixed_charges_of_a_part_of_a_month_add_up_to_the_month() {
        let text = [spec("month", 1_000, "part = \"grid\""), spec("day", 7, "part = \"community\"")].concat();
        let of = |first, last| charges(&text, &days(first, last), Side::Both, false);
        assert_eq!(of(1, 31), [(0, 1_000), (217, 0)]);
        let (left, right) = (of(1, 14), of(15, 31));
        assert_eq!((left[0].1 + right[0].1, left[1].0 + right[1].0), (1_000, 217));
        assert_eq!(charges(&text, &days(1, 31), Side::Export, false), [], "whoever takes energy pays them");
    }

    #[test]
    fn nothing_is_charged_on_the_grid_where_the_supplier_bills_it_itself() {
        let text = [spec("export", 10, ""), spec("subtotal", 1_000, "")].concat();
        assert_eq!(charges(&text, &days(1, 31), Side::Both, true), [(80, 0), (1_081, 0)]);
    }

    #[test]
    fn a_line_with_nothing_to_charge_it_on_is_left_out() {
        let text = spec("day", 7, "part = \"grid\"\nfrom = 2026-08-01");
        assert_eq!(charges(&text, &days(1, 31), Side::Both, false), []);
    }
}
