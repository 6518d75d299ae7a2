//! The guard: what the same home would have paid its supplier alone, with its devices left to themselves, counted beside what it
//! really paid; month by month, as the stop-loss of forward trading is.
//!
//! Beside the real home lives its **shadow**: the same load that nothing controls, the same sun and need of heat, the same
//! vehicle, and devices that do what they do without an agent ([`unplanned`], [`advance`]). It begins every month where the real
//! devices stand. Of each interval that is settled two sums are compared: what the home received and what its shadow would have
//! received from the supplier, each less the wear of its battery. What one of them holds more than the other is added at what
//! it will save ([`Week`]). Once the home is behind by more than it may ([`Guard::tolerance`]) for two days on end, devices are
//! left to themselves and nothing is traded until the month ends: then home and shadow do the same, and neighbours can only
//! make it cheaper.
//!
//! Nothing is decided in the first three days of a month: a plan spans two days, and what it buys today pays tomorrow.

use std::collections::{BTreeMap, VecDeque};

use energy::{Interval, Money, Mtu, Price, QuantityError, WattHours, midpoint_floor};

use crate::home::{Ahead, Battery, Devices, Prices, Session, Standing, Step};
use crate::orders::Month;
use crate::plan::{advance, unplanned};
use crate::{Seen, Terms};

/// Days that tell what energy is worth to a home.
const WORTH_DAYS: u32 = 7;
/// So many intervals may wait for their reading: a month of five minutes each.
const STOOD_MAX: usize = 8_928;
/// Days at a month's beginning in which nothing is decided: the one in which an agent without history learns, and two for what was
/// planned then. In recorded summers, homes that gained later were behind for up to 48 hours.
const QUIET_DAYS: u32 = 3;
/// A home must be behind for so many days without a break: as long as a plan reaches, for a large battery that is filled on a
/// cheap weekend pays on the days after.
const BEHIND_DAYS: u32 = 2;
/// The least by which a home may be behind before its agent rests: 0.02 of the currency, what a battery that is being filled may
/// seem to cost until it gives.
const TOLERANCE: Money = Money::new(20_000_000);
/// The part of what the shadow's energy would have cost by which a home may be behind: one in 1 000.
const TOLERANCE_ONE_IN: i128 = 1_000;

/// What a settled interval came to at the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// What the home received in all, from neighbours, gates and supplier (negative: paid); its part of the network's losses left
    /// out.
    pub received: Money,
    /// Prices of the interval.
    pub terms: Terms,
}

/// An interval that was lived through and is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lived {
    /// What the shadow took from the supplier and gave to it.
    import: WattHours,
    export: WattHours,
    /// What the home's battery gave, and its shadow's.
    given: WattHours,
    given_alone: WattHours,
    /// How devices then stood, and the shadow's.
    stood: Standing,
    stood_alone: Standing,
}

/// How a home stands against the same home without an agent; see the head of this file.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    devices: Devices,
    per_day: u32,
    month: Month,
    /// How the devices stood as intervals began that are not known to be lived through, and the month of each.
    stood: BTreeMap<Interval, (Standing, Month)>,
    /// The interval lived through last, and how the devices stood before and after it.
    last: Option<(Interval, Standing, Standing)>,
    /// How the shadow stands.
    alone: Standing,
    waiting: BTreeMap<Interval, Lived>,
    week: Week,
    /// Intervals of the month that were compared, and for how many of them the home is behind without a break.
    compared: u32,
    behind: u32,
    /// What the home received this month beyond its shadow, wear counted, without what devices hold.
    received: Money,
    /// What the shadow's energy would have cost and brought this month, both counted up.
    turnover: Money,
    /// The same with what devices hold.
    gained: Money,
    resting: bool,
}

