//! What the devices of a home should do in the next 48 hours.
//!
//! Each device is planned exactly against what the others take: the vehicle by the cheapest intervals before its deadline,
//! battery and heat by dynamic programming over the breakpoints of their costs (`storage`). Together they meet where the
//! home turns from giving to taking and at the connection's caps, so they are planned in turn until nothing changes;
//! each turn can only lower the cost. How far the result is from the optimum of all together is measured against a
//! linear program in `tests/plan/optimum.rs`.
//!
//! Rules beyond cost:
//! - A vehicle's minimum comes first, at once; its deadline is met whenever it can be, from the supplier and above the
//!   household's price limit if need be. What cannot be had in time is charged at full power until it is.
//! - Heat that is needed is always made, as far as power and connection allow.
//! - Devices obey the connection's caps. Load that nothing controls may be beyond them: then vehicle and heat stand still,
//!   and the battery does not charge.
//! - A battery below its reserve is filled up to it in the cheapest intervals of one day and gives nothing until then.
//! - Of equal prices, vehicle and heat take the earliest interval; the battery serves the home first, keeps what is not
//!   needed, and does not cycle for nothing.
//! - Sun is curtailed only where giving it costs money, or where the connection cannot carry it.
//! - What is left at the end is worth what a kWh will probably save: the median of the prices at which the home is left
//!   taking energy, in the battery less its wear. [`Plan::cost`] and [`Plan::cost_unplanned`] count it, so that a plan does
//!   not look cheap because it empties the battery.
//!
//! Where a home would be paid more for a Wh than it pays for one, or is paid for taking, costs are not convex. A device's plan
//! is then still one that can be carried out, and close to the best (`tests/plan/odd_prices.rs` measures it).

mod battery;
mod draft;
mod flexible;
mod follow;
mod physics;
mod slot;
mod storage;

use energy::Interval;

use crate::{Ahead, Devices, HORIZON, Plan, Reach, Standing, Step, Wishes};
use draft::{Draft, Part};
use flexible::Vehicle;
pub use follow::follow;
pub use physics::{advance, unplanned};
pub use slot::{GREEN_PREMIUM, INDEPENDENCE_PREMIUM, INDEPENDENT_EXPORT};
use slot::{Slot, wh};

/// How often the devices are planned in turn at the most. Nearly every home is settled after two.
const ROUNDS: usize = 4;

/// In which orders the devices are planned. What is planned first takes the sun first; which order is better depends on the
/// home, so each is tried and the best is kept: random homes with everything then lose half of what the first order alone
/// loses against the optimum.
const ORDERS: [[Part; 3]; 3] = [
    [Part::Vehicle, Part::Heat, Part::Battery],
    [Part::Heat, Part::Vehicle, Part::Battery],
    [Part::Heat, Part::Battery, Part::Vehicle],
];

/// Plans the devices of one home for the intervals `ahead`, the first of which is `from`; what lies beyond [`HORIZON`] is
/// left out. The same input gives the same plan. Energy above 1 GWh in one interval and prices beyond ±1 000 of the
/// currency per kWh are planned as if they were that.
#[must_use]
pub fn plan(
    devices: &Devices,
    wishes: &Wishes,
    standing: &Standing,
    from: Interval,
    ahead: &[Ahead],
) -> Plan {
    plan_within(devices, wishes, standing, from, ahead, &[])
}

/// [`plan`] where neighbours are expected to exchange no more with this home than `reach` in each interval, beginning where
/// `ahead` does; where there is none, as much as there is.
#[must_use]
pub fn plan_within(
    devices: &Devices,
    wishes: &Wishes,
    standing: &Standing,
    from: Interval,
    ahead: &[Ahead],
    reach: &[Reach],
) -> Plan {
    let ahead = ahead.get(..HORIZON).unwrap_or(ahead);
    let reach = |at: usize| reach.get(at).copied().unwrap_or_default();
    let slot =
        |(at, ahead)| Slot::within(at, devices, wishes, ahead, &reach(usize::try_from(at).unwrap_or(0)));
    let slots: Vec<Slot> = (0..).zip(ahead).map(slot).collect();
    let home = Home::new(devices, standing, from, &slots);
    let idle = unplanned(devices, standing, ahead);
    let steps = home.settled(Draft::of(&idle)).steps(&slots);
    let worth = slot::worth(&slots, Slot::paid_margin);
    let cost = |steps: &[Step]| physics::cost(devices, standing, (ahead, &slots), steps, worth);
    Plan { from, cost: cost(&steps), cost_unplanned: cost(&idle), steps }
}

