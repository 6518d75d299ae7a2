//! One whole node: its replica, what carries out its effects in order, its disk, its journal and its home's meter.
//! Follows `node/src/engine.rs` and `node/src/run.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use consensus::message::{Message, SYNC_BLOCKS_MAX, SignedVote};
use consensus::{
    Commit, Effect, Input, NUMBER_ON_LEDGER, Now, Origin, Replica, ReplicaConfig, Timeouts, Timer,
};
use ed25519_dalek::SigningKey;
use energy::{ClockQuality, HomeId};
use ledger::codec::Encode as _;
use ledger::{BlockId, Body, EntryId, Hash32, Ledger, PublicKey, VoteKind};

use super::clock::Clock;
use super::disk::Disk;
use super::journal::Journal;
use super::life::House;
use super::meter::Meter;
use super::plan::{Control, Face, Plan};
use super::street::{self, Purpose};
use super::world::{Event, World};

/// Where a vote stands, and for what.
pub(crate) type Place = (VoteKind, u64, u32, Option<BlockId>);

/// Where a node is to crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// After so many more effects.
    In(u64),
    /// Before the next effect of a kind.
    Before(Kind),
    /// Right after it.
    After(Kind),
}

/// Effects that touch the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Append,
    Sync,
    Trim,
    Commit,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Append, Self::Sync, Self::Trim, Self::Commit];

    const fn of(effect: &Effect) -> Option<Self> {
        match effect {
            Effect::AppendLog(_) => Some(Self::Append),
            Effect::SyncLog => Some(Self::Sync),
            Effect::TrimLog(_) => Some(Self::Trim),
            Effect::Commit(_) => Some(Self::Commit),
            _ => None,
        }
    }
}

/// A node.
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) home: HomeId,
    pub(crate) face: Option<Face>,
    pub(crate) replica: Option<Replica>,
    /// After the last block that is stored.
    pub(crate) ledger: Ledger,
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    pub(crate) timers: BTreeMap<Timer, u64>,
    pub(crate) journal: Journal,
    pub(crate) meter: Meter,
    pub(crate) house: House,
    /// Consensus keys by term, on the disk.
    pub(crate) term_keys: BTreeMap<u32, SigningKey>,
    /// The home's first card or a later one: a new one begins with nothing but what is in the backup.
    pub(crate) card: u32,
    /// The recovery that its home attested last, on the disk: number and block.
    pub(crate) promise: Option<(u32, BlockId)>,
    /// The chain was recovered in this step: the node ends, and starts anew on it.
    starts_anew: bool,
    /// The last height after which it looked at elections.
    took_part_at: u64,
    /// Votes that the synced log holds.
    pub(crate) logged: BTreeSet<Place>,
    pub(crate) life: u64,
    pub(crate) crash_at: Option<CrashPoint>,
    pub(crate) slow_disk: bool,
    /// Until then it waits for its disk.
    pub(crate) busy_until: u64,
    /// What its disk took in this step, ms.
    pub(crate) lag: u64,
    /// Its home has only a meter and a journal.
    pub(crate) is_light: bool,
    /// Then: the term for which it voted last, and whether it said that it leaves.
    pub(crate) voted_for: u32,
    pub(crate) is_leaving: bool,
    /// When the kernel last wrote back what nobody synced: a control.
    pub(crate) written_back: u64,
}

impl Node {
    pub(crate) fn new(number: usize, plan: &Plan, ledger: &Ledger) -> Self {
        let mtu = ledger.genesis_terms().mtu;
        let first = energy::Interval::containing(street::start(), mtu);
        // Every home's identity has a consensus key; those of the founders hold the first seats.
        let founding = (0, street::key(Purpose::Term, number));
        // Clocks that are right differ by up to a quarter of a second.
        let skew = i64::try_from(number * 83 % 250).unwrap_or_default();
        Self {
            number,
            home: street::home(number),
            face: plan.faces.get(&number).copied(),
            replica: None,
            ledger: ledger.clone(),
            disk: Disk::default(),
            clock: Clock::new(plan.speed, plan.lapse(), skew),
            timers: BTreeMap::new(),
            journal: Journal::new(number, *ledger.chain(), mtu),
            meter: Meter::new(first, crate::home::Flow { import: 1000 * number as u64, export: 0 }),
            house: House::new(number, plan, ledger),
            term_keys: [founding].into(),
            card: 0,
            promise: None,
            starts_anew: false,
            took_part_at: 0,
            logged: BTreeSet::new(),
            life: 0,
            crash_at: None,
            slow_disk: false,
            busy_until: 0,
            lag: 0,
            is_light: number >= plan.homes(),
            voted_for: 0,
            is_leaving: false,
            written_back: 0,
        }
    }

