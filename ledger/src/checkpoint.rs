//! Checkpoints against long absence: what people vouch for where certificates of long ago prove too little.
//!
//! Delegates of a past term could sign another history once their keys are of no more worth to them. A node that was there
//! knows better; one that was away for longer than [`AWAY_EPOCHS`] does not, and follows only a history that holds a block
//! vouched for by two of the operator, the auditor and its own member.

use ed25519_dalek::SigningKey;
use energy::Timestamp;

use crate::block::BlockId;
use crate::codec::{
    CodecError, Decode, Encode, Reader, decode_list, decode_text, encode_list, encode_text, record,
};
use crate::crypto::{Hash32, PublicKey, Signature};
use crate::entry::Chain;
use crate::genesis::Genesis;
use crate::ledger::Ledger;

/// A node that was away for more than so many epochs (days, outside demo chains) of market time needs a checkpoint.
pub const AWAY_EPOCHS: u64 = 14;
/// How many must vouch for a checkpoint.
pub const VOUCHERS: usize = 2;
/// The most signatures on a checkpoint: the three that may vouch for it.
const SIGNATURES_MAX: usize = 3;
/// The longest file, in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 1024;
/// What a file begins with.
const MAGIC: &str = "commonwatt/checkpoint/v1";

/// A block that somebody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain.
    pub chain: Chain,
    /// Height of the block.
    pub height: u64,
    /// The block.
    pub block: BlockId,
    /// Its market time.
    pub time: Timestamp,
    /// Hash of the delegate set that decides the next height.
    pub delegates: Hash32,
}

record!(Checkpoint { chain, height, block, time, delegates });

impl Checkpoint {
    /// The last block of a ledger.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        Self {
            chain: *ledger.chain(),
            height: ledger.height(),
            block: ledger.head(),
            time: ledger.head_time(),
            delegates: ledger.delegates().hash(),
        }
    }

    fn signing_bytes(&self) -> Vec<u8> {
        self.chain.signing_bytes("checkpoint", &self.to_bytes())
    }
}

/// A checkpoint with the signatures of those who vouch for it, in ascending order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    signatures: Vec<(PublicKey, Signature)>,
}

impl SignedCheckpoint {
    /// Nobody vouches for it yet.
    #[must_use]
    pub const fn unsigned(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, signatures: Vec::new() }
    }

    /// What it says, whoever signed it.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Who signed it, unchecked.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.signatures.iter().map(|(key, _)| key)
    }

    /// Adds a signature; a second one of the same key replaces the first.
    #[must_use]
    pub fn sign(mut self, key: &SigningKey) -> Self {
        let (signer, signature) =
            (PublicKey::of(key), Signature::sign(key, &self.checkpoint.signing_bytes()));
        self.signatures.retain(|(other, _)| *other != signer);
        self.signatures.push((signer, signature));
        self.signatures.sort_unstable_by_key(|(key, _)| *key);
        self
    }

    /// The checkpoint, where two of the genesis's operator and auditor and the node's own member key vouch for it.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn verify(&self, genesis: &Genesis, own: &PublicKey) -> Result<Checkpoint, CheckpointError> {
        let (found, expected) = (self.checkpoint.chain.id, genesis.chain().id);
        if found != expected {
            return Err(CheckpointError::OtherChain { found, expected });
        }
        if !self.signatures.is_sorted_by(|(left, _), (right, _)| left < right) {
            return Err(CheckpointError::Disordered);
        }
        let bytes = self.checkpoint.signing_bytes();
        let may_vouch = [genesis.roles.operator, genesis.roles.auditor, *own];
        let mut vouching = 0_usize;
        for (key, signature) in &self.signatures {
            if !key.verifies(&bytes, signature) {
                return Err(CheckpointError::Forged { key: *key });
            }
            vouching = vouching.saturating_add(usize::from(may_vouch.contains(key)));
        }
        if vouching < VOUCHERS {
            return Err(CheckpointError::TooFew { found: vouching });
        }
        Ok(self.checkpoint)
    }
}

impl Encode for SignedCheckpoint {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(MAGIC, out);
        self.checkpoint.encode(out);
        encode_list(&self.signatures, out);
    }
}

impl Decode for SignedCheckpoint {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        if decode_text(reader, "checkpoint", MAGIC.len())? != MAGIC {
            return Err(CodecError::Invalid { what: "checkpoint" });
        }
        Ok(Self {
            checkpoint: Decode::decode(reader)?,
            signatures: decode_list(reader, "checkpoint signatures", SIGNATURES_MAX)?,
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > CHECKPOINT_BYTES_MAX {
            return Err(CodecError::TooLong { what: "checkpoint", max: CHECKPOINT_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let checkpoint = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(checkpoint)
    }
}

/// Why a checkpoint does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Of another community.
    #[error("the checkpoint is of chain {found}, this community is chain {expected}")]
    OtherChain {
        /// Its chain.
        found: Hash32,
        /// Ours.
        expected: Hash32,
    },
    /// Signatures stand in ascending key order, each once.
    #[error("the signatures are not in ascending order of their keys or repeat one; ask for the file again")]
    Disordered,
    /// A signature that is none.
    #[error(
        "the signature of key {key} does not hold: the file was changed after it was signed; ask for it again"
    )]
    Forged {
        /// The key that did not sign this.
        key: PublicKey,
    },
    /// Too few vouch for it.
    #[error(
        "{found} of the operator, the auditor and this home's own member vouch for the checkpoint; it takes {VOUCHERS}: have \
         another of them sign it with `commonwatt ledger checkpoint sign`"
    )]
    TooFew {
        /// How many do.
        found: usize,
    },
}
