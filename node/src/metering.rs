//! From the meter to the ledger: reads the registers at each interval's end and every few seconds between, signs what
//! they say, keeps it in the home's own journal, and hands it to the engine until it is final.

mod live;
mod memory_file;
mod trouble;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use consensus::NUMBER_ON_LEDGER;
use ed25519_dalek::SigningKey;
use energy::{ClockQuality, HomeId, Interval, Mtu, Quality, Reading, TakenAt};
use ledger::{
    Body, Chain, Entry, EntryId, Ledger, MeterRegistration, PublicKey, Salt, Stream, VerifiedEntry,
    reading_hash,
};
use meter::{
    BoundaryError, BoundaryTracker, Condition, Counted, CounterLimits, EnergySample, Hold, LastRecord, Meter,
    Observation, RegisteredMeter, TrackerConfig, Watch,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, sleep};

use crate::assurance::Gatherer;
use crate::clock::Clock;
use crate::engine::EngineHandle;
use crate::http::Live;
use crate::identity::{IdentityError, fresh_salt};
use crate::meters::{MeterPanel, Place};
use crate::store::StoreError;
use crate::store::journal::{Journal, NextReading};
use memory_file::MemoryFile;
use trouble::{Board, Trouble};

/// How long one attempt to read the energy block may take.
const READ_DEADLINE: Duration = Duration::from_millis(1_500);
/// Pause between two attempts at one boundary.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Pause before a suspicious register is read again at a boundary, on a connection made for it.
const RECHECK_AFTER: Duration = Duration::from_millis(400);
/// How often the registers are read between boundaries: what a counter showed last before it was reset is known to this.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// So close to a boundary nothing else is read: the boundary must not wait.
const BOUNDARY_NEAR: Duration = Duration::from_secs(3);
/// Intervals in a row in which registers and power must contradict each other before it is shown.
const MISMATCHES_SHOWN: u32 = 2;
/// A held or adjusted clock is looked at again after this long.
const CLOCK_CHECK: Duration = Duration::from_millis(200);
/// Entries not final yet that are handed to the engine at one time.
const RESUBMIT_MAX: u32 = 1000;
/// How often what is not final is handed to the engine again: it may have had too much to do the first time.
const RESUBMIT_EVERY: Duration = Duration::from_secs(60);

/// Why readings cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum MeteringError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] StoreError),
    /// The system gives no random bytes.
    #[error(transparent)]
    Randomness(#[from] IdentityError),
}

/// What of one meter's readings the ledger holds: the journal goes on from there, also one that was lost or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnLedger {
    /// The largest number its key has used for readings; 0 for none.
    pub number: u64,
    /// The largest number its key has used for what is neither reading nor order; 0 for none.
    pub rest_number: u64,
    /// Number and hash of its last record.
    pub record: Option<(u64, [u8; 32])>,
}

impl OnLedger {
    /// Of the meter whose readings `key` signs: that of `home`, else the root meter.
    #[must_use]
    pub fn of(ledger: &Ledger, home: &HomeId, key: &PublicKey) -> Self {
        let member = ledger.member(home).filter(|member| member.admission.keys.reading == *key);
        let record = member.map_or_else(|| ledger.root_record(), |member| member.last_record);
        let last_number = |stream| ledger.last_number(key, stream);
        Self { number: last_number(Stream::Readings), rest_number: last_number(Stream::Rest), record }
    }
}

/// What the engine tells the meter's task about its entries.
#[derive(Debug)]
pub enum Fate {
    /// They stand in the final block at this height.
    Final {
        /// The block's height.
        height: u64,
        /// All entries of the block that a key of this home signed.
        ids: Vec<EntryId>,
        /// What the ledger holds after it.
        on_ledger: OnLedger,
    },
    /// Another meter, or the same one anew, is registered for the home from the next reading on.
    Registered(RegisteredMeter),
    /// The ledger can never take it.
    Refused {
        /// The entry.
        id: EntryId,
        /// Why.
        reason: String,
        /// What the ledger holds instead.
        on_ledger: OnLedger,
    },
}

