//! The engine: the one thread that owns a node's replica, its ledger database and its consensus log, and carries out what
//! the replica asks for, in order.
//!
//! It is a plain thread and not a task because it waits for the disk: a record is durable before the message that it
//! backs leaves, a block is durable before anything of the next height. Everything else talks to it by one bounded queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::{BlockRow, Event, IntervalRow, Time};
use consensus::message::{Message, SYNC_BLOCKS_MAX};
use consensus::{
    Blame, Commit, Effect, Evidence, Handed, Input, NUMBER_ON_LEDGER, Now, Origin, Replica, Timer,
};
use energy::{ClockQuality, HomeId, Timestamp, midpoint_floor};
use ledger::codec::Encode as _;
use ledger::{Block, Body, EntryId, IntervalOutcome, Ledger, MeterRegistration, Outcome, PublicKey};
use market::Account;
use tokio::sync::{mpsc, oneshot, watch};

use crate::away::{Away, AwayError};
use crate::bill::prepaid::present_price;
use crate::clock::Clock;
use crate::http::{Live, Role, member_of};
use crate::metering::{Fate, OnLedger, registered};
use crate::network::{DIRECT_BYTES_MAX, NetworkHandle, Offence, Topic};
use crate::recovery::{self, Promises};
use crate::store::ledger_db::LedgerDb;
use crate::store::log_file::LogFile;
use crate::store::{Durability, StoreError};
use crate::terms::Terms;

/// What waits for the engine at the most. Beyond it the network's task waits, whose own queues drop what is too much:
/// consensus repeats what matters, and the journal keeps a home's own readings until they are final.
const QUEUE_MAX: usize = 8192;
/// A full queue is looked at again after this long.
const ROOM_CHECK: Duration = Duration::from_millis(2);
/// What an answer of blocks takes besides their bytes.
const SERVE_ROOM: usize = 16_384;
/// A checkpoint that is waited for is looked for so often.
const CHECKPOINT_LOOK: Duration = Duration::from_secs(2);
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
}

/// The way to the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: SyncSender<Command>,
    /// How many own entries the replica still takes.
    room: Arc<AtomicUsize>,
}

