//! The whole core of a node: decides blocks as a delegate, follows them as a member.
//!
//! Inputs in, effects out, in order; no clock, no socket, no disk. The shell carries out effects strictly in order, and
//! three orders are what safety rests on:
//! - a consensus message leaves after `AppendLog` and `SyncLog` of everything it rests on;
//! - `Commit` (one durable transaction) comes before anything of the next height;
//! - the log is trimmed after the commit that makes it obsolete.
//!
//! A node that finds no log of its key, a damaged one, or others' word for statements that an empty log denies follows
//! the chain and does not vote: what it cannot remember it could contradict.

mod catching_up;
mod deciding;
mod entries;
mod proposals;
mod recovered;
mod recovery;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ed25519_dalek::SigningKey;
use energy::{HomeId, Timestamp};
use ledger::{BlockId, Certificate, EntryId, Executed, Ledger, PublicKey};

use crate::agreement::{Agreement, Evidence, Timeout};
use crate::log::{Record, Records, TimeoutKind, encode_frame, read_records};
use crate::mempool::{Handed, Mempool, Origin, POOL_OWN_MAX};
use crate::message::{Message, SignedProposal, Statement, is_of_another_version};
use crate::tendermint::Tendermint;

use catching_up::CatchingUp;
pub use entries::NUMBER_ON_LEDGER;
use entries::Outgoing;
use proposals::Filling;
use recovery::Standing;

/// The log is written anew once it has grown by so much, in bytes.
const LOG_TRIM_BYTES: usize = 1 << 20;
/// With nothing due the pace is looked at so often, in wall ms: market time may wait or jump.
const PACE_POLL_MS: u64 = 1000;
/// The most evidence kept for later.
const EVIDENCE_MAX: usize = 64;
/// The most messages of one peer held for the next height.
const EARLY_PER_PEER_MAX: usize = 128;
/// The most proposals among them, each up to a whole block.
const EARLY_PROPOSALS_PER_PEER_MAX: usize = 2;

/// The two clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Market time: decides intervals and block times.
    pub market: Timestamp,
    /// Monotonic wall milliseconds: timeouts, spacing, ages.
    pub wall_ms: u64,
}

/// How long to wait, in wall ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a proposal.
    pub propose_ms: u64,
    /// For one block to get its prevotes.
    pub prevote_ms: u64,
    /// For one block to get its precommits.
    pub precommit_ms: u64,
    /// Added to each for every further round.
    pub delta_ms: u64,
    /// Between repetitions of what was said.
    pub rebroadcast_ms: u64,
}

impl Default for Timeouts {
    /// For homes on broadband.
    fn default() -> Self {
        Self { propose_ms: 3000, prevote_ms: 1000, precommit_ms: 1000, delta_ms: 500, rebroadcast_ms: 5000 }
    }
}

/// No timeout is longer, in ms.
const TIMEOUT_MAX_MS: u64 = 60_000;

impl Timeouts {
    fn of(&self, timeout: Timeout) -> u64 {
        let (base, delta) = match timeout.kind {
            TimeoutKind::Propose => (self.propose_ms, self.delta_ms),
            TimeoutKind::Prevote => (self.prevote_ms, self.delta_ms),
            TimeoutKind::Precommit => (self.precommit_ms, self.delta_ms),
            TimeoutKind::Rebroadcast => (self.rebroadcast_ms, 0),
        };
        base.saturating_add(delta.saturating_mul(u64::from(timeout.round))).min(TIMEOUT_MAX_MS)
    }
}

