//! `commonwatt clear` and `commonwatt match`: every case file gives its exact result, every bad case its place.
#![expect(clippy::unwrap_used, reason = "a malformed case file is a failed test")]

use std::path::Path;

use node::case::{CaseError, clear_case, match_case};
use serde_json::Value;

#[test]
fn every_auction_case_gives_its_exact_result() {
    check_all("auction", 62, clear_case);
}

#[test]
fn every_matching_case_gives_its_exact_result() {
    check_all("matching", 40, match_case);
}

fn check_all(folder: &str, count: usize, run: fn(&str) -> Result<Value, CaseError>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../market/tests/cases").join(folder);
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(run(&file["case"].to_string()).unwrap(), file["expected"], "{}", path.display());
        checked += 1;
    }
    assert_eq!(checked, count, "a case file is missing or not counted");
}

#[test]
fn the_input_order_is_kept() {
    let result = clear_case(
        r#"{"nodes": [{"id": "z", "parent": null}, {"id": "a", "parent": "z"}],
            "orders": [{"id": "2", "node": "a", "side": "sell", "price": 1, "qty": 5},
                       {"id": "1", "node": "z", "side": "buy", "price": 3, "qty": 4}]}"#,
    );
    assert_eq!(
        result.unwrap().to_string(),
        concat!(
            r#"{"prices":{"z":1,"a":1},"flows":{"a":4},"fills":[{"id":"2","qty":4},{"id":"1","qty":4}],"#,
            r#""grid":{"import":0,"export":0},"fees":0,"congestion_rent":0,"welfare":8}"#
        )
    );
}

