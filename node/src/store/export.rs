//! A run as six files from which anybody can recompute every amount: `network.json`, `tariff.json`, `readings.csv`,
//! `settlements.csv`, `postings.csv`, `accounts.csv`.
//!
//! Energy is in Wh, prices in µ/kWh, amounts in n (10⁻⁹ of the currency), all integers; times are RFC 3339 UTC, rows
//! are sorted. Amounts are positive where the home or account receives. A field is empty where nothing was metered.
//!
//! - `readings.csv`: the homes' registers at the end of each interval, and what was settled as imported and exported.
//! - `settlements.csv`: each home's intervals as settled at their deadline. Late readings and corrections are postings.
//!   `amount_n` is the sum of all amounts; where the community pays for losses, `loss_n` is one of them. Where genesis has a
//!   sharing incentive, `incentive_n` comes on top, from outside.
//! - `postings.csv`: every movement after the genesis up to the block that settled the last of the intervals.
//! - `accounts.csv`: openings are the deposits of the genesis, or where the first postings are no longer stored, what stood there
//!   before those that are; `closing_n` = `opening_n` + the account's postings.

use std::fs::{File, create_dir_all};
use std::io::BufWriter;
use std::path::Path;

use energy::{HomeId, Interval, NodeId, Timestamp};
use ledger::{Body, Genesis};
use market::{Losses, Sharing};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row};
use serde_json::{Value, json};

use super::database::{int, unsigned};
use super::error::Damage;
use super::ledger_db::open_read_only;
use super::{Gone, StoreError, bodies};

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportSummary {
    /// Settled intervals among those asked for.
    pub intervals: u64,
    /// Rows of `readings.csv`.
    pub readings: u64,
    /// Rows of `settlements.csv`.
    pub settlements: u64,
    /// Rows of `postings.csv`.
    pub postings: u64,
    /// Rows of `accounts.csv`.
    pub accounts: u64,
    /// The block that settled the last of the intervals; 0 if none is settled.
    pub height: u64,
}

/// Writes the `count` intervals from `first` on, as far as they are settled, from the ledger database at `db_path` into
/// the folder `dir`, which is made if need be. Reads the state of one instant, also beside a running node.
///
/// # Errors
/// [`StoreError`]: the database cannot be read, its accounts contradict its postings, or a file cannot be written.
pub fn export(
    db_path: &Path,
    genesis: &Genesis,
    dir: &Path,
    first: Interval,
    count: usize,
) -> Result<ExportSummary, StoreError> {
    let chain = genesis.chain();
    let connection = open_read_only(db_path, &chain)?;
    let fault = |source| StoreError::database(db_path, "read the settlements")(source);
    let connection = connection.unchecked_transaction().map_err(fault)?;
    create_dir_all(dir).map_err(StoreError::file(dir, "make the folder"))?;
    let last = Interval::from_index(first.index().saturating_add(count as u64), first.mtu());
    let range = (first.start().unix_ms(), last.start().unix_ms());
    let scope = Scope::new(&connection, range).map_err(fault)?;
    if let Some(from) = scope.stored_from().map_err(fault)? {
        return Err(StoreError::NoLongerStored { path: db_path.to_owned(), from });
    }
    scope.check_accounts().map_err(fault)?.map_err(StoreError::damaged(db_path))?;
    let homes = scope.homes(genesis).map_err(fault)?;
    write_json(&dir.join("network.json"), &network(genesis, &homes))?;
    write_json(&dir.join("tariff.json"), &tariff(genesis, scope.tariff().map_err(fault)?))?;
    Ok(ExportSummary {
        intervals: scope.intervals,
        readings: scope.readings(dir)?,
        settlements: scope.settlements(dir, &further_columns(genesis))?,
        postings: scope.postings(dir)?,
        accounts: scope.accounts(dir)?,
        height: int_to_u64(scope.height),
    })
}

/// Columns of `settlements.csv` that only some communities have.
fn further_columns(genesis: &Genesis) -> Vec<&'static str> {
    let losses = (genesis.market.losses == Losses::Community).then_some("loss_n");
    let incentive = matches!(genesis.market.sharing, Sharing::Incentive { .. }).then_some("incentive_n");
    losses.into_iter().chain(incentive).collect()
}

