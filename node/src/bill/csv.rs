//! Bills as one CSV table from which anybody can recompute every amount.
//!
//! One row is one fact; `section` says what kind:
//!
//! | section | rows |
//! |---|---|
//! | `bill` | what the bill says of itself, as text |
//! | `register` | the meter at the bounds of the bill, Wh |
//! | `metered` | what the meter showed in an interval, by whose energy it was, Wh |
//! | `item` | what an interval came to: `quantity` (Wh) × `price` (µ/kWh) = `amount_n`; without a price where energy went over several distances or both ways at once |
//! | `line` | a configured line: `quantity` × `price` = `amount_n` (‰ of a subtotal rounded up; a month's charge by its days); `local_start` names the first and last day it is for |
//! | `total` | sums of items and lines by column |
//! | `due` | what there is to pay, and how it was rounded |
//! | `account` | the home's account; here an amount is positive where the home receives |
//! | `credit` | where members pay by statement: how far the account may go below zero, and how far it did |
//! | `incentive` | what an interval is due from outside under a sharing incentive: in no sum, positive where the home receives |
//!
//! Everywhere else an amount is positive where the home pays. Times are RFC 3339: UTC, and as clocks showed them.

use super::account::Account;
use super::items::{Billed, Nano};
use super::sheet::{Columns, Community, Line, Role, Sheet};

/// The columns, in order.
pub const HEADER: [&str; 14] = [
    "bill",
    "section",
    "item",
    "part",
    "interval_start",
    "local_start",
    "kind",
    "block",
    "quantity",
    "unit",
    "price",
    "amount_n",
    "text",
    "to",
];

/// One row; what is not said is empty.
#[derive(Debug, Clone, Default)]
struct Row {
    section: &'static str,
    item: String,
    part: &'static str,
    interval_start: String,
    local_start: String,
    kind: &'static str,
    block: String,
    quantity: String,
    unit: &'static str,
    price: String,
    amount: String,
    text: String,
    to: String,
}

