//! Tendermint through the pinned sans-IO core.
//!
//! What the core leaves to its host and where it is done:
//! - Blocks arrive beside proposals and are judged by the replica (`ProposalAndParts`); the core's other mode would take
//!   every proposal for valid.
//! - Effects are handled without failing and without calling the core again: they become [`Action`]s in order.
//! - No target time is set, which is the core's only use of a clock.
//! - A signature is verified once: [`Heard`] remembers.
//! - What this node signed binds it whatever the core derives: [`Own`] hands back the recorded statement for a key of
//!   (kind, round) that has one, and a prevote that would break the lock shown by a recovered precommit becomes nil.
//!   Nil is always safe to say; a second, different statement never is.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use ledger::{BlockId, Certificate, Chain, DelegateSet, PublicKey, Signature, VoteKind};
use malachitebft_core_consensus::{
    ConsensusMsg, Effect, Error, Input, LivenessMsg, LocallyProposedValue, MisbehaviorEvidence, Params,
    Resumable as _, Resume, SignedConsensusMsg, State, process,
};
use malachitebft_core_types as bft;

use crate::agreement::{Action, Agreement, Event, Evidence, Timeout};
use crate::context::{Address, Height, Neighbourhood, Proposal, Seats, Value, Vote, proposer_seat};
use crate::convert::{
    core_input, core_judged, core_polka, core_proposal, core_round, core_timeout, core_vote, wire_polka,
    wire_proposal, wire_record, wire_round, wire_timeout, wire_vote,
};
use crate::log::{Record, TimeoutKind};
use crate::message::{Message, SignedProposal, SignedVote, Statement};

type CertificateVerdict = Result<(), bft::CertificateError<Neighbourhood>>;

/// The protocol at one node.
pub struct Tendermint {
    core: State<Neighbourhood>,
    desk: Desk,
    started: bool,
}

/// Everything the core's effects are handled with.
struct Desk {
    chain: Chain,
    key: SigningKey,
    me: PublicKey,
    height: u64,
    delegates: DelegateSet,
    heard: Heard,
    own: Own,
    replaying: bool,
    decided: bool,
    actions: Vec<Action>,
}

/// Genuine statements of the entered height.
#[derive(Default)]
struct Heard {
    votes: BTreeMap<(u32, VoteKind, Option<BlockId>), BTreeMap<PublicKey, Signature>>,
    proposals: BTreeMap<(u32, BlockId, Option<u32>), (PublicKey, Signature)>,
}

/// Statements of this node that bind it.
#[derive(Default)]
struct Own {
    votes: BTreeMap<(VoteKind, u32), SignedVote>,
    proposals: BTreeMap<u32, SignedProposal>,
    /// Those that do not follow from the log, of the entered height and later ones.
    pinned: Vec<Statement>,
}

impl Tendermint {
    /// A protocol that signs with `key` and first enters `height`.
    #[must_use]
    pub fn new(chain: Chain, key: SigningKey, height: u64, delegates: &DelegateSet) -> Self {
        let me = PublicKey::of(&key);
        let params = Params {
            address: Address(me),
            threshold_params: bft::ThresholdParams::default(),
            value_payload: bft::ValuePayload::ProposalAndParts,
            enabled: true,
        };
        // The core's own queue for later heights stays unused: the replica holds early messages, with limits by sender.
        let core = State::new(Neighbourhood, Height(height), Seats::of(delegates), params, 1, 1);
        let desk = Desk {
            chain,
            key,
            me,
            height,
            delegates: delegates.clone(),
            heard: Heard::default(),
            own: Own::default(),
            replaying: false,
            decided: false,
            actions: Vec::new(),
        };
        Self { core, desk, started: false }
    }

