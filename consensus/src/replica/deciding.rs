//! Deciding a height: proposals are judged, the agreement's wishes carried out, decisions committed.
//!
//! A verdict has two parts. Whether a block follows from the state is the same for everybody. Whether it is timely and
//! complete is this node's own view: its clock, and what it received. The second part is waived for a block with a
//! polka: more than two thirds found it good, and a node that insisted could keep a healed neighbourhood from deciding.

use std::collections::VecDeque;

use energy::HomeId;
use ledger::codec::{Decode as _, Encode as _};
use ledger::{
    BlockId, Body as Content, Certificate, DelegateSet, EntryId, Executed, Header, Ledger, Stream,
    UnverifiedBlock, VerifiedEntry, VoteKind,
};

use super::proposals::Carried;
use super::{
    Body, Commit, EARLY_PER_PEER_MAX, EARLY_PROPOSALS_PER_PEER_MAX, EVIDENCE_MAX, Effect, LOG_TRIM_BYTES,
    Replica, Timer,
};
use crate::agreement::{Action, Agreement, Event, Evidence, Timeout};
use crate::context::proposer_seat;
use crate::log::{Judged, Record, encode_frame};
use crate::mempool::{Mempool, entry_id, may_pass};
use crate::message::{GOSSIP_BYTES_MAX, Message, SignedProposal, SignedVote, Statement, entries_messages};

/// A block's time may lie so far behind the validator's clock, in wall ms, doubling each round.
const BEHIND_MS_MAX: u64 = 3000;
/// And so far ahead of it.
const AHEAD_MS_MAX: u64 = 1000;
/// After so many rounds the window stops doubling.
const WINDOW_DOUBLINGS_MAX: u32 = 10;
/// What was received so long before, in wall ms, must be in a gate or deadline block.
const SEEN_BEFORE_MS: u64 = 10_000;
/// An order in a gate block must have been received so long before the gate, in wall ms.
const SEEN_BEFORE_GATE_MS: u64 = 2000;

impl Replica {
    /// Votes, proposals and certificates of delegates.
    pub(super) fn on_consensus(&mut self, from: HomeId, message: Message) {
        let Some(height) = height_of(&message) else { return };
        if !self.is_delegate(&from) {
            return;
        }
        let next = self.next_height();
        self.note_height(&from, height.saturating_sub(1));
        if height < next {
            if let Message::Vote(vote) = &message {
                self.add_to_certificate(vote);
            }
            self.tell_height(&from);
        } else if height == next && self.started {
            self.on_present(&from, message);
        } else if height == next && self.agreement.is_some() {
            self.on_early(from, message);
        } else if height == next + 1 && self.agreement.is_some() {
            self.keep_early(from, message);
        }
    }

    /// A precommit that came after the decision counts all the same: who signs is written down in the next block, and a delegate
    /// far away must not lose its seat for being the last.
    fn add_to_certificate(&mut self, vote: &SignedVote) {
        let seat = self.ledger.last_delegates().seat_of(&vote.voter).and_then(|seat| u8::try_from(seat).ok());
        let (Some(certificate), Some(seat)) = (&mut self.last_commit, seat) else { return };
        let is_of_it = vote.kind == VoteKind::Precommit
            && (vote.height, vote.round) == (certificate.height, certificate.round)
            && vote.block == Some(certificate.block);
        let Err(place) = certificate.signatures.binary_search_by_key(&seat, |(seat, _)| *seat) else {
            return;
        };
        if is_of_it && vote.voter.verifies(&vote.signing_bytes(self.ledger.chain()), &vote.signature) {
            certificate.signatures.insert(place, (seat, vote.signature));
        }
    }

