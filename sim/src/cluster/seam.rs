//! Where safeguards are taken away: at the boundary of messages, by making what the safeguard would refuse look right. The
//! product has no such switch, and needs none.

use std::collections::{BTreeMap, BTreeSet};

use consensus::Input;
use consensus::message::{Message, SignedVote};
use ed25519_dalek::SigningKey;
use ledger::{BlockId, PublicKey, Signature, VoteKind};

use super::plan::Control;
use super::world::World;

/// Where a vote was heard, and for what.
type Heard = (usize, VoteKind, u64, u32, Option<BlockId>);

/// What went through.
#[derive(Debug, Default)]
pub(crate) struct Seam {
    heard: BTreeMap<Heard, BTreeSet<PublicKey>>,
}

impl World {
    /// Further messages that arrive with one, where a safeguard is off.
    pub(crate) fn through_the_seam(&mut self, to: usize, input: &Input) -> Vec<Input> {
        let Input::Message { from, bytes } = input else { return Vec::new() };
        let votes = match (self.plan.control, Message::from_bytes(bytes)) {
            (Some(Control::HalfQuorum), Ok(Message::Vote(vote))) => self.complete(to, &vote),
            (Some(Control::NoSignatureCheck), Ok(Message::Vote(vote))) => self.put_right(&vote),
            _ => Vec::new(),
        };
        let message = |vote| Input::Message { from: from.clone(), bytes: Message::Vote(vote).to_bytes() };
        votes.into_iter().map(message).collect()
    }

    /// Half of the votes count as a quorum, the node's own among them: the missing ones are signed here.
    fn complete(&mut self, to: usize, vote: &SignedVote) -> Vec<SignedVote> {
        let heard = self.seam.heard.entry((to, vote.kind, vote.height, vote.round, vote.block)).or_default();
        heard.insert(vote.voter);
        let heard = heard.clone();
        let node = &self.nodes[to];
        let seats = node.ledger.delegates().clone();
        let own = seats.of_home(&node.home).map(|seat| seat.key);
        let agrees = own.is_some_and(|own| self.checks.has_said(own, vote));
        if (heard.len() + usize::from(agrees)) * 2 < seats.len() {
            return Vec::new();
        }
        let absent = seats.as_slice().iter().map(|seat| seat.key);
        let absent = absent.filter(|key| Some(*key) != own && !heard.contains(key));
        absent.filter_map(|key| self.signed_as(&key, vote)).collect()
    }

    /// Whoever is named has signed.
    fn put_right(&self, vote: &SignedVote) -> Vec<SignedVote> {
        if vote.voter.verifies(&vote.signing_bytes(&self.chain), &vote.signature) {
            return Vec::new();
        }
        self.signed_as(&vote.voter, vote).into_iter().collect()
    }

    fn signed_as(&self, voter: &PublicKey, vote: &SignedVote) -> Option<SignedVote> {
        let key: &SigningKey = self
            .nodes
            .iter()
            .flat_map(|node| node.term_keys.values())
            .find(|key| PublicKey::of(key) == *voter)?;
        let vote = SignedVote { voter: *voter, ..vote.clone() };
        let signature = Signature::sign(key, &vote.signing_bytes(&self.chain));
        Some(SignedVote { signature, ..vote })
    }
}
