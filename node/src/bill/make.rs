//! From what the ledger holds of a home to its bills of a month.

use chrono::NaiveDate;
use energy::{HomeId, Interval, Mtu, Timestamp};
use ledger::{Body, OutcomeKind, OwnContract};

use super::account::{Contradiction, account};
use super::calendar::{Calendar, MonthSpan};
use super::fees::Fees;
use super::items::{Billed, Direction, Energy, Known, Nano, Split, billed};
use super::lines::{Ground, compute};
use super::parties::{Household, Occupant};
use super::sheet::{
    Columns, Community, Counts, Due, Group, Recipient, Registers, Role, Sheet, Side, Span, cent, column, runs,
};
use super::terms::LineSpec;
use crate::store::billing::{HomeBook, OutcomeRow};

/// Everything the bills of a home and month are made of.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What all bills have in common.
    pub community: &'a Community,
    /// Length of an interval.
    pub mtu: Mtu,
    /// The home.
    pub home: &'a HomeId,
    /// Where it is connected.
    pub node: &'a str,
    /// Network fees between it and the nodes above it.
    pub fees: &'a Fees,
    /// Its owner on the ledger.
    pub owner: &'a str,
    /// Since when it belongs.
    pub since: Timestamp,
    /// What the ledger holds of it.
    pub book: &'a HomeBook,
    /// The months up to the one billed.
    pub calendar: &'a Calendar,
    /// Who lives there.
    pub household: Option<&'a Household>,
    /// What is added to the energy.
    pub lines: &'a [LineSpec],
    /// End of the last settled interval.
    pub settled_until: Option<Timestamp>,
}

/// The bills of the calendar's last month, the contract holder's first. Registers are not filled in.
///
/// # Errors
/// [`Contradiction`] in what is stored.
pub fn sheets(case: &Case<'_>) -> Result<Vec<Sheet>, Contradiction> {
    let outcomes = case.outcomes();
    let account = account(case.book, case.calendar, &outcomes, case.community.grid_is_outside)?;
    let mut sheets: Vec<Sheet> =
        case.claimants().iter().filter_map(|claimant| case.sheet_of(claimant, &outcomes)).collect();
    for (at, sheet) in sheets.iter_mut().enumerate() {
        sheet.number = format!("{}-{}-{}", sheet.home, sheet.month, at + 1);
        if sheet.recipient.role == Role::ContractHolder {
            sheet.account = Some(account.clone());
        }
    }
    Ok(sheets)
}

/// Somebody a bill can be for.
struct Claimant<'a> {
    recipient: Recipient,
    occupant: Option<&'a Occupant>,
}

impl<'a> Case<'a> {
    /// Every outcome up to the month billed, with the position of its month.
    fn outcomes(&self) -> Vec<(usize, Billed)> {
        let mut deltas = Deltas::of(self.book);
        let contracts = Contracts::of(self.book, self.mtu);
        let mut outcomes: Vec<(usize, Billed)> = Vec::new();
        // Corrections are paired with their entries in the order of booking, not of intervals.
        let mut rows: Vec<&OutcomeRow> = self.book.outcomes.iter().collect();
        rows.sort_by_key(|row| row.height);
        for row in rows {
            let distances = self.fees.at(row.interval);
            let known = Known {
                distances: &distances,
                contract: contracts.at(row.interval),
                local_price: self.community.local_price,
                deltas: deltas.take(row),
            };
            if let Some(month) = self.calendar.place(Some(row.interval), row.height, Some(row.settled_by)) {
                outcomes.push((month, billed(row, &known)));
            }
        }
        outcomes.sort_by_key(|(month, it)| (*month, it.interval, it.height));
        outcomes
    }

