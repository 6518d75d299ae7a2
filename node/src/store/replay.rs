//! Blocks as they are stored, and how a stored block is examined before anything is built on it or anybody gets it.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;

use ledger::codec::{Decode, Encode};
use ledger::{
    Block, Certificate, Chain, DelegateSet, Executed, Followed, Hash32, Header, Ledger, SignatureError,
    SignedEntry, UnverifiedBlock,
};
use rusqlite::{Connection, OptionalExtension};

use super::database::int;
use super::error::Damage;

/// One row of the table `block`, as it is.
#[derive(Debug)]
pub(super) struct StoredBlock {
    pub height: u64,
    pub id: Vec<u8>,
    pub time_ms: i64,
    pub round: i64,
    pub entry_count: i64,
    pub header: Vec<u8>,
    /// The whole block; empty where it is no longer stored.
    pub entries: Vec<u8>,
    /// Empty where it is no longer stored.
    pub certificate: Vec<u8>,
    pub decided_wall_ms: i64,
    pub finality_ms: i64,
    pub checksum: Vec<u8>,
}

impl StoredBlock {
    /// The row of a block that was just decided.
    pub fn new(block: &Block, certificate: &Certificate, decided_wall_ms: u64, finality_ms: u64) -> Self {
        let mut row = Self {
            height: block.header.height,
            id: block.id().0.0.to_vec(),
            time_ms: int(block.header.time.unix_ms()).unwrap_or(i64::MAX),
            round: certificate.round.into(),
            entry_count: int(block.entries.len()).unwrap_or(i64::MAX),
            header: block.header.to_bytes(),
            entries: block.to_bytes(),
            certificate: certificate.to_bytes(),
            decided_wall_ms: int(decided_wall_ms).unwrap_or(i64::MAX),
            finality_ms: int(finality_ms).unwrap_or(i64::MAX),
            checksum: Vec::new(),
        };
        row.checksum = row.computed_checksum().0.to_vec();
        row
    }

    /// The row of a block of which no more is held than why it is final.
    pub fn of_header(header: &Header, certificate: &Certificate) -> Self {
        let mut row = Self {
            height: header.height,
            id: header.id().0.0.to_vec(),
            time_ms: int(header.time.unix_ms()).unwrap_or(i64::MAX),
            round: certificate.round.into(),
            entry_count: 0,
            header: header.to_bytes(),
            entries: Vec::new(),
            certificate: certificate.to_bytes(),
            decided_wall_ms: 0,
            finality_ms: 0,
            checksum: Vec::new(),
        };
        row.checksum = row.computed_checksum().0.to_vec();
        row
    }

    /// The row of a block of which one home's part is held, beside the row.
    pub fn of_followed(followed: &Followed, decided_wall_ms: u64) -> Self {
        let mut row = Self::of_header(&followed.header, &followed.certificate);
        row.entry_count = followed.entry_count.into();
        row.decided_wall_ms = int(decided_wall_ms).unwrap_or(i64::MAX);
        row.checksum = row.computed_checksum().0.to_vec();
        row
    }

    /// Lets go of the body; it is to be stored again.
    pub fn drop_body(&mut self) {
        self.entries = Vec::new();
        self.checksum = self.computed_checksum().0.to_vec();
    }

    /// Lets go of the certificate; it is to be stored again.
    pub fn drop_certificate(&mut self) {
        self.certificate = Vec::new();
        self.checksum = self.computed_checksum().0.to_vec();
    }

