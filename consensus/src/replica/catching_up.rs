//! Final blocks from others: by gossip, by asking whoever is ahead.
//!
//! A block counts only with a certificate of the delegates that this node's own ledger names for its height, and only
//! if carrying it out gives what its header says. Who answers with less is not asked again for a while.

use std::collections::{BTreeMap, BTreeSet};

use energy::HomeId;
use ledger::{Certificate, DelegateSet};

use super::deciding::execute;
use super::{Effect, Replica, Timer};
use crate::message::Message;

/// Between two status messages while nothing else happens, in wall ms.
pub(super) const STATUS_MS: u64 = 5000;
/// A peer one block ahead is asked only after so long: usually this node decides the block itself by then.
const GRACE_MS: u64 = 300;
/// An answer is awaited for so long.
const ANSWER_MS: u64 = 2000;
/// A peer whose answer was missing or wrong is passed over for so long.
const PENALTY_MS: u64 = 5000;
/// The most bytes of blocks asked for at once.
const ASKED_BYTES: u32 = 1 << 20;
/// A peer that is behind is told so at most so often.
const TELL_MS: u64 = 1000;

/// What is known of others' heights.
#[derive(Debug, Default)]
pub(super) struct CatchingUp {
    heights: BTreeMap<HomeId, u64>,
    asked: Option<HomeId>,
    last_asked: Option<HomeId>,
    penalised: BTreeMap<HomeId, u64>,
    told: BTreeMap<HomeId, u64>,
    last_status: Option<HomeId>,
    timer_set: bool,
    /// Who sent a certified block that this node could not carry out, at the present height.
    disputed: BTreeSet<HomeId>,
}

impl CatchingUp {
    pub fn is_behind(&self, height: u64) -> bool {
        self.heights.values().any(|known| *known > height)
    }

    /// True if so many delegates that one of them is honest say they are two blocks ahead or more. What other members
    /// say must not keep a delegate from voting: of those any number may be dishonest.
    pub fn is_far_behind(&self, height: u64, delegates: &DelegateSet, faults: usize) -> bool {
        let ahead = self.heights.iter().filter(|(_, known)| **known > height.saturating_add(1));
        ahead.filter(|(home, _)| delegates.of_home(home).is_some()).count() > faults
    }

    pub fn forget(&mut self, home: &HomeId) {
        self.heights.remove(home);
        if self.asked.as_ref() == Some(home) {
            self.asked = None;
        }
    }

    fn is_penalised(&self, home: &HomeId, wall_ms: u64) -> bool {
        self.penalised.get(home).is_some_and(|until| *until > wall_ms)
    }

    /// Whom to ask: of those ahead and not penalised, the one after whom was asked last.
    fn choose(&self, height: u64, wall_ms: u64) -> Option<HomeId> {
        let fit = |home: &HomeId| !self.is_penalised(home, wall_ms);
        let ahead: Vec<_> =
            self.heights.iter().filter(|(home, known)| **known > height && fit(home)).collect();
        let after = ahead.iter().find(|(home, _)| self.last_asked.as_ref().is_none_or(|last| *home > last));
        after.or(ahead.first()).map(|(home, _)| (*home).clone())
    }
}

impl Replica {
    /// A peer showed that it holds the block at `height`.
    pub(super) fn note_height(&mut self, from: &HomeId, height: u64) {
        if self.catching_up.is_penalised(from, self.now.wall_ms) {
            return;
        }
        let known = self.catching_up.heights.entry(from.clone()).or_default();
        *known = (*known).max(height);
        let ours = self.ledger.height();
        if height > ours && self.catching_up.asked.is_none() {
            if height > ours + 1 {
                self.ask_for_blocks();
            } else if !self.catching_up.timer_set {
                self.catching_up.timer_set = true;
                self.set_timer(Timer::Sync, GRACE_MS);
            }
        }
    }

    pub(super) fn on_status(&mut self, from: &HomeId, height: u64) {
        if height < self.ledger.height() {
            self.tell_height(from);
        }
        // What a peer says of itself now replaces what was thought of it.
        self.catching_up.heights.remove(from);
        self.note_height(from, height);
    }

    /// Tells a peer where this node is.
    pub(super) fn send_status(&mut self, peer: &HomeId) {
        let (height, number) = (self.ledger.height(), self.ledger.chain().recovery);
        self.send(peer, &Message::Status { height });
        if number > 0 {
            self.send(peer, &Message::Recovered { number, height });
        }
    }

    /// Tells a peer that is behind where this node is.
    pub(super) fn tell_height(&mut self, peer: &HomeId) {
        let now = self.now.wall_ms;
        let told = self.catching_up.told.get(peer).is_some_and(|at| now.saturating_sub(*at) < TELL_MS);
        if !told {
            self.catching_up.told.insert(peer.clone(), now);
            self.send_status(peer);
        }
    }

