//! Coming back: what the log says, what others still hold, and when it is safe to vote again.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use energy::HomeId;
use ledger::codec::Decode as _;
use ledger::{Certificate, Ledger, PublicKey, UnverifiedBlock};

use super::deciding::execute;
use super::{Body, Replica, ReplicaConfig, Timer};
use crate::agreement::Agreement;
use crate::log::{Judged, Record, Records, asking_log, encode_frame, new_log};
use crate::message::{Message, STATEMENTS_MAX, Statement};
use crate::tendermint::Tendermint;

/// Whether this node may vote.
pub(super) enum Standing {
    /// It has no consensus key.
    Follower,
    /// Its log does not say what it signed: it follows until it has a new key.
    Barred(String),
    /// It did not stop in good order and asks others for what it said; who has answered.
    Recovering(BTreeSet<HomeId>),
    /// It may vote wherever it has a seat.
    Ready,
}

impl Standing {
    /// True if the log is this node's and is written to. A damaged or foreign log is left as it is found.
    pub const fn has_log(&self) -> bool {
        matches!(self, Self::Recovering(_) | Self::Ready)
    }
}

/// The key to start with: the one that holds a seat, else the one whose log there is, else any.
pub(super) fn present_key<'k>(
    keys: &'k [SigningKey],
    ledger: &Ledger,
    logged: &Records,
) -> Option<&'k SigningKey> {
    let seated = keys.iter().find(|key| ledger.delegates().seat_of(&PublicKey::of(key)).is_some());
    let owner = logged.owner().map(|(_, owner)| owner);
    let logging = || keys.iter().find(|key| owner == Some(PublicKey::of(key)));
    seated.or_else(logging).or(keys.first())
}

/// What the log found at the start allows a node with the present key `me`.
///
/// The log is begun anew before a key signs for the first time. So a whole one of an earlier term's key says that this key has
/// signed nothing here, as an empty one does of a key that was made before the chain began; both are told to the others first.
pub(super) fn standing_of(
    config: &ReplicaConfig,
    me: Option<PublicKey>,
    ledger: &Ledger,
    logged: &mut Records,
) -> Standing {
    let is_own = |owner: &PublicKey| {
        ledger.home_of_term_key(owner) == Some(&config.home)
            || config.term_keys.iter().any(|key| PublicKey::of(key) == *owner)
    };
    let Some(key) = me else { return Standing::Follower };
    if let Some(at) = logged.damaged_at {
        return Standing::Barred(format!(
            "the consensus log is damaged at byte {at}: this node follows and does not vote until it has a new term key"
        ));
    }
    let asks = logged.asks_for().is_some_and(|(chain, owner)| chain == *ledger.chain() && is_own(&owner));
    match logged.owner() {
        // The chain was recovered since: what this log says binds nobody any more.
        Some((chain, _)) if chain.id == ledger.chain().id && chain.recovery < ledger.chain().recovery => {
            *logged = Records::default();
            return Standing::Recovering(BTreeSet::new());
        }
        Some((chain, _)) if chain != *ledger.chain() => {
            return Standing::Barred("the consensus log is of another chain".to_owned());
        }
        Some((_, owner)) if !is_own(&owner) => {
            return Standing::Barred("the consensus log is of another home's term key".to_owned());
        }
        Some((_, owner)) if owner != key => {
            *logged = Records::default();
            return Standing::Recovering(BTreeSet::new());
        }
        None if ledger.height() > 0 && has_seat(config, ledger) && !asks => {
            return Standing::Barred(
                "the consensus log is missing although the chain has begun: this node follows and does not vote until it has a new term key".to_owned(),
            );
        }
        _ => {}
    }
    if logged.clean_stop == Some(ledger.height() + 1) {
        Standing::Ready
    } else {
        Standing::Recovering(BTreeSet::new())
    }
}

