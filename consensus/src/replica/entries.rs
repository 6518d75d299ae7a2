//! Entries on their way into a block: taken in, handed on, sent again until they are final.

use energy::HomeId;
use ledger::{EntryId, Stream, VerifiedEntry};

use super::{Effect, Replica, Timer};
use crate::mempool::{Admission, Origin};
use crate::message::{Message, entries_messages};

/// Own entries are sent again so often until they are final, in wall ms.
const RESEND_MS: u64 = 5000;
/// Others' entries that no block took within this are handed on to the other delegates, in wall ms.
const RELAY_MS: u64 = 1000;

/// The reason given for an entry of this node that is over: it is final itself, or a later one is.
pub const NUMBER_ON_LEDGER: &str = "its number, or a larger one of this signer, is on the ledger already";

impl Replica {
    /// An entry arrived. A member that holds no seat keeps only its own.
    pub(super) fn on_entry(&mut self, bytes: &[u8], origin: Origin) {
        if origin != Origin::Own && !self.is_seated() {
            return;
        }
        let now = (self.block_time(), self.now.wall_ms);
        match self.pool.admit(&self.ledger, bytes, origin.clone(), now) {
            Admission::Added(id) => self.on_added(&id, &origin),
            Admission::Known | Admission::Full => {}
            Admission::Used(entry) if origin == Origin::Own => {
                let reason = NUMBER_ON_LEDGER.to_owned();
                self.effects.push(Effect::Refused { entry, reason, origin });
            }
            Admission::Used(_) => {}
            Admission::Refused(entry, reason) => self.effects.push(Effect::Refused { entry, reason, origin }),
        }
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

    /// Readings go to the delegates alone, who hold sealed bodies; the rest is gossiped to all members.
    fn send_first(&mut self, entry: &VerifiedEntry) {
        if entry.entry().body.stream() == Stream::Readings {
            let message = Message::Entries(vec![entry.bytes().to_vec()]);
            self.effects.push(Effect::ToDelegates(message.to_bytes()));
        } else {
            self.effects.push(Effect::GossipEntry(entry.bytes().to_vec()));
        }
    }

    fn arm_resend(&mut self) {
        if !self.resend_set {
            self.resend_set = true;
            self.set_timer(Timer::Resend, RESEND_MS);
        }
    }

    fn arm_relay(&mut self) {
        if !self.relay_set {
            self.relay_set = true;
            self.set_timer(Timer::Relay, RELAY_MS);
        }
    }

    /// What is not final yet goes to the delegates directly: gossip forgets what it has carried once.
    pub(super) fn on_resend(&mut self) {
        self.resend_set = false;
        if self.pool.has_own() {
            let own = self.pool.own();
            for bytes in entries_messages(own.iter().map(VerifiedEntry::bytes)) {
                self.effects.push(Effect::ToDelegates(bytes));
            }
            self.arm_resend();
        }
    }

    /// A delegate came within reach: it may never have had them.
    pub(super) fn send_own_entries(&mut self, to: &HomeId) {
        let own = self.pool.own();
        for bytes in entries_messages(own.iter().map(VerifiedEntry::bytes)) {
            self.effects.push(Effect::SendTo { to: to.clone(), bytes });
        }
    }

    /// The author may reach only this delegate, or be gone.
    pub(super) fn on_relay(&mut self) {
        self.relay_set = false;
        let entries = self.pool.take_unrelayed(self.now.wall_ms.saturating_sub(RELAY_MS));
        for bytes in entries_messages(entries.iter().map(VerifiedEntry::bytes)) {
            self.effects.push(Effect::ToDelegates(bytes));
        }
        if self.pool.has_unrelayed() {
            self.arm_relay();
        }
    }

    pub(super) fn report_refused(&mut self, own: Vec<(EntryId, String)>) {
        for (entry, reason) in own {
            self.effects.push(Effect::Refused { entry, reason, origin: Origin::Own });
        }
    }
}
