//! `commonwatt tariff` and `commonwatt money`.

use energy::{HomeId, Timestamp};
use ledger::SignedEntry;
use ledger::codec::Decode;
use market::Account;

use crate::street::{Agreed, Street, at, home};

/// The homes prepay, and nothing is traded ahead.
const AGREED: Agreed = Agreed { deposit_n: 50_004_000_000, supplier_credit_n: 0, market: "" };

const SCHEDULE: &str = "zone = \"Europe/Berlin\"\n[import]\nprice = 300000\n[[import.window]]\ndays = [\"sunday\"]\n\
    from = \"02:00\"\nuntil = \"03:00\"\nprice = 100000\n[export]\nseries = \"day.csv\"\nunit = \"per-MWh\"\nmax = 90000\n";

/// 25 hours of the day on which clocks change, from midnight in Berlin.
fn series() -> String {
    let start = Timestamp::parse("2026-10-24T22:00:00Z").unwrap();
    let row = |hour: u64| format!("{},{}.5\n", start.plus_ms(hour * 3_600_000), 60 + hour * 2);
    std::iter::once("start,price\n".to_owned()).chain((0..25).map(row)).collect()
}

async fn with_schedule() -> Street {
    let street = Street::start(&AGREED).await;
    street.write("tariff.toml", SCHEDULE);
    street.write("day.csv", &series());
    street
}

fn prices(street: &Street, time: &str) -> (i64, i64) {
    let tariff = street.look(|ledger| ledger.tariff_at(at(time)));
    (tariff.import_price.get(), tariff.export_price.get())
}

fn balance(street: &Street, account: &Account<HomeId>) -> i64 {
    street.look(|ledger| ledger.balance(account).get())
}

