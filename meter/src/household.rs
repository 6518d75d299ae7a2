//! A home with several meters: what flows where, computed only from values of one moment.
//!
//! Signs of [`Flows`]: grid + is import, − is export; PV + is generation; battery + is discharge, − is charge; EV charger
//! and heat pump + is what they draw. So house = grid + PV + battery is all that is used in the home, and what is left
//! of it without EV charger and heat pump is the rest of the house.
//!
//! Each meter says its own power with + for what flows through it from the grid's side ([`crate::LiveSample`]); the role
//! turns the sign of what generates. Values further apart than one window are never added: a cloud that reaches the PV
//! meter before the grid meter would be a load that nobody switched on.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Values of different meters further apart than this are not of one moment.
pub const ALIGNED_WITHIN: Duration = Duration::from_secs(2);
/// A value older than this says nothing about now.
pub const FRESH_WITHIN: Duration = Duration::from_secs(10);
/// Values kept of each meter, so that a quick one still has a value for the moment of a slow one.
const KEPT: usize = 16;
/// A house cannot use less than nothing; meters of class B and rounding may be off by this, W and percent of all flows.
const IMPOSSIBLE_W: u64 = 50;
const IMPOSSIBLE_PERCENT: u64 = 5;

/// What a meter measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The connection point.
    Grid,
    /// Solar generation.
    Pv,
    /// A battery.
    Battery,
    /// A charger for an electric vehicle.
    Ev,
    /// A heat pump.
    HeatPump,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Grid, Self::Pv, Self::Battery, Self::Ev, Self::HeatPump];

    /// The word used in configuration and for machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Grid => "grid",
            Self::Pv => "pv",
            Self::Battery => "battery",
            Self::Ev => "ev",
            Self::HeatPump => "heat-pump",
        }
    }

    /// The role of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// Power in the signs of [`Flows`], from that of a meter.
    const fn flow(self, power_w: i64) -> i64 {
        match self {
            Self::Grid | Self::Ev | Self::HeatPump => power_w,
            Self::Pv | Self::Battery => power_w.saturating_neg(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What flows in a home at one moment, W. `None` where it has no such meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flows {
    /// + import, − export.
    pub grid_w: i64,
    /// + generation.
    pub pv_w: Option<i64>,
    /// + discharge, − charge.
    pub battery_w: Option<i64>,
    /// + what the charger draws.
    pub ev_w: Option<i64>,
    /// + what the heat pump draws.
    pub heat_pump_w: Option<i64>,
    /// All that the home uses: grid + PV + battery.
    pub house_w: i64,
    /// What the home uses without charger and heat pump.
    pub rest_w: i64,
    /// How far apart the values are.
    pub spread: Duration,
    /// When the oldest of them was read.
    pub at: Instant,
}

/// The flows cannot be known now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misaligned {
    /// There is no meter at the connection point.
    #[error("this home has no meter with the role grid; flows need one at the connection point")]
    NoGrid,
    /// There is no other meter: what flows behind it is not metered.
    #[error(
        "this home has only the meter at its connection point; further ones ([[meters]]) show what flows behind it"
    )]
    OnlyGrid,
    /// The home feeds in, and nothing that could generate has a meter.
    #[error(
        "the home feeds in {feeds_w} W and has no meter at what generates it; add one with the role pv or battery"
    )]
    Unmetered {
        /// What it feeds in.
        feeds_w: u64,
    },
    /// A meter was not read yet.
    #[error("the {role} meter {name} was not read yet")]
    Missing {
        /// Its role.
        role: Role,
        /// Its name.
        name: String,
    },
    /// A meter has no fresh value.
    #[error("the {role} meter {name} was last read {} s ago; check its connection", age.as_secs())]
    Stale {
        /// Its role.
        role: Role,
        /// Its name.
        name: String,
        /// Age of its last value.
        age: Duration,
    },
    /// All are fresh, but not of one moment.
    #[error(
        "the {role} meter {name} was read {} ms apart from the others, more than {} ms; read it more often",
        apart.as_millis(),
        within.as_millis()
    )]
    Apart {
        /// Role of the one furthest away.
        role: Role,
        /// Its name.
        name: String,
        /// How far.
        apart: Duration,
        /// The most allowed.
        within: Duration,
    },
    /// The home would use less than nothing.
    #[error(
        "grid {grid_w} W, PV {pv_w} W and battery {battery_w} W would leave the house using {house_w} W: one of the meters probably has the wrong sign or role"
    )]
    Impossible {
        /// + import.
        grid_w: i64,
        /// + generation.
        pv_w: i64,
        /// + discharge.
        battery_w: i64,
        /// Their sum.
        house_w: i64,
    },
}

