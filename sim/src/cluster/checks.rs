//! What must hold, looked at from outside: with nothing but what nodes say, store and commit. Where the ledger checks itself,
//! it is checked here again by other arithmetic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consensus::message::{Message, SignedVote};
use consensus::{Commit, Evidence, Input};
use energy::{HomeId, Reading};
use ledger::codec::Encode as _;
use ledger::{
    BlockId, Body, Certificate, Chain, DelegateSet, EntryId, Executed, Hash32, Ledger, Outcome, OutcomeKind,
    PublicKey, SeatFate, SeatLoss, SeatOutcome, Signature, Stream, VerifiedEntry, VoteKind,
    money_on_accounts, vote_signing_bytes,
};
use market::Account;

use super::disk::carry_out;
use super::node::place_of;
use super::plan::Control;
use super::world::World;

/// How many heights' worth of contradictions must have reached one honest node before it must have proven them.
pub(super) const PROVABLE: usize = 3;

/// What a statement is about: key, kind (`None` for a proposal), height, round.
type Place = (PublicKey, Option<VoteKind>, u64, u32);
/// A home in an interval.
type Slot = (HomeId, u64);
/// Import and export, Wh.
type Energy = (u64, u64);

/// A final block, as its first node committed it.
pub(super) struct Decided {
    pub(super) id: BlockId,
    pub(super) state_root: Hash32,
    pub(super) bytes: Arc<Vec<u8>>,
}

/// What is known of the run.
pub(crate) struct Checks {
    pub(super) decided: Vec<Decided>,
    /// Blocks that were final somewhere and that a recovery gave up.
    pub(super) given_up: BTreeSet<BlockId>,
    /// After the last of them.
    ledger: Ledger,
    /// Who decided the last of them.
    seated: BTreeSet<HomeId>,
    /// Every entry in a final block, and its height.
    entries: BTreeMap<EntryId, u64>,
    /// What homes signed that is not final yet: the height at which they did.
    pub(super) signed_at: BTreeMap<EntryId, u64>,
    /// Numbers that were used: signer, stream, number.
    numbers: BTreeSet<(PublicKey, Stream, u64)>,
    /// Precommits whose signatures hold.
    signed: BTreeSet<(BlockId, u32, PublicKey, Signature)>,
    /// What honest nodes said.
    said: BTreeMap<Place, Option<BlockId>>,
    /// What of a key reached a node that was working on that height.
    heard: BTreeMap<(usize, Place), BTreeSet<Option<BlockId>>>,
    /// Heights at which a node heard a key contradict itself.
    pub(super) provable: BTreeMap<(usize, PublicKey), BTreeSet<u64>>,
    /// The last accepted reading of each home: interval and registers.
    pub(super) last_read: BTreeMap<HomeId, (u64, Energy)>,
    /// What the readings say of each interval, and what was settled.
    metered: BTreeMap<Slot, Energy>,
    settled: BTreeMap<Slot, Energy>,
    /// Deposits less withdrawals, in 10⁻⁹ of the currency.
    paid_in: i128,
}

impl Checks {
    pub(crate) fn new(ledger: &Ledger) -> Self {
        let deposits = ledger.genesis_terms().members.iter().map(|member| i128::from(member.deposit.get()));
        Self {
            paid_in: deposits.sum(),
            decided: Vec::new(),
            given_up: BTreeSet::new(),
            ledger: ledger.clone(),
            seated: ledger.delegates().as_slice().iter().map(|seat| seat.home.clone()).collect(),
            entries: BTreeMap::new(),
            signed_at: BTreeMap::new(),
            numbers: BTreeSet::new(),
            signed: BTreeSet::new(),
            said: BTreeMap::new(),
            heard: BTreeMap::new(),
            provable: BTreeMap::new(),
            last_read: BTreeMap::new(),
            metered: BTreeMap::new(),
            settled: BTreeMap::new(),
        }
    }

    /// The highest final block.
    pub(crate) fn height(&self) -> u64 {
        self.decided.len() as u64
    }

