//! One recorded fortnight by what draws and gives the power, for homes whose devices are simulated.
//!
//! Unlike [`super::Dataset`], which replays net power, this keeps apart what can be controlled (vehicle, heat) from what
//! cannot, and takes the sun before the recorded batteries (`pvb_raw`): the batteries are simulated anew.

use std::path::Path;

use energy::Interval;
use market::NodeSpec;

use super::files::{self, Power, Source};
use super::{DatasetError, DemoHome, QUARTERS_PER_WH, Season, check_nodes_of, demo_order, nodes};

/// One home's recorded mean power per quarter-hour, W. What it does not have is an empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedHome {
    /// What stands there. Its meter's first registers are 0.
    pub home: DemoHome,
    /// Load that nothing controls.
    pub load_w: Vec<u32>,
    /// Solar generation without a battery behind it.
    pub pv_w: Vec<u32>,
    /// Solar generation before its battery.
    pub battery_pv_w: Vec<u32>,
    /// Heat pump.
    pub heat_w: Vec<u32>,
    /// EV charging.
    pub vehicle_w: Vec<u32>,
}

/// A fortnight of a street.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The first quarter-hour, a Monday's first.
    pub first: Interval,
    /// How many quarter-hours there are.
    pub intervals: usize,
    /// In the order of [`super::Dataset::homes_for_demo`].
    pub homes: Vec<RecordedHome>,
    /// The network's tree, as [`super::Dataset::network`].
    pub network: Vec<NodeSpec>,
}

impl Recording {
    /// The street that is part of the program.
    ///
    /// # Errors
    /// [`DatasetError`] if the program was built with damaged data.
    pub fn builtin(season: Season) -> Result<Self, DatasetError> {
        Self::from_source(&Source::Builtin, season)
    }

    /// The street in `folder`, in either layout of [`super::Dataset::load`].
    ///
    /// # Errors
    /// [`DatasetError`] with file, line and column.
    pub fn load(folder: &Path, season: Season) -> Result<Self, DatasetError> {
        Self::from_source(&Source::Folder(folder), season)
    }

    fn from_source(source: &Source<'_>, season: Season) -> Result<Self, DatasetError> {
        let network = nodes(source)?;
        let homes = files::read_homes(source)?;
        check_nodes_of(&homes, &network)?;
        let read = |quantity| files::read_power(source, season, quantity);
        let mut tables =
            [read("load_base")?, read("pv")?, read("pvb_raw")?, read("load_hp")?, read("load_ev")?];
        let (first, intervals) = same_extent(&tables)?;
        let homes = demo_order(homes).into_iter().map(|home| take_home(home, &mut tables));
        let homes = homes.collect::<Result<Vec<_>, _>>()?;
        for table in &tables {
            if let Some(home) = table.watts.keys().next() {
                return Err(table.contradiction(format!("homes.csv lists no home {home}")));
            }
        }
        Ok(Self { first, intervals, homes, network })
    }
}

/// The first quarter-hour and their number, which must be those of every table.
fn same_extent(tables: &[Power]) -> Result<(Interval, usize), DatasetError> {
    let extent = |table: &Power| Some((table.first, table.watts.values().next()?.len()));
    let [base, ..] = tables else {
        return Err(files::inconsistent("homes.csv", "there are no tables".to_owned()));
    };
    let expected = extent(base).ok_or_else(|| base.contradiction("there are no homes".to_owned()))?;
    match tables.iter().find(|table| extent(table).is_some_and(|found| found != expected)) {
        Some(table) => Err(table.contradiction("not the same quarter-hours as the base load".to_owned())),
        None => Ok(expected),
    }
}

/// Takes a home's columns out of the tables.
fn take_home(home: DemoHome, tables: &mut [Power; 5]) -> Result<RecordedHome, DatasetError> {
    if home.battery_wh > 0 && !(1..=1000).contains(&home.battery_efficiency_permille) {
        let what = format!("the battery of home {} needs a bat_eff above 0 and at most 1", home.id);
        return Err(files::inconsistent("homes.csv", what));
    }
    if !tables[0].watts.contains_key(&home.id) {
        return Err(tables[0].contradiction(format!("home {} has no base load", home.id)));
    }
    let [load_w, pv_w, battery_pv_w, heat_w, vehicle_w] =
        tables.each_mut().map(|table| table.watts.remove(&home.id).unwrap_or_default());
    Ok(RecordedHome { home, load_w, pv_w, battery_pv_w, heat_w, vehicle_w })
}

/// The energy of quarter-hours of mean power, whole Wh: fractions carry over, so that no energy is lost in a sum. `watts`
/// may be empty, for none at all.
#[must_use]
pub fn energy_of(watts: &[u32], intervals: usize) -> Vec<u64> {
    let mut carried = 0;
    let mut whole = |&power: &u32| {
        let quarters = u64::from(power) + carried;
        carried = quarters % QUARTERS_PER_WH;
        quarters / QUARTERS_PER_WH
    };
    let mut energy: Vec<u64> = watts.iter().map(&mut whole).collect();
    energy.resize(intervals, 0);
    energy
}
