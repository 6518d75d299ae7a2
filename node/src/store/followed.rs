//! What is stored where the node does not hold all bodies: every block's header and certificate, every leaf, what is public, what
//! is its own home's, and what it knows of the state.
//!
//! It is the form that [letting go](super::prune) leaves behind, from the last block on: there is no snapshot to replay from, and
//! the view of the state takes its place.

use std::path::Path;

use energy::{HomeId, Interval, Money, Mtu, Timestamp};
use ledger::codec::{Decode, Encode};
use ledger::tree::{Frontier, TILE};
use ledger::{
    AssuranceStatement, BlockId, BlockParts, Finding, Followed, FollowedBlock, Genesis, HomeView, Ledger,
    LightClient, LightError, MeterAssurance, Outcome, PostingRecord, SetChange, Trail,
};
use market::Account;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::bodies::Gone;
use super::database::{decoded, int};
use super::error::Damage;
use super::ledger_db::{LedgerDb, insert_change, open_read_only, set_change_bytes, set_changes};
use super::projection::{Facts, account_name, insert_facts};
use super::replay::StoredBlock;
use super::{StoreError, leaves};

/// Key of the row of `meta` that holds the view of the state; there is one where the node does not hold all bodies.
const VIEW: &str = "view";
/// Why a block or view that was followed is not stored, or the way on is not known.
#[derive(Debug, thiserror::Error)]
pub enum FollowedError {
    /// The disk, or what is on it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored does not follow from the genesis.
    #[error("what is stored does not follow from the genesis: {0}")]
    Light(#[from] LightError),
    /// The account does not stand where the movements on it say.
    #[error(
        "by the view of block {height} {viewed} n stand on the home's account, by the movements that were proven {stored} n: one of \
         them is false or incomplete"
    )]
    Balance {
        /// The block.
        height: u64,
        /// By the view.
        viewed: i64,
        /// By the movements.
        stored: i64,
    },
}

/// True where the database is of a node that does not hold all bodies.
pub(super) fn is_following(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM meta WHERE key = ?1";
    connection.query_row(sql, [VIEW], |row| row.get::<_, i64>(0)).map(|count| count > 0)
}

/// What is known of the state, where that is a view.
pub(super) fn view(
    connection: &Connection,
    genesis: &Genesis,
    home: &HomeId,
) -> Result<Option<HomeView>, Damage> {
    let damage = |what: String| Damage::new("view", "bytes", what);
    let sql = "SELECT value FROM meta WHERE key = ?1";
    let bytes: Option<Vec<u8>> = connection
        .query_row(sql, [VIEW], |row| row.get(0))
        .optional()
        .map_err(|error| damage(error.to_string()))?;
    let Some(bytes) = bytes else { return Ok(None) };
    let view =
        HomeView::from_bytes(genesis, home, &bytes, None).map_err(|error| damage(error.to_string()))?;
    let height = view.ledger().height();
    if height > 0 {
        let (header, _) = StoredBlock::read(connection, height)?.examine_header()?;
        view.follows_from(&header).map_err(|error| damage(error.to_string()))?;
    }
    Ok(Some(view))
}

/// Whose database it is.
pub(super) fn owner(connection: &Connection) -> rusqlite::Result<Option<HomeId>> {
    let sql = "SELECT value FROM meta WHERE key = 'home'";
    let text: Option<String> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| HomeId::new(&text).ok()))
}

impl LedgerDb {
    /// True where it is of a node that does not hold all bodies.
    #[must_use]
    pub const fn is_following(&self) -> bool {
        self.follows
    }

