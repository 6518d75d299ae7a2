//! What physically happens on the street: recorded load and sun, simulated batteries, vehicles and heat pumps, and what
//! the meters count of it.
//!
//! Devices do what their home's agent told them, by the physics that plans use ([`crate::household::plant`]); those that
//! were told nothing do as they do without an agent. The days recorded before the demo's day pass without agents: they
//! are what the homes' agents know when the demo begins. Vehicles come and leave as recorded charging says
//! ([`sim::session`]).

use std::sync::{Arc, Mutex};

use agent::{Alike, Did, Seen, Settled, Step, Totals};
use anyhow::Context;
use energy::{HomeId, Interval, Money, Price, WattHours, midpoint_floor};
use ledger::ConnectionSize;
use market::{MatchHome, Matching, Network, NodeIndex, NodeSpec, Tariff, match_neighbours};
use sim::dataset::{DemoHome, EXPORT_PRICE, IMPORT_PRICE, Recording};
use sim::home::{Household, Running};

use crate::household::Past;
use crate::household::plant::{Plant, SharedPlant, lock};

/// The prices of the demo.
const TARIFF: Tariff = Tariff { import_price: IMPORT_PRICE, export_price: EXPORT_PRICE };
/// From how many homes up the members of a community see its totals.
const TOTALS_FROM_HOMES: usize = 5;
/// Losses of the street are one part in this many of what passes its root (2 %).
const LOSS_DIVISOR: u64 = 50;
/// A demo begins so many days into a recording at the least: its homes' agents know those days.
const KNOWN_DAYS: u64 = 4;
/// ... and where it would begin earlier, a week later: on the same day of the week.
const WEEK: u64 = 7 * 96;
/// Intervals of a day.
const DAY: usize = 96;

/// The first interval of a demo on a recording whose own day begins at `day`: from then on the first day with at least as
/// much sun as its days have on average, so that there is something to share.
#[must_use]
pub fn first_of_demo(recording: &Recording, day: Interval) -> Interval {
    let recorded = recording.first.index();
    let known = day.index().saturating_sub(recorded) >= KNOWN_DAYS * 96;
    let week = if known || recording.intervals < 2 * 7 * 96 { 0 } else { WEEK };
    let earliest = day.index() + week;
    let sun = sun_of_days(recording);
    let mean = sun.iter().sum::<u64>() / u64::try_from(sun.len().max(1)).unwrap_or(u64::MAX);
    let is_sunny = |start: &u64| {
        let at = usize::try_from(start.saturating_sub(recorded)).unwrap_or(usize::MAX) / DAY;
        sun.get(at).is_some_and(|sun| *sun >= mean)
    };
    let last = recorded + u64::try_from(sun.len() * DAY).unwrap_or(u64::MAX);
    let start = (earliest..last).step_by(DAY).find(is_sunny).unwrap_or(earliest);
    Interval::from_index(start, day.mtu())
}

/// What all roofs of the street could give on each whole day of a recording, Wh × 4.
fn sun_of_days(recording: &Recording) -> Vec<u64> {
    let mut days = vec![0; recording.intervals / DAY];
    for home in &recording.homes {
        for watts in [&home.pv_w, &home.battery_pv_w] {
            for (day, watts) in days.iter_mut().zip(watts.chunks_exact(DAY)) {
                *day += watts.iter().map(|power| u64::from(*power)).sum::<u64>();
            }
        }
    }
    days
}

/// One home, physically.
struct Place {
    household: Household,
    running: Running,
    plant: SharedPlant,
    node: NodeIndex,
    /// What its devices did since the demo began, and what its connection carried.
    steps: Vec<Step>,
}

/// The street.
pub struct World {
    places: Vec<Place>,
    network: Network,
    /// Intervals since the recording began.
    at: usize,
    first: Interval,
    /// What is carried of the root's losses, in parts of a Wh.
    carried: (u64, u64),
}

/// What the operator's caps leave of the sun behind a battery, in percent of its rating.
const CAPPED_SUN_PERCENT: u64 = 40;
/// What a home may take at the least where the operator caps it, in an interval: 4.2 kW for a quarter of an hour, as
/// § 14a EnWG grants controllable devices in Germany.
const CAPPED_IMPORT: u64 = 1_050;