    /// A message for the next height before this node started it.
    fn on_early(&mut self, from: HomeId, message: Message) {
        let statement = match &message {
            Message::Vote(vote) => Some(Statement::Vote(vote.clone())),
            Message::Proposal(proposal, _) | Message::Outline(proposal, _) => {
                Some(Statement::Proposal(proposal.clone()))
            }
            _ => None,
        };
        // Room first: what is checked is remembered.
        if !self.has_room_for(&from, &message) {
            return;
        }
        if let (Some(statement), Some(agreement)) = (statement, &mut self.agreement) {
            if !agreement.is_genuine(&statement) {
                return;
            }
            self.called = true;
        }
        self.keep_early(from, message);
    }

    fn keep_early(&mut self, from: HomeId, message: Message) {
        if self.has_room_for(&from, &message) {
            self.early.push_back((from, message));
        }
    }

    /// True if the message is new and its sender has not used up its share of what is held for later.
    fn has_room_for(&self, from: &HomeId, message: &Message) -> bool {
        let is_proposal = |message: &Message| matches!(message, Message::Proposal(..) | Message::Outline(..));
        let of_peer = || self.early.iter().filter(|(peer, _)| peer == from);
        let proposals = of_peer().filter(|(_, held)| is_proposal(held)).count();
        of_peer().count() < EARLY_PER_PEER_MAX
            && !(is_proposal(message) && proposals >= EARLY_PROPOSALS_PER_PEER_MAX)
            && !of_peer().any(|(_, held)| held == message)
    }

    fn on_present(&mut self, from: &HomeId, message: Message) {
        match message {
            Message::Vote(vote) => self.run(Event::Vote(vote)),
            Message::Proposal(proposal, bytes) => self.on_proposal(from, proposal, Carried::Whole(bytes)),
            Message::Outline(proposal, outline) => {
                self.on_proposal(from, proposal, Carried::Outline(outline));
            }
            Message::Polka(polka) => self.run(Event::Polka(polka)),
            Message::Round(certificate) => self.run(Event::Round(certificate)),
            _ => {}
        }
    }

    /// Begins to decide the next height.
    pub(super) fn start_height(&mut self) {
        let logged = self.open_log();
        if self.over {
            return;
        }
        let Some(agreement) = &mut self.agreement else { return };
        self.started = true;
        self.called = false;
        self.height_started_ms = self.now.wall_ms;
        let actions = agreement.start(&logged);
        self.carry_out(actions);
        self.pardon();
        self.take_early();
    }

