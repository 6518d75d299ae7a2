//! What nodes say to one another: one versioned encoding, its size limited by kind before anything is decoded.
//!
//! A message is a version byte, a kind byte and the body in the ledger's canonical encoding. Votes and proposals are
//! signed; everything else is believed only as far as what it carries proves itself.

use ledger::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};
use ledger::{
    BLOCK_BYTES_MAX, BlockId, Certificate, DELEGATES_MAX, ENTRY_BYTES_MAX, PublicKey, Signature, VoteKind,
};
pub use ledger::{SignedProposal, SignedVote, Statement};

/// Version of the encoding.
pub const MESSAGE_VERSION: u8 = 1;
/// The longest message of any kind: a whole block and its certificate fit.
pub const MESSAGE_BYTES_MAX: usize = BLOCK_BYTES_MAX + 65_536;
/// The longest message that is gossiped; a longer block is announced and fetched.
pub const GOSSIP_BYTES_MAX: usize = 60 * 1024;
/// The most entries in one [`Message::Entries`].
pub const ENTRIES_MAX: usize = 256;
/// The most blocks in one [`Message::SyncResponse`].
pub const SYNC_BLOCKS_MAX: usize = 64;
/// The most statements in one [`Message::RecoverResponse`].
pub const STATEMENTS_MAX: usize = 512;

/// Prevotes of more than two thirds for one block in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polka {
    /// Height.
    pub height: u64,
    /// Round.
    pub round: u32,
    /// The block.
    pub block: BlockId,
    /// Voter and signature.
    pub signatures: Vec<(PublicKey, Signature)>,
}

/// One vote inside a [`RoundCertificate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundVote {
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// The block; `None` for nil.
    pub block: Option<BlockId>,
    /// Consensus key of the voter.
    pub voter: PublicKey,
    /// The voter's signature over this vote.
    pub signature: Signature,
}

/// Votes that justify going to a later round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundCertificate {
    /// Height.
    pub height: u64,
    /// Round the votes are of.
    pub round: u32,
    /// True: more than one third voted in this later round; false: more than two thirds precommitted in it.
    pub skip: bool,
    /// The votes.
    pub votes: Vec<RoundVote>,
}

/// A message between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A vote.
    Vote(SignedVote),
    /// A proposal and the block it is about (`Block::to_bytes`; empty where the sender does not hold it).
    Proposal(SignedProposal, Vec<u8>),
    /// A polka, sent ahead of what is proposed again on its strength.
    Polka(Polka),
    /// Why the sender is in the round it is in.
    Round(RoundCertificate),
    /// Asks for final blocks.
    SyncRequest {
        /// The first height wanted.
        from_height: u64,
        /// The most bytes of blocks to answer with; one block always fits.
        max_bytes: u32,
    },
    /// Final blocks of consecutive heights with their certificates.
    SyncResponse(Vec<(Vec<u8>, Certificate)>),
    /// The highest final block the sender holds.
    Status {
        /// Its height.
        height: u64,
    },
    /// Asks for messages that bear the sender's own key, after a stop that was not clean.
    RecoverRequest {
        /// At or above this height.
        height: u64,
        /// Consensus key of the asker.
        key: PublicKey,
    },
    /// What the sender holds of the asker.
    RecoverResponse {
        /// The height the sender works on.
        height: u64,
        /// Statements signed by the asker.
        statements: Vec<Statement>,
    },
    /// Entries for the delegates' next blocks (signed entries, each at most 4 KiB).
    Entries(Vec<Vec<u8>>),
    /// A block that became final.
    Final(Vec<u8>, Certificate),
}

