//! Letting go of what is old, a little after each block: other homes' bodies and rows, then certificates. What this node needs
//! for its own home's bills and proofs, what is public, every header and every leaf stay.
//!
//! Bodies go up to a snapshot only, so that what follows can always be replayed.

use std::collections::BTreeSet;

use energy::HomeId;
use ledger::codec::{Decode, Encode};
use ledger::{Body, Header, Outcome, UnverifiedBlock};
use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;
use super::bodies::Gone;
use super::database::{int, unsigned};
use super::error::Damage;
use super::leaves;
use super::ledger_db::{LedgerDb, snapshots};
use super::replay::StoredBlock;

const DAY_MS: u64 = 86_400_000;
/// Bodies are kept for so many days, at least: so long readings can come late and corrections be made.
pub const BODIES_DAYS_MIN: u32 = 60;
/// And at most: a hundred years.
pub const BODIES_DAYS_MAX: u32 = 36_500;
/// Certificates are kept for so many days, at least.
const CERTIFICATES_DAYS: u32 = 90;
/// At most so many blocks lose their bodies, or their certificates, at once: a commit must not wait for long.
const SLICE_BLOCKS: u64 = 16;
/// A home that ceases to hold all bodies lets go of so many at once, before it goes on.
const STRIPPED_BLOCKS: u64 = 256;
/// Free pages are given back at most so many at once …
const VACUUM_PAGES: u64 = 256;
/// … and only where so many of a hundred are free: what comes next needs the others.
const FREE_PERCENT: u64 = 25;
/// For each page that is given back SQLite goes through its list of free pages, of which a page names so many …
const FREE_PER_LIST_PAGE: u64 = 1022;
/// … and looks at no more than so many pages of that list at once: some 17 ms where 3.5 GB are free, at 1.9 ms a page as
/// measured on a server.
const LIST_PAGES_AT_ONCE: u64 = 8192;

/// How long what is kept, in ms of market time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub(super) bodies_ms: u64,
    pub(super) certificates_ms: u64,
    /// An ordinary result of an interval is there so long after its deadline.
    pub(super) settled_after_ms: u64,
    /// The latest result of an interval is there so long after it.
    pub(super) late_after_ms: u64,
    /// What meters say of themselves is looked back on for so much longer.
    pub(super) evidence_after_ms: u64,
}

impl Retention {
    /// Bodies for so many days, and never less than [`BODIES_DAYS_MIN`]; certificates for 90, or as long as bodies.
    #[must_use]
    pub fn days(bodies: u32) -> Self {
        let days = |days: u32| u64::from(days).saturating_mul(DAY_MS);
        let bodies = bodies.max(BODIES_DAYS_MIN);
        Self {
            bodies_ms: days(bodies),
            certificates_ms: days(bodies.max(CERTIFICATES_DAYS)),
            settled_after_ms: days(1),
            // Late readings and corrections come within 60 days.
            late_after_ms: days(62),
            evidence_after_ms: days(40),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::days(BODIES_DAYS_MIN)
    }
}

impl LedgerDb {
    /// Lets go of a little of what is older than it is kept, in one short transaction. True if there may be more. Where there is
    /// no more, some free pages are given back.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names a block that is not what was stored: nothing is let go of then.
    pub fn prune(&mut self) -> Result<bool, StoreError> {
        let Some(home) = self.home.clone() else { return Ok(false) };
        let now = self.head_ms;
        let fault = |source| StoreError::database(&self.path, "let go of what is old")(source);
        // Who does not hold all bodies lets go of what is left of them, up to the last block.
        let base = match self.follows {
            true => self.last_height(),
            false => self.base(now.saturating_sub(self.retention.bodies_ms)).map_err(fault)?,
        };
        let gone = self.gone;
        let slice_blocks = if self.follows { STRIPPED_BLOCKS } else { SLICE_BLOCKS };
        let slice = |from: u64, until: u64| (from + 1, until.min(from.saturating_add(slice_blocks)));
        let bodies = Some(slice(gone.bodies, base)).filter(|(from, until)| from <= until);
        let oldest = now.saturating_sub(self.retention.certificates_ms);
        let (from, until) = slice(gone.certificates.max(gone.joined), gone.bodies);
        let until = last_before(&self.connection, oldest, until).map_err(fault)?;
        let certificates = Some((from, until)).filter(|(from, until)| from <= until);
        if bodies.is_none() && certificates.is_none() {
            self.give_back().map_err(fault)?;
            return Ok(false);
        }
        let mut now_gone = gone;
        let path = self.path.clone();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
        let slice = Slice {
            connection: &transaction,
            home: &home,
            due_after_ms: self.due_after_ms,
            retention: self.retention,
            follows: self.follows,
        };
        if let Some((from, until)) = bodies {
            slice.drop_bodies(from, until).map_err(|fault| fault.into_store(&path))?;
            now_gone.bodies = until;
        }
        if let Some((from, until)) = certificates {
            slice.drop_certificates(from, until).map_err(|fault| fault.into_store(&path))?;
            now_gone.certificates = until;
        }
        let finish = || -> rusqlite::Result<()> {
            now_gone.write(&transaction)?;
            transaction.commit()
        };
        finish().map_err(StoreError::database(&path, "let go of what is old"))?;
        self.gone = now_gone;
        Ok(true)
    }

