//! What a delegate signs and is bound by, and the proof that it broke its word.
//!
//! A delegate signs votes and proposals with the consensus key of its term. Two of them exclude one another if they are of one
//! key, kind, height and round and say different things: an honest node never signs such a pair, whatever crashes and delays it
//! goes through, so the pair alone is proof. It is checked against the bytes that were signed and nothing else.

use crate::block::{BlockId, VoteKind, vote_signing_bytes};
use crate::codec::{CodecError, Decode, Encode, Reader, record};
use crate::crypto::{PublicKey, Signature};
use crate::entry::Chain;

impl Encode for VoteKind {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for VoteKind {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        match u8::decode(reader)? {
            0 => Ok(Self::Prevote),
            1 => Ok(Self::Precommit),
            _ => Err(CodecError::Invalid { what: "vote kind" }),
        }
    }
}

/// A delegate's vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedVote {
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// Height it is for.
    pub height: u64,
    /// Round it is for.
    pub round: u32,
    /// The block; `None` for nil.
    pub block: Option<BlockId>,
    /// Consensus key of the voter.
    pub voter: PublicKey,
    /// Over [`SignedVote::signing_bytes`].
    pub signature: Signature,
}

record!(SignedVote { kind, height, round, block, voter, signature });

impl SignedVote {
    /// What the voter signs: the bytes a [`Certificate`](crate::Certificate) is checked against.
    #[must_use]
    pub fn signing_bytes(&self, chain: &Chain) -> Vec<u8> {
        vote_signing_bytes(chain, self.kind, self.height, self.round, self.block.as_ref())
    }
}

/// A proposal to decide on a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedProposal {
    /// Height it is for.
    pub height: u64,
    /// Round it is for.
    pub round: u32,
    /// The block.
    pub block: BlockId,
    /// An earlier round in which more than two thirds prevoted for this block; `None` for a fresh proposal.
    pub valid_round: Option<u32>,
    /// Consensus key of the proposer.
    pub proposer: PublicKey,
    /// Over [`SignedProposal::signing_bytes`].
    pub signature: Signature,
}

record!(SignedProposal { height, round, block, valid_round, proposer, signature });

impl SignedProposal {
    /// What the proposer signs.
    #[must_use]
    pub fn signing_bytes(&self, chain: &Chain) -> Vec<u8> {
        let mut body = Vec::new();
        self.height.encode(&mut body);
        self.round.encode(&mut body);
        self.block.encode(&mut body);
        self.valid_round.encode(&mut body);
        chain.signing_bytes("proposal", &body)
    }
}

/// Something a delegate signed and is bound by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A vote.
    Vote(SignedVote),
    /// A proposal.
    Proposal(SignedProposal),
}

impl Statement {
    /// The key that signed it.
    #[must_use]
    pub const fn author(&self) -> &PublicKey {
        match self {
            Self::Vote(vote) => &vote.voter,
            Self::Proposal(proposal) => &proposal.proposer,
        }
    }

    /// The height it is for.
    #[must_use]
    pub const fn height(&self) -> u64 {
        match self {
            Self::Vote(vote) => vote.height,
            Self::Proposal(proposal) => proposal.height,
        }
    }

    /// The round it is for.
    #[must_use]
    pub const fn round(&self) -> u32 {
        match self {
            Self::Vote(vote) => vote.round,
            Self::Proposal(proposal) => proposal.round,
        }
    }

    /// True if the author did sign it.
    #[must_use]
    pub fn holds(&self, chain: &Chain) -> bool {
        match self {
            Self::Vote(vote) => vote.voter.verifies(&vote.signing_bytes(chain), &vote.signature),
            Self::Proposal(proposal) => {
                proposal.proposer.verifies(&proposal.signing_bytes(chain), &proposal.signature)
            }
        }
    }

    /// True if nobody honest signs both with one key, signatures apart.
    fn excludes(&self, other: &Self) -> bool {
        let same_place = self.author() == other.author()
            && self.height() == other.height()
            && self.round() == other.round();
        same_place
            && match (self, other) {
                (Self::Vote(one), Self::Vote(two)) => one.kind == two.kind && one.block != two.block,
                (Self::Proposal(one), Self::Proposal(two)) => {
                    (one.block, one.valid_round) != (two.block, two.valid_round)
                }
                _ => false,
            }
    }
}

impl Encode for Statement {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Vote(vote) => {
                out.push(0);
                vote.encode(out);
            }
            Self::Proposal(proposal) => {
                out.push(1);
                proposal.encode(out);
            }
        }
    }
}

impl Decode for Statement {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match u8::decode(r)? {
            0 => SignedVote::decode(r).map(Self::Vote),
            1 => SignedProposal::decode(r).map(Self::Proposal),
            _ => Err(CodecError::Invalid { what: "statement" }),
        }
    }
}

/// Two statements of one delegate that exclude one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// One.
    pub first: Statement,
    /// The other.
    pub second: Statement,
}

record!(Evidence { first, second });

impl Evidence {
    /// Who signed both.
    #[must_use]
    pub const fn culprit(&self) -> &PublicKey {
        self.first.author()
    }

    /// The height they are for.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.first.height()
    }

    /// Checks that it proves something.
    ///
    /// # Errors
    /// [`EvidenceError::NoContradiction`], [`EvidenceError::Forged`].
    pub fn verify(&self, chain: &Chain) -> Result<(), EvidenceError> {
        if !self.first.excludes(&self.second) {
            return Err(EvidenceError::NoContradiction);
        }
        if self.first.holds(chain) && self.second.holds(chain) { Ok(()) } else { Err(EvidenceError::Forged) }
    }
}

/// Why evidence proves nothing, or nothing that counts now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Both can be said by one who is honest.
    #[error(
        "the two statements do not exclude one another: they must be of one key, kind, height and round and differ in what \
         they say"
    )]
    NoContradiction,
    /// A signature does not hold.
    #[error("a statement is not signed by the key it names, on this chain")]
    Forged,
    /// Not the consensus key of any term that the ledger remembers.
    #[error("key {key} is no consensus key of a member in a term that is remembered")]
    UnknownKey {
        /// The key.
        key: PublicKey,
    },
    /// Evidence counts in the epoch of its height and the two after it.
    #[error("the statements are of height {height}; only what was said above {after} counts by now")]
    Expired {
        /// Of the statements.
        height: u64,
        /// The last height that does not count any more.
        after: u64,
    },
    /// No delegate has anything to say so far ahead.
    #[error("the statements are of height {height}, which has not come yet; the next block is {next}")]
    Ahead {
        /// Of the statements.
        height: u64,
        /// Of the block that would hold them.
        next: u64,
    },
    /// Once is enough.
    #[error("that key {key} contradicted itself is on the ledger already")]
    Known {
        /// The key.
        key: PublicKey,
    },
}
