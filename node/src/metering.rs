//! From the meter to the ledger: reads the registers at each interval's end, signs what they say, keeps it in the home's
//! own journal, and hands it to the engine until it is final.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{MeterCondition, MeterStatus};
use ed25519_dalek::SigningKey;
use energy::{HomeId, Interval, Mtu, Reading, TakenAt};
use ledger::{Body, Chain, Entry, EntryId, Ledger, PublicKey, Salt, Stream, VerifiedEntry, reading_hash};
use meter::{
    BOUNDARY_TOLERANCE_MS, BoundaryError, BoundaryTracker, EnergySample, LastRecord, Meter, MeterError,
};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, sleep};

use crate::clock::Clock;
use crate::engine::EngineHandle;
use crate::http::Live;
use crate::identity::{IdentityError, fresh_salt};
use crate::store::StoreError;
use crate::store::journal::{Journal, NextReading};

/// How long one attempt to read the energy block may take.
const READ_DEADLINE: Duration = Duration::from_millis(1_500);
/// Pause between two attempts at one boundary.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// A held or adjusted clock is looked at again after this long.
const CLOCK_CHECK: Duration = Duration::from_millis(200);
/// How often momentary power is read for showing.
const LIVE_EVERY: Duration = Duration::from_secs(1);
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
    /// Number and hash of its last record.
    pub record: Option<(u64, [u8; 32])>,
}

