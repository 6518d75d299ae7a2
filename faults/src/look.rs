//! What the nodes' own files hold in the end, and whether it is what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use ledger::codec::{Decode, Encode};
use ledger::{Hash32, UnverifiedBlock};
use rusqlite::{Connection, OpenFlags};

use crate::load::Tally;
use crate::shell::run;
use crate::street::{House, MTU_MINUTES, Street};

/// A database of a node, for reading beside it.
///
/// # Errors
/// If it is not there.
pub fn open(folder: &Path, name: &str) -> anyhow::Result<Connection> {
    let path = folder.join(name);
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    db.busy_timeout(Duration::from_secs(5))?;
    Ok(db)
}

/// Height of the last block in a data folder; zero while it cannot be read.
#[must_use]
pub fn height(folder: &Path) -> u64 {
    count(folder, "SELECT coalesce(max(height), 0) FROM block")
}

/// How many intervals are settled in a data folder; zero while it cannot be read.
#[must_use]
pub fn settled(folder: &Path) -> u64 {
    count(folder, "SELECT count(*) FROM interval")
}

fn count(folder: &Path, sql: &str) -> u64 {
    let ask =
        || -> anyhow::Result<i64> { Ok(open(folder, "ledger.db")?.query_row(sql, [], |row| row.get(0))?) };
    ask().map_or(0, |count| u64::try_from(count).unwrap_or(0))
}

/// What all chains were found to hold.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Found {
    /// Height that every chain reaches.
    pub height: u64,
    /// Entries in the blocks up to there.
    pub entries: u64,
    /// Orders that a node's API called final.
    pub acknowledged_orders: u64,
    /// Entries that the nodes' own books call final: orders, readings, candidacies.
    pub acknowledged_in_books: u64,
    /// Intervals settled.
    pub intervals: u64,
    /// Settled energy of all homes, Wh.
    pub energy_wh: u64,
}

/// Checks the data folders of a street that has stopped.
///
/// # Errors
/// The first promise that was broken.
pub fn check(street: &Street, tally: &Tally) -> anyhow::Result<Found> {
    ensure!(tally.contradictions.is_empty(), "a node took back what it had said: {:?}", tally.contradictions);
    let chains: Vec<Chain> =
        street.houses().iter().map(|house| Chain::read(&house.folder)).collect::<Result<_, _>>()?;
    let height = one_chain(&chains)?;
    let books = street.houses().iter().map(Books::read).collect::<Result<Vec<_>, _>>()?;
    let mut found = Found { height, ..Found::default() };
    found.entries = chains.first().map_or(0, |chain| chain.entries.len() as u64);
    found.acknowledged_in_books = hold_all(street, &chains, &books)?;
    found.acknowledged_orders = orders_kept(tally, &books)?;
    for house in street.houses() {
        nobody_below_zero(house)?;
        energy_adds_up(house, street, &mut found)?;
        nothing_contradicted(street, house)?;
        verify(street, house)?;
    }
    Ok(found)
}

/// The blocks of one node, decoded anew.
struct Chain {
    home: String,
    ids: BTreeMap<u64, Vec<u8>>,
    /// By hash of their bytes: the blocks in which an entry stands, each as often as it does.
    entries: BTreeMap<Hash32, Vec<u64>>,
}

impl Chain {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let db = open(folder, "ledger.db")?;
        let mut statement = db.prepare("SELECT height, id, entries FROM block ORDER BY height")?;
        let mut rows = statement.query([])?;
        let home = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut chain = Self { home, ids: BTreeMap::new(), entries: BTreeMap::new() };
        while let Some(row) = rows.next()? {
            let (height, id, bytes): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let height = u64::try_from(height)?;
            let block = UnverifiedBlock::from_bytes(&bytes)
                .with_context(|| format!("block {height} of {} cannot be decoded", chain.home))?;
            for entry in &block.entries {
                chain.entries.entry(Hash32::of(&[&entry.to_bytes()])).or_default().push(height);
            }
            chain.ids.insert(height, id);
        }
        Ok(chain)
    }
}

/// All have the same blocks, from the first on without a gap, and none twice the same entry. Returns the common height.
fn one_chain(chains: &[Chain]) -> anyhow::Result<u64> {
    let longest = chains.iter().max_by_key(|chain| chain.ids.len()).context("there is no chain")?;
    for chain in chains {
        let heights = chain.ids.keys().copied();
        ensure!(heights.eq(1..=chain.ids.len() as u64), "{} has a gap in its blocks", chain.home);
        let other = chain.ids.iter().find(|(height, id)| longest.ids.get(height) != Some(id));
        ensure!(other.is_none(), "{} and {} differ at {other:?}", chain.home, longest.home);
        let twice = chain.entries.values().find(|heights| heights.len() != 1);
        ensure!(twice.is_none(), "{} has one entry in blocks {twice:?}", chain.home);
    }
    Ok(chains.iter().map(|chain| chain.ids.len() as u64).min().unwrap_or(0))
}

/// What a home itself wrote down of the entries it signed: those it believes to be final.
struct Books {
    home: String,
    /// Id, hash of the bytes, height.
    finals: Vec<(String, Hash32, u64)>,
}

