//! The transparency tree as it is stored: leaves one by one while their blocks are there, bundles of 256 afterwards, and of each
//! 256 the root, so that any leaf is proven from few rows.

use std::ops::Range;

use ledger::Hash32;
use ledger::tree::{self, TILE, leaf_hash};
use rusqlite::{Connection, OptionalExtension};

use super::database::int;

/// Writes the roots of the tiles that a tree grown from `before` to `after` leaves completes.
pub(super) fn insert_tiles(connection: &Connection, before: u64, after: u64) -> rusqlite::Result<()> {
    for number in before / TILE..after / TILE {
        let hashes = hashes(connection, number * TILE..(number + 1) * TILE)?;
        insert_tile(connection, number, &tree::root_of(&hashes))?;
    }
    Ok(())
}

/// Writes the root of one tile.
pub(super) fn insert_tile(connection: &Connection, number: u64, root: &Hash32) -> rusqlite::Result<()> {
    let sql = "INSERT INTO tile (number, root) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute((int(number)?, root.0)).map(drop)
}

/// The bytes of the leaves of a range that ends within the tile in which it begins.
///
/// # Errors
/// [`rusqlite::Error::QueryReturnedNoRows`] if one of them is not stored.
pub(super) fn bytes(connection: &Connection, range: Range<u64>) -> rusqlite::Result<Vec<Vec<u8>>> {
    let sql = "SELECT leaves FROM bundle WHERE number = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let bundle: Option<Vec<u8>> =
        statement.query_row([int(range.start / TILE)?], |row| row.get(0)).optional()?;
    let leaves = match bundle {
        Some(bundle) => {
            let leaves = unbundle(&bundle).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            let skipped = usize::try_from(range.start % TILE).unwrap_or(usize::MAX);
            leaves.into_iter().skip(skipped).take(length(&range)).collect()
        }
        None => rows(connection, &range)?,
    };
    if leaves.len() == length(&range) { Ok(leaves) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
}

fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

fn rows(connection: &Connection, range: &Range<u64>) -> rusqlite::Result<Vec<Vec<u8>>> {
    let sql = "SELECT bytes FROM leaf WHERE position >= ?1 AND position < ?2 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([int(range.start)?, int(range.end)?], |row| row.get(0))?.collect()
}

/// The hashes of the leaves of a range within one tile.
pub(super) fn hashes(connection: &Connection, range: Range<u64>) -> rusqlite::Result<Vec<Hash32>> {
    Ok(bytes(connection, range)?.iter().map(|leaf| leaf_hash(leaf)).collect())
}

/// The roots of the tiles from the first to before the one given.
pub(super) fn tiles(connection: &Connection, range: &Range<u64>) -> rusqlite::Result<Vec<Hash32>> {
    let sql = "SELECT root FROM tile WHERE number >= ?1 AND number < ?2 ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let roots = statement.query_map([int(range.start)?, int(range.end)?], |row| row.get(0).map(Hash32))?;
    let roots = roots.collect::<rusqlite::Result<Vec<_>>>()?;
    if roots.len() == length(range) { Ok(roots) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
}

/// The path from leaf `index` to the root of the tree of the first `size` leaves.
pub(super) fn path(connection: &Connection, index: u64, size: u64) -> rusqlite::Result<Vec<Hash32>> {
    tree::inclusion_path(index, size, |range| {
        if range.start / TILE == range.end.saturating_sub(1) / TILE && range.end - range.start < TILE {
            return Ok(tree::root_of(&hashes(connection, range)?));
        }
        let tiles = tiles(connection, &(range.start / TILE..range.end / TILE))?;
        let rest = range.end / TILE * TILE..range.end;
        let rest = if rest.is_empty() { Vec::new() } else { hashes(connection, rest)? };
        Ok(tree::root_of_tiles(&tiles, &rest))
    })
}

/// Leaves as one row.
pub(super) fn bundle(leaves: &[Vec<u8>]) -> rusqlite::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(leaves.iter().map(|leaf| leaf.len() + 2).sum());
    for leaf in leaves {
        let length = u16::try_from(leaf.len());
        let length =
            length.map_err(|_| rusqlite::Error::ToSqlConversionFailure("a leaf beyond 64 KiB".into()))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(leaf);
    }
    Ok(out)
}

/// The leaves of a bundle; `None` if it is none.
pub(super) fn unbundle(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut leaves = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (leaf, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        leaves.push(leaf.to_vec());
        bytes = rest;
    }
    Some(leaves)
}

/// Turns the leaves of every tile that lies wholly below `size` into bundles. A leaf of more than 64 KiB, which only the gate of
/// a very large network would make, keeps its tile's rows.
pub(super) fn bundle_up_to(connection: &Connection, size: u64) -> rusqlite::Result<()> {
    let sql = "SELECT min(position) FROM leaf";
    let first: Option<u64> = connection
        .query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?
        .and_then(|at| u64::try_from(at).ok());
    let Some(first) = first else { return Ok(()) };
    for number in first.div_ceil(TILE)..size / TILE {
        let range = number * TILE..(number + 1) * TILE;
        let leaves = rows(connection, &range)?;
        if leaves.len() < length(&range) {
            continue;
        }
        let Ok(bytes) = bundle(&leaves) else { continue };
        let sql = "INSERT INTO bundle (number, leaves) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute((int(number)?, bytes))?;
        let sql = "DELETE FROM leaf WHERE position >= ?1 AND position < ?2";
        connection.prepare_cached(sql)?.execute([int(range.start)?, int(range.end)?])?;
    }
    Ok(())
}

/// How many leaves the tree has after the block at `height`, by its header.
pub(super) fn size_after(connection: &Connection, height: u64) -> rusqlite::Result<u64> {
    if height == 0 {
        return Ok(0);
    }
    let sql = "SELECT header FROM block WHERE height = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([int(height)?], |row| {
        super::database::decoded(row, 0, <ledger::Header as ledger::codec::Decode>::from_bytes)
            .map(|header| header.tree_size)
    })
}
