//! What a node that begins with an empty store takes from another: the state after some block, and everything it takes to
//! believe it with the genesis alone.

use std::path::Path;

use energy::HomeId;
use ledger::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};
use ledger::tree::{Frontier, TILE, leaf_hash};
use ledger::{
    CHANGES_MAX, Certificate, Checkpoint, Genesis, Hash32, Header, HomeView, Ledger, LightClient, LightError,
    SetChange, SnapshotError, ViewError,
};
use market::Account;
use rusqlite::{Connection, TransactionBehavior};

use super::bodies::Gone;
use super::database::int;
use super::followed::{forget_view, write_view};
use super::ledger_db::{LedgerDb, insert_change, insert_snapshot, open_read_only, set_changes, snapshots};
use super::projection::account_name;
use super::replay::StoredBlock;
use super::{StoreError, leaves};

/// The longest package, in bytes.
pub const PACKAGE_BYTES_MAX: usize = 64 << 20;
/// The most tiles: 2²⁷ leaves, what 118 homes make in sixteen years.
const TILES_MAX: usize = 1 << 19;
/// The longest snapshot, in bytes.
const SNAPSHOT_BYTES_MAX: usize = 48 << 20;
/// The longest bundle: 255 leaves of 64 KiB.
const BUNDLE_BYTES_MAX: usize = 16 << 20;

/// The state after a block, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Every change of the delegates before the block.
    pub changes: Vec<SetChange>,
    /// The block's header.
    pub header: Header,
    /// Why it is final.
    pub certificate: Certificate,
    /// The ledger after it, or what one home may know of it.
    pub snapshot: Vec<u8>,
    /// True where it is what one home may know.
    pub is_view: bool,
    /// Roots of the whole tiles of its tree.
    pub tiles: Vec<Hash32>,
    /// The leaves after them, as a bundle.
    pub leaves: Vec<u8>,
}

/// What a package holds of the state.
#[derive(Debug, Clone)]
pub enum Held {
    /// All of it.
    Whole(Box<Ledger>),
    /// What the home may know that does not hold all bodies.
    View(Box<HomeView>),
}

impl Held {
    /// What can be asked of it.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        match self {
            Self::Whole(ledger) => ledger,
            Self::View(view) => view.ledger(),
        }
    }
}

