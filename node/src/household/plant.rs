//! Simulated devices of one home: for the demo, and for trying things out beside a real meter.
//!
//! What they do in an interval follows from what they were told last, by the physics that plans and simulations use
//! ([`agent::advance`], [`obey`]). They live when somebody lets them: [`Plant::live`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::{Control, Devices, Kind, Standing, Step, advance};
use energy::{Mtu, WattHours};
use sim::home::Given;

use super::device::{Answer, Counted, Device, DeviceError, DeviceState};
use super::obey::obey;

/// The devices of one home, how they stand and what they were told.
#[derive(Debug, Clone)]
pub struct Plant {
    devices: Devices,
    mtu: Mtu,
    /// How they stand.
    pub standing: Standing,
    told: BTreeMap<Kind, Control>,
    counted: BTreeMap<Kind, Counted>,
}

/// A plant that its devices and whoever lets it live share.
pub type SharedPlant = Arc<Mutex<Plant>>;

/// Locks a plant. What a thread left behind that broke off is still a plant.
pub fn lock(plant: &SharedPlant) -> MutexGuard<'_, Plant> {
    plant.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plant {
    /// Devices that stand like this and were told nothing.
    #[must_use]
    pub fn new(devices: Devices, standing: Standing, mtu: Mtu) -> Self {
        Self { devices, mtu, standing, told: BTreeMap::new(), counted: BTreeMap::new() }
    }

    /// One interval passes in which load, sun and heat were like this.
    pub fn live(&mut self, given: Given) -> Step {
        let step = obey(&self.devices, &self.standing, &self.asked(given), self.export_limit(), given);
        self.standing = advance(&self.devices, &self.standing, &step, given.heat);
        let pv = given.pv.saturating_sub(step.curtailed);
        let mut count = |kind, taken: WattHours, giving: WattHours| {
            let counted = self.counted.entry(kind).or_default();
            counted.taken = WattHours::new(counted.taken.get().saturating_add(taken.get()));
            counted.given = WattHours::new(counted.given.get().saturating_add(giving.get()));
        };
        count(Kind::Battery, step.charge, step.discharge);
        count(Kind::Charger, step.vehicle, WattHours::ZERO);
        count(Kind::Heat, step.heat, WattHours::ZERO);
        count(Kind::Inverter, WattHours::ZERO, pv);
        step
    }

    /// Tells a device what to do from now on.
    pub fn tell(&mut self, control: Control) {
        self.told.insert(control.kind(), control);
    }

    /// What heat is taken to need in any interval where nobody knows: a fifth of its power.
    #[must_use]
    pub fn usual_heat(&self) -> WattHours {
        WattHours::new(self.devices.heat.map_or(0, |heat| heat.power.get() / 5))
    }

    /// What was told, as a step of a plan. A device that was told nothing does as it does without an agent.
    fn asked(&self, given: Given) -> Step {
        let energy = |watts| self.energy(watts);
        let full = |power: Option<WattHours>| power.unwrap_or(WattHours::ZERO);
        let mut step = Step {
            vehicle: full(self.devices.charger.map(|charger| charger.power)),
            heat: given.heat,
            ..Step::default()
        };
        // Any flow that is allowed says to the physics that this much and no more is asked of the battery.
        let allowed = WattHours::new(1);
        for control in self.told.values() {
            match *control {
                Control::Charge(watts) => {
                    (step.charge, step.import, step.export) = (energy(watts), allowed, allowed);
                }
                Control::Discharge(watts) => {
                    (step.discharge, step.import, step.export) = (energy(watts), allowed, allowed);
                }
                Control::ChargeAtLeast(watts) => (step.charge, step.import) = (energy(watts), allowed),
                Control::ChargeAtMost(watts) => (step.charge, step.export) = (energy(watts), allowed),
                Control::DischargeAtLeast(watts) => (step.discharge, step.export) = (energy(watts), allowed),
                Control::DischargeAtMost(watts) => (step.discharge, step.import) = (energy(watts), allowed),
                Control::Vehicle(watts) => step.vehicle = energy(watts),
                Control::Heat(watts) => step.heat = energy(watts),
                Control::HeatOff => step.heat = WattHours::ZERO,
                Control::HeatOn => step.heat = full(self.devices.heat.map(|heat| heat.power)),
                Control::ExportLimit(_) | Control::PvLimit(_) | Control::Release(_) => {}
            }
        }
        step
    }

    /// What the inverter was told that the home may give at the most.
    fn export_limit(&self) -> Option<WattHours> {
        match self.told.get(&Kind::Inverter) {
            Some(Control::ExportLimit(watts)) => Some(self.energy(*watts)),
            _ => None,
        }
    }

    /// What a power comes to in an interval.
    fn energy(&self, watts: u32) -> WattHours {
        WattHours::new(u64::from(watts) * u64::from(self.mtu.minutes()) / 60)
    }
}

