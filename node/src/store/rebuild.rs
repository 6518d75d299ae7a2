//! Making the tables of an older schema anew, from the blocks of the same file.
//!
//! Blocks and certificates stay as they were stored; every table that follows from them is dropped and filled again by a
//! replay, in one transaction: it is done, or nothing happened. What a replay cannot do is refused by name, for then another
//! version of the program is needed: blocks of other rules, and a file whose first blocks are gone.

use std::path::Path;

use energy::HomeId;
use ledger::codec::Decode;
use ledger::{Genesis, Header, Ledger, RULE_VERSION};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::bodies::Gone;
use super::database::{self, Durability, Schema, unsigned};
use super::error::StoreError;
use super::ledger_db::{OWN, insert_following, insert_snapshot, last_block};
use super::projection;
use super::replay::{Depth, replay};

/// Makes every table that follows from the blocks.
const TABLES: &str = include_str!("ledger_tables.sql");
/// The tables that do not: they are kept.
const KEPT: [&str; 2] = ["meta", "block"];
/// Progress is told after so many blocks.
const TOLD_EVERY: u64 = 10_000;

/// Brings the ledger database at `path` to `schema`, if it is of an older one. One that is not there, is no such database, or is
/// of a later schema is left for [`database::open`] to judge.
///
/// # Errors
/// [`StoreError::OtherRules`] whatever its schema, [`StoreError::NoFirstBlocks`], [`StoreError::Damaged`], of another chain or
/// home; the file is then as it was.
pub(super) fn renew(
    path: &Path,
    durability: Durability,
    schema: &Schema<'_>,
    genesis: &Genesis,
) -> Result<(), StoreError> {
    let Some(found) = database::version_at(path).filter(|found| *found <= schema.version) else {
        return Ok(());
    };
    check_rules(path)?;
    if found == schema.version {
        return Ok(());
    }
    // Its chain and home must be right; the tables are not touched.
    let older = Schema { version: found, home: schema.home, ..*schema };
    let mut connection = database::open(path, durability, &older, |_| Ok(()))?;
    rebuild(&mut connection, path, (found, schema), genesis)
}

/// Refuses a chain of other rules. A later one may have changed how its genesis makes the chain's id, so this comes before that.
pub(super) fn check_rules(path: &Path) -> Result<(), StoreError> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = || -> rusqlite::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let connection = Connection::open_with_flags(path, flags)?;
        let sql = "SELECT id, header FROM block ORDER BY height DESC LIMIT 1";
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    };
    let stored = read().map_err(StoreError::database(path, "read the last block"))?;
    let Some((id, bytes)) = stored else { return Ok(()) };
    // A damaged one is named by the replay.
    match Header::from_bytes(&bytes).ok().filter(|header| header.id().0.0 == *id) {
        Some(header) if header.rule_version != RULE_VERSION => {
            let (found, known) = (header.rule_version, RULE_VERSION);
            Err(StoreError::OtherRules { path: path.to_owned(), found, known })
        }
        _ => Ok(()),
    }
}