    /// The ledger after it.
    pub(crate) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// True if an honest key said the same in the same place.
    pub(crate) fn has_said(&self, key: PublicKey, vote: &SignedVote) -> bool {
        self.said.get(&(key, Some(vote.kind), vote.height, vote.round)) == Some(&vote.block)
    }

    /// The recovery number of the highest final block.
    pub(super) const fn recovery(&self) -> u32 {
        self.ledger.chain().recovery
    }

    /// True if a block is final.
    pub(super) fn holds(&self, id: BlockId) -> bool {
        self.decided.iter().any(|decided| decided.id == id)
    }

    /// True once blocks follow a recovery.
    pub(super) const fn goes_on_after_recovery(&self) -> bool {
        self.recovery() > 0 && !self.ledger.is_recovered()
    }

    /// What is known after only the first so many blocks: those after them are given up.
    pub(super) fn roll_back(&mut self, genesis: &Ledger, height: u64) {
        let kept = usize::try_from(height).unwrap_or(usize::MAX);
        let mut before = std::mem::replace(self, Self::new(genesis));
        let after = before.decided.split_off(kept.min(before.decided.len()));
        self.given_up = before.given_up;
        self.given_up.extend(after.iter().map(|decided| decided.id));
        for decided in &before.decided {
            let executed = carry_out(&self.ledger, &decided.bytes).expect("what was carried out before");
            // Faults in these were told when they were decided.
            drop(self.take_all(&executed));
            self.ledger = executed.ledger;
        }
        self.decided = before.decided;
        self.signed_at = before.signed_at;
        (self.signed, self.said) = (before.signed, before.said);
        (self.heard, self.provable) = (before.heard, before.provable);
    }

    /// What a node heard of others' contradictions ends with a recovery.
    pub(super) fn forget_heard(&mut self, number: usize) {
        self.heard.retain(|(node, _), _| *node != number);
        self.provable.retain(|(node, _), _| *node != number);
    }

    /// Takes up all of a block: everything that must not be.
    fn take_all(&mut self, executed: &Executed) -> Vec<String> {
        let height = executed.block.header.height;
        let entries = &executed.block.entries;
        let mut faults: Vec<_> =
            entries.iter().filter_map(|entry| self.take_entry(height, entry).err()).collect();
        faults.extend(executed.outcomes.iter().filter_map(|outcome| self.take_outcome(outcome).err()));
        faults
    }

    pub(super) fn at(&self, height: u64) -> Option<&Decided> {
        self.decided.get(usize::try_from(height).ok()?.checked_sub(1)?)
    }

    /// True if more than two thirds of the seats signed, each once. A signature is checked once in a run.
    fn certifies(&mut self, chain: &Chain, certificate: &Certificate, delegates: &DelegateSet) -> bool {
        let Certificate { height, round, block, signatures } = certificate;
        let message = vote_signing_bytes(chain, VoteKind::Precommit, *height, *round, Some(block));
        let mut seats = BTreeSet::new();
        for (seat, signature) in signatures {
            let Some(delegate) = delegates.as_slice().get(usize::from(*seat)) else { return false };
            let known = (*block, *round, delegate.key, *signature);
            if !self.signed.contains(&known) {
                if !delegate.key.verifies(&message, signature) {
                    return false;
                }
                self.signed.insert(known);
            }
            seats.insert(*seat);
        }
        seats.len() == signatures.len() && seats.len() * 3 > delegates.len() * 2
    }

    /// A reading was accepted: its energy spread over its intervals, odd Wh to the earliest.
    fn take_reading(&mut self, home: &HomeId, reading: &Reading) -> Result<(), String> {
        let index = reading.interval.index();
        let shown = (reading.import_register.get(), reading.export_register.get());
        let Some((last, before)) = self.last_read.insert(home.clone(), (index, shown)) else { return Ok(()) };
        let parts = index.checked_sub(last).filter(|parts| *parts > 0);
        let parts = parts.ok_or_else(|| format!("{home} was read twice in interval {index}"))?;
        let grown = |now: u64, before: u64| now.checked_sub(before);
        let (Some(import), Some(export)) = (grown(shown.0, before.0), grown(shown.1, before.1)) else {
            return Err(format!("a register of {home} fell"));
        };
        for part in 0..parts {
            let of = |energy: u64| energy / parts + u64::from(part < energy % parts);
            self.metered.insert((home.clone(), last + 1 + part), (of(import), of(export)));
        }
        Ok(())
    }