/// What there is to plan.
struct Home<'a> {
    devices: &'a Devices,
    standing: &'a Standing,
    vehicle: Option<Vehicle>,
    slots: &'a [Slot],
    /// Intervals in 24 hours.
    day: usize,
    worth: i64,
}

impl<'a> Home<'a> {
    fn new(devices: &'a Devices, standing: &'a Standing, from: Interval, slots: &'a [Slot]) -> Self {
        let vehicle = devices.charger.zip(standing.session);
        Self {
            devices,
            standing,
            vehicle: vehicle.and_then(|(charger, session)| Vehicle::new(&charger, &session, from)),
            slots,
            day: usize::try_from(from.mtu().per_day()).unwrap_or(slots.len()),
            worth: slot::planned_worth(slots),
        }
    }

    /// The best of what the orders lead to, and not worse than leaving the devices alone where that breaks no rule.
    fn settled(&self, idle: Draft) -> Draft {
        let mut orders: Vec<Vec<Part>> =
            ORDERS.map(|order| order.into_iter().filter(|part| self.has(*part)).collect()).to_vec();
        orders.dedup();
        let filled = self.devices.battery.is_none_or(|battery| self.standing.battery >= battery.reserve);
        let idle = (filled && idle.is_carried(self.slots)).then_some(idle);
        let drafts = orders.iter().map(|order| self.settled_in(order)).chain(idle);
        let weighed = drafts.map(|draft| (self.burden(&draft), draft));
        let best = weighed.min_by_key(|draft| draft.0);
        best.map_or_else(|| Draft::still(self.slots.len()), |(_, draft)| draft)
    }

    fn has(&self, part: Part) -> bool {
        match part {
            Part::Vehicle => self.vehicle.is_some(),
            Part::Heat => self.devices.heat.is_some(),
            Part::Battery => self.devices.battery.is_some(),
        }
    }

    /// How bad a draft is: first by what the vehicle lacks at its deadline, then by what it costs and leaves undone.
    fn burden(&self, draft: &Draft) -> (i64, i128) {
        let missed = self.vehicle.as_ref().map_or(0, |vehicle| vehicle.missed(&draft.vehicle));
        (missed, draft.burden(self.devices, self.standing, self.slots, self.worth))
    }

    /// Plans the devices in turn until nothing changes, from heat as it is needed and nothing else.
    fn settled_in(&self, order: &[Part]) -> Draft {
        let mut draft = Draft::still(self.slots.len());
        if let Some(heat) = &self.devices.heat {
            draft.heat = flexible::heat_as_needed(heat, self.slots, &draft.rest(self.slots, Part::Heat));
        }
        let mut helped = false;
        // Each device, and what the others took when it was planned last.
        let mut turns: Vec<(Part, Vec<i64>)> = order.iter().map(|part| (*part, Vec::new())).collect();
        for _ in 0..ROUNDS {
            let mut settled = true;
            for (part, seen) in &mut turns {
                let rest = draft.rest(self.slots, *part);
                if rest != *seen {
                    helped = self.replan(*part, &rest, &mut draft).unwrap_or(helped);
                    *seen = rest;
                    settled = false;
                }
            }
            if settled {
                break;
            }
        }
        if helped && let Some(vehicle) = &self.vehicle {
            // The battery may not have had what the vehicle hoped for.
            draft.vehicle = vehicle.charge(self.slots, &draft.rest(self.slots, Part::Vehicle), 0).amounts;
        }
        draft
    }

    /// Plans one device against what the others take. Of a vehicle: whether it counts on the battery to stay within the
    /// connection's cap.
    fn replan(&self, part: Part, rest: &[i64], draft: &mut Draft) -> Option<bool> {
        let (slots, devices) = (self.slots, self.devices);
        match part {
            Part::Vehicle => {
                let help = devices.battery.map_or(0, |battery| wh(battery.discharge));
                let charging = self.vehicle.as_ref()?.charge(slots, rest, help);
                draft.vehicle = charging.amounts;
                return Some(charging.beyond);
            }
            Part::Heat => {
                let level = wh(self.standing.heat);
                draft.heat = flexible::heat(devices.heat.as_ref()?, level, slots, rest, self.worth);
            }
            Part::Battery => {
                let level = wh(self.standing.battery);
                let cell = devices.battery.as_ref()?;
                draft.battery = battery::battery(cell, level, slots, rest, self.day, self.worth);
            }
        }
        None
    }
}
