//! Checking blocks whose bodies are no longer stored: headers one after the other, certificates by the sets that lead from the
//! genesis, leaves against the root in every header, and kept bodies against their leaves.

use ledger::codec::Decode;
use ledger::tree::{Frontier, TILE, leaf_hash, root_of};
use ledger::{
    BlockId, Genesis, Hash32, Header, Leaf, LeafSource, Ledger, LightClient, LightError, Outcome, SetChange,
    SignedEntry,
};
use rusqlite::Connection;

use super::bodies::Gone;
use super::database::{int, unsigned};
use super::error::Damage;
use super::leaves;
use super::ledger_db::set_changes;
use super::replay::StoredBlock;

/// What was checked without bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hashed {
    /// Blocks.
    pub blocks: u64,
    /// Leaves, against the root in each header.
    pub leaves: u64,
    /// Certificates that are still stored.
    pub certificates: u64,
    /// Bodies that are still stored, against their leaves.
    pub bodies: u64,
    /// The block after which this node took part; 0: the genesis.
    pub joined: u64,
}

/// Checks everything up to the block after which `base` is the ledger.
pub(super) fn check(
    connection: &Connection,
    genesis: &Genesis,
    gone: Gone,
    base: &Ledger,
) -> Result<Hashed, Damage> {
    let end = check_until(connection, genesis, gone, base.height())?;
    if end.head != base.head() {
        return Err(Damage::of_block(base.height(), "id", "is not the block of the snapshot"));
    }
    Ok(end.hashed)
}

/// How far blocks were checked, and what was found.
pub(super) struct End {
    /// What was checked.
    pub hashed: Hashed,
    /// The last block.
    pub head: BlockId,
    /// The tree after it.
    pub tree: Frontier,
}

/// Checks everything up to a height.
pub(super) fn check_until(
    connection: &Connection,
    genesis: &Genesis,
    gone: Gone,
    height: u64,
) -> Result<End, Damage> {
    let mut walk = Walk::new(connection, genesis, gone)?;
    for height in gone.joined.max(1)..=height {
        walk.take(height, height == gone.joined)?;
    }
    walk.hashed.bodies = check_bodies(connection, walk.tree.size())?;
    Ok(End { hashed: walk.hashed, head: walk.parent, tree: walk.tree })
}

struct Walk<'c> {
    connection: &'c Connection,
    client: LightClient,
    changes: std::iter::Peekable<std::vec::IntoIter<SetChange>>,
    parent: BlockId,
    time_ms: u64,
    tree: Frontier,
    hashed: Hashed,
}

impl<'c> Walk<'c> {
    fn new(connection: &'c Connection, genesis: &Genesis, gone: Gone) -> Result<Self, Damage> {
        let unreadable = |error: rusqlite::Error| Damage::new("table", "set_change", error.to_string());
        let mut client =
            LightClient::new(genesis).map_err(|error| Damage::new("genesis", "", error.to_string()))?;
        let before = set_changes(connection, 0, gone.joined).map_err(unreadable)?;
        for change in &before {
            follow(&mut client, change)?;
        }
        let rest = set_changes(connection, gone.joined.saturating_sub(1), i64::MAX.unsigned_abs());
        Ok(Self {
            connection,
            client,
            changes: rest.map_err(unreadable)?.into_iter().peekable(),
            parent: BlockId(genesis.chain().id),
            time_ms: genesis.start.unix_ms(),
            tree: Frontier::new(),
            hashed: Hashed { joined: gone.joined, ..Hashed::default() },
        })
    }

    /// The next block; `is_first` of those a node has that began with a snapshot.
    fn take(&mut self, height: u64, is_first: bool) -> Result<(), Damage> {
        let damage = |part: &str, what: &str| Damage::of_block(height, part, what);
        let row = StoredBlock::read(self.connection, height)?;
        let (header, certificate) = row.examine_header()?;
        if !is_first && (header.parent != self.parent || header.time.unix_ms() <= self.time_ms) {
            return Err(damage("header", "does not follow the block before"));
        }
        if header.delegates != self.client.delegates().hash() {
            return Err(damage("header", "names other delegates than those who decided it"));
        }
        // A recovery has none; that it follows is known from the state behind it.
        if let Some(certificate) = certificate.filter(|held| !held.signatures.is_empty()) {
            let held = certificate.verify(&header.chain, self.client.delegates());
            held.map_err(|error| Damage::of_block(height, "certificate", error.to_string()))?;
            self.hashed.certificates += 1;
        }
        self.take_leaves(&header, is_first)?;
        self.take_change(&header)?;
        (self.parent, self.time_ms) = (header.id(), header.time.unix_ms());
        self.hashed.blocks += 1;
        Ok(())
    }

