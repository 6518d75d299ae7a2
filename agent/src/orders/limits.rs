//! Limits that follow from a plan: what a Wh is worth to the home where it is not traded forward.

use energy::Price;

use super::Desk;
use crate::home::{Ahead, Battery, Prices, Step};

/// What a Wh taken in an interval costs where it is not bought forward: from neighbours in part, the rest from the supplier.
pub(super) fn import_value(prices: &Prices) -> Price {
    mix(prices.local_import, prices.supplier_import, prices.import_permille)
}

/// What a Wh given brings where it is not sold forward.
pub(super) fn export_value(prices: &Prices) -> Price {
    mix(prices.local_export, prices.supplier_export, prices.export_permille)
}

fn mix(local: Price, supplier: Price, local_permille: u32) -> Price {
    let share = i128::from(local_permille.min(1_000));
    let sum = i128::from(local.get()) * share + i128::from(supplier.get()) * (1_000 - share);
    Price::new(i64::try_from(sum.div_euclid(1_000)).unwrap_or(supplier.get()))
}

/// The least a sale from the battery must bring: what the export would bring without it, what keeping the energy is worth, the
/// household's own limit. `None` without a battery.
pub(super) fn sell_limit(desk: &Desk<'_>, place: usize) -> Option<Price> {
    let battery = desk.devices.battery.as_ref()?;
    let anyway = export_value(&desk.ahead.get(place)?.prices);
    let keeping = keeping_value(desk, battery, place).unwrap_or(anyway);
    Some(anyway.max(keeping).max(desk.wishes.min_sell.unwrap_or(anyway)))
}

/// What a Wh that stays in the battery is worth at the home's side, `None` if the plan has no later use for it.
///
/// Up to the next charging it can be given in any interval in which the battery has power left: instead of an import, or for
/// an export. Wear is paid then as well as now. At the next charging it saves a Wh that need not be charged: what that costs ÷ efficiency,
/// and the wear of this sale.
fn keeping_value(desk: &Desk<'_>, battery: &Battery, place: usize) -> Option<Price> {
    let mut best: Option<Price> = None;
    for (step, ahead) in desk.plan.steps.iter().zip(desk.ahead).skip(place.saturating_add(1)) {
        if !step.charge.is_zero() {
            let saved = per_efficiency(taken_value(step, &ahead.prices), battery);
            return best.max(saved.add(battery.wear).ok());
        }
        if step.discharge < battery.discharge {
            best = best.max(Some(given_value(step, ahead)));
        }
    }
    best
}

/// What one Wh more from the battery would do in a planned step: less import, or more export.
fn given_value(step: &Step, ahead: &Ahead) -> Price {
    if step.import.is_zero() { export_value(&ahead.prices) } else { import_value(&ahead.prices) }
}

/// What one Wh into the battery costs in a planned step: import, or export that is forgone.
fn taken_value(step: &Step, prices: &Prices) -> Price {
    if step.import.is_zero() { export_value(prices) } else { import_value(prices) }
}

/// Energy is lost on the way in: at the battery's outlet a price per kWh is this much.
fn per_efficiency(price: Price, battery: &Battery) -> Price {
    let outlet = i128::from(price.get()) * 1_000 / i128::from(battery.efficiency_permille.max(1));
    Price::new(i64::try_from(outlet).unwrap_or(price.get()))
}

/// The most a purchase may cost: what the import would cost without it, the dearest way round it of each device that it is for, the
/// household's own limit. `None` if the plan takes nothing flexible from outside.
pub(super) fn buy_limit(desk: &Desk<'_>, place: usize) -> Option<Price> {
    let (step, ahead) = (desk.plan.steps.get(place)?, desk.ahead.get(place)?);
    let uses = [
        (!step.vehicle.is_zero()).then(|| vehicle_value(desk, place)),
        (!step.charge.is_zero()).then(|| storage_value(desk, place)),
        (!step.heat.is_zero()).then(|| heat_value(desk, place)),
    ];
    if uses.iter().all(Option::is_none) {
        return None;
    }
    let anyway = import_value(&ahead.prices);
    let cheapest = uses.into_iter().flatten().flatten().min().unwrap_or(anyway);
    Some(anyway.min(cheapest).min(desk.wishes.max_buy.unwrap_or(anyway)))
}

/// The dearest other interval in which the vehicle could charge before its deadline; `None` if there is no other.
fn vehicle_value(desk: &Desk<'_>, place: usize) -> Option<Price> {
    let (session, charger) = (desk.standing.session?, desk.devices.charger?);
    let until = session.deadline.index().saturating_sub(desk.plan.from.index());
    let until = usize::try_from(until).unwrap_or(usize::MAX);
    let others = desk.plan.steps.iter().zip(desk.ahead).enumerate().take(until);
    let others = others.filter(|(at, (step, _))| *at != place && step.vehicle < charger.power);
    others.map(|(_, (_, ahead))| import_value(&ahead.prices)).max()
}

/// The best that a Wh charged now does at any later discharge, losses and wear taken off.
fn storage_value(desk: &Desk<'_>, place: usize) -> Option<Price> {
    let battery = desk.devices.battery.as_ref()?;
    let later = desk.plan.steps.iter().zip(desk.ahead).skip(place.saturating_add(1));
    let gives = later.filter(|(step, _)| !step.discharge.is_zero());
    // A battery that serves the home gives instead of an import, else for an export.
    let best = gives.map(|(step, ahead)| {
        if step.export.is_zero() { import_value(&ahead.prices) } else { export_value(&ahead.prices) }
    });
    let net = best.max()?.sub(battery.wear).ok()?;
    let charged = i128::from(net.get()) * i128::from(battery.efficiency_permille.min(1_000)) / 1_000;
    i64::try_from(charged).ok().map(Price::new)
}

/// The dearest later interval in which heat could run instead: as long as a full store would last. `None` if it has none.
fn heat_value(desk: &Desk<'_>, place: usize) -> Option<Price> {
    let mut lasts = desk.devices.heat?.store.get();
    let mut dearest = None;
    for ahead in desk.ahead.iter().skip(place.saturating_add(1)) {
        if lasts == 0 {
            break;
        }
        lasts = lasts.saturating_sub(ahead.heat.get());
        dearest = dearest.max(Some(import_value(&ahead.prices)));
    }
    dearest
}
