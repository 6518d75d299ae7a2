//! Blocks, delegates and the certificates that make a block final.

use std::fmt;

use energy::{HomeId, Timestamp};

use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list, record};
use crate::crypto::{Hash32, PublicKey, Signature};
use crate::entry::{Chain, ENTRY_BYTES_MAX, SignatureError, SignedEntry, VerifiedEntry};
use crate::recovery::Recovery;

/// The most entries in a block.
pub const BLOCK_ENTRIES_MAX: usize = 8192;
/// The longest block, in bytes.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// The most delegates ever.
pub const DELEGATES_MAX: usize = 31;
/// Rules this binary knows; a header names the version it was made by. 2: meters' exchange and assurance. 3: forward
/// trading at posted prices, fees and envelopes by interval, sharing by keys, operator's readings, departures. 4: delegates
/// are elected; blocks carry their parent's certificate, headers commit to it.
pub const RULE_VERSION: u16 = 4;

/// Name of a block: the hash of its header.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub Hash32);

record!(BlockId { 0 });

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a block commits to. It carries no clearing and no price: everyone computes them from the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The chain.
    pub chain: Chain,
    /// Rules it was made by.
    pub rule_version: u16,
    /// Counts from 1; genesis is 0.
    pub height: u64,
    /// The block before.
    pub parent: BlockId,
    /// Market time; later than the parent's.
    pub time: Timestamp,
    /// Leaves in the transparency tree after this block.
    pub tree_size: u64,
    /// Its root.
    pub tree_root: Hash32,
    /// Root of the state after this block.
    pub state_root: Hash32,
    /// Hash of the delegate set that decides this block.
    pub delegates: Hash32,
    /// Hash of the delegate set that decides the next one.
    pub next_delegates: Hash32,
    /// Hash of the certificate of the block before, as the block carries it.
    pub last_commit: Hash32,
}

record!(Header {
    chain,
    rule_version,
    height,
    parent,
    time,
    tree_size,
    tree_root,
    state_root,
    delegates,
    next_delegates,
    last_commit,
});

impl Header {
    /// The block's name.
    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId(Hash32::of(&[b"commonwatt/block/v2", &self.to_bytes()]))
    }
}

/// A block whose entries nobody has checked yet: as it arrives from the network or the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedBlock {
    /// Its header.
    pub header: Header,
    /// Why the block before it is final: who signed it counts. `None` in the first block of a chain, and on chains that one
    /// process carries on alone.
    pub last_commit: Option<Certificate>,
    /// Present in a recovery block only, which the members decide and not the delegates: it has no entries, and no certificate
    /// but an empty one.
    pub recovery: Option<Recovery>,
    /// Its entries, in the proposer's order.
    pub entries: Vec<SignedEntry>,
}

impl UnverifiedBlock {
    /// Checks every entry's signatures. `known` may return an entry that was already verified, found by its bytes'
    /// id, so that nothing is verified twice.
    ///
    /// # Errors
    /// The position of the first entry whose signatures do not hold, and why.
    pub fn verify(
        self,
        chain: &Chain,
        known: impl Fn(&SignedEntry) -> Option<VerifiedEntry>,
    ) -> Result<Block, (usize, SignatureError)> {
        let check = |(position, entry): (usize, SignedEntry)| match known(&entry) {
            Some(entry) => Ok(entry),
            None => entry.verify(chain).map_err(|error| (position, error)),
        };
        let entries = self.entries.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        let Self { header, last_commit, recovery, .. } = self;
        Ok(Block { header, last_commit, recovery, entries })
    }
}

impl Decode for UnverifiedBlock {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let header = Header::decode(reader)?;
        let last_commit = Decode::decode(reader)?;
        let recovery = Decode::decode(reader)?;
        let count = reader.count("block entries", BLOCK_ENTRIES_MAX)?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let length = reader.count("entry", ENTRY_BYTES_MAX)?;
            entries.push(SignedEntry::from_bytes(reader.take(length, "entry")?)?);
        }
        Ok(Self { header, last_commit, recovery, entries })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(CodecError::TooLong { what: "block", max: BLOCK_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let block = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(block)
    }
}

/// A block whose entries' signatures all hold. Whether it follows from the state is for `Ledger::execute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its header.
    pub header: Header,
    /// As [`UnverifiedBlock::last_commit`].
    pub last_commit: Option<Certificate>,
    /// As [`UnverifiedBlock::recovery`].
    pub recovery: Option<Recovery>,
    /// Its entries, in the proposer's order.
    pub entries: Vec<VerifiedEntry>,
}

impl Block {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.header.id()
    }
}

impl Encode for Block {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.last_commit.encode(out);
        self.recovery.encode(out);
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX).encode(out);
        for entry in &self.entries {
            u32::try_from(entry.bytes().len()).unwrap_or(u32::MAX).encode(out);
            out.extend_from_slice(entry.bytes());
        }
    }
}

/// One seat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delegate {
    /// Consensus key of this term.
    pub key: PublicKey,
    /// The home that holds the seat.
    pub home: HomeId,
}

record!(Delegate { key, home });

/// The delegates of a term, with equal power, in ascending order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegateSet {
    term: u32,
    delegates: Vec<Delegate>,
}

impl DelegateSet {
    /// A set; `None` if it is empty, above [`DELEGATES_MAX`], or has a key or a home twice.
    #[must_use]
    pub fn new(term: u32, mut delegates: Vec<Delegate>) -> Option<Self> {
        delegates.sort();
        let mut homes: Vec<_> = delegates.iter().map(|delegate| &delegate.home).collect();
        homes.sort();
        let distinct = delegates.is_sorted_by(|left, right| left.key < right.key)
            && homes.is_sorted_by(|left, right| left < right);
        (distinct && (1..=DELEGATES_MAX).contains(&delegates.len())).then_some(Self { term, delegates })
    }

