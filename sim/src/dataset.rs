//! The recorded street that the demo replays: homes, network and quarter-hourly power of two fortnights.
//!
//! Built in is `sim/data/simbench-1-LV-semiurb4--2-sw` (its README holds licence and attribution);
//! [`Dataset::load`] reads the same layout, or the one it was made from, out of a folder.
//!
//! Net power of a home is base load + heat pump + EV − PV − output of PV with battery, in whole watts. A mean power of
//! P W over a quarter-hour is exactly P quarter-watt-hours, so energy is counted in that unit and nothing is rounded
//! until a meter shows whole Wh. A quarter's net is either import or export, never both.
//!
//! **Order of homes** ([`Dataset::homes_for_demo`]): every third home, from the second on, has PV, households before
//! the large roofs of businesses and farms, of households the first without a battery, then those with one, then the rest, each
//! in the order of `homes.csv`. The places between go to homes without PV, one feeder after the other in turn, in each, but
//! for the street's first home, those with a vehicle first. So from two homes on every street has surplus and deficit in
//! both seasons, and the first twelve have all that a street has: sun, batteries, vehicles, a heat pump.
//!
//! What is deliberately absent: a clock, sockets, floats, money. The recorded local day is taken as UTC.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use energy::{HomeId, Interval, Mtu, NodeId, Price, WattHours};
use market::NodeSpec;

mod files;
mod profile;
mod recording;

use files::Source;
pub use profile::{LoadProfile, MeterState};
pub use recording::{RecordedHome, Recording, energy_of};

/// Currency of the demo's account.
pub const CURRENCY: &str = "CNY";
/// What the supplier charges: 0.25 CNY/kWh.
pub const IMPORT_PRICE: Price = Price::new(250_000);
/// What the supplier pays: 0.08 CNY/kWh.
pub const EXPORT_PRICE: Price = Price::new(80_000);
/// Fee on energy that comes down through the transformer.
const TRANSFORMER_FEE_DOWN: Price = Price::new(40_000);
/// Fee on energy that goes out into a feeder.
const FEEDER_FEE_DOWN: Price = Price::new(10_000);
/// Name of the network's root, the external grid above the transformer.
const ROOT: &str = "grid";

/// Quarter-hours of one day.
pub const QUARTERS_PER_DAY: usize = 96;
/// Quarter-Wh of one Wh.
const QUARTERS_PER_WH: u64 = 4;
/// Below this a register of f32 kWh still resolves less than 0.25 Wh, so rounding gives the exact Wh.
pub const REGISTER_LIMIT: WattHours = WattHours::new(4_096_000);
/// Registers that all began at 0 would hide a swapped meter: the first home's begins here, ...
const FIRST_START_WH: u64 = 1_000_000;
/// ... and that of each further home this much higher.
const NEXT_START_WH: u64 = 37_013;

/// A data set cannot be read, or does not describe a street.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file could not be read.
    #[error("cannot read {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file is there in neither form.
    #[error(
        "the data set has no {file}; a folder laid out like sim/data/simbench-1-LV-semiurb4--2-sw is needed"
    )]
    Missing {
        /// Its name.
        file: String,
    },
    /// A file is larger than any street's.
    #[error("{file} is larger than {limit} bytes: no data set of a street is")]
    TooLarge {
        /// Its name.
        file: String,
        /// The most that is read.
        limit: u64,
    },
    /// A file is not well-formed CSV.
    #[error("{file} is not a table of comma-separated values")]
    NotATable {
        /// Its name.
        file: String,
        /// What the CSV reader says, with its line.
        #[source]
        cause: csv::Error,
    },
    /// A column is needed that the header does not name.
    #[error("{file} has no column {column:?}")]
    NoColumn {
        /// The file.
        file: String,
        /// The column.
        column: String,
    },
    /// One cell cannot be what it says.
    #[error("{file} line {line}, column {column:?}: {text:?} is not {expected}")]
    BadCell {
        /// The file.
        file: String,
        /// Its line, from 1.
        line: u64,
        /// The column's name.
        column: String,
        /// What is there.
        text: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// The files contradict each other.
    #[error("{file}: {what}")]
    Inconsistent {
        /// The file.
        file: String,
        /// The contradiction.
        what: String,
    },
    /// A street of that many homes cannot be had.
    #[error("a street of {asked} homes cannot be made: this data set has 1 to {available}")]
    HomeCount {
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        available: usize,
    },
    /// The data set knows no such home.
    #[error("this data set has no home {0}")]
    UnknownHome(HomeId),
    /// Neither summer nor winter.
    #[error("{0:?} is no season; use summer or winter")]
    UnknownSeason(String),
}