/// Why a package is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Not the bytes of one.
    #[error("it is damaged: {0}")]
    Codec(#[from] CodecError),
    /// Its block is not certified by delegates who follow from the genesis.
    #[error(transparent)]
    Light(#[from] LightError),
    /// Its snapshot cannot be taken up.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What it holds for the home cannot be taken up.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Its snapshot is not what the block left.
    #[error("its snapshot is not the state that block {height} commits to")]
    OtherState {
        /// The block.
        height: u64,
    },
    /// Its leaves are not those of the tree.
    #[error("its leaves do not give the tree of block {height}")]
    OtherTree {
        /// The block.
        height: u64,
    },
    /// It is of another history than the checkpoint.
    #[error("it is of another history than the checkpoint at height {height}")]
    OtherHistory {
        /// Height of the checkpoint.
        height: u64,
    },
}

impl Package {
    /// The newest one that the ledger database at `path` can give; `None` where it has no snapshot yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn newest(path: &Path, genesis: &Genesis) -> Result<Option<Self>, StoreError> {
        let connection = open_read_only(path, &genesis.chain())?;
        let fault = |source| StoreError::database(path, "read the newest snapshot")(source);
        let connection = connection.unchecked_transaction().map_err(fault)?;
        let newest = snapshots(&connection).map_err(fault)?.last().map(|(height, _)| *height);
        let Some(height) = newest else { return Ok(None) };
        let row = StoredBlock::read(&connection, height).map_err(StoreError::damaged(path))?;
        let (header, certificate) = row.examine_header().map_err(StoreError::damaged(path))?;
        let Some(certificate) = certificate else { return Ok(None) };
        let snapshot = super::ledger_db::snapshot_bytes(&connection, height).map_err(fault)?;
        Self::of(&connection, (header, certificate), snapshot, false).map(Some).map_err(fault)
    }

    /// One for a home that does not hold all bodies, with what it may know of the state after a stored block.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn for_home(path: &Path, genesis: &Genesis, view: &HomeView) -> Result<Option<Self>, StoreError> {
        let height = view.ledger().height();
        if height == 0 {
            return Ok(None);
        }
        let connection = open_read_only(path, &genesis.chain())?;
        let fault = |source| StoreError::database(path, "read what a home begins with")(source);
        let connection = connection.unchecked_transaction().map_err(fault)?;
        let row = StoredBlock::read(&connection, height).map_err(StoreError::damaged(path))?;
        let (header, certificate) = row.examine_header().map_err(StoreError::damaged(path))?;
        let Some(certificate) = certificate else { return Ok(None) };
        Self::of(&connection, (header, certificate), view.to_bytes(&[]), true).map(Some).map_err(fault)
    }

    fn of(
        connection: &Connection,
        (header, certificate): (Header, Certificate),
        snapshot: Vec<u8>,
        is_view: bool,
    ) -> rusqlite::Result<Self> {
        let (height, size) = (header.height, header.tree_size);
        let rest = size / TILE * TILE..size;
        let leaves = if rest.is_empty() { Vec::new() } else { leaves::bytes(connection, rest)? };
        Ok(Self {
            changes: set_changes(connection, 0, height)?,
            snapshot,
            is_view,
            tiles: leaves::tiles(connection, &(0..size / TILE))?,
            leaves: leaves::bundle(&leaves)?,
            header,
            certificate,
        })
    }

    /// What it holds for `home`, when everything follows from the genesis, and from the checkpoint where there is one.
    ///
    /// # Errors
    /// [`PackageError`].
    pub fn check(
        &self,
        genesis: &Genesis,
        checkpoint: Option<&Checkpoint>,
        home: &HomeId,
    ) -> Result<Held, PackageError> {
        let mut client = LightClient::new(genesis).map_err(LightError::from)?;
        for change in &self.changes {
            if let Some(checkpoint) = checkpoint.filter(|it| it.height < change.header.height) {
                agrees(client.delegates().hash() == checkpoint.delegates, checkpoint, client.height())?;
            }
            // A recovery is believed for a checkpoint only that was made after it and whose word is looked at below.
            let vouched = |it: &Checkpoint| (change.header.height..=self.header.height).contains(&it.height);
            if change.is_recovery() && checkpoint.is_some_and(vouched) {
                client.follow_recovery(change)?;
            } else {
                client.follow(change)?;
            }
        }
        let trusted = client.trust(self.header.clone(), &self.certificate)?;
        let height = self.header.height;
        if let Some(checkpoint) = checkpoint.filter(|it| it.height < height) {
            agrees(client.delegates().hash() == checkpoint.delegates, checkpoint, client.height())?;
        }
        if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.height == height) {
            agrees(trusted.id() == checkpoint.block, checkpoint, 0)?;
        }
        let held = if self.is_view {
            Held::View(Box::new(HomeView::from_bytes(genesis, home, &self.snapshot, None)?))
        } else {
            Held::Whole(Box::new(Ledger::restore(genesis, &self.snapshot)?))
        };
        let ledger = held.ledger();
        if !trusted.is_of(ledger) {
            return Err(PackageError::OtherState { height });
        }
        let mut tree = Frontier::of_tiles(&self.tiles);
        let rest = leaves::unbundle(&self.leaves).ok_or(PackageError::OtherTree { height })?;
        rest.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
        let whole = rest.len() < usize::try_from(TILE).unwrap_or(usize::MAX);
        if !whole || (tree.size(), tree.root()) != (ledger.tree_size(), ledger.tree_root()) {
            return Err(PackageError::OtherTree { height });
        }
        Ok(held)
    }
}

/// The set that a checkpoint names must be the one that was followed until then; of changes after it nothing is known yet.
fn agrees(holds: bool, checkpoint: &Checkpoint, followed: u64) -> Result<(), PackageError> {
    if holds || followed > checkpoint.height {
        return Ok(());
    }
    Err(PackageError::OtherHistory { height: checkpoint.height })
}

impl Encode for Package {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_list(&self.changes, out);
        self.header.encode(out);
        self.certificate.encode(out);
        for bytes in [&self.snapshot, &self.leaves] {
            u32::try_from(bytes.len()).unwrap_or(u32::MAX).encode(out);
            out.extend_from_slice(bytes);
        }
        encode_list(&self.tiles, out);
        self.is_view.encode(out);
    }
}

impl Decode for Package {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let bytes = |reader: &mut Reader<'_>, what, max| -> Result<Vec<u8>, CodecError> {
            let length = reader.count(what, max)?;
            Ok(reader.take(length, what)?.to_vec())
        };
        Ok(Self {
            changes: decode_list(reader, "set changes", CHANGES_MAX)?,
            header: Decode::decode(reader)?,
            certificate: Decode::decode(reader)?,
            snapshot: bytes(reader, "snapshot", SNAPSHOT_BYTES_MAX)?,
            leaves: bytes(reader, "leaves", BUNDLE_BYTES_MAX)?,
            tiles: decode_list(reader, "tiles", TILES_MAX)?,
            is_view: Decode::decode(reader)?,
        })
    }
}