/// Takes out what a log says that is ahead of the ledger: of a later recovery of this chain, or of a height after the next by
/// another of this node's keys than `present`, the one of the ledger's term. So it is where the node found an old block damaged
/// and fetches what came after it again. Nothing may be written over such a log, and nobody votes, until the ledger is there.
pub(super) fn log_ahead(
    config: &ReplicaConfig,
    present: Option<&SigningKey>,
    ledger: &Ledger,
    logged: &mut Records,
) -> Option<Records> {
    let (chain, owner) = logged.owner().filter(|_| logged.damaged_at.is_none())?;
    let is_own = config.term_keys.iter().any(|key| PublicKey::of(key) == owner);
    let of_another = present.map(PublicKey::of) != Some(owner);
    let later = match chain.recovery.cmp(&ledger.chain().recovery) {
        Ordering::Greater => true,
        Ordering::Equal => of_another && highest_height(logged) > ledger.height() + 1,
        Ordering::Less => false,
    };
    (chain.id == ledger.chain().id && is_own && later).then(|| std::mem::take(logged))
}

/// True if any of the keys holds a seat, or did for the last block: then it may have signed.
fn has_seat(config: &ReplicaConfig, ledger: &Ledger) -> bool {
    let sets = [ledger.last_delegates(), ledger.delegates(), ledger.next_delegates()];
    let keys = config.term_keys.iter().map(PublicKey::of);
    keys.into_iter().any(|key| sets.iter().any(|set| set.seat_of(&key).is_some()))
}

/// The highest height the log speaks of.
pub(super) fn highest_height(logged: &Records) -> u64 {
    let heights = logged.records.iter().filter_map(|record| match record {
        Record::Height(height) => Some(*height),
        _ => None,
    });
    heights.max().unwrap_or(0)
}

/// Reminds the agreement of what the log holds, so that others can be answered and own statements bind from the start.
pub(super) fn recall(agreement: &mut Tendermint, logged: &Records, height: u64) {
    for record in logged.of_height(height) {
        match record {
            Record::Vote(vote) => {
                agreement.is_genuine(&Statement::Vote(vote));
            }
            Record::Proposal(proposal) => {
                agreement.is_genuine(&Statement::Proposal(proposal));
            }
            Record::Pinned(statement) => agreement.pin(statement),
            _ => {}
        }
    }
}

impl Replica {
    pub(super) fn begin_recovery(&mut self) {
        match &self.standing {
            Standing::Barred(reason) => {
                let text = reason.clone();
                self.note(text);
            }
            Standing::Recovering(_) => {
                self.found_log();
                self.ask_for_own_statements();
            }
            Standing::Follower | Standing::Ready => {}
        }
    }

    /// A key without a seat has signed nothing: its empty log is founded at the first start, so that a seat won later finds a
    /// log that says so. With a seat the others are asked first, and the log says that they are: a node that is stopped before
    /// they have answered, with blocks by then, asks on when it starts again.
    fn found_log(&mut self) {
        let empty = self.logged.as_ref().is_some_and(|logged| logged.owner().is_none());
        let (true, Some(key)) = (empty, self.my_key()) else { return };
        let chain = *self.ledger.chain();
        if !self.is_seated() {
            self.effects.push(super::Effect::TrimLog(new_log(chain, key)));
        } else if self.ledger.height() == 0 {
            self.effects.push(super::Effect::TrimLog(asking_log(chain, key)));
        }
    }

    /// Asks every other delegate for statements that bear this node's key.
    pub(super) fn ask_for_own_statements(&mut self) {
        self.conclude_recovery();
        let (Standing::Recovering(_), Some(request)) = (&self.standing, self.recover_request()) else {
            return;
        };
        // Without a seat nobody would answer; the timer looks again until it has one.
        if self.is_seated() {
            self.effects.push(super::Effect::ToDelegates(request.to_bytes()));
        }
        self.set_timer(Timer::Recover, self.config.timeouts.rebroadcast_ms);
    }

    pub(super) fn ask_one_for_own_statements(&mut self, home: &HomeId) {
        let (Standing::Recovering(answers), Some(request)) = (&self.standing, self.recover_request()) else {
            return;
        };
        if !answers.contains(home) {
            self.send(home, &request);
        }
    }

