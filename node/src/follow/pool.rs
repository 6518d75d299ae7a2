//! Own entries of a home that follows, until they are final: nobody carries blocks out here, so what becomes of them is told by the
//! leaves of the blocks and by the numbers that the ledger has of its signer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use consensus::{NUMBER_ON_LEDGER, entry_id};
use ledger::codec::Decode as _;
use ledger::{EntryError, EntryId, Ledger, SignedEntry, VerifiedEntry};

use energy::Timestamp;

/// The most own entries that wait: more than two weeks of readings.
pub(super) const WAITING_MAX: usize = 4096;
/// They are sent again so often.
const AGAIN: Duration = Duration::from_secs(5);

struct Waiting {
    entry: VerifiedEntry,
    sent: Instant,
}

/// Own entries that no block has yet.
#[derive(Default)]
pub(super) struct Pool {
    waiting: BTreeMap<EntryId, Waiting>,
}

/// An entry that can never stand on the ledger, and why.
pub(super) type Refused = (EntryId, String);

impl Pool {
    /// Takes an entry in; `None` if it waits already. It is to be sent at once.
    pub fn take(
        &mut self,
        bytes: &[u8],
        ledger: &Ledger,
        time: Timestamp,
    ) -> Result<Option<VerifiedEntry>, Refused> {
        let id = entry_id(bytes);
        if self.waiting.contains_key(&id) {
            return Ok(None);
        }
        let signed = SignedEntry::from_bytes(bytes).map_err(|error| (id, error.to_string()))?;
        let entry = signed.verify(ledger.chain()).map_err(|error| (id, error.to_string()))?;
        if let Some(reason) = refusal(&entry, ledger, time) {
            return Err((id, reason));
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.insert(id, Waiting { entry: entry.clone(), sent: Instant::now() });
        }
        Ok(Some(entry))
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// All that wait.
    pub fn entries(&self) -> impl Iterator<Item = &VerifiedEntry> {
        self.waiting.values().map(|waiting| &waiting.entry)
    }

    /// They stand in a block.
    pub fn are_final<'e>(&mut self, entries: impl Iterator<Item = &'e VerifiedEntry>) {
        for entry in entries {
            self.waiting.remove(&entry.id());
        }
    }

    /// The ledger moved on: gives those that can stand on it no more.
    pub fn judge(&mut self, ledger: &Ledger, time: Timestamp) -> Vec<Refused> {
        let judged = self
            .waiting
            .iter()
            .filter_map(|(id, waiting)| refusal(&waiting.entry, ledger, time).map(|reason| (*id, reason)));
        let refused: Vec<Refused> = judged.collect();
        for (id, _) in &refused {
            self.waiting.remove(id);
        }
        refused
    }

    /// Those that were sent long enough ago to be sent again.
    pub fn due(&mut self) -> Vec<VerifiedEntry> {
        let now = Instant::now();
        let due = self.waiting.values_mut().filter(|waiting| now.duration_since(waiting.sent) >= AGAIN);
        due.map(|waiting| {
            waiting.sent = now;
            waiting.entry.clone()
        })
        .collect()
    }
}

/// Why an entry can never stand on the ledger, as far as one home's part of the state tells.
fn refusal(entry: &VerifiedEntry, ledger: &Ledger, time: Timestamp) -> Option<String> {
    if ledger.is_used(entry.entry()) {
        return Some(NUMBER_ON_LEDGER.to_owned());
    }
    match ledger.check(entry, time) {
        Err(error) if tells(&error) => Some(error.to_string()),
        _ => None,
    }
}

/// Errors that the home's own rows and what is public are enough for. With the others a delegate may know better.
const fn tells(error: &EntryError) -> bool {
    matches!(
        error,
        EntryError::WrongMtu
            | EntryError::OtherMeter { .. }
            | EntryError::Unusable { .. }
            | EntryError::OutOfOrder { .. }
            | EntryError::BeforeTheStart { .. }
            | EntryError::TooOld { .. }
            | EntryError::Implausible { .. }
            | EntryError::BrokenChain { .. }
            | EntryError::RegisterFell { .. }
            | EntryError::ForwardOff
            | EntryError::GateClosed { .. }
            | EntryError::AfterGate { .. }
            | EntryError::PriceBand { .. }
            | EntryError::ConnectionLimit { .. }
            | EntryError::OrderLimits { .. }
    )
}
