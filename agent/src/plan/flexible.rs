//! Vehicle and heat: energy that must be taken, but not at once.

use energy::Interval;

use super::slot::{SCALE, Slot, TIE_LAST, is_reluctant, wh};
use super::storage::{Piece, Stages, Store, cheapest, convex_hull};
use crate::{Charger, Heat, Session};

/// Energy that can be had in one interval at one slope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) slope: i64,
    /// Number of the interval.
    pub(super) at: i64,
    pub(super) length: i64,
}

/// How much to take in each of `count` intervals so that `needed` is had before interval `deadline` at the least cost.
/// Of it only `owed` is taken where the household is reluctant. What cannot be had in time is taken as soon as it can.
pub(super) fn cheapest_offers(
    mut offers: Vec<Offer>,
    count: usize,
    deadline: usize,
    needed: i64,
    owed: i64,
) -> Vec<i64> {
    let place = |offer: &Offer| usize::try_from(offer.at).unwrap_or(usize::MAX);
    let mut amounts = vec![0; count];
    let mut had = 0;
    let mut take = |offer: &Offer, most: i64| {
        let length = offer.length.min(most - had);
        if let Some(amount) = amounts.get_mut(place(offer)).filter(|_| length > 0) {
            *amount += length;
            had += length;
        }
    };
    offers.sort_unstable_by_key(|offer| (offer.slope, offer.at));
    for offer in offers.iter().filter(|offer| place(offer) < deadline) {
        take(offer, if is_reluctant(offer.slope) { owed } else { needed });
    }
    offers.sort_by_key(|offer| offer.at);
    for offer in offers.iter().filter(|offer| place(offer) >= deadline) {
        take(offer, needed);
    }
    amounts
}

/// A vehicle at its charger.
pub(super) struct Vehicle {
    power: i64,
    needed: i64,
    minimum: i64,
    /// The first interval in which it must be charged, counted from the first planned one.
    deadline: usize,
}

/// What a vehicle takes in each interval.
pub(super) struct Charging {
    pub(super) amounts: Vec<i64>,
    /// What of it the connection cannot carry unless the battery helps.
    pub(super) beyond: bool,
}

impl Vehicle {
    /// `None` if there is nothing to charge.
    pub(super) fn new(charger: &Charger, session: &Session, from: Interval) -> Option<Self> {
        let needed = wh(session.needed);
        let deadline = session.deadline.index().saturating_sub(from.index());
        (needed > 0 && !charger.power.is_zero()).then(|| Self {
            power: wh(charger.power),
            needed,
            minimum: wh(session.minimum).min(needed),
            deadline: usize::try_from(deadline).unwrap_or(usize::MAX),
        })
    }

    /// What must still be charged within `intervals` once `charged` is: a deadline beyond them leaves time to charge in.
    fn owed(&self, intervals: usize, charged: i64) -> i64 {
        let later = i64::try_from(self.deadline.saturating_sub(intervals)).unwrap_or(i64::MAX);
        (self.needed - charged).saturating_sub(later.saturating_mul(self.power)).max(0)
    }

    /// What is not charged in time.
    pub(super) fn missed(&self, amounts: &[i64]) -> i64 {
        self.owed(amounts.len(), amounts.iter().take(self.deadline).sum())
    }

    /// Plans it; `rest` is the home's net without it, `help` what the battery could give in one interval. The connection
    /// is overrun, by `help` at the most, only as far as the deadline cannot be met otherwise.
    pub(super) fn charge(&self, slots: &[Slot], rest: &[i64], help: i64) -> Charging {
        let mut at_once = self.minimum;
        let mut forced = Vec::with_capacity(slots.len());
        let mut offers = Vec::with_capacity(slots.len() * 3);
        let (mut pieces, mut hull) = (Vec::new(), Vec::new());
        for (slot, rest) in slots.iter().zip(rest) {
            let most = (slot.high - rest + help).clamp(0, self.power);
            let first = most.min(at_once);
            at_once -= first;
            forced.push(first);
            pieces.clear();
            pieces.extend(
                slot.between(rest + first, rest + most)
                    .map(|(side, length)| Piece { slope: slot.demand(side), length }),
            );
            convex_hull(&pieces, &mut hull);
            offers.extend(hull.iter().map(|piece| Offer {
                slope: piece.slope,
                at: slot.at,
                length: piece.length,
            }));
        }
        let left = self.needed - (self.minimum - at_once);
        let owed = self.owed(slots.len(), self.needed - left);
        let chosen = cheapest_offers(offers, slots.len(), self.deadline, left, owed);
        let amounts: Vec<i64> = forced.iter().zip(chosen).map(|(forced, chosen)| forced + chosen).collect();
        let over = |((slot, rest), amount): ((&Slot, &i64), &i64)| *amount > (slot.high - rest).max(0);
        let beyond = slots.iter().zip(rest).zip(&amounts).any(over);
        Charging { amounts, beyond }
    }
}

/// What heat takes if it follows the need, as far as the connection carries it; `rest` is the home's net without it.
pub(super) fn heat_as_needed(heat: &Heat, slots: &[Slot], rest: &[i64]) -> Vec<i64> {
    let served =
        |(slot, rest): (&Slot, &i64)| slot.heat_need.min((slot.high - rest).clamp(0, wh(heat.power)));
    slots.iter().zip(rest).map(served).collect()
}

/// Plans heat; `rest` is the home's net without it.
pub(super) fn heat(heat: &Heat, level: i64, slots: &[Slot], rest: &[i64], worth: i64) -> Vec<i64> {
    let most = |slot: &Slot, rest: &i64| (slot.high - rest).clamp(0, wh(heat.power));
    let store = wh(heat.store);
    let level = level.min(store);
    // Need that not even full power serves is left out: it is lost comfort whatever the plan.
    let mut fullest = level;
    let mut stages = Stages::with_capacity(slots.len());
    let mut needs = Vec::with_capacity(slots.len());
    for (slot, rest) in slots.iter().zip(rest) {
        let most = most(slot, rest);
        let need = slot.heat_need.min(fullest + most);
        fullest = (fullest + most - need).min(store);
        needs.push(need);
        stages.begin(-need);
        for (side, length) in slot.between(*rest, rest + most) {
            stages.piece(slot.demand(side), length);
        }
    }
    let kept = worth * SCALE;
    let afterwards = if kept > 0 { 2 * TIE_LAST - kept } else { 0 };
    let lowest = vec![0; slots.len() + 1];
    let changes = cheapest(&stages, &Store { lowest: &lowest, highest: store, level, afterwards });
    changes.iter().zip(needs).map(|(change, need)| change + need).collect()
}
