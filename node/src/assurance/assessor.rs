//! The side of the node at the transformer: rows of the ledger become evidence, an assessment becomes statements.

use std::collections::{BTreeMap, BTreeSet};

use energy::{ClockQuality, HomeId, Interval, NodeId, Quality, WattHours};
use market::NodeSpec;
use meter::assurance::{
    Assessment, Evidence, HomeEvidence, LossModel, MeterAssurance, MeterSeries, Place, PvDeclaration,
    Registers,
};

/// Days one assessment looks back: what the highest level asks for.
pub const WINDOW_DAYS: u32 = 30;
/// Meters in one statement at the most, so that it fits into an entry; a larger community makes several.
pub const STATEMENT_METERS_MAX: usize = 64;
/// A reading's step may be so many times the registered one …
const COARSER_TIMES: u64 = 10;
/// … but no more than this, Wh, unless it is registered.
const COARSER_MAX_WH: u64 = 100;

/// One final reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingRow {
    /// Whose meter; `None`: the one at the transformer.
    pub home: Option<HomeId>,
    /// The interval at whose end the registers stood so.
    pub interval: Interval,
    /// Counts the meters of the connection point and their resets.
    pub epoch: u32,
    /// Import register.
    pub import: WattHours,
    /// Export register.
    pub export: WattHours,
    /// Smallest step of the registers.
    pub quantum: WattHours,
    /// How good the registers are.
    pub quality: Quality,
    /// How good the time is.
    pub clock_quality: ClockQuality,
}

impl ReadingRow {
    /// True if the registers stood so at this very boundary. The reading after a gap did: it is its energy that covers more.
    fn is_exact(&self) -> bool {
        matches!(self.quality, Quality::Good | Quality::Gap) && self.clock_quality != ClockQuality::Unsynced
    }
}

/// One day's evidence of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRow {
    /// Which home.
    pub home: HomeId,
    /// The interval of the first voltage.
    pub from: Interval,
    /// The interval in which it was put on the ledger: what it declares is said beforehand only for what comes after it.
    pub given: Interval,
    /// Mean phase voltages of consecutive intervals in 0.1 V; 0 where it is not known.
    pub voltage_dv: Vec<u16>,
    /// The PV it declares.
    pub pv: Option<PvDeclaration>,
    /// Inverter's energy × 1000 / PV meter's energy.
    pub inverter_permille: Option<u32>,
}

/// One home, as registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeRow {
    /// Which home.
    pub home: HomeId,
    /// The network node it is connected to.
    pub node: NodeId,
    /// Its meter says its own serial number (its profile has a register for it); one typed in identifies nothing.
    pub identified: bool,
    /// Smallest step of its registers, as member and operator registered it.
    pub quantum: WattHours,
}

/// What is known of the community beside its ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Community {
    /// Losses between the transformer's meter and the homes.
    pub losses: LossModel,
    /// Where it is; `None`: nothing is held against the sun.
    pub place: Option<Place>,
}

/// The first interval of the window that ends with `until`.
#[must_use]
pub fn window_start(until: Interval) -> Interval {
    let length = u64::from(WINDOW_DAYS) * u64::from(until.mtu().per_day());
    Interval::from_index((until.index() + 1).saturating_sub(length), until.mtu())
}

/// The last interval of the statement that is due, if one is: at each multiple of `every` intervals (a market day, unless a
/// demo says otherwise), once everything up to it has `settled`, and not before `every` after the one `stated` last.
#[must_use]
pub fn due(stated: Option<Interval>, settled: Interval, every: u64) -> Option<Interval> {
    let every = every.max(1);
    let end = (settled.index() + 1) / every * every;
    let until = Interval::from_index(end.checked_sub(1)?, settled.mtu());
    let long_ago = |stated: Interval| stated.index().saturating_add(every) <= until.index();
    stated.is_none_or(long_ago).then_some(until)
}

