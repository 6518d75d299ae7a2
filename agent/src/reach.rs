//! How much of its energy this home will probably exchange with neighbours: not a share of whatever it moves, but an amount.
//!
//! A share misleads who can move much: where neighbours lack 3 kWh, a battery that gives 30 sells 3 of them, not the share that
//! 1 kWh would have found. So at each time of the day the home counts on
//!
//! - what it sold to neighbours then, and its part of what they still took from the supplier;
//! - what it bought from them then, and its part of what they still gave to the supplier.
//!
//! Its own part of what was left over is one in n where n homes plan alike ([`Alike`]). If each claimed more, they would
//! overrun one another and sell at the supplier's price what their own evening needs: simulated on the two recorded grids,
//! one in √n of all flexible homes saved one of them nothing. Nor does a battery claim more than it could give all
//! night long: what runs empty in the evening has nothing left for its own home. What some cannot use of their part the others
//! find the days after. Where homes overrun one another all the same, matching rations them, and the next day each counts on what it got.
//! Recent days count most, and those of the same kind.
//!
//! Within that reach all is taken to be served, beyond it nothing. While nothing is known, nothing is within reach: the home
//! plans as with its supplier alone.

use energy::{Interval, Mtu, WattHours};

use crate::expect::Totals;
use crate::forecast::LocalTime;
use crate::forecast::ring::{Likeness, Ring};
use crate::home::{Devices, HORIZON, Reach};

/// How far back it looks.
const DAYS: u32 = 14;
/// Half as much each second day: what was found yesterday is claimed today.
const LIKE: Likeness = Likeness { days: DAYS as u64, half_life_days: 2.0, other_day: 0.5, halo_minutes: 30 };

/// A battery that gives its part all night long lasts so many hours.
const NIGHT_HOURS: u64 = 10;

/// How many homes of a community, this one included, are thought to plan as this one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alike {
    /// Those that can choose when to take energy: with a battery, a vehicle or a heat pump.
    pub taking: u32,
    /// Those that can choose when to give it: with a battery.
    pub giving: u32,
}

/// What one settled interval brought.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Met {
    bought: f64,
    sold: f64,
    /// What neighbours gave to the supplier in all, and took from it.
    spare: f64,
    lacking: f64,
}

/// What a home and its neighbours exchanged in the last two weeks.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    ring: Ring<Met>,
    /// What the battery could give in each interval of a night, Wh.
    nightly: f64,
}

impl Exchange {
    /// Nothing is known yet. A battery claims no more than it can give.
    #[must_use]
    pub fn new(mtu: Mtu, devices: &Devices) -> Self {
        let capacity = devices.battery.map_or(0, |battery| battery.capacity.get());
        let night = NIGHT_HOURS * 60 / u64::from(mtu.minutes());
        Self { ring: Ring::new(mtu, DAYS), nightly: capacity as f64 / night as f64 }
    }

    /// Remembers a settled interval: what this home bought from and sold to neighbours (forward too), and its community's
    /// totals where it sees them. `false`: not taken, because it is of another market time unit or too old.
    pub fn record(
        &mut self,
        interval: Interval,
        (bought, sold): (WattHours, WattHours),
        totals: Option<&Totals>,
        local: &LocalTime,
    ) -> bool {
        let [bought, sold] = [bought, sold].map(|energy| energy.get() as f64);
        let (spare, lacking) = totals.map_or((0.0, 0.0), |totals| {
            (totals.supplier_export.get() as f64, totals.supplier_import.get() as f64)
        });
        self.ring.record(interval, local, Met { bought, sold, spare, lacking })
    }

