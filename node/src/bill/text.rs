//! A bill as a page of a terminal.

use std::fmt::Write as _;

use super::figures;
use super::items::{Nano, Split};
use super::sheet::{Community, Sheet};
use super::table::{AmountRow, Table};
use super::terms::Issuer;
use super::words::{Language, fill, words};

/// Width of the column of names.
const NAME: usize = 34;
/// Width of a column of figures.
const FIGURE: usize = 20;
/// Width of the page.
const PAGE: usize = NAME + 3 * FIGURE;

/// All sheets, and a cover before them if there is more than one.
#[must_use]
pub fn render(sheets: &[Sheet], community: &Community, issuer: &Issuer, language: Language) -> String {
    let pages: Vec<String> =
        sheets.iter().map(|sheet| page(&Table { sheet, community, language }, issuer)).collect();
    let cover = if sheets.len() > 1 { cover(sheets, community, language) + "\n" } else { String::new() };
    cover + &pages.join(&format!("\n{}\n\n", "═".repeat(PAGE)))
}

fn cover(sheets: &[Sheet], community: &Community, language: Language) -> String {
    let words = words(language);
    let mut text = format!("{}\n{}\n\n", words.cover_title, community.name);
    for sheet in sheets {
        let name = format!("{}  {}", sheet.number, sheet.recipient.name);
        amount_row(&mut text, &name, sheet.due.due, 2);
    }
    let sum: Nano = sheets.iter().map(|sheet| sheet.due.due).sum();
    rule(&mut text);
    amount_row(&mut text, &fill(words.together, &[&sheets.len().to_string()]), sum, 2);
    text
}

fn page(table: &Table<'_>, issuer: &Issuer) -> String {
    let mut text = String::new();
    head(&mut text, table, issuer);
    energy(&mut text, table);
    costs(&mut text, table);
    let (words, places) = (table.words(), table.places());
    section(&mut text, words.settlement, &table.due(), places);
    let due = table.sheet.due;
    rule(&mut text);
    let currency = &table.community.currency;
    let name = if due.due < 0 { words.to_receive } else { words.to_pay };
    let shown = format!("{} {currency}", figures::amount(due.due.abs(), 2));
    line(&mut text, &[(name, NAME), ("", 2 * FIGURE)], &shown);
    if due.carried_out != 0 {
        amount_row(&mut text, words.due_next, due.carried_out, places);
    }
    if table.sheet.account.is_some() {
        section(&mut text, &fill(words.account, &[currency]), &table.account(), places);
        table.debts().iter().for_each(|(name, amount)| amount_row(&mut text, name, *amount, places));
    }
    how(&mut text, table, places);
    foot(&mut text, table, issuer);
    text
}

fn head(text: &mut String, table: &Table<'_>, issuer: &Issuer) {
    let (words, sheet) = (table.words(), table.sheet);
    let issued_by =
        issuer.name.as_ref().map_or(table.community.name.as_str(), |name| name.text(table.is_chinese()));
    let title = format!("{} {}", words.title, sheet.month);
    let room = PAGE.saturating_sub(figures::width(&title));
    let _ = writeln!(text, "{}{title}", figures::left(issued_by, room));
    rule(text);
    let role = words.role(sheet.recipient.role);
    for (name, value) in [
        (words.recipient, format!("{} ({role})", sheet.recipient.name)),
        (words.home, format!("{}, {} {}", sheet.home, words.connected, sheet.node)),
        (words.number, sheet.number.clone()),
        (words.period, format!("{} ({})", table.period(), table.community.zone)),
        (words.state, table.state()),
    ] {
        let _ = writeln!(text, "{}{value}", figures::left(name, 14));
    }
}

fn energy(text: &mut String, table: &Table<'_>) {
    let words = table.words();
    heading(text, words.energy, table);
    for (name, Split { community, grid }) in
        [(words.taken, table.sheet.energy.import), (words.given, table.sheet.energy.export)]
    {
        figures_row(text, name, [community.saturating_add(grid), community, grid].map(figures::kwh));
    }
    for (name, value) in table.registers() {
        let _ = writeln!(text, "{}  {value}", figures::left(&name, NAME));
    }
}

fn costs(text: &mut String, table: &Table<'_>) {
    let (words, places) = (table.words(), table.places());
    heading(text, &fill(words.cost, &[&table.community.currency]), table);
    let row = |text: &mut String, name: &str, amount: super::sheet::Columns| {
        let shown = [amount.total(), amount.community, amount.grid].map(|it| figures::amount(it, places));
        figures_row(text, name, shown);
    };
    for cost in table.costs() {
        let to = cost.to.map(|to| format!(" ({})", fill(words.payable_to, &[&to]))).unwrap_or_default();
        row(text, &format!("{}{to}", cost.name), cost.amount);
    }
    rule(text);
    row(text, words.sum_all, table.sum_all().amount);
    if table.community.grid_is_outside {
        let _ = writeln!(text, "{}", words.outside);
    }
}

fn how(text: &mut String, table: &Table<'_>, places: usize) {
    let words = table.words();
    let _ = writeln!(text, "\n{}", words.how);
    rule(text);
    for row in table.how() {
        let by =
            if row.price.is_empty() { row.quantity } else { format!("{} × {}", row.quantity, row.price) };
        line(text, &[(&row.name, NAME), (&by, 2 * FIGURE)], &figures::amount(row.charge, places));
    }
}

fn foot(text: &mut String, table: &Table<'_>, issuer: &Issuer) {
    let words = table.words();
    let _ = writeln!(text, "\n{}", table.counts());
    let chain = table.community.chain.get(..16).unwrap_or(&table.community.chain);
    let _ = writeln!(text, "{}", fill(words.verify, &[chain]));
    if table.sheet.due.due > 0 && !issuer.payment.is_empty() {
        let _ = writeln!(text, "{}: {}", words.payment, issuer.payment.join(" · "));
    }
}

fn section(text: &mut String, title: &str, rows: &[AmountRow], places: usize) {
    let _ = writeln!(text, "\n{title}");
    rule(text);
    rows.iter().for_each(|(name, amount)| amount_row(text, name, *amount, places));
}

fn heading(text: &mut String, title: &str, table: &Table<'_>) {
    let words = table.words();
    text.push('\n');
    figures_row(text, title, [words.total, words.community, words.grid].map(str::to_owned));
    rule(text);
}

fn figures_row(text: &mut String, name: &str, [total, community, grid]: [String; 3]) {
    let figures: String = [total, community, grid].iter().map(|it| figures::right(it, FIGURE)).collect();
    let room = NAME;
    // A name that is too long takes a line of its own.
    if figures::width(name) >= room {
        let _ = writeln!(text, "{name}");
        let _ = writeln!(text, "{}{figures}", " ".repeat(room));
    } else {
        let _ = writeln!(text, "{}{figures}", figures::left(name, room));
    }
}

fn amount_row(text: &mut String, name: &str, amount: Nano, places: usize) {
    line(text, &[(name, PAGE - FIGURE)], &figures::amount(amount, places));
}

fn line(text: &mut String, cells: &[(&str, usize)], figure: &str) {
    let before: String = cells.iter().map(|(cell, width)| figures::left(cell, *width)).collect();
    let room = PAGE.saturating_sub(figures::width(&before));
    let _ = writeln!(text, "{before}{}", figures::right(figure, room));
}

fn rule(text: &mut String) {
    let _ = writeln!(text, "{}", "─".repeat(PAGE));
}
