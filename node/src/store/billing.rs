//! Everything the ledger holds of a home that bills are made of, as it is stored.
//!
//! Outcomes carry their amounts; nothing is computed here. Columns are named one by one, so what the ledger adds later
//! is added here in one place.

use std::path::{Path, PathBuf};

use energy::{HomeId, Interval, Mtu, Timestamp};
use ledger::{Admission, Body, EntryId, Genesis, OutcomeKind};
use market::Metered;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::database::{int, quoted, unsigned};
use super::ledger_db::open_read_only;
use super::{StoreError, bodies};

/// The ledger database of any node, open for reading, as it was when it was opened.
#[derive(Debug)]
pub struct BillingDb {
    connection: Connection,
    path: PathBuf,
    mtu: Mtu,
    start: Timestamp,
}

/// A home as it was admitted, and since when it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// As admitted.
    pub admission: Admission,
    /// Time of the block that admitted it; of the genesis for a founder.
    pub since: Timestamp,
}

/// One outcome of the home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeRow {
    /// Which interval.
    pub interval: Interval,
    /// How it came to its amounts.
    pub kind: OutcomeKind,
    /// The block that booked it.
    pub height: u64,
    /// The block that settled the interval for everybody.
    pub settled_by: u64,
    /// Metered import and export, Wh; `None` where no usable reading came, and for a correction.
    pub metered: Option<(u64, u64)>,
    /// Forward position: sold less bought, Wh.
    pub forward_wh: i64,
    /// What the position brought, n.
    pub forward_amount: i64,
    /// Sold to neighbours, Wh.
    pub sold: u64,
    /// Bought from neighbours, Wh.
    pub bought: u64,
    /// What that came to after network fees, n.
    pub local_amount: i64,
    /// Taken from the supplier, Wh.
    pub supplier_import: u64,
    /// Given to the supplier, Wh.
    pub supplier_export: u64,
    /// What that came to after network fees, n.
    pub supplier_amount: i64,
    /// Everything together, n.
    pub amount: i64,
    /// What of it the home could not pay its supplier, n.
    pub claim: i64,
    /// Its part of the network's losses, in `amount`, n.
    pub loss: i64,
    /// What it is due from outside, not in `amount`, n.
    pub incentive: i64,
    /// The community tariff's import price of the interval, µ/kWh.
    pub import_price: i64,
    /// Its export price, µ/kWh.
    pub export_price: i64,
}

/// One movement on the home's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostingRow {
    /// The interval it belongs to, if any.
    pub interval: Option<Interval>,
    /// The block that booked it; 0 for deposits of the genesis.
    pub height: u64,
    /// The block that settled its interval for everybody.
    pub settled_by: Option<u64>,
    /// Time of the block that booked it.
    pub booked: Timestamp,
    /// Why money moved, the ledger's word.
    pub kind: String,
    /// How much the home received (paid, if negative), n.
    pub amount: i64,
}

/// An entry about the home that a bill explains itself by: deposits, withdrawals, corrections, own contracts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookedEntry {
    /// The block that holds it.
    pub height: u64,
    /// Time of that block.
    pub booked: Timestamp,
    /// What it says.
    pub body: Body,
}

/// What a home's meter showed in an interval, and what of it was with its supplier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeteredRow {
    /// Whose.
    pub home: HomeId,
    /// Which interval.
    pub interval: Interval,
    /// How it came about; provisional where nothing moved.
    pub kind: OutcomeKind,
    /// Metered import and export, Wh; `None` where no usable reading came, and for a correction.
    pub metered: Option<(u64, u64)>,
    /// Taken from the supplier, Wh.
    pub supplier_import: u64,
    /// Given to the supplier, Wh.
    pub supplier_export: u64,
    /// Serial number of the meter that the home's node read then.
    pub serial: Option<String>,
}

/// Everything of one home.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HomeBook {
    /// By interval, then in the order they were booked.
    pub outcomes: Vec<OutcomeRow>,
    /// In the order they were booked.
    pub postings: Vec<PostingRow>,
    /// In the order they were booked.
    pub entries: Vec<BookedEntry>,
    /// What stands on the account after the last block, n; `None` where the home has none.
    pub balance: Option<i64>,
}

/// Kinds of entries that [`HomeBook::entries`] holds.
const OF_HOME: &str = "'deposit', 'withdrawal', 'correction', 'own-contract', 'departure'";
const ADMISSIONS: &str = "'admission'";
const ATTESTATIONS: &str = "'bank-balance'";
const DELIVERIES: &str = "'operator-reading'";

