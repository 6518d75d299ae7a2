//! Proposed blocks on their way: named by their entries' ids, filled from what was heard, the rest asked for.
//!
//! A proposal first travels as an [`Outline`]: header, parent's certificate, ids. Delegates have heard nearly every entry
//! before, so that nothing is sent twice and nothing is verified twice. What an outline names and this node has not heard is
//! asked of its sender and then of whoever prevoted for the block. A proposal that is repeated carries the whole block, so
//! that the last resort needs nobody's answer.
//!
//! Why this is as safe as whole blocks:
//! - A verdict still rests on the block's own execution: its header commits to the leaves of every entry and to the state.
//!   An outline with other ids than the block's gives another root and is no vote for anything.
//! - An id is the hash of an entry's bytes with its signatures: who answers can withhold an entry, not replace it. Each is
//!   verified here before it is used, and being asked for gives it no place in the pool that it would not have otherwise.
//! - Only the proposer pays for a block that does not hold. Anybody else may have put false ids beside a true header.
//! - Until it is filled a proposal has no verdict: the propose timeout gives nil, as for a proposal that never came.
//! - The log holds the whole block before anything said rests on it, so that a restart replays it without the pool.
//!
//! What one sender can make this node hold is one outline at a time, of its latest round, and the entries that belong to it.

use std::collections::{BTreeMap, BTreeSet};

use energy::HomeId;
use ledger::codec::{Decode as _, Encode as _};
use ledger::{BLOCK_BYTES_MAX, Block, BlockId, EntryId, Executed, PublicKey, SignedEntry, VerifiedEntry};

use super::deciding::{execute, is_next, verdict};
use super::{Body, Effect, Replica, Timer, first_seen_with};
use crate::agreement::{Agreement, Event};
use crate::log::Record;
use crate::mempool::entry_id;
use crate::message::{Message, Outline, REQUEST_ENTRIES_MAX, SignedProposal, Statement, entries_messages};

/// Proposals of rounds further ahead are not looked at; as the core's bound for votes.
const ROUNDS_AHEAD_MAX: u32 = 10;
/// The most different proposals of one round looked at by sender.
const PROPOSALS_PER_SENDER_MAX: usize = 4;
/// The most proposed blocks held at one height.
const BODIES_MAX: usize = 64;
/// Somebody else is asked for missing entries after so long, in wall ms: some round trips between homes.
const ANSWER_MS: u64 = 300;
/// What one delegate may ask for at one height, in bytes: a few blocks.
const SERVED_BYTES_MAX: usize = 4 * BLOCK_BYTES_MAX;

/// What a proposal came with.
pub(super) enum Carried {
    /// The whole block; empty where the sender does not hold it.
    Whole(Vec<u8>),
    /// The names of its entries.
    Outline(Box<Outline>),
}

/// Proposals of the present height that are being filled, and what was said and answered about others.
#[derive(Default)]
pub(super) struct Filling {
    /// Who sent content in which round: one outline (true) and one whole block each.
    tried: BTreeSet<(HomeId, u32, bool)>,
    /// By sender.
    incomplete: BTreeMap<HomeId, Incomplete>,
    /// Rounds in which this node's proposal was said once.
    said: BTreeSet<u32>,
    /// Bytes of entries given to those who asked.
    served: BTreeMap<HomeId, usize>,
    timer_set: bool,
}

/// An outlined block of which entries are missing.
struct Incomplete {
    proposal: SignedProposal,
    outline: Outline,
    found: BTreeMap<EntryId, VerifiedEntry>,
    missing: BTreeSet<EntryId>,
    /// Who was asked already.
    asked: BTreeSet<HomeId>,
}

impl Filling {
    /// Forgets everything of a height; a timer that runs goes on.
    pub fn clear(&mut self) {
        *self = Self { timer_set: self.timer_set, ..Self::default() };
    }

    fn wants(&self, id: &EntryId) -> bool {
        self.incomplete.values().any(|incomplete| incomplete.missing.contains(id))
    }