/// A feeder that carries less than its homes would like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Congestion {
    /// Its name.
    pub feeder: String,
    /// What connections of homes with devices may carry.
    pub caps: Vec<Cap>,
}

/// A lowered limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// Whose.
    pub home: HomeId,
    /// What its connection may carry in an interval with its devices on.
    pub carries: ConnectionSize,
}

/// What the street's devices were up to as a day began, and what each home then did.
pub struct Lived {
    /// The home.
    pub home: HomeId,
    /// Its steps.
    pub steps: Vec<Step>,
    /// What is in its battery at the end, Wh.
    pub stored_wh: i64,
    /// How far heat is ahead of need at the end, less what a vehicle still needs, Wh at the home's side.
    pub ahead_wh: i64,
    /// Vehicles that left with what they needed, and without.
    pub deadlines: (u32, u32),
}

impl World {
    /// The first `homes` of a recording, as its devices stand when nobody planned for them until `first`; and what
    /// happened until then, by home.
    ///
    /// # Errors
    /// If the recording contradicts itself.
    pub fn new(
        recording: &Recording,
        homes: &[DemoHome],
        first: Interval,
    ) -> anyhow::Result<(Self, Vec<Past>)> {
        let network = Network::new(&recording.network)?;
        let mut places = Vec::with_capacity(homes.len());
        for (recorded, home) in recording.homes.iter().zip(homes) {
            let household = Household::new(recorded, recording.first, recording.intervals, true);
            let node = network.index_of(&home.node).context("a home hangs on no node of the network")?;
            let running = Running::new(&household);
            let plant = Plant::new(household.devices, running.standing, first.mtu());
            let plant = Arc::new(Mutex::new(plant));
            places.push(Place { household, running, plant, node, steps: Vec::new() });
        }
        let mut world = Self { places, network, at: 0, first: recording.first, carried: (0, 0) };
        world.arrive();
        let pasts = world.until(first)?;
        for place in &mut world.places {
            place.steps.clear();
            place.running.tally = Default::default();
        }
        Ok((world, pasts))
    }

    /// Lives through the days before the demo.
    fn until(&mut self, first: Interval) -> anyhow::Result<Vec<Past>> {
        let mut pasts = vec![Past::default(); self.places.len()];
        while self.interval() < first {
            let (interval, at) = (self.interval(), self.at);
            let steps = self.live();
            let matched = match_neighbours(&self.network, &TARIFF, &self.to_match(&steps))?;
            let totals = (self.places.len() >= TOTALS_FROM_HOMES).then(|| totals(&matched));
            for (((place, past), step), home) in
                self.places.iter().zip(&mut pasts).zip(&steps).zip(&matched.homes)
            {
                past.lived.push((interval, seen(&place.household, at, step)));
                let (bought, sold) = (home.bought, home.sold);
                past.settled.push(Settled { interval, bought, sold, totals, delivered: None, paid: None });
            }
        }
        Ok(pasts)
    }

    fn interval(&self) -> Interval {
        Interval::from_index(self.first.index() + self.at as u64, self.first.mtu())
    }

    /// Vehicles leave and come as an interval begins.
    fn arrive(&mut self) {
        for place in &mut self.places {
            let mut plant = lock(&place.plant);
            place.running.standing = plant.standing;
            place.running.begin(&place.household, self.at);
            plant.standing = place.running.standing;
        }
    }

    /// One interval passes; what each home did in it.
    pub fn live(&mut self) -> Vec<Step> {
        let at = self.at;
        let live = |place: &mut Place| {
            let step = lock(&place.plant).live(place.household.given(at));
            place.steps.push(step);
            step
        };
        let steps = self.places.iter_mut().map(live).collect();
        self.at += 1;
        self.arrive();
        steps
    }

    /// What each home would draw in the present interval, W (positive = import), if nobody told its devices anything else.
    #[must_use]
    pub fn power_w(&self) -> Vec<i64> {
        let power = |place: &Place| {
            let step = lock(&place.plant).clone().live(place.household.given(self.at));
            (step.import.get().cast_signed() - step.export.get().cast_signed()) * 4
        };
        self.places.iter().map(power).collect()
    }

