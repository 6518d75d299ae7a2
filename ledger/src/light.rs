//! Checking a chain with its genesis alone: from certificate to certificate of the blocks that change the delegates, and from
//! a certified block to any leaf of the transparency tree.
//!
//! A header names the set that decides its block and the set that decides the next one. So whoever knows the set of a height
//! needs no block until the set changes: the first header that names another next set, with the certificate of the old set,
//! hands the trust on. What it rests on: of each set, no third ever signs for an outsider, also not later. Keys of a term are
//! destroyed after it; a node that was away for long asks for a [checkpoint](crate::Checkpoint) besides.

use energy::Timestamp;

use crate::block::{BlockId, Certificate, CertificateError, DelegateSet, Header};
use crate::codec::{
    CodecError, Decode, Encode, Reader, decode_list, decode_text, encode_list, encode_text, record,
};
use crate::crypto::{Hash32, Salt};
use crate::entry::{Chain, ENTRY_BYTES_MAX, SignatureError, SignedEntry, VerifiedEntry};
use crate::genesis::{Genesis, GenesisError};
use crate::ledger::Ledger;
use crate::outcome::{Leaf, LeafSource, Outcome};
use crate::tree::verify_inclusion;

/// The most set changes in one proof: elections of forty years, one a day.
pub const CHANGES_MAX: usize = 16_384;
/// The longest proof, in bytes: so many changes of the largest sets.
pub const PROOF_BYTES_MAX: usize = 96 << 20;
/// The longest path from a leaf to the root: a tree of 2⁶⁴ leaves.
const PATH_MAX: usize = 64;
/// The longest outcome: a gate with a price for each node of the network.
const CONTENT_BYTES_MAX: usize = 1 << 20;
/// What a proof begins with.
const MAGIC: &str = "commonwatt/proof/v1";

/// A block after which another set decides: the first whose header names that set as the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetChange {
    /// Its header.
    pub header: Header,
    /// Why it is final, by the set that decided until then.
    pub certificate: Certificate,
    /// The set that decides from the next height on.
    pub delegates: DelegateSet,
}

record!(SetChange { header, certificate, delegates });

impl SetChange {
    /// True for a recovery: nobody signed its certificate, the members attested the block itself.
    #[must_use]
    pub const fn is_recovery(&self) -> bool {
        self.certificate.signatures.is_empty()
    }
}

/// What is known of a chain without its blocks: who decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LightClient {
    chain: Chain,
    /// Height of the last set change that was followed; 0 at genesis.
    height: u64,
    delegates: DelegateSet,
}

impl LightClient {
    /// Begins at a genesis.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn new(genesis: &Genesis) -> Result<Self, GenesisError> {
        genesis.validate()?;
        Ok(Self { chain: genesis.chain(), height: 0, delegates: genesis.delegate_set()? })
    }

    /// Begins at what a node's own ledger knows after its last block.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        Self { chain: *ledger.chain(), height: ledger.height(), delegates: ledger.delegates().clone() }
    }

    /// The set that decides from here on, as far as is known.
    #[must_use]
    pub const fn delegates(&self) -> &DelegateSet {
        &self.delegates
    }

    /// Height of the last set change that was followed; 0 at genesis.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// Follows a change of the set.
    ///
    /// # Errors
    /// [`LightError`]; nothing is followed then.
    pub fn follow(&mut self, change: &SetChange) -> Result<(), LightError> {
        self.check(&change.header, &change.certificate)?;
        let named = change.header.next_delegates;
        if named == change.header.delegates || named != change.delegates.hash() {
            return Err(LightError::OtherNextSet { height: change.header.height });
        }
        self.height = change.header.height;
        self.delegates = change.delegates.clone();
        Ok(())
    }

    /// Follows a recovery, which the members decided and no delegates: only for who knows it to be right from elsewhere, from
    /// its own ledger or from a [checkpoint](crate::Checkpoint) at or after it.
    ///
    /// # Errors
    /// [`LightError`]: it is no recovery, or of something else.
    pub fn follow_recovery(&mut self, change: &SetChange) -> Result<(), LightError> {
        let header = &change.header;
        let height = header.height;
        self.is_of_chain(header)?;
        if !change.is_recovery() || header.chain.recovery <= self.chain.recovery {
            return Err(LightError::OtherBlock { height });
        }
        if height <= self.height {
            return Err(LightError::Backwards { height, known: self.height });
        }
        if header.delegates != self.delegates.hash() || header.next_delegates != change.delegates.hash() {
            return Err(LightError::OtherNextSet { height });
        }
        self.chain = header.chain;
        self.height = height;
        self.delegates = change.delegates.clone();
        Ok(())
    }

    /// Trusts a header for its certificate.
    ///
    /// # Errors
    /// [`LightError`].
    pub fn trust(&self, header: Header, certificate: &Certificate) -> Result<TrustedHeader, LightError> {
        self.check(&header, certificate)?;
        Ok(TrustedHeader { header })
    }

    fn check(&self, header: &Header, certificate: &Certificate) -> Result<(), LightError> {
        let height = header.height;
        self.is_of_chain(header)?;
        if header.chain.recovery != self.chain.recovery {
            return Err(LightError::Recovered { height });
        }
        if height <= self.height {
            return Err(LightError::Backwards { height, known: self.height });
        }
        if header.delegates != self.delegates.hash() {
            return Err(LightError::OtherSet { height });
        }
        if (certificate.height, certificate.block) != (height, header.id()) {
            return Err(LightError::OtherBlock { height });
        }
        certificate
            .verify(&self.chain, &self.delegates)
            .map_err(|error| LightError::Certificate { height, error })
    }
}

