//! What stands on one bill.

use chrono::NaiveDate;
use energy::{HomeId, Timestamp};

use super::account::Account;
use super::items::{Billed, Energy, Nano, What};
use super::terms::{Basis, LineSpec};
use crate::zone::{Month, Zone};

/// What all bills of a community have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Community {
    /// Its name.
    pub name: String,
    /// ISO 4217 code of its money.
    pub currency: String,
    /// Its chain, 64 hexadecimal digits.
    pub chain: String,
    /// Where its clocks are.
    pub zone: Zone,
    /// True where each home has a supplier of its own that bills its energy itself: the grid's column is for information.
    pub grid_is_outside: bool,
    /// What neighbours share at where the community fixed a price, µ/kWh; `None`: the middle of the supplier's two prices.
    pub local_price: Option<i64>,
    /// How far below zero a member's account may go where members pay by statement, n; `None`: they pay before.
    pub credit: Option<Nano>,
}

/// One bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// The home.
    pub home: HomeId,
    /// Where it is connected.
    pub node: String,
    /// Names the bill: home, month, and which of the home's bills of that month.
    pub number: String,
    /// Which month.
    pub month: Month,
    /// Who it is for.
    pub recipient: Recipient,
    /// The days it covers; none where only something of an earlier month came in.
    pub spans: Vec<Span>,
    /// True once nothing can be added to it.
    pub is_final: bool,
    /// End of the last settled interval of the month; `None` where none is.
    pub settled_until: Option<Timestamp>,
    /// How many outcomes it covers.
    pub counts: Counts,
    /// Intervals of the month with a provisional result, which is never billed.
    pub provisional: u64,
    /// What the home is due from outside under a sharing incentive, n; not part of what is due here.
    pub incentive: Nano,
    /// What the meter showed.
    pub energy: Energy,
    /// Every outcome, by interval.
    pub outcomes: Vec<Billed>,
    /// Its items, by kind and price.
    pub groups: Vec<Group>,
    /// The configured lines.
    pub lines: Vec<Line>,
    /// What is to be paid.
    pub due: Due,
    /// The home's account; only its holder sees it.
    pub account: Option<Account>,
}

/// Who a bill is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Name.
    pub name: String,
    /// In which role.
    pub role: Role,
    /// Which energy is theirs.
    pub side: Side,
}

/// What somebody is to a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Holds the account.
    ContractHolder,
    /// Lives there.
    Occupant,
    /// Owns the panels.
    AssetOwner,
}

impl Role {
    /// The word in CSV and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ContractHolder => "contract-holder",
            Self::Occupant => "occupant",
            Self::AssetOwner => "asset-owner",
        }
    }
}

/// Which energy is somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// All of it.
    Both,
    /// What was taken: the exports are the asset owner's.
    Import,
    /// What was given.
    Export,
}

/// Consecutive days of a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first_day: NaiveDate,
    /// The last.
    pub last_day: NaiveDate,
    /// The meter at its first instant.
    pub opening: Registers,
    /// The meter at the first instant after it.
    pub closing: Registers,
}

/// A meter at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registers {
    /// Import and export register on the ledger, Wh, with the meter's serial number; `None`: not read then.
    pub read: Option<(u64, u64, String)>,
    /// What was agreed on when somebody moved.
    pub agreed: Option<(u64, u64)>,
}

/// How many outcomes of which kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Settled at their deadline.
    pub settled: u64,
    /// Of them, without a usable reading.
    pub unread: u64,
    /// Late readings.
    pub late: u64,
    /// Corrections.
    pub corrections: u64,
}

/// All items of one kind at one price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they are for.
    pub what: What,
    /// µ/kWh, positive where the home pays; `None` where they have no one price.
    pub price: Option<i64>,
    /// Energy, Wh.
    pub wh: i64,
    /// What the home pays, n.
    pub charge: Nano,
    /// How many items.
    pub items: u64,
}

/// An amount in the two columns of a bill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns {
    /// With neighbours.
    pub community: Nano,
    /// With the supplier.
    pub grid: Nano,
}

impl Columns {
    /// The third column.
    #[must_use]
    pub const fn total(self) -> Nano {
        self.community + self.grid
    }

    /// Both with `other` added.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { community: self.community + other.community, grid: self.grid + other.grid }
    }
}

/// A configured line, computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// As configured.
    pub spec: LineSpec,
    /// What it is charged on: Wh, n of a subtotal, or days.
    pub quantity: Columns,
    /// What the home pays, n.
    pub charge: Columns,
    /// The days that a fixed charge is for: the first and the last of each run.
    pub days: Vec<(NaiveDate, NaiveDate)>,
}

/// The first and the last day of each run of consecutive days, in order.
#[must_use]
pub fn runs(days: &[NaiveDate]) -> Vec<(NaiveDate, NaiveDate)> {
    let mut runs: Vec<(NaiveDate, NaiveDate)> = Vec::new();
    for day in days {
        match runs.last_mut() {
            Some((_, last)) if last.succ_opt() == Some(*day) => *last = *day,
            _ => runs.push((*day, *day)),
        }
    }
    runs
}