/// What a replica is told at its start.
pub struct ReplicaConfig {
    /// The home it belongs to.
    pub home: HomeId,
    /// Consensus keys of its terms, of which it votes with the one that holds a seat; none: it only follows.
    pub term_keys: Vec<SigningKey>,
    /// Why the ledger's last block is final; `None` at the chain's start. A node without it does not propose the next block.
    pub last_certificate: Option<Certificate>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Heights start at least so far apart, in wall ms.
    pub min_block_interval_ms: u64,
    /// Market ms per wall ms; 1 outside demo chains.
    pub speed: u32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The node runs; first of all inputs.
    Start,
    /// A direct message.
    Message {
        /// The peer it came from, as the transport proved it.
        from: HomeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A signed entry, from this home or handed on by another.
    Entry {
        /// The entry.
        bytes: Vec<u8>,
        /// Where it came from.
        origin: Origin,
    },
    /// A gossiped frame of entries.
    Entries {
        /// The neighbour that relayed it.
        from: HomeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Entries of others whose signatures the shell has checked: of a gossiped frame, or of a direct message.
    Verified {
        /// The peer they came from.
        from: HomeId,
        /// The entries.
        entries: Vec<Handed>,
        /// Whether it was a direct message.
        directly: bool,
    },
    /// A gossiped final block.
    Final {
        /// The neighbour that relayed it.
        from: HomeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A recovery block that people agreed on and one of them hands in (`Block::to_bytes`).
    Recover(Vec<u8>),
    /// A timer set by [`Effect::SetTimer`] ran out.
    Timer(Timer),
    /// A peer can be reached.
    PeerUp(HomeId),
    /// A peer can no longer be reached.
    PeerDown(HomeId),
    /// The node stops in good order; last of all inputs.
    Stop,
}

/// A timer; setting one that runs sets it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A timeout of the height being decided.
    Round {
        /// Its height.
        height: u64,
        /// Which.
        timeout: Timeout,
    },
    /// Time to look whether the next height starts.
    Pace,
    /// A peer that is ahead was asked, or is about to be.
    Sync,
    /// Time to tell a peer where this node is.
    Status,
    /// Time to send own entries again.
    Resend,
    /// Time to hand on others' entries that no block took.
    Relay,
    /// Time to send the own entries that wait for their frame.
    Frame,
    /// Time to ask the next one for entries of a proposed block.
    Fill,
    /// Time to ask again for own statements.
    Recover,
}

/// What the shell has to do, in order.
#[derive(Debug)]
pub enum Effect {
    /// Append these bytes to the consensus log.
    AppendLog(Vec<u8>),
    /// Make the log durable before going on.
    SyncLog,
    /// Replace the whole log by these bytes, durably and at once: after a crash it is either the old or the new one.
    TrimLog(Vec<u8>),
    /// Send a direct message.
    SendTo {
        /// To whom.
        to: HomeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Send a direct message to every other delegate of the present set and of the next one.
    ToDelegates(Vec<u8>),
    /// Gossip a frame of entries to all members.
    GossipEntries(Vec<u8>),
    /// Gossip a final block, or that there is one, to all members.
    GossipFinal(Vec<u8>),
    /// Answer a peer with [`Message::SyncResponse`] from the stored blocks; send nothing if there are none.
    ServeBlocks {
        /// Who asked.
        to: HomeId,
        /// First height wanted.
        from_height: u64,
        /// The most bytes of blocks; the first block is sent even if it is longer.
        max_bytes: u32,
    },
    /// Start a timer.
    SetTimer {
        /// Which.
        timer: Timer,
        /// After so many wall ms.
        after_ms: u64,
    },
    /// Stop a timer.
    ClearTimer(Timer),
    /// Store a final block and all that came of it in one durable transaction before going on.
    Commit(Box<Commit>),
    /// An entry is not taken, and why.
    Refused {
        /// The entry.
        entry: EntryId,
        /// Why.
        reason: String,
        /// Where it came from.
        origin: Origin,
    },
    /// A peer sent what no honest node sends.
    Blame {
        /// The peer.
        peer: HomeId,
        /// What it did.
        what: Blame,
    },
    /// A delegate signed two statements that exclude one another.
    Evidence(Box<Evidence>),
    /// This node must stop and call for people.
    Halt {
        /// Why.
        reason: String,
    },
    /// For the node's own log.
    Note {
        /// What happened.
        text: String,
    },
}

/// What a peer is blamed for. All of it can be told from the bytes alone, whatever a node knows of the chain: an honest peer
/// that is behind, or that hands on what it checked, is never blamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// A message that cannot be read.
    Unreadable,
    /// An entry whose signatures do not hold.
    Forged,
}

/// A final block.
#[derive(Debug)]
pub struct Commit {
    /// The block and everything that comes of it.
    pub executed: Executed,
    /// Why it is final.
    pub certificate: Certificate,
    /// Wall ms from the first sight of its oldest entry here, or the start of its height, to the decision.
    pub finality_ms: u64,
}

/// Why a replica cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// Market time cannot stand still.
    #[error("speed must be at least 1 market ms per wall ms")]
    Speed,
}

/// What tells two proposals of a round apart: block and valid round.
type ProposalKind = (BlockId, Option<u32>);

/// A proposed block that follows from the present state.
struct Body {
    executed: Executed,
    proposal: (u32, PublicKey),
    /// The verdict the agreement was told.
    judged: Option<bool>,
}

/// The core of a node.
pub struct Replica {
    config: ReplicaConfig,
    ledger: Ledger,
    agreement: Option<Tendermint>,
    /// The term key that holds a seat, or held one last.
    me: Option<PublicKey>,
    /// Term keys that were made while this node runs: they have signed nothing.
    new_keys: BTreeSet<PublicKey>,
    /// Why the last block is final, with every precommit for it that has arrived.
    last_commit: Option<Certificate>,
    standing: Standing,
    /// This home attested a recovery of this number: it signs nothing of a lower one.
    promised: u32,
    /// Members that follow a later recovery of this chain, which does not follow from this node's head.
    elsewhere: BTreeSet<HomeId>,
    /// What the log held at the start, until the first height is started from it.
    logged: Option<Records>,
    /// No vote below this height: the log shows that votes were cast at it.
    vote_floor: u64,
    /// The log found at the start, where it is of one of this node's keys and of a recovery or height that the ledger had not
    /// reached again by then: it says what that key signed there.
    log_ahead: Option<Records>,
    /// Whether the shell knows what time it is.
    clock_trusted: bool,
    started: bool,
    /// A genuine message of others for the present height arrived: they have started it.
    called: bool,
    height_started_ms: u64,
    committed_ms: Option<u64>,
    bodies: BTreeMap<BlockId, Body>,
    filling: Filling,
    /// Which proposals a sender sent in which round of the present height.
    proposals_sent: BTreeMap<(HomeId, u32), BTreeSet<ProposalKind>>,
    early: VecDeque<(HomeId, Message)>,
    pool: Mempool,
    outgoing: Outgoing,
    connected: BTreeSet<HomeId>,
    catching_up: CatchingUp,
    evidence: Vec<Evidence>,
    timeouts: BTreeSet<Timeout>,
    pace_at: Option<u64>,
    relay_set: bool,
    resend_set: bool,
    /// Records that are not in the log yet.
    journal: Vec<Record>,
    log_grown: usize,
    outbox: Vec<Vec<u8>>,
    /// Gossiped once the commit before it is carried out.
    final_to_send: Option<Vec<u8>>,
    /// Own statements that others still held, until the log holds them too.
    recovered: Vec<Statement>,
    effects: Vec<Effect>,
    now: Now,
    over: bool,
}

impl Replica {
    /// A replica of `ledger` whose consensus log holds `log_bytes`.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub fn new(config: ReplicaConfig, ledger: Ledger, log_bytes: &[u8]) -> Result<Self, ReplicaError> {
        if config.speed == 0 {
            return Err(ReplicaError::Speed);
        }
        let mut logged = read_records(log_bytes);
        let mut key = recovery::present_key(&config.term_keys, &ledger, &logged).cloned();
        let log_ahead = recovery::log_ahead(&config, key.as_ref(), &ledger, &mut logged);
        if log_ahead.is_some() {
            key = None;
        }
        let me = key.as_ref().map(PublicKey::of);
        let standing = recovery::standing_of(&config, me, &ledger, &mut logged);
        let vote_floor = recovery::highest_height(&logged);
        let mut agreement =
            key.map(|key| Tendermint::new(*ledger.chain(), key, ledger.height() + 1, ledger.delegates()));
        let certificate = config.last_certificate.clone();
        let last_commit = certificate.filter(|certificate| certificate.block == ledger.head());
        if let Some(agreement) = &mut agreement {
            recovery::recall(agreement, &logged, ledger.height() + 1);
        }
        let now = Now { market: ledger.head_time(), wall_ms: 0 };
        Ok(Self {
            config,
            ledger,
            agreement,
            me,
            new_keys: BTreeSet::new(),
            last_commit,
            standing,
            promised: 0,
            elsewhere: BTreeSet::new(),
            logged: Some(logged),
            vote_floor,
            log_ahead,
            clock_trusted: true,
            started: false,
            called: false,
            height_started_ms: 0,
            committed_ms: None,
            bodies: BTreeMap::new(),
            filling: Filling::default(),
            proposals_sent: BTreeMap::new(),
            early: VecDeque::new(),
            pool: Mempool::default(),
            outgoing: Outgoing::default(),
            connected: BTreeSet::new(),
            catching_up: CatchingUp::default(),
            evidence: Vec::new(),
            timeouts: BTreeSet::new(),
            pace_at: None,
            relay_set: false,
            resend_set: false,
            journal: Vec::new(),
            log_grown: 0,
            outbox: Vec::new(),
            final_to_send: None,
            recovered: Vec::new(),
            effects: Vec::new(),
            now,
            over: false,
        })
    }