    /// The card breaks for good: ledger, log, journal, keys and promises are gone. What comes back is a new one, with the keys
    /// of the home's backup.
    pub(crate) fn lose_everything(&mut self, genesis: &Ledger) {
        self.ledger = genesis.clone();
        self.disk = Disk::default();
        self.journal.lose();
        self.journal.sign_for(genesis);
        self.card += 1;
        self.term_keys = [(0, street::card_key(self.number, self.card))].into();
        self.promise = None;
        self.logged.clear();
        (self.took_part_at, self.voted_for) = (0, 0);
    }

    /// What a person has the node do whose last blocks the community gave up: the ledger is put aside.
    pub(crate) fn put_ledger_aside(&mut self, genesis: &Ledger) {
        self.ledger = genesis.clone();
        self.disk.put_blocks_aside();
        self.took_part_at = 0;
    }

    /// True if one of its keys signed it.
    pub(crate) fn signs_with(&self, key: &PublicKey) -> bool {
        self.term_keys.values().any(|own| PublicKey::of(own) == *key)
    }

    /// True if it stores as durably as a delegate.
    fn is_full(&self, ledger: &Ledger) -> bool {
        let sets = [ledger.delegates(), ledger.next_delegates()];
        sets.iter().any(|set| set.of_home(&self.home).is_some())
    }
}

/// A program that ends to start anew is back after so long, in ms.
const RESTART_MS: u64 = 500;
/// How long nodes wait, in wall ms: a fast network.
const TIMEOUTS: Timeouts =
    Timeouts { propose_ms: 1000, prevote_ms: 300, precommit_ms: 300, delta_ms: 150, rebroadcast_ms: 1000 };

impl World {
    /// A node starts from what its disk holds.
    pub(crate) fn boot(&mut self, number: usize) {
        if self.nodes[number].replica.is_some() || self.nodes[number].is_light {
            return;
        }
        if self.is_away(number) || self.is_lost(number) {
            self.push(1000, Event::Restart { node: number });
            return;
        }
        self.begin_with_a_state(number);
        let loaded = self.nodes[number].disk.load(&self.genesis);
        if let Some(height) = loaded.damaged {
            self.report.damaged += 1;
            self.tell(number, &format!("found block {height} damaged; it is fetched again"));
        }
        let node = &mut self.nodes[number];
        node.ledger = loaded.ledger;
        node.clock.saw_block(node.ledger.head_time(), false, self.now);
        let config = ReplicaConfig {
            home: node.home.clone(),
            // The key of its identity comes first, as the program hands it over at every start.
            term_keys: std::iter::once(street::card_key(number, node.card))
                .chain(node.term_keys.range(1..).map(|(_, key)| key.clone()))
                .collect(),
            last_certificate: loaded.last_certificate,
            timeouts: TIMEOUTS,
            min_block_interval_ms: 200,
            speed: self.plan.speed,
        };
        let mut replica =
            Replica::new(config, node.ledger.clone(), &node.disk.log).expect("a valid configuration");
        replica.promise(node.promise.map_or(0, |(number, _)| number));
        node.replica = Some(replica);
        if node.journal.sign_for(&node.ledger) {
            node.voted_for = 0;
        }
        node.journal.follow(&node.ledger);
        self.tell(number, "starts");
        self.step(number, Input::Start);
        for peer in 0..self.nodes.len() {
            if peer != number && self.nodes[peer].replica.is_some() {
                self.step(number, Input::PeerUp(street::home(peer)));
                self.step(peer, Input::PeerUp(street::home(number)));
            }
        }
        for bytes in self.nodes[number].journal.unconfirmed(&self.nodes[number].ledger) {
            self.step(number, Input::Entry { bytes, origin: Origin::Own });
        }
    }

