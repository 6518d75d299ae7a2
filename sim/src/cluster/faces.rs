//! Dishonest delegates: what they tell whom. A delegate with two faces tells those with an even number what its replica
//! says, and those with an odd number something else.

use std::collections::BTreeMap;

use consensus::message::{Message, SignedProposal, SignedVote, Statement};
use consensus::{Evidence, Input, Origin};
use ed25519_dalek::SigningKey;
use energy::{HomeId, Interval, WattHours};
use ledger::codec::Encode as _;
use ledger::{BlockId, Body, Certificate, Hash32, Order, PublicKey, Signature, StandingLimits, VoteKind};
use market::Side;

use super::plan::Face;
use super::world::World;

/// A member floods for so long, in ms …
const FLOOD_MS: u64 = 5000;
/// … of so many times as long …
const FLOOD_EVERY: u64 = 4;
/// … and sends so many frames in a second …
const FLOOD_FRAMES: u64 = 2;
/// … each with so many entries, about as long as may be.
const FLOOD_ENTRIES: u64 = 250;

/// The other block that a two-faced proposer made, by proposer, height and round.
#[derive(Debug, Default)]
pub(crate) struct Lies {
    others: BTreeMap<(usize, u64, u32), BlockId>,
}

impl World {
    /// What a dishonest delegate sends `to` instead of what its replica says; `None`: just that.
    pub(crate) fn two_faced(&mut self, number: usize, to: usize, message: &Message) -> Option<Vec<Vec<u8>>> {
        if self.healed || to.is_multiple_of(2) || !self.lies_now(number) {
            return None;
        }
        match (self.nodes[number].face?, message) {
            (Face::DoubleVoter, Message::Vote(vote)) => self.vote_twice(number, vote),
            (Face::TwoFacedProposer, Message::Proposal(proposal, _) | Message::Outline(proposal, _)) => {
                self.propose_twice(number, proposal)
            }
            (Face::TwoFacedProposer, Message::Vote(vote)) => {
                let place = (number, vote.height, vote.round);
                let other = *self.lies.others.get(&place)?;
                vote.block?;
                self.lie(number, &SignedVote { block: Some(other), ..vote.clone() })
            }
            (Face::Forger, Message::Proposal(proposal, body)) if !body.is_empty() => {
                let mut body = body.clone();
                if let Some(last) = body.last_mut() {
                    *last ^= 1;
                }
                self.report.forgeries += 1;
                Some(vec![Message::Proposal(proposal.clone(), body).to_bytes()])
            }
            (Face::Forger, Message::Outline(proposal, outline)) => {
                let mut outline = outline.clone();
                match outline.entries.first_mut() {
                    Some(entry) => entry.0.0[0] ^= 1,
                    None => outline.last_commit = None,
                }
                self.report.forgeries += 1;
                Some(vec![Message::Outline(proposal.clone(), outline).to_bytes()])
            }
            _ => None,
        }
    }

    fn vote_twice(&mut self, number: usize, vote: &SignedVote) -> Option<Vec<Vec<u8>>> {
        let block = if vote.block.is_some() { None } else { Some(BlockId(Hash32::of(&[b"another"]))) };
        let truth = Message::Vote(vote.clone()).to_bytes();
        let mut said = self.lie(number, &SignedVote { block, ..vote.clone() })?;
        if self.dice.chance(200) {
            said.push(truth);
        }
        Some(said)
    }

    fn lie(&mut self, number: usize, vote: &SignedVote) -> Option<Vec<Vec<u8>>> {
        let key = self.own_key(number, &vote.voter)?;
        let signature = Signature::sign(&key, &vote.signing_bytes(self.nodes[number].ledger.chain()));
        self.report.lies += 1;
        Some(vec![Message::Vote(SignedVote { signature, ..vote.clone() }).to_bytes()])
    }

    fn own_key(&self, number: usize, of: &PublicKey) -> Option<SigningKey> {
        self.nodes[number].term_keys.values().find(|key| PublicKey::of(key) == *of).cloned()
    }

    /// Another sound block for the same round: nothing in it, a moment later.
    fn propose_twice(&mut self, number: usize, proposal: &SignedProposal) -> Option<Vec<Vec<u8>>> {
        let key = self.own_key(number, &proposal.proposer)?;
        let node = &self.nodes[number];
        if node.ledger.height() + 1 != proposal.height {
            return None;
        }
        let last = node.disk.last_certificate();
        let time = node.clock.market(self.now).max(node.ledger.head_time()).plus_ms(7);
        let other = node.ledger.propose_after(last.as_ref(), time, &[]).ok()?.executed.block;
        let block = other.id();
        self.lies.others.insert((number, proposal.height, proposal.round), block);
        let mut lie = SignedProposal { block, valid_round: None, ..proposal.clone() };
        lie.signature = Signature::sign(&key, &lie.signing_bytes(self.nodes[number].ledger.chain()));
        self.report.lies += 1;
        Some(vec![Message::Proposal(lie, other.to_bytes()).to_bytes()])
    }

    /// What dishonest homes do without being asked.
    pub(crate) fn misbehave(&mut self) {
        if let Some(number) = self.plan.faults.flooder {
            self.flood(number);
        }
        if self.plan.faults.twins && self.dice.chance(150) {
            self.sign_twins();
        }
        for number in 0..self.nodes.len() {
            if self.nodes[number].face == Some(Face::Forger) && self.nodes[number].replica.is_some() {
                self.forge(number);
            }
        }
    }

