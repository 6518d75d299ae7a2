//! The market as text for a terminal.

use api::{
    CommunityBook, Depth, EntryContent, EntryState, ForwardMode, GateRow, GateState, HistoryTotals,
    MarketBook, MarketCurve, MarketHistory, MarketRules, OrderEntry, OrderRow, OrderState, OrderTerms, Time,
};

/// Columns of a plot, without its labels.
const PLOT_COLUMNS: usize = 41;

/// A price per kWh, e.g. `0.165`.
pub fn price(micro: i64) -> String {
    decimal(micro, 6, 3)
}

/// An amount with all its digits, e.g. `-0.0495`.
pub fn money(amount_n: i64) -> String {
    decimal(amount_n, 9, 2)
}

fn decimal(value: i64, digits: usize, shown: usize) -> String {
    let unit = 10_u64.pow(u32::try_from(digits).unwrap_or(9));
    let (sign, value) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
    let fraction = format!("{:0digits$}", value % unit);
    let used = fraction.trim_end_matches('0').len().max(shown);
    format!("{sign}{}.{}", value / unit, fraction.get(..used).unwrap_or(&fraction))
}

fn minutes(ms: u64) -> String {
    match ms / 60_000 {
        whole if whole >= 120 && whole % 60 == 0 => format!("{} h", whole / 60),
        whole => format!("{whole} min"),
    }
}

/// Names and values in two columns.
fn pairs(rows: &[(&str, String)]) -> Vec<String> {
    rows.iter().map(|(name, value)| format!("{name:<16} {value}")).collect()
}

/// A table with a head; columns are as wide as their widest cell.
fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head.get(column).map_or(0, |name| name.chars().count())]).max().unwrap_or(0)
    };
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().enumerate().map(|(at, cell)| format!("{cell:<width$}", width = width(at)));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    [line(head.to_vec())].into_iter().chain(body).collect()
}

/// The rules.
pub fn rules(rules: &MarketRules) -> Vec<String> {
    let mut lines = pairs(&[
        ("home", format!("{} at {}", rules.home, rules.node)),
        ("market time", rules.market_time.to_string()),
        ("interval", format!("{} min", rules.mtu_minutes)),
        ("forward", forward(rules.forward).to_owned()),
    ]);
    if rules.forward != ForwardMode::Off {
        lines.extend(order_rules(&rules.orders));
    }
    lines.extend(settlement_rules(rules));
    lines.push(String::new());
    lines.extend(edges(rules));
    lines.push(String::new());
    lines.extend(coming(rules));
    lines
}

const fn forward(mode: ForwardMode) -> &'static str {
    match mode {
        ForwardMode::Off => "off: neighbours share what was metered",
        ForwardMode::Posted => "posted: orders meet at the middle of the supplier's prices, nearest first",
        ForwardMode::Auction => "auction: one sealed auction at each gate",
    }
}

fn order_rules(orders: &OrderTerms) -> Vec<String> {
    let window = format!(
        "from {} before the start until {} before; at least {} Wh",
        minutes(orders.opens_ms),
        minutes(orders.gate_ms),
        orders.min_wh
    );
    let freeze = minutes(orders.freeze_ms);
    let limits = format!(
        "{} open orders and {} changes an interval, {} entries an hour ({} left)",
        orders.open_max, orders.changes_max, orders.entries_per_hour, orders.entries_left
    );
    pairs(&[
        ("orders", window),
        ("freeze", format!("no smaller or worse order in the last {freeze} before the gate")),
        ("limits", limits),
        ("envelope", format!("{} ‰ of an edge's limit where none is published", orders.envelope_permille)),
    ])
}

