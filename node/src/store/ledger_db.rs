//! `ledger.db`: the final blocks with their certificates, and the tables that the API and the export read.

use std::path::{Path, PathBuf};

use energy::HomeId;
use ledger::codec::{Decode, Encode};
use ledger::{BlockId, Certificate, Chain, Executed, Genesis, Hash32, Header, Ledger, SetChange};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::bodies::Gone;
use super::database::{self, Durability, Schema, int, unsigned};
use super::error::Damage;
use super::prune::{Retention, snapshots_to_keep};
use super::replay::{Depth, StoredBlock, replay};
use super::{StoreError, followed, leaves, projection, rebuild};

const SCHEMA: &str = concat!(include_str!("ledger_db.sql"), include_str!("ledger_tables.sql"));
/// 2: readings say by which meter they are, settlements how finely it counts; evidence and assurance. 3: settlements say what
/// losses and incentives came to; provisional results; forward orders, gates and breaches of caps. 4: rows lie by interval and
/// height; tiles, bundles and kept bodies; changes of the delegates.
const SCHEMA_VERSION: i64 = 4;
/// What is asked for this node's own home.
pub(super) const OWN: &str = "
CREATE INDEX settlement_own ON settlement (home, interval_ms, height, leaf) WHERE home = {home};
CREATE INDEX reading_own ON reading (home, interval_ms) WHERE home = {home};
CREATE INDEX market_order_own ON market_order (home, interval_ms, height, position) WHERE home = {home};
";
/// A start replays at most this many blocks.
const SNAPSHOT_BLOCKS: u64 = 500;
const DAY_MS: u64 = 86_400_000;

/// The ledger's database, open for writing by the one engine of this node.
#[derive(Debug)]
pub struct LedgerDb {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    chain: Chain,
    /// Whose node this is; `None`: open for reading.
    pub(super) home: Option<HomeId>,
    /// Height and market day of the last block.
    last: (u64, u64),
    /// Market time of the last block.
    pub(super) head_ms: u64,
    /// How long after an interval it is settled.
    pub(super) due_after_ms: u64,
    /// What is no longer stored.
    pub(super) gone: Gone,
    /// How long what is kept.
    pub(super) retention: Retention,
    /// It is of a node that does not hold all bodies.
    pub(super) follows: bool,
}

impl LedgerDb {
    /// Opens the database at `path`, or makes it with the accounts and deposits of `genesis`. `home` is whose node this
    /// is. The tables of an older schema are made anew from the blocks first.
    ///
    /// # Errors
    /// [`StoreError`]: not such a database, of another chain, home, later schema or other rules, or the disk refuses what
    /// durability needs.
    pub fn open(
        path: &Path,
        durability: Durability,
        genesis: &Genesis,
        home: &HomeId,
    ) -> Result<Self, StoreError> {
        let (chain, start) = (genesis.chain(), Ledger::genesis(genesis)?);
        let schema = Schema { home: Some(home), ..schema(&chain) };
        rebuild::renew(path, durability, &schema, genesis)?;
        let fill = |connection: &Connection| projection::insert_opening(connection, genesis, &start);
        let connection = database::open(path, durability, &schema, fill)?;
        Self::of(connection, path, genesis, Some(home.clone()))
    }

    fn of(
        connection: Connection,
        path: &Path,
        genesis: &Genesis,
        home: Option<HomeId>,
    ) -> Result<Self, StoreError> {
        let fault = |source| StoreError::database(path, "read the last block")(source);
        let last = last_block(&connection).map_err(fault)?;
        let (height, head_ms) = last.unwrap_or((0, genesis.start.unix_ms()));
        let gone = Gone::read(&connection).map_err(fault)?;
        let follows = followed::is_following(&connection).map_err(fault)?;
        Ok(Self {
            follows,
            connection,
            path: path.to_owned(),
            chain: genesis.chain(),
            home,
            last: (height, day(head_ms)),
            head_ms,
            due_after_ms: genesis.due_after_ms,
            gone,
            retention: Retention::default(),
        })
    }

    /// How long what is kept from now on.
    pub const fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// What is no longer stored, or never was.
    #[must_use]
    pub const fn gone(&self) -> Gone {
        self.gone
    }

