//! What the day came to, read from the ledger of the first delegate and compared with all others.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use energy::{HomeId, Interval};
use rusqlite::{Connection, OpenFlags, params};
use serde::Serialize;

use super::gains::{self, Agents};
use super::street::Stopped;
use crate::store::Durability;
use crate::store::ledger_db::LedgerDb;
use sim::dataset::QUARTERS_PER_DAY;

/// The day in figures; with `--output json` the last thing on stdout.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Version of this object.
    pub schema_version: u32,
    /// Homes on the street.
    pub homes: usize,
    /// Intervals of the day.
    pub intervals: usize,
    /// Of them, settled.
    pub intervals_settled: usize,
    /// Taken from the network by all homes, Wh.
    pub metered_import_wh: i64,
    /// Given to the network by all homes, Wh.
    pub metered_export_wh: i64,
    /// Of that, from neighbour to neighbour, traded ahead or matched: what no supplier served, Wh.
    pub matched_wh: i64,
    /// Taken from the supplier, Wh.
    pub supplier_import_wh: i64,
    /// Given to the supplier, Wh.
    pub supplier_export_wh: i64,
    /// Losses of the network as the root meter shows them, Wh; absent if any interval's are unknown.
    pub losses_wh: Option<i64>,
    /// What the homes saved against their supplier alone, n.
    pub saved_n: Saved,
    /// What agents did and what it brought; absent without agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<Agents>,
    /// Final blocks.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// True if all nodes hold the same block, and so the same state, at the greatest height all have.
    pub roots_equal: bool,
    /// True if money and energy add up in the final state, and no node found otherwise.
    pub invariants_hold: bool,
    /// From receipt of a block's oldest entry to its durable decision, over all delegates.
    pub finality_ms: Percentiles,
    /// The most memory this process had, for all nodes together, bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Written to storage by this process, for all nodes together, bytes.
    pub written_bytes: Option<u64>,
    /// How long it took.
    pub wall_s: f64,
    #[serde(skip)]
    halted: Vec<String>,
    #[serde(skip)]
    pub(super) currency: String,
}

/// What was saved, n.
#[derive(Debug, Serialize)]
pub struct Saved {
    /// By all homes.
    pub total: i64,
    /// By each.
    pub homes: BTreeMap<String, i64>,
}

/// Percentiles by nearest rank, ms.
#[derive(Debug, Serialize)]
pub struct Percentiles {
    /// The median; absent if nothing was measured.
    pub p50: Option<u64>,
    /// One in a hundred is above.
    pub p99: Option<u64>,
}

impl Percentiles {
    /// Of these samples.
    #[must_use]
    pub fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        let rank =
            |percent: usize| samples.get((samples.len() * percent).div_ceil(100).checked_sub(1)?).copied();
        Self { p50: rank(50), p99: rank(99) }
    }
}

impl Summary {
    /// An error if the day cannot be trusted.
    ///
    /// # Errors
    /// Which promise was broken.
    pub fn verdict(&self) -> anyhow::Result<()> {
        if let Some(reason) = self.halted.first() {
            bail!("a node stopped by itself: {reason}");
        }
        if !self.roots_equal {
            bail!("the nodes do not hold the same chain");
        }
        if !self.invariants_hold {
            bail!("money or energy does not add up");
        }
        Ok(())
    }
}