    fn claimants(&self) -> Vec<Claimant<'a>> {
        let household = self.household;
        let asset_owner = household.and_then(|it| it.asset_owner.clone());
        let side = if asset_owner.is_some() { Side::Import } else { Side::Both };
        let holder =
            household.and_then(|it| it.contract_holder.clone()).unwrap_or_else(|| self.owner.to_owned());
        let mut claimants = vec![Claimant {
            recipient: Recipient { name: holder, role: Role::ContractHolder, side },
            occupant: None,
        }];
        claimants.extend(household.iter().flat_map(|it| &it.occupants).map(|occupant| Claimant {
            recipient: Recipient { name: occupant.name.clone(), role: Role::Occupant, side },
            occupant: Some(occupant),
        }));
        claimants.extend(asset_owner.map(|name| Claimant {
            recipient: Recipient { name, role: Role::AssetOwner, side: Side::Export },
            occupant: None,
        }));
        claimants
    }

    /// The bill of the last month, with what the bills of all months before carried to it.
    fn sheet_of(&self, claimant: &Claimant<'_>, outcomes: &[(usize, Billed)]) -> Option<Sheet> {
        let mut carried = 0;
        let mut last = None;
        for (place, month) in self.calendar.months.iter().enumerate() {
            let start = outcomes.partition_point(|(of, _)| *of < place);
            let end = outcomes.partition_point(|(of, _)| *of <= place);
            let of_month = outcomes.get(start..end).unwrap_or_default();
            let sheet = self.sheet(claimant, month, of_month, carried);
            carried = sheet.due.carried_out;
            last = Some(sheet);
        }
        last.filter(|sheet| {
            let holds_account = sheet.recipient.role == Role::ContractHolder;
            holds_account || !sheet.spans.is_empty() || !sheet.outcomes.is_empty()
        })
    }

    fn sheet(
        &self,
        claimant: &Claimant<'_>,
        month: &MonthSpan,
        all: &[(usize, Billed)],
        carried: Nano,
    ) -> Sheet {
        let zone = &self.community.zone;
        let side = claimant.recipient.side;
        let days = self.days(claimant, month);
        let is_theirs = |it: &&(usize, Billed)| self.is_theirs(claimant, zone.date(it.1.interval.start()));
        let outcomes: Vec<Billed> = all.iter().filter(is_theirs).map(|(_, it)| of_side(it, side)).collect();
        let groups = groups(&outcomes);
        let charged = charged(&groups);
        let ground = Ground {
            month: month.month,
            days: &days,
            outcomes: &outcomes,
            zone,
            charged,
            side,
            grid_is_outside: self.community.grid_is_outside,
        };
        let lines = compute(self.lines, &ground);
        let mut energy = Energy::default();
        outcomes.iter().for_each(|it| energy.add(&it.energy));
        let mut sheet = Sheet {
            home: self.home.clone(),
            node: self.node.to_owned(),
            number: String::new(),
            month: month.month,
            recipient: claimant.recipient.clone(),
            spans: spans(&days, claimant.occupant),
            is_final: month.closed_by.is_some(),
            settled_until: self.settled_until.map(|until| until.min(month.until)),
            counts: counts(&outcomes),
            provisional: 0,
            incentive: incentive(claimant, &outcomes),
            energy,
            outcomes,
            groups,
            lines,
            due: Due::default(),
            account: None,
        };
        sheet.due = self.due(&sheet, all, carried);
        sheet
    }

    /// What the ledger took from the home's account is the holder's to have paid, whoever's energy it was.
    fn due(&self, sheet: &Sheet, all: &[(usize, Billed)], carried: Nano) -> Due {
        let billed_here = |columns: Columns| {
            if self.community.grid_is_outside { columns.community } else { columns.total() }
        };
        let pays_here = sheet.recipient.role == Role::ContractHolder && self.community.credit.is_none();
        let settled = if pays_here {
            let charges = all.iter().flat_map(|(_, it)| &it.items);
            billed_here(
                charges.fold(Columns::default(), |sum, item| sum.plus(column(item.what, item.charge))),
            )
        } else {
            0
        };
        let lines = billed_here(sheet.line_charges());
        Due::new(billed_here(sheet.charges()), lines, settled, carried, cent(&self.community.currency))
    }

    /// The days of the month that are theirs.
    fn days(&self, claimant: &Claimant<'_>, month: &MonthSpan) -> Vec<NaiveDate> {
        let since = self.community.zone.date(self.since);
        // The last instant of its membership, where it left.
        let left = self.book.entries.iter().rev().find_map(|entry| match &entry.body {
            // One before a new admission is history.
            Body::Departure { from, .. } if from.start() > self.since => {
                Some(self.community.zone.date(from.start().minus_ms(1)))
            }
            _ => None,
        });
        let is_member = |day: &NaiveDate| *day >= since && left.is_none_or(|left| *day <= left);
        let days = month.month.first_day().iter_days().take_while(|day| *day <= month.month.last_day());
        days.filter(|day| is_member(day) && self.is_theirs(claimant, *day)).collect()
    }

    fn is_theirs(&self, claimant: &Claimant<'_>, day: NaiveDate) -> bool {
        match (claimant.recipient.role, claimant.occupant) {
            (_, Some(occupant)) => occupant.lives_there_on(day),
            (Role::ContractHolder, None) => {
                let mut occupants = self.household.iter().flat_map(|it| &it.occupants);
                !occupants.any(|occupant| occupant.lives_there_on(day))
            }
            (_, None) => true,
        }
    }
}

