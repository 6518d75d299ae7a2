//! The consensus log: what a delegate must not forget between a vote and the next start.
//!
//! The log is a file of frames that is only appended to, and replaced whole when it is trimmed. A frame is what one
//! `AppendLog` carries: magic, length, CRC-32 and records. Every append is followed by a sync before anything that
//! rests on it is sent, so that only the last frame can ever be torn: a broken frame at the end of the file was never
//! acted upon and is cut; a broken frame with a whole one behind it is damage, and a delegate whose log is damaged
//! does not vote, since it cannot know what it signed.
//!
//! This module is functions on bytes; the file itself belongs to the shell.

use ledger::codec::{CodecError, Decode, Encode, Reader};
use ledger::{BLOCK_BYTES_MAX, BlockId, Chain, PublicKey};

use crate::message::{Polka, SignedProposal, SignedVote, Statement, decode_bytes, encode_bytes};

/// Version of the records.
const LOG_VERSION: u8 = 1;
/// Starts every frame.
const MAGIC: [u8; 4] = *b"CWL\x01";
/// Magic, length and checksum.
const FRAME_HEADER_BYTES: usize = 12;

/// Which timeout of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TimeoutKind {
    /// No proposal came.
    Propose = 0,
    /// More than two thirds prevoted, but not for one block.
    Prevote = 1,
    /// More than two thirds precommitted, but not for one block.
    Precommit = 2,
    /// Time to say again what was said; never logged.
    Rebroadcast = 3,
}

/// A verdict on a proposed block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Round of the proposal.
    pub round: u32,
    /// Its valid round.
    pub valid_round: Option<u32>,
    /// Its proposer.
    pub proposer: PublicKey,
    /// The block.
    pub block: BlockId,
    /// Whether to vote for it.
    pub valid: bool,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The first record of every log: whose it is.
    Opened {
        /// The chain.
        chain: Chain,
        /// The consensus key whose statements it holds.
        key: PublicKey,
    },
    /// In place of [`Record::Opened`] where this key held a seat when the node first started, before it had any block: it has
    /// signed nothing that it knows of, and still asks the others.
    Asking {
        /// The chain.
        chain: Chain,
        /// The consensus key.
        key: PublicKey,
    },
    /// All that follows is of this height, until the next such record.
    Height(u64),
    /// A proposed block, whole.
    Body(Vec<u8>),
    /// A vote that counted, also an own one.
    Vote(SignedVote),
    /// A proposal that counted, also an own one.
    Proposal(SignedProposal),
    /// A verdict.
    Judged(Judged),
    /// A polka that arrived as a certificate.
    Polka(Polka),
    /// A timeout that elapsed.
    Timeout {
        /// Which.
        kind: TimeoutKind,
        /// Of which round.
        round: u32,
    },
    /// An own statement that does not follow from this log: others still held it after ours was lost, or it stands in
    /// for a vote that would have broken the lock it shows.
    Pinned(Statement),
    /// Stopped in good order at this height: nothing was said that is not in this log.
    CleanStop(u64),
}

impl Record {
    const fn kind(&self) -> u8 {
        match self {
            Self::Opened { .. } => 1,
            Self::Height(_) => 2,
            Self::Body(_) => 3,
            Self::Vote(_) => 4,
            Self::Proposal(_) => 5,
            Self::Judged(_) => 6,
            Self::Polka(_) => 7,
            Self::Timeout { .. } => 8,
            Self::Pinned(_) => 9,
            Self::CleanStop(_) => 10,
            Self::Asking { .. } => 11,
        }
    }
}

impl Encode for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind());
        match self {
            Self::Opened { chain, key } | Self::Asking { chain, key } => {
                LOG_VERSION.encode(out);
                chain.encode(out);
                key.encode(out);
            }
            Self::Height(height) | Self::CleanStop(height) => height.encode(out),
            Self::Body(body) => encode_bytes(body, out),
            Self::Vote(vote) => vote.encode(out),
            Self::Proposal(proposal) => proposal.encode(out),
            Self::Judged(judged) => {
                judged.round.encode(out);
                judged.valid_round.encode(out);
                judged.proposer.encode(out);
                judged.block.encode(out);
                judged.valid.encode(out);
            }
            Self::Polka(polka) => polka.encode(out),
            Self::Timeout { kind, round } => {
                out.push(*kind as u8);
                round.encode(out);
            }
            Self::Pinned(statement) => statement.encode(out),
        }
    }
}