/// The last interval of the statement that is [`due`] on a chain that begins with `first`, and the homes it is due for: each
/// by its own last statement, since the part of a large community that a home stands in may have been lost or refused.
pub fn due_homes<'a>(
    stated: impl Iterator<Item = (&'a HomeId, Option<Interval>)>,
    (first, settled): (Interval, Interval),
    every: u64,
) -> Option<(Interval, BTreeSet<HomeId>)> {
    let until = due(None, settled, every).filter(|until| *until >= first)?;
    let is_due = |(_, stated): &(_, Option<Interval>)| due(*stated, settled, every).is_some();
    let homes: BTreeSet<HomeId> = stated.filter(is_due).map(|(home, _)| home.clone()).collect();
    (!homes.is_empty()).then_some((until, homes))
}

/// For every network node the feeder it belongs to: the node right below the first one that branches, as seen from the
/// root; a node above that is its own.
#[must_use]
pub fn feeders(network: &[NodeSpec]) -> BTreeMap<NodeId, NodeId> {
    let mut children: BTreeMap<&NodeId, Vec<&NodeId>> = BTreeMap::new();
    for spec in network {
        if let Some(parent) = &spec.parent {
            children.entry(parent).or_default().push(&spec.id);
        }
    }
    let below = |id: &NodeId| children.get(id).map_or(&[] as &[&NodeId], Vec::as_slice);
    let mut result = BTreeMap::new();
    let mut trunk = network.iter().find(|spec| spec.parent.is_none()).map(|spec| &spec.id);
    // A validated network is a tree, so each node is passed once; the bound holds for any other too.
    for _ in network {
        let Some(id) = trunk else { break };
        result.insert(id.clone(), id.clone());
        trunk = match below(id) {
            [only] => Some(*only),
            branches => {
                branches.iter().for_each(|feeder| mark(feeder, &below, network.len(), &mut result));
                None
            }
        };
    }
    result
}

/// Everything from `feeder` down belongs to it.
fn mark<'a>(
    feeder: &'a NodeId,
    below: &impl Fn(&NodeId) -> &'a [&'a NodeId],
    most: usize,
    result: &mut BTreeMap<NodeId, NodeId>,
) {
    let mut waiting = vec![feeder];
    for _ in 0..most {
        let Some(id) = waiting.pop() else { return };
        result.insert(id.clone(), feeder.clone());
        waiting.extend(below(id));
    }
}

/// Evidence of the window that ends with some interval, gathered row by row: a month of rows of a large community is never
/// in memory at once.
#[derive(Debug)]
pub struct Gathering {
    grid: Grid,
    root: MeterSeries,
    homes: Vec<HomeEvidence>,
    /// Smallest steps of the homes' registered meters, in the order of the homes.
    registered: Vec<WattHours>,
    places: BTreeMap<HomeId, usize>,
}

impl Gathering {
    /// Nothing is known yet of these homes.
    #[must_use]
    pub fn new(until: Interval, homes: &[HomeRow], feeders: &BTreeMap<NodeId, NodeId>) -> Self {
        let from = window_start(until);
        let intervals = usize::try_from(until.index() + 1 - from.index()).unwrap_or(0);
        let grid = Grid { from, intervals };
        let home = |row: &HomeRow| HomeEvidence {
            home: row.home.clone(),
            identified: row.identified,
            feeder: feeders.get(&row.node).unwrap_or(&row.node).clone(),
            meter: grid.series(row.quantum),
            voltage_dv: Vec::new(),
            pv: Vec::new(),
            inverter_permille: Vec::new(),
        };
        Self {
            grid,
            root: grid.series(WattHours::new(1)),
            homes: homes.iter().map(home).collect(),
            registered: homes.iter().map(|row| row.quantum).collect(),
            places: homes.iter().enumerate().map(|(place, row)| (row.home.clone(), place)).collect(),
        }
    }

    /// Takes a reading. One outside the window, of an unknown home, that does not stand at its boundary or is coarser than
    /// [`believed_step`] is left out.
    pub fn reading(&mut self, row: &ReadingRow) {
        let Some(home) = &row.home else { return self.grid.put_reading(&mut self.root, row) };
        let Some(&place) = self.places.get(home) else { return };
        if row.quantum <= believed_step(self.registered[place]) {
            self.grid.put_reading(&mut self.homes[place].meter, row);
        }
    }