    /// Hands a node an input and carries out what comes of it.
    pub(crate) fn step(&mut self, number: usize, input: Input) {
        let node = &mut self.nodes[number];
        let now = Now { market: node.clock.market(self.now), wall_ms: self.now };
        let trusted = node.clock.quality(self.now) != ClockQuality::Unsynced;
        let Some(replica) = &mut node.replica else { return };
        node.lag = 0;
        replica.trust_clock(trusted);
        for effect in replica.step(now, input) {
            let kind = Kind::of(&effect);
            if self.crashes_before(number, kind) {
                self.crash(number);
                return;
            }
            self.carry_out(number, effect);
            if self.nodes[number].replica.is_none() {
                return;
            }
            if kind.is_some_and(|kind| self.nodes[number].crash_at == Some(CrashPoint::After(kind))) {
                self.crash(number);
                return;
            }
        }
        if self.nodes[number].starts_anew {
            self.tell(number, "ends, to start anew on the recovered chain");
            return self.start_anew(number);
        }
        let node = &mut self.nodes[number];
        node.busy_until = self.now + node.lag;
        node.lag = 0;
        let height = node.ledger.height();
        if self.plan.elections && height > node.took_part_at {
            node.took_part_at = height;
            self.take_part(number);
        }
    }

    fn crashes_before(&mut self, number: usize, kind: Option<Kind>) -> bool {
        match &mut self.nodes[number].crash_at {
            Some(CrashPoint::In(0)) => true,
            Some(CrashPoint::In(left)) => {
                *left -= 1;
                false
            }
            Some(CrashPoint::Before(wanted)) => kind == Some(*wanted),
            Some(CrashPoint::After(_)) | None => false,
        }
    }

    fn carry_out(&mut self, number: usize, effect: Effect) {
        self.record(number, &effect);
        match effect {
            Effect::AppendLog(bytes) => self.nodes[number].disk.unsynced.extend(bytes),
            Effect::SyncLog => self.sync(number),
            Effect::TrimLog(bytes) => {
                let node = &mut self.nodes[number];
                node.disk.unsynced.clear();
                node.logged = votes_in(&bytes);
                node.disk.log = bytes;
                self.wait_for_disk(number);
            }
            Effect::SendTo { to, bytes } => {
                if let Some(to) = self.number_of(&to) {
                    self.send(number, to, &bytes);
                }
            }
            Effect::ToDelegates(bytes) => self.send_to_delegates(number, &bytes),
            Effect::GossipEntries(bytes) => {
                self.gossip(number, &|from| Input::Entries { from, bytes: bytes.clone() });
            }
            Effect::GossipFinal(bytes) => {
                self.gossip(number, &|from| Input::Final { from, bytes: bytes.clone() });
            }
            Effect::ServeBlocks { to, from_height, max_bytes } => {
                let blocks = self.nodes[number].disk.serve(from_height, max_bytes, SYNC_BLOCKS_MAX);
                if let (Some(to), false) = (self.number_of(&to), blocks.is_empty()) {
                    self.send(number, to, &Message::SyncResponse(blocks).to_bytes());
                }
            }
            Effect::SetTimer { timer, after_ms } => self.set_timer(number, timer, after_ms),
            Effect::ClearTimer(timer) => {
                if let Some(sequence) = self.nodes[number].timers.remove(&timer) {
                    self.events.remove(&sequence);
                }
            }
            Effect::Commit(commit) => self.commit(number, &commit),
            Effect::Refused { entry, reason, origin: Origin::Own } => self.refused(number, &entry, &reason),
            Effect::Refused { .. } | Effect::Note { .. } => {}
            // Whoever is blamed must be dishonest.
            Effect::Blame { peer, what } => {
                let honest = self.number_of(&peer).is_none_or(|peer| self.nodes[peer].face.is_none());
                self.check(!honest, || format!("node {number} blames {peer}: {what:?}"));
            }
            Effect::Evidence(evidence) => self.take_evidence(number, &evidence),
            // Who signs twice may find its own lie in its log; it has itself to blame.
            Effect::Halt { .. } if self.nodes[number].face.is_some() => {}
            Effect::Halt { reason } if self.is_given_up(number, &reason) => self.follow_others(number),
            Effect::Halt { reason } => self.check(false, || format!("node {number} halted: {reason}")),
        }
    }

