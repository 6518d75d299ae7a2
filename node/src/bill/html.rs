//! A bill as a page to print: A4, complete in one file, nothing fetched from anywhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::figures;
use super::items::{Nano, Split};
use super::sheet::{Columns, Community, Sheet};
use super::table::{AmountRow, CostRow, Table};
use super::terms::Issuer;
use super::words::{Language, fill, words};

const STYLE: &str = include_str!("bill.css");
/// Amounts are paid in cents; digits beyond are printed paler.
const CENTS: usize = 2;

/// All sheets, and a cover before them if there is more than one.
#[must_use]
pub fn render(sheets: &[Sheet], community: &Community, issuer: &Issuer, language: Language) -> String {
    let words = words(language);
    let month = sheets.first().map(|sheet| sheet.month.to_string()).unwrap_or_default();
    let tables: Vec<Table<'_>> = sheets.iter().map(|sheet| Table { sheet, community, language }).collect();
    let page = html! {
        (DOCTYPE)
        html lang=(language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (words.title) " " (month) " · " (community.name) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                @if sheets.len() > 1 { (cover(&tables, issuer, &month)) }
                @for table in &tables { (sheet(table, issuer)) }
            }
        }
    };
    page.into_string()
}

fn cover(tables: &[Table<'_>], issuer: &Issuer, month: &str) -> Markup {
    let Some(first) = tables.first() else { return html! {} };
    let words = first.words();
    let sum: Nano = tables.iter().map(|table| table.sheet.due.due).sum();
    html! {
        article.sheet.cover {
            (letterhead(first, issuer, words.cover_title, month))
            table.figures.wide {
                thead { tr { th { (words.sheet) } th { (words.home) } th { (words.recipient) } th.n { (words.to_pay) } } }
                tbody {
                    @for table in tables {
                        tr {
                            th scope="row" { (table.sheet.number) }
                            td { (table.sheet.home) }
                            td { (table.sheet.recipient.name) span.note { (words.role(table.sheet.recipient.role)) } }
                            td.n { (money(table.sheet.due.due, CENTS)) }
                        }
                    }
                }
                tfoot {
                    tr.sum {
                        th scope="row" colspan="3" { (fill(words.together, &[&tables.len().to_string()])) }
                        td.n { (money(sum, CENTS)) }
                    }
                }
            }
        }
    }
}

fn sheet(table: &Table<'_>, issuer: &Issuer) -> Markup {
    let words = table.words();
    html! {
        article.sheet {
            (letterhead(table, issuer, words.title, &table.sheet.month.to_string()))
            section.top {
                (address(table))
                (result(table))
            }
            (energy(table))
            (costs(table))
            (settlement(table))
            (how(table))
            footer {
                @if table.sheet.due.due > 0 && !issuer.payment.is_empty() {
                    p.payment { strong { (words.payment) } " " (issuer.payment.join(" · ")) }
                }
                p { (table.counts()) " " (fill(words.verify, &[&table.community.chain])) }
            }
        }
    }
}

fn letterhead(table: &Table<'_>, issuer: &Issuer, title: &str, month: &str) -> Markup {
    let name =
        issuer.name.as_ref().map_or(table.community.name.as_str(), |name| name.text(table.is_chinese()));
    html! {
        header.letterhead {
            div {
                p.issuer { (name) }
                @for line in &issuer.address { p.small { (line) } }
            }
            div.title { h1 { (title) } p.month { (month) } }
        }
    }
}

fn address(table: &Table<'_>) -> Markup {
    let (words, sheet) = (table.words(), table.sheet);
    html! {
        div.address {
            p.recipient { (sheet.recipient.name) }
            p.small { (words.role(sheet.recipient.role)) }
            dl {
                dt { (words.home) } dd { (sheet.home) ", " (words.connected) " " (sheet.node) }
                dt { (words.number) } dd { (sheet.number) }
                dt { (words.period) } dd { (table.period()) span.note { (table.community.zone) } }
                dt { (words.state) } dd { (table.state()) }
            }
        }
    }
}

/// The two figures people look for: what the month cost, and what there is to pay.
fn result(table: &Table<'_>) -> Markup {
    let (words, due) = (table.words(), table.sheet.due);
    let cost = if table.community.grid_is_outside {
        table.sheet.total().community
    } else {
        table.sheet.total().total()
    };
    let symbol = figures::symbol(&table.community.currency);
    let shown = |amount: Nano| format!("{symbol}{}", figures::amount(rounded(amount), CENTS));
    html! {
        div.result {
            p.label { (if cost < 0 { words.month_earned } else { words.month_cost }) }
            p.cost { (shown(cost.abs())) }
            p.label { (if due.due < 0 { words.to_receive } else { words.to_pay }) }
            p.due { (shown(due.due.abs())) }
            @if due.settled > 0 { p.small { (words.already_paid) } }
        }
    }
}

/// To the nearest cent, half away from zero: for a sentence, never for a sum.
const fn rounded(amount: Nano) -> Nano {
    const CENT: Nano = 10_000_000;
    (amount + CENT / 2) / CENT * CENT
}

fn energy(table: &Table<'_>) -> Markup {
    let words = table.words();
    let rows = [(words.taken, table.sheet.energy.import), (words.given, table.sheet.energy.export)];
    html! {
        section {
            table.figures.columns {
                (columns(table, words.energy))
                tbody {
                    @for (name, split) in rows {
                        tr {
                            th scope="row" { (name) }
                            @for wh in [split.total(), split.community, split.grid] {
                                td.n { @if wh == 0 { span.none { "–" } } @else { (figures::kwh(wh)) } }
                            }
                        }
                    }
                }
            }
            div.bars {
                (bar(table, words.of_taken, table.sheet.energy.import))
                (bar(table, words.of_given, table.sheet.energy.export))
            }
            @let registers = table.registers();
            @if !registers.is_empty() {
                dl.registers {
                    @for (name, value) in registers { dt { (name) } dd { (value) } }
                }
            }
        }
    }
}

/// What share was the neighbours' and what the supplier's.
fn bar(table: &Table<'_>, title: &str, split: Split) -> Markup {
    let words = table.words();
    let (community, total) =
        (split.community.max(0), split.community.max(0).saturating_add(split.grid.max(0)));
    if total == 0 {
        return html! {};
    }
    // Per mille, so that the two always fill the bar.
    let permille = i128::from(community) * 1_000 / i128::from(total);
    let percent = |permille: i128| format!("{} %", (permille + 5) / 10);
    html! {
        figure.bar {
            figcaption { (title) }
            svg viewBox="0 0 1000 14" preserveAspectRatio="none" role="img" aria-label=(title) {
                rect.community x="0" y="0" width=(permille) height="14" {}
                rect.grid x=(permille) y="0" width=(1_000 - permille) height="14" {}
            }
            p.legend {
                span.key.community { (words.community_short) " " (percent(permille)) }
                span.key.grid { (words.grid_short) " " (percent(1_000 - permille)) }
            }
        }
    }
}

fn costs(table: &Table<'_>) -> Markup {
    let (words, places) = (table.words(), table.places());
    html! {
        section {
            table.figures.columns {
                (columns(table, &fill(words.cost, &[&table.community.currency])))
                tbody { @for row in table.costs() { (cost_row(table, &row, places)) } }
                tfoot { (cost_row(table, &table.sum_all(), places)) }
            }
            @if table.community.grid_is_outside { p.small { (words.outside) } }
        }
    }
}

fn cost_row(table: &Table<'_>, row: &CostRow, places: usize) -> Markup {
    let Columns { community, grid } = row.amount;
    html! {
        tr {
            th scope="row" {
                (row.name)
                @if let Some(to) = &row.to { span.note { (fill(table.words().payable_to, &[to])) } }
            }
            @for amount in [row.amount.total(), community, grid] { td.n { (cell(amount, places)) } }
        }
    }
}

fn columns(table: &Table<'_>, title: &str) -> Markup {
    let words = table.words();
    html! {
        thead {
            tr {
                th scope="col" { (title) }
                th.n scope="col" { (words.total) }
                th.n scope="col" { (words.community) }
                th.n scope="col" { (words.grid) }
            }
        }
    }
}

fn settlement(table: &Table<'_>) -> Markup {
    let (words, due, places) = (table.words(), table.sheet.due, table.places());
    let account = table.account();
    html! {
        section.pair {
            div {
                h2 { (words.settlement) }
                table.figures {
                    tbody { @for row in table.due() { (amount_row(&row, places)) } }
                    tfoot {
                        tr { th scope="row" { (words.due_rounded) } td.n { (money(due.due, CENTS)) } }
                    }
                }
                @if due.carried_out != 0 {
                    table.figures { tbody { (amount_row(&(words.due_next.to_owned(), due.carried_out), places)) } }
                }
            }
            @if !account.is_empty() {
                div {
                    h2 { (fill(words.account, &[&table.community.currency])) }
                    table.figures {
                        tbody { @for row in account.iter().take(account.len() - 1) { (amount_row(row, places)) } }
                        tfoot { @if let Some(row) = account.last() { (amount_row(row, places)) } }
                    }
                    @let debts = table.debts();
                    @if !debts.is_empty() {
                        table.figures { tbody { @for row in &debts { (amount_row(row, places)) } } }
                    }
                }
            }
        }
    }
}

fn amount_row((name, amount): &AmountRow, places: usize) -> Markup {
    html! { tr { th scope="row" { (name) } td.n { (money(*amount, places)) } } }
}

fn how(table: &Table<'_>) -> Markup {
    let (words, places, rows) = (table.words(), table.places(), table.how());
    if rows.is_empty() {
        return html! {};
    }
    html! {
        section.how {
            h2 { (words.how) }
            table.figures {
                thead {
                    tr {
                        th scope="col" { (words.item) }
                        th.n scope="col" { (words.quantity) }
                        th.n scope="col" { (words.rate) }
                        th.n scope="col" { (fill(words.charge, &[&table.community.currency])) }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" { (row.name) }
                            td.n { (row.quantity) }
                            td.n { @if !row.price.is_empty() { "× " (row.price) } }
                            td.n { (money(row.charge, places)) }
                        }
                    }
                }
            }
        }
    }
}

/// An amount; the digits beyond cents are there, but do not shout, and zeros at the end only hold their place.
fn money(amount: Nano, places: usize) -> Markup {
    let text = figures::amount(amount, places);
    let cut = text.len().saturating_sub(places.saturating_sub(CENTS));
    let (cents, rest) = text.split_at_checked(cut).unwrap_or((&text, ""));
    let shown = rest.trim_end_matches('0');
    let zeros = rest.get(shown.len()..).unwrap_or_default();
    html! {
        (cents)
        @if !shown.is_empty() { span.rest { (shown) } }
        @if !zeros.is_empty() { span.zeros { (zeros) } }
    }
}

/// The same in a table of columns, where nothing is a dash.
fn cell(amount: Nano, places: usize) -> Markup {
    if amount == 0 {
        html! { span.none { "–" } }
    } else {
        money(amount, places)
    }
}
