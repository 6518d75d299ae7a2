//! The engine: the one thread that owns a node's replica, its ledger database and its consensus log, and carries out what
//! the replica asks for, in order.
//!
//! It is a plain thread and not a task because it waits for the disk: a record is durable before the message that it
//! backs leaves, a block is durable before anything of the next height. Everything else talks to it by one bounded queue.

mod members;
mod shell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consensus::message::{Message, SYNC_BLOCKS_MAX};
use consensus::{Blame, Commit, Effect, Evidence, Handed, Input, Now, Origin, Replica, Timer};
use energy::{ClockQuality, HomeId, Timestamp};
use ledger::codec::Encode as _;
use ledger::{Body, Ledger, Outcome, PublicKey, Replicas};
use tokio::sync::{oneshot, watch};

use crate::follow::Answered;
use crate::network::{DIRECT_BYTES_MAX, Offence, Topic};
use crate::recovery::{self, Promises};
use crate::store::ledger_db::LedgerDb;
use crate::store::log_file::LogFile;
use crate::store::{Durability, StoreError};

pub(crate) use members::Members;
pub use shell::Common;
pub(crate) use shell::{Shell, Stored, unix_ms};

/// What waits for the engine at the most. Beyond it the network's task waits, whose own queues drop what is too much:
/// consensus repeats what matters, and the journal keeps a home's own readings until they are final.
const QUEUE_MAX: usize = 8192;
/// A full queue is looked at again after this long.
const ROOM_CHECK: Duration = Duration::from_millis(2);
/// What an answer of blocks takes besides their bytes.
const SERVE_ROOM: usize = 16_384;
/// Without a block for so long, though others have them, a node asks whether it may still hold them.
const LEFT_BEHIND: Duration = Duration::from_secs(15);
/// Whether the clock can be trusted is looked at so often.
const CLOCK_EVERY: Duration = Duration::from_secs(1);
/// Longest sleep without a timer.
const IDLE: Duration = Duration::from_millis(500);

/// What the engine is told.
#[derive(Debug)]
pub enum Command {
    /// A direct message from a member.
    Message {
        /// Network key of the sender.
        from: PublicKey,
        /// What it said.
        bytes: Vec<u8>,
    },
    /// Something gossiped.
    Gossip {
        /// Network key of the neighbour that relayed it.
        from: PublicKey,
        /// What about.
        topic: Topic,
        /// What it said.
        bytes: Vec<u8>,
    },
    /// Entries of others whose signatures hold.
    Entries {
        /// Network key of the neighbour they came from.
        from: PublicKey,
        /// The entries.
        entries: Vec<Handed>,
        /// Whether it sent them to this node alone, rather than by gossip.
        directly: bool,
    },
    /// What came of a question of a node that follows.
    Followed(Box<Answered>),
    /// An entry of this node's own.
    Submit(Vec<u8>),
    /// A step of a recovery of the chain; answered with the offer or block that came of it.
    Recovery(recovery::Step, oneshot::Sender<Result<Vec<u8>, recovery::Refusal>>),
    /// Asks for the ledger as it is after the last final block.
    Ledger(oneshot::Sender<Box<Ledger>>),
    /// A member is connected.
    PeerUp(PublicKey),
    /// A member is gone.
    PeerDown(PublicKey),
    /// Stop cleanly.
    Stop,
}

/// How far the node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Height of the last final block.
    pub height: u64,
    /// Its market time.
    pub head_time: Timestamp,
    /// Index of the first interval that is not settled.
    pub next_to_settle: u64,
    /// When that interval settles.
    pub next_deadline: Timestamp,
    /// Index of the first interval whose gate has not closed, where there is forward trading.
    pub next_gate: u64,
    /// Index after the last interval for which this node's meters have a reading in a final block, since the start.
    pub read_until: u64,
    /// Why the node takes no part at present, where it does not: it waits for people.
    pub waiting: Option<String>,
    /// Why the engine stopped by itself, if it did.
    pub halted: Option<String>,
    /// The number of the recovery that the chain took up just now. The engine has ended, and the node starts anew: whatever it
    /// signs from now on is signed for the recovered chain.
    pub recovered: Option<u32>,
    /// Whether this home holds all bodies from now on, where that has changed just now. The engine has ended, and the node starts
    /// anew in its other role.
    pub role: Option<bool>,
}

