//! Read-only questions to `ledger.db`.
//!
//! A few connections of their own, opened read-only, so that a question never waits for the engine's transaction and
//! can never change anything. Every query names the home it is for: rows of other homes are not read at all, but for
//! counting how many homes stand at which level of assurance.

mod assurance;
mod market;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{BlockRow, IntervalRow, ReadingRow, SettlementKind, SettlementRow, Time};
use energy::{Price, Timestamp, midpoint_floor};
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use tokio::sync::Semaphore;

use crate::store::quoted;

pub use assurance::{Standing, assurance, meter, standing};
pub use market::{OrderPlace, StoredGate, StoredOrder, breaches, gates, orders, orders_of, trades};

/// How many questions are answered at once; the rest waits its turn.
const CONNECTIONS: usize = 3;

/// How long SQLite waits for a lock, far longer than any transaction of the engine.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A question could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file is not there yet or cannot be opened.
    #[error("the ledger database cannot be opened")]
    Unavailable(#[source] rusqlite::Error),
    /// The question failed.
    #[error("the ledger database did not answer")]
    Failed(#[source] rusqlite::Error),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// A settlement of the home with the community's tariff of its interval.
#[derive(Debug, Clone)]
pub struct DayRow {
    /// The settlement.
    pub settlement: SettlementRow,
    /// Import and export price in µ/kWh; absent if the interval is not known.
    pub tariff: Option<(i64, i64)>,
}

/// The database of one node.
#[derive(Clone)]
pub struct Database {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Database {
    /// The database at `path`, opened when first asked.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// Asks one question on a thread that may block.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| DatabaseError::Stopping)?;
        let this = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = this.connection()?;
            // A connection that failed is dropped: the next question opens a fresh one.
            let answer = question(&connection).map_err(DatabaseError::Failed)?;
            this.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(answer)
        });
        answer.await.map_err(|_| DatabaseError::Stopping)?
    }

    fn connection(&self) -> Result<Connection, DatabaseError> {
        if let Some(connection) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&self.path, flags).map_err(DatabaseError::Unavailable)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(DatabaseError::Unavailable)?;
        Ok(connection)
    }
}

/// Start of the last settled interval.
pub fn last_settled(connection: &Connection) -> rusqlite::Result<Option<Time>> {
    let start: Option<i64> =
        connection.query_row("SELECT max(start_ms) FROM interval", [], |row| row.get(0))?;
    start.map(|ms| whole(ms, 0).map(Time::from_unix_ms)).transpose()
}

/// What stands on the home's account, in n; `None` if it has none.
pub fn balance(connection: &Connection, home: &str) -> rusqlite::Result<Option<i64>> {
    let mut query = connection.prepare_cached("SELECT balance_n FROM account WHERE name = 'home:' || ?1")?;
    query.query_row([home], |row| row.get(0)).optional()
}

/// Settled intervals before `before_ms`, newest first.
pub fn intervals(connection: &Connection, before_ms: i64, limit: u32) -> rusqlite::Result<Vec<IntervalRow>> {
    let mut query = connection.prepare_cached(
        "SELECT start_ms, import_price, export_price, matched_wh, supplier_import_wh, supplier_export_wh, losses_wh, \
         homes, missing, height, settled_ms FROM interval WHERE start_ms < ?1 ORDER BY start_ms DESC LIMIT ?2",
    )?;
    query.query_map(params![before_ms, limit], interval_row)?.collect()
}

/// Where a page of settlements begins: behind this row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettlementPlace {
    /// Start of its interval.
    pub interval_ms: i64,
    /// Its height.
    pub height: i64,
    /// Position of its leaf.
    pub leaf: i64,
}

const SETTLEMENT: &str = "SELECT s.interval_ms, s.kind, s.height, s.import_wh, s.export_wh, s.forward_wh, \
     s.forward_amount_n, s.sold_wh, s.bought_wh, s.local_amount_n, s.supplier_import_wh, s.supplier_export_wh, \
     s.supplier_amount_n, s.amount_n, s.baseline_n, s.claim_n, s.quality, i.import_price, i.export_price, s.leaf, \
     s.quantum_wh, s.loss_n, s.incentive_n \
     FROM settlement s LEFT JOIN interval i ON i.start_ms = s.interval_ms WHERE s.home = ";

/// Settlements of `home` behind `place`, newest first, each with the place behind it.
pub fn settlements(
    connection: &Connection,
    home: &str,
    place: SettlementPlace,
    limit: u32,
) -> rusqlite::Result<Vec<(SettlementRow, SettlementPlace)>> {
    let mut query = connection.prepare_cached(&format!(
        "{SETTLEMENT} {} AND (s.interval_ms, s.height, s.leaf) < (?1, ?2, ?3) \
         ORDER BY s.interval_ms DESC, s.height DESC, s.leaf DESC LIMIT ?4",
        quoted(home)
    ))?;
    let bounds = params![place.interval_ms, place.height, place.leaf, limit];
    query.query_map(bounds, |row| Ok((settlement_row(row)?, settlement_place(row)?)))?.collect()
}