impl Decode for Record {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match u8::decode(r)? {
            1 => {
                let (chain, key) = decode_owner(r)?;
                Self::Opened { chain, key }
            }
            2 => Self::Height(Decode::decode(r)?),
            3 => Self::Body(decode_bytes(r, "logged block", BLOCK_BYTES_MAX)?),
            4 => Self::Vote(Decode::decode(r)?),
            5 => Self::Proposal(Decode::decode(r)?),
            6 => Self::Judged(Judged {
                round: Decode::decode(r)?,
                valid_round: Decode::decode(r)?,
                proposer: Decode::decode(r)?,
                block: Decode::decode(r)?,
                valid: Decode::decode(r)?,
            }),
            7 => Self::Polka(Decode::decode(r)?),
            8 => Self::Timeout { kind: decode_timeout(r)?, round: Decode::decode(r)? },
            9 => Self::Pinned(Decode::decode(r)?),
            10 => Self::CleanStop(Decode::decode(r)?),
            11 => {
                let (chain, key) = decode_owner(r)?;
                Self::Asking { chain, key }
            }
            _ => return Err(CodecError::Invalid { what: "log record" }),
        })
    }
}

fn decode_owner(r: &mut Reader<'_>) -> Result<(Chain, PublicKey), CodecError> {
    if u8::decode(r)? != LOG_VERSION {
        return Err(CodecError::Invalid { what: "log version" });
    }
    Ok((Decode::decode(r)?, Decode::decode(r)?))
}

fn decode_timeout(r: &mut Reader<'_>) -> Result<TimeoutKind, CodecError> {
    match u8::decode(r)? {
        0 => Ok(TimeoutKind::Propose),
        1 => Ok(TimeoutKind::Prevote),
        2 => Ok(TimeoutKind::Precommit),
        _ => Err(CodecError::Invalid { what: "timeout" }),
    }
}

/// Records as one frame, ready to be appended.
#[must_use]
pub fn encode_frame(records: &[Record]) -> Vec<u8> {
    let mut payload = Vec::new();
    for record in records {
        record.encode(&mut payload);
    }
    let mut frame = Vec::with_capacity(payload.len() + FRAME_HEADER_BYTES);
    frame.extend_from_slice(&MAGIC);
    // A frame holds a few blocks of at most 1 MiB each.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&checksum(length, &payload).to_be_bytes());
    frame.extend_from_slice(&payload);
    frame
}

/// The log of a consensus key that has never signed anything: what to write when such a key is made.
#[must_use]
pub fn new_log(chain: Chain, key: PublicKey) -> Vec<u8> {
    encode_frame(&[Record::Opened { chain, key }])
}

/// The log of a key that holds a seat before its node has any block: see [`Record::Asking`].
pub(crate) fn asking_log(chain: Chain, key: PublicKey) -> Vec<u8> {
    encode_frame(&[Record::Asking { chain, key }])
}

/// Bytes that read as a damaged log, for a shell that knows there was one and cannot hand over what it held.
#[must_use]
pub fn damaged_log() -> Vec<u8> {
    [b"damaged".as_slice(), &encode_frame(&[])].concat()
}

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// All records of whole frames before the first broken one, in order.
    pub records: Vec<Record>,
    /// The height at which the node stopped in good order, if that is the last thing it wrote.
    pub clean_stop: Option<u64>,
    /// Where a frame begins whose end never reached the disk; it was never acted upon.
    pub torn_at: Option<usize>,
    /// Where a frame is broken although later ones are whole, or where a whole one cannot be understood.
    pub damaged_at: Option<usize>,
}

impl Records {
    /// The owner named in the first record.
    #[must_use]
    pub fn owner(&self) -> Option<(Chain, PublicKey)> {
        match self.records.first() {
            Some(Record::Opened { chain, key }) => Some((*chain, *key)),
            _ => None,
        }
    }

    /// Whose log this will be once the others have answered, where it was begun before the node had any block.
    pub(crate) fn asks_for(&self) -> Option<(Chain, PublicKey)> {
        match self.records.first() {
            Some(Record::Asking { chain, key }) => Some((*chain, *key)),
            _ => None,
        }
    }

    /// True if the log holds exactly this statement.
    pub(crate) fn holds(&self, statement: &Statement) -> bool {
        self.records.iter().any(|record| match (record, statement) {
            (Record::Vote(logged), Statement::Vote(said)) => logged == said,
            (Record::Proposal(logged), Statement::Proposal(said)) => logged == said,
            (Record::Pinned(logged), said) => logged == said,
            _ => false,
        })
    }

    /// The records of one height, and statements pinned at it or above.
    pub(crate) fn of_height(&self, wanted: u64) -> Vec<Record> {
        let mut current = 0;
        let mut kept = Vec::new();
        for record in &self.records {
            match record {
                Record::Height(height) => current = *height,
                Record::Opened { .. } | Record::Asking { .. } | Record::CleanStop(_) => {}
                Record::Pinned(statement) if statement.height() >= wanted => kept.push(record.clone()),
                Record::Pinned(_) => {}
                _ if current == wanted => kept.push(record.clone()),
                _ => {}
            }
        }
        kept
    }
}