    /// The ledger as the database at `path` holds it, read beside a running node; nothing is written.
    ///
    /// # Errors
    /// See [`LedgerDb::open`] and [`LedgerDb::load`].
    pub fn current(path: &Path, genesis: &Genesis) -> Result<Ledger, StoreError> {
        let chain = genesis.chain();
        let connection = open_read_only(path, &chain)?;
        let fault = |source| StoreError::database(path, "read the last block")(source);
        // Blocks that are stored meanwhile are not seen.
        connection.execute_batch("BEGIN").map_err(fault)?;
        Self::of(connection, path, genesis, None)?.load(genesis)
    }

    /// Height of the last block stored; 0 before the first.
    #[must_use]
    pub const fn last_height(&self) -> u64 {
        self.last.0
    }

    /// A first block was stored whose state was taken from another node.
    pub(super) const fn begin_at(&mut self, header: &Header, gone: Gone) {
        self.head_ms = header.time.unix_ms();
        self.last = (header.height, day(self.head_ms));
        self.gone = gone;
    }

    /// The block stored at `height`, if one is.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn id_at(&self, height: u64) -> Result<Option<BlockId>, StoreError> {
        id_at(&self.connection, height).map_err(StoreError::database(&self.path, "look for a block"))
    }

    /// The block that the database at `path` holds at `height`, if it holds one; nothing is written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn block_id(path: &Path, genesis: &Genesis, height: u64) -> Result<Option<BlockId>, StoreError> {
        let connection = open_read_only(path, &genesis.chain())?;
        id_at(&connection, height).map_err(StoreError::database(path, "look for a block"))
    }

    /// The header of the block stored at `height`, if one is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn header_at(&self, height: u64) -> Result<Option<Header>, StoreError> {
        if self.id_at(height)?.is_none() {
            return Ok(None);
        }
        let row = StoredBlock::read(&self.connection, height).map_err(StoreError::damaged(&self.path))?;
        let (header, _) = row.examine_header().map_err(StoreError::damaged(&self.path))?;
        Ok(Some(header))
    }

    /// Why the last block stored is final; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the block.
    pub fn last_certificate(&self) -> Result<Option<Certificate>, StoreError> {
        if self.last.0 == 0 {
            return Ok(None);
        }
        let row =
            StoredBlock::read(&self.connection, self.last.0).map_err(StoreError::damaged(&self.path))?;
        let (_, certificate) = row.examine_header().map_err(StoreError::damaged(&self.path))?;
        Ok(certificate)
    }

    /// From the next block on, stores as durably as asked for. What was stored less durably before becomes so with it.
    ///
    /// # Errors
    /// [`StoreError`] if the disk refuses it.
    pub fn set_durability(&self, durability: Durability) -> Result<(), StoreError> {
        database::set_durability(&self.connection, &self.path, durability)
    }

    /// Stores a decided block, with its certificate and everything that follows from it, in one transaction: durable
    /// as asked for when this returns, or not there at all. `finality_ms` is how long it took from the first receipt of
    /// its oldest entry, `wall_ms` the Unix time at which it was decided.
    ///
    /// # Errors
    /// [`StoreError::NotNext`] if it does not follow the last one or the certificate is another block's,
    /// [`StoreError::Database`].
    pub fn commit(
        &mut self,
        executed: &Executed,
        certificate: &Certificate,
        finality_ms: u64,
        wall_ms: u64,
    ) -> Result<(), StoreError> {
        let header = &executed.block.header;
        let follows = header.height == self.last.0.saturating_add(1)
            && (certificate.height, certificate.block) == (header.height, executed.block.id());
        if !follows {
            return Err(StoreError::NotNext { last: self.last.0, given: header.height });
        }
        let today = day(header.time.unix_ms());
        // Who joins finds a snapshot of the same block, that of an epoch's end, at every node.
        let snapshot = header.height.is_multiple_of(SNAPSHOT_BLOCKS)
            || today != self.last.1
            || executed.ledger.epoch().after == header.height;
        let row = StoredBlock::new(&executed.block, certificate, wall_ms, finality_ms);
        let gone = snapshot.then_some(self.gone);
        let written = write(&mut self.connection, &row, executed, certificate, gone);
        written.map_err(StoreError::database(&self.path, format!("store block {}", header.height)))?;
        self.last = (header.height, today);
        self.head_ms = header.time.unix_ms();
        Ok(())
    }

    /// The ledger after the last block stored: the newest snapshot that holds, and the blocks after it replayed. Every
    /// replayed block's checksum, signatures and header are checked. Where not all bodies are held, what is known of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the block and what is wrong with it.
    pub fn load(&self, genesis: &Genesis) -> Result<Ledger, StoreError> {
        if let Some(view) = self.view(genesis)? {
            return Ok(view.ledger().clone());
        }
        let mut ledger = self.newest_snapshot(genesis)?;
        while ledger.height() < self.last.0 {
            let replayed = replay(&self.connection, &ledger, Depth::Start);
            ledger = replayed.map_err(StoreError::damaged(&self.path))?.0.ledger;
        }
        Ok(ledger)
    }

    /// Blocks from `height` on, with their certificates, for a member that was away: as many as fit `max_bytes`, but
    /// at least one if there is one; none where the body of the first is no longer stored. A damaged block is never handed out.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the block.
    pub fn blocks_from(
        &self,
        height: u64,
        max_bytes: usize,
    ) -> Result<Vec<(Vec<u8>, Certificate)>, StoreError> {
        let (mut blocks, mut bytes) = (Vec::new(), 0_usize);
        if height <= self.gone.bodies {
            return Ok(blocks);
        }
        for height in height.max(1)..=self.last.0 {
            let row = StoredBlock::read(&self.connection, height).map_err(StoreError::damaged(&self.path))?;
            bytes = bytes.saturating_add(row.entries.len()).saturating_add(row.certificate.len());
            if bytes > max_bytes && !blocks.is_empty() {
                break;
            }
            let (_, certificate) = row.examine(&self.chain, None).map_err(StoreError::damaged(&self.path))?;
            blocks.push((row.entries, certificate));
        }
        Ok(blocks)
    }

    /// The newest snapshot that can be taken up, else the genesis. A damaged one is passed over: the blocks decide.
    fn newest_snapshot(&self, genesis: &Genesis) -> Result<Ledger, StoreError> {
        let heights = snapshot_heights(&self.connection);
        let heights = heights.map_err(StoreError::database(&self.path, "list the snapshots"))?;
        for height in heights.into_iter().rev() {
            match restore(&self.connection, genesis, height) {
                Ok(ledger) => return Ok(ledger),
                Err(damage) => {
                    tracing::warn!(%damage, "a snapshot cannot be used; replaying from an older one");
                }
            }
        }
        Ok(Ledger::genesis(genesis)?)
    }
}

