//! A node whose home does not hold all bodies: it follows the chain by headers, certificates and leaves, keeps what is its own and
//! what is public, and asks those who hold the rest for both.
//!
//! [`Ask`] and [`Answer`] are the question and its answer, [`Giving`] answers, [`spawn`] starts the engine that asks. Nothing in an
//! answer is believed that could be proven instead (`ledger::Trail`, `ledger::HomeView`).

mod engine;
mod giving;
mod pool;

use energy::HomeId;
use ledger::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};
use ledger::{FOLLOWED_BYTES_MAX, FollowedBlock, Hash32, VIEW_BYTES_MAX};

pub(crate) use engine::HOLD_AGAIN;
pub use engine::{FollowParts, spawn};
pub use giving::Giving;

/// First bytes of a question: what is asked, and the version.
const MAGIC: [u8; 4] = *b"cwf1";
/// The most digests of a view.
const DIGESTS_MAX: usize = 64;
/// The most blocks in one answer.
const BLOCKS_MAX: usize = 256;
/// Bytes of blocks in one answer, but for a single block that is longer.
const BLOCKS_BYTES: usize = 1 << 20;

/// Asks for what comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ask {
    /// The first height wanted.
    from_height: u64,
    /// The height of the view that is known.
    view_height: u64,
    /// The digests of its sections.
    known: Vec<Hash32>,
}

impl Ask {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        self.from_height.encode(&mut out);
        self.view_height.encode(&mut out);
        encode_list(&self.known, &mut out);
        out
    }

    /// `None`: not a question of this kind.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.strip_prefix(&MAGIC)?);
        let ask = Self {
            from_height: Decode::decode(&mut reader).ok()?,
            view_height: Decode::decode(&mut reader).ok()?,
            known: decode_list(&mut reader, "digests", DIGESTS_MAX).ok()?,
        };
        reader.finish().ok().map(|()| ask)
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    /// The height of who answers.
    height: u64,
    /// The first block that was asked for is too old to be whole there.
    gone: bool,
    /// Blocks from the first height on.
    blocks: Vec<FollowedBlock>,
    /// The view after the last of them, if it is the last one there is and another than is known.
    view: Option<Vec<u8>>,
}

impl Answer {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.height.encode(&mut out);
        self.gone.encode(&mut out);
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX).encode(&mut out);
        self.blocks.iter().for_each(|block| encode_bytes(&block.to_bytes(), &mut out));
        self.view.is_some().encode(&mut out);
        self.view.iter().for_each(|view| encode_bytes(view, &mut out));
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let (height, gone) = (Decode::decode(&mut reader)?, Decode::decode(&mut reader)?);
        let count = reader.count("followed blocks", BLOCKS_MAX)?;
        let mut blocks = Vec::new();
        for _ in 0..count {
            let length = reader.count("followed block", FOLLOWED_BYTES_MAX)?;
            blocks.push(FollowedBlock::from_bytes(reader.take(length, "followed block")?)?);
        }
        let view = if bool::decode(&mut reader)? {
            let length = reader.count("view", VIEW_BYTES_MAX)?;
            Some(reader.take(length, "view")?.to_vec())
        } else {
            None
        };
        reader.finish()?;
        Ok(Self { height, gone, blocks, view })
    }
}

/// See [`crate::outside::rewritten`].
pub(crate) fn rewritten(bytes: &[u8]) -> Option<Vec<u8>> {
    let ask = Ask::from_bytes(bytes).map(|ask| ask.to_bytes());
    ask.or_else(|| Answer::from_bytes(bytes).ok().map(|answer| answer.to_bytes()))
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).encode(out);
    out.extend_from_slice(bytes);
}

/// What came of a question.
#[derive(Debug)]
pub struct Answered {
    /// Who was asked.
    from: HomeId,
    /// The answer, or why there is none.
    answer: Result<Vec<u8>, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_and_its_answer_read_back_and_nothing_else_does() {
        let ask = Ask { from_height: 7, view_height: 6, known: vec![Hash32::ZERO; 34] };
        assert_eq!(Ask::from_bytes(&ask.to_bytes()).as_ref(), Some(&ask));
        assert_eq!(Ask::from_bytes(b"cwj1aaaaaaaaaaaa"), None);
        assert_eq!(Ask::from_bytes(&ask.to_bytes()[..40]), None);
        let answer = Answer { height: 9, gone: false, blocks: Vec::new(), view: Some(vec![1, 2, 3]) };
        assert_eq!(Answer::from_bytes(&answer.to_bytes()).as_ref(), Ok(&answer));
        let mut long = answer.to_bytes();
        long.push(0);
        assert!(Answer::from_bytes(&long).is_err());
    }
}