    /// Takes a home's evidence of one day; of each home in the order of the days.
    pub fn day(&mut self, row: &EvidenceRow) {
        let (Some(&place), Some(first)) = (self.places.get(&row.home), self.grid.place(row.from)) else {
            return;
        };
        let home = &mut self.homes[place];
        if row.voltage_dv.iter().any(|&voltage| voltage > 0) {
            home.voltage_dv.resize(self.grid.intervals, None);
        }
        for (known, &voltage) in home.voltage_dv.iter_mut().skip(first).zip(&row.voltage_dv) {
            if voltage > 0 {
                *known = Some(voltage);
            }
        }
        if home.pv.last().is_none_or(|(_, pv)| *pv != row.pv) {
            home.pv.push((self.grid.first_day_after(row.given), row.pv));
        }
        home.inverter_permille.extend(row.inverter_permille);
    }

    /// All of it.
    #[must_use]
    pub fn finish(mut self, community: Community) -> Evidence {
        for home in &mut self.homes {
            // Nobody identifies a meter that has said nothing.
            home.identified &= is_read(&home.meter);
        }
        Evidence {
            from: self.grid.from,
            intervals: self.grid.intervals,
            root: Some(self.root).filter(is_read),
            losses: community.losses,
            place: community.place,
            homes: self.homes,
        }
    }
}

fn is_read(meter: &MeterSeries) -> bool {
    meter.readings.iter().any(Option::is_some)
}

/// The coarsest step that a home's readings are believed to have: what member and operator registered, and since a scale
/// factor or a floating-point register may grow coarser with time, ten times as much up to 100 Wh. The step decides how much
/// may be missing from the sum, so a home does not choose its own.
fn believed_step(registered: WattHours) -> WattHours {
    let coarser = registered.get().saturating_mul(COARSER_TIMES).min(COARSER_MAX_WH);
    registered.max(WattHours::new(coarser))
}

/// A window of intervals.
#[derive(Debug, Clone, Copy)]
struct Grid {
    from: Interval,
    intervals: usize,
}

impl Grid {
    fn series(self, quantum: WattHours) -> MeterSeries {
        MeterSeries { quantum, readings: vec![None; self.intervals] }
    }

    /// Where in the window an interval is.
    fn place(self, interval: Interval) -> Option<usize> {
        let place = usize::try_from(interval.index().checked_sub(self.from.index())?).ok()?;
        (interval.mtu() == self.from.mtu() && place < self.intervals).then_some(place)
    }

    /// Place of the first interval of the UTC day after the one of `interval`.
    fn first_day_after(self, interval: Interval) -> usize {
        let per_day = u64::from(interval.mtu().per_day());
        let first = (interval.index() / per_day).saturating_add(1).saturating_mul(per_day);
        usize::try_from(first.saturating_sub(self.from.index())).unwrap_or(usize::MAX)
    }

    fn put_reading(self, series: &mut MeterSeries, row: &ReadingRow) {
        let Some(place) = self.place(row.interval).filter(|_| row.is_exact()) else { return };
        series.quantum = series.quantum.max(row.quantum);
        series.readings[place] = Some(Registers { epoch: row.epoch, import: row.import, export: row.export });
    }
}

/// The assessment as statements: homes in ascending order, so many in each as fit into an entry, and no level above what
/// `ceiling` (the ledger's own rule) allows.
#[must_use]
pub fn statements(
    assessment: Assessment,
    ceiling: impl Fn(&MeterAssurance) -> u8,
) -> Vec<Vec<MeterAssurance>> {
    let mut meters = assessment.meters;
    meters.sort_unstable_by(|left, right| left.home.cmp(&right.home));
    for meter in &mut meters {
        meter.level = meter.level.min(ceiling(meter));
    }
    meters.chunks(STATEMENT_METERS_MAX).map(<[MeterAssurance]>::to_vec).collect()
}
