//! What of a block is still stored: its body whole, or this home's own and public parts of it, or its header and leaves alone.

use ledger::codec::Decode;
use ledger::{SignedEntry, UnverifiedBlock};
use rusqlite::{Connection, OptionalExtension};

use super::database::{decoded, int, unsigned};

/// Key of the row of `meta` that says up to which height bodies are gone.
const GONE: &str = "bodies_gone";
/// Key of the row of `meta` that says after which height this node took part: that of the snapshot it began with.
const JOINED: &str = "joined";
/// Key of the row of `meta` that says up to which height certificates are gone, but for changes of the delegates.
const CERTIFICATES_GONE: &str = "certificates_gone";

/// What is no longer stored, or never was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    /// Up to this height, bodies but this home's own and public ones; 0: all are there.
    pub bodies: u64,
    /// Up to this height, certificates but those of changes of the delegates.
    pub certificates: u64,
    /// Before this height, whole blocks: the node began with the state after it. 0: with the genesis.
    pub joined: u64,
}

impl Gone {
    /// What the database says.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let height = |key: &str| -> rusqlite::Result<u64> {
            let sql = "SELECT value FROM meta WHERE key = ?1";
            Ok(connection.query_row(sql, [key], |row| unsigned(row, 0)).optional()?.unwrap_or(0))
        };
        Ok(Self { bodies: height(GONE)?, certificates: height(CERTIFICATES_GONE)?, joined: height(JOINED)? })
    }

    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
        let rows = [(GONE, self.bodies), (CERTIFICATES_GONE, self.certificates), (JOINED, self.joined)];
        rows.iter().try_for_each(|(key, height)| {
            connection.prepare_cached(sql)?.execute((key, int(*height)?)).map(drop)
        })
    }
}

/// The entries of the block at `height` that are still stored, in their order.
pub(super) fn entries_at(connection: &Connection, height: u64) -> rusqlite::Result<Vec<SignedEntry>> {
    let sql = "SELECT entries FROM block WHERE height = ?1 AND length(entries) > 0";
    let mut statement = connection.prepare_cached(sql)?;
    let whole =
        statement.query_row([int(height)?], |row| decoded(row, 0, UnverifiedBlock::from_bytes)).optional()?;
    if let Some(block) = whole {
        return Ok(block.entries);
    }
    let sql = "SELECT bytes FROM body WHERE height = ?1 AND outcome = 0 ORDER BY leaf";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map([int(height)?], |row| decoded(row, 0, SignedEntry::from_bytes))?.collect()
}
