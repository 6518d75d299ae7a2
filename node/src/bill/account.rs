//! The home's account over a month: what stood on it, what moved, what stands on it now, and who owes whom.
//!
//! Amounts here are the ledger's: positive where the home receives.

use std::collections::BTreeMap;

use energy::Timestamp;
use ledger::Body;

use super::calendar::Calendar;
use super::items::{Billed, Nano};
use crate::store::billing::{BookedEntry, HomeBook, PostingRow};

/// Movements that settle no energy.
const NOT_ENERGY: [&str; 3] = ["deposit", "withdrawal", "claim"];

/// The account over a month.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// What stood on it before.
    pub opening: Nano,
    /// What settled energy moved, by the ledger's word for why.
    pub settled: Vec<(String, Nano)>,
    /// Money paid in and out, in order.
    pub transfers: Vec<Transfer>,
    /// What the home paid of the supplier's claims.
    pub claims_paid: Nano,
    /// What the supplier could not pay at once.
    pub held: Nano,
    /// What the supplier paid of that later.
    pub received: Nano,
    /// What stands on it after.
    pub closing: Nano,
    /// What the home owes its supplier.
    pub owed: Claim,
    /// What the supplier owes the home.
    pub credited: Claim,
}

/// Money paid in or out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// When it was booked.
    pub booked: Timestamp,
    /// How much the home received (was paid out, if negative).
    pub amount: Nano,
    /// The bank's reference; `None` for a deposit of the genesis.
    pub reference: Option<String>,
}

/// A debt over a month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// Before.
    pub opening: Nano,
    /// Added.
    pub added: Nano,
    /// Paid.
    pub paid: Nano,
}

impl Claim {
    /// After.
    #[must_use]
    pub const fn closing(self) -> Nano {
        self.opening + self.added - self.paid
    }
}

/// The stored ledger contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Outcomes and movements of a month.
    #[error(
        "the outcomes of {month} come to {outcomes} n, but {postings} n were moved on the account; run `commonwatt ledger \
         verify`"
    )]
    Month {
        /// Which.
        month: String,
        /// What the outcomes say.
        outcomes: Nano,
        /// What the postings say.
        postings: Nano,
    },
    /// The balance and all movements.
    #[error(
        "the account stands at {balance} n, but its movements add up to {moved} n; run `commonwatt ledger verify`"
    )]
    Balance {
        /// What stands on it.
        balance: Nano,
        /// The sum of its postings.
        moved: Nano,
    },
}

/// The account in the last month of `calendar`, after checking in every month that what moved is what was settled.
/// `outcomes` are those of the home with the position of their month.
///
/// # Errors
/// [`Contradiction`].
pub fn account(
    book: &HomeBook,
    calendar: &Calendar,
    outcomes: &[(usize, Billed)],
    grid_is_outside: bool,
) -> Result<Account, Contradiction> {
    check_balance(book)?;
    let last = calendar.months.len().saturating_sub(1);
    let mut references = References::of(&book.entries);
    let mut account = Account::default();
    let mut settled = BTreeMap::new();
    let mut moved: BTreeMap<usize, Nano> = BTreeMap::new();
    for posting in &book.postings {
        let reference = references.take(posting);
        let Some(month) = calendar.place(posting.interval, posting.height, posting.settled_by) else {
            continue;
        };
        if !NOT_ENERGY.contains(&posting.kind.as_str()) {
            *moved.entry(month).or_default() += Nano::from(posting.amount);
        }
        account.take(posting, reference, month == last, &mut settled);
    }
    for (month, billed) in outcomes {
        *moved.entry(*month).or_default() -=
            if grid_is_outside { billed.booked_community } else { billed.booked };
        let added = if grid_is_outside { 0 } else { billed.claim };
        *(if *month == last { &mut account.owed.added } else { &mut account.owed.opening }) += added;
    }
    if let Some((month, difference)) = moved.into_iter().find(|(_, difference)| *difference != 0) {
        return Err(contradiction(calendar, month, outcomes, grid_is_outside, difference));
    }
    account.settled = settled.into_iter().collect();
    let transfers: Nano = account.transfers.iter().map(|transfer| transfer.amount).sum();
    let energy: Nano = account.settled.iter().map(|(_, amount)| amount).sum();
    account.closing =
        account.opening + energy + transfers - account.claims_paid - account.held + account.received;
    Ok(account)
}