/// Opens the ledger database at `path` for reading.
pub(super) fn open_read_only(path: &Path, chain: &Chain) -> Result<Connection, StoreError> {
    if database::version_at(path).is_some() {
        rebuild::check_rules(path)?;
    }
    database::open_read_only(path, &schema(chain))
}

/// What a ledger database of `chain` must be.
fn schema(chain: &Chain) -> Schema<'_> {
    Schema { sql: SCHEMA, own_sql: Some(OWN), version: SCHEMA_VERSION, chain, home: None }
}

fn id_at(connection: &Connection, height: u64) -> rusqlite::Result<Option<BlockId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM block WHERE height = ?1")?;
    statement.query_row([int(height)?], |row| row.get(0).map(|id| BlockId(Hash32(id)))).optional()
}

/// What is no longer stored, and the heights of the snapshots.
pub(crate) fn holdings(connection: &Connection) -> rusqlite::Result<(Gone, Vec<u64>)> {
    Ok((Gone::read(connection)?, snapshot_heights(connection)?))
}

/// Height and market time of the last block.
pub(super) fn last_block(connection: &Connection) -> rusqlite::Result<Option<(u64, u64)>> {
    let sql = "SELECT height, time_ms FROM block ORDER BY height DESC LIMIT 1";
    connection.query_row(sql, [], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?))).optional()
}

/// Heights of the snapshots, oldest first.
pub(super) fn snapshot_heights(connection: &Connection) -> rusqlite::Result<Vec<u64>> {
    let mut statement = connection.prepare("SELECT height FROM snapshot ORDER BY height")?;
    statement.query_map([], |row| unsigned(row, 0))?.collect()
}

/// Heights and market times of the snapshots, oldest first.
pub(super) fn snapshots(connection: &Connection) -> rusqlite::Result<Vec<(u64, u64)>> {
    let sql =
        "SELECT s.height, b.time_ms FROM snapshot s JOIN block b ON b.height = s.height ORDER BY s.height";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?.collect()
}