/// The way to the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: SyncSender<Command>,
    /// How many own entries the replica still takes.
    room: Arc<AtomicUsize>,
}

impl EngineHandle {
    /// A way to an engine that takes so many own entries for now, and where it listens.
    pub(crate) fn new(room: usize) -> (Self, Receiver<Command>, Arc<AtomicUsize>) {
        let (commands, inbox) = sync_channel(QUEUE_MAX);
        let room = Arc::new(AtomicUsize::new(room));
        (Self { commands, room: Arc::clone(&room) }, inbox, room)
    }

    /// A way to where a test listens.
    #[cfg(test)]
    pub(crate) fn for_test() -> (Self, Receiver<Command>) {
        let (handle, inbox, _) = Self::new(QUEUE_MAX);
        (handle, inbox)
    }

    /// Hands over an entry of this node's own; it is sent until it is final. False if the engine is gone or has too much
    /// to do, or as many own entries wait already as it holds: whoever signed it hands it over again.
    pub fn submit(&self, entry: Vec<u8>) -> bool {
        let one_less = |room: usize| room.checked_sub(1);
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return false;
        }
        let sent = self.commands.try_send(Command::Submit(entry)).is_ok();
        if !sent {
            self.room.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// As [`EngineHandle::submit`], waiting for room.
    pub async fn submit_in_time(&self, entry: Vec<u8>) {
        let one_less = |room: usize| room.checked_sub(1);
        while self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            tokio::time::sleep(ROOM_CHECK).await;
        }
        self.tell(Command::Submit(entry)).await;
    }

    /// As [`EngineHandle::tell`], from a thread that may wait. False if the engine is gone.
    pub(crate) fn tell_from_thread(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// The ledger after the last final block; `None` if the engine is gone.
    pub async fn ledger(&self) -> Option<Box<Ledger>> {
        let (answer, asked) = oneshot::channel();
        self.tell(Command::Ledger(answer)).await;
        asked.await.ok()
    }

    /// Has the engine do a step of a recovery.
    ///
    /// # Errors
    /// [`recovery::Refusal`].
    pub async fn recovery(&self, step: recovery::Step) -> Result<Vec<u8>, recovery::Refusal> {
        let (answer, asked) = oneshot::channel();
        self.tell(Command::Recovery(step, answer)).await;
        asked.await.unwrap_or(Err(recovery::Refusal::NotNow("the node is stopping")))
    }

    /// Tells the engine something, waiting for room; nothing if it is gone.
    pub async fn tell(&self, mut command: Command) {
        while let Err(TrySendError::Full(refused)) = self.commands.try_send(command) {
            command = refused;
            tokio::time::sleep(ROOM_CHECK).await;
        }
    }
}

/// What the engine works with.
pub struct EngineParts {
    /// What every engine works with.
    pub common: Common,
    /// The core.
    pub replica: Replica,
    /// What the delegate said.
    pub log: LogFile,
    /// What this home promised when it attested recoveries of the chain.
    pub promises: Promises,
    /// Where the monotonic wall clock counts from.
    pub started: Instant,
}

/// The engine.
struct Engine {
    shell: Shell,
    replica: Replica,
    log: LogFile,
    promises: Promises,
    started: Instant,
    timers: BTreeMap<Timer, Instant>,
    /// How many own entries may still be handed in, for [`EngineHandle::submit`].
    room: Arc<AtomicUsize>,
    /// Entries that were handed in and have not been given back as room yet: taken up since, or waiting in the replica.
    occupied: usize,
    /// When it was looked at last whether the clock can be trusted.
    clock_judged: Option<Instant>,
    /// The number of a recovery that was taken up in this step.
    recovered: Option<u32>,
    stands: Stands,
}

/// How long the node has stood at a height.
struct Stands {
    height: u64,
    since: Instant,
    /// Somebody said that it was ahead.
    others_ahead: bool,
}

/// How durably a home stores blocks: a follower may lose its last ones to a power cut, it fetches them again. A delegate may
/// not, nor may one that is about to be.
#[must_use]
pub fn durability_of(ledger: &Ledger, home: &HomeId) -> Durability {
    if is_seated(ledger, home) { Durability::Full } else { Durability::Normal }
}

/// True for a home that holds all bodies for no longer than others think so.
#[must_use]
pub fn may_cease(ledger: &Ledger, home: &HomeId) -> bool {
    match &ledger.genesis_terms().replicas {
        Replicas::All => false,
        Replicas::Delegates { holders } => !holders.contains(home) && !is_seated(ledger, home),
    }
}

/// True for a home that decides the next block or the one after it.
#[must_use]
pub fn is_seated(ledger: &Ledger, home: &HomeId) -> bool {
    [ledger.delegates(), ledger.next_delegates()].iter().any(|set| set.of_home(home).is_some())
}

/// Starts the engine's thread.
///
/// # Errors
/// If the system gives no thread.
pub fn spawn(
    parts: EngineParts,
) -> std::io::Result<(EngineHandle, watch::Receiver<Progress>, JoinHandle<()>)> {
    let EngineParts { common, mut replica, log, promises, started } = parts;
    let name = format!("engine-{}", common.home);
    let (handle, inbox, room) = EngineHandle::new(replica.own_waiting().1);
    replica.promise(promises.number());
    let (shell, watching) = Shell::new(common, replica.ledger());
    let mut engine = Engine {
        shell,
        replica,
        log,
        promises,
        started,
        timers: BTreeMap::new(),
        room,
        occupied: 0,
        clock_judged: None,
        recovered: None,
        stands: Stands { height: 0, since: Instant::now(), others_ahead: false },
    };
    let thread = std::thread::Builder::new().name(name).spawn(move || engine.run(&inbox))?;
    Ok((handle, watching, thread))
}

impl Engine {
    fn run(&mut self, inbox: &Receiver<Command>) {
        self.show();
        let connected = self.shell.wait_for_checkpoint(inbox, self.replica.ledger());
        self.show();
        let Some(connected) = connected.filter(|_| !self.shell.halted) else { return };
        self.step(Input::Start);
        for home in connected {
            self.step(Input::PeerUp(home));
        }
        while !self.shell.halted {
            let wait =
                self.timers.values().min().map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
            match inbox.recv_timeout(wait.min(IDLE)) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.fire();
            self.say_own();
            self.give_room();
            self.look_whether_left_behind();
        }
        if !self.shell.halted {
            self.step(Input::Stop);
        }
    }

