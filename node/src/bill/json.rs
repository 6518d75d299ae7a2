//! Bills as JSON: the same figures as the printed sheet. Intervals are in the CSV.

use serde_json::{Value, json};

use super::items::Split;
use super::sheet::{Columns, Community, Group, Line, Registers, Sheet, Span};

/// All sheets as one object. Amounts are in n, positive where the home pays; in `account`, where the home receives.
#[must_use]
pub fn render(sheets: &[Sheet], community: &Community) -> Value {
    json!({
        "schema_version": 1,
        "community": community.name,
        "currency": community.currency,
        "chain": community.chain,
        "zone": community.zone.to_string(),
        "money": if community.credit.is_none() { "prepaid" } else { "statement" },
        "supplier_leg": if community.grid_is_outside { "outside" } else { "ledger" },
        "bills": sheets.iter().map(|it| sheet(it, community)).collect::<Vec<_>>(),
    })
}

fn sheet(sheet: &Sheet, community: &Community) -> Value {
    let due = sheet.due;
    json!({
        "number": sheet.number,
        "home": sheet.home.as_str(),
        "node": sheet.node,
        "month": sheet.month.to_string(),
        "recipient": { "name": sheet.recipient.name, "role": sheet.recipient.role.word() },
        "days": sheet.spans.iter().map(span).collect::<Vec<_>>(),
        "final": sheet.is_final,
        "settled_until": sheet.settled_until.map(|until| until.to_string()),
        "intervals": {
            "settled": sheet.counts.settled,
            "unread": sheet.counts.unread,
            "late": sheet.counts.late,
            "corrections": sheet.counts.corrections,
            "provisional": sheet.provisional,
        },
        "import_wh": split(sheet.energy.import),
        "export_wh": split(sheet.energy.export),
        "items": sheet.groups.iter().map(group).collect::<Vec<_>>(),
        "lines": sheet.lines.iter().map(line).collect::<Vec<_>>(),
        "energy_n": columns(sheet.charges()),
        "lines_n": columns(sheet.line_charges()),
        "total_n": columns(sheet.total()),
        "due": {
            "energy_n": nano(due.energy),
            "lines_n": nano(due.lines),
            "settled_n": nano(due.settled),
            "carried_in_n": nano(due.carried_in),
            "exact_n": nano(due.exact),
            "due_n": nano(due.due),
            "carried_out_n": nano(due.carried_out),
        },
        "account": sheet.account.as_ref().map(account),
        "credit": sheet.credit(community).map(|(limit, used)| {
            json!({ "limit_n": nano(limit), "used_n": nano(used) })
        }),
        "incentive_n": nano(sheet.incentive),
    })
}

/// A number where it fits 64 bits, as every amount of a home does; else its digits.
fn nano(amount: i128) -> Value {
    i64::try_from(amount).map_or_else(|_| json!(amount.to_string()), |amount| json!(amount))
}

fn columns(columns: Columns) -> Value {
    json!({
        "total": nano(columns.total()),
        "community": nano(columns.community),
        "grid": nano(columns.grid),
    })
}

fn split(split: Split) -> Value {
    json!({ "total": split.total(), "community": split.community, "grid": split.grid })
}

fn span(span: &Span) -> Value {
    json!({
        "first": span.first_day.to_string(),
        "last": span.last_day.to_string(),
        "opening": registers(&span.opening),
        "closing": registers(&span.closing),
    })
}

fn registers(registers: &Registers) -> Value {
    let agreed = registers.agreed.map(|(import, export)| json!({ "import_wh": import, "export_wh": export }));
    let read = registers.read.as_ref().map(
        |(import, export, serial)| json!({ "import_wh": import, "export_wh": export, "serial": serial }),
    );
    json!({ "read": read, "agreed": agreed })
}

fn group(group: &Group) -> Value {
    json!({
        "item": group.what.word(),
        "part": group.what.part().word(),
        "wh": group.wh,
        "price": group.price,
        "amount_n": nano(group.charge),
        "intervals": group.items,
    })
}

fn line(line: &Line) -> Value {
    json!({
        "name": line.spec.name.name,
        "basis": line.spec.basis.word(),
        "to": line.spec.to,
        "rate": line.spec.rate,
        "unit": line.unit(),
        "quantity": columns(line.quantity),
        "amount_n": columns(line.charge),
    })
}

fn account(account: &super::account::Account) -> Value {
    let settled: serde_json::Map<String, Value> =
        account.settled.iter().map(|(kind, amount)| (kind.clone(), nano(*amount))).collect();
    let transfer = |transfer: &super::account::Transfer| {
        json!({
            "booked": transfer.booked.to_string(),
            "amount_n": nano(transfer.amount),
            "reference": transfer.reference,
        })
    };
    json!({
        "opening_n": nano(account.opening),
        "settled_n": settled,
        "transfers": account.transfers.iter().map(transfer).collect::<Vec<_>>(),
        "claims_paid_n": nano(account.claims_paid),
        "held_n": nano(account.held),
        "received_n": nano(account.received),
        "closing_n": nano(account.closing),
        "owed_n": nano(account.owed.closing()),
        "credited_n": nano(account.credited.closing()),
    })
}