/// The outcome with only the energy and the items of one side.
fn of_side(outcome: &Billed, side: Side) -> Billed {
    let mut outcome = outcome.clone();
    let direction = match side {
        Side::Both => return outcome,
        Side::Import => Direction::Import,
        Side::Export => Direction::Export,
    };
    outcome.items.retain(|item| item.what.direction() == direction);
    match direction {
        Direction::Import => outcome.energy.export = Split::default(),
        Direction::Export => outcome.energy.import = Split::default(),
    }
    outcome
}

/// An incentive is for the home as a whole, not for one direction of it.
fn incentive(claimant: &Claimant<'_>, outcomes: &[Billed]) -> Nano {
    match claimant.recipient.role {
        Role::ContractHolder | Role::Occupant => outcomes.iter().map(|it| it.incentive).sum(),
        Role::AssetOwner => 0,
    }
}

fn groups(outcomes: &[Billed]) -> Vec<Group> {
    let mut groups = std::collections::BTreeMap::new();
    for item in outcomes.iter().flat_map(|it| &it.items) {
        let group = groups.entry((item.what, item.price)).or_insert(Group {
            what: item.what,
            price: item.price,
            wh: 0,
            charge: 0,
            items: 0,
        });
        group.wh = group.wh.saturating_add(item.wh);
        group.charge += item.charge;
        group.items += 1;
    }
    groups.into_values().collect()
}

/// What was charged, without what was credited for export: the ground of a tax.
fn charged(groups: &[Group]) -> Columns {
    let imports = groups.iter().filter(|group| group.what.direction() == Direction::Import);
    imports.fold(Columns::default(), |sum, group| sum.plus(column(group.what, group.charge)))
}

fn counts(outcomes: &[Billed]) -> Counts {
    let mut counts = Counts::default();
    for it in outcomes {
        match it.kind {
            OutcomeKind::Settled => {
                counts.settled += 1;
                counts.unread += u64::from(!it.is_read);
            }
            OutcomeKind::Late => counts.late += 1,
            OutcomeKind::Correction => counts.corrections += 1,
            // Moves no money; the settled result that replaces it is billed.
            OutcomeKind::Provisional => {}
        }
    }
    counts
}

/// Consecutive days together.
fn spans(days: &[NaiveDate], occupant: Option<&Occupant>) -> Vec<Span> {
    let span = |(first_day, last_day)| Span {
        first_day,
        last_day,
        opening: Registers::default(),
        closing: Registers::default(),
    };
    let mut spans: Vec<Span> = runs(days).into_iter().map(span).collect();
    for span in &mut spans {
        let moved_in = occupant.filter(|it| it.from == Some(span.first_day));
        let moved_out = occupant.filter(|it| it.until.is_some() && it.until == span.last_day.succ_opt());
        span.opening.agreed = moved_in.and_then(|it| it.moved_in);
        span.closing.agreed = moved_out.and_then(|it| it.moved_out);
    }
    spans
}

/// Supply contracts of the home's own, by the interval from which each holds.
struct Contracts(Vec<(Interval, OwnContract)>);

impl Contracts {
    fn of(book: &HomeBook, mtu: Mtu) -> Self {
        let contract = |entry: &crate::store::billing::BookedEntry| match &entry.body {
            // From the first interval that starts after the block.
            Body::OwnContract { contract, .. } => {
                Some((Interval::containing(entry.booked, mtu).next(), *contract))
            }
            _ => None,
        };
        Self(book.entries.iter().filter_map(contract).collect())
    }

    fn at(&self, interval: Interval) -> OwnContract {
        let in_force = self.0.iter().rev().find(|(from, _)| *from <= interval);
        in_force.map(|(_, contract)| *contract).unwrap_or_default()
    }
}

/// What corrections changed, in the order they were booked.
struct Deltas(Vec<(u64, Interval, (i64, i64))>);

impl Deltas {
    fn of(book: &HomeBook) -> Self {
        let delta = |entry: &crate::store::billing::BookedEntry| match &entry.body {
            Body::Correction { interval, import_delta, export_delta, .. } => {
                Some((entry.height, *interval, (*import_delta, *export_delta)))
            }
            _ => None,
        };
        Self(book.entries.iter().filter_map(delta).collect())
    }

    fn take(&mut self, row: &OutcomeRow) -> Option<(i64, i64)> {
        if row.kind != OutcomeKind::Correction {
            return None;
        }
        let is_it =
            |(height, interval, _): &(u64, Interval, _)| *height == row.height && *interval == row.interval;
        let at = self.0.iter().position(is_it)?;
        Some(self.0.remove(at).2)
    }
}