impl LedgerDb {
    /// Begins an empty database with a package that was checked, and what it holds.
    ///
    /// # Errors
    /// [`StoreError::NotNext`] if there are blocks already, [`StoreError::Database`].
    pub fn begin_with(&mut self, package: &Package, held: &Held) -> Result<(), StoreError> {
        let height = package.header.height;
        if self.last_height() != 0 {
            return Err(StoreError::NotNext { last: self.last_height(), given: height });
        }
        let path = self.path.clone();
        let fault = |source| StoreError::database(&path, "begin with a snapshot")(source);
        let gone = Gone { bodies: height, certificates: height, joined: height };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(fault)?;
        let home = self.home.clone();
        write(&transaction, package, held, home.as_ref()).map_err(fault)?;
        gone.write(&transaction).map_err(fault)?;
        transaction.commit().map_err(fault)?;
        self.follows = matches!(held, Held::View(_));
        self.begin_at(&package.header, gone);
        Ok(())
    }
}

fn write(
    connection: &Connection,
    package: &Package,
    held: &Held,
    home: Option<&HomeId>,
) -> rusqlite::Result<()> {
    let Package { header, certificate, .. } = package;
    let ledger = held.ledger();
    StoredBlock::of_header(header, certificate).insert(connection)?;
    package.changes.iter().try_for_each(|change| insert_change(connection, change))?;
    if header.delegates != header.next_delegates {
        let delegates = ledger.delegates().clone();
        let change = SetChange { header: header.clone(), certificate: certificate.clone(), delegates };
        insert_change(connection, &change)?;
    }
    for (number, root) in (0..).zip(&package.tiles) {
        leaves::insert_tile(connection, number, root)?;
    }
    write_rest(connection, package)?;
    match held {
        Held::Whole(ledger) => {
            forget_view(connection)?;
            insert_snapshot(connection, ledger)?;
            write_accounts(connection, ledger, |_| true)
        }
        Held::View(view) => {
            write_view(connection, view)?;
            write_accounts(connection, ledger, |of| Some(of) == home)
        }
    }
}

/// Writes the leaves after the last whole tile.
pub(super) fn write_rest(connection: &Connection, package: &Package) -> rusqlite::Result<()> {
    let first = package.header.tree_size / TILE * TILE;
    let sql = "INSERT INTO leaf (position, height, bytes) VALUES (?1, ?2, ?3)";
    let mut insert = connection.prepare_cached(sql)?;
    for (position, leaf) in (first..).zip(leaves::unbundle(&package.leaves).unwrap_or_default()) {
        insert.execute((int(position)?, int(package.header.height)?, leaf))?;
    }
    Ok(())
}