    fn take(&mut self, command: Command) {
        let home_of = |key| self.shell.members.home_of(key);
        let input = match command {
            Command::Message { from, bytes } => home_of(&from).map(|from| Input::Message { from, bytes }),
            Command::Gossip { from, topic: Topic::Entries, bytes } => {
                home_of(&from).map(|from| Input::Entries { from, bytes })
            }
            Command::Gossip { from, topic: Topic::Finals, bytes } => {
                home_of(&from).map(|from| Input::Final { from, bytes })
            }
            Command::Entries { from, entries, directly } => {
                home_of(&from).map(|from| Input::Verified { from, entries, directly })
            }
            Command::Submit(bytes) => {
                self.occupied += 1;
                Some(Input::Entry { bytes, origin: Origin::Own })
            }
            Command::Ledger(answer) => {
                // Who asked may be gone.
                let _ = answer.send(Box::new(self.replica.ledger().clone()));
                None
            }
            Command::Recovery(step, answer) => {
                // As above.
                let _ = answer.send(self.recovery(step));
                None
            }
            Command::PeerUp(key) => home_of(&key).map(Input::PeerUp),
            Command::PeerDown(key) => home_of(&key).map(Input::PeerDown),
            Command::Followed(_) | Command::Stop => None,
        };
        if let Some(input) = input {
            self.step(input);
        }
    }

    /// Runs the timers that are due, the earliest first.
    fn fire(&mut self) {
        loop {
            let now = Instant::now();
            let due = self.timers.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at);
            let Some(timer) = due.map(|(timer, _)| *timer) else { return };
            self.timers.remove(&timer);
            self.step(Input::Timer(timer));
            if self.shell.halted {
                return;
            }
        }
    }

