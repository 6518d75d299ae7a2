//! Entries on their way into a block: taken in, handed on, sent again until they are final.
//!
//! Entries travel in frames. The first one after a pause leaves at once; what follows within [`FRAME_MS`] leaves together,
//! or as soon as a frame is full.

use energy::HomeId;
use ledger::{EntryId, Stream, VerifiedEntry};

use super::{Blame, Effect, Replica, Timer};
use crate::mempool::{Admission, Arrival, Handed, Origin};
use crate::message::{Frame, entries_messages};

/// Frames of own entries are so far apart, in wall ms.
const FRAME_MS: u64 = 20;
/// Own entries are sent again so often until they are final, in wall ms.
const RESEND_MS: u64 = 5000;
/// What left so shortly before may still be on its way, in wall ms.
const UNDER_WAY_MS: u64 = 1000;
/// Others' entries that no block took within this are handed on to the other delegates, in wall ms.
const RELAY_MS: u64 = 1000;
/// The delegates take turns in that, so far apart in wall ms: one is enough if its frame arrives.
const RELAY_STEP_MS: u64 = 250;
/// How often what is to be handed on is looked at, in wall ms; a frame each time.
const RELAY_PACE_MS: u64 = 250;

/// The reason given for an entry of this node that is over: it is final itself, or a later one is.
pub const NUMBER_ON_LEDGER: &str = "its number, or a larger one of this signer, is on the ledger already";

/// Own entries that wait for their frame.
#[derive(Default)]
pub(super) struct Outgoing {
    /// For the delegates alone.
    direct: Frame,
    /// For all members.
    gossip: Frame,
    /// When the last frame left, in wall ms.
    left_ms: Option<u64>,
    timer_set: bool,
}

impl Replica {
    /// An entry of this home, or one that a peer handed on by itself.
    pub(super) fn on_entry(&mut self, bytes: &[u8], origin: Origin) {
        self.take_entry(&Arrival::Bytes(bytes), origin);
        self.offer(bytes);
        self.conclude_filled();
    }

    /// Entries of others. `directly`: from a delegate that told all delegates.
    pub(super) fn on_entries(&mut self, from: &HomeId, entries: &[Vec<u8>], directly: bool) {
        for bytes in entries {
            let admission = self.take_entry(&Arrival::Bytes(bytes), Origin::Peer(from.clone()));
            match admission {
                Some(Admission::Known(id)) if directly => self.pool.was_relayed(&id),
                // The rest of it is not worth a signature check.
                Some(Admission::Forged(..)) => return self.blame(from, Blame::Forged),
                _ => {}
            }
            self.offer(bytes);
        }
        self.conclude_filled();
    }

    /// Entries of others whose signatures were checked before they came here.
    pub(super) fn on_verified(&mut self, from: &HomeId, entries: &[Handed], directly: bool) {
        for handed in entries {
            let arrival = match handed {
                Handed::Verified(entry) => Arrival::Verified(entry.clone()),
                Handed::Known(bytes) => Arrival::Bytes(bytes),
            };
            let admission = self.take_entry(&arrival, Origin::Peer(from.clone()));
            if let (Some(Admission::Known(id)), true) = (admission, directly) {
                self.pool.was_relayed(&id);
            }
            match handed {
                Handed::Verified(entry) => self.offer_verified(entry),
                Handed::Known(bytes) => self.offer(bytes),
            }
        }
        self.conclude_filled();
    }

    /// A member that holds no seat keeps only its own.
    fn take_entry(&mut self, arrival: &Arrival<'_>, origin: Origin) -> Option<Admission> {
        if origin != Origin::Own && !self.is_seated() {
            return None;
        }
        let now = (self.block_time(), self.now.wall_ms);
        let (seat, seats) = (self.my_seat(), self.ledger.delegates().len() as u64);
        let turn = |id: &EntryId| (u64::from(id.0.0[0]) + seat) % seats;
        let relay_after = |id: &EntryId| RELAY_MS + RELAY_STEP_MS * turn(id);
        let admission = self.pool.admit(&self.ledger, arrival, origin.clone(), now, relay_after);
        match &admission {
            Admission::Added(id) => self.on_added(id, &origin),
            Admission::Known(_) | Admission::Full => {}
            Admission::Used(entry) if origin == Origin::Own => {
                self.refuse(*entry, NUMBER_ON_LEDGER.to_owned(), origin);
            }
            Admission::Used(_) => {}
            Admission::Forged(entry, reason) | Admission::Refused(entry, reason) => {
                self.refuse(*entry, reason.clone(), origin);
            }
        }
        Some(admission)
    }

