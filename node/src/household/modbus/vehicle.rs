//! The vehicle at a charger: whether it is there, and what it still needs. Most chargers know no more of it than that.

use agent::Session;
use energy::{Interval, Mtu, Timestamp, WattHours};

use crate::config::household::ChargerSettings;
use crate::household::keeper::TRIAL_COMES;
use crate::zone::Zone;

const MINUTES_PER_DAY: u32 = 1_440;

/// What the household said of its vehicle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    capacity: WattHours,
    minimum_percent: u32,
    target_percent: u32,
    ready_by: u32,
    zone: Zone,
    mtu: Mtu,
}

impl Rule {
    pub(super) fn of(charger: &ChargerSettings, mtu: Mtu, zone: Zone) -> Self {
        Self {
            capacity: charger.capacity,
            minimum_percent: charger.minimum_percent,
            target_percent: charger.target_percent,
            ready_by: charger.ready_by.minutes,
            zone,
            mtu,
        }
    }

    fn part(&self, percent: u32) -> u64 {
        self.capacity.get() * u64::from(percent) / 100
    }

    /// Whether a vehicle that nobody can see is taken to be there.
    fn is_usual(&self, now: Timestamp) -> bool {
        let since = |minute: u32| (minute + MINUTES_PER_DAY - TRIAL_COMES) % MINUTES_PER_DAY;
        since(self.zone.minute(now)) < since(self.ready_by)
    }

    /// The interval in which the next time begins at which it must be ready.
    fn deadline(&self, now: Timestamp) -> Interval {
        Interval::containing(self.zone.next_at(self.ready_by, now), self.mtu)
    }
}

/// What the charger says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Market time.
    pub(super) now: Timestamp,
    /// Whether a vehicle is there; `None`: it cannot tell.
    pub(super) connected: Option<bool>,
    /// What is in the vehicle, if that is known.
    pub(super) stored: Option<WattHours>,
    /// What the charger gave so far, if it counts.
    pub(super) taken: Option<WattHours>,
}

/// Follows the vehicles at one charger.
#[derive(Debug)]
pub(super) struct Vehicles {
    rule: Rule,
    visit: Option<Visit>,
    told: Told,
}

/// One vehicle from its coming to its leaving.
#[derive(Debug, Clone, Copy)]
struct Visit {
    /// Wh that it was given.
    given: u64,
    /// Where the counter stood last.
    stand: WattHours,
}

/// What the charger was told, which stands for what it gave where it does not count.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    watts: u32,
    since: Option<Timestamp>,
    /// W × ms until then.
    before: u128,
}

impl Told {
    fn until(&self, now: Timestamp) -> u128 {
        let ms = self.since.map_or(0, |since| now.ms_since(since));
        self.before + u128::from(self.watts) * u128::from(ms)
    }

    fn energy(&self, now: Timestamp) -> WattHours {
        WattHours::new(u64::try_from(self.until(now) / 3_600_000).unwrap_or(u64::MAX))
    }
}

impl Vehicles {
    pub(super) fn new(rule: Rule) -> Self {
        Self { rule, visit: None, told: Told::default() }
    }

    /// The charger gives at most this much from now on.
    pub(super) fn told(&mut self, watts: u32, now: Timestamp) {
        self.told = Told { watts, since: Some(now), before: self.told.until(now) };
    }

    /// What the vehicle that is there still needs; `None`: none is, or it needs nothing.
    pub(super) fn session(&mut self, look: &Look) -> Option<Session> {
        let rule = self.rule;
        if !look.connected.unwrap_or_else(|| rule.is_usual(look.now)) {
            self.visit = None;
            return None;
        }
        let stand = look.taken.unwrap_or_else(|| self.told.energy(look.now));
        let visit = self.visit.get_or_insert(Visit { given: 0, stand });
        // A counter that fell began anew with this vehicle.
        let more = if stand < visit.stand { stand.get() } else { stand.get() - visit.stand.get() };
        *visit = Visit { given: visit.given.saturating_add(more), stand };
        let (target, minimum) = (rule.part(rule.target_percent), rule.part(rule.minimum_percent));
        // One of which nobody knows how full it is comes with its minimum in it, as a simulated one does.
        let stored = look.stored.map_or(minimum.saturating_add(visit.given), WattHours::get);
        let needed = target.saturating_sub(stored);
        (needed > 0).then(|| Session {
            needed: WattHours::new(needed),
            minimum: WattHours::new(minimum.saturating_sub(stored)),
            deadline: rule.deadline(look.now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Midnight, UTC and local.
    const MIDNIGHT: Timestamp = Timestamp::from_unix_ms(1_465_776_000_000);
    const MINUTE_MS: u64 = 60_000;

    fn vehicles() -> Vehicles {
        Vehicles::new(Rule {
            capacity: WattHours::new(60_000),
            minimum_percent: 20,
            target_percent: 80,
            ready_by: 7 * 60,
            zone: Zone::UTC,
            mtu: Mtu::Min15,
        })
    }

    fn at(minute: u64) -> Look {
        let now = MIDNIGHT.plus_ms(minute * MINUTE_MS);
        Look { now, connected: Some(true), stored: None, taken: None }
    }

    #[test]
    fn what_a_vehicle_was_given_is_needed_no_more_whether_counted_or_told() {
        let mut vehicles = vehicles();
        let counted = |minute, taken| Look { taken: Some(WattHours::new(taken)), ..at(minute) };
        let mut needed = |look: &Look| vehicles.session(look).map(|session| session.needed.get());
        assert_eq!(needed(&counted(0, 5_000_000)), Some(36_000));
        assert_eq!(needed(&counted(60, 5_011_000)), Some(25_000));
        assert_eq!(needed(&counted(120, 4_000)), Some(21_000), "the counter began anew");
        assert_eq!(needed(&Look { connected: Some(false), ..at(130) }), None);
        assert_eq!(needed(&counted(140, 4_000)), Some(36_000), "the next vehicle");
        let mut uncounted = self::vehicles();
        assert_eq!(uncounted.session(&at(0)).unwrap().needed.get(), 36_000);
        uncounted.told(10_000, at(0).now);
        assert_eq!(uncounted.session(&at(60)).unwrap().needed.get(), 26_000);
        uncounted.told(0, at(60).now);
        assert_eq!(uncounted.session(&at(120)).unwrap().needed.get(), 26_000);
    }

    #[test]
    fn a_vehicle_that_says_how_full_it_is_is_believed() {
        let stored = |stored| Look { stored: Some(WattHours::new(stored)), ..at(0) };
        let session = vehicles().session(&stored(3_000)).unwrap();
        assert_eq!((session.needed.get(), session.minimum.get()), (45_000, 9_000));
        assert_eq!(vehicles().session(&stored(48_000)), None);
    }

    #[test]
    fn it_must_be_ready_at_the_next_such_time_and_unseen_it_comes_as_usual() {
        let deadline = |minute| vehicles().session(&at(minute)).unwrap().deadline.start();
        let seven = MIDNIGHT.plus_ms(420 * MINUTE_MS);
        assert_eq!(deadline(0), seven);
        assert_eq!(deadline(419), seven);
        assert_eq!(deadline(420), seven.plus_ms(1_440 * MINUTE_MS));
        let unseen = |minute| vehicles().session(&Look { connected: None, ..at(minute) }).is_some();
        assert_eq!([0, 419, 420, 1_079, 1_080, 1_439].map(unseen), [true, true, false, false, true, true]);
    }
}
