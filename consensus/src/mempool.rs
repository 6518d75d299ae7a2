//! Entries that wait for a block: bounded, each verified once, checked against the ledger before it is kept.
//!
//! Room is shared by member, not by key. Own entries are never pushed out: their number alone is bounded, and who hands
//! them in is told when there is no room. Of others' entries each member may have so many of a kind; where all of it is too
//! much, orders give way to the rest and who has most gives way to who has less. So a member that floods harms itself.
//!
//! Of two entries with one number the one with the lower hash stays, at every node the same one.

mod order;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use energy::{HomeId, Timestamp};
use ledger::codec::Decode as _;
use ledger::{
    Body, ENTRY_BYTES_MAX, Entry, EntryError, EntryId, Hash32, KnownKeys, Ledger, PublicKey, SignedEntry,
    Stream, VerifiedEntry,
};

use shares::{Class, Owner, Shares, owner_of};

/// The most own entries kept; a home that was away two weeks has 1 344 readings.
pub const POOL_OWN_MAX: usize = 4096;
/// Others' entries are forgotten after so long without a block taking them, in wall ms; their author sends them again.
const POOL_AGE_MAX_MS: u64 = 600_000;
/// So many waiting entries are checked again after each block, in turn; the proposer finds the rest of what went stale.
const RECHECK_MAX: usize = 256;
/// And so many of those that were not valid yet, in turn: a flood of them must not hold up every block.
const RECHECK_PENDING_MAX: usize = 1024;
/// How many bytes of others' entries are handed on at a time: one frame.
const RELAY_BYTES_MAX: usize = 60 * 1024;

/// Where an entry came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This home.
    Own,
    /// A peer handed it on.
    Peer(HomeId),
}

/// An entry of others as the shell hands it over, once it has looked at the signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// The signatures were checked.
    Verified(VerifiedEntry),
    /// Its bytes; they were checked not long ago and handed over then, so that it is most likely here.
    Known(Vec<u8>),
}

/// An entry as it arrives.
pub(crate) enum Arrival<'b> {
    /// Its bytes, of which nothing is known.
    Bytes(&'b [u8]),
    /// With its signatures checked.
    Verified(VerifiedEntry),
}

/// An entry that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub entry: VerifiedEntry,
    pub origin: Origin,
    /// When it arrived, in wall ms.
    pub seen_ms: u64,
    /// When it is handed on from here if no block has taken it by then, in wall ms; 0: never, or done.
    relay_ms: u64,
    arrival: u64,
    class: Class,
    owner: Owner,
    /// False while it would not be valid yet.
    includable: bool,
}

/// What became of an entry that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Kept.
    Added(EntryId),
    /// Here already.
    Known(EntryId),
    /// No room for another own entry now: nothing is wrong with it, and the journal hands it over again.
    Full,
    /// Its number is on the ledger already: most likely the entry itself is.
    Used(EntryId),
    /// Its signatures do not hold.
    Forged(EntryId, String),
    /// Not kept, and why.
    Refused(EntryId, String),
}

/// A place in a stream, used once.
type Place = (PublicKey, Stream, u64);

#[derive(Debug, Default)]
pub(crate) struct Mempool {
    waiting: BTreeMap<EntryId, Waiting>,
    /// Every waiting entry by its place: each stream's numbers ascend.
    places: BTreeMap<Place, EntryId>,
    /// Others' entries by member.
    shares: Shares,
    arrivals: u64,
    own: BTreeSet<EntryId>,
    /// Others' entries by arrival.
    ages: BTreeSet<(u64, EntryId)>,
    /// Others' entries by when they are to be handed on.
    relays: BTreeSet<(u64, EntryId)>,
    /// Orders by the interval whose gate ends them.
    gates: BTreeSet<(u64, EntryId)>,
    /// Entries that were not valid yet when they were looked at last.
    pending: BTreeSet<EntryId>,
    /// After which id the next look begins, at all and at those.
    rechecked: Option<EntryId>,
    rechecked_pending: Option<EntryId>,
    keys: KnownKeys,
    /// Own entries that a twin with a lower hash put out of the pool.
    displaced: Vec<(EntryId, String)>,
}