fn settlement_rules(rules: &MarketRules) -> Vec<String> {
    let (currency, settlement) = (&rules.currency, &rules.settlement);
    let account = format!(
        "{}; balance {} {currency}, reserved {}, free {}",
        settlement.money,
        money(rules.balance_n),
        money(rules.reserved_n),
        money(rules.free_n)
    );
    let caps = format!("{} to {} {currency}/kWh", price(settlement.price_min), price(settlement.price_max));
    pairs(&[
        ("sharing", sharing(rules)),
        ("settled", format!("{} after an interval's end", minutes(settlement.due_after_ms))),
        ("readings", format!("of the {}", settlement.reading_source)),
        ("supplier leg", settlement.supplier_leg.clone()),
        ("losses", settlement.losses.clone()),
        ("money", account),
        ("price caps", caps),
        (
            "connection",
            format!("takes {} Wh, gives {} Wh an interval", rules.import_max_wh, rules.export_max_wh),
        ),
    ])
}

/// How neighbours share, and this home's part in it.
fn sharing(rules: &MarketRules) -> String {
    let of = &rules.settlement;
    let price = of.sharing_price.map(|at| format!(" at {} {}/kWh", price(at), rules.currency));
    let detail = of.unused.as_deref().map(|unused| format!("; unused shares are {unused}"));
    let detail = detail.or_else(|| of.division.as_deref().map(|to| format!("; to {to}")));
    let part = match of.sharing.as_str() {
        "neighbour" => String::new(),
        _ => format!(
            "; this home: {} of 10 000 shares, {} ‰ of its energy takes part",
            rules.share_permyriad, rules.participation_permille
        ),
    };
    format!("{}{}{}{part}", of.sharing, price.unwrap_or_default(), detail.unwrap_or_default())
}

fn edges(rules: &MarketRules) -> Vec<String> {
    let limit = |wh: Option<u64>| wh.map_or_else(|| "-".to_owned(), |wh| wh.to_string());
    let row = |edge: &api::Edge| {
        vec![
            format!("{}{}", edge.node, if edge.own { " *" } else { "" }),
            edge.parent.clone().unwrap_or_else(|| "-".to_owned()),
            price(edge.fee_up),
            price(edge.fee_down),
            limit(edge.up_wh),
            limit(edge.down_wh),
        ]
    };
    let rows: Vec<_> = rules.edges.iter().map(row).collect();
    let head = ["network (* own)", "to", "fee up", "fee down", "up Wh", "down Wh"];
    table(&head, &rows)
}

fn coming(rules: &MarketRules) -> Vec<String> {
    let row = |it: &api::IntervalTerms| {
        vec![
            it.start.to_string(),
            it.gate.to_string(),
            price(it.export_price),
            price(it.local_price),
            price(it.import_price),
            format!("{} to {}", price(it.lowest), price(it.highest)),
            format!("{}/{}{}", it.import_max_wh, it.export_max_wh, if it.capped { " capped" } else { "" }),
        ]
    };
    let rows: Vec<_> = rules.next.iter().map(row).collect();
    table(&["start", "gate", "pays", "middle", "charges", "order limits", "takes/gives Wh"], &rows)
}

/// The book.
pub fn book(book: &MarketBook) -> Vec<String> {
    let mut lines = Vec::new();
    let row = |order: &api::OpenOrder| {
        vec![
            order.interval_start.to_string(),
            order.side.word().to_owned(),
            order.quantity_wh.to_string(),
            price(order.price),
            money(order.reserve_n),
            order.freezes.to_string(),
            order.changes_left.to_string(),
            order.id.clone(),
        ]
    };
    let rows: Vec<_> = book.orders.iter().map(row).collect();
    if rows.is_empty() {
        lines.push("no open orders".to_owned());
    } else {
        let head = ["interval", "side", "Wh", "limit", "reserved", "cancel until", "changes", "id"];
        lines.extend(table(&head, &rows));
    }
    lines.extend(book.pending.iter().map(|pending| format!("waits for a block: {}", entry(pending))));
    for position in &book.positions {
        lines.push(format!(
            "{}  sold {} Wh, bought {} Wh for {}, reserved {}",
            position.interval_start,
            position.sold_wh,
            position.bought_wh,
            money(position.amount_n),
            money(position.reserve_n)
        ));
    }
    lines.extend(book.community.as_ref().map(community));
    lines
}