impl Message {
    /// The encoding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![MESSAGE_VERSION, self.kind()];
        match self {
            Self::Vote(vote) => vote.encode(&mut out),
            Self::Proposal(proposal, body) => {
                proposal.encode(&mut out);
                encode_bytes(body, &mut out);
            }
            Self::Polka(polka) => polka.encode(&mut out),
            Self::Round(certificate) => certificate.encode(&mut out),
            Self::SyncRequest { from_height, max_bytes } => {
                from_height.encode(&mut out);
                max_bytes.encode(&mut out);
            }
            Self::SyncResponse(blocks) => encode_blocks(blocks, &mut out),
            Self::Status { height } => height.encode(&mut out),
            Self::RecoverRequest { height, key } => {
                height.encode(&mut out);
                key.encode(&mut out);
            }
            Self::RecoverResponse { height, statements } => {
                height.encode(&mut out);
                encode_list(statements, &mut out);
            }
            Self::Entries(entries) => encode_entries(entries, &mut out),
            Self::Final(block, certificate) => {
                encode_bytes(block, &mut out);
                certificate.encode(&mut out);
            }
        }
        out
    }

    /// Reads a message. Its length is held against the limit of its kind before anything else is looked at.
    ///
    /// # Errors
    /// [`CodecError`]: an unknown version or kind, too long for its kind, or not the canonical encoding.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let [version, kind, body @ ..] = bytes else {
            return Err(CodecError::TooShort { what: "message" });
        };
        if *version != MESSAGE_VERSION {
            return Err(CodecError::Invalid { what: "message version" });
        }
        let (what, max) = limit_of(*kind).ok_or(CodecError::Invalid { what: "message kind" })?;
        if body.len() > max {
            return Err(CodecError::TooLong { what, max });
        }
        let mut reader = Reader::new(body);
        let message = decode_body(*kind, &mut reader)?;
        reader.finish()?;
        Ok(message)
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Vote(_) => 1,
            Self::Proposal(..) => 2,
            Self::Polka(_) => 3,
            Self::Round(_) => 4,
            Self::SyncRequest { .. } => 5,
            Self::SyncResponse(_) => 6,
            Self::Status { .. } => 7,
            Self::RecoverRequest { .. } => 8,
            Self::RecoverResponse { .. } => 9,
            Self::Entries(_) => 10,
            Self::Final(..) => 11,
        }
    }
}

/// Name and greatest body length of each kind, in bytes. A vote has 142 bytes at most, a certificate 31 votes.
const fn limit_of(kind: u8) -> Option<(&'static str, usize)> {
    Some(match kind {
        1 => ("vote", 256),
        2 => ("proposal", BLOCK_BYTES_MAX + 512),
        3 => ("polka", 4096),
        4 => ("round certificate", 5120),
        5 => ("sync request", 12),
        6 => ("sync response", MESSAGE_BYTES_MAX),
        7 => ("status", 8),
        8 => ("recover request", 41),
        9 => ("recover response", STATEMENTS_MAX * 160),
        10 => ("entries", ENTRIES_MAX * (ENTRY_BYTES_MAX + 4)),
        11 => ("final block", BLOCK_BYTES_MAX + 4096),
        _ => return None,
    })
}

fn decode_body(kind: u8, r: &mut Reader<'_>) -> Result<Message, CodecError> {
    Ok(match kind {
        1 => Message::Vote(Decode::decode(r)?),
        2 => Message::Proposal(Decode::decode(r)?, decode_bytes(r, "proposed block", BLOCK_BYTES_MAX)?),
        3 => Message::Polka(Decode::decode(r)?),
        4 => Message::Round(Decode::decode(r)?),
        5 => Message::SyncRequest { from_height: Decode::decode(r)?, max_bytes: Decode::decode(r)? },
        6 => Message::SyncResponse(decode_blocks(r)?),
        7 => Message::Status { height: Decode::decode(r)? },
        8 => Message::RecoverRequest { height: Decode::decode(r)?, key: Decode::decode(r)? },
        9 => Message::RecoverResponse {
            height: Decode::decode(r)?,
            statements: decode_list(r, "statements", STATEMENTS_MAX)?,
        },
        10 => Message::Entries(decode_entries(r)?),
        11 => Message::Final(decode_bytes(r, "final block", BLOCK_BYTES_MAX)?, Decode::decode(r)?),
        _ => return Err(CodecError::Invalid { what: "message kind" }),
    })
}

/// Splits entries into messages, none above the limits, in the order given.
#[must_use]
pub fn entries_messages<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut batch: Vec<Vec<u8>> = Vec::new();
    for entry in entries {
        batch.push(entry.to_vec());
        if batch.len() == ENTRIES_MAX {
            messages.push(Message::Entries(std::mem::take(&mut batch)).to_bytes());
        }
    }
    if !batch.is_empty() {
        messages.push(Message::Entries(batch).to_bytes());
    }
    messages
}

