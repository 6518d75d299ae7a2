//! What the printed sheets show, row by row, in one language: text and HTML only lay it out.

use chrono::NaiveDate;

use super::account::Account;
use super::figures;
use super::items::{Direction, Nano, What};
use super::sheet::{Columns, Community, Group, Line, Sheet};
use super::terms::Basis;
use super::words::{Language, Words, fill, words};

/// Prices of one kind beyond this many are one row: the CSV has them all.
const PRICES_MAX: usize = 8;

/// A row of the costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostRow {
    /// What for.
    pub name: String,
    /// Who gets it, where that is configured.
    pub to: Option<String>,
    /// By column, n.
    pub amount: Columns,
}

/// A row that says how an amount came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HowRow {
    /// What for.
    pub name: String,
    /// How much of it.
    pub quantity: String,
    /// At which price.
    pub price: String,
    /// What that makes, n.
    pub charge: Nano,
}

/// A name and an amount, n.
pub type AmountRow = (String, Nano);

/// A sheet in one language.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The sheet.
    pub sheet: &'a Sheet,
    /// What all sheets have in common.
    pub community: &'a Community,
    /// The language.
    pub language: Language,
}

impl<'a> Table<'a> {
    /// The texts.
    #[must_use]
    pub const fn words(&self) -> &'static Words {
        words(self.language)
    }

    /// True in Chinese.
    #[must_use]
    pub fn is_chinese(&self) -> bool {
        self.language == Language::Chinese
    }

    /// Digits behind the point that show every amount of the sheet exactly.
    #[must_use]
    pub fn places(&self) -> usize {
        let costs = self.costs().into_iter().chain([self.sum_all()]);
        let costs = costs.flat_map(|row| [row.amount.community, row.amount.grid]);
        let others = self.due().into_iter().chain(self.account()).chain(self.debts());
        let others = others.map(|(_, amount)| amount);
        let how = self.how().into_iter().map(|row| row.charge);
        figures::places(costs.chain(others).chain(how))
    }

    /// The rows of the costs, without the total.
    #[must_use]
    pub fn costs(&self) -> Vec<CostRow> {
        let words = self.words();
        let sum = |fits: fn(What) -> bool| self.sheet.sum(fits);
        let is = |what: What, direction: Direction| what.direction() == direction;
        let corrected = |what: What| matches!(what, What::CorrectedImport | What::CorrectedExport);
        let rows: [(&str, Columns); 7] = [
            (
                words.energy_taken,
                sum(|what| matches!(what, What::Bought | What::BoughtForward | What::GridImport)),
            ),
            (words.fees_taken, self.sheet.sum(|what| what.is_fee() && is(what, Direction::Import))),
            (
                words.energy_given,
                sum(|what| matches!(what, What::Sold | What::SoldForward | What::GridExport)),
            ),
            (words.fees_given, self.sheet.sum(|what| what.is_fee() && is(what, Direction::Export))),
            (words.corrections, self.sheet.sum(corrected)),
            (words.losses, sum(|what| what == What::Losses)),
            (words.other, sum(|what| what == What::Other)),
        ];
        let energy = rows.into_iter().filter(|(_, amount)| *amount != Columns::default());
        let energy = energy.map(|(name, amount)| CostRow { name: name.to_owned(), to: None, amount });
        energy.chain(self.sheet.lines.iter().map(|line| self.line_cost(line))).collect()
    }

    fn line_cost(&self, line: &Line) -> CostRow {
        CostRow {
            name: line.spec.name.text(self.is_chinese()).to_owned(),
            to: Some(line.spec.to.clone()),
            amount: line.charge,
        }
    }

    /// The total of the costs.
    #[must_use]
    pub fn sum_all(&self) -> CostRow {
        CostRow { name: self.words().sum_all.to_owned(), to: None, amount: self.sheet.total() }
    }

    /// What there is to pay, without the rounded amount and what is carried on.
    #[must_use]
    pub fn due(&self) -> Vec<AmountRow> {
        let (words, due) = (self.words(), self.sheet.due);
        let mut rows = vec![(words.due_energy.to_owned(), due.energy)];
        for (name, amount) in [
            (words.due_lines, due.lines),
            (words.due_settled, -due.settled),
            (words.due_carried, -due.carried_in),
        ] {
            if amount != 0 {
                rows.push((name.to_owned(), amount));
            }
        }
        rows.push((words.due_exact.to_owned(), due.exact));
        rows
    }

    /// The home's account, from what stood on it to what stands on it.
    #[must_use]
    pub fn account(&self) -> Vec<AmountRow> {
        let words = self.words();
        let Some(account) = &self.sheet.account else { return Vec::new() };
        let mut rows = vec![(words.opening.to_owned(), account.opening)];
        rows.extend(account.settled.iter().map(|(kind, amount)| (words.posted(kind).to_owned(), *amount)));
        rows.extend(self.transfers(account));
        for (name, amount) in [
            (words.claims_paid, -account.claims_paid),
            (words.held, -account.held),
            (words.received, account.received),
        ] {
            if amount != 0 {
                rows.push((name.to_owned(), amount));
            }
        }
        rows.push((words.closing.to_owned(), account.closing));
        rows
    }

    fn transfers(&self, account: &Account) -> Vec<AmountRow> {
        let words = self.words();
        let row = |transfer: &super::account::Transfer| {
            let day = self.community.zone.date(transfer.booked);
            let reference = transfer.reference.as_deref().unwrap_or(words.founding);
            let template = if transfer.amount < 0 { words.withdrawal } else { words.deposit };
            (fill(template, &[&format!("{day}, {reference}")]), transfer.amount)
        };
        account.transfers.iter().map(row).collect()
    }

    /// Who owes whom, where somebody does: claims, credit, and an incentive from outside.
    #[must_use]
    pub fn debts(&self) -> Vec<AmountRow> {
        let words = self.words();
        let Some(account) = &self.sheet.account else { return Vec::new() };
        let credit = self
            .sheet
            .credit(self.community)
            .map(|(limit, used)| (fill(words.credit_used, &[&figures::exact(limit)]), used));
        [
            (words.owed, account.owed.closing()),
            (words.credited, account.credited.closing()),
            (words.incentive, self.sheet.incentive),
        ]
        .map(|(name, amount)| (name.to_owned(), amount))
        .into_iter()
        .chain(credit)
        .filter(|(_, amount)| *amount != 0)
        .collect()
    }

    /// How the amounts came about: quantity × price.
    #[must_use]
    pub fn how(&self) -> Vec<HowRow> {
        let mut rows = Vec::new();
        for what in What::ALL {
            let groups: Vec<&Group> = self.sheet.groups.iter().filter(|group| group.what == what).collect();
            if groups.len() > PRICES_MAX {
                rows.push(self.many_prices(what, &groups));
            } else {
                rows.extend(groups.into_iter().map(|group| self.how_group(group)));
            }
        }
        rows.extend(self.sheet.lines.iter().map(|line| self.how_line(line)));
        rows
    }

    fn how_group(&self, group: &Group) -> HowRow {
        let energy = format!("{} kWh", figures::kwh(group.wh));
        let (quantity, price) = match group.price {
            Some(price) => (energy, figures::price(price)),
            None if group.wh != 0 => (format!("{energy} ({})", self.words().several), String::new()),
            None => (String::new(), String::new()),
        };
        HowRow { name: self.words().what(group.what).to_owned(), quantity, price, charge: group.charge }
    }

    /// One row for energy at many prices, with the lowest and the highest.
    fn many_prices(&self, what: What, groups: &[&Group]) -> HowRow {
        let prices = groups.iter().filter_map(|group| group.price);
        let (low, high) = (prices.clone().min(), prices.max());
        let range =
            low.zip(high).map(|(low, high)| format!("{} – {}", figures::price(low), figures::price(high)));
        let count = fill(self.words().prices, &[&groups.len().to_string()]);
        let wh: i64 = groups.iter().map(|group| group.wh).sum();
        HowRow {
            name: self.words().what(what).to_owned(),
            quantity: format!("{} kWh", figures::kwh(wh)),
            price: range.map_or(count.clone(), |range| format!("{range} ({count})")),
            charge: groups.iter().map(|group| group.charge).sum(),
        }
    }

    fn how_line(&self, line: &Line) -> HowRow {
        let words = self.words();
        let quantity = line.quantity.total();
        let rate = line.spec.rate;
        let (quantity, price) = match line.spec.basis {
            Basis::Subtotal => {
                let of = figures::exact(quantity);
                (fill(words.of_subtotal, &[&rate.to_string(), &of]), String::new())
            }
            Basis::Month | Basis::Day => {
                (fill(words.days, &[&quantity.to_string()]), figures::exact(rate.into()))
            }
            _ => {
                let wh = i64::try_from(quantity).unwrap_or(i64::MAX);
                (format!("{} kWh", figures::kwh(wh)), figures::price(rate))
            }
        };
        let name = line.spec.name.text(self.is_chinese()).to_owned();
        HowRow { name, quantity, price, charge: line.charge.total() }
    }

    /// The days of the bill.
    #[must_use]
    pub fn period(&self) -> String {
        let spans = self.sheet.spans.iter().map(|span| days(span.first_day, span.last_day));
        let spans: Vec<String> = spans.collect();
        if spans.is_empty() { self.words().days_none.to_owned() } else { spans.join(", ") }
    }

    /// Whether anything can be added to it.
    #[must_use]
    pub fn state(&self) -> String {
        let words = self.words();
        let mut state = match (self.sheet.is_final, self.sheet.settled_until) {
            (true, _) => words.is_final.to_owned(),
            (false, Some(until)) => {
                let clock = self.community.zone.clock(until).format("%Y-%m-%d %H:%M").to_string();
                fill(words.is_open, &[&clock])
            }
            (false, None) => words.is_open_nothing.to_owned(),
        };
        if self.sheet.provisional > 0 {
            state = format!("{state}; {}", fill(words.provisional, &[&self.sheet.provisional.to_string()]));
        }
        state
    }

    /// How many intervals stand behind it.
    #[must_use]
    pub fn counts(&self) -> String {
        let counts = self.sheet.counts;
        let numbers =
            [counts.settled, counts.unread, counts.late, counts.corrections].map(|it| it.to_string());
        fill(self.words().counts, &numbers.each_ref().map(String::as_str))
    }

    /// Registers at the bounds of the bill, a sentence each.
    #[must_use]
    pub fn registers(&self) -> Vec<(String, String)> {
        let words = self.words();
        let mut rows = Vec::new();
        for span in &self.sheet.spans {
            let next = span.last_day.succ_opt().unwrap_or(span.last_day);
            for (name, day, at) in
                [(words.meter_start, span.first_day, &span.opening), (words.meter_end, next, &span.closing)]
            {
                let read = at.read.as_ref().map(|(import, export, _)| self.pair(*import, *export));
                let mut text = read.unwrap_or_else(|| words.meter_unread.to_owned());
                if let Some((import, export)) = at.agreed {
                    text = format!("{text}; {}: {}", words.meter_agreed, self.pair(import, export));
                }
                rows.push((format!("{} {name}, {day} 00:00", words.meter), text));
            }
        }
        rows
    }

    fn pair(&self, import: u64, export: u64) -> String {
        let kwh = |wh: u64| format!("{} kWh", figures::kwh(i64::try_from(wh).unwrap_or(i64::MAX)));
        let words = self.words();
        format!(
            "{}, {}",
            fill(words.meter_import, &[&kwh(import)]),
            fill(words.meter_export, &[&kwh(export)])
        )
    }
}

fn days(first: NaiveDate, last: NaiveDate) -> String {
    if first == last { first.to_string() } else { format!("{first} – {last}") }
}
