//! A home's part in a recovery of the chain ([`ledger::Recovery`]): it offers to hold a seat, makes the block, attests it, hands
//! it in. `docs/recovery.md` says what people do.
//!
//! An attestation is a promise to sign nothing of a lower number any more, and no other block of this number. It is on the disk
//! before the attestation leaves the node, and the replica is told of it at every start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use energy::Timestamp;
use ledger::codec::Decode;
use ledger::{
    Attestation, Block, BlockId, Certificate, Hash32, Ledger, RECOVERY_AFTER_MS, SeatOffer, UnverifiedBlock,
};

use crate::identity::write_private;

/// File of the promise in the data folder.
const FILE: &str = "recovery.promise";
/// A block's time may lie so far ahead of this node's clock, in ms of market time: whoever made it has a clock of its own.
const AHEAD_MS: u64 = 300_000;

/// What a person asks of the node.
#[derive(Debug)]
pub enum Step {
    /// To offer to hold a seat after the recovery of this number; the next one if not said.
    Offer(Option<u32>),
    /// To make the recovery block of this number with these offers.
    Propose(Option<u32>, Vec<SeatOffer>),
    /// To attest a recovery block.
    Attest(Vec<u8>),
    /// To take a recovery block up that enough people attested, and to tell everybody.
    Publish(Vec<u8>),
}

