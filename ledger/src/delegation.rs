//! The state's section of delegated proof of stake: who decides blocks, who would, and who has a say.
//!
//! Three delegate sets are alive at any time: the one that decided the last block (it signed the certificate that the next
//! block carries), the one that decides the next, and the one that decides the block after that. What a block changes is the
//! last of them: it takes effect two heights later, so that everybody knows a block's set before the block before it is final.

use std::sync::Arc;

use energy::{HomeId, Timestamp, WattHours};

use crate::block::{Delegate, DelegateSet};
use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list, record};
use crate::crypto::{Hash32, PublicKey};
use crate::election::Ballot;
use crate::genesis::MEMBERS_MAX;
use crate::table::Table;

/// An epoch lasts at least so long, in ms of market time …
pub const EPOCH_MS: u64 = 86_400_000;
/// … and at least so many blocks.
pub const EPOCH_HEIGHTS: u64 = 96;
/// Who contradicted itself is no delegate for so long, in ms of market time: 90 days.
pub const BARRED_MS: u64 = 90 * 86_400_000;
/// Term keys are remembered for so long after they were registered, in ms of market time: far longer than evidence counts or a
/// node may be away.
pub(crate) const KEY_MEMORY_MS: u64 = 90 * 86_400_000;
/// Stake counts after readings on so many days with blocks, and not after so many of them without.
pub const STAKE_DAYS: u32 = 30;
/// Days of metered energy that certified stake looks back on.
const ENERGY_DAYS: u64 = 90;
/// Energy that a further share of certified stake begins with: 50 kWh.
const SHARE_WH: u64 = 50_000;
/// The most shares that metering adds to the one of membership.
const SHARES_BY_METERING_MAX: u32 = 4;
/// How often a candidate may change its keys for one term.
pub(crate) const CANDIDACIES_MAX: u8 = 8;
/// Who held a seat in one of so many epochs before still countersigns as a delegate.
const SEATED_EPOCHS: u32 = 2;
/// Parts of an epoch in which signatures are counted.
const SLOTS: u64 = 24;
const DAY_MS: u64 = 86_400_000;

/// A candidate's keys for one term: made on its device, used in no other, destroyed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermKeys {
    /// Signs votes and proposals.
    pub consensus: PublicKey,
    /// Cosigns checkpoints of the transparency tree.
    pub cosigner: PublicKey,
}

record!(TermKeys { consensus, cosigner });

/// The time between two elections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Counts from 0.
    pub number: u32,
    /// Height of the block that ended the one before; 0 for the first.
    pub after: u64,
    /// Market time of that block.
    pub start: Timestamp,
}

record!(Epoch { number, after, start });

/// A member's ballots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ballots {
    /// Counts until the other does.
    pub before: Ballot,
    /// The last one, and the epoch in which it was cast.
    pub last: Ballot,
    pub cast_in: u32,
}

record!(Ballots { before, last, cast_in });

impl Ballots {
    /// What counts in the election at the end of `epoch`: nothing that was cast in it.
    pub const fn counted(&self, epoch: u32) -> &Ballot {
        if self.cast_in < epoch { &self.last } else { &self.before }
    }

    pub fn cast(&mut self, epoch: u32, ballot: Ballot) {
        if self.cast_in < epoch {
            self.before = std::mem::take(&mut self.last);
        }
        (self.last, self.cast_in) = (ballot, epoch);
    }
}

/// A candidacy for one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidacy {
    pub keys: TermKeys,
    /// How often the keys were changed.
    pub changes: u8,
}

record!(Candidacy { keys, changes });

/// A key that was registered for a term, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TermKey {
    pub home: HomeId,
    pub registered: Timestamp,
    /// False: it cosigns.
    pub consensus: bool,
    /// That it contradicted itself is proven.
    pub convicted: bool,
}

record!(TermKey { home, registered, consensus, convicted });

/// What a delegate signed in one part of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    number: u64,
    blocks: u32,
    signed: u32,
}

record!(Slot { number, blocks, signed });

/// What a delegate signed in the last day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signing {
    /// Since when it is seated without a break.
    pub since: Timestamp,
    slots: Vec<Slot>,
}

impl Signing {
    pub const fn new(since: Timestamp) -> Self {
        Self { since, slots: Vec::new() }
    }

    /// Counts a block of `time` in slots of `slot_ms`, and forgets what is a day old.
    pub fn count(&mut self, time: Timestamp, slot_ms: u64, signed: bool) {
        let number = time.unix_ms().checked_div(slot_ms).unwrap_or_default();
        self.slots.retain(|slot| slot.number.saturating_add(SLOTS) > number);
        if self.slots.last().is_none_or(|slot| slot.number != number) {
            self.slots.push(Slot { number, blocks: 0, signed: 0 });
        }
        if let Some(slot) = self.slots.last_mut() {
            slot.blocks = slot.blocks.saturating_add(1);
            slot.signed = slot.signed.saturating_add(u32::from(signed));
        }
    }