impl Guard {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(mtu: Mtu, devices: Devices) -> Self {
        Self {
            devices,
            per_day: mtu.per_day(),
            month: Month::default(),
            stood: BTreeMap::new(),
            last: None,
            alone: Standing::default(),
            waiting: BTreeMap::new(),
            week: Week::default(),
            compared: 0,
            behind: 0,
            received: Money::ZERO,
            turnover: Money::ZERO,
            gained: Money::ZERO,
            resting: false,
        }
    }

    /// Whether it was ever said how the home's devices stood: else there is nothing to compare.
    #[must_use]
    pub fn watches(&self) -> bool {
        self.last.is_some() || !self.stood.is_empty()
    }

    /// By how much the home is better off this month than its shadow, as far as intervals are settled (negative: worse off).
    #[must_use]
    pub const fn gained(&self) -> Money {
        self.gained
    }

    /// How the devices would stand after the last interval that was lived through, had they been left to themselves this month.
    #[must_use]
    pub const fn shadow(&self) -> &Standing {
        &self.alone
    }

    /// Whether devices are left to themselves in `month`.
    #[must_use]
    pub fn rests(&self, month: Month) -> bool {
        self.resting && month == self.month
    }

    /// By how much the home may be behind: two hundredths of the currency, or the 1 000th part of what its shadow's energy
    /// comes to where that is more. What is below is the error of the comparison.
    #[must_use]
    pub fn tolerance(&self) -> Money {
        Money::new(TOLERANCE.get().max(self.turnover.get() / TOLERANCE_ONE_IN))
    }

    /// Is told how the devices stood as an interval of `month` began.
    pub fn stood(&mut self, interval: Interval, standing: &Standing, month: Month) {
        if self.last.is_some_and(|(last, ..)| last >= interval) {
            return;
        }
        self.stood.insert(interval, (*standing, month));
        if self.stood.len() > STOOD_MAX {
            self.stood.pop_first();
        }
    }

    /// Takes in an interval that the home lived through. One of which it was not said how it began is not compared, nor is one
    /// before the last.
    pub fn lived(&mut self, interval: Interval, seen: &Seen) {
        let Some((stood, month)) = self.stood.get(&interval).copied() else { return };
        self.stood = self.stood.split_off(&interval.next());
        self.begin(interval, &stood, month);
        let devices = &self.devices;
        let did = step_of(seen);
        let step = unplanned(devices, &self.alone, &[left_over(seen)]).first().copied().unwrap_or_default();
        let lived = Lived {
            import: step.import,
            export: step.export,
            given: did.discharge,
            given_alone: step.discharge,
            stood: advance(devices, &stood, &did, seen.heat_need),
            stood_alone: advance(devices, &self.alone, &step, seen.heat_need),
        };
        self.alone = lived.stood_alone;
        self.last = Some((interval, stood, lived.stood));
        self.waiting.insert(interval, lived);
    }

    /// Lets the shadow begin an interval: a month where the home stands, its vehicle with the real one.
    fn begin(&mut self, interval: Interval, stood: &Standing, month: Month) {
        if month > self.month {
            let coming = std::mem::take(&mut self.stood);
            let devices = self.devices;
            *self = Self { month, alone: *stood, stood: coming, ..Self::new(interval.mtu(), devices) };
        }
        let Some((last, before, after)) = self.last else { return };
        if last.next() != interval {
            self.alone = moved(&self.devices, &self.alone, &after, stood);
        }
        self.alone.session = session(interval, before.session, stood.session, self.alone.session);
    }

