//! A chain on which not every member holds all bodies: two of six homes follow, read, order, settle and prove like the others,
//! hold nothing of them, are killed, and are elected.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use energy::Interval;
use ledger::{Certificate, Forward, Replicas, codec::Decode as _};

use super::street::{FAST, Street, verify};
use super::{alone, attested, come_back_a_day_later, lose_two_cards};

/// An epoch has so many intervals, of a second each.
const EPOCH: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

fn street() -> Street {
    Street::with_genesis("following", (6, 4), FAST, |genesis| {
        genesis.replicas = Replicas::Delegates { holders: Vec::new() };
        genesis.forward = Forward::Posted;
        // Two seconds of wall time: readings are rarely late.
        genesis.due_after_ms = 2 * 3_600_000;
        if let Some(clock) = &mut genesis.clock {
            clock.epoch_every = EPOCH;
        }
    })
}

#[test]
fn homes_that_do_not_hold_all_bodies_live_like_the_others_and_hold_nothing_of_them() {
    let _alone = alone();
    let mut street = street();
    street.wait_until_settled(1, PATIENCE);
    order(&street, (0, "sell"), 5);
    let order = order(&street, (5, "buy"), 5);
    for (position, home) in [(4, "h5"), (5, "h6")] {
        let settles = |street: &Street| street.settled_with_reading(position, home) >= 2;
        street.wait_until(PATIENCE, "a follower settles with its readings", settles);
        assert_holds_its_own_only(&street, position, home);
        let account = format!("SELECT balance_n FROM account WHERE name = 'home:{home}'");
        let shows = |street: &Street| {
            let stored = i64::try_from(street.count(position, &account)).unwrap();
            street.shown_balance(position) == Some(stored)
        };
        street.wait_until(PATIENCE, "a follower shows what stands on its account", shows);
    }
    street.kill(4);
    let others = street.height(0);
    let goes_on = |street: &Street| street.height(0) > others + 3;
    street.wait_until(PATIENCE, "the delegates go on", goes_on);
    street.restart(4, &[]);
    let catches_up = |street: &Street| street.height(4) > others + 3;
    street.wait_until(PATIENCE, "the follower that was killed catches up", catches_up);
    let is_cleared = format!("SELECT count(*) FROM order_end WHERE id = x'{order}'");
    let cleared = |street: &Street| street.count(5, &is_cleared) == 1;
    street.wait_until(PATIENCE, "the follower's order came to its gate", cleared);
    prove_a_settlement(&street, 5, "h6");
    are_elected(&street);
    street.stop_all();

    street.assert_same_chain();
    street.assert_nobody_contradicted_themselves();
    for (position, home) in [(4, "h5"), (5, "h6")] {
        assert_same_account(&street, position, home);
    }
    for position in 0..6 {
        let output = verify(street.folder(position));
        assert!(output.status.success(), "h{}: {}", position + 1, text(&output.stderr));
    }
}

