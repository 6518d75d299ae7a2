//! The household's plan in plain words: what each device will do when, and what that is expected to save.

use api::{Household, PlanStep};
use maud::{Markup, html};

use super::figures;
use super::text::{Texts, fill};
use super::{View, clock};

/// Lines that are shown.
const LINES_MAX: usize = 6;
/// What is planned for a shorter total is not worth a line, Wh.
const WORTH_A_LINE_WH: u64 = 100;
/// Only the coming day is shown: a clock says no date.
const DAY_MS: u64 = 86_400_000;
/// A pause of so many intervals does not end what a device does.
const PAUSE_MAX: usize = 1;

/// What a device moves in a step, and how much of it neighbours are expected to serve or take, Wh.
type Moved<'a> = &'a dyn Fn(&PlanStep) -> (u64, u64);

/// Something that a device does without a long pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// First step, and the one after the last.
    from: usize,
    until: usize,
    energy_wh: u64,
    /// The most of it that neighbours are expected to serve or take.
    local_wh: u64,
}

/// The plan; nothing for a home whose node plans for no devices.
pub(super) fn section(view: &View, texts: &Texts) -> Markup {
    let Some(household) = &view.household else { return html! {} };
    let saving = household.expected_cost_unplanned_n.saturating_sub(household.expected_cost_n);
    html! {
        section.card {
            h2 { (texts.plan_title) }
            p { (goal(household, texts)) }
            @let lines = lines(view, household, texts);
            @if lines.is_empty() { p { (texts.plan_nothing) } } @else {
                ul { @for line in lines { li { (line) } } }
            }
            p.small {
                @if saving > 0 {
                    (fill(texts.plan_saving, &[&figures::money(saving, &household.currency)])) " "
                }
                (fill(texts.plan_forecast, &[&household.forecast.days.to_string()]))
                @if household.forecast.load_error_wh.is_some() { " " (errors(household, texts)) }
                @if household.trial { " " (texts.plan_trial) }
                @if household.trading.rests { " " (texts.plan_rests) }
                @if household.trading.stopped { " " (texts.plan_stopped) }
            }
        }
    }
}

fn goal(household: &Household, texts: &Texts) -> &'static str {
    match household.goal.as_str() {
        "stay-green" => texts.goal_green,
        "stay-independent" => texts.goal_independent,
        _ => texts.goal_save,
    }
}

fn errors(household: &Household, texts: &Texts) -> String {
    let load = household.forecast.load_error_wh.unwrap_or_default();
    let mut text = fill(texts.plan_load_error, &[&figures::kwh(load)]);
    if let Some(sun) = household.forecast.sun_error_wh {
        text.push_str(&fill(texts.plan_sun_error, &[&figures::kwh(sun)]));
    }
    text
}

/// What the devices do, in the order in which they begin.
fn lines(view: &View, household: &Household, texts: &Texts) -> Vec<String> {
    let flexible = |step: &PlanStep| step.vehicle_wh + step.heat_wh + step.battery_wh.max(0).unsigned_abs();
    // What comes from outside comes from neighbours as far as they serve; it is counted to what can be moved last.
    let served = |step: &PlanStep, energy: u64| {
        energy.min(step.import_wh).min(step.local_import_wh) * energy / flexible(step).max(energy).max(1)
    };
    let kinds: [(&str, Moved<'_>); 4] = [
        (texts.plan_car, &|step| (step.vehicle_wh, served(step, step.vehicle_wh))),
        (texts.plan_heat, &|step| (step.heat_wh, served(step, step.heat_wh))),
        (texts.plan_charge, &|step| {
            let energy = step.battery_wh.max(0).unsigned_abs();
            (energy, served(step, energy))
        }),
        (texts.plan_discharge, &|step| {
            let energy = step.battery_wh.min(0).unsigned_abs();
            (energy, energy.min(step.export_wh).min(step.local_export_wh))
        }),
    ];
    let mut lines = Vec::new();
    for (template, energy) in kinds {
        for run in runs(&household.plan, energy) {
            lines.push((run.from, line(view, household, texts, template, &run)));
        }
    }
    lines.sort_by_key(|(from, _)| *from);
    lines.into_iter().take(LINES_MAX).map(|(_, line)| line).collect()
}

fn line(view: &View, household: &Household, texts: &Texts, template: &str, run: &Run) -> String {
    let starts = |at: usize| household.plan.get(at).map(|step| clock(view, step.start));
    let from = starts(run.from).unwrap_or_default();
    let until = starts(run.until).unwrap_or_else(|| texts.plan_later.to_owned());
    let mut line = fill(template, &[&from, &until, &figures::kwh(run.energy_wh)]);
    if run.local_wh >= WORTH_A_LINE_WH {
        line.push_str(&fill(texts.plan_local, &[&figures::kwh(run.local_wh)]));
    }
    line
}

fn runs(plan: &[PlanStep], energy: Moved<'_>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let end = plan.first().map_or(0, |first| first.start.0.unix_ms().saturating_add(DAY_MS));
    for (at, step) in plan.iter().enumerate().take_while(|(_, step)| step.start.0.unix_ms() < end) {
        let (moved, local) = energy(step);
        if moved == 0 {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.until + PAUSE_MAX >= at => {
                run.until = at + 1;
                run.energy_wh += moved;
                run.local_wh += local;
            }
            _ => runs.push(Run { from: at, until: at + 1, energy_wh: moved, local_wh: local }),
        }
    }
    runs.retain(|run| run.energy_wh >= WORTH_A_LINE_WH);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(quarter: u64, vehicle_wh: u64, battery_wh: i64) -> PlanStep {
        PlanStep {
            start: api::Time::from_unix_ms(quarter * 900_000),
            load_wh: 100,
            pv_wh: 0,
            battery_wh,
            vehicle_wh,
            heat_wh: 0,
            curtailed_wh: 0,
            import_wh: 100 + vehicle_wh,
            export_wh: 0,
            supplier_import: 300_000,
            supplier_export: 80_000,
            local_import: 175_000,
            local_export: 165_000,
            local_import_wh: 400,
            local_export_wh: 0,
        }
    }

    #[test]
    fn what_a_device_does_with_short_pauses_is_one_line_and_what_is_small_is_none() {
        let plan = [
            step(0, 500, 0),
            step(1, 0, 0),
            step(2, 700, 0),
            step(3, 0, 0),
            step(4, 0, 0),
            step(5, 900, 0),
            step(6, 0, 60),
        ];
        let found = runs(&plan, &|step| (step.vehicle_wh, step.vehicle_wh.min(step.local_import_wh)));
        let expected = [
            Run { from: 0, until: 3, energy_wh: 1_200, local_wh: 800 },
            Run { from: 5, until: 6, energy_wh: 900, local_wh: 400 },
        ];
        assert_eq!(found, expected);
        assert!(runs(&plan, &|step| (step.battery_wh.max(0).unsigned_abs(), 0)).is_empty());
    }
}