    /// Takes in what an interval came to. `true`: the home is behind since then, and its agent rests until the month ends.
    ///
    /// # Errors
    /// [`QuantityError`] beyond the range of money; nothing is counted then.
    pub fn settled(&mut self, interval: Interval, paid: &Paid) -> Result<bool, QuantityError> {
        let Some(lived) = self.waiting.remove(&interval) else { return Ok(false) };
        let Paid { received, terms } = paid;
        let wear = self.devices.battery.map_or(Price::ZERO, |battery| battery.wear);
        let brought = terms.supplier_export.cost_of(lived.export)?;
        let cost = terms.supplier_import.cost_of(lived.import)?;
        let alone = brought.sub(cost)?.sub(wear.cost_of(lived.given_alone)?)?;
        let more = received.sub(wear.cost_of(lived.given)?)?.sub(alone)?;
        let sum = self.received.add(more)?;
        let turnover = self.turnover.add(brought.max(brought.neg()?))?.add(cost.max(cost.neg()?))?;
        self.week.record(lived.import, terms, self.per_day);
        let holds = |standing| self.week.worth_of(&self.devices, standing, self.per_day);
        self.gained = sum.add(holds(&lived.stood)?)?.sub(holds(&lived.stood_alone)?)?;
        (self.received, self.turnover) = (sum, turnover);
        self.compared = self.compared.saturating_add(1);
        let is_behind = self.gained.add(self.tolerance())?.is_negative();
        self.behind = if is_behind { self.behind.saturating_add(1) } else { 0 };
        let days = |days| self.per_day.saturating_mul(days);
        let trips = !self.resting && self.behind >= days(BEHIND_DAYS) && self.compared >= days(QUIET_DAYS);
        self.resting |= trips;
        Ok(trips)
    }
}

/// What devices did, as a step.
fn step_of(seen: &Seen) -> Step {
    let did = &seen.did;
    Step {
        charge: did.charge,
        discharge: did.discharge,
        vehicle: did.vehicle,
        heat: did.heat,
        curtailed: WattHours::ZERO,
        import: seen.import,
        export: seen.export,
    }
}

/// What nothing controlled took or gave: load where more was taken, sun where more was generated. Only their difference says what
/// devices do that are left to themselves, so a generation without a meter of its own changes nothing.
fn left_over(seen: &Seen) -> Ahead {
    let sum = |parts: &[WattHours]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.get()));
    let did = &seen.did;
    let taken = sum(&[seen.import, did.discharge]);
    let given = sum(&[seen.export, did.charge, did.vehicle, did.heat]);
    let (none, free) = (Price::ZERO, WattHours::new(u64::MAX));
    let prices = Prices {
        supplier_import: none,
        supplier_export: none,
        local_import: none,
        local_export: none,
        import_permille: 0,
        export_permille: 0,
    };
    Ahead {
        load: WattHours::new(taken.saturating_sub(given)),
        pv: WattHours::new(given.saturating_sub(taken)),
        heat: seen.heat_need,
        prices,
        bought: WattHours::ZERO,
        sold: WattHours::ZERO,
        import_cap: free,
        export_cap: free,
    }
}

/// The shadow's vehicle as an interval begins. It is the one that stands at the real charger: with what it still needs there if it
/// has just come (`now`, where before there was none or one that had to leave, or that needed less), else with what the shadow
/// left to be charged (`alone`).
fn session(
    interval: Interval,
    before: Option<Session>,
    now: Option<Session>,
    alone: Option<Session>,
) -> Option<Session> {
    let (now, alone) = (now?, alone.filter(|_| before.is_some()));
    let stays = before.is_some_and(|before| before.deadline > interval && now.needed <= before.needed);
    Some(alone.filter(|_| stays).map_or(now, |alone| Session { deadline: now.deadline, ..alone }))
}

/// The shadow after a time of which nothing is known: its stores changed as the real ones did, from `then` to `now`, within what
/// they hold.
fn moved(devices: &Devices, alone: &Standing, then: &Standing, now: &Standing) -> Standing {
    let change = |alone: WattHours, then: WattHours, now: WattHours, most: WattHours| {
        WattHours::new(alone.get().saturating_add(now.get()).saturating_sub(then.get()).min(most.get()))
    };
    let capacity = devices.battery.map_or(WattHours::ZERO, |battery| battery.capacity);
    let store = devices.heat.map_or(WattHours::ZERO, |heat| heat.store);
    Standing {
        battery: change(alone.battery, then.battery, now.battery, capacity),
        heat: change(alone.heat, then.heat, now.heat, store),
        session: alone.session,
    }
}

