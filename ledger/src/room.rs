//! How much a block holds: one rule for who proposes it, for who carries it out, and for who judges what it leaves out.
//!
//! A proposer takes entries in their order. It stops at the first that would make the block too long, and passes over what
//! settles late once the block settles as much late as it may. So nobody can hold against it that an entry is missing which
//! it had to leave out ([`Executed::lacked_room_for`]).

use crate::block::{BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX, Certificate};
use crate::codec::Encode;
use crate::entry::{Body, ENTRY_BYTES_MAX, Entry, VerifiedEntry};
use crate::ledger::Executed;
use crate::settle::OUTCOMES_MAX;

/// What a header takes at the most, left free when a block is filled.
const HEADER_ROOM: usize = 512;
/// What the length of an entry takes.
const LENGTH_ROOM: usize = 4;

/// How far a block is filled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filled {
    entries: usize,
    bytes: usize,
}

impl Filled {
    /// A block without entries, which carries this certificate of its parent.
    pub fn beside(last_commit: Option<&Certificate>) -> Self {
        let certificate = last_commit.map_or(0, |certificate| certificate.to_bytes().len());
        Self { entries: 0, bytes: HEADER_ROOM.saturating_add(certificate) }
    }

    /// With one more entry of so many bytes; `None` where that is too much for a block.
    fn and(self, bytes: usize) -> Option<Self> {
        let (entries, bytes) =
            (self.entries.saturating_add(1), self.bytes.saturating_add(bytes).saturating_add(LENGTH_ROOM));
        (entries <= BLOCK_ENTRIES_MAX && bytes <= BLOCK_BYTES_MAX).then_some(Self { entries, bytes })
    }

    /// With one more entry; `None` where that is too much for a block.
    pub fn with(self, entry: &VerifiedEntry) -> Option<Self> {
        self.and(entry.bytes().len())
    }

    /// What these entries fill beside the certificate; `None` if it is too much for a block.
    pub fn of(last_commit: Option<&Certificate>, entries: &[VerifiedEntry]) -> Option<Self> {
        entries.iter().try_fold(Self::beside(last_commit), Self::with)
    }

    /// True if some entry would not have fitted any more.
    fn may_be_full(self) -> bool {
        self.and(ENTRY_BYTES_MAX).is_none()
    }
}

/// True if a block whose entries had so many outcomes may not take this one. Each interval that is read late settles in the
/// block of its reading, which takes only so many. All of that kind wait then, also those that are in time: numbers ascend, so
/// one that overtakes would shut out those before it.
pub(crate) const fn waits_after(outcomes: usize, entry: &Entry) -> bool {
    let may_settle =
        matches!(entry.body, Body::Reading { .. } | Body::OperatorReading { .. } | Body::Correction { .. });
    may_settle && outcomes >= OUTCOMES_MAX
}

impl Executed {
    /// True if whoever proposed this block may have had to leave the entry out because the block was full, by any of the limits
    /// of a block: its bytes, its entries, and what settles late in it.
    #[must_use]
    pub fn lacked_room_for(&self, entry: &VerifiedEntry) -> bool {
        Filled::of(self.block.last_commit.as_ref(), &self.block.entries).is_none_or(Filled::may_be_full)
            || waits_after(self.outcomes_of_entries, entry.entry())
    }
}