/// One device of a plant.
#[derive(Debug, Clone)]
pub struct Simulated {
    plant: SharedPlant,
    kind: Kind,
    rated_w: u32,
}

impl Simulated {
    /// Every device of a plant.
    #[must_use]
    pub fn all(plant: &SharedPlant) -> Vec<Self> {
        let Plant { devices, mtu, .. } = &*lock(plant);
        let rated = |energy: WattHours| {
            u32::try_from(energy.get() * 60 / u64::from(mtu.minutes())).unwrap_or(u32::MAX)
        };
        let battery =
            devices.battery.map(|battery| (Kind::Battery, rated(battery.charge.max(battery.discharge))));
        let charger = devices.charger.map(|charger| (Kind::Charger, rated(charger.power)));
        let heat = devices.heat.map(|heat| (Kind::Heat, rated(heat.power)));
        // An inverter is told what the whole home may give.
        let inverter = devices.curtailable.then_some((Kind::Inverter, u32::MAX));
        let all = [battery, charger, heat, inverter].into_iter().flatten();
        all.map(|(kind, rated_w)| Self { plant: plant.clone(), kind, rated_w }).collect()
    }

    fn answer(&self) -> DeviceState {
        let standing = lock(&self.plant).standing;
        match self.kind {
            Kind::Battery => DeviceState::Battery { stored: standing.battery },
            Kind::Charger => DeviceState::Charger { session: standing.session },
            Kind::Heat => DeviceState::Heat { ahead: standing.heat },
            Kind::Inverter => DeviceState::Inverter,
        }
    }

    fn tell(&self, control: Control) -> Result<(), DeviceError> {
        if matches!(control, Control::PvLimit(_)) {
            let why = "a simulated inverter can be limited in what it gives away only".to_owned();
            return Err(DeviceError { device: "inverter", what: "told", why });
        }
        lock(&self.plant).tell(control);
        Ok(())
    }
}

impl Device for Simulated {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn rated_w(&self) -> u32 {
        self.rated_w
    }

    fn state(&mut self) -> Answer<'_, DeviceState> {
        let state = self.answer();
        Box::pin(async move { Ok(state) })
    }

    fn set(&mut self, control: Control) -> Answer<'_, ()> {
        let told = self.tell(control);
        Box::pin(async move { told })
    }

    fn counted(&mut self) -> Answer<'_, Option<Counted>> {
        let counted = lock(&self.plant).counted.get(&self.kind).copied().unwrap_or_default();
        Box::pin(async move { Ok(Some(counted)) })
    }
}

#[cfg(test)]
mod tests {
    use agent::{Battery, Charger, Session};
    use energy::{Interval, Price};

    use super::*;

    fn wh(energy: u64) -> WattHours {
        WattHours::new(energy)
    }

    fn plant() -> SharedPlant {
        let battery = Battery {
            capacity: wh(10_000),
            charge: wh(1_000),
            discharge: wh(1_000),
            efficiency_permille: 900,
            reserve: wh(1_000),
            wear: Price::ZERO,
        };
        let devices = Devices {
            battery: Some(battery),
            charger: Some(Charger { power: wh(2_000) }),
            heat: None,
            curtailable: true,
        };
        let deadline = Interval::from_index(2_000, Mtu::Min15);
        let session = Some(Session { needed: wh(3_000), minimum: wh(0), deadline });
        let standing = Standing { battery: wh(5_000), session, heat: wh(0) };
        Arc::new(Mutex::new(Plant::new(devices, standing, Mtu::Min15)))
    }

