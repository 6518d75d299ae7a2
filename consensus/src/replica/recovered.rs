//! A recovery seats other delegates ([`ledger::Recovery`]): what this node promised when its home attested one, how it takes
//! one up, and what it does when others follow one that it cannot.

use energy::HomeId;
use ledger::codec::Decode as _;
use ledger::{Certificate, UnverifiedBlock};

use super::recovery::Standing;
use super::{Effect, Replica};
use crate::log::new_log;
use crate::mempool::Mempool;
use crate::message::{GOSSIP_BYTES_MAX, Message};

impl Replica {
    /// Binds this node to what its home attests: it signs nothing of a recovery number below `number` any more. The caller
    /// makes the promise durable first, tells it again after every start, and only then hands out the attestation.
    pub fn promise(&mut self, number: u32) {
        self.promised = self.promised.max(number);
        if self.is_bound() {
            self.agreement = None;
            self.started = false;
            self.timeouts.clear();
            self.bodies.clear();
            self.journal.clear();
        }
    }

    /// The number of the recovery that this node's home attested and that has not come yet: until then it follows the chain and
    /// does not vote.
    #[must_use]
    pub fn bound_to(&self) -> Option<u32> {
        self.is_bound().then_some(self.promised)
    }

    pub(super) const fn is_bound(&self) -> bool {
        self.promised > self.ledger.chain().recovery
    }

    /// A person hands a recovery block in: it is taken up and told to everybody.
    pub(super) fn on_recover(&mut self, bytes: &[u8]) {
        let header = UnverifiedBlock::from_bytes(bytes).map(|block| block.header);
        let certificate = match header {
            Ok(header) => Certificate::of_recovery(header.height, header.id()),
            Err(error) => return self.note(format!("the recovery cannot be read: {error}")),
        };
        if certificate.height != self.next_height() {
            return self.note("the recovery does not follow from the last block here".to_owned());
        }
        match self.take_recovery(bytes, &certificate) {
            Ok(()) => self.gossip_recovery(bytes, certificate),
            Err(reason) => self.note(format!("the recovery is not taken up: {reason}")),
        }
    }

    fn gossip_recovery(&mut self, bytes: &[u8], certificate: Certificate) {
        let height = certificate.height;
        let message = Message::Final(bytes.to_vec(), certificate).to_bytes();
        let message =
            if message.len() <= GOSSIP_BYTES_MAX { message } else { Message::Status { height }.to_bytes() };
        self.effects.push(Effect::GossipFinal(message));
    }

    /// Takes up a recovery block that follows from this node's head and that enough people attested.
    pub(super) fn take_recovery(&mut self, bytes: &[u8], certificate: &Certificate) -> Result<(), String> {
        let unverified = UnverifiedBlock::from_bytes(bytes).map_err(|error| error.to_string())?;
        let header = &unverified.header;
        let expected = Certificate::of_recovery(header.height, header.id());
        if unverified.recovery.is_none() || *certificate != expected {
            return Err("nobody signed it".to_owned());
        }
        let chain = *self.ledger.chain();
        let verified = unverified
            .verify(&chain, |_| None)
            .map_err(|(position, error)| format!("entry {position}: {error}"))?;
        let executed = self.ledger.execute(&verified).map_err(|error| error.to_string())?;
        let number = executed.ledger.chain().recovery;
        self.note(format!("recovery {number} of this chain: other delegates decide from now on"));
        self.commit(executed, certificate.clone());
        Ok(())
    }

    /// Nothing that was said before a recovery binds or counts after it, and what waits was signed for the chain before.
    pub(super) fn begin_anew(&mut self) {
        (self.me, self.agreement) = (None, None);
        self.standing = Standing::Follower;
        self.vote_floor = 0;
        self.early.clear();
        self.pool = Mempool::default();
        self.elsewhere.clear();
        self.recovered.clear();
    }

    /// The log of the number before says nothing any more. It is begun anew with the recovery, so that a start finds that the
    /// key which holds a seat has signed nothing.
    pub(super) fn begin_log_anew(&mut self) {
        let is_empty = self.logged.as_ref().is_none_or(|logged| logged.owner().is_none());
        if let (true, true, Some(key)) = (self.ledger.is_recovered(), is_empty, self.me) {
            self.effects.push(Effect::TrimLog(new_log(*self.ledger.chain(), key)));
        }
    }

    /// A peer says that its chain was recovered so often, and how far it is.
    pub(super) fn on_recovered(&mut self, from: &HomeId, number: u32, height: u64) {
        // A peer that is ahead is asked for blocks: they tell whether the recovery follows from this node's head.
        if number > self.ledger.chain().recovery && height <= self.ledger.height() {
            self.note_elsewhere(from, number);
        }
    }

    /// A block for this node's next height that the present delegates did not certify may be one of a later recovery.
    pub(super) fn note_later_recovery(&mut self, from: &HomeId, bytes: &[u8]) {
        let Ok(block) = UnverifiedBlock::from_bytes(bytes) else { return };
        let (theirs, ours) = (block.header.chain, *self.ledger.chain());
        if theirs.id == ours.id && theirs.recovery > ours.recovery {
            self.note_elsewhere(from, theirs.recovery);
        }
    }

    /// A peer follows a later recovery of this chain, from a block before this node's last ones. One peer may lie; with more
    /// than f delegates or more than half of the members one honest node among them has seen a valid recovery. Then this node
    /// holds final blocks that the community gives up, and that is for people to look at: it stops.
    fn note_elsewhere(&mut self, from: &HomeId, number: u32) {
        if self.ledger.member(from).is_none() || !self.elsewhere.insert(from.clone()) {
            return;
        }
        let height = self.ledger.height();
        self.note(format!(
            "{from} follows recovery {number} of this chain, without block {height} of this node"
        ));
        let delegates = self.ledger.delegates();
        let seated = self.elsewhere.iter().filter(|home| delegates.of_home(home).is_some()).count();
        let is_most = self.elsewhere.len() * 2 > self.ledger.members().len();
        if seated > self.faults() || is_most {
            self.halt(format!(
                "the community recovered the chain (number {number}) from a block before block {height}, which this node \
                 holds: it gives up this node's last blocks. Ask the operator, see docs/recovery.md, and follow it with: \
                 commonwatt ledger recover follow"
            ));
        }
    }
}
