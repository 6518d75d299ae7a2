//! The program as people call it: its exit codes, what goes to stdout and what to stderr, and founding a community.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// How a call ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Asserts the exit code, shows everything if it is another.
    #[track_caller]
    fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stderr says all of `parts`.
    #[track_caller]
    fn saying(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in\n{}", self.stderr);
        }
        self
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

fn commonwatt(folder: &Path, line: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonwatt"));
    command.current_dir(folder).env_remove("COMMONWATT_LOG").env_remove("COMMONWATT_CONFIG");
    let output = command.args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

const NETWORK: &str = r#"{
  "nodes": [
    {"id": "grid", "parent": null, "fee_up": 0, "fee_down": 0, "up_wh": null, "down_wh": null},
    {"id": "f1", "parent": "grid", "fee_up": 0, "fee_down": 40000, "up_wh": null, "down_wh": 50000}
  ],
  "homes": [{"id": "h001", "node": "f1"}]
}"#;

const FOUND: &str = "init --found --name Lane --network network.json --tariff 250000,80000 --card h001/join.json \
                     --card h002/join.json --card h003/join.json --card h004/join.json --out genesis.toml";

/// Four homes with keys and cards; h001 leaves its network node to the network file.
fn four_homes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("network.json"), NETWORK).unwrap();
    for number in 1..=4 {
        let node = if number == 1 { "" } else { "--node f1" };
        let line = format!(
            "init --data-dir h00{number} --home h00{number} {node} --meter-serial S{number} --address \
             /ip4/127.0.0.1/tcp/900{number} --meter-address 127.0.0.1:502"
        );
        commonwatt(folder.path(), &line).with(0);
    }
    folder
}

fn founded() -> tempfile::TempDir {
    let folder = four_homes();
    commonwatt(folder.path(), FOUND).with(0);
    folder
}

#[test]
fn help_goes_to_stdout_and_ends_well() {
    let here = Path::new(".");
    for command in [
        "",
        "demo",
        "run",
        "init",
        "check",
        "status",
        "tui",
        "market",
        "market rules",
        "market book",
        "market curve",
        "market history",
        "market order",
        "market cancel",
        "ledger",
        "ledger verify",
        "clear",
        "match",
        "config default",
        "bill",
        "tariff",
        "tariff publish",
        "money",
        "money deposit",
        "money balances",
    ] {
        let ended = commonwatt(here, &format!("{command} --help")).with(0);
        assert!(ended.stdout.contains("Usage: commonwatt") && ended.stderr.is_empty(), "{command}");
    }
    let version = commonwatt(here, "--version").with(0).stdout;
    assert_eq!(version.trim(), concat!("commonwatt ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    commonwatt(here, "dmeo").with(2).saying(&["demo"]);
    commonwatt(here, "demo --homes 3").with(2).saying(&["4..=41"]);
    commonwatt(here, "clear nothing.json").with(1).saying(&["cannot open nothing.json"]);
    commonwatt(here, "run --config nothing.toml").with(78).saying(&["nothing.toml", "commonwatt init"]);
    fs::write(here.join("token"), "00").unwrap();
    // Port 9 (discard) is privileged and unused here.
    commonwatt(here, "status --connect http://127.0.0.1:9 --token-file token")
        .with(5)
        .saying(&["127.0.0.1:9"]);
    commonwatt(here, "status --connect nonsense --token-file token").with(2);
}

#[test]
fn the_market_command_says_what_is_wrong_with_its_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("token"), "00").unwrap();
    let node = "--connect http://127.0.0.1:9 --token-file token";
    let order = format!("market order {node} --interval 2026-07-01T18:00:00Z --quantity 500 --side sell");
    for (line, words) in [
        ("market".to_owned(), "order"),
        ("market book".to_owned(), "--connect <URL>"),
        (format!("market book {node} --interval noon"), "--interval"),
        (format!("market rules {node} --hours 49"), "1..=48"),
        (format!("market history {node} --days 0"), "1..=31"),
        (format!("market history {node} --limit 501"), "1..=500"),
        (format!("{order} --price cheap"), "no price"),
        (format!("{order} --price 0.1650001"), "6 digits"),
        (order.clone(), "--price"),
        (format!("{order} --price 0.1 --request-id a/b"), "letters, digits"),
        (format!("{order} --price 0.1 --wait 0"), "1..=600"),
        (
            format!(
                "market order {node} --interval 2026-07-01T18:00:00Z --quantity -5 --side sell --price 1"
            ),
            "-5",
        ),
        (format!("{} --price 0.1", order.replace("sell", "hold")), "hold"),
        (format!("market cancel {node}"), "<ID>"),
    ] {
        commonwatt(here, &line).with(2).saying(&[words]);
    }
    let unreachable = commonwatt(here, &format!("{order} --price 0.165")).with(5);
    unreachable.saying(&["127.0.0.1:9", "is the node running?"]);
    commonwatt(here, "market book --connect nonsense --token-file token").with(2);
    commonwatt(here, "market book --connect http://127.0.0.1:9 --token-file none").with(1).saying(&["none"]);
}

