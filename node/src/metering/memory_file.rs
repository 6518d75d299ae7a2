//! The counter's memory on disk, beside the journal.
//!
//! While registers are in doubt it is written at every look, and whenever the epochs that wait to be registered change;
//! else every five minutes, to spare the card: an epoch may wait for weeks. It is not forced
//! to the disk. What a counter showed since is then not known after a kill, a power cut loses what the system had not
//! written yet, and half a file is noticed by its hash. The journal is the truth; without the memory the counter goes on
//! from the last reading.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meter::{EpochChange, Memory};

/// How often it is written while the registers are believed: each write costs the card some pages.
const CALM_EVERY: Duration = Duration::from_secs(300);
/// Longest file read, in bytes.
const LENGTH_MAX: u64 = 64 * 1024;

/// Where one counter's memory is kept.
#[derive(Debug)]
pub(super) struct MemoryFile {
    path: PathBuf,
    written: String,
    written_at: Option<Instant>,
    in_doubt: bool,
    /// The changes that waited to be registered when it was written.
    waiting: Vec<EpochChange>,
    failing: bool,
}

impl MemoryFile {
    /// Beside the journal at `journal`.
    pub(super) fn beside(journal: &Path) -> Self {
        Self {
            path: journal.with_extension("memory"),
            written: String::new(),
            written_at: None,
            in_doubt: false,
            waiting: Vec::new(),
            failing: false,
        }
    }

    /// What was kept, if it can be read.
    pub(super) fn load(&self) -> Option<Memory> {
        let text = match self.read() {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the counter's memory cannot be read; going on from the last reading");
                return None;
            }
        };
        Memory::parse(&text)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "going on from the last reading");
            })
            .ok()
    }

    /// Keeps `memory`. A failure is told once: the journal does not depend on it.
    pub(super) fn save(&mut self, memory: &Memory) {
        let fresh = self.written_at.is_some_and(|at| at.elapsed() < CALM_EVERY);
        let unchanged = memory.waiting().eq(&self.waiting);
        if fresh && unchanged && !memory.is_in_doubt() && !self.in_doubt {
            return;
        }
        let kept = match memory.to_text() {
            Ok(text) if text == self.written => return,
            Ok(text) => self.write(&text).map(|()| self.written = text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.in_doubt = memory.is_in_doubt();
        self.waiting = memory.waiting().cloned().collect();
        self.written_at = Some(Instant::now());
        if let Err(error) = &kept
            && !self.failing
        {
            tracing::warn!(path = %self.path.display(), error, "the counter's memory cannot be kept; check the disk");
        }
        self.failing = kept.is_err();
    }

    fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        File::open(&self.path)?.take(LENGTH_MAX + 1).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Replaces the file in one step.
    fn write(&self, text: &str) -> io::Result<()> {
        let new = self.path.with_extension("memory-new");
        fs::write(&new, text)?;
        fs::rename(&new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use energy::{ClockQuality, MeterSerial, TakenAt, Timestamp, WattHours};
    use meter::{Counter, CounterLimits, EnergyRegisters, Look};

    use super::*;

    #[test]
    fn a_memory_is_found_again_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = MemoryFile::beside(&folder.path().join("journal.db"));
        assert_eq!(file.load(), None);
        let memory = Counter::new(CounterLimits::default()).memory(7);
        file.save(&memory);
        assert_eq!(file.load(), Some(memory));
        let path = folder.path().join("journal.memory");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 1]).unwrap();
        assert_eq!(file.load(), None);
        fs::write(&path, [0xff; 10]).unwrap();
        assert_eq!(file.load(), None);
    }

    fn look(serial: &str, second: u64) -> Look {
        let wh = WattHours::new(second);
        let time = Timestamp::from_unix_ms(second * 1_000);
        Look {
            serial: MeterSerial::new(serial).unwrap(),
            registers: EnergyRegisters { import: wh, export: wh },
            quantum: WattHours::new(1),
            modulus: None,
            at: TakenAt { time, monotonic_ms: second * 1_000, boot_id: [1; 16] },
            clock: ClockQuality::Synced,
        }
    }

    #[test]
    fn an_epoch_that_waits_is_written_when_it_is_known_and_not_at_every_look() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = MemoryFile::beside(&folder.path().join("journal.db"));
        let mut counter = Counter::after(CounterLimits::default(), look("m1", 0));
        let mut saved = |counter: &Counter| {
            file.save(&counter.memory(0));
            file.load().unwrap()
        };
        saved(&counter);
        for second in [10, 20, 30, 40] {
            let _ = counter.observe(look("m2", second));
            assert_eq!(saved(&counter), counter.memory(0), "in doubt each look is kept");
        }
        let known = counter.memory(0);
        assert_eq!((known.waiting().count(), known.is_in_doubt()), (1, false));
        for second in [50, 60] {
            counter.observe(look("m2", second)).unwrap();
            assert_eq!(saved(&counter), known);
        }
        counter.registered(&MeterSerial::new("m2").unwrap());
        assert_eq!(saved(&counter).waiting().count(), 0);
    }

    #[test]
    fn a_disk_that_takes_nothing_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = MemoryFile::beside(&folder.path().join("gone").join("journal.db"));
        file.save(&Counter::new(CounterLimits::default()).memory(0));
        assert!(file.failing);
    }
}