impl EngineHandle {
    /// A way to where a test listens.
    #[cfg(test)]
    pub(crate) fn for_test() -> (Self, Receiver<Command>) {
        let (commands, inbox) = sync_channel(QUEUE_MAX);
        (Self { commands, room: Arc::new(AtomicUsize::new(QUEUE_MAX)) }, inbox)
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
    /// The core.
    pub replica: Replica,
    /// Where blocks are kept.
    pub db: LedgerDb,
    /// What the delegate said.
    pub log: LogFile,
    /// The other members.
    pub network: NetworkHandle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is shown.
    pub live: Arc<Live>,
    /// This home.
    pub home: HomeId,
    /// Its keys for terms as a delegate.
    pub terms: Terms,
    /// What this home promised when it attested recoveries of the chain.
    pub promises: Promises,
    /// Where to tell the fate of entries, by the key that signed them.
    pub fates: Vec<(PublicKey, mpsc::Sender<Fate>)>,
    /// Where the monotonic wall clock counts from.
    pub started: Instant,
    /// What it knows of checkpoints.
    pub away: Away,
}

/// The engine.
struct Engine {
    parts: EngineParts,
    timers: BTreeMap<Timer, Instant>,
    members: Members,
    progress: watch::Sender<Progress>,
    /// For each of the keys in `fates`: index after the last interval read and final.
    read_until: Vec<u64>,
    /// How many own entries may still be handed in, for [`EngineHandle::submit`].
    room: Arc<AtomicUsize>,
    /// Entries that were handed in and have not been given back as room yet: taken up since, or waiting in the replica.
    occupied: usize,
    /// How durably blocks are stored.
    durability: Durability,
    /// Entries of its own about delegates, to be handed to the replica once it has said all it has to say.
    own: Vec<Vec<u8>>,
    /// When it was looked at last whether the clock can be trusted.
    clock_judged: Option<Instant>,
    halted: bool,
    /// The number of a recovery that was taken up in this step.
    recovered: Option<u32>,
    /// The accounts exceeded what stands at the bank, after the last block.
    bank_short: bool,
    /// Term keys that the replica has.
    known_term_keys: BTreeSet<PublicKey>,
    /// False once that has failed.
    lets_go: bool,
}

/// How durably a home stores blocks: a follower may lose its last ones to a power cut, it fetches them again. A delegate may
/// not, nor may one that is about to be.
#[must_use]
pub fn durability_of(ledger: &Ledger, home: &HomeId) -> Durability {
    let sets = [ledger.delegates(), ledger.next_delegates()];
    let seated = sets.iter().any(|set| set.of_home(home).is_some());
    if seated { Durability::Full } else { Durability::Normal }
}

/// Starts the engine's thread.
///
/// # Errors
/// If the system gives no thread.
pub fn spawn(
    mut parts: EngineParts,
) -> std::io::Result<(EngineHandle, watch::Receiver<Progress>, JoinHandle<()>)> {
    let (commands, inbox) = sync_channel(QUEUE_MAX);
    let members = Members::of(parts.replica.ledger());
    let (progress, watching) = watch::channel(Progress::default());
    let name = format!("engine-{}", parts.home);
    let read_until = vec![0; parts.fates.len()];
    let durability = durability_of(parts.replica.ledger(), &parts.home);
    let room = Arc::new(AtomicUsize::new(parts.replica.own_waiting().1));
    parts.replica.promise(parts.promises.number());
    let known_term_keys = parts.terms.consensus_keys().iter().map(PublicKey::of).collect();
    let mut engine = Engine {
        parts,
        timers: BTreeMap::new(),
        members,
        progress,
        read_until,
        room: Arc::clone(&room),
        occupied: 0,
        durability,
        own: Vec::new(),
        clock_judged: None,
        halted: false,
        recovered: None,
        known_term_keys,
        bank_short: false,
        lets_go: true,
    };
    let thread = std::thread::Builder::new().name(name).spawn(move || engine.run(&inbox))?;
    Ok((EngineHandle { commands, room }, watching, thread))
}

impl Engine {
    fn run(&mut self, inbox: &Receiver<Command>) {
        self.show(self.parts.replica.ledger());
        let Some(connected) = self.wait_for_checkpoint(inbox).filter(|_| !self.halted) else { return };
        self.step(Input::Start);
        for home in connected {
            self.step(Input::PeerUp(home));
        }
        while !self.halted {
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
        }
        if !self.halted {
            self.step(Input::Stop);
        }
    }

    /// Where the node was away for long it listens to nobody until people vouch for a block. Says who is connected by then;
    /// `None`: told to stop.
    fn wait_for_checkpoint(&mut self, inbox: &Receiver<Command>) -> Option<BTreeSet<HomeId>> {
        let mut connected = BTreeSet::new();
        if let Some(reason) = self.parts.away.waits() {
            tracing::error!(home = %self.parts.home, reason, "the node waits");
        }
        while !self.parts.away.look(self.parts.clock.market()) {
            match inbox.recv_timeout(CHECKPOINT_LOOK) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(Command::PeerUp(key)) => connected.extend(self.members.home_of(&key)),
                Ok(Command::PeerDown(key)) => {
                    if let Some(home) = self.members.home_of(&key) {
                        connected.remove(&home);
                    }
                }
                Ok(Command::Ledger(answer)) => self.take(Command::Ledger(answer)),
                Ok(Command::Recovery(_, answer)) => {
                    // Who does not know where the chain stands attests nothing; nobody may wait for the answer any more.
                    drop(answer.send(Err(recovery::Refusal::NotNow("the node waits for a checkpoint"))));
                }
                Ok(
                    Command::Message { .. }
                    | Command::Gossip { .. }
                    | Command::Entries { .. }
                    | Command::Submit(_),
                )
                | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        if let Err(error) = self.holds_checkpoint() {
            self.halt(error.to_string());
        }
        self.show(self.parts.replica.ledger());
        Some(connected)
    }

    /// That the block stored at the height of the checkpoint is the one vouched for.
    fn holds_checkpoint(&self) -> Result<(), AwayError> {
        let Some(height) = self.parts.away.checkpoint().map(|checkpoint| checkpoint.height) else {
            return Ok(());
        };
        match self.parts.db.id_at(height) {
            Ok(Some(found)) => self.parts.away.contradicts(height, found).map_or(Ok(()), Err),
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "the block of the checkpoint cannot be read");
                Ok(())
            }
        }
    }

