//! The household's agent over the API, as documents; what is shown of it on the page is made from them.

use agent::{Ahead, Control, Goal, HORIZON, Reach, Step, Verdict};
use api::{
    CommandRow, ForecastFigures, Household, HouseholdDevices, HouseholdTrading, PlanStep, PlannedOrder,
    SCHEMA_VERSION, Side, Time,
};
use axum::Json;
use axum::extract::State;
use energy::{Interval, Money};
use ledger::Hash32;

use super::Served;
use super::routes::{Answer, ApiError};
use crate::config::household::GOALS;
use crate::household::View;

/// `GET /api/v1/household`
pub(super) async fn household(State(served): State<Served>) -> Answer<Household> {
    if served.state.household.is_none() {
        return Err(ApiError::Absent("this home has no devices that its node plans for"));
    }
    shown(&served).map(Json).ok_or(ApiError::Busy("the first plan is being made; try again in a minute"))
}

/// What the agent shows; `None` without one, and before its first plan.
pub(super) fn shown(served: &Served) -> Option<Household> {
    let view = served.state.household.as_ref()?.borrow().clone()?;
    Some(document(&view, served.state.live.currency()))
}

/// What a view of the agent says as a document.
pub(super) fn document(view: &View, currency: &str) -> Household {
    let plan = &view.plan;
    Household {
        schema_version: SCHEMA_VERSION,
        currency: currency.to_owned(),
        goal: goal_word(view.wishes.goal).to_owned(),
        max_buy: view.wishes.max_buy.map(energy::Price::get),
        min_sell: view.wishes.min_sell.map(energy::Price::get),
        trial: view.trial,
        devices: devices(view),
        planned_from: Time(view.interval.start()),
        expected_cost_n: nano(plan.cost),
        expected_cost_unplanned_n: nano(plan.cost_unplanned),
        plan: steps(view),
        forecast: ForecastFigures {
            days: view.days,
            load_error_wh: view.errors.load.map(|error| error.mean_absolute),
            sun_error_wh: view.errors.sun.map(|error| error.mean_absolute),
            summary: view.errors.to_string(),
        },
        trading: HouseholdTrading {
            on: view.trading,
            month_result_n: nano(view.stop_loss.result),
            stopped: view.stop_loss.stopped,
            rests: view.rests,
            open: view.open.iter().map(order).collect(),
        },
        commands: view.verdicts.iter().map(command).collect(),
        troubles: view.troubles.clone(),
    }
}

fn goal_word(goal: Goal) -> &'static str {
    GOALS.iter().find(|(_, known)| *known == goal).map_or("save-money", |(word, _)| word)
}

/// A sum of two days fits by far; beyond the range it is cut.
fn nano(money: Money) -> i64 {
    i64::try_from(money.get()).unwrap_or(if money.is_negative() { i64::MIN } else { i64::MAX })
}

fn devices(view: &View) -> HouseholdDevices {
    let (devices, standing) = (&view.devices, &view.standing);
    let session = standing.session.filter(|_| devices.charger.is_some());
    HouseholdDevices {
        battery_wh: devices.battery.map(|_| standing.battery.get()),
        battery_capacity_wh: devices.battery.map(|battery| battery.capacity.get()),
        charger: devices.charger.is_some(),
        vehicle_needs_wh: session.map(|session| session.needed.get()),
        vehicle_ready_by: session.map(|session| Time(session.deadline.start())),
        heat_ahead_wh: devices.heat.map(|_| standing.heat.get()),
    }
}

fn steps(view: &View) -> Vec<PlanStep> {
    let mut interval = view.interval;
    let rows = view.plan.steps.iter().zip(&view.ahead).zip(&view.reach).take(HORIZON);
    let step = |((step, ahead), reach)| {
        let row = plan_step(interval, step, ahead, reach);
        interval = interval.next();
        row
    };
    rows.map(step).collect()
}

fn plan_step(interval: Interval, step: &Step, ahead: &Ahead, reach: &Reach) -> PlanStep {
    PlanStep {
        start: Time(interval.start()),
        load_wh: ahead.load.get(),
        pv_wh: ahead.pv.get(),
        battery_wh: step.charge.get().cast_signed() - step.discharge.get().cast_signed(),
        vehicle_wh: step.vehicle.get(),
        heat_wh: step.heat.get(),
        curtailed_wh: step.curtailed.get(),
        import_wh: step.import.get(),
        export_wh: step.export.get(),
        supplier_import: ahead.prices.supplier_import.get(),
        supplier_export: ahead.prices.supplier_export.get(),
        local_import: ahead.prices.local_import.get(),
        local_export: ahead.prices.local_export.get(),
        local_import_wh: reach.import.get(),
        local_export_wh: reach.export.get(),
    }
}

fn order(open: &agent::OpenOffer) -> PlannedOrder {
    PlannedOrder {
        id: Hash32(open.id).hex(),
        interval_start: Time(open.interval.start()),
        side: match open.side {
            market::Side::Buy => Side::Buy,
            market::Side::Sell => Side::Sell,
        },
        price: open.price.get(),
        quantity_wh: open.quantity.get(),
    }
}

fn command(verdict: &Verdict) -> CommandRow {
    let control: Control = verdict.command.control;
    CommandRow {
        at: Time(verdict.at),
        sequence: verdict.command.sequence,
        expires: Time(verdict.command.expires),
        control: control.to_string(),
        refused: verdict.refused.map(|refusal| refusal.to_string()),
    }
}