    fn recover_request(&self) -> Option<Message> {
        Some(Message::RecoverRequest { height: self.next_height(), key: self.my_key()? })
    }

    /// With answers of 2f others and this node itself, every quorum has an honest member among those heard.
    fn conclude_recovery(&mut self) {
        let Standing::Recovering(answers) = &self.standing else { return };
        if answers.len() >= 2 * self.faults() {
            self.standing = Standing::Ready;
            self.effects.push(super::Effect::ClearTimer(Timer::Recover));
        }
    }

    pub(super) fn on_recover_request(&mut self, from: &HomeId, height: u64, key: &PublicKey) {
        let entitled = self.ledger.delegates().of_home(from).is_some_and(|seat| seat.key == *key);
        // A node without a memory of its own has nothing to vouch for.
        if !entitled || matches!(self.standing, Standing::Barred(_) | Standing::Follower) {
            return;
        }
        let mut statements = self.agreement.as_ref().map(|held| held.statements_of(key)).unwrap_or_default();
        let early = self.early.iter().filter_map(|(_, message)| match message {
            Message::Vote(vote) if vote.voter == *key => Some(Statement::Vote(vote.clone())),
            Message::Proposal(proposal, _) | Message::Outline(proposal, _) if proposal.proposer == *key => {
                Some(Statement::Proposal(proposal.clone()))
            }
            _ => None,
        });
        statements.extend(early);
        statements.retain(|statement| statement.height() >= height);
        // The latest rounds bind; an old one that does not fit was overtaken by them.
        statements.sort_by_key(|statement| std::cmp::Reverse((statement.height(), statement.round())));
        statements.truncate(STATEMENTS_MAX);
        self.send(from, &Message::RecoverResponse { height: self.next_height(), statements });
    }

    pub(super) fn on_recover_response(&mut self, from: HomeId, height: u64, statements: Vec<Statement>) {
        self.note_height(&from, height.saturating_sub(1));
        let Standing::Recovering(answers) = &mut self.standing else { return };
        if self.ledger.delegates().of_home(&from).is_none() {
            return;
        }
        // Who is behind does not listen to this height yet and has nothing to vouch for.
        if height > self.ledger.height() {
            answers.insert(from);
        }
        let (Some(me), Some(logged)) = (self.my_key(), &self.logged) else { return };
        let height = self.next_height();
        let chain = *self.ledger.chain();
        let unknown: Vec<_> = statements
            .into_iter()
            .filter(|said| *said.author() == me && said.height() >= height && said.holds(&chain))
            .filter(|said| !logged.holds(said))
            .collect();
        if !unknown.is_empty() && logged.owner().is_none() {
            self.bar("others hold statements of this term key, but its consensus log is empty: this node does not vote");
            return;
        }
        for statement in unknown {
            self.note(format!(
                "the log had lost a statement of height {}; others held it",
                statement.height()
            ));
            if let Some(agreement) = &mut self.agreement {
                agreement.pin(statement.clone());
            }
            self.recovered.push(statement);
        }
        self.conclude_recovery();
    }

    /// With the log the ledger may be lost, too: then the chain itself tells, while it is fetched again, that this key has
    /// signed before.
    pub(super) fn look_for_own_signature(&mut self, certificate: &Certificate) {
        let log_is_empty = self.logged.as_ref().is_some_and(|logged| logged.owner().is_none());
        let seat = self.my_key().and_then(|key| self.ledger.delegates().seat_of(&key));
        let mut seats = certificate.signatures.iter().map(|(seat, _)| usize::from(*seat));
        if log_is_empty && self.barred().is_none() && seats.any(|signed| Some(signed) == seat) {
            self.bar("the chain bears signatures of this term key, but its consensus log is empty: this node follows and does not vote until it has a new term key");
        }
    }