/// Whose meter it is.
#[derive(Debug, Clone)]
pub struct MeterOwner {
    /// The home; `None` for the root meter.
    pub home: Option<HomeId>,
    /// Key that signs its readings.
    pub key: SigningKey,
    /// The meter that the ledger takes readings of; `None` if it knows none yet.
    pub registered: Option<RegisteredMeter>,
}

/// The task that turns one meter into signed readings.
pub struct Metering {
    owner: MeterOwner,
    chain: Chain,
    mtu: Mtu,
    clock: Arc<dyn Clock>,
    meter: Meter,
    journal: Journal,
    tracker: BoundaryTracker,
    memory: MemoryFile,
    watch: Arc<Mutex<Watch>>,
    live_every: Duration,
    /// The registers as read last, whether or not they are believed.
    counted: Option<Counted>,
    mismatches: u32,
    trouble: Trouble,
    board: Board,
    engine: EngineHandle,
    shown: Option<Shown>,
    gatherer: Option<Gatherer>,
    boot: (Instant, [u8; 16]),
}

/// What a meter's task works with.
pub struct MeteringParts {
    /// Whose meter.
    pub owner: MeterOwner,
    /// Chain the readings are for.
    pub chain: Chain,
    /// Length of an interval.
    pub mtu: Mtu,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The device.
    pub meter: Meter,
    /// What is declared about it; the clock's speed is taken from `clock`.
    pub limits: CounterLimits,
    /// How often momentary power is read for showing.
    pub live_every: Duration,
    /// Where to submit.
    pub engine: EngineHandle,
    /// Where what the meter says is shown.
    pub shown: Option<Shown>,
    /// What gathers evidence from it besides.
    pub gatherer: Option<Gatherer>,
}

/// Where a meter is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The node at a glance, for the meter of the home itself.
    pub live: Option<Arc<Live>>,
    /// All meters that this node reads.
    pub panel: Arc<MeterPanel>,
    /// Its place among them.
    pub place: Place,
}

/// What came of looking at the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// They are believed.
    Good,
    /// The meter did not answer, or was never seen before: looking again at once may help.
    Nothing,
    /// They are suspicious: looking again on a connection made for it may help.
    Suspect,
    /// Nothing is published for now, however often one looks.
    Held,
}

impl Metering {
    /// Opens the journal at `path` and takes up where it ended.
    ///
    /// # Errors
    /// [`MeteringError`].
    pub fn open(parts: MeteringParts, path: &Path) -> Result<Self, MeteringError> {
        let MeteringParts { owner, chain, mtu, clock, meter, limits, live_every, engine, shown, gatherer } =
            parts;
        let mut journal = Journal::open(path, &chain)?;
        let anew = journal.sign_anew(&owner.key)?;
        if anew > 0 {
            tracing::info!(entries = anew, "what waits is signed anew for the recovered chain");
        }
        let last = journal.last()?.as_ref().map(last_record);
        // Registers that replay a day in minutes move by leaps: a late look at them is no contradiction.
        let power_max_w = limits.power_max_w.filter(|_| clock.speed() == 1);
        let limits = CounterLimits { power_max_w, speed: clock.speed() };
        let config = TrackerConfig { registered: owner.registered.clone(), mtu, limits };
        let memory = MemoryFile::beside(path);
        let tracker = BoundaryTracker::resume(config, last, memory.load());
        let Salt(boot_id) = fresh_salt()?;
        let board = Board::new(label_of(&owner).to_owned(), shown.clone());
        Ok(Self {
            owner,
            chain,
            mtu,
            clock,
            meter,
            journal,
            tracker,
            memory,
            watch: Arc::new(Mutex::new(Watch::new(live_every))),
            counted: None,
            mismatches: 0,
            trouble: Trouble::default(),
            board,
            engine,
            live_every,
            shown,
            gatherer,
            boot: (Instant::now(), boot_id),
        })
    }

