//! `commonwatt ledger verify`: everything stored, recomputed from the blocks.
//!
//! Block by block: checksum and columns, the certificate against the delegates of that height, every signature, the
//! state machine, the header it must give; then every row of every table that follows from the block, the snapshots,
//! and at the end SQLite's own structure, the number of rows, and the accounts. Where the bodies of the first blocks are
//! no longer stored, those are checked by headers, certificates and leaves, and the replay begins behind them. The first
//! fault ends it, by name: after it nothing can be said.

mod part;

use std::fmt;
use std::path::Path;

use energy::HomeId;
use ledger::codec::Encode;
use ledger::{BlockId, Executed, Genesis, GenesisError, Hash32, Ledger, tree};
use market::Account;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use super::bodies::Gone;
use super::database::int;
use super::error::{Damage, StoreError};
use super::followed;
use super::hashed::{self, Hashed};
use super::ledger_db::{
    change_by, last_block, open_read_only, restore, set_change_bytes, snapshot_bytes, snapshot_heights,
};
use super::projection::{self, TABLES, account_name};
use super::replay::{Depth, StoredBlock, replay};

/// Where the replay began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the genesis: everything was recomputed.
    Genesis,
    /// At the oldest snapshot, after this height: the blocks before are no longer stored.
    Snapshot(u64),
    /// Nowhere: this home does not hold all bodies, and its part of each block was checked against leaves and certificates.
    Leaves,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Genesis => f.write_str("from genesis"),
            Self::Snapshot(height) => write!(f, "from the snapshot at height {height}"),
            Self::Leaves => f.write_str("this home's part, by leaves and certificates"),
        }
    }
}

/// What was found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Where the replay began.
    pub from: From,
    /// Height reached.
    pub height: u64,
    /// The last block; the chain's id if there is none.
    pub head: BlockId,
    /// What was checked of the blocks before, whose bodies are no longer stored.
    pub hashed: Hashed,
    /// Blocks replayed.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// Leaves they made.
    pub leaves: u64,
    /// Root of the state.
    pub root: Hash32,
    /// Root of the transparency tree.
    pub tree_root: Hash32,
}

/// Why what is stored was not found right.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be looked at.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was looked at, and this is wrong.
    #[error("{0}")]
    Found(Damage),
}

impl std::convert::From<GenesisError> for VerifyError {
    fn from(error: GenesisError) -> Self {
        Self::Store(error.into())
    }
}

/// Replays the ledger database at `path` and compares everything in it. May run beside a node that writes to it: it
/// sees the state of one instant. `progress` hears the height reached and the last one.
///
/// # Errors
/// [`VerifyError::Found`] names the first fault; [`VerifyError::Store`] if the database cannot be opened at all.
pub fn verify(
    path: &Path,
    genesis: &Genesis,
    mut progress: impl FnMut(u64, u64),
) -> Result<VerifyReport, VerifyError> {
    let chain = genesis.chain();
    let connection = open_read_only(path, &chain)?;
    let fault = |source| StoreError::database(path, "read the blocks")(source);
    let connection = connection.unchecked_transaction().map_err(fault)?;
    let last =
        last_block(&connection).map_err(unreadable("block", "height"))?.map_or(0, |(height, _)| height);
    if followed::is_following(&connection).map_err(unreadable("table", "meta"))? {
        let report = part::verify(&connection, genesis, last)?;
        progress(last, last);
        return Ok(report);
    }
    let (mut ledger, from, hashed) = start(&connection, genesis)?;
    let snapshots = snapshot_heights(&connection).map_err(unreadable("snapshot", "height"))?;
    let mut tally = Tally::default();
    let mut tree_root = tree::Frontier::new().root();
    while ledger.height() < last {
        let (executed, row) = replay(&connection, &ledger, Depth::Whole).map_err(VerifyError::Found)?;
        tally.compare(&connection, &executed)?;
        compare_change(&connection, &ledger, &executed, &row)?;
        tree_root = executed.block.header.tree_root;
        ledger = executed.ledger;
        if snapshots.contains(&ledger.height()) {
            compare_snapshot(&connection, &ledger)?;
        }
        progress(ledger.height(), last);
    }
    check_structure(&connection)?;
    hashed::check_tiles(&connection, ledger.tree_size()).map_err(VerifyError::Found)?;
    tally.compare_counts(&connection, from)?;
    compare_accounts(&connection, genesis, &ledger)?;
    Ok(VerifyReport {
        from,
        height: ledger.height(),
        head: ledger.head(),
        hashed,
        blocks: tally.blocks,
        entries: tally.entries,
        leaves: tally.leaves,
        root: ledger.state_root(),
        tree_root,
    })
}

