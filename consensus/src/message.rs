//! What nodes say to one another: one versioned encoding, its size limited by kind before anything is decoded.
//!
//! A message is a version byte, a kind byte and the body in the ledger's canonical encoding. Votes and proposals are
//! signed; everything else is believed only as far as what it carries proves itself.

use ledger::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};
use ledger::{
    BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX, Block, BlockId, Certificate, DELEGATES_MAX, ENTRY_BYTES_MAX, EntryId,
    Header, PublicKey, Signature, VerifiedEntry, VoteKind,
};
pub use ledger::{SignedProposal, SignedVote, Statement};

/// Version of the encoding.
pub const MESSAGE_VERSION: u8 = 2;
/// The longest message of any kind: a whole block and its certificate fit.
pub const MESSAGE_BYTES_MAX: usize = BLOCK_BYTES_MAX + 65_536;
/// The longest message that is gossiped, and the longest frame of entries; a longer block is announced and fetched.
pub const GOSSIP_BYTES_MAX: usize = 64 * 1024;
/// The most entries in one [`Message::Entries`]: a frame of the shortest ones.
pub const ENTRIES_MAX: usize = 512;
/// The most entries asked for in one [`Message::EntriesRequest`].
pub const REQUEST_ENTRIES_MAX: usize = 1024;
/// The most blocks in one [`Message::SyncResponse`].
pub const SYNC_BLOCKS_MAX: usize = 64;
/// The most statements in one [`Message::RecoverResponse`].
pub const STATEMENTS_MAX: usize = 512;

/// Kind byte of [`Message::Recovered`].
const KIND_RECOVERED: u8 = 32;

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

/// A block that names its entries instead of carrying them: whoever has heard them needs nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The block's header, whose hash is its id.
    pub header: Header,
    /// Why the block before it is final; `None` in the first.
    pub last_commit: Option<Certificate>,
    /// Its entries, in their order.
    pub entries: Vec<EntryId>,
}

impl Outline {
    /// The outline of a block.
    #[must_use]
    pub fn of(block: &Block) -> Self {
        Self {
            header: block.header.clone(),
            last_commit: block.last_commit.clone(),
            entries: block.entries.iter().map(VerifiedEntry::id).collect(),
        }
    }
}

/// A message between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A vote.
    Vote(SignedVote),
    /// A proposal and the whole block it is about (`Block::to_bytes`; empty where the sender does not hold it): how a proposal
    /// is repeated, and how one without entries is made.
    Proposal(SignedProposal, Vec<u8>),
    /// A proposal and the outline of its block: how a proposal is first made.
    Outline(SignedProposal, Box<Outline>),
    /// Asks for entries of a proposed block; the answer is [`Message::Entries`].
    EntriesRequest(Vec<EntryId>),
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
    /// How often the sender's chain was recovered, where it was; goes with [`Message::Status`].
    Recovered {
        /// The recovery's number, above zero.
        number: u32,
        /// The highest final block the sender holds.
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
            Self::Outline(proposal, outline) => {
                proposal.encode(&mut out);
                outline.encode(&mut out);
            }
            Self::EntriesRequest(wanted) => encode_list(wanted, &mut out),
            Self::Polka(polka) => polka.encode(&mut out),
            Self::Round(certificate) => certificate.encode(&mut out),
            Self::SyncRequest { from_height, max_bytes } => {
                from_height.encode(&mut out);
                max_bytes.encode(&mut out);
            }
            Self::SyncResponse(blocks) => encode_blocks(blocks, &mut out),
            Self::Status { height } => height.encode(&mut out),
            Self::Recovered { number, height } => {
                number.encode(&mut out);
                height.encode(&mut out);
            }
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
            Self::Recovered { .. } => KIND_RECOVERED,
            Self::RecoverRequest { .. } => 8,
            Self::RecoverResponse { .. } => 9,
            Self::Entries(_) => 10,
            Self::Final(..) => 11,
            Self::Outline(..) => OUTLINE,
            Self::EntriesRequest(_) => ENTRIES_REQUEST,
        }
    }
}