    /// Blocks of the last day, and how many of them it signed.
    pub fn sums(&self) -> (u64, u64) {
        self.slots.iter().fold((0u64, 0u64), |(blocks, signed), slot| {
            (blocks.saturating_add(u64::from(slot.blocks)), signed.saturating_add(u64::from(slot.signed)))
        })
    }
}

impl Encode for Signing {
    fn encode(&self, out: &mut Vec<u8>) {
        self.since.encode(out);
        encode_list(&self.slots, out);
    }
}

impl Decode for Signing {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let most = usize::try_from(SLOTS).unwrap_or(usize::MAX);
        Ok(Self { since: Decode::decode(r)?, slots: decode_list(r, "signing slots", most)? })
    }
}

/// Days with blocks on which a member was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadDays {
    /// How many, up to [`STAKE_DAYS`].
    pub count: u32,
    /// The last of them.
    pub last: u32,
}

record!(ReadDays { count, last });

/// The whole section.
#[derive(Debug, Clone)]
pub(crate) struct Delegation {
    /// Height of the last block.
    pub height: u64,
    pub epoch: Epoch,
    /// Where the two epochs before began, as [`Epoch::after`], the older first.
    pub earlier: (u64, u64),
    /// Height of the last block that was a recovery; 0 where none was.
    pub recovered: u64,
    /// How many delegates could fail when the epoch began, and how many seats changed hands since.
    pub faults: u32,
    pub changed: u32,
    /// Who decided the last block.
    pub last: Arc<DelegateSet>,
    /// Who decides the next one.
    pub delegates: Arc<DelegateSet>,
    /// Who decides the one after it.
    pub next: Arc<DelegateSet>,
    /// While a block is carried out: who decides two heights after it. Between blocks the same as `next`.
    pub coming: Arc<DelegateSet>,
    /// Who takes a seat that falls vacant in this term, first the first.
    pub standbys: Vec<HomeId>,
    /// Market days with blocks, not counting that of genesis; and the last of them.
    pub days: u32,
    pub day: u64,
    pub ballots: Table<HomeId, Ballots>,
    /// For the term that is seated and the one to come.
    pub candidacies: Table<(u32, HomeId), Candidacy>,
    /// Who does not want to be a delegate.
    pub opted_out: Table<HomeId, ()>,
    /// Owners who may not be delegates, by hash of their name, and until when.
    pub barred: Table<Hash32, Timestamp>,
    /// Keys that were registered for a term: they are used for nothing else, and for no other term.
    pub term_keys: Table<PublicKey, TermKey>,
    /// The last epoch in which a home held a seat, of the present one and the two before.
    pub seated: Table<HomeId, u32>,
    /// Of the homes that hold a seat.
    pub signing: Table<HomeId, Signing>,
    pub read_days: Table<HomeId, ReadDays>,
    /// What was metered by day, import and export together, where it counts as stake.
    pub energy: Table<(u64, HomeId), WattHours>,
}

impl Delegation {
    /// That of a chain that begins at `start`.
    pub fn new(founders: DelegateSet, start: Timestamp) -> Self {
        let founders = Arc::new(founders);
        let mut section = Self {
            height: 0,
            epoch: Epoch { number: 0, after: 0, start },
            earlier: (0, 0),
            recovered: 0,
            faults: founders.faults(),
            changed: 0,
            last: founders.clone(),
            delegates: founders.clone(),
            next: founders.clone(),
            coming: founders.clone(),
            standbys: Vec::new(),
            days: 0,
            day: day_of(start),
            ballots: Default::default(),
            candidacies: Default::default(),
            opted_out: Default::default(),
            barred: Default::default(),
            term_keys: Default::default(),
            seated: Default::default(),
            signing: Default::default(),
            read_days: Default::default(),
            energy: Default::default(),
        };
        for delegate in founders.as_slice() {
            section.remember_key(delegate.key, &delegate.home, start, true);
        }
        section.note_seated();
        section
    }

    pub fn remember_key(&mut self, key: PublicKey, home: &HomeId, registered: Timestamp, consensus: bool) {
        let row = TermKey { home: home.clone(), registered, consensus, convicted: false };
        self.term_keys.insert(key, row);
    }

    /// The term for which candidates stand now.
    pub const fn coming_term(&self) -> u32 {
        self.epoch.number.saturating_add(1)
    }

    /// The last height of which evidence does not count any more.
    pub const fn evidence_after(&self) -> u64 {
        self.earlier.0
    }