    /// Turns to the term key that holds a seat at this height, if it is another one than before. A key that was made while this
    /// node runs has signed nothing; of another the others are asked first.
    pub(super) fn turn_to_seated_key(&mut self) {
        if self.is_bound() || self.waits_for_log() {
            return;
        }
        let delegates = self.ledger.delegates();
        let seated = |key: &&SigningKey| delegates.seat_of(&PublicKey::of(key)).is_some();
        let Some(key) = self.config.term_keys.iter().find(seated).cloned() else { return };
        let me = PublicKey::of(&key);
        if self.me == Some(me) {
            return;
        }
        let mut agreement = Tendermint::new(*self.ledger.chain(), key, self.next_height(), delegates);
        let of_this = Some((*self.ledger.chain(), me));
        let kept = self.log_ahead.take_if(|log| log.owner() == of_this);
        if let Some(log) = &kept {
            recall(&mut agreement, log, self.next_height());
        }
        let is_new = self.new_keys.contains(&me) && kept.is_none();
        self.agreement = Some(agreement);
        self.me = Some(me);
        self.logged = Some(kept.unwrap_or_default());
        self.log_grown = 0;
        self.recovered.clear();
        self.standing = if is_new { Standing::Ready } else { Standing::Recovering(BTreeSet::new()) };
        self.ask_for_own_statements();
    }

    /// True while the ledger is before what the log found at the start speaks of: see [`log_ahead`].
    fn waits_for_log(&self) -> bool {
        let Some((log, (chain, _))) = self.log_ahead.as_ref().and_then(|log| Some((log, log.owner()?)))
        else {
            return false;
        };
        let at = (chain.recovery, highest_height(log));
        (self.ledger.chain().recovery, self.next_height()) < at
    }

    /// This key has signed, but its log is empty. Before the block that shows it is stored, the log no longer says that the
    /// others are to be asked: a missing one bars at every start.
    fn bar(&mut self, reason: &str) {
        self.effects.extend([super::Effect::TrimLog(Vec::new()), super::Effect::SyncLog]);
        self.standing = Standing::Barred(reason.to_owned());
        self.note(reason.to_owned());
    }

    /// Makes the log ready for the height that starts now and gives what it holds of it. The first time, the log found at
    /// the start is written anew: without what is final, without a torn end, and with what others still held.
    pub(super) fn open_log(&mut self) -> Vec<Record> {
        let height = self.next_height();
        let Some(logged) = self.logged.take() else {
            self.journal.push(Record::Height(height));
            return Vec::new();
        };
        let Some(key) = self.my_key() else { return Vec::new() };
        let kept = logged.of_height(height);
        let mut records = vec![Record::Opened { chain: *self.ledger.chain(), key }, Record::Height(height)];
        records.extend(kept.iter().cloned());
        let recovered = std::mem::take(&mut self.recovered);
        let recovered = recovered.into_iter().filter(|statement| statement.height() >= height);
        records.extend(recovered.map(Record::Pinned));
        let frame = encode_frame(&records);
        self.log_grown = frame.len();
        self.effects.push(super::Effect::TrimLog(frame));
        self.restore_bodies(&kept);
        kept
    }

    /// Carries out again the blocks that the log holds, with the verdicts they were given.
    fn restore_bodies(&mut self, kept: &[Record]) {
        for record in kept {
            match record {
                Record::Body(bytes) => self.restore_body(bytes),
                Record::Judged(judged) => self.restore_verdict(judged),
                _ => {}
            }
        }
    }

    fn restore_body(&mut self, bytes: &[u8]) {
        let Some(block) = UnverifiedBlock::from_bytes(bytes).ok().map(|block| block.header.id()) else {
            return;
        };
        match execute(&self.ledger, &self.pool, bytes, &block) {
            Ok(executed) => {
                let nobody = (0, PublicKey([0; 32]));
                let body = Body { executed, proposal: nobody, judged: None };
                self.bodies.insert(block, body);
            }
            Err(reason) => self.halt(format!(
                "block {block} in the consensus log followed from the ledger before the stop and does not now: {reason}"
            )),
        }
    }

    fn restore_verdict(&mut self, judged: &Judged) {
        if let Some(body) = self.bodies.get_mut(&judged.block) {
            body.proposal = (judged.round, judged.proposer);
            body.judged = Some(judged.valid || body.judged == Some(true));
        }
    }
}
