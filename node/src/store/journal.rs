//! The home's own journal: what this home has signed, in the order in which it signed it.
//!
//! A number is used once, for ever: two entries of one number would be proof of cheating, and the ledger takes only
//! one. A reading also continues the chain of records before it, so that a removed one shows. So the journal hands out
//! number, record number and previous hash, has the entry made, and stores all of it in **one durable transaction
//! before anyone else sees the entry**. Killed at any instant, either the entry is there and is sent again until it is
//! final, or its number was never seen by anybody.
//!
//! One journal serves one meter's reading key and the member key beside it; the community's root meter has its own.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use energy::{Reading, Timestamp};
use ledger::codec::Decode;
use ledger::{Body, Chain, EntryId, PublicKey, SignedEntry, Stream, VerifiedEntry, reading_hash};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::StoreError;
use super::database::{self, Durability, Schema, decoded, int, unsigned};

const SCHEMA: &str = include_str!("journal.sql");
const SCHEMA_VERSION: i64 = 1;

/// What the next reading must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextReading {
    /// Number of the entry.
    pub number: u64,
    /// Number of the record.
    pub record_number: u64,
    /// Hash of the record before; all zero for the first.
    pub previous_hash: [u8; 32],
}

/// The journal of one home, open for writing.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
    chain: Chain,
}

impl Journal {
    /// Opens the journal at `path` or begins it. Entries in it are signed for `chain`.
    ///
    /// # Errors
    /// [`StoreError`]: not a journal, of another chain, or the file system refuses.
    pub fn open(path: &Path, chain: &Chain) -> Result<Self, StoreError> {
        let schema = Schema { sql: SCHEMA, own_sql: None, version: SCHEMA_VERSION, chain, home: None };
        let connection = database::open(path, Durability::Full, &schema, |_| Ok(()))?;
        Ok(Self { connection, path: path.to_owned(), chain: *chain })
    }

