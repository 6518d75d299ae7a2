//! Proofs that something is on the chain, for whoever has the genesis and nothing else.

use std::path::Path;

use energy::HomeId;
use ledger::codec::{Decode, Encode};
use ledger::{Certificate, Content, EntryId, Genesis, Header, Outcome, Proof, SignedEntry};
use rusqlite::{Connection, OptionalExtension};

use super::database::{int, unsigned};
use super::ledger_db::{last_block, open_read_only, set_changes};
use super::replay::StoredBlock;
use super::{StoreError, bodies, leaves};

/// What is to be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An entry.
    Entry(EntryId),
    /// The leaf at a position: an entry, or what the state machine said.
    Leaf(u64),
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No block holds it.
    #[error("no final block here holds it; look at its id, or wait until it is final")]
    Unknown,
    /// Its body is no longer stored.
    #[error(
        "leaf {leaf} is in the tree, but what it stands for is no longer stored here: other homes' bodies are kept for some \
         weeks only; ask the home that it is about"
    )]
    Gone {
        /// Position of the leaf.
        leaf: u64,
    },
    /// It is about another home.
    #[error("it is about another home and not public; only that home can prove it")]
    NotOwn,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader<'a> {
    /// Who holds the database, and so everything in it.
    Holder,
    /// A home: what is about it, and what is public.
    Home(&'a HomeId),
}

/// The proof of something, from the ledger database at `path`; may be read beside a running node.
///
/// # Errors
/// [`ProofError`].
pub fn prove(
    path: &Path,
    genesis: &Genesis,
    wanted: Wanted,
    reader: Reader<'_>,
) -> Result<Proof, ProofError> {
    let connection = open_read_only(path, &genesis.chain())?;
    let fault = |source| StoreError::database(path, "read the blocks")(source);
    // One view for all questions.
    let connection = connection.unchecked_transaction().map_err(fault)?;
    let place = place_of(&connection, wanted).map_err(fault)?.ok_or(ProofError::Unknown)?;
    let content = content_of(&connection, place).map_err(fault)?;
    let content = content.ok_or(ProofError::Gone { leaf: place.leaf })?;
    if !may_read(&content, reader) {
        return Err(ProofError::NotOwn);
    }
    let (header, certificate) = head(&connection, path)?.ok_or(ProofError::Unknown)?;
    let changes = set_changes(&connection, 0, header.height).map_err(fault)?;
    let tree_path = leaves::path(&connection, place.leaf, header.tree_size).map_err(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => ProofError::Gone { leaf: place.leaf },
        error => fault(error).into(),
    })?;
    Ok(Proof { changes, header, certificate, position: place.leaf, path: tree_path, content })
}

/// Where something stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    leaf: u64,
    height: u64,
    /// Its position in the block, for an entry.
    entry: Option<u64>,
}

fn place_of(connection: &Connection, wanted: Wanted) -> rusqlite::Result<Option<Place>> {
    match wanted {
        Wanted::Entry(id) => {
            let indexed = "SELECT height, position FROM entry WHERE id = ?1 AND kind <> 'reading'";
            let readings = "SELECT height, position FROM entry WHERE kind = 'reading' AND id = ?1";
            let find = |sql: &str| {
                let row = |row: &rusqlite::Row<'_>| Ok((unsigned(row, 0)?, unsigned(row, 1)?));
                connection.query_row(sql, [id.0.0], row).optional()
            };
            let Some((height, position)) =
                find(indexed)?.map_or_else(|| find(readings), |it| Ok(Some(it)))?
            else {
                return Ok(None);
            };
            let first = leaves::size_after(connection, height.saturating_sub(1))?;
            Ok(Some(Place { leaf: first + position, height, entry: Some(position) }))
        }
        Wanted::Leaf(leaf) => {
            let sql = "SELECT height, outcome FROM body WHERE leaf = ?1 UNION ALL
                       SELECT height, outcome IS NOT NULL FROM leaf WHERE position = ?1 LIMIT 1";
            let row = |row: &rusqlite::Row<'_>| Ok((unsigned(row, 0)?, row.get::<_, bool>(1)?));
            let found = connection.query_row(sql, [int(leaf)?], row).optional()?;
            let Some((height, is_outcome)) = found else { return Ok(None) };
            let first = leaves::size_after(connection, height.saturating_sub(1))?;
            let entry = (!is_outcome).then(|| leaf.saturating_sub(first));
            Ok(Some(Place { leaf, height, entry }))
        }
    }
}

fn content_of(connection: &Connection, place: Place) -> rusqlite::Result<Option<Content>> {
    let sql = "SELECT outcome, bytes FROM body WHERE leaf = ?1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, Vec<u8>>(1)?));
    if let Some((is_outcome, bytes)) = connection.query_row(sql, [int(place.leaf)?], row).optional()? {
        return Ok(Some(if is_outcome { Content::Outcome(bytes) } else { Content::Entry(bytes) }));
    }
    let sql = "SELECT outcome FROM leaf WHERE position = ?1";
    let said: Option<Option<Vec<u8>>> =
        connection.query_row(sql, [int(place.leaf)?], |row| row.get(0)).optional()?;
    if let Some(outcome) = said.flatten() {
        return Ok(Some(Content::Outcome(outcome)));
    }
    let sql = "SELECT length(entries) > 0 FROM block WHERE height = ?1";
    let whole: bool = connection.query_row(sql, [int(place.height)?], |row| row.get(0))?;
    let Some(position) = place.entry.filter(|_| whole) else { return Ok(None) };
    let entries = bodies::entries_at(connection, place.height)?;
    let entry = usize::try_from(position).ok().and_then(|position| entries.into_iter().nth(position));
    Ok(entry.map(|entry| Content::Entry(entry.to_bytes())))
}

fn may_read(content: &Content, reader: Reader<'_>) -> bool {
    let Reader::Home(home) = reader else { return true };
    match content {
        Content::Entry(bytes) => SignedEntry::from_bytes(bytes).is_ok_and(|entry| {
            let body = &entry.unchecked().body;
            !body.is_sealed() || body.home() == Some(home)
        }),
        Content::Outcome(bytes) => Outcome::from_bytes(bytes)
            .is_ok_and(|outcome| !outcome.is_sealed() || outcome.home() == Some(home)),
    }
}

/// The last block and why it is final.
fn head(connection: &Connection, path: &Path) -> Result<Option<(Header, Certificate)>, StoreError> {
    let last = last_block(connection).map_err(StoreError::database(path, "read the last block"))?;
    let Some((height, _)) = last else { return Ok(None) };
    let row = StoredBlock::read(connection, height).map_err(StoreError::damaged(path))?;
    let (header, certificate) = row.examine_header().map_err(StoreError::damaged(path))?;
    Ok(certificate.map(|certificate| (header, certificate)))
}