    /// The newest snapshot of a block before `oldest_ms`: bodies up to it can go.
    fn base(&self, oldest_ms: u64) -> rusqlite::Result<u64> {
        let snapshots = snapshots(&self.connection)?;
        let old = snapshots.iter().filter(|(_, time_ms)| *time_ms <= oldest_ms);
        Ok(old.map(|(height, _)| *height).max().unwrap_or(0))
    }

    /// Gives free pages back to the file system, where there are many.
    fn give_back(&self) -> rusqlite::Result<()> {
        let figure = |name: &str| -> rusqlite::Result<u64> {
            self.connection.pragma_query_value(None, name, |row| unsigned(row, 0))
        };
        let (free, pages) = (figure("freelist_count")?, figure("page_count")?);
        if free < VACUUM_PAGES || free.saturating_mul(100) < pages.saturating_mul(FREE_PERCENT) {
            return Ok(());
        }
        // Each row that is asked for gives one page back.
        let sql = format!("PRAGMA incremental_vacuum({})", pages_at_once(free));
        let mut vacuum = self.connection.prepare(&sql)?;
        let mut given = vacuum.query([])?;
        while given.next()?.is_some() {}
        Ok(())
    }
}

/// How many of so many free pages are given back at once.
fn pages_at_once(free: u64) -> u64 {
    (LIST_PAGES_AT_ONCE / (free / FREE_PER_LIST_PAGE + 1)).clamp(1, VACUUM_PAGES)
}

/// The last height up to `until` whose block is before `oldest_ms`.
fn last_before(connection: &Connection, oldest_ms: u64, until: u64) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(height), 0) FROM
               (SELECT height FROM block WHERE height <= ?1 AND time_ms <= ?2 ORDER BY height DESC LIMIT 1)";
    connection.query_row(sql, [int(until)?, int(oldest_ms)?], |row| unsigned(row, 0))
}

/// Why a slice was not let go of.
enum SliceFault {
    Database(rusqlite::Error),
    Damage(Damage),
}

impl From<rusqlite::Error> for SliceFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Damage> for SliceFault {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl SliceFault {
    fn into_store(self, path: &std::path::Path) -> StoreError {
        match self {
            Self::Database(error) => StoreError::database(path, "let go of what is old")(error),
            Self::Damage(damage) => StoreError::damaged(path)(damage),
        }
    }
}

struct Slice<'c> {
    connection: &'c Connection,
    home: &'c HomeId,
    /// How long after an interval it is settled.
    due_after_ms: u64,
    retention: Retention,
    follows: bool,
}