    /// What the ledger already knows of this home is not used twice, even by a journal that was lost.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn catch_up(&mut self, on_ledger: OnLedger) -> Result<(), StoreError> {
        self.follow(on_ledger)?;
        self.resubmit()
    }

    fn follow(&mut self, on_ledger: OnLedger) -> Result<(), StoreError> {
        self.journal.skip_numbers(Stream::Readings, on_ledger.number)?;
        self.journal.skip_numbers(Stream::Rest, on_ledger.rest_number)?;
        match on_ledger.record {
            Some((number, hash)) => self.journal.continue_after(number, hash),
            None => Ok(()),
        }
    }

    /// Hands the oldest entries that are not final to the engine, which knows those it has already.
    fn resubmit(&self) -> Result<(), StoreError> {
        for (_, bytes) in self.journal.unconfirmed(RESUBMIT_MAX)? {
            if !self.engine.submit(bytes) {
                break;
            }
        }
        Ok(())
    }

    /// Starts its task, which runs until the engine is gone or the node stops. One that breaks off is told: nothing is
    /// read for the ledger any more.
    pub fn spawn(self, fates: mpsc::Receiver<Fate>, besides: mpsc::Receiver<Body>) {
        let (board, label) = (self.board.clone(), self.label().to_owned());
        let task = tokio::spawn(self.run(fates, besides));
        tokio::spawn(tell_if_broken(task, board, label));
    }

    /// Runs until the engine is gone or the node stops. `besides` brings what else this meter's key is to sign.
    pub async fn run(mut self, mut fates: mpsc::Receiver<Fate>, mut besides: mpsc::Receiver<Body>) {
        if let Some(shown) = self.shown.clone() {
            let gatherer = self.gatherer.take();
            let (meter, watch) = (self.meter.clone(), Arc::clone(&self.watch));
            let to = live::Sinks { shown, board: self.board.clone(), watch, gatherer };
            tokio::spawn(live::show_power(meter, self.live_every, to));
        }
        let (mut resubmit, mut sample) = (skipping(RESUBMIT_EVERY), skipping(SAMPLE_EVERY));
        let mut next = self.first_boundary();
        loop {
            next = self.unless_set_back(next);
            let to_boundary = self.clock.wall_until(next.end());
            tokio::select! {
                fate = fates.recv() => match fate {
                    Some(fate) => self.settle_fate(fate),
                    None => return,
                },
                Some(body) = besides.recv() => {
                    if let Err(error) = self.sign(body) {
                        tracing::error!(meter = self.label(), %error, "an entry could not be kept");
                    }
                }
                _ = resubmit.tick() => {
                    if let Err(error) = self.resubmit() {
                        tracing::error!(%error, "the journal cannot be read");
                    }
                }
                _ = sample.tick(), if to_boundary > BOUNDARY_NEAR => self.sample().await,
                () = sleep(to_boundary.min(CLOCK_CHECK)) => {
                    if self.clock.market() >= next.end() {
                        self.boundary(next).await;
                        next = self.boundary_after(next);
                    }
                }
            }
        }
    }

    /// The interval whose end is read first: the one that has just ended, if its boundary can still be met.
    fn first_boundary(&self) -> Interval {
        let now = self.clock.market();
        let current = Interval::containing(now, self.mtu);
        let known = self.tracker.last().map(|last| last.interval);
        match current.previous() {
            Some(ended)
                if now.ms_since(ended.end()) <= self.tracker.tolerance_ms() && known < Some(ended) =>
            {
                ended
            }
            _ => current,
        }
    }

    /// The next boundary that is still ahead; those missed in between show as a gap.
    fn boundary_after(&self, done: Interval) -> Interval {
        let current = Interval::containing(self.clock.market(), self.mtu);
        done.next().max(current.previous().unwrap_or(current))
    }

    /// `next`, unless the clock was set back since: then the boundary that is ahead now.
    fn unless_set_back(&self, next: Interval) -> Interval {
        let current = Interval::containing(self.clock.market(), self.mtu);
        if next > current.next() { current } else { next }
    }

    /// Looks at the registers between boundaries. A boundary that was missed may be interpolated by it.
    async fn sample(&mut self) {
        if self.look(false).await == Seen::Suspect {
            self.look(true).await;
        }
        self.record_due();
        self.show();
    }

    /// Looks at the registers until they are had or the boundary is past its tolerance.
    async fn boundary(&mut self, interval: Interval) {
        let mut afresh = false;
        loop {
            let seen = self.look(afresh).await;
            afresh = seen == Seen::Suspect;
            self.record_due();
            if self.tracker.last().is_some_and(|last| last.interval >= interval) {
                self.check_interval();
                break;
            }
            match seen {
                Seen::Nothing if self.can_retry(interval) => sleep(RETRY_AFTER).await,
                Seen::Suspect if self.can_retry(interval) => sleep(RECHECK_AFTER).await,
                _ => {
                    self.explain(interval);
                    break;
                }
            }
        }
        self.show();
    }

    fn can_retry(&self, interval: Interval) -> bool {
        self.clock.market().ms_since(interval.end()) < self.tracker.tolerance_ms()
    }

    /// Reads the registers once and judges them; `afresh` over a connection made for it, for what looked wrong.
    async fn look(&mut self, afresh: bool) -> Seen {
        let sample = if afresh {
            self.meter.read_energy_afresh(READ_DEADLINE).await
        } else {
            self.meter.read_energy(READ_DEADLINE).await
        };
        let seen = match sample {
            Ok(sample) => self.take(sample),
            Err(error) => {
                tracing::debug!(meter = self.label(), %error, "meter not read");
                self.trouble.silent = Some(error.to_string());
                return Seen::Nothing;
            }
        };
        self.trouble.silent = None;
        self.memory.save(&self.tracker.memory());
        seen
    }

    fn take(&mut self, sample: EnergySample) -> Seen {
        if let Some(shown) = &self.shown {
            shown.panel.read_energy(shown.place, &sample);
        }
        self.trouble.read = Some(sample.middle);
        let counted = Counted::from(&sample);
        self.counted = Some(counted);
        self.trouble.frozen = self.frozen(counted);
        if self.trouble.frozen.is_some() {
            // Registers that stand still while energy flows would book 0 Wh now and all of it in one interval later;
            // those that a gateway repeats are not of this time at all.
            return Seen::Held;
        }
        let quality = self.clock.quality();
        let at = self.taken_at(sample.middle);
        match Observation::of(sample, at, quality) {
            Ok(observation) => self.observe(observation),
            Err(error) => {
                self.trouble.held = Some(error.to_string());
                Seen::Held
            }
        }
    }

    fn observe(&mut self, observation: Observation) -> Seen {
        let clock = observation.look.clock;
        let outcome = self.tracker.observe(observation);
        let held = match &outcome {
            Ok(_) if clock == ClockQuality::Unsynced => Some(BoundaryError::NoTime.to_string()),
            Ok(_) => None,
            Err(hold) => Some(hold.to_string()),
        };
        match &outcome {
            Err(hold) if self.trouble.held.is_none() && *hold != Hold::First => {
                tracing::warn!(meter = self.label(), %hold, "registers are held");
            }
            Ok(glitch) if *glitch > 0 => {
                tracing::info!(
                    meter = self.label(),
                    looks = glitch,
                    "registers are back; nothing of what they showed meanwhile is booked"
                );
            }
            _ => {}
        }
        self.trouble.held = held;
        match outcome {
            Ok(_) => Seen::Good,
            Err(Hold::First) => Seen::Nothing,
            Err(Hold::Suspect { .. }) => Seen::Suspect,
            Err(
                Hold::Leapt { .. }
                | Hold::NotRegistered { .. }
                | Hold::OtherProfile { .. }
                | Hold::Unregistered { .. },
            ) => Seen::Held,
        }
    }

    /// What stands still in the meter, in words; never on an accelerated chain, whose energy outruns its power.
    fn frozen(&self, counted: Counted) -> Option<String> {
        if self.clock.speed() != 1 {
            return None;
        }
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.energy(counted);
        match watch.condition(counted.at) {
            condition @ Condition::Frozen(_) => Some(condition.to_string()),
            Condition::Starting | Condition::Good | Condition::Stale(_) | Condition::Offline(_) => None,
        }
    }

    /// Compares what the registers grew by in the interval that ended with what power adds up to.
    fn check_interval(&mut self) {
        if self.clock.speed() != 1 {
            return;
        }
        let Some(counted) = self.counted else { return };
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = watch.close_interval(counted);
        drop(watch);
        match outcome {
            Ok(_) => (self.mismatches, self.trouble.mismatch) = (0, None),
            Err(mismatch) => {
                tracing::warn!(meter = self.label(), %mismatch, "power and energy registers contradict each other");
                self.mismatches = self.mismatches.saturating_add(1);
                self.trouble.mismatch = (self.mismatches >= MISMATCHES_SHOWN).then(|| mismatch.to_string());
            }
        }
    }

    /// Says why a boundary has no reading, and what flowed as far as power tells.
    fn explain(&mut self, interval: Interval) {
        if let Err(error) = self.tracker.reading(interval) {
            tracing::warn!(meter = self.label(), %interval, %error, "no reading at this boundary");
            if !self.trouble.is_known() {
                self.trouble.held = Some(error.to_string());
            }
        }
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let estimate = watch.estimate();
        drop(watch);
        if self.clock.speed() == 1 && !estimate.known.is_zero() {
            tracing::info!(
                meter = self.label(),
                import = %estimate.import,
                export = %estimate.export,
                "estimate from power since the last reading; it is never settled"
            );
            self.trouble.estimate = Some(estimate);
        }
    }

    /// The middle of a request, on both clocks.
    fn taken_at(&self, middle: Instant) -> TakenAt {
        let (started, boot_id) = self.boot;
        let ago = millis(middle.elapsed()).saturating_mul(u64::from(self.clock.speed()));
        let monotonic_ms = millis(middle.saturating_duration_since(started));
        TakenAt { time: self.clock.market().minus_ms(ago), monotonic_ms, boot_id }
    }

    /// A clock that was ahead put readings into intervals that have not begun, and the ledger takes none of them: the
    /// intervals until then are read all the same, and what is read of them overtakes those.
    fn take_back_the_future(&mut self) {
        let now = self.clock.market();
        let ahead = self.tracker.last().is_some_and(|last| last.interval.start() > now);
        if !ahead || self.clock.quality() == ClockQuality::Unsynced {
            return;
        }
        match self.journal.last_before(now) {
            Ok(stands) => {
                tracing::warn!(
                    meter = self.label(),
                    "the clock was ahead when the last reading was made; going on from the one before"
                );
                self.tracker.rewind(stands.as_ref().map(last_record));
            }
            Err(error) => tracing::error!(%error, "the journal cannot be read"),
        }
    }

    /// Records every reading that can be made by now, oldest first.
    fn record_due(&mut self) {
        self.take_back_the_future();
        loop {
            let now = self.taken_at(Instant::now());
            let kept = match self.tracker.due(now, self.clock.quality()) {
                Ok(None) => return,
                Ok(Some(reading)) => {
                    if reading.quality == Quality::Good {
                        self.trouble.estimate = None;
                    }
                    self.record(reading).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
                }
                Err(error) => Err(error.to_string()),
            };
            self.trouble.journal = kept.err().map(|why| format!("a reading could not be kept: {why}"));
            if let Some(why) = &self.trouble.journal {
                tracing::error!(meter = self.label(), "{why}");
                return;
            }
        }
    }

    /// Journals the reading, then submits it: nobody sees what is not durable.
    fn record(&mut self, reading: Reading) -> Result<(), MeteringError> {
        let salt = fresh_salt()?;
        let (key, chain, home) = (&self.owner.key, &self.chain, self.owner.home.clone());
        let entry = self.journal.append_reading(|next: &NextReading| {
            let reading =
                Reading { record_number: next.record_number, previous_hash: next.previous_hash, ..reading };
            let body = Body::Reading { home, reading };
            Entry { signer: PublicKey::of(key), number: next.number, salt, body }.sign(chain, key)
        })?;
        self.note_recorded(&entry);
        self.hand_over(&entry);
        Ok(())
    }

    /// Journals an entry that is no reading, then submits it.
    fn sign(&mut self, body: Body) -> Result<(), MeteringError> {
        let salt = fresh_salt()?;
        let (key, chain, stream) = (&self.owner.key, &self.chain, body.stream());
        let entry = self.journal.append(stream, |number| {
            Entry { signer: PublicKey::of(key), number, salt, body }.sign(chain, key)
        })?;
        self.hand_over(&entry);
        Ok(())
    }

    fn hand_over(&self, entry: &VerifiedEntry) {
        if !self.engine.submit(entry.bytes().to_vec()) {
            tracing::debug!("the engine has too much to do; the journal hands the entry over again");
        }
    }

    fn note_recorded(&mut self, entry: &VerifiedEntry) {
        if let Body::Reading { reading, .. } = &entry.entry().body {
            self.tracker.recorded(reading, reading_hash(reading));
        }
    }

    fn settle_fate(&mut self, fate: Fate) {
        let done = match fate {
            Fate::Final { height, ids, on_ledger } => {
                self.trouble.refused = None;
                match self.journal.confirm(&ids, height) {
                    // Signed here before the journal was lost: its numbers must not be used again.
                    Ok(known) if known < ids.len() => self.follow(on_ledger),
                    done => done.map(drop),
                }
            }
            Fate::Registered(meter) => {
                self.registered(meter);
                Ok(())
            }
            Fate::Refused { id, reason, on_ledger } => match self.journal.give_up(&id, &reason) {
                Ok(true) => {
                    self.refused(&reason);
                    self.follow(on_ledger)
                }
                done => done.map(drop),
            },
        };
        if let Err(error) = done {
            tracing::error!(%error, "the journal could not be updated");
        }
    }

    /// Shows why the ledger does not take what was read. A number that is taken up means no harm: most likely the entry
    /// itself is final.
    fn refused(&mut self, reason: &str) {
        if reason != NUMBER_ON_LEDGER {
            self.trouble.refused = Some(format!("the ledger refused what was read: {reason}"));
            self.show();
        }
    }

    /// Goes on in a new epoch. What was read of it while it was not registered becomes readings now.
    fn registered(&mut self, meter: RegisteredMeter) {
        let RegisteredMeter { epoch, serial, .. } = &meter;
        tracing::info!(meter = self.label(), epoch, %serial, "a new meter epoch is registered");
        self.tracker.registered(meter);
        self.memory.save(&self.tracker.memory());
        self.trouble.held = self.tracker.hold().map(Hold::to_string);
        self.record_due();
        self.show();
    }

    fn label(&self) -> &str {
        label_of(&self.owner)
    }

    fn show(&self) {
        if let Some(Shown { panel, place, .. }) = &self.shown {
            panel.set_bus_load(*place, self.meter.bus().report().load_per_mille());
        }
        self.board.registers(&self.trouble);
    }
}

/// The meter of a registration, as its tracker knows it.
pub fn registered(meter: &MeterRegistration) -> RegisteredMeter {
    let MeterRegistration { serial, epoch, profile_hash, .. } = meter.clone();
    RegisteredMeter { epoch, serial, profile_hash }
}

fn last_record(reading: &Reading) -> LastRecord {
    LastRecord::of(reading, reading_hash(reading))
}

async fn tell_if_broken(task: JoinHandle<()>, board: Board, label: String) {
    // A task that is cancelled goes down with the whole runtime.
    if let Err(error) = task.await
        && error.is_panic()
    {
        tracing::error!(meter = label, %error, "the task that records this meter broke off; restart the node");
        board.stopped();
    }
}

/// What the log calls the meter.
fn label_of(owner: &MeterOwner) -> &str {
    owner.home.as_ref().map_or("root meter", HomeId::as_str)
}

/// Ticks that do not pile up while something else takes long.
fn skipping(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
