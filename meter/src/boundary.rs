//! Registers at the ends of intervals: the samples of one meter become the readings that are signed and settled on.
//!
//! Pure: time is handed in, nothing is read or stored. Every sample goes through the [`Counter`]; those it believes are
//! kept for a while. [`BoundaryTracker::due`] makes the next reading from them, the caller writes it to the home's
//! journal and says so with [`BoundaryTracker::recorded`]; until then nothing has changed, so a crash between the two
//! loses nothing.
//!
//! The energy of an interval is the difference of two cumulative registers and of nothing else. The registers at a
//! boundary are those read within 2 s of it, else those between two samples at most 60 s apart
//! ([`Quality::Estimated`]), else there is no reading and the next one is a [`Quality::Gap`] whose energy covers the
//! intervals between. Where a rollover is declared, the registers of readings count on across it; the raw registers
//! beside them show what the display showed.
//!
//! Samples taken before the clock could be trusted are kept by the monotonic clock, for a day, and become readings when
//! the time is known.

mod window;

use energy::{
    ClockQuality, Interval, MeterSerial, Mtu, Quality, RAW_REGISTERS_MAX, Reading, TakenAt, Timestamp,
    WattHours,
};

use crate::client::EnergySample;
use crate::counter::{Counter, CounterLimits, EnergyRegisters, EpochChange, Hold, Look, Memory, Register};
use window::{AtBoundary, Kept, Reach, Window};

/// How far from the boundary the middle of the request may lie, in ms of wall time (meter design, "boundary read
/// within 2 s"). With an accelerated market clock multiply it by the speed.
pub const BOUNDARY_TOLERANCE_MS: u64 = 2_000;

/// How far apart two samples may be for the registers at a boundary between them to be interpolated, in ms of wall time
/// (research, section 4).
pub const INTERPOLATION_MS: u64 = 60_000;

/// How many intervals back a reading is still looked for: more than a day of the shortest market time unit.
const LOOK_BACK: u64 = 300;

/// A boundary gives no reading. Nothing has changed: the next one is measured from the same baseline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoundaryError {
    /// A register is missing that settlement needs.
    #[error(
        "this meter has no {register} register, and readings need both import and export; measure the connection point with a meter that counts both ways"
    )]
    NoRegister {
        /// Which.
        register: Register,
    },
    /// Nothing was read at the boundary, nor close enough around it.
    #[error(
        "no registers were read within {tolerance_ms} ms of {boundary}, nor twice within {apart_ms} ms around it; the next reading will cover the interval"
    )]
    NotAtBoundary {
        /// The end of the interval.
        boundary: Timestamp,
        /// The most allowed beside it, ms of market time.
        tolerance_ms: u64,
        /// The most allowed between two samples around it, ms of market time.
        apart_ms: u64,
    },
    /// What was read is not to be believed, or not to be published.
    #[error("interval {interval} has no reading: {hold}")]
    Held {
        /// The interval left without a reading.
        interval: Interval,
        /// Why.
        hold: Hold,
    },
    /// Samples there are, but nobody knows when they were taken.
    #[error(
        "the clock of this node was not set since it started, so its samples wait for the time of day; check its network and time service"
    )]
    NoTime,
    /// The interval has a reading, or lies before one.
    #[error(
        "interval {interval} does not come after {last}, the last one read; each interval is read once, in order"
    )]
    NotLater {
        /// The interval asked for.
        interval: Interval,
        /// The last one recorded.
        last: Interval,
    },
    /// The record would not fit its format.
    #[error("no reading can be recorded: {0}")]
    Unrecordable(&'static str),
}

/// The last reading in the home's journal: the baseline of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRecord {
    /// Its page number.
    pub record_number: u64,
    /// Its hash, as the ledger's canonical bytes give it.
    pub hash: [u8; 32],
    /// The interval it ends.
    pub interval: Interval,
    /// The meter it is of.
    pub serial: MeterSerial,
    /// Its epoch.
    pub meter_epoch: u32,
    /// Registers at the interval's end.
    pub registers: EnergyRegisters,
    /// Their smallest step.
    pub quantum: WattHours,
    /// When they were read.
    pub taken_at: TakenAt,
    /// How far that time can be trusted.
    pub clock: ClockQuality,
}

impl LastRecord {
    /// The baseline that `reading` leaves, with the hash of its canonical bytes.
    #[must_use]
    pub fn of(reading: &Reading, hash: [u8; 32]) -> Self {
        Self {
            record_number: reading.record_number,
            hash,
            interval: reading.interval,
            serial: reading.serial.clone(),
            meter_epoch: reading.meter_epoch,
            registers: EnergyRegisters { import: reading.import_register, export: reading.export_register },
            quantum: reading.quantum,
            taken_at: reading.taken_at,
            clock: reading.clock_quality,
        }
    }