    fn feed(&mut self, input: Input<Neighbourhood>) {
        let result: Result<(), Error<Neighbourhood>> = process!(
            input: input,
            state: &mut self.core,
            metrics: &(),
            with: effect => Ok::<_, std::convert::Infallible>(self.desk.handle(effect))
        );
        match result {
            Ok(()) => {}
            Err(Error::ReplayDivergence(kind, height, round)) => self.desk.actions.push(Action::Halt(format!(
                "replaying the consensus log gave another {kind} at height {height}, round {round} than was signed; this node must not vote"
            ))),
            Err(error) => self.desk.actions.push(Action::Note(format!("the agreement core refused an input: {error}"))),
        }
    }

    fn replay(&mut self, inputs: Vec<Input<Neighbourhood>>) {
        let me = self.desk.me;
        let own = &self.desk.own;
        // A pinned statement is not derived from the log, so the core must not expect it to be.
        self.core.index_wal_entries(inputs.iter().filter(|input| !own.is_pinned_input(input, &me)));
        self.desk.replaying = true;
        for input in inputs {
            self.feed(input);
            if self.desk.decided {
                break;
            }
        }
        self.core.reset_entries_index();
        self.desk.replaying = false;
    }

    /// After a replay, in which no value is asked for: asks if it is this node's turn and nothing was proposed.
    fn ask_for_missing_value(&mut self) {
        let Some(round) = self.round() else { return };
        let mine = self.desk.proposer_of(round) == Some(self.desk.me);
        if mine && self.core.driver.step_is_propose() && !self.desk.own.proposals.contains_key(&round) {
            self.desk.actions.push(Action::NeedValue { round });
        }
    }

    /// Says the own proposal of this round again: the core repeats votes only.
    fn repeat_proposal(&mut self) {
        let Some(round) = self.round() else { return };
        if let Some(proposal) = self.desk.own.proposals.get(&round) {
            self.desk.actions.push(Action::Publish(Message::Proposal(proposal.clone(), Vec::new())));
        }
    }

    fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.desk.actions)
    }
}

impl Agreement for Tendermint {
    fn enter(&mut self, height: u64, delegates: &DelegateSet) {
        self.started = false;
        self.desk.height = height;
        self.desk.delegates = delegates.clone();
        self.desk.heard = Heard::default();
        self.desk.decided = false;
        self.desk.own.votes.clear();
        self.desk.own.proposals.clear();
        self.desk.own.pinned.retain(|statement| statement.height() >= height);
        self.desk.bind_pinned();
    }

    fn pin(&mut self, statement: Statement) {
        self.desk.own.pinned.push(statement);
        self.desk.bind_pinned();
    }

    fn start(&mut self, logged: &[Record]) -> Vec<Action> {
        let inputs: Vec<_> =
            logged.iter().filter_map(|record| core_input(self.desk.height, record)).collect();
        for record in logged {
            self.desk.remember_own(record);
        }
        self.started = true;
        self.desk.replaying = !inputs.is_empty();
        self.feed(Input::StartHeight(
            Height(self.desk.height),
            Seats::of(&self.desk.delegates),
            self.desk.replaying,
            None,
            bft::VoteExtensionPolicy::Disabled,
        ));
        if self.desk.replaying {
            self.replay(inputs);
            if !self.desk.decided {
                self.ask_for_missing_value();
            }
        }
        self.take_actions()
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        if !self.started || self.desk.decided {
            return Vec::new();
        }
        let height = self.desk.height;
        match event {
            Event::Vote(vote) => self.feed(Input::Vote(core_vote(&vote))),
            Event::Proposal(proposal) => self.feed(Input::Proposal(core_proposal(&proposal))),
            Event::Polka(polka) => self.feed(Input::PolkaCertificate(core_polka(&polka))),
            Event::Round(certificate) => self.feed(Input::RoundCertificate(core_round(&certificate))),
            Event::Timeout(timeout) => {
                if timeout.kind == TimeoutKind::Rebroadcast {
                    self.repeat_proposal();
                }
                self.feed(Input::TimeoutElapsed(core_timeout(timeout)));
            }
            Event::Value { round, block } => {
                let round = bft::Round::new(round);
                self.feed(Input::Propose(LocallyProposedValue::new(Height(height), round, Value(block))));
            }
            Event::Judged(judged) => self.feed(core_judged(height, &judged)),
        }
        self.take_actions()
    }

