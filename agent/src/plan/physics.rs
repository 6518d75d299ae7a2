//! What devices do to what they hold, and what they do when nobody plans for them.

use energy::{Money, WattHours};

use super::draft::product;
use super::slot::{Slot, energy, micro, wh};
use crate::{Ahead, Battery, Devices, Session, Standing, Step};

impl Battery {
    /// What 1 000 Wh that go in leave inside, kept between 1 and 1 000.
    pub(super) fn efficiency(&self) -> i64 {
        i64::from(self.efficiency_permille.clamp(1, 1_000))
    }

    /// What arrives inside of `taken` Wh: losses are on the way in, and a broken Wh is lost too.
    pub(super) fn stored(&self, taken: i64) -> i64 {
        taken * self.efficiency() / 1_000
    }

    /// The least it takes for `stored` Wh to arrive inside.
    pub(super) fn taken(&self, stored: i64) -> i64 {
        (stored * 1_000 + self.efficiency() - 1) / self.efficiency()
    }

    /// The most it takes for no more than `stored` Wh to arrive inside.
    pub(super) fn most_taken(&self, stored: i64) -> i64 {
        self.taken(stored + 1) - 1
    }
}

/// How devices stand after one step: the physics that plans, simulated devices and simulations share.
///
/// - A battery gains ⌊charge × efficiency⌋ Wh, at most up to its capacity, and loses what it gives; it is never below 0.
/// - A vehicle needs what it was given less. It stays at the charger: the caller knows when it leaves.
/// - Heat gains what its device took and loses `heat_need`, within 0 and its store. Need that is not served at 0 is lost
///   comfort; it is not made up for later.
///
/// What is said to be in a store beyond its size counts as full; what is held for a device that is not there stays.
#[must_use]
pub fn advance(devices: &Devices, standing: &Standing, step: &Step, heat_need: WattHours) -> Standing {
    let battery = devices.battery.map_or(standing.battery, |battery| {
        let held = wh(standing.battery).min(wh(battery.capacity));
        let filled = (held + battery.stored(wh(step.charge))).min(wh(battery.capacity));
        energy(filled - wh(step.discharge))
    });
    let heat = devices.heat.map_or(standing.heat, |heat| {
        let held = wh(standing.heat).min(wh(heat.store));
        energy((held + wh(step.heat) - wh(heat_need)).clamp(0, wh(heat.store)))
    });
    let session = standing.session.map(|session| Session {
        needed: session.needed.saturating_sub(step.vehicle),
        minimum: session.minimum.saturating_sub(step.vehicle),
        ..session
    });
    Standing { battery, session, heat }
}

/// What the devices do in each interval without an agent. Nobody tells them a price, a cap or what was traded forward:
/// the vehicle charges at full power until it needs nothing more, heat is made when it is needed, and the battery takes
/// what the sun leaves over and gives it to the home, not below its reserve. No sun is curtailed.
#[must_use]
pub fn unplanned(devices: &Devices, standing: &Standing, ahead: &[Ahead]) -> Vec<Step> {
    let mut standing = *standing;
    let step = |ahead: &Ahead| {
        let step = unplanned_step(devices, &standing, ahead);
        standing = advance(devices, &standing, &step, ahead.heat);
        step
    };
    ahead.iter().map(step).collect()
}

fn unplanned_step(devices: &Devices, standing: &Standing, ahead: &Ahead) -> Step {
    let needed = standing.session.map_or(0, |session| wh(session.needed));
    let vehicle = devices.charger.map_or(0, |charger| wh(charger.power).min(needed));
    let heat = devices.heat.map_or(0, |heat| wh(heat.power).min(wh(ahead.heat)));
    let net = wh(ahead.load) - wh(ahead.pv) + vehicle + heat;
    let battery = devices.battery.map_or(0, |battery| {
        let held = wh(standing.battery).min(wh(battery.capacity));
        let space = battery.taken(wh(battery.capacity) - held);
        let full = wh(battery.charge).min(space);
        let empty = wh(battery.discharge).min((held - wh(battery.reserve)).max(0));
        (-net).clamp(-empty, full)
    });
    Step { vehicle: energy(vehicle), heat: energy(heat), ..battery_step(battery, net) }
}

/// The battery's part of a step, and what the connection then carries; `net` is without the battery.
pub(super) fn battery_step(battery: i64, net: i64) -> Step {
    let net = net + battery;
    Step {
        charge: energy(battery),
        discharge: energy(-battery),
        import: energy(net),
        export: energy(-net),
        ..Step::default()
    }
}

/// What one step costs, wear included: what the connection takes beyond what was bought forward, or gives short of what
/// was sold, is bought at the expected price; what it gives beyond what was sold, or takes short of what was bought, is
/// sold at it.
pub(super) fn cost_of(devices: &Devices, slot: &Slot, step: &Step) -> i128 {
    let wear = devices.battery.map_or(0, |battery| micro(battery.wear));
    slot.paid(wh(step.import) - wh(step.export)) + product(wear, wh(step.discharge))
}

/// What steps cost over the horizon, less what they leave in battery and heat store beyond what was there, at `worth` µ
/// per kWh.
pub(super) fn cost(
    devices: &Devices,
    standing: &Standing,
    (ahead, slots): (&[Ahead], &[Slot]),
    steps: &[Step],
    worth: i64,
) -> Money {
    let mut last = *standing;
    let mut paid = 0_i128;
    for ((ahead, slot), step) in ahead.iter().zip(slots).zip(steps) {
        paid += cost_of(devices, slot, step);
        last = advance(devices, &last, step, ahead.heat);
    }
    let kept = devices.battery.map_or(0, |battery| {
        let held = wh(standing.battery).min(wh(battery.capacity));
        product(stored_worth(&battery, worth), wh(last.battery) - held)
    });
    let warmth =
        devices.heat.map_or(0, |heat| product(worth, wh(last.heat) - wh(standing.heat).min(wh(heat.store))));
    Money::new(paid - kept - warmth)
}

/// What a kWh in the battery is worth after the horizon, µ: what it saves when it is given, less the wear.
pub(super) fn stored_worth(battery: &Battery, worth: i64) -> i64 {
    (worth - micro(battery.wear)).max(0)
}
