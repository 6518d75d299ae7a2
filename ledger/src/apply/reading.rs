//! Readings: from cumulative registers to energy per interval.

use energy::{HomeId, Interval, Quality, Reading, Timestamp, WattHours};
use market::Metered;

use super::Step;
use crate::delegation::day_of;
use crate::entry::Entry;
use crate::error::EntryError;
use crate::genesis::{INTERVAL_ENERGY_MAX, ReadingSource, Stake};
use crate::meter::{MeterRegistration, reading_hash};
use crate::outcome::ReadingRecord;
use crate::state::{MeterState, Pending};

impl Step {
    pub(super) fn home_reading(
        &mut self,
        entry: &Entry,
        home: &HomeId,
        reading: &Reading,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let member = self.member(home)?;
        if entry.signer != member.admission.keys.reading {
            return Err(EntryError::NotEntitled { kind: "reading", needed: "the member's reading key" });
        }
        is_registered(&member.admission.meter, reading)?;
        self.fits_in_time(reading, time)?;
        self.ends_inside_membership(home, reading.interval)?;
        continues(member.last_record, reading)?;
        let before = member.meter;
        self.is_not_read(member.read_until, reading)?;
        let energy = energy_since(before, member.carried, reading, self.state.mtu())?;
        if let (Some(before), Some(energy)) = (before, energy) {
            self.is_remembered(reading.interval)?;
            is_plausible(before.interval, reading, energy)?;
        }

        let member = self.member_mut(home)?;
        member.last_record = Some((reading.record_number, reading_hash(reading)));
        member.meter = Some(state_of(reading));
        member.carried = Metered::default();
        member.is_read = true;
        member.read_until = Some(reading.interval.index());
        member.salt = entry.salt;
        self.state.delegation.count_reading(home, time);
        if let (Some(before), Some(energy)) = (before, energy) {
            self.book_energy(home, before.interval, reading, energy, entry)?;
        }
        self.readings.push(ReadingRecord::new(Some(home.clone()), reading));
        Ok(())
    }

    /// Spreads what was metered since the last reading over its intervals: equally, odd Wh to the earliest. Of a lump that is
    /// older than the prices the ledger remembers, all falls on the intervals it does remember.
    fn book_energy(
        &mut self,
        home: &HomeId,
        after: u64,
        reading: &Reading,
        energy: Metered,
        entry: &Entry,
    ) -> Result<(), EntryError> {
        let settles = self.state.rules.genesis.market.reading_source == ReadingSource::Node;
        if settles {
            self.count_energy(home, reading.interval, Metered::default(), energy)?;
            let totals = &mut self.member_mut(home)?.totals;
            totals.import_read = totals.import_read.saturating_add(energy.import.get());
            totals.export_read = totals.export_read.saturating_add(energy.export.get());
        }
        let is_lump = reading.interval.index().saturating_sub(after) > 1;
        let first = after.saturating_add(1).max(self.state.oldest_remembered());
        let parts = reading.interval.index().saturating_add(1).saturating_sub(first);
        for position in 0..parts {
            let index = first.saturating_add(position);
            let pending = Pending {
                metered: Metered {
                    import: energy.import.share(parts, position),
                    export: energy.export.share(parts, position),
                },
                quality: if is_lump { Quality::Gap } else { reading.quality },
                salt: entry.salt,
            };
            if settles {
                self.book_part(home, index, pending)?;
            } else if index >= self.state.next_provisional {
                self.state.provisional.insert((index, home.clone()), pending);
            }
        }
        Ok(())
    }

    /// What was metered counts as stake where genesis says so, on the market day of its interval.
    pub(super) fn count_energy(
        &mut self,
        home: &HomeId,
        interval: Interval,
        before: Metered,
        now: Metered,
    ) -> Result<(), EntryError> {
        if self.state.rules.genesis.stake == Stake::Certified {
            let (before, now) = (before.import.add(before.export)?, now.import.add(now.export)?);
            self.state.delegation.count_energy(home, day_of(interval.start()), before, now);
        }
        Ok(())
    }