impl Mempool {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn get(&self, id: &EntryId) -> Option<&Waiting> {
        self.waiting.get(id)
    }

    /// How many own entries wait.
    pub fn own_len(&self) -> usize {
        self.own.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    pub fn has_includable(&self) -> bool {
        self.pending.len() < self.waiting.len()
    }

    /// Takes an entry in if it is new, genuine, within the limits, and valid now or soon. `relay_after_ms`: hands it on so
    /// much later.
    pub fn admit(
        &mut self,
        ledger: &Ledger,
        arrival: &Arrival<'_>,
        origin: Origin,
        now: (Timestamp, u64),
        relay_after_ms: impl Fn(&EntryId) -> u64,
    ) -> Admission {
        let id = arrival.id();
        if self.waiting.contains_key(&id) {
            return Admission::Known(id);
        }
        if origin == Origin::Own && self.own.len() >= POOL_OWN_MAX {
            return Admission::Full;
        }
        let verified = match self.verify(ledger, &id, arrival, &origin) {
            Ok(verified) => verified,
            Err(refusal) => return refusal,
        };
        let (class, owner) = (Class::of(verified.entry()), owner_of(ledger, verified.entry()));
        let is_members = matches!(owner, Owner::Member(_)) && origin != Origin::Own;
        let includable = match self.look_at(ledger, &verified, is_members, now.0) {
            Ok(()) => true,
            Err(error) if may_pass(&error) => false,
            Err(error) => return Admission::Refused(id, error.to_string()),
        };
        if origin != Origin::Own && !self.make_room(&owner, class, verified.bytes().len()) {
            return Admission::Refused(id, NO_ROOM.to_owned());
        }
        let relay_ms = if origin == Origin::Own { 0 } else { now.1.saturating_add(relay_after_ms(&id)) };
        self.arrivals += 1;
        let arrival = self.arrivals;
        let seen_ms = now.1;
        self.insert(Waiting {
            entry: verified,
            origin,
            seen_ms,
            relay_ms,
            arrival,
            class,
            owner,
            includable,
        });
        Admission::Added(id)
    }

    /// Whether an entry would be valid now. Where many wait, what other members signed is tried when a block is made of it, and
    /// not before: who proposes finds what is invalid, and each member has but its share of the room. Keys that are no member's
    /// anybody can make, as many as there is room, so what they sign is always tried first.
    fn look_at(
        &self,
        ledger: &Ledger,
        entry: &VerifiedEntry,
        is_members: bool,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let tried_later = is_members && self.waiting.len() > order::BUSY;
        if tried_later { Ok(()) } else { ledger.check(entry, time) }
    }

    /// The cheap questions first: a signature costs more than all of them.
    fn verify(
        &mut self,
        ledger: &Ledger,
        id: &EntryId,
        arrival: &Arrival<'_>,
        origin: &Origin,
    ) -> Result<VerifiedEntry, Admission> {
        let bytes = match arrival {
            Arrival::Verified(verified) => {
                self.is_wanted(ledger, id, verified.entry(), origin)?;
                return Ok(verified.clone());
            }
            Arrival::Bytes(bytes) => bytes,
        };
        // A later program may know more kinds of entries: nobody is blamed for one that cannot be read here.
        let signed = decode(bytes).map_err(|reason| Admission::Refused(*id, reason))?;
        self.is_wanted(ledger, id, signed.unchecked(), origin)?;
        let chain = ledger.chain();
        signed.verify_among(chain, &mut self.keys).map_err(|error| match decode(bytes) {
            Ok(signed) if signed.is_of_another_recovery(chain) => {
                Admission::Refused(*id, OTHER_RECOVERY.to_owned())
            }
            _ => Admission::Forged(*id, error.to_string()),
        })
    }

    /// What can be said of an entry before its signatures are looked at.
    fn is_wanted(
        &self,
        ledger: &Ledger,
        id: &EntryId,
        entry: &Entry,
        origin: &Origin,
    ) -> Result<(), Admission> {
        if ledger.is_used(entry) {
            return Err(Admission::Used(*id));
        }
        if self.places.get(&place_of(entry)).is_some_and(|twin| twin < id) {
            return Err(Admission::Refused(*id, TWIN.to_owned()));
        }
        let is_full = || self.shares.is_full(&owner_of(ledger, entry), Class::of(entry));
        if *origin != Origin::Own && is_full() {
            return Err(Admission::Refused(*id, NO_ROOM.to_owned()));
        }
        Ok(())
    }

    /// Pushes out what gives way to a new entry of `owner`; false if there is no such thing and no room.
    fn make_room(&mut self, owner: &Owner, class: Class, bytes: usize) -> bool {
        while !self.shares.has_room(bytes) {
            let Some(victim) = self.shares.gives_way(owner, class, bytes) else { return false };
            self.remove(&victim);
        }
        true
    }

    fn insert(&mut self, waiting: Waiting) {
        let (id, entry) = (waiting.entry.id(), waiting.entry.entry());
        let place = place_of(entry);
        // The twin has the higher hash, or this one would not have come so far.
        if let Some(twin) = self.places.get(&place).copied()
            && self.remove(&twin).is_some_and(|twin| twin.origin == Origin::Own)
        {
            self.displaced.push((twin, TWIN.to_owned()));
        }
        if let Body::Order(order) = &entry.body {
            self.gates.insert((order.interval.index(), id));
        }
        if waiting.origin == Origin::Own {
            self.own.insert(id);
        } else {
            self.shares.add(&waiting);
            self.ages.insert((waiting.seen_ms, id));
            self.relays.insert((waiting.relay_ms, id));
        }
        if !waiting.includable {
            self.pending.insert(id);
        }
        self.places.insert(place, id);
        self.waiting.insert(id, waiting);
    }

    pub fn remove(&mut self, id: &EntryId) -> Option<Waiting> {
        let waiting = self.waiting.remove(id)?;
        let entry = waiting.entry.entry();
        self.pending.remove(id);
        self.places.remove(&place_of(entry));
        if let Body::Order(order) = &entry.body {
            self.gates.remove(&(order.interval.index(), *id));
        }
        if !self.own.remove(id) {
            self.shares.remove(&waiting);
            self.ages.remove(&(waiting.seen_ms, *id));
            self.relays.remove(&(waiting.relay_ms, *id));
        }
        Some(waiting)
    }

    /// Forgets what the ledger has taken up with these entries of its last block, what came too late for its gate and what
    /// is too old; returns own entries that can no longer be valid.
    pub fn after_block(
        &mut self,
        ledger: &Ledger,
        block: &[VerifiedEntry],
        now: (Timestamp, u64),
    ) -> Vec<(EntryId, String)> {
        for entry in block {
            self.forget_used(entry.entry());
        }
        self.forget_old(now.1);
        let mut over = self.close_gates(ledger.next_gate().index());
        over.extend(self.recheck(ledger, now.0));
        over
    }

    /// A number is on the ledger: no entry with it or a smaller one of its stream can follow.
    fn forget_used(&mut self, used: &Entry) {
        let (signer, stream, number) = place_of(used);
        let gone: Vec<_> =
            self.places.range((signer, stream, 0)..=(signer, stream, number)).map(|(_, id)| *id).collect();
        for id in gone {
            self.remove(&id);
        }
    }

    fn forget_old(&mut self, wall_ms: u64) {
        while let Some((seen_ms, id)) = self.ages.first().copied() {
            if wall_ms.saturating_sub(seen_ms) <= POOL_AGE_MAX_MS {
                return;
            }
            self.remove(&id);
        }
    }

    /// Orders for intervals before `next` can stand in no block any more.
    fn close_gates(&mut self, next: u64) -> Vec<(EntryId, String)> {
        let mut late = Vec::new();
        while let Some((_, id)) = self.gates.first().copied().filter(|(interval, _)| *interval < next) {
            late.push((id, "the gate of its interval has closed".to_owned()));
            self.gates.pop_first();
        }
        self.refuse(late)
    }

    /// Looks again at what was not valid yet, and at others in turn.
    pub fn recheck(&mut self, ledger: &Ledger, time: Timestamp) -> Vec<(EntryId, String)> {
        let ids = self.next_in_turn();
        let mut refused = std::mem::take(&mut self.displaced);
        let mut invalid = Vec::new();
        for id in ids {
            let Some(waiting) = self.waiting.get(&id) else { continue };
            match ledger.check(&waiting.entry, time) {
                Ok(()) => self.set_includable(&id, true),
                Err(error) if may_pass(&error) => self.set_includable(&id, false),
                Err(error) => invalid.push((id, error.to_string())),
            }
        }
        refused.extend(self.refuse(invalid));
        refused
    }

    /// The next ids to look at again: every one comes up, however many wait.
    fn next_in_turn(&mut self) -> BTreeSet<EntryId> {
        let after =
            |last: Option<EntryId>| (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let rest = self.waiting.range(after(self.rechecked)).map(|(id, _)| *id);
        let some: Vec<_> = rest.chain(self.waiting.keys().copied()).take(RECHECK_MAX).collect();
        let rest = self.pending.range(after(self.rechecked_pending));
        let pending: Vec<_> = rest.chain(&self.pending).copied().take(RECHECK_PENDING_MAX).collect();
        (self.rechecked, self.rechecked_pending) = (some.last().copied(), pending.last().copied());
        some.into_iter().chain(pending).collect()
    }

    fn set_includable(&mut self, id: &EntryId, includable: bool) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        waiting.includable = includable;
        if includable {
            self.pending.remove(id);
        } else {
            self.pending.insert(*id);
        }
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
        self.set_includable(id, false);
    }

    /// Own entries that wait since `before_ms` or longer, each stream's numbers ascending.
    pub fn own(&self, before_ms: u64) -> Vec<VerifiedEntry> {
        let own = self.places.values().filter(|id| self.own.contains(id));
        let waiting = own.filter_map(|id| self.waiting.get(id));
        waiting.filter(|own| own.seen_ms <= before_ms).map(|own| own.entry.clone()).collect()
    }

    /// Another delegate handed it on: all have it now.
    pub fn was_relayed(&mut self, id: &EntryId) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            self.relays.remove(&(waiting.relay_ms, *id));
        }
    }

    /// Others' entries that are to be handed on by now, the longest due first and at most a frame of them; now they are.
    pub fn take_due_relays(&mut self, wall_ms: u64) -> Vec<VerifiedEntry> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((_, id)) = self.relays.first().copied().filter(|(due_ms, _)| *due_ms <= wall_ms) {
            if let Some(waiting) = self.waiting.get(&id) {
                bytes += waiting.entry.bytes().len();
                if bytes > RELAY_BYTES_MAX {
                    break;
                }
                taken.push(waiting.entry.clone());
            }
            self.relays.pop_first();
        }
        taken
    }

    /// When the next entry is to be handed on, in wall ms.
    pub fn next_relay(&self) -> Option<u64> {
        self.relays.first().map(|(due_ms, _)| *due_ms)
    }
}