    fn my_seat(&self) -> u64 {
        let seat = self.my_key().and_then(|key| self.ledger.delegates().seat_of(&key));
        seat.map_or(0, |seat| seat as u64)
    }

    fn refuse(&mut self, entry: EntryId, reason: String, origin: Origin) {
        self.effects.push(Effect::Refused { entry, reason, origin });
    }

    fn on_added(&mut self, id: &EntryId, origin: &Origin) {
        let Some(entry) = self.pool.get(id).map(|waiting| waiting.entry.clone()) else { return };
        match origin {
            Origin::Own => {
                self.send_first(&entry);
                self.arm_resend();
            }
            Origin::Peer(_) => self.arm_relay(),
        }
    }

    /// Readings go to the delegates alone, who hold sealed bodies; the rest is gossiped to all members, where all of them hold
    /// sealed bodies.
    fn send_first(&mut self, entry: &VerifiedEntry) {
        let is_direct = self.ledger.has_followers() || entry.entry().body.stream() == Stream::Readings;
        let frame = if is_direct { &self.outgoing.direct } else { &self.outgoing.gossip };
        if !frame.has_room_for(entry.bytes()) {
            self.send_frames();
        }
        let frame = if is_direct { &mut self.outgoing.direct } else { &mut self.outgoing.gossip };
        frame.push(entry.bytes());
        let since = self.outgoing.left_ms.map(|left| self.now.wall_ms.saturating_sub(left));
        match since {
            Some(since) if since < FRAME_MS => self.arm_frame(FRAME_MS - since),
            _ => self.send_frames(),
        }
    }

    fn arm_frame(&mut self, after_ms: u64) {
        if !self.outgoing.timer_set {
            self.outgoing.timer_set = true;
            self.set_timer(Timer::Frame, after_ms);
        }
    }

    pub(super) fn on_frame(&mut self) {
        self.outgoing.timer_set = false;
        self.send_frames();
    }

    fn send_frames(&mut self) {
        let (direct, gossip) = (self.outgoing.direct.take(), self.outgoing.gossip.take());
        if direct.is_some() || gossip.is_some() {
            self.outgoing.left_ms = Some(self.now.wall_ms);
        }
        self.effects.extend(direct.map(Effect::ToDelegates));
        self.effects.extend(gossip.map(Effect::GossipEntries));
    }

    fn arm_resend(&mut self) {
        if !self.resend_set {
            self.resend_set = true;
            self.set_timer(Timer::Resend, RESEND_MS);
        }
    }

    fn arm_relay(&mut self) {
        if let (false, Some(due_ms)) = (self.relay_set, self.pool.next_relay()) {
            self.relay_set = true;
            let wait_ms = due_ms.saturating_sub(self.now.wall_ms);
            self.set_timer(Timer::Relay, wait_ms.max(RELAY_PACE_MS));
        }
    }

    /// What is not final yet goes to the delegates directly: gossip forgets what it has carried once.
    pub(super) fn on_resend(&mut self) {
        self.resend_set = false;
        if self.pool.own_len() > 0 {
            let own = self.pool.own(self.now.wall_ms.saturating_sub(UNDER_WAY_MS));
            for bytes in entries_messages(own.iter().map(VerifiedEntry::bytes)) {
                self.effects.push(Effect::ToDelegates(bytes));
            }
            self.arm_resend();
        }
    }

    /// A delegate came within reach: it may never have had them.
    pub(super) fn send_own_entries(&mut self, to: &HomeId) {
        let own = self.pool.own(self.now.wall_ms);
        for bytes in entries_messages(own.iter().map(VerifiedEntry::bytes)) {
            self.effects.push(Effect::SendTo { to: to.clone(), bytes });
        }
    }

    /// The author may reach only this delegate, or be gone.
    pub(super) fn on_relay(&mut self) {
        self.relay_set = false;
        let entries = self.pool.take_due_relays(self.now.wall_ms);
        for bytes in entries_messages(entries.iter().map(VerifiedEntry::bytes)) {
            self.effects.push(Effect::ToDelegates(bytes));
        }
        self.arm_relay();
    }

    pub(super) fn report_refused(&mut self, own: Vec<(EntryId, String)>) {
        for (entry, reason) in own {
            self.refuse(entry, reason, Origin::Own);
        }
    }
}