    /// What others said before this node was ready for it.
    fn take_early(&mut self) {
        let height = self.next_height();
        let (present, later): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.early)
            .into_iter()
            .partition(|(_, message)| height_of(message) == Some(height));
        self.early = later;
        for (from, message) in present {
            if self.started && self.next_height() == height {
                self.on_present(&from, message);
            }
        }
    }

    pub(super) fn on_timeout(&mut self, timeout: Timeout) {
        self.run(Event::Timeout(timeout));
    }

    /// Hands an event to the agreement and carries out what comes of it, also of verdicts that a new polka turns.
    pub(super) fn run(&mut self, event: Event) {
        let Some(agreement) = &mut self.agreement else { return };
        let actions = agreement.handle(event);
        self.carry_out(actions);
        self.pardon();
    }

    pub(super) fn pardon(&mut self) {
        while let Some(judged) = self.pardoned() {
            self.judge(judged);
        }
    }

    /// A block voted down here for its time or its gaps that more than two thirds prevoted nevertheless.
    fn pardoned(&self) -> Option<Judged> {
        let agreement = self.agreement.as_ref().filter(|_| self.started)?;
        let (block, body) = self
            .bodies
            .iter()
            .find(|(block, body)| body.judged == Some(false) && agreement.has_polka(block))?;
        let (round, proposer) = body.proposal;
        Some(Judged { round, valid_round: None, proposer, block: *block, valid: true })
    }

    pub(super) fn judge(&mut self, judged: Judged) {
        if let Some(body) = self.bodies.get_mut(&judged.block) {
            body.judged = Some(judged.valid);
        }
        let Some(agreement) = &mut self.agreement else { return };
        let actions = agreement.handle(Event::Judged(judged));
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        let height = self.next_height();
        while let Some(action) = actions.pop_front() {
            if self.over {
                return;
            }
            match action {
                Action::Publish(message) => self.say(message),
                Action::Log(_) | Action::Schedule(_) if self.next_height() != height => {}
                Action::Log(record) => self.journal.push(record),
                Action::Schedule(timeout) => self.schedule(timeout),
                Action::Cancel(timeout) => self.cancel(timeout),
                Action::CancelAll => self.cancel_all(),
                Action::NeedValue { round } => actions.extend(self.build_block(round)),
                Action::Decided(certificate) => {
                    self.say_all(&mut actions);
                    self.on_decided(certificate);
                }
                Action::Evidence(evidence) => self.on_evidence(evidence),
                Action::Halt(reason) => self.halt(reason),
                Action::Note(text) => self.note(text),
            }
        }
    }

    fn say(&mut self, message: Message) {
        let message = self.with_content(message);
        self.publish(&message);
    }

    /// This node's own precommit may decide, and the core speaks of it after that. The others need it all the same, and it is
    /// logged and sent before the block is stored: should that be found damaged one day, nothing else tells what was said.
    fn say_all(&mut self, actions: &mut VecDeque<Action>) {
        for action in std::mem::take(actions) {
            match action {
                Action::Publish(message) => self.say(message),
                other => actions.push_back(other),
            }
        }
    }

    fn schedule(&mut self, timeout: Timeout) {
        self.timeouts.insert(timeout);
        let height = self.next_height();
        self.set_timer(Timer::Round { height, timeout }, self.config.timeouts.of(timeout));
    }

    fn cancel(&mut self, timeout: Timeout) {
        if self.timeouts.remove(&timeout) {
            let height = self.next_height();
            self.effects.push(Effect::ClearTimer(Timer::Round { height, timeout }));
        }
    }

    fn cancel_all(&mut self) {
        for timeout in std::mem::take(&mut self.timeouts) {
            let height = self.next_height();
            self.effects.push(Effect::ClearTimer(Timer::Round { height, timeout }));
        }
    }

    /// Builds the block to propose in `round`.
    fn build_block(&mut self, round: u32) -> Vec<Action> {
        let Some(proposer) = self.my_key() else { return Vec::new() };
        let time = self.block_time();
        let at_deadline = self.ledger.deadline_at(time);
        let entries = self.pool.ordered(&self.ledger, self.now.wall_ms, at_deadline);
        if self.last_commit.is_none() && needs_certificate(&self.ledger) {
            self.note("no block is proposed: the certificate of the last one is not held".to_owned());
            return Vec::new();
        }
        let proposed = match self.ledger.propose_after(self.last_commit.as_ref(), time, &entries) {
            Ok(proposed) => proposed,
            Err(error) => {
                self.note(format!("no block can be proposed at height {}: {error}", self.next_height()));
                return Vec::new();
            }
        };
        let mut refused = Vec::new();
        for (id, error) in proposed.refused {
            if may_pass(&error) {
                self.pool.postpone(&id);
            } else {
                refused.push((id, error.to_string()));
            }
        }
        let refused = self.pool.refuse(refused);
        self.report_refused(refused);
        let block = proposed.executed.block.id();
        self.journal.push(Record::Body(proposed.executed.block.to_bytes()));
        let body = Body { executed: proposed.executed, proposal: (round, proposer), judged: Some(true) };
        self.bodies.insert(block, body);
        self.agreement
            .as_mut()
            .map_or_else(Vec::new, |agreement| agreement.handle(Event::Value { round, block }))
    }

    pub(super) fn judge_proposal(&mut self, proposal: &SignedProposal) {
        let Some(body) = self.bodies.get(&proposal.block) else { return };
        if body.judged == Some(true) {
            return;
        }
        let pardoned = proposal.valid_round.is_some()
            && self.agreement.as_ref().is_some_and(|agreement| agreement.has_polka(&proposal.block));
        let timely = self.is_timely(&body.executed, proposal.round);
        let missing = self.missing_from(&body.executed, proposal.round);
        let last_look = self.has_last_look(&body.executed, proposal.round);
        let valid = pardoned || (timely && missing.is_empty() && !last_look);
        if body.judged == Some(valid) {
            return;
        }
        if !valid {
            let why = match (timely, last_look) {
                (false, _) => "has a time too far from this clock",
                (true, true) => "holds an order that was not here before the gate",
                (true, false) => "leaves out entries received in time",
            };
            self.explain_nil(proposal, why, &missing);
        }
        self.judge(verdict(proposal, valid));
    }

    /// A first proposal's time must be near this node's clock; how near loosens each round.
    fn is_timely(&self, executed: &Executed, round: u32) -> bool {
        let doublings = round.min(WINDOW_DOUBLINGS_MAX);
        let (time, clock) = (executed.block.header.time.unix_ms(), self.now.market.unix_ms());
        let wall_ms = |market_ms: u64| market_ms / u64::from(self.config.speed);
        if time > clock {
            wall_ms(time - clock) <= AHEAD_MS_MAX << doublings
        } else {
            wall_ms(clock - time) <= BEHIND_MS_MAX << doublings
        }
    }

    /// What a gate or deadline block leaves out although this node received it long enough before: orders and readings
    /// that are valid in that state and not overtaken by a larger number in the block. Nothing in the rounds after
    /// round f, in which an honest delegate has proposed, and nothing that the block had no room for.
    fn missing_from(&self, executed: &Executed, round: u32) -> Vec<VerifiedEntry> {
        let block = &executed.block;
        let time = block.header.time;
        let judged_rounds = self.faults() as u64;
        if u64::from(round) > judged_rounds || !self.ledger.deadline_at(time) {
            return Vec::new();
        }
        let included: std::collections::BTreeSet<EntryId> =
            block.entries.iter().map(VerifiedEntry::id).collect();
        let must = |entry: &VerifiedEntry, seen_ms: u64| {
            matches!(entry.entry().body.stream(), Stream::Readings | Stream::Orders)
                && self.now.wall_ms.saturating_sub(seen_ms) >= SEEN_BEFORE_MS
                && !included.contains(&entry.id())
                && !executed.ledger.is_used(entry.entry())
                && !executed.lacked_room_for(entry)
                && self.ledger.check(entry, time).is_ok()
        };
        let waiting = self.pool.iter().filter(|waiting| must(&waiting.entry, waiting.seen_ms));
        waiting.map(|waiting| waiting.entry.clone()).collect()
    }

    /// True for a gate block with an order that this node had not received well before the gate: whoever proposes it may
    /// have looked at the others' orders first. Waived after round f, as [`Self::missing_from`] is.
    fn has_last_look(&self, executed: &Executed, round: u32) -> bool {
        let block = &executed.block;
        if u64::from(round) > self.faults() as u64 {
            return false;
        }
        block.entries.iter().any(|entry| {
            let Content::Order(order) = &entry.entry().body else { return false };
            let Some(gate) = self.ledger.gate_closed_by(order.interval, block.header.time) else {
                return false;
            };
            let since_gate_ms = self.now.market.ms_since(gate) / u64::from(self.config.speed);
            let gate_ms = self.now.wall_ms.saturating_sub(since_gate_ms);
            let seen_ms = self.pool.get(&entry.id()).map(|waiting| waiting.seen_ms);
            seen_ms.is_none_or(|seen_ms| seen_ms.saturating_add(SEEN_BEFORE_GATE_MS) > gate_ms)
        })
    }

    /// Says why this node prevotes nil, and gives the delegates what was left out.
    fn explain_nil(&mut self, proposal: &SignedProposal, why: &str, missing: &[VerifiedEntry]) {
        self.note(format!("block {} of round {} {why}", proposal.block, proposal.round));
        for bytes in entries_messages(missing.iter().map(VerifiedEntry::bytes)) {
            self.effects.push(Effect::ToDelegates(bytes));
        }
    }

    fn on_decided(&mut self, certificate: Certificate) {
        match self.bodies.remove(&certificate.block) {
            Some(body) => self.commit(body.executed, certificate),
            None => self.fetch_decided(&certificate),
        }
    }

    /// Decided, but the block was dropped to make room: whoever signed the certificate has it or will have it.
    fn fetch_decided(&mut self, certificate: &Certificate) {
        self.note(format!(
            "block {} is final at height {}, but not held",
            certificate.block, certificate.height
        ));
        let delegates = self.ledger.delegates().as_slice();
        let signers = certificate.signatures.iter().filter_map(|(seat, _)| delegates.get(usize::from(*seat)));
        let me = &self.config.home;
        let homes: Vec<_> = signers.map(|delegate| delegate.home.clone()).filter(|home| home != me).collect();
        for home in homes {
            self.note_height(&home, certificate.height);
        }
    }

    fn on_evidence(&mut self, evidence: Evidence) {
        if self.evidence.len() == EVIDENCE_MAX {
            self.evidence.remove(0);
        }
        self.evidence.push(evidence.clone());
        self.effects.push(Effect::Evidence(Box::new(evidence)));
    }

    /// Makes a final block this node's head and turns to the next height.
    pub(super) fn commit(&mut self, executed: Executed, certificate: Certificate) {
        self.flush();
        self.cancel_all();
        self.salvage_evidence();
        let finality_ms = self.finality_ms(&executed);
        self.gossip_final(&executed, &certificate);
        let (ledger, entries) = (executed.ledger.clone(), executed.block.entries.clone());
        self.last_commit = Some(certificate.clone()).filter(|_| !ledger.is_recovered());
        self.effects.push(Effect::Commit(Box::new(Commit { executed, certificate, finality_ms })));
        // What was not sent rests on nothing that was not written, so what was not written is not needed.
        self.journal.clear();
        self.ledger = ledger;
        self.enter_next_height();
        let now = (self.block_time(), self.now.wall_ms);
        let refused = self.pool.after_block(&self.ledger, &entries, now);
        self.report_refused(refused);
        self.send_queued_final();
        self.note_unknown_rules();
    }

    fn enter_next_height(&mut self) {
        self.started = false;
        self.called = false;
        self.committed_ms = Some(self.now.wall_ms);
        self.bodies.clear();
        self.proposals_sent.clear();
        self.filling.clear();
        let height = self.next_height();
        if self.ledger.is_recovered() {
            self.begin_anew();
        } else if let Some(agreement) = &mut self.agreement {
            agreement.enter(height, self.ledger.delegates());
        }
        self.turn_to_seated_key();
        self.begin_log_anew();
        self.trim_log();
        let early = std::mem::take(&mut self.early);
        for (from, message) in early {
            if height_of(&message) == Some(height) && self.agreement.is_some() {
                self.on_early(from, message);
            } else if height_of(&message) > Some(height) {
                self.early.push_back((from, message));
            }
        }
    }

    /// Evidence the agreement gathered on a height that was decided elsewhere.
    fn salvage_evidence(&mut self) {
        if !self.started {
            return;
        }
        let found = self.agreement.as_mut().map(Agreement::take_evidence).unwrap_or_default();
        for evidence in found {
            self.on_evidence(evidence);
        }
    }

    /// What the log holds is of heights that are final: starts it anew once it has grown.
    fn trim_log(&mut self) {
        if self.log_grown < LOG_TRIM_BYTES {
            return;
        }
        if let Some(key) = self.my_key() {
            let chain = *self.ledger.chain();
            let records = [Record::Opened { chain, key }, Record::Height(self.next_height())];
            self.effects.push(Effect::TrimLog(encode_frame(&records)));
            self.log_grown = 0;
        }
    }

    fn finality_ms(&self, executed: &Executed) -> u64 {
        let seen = executed.block.entries.iter().filter_map(|entry| self.pool.get(&entry.id()));
        let oldest = seen.map(|waiting| waiting.seen_ms).min();
        let began = oldest.unwrap_or(if self.started { self.height_started_ms } else { self.now.wall_ms });
        self.now.wall_ms.saturating_sub(began)
    }

    /// The proposer of the deciding round tells the members; who misses it learns by status.
    fn gossip_final(&mut self, executed: &Executed, certificate: &Certificate) {
        if !self.started || proposer_home(self.ledger.delegates(), certificate) != Some(&self.config.home) {
            return;
        }
        let whole = || Message::Final(executed.block.to_bytes(), certificate.clone()).to_bytes();
        // Where not every member holds all bodies, those who do fetch them.
        let whole =
            (!self.ledger.has_followers()).then(whole).filter(|bytes| bytes.len() <= GOSSIP_BYTES_MAX);
        let announced = || Message::Status { height: certificate.height }.to_bytes();
        self.final_to_send = Some(whole.unwrap_or_else(announced));
    }

    /// Only what is stored here is told to others.
    fn send_queued_final(&mut self) {
        if let Some(bytes) = self.final_to_send.take() {
            self.effects.push(Effect::GossipFinal(bytes));
        }
    }
}