    /// A member sends everybody frames full of entries, each sound by itself: price limits and orders far beyond its quotas.
    fn flood(&mut self, number: usize) {
        let is_time = self.now / FLOOD_MS % FLOOD_EVERY == 1;
        if !is_time || self.nodes[number].replica.is_none() {
            return;
        }
        let home = self.nodes[number].home.clone();
        let interval = Interval::containing(self.market(), self.genesis.mtu).next().next();
        for kind in 0..FLOOD_FRAMES {
            let journal = &mut self.nodes[number].journal;
            let entries = (0..FLOOD_ENTRIES).map(|_| journal.say_in_passing(flood_of(&home, interval, kind)));
            let bytes = Message::Entries(entries.collect()).to_bytes();
            self.report.flooded += FLOOD_ENTRIES;
            self.gossip(number, &|from| Input::Entries { from, bytes: bytes.clone() });
        }
    }

    /// Two entries with one number: whoever gets which.
    fn sign_twins(&mut self) {
        let number = self.dice.pick(self.nodes.len());
        if self.nodes[number].replica.is_none() {
            return;
        }
        let home = self.nodes[number].home.clone();
        let limits = |price: i64| Body::StandingLimits {
            home: home.clone(),
            limits: StandingLimits { min_sell: None, max_buy: Some(energy::Price::new(price)) },
        };
        let [kept, twin] = self.nodes[number].journal.say_twice(limits(210_000), limits(220_000), self.now);
        self.report.twins += 1;
        self.step(number, Input::Entry { bytes: kept, origin: Origin::Own });
        for to in (0..self.nodes.len()).filter(|to| *to != number) {
            if self.dice.chance(500) {
                let origin = Origin::Peer(self.nodes[number].home.clone());
                self.deliver(number, to, Input::Entry { bytes: twin.clone(), origin });
            }
        }
    }

    /// Sends what it has no right to.
    fn forge(&mut self, number: usize) {
        let kind = self.dice.below(5);
        self.report.forgeries += 1;
        match kind {
            0 | 1 => self.forge_votes(number),
            2 => self.forge_evidence(number),
            3 => self.forge_final(number),
            _ => self.make_noise(number),
        }
    }

    /// Votes in the names of others for the height being decided: one thing to some, another to the rest.
    fn forge_votes(&mut self, number: usize) {
        let ledger = &self.nodes[number].ledger;
        let seats = ledger.delegates().as_slice();
        let voter = seats[self.dice.pick(seats.len())].key;
        let height = ledger.height() + 1;
        let round = u32::try_from(self.dice.below(2)).unwrap_or_default();
        let kind = if self.dice.chance(500) { VoteKind::Prevote } else { VoteKind::Precommit };
        let signature = Signature([7; 64]);
        for to in self.delegates_for(number) {
            let block = (to % 2 == 1).then(|| BlockId(Hash32::of(&[b"forged"])));
            let vote = SignedVote { kind, height, round, block, voter, signature };
            self.send(number, to, &Message::Vote(vote).to_bytes());
        }
    }

    /// An accusation of somebody honest: statements that it never signed.
    fn forge_evidence(&mut self, number: usize) {
        let ledger = &self.nodes[number].ledger;
        let seats = ledger.delegates().as_slice();
        let voter = seats[self.dice.pick(seats.len())].key;
        let vote = |block| {
            let (kind, height, round) = (VoteKind::Precommit, ledger.height().max(1), 0);
            Statement::Vote(SignedVote { kind, height, round, block, voter, signature: Signature([9; 64]) })
        };
        let evidence = Evidence { first: vote(None), second: vote(Some(ledger.head())) };
        let bytes = self.nodes[number].journal.say(Body::Misbehaviour(evidence), &[], self.now);
        let home = self.nodes[number].home.clone();
        for to in (0..self.nodes.len()).filter(|to| *to != number) {
            let input = Input::Entry { bytes: bytes.clone(), origin: Origin::Peer(home.clone()) };
            self.deliver(number, to, input);
        }
    }

    /// A block that nobody decided, with a certificate of nobody.
    fn forge_final(&mut self, number: usize) {
        let node = &self.nodes[number];
        let last = node.disk.last_certificate();
        let time = node.ledger.head_time().plus_ms(11);
        let Ok(proposed) = node.ledger.propose_after(last.as_ref(), time, &[]) else { return };
        let block = proposed.executed.block;
        let signatures = (0..3).map(|seat| (seat, Signature([3; 64]))).collect();
        let certificate =
            Certificate { height: block.header.height, round: 0, block: block.id(), signatures };
        let bytes = Message::Final(block.to_bytes(), certificate).to_bytes();
        self.gossip(number, &|from| Input::Final { from, bytes: bytes.clone() });
    }

    fn make_noise(&mut self, number: usize) {
        let noise: Vec<u8> = (0..self.dice.below(300)).map(|_| self.dice.next().to_be_bytes()[0]).collect();
        for to in self.delegates_for(number) {
            self.send(number, to, &noise);
        }
    }
}

/// What a flood is of.
fn flood_of(home: &HomeId, interval: Interval, kind: u64) -> Body {
    let (home, price) = (home.clone(), energy::Price::new(200_000));
    if kind.is_multiple_of(2) {
        let limits = StandingLimits { min_sell: None, max_buy: Some(price) };
        return Body::StandingLimits { home, limits };
    }
    let (side, quantity) = (Side::Buy, WattHours::new(100));
    Body::Order(Order { home, interval, side, price, quantity, replaces: None })
}