#[test]
fn the_default_configuration_passes_its_own_check() {
    let folder = tempfile::tempdir().unwrap();
    let sample = commonwatt(folder.path(), "config default").with(0).stdout;
    fs::write(folder.path().join("sample.toml"), sample).unwrap();
    let ended = commonwatt(folder.path(), "check --config sample.toml").with(78);
    assert!(ended.stdout.contains("[ok]    configuration sample.toml of home h001"), "{}", ended.stdout);
    ended.saying(&["genesis.toml", "seed.key is missing"]);
}

#[test]
fn check_reports_every_error_at_once_and_in_json_too() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.toml"), "hom = \"h001\"\ndata_dir = 7\n[api]\nlisten = 8480\n")
        .unwrap();
    let ended = commonwatt(folder.path(), "check --config bad.toml").with(78);
    assert_eq!(ended.stdout, "");
    ended.saying(&[
        "bad.toml:1:1",
        "did you mean `home`?",
        "bad.toml:2:12",
        "bad.toml:4:10",
        "3 errors in bad.toml",
    ]);
    let json = commonwatt(folder.path(), "check --config bad.toml --output json").with(78).json();
    assert_eq!(json["ok"], false);
    assert!(json["errors"][0].as_str().unwrap().contains("bad.toml:4:10"));
}