    /// As the counter sees it. Interpolated registers are older than the sample that carries them.
    fn look(&self) -> Look {
        let time = self.taken_at.time.min(self.interval.end());
        Look {
            serial: self.serial.clone(),
            registers: self.registers,
            quantum: self.quantum,
            modulus: None,
            at: TakenAt { time, ..self.taken_at },
            clock: self.clock,
        }
    }
}

/// Energy between two readings of one meter epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntervalEnergy {
    /// From the grid.
    pub import: WattHours,
    /// To the grid.
    pub export: WattHours,
    /// How many intervals it covers; more than 1 after a gap.
    pub intervals: u64,
}

/// One sample with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What was seen.
    pub look: Look,
    /// The block as the meter sent it.
    pub raw: Vec<u16>,
    /// SHA-256 of the profile that decoded it.
    pub profile_hash: [u8; 32],
}

impl Observation {
    /// Of a sample whose middle was at `at`, by a clock of this quality.
    ///
    /// # Errors
    /// [`BoundaryError::NoRegister`] where the meter does not count both ways.
    pub fn of(sample: EnergySample, at: TakenAt, clock: ClockQuality) -> Result<Self, BoundaryError> {
        let registers = both(sample.import, sample.export)?;
        let EnergySample { serial, quantum, modulus, .. } = sample;
        let look = Look { serial, registers, quantum, modulus, at, clock };
        Ok(Self { look, raw: sample.raw, profile_hash: sample.profile_hash })
    }
}

fn both(import: Option<WattHours>, export: Option<WattHours>) -> Result<EnergyRegisters, BoundaryError> {
    let missing = |register| BoundaryError::NoRegister { register };
    Ok(EnergyRegisters {
        import: import.ok_or(missing(Register::Import))?,
        export: export.ok_or(missing(Register::Export))?,
    })
}

/// The meter that the ledger takes readings of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredMeter {
    /// Its epoch.
    pub epoch: u32,
    /// Its serial number.
    pub serial: MeterSerial,
    /// SHA-256 of the profile it is to be read with.
    pub profile_hash: [u8; 32],
}

/// Which meter a tracker follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerConfig {
    /// The meter registered; `None` while the ledger knows none: then whichever answers is followed, in epoch 0.
    pub registered: Option<RegisteredMeter>,
    /// Length of an interval.
    pub mtu: Mtu,
    /// What is declared about it.
    pub limits: CounterLimits,
}

impl TrackerConfig {
    fn meter_epoch(&self) -> u32 {
        self.registered.as_ref().map_or(0, |meter| meter.epoch)
    }

    /// True if readings of this meter in this epoch are those the ledger takes.
    fn is_of(&self, epoch: u32, serial: &MeterSerial) -> bool {
        epoch == self.meter_epoch() && self.registered.as_ref().is_none_or(|meter| meter.serial == *serial)
    }
}

/// Turns the samples of one home's meter into its chain of readings.
#[derive(Debug, Clone)]
pub struct BoundaryTracker {
    config: TrackerConfig,
    last: Option<LastRecord>,
    counter: Counter,
    window: Window,
    hold: Option<Hold>,
}

impl BoundaryTracker {
    /// Goes on from `last`, the newest reading in the journal (`None` for the first ever). An epoch other than that of
    /// `last` begins a new series: its first reading is an opening register and nothing is differenced.
    #[must_use]
    pub fn new(config: TrackerConfig, last: Option<LastRecord>) -> Self {
        Self::resume(config, last, None)
    }

    /// Goes on from `last` and from what the tracker remembered when it was stopped. A memory that does not fit the
    /// journal is not used.
    #[must_use]
    pub fn resume(config: TrackerConfig, last: Option<LastRecord>, memory: Option<Memory>) -> Self {
        let counter = match memory.filter(|memory| fits(memory, &config, last.as_ref())) {
            Some(memory) => remembered(&config, memory),
            None => match last.as_ref().filter(|last| config.is_of(last.meter_epoch, &last.serial)) {
                Some(last) => Counter::after(config.limits, last.look()),
                None => Counter::new(config.limits),
            },
        };
        let mut tracker = Self { config, last, counter, window: Window::default(), hold: None };
        tracker.hold = tracker.unregistered();
        tracker
    }

    /// The newest reading recorded.
    #[must_use]
    pub const fn last(&self) -> Option<&LastRecord> {
        self.last.as_ref()
    }

    /// The epoch readings are made in.
    #[must_use]
    pub fn meter_epoch(&self) -> u32 {
        self.config.meter_epoch()
    }