/// What the last week, but nothing before the month, says energy in a store is worth. As far as the shadow took as much from its
/// supplier in two mean days, a kWh saves what the supplier charged on average; beyond that it brings the middle of the supplier's
/// prices; of a battery both less its wear. Heat that is ahead saves what the supplier charges.
#[derive(Debug, Clone, Default, PartialEq)]
struct Week {
    intervals: VecDeque<Took>,
    sum: Took,
}

/// Sums of one interval or of many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Took {
    /// What the shadow took, Wh.
    taken: i128,
    /// What the supplier charges, µ/kWh.
    charged: i128,
    /// The middle of the supplier's prices, µ/kWh.
    middle: i128,
}

impl Took {
    fn with(self, other: Self, times: i128) -> Self {
        let sum = |a: i128, b: i128| a.saturating_add(b.saturating_mul(times));
        Self {
            taken: sum(self.taken, other.taken),
            charged: sum(self.charged, other.charged),
            middle: sum(self.middle, other.middle),
        }
    }
}

impl Week {
    fn record(&mut self, taken: WattHours, terms: &Terms, per_day: u32) {
        let middle = midpoint_floor(terms.tariff.import_price, terms.tariff.export_price);
        let took = Took {
            taken: taken.get().into(),
            charged: terms.supplier_import.get().into(),
            middle: middle.get().into(),
        };
        self.intervals.push_back(took);
        self.sum = self.sum.with(took, 1);
        let most = usize::try_from(per_day.saturating_mul(WORTH_DAYS)).unwrap_or(usize::MAX);
        if self.intervals.len() > most
            && let Some(oldest) = self.intervals.pop_front()
        {
            self.sum = self.sum.with(oldest, -1);
        }
    }

    fn worth_of(&self, devices: &Devices, standing: &Standing, per_day: u32) -> Result<Money, QuantityError> {
        let count = i128::try_from(self.intervals.len().max(1)).unwrap_or(1);
        let mean = |sum: i128| Price::new(i64::try_from(sum.div_euclid(count)).unwrap_or_default());
        let (saved, sold) = (mean(self.sum.charged), mean(self.sum.middle));
        let two_days = self.sum.taken.saturating_mul(i128::from(per_day) * 2);
        let need = u64::try_from(two_days.div_euclid(count)).unwrap_or(u64::MAX);
        let stored = |battery: Battery| {
            let used = WattHours::new(standing.battery.get().min(need));
            let rest = standing.battery.saturating_sub(used);
            saved.sub(battery.wear)?.cost_of(used)?.add(sold.sub(battery.wear)?.cost_of(rest)?)
        };
        let battery = devices.battery.map_or(Ok(Money::ZERO), stored)?;
        let heat = devices.heat.map_or(Ok(Money::ZERO), |_| saved.cost_of(standing.heat))?;
        battery.add(heat)
    }
}

#[cfg(test)]
mod tests {
    use market::Tariff;

    use super::*;
    use crate::{Charger, Did, LocalTime};

    const JUNE: Month = Month { year: 2016, month: 6 };
    const JULY: Month = Month { year: 2016, month: 7 };
    const FIRST: u64 = 1_628_640;
    const DAY: u64 = 96;

    fn wh(energy: u64) -> WattHours {
        WattHours::new(energy)
    }

    fn at(index: u64) -> Interval {
        Interval::from_index(FIRST + index, Mtu::Min15)
    }

    fn devices() -> Devices {
        let battery = Battery {
            capacity: wh(8_000),
            charge: wh(1_000),
            discharge: wh(1_000),
            efficiency_permille: 1_000,
            reserve: wh(0),
            wear: Price::new(30_000),
        };
        let charger = Some(Charger { power: wh(2_000) });
        Devices { battery: Some(battery), charger, ..Devices::default() }
    }

    fn guard() -> Guard {
        Guard::new(Mtu::Min15, devices())
    }