/// Which recorded fortnight is replayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Season {
    /// 13 to 26 June 2016, from the 13th.
    #[default]
    Summer,
    /// 11 to 24 January 2016, from the 15th, a sunny day.
    Winter,
}

impl Season {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Summer, Self::Winter];

    /// The word used on the command line and in file names.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Summer => "summer",
            Self::Winter => "winter",
        }
    }

    /// The first interval of the day that the demo replays first.
    #[must_use]
    pub const fn first_interval(self) -> Interval {
        // Days since 1970-01-01: 2016-06-13 and 2016-01-15.
        let day: u64 = match self {
            Self::Summer => 16_965,
            Self::Winter => 16_815,
        };
        Interval::from_index(day * QUARTERS_PER_DAY as u64, Mtu::Min15)
    }
}

impl fmt::Display for Season {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Season {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self, DatasetError> {
        let known = Self::ALL.into_iter().find(|season| season.word() == text);
        known.ok_or_else(|| DatasetError::UnknownSeason(text.chars().take(40).collect()))
    }
}

/// What a connection point supplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeKind {
    /// People live there.
    Household,
    /// A business.
    Commercial,
    /// A farm.
    Farm,
}

/// One home of the street, with what stands there. Ratings in W or Wh; 0 where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoHome {
    /// Its id, e.g. `h001`.
    pub id: HomeId,
    /// The bus it hangs on, e.g. `bus32`.
    pub node: NodeId,
    /// The feeder that bus belongs to, e.g. `F2`.
    pub feeder: String,
    /// What it is.
    pub kind: HomeKind,
    /// Peak of its base load, W.
    pub peak_w: u32,
    /// Rating of its PV without a battery, W.
    pub pv_w: u32,
    /// Rating of its PV behind a battery, W.
    pub battery_pv_w: u32,
    /// Capacity of that battery, Wh.
    pub battery_wh: u32,
    /// The most it takes or gives, W.
    pub battery_w: u32,
    /// What comes out of 1 000 Wh that went into it.
    pub battery_efficiency_permille: u32,
    /// Rating of its heat pump, W.
    pub heat_pump_w: u32,
    /// Rating of its EV charger, W.
    pub ev_w: u32,
    /// What its meter's import register shows when the replay begins: it stays below [`REGISTER_LIMIT`] to the end of
    /// either fortnight.
    pub import_start: WattHours,
    /// The same of its export register; 0 for a home without PV.
    pub export_start: WattHours,
}

impl DemoHome {
    /// True where anything can be exported.
    #[must_use]
    pub const fn has_pv(&self) -> bool {
        self.pv_w > 0 || self.battery_pv_w > 0
    }
}

/// Net power of every home over one fortnight.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    first: Interval,
    net_w: BTreeMap<HomeId, Vec<i64>>,
}

impl Window {
    /// A home's net power from `from` to the window's end.
    fn net_from(&self, home: &HomeId, from: Interval) -> Option<&[i64]> {
        let skipped = usize::try_from(from.index().checked_sub(self.first.index())?).ok()?;
        self.net_w.get(home)?.get(skipped..)
    }
}

