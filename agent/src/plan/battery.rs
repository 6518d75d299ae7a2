//! The battery, planned against what everything else in the home takes.

use super::flexible::{Offer, cheapest_offers};
use super::physics::stored_worth;
use super::slot::{SCALE, Slot, TIE_LAST, micro, wh};
use super::storage::{Stages, Store, cheapest};
use crate::Battery;

/// Between equals: energy is kept rather than given away, ...
const KEEP_TIE: i64 = 2 * TIE_LAST;
/// ... and used at home rather than kept.
const GIVE_TIE: i64 = 3 * TIE_LAST;

/// The battery's quantities as the plan counts them.
struct Cell {
    battery: Battery,
    wear: i64,
    level: i64,
    /// The lowest level in each interval and at the end.
    floor: Vec<i64>,
    /// Until this interval the reserve is being filled, and nothing is given.
    filled_at: usize,
}

/// What the battery takes (positive) or gives (negative) in each interval at the home's side; `rest` is the home's net
/// without it. Below its reserve it is first filled up to it, in the cheapest intervals of the first `day` ones.
pub(super) fn battery(
    battery: &Battery,
    level: i64,
    slots: &[Slot],
    rest: &[i64],
    day: usize,
    worth: i64,
) -> Vec<i64> {
    let capacity = wh(battery.capacity);
    let level = level.min(capacity);
    let reserve = wh(battery.reserve).min(capacity);
    let wear = micro(battery.wear);
    let mut cell =
        Cell { battery: *battery, wear, level, floor: vec![reserve; slots.len() + 1], filled_at: 0 };
    cell.fill_reserve(slots, rest, reserve, day);
    let stages = cell.stages(slots, rest);
    let kept = stored_worth(battery, worth) * SCALE;
    let store = Store {
        lowest: &cell.floor,
        highest: capacity,
        level,
        afterwards: if kept > 0 { KEEP_TIE - kept } else { 0 },
    };
    let changes = cheapest(&stages, &store);
    changes
        .iter()
        .zip(slots.iter().zip(rest))
        .map(|(change, (slot, rest))| cell.at_home(*change, slot, *rest))
        .collect()
}

impl Cell {
    /// Lays the floor: from the level now up to the reserve, as the cheapest charging lifts it.
    fn fill_reserve(&mut self, slots: &[Slot], rest: &[i64], reserve: i64, day: usize) {
        if self.level >= reserve {
            return;
        }
        let mut offers = Vec::new();
        for (slot, rest) in slots.iter().zip(rest) {
            self.charging(slot, *rest, |slope, length| offers.push(Offer { slope, at: slot.at, length }));
        }
        let filling = cheapest_offers(offers, slots.len(), day, reserve - self.level, reserve - self.level);
        let mut level = self.level;
        let lifted = std::iter::once(0).chain(filling).map(|gain| {
            level += gain;
            level
        });
        self.floor = lifted.collect();
        self.filled_at = self.floor.iter().position(|level| *level >= reserve).unwrap_or(slots.len());
    }

    fn stages(&self, slots: &[Slot], rest: &[i64]) -> Stages {
        let mut stages = Stages::with_capacity(slots.len());
        for (at, (slot, rest)) in slots.iter().zip(rest).enumerate() {
            let most = if at < self.filled_at { 0 } else { self.most_given(slot, *rest) };
            stages.begin(-most);
            for (side, length) in slot.between(rest - most, *rest) {
                let tie = if side.is_taking() { slot.at } else { GIVE_TIE + slot.at };
                let slope = (slot.price(side) + Slot::penalty(side) - self.wear) * SCALE - tie;
                stages.piece(slope, length);
            }
            self.charging(slot, *rest, |slope, length| stages.piece(slope, length));
        }
        stages
    }

    /// The most it may give: within its power and what the connection may give, and no more than the home takes where the
    /// household does not sell at that price.
    fn most_given(&self, slot: &Slot, rest: i64) -> i64 {
        let low = if slot.selling_barred { slot.low().max(slot.position) } else { slot.low() };
        (rest - low).clamp(0, wh(self.battery.discharge))
    }

    /// The pieces of charging in ascending order: slope per Wh inside, and how many.
    fn charging(&self, slot: &Slot, rest: i64, mut piece: impl FnMut(i64, i64)) {
        let most = (slot.high - rest).clamp(0, wh(self.battery.charge));
        let mut taken = 0;
        for (side, length) in slot.between(rest, rest + most) {
            let before = self.battery.stored(taken);
            taken += length;
            let price = slot.price(side) * SCALE * 1_000 / self.battery.efficiency();
            let slope = price + slot.reluctance(side) * SCALE + slot.at + 1;
            piece(slope, self.battery.stored(taken) - before);
        }
    }

    /// What a change of the level is at the home's side. Where several amounts leave the same inside, the one that comes
    /// nearest to neither buying nor selling.
    fn at_home(&self, change: i64, slot: &Slot, rest: i64) -> i64 {
        if change <= 0 {
            return change;
        }
        let least = self.battery.taken(change);
        let most = self.battery.most_taken(change).min(slot.high - rest).min(wh(self.battery.charge));
        (slot.position - rest).clamp(least, most.max(least))
    }
}
