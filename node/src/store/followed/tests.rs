use std::path::PathBuf;

use ledger::{Certificate, Executed, FollowError};

use super::super::Durability;
use super::super::fixture::{Street, genesis, home, store};
use super::super::joined::{Held, Package};
use super::super::proof::{ProofError, Reader, Wanted, prove};
use super::super::verify::{From, verify};
use super::*;

/// What a node stores that holds all bodies, and the folder of one that follows it.
struct Two {
    folder: tempfile::TempDir,
    street: Street,
    blocks: Vec<(Executed, Certificate)>,
    /// The home that follows.
    home: HomeId,
}

impl Two {
    fn new(intervals: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut street = Street::new();
        let blocks = street.run(intervals);
        let two = Self { folder, street, blocks, home: home(2) };
        let mut db = LedgerDb::open(&two.whole(), Durability::Normal, &genesis(), &home(1)).unwrap();
        store(&mut db, &two.blocks);
        two
    }

    fn whole(&self) -> PathBuf {
        self.folder.path().join("whole.db")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("part.db")
    }

    fn height(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// The view after a height.
    fn view(&self, height: u64) -> HomeView {
        let ledger = match usize::try_from(height).unwrap().checked_sub(1) {
            Some(at) => self.blocks[at].0.ledger.clone(),
            None => Ledger::genesis(&self.street.genesis).unwrap(),
        };
        HomeView::of(&ledger, &self.home)
    }

    fn blocks(&self, from: u64, until: u64) -> Vec<FollowedBlock> {
        let range = (from, until);
        blocks_for_home(&self.whole(), &self.street.genesis, range, &self.home, usize::MAX).unwrap().unwrap()
    }

    /// The store of the home that follows, empty.
    fn begin(&self) -> LedgerDb {
        let mut db = self.open();
        db.cease_to_hold(&self.view(0)).unwrap();
        db
    }

    fn open(&self) -> LedgerDb {
        LedgerDb::open(&self.part(), Durability::Normal, &self.street.genesis, &self.home).unwrap()
    }

    /// Follows to a height, with one view at its end.
    fn follow(&self, db: &mut LedgerDb, until: u64) {
        let mut trail = db.trail(&self.street.genesis, &self.home).unwrap();
        let known = self.view(trail.height());
        let blocks = self.blocks(trail.height() + 1, until).into_iter();
        let followed: Vec<_> = blocks
            .map(|block| {
                let before = self.view(block.header.height - 1);
                trail.follow(block, before.ledger(), std::iter::empty()).unwrap()
            })
            .collect();
        db.follow(&followed, Some(&self.view(until)), known.ledger(), 1).unwrap();
        assert_eq!((trail.height(), db.last_height()), (until, until));
    }
}

fn rows(connection: &Connection, sql: &str) -> Vec<Vec<rusqlite::types::Value>> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_a_home_followed_is_what_who_holds_all_has_of_it_and_is_verified_and_proven() {
    // More leaves than a tile has.
    let two = Two::new(24);
    let mut db = two.begin();
    for until in [1, 2, 20, two.height()] {
        two.follow(&mut db, until);
        // As after a kill.
        drop(db);
        db = two.open();
        assert!(db.is_following());
    }
    let whole = Connection::open(two.whole()).unwrap();
    for sql in [
        "SELECT * FROM settlement WHERE home = 'h2'",
        "SELECT * FROM reading WHERE home = 'h2'",
        "SELECT * FROM posting WHERE account = 'home:h2'",
        "SELECT balance_n FROM account WHERE name = 'home:h2'",
        "SELECT height, position, kind FROM entry WHERE home = 'h2'",
        "SELECT start_ms, import_price, export_price, homes FROM interval",
        "SELECT height, id, header, certificate FROM block",
        "SELECT * FROM tile",
    ] {
        let (found, expected) = (rows(&db.connection, sql), rows(&whole, sql));
        assert_eq!(found, expected, "{sql}");
        assert!(!found.is_empty(), "{sql}");
    }
    let genesis = &two.street.genesis;
    let report = verify(&two.part(), genesis, |_, _| {}).unwrap();
    assert_eq!((report.from, report.height), (From::Leaves, two.height()));
    assert_eq!(
        (report.root, report.tree_root),
        (two.street.ledger.state_root(), two.street.ledger.tree_root())
    );
    assert_eq!(report.hashed.leaves, two.street.ledger.tree_size());
    let known = db.load(genesis).unwrap();
    assert!(known.is_view() && known.height() == two.height());
    let (mut proven, mut others) = (0, 0);
    for leaf in 0..two.street.ledger.tree_size() {
        match prove(&two.part(), genesis, Wanted::Leaf(leaf), Reader::Holder) {
            Ok(proof) => proven += u32::from(proof.check(genesis).unwrap().position == leaf),
            Err(ProofError::Gone { .. } | ProofError::Unknown) => others += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(proven >= 32 && others > proven, "{proven} proven, {others} of others");
}

#[test]
fn a_row_of_another_home_or_a_false_one_of_the_own_is_found() {
    for (spoil, says) in [
        (
            "INSERT INTO reading SELECT interval_ms, 'h3', 0, 0, 'good', 'synced', 's', 0, 1, '', height FROM reading",
            "another home",
        ),
        ("UPDATE posting SET amount_n = amount_n + 1 WHERE account = 'home:h2' AND height > 0", "add up"),
        (
            "UPDATE account SET balance_n = balance_n + 1, gone_n = gone_n + 1 WHERE name = 'home:h2'",
            "view of the state",
        ),
        ("UPDATE body SET bytes = zeroblob(40) WHERE leaf = (SELECT min(leaf) FROM body)", "body"),
        ("UPDATE meta SET value = zeroblob(40) WHERE key = 'view'", "view"),
    ] {
        let two = Two::new(4);
        let mut db = two.begin();
        two.follow(&mut db, two.height());
        db.connection.execute_batch(spoil).unwrap();
        let found = verify(&two.part(), &two.street.genesis, |_, _| {}).unwrap_err().to_string();
        assert!(found.contains(says), "{spoil}: {found}");
    }
}

#[test]
fn movements_that_do_not_lead_to_the_balance_are_refused_and_nothing_is_stored() {
    let two = Two::new(4);
    let mut db = two.begin();
    let mut trail = db.trail(&two.street.genesis, &two.home).unwrap();
    let follow = |block: FollowedBlock| {
        let known = two.view(block.header.height - 1);
        trail.follow(block, known.ledger(), std::iter::empty()).unwrap()
    };
    let followed: Vec<_> = two.blocks(1, two.height()).into_iter().map(follow).collect();
    // A view that knows of none of the movements.
    let refused = db.follow(&followed, Some(&two.view(1)), two.view(0).ledger(), 1);
    assert!(matches!(refused, Err(FollowedError::Balance { .. })), "{refused:?}");
    assert_eq!((db.last_height(), rows(&db.connection, "SELECT * FROM block").len()), (0, 0));
    two.follow(&mut db, two.height());
}

#[test]
fn a_home_that_comes_to_hold_all_bodies_goes_on_from_a_state_as_if_it_always_had() {
    let two = Two::new(16);
    let genesis = two.street.genesis.clone();
    let mut db = two.begin();
    two.follow(&mut db, two.height());
    let package = Package::newest(&two.whole(), &genesis).unwrap().unwrap();
    let Held::Whole(ledger) = package.check(&genesis, None, &two.home).unwrap() else { panic!() };
    let height = ledger.height();
    assert!(height > 1 && height < two.height());
    assert!(db.hold_from(&package, &ledger).unwrap());
    drop(db);
    let mut db = two.open();
    assert_eq!((db.is_following(), db.last_height(), db.gone().bodies), (false, height, height));
    assert_eq!(db.load(&genesis).unwrap().snapshot(), ledger.snapshot());
    store(&mut db, &two.blocks[usize::try_from(height).unwrap()..]);
    assert_eq!(db.load(&genesis).unwrap().snapshot(), two.street.ledger.snapshot());
    let report = verify(&two.part(), &genesis, |_, _| {}).unwrap();
    assert_eq!((report.from, report.height), (From::Snapshot(height), two.height()));
    // And hands on to others what it holds whole.
    let given = blocks_for_home(&two.part(), &genesis, (height + 1, two.height()), &home(3), usize::MAX);
    assert_eq!(given.unwrap().unwrap().len() as u64, two.height() - height);
    assert!(blocks_for_home(&two.part(), &genesis, (height, height), &home(3), 1).unwrap().is_none());
}

#[test]
fn a_state_of_a_block_that_is_not_here_is_not_taken_up() {
    let two = Two::new(16);
    let genesis = two.street.genesis.clone();
    let mut db = two.begin();
    two.follow(&mut db, 2);
    let package = Package::newest(&two.whole(), &genesis).unwrap().unwrap();
    let Held::Whole(ledger) = package.check(&genesis, None, &two.home).unwrap() else { panic!() };
    assert!(!db.hold_from(&package, &ledger).unwrap());
    assert!(db.is_following());
    two.follow(&mut db, two.height());
}

#[test]
fn a_home_that_ceases_to_hold_all_bodies_keeps_its_own_part_whenever_it_is_stopped() {
    let mut two = Two::new(16);
    let genesis = two.street.genesis.clone();
    two.home = home(1);
    let own = "SELECT * FROM settlement WHERE home = 'h1'";
    let before = rows(&Connection::open(two.whole()).unwrap(), own);
    let path = two.whole();
    let mut db = LedgerDb::open(&path, Durability::Normal, &genesis, &two.home).unwrap();
    db.cease_to_hold(&two.view(two.height())).unwrap();
    // Stopped before anything of the blocks is gone.
    drop(db);
    let mut db = LedgerDb::open(&path, Durability::Normal, &genesis, &two.home).unwrap();
    assert!(db.is_following() && db.load(&genesis).unwrap().is_view());
    while db.gone().bodies < db.last_height() {
        assert!(db.prune().unwrap());
    }
    assert_eq!(rows(&db.connection, own), before);
    assert_eq!(rows(&db.connection, "SELECT 1 FROM block WHERE length(entries) > 0").len(), 0);
    let report = verify(&path, &genesis, |_, _| {}).unwrap();
    assert_eq!((report.from, report.height), (From::Leaves, two.height()));
    let trail = db.trail(&genesis, &two.home).unwrap();
    assert_eq!((trail.height(), trail.head()), (two.height(), two.street.ledger.head()));
}

#[test]
fn a_home_begins_with_what_it_may_know_of_a_recent_state() {
    let two = Two::new(16);
    let genesis = two.street.genesis.clone();
    let middle = two.height() - 10;
    let package = Package::for_home(&two.whole(), &genesis, &two.view(middle)).unwrap().unwrap();
    let package = Package::from_bytes(&package.to_bytes()).unwrap();
    assert!(package.check(&genesis, None, &home(3)).is_err(), "it is of another home");
    let held = package.check(&genesis, None, &two.home).unwrap();
    assert!(matches!(held, Held::View(_)));
    let mut db = two.open();
    db.begin_with(&package, &held).unwrap();
    two.follow(&mut db, two.height());
    drop(db);
    let report = verify(&two.part(), &genesis, |_, _| {}).unwrap();
    assert_eq!((report.from, report.hashed.joined), (From::Leaves, middle));
    let account = "SELECT balance_n FROM account WHERE name = 'home:h2'";
    let whole = Connection::open(two.whole()).unwrap();
    assert_eq!(rows(&two.open().connection, account), rows(&whole, account));
}

#[test]
fn a_block_of_another_chain_of_blocks_is_not_followed() {
    let two = Two::new(2);
    let mut trail = two.begin().trail(&two.street.genesis, &two.home).unwrap();
    let second = two.blocks(2, 2).remove(0);
    let refused = trail.follow(second, two.view(0).ledger(), std::iter::empty()).unwrap_err();
    assert!(matches!(refused, FollowError::DoesNotFollow { .. }));
}