    /// What the meter at the transformer counts of an interval: 2 % more of what is taken, 2 % less of what is given.
    pub fn at_root(&mut self, steps: &[Step]) -> (WattHours, WattHours) {
        let sum = |energy: fn(&Step) -> WattHours| steps.iter().map(|step| energy(step).get()).sum::<u64>();
        let (import, export) = (sum(|step| step.import), sum(|step| step.export));
        let scaled = |energy: u64, parts: u64, carried: &mut u64| {
            let total = energy * parts + *carried;
            *carried = total % LOSS_DIVISOR;
            WattHours::new(total / LOSS_DIVISOR)
        };
        (
            scaled(import.saturating_sub(export), LOSS_DIVISOR + 1, &mut self.carried.0),
            scaled(export.saturating_sub(import), LOSS_DIVISOR - 1, &mut self.carried.1),
        )
    }

    /// A home's physical description.
    #[must_use]
    pub fn household(&self, position: usize) -> Option<&Household> {
        self.places.get(position).map(|place| &place.household)
    }

    /// A home's simulated devices.
    #[must_use]
    pub fn plant(&self, position: usize) -> Option<SharedPlant> {
        self.places.get(position).map(|place| place.plant.clone())
    }

    /// What a home's supplier charges, fees included.
    #[must_use]
    pub fn supplier_price(&self, position: usize) -> Option<Price> {
        let place = self.places.get(position)?;
        IMPORT_PRICE.add(self.network.fee_down_from_root(place.node)).ok()
    }

    /// What a kWh in a battery is worth: what neighbours pay for it.
    #[must_use]
    pub fn stored_price(&self) -> Price {
        midpoint_floor(IMPORT_PRICE, EXPORT_PRICE)
    }

    /// How many homes have something to plan for.
    #[must_use]
    pub fn flexible(&self) -> usize {
        self.places.iter().filter(|place| place.household.is_flexible()).count()
    }

    /// How many homes plan alike: those that can choose when to take energy, and those that can choose when to give it.
    #[must_use]
    pub fn alike(&self) -> Alike {
        let batteries = self.places.iter().filter(|place| place.household.devices.battery.is_some()).count();
        let number = |homes: usize| u32::try_from(homes).unwrap_or(u32::MAX);
        Alike { taking: number(self.flexible()), giving: number(batteries) }
    }

    /// The network above the homes.
    #[must_use]
    pub fn specs(&self) -> &[NodeSpec] {
        self.network.specs()
    }

    /// The feeder with most devices, congested: its homes with devices may take as much as an operator must grant, or as
    /// what nothing controls takes at its highest; homes that can give up sun may give less than their panels do.
    #[must_use]
    pub fn congestion(&self) -> Congestion {
        let flexible = || self.places.iter().filter(|place| place.household.is_flexible());
        let count = |feeder: &str| flexible().filter(|place| place.household.home.feeder == feeder).count();
        let feeders = flexible().map(|place| place.household.home.feeder.clone());
        let feeder = feeders.max_by_key(|feeder| (count(feeder), std::cmp::Reverse(feeder.clone())));
        let feeder = feeder.unwrap_or_default();
        let homes = flexible().filter(|place| place.household.home.feeder == feeder);
        Congestion { caps: homes.map(|place| self.cap_of(place)).collect(), feeder }
    }

    fn cap_of(&self, place: &Place) -> Cap {
        let Household { home, connection, devices, .. } = &place.household;
        let takes = |at: usize| {
            let given = place.household.given(at);
            (given.load.get() + given.heat.get()).saturating_sub(given.pv.get())
        };
        let most = (self.at..self.at + DAY).map(takes).max().unwrap_or_default();
        let import = WattHours::new(most.max(CAPPED_IMPORT)).min(*connection);
        let sun = u64::from(home.battery_pv_w) * CAPPED_SUN_PERCENT / 100 / 4;
        let export = if devices.curtailable { WattHours::new(sun) } else { *connection };
        Cap { home: home.id.clone(), carries: ConnectionSize { import, export } }
    }