    pub fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO block VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let values = (
            int(self.height)?,
            &self.id,
            self.time_ms,
            self.round,
            self.entry_count,
            &self.header,
            &self.entries,
            &self.certificate,
            self.decided_wall_ms,
            self.finality_ms,
            &self.checksum,
        );
        connection.prepare_cached(sql)?.execute(values).map(drop)
    }

    /// The stored block at `height`.
    ///
    /// # Errors
    /// [`Damage`] if it is not there or the database cannot be read there.
    pub fn read(connection: &Connection, height: u64) -> Result<Self, Damage> {
        let query = || {
            let sql = "SELECT id, time_ms, round, entry_count, header, entries, certificate, decided_wall_ms,
                       finality_ms, checksum FROM block WHERE height = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row([int(height)?], |row| Self::from_row(height, row)).optional()
        };
        match query() {
            Ok(Some(row)) => Ok(row),
            Ok(None) => Err(Damage::of_block(height, "height", "there is no such block")),
            Err(error) => Err(Damage::of_block(height, "row", format!("cannot be read: {error}"))),
        }
    }

    fn from_row(height: u64, row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            height,
            id: row.get(0)?,
            time_ms: row.get(1)?,
            round: row.get(2)?,
            entry_count: row.get(3)?,
            header: row.get(4)?,
            entries: row.get(5)?,
            certificate: row.get(6)?,
            decided_wall_ms: row.get(7)?,
            finality_ms: row.get(8)?,
            checksum: row.get(9)?,
        })
    }

    /// Makes the checksum fit again, as a forger would.
    #[cfg(test)]
    pub fn mend(&mut self) {
        self.checksum = self.computed_checksum().0.to_vec();
    }

    fn computed_checksum(&self) -> Hash32 {
        let (decided, finality) = (self.decided_wall_ms.to_be_bytes(), self.finality_ms.to_be_bytes());
        Hash32::of(&[&self.header, &self.entries, &self.certificate, &decided, &finality])
    }

    /// The block and its certificate, when the checksum holds and every column agrees with them. `delegates`, where
    /// known, helps to name the column that is damaged.
    ///
    /// # Errors
    /// [`Damage`]: which column.
    pub fn examine(
        &self,
        chain: &Chain,
        delegates: Option<&DelegateSet>,
    ) -> Result<(UnverifiedBlock, Certificate), Damage> {
        if self.checksum != self.computed_checksum().0 {
            let (part, what) = self.changed_column(chain, delegates);
            return Err(Damage::of_block(self.height, part, format!("checksum differs; {what}")));
        }
        let damage = |part: &str, what: String| Damage::of_block(self.height, part, what);
        let block = self.body()?;
        let certificate = Certificate::from_bytes(&self.certificate)
            .map_err(|error| damage("certificate", error.to_string()))?;
        let header = &block.header;
        let id = header.id();
        // The checksum does not cover what can be compared with what it covers.
        let agree = [
            ("header", self.header == header.to_bytes()),
            ("id", self.id == id.0.0),
            ("height", self.height == header.height),
            ("time_ms", u64::try_from(self.time_ms) == Ok(header.time.unix_ms())),
            ("round", u32::try_from(self.round) == Ok(certificate.round)),
            ("entry_count", usize::try_from(self.entry_count) == Ok(block.entries.len())),
            ("certificate", (certificate.height, certificate.block) == (header.height, id)),
        ];
        match agree.into_iter().find(|(_, agrees)| !agrees) {
            Some((part, _)) => Err(damage(part, "differs from the block itself".to_owned())),
            None => Ok((block, certificate)),
        }
    }

    fn body(&self) -> Result<UnverifiedBlock, Damage> {
        let damage = |what: String| Damage::of_block(self.height, "entries", what);
        if self.entries.is_empty() {
            return Err(damage("they are no longer stored".to_owned()));
        }
        UnverifiedBlock::from_bytes(&self.entries).map_err(|error| damage(error.to_string()))
    }

    /// The block, when the checksum holds and it is the one of the header. Its certificate may be gone.
    ///
    /// # Errors
    /// [`Damage`]: which column.
    pub fn examine_body(&self) -> Result<UnverifiedBlock, Damage> {
        let (header, _) = self.examine_header()?;
        let block = self.body()?;
        if block.header == header {
            return Ok(block);
        }
        Err(Damage::of_block(self.height, "entries", "its header is not the block's"))
    }

    /// Header and certificate of a block, whose body and certificate may be gone, when the checksum holds and every column that
    /// is left agrees.
    ///
    /// # Errors
    /// [`Damage`]: which column.
    pub fn examine_header(&self) -> Result<(Header, Option<Certificate>), Damage> {
        let damage = |part: &str, what: String| Damage::of_block(self.height, part, what);
        let header = Header::from_bytes(&self.header).map_err(|error| damage("header", error.to_string()))?;
        let id = header.id();
        if self.id != id.0.0 {
            return Err(damage("header", "its hash is not the block's id".to_owned()));
        }
        if self.checksum != self.computed_checksum().0 {
            return Err(damage("checksum", "differs".to_owned()));
        }
        let certificate = match self.certificate.as_slice() {
            [] => None,
            bytes => Some(Certificate::from_bytes(bytes).map_err(|e| damage("certificate", e.to_string()))?),
        };
        let certifies = |certificate: &Certificate| {
            (certificate.height, certificate.block, i64::from(certificate.round))
                == (header.height, id, self.round)
        };
        let agree = [
            ("height", self.height == header.height),
            ("time_ms", u64::try_from(self.time_ms) == Ok(header.time.unix_ms())),
            ("certificate", certificate.as_ref().is_none_or(certifies)),
        ];
        match agree.into_iter().find(|(_, agrees)| !agrees) {
            Some((part, _)) => Err(damage(part, "differs from the block itself".to_owned())),
            None => Ok((header, certificate)),
        }
    }

    /// The checksum does not hold: which column no longer agrees with the others, and how it shows.
    fn changed_column(&self, chain: &Chain, delegates: Option<&DelegateSet>) -> (&'static str, String) {
        let header = match Header::from_bytes(&self.header) {
            Ok(header) if self.id == header.id().0.0 => header,
            Ok(_) => return ("header", "its hash is not the block's id".to_owned()),
            Err(error) => return ("header", error.to_string()),
        };
        match UnverifiedBlock::from_bytes(&self.entries) {
            Err(error) => return ("entries", error.to_string()),
            Ok(block) if block.header != header => {
                return ("entries", "its header is not the block's".to_owned());
            }
            Ok(block) => {
                if block.last_commit.as_ref().map_or(Hash32::ZERO, Certificate::hash) != header.last_commit {
                    return (
                        "entries",
                        "its certificate of the block before is not the one it names".to_owned(),
                    );
                }
                if let Err((position, error)) = block.verify(chain, |_| None) {
                    return ("entries", format!("entry {position}: {error}"));
                }
            }
        }
        match Certificate::from_bytes(&self.certificate) {
            Err(error) => return ("certificate", error.to_string()),
            Ok(certificate) => {
                let named = (certificate.height, certificate.block, i64::from(certificate.round));
                if named != (header.height, header.id(), self.round) {
                    return ("certificate", "it is for another block or round".to_owned());
                }
                let delegates = delegates.filter(|_| !certificate.signatures.is_empty());
                if let Some(Err(error)) = delegates.map(|delegates| certificate.verify(chain, delegates)) {
                    return ("certificate", error.to_string());
                }
            }
        }
        ("decided_wall_ms, finality_ms or checksum", "block and certificate themselves hold".to_owned())
    }
}