    /// The chain was recovered since: what `key` signed for it before, and no block holds, is signed anew, with the numbers and
    /// records it has. Returns how many entries were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sign_anew(&mut self, key: &SigningKey) -> Result<usize, StoreError> {
        let fault = |source| StoreError::database(&self.path, "sign entries anew")(source);
        let (chain, signer) = (self.chain, PublicKey::of(key));
        let transaction = begin(&mut self.connection).map_err(fault)?;
        let mut anew = 0;
        for (sequence, signed) in open_entries(&transaction).map_err(fault)? {
            if signed.unchecked().signer != signer || signed.clone().verify(&chain).is_ok() {
                continue;
            }
            let entry = signed.unchecked().clone().sign(&chain, key).verify(&chain)?;
            let sql = "UPDATE entry SET id = ?2, bytes = ?3 WHERE sequence = ?1";
            let values = (sequence, entry.id().0.0, entry.bytes());
            transaction.execute(sql, values).map_err(fault)?;
            anew += 1;
        }
        transaction.commit().map_err(fault)?;
        Ok(anew)
    }

    /// Has the next reading made and signed by `make`, and stores it. It is durable when this returns, and only then
    /// may it be sent.
    ///
    /// # Errors
    /// [`StoreError::NotAsAssigned`] if `make` did not use what it was given, [`StoreError::Signature`] if its entry
    /// would be refused; then nothing was used. [`StoreError::Database`].
    pub fn append_reading(
        &mut self,
        make: impl FnOnce(&NextReading) -> SignedEntry,
    ) -> Result<VerifiedEntry, StoreError> {
        let fault = |source| StoreError::database(&self.path, "append a reading")(source);
        let transaction = begin(&mut self.connection).map_err(fault)?;
        let number = take_number(&transaction, Stream::Readings).map_err(fault)?;
        let (record_number, previous_hash) = next_record(&transaction).map_err(fault)?;
        let next = NextReading { number, record_number, previous_hash };
        let entry = check(make(&next), Stream::Readings, number, &self.chain)?;
        let Body::Reading { reading, .. } = &entry.entry().body else {
            return Err(StoreError::NotAsAssigned { what: "content is no reading" });
        };
        if (reading.record_number, reading.previous_hash) != (record_number, previous_hash) {
            return Err(StoreError::NotAsAssigned { what: "record does not follow the one before" });
        }
        store_reading(&transaction, &entry, reading).map_err(fault)?;
        transaction.commit().map_err(fault)?;
        Ok(entry)
    }

    /// Has an entry of another stream made and signed by `make` with the number it is given, and stores it. It is
    /// durable when this returns, and only then may it be sent.
    ///
    /// # Errors
    /// As [`Journal::append_reading`].
    pub fn append(
        &mut self,
        stream: Stream,
        make: impl FnOnce(u64) -> SignedEntry,
    ) -> Result<VerifiedEntry, StoreError> {
        let fault = |source| StoreError::database(&self.path, "append an entry")(source);
        let transaction = begin(&mut self.connection).map_err(fault)?;
        let number = take_number(&transaction, stream).map_err(fault)?;
        let entry = check(make(number), stream, number, &self.chain)?;
        store_entry(&transaction, &entry).map_err(fault)?;
        transaction.commit().map_err(fault)?;
        Ok(entry)
    }

    /// A number of `stream` for an entry that is kept elsewhere. It is used up when this returns, whatever becomes of
    /// the entry.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn next_number(&mut self, stream: Stream) -> Result<u64, StoreError> {
        let fault = |source| StoreError::database(&self.path, "use a number")(source);
        let transaction = begin(&mut self.connection).map_err(fault)?;
        let number = take_number(&transaction, stream).map_err(fault)?;
        transaction.commit().map_err(fault)?;
        Ok(number)
    }

    /// The ledger holds `number` of `stream` from this home: later numbers are above it. For a journal that was lost or
    /// restored from a copy.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn skip_numbers(&mut self, stream: Stream, number: u64) -> Result<(), StoreError> {
        let sql = "UPDATE number SET last = ?2 WHERE stream = ?1 AND last < ?2";
        let done = int(number).and_then(|number| self.connection.execute(sql, (stream as i64, number)));
        done.map(drop).map_err(StoreError::database(&self.path, "skip numbers"))
    }

    /// The ledger holds the record `record_number` of this home, with this hash: the next one continues it. Records
    /// that the journal has itself are not touched.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn continue_after(&mut self, record_number: u64, hash: [u8; 32]) -> Result<(), StoreError> {
        let sql = "UPDATE head SET record_number = ?1, hash = ?2 WHERE record_number < ?1";
        let done = int(record_number).and_then(|number| self.connection.execute(sql, (number, hash)));
        done.map(drop).map_err(StoreError::database(&self.path, "continue the records"))
    }

    /// The last reading in this journal.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where it is damaged.
    pub fn last(&self) -> Result<Option<Reading>, StoreError> {
        self.last_before(Timestamp::from_unix_ms(u64::MAX))
    }

    /// The last reading in this journal whose interval began before `time`.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where it is damaged.
    pub fn last_before(&self, time: Timestamp) -> Result<Option<Reading>, StoreError> {
        let sql = "SELECT bytes FROM entry JOIN reading ON reading.entry = entry.sequence
                   WHERE reading.interval_ms < ?1 ORDER BY reading.record_number DESC LIMIT 1";
        let before = i64::try_from(time.unix_ms()).unwrap_or(i64::MAX);
        let found = self
            .connection
            .query_row(sql, [before], |row| decoded(row, 0, SignedEntry::from_bytes))
            .optional();
        let entry = found.map_err(StoreError::database(&self.path, "read the last reading"))?;
        Ok(entry.and_then(|entry| match &entry.unchecked().body {
            Body::Reading { reading, .. } => Some(reading.clone()),
            _ => None,
        }))
    }

    /// Own entries that are not final yet, oldest first, at most `limit`: their place in the journal and their bytes,
    /// to be sent again.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn unconfirmed(&self, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<(u64, Vec<u8>)>> {
            let sql = "SELECT sequence, bytes FROM entry WHERE open ORDER BY sequence LIMIT ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map([limit], |row| Ok((unsigned(row, 0)?, row.get(1)?)))?.collect()
        };
        read().map_err(StoreError::database(&self.path, "read what is not final"))
    }

    /// These entries stand in the final block at `height`; those that are not of this journal are passed over. Returns
    /// how many were. Writes nothing when none is.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn confirm(&mut self, ids: &[EntryId], height: u64) -> Result<usize, StoreError> {
        let sql = "UPDATE entry SET open = 0, height = ?2, refused = NULL WHERE id = ?1 AND height IS NULL";
        let fault = |source| {
            StoreError::database(&self.path, format!("confirm the entries of block {height}"))(source)
        };
        let write = |connection: &mut Connection| -> rusqlite::Result<usize> {
            let transaction = connection.transaction()?;
            let mut confirmed = 0;
            let mut statement = transaction.prepare_cached(sql)?;
            for id in ids {
                confirmed += statement.execute((id.0.0, int(height)?))?;
            }
            drop(statement);
            transaction.commit()?;
            Ok(confirmed)
        };
        write(&mut self.connection).map_err(fault)
    }

    /// The ledger can never take this entry, and `reason` says why: it is kept, but no longer sent. True if it was
    /// waiting.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn give_up(&mut self, id: &EntryId, reason: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE entry SET open = 0, refused = ?2 WHERE id = ?1 AND open";
        let done = self.connection.execute(sql, (id.0.0, reason));
        done.map(|rows| rows > 0).map_err(StoreError::database(&self.path, "give an entry up"))
    }
}