    /// An interval of a home was settled: once, and as metered.
    fn take_settlement(&mut self, home: &HomeId, index: u64, settled: Energy) -> Result<(), String> {
        let slot = (home.clone(), index);
        if self.metered.get(&slot) != Some(&settled) {
            let metered = self.metered.get(&slot);
            return Err(format!("{home} in interval {index}: {settled:?} Wh settled of {metered:?}"));
        }
        match self.settled.insert(slot, settled) {
            Some(_) => Err(format!("{home} was settled twice in interval {index}")),
            None => Ok(()),
        }
    }

    fn take_entry(&mut self, height: u64, verified: &VerifiedEntry) -> Result<(), String> {
        let entry = verified.entry();
        if self.entries.insert(verified.id(), height).is_some() {
            return Err(format!("an entry stands twice, again at {height}"));
        }
        if !self.numbers.insert((entry.signer, entry.body.stream(), entry.number)) {
            return Err(format!("two entries of {} have number {}", entry.signer, entry.number));
        }
        match &entry.body {
            Body::Reading { home: Some(home), reading } => self.take_reading(home, reading),
            Body::Deposit { amount, .. } => {
                self.paid_in += i128::from(amount.get());
                Ok(())
            }
            Body::Withdrawal { amount, .. } => {
                self.paid_in -= i128::from(amount.get());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_outcome(&mut self, outcome: &Outcome) -> Result<(), String> {
        let Outcome::Home(outcome) = outcome else { return Ok(()) };
        let counts = matches!(outcome.kind, OutcomeKind::Settled | OutcomeKind::Late);
        match outcome.metered.filter(|_| counts) {
            Some(metered) => {
                let energy = (metered.import.get(), metered.export.get());
                self.take_settlement(&outcome.home, outcome.interval.index(), energy)
            }
            None => Ok(()),
        }
    }

    /// Money that is there is money that was paid in, and nobody owes.
    fn money(&self) -> Result<(), String> {
        let sum = money_on_accounts(&self.ledger).get();
        if sum != self.paid_in {
            return Err(format!("accounts add up to {sum}, {} was paid in", self.paid_in));
        }
        let poor = self
            .ledger
            .members()
            .into_iter()
            .map(|(home, _)| home)
            .find(|home| self.ledger.balance(&Account::Home((*home).clone())) < energy::Balance::ZERO);
        poor.map_or(Ok(()), |home| Err(format!("{home} is below zero")))
    }

    /// Every metered Wh of settled intervals was settled.
    pub(super) fn energy(&self) -> Result<(), String> {
        let due = self.ledger.next_to_settle().index();
        let open = self.metered.iter().filter(|((_, index), _)| *index < due);
        let lost = open.into_iter().find(|(slot, _)| !self.settled.contains_key(*slot));
        lost.map_or(Ok(()), |((home, index), _)| Err(format!("{home} was not settled in interval {index}")))
    }
}

impl World {
    /// A node committed a block.
    pub(crate) fn check_commit(&mut self, number: usize, commit: &Commit) {
        let header = &commit.executed.block.header;
        let (height, id) = (header.height, commit.executed.block.id());
        let node = &self.nodes[number];
        let expected = node.ledger.height() + 1;
        let certified = if commit.executed.ledger.is_recovered() {
            self.take_recovery(number, commit)
        } else {
            let (chain, delegates) = (*node.ledger.chain(), node.ledger.delegates().clone());
            self.checks.certifies(&chain, &commit.certificate, &delegates)
        };
        self.check(height == expected, || format!("node {number} committed {height}, not {expected}"));
        self.check(certified && commit.certificate.block == id, || {
            format!("node {number}: bad certificate at {height}")
        });
        if height == self.checks.height() + 1 && header.chain.recovery >= self.checks.recovery() {
            self.take_decision(commit);
        }
        let same = self
            .checks
            .at(height)
            .is_some_and(|first| first.id == id && first.state_root == header.state_root);
        let same = same || self.is_contested(number, commit);
        self.check(same, || format!("disagreement at height {height}: node {number} decided {id}"));
    }

    /// The first commit of a height.
    fn take_decision(&mut self, commit: &Commit) {
        let executed = &commit.executed;
        let block = &executed.block;
        let height = block.header.height;
        self.checks.decided.push(Decided {
            id: block.id(),
            state_root: block.header.state_root,
            bytes: Arc::new(block.to_bytes()),
        });
        self.checks.ledger = executed.ledger.clone();
        let mut faults = self.checks.take_all(executed);
        for entry in &block.entries {
            if let Some(signed_at) = self.checks.signed_at.remove(&entry.id()) {
                self.report.blocks_waited_max = self.report.blocks_waited_max.max(height - signed_at);
            }
            match &entry.entry().body {
                Body::Order(_) => self.report.orders += 1,
                Body::Admission(_) => self.report.joined += 1,
                Body::Departure { .. } => self.report.left += 1,
                _ => {}
            }
        }
        faults.extend(self.checks.money().err());
        faults.extend(executed.ledger.check_invariants().err().map(|error| error.to_string()));
        self.report.entries += block.entries.len() as u64;
        self.report.rounds_above_zero += u64::from(commit.certificate.round > 0);
        self.note_outcomes(commit);
        if let Some(fault) = faults.into_iter().next() {
            self.check(false, || format!("at height {height}: {fault}"));
        }
    }

    /// Who signed the block, who lost a seat in it, what was settled.
    fn note_outcomes(&mut self, commit: &Commit) {
        let ledger = &commit.executed.ledger;
        let set = ledger.last_delegates();
        self.report.term = set.term();
        let seated: BTreeSet<_> = set.as_slice().iter().map(|seat| seat.home.clone()).collect();
        self.report.seats_changed += seated.difference(&self.checks.seated).count() as u64;
        self.checks.seated = seated;
        let signers = commit.certificate.signatures.iter();
        let homes = signers.filter_map(|(seat, _)| set.as_slice().get(usize::from(*seat)));
        self.report.decided_by.extend(homes.map(|seat| seat.home.clone()));
        for outcome in &commit.executed.outcomes {
            match outcome {
                Outcome::Seat(SeatOutcome { key, reason, fate }) if *fate != SeatFate::Kept => {
                    let lost = match reason {
                        SeatLoss::Equivocation => &mut self.report.ejected,
                        SeatLoss::Silence => &mut self.report.silenced,
                    };
                    lost.extend(ledger.home_of_term_key(key).cloned());
                }
                Outcome::Election(election) => {
                    self.report.elections += u64::from(election.result == ledger::ElectionResult::Elected);
                }
                Outcome::Interval(_) => self.report.intervals += 1,
                _ => {}
            }
        }
    }

    /// Nothing that binds a delegate leaves before it is on its disk, and no honest delegate says two things.
    pub(crate) fn check_said(&mut self, number: usize, message: &Message) {
        let (place, block) = match message {
            Message::Vote(vote) => ((vote.voter, Some(vote.kind), vote.height, vote.round), vote.block),
            Message::Proposal(said, _) | Message::Outline(said, _) => {
                ((said.proposer, None, said.height, said.round), Some(said.block))
            }
            _ => return,
        };
        let node = &self.nodes[number];
        if !node.signs_with(&place.0) || node.face.is_some_and(super::Face::contradicts_itself) {
            return;
        }
        let of = node.ledger.chain().recovery;
        let is_bound = node.face.is_none() && node.promise.is_some_and(|(promised, _)| promised > of);
        self.check(!is_bound, || {
            format!("node {number} signed for recovery {of} after it had promised not to")
        });
        let node = &self.nodes[number];
        // What a lying disk loses is looked at through what comes of it.
        let forgets = self.plan.control == Some(Control::LyingDisk);
        let synced = node.disk.unsynced.is_empty();
        let before = *self.checks.said.entry(place).or_insert(block);
        let (kind, height, round) = (place.1, place.2, place.3);
        self.check(synced || forgets, || format!("node {number} spoke before its log was synced"));
        // What a lying disk forgot and no peer heard cannot be known again; it can harm nobody either.
        self.check(before == block || self.plan.control == Some(Control::LyingDisk), || {
            format!("node {number} double-signed {kind:?} at {height}/{round}")
        });
        if let Message::Vote(vote) = message {
            self.check_logged(number, vote, forgets);
        }
    }

    fn check_logged(&mut self, number: usize, vote: &SignedVote, forgets: bool) {
        let node = &self.nodes[number];
        let holds = node.logged.contains(&place_of(vote));
        self.check(holds || forgets, || format!("node {number} sent a vote that its log does not hold"));
    }

    /// Others held a statement of a node's own that its log does not: of an honest one with an honest disk that cannot be.
    pub(crate) fn check_recovered(&mut self, number: usize) {
        let forgetful = self.plan.control.is_some() || self.report.block_flips > 0;
        if self.nodes[number].face.is_none() {
            self.report.recovered += 1;
            self.check(forgetful, || format!("node {number} had lost a statement of its own"));
        }
    }

    /// Evidence is genuine, and of somebody dishonest.
    pub(crate) fn check_accusation(&mut self, number: usize, evidence: &Evidence) {
        let chain = *self.nodes[number].ledger.chain();
        let genuine = evidence.first.holds(&chain) && evidence.second.holds(&chain);
        self.check(genuine, || "forged evidence was believed".to_owned());
        let culprit = *evidence.culprit();
        self.report.accused.insert(culprit);
        let liar = self.nodes.iter().find(|node| node.signs_with(&culprit) && node.face.is_some());
        // With half a quorum, votes are made up: only agreement is looked at.
        let excused = matches!(self.plan.control, Some(Control::HalfQuorum | Control::LyingDisk));
        let fair = liar.is_some() || excused || self.is_of_liar(&culprit);
        self.check(fair, || format!("an honest delegate is accused: {culprit}"));
    }

    fn is_of_liar(&self, key: &PublicKey) -> bool {
        let home = self.checks.ledger.home_of_term_key(key);
        self.nodes.iter().any(|node| Some(&node.home) == home && node.face.is_some())
    }

    /// Notes what reaches a node of others' statements.
    pub(crate) fn note_heard(&mut self, from: usize, to: usize, input: &Input) {
        let liar = self.nodes[from].face.is_some_and(super::Face::contradicts_itself);
        let Input::Message { bytes, .. } = input else { return };
        if !liar || self.nodes[to].face.is_some() || self.nodes[to].replica.is_none() {
            return;
        }
        let Ok(Message::Vote(vote)) = Message::from_bytes(bytes) else { return };
        let ledger = &self.nodes[to].ledger;
        let is_old = || !vote.voter.verifies(&vote.signing_bytes(ledger.chain()), &vote.signature);
        if vote.height != ledger.height() + 1 || (self.plan.faults.deleted.is_some() && is_old()) {
            return;
        }
        let place = (vote.voter, Some(vote.kind), vote.height, vote.round);
        let heard = self.checks.heard.entry((to, place)).or_default();
        heard.insert(vote.block);
        if heard.len() > 1 {
            self.checks.provable.entry((to, vote.voter)).or_default().insert(vote.height);
        }
    }

    /// Adds up what only the end shows.
    pub(crate) fn close_report(&mut self) {
        self.report.height = self.checks.height();
        let energy = self.checks.settled.values().map(|(import, export)| import + export);
        self.report.settled_wh = energy.sum();
    }
}

/// The name of a signed entry.
pub(crate) fn entry_id(bytes: &[u8]) -> EntryId {
    EntryId(Hash32::of(&[b"commonwatt/entry/v1", bytes]))
}
