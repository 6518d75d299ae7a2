//! What a node has on its disk: the consensus log with what was not synced yet, and the database of blocks, whose
//! transactions are whole or not there. As in `node/src/store`: a start takes the newest snapshot that holds and replays the
//! blocks after it; a damaged block is named and never handed out.

use std::sync::Arc;

use ledger::codec::{Decode as _, Encode as _};
use ledger::{Certificate, Chain, Executed, Genesis, Hash32, Header, Ledger, SetChange, UnverifiedBlock};

use super::joining::Package;

/// A snapshot is kept every so many blocks.
const SNAPSHOT_BLOCKS: u64 = 8;
/// How many of them.
const SNAPSHOTS_KEPT: usize = 2;
/// What begins every frame of a log (`consensus/src/log.rs`).
const FRAME: &[u8] = b"CWL\x01";

/// One stored block.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// The same bytes on every disk, until a bit of them flips.
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) certificate: Certificate,
    checksum: Hash32,
}

impl Stored {
    fn new(bytes: Arc<Vec<u8>>, certificate: &Certificate) -> Self {
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

/// A state on a disk: written as bytes when somebody reads it, which gives what writing them at once would have given.
#[derive(Debug, Clone)]
struct Kept {
    /// The block after which it is, and why that is final.
    header: Header,
    certificate: Certificate,
    ledger: Ledger,
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
    /// What it began with, where somebody gave it a state: the first block that is here is the one after.
    base: Option<Kept>,
    blocks: Vec<Stored>,
    snapshots: Vec<Kept>,
    /// The changes of the delegates since the genesis.
    changes: Vec<SetChange>,
    /// Blocks that a power cut leaves there.
    durable: usize,
}

impl Disk {
    /// Stores a block, which has these bytes, in one transaction; `full` as a delegate does, else the last ones may be lost.
    pub(crate) fn commit(
        &mut self,
        executed: &Executed,
        bytes: Arc<Vec<u8>>,
        certificate: &Certificate,
        full: bool,
    ) {
        self.blocks.push(Stored::new(bytes, certificate));
        let (header, certificate) = (executed.block.header.clone(), certificate.clone());
        if header.delegates != header.next_delegates {
            let delegates = executed.ledger.delegates().clone();
            self.changes.push(SetChange {
                header: header.clone(),
                certificate: certificate.clone(),
                delegates,
            });
        }
        if header.height.is_multiple_of(SNAPSHOT_BLOCKS) {
            self.snapshots.push(Kept { header, certificate, ledger: executed.ledger.clone() });
            let surplus = self.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
            self.snapshots.drain(..surplus);
        }
        if full {
            self.durable = self.blocks.len();
        }
    }

    /// Stored blocks in order, first the one after `base_height`.
    pub(crate) fn blocks(&self) -> &[Stored] {
        &self.blocks
    }

    /// Height of the state it began with; 0 for one that began with the first block.
    pub(crate) fn base_height(&self) -> u64 {
        self.base.as_ref().map_or(0, |base| base.header.height)
    }

    /// True if there is nothing of the chain on it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.base.is_none()
    }

    /// The newest state that it can give to others, and the changes of the delegates until then.
    pub(crate) fn package(&self) -> Option<Package> {
        let kept = self.snapshots.last().or(self.base.as_ref())?.clone();
        // Nobody signed a recovery that a stranger could check.
        if kept.certificate.signatures.is_empty() {
            return None;
        }
        let before = self.changes.iter().filter(|change| change.header.height < kept.header.height);
        let changes = before.cloned().collect();
        Some(Package {
            changes,
            header: kept.header,
            certificate: kept.certificate,
            snapshot: kept.ledger.snapshot(),
        })
    }

    /// Begins with a state that was checked, and with the ledger in it.
    pub(crate) fn begin_with(&mut self, package: &Package, ledger: Ledger) {
        let (header, certificate) = (package.header.clone(), package.certificate.clone());
        self.base = Some(Kept { header, certificate, ledger });
        self.changes.clone_from(&package.changes);
    }

    /// From a height on, as many as fit; never one that is damaged, nor what lies behind it.
    pub(crate) fn serve(
        &self,
        from_height: u64,
        max_bytes: u32,
        count: usize,
    ) -> Vec<(Vec<u8>, Certificate)> {
        let Some(first) = from_height.checked_sub(self.base_height() + 1) else { return Vec::new() };
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let (mut served, mut left) = (Vec::new(), max_bytes as usize);
        for stored in self.blocks.iter().skip(first).take(count) {
            if !stored.is_whole() || (!served.is_empty() && stored.bytes.len() > left) {
                break;
            }
            left = left.saturating_sub(stored.bytes.len());
            served.push((stored.bytes.to_vec(), stored.certificate.clone()));
        }
        served
    }

    /// The program ends while the machine goes on: nothing that was written is lost.
    pub(crate) fn stop(&mut self) {
        self.log.append(&mut self.unsynced);
    }

    /// The certificate that the next block carries; a recovery has none.
    pub(crate) fn last_certificate(&self) -> Option<Certificate> {
        let last = self.blocks.last().map(|stored| stored.certificate.clone());
        let last = last.or_else(|| self.base.as_ref().map(|base| base.certificate.clone()));
        last.filter(|certificate| !certificate.signatures.is_empty())
    }

    /// Only the log stays where it is.
    pub(crate) fn put_blocks_aside(&mut self) {
        let log = std::mem::take(&mut self.log);
        *self = Self { log, ..Self::default() };
    }

    /// Power is cut: `kept` bytes of what was not synced stay, and up to `lost` blocks that were not durable are gone.
    pub(crate) fn crash(&mut self, kept: usize, lost: usize) {
        let unsynced = std::mem::take(&mut self.unsynced);
        self.log.extend(unsynced.into_iter().take(kept));
        self.truncate(self.blocks.len().saturating_sub(lost).max(self.durable));
    }

    fn truncate(&mut self, blocks: usize) {
        self.blocks.truncate(blocks);
        let height = self.base_height() + blocks as u64;
        self.snapshots.retain(|kept| kept.header.height <= height);
        self.changes.retain(|change| change.header.height <= height);
        self.durable = self.durable.min(blocks);
    }

    /// The ledger as the blocks have it.
    pub(crate) fn load(&mut self, genesis: &Genesis) -> Loaded {
        let whole = self.blocks.iter().take_while(|stored| stored.is_whole()).count();
        let base = self.base_height();
        let damaged = (whole < self.blocks.len()).then_some(base + whole as u64 + 1);
        self.truncate(whole);
        let kept = self.snapshots.last().or(self.base.as_ref());
        let snapshot = kept.and_then(|kept| Ledger::restore(genesis, &kept.ledger.snapshot()).ok());
        let mut ledger =
            snapshot.unwrap_or_else(|| Ledger::genesis(genesis).expect("the genesis of the run is sound"));
        let from = usize::try_from(ledger.height() - base).unwrap_or(usize::MAX);
        for stored in self.blocks.iter().skip(from) {
            ledger =
                replay(&ledger, &stored.bytes).expect("what was stored whole follows from what it follows");
        }
        Loaded { ledger, last_certificate: self.last_certificate(), damaged }
    }

    /// Flips a bit of a stored block; false if there is none but the last few.
    pub(crate) fn flip_block(&mut self, pick: usize, bit: usize) -> bool {
        let Some(stored) = self.blocks.get_mut(pick) else { return false };
        let place = bit / 8 % stored.bytes.len();
        Arc::make_mut(&mut stored.bytes)[place] ^= 1 << (bit % 8);
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
    carry_out(ledger, bytes).map(|executed| executed.ledger)
}

/// The same, with all that comes of it.
pub(crate) fn carry_out(ledger: &Ledger, bytes: &[u8]) -> Option<Executed> {
    let chain: &Chain = ledger.chain();
    let block = UnverifiedBlock::from_bytes(bytes).ok()?.verify(chain, |_| None).ok()?;
    ledger.execute(&block).ok()
}