    /// The same street, left to itself from here on.
    #[must_use]
    pub fn without_agents(&self) -> Self {
        let copy = |place: &Place| {
            let plant = lock(&place.plant);
            let alone = Plant::new(place.household.devices, plant.standing, self.first.mtu());
            Place {
                household: place.household.clone(),
                running: place.running.clone(),
                plant: Arc::new(Mutex::new(alone)),
                node: place.node,
                steps: Vec::new(),
            }
        };
        Self {
            places: self.places.iter().map(copy).collect(),
            network: self.network.clone(),
            at: self.at,
            first: self.first,
            carried: (0, 0),
        }
    }

    /// What every home did since the demo began, at most `intervals` of it, and how its devices stand now.
    #[must_use]
    pub fn lived(&self, intervals: usize) -> Vec<Lived> {
        let lived = |place: &Place| {
            let standing = lock(&place.plant).standing;
            let needed = standing.session.map_or(0, |session| session.needed.get());
            let tally = place.running.tally;
            Lived {
                home: place.household.home.id.clone(),
                steps: place.steps.iter().take(intervals).copied().collect(),
                stored_wh: standing.battery.get().cast_signed(),
                ahead_wh: standing.heat.get().cast_signed() - needed.cast_signed(),
                deadlines: (tally.deadlines_met, tally.deadlines_missed),
            }
        };
        self.places.iter().map(lived).collect()
    }

    /// What each home would receive (negative: pay) for what it did, alone with its supplier and with its neighbours
    /// matched, nothing traded ahead.
    ///
    /// # Errors
    /// Beyond the range of money.
    pub fn amounts(&self, intervals: usize) -> anyhow::Result<Vec<(Money, Money)>> {
        let mut sums = vec![(Money::ZERO, Money::ZERO); self.places.len()];
        for at in 0..intervals {
            let step = |place: &Place| place.steps.get(at).copied().unwrap_or_default();
            let steps: Vec<Step> = self.places.iter().map(step).collect();
            let matched = match_neighbours(&self.network, &TARIFF, &self.to_match(&steps))?;
            for (((place, step), home), (alone, with)) in
                self.places.iter().zip(&steps).zip(&matched.homes).zip(&mut sums)
            {
                let up = EXPORT_PRICE.sub(self.network.fee_up_to_root(place.node))?;
                let down = IMPORT_PRICE.add(self.network.fee_down_from_root(place.node))?;
                *alone = alone.add(up.cost_of(step.export)?)?.sub(down.cost_of(step.import)?)?;
                *with = with.add(home.amount()?)?;
            }
        }
        Ok(sums)
    }

    fn to_match(&self, steps: &[Step]) -> Vec<MatchHome<HomeId>> {
        let home = |(place, step): (&Place, &Step)| MatchHome {
            id: place.household.home.id.clone(),
            node: place.node,
            import: step.import,
            export: step.export,
            min_sell: None,
            max_buy: None,
            import_price: None,
            export_price: None,
            buy_cap: None,
        };
        self.places.iter().zip(steps).map(home).collect()
    }
}

/// What everybody sees of an interval.
fn totals(matched: &Matching) -> Totals {
    Totals {
        matched: WattHours::new(matched.homes.iter().map(|home| home.sold.get()).sum()),
        supplier_import: matched.supplier_import,
        supplier_export: matched.supplier_export,
        forward: None,
    }
}

/// An interval as the home's own meters saw it. An inverter that can be controlled says what it generated; others do not.
fn seen(household: &Household, at: usize, step: &Step) -> Seen {
    let given = household.given(at);
    let did = Did {
        charge: step.charge,
        discharge: step.discharge,
        vehicle: step.vehicle,
        heat: step.heat,
        curtailed: !step.curtailed.is_zero(),
    };
    let pv = household.devices.curtailable.then(|| given.pv.saturating_sub(step.curtailed));
    Seen { import: step.import, export: step.export, pv, did, heat_need: given.heat }
}

/// Words for the devices of a home.
#[must_use]
pub fn devices_in_words(household: &Household) -> String {
    let devices = &household.devices;
    let mut words = Vec::new();
    if household.home.has_pv() {
        words.push("sun");
    }
    for (there, word) in [
        (devices.battery.is_some(), "battery"),
        (devices.charger.is_some(), "car"),
        (devices.heat.is_some(), "heat pump"),
    ] {
        if there {
            words.push(word);
        }
    }
    words.join(", ")
}
