//! Beginning to hold all bodies, and ceasing to: what becomes of the rows of a home whose part in keeping the ledger changes.

use energy::{HomeId, Interval};
use ledger::codec::Decode;
use ledger::tree::TILE;
use ledger::{HomeView, Ledger, Outcome};
use market::Account;
use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;
use super::bodies::Gone;
use super::database::{decoded, int};
use super::followed::{forget_view, write_view};
use super::joined::{Package, write_accounts, write_rest};
use super::ledger_db::{LedgerDb, insert_snapshot};
use super::projection::account_name;

/// Tables with rows of homes.
pub(super) const OF_HOMES: [&str; 8] =
    ["settlement", "provisional", "reading", "breach", "market_order", "order_end", "evidence", "assurance"];
/// Tables whose rows say of which block they are, beside those.
const OF_BLOCKS: [&str; 9] =
    ["block", "entry", "leaf", "interval", "posting", "gate", "gate_price", "set_change", "body"];

impl LedgerDb {
    /// Begins to hold all bodies: takes up the state of a package that was checked, whose block is stored here, and forgets what
    /// was followed after it, which is fetched whole. False, and nothing happened, where the block is not stored here.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn hold_from(&mut self, package: &Package, ledger: &Ledger) -> Result<bool, StoreError> {
        let header = &package.header;
        let Some(home) = self.home.clone() else { return Ok(false) };
        if self.id_at(header.height)? != Some(header.id()) {
            return Ok(false);
        }
        let gone = Gone { bodies: header.height, ..self.gone };
        let gone = Gone { certificates: gone.certificates.min(header.height), ..gone };
        let path = self.path.clone();
        let fault = |source| StoreError::database(&path, "begin to hold all bodies")(source);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(fault)?;
        let write = || -> rusqlite::Result<()> {
            forget_after(&transaction, header.height, header.tree_size)?;
            write_rest(&transaction, package)?;
            insert_snapshot(&transaction, ledger)?;
            forget_view(&transaction)?;
            write_accounts(&transaction, ledger, |_| true)?;
            let own = account_name(&Account::Home(home));
            // Its own movements are there.
            let sql = "UPDATE account SET gone_n = balance_n - opening_n -
                       (SELECT coalesce(sum(amount_n), 0) FROM posting WHERE account = ?1 AND height > 0)
                       WHERE name = ?1";
            transaction.execute(sql, [own])?;
            gone.write(&transaction)
        };
        write().map_err(fault)?;
        transaction.commit().map_err(fault)?;
        self.begin_at(header, gone);
        self.follows = false;
        Ok(true)
    }

    /// Ceases to hold other homes' bodies, or never began to: from now on `view` is what is known of the state. Other homes' rows
    /// go at once, the blocks' bodies bit by bit with [`LedgerDb::prune`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn cease_to_hold(&mut self, view: &HomeView) -> Result<(), StoreError> {
        let Some(home) = self.home.clone() else { return Ok(()) };
        let path = self.path.clone();
        let fault = |source| StoreError::database(&path, "let go of other homes' bodies")(source);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(fault)?;
        let write = || -> rusqlite::Result<()> {
            write_view(&transaction, view)?;
            transaction.execute("DELETE FROM snapshot", [])?;
            strip_rows(&transaction, &home)
        };
        write().map_err(fault)?;
        transaction.commit().map_err(fault)?;
        self.follows = true;
        Ok(())
    }
}

/// Forgets every row of blocks after `height`, after which the tree had `size` leaves.
fn forget_after(connection: &Connection, height: u64, size: u64) -> rusqlite::Result<()> {
    for table in OF_BLOCKS.into_iter().chain(OF_HOMES) {
        connection.execute(&format!("DELETE FROM {table} WHERE height > ?1"), [int(height)?])?;
    }
    for table in ["tile", "bundle"] {
        connection.execute(&format!("DELETE FROM {table} WHERE number >= ?1"), [int(size / TILE)?])?;
    }
    connection.execute("DELETE FROM leaf WHERE position >= ?1", [int(size / TILE * TILE)?]).map(drop)
}

/// Lets go of other homes' rows, and of totals that are sealed. What genesis says of accounts every member knows.
fn strip_rows(connection: &Connection, home: &HomeId) -> rusqlite::Result<()> {
    for table in OF_HOMES {
        connection.execute(&format!("DELETE FROM {table} WHERE home <> ?1"), [home.as_str()])?;
    }
    let own = account_name(&Account::Home(home.clone()));
    let sql = "UPDATE account SET balance_n = opening_n, gone_n = 0 WHERE name <> ?1";
    connection.execute(sql, [&own])?;
    connection.execute("DELETE FROM posting WHERE account <> ?1 AND height > 0", [&own])?;
    for interval in sealed_intervals(connection)? {
        let sql = "UPDATE interval SET matched_wh = 0, supplier_import_wh = 0, supplier_export_wh = 0, losses_wh = NULL
                   WHERE start_ms = ?1";
        connection.execute(sql, [int(interval.start().unix_ms())?])?;
    }
    connection.execute("DELETE FROM gate WHERE public = 0", []).map(drop)
}

/// The intervals whose totals are sealed, as far as they are still whole.
fn sealed_intervals(connection: &Connection) -> rusqlite::Result<Vec<Interval>> {
    let sql = "SELECT outcome FROM leaf WHERE outcome IS NOT NULL AND substr(bytes, 1, 1) = x'02'
               AND substr(outcome, 1, 1) = x'02'";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| decoded(row, 0, Outcome::from_bytes))?;
    let mut intervals = Vec::new();
    for outcome in rows {
        if let Outcome::Interval(interval) = outcome? {
            intervals.push(interval.interval);
        }
    }
    Ok(intervals)
}