pub(crate) fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // Nothing that is sent or logged comes near 2³² bytes.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).encode(out);
    out.extend_from_slice(bytes);
}

pub(crate) fn decode_bytes(
    r: &mut Reader<'_>,
    what: &'static str,
    max: usize,
) -> Result<Vec<u8>, CodecError> {
    let count = r.count(what, max)?;
    r.take(count, what).map(<[u8]>::to_vec)
}

fn encode_entries(entries: &[Vec<u8>], out: &mut Vec<u8>) {
    u32::try_from(entries.len()).unwrap_or(u32::MAX).encode(out);
    for entry in entries {
        encode_bytes(entry, out);
    }
}

fn decode_entries(r: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, CodecError> {
    let count = r.count("entries", ENTRIES_MAX)?;
    (0..count).map(|_| decode_bytes(r, "entry", ENTRY_BYTES_MAX)).collect()
}

fn encode_blocks(blocks: &[(Vec<u8>, Certificate)], out: &mut Vec<u8>) {
    u32::try_from(blocks.len()).unwrap_or(u32::MAX).encode(out);
    for (block, certificate) in blocks {
        encode_bytes(block, out);
        certificate.encode(out);
    }
}

fn decode_blocks(r: &mut Reader<'_>) -> Result<Vec<(Vec<u8>, Certificate)>, CodecError> {
    let count = r.count("blocks", SYNC_BLOCKS_MAX)?;
    (0..count)
        .map(|_| Ok((decode_bytes(r, "final block", BLOCK_BYTES_MAX)?, Certificate::decode(r)?)))
        .collect()
}

impl Encode for Polka {
    fn encode(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        self.round.encode(out);
        self.block.encode(out);
        encode_list(&self.signatures, out);
    }
}

impl Decode for Polka {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            height: Decode::decode(r)?,
            round: Decode::decode(r)?,
            block: Decode::decode(r)?,
            signatures: decode_list(r, "polka signatures", DELEGATES_MAX)?,
        })
    }
}

impl Encode for RoundVote {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        self.block.encode(out);
        self.voter.encode(out);
        self.signature.encode(out);
    }
}

impl Decode for RoundVote {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            kind: Decode::decode(r)?,
            block: Decode::decode(r)?,
            voter: Decode::decode(r)?,
            signature: Decode::decode(r)?,
        })
    }
}

impl Encode for RoundCertificate {
    fn encode(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        self.round.encode(out);
        self.skip.encode(out);
        encode_list(&self.votes, out);
    }
}

