//! The consensus log on disk, and the lock on the data directory.
//!
//! The log holds what a delegate must not forget within one height; what the records mean is `consensus::log`'s
//! business, here they are bytes. Once a block is durable in `ledger.db` everything before it is obsolete, so the log
//! is kept in **two files that take turns**: a trim starts the other file instead of cutting this one. Why not
//! truncate, or write a new file and rename it: after a truncation a crash could leave an empty log, which cannot be
//! told from a lost one, and then the delegate must not vote; a rename costs two more syncs per block. Taking turns
//! costs none, and at every instant a complete log is on the disk:
//!
//! 1. `trim` writes the new file's head (magic, generation, length and checksum of what is handed over) and what is
//!    handed over, unsynced. The old file is untouched. A crash now leaves the old file alone, or the old one and any
//!    part of the new one; a new one whose handed-over part is not whole counts as not written.
//! 2. The next `sync`, before the delegate speaks, syncs the new file; only then is the old one emptied. That emptying
//!    needs no sync: if it is lost, the old file is read as what it is, the older generation.
//!
//! At start the newest generation that has any record wins. An older one is never mixed in: it was obsolete when the
//! newer began, and its tail may be torn where nothing needed to be synced any more. So a log that was ever written
//! is never found empty, and an empty one means that what this delegate has said is lost.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The longest log of one height, in bytes; thousands of rounds fit.
pub const LOG_BYTES_MAX: u64 = 64 << 20;
/// First bytes of a log file: its format and version.
const MAGIC: [u8; 8] = *b"cwlog\0\0\x01";
/// Magic, generation, length and CRC-32 of what was handed over, CRC-32 of all these.
const HEAD_BYTES: usize = 28;
/// Extension of a damaged file.
const ASIDE: &str = "damaged";
const NAMES: [&str; 2] = ["consensus-a.log", "consensus-b.log"];

/// Held while a process uses a data directory, so that two never share one. The system releases it when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the lock of the data directory `folder`.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process holds it; [`StoreError::File`].
    pub fn acquire(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("lock");
        let opened = OpenOptions::new().append(true).create(true).open(&path);
        let file = opened.map_err(StoreError::file(&path, "open"))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => Err(StoreError::file(&path, "lock")(source)),
        }
    }
}

/// What the log said at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is no log: a new data directory, or the log was deleted or never written. Unless the chain is new, what
    /// this delegate has said is not known.
    Nothing,
    /// The records of the newest generation; their tail may be torn.
    Records(Vec<u8>),
    /// A file that does not begin as a log, set aside under this name. What this delegate has said is not known, at
    /// this start and at every later one until the file is taken away.
    Damaged(PathBuf),
}

/// The consensus log, open for appending.
#[derive(Debug)]
pub struct LogFile {
    segments: [Segment; 2],
    /// Which of the two is written now.
    current: usize,
    generation: u64,
    /// The other one holds an older generation, to be emptied once this one is synced.
    stale: bool,
    unsynced: bool,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LogFile {
    /// Opens the log in the data directory `folder`, makes it if there is none, and returns what it holds. That stays
    /// on the disk until the first [`LogFile::trim`].
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::LogFull`] for a file beyond [`LOG_BYTES_MAX`].
    pub fn open(folder: &Path) -> Result<(Self, Found), StoreError> {
        let paths = NAMES.map(|name| folder.join(name));
        let [(first, a), (second, b)] = [Segment::open(&paths[0])?, Segment::open(&paths[1])?];
        let heads = [head_of(&a), head_of(&b)];
        if let Some(damaged) = unusable(heads) {
            set_aside(&paths, damaged)?;
            return Self::open(folder);
        }
        let current = newest(heads, [a.len(), b.len()]);
        let generation = heads.into_iter().map(Head::generation).max().unwrap_or_default();
        let content = if current == 0 { a } else { b };
        // What the last process wrote may still be in memory only: it is synced before the other file, which is obsolete
        // or has no record, is emptied.
        let mut log = Self { segments: [first, second], current, generation, stale: true, unsynced: true };
        if generation == 0 {
            log.begin(&[])?;
        }
        log.sync()?;
        sync_folder(folder)?;
        Ok((log, found_in(&content, &paths)))
    }

    /// Appends records. They are not durable before [`LogFile::sync`].
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::LogFull`].
    pub fn append(&mut self, records: &[u8]) -> Result<(), StoreError> {
        self.unsynced = true;
        self.segments[self.current].append(records)
    }

