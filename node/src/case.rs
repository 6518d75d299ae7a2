//! `commonwatt clear` and `commonwatt match`: one auction or one interval's matching, from a JSON case to its JSON result.
//!
//! For users, for teaching, and for checks by independent programs. Quantities are Wh in the interval, prices µ/kWh, amounts n
//! (positive: the home receives). The input order is kept. Whatever is wrong with a case is refused with its place: line and
//! column where it is not JSON of the right shape, otherwise a path such as `orders[3].node` and its line.

use energy::{Money, NodeId, Price, WattHours};
use market::{
    Clearing, HomeMatch, MarketError, MatchHome, Matching, Network, NetworkError, NodeIndex, NodeSpec, Order,
    Side, Supplier, Tariff, clear, match_neighbours,
};
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

/// The largest case taken, in bytes: about half a million orders.
pub const CASE_BYTES_MAX: usize = 64 << 20;

/// A case is refused.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Longer than [`CASE_BYTES_MAX`].
    #[error("the case has {0} bytes; at most {CASE_BYTES_MAX} are taken")]
    TooLarge(usize),
    /// Not JSON, or not of the right shape. The message ends with line and column.
    #[error("not a case: {0}")]
    Shape(serde_json::Error),
    /// A value that makes no sense.
    #[error("{path}{}: {message}", line.map(|line| format!(" (line {line})")).unwrap_or_default())]
    Value {
        /// Where, e.g. `orders[3].node`.
        path: String,
        /// The line on which the element begins, if the path leads into a list.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// An amount does not fit a JSON integer.
    #[error("an amount of {0} does not fit a JSON integer")]
    AmountTooLarge(Money),
}

/// Clears one auction, as `commonwatt clear` does.
///
/// # Errors
/// [`CaseError`].
pub fn clear_case(text: &str) -> Result<Value, CaseError> {
    let case: ClearCase = parse(text)?;
    clear_parsed(&case).map_err(|fault| fault.at_line(text))
}

/// Matches one interval, as `commonwatt match` does.
///
/// # Errors
/// [`CaseError`].
pub fn match_case(text: &str) -> Result<Value, CaseError> {
    let case: MatchCase = parse(text)?;
    match_parsed(&case).map_err(|fault| fault.at_line(text))
}