    /// Who holds all bodies no longer is given no whole blocks, and may not know: where none come for long though others have
    /// them, the node starts anew, and asks.
    fn look_whether_left_behind(&mut self) {
        let (ledger, now) = (self.replica.ledger(), Instant::now());
        if ledger.height() != self.stands.height {
            self.stands = Stands { height: ledger.height(), since: now, others_ahead: false };
        }
        self.stands.others_ahead |= self.replica.is_syncing();
        let home = &self.shell.parts.home;
        let may_have_ceased = may_cease(ledger, home);
        let for_long = now.duration_since(self.stands.since) > LEFT_BEHIND;
        if may_have_ceased && self.stands.others_ahead && for_long {
            self.shell.end_for_role(false);
        }
    }

    /// Gives back the room of entries that wait no more.
    fn give_room(&mut self) {
        let (waiting, _) = self.replica.own_waiting();
        let free = self.occupied.saturating_sub(waiting);
        self.occupied -= free;
        self.room.fetch_add(free, Ordering::Relaxed);
    }

    /// Hands over what this node has to say of delegates by itself.
    fn say_own(&mut self) {
        for bytes in std::mem::take(&mut self.shell.own) {
            if !self.shell.halted {
                self.step(Input::Entry { bytes, origin: Origin::Own });
            }
        }
    }

    fn now(&self) -> Now {
        let wall_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { market: self.shell.parts.clock.market(), wall_ms }
    }

    /// Tells the replica whether this node knows what time it is: who does not, does not vote. The answer asks the file
    /// system, so it is not asked for at every input.
    fn judge_clock(&mut self) {
        if self.clock_judged.is_none_or(|judged| judged.elapsed() >= CLOCK_EVERY) {
            self.clock_judged = Some(Instant::now());
            let trusted = self.shell.parts.clock.quality() != ClockQuality::Unsynced;
            self.replica.trust_clock(trusted);
        }
    }

    fn step(&mut self, input: Input) {
        self.judge_clock();
        for effect in self.replica.step(self.now(), input) {
            if let Err(error) = self.carry_out(effect) {
                // What the disk holds is not known any more: saying anything now could contradict it.
                self.shell.halt(format!("{:#}", anyhow::Error::from(error)));
            }
            if self.shell.halted {
                return;
            }
        }
        if let Some(number) = self.recovered.take() {
            self.end_for_recovery(number);
        }
    }

    /// Everything that signs in this node signs for the chain as it was. So the engine ends here, before it refuses what they
    /// say, and the node starts anew.
    fn end_for_recovery(&mut self, number: u32) {
        tracing::warn!(home = %self.shell.parts.home, number, "the chain is recovered; this node starts anew on it");
        self.shell.halted = true;
        self.shell.progress.send_modify(|progress| progress.recovered = Some(number));
    }