/// The genesis, or where the first bodies are no longer stored the oldest snapshot behind them, and what was checked before it.
fn start(connection: &Connection, genesis: &Genesis) -> Result<(Ledger, From, Hashed), VerifyError> {
    let first: Option<i64> = connection
        .query_row("SELECT min(height) FROM block", [], |row| row.get(0))
        .map_err(unreadable("block", "height"))?;
    let gone = Gone::read(connection).map_err(unreadable("table", "meta"))?;
    if first.unwrap_or(1) == 1 && gone.bodies == 0 {
        return Ok((Ledger::genesis(genesis)?, From::Genesis, Hashed::default()));
    }
    let snapshots = snapshot_heights(connection).map_err(unreadable("snapshot", "height"))?;
    let oldest = snapshots.into_iter().find(|height| *height >= gone.bodies);
    let missing = || Damage::of_block(1, "height", "there is no such block, nor a snapshot to begin from");
    let oldest = oldest.ok_or_else(missing).map_err(VerifyError::Found)?;
    let ledger = restore(connection, genesis, oldest).map_err(VerifyError::Found)?;
    let hashed = hashed::check(connection, genesis, gone, &ledger).map_err(VerifyError::Found)?;
    Ok((ledger, From::Snapshot(oldest), hashed))
}

/// What a light client needs of the block is there, if it needs anything.
fn compare_change(
    connection: &Connection,
    before: &Ledger,
    executed: &Executed,
    row: &StoredBlock,
) -> Result<(), VerifyError> {
    let height = executed.block.header.height;
    let (_, certificate) = row.examine(before.chain(), None).map_err(VerifyError::Found)?;
    let expected = change_by(executed, &certificate).map(|change| change.to_bytes());
    let stored =
        set_change_bytes(connection, height).map_err(unreadable(format!("block {height}"), "set_change"))?;
    if stored == expected {
        return Ok(());
    }
    Err(VerifyError::Found(Damage::of_block(height, "set_change", "is not what the block gives")))
}

/// What was compared so far.
#[derive(Debug, Default)]
struct Tally {
    blocks: u64,
    entries: u64,
    leaves: u64,
    /// Rows that must be there, by table.
    rows: [u64; TABLES.len()],
}

impl Tally {
    /// Compares every row that follows from a block.
    fn compare(&mut self, connection: &Connection, executed: &Executed) -> Result<(), VerifyError> {
        let height = executed.block.header.height;
        for ((table, rows), count) in
            projection::rows(&projection::Facts::of(executed)).into_iter().zip(&mut self.rows)
        {
            for row in rows {
                let place = format!("block {height}");
                let stored = table.stored(connection, &row).map_err(unreadable(place, table.name))?;
                *count += u64::from(compare_row(height, table, &row, stored).map_err(VerifyError::Found)?);
            }
        }
        self.blocks += 1;
        self.entries += executed.block.entries.len() as u64;
        self.leaves += executed.leaves.len() as u64;
        Ok(())
    }

    /// Nothing is stored beside what was compared.
    fn compare_counts(&self, connection: &Connection, from: From) -> Result<(), VerifyError> {
        let after = match from {
            From::Genesis => 0,
            From::Snapshot(height) => height,
            From::Leaves => return Ok(()),
        };
        for (table, expected) in TABLES.into_iter().zip(self.rows) {
            let found = table.count_after(connection, after).map_err(unreadable("table", table.name))?;
            if found != expected {
                let what = format!("has {found} rows after height {after}, the blocks give {expected}");
                return Err(VerifyError::Found(Damage::new("table", table.name, what)));
            }
        }
        Ok(())
    }
}

