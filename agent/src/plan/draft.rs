//! A plan in the making: what each device takes, and what that amounts to.

use super::physics::{battery_step, stored_worth};
use super::slot::{Slot, energy, micro, wh};
use crate::{Devices, Standing, Step};

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Vehicle,
    Heat,
    Battery,
}

/// What each device takes in each interval (a battery that gives: negative).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) vehicle: Vec<i64>,
    pub(super) heat: Vec<i64>,
    pub(super) battery: Vec<i64>,
}

impl Draft {
    /// Nothing moves.
    pub(super) fn still(intervals: usize) -> Self {
        let nothing = vec![0; intervals];
        Self { vehicle: nothing.clone(), heat: nothing.clone(), battery: nothing }
    }

    /// What steps move.
    pub(super) fn of(steps: &[Step]) -> Self {
        Self {
            vehicle: steps.iter().map(|step| wh(step.vehicle)).collect(),
            heat: steps.iter().map(|step| wh(step.heat)).collect(),
            battery: steps.iter().map(|step| wh(step.charge) - wh(step.discharge)).collect(),
        }
    }

    /// The home's net without one of the devices.
    pub(super) fn rest(&self, slots: &[Slot], without: Part) -> Vec<i64> {
        let mut rest: Vec<i64> = slots.iter().map(|slot| slot.base).collect();
        let parts =
            [(Part::Vehicle, &self.vehicle), (Part::Heat, &self.heat), (Part::Battery, &self.battery)];
        for (_, amounts) in parts.into_iter().filter(|part| part.0 != without) {
            rest.iter_mut().zip(amounts).for_each(|(rest, amount)| *rest += amount);
        }
        rest
    }

    /// Interval by interval: vehicle, heat, battery.
    fn amounts(&self) -> impl Iterator<Item = (i64, i64, i64)> + '_ {
        let devices = self.vehicle.iter().zip(&self.heat).zip(&self.battery);
        devices.map(|((vehicle, heat), battery)| (*vehicle, *heat, *battery))
    }

    pub(super) fn steps(&self, slots: &[Slot]) -> Vec<Step> {
        let step = |((vehicle, heat, battery), slot): ((i64, i64, i64), &Slot)| {
            let rest = slot.base + vehicle + heat;
            let curtailed = slot.curtailed(rest + battery);
            Step {
                vehicle: energy(vehicle),
                heat: energy(heat),
                curtailed: energy(curtailed),
                ..battery_step(battery, rest + curtailed)
            }
        };
        self.amounts().zip(slots).map(step).collect()
    }

    /// True if the connection may carry it.
    pub(super) fn is_carried(&self, slots: &[Slot]) -> bool {
        let within = |((vehicle, heat, battery), slot): ((i64, i64, i64), &Slot)| {
            (slot.low()..=slot.high).contains(&(slot.base + vehicle + heat + battery))
        };
        self.amounts().zip(slots).all(within)
    }

    /// What the plan costs as the household's goal and limits see it, n: of two drafts the lower one is better.
    pub(super) fn burden(&self, devices: &Devices, standing: &Standing, slots: &[Slot], worth: i64) -> i128 {
        let wear = devices.battery.map_or(0, |battery| micro(battery.wear));
        let mut burden = 0;
        for ((vehicle, heat, battery), slot) in self.amounts().zip(slots) {
            let net = slot.base + vehicle + heat + battery;
            burden += slot.cost(net) + slot.barred(net - vehicle - heat - battery.max(0), net);
            burden += product(wear, (-battery).max(0));
        }
        burden - self.kept(devices, standing, slots, worth)
    }

    /// What is left at the end, at `worth`, and what need for heat was not served, at a price that forbids it.
    fn kept(&self, devices: &Devices, standing: &Standing, slots: &[Slot], worth: i64) -> i128 {
        let kept = devices.battery.map_or(0, |battery| {
            let gained: i64 =
                self.battery.iter().map(|moved| (*moved).min(0) + battery.stored((*moved).max(0))).sum();
            product(stored_worth(&battery, worth), gained)
        });
        let warmth = devices.heat.map_or(0, |heat| {
            let mut unserved = 0;
            let mut level = wh(standing.heat).min(wh(heat.store));
            for (taken, slot) in self.heat.iter().zip(slots) {
                let reached = level + taken - slot.heat_need;
                unserved -= reached.min(0);
                level = reached.max(0);
            }
            product(worth, level) - Slot::forbidden(unserved)
        });
        kept + warmth
    }
}

/// µ per kWh × Wh = n.
pub(super) fn product(price: i64, energy: i64) -> i128 {
    i128::from(price) * i128::from(energy)
}
