//! What a home has, how it stands, what it wants and what lies ahead: the words the agent's parts share.

use energy::{Interval, Money, Price, WattHours};

/// Market time units that a plan covers at the most: 48 hours of 15 minutes.
pub const HORIZON: usize = 192;

/// What the household wants, in plain words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Goal {
    /// The lowest bill.
    #[default]
    SaveMoney,
    /// As much energy as possible from the neighbourhood's own sun, for a small extra cost.
    StayGreen,
    /// As little exchange with the outside as possible, for a small extra cost.
    StayIndependent,
}

/// What the household said about prices: beyond them its devices wait, as far as their deadlines allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Wishes {
    /// What it is about.
    pub goal: Goal,
    /// Flexible energy is bought at no more per kWh; `None`: at whatever the supplier charges.
    pub max_buy: Option<Price>,
    /// Stored energy is sold at no less per kWh; `None`: at whatever beats keeping it.
    pub min_sell: Option<Price>,
}

/// A battery. Energies are at the home's side of its inverter unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Battery {
    /// What it stores when full, Wh inside it.
    pub capacity: WattHours,
    /// The most it takes in one interval.
    pub charge: WattHours,
    /// The most it gives in one interval.
    pub discharge: WattHours,
    /// What comes out of 1 000 Wh that went in; all of it is lost on the way in. 1 to 1 000.
    pub efficiency_permille: u32,
    /// What the plan never goes below, Wh inside it.
    pub reserve: WattHours,
    /// What a kWh that it gives costs in wear.
    pub wear: Price,
}

/// A charger for an electric vehicle. It never discharges the vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Charger {
    /// The most it gives in one interval.
    pub power: WattHours,
}

/// A heat pump or boiler that may run ahead of need, inside the household's comfort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Heat {
    /// The most it takes in one interval.
    pub power: WattHours,
    /// How far it may run ahead of the need, in Wh of its own electricity: what building or tank hold between the
    /// household's lowest and highest temperature.
    pub store: WattHours,
}

/// What stands in the home and may be controlled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Devices {
    /// A battery.
    pub battery: Option<Battery>,
    /// An EV charger.
    pub charger: Option<Charger>,
    /// A heat pump or boiler.
    pub heat: Option<Heat>,
    /// Whether the inverter can be told to generate less.
    pub curtailable: bool,
}

impl Devices {
    /// True if there is nothing to plan.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A vehicle at the charger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    /// What it still takes until it is charged as far as the household asked.
    pub needed: WattHours,
    /// The part of `needed` that is charged at once, whatever it costs: nobody should be without a way to a hospital.
    pub minimum: WattHours,
    /// The first interval in which it must be charged: the last one to charge in is the one before.
    pub deadline: Interval,
}

/// How the devices stand as the first planned interval begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Standing {
    /// Energy in the battery, Wh inside it.
    pub battery: WattHours,
    /// The vehicle at the charger, if one is.
    pub session: Option<Session>,
    /// How far heat is ahead of need, Wh of its electricity; 0 = at the lowest temperature of comfort.
    pub heat: WattHours,
}

/// Prices per kWh as they arrive at this home, network fees included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prices {
    /// What its supplier charges.
    pub supplier_import: Price,
    /// What its supplier pays.
    pub supplier_export: Price,
    /// What energy from neighbours is expected to cost.
    pub local_import: Price,
    /// What neighbours are expected to pay.
    pub local_export: Price,
    /// Of 1 000 Wh that this home takes, how many neighbours are expected to serve.
    pub import_permille: u32,
    /// Of 1 000 Wh that this home gives, how many neighbours are expected to take.
    pub export_permille: u32,
}

/// How much of its energy a home is expected to exchange with neighbours in an interval, at their price and share; what is
/// beyond is its supplier's. So a large battery does not count on selling more than there is demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reach {
    /// The most that neighbours will probably serve.
    pub import: WattHours,
    /// The most that neighbours will probably take.
    pub export: WattHours,
}

impl Default for Reach {
    /// As much as there is.
    fn default() -> Self {
        Self { import: WattHours::new(u64::MAX), export: WattHours::new(u64::MAX) }
    }
}

/// What one interval will probably bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ahead {
    /// Load that nothing controls.
    pub load: WattHours,
    /// Solar generation before curtailment.
    pub pv: WattHours,
    /// Electricity that heat takes to stay where it is in comfort.
    pub heat: WattHours,
    /// Prices.
    pub prices: Prices,
    /// What was bought forward for it already.
    pub bought: WattHours,
    /// What was sold forward for it already.
    pub sold: WattHours,
    /// The most the connection may take with flexible devices on: certified size or the operator's cap. Load that nothing
    /// controls may be above it; devices then stand still.
    pub import_cap: WattHours,
    /// The most the connection may give with flexible devices on.
    pub export_cap: WattHours,
}

/// What the devices do in one interval. All energies are at the home's side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Step {
    /// Into the battery; zero where `discharge` is not.
    pub charge: WattHours,
    /// Out of the battery.
    pub discharge: WattHours,
    /// Into the vehicle.
    pub vehicle: WattHours,
    /// Into heat.
    pub heat: WattHours,
    /// Solar generation given up.
    pub curtailed: WattHours,
    /// What the connection is then expected to take; zero where `export` is not.
    pub import: WattHours,
    /// What the connection is then expected to give.
    pub export: WattHours,
}

/// What the devices should do over the horizon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The first interval.
    pub from: Interval,
    /// One step an interval.
    pub steps: Vec<Step>,
    /// What the household is expected to pay over the horizon (negative: to receive), wear included, at its expected
    /// prices; not what its goal made of them. What battery and heat store hold more at the end than now is taken off
    /// (less: added) at what it will probably save.
    pub cost: Money,
    /// What it would pay if every device did as it does without a plan: the battery serves the home alone, vehicle and
    /// heat at once; counted alike.
    pub cost_unplanned: Money,
}