/// What stands on the accounts of homes that are `wanted`, and where all are on those of the community; the postings that put it
/// there were never here.
pub(super) fn write_accounts(
    connection: &Connection,
    ledger: &Ledger,
    wanted: impl Fn(&HomeId) -> bool,
) -> rusqlite::Result<()> {
    let homes = ledger.members().into_iter().map(|(home, _)| home).filter(|home| wanted(home));
    let homes = homes.map(|home| Account::Home(home.clone()));
    let common = [Account::Supplier, Account::Network, Account::Congestion, Account::Deposits];
    let common = common.into_iter().filter(|_| !ledger.is_view());
    let sql = "INSERT INTO account (name, opening_n, balance_n, gone_n) VALUES (?1, 0, ?2, ?2)
               ON CONFLICT (name) DO UPDATE
               SET balance_n = excluded.balance_n, gone_n = excluded.balance_n - opening_n";
    let mut insert = connection.prepare_cached(sql)?;
    homes.chain(common).try_for_each(|account| {
        insert.execute((account_name(&account), ledger.balance(&account).get())).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Durability;
    use super::super::export::export;
    use super::super::fixture::{Street, first_interval, genesis, home, store};
    use super::super::proof::{Reader as Asking, Wanted, prove};
    use super::super::verify::{From, verify};
    use super::*;

    /// What one node has stored.
    struct Giving {
        _folder: tempfile::TempDir,
        path: PathBuf,
        street: Street,
        blocks: Vec<(ledger::Executed, Certificate)>,
    }

    impl Giving {
        fn new(intervals: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ledger.db");
            let mut street = Street::new();
            let blocks = street.run(intervals);
            let mut db = LedgerDb::open(&path, Durability::Normal, &genesis(), &home(1)).unwrap();
            store(&mut db, &blocks);
            Self { _folder: folder, path, street, blocks }
        }

        fn package(&self) -> Package {
            Package::newest(&self.path, &self.street.genesis).unwrap().unwrap()
        }
    }

    #[test]
    fn a_node_begins_with_the_state_of_another_and_goes_on_as_if_it_had_always_been_there() {
        // More leaves than a tile has, before the snapshot.
        let mut giving = Giving::new(24);
        let package = Package::from_bytes(&giving.package().to_bytes()).unwrap();
        let genesis = giving.street.genesis.clone();
        let held = package.check(&genesis, None, &home(2)).unwrap();
        let ledger = held.ledger();
        let height = ledger.height();
        assert!(height > 1 && height < giving.street.ledger.height());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut db = LedgerDb::open(&path, Durability::Full, &genesis, &home(2)).unwrap();
        db.begin_with(&package, &held).unwrap();
        assert!(matches!(db.begin_with(&package, &held), Err(StoreError::NotNext { .. })));
        verify(&path, &genesis, |_, _| {}).unwrap();
        let later = usize::try_from(height).unwrap();
        store(&mut db, &giving.blocks[later..]);
        drop(db);
        let mut db = LedgerDb::open(&path, Durability::Full, &genesis, &home(2)).unwrap();
        assert_eq!((db.gone().joined, db.gone().bodies), (height, height));
        assert_eq!(db.load(&genesis).unwrap().snapshot(), giving.street.ledger.snapshot());
        assert_eq!(db.blocks_from(height, usize::MAX).unwrap(), []);
        let report = verify(&path, &genesis, |_, _| {}).unwrap();
        let whole = verify(&giving.path, &genesis, |_, _| {}).unwrap();
        assert_eq!((report.from, report.hashed.joined), (From::Snapshot(height), height));
        assert_eq!((report.root, report.tree_root), (whole.root, whole.tree_root));
        // What came later is proven as everywhere else, and hands on what it takes to begin.
        let size = giving.street.ledger.tree_size();
        for leaf in ledger.tree_size()..size {
            let proof = prove(&path, &genesis, Wanted::Leaf(leaf), Asking::Holder).unwrap();
            assert_eq!(proof.check(&genesis).unwrap().position, leaf);
        }
        assert!(prove(&path, &genesis, Wanted::Leaf(0), Asking::Holder).is_err());
        let next = Package::newest(&path, &genesis).unwrap().unwrap();
        assert!(next.check(&genesis, None, &home(2)).is_ok());
        let out = folder.path().join("out");
        assert!(matches!(
            export(&path, &genesis, &out, first_interval(), 4),
            Ok(summary) if summary.settlements == 0
        ));
        let last = giving.street.ledger.head_time();
        store(&mut db, &[giving.street.block(last.plus_ms(1), &[])]);
    }

    #[test]
    fn a_package_changed_anywhere_is_not_taken() {
        let giving = Giving::new(8);
        let genesis = &giving.street.genesis;
        let bytes = giving.package().to_bytes();
        assert!(Package::from_bytes(&bytes).unwrap().check(genesis, None, &home(2)).is_ok());
        for at in (0..bytes.len()).step_by(bytes.len() / 300) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            let taken = Package::from_bytes(&changed).map_err(PackageError::from);
            assert!(taken.and_then(|package| package.check(genesis, None, &home(2))).is_err(), "byte {at}");
        }
        let mut other = genesis.clone();
        other.name = "another street".to_owned();
        assert!(matches!(giving.package().check(&other, None, &home(2)), Err(PackageError::Light(_))));
        let longer = [&bytes[..], &[0]].concat();
        assert!(Package::from_bytes(&longer).is_err());
    }

    #[test]
    fn a_package_of_another_history_than_the_checkpoint_is_not_taken() {
        let giving = Giving::new(8);
        let genesis = &giving.street.genesis;
        let package = giving.package();
        let height = package.header.height;
        let at = |position: u64| {
            let executed = &giving.blocks[usize::try_from(position).unwrap() - 1].0;
            Checkpoint::of(&executed.ledger)
        };
        for holds in [at(height - 1), at(height), at(height + 1)] {
            assert!(package.check(genesis, Some(&holds), &home(2)).is_ok(), "{holds:?}");
        }
        let other_block = Checkpoint { block: ledger::BlockId(Hash32([7; 32])), ..at(height) };
        let other_set = Checkpoint { delegates: Hash32([7; 32]), ..at(height - 1) };
        for other in [other_block, other_set] {
            let refused = package.check(genesis, Some(&other), &home(2)).unwrap_err();
            assert!(matches!(refused, PackageError::OtherHistory { .. }), "{refused}");
        }
    }
}
