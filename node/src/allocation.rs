//! Allocation results: what of each meter's energy was shared in an interval, and what its supplier gave or took.
//!
//! One line a home and interval: what was settled at the deadline, read late and corrected since, together; where nothing is
//! settled yet, the provisional result, marked so. In every line import = from the community + from the supplier, and
//! export = to the community + to the supplier. The totals of an interval are the sums of its lines.

use std::collections::BTreeMap;

use energy::{HomeId, Interval};
use ledger::{Body, Genesis, OutcomeKind, Participation};

use crate::store::billing::{BookedEntry, MeteredRow};

mod print;

pub use print::{csv, json};

/// How sure a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Settled at its deadline.
    Settled,
    /// Read after its deadline, and settled with the supplier alone.
    Late,
    /// Corrected after it was settled.
    Corrected,
    /// Settled without a usable reading, which may still come.
    Missing,
    /// The home's own reading; the metering operator's will replace it. Never to be billed.
    Provisional,
}

impl Status {
    /// The word in files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Late => "late",
            Self::Corrected => "corrected",
            Self::Missing => "missing",
            Self::Provisional => "provisional",
        }
    }
}

/// One direction of a meter, Wh; below zero where a correction took some back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// With the community.
    pub community: i64,
    /// With the supplier.
    pub supplier: i64,
}

impl Shared {
    /// What the meter showed.
    #[must_use]
    pub const fn metered(self) -> i64 {
        self.community.saturating_add(self.supplier)
    }

    fn of(metered: u64, with_supplier: u64) -> Self {
        // What a forward sale that was not delivered took from the supplier is no energy of the meter.
        let supplier = metered.min(with_supplier);
        let wh = |wh: u64| i64::try_from(wh).unwrap_or(i64::MAX);
        Self { community: wh(metered.saturating_sub(supplier)), supplier: wh(supplier) }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            community: self.community.saturating_add(other.community),
            supplier: self.supplier.saturating_add(other.supplier),
        }
    }
}

/// A home's interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose.
    pub home: HomeId,
    /// Serial number of its meter then.
    pub meter: String,
    /// How sure it is.
    pub status: Status,
    /// What it took.
    pub import: Shared,
    /// What it gave.
    pub export: Shared,
    /// Its part in sharing then.
    pub participation: Participation,
}

/// An interval of the community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which.
    pub interval: Interval,
    /// By home.
    pub lines: Vec<Line>,
}

/// What all lines of an interval come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// The least sure one.
    pub status: Status,
    /// What was taken.
    pub import: Shared,
    /// What was given.
    pub export: Shared,
    /// All agreed shares, of 10 000.
    pub share_permyriad: u32,
}

impl Block {
    /// The sums of its lines.
    #[must_use]
    pub fn total(&self) -> Total {
        let first = Total {
            status: Status::Settled,
            import: Shared::default(),
            export: Shared::default(),
            share_permyriad: 0,
        };
        self.lines.iter().fold(first, |sum, line| Total {
            status: sum.status.max(line.status),
            import: sum.import.plus(line.import),
            export: sum.export.plus(line.export),
            share_permyriad: sum.share_permyriad.saturating_add(line.participation.share_permyriad),
        })
    }
}

/// What entries changed of homes: their parts, their meters, and settled intervals.
#[derive(Debug, Default)]
pub struct History {
    /// By home: from which interval on, in the order of booking.
    participations: BTreeMap<HomeId, Vec<(u64, Participation)>>,
    /// By home: booked at which interval, which serial number.
    meters: BTreeMap<HomeId, Vec<(u64, String)>>,
    /// Import and export more than was settled, Wh.
    corrections: BTreeMap<(u64, HomeId), Vec<(i64, i64)>>,
}

/// Kinds of entries that a history is made of.
pub const HISTORY_KINDS: &str = "'admission', 'participation-change', 'meter-registration', 'correction'";

impl History {
    /// From what the genesis says and the entries of [`HISTORY_KINDS`] in their order.
    #[must_use]
    pub fn of(genesis: &Genesis, entries: &[BookedEntry]) -> Self {
        let mut history = Self::default();
        for member in &genesis.members {
            let home = &member.admission.home;
            history.participations.insert(home.clone(), vec![(0, member.participation)]);
            history.meters.insert(home.clone(), vec![(0, member.admission.meter.serial.to_string())]);
        }
        for entry in entries {
            history.take(entry, Interval::containing(entry.booked, genesis.mtu).index());
        }
        history
    }