/// Carries out a block that came as bytes, on top of `ledger`.
///
/// # Errors
/// Why it does not follow, in words.
pub(super) fn execute(
    ledger: &Ledger,
    pool: &Mempool,
    bytes: &[u8],
    block: &BlockId,
) -> Result<Executed, String> {
    let unverified = UnverifiedBlock::from_bytes(bytes).map_err(|error| error.to_string())?;
    is_next(ledger, block, &unverified.header, unverified.last_commit.as_ref())?;
    if unverified.recovery.is_some() {
        return Err("a recovery is for the members to decide, and nothing to propose".to_owned());
    }
    let known = |signed: &ledger::SignedEntry| {
        let waiting = pool.get(&entry_id(&signed.to_bytes()))?;
        Some(waiting.entry.clone())
    };
    let verified = unverified
        .verify(ledger.chain(), known)
        .map_err(|(position, error)| format!("entry {position}: {error}"))?;
    ledger.execute(&verified).map_err(|error| error.to_string())
}

/// That a header is of the block that was named, and its block can be the next.
///
/// # Errors
/// Why not, in words.
pub(super) fn is_next(
    ledger: &Ledger,
    block: &BlockId,
    header: &Header,
    last_commit: Option<&Certificate>,
) -> Result<(), String> {
    if header.id() != *block {
        return Err("it is not the block that was named".to_owned());
    }
    if header.height != ledger.height() + 1 {
        return Err("its height is not the next".to_owned());
    }
    if last_commit.is_none() && needs_certificate(ledger) {
        return Err("it does not say who signed the block before".to_owned());
    }
    Ok(())
}

/// Every block but the first one, and the one after a recovery, says who signed the block before.
const fn needs_certificate(ledger: &Ledger) -> bool {
    ledger.height() > 0 && !ledger.is_recovered()
}

pub(super) const fn verdict(proposal: &SignedProposal, valid: bool) -> Judged {
    Judged {
        round: proposal.round,
        valid_round: proposal.valid_round,
        proposer: proposal.proposer,
        block: proposal.block,
        valid,
    }
}

fn proposer_home<'d>(delegates: &'d DelegateSet, certificate: &Certificate) -> Option<&'d HomeId> {
    let seat = proposer_seat(delegates.len(), certificate.height, certificate.round);
    delegates.as_slice().get(seat).map(|delegate| &delegate.home)
}

pub(super) const fn height_of(message: &Message) -> Option<u64> {
    match message {
        Message::Vote(vote) => Some(vote.height),
        Message::Proposal(proposal, _) | Message::Outline(proposal, _) => Some(proposal.height),
        Message::Polka(polka) => Some(polka.height),
        Message::Round(certificate) => Some(certificate.height),
        _ => None,
    }
}
