//! Readings: from cumulative registers to energy per interval.

use energy::{HomeId, Interval, Quality, Reading, Timestamp, WattHours};
use market::Metered;

use super::Step;
use crate::entry::{Entry, reading_hash};
use crate::error::EntryError;
use crate::genesis::INTERVAL_ENERGY_MAX;
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
        let registered = &member.admission.meter;
        let fits = reading.serial == registered.serial
            && reading.meter_epoch == registered.epoch
            && reading.profile_hash == registered.profile_hash;
        if !fits {
            return Err(EntryError::OtherMeter {
                found: format!("{} epoch {}", reading.serial, reading.meter_epoch),
                registered: format!("{} epoch {}", registered.serial, registered.epoch),
            });
        }
        self.fits_in_time(reading, time)?;
        continues(member.last_record, reading)?;
        let before = member.meter;
        // A new meter starts with a baseline, but not in an interval that the old one was read in already.
        if let Some(last) = member.read_until.filter(|last| reading.interval.index() < *last) {
            return Err(EntryError::OutOfOrder {
                interval: reading.interval,
                last: self.state.interval(last),
            });
        }
        let energy = energy_since(before, reading, self.state.mtu())?;
        if let (Some(before), Some(energy)) = (before, energy) {
            self.is_remembered(reading.interval)?;
            is_plausible(before.interval, reading, energy)?;
        }

        let member = self.member_mut(home)?;
        member.last_record = Some((reading.record_number, reading_hash(reading)));
        member.meter = Some(state_of(reading));
        member.read_until = Some(reading.interval.index());
        member.salt = entry.salt;
        if let (Some(before), Some(energy)) = (before, energy) {
            self.book_energy(home, before.interval, reading, energy, entry)?;
        }
        self.record(Some(home.clone()), reading);
        Ok(())
    }

    /// Spreads what was metered since the last reading over its intervals: equally, odd Wh to the earliest. What is not due
    /// waits; what was settled without it is settled now, with the supplier alone. Of a lump that is older than the prices
    /// the ledger remembers, all falls on the intervals it does remember.
    fn book_energy(
        &mut self,
        home: &HomeId,
        after: u64,
        reading: &Reading,
        energy: Metered,
        entry: &Entry,
    ) -> Result<(), EntryError> {
        let totals = &mut self.member_mut(home)?.totals;
        totals.import_read = totals.import_read.saturating_add(energy.import.get());
        totals.export_read = totals.export_read.saturating_add(energy.export.get());
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
            if index < self.state.next_to_settle {
                self.settle_late(home, self.state.interval(index), &pending)?;
            } else {
                self.state.pending.insert((index, home.clone()), pending);
            }
        }
        Ok(())
    }

    pub(super) fn root_reading(
        &mut self,
        entry: &Entry,
        reading: &Reading,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let entitled = self.state.rules.genesis.root_meter.as_ref().is_some_and(|meter| {
            entry.signer == meter.key
                && reading.serial == meter.serial
                && reading.profile_hash == meter.profile_hash
        });
        if !entitled {
            return Err(EntryError::NotEntitled { kind: "reading", needed: "the root meter's key" });
        }
        self.fits_in_time(reading, time)?;
        let root = self.state.root_meter;
        continues(root.last_record, reading)?;
        let energy = energy_since(root.last, reading, self.state.mtu())?;
        if let (Some(before), Some(energy)) = (root.last, energy) {
            let parts = reading.interval.index().saturating_sub(before.interval);
            // Losses are judged interval by interval; a lump says nothing of any one of them.
            if parts == 1 && reading.interval.index() >= self.state.next_to_settle {
                self.state.pending_root.insert(reading.interval.index(), energy);
            }
        }
        self.state.root_meter.last = Some(state_of(reading));
        self.state.root_meter.last_record = Some((reading.record_number, reading_hash(reading)));
        self.record(None, reading);
        Ok(())
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

    fn record(&mut self, home: Option<HomeId>, reading: &Reading) {
        self.readings.push(ReadingRecord {
            home,
            interval: reading.interval,
            import_register: reading.import_register,
            export_register: reading.export_register,
            quality: reading.quality,
        });
    }
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

/// What the registers grew by since the last reading; `None` if this one is the baseline.
fn energy_since(
    before: Option<MeterState>,
    reading: &Reading,
    mtu: energy::Mtu,
) -> Result<Option<Metered>, EntryError> {
    let Some(before) = before else { return Ok(None) };
    if reading.interval.index() <= before.interval {
        let last = Interval::from_index(before.interval, mtu);
        return Err(EntryError::OutOfOrder { interval: reading.interval, last });
    }
    let grown = |register, before: WattHours, after: WattHours| {
        after.sub(before).map_err(|_| EntryError::RegisterFell { register, before, after })
    };
    Ok(Some(Metered {
        import: grown("import", before.import_register, reading.import_register)?,
        export: grown("export", before.export_register, reading.export_register)?,
    }))
}