/// One recorded street.
#[derive(Debug, PartialEq, Eq)]
pub struct Dataset {
    /// In the order of the demo.
    homes: Vec<DemoHome>,
    nodes: Vec<NodeSpec>,
    summer: Window,
    winter: Window,
}

impl Dataset {
    /// The street that is part of the program.
    ///
    /// # Errors
    /// [`DatasetError`] if the program was built with damaged data.
    pub fn builtin() -> Result<Self, DatasetError> {
        Self::from_source(&Source::Builtin)
    }

    /// The street in `folder`: tables in whole W per home and day (`*_w.csv`), or the original ones in kW per
    /// quarter-hour (`*_kw.csv`).
    ///
    /// # Errors
    /// [`DatasetError`] with file, line and column.
    pub fn load(folder: &Path) -> Result<Self, DatasetError> {
        Self::from_source(&Source::Folder(folder))
    }

    fn from_source(source: &Source<'_>) -> Result<Self, DatasetError> {
        let nodes = nodes(source)?;
        let homes = files::read_homes(source)?;
        check_nodes_of(&homes, &nodes)?;
        let summer = read_window(source, Season::Summer, &homes)?;
        let winter = read_window(source, Season::Winter, &homes)?;
        let mut dataset = Self { homes: Vec::new(), nodes, summer, winter };
        let started = homes.into_iter().enumerate().map(|(number, home)| dataset.with_start(number, home));
        dataset.homes = demo_order(started.collect());
        Ok(dataset)
    }

    /// How many homes there are.
    #[must_use]
    pub fn home_count(&self) -> usize {
        self.homes.len()
    }

    /// The first `n` homes in the demo's fixed order (see the module's words).
    ///
    /// # Errors
    /// [`DatasetError::HomeCount`] for none, or more than there are.
    pub fn homes_for_demo(&self, n: usize) -> Result<Vec<DemoHome>, DatasetError> {
        let homes = self.homes.get(..n).filter(|homes| !homes.is_empty());
        let homes = homes.ok_or(DatasetError::HomeCount { asked: n, available: self.homes.len() })?;
        Ok(homes.to_vec())
    }

    /// The network's tree, parents first: `grid` (the external grid), the busbar below the transformer, the buses.
    /// Limits are ratings × a quarter-hour, floored to Wh (1 kVA is counted as 1 kW).
    #[must_use]
    pub fn network(&self) -> Vec<NodeSpec> {
        self.nodes.clone()
    }

    /// A home's quarters from the season's day to the end of its fortnight: 14 days in summer, 10 in winter.
    ///
    /// # Errors
    /// [`DatasetError::UnknownHome`].
    pub fn profile(&self, season: Season, home: &HomeId) -> Result<LoadProfile, DatasetError> {
        let net_w = self.net_w(season, home).ok_or_else(|| DatasetError::UnknownHome(home.clone()))?;
        Ok(LoadProfile::from_net(season.first_interval(), net_w))
    }

    /// The 96 quarters of the season's day.
    ///
    /// # Errors
    /// [`DatasetError::UnknownHome`].
    pub fn day(&self, season: Season, home: &HomeId) -> Result<LoadProfile, DatasetError> {
        Ok(self.profile(season, home)?.truncated(QUARTERS_PER_DAY))
    }