fn open_entries(connection: &Connection) -> rusqlite::Result<Vec<(i64, SignedEntry)>> {
    let sql = "SELECT sequence, bytes FROM entry WHERE open ORDER BY sequence";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, decoded(row, 1, SignedEntry::from_bytes)?)))?;
    rows.collect()
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn take_number(connection: &Connection, stream: Stream) -> rusqlite::Result<u64> {
    let sql = "UPDATE number SET last = last + 1 WHERE stream = ?1 RETURNING last";
    connection.prepare_cached(sql)?.query_row([stream as i64], |row| unsigned(row, 0))
}

fn next_record(connection: &Connection) -> rusqlite::Result<(u64, [u8; 32])> {
    let sql = "SELECT record_number + 1, hash FROM head";
    connection.prepare_cached(sql)?.query_row([], |row| Ok((unsigned(row, 0)?, row.get(1)?)))
}

fn check(
    entry: SignedEntry,
    stream: Stream,
    number: u64,
    chain: &Chain,
) -> Result<VerifiedEntry, StoreError> {
    if entry.unchecked().number != number {
        return Err(StoreError::NotAsAssigned { what: "number is not the one assigned" });
    }
    if entry.unchecked().body.stream() != stream {
        return Err(StoreError::NotAsAssigned { what: "content belongs to another stream" });
    }
    Ok(entry.verify(chain)?)
}

fn store_entry(connection: &Connection, entry: &VerifiedEntry) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO entry (id, bytes) VALUES (?1, ?2) RETURNING sequence";
    connection.prepare_cached(sql)?.query_row((entry.id().0.0, entry.bytes()), |row| row.get(0))
}

fn store_reading(connection: &Connection, entry: &VerifiedEntry, reading: &Reading) -> rusqlite::Result<()> {
    let sequence = store_entry(connection, entry)?;
    let (record_number, hash) = (int(reading.record_number)?, reading_hash(reading));
    let sql = "INSERT INTO reading (record_number, interval_ms, entry) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((
        record_number,
        int(reading.interval.start().unix_ms())?,
        sequence,
    ))?;
    let sql = "UPDATE head SET record_number = ?1, hash = ?2";
    connection.prepare_cached(sql)?.execute((record_number, hash)).map(drop)
}

#[cfg(test)]
mod tests {
    use energy::{HomeId, Interval, Mtu};
    use ledger::{Entry, Hash32, Salt};

    use super::super::fixture::{self, READING, Street, key};
    use super::*;

    fn chain() -> Chain {
        Chain { id: Hash32([4; 32]), recovery: 0 }
    }

    fn open(path: &Path) -> Journal {
        Journal::open(path, &chain()).unwrap()
    }

    fn sign(number: u64, reading: Reading) -> SignedEntry {
        let signer = key(READING, 1);
        let body = Body::Reading { home: Some(HomeId::new("h1").unwrap()), reading };
        Entry { signer: PublicKey::of(&signer), number, salt: Salt([1; 16]), body }.sign(&chain(), &signer)
    }

    fn make(next: &NextReading) -> SignedEntry {
        let interval =
            Interval::containing(Timestamp::from_unix_ms(next.record_number * 900_000), Mtu::Min15);
        let registers = (next.record_number * 100, 0);
        sign(
            next.number,
            fixture::reading("m1", interval, registers, (next.record_number, next.previous_hash)),
        )
    }

    fn record(entry: &VerifiedEntry) -> &Reading {
        match &entry.entry().body {
            Body::Reading { reading, .. } => reading,
            other => panic!("{other:?} is no reading"),
        }
    }

