//! The samples kept until their boundaries are recorded.

use std::collections::VecDeque;

use energy::{ClockQuality, MeterSerial, TakenAt, Timestamp, WattHours};

use super::{Observation, RegisteredMeter};
use crate::counter::EnergyRegisters;

/// Samples kept: one every 10 s for 24 h. Beyond it the oldest goes.
const KEPT_MAX: usize = 8_640;
/// How far a monotonic clock may be off: 100 parts per million, twice what the crystals of small computers promise.
const DRIFT_PARTS: u64 = 10_000;

/// How near samples must be to a boundary, ms of market time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    /// One sample beside it.
    pub(super) beside_ms: u64,
    /// Two samples around it.
    pub(super) apart_ms: u64,
    /// True if market time and monotonic time go alike, so that a clock that was set between two samples shows.
    pub(super) steady: bool,
}

/// One sample that was believed.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) serial: MeterSerial,
    pub(super) registers: EnergyRegisters,
    pub(super) raw: Box<[u16]>,
    pub(super) quantum: WattHours,
    pub(super) profile_hash: [u8; 32],
    pub(super) taken_at: TakenAt,
    pub(super) clock: ClockQuality,
    pub(super) series: u64,
    /// How far its time may be off because it was found later, ms.
    off_ms: u64,
}

impl Kept {
    /// `registers` as the counter gave them, of its epoch `series`.
    pub(super) fn new(observation: Observation, registers: EnergyRegisters, series: u64) -> Self {
        let Observation { look, raw, profile_hash } = observation;
        Self {
            serial: look.serial,
            registers,
            raw: raw.into_boxed_slice(),
            quantum: look.quantum,
            profile_hash,
            taken_at: look.at,
            clock: look.clock,
            series,
            off_ms: 0,
        }
    }

    /// True if the ledger takes it as of this meter.
    pub(super) fn is_of(&self, meter: &RegisteredMeter) -> bool {
        self.serial == meter.serial && self.profile_hash == meter.profile_hash
    }

    const fn time(&self) -> Timestamp {
        self.taken_at.time
    }

    fn is_timed(&self) -> bool {
        self.clock != ClockQuality::Unsynced
    }

    fn ms_from(&self, boundary: Timestamp) -> u64 {
        self.time().ms_since(boundary).max(boundary.ms_since(self.time()))
    }
}

/// The registers at a boundary.
#[derive(Debug)]
pub(super) struct AtBoundary<'a> {
    /// The sample beside the boundary, or the one after it.
    pub(super) kept: &'a Kept,
    pub(super) registers: EnergyRegisters,
    /// True if they were not read within the tolerance.
    pub(super) estimated: bool,
}

/// Samples in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    kept: VecDeque<Kept>,
}

impl Window {
    pub(super) fn push(&mut self, kept: Kept) {
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(kept);
    }

    /// The earliest time of a sample that has one.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.kept.iter().filter(|kept| kept.is_timed()).map(Kept::time).min()
    }

    /// True if the newest sample has no time of day.
    pub(super) fn waits_for_time(&self) -> bool {
        self.kept.back().is_some_and(|kept| !kept.is_timed())
    }

    /// Keeps only the samples that are `wanted`.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Kept) -> bool) {
        self.kept.retain(wanted);
    }

    /// Forgets the samples before `time`; those without a time stay.
    pub(super) fn forget_before(&mut self, time: Timestamp) {
        self.kept.retain(|kept| !kept.is_timed() || kept.time() >= time);
    }

    /// Gives the samples that have none their time of day, by the monotonic clock of the boot that `now` is of.
    pub(super) fn set_times(&mut self, now: &TakenAt, speed: u32) {
        let untimed = |kept: &&mut Kept| !kept.is_timed() && kept.taken_at.boot_id == now.boot_id;
        for kept in self.kept.iter_mut().filter(untimed) {
            let ago = now.monotonic_ms.saturating_sub(kept.taken_at.monotonic_ms);
            let ago = ago.saturating_mul(u64::from(speed));
            kept.taken_at.time = now.time.minus_ms(ago);
            kept.off_ms = ago.div_ceil(DRIFT_PARTS);
            kept.clock = ClockQuality::Informative;
        }
    }

    /// The registers of epoch `series` at `boundary`: of the sample nearest to it, else between the two around it.
    pub(super) fn at(&self, boundary: Timestamp, series: u64, reach: Reach) -> Option<AtBoundary<'_>> {
        self.beside(boundary, series, reach).or_else(|| self.between(boundary, series, reach))
    }

    fn beside(&self, boundary: Timestamp, series: u64, reach: Reach) -> Option<AtBoundary<'_>> {
        let usable = |kept: &&Kept| kept.series == series && kept.is_timed();
        let kept = self.kept.iter().filter(usable).min_by_key(|kept| kept.ms_from(boundary))?;
        let apart = kept.ms_from(boundary);
        let estimated = apart.saturating_add(kept.off_ms) > reach.beside_ms;
        (apart <= reach.beside_ms).then_some(AtBoundary { kept, registers: kept.registers, estimated })
    }

    fn between(&self, boundary: Timestamp, series: u64, reach: Reach) -> Option<AtBoundary<'_>> {
        let around = |(before, after): &(&Kept, &Kept)| {
            before.series == series
                && after.series == series
                && before.is_timed()
                && after.is_timed()
                && before.time() < boundary
                && boundary < after.time()
                && after.time().ms_since(before.time()) <= reach.apart_ms
                && (!reach.steady || clock_went_on(before, after, reach.beside_ms))
        };
        let (before, after) = self.kept.iter().zip(self.kept.iter().skip(1)).find(around)?;
        let part = |from, to| interpolated(from, to, before.time(), boundary, after.time());
        let registers = EnergyRegisters {
            import: part(before.registers.import, after.registers.import),
            export: part(before.registers.export, after.registers.export),
        };
        Some(AtBoundary { kept: after, registers, estimated: true })
    }
}

/// True if nobody set the clock between two samples of one boot.
fn clock_went_on(before: &Kept, after: &Kept, tolerance_ms: u64) -> bool {
    let wall = after.time().ms_since(before.time());
    let steady = after.taken_at.monotonic_ms.saturating_sub(before.taken_at.monotonic_ms);
    before.taken_at.boot_id == after.taken_at.boot_id && wall.abs_diff(steady) <= tolerance_ms
}

/// The register at `at`, if it rose evenly from `from` to `to`, in whole Wh.
fn interpolated(
    from: WattHours,
    to: WattHours,
    begin: Timestamp,
    at: Timestamp,
    end: Timestamp,
) -> WattHours {
    let rise = u128::from(to.saturating_sub(from).get());
    let (passed, all) = (u128::from(at.ms_since(begin)), u128::from(end.ms_since(begin)));
    let risen = rise.saturating_mul(passed).checked_div(all).unwrap_or(0);
    WattHours::new(from.get().saturating_add(u64::try_from(risen).unwrap_or(u64::MAX)))
}
