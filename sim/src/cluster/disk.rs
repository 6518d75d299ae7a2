//! What a node has on its disk: the consensus log with what was not synced yet, and the database of blocks, whose
//! transactions are whole or not there. As in `node/src/store`: a start takes the newest snapshot that holds and replays the
//! blocks after it; a damaged block is named and never handed out.

use ledger::codec::{Decode as _, Encode as _};
use ledger::{Block, Certificate, Chain, Executed, Genesis, Hash32, Ledger, UnverifiedBlock};

/// A snapshot is kept every so many blocks.
const SNAPSHOT_BLOCKS: u64 = 16;
/// How many of them.
const SNAPSHOTS_KEPT: usize = 2;
/// What begins every frame of a log (`consensus/src/log.rs`).
const FRAME: &[u8] = b"CWL\x01";

/// One stored block.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) bytes: Vec<u8>,
    pub(crate) certificate: Certificate,
    checksum: Hash32,
}

impl Stored {
    fn new(block: &Block, certificate: &Certificate) -> Self {
        let bytes = block.to_bytes();
        let checksum = Self::sum(&bytes, certificate);
        Self { bytes, certificate: certificate.clone(), checksum }
    }

    fn sum(bytes: &[u8], certificate: &Certificate) -> Hash32 {
        Hash32::of(&[bytes, &certificate.to_bytes()])
    }

    fn is_whole(&self) -> bool {
        self.checksum == Self::sum(&self.bytes, &self.certificate)
    }
}

/// What a start finds.
pub(crate) struct Loaded {
    pub(crate) ledger: Ledger,
    pub(crate) last_certificate: Option<Certificate>,
    /// The height of a block that is damaged. It and those above it are fetched again.
    pub(crate) damaged: Option<u64>,
}

/// A disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) log: Vec<u8>,
    /// Appended, and lost in a crash but for a torn part.
    pub(crate) unsynced: Vec<u8>,
    blocks: Vec<Stored>,
    snapshots: Vec<(u64, Vec<u8>)>,
    /// Blocks that a power cut leaves there.
    durable: usize,
}

impl Disk {
    /// Stores a block in one transaction; `full` as a delegate does, else the last ones may be lost.
    pub(crate) fn commit(&mut self, executed: &Executed, certificate: &Certificate, full: bool) {
        self.blocks.push(Stored::new(&executed.block, certificate));
        let height = executed.block.header.height;
        if height.is_multiple_of(SNAPSHOT_BLOCKS) {
            self.snapshots.push((height, executed.ledger.snapshot()));
            let surplus = self.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
            self.snapshots.drain(..surplus);
        }
        if full {
            self.durable = self.blocks.len();
        }
    }

    /// Stored blocks in order, first the one of height 1.
    pub(crate) fn blocks(&self) -> &[Stored] {
        &self.blocks
    }

    /// From a height on, as many as fit; never one that is damaged, nor what lies behind it.
    pub(crate) fn serve(
        &self,
        from_height: u64,
        max_bytes: u32,
        count: usize,
    ) -> Vec<(Vec<u8>, Certificate)> {
        let first = usize::try_from(from_height.saturating_sub(1)).unwrap_or(usize::MAX);
        let (mut served, mut left) = (Vec::new(), max_bytes as usize);
        for stored in self.blocks.iter().skip(first).take(count) {
            if !stored.is_whole() || (!served.is_empty() && stored.bytes.len() > left) {
                break;
            }
            left = left.saturating_sub(stored.bytes.len());
            served.push((stored.bytes.clone(), stored.certificate.clone()));
        }
        served
    }

    /// Power is cut: `kept` bytes of what was not synced stay, and up to `lost` blocks that were not durable are gone.
    pub(crate) fn crash(&mut self, kept: usize, lost: usize) {
        let unsynced = std::mem::take(&mut self.unsynced);
        self.log.extend(unsynced.into_iter().take(kept));
        self.truncate(self.blocks.len().saturating_sub(lost).max(self.durable));
    }

    fn truncate(&mut self, blocks: usize) {
        self.blocks.truncate(blocks);
        self.snapshots.retain(|(height, _)| *height <= blocks as u64);
        self.durable = self.durable.min(blocks);
    }

    /// The ledger as the blocks have it.
    pub(crate) fn load(&mut self, genesis: &Genesis) -> Loaded {
        let whole = self.blocks.iter().take_while(|stored| stored.is_whole()).count();
        let damaged = (whole < self.blocks.len()).then_some(whole as u64 + 1);
        self.truncate(whole);
        let snapshot = self.snapshots.last().and_then(|(_, bytes)| Ledger::restore(genesis, bytes).ok());
        let mut ledger =
            snapshot.unwrap_or_else(|| Ledger::genesis(genesis).expect("the genesis of the run is sound"));
        let from = usize::try_from(ledger.height()).unwrap_or(usize::MAX);
        for stored in self.blocks.iter().skip(from) {
            ledger =
                replay(&ledger, &stored.bytes).expect("what was stored whole follows from what it follows");
        }
        let last_certificate = self.blocks.last().map(|stored| stored.certificate.clone());
        Loaded { ledger, last_certificate, damaged }
    }

    /// Flips a bit of a stored block; false if there is none but the last few.
    pub(crate) fn flip_block(&mut self, pick: usize, bit: usize) -> bool {
        let Some(stored) = self.blocks.get_mut(pick) else { return false };
        let place = bit / 8 % stored.bytes.len();
        stored.bytes[place] ^= 1 << (bit % 8);
        true
    }

    /// Flips a bit of the log ahead of its last two frames, of which one may be torn off; false if it has no more. What is broken
    /// at its very end reads as torn off, which is another fault: a disk that lost what it said it had.
    pub(crate) fn flip_log(&mut self, pick: usize, bit: usize) -> bool {
        let end = frames(&self.log).iter().rev().nth(1).copied().unwrap_or_default();
        if end == 0 {
            return false;
        }
        self.log[pick % end] ^= 1 << (bit % 8);
        true
    }

    /// Takes the log's last frames away; the first, which the node wrote anew at its start, stays.
    pub(crate) fn forget_frames(&mut self, count: usize) {
        let starts = frames(&self.log);
        let keep = starts.len().saturating_sub(count).max(1);
        let end = starts.get(keep).copied().unwrap_or(self.log.len());
        self.log.truncate(end);
    }
}

/// Where frames begin.
fn frames(log: &[u8]) -> Vec<usize> {
    (0..log.len()).filter(|at| log[*at..].starts_with(FRAME)).collect()
}

/// Carries out a stored block; `None` if it does not follow.
pub(crate) fn replay(ledger: &Ledger, bytes: &[u8]) -> Option<Ledger> {
    let chain: &Chain = ledger.chain();
    let block = UnverifiedBlock::from_bytes(bytes).ok()?.verify(chain, |_| None).ok()?;
    ledger.execute(&block).ok().map(|executed| executed.ledger)
}