    /// Counts elections.
    #[must_use]
    pub const fn term(&self) -> u32 {
        self.term
    }

    /// The seats, in ascending order of their keys.
    #[must_use]
    pub fn as_slice(&self) -> &[Delegate] {
        &self.delegates
    }

    /// How many seats.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.delegates.len()
    }

    /// Never true.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.delegates.is_empty()
    }

    /// The least number of votes that decides: more than two thirds.
    #[must_use]
    pub const fn quorum(&self) -> usize {
        self.delegates.len().saturating_mul(2).wrapping_div(3).saturating_add(1)
    }

    /// How many of them may fail without harm: f of 3f + 1.
    #[must_use]
    pub fn faults(&self) -> u32 {
        let faults = self.delegates.len().saturating_sub(1).wrapping_div(3);
        u32::try_from(faults).unwrap_or(u32::MAX)
    }

    /// The seat with this consensus key.
    #[must_use]
    pub fn seat_of(&self, key: &PublicKey) -> Option<usize> {
        self.delegates.binary_search_by_key(key, |delegate| delegate.key).ok()
    }

    /// The seat held by a home.
    #[must_use]
    pub fn of_home(&self, home: &HomeId) -> Option<&Delegate> {
        self.delegates.iter().find(|delegate| delegate.home == *home)
    }

    /// Its hash, as headers name it.
    #[must_use]
    pub fn hash(&self) -> Hash32 {
        Hash32::of(&[b"commonwatt/delegates/v1", &self.to_bytes()])
    }
}

impl Encode for DelegateSet {
    fn encode(&self, out: &mut Vec<u8>) {
        self.term.encode(out);
        encode_list(&self.delegates, out);
    }
}

impl Decode for DelegateSet {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let term = u32::decode(reader)?;
        let delegates: Vec<Delegate> = decode_list(reader, "delegates", DELEGATES_MAX)?;
        let ordered = delegates.is_sorted_by(|left, right| left.key < right.key);
        let set = Self::new(term, delegates).filter(|_| ordered);
        set.ok_or(CodecError::Invalid { what: "delegate set" })
    }
}

/// What a delegate says about a value in one round: Tendermint's two votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum VoteKind {
    /// First vote.
    Prevote = 0,
    /// Second vote; more than two thirds of them make a block final.
    Precommit = 1,
}

/// The bytes a delegate signs to vote; `block` is `None` for nil.
#[must_use]
pub fn vote_signing_bytes(
    chain: &Chain,
    kind: VoteKind,
    height: u64,
    round: u32,
    block: Option<&BlockId>,
) -> Vec<u8> {
    let mut body = vec![kind as u8];
    height.encode(&mut body);
    round.encode(&mut body);
    block.copied().encode(&mut body);
    chain.signing_bytes("vote", &body)
}

/// Proof that a block is final: precommits of more than two thirds of its delegates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Height of the block.
    pub height: u64,
    /// Round it was decided in.
    pub round: u32,
    /// The block.
    pub block: BlockId,
    /// Seat and signature, in ascending seat order.
    pub signatures: Vec<(u8, Signature)>,
}

impl Certificate {
    /// What stands in a certificate's place for a recovery block, which carries the proof itself.
    #[must_use]
    pub const fn of_recovery(height: u64, block: BlockId) -> Self {
        Self { height, round: 0, block, signatures: Vec::new() }
    }

    /// Its hash, as the next header names it; [`Hash32::ZERO`] stands for none.
    #[must_use]
    pub fn hash(&self) -> Hash32 {
        Hash32::of(&[b"commonwatt/certificate/v1", &self.to_bytes()])
    }

    /// Checks it against the delegate set that decides this height.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn verify(&self, chain: &Chain, delegates: &DelegateSet) -> Result<(), CertificateError> {
        if !self.signatures.is_sorted_by(|(left, _), (right, _)| left < right) {
            return Err(CertificateError::Disordered);
        }
        let needed = delegates.quorum();
        if self.signatures.len() < needed {
            return Err(CertificateError::TooFew { present: self.signatures.len(), needed });
        }
        let message =
            vote_signing_bytes(chain, VoteKind::Precommit, self.height, self.round, Some(&self.block));
        for (seat, signature) in &self.signatures {
            let delegate = delegates
                .as_slice()
                .get(usize::from(*seat))
                .ok_or(CertificateError::NoSuchSeat { seat: *seat })?;
            if !delegate.key.verifies(&message, signature) {
                return Err(CertificateError::Forged { seat: *seat });
            }
        }
        Ok(())
    }
}

impl Encode for Certificate {
    fn encode(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        self.round.encode(out);
        self.block.encode(out);
        encode_list(&self.signatures, out);
    }
}

impl Decode for Certificate {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            height: Decode::decode(reader)?,
            round: Decode::decode(reader)?,
            block: Decode::decode(reader)?,
            signatures: decode_list(reader, "certificate signatures", DELEGATES_MAX)?,
        })
    }
}

/// Why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Two thirds or fewer signed.
    #[error("{present} signatures where {needed} are needed")]
    TooFew {
        /// How many there are.
        present: usize,
        /// How many it takes.
        needed: usize,
    },
    /// Seats ascend, each once.
    #[error("the signatures are not in ascending seat order or repeat a seat")]
    Disordered,
    /// The set is smaller.
    #[error("there is no seat {seat}")]
    NoSuchSeat {
        /// The seat named.
        seat: u8,
    },
    /// Not this delegate's signature over this block.
    #[error("the signature of seat {seat} does not hold")]
    Forged {
        /// The seat.
        seat: u8,
    },
}
