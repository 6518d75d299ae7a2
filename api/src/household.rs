//! The household's agent: what it was told to want, what it plans and why, and what it told the devices.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Side, Time};

/// The household's agent at a glance. Energies of the plan are at the home's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Household {
    /// Version of this document.
    pub schema_version: u32,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// What the household wants: `save-money`, `stay-green`, `stay-independent`.
    pub goal: String,
    /// Flexible energy is bought at no more, µ/kWh; absent: at any price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_buy: Option<i64>,
    /// Stored energy is sold at no less, µ/kWh; absent: at whatever beats keeping it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_sell: Option<i64>,
    /// True if the devices are only planned for, or simulated: nothing that stands here is moved, and nothing is traded.
    pub trial: bool,
    /// The devices.
    pub devices: HouseholdDevices,
    /// The first interval of the plan.
    pub planned_from: Time,
    /// What the household is expected to pay over the plan, n (negative: to receive).
    pub expected_cost_n: i64,
    /// The same if every device were left to itself, n.
    pub expected_cost_unplanned_n: i64,
    /// The plan, one step an interval.
    pub plan: Vec<PlanStep>,
    /// What forecasts are made of, and how far they were off.
    pub forecast: ForecastFigures,
    /// Forward trading of this household.
    pub trading: HouseholdTrading,
    /// What became of the newest commands to devices, newest first.
    pub commands: Vec<CommandRow>,
    /// What went wrong when the plan was made; empty if nothing did.
    pub troubles: Vec<String>,
}

/// The devices and how they stand as the plan begins; what is not there is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HouseholdDevices {
    /// Energy in the battery, Wh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery_wh: Option<u64>,
    /// What the battery holds when full, Wh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery_capacity_wh: Option<u64>,
    /// Whether there is a charger.
    pub charger: bool,
    /// What the vehicle at it still needs, Wh; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vehicle_needs_wh: Option<u64>,
    /// When it must be ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vehicle_ready_by: Option<Time>,
    /// How far heat is ahead of need, in Wh of its electricity; absent: there is no heat pump or boiler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat_ahead_wh: Option<u64>,
}

/// One interval of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanStep {
    /// Its start.
    pub start: Time,
    /// Load that is expected, without the devices.
    pub load_wh: u64,
    /// Sun that is expected.
    pub pv_wh: u64,
    /// Into the battery (positive) or out of it (negative).
    pub battery_wh: i64,
    /// Into the vehicle.
    pub vehicle_wh: u64,
    /// Into heat.
    pub heat_wh: u64,
    /// Sun given up.
    pub curtailed_wh: u64,
    /// Taken from outside.
    pub import_wh: u64,
    /// Given away.
    pub export_wh: u64,
    /// What the supplier charges, fees included, µ/kWh.
    pub supplier_import: i64,
    /// What it pays, µ/kWh.
    pub supplier_export: i64,
    /// What energy from neighbours is expected to cost, fees included, µ/kWh.
    pub local_import: i64,
    /// What they are expected to pay, µ/kWh.
    pub local_export: i64,
    /// The most that neighbours are expected to serve.
    pub local_import_wh: u64,
    /// The most that they are expected to take.
    pub local_export_wh: u64,
}

/// How far forecasts were off, on average, Wh per hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForecastFigures {
    /// Whole days of history.
    pub days: u32,
    /// Of the load; absent before it could be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_error_wh: Option<u64>,
    /// Of the sun; absent without any, or before it could be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sun_error_wh: Option<u64>,
    /// The same in words.
    pub summary: String,
}

/// Forward trading of a household.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HouseholdTrading {
    /// Whether there is forward trading for this home.
    pub on: bool,
    /// What positions of this month brought against none, n.
    pub month_result_n: i64,
    /// True if it was a loss: nothing is traded until the month ends.
    pub stopped: bool,
    /// True if devices are left to themselves and nothing is traded until the month ends, because the home was behind what it would
    /// have been without an agent.
    #[serde(default)]
    pub rests: bool,
    /// Open orders as the plan was made.
    pub open: Vec<PlannedOrder>,
}

/// An open order of the household's agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedOrder {
    /// Its id.
    pub id: String,
    /// Start of its interval.
    pub interval_start: Time,
    /// Buy or sell.
    pub side: Side,
    /// Limit, µ/kWh.
    pub price: i64,
    /// How much.
    pub quantity_wh: u64,
}

/// What became of a command to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandRow {
    /// When.
    pub at: Time,
    /// Its number on its channel.
    pub sequence: u64,
    /// When it ends.
    pub expires: Time,
    /// What it asks for, in words.
    pub control: String,
    /// Why the device did not take it; absent: it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
