//! How every SQLite file of a node is opened.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use energy::HomeId;
use ledger::{Chain, Hash32};
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::StoreError;

/// The WAL file is cut back to this size after a checkpoint, in bytes.
const WAL_BYTES_MAX: i64 = 4 << 20;
/// How long a writer waits for a reader's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every transaction: delegates, and the home's own journal.
    Full,
    /// All but the last few: followers, who fetch lost blocks again. Nothing is ever torn.
    Normal,
}

impl Durability {
    /// The number by which `PRAGMA synchronous` names it (sqlite.org/pragma.html#pragma_synchronous).
    const fn code(self) -> i64 {
        match self {
            Self::Normal => 1,
            Self::Full => 2,
        }
    }
}

/// Which database a file must be.
pub(super) struct Schema<'a> {
    /// Makes its tables.
    pub sql: &'static str,
    /// Makes what depends on whose it is, which stands as `{home}` in it.
    pub own_sql: Option<&'static str>,
    /// Its version.
    pub version: i64,
    /// The chain it belongs to.
    pub chain: &'a Chain,
    /// Whose it is, where that matters.
    pub home: Option<&'a HomeId>,
}

/// Opens the database at `path`, makes it if there is none, and refuses one that is not what `schema` says. `fill`
/// writes the first rows, in the transaction that makes the tables.
pub(super) fn open(
    path: &Path,
    durability: Durability,
    schema: &Schema<'_>,
    fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<Connection, StoreError> {
    create_private(path)?;
    let mut connection = Connection::open(path).map_err(StoreError::database(path, "open the tables"))?;
    harden(&connection).map_err(StoreError::database(path, "set the limits"))?;
    // Whatever else the file is, it is left as it was.
    if count_tables(&connection).map_err(|_| StoreError::Foreign { path: path.to_owned() })? > 0 {
        check_identity(&connection, path, schema)?;
    } else {
        // Has an effect on an empty file only: pages that pruning frees can be given back.
        let vacuum = connection.pragma_update(None, "auto_vacuum", "INCREMENTAL");
        vacuum.map_err(StoreError::database(path, "set how space is given back"))?;
    }
    set_durability(&connection, path, durability)?;
    create_tables(&mut connection, schema, fill).map_err(StoreError::database(path, "make the tables"))?;
    Ok(connection)
}

/// Opens the database at `path` for reading and refuses one that is not what `schema` says.
pub(super) fn open_read_only(path: &Path, schema: &Schema<'_>) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags);
    let connection = opened.map_err(StoreError::database(path, "open the tables"))?;
    harden(&connection).map_err(StoreError::database(path, "set the limits"))?;
    check_identity(&connection, path, schema)?;
    Ok(connection)
}

/// The schema version that the file at `path` says it has; `None` where it is no database of ours, or not there.
pub(super) fn version_at(path: &Path) -> Option<i64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).ok()?;
    meta(&connection, "schema").ok()?
}

/// Text as SQL writes it down. A home's own rows have indexes of their own, which SQLite uses only where the query names the
/// home in its text.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// SQLite stores signed 64-bit integers. Everything of ours that it stores fits, and this says so where it does not.
pub(super) fn int<T: TryInto<i64>>(value: T) -> rusqlite::Result<i64> {
    value.try_into().map_err(|_| rusqlite::Error::ToSqlConversionFailure("a number beyond 64 bits".into()))
}

/// The other way: column `index` holds a number that is never negative.
pub(super) fn unsigned(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
}

/// Column `index` holds bytes that `decode` understands.
pub(super) fn decoded<T>(
    row: &rusqlite::Row<'_>,
    index: usize,
    decode: impl FnOnce(&[u8]) -> Result<T, ledger::codec::CodecError>,
) -> rusqlite::Result<T> {
    let bytes = row.get_ref(index)?.as_blob()?;
    decode(bytes).map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Blob, error.into()))
}

/// The file holds what concerns people: only its owner may read it. SQLite gives its side files the same rights.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(StoreError::file(path, "create"))
}

fn harden(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Sets what durability depends on and checks that it took: `synchronous = NORMAL` at a delegate could lose a block it
/// has voted on.
pub(super) fn set_durability(
    connection: &Connection,
    path: &Path,
    durability: Durability,
) -> Result<(), StoreError> {
    let fault = |source| StoreError::database(path, "set durability")(source);
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(fault)?;
    if mode != "wal" {
        let (wanted, pragma) = ("wal".to_owned(), "journal_mode");
        return Err(StoreError::Pragma { path: path.to_owned(), pragma, wanted, found: mode });
    }
    connection.pragma_update(None, "synchronous", durability.code()).map_err(fault)?;
    let found: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).map_err(fault)?;
    if found != durability.code() {
        let (wanted, found) = (durability.code().to_string(), found.to_string());
        return Err(StoreError::Pragma { path: path.to_owned(), pragma: "synchronous", wanted, found });
    }
    let limit =
        connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_MAX, |row| row.get(0));
    limit.map(|_: i64| ()).map_err(fault)
}

