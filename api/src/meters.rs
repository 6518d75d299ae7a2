//! The meters of a home: what each is, how it does, and what flows where.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::MeterCondition;

/// Every meter of this home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meters {
    /// Version of this document.
    pub schema_version: u32,
    /// The meters, the one the home is settled on first.
    pub items: Vec<MeterRow>,
    /// What flows where, from samples of one moment; absent unless every meter it needs answered in one window.
    pub flows: Option<Flows>,
    /// Why there are no flows; empty if there are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flows_missing: String,
}

/// One meter of this home.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeterRow {
    /// Its name at this home.
    pub name: String,
    /// What it measures: `grid`, `pv`, `inverter`, `battery`, `ev`, `heat_pump`; `root` is the transformer's.
    pub role: String,
    /// Where it is reached.
    pub endpoint: String,
    /// Modbus unit id.
    pub unit: u8,
    /// Device profile that decodes it.
    pub profile: String,
    /// Serial number; absent until it was read.
    pub serial: Option<String>,
    /// `read` if the meter says its serial number itself, `nameplate` if a person typed it: a weak identity.
    pub identity: Option<String>,
    /// Smallest step of its energy registers, Wh.
    pub quantum_wh: u64,
    /// How it does.
    pub state: MeterCondition,
    /// In detail, for the person who repairs it; empty if there is nothing to add.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Power in W; drawn from the grid, generated or discharged is positive; absent if not known now.
    pub power_w: Option<i64>,
    /// Wall time since it was read.
    pub age_ms: Option<u64>,
    /// Cumulative import register, Wh.
    pub import_wh: Option<u64>,
    /// Cumulative export register, Wh.
    pub export_wh: Option<u64>,
    /// How much of the time its bus was busy during the last minute, ‰.
    pub bus_load_permille: Option<u32>,
}

/// Power in a home at one moment, W, all from samples of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flows {
    /// All that the home uses: from the grid, the panels and the battery.
    pub house_w: i64,
    /// What it uses without car and heat pump.
    pub rest_w: i64,
    /// From the grid; below zero the home feeds in.
    pub grid_w: i64,
    /// Generated.
    pub pv_w: Option<i64>,
    /// Discharged; below zero the battery charges.
    pub battery_w: Option<i64>,
    /// Into the car.
    pub ev_w: Option<i64>,
    /// Into the heat pump.
    pub heat_pump_w: Option<i64>,
    /// How far apart the samples were, ms.
    pub window_ms: u64,
}
