//! Entries that wait for a block: bounded, each verified once, checked against the ledger before it is kept.

use std::collections::{BTreeMap, BTreeSet};

use energy::{HomeId, Timestamp};
use ledger::codec::Decode as _;
use ledger::{
    ENTRY_BYTES_MAX, Entry, EntryError, EntryId, Hash32, Ledger, PublicKey, SignedEntry, Stream,
    VerifiedEntry,
};

/// The most bytes of others' entries kept: minutes of the busiest load, far below a small node's memory.
const POOL_BYTES_MAX: usize = 16 << 20;
/// The most of others' entries kept by signer, so that one cannot crowd out the rest.
const POOL_PER_SIGNER_MAX: usize = 512;
/// The most own entries kept; a home that was away two weeks has 1 344 readings.
const POOL_OWN_MAX: usize = 4096;
/// Others' entries are forgotten after so long without a block taking them, in wall ms; their author sends them again.
const POOL_AGE_MAX_MS: u64 = 600_000;
/// Up to so many waiting entries are all checked again after each block; beyond, the proposer finds what went stale.
const RECHECK_MAX: usize = 256;

/// Where an entry came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This home.
    Own,
    /// A peer handed it on.
    Peer(HomeId),
}

/// An entry that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub entry: VerifiedEntry,
    pub origin: Origin,
    /// When it arrived, in wall ms.
    pub seen_ms: u64,
    /// Whether other delegates were sent it from here.
    pub relayed: bool,
    arrival: u64,
    /// False while it would not be valid yet.
    includable: bool,
}

/// What became of an entry that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Kept.
    Added(EntryId),
    /// Here already.
    Known,
    /// No room for another own entry now: nothing is wrong with it, and the journal hands it over again.
    Full,
    /// Its number is on the ledger already: most likely the entry itself is.
    Used(EntryId),
    /// Not kept, and why.
    Refused(EntryId, String),
}

#[derive(Debug, Default)]
pub(crate) struct Mempool {
    waiting: BTreeMap<EntryId, Waiting>,
    /// Bytes of others' entries.
    bytes: usize,
    by_signer: BTreeMap<PublicKey, usize>,
    arrivals: u64,
    own: BTreeSet<EntryId>,
}

impl Mempool {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn get(&self, id: &EntryId) -> Option<&Waiting> {
        self.waiting.get(id)
    }

    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    pub fn has_includable(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.includable)
    }

    /// Takes an entry in if it is new, genuine, within the limits, and valid now or soon.
    pub fn admit(
        &mut self,
        ledger: &Ledger,
        bytes: &[u8],
        origin: Origin,
        now: (Timestamp, u64),
    ) -> Admission {
        let id = id_of(bytes);
        if self.waiting.contains_key(&id) {
            return Admission::Known;
        }
        if origin == Origin::Own && self.own.len() >= POOL_OWN_MAX {
            return Admission::Full;
        }
        let verified = match verify(ledger, bytes, |entry| self.has_room(entry, bytes.len(), &origin)) {
            Ok(verified) => verified,
            Err(reason) => return Admission::Refused(id, reason),
        };
        if ledger.is_used(verified.entry()) {
            return Admission::Used(id);
        }
        let includable = match ledger.check(&verified, now.0) {
            Ok(()) => true,
            Err(error) if may_pass(&error) => false,
            Err(error) => return Admission::Refused(id, error.to_string()),
        };
        self.insert(verified, origin, now.1, includable);
        Admission::Added(id)
    }

    fn has_room(&self, entry: &Entry, bytes: usize, origin: &Origin) -> bool {
        match origin {
            // Counted before; its author is never told that it was one too many.
            Origin::Own => true,
            Origin::Peer(_) => {
                self.bytes + bytes <= POOL_BYTES_MAX
                    && self.by_signer.get(&entry.signer).is_none_or(|count| *count < POOL_PER_SIGNER_MAX)
            }
        }
    }

    fn insert(&mut self, entry: VerifiedEntry, origin: Origin, seen_ms: u64, includable: bool) {
        let id = entry.id();
        if origin == Origin::Own {
            self.own.insert(id);
        } else {
            self.bytes += entry.bytes().len();
            *self.by_signer.entry(entry.entry().signer).or_default() += 1;
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.waiting.insert(id, Waiting { entry, origin, seen_ms, relayed: false, arrival, includable });
    }

    pub fn remove(&mut self, id: &EntryId) -> Option<Waiting> {
        let waiting = self.waiting.remove(id)?;
        if !self.own.remove(id) {
            self.bytes -= waiting.entry.bytes().len();
            let signer = waiting.entry.entry().signer;
            if let Some(count) = self.by_signer.get_mut(&signer) {
                *count -= 1;
                if *count == 0 {
                    self.by_signer.remove(&signer);
                }
            }
        }
        Some(waiting)
    }

    /// Forgets what the ledger has taken up and what is too old; returns own entries that can no longer be valid.
    pub fn after_block(&mut self, ledger: &Ledger, now: (Timestamp, u64)) -> Vec<(EntryId, String)> {
        let gone: Vec<_> = self.waiting.values().filter(|waiting| is_over(waiting, ledger, now.1)).collect();
        let gone: Vec<_> = gone.into_iter().map(|waiting| waiting.entry.id()).collect();
        for id in gone {
            self.remove(&id);
        }
        self.recheck(ledger, now.0)
    }

    /// Looks again at what was not valid yet, and at everything if that is little.
    pub fn recheck(&mut self, ledger: &Ledger, time: Timestamp) -> Vec<(EntryId, String)> {
        let all = self.waiting.len() <= RECHECK_MAX;
        let mut refused = Vec::new();
        for (id, waiting) in &mut self.waiting {
            if !all && waiting.includable {
                continue;
            }
            match ledger.check(&waiting.entry, time) {
                Ok(()) => waiting.includable = true,
                Err(error) if may_pass(&error) => waiting.includable = false,
                Err(error) => refused.push((*id, error.to_string())),
            }
        }
        self.refuse(refused)
    }

    /// Drops entries that proved invalid; returns the own ones among them.
    pub fn refuse(&mut self, refused: Vec<(EntryId, String)>) -> Vec<(EntryId, String)> {
        let own = |(id, _): &(EntryId, String)| {
            self.remove(id).is_some_and(|waiting| waiting.origin == Origin::Own)
        };
        refused.into_iter().filter(own).collect()
    }

    /// An entry that the proposer found not valid yet waits on.
    pub fn postpone(&mut self, id: &EntryId) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.includable = false;
        }
    }

    /// Everything to propose: by arrival, readings first if asked, and each signer's numbers of a stream ascending, for
    /// a number is worthless after a larger one.
    pub fn ordered(&self, readings_first: bool) -> Vec<VerifiedEntry> {
        let mut list: Vec<&Waiting> = self.waiting.values().filter(|waiting| waiting.includable).collect();
        let is_late =
            |waiting: &Waiting| readings_first && waiting.entry.entry().body.stream() != Stream::Readings;
        list.sort_by_key(|waiting| (is_late(waiting), waiting.arrival));
        in_stream_order(list.into_iter().map(|waiting| waiting.entry.clone()).collect())
    }

    /// Own entries that are not final yet, in their streams' order.
    pub fn own(&self) -> Vec<VerifiedEntry> {
        let mut list: Vec<_> = self.own.iter().filter_map(|id| self.waiting.get(id)).collect();
        list.sort_by_key(|waiting| waiting.arrival);
        in_stream_order(list.into_iter().map(|waiting| waiting.entry.clone()).collect())
    }

    /// Others' entries that wait since `before_ms` or longer and were not handed on from here; now they are.
    pub fn take_unrelayed(&mut self, before_ms: u64) -> Vec<VerifiedEntry> {
        let mut taken = Vec::new();
        for waiting in self.waiting.values_mut() {
            if !waiting.relayed && waiting.origin != Origin::Own && waiting.seen_ms <= before_ms {
                waiting.relayed = true;
                taken.push(waiting.entry.clone());
            }
        }
        in_stream_order(taken)
    }

    /// True if entries wait to be handed on.
    pub fn has_unrelayed(&self) -> bool {
        self.waiting.values().any(|waiting| !waiting.relayed && waiting.origin != Origin::Own)
    }
}

