//! What the next two days will probably bring: load, sun and need of heat, from the home's own past.
//!
//! **Load** (and the need of heat): the recency-weighted mean of past days at the same local time, workdays from workdays and
//! weekends from weekends (the other kind only where there is nothing else), neighbouring quarter-hours smoothed in; plus how the last
//! hour differs from that, fading over 90 minutes. While nothing is known, [`DEFAULT_LOAD_W`] all day long: a guess, and
//! [`Forecast::days`] says so.
//!
//! **Sun**: the clear sky over the roof ([`crate::Sun`]) × the part of it that this time of day usually brings × how the
//! last hour of sun compares, fading over eight hours. Where place, tilt or azimuth are unknown, or generation has no meter of its
//! own, the upper envelope of the last three weeks stands for the clear sky; before the first day there is then none.
//!
//! **Errors** are measured at one hour, six hours and a day ahead and compared with "as yesterday at this time".
//!
//! Deterministic: same history, same forecast. No clock: local time is handed in. Floating point stays inside; integers
//! come out.

mod errors;
mod habit;
mod history;
pub(crate) mod ring;
mod sun;

use energy::{Interval, Mtu, Timestamp, WattHours};

pub use errors::{ERROR_DAYS, Errors, Lead, Measure, Quantity, Summary};
pub use history::{Did, History, Seen, Was};

use crate::home::HORIZON;
use crate::solar::{Place, Plane};
use habit::Habit;
use ring::Likeness;
use sun::expect_sun;

/// Mean load of a home of which nothing is known yet: 250 W, 2 190 kWh a year. The mean household of the two recorded grids
/// uses 2 183 and 2 951 kWh.
pub const DEFAULT_LOAD_W: u32 = 250;

/// Tuned on the recorded homes: shorter memories and no smoothing were 1 to 4 % worse. Counting the other kind of day by 0.4
/// would make households 1 % better and businesses, closed on Sundays, 12 to 14 % worse.
const LOAD: Habit = Habit {
    like: Likeness { days: 56, half_life_days: 7.0, other_day: 0.05, halo_minutes: 45 },
    default_w: DEFAULT_LOAD_W as f64,
};
/// Heat follows the weather of the last days and not the week.
const HEAT: Habit = Habit {
    like: Likeness { days: 14, half_life_days: 3.0, other_day: 1.0, halo_minutes: 45 },
    default_w: 0.0,
};

/// Local time as an offset from UTC, with the next change if one is known. Who calls the agent knows the time zone; it reads
/// none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LocalTime {
    /// Seconds east of UTC.
    pub east_s: i32,
    /// From this instant on local time is this many seconds east instead: the end of summer time, say.
    pub change: Option<(Timestamp, i32)>,
}

/// Where panels stand and how they face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// Where.
    pub place: Place,
    /// How they face.
    pub plane: Plane,
}

/// A home's solar panels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roof {
    /// Their rating, W.
    pub peak_w: u32,
    /// Where they are, if the household said so.
    pub site: Option<Site>,
}

/// What one interval will probably bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Expected {
    /// Load that nothing controls.
    pub load: WattHours,
    /// Solar generation before curtailment.
    pub pv: WattHours,
    /// Electricity that heat takes to stay where it is in comfort.
    pub heat: WattHours,
}

/// What the coming intervals will probably bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// The first.
    pub from: Interval,
    /// One after the other.
    pub steps: Vec<Expected>,
    /// Whole days of history it is made of, gaps left out; 0: mostly a guess.
    pub days: u32,
}

/// Forecasts `count` intervals (at most [`HORIZON`]) from `from` out of what was before it.
#[must_use]
pub fn forecast(history: &History, from: Interval, count: usize, local: &LocalTime) -> Forecast {
    let count = count.min(HORIZON);
    let mut steps = vec![Expected::default(); count];
    let days = history.ring.known(from.index()) / u64::from(history.mtu().per_day());
    if from.mtu() == history.mtu() {
        let load = LOAD.expect(&history.ring, (from, count), local, |slot| f64::from(slot.load));
        let heat = if history.has_heat() {
            HEAT.expect(&history.ring, (from, count), local, |slot| f64::from(slot.heat))
        } else {
            vec![0.0; count]
        };
        let sun = expect_sun(history, from, count);
        for (step, ((load, heat), pv)) in steps.iter_mut().zip(load.into_iter().zip(heat).zip(sun)) {
            let energy = |wh| WattHours::new(u64::from(to_wh(wh)));
            *step = Expected { load: energy(load), pv: energy(pv), heat: energy(heat) };
        }
    }
    Forecast { from, steps, days: u32::try_from(days).unwrap_or(u32::MAX) }
}

/// The nearest whole Wh; never negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that does not fit is cut to the range"
)]
pub(crate) fn to_wh(wh: f64) -> u32 {
    wh.round() as u32
}

/// History, forecasts and their errors of one home, kept together.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecaster {
    history: History,
    errors: Errors,
}

impl Forecaster {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(mtu: Mtu, roof: Option<Roof>) -> Self {
        Self { history: History::new(mtu, roof), errors: Errors::new(mtu) }
    }

    /// Takes in what an interval was, and measures what had been said about it. `false`: not taken, see [`History::record`].
    pub fn learn(&mut self, interval: Interval, seen: &Seen, local: &LocalTime) -> bool {
        let taken = self.history.record(interval, seen, local);
        if taken {
            self.errors.learn(interval, &self.history);
        }
        taken
    }

    /// A forecast whose errors will be measured; make one an interval.
    pub fn forecast(&mut self, from: Interval, count: usize, local: &LocalTime) -> Forecast {
        let forecast = forecast(&self.history, from, count, local);
        self.errors.note(&forecast);
        forecast
    }

    /// What was learned.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How far forecasts were off.
    #[must_use]
    pub fn errors(&self) -> &Errors {
        &self.errors
    }
}