    /// A founder counts from the start.
    pub fn found_stake(&mut self, home: &HomeId) {
        self.read_days.insert(home.clone(), ReadDays { count: STAKE_DAYS, last: 0 });
    }

    /// A reading of a member was accepted in a block of `time`.
    pub fn count_reading(&mut self, home: &HomeId, time: Timestamp) {
        let today = self.days_at(time);
        let before = self.read_days.get(home).copied();
        if before.is_some_and(|before| before.last == today && before.count > 0) {
            return;
        }
        let count = before.map_or(0, |before| before.count).saturating_add(1).min(STAKE_DAYS);
        self.read_days.insert(home.clone(), ReadDays { count, last: today });
    }

    /// Replaces what was metered on a day by a later word of it.
    pub fn count_energy(&mut self, home: &HomeId, day: u64, before: WattHours, now: WattHours) {
        let key = (day, home.clone());
        let sum = self.energy.get(&key).copied().unwrap_or(WattHours::ZERO);
        let sum = sum.get().saturating_sub(before.get()).saturating_add(now.get());
        self.energy.insert(key, WattHours::new(sum));
    }

    /// Whether a member's vote counts.
    pub fn in_stake(&self, home: &HomeId) -> bool {
        self.read_days
            .get(home)
            .is_some_and(|read| read.count >= STAKE_DAYS && self.days.saturating_sub(read.last) < STAKE_DAYS)
    }

    /// Shares of certified stake for what was metered: 1 + min(4, ⌊log₂(1 + kWh / 50)⌋).
    pub fn shares_of(energy: WattHours) -> u64 {
        let steps = energy.get().checked_div(SHARE_WH).unwrap_or_default().saturating_add(1);
        u64::from(steps.ilog2().min(SHARES_BY_METERING_MAX)).saturating_add(1)
    }

    /// What a member metered in the last 90 days.
    pub fn energy_of(&self, home: &HomeId) -> WattHours {
        let days = self.day.saturating_sub(ENERGY_DAYS)..=self.day;
        let rows = days.filter_map(|day| self.energy.get(&(day, home.clone())));
        WattHours::new(rows.fold(0u64, |sum, row| sum.saturating_add(row.get())))
    }

    fn days_at(&self, time: Timestamp) -> u32 {
        self.days.saturating_add(u32::from(day_of(time) > self.day))
    }

    /// A block of `time`: counts the day, and forgets energy that is too old.
    pub fn count_day(&mut self, time: Timestamp) {
        let day = day_of(time);
        if day > self.day {
            self.days = self.days.saturating_add(1);
            self.day = day;
            self.energy.extract(|(of, _)| of.saturating_add(ENERGY_DAYS) < day);
        }
    }

    /// Until when an owner may not be a delegate.
    pub fn barred_until(&self, owner: &str, time: Timestamp) -> Option<Timestamp> {
        self.barred.get(&owner_hash(owner)).copied().filter(|until| *until > time)
    }

    /// True if a key was ever named as one of a term, as far as is remembered.
    pub fn knows_key(&self, key: &PublicKey) -> bool {
        self.term_keys.contains(key) || self.sets().iter().any(|set| set.seat_of(key).is_some())
    }

    /// The sets that are alive.
    pub fn sets(&self) -> [&DelegateSet; 3] {
        [&self.last, &self.delegates, &self.coming]
    }

    /// Another set for this term, from two heights on; one more seat has changed hands.
    pub fn seat(&mut self, seats: Vec<Delegate>) {
        if let Some(set) = DelegateSet::new(self.coming.term(), seats) {
            self.coming = Arc::new(set);
            self.changed = self.changed.saturating_add(1);
        }
    }

    /// Seats others at once, with the keys they offered: the block that this is of is nobody's decision but the members', so
    /// no set before it has anything to say any more. What was signed before it is no evidence after it.
    pub fn recover(&mut self, set: DelegateSet, keys: Vec<(HomeId, TermKeys)>, time: Timestamp) {
        let (term, set) = (set.term(), Arc::new(set));
        self.height = self.height.saturating_add(1);
        self.recovered = self.height;
        self.epoch = Epoch { number: term, after: self.height, start: time };
        self.earlier = (self.height, self.height);
        (self.faults, self.changed) = (set.faults(), 0);
        self.last = set.clone();
        self.delegates = set.clone();
        self.next = set.clone();
        self.coming = set;
        self.standbys.clear();
        self.signing = Table::default();
        self.candidacies = Table::default();
        for (home, keys) in keys {
            self.remember_key(keys.consensus, &home, time, true);
            self.remember_key(keys.cosigner, &home, time, false);
            self.candidacies.insert((term, home), Candidacy { keys, changes: 0 });
        }
        self.note_seated();
    }