/// Two delegates lose their cards: of six members the two that are left and the two followers attest, and all go on.
#[test]
fn homes_that_do_not_hold_all_bodies_attest_a_recovery_and_follow_it() {
    let _alone = alone();
    let mut street = street();
    let settles = |street: &Street, from: u64| street.settled_with_reading(5, "h6") > from;
    street.wait_until(PATIENCE, "a follower settles", |street| settles(street, 1));
    let height = lose_two_cards(&mut street);
    come_back_a_day_later(&mut street, height);
    let collect = attested(&street, &[2, 3, 4, 5]);
    street.say(3, &collect.iter().map(String::as_str).collect::<Vec<_>>());
    let refused = street.command(5, &["ledger", "recover", "publish", "all.block"]);
    assert!(text(&refused.stderr).contains("does not hold all bodies"), "{}", text(&refused.stderr));
    street.say(3, &["ledger", "recover", "publish", "all.block"]);
    let goes_on = |street: &Street| (0..6).all(|position| street.height(position) > height + 8);
    street.wait_until(Duration::from_secs(90), "the chain goes on", goes_on);
    let head = street.say(5, &["ledger", "head", "--output", "json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&head).unwrap()["recovery"], 1);
    let settled = street.settled_with_reading(5, "h6");
    street.wait_until(PATIENCE, "a follower settles again", |street| settles(street, settled));
    assert_holds_its_own_only(&street, 5, "h6");
    street.stop_all();

    street.assert_same_chain();
    street.assert_nobody_contradicted_themselves();
    for (position, home) in [(4, "h5"), (5, "h6")] {
        assert_same_account(&street, position, home);
    }
}

/// Everybody approves the followers, and two delegates stand no more: with the election at the end of the next epoch the followers
/// hold seats, fetch what they do not have, and decide blocks. The two hold nothing of others an epoch later.
fn are_elected(street: &Street) {
    all_stand(street);
    let vote: &[&str] = &["ledger", "vote", "--approve", "h5", "--approve", "h6", "--approve", "h1"];
    street.say_at_once(&[0, 1, 2, 3, 4, 5].map(|position| (position, vote)));
    let withdraw: &[&str] = &["ledger", "candidate", "--no"];
    street.say_at_once(&[2, 3].map(|position| (position, withdraw)));
    let decide = |street: &Street| ["h5", "h6"].iter().all(|home| has_signed(street, home));
    street.wait_until(Duration::from_secs(120), "the elected followers sign blocks", decide);
    let whole = "SELECT count(*) FROM block WHERE length(entries) > 0";
    let holds = |street: &Street, position: usize| street.count(position, whole) > 0;
    assert!(holds(street, 4) && holds(street, 5), "who decides blocks holds them whole");
    let let_go = |street: &Street| !holds(street, 2) && !holds(street, 3);
    street.wait_until(Duration::from_secs(120), "who holds no seat any more lets go", let_go);
    let height = street.height(0);
    let goes_on = |street: &Street| (0..6).all(|position| street.height(position) > height + 3);
    street.wait_until(PATIENCE, "all go on in their new parts", goes_on);
}

/// Waits until an epoch has begun and all homes stand for the coming term: until it ends, their nodes sign nothing that would have
/// the number of a vote.
fn all_stand(street: &Street) {
    let elections = "SELECT count(*) FROM leaf WHERE substr(outcome, 1, 1) = x'06'";
    let held = street.count(0, elections);
    let begins = |street: &Street| street.count(0, elections) > held;
    street.wait_until(PATIENCE, "an election", begins);
    let in_epoch = "SELECT count(*) FROM entry WHERE kind = 'candidacy' AND height >
                    (SELECT max(height) FROM leaf WHERE substr(outcome, 1, 1) = x'06')";
    let stand = |street: &Street| street.count(0, in_epoch) >= 6;
    street.wait_until(PATIENCE, "all homes stand for the next term", stand);
}

/// True if a home's seat signed one of the last blocks.
fn has_signed(street: &Street, home: &str) -> bool {
    let sql = "SELECT c.bytes, b.certificate FROM set_change c JOIN block b ON b.height > c.height
               WHERE c.height = (SELECT max(height) FROM set_change) AND length(b.certificate) > 0";
    let Some(db) = street.db(0) else { return false };
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)));
    rows.unwrap().map(Result::unwrap).any(|(change, certificate)| {
        let delegates = ledger::SetChange::from_bytes(&change).unwrap().delegates;
        let seat = delegates.as_slice().iter().position(|seat| seat.home.as_str() == home);
        let certificate = Certificate::from_bytes(&certificate).unwrap();
        let signed = |seat: usize| certificate.signatures.iter().any(|(of, _)| usize::from(*of) == seat);
        seat.is_some_and(signed)
    })
}