/// What of the database is exported.
struct Scope<'c> {
    connection: &'c Connection,
    /// First instant of the first interval, first instant after the last, Unix ms.
    range: (i64, i64),
    /// The block that settled the last of them.
    height: i64,
    intervals: u64,
    /// Other homes' rows are no longer stored up to this height.
    gone: i64,
}

impl<'c> Scope<'c> {
    fn new(connection: &'c Connection, (from, to): (u64, u64)) -> rusqlite::Result<Self> {
        let range = (int(from)?, int(to)?);
        let sql =
            "SELECT coalesce(max(height), 0), count(*) FROM interval WHERE start_ms >= ?1 AND start_ms < ?2";
        let (height, intervals) = connection.query_row(sql, range, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let gone = int(Gone::read(connection)?.bodies)?;
        Ok(Self { connection, range, height, intervals: int_to_u64(intervals), gone })
    }

    /// The first instant from which everything is still stored, where the range begins before it.
    fn stored_from(&self) -> rusqlite::Result<Option<Timestamp>> {
        let sql = "SELECT max(start_ms) FROM interval WHERE height <= ?1";
        let last: Option<i64> = self.connection.query_row(sql, [self.gone], |row| row.get(0))?;
        let sql = "SELECT min(start_ms) FROM interval WHERE start_ms > ?1";
        let Some(last) = last.filter(|last| *last >= self.range.0) else { return Ok(None) };
        let first: Option<i64> = self.connection.query_row(sql, [last], |row| row.get(0))?;
        Ok(Some(Timestamp::from_unix_ms(int_to_u64(first.unwrap_or(last)))))
    }

    /// What stands on every account must be its opening and all its postings.
    fn check_accounts(&self) -> rusqlite::Result<Result<(), Damage>> {
        let sql = "SELECT name FROM account WHERE balance_n <> opening_n + gone_n + coalesce(
                   (SELECT sum(amount_n) FROM posting WHERE account = name AND height > 0), 0)";
        let mut statement = self.connection.prepare(sql)?;
        let wrong: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(match wrong.first() {
            None => Ok(()),
            Some(name) => {
                Err(Damage::new(format!("account {name}"), "balance_n", "is not the sum of its postings"))
            }
        })
    }

    /// The homes of the genesis and those admitted since, with their nodes.
    fn homes(&self, genesis: &Genesis) -> rusqlite::Result<Vec<(HomeId, NodeId)>> {
        let of = |admission: &ledger::Admission| (admission.home.clone(), admission.node.clone());
        let mut homes: Vec<_> = genesis.members.iter().map(|member| of(&member.admission)).collect();
        let sql = "SELECT DISTINCT height FROM entry WHERE kind = 'admission' AND height <= ?1";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([self.height])?;
        while let Some(row) = rows.next()? {
            let entries = bodies::entries_at(self.connection, unsigned(row, 0)?)?;
            homes.extend(entries.iter().filter_map(|entry| match &entry.unchecked().body {
                Body::Admission(admission) => Some(of(admission)),
                _ => None,
            }));
        }
        homes.sort();
        Ok(homes)
    }