fn community(book: &CommunityBook) -> String {
    let side = |name: &str, depth: Option<Depth>| match depth {
        Some(Depth { homes, quantity_wh }) => format!("{name} {quantity_wh} Wh of {homes} homes"),
        None => format!("{name} not shown"),
    };
    let hint = if book.buy.is_none() || book.sell.is_none() {
        " (totals are shown from 5 homes up, none with more than 15 %)"
    } else {
        ""
    };
    format!(
        "{}  community: {}, {}{hint}",
        book.interval_start,
        side("buy", book.buy),
        side("sell", book.sell)
    )
}

/// One entry of the order desk in a line.
pub fn entry(entry: &OrderEntry) -> String {
    let what = match &entry.content {
        EntryContent::Order { interval_start, side, price: limit, quantity_wh, .. } => {
            format!("{} {quantity_wh} Wh at {} for {interval_start}", side.word(), price(*limit))
        }
        EntryContent::Cancel { order } => format!("cancel of {order}"),
    };
    let state = match (entry.state, entry.height, &entry.reason) {
        (EntryState::Final, Some(height), _) => format!("in block {height}"),
        (EntryState::Refused, _, Some(reason)) => format!("refused: {reason}"),
        (EntryState::Refused, ..) => "refused".to_owned(),
        _ => "pending".to_owned(),
    };
    format!("{what}, {state}, id {}", entry.id)
}

/// What a gate came to, with a plot of the prices between those of the supplier.
pub fn curve(curve: &MarketCurve) -> Vec<String> {
    let state = match curve.state {
        GateState::Early => "orders are not taken yet",
        GateState::Open => "orders are taken",
        GateState::Cleared => "cleared",
        GateState::Void => "void: its block came after the start, nothing was traded",
        GateState::Empty => "closed without an order",
    };
    let mut lines = pairs(&[
        ("interval", curve.interval_start.to_string()),
        ("gate", format!("{} ({state})", curve.gate)),
        (
            "supplier",
            format!(
                "pays {}, charges {} {}/kWh at this home, fees included",
                price(curve.lowest),
                price(curve.highest),
                curve.currency
            ),
        ),
    ]);
    if let Some(gate) = &curve.result {
        let shown =
            |figure: Option<String>| figure.unwrap_or_else(|| "not shown (anonymity rule)".to_owned());
        lines.extend(pairs(&[
            ("volume", shown(gate.volume_wh.map(|wh| format!("{wh} Wh")))),
            ("orders", shown(gate.orders.map(|orders| orders.to_string()))),
        ]));
    }
    lines.extend(plot(curve));
    lines.extend(curve.own.iter().map(order));
    lines
}

/// Each known price as a mark between what the supplier pays and charges.
fn plot(curve: &MarketCurve) -> Vec<String> {
    let mut marks = vec![("middle".to_owned(), curve.local_price)];
    if let Some(gate) = &curve.result {
        marks.extend(gate.price.map(|price| ("gate".to_owned(), price)));
        marks.extend(gate.prices.iter().map(|node| (node.node.clone(), node.price)));
        let is_listed = gate.prices.iter().any(|node| Some(node.price) == gate.own_price);
        marks.extend(gate.own_price.filter(|_| !is_listed).map(|price| ("own node".to_owned(), price)));
    }
    let fills = curve.own.iter().filter_map(|order| order.fill_price);
    marks.extend(fills.map(|price| ("own fill".to_owned(), price)));
    let values = || marks.iter().map(|(_, price)| *price).chain([curve.lowest, curve.highest]);
    let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
    let name = marks.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let scale = format!("{:name$}  {:<20}{:>21}", "", price(low), price(high));
    let row = |(label, at): &(String, i64)| {
        let column = column_of(*at, low, high);
        let bar: String = (0..PLOT_COLUMNS).map(|place| if place == column { '●' } else { '·' }).collect();
        format!("{label:name$}  {bar}  {}", price(*at))
    };
    [scale].into_iter().chain(marks.iter().map(row)).collect()
}

