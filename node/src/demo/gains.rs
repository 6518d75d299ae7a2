//! What the agents did, and what it brought each home: with its supplier alone, with its neighbours and nobody planning,
//! and as it was.
//!
//! Devices do not end a day as they would have ended it otherwise: a fuller battery saves something, an emptier one will
//! cost something. The difference ([`HomeGain::stock_wh`]) is counted as a simulation counts it (`sim`'s report): what is in
//! the battery at the middle of the supplier's prices, which is what neighbours pay for it; heat ahead of need, less what
//! a vehicle still needs, at what the home's supplier charges, fees included. What its battery gave more wears it more.

use anyhow::Context;
use energy::{HomeId, Price};
use rusqlite::{Connection, params};
use serde::Serialize;

use super::street::Stopped;
use super::world::{Lived, devices_in_words};

/// What the agents of the street did.
#[derive(Debug, Default, Serialize)]
pub struct Agents {
    /// Homes with an agent.
    pub homes: usize,
    /// Orders on the ledger.
    pub orders: i64,
    /// Traded ahead, Wh.
    pub forward_wh: i64,
    /// Gates with orders, and of them those that closed too late to trade.
    pub gates: i64,
    /// See `gates`.
    pub gates_void: i64,
    /// Connections that carried more than the operator's cap, intervals.
    pub breaches: i64,
    /// What all homes received (negative: paid), n, alone with the supplier.
    pub alone_n: i128,
    /// The same with neighbours matched and nobody planning.
    pub neighbours_n: i128,
    /// The same as it was, devices' stock and wear counted.
    pub agents_n: i128,
    /// Every home with devices to plan for.
    pub gains: Vec<HomeGain>,
}

/// What an agent did for its home.
#[derive(Debug, Serialize)]
pub struct HomeGain {
    /// The home.
    pub home: String,
    /// What it has, in words.
    pub devices: String,
    /// What it would have received (negative: paid), n, alone with its supplier, its devices left to themselves.
    pub alone_n: i128,
    /// The same with neighbours matched.
    pub neighbours_n: i128,
    /// What it received, and what its devices hold more than they would have without an agent, less the battery's further wear.
    pub agents_n: i128,
    /// What its devices hold more, Wh: in the battery, as heat, less what a vehicle still needs.
    pub stock_wh: i64,
    /// What its battery gave, Wh.
    pub battery_wh: u64,
    /// What its vehicle took, Wh …
    pub vehicle_wh: u64,
    /// … of it from neighbours.
    pub vehicle_local_wh: u64,
    /// What went into vehicle, heat and battery in other intervals than it would have without an agent, Wh.
    pub shifted_wh: u64,
    /// Sun given up because the connection could not carry it or nobody wanted it, Wh.
    pub curtailed_wh: u64,
    /// Bought ahead, Wh.
    pub bought_ahead_wh: i64,
    /// Sold ahead, Wh.
    pub sold_ahead_wh: i64,
    /// Vehicles that left with what they needed.
    pub deadlines_met: u32,
    /// Vehicles that did not.
    pub deadlines_missed: u32,
}

