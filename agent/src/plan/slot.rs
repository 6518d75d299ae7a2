//! One interval at the home's connection: what the next Wh taken costs, wherever the home stands.
//!
//! The home's **net** is what it takes less what it gives, before its sun is curtailed. Along it lie at most seven sides,
//! each with one price for one Wh more: beyond what the connection may give; giving to the supplier alone, since neighbours have
//! had enough; giving (the Wh is no longer sold); sun that would be curtailed (it is free); taking (the Wh is bought); taking from
//! the supplier alone; beyond what the connection may take. What was bought or sold forward shifts where giving turns into
//! taking.

use energy::{Price, WattHours};

use super::draft::product;
use crate::{Ahead, Devices, Goal, HORIZON, Prices, Reach, Wishes};

/// Slopes are in 1/2 048 µ per kWh: what is below 1 µ decides only between plans that cost the same. Two uses of one Wh
/// differ there by at most 2 × [`TIE_LAST`].
pub(super) const SCALE: i64 = 2_048;
/// As far as the preference for early intervals reaches: it is the interval's number.
pub(super) const TIE_LAST: i64 = 192;
const _: () = assert!(HORIZON == 192 && 4 * TIE_LAST < SCALE);

/// Energy beyond this in one interval (1 GWh) is planned as this much.
pub(super) const ENERGY_LIMIT: i64 = 1_000_000_000;
/// Prices beyond this (1 000 of the currency per kWh), in either direction, are planned as this much.
const PRICE_LIMIT: i64 = 1_000_000_000;
/// On top of a price above the household's limit: above every price, also that of a Wh that a battery of 1 ‰ would store.
const BARRED: i64 = 4_000_000_000_000;
/// On top of a price for what the connection may not carry.
const FORBIDDEN: i64 = 4 * BARRED;

/// What a kWh from the supplier costs on top for a household that wants to stay green: 0.05 of the currency.
pub const GREEN_PREMIUM: Price = Price::new(50_000);
/// What a kWh from outside costs on top for a household that wants to stay independent: 0.15 of the currency.
pub const INDEPENDENCE_PREMIUM: Price = Price::new(150_000);
/// The most that a household that wants to stay independent counts for a kWh given away: 0.01 of the currency, so that
/// sun is still given rather than lost, and never given to earn.
pub const INDEPENDENT_EXPORT: Price = Price::new(10_000);

pub(super) fn wh(energy: WattHours) -> i64 {
    i64::try_from(energy.get()).unwrap_or(ENERGY_LIMIT).min(ENERGY_LIMIT)
}

pub(super) fn energy(wh: i64) -> WattHours {
    WattHours::new(u64::try_from(wh).unwrap_or(0))
}

pub(super) fn micro(price: Price) -> i64 {
    price.get().clamp(-PRICE_LIMIT, PRICE_LIMIT)
}

/// What one kWh more costs and one kWh given brings, in µ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) take: i64,
    pub(super) give: i64,
}

impl Rates {
    /// As expected: the neighbours' price and the supplier's, weighted by what each will probably serve.
    pub(super) fn of(prices: &Prices) -> Self {
        Self {
            take: mixed(prices.local_import, prices.supplier_import, prices.import_permille),
            give: mixed(prices.local_export, prices.supplier_export, prices.export_permille),
        }
    }

    /// Beyond what neighbours exchange.
    fn of_supplier(prices: &Prices) -> Self {
        Self { take: micro(prices.supplier_import), give: micro(prices.supplier_export) }
    }

    /// As the household's goal sees them; of what is taken, neighbours serve `permille`.
    fn for_goal(self, goal: Goal, permille: u32) -> Self {
        match goal {
            Goal::SaveMoney => self,
            Goal::StayGreen => {
                let premium = mixed(Price::ZERO, GREEN_PREMIUM, permille);
                Self { take: self.take + premium, ..self }
            }
            Goal::StayIndependent => Self {
                take: self.take + INDEPENDENCE_PREMIUM.get(),
                give: self.give.min(INDEPENDENT_EXPORT.get()),
            },
        }
    }
}

/// The mean of two prices, `permille` of it the local one; rounded down to a µ.
fn mixed(local: Price, supplier: Price, permille: u32) -> i64 {
    let share = i64::from(permille.min(1_000));
    (micro(local) * share + micro(supplier) * (1_000 - share)).div_euclid(1_000)
}

/// Where on the net's line the home stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// More would be given than the connection may.
    Under,
    /// Energy is given of which neighbours take nothing more.
    GiveFar,
    /// Energy is given, or less is taken than was bought.
    Give,
    /// Sun is curtailed.
    Curtail,
    /// Energy is taken, or less is given than was sold.
    Take,
    /// Energy is taken of which neighbours serve nothing more.
    TakeFar,
    /// More would be taken than the connection may.
    Beyond,
}