    fn take_change(&mut self, header: &Header) -> Result<(), Damage> {
        let change = self.changes.next_if(|change| change.header.height == header.height);
        match change {
            None if header.delegates == header.next_delegates => Ok(()),
            Some(change) if change.header == *header => follow(&mut self.client, &change),
            _ => Err(Damage::of_block(header.height, "set_change", "is not what the block gives")),
        }
    }

    fn take_leaves(&mut self, header: &Header, is_first: bool) -> Result<(), Damage> {
        let damage = |what: String| Damage::of_block(header.height, "leaf", what);
        let unreadable = |error: rusqlite::Error| damage(format!("cannot be read: {error}"));
        if is_first {
            let tiles = leaves::tiles(self.connection, &(0..header.tree_size / TILE)).map_err(unreadable)?;
            self.tree = Frontier::of_tiles(&tiles);
        }
        while self.tree.size() < header.tree_size {
            let from = self.tree.size();
            let until = header.tree_size.min((from / TILE + 1) * TILE);
            for hash in leaves::hashes(self.connection, from..until).map_err(unreadable)? {
                self.tree.push(hash);
                self.hashed.leaves += 1;
            }
        }
        if (self.tree.size(), self.tree.root()) == (header.tree_size, header.tree_root) {
            return Ok(());
        }
        Err(damage("the leaves do not give the root in the header".to_owned()))
    }
}

fn follow(client: &mut LightClient, change: &SetChange) -> Result<(), Damage> {
    let damage = |error: LightError| Damage::of_block(change.header.height, "set_change", error.to_string());
    let followed = if change.is_recovery() { client.follow_recovery(change) } else { client.follow(change) };
    followed.map_err(damage)
}

/// Every kept body is that of its leaf.
fn check_bodies(connection: &Connection, size: u64) -> Result<u64, Damage> {
    let unreadable = |error: rusqlite::Error| Damage::new("table", "body", error.to_string());
    let sql = "SELECT leaf, outcome, bytes FROM body ORDER BY leaf";
    let mut statement = connection.prepare(sql).map_err(unreadable)?;
    let mut rows = statement.query([]).map_err(unreadable)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(unreadable)? {
        let read = || -> rusqlite::Result<(u64, bool, Vec<u8>)> {
            Ok((unsigned(row, 0)?, row.get(1)?, row.get(2)?))
        };
        let (leaf, is_outcome, bytes) = read().map_err(unreadable)?;
        let stored = leaves::hashes(connection, leaf..leaf + 1).map_err(unreadable)?;
        let expected = leaf_of(is_outcome, &bytes);
        if leaf >= size || expected.is_none() || stored.first().copied() != expected {
            let what = "is not that of its leaf".to_owned();
            return Err(Damage::new(format!("leaf {leaf}"), "body", what));
        }
        count += 1;
    }
    Ok(count)
}

fn leaf_of(is_outcome: bool, bytes: &[u8]) -> Option<Hash32> {
    let (sealed, salt) = if is_outcome {
        let outcome = Outcome::from_bytes(bytes).ok()?;
        (outcome.is_sealed(), outcome.salt())
    } else {
        let entry = SignedEntry::from_bytes(bytes).ok()?;
        (entry.unchecked().body.is_sealed(), entry.unchecked().salt)
    };
    Some(Leaf::new(sealed, &salt, bytes, LeafSource::Entry(0)).hash)
}

/// The root of every tile is that of its leaves, as far as those are stored, and there is no other tile.
pub(super) fn check_tiles(connection: &Connection, size: u64) -> Result<(), Damage> {
    let unreadable = |number: u64| {
        move |error: rusqlite::Error| Damage::new(format!("tile {number}"), "root", error.to_string())
    };
    let sql = "SELECT coalesce(min(position), 0) FROM
               (SELECT min(position) AS position FROM leaf UNION ALL SELECT min(number) * 256 FROM bundle)";
    let first: u64 = connection.query_row(sql, [], |row| unsigned(row, 0)).map_err(unreadable(0))?;
    for number in first.div_ceil(TILE)..size / TILE {
        let leaves = leaves::bytes(connection, number * TILE..(number + 1) * TILE);
        let hashes: Vec<_> = leaves.map_err(unreadable(number))?.iter().map(|leaf| leaf_hash(leaf)).collect();
        let stored = leaves::tiles(connection, &(number..number + 1)).map_err(unreadable(number))?;
        if stored.first() != Some(&root_of(&hashes)) {
            return Err(Damage::new(format!("tile {number}"), "root", "is not that of its leaves"));
        }
    }
    let sql = "SELECT coalesce(max(number), -1) FROM tile";
    let last: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(unreadable(0))?;
    match int(size / TILE) {
        Ok(tiles) if last < tiles => Ok(()),
        _ => Err(Damage::new(format!("tile {last}"), "root", "there are no such leaves")),
    }
}