impl LightClient {
    fn is_of_chain(&self, header: &Header) -> Result<(), LightError> {
        let (found, expected) = (header.chain.id, self.chain.id);
        if found == expected { Ok(()) } else { Err(LightError::OtherChain { found, expected }) }
    }
}

/// A header that more than two thirds of the right set certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedHeader {
    header: Header,
}

impl TrustedHeader {
    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The block's name.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.header.id()
    }

    /// True if `ledger` is what this block left: what a snapshot must be before anything is built on it.
    #[must_use]
    pub fn is_of(&self, ledger: &Ledger) -> bool {
        let header = &self.header;
        ledger.chain() == &header.chain
            && (ledger.height(), ledger.head()) == (header.height, header.id())
            && ledger.state_root() == header.state_root
            && (ledger.tree_size(), ledger.tree_root()) == (header.tree_size, header.tree_root)
            && ledger.last_delegates().hash() == header.delegates
            && ledger.delegates().hash() == header.next_delegates
    }
}

/// What a leaf stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A signed entry, as it travels.
    Entry(Vec<u8>),
    /// Something the state machine said.
    Outcome(Vec<u8>),
}

impl Encode for Content {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Entry(bytes) => (0, bytes),
            Self::Outcome(bytes) => (1, bytes),
        };
        out.push(kind);
        u32::try_from(bytes.len()).unwrap_or(u32::MAX).encode(out);
        out.extend_from_slice(bytes);
    }
}

impl Decode for Content {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let kind = u8::decode(reader)?;
        let max = if kind == 0 { ENTRY_BYTES_MAX } else { CONTENT_BYTES_MAX };
        let length = reader.count("content of a leaf", max)?;
        let bytes = reader.take(length, "content of a leaf")?.to_vec();
        match kind {
            0 => Ok(Self::Entry(bytes)),
            1 => Ok(Self::Outcome(bytes)),
            _ => Err(CodecError::Invalid { what: "content of a leaf" }),
        }
    }
}

/// Proof that something is on a chain, which holds for whoever has the chain's genesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Every change of the set until the certified block, in order.
    pub changes: Vec<SetChange>,
    /// The block whose tree holds the leaf: the one that made it, or any later one.
    pub header: Header,
    /// Why that block is final.
    pub certificate: Certificate,
    /// Position of the leaf.
    pub position: u64,
    /// The hashes beside the way from the leaf to the root (RFC 6962, section 2.1.1).
    pub path: Vec<Hash32>,
    /// What the leaf stands for; a sealed one opens with the salt in it.
    pub content: Content,
}

impl Encode for Proof {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(MAGIC, out);
        encode_list(&self.changes, out);
        self.header.encode(out);
        self.certificate.encode(out);
        self.position.encode(out);
        encode_list(&self.path, out);
        self.content.encode(out);
    }
}

