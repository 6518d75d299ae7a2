//! What devices do when an interval brings something else than was expected.

use energy::WattHours;

use super::physics::battery_step;
use super::slot::{Slot, energy, wh};
use crate::{Ahead, Battery, Devices, Standing, Step, Wishes};

/// The planned `step` for what really comes: `load` and `pv` in place of what `ahead` expected. A real inverter does the
/// same from second to second.
///
/// Vehicle and heat do what was planned, as far as the connection's cap leaves room, heat first. What differs is the
/// battery's, so that a wrong forecast neither buys nor sells for nothing:
/// - planned to leave the home neither buying nor selling (counted from its forward position): the battery keeps it so;
/// - planned to buy: the battery does what was planned, but takes what the home would otherwise sell;
/// - planned to sell: the battery does what was planned, but gives what the home would otherwise buy;
///
/// all within its power, its reserve, what it holds and the caps. Sun is curtailed to the planned export where curtailing
/// was planned, and else to what the connection may give. If everything comes as expected, the step is the planned one.
#[must_use]
pub fn follow(
    devices: &Devices,
    standing: &Standing,
    ahead: &Ahead,
    step: &Step,
    load: WattHours,
    pv: WattHours,
) -> Step {
    let really = Ahead { load, pv, ..*ahead };
    let slot = Slot::new(0, devices, &Wishes::default(), &really);
    // What the battery gives makes room for vehicle and heat, as it was planned to.
    let room = slot.high - slot.base + devices.battery.map_or(0, |battery| given(&battery, standing, step));
    let heat = wh(step.heat).min(room);
    let vehicle = wh(step.vehicle).min(room - heat);
    let rest = slot.base + heat + vehicle;
    let battery = devices
        .battery
        .map_or(0, |battery| within(&battery, wh(standing.battery), wanted(ahead, step, rest), &slot, rest));
    let curtailed = if devices.curtailable { curtailed(&really, step, &slot, rest + battery) } else { 0 };
    Step {
        vehicle: energy(vehicle),
        heat: energy(heat),
        curtailed: energy(curtailed),
        ..battery_step(battery, rest + curtailed)
    }
}

/// What the battery should take (negative: give) where the rest of the home takes `rest`.
fn wanted(ahead: &Ahead, step: &Step, rest: i64) -> i64 {
    let position = wh(ahead.bought) - wh(ahead.sold);
    let planned = wh(step.charge) - wh(step.discharge);
    let net = wh(step.import) - wh(step.export) - wh(step.curtailed);
    let level = position - rest;
    match net.cmp(&position) {
        std::cmp::Ordering::Equal => level,
        std::cmp::Ordering::Greater => planned.max(level),
        std::cmp::Ordering::Less => planned.min(level),
    }
}

/// What it gives of what was planned.
fn given(battery: &Battery, standing: &Standing, step: &Step) -> i64 {
    wh(step.discharge).min(spare(battery, wh(standing.battery)))
}

/// What it holds above its reserve.
fn spare(battery: &Battery, held: i64) -> i64 {
    (held.min(wh(battery.capacity)) - wh(battery.reserve)).max(0)
}

/// As much of `wanted` as the battery can and may.
fn within(battery: &Battery, held: i64, wanted: i64, slot: &Slot, rest: i64) -> i64 {
    let space = battery.most_taken((wh(battery.capacity) - held).max(0));
    let full = wh(battery.charge).min(space).min((slot.high - rest).max(0));
    let empty = wh(battery.discharge).min(spare(battery, held)).min((rest - slot.low()).max(0));
    // Vehicle and heat may count on it.
    wanted.min(slot.high - rest).clamp(-empty, full)
}

/// How much sun is given up at this net.
fn curtailed(ahead: &Ahead, step: &Step, slot: &Slot, net: i64) -> i64 {
    let carried = -net - wh(ahead.export_cap);
    let planned = match (step.curtailed.is_zero(), step.import.is_zero()) {
        (true, _) => 0,
        (false, true) => -net - wh(step.export),
        (false, false) => wh(step.curtailed).min(slot.high - net),
    };
    carried.max(planned).clamp(0, wh(ahead.pv))
}