/// True if the stored row is this block's; false if a later block has rightly written over it.
fn compare_row(
    height: u64,
    table: &projection::Table,
    expected: &[Value],
    stored: Option<projection::Row>,
) -> Result<bool, Damage> {
    let part = |column: &str| format!("{}.{column}", table.name);
    let Some(stored) = stored else {
        let key = part(table.columns.first().copied().unwrap_or_default());
        return Err(Damage::of_block(height, &key, "a row that the block gives is missing"));
    };
    if table.replaces() && later(table, &stored, height) {
        return Ok(false);
    }
    for ((column, expected), found) in table.columns.iter().zip(expected).zip(&stored) {
        if expected != found {
            let what = format!("is {}, the block gives {}", shown(found), shown(expected));
            return Err(Damage::of_block(height, &part(column), what));
        }
    }
    Ok(true)
}

fn later(table: &projection::Table, stored: &[Value], height: u64) -> bool {
    let at = table.columns.iter().position(|column| *column == "height");
    let stored = at.and_then(|at| stored.get(at));
    matches!(stored, Some(Value::Integer(stored)) if u64::try_from(*stored).is_ok_and(|stored| stored > height))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => format!("{text:?}"),
        Value::Blob(bytes) => format!("{} bytes {}…", bytes.len(), hex::encode(&bytes[..bytes.len().min(4)])),
    }
}

fn compare_snapshot(connection: &Connection, ledger: &Ledger) -> Result<(), VerifyError> {
    let place = format!("snapshot {}", ledger.height());
    let stored = snapshot_bytes(connection, ledger.height()).map_err(unreadable(place.clone(), "bytes"))?;
    if stored == ledger.snapshot() {
        return Ok(());
    }
    Err(VerifyError::Found(Damage::new(place, "bytes", "it is not the state after the block of its height")))
}

/// Openings and their postings are the genesis's, what stands on every account is the ledger's, and there is no other.
fn compare_accounts(connection: &Connection, genesis: &Genesis, ledger: &Ledger) -> Result<(), VerifyError> {
    let (openings, deposits) = projection::opening(genesis, &Ledger::genesis(genesis)?);
    projection::compare_opening(connection, &deposits).map_err(VerifyError::Found)?;
    let mut names: Vec<Account<HomeId>> =
        ledger.members().into_iter().map(|(home, _)| Account::Home(home.clone())).collect();
    names.extend([Account::Supplier, Account::Network, Account::Congestion, Account::Deposits]);
    for account in &names {
        let name = account_name(account);
        let opening = openings.iter().find(|(of, _)| *of == name).map_or(0, |(_, opening)| *opening);
        let place = format!("account {name}");
        let sql = "SELECT opening_n, balance_n FROM account WHERE name = ?1";
        let query = connection.query_row(sql, [&name], |row| Ok((row.get(0)?, row.get(1)?))).optional();
        let stored: Option<(i64, i64)> = query.map_err(unreadable(place.clone(), "row"))?;
        let damage = |part: &str, what: &str| VerifyError::Found(Damage::new(&place, part, what));
        match stored {
            None => return Err(damage("name", "there is no such account")),
            Some((found, _)) if found != opening => {
                return Err(damage("opening_n", "is not what the genesis says"));
            }
            Some((_, found)) if found != ledger.balance(account).get() => {
                return Err(damage("balance_n", "is not what the blocks give"));
            }
            Some(_) => {}
        }
    }
    let query = connection.query_row("SELECT count(*) FROM account", [], |row| row.get(0));
    let count: i64 = query.map_err(unreadable("table", "account"))?;
    if int(names.len()).ok() == Some(count) {
        return Ok(());
    }
    Err(VerifyError::Found(Damage::new(
        "table",
        "account",
        format!("has {count} rows, the blocks give {}", names.len()),
    )))
}

/// SQLite's own check: pages, indexes, order.
fn check_structure(connection: &Connection) -> Result<(), VerifyError> {
    let query = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    let found: String = query.map_err(unreadable("database", "structure"))?;
    if found == "ok" { Ok(()) } else { Err(VerifyError::Found(Damage::new("database", "structure", found))) }
}