/// Reads a whole log.
#[must_use]
pub fn read_records(bytes: &[u8]) -> Records {
    let mut found = Records::default();
    let mut at = 0;
    while at < bytes.len() {
        let Some((payload, next)) = frame_at(bytes, at) else {
            let whole_behind = (at + 1..bytes.len()).any(|later| frame_at(bytes, later).is_some());
            *(if whole_behind { &mut found.damaged_at } else { &mut found.torn_at }) = Some(at);
            break;
        };
        match decode_payload(payload) {
            Ok(records) => found.records.extend(records),
            Err(_) => {
                found.damaged_at = Some(at);
                break;
            }
        }
        at = next;
    }
    if let (Some(Record::CleanStop(height)), None) = (found.records.last(), found.damaged_at) {
        found.clean_stop = Some(*height);
    }
    found
}

fn decode_payload(payload: &[u8]) -> Result<Vec<Record>, CodecError> {
    let mut reader = Reader::new(payload);
    let mut records = Vec::new();
    while reader.remaining() > 0 {
        records.push(Record::decode(&mut reader)?);
    }
    Ok(records)
}

/// The payload of the whole frame that begins at `at`, and where the next one begins.
fn frame_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let (magic, rest) = rest.split_first_chunk::<4>()?;
    if *magic != MAGIC {
        return None;
    }
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (stored, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..u32::from_be_bytes(*length) as usize)?;
    let whole = checksum(*length, payload) == u32::from_be_bytes(*stored);
    whole.then(|| (payload, at + FRAME_HEADER_BYTES + payload.len()))
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Hash32, Signature, VoteKind};

    fn owner() -> Record {
        Record::Opened { chain: Chain { id: Hash32::of(&[b"chain"]), recovery: 0 }, key: PublicKey([3; 32]) }
    }

    fn vote(height: u64, round: u32) -> SignedVote {
        SignedVote {
            kind: VoteKind::Prevote,
            height,
            round,
            block: None,
            voter: PublicKey([3; 32]),
            signature: Signature([9; 64]),
        }
    }

    fn frames() -> Vec<Vec<Record>> {
        vec![
            vec![owner(), Record::Height(4)],
            vec![Record::Body(vec![1; 300]), Record::Vote(vote(4, 0))],
            vec![Record::Timeout { kind: TimeoutKind::Precommit, round: 0 }],
            vec![Record::Height(5), Record::Pinned(Statement::Vote(vote(6, 2))), Record::Vote(vote(5, 1))],
        ]
    }

    fn log() -> Vec<u8> {
        frames().iter().flat_map(|frame| encode_frame(frame)).collect()
    }

    #[test]
    fn what_was_written_is_read_back_in_order() {
        let found = read_records(&log());
        assert_eq!(found.records, frames().concat());
        assert_eq!((found.clean_stop, found.torn_at, found.damaged_at), (None, None, None));
        assert_eq!(found.owner().map(|(_, key)| key), Some(PublicKey([3; 32])));
    }

    #[test]
    fn a_tail_torn_at_any_byte_costs_only_the_last_frame() {
        let whole = log();
        let last = encode_frame(&frames()[3]).len();
        for cut in 1..last {
            let found = read_records(&whole[..whole.len() - cut]);
            assert_eq!(found.records, frames()[..3].concat(), "cut {cut}");
            assert_eq!(found.torn_at, Some(whole.len() - last));
            assert_eq!(found.damaged_at, None);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_before_the_last_frame_is_damage_and_named() {
        let whole = log();
        let last = whole.len() - encode_frame(&frames()[3]).len();
        for position in 0..last {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x10;
            let found = read_records(&bytes);
            let at = found.damaged_at.unwrap_or_else(|| panic!("a flip at {position} went unseen"));
            assert!(at <= position);
            assert_eq!(found.clean_stop, None);
        }
    }

    #[test]
    fn a_torn_clean_stop_is_no_clean_stop() {
        let mut bytes = log();
        bytes.extend(encode_frame(&[Record::CleanStop(5)]));
        assert_eq!(read_records(&bytes).clean_stop, Some(5));
        let torn = read_records(&bytes[..bytes.len() - 1]);
        assert_eq!(torn.clean_stop, None);
        bytes.extend(encode_frame(&[Record::Vote(vote(5, 2))]));
        assert_eq!(read_records(&bytes).clean_stop, None, "something followed the stop");
    }

    #[test]
    fn only_the_present_height_is_kept_and_pinned_statements_above_it() {
        let found = read_records(&log());
        assert_eq!(found.of_height(5), frames()[3][1..].to_vec());
        let kept = found.of_height(4);
        assert_eq!(kept.len(), 4, "{kept:?}");
        assert!(found.of_height(7).is_empty());
    }

    #[test]
    fn a_whole_frame_of_another_version_is_damage_not_a_fresh_start() {
        let mut payload = owner().to_bytes();
        payload[1] = LOG_VERSION + 1;
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(length);
        bytes.extend(checksum(length, &payload).to_be_bytes());
        bytes.extend(payload);
        assert_eq!(read_records(&bytes).damaged_at, Some(0));
    }
}