    fn take_evidence(&mut self) -> Vec<Evidence> {
        evidence_of(&MisbehaviorEvidence {
            proposals: self.core.driver.take_proposal_evidence(),
            votes: self.core.driver.take_vote_evidence(),
        })
    }

    fn is_genuine(&mut self, statement: &Statement) -> bool {
        statement.height() == self.desk.height
            && match statement {
                Statement::Vote(vote) => self.desk.verify_vote(vote),
                Statement::Proposal(proposal) => self.desk.verify_proposal(proposal),
            }
    }

    fn has_polka(&self, block: &BlockId) -> bool {
        let quorum = self.desk.delegates.quorum();
        self.desk.heard.votes.iter().any(|((_, kind, voted), voters)| {
            *kind == VoteKind::Prevote && voted.as_ref() == Some(block) && voters.len() >= quorum
        })
    }

    fn prevoters(&self, block: &BlockId) -> Vec<PublicKey> {
        let places = self.desk.heard.votes.iter();
        let prevotes = places
            .filter(|((_, kind, voted), _)| *kind == VoteKind::Prevote && voted.as_ref() == Some(block));
        prevotes.flat_map(|(_, voters)| voters.keys().copied()).collect()
    }

    fn round(&self) -> Option<u32> {
        if self.started { self.core.round().as_u32() } else { None }
    }

    fn statements_of(&self, key: &PublicKey) -> Vec<Statement> {
        self.desk.heard.statements_of(self.desk.height, key)
    }
}

impl Heard {
    fn statements_of(&self, height: u64, key: &PublicKey) -> Vec<Statement> {
        let votes = self.votes.iter().filter_map(|((round, kind, block), voters)| {
            let signature = *voters.get(key)?;
            let (kind, round, block) = (*kind, *round, *block);
            Some(Statement::Vote(SignedVote { kind, height, round, block, voter: *key, signature }))
        });
        let proposals = self.proposals.iter().filter(|(_, (proposer, _))| proposer == key);
        let proposals = proposals.map(|((round, block, valid_round), (proposer, signature))| {
            Statement::Proposal(SignedProposal {
                height,
                round: *round,
                block: *block,
                valid_round: *valid_round,
                proposer: *proposer,
                signature: *signature,
            })
        });
        votes.chain(proposals).collect()
    }

    fn has_polka_in(&self, round: u32, block: &BlockId, quorum: usize) -> bool {
        let voters = self.votes.get(&(round, VoteKind::Prevote, Some(*block)));
        voters.is_some_and(|voters| voters.len() >= quorum)
    }
}

impl Own {
    fn is_pinned_input(&self, input: &Input<Neighbourhood>, me: &PublicKey) -> bool {
        let same_place = |kind: Option<VoteKind>, height: u64, round: u32| {
            self.pinned.iter().any(|pinned| {
                let pinned_kind = match pinned {
                    Statement::Vote(vote) => Some(vote.kind),
                    Statement::Proposal(_) => None,
                };
                pinned_kind == kind && pinned.height() == height && pinned.round() == round
            })
        };
        match input {
            Input::Vote(vote) if vote.message.voter.0 == *me => {
                let vote = wire_vote(vote);
                same_place(Some(vote.kind), vote.height, vote.round)
            }
            Input::Proposal(proposal) if proposal.message.proposer.0 == *me => {
                let proposal = wire_proposal(proposal);
                same_place(None, proposal.height, proposal.round)
            }
            _ => false,
        }
    }