    fn take_entry(&mut self, entry: &VerifiedEntry) {
        for incomplete in self.incomplete.values_mut() {
            if incomplete.missing.remove(&entry.id()) {
                incomplete.found.insert(entry.id(), entry.clone());
            }
        }
    }

    /// Takes out the proposals that name this id, which stands for nothing that could be in a block.
    fn take_naming(&mut self, id: &EntryId) -> Vec<(HomeId, Incomplete)> {
        let naming = self.incomplete.iter().filter(|(_, incomplete)| incomplete.missing.contains(id));
        let senders: Vec<_> = naming.map(|(sender, _)| sender.clone()).collect();
        senders.into_iter().filter_map(|sender| self.incomplete.remove_entry(&sender)).collect()
    }

    fn take_complete(&mut self) -> Option<(HomeId, Incomplete)> {
        let complete = self.incomplete.iter().find(|(_, incomplete)| incomplete.missing.is_empty());
        let sender = complete.map(|(sender, _)| sender.clone())?;
        self.incomplete.remove_entry(&sender)
    }
}

impl Incomplete {
    fn into_block(self) -> (SignedProposal, Block) {
        let Self { proposal, outline, found, .. } = self;
        let entries = outline.entries.iter().filter_map(|id| found.get(id).cloned()).collect();
        (
            proposal,
            Block { header: outline.header, last_commit: outline.last_commit, recovery: None, entries },
        )
    }
}

impl Replica {
    /// A proposal as it leaves: outlined the first time, whole when it is repeated.
    pub(super) fn with_content(&mut self, message: Message) -> Message {
        let Message::Proposal(proposal, _) = message else { return message };
        let Some(body) = self.bodies.get(&proposal.block) else {
            return Message::Proposal(proposal, Vec::new());
        };
        let block = &body.executed.block;
        let first = self.filling.said.insert(proposal.round);
        if first && !block.entries.is_empty() {
            Message::Outline(proposal, Box::new(Outline::of(block)))
        } else {
            Message::Proposal(proposal, block.to_bytes())
        }
    }

    pub(super) fn on_proposal(&mut self, from: &HomeId, proposal: SignedProposal, content: Carried) {
        if !self.is_wanted(from, &proposal) {
            return;
        }
        let statement = Statement::Proposal(proposal.clone());
        if !self.agreement.as_mut().is_some_and(|agreement| agreement.is_genuine(&statement)) {
            return;
        }
        if !self.bodies.contains_key(&proposal.block) {
            self.take_content(from, &proposal, content);
        }
        self.judge_proposal(&proposal);
        if self.started && self.next_height() == proposal.height {
            self.run(Event::Proposal(proposal));
        }
    }

    /// Bounds what one sender can make this node check and remember: rounds near the present one, and in each no more
    /// proposals than it takes to prove that somebody proposed twice.
    fn is_wanted(&mut self, from: &HomeId, proposal: &SignedProposal) -> bool {
        let round = self.round().unwrap_or(0);
        if proposal.round > round.saturating_add(ROUNDS_AHEAD_MAX) {
            return false;
        }
        let sent = self.proposals_sent.entry((from.clone(), proposal.round)).or_default();
        let kind = (proposal.block, proposal.valid_round);
        sent.contains(&kind) || (sent.len() < PROPOSALS_PER_SENDER_MAX && sent.insert(kind))
    }

    fn take_content(&mut self, from: &HomeId, proposal: &SignedProposal, content: Carried) {
        let is_outline = matches!(content, Carried::Outline(_));
        if matches!(&content, Carried::Whole(bytes) if bytes.is_empty())
            || !self.filling.tried.insert((from.clone(), proposal.round, is_outline))
        {
            return;
        }
        match content {
            Carried::Whole(bytes) => {
                let executed = execute(&self.ledger, &self.pool, &bytes, &proposal.block);
                self.take_executed(from, proposal, executed);
            }
            Carried::Outline(outline) => self.take_outline(from, proposal, *outline),
        }
    }