const NO_ROOM: &str =
    "too many entries of this member, or in all, wait for a block; it is taken when it is sent again later";
const OTHER_RECOVERY: &str = "it is signed for this chain before or after a recovery; its author signs it anew once both have taken that up";
const TWIN: &str = "another entry of this signer bears the same number, and of two the one with the lower hash stands: sign it again once that one is final";

impl Arrival<'_> {
    fn id(&self) -> EntryId {
        match self {
            Self::Bytes(bytes) => entry_id(bytes),
            Self::Verified(entry) => entry.id(),
        }
    }
}

const fn place_of(entry: &Entry) -> Place {
    (entry.signer, entry.body.stream(), entry.number)
}

/// True for refusals that time or a later block alone may lift.
pub(crate) const fn may_pass(error: &EntryError) -> bool {
    matches!(error, EntryError::FromTheFuture { .. } | EntryError::Quota { .. } | EntryError::BlockFull)
}

fn decode(bytes: &[u8]) -> Result<SignedEntry, String> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(format!("the entry has {} bytes; the limit is {ENTRY_BYTES_MAX}", bytes.len()));
    }
    SignedEntry::from_bytes(bytes).map_err(|error| error.to_string())
}

/// Name of a signed entry from its canonical bytes, before its signatures are checked: as [`VerifiedEntry::id`].
#[must_use]
pub fn entry_id(bytes: &[u8]) -> EntryId {
    EntryId(Hash32::of(&[b"commonwatt/entry/v1", bytes]))
}
