//! A home that behaves physically: recorded load and sun, simulated battery, vehicle and heat.
//!
//! | device | how it is modelled |
//! |---|---|
//! | battery | capacity, power and efficiency as recorded, losses on the way in, no self-discharge; a reserve of 10 %, at which it begins; each kWh it gives costs [`WEAR`] |
//! | vehicle | see [`crate::session`]; never discharged |
//! | heat | may run ahead of the recorded need by [`HEAT_STORE_HOURS`] of its rated power, without loss; begins at none |
//! | sun | behind a battery it can be curtailed, else not |
//!
//! The connection carries whatever all devices draw or give together, so its size never binds.

use agent::{Ahead, Battery, Charger, Devices, Heat, Prices, Standing, Step, advance, follow, unplanned};
use energy::{Interval, Price, WattHours};

use crate::dataset::{DemoHome, RecordedHome, energy_of};
use crate::session::{Stay, stays};

/// What a kWh out of a battery costs in wear: 150 of the currency per kWh of cells over 5 000 full cycles.
pub const WEAR: Price = Price::new(30_000);
/// How far heat may run ahead of need, in hours of rated power.
pub const HEAT_STORE_HOURS: u64 = 2;
/// Part of a battery that stays in it, in percent.
const RESERVE_PERCENT: u64 = 10;
/// Intervals of an hour.
const PER_HOUR: u64 = 4;

/// What was recorded for one interval, whatever devices do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Given {
    /// Load that nothing controls.
    pub load: WattHours,
    /// Sun before curtailment.
    pub pv: WattHours,
    /// What heat takes to stay where it is.
    pub heat: WattHours,
}

/// One home with its devices and what was recorded of it.
#[derive(Debug, Clone)]
pub struct Household {
    /// Where it stands.
    pub home: DemoHome,
    /// Its devices.
    pub devices: Devices,
    /// What its connection carries.
    pub connection: WattHours,
    first: Interval,
    given: Vec<Given>,
    stays: Vec<Stay>,
}

impl Household {
    /// A recorded home over the first `intervals` of its recording.
    #[must_use]
    pub fn new(recorded: &RecordedHome, first: Interval, intervals: usize, batteries: bool) -> Self {
        let RecordedHome { home, load_w, pv_w, battery_pv_w, heat_w, vehicle_w } = recorded;
        let [load, pv, behind, heat] =
            [load_w, pv_w, battery_pv_w, heat_w].map(|watts| energy_of(watts, watts.len()));
        let at = |energy: &[u64], at: usize| energy.get(at).copied().unwrap_or_default();
        let given = (0..intervals).map(|interval| Given {
            load: WattHours::new(at(&load, interval)),
            pv: WattHours::new(at(&pv, interval) + at(&behind, interval)),
            heat: WattHours::new(at(&heat, interval)),
        });
        Self {
            home: home.clone(),
            devices: devices_of(recorded, batteries),
            connection: connection_of(recorded),
            first,
            given: given.collect(),
            stays: stays(vehicle_w, first, intervals),
        }
    }

    /// What was recorded for an interval; nothing beyond the run.
    #[must_use]
    pub fn given(&self, at: usize) -> Given {
        self.given.get(at).copied().unwrap_or_default()
    }

    /// The recording's first interval.
    #[must_use]
    pub const fn first(&self) -> Interval {
        self.first
    }

    /// The stays of its vehicle.
    #[must_use]
    pub fn stays(&self) -> &[Stay] {
        &self.stays
    }

    /// True if there is anything an agent could move.
    #[must_use]
    pub fn is_flexible(&self) -> bool {
        !self.devices.is_empty()
    }

    /// All sun of an interval range.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.given.iter().map(|given| given.pv.get()).sum()
    }
}

fn devices_of(recorded: &RecordedHome, batteries: bool) -> Devices {
    let home = &recorded.home;
    // At least what was ever recorded, so that what was possible once stays possible.
    let power = |rated: u32, seen: &[u32]| {
        let most = seen.iter().copied().max().unwrap_or_default().max(rated);
        WattHours::new(u64::from(most).div_ceil(PER_HOUR))
    };
    let has_battery = batteries && home.battery_wh > 0;
    let capacity = u64::from(home.battery_wh);
    let battery_power = power(home.battery_w, &[]);
    Devices {
        battery: has_battery.then(|| Battery {
            capacity: WattHours::new(capacity),
            charge: battery_power,
            discharge: battery_power,
            efficiency_permille: home.battery_efficiency_permille,
            reserve: WattHours::new(capacity * RESERVE_PERCENT / 100),
            wear: WEAR,
        }),
        charger: (!recorded.vehicle_w.is_empty())
            .then(|| Charger { power: power(home.ev_w, &recorded.vehicle_w) }),
        heat: (!recorded.heat_w.is_empty()).then(|| Heat {
            power: power(home.heat_pump_w, &recorded.heat_w),
            store: WattHours::new(u64::from(home.heat_pump_w) * HEAT_STORE_HOURS),
        }),
        curtailable: has_battery && home.battery_pv_w > 0,
    }
}