    /// What is known of the state, where that is a view.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn view(&self, genesis: &Genesis) -> Result<Option<HomeView>, StoreError> {
        let owner = owner(&self.connection).map_err(StoreError::database(&self.path, "see whose it is"))?;
        let Some(home) = self.home.clone().or(owner) else { return Ok(None) };
        view(&self.connection, genesis, &home).map_err(StoreError::damaged(&self.path))
    }

    /// Where to go on following: after the last block stored.
    ///
    /// # Errors
    /// [`FollowedError`].
    pub fn trail(&self, genesis: &Genesis, home: &HomeId) -> Result<Trail, FollowedError> {
        let fault = |source| StoreError::database(&self.path, "read the changes of the delegates")(source);
        let height = self.last_height();
        let mut client = LightClient::new(genesis).map_err(LightError::from)?;
        for change in set_changes(&self.connection, 0, height.saturating_add(1)).map_err(fault)? {
            if change.is_recovery() { client.follow_recovery(&change)? } else { client.follow(&change)? }
        }
        if height == 0 {
            let start = (0, BlockId(genesis.chain().id), genesis.start);
            return Ok(Trail::new(home.clone(), client, start, Frontier::new()));
        }
        let row = StoredBlock::read(&self.connection, height).map_err(StoreError::damaged(&self.path))?;
        let (header, _) = row.examine_header().map_err(StoreError::damaged(&self.path))?;
        let tree = self.tree(header.tree_size).map_err(fault)?;
        Ok(Trail::new(home.clone(), client, (height, header.id(), header.time), tree))
    }

    fn tree(&self, size: u64) -> rusqlite::Result<Frontier> {
        let whole = size / TILE;
        let mut tree = Frontier::of_tiles(&leaves::tiles(&self.connection, &(0..whole))?);
        if whole * TILE < size {
            let rest = leaves::hashes(&self.connection, whole * TILE..size)?;
            rest.into_iter().for_each(|leaf| tree.push(leaf));
        }
        Ok(tree)
    }

    /// Stores what was followed, in one transaction: the blocks, and the view after the last of them if one was given. `known` is
    /// what is known of the state so far.
    ///
    /// # Errors
    /// [`FollowedError`]: the view contradicts the movements on the account, or the disk refuses.
    pub fn follow(
        &mut self,
        blocks: &[Followed],
        view: Option<&HomeView>,
        known: &Ledger,
        wall_ms: u64,
    ) -> Result<(), FollowedError> {
        let Some(home) = self.home.clone() else { return Ok(()) };
        let path = self.path.clone();
        let fault = |source| StoreError::database(&path, "store what was followed")(source);
        let ledger = view.map_or(known, HomeView::ledger);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(fault)?;
        for followed in blocks {
            write(&transaction, followed, ledger, &home, wall_ms).map_err(fault)?;
        }
        if let Some(view) = view {
            agrees(&transaction, view, &home).map_err(fault)??;
            write_view(&transaction, view).map_err(fault)?;
        }
        let mut gone = self.gone;
        if let Some(last) = blocks.last() {
            gone.bodies = last.header.height;
            gone.write(&transaction).map_err(fault)?;
        }
        transaction.commit().map_err(fault)?;
        if let Some(last) = blocks.last() {
            self.begin_at(&last.header, gone);
        }
        Ok(())
    }
}

/// Writes what is known of the state.
pub(super) fn write_view(connection: &Connection, view: &HomeView) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute((VIEW, view.to_bytes(&[]))).map(drop)
}

/// Forgets that the node does not hold all bodies.
pub(super) fn forget_view(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM meta WHERE key = ?1", [VIEW]).map(drop)
}