    fn take(&mut self, command: Command) {
        let home_of = |key| self.members.home_of(key);
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
                let _ = answer.send(Box::new(self.parts.replica.ledger().clone()));
                None
            }
            Command::Recovery(step, answer) => {
                // As above.
                let _ = answer.send(self.recovery(step));
                None
            }
            Command::PeerUp(key) => home_of(&key).map(Input::PeerUp),
            Command::PeerDown(key) => home_of(&key).map(Input::PeerDown),
            Command::Stop => None,
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
            if self.halted {
                return;
            }
        }
    }

    /// Gives back the room of entries that wait no more.
    fn give_room(&mut self) {
        let (waiting, _) = self.parts.replica.own_waiting();
        let free = self.occupied.saturating_sub(waiting);
        self.occupied -= free;
        self.room.fetch_add(free, Ordering::Relaxed);
    }

    /// Hands over what this node has to say of delegates by itself.
    fn say_own(&mut self) {
        for bytes in std::mem::take(&mut self.own) {
            if !self.halted {
                self.step(Input::Entry { bytes, origin: Origin::Own });
            }
        }
    }

    fn now(&self) -> Now {
        let wall_ms = u64::try_from(self.parts.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { market: self.parts.clock.market(), wall_ms }
    }

    /// Tells the replica whether this node knows what time it is: who does not, does not vote. The answer asks the file
    /// system, so it is not asked for at every input.
    fn judge_clock(&mut self) {
        if self.clock_judged.is_none_or(|judged| judged.elapsed() >= CLOCK_EVERY) {
            self.clock_judged = Some(Instant::now());
            let trusted = self.parts.clock.quality() != ClockQuality::Unsynced;
            self.parts.replica.trust_clock(trusted);
        }
    }

    fn step(&mut self, input: Input) {
        self.judge_clock();
        for effect in self.parts.replica.step(self.now(), input) {
            if let Err(error) = self.carry_out(effect) {
                // What the disk holds is not known any more: saying anything now could contradict it.
                self.halt(format!("{:#}", anyhow::Error::from(error)));
            }
            if self.halted {
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
        tracing::warn!(home = %self.parts.home, number, "the chain is recovered; this node starts anew on it");
        self.halted = true;
        self.progress.send_modify(|progress| progress.recovered = Some(number));
    }

    /// Does what a person asks for in a recovery.
    fn recovery(&mut self, step: recovery::Step) -> Result<Vec<u8>, recovery::Refusal> {
        let ledger = self.parts.replica.ledger().clone();
        let now = self.parts.clock.market();
        if self.parts.replica.is_syncing() {
            return Err(recovery::Refusal::NotNow(
                "the node is still fetching blocks; try again when it has them",
            ));
        }
        match step {
            recovery::Step::Offer(number) => {
                let number = recovery::number_of(&ledger, number)?;
                let Some((offer, key)) = self.parts.terms.offer(&ledger, number)? else {
                    return Err(recovery::Refusal::NotNow("the keys of the coming term are not there"));
                };
                if self.known_term_keys.insert(PublicKey::of(&key)) {
                    self.parts.replica.learn_term_key(key);
                }
                Ok(offer.to_bytes())
            }
            recovery::Step::Propose(number, offers) => {
                let number = recovery::number_of(&ledger, number)?;
                let certificate = self.parts.db.last_certificate().ok().flatten();
                let block = recovery::propose(&ledger, certificate.as_ref(), (number, now), offers)?;
                Ok(block.to_bytes())
            }
            recovery::Step::Attest(bytes) => {
                let (key, promises) = (self.parts.terms.member(), &mut self.parts.promises);
                let block = recovery::attest(&ledger, &bytes, now, promises, key)?;
                self.parts.replica.promise(self.parts.promises.number());
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
            Effect::AppendLog(record) => self.parts.log.append(&record)?,
            Effect::SyncLog => self.parts.log.sync()?,
            Effect::TrimLog(kept) => self.parts.log.trim(&kept)?,
            Effect::SendTo { to, bytes } => self.send(&to, bytes),
            Effect::ToDelegates(bytes) => self.to_delegates(&bytes),
            Effect::GossipEntries(bytes) => self.gossip(Topic::Entries, bytes),
            Effect::GossipFinal(bytes) => self.gossip(Topic::Finals, bytes),
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
            Effect::Halt { reason } => self.halt(reason),
            Effect::Note { text } => {
                tracing::info!(home = %self.parts.home, "{text}");
                self.parts.live.note(self.parts.replica.height().saturating_add(1), text);
            }
        }
        Ok(())
    }

    /// Stores the block; then tells everybody who waits for it.
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        #[cfg(debug_assertions)]
        abort_if_asked(commit.executed.block.header.height);
        let header = &commit.executed.block.header;
        if let Some(error) = self.parts.away.contradicts(header.height, header.id()) {
            self.halt(error.to_string());
            return Ok(());
        }
        let wall_ms = self.unix_ms();
        self.parts.db.commit(&commit.executed, &commit.certificate, commit.finality_ms, wall_ms)?;
        let block = &commit.executed.block;
        let fresh = !self.parts.replica.is_syncing();
        self.parts.clock.saw_block(block.header.time, fresh);
        if block.entries.iter().any(|entry| changes_members(&entry.entry().body)) {
            self.members = Members::of(&commit.executed.ledger);
            self.parts.network.set_members(self.members.keys());
        }
        self.let_go();
        self.tell_fates(block, &commit.executed.ledger);
        self.tell_of_meter(block, &commit.executed.ledger);
        self.publish(commit);
        self.raise_alarm(&commit.executed.ledger);
        if commit.executed.ledger.is_recovered() {
            self.recovered = Some(commit.executed.ledger.chain().recovery);
        }
        self.take_part(&commit.executed.ledger, fresh)
    }

    /// Calls people once when the accounts begin to exceed what stands at the bank, and once when that is over.
    fn raise_alarm(&mut self, ledger: &Ledger) {
        let short = ledger.bank_shortfall();
        match (short, self.bank_short) {
            (Some(short), false) => tracing::error!(
                %short,
                "the accounts add up to more than the bank holds by the last attestation: nothing is paid out"
            ),
            (None, true) => tracing::info!("the bank holds again what the accounts add up to"),
            _ => {}
        }
        self.bank_short = short.is_some();
    }

    /// Lets go of a little of what is old. A block that is damaged is named once, and nothing is let go of from then on: the
    /// chain goes on without that.
    fn let_go(&mut self) {
        if !self.lets_go {
            return;
        }
        if let Err(error) = self.parts.db.prune() {
            tracing::error!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "old blocks are not let go of"
            );
            self.lets_go = false;
        }
    }

    /// What a home does about delegates after a block: it stores more durably where it becomes one, stands for the coming term,
    /// and destroys the keys of past ones. A key that cannot be made or destroyed now is tried again after the next block.
    fn take_part(&mut self, ledger: &Ledger, fresh: bool) -> Result<(), StoreError> {
        let durability = durability_of(ledger, &self.parts.home);
        if durability != self.durability {
            self.parts.db.set_durability(durability)?;
            self.durability = durability;
        }
        if !fresh {
            return Ok(());
        }
        match self.parts.terms.after_block(ledger) {
            Ok(steps) => {
                if let Some(key) = steps.new_key
                    && self.known_term_keys.insert(PublicKey::of(&key))
                {
                    self.parts.replica.learn_term_key(key);
                }
                self.own.extend(steps.entries);
            }
            Err(error) => tracing::error!(%error, "this node cannot stand as a delegate"),
        }
        let (terms, founders) = (&self.parts.terms, &ledger.genesis_terms().delegates);
        let is_founding = |key: &PublicKey| founders.iter().any(|founder| founder.key == *key);
        let founding = ledger.last_delegates().term() == 0;
        self.parts.replica.forget_term_keys(|key| terms.holds(key) || (founding && is_founding(key)));
        Ok(())
    }

    fn blame(&self, peer: &HomeId, what: Blame) {
        let offence = match what {
            Blame::Unreadable => Offence::Unreadable,
            Blame::Forged => Offence::Forged,
        };
        if let Some(key) = self.members.key_of(peer) {
            self.parts.network.charge(key, offence);
        }
    }

    /// A delegate contradicted itself: that is put before the community.
    fn report(&mut self, evidence: &Evidence) {
        tracing::error!(culprit = %evidence.culprit(), height = evidence.height(), "a delegate contradicted itself");
        match self.parts.terms.report(self.parts.replica.ledger(), evidence) {
            Ok(entry) => self.own.extend(entry),
            Err(error) => tracing::error!(%error, "the evidence cannot be put before the community"),
        }
    }

    /// Tells the meters' tasks which of their entries are final.
    fn tell_fates(&mut self, block: &Block, ledger: &Ledger) {
        for (position, (key, fates)) in self.parts.fates.iter().enumerate() {
            let own = block.entries.iter().filter(|entry| entry.entry().signer == *key);
            let mut ids = Vec::new();
            for entry in own {
                ids.push(entry.id());
                if let (Body::Reading { reading, .. }, Some(until)) =
                    (&entry.entry().body, self.read_until.get_mut(position))
                {
                    *until = (*until).max(reading.interval.index().saturating_add(1));
                }
            }
            if !ids.is_empty() {
                let on_ledger = OnLedger::of(ledger, &self.parts.home, key);
                let fate = Fate::Final { height: block.header.height, ids, on_ledger };
                if fates.try_send(fate).is_err() {
                    tracing::debug!("the meter's task is busy; its journal hears of it when it asks again");
                }
            }
        }
    }

    /// Tells the tasks of the home's meter and of the root meter of the meters that were registered for them.
    fn tell_of_meter(&self, block: &Block, ledger: &Ledger) {
        for entry in &block.entries {
            let home = match &entry.entry().body {
                Body::MeterRegistration { home, .. } => home.as_ref(),
                Body::Admission(admission) => Some(&admission.home),
                _ => continue,
            };
            let (key, meter) = match home {
                Some(home) if *home == self.parts.home => {
                    let Some(member) = ledger.member(home) else { continue };
                    (member.admission.keys.reading, &member.admission.meter)
                }
                Some(_) => continue,
                None => {
                    let (Some(root), Some(meter)) = (&ledger.genesis_terms().root_meter, ledger.root_meter())
                    else {
                        continue;
                    };
                    (root.key, meter)
                }
            };
            self.tell_registered(key, meter);
        }
    }

    fn tell_registered(&self, key: PublicKey, meter: &MeterRegistration) {
        let fates = &self.parts.fates;
        for (_, fates) in fates.iter().filter(|(reading, _)| *reading == key) {
            if fates.try_send(Fate::Registered(registered(meter))).is_err() {
                tracing::warn!(
                    "the meter's task is busy; restart the node to read the newly registered meter"
                );
            }
        }
    }

    /// Shows the block and what it settled.
    fn publish(&self, commit: &Commit) {
        let (block, live) = (&commit.executed.block, &self.parts.live);
        live.publish(Event::Block(BlockRow {
            height: block.header.height,
            id: block.id().to_string(),
            time: Time(block.header.time),
            round: commit.certificate.round,
            entries: u32::try_from(block.entries.len()).unwrap_or(u32::MAX),
            finality_ms: commit.finality_ms,
        }));
        for outcome in &commit.executed.outcomes {
            if let Outcome::Interval(interval) = outcome {
                live.publish(Event::Interval(interval_row(interval, block)));
            }
        }
        self.show(&commit.executed.ledger);
    }

    /// Brings what is shown and waited for up to date with what is stored: the replica itself may be blocks ahead.
    fn show(&self, ledger: &Ledger) {
        let (home, live) = (&self.parts.home, &self.parts.live);
        let account = Account::Home(home.clone());
        live.set_obligations(ledger.claim(&account, &Account::Supplier).get(), ledger.reserved(home).get());
        live.set_import_price(present_price(ledger, home));
        let waiting = self.waiting(ledger);
        let checkpoint = self.parts.away.checkpoint().map(|checkpoint| checkpoint.height);
        live.set_waiting(waiting.clone(), checkpoint);
        live.set_member(member_of(ledger, home));
        live.set_ledger(ledger.clone());
        live.set_role(Role {
            delegate: ledger.delegates().of_home(home).is_some(),
            delegates: u32::try_from(ledger.delegates().len()).unwrap_or(u32::MAX),
            syncing: self.parts.replica.is_syncing(),
        });
        self.progress.send_replace(Progress {
            height: ledger.height(),
            head_time: ledger.head_time(),
            next_to_settle: ledger.next_to_settle().index(),
            next_deadline: ledger.next_deadline(),
            next_gate: ledger.next_gate().index(),
            read_until: self.read_until.iter().copied().min().unwrap_or(u64::MAX),
            waiting,
            halted: None,
            recovered: None,
        });
    }

    /// Why this node takes no part at present, where it does not.
    fn waiting(&self, ledger: &Ledger) -> Option<String> {
        let update = |needed: u16| {
            format!(
                "the community went over to rules {needed}, and this program has rules up to {}: update it. The meter is read on, \
                 and its readings wait in the journal",
                ledger.known_rules()
            )
        };
        self.parts.away.waits().or_else(|| ledger.unknown_rules().map(update))
    }

    /// An entry of ours can never stand on the ledger, or somebody else's was refused.
    fn refused(&self, id: EntryId, reason: &str, origin: &Origin) {
        if *origin != Origin::Own {
            tracing::debug!(entry = %id, reason, "an entry was refused");
            return;
        }
        // A number that is taken up means no harm: most likely the entry itself is final.
        if reason != NUMBER_ON_LEDGER {
            tracing::error!(entry = %id, reason, "the ledger refused an entry of ours");
        }
        for (key, fates) in &self.parts.fates {
            let on_ledger = OnLedger::of(self.parts.replica.ledger(), &self.parts.home, key);
            if fates.try_send(Fate::Refused { id, reason: reason.to_owned(), on_ledger }).is_err() {
                tracing::debug!("the meter's task is busy; its journal hears of it when it asks again");
            }
        }
    }

    /// Hands out final blocks to a member that was away. One that is damaged is named and not served, and that is all:
    /// what is decided next does not rest on it, and others have it.
    fn serve(&self, to: &HomeId, from_height: u64, max_bytes: u32) {
        if let Some(answer) = blocks_for(&self.parts.db, from_height, max_bytes) {
            self.send(to, answer.to_bytes());
        }
    }

    fn send(&self, to: &HomeId, bytes: Vec<u8>) {
        let Some(key) = self.members.key_of(to) else { return };
        if !self.parts.network.try_send(key, bytes) {
            tracing::trace!(%to, "a message was not sent; what matters is repeated");
        }
    }

    fn to_delegates(&self, bytes: &[u8]) {
        let shared = bytes::Bytes::copy_from_slice(bytes);
        let ledger = self.parts.replica.ledger();
        let sets = [ledger.delegates(), ledger.next_delegates()];
        let homes: BTreeSet<&HomeId> =
            sets.iter().flat_map(|set| set.as_slice()).map(|seat| &seat.home).collect();
        for home in homes.into_iter().filter(|home| **home != self.parts.home) {
            let Some(key) = self.members.key_of(home) else { continue };
            if !self.parts.network.try_send(key, shared.clone()) {
                tracing::trace!(to = %home, "a message was not sent; what matters is repeated");
            }
        }
    }

    fn gossip(&self, topic: Topic, bytes: Vec<u8>) {
        if !self.parts.network.try_gossip(topic, bytes) {
            tracing::trace!(?topic, "nothing was gossiped; what matters is repeated");
        }
    }

    fn halt(&mut self, reason: String) {
        tracing::error!(home = %self.parts.home, reason, "the node stops; what its meter showed and nobody has yet stays in its journal");
        self.halted = true;
        self.progress.send_modify(|progress| progress.halted = Some(reason));
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "when a block was decided is noted for people, in wall time"
    )]
    fn unix_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Dies between log and database at the height that a test names; not in release builds.
#[cfg(debug_assertions)]
fn abort_if_asked(height: u64) {
    if std::env::var("COMMONWATT_ABORT_BEFORE_COMMIT").is_ok_and(|asked| asked == height.to_string()) {
        std::process::abort();
    }
}

/// Who the members are, by network key and by home.
struct Members {
    by_key: BTreeMap<PublicKey, HomeId>,
    by_home: BTreeMap<HomeId, PublicKey>,
}

impl Members {
    fn of(ledger: &Ledger) -> Self {
        let pairs = ledger.members();
        let keys = || pairs.iter().map(|(home, member)| ((*home).clone(), member.admission.keys.network));
        Self { by_key: keys().map(|(home, key)| (key, home)).collect(), by_home: keys().collect() }
    }

    fn home_of(&self, key: &PublicKey) -> Option<HomeId> {
        self.by_key.get(key).cloned()
    }

    fn key_of(&self, home: &HomeId) -> Option<PublicKey> {
        self.by_home.get(home).copied()
    }

    fn keys(&self) -> Vec<PublicKey> {
        self.by_key.keys().copied().collect()
    }
}

/// The answer to a member that asks for blocks, if there is one.
fn blocks_for(db: &LedgerDb, from_height: u64, max_bytes: u32) -> Option<Message> {
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX).min(DIRECT_BYTES_MAX - SERVE_ROOM);
    match db.blocks_from(from_height, max_bytes) {
        Ok(mut blocks) => {
            blocks.truncate(SYNC_BLOCKS_MAX);
            (!blocks.is_empty()).then_some(Message::SyncResponse(blocks))
        }
        Err(error) => {
            tracing::error!(%error, "a stored block is not handed out");
            None
        }
    }
}