impl Books {
    fn read(house: &House) -> anyhow::Result<Self> {
        let mut finals = Vec::new();
        for name in ["orders.db", "journal.db"] {
            let db = open(&house.folder, name)?;
            let mut statement = db.prepare("SELECT id, bytes, height FROM entry WHERE height IS NOT NULL")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (id, bytes, height): ([u8; 32], Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                finals.push((Hash32(id).hex(), Hash32::of(&[&bytes]), u64::try_from(height)?));
            }
        }
        Ok(Self { home: house.name.clone(), finals })
    }
}

/// Whatever a home's books call final stands once in every chain, where they say. Returns how much that is.
fn hold_all(street: &Street, chains: &[Chain], books: &[Books]) -> anyhow::Result<u64> {
    let mut count = 0;
    for book in books {
        for (id, hash, height) in &book.finals {
            for chain in chains {
                let stands = chain.entries.get(hash);
                ensure!(
                    stands.is_some_and(|heights| heights == &[*height]),
                    "entry {id} of {} is final at height {height}, and {} has it in {stands:?} (heights {:?})",
                    book.home,
                    chain.home,
                    street.heights()
                );
            }
            count += 1;
        }
    }
    Ok(count)
}

/// Whatever an API called final is in the books, and no request made two entries.
fn orders_kept(tally: &Tally, books: &[Books]) -> anyhow::Result<u64> {
    let kept: BTreeSet<(&str, u64)> = books
        .iter()
        .flat_map(|book| book.finals.iter().map(|(id, _, height)| (id.as_str(), *height)))
        .collect();
    let mut ids = BTreeSet::new();
    for (request, order) in &tally.acknowledged {
        let known = kept.contains(&(order.id.as_str(), order.height));
        ensure!(known, "{request} was called final at height {}, and its node has lost it", order.height);
        ensure!(ids.insert(&order.id), "{request} shares its entry with another request");
    }
    Ok(ids.len() as u64)
}

/// All accounts together hold what they held at the start, and no home is below zero.
fn nobody_below_zero(house: &House) -> anyhow::Result<()> {
    let db = open(&house.folder, "ledger.db")?;
    let sql = "SELECT sum(opening_n), sum(balance_n), min(CASE WHEN name LIKE 'home:%' THEN balance_n END) FROM account";
    let (opening, now, least): (i64, i64, i64) =
        db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    ensure!(opening == now, "{}: accounts began with {opening} n in all and hold {now} n", house.name);
    ensure!(least >= 0, "{}: a home is at {least} n", house.name);
    Ok(())
}

/// Intervals follow one another, and what is settled of each home is what its registers grew by: each watt-hour once.
fn energy_adds_up(house: &House, street: &Street, found: &mut Found) -> anyhow::Result<()> {
    let db = open(&house.folder, "ledger.db")?;
    let sql = "SELECT count(*), coalesce(min(start_ms), 0), coalesce(max(start_ms), 0) FROM interval";
    let (count, first, last): (i64, i64, i64) =
        db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let length = i64::from(MTU_MINUTES) * 60_000;
    ensure!(count > 0 && last - first == (count - 1) * length, "{}: an interval was left out", house.name);
    let mut energy = 0;
    for home in street.houses() {
        // Up to the last reading whose whole lump was due when the street stopped.
        let until = "(SELECT max(interval_ms) FROM reading WHERE home = ?1
            AND interval_ms <= (SELECT max(start_ms) FROM interval))";
        let pair = |sql: String| db.query_row(&sql, [&home.name], |row| Ok((row.get(0)?, row.get(1)?)));
        let grown: (i64, i64) = pair(format!(
            "SELECT max(import_register_wh) - min(import_register_wh), max(export_register_wh) - min(export_register_wh)
             FROM reading WHERE home = ?1 AND interval_ms <= {until}"
        ))?;
        let settled: (i64, i64) = pair(format!(
            "SELECT coalesce(sum(import_wh), 0), coalesce(sum(export_wh), 0) FROM settlement WHERE home = ?1 AND
             interval_ms <= {until}"
        ))?;
        ensure!(
            settled == grown,
            "{} has settled {settled:?} Wh of {}, whose registers grew by {grown:?}",
            house.name,
            home.name
        );
        ensure!(grown.0 + grown.1 > 0, "nothing was metered at {}", home.name);
        energy += grown.0 + grown.1;
    }
    found.intervals = u64::try_from(count)?;
    found.energy_wh = u64::try_from(energy)?;
    Ok(())
}

fn nothing_contradicted(street: &Street, house: &House) -> anyhow::Result<()> {
    let home = house.name.trim_start_matches('h').parse()?;
    let log = street.logs(home)?;
    for bad in ["contradicted itself", "panicked", "diverge"] {
        let line = log.lines().find(|line| line.contains(bad));
        ensure!(line.is_none(), "{} says {bad:?}: {line:?}", house.name);
    }
    Ok(())
}

/// `commonwatt ledger verify`: everything replays to what is stored.
fn verify(street: &Street, house: &House) -> anyhow::Result<()> {
    let mut arguments = ["ledger", "verify", "--data-dir"].map(std::path::PathBuf::from).to_vec();
    arguments.extend([house.folder.clone(), "--genesis".into(), street.genesis()]);
    run(street.program(), &arguments)
        .with_context(|| format!("the ledger of {} does not verify", house.name))?;
    Ok(())
}