/// The snapshot stored at `height`.
pub(super) fn snapshot_bytes(connection: &Connection, height: u64) -> rusqlite::Result<Vec<u8>> {
    connection.query_row("SELECT bytes FROM snapshot WHERE height = ?1", [int(height)?], |row| row.get(0))
}

/// Takes up the snapshot at `height` and checks that it is the state after the block stored there.
pub(super) fn restore(connection: &Connection, genesis: &Genesis, height: u64) -> Result<Ledger, Damage> {
    let damage = |what: String| Damage::new(format!("snapshot {height}"), "bytes", what);
    let bytes = snapshot_bytes(connection, height).map_err(|error| damage(error.to_string()))?;
    let ledger = Ledger::restore(genesis, &bytes).map_err(|error| damage(error.to_string()))?;
    let row = StoredBlock::read(connection, height)?;
    let (header, _) = row.examine_header()?;
    let same = ledger.height() == height
        && ledger.head() == header.id()
        && ledger.state_root() == header.state_root
        && ledger.tree_size() == header.tree_size
        && ledger.tree_root() == header.tree_root;
    if same {
        Ok(ledger)
    } else {
        Err(damage("it is not the state after the block of its height".to_owned()))
    }
}

fn write(
    connection: &mut Connection,
    row: &StoredBlock,
    executed: &Executed,
    certificate: &Certificate,
    snapshot: Option<Gone>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    row.insert(&transaction)?;
    insert_following(&transaction, executed, certificate)?;
    if let Some(gone) = snapshot {
        insert_snapshot(&transaction, &executed.ledger)?;
        drop_snapshots(&transaction, gone)?;
    }
    transaction.commit()
}

/// Writes everything that follows from a block.
pub(super) fn insert_following(
    connection: &Connection,
    executed: &Executed,
    certificate: &Certificate,
) -> rusqlite::Result<()> {
    projection::insert(connection, executed)?;
    let after = executed.ledger.tree_size();
    leaves::insert_tiles(connection, after.saturating_sub(executed.leaves.len() as u64), after)?;
    match change_by(executed, certificate) {
        Some(change) => insert_change(connection, &change),
        None => Ok(()),
    }
}

/// What a light client must know of a block, if another set decides after it.
pub(super) fn change_by(executed: &Executed, certificate: &Certificate) -> Option<SetChange> {
    let header = &executed.block.header;
    (header.delegates != header.next_delegates).then(|| SetChange {
        header: header.clone(),
        certificate: certificate.clone(),
        delegates: executed.ledger.delegates().clone(),
    })
}

pub(super) fn insert_change(connection: &Connection, change: &SetChange) -> rusqlite::Result<()> {
    let sql = "INSERT INTO set_change (height, bytes) VALUES (?1, ?2)";
    let values = (int(change.header.height)?, change.to_bytes());
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// What is stored of a change of the delegates at `height`.
pub(super) fn set_change_bytes(connection: &Connection, height: u64) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT bytes FROM set_change WHERE height = ?1")?;
    statement.query_row([int(height)?], |row| row.get(0)).optional()
}

/// The changes of the delegates before `height`, in order.
pub(super) fn set_changes(
    connection: &Connection,
    after: u64,
    before: u64,
) -> rusqlite::Result<Vec<SetChange>> {
    let sql = "SELECT bytes FROM set_change WHERE height > ?1 AND height < ?2 ORDER BY height";
    let mut statement = connection.prepare_cached(sql)?;
    statement
        .query_map([int(after)?, int(before)?], |row| database::decoded(row, 0, SetChange::from_bytes))?
        .collect()
}

fn drop_snapshots(connection: &Connection, gone: Gone) -> rusqlite::Result<()> {
    let snapshots = snapshots(connection)?;
    let kept = snapshots_to_keep(&snapshots, gone);
    let mut delete = connection.prepare_cached("DELETE FROM snapshot WHERE height = ?1")?;
    let dropped = snapshots.iter().filter(|(height, _)| !kept.contains(height));
    dropped.into_iter().try_for_each(|(height, _)| delete.execute([int(*height)?]).map(drop))
}

/// Stores the state after the block of its height.
pub(super) fn insert_snapshot(connection: &Connection, ledger: &Ledger) -> rusqlite::Result<()> {
    let values = (int(ledger.height())?, ledger.snapshot());
    connection.prepare_cached("INSERT INTO snapshot VALUES (?1, ?2)")?.execute(values).map(drop)
}

