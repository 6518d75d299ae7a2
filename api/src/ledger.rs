//! The chain itself: its head, its blocks by kinds and ids, what was missed, and the steps of a recovery. Never a body.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// The last final block and what the ledger is after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerHead {
    /// Version of this document.
    pub schema_version: u32,
    /// The chain, 64 hexadecimal digits.
    pub chain: String,
    /// How often it was recovered.
    pub recovery: u32,
    /// Height of the block; 0 before the first.
    pub height: u64,
    /// The block; before the first the chain's id.
    pub id: String,
    /// Its market time.
    pub time: Time,
    /// Leaves in the transparency tree.
    pub tree_size: u64,
    /// Root of that tree.
    pub tree_root: String,
    /// Root of the state.
    pub state_root: String,
    /// The epoch.
    pub epoch: u32,
    /// The delegates' term.
    pub term: u32,
    /// Members that have not left.
    pub members: u32,
    /// True while the accounts add up to more than what was last attested to stand at the bank: nothing is paid out.
    pub bank_short: bool,
    /// True while this node fetches blocks that others have.
    pub syncing: bool,
}

/// An entry of a block: which one, not what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryName {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its kind, such as `reading`.
    pub kind: String,
}

/// One final block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerBlock {
    /// Version of this document.
    pub schema_version: u32,
    /// Its height.
    pub height: u64,
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// The block before.
    pub parent: String,
    /// Its market time.
    pub time: Time,
    /// How often the chain was recovered, this block included.
    pub recovery: u32,
    /// True if it is a recovery: the members decided it, no delegate signed it.
    pub is_recovery: bool,
    /// The rules it was made by.
    pub rule_version: u16,
    /// Leaves in the transparency tree after it.
    pub tree_size: u64,
    /// Root of that tree.
    pub tree_root: String,
    /// Root of the state after it.
    pub state_root: String,
    /// Hash of the delegates that decided it.
    pub delegates: String,
    /// Hash of the delegates of the next one.
    pub next_delegates: String,
    /// Round it was decided in.
    pub round: u32,
    /// Seats whose signature its certificate has, from 0.
    pub signed: Vec<u8>,
    /// Wall ms from the first sight of its oldest entry here to the decision.
    pub finality_ms: u64,
    /// Its entries, in order.
    pub entries: Vec<EntryName>,
}

/// A block that was decided late, or without everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissedBlock {
    /// Its height.
    pub height: u64,
    /// Its market time.
    pub time: Time,
    /// Market ms since the block before.
    pub after_ms: u64,
    /// Round it was decided in; that many failed before.
    pub failed_rounds: u32,
    /// Seats whose signature its certificate lacks, from 0; empty where the set is not the present one.
    pub unsigned: Vec<u8>,
}

/// A seat of the present delegates, and what its signature was missing from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissedSeat {
    /// The seat, from 0.
    pub seat: u8,
    /// Its consensus key of this term.
    pub key: String,
    /// True for this home's own.
    pub own: bool,
    /// Blocks of the present set that were looked at.
    pub blocks: u32,
    /// How many of them it did not sign.
    pub missed: u32,
}

/// What this node said of a block or round while it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeNote {
    /// Market time.
    pub time: Time,
    /// The height that was being decided.
    pub height: u64,
    /// What it noted.
    pub text: String,
}

/// Why blocks came late or lack signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missed {
    /// Version of this document.
    pub schema_version: u32,
    /// From this market time on.
    pub from: Time,
    /// Until this one.
    pub until: Time,
    /// Blocks that were looked at.
    pub blocks: u32,
    /// How many of them took more than one round.
    pub with_failed_rounds: u32,
    /// How many came later than the longest pause between blocks.
    pub late: u32,
    /// Those, newest first, at most 100.
    pub rows: Vec<MissedBlock>,
    /// The present seats.
    pub seats: Vec<MissedSeat>,
    /// This node's own notes of that time since it started, oldest first: among them why it voted for no block.
    pub notes: Vec<NodeNote>,
}

/// A step of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryStep {
    /// This home offers to hold a seat.
    Offer,
    /// This node makes the block with the offers.
    Propose,
    /// This home attests the block, and promises to sign nothing of a lower number.
    Attest,
    /// This node takes the attested block up and tells everybody.
    Publish,
}

/// Asks the node for a step of a recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecoveryRequest {
    /// Which.
    pub step: RecoveryStep,
    /// Number of the recovery, to offer and to propose; the next one if absent.
    pub number: Option<u32>,
    /// Offers to propose with, hexadecimal.
    #[serde(default)]
    pub offers: Vec<String>,
    /// The block to attest or publish, hexadecimal.
    pub block: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryAnswer {
    /// Version of this document.
    pub schema_version: u32,
    /// The offer or the block, hexadecimal; of a published one its id.
    pub bytes: String,
}