/// Settlements of `home` for the intervals from `from` to before `to`, oldest first.
pub fn day(
    connection: &Connection,
    home: &str,
    from: Timestamp,
    to: Timestamp,
) -> rusqlite::Result<Vec<DayRow>> {
    let mut query = connection.prepare_cached(&format!(
        "{SETTLEMENT} {} AND s.interval_ms >= ?1 AND s.interval_ms < ?2 ORDER BY s.interval_ms, s.height, s.leaf",
        quoted(home)
    ))?;
    let bounds = params![signed(from), signed(to)];
    query
        .query_map(bounds, |row| Ok(DayRow { settlement: settlement_row(row)?, tariff: tariff(row)? }))?
        .collect()
}

/// Readings of `home` before `before_ms`, newest first.
pub fn readings(
    connection: &Connection,
    home: &str,
    before_ms: i64,
    limit: u32,
) -> rusqlite::Result<Vec<ReadingRow>> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT interval_ms, import_register_wh, export_register_wh, quality, height, clock_quality, serial, epoch, \
         quantum_wh, profile FROM reading WHERE home = {} AND interval_ms < ?1 ORDER BY interval_ms DESC LIMIT ?2",
        quoted(home)
    ))?;
    query.query_map(params![before_ms, limit], reading_row)?.collect()
}

/// Final blocks below `below`, newest first.
pub fn blocks(connection: &Connection, below: i64, limit: u32) -> rusqlite::Result<Vec<BlockRow>> {
    let mut query = connection.prepare_cached(
        "SELECT height, id, time_ms, round, entry_count, finality_ms FROM block \
         WHERE height < ?1 AND height > 0 ORDER BY height DESC LIMIT ?2",
    )?;
    query.query_map(params![below, limit], block_row)?.collect()
}

fn interval_row(row: &Row<'_>) -> rusqlite::Result<IntervalRow> {
    let (import_price, export_price) = (row.get(1)?, row.get(2)?);
    let row = IntervalRow {
        start: time(row, 0)?,
        import_price,
        export_price,
        local_price: midpoint_floor(Price::new(import_price), Price::new(export_price)).get(),
        matched_wh: Some(count(row, 3)?),
        supplier_import_wh: Some(count(row, 4)?),
        supplier_export_wh: Some(count(row, 5)?),
        losses_wh: row.get(6)?,
        homes: row.get(7)?,
        missing: row.get(8)?,
        height: count(row, 9)?,
        settled_at: time(row, 10)?,
    };
    Ok(row.for_members())
}

fn settlement_row(row: &Row<'_>) -> rusqlite::Result<SettlementRow> {
    let kind: String = row.get(1)?;
    let kind = SettlementKind::from_word(&kind)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(1, "kind".to_owned(), Type::Text))?;
    let (amount_n, baseline_n): (i64, i64) = (row.get(13)?, row.get(14)?);
    Ok(SettlementRow {
        interval_start: time(row, 0)?,
        kind,
        height: count(row, 2)?,
        import_wh: optional_count(row, 3)?,
        export_wh: optional_count(row, 4)?,
        forward_wh: row.get(5)?,
        forward_amount_n: row.get(6)?,
        sold_wh: count(row, 7)?,
        bought_wh: count(row, 8)?,
        local_amount_n: row.get(9)?,
        supplier_import_wh: count(row, 10)?,
        supplier_export_wh: count(row, 11)?,
        supplier_amount_n: row.get(12)?,
        amount_n,
        baseline_n,
        saved_n: amount_n
            .checked_sub(baseline_n)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(13, amount_n))?,
        claim_n: row.get(15)?,
        loss_n: row.get(21)?,
        incentive_n: row.get(22)?,
        quality: row.get(16)?,
        quantum_wh: count(row, 20)?,
    })
}

fn settlement_place(row: &Row<'_>) -> rusqlite::Result<SettlementPlace> {
    Ok(SettlementPlace { interval_ms: row.get(0)?, height: row.get(2)?, leaf: row.get(19)? })
}

fn tariff(row: &Row<'_>) -> rusqlite::Result<Option<(i64, i64)>> {
    let prices: (Option<i64>, Option<i64>) = (row.get(17)?, row.get(18)?);
    Ok(prices.0.zip(prices.1))
}

fn reading_row(row: &Row<'_>) -> rusqlite::Result<ReadingRow> {
    Ok(ReadingRow {
        interval_start: time(row, 0)?,
        import_register_wh: count(row, 1)?,
        export_register_wh: count(row, 2)?,
        quality: row.get(3)?,
        height: count(row, 4)?,
        clock_quality: row.get(5)?,
        serial: row.get(6)?,
        epoch: row.get(7)?,
        quantum_wh: count(row, 8)?,
        profile: row.get(9)?,
    })
}

fn block_row(row: &Row<'_>) -> rusqlite::Result<BlockRow> {
    let id: [u8; 32] = row.get(1)?;
    Ok(BlockRow {
        height: count(row, 0)?,
        id: hex::encode(id),
        time: time(row, 2)?,
        round: row.get(3)?,
        entries: row.get(4)?,
        finality_ms: optional_count(row, 5)?.unwrap_or(0),
    })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Time> {
    Ok(Time::from_unix_ms(count(row, column)?))
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    whole(row.get(column)?, column)
}

fn optional_count(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    value.map(|value| whole(value, column)).transpose()
}

fn whole(value: i64, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

fn signed(time: Timestamp) -> i64 {
    // The calendar ends in the year 9999, far inside an i64.
    i64::try_from(time.unix_ms()).unwrap_or(i64::MAX)
}