/// Why the node does not do it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What was asked for cannot be.
    #[error("{0}")]
    Refused(String),
    /// The node must fetch blocks first, or the engine is gone.
    #[error("{0}")]
    NotNow(&'static str),
    /// The promise cannot be kept on the disk.
    #[error("the promise cannot be stored: {0}")]
    Disk(#[from] io::Error),
    /// A key cannot be made.
    #[error(transparent)]
    Keys(#[from] crate::identity::IdentityError),
}

impl Refusal {
    fn of(error: impl std::fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }
}

/// What a home promised when it attested last.
#[derive(Debug)]
pub struct Promises {
    path: PathBuf,
    last: Option<(u32, BlockId)>,
}

impl Promises {
    /// Reads what the data folder holds of them.
    ///
    /// # Errors
    /// The file is there and cannot be understood: then nobody knows what was promised.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        let last = match fs::read_to_string(&path) {
            Ok(text) => Some(parse(&text).ok_or_else(|| {
                let what = format!("{} does not hold what this home promised; restore it", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, last })
    }

    /// The number of the recovery that was attested last; 0 if none was.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.last.map_or(0, |(number, _)| number)
    }

    /// Promises to follow this block of this number and nothing before or beside it; durable when this returns.
    fn make(&mut self, number: u32, block: BlockId) -> Result<(), Refusal> {
        match self.last {
            Some((last, of)) if last == number && of != block => Err(Refusal::Refused(format!(
                "this home attested another block of recovery {number} already; agree on one, or make one of number {}",
                number.saturating_add(1)
            ))),
            Some((last, _)) if last > number => Err(Refusal::Refused(format!(
                "this home attested recovery {last} already; one of a lower number is worthless"
            ))),
            Some(last) if last == (number, block) => Ok(()),
            _ => {
                write_private(&self.path, format!("{number} {block}\n").as_bytes())?;
                self.last = Some((number, block));
                Ok(())
            }
        }
    }
}

fn parse(text: &str) -> Option<(u32, BlockId)> {
    let (number, block) = text.trim().split_once(' ')?;
    Some((number.parse().ok()?, BlockId(Hash32::from_hex(block)?)))
}

/// The number of a recovery that comes next, or the one asked for if that can be.
///
/// # Errors
/// It is not above the present one.
pub fn number_of(ledger: &Ledger, asked: Option<u32>) -> Result<u32, Refusal> {
    let present = ledger.chain().recovery;
    match asked.unwrap_or(present.saturating_add(1)) {
        number if number > present => Ok(number),
        number => {
            Err(Refusal::Refused(format!("recovery {number} is not above {present}, which this chain has")))
        }
    }
}

/// Makes the block of a recovery that follows from `ledger`.
///
/// # Errors
/// [`Refusal::Refused`]: less than 24 hours without a block, or a seat that cannot be.
pub fn propose(
    ledger: &Ledger,
    certificate: Option<&Certificate>,
    (number, now): (u32, Timestamp),
    offers: Vec<SeatOffer>,
) -> Result<Block, Refusal> {
    is_silent(ledger, now)?;
    let certificate = certificate.filter(|certificate| !certificate.signatures.is_empty());
    let executed = ledger.propose_recovery(certificate, (number, now), offers).map_err(Refusal::of)?;
    Ok(executed.block)
}

fn is_silent(ledger: &Ledger, now: Timestamp) -> Result<(), Refusal> {
    let since_ms = now.ms_since(ledger.head_time());
    if since_ms >= RECOVERY_AFTER_MS {
        return Ok(());
    }
    let hours = RECOVERY_AFTER_MS.saturating_sub(since_ms).div_ceil(3_600_000);
    Err(Refusal::Refused(format!(
        "the last block is of {}: a recovery is possible after 24 hours without one, in {hours} h",
        ledger.head_time()
    )))
}

/// Reads a recovery block as files and the API carry it.
///
/// # Errors
/// [`Refusal::Refused`]: it is none, or of another chain.
pub fn read(ledger: &Ledger, bytes: &[u8]) -> Result<Block, Refusal> {
    let block = parse_block(bytes)?;
    if block.header.chain.id == ledger.chain().id {
        return Ok(block);
    }
    Err(Refusal::Refused("this recovery is of another chain".to_owned()))
}

/// Attests a recovery block with the home's member key, after it has promised what that means. Returns the block with the
/// attestation in it.
///
/// # Errors
/// [`Refusal`]: it does not follow from what this node holds, or something else was promised.
pub fn attest(
    ledger: &Ledger,
    bytes: &[u8],
    now: Timestamp,
    promises: &mut Promises,
    key: &SigningKey,
) -> Result<Block, Refusal> {
    let mut block = read(ledger, bytes)?;
    let header = &block.header;
    let (named, held) = (header.height.saturating_sub(1), ledger.height());
    if named < held {
        return Err(Refusal::Refused(format!(
            "this node holds block {held}, and the recovery follows from block {named}: it would give up final blocks. \
             Make a recovery with `commonwatt ledger recover propose` on this node instead"
        )));
    }
    if named > held {
        return Err(Refusal::NotNow(
            "this node does not hold the block that the recovery follows from; let it fetch it",
        ));
    }
    is_silent(ledger, now)?;
    if header.time > now.plus_ms(AHEAD_MS) {
        return Err(Refusal::Refused(format!(
            "its time {} is ahead of this node's clock, {now}",
            header.time
        )));
    }
    ledger.follows_recovery(&block).map_err(Refusal::of)?;
    promises.make(header.chain.recovery, block.id())?;
    let attestation = Attestation::sign(header, held, ledger.head(), key);
    if let Some(recovery) = &mut block.recovery {
        recovery.attest(attestation);
    }
    Ok(block)
}

/// Checks that the block is a recovery which enough people attested and that follows from this node's head.
///
/// # Errors
/// [`Refusal::Refused`]: what is missing.
pub fn is_ready(ledger: &Ledger, bytes: &[u8]) -> Result<Block, Refusal> {
    let block = read(ledger, bytes)?;
    if ledger.is_view() {
        return Err(Refusal::Refused(
            "this node does not hold all bodies and cannot check the whole recovery: hand it in at a delegate's or holder's node"
                .to_owned(),
        ));
    }
    ledger.execute(&block).map_err(Refusal::of)?;
    Ok(block)
}

/// Reads a recovery block from a file, whatever chain it is of.
///
/// # Errors
/// [`Refusal::Refused`]: it is none.
pub fn parse_block(bytes: &[u8]) -> Result<Block, Refusal> {
    let unverified = UnverifiedBlock::from_bytes(bytes).map_err(Refusal::of)?;
    if unverified.recovery.is_none() || !unverified.entries.is_empty() {
        return Err(Refusal::Refused("it is another kind of block".to_owned()));
    }
    let chain = unverified.header.chain;
    unverified.verify(&chain, |_| None).map_err(|(_, error)| Refusal::of(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u8) -> BlockId {
        BlockId(Hash32([number; 32]))
    }

    #[test]
    fn a_promise_is_kept_over_restarts_and_another_block_of_its_number_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut promises = Promises::open(folder.path()).unwrap();
        assert_eq!(promises.number(), 0);
        promises.make(1, block(1)).unwrap();
        let mut again = Promises::open(folder.path()).unwrap();
        assert_eq!(again.number(), 1);
        again.make(1, block(1)).unwrap();
        assert!(again.make(1, block(2)).unwrap_err().to_string().contains("number 2"));
        again.make(2, block(2)).unwrap();
        assert!(again.make(1, block(1)).unwrap_err().to_string().contains("worthless"));
        assert_eq!(Promises::open(folder.path()).unwrap().number(), 2);
    }

    #[test]
    fn a_promise_that_cannot_be_read_stops_the_node() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "1").unwrap();
        assert!(Promises::open(folder.path()).unwrap_err().to_string().contains("restore it"));
    }
}