/// Sums up the first `intervals` of the day.
pub(super) fn sum_up(stopped: &Stopped, db: &Connection, intervals: usize) -> anyhow::Result<Agents> {
    let (lived, left) = (stopped.world.lived(intervals), stopped.without.lived(intervals));
    let amounts = stopped.without.amounts(intervals)?;
    let from = i64::try_from(stopped.first.start().unix_ms())?;
    let range = (from, from + i64::try_from(intervals)? * 900_000);
    let mut agents = on_ledger(db, range)?;
    for (position, ((lived, left), (alone, neighbours))) in lived.iter().zip(&left).zip(amounts).enumerate() {
        let ledger = HomeOnLedger::of(db, &lived.home, range)?;
        let household = stopped.world.household(position).context("a home without its description")?;
        let worth = Worth {
            stored: stopped.world.stored_price(),
            ahead: stopped.world.supplier_price(position).context("a home on no node")?,
            wear: household.devices.battery.map_or(Price::ZERO, |battery| battery.wear),
        };
        let agents_n = ledger.amount_n + worth.of(lived, left);
        agents.alone_n += alone.get();
        agents.neighbours_n += neighbours.get();
        agents.agents_n += agents_n;
        if !household.is_flexible() {
            continue;
        }
        agents.homes += 1;
        let sum = |energy: fn(&agent::Step) -> u64| lived.steps.iter().map(energy).sum::<u64>();
        agents.gains.push(HomeGain {
            home: lived.home.to_string(),
            devices: devices_in_words(household),
            alone_n: alone.get(),
            neighbours_n: neighbours.get(),
            agents_n,
            stock_wh: (lived.stored_wh - left.stored_wh) + (lived.ahead_wh - left.ahead_wh),
            battery_wh: sum(|step| step.discharge.get()),
            vehicle_wh: sum(|step| step.vehicle.get()),
            vehicle_local_wh: ledger.local_part(lived),
            shifted_wh: shifted(lived, left),
            curtailed_wh: sum(|step| step.curtailed.get()),
            bought_ahead_wh: ledger.bought_ahead,
            sold_ahead_wh: ledger.sold_ahead,
            deadlines_met: lived.deadlines.0,
            deadlines_missed: lived.deadlines.1,
        });
    }
    Ok(agents)
}

/// What a kWh is worth that devices hold at the end, or gave.
#[derive(Debug, Clone, Copy)]
struct Worth {
    /// In a battery.
    stored: Price,
    /// Ahead in heat, or in a vehicle that needs it.
    ahead: Price,
    /// What a kWh out of the battery wears it.
    wear: Price,
}

impl Worth {
    /// What devices that lived one way have before those that lived the other, n.
    fn of(&self, lived: &Lived, left: &Lived) -> i128 {
        let n = |price: Price, energy: i64| i128::from(price.get()) * i128::from(energy);
        let gave = |lived: &Lived| -> i64 {
            lived.steps.iter().map(|step| step.discharge.get().cast_signed()).sum()
        };
        n(self.stored, lived.stored_wh - left.stored_wh) + n(self.ahead, lived.ahead_wh - left.ahead_wh)
            - n(self.wear, gave(lived) - gave(left))
    }
}

fn on_ledger(db: &Connection, (from, until): (i64, i64)) -> anyhow::Result<Agents> {
    let count = |sql: &str| db.query_row(sql, params![from, until], |row| row.get::<_, i64>(0));
    let gates = "SELECT count(*) FROM gate WHERE interval_ms >= ?1 AND interval_ms < ?2";
    Ok(Agents {
        orders: count("SELECT count(*) FROM market_order WHERE interval_ms >= ?1 AND interval_ms < ?2")?,
        forward_wh: count(
            "SELECT coalesce(sum(volume_wh), 0) FROM gate WHERE interval_ms >= ?1 AND interval_ms < ?2",
        )?,
        gates: count(gates)?,
        gates_void: count(&format!("{gates} AND void <> 0"))?,
        breaches: count("SELECT count(*) FROM breach WHERE interval_ms >= ?1 AND interval_ms < ?2")?,
        ..Agents::default()
    })
}

/// What was settled for a home.
struct HomeOnLedger {
    amount_n: i128,
    bought_ahead: i64,
    sold_ahead: i64,
    /// By interval: taken, and of it from neighbours, Wh.
    taken: Vec<(u64, u64)>,
}