    fn take_outline(&mut self, from: &HomeId, proposal: &SignedProposal, outline: Outline) {
        let sound = is_next(&self.ledger, &proposal.block, &outline.header, outline.last_commit.as_ref());
        if let Err(reason) = sound {
            return self.take_executed(from, proposal, Err(reason));
        }
        let held = |id: &EntryId| Some((*id, self.pool.get(id)?.entry.clone()));
        let found: BTreeMap<_, _> = outline.entries.iter().filter_map(held).collect();
        let missing = outline.entries.iter().filter(|id| !found.contains_key(id)).copied().collect();
        let asked = BTreeSet::new();
        let incomplete = Incomplete { proposal: proposal.clone(), outline, found, missing, asked };
        if incomplete.missing.is_empty() {
            self.carry_out_filled(from, incomplete);
        } else {
            self.filling.incomplete.insert(from.clone(), incomplete);
            self.ask_for_missing(from);
            self.arm_fill();
        }
    }

    fn carry_out_filled(&mut self, from: &HomeId, incomplete: Incomplete) {
        let (proposal, block) = incomplete.into_block();
        let executed = self.ledger.execute(&block).map_err(|error| error.to_string());
        self.take_executed(from, &proposal, executed);
    }

    fn take_executed(
        &mut self,
        from: &HomeId,
        proposal: &SignedProposal,
        executed: Result<Executed, String>,
    ) {
        match executed {
            Ok(executed) => self.keep_body(proposal, executed),
            Err(reason) => {
                self.note(format!("block {} sent by {from} does not hold: {reason}", proposal.block));
                // The id names the header only: somebody else may have sent false entries beside a true header, and then
                // the proposer must not pay for it.
                if self.ledger.delegates().of_home(from).is_some_and(|seat| seat.key == proposal.proposer) {
                    self.judge(verdict(proposal, false));
                }
            }
        }
    }

    fn keep_body(&mut self, proposal: &SignedProposal, executed: Executed) {
        if self.bodies.len() >= BODIES_MAX {
            self.drop_oldest_body();
        }
        self.journal.push(Record::Body(executed.block.to_bytes()));
        let body = Body { executed, proposal: first_seen_with(proposal), judged: None };
        self.bodies.insert(proposal.block, body);
        self.filling.incomplete.retain(|_, incomplete| incomplete.proposal.block != proposal.block);
    }

    /// Makes room: a block without a polka binds nobody, and comes again with whoever proposes it again.
    fn drop_oldest_body(&mut self) {
        let Some(agreement) = &self.agreement else { return };
        let unbound = self.bodies.iter().filter(|(block, _)| !agreement.has_polka(block));
        let oldest = unbound.min_by_key(|(_, body)| body.proposal.0).map(|(block, _)| *block);
        if let Some(oldest) = oldest {
            self.bodies.remove(&oldest);
        }
    }

    fn arm_fill(&mut self) {
        if !self.filling.timer_set {
            self.filling.timer_set = true;
            self.set_timer(Timer::Fill, ANSWER_MS);
        }
    }

    /// Asks the next one for what is still missing.
    pub(super) fn on_fill(&mut self) {
        self.filling.timer_set = false;
        let senders: Vec<_> = self.filling.incomplete.keys().cloned().collect();
        for sender in &senders {
            self.ask_for_missing(sender);
        }
        if !senders.is_empty() {
            self.arm_fill();
        }
    }

    fn ask_for_missing(&mut self, sender: &HomeId) {
        let Some(incomplete) = self.filling.incomplete.get(sender) else { return };
        let whom = self.whom_to_ask(sender, &incomplete.proposal.block, &incomplete.asked);
        let missing: Vec<_> = incomplete.missing.iter().copied().collect();
        if let Some(incomplete) = self.filling.incomplete.get_mut(sender) {
            // Everybody was asked: once round again.
            if !incomplete.asked.insert(whom.clone()) {
                incomplete.asked.clear();
            }
        }
        for wanted in missing.chunks(REQUEST_ENTRIES_MAX) {
            self.send(&whom, &Message::EntriesRequest(wanted.to_vec()));
        }
    }