impl Side {
    /// Whether a Wh less there is a Wh that is not bought.
    pub(super) const fn is_taking(self) -> bool {
        matches!(self, Self::Take | Self::TakeFar)
    }
}

/// One interval.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Its number, from 0.
    pub(super) at: i64,
    /// Net of what nothing controls.
    pub(super) base: i64,
    /// What heat takes to stay where it is.
    pub(super) heat_need: i64,
    /// Bought less sold.
    pub(super) position: i64,
    /// The most that devices may raise the net to.
    pub(super) high: i64,
    /// As expected, for the cost: within what neighbours exchange, and beyond.
    paid: [Rates; 2],
    /// As planned with, likewise.
    rates: [Rates; 2],
    /// The most that neighbours serve and take.
    reach: [i64; 2],
    /// Flexible energy is not bought at this price.
    buying_barred: [bool; 2],
    /// Stored energy is not sold at this price.
    pub(super) selling_barred: bool,
    /// The sides in ascending order, and the net at which each but the last ends.
    sides: [Side; 7],
    ends: [i64; 6],
}

impl Slot {
    /// Neighbours exchange as much as there is.
    pub(super) fn new(at: i64, devices: &Devices, wishes: &Wishes, ahead: &Ahead) -> Self {
        Self::within(at, devices, wishes, ahead, &Reach::default())
    }

    pub(super) fn within(at: i64, devices: &Devices, wishes: &Wishes, ahead: &Ahead, reach: &Reach) -> Self {
        let paid = [Rates::of(&ahead.prices), Rates::of_supplier(&ahead.prices)];
        let [near, far] = paid;
        let near_rates = near.for_goal(wishes.goal, ahead.prices.import_permille);
        let rates = [near_rates, far.for_goal(wishes.goal, 0)];
        let base = wh(ahead.load) - wh(ahead.pv);
        let sun = if devices.curtailable { wh(ahead.pv) } else { 0 };
        let position = wh(ahead.bought) - wh(ahead.sold);
        // What nothing controls may lie beyond the caps; devices then add nothing to it.
        let high = wh(ahead.import_cap).max(base);
        let low = (-wh(ahead.export_cap)).min(base + sun);
        let turn = position.clamp(low, high);
        let reach = [wh(reach.import), wh(reach.export)];
        let (take, give) = ((high - turn).min(reach[0]), (turn - low).min(reach[1]));
        let sides = [
            (Side::GiveFar, turn - low - give),
            (Side::Give, give),
            (Side::Take, take),
            (Side::TakeFar, high - turn - take),
        ];
        let mut slot = Self {
            at,
            base,
            heat_need: wh(ahead.heat),
            position,
            high,
            paid,
            rates,
            reach,
            buying_barred: paid.map(|rates| wishes.max_buy.is_some_and(|most| rates.take > micro(most))),
            selling_barred: wishes.min_sell.is_some_and(|least| near.give < micro(least)),
            sides: [Side::Under; 7],
            ends: [low - sun; 6],
        };
        slot.lay(sides, sun);
        slot
    }

    /// Lays the sides one after the other. Sun is given up last where giving brings something, first where it costs: it
    /// comes before the first side where a Wh more costs something.
    fn lay(&mut self, sides: [(Side, i64); 4], sun: i64) {
        let costless = sides.iter().take_while(|(side, _)| self.price(*side) < 0).count();
        let (before, after) = sides.split_at(costless);
        let curtail = [(Side::Curtail, sun)];
        let order = before.iter().chain(&curtail).chain(after);
        let mut end = self.ends[0];
        for (place, (side, length)) in order.enumerate() {
            end += length;
            self.sides[place + 1] = *side;
            self.ends[place + 1] = end;
        }
        self.sides[6] = Side::Beyond;
    }

    /// The lowest net that the connection may carry, all sun curtailed that can be.
    pub(super) fn low(&self) -> i64 {
        self.ends[0]
    }