/// Orders energy for an interval some hours ahead, and waits until a block holds the order: its id.
fn order(street: &Street, (position, side): (usize, &str), ahead: u64) -> String {
    let sql = "SELECT max(time_ms) FROM block";
    let now: i64 = street.db(position).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    let now = energy::Timestamp::from_unix_ms(u64::try_from(now).unwrap());
    let interval = Interval::containing(now.plus_ms(ahead * 3_600_000), energy::Mtu::Min60);
    let price = if side == "sell" { "0.10" } else { "0.24" };
    let start = interval.start().to_string();
    let asked = [
        "market",
        "order",
        "--interval",
        &start,
        "--side",
        side,
        "--quantity",
        "200",
        "--price",
        price,
        "--wait",
        "20",
        "--output",
        "json",
    ];
    let told: serde_json::Value = serde_json::from_str(&street.say(position, &asked)).unwrap();
    told["id"].as_str().unwrap().to_owned()
}

/// A follower's database has no whole block, no row of another home, and no reading of another meter anywhere in its bytes.
fn assert_holds_its_own_only(street: &Street, position: usize, home: &str) {
    assert_eq!(street.count(position, "SELECT count(*) FROM block WHERE length(entries) > 0"), 0);
    for table in ["settlement", "reading", "market_order", "order_end"] {
        let own = format!("SELECT count(*) FROM {table} WHERE home = '{home}'");
        let others = format!("SELECT count(*) FROM {table} WHERE home <> '{home}'");
        assert_eq!(street.count(position, &others), 0, "{table}");
        assert!(table.contains("order") || street.count(position, &own) > 0, "{table}");
    }
    let readings = |of: usize| [&[0, 0, 0, 4], (5001 + of).to_string().as_bytes()].concat();
    let folder = street.folder(position);
    let stored: Vec<u8> = ["ledger.db", "ledger.db-wal"]
        .iter()
        .flat_map(|file| fs::read(folder.join(file)).unwrap_or_default())
        .collect();
    let holds = |of: usize| stored.windows(8).any(|bytes| bytes == readings(of));
    assert!(holds(position));
    assert!((0..6).all(|of| of == position || !holds(of)), "a reading of another home");
}

/// The account of a home stands where a node that holds all bodies says, after the same block.
fn assert_same_account(street: &Street, position: usize, home: &str) {
    let account = format!("home:{home}");
    let (own, other) = (street.db(position).unwrap(), street.db(0).unwrap());
    let height = street.height(position).min(street.height(0));
    let sum = "SELECT opening_n + gone_n + (SELECT coalesce(sum(amount_n), 0) FROM posting
               WHERE account = ?1 AND height > 0 AND height <= ?2) FROM account WHERE name = ?1";
    let at = |db: &rusqlite::Connection| -> i64 {
        db.query_row(sum, (&account, i64::try_from(height).unwrap()), |row| row.get(0)).unwrap()
    };
    let opening: i64 = other
        .query_row("SELECT opening_n FROM account WHERE name = ?1", [&account], |row| row.get(0))
        .unwrap();
    assert!(at(&own) != opening, "{home} paid or received something");
    if street.count(0, "SELECT count(*) FROM block WHERE length(entries) > 0") > 0 {
        assert_eq!(at(&own), at(&other), "{home} at height {height}");
    }
}

/// A follower proves what was settled of it, with what it holds, to whoever has the genesis.
fn prove_a_settlement(street: &Street, position: usize, home: &str) {
    let sql = format!("SELECT min(leaf) FROM settlement WHERE home = '{home}'");
    let leaf = street.count(position, &sql).to_string();
    let proof: Output = street.command(position, &["ledger", "proof", "--leaf", &leaf]);
    assert!(proof.status.success(), "{}", text(&proof.stderr));
    let folder: &Path = street.folder(position);
    let file = folder.join("settlement.proof");
    fs::write(&file, &proof.stdout).unwrap();
    let genesis = folder.join("../genesis.toml");
    let checked = std::process::Command::new(super::program())
        .args(["ledger", "check-proof"])
        .arg(&file)
        .arg("--genesis")
        .arg(genesis)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains(home), "{}", text(&checked.stdout));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