    /// Makes everything appended durable (fdatasync: the contents and the length, not the times).
    ///
    /// # Errors
    /// [`StoreError::File`]. The process must then stop: what reached the disk is not known, and a second sync would
    /// not say so again.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if !self.unsynced {
            return Ok(());
        }
        let segment = &self.segments[self.current];
        segment.file.sync_data().map_err(StoreError::file(&segment.path, "sync"))?;
        self.unsynced = false;
        if std::mem::take(&mut self.stale) {
            self.segments[1 - self.current].clear()?;
        }
        Ok(())
    }

    /// Begins anew with the records `kept`: all others are obsolete, because the block they led to is durable.
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::LogFull`].
    pub fn trim(&mut self, kept: &[u8]) -> Result<(), StoreError> {
        // While the other file still waits to be emptied, this one is not synced yet and can be written over.
        if !self.stale {
            self.current = 1 - self.current;
            self.stale = true;
        }
        self.begin(kept)
    }

    /// Its length in bytes, as far as it is not obsolete.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.segments[self.current].bytes.saturating_sub(HEAD_BYTES as u64)
    }

    /// True right after it was made or trimmed to nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn begin(&mut self, kept: &[u8]) -> Result<(), StoreError> {
        self.generation += 1;
        self.unsynced = true;
        let segment = &mut self.segments[self.current];
        segment.clear()?;
        segment.append(&[&head(self.generation, kept), kept].concat())
    }
}

impl Segment {
    fn open(path: &Path) -> Result<(Self, Vec<u8>), StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(StoreError::file(path, "open"))?;
        let bytes = file.metadata().map_err(StoreError::file(path, "read"))?.len();
        if bytes > LOG_BYTES_MAX {
            return Err(StoreError::LogFull { path: path.to_owned(), max: LOG_BYTES_MAX });
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(StoreError::file(path, "read"))?;
        Ok((Self { path: path.to_owned(), file, bytes }, content))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let after = self.bytes + bytes.len() as u64;
        if after > LOG_BYTES_MAX {
            return Err(StoreError::LogFull { path: self.path.clone(), max: LOG_BYTES_MAX });
        }
        self.file.write_all(bytes).map_err(StoreError::file(&self.path, "write"))?;
        self.bytes = after;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(StoreError::file(&self.path, "empty"))?;
        self.file.seek(SeekFrom::Start(0)).map_err(StoreError::file(&self.path, "rewind"))?;
        self.bytes = 0;
        Ok(())
    }
}

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// Never begun, or begun and never synced.
    None,
    /// Begun, but what was handed over is not whole: never synced, if the other file still holds a log.
    Torn,
    Generation(u64),
    Damaged,
}

impl Head {
    const fn generation(self) -> u64 {
        match self {
            Self::Generation(generation) => generation,
            Self::None | Self::Torn | Self::Damaged => 0,
        }
    }
}

fn head(generation: u64, kept: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&generation.to_be_bytes());
    // Beyond the limit of a file nothing is written at all.
    head[16..20].copy_from_slice(&u32::try_from(kept.len()).unwrap_or(u32::MAX).to_be_bytes());
    head[20..24].copy_from_slice(&crc32fast::hash(kept).to_be_bytes());
    let checksum = crc32fast::hash(&head[..24]);
    head[24..].copy_from_slice(&checksum.to_be_bytes());
    head
}

fn head_of(content: &[u8]) -> Head {
    // Some file systems leave zeros where a write was not synced.
    let Some(bytes) = content.get(..HEAD_BYTES).filter(|bytes| bytes.iter().any(|byte| *byte != 0)) else {
        return Head::None;
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    if bytes[..8] != MAGIC || number(&bytes[24..]) != u64::from(crc32fast::hash(&bytes[..24])) {
        return Head::Damaged;
    }
    let kept =
        usize::try_from(number(&bytes[16..20])).ok().and_then(|length| content[HEAD_BYTES..].get(..length));
    match kept.map(|kept| u64::from(crc32fast::hash(kept))) {
        Some(checksum) if checksum == number(&bytes[20..24]) => Head::Generation(number(&bytes[8..16])),
        _ => Head::Torn,
    }
}

/// The file that makes the log unreadable, if one does.
fn unusable(heads: [Head; 2]) -> Option<usize> {
    let alone = |file: usize| heads[file] == Head::Torn && heads[1 - file].generation() == 0;
    (0..2).find(|file| heads[*file] == Head::Damaged || alone(*file))
}

/// Which file is the newest generation with any record; the newest at all, if none has.
fn newest(heads: [Head; 2], bytes: [usize; 2]) -> usize {
    let rank = |file: usize| match heads[file] {
        Head::Generation(generation) => (bytes[file] > HEAD_BYTES, generation),
        Head::None | Head::Torn | Head::Damaged => (false, 0),
    };
    usize::from(rank(1) > rank(0))
}

fn found_in(content: &[u8], paths: &[PathBuf; 2]) -> Found {
    if let Some(records) = content.get(HEAD_BYTES..).filter(|records| !records.is_empty()) {
        return Found::Records(records.to_vec());
    }
    let aside = paths.iter().map(|path| path.with_extension(ASIDE)).find(|aside| aside.exists());
    aside.map_or(Found::Nothing, Found::Damaged)
}

/// Moves the damaged file out of the way, for people to look at, and the other one if there is anything in it: which of
/// the two is newer is not known.
fn set_aside(paths: &[PathBuf; 2], damaged: usize) -> Result<(), StoreError> {
    for (file, path) in paths.iter().enumerate() {
        let empty = path.metadata().map_err(StoreError::file(path, "look at"))?.len() == 0;
        if file == damaged || !empty {
            std::fs::rename(path, path.with_extension(ASIDE)).map_err(StoreError::file(path, "set aside"))?;
        }
    }
    Ok(())
}

/// A file's name is durable only once its folder is.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let opened = File::open(folder).and_then(|folder| folder.sync_all());
    opened.map_err(StoreError::file(folder, "sync"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (LogFile, Found) {
        LogFile::open(folder).unwrap()
    }

    fn records(folder: &Path) -> Found {
        open(folder).1
    }

    fn found(records: &[u8]) -> Found {
        Found::Records(records.to_vec())
    }

    /// What a SIGKILL now would leave: the files as every other process sees them.
    fn killed(folder: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in NAMES {
            std::fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
        copy
    }

    #[test]
    fn what_was_appended_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, nothing) = open(folder.path());
        assert_eq!(nothing, Found::Nothing);
        log.append(b"one").unwrap();
        log.append(b"two").unwrap();
        log.sync().unwrap();
        assert_eq!(log.len(), 6);
        drop(log);
        let (mut log, again) = open(folder.path());
        assert_eq!(again, found(b"onetwo"));
        log.append(b"three").unwrap();
        drop(log);
        assert_eq!(records(folder.path()), found(b"onetwothree"));
    }

    #[test]
    fn at_every_instant_of_a_trim_a_complete_log_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = open(folder.path());
        let mut before = b"height 0".to_vec();
        log.append(&before).unwrap();
        log.sync().unwrap();
        for height in 1..6u8 {
            // Every other time something is handed over.
            let kept = if height % 2 == 0 { b"kept ".to_vec() } else { Vec::new() };
            let after = [&kept, format!("height {height}").as_bytes()].concat();
            log.trim(&kept).unwrap();
            assert_eq!(log.len(), kept.len() as u64);
            let expected = if kept.is_empty() { &before } else { &kept };
            assert_eq!(records(killed(folder.path()).path()), found(expected), "trimmed, nothing said yet");
            log.append(&after[kept.len()..]).unwrap();
            // Unsynced, a power cut may take any part of the new file away; the old one must still be whole.
            for kept in 0..HEAD_BYTES + kept.len().max(1) {
                let copy = killed(folder.path());
                let newer = copy.path().join(NAMES[log.current]);
                OpenOptions::new().write(true).open(newer).unwrap().set_len(kept as u64).unwrap();
                assert_eq!(records(copy.path()), found(&before), "{kept} bytes of the new file kept");
            }
            log.sync().unwrap();
            assert_eq!(records(killed(folder.path()).path()), found(&after));
            before = after;
        }
    }

    #[test]
    fn when_the_emptying_of_the_old_file_is_lost_the_new_one_still_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = open(folder.path());
        log.append(b"old").unwrap();
        log.sync().unwrap();
        let before = killed(folder.path());
        log.trim(b"new").unwrap();
        log.sync().unwrap();
        std::fs::copy(before.path().join(NAMES[0]), folder.path().join(NAMES[0])).unwrap();
        assert_eq!(records(folder.path()), found(b"new"));
        assert_eq!(records(folder.path()), found(b"new"), "the old generation is gone for good");
    }

    #[test]
    fn two_trims_without_a_sync_do_not_touch_what_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = open(folder.path());
        log.append(b"durable").unwrap();
        log.sync().unwrap();
        log.trim(&[]).unwrap();
        log.trim(&[]).unwrap();
        let copy = killed(folder.path());
        std::fs::write(copy.path().join(NAMES[log.current]), []).unwrap();
        assert_eq!(records(copy.path()), found(b"durable"));
        log.append(b"next").unwrap();
        log.sync().unwrap();
        drop(log);
        let (mut log, again) = open(folder.path());
        assert_eq!(again, found(b"next"));
        log.trim(&[]).unwrap();
        drop(log);
        assert_eq!(records(folder.path()), found(b"next"), "after a restart, too");
    }

    #[test]
    fn a_flipped_byte_in_the_head_is_damage_and_never_an_empty_log() {
        for position in 0..HEAD_BYTES + 4 {
            let folder = tempfile::tempdir().unwrap();
            let (mut log, _) = open(folder.path());
            log.trim(b"kept").unwrap();
            log.append(b"votes").unwrap();
            log.sync().unwrap();
            drop(log);
            let path = folder.path().join(NAMES[1]);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[position] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let aside = folder.path().join("consensus-b.damaged");
            assert_eq!(records(folder.path()), Found::Damaged(aside.clone()));
            assert_eq!(std::fs::read(&aside).unwrap(), bytes, "kept for people to look at");
            assert_eq!(records(folder.path()), Found::Damaged(aside.clone()), "and its votes stay unknown");
            std::fs::remove_file(aside).unwrap();
            assert_eq!(records(folder.path()), Found::Nothing);
        }
    }

    #[test]
    fn a_log_without_end_is_refused_before_it_is_read_or_written() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = open(folder.path());
        let file = &log.segments[0].file;
        file.set_len(LOG_BYTES_MAX + 1).unwrap();
        assert!(matches!(LogFile::open(folder.path()), Err(StoreError::LogFull { max: LOG_BYTES_MAX, .. })));
        log.segments[0].bytes = LOG_BYTES_MAX - 2;
        log.append(b"ok").unwrap();
        assert!(matches!(log.append(b"x"), Err(StoreError::LogFull { .. })));
    }

    #[test]
    fn two_processes_never_share_a_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataLock::acquire(folder.path()).unwrap();
        let refused = DataLock::acquire(folder.path()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("another process uses {}; stop it first", folder.path().display())
        );
        drop(held);
        DataLock::acquire(folder.path()).unwrap();
    }
}