    fn take(&mut self, entry: &BookedEntry, booked: u64) {
        let mut meter = |home: &HomeId, serial: String| {
            self.meters.entry(home.clone()).or_default().push((booked, serial));
        };
        match &entry.body {
            Body::Admission(admission) => meter(&admission.home, admission.meter.serial.to_string()),
            Body::MeterRegistration { home: Some(home), meter: of, .. } => meter(home, of.serial.to_string()),
            Body::ParticipationChange { home, from, participation } => {
                self.participations.entry(home.clone()).or_default().push((from.index(), *participation));
            }
            Body::Correction { home, interval, import_delta, export_delta } => {
                let key = (interval.index(), home.clone());
                self.corrections.entry(key).or_default().push((*import_delta, *export_delta));
            }
            _ => {}
        }
    }

    /// The last word counts, as on the ledger.
    fn participation(&self, home: &HomeId, interval: Interval) -> Participation {
        let series = self.participations.get(home).map(Vec::as_slice).unwrap_or_default();
        let held = series.iter().rev().find(|(from, _)| *from <= interval.index());
        held.map(|(_, participation)| *participation).unwrap_or_default()
    }

    fn meter(&self, home: &HomeId, interval: Interval) -> String {
        let series = self.meters.get(home).map(Vec::as_slice).unwrap_or_default();
        let held = series.iter().rev().find(|(from, _)| *from <= interval.index()).or_else(|| series.first());
        held.map(|(_, serial)| serial.clone()).unwrap_or_default()
    }
}

/// The intervals of `rows`, in order.
#[must_use]
pub fn allocation(rows: &[MeteredRow], history: &History) -> Vec<Block> {
    let mut intervals: BTreeMap<Interval, BTreeMap<&HomeId, Vec<&MeteredRow>>> = BTreeMap::new();
    for row in rows {
        intervals.entry(row.interval).or_default().entry(&row.home).or_default().push(row);
    }
    let block = |(interval, homes): (Interval, BTreeMap<&HomeId, Vec<&MeteredRow>>)| {
        let lines = homes.into_iter().map(|(home, rows)| line(home, interval, &rows, history));
        Block { interval, lines: lines.collect() }
    };
    intervals.into_iter().map(block).collect()
}

fn line(home: &HomeId, interval: Interval, rows: &[&MeteredRow], history: &History) -> Line {
    let is_settled = rows.iter().any(|row| row.kind != OutcomeKind::Provisional);
    // What is settled replaces what was provisional.
    let counted = rows.iter().filter(|row| !is_settled || row.kind != OutcomeKind::Provisional);
    let (mut import, mut export) = (Shared::default(), Shared::default());
    for row in counted.clone() {
        let (taken, given) = row.metered.unwrap_or_default();
        import = import.plus(Shared::of(taken, row.supplier_import));
        export = export.plus(Shared::of(given, row.supplier_export));
    }
    let corrections = history.corrections.get(&(interval.index(), home.clone()));
    let corrections = corrections.filter(|_| is_settled).map(Vec::as_slice).unwrap_or_default();
    for (import_delta, export_delta) in corrections {
        // A correction settles with the supplier.
        import.supplier = import.supplier.saturating_add(*import_delta);
        export.supplier = export.supplier.saturating_add(*export_delta);
    }
    let has = |kind: OutcomeKind| rows.iter().any(|row| row.kind == kind);
    let status = match () {
        () if !is_settled => Status::Provisional,
        () if !corrections.is_empty() => Status::Corrected,
        () if has(OutcomeKind::Late) => Status::Late,
        () if counted.clone().all(|row| row.metered.is_none()) => Status::Missing,
        () => Status::Settled,
    };
    let read = rows.iter().find_map(|row| row.serial.clone());
    Line {
        home: home.clone(),
        meter: read.unwrap_or_else(|| history.meter(home, interval)),
        status,
        import,
        export,
        participation: history.participation(home, interval),
    }
}

#[cfg(test)]
mod tests {
    use energy::{Mtu, Timestamp};

    use super::*;

    fn home(name: &str) -> HomeId {
        HomeId::new(name).unwrap()
    }

