//! The network: messages that are lost, late, overtaken, repeated, or cut off.

use consensus::Input;
use consensus::message::Message;
use energy::HomeId;

use super::plan::Face;
use super::world::{Event, World};

/// A message takes at least so long, in ms …
const DELAY_MIN_MS: u64 = 2;
/// … and usually less than this more, …
const DELAY_MS: u64 = 60;
/// … a slow one less than this.
const DELAY_SLOW_MS: u64 = 2000;

impl World {
    /// A direct message.
    pub(crate) fn send(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let input = Input::Message { from: self.nodes[from].home.clone(), bytes: bytes.to_vec() };
        self.deliver(from, to, input);
    }

    /// A message to whoever else holds a seat now or next.
    pub(crate) fn send_to_delegates(&mut self, number: usize, bytes: &[u8]) {
        let Ok(message) = Message::from_bytes(bytes) else {
            self.check(false, || format!("node {number} says what nobody can read"));
            return;
        };
        self.check_said(number, &message);
        self.watch_for_lock(&message);
        let is_statement = matches!(message, Message::Vote(_) | Message::Proposal(..) | Message::Outline(..));
        if self.nodes[number].face == Some(Face::Silent) && is_statement {
            return;
        }
        for to in self.delegates_for(number) {
            match self.two_faced(number, to, &message) {
                Some(instead) => instead.into_iter().for_each(|bytes| self.send(number, to, &bytes)),
                None => self.send(number, to, bytes),
            }
        }
    }

    /// Whoever holds a seat in a node's eyes, but for itself.
    pub(crate) fn delegates_for(&self, number: usize) -> Vec<usize> {
        let node = &self.nodes[number];
        let ledger = node.replica.as_ref().map_or(&node.ledger, |replica| replica.ledger());
        let sets = [ledger.delegates(), ledger.next_delegates()];
        let seated = |to: &usize| sets.iter().any(|set| set.of_home(&self.nodes[*to].home).is_some());
        (0..self.nodes.len()).filter(|to| *to != number).filter(seated).collect()
    }

    /// To everybody, by whatever way.
    pub(crate) fn gossip(&mut self, number: usize, input: &dyn Fn(HomeId) -> Input) {
        for to in (0..self.nodes.len()).filter(|to| *to != number) {
            let input = input(self.nodes[number].home.clone());
            self.deliver(number, to, input);
        }
    }

    pub(crate) fn deliver(&mut self, from: usize, to: usize, input: Input) {
        let faulty = !self.healed;
        let (loss, slow, repeat) = (self.plan.faults.loss, self.plan.faults.slow, self.plan.faults.repeat);
        let is_cut = self.blocked.contains(&(from, to)) || self.is_muted(from, to, &input);
        if is_cut || (faulty && self.dice.chance(loss)) {
            self.report.dropped += 1;
            return;
        }
        self.note_heard(from, to, &input);
        self.keep_old_words(from, to, &input);
        let most = if faulty && self.dice.chance(slow) { DELAY_SLOW_MS } else { DELAY_MS };
        let delay = self.nodes[from].lag + DELAY_MIN_MS + self.dice.below(most);
        if faulty && self.dice.chance(repeat) {
            let again = delay + self.dice.below(500);
            self.report.repeated += 1;
            self.push(again, Event::Deliver { from, to, input: input.clone() });
        }
        for extra in self.through_the_seam(to, &input) {
            self.push(delay, Event::Deliver { from, to, input: extra });
        }
        self.push(delay, Event::Deliver { from, to, input });
    }
}