/// Quantities and limits are read signed, so that a negative one is refused by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearCase {
    grid: Option<CaseSupplier>,
    nodes: Vec<CaseNode>,
    orders: Vec<CaseOrder>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchCase {
    grid: CaseTariff,
    nodes: Vec<CaseNode>,
    homes: Vec<CaseHome>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseSupplier {
    import_price: i64,
    export_price: i64,
    import_limit: Option<i64>,
    export_limit: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseTariff {
    import_price: i64,
    export_price: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseNode {
    id: String,
    parent: Option<String>,
    fee_up: Option<i64>,
    fee_down: Option<i64>,
    up_wh: Option<i64>,
    down_wh: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseOrder {
    id: String,
    node: String,
    side: CaseSide,
    price: i64,
    qty: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum CaseSide {
    Buy,
    Sell,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseHome {
    id: String,
    node: String,
    import_wh: i64,
    export_wh: i64,
    min_sell: Option<i64>,
    max_buy: Option<i64>,
    import_price: Option<i64>,
    export_price: Option<i64>,
    buy_cap_wh: Option<i64>,
}

fn parse<'a, Case: Deserialize<'a>>(text: &'a str) -> Result<Case, CaseError> {
    if text.len() > CASE_BYTES_MAX {
        return Err(CaseError::TooLarge(text.len()));
    }
    serde_json::from_str(text).map_err(CaseError::Shape)
}

/// What is wrong, and where in the case.
enum Fault {
    /// In an element of a list.
    Element {
        list: &'static str,
        index: usize,
        field: &'static str,
        message: String,
    },
    /// Elsewhere.
    Field {
        path: &'static str,
        message: String,
    },
    Amount(Money),
}

impl Fault {
    fn element(list: &'static str, index: usize, field: &'static str, message: &impl ToString) -> Self {
        Self::Element { list, index, field, message: message.to_string() }
    }

    fn field(path: &'static str, message: &impl ToString) -> Self {
        Self::Field { path, message: message.to_string() }
    }

    fn at_line(self, text: &str) -> CaseError {
        match self {
            Self::Amount(amount) => CaseError::AmountTooLarge(amount),
            Self::Field { path, message } => CaseError::Value { path: path.to_owned(), line: None, message },
            Self::Element { list, index, field, message } => {
                let dot = if field.is_empty() { "" } else { "." };
                let path = format!("{list}[{index}]{dot}{field}");
                CaseError::Value { path, line: line_of(text, list, index), message }
            }
        }
    }
}

fn clear_parsed(case: &ClearCase) -> Result<Value, Fault> {
    let supplier = case.grid.as_ref().map(supplier).transpose()?;
    let network = network(&case.nodes)?;
    let order = |(index, order): (usize, &CaseOrder)| {
        Ok(Order {
            id: order.id.clone(),
            node: node_of(&network, "orders", index, &order.node)?,
            side: match order.side {
                CaseSide::Buy => Side::Buy,
                CaseSide::Sell => Side::Sell,
            },
            price: Price::new(order.price),
            quantity: energy("orders", index, "qty", order.qty)?,
        })
    };
    let orders = case.orders.iter().enumerate().map(order).collect::<Result<Vec<_>, Fault>>()?;
    let clearing = clear(&network, &orders, supplier.as_ref()).map_err(|error| refused(&error))?;
    clearing_value(&network, case, &clearing)
}

fn match_parsed(case: &MatchCase) -> Result<Value, Fault> {
    let (import, export) = (case.grid.import_price, case.grid.export_price);
    check_prices(import, export)?;
    let tariff = Tariff { import_price: Price::new(import), export_price: Price::new(export) };
    let network = network(&case.nodes)?;
    let homes = case.homes.iter().enumerate().map(|(index, home)| match_home(&network, index, home));
    let homes = homes.collect::<Result<Vec<_>, Fault>>()?;
    let matching = match_neighbours(&network, &tariff, &homes).map_err(|error| refused(&error))?;
    matching_value(&network, case, &matching)
}

fn match_home(network: &Network, index: usize, home: &CaseHome) -> Result<MatchHome<String>, Fault> {
    let energy = |field, value| energy("homes", index, field, value);
    Ok(MatchHome {
        id: home.id.clone(),
        node: node_of(network, "homes", index, &home.node)?,
        import: energy("import_wh", home.import_wh)?,
        export: energy("export_wh", home.export_wh)?,
        min_sell: home.min_sell.map(Price::new),
        max_buy: home.max_buy.map(Price::new),
        import_price: home.import_price.map(Price::new),
        export_price: home.export_price.map(Price::new),
        buy_cap: home.buy_cap_wh.map(|cap| energy("buy_cap_wh", cap)).transpose()?,
    })
}

fn supplier(grid: &CaseSupplier) -> Result<Supplier, Fault> {
    check_prices(grid.import_price, grid.export_price)?;
    let limit = |path, limit: Option<i64>| {
        limit.map(|limit| not_negative(limit).map_err(|message| Fault::field(path, &message))).transpose()
    };
    Ok(Supplier {
        import_price: Price::new(grid.import_price),
        export_price: Price::new(grid.export_price),
        import_limit: limit("grid.import_limit", grid.import_limit)?,
        export_limit: limit("grid.export_limit", grid.export_limit)?,
    })
}

fn check_prices(import: i64, export: i64) -> Result<(), Fault> {
    if import < export {
        return Err(Fault::field(
            "grid.import_price",
            &format!("{import} is below the export price {export}"),
        ));
    }
    Ok(())
}

fn network(nodes: &[CaseNode]) -> Result<Network, Fault> {
    let specs = nodes.iter().enumerate().map(|(index, node)| node_spec(index, node));
    Network::new(&specs.collect::<Result<Vec<_>, Fault>>()?).map_err(|error| no_network(&error))
}

fn node_spec(index: usize, node: &CaseNode) -> Result<NodeSpec, Fault> {
    let id =
        |field, text: &str| NodeId::new(text).map_err(|error| Fault::element("nodes", index, field, &error));
    let limit =
        |field, limit: Option<i64>| limit.map(|limit| energy("nodes", index, field, limit)).transpose();
    Ok(NodeSpec {
        id: id("id", &node.id)?,
        parent: node.parent.as_deref().map(|parent| id("parent", parent)).transpose()?,
        fee_up: Price::new(node.fee_up.unwrap_or(0)),
        fee_down: Price::new(node.fee_down.unwrap_or(0)),
        up: limit("up_wh", node.up_wh)?,
        down: limit("down_wh", node.down_wh)?,
    })
}

fn node_of(network: &Network, list: &'static str, index: usize, name: &str) -> Result<NodeIndex, Fault> {
    let node = NodeId::new(name).ok().and_then(|id| network.index_of(&id));
    node.ok_or_else(|| Fault::element(list, index, "node", &format!("there is no node {name:?}")))
}

fn energy(list: &'static str, index: usize, field: &'static str, value: i64) -> Result<WattHours, Fault> {
    not_negative(value).map_err(|message| Fault::element(list, index, field, &message))
}

fn not_negative(value: i64) -> Result<WattHours, String> {
    u64::try_from(value).map(WattHours::new).map_err(|_| format!("{value} is below zero"))
}

/// Where in the case a network is at fault.
fn no_network(error: &NetworkError) -> Fault {
    let (index, field) = match *error {
        // The last two are about changes of a network, which a case has none of.
        NetworkError::Empty
        | NetworkError::TooManyNodes { .. }
        | NetworkError::UnknownNode { .. }
        | NetworkError::GivenTwice { .. } => return Fault::field("nodes", error),
        NetworkError::DuplicateId { index, .. } => (index, "id"),
        NetworkError::NegativeFee { index, field, .. } | NetworkError::FeeTooHigh { index, field, .. } => {
            (index, field)
        }
        NetworkError::UnknownParent { index, .. }
        | NetworkError::SecondRoot { index, .. }
        | NetworkError::NoRoot { index, .. }
        | NetworkError::Cycle { index, .. } => (index, "parent"),
    };
    Fault::element("nodes", index, field, error)
}

/// Where in the case the market found something it refuses.
fn refused(error: &MarketError) -> Fault {
    let list = |what: &str| if what.starts_with("order") { "orders" } else { "homes" };
    match *error {
        MarketError::TooMany { what, .. } => Fault::field(list(what), error),
        MarketError::UnknownNode { what, index, .. } => Fault::element(list(what), index, "node", error),
        MarketError::DuplicateId { what, second, .. } => Fault::element(list(what), second, "id", error),
        MarketError::PriceOutOfRange { what: "supplier" | "tariff", .. } => Fault::field("grid", error),
        MarketError::PriceOutOfRange { what, index, field, .. } => {
            Fault::element(list(what), index, field, error)
        }
        MarketError::TooMuchEnergy { what, index } => {
            let field = if what == "orders" { "qty" } else { "" };
            Fault::element(list(what), index, field, error)
        }
        MarketError::SupplierPricesCrossed { .. } => Fault::field("grid.import_price", error),
        // Settlement only; a case has none.
        MarketError::TwoSidedPosition { index } | MarketError::NegativeBalance { index } => {
            Fault::element("homes", index, "", error)
        }
        MarketError::ParticipationTooHigh { index, .. } => Fault::element("homes", index, "", error),
        MarketError::SharesTooHigh { .. }
        | MarketError::NegativePayment { .. }
        | MarketError::ForwardUnbalanced(_)
        | MarketError::Quantity(_) => Fault::field("case", error),
    }
}

fn clearing_value(network: &Network, case: &ClearCase, clearing: &Clearing) -> Result<Value, Fault> {
    let mut flows = by_node(network, clearing.flows.iter().map(|flow| (*flow).into()));
    if let Some(root) = network.id(network.root()) {
        // The root has no edge.
        flows.shift_remove(root.as_str());
    }
    let fill = |(order, fill): (&CaseOrder, &WattHours)| json!({"id": order.id, "qty": fill.get()});
    Ok(json!({
        "prices": by_node(network, clearing.prices.iter().map(|price| price.map(Price::get).into())),
        "flows": flows,
        "fills": case.orders.iter().zip(&clearing.fills).map(fill).collect::<Vec<_>>(),
        "grid": {"import": clearing.import.get(), "export": clearing.export.get()},
        "fees": amount(clearing.fees)?,
        "congestion_rent": amount(clearing.congestion_rent)?,
        "welfare": amount(clearing.welfare)?,
    }))
}

fn matching_value(network: &Network, case: &MatchCase, matching: &Matching) -> Result<Value, Fault> {
    let homes = case.homes.iter().zip(&matching.homes).map(|(home, result)| home_value(home, result));
    Ok(json!({
        "homes": homes.collect::<Result<Vec<_>, Fault>>()?,
        "matched": by_node(network, matching.matched.iter().map(|wh| wh.get().into())),
        "fees": amount(matching.fees)?,
        "supplier": {
            "import_wh": matching.supplier_import.get(),
            "export_wh": matching.supplier_export.get(),
            "amount": amount(matching.supplier_amount)?,
        },
    }))
}

fn home_value(home: &CaseHome, result: &HomeMatch) -> Result<Value, Fault> {
    let total = result.amount().map_err(|error| Fault::field("homes", &error))?;
    Ok(json!({
        "id": home.id,
        "sold_wh": result.sold.get(),
        "bought_wh": result.bought.get(),
        "local_amount": amount(result.local_amount)?,
        "supplier_import_wh": result.supplier_import.get(),
        "supplier_export_wh": result.supplier_export.get(),
        "supplier_amount": amount(result.supplier_amount)?,
        "amount": amount(total)?,
    }))
}

fn by_node(network: &Network, values: impl Iterator<Item = Value>) -> Map<String, Value> {
    network.specs().iter().map(|node| node.id.to_string()).zip(values).collect()
}

fn amount(money: Money) -> Result<Number, Fault> {
    Number::from_i128(money.get()).ok_or(Fault::Amount(money))
}

/// The line on which the `index`-th element of a top-level list begins. `text` is known to be JSON.
fn line_of(text: &str, list: &str, index: usize) -> Option<usize> {
    let (mut line, mut depth, mut key, mut elements) = (1usize, 0usize, "", None);
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        // The first byte of an element, once inside the list.
        if depth == 2 && elements == Some(index) && !byte.is_ascii_whitespace() {
            return Some(line);
        }
        match byte {
            b'\n' => line += 1,
            b'"' => {
                let end = string_end(&mut bytes)?;
                if depth == 1 {
                    key = &text[at + 1..end];
                }
            }
            b'[' if depth == 1 && key == list => (depth, elements) = (2, Some(0)),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                elements = elements.filter(|_| depth >= 2);
            }
            b',' if depth == 2 => elements = elements.map(|count: usize| count + 1),
            _ => {}
        }
    }
    None
}

/// Reads a JSON string after its opening quote, up to and with its closing quote, and returns the latter's place.
fn string_end(bytes: &mut impl Iterator<Item = (usize, u8)>) -> Option<usize> {
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at),
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
    None
}