fn rebuild(
    connection: &mut Connection,
    path: &Path,
    (found, schema): (i64, &Schema<'_>),
    genesis: &Genesis,
) -> Result<(), StoreError> {
    let (version, home) = (schema.version, schema.home);
    let fault = |source| StoreError::database(path, "make the tables anew")(source);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    let first = first_block(&transaction).map_err(fault)?;
    let gone = Gone::read(&transaction).map_err(fault)?;
    if first.is_some_and(|first| first != 1) || gone.bodies > 0 {
        return Err(StoreError::NoFirstBlocks { path: path.to_owned(), found });
    }
    let last = last_block(&transaction).map_err(fault)?.map_or(0, |(height, _)| height);
    tracing::info!(schema = found, to = version, blocks = last, "the tables are made anew from the blocks");
    empty_tables(&transaction, home).map_err(fault)?;
    let start = Ledger::genesis(genesis)?;
    projection::insert_opening(&transaction, genesis, &start).map_err(fault)?;
    let ledger = fill(&transaction, start, last, path)?;
    if last > 0 {
        insert_snapshot(&transaction, &ledger).map_err(fault)?;
    }
    transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'schema'", [version]).map_err(fault)?;
    transaction.commit().map_err(fault)?;
    tracing::info!(blocks = last, "the tables are as this version needs them");
    Ok(())
}

/// Replays every block onto `ledger` and writes what follows from it.
fn fill(connection: &Connection, mut ledger: Ledger, last: u64, path: &Path) -> Result<Ledger, StoreError> {
    while ledger.height() < last {
        let replayed = replay(connection, &ledger, Depth::Start);
        let (executed, row) = replayed.map_err(StoreError::damaged(path))?;
        let height = executed.block.header.height;
        let (_, certificate) = row.examine(ledger.chain(), None).map_err(StoreError::damaged(path))?;
        let written = insert_following(connection, &executed, &certificate);
        written.map_err(StoreError::database(path, format!("store what follows from block {height}")))?;
        if height.is_multiple_of(TOLD_EVERY) {
            tracing::info!(height, last, "making the tables anew");
        }
        ledger = executed.ledger;
    }
    Ok(ledger)
}

fn first_block(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT height FROM block ORDER BY height LIMIT 1";
    connection.query_row(sql, [], |row| unsigned(row, 0)).optional()
}

/// Drops every table but those that are kept, and makes today's.
fn empty_tables(connection: &Connection, home: Option<&HomeId>) -> rusqlite::Result<()> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    drop(statement);
    for name in names.iter().filter(|name| !KEPT.contains(&name.as_str())) {
        let quoted = name.replace('"', "\"\"");
        connection.execute_batch(&format!("DROP TABLE \"{quoted}\""))?;
    }
    connection.execute_batch(TABLES)?;
    let own = home.map(|home| OWN.replace("{home}", &database::quoted(home.as_str())));
    own.map_or(Ok(()), |own| connection.execute_batch(&own))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ledger::codec::Encode;

    use super::super::fixture::{Street, genesis, home, start, store};
    use super::super::ledger_db::LedgerDb;
    use super::super::verify::verify;
    use super::*;

    /// A stored run of a street as an older version might have left it: other tables beside the same blocks.
    struct Older {
        _folder: tempfile::TempDir,
        path: PathBuf,
        street: Street,
        /// What the blocks' rows measured here and nobody else knows.
        measured: Vec<(i64, i64)>,
    }

    impl Older {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger.db");
            let mut street = Street::new();
            let blocks = street.run(4);
            let mut db = LedgerDb::open(&path, Durability::Full, &genesis(), &home(1)).unwrap();
            store(&mut db, &blocks);
            drop(db);
            let older = Self { _folder: folder, path, street, measured: Vec::new() };
            older.run(
                "DROP TABLE gate; DROP TABLE order_end; DROP TABLE settlement; CREATE TABLE settlement (old TEXT);
                 CREATE TABLE \"something \"\" older\" (id INTEGER PRIMARY KEY);
                 INSERT INTO settlement VALUES ('x'); DELETE FROM posting; UPDATE account SET balance_n = 7;
                 UPDATE meta SET value = 2 WHERE key = 'schema'",
            );
            Self { measured: older.measurements(), ..older }
        }

        fn run(&self, sql: &str) {
            Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
        }

        fn measurements(&self) -> Vec<(i64, i64)> {
            let db = Connection::open(&self.path).unwrap();
            let mut query =
                db.prepare("SELECT decided_wall_ms, finality_ms FROM block ORDER BY height").unwrap();
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
        }

        fn open(&self) -> Result<LedgerDb, StoreError> {
            LedgerDb::open(&self.path, Durability::Full, &genesis(), &home(1))
        }

        /// Every table and row, to see that nothing changed.
        fn dump(&self) -> Vec<String> {
            let db = Connection::open(&self.path).unwrap();
            let count = |name: &str| -> i64 {
                let quoted = name.replace('"', "\"\"");
                db.query_row(&format!("SELECT count(*) FROM \"{quoted}\""), [], |row| row.get(0)).unwrap()
            };
            let mut query = db.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").unwrap();
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let tables: Vec<_> = query.query_map([], row).unwrap().map(Result::unwrap).collect();
            let schema = database::version_at(&self.path).unwrap();
            let lines = tables.iter().map(|(name, sql)| format!("{sql}: {} rows", count(name)));
            lines.chain([format!("schema {schema}")]).collect()
        }
    }

    #[test]
    fn the_tables_of_an_older_schema_are_made_anew_and_the_chain_goes_on() {
        let mut older = Older::new();
        assert_eq!(database::version_at(&older.path), Some(2));
        let mut db = older.open().unwrap();
        assert_eq!(db.last_height(), older.street.ledger.height());
        assert_eq!(db.load(&older.street.genesis).unwrap().snapshot(), older.street.ledger.snapshot());
        let report = verify(&older.path, &genesis(), |_, _| {}).unwrap();
        assert_eq!(report.root, older.street.ledger.state_root());
        assert_eq!(older.measurements(), older.measured, "what only this node knows is kept");
        assert!(!older.dump().iter().any(|line| line.contains("older") || line.contains("old TEXT")));
        let last = older.street.ledger.head_time();
        let block = older.street.block(last.plus_ms(1_000), &[]);
        store(&mut db, &[block]);
        drop(db);
        verify(&older.path, &genesis(), |_, _| {}).unwrap();
        assert_eq!(older.open().unwrap().last_height(), older.street.ledger.height());
    }

    #[test]
    fn a_reader_of_an_older_schema_is_told_to_start_the_node() {
        let older = Older::new();
        let before = older.dump();
        let refused = LedgerDb::current(&older.path, &genesis()).unwrap_err().to_string();
        assert!(refused.contains("has schema 2") && refused.contains("`commonwatt run`"), "{refused}");
        assert_eq!(older.dump(), before);
        older.run("UPDATE meta SET value = 99 WHERE key = 'schema'");
        for refused in [older.open().unwrap_err(), LedgerDb::current(&older.path, &genesis()).unwrap_err()] {
            assert!(matches!(refused, StoreError::OtherSchema { found: 99, .. }));
            assert!(refused.to_string().contains("a later version of the program wrote it"), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_made_anew_is_refused_by_name_and_left_as_it_was() {
        let damaged = Older::new();
        damaged.run("UPDATE block SET certificate = x'00' WHERE height = 9");
        let gone = Older::new();
        gone.run("DELETE FROM block WHERE height < 5");
        for (older, says) in [
            (damaged, "block 9: certificate: checksum differs"),
            (gone, "its first blocks are no longer stored"),
        ] {
            let before = older.dump();
            let refused = older.open().unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
            assert_eq!(older.dump(), before);
        }
        let foreign = Older::new();
        let other = Genesis { name: "another street".to_owned(), ..genesis() };
        let refused = LedgerDb::open(&foreign.path, Durability::Full, &other, &home(1)).unwrap_err();
        assert!(matches!(refused, StoreError::OtherChain { .. }), "{refused}");
        let refused = LedgerDb::open(&foreign.path, Durability::Full, &genesis(), &home(2)).unwrap_err();
        assert!(matches!(refused, StoreError::OtherHome { .. }), "{refused}");
        assert_eq!(database::version_at(&foreign.path), Some(2));
    }

    #[test]
    fn a_chain_of_other_rules_is_refused_whatever_its_schema_and_never_called_damaged() {
        for schema in [1, 2, 3] {
            let older = Older::new();
            let last = database::int(older.street.ledger.height()).unwrap();
            let db = Connection::open(&older.path).unwrap();
            let read = "SELECT header FROM block WHERE height = ?1";
            let bytes: Vec<u8> = db.query_row(read, [last], |row| row.get(0)).unwrap();
            let header = Header { rule_version: 2, ..Header::from_bytes(&bytes).unwrap() };
            let sql = "UPDATE block SET header = ?1, id = ?2 WHERE height = ?3";
            // One flipped bit is damage, and says nothing of rules.
            db.execute(sql, (header.to_bytes(), [0; 32], last)).unwrap();
            assert!(check_rules(&older.path).is_ok());
            db.execute(sql, (header.to_bytes(), header.id().0.0, last)).unwrap();
            db.execute("UPDATE meta SET value = ?1 WHERE key = 'schema'", [schema]).unwrap();
            drop(db);
            let before = older.dump();
            let refused = older.open().unwrap_err();
            assert!(
                matches!(refused, StoreError::OtherRules { found: 2, known: RULE_VERSION, .. }),
                "{refused}"
            );
            let read = LedgerDb::current(&older.path, &genesis()).unwrap_err();
            assert!(matches!(read, StoreError::OtherRules { .. }), "who only reads is told the same: {read}");
            assert!(
                refused.to_string().contains("use the version of the program that wrote it"),
                "{refused}"
            );
            assert_eq!(older.dump(), before);
        }
    }

    #[test]
    fn killed_while_the_tables_are_made_anew_the_old_ones_are_still_there() {
        let older = Older::new();
        let before = older.dump();
        let mut connection = Connection::open(&older.path).unwrap();
        // With a cache of one page the transaction reaches the file before it is committed.
        connection.execute_batch("PRAGMA cache_size = 1").unwrap();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        empty_tables(&transaction, Some(&home(1))).unwrap();
        let ledger = Ledger::genesis(&genesis()).unwrap();
        assert_eq!(ledger.head_time(), start());
        projection::insert_opening(&transaction, &genesis(), &ledger).unwrap();
        fill(&transaction, ledger, older.street.ledger.height(), &older.path).unwrap();
        // What a kill now would leave: the files as every other process sees them.
        let killed = tempfile::tempdir().unwrap();
        let path = killed.path().join("ledger.db");
        std::fs::copy(&older.path, &path).unwrap();
        std::fs::copy(older.path.with_extension("db-wal"), path.with_extension("db-wal")).unwrap();
        drop(transaction);
        let left = Older { path, _folder: killed, street: Street::new(), measured: Vec::new() };
        assert_eq!(left.dump(), before);
        left.open().unwrap();
        verify(&left.path, &genesis(), |_, _| {}).unwrap();
    }
}