    fn interval() -> Interval {
        Interval::parse("2026-07-14T10:00:00Z", Mtu::Min15).unwrap()
    }

    fn row(name: &str, kind: OutcomeKind, metered: Option<(u64, u64)>, supplier: (u64, u64)) -> MeteredRow {
        MeteredRow {
            home: home(name),
            interval: interval(),
            kind,
            metered,
            supplier_import: supplier.0,
            supplier_export: supplier.1,
            serial: None,
        }
    }

    fn booked(body: Body) -> BookedEntry {
        BookedEntry { height: 9, booked: Timestamp::parse("2026-07-14T12:00:00Z").unwrap(), body }
    }

    fn history(bodies: Vec<Body>) -> History {
        let mut history = History::default();
        bodies.into_iter().for_each(|body| history.take(&booked(body), interval().index()));
        history
    }

    #[test]
    fn lines_and_totals_add_up() {
        let rows = [
            row("a", OutcomeKind::Settled, Some((0, 500)), (0, 100)),
            row("b", OutcomeKind::Settled, Some((300, 0)), (50, 0)),
            row("c", OutcomeKind::Settled, Some((150, 0)), (0, 0)),
        ];
        let blocks = allocation(&rows, &History::default());
        let total = blocks[0].total();
        assert_eq!((total.import, total.export.community), (Shared { community: 400, supplier: 50 }, 400));
        assert_eq!((total.import.metered(), total.export.metered()), (450, 500));
        assert_eq!(total.status, Status::Settled);
    }

    #[test]
    fn what_is_settled_replaces_what_was_provisional() {
        let provisional = row("a", OutcomeKind::Provisional, Some((90, 0)), (90, 0));
        let of = |rows: &[MeteredRow]| allocation(rows, &History::default())[0].lines[0].clone();
        let before = of(std::slice::from_ref(&provisional));
        assert_eq!((before.status, before.import.supplier), (Status::Provisional, 90));
        let settled = row("a", OutcomeKind::Settled, Some((100, 0)), (60, 0));
        let after = of(&[provisional, settled]);
        assert_eq!((after.status, after.import), (Status::Settled, Shared { community: 40, supplier: 60 }));
    }

    #[test]
    fn late_readings_and_corrections_stand_in_the_interval_they_are_of() {
        let missing = row("a", OutcomeKind::Settled, None, (0, 0));
        let of = |rows: &[MeteredRow], history: &History| allocation(rows, history)[0].lines[0].clone();
        assert_eq!(of(std::slice::from_ref(&missing), &History::default()).status, Status::Missing);
        let late = row("a", OutcomeKind::Late, Some((70, 5)), (70, 5));
        let both = [missing, late, row("a", OutcomeKind::Correction, None, (0, 0))];
        let line = of(&both, &History::default());
        assert_eq!((line.status, line.import.supplier, line.export.supplier), (Status::Late, 70, 5));
        let correction =
            Body::Correction { home: home("a"), interval: interval(), import_delta: -10, export_delta: 2 };
        let line = of(&both, &history(vec![correction]));
        assert_eq!((line.status, line.import.supplier, line.export.supplier), (Status::Corrected, 60, 7));
    }

    #[test]
    fn a_sale_that_was_not_delivered_is_no_energy_of_the_meter() {
        let line = row("a", OutcomeKind::Settled, Some((100, 30)), (120, 0));
        let line = allocation(&[line], &History::default())[0].lines[0].clone();
        assert_eq!(line.import, Shared { community: 0, supplier: 100 });
        assert_eq!(line.export, Shared { community: 30, supplier: 0 });
    }

    #[test]
    fn a_part_holds_from_its_interval_on_and_the_last_word_counts() {
        let part = |hours: u64, share: u32| Body::ParticipationChange {
            home: home("a"),
            from: Interval::from_index(interval().index() + hours * 4, Mtu::Min15),
            participation: Participation { share_permyriad: share, permille: 1000 },
        };
        let history = history(vec![part(2, 2_000), part(1, 1_000)]);
        let at = |hours: u64| {
            let interval = Interval::from_index(interval().index() + hours * 4, Mtu::Min15);
            history.participation(&home("a"), interval).share_permyriad
        };
        assert_eq!([at(0), at(1), at(2), at(3)], [0, 1_000, 1_000, 1_000]);
    }
}