const fn day(time_ms: u64) -> u64 {
    time_ms / DAY_MS
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Street, genesis, home, store};
    use super::*;

    fn open(path: &Path) -> LedgerDb {
        LedgerDb::open(path, Durability::Full, &genesis(), &home(1)).unwrap()
    }

    fn count(db: &LedgerDb, sql: &str) -> i64 {
        db.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_was_stored_is_loaded_with_the_same_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(8);
        let mut db = open(&path);
        assert_eq!(db.load(&street.genesis).unwrap().state_root(), Street::new().ledger.state_root());
        store(&mut db, &blocks);
        assert_eq!(db.last_height(), blocks.len() as u64);
        drop(db);
        let db = open(&path);
        assert_eq!(db.last_height(), blocks.len() as u64);
        let ledger = db.load(&street.genesis).unwrap();
        assert_eq!(ledger.snapshot(), street.ledger.snapshot());
        // The run passes midnight UTC once.
        assert_eq!(count(&db, "SELECT count(*) FROM snapshot"), 1);
    }

    #[test]
    fn the_tables_say_what_the_blocks_gave() {
        let folder = tempfile::tempdir().unwrap();
        let mut street = Street::new();
        let blocks = street.run(4);
        let mut db = open(&folder.path().join("ledger.db"));
        store(&mut db, &blocks);
        assert_eq!(count(&db, "SELECT count(*) FROM interval"), 4);
        // Four founding homes in each, the one that joined in the second from its settlement on.
        assert_eq!(count(&db, "SELECT count(*) FROM settlement WHERE home <> 'h5'"), 16);
        assert_eq!(count(&db, "SELECT count(*) FROM reading WHERE home <> ''"), 20);
        assert_eq!(count(&db, "SELECT count(*) FROM reading WHERE home = ''"), 5);
        assert_eq!(count(&db, "SELECT count(*) FROM entry WHERE kind = 'reading'"), 25);
        assert_eq!(count(&db, "SELECT sum(balance_n) FROM account"), 0);
        assert_eq!(
            count(&db, "SELECT sum(opening_n) FROM account WHERE name LIKE 'home:%'"),
            200_000_000_000
        );
        assert_eq!(count(&db, "SELECT opening_n FROM account WHERE name = 'deposits'"), -200_000_000_000);
        assert_eq!(count(&db, "SELECT sum(amount_n) FROM posting WHERE height = 0"), 0);
        assert!(count(&db, "SELECT sum(sold_wh) FROM settlement") > 0);
        assert_eq!(
            count(&db, "SELECT sum(bought_wh) FROM settlement"),
            count(&db, "SELECT sum(matched_wh) FROM interval")
        );
        let balance = street.ledger.balance(&market::Account::Home(home(1))).get();
        assert_eq!(count(&db, "SELECT balance_n FROM account WHERE name = 'home:h1'"), balance);
        assert_eq!(
            u64::try_from(count(&db, "SELECT max(position) + 1 FROM leaf")),
            Ok(street.ledger.tree_size())
        );
    }

    #[test]
    fn a_block_is_stored_whole_or_not_at_all_and_only_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(1);
        let mut db = open(&path);
        let (second, certificate) = &blocks[1];
        assert!(matches!(
            db.commit(second, certificate, 1, 1),
            Err(StoreError::NotNext { last: 0, given: 2 })
        ));
        let (first, _) = &blocks[0];
        assert!(matches!(
            db.commit(first, certificate, 1, 1),
            Err(StoreError::NotNext { last: 0, given: 1 })
        ));
        // A table that is not there makes one of its later statements fail.
        db.connection.execute_batch("DROP TABLE reading").unwrap();
        assert!(matches!(db.commit(first, &blocks[0].1, 1, 1), Err(StoreError::Database { .. })));
        assert_eq!(db.last_height(), 0);
        for table in ["block", "entry", "leaf", "settlement", "interval", "snapshot"] {
            assert_eq!(count(&db, &format!("SELECT count(*) FROM {table}")), 0, "{table}");
        }
    }

    #[test]
    fn killed_during_a_commit_the_ledger_is_the_one_before_or_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(2);
        let mut db = open(&path);
        store(&mut db, &blocks[..4]);
        let row = StoredBlock::new(&blocks[4].0.block, &blocks[4].1, 1, 1);
        // With a cache of one page the transaction reaches the file before it is committed.
        db.connection.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
        row.insert(&db.connection).unwrap();
        for (table, rows) in projection::rows(&projection::Facts::of(&blocks[4].0)) {
            table.insert(&db.connection, &rows).unwrap();
        }
        // What a kill now would leave: the files as every other process sees them.
        let killed = tempfile::tempdir().unwrap();
        for name in ["ledger.db", "ledger.db-wal"] {
            std::fs::copy(folder.path().join(name), killed.path().join(name)).unwrap();
        }
        let mut db = open(&killed.path().join("ledger.db"));
        assert_eq!(db.last_height(), 4);
        assert_eq!(db.load(&street.genesis).unwrap().state_root(), blocks[3].0.ledger.state_root());
        store(&mut db, &blocks[4..]);
        assert_eq!(db.load(&street.genesis).unwrap().state_root(), street.ledger.state_root());
    }

    #[test]
    fn a_start_uses_the_newest_snapshot_that_holds_and_replays_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(8);
        let mut db = open(&path);
        store(&mut db, &blocks);
        let height = snapshot_heights(&db.connection).unwrap()[0];
        assert!(height > 1 && height < db.last_height());
        // The blocks before the snapshot are not looked at …
        db.connection.execute("UPDATE block SET entries = x'00' WHERE height = 1", []).unwrap();
        assert_eq!(db.load(&street.genesis).unwrap().state_root(), street.ledger.state_root());
        // … but when it is damaged they are all there is.
        db.connection.execute("UPDATE snapshot SET bytes = zeroblob(100)", []).unwrap();
        let refused = db.load(&street.genesis).unwrap_err().to_string();
        assert!(refused.contains("block 1: entries: checksum differs"), "{refused}");
    }

    #[test]
    fn snapshots_are_taken_by_height_and_the_newest_two_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut db = LedgerDb::open(&path, Durability::Normal, &genesis(), &home(1)).unwrap();
        let mut street = Street::new();
        for at in 1..=1_505u64 {
            let time = super::super::fixture::start().plus_ms(at);
            let block = street.block(time, &[]);
            store(&mut db, &[block]);
        }
        // The first of a week stays, too.
        assert_eq!(snapshot_heights(&db.connection).unwrap(), [500, 1_000, 1_500]);
        assert_eq!(db.load(&street.genesis).unwrap().state_root(), street.ledger.state_root());
    }

    #[test]
    fn a_member_that_was_away_gets_whole_blocks_within_its_limit_and_no_damaged_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut street = Street::new();
        let blocks = street.run(2);
        let mut db = open(&folder.path().join("ledger.db"));
        store(&mut db, &blocks);
        let sent = db.blocks_from(3, usize::MAX).unwrap();
        assert_eq!(sent.len(), blocks.len() - 2);
        let mut behind = blocks[1].0.ledger.clone();
        for (bytes, certificate) in sent {
            use ledger::codec::Decode;
            let block = ledger::UnverifiedBlock::from_bytes(&bytes).unwrap();
            certificate.verify(behind.chain(), behind.delegates()).unwrap();
            assert_eq!(certificate.block, block.header.id());
            behind = behind.execute(&block.verify(behind.chain(), |_| None).unwrap()).unwrap().ledger;
        }
        assert_eq!(behind.state_root(), street.ledger.state_root());
        assert_eq!(db.blocks_from(4, 1).unwrap().len(), 1, "at least one");
        assert_eq!(db.blocks_from(db.last_height() + 1, 1 << 20).unwrap(), []);
        db.connection.execute("UPDATE block SET certificate = x'00' WHERE height = 5", []).unwrap();
        let refused = db.blocks_from(3, usize::MAX).unwrap_err().to_string();
        assert!(refused.contains("block 5: certificate: checksum differs"), "{refused}");
    }

    #[test]
    fn the_database_of_another_home_or_genesis_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        drop(open(&path));
        let other_home = LedgerDb::open(&path, Durability::Full, &genesis(), &home(2)).unwrap_err();
        assert!(matches!(other_home, StoreError::OtherHome { .. }), "{other_home}");
        let other = Genesis { name: "another street".to_owned(), ..genesis() };
        let other_chain = LedgerDb::open(&path, Durability::Normal, &other, &home(1)).unwrap_err();
        assert!(matches!(other_chain, StoreError::OtherChain { .. }), "{other_chain}");
    }
}