/// Within each (signer, stream), puts the entries into the order of their numbers; the places stay.
fn in_stream_order(list: Vec<VerifiedEntry>) -> Vec<VerifiedEntry> {
    let stream_of = |verified: &VerifiedEntry| (verified.entry().signer, verified.entry().body.stream());
    let mut streams: BTreeMap<_, Vec<VerifiedEntry>> = BTreeMap::new();
    for verified in &list {
        streams.entry(stream_of(verified)).or_default().push(verified.clone());
    }
    for entries in streams.values_mut() {
        // Taken from the back below.
        entries.sort_by_key(|verified| std::cmp::Reverse(verified.entry().number));
    }
    list.into_iter()
        .map(|verified| streams.get_mut(&stream_of(&verified)).and_then(Vec::pop).unwrap_or(verified))
        .collect()
}

fn is_over(waiting: &Waiting, ledger: &Ledger, wall_ms: u64) -> bool {
    let too_old = waiting.origin != Origin::Own && wall_ms.saturating_sub(waiting.seen_ms) > POOL_AGE_MAX_MS;
    too_old || ledger.is_used(waiting.entry.entry())
}

/// True for refusals that time or a later block alone may lift.
pub(crate) const fn may_pass(error: &EntryError) -> bool {
    matches!(error, EntryError::FromTheFuture { .. } | EntryError::Quota { .. } | EntryError::BlockFull)
}

fn verify(ledger: &Ledger, bytes: &[u8], has_room: impl Fn(&Entry) -> bool) -> Result<VerifiedEntry, String> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(format!("the entry has {} bytes; the limit is {ENTRY_BYTES_MAX}", bytes.len()));
    }
    let signed = SignedEntry::from_bytes(bytes).map_err(|error| error.to_string())?;
    if !has_room(signed.unchecked()) {
        return Err(
            "too many entries of this signer, or in all, wait for a block; send it again later".to_owned()
        );
    }
    signed.verify(ledger.chain()).map_err(|error| error.to_string())
}

/// Name of a signed entry from its canonical bytes, before its signatures are checked: as [`VerifiedEntry::id`].
pub(crate) fn id_of(bytes: &[u8]) -> EntryId {
    EntryId(Hash32::of(&[b"commonwatt/entry/v1", bytes]))
}