impl OnLedger {
    /// Of the meter whose readings `key` signs: that of `home`, else the root meter.
    #[must_use]
    pub fn of(ledger: &Ledger, home: &HomeId, key: &PublicKey) -> Self {
        let member = ledger.member(home).filter(|member| member.admission.keys.reading == *key);
        let record = member.map_or_else(|| ledger.root_record(), |member| member.last_record);
        Self { number: ledger.last_number(key, Stream::Readings), record }
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
    Registered {
        /// Its epoch.
        epoch: u32,
    },
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
    /// Epoch of the registered meter.
    pub meter_epoch: u32,
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
    engine: EngineHandle,
    live: Option<Arc<Live>>,
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
    /// Where to submit.
    pub engine: EngineHandle,
    /// Where momentary power is shown.
    pub live: Option<Arc<Live>>,
}

impl Metering {
    /// Opens the journal at `path` and takes up where it ended.
    ///
    /// # Errors
    /// [`MeteringError`].
    pub fn open(parts: MeteringParts, path: &Path) -> Result<Self, MeteringError> {
        let MeteringParts { owner, chain, mtu, clock, meter, engine, live } = parts;
        let journal = Journal::open(path, &chain)?;
        let last = journal.last()?.map(|reading| LastRecord::of(&reading, reading_hash(&reading)));
        let tracker = BoundaryTracker::new(owner.meter_epoch, last);
        let Salt(boot_id) = fresh_salt()?;
        let boot = (Instant::now(), boot_id);
        Ok(Self { owner, chain, mtu, clock, meter, journal, tracker, engine, live, boot })
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

    /// Runs until the engine is gone or the node stops.
    pub async fn run(mut self, mut fates: mpsc::Receiver<Fate>) {
        if let Some(live) = self.live.clone() {
            tokio::spawn(show_power(self.meter.clone(), live));
        }
        let mut resubmit = tokio::time::interval(RESUBMIT_EVERY);
        resubmit.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut next = self.first_boundary();
        loop {
            let wait = self.clock.wall_until(next.end()).min(CLOCK_CHECK);
            tokio::select! {
                fate = fates.recv() => match fate {
                    Some(fate) => self.settle_fate(fate),
                    None => return,
                },
                _ = resubmit.tick() => {
                    if let Err(error) = self.resubmit() {
                        tracing::error!(%error, "the journal cannot be read");
                    }
                }
                () = sleep(wait) => {
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
            Some(ended) if now.ms_since(ended.end()) <= self.tolerance_ms() && known < Some(ended) => ended,
            _ => current,
        }
    }

    /// The next boundary that is still ahead; those missed in between show as a gap.
    fn boundary_after(&self, done: Interval) -> Interval {
        let current = Interval::containing(self.clock.market(), self.mtu);
        done.next().max(current.previous().unwrap_or(current))
    }

    /// Two seconds of wall time, in market time.
    fn tolerance_ms(&self) -> u64 {
        BOUNDARY_TOLERANCE_MS.saturating_mul(u64::from(self.clock.speed()))
    }

    /// Reads the registers until they are had or the boundary is past its tolerance.
    async fn boundary(&mut self, interval: Interval) {
        let label = self.owner.home.as_ref().map_or("root meter", HomeId::as_str).to_owned();
        loop {
            let sample = self.meter.read_energy(READ_DEADLINE).await;
            let quality = self.clock.quality();
            let (taken_at, tolerance) = (self.taken_at(&sample), self.tolerance_ms());
            match self.tracker.boundary(interval, sample, taken_at, quality, tolerance) {
                Ok(reading) => {
                    match self.record(reading) {
                        Ok(()) => self.show_meter(MeterCondition::Good, String::new()),
                        Err(error) => {
                            let why = format!(
                                "the reading of {interval} could not be kept: {:#}",
                                anyhow::Error::from(error)
                            );
                            tracing::error!(home = label, "{why}");
                            self.show_meter(MeterCondition::Uncertain, why);
                        }
                    }
                    return;
                }
                Err(BoundaryError::NotRead { cause, .. }) if self.can_retry(interval) => {
                    tracing::debug!(home = label, %interval, error = %cause, "meter not read, trying again");
                    sleep(RETRY_AFTER).await;
                }
                Err(error) => {
                    tracing::warn!(home = label, %interval, %error, "no reading at this boundary");
                    self.show_meter(MeterCondition::Silent, error.to_string());
                    return;
                }
            }
        }
    }

    fn can_retry(&self, interval: Interval) -> bool {
        self.clock.market().ms_since(interval.end()) < self.tolerance_ms()
    }

    /// The middle of the request, on both clocks.
    fn taken_at(&self, sample: &Result<EnergySample, MeterError>) -> TakenAt {
        let (started, boot_id) = self.boot;
        let middle = sample.as_ref().map_or_else(|_| Instant::now(), |sample| sample.middle);
        let ago = millis(middle.elapsed()).saturating_mul(u64::from(self.clock.speed()));
        let monotonic_ms = millis(middle.saturating_duration_since(started));
        TakenAt { time: self.clock.market().minus_ms(ago), monotonic_ms, boot_id }
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
        if !self.engine.submit(entry.bytes().to_vec()) {
            tracing::debug!("the engine has too much to do; the journal hands the reading over again");
        }
        Ok(())
    }

    fn note_recorded(&mut self, entry: &VerifiedEntry) {
        if let Body::Reading { reading, .. } = &entry.entry().body {
            self.tracker.recorded(reading, reading_hash(reading));
        }
    }

    fn settle_fate(&mut self, fate: Fate) {
        let done = match fate {
            Fate::Final { height, ids, on_ledger } => match self.journal.confirm(&ids, height) {
                // Signed here before the journal was lost: its numbers must not be used again.
                Ok(known) if known < ids.len() => self.follow(on_ledger),
                done => done.map(drop),
            },
            Fate::Registered { epoch } => {
                self.owner.meter_epoch = epoch;
                self.tracker = BoundaryTracker::new(epoch, self.tracker.last().cloned());
                Ok(())
            }
            Fate::Refused { id, reason, on_ledger } => match self.journal.give_up(&id, &reason) {
                Ok(true) => self.follow(on_ledger),
                done => done.map(drop),
            },
        };
        if let Err(error) = done {
            tracing::error!(%error, "the journal could not be updated");
        }
    }

    fn show_meter(&self, state: MeterCondition, detail: String) {
        if let Some(live) = &self.live {
            live.set_meter(MeterStatus { state, detail });
        }
    }
}

/// Reads momentary power for showing, beside the boundaries, until the node has stopped.
async fn show_power(meter: Meter, live: Arc<Live>) {
    let mut ticks = tokio::time::interval(LIVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if live.is_closed() {
            return;
        }
        match meter.read_live(READ_DEADLINE).await {
            Ok(sample) => {
                live.meter_answers();
                live.set_power(Some(sample.power_w), sample.middle);
            }
            Err(error) => {
                tracing::debug!(%error, "no live power");
                live.set_meter(MeterStatus { state: MeterCondition::Silent, detail: error.to_string() });
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::mpsc::Receiver;

    use energy::Timestamp;
    use ledger::codec::Decode;
    use ledger::{Hash32, SignedEntry};
    use meter::{MeterConfig, Profile};

    use super::*;
    use crate::clock::HeldClock;
    use crate::engine::Command;
    use crate::store::fixture::{READING, home, key, reading};

    const CHAIN: Chain = Chain { id: Hash32([4; 32]), recovery: 0 };

    fn metering(folder: &Path) -> (Metering, Receiver<Command>) {
        let (engine, inbox) = EngineHandle::for_test();
        let meter = MeterConfig {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
            unit: 1,
            profile: Profile::builtin().first().unwrap(),
            timeout: Duration::from_millis(1),
        };
        let parts = MeteringParts {
            owner: MeterOwner { home: Some(home(1)), key: key(READING, 1), meter_epoch: 0 },
            chain: CHAIN,
            mtu: Mtu::Min15,
            clock: Arc::new(HeldClock::new(Timestamp::EPOCH, 1)),
            meter: Meter::spawn(meter),
            engine,
            live: None,
        };
        (Metering::open(parts, &folder.join("journal.db")).unwrap(), inbox)
    }

    /// Number, record number and previous hash of the reading handed over next, and its entry's name.
    fn handed_over(inbox: &Receiver<Command>) -> (u64, u64, [u8; 32], EntryId) {
        let Ok(Command::Submit(bytes)) = inbox.try_recv() else { panic!("nothing was handed over") };
        let entry = SignedEntry::from_bytes(&bytes).unwrap().verify(&CHAIN).unwrap();
        let Body::Reading { reading, .. } = &entry.entry().body else { panic!("no reading") };
        (entry.entry().number, reading.record_number, reading.previous_hash, entry.id())
    }

    fn at(number: u64) -> Reading {
        reading("m1", Interval::from_index(number, Mtu::Min15), (number, 0), (0, [0; 32]))
    }

    #[tokio::test]
    async fn a_lost_journal_goes_on_after_what_the_ledger_turns_out_to_hold() {
        let folder = tempfile::tempdir().unwrap();
        let (mut metering, inbox) = metering(folder.path());
        metering.record(at(100)).unwrap();
        let (number, record, _, early) = handed_over(&inbox);
        assert_eq!((number, record), (1, 1), "nothing is known yet");
        let before_the_loss = OnLedger { number: 41, record: Some((40, [7; 32])) };
        let ids = vec![EntryId(Hash32([8; 32]))];
        metering.settle_fate(Fate::Final { height: 9, ids, on_ledger: before_the_loss });
        metering.record(at(101)).unwrap();
        let (number, record, previous, _) = handed_over(&inbox);
        assert_eq!((number, record, previous), (42, 41, [7; 32]));
        let later = OnLedger { number: 60, record: Some((59, [6; 32])) };
        metering.settle_fate(Fate::Refused { id: early, reason: "overtaken".to_owned(), on_ledger: later });
        metering.record(at(102)).unwrap();
        let (number, record, previous, _) = handed_over(&inbox);
        assert_eq!((number, record, previous), (61, 60, [6; 32]));
    }

    #[tokio::test]
    async fn what_becomes_final_in_turn_changes_no_number() {
        let folder = tempfile::tempdir().unwrap();
        let (mut metering, inbox) = metering(folder.path());
        metering.record(at(100)).unwrap();
        let (_, _, _, id) = handed_over(&inbox);
        metering.record(at(101)).unwrap();
        let (second, _, _, open) = handed_over(&inbox);
        let on_ledger = OnLedger { number: 1, record: Some((1, [5; 32])) };
        metering.settle_fate(Fate::Final { height: 3, ids: vec![id], on_ledger });
        metering.resubmit().unwrap();
        assert_eq!(handed_over(&inbox).3, open, "only what is not final is handed over again");
        metering.record(at(102)).unwrap();
        assert_eq!(handed_over(&inbox).0, second + 1);
    }

    #[tokio::test]
    async fn a_meter_that_is_exchanged_is_read_under_its_new_epoch_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (mut metering, _inbox) = metering(folder.path());
        metering.record(at(100)).unwrap();
        let ends = |interval: Interval| TakenAt { time: interval.end(), ..at(0).taken_at };
        let sample = || {
            Ok(EnergySample {
                serial: energy::MeterSerial::new("m2").unwrap(),
                import: energy::WattHours::new(3),
                export: energy::WattHours::new(0),
                raw: vec![3],
                quantum: energy::WattHours::new(1),
                profile_hash: [7; 32],
                round_trip: Duration::ZERO,
                middle: Instant::now(),
            })
        };
        let next = Interval::from_index(101, Mtu::Min15);
        let read = |metering: &Metering| {
            metering.tracker.boundary(next, sample(), ends(next), energy::ClockQuality::Synced, 0)
        };
        assert!(matches!(read(&metering), Err(BoundaryError::SerialChanged { .. })));
        metering.settle_fate(Fate::Registered { epoch: 1 });
        let reading = read(&metering).unwrap();
        assert_eq!((reading.meter_epoch, reading.serial.as_str()), (1, "m2"));
    }
}