    fn told(plant: &SharedPlant, controls: &[Control]) {
        for control in controls {
            let device = Simulated::all(plant).into_iter().find(|device| device.kind == control.kind());
            device.unwrap().tell(*control).unwrap();
        }
    }

    fn given(load: u64, pv: u64) -> Given {
        Given { load: wh(load), pv: wh(pv), heat: wh(0) }
    }

    #[test]
    fn left_to_themselves_the_battery_serves_the_home_and_the_car_charges_at_once() {
        let plant = plant();
        let step = lock(&plant).live(given(300, 0));
        assert_eq!((step.vehicle.get(), step.discharge.get(), step.import.get()), (2_000, 1_000, 1_300));
        let step = lock(&plant).live(given(300, 2_500));
        assert_eq!((step.vehicle.get(), step.charge.get(), step.export.get()), (1_000, 1_000, 200));
        assert_eq!(lock(&plant).standing.battery, wh(4_900));
    }

    #[test]
    fn a_battery_keeps_to_what_it_was_told_and_to_the_way_the_connection_may_go() {
        let lived = |control, load, pv| {
            let plant = plant();
            told(&plant, &[Control::Vehicle(0), control]);
            let step = lock(&plant).live(given(load, pv));
            (step.charge.get(), step.discharge.get(), step.import.get(), step.export.get())
        };
        assert_eq!(lived(Control::ChargeAtLeast(2_000), 300, 0), (500, 0, 800, 0));
        assert_eq!(lived(Control::ChargeAtLeast(2_000), 0, 700), (700, 0, 0, 0));
        assert_eq!(lived(Control::ChargeAtMost(2_000), 0, 700), (500, 0, 0, 200));
        assert_eq!(lived(Control::ChargeAtMost(2_000), 300, 0), (0, 300, 0, 0));
        assert_eq!(lived(Control::DischargeAtLeast(2_000), 700, 0), (0, 700, 0, 0));
        assert_eq!(lived(Control::DischargeAtLeast(2_000), 300, 0), (0, 500, 0, 200));
        assert_eq!(lived(Control::DischargeAtMost(2_000), 700, 0), (0, 500, 200, 0));
        assert_eq!(lived(Control::DischargeAtMost(2_000), 300, 0), (0, 300, 0, 0));
        assert_eq!(lived(Control::Charge(2_000), 300, 0), (500, 0, 800, 0));
        assert_eq!(lived(Control::Discharge(2_000), 0, 0), (0, 500, 0, 500));
    }

    #[test]
    fn an_inverter_gives_no_more_away_than_it_was_told() {
        let plant = plant();
        let battery = Control::ChargeAtMost(0);
        told(&plant, &[Control::Vehicle(0), battery, Control::ExportLimit(400)]);
        let step = lock(&plant).live(given(100, 900));
        assert_eq!((step.export.get(), step.curtailed.get()), (100, 700));
        told(&plant, &[Control::Release(Kind::Inverter)]);
        assert_eq!(lock(&plant).live(given(100, 900)).export, wh(800));
    }

    #[tokio::test]
    async fn devices_say_how_they_stand_and_what_passed_them() {
        let plant = plant();
        lock(&plant).live(given(300, 500));
        for mut device in Simulated::all(&plant) {
            let counted = device.counted().await.unwrap().unwrap();
            let expected = match device.kind() {
                Kind::Battery => (0, 1_000),
                Kind::Charger => (2_000, 0),
                Kind::Heat => (0, 0),
                Kind::Inverter => (0, 500),
            };
            assert_eq!((counted.taken.get(), counted.given.get()), expected);
            let again = counted.since(&counted);
            assert_eq!(again, Counted::default());
        }
        let mut battery = Simulated::all(&plant).remove(0);
        assert_eq!(battery.state().await.unwrap(), DeviceState::Battery { stored: wh(4_000) });
        assert!(battery.set(Control::PvLimit(5)).await.is_err());
    }
}
