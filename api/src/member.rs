//! What a program needs to know to sign entries for the home.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The home as the ledger knows it after its last block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Version of this document.
    pub schema_version: u32,
    /// The home.
    pub home: String,
    /// The chain, 64 hexadecimal digits.
    pub chain: String,
    /// How often the chain was recovered: part of what is signed.
    pub recovery: u32,
    /// The home's registered meter.
    pub meter: RegisteredMeter,
    /// The meter at the transformer; absent where the community has none.
    pub root_meter: Option<RegisteredMeter>,
    /// The smallest number that the home's member key may use in its next entry, orders and cancels apart.
    pub next_number: u64,
    /// The same for the operator's key.
    pub next_operator_number: u64,
    /// The same for the treasurer's key.
    pub next_treasurer_number: u64,
}

/// A meter as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisteredMeter {
    /// Serial number.
    pub serial: String,
    /// Counts the meters of the connection point and their resets, from 0.
    pub epoch: u32,
    /// Smallest step of its registers.
    pub quantum_wh: u64,
    /// SHA-256 of its device profile, 64 hexadecimal digits.
    pub profile_hash: String,
}