    /// The lock that recovered precommits show: the latest round with one for a block.
    fn recovered_lock(&self, height: u64) -> Option<(u32, BlockId)> {
        let precommits = self.pinned.iter().filter_map(|statement| match statement {
            Statement::Vote(vote) if vote.kind == VoteKind::Precommit && vote.height == height => {
                vote.block.map(|block| (vote.round, block))
            }
            _ => None,
        });
        precommits.max_by_key(|(round, _)| *round)
    }
}

impl Desk {
    /// Answers the core where it asks, and tells the rest on.
    fn handle(&mut self, effect: Effect<Neighbourhood>) -> Resume<Neighbourhood> {
        match effect {
            Effect::SignVote(vote, r) => r.resume_with(self.sign_vote(vote)),
            Effect::SignProposal(proposal, r) => r.resume_with(self.sign_proposal(proposal)),
            Effect::VerifySignature(message, _, r) => r.resume_with(self.verify_message(message)),
            Effect::VerifyCommitCertificate(certificate, _, _, r) => {
                r.resume_with(self.verify_commit(&certificate))
            }
            Effect::VerifyExtendedCommitCertificate(certificate, _, _, _, r) => {
                r.resume_with(self.verify_commit(&certificate.trim_vote_extensions()))
            }
            Effect::VerifyPolkaCertificate(certificate, _, _, r) => {
                let votes: Vec<_> = certificate.votes(&Neighbourhood).collect();
                r.resume_with(self.verify_votes(&votes, self.delegates.quorum()))
            }
            Effect::VerifyRoundCertificate(certificate, _, _, r) => {
                r.resume_with(self.verify_round(&certificate))
            }
            // Votes carry no extensions.
            Effect::ExtendVote(.., r) => r.resume_with(None),
            Effect::VerifyVoteExtension(.., r) => r.resume_with(Ok(())),
            told => {
                self.tell(&told);
                Resume::Continue
            }
        }
    }