/// Names one meter of a [`Household`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterId(usize);

#[derive(Debug, Clone)]
struct Member {
    role: Role,
    name: String,
    /// Power in the signs of [`Flows`], oldest first.
    values: VecDeque<(Instant, i64)>,
}

/// The meters of one home and their latest values.
#[derive(Debug, Clone)]
pub struct Household {
    within: Duration,
    fresh: Duration,
    meters: Vec<Member>,
}

impl Default for Household {
    fn default() -> Self {
        Self::new(ALIGNED_WITHIN, FRESH_WITHIN)
    }
}

impl Household {
    /// A home without meters, whose values are added if they lie `within` of each other and are younger than `fresh`.
    #[must_use]
    pub const fn new(within: Duration, fresh: Duration) -> Self {
        Self { within, fresh, meters: Vec::new() }
    }

    /// Adds a meter. Several of one role are summed.
    pub fn add(&mut self, role: Role, name: &str) -> MeterId {
        self.meters.push(Member { role, name: name.to_owned(), values: VecDeque::with_capacity(KEPT) });
        MeterId(self.meters.len().saturating_sub(1))
    }

    /// Takes a value of a meter in the meter's own sign. One that is not newer than its latest is passed over.
    pub fn observe(&mut self, meter: MeterId, power_w: i64, at: Instant) {
        let Some(member) = self.meters.get_mut(meter.0) else { return };
        if member.values.back().is_some_and(|(latest, _)| at <= *latest) {
            return;
        }
        if member.values.len() >= KEPT {
            member.values.pop_front();
        }
        member.values.push_back((at, member.role.flow(power_w)));
    }

    /// What flows now.
    ///
    /// # Errors
    /// [`Misaligned`] with the meter to blame; there is never a sum of values of different moments.
    pub fn sample(&self, now: Instant) -> Result<Flows, Misaligned> {
        if self.meters.iter().all(|member| member.role != Role::Grid) {
            return Err(Misaligned::NoGrid);
        }
        if self.meters.len() == 1 {
            return Err(Misaligned::OnlyGrid);
        }
        let moment = self.moment(now)?;
        let mut values = Vec::with_capacity(self.meters.len());
        for member in &self.meters {
            values.push((member, nearest(member, moment).ok_or_else(|| missing(member))?));
        }
        let oldest = values.iter().map(|(_, (at, _))| *at).min().unwrap_or(moment);
        let furthest = values.iter().max_by_key(|(_, (at, _))| at.saturating_duration_since(oldest));
        let spread = furthest.map_or(Duration::ZERO, |(_, (at, _))| at.saturating_duration_since(oldest));
        match furthest {
            Some((member, _)) if spread > self.within => Err(Misaligned::Apart {
                role: member.role,
                name: member.name.clone(),
                apart: spread,
                within: self.within,
            }),
            _ => {
                let powers: Vec<(Role, i64)> =
                    values.iter().map(|(member, (_, power_w))| (member.role, *power_w)).collect();
                flows(&powers, spread, oldest)
            }
        }
    }