    /// One peer after the other hears where this node is, and answers if it is ahead.
    pub(super) fn on_status_timer(&mut self) {
        let last = self.catching_up.last_status.take();
        let after = self.connected.iter().find(|home| last.as_ref().is_none_or(|last| *home > last));
        let peer = after.or(self.connected.first()).cloned();
        if let Some(peer) = peer {
            self.send_status(&peer);
            self.catching_up.last_status = Some(peer);
        }
        self.set_timer(Timer::Status, STATUS_MS);
    }

    pub(super) fn on_sync_timer(&mut self) {
        self.catching_up.timer_set = false;
        if let Some(silent) = self.catching_up.asked.take() {
            self.penalise(&silent);
        }
        self.ask_for_blocks();
    }

    fn penalise(&mut self, peer: &HomeId) {
        self.catching_up.penalised.insert(peer.clone(), self.now.wall_ms.saturating_add(PENALTY_MS));
        self.catching_up.heights.remove(peer);
    }

    fn ask_for_blocks(&mut self) {
        if self.ledger.unknown_rules().is_some() {
            return;
        }
        let Some(peer) = self.catching_up.choose(self.ledger.height(), self.now.wall_ms) else { return };
        let request = Message::SyncRequest { from_height: self.next_height(), max_bytes: ASKED_BYTES };
        self.send(&peer, &request);
        self.catching_up.asked = Some(peer.clone());
        self.catching_up.last_asked = Some(peer);
        self.catching_up.timer_set = true;
        self.set_timer(Timer::Sync, ANSWER_MS);
    }

    pub(super) fn on_sync_request(&mut self, to: HomeId, from_height: u64, max_bytes: u32) {
        if from_height > self.ledger.height() {
            self.tell_height(&to);
        } else {
            let max_bytes = max_bytes.min(ASKED_BYTES);
            self.effects.push(Effect::ServeBlocks { to, from_height, max_bytes });
        }
    }

    pub(super) fn on_sync_response(&mut self, from: &HomeId, blocks: &[(Vec<u8>, Certificate)]) {
        if self.catching_up.asked.as_ref() != Some(from) {
            return;
        }
        self.catching_up.asked = None;
        let before = self.ledger.height();
        for (block, certificate) in blocks {
            if certificate.height <= self.ledger.height() {
                // Decided here while the answer was under way.
                continue;
            }
            if let Err(reason) = self.take_final(from, block, certificate) {
                self.note(format!("block {} from {from} is not taken: {reason}", certificate.height));
                self.penalise(from);
                break;
            }
        }
        if blocks.is_empty() || (self.ledger.height() == before && self.catching_up.is_behind(before)) {
            self.penalise(from);
        }
        if self.over {
            return;
        }
        self.catching_up.timer_set = false;
        self.effects.push(Effect::ClearTimer(Timer::Sync));
        if self.catching_up.is_behind(self.ledger.height()) {
            self.ask_for_blocks();
        }
    }

    pub(super) fn on_final(&mut self, from: &HomeId, block: &[u8], certificate: &Certificate) {
        if certificate.height == self.next_height() {
            if let Err(reason) = self.take_final(from, block, certificate) {
                self.note(format!("final block {} from {from} is not taken: {reason}", certificate.height));
            }
        } else if certificate.height > self.next_height() {
            self.note_height(from, certificate.height);
        }
    }

    /// Takes a final block that others decided.
    fn take_final(&mut self, from: &HomeId, bytes: &[u8], certificate: &Certificate) -> Result<(), String> {
        if certificate.height != self.next_height() {
            return Err("its height is not the next".to_owned());
        }
        if self.ledger.unknown_rules().is_some() {
            return Err("this program does not have its rules".to_owned());
        }
        if certificate.signatures.is_empty() {
            return self.take_recovery(bytes, certificate);
        }
        if let Err(error) = certificate.verify(self.ledger.chain(), self.ledger.delegates()) {
            self.note_later_recovery(from, bytes);
            return Err(error.to_string());
        }
        self.look_for_own_signature(certificate);
        let held = self.bodies.remove(&certificate.block).map(|body| body.executed);
        let executed = match held {
            Some(executed) => executed,
            None => match execute(&self.ledger, &self.pool, bytes, &certificate.block) {
                Ok(executed) => executed,
                Err(reason) => return Err(self.dispute(from, reason)),
            },
        };
        self.catching_up.disputed.clear();
        self.commit(executed, certificate.clone());
        Ok(())
    }

    /// A certified block that cannot be carried out was tampered with by who sent it; if more than f say the same, one
    /// honest node did carry it out, and it is this node whose state or rules differ.
    fn dispute(&mut self, from: &HomeId, reason: String) -> String {
        self.catching_up.disputed.insert(from.clone());
        if self.catching_up.disputed.len() > self.faults() && self.is_final_by_delegates() {
            self.halt(format!(
                "block {} is final, but this node cannot carry it out ({reason}); its state or its program differs",
                self.next_height()
            ));
        }
        reason
    }

    fn is_final_by_delegates(&self) -> bool {
        let delegates = self.ledger.delegates();
        let seated = self.catching_up.disputed.iter().filter(|home| delegates.of_home(home).is_some());
        seated.count() > self.faults()
    }
}