/// Sums the day up.
///
/// # Errors
/// If a database cannot be read.
pub fn sum_up(stopped: &Stopped, started: Instant) -> anyhow::Result<Summary> {
    let (home, path) = stopped.nodes.first().context("there is no node")?;
    let db = open(path)?;
    let day = Day::of(stopped.first);
    let energy = day.energy(&db)?;
    let seats = stopped.genesis.delegates.len();
    let (blocks, entries) =
        db.query_row("SELECT count(*), coalesce(sum(entry_count), 0) FROM block", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
    let settled = day.settled(&db)?;
    Ok(Summary {
        schema_version: 1,
        homes: stopped.nodes.len(),
        intervals: QUARTERS_PER_DAY,
        intervals_settled: settled,
        metered_import_wh: energy[0],
        metered_export_wh: energy[1],
        matched_wh: energy[0] - energy[3],
        supplier_import_wh: energy[3],
        supplier_export_wh: energy[4],
        losses_wh: day.losses(&db)?,
        saved_n: day.saved(&db)?,
        agents: if stopped.agents { Some(gains::sum_up(stopped, &db, settled)?) } else { None },
        blocks: u64::try_from(blocks)?,
        entries: u64::try_from(entries)?,
        roots_equal: roots_equal(stopped)?,
        invariants_hold: stopped.halted.is_empty() && invariants_hold(stopped, home, path)?,
        finality_ms: finality(&stopped.nodes[..seats.min(stopped.nodes.len())])?,
        peak_rss_bytes: proc_figure("/proc/self/status", "VmHWM:").map(|kib| kib * 1024),
        written_bytes: proc_figure("/proc/self/io", "write_bytes:"),
        wall_s: (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        halted: stopped.halted.clone(),
        currency: stopped.genesis.currency.clone(),
    })
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).with_context(|| format!("{} cannot be read", path.display()))
}

/// The bounds of the day, ms.
struct Day {
    from: i64,
    until: i64,
}

impl Day {
    fn of(first: Interval) -> Self {
        let from = i64::try_from(first.start().unix_ms()).unwrap_or(i64::MAX);
        Self { from, until: from.saturating_add(86_400_000) }
    }

    fn settled(&self, db: &Connection) -> anyhow::Result<usize> {
        let sql = "SELECT count(*) FROM interval WHERE start_ms >= ?1 AND start_ms < ?2";
        let count: i64 = db.query_row(sql, params![self.from, self.until], |row| row.get(0))?;
        Ok(usize::try_from(count)?)
    }

    /// Import, export, matched, from the supplier, to the supplier.
    fn energy(&self, db: &Connection) -> anyhow::Result<[i64; 5]> {
        let sql =
            "SELECT coalesce(sum(import_wh), 0), coalesce(sum(export_wh), 0), coalesce(sum(sold_wh), 0),
                    coalesce(sum(supplier_import_wh), 0), coalesce(sum(supplier_export_wh), 0)
                   FROM settlement WHERE interval_ms >= ?1 AND interval_ms < ?2";
        Ok(db.query_row(sql, params![self.from, self.until], |row| {
            Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
        })?)
    }

    fn losses(&self, db: &Connection) -> anyhow::Result<Option<i64>> {
        let sql = "SELECT CASE WHEN count(*) = count(losses_wh) THEN sum(losses_wh) END FROM interval
                   WHERE start_ms >= ?1 AND start_ms < ?2";
        Ok(db.query_row(sql, params![self.from, self.until], |row| row.get(0))?)
    }

    fn saved(&self, db: &Connection) -> anyhow::Result<Saved> {
        let sql = "SELECT home, sum(amount_n - baseline_n) FROM settlement
                   WHERE interval_ms >= ?1 AND interval_ms < ?2 GROUP BY home ORDER BY home";
        let mut statement = db.prepare(sql)?;
        let rows =
            statement.query_map(params![self.from, self.until], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let homes = rows.collect::<Result<BTreeMap<String, i64>, _>>()?;
        Ok(Saved { total: homes.values().sum(), homes })
    }
}

/// A block id commits to the state root, so equal ids at one height mean equal states.
fn roots_equal(stopped: &Stopped) -> anyhow::Result<bool> {
    let dbs = stopped.nodes.iter().map(|(_, path)| open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut common = i64::MAX;
    for db in &dbs {
        let height: i64 = db.query_row("SELECT coalesce(max(height), 0) FROM block", [], |row| row.get(0))?;
        common = common.min(height);
    }
    if common == 0 {
        // Somebody has no block yet, a moment after the start: what all have is the genesis.
        return Ok(true);
    }
    let mut ids = Vec::new();
    for db in &dbs {
        let id: Option<Vec<u8>> =
            db.query_row("SELECT max(id) FROM block WHERE height = ?1", [common], |row| row.get(0))?;
        ids.push(id);
    }
    Ok(ids.iter().all(|id| id.is_some() && *id == ids[0]))
}

fn invariants_hold(stopped: &Stopped, home: &HomeId, path: &Path) -> anyhow::Result<bool> {
    let db = LedgerDb::open(path, Durability::Normal, &stopped.genesis, home)?;
    Ok(db.load(&stopped.genesis)?.check_invariants().is_ok())
}

fn finality(delegates: &[(HomeId, std::path::PathBuf)]) -> anyhow::Result<Percentiles> {
    let mut samples = Vec::new();
    for (_, path) in delegates {
        let db = open(path)?;
        let mut statement = db.prepare("SELECT finality_ms FROM block WHERE entry_count > 0")?;
        for sample in statement.query_map([], |row| row.get::<_, i64>(0))? {
            samples.push(u64::try_from(sample?)?);
        }
    }
    Ok(Percentiles::of(samples))
}

/// A figure of this process as Linux gives it; `None` where it gives none.
pub(crate) fn proc_figure(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank_and_absent_without_samples() {
        let of = |samples: &[u64]| {
            let percentiles = Percentiles::of(samples.to_vec());
            (percentiles.p50, percentiles.p99)
        };
        assert_eq!(of(&[]), (None, None));
        assert_eq!(of(&[7]), (Some(7), Some(7)));
        assert_eq!(of(&(1..=200).collect::<Vec<_>>()), (Some(100), Some(198)));
    }
}
