//! A node that was away for long does not follow whoever comes first: it waits for a checkpoint that people vouch for.
//!
//! Certificates prove who decided a block, but not that nobody else of a past term decided another one since; a node that was
//! there would know. The file `checkpoint` in the data folder names a block that two of the operator, the auditor and this home's
//! own member vouch for (`commonwatt ledger checkpoint`). Until it is there the node meters on and fills its journal.

use std::path::{Path, PathBuf};

use energy::Timestamp;
use ledger::codec::{Decode, Encode};
use ledger::{
    AWAY_EPOCHS, BlockId, CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError, Genesis, PublicKey,
    SignedCheckpoint,
};

/// The file in the data folder.
const FILE: &str = "checkpoint";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AwayError {
    /// It cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Not a checkpoint.
    #[error("{} is no checkpoint, or a damaged one; ask for the file again", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
    },
    /// Nobody, or too few, vouch for it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is as old as what is known without it.
    #[error(
        "the checkpoint is of {time}: more than {AWAY_EPOCHS} days old, so it says too little; ask for one of these days, made \
         with `commonwatt ledger checkpoint make`"
    )]
    Old {
        /// Market time of its block.
        time: Timestamp,
    },
    /// The stored chain is another one.
    #[error(
        "block {height} here is {found}, the checkpoint names {expected}: this node's chain is another history. Move ledger.db \
         away, and the node fetches the one that people vouch for; its journal stays"
    )]
    OtherHistory {
        /// Height of the checkpoint.
        height: u64,
        /// The block stored there.
        found: BlockId,
        /// The block vouched for.
        expected: BlockId,
    },
}

/// How long a node may be away without a checkpoint, ms of market time.
#[must_use]
pub fn away_ms(genesis: &Genesis) -> u64 {
    genesis.epoch_ms().saturating_mul(AWAY_EPOCHS)
}

/// Reads a checkpoint file: hexadecimal digits in one line.
///
/// # Errors
/// [`AwayError`].
pub fn read(path: &Path) -> Result<SignedCheckpoint, AwayError> {
    use std::io::Read;
    let fault = |source| AwayError::File { path: path.to_owned(), doing: "read", source };
    let mut text = String::new();
    let most = (2 * CHECKPOINT_BYTES_MAX + 2) as u64;
    std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text)).map_err(fault)?;
    let form = || AwayError::Form { path: path.to_owned() };
    let bytes = hex::decode(text.trim()).map_err(|_| form())?;
    SignedCheckpoint::from_bytes(&bytes).map_err(|_| form())
}

/// A checkpoint as it stands in a file.
#[must_use]
pub fn text(checkpoint: &SignedCheckpoint) -> String {
    format!("{}\n", hex::encode(checkpoint.to_bytes()))
}

/// What a node knows of checkpoints.
#[derive(Debug, Clone)]
pub struct Away {
    path: PathBuf,
    genesis: Genesis,
    own: PublicKey,
    /// True until a checkpoint is there, where one is needed.
    is_waiting: bool,
    checkpoint: Option<Checkpoint>,
    /// What was last said of a file that cannot be used.
    said: String,
}

impl Away {
    /// Looks at the file in the data folder of a node whose last block is of `head_time`; `own` is its member's key. A file that
    /// cannot be used is as good as none, and named in the log.
    #[must_use]
    pub fn open(data_dir: &Path, genesis: &Genesis, own: PublicKey, head: Head) -> Self {
        let genesis = genesis.clone();
        let mut away = Self {
            path: data_dir.join(FILE),
            genesis,
            own,
            is_waiting: head.is_away,
            checkpoint: None,
            said: String::new(),
        };
        if away.path.exists() {
            away.look(head.now);
        }
        away
    }

    /// Looks for the file. True if the node may go on.
    pub fn look(&mut self, now: Timestamp) -> bool {
        if !self.path.exists() {
            return !self.is_waiting;
        }
        match self.load(now) {
            Ok(checkpoint) => {
                self.checkpoint = Some(checkpoint);
                self.is_waiting = false;
            }
            // An old one is of no use to a node that was away, and of no harm to another.
            Err(AwayError::Old { .. }) if !self.is_waiting => {}
            Err(error) => {
                let said = error.to_string();
                if said != self.said {
                    tracing::warn!(error = said, "the checkpoint is not used");
                    self.said = said;
                }
            }
        }
        !self.is_waiting
    }

    fn load(&self, now: Timestamp) -> Result<Checkpoint, AwayError> {
        let checkpoint = read(&self.path)?.verify(&self.genesis, &self.own)?;
        if now.ms_since(checkpoint.time) > away_ms(&self.genesis) {
            return Err(AwayError::Old { time: checkpoint.time });
        }
        Ok(checkpoint)
    }