    fn sync(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if self.plan.control == Some(Control::NoFdatasync) {
            // The kernel writes back by itself every five seconds.
            if self.now < node.written_back + 5000 {
                return;
            }
            node.written_back = self.now;
        }
        node.logged.extend(votes_in(&node.disk.unsynced));
        node.disk.log.append(&mut node.disk.unsynced);
        self.wait_for_disk(number);
    }

    /// A disk takes a millisecond, a slow one up to two seconds.
    fn wait_for_disk(&mut self, number: usize) {
        let took =
            if self.nodes[number].slow_disk && self.dice.chance(100) { self.dice.below(2000) } else { 1 };
        self.nodes[number].lag += took;
    }

    fn set_timer(&mut self, number: usize, timer: Timer, after_ms: u64) {
        let life = self.nodes[number].life;
        let sequence = self.push(after_ms, Event::Timer { node: number, life, timer });
        if let Some(old) = self.nodes[number].timers.insert(timer, sequence) {
            self.events.remove(&old);
        }
    }

    fn commit(&mut self, number: usize, commit: &Commit) {
        self.check_commit(number, commit);
        let fresh = self.nodes[number].replica.as_ref().is_some_and(|replica| !replica.is_syncing());
        let block = &commit.executed.block;
        let decided = self.checks.at(block.header.height).filter(|decided| decided.id == block.id());
        let bytes = decided.map_or_else(|| Arc::new(block.to_bytes()), |decided| Arc::clone(&decided.bytes));
        let node = &mut self.nodes[number];
        let full = node.is_full(&commit.executed.ledger);
        node.disk.commit(&commit.executed, bytes, &commit.certificate, full);
        node.ledger = commit.executed.ledger.clone();
        node.clock.saw_block(commit.executed.block.header.time, fresh, self.now);
        node.house.take_note(&commit.executed);
        node.starts_anew |= node.ledger.is_recovered();
        if node.card > 0 {
            node.journal.follow(&node.ledger);
        }
        self.wait_for_disk(number);
    }

    /// A delegate contradicted itself: the node puts that before the community.
    fn take_evidence(&mut self, number: usize, evidence: &consensus::Evidence) {
        self.check_accusation(number, evidence);
        let is_known = self.nodes[number].ledger.is_convicted(evidence.culprit());
        if !is_known && self.plan.control != Some(Control::HalfQuorum) {
            let body = Body::Misbehaviour(evidence.clone());
            let bytes = self.nodes[number].journal.say(body, &[], self.now);
            self.push(1, Event::Submit { node: number, bytes });
        }
    }

    /// An entry of a node's own is not taken: its journal gives it up. Nothing that a meter showed may be lost so, unless the
    /// clock beside it was wrong, or a new card did not know yet what the one before had said.
    fn refused(&mut self, number: usize, entry: &EntryId, reason: &str) {
        if reason == NUMBER_ON_LEDGER {
            return;
        }
        let node = &mut self.nodes[number];
        let was_reading = node.journal.give_up(entry);
        let is_excused = self.plan.faults.skew || node.card > 0;
        self.check(!was_reading || is_excused, || {
            format!("a reading of home {number} was refused: {reason}")
        });
    }

    /// Power is cut.
    pub(crate) fn crash(&mut self, number: usize) {
        self.report.crashes += 1;
        self.tell(number, "crashes");
        let torn = self.nodes[number].disk.unsynced.len() + 1;
        let (kept, lost) = (self.dice.pick(torn), self.dice.pick(4));
        let node = &mut self.nodes[number];
        let kept = if self.plan.control == Some(Control::NoFdatasync) { 0 } else { kept };
        node.disk.crash(kept, lost);
        match self.plan.control {
            Some(Control::LyingDisk) => node.disk.forget_frames(3),
            Some(Control::LogOff) if number < self.plan.delegates => {
                node.disk.log = forgotten_log(node);
            }
            _ => {}
        }
        self.end(number);
        self.damage(number);
        let after = 100 + self.dice.below(5000);
        self.push(after, Event::Restart { node: number });
    }