const OUTLINE: u8 = 20;
const ENTRIES_REQUEST: u8 = 21;
/// What a header and a certificate of 31 signatures take at the most, in bytes.
const OUTLINE_ROOM: usize = 4096;

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
        KIND_RECOVERED => ("recovery", 12),
        8 => ("recover request", 41),
        9 => ("recover response", STATEMENTS_MAX * 160),
        10 => ("entries", GOSSIP_BYTES_MAX - 2),
        11 => ("final block", BLOCK_BYTES_MAX + 4096),
        OUTLINE => ("outline", BLOCK_ENTRIES_MAX * 32 + OUTLINE_ROOM),
        ENTRIES_REQUEST => ("entries request", REQUEST_ENTRIES_MAX * 32 + 4),
        _ => return None,
    })
}

/// What kind of thing a message is, for whoever limits how much of each a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Votes, certificates, heights: short and frequent.
    Words,
    /// Proposals, final blocks, what answers a node that was away.
    Blocks,
    /// Entries.
    Entries,
    /// What asks for an answer longer than itself.
    Questions,
}

/// The lane of a message, from its first two bytes and its length; `None` if it is too short or too long to be read. What a
/// later program may say goes with the words: it is dropped where it is read, and nobody is blamed for it.
#[must_use]
pub const fn lane(bytes: &[u8]) -> Option<Lane> {
    let [version, kind, body @ ..] = bytes else { return None };
    let Some((_, max)) = limit_of(*kind) else { return Some(Lane::Words) };
    if *version != MESSAGE_VERSION {
        return Some(Lane::Words);
    }
    if body.len() > max {
        return None;
    }
    Some(match *kind {
        1 | 3 | 4 | 7 => Lane::Words,
        5 | 8 | ENTRIES_REQUEST => Lane::Questions,
        10 => Lane::Entries,
        _ => Lane::Blocks,
    })
}

/// True if a message cannot be read because a program of another version made it: no reason to blame anybody.
#[must_use]
pub const fn is_of_another_version(error: &CodecError) -> bool {
    let CodecError::Invalid { what } = error else { return false };
    matches!(what.as_bytes(), b"message version" | b"message kind")
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
        KIND_RECOVERED => Message::Recovered { number: Decode::decode(r)?, height: Decode::decode(r)? },
        8 => Message::RecoverRequest { height: Decode::decode(r)?, key: Decode::decode(r)? },
        9 => Message::RecoverResponse {
            height: Decode::decode(r)?,
            statements: decode_list(r, "statements", STATEMENTS_MAX)?,
        },
        10 => Message::Entries(decode_entries(r)?),
        11 => Message::Final(decode_bytes(r, "final block", BLOCK_BYTES_MAX)?, Decode::decode(r)?),
        OUTLINE => Message::Outline(Decode::decode(r)?, Box::new(Decode::decode(r)?)),
        ENTRIES_REQUEST => Message::EntriesRequest(decode_list(r, "wanted entries", REQUEST_ENTRIES_MAX)?),
        _ => return Err(CodecError::Invalid { what: "message kind" }),
    })
}

/// Splits entries into messages, none above the limits, in the order given.
#[must_use]
pub fn entries_messages<'e>(entries: impl IntoIterator<Item = &'e [u8]>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut frame = Frame::default();
    for entry in entries {
        if !frame.has_room_for(entry) {
            messages.extend(frame.take());
        }
        frame.push(entry);
    }
    messages.extend(frame.take());
    messages
}

/// A [`Message::Entries`] that is being filled.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    entries: Vec<Vec<u8>>,
    bytes: usize,
}

impl Frame {
    /// True if one more entry is within the limits of the message.
    pub fn has_room_for(&self, entry: &[u8]) -> bool {
        self.entries.len() < ENTRIES_MAX
            && FRAME_HEAD + self.bytes + entry.len() + LENGTH_BYTES <= GOSSIP_BYTES_MAX
    }

    /// Adds an entry, for which there must be room.
    pub fn push(&mut self, entry: &[u8]) {
        self.bytes += entry.len() + LENGTH_BYTES;
        self.entries.push(entry.to_vec());
    }