fn of_home(street: &Street, name: &str) -> i64 {
    balance(street, &Account::Home(home(name)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_expanded_over_the_change_of_clocks() {
    let street = with_schedule().await;
    let line = "tariff expand tariff.toml --from 2026-10-25";
    let json = street.call(&format!("{line} --output json")).await.with(0).json();
    let points = json["points"].as_array().unwrap();
    assert_eq!((points.len(), &json["mtu_minutes"]), (100, &15.into()));
    assert_eq!(points[0]["start"], "2026-10-24T22:00:00Z");
    assert_eq!(points.iter().filter(|it| it["import_price"] == 100_000).count(), 8, "02:00 comes twice");
    assert_eq!(points[0]["export_price"], 60_500);
    assert_eq!(points[99]["export_price"], 90_000, "108.5 is kept under its maximum");
    let table = street.call(&format!("{line} --format csv --mtu 60")).await.with(0).stdout;
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 26);
    assert_eq!(rows[0], "start,local,day,import_price,export_price");
    assert_eq!(rows[4], "2026-10-25T01:00:00Z,2026-10-25T02:00:00+01:00,sunday,100000,66500");
    assert!(street.call(line).await.with(0).stdout.contains("2026-10-25T02:00:00+02:00  sunday"));
    street
        .call("tariff expand tariff.toml --from 2026-10-26")
        .await
        .with(78)
        .saying(&["day.csv has no price for 2026-10-25T23:00:00Z"]);
    street.call("tariff expand tariff.toml").await.with(2).saying(&["--from DATE"]);
    street.call("tariff expand tariff.toml --from 25.10.2026").await.with(2).saying(&["2026-07-14"]);
    street.write("bad.toml", &SCHEDULE.replace("price = 300000", "price = 0.3"));
    street.call("tariff expand bad.toml --from 2026-10-25").await.with(78).saying(&["bad.toml:3:9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_published_in_time_by_the_operator_alone() {
    let street = with_schedule().await;
    let line = "tariff publish tariff.toml --from 2026-10-25 --operator-key operator.key --config node.toml";
    let done = street.call(&format!("{line} --output json")).await.with(0).json();
    assert_eq!((&done["final"], &done["entries"][0]["points"]), (&true.into(), &100.into()));
    assert_eq!(prices(&street, "2026-10-25T01:15:00Z"), (100_000, 66_500));
    street
        .call(&line.replace("operator.key", "auditor.key"))
        .await
        .with(78)
        .saying(&["does not hold the key of this community's operator"]);
    let past = line.replace("2026-10-25", "2026-10-24T09:30:00Z");
    street.call(&past).await.with(78).saying(&["day.csv has no price"]);
    street.write(
        "flat.toml",
        "zone = \"UTC\"\n[import]\nprice = 1\n[export]\nprice = 1\n[[network]]\nnode = \"grid\"\n",
    );
    let flat = line.replace("tariff.toml", "flat.toml");
    street.call(&flat).await.with(78).saying(&["[[network]]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_points_than_one_entry_holds_become_several_entries() {
    let street = Street::start(&AGREED).await;
    street.write("flat.toml", "zone = \"UTC\"\n[import]\nprice = 210000\n[export]\nprice = 70000\n");
    let line =
        "tariff publish flat.toml --from 2026-10-25 --days 5 --operator-key operator.key --config node.toml";
    let done = street.call(&format!("{line} --output json")).await.with(0).json();
    let points: Vec<i64> =
        done["entries"].as_array().unwrap().iter().map(|it| it["points"].as_i64().unwrap()).collect();
    assert_eq!(points, [192, 192, 96]);
    assert_eq!(prices(&street, "2026-10-29T23:45:00Z"), (210_000, 70_000));
    let past = line.replace("--from 2026-10-25 --days 5", "--from 2026-10-24T09:30:00Z");
    street.call(&past).await.with(1).saying(&["never changed backwards", "--from"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_notice_and_prices_outside_the_caps_need_a_second_signature() {
    let street = Street::start(&AGREED).await;
    street.write("flat.toml", "zone = \"UTC\"\n[import]\nprice = 600000\n[export]\nprice = -5\n");
    let line =
        "tariff publish flat.toml --from 2026-10-24T10:30:00Z --operator-key operator.key --config node.toml";
    street.call(line).await.with(2).saying(&[
        "(600000 and -5) lie outside the caps of the genesis, 0 to 500000",
        "less than an hour after market time",
        "--sign-also KEY",
    ]);
    street
        .call(&format!("{line} --sign-also operator.key"))
        .await
        .with(78)
        .saying(&["does not hold the key of this community's treasurer or auditor"]);
    street
        .call(&format!("{line} --sign-only prices.txt"))
        .await
        .with(0)
        .saying(&["--countersign prices.txt"]);
    assert_ne!(prices(&street, "2026-10-24T10:30:00Z").0, 600_000, "nothing was handed in");
    let shown = street.call("tariff publish --show prices.txt").await.with(0).stdout;
    assert!(shown.contains("import 600000 to 600000, export -5 to -5"), "{shown}");
    street
        .call("tariff publish --countersign prices.txt --sign-also auditor.key --config node.toml")
        .await
        .with(0);
    assert_eq!(prices(&street, "2026-10-24T10:30:00Z"), (600_000, -5));
    street
        .call("tariff publish --countersign prices.txt --sign-also auditor.key --config node.toml")
        .await
        .with(1)
        .saying(&["is used already"]);
    let again = format!("{line} --sign-also treasurer.key");
    street.call(&again.replace("10:30", "11:30")).await.with(0);
    street
        .call(&line.replace("flat.toml", "flat.toml --sign-only prices.txt"))
        .await
        .with(1)
        .saying(&["cannot create prices.txt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_is_booked_by_the_treasurer_and_above_the_limit_by_the_auditor_too() {
    let street = Street::start(&AGREED).await;
    let deposit = "money deposit --treasurer-key treasurer.key --config node.toml --reference SEPA_4711";
    let done =
        street.call(&format!("{deposit} --home h2 --amount 150.05 --output json")).await.with(0).json();
    assert_eq!(
        (&done["amount_n"], &done["reference"], &done["final"]),
        (&150_050_000_000_i64.into(), &"SEPA 4711".into(), &true.into())
    );
    assert_eq!(of_home(&street, "h2"), 50_004_000_000 + 150_050_000_000);
    let large = format!("{deposit} --supplier --amount 1000.01");
    street
        .call(&large)
        .await
        .with(2)
        .saying(&["1,000.01 is above the limit of 1,000.00", "--sign-also auditor.key"]);
    street.call(&format!("{large} --sign-also auditor.key")).await.with(0);
    assert_eq!(balance(&street, &Account::Supplier), 1_000_010_000_000);
    for (wrong, code, says) in [
        ("--home h2 --amount 0", 2, "0 is not above zero"),
        ("--home h2 --amount 1,50", 2, "an amount is written 150.00"),
        ("--home h2 --amount 0.0000000001", 2, "more digits"),
        ("--home h9 --amount 5", 1, "the ledger would refuse it: home h9 is no member"),
        ("--amount 5", 2, "--home"),
    ] {
        street.call(&format!("{deposit} {wrong}")).await.with(code).saying(&[says]);
    }
    let by_other = format!("{deposit} --home h2 --amount 5").replace("treasurer.key", "operator.key");
    street.call(&by_other).await.with(78).saying(&["does not hold the key of this community's treasurer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_payment_is_not_booked_twice_unless_somebody_says_so() {
    let street = Street::start(&AGREED).await;
    let deposit = "money deposit --treasurer-key treasurer.key --config node.toml --home h2 --amount 10";
    street.call(&format!("{deposit} --reference _")).await.with(2).saying(&["the reference is empty"]);
    street.call(&format!("{deposit} --reference A1 --sign-only late.txt")).await.with(0);
    street.call(&format!("{deposit} --reference A1")).await.with(0);
    let twice = ["a deposit of 10.00 with the reference \"A1\" is booked on this account already", "--again"];
    street.call(&format!("{deposit} --reference A1")).await.with(1).saying(&twice);
    let late = "money countersign late.txt --sign-also auditor.key --config node.toml";
    street.call(late).await.with(1).saying(&twice);
    street
        .call(&format!("{late} --again"))
        .await
        .with(1)
        .saying(&["is used already: another entry has it; this one is not on the ledger"]);
    assert_eq!(of_home(&street, "h2"), 60_004_000_000);
    street.call(&format!("{deposit} --reference A2")).await.with(0);
    street.call(&format!("{deposit} --reference A1").replace("h2", "h1")).await.with(0);
    street.call(&format!("{deposit} --reference A1 --again")).await.with(0);
    assert_eq!((of_home(&street, "h2"), of_home(&street, "h1")), (80_004_000_000, 60_004_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_final_only_if_the_ledger_holds_it_and_not_another_of_its_number() {
    let street = Street::start(&AGREED).await;
    let deposit = "money deposit --treasurer-key treasurer.key --config node.toml --home h2";
    for (amount, file) in [("7", "mine.txt"), ("9", "other.txt")] {
        let line = format!("{deposit} --amount {amount} --reference x --sign-only {file}");
        street.call(&line).await.with(0);
    }
    let text = street.read("other.txt");
    let other = SignedEntry::from_bytes(&hex::decode(text.trim()).unwrap()).unwrap();
    *street.instead.lock().unwrap() = Some(other);
    let mine = "money countersign mine.txt --sign-also auditor.key --config node.toml";
    street
        .call(mine)
        .await
        .with(1)
        .saying(&["was used by another entry in the meantime", "is not on the ledger"]);
    assert_eq!(of_home(&street, "h2"), 59_004_000_000);

    // Without a ledger on this machine nobody can tell.
    let config = street.read("node.toml");
    let address = config.split('"').nth(5).unwrap();
    let there = format!("--genesis genesis.toml --connect http://{address} --token-file h1/api.token");
    let line =
        format!("{deposit} --amount 3 --reference y --output json").replace("--config node.toml", &there);
    let done =
        street.call(&line).await.with(0).saying(&["whether it is booked already is not checked"]).json();
    assert_eq!((&done["final"], &done["state"]), (&false.into(), &"handed in, number used".into()));
    assert_eq!(of_home(&street, "h2"), 62_004_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_is_of_whole_cents_and_the_members_own_word() {
    let street = Street::start(&AGREED).await;
    let withdraw =
        "money withdraw --home h1 --reference payout --treasurer-key treasurer.key --config node.toml";
    street
        .call(&format!("{withdraw} --amount 20.005 --sign-only payout.txt"))
        .await
        .with(2)
        .saying(&["only whole cents are paid out; leave 0.005 on the account"]);
    street
        .call(&format!("{withdraw} --amount 20.00"))
        .await
        .with(2)
        .saying(&["--sign-only FILE", "--as-member"]);
    street.call(&format!("{withdraw} --amount 20.00 --sign-only payout.txt")).await.with(0);
    let shown = street.call("money countersign payout.txt --show").await.with(0).stdout;
    assert!(
        shown.contains("withdrawal") && shown.contains("20.00") && shown.contains("not handed in"),
        "{shown}"
    );
    street
        .call("money countersign payout.txt --sign-also auditor.key --config node.toml")
        .await
        .with(1)
        .saying(&["the ledger would refuse it: a withdrawal entry needs the signature of the member"]);
    street.call("money countersign payout.txt --as-member --config node.toml").await.with(0);
    assert_eq!(of_home(&street, "h1"), 30_004_000_000);
    // Everything that is free; the 0.4 cents stay.
    street.call(&format!("{withdraw} --amount all --sign-only all.txt")).await.with(0);
    street.call("money countersign all.txt --as-member --config node.toml").await.with(0);
    assert_eq!(of_home(&street, "h1"), 4_000_000);
    street
        .call(&format!("{withdraw} --amount all --sign-only none.txt"))
        .await
        .with(1)
        .saying(&["not a whole cent"]);
    street.call(&format!("{withdraw} --amount 1 --sign-only more.txt")).await.with(0);
    street
        .call("money countersign more.txt --as-member --config node.toml")
        .await
        .with(1)
        .saying(&["the ledger would refuse it: the account has 4000000 n free"]);
    let other = withdraw.replace("h1", "h2");
    street
        .call(&format!("{other} --amount all --sign-only x.txt"))
        .await
        .with(2)
        .saying(&["balance of home h1 only"]);
    street.call(&format!("{other} --amount 1 --sign-only h2.txt")).await.with(0);
    street
        .call("money countersign h2.txt --as-member --config node.toml")
        .await
        .with(78)
        .saying(&["the entry is about h2, this node serves h1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_holds_too_little_stops_pay_outs_until_it_is_attested_anew() {
    let street = Street::start(&AGREED).await;
    let attest = "money attest --treasurer-key treasurer.key --config node.toml";
    street.call(&format!("{attest} --bank-balance 100")).await.with(2).saying(&["the auditor must sign too"]);
    let accounts = "money balances --db h1/ledger.db --genesis genesis.toml";
    assert!(street.call(accounts).await.with(0).stdout.contains("not attested yet"));
    street.call(&format!("{attest} --bank-balance 100 --sign-also auditor.key")).await.with(0);
    let listed = street.call(accounts).await.with(0).stdout;
    assert!(listed.contains("less than the accounts: pay-outs are stopped"), "{listed}");
    let withdraw =
        "money withdraw --home h1 --amount 1 --reference x --treasurer-key treasurer.key --config node.toml";
    street.call(&format!("{withdraw} --sign-only payout.txt")).await.with(0);
    street
        .call("money countersign payout.txt --as-member --config node.toml")
        .await
        .with(1)
        .saying(&["pay-outs are stopped"]);
    street.call(&format!("{attest} --bank-balance 100.008 --sign-only bank.txt")).await.with(0);
    street.call("money countersign bank.txt --sign-also auditor.key --config node.toml").await.with(0);
    street.call(&format!("{withdraw} --sign-only again.txt")).await.with(0);
    street.call("money countersign again.txt --as-member --config node.toml").await.with(0);
    let listed = street.call(&format!("{accounts} --output json")).await.with(0).json();
    assert_eq!(listed["bank_must_hold_n"], 99_008_000_000_i64);
    assert_eq!(listed["bank"]["amount_n"], 100_008_000_000_i64);
    let claims = street.call("money claims --db h1/ledger.db --genesis genesis.toml").await.with(0);
    assert_eq!(claims.stdout, "nobody owes anybody\n");

    // A household sees itself.
    let own = street.call("money balances --config node.toml").await.with(0).saying(&["only home h1"]).stdout;
    assert!(own.contains("h1 ") && !own.contains("h2") && !own.contains("bank"), "{own}");
    let own = street.call("money balances --config node.toml --output json").await.with(0).json();
    assert_eq!((own["members"].as_array().unwrap().len(), &own["home"]), (1, &"h1".into()));
    assert!(own["bank"].is_null() && own["accounts"].is_null() && own["bank_must_hold_n"].is_null(), "{own}");
    let claims = street.call("money claims --config node.toml").await.with(0).stdout;
    assert_eq!(claims, "the home owes nobody, and nobody owes it\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_damaged_or_of_another_community_is_refused() {
    let street = Street::start(&AGREED).await;
    street.write("junk.txt", "not hex\n");
    street
        .call("money countersign junk.txt --show")
        .await
        .with(78)
        .saying(&["junk.txt:1 is no signed entry"]);
    street.write("flat.toml", "zone = \"UTC\"\n[import]\nprice = 1\n[export]\nprice = 1\n");
    let publish = "tariff publish flat.toml --from 2026-10-25 --operator-key operator.key --config node.toml";
    street.call(&format!("{publish} --sign-only prices.txt")).await.with(0);
    street.call("money countersign prices.txt --show").await.with(78).saying(&["is a tariff-series entry"]);
    let text = street.read("prices.txt");
    let middle = text.len() / 2;
    let digit = if text.as_bytes()[middle] == b'0' { "1" } else { "0" };
    street.write("spoilt.txt", &format!("{}{digit}{}", &text[..middle], &text[middle + 1..]));
    let countersign = "tariff publish --sign-also auditor.key --config node.toml --countersign";
    let refused = street.call(&format!("{countersign} spoilt.txt")).await.with(78);
    assert!(
        refused.stderr.contains("make it again") || refused.stderr.contains("no signed entry"),
        "{}",
        refused.stderr
    );
    let other = street.read("genesis.toml").replace("\"Lane\"", "\"Mill\"");
    street.write("h1/other.toml", &other);
    let config = street.read("node.toml");
    street.write("other.toml", &format!("genesis = \"h1/other.toml\"\n{config}"));
    street
        .call(&publish.replace("node.toml", "other.toml"))
        .await
        .with(78)
        .saying(&["the node serves chain"]);
}