fn write(
    transaction: &Transaction<'_>,
    followed: &Followed,
    ledger: &Ledger,
    home: &HomeId,
    wall_ms: u64,
) -> rusqlite::Result<()> {
    StoredBlock::of_followed(followed, wall_ms).insert(transaction)?;
    insert_facts(transaction, &Facts::of_followed(followed, ledger))?;
    let (height, after) = (followed.header.height, followed.header.tree_size);
    let first = after.saturating_sub(followed.leaves.len() as u64);
    let sql = "INSERT INTO body (leaf, height, outcome, bytes) VALUES (?1, ?2, ?3, ?4)";
    let mut insert = transaction.prepare_cached(sql)?;
    for (position, entry) in &followed.entries {
        insert.execute((int(first + u64::from(*position))?, int(height)?, false, entry.bytes()))?;
    }
    for (position, outcome) in &followed.outcomes {
        insert.execute((int(first + u64::from(*position))?, int(height)?, true, outcome.to_bytes()))?;
    }
    leaves::insert_tiles(transaction, first, after)?;
    leaves::bundle_up_to(transaction, after)?;
    if let Some(change) = &followed.change {
        insert_change(transaction, change)?;
    }
    let moved = i64::try_from(followed.moved().get()).unwrap_or(i64::MAX);
    let sql = "INSERT INTO account (name, opening_n, balance_n) VALUES (?1, 0, ?2)
               ON CONFLICT (name) DO UPDATE SET balance_n = balance_n + excluded.balance_n";
    let own = account_name(&Account::Home(home.clone()));
    transaction.prepare_cached(sql)?.execute((own, moved)).map(drop)
}

/// The view says of the account what the movements on it say.
fn agrees(
    connection: &Connection,
    view: &HomeView,
    home: &HomeId,
) -> rusqlite::Result<Result<(), FollowedError>> {
    let account = Account::Home(home.clone());
    let stored = balance(connection, &account)?;
    let (height, viewed) = (view.ledger().height(), view.ledger().balance(&account).get());
    Ok(if viewed == stored { Ok(()) } else { Err(FollowedError::Balance { height, viewed, stored }) })
}

fn balance(connection: &Connection, account: &Account<HomeId>) -> rusqlite::Result<i64> {
    let sql = "SELECT balance_n FROM account WHERE name = ?1";
    let name = account_name(account);
    Ok(connection.query_row(sql, [name], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Blocks of a range of heights as `home` gets them, from the ledger database at `path`: as many as fit `max_bytes`, but at least
/// one if there is one; `None` where the first is no longer whole there.
///
/// # Errors
/// [`StoreError::Damaged`] names the block.
pub fn blocks_for_home(
    path: &Path,
    genesis: &Genesis,
    (from, until): (u64, u64),
    home: &HomeId,
    max_bytes: usize,
) -> Result<Option<Vec<FollowedBlock>>, StoreError> {
    let connection = open_read_only(path, &genesis.chain())?;
    let fault = |source| StoreError::database(path, "read blocks for a home")(source);
    let connection = connection.unchecked_transaction().map_err(fault)?;
    if from <= Gone::read(&connection).map_err(fault)?.bodies {
        return Ok(None);
    }
    let (mut blocks, mut bytes) = (Vec::new(), 0_usize);
    for height in from.max(1)..=until {
        let parts = parts(&connection, height, home, genesis.mtu).map_err(StoreError::damaged(path))?;
        let block = FollowedBlock::of(parts, home);
        bytes = bytes.saturating_add(block.to_bytes().len());
        if bytes > max_bytes && !blocks.is_empty() {
            break;
        }
        blocks.push(block);
    }
    Ok(Some(blocks))
}

/// What is stored of a whole block, as far as `home` may get it.
fn parts(connection: &Connection, height: u64, home: &HomeId, mtu: Mtu) -> Result<BlockParts, Damage> {
    let row = StoredBlock::read(connection, height)?;
    let (header, certificate) = row.examine_header()?;
    let block = row.examine_body()?;
    let damage = |part: &str, what: &str| Damage::of_block(height, part, what);
    let unreadable = |error: rusqlite::Error| Damage::of_block(height, "leaf", error.to_string());
    let (leaves, outcomes) = leaves_of(connection, height).map_err(unreadable)?;
    let change = set_change_bytes(connection, height).map_err(unreadable)?;
    let change = change.map(|bytes| SetChange::from_bytes(&bytes)).transpose();
    let change = change.map_err(|_| damage("set_change", "cannot be read"))?;
    Ok(BlockParts {
        certificate: certificate.ok_or_else(|| damage("certificate", "is no longer stored"))?,
        delegates: change.map(|change| change.delegates),
        recovery: block.recovery,
        leaves,
        entries: block.entries,
        outcomes,
        postings: postings_of(connection, height, home, mtu).map_err(unreadable)?,
        statements: statements_of(connection, height, home, mtu).map_err(unreadable)?,
        header,
    })
}

type Leaves = (Vec<Vec<u8>>, Vec<Outcome>);

fn leaves_of(connection: &Connection, height: u64) -> rusqlite::Result<Leaves> {
    let after = leaves::size_after(connection, height)?;
    let before = leaves::size_after(connection, height.saturating_sub(1))?;
    let sql = "SELECT bytes, outcome FROM leaf WHERE position >= ?1 AND position < ?2 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([int(before)?, int(after)?])?;
    let (mut leaves, mut outcomes) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        leaves.push(row.get(0)?);
        if row.get::<_, Option<Vec<u8>>>(1)?.is_some() {
            outcomes.push(decoded(row, 1, Outcome::from_bytes)?);
        }
    }
    Ok((leaves, outcomes))
}

fn postings_of(
    connection: &Connection,
    height: u64,
    home: &HomeId,
    mtu: Mtu,
) -> rusqlite::Result<Vec<(u32, PostingRecord)>> {
    let account = Account::Home(home.clone());
    let sql = "SELECT seq, interval_ms, kind, amount_n FROM posting WHERE height = ?1 AND account = ?2 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((int(height)?, account_name(&account)), |row| {
        let (start, kind): (Option<i64>, String) = (row.get(1)?, row.get(2)?);
        let kind = PostingRecord::kind_of(&kind).ok_or(rusqlite::Error::InvalidQuery)?;
        let interval = start.map(|ms| interval_at(ms, mtu)).transpose()?;
        let amount = Money::new(row.get::<_, i64>(3)?.into());
        Ok((row.get(0)?, PostingRecord { interval, account: account.clone(), kind, amount }))
    })?;
    rows.collect()
}