    /// The message, if there is anything to say; the frame is empty then.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let full = std::mem::take(self);
        (!full.entries.is_empty()).then(|| Message::Entries(full.entries).to_bytes())
    }
}

/// Version, kind and count of a frame.
const FRAME_HEAD: usize = 2 + LENGTH_BYTES;
const LENGTH_BYTES: usize = 4;

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

impl Encode for Outline {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.last_commit.encode(out);
        encode_list(&self.entries, out);
    }
}

impl Decode for Outline {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            header: Decode::decode(r)?,
            last_commit: Decode::decode(r)?,
            entries: decode_list(r, "outlined entries", BLOCK_ENTRIES_MAX)?,
        })
    }
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

    fn outline(certificate: &Certificate) -> Outline {
        let header = Header {
            chain: chain(),
            rule_version: 4,
            height: 8,
            parent: certificate.block,
            time: energy::Timestamp::from_unix_ms(1_000),
            tree_size: 9,
            tree_root: Hash32::of(&[b"tree"]),
            state_root: Hash32::of(&[b"state"]),
            delegates: Hash32::of(&[b"set"]),
            next_delegates: Hash32::of(&[b"next"]),
            last_commit: certificate.hash(),
        };
        let entries = vec![EntryId(Hash32::of(&[b"an entry"]))];
        Outline { header, last_commit: Some(certificate.clone()), entries }
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
            Message::Outline(proposal.clone(), Box::new(outline(&certificate))),
            Message::EntriesRequest(vec![EntryId(Hash32::of(&[b"an entry"])); 3]),
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
            Message::Recovered { number: 1, height: 12 },
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
        assert_eq!(
            Message::from_bytes(&[MESSAGE_VERSION + 1, 1]),
            Err(CodecError::Invalid { what: "message version" })
        );
        assert_eq!(
            Message::from_bytes(&[MESSAGE_VERSION, 99]),
            Err(CodecError::Invalid { what: "message kind" })
        );
        // A count of four thousand million entries with nothing behind it.
        let bomb = [MESSAGE_VERSION, 10, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            Message::from_bytes(&bomb),
            Err(CodecError::TooLong { what: "entries", max: ENTRIES_MAX })
        );
    }

    #[test]
    fn every_message_has_a_lane_and_what_is_too_long_has_none() {
        let lanes: Vec<_> = samples().iter().map(|message| lane(&message.to_bytes())).collect();
        assert!(lanes.iter().all(Option::is_some), "{lanes:?}");
        assert_eq!(lane(&Message::Entries(vec![]).to_bytes()), Some(Lane::Entries));
        let mut long = vec![0; 300];
        long[..2].copy_from_slice(&[MESSAGE_VERSION, 1]);
        assert_eq!(lane(&long), None);
        for unreadable in [&[][..], &[MESSAGE_VERSION]] {
            assert_eq!(lane(unreadable), None);
        }
        for later in [[MESSAGE_VERSION, 99], [MESSAGE_VERSION + 1, 1]] {
            assert_eq!(lane(&later), Some(Lane::Words));
            assert!(Message::from_bytes(&later).is_err_and(|error| is_of_another_version(&error)));
        }
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
        let short = (0..600_u32).map(|number| number.to_be_bytes().to_vec());
        let long = (0..40_u8).map(|number| vec![number; ENTRY_BYTES_MAX]);
        let entries: Vec<Vec<u8>> = short.chain(long).collect();
        let messages = entries_messages(entries.iter().map(Vec::as_slice));
        // 512 short ones; 88 and fifteen long ones; fifteen; ten.
        assert_eq!(messages.len(), 4);
        let mut back = Vec::new();
        for message in &messages {
            assert!(message.len() <= GOSSIP_BYTES_MAX);
            match Message::from_bytes(message) {
                Ok(Message::Entries(batch)) => back.extend(batch),
                other => panic!("not entries: {other:?}"),
            }
        }
        assert_eq!(back, entries);
    }
}