const fn changes_members(body: &Body) -> bool {
    matches!(body, Body::Admission(_) | Body::KeyRotation { .. })
}

fn interval_row(interval: &IntervalOutcome, block: &Block) -> IntervalRow {
    let tariff = interval.tariff;
    IntervalRow {
        start: Time(interval.interval.start()),
        import_price: tariff.import_price.get(),
        export_price: tariff.export_price.get(),
        local_price: midpoint_floor(tariff.import_price, tariff.export_price).get(),
        matched_wh: Some(interval.matched.get()),
        supplier_import_wh: Some(interval.supplier_import.get()),
        supplier_export_wh: Some(interval.supplier_export.get()),
        losses_wh: interval.losses,
        homes: interval.homes,
        missing: interval.missing,
        height: block.header.height,
        settled_at: Time(block.header.time),
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
            matches!(blocks_for(&db, 3, u32::MAX), Some(Message::SyncResponse(blocks)) if blocks.len() > 2)
        );
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute("UPDATE block SET entries = x'00' WHERE height = 3", []).unwrap();
        assert_eq!(blocks_for(&db, 3, u32::MAX), None);
        assert!(matches!(blocks_for(&db, 4, u32::MAX), Some(Message::SyncResponse(_))));
        assert_eq!(blocks_for(&db, db.last_height() + 1, u32::MAX), None);
    }
}
