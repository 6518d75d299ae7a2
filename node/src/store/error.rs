//! What can be wrong with what is stored.

use std::fmt;
use std::path::{Path, PathBuf};

use ledger::{GenesisError, Hash32, SignatureError};

/// Something stored is not what it was when it was written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which block, snapshot or table, e.g. `block 17`.
    pub place: String,
    /// Which part of it, e.g. the column `entries`.
    pub part: String,
    /// What is wrong with it.
    pub what: String,
}

impl Damage {
    pub(super) fn new(place: impl Into<String>, part: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), part: part.into(), what: what.into() }
    }

    pub(super) fn of_block(height: u64, part: &str, what: impl Into<String>) -> Self {
        Self::new(format!("block {height}"), part, what)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.part, self.what)
    }
}

/// Why something could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The database refused.
    #[error("cannot {doing} in {}", path.display())]
    Database {
        /// Which database.
        path: PathBuf,
        /// What was tried.
        doing: String,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// A setting that durability depends on did not take.
    #[error("{} does not accept {pragma} = {wanted}; it says {found}. Keep it on a local disk", path.display())]
    Pragma {
        /// Which database.
        path: PathBuf,
        /// The setting.
        pragma: &'static str,
        /// What it must be.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// A database, but none of these.
    #[error("{} is a database of something else; choose another data directory", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// Written by another version of the program.
    #[error("{} has schema {found}, this program knows {known}; {}", path.display(), after_other_schema(*found, *known))]
    OtherSchema {
        /// Which database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Its blocks were made by rules that this program does not have, so it can neither check nor carry on the chain.
    #[error(
        "{} holds blocks made by rules {found}, this program has rules {known} only, and a chain keeps its rules; use the \
         version of the program that wrote it, or found the community anew with `commonwatt init --found`",
        path.display()
    )]
    OtherRules {
        /// Which database.
        path: PathBuf,
        /// The rules of its last block.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// Its tables are of an older schema and cannot be made anew.
    #[error(
        "{} has schema {found}, and its first blocks are no longer stored, so the tables that this version needs cannot be \
         made from them; move it away, and the node fetches the blocks again",
        path.display()
    )]
    NoFirstBlocks {
        /// Which database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
    },
    /// Other homes' rows of that time are gone.
    #[error(
        "{} no longer holds all of that time: other homes' readings and results are kept for some weeks only; begin at {from}, \
         or ask a node that is set to keep them for longer",
        path.display()
    )]
    NoLongerStored {
        /// Which database.
        path: PathBuf,
        /// From when on all is there.
        from: energy::Timestamp,
    },
    /// Of another community, or of an earlier start of this one.
    #[error("{} belongs to chain {found}, the genesis is of chain {expected}; use its own data directory", path.display())]
    OtherChain {
        /// Which database.
        path: PathBuf,
        /// Its chain.
        found: Hash32,
        /// That of the genesis.
        expected: Hash32,
    },
    /// Of another home.
    #[error("{} belongs to home {found}, not to {expected}; each home has its own data directory", path.display())]
    OtherHome {
        /// Which database.
        path: PathBuf,
        /// Its home.
        found: String,
        /// The home configured.
        expected: String,
    },
    /// What is stored is not what was written.
    #[error("{} is damaged: {damage}; move it away and the node fetches the blocks again", path.display())]
    Damaged {
        /// Which database.
        path: PathBuf,
        /// What and where.
        damage: Damage,
    },
    /// Blocks are stored one after another.
    #[error("block {given} cannot follow block {last}")]
    NotNext {
        /// The last stored.
        last: u64,
        /// The one handed in.
        given: u64,
    },
    /// The data directory is in use.
    #[error("another process uses {}; stop it first", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The consensus log grew beyond its limit.
    #[error("{} would exceed {max} bytes; no block was decided for too long", path.display())]
    LogFull {
        /// Which file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// An entry that does not use what the journal assigned to it.
    #[error("the journal takes no entry whose {what}")]
    NotAsAssigned {
        /// What differs.
        what: &'static str,
    },
    /// An entry with a wrong signature: it would be refused everywhere.
    #[error("the journal takes no entry that others will refuse")]
    Signature(#[from] SignatureError),
    /// The genesis is not valid.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A table could not be written as CSV or JSON.
    #[error("cannot write {}", path.display())]
    Export {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What to do about a database of another schema.
const fn after_other_schema(found: i64, known: i64) -> &'static str {
    if found < known {
        "start its node once with `commonwatt run`, which makes the tables anew from the blocks"
    } else {
        "a later version of the program wrote it, so use that one"
    }
}

impl StoreError {
    /// For `map_err`: the file system refused `doing`.
    pub(super) fn file(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), doing, source }
    }

    /// For `map_err`: the database refused `doing`.
    pub(super) fn database(path: &Path, doing: impl Into<String>) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { path: path.to_owned(), doing: doing.into(), source }
    }

    /// For `map_err`: what is stored is damaged.
    pub(super) fn damaged(path: &Path) -> impl FnOnce(Damage) -> Self {
        move |damage| Self::Damaged { path: path.to_owned(), damage }
    }
}
