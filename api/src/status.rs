//! How a node is doing.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// A node at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of this document.
    pub schema_version: u32,
    /// Name of the community.
    pub name: String,
    /// The home this node serves.
    pub home: String,
    /// Id of the chain, 64 hex digits.
    pub chain: String,
    /// ISO 4217 code of the settlement currency.
    pub currency: String,
    /// Market time now.
    pub market_time: Time,
    /// Market seconds per wall second: 1 outside a demo.
    pub speed: u32,
    /// Height of the last final block; 0 before the first.
    pub height: u64,
    /// Its market time.
    pub head_time: Time,
    /// Its id, 64 hex digits.
    pub block_id: String,
    /// Consensus round it was decided in.
    pub round: u32,
    /// True while the node fetches blocks that its peers already have.
    pub syncing: bool,
    /// True if this node is a delegate of the next height.
    pub delegate: bool,
    /// How many delegates decide the next height.
    pub delegates: u32,
    /// The interval being delivered.
    pub interval: LiveInterval,
    /// Start of the last settled interval.
    pub last_settled: Option<Time>,
    /// Finality of the last 100 blocks; absent before the first.
    pub finality: Option<Finality>,
    /// Power at the meter; absent if never read.
    pub power: Option<Power>,
    /// The meter.
    pub meter: MeterStatus,
    /// How many peers are connected.
    pub peers: u32,
    /// What people should know of this node's connections, such as a neighbour that is refused for a while and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Version of the program.
    pub version: String,
}

/// The interval that market time is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LiveInterval {
    /// First instant.
    pub start: Time,
    /// First instant after it.
    pub end: Time,
}

/// How long blocks took from receipt of their oldest entry to their durable decision, in wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finality {
    /// The median.
    pub p50_ms: u64,
    /// Only one block in a hundred took longer.
    pub p99_ms: u64,
    /// How many blocks these figures are about, at most 100.
    pub blocks: u32,
}

/// Power at the connection point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Power {
    /// Watts drawn from the grid; below zero the home feeds in.
    pub w: i64,
    /// Wall time since it was read.
    pub age_ms: u64,
}

/// What the meter does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MeterCondition {
    /// Not read yet.
    #[default]
    Starting,
    /// Answers, and its values are good.
    Good,
    /// Answers, but its values are estimated, frozen or under re-check.
    Uncertain,
    /// Does not answer.
    Silent,
    /// This node has none to read.
    Absent,
}

/// The meter as the node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeterStatus {
    /// In one word.
    pub state: MeterCondition,
    /// In detail, for the person who repairs it; empty if there is nothing to add.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Answer of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Version of this document.
    pub schema_version: u32,
    /// The verdict.
    pub status: CheckState,
    /// Why it fails; empty if it passes.
    pub reasons: Vec<String>,
}

/// Verdict of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// As it should be.
    Pass,
    /// Not, for the reasons given.
    Fail,
}