    /// What is not due waits; what was settled without it is settled now, with the supplier alone.
    fn book_part(&mut self, home: &HomeId, index: u64, pending: Pending) -> Result<(), EntryError> {
        if index < self.state.next_to_settle {
            return self.settle_late(home, self.state.interval(index), Some(&pending));
        }
        self.state.pending.insert((index, home.clone()), pending);
        Ok(())
    }

    /// The first reading of a member may stand where its membership begins, as a baseline; the last is that of the interval
    /// before it leaves.
    fn ends_inside_membership(&self, home: &HomeId, interval: Interval) -> Result<(), EntryError> {
        let first = self.member(home)?.since;
        if interval.next().index() == first { Ok(()) } else { self.was_member(home, interval) }
    }

    /// True if the reading of a settled interval may still come: it then settles late, and there is nothing to correct yet.
    pub(super) fn is_unread(&self, home: &HomeId, interval: Interval) -> Result<bool, EntryError> {
        Ok(match self.state.rules.genesis.market.reading_source {
            ReadingSource::MeteringOperator => self.state.is_unread(home, interval.index()),
            ReadingSource::Node => self.member(home)?.read_until.is_none_or(|last| last < interval.index()),
        })
    }

    /// Refuses an interval in which a home is no member.
    pub(super) fn was_member(&self, home: &HomeId, interval: Interval) -> Result<(), EntryError> {
        if self.member(home)?.is_member_in(interval) {
            return Ok(());
        }
        Err(EntryError::NoMemberIn { home: home.clone(), interval })
    }

    pub(super) fn root_reading(
        &mut self,
        entry: &Entry,
        reading: &Reading,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let by_root =
            self.state.rules.genesis.root_meter.as_ref().is_some_and(|meter| entry.signer == meter.key);
        let Some(registered) = self.state.root_meter.registered.as_ref().filter(|_| by_root) else {
            return Err(EntryError::NotEntitled { kind: "reading", needed: "the root meter's key" });
        };
        is_registered(registered, reading)?;
        self.fits_in_time(reading, time)?;
        let root = &self.state.root_meter;
        continues(root.last_record, reading)?;
        self.is_not_read(root.read_until, reading)?;
        let before = root.last;
        let energy = energy_since(before, root.carried, reading, self.state.mtu())?;
        if let (Some(before), Some(energy)) = (before, energy) {
            is_plausible(before.interval, reading, energy)?;
            let parts = reading.interval.index().saturating_sub(before.interval);
            // Losses are judged interval by interval; a lump says nothing of any one of them.
            if parts == 1 && reading.interval.index() >= self.state.next_to_settle {
                self.state.pending_root.insert(reading.interval.index(), energy);
            }
        }
        let root = &mut self.state.root_meter;
        root.last = Some(state_of(reading));
        root.carried = Metered::default();
        root.read_until = Some(reading.interval.index());
        root.last_record = Some((reading.record_number, reading_hash(reading)));
        self.readings.push(ReadingRecord::new(None, reading));
        Ok(())
    }

    /// A new meter starts with a baseline, but not in an interval that the old one was read in already.
    fn is_not_read(&self, until: Option<u64>, reading: &Reading) -> Result<(), EntryError> {
        match until.filter(|last| reading.interval.index() < *last) {
            Some(last) => {
                Err(EntryError::OutOfOrder { interval: reading.interval, last: self.state.interval(last) })
            }
            None => Ok(()),
        }
    }