    /// Why the node does not follow, where it does not.
    #[must_use]
    pub fn waits(&self) -> Option<String> {
        self.is_waiting.then(|| {
            format!(
                "this node was away for more than {AWAY_EPOCHS} days and follows only a chain that people vouch for: ask the \
                 operator for a checkpoint, have operator and auditor sign it, and hand it over with `commonwatt ledger checkpoint \
                 use`; the meter is read on, and its readings wait in the journal"
            )
        })
    }

    /// The checkpoint in use.
    #[must_use]
    pub const fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Why a block of this height cannot be right, if it cannot.
    #[must_use]
    pub fn contradicts(&self, height: u64, found: BlockId) -> Option<AwayError> {
        let checkpoint = self.checkpoint.as_ref().filter(|checkpoint| checkpoint.height == height)?;
        let expected = checkpoint.block;
        (expected != found).then_some(AwayError::OtherHistory { height, found, expected })
    }
}

/// Where a node is when it starts.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Whether it was away for too long.
    pub is_away: bool,
    /// Market time.
    pub now: Timestamp,
}

impl Head {
    /// Of a node whose last block has this height and time.
    #[must_use]
    pub fn new(genesis: &Genesis, height: u64, time: Timestamp, now: Timestamp) -> Self {
        Self { is_away: height > 0 && now.ms_since(time) > away_ms(genesis), now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{MEMBER, ROLE, Street, genesis, key};

    struct Long {
        folder: tempfile::TempDir,
        now: Timestamp,
        checkpoint: Checkpoint,
    }

    impl Long {
        fn new() -> Self {
            let mut street = Street::new();
            street.run(2);
            let now = street.ledger.head_time().plus_ms(away_ms(&genesis()) + 1);
            Self { folder: tempfile::tempdir().unwrap(), now, checkpoint: Checkpoint::of(&street.ledger) }
        }

        fn open(&self, head_time: Timestamp) -> Away {
            let own = PublicKey::of(&key(MEMBER, 1));
            Away::open(self.folder.path(), &genesis(), own, Head::new(&genesis(), 7, head_time, self.now))
        }

        fn hand_over(&self, signed: &SignedCheckpoint) {
            std::fs::write(self.folder.path().join(FILE), text(signed)).unwrap();
        }

        /// Of the day before, signed by operator and auditor.
        fn recent(&self) -> SignedCheckpoint {
            let time = Timestamp::from_unix_ms(self.now.unix_ms() - 86_400_000);
            let unsigned = SignedCheckpoint::unsigned(Checkpoint { time, height: 90, ..self.checkpoint });
            unsigned.sign(&key(ROLE, 1)).sign(&key(ROLE, 3))
        }
    }

    #[test]
    fn a_node_that_was_away_for_long_waits_until_people_vouch_for_a_recent_block() {
        let long = Long::new();
        let mut away = long.open(long.checkpoint.time);
        assert!(away.waits().unwrap().contains("checkpoint use"));
        assert!(!away.look(long.now), "there is no file");
        long.hand_over(&SignedCheckpoint::unsigned(long.checkpoint).sign(&key(ROLE, 1)));
        assert!(!away.look(long.now), "one signature");
        let old = SignedCheckpoint::unsigned(long.checkpoint).sign(&key(ROLE, 1)).sign(&key(ROLE, 3));
        long.hand_over(&old);
        assert!(!away.look(long.now), "as old as what is stored");
        std::fs::write(long.folder.path().join(FILE), "zz").unwrap();
        assert!(!away.look(long.now));
        long.hand_over(&long.recent());
        assert!(away.look(long.now) && away.waits().is_none());
        assert_eq!(away.checkpoint().map(|checkpoint| checkpoint.height), Some(90));
        assert!(long.open(long.checkpoint.time).waits().is_none(), "it holds at the next start, too");
    }

    #[test]
    fn a_node_that_was_there_lately_or_never_needs_none() {
        let long = Long::new();
        let lately = Timestamp::from_unix_ms(long.now.unix_ms() - away_ms(&genesis()));
        assert!(long.open(lately).waits().is_none());
        assert!(
            !Head::new(&genesis(), 0, genesis().start, long.now).is_away,
            "an empty store has its genesis"
        );
    }

    #[test]
    fn another_block_at_the_height_of_the_checkpoint_is_named() {
        let long = Long::new();
        long.hand_over(&long.recent());
        let away = long.open(long.checkpoint.time);
        assert!(away.contradicts(90, long.checkpoint.block).is_none());
        assert!(away.contradicts(89, BlockId::default()).is_none());
        let said = away.contradicts(90, BlockId::default()).unwrap().to_string();
        assert!(said.contains("another history") && said.contains("Move ledger.db away"), "{said}");
    }
}
