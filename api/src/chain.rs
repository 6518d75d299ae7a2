//! What a node holds of the chain, and proofs from it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What of the chain this node holds, and by which rules it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holdings {
    /// Version of this document.
    pub schema_version: u32,
    /// The first block whose body is stored whole; of those before, this home's own entries and results and what is public.
    pub bodies_from: u64,
    /// The first block whose certificate is stored; those of changes of the delegates always are.
    pub certificates_from: u64,
    /// The block with whose state this node began; 0: with the genesis.
    pub joined: u64,
    /// Heights of the stored snapshots, oldest first.
    pub snapshots: Vec<u64>,
    /// The rules by which the next block is made.
    pub rule_version: u16,
    /// The rules that enough can run, and which may be in force from the next epoch on; absent if there are none.
    pub coming_rules: Option<u16>,
    /// The highest rules that this program has.
    pub known_rules: u16,
    /// Height of the checkpoint that people vouch for; absent if none was handed over.
    pub checkpoint: Option<u64>,
    /// Why the node takes no part at present; absent if it does.
    pub waiting: Option<String>,
}

/// Proof that something is on the chain, for whoever has the genesis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainProof {
    /// Version of this document.
    pub schema_version: u32,
    /// Position of its leaf in the transparency tree.
    pub leaf: u64,
    /// Height of the certified block whose tree holds it.
    pub height: u64,
    /// The proof as `commonwatt ledger check-proof` reads it, hexadecimal.
    pub proof: String,
}