    fn tell(&mut self, effect: &Effect<Neighbourhood>) {
        match effect {
            Effect::CancelAllTimeouts(_) => self.act(Action::CancelAll),
            Effect::CancelTimeout(timeout, _) => self.timeout(*timeout, Action::Cancel),
            Effect::ScheduleTimeout(timeout, _) => self.timeout(*timeout, Action::Schedule),
            Effect::PublishConsensusMsg(message, _) => self.publish_consensus(message),
            Effect::PublishLivenessMsg(message, _) => self.publish_liveness(message),
            Effect::RepublishVote(vote, _) => self.act(Action::Publish(Message::Vote(wire_vote(vote)))),
            Effect::RepublishRoundCertificate(certificate, _) => {
                self.act(Action::Publish(Message::Round(wire_round(certificate))));
            }
            Effect::GetValue(_, round, _, _) => self.need_value(*round),
            Effect::Decide(certificate, _, _) => self.decide(certificate),
            Effect::Finalize(_, _, evidence, _) => {
                self.actions.extend(evidence_of(evidence).into_iter().map(Action::Evidence));
            }
            Effect::WalAppend(height, input, _) => self.log(*height, input),
            // A proposal always travels with its block, so nothing is streamed again beside it; final blocks that others
            // decided are executed by the replica and never reach the core; the rest was answered.
            _ => {}
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn timeout(&mut self, timeout: bft::Timeout, action: impl Fn(Timeout) -> Action) {
        if let Some(timeout) = wire_timeout(timeout) {
            self.act(action(timeout));
        }
    }

    fn publish_consensus(&mut self, message: &SignedConsensusMsg<Neighbourhood>) {
        self.act(Action::Publish(match message {
            SignedConsensusMsg::Vote(vote) => Message::Vote(wire_vote(vote)),
            SignedConsensusMsg::Proposal(proposal) => Message::Proposal(wire_proposal(proposal), Vec::new()),
        }));
    }

    fn publish_liveness(&mut self, message: &LivenessMsg<Neighbourhood>) {
        self.act(Action::Publish(match message {
            LivenessMsg::Vote(vote) => Message::Vote(wire_vote(vote)),
            LivenessMsg::PolkaCertificate(polka) => Message::Polka(wire_polka(polka)),
            LivenessMsg::SkipRoundCertificate(certificate) => Message::Round(wire_round(certificate)),
        }));
    }

    fn need_value(&mut self, round: bft::Round) {
        let round = round.as_u32().unwrap_or(0);
        // Whoever proposed in this round before its log was lost says nothing else.
        if !self.replaying && !self.own.proposals.contains_key(&round) {
            self.act(Action::NeedValue { round });
        }
    }

    fn decide(&mut self, certificate: &bft::CommitCertificate<Neighbourhood>) {
        self.decided = true;
        let seat = |key: &PublicKey| self.delegates.seat_of(key).and_then(|seat| u8::try_from(seat).ok());
        let mut signatures: Vec<_> = certificate
            .commit_signatures
            .iter()
            .filter_map(|commit| seat(&commit.address.0).map(|seat| (seat, commit.signature)))
            .collect();
        signatures.sort_unstable_by_key(|(seat, _)| *seat);
        self.act(Action::Decided(Certificate {
            height: certificate.height.0,
            round: certificate.round.as_u32().unwrap_or(0),
            block: certificate.value_id.0,
            signatures,
        }));
    }

    fn sign_vote(&mut self, vote: Vote) -> bft::SignedVote<Neighbourhood> {
        let place = (vote.kind, vote.round.as_u32().unwrap_or(0));
        if let Some(recorded) = self.own.votes.get(&place) {
            return core_vote(recorded);
        }
        let vote =
            if self.breaks_recovered_lock(&vote) { Vote { value: bft::NilOrVal::Nil, ..vote } } else { vote };
        let stands_in = vote.block().is_none() && self.own.recovered_lock(self.height).is_some();
        let mut signed = wire_vote(&bft::SignedMessage::new(vote, Signature([0; 64])));
        signed.signature = Signature::sign(&self.key, &signed.signing_bytes(&self.chain));
        if stands_in {
            // The core may derive a vote for a block here when it replays; the log says that nil was meant.
            self.own.pinned.push(Statement::Vote(signed.clone()));
            self.act(Action::Log(Record::Pinned(Statement::Vote(signed.clone()))));
        }
        self.own.votes.insert(place, signed.clone());
        self.heard.keep_vote(&signed);
        core_vote(&signed)
    }

    /// Tendermint's rule for a locked node (lines 23 and 29 of its pseudo-code), for a lock the core forgot with the log:
    /// prevote another block only if a polka for it is as late as the lock.
    fn breaks_recovered_lock(&self, vote: &Vote) -> bool {
        let (Some((locked_round, locked)), Some(block)) =
            (self.own.recovered_lock(self.height), vote.block())
        else {
            return false;
        };
        let round = vote.round.as_u32().unwrap_or(0);
        if vote.kind == VoteKind::Precommit || block == locked || round <= locked_round {
            return false;
        }
        let quorum = self.delegates.quorum();
        !(locked_round..round).any(|earlier| self.heard.has_polka_in(earlier, &block, quorum))
    }

    fn sign_proposal(&mut self, proposal: Proposal) -> bft::SignedProposal<Neighbourhood> {
        let round = proposal.round.as_u32().unwrap_or(0);
        if let Some(recorded) = self.own.proposals.get(&round) {
            return core_proposal(recorded);
        }
        let mut signed = wire_proposal(&bft::SignedMessage::new(proposal, Signature([0; 64])));
        signed.signature = Signature::sign(&self.key, &signed.signing_bytes(&self.chain));
        self.own.proposals.insert(round, signed.clone());
        self.heard.keep_proposal(&signed);
        core_proposal(&signed)
    }

    fn verify_message(
        &mut self,
        message: bft::SignedMessage<Neighbourhood, ConsensusMsg<Neighbourhood>>,
    ) -> bool {
        let signature = message.signature;
        match message.message {
            ConsensusMsg::Vote(vote) => {
                self.verify_vote(&wire_vote(&bft::SignedMessage::new(vote, signature)))
            }
            ConsensusMsg::Proposal(proposal) => {
                self.verify_proposal(&wire_proposal(&bft::SignedMessage::new(proposal, signature)))
            }
        }
    }

    fn verify_vote(&mut self, vote: &SignedVote) -> bool {
        let holds = self.holds_vote(vote);
        if holds {
            self.heard.keep_vote(vote);
        }
        holds
    }

    fn holds_vote(&self, vote: &SignedVote) -> bool {
        self.heard.knows_vote(vote)
            || (vote.height == self.height
                && self.delegates.seat_of(&vote.voter).is_some()
                && vote.voter.verifies(&vote.signing_bytes(&self.chain), &vote.signature))
    }

    fn verify_proposal(&mut self, proposal: &SignedProposal) -> bool {
        if self.heard.knows_proposal(proposal) {
            return true;
        }
        let genuine = proposal.height == self.height
            && self.proposer_of(proposal.round) == Some(proposal.proposer)
            && proposal.proposer.verifies(&proposal.signing_bytes(&self.chain), &proposal.signature);
        if genuine {
            self.heard.keep_proposal(proposal);
        }
        genuine
    }

    #[expect(clippy::result_large_err, reason = "the core's own error type")]
    fn verify_commit(&mut self, certificate: &bft::CommitCertificate<Neighbourhood>) -> CertificateVerdict {
        let votes: Vec<_> = certificate
            .commit_signatures
            .iter()
            .map(|commit| {
                let message = Vote {
                    kind: VoteKind::Precommit,
                    height: certificate.height,
                    round: certificate.round,
                    value: bft::NilOrVal::Val(certificate.value_id),
                    voter: commit.address,
                };
                bft::SignedMessage::new(message, commit.signature)
            })
            .collect();
        self.verify_votes(&votes, self.delegates.quorum())
    }

    #[expect(clippy::result_large_err, reason = "the core's own error type")]
    fn verify_round(&mut self, certificate: &bft::RoundCertificate<Neighbourhood>) -> CertificateVerdict {
        let precommits_only = certificate.cert_type == bft::RoundCertificateType::Precommit;
        let stray =
            certificate.round_signatures.iter().find(|vote| vote.vote_type != bft::VoteType::Precommit);
        if let (true, Some(stray)) = (precommits_only, stray) {
            return Err(bft::CertificateError::InvalidVoteType(stray.address));
        }
        let needed =
            if precommits_only { self.delegates.quorum() } else { more_than_a_third(self.delegates.len()) };
        let votes: Vec<_> = certificate.votes(&Neighbourhood).collect();
        self.verify_votes(&votes, needed)
    }

    #[expect(clippy::result_large_err, reason = "the core's own error type")]
    fn verify_votes(
        &mut self,
        votes: &[bft::SignedVote<Neighbourhood>],
        needed: usize,
    ) -> CertificateVerdict {
        if votes.len() < needed {
            return Err(bft::CertificateError::NotEnoughVotingPower {
                signed: votes.len() as u64,
                total: self.delegates.len() as u64,
                expected: needed as u64,
            });
        }
        let mut voters = Vec::with_capacity(votes.len());
        for vote in votes {
            let voter = vote.message.voter;
            if self.delegates.seat_of(&voter.0).is_none() {
                return Err(bft::CertificateError::UnknownValidator(voter));
            }
            if voters.contains(&voter) {
                return Err(bft::CertificateError::DuplicateVote(voter));
            }
            if !self.holds_vote(&wire_vote(vote)) {
                return Err(bft::CertificateError::VerificationError(None));
            }
            voters.push(voter);
        }
        // Only now: one dishonest delegate could else fill the memory with votes in rounds of its choice.
        votes.iter().for_each(|vote| self.heard.keep_vote(&wire_vote(vote)));
        Ok(())
    }

    fn log(&mut self, height: Height, input: &Input<Neighbourhood>) {
        let Some(record) = wire_record(input).filter(|_| height.0 == self.height) else { return };
        let known = self.replaying && !self.is_new_of_mine(&record);
        if !known {
            self.act(Action::Log(record));
        }
    }

    /// While replaying, everything comes from the log but what this node says only now: it stopped after it had logged
    /// the cause and before it had logged the consequence.
    fn is_new_of_mine(&self, record: &Record) -> bool {
        match record {
            Record::Vote(vote) => vote.voter == self.me,
            Record::Proposal(proposal) => proposal.proposer == self.me,
            _ => false,
        }
    }

    fn remember_own(&mut self, record: &Record) {
        match record {
            Record::Vote(vote) if vote.voter == self.me => {
                self.own.votes.entry((vote.kind, vote.round)).or_insert_with(|| vote.clone());
            }
            Record::Proposal(proposal) if proposal.proposer == self.me => {
                self.own.proposals.entry(proposal.round).or_insert_with(|| proposal.clone());
            }
            _ => {}
        }
    }

    /// Pinned statements of the entered height bind like logged ones. The first of two stays: the other would prove
    /// that this key is used twice, and saying either again adds nothing to that.
    fn bind_pinned(&mut self) {
        let of_height = |statement: &&Statement| statement.height() == self.height;
        for statement in self.own.pinned.iter().filter(of_height) {
            match statement {
                Statement::Vote(vote) => {
                    self.own.votes.entry((vote.kind, vote.round)).or_insert_with(|| vote.clone());
                }
                Statement::Proposal(proposal) => {
                    self.own.proposals.entry(proposal.round).or_insert_with(|| proposal.clone());
                }
            }
        }
    }

    fn proposer_of(&self, round: u32) -> Option<PublicKey> {
        let seat = proposer_seat(self.delegates.len(), self.height, round);
        self.delegates.as_slice().get(seat).map(|delegate| delegate.key)
    }
}

impl Heard {
    fn knows_vote(&self, vote: &SignedVote) -> bool {
        let voters = self.votes.get(&(vote.round, vote.kind, vote.block));
        voters.and_then(|voters| voters.get(&vote.voter)) == Some(&vote.signature)
    }

    fn keep_vote(&mut self, vote: &SignedVote) {
        let voters = self.votes.entry((vote.round, vote.kind, vote.block)).or_default();
        voters.insert(vote.voter, vote.signature);
    }

    fn knows_proposal(&self, proposal: &SignedProposal) -> bool {
        self.proposals.get(&(proposal.round, proposal.block, proposal.valid_round))
            == Some(&(proposal.proposer, proposal.signature))
    }

    fn keep_proposal(&mut self, proposal: &SignedProposal) {
        let place = (proposal.round, proposal.block, proposal.valid_round);
        self.proposals.insert(place, (proposal.proposer, proposal.signature));
    }
}

/// f + 1: at least one of so many is honest.
const fn more_than_a_third(count: usize) -> usize {
    count / 3 + 1
}

fn evidence_of(found: &MisbehaviorEvidence<Neighbourhood>) -> Vec<Evidence> {
    let evidence = |first: Statement, second: Statement| Evidence { first, second };
    let votes = found.votes.iter().flat_map(|(_, pairs)| pairs.iter());
    let votes = votes.map(|(first, second)| {
        evidence(Statement::Vote(wire_vote(first)), Statement::Vote(wire_vote(second)))
    });
    let proposals = found.proposals.iter().flat_map(|(_, pairs)| pairs.iter());
    let proposals = proposals.map(|(first, second)| {
        evidence(Statement::Proposal(wire_proposal(first)), Statement::Proposal(wire_proposal(second)))
    });
    votes.chain(proposals).collect()
}