fn interval_at(start_ms: i64, mtu: Mtu) -> rusqlite::Result<Interval> {
    let start = u64::try_from(start_ms).map_err(|_| rusqlite::Error::InvalidQuery)?;
    Interval::starting_at(Timestamp::from_unix_ms(start), mtu).map_err(|_| rusqlite::Error::InvalidQuery)
}

/// What was booked of the home's meter, with the positions of the entries.
fn statements_of(
    connection: &Connection,
    height: u64,
    home: &HomeId,
    mtu: Mtu,
) -> rusqlite::Result<Vec<(u32, AssuranceStatement)>> {
    let sql = "SELECT position, until_ms, level, transformer, transformer_figure, pv, pv_figure, inverter,
               inverter_figure, voltage, voltage_figure FROM assurance WHERE home = ?1 AND height = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((home.as_str(), int(height)?), |row| {
        let end: i64 = row.get(1)?;
        let until = interval_at(end.saturating_sub(i64::try_from(mtu.ms()).unwrap_or(i64::MAX)), mtu)?;
        let finding = |column: usize| finding(&row.get::<_, String>(column)?, row.get(column + 1)?);
        let found = MeterAssurance {
            home: home.clone(),
            level: row.get(2)?,
            transformer: finding(3)?,
            pv: finding(5)?,
            inverter: finding(7)?,
            voltage: finding(9)?,
        };
        Ok((row.get(0)?, AssuranceStatement { until, meters: vec![found] }))
    })?;
    rows.collect()
}

fn finding(word: &str, figure: Option<i32>) -> rusqlite::Result<Finding> {
    let figure = figure.unwrap_or_default();
    let known = [
        Finding::NotApplicable,
        Finding::Unknown,
        Finding::Consistent { figure },
        Finding::Contradicts { figure },
    ];
    known.into_iter().find(|finding| finding.word() == word).ok_or(rusqlite::Error::InvalidQuery)
}

#[cfg(test)]
mod tests;