    fn fits_in_time(&self, reading: &Reading, time: Timestamp) -> Result<(), EntryError> {
        let interval = reading.interval;
        if interval.mtu() != self.state.mtu() {
            return Err(EntryError::WrongMtu);
        }
        if interval.end() > time {
            return Err(EntryError::FromTheFuture { end: interval.end(), time });
        }
        let start = self.state.rules.genesis.start;
        // The interval that ends as the chain starts gives the first baseline.
        if interval.end() < start {
            return Err(EntryError::BeforeTheStart { interval, start });
        }
        // The interval before the first is no older than that: it holds the baseline.
        self.is_remembered(interval.next())?;
        match reading.quality {
            Quality::Good | Quality::Estimated | Quality::Gap => Ok(()),
            quality @ (Quality::Stale | Quality::Frozen | Quality::Unsynced | Quality::Suspect) => {
                Err(EntryError::Unusable { quality })
            }
        }
    }

    /// Refuses an interval whose prices are forgotten.
    pub(super) fn is_remembered(&self, interval: Interval) -> Result<(), EntryError> {
        let oldest = self.state.oldest_remembered();
        if interval.index() < oldest {
            return Err(EntryError::TooOld { interval, oldest: self.state.interval(oldest) });
        }
        Ok(())
    }
}

/// Only the registered meter is read, by the registered profile, in the registered epoch.
fn is_registered(registered: &MeterRegistration, reading: &Reading) -> Result<(), EntryError> {
    let fits = reading.serial == registered.serial
        && reading.meter_epoch == registered.epoch
        && reading.profile_hash == registered.profile_hash;
    if fits {
        return Ok(());
    }
    Err(EntryError::OtherMeter {
        found: format!("{} epoch {}", reading.serial, reading.meter_epoch),
        registered: format!("{} epoch {}", registered.serial, registered.epoch),
    })
}

const fn state_of(reading: &Reading) -> MeterState {
    MeterState {
        interval: reading.interval.index(),
        import_register: reading.import_register,
        export_register: reading.export_register,
    }
}

/// The journal's records are counted and chained; a gap in the numbers is visible and allowed, a fork is not.
fn continues(last: Option<(u64, [u8; 32])>, reading: &Reading) -> Result<(), EntryError> {
    let broken = |what| Err(EntryError::BrokenChain { number: reading.record_number, what });
    match last {
        Some((number, _)) if reading.record_number <= number => broken("its number was used already"),
        Some((number, hash)) if reading.record_number == number.saturating_add(1) => {
            if reading.previous_hash == hash {
                Ok(())
            } else {
                broken("it does not point to the record before")
            }
        }
        _ => Ok(()),
    }
}

/// Refuses more than a connection can carry since interval `before`: it could break the settlement of everybody else.
fn is_plausible(before: u64, reading: &Reading, energy: Metered) -> Result<(), EntryError> {
    let intervals = reading.interval.index().saturating_sub(before);
    let max = WattHours::new(INTERVAL_ENERGY_MAX.get().saturating_mul(intervals));
    for (register, grown) in [("import", energy.import), ("export", energy.export)] {
        if grown > max {
            return Err(EntryError::Implausible { register, grown, max });
        }
    }
    Ok(())
}

/// What the registers grew by since the last reading, and what meters taken off since then left; `None` if this one is the
/// baseline.
fn energy_since(
    before: Option<MeterState>,
    carried: Metered,
    reading: &Reading,
    mtu: energy::Mtu,
) -> Result<Option<Metered>, EntryError> {
    let Some(before) = before else { return Ok(None) };
    if reading.interval.index() <= before.interval {
        let last = Interval::from_index(before.interval, mtu);
        return Err(EntryError::OutOfOrder { interval: reading.interval, last });
    }
    let grown = |register, before: WattHours, after: WattHours, carried: WattHours| {
        let fell = |_| EntryError::RegisterFell { register, before, after };
        Ok::<_, EntryError>(after.sub(before).map_err(fell)?.add(carried)?)
    };
    Ok(Some(Metered {
        import: grown("import", before.import_register, reading.import_register, carried.import)?,
        export: grown("export", before.export_register, reading.export_register, carried.export)?,
    }))
}