#[test]
fn four_homes_found_a_community_and_join_it() {
    let folder = founded();
    let here = folder.path();
    let first = fs::read_to_string(here.join("genesis.toml")).unwrap();
    let again = commonwatt(here, &format!("{FOUND} --output json")).with(0).json();
    assert_eq!(
        fs::read_to_string(here.join("genesis.toml")).unwrap(),
        first,
        "founding again changes nothing"
    );
    assert_eq!(again["delegates"].as_array().unwrap().len(), 4);
    for role in ["operator", "treasurer", "auditor"] {
        let mode = fs::metadata(here.join(format!("roles/{role}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{role}");
    }
    let join =
        "init --data-dir h001 --join genesis.toml --card h001/join.json --card h002/join.json --output json";
    let joined = commonwatt(here, join).with(0).json();
    assert_eq!(
        (&joined["chain"], &joined["delegate"], &joined["peers"]),
        (&again["chain"], &true.into(), &1.into())
    );
    let config = fs::read_to_string(here.join("h001/commonwatt.toml")).unwrap();
    commonwatt(here, join).with(0);
    assert_eq!(
        fs::read_to_string(here.join("h001/commonwatt.toml")).unwrap(),
        config,
        "joining again changes nothing"
    );
    let checked = commonwatt(here, "check --config h001/commonwatt.toml").with(0);
    assert!(checked.stdout.contains("keys of a delegate"), "{}", checked.stdout);
    commonwatt(here, "ledger verify --config h001/commonwatt.toml").with(1).saying(&["there is no ledger"]);
}

#[test]
fn a_card_is_kept_when_it_is_made_again_and_a_folder_serves_one_home() {
    let folder = four_homes();
    let card = || fs::read_to_string(folder.path().join("h002/join.json")).unwrap();
    let before = card();
    commonwatt(folder.path(), "init --data-dir h002 --home h002").with(0);
    assert_eq!(card(), before);
    commonwatt(folder.path(), "init --data-dir h002 --home h003")
        .with(78)
        .saying(&["is the folder of home h002"]);
    assert_eq!(card(), before);
}

#[test]
fn a_setting_that_the_configuration_contradicts_is_refused_and_never_ignored() {
    let folder = four_homes();
    let here = folder.path();
    let again = "init --data-dir h002 --home h002";
    for option in ["--meter-address 127.0.0.1:503", "--meter-profile abb-b23", "--api-listen 127.0.0.1:1"] {
        let name = option.split(' ').next().unwrap();
        commonwatt(here, &format!("{again} {option}")).with(78).saying(&[
            "h002/commonwatt.toml",
            name,
            "edit it",
        ]);
    }
    commonwatt(here, &format!("{again} --meter-address 127.0.0.1:502 --api-listen 127.0.0.1:8480")).with(0);
}

#[test]
fn the_link_of_the_page_is_printed_for_whoever_holds_the_token() {
    let folder = four_homes();
    let token = fs::read_to_string(folder.path().join("h001/api.token")).unwrap();
    let printed = commonwatt(folder.path(), "status --page --config h001/commonwatt.toml").with(0);
    assert_eq!(printed.stdout, format!("http://127.0.0.1:8480/?token={}\n", token.trim()));
    assert!(!printed.stderr.contains(token.trim()));
}

#[test]
fn a_node_does_not_run_with_a_profile_the_ledger_would_refuse() {
    let folder = founded();
    let here = folder.path();
    commonwatt(here, "init --data-dir h001 --join genesis.toml").with(0);
    let path = here.join("h001/commonwatt.toml");
    let config = fs::read_to_string(&path).unwrap();
    let other = config.replacen("profile = \"eastron-sdm630\"", "profile = \"abb-b23\"", 1);
    assert_ne!(config, other);
    fs::write(&path, other).unwrap();
    commonwatt(here, "run --config h001/commonwatt.toml").with(78).saying(&["abb-b23", "join card"]);
}

#[test]
fn the_console_says_that_it_needs_a_terminal() {
    let folder = four_homes();
    let line = "tui --connect http://127.0.0.1:9 --token-file h001/api.token";
    commonwatt(folder.path(), line).with(2).saying(&["needs a terminal", "--once"]);
}

#[test]
fn a_demo_told_to_stop_while_it_starts_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_commonwatt"))
        .args(["demo", "--homes", "12", "--output", "json"])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let files = || fs::read_dir(temporary.path()).unwrap().count();
    while files() == 0 {
        assert!(demo.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let told = Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().unwrap();
    assert!(told.success());
    let ended = demo.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted while the street was starting"), "{said}");
    assert!(ended.stdout.is_empty(), "a day that never began has no summary");
    assert_eq!(files(), 0, "keys and databases are gone");
}

#[test]
fn what_cannot_be_a_community_is_not_founded_and_makes_no_keys() {
    let folder = four_homes();
    let here = folder.path();
    let twice = FOUND.replace("--card h002/join.json", "--card h001/join.json");
    commonwatt(here, &twice).with(78).saying(&["home h001 stands twice"]);
    commonwatt(here, &FOUND.replace("80000", "300000"))
        .with(78)
        .saying(&["import_price is below its export_price"]);
    commonwatt(here, &format!("{FOUND} --delegates h001,h009")).with(78).saying(&["h009"]);
    fs::write(here.join("network.json"), "{\"nodes\": [],\n \"hoems\": []}").unwrap();
    commonwatt(here, FOUND).with(78).saying(&["network.json:2:", "hoems"]);
    assert!(!here.join("roles").exists() && !here.join("genesis.toml").exists());
}

#[test]
fn a_genesis_that_exists_is_not_overwritten() {
    let folder = founded();
    let before = fs::read(folder.path().join("genesis.toml")).unwrap();
    commonwatt(folder.path(), &FOUND.replace("80000", "70000")).with(78).saying(&["genesis.toml exists"]);
    assert_eq!(fs::read(folder.path().join("genesis.toml")).unwrap(), before);
}

#[test]
fn a_wrong_key_is_named_by_join_and_check() {
    let folder = founded();
    let here = folder.path();
    fs::copy(here.join("h002/consensus.key"), here.join("h001/consensus.key")).unwrap();
    let join = "init --data-dir h001 --join genesis.toml";
    commonwatt(here, join).with(78).saying(&["wrong key: the consensus key of home h001"]);
    fs::copy(here.join("genesis.toml"), here.join("h001/genesis.toml")).unwrap();
    fs::copy(here.join("h003/seed.key"), here.join("h001/seed.key")).unwrap();
    // `run` starts all the same: keys may have been changed by blocks that are not here yet.
    commonwatt(here, "check --config h001/commonwatt.toml")
        .with(78)
        .saying(&["wrong key: the member key of home h001"]);
}

#[test]
fn a_home_outside_the_community_cannot_join_it() {
    let folder = founded();
    commonwatt(folder.path(), "init --data-dir h009 --home h009").with(0);
    commonwatt(folder.path(), "init --data-dir h009 --join genesis.toml")
        .with(78)
        .saying(&["home h009 is not a member"]);
}

#[test]
fn a_folder_that_serves_one_chain_does_not_take_another() {
    let folder = founded();
    let here = folder.path();
    commonwatt(here, "init --data-dir h001 --join genesis.toml").with(0);
    let other = FOUND.replace("genesis.toml", "other.toml").replace("Lane", "Mill");
    commonwatt(here, &other).with(0);
    commonwatt(here, "init --data-dir h001 --join other.toml")
        .with(78)
        .saying(&["the genesis of another chain"]);
}

#[test]
fn keys_others_can_read_stop_the_node() {
    let folder = founded();
    let here = folder.path();
    commonwatt(here, "init --data-dir h001 --join genesis.toml").with(0);
    fs::set_permissions(here.join("h001/seed.key"), fs::Permissions::from_mode(0o644)).unwrap();
    for command in ["check", "run"] {
        commonwatt(here, &format!("{command} --config h001/commonwatt.toml"))
            .with(78)
            .saying(&["mode 644", "chmod 600"]);
    }
}

#[test]
fn a_damaged_genesis_is_shown_with_its_place() {
    let folder = founded();
    let here = folder.path();
    let text = fs::read_to_string(here.join("genesis.toml")).unwrap();
    fs::write(here.join("bad.toml"), text.replace("currency = \"CNY\"", "currency = \"RMB¥\"")).unwrap();
    commonwatt(here, "init --data-dir h001 --join bad.toml").with(78).saying(&["bad.toml:4:12", "ISO 4217"]);
    fs::write(here.join("bad.toml"), text.replace("[tariff]", "[tarif]")).unwrap();
    commonwatt(here, "init --data-dir h001 --join bad.toml").with(78).saying(&["did you mean `tariff`?"]);
}