impl Slice<'_> {
    /// Lets go of the bodies of these blocks, and of other homes' rows of that time.
    fn drop_bodies(&self, from: u64, until: u64) -> Result<(), SliceFault> {
        let before_ms = self.time_of(from.saturating_sub(1))?;
        let mut rest = Vec::new();
        for height in from..=until {
            let mut row = StoredBlock::read(self.connection, height)?;
            let block = row.examine_body()?;
            self.keep_bodies(&block)?;
            self.drop_entries(&block)?;
            row.drop_body();
            rest.push(row);
        }
        self.put_back(from, until, &rest)?;
        self.drop_postings(from, until)?;
        self.drop_rows(before_ms, self.time_of(until)?, until)?;
        let size = leaves::size_after(self.connection, until)?;
        leaves::bundle_up_to(self.connection, size)?;
        let sql = "UPDATE leaf SET outcome = NULL WHERE position < ?1 AND outcome IS NOT NULL";
        self.connection.prepare_cached(sql)?.execute([int(size)?])?;
        Ok(())
    }

    /// Stores what is left of these blocks. They are taken out first: a row that shrinks where it lies leaves a page nearly empty,
    /// 4 kB for each block for ever.
    fn put_back(&self, from: u64, until: u64, rest: &[StoredBlock]) -> rusqlite::Result<()> {
        let sql = "DELETE FROM block WHERE height >= ?1 AND height <= ?2";
        self.connection.prepare_cached(sql)?.execute([int(from)?, int(until)?])?;
        rest.iter().try_for_each(|row| row.insert(self.connection))
    }

    fn time_of(&self, height: u64) -> rusqlite::Result<u64> {
        let sql = "SELECT coalesce(max(time_ms), 0) FROM block WHERE height = ?1";
        self.connection.prepare_cached(sql)?.query_row([int(height)?], |row| unsigned(row, 0))
    }

    /// True for a body that stays: about this home, public, or the admission of a member, which the state holds anyway where it
    /// is whole.
    fn stays(&self, body: &Body) -> bool {
        let is_known = !self.follows && matches!(body, Body::Admission(_));
        !body.is_sealed() || body.home() == Some(self.home) || is_known
    }

    fn keep_bodies(&self, block: &UnverifiedBlock) -> rusqlite::Result<()> {
        let height = block.header.height;
        let first = leaves::size_after(self.connection, height.saturating_sub(1))?;
        let insert = |leaf: u64, outcome: bool, bytes: &[u8]| {
            let sql = "INSERT INTO body (leaf, height, outcome, bytes) VALUES (?1, ?2, ?3, ?4)";
            let values = (int(leaf)?, int(height)?, outcome, bytes);
            self.connection.prepare_cached(sql)?.execute(values).map(drop)
        };
        for (leaf, entry) in (first..).zip(&block.entries) {
            if self.stays(&entry.unchecked().body) {
                insert(leaf, false, &entry.to_bytes())?;
            }
        }
        let sql = "SELECT position, outcome FROM leaf
                   WHERE position >= ?1 AND position < ?2 AND outcome IS NOT NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([int(first)?, int(block.header.tree_size)?])?;
        while let Some(row) = rows.next()? {
            let bytes: Vec<u8> = row.get(1)?;
            if Outcome::from_bytes(&bytes).is_ok_and(|outcome| self.stays_said(&outcome)) {
                insert(unsigned(row, 0)?, true, &bytes)?;
            }
        }
        Ok(())
    }

    fn stays_said(&self, outcome: &Outcome) -> bool {
        !outcome.is_sealed() || outcome.home() == Some(self.home)
    }

    fn drop_entries(&self, block: &UnverifiedBlock) -> rusqlite::Result<()> {
        let sql = "DELETE FROM entry WHERE height = ?1 AND position = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (position, entry) in block.entries.iter().enumerate() {
            if !self.stays(&entry.unchecked().body) {
                statement.execute([int(block.header.height)?, int(position)?])?;
            }
        }
        Ok(())
    }

    /// Other accounts' movements become one sum each.
    fn drop_postings(&self, from: u64, until: u64) -> rusqlite::Result<()> {
        let account = format!("home:{}", self.home);
        let values = (int(from)?, int(until)?, &account);
        let sql = "UPDATE account SET gone_n = gone_n + gone.amount_n FROM
                   (SELECT account, sum(amount_n) AS amount_n FROM posting
                    WHERE height >= ?1 AND height <= ?2 AND account <> ?3 GROUP BY account) AS gone
                   WHERE account.name = gone.account";
        self.connection.prepare_cached(sql)?.execute(values)?;
        let sql = "DELETE FROM posting WHERE height >= ?1 AND height <= ?2 AND account <> ?3";
        self.connection.prepare_cached(sql)?.execute(values).map(drop)
    }

    /// Other homes' rows about intervals that have long been settled by the block at `height`. Twice: once for what was settled
    /// in time, and once when nothing more can come late.
    fn drop_rows(&self, from_ms: u64, until_ms: u64, height: u64) -> rusqlite::Result<()> {
        let settled = self.due_after_ms.saturating_add(self.retention.settled_after_ms);
        for lag_ms in [settled, self.retention.late_after_ms] {
            let range = (from_ms.saturating_sub(lag_ms), until_ms.saturating_sub(lag_ms));
            self.drop_range(range, height)?;
        }
        let evidence_ms = int(until_ms.saturating_sub(self.retention.evidence_after_ms))?;
        for (table, column) in [("evidence", "from_ms"), ("assurance", "until_ms")] {
            let sql = format!("DELETE FROM {table} WHERE {column} < ?1 AND home <> ?2 AND height <= ?3");
            let values = (evidence_ms, self.home.as_str(), int(height)?);
            self.connection.prepare_cached(&sql)?.execute(values)?;
        }
        Ok(())
    }

    fn drop_range(&self, (from_ms, until_ms): (u64, u64), height: u64) -> rusqlite::Result<()> {
        let values = (int(from_ms)?, int(until_ms)?, self.home.as_str(), int(height)?);
        let range = "interval_ms >= ?1 AND interval_ms < ?2 AND home <> ?3 AND height <= ?4";
        let ended = format!(
            "DELETE FROM order_end WHERE height <= ?4 AND id IN (SELECT id FROM market_order WHERE {range})"
        );
        self.connection.prepare_cached(&ended)?.execute(values)?;
        for table in ["settlement", "provisional", "reading", "breach", "market_order"] {
            let sql = format!("DELETE FROM {table} WHERE {range}");
            self.connection.prepare_cached(&sql)?.execute(values)?;
        }
        Ok(())
    }

    /// Lets go of the certificates of these blocks; those of changes of the delegates are kept beside them.
    fn drop_certificates(&self, from: u64, until: u64) -> Result<(), SliceFault> {
        let mut rest = Vec::new();
        for height in from..=until {
            let mut row = StoredBlock::read(self.connection, height)?;
            let (header, _): (Header, _) = row.examine_header()?;
            if header.delegates == header.next_delegates {
                row.drop_certificate();
            }
            rest.push(row);
        }
        Ok(self.put_back(from, until, &rest)?)
    }
}