    /// 0.30 and 0.08 per kWh.
    fn paid(received: i128) -> Paid {
        let (import_price, export_price) = (Price::new(300_000), Price::new(80_000));
        let terms = Terms {
            tariff: Tariff { import_price, export_price },
            supplier_import: import_price,
            supplier_export: export_price,
            fee_down: Price::ZERO,
            fee_up: Price::ZERO,
        };
        Paid { received: Money::new(received), terms }
    }

    /// Takes 100 Wh in an interval and pays for them what they cost, and `more` n. `true`: that tripped the guard.
    fn live(guard: &mut Guard, index: u64, month: Month, more: i128) -> bool {
        guard.stood(at(index), &Standing::default(), month);
        guard.lived(at(index), &Seen { import: wh(100), ..Seen::default() });
        guard.settled(at(index), &paid(-30_000_000 - more)).unwrap()
    }

    #[test]
    fn a_home_that_does_as_without_an_agent_and_pays_its_supplier_is_neither_ahead_nor_behind() {
        let mut guard = guard();
        assert!((0..7 * DAY).all(|index| !live(&mut guard, index, JUNE, 0)));
        assert_eq!((guard.gained(), guard.rests(JUNE)), (Money::ZERO, false));
    }

    #[test]
    fn a_home_that_is_behind_after_three_days_rests_until_its_month_ends_and_not_longer() {
        let mut guard = guard();
        let tripped: Vec<_> = (0..4 * DAY).filter(|index| live(&mut guard, *index, JUNE, 500_000)).collect();
        assert_eq!(tripped, [3 * DAY - 1], "once, and not in the first three days");
        assert!(guard.gained().get() < -100_000_000);
        // What it is given back does not wake it.
        live(&mut guard, 4 * DAY, JUNE, -1_000_000_000_000);
        assert!(guard.rests(JUNE) && !guard.rests(JULY), "{:?}", guard.gained());
        live(&mut guard, 4 * DAY + 1, JULY, 0);
        assert_eq!((guard.gained(), guard.rests(JULY)), (Money::ZERO, false));
    }

    #[test]
    fn a_home_that_is_behind_until_its_battery_gives_is_not_stopped_and_one_that_stays_behind_is() {
        let mut guard = guard();
        let dear = 1_000_000_000;
        // It fills its battery on the fourth day, and has that back a day and a half later.
        let more = |index| match index {
            index if index == 3 * DAY => dear,
            index if index == 3 * DAY + 144 => -dear,
            _ => 0,
        };
        assert!((0..6 * DAY).all(|index| !live(&mut guard, index, JUNE, more(index))));
        // It never has this back.
        let tripped: Vec<_> = (6 * DAY..9 * DAY)
            .filter(|index| live(&mut guard, *index, JUNE, if *index == 6 * DAY { dear } else { 0 }))
            .collect();
        assert_eq!(tripped, [8 * DAY - 1], "after two days");
    }

    #[test]
    fn a_home_that_gains_is_never_stopped_and_a_trifle_stops_none() {
        for more in [-500_000, 50_000] {
            let mut guard = guard();
            assert!((0..4 * DAY).all(|index| !live(&mut guard, index, JUNE, more)), "{more}");
            let expected = Money::new(-more * i128::from(4 * DAY));
            assert_eq!((guard.gained(), guard.rests(JUNE)), (expected, false));
        }
    }

    #[test]
    fn what_is_told_again_changes_nothing() {
        let mut once = guard();
        let mut again = guard();
        for index in 0..5 * DAY {
            live(&mut once, index, JUNE, 100_000);
            for _ in 0..2 {
                live(&mut again, index, JUNE, 100_000);
            }
            live(&mut again, index / 2, JUNE, 7_000_000);
        }
        assert_eq!(again, once);
    }