impl Account {
    fn take(
        &mut self,
        posting: &PostingRow,
        reference: Option<String>,
        is_now: bool,
        settled: &mut BTreeMap<String, Nano>,
    ) {
        let amount = Nano::from(posting.amount);
        if !is_now {
            self.opening += amount;
        }
        match posting.kind.as_str() {
            "claim" => self.take_claim(posting, is_now),
            _ if !is_now => {}
            "deposit" | "withdrawal" => {
                self.transfers.push(Transfer { booked: posting.booked, amount, reference });
            }
            kind => *settled.entry(kind.to_owned()).or_default() += amount,
        }
    }

    /// Without an interval a claim is paid; with one the supplier could not pay for it at once.
    fn take_claim(&mut self, posting: &PostingRow, is_now: bool) {
        let amount = Nano::from(posting.amount);
        let (claim, sum) = match (posting.interval, amount < 0) {
            (Some(_), _) => (&mut self.credited, &mut self.held),
            (None, true) => (&mut self.owed, &mut self.claims_paid),
            (None, false) => (&mut self.credited, &mut self.received),
        };
        let (is_held, amount) = (posting.interval.is_some(), amount.abs());
        match (is_now, is_held) {
            (true, true) => claim.added += amount,
            (true, false) => claim.paid += amount,
            (false, true) => claim.opening += amount,
            (false, false) => claim.opening -= amount,
        }
        if is_now {
            *sum += amount;
        }
    }
}

fn check_balance(book: &HomeBook) -> Result<(), Contradiction> {
    let moved: Nano = book.postings.iter().map(|posting| Nano::from(posting.amount)).sum();
    let balance = Nano::from(book.balance.unwrap_or(0));
    if balance == moved { Ok(()) } else { Err(Contradiction::Balance { balance, moved }) }
}

fn contradiction(
    calendar: &Calendar,
    month: usize,
    outcomes: &[(usize, Billed)],
    grid_is_outside: bool,
    difference: Nano,
) -> Contradiction {
    let of_month = outcomes.iter().filter(|(place, _)| *place == month);
    let outcomes: Nano =
        of_month.map(|(_, it)| if grid_is_outside { it.booked_community } else { it.booked }).sum();
    let name = calendar.months.get(month).map(|month| month.month.to_string()).unwrap_or_default();
    Contradiction::Month { month: name, outcomes, postings: outcomes + difference }
}

/// References of deposits and withdrawals that no posting was found for yet.
struct References(Vec<(u64, Nano, String)>);

impl References {
    fn of(entries: &[BookedEntry]) -> Self {
        let reference = |entry: &BookedEntry| match &entry.body {
            Body::Deposit { amount, reference, .. } => {
                Some((entry.height, Nano::from(amount.get()), reference.clone()))
            }
            Body::Withdrawal { amount, reference, .. } => {
                Some((entry.height, -Nano::from(amount.get()), reference.clone()))
            }
            _ => None,
        };
        Self(entries.iter().filter_map(reference).collect())
    }

    /// That of the first entry of the posting's block and amount.
    fn take(&mut self, posting: &PostingRow) -> Option<String> {
        let is_it = |(height, amount, _): &(u64, Nano, String)| {
            *height == posting.height && *amount == Nano::from(posting.amount)
        };
        let at = self.0.iter().position(is_it)?;
        Some(self.0.remove(at).2)
    }
}