    /// What is within reach in `count` intervals (at most [`HORIZON`]) from `from`.
    #[must_use]
    pub fn reach(&self, from: Interval, count: usize, alike: Alike, local: &LocalTime) -> Vec<Reach> {
        let count = count.min(HORIZON);
        if from.mtu() != self.ring.mtu() {
            return vec![Reach { import: WattHours::ZERO, export: WattHours::ZERO }; count];
        }
        let part = |homes: u32| 1.0 / f64::from(homes.max(1));
        let (taking, giving) = (part(alike.taking), part(alike.giving));
        let pick = |met: &Met| {
            let claimed = (giving * met.lacking).min(self.nightly);
            Some([met.bought + taking * met.spare, met.sold + claimed])
        };
        let like = self.ring.pattern(&LIKE, (from.index(), count), from.index(), local, pick);
        let energy = |wh: f64| WattHours::new(u64::from(crate::forecast::to_wh(wh)));
        like.iter()
            .map(|days| {
                let [import, export] = days.mean([0.0, 0.0], 0.0);
                Reach { import: energy(import), export: energy(export) }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use energy::Price;

    use super::*;
    use crate::home::Battery;

    const UTC: LocalTime = LocalTime { east_s: 0, change: None };

    fn noon(day: u64) -> Interval {
        Interval::from_index(96 * (19_000 + day) + 48, Mtu::Min15)
    }

    fn wh(energy: u64) -> WattHours {
        WattHours::new(energy)
    }

    fn totals(spare: u64, lacking: u64) -> Totals {
        Totals { supplier_import: wh(lacking), supplier_export: wh(spare), ..Totals::default() }
    }

    fn exchange_of(capacity: u64) -> Exchange {
        let battery = Battery {
            capacity: wh(capacity),
            charge: wh(1_000),
            discharge: wh(1_000),
            efficiency_permille: 950,
            reserve: wh(0),
            wear: Price::ZERO,
        };
        Exchange::new(Mtu::Min15, &Devices { battery: Some(battery), ..Devices::default() })
    }

    /// A whole day around its noon, since neighbouring quarter-hours count too.
    fn record(exchange: &mut Exchange, day: u64, own: (u64, u64), totals: Option<&Totals>) {
        for step in 0..96 {
            let interval = Interval::from_index(noon(day).index() - 48 + step, Mtu::Min15);
            assert!(exchange.record(interval, (wh(own.0), wh(own.1)), totals, &UTC));
        }
    }

    fn reach(exchange: &Exchange, day: u64, giving: u32) -> (u64, u64) {
        let reach = exchange.reach(noon(day), 1, Alike { taking: 2 * giving, giving }, &UTC)[0];
        (reach.import.get(), reach.export.get())
    }

    #[test]
    fn nothing_is_within_reach_while_nothing_is_known() {
        assert_eq!(reach(&exchange_of(200_000), 0, 1), (0, 0));
    }

    #[test]
    fn what_was_exchanged_and_a_part_of_what_was_left_is_within_reach() {
        let mut exchange = exchange_of(200_000);
        record(&mut exchange, 0, (0, 500), Some(&totals(0, 3_000)));
        assert_eq!(reach(&exchange, 1, 1), (0, 3_500));
        assert_eq!(reach(&exchange, 1, 3), (0, 1_500), "of three alike each claims a third");
        record(&mut exchange, 0, (100, 0), Some(&totals(600, 0)));
        assert_eq!(reach(&exchange, 1, 3), (200, 0), "of six alike each claims a sixth");
        record(&mut exchange, 0, (200, 0), None);
        assert_eq!(reach(&exchange, 1, 3), (200, 0), "without totals only what was its own");
    }

    #[test]
    fn a_battery_claims_no_more_than_it_can_give_all_night_long() {
        for (capacity, claimed) in [(200_000, 3_000), (40_000, 1_000), (0, 0)] {
            let mut exchange = exchange_of(capacity);
            record(&mut exchange, 0, (0, 0), Some(&totals(0, 3_000)));
            assert_eq!(reach(&exchange, 1, 1), (0, claimed));
        }
    }

    #[test]
    fn recent_days_count_most() {
        let mut exchange = exchange_of(200_000);
        record(&mut exchange, 0, (0, 3_000), None);
        record(&mut exchange, 1, (0, 1_000), None);
        record(&mut exchange, 2, (0, 1_000), None);
        let (_, export) = reach(&exchange, 3, 1);
        assert!((1_000..1_500).contains(&export), "{export}");
    }
}