/// Everything at once, whichever way.
fn connection_of(recorded: &RecordedHome) -> WattHours {
    let home = &recorded.home;
    let most = |watts: &[u32]| u64::from(watts.iter().copied().max().unwrap_or_default());
    let devices = devices_of(recorded, true);
    let battery = devices.battery.map_or(0, |battery| battery.charge.get());
    let takes = devices.charger.map_or(0, |charger| charger.power.get())
        + devices.heat.map_or(0, |heat| heat.power.get())
        + most(&recorded.load_w).max(u64::from(home.peak_w)).div_ceil(PER_HOUR);
    let gives = (most(&recorded.pv_w) + most(&recorded.battery_pv_w)).div_ceil(PER_HOUR);
    WattHours::new(takes.max(gives) + battery)
}

/// What the connection carried in one interval; one of both is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Taken.
    pub import: u64,
    /// Given.
    pub export: u64,
}

/// What devices did in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Out of the battery, Wh.
    pub discharged: u64,
    /// Sun given up, Wh.
    pub curtailed: u64,
    /// Vehicles that left with what they needed.
    pub deadlines_met: u32,
    /// Vehicles that did not.
    pub deadlines_missed: u32,
    /// What those lacked, Wh.
    pub missing_wh: u64,
}

/// How a home stands between two intervals.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its devices.
    pub standing: Standing,
    /// What they did so far.
    pub tally: Tally,
    next_stay: usize,
}

impl Running {
    /// Before the first interval: the battery at its reserve, heat at its lowest, no vehicle.
    #[must_use]
    pub fn new(household: &Household) -> Self {
        let battery = household.devices.battery.map_or(WattHours::ZERO, |battery| battery.reserve);
        Self { standing: Standing { battery, ..Standing::default() }, tally: Tally::default(), next_stay: 0 }
    }

    /// Vehicles leave and come as interval `at` begins.
    pub fn begin(&mut self, household: &Household, at: usize) {
        let now = household.first.index() + at as u64;
        if let Some(session) = self.standing.session.take_if(|session| session.deadline.index() <= now) {
            if session.needed.is_zero() {
                self.tally.deadlines_met += 1;
            } else {
                self.tally.deadlines_missed += 1;
                self.tally.missing_wh += session.needed.get();
            }
        }
        if let Some(stay) = household.stays.get(self.next_stay).filter(|stay| stay.from == at) {
            self.standing.session = Some(stay.session(household.first));
            self.next_stay += 1;
        }
    }

    /// Lives through interval `at` with what was planned for it, and expected when it was planned; returns what happened.
    pub fn carry_out(&mut self, household: &Household, at: usize, planned: &Step, expected: &Ahead) -> Step {
        let given = household.given(at);
        let step = realise(&household.devices, &self.standing, expected, planned, given);
        self.standing = advance(&household.devices, &self.standing, &step, given.heat);
        self.tally.discharged += step.discharge.get();
        self.tally.curtailed += step.curtailed.get();
        step
    }

    /// Lives through interval `at` as devices do without an agent.
    pub fn carry_on(&mut self, household: &Household, at: usize) -> Step {
        let certain = household.certain(at);
        let planned = unplanned(&household.devices, &self.standing, &[certain]);
        let planned = planned.first().copied().unwrap_or_default();
        self.carry_out(household, at, &planned, &certain)
    }
}

impl Household {
    /// What lies ahead if it is known exactly and prices do not matter.
    pub(crate) fn certain(&self, at: usize) -> Ahead {
        certain(self.given(at), self.connection)
    }
}

fn certain(given: Given, connection: WattHours) -> Ahead {
    let none = Price::ZERO;
    let prices = Prices {
        supplier_import: none,
        supplier_export: none,
        local_import: none,
        local_export: none,
        import_permille: 0,
        export_permille: 0,
    };
    let Given { load, pv, heat } = given;
    Ahead {
        load,
        pv,
        heat,
        prices,
        bought: WattHours::ZERO,
        sold: WattHours::ZERO,
        import_cap: connection,
        export_cap: connection,
    }
}

/// A plan's step with no more for vehicle and heat than they can take. Heat keeps the home within its comfort whatever was
/// planned: its need is made, and no more than its store holds.
#[must_use]
pub fn within_devices(devices: &Devices, standing: &Standing, planned: &Step, heat_need: WattHours) -> Step {
    let heat = devices.heat.map_or(WattHours::ZERO, |heat| {
        let (level, need) = (standing.heat.get(), heat_need.get());
        let least = need.saturating_sub(level);
        let most = heat.store.get().saturating_add(need).saturating_sub(level);
        WattHours::new(planned.heat.get().min(most).max(least).min(heat.power.get()))
    });
    let vehicle = devices.charger.map_or(WattHours::ZERO, |charger| {
        let needed = standing.session.map_or(WattHours::ZERO, |session| session.needed);
        planned.vehicle.min(charger.power).min(needed)
    });
    Step { heat, vehicle, ..*planned }
}