/// A thread is not worth its start for fewer entries.
const SHARE_MIN: usize = 32;

/// What a replay checks beyond the checksum and the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Signatures of entries, execution, header.
    Start,
    /// The certificate, too.
    Whole,
}

/// Replays the stored block at the height after `ledger`'s.
///
/// # Errors
/// [`Damage`]: it is not what was stored, or does not follow.
pub(super) fn replay(
    connection: &Connection,
    ledger: &Ledger,
    depth: Depth,
) -> Result<(Executed, StoredBlock), Damage> {
    let height = ledger.height().saturating_add(1);
    let row = StoredBlock::read(connection, height)?;
    let damage = |part: &str, what: String| Damage::of_block(height, part, what);
    let (chain, delegates) = (ledger.chain(), ledger.delegates());
    let (block, certificate) = row.examine(chain, Some(delegates))?;
    if block.recovery.is_some() {
        // What it carries itself is checked by carrying it out.
        if certificate != Certificate::of_recovery(height, block.header.id()) {
            return Err(damage("certificate", "a recovery has none but an empty one".to_owned()));
        }
    } else if depth == Depth::Whole {
        certificate.verify(chain, delegates).map_err(|error| damage("certificate", error.to_string()))?;
    }
    let block = verified(block, chain)
        .map_err(|(position, error)| damage("entries", format!("entry {position}: {error}")))?;
    let executed = ledger.execute(&block).map_err(|error| damage("execution", error.to_string()))?;
    Ok((executed, row))
}

/// The block with every entry's signatures checked, on as many threads as there are cores: nearly all of the time of a replay
/// goes there, and until a start has replayed what came after the newest snapshot the node does not vote.
fn verified(block: UnverifiedBlock, chain: &Chain) -> Result<Block, (usize, SignatureError)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = block.entries.len().div_ceil(threads).max(SHARE_MIN);
    let check = |part: &[SignedEntry]| -> Vec<_> {
        part.iter().map(|entry| entry.clone().verify(chain).ok()).collect()
    };
    let checked: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            block.entries.chunks(share).map(|part| scope.spawn(move || check(part))).collect();
        let ended =
            |thread: ScopedJoinHandle<'_, Vec<_>>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        threads.into_iter().flat_map(ended).collect()
    });
    // Asked for each entry in turn; one that is missing here is checked once more, and named.
    let checked = RefCell::new(checked.into_iter());
    block.verify(chain, |_| checked.borrow_mut().next().flatten())
}