    /// What a SIGKILL now would leave: the database and its log, as every other process sees them.
    fn killed(path: &Path) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("journal.db");
        std::fs::copy(path, &copy).unwrap();
        let wal = path.with_file_name("journal.db-wal");
        if wal.exists() {
            std::fs::copy(wal, folder.path().join("journal.db-wal")).unwrap();
        }
        (folder, copy)
    }

    #[test]
    fn readings_are_numbered_and_chained_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut journal = open(&path);
        assert_eq!(journal.last().unwrap(), None);
        let first = journal.append_reading(make).unwrap();
        let second = journal.append_reading(make).unwrap();
        assert_eq!((record(&first).record_number, record(&first).previous_hash), (1, [0; 32]));
        assert_eq!(
            (record(&second).record_number, record(&second).previous_hash),
            (2, reading_hash(record(&first)))
        );
        assert_eq!((first.entry().number, second.entry().number), (1, 2));
        drop(journal);
        let mut journal = open(&path);
        assert_eq!(journal.last().unwrap().as_ref(), Some(record(&second)));
        let third = journal.append_reading(make).unwrap();
        assert_eq!(record(&third).previous_hash, reading_hash(record(&second)));
    }

    #[test]
    fn what_waits_is_signed_anew_after_a_recovery_with_the_numbers_and_records_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut journal = open(&path);
        let (taken, waits) = (journal.append_reading(make).unwrap(), journal.append_reading(make).unwrap());
        journal.confirm(&[taken.id()], 1).unwrap();
        assert_eq!(journal.sign_anew(&key(READING, 1)).unwrap(), 0, "nothing was recovered");
        drop(journal);
        let recovered = Chain { recovery: 1, ..chain() };
        let mut journal = Journal::open(&path, &recovered).unwrap();
        assert_eq!(journal.sign_anew(&key(READING, 2)).unwrap(), 0, "another key has nothing to sign here");
        assert_eq!(journal.sign_anew(&key(READING, 1)).unwrap(), 1);
        let [(_, bytes)] = journal.unconfirmed(10).unwrap().try_into().unwrap();
        let anew = SignedEntry::from_bytes(&bytes).unwrap().verify(&recovered).unwrap();
        assert_eq!(anew.entry(), waits.entry());
        assert_ne!(anew.id(), waits.id());
        assert_eq!(journal.sign_anew(&key(READING, 1)).unwrap(), 0);
        assert_eq!(journal.last().unwrap().as_ref(), Some(record(&waits)));
        assert_eq!(journal.confirm(&[anew.id()], 2).unwrap(), 1, "found by its new name");
    }

    #[test]
    fn killed_at_any_instant_a_number_is_never_used_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut journal = open(&path);
        for round in 0..20 {
            let mut during = None;
            let entry = journal
                .append_reading(|next| {
                    during = Some(killed(&path));
                    make(next)
                })
                .unwrap();
            // Killed while the entry was made, nobody has seen it: its number is free, and the record before stands.
            let (_folder, copy) = during.unwrap();
            let mut restarted = open(&copy);
            assert_eq!(restarted.last().unwrap().map_or(0, |last| last.record_number), round);
            assert_eq!(restarted.append_reading(make).unwrap(), entry);
            // Killed once it was handed out, it is there, and the next one comes after it.
            let (_folder, copy) = killed(&path);
            let mut restarted = open(&copy);
            assert_eq!(restarted.last().unwrap().as_ref(), Some(record(&entry)));
            let next = restarted.append_reading(make).unwrap();
            assert_eq!(next.entry().number, entry.entry().number + 1);
            assert_eq!(record(&next).previous_hash, reading_hash(record(&entry)));
        }
        let number = journal.next_number(Stream::Orders).unwrap();
        let (_folder, copy) = killed(&path);
        assert_eq!(open(&copy).next_number(Stream::Orders).unwrap(), number + 1);
    }

    /// What a power cut leaves of the journal when the tail of its log did not reach the card: cut off, or noise in the
    /// sector that was being written. What was synced before is whole; [`Durability::Full`] syncs every record.
    #[test]
    fn a_power_cut_that_tears_the_last_write_leaves_a_whole_chain_that_goes_on() {
        const SECTOR: usize = 512;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut journal = open(&path);
        let entries: Vec<_> = (0..12).map(|_| journal.append_reading(make).unwrap()).collect();
        let log = std::fs::read(path.with_file_name("journal.db-wal")).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for written in (0..=log.len()).step_by(5 * SECTOR - 3) {
            for noise in [false, true] {
                let (_folder, copy) = killed(&path);
                let mut torn = log[..written].to_vec();
                if noise {
                    let from = torn.len().saturating_sub(SECTOR);
                    torn[from..].iter_mut().for_each(|byte| *byte ^= 0xA5);
                }
                std::fs::write(copy.with_file_name("journal.db-wal"), torn).unwrap();
                let mut restarted = open(&copy);
                let last = restarted.last().unwrap().map_or(0, |last| last.record_number);
                seen.insert(last);
                let next = restarted.append_reading(make).unwrap();
                assert_eq!(record(&next).record_number, last + 1);
                let before = entries[..usize::try_from(last).unwrap()].last();
                let hash = before.map_or([0; 32], |entry| reading_hash(record(entry)));
                assert_eq!(record(&next).previous_hash, hash);
            }
        }
        assert_eq!(seen, (0..12).collect(), "every shorter chain was cut to");
    }

    #[test]
    fn streams_count_apart_and_above_what_the_ledger_knows() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(&folder.path().join("journal.db"));
        assert_eq!(journal.next_number(Stream::Orders).unwrap(), 1);
        assert_eq!(journal.next_number(Stream::Rest).unwrap(), 1);
        journal.skip_numbers(Stream::Orders, 41).unwrap();
        journal.skip_numbers(Stream::Orders, 7).unwrap();
        assert_eq!(journal.next_number(Stream::Orders).unwrap(), 42);
        assert_eq!(journal.next_number(Stream::Rest).unwrap(), 2);
        let entry = journal.append(Stream::Rest, |number| Street::own_limits(number, &chain())).unwrap();
        assert_eq!(entry.entry().number, 3);
    }

    #[test]
    fn a_lost_journal_continues_the_records_that_the_ledger_knows() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(&folder.path().join("journal.db"));
        journal.skip_numbers(Stream::Readings, 90).unwrap();
        journal.continue_after(77, [5; 32]).unwrap();
        let entry = journal.append_reading(make).unwrap();
        assert_eq!(entry.entry().number, 91);
        assert_eq!((record(&entry).record_number, record(&entry).previous_hash), (78, [5; 32]));
        // What the ledger says later is older than what the journal has itself.
        journal.continue_after(77, [6; 32]).unwrap();
        let next = journal.append_reading(make).unwrap();
        assert_eq!(record(&next).previous_hash, reading_hash(record(&entry)));
    }

    #[test]
    fn entries_are_sent_again_until_they_are_final_or_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let mut journal = open(&path);
        let entries: Vec<_> = (0..4).map(|_| journal.append_reading(make).unwrap()).collect();
        let waiting = |journal: &Journal| {
            journal.unconfirmed(100).unwrap().into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>()
        };
        assert_eq!(waiting(&journal), entries.iter().map(|entry| entry.bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(journal.unconfirmed(2).unwrap().len(), 2);
        let foreign = EntryId(Hash32([8; 32]));
        assert_eq!(journal.confirm(&[entries[1].id(), foreign], 12).unwrap(), 1);
        assert_eq!(journal.confirm(&[entries[1].id(), foreign], 12).unwrap(), 0, "once is enough");
        assert!(journal.give_up(&entries[2].id(), "the meter was already read").unwrap());
        assert!(!journal.give_up(&entries[2].id(), "again").unwrap());
        drop(journal);
        let mut journal = open(&path);
        assert_eq!(waiting(&journal), [entries[0].bytes(), entries[3].bytes()]);
        // Another node may still have brought it into a block.
        assert_eq!(journal.confirm(&[entries[2].id()], 13).unwrap(), 1);
    }

    #[test]
    fn an_entry_that_others_would_refuse_uses_up_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(&folder.path().join("journal.db"));
        let wrong: [fn(&NextReading) -> SignedEntry; 5] = [
            |next| make(&NextReading { number: next.number + 1, ..*next }),
            |next| make(&NextReading { record_number: next.record_number + 1, ..*next }),
            |next| make(&NextReading { previous_hash: [1; 32], ..*next }),
            |next| Street::own_limits(next.number, &chain()),
            |next| {
                let entry = make(next).unchecked().clone();
                entry.sign(&Chain { id: Hash32([5; 32]), recovery: 0 }, &key(READING, 1))
            },
        ];
        for make in wrong {
            assert!(journal.append_reading(make).is_err());
        }
        assert!(matches!(
            journal.append(Stream::Orders, |number| Street::own_limits(number, &chain())),
            Err(StoreError::NotAsAssigned { what: "content belongs to another stream" })
        ));
        let entry = journal.append_reading(make).unwrap();
        assert_eq!((entry.entry().number, record(&entry).record_number), (1, 1));
        assert_eq!(journal.unconfirmed(9).unwrap().len(), 1);
    }
}