/// For `map_err`: SQLite cannot read there.
fn unreadable(
    place: impl Into<String>,
    part: impl Into<String>,
) -> impl FnOnce(rusqlite::Error) -> VerifyError {
    move |error| VerifyError::Found(Damage::new(place, part, format!("cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::fixture::{Street, genesis, home, store};
    use super::super::ledger_db::LedgerDb;
    use super::super::{Durability, StoreError};
    use super::*;

    /// A stored run of a street, to be spoilt in one place.
    struct Stored {
        _folder: tempfile::TempDir,
        path: PathBuf,
        street: Street,
    }

    impl Stored {
        fn new(intervals: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger.db");
            let mut street = Street::new();
            let blocks = street.run(intervals);
            let mut db = LedgerDb::open(&path, Durability::Normal, &genesis(), &home(1)).unwrap();
            store(&mut db, &blocks);
            Self { _folder: folder, path, street }
        }

        fn verify(&self) -> Result<VerifyReport, VerifyError> {
            verify(&self.path, &self.street.genesis, |_, _| {})
        }

        fn connection(&self) -> Connection {
            Connection::open(&self.path).unwrap()
        }

        /// The fault found after `sql` was run, in words.
        fn after(&self, sql: &str) -> String {
            self.connection().execute_batch(sql).unwrap();
            self.verify().expect_err(sql).to_string()
        }
    }

    #[test]
    fn a_whole_chain_is_replayed_from_genesis_to_the_same_roots() {
        let stored = Stored::new(8);
        let mut heard = Vec::new();
        let report = verify(&stored.path, &stored.street.genesis, |at, of| heard.push((at, of))).unwrap();
        let ledger = &stored.street.ledger;
        assert_eq!((report.from, report.from.to_string().as_str()), (From::Genesis, "from genesis"));
        assert_eq!((report.root, report.head), (ledger.state_root(), ledger.head()));
        assert_eq!(report.tree_root, ledger.tree_root());
        assert_eq!((report.blocks, report.height), (ledger.height(), ledger.height()));
        assert_eq!((report.entries, report.leaves), (49, ledger.tree_size()));
        assert_eq!(heard.last(), Some(&(ledger.height(), ledger.height())));
    }

    #[test]
    fn an_empty_chain_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        drop(LedgerDb::open(&path, Durability::Full, &genesis(), &home(1)).unwrap());
        let report = verify(&path, &genesis(), |_, _| {}).unwrap();
        assert_eq!((report.blocks, report.leaves, report.root), (0, 0, Street::new().ledger.state_root()));
        let missing = verify(&folder.path().join("none.db"), &genesis(), |_, _| {});
        assert!(matches!(missing, Err(VerifyError::Store(StoreError::Database { .. }))));
    }

    /// Flips one bit of every byte of a blob of block 7, one after the other, and returns the faults found.
    fn flip_every_byte(stored: &Stored, column: &str, step: usize) -> Vec<String> {
        let connection = stored.connection();
        let select = format!("SELECT {column} FROM block WHERE height = 7");
        let original: Vec<u8> = connection.query_row(&select, [], |row| row.get(0)).unwrap();
        let update = format!("UPDATE block SET {column} = ?1 WHERE height = 7");
        let mut faults = Vec::new();
        for position in (0..original.len()).step_by(step) {
            let mut flipped = original.clone();
            flipped[position] ^= 0x10;
            connection.execute(&update, [&flipped]).unwrap();
            faults.push(stored.verify().expect_err(&format!("{column} byte {position}")).to_string());
        }
        connection.execute(&update, [&original]).unwrap();
        assert!(stored.verify().is_ok());
        faults
    }

    #[test]
    fn a_flipped_byte_in_any_column_of_a_stored_block_is_named() {
        let stored = Stored::new(2);
        // Block 7 is the one with the readings of the last interval.
        for (column, step) in [("id", 1), ("header", 1), ("entries", 29), ("certificate", 1), ("checksum", 1)]
        {
            for fault in flip_every_byte(&stored, column, step) {
                let named = match column {
                    "id" => fault.starts_with("block 7: id: "),
                    "checksum" => fault
                        .starts_with("block 7: decided_wall_ms, finality_ms or checksum: checksum differs"),
                    column => fault.starts_with(&format!("block 7: {column}: checksum differs")),
                };
                assert!(named, "{column}: {fault}");
            }
        }
    }

    #[test]
    fn a_changed_number_in_any_column_of_a_stored_block_is_named() {
        let stored = Stored::new(2);
        for column in ["time_ms", "round", "entry_count", "decided_wall_ms", "finality_ms"] {
            let fault = stored.after(&format!("UPDATE block SET {column} = {column} + 1 WHERE height = 7"));
            assert!(fault.starts_with("block 7: ") && fault.contains(column), "{column}: {fault}");
            stored
                .connection()
                .execute(&format!("UPDATE block SET {column} = {column} - 1 WHERE height = 7"), [])
                .unwrap();
        }
        let fault = stored.after("UPDATE block SET height = 1007 WHERE height = 7");
        assert_eq!(fault, "block 7: height: there is no such block");
        let fault = stored.after(
            "UPDATE block SET height = 7 WHERE height = 6; UPDATE block SET height = 6 WHERE height = 1007",
        );
        assert_eq!(fault, "block 6: height: differs from the block itself");
    }

    #[test]
    fn a_forger_who_mends_the_checksum_is_found_all_the_same() {
        let stored = Stored::new(2);
        let connection = stored.connection();
        let chain = stored.street.genesis.chain();
        let mut row = StoredBlock::read(&connection, 7).unwrap();
        let (_, mut certificate) = row.examine(&chain, None).unwrap();
        certificate.signatures.pop();
        row.certificate = certificate.to_bytes();
        connection.execute("DELETE FROM block WHERE height = 7", []).unwrap();
        row.mend();
        row.insert(&connection).unwrap();
        let fault = stored.verify().unwrap_err().to_string();
        assert_eq!(fault, "block 7: certificate: 2 signatures where 3 are needed");
    }

    #[test]
    fn a_row_that_does_not_follow_from_its_block_is_named() {
        let stored = Stored::new(2);
        for (spoil, named, mend) in [
            (
                "UPDATE settlement SET amount_n = amount_n + 1 WHERE home = 'h2' AND height = 7",
                "settlement.amount_n: is ",
                "UPDATE settlement SET amount_n = amount_n - 1 WHERE home = 'h2' AND height = 7",
            ),
            (
                "UPDATE leaf SET bytes = zeroblob(33) WHERE position = 3",
                "leaf.bytes: is 33 bytes 00000000…",
                "",
            ),
        ] {
            let fault = stored.after(spoil);
            assert!(fault.contains(named), "{fault}");
            stored.connection().execute_batch(mend).unwrap();
        }
        for (spoil, expected) in [
            ("UPDATE leaf SET outcome = x'01' WHERE outcome IS NOT NULL", "leaf.outcome"),
            ("UPDATE leaf SET bytes = zeroblob(33)", "leaf.bytes"),
            ("INSERT INTO set_change VALUES (3, x'00')", "block 3: set_change: is not what the block gives"),
            ("INSERT INTO tile VALUES (0, zeroblob(32))", "tile 0"),
            ("DELETE FROM entry WHERE position = 2", "entry.height: a row that the block gives is missing"),
            ("UPDATE posting SET amount_n = 0 WHERE height > 0", "posting.amount_n"),
            ("UPDATE posting SET amount_n = 0 WHERE height = 0", "a deposit of the genesis differs"),
            ("UPDATE interval SET matched_wh = 1", "interval.matched_wh"),
            ("UPDATE reading SET import_register_wh = 5 WHERE home = 'h3'", "reading.import_register_wh"),
            ("UPDATE reading SET quantum_wh = 1000 WHERE home = 'h3'", "reading.quantum_wh"),
            ("UPDATE settlement SET quantum_wh = 0", "settlement.quantum_wh"),
            ("UPDATE evidence SET voltage_dv = x'00'", "evidence.voltage_dv"),
            ("UPDATE assurance SET level = 4", "assurance.level"),
            ("UPDATE account SET balance_n = 1 WHERE name = 'home:h1'", "account home:h1: balance_n"),
            ("UPDATE account SET opening_n = 1 WHERE name = 'supplier'", "account supplier: opening_n"),
            ("INSERT INTO account VALUES ('home:ghost', 0, 5, 0)", "table: account: has "),
            (
                "INSERT INTO reading VALUES (0, 'ghost', 0, 0, 'good', 'synced', 'm', 0, 1, '', 3)",
                "table: reading: has ",
            ),
        ] {
            let stored = Stored::new(1);
            let fault = stored.after(spoil);
            assert!(fault.contains(expected), "{spoil}: {fault}");
        }
    }

    #[test]
    fn a_damaged_snapshot_is_named() {
        let stored = Stored::new(8);
        let fault = stored
            .after("UPDATE snapshot SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) || x'ff' AS BLOB)");
        assert!(fault.contains("bytes: it is not the state after the block of its height"), "{fault}");
    }

    #[test]
    fn without_the_first_blocks_the_replay_begins_at_the_oldest_snapshot_and_says_so() {
        let stored = Stored::new(8);
        let connection = stored.connection();
        let snapshot: u64 = snapshot_heights(&connection).unwrap()[0];
        connection.execute("DELETE FROM block WHERE height < ?1", [int(snapshot).unwrap()]).unwrap();
        let missing = stored.verify().unwrap_err().to_string();
        assert_eq!(missing, "block 1: height: there is no such block");
        let gone = Gone { bodies: snapshot, certificates: snapshot, joined: snapshot };
        gone.write(&connection).unwrap();
        let report = stored.verify().unwrap();
        assert_eq!(report.from, From::Snapshot(snapshot));
        assert_eq!(report.from.to_string(), format!("from the snapshot at height {snapshot}"));
        assert_eq!(report.root, stored.street.ledger.state_root());
        assert_eq!(report.blocks, stored.street.ledger.height() - snapshot);
        let fault = stored.after("DELETE FROM snapshot");
        assert_eq!(fault, "block 1: height: there is no such block, nor a snapshot to begin from");
    }

    /// Everything in every table, as text.
    fn dump(path: &Path) -> rusqlite::Result<String> {
        let connection = Connection::open(path)?;
        let mut text = String::new();
        for table in [
            "meta",
            "block",
            "entry",
            "leaf",
            "settlement",
            "interval",
            "posting",
            "account",
            "reading",
            "evidence",
            "assurance",
            "snapshot",
        ] {
            let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2"))?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                for at in 0..columns {
                    text += &format!("{:?}|", row.get::<_, Value>(at)?);
                }
                text.push('\n');
            }
        }
        Ok(text)
    }

    #[test]
    fn a_byte_flipped_anywhere_in_the_file_is_found_or_changes_nothing() {
        let stored = Stored::new(2);
        stored.connection().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let (whole, original) = (dump(&stored.path).unwrap(), std::fs::read(&stored.path).unwrap());
        let mut found = 0;
        for position in (0..original.len()).step_by(509) {
            let mut bytes = original.clone();
            bytes[position] ^= 0x20;
            std::fs::write(&stored.path, bytes).unwrap();
            match stored.verify() {
                Ok(_) => {
                    assert!(dump(&stored.path).unwrap() == whole, "byte {position} changed something unseen");
                }
                Err(_) => found += 1,
            }
        }
        assert!(found > 40, "{found} of {} positions found", original.len() / 509);
    }

    #[test]
    fn the_file_itself_is_checked_where_no_row_shows_it() {
        let stored = Stored::new(4);
        // Bytes of an index of the own home, which no comparison reads.
        let connection = stored.connection();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'settlement_own'";
        let page: usize =
            connection.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap().try_into().unwrap();
        drop(connection);
        let mut bytes = std::fs::read(&stored.path).unwrap();
        let end = page * 4096;
        for byte in &mut bytes[end - 16..end] {
            *byte ^= 0xff;
        }
        std::fs::write(&stored.path, bytes).unwrap();
        let fault = stored.verify().unwrap_err().to_string();
        assert!(fault.starts_with("database: structure: "), "{fault}");
    }
}