    /// Does what a person asks for in a recovery.
    fn recovery(&mut self, step: recovery::Step) -> Result<Vec<u8>, recovery::Refusal> {
        let ledger = self.replica.ledger().clone();
        let now = self.shell.parts.clock.market();
        if self.replica.is_syncing() {
            return Err(recovery::Refusal::NotNow(
                "the node is still fetching blocks; try again when it has them",
            ));
        }
        match step {
            recovery::Step::Offer(number) => {
                let number = recovery::number_of(&ledger, number)?;
                let Some((offer, key)) = self.shell.parts.terms.offer(&ledger, number)? else {
                    return Err(recovery::Refusal::NotNow("the keys of the coming term are not there"));
                };
                if self.shell.known_term_keys.insert(PublicKey::of(&key)) {
                    self.replica.learn_term_key(key);
                }
                Ok(offer.to_bytes())
            }
            recovery::Step::Propose(number, offers) => {
                let number = recovery::number_of(&ledger, number)?;
                let certificate = self.shell.parts.db.last_certificate().ok().flatten();
                let block = recovery::propose(&ledger, certificate.as_ref(), (number, now), offers)?;
                Ok(block.to_bytes())
            }
            recovery::Step::Attest(bytes) => {
                let (key, promises) = (self.shell.parts.terms.member(), &mut self.promises);
                let block = recovery::attest(&ledger, &bytes, now, promises, key)?;
                self.replica.promise(self.promises.number());
                Ok(block.to_bytes())
            }
            recovery::Step::Publish(bytes) => {
                let block = recovery::is_ready(&ledger, &bytes)?;
                self.step(Input::Recover(bytes));
                Ok(block.id().to_bytes())
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), StoreError> {
        match effect {
            Effect::AppendLog(record) => self.log.append(&record)?,
            Effect::SyncLog => self.log.sync()?,
            Effect::TrimLog(kept) => self.log.trim(&kept)?,
            Effect::SendTo { to, bytes } => self.shell.send(&to, bytes),
            Effect::ToDelegates(bytes) => self.shell.to_delegates(self.replica.ledger(), &bytes),
            Effect::GossipEntries(bytes) => self.shell.gossip(Topic::Entries, bytes),
            Effect::GossipFinal(bytes) => self.shell.gossip(Topic::Finals, bytes),
            Effect::SetTimer { timer, after_ms } => {
                self.timers.insert(timer, Instant::now() + Duration::from_millis(after_ms));
            }
            Effect::ClearTimer(timer) => {
                self.timers.remove(&timer);
            }
            Effect::Commit(commit) => self.commit(&commit)?,
            Effect::ServeBlocks { to, from_height, max_bytes } => self.serve(&to, from_height, max_bytes),
            Effect::Refused { entry, reason, origin } => self.refused(entry, &reason, &origin),
            Effect::Blame { peer, what } => self.blame(&peer, what),
            Effect::Evidence(evidence) => self.report(&evidence),
            Effect::Halt { reason } => self.shell.halt(reason),
            Effect::Note { text } => {
                tracing::info!(home = %self.shell.parts.home, "{text}");
                self.shell.parts.live.note(self.replica.height().saturating_add(1), text);
            }
        }
        Ok(())
    }

    /// Stores the block; then tells everybody who waits for it.
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let Commit { executed, certificate, finality_ms } = commit;
        let (header, ledger) = (&executed.block.header, &executed.ledger);
        #[cfg(debug_assertions)]
        abort_if_asked(header.height);
        if !self.shell.is_vouched_for(header.height, header.id()) {
            return Ok(());
        }
        self.shell.parts.db.commit(executed, certificate, *finality_ms, unix_ms())?;
        let fresh = !self.replica.is_syncing();
        self.shell.parts.clock.saw_block(header.time, fresh);
        if executed.block.entries.iter().any(|entry| changes_members(&entry.entry().body)) {
            self.shell.know_members(ledger);
        }
        self.shell.let_go();
        let stored = stored_of(commit);
        self.shell.tell_fates(&stored, ledger);
        self.shell.tell_of_meter(&stored, ledger);
        self.shell.publish(&stored);
        self.shell.show(ledger, self.replica.is_syncing());
        self.shell.raise_alarm(ledger);
        if ledger.is_recovered() {
            self.recovered = Some(ledger.chain().recovery);
        }
        self.take_part(ledger, fresh)?;
        if fresh && self.recovered.is_none() && !ledger.holds_bodies(&self.shell.parts.home) {
            self.shell.end_for_role(false);
        }
        Ok(())
    }

    /// Brings what is shown up to date with what is stored: the replica itself may be blocks ahead.
    fn show(&self) {
        self.shell.show(self.replica.ledger(), self.replica.is_syncing());
    }

    fn take_part(&mut self, ledger: &Ledger, fresh: bool) -> Result<(), StoreError> {
        if let Some(key) = self.shell.take_part(ledger, fresh)? {
            self.replica.learn_term_key(key);
        }
        if fresh {
            let (terms, founders) = (&self.shell.parts.terms, &ledger.genesis_terms().delegates);
            let is_founding = |key: &PublicKey| founders.iter().any(|founder| founder.key == *key);
            let founding = ledger.last_delegates().term() == 0;
            self.replica.forget_term_keys(|key| terms.holds(key) || (founding && is_founding(key)));
        }
        Ok(())
    }

    fn blame(&self, peer: &HomeId, what: Blame) {
        let offence = match what {
            Blame::Unreadable => Offence::Unreadable,
            Blame::Forged => Offence::Forged,
        };
        if let Some(key) = self.shell.members.key_of(peer) {
            self.shell.parts.network.charge(key, offence);
        }
    }

    /// A delegate contradicted itself: that is put before the community.
    fn report(&mut self, evidence: &Evidence) {
        tracing::error!(culprit = %evidence.culprit(), height = evidence.height(), "a delegate contradicted itself");
        match self.shell.parts.terms.report(self.replica.ledger(), evidence) {
            Ok(entry) => self.shell.own.extend(entry),
            Err(error) => tracing::error!(%error, "the evidence cannot be put before the community"),
        }
    }

    /// Somebody's entry was refused; ours is told to who signed it.
    fn refused(&self, id: ledger::EntryId, reason: &str, origin: &Origin) {
        if *origin == Origin::Own {
            self.shell.refused(id, reason, self.replica.ledger());
        } else {
            tracing::debug!(entry = %id, reason, "an entry was refused");
        }
    }

    /// Hands out final blocks to a member that was away, if it may hold all that is in them. One that is damaged is named and not
    /// served, and that is all: what is decided next does not rest on it, and others have it.
    fn serve(&self, to: &HomeId, from_height: u64, max_bytes: u32) {
        let until = self.replica.ledger().holds_until(to);
        if let Some(answer) = blocks_for(&self.shell.parts.db, (from_height, until), max_bytes) {
            self.shell.send(to, answer.to_bytes());
        }
    }
}

/// What of a block is told to others in this node.
fn stored_of(commit: &Commit) -> Stored<'_> {
    let executed = &commit.executed;
    let intervals = executed.outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Interval(interval) => Some(interval),
        _ => None,
    });
    Stored {
        header: &executed.block.header,
        round: commit.certificate.round,
        entry_count: executed.block.entries.len(),
        finality_ms: commit.finality_ms,
        entries: executed.block.entries.iter().collect(),
        intervals: intervals.collect(),
    }
}