/// What a plan becomes when load, sun and need of heat are not what it expected ([`within_devices`], [`agent::follow`]).
#[must_use]
pub fn realise(
    devices: &Devices,
    standing: &Standing,
    expected: &Ahead,
    planned: &Step,
    given: Given,
) -> Step {
    let planned = within_devices(devices, standing, planned, given.heat);
    follow(devices, standing, expected, &planned, given.load, given.pv)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn wh(energy: u64) -> WattHours {
        WattHours::new(energy)
    }

    fn devices() -> Devices {
        Devices {
            battery: Some(Battery {
                capacity: wh(10_000),
                charge: wh(1_000),
                discharge: wh(1_000),
                efficiency_permille: 900,
                reserve: wh(1_000),
                wear: WEAR,
            }),
            charger: Some(Charger { power: wh(900) }),
            heat: Some(Heat { power: wh(500), store: wh(2_000) }),
            curtailable: true,
        }
    }

    fn given(load: u64, pv: u64, heat: u64) -> Given {
        Given { load: wh(load), pv: wh(pv), heat: wh(heat) }
    }

    fn half_full() -> Standing {
        Standing { battery: wh(5_000), ..Standing::default() }
    }

    fn live(standing: &Standing, planned: &Step, given: Given) -> Step {
        let expected = certain(Given::default(), wh(100_000));
        realise(&devices(), standing, &expected, planned, given)
    }

    /// Charge, discharge, import, export.
    fn flows(planned: Step, given: Given) -> [u64; 4] {
        let step = live(&half_full(), &planned, given);
        [step.charge, step.discharge, step.import, step.export].map(WattHours::get)
    }

    #[test]
    fn a_home_planned_to_stand_still_is_held_there_by_its_battery() {
        let still = Step { discharge: wh(200), ..Step::default() };
        assert_eq!(flows(still, given(300, 0, 0)), [0, 300, 0, 0]);
        assert_eq!(flows(still, given(300, 700, 0)), [400, 0, 0, 0]);
        assert_eq!(flows(still, given(1_500, 0, 0)), [0, 1_000, 500, 0], "as far as its power goes");
    }

    #[test]
    fn what_was_planned_with_the_grid_is_kept_and_never_turned_around() {
        let sells = Step { discharge: wh(800), export: wh(500), ..Step::default() };
        assert_eq!(flows(sells, given(400, 0, 0)), [0, 800, 0, 400]);
        assert_eq!(flows(sells, given(900, 0, 0)), [0, 900, 0, 0], "a sale does not become a purchase");
        let charges = Step { charge: wh(600), import: wh(800), ..Step::default() };
        assert_eq!(flows(charges, given(100, 0, 0)), [600, 0, 700, 0]);
        assert_eq!(
            flows(charges, given(0, 900, 0)),
            [900, 0, 0, 0],
            "sun is not sold while it charges from the grid"
        );
        let waits = Step { import: wh(300), ..Step::default() };
        assert_eq!(flows(waits, given(350, 0, 0)), [0, 0, 350, 0], "what is kept for later stays");
    }

    #[test]
    fn a_battery_gives_nothing_below_its_reserve_and_takes_nothing_above_its_capacity() {
        let standing = Standing { battery: wh(1_100), ..Standing::default() };
        let step = live(&standing, &Step::default(), given(800, 0, 0));
        assert_eq!((step.discharge, step.import), (wh(100), wh(700)));
        let standing = Standing { battery: wh(9_550), ..Standing::default() };
        let step = live(&standing, &Step::default(), given(0, 800, 0));
        // 501 Wh leave as much inside as 500.
        assert_eq!((step.charge, step.export), (wh(501), wh(299)));
        assert_eq!(advance(&devices(), &standing, &step, wh(0)).battery, wh(10_000));
    }

    #[test]
    fn heat_is_never_missing_and_never_beyond_its_store() {
        let made = |planned: u64, level: u64, need: u64| {
            let standing = Standing { heat: wh(level), ..Standing::default() };
            let planned = Step { heat: wh(planned), import: wh(1), ..Step::default() };
            live(&standing, &planned, given(0, 0, need)).heat.get()
        };
        assert_eq!(made(0, 0, 300), 300, "forgotten by the plan, made all the same");
        assert_eq!(made(0, 200, 300), 100);
        assert_eq!(made(500, 1_900, 100), 200, "no further ahead than its store");
        assert_eq!(made(900, 0, 0), 500, "no more than its power");
    }

    #[test]
    fn sun_is_given_up_only_for_what_should_not_be_exported() {
        let step = Step { curtailed: wh(400), ..Step::default() };
        let full = Standing { battery: wh(10_000), ..Standing::default() };
        let done = |pv: u64| live(&full, &step, given(100, pv, 0));
        assert_eq!((done(900).curtailed, done(900).export), (wh(800), wh(0)), "more sun than expected");
        assert_eq!((done(300).curtailed, done(300).export), (wh(200), wh(0)), "less sun than expected");
        assert_eq!((done(50).curtailed, done(50).import), (wh(0), wh(0)), "the battery serves the home");
    }
}