impl HomeOnLedger {
    fn of(db: &Connection, home: &HomeId, (from, until): (i64, i64)) -> anyhow::Result<Self> {
        let sql = "SELECT amount_n, coalesce(import_wh, 0), bought_wh, forward_wh FROM settlement
                   WHERE home = ?1 AND interval_ms >= ?2 AND interval_ms < ?3 ORDER BY interval_ms";
        let mut this = Self { amount_n: 0, bought_ahead: 0, sold_ahead: 0, taken: Vec::new() };
        let mut statement = db.prepare(sql)?;
        let mut rows = statement.query(params![home.as_str(), from, until])?;
        while let Some(row) = rows.next()? {
            let (amount, import, bought, forward): (i64, i64, i64, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            this.amount_n += i128::from(amount);
            this.bought_ahead += (-forward).max(0);
            this.sold_ahead += forward.max(0);
            let local = (bought + (-forward).max(0)).min(import);
            this.taken.push((u64::try_from(import)?, u64::try_from(local)?));
        }
        Ok(this)
    }

    /// How much of what the vehicle took came from neighbours: in each interval the part that they served of all that the
    /// home took.
    fn local_part(&self, lived: &Lived) -> u64 {
        let part = |(step, (import, local)): (&agent::Step, &(u64, u64))| {
            let outside = step.vehicle.get().min(*import);
            (outside * local).checked_div(*import).unwrap_or(0)
        };
        lived.steps.iter().zip(&self.taken).map(part).sum()
    }
}

/// What devices took in intervals in which they would not have, Wh.
fn shifted(lived: &Lived, left: &Lived) -> u64 {
    let more = |(with, without): (&agent::Step, &agent::Step)| {
        let parts =
            [(with.vehicle, without.vehicle), (with.heat, without.heat), (with.charge, without.charge)];
        parts.into_iter().map(|(with, without)| with.saturating_sub(without).get()).sum::<u64>()
    };
    lived.steps.iter().zip(&left.steps).map(more).sum()
}

#[cfg(test)]
mod tests {
    use agent::Step;
    use energy::WattHours;

    use super::*;

    fn lived(steps: &[(u64, u64)]) -> Lived {
        let step = |(vehicle, charge): &(u64, u64)| Step {
            vehicle: WattHours::new(*vehicle),
            charge: WattHours::new(*charge),
            ..Step::default()
        };
        Lived {
            home: HomeId::new("h001").unwrap(),
            steps: steps.iter().map(step).collect(),
            stored_wh: 0,
            ahead_wh: 0,
            deadlines: (0, 0),
        }
    }

    #[test]
    fn a_car_is_charged_by_neighbours_as_far_as_they_served_the_home() {
        let taken = vec![(2_000, 1_000), (1_000, 1_000), (500, 500), (0, 0)];
        let ledger = HomeOnLedger { amount_n: 0, bought_ahead: 0, sold_ahead: 0, taken };
        // Half of it; all of it; all that came from outside; nothing.
        let car = lived(&[(1_000, 0), (1_000, 0), (2_000, 0), (700, 0)]);
        assert_eq!(ledger.local_part(&car), 500 + 1_000 + 500);
    }

    #[test]
    fn a_fuller_battery_is_worth_what_neighbours_pay_and_what_it_gave_more_wears_it() {
        let price = Price::new;
        let worth = Worth { stored: price(165_000), ahead: price(260_000), wear: price(30_000) };
        let gave = |energy| Step { discharge: WattHours::new(energy), ..Step::default() };
        let with =
            Lived { stored_wh: 3_000, ahead_wh: -500, steps: vec![gave(700), gave(800)], ..lived(&[]) };
        let without = Lived { stored_wh: 1_000, ahead_wh: 200, steps: vec![gave(500)], ..lived(&[]) };
        let expected = 2_000 * 165_000 - 700 * 260_000 - 1_000 * 30_000;
        assert_eq!(worth.of(&with, &without), expected);
        assert_eq!(worth.of(&without, &with), -expected);
    }

    #[test]
    fn what_comes_at_another_time_is_shifted_once() {
        let (with, without) = (lived(&[(0, 300), (2_000, 0)]), lived(&[(1_500, 0), (500, 0)]));
        assert_eq!(shifted(&with, &without), 300 + 1_500);
        assert_eq!(shifted(&without, &without), 0);
    }
}