impl Line {
    /// True where there is nothing to charge it on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.quantity == Columns::default() && self.charge == Columns::default()
    }

    /// What its quantity counts.
    #[must_use]
    pub const fn unit(&self) -> &'static str {
        match self.spec.basis {
            Basis::Subtotal => "n",
            Basis::Month | Basis::Day => "days",
            _ => "Wh",
        }
    }
}

/// What a bill comes to. The only place where something is rounded to what can be paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// Energy and network fees that are billed here, n.
    pub energy: Nano,
    /// Configured lines, n.
    pub lines: Nano,
    /// What the ledger has taken from the home's account for energy already, n.
    pub settled: Nano,
    /// What rounding of the bill before left over in the home's favour, n.
    pub carried_in: Nano,
    /// `energy` + `lines` − `settled` − `carried_in`, n.
    pub exact: Nano,
    /// `exact` rounded up to whole cents, toward the community: what is to be paid (is paid out, if negative), n.
    pub due: Nano,
    /// `due` − `exact`: carried to the next bill, n.
    pub carried_out: Nano,
}

impl Due {
    /// Adds up and rounds to multiples of `cent`.
    #[must_use]
    pub fn new(energy: Nano, lines: Nano, settled: Nano, carried_in: Nano, cent: Nano) -> Self {
        let exact = energy + lines - settled - carried_in;
        let due = ceiling(exact, cent) * cent;
        Self { energy, lines, settled, carried_in, exact, due, carried_out: due - exact }
    }
}

/// ⌈value / unit⌉ for a unit above zero.
#[must_use]
pub const fn ceiling(value: Nano, unit: Nano) -> Nano {
    -(-value).div_euclid(unit)
}

/// The smallest amount of `currency` that can be paid, n: its minor unit by ISO 4217.
#[must_use]
pub fn cent(currency: &str) -> Nano {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 1_000_000_000,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 1_000_000,
        _ => 10_000_000,
    }
}

impl Sheet {
    /// The credit limit and what of it is used after the month, n, where members pay by statement.
    #[must_use]
    pub fn credit(&self, community: &Community) -> Option<(Nano, Nano)> {
        let account = self.account.as_ref()?;
        community.credit.map(|limit| (limit, (-account.closing).max(0)))
    }

    /// Energy and network fees by column, without the configured lines.
    #[must_use]
    pub fn charges(&self) -> Columns {
        self.sum(|_| true)
    }

    /// What of the items fits, by column.
    pub fn sum(&self, fits: impl Fn(What) -> bool) -> Columns {
        self.groups
            .iter()
            .filter(|group| fits(group.what))
            .fold(Columns::default(), |sum, group| sum.plus(column(group.what, group.charge)))
    }

    /// The configured lines by column.
    #[must_use]
    pub fn line_charges(&self) -> Columns {
        self.lines.iter().fold(Columns::default(), |sum, line| sum.plus(line.charge))
    }

    /// Everything by column.
    #[must_use]
    pub fn total(&self) -> Columns {
        self.charges().plus(self.line_charges())
    }
}

/// An amount in the column where `what` stands.
#[must_use]
pub const fn column(what: What, amount: Nano) -> Columns {
    match what.part() {
        super::items::Part::Community => Columns { community: amount, grid: 0 },
        super::items::Part::Grid => Columns { community: 0, grid: amount },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_toward_the_community_and_the_rest_is_carried() {
        const CENT: Nano = 10_000_000;
        // 1.234 to pay: 1.24 now, 0.006 less next time.
        let first = Due::new(1_234_000_000, 0, 0, 0, CENT);
        assert_eq!((first.due, first.carried_out), (1_240_000_000, 6_000_000));
        let second = Due::new(1_234_000_000, 0, 0, first.carried_out, CENT);
        assert_eq!((second.exact, second.due, second.carried_out), (1_228_000_000, 1_230_000_000, 2_000_000));
        // 1.234 to receive: 1.23 now, 0.004 stays.
        let credit = Due::new(-1_234_000_000, 0, 0, 0, CENT);
        assert_eq!((credit.due, credit.carried_out), (-1_230_000_000, 4_000_000));
        let even = Due::new(50_000_000, 10_000_000, 60_000_000, 0, CENT);
        assert_eq!((even.exact, even.due, even.carried_out), (0, 0, 0));
    }

    #[test]
    fn over_many_bills_nothing_is_lost_but_the_last_remainder() {
        const CENT: Nano = 10_000_000;
        let (mut carried, mut paid, mut owed) = (0, 0, 0);
        for month in 0..36 {
            let charge = 12_345_678_901 + 7_777_777 * month - 900_000_003 * (month % 5);
            let due = Due::new(charge, 0, 0, carried, CENT);
            assert!((0..CENT).contains(&due.carried_out) && due.due % CENT == 0);
            (carried, paid, owed) = (due.carried_out, paid + due.due, owed + charge);
        }
        assert_eq!(paid - carried, owed);
    }

    #[test]
    fn cents_are_those_of_the_currency() {
        assert_eq!(
            [cent("CNY"), cent("EUR"), cent("JPY"), cent("KWD")],
            [10_000_000, 10_000_000, 1_000_000_000, 1_000_000]
        );
    }
}
