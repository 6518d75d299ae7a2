//! `commonwatt bill` through the program, on a real ledger of five weeks: every amount recomputed by a program that
//! nobody here wrote into the product, and every wrong question answered with what to do.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot do its work must fail")]

#[path = "bill/street.rs"]
mod street;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    #[track_caller]
    fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn saying(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in\n{}", self.stderr);
        }
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

/// Words of `line` are separated by spaces; `_` within a word stands for one.
fn call(folder: &Path, line: &str) -> Ended {
    let words = line.split_whitespace().map(|word| word.replace('_', " "));
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonwatt"));
    command.current_dir(folder).env_remove("COMMONWATT_LOG").env_remove("COMMONWATT_CONFIG");
    let output = command.args(words).stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

const LEDGER: &str = "--db ledger.db --genesis genesis.toml --zone Europe/Berlin";

/// A folder of a test's own beside the ledger's.
fn fresh(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    for file in ["ledger.db", "genesis.toml"] {
        fs::copy(street::folder().join(file), folder.join(file)).unwrap();
    }
    fs::write(folder.join("lines.toml"), LINES).unwrap();
    fs::write(folder.join("parties.toml"), PARTIES).unwrap();
    folder
}

const LINES: &str = r#"
zone = "Europe/Berlin"
[issuer]
name = "Lane East eG"
name_zh = "东巷能源合作社"
address = ["Lindenweg 4", "04103 Leipzig"]
payment = ["IBAN DE02 1203 0000 0000 2020 51"]
[[line]]
name = "Concession levy"
name_zh = "特许费"
basis = "total-import"
rate = 1320
to = "City"
until = 2026-10-16
[[line]]
name = "Concession levy, new"
basis = "total-import"
rate = 1590
to = "City"
from = 2026-10-16
[[line]]
name = "Electricity tax"
basis = "grid-import"
rate = 20500
to = "State"
[[line]]
name = "Metering"
basis = "month"
rate = 1670000000
part = "grid"
to = "Metering operator"
[[line]]
name = "Community fee"
basis = "day"
rate = 33333333
part = "community"
to = "Lane East eG"
[[line]]
name = "Reactive export rebate"
basis = "export"
rate = -100
to = "Network operator"
[[line]]
name = "Value added tax"
basis = "subtotal"
rate = 190
to = "State"
"#;

const PARTIES: &str = r#"
[[home]]
id = "h1"
contract_holder = "Lane Housing"
asset_owner = "Sun Fund II"
[[home]]
id = "h2"
contract_holder = "Chen Jie"
[[home.occupant]]
name = "Li Wei"
until = 2026-10-15
moved_out_wh = [195000, 500]
[[home.occupant]]
name = "Zhou Min"
from = 2026-10-18
"#;

fn nano(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no amount"))
}

/// Runs the checker on bills; returns what it says.
fn recomputed(folder: &Path, files: &[String]) -> Value {
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/recompute_bill.py");
    let output = Command::new("python3").arg(checker).args(files).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("python3 is needed: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_independent_program_recomputes_every_amount_of_three_months_of_bills() {
    let folder = fresh("bill-recompute");
    let mut files = Vec::new();
    for home in ["h1", "h2", "h3", "h4"] {
        for month in ["2026-09", "2026-10", "2026-11"] {
            let line = format!(
                "bill --home {home} --month {month} {LEDGER} --lines lines.toml --parties parties.toml --format csv"
            );
            let made = call(&folder, &line).with(0);
            assert_eq!(made.stderr.contains("is not final"), month == "2026-11", "{}", made.stderr);
            let file = format!("{home}-{month}.csv");
            fs::write(folder.join(&file), made.stdout).unwrap();
            files.push(file);
        }
    }
    let result = recomputed(&folder, &files);
    assert_eq!(result["mismatches"], 0);
    assert!(nano(&result["checked"]) > 20_000, "{result}");
    for kind in ["item", "metered", "line", "total", "due", "account", "chain", "once"] {
        assert!(nano(&result["by_kind"][kind]) > 10, "{kind} was not checked: {result}");
    }
}

#[test]
fn one_changed_figure_of_a_bill_is_found() {
    let folder = fresh("bill-spoilt");
    let line = format!("bill --home h3 --month 2026-10 {LEDGER} --lines lines.toml --format csv");
    let table = call(&folder, &line).with(0).stdout;
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/recompute_bill.py");
    let verdict = |table: &str| {
        fs::write(folder.join("spoilt.csv"), table).unwrap();
        Command::new("python3")
            .arg(&checker)
            .arg(folder.join("spoilt.csv"))
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verdict(&table));
    for section in [",item,", ",metered,", ",line,", ",total,", ",due,", ",account,"] {
        let row =
            table.lines().skip(1).find(|line| line.contains(section) && !line.ends_with(",0,,")).unwrap();
        // The last whole number of the row, one more.
        let mut fields: Vec<String> = row.split(',').map(str::to_owned).collect();
        let at = fields.iter().rposition(|field| field.parse::<i64>().is_ok()).unwrap();
        fields[at] = (fields[at].parse::<i64>().unwrap() + 1).to_string();
        assert!(!verdict(&table.replacen(row, &fields.join(","), 1)), "one more in {row} was not found");
    }
}

#[test]
fn a_month_with_the_change_of_clocks_has_745_hours() {
    let bill = |zone: &str| {
        let line = format!(
            "bill --home h2 --month 2026-10 --db ledger.db --genesis genesis.toml --zone {zone} --output json"
        );
        call(street::folder(), &line).with(0).json()["bills"][0].clone()
    };
    let berlin = bill("Europe/Berlin");
    assert_eq!((&berlin["intervals"]["settled"], &berlin["final"]), (&Value::from(745), &Value::from(true)));
    assert_eq!(bill("+02:00")["intervals"]["settled"], 744);
    // The registers of its first and last midnight are what it took.
    let register = |of: &str| nano(&berlin["days"][0][of]["read"]["import_wh"]);
    assert_eq!(register("closing") - register("opening"), nano(&berlin["import_wh"]["total"]));
}

#[test]
fn the_sheets_of_a_home_share_its_energy_its_account_and_its_charges_without_a_rest() {
    let folder = fresh("bill-parties");
    let sheets = |more: &str| {
        let line = format!("bill --home h2 --month 2026-10 {LEDGER} --lines lines.toml --output json {more}");
        call(&folder, &line).with(0).json()["bills"].as_array().unwrap().clone()
    };
    let (alone, shared) = (sheets(""), sheets("--parties parties.toml"));
    assert_eq!((alone.len(), shared.len()), (1, 3));
    let names: Vec<&str> = shared.iter().map(|it| it["recipient"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Chen Jie", "Li Wei", "Zhou Min"]);
    let sum = |bills: &[Value], at: fn(&Value) -> &Value| bills.iter().map(|it| nano(at(it))).sum::<i64>();
    for at in [
        (|it| &it["import_wh"]["total"]) as fn(&Value) -> &Value,
        |it| &it["import_wh"]["community"],
        |it| &it["energy_n"]["total"],
        |it| &it["due"]["settled_n"],
        |it| &it["intervals"]["settled"],
    ] {
        assert_eq!(sum(&shared, at), sum(&alone, at));
    }
    let days = |at: usize| (shared[at]["days"][0]["first"].clone(), shared[at]["days"][0]["last"].clone());
    assert_eq!(days(1), ("2026-10-01".into(), "2026-10-14".into()));
    assert_eq!(days(2), ("2026-10-18".into(), "2026-10-31".into()));
    assert_eq!(
        days(0),
        ("2026-10-15".into(), "2026-10-17".into()),
        "days of nobody are the contract holder's"
    );
    assert_eq!(shared[1]["days"][0]["closing"]["agreed"]["import_wh"], 195_000);
    assert_eq!(shared[1]["days"][0]["closing"]["read"], shared[0]["days"][0]["opening"]["read"]);
    // A month's charge of 1.67 is split by days, to the n.
    let metering = |bill: &Value| {
        let lines = bill["lines"].as_array().unwrap();
        lines
            .iter()
            .filter(|line| line["name"] == "Metering")
            .map(|line| nano(&line["amount_n"]["total"]))
            .sum::<i64>()
    };
    assert_eq!(shared.iter().map(metering).sum::<i64>(), 1_670_000_000);
}

#[test]
fn a_tenant_sees_their_own_days_and_neither_account_nor_neighbours() {
    let folder = fresh("bill-tenant");
    let line =
        format!("bill --home h2 --for Li_Wei --month 2026-10 {LEDGER} --parties parties.toml --format csv");
    let table = call(&folder, &line).with(0).stdout;
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert!(rows.iter().all(|row| row.starts_with("h2-2026-10-2,")));
    for other in ["Chen Jie", "Zhou Min", ",account,", "2026-10-15T", "2026-10-31"] {
        assert!(!table.contains(other), "the tenant reads {other:?}");
    }
    assert!(table.contains("2026-10-14T23:00:00+02:00"));
    let stranger = format!("bill --home h2 --for Nobody --month 2026-10 {LEDGER} --parties parties.toml");
    call(&folder, &stranger).with(1).saying(&["no bill of 2026-10 for anybody named \"Nobody\""]);
}

#[test]
fn what_panels_earn_goes_to_who_owns_them() {
    let folder = fresh("bill-asset-owner");
    let line = format!("bill --home h1 --month 2026-10 {LEDGER} --parties parties.toml --output json");
    let bills = call(&folder, &line).with(0).json()["bills"].clone();
    let (holder, owner) = (&bills[0], &bills[1]);
    assert_eq!(
        (&holder["export_wh"]["total"], &owner["import_wh"]["total"]),
        (&Value::from(0), &Value::from(0))
    );
    assert!(nano(&owner["export_wh"]["community"]) > 0 && nano(&owner["due"]["due_n"]) < 0);
    // The account was credited for them: its holder pays that on.
    assert_eq!(
        nano(&holder["due"]["exact_n"]),
        -nano(&owner["energy_n"]["total"]) - nano(&holder["due"]["carried_in_n"])
    );
    assert!(owner["account"].is_null());
}

#[test]
fn a_late_reading_a_correction_and_a_claim_stand_on_the_bill_that_was_open() {
    let bills = |home: &str, month: &str| {
        let line = format!("bill --home {home} --month {month} {LEDGER} --output json");
        call(street::folder(), &line).with(0).json()["bills"][0].clone()
    };
    let october = bills("h4", "2026-10");
    assert_eq!(october["intervals"]["unread"], 20);
    assert_eq!(october["intervals"]["late"], 20);
    assert_eq!(october["intervals"]["corrections"], 0);
    let november = bills("h4", "2026-11");
    assert_eq!(
        (&november["intervals"]["corrections"], &november["final"]),
        (&Value::from(1), &Value::from(false))
    );
    let items = november["items"].as_array().unwrap();
    let corrected = items.iter().find(|item| item["item"] == "corrected-import").unwrap();
    assert_eq!(corrected["wh"], -50);
    assert!(nano(&corrected["amount_n"]) < 0, "less import is paid back");

    let account = &bills("h3", "2026-10")["account"];
    assert_eq!(account["transfers"][0]["reference"], "=SEPA 4711");
    assert_eq!(nano(&account["transfers"][0]["amount_n"]), 40_000_000_000);
    assert!(nano(&account["claims_paid_n"]) > 0, "the deposit first paid what was owed: {account}");
    assert_eq!(nano(&account["owed_n"]), 0);
    let withdrawn = &bills("h1", "2026-10")["account"]["transfers"][0];
    assert_eq!(
        (nano(&withdrawn["amount_n"]), &withdrawn["reference"]),
        (-5_000_000_000, &"payout 17".into())
    );
}

#[test]
fn an_account_goes_on_where_the_bill_before_left_it_and_ends_at_its_balance() {
    let account = |home: &str, month: &str| {
        let line = format!("bill --home {home} --month {month} {LEDGER} --output json");
        call(street::folder(), &line).with(0).json()["bills"][0]["account"].clone()
    };
    let db = rusqlite::Connection::open(street::folder().join("ledger.db")).unwrap();
    for (home, deposit) in [("h1", 20), ("h2", 300), ("h3", 30), ("h4", 100)] {
        let months = ["2026-09", "2026-10", "2026-11"].map(|month| account(home, month));
        assert_eq!(nano(&months[0]["opening_n"]), 0);
        assert_eq!(nano(&months[0]["transfers"][0]["amount_n"]), deposit * 1_000_000_000);
        assert_eq!(months[0]["closing_n"], months[1]["opening_n"]);
        assert_eq!(months[1]["closing_n"], months[2]["opening_n"]);
        let sql = "SELECT balance_n FROM account WHERE name = 'home:' || ?1";
        let balance: i64 = db.query_row(sql, [home], |row| row.get(0)).unwrap();
        assert_eq!(nano(&months[2]["closing_n"]), balance);
    }
}

#[test]
fn an_owner_of_several_homes_gets_a_sheet_each_and_a_cover() {
    let line = format!("bill --owner Lane_Housing --month 2026-10 {LEDGER}");
    let text = call(street::folder(), &line).with(0).stdout;
    let cover: Vec<&str> = text.lines().take(8).collect();
    assert_eq!(cover[0], "Electricity bills, summary");
    assert!(text.contains("h1-2026-10-1") && text.contains("h2-2026-10-1") && !text.contains("h3-2026-10"));
    let html = call(street::folder(), &format!("{line} --format html --lang zh-CN")).with(0).stdout;
    assert_eq!(html.matches("<article class=\"sheet").count(), 3);
    assert!(html.contains("<html lang=\"zh-CN\">") && html.contains("电费账单汇总"));
    call(street::folder(), &format!("bill --owner Nobody --month 2026-10 {LEDGER}"))
        .with(1)
        .saying(&["no home belongs to an owner named \"Nobody\""]);
}

#[test]
fn network_fees_that_change_by_the_hour_stand_at_their_prices() {
    let line = format!("bill --home h3 --month 2026-10 {LEDGER} --format csv");
    let table = call(street::folder(), &line).with(0).stdout;
    let fees = |hour: &str, day: u32| -> Vec<i64> {
        let start = format!("2026-10-{day:02}T{hour}:00:00Z");
        let rows = table.lines().filter(|row| row.contains(&start) && row.contains(",grid-import-fees,"));
        rows.map(|row| row.split(',').nth(10).unwrap().parse().unwrap()).collect()
    };
    assert_eq!(fees("18", 12), [50_000], "the day before");
    for day in [13, 14, 30] {
        assert_eq!((fees("18", day), fees("21", day)), (vec![70_000], vec![50_000]), "on 2026-10-{day}");
    }
    // Next door for nothing and from the other feeder at once: a mean is nobody's price.
    let local = table.lines().filter(|row| row.contains(",bought-fees,"));
    let prices: Vec<&str> = local.map(|row| row.split(',').nth(10).unwrap()).collect();
    assert!(
        !prices.is_empty() && prices.iter().all(|price| ["", "10000", "30000"].contains(price)),
        "{prices:?}"
    );
}

#[test]
fn the_page_to_print_is_one_file_that_fetches_nothing_and_trusts_no_name() {
    let folder = fresh("bill-html");
    let spoilt = LINES.replace("Electricity tax", "<script>alert(1)</script>");
    fs::write(folder.join("lines.toml"), spoilt).unwrap();
    let line = format!("bill --home h3 --month 2026-10 {LEDGER} --lines lines.toml --format html");
    let html = call(&folder, &line).with(0).stdout;
    for outside in ["<script", "http://", "https://", "<link", "<img", "url(", "@import"] {
        assert!(!html.contains(outside), "{outside} stands in the page");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && html.contains("Lane East eG"));
    assert!(html.contains("size: A4"));
}

#[test]
fn where_the_supplier_bills_its_energy_itself_only_the_communitys_part_is_due() {
    let line = "bill --home h2 --month 2026-10 --db ledger.db --genesis genesis.toml --zone Europe/Berlin";
    let bill = call(street::outside(), &format!("{line} --output json")).with(0).json()["bills"][0].clone();
    assert!(nano(&bill["energy_n"]["grid"]) > 0, "shown");
    assert_eq!(bill["due"]["energy_n"], bill["energy_n"]["community"]);
    assert_eq!(bill["due"]["settled_n"], bill["due"]["energy_n"], "neighbours were paid from the account");
    assert!(call(street::outside(), line).with(0).stdout.contains("stands here for information"));
    let table = call(street::outside(), &format!("{line} --format csv")).with(0).stdout;
    fs::write(street::outside().join("bill.csv"), table).unwrap();
    recomputed(street::outside(), &["bill.csv".to_owned()]);
    let levy = "[[line]]\nname = \"tax\"\nbasis = \"grid-import\"\nrate = 1\nto = \"x\"\n";
    fs::write(street::outside().join("levy.toml"), levy).unwrap();
    call(street::outside(), &format!("{line} --lines levy.toml"))
        .with(78)
        .saying(&["levy.toml:3:9", "outside"]);
}

#[test]
fn a_bill_that_cannot_be_made_says_why_and_what_to_do() {
    let folder = fresh("bill-refused");
    let bill = |rest: &str| call(&folder, &format!("bill {rest}"));
    bill("--month 2026-10").with(2).saying(&["--owner", "--config"]);
    bill(&format!("--month 2026-13 --home h1 {LEDGER}")).with(2).saying(&["is not a month such as 2026-07"]);
    bill(&format!("--month 2026-10 --home h1 {LEDGER} --lang fr")).with(2).saying(&["choose en or zh-CN"]);
    bill("--month 2026-10 --home h1 --db ledger.db --genesis genesis.toml --zone Berlin")
        .with(2)
        .saying(&["is no time zone", "Europe/Berlin"]);
    bill(&format!("--month 2026-10 --home h9 {LEDGER}"))
        .with(1)
        .saying(&["home h9 is no member of Lane East"]);
    bill(&format!("--month 2026-08 --home h1 {LEDGER}"))
        .with(1)
        .saying(&["before the community's first day, 2026-09-30"]);
    bill(&format!("--month 2026-12 --home h1 {LEDGER}")).with(6).saying(&["nothing of 2026-12 is settled"]);
    bill("--month 2026-10 --home h1 --db none.db --genesis genesis.toml")
        .with(1)
        .saying(&["there is no ledger at none.db"]);
    fs::write(folder.join("wrong.toml"), PARTIES.replace("\"h2\"", "\"h7\"")).unwrap();
    bill(&format!("--month 2026-10 --home h1 {LEDGER} --parties wrong.toml"))
        .with(78)
        .saying(&["names home h7"]);
    let other = fs::read_to_string(folder.join("genesis.toml")).unwrap().replace("Lane East", "Lane West");
    fs::write(folder.join("other.toml"), other).unwrap();
    bill("--month 2026-10 --home h1 --db ledger.db --genesis other.toml")
        .with(78)
        .saying(&["belongs to chain"]);
}

#[test]
fn a_ledger_that_contradicts_itself_is_not_billed() {
    for (name, spoil, says) in [
        (
            "bill-balance",
            "UPDATE account SET balance_n = balance_n + 1 WHERE name = 'home:h2'",
            "its movements add up to",
        ),
        (
            "bill-posting",
            "UPDATE settlement SET amount_n = amount_n - 5 WHERE home = 'h2' AND interval_ms = 1792108800000",
            "the outcomes of 2026-10 come to",
        ),
    ] {
        let folder = fresh(name);
        let db = rusqlite::Connection::open(folder.join("ledger.db")).unwrap();
        assert_eq!(db.execute(spoil, []).unwrap(), 1, "{spoil}");
        drop(db);
        call(&folder, &format!("bill --home h2 --month 2026-10 {LEDGER}"))
            .with(4)
            .saying(&[says, "ledger verify"]);
    }
}

#[test]
fn a_node_bills_its_own_home_and_no_other() {
    let folder = fresh("bill-config");
    fs::write(
        folder.join("commonwatt.toml"),
        "home = \"h3\"\ndata_dir = \".\"\n[api]\nutc_offset_minutes = 60\n",
    )
    .unwrap();
    let own = call(&folder, "bill --month 2026-10 --config commonwatt.toml --output json").with(0).json();
    assert_eq!((&own["bills"][0]["home"], &own["zone"]), (&"h3".into(), &"+01:00".into()));
    call(&folder, "bill --home h2 --month 2026-10 --config commonwatt.toml")
        .with(78)
        .saying(&["serves home h3, not h2"]);
}

#[test]
fn accounts_are_listed_with_how_long_they_last_and_who_owes_whom() {
    let line = "money balances --db ledger.db --genesis genesis.toml";
    let listed = call(street::folder(), &format!("{line} --output json")).with(0);
    let members = listed.json()["members"].as_array().unwrap().clone();
    assert_eq!(members.len(), 4);
    for member in &members {
        let (free, cost) = (nano(&member["free_n"]), nano(&member["daily_cost_n"]));
        let days = nano(&member["days_left"]);
        assert!(cost > 0 && days * cost <= free + cost && free < (days + 1) * cost, "{member}");
        assert_eq!(member["low"], days < 3, "{member}");
    }
    assert_eq!(members[2]["low"], true, "the account that ran dry: {}", members[2]);
    assert!(listed.stderr.contains("the balance of h3 falls under 3 days"), "{}", listed.stderr);
    let json = listed.json();
    let sum: i64 = members.iter().map(|it| nano(&it["balance_n"])).sum();
    let common: i64 = json["accounts"].as_object().unwrap().values().map(nano).sum();
    assert_eq!(nano(&json["bank_must_hold_n"]), sum + common);
    assert!(call(street::folder(), line).with(0).stdout.contains(" d LOW"));

    let claims = call(street::folder(), "money claims --db ledger.db --genesis genesis.toml --output json")
        .with(0)
        .json();
    let owed: i64 = members.iter().map(|it| nano(&it["owed_n"])).sum();
    assert_eq!(nano(&claims["total_n"]), owed);
    let bill = call(street::folder(), &format!("bill --home h3 --month 2026-11 {LEDGER} --output json"))
        .with(0)
        .json();
    assert_eq!(
        bill["bills"][0]["account"]["owed_n"], members[2]["owed_n"],
        "the bill and the ledger's state agree"
    );
    call(street::folder(), "money claims --db none.db --genesis genesis.toml")
        .with(1)
        .saying(&["there is no ledger"]);
}