/// All sheets as one table.
///
/// # Errors
/// What the writer says; a table in memory has none.
pub fn render(sheets: &[Sheet], community: &Community) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for sheet in sheets {
        for row in rows(sheet, community) {
            writer.write_record(row.fields(&sheet.number))?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn rows(sheet: &Sheet, community: &Community) -> Vec<Row> {
    let mut rows = about(sheet, community);
    rows.extend(registers(sheet));
    for outcome in &sheet.outcomes {
        rows.extend(metered(outcome, community));
        rows.extend(items(outcome, community));
        if sheet.recipient.role != Role::AssetOwner {
            rows.extend(incentive(outcome, community));
        }
    }
    rows.extend(lines(sheet));
    rows.extend(totals(sheet));
    rows.extend(due(sheet));
    rows.extend(sheet.account.iter().flat_map(|account| of_account(account, community)));
    if let Some((limit, used)) = sheet.credit(community) {
        rows.extend([amount_row("credit", "limit", limit), amount_row("credit", "used", used)]);
    }
    if sheet.incentive != 0 {
        rows.push(amount_row("incentive", "all", sheet.incentive));
    }
    rows
}

fn about(sheet: &Sheet, community: &Community) -> Vec<Row> {
    let days = sheet.spans.iter().map(|span| format!("{}/{}", span.first_day, span.last_day));
    let state = if sheet.is_final { "final" } else { "open" };
    let leg = if community.grid_is_outside { "outside" } else { "ledger" };
    let money = if community.credit.is_none() { "prepaid" } else { "statement" };
    [
        ("community", community.name.clone()),
        ("chain", community.chain.clone()),
        ("currency", community.currency.clone()),
        ("zone", community.zone.to_string()),
        ("supplier-leg", leg.to_owned()),
        ("money", money.to_owned()),
        ("home", sheet.home.to_string()),
        ("node", sheet.node.clone()),
        ("month", sheet.month.to_string()),
        ("days", days.collect::<Vec<_>>().join(" ")),
        ("state", state.to_owned()),
        ("provisional", sheet.provisional.to_string()),
        ("recipient", sheet.recipient.name.clone()),
        ("role", sheet.recipient.role.word().to_owned()),
    ]
    .map(|(item, text)| Row { section: "bill", item: item.to_owned(), text, ..Row::default() })
    .to_vec()
}

fn registers(sheet: &Sheet) -> Vec<Row> {
    let mut rows = Vec::new();
    for span in &sheet.spans {
        for (place, day, at) in
            [("opening", span.first_day, &span.opening), ("closing", span.last_day, &span.closing)]
        {
            let read = at.read.iter().map(|(import, export, serial)| ("", *import, *export, serial.clone()));
            let agreed =
                at.agreed.iter().map(|(import, export)| ("agreed-", *import, *export, String::new()));
            for (source, import, export, serial) in read.chain(agreed) {
                for (direction, wh) in [("import", import), ("export", export)] {
                    rows.push(Row {
                        section: "register",
                        item: format!("{source}{place}-{direction}"),
                        local_start: day.to_string(),
                        quantity: wh.to_string(),
                        unit: "Wh",
                        text: serial.clone(),
                        ..Row::default()
                    });
                }
            }
        }
    }
    rows
}

fn of_outcome(outcome: &Billed, community: &Community, section: &'static str) -> Row {
    let start = outcome.interval.start();
    Row {
        section,
        interval_start: start.to_string(),
        local_start: community.zone.rfc3339(start),
        kind: outcome.kind.word(),
        block: outcome.height.to_string(),
        unit: "Wh",
        ..Row::default()
    }
}

fn metered(outcome: &Billed, community: &Community) -> Vec<Row> {
    let energy = outcome.energy;
    let parts = [
        ("import", "community", energy.import.community),
        ("import", "grid", energy.import.grid),
        ("export", "community", energy.export.community),
        ("export", "grid", energy.export.grid),
    ];
    let row = |(item, part, wh): (&str, &'static str, i64)| Row {
        item: item.to_owned(),
        part,
        quantity: wh.to_string(),
        ..of_outcome(outcome, community, "metered")
    };
    parts.into_iter().filter(|(_, _, wh)| *wh != 0).map(row).collect()
}

fn items(outcome: &Billed, community: &Community) -> Vec<Row> {
    let row = |item: &super::items::Item| Row {
        item: item.what.word().to_owned(),
        part: item.what.part().word(),
        quantity: item.wh.to_string(),
        price: item.price.map(|price| price.to_string()).unwrap_or_default(),
        amount: item.charge.to_string(),
        ..of_outcome(outcome, community, "item")
    };
    outcome.items.iter().map(row).collect()
}

fn incentive(outcome: &Billed, community: &Community) -> Option<Row> {
    let row = || Row {
        item: "interval".to_owned(),
        amount: outcome.incentive.to_string(),
        unit: "",
        ..of_outcome(outcome, community, "incentive")
    };
    (outcome.incentive != 0).then(row)
}

fn lines(sheet: &Sheet) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in &sheet.lines {
        let days = days(line);
        for (part, quantity, charge) in [
            ("community", line.quantity.community, line.charge.community),
            ("grid", line.quantity.grid, line.charge.grid),
        ] {
            if (quantity, charge) != (0, 0) {
                rows.push(Row {
                    section: "line",
                    item: line.spec.basis.word().to_owned(),
                    part,
                    local_start: days.clone(),
                    quantity: quantity.to_string(),
                    unit: line.unit(),
                    price: line.spec.rate.to_string(),
                    amount: charge.to_string(),
                    text: line.spec.name.name.clone(),
                    to: line.spec.to.clone(),
                    ..Row::default()
                });
            }
        }
    }
    rows
}

/// The days that a fixed charge is for; the days on which any other line holds, open where it has no bound.
fn days(line: &Line) -> String {
    if line.spec.basis.is_fixed() {
        let days: Vec<String> = line.days.iter().map(|(first, last)| format!("{first}/{last}")).collect();
        return days.join(" ");
    }
    let bound = |day: Option<chrono::NaiveDate>| day.map(|day| day.to_string()).unwrap_or_default();
    let last = line.spec.until.and_then(|until| until.pred_opt());
    format!("{}/{}", bound(line.spec.from), bound(last))
}

fn totals(sheet: &Sheet) -> Vec<Row> {
    let sums = [("energy", sheet.charges()), ("lines", sheet.line_charges()), ("all", sheet.total())];
    let row = |item: &str, part, amount: Nano| Row {
        section: "total",
        item: item.to_owned(),
        part,
        amount: amount.to_string(),
        ..Row::default()
    };
    let rows = |(item, columns): (&str, Columns)| {
        [
            row(item, "community", columns.community),
            row(item, "grid", columns.grid),
            row(item, "total", columns.total()),
        ]
    };
    sums.into_iter().flat_map(rows).collect()
}

fn due(sheet: &Sheet) -> Vec<Row> {
    let due = sheet.due;
    let amounts = [
        ("energy", due.energy),
        ("lines", due.lines),
        ("settled", due.settled),
        ("carried-in", due.carried_in),
        ("exact", due.exact),
        ("due", due.due),
        ("carried-out", due.carried_out),
    ];
    amounts.map(|(item, amount)| amount_row("due", item, amount)).to_vec()
}

fn of_account(account: &Account, community: &Community) -> Vec<Row> {
    let row = |item: &str, amount| amount_row("account", item, amount);
    let mut rows = vec![row("opening", account.opening)];
    rows.extend(account.settled.iter().map(|(kind, amount)| row(kind, *amount)));
    rows.extend(account.transfers.iter().map(|transfer| Row {
        interval_start: transfer.booked.to_string(),
        local_start: community.zone.rfc3339(transfer.booked),
        text: transfer.reference.clone().unwrap_or_default(),
        ..row(if transfer.amount < 0 { "withdrawal" } else { "deposit" }, transfer.amount)
    }));
    rows.extend([
        row("claims-paid", -account.claims_paid),
        row("held", -account.held),
        row("received", account.received),
        row("closing", account.closing),
        row("owed-before", -account.owed.opening),
        row("owed-after", -account.owed.closing()),
        row("credited-before", account.credited.opening),
        row("credited-after", account.credited.closing()),
    ]);
    rows
}

fn amount_row(section: &'static str, item: &str, amount: Nano) -> Row {
    Row { section, item: item.to_owned(), amount: amount.to_string(), ..Row::default() }
}

impl Row {
    fn fields(self, bill: &str) -> [String; 14] {
        [
            bill.to_owned(),
            self.section.to_owned(),
            self.item,
            self.part.to_owned(),
            self.interval_start,
            self.local_start,
            self.kind.to_owned(),
            self.block,
            self.quantity,
            self.unit.to_owned(),
            self.price,
            self.amount,
            inert(self.text),
            inert(self.to),
        ]
    }
}

/// A spreadsheet computes what begins so; a name or a bank's reference must stay text.
fn inert(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_formula() {
        assert_eq!(inert("=1+1".to_owned()), "'=1+1");
        assert_eq!(inert("Li Wei".to_owned()), "Li Wei");
    }
}