/// Which snapshots stay: the newest two, in case one is damaged; of each week the first; of those before what is kept whole, the
/// last one, where a replay begins.
pub(super) fn snapshots_to_keep(snapshots: &[(u64, u64)], gone: Gone) -> BTreeSet<u64> {
    let mut kept: BTreeSet<u64> = snapshots.iter().rev().take(2).map(|(height, _)| *height).collect();
    let mut week = None;
    for (height, time_ms) in snapshots.iter().filter(|(height, _)| *height >= gone.bodies) {
        let this = time_ms / (7 * DAY_MS);
        if week != Some(this) {
            kept.insert(*height);
            week = Some(this);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use ledger::{EntryId, Genesis};

    use super::super::Durability;
    use super::super::billing::BillingDb;
    use super::super::export::export;
    use super::super::fixture::{Street, first_interval, genesis, home, store};
    use super::super::proof::{ProofError, Reader, Wanted, prove};
    use super::super::verify::{From, verify};
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// Bodies for an hour, so that what is before the midnight of the run goes.
    const SHORT: Retention = Retention {
        bodies_ms: HOUR_MS,
        certificates_ms: 2 * HOUR_MS,
        settled_after_ms: 0,
        late_after_ms: HOUR_MS,
        evidence_after_ms: 0,
    };

    struct Stored {
        folder: tempfile::TempDir,
        path: PathBuf,
        street: Street,
        db: LedgerDb,
    }

    impl Stored {
        fn new(intervals: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger.db");
            let mut street = Street::new();
            let blocks = street.run(intervals);
            let mut db = LedgerDb::open(&path, Durability::Normal, &genesis(), &home(1)).unwrap();
            store(&mut db, &blocks);
            Self { folder, path, street, db }
        }

        /// Lets go of everything that is old, and says in how many slices.
        fn prune(&mut self) -> usize {
            self.db.set_retention(SHORT);
            (0..100).take_while(|_| self.db.prune().unwrap()).count()
        }

        fn pages(&self) -> (i64, i64) {
            (self.count("PRAGMA page_count"), self.count("PRAGMA freelist_count"))
        }

        fn count(&self, sql: &str) -> i64 {
            self.db.connection.query_row(sql, [], |row| row.get(0)).unwrap()
        }

        /// The first entry of a kind about a home.
        fn entry(&self, number: u8) -> EntryId {
            let sql = "SELECT id FROM entry WHERE kind = 'reading' AND home = ?1 ORDER BY height LIMIT 1";
            let id = self.db.connection.query_row(sql, [home(number).as_str()], |row| row.get(0)).unwrap();
            EntryId(ledger::Hash32(id))
        }
    }

    fn verified(path: &Path, genesis: &Genesis) -> super::super::verify::VerifyReport {
        verify(path, genesis, |_, _| {}).unwrap()
    }

    #[test]
    fn what_is_old_goes_in_slices_and_the_chain_goes_on_from_what_is_left() {
        let mut stored = Stored::new(16);
        let before = verified(&stored.path, &stored.street.genesis);
        assert_eq!(before.from, From::Genesis);
        assert!(stored.prune() >= 1);
        let gone = stored.db.gone();
        assert!(gone.bodies > 10 && gone.certificates > 0 && gone.certificates <= gone.bodies, "{gone:?}");
        let report = verified(&stored.path, &stored.street.genesis);
        assert_eq!(report.from, From::Snapshot(gone.bodies));
        assert_eq!(
            (report.root, report.head, report.tree_root),
            (before.root, before.head, before.tree_root)
        );
        assert_eq!(report.hashed.blocks, gone.bodies);
        assert_eq!(report.hashed.certificates, gone.bodies - gone.certificates);
        assert_eq!(report.hashed.leaves + report.leaves, before.leaves);
        assert!(report.hashed.bodies > 5);
        assert_eq!(stored.db.blocks_from(1, usize::MAX).unwrap(), [], "it says that it has none");
        // What shrinks does not go on taking the page that it filled.
        let room = stored.count("SELECT sum(unused) * 100 / sum(pgsize) FROM dbstat WHERE name = 'block'");
        assert!(room < 45, "{room} % of the blocks' pages are empty");
        assert!(stored.db.blocks_from(gone.bodies + 1, usize::MAX).unwrap().len() > 10);
        // A restart, and further blocks.
        let genesis = stored.street.genesis.clone();
        drop(stored.db);
        let mut db = LedgerDb::open(&stored.path, Durability::Normal, &genesis, &home(1)).unwrap();
        assert_eq!(db.load(&genesis).unwrap().snapshot(), stored.street.ledger.snapshot());
        assert_eq!(db.gone(), gone);
        let last = stored.street.ledger.head_time();
        store(&mut db, &[stored.street.block(last.plus_ms(1_000), &[])]);
        assert_eq!(verified(&stored.path, &genesis).blocks, report.blocks + 1);
    }

    #[test]
    fn other_homes_rows_go_and_the_own_ones_stay() {
        let mut stored = Stored::new(16);
        let own_sql = |table: &str| format!("SELECT count(*) FROM {table} WHERE home = 'h1'");
        let others_sql = |table: &str| {
            format!(
                "SELECT count(*) FROM {table} WHERE home <> 'h1' AND interval_ms < 1465862400000 - 3600000"
            )
        };
        let tables = ["settlement", "reading"];
        let own = tables.map(|table| stored.count(&own_sql(table)));
        let book = |path: &Path| {
            let db = BillingDb::open(path, &genesis()).unwrap();
            format!("{:?}", db.book(&home(1)).unwrap())
        };
        let (before, admitted) = (book(&stored.path), "SELECT count(*) FROM entry WHERE kind = 'admission'");
        assert!(tables.iter().all(|table| stored.count(&others_sql(table)) > 0));
        stored.prune();
        assert_eq!(tables.map(|table| stored.count(&own_sql(table))), own);
        assert!(tables.iter().all(|table| stored.count(&others_sql(table)) == 0));
        assert_eq!(book(&stored.path), before, "the own bill is the same");
        assert_eq!(stored.count(admitted), 1);
        let db = BillingDb::open(&stored.path, &genesis()).unwrap();
        assert_eq!(db.homes(&genesis()).unwrap().len(), 5);
        let gone = stored.db.gone().bodies;
        let sql = format!(
            "SELECT count(*) FROM posting WHERE height > 0 AND height <= {gone} AND account <> 'home:h1'"
        );
        assert_eq!(stored.count(&sql), 0);
        assert_eq!(stored.count("SELECT sum(gone_n <> 0) > 0 FROM account"), 1);
        let sql = format!("SELECT count(*) FROM leaf WHERE height <= {gone} AND outcome IS NOT NULL");
        assert_eq!(stored.count(&sql), 0);
    }

    #[test]
    fn an_export_says_what_is_gone_and_adds_up_over_what_is_left() {
        let mut stored = Stored::new(16);
        stored.prune();
        let genesis = &stored.street.genesis;
        let out = stored.folder.path().join("out");
        let refused = export(&stored.path, genesis, &out, first_interval(), 16).unwrap_err();
        let StoreError::NoLongerStored { from, .. } = refused else { panic!("{refused}") };
        let first = energy::Interval::starting_at(from, genesis.mtu).unwrap();
        let summary = export(&stored.path, genesis, &out, first, 4).unwrap();
        assert_eq!((summary.intervals, summary.settlements), (4, 20));
        let sum = |file: &str, column: &str| -> i64 {
            let mut reader = csv::Reader::from_path(out.join(file)).unwrap();
            let rows = reader.deserialize::<std::collections::BTreeMap<String, String>>();
            rows.map(|row| row.unwrap()[column].parse::<i64>().unwrap()).sum()
        };
        assert_eq!(sum("postings.csv", "amount_n"), 0);
        assert_eq!((sum("accounts.csv", "opening_n"), sum("accounts.csv", "closing_n")), (0, 0));
    }

    #[test]
    fn own_entries_are_proven_before_and_after_and_others_while_they_are_there() {
        let mut stored = Stored::new(16);
        let (genesis, path) = (stored.street.genesis.clone(), stored.path.clone());
        let (own, other) = (Wanted::Entry(stored.entry(1)), Wanted::Entry(stored.entry(2)));
        let reader = home(1);
        let ask = |wanted: Wanted, reader: Reader<'_>| prove(&path, &genesis, wanted, reader);
        let proven = |wanted| ask(wanted, Reader::Holder).map(|proof| proof.check(&genesis).unwrap());
        assert!(proven(own).is_ok() && proven(other).is_ok());
        assert!(matches!(ask(other, Reader::Home(&reader)), Err(ProofError::NotOwn)));
        assert!(ask(own, Reader::Home(&reader)).is_ok());
        for leaf in (0..stored.street.ledger.tree_size()).step_by(7) {
            assert!(proven(Wanted::Leaf(leaf)).is_ok_and(|proven| proven.position == leaf), "{leaf}");
        }
        stored.prune();
        assert!(proven(own).is_ok());
        assert!(matches!(ask(other, Reader::Holder), Err(ProofError::Unknown)));
        let missing = ask(Wanted::Leaf(1), Reader::Holder);
        assert!(matches!(missing, Err(ProofError::Gone { leaf: 1 } | ProofError::Unknown)), "{missing:?}");
        let unknown = Wanted::Entry(EntryId::from_bytes(&[7; 32]).unwrap());
        assert!(matches!(ask(unknown, Reader::Holder), Err(ProofError::Unknown)));
    }

    #[test]
    fn what_is_left_of_old_blocks_is_checked_and_a_fault_is_named() {
        for (spoil, says) in [
            ("UPDATE block SET header = x'00' WHERE height = 5", "block 5: header"),
            ("UPDATE block SET certificate = x'00' WHERE height = 17", "block 17: checksum"),
            ("UPDATE block SET checksum = x'00' WHERE height = 5", "block 5: checksum: differs"),
            ("DELETE FROM block WHERE height = 5", "block 5: height: there is no such block"),
            (
                "UPDATE leaf SET bytes = zeroblob(33) WHERE position = 3",
                "leaf: the leaves do not give the root",
            ),
            ("DELETE FROM leaf WHERE position = 3", "leaf: cannot be read"),
            ("UPDATE body SET bytes = zeroblob(40) WHERE leaf = (SELECT min(leaf) FROM body)", "body"),
            ("UPDATE account SET gone_n = gone_n + 1 WHERE name = 'supplier'", ""),
        ] {
            let mut stored = Stored::new(16);
            stored.prune();
            stored.db.connection.execute_batch(spoil).unwrap();
            let found = verify(&stored.path, &stored.street.genesis, |_, _| {});
            if says.is_empty() {
                let out = stored.folder.path().join("out");
                let refused = export(&stored.path, &stored.street.genesis, &out, first_interval().next(), 1);
                assert!(refused.is_err(), "{spoil}");
                continue;
            }
            let fault = found.unwrap_err().to_string();
            assert!(fault.contains(says), "{spoil}: {fault}");
        }
    }

    #[test]
    fn a_damaged_block_is_not_let_go_of() {
        let mut stored = Stored::new(16);
        stored.db.connection.execute("UPDATE block SET entries = x'00' WHERE height = 4", []).unwrap();
        stored.db.set_retention(SHORT);
        let refused = stored.db.prune().unwrap_err().to_string();
        assert!(refused.contains("block 4: checksum"), "{refused}");
        assert_eq!(stored.db.gone(), Gone::default());
        assert_eq!(stored.count("SELECT count(*) FROM body"), 0);
    }

    #[test]
    fn bodies_stay_for_sixty_days_whatever_is_configured() {
        assert_eq!(Retention::days(1), Retention::days(60));
        assert_eq!(Retention::days(60).certificates_ms, 90 * DAY_MS);
        assert_eq!(Retention::days(400).certificates_ms, 400 * DAY_MS);
        let mut stored = Stored::new(16);
        assert!(!stored.db.prune().unwrap(), "nothing is that old");
    }

    #[test]
    fn the_first_snapshot_of_each_week_stays_as_long_as_what_follows_it() {
        let days: Vec<(u64, u64)> = (1..=30).map(|day| (day * 10, day * DAY_MS)).collect();
        let kept = |bodies| {
            let gone = Gone { bodies, ..Gone::default() };
            snapshots_to_keep(&days, gone).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(kept(0), [10, 70, 140, 210, 280, 290, 300]);
        assert_eq!(kept(140), [140, 210, 280, 290, 300]);
        assert_eq!(
            kept(150),
            [150, 210, 280, 290, 300],
            "within a week: the next one, to begin a replay from"
        );
    }

    #[test]
    fn where_many_pages_are_free_they_are_given_back_a_few_at_once_and_a_quarter_is_kept() {
        let mut stored = Stored::new(2);
        let fill =
            "CREATE TABLE junk (bytes BLOB); INSERT INTO junk VALUES (zeroblob(4 << 20)); DROP TABLE junk";
        stored.db.connection.execute_batch(fill).unwrap();
        let (before, free) = stored.pages();
        assert!(free > 1000, "{free} of {before} pages are free");
        assert!(!stored.db.prune().unwrap(), "nothing is that old");
        let (after, left) = stored.pages();
        assert_eq!(left, free - 256);
        assert!((before - 258..=before - 256).contains(&after), "{before} then {after} pages");
        for _ in 0..20 {
            stored.db.prune().unwrap();
        }
        let (pages, free) = stored.pages();
        assert!(free < 256 || free * 100 < pages * 25, "{free} of {pages} pages are free");
        assert!(free > 0);
        assert_eq!([1_000, 100_000, 900_000, u64::MAX].map(pages_at_once), [256, 83, 9, 1]);
    }
}
