//! Every case file gives its exact result.

use std::path::Path;

use energy::{Money, NodeId, Price, WattHours};
use market::{
    Clearing, MatchHome, Matching, Network, NodeIndex, NodeSpec, Order, Side, Supplier, Tariff, clear,
    match_neighbours,
};
use serde_json::{Map, Value, json};

#[test]
fn every_auction_case_clears_to_its_exact_result() {
    check_all("auction", 62, |case| {
        let network = network(case);
        let orders: Vec<_> = list(case, "orders").iter().map(|value| order(&network, value)).collect();
        let supplier = case.get("grid").map(supplier);
        clearing(&network, &orders, &clear(&network, &orders, supplier.as_ref()).unwrap())
    });
}

#[test]
fn every_auction_case_clears_the_same_from_permuted_orders_and_nodes() {
    check_all("auction", 62, |case| {
        let mut case = case.clone();
        case["orders"].as_array_mut().unwrap().reverse();
        case["nodes"].as_array_mut().unwrap().reverse();
        let network = network(&case);
        let orders: Vec<_> = list(&case, "orders").iter().map(|value| order(&network, value)).collect();
        let supplier = case.get("grid").map(supplier);
        let mut result = clearing(&network, &orders, &clear(&network, &orders, supplier.as_ref()).unwrap());
        result["fills"].as_array_mut().unwrap().reverse();
        result
    });
}

#[test]
fn every_matching_case_matches_to_its_exact_result() {
    check_all("matching", 40, |case| {
        let network = network(case);
        let homes: Vec<_> = list(case, "homes").iter().map(|value| home(&network, value)).collect();
        matching(&network, &homes, &match_neighbours(&network, &tariff(&case["grid"]), &homes).unwrap())
    });
}

#[test]
fn every_matching_case_matches_the_same_from_permuted_homes_and_nodes() {
    check_all("matching", 40, |case| {
        let mut case = case.clone();
        case["homes"].as_array_mut().unwrap().reverse();
        case["nodes"].as_array_mut().unwrap().reverse();
        let network = network(&case);
        let homes: Vec<_> = list(&case, "homes").iter().map(|value| home(&network, value)).collect();
        let result = match_neighbours(&network, &tariff(&case["grid"]), &homes).unwrap();
        let mut result = matching(&network, &homes, &result);
        result["homes"].as_array_mut().unwrap().reverse();
        result
    });
}

/// Runs all `count` files of a folder and compares whole results.
fn check_all(folder: &str, count: usize, run: impl Fn(&Value) -> Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(folder);
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let (got, expected) = (run(&file["case"]), &file["expected"]);
        assert_eq!(&got, expected, "{}\n got {got}\nwant {expected}", path.display());
        checked += 1;
    }
    assert_eq!(checked, count, "a case file is missing or not counted");
}

fn list<'a>(case: &'a Value, key: &str) -> &'a [Value] {
    case[key].as_array().unwrap()
}

fn price(value: &Value) -> Option<Price> {
    value.as_i64().map(Price::new)
}

fn energy(value: &Value) -> Option<WattHours> {
    value.as_u64().map(WattHours::new)
}

fn network(case: &Value) -> Network {
    let nodes: Vec<_> = list(case, "nodes").iter().map(node).collect();
    Network::new(&nodes).unwrap()
}

fn node(value: &Value) -> NodeSpec {
    NodeSpec {
        id: NodeId::new(value["id"].as_str().unwrap()).unwrap(),
        parent: value["parent"].as_str().map(|parent| NodeId::new(parent).unwrap()),
        fee_up: price(&value["fee_up"]).unwrap_or_default(),
        fee_down: price(&value["fee_down"]).unwrap_or_default(),
        up: energy(&value["up_wh"]),
        down: energy(&value["down_wh"]),
    }
}

fn node_of(network: &Network, value: &Value) -> NodeIndex {
    network.index_of(&NodeId::new(value["node"].as_str().unwrap()).unwrap()).unwrap()
}

fn order(network: &Network, value: &Value) -> Order<String> {
    Order {
        id: value["id"].as_str().unwrap().to_owned(),
        node: node_of(network, value),
        side: if value["side"] == "buy" { Side::Buy } else { Side::Sell },
        price: price(&value["price"]).unwrap(),
        quantity: energy(&value["qty"]).unwrap(),
    }
}

fn supplier(grid: &Value) -> Supplier {
    Supplier {
        import_price: price(&grid["import_price"]).unwrap(),
        export_price: price(&grid["export_price"]).unwrap(),
        import_limit: energy(&grid["import_limit"]),
        export_limit: energy(&grid["export_limit"]),
    }
}

fn tariff(grid: &Value) -> Tariff {
    Tariff {
        import_price: price(&grid["import_price"]).unwrap(),
        export_price: price(&grid["export_price"]).unwrap(),
    }
}

fn home(network: &Network, value: &Value) -> MatchHome<String> {
    MatchHome {
        id: value["id"].as_str().unwrap().to_owned(),
        node: node_of(network, value),
        import: energy(&value["import_wh"]).unwrap(),
        export: energy(&value["export_wh"]).unwrap(),
        min_sell: price(&value["min_sell"]),
        max_buy: price(&value["max_buy"]),
        import_price: price(&value["import_price"]),
        export_price: price(&value["export_price"]),
        buy_cap: energy(&value["buy_cap_wh"]),
    }
}

fn number(money: Money) -> Value {
    i64::try_from(money.get()).unwrap().into()
}

fn by_node(network: &Network, values: impl Iterator<Item = Value>) -> Map<String, Value> {
    network.specs().iter().map(|node| node.id.to_string()).zip(values).collect()
}

fn clearing(network: &Network, orders: &[Order<String>], clearing: &Clearing) -> Value {
    let prices = clearing.prices.iter().map(|price| price.map_or(Value::Null, |price| price.get().into()));
    let mut flows = by_node(network, clearing.flows.iter().map(|flow| (*flow).into()));
    assert_eq!(flows.remove(network.id(network.root()).unwrap().as_str()), Some(json!(0)));
    let fills = orders.iter().zip(&clearing.fills);
    json!({
        "prices": by_node(network, prices),
        "flows": flows,
        "fills": fills.map(|(order, fill)| json!({"id": order.id, "qty": fill.get()})).collect::<Vec<_>>(),
        "grid": {"import": clearing.import.get(), "export": clearing.export.get()},
        "fees": number(clearing.fees),
        "congestion_rent": number(clearing.congestion_rent),
        "welfare": number(clearing.welfare),
    })
}

fn matching(network: &Network, homes: &[MatchHome<String>], matching: &Matching) -> Value {
    let home = |(home, result): (&MatchHome<String>, &market::HomeMatch)| {
        json!({
            "id": home.id,
            "sold_wh": result.sold.get(),
            "bought_wh": result.bought.get(),
            "local_amount": number(result.local_amount),
            "supplier_import_wh": result.supplier_import.get(),
            "supplier_export_wh": result.supplier_export.get(),
            "supplier_amount": number(result.supplier_amount),
            "amount": number(result.amount().unwrap()),
        })
    };
    json!({
        "homes": homes.iter().zip(&matching.homes).map(home).collect::<Vec<_>>(),
        "matched": by_node(network, matching.matched.iter().map(|wh| wh.get().into())),
        "fees": number(matching.fees),
        "supplier": {
            "import_wh": matching.supplier_import.get(),
            "export_wh": matching.supplier_export.get(),
            "amount": number(matching.supplier_amount),
        },
    })
}