fn count_tables(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
}

/// Makes the tables in one transaction, if the file is empty.
fn create_tables(
    connection: &mut Connection,
    schema: &Schema<'_>,
    fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if count_tables(&transaction)? == 0 {
        transaction.execute_batch(schema.sql)?;
        if let (Some(sql), Some(home)) = (schema.own_sql, schema.home) {
            transaction.execute_batch(&sql.replace("{home}", &quoted(home.as_str())))?;
        }
        let mut meta = transaction.prepare("INSERT INTO meta (key, value) VALUES (?1, ?2)")?;
        meta.execute(("schema", schema.version))?;
        meta.execute(("chain", schema.chain.id.0))?;
        if let Some(home) = schema.home {
            meta.execute(("home", home.as_str()))?;
        }
        drop(meta);
        fill(&transaction)?;
    }
    transaction.commit()
}

fn check_identity(connection: &Connection, path: &Path, schema: &Schema<'_>) -> Result<(), StoreError> {
    let foreign = |_| StoreError::Foreign { path: path.to_owned() };
    let found: Option<i64> = meta(connection, "schema").map_err(foreign)?;
    match found {
        Some(found) if found == schema.version => {}
        Some(found) => {
            return Err(StoreError::OtherSchema { path: path.to_owned(), found, known: schema.version });
        }
        None => return Err(StoreError::Foreign { path: path.to_owned() }),
    }
    let found: Option<[u8; 32]> = meta(connection, "chain").map_err(foreign)?;
    let found = Hash32(found.ok_or_else(|| StoreError::Foreign { path: path.to_owned() })?);
    if found != schema.chain.id {
        return Err(StoreError::OtherChain { path: path.to_owned(), found, expected: schema.chain.id });
    }
    let found: Option<String> = meta(connection, "home").map_err(foreign)?;
    match (schema.home, found) {
        (Some(home), Some(found)) if found != home.as_str() => {
            Err(StoreError::OtherHome { path: path.to_owned(), found, expected: home.to_string() })
        }
        _ => Ok(()),
    }
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;";

    fn chain(byte: u8) -> Chain {
        Chain { id: Hash32([byte; 32]), recovery: 0 }
    }

    fn open_as(path: &Path, version: i64, chain: &Chain, home: &str) -> Result<Connection, StoreError> {
        let home = HomeId::new(home).unwrap();
        open(
            path,
            Durability::Full,
            &Schema { sql: SQL, own_sql: None, version, chain, home: Some(&home) },
            |_| Ok(()),
        )
    }

    #[test]
    fn a_database_of_another_chain_home_schema_or_program_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        open_as(&path, 1, &chain(1), "h1").unwrap();
        open_as(&path, 1, &chain(1), "h1").unwrap();
        let other_chain = open_as(&path, 1, &chain(2), "h1").unwrap_err();
        assert!(
            matches!(&other_chain, StoreError::OtherChain { found, .. } if found.0 == [1; 32]),
            "{other_chain}"
        );
        assert!(matches!(
            open_as(&path, 2, &chain(1), "h1"),
            Err(StoreError::OtherSchema { found: 1, known: 2, .. })
        ));
        assert!(matches!(open_as(&path, 1, &chain(1), "h2"), Err(StoreError::OtherHome { .. })));
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE photo (id INTEGER)").unwrap();
        assert!(matches!(open_as(&foreign, 1, &chain(1), "h1"), Err(StoreError::Foreign { .. })));
        let text = folder.path().join("text.db");
        std::fs::write(&text, "not a database at all, but long enough to look at".repeat(200)).unwrap();
        assert!(matches!(open_as(&text, 1, &chain(1), "h1"), Err(StoreError::Foreign { .. })));
    }

    #[test]
    fn durability_is_what_was_asked_for_and_the_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        for (name, durability, code) in [("full", Durability::Full, 2), ("normal", Durability::Normal, 1)] {
            let path = folder.path().join(name);
            let schema = Schema { sql: SQL, own_sql: None, version: 1, chain: &chain(1), home: None };
            let connection = open(&path, durability, &schema, |_| Ok(())).unwrap();
            let found: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
            assert_eq!(found, code);
            #[cfg(unix)]
            for file in [path.clone(), path.with_file_name(format!("{name}-wal"))] {
                let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
                assert_eq!(mode & 0o777, 0o600, "{}", file.display());
            }
        }
    }
}