const fn changes_members(body: &Body) -> bool {
    matches!(body, Body::Admission(_) | Body::KeyRotation { .. })
}

/// Dies between log and database at the height that a test names; not in release builds.
#[cfg(debug_assertions)]
fn abort_if_asked(height: u64) {
    if std::env::var("COMMONWATT_ABORT_BEFORE_COMMIT").is_ok_and(|asked| asked == height.to_string()) {
        std::process::abort();
    }
}

/// The answer to a member that asks for blocks, if there is one.
fn blocks_for(db: &LedgerDb, (from_height, until): (u64, u64), max_bytes: u32) -> Option<Message> {
    if from_height > until {
        return None;
    }
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX).min(DIRECT_BYTES_MAX - SERVE_ROOM);
    match db.blocks_from(from_height, max_bytes) {
        Ok(mut blocks) => {
            blocks.truncate(SYNC_BLOCKS_MAX);
            blocks.retain(|(_, certificate)| certificate.height <= until);
            (!blocks.is_empty()).then_some(Message::SyncResponse(blocks))
        }
        Err(error) => {
            tracing::error!(%error, "a stored block is not handed out");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;
    use crate::store::fixture::{Street, genesis, home, store};

    #[test]
    fn a_damaged_block_is_not_handed_out_and_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut db = LedgerDb::open(&path, Durability::Full, &genesis(), &home(1)).unwrap();
        store(&mut db, &Street::new().run(2));
        assert!(
            matches!(blocks_for(&db, (3, u64::MAX), u32::MAX), Some(Message::SyncResponse(blocks)) if blocks.len() > 2)
        );
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute("UPDATE block SET entries = x'00' WHERE height = 3", []).unwrap();
        assert_eq!(blocks_for(&db, (3, u64::MAX), u32::MAX), None);
        assert!(matches!(blocks_for(&db, (4, u64::MAX), u32::MAX), Some(Message::SyncResponse(_))));
        let until = blocks_for(&db, (4, 5), u32::MAX);
        assert!(matches!(until, Some(Message::SyncResponse(blocks)) if blocks.len() == 2));
        assert_eq!(blocks_for(&db, (4, 3), u32::MAX), None);
        assert_eq!(blocks_for(&db, (db.last_height() + 1, u64::MAX), u32::MAX), None);
    }
}