/// The column of a price on a plot from `low` to `high`.
fn column_of(at: i64, low: i64, high: i64) -> usize {
    let (at, span) = (i128::from(at) - i128::from(low), i128::from(high) - i128::from(low));
    let last = PLOT_COLUMNS - 1;
    let column = (at * i128::try_from(last).unwrap_or(0) + span / 2).checked_div(span).unwrap_or(0);
    usize::try_from(column).unwrap_or(0).min(last)
}

fn order(row: &OrderRow) -> String {
    let fill = match row.state {
        OrderState::Filled | OrderState::Partly => {
            let at = row.fill_price.map(|at| format!(" at {}", price(at))).unwrap_or_default();
            format!(
                ", {} Wh{at} for {}, with the supplier {}",
                row.filled_wh,
                money(row.amount_n),
                money(row.supplier_n)
            )
        }
        _ => String::new(),
    };
    format!(
        "{}  {} {} Wh, limit {}: {}{fill}  {}",
        row.interval_start,
        row.side.word(),
        row.quantity_wh,
        price(row.price),
        row.state.word(),
        row.id
    )
}

/// The history.
pub fn history(history: &MarketHistory) -> Vec<String> {
    let mut lines: Vec<String> = history.orders.iter().map(order).collect();
    if history.next_cursor.is_some() {
        lines.push("… more orders before these; --limit shows them".to_owned());
    }
    if !history.gates.is_empty() {
        let rows: Vec<_> = history.gates.iter().map(gate_row).collect();
        lines.push(String::new());
        lines.extend(table(&["gate of", "price", "own node", "volume Wh", "orders", "block"], &rows));
    }
    for breach in &history.breaches {
        lines.push(format!(
            "{}  over the operator's cap: took {} of {} Wh, gave {} of {} Wh",
            breach.interval_start,
            breach.import_wh,
            breach.import_max_wh,
            breach.export_wh,
            breach.export_max_wh
        ));
    }
    lines.push(String::new());
    lines.extend(totals(&history.totals, history.since, &history.currency));
    lines
}

fn gate_row(gate: &GateRow) -> Vec<String> {
    let shown = |figure: Option<String>| figure.unwrap_or_else(|| "-".to_owned());
    vec![
        gate.interval_start.to_string(),
        if gate.void { "void".to_owned() } else { shown(gate.price.map(price)) },
        shown(gate.own_price.map(price)),
        shown(gate.volume_wh.map(|wh| wh.to_string())),
        shown(gate.orders.map(|orders| orders.to_string())),
        gate.height.to_string(),
    ]
}

fn totals(totals: &HistoryTotals, since: Time, currency: &str) -> Vec<String> {
    pairs(&[
        ("since", since.to_string()),
        ("orders", format!("{}, of them traded {}", totals.orders, totals.filled)),
        ("traded ahead", format!("sold {} Wh, bought {} Wh", totals.sold_wh, totals.bought_wh)),
        ("came to", format!("{} {currency}", money(totals.amount_n))),
        ("supplier alone", format!("{} {currency}", money(totals.supplier_n))),
        ("gain", format!("{} {currency}", money(totals.gain_n))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_digits_and_their_sign() {
        assert_eq!((price(165_000).as_str(), price(-50_001).as_str()), ("0.165", "-0.050001"));
        assert_eq!((money(-49_500_000).as_str(), money(1).as_str()), ("-0.0495", "0.000000001"));
        assert_eq!((minutes(300_000).as_str(), minutes(172_800_000).as_str()), ("5 min", "48 h"));
    }

    #[test]
    fn a_plot_marks_every_price_inside_its_frame() {
        assert_eq!(column_of(80, 80, 260), 0);
        assert_eq!(column_of(170, 80, 260), 20);
        assert_eq!(column_of(260, 80, 260), 40);
        assert_eq!(column_of(5, 5, 5), 0, "all prices equal");
        assert_eq!(column_of(i64::MAX, i64::MIN, i64::MAX), 40);
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells_and_ends_without_spaces() {
        let lines = table(&["a", "name"], &[vec!["long cell".to_owned(), "x".to_owned()]]);
        assert_eq!(lines, ["a          name", "long cell  x"]);
    }
}