    fn tariff(&self) -> rusqlite::Result<Vec<Value>> {
        let sql = "SELECT start_ms, import_price, export_price FROM interval
                   WHERE start_ms >= ?1 AND start_ms < ?2 ORDER BY start_ms";
        let mut statement = self.connection.prepare(sql)?;
        let point = |row: &Row<'_>| {
            let (import, export): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(json!({"start": time(row.get(0)?), "import_price": import, "export_price": export}))
        };
        statement.query_map(self.range, point)?.collect()
    }

    fn readings(&self, dir: &Path) -> Result<u64, StoreError> {
        let header = "interval_start,home,import_register_wh,export_register_wh,import_wh,export_wh";
        let sql = "SELECT r.interval_ms, r.home, import_register_wh, export_register_wh, import_wh, export_wh
                   FROM reading r LEFT JOIN settlement s
                     ON s.home = r.home AND s.interval_ms = r.interval_ms AND s.kind = 'settled'
                   WHERE r.home <> '' AND r.interval_ms >= ?1 AND r.interval_ms < ?2
                   ORDER BY r.interval_ms, r.home";
        self.write_csv(&dir.join("readings.csv"), header, sql, self.range)
    }

    fn settlements(&self, dir: &Path, more: &[&str]) -> Result<u64, StoreError> {
        let names: String = more.iter().map(|name| format!(",{name}")).collect();
        let header = format!(
            "interval_start,home,import_wh,export_wh,forward_wh,forward_amount_n,sold_wh,bought_wh,\
                      local_amount_n,supplier_import_wh,supplier_export_wh,supplier_amount_n,amount_n{names}"
        );
        let sql = format!(
            "SELECT interval_ms, home, import_wh, export_wh, forward_wh, forward_amount_n, sold_wh, bought_wh,
                     local_amount_n, supplier_import_wh, supplier_export_wh, supplier_amount_n, amount_n{names}
                   FROM settlement WHERE kind = 'settled' AND interval_ms >= ?1 AND interval_ms < ?2
                   ORDER BY interval_ms, home"
        );
        self.write_csv(&dir.join("settlements.csv"), &header, &sql, self.range)
    }

    fn postings(&self, dir: &Path) -> Result<u64, StoreError> {
        let header = "height,interval_start,account,kind,amount_n";
        let sql = "SELECT height, interval_ms, account, kind, amount_n FROM posting
                   WHERE height > ?2 AND height <= ?1 ORDER BY height, seq";
        self.write_csv(&dir.join("postings.csv"), header, sql, [self.height, self.gone])
    }

    fn accounts(&self, dir: &Path) -> Result<u64, StoreError> {
        let header = "account,opening_n,closing_n";
        let sql = "SELECT name, opening_n + gone_n + coalesce(
                     (SELECT sum(amount_n) FROM posting WHERE account = name AND height > 0 AND height <= ?2), 0),
                     opening_n + gone_n + coalesce(
                     (SELECT sum(amount_n) FROM posting WHERE account = name AND height > 0 AND height <= ?1), 0)
                   FROM account ORDER BY name";
        self.write_csv(&dir.join("accounts.csv"), header, sql, [self.height, self.gone])
    }

    /// Writes the rows of a query; the column named `interval_start` is a time.
    fn write_csv(
        &self,
        path: &Path,
        header: &str,
        sql: &str,
        values: impl Params,
    ) -> Result<u64, StoreError> {
        let columns: Vec<&str> = header.split(',').collect();
        let write = || -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
            let mut writer = csv::Writer::from_writer(BufWriter::new(File::create(path)?));
            writer.write_record(&columns)?;
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query(values)?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                for (at, column) in columns.iter().enumerate() {
                    writer.write_field(field(row, at, column)?)?;
                }
                writer.write_record(None::<&[u8]>)?;
                count += 1;
            }
            writer.flush()?;
            Ok(count)
        };
        write().map_err(|source| StoreError::Export { path: path.to_owned(), source })
    }
}

fn field(row: &Row<'_>, at: usize, column: &str) -> rusqlite::Result<String> {
    Ok(match row.get_ref(at)? {
        ValueRef::Integer(ms) if column == "interval_start" => time(ms),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Null => String::new(),
        other => other.as_str()?.to_owned(),
    })
}

fn network(genesis: &Genesis, homes: &[(HomeId, NodeId)]) -> Value {
    let node = |node: &market::NodeSpec| {
        json!({
            "id": node.id.as_str(),
            "parent": node.parent.as_ref().map(NodeId::as_str),
            "fee_up": node.fee_up.get(),
            "fee_down": node.fee_down.get(),
            "up_wh": node.up.map(energy::WattHours::get),
            "down_wh": node.down.map(energy::WattHours::get),
        })
    };
    let nodes: Vec<Value> = genesis.network.iter().map(node).collect();
    let home = |(home, node): &(HomeId, NodeId)| json!({"id": home.as_str(), "node": node.as_str()});
    json!({"nodes": nodes, "homes": homes.iter().map(home).collect::<Vec<_>>()})
}