    /// The program ends by itself and is started anew a moment later; the machine goes on.
    pub(crate) fn start_anew(&mut self, number: usize) {
        self.nodes[number].disk.stop();
        self.end(number);
        self.push(RESTART_MS, Event::Restart { node: number });
    }

    /// Nothing of the program is there any more.
    fn end(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.replica = None;
        node.starts_anew = false;
        node.crash_at = None;
        node.busy_until = 0;
        node.lag = 0;
        node.life += 1;
        node.journal.stop();
        for (_, sequence) in std::mem::take(&mut node.timers) {
            self.events.remove(&sequence);
        }
        for peer in 0..self.nodes.len() {
            self.step(peer, Input::PeerDown(street::home(number)));
        }
    }

    /// Whether a node's clock says what time it is, in its own eyes.
    pub(crate) fn quality(&self, number: usize) -> ClockQuality {
        self.nodes[number].clock.quality(self.now)
    }

    fn record(&mut self, number: usize, effect: &Effect) {
        self.tell(number, &summary(effect));
        if matches!(effect, Effect::Note { text } if text.contains("had lost")) {
            self.check_recovered(number);
        }
    }
}

/// Everything of an effect that two runs must have in common.
fn summary(effect: &Effect) -> String {
    match effect {
        Effect::Commit(commit) => {
            let header = &commit.executed.block.header;
            let signed = Hash32::of(&[&commit.certificate.to_bytes()]);
            format!("commit {} {} {signed} {}", header.height, header.id(), commit.finality_ms)
        }
        Effect::AppendLog(bytes) => format!("append {}", Hash32::of(&[bytes])),
        Effect::TrimLog(bytes) => format!("trim {}", Hash32::of(&[bytes])),
        Effect::SendTo { to, bytes } => format!("send {to} {}", told(bytes)),
        Effect::ToDelegates(bytes) => format!("delegates {}", told(bytes)),
        Effect::GossipFinal(bytes) => format!("final {}", Hash32::of(&[bytes])),
        Effect::GossipEntries(bytes) => format!("entries {}", Hash32::of(&[bytes])),
        other => format!("{other:?}"),
    }
}

/// A vote in words, anything else by its hash.
fn told(bytes: &[u8]) -> String {
    match Message::from_bytes(bytes) {
        Ok(Message::Vote(vote)) => {
            let SignedVote { kind, height, round, block, voter, .. } = vote;
            format!("{kind:?} {height}/{round} {block:?} by {voter}")
        }
        Ok(Message::Status { height }) => format!("status {height}"),
        _ => Hash32::of(&[bytes]).to_string(),
    }
}

pub(crate) const fn place_of(vote: &SignedVote) -> Place {
    (vote.kind, vote.height, vote.round, vote.block)
}

fn votes_in(log: &[u8]) -> BTreeSet<Place> {
    use consensus::log::Record;
    use consensus::message::Statement;
    let votes = consensus::read_records(log).records.into_iter().filter_map(|record| match record {
        Record::Vote(vote) | Record::Pinned(Statement::Vote(vote)) => Some(place_of(&vote)),
        _ => None,
    });
    votes.collect()
}

/// What a disk that forgot everything but a clean stop would show.
fn forgotten_log(node: &Node) -> Vec<u8> {
    use consensus::log::{Record, encode_frame};
    let seated = node.term_keys.values().map(PublicKey::of);
    let seated = seated.into_iter().find(|key| node.ledger.delegates().seat_of(key).is_some());
    let Some(key) = seated else { return node.disk.log.clone() };
    let opened = Record::Opened { chain: *node.ledger.chain(), key };
    encode_frame(&[opened, Record::CleanStop(node.ledger.height() + 1)])
}