    /// What to keep for [`Self::resume`].
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.counter.memory(self.config.meter_epoch())
    }

    /// The change to register first, if one waits.
    #[must_use]
    pub fn awaiting(&self) -> Option<&EpochChange> {
        self.counter.awaiting()
    }

    /// Why nothing is published now, if so.
    #[must_use]
    pub const fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Takes a sample, at a boundary or between two. Returns how many samples before it were a glitch.
    ///
    /// # Errors
    /// [`Hold`] if nothing may be published now; the sample is kept if it is only a registration that is missing.
    pub fn observe(&mut self, observation: Observation) -> Result<u32, Hold> {
        if let Some(hold) = self.not_registered(&observation) {
            self.hold = Some(hold.clone());
            return Err(hold);
        }
        let outcome = self.counter.observe(observation.look.clone());
        let series = self.counter.series();
        self.window.retain(|kept| kept.series <= series);
        let outcome = outcome.and_then(|accepted| {
            self.window.push(Kept::new(observation, accepted.registers, series));
            self.unregistered().map_or(Ok(accepted.glitch), Err)
        });
        self.hold = outcome.as_ref().err().cloned();
        outcome
    }

    /// The earliest reading that can be made by `now` and was not yet recorded. A trusted clock also gives samples their
    /// time that were taken before it was trusted.
    ///
    /// # Errors
    /// [`BoundaryError::Unrecordable`].
    pub fn due(&mut self, now: TakenAt, clock: ClockQuality) -> Result<Option<Reading>, BoundaryError> {
        if clock == ClockQuality::Unsynced {
            return Ok(None);
        }
        self.window.set_times(&now, self.config.limits.speed);
        let Some(oldest) = self.window.oldest() else { return Ok(None) };
        let current = Interval::containing(now.time, self.config.mtu).index();
        let first = Interval::containing(oldest.minus_ms(self.reach().beside_ms), self.config.mtu).index();
        let open = self.last.as_ref().map_or(0, |last| last.interval.next().index());
        for index in first.max(open).max(current.saturating_sub(LOOK_BACK))..current {
            match self.reading(Interval::from_index(index, self.config.mtu)) {
                Ok(reading) => return Ok(Some(reading)),
                Err(error @ BoundaryError::Unrecordable(_)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// The reading for the end of `interval`.
    ///
    /// # Errors
    /// [`BoundaryError`] if there is none; the baseline stays as it was.
    pub fn reading(&self, interval: Interval) -> Result<Reading, BoundaryError> {
        self.check_order(interval)?;
        let series = self.counter.published_series();
        let at =
            self.window.at(interval.end(), series, self.reach()).ok_or_else(|| self.why_not(interval))?;
        if at.kept.raw.len() > RAW_REGISTERS_MAX {
            return Err(BoundaryError::Unrecordable("more raw registers than one answer holds"));
        }
        let (record_number, previous_hash) = self.page()?;
        Ok(Reading {
            serial: at.kept.serial.clone(),
            meter_epoch: self.config.meter_epoch(),
            interval,
            import_register: at.registers.import,
            export_register: at.registers.export,
            raw_registers: at.kept.raw.to_vec(),
            quantum: at.kept.quantum,
            profile_hash: at.kept.profile_hash,
            quality: self.quality(interval, &at),
            clock_quality: at.kept.clock,
            taken_at: at.kept.taken_at,
            record_number,
            previous_hash,
        })
    }

    /// Says that `reading` is in the journal and that its canonical bytes hash to `hash`: it is the baseline now.
    pub fn recorded(&mut self, reading: &Reading, hash: [u8; 32]) {
        self.last = Some(LastRecord::of(reading, hash));
        self.window.forget_before(reading.interval.end().minus_ms(self.reach().apart_ms));
    }

    /// Says that `meter` is registered in a new epoch: that of the change waiting, if one does. Readings go on from its
    /// opening. One registered before it answers is waited for; what the old one shows meanwhile is held.
    pub fn registered(&mut self, meter: RegisteredMeter) {
        self.counter.registered(&meter.serial);
        let published = self.counter.published_series();
        self.window.retain(|kept| kept.series > published || kept.series == published && kept.is_of(&meter));
        self.config.registered = Some(meter);
        self.hold = self.unregistered();
    }

    /// Takes back readings of intervals that have not begun, made by a clock that was ahead: `last` is the newest of those
    /// before.
    pub fn rewind(&mut self, last: Option<LastRecord>) {
        self.last = last;
    }

    /// The energy of `reading` since the last one recorded; `None` for the first of a meter epoch, and for a reading
    /// that does not follow.
    #[must_use]
    pub fn energy_of(&self, reading: &Reading) -> Option<IntervalEnergy> {
        let last = self.baseline()?;
        Some(IntervalEnergy {
            import: reading.import_register.sub(last.registers.import).ok()?,
            export: reading.export_register.sub(last.registers.export).ok()?,
            intervals: intervals_since(last, reading.interval)?,
        })
    }

    /// Why a look is held whatever its registers say: it is not of the registered meter, nor of one that takes the place
    /// of it before our eyes.
    fn not_registered(&self, observation: &Observation) -> Option<Hold> {
        let meter = self.config.registered.as_ref()?;
        let found = &observation.look.serial;
        if *found == meter.serial {
            let other = observation.profile_hash != meter.profile_hash && self.counter.awaiting().is_none();
            return other.then(|| Hold::OtherProfile { serial: found.clone() });
        }
        let followed = self.counter.published_serial() == Some(&meter.serial);
        (!followed).then(|| Hold::NotRegistered { registered: meter.serial.clone(), found: found.clone() })
    }

    fn unregistered(&self) -> Option<Hold> {
        self.counter.awaiting().map(|change| Hold::Unregistered { change: Box::new(change.clone()) })
    }

    /// The last record, if registers may be differenced across it.
    fn baseline(&self) -> Option<&LastRecord> {
        self.last.as_ref().filter(|last| self.config.is_of(last.meter_epoch, &last.serial))
    }

    fn reach(&self) -> Reach {
        let limits = &self.config.limits;
        let (speed, interval) = (u64::from(limits.speed), self.config.mtu.ms());
        // On a fast clock two seconds of wall time may be more than an interval: a sample is of one boundary only.
        let at_most = |wall_ms: u64, most: u64| wall_ms.saturating_mul(speed).min(most);
        Reach {
            beside_ms: at_most(BOUNDARY_TOLERANCE_MS, interval / 2),
            apart_ms: at_most(INTERPOLATION_MS, interval),
            steady: limits.speed == 1,
        }
    }

    /// How far from a boundary a sample may lie to be taken for it, market ms.
    #[must_use]
    pub fn tolerance_ms(&self) -> u64 {
        self.reach().beside_ms
    }

    /// Page number and previous hash of the next record. The chain goes on across meter epochs.
    fn page(&self) -> Result<(u64, [u8; 32]), BoundaryError> {
        match &self.last {
            None => Ok((0, [0; 32])),
            Some(last) => {
                let next = last.record_number.checked_add(1);
                Ok((next.ok_or(BoundaryError::Unrecordable("the page counter is exhausted"))?, last.hash))
            }
        }
    }

    fn check_order(&self, interval: Interval) -> Result<(), BoundaryError> {
        match &self.last {
            Some(last) if interval.start() < last.interval.end() => {
                Err(BoundaryError::NotLater { interval, last: last.interval })
            }
            _ => Ok(()),
        }
    }

    fn why_not(&self, interval: Interval) -> BoundaryError {
        if let Some(hold) = self.hold.clone() {
            return BoundaryError::Held { interval, hold };
        }
        if self.window.waits_for_time() {
            return BoundaryError::NoTime;
        }
        let Reach { beside_ms, apart_ms, .. } = self.reach();
        BoundaryError::NotAtBoundary { boundary: interval.end(), tolerance_ms: beside_ms, apart_ms }
    }

    /// An estimate outweighs a gap: the gap still shows in the intervals of the chain.
    fn quality(&self, interval: Interval, at: &AtBoundary<'_>) -> Quality {
        let missed = self.baseline().is_some_and(|last| last.interval.end() < interval.start());
        match (at.estimated, missed) {
            (true, _) => Quality::Estimated,
            (false, true) => Quality::Gap,
            (false, false) => Quality::Good,
        }
    }
}

/// True if `memory` is of this meter's present or earlier epoch and not older than the journal.
fn fits(memory: &Memory, config: &TrackerConfig, last: Option<&LastRecord>) -> bool {
    let Some((look, registers)) = memory.published() else { return false };
    let earlier = memory.meter_epoch < config.meter_epoch();
    (earlier || config.is_of(memory.meter_epoch, &look.serial))
        && last.is_none_or(|last| {
            last.meter_epoch < memory.meter_epoch
                || last.meter_epoch == memory.meter_epoch
                    && last.serial == look.serial
                    && last.registers.import <= registers.import
                    && last.registers.export <= registers.export
        })
}

/// The counter as it was, with the epochs that were registered meanwhile.
fn remembered(config: &TrackerConfig, memory: Memory) -> Counter {
    let later = config.meter_epoch().saturating_sub(memory.meter_epoch);
    let mut counter = Counter::from_memory(config.limits, memory);
    let Some(meter) = &config.registered else { return counter };
    for number in 0..later {
        // Epoch numbers may be skipped; each change waiting is registered once.
        if number == 0 || counter.awaiting().is_some_and(|change| change.new_serial == meter.serial) {
            counter.registered(&meter.serial);
        } else {
            break;
        }
    }
    counter
}

fn intervals_since(last: &LastRecord, interval: Interval) -> Option<u64> {
    interval.end().ms_since(last.interval.end()).checked_div(interval.mtu().ms()).filter(|count| *count > 0)
}

#[cfg(test)]
mod tests;