impl BillingDb {
    /// Opens the ledger database at `path`, also beside a running node: what follows reads the state of this instant.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read, or is of another chain.
    pub fn open(path: &Path, genesis: &Genesis) -> Result<Self, StoreError> {
        let chain = genesis.chain();
        let connection = open_read_only(path, &chain)?;
        // Deferred: the first question fixes the state that all others see.
        connection.execute_batch("BEGIN").map_err(StoreError::database(path, "begin to read"))?;
        Ok(Self { connection, path: path.to_owned(), mtu: genesis.mtu, start: genesis.start })
    }

    /// Every home that ever belonged, in ascending order.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn homes(&self, genesis: &Genesis) -> Result<Vec<Admitted>, StoreError> {
        let founder = |member: &ledger::GenesisMember| Admitted {
            admission: member.admission.clone(),
            since: genesis.start,
        };
        let mut homes: Vec<Admitted> = genesis.members.iter().map(founder).collect();
        let later = self.entries(ADMISSIONS, "").map_err(self.fault("read the admissions"))?;
        homes.extend(later.into_iter().filter_map(|entry| match entry.body {
            Body::Admission(admission) => Some(Admitted { admission, since: entry.booked }),
            _ => None,
        }));
        homes.sort_by(|left, right| left.admission.home.cmp(&right.admission.home));
        Ok(homes)
    }

    /// What treasurer and auditor last said stands at the bank, n, and when.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn attested(&self) -> Result<Option<(Timestamp, i64)>, StoreError> {
        let entries = self.entries(ATTESTATIONS, "").map_err(self.fault("read the attestations"))?;
        Ok(entries.into_iter().rev().find_map(|entry| match entry.body {
            Body::BankBalance { amount } => Some((entry.booked, amount.get())),
            _ => None,
        }))
    }

    /// In how many intervals that start from `from` to before `until` the home has a provisional result and no settled one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn provisional(&self, home: &HomeId, from: Timestamp, until: Timestamp) -> Result<u64, StoreError> {
        let read = || {
            let sql = "SELECT count(DISTINCT interval_ms) FROM provisional
                       WHERE home = ?1 AND interval_ms >= ?2 AND interval_ms < ?3
                         AND NOT EXISTS (SELECT 1 FROM interval WHERE start_ms = interval_ms)";
            let key = params![home.as_str(), int(from.unix_ms())?, int(until.unix_ms())?];
            self.connection.query_row(sql, key, |row| unsigned(row, 0))
        };
        read().map_err(self.fault("read the provisional results"))
    }

    /// What all homes' meters showed in the intervals that start from `from` to before `until`: settled, and provisional.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn metered(&self, from: Timestamp, until: Timestamp) -> Result<Vec<MeteredRow>, StoreError> {
        let of = |table: &str| {
            format!(
                "SELECT t.home, t.interval_ms, t.kind, t.import_wh, t.export_wh, t.supplier_import_wh,
                   t.supplier_export_wh, r.serial
                 FROM {table} t LEFT JOIN reading r ON r.home = t.home AND r.interval_ms = t.interval_ms
                 WHERE t.interval_ms >= ?1 AND t.interval_ms < ?2"
            )
        };
        let sql = format!("{} UNION ALL {}", of("settlement"), of("provisional"));
        let read = || -> rusqlite::Result<Vec<MeteredRow>> {
            let mut statement = self.connection.prepare(&sql)?;
            let bounds = params![int(from.unix_ms())?, int(until.unix_ms())?];
            statement.query_map(bounds, |row| self.metered_row(row))?.collect()
        };
        read().map_err(self.fault("read the metered energies"))
    }

    fn metered_row(&self, row: &Row<'_>) -> rusqlite::Result<MeteredRow> {
        let home: String = row.get(0)?;
        let home = HomeId::new(&home)
            .map_err(|_| rusqlite::Error::InvalidColumnType(0, "home".to_owned(), Type::Text))?;
        let metered: (Option<u64>, Option<u64>) = (optional(row, 3)?, optional(row, 4)?);
        Ok(MeteredRow {
            home,
            interval: self.interval(unsigned(row, 1)?),
            kind: kind(row, 2)?,
            metered: metered.0.zip(metered.1),
            supplier_import: unsigned(row, 5)?,
            supplier_export: unsigned(row, 6)?,
            serial: row.get(7)?,
        })
    }

    /// All entries of the blocks that hold one of these kinds, in the order they were booked; `kinds` are quoted words with
    /// commas between them.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn booked(&self, kinds: &str) -> Result<Vec<BookedEntry>, StoreError> {
        self.entries(kinds, "").map_err(self.fault("read the entries"))
    }

    /// What the metering operator delivered, in the order it was booked: whose, from which interval on, and the energies.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn operator_readings(&self) -> Result<Vec<(HomeId, Interval, Vec<Metered>)>, StoreError> {
        let entries = self.entries(DELIVERIES, "").map_err(self.fault("read the deliveries"))?;
        let delivery = |entry: BookedEntry| match entry.body {
            Body::OperatorReading { home, from, points } => Some((home, from, points)),
            _ => None,
        };
        Ok(entries.into_iter().filter_map(delivery).collect())
    }

    /// True if a block holds the entry.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn holds(&self, entry: &EntryId) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM entry WHERE id = ?1 AND kind <> 'reading')";
        let read = self.connection.query_row(sql, [entry.0.0.as_slice()], |row| row.get(0));
        read.map_err(self.fault("look for an entry"))
    }

    /// What the home took in the settled intervals from `since` on: Wh, and in how many intervals it was metered.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn consumption(&self, home: &HomeId, since: Timestamp) -> Result<(u64, u64), StoreError> {
        consumption(&self.connection, home.as_str(), since).map_err(self.fault("read the settlements"))
    }

    /// Everything of one home.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn book(&self, home: &HomeId) -> Result<HomeBook, StoreError> {
        let read = || -> rusqlite::Result<HomeBook> {
            let mut entries = self.entries(OF_HOME, home.as_str())?;
            entries.retain(|entry| entry.body.home() == Some(home));
            let sql = "SELECT balance_n FROM account WHERE name = 'home:' || ?1";
            let balance = self.connection.query_row(sql, [home.as_str()], |row| row.get(0)).optional()?;
            Ok(HomeBook { outcomes: self.outcomes(home)?, postings: self.postings(home)?, entries, balance })
        };
        read().map_err(self.fault("read the settlements"))
    }

    /// Network fees as they were published, in order: of which edge, from which interval on, one point an interval.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn fees(&self) -> Result<Vec<crate::bill::fees::Published>, StoreError> {
        let entries = self.entries("'network-fees'", "").map_err(self.fault("read the network fees"))?;
        let fees = entries.into_iter().filter_map(|entry| match entry.body {
            Body::NetworkFees { node, from, points } => Some((node, from, points)),
            _ => None,
        });
        Ok(fees.collect())
    }

    /// The block that settled `interval`; `None` while none did.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn settled_by(&self, interval: Interval) -> Result<Option<u64>, StoreError> {
        let read = || {
            let sql = "SELECT height FROM interval WHERE start_ms = ?1";
            let start = int(interval.start().unix_ms())?;
            self.connection.query_row(sql, [start], |row| unsigned(row, 0)).optional()
        };
        read().map_err(self.fault("read the intervals"))
    }

    /// The last settled interval.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn last_settled(&self) -> Result<Option<Interval>, StoreError> {
        let sql = "SELECT start_ms FROM interval ORDER BY start_ms DESC LIMIT 1";
        let read = self.connection.query_row(sql, [], |row| unsigned(row, 0)).optional();
        let start = read.map_err(self.fault("read the intervals"))?;
        Ok(start.map(|ms| self.interval(ms)))
    }

    /// The import and export register of the home at the first instant after `interval`, Wh, and the meter's serial
    /// number; `None` where it was not read then.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn registers(
        &self,
        home: &HomeId,
        interval: Interval,
    ) -> Result<Option<(u64, u64, String)>, StoreError> {
        let read = || {
            let sql = "SELECT import_register_wh, export_register_wh, serial FROM reading
                       WHERE home = ?1 AND interval_ms = ?2";
            let key = params![home.as_str(), int(interval.start().unix_ms())?];
            let row = |row: &Row<'_>| Ok((unsigned(row, 0)?, unsigned(row, 1)?, row.get(2)?));
            self.connection.query_row(sql, key, row).optional()
        };
        read().map_err(self.fault("read the registers"))
    }

    fn outcomes(&self, home: &HomeId) -> rusqlite::Result<Vec<OutcomeRow>> {
        let sql = format!(
            "SELECT s.interval_ms, s.kind, s.height, i.height, s.import_wh, s.export_wh, s.forward_wh,
                     s.forward_amount_n, s.sold_wh, s.bought_wh, s.local_amount_n, s.supplier_import_wh,
                     s.supplier_export_wh, s.supplier_amount_n, s.amount_n, s.claim_n, i.import_price,
                     i.export_price, s.loss_n, s.incentive_n
                   FROM settlement s JOIN interval i ON i.start_ms = s.interval_ms
                   WHERE s.home = {} ORDER BY s.interval_ms, s.height, s.leaf",
            quoted(home.as_str())
        );
        let mut statement = self.connection.prepare(&sql)?;
        statement.query_map([], |row| self.outcome(row))?.collect()
    }

    fn outcome(&self, row: &Row<'_>) -> rusqlite::Result<OutcomeRow> {
        let metered: (Option<u64>, Option<u64>) = (optional(row, 4)?, optional(row, 5)?);
        Ok(OutcomeRow {
            interval: self.interval(unsigned(row, 0)?),
            kind: kind(row, 1)?,
            height: unsigned(row, 2)?,
            settled_by: unsigned(row, 3)?,
            metered: metered.0.zip(metered.1),
            forward_wh: row.get(6)?,
            forward_amount: row.get(7)?,
            sold: unsigned(row, 8)?,
            bought: unsigned(row, 9)?,
            local_amount: row.get(10)?,
            supplier_import: unsigned(row, 11)?,
            supplier_export: unsigned(row, 12)?,
            supplier_amount: row.get(13)?,
            amount: row.get(14)?,
            claim: row.get(15)?,
            import_price: row.get(16)?,
            export_price: row.get(17)?,
            loss: row.get(18)?,
            incentive: row.get(19)?,
        })
    }

    fn postings(&self, home: &HomeId) -> rusqlite::Result<Vec<PostingRow>> {
        let sql = "SELECT p.height, p.interval_ms, p.kind, p.amount_n, i.height, b.time_ms
                   FROM posting p LEFT JOIN interval i ON i.start_ms = p.interval_ms
                     LEFT JOIN block b ON b.height = p.height
                   WHERE p.account = 'home:' || ?1 ORDER BY p.height, p.seq";
        let mut statement = self.connection.prepare(sql)?;
        let posting = |row: &Row<'_>| {
            Ok(PostingRow {
                height: unsigned(row, 0)?,
                interval: optional(row, 1)?.map(|ms| self.interval(ms)),
                kind: row.get(2)?,
                amount: row.get(3)?,
                settled_by: optional(row, 4)?,
                booked: optional(row, 5)?.map_or(self.start, Timestamp::from_unix_ms),
            })
        };
        statement.query_map([home.as_str()], posting)?.collect()
    }

    /// All entries of the blocks that hold one of these kinds about `home`; of any home if it is empty.
    fn entries(&self, kinds: &str, home: &str) -> rusqlite::Result<Vec<BookedEntry>> {
        let sql = format!(
            "SELECT height, time_ms FROM block WHERE height IN
               (SELECT height FROM entry WHERE kind IN ({kinds}) AND (?1 = '' OR home = ?1)) ORDER BY height"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([home])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (height, booked) = (unsigned(row, 0)?, Timestamp::from_unix_ms(unsigned(row, 1)?));
            let entry = |entry: ledger::SignedEntry| BookedEntry {
                height,
                booked,
                body: entry.unchecked().body.clone(),
            };
            found.extend(bodies::entries_at(&self.connection, height)?.into_iter().map(entry));
        }
        Ok(found)
    }

    fn interval(&self, start_ms: u64) -> Interval {
        Interval::containing(Timestamp::from_unix_ms(start_ms), self.mtu)
    }

    fn fault(&self, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError + '_ {
        StoreError::database(&self.path, doing)
    }
}

/// What `home` took in the settled intervals from `since` on: Wh, and in how many intervals it was metered.
pub(crate) fn consumption(
    connection: &Connection,
    home: &str,
    since: Timestamp,
) -> rusqlite::Result<(u64, u64)> {
    let sql = format!(
        "SELECT coalesce(sum(import_wh), 0), count(DISTINCT interval_ms) FROM settlement
         WHERE home = {} AND interval_ms >= ?1 AND import_wh IS NOT NULL",
        quoted(home)
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([int(since.unix_ms())?], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))
}

fn optional(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    value
        .map(|value| {
            u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
        })
        .transpose()
}

fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<OutcomeKind> {
    let word: String = row.get(column)?;
    let known = [OutcomeKind::Settled, OutcomeKind::Late, OutcomeKind::Correction, OutcomeKind::Provisional];
    let found = known.into_iter().find(|kind| kind.word() == word);
    found.ok_or_else(|| rusqlite::Error::InvalidColumnType(column, word, Type::Text))
}