impl Decode for Proof {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        if decode_text(reader, "proof", MAGIC.len())? != MAGIC {
            return Err(CodecError::Invalid { what: "proof" });
        }
        Ok(Self {
            changes: decode_list(reader, "set changes", CHANGES_MAX)?,
            header: Decode::decode(reader)?,
            certificate: Decode::decode(reader)?,
            position: Decode::decode(reader)?,
            path: decode_list(reader, "tree path", PATH_MAX)?,
            content: Decode::decode(reader)?,
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(CodecError::TooLong { what: "proof", max: PROOF_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let proof = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(proof)
    }
}

/// What was proven to be on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProvenContent {
    /// An entry, with every signature on it.
    Entry(Box<VerifiedEntry>),
    /// Something the state machine said.
    Outcome(Box<Outcome>),
}

/// A proof that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Height of the certified block whose tree holds it: it was there by then.
    pub height: u64,
    /// That block.
    pub block: BlockId,
    /// Its market time.
    pub time: Timestamp,
    /// Who decided it: how many seats signed, of how many.
    pub signed: (usize, usize),
    /// How many changes of the set lead there from the genesis.
    pub changes: usize,
    /// Position of its leaf.
    pub position: u64,
    /// True where the tree holds only a salted commitment to it.
    pub is_sealed: bool,
    /// What it is.
    pub content: ProvenContent,
}

impl Proof {
    /// Checks the proof with nothing but the genesis.
    ///
    /// # Errors
    /// [`LightError`]: the first thing that does not hold.
    pub fn check(&self, genesis: &Genesis) -> Result<Proven, LightError> {
        let mut client = LightClient::new(genesis)?;
        for change in &self.changes {
            client.follow(change)?;
        }
        let trusted = client.trust(self.header.clone(), &self.certificate)?;
        let (content, is_sealed, salt) = self.opened(trusted.header().chain)?;
        let bytes = match &self.content {
            Content::Entry(bytes) | Content::Outcome(bytes) => bytes,
        };
        // Where it stood in its block does not matter to its hash.
        let leaf = Leaf::new(is_sealed, &salt, bytes, LeafSource::Entry(0));
        let header = trusted.header();
        if !verify_inclusion(leaf.hash, self.position, header.tree_size, &self.path, &header.tree_root) {
            return Err(LightError::NotIncluded { position: self.position, height: header.height });
        }
        Ok(Proven {
            height: header.height,
            block: trusted.id(),
            time: header.time,
            signed: (self.certificate.signatures.len(), client.delegates.len()),
            changes: self.changes.len(),
            position: self.position,
            is_sealed,
            content,
        })
    }

    /// The content, whether its leaf is sealed, and with which salt.
    fn opened(&self, chain: Chain) -> Result<(ProvenContent, bool, Salt), LightError> {
        match &self.content {
            Content::Entry(bytes) => {
                let entry = verified(&SignedEntry::from_bytes(bytes)?, chain)?;
                let (sealed, salt) = (entry.entry().body.is_sealed(), entry.entry().salt);
                Ok((ProvenContent::Entry(Box::new(entry)), sealed, salt))
            }
            Content::Outcome(bytes) => {
                let outcome = Outcome::from_bytes(bytes)?;
                let (sealed, salt) = (outcome.is_sealed(), outcome.salt());
                Ok((ProvenContent::Outcome(Box::new(outcome)), sealed, salt))
            }
        }
    }
}

/// An entry was signed for the chain as it was then: before or after any of its recoveries.
fn verified(entry: &SignedEntry, chain: Chain) -> Result<VerifiedEntry, SignatureError> {
    let mut first = None;
    for recovery in (0..=chain.recovery).rev().take(PATH_MAX) {
        match entry.clone().verify(&Chain { recovery, ..chain }) {
            Ok(verified) => return Ok(verified),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(SignatureError::NoAuthor))
}

/// Why nothing is proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// The genesis is not valid.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// Bytes that are no proof, or of another version.
    #[error("this is no proof, or a damaged one: {0}")]
    Codec(#[from] CodecError),
    /// Of another community.
    #[error("it is of chain {found}, the genesis is of chain {expected}")]
    OtherChain {
        /// Its chain.
        found: Hash32,
        /// That of the genesis.
        expected: Hash32,
    },
    /// The members seated other delegates, which no certificate shows.
    #[error(
        "the chain was recovered by its members at or before block {height}; what follows cannot be checked with the genesis \
         alone, but with a checkpoint that operator and auditor signed"
    )]
    Recovered {
        /// The block.
        height: u64,
    },
    /// Heights ascend.
    #[error("block {height} comes after block {known} in it")]
    Backwards {
        /// The block.
        height: u64,
        /// The one before it.
        known: u64,
    },
    /// A change of the set is missing, or the block is of another history.
    #[error(
        "block {height} was decided by other delegates than those known for it; a change of the delegates is missing"
    )]
    OtherSet {
        /// The block.
        height: u64,
    },
    /// The next set does not fit the header.
    #[error("the delegates after block {height} are not those its header names")]
    OtherNextSet {
        /// The block.
        height: u64,
    },
    /// The certificate is of another block.
    #[error("the certificate is not of block {height}")]
    OtherBlock {
        /// The block.
        height: u64,
    },
    /// The certificate proves nothing.
    #[error("block {height} is not certified: {error}")]
    Certificate {
        /// The block.
        height: u64,
        /// Why not.
        error: CertificateError,
    },
    /// An entry whose signatures do not hold.
    #[error("the entry is not genuine: {0}")]
    Entry(#[from] SignatureError),
    /// The path does not lead from the leaf to the block's root.
    #[error("leaf {position} of the tree of block {height} is something else")]
    NotIncluded {
        /// Where it should be.
        position: u64,
        /// The block whose tree it should be in.
        height: u64,
    },
}