    #[test]
    fn all_that_was_lived_and_then_all_that_was_settled_says_the_same_as_both_in_turn() {
        let mut in_turn = guard();
        for index in 0..5 * DAY {
            live(&mut in_turn, index, JUNE, 300_000);
        }
        let mut after = guard();
        for index in 0..5 * DAY {
            after.stood(at(index), &Standing::default(), JUNE);
        }
        for index in 0..5 * DAY {
            after.lived(at(index), &Seen { import: wh(100), ..Seen::default() });
        }
        for index in 0..5 * DAY {
            after.settled(at(index), &paid(-30_300_000)).unwrap();
        }
        assert!(after.rests(JUNE));
        assert_eq!(after, in_turn);
    }

    #[test]
    fn what_a_battery_holds_more_counts_what_it_will_save() {
        let mut guard = guard();
        for index in 0..DAY {
            live(&mut guard, index, JUNE, 0);
        }
        // The agent buys a kWh; the shadow buys none.
        guard.stood(at(DAY), &Standing::default(), JUNE);
        let did = Did { charge: wh(1_000), ..Did::default() };
        guard.lived(at(DAY), &Seen { import: wh(1_100), did, ..Seen::default() });
        guard.settled(at(DAY), &paid(-330_000_000)).unwrap();
        assert_eq!(guard.gained(), Money::new(-300_000_000 + 270_000_000), "less the wear of giving it");
        // It gives it: the wear is real now, and nothing else changes.
        guard.stood(at(DAY + 1), &Standing { battery: wh(1_000), ..Standing::default() }, JUNE);
        let did = Did { discharge: wh(100), ..Did::default() };
        guard.lived(at(DAY + 1), &Seen { did, ..Seen::default() });
        guard.settled(at(DAY + 1), &paid(0)).unwrap();
        assert_eq!(guard.gained(), Money::new(-30_000_000));
    }

    #[test]
    fn the_shadows_vehicle_charges_at_once_what_the_real_one_needs_and_no_more() {
        let mut guard = guard();
        let needs = |needed| Standing {
            session: Some(Session { needed: wh(needed), minimum: wh(0), deadline: at(20) }),
            ..Standing::default()
        };
        let needed = |guard: &Guard| guard.shadow().session.map(|session| session.needed.get());
        let stay = |guard: &mut Guard, index, standing: &Standing| {
            guard.stood(at(index), standing, JUNE);
            guard.lived(at(index), &Seen::default());
            needed(guard)
        };
        assert_eq!(stay(&mut guard, 0, &Standing::default()), None);
        // The real one waits.
        let left = (1..5).map(|index| stay(&mut guard, index, &needs(5_000)));
        assert_eq!(left.collect::<Vec<_>>(), [Some(3_000), Some(1_000), Some(0), Some(0)]);
        assert_eq!(stay(&mut guard, 5, &needs(7_000)), Some(5_000), "another one has come");
        assert_eq!(stay(&mut guard, 6, &Standing::default()), None, "it has left");
    }

    #[test]
    fn where_nothing_is_known_of_an_interval_the_shadow_moves_as_the_home_did() {
        let mut guard = guard();
        let holds = |battery| Standing { battery: wh(battery), ..Standing::default() };
        guard.stood(at(0), &holds(2_000), JUNE);
        guard.lived(at(0), &Seen { import: wh(500), ..Seen::default() });
        assert_eq!(guard.shadow().battery, wh(1_500), "its battery served the load");
        guard.stood(at(5), &holds(5_000), JUNE);
        guard.lived(at(5), &Seen::default());
        assert_eq!(guard.shadow().battery, wh(4_500));
    }

    #[test]
    fn a_home_of_which_nobody_says_how_its_devices_stand_is_not_compared() {
        let mut guard = guard();
        guard.lived(at(0), &Seen { import: wh(100), ..Seen::default() });
        assert_eq!(guard.settled(at(0), &paid(-1_000_000_000_000)), Ok(false));
        assert_eq!((guard.watches(), guard.gained()), (false, Money::ZERO));
        let month = LocalTime { east_s: 0, change: None }.month(at(0).start());
        assert!(!guard.rests(month));
    }
}
