//! `commonwatt community` and the network fees of `commonwatt tariff publish`.

use std::path::Path;
use std::process::Command;

use energy::{Price, Timestamp, WattHours};
use ledger::{Body, ConnectionSize, Entry, EnvelopePoint, Ledger, OwnContract, PublicKey, Salt};
use node::genesis_file;
use node::identity::Identity;
use node::store::billing::BillingDb;

use crate::street::{Agreed, Street, at, home, node};

/// The homes share by a static key and pay by statement; the metering operator reads.
const AGREED: Agreed = Agreed {
    deposit_n: 0,
    supplier_credit_n: 1_000_000_000_000,
    market: "due_after_ms = 3600000\nforward = \"posted\"\n[market]\nmoney = \"statement\"\ncredit_n = 50000000000\n\
        reading_source = \"metering_operator\"\nsharing = \"static-key\"\nsharing_price = 100000\n",
};

const SCHEDULE: &str = "zone = \"UTC\"\n[import]\nprice = 300000\n[export]\nprice = 90000\n[[network]]\nnode = \"f1\"\n\
    [network.up]\nprice = 0\n[network.down]\nprice = 20000\n[[network.down.window]]\nfrom = \"17:00\"\nuntil = \"20:00\"\n\
    price = 60000\n";

/// The node stands for each term by itself: what it signs then may bear the number of a vote.
#[tokio::test(flavor = "multi_thread")]
async fn a_vote_whose_number_goes_to_another_entry_is_signed_again_with_the_next() {
    let street = Street::start(&AGREED).await;
    let identity = Identity::load(&street.path("h1")).unwrap();
    let (chain, term) = street.look(|ledger| (*ledger.chain(), ledger.coming_term()));
    let signer = PublicKey::of(identity.member());
    let body = Body::Candidacy { home: home("h1"), term, keys: None };
    let other = Entry { signer, number: 1, salt: Salt([1; 16]), body }.sign(&chain, identity.member());
    *street.instead.lock().unwrap() = Some(other);
    let vote = "ledger vote --approve h2 --wait 20 --config node.toml --output json";
    let done = street.call(vote).await.with(0).json();
    assert_eq!((&done["number"], &done["final"]), (&2.into(), &true.into()));
    assert!(street.look(|ledger| ledger.ballot(&home("h1")).is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn network_fees_are_published_with_the_prices_of_a_schedule() {
    let street = Street::start(&AGREED).await;
    street.write("tariff.toml", SCHEDULE);
    let line = "tariff publish tariff.toml --from 2026-10-25 --days 3 --operator-key operator.key --config node.toml";
    let done = street.call(&format!("{line} --output json")).await.with(0).json();
    let entries = done["entries"].as_array().unwrap();
    let points: Vec<(i64, bool)> =
        entries.iter().map(|it| (it["points"].as_i64().unwrap(), it["node"].is_null())).collect();
    assert_eq!(points, [(192, true), (96, true), (192, false), (96, false)]);
    assert_eq!((&entries[2]["fee_down"]["max"], &done["final"]), (&60_000.into(), &true.into()));
    let fee = |time: &str| {
        street.look(|ledger| {
            let network = ledger.network_at(at(time));
            network.fee_down_from_root(network.index_of(&node("f1")).unwrap())
        })
    };
    assert_eq!(
        [fee("2026-10-25T16:45:00Z"), fee("2026-10-27T17:00:00Z")],
        [Price::new(20_000), Price::new(60_000)]
    );

    street.write("dear.toml", &SCHEDULE.replace("price = 60000", "price = 600000"));
    let dear = line.replace("tariff.toml", "dear.toml");
    street.call(&dear).await.with(2).saying(&[
        "the network fees at 2026-10-25T17:00:00Z (0 and 600000) lie outside the caps",
        "--sign-also KEY",
    ]);
    street.call(&format!("{dear} --sign-also auditor.key")).await.with(0);
    for (node, says) in
        [("grid", "is the root of the network"), ("f9", "is no node of this community's network")]
    {
        street.write("other.toml", &SCHEDULE.replace("\"f1\"", &format!("\"{node}\"")));
        let other = line.replace("tariff.toml", "other.toml");
        street.call(&other).await.with(78).saying(&["[[network]] of node", says]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_edges_and_connections_reach_the_ledger_and_are_listed() {
    let street = Street::start(&AGREED).await;
    street.write(
        "limits.toml",
        "zone = \"Europe/Vienna\"\n[[envelope]]\nnode = \"f1\"\nfrom = \"2026-10-25T00:00\"\nuntil = \"2026-10-26\"\n\
         up_wh = 20000\n[[cap]]\nhome = \"h2\"\nfrom = 2026-10-25T12:00:00Z\nuntil = 2026-10-25T13:00:00Z\nimport_wh = 1050\n",
    );
    let publish = "community limits publish --operator-key operator.key --config node.toml";
    let done = street.call(&format!("{publish} limits.toml --output json")).await.with(0).json();
    assert_eq!((&done["entries"], &done["final"]), (&2.into(), &true.into()));
    let up = |time: &str| street.look(|ledger| ledger.envelope(&node("f1"), at(time)).unwrap());
    let limited = EnvelopePoint { up: Some(WattHours::new(20_000)), down: None };
    // A local day of 25 hours.
    assert_eq!([up("2026-10-24T22:00:00Z"), up("2026-10-25T22:45:00Z")], [limited, limited]);
    assert_eq!(up("2026-10-25T23:00:00Z").up, None);
    let cap = street.look(|ledger| ledger.connection_cap(&home("h2"), at("2026-10-25T12:45:00Z"))).unwrap();
    assert_eq!(cap, ConnectionSize { import: WattHours::new(1_050), ..ConnectionSize::default() });
    let whole = "community limits show --db h1/ledger.db --genesis genesis.toml";
    let shown = street.call(whole).await.with(0).stdout;
    assert!(shown.contains("edge f1") && shown.contains("import 1050 Wh, export not limited"), "{shown}");
    // The node of h1 does not list what the connection of h2 may carry.
    let own = street.call("community limits show --config node.toml").await.with(0);
    assert!(own.stdout.contains("edge f1") && !own.stdout.contains("h2"), "{}", own.stdout);
    assert!(!own.stdout.contains("1050") && own.stderr.contains("only that of home h1"), "{}", own.stderr);
    let json = street.call("community limits show --config node.toml --output json").await.with(0).json();
    assert_eq!(json["limits"][0]["until"], "2026-10-25T23:00:00Z");

    for (row, code, says) in [
        (
            "node,from,up_wh\nf1,2026-10-24T10:00:00Z,1",
            78,
            "edge f1: interval 2026-10-24T10:00:00Z has begun",
        ),
        ("node,from,up_wh\ngrid,2026-10-25,1", 78, "edge grid: it is the root"),
        ("node,from,up_wh\nf9,2026-10-25,1", 78, "edge f9: there is no such node"),
        ("home,from,import_wh\nh9,2026-10-25,1", 78, "home h9: it is no member"),
        ("home,from,import_wh\nh1,2026-10-25,2000000", 78, "home h1: a connection carries at most 1 MWh"),
        ("home,from,import_wh\nh1,2026-11-25,5", 1, "reach at most 8 days ahead"),
        ("home,from,import_wh\nh1,soon,5\nh1,2026-10-25,-1", 78, "limits.csv:3: \"-1\" is no whole number"),
    ] {
        street.write("limits.csv", row);
        street.call(&format!("{publish} limits.csv")).await.with(code).saying(&[says]);
    }
    let by_other = publish.replace("operator.key", "auditor.key");
    street
        .call(&format!("{by_other} limits.toml"))
        .await
        .with(78)
        .saying(&["key of this community's operator"]);
    let off = Street::with(&AGREED, |text| text.replace("\"posted\"", "\"off\"")).await;
    off.write("limits.csv", "node,from,up_wh\nf1,2026-10-25,1");
    off.call(&format!("{publish} limits.csv")).await.with(78).saying(&["trades nothing ahead"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contract_is_the_word_of_member_and_operator_whoever_begins() {
    let street = Street::start(&AGREED).await;
    let contract = |home_id: &str, time: &str| {
        street.look(|ledger| ledger.member(&home(home_id)).unwrap().contract_at(at(time)))
    };
    let begin = "community contract --home h1 --import-price 0.219 --config node.toml";
    street.call(begin).await.with(2).saying(&["--as-member or --operator-key"]);
    street
        .call(&format!("{begin} --as-member"))
        .await
        .with(2)
        .saying(&["the operator must sign too", "community countersign"]);
    street.call(&format!("{begin} --as-member --sign-only contract.txt")).await.with(0);
    let shown = street.call("community countersign contract.txt --show").await.with(0).stdout;
    assert!(shown.contains("import     219000 µ/kWh") && shown.contains("the community's"), "{shown}");
    street
        .call("community countersign contract.txt --as-member --config node.toml")
        .await
        .with(78)
        .saying(&["repeat a key"]);
    street
        .call("community countersign contract.txt --sign-also treasurer.key --config node.toml")
        .await
        .with(78)
        .saying(&["does not hold the key of this community's operator"]);
    street
        .call("community countersign contract.txt --sign-also operator.key --config node.toml")
        .await
        .with(0);
    let own = OwnContract { import_price: Some(Price::new(219_000)), export_price: None };
    assert_eq!(contract("h1", "2026-10-24T10:15:00Z"), own);
    street
        .call("community countersign contract.txt --sign-also operator.key --config node.toml")
        .await
        .with(1)
        .saying(&["is used already"]);

    let back =
        "community contract --home h1 --community-tariff --operator-key operator.key --config node.toml";
    street.call(back).await.with(2).saying(&["the member of home h1 must sign too: --as-member"]);
    street.call(&format!("{back} --sign-only back.txt")).await.with(0);
    assert_eq!(contract("h1", "2026-10-25T10:15:00Z"), own, "nothing was handed in");
    street.call("community countersign back.txt --as-member --config node.toml").await.with(0);
    assert_eq!(contract("h1", "2026-10-25T10:15:00Z"), OwnContract::default());

    street
        .call(&format!("{begin} --as-member --operator-key operator.key").replace("h1", "h2"))
        .await
        .with(78)
        .saying(&["the entry is about h2, this node serves h1"]);
    // What the operator begins for another home ends on that home's node.
    street.call(&format!("{back} --sign-only h2.txt").replace("h1", "h2")).await.with(0);
    street
        .call("community countersign h2.txt --as-member --config node.toml")
        .await
        .with(78)
        .saying(&["the entry is about h2"]);
    street
        .call("community countersign h2.txt --sign-also operator.key --config node.toml")
        .await
        .with(78)
        .saying(&["not signed by its author"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_change_from_an_interval_on_and_never_beyond_the_whole() {
    let street = Street::start(&AGREED).await;
    let signers = "--as-member --operator-key operator.key --config node.toml";
    let line = format!("community participation --home h1 --from 2026-10-26 --zone Europe/Vienna {signers}");
    let done = street.call(&format!("{line} --share 37.5 --output json")).await.with(0).json();
    assert_eq!(done["terms"]["from"], "2026-10-25T23:00:00Z");
    let part = |time: &str| {
        let part = street.look(|ledger| ledger.member(&home("h1")).unwrap().participation_at(at(time)));
        (part.share_permyriad, part.permille)
    };
    assert_eq!(
        [part("2026-10-25T22:45:00Z"), part("2026-10-25T23:00:00Z")],
        [(2_000, 1_000), (3_750, 1_000)]
    );
    street.call(&format!("{line} --part 80.5")).await.with(0);
    assert_eq!(part("2026-10-25T23:00:00Z"), (3_750, 805), "what is not said stays");
    for (wrong, code, says) in [
        ("--share 50.01", 1, "the ledger would refuse it"),
        ("--share 100.01", 2, "--share: 100.01 lies outside 0 to 100 %"),
        ("--part 80.55", 2, "more digits"),
        ("--share -1", 2, "unexpected argument"),
    ] {
        street.call(&format!("{line} {wrong}")).await.with(code).saying(&[says]);
    }
    let past = line.replace("2026-10-26 ", "2026-10-24T09:00:00Z ");
    street.call(&format!("{past} --part 1")).await.with(1).saying(&["the ledger would refuse it"]);
    let twice = line.replace("2026-10-26 ", "2026-10-25T02:30 ");
    street.call(&format!("{twice} --part 1")).await.with(2).saying(&["--from:", "twice on that day"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_leaves_from_an_interval_on_and_only_once() {
    let street = Street::start(&AGREED).await;
    let line = "community leave --home h1 --from 2026-10-26 --as-member --operator-key operator.key --config node.toml";
    street.call(line).await.with(0).saying(&["the balance stays until it is withdrawn"]);
    assert_eq!(street.look(|ledger| ledger.leaves(&home("h1"))), Some(at("2026-10-26T00:00:00Z")));
    street.call(line).await.with(1).saying(&["the ledger would refuse it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_left_is_not_billed_for_days_after() {
    let street = Street::start(&AGREED).await;
    street.write(
        "lines.toml",
        "[[line]]\nname = \"Meter\"\nbasis = \"day\"\nrate = 1000\npart = \"grid\"\nto = \"x\"\n",
    );
    street.until_the_first_settles();
    let bill = "bill --home h1 --month 2026-10 --db h1/ledger.db --genesis genesis.toml --lines lines.toml --output json";
    let before = street.call(bill).await.with(0).json();
    assert_eq!(before["bills"][0]["due"]["lines_n"], 8_000, "24 to 31 October");
    let leave = "community leave --home h1 --from 2026-10-26 --as-member --operator-key operator.key --config node.toml";
    street.call(leave).await.with(0);
    let after = street.call(bill).await.with(0).json();
    assert_eq!(after["bills"][0]["due"]["lines_n"], 2_000, "24 and 25 October");
    // Paid after the month: nothing was settled before the bill.
    assert_eq!((&after["money"], &after["bills"][0]["due"]["settled_n"]), (&"statement".into(), &0.into()));
}

/// Four quarter-hours of both homes.
fn delivery(of_h2: [u64; 4]) -> String {
    let mut text = "meter;from;to;import_kwh;export_kwh\n".to_owned();
    let start = Timestamp::parse("2026-10-24T09:00:00Z").unwrap();
    for (quarter, wh) in (0u64..).zip(of_h2) {
        let from = start.plus_ms(quarter * 900_000);
        let to = from.plus_ms(900_000);
        text +=
            &format!("m-h1;{from};{to};0;1,{quarter}\nm-h2;{from};{to};{},{:03};0\n", wh / 1_000, wh % 1_000);
    }
    text
}

const IMPORT: &str = "community readings import --metering-operator-key metering.key --config node.toml";

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_booked_once_replaced_while_it_waits_and_never_after_it_is_settled() {
    let street = Street::start(&AGREED).await;
    street.write("day.csv", &delivery([1_250, 300, 0, 80]));
    let import = format!("{IMPORT} day.csv --output json");
    let dry = street.call(&format!("{import} --dry-run")).await.with(0).json();
    assert_eq!((&dry["handed_in"], &dry["would_be_handed_in"]), (&0.into(), &8.into()));
    let first = street.call(&import).await.with(0).json();
    assert_eq!((&first["handed_in"], &first["entries"], &first["homes"]), (&8.into(), &2.into(), &2.into()));
    let again = street.call(&import).await.with(0).json();
    assert_eq!((&again["handed_in"], &again["booked_already"]), (&0.into(), &8.into()));
    street.write("day.csv", &delivery([1_250, 300, 5, 80]));
    let other = street.call(&import).await.with(0).json();
    assert_eq!((&other["handed_in"], &other["replaced"]), (&1.into(), &1.into()));
    // An hour after its end, the first quarter-hour settles.
    street.until_the_first_settles();
    street.write("day.csv", &delivery([1_251, 301, 5, 80]));
    let late = street.call(&import).await.with(3).json();
    assert_eq!((&late["handed_in"], late["differing"].as_array().unwrap().len()), (&1.into(), 1));
    assert_eq!(late["differing"][0]["settled"]["import_wh"], 1_250);
    street.call(&format!("{IMPORT} day.csv")).await.with(3).saying(&[
        "home h2 at 2026-10-24T09:00:00Z: settled with 1250 and 0 Wh, the file says 1251 and 0",
        "that takes a correction",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_one_direction_never_books_the_other_as_zero_by_itself() {
    let street = Street::start(&AGREED).await;
    let file = |direction: &str, wh: u64| {
        format!("home,start,{direction}_wh\nh2,2026-10-24T09:00:00Z,{wh}\nh2,2026-10-24T09:15:00Z,{wh}\n")
    };
    let booked = || {
        let db = BillingDb::open(
            &street.path("h1/ledger.db"),
            &genesis_file::load(&street.path("genesis.toml")).unwrap(),
        );
        let last = db.unwrap().operator_readings().unwrap().pop();
        last.map(|(_, _, points)| {
            points.iter().map(|it| (it.import.get(), it.export.get())).collect::<Vec<_>>()
        })
    };
    street.write("import.csv", &file("import", 400));
    street.call(&format!("{IMPORT} import.csv")).await.with(78).saying(&[
        "of the export of home h2 the file says nothing",
        "for 2 intervals from 2026-10-24T09:00:00Z on none is booked",
        "--missing-is-zero",
    ]);
    assert_eq!(booked(), None);
    street.call(&format!("{IMPORT} import.csv --missing-is-zero")).await.with(0);
    assert_eq!(booked(), Some(vec![(400, 0), (400, 0)]));
    street.write("export.csv", &file("export", 30));
    street.call(&format!("{IMPORT} export.csv")).await.with(0);
    assert_eq!(booked(), Some(vec![(400, 30), (400, 30)]), "the import stays");
    let again =
        street.call(&format!("{IMPORT} import.csv --missing-is-zero --output json")).await.with(0).json();
    assert_eq!((&again["handed_in"], &again["booked_already"]), (&0.into(), &2.into()));

    street.write("local.csv", "home,start,import_wh\nh2,2026-10-24 11:30,5\n");
    let local = format!("{IMPORT} local.csv --missing-is-zero");
    street.call(&local).await.with(78).saying(&["local.csv:2: \"2026-10-24 11:30\" has no offset", "--zone"]);
    street.call(&format!("{local} --zone Europe/Vienna")).await.with(0);
    assert_eq!(booked(), Some(vec![(5, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_cannot_be_used_is_refused_with_every_line_and_books_nothing() {
    let street = Street::start(&AGREED).await;
    let height = street.look(Ledger::height);
    let day = delivery([1, 2, 3, 4]);
    for (text, code, says) in [
        (day.replace("m-h2", "m-h9"), 78, "day.csv:3: \"m-h9\" is no home"),
        (
            day.replace("T09:45:00Z;2026-10-24T10:00", "T10:45:00Z;2026-10-24T11:00"),
            78,
            "ends after market time",
        ),
        (day.replace("0,004;0", "5000,000;0"), 78, "at most 1 MWh"),
        (
            day.clone() + "m-h1;2026-10-24T09:00:00Z;2026-10-24T09:15:00Z;0;0\n",
            78,
            "stands in line 2 already",
        ),
        (day.replace("2026-10-24T", "2026-10-23T"), 78, "is no member then"),
    ] {
        street.write("day.csv", &text);
        street.call(&format!("{IMPORT} day.csv")).await.with(code).saying(&[says]);
    }
    street.write("day.csv", &day);
    let by_other = IMPORT.replace("metering.key", "operator.key");
    street
        .call(&format!("{by_other} day.csv"))
        .await
        .with(78)
        .saying(&["key of this community's metering operator"]);
    assert_eq!(street.look(Ledger::height), height);
    let gap: String = day
        .lines()
        .filter(|line| !line.contains("T09:15:00Z;2026"))
        .map(|line| format!("{line}\n"))
        .collect();
    street.write("points.csv", "point,home\nAT001,h1\nAT002,h2\n");
    street
        .write("day.csv", &gap.replace("meter;", "point;").replace("m-h1", "AT001").replace("m-h2", "AT002"));
    street
        .call(&format!("{IMPORT} day.csv --points points.csv"))
        .await
        .with(0)
        .saying(&["home h2: nothing from 2026-10-24T09:15:00Z to 2026-10-24T09:30:00Z"]);
    let nodes =
        Street::with(&AGREED, |text| text.replace("reading_source = \"metering_operator\"", "")).await;
    nodes.write("day.csv", &day);
    nodes.call(&format!("{IMPORT} day.csv")).await.with(78).saying(&["the homes' own nodes read the meters"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_say_what_was_shared_and_what_is_only_provisional_and_bills_leave_that_out() {
    let street = Street::start(&AGREED).await;
    let ledger = "--db h1/ledger.db --genesis genesis.toml";
    let allocation = format!("community allocation --from 2026-10-24 {ledger}");
    street.call(&allocation).await.with(6).saying(&["nothing from 2026-10-24 on is settled"]);
    street.write("day.csv", &delivery([1_250, 300, 0, 80]));
    street.call(&format!("{IMPORT} day.csv")).await.with(0);
    street.until_the_first_settles();
    let ended =
        street.call(&allocation).await.with(0).saying(&["6 of 8 rows are provisional", "4 of 60 intervals"]);
    let rows: Vec<Vec<&str>> = ended.stdout.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 4 * 3);
    // h1 gave 1 000 Wh: its own share of 20 % is lost, h2 gets 50 %.
    let energies = |row: &[&str]| row[7..13].iter().map(|wh| wh.parse::<i64>().unwrap()).collect::<Vec<_>>();
    assert_eq!((rows[1][4], rows[1][5], rows[1][6], rows[1][13]), ("h1", "m-h1", "settled", "2000"));
    assert_eq!(energies(&rows[1]), [0, 0, 0, 1_000, 500, 500]);
    assert_eq!(energies(&rows[2]), [1_250, 500, 750, 0, 0, 0]);
    assert_eq!(
        (rows[3][0], rows[3][13], energies(&rows[3])),
        ("total", "7000", vec![1_250, 500, 750, 1_000, 500, 500])
    );
    assert!(rows[4..].iter().all(|row| row[6] == "provisional"));
    let json = street.call(&format!("{allocation} --format json")).await.with(0).json();
    assert_eq!(json["sharing"], "static-key, unused shares are lost");
    assert_eq!(json["intervals"][0]["import"]["community_wh"], 500);
    assert_eq!(json["intervals"][1]["status"], "provisional");

    let own = "community allocation --from 2026-10-24 --config node.toml";
    let own = street.call(own).await.with(0).saying(&["only home h1"]).stdout;
    assert_eq!(own.lines().count(), 1 + 4 * 2);
    assert!(!own.contains("h2") && own.lines().nth(2).unwrap().ends_with(",1000,500,500,2000,"), "{own}");

    let bill = format!("bill --home h2 --month 2026-10 {ledger}");
    let made = street.call(&format!("{bill} --output json")).await.with(0).json()["bills"][0].clone();
    assert_eq!((&made["intervals"]["settled"], &made["intervals"]["provisional"]), (&1.into(), &3.into()));
    // 500 Wh at the fixed 0.1, 750 at 0.25 and 0.01 of fees.
    let cost = 500 * 100_000 + 750 * 260_000;
    assert_eq!(made["due"]["energy_n"], cost);
    assert_eq!(
        (&made["credit"]["limit_n"], &made["credit"]["used_n"]),
        (&50_000_000_000_i64.into(), &cost.into())
    );
    let text = street.call(&bill).await.with(0).stdout;
    assert!(
        text.contains("Credit used, of 50.00") && text.contains("3 intervals have only provisional"),
        "{text}"
    );
    let table = street.call(&format!("{bill} --format csv")).await.with(0).stdout;
    street.write("bill.csv", &table);
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/recompute_bill.py");
    let output = Command::new("python3").arg(checker).arg("bill.csv").current_dir(street.path("")).output();
    let output = output.unwrap_or_else(|error| panic!("python3 is needed: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