    /// What the meter above `homes` sees over the same time: the sum of their net plus 2 % of it lost on the way.
    /// So importing N it counts N × 1.02, and of N exported 0.98 × N arrive; a quarter in which the homes serve each other
    /// exactly loses nothing. Fractions carry over. Its registers are meant to begin at 0: those of all homes
    /// together stay below [`REGISTER_LIMIT`] for eight days of summer and three of winter, those of the first twelve
    /// for the fortnight and eight days.
    ///
    /// # Errors
    /// [`DatasetError::UnknownHome`].
    pub fn root_meter(&self, season: Season, homes: &[DemoHome]) -> Result<LoadProfile, DatasetError> {
        let mut net_w: Vec<i64> = Vec::new();
        for home in homes {
            let of_home = self.net_w(season, &home.id);
            let of_home = of_home.ok_or_else(|| DatasetError::UnknownHome(home.id.clone()))?;
            net_w.resize(of_home.len(), 0);
            net_w.iter_mut().zip(of_home).for_each(|(sum, net)| *sum += net);
        }
        Ok(LoadProfile::from_net(season.first_interval(), &net_w).with_losses())
    }

    fn net_w(&self, season: Season, home: &HomeId) -> Option<&[i64]> {
        let window = match season {
            Season::Summer => &self.summer,
            Season::Winter => &self.winter,
        };
        window.net_from(home, season.first_interval())
    }

    /// Gives a home's meter its first registers: those of its place in the file, or as far below the limit as the larger
    /// of its two fortnights needs.
    fn with_start(&self, number: usize, home: DemoHome) -> DemoHome {
        let mut added = (0, 0);
        for season in Season::ALL {
            let net_w = self.net_w(season, &home.id).unwrap_or_default();
            let profile = LoadProfile::from_net(season.first_interval(), net_w);
            added.0 = profile.import_quarter_wh().iter().sum::<u64>().max(added.0);
            added.1 = profile.export_quarter_wh().iter().sum::<u64>().max(added.1);
        }
        let age_wh = FIRST_START_WH + NEXT_START_WH * number as u64;
        let import_start = start_register(age_wh, added.0);
        let export_start = if home.has_pv() { start_register(age_wh / 2, added.1) } else { WattHours::ZERO };
        DemoHome { import_start, export_start, ..home }
    }
}

/// `wish_wh`, or less so that the register stays below the limit while `quarter_wh` are added; never below 0.
fn start_register(wish_wh: u64, quarter_wh: u64) -> WattHours {
    let room = (REGISTER_LIMIT.get() - 1).saturating_sub(quarter_wh.div_ceil(QUARTERS_PER_WH));
    WattHours::new(wish_wh.min(room))
}

/// The module's order of homes.
fn demo_order(homes: Vec<DemoHome>) -> Vec<DemoHome> {
    let (mut with_pv, mut without_pv): (Vec<_>, Vec<_>) = homes.into_iter().partition(DemoHome::has_pv);
    let sun_alone = with_pv.iter().position(|home| home.kind == HomeKind::Household && home.battery_wh == 0);
    let first = sun_alone.map(|place| with_pv.remove(place));
    with_pv.sort_by_key(|home| (home.kind != HomeKind::Household, home.battery_wh == 0));
    let mut with_pv: VecDeque<_> = first.into_iter().chain(with_pv).collect();
    let opening = feeders_in_turn(without_pv.clone()).pop_front();
    without_pv.retain(|home| Some(home) != opening.as_ref());
    without_pv.sort_by_key(|home| home.ev_w == 0);
    let mut without_pv: VecDeque<_> = opening.into_iter().chain(feeders_in_turn(without_pv)).collect();
    let mut order = Vec::new();
    while !(with_pv.is_empty() && without_pv.is_empty()) {
        let (first, second) = if order.len() % 3 == 1 {
            (&mut with_pv, &mut without_pv)
        } else {
            (&mut without_pv, &mut with_pv)
        };
        order.extend(first.pop_front().or_else(|| second.pop_front()));
    }
    order
}

/// The first home of each feeder, then the second of each, and so on.
fn feeders_in_turn(homes: Vec<DemoHome>) -> VecDeque<DemoHome> {
    let mut placed: BTreeMap<String, usize> = BTreeMap::new();
    let mut turns = Vec::new();
    for home in homes {
        let turn = placed.entry(home.feeder.clone()).or_default();
        turns.push((*turn, home));
        *turn += 1;
    }
    turns.sort_by(|(turn, home), (other_turn, other)| (turn, &home.feeder).cmp(&(other_turn, &other.feeder)));
    turns.into_iter().map(|(_, home)| home).collect()
}