    /// The sides that lie between two nets, each with how much of it does.
    pub(super) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = (Side, i64)> + '_ {
        let begins = std::iter::once(i64::MIN).chain(self.ends);
        let ends = self.ends.into_iter().chain([i64::MAX]);
        self.sides.into_iter().zip(begins.zip(ends)).filter_map(move |(side, (begin, end))| {
            let (begin, end) = (begin.max(from), end.min(to));
            (begin < end).then(|| (side, end - begin))
        })
    }

    /// What a kWh costs there, µ.
    pub(super) fn price(&self, side: Side) -> i64 {
        match side {
            Side::Under | Side::GiveFar => self.rates[1].give,
            Side::Give => self.rates[0].give,
            Side::Curtail => 0,
            Side::Take => self.rates[0].take,
            Side::TakeFar | Side::Beyond => self.rates[1].take,
        }
    }

    /// What forbids to be there, on top of the price, µ: negative where the net is too low.
    pub(super) fn penalty(side: Side) -> i64 {
        match side {
            Side::Under => -FORBIDDEN,
            Side::Beyond => FORBIDDEN,
            Side::GiveFar | Side::Give | Side::Curtail | Side::Take | Side::TakeFar => 0,
        }
    }

    /// Whether the household buys no flexible energy there.
    fn is_barred(&self, side: Side) -> bool {
        let [near, far] = self.buying_barred;
        (side == Side::Take && near) || (side == Side::TakeFar && far)
    }

    /// What forbids a flexible device to buy there, on top of the price, µ.
    pub(super) fn reluctance(&self, side: Side) -> i64 {
        if self.is_barred(side) { BARRED } else { Self::penalty(side) }
    }

    /// The slope at which a vehicle or heat takes energy there: of equal prices the earliest interval, above the
    /// household's limit the latest.
    pub(super) fn demand(&self, side: Side) -> i64 {
        let reluctance = self.reluctance(side);
        let tie = if reluctance > 0 { TIE_LAST - self.at } else { self.at };
        (self.price(side) + reluctance) * SCALE + tie
    }

    /// What the home pays at this net, n, counted from its forward position; with what forbids to be there.
    pub(super) fn cost(&self, net: i64) -> i128 {
        let rise = |from: i64, to: i64| -> i128 {
            self.between(from, to)
                .map(|(side, length)| product(self.price(side) + Self::penalty(side), length))
                .sum()
        };
        rise(self.position, net) - rise(net, self.position)
    }

    /// What the home is expected to pay at this net, n, counted from its forward position.
    pub(super) fn paid(&self, net: i64) -> i128 {
        let ([near, far], [serve, take]) = (self.paid, self.reach);
        let beyond = net - self.position;
        let within = beyond.clamp(-take, serve);
        let rate = |rates: Rates| if beyond > 0 { rates.take } else { rates.give };
        product(rate(near), within) + product(rate(far), beyond - within)
    }

    /// What a Wh more costs and a Wh given brings where uncontrolled load, heat and forward position leave the home.
    fn margin(&self, [near, far]: [Rates; 2]) -> Rates {
        let beyond = self.base + self.heat_need - self.position;
        let [serve, take] = self.reach;
        Rates {
            take: if beyond > serve { far.take } else { near.take },
            give: if -beyond > take { far.give } else { near.give },
        }
    }

    /// [`Self::margin`] as expected.
    pub(super) fn paid_margin(&self) -> Rates {
        self.margin(self.paid)
    }

    /// What forbids flexible devices to take the home from one net to another, n.
    pub(super) fn barred(&self, from: i64, to: i64) -> i128 {
        let bought = self.between(from, to).filter(|(side, _)| self.is_barred(*side));
        bought.map(|(_, length)| product(BARRED, length)).sum()
    }

    /// What forbids to leave energy owed, n.
    pub(super) fn forbidden(owed: i64) -> i128 {
        product(FORBIDDEN, owed)
    }

    /// How much sun is curtailed at this net.
    pub(super) fn curtailed(&self, net: i64) -> i64 {
        let begins = self.ends.into_iter();
        let ends = self.ends.into_iter().skip(1);
        let curtail =
            self.sides.into_iter().skip(1).zip(begins.zip(ends)).find(|side| side.0 == Side::Curtail);
        curtail.map_or(0, |(_, (begin, end))| end - net.clamp(begin, end))
    }
}

/// True for a slope that only a deadline justifies.
pub(super) fn is_reluctant(slope: i64) -> bool {
    slope > BARRED / 2 * SCALE
}

/// What a kWh will probably save that is kept beyond the last interval, µ: the median of what the home pays where its
/// uncontrolled load, heat and forward position leave it taking energy; where it never does, the median of what it is
/// paid. Not below zero.
pub(super) fn worth(slots: &[Slot], rates: impl Fn(&Slot) -> Rates) -> i64 {
    let takes = |slot: &&Slot| slot.base + slot.heat_need > slot.position;
    let mut saved: Vec<i64> = slots.iter().filter(takes).map(|slot| rates(slot).take).collect();
    if saved.is_empty() {
        saved = slots.iter().map(|slot| rates(slot).give).collect();
    }
    let middle = saved.len().saturating_sub(1) / 2;
    if saved.is_empty() { 0 } else { (*saved.select_nth_unstable(middle).1).max(0) }
}

/// [`worth`] as planned with.
pub(super) fn planned_worth(slots: &[Slot]) -> i64 {
    worth(slots, |slot| slot.margin(slot.rates))
}