/// Each line is one bad case and the message it must give.
#[test]
fn a_bad_auction_case_is_refused_with_its_place() {
    let node = r#"{"id": "grid", "parent": null}"#;
    let order = r#"{"id": "a", "node": "grid", "side": "buy", "price": 1, "qty": 1}"#;
    let case =
        |nodes: &str, orders: &str| format!("{{\"nodes\": [\n{nodes}\n],\n\"orders\": [\n{orders}\n]}}");
    let checks = [
        (
            case(
                node,
                &format!("{order},\n{}", order.replace(r#""grid""#, r#""lv""#).replace(r#""a""#, r#""b""#)),
            ),
            r#"orders[1].node (line 6): there is no node "lv""#,
        ),
        (
            case(node, &format!("{order},\n\n{order}")),
            "orders[1].id (line 7): order 1 has the same id as order 0",
        ),
        (
            case(node, &order.replace(r#""qty": 1"#, r#""qty": -1"#)),
            "orders[0].qty (line 5): -1 is below zero",
        ),
        (
            case(node, &order.replace(r#""price": 1"#, r#""price": 1000000000001"#)),
            "orders[0].price (line 5): price of order 0 is 1000000000001 µ/kWh, beyond ±1000000000000 µ/kWh",
        ),
        (
            case(&format!("{node},\n{node}"), order),
            "nodes[1].id (line 3): node 1 has the same id grid as node 0",
        ),
        (
            case(&format!("{node},\n{{\"id\": \"two\", \"parent\": null}}"), order),
            "nodes[1].parent (line 3): node 1 (two) is a second root beside node 0 (grid); give it a parent",
        ),
        (
            case(r#"{"id": "grid", "parent": "grid"}"#, order),
            "nodes[0].parent (line 2): no node is the root: every node has a parent, so node 0 (grid) is on a cycle",
        ),
        (
            case(&format!("{node},\n{{\"id\": \"x\", \"parent\": \"y\"}}"), order),
            "nodes[1].parent (line 3): the parent y of node 1 (x) does not exist",
        ),
        (
            case(&format!("{node},\n{{\"id\": \"x\", \"parent\": \"grid\", \"fee_up\": -2}}"), order),
            "nodes[1].fee_up (line 3): fee_up of node 1 (x) is -2 µ/kWh; a fee is never below zero",
        ),
        (
            case(&format!("{node},\n{{\"id\": \"x\", \"parent\": \"grid\", \"down_wh\": -3}}"), order),
            "nodes[1].down_wh (line 3): -3 is below zero",
        ),
        (case("", ""), "nodes: a network needs at least one node, the root"),
        (
            format!(
                r#"{{"grid": {{"import_price": 1, "export_price": 2}}, "nodes": [{node}], "orders": []}}"#
            ),
            "grid.import_price: 1 is below the export price 2",
        ),
        (
            format!(
                r#"{{"grid": {{"import_price": 2, "export_price": 1, "export_limit": -1}}, "nodes": [{node}], "orders": []}}"#
            ),
            "grid.export_limit: -1 is below zero",
        ),
        (
            case(node, &order.replace(r#""qty""#, r#""quantity""#)),
            "not a case: unknown field `quantity`, expected one of `id`, `node`, `side`, `price`, `qty` at line 5 column 65",
        ),
        (
            case(node, &order.replace("buy", "hold")),
            "not a case: unknown variant `hold`, expected `buy` or `sell` at line 5 column 42",
        ),
        (case(node, "{"), "not a case: key must be a string at line 6 column 1"),
    ];
    for (case, message) in checks {
        assert_eq!(clear_case(&case).unwrap_err().to_string(), message, "{case}");
    }
}

#[test]
fn a_bad_matching_case_is_refused_with_its_place() {
    let case = |grid: &str, home: &str| {
        format!(
            "{{\"grid\": {grid},\n\"nodes\": [{{\"id\": \"grid\", \"parent\": null}}],\n\"homes\": [{home},\n{}]}}",
            r#"{"id": "h", "node": "grid", "import_wh": 1, "export_wh": 1}"#
        )
    };
    let (grid, home) =
        (r#"{"import_price": 2, "export_price": 1}"#, |fields: &str| format!("{{\"id\": \"g\", {fields}}}"));
    let checks = [
        (
            case(grid, &home(r#""node": "x[,\"]", "import_wh": 1, "export_wh": 1"#)),
            r#"homes[0].node (line 3): there is no node "x[,\"]""#,
        ),
        (
            case(grid, &home(r#""node": "grid", "import_wh": 1, "export_wh": -1"#)),
            "homes[0].export_wh (line 3): -1 is below zero",
        ),
        (
            case(grid, &home(r#""node": "grid", "import_wh": 1, "export_wh": 1, "buy_cap_wh": -7"#)),
            "homes[0].buy_cap_wh (line 3): -7 is below zero",
        ),
        (
            case(grid, r#"{"id": "h", "node": "grid", "import_wh": 1, "export_wh": 1}"#),
            "homes[1].id (line 4): home 1 has the same id as home 0",
        ),
        (
            case(
                r#"{"import_price": 1, "export_price": 2}"#,
                &home(r#""node": "grid", "import_wh": 1, "export_wh": 1"#),
            ),
            "grid.import_price: 1 is below the export price 2",
        ),
        (
            case(r#"{"import_price": 1}"#, &home(r#""node": "grid", "import_wh": 1, "export_wh": 1"#)),
            "not a case: missing field `export_price` at line 1 column 28",
        ),
    ];
    for (case, message) in checks {
        assert_eq!(match_case(&case).unwrap_err().to_string(), message, "{case}");
    }
}

#[test]
fn a_case_beyond_the_size_limit_is_refused_before_it_is_read() {
    let blanks = " ".repeat(node::case::CASE_BYTES_MAX + 1);
    assert!(matches!(clear_case(&blanks), Err(CaseError::TooLarge(_))));
}

#[test]
fn an_amount_that_json_cannot_hold_is_refused_not_rounded() {
    let case = r#"{"nodes": [{"id": "grid", "parent": null}],
        "orders": [{"id": "b", "node": "grid", "side": "buy", "price": 1000000000000, "qty": 1000000000},
                   {"id": "s", "node": "grid", "side": "sell", "price": 0, "qty": 1000000000}]}"#;
    let error = clear_case(case).unwrap_err().to_string();
    assert_eq!(error, "an amount of 1000000000000000000000 n does not fit a JSON integer");
}

#[test]
fn the_examples_that_the_readme_names_can_be_computed() {
    let example = |name: &str| {
        let path = format!("{}/../docs/examples/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    assert_eq!(clear_case(&example("auction.json")).unwrap()["prices"]["lane"], 100_000);
    assert_eq!(match_case(&example("matching.json")).unwrap()["matched"]["lane"], 200);
}
