//! Real processes: delegates killed and restarted, majorities lost and found again, and the demo's day checked by a program
//! that nobody here wrote into the product. One binary; the tests run one after the other, because each of them needs
//! the machine to itself.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot do its work must fail")]

#[path = "process/following.rs"]
mod following;
#[path = "process/street.rs"]
mod street;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use street::{Street, program};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A small generator of our own: the moments at which processes are killed come from a seed that a failure prints.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn a_delegate_killed_at_random_moments_comes_back_without_a_lost_interval_or_a_second_vote() {
    let _alone = alone();
    let seed = 20_161_113;
    let mut random = Seeded(seed);
    let mut street = Street::start("killed", 5, 4);
    street.wait_until_settled(2, Duration::from_secs(60));
    for _ in 0..4 {
        let victim = 1 + usize::try_from(random.below(3)).unwrap();
        sleep(Duration::from_millis(500 + random.below(4_000)));
        street.kill(victim);
        sleep(Duration::from_millis(random.below(3_000)));
        street.restart(victim, &[]);
    }
    // Once more, at the worst moment: the vote is in the log, the block not yet in the database.
    let height = street.height(1);
    street.kill(1);
    street.restart(1, &[("COMMONWATT_ABORT_BEFORE_COMMIT", &(height + 4).to_string())]);
    street.wait_until_dead(1, Duration::from_secs(60));
    street.restart(1, &[]);
    let settled = street.settled(0);
    street.wait_until_settled(settled + 3, Duration::from_secs(90));
    street.wait_until_level(Duration::from_secs(30));
    street.stop_all();

    street.assert_same_chain();
    street.assert_no_interval_missed(0);
    street.assert_nobody_contradicted_themselves();
    street.assert_energy_adds_up(0);
}

#[test]
fn with_two_delegates_down_nothing_settles_and_what_is_in_time_settles_after_they_return() {
    let _alone = alone();
    let mut street = Street::start("two-down", 5, 4);
    street.wait_until_settled(2, Duration::from_secs(60));
    street.kill(2);
    street.kill(3);
    // A block that was already decided may still be stored.
    sleep(Duration::from_secs(2));
    let (height, settled) = (street.height(0), street.settled(0));
    let from = Instant::now();
    while from.elapsed() < Duration::from_secs(25) {
        sleep(Duration::from_millis(500));
        assert_eq!(street.height(0), height, "two of four delegates made a block");
    }
    assert_eq!(street.settled(0), settled);
    street.restart(2, &[]);
    street.restart(3, &[]);
    street.wait_until_settled(settled + 8, Duration::from_secs(120));
    street.wait_until_level(Duration::from_secs(30));
    street.stop_all();

    street.assert_same_chain();
    street.assert_no_interval_missed(0);
    street.assert_nobody_contradicted_themselves();
    // Homes that were up all the time kept their readings in their journals: every one still counted.
    street.assert_never_without_a_reading(0, &["h1", "h2", "h5"]);
    street.assert_energy_adds_up(0);
}

#[test]
fn a_meter_that_is_gone_leaves_a_gap_that_its_next_reading_closes_to_the_watt_hour() {
    let _alone = alone();
    let mut street = Street::start("meter-gone", 4, 4);
    street.wait_until_settled(2, Duration::from_secs(60));
    street.unplug(3, true);
    let settled = street.settled(0);
    street.wait_until_settled(settled + 5, Duration::from_secs(90));
    street.unplug(3, false);
    street.wait_until_settled(settled + 9, Duration::from_secs(90));
    street.stop_all();

    street.assert_same_chain();
    street.assert_no_interval_missed(0);
    street.assert_gap_closed(0, "h4");
    street.assert_energy_adds_up(0);
}

/// Two of the four delegates, the first two homes, lose everything; the height at which the chain stops.
fn lose_two_cards(street: &mut Street) -> u64 {
    street.lose_card(0);
    street.lose_card(1);
    // A block that was already decided may still be stored.
    sleep(Duration::from_secs(2));
    street.height(2)
}

/// The two come back with new cards, and a day of market time passes.
fn come_back_a_day_later(street: &mut Street, height: u64) {
    street.restart(0, &[]);
    street.restart(1, &[]);
    // 24 hours of market time, and a little.
    sleep(Duration::from_secs(26));
    let fetched = |street: &Street| street.height(0) == height && street.height(1) == height;
    street.wait_until(Duration::from_secs(30), "new cards have fetched the chain", fetched);
    assert_eq!(street.height(2), height, "two of four delegates made a block");
}