    /// The sender first, then those who prevoted for the block: they hold it.
    fn whom_to_ask(&self, sender: &HomeId, block: &BlockId, asked: &BTreeSet<HomeId>) -> HomeId {
        let voters = self.agreement.as_ref().map(|agreement| agreement.prevoters(block)).unwrap_or_default();
        let home_of = |key: &PublicKey| {
            let seat = self.ledger.delegates().seat_of(key)?;
            self.ledger.delegates().as_slice().get(seat).map(|delegate| &delegate.home)
        };
        let holders = voters.iter().filter_map(home_of).filter(|home| **home != self.config.home);
        let fresh = std::iter::once(sender).chain(holders).find(|home| !asked.contains(home));
        fresh.unwrap_or(sender).clone()
    }

    /// An entry came, whether the pool keeps it or not.
    pub(super) fn offer(&mut self, bytes: &[u8]) {
        if self.filling.incomplete.is_empty() {
            return;
        }
        let id = entry_id(bytes);
        if !self.filling.wants(&id) {
            return;
        }
        let waiting = self.pool.get(&id).map(|waiting| waiting.entry.clone());
        let verified = waiting.or_else(|| verified(self.ledger.chain(), bytes));
        match verified {
            Some(entry) => self.filling.take_entry(&entry),
            None => self.give_up(&id),
        }
    }

    /// As [`Self::offer`], for an entry whose signatures were checked.
    pub(super) fn offer_verified(&mut self, entry: &VerifiedEntry) {
        if !self.filling.incomplete.is_empty() {
            self.filling.take_entry(entry);
        }
    }

    /// The bytes with this id are no signed entry: no block that names it can hold.
    fn give_up(&mut self, id: &EntryId) {
        for (sender, incomplete) in self.filling.take_naming(id) {
            let reason = Err(format!("entry {id} is not signed by its author"));
            self.take_executed(&sender, &incomplete.proposal, reason);
        }
    }

    /// Judges what has been filled since.
    pub(super) fn conclude_filled(&mut self) {
        while let Some((sender, incomplete)) = self.filling.take_complete() {
            let proposal = incomplete.proposal.clone();
            self.carry_out_filled(&sender, incomplete);
            self.judge_proposal(&proposal);
            self.pardon();
        }
    }

    /// A delegate asks for entries of a proposed block.
    pub(super) fn on_entries_request(&mut self, from: &HomeId, wanted: &[EntryId]) {
        if !self.is_delegate(from) {
            return;
        }
        let wanted: BTreeSet<_> = wanted.iter().collect();
        let in_pool = wanted.iter().filter_map(|id| self.pool.get(id)).map(|waiting| &waiting.entry);
        let proposed = self.bodies.values().flat_map(|body| &body.executed.block.entries);
        let proposed = proposed.filter(|entry| wanted.contains(&entry.id()));
        let held: BTreeMap<_, _> = in_pool.chain(proposed).map(|entry| (entry.id(), entry.clone())).collect();
        let served = self.filling.served.entry(from.clone()).or_default();
        let mut answer = Vec::new();
        for entry in held.into_values() {
            *served = served.saturating_add(entry.bytes().len());
            if *served > SERVED_BYTES_MAX {
                break;
            }
            answer.push(entry);
        }
        for bytes in entries_messages(answer.iter().map(VerifiedEntry::bytes)) {
            self.effects.push(Effect::SendTo { to: from.clone(), bytes });
        }
    }
}

fn verified(chain: &ledger::Chain, bytes: &[u8]) -> Option<VerifiedEntry> {
    SignedEntry::from_bytes(bytes).ok()?.verify(chain).ok()
}