fn nodes(source: &Source<'_>) -> Result<Vec<NodeSpec>, DatasetError> {
    let root = NodeId::new(ROOT).map_err(|cause| files::inconsistent("buses.csv", cause.to_string()))?;
    let mut nodes = vec![node(root.clone(), None, Price::ZERO, None)];
    for bus in files::read_buses(source)? {
        let fee_down = match bus.depth {
            0 => TRANSFORMER_FEE_DOWN,
            1 => FEEDER_FEE_DOWN,
            _ => Price::ZERO,
        };
        let parent = bus.parent.unwrap_or_else(|| root.clone());
        if !nodes.iter().any(|known| known.id == parent) || nodes.iter().any(|known| known.id == bus.id) {
            let what = format!("{} comes twice, or before its parent {parent}", bus.id);
            return Err(files::inconsistent("buses.csv", what));
        }
        // Mean power × a quarter-hour: W / 4 = Wh.
        let limit = WattHours::new(u64::from(bus.rating_w) / QUARTERS_PER_WH);
        nodes.push(node(bus.id, Some(parent), fee_down, Some(limit)));
    }
    Ok(nodes)
}

fn node(id: NodeId, parent: Option<NodeId>, fee_down: Price, limit: Option<WattHours>) -> NodeSpec {
    NodeSpec { id, parent, fee_up: Price::ZERO, fee_down, up: limit, down: limit }
}

fn check_nodes_of(homes: &[DemoHome], nodes: &[NodeSpec]) -> Result<(), DatasetError> {
    let lost = homes.iter().find(|home| !nodes.iter().any(|node| node.id == home.node));
    lost.map_or(Ok(()), |home| {
        let what = format!("home {} hangs on {}, which buses.csv does not list", home.id, home.node);
        Err(files::inconsistent("homes.csv", what))
    })
}

/// Sums the season's tables to net power; every home needs a base load, the rest only where it has one.
fn read_window(source: &Source<'_>, season: Season, homes: &[DemoHome]) -> Result<Window, DatasetError> {
    let base = files::read_power(source, season, "load_base")?;
    let mut window = Window { first: base.first, net_w: BTreeMap::new() };
    for home in homes {
        let watts = base.watts.get(&home.id);
        let watts = watts.ok_or_else(|| base.contradiction(format!("home {} has no base load", home.id)))?;
        window.net_w.insert(home.id.clone(), watts.iter().copied().map(i64::from).collect());
    }
    let generators = [("pv", -1), ("pvb_out", -1)];
    for (quantity, sign) in [("load_hp", 1), ("load_ev", 1)].into_iter().chain(generators) {
        add_power(&mut window, &files::read_power(source, season, quantity)?, sign)?;
    }
    let quarters = window.net_w.values().map(Vec::len).min().unwrap_or_default();
    let after_day = season.first_interval().index() + QUARTERS_PER_DAY as u64;
    if window.first > season.first_interval() || window.first.index() + (quarters as u64) < after_day {
        return Err(base.contradiction(format!("the day from {} is not in it", season.first_interval())));
    }
    Ok(window)
}

fn add_power(window: &mut Window, power: &files::Power, sign: i64) -> Result<(), DatasetError> {
    for (home, watts) in &power.watts {
        let sums = window.net_w.get_mut(home);
        let sums = sums.ok_or_else(|| power.contradiction(format!("homes.csv lists no home {home}")))?;
        if power.first != window.first || watts.len() != sums.len() {
            return Err(power.contradiction("not the same quarter-hours as the base load".to_owned()));
        }
        sums.iter_mut().zip(watts).for_each(|(sum, &watts)| *sum += sign * i64::from(watts));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