/// The first four homes offer to hold seats, the third proposes the block, and these members attest it, and two roles: the command
/// that joins what they attested.
fn attested(street: &Street, members: &[usize]) -> Vec<String> {
    let offers: Vec<String> = (0..4).map(|position| format!("h{}.offer", position + 1)).collect();
    for (position, offer) in offers.iter().enumerate() {
        street.say(position, &["ledger", "recover", "offer", "--out", offer]);
    }
    let mut propose = vec!["ledger", "recover", "propose", "--out", "recovery.block"];
    propose.extend(offers.iter().map(String::as_str));
    street.say(2, &propose);
    let mut collect = ["ledger", "recover", "collect", "--out", "all.block"].map(str::to_owned).to_vec();
    for position in members {
        let block = format!("h{}.block", position + 1);
        street.say(*position, &["ledger", "recover", "attest", "recovery.block", "--out", &block]);
        collect.push(block);
    }
    for (key, block) in [("operator.key", "operator.block"), ("auditor.key", "auditor.block")] {
        street.say(2, &["ledger", "recover", "attest", "recovery.block", "--role-key", key, "--out", block]);
        collect.push(block.to_owned());
    }
    collect
}

/// The whole of docs/recovery.md, with the commands of the program.
#[test]
fn two_of_four_delegates_lose_their_cards_and_the_members_recover_the_chain() {
    let _alone = alone();
    let mut street = Street::at_pace("recovery", 5, 4, street::FAST);
    street.wait_until_settled(2, Duration::from_secs(60));
    let height = lose_two_cards(&mut street);
    street.say(2, &["ledger", "recover", "offer", "--out", "early.offer"]);
    let early = street.command(2, &["ledger", "recover", "propose", "early.offer", "--out", "early.block"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("after 24 hours without one"));
    come_back_a_day_later(&mut street, height);
    let collect = attested(&street, &[0, 2, 4]);
    let missing = street.command(2, &["ledger", "recover", "collect", "h1.block", "h3.block"]);
    assert_eq!(missing.status.code(), Some(6), "two of five members and no role are not enough");
    let enough = street.say(3, &collect.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(enough.contains("enough     yes"), "{enough}");
    street.say(4, &["ledger", "recover", "publish", "all.block"]);
    let goes_on = |street: &Street| (0..5).all(|position| street.height(position) > height + 8);
    street.wait_until(Duration::from_secs(90), "the chain goes on", goes_on);
    let head: serde_json::Value =
        serde_json::from_str(&street.say(1, &["ledger", "head", "--output", "json"])).unwrap();
    assert_eq!(head["recovery"], 1);
    let settled = street.settled(2);
    street.wait_until(Duration::from_secs(60), "intervals settle", |street| street.settled(2) > settled);
    let shown = street.say(3, &["ledger", "block", &(height + 1).to_string()]);
    assert!(shown.contains("by the members: recovery 1"), "{shown}");
    street.stop_all();

    street.assert_same_chain();
    street.assert_no_interval_missed(2);
    street.assert_nobody_contradicted_themselves();
    street.assert_money_conserved(2);
}

#[test]
fn a_home_that_comes_later_is_admitted_and_its_energy_is_settled() {
    let _alone = alone();
    let mut street = Street::with_a_newcomer("newcomer", 4, 4);
    street.wait_until_settled(1, Duration::from_secs(60));
    let card = street.make_card(4);
    let admit =
        ["community", "admit", "--card", &card, "--operator-key", "operator.key", "--sign-only", "a.txt"];
    street.say(0, &admit);
    let countersign = |file: &str| ["community", "countersign", file, "--as-member"].map(str::to_owned);
    for (position, copy) in [(0, "h1.txt"), (1, "h2.txt")] {
        let mut arguments = countersign("a.txt").to_vec();
        arguments.extend(["--sign-only".to_owned(), copy.to_owned()]);
        street.say(position, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let too_few = street.command(0, &["community", "countersign", "h1.txt", "--join", "h2.txt"]);
    let told = String::from_utf8_lossy(&too_few.stderr);
    assert!(told.contains("more than half of the seats"), "{told}");
    let done = street.say(2, &["community", "countersign", "h1.txt", "--join", "h2.txt", "--as-member"]);
    assert!(done.contains("final"), "{done}");
    street.restart(4, &[]);
    let trades = |street: &Street| street.settled_with_reading(0, "h5") >= 2;
    street.wait_until(Duration::from_secs(120), "the newcomer's readings are settled", trades);
    street.wait_until_level(Duration::from_secs(30));
    street.stop_all();
    street.assert_same_chain();
    street.assert_nobody_contradicted_themselves();
}

/// Clocks of the home show 17:55 as market time starts, so that its vehicle comes with the second interval, at 18:00, and
/// must be ready at 18:25: 3 kWh in five intervals, of which one carries 1.8 kWh.
const DEVICES: &str = "[device.battery]\ncontrol = \"simulated\"\ncapacity_wh = 10000\ncharge_w = 5000\ndischarge_w = 5000\n\
    [device.charger]\ncontrol = \"simulated\"\npower_w = 22000\ncapacity_wh = 10000\nminimum_percent = 50\n\
    target_percent = 80\nready_by = \"18:25\"\n";

#[test]
fn a_vehicle_is_ready_by_the_clocks_of_its_home_and_every_command_to_it_is_logged() {
    let _alone = alone();
    let mut street = Street::with_devices("devices", 2, 1, ("+09:55", DEVICES));
    let soon = Duration::from_secs(60);
    let come = |it: &api::Household| it.devices.vehicle_needs_wh == Some(3_000);
    let household = street.wait_until_household(0, soon, "the vehicle has come", come);
    assert!(household.trial && !household.trading.on, "nothing is traded for what is only simulated");
    let ready_by = household.devices.vehicle_ready_by.unwrap();
    assert_eq!(ready_by.to_string(), "2016-06-13T08:30:00Z", "18:25 there");
    let in_time = household.plan.iter().filter(|step| step.start < ready_by);
    assert_eq!(in_time.map(|step| step.vehicle_wh).sum::<u64>(), 3_000, "the plan meets the deadline");
    let ready = |it: &api::Household| {
        it.devices.vehicle_needs_wh == Some(0) && it.devices.vehicle_ready_by == Some(ready_by)
    };
    let household = street.wait_until_household(0, soon, "the vehicle is ready before it leaves", ready);
    assert!(household.planned_from < ready_by);
    let settled = street.settled(0);
    street.wait_until_settled(settled.max(2), soon);
    street.stop_all();

    let commands = street.commands(0);
    let told = |word: &str| commands.iter().filter(|(control, _)| control.contains(word)).count();
    assert!(told("vehicle") > 0 && commands.iter().all(|(_, refused)| refused.is_none()), "{commands:?}");
    street.assert_money_conserved(0);
    street.assert_energy_adds_up(0);
}

/// The day of the demo, run once for all tests that look at it.
struct DemoDay {
    folder: PathBuf,
    export: PathBuf,
    output: Output,
}

fn demo_day() -> &'static DemoDay {
    static DAY: OnceLock<DemoDay> = OnceLock::new();
    DAY.get_or_init(|| {
        let folder = street::fresh_folder("demo-day");
        let (data, export) = (folder.join("data"), folder.join("export"));
        let output = Command::new(program())
            .args(["demo", "--once", "--output", "json", "--data-dir"])
            .arg(&data)
            .arg("--export")
            .arg(&export)
            .output()
            .expect("the demo starts");
        DemoDay { folder: data, export, output }
    })
}

fn summary(day: &DemoDay) -> serde_json::Value {
    let errors = String::from_utf8_lossy(&day.output.stderr);
    assert!(day.output.status.success(), "the demo ended with {}:\n{errors}", day.output.status);
    let text = String::from_utf8_lossy(&day.output.stdout);
    let last = text.lines().last().expect("the demo prints a summary");
    serde_json::from_str(last).expect("the summary is JSON")
}

#[test]
fn the_demo_settles_every_interval_of_its_day_on_equal_nodes() {
    let _alone = alone();
    let day = demo_day();
    let summary = summary(day);
    assert_eq!(summary["homes"], 12);
    assert_eq!(summary["intervals"], 96);
    assert_eq!(summary["intervals_settled"], 96);
    assert_eq!(summary["roots_equal"], true);
    assert_eq!(summary["invariants_hold"], true);
    let wh = |name: &str| summary[name].as_i64().unwrap();
    assert!(wh("matched_wh") > 0);
    assert_eq!(wh("metered_import_wh"), wh("matched_wh") + wh("supplier_import_wh"));
    assert_eq!(wh("metered_export_wh"), wh("matched_wh") + wh("supplier_export_wh"));
    assert!(wh("losses_wh") > 0, "the root meter was read in every interval");
    let saved = summary["saved_n"]["homes"].as_object().unwrap();
    assert_eq!(saved.len(), 12);
    assert!(
        saved.values().all(|nano| nano.as_i64().unwrap() >= 0),
        "a home paid more than its supplier alone"
    );
    assert!(summary["saved_n"]["total"].as_i64().unwrap() > 0);
    let agents = &summary["agents"];
    let gains = agents["gains"].as_array().unwrap();
    assert_eq!(agents["homes"].as_u64().unwrap(), gains.len() as u64);
    for kind in ["battery", "car", "heat pump"] {
        let has = |gain: &serde_json::Value| gain["devices"].as_str().unwrap().contains(kind);
        assert!(gains.iter().any(has), "no home with a {kind} has an agent");
    }
    assert!(gains.iter().all(|gain| gain["deadlines_missed"] == 0), "a car left without what it needed");
    assert_eq!((&agents["gates_void"], &agents["breaches"]), (&0.into(), &0.into()));
}

#[test]
fn an_independent_program_recomputes_every_amount_of_the_demo_to_the_nano_unit() {
    let _alone = alone();
    let day = demo_day();
    summary(day);
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/recompute.py");
    let output = Command::new("python3")
        .arg(checker)
        .arg(&day.export)
        .args(["--intervals", "96"])
        .output()
        .expect("python3 is needed: run `cargo xtask test`");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_str(&text).expect("the checker prints JSON");
    assert!(result["checked_amounts"].as_i64().unwrap() > 5_000);
}

#[test]
fn the_bills_of_the_demo_are_what_its_export_says() {
    let _alone = alone();
    let day = demo_day();
    let homes = summary(day)["saved_n"]["homes"].as_object().unwrap().clone();
    let ledger = day.folder.join(homes.keys().next().unwrap()).join("ledger.db");
    let mut files = Vec::new();
    for home in homes.keys() {
        let bill = Command::new(program())
            .args(["bill", "--home", home, "--month", "2016-06", "--format", "csv", "--db"])
            .arg(&ledger)
            .arg("--genesis")
            .arg(day.folder.join("genesis.toml"))
            .output()
            .unwrap();
        assert!(bill.status.success(), "{}", String::from_utf8_lossy(&bill.stderr));
        let file = day.folder.join(format!("bill-{home}.csv"));
        std::fs::write(&file, bill.stdout).unwrap();
        files.push(file);
    }
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/recompute_bill.py");
    let output =
        Command::new("python3").arg(checker).args(&files).arg("--ledger").arg(&day.export).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(result["by_kind"]["ledger"].as_i64().unwrap() > 5_000, "{text}");
}

#[test]
fn the_stored_chain_replays_to_the_same_root_and_a_flipped_byte_is_named() {
    let _alone = alone();
    let day = demo_day();
    summary(day);
    let home = std::fs::read_dir(&day.folder)
        .unwrap()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.join("ledger.db").exists())
        .expect("the demo kept its homes");
    let verify = |expected: i32| {
        let output = street::verify(&home);
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(expected), "{text}");
        text
    };
    let text = verify(0);
    assert!(text.contains("genesis"), "it says where it began: {text}");

    let db = rusqlite::Connection::open(home.join("ledger.db")).unwrap();
    let entries: Vec<u8> =
        db.query_row("SELECT entries FROM block WHERE height = 40", [], |row| row.get(0)).unwrap();
    let mut damaged = entries.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    db.execute("UPDATE block SET entries = ?1 WHERE height = 40", [&damaged]).unwrap();
    let text = verify(4);
    assert!(text.contains("block 40") && text.contains("entries"), "the damage is named: {text}");
    db.execute("UPDATE block SET entries = ?1 WHERE height = 40", [&entries]).unwrap();
    verify(0);
}