    /// The latest moment that every meter may have a value of: when the slowest was read last.
    fn moment(&self, now: Instant) -> Result<Instant, Misaligned> {
        let mut moment = now;
        for member in &self.meters {
            let (at, _) = *member.values.back().ok_or_else(|| missing(member))?;
            let age = now.saturating_duration_since(at);
            if age > self.fresh {
                return Err(Misaligned::Stale { role: member.role, name: member.name.clone(), age });
            }
            moment = moment.min(at);
        }
        Ok(moment)
    }
}

fn missing(member: &Member) -> Misaligned {
    Misaligned::Missing { role: member.role, name: member.name.clone() }
}

fn nearest(member: &Member, moment: Instant) -> Option<(Instant, i64)> {
    let apart = |at: Instant| at.saturating_duration_since(moment).max(moment.saturating_duration_since(at));
    member.values.iter().copied().min_by_key(|(at, _)| apart(*at))
}

fn flows(powers: &[(Role, i64)], spread: Duration, at: Instant) -> Result<Flows, Misaligned> {
    let of = |role| {
        powers.iter().filter(|(its, _)| *its == role).map(|(_, power_w)| *power_w).reduce(i64::saturating_add)
    };
    let (grid_w, pv_w, battery_w) = (of(Role::Grid).unwrap_or(0), of(Role::Pv), of(Role::Battery));
    let (ev_w, heat_pump_w) = (of(Role::Ev), of(Role::HeatPump));
    let house_w = grid_w.saturating_add(pv_w.unwrap_or(0)).saturating_add(battery_w.unwrap_or(0));
    let known = ev_w.unwrap_or(0).saturating_add(heat_pump_w.unwrap_or(0));
    let sources = [grid_w, pv_w.unwrap_or(0), battery_w.unwrap_or(0)];
    let all = sources.iter().fold(0u64, |all, power_w| all.saturating_add(power_w.unsigned_abs()));
    let allowed = IMPOSSIBLE_W.saturating_add(all.saturating_mul(IMPOSSIBLE_PERCENT) / 100);
    if house_w < 0 && house_w.unsigned_abs() > allowed {
        if pv_w.is_none() && battery_w.is_none() {
            return Err(Misaligned::Unmetered { feeds_w: grid_w.unsigned_abs() });
        }
        let [grid_w, pv_w, battery_w] = sources;
        return Err(Misaligned::Impossible { grid_w, pv_w, battery_w, house_w });
    }
    let rest_w = house_w.saturating_sub(known);
    Ok(Flows { grid_w, pv_w, battery_w, ev_w, heat_pump_w, house_w, rest_w, spread, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Grid, PV and battery meters of one home.
    fn home() -> (Household, [MeterId; 3], Instant) {
        let mut home = Household::default();
        let meters = [Role::Grid, Role::Pv, Role::Battery].map(|role| home.add(role, role.word()));
        (home, meters, Instant::now())
    }

    #[test]
    fn house_is_grid_plus_pv_plus_battery_in_the_signs_that_are_written_down() {
        let (mut home, [grid, pv, battery], start) = home();
        let (ev, heat) = (home.add(Role::Ev, "garage"), home.add(Role::HeatPump, "cellar"));
        // 1.2 kW to the grid, 5 kW from the roof, 0.8 kW into the battery: 3 kW are used.
        for (meter, power_w) in [(grid, -1_200), (pv, -5_000), (battery, 800), (ev, 1_400), (heat, 900)] {
            home.observe(meter, power_w, start);
        }
        let flows = home.sample(start + ms(500)).unwrap();
        assert_eq!((flows.grid_w, flows.pv_w, flows.battery_w), (-1_200, Some(5_000), Some(-800)));
        assert_eq!((flows.house_w, flows.ev_w, flows.heat_pump_w), (3_000, Some(1_400), Some(900)));
        assert_eq!(flows.rest_w, 700);
    }

    #[test]
    fn two_roofs_are_summed_and_what_a_home_does_not_have_is_absent() {
        let mut home = Household::default();
        let (grid, east, west) =
            (home.add(Role::Grid, "g"), home.add(Role::Pv, "east"), home.add(Role::Pv, "west"));
        let start = Instant::now();
        for (meter, power_w) in [(grid, 100), (east, -300), (west, -200)] {
            home.observe(meter, power_w, start);
        }
        let flows = home.sample(start).unwrap();
        assert_eq!((flows.pv_w, flows.house_w, flows.battery_w, flows.ev_w), (Some(500), 600, None, None));
    }

    #[test]
    fn a_quick_meter_answers_for_the_moment_of_a_slow_one() {
        let (mut home, [grid, pv, battery], start) = home();
        for second in 0..=8 {
            home.observe(grid, 1_000 * i64::try_from(second).unwrap(), start + ms(second * 1_000));
            home.observe(pv, -100, start + ms(second * 1_000 + 100));
        }
        home.observe(battery, 0, start + ms(2_900));
        let flows = home.sample(start + ms(8_500)).unwrap();
        assert_eq!((flows.grid_w, flows.house_w), (3_000, 3_100), "the third second, not the eighth");
        assert_eq!(flows.spread, ms(200));
    }

    #[test]
    fn what_is_not_of_one_moment_is_not_added_and_the_meter_is_named() {
        let (mut home, [grid, pv, battery], start) = home();
        home.observe(grid, 100, start);
        home.observe(pv, -100, start);
        let error = home.sample(start).unwrap_err();
        assert_eq!(error.to_string(), "the battery meter battery was not read yet");
        home.observe(battery, 0, start + ms(2_001));
        let error = home.sample(start + ms(2_001)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the battery meter battery was read 2001 ms apart from the others, more than 2000 ms; read it more often"
        );
        home.observe(grid, 100, start + ms(11_000));
        home.observe(battery, 0, start + ms(11_000));
        let error = home.sample(start + ms(11_000)).unwrap_err();
        assert_eq!(
            error,
            Misaligned::Stale { role: Role::Pv, name: "pv".to_owned(), age: Duration::from_secs(11) }
        );
        assert_eq!(Household::default().sample(start), Err(Misaligned::NoGrid));
        let mut alone = Household::default();
        let grid = alone.add(Role::Grid, "grid");
        alone.observe(grid, -900, start);
        assert_eq!(alone.sample(start), Err(Misaligned::OnlyGrid));
        let car = alone.add(Role::Ev, "garage");
        alone.observe(car, 0, start);
        assert_eq!(
            alone.sample(start),
            Err(Misaligned::Unmetered { feeds_w: 900 }),
            "no sign is wrong: a roof has no meter"
        );
    }

    #[test]
    fn a_house_that_would_use_less_than_nothing_has_a_meter_with_the_wrong_sign() {
        let (mut home, [grid, pv, battery], start) = home();
        // The PV meter counts generation as import.
        for (meter, power_w) in [(grid, -3_000), (pv, 4_000), (battery, 0)] {
            home.observe(meter, power_w, start);
        }
        let error = home.sample(start).unwrap_err();
        assert_eq!(
            error.to_string(),
            "grid -3000 W, PV -4000 W and battery 0 W would leave the house using -7000 W: one of the meters probably \
             has the wrong sign or role"
        );
        // A few watts are the meters' error.
        for (meter, power_w) in [(grid, -4_050), (pv, -4_000), (battery, 0)] {
            home.observe(meter, power_w, start + ms(1));
        }
        assert_eq!(home.sample(start + ms(1)).unwrap().house_w, -50);
    }

    #[test]
    fn roles_are_found_by_their_word() {
        for role in Role::ALL {
            assert_eq!(Role::from_word(role.word()), Some(role));
        }
        assert_eq!(Role::from_word("house"), None);
    }
}