    /// Writes down who holds a seat in this epoch, and forgets who has held none for so long that it does not matter.
    fn note_seated(&mut self) {
        let epoch = self.epoch.number;
        let set = self.delegates.clone();
        for home in set.as_slice().iter().map(|delegate| &delegate.home) {
            if self.seated.get(home) != Some(&epoch) {
                self.seated.insert(home.clone(), epoch);
            }
        }
        let old = self.seated.iter().filter(|(_, last)| last.saturating_add(SEATED_EPOCHS) < epoch);
        let old: Vec<_> = old.map(|(home, _)| home.clone()).collect();
        for home in old {
            self.seated.remove(&home);
        }
    }

    /// Homes that hold a seat or held one in this epoch or the two before, ascending.
    pub fn delegates_lately(&self) -> Vec<HomeId> {
        self.seated.sorted().into_iter().map(|(home, _)| home.clone()).collect()
    }

    /// The block is complete: every set moves up.
    pub fn move_up(&mut self) {
        self.height = self.height.saturating_add(1);
        self.last = std::mem::replace(&mut self.delegates, self.next.clone());
        self.next = self.coming.clone();
        let seated: Vec<_> = [&self.delegates, &self.next]
            .iter()
            .flat_map(|set| set.as_slice().iter().map(|delegate| delegate.home.clone()))
            .collect();
        self.signing.extract(|home| !seated.contains(home));
        self.note_seated();
    }

    pub fn digests(&mut self) -> Vec<Hash32> {
        let mut small = Vec::new();
        self.encode_small(&mut small);
        vec![
            Hash32::of(&[&small]),
            self.ballots.digest(),
            self.candidacies.digest(),
            self.opted_out.digest(),
            self.barred.digest(),
            self.term_keys.digest(),
            self.seated.digest(),
            self.signing.digest(),
            self.read_days.digest(),
            self.energy.digest(),
        ]
    }

    pub fn encode_small(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        self.epoch.encode(out);
        self.earlier.encode(out);
        self.recovered.encode(out);
        self.faults.encode(out);
        self.changed.encode(out);
        self.last.encode(out);
        self.delegates.encode(out);
        self.next.encode(out);
        encode_list(&self.standbys, out);
        self.days.encode(out);
        self.day.encode(out);
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_small(out);
        self.ballots.encode(out);
        self.candidacies.encode(out);
        self.opted_out.encode(out);
        self.barred.encode(out);
        self.term_keys.encode(out);
        self.seated.encode(out);
        self.signing.encode(out);
        self.read_days.encode(out);
        self.energy.encode(out);
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let small = Self::decode_small(r)?;
        Ok(Self {
            ballots: Decode::decode(r)?,
            candidacies: Decode::decode(r)?,
            opted_out: Decode::decode(r)?,
            barred: Decode::decode(r)?,
            term_keys: Decode::decode(r)?,
            seated: Decode::decode(r)?,
            signing: Decode::decode(r)?,
            read_days: Decode::decode(r)?,
            energy: Decode::decode(r)?,
            ..small
        })
    }

    /// Everything but the tables, which are empty.
    pub fn decode_small(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (height, epoch, earlier) = (Decode::decode(r)?, Decode::decode(r)?, Decode::decode(r)?);
        let (recovered, faults, changed) = (Decode::decode(r)?, Decode::decode(r)?, Decode::decode(r)?);
        let (last, delegates) = (Arc::new(Decode::decode(r)?), Arc::new(Decode::decode(r)?));
        let next = Arc::new(DelegateSet::decode(r)?);
        Ok(Self {
            height,
            epoch,
            earlier,
            recovered,
            faults,
            changed,
            last,
            delegates,
            coming: next.clone(),
            next,
            standbys: decode_list(r, "standbys", MEMBERS_MAX)?,
            days: Decode::decode(r)?,
            day: Decode::decode(r)?,
            ballots: Table::default(),
            candidacies: Table::default(),
            opted_out: Table::default(),
            barred: Table::default(),
            term_keys: Table::default(),
            seated: Table::default(),
            signing: Table::default(),
            read_days: Table::default(),
            energy: Table::default(),
        })
    }
}

/// The market day of an instant, in UTC.
pub(crate) const fn day_of(time: Timestamp) -> u64 {
    time.unix_ms().wrapping_div(DAY_MS)
}

/// How long a part of an epoch is in which signatures are counted, in ms.
pub(crate) const fn slot_ms(epoch_ms: u64) -> u64 {
    let slot = epoch_ms.wrapping_div(SLOTS);
    if slot == 0 { 1 } else { slot }
}

/// Names an owner by a hash of fixed length.
pub(crate) fn owner_hash(owner: &str) -> Hash32 {
    Hash32::of(&[b"commonwatt/owner/v1", owner.as_bytes()])
}
