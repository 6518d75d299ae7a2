//! Vehicles at their chargers, read out of recorded charging.
//!
//! A contiguous run of recorded charging is one session: what it took is what the vehicle needs, and it is plugged in when
//! the run begins. When it leaves is not recorded. It is taken to leave at 7:00 if it came between 16:00 and 7:00, and at
//! 18:00 if it came in between; not before the recorded run ends, and not after the next one begins or the recording
//! ends. The first [`MINIMUM_WH`] are wanted at once.

use agent::Session;
use energy::{Interval, WattHours};

use crate::dataset::energy_of;

/// Charged at once, whatever it costs: some ten kilometres.
pub const MINIMUM_WH: u64 = 2_000;
/// Who comes from this hour on, or before the next morning, stays for the night.
const EVENING_HOUR: usize = 16;
/// Leaves after a night.
const MORNING_HOUR: usize = 7;
/// Leaves after a day.
const DEPARTURE_HOUR: usize = 18;

/// One stay of a vehicle, in intervals from the recording's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// Plugged in at its start.
    pub from: usize,
    /// Unplugged at its start.
    pub until: usize,
    /// What it needs.
    pub needed: u64,
}

impl Stay {
    /// The session as it begins.
    #[must_use]
    pub fn session(&self, first: Interval) -> Session {
        Session {
            needed: WattHours::new(self.needed),
            minimum: WattHours::new(self.needed.min(MINIMUM_WH)),
            deadline: Interval::from_index(first.index() + self.until as u64, first.mtu()),
        }
    }
}

/// The stays in a recording of one charger. `first` is its first interval, `intervals` how many are simulated.
#[must_use]
pub fn stays(charging_w: &[u32], first: Interval, intervals: usize) -> Vec<Stay> {
    let runs = runs_of(charging_w, intervals);
    let energy = energy_of(charging_w, charging_w.len());
    let mut stays = Vec::with_capacity(runs.len());
    for (place, &(from, end)) in runs.iter().enumerate() {
        let next = runs.get(place + 1).map_or(intervals, |&(next, _)| next);
        let until = leaves(first, from).clamp(end, next);
        let needed = energy.iter().take(end).skip(from).sum();
        if needed > 0 {
            stays.push(Stay { from, until, needed });
        }
    }
    stays
}

/// Contiguous runs of power, as [from, end).
fn runs_of(charging_w: &[u32], intervals: usize) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, _) in charging_w.iter().enumerate().take(intervals).filter(|(_, power)| **power > 0) {
        match runs.last_mut() {
            Some((_, end)) if *end == at => *end = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    runs
}

/// When a vehicle that comes at `from` would leave if nothing else mattered.
fn leaves(first: Interval, from: usize) -> usize {
    let per_day = first.mtu().per_day() as usize;
    let hour = |hour: usize| hour * per_day / 24;
    let since_midnight = first.of_day() as usize + from;
    let (midnight, comes) = (since_midnight - since_midnight % per_day, since_midnight % per_day);
    let leaves = if comes < hour(MORNING_HOUR) {
        midnight + hour(MORNING_HOUR)
    } else if comes < hour(EVENING_HOUR) {
        midnight + hour(DEPARTURE_HOUR)
    } else {
        midnight + per_day + hour(MORNING_HOUR)
    };
    leaves - first.of_day() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monday() -> Interval {
        Interval::parse("2016-06-13T00:00:00Z", energy::Mtu::Min15).unwrap()
    }

    fn charging(runs: &[(usize, usize)]) -> Vec<u32> {
        (0..192)
            .map(|at| if runs.iter().any(|&(from, end)| (from..end).contains(&at)) { 4_000 } else { 0 })
            .collect()
    }

    #[test]
    fn a_vehicle_that_comes_in_the_evening_leaves_in_the_morning_and_one_of_the_day_in_the_evening() {
        let found = stays(&charging(&[(36, 40), (72, 80)]), monday(), 192);
        let expected =
            [Stay { from: 36, until: 72, needed: 4_000 }, Stay { from: 72, until: 124, needed: 8_000 }];
        assert_eq!(found, expected);
        assert_eq!(found[1].session(monday()).deadline.to_string(), "2016-06-14T07:00:00Z");
        assert_eq!(found[0].session(monday()).minimum, WattHours::new(2_000));
    }

    #[test]
    fn a_stay_holds_its_recorded_run_and_ends_before_the_next_one_and_with_the_recording() {
        let found = stays(&charging(&[(20, 34), (60, 61), (66, 70), (180, 192)]), monday(), 192);
        let until: Vec<_> = found.iter().map(|stay| stay.until).collect();
        assert_eq!(until, [34, 66, 124, 192]);
    }

    #[test]
    fn recorded_energy_is_needed_to_the_watt_hour_however_it_is_cut() {
        let found = stays(&charging(&[(0, 3), (100, 107)]), monday(), 104);
        assert_eq!(found.iter().map(|stay| stay.needed).collect::<Vec<_>>(), [3_000, 4_000]);
    }
}