fn tariff(genesis: &Genesis, intervals: Vec<Value>) -> Value {
    json!({"mtu_minutes": genesis.mtu.minutes(), "currency": genesis.currency, "intervals": Value::Array(intervals)})
}

fn write_json(path: &Path, value: &Value) -> Result<(), StoreError> {
    let text = format!("{value:#}\n");
    std::fs::write(path, text).map_err(StoreError::file(path, "write"))
}

fn time(ms: i64) -> String {
    Timestamp::from_unix_ms(int_to_u64(ms)).to_string()
}

/// Heights, counts and times are never negative.
fn int_to_u64(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::super::Durability;
    use super::super::fixture::{Street, first_interval, genesis, home, store};
    use super::super::ledger_db::LedgerDb;
    use super::*;

    type Record = BTreeMap<String, String>;

    fn run(folder: &Path, intervals: u64) -> (PathBuf, Street) {
        let path = folder.join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(intervals);
        let mut db = LedgerDb::open(&path, Durability::Normal, &genesis(), &home(1)).unwrap();
        store(&mut db, &blocks);
        (path, street)
    }

    fn csv(dir: &Path, name: &str) -> Vec<Record> {
        csv::Reader::from_path(dir.join(name)).unwrap().deserialize().map(Result::unwrap).collect()
    }

    fn int(record: &Record, column: &str) -> i64 {
        record[column].parse().unwrap()
    }

    fn json_of(dir: &Path, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(dir.join(name)).unwrap()).unwrap()
    }

    #[test]
    fn every_amount_can_be_recomputed_from_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (path, street) = run(folder.path(), 6);
        let dir = folder.path().join("out");
        let summary = export(&path, &street.genesis, &dir, first_interval(), 6).unwrap();
        assert_eq!((summary.intervals, summary.readings, summary.height), (6, 24, street.ledger.height()));
        let settlements = csv(&dir, "settlements.csv");
        assert_eq!(settlements.len() as u64, summary.settlements);
        let tariff = &json_of(&dir, "tariff.json")["intervals"];
        assert_eq!(tariff.as_array().unwrap().len(), 6);
        let middle =
            (tariff[0]["import_price"].as_i64().unwrap() + tariff[0]["export_price"].as_i64().unwrap()) / 2;
        let mut metered = 0;
        for row in settlements.iter().filter(|row| !row["import_wh"].is_empty()) {
            metered += 1;
            let (sold, bought) = (int(row, "sold_wh"), int(row, "bought_wh"));
            assert_eq!(int(row, "import_wh"), bought + int(row, "supplier_import_wh"));
            assert_eq!(int(row, "export_wh"), sold + int(row, "supplier_export_wh"));
            assert_eq!(
                int(row, "amount_n"),
                int(row, "forward_amount_n") + int(row, "local_amount_n") + int(row, "supplier_amount_n")
            );
            // The seller's share has no fees in this network.
            if sold > 0 && bought == 0 {
                assert_eq!(int(row, "local_amount_n"), sold * middle);
            }
        }
        assert_eq!(metered, 24);
        let registers = |home: &str| -> Vec<(i64, i64)> {
            let readings = csv(&dir, "readings.csv");
            let of_home = readings.iter().filter(|row| row["home"] == home);
            of_home.map(|row| (int(row, "export_register_wh"), int(row, "export_wh"))).collect()
        };
        for pair in registers("h1").windows(2) {
            assert_eq!(pair[1].0 - pair[0].0, pair[1].1, "registers stand at the interval's end");
        }
    }

    #[test]
    fn accounts_close_at_opening_and_postings() {
        let folder = tempfile::tempdir().unwrap();
        let (path, street) = run(folder.path(), 6);
        for intervals in [6, 2] {
            let dir = folder.path().join(format!("out-{intervals}"));
            let summary = export(&path, &street.genesis, &dir, first_interval(), intervals).unwrap();
            let postings = csv(&dir, "postings.csv");
            assert!(
                postings.iter().all(|row| (1..=summary.height).contains(&row["height"].parse().unwrap()))
            );
            assert_eq!(postings.iter().map(|row| int(row, "amount_n")).sum::<i64>(), 0);
            let accounts = csv(&dir, "accounts.csv");
            assert_eq!(accounts.iter().map(|row| int(row, "closing_n")).sum::<i64>(), 0);
            for account in &accounts {
                let of_account = postings.iter().filter(|row| row["account"] == account["account"]);
                let moved: i64 = of_account.map(|row| int(row, "amount_n")).sum();
                assert_eq!(int(account, "closing_n"), int(account, "opening_n") + moved, "{account:?}");
            }
            let names: Vec<&str> = accounts.iter().map(|row| row["account"].as_str()).collect();
            let expected = [
                "congestion",
                "deposits",
                "home:h1",
                "home:h2",
                "home:h3",
                "home:h4",
                "home:h5",
                "network",
                "supplier",
            ];
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn losses_and_incentives_have_columns_where_a_community_has_them() {
        let mut genesis = genesis();
        assert!(further_columns(&genesis).is_empty());
        genesis.market.losses = Losses::Community;
        let (payment, division) = (energy::Price::new(1), market::Division::Halves);
        genesis.market.sharing = Sharing::Incentive { payment, division };
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = run(folder.path(), 2);
        let connection = Connection::open(&path).unwrap();
        let scope = Scope::new(&connection, (0, u64::MAX >> 1)).unwrap();
        assert!(scope.settlements(folder.path(), &further_columns(&genesis)).unwrap() > 0);
        for row in csv(folder.path(), "settlements.csv") {
            assert_eq!((int(&row, "loss_n"), int(&row, "incentive_n")), (0, 0));
        }
    }

    #[test]
    fn the_files_have_the_columns_and_forms_that_were_promised() {
        let folder = tempfile::tempdir().unwrap();
        let (path, street) = run(folder.path(), 2);
        let dir = folder.path().join("out");
        export(&path, &street.genesis, &dir, first_interval(), 2).unwrap();
        let first_line = |name: &str| {
            let text = std::fs::read_to_string(dir.join(name)).unwrap();
            text.lines().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            first_line("settlements.csv"),
            [
                "interval_start,home,import_wh,export_wh,forward_wh,forward_amount_n,sold_wh,bought_wh,local_amount_n,\
                 supplier_import_wh,supplier_export_wh,supplier_amount_n,amount_n",
                "2016-06-13T22:30:00Z,h1,0,700,0,0,700,0,115500000,0,0,0,115500000"
            ]
        );
        assert_eq!(
            first_line("readings.csv"),
            [
                "interval_start,home,import_register_wh,export_register_wh,import_wh,export_wh",
                "2016-06-13T22:30:00Z,h1,1000,1404,0,700"
            ]
        );
        assert_eq!(first_line("postings.csv")[0], "height,interval_start,account,kind,amount_n");
        let network = json_of(&dir, "network.json");
        assert_eq!(
            network["nodes"][1],
            json!({"id": "feeder-1", "parent": "grid", "fee_up": 0, "fee_down": 10000, "up_wh": null, "down_wh": 40000})
        );
        assert_eq!(network["nodes"][0]["parent"], Value::Null);
        // The home that was admitted on the way stands among them.
        assert_eq!(network["homes"][4], json!({"id": "h5", "node": "feeder-2"}));
        let tariff = json_of(&dir, "tariff.json");
        assert_eq!((&tariff["mtu_minutes"], &tariff["currency"]), (&json!(15), &json!("CNY")));
        assert_eq!(
            tariff["intervals"][1],
            json!({"start": "2016-06-13T22:45:00Z", "import_price": 250000, "export_price": 80000})
        );
    }

    #[test]
    fn accounts_that_contradict_their_postings_are_not_exported() {
        let folder = tempfile::tempdir().unwrap();
        let (path, street) = run(folder.path(), 1);
        let spoil = "UPDATE account SET balance_n = balance_n + 1 WHERE name = 'home:h2'";
        Connection::open(&path).unwrap().execute(spoil, []).unwrap();
        let refused =
            export(&path, &street.genesis, &folder.path().join("out"), first_interval(), 1).unwrap_err();
        assert!(
            refused.to_string().contains("account home:h2: balance_n: is not the sum of its postings"),
            "{refused}"
        );
    }
}