impl Decode for RoundCertificate {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            height: Decode::decode(r)?,
            round: Decode::decode(r)?,
            skip: Decode::decode(r)?,
            votes: decode_list(r, "round votes", DELEGATES_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use ledger::{Chain, Hash32};

    fn chain() -> Chain {
        Chain { id: Hash32::of(&[b"a chain"]), recovery: 0 }
    }

    fn vote(key: &SigningKey) -> SignedVote {
        let block = Some(BlockId(Hash32::of(&[b"a block"])));
        let mut vote = SignedVote {
            kind: VoteKind::Precommit,
            height: 7,
            round: 2,
            block,
            voter: PublicKey::of(key),
            signature: Signature([0; 64]),
        };
        vote.signature = Signature::sign(key, &vote.signing_bytes(&chain()));
        vote
    }

    fn samples() -> Vec<Message> {
        let key = SigningKey::from_bytes(&[7; 32]);
        let vote = vote(&key);
        let proposal = SignedProposal {
            height: 7,
            round: 3,
            block: BlockId::default(),
            valid_round: Some(1),
            proposer: vote.voter,
            signature: vote.signature,
        };
        let certificate = Certificate {
            height: 7,
            round: 0,
            block: BlockId::default(),
            signatures: vec![(0, vote.signature), (2, vote.signature)],
        };
        let round_vote =
            RoundVote { kind: VoteKind::Prevote, block: None, voter: vote.voter, signature: vote.signature };
        vec![
            Message::Vote(vote.clone()),
            Message::Proposal(proposal.clone(), vec![1, 2, 3]),
            Message::Polka(Polka {
                height: 7,
                round: 1,
                block: BlockId::default(),
                signatures: vec![(vote.voter, vote.signature); DELEGATES_MAX],
            }),
            Message::Round(RoundCertificate {
                height: 7,
                round: 2,
                skip: true,
                votes: vec![round_vote; DELEGATES_MAX],
            }),
            Message::SyncRequest { from_height: 3, max_bytes: 9 },
            Message::SyncResponse(vec![(vec![9; 40], certificate.clone()), (vec![], certificate.clone())]),
            Message::Status { height: 12 },
            Message::RecoverRequest { height: 12, key: vote.voter },
            Message::RecoverResponse {
                height: 13,
                statements: vec![Statement::Vote(vote), Statement::Proposal(proposal)],
            },
            Message::Entries(vec![vec![5; 10], vec![6; 20]]),
            Message::Final(vec![4; 100], certificate),
        ]
    }

    #[test]
    fn every_message_reads_back_and_no_prefix_or_extension_of_it_does() {
        for message in samples() {
            let mut bytes = message.to_bytes();
            assert_eq!(Message::from_bytes(&bytes).as_ref(), Ok(&message));
            assert!(Message::from_bytes(&bytes[..bytes.len() - 1]).is_err(), "{message:?}");
            bytes.push(0);
            assert!(Message::from_bytes(&bytes).is_err(), "{message:?}");
        }
    }

    #[test]
    fn a_message_is_refused_by_length_before_it_is_decoded() {
        let mut long = vec![0; 300];
        long[..2].copy_from_slice(&[MESSAGE_VERSION, 1]);
        assert_eq!(Message::from_bytes(&long), Err(CodecError::TooLong { what: "vote", max: 256 }));
        assert_eq!(Message::from_bytes(&[2, 1]), Err(CodecError::Invalid { what: "message version" }));
        assert_eq!(Message::from_bytes(&[1, 99]), Err(CodecError::Invalid { what: "message kind" }));
        // A count of four thousand million entries with nothing behind it.
        let bomb = [MESSAGE_VERSION, 10, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            Message::from_bytes(&bomb),
            Err(CodecError::TooLong { what: "entries", max: ENTRIES_MAX })
        );
    }

    #[test]
    fn a_statement_holds_only_on_its_chain_and_with_its_content() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let vote = vote(&key);
        assert!(Statement::Vote(vote.clone()).holds(&chain()));
        let other = Chain { id: Hash32::ZERO, recovery: 0 };
        assert!(!Statement::Vote(vote.clone()).holds(&other));
        let recovered = Chain { recovery: 1, ..chain() };
        assert!(!Statement::Vote(vote.clone()).holds(&recovered));
        let later = SignedVote { round: 3, ..vote };
        assert!(!Statement::Vote(later.clone()).holds(&chain()));
        assert!(!Statement::Vote(SignedVote { round: 2, block: None, ..later }).holds(&chain()));
    }

    #[test]
    fn a_vote_and_a_proposal_never_share_signing_bytes() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let vote = vote(&key);
        let proposal = SignedProposal {
            height: vote.height,
            round: vote.round,
            block: BlockId::default(),
            valid_round: None,
            proposer: vote.voter,
            signature: Signature::sign(&key, &vote.signing_bytes(&chain())),
        };
        assert!(!Statement::Proposal(proposal).holds(&chain()));
    }

    #[test]
    fn entries_are_split_at_the_limit_and_keep_their_order() {
        let entries: Vec<Vec<u8>> = (0..600_u32).map(|number| number.to_be_bytes().to_vec()).collect();
        let messages = entries_messages(entries.iter().map(Vec::as_slice));
        assert_eq!(messages.len(), 3);
        let mut back = Vec::new();
        for message in &messages {
            match Message::from_bytes(message) {
                Ok(Message::Entries(batch)) => back.extend(batch),
                other => panic!("not entries: {other:?}"),
            }
        }
        assert_eq!(back, entries);
    }
}