    /// Takes one input and says what to do. `now` must not run backwards in wall time.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        if self.over {
            return Vec::new();
        }
        self.now = now;
        if self.ledger.unknown_rules().is_some() && !is_for_idlers(&input) {
            return Vec::new();
        }
        match input {
            Input::Start => self.on_start(),
            Input::Message { from, bytes } => self.on_bytes(from, &bytes, |_| true),
            Input::Final { from, bytes } => self.on_bytes(from, &bytes, is_final),
            Input::Entry { bytes, origin } => self.on_entry(&bytes, origin),
            Input::Entries { from, bytes } => self.on_gossiped_entries(&from, &bytes),
            Input::Verified { from, entries, directly } => self.on_verified(&from, &entries, directly),
            Input::Recover(bytes) => self.on_recover(&bytes),
            Input::Timer(timer) => self.on_timer(timer),
            Input::PeerUp(home) => self.on_peer_up(home),
            Input::PeerDown(home) => self.on_peer_down(&home),
            Input::Stop => self.on_stop(),
        }
        self.pursue();
        self.flush();
        std::mem::take(&mut self.effects)
    }

    /// Takes a term key that was made just now and has signed nothing. This node votes with it once it holds a seat.
    pub fn learn_term_key(&mut self, key: SigningKey) {
        self.new_keys.insert(PublicKey::of(&key));
        self.config.term_keys.push(key);
    }

    /// Forgets the term keys that are not wanted any more; one that holds a seat stays.
    pub fn forget_term_keys(&mut self, is_wanted: impl Fn(&PublicKey) -> bool) {
        let sets = [self.ledger.delegates(), self.ledger.next_delegates()];
        let is_seated = |key: &PublicKey| sets.iter().any(|set| set.seat_of(key).is_some());
        let keeps = |key: &PublicKey| is_wanted(key) || is_seated(key);
        self.config.term_keys.retain(|key| keeps(&PublicKey::of(key)));
        self.new_keys.retain(keeps);
        if self.me.is_some_and(|me| !keeps(&me)) {
            (self.me, self.agreement, self.standing) = (None, None, Standing::Follower);
        }
    }

    /// The ledger after the last final block.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Height of the last final block.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.ledger.height()
    }

    /// Round of the height being decided; `None` if it has not started or this node does not vote.
    #[must_use]
    pub fn round(&self) -> Option<u32> {
        self.agreement.as_ref().filter(|_| self.started).and_then(Agreement::round)
    }

    /// How many entries wait for a block.
    #[must_use]
    pub fn mempool_len(&self) -> usize {
        self.pool.len()
    }

    /// How many entries of this home wait for a block, and how many more it takes at the moment.
    #[must_use]
    pub fn own_waiting(&self) -> (usize, usize) {
        let waiting = self.pool.own_len();
        (waiting, POOL_OWN_MAX.saturating_sub(waiting))
    }

    /// True if this node votes on the next block.
    #[must_use]
    pub fn is_voting(&self) -> bool {
        matches!(self.standing, Standing::Ready)
            && !self.is_bound()
            && self.clock_trusted
            && self.is_seated()
            && self.next_height() >= self.vote_floor
            && self.ledger.unknown_rules().is_none()
    }

    /// Why a delegate does not vote although it has a key; `None` if it votes or has none.
    #[must_use]
    pub fn barred(&self) -> Option<&str> {
        match &self.standing {
            Standing::Barred(reason) => Some(reason),
            _ => None,
        }
    }

    /// True while peers are known to hold blocks that this node does not.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.catching_up.is_behind(self.ledger.height())
    }

    /// Says whether market time can be trusted here; it is until this is called. A node that does not know what time it is
    /// starts to decide no height: it follows. A height it has started it finishes, its window for times holding it to nil.
    pub const fn trust_clock(&mut self, trusted: bool) {
        self.clock_trusted = trusted;
    }

    /// Evidence of double-signing seen since the start, the last 64.
    #[must_use]
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    fn on_start(&mut self) {
        self.begin_recovery();
        self.note_unknown_rules();
        self.set_timer(Timer::Status, catching_up::STATUS_MS);
    }

    fn on_stop(&mut self) {
        if self.standing.has_log() && self.logged.is_none() {
            self.journal.push(Record::CleanStop(self.next_height()));
            self.write_journal();
        }
        self.over = true;
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Round { height, timeout } => {
                if height == self.next_height() && self.timeouts.remove(&timeout) {
                    self.on_timeout(timeout);
                }
            }
            Timer::Pace => self.on_pace(),
            Timer::Sync => self.on_sync_timer(),
            Timer::Status => self.on_status_timer(),
            Timer::Resend => self.on_resend(),
            Timer::Relay => self.on_relay(),
            Timer::Frame => self.on_frame(),
            Timer::Fill => self.on_fill(),
            Timer::Recover => self.ask_for_own_statements(),
        }
    }

    fn on_peer_up(&mut self, home: HomeId) {
        self.send_status(&home);
        if self.is_delegate(&home) {
            self.send_own_entries(&home);
            self.ask_one_for_own_statements(&home);
        }
        self.connected.insert(home);
    }

    fn on_peer_down(&mut self, home: &HomeId) {
        self.connected.remove(home);
        self.catching_up.forget(home);
    }

    fn on_bytes(&mut self, from: HomeId, bytes: &[u8], expected: impl Fn(&Message) -> bool) {
        if from == self.config.home {
            return;
        }
        match Message::from_bytes(bytes) {
            Ok(message) if expected(&message) => self.on_message(from, message),
            Ok(_) => {}
            Err(error) => {
                self.note(format!("a message of {from} cannot be read: {error}"));
                if !is_of_another_version(&error) {
                    self.blame(&from, Blame::Unreadable);
                }
            }
        }
    }

    fn on_gossiped_entries(&mut self, from: &HomeId, bytes: &[u8]) {
        match Message::from_bytes(bytes) {
            Ok(Message::Entries(entries)) => self.on_entries(from, &entries, false),
            Err(error) if is_of_another_version(&error) => {}
            _ => self.blame(from, Blame::Unreadable),
        }
    }

    fn blame(&mut self, peer: &HomeId, what: Blame) {
        self.effects.push(Effect::Blame { peer: peer.clone(), what });
    }

    fn on_message(&mut self, from: HomeId, message: Message) {
        if self.ledger.unknown_rules().is_some() && !matches!(message, Message::SyncRequest { .. }) {
            return;
        }
        match message {
            Message::Vote(_)
            | Message::Proposal(..)
            | Message::Outline(..)
            | Message::Polka(_)
            | Message::Round(_) => self.on_consensus(from, message),
            Message::EntriesRequest(wanted) => self.on_entries_request(&from, &wanted),
            Message::SyncRequest { from_height, max_bytes } => {
                self.on_sync_request(from, from_height, max_bytes);
            }
            Message::SyncResponse(blocks) => self.on_sync_response(&from, &blocks),
            Message::Status { height } => self.on_status(&from, height),
            Message::Recovered { number, height } => self.on_recovered(&from, number, height),
            Message::RecoverRequest { height, key } => self.on_recover_request(&from, height, &key),
            Message::RecoverResponse { height, statements } => {
                self.on_recover_response(from, height, statements);
            }
            Message::Entries(entries) => self.on_entries(&from, &entries, true),
            Message::Final(block, certificate) => self.on_final(&from, &block, &certificate),
        }
    }

    /// Starts the next height as soon as it may.
    fn pursue(&mut self) {
        while !self.over && !self.started && self.is_voting() {
            let wait_ms = self.wait_before_start();
            if wait_ms > 0 {
                self.set_pace(wait_ms);
                return;
            }
            self.start_height();
        }
    }

    /// How long until the next height may start, in wall ms.
    fn wait_before_start(&self) -> u64 {
        let since = |instant: u64| self.now.wall_ms.saturating_sub(instant);
        let interval = self.config.min_block_interval_ms;
        let spacing = self.committed_ms.map_or(0, |_| interval.saturating_sub(since(self.height_started_ms)));
        let has_work = self.pool.has_includable() || self.now.market >= self.ledger.next_due();
        let (height, delegates) = (self.ledger.height(), self.ledger.delegates());
        if self.catching_up.is_far_behind(height, delegates, self.faults()) {
            return PACE_POLL_MS;
        }
        if has_work {
            return spacing;
        }
        if self.called {
            // Others started; a spacing cut by half bounds what one impatient delegate can drive the rest to.
            return self.committed_ms.map_or(0, |at| (interval / 2).saturating_sub(since(at)));
        }
        let market_ms = self.ledger.next_due().unix_ms().saturating_sub(self.now.market.unix_ms());
        (market_ms / u64::from(self.config.speed)).clamp(1, PACE_POLL_MS).max(spacing)
    }

    fn on_pace(&mut self) {
        self.pace_at = None;
        if self.is_seated() {
            let refused = self.pool.recheck(&self.ledger, self.block_time());
            self.report_refused(refused);
        }
    }

    fn set_pace(&mut self, after_ms: u64) {
        let at = self.now.wall_ms.saturating_add(after_ms);
        if self.pace_at.is_none_or(|set| at < set || set < self.now.wall_ms) {
            self.pace_at = Some(at);
            self.set_timer(Timer::Pace, after_ms);
        }
    }

    fn is_seated(&self) -> bool {
        self.my_key().is_some_and(|key| self.ledger.delegates().seat_of(&key).is_some())
    }

    const fn my_key(&self) -> Option<PublicKey> {
        self.me
    }

    /// True for a home with a seat at the last height, this one or the next.
    fn is_delegate(&self, home: &HomeId) -> bool {
        let sets = [self.ledger.last_delegates(), self.ledger.delegates(), self.ledger.next_delegates()];
        sets.iter().any(|set| set.of_home(home).is_some())
    }

    /// The height being decided.
    const fn next_height(&self) -> u64 {
        self.ledger.height() + 1
    }

    /// How many delegates may be faulty.
    fn faults(&self) -> usize {
        (self.ledger.delegates().len() - 1) / 3
    }

    /// Time of a block proposed now.
    fn block_time(&self) -> Timestamp {
        self.now.market.max(self.ledger.head_time().plus_ms(1))
    }

    /// A program without the rules of the next block takes no part in it, and stays what it is: a home that meters.
    fn note_unknown_rules(&mut self) {
        if let Some(needed) = self.ledger.unknown_rules() {
            let (next, known) = (self.next_height(), self.ledger.known_rules());
            self.note(format!(
                "block {next} and those after it are made by rules {needed}, this program has rules up to {known}: it takes no \
                 part until it is updated"
            ));
        }
    }

    fn note(&mut self, text: String) {
        self.effects.push(Effect::Note { text });
    }

    fn halt(&mut self, reason: String) {
        self.flush();
        self.effects.push(Effect::Halt { reason });
        self.over = true;
    }

    fn send(&mut self, to: &HomeId, message: &Message) {
        self.effects.push(Effect::SendTo { to: to.clone(), bytes: message.to_bytes() });
    }

    fn set_timer(&mut self, timer: Timer, after_ms: u64) {
        self.effects.push(Effect::SetTimer { timer, after_ms });
    }

    /// A consensus message for the other delegates; it leaves once the log is durable.
    fn publish(&mut self, message: &Message) {
        if self.ledger.delegates().len().max(self.ledger.next_delegates().len()) > 1 {
            self.outbox.push(message.to_bytes());
        }
    }

    /// Lets go what waits to be sent, after the log is durable.
    fn flush(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        self.write_journal();
        let outbox = std::mem::take(&mut self.outbox);
        self.effects.extend(outbox.into_iter().map(Effect::ToDelegates));
    }

    fn write_journal(&mut self) {
        if self.journal.is_empty() {
            return;
        }
        let frame = encode_frame(&std::mem::take(&mut self.journal));
        self.log_grown += frame.len();
        self.effects.push(Effect::AppendLog(frame));
        self.effects.push(Effect::SyncLog);
    }
}

/// What a program still does that lacks the rules of the next block: it hands out what it holds, and stops in good order.
const fn is_for_idlers(input: &Input) -> bool {
    matches!(
        input,
        Input::Start | Input::Stop | Input::PeerUp(_) | Input::PeerDown(_) | Input::Message { .. }
    )
}

/// What is gossiped as a final block, or in its place where it is long.
const fn is_final(message: &Message) -> bool {
    matches!(message, Message::Final(..) | Message::Status { .. })
}

/// The proposal a body was first sent with.
const fn first_seen_with(proposal: &SignedProposal) -> (u32, PublicKey) {
    (proposal.round, proposal.proposer)
}
