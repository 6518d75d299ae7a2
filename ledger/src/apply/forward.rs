//! Forward orders: taken against reserves, replaced, taken back. What their gate makes of them is in [`super::gate`].

use energy::{Balance, HomeId, Interval, Money, Price, Timestamp, WattHours};
use market::{Account, CHANGES_MAX, FREEZE_MS, GATE_LEAD_MS, NodeIndex, OPENS_MS, ORDER_MIN, Side};

use super::{Step, by};
use crate::entry::{ConnectionSize, EntryId, Order, TariffPoint, VerifiedEntry};
use crate::error::EntryError;
use crate::genesis::Forward;
use crate::state::{Member, OPEN_ORDERS_MAX, OpenOrder, State};

impl Step {
    pub(super) fn order(
        &mut self,
        verified: &VerifiedEntry,
        order: &Order,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let member = self.member(&order.home)?;
        by(verified, &member.admission.keys.member, "the member")?;
        self.accepts_orders(order.interval, time)?;
        if member.leaves.is_some_and(|left| order.interval.index() >= left) {
            return refuse("the home leaves the community before this interval; order for an earlier one");
        }
        if order.quantity < ORDER_MIN {
            return refuse("an order is for at least 100 Wh");
        }
        let node = self.state.node_of(member);
        let band = self.state.price_band(node, order.interval)?;
        is_within(band, order.price)?;
        if let Some(replaced) = order.replaces {
            let old = self.take_back(&order.home, order.interval, replaced)?;
            if is_frozen(order.interval, time) {
                is_no_worse(&old, order)?;
            }
        }
        self.fits_in_book(order)?;
        let reserve = reserve_of(band, order.side, order.quantity, order.price.cost_of(order.quantity)?)?;
        let (free, needed) = (self.free_balance(&Account::Home(order.home.clone()))?, reserve.as_money());
        if free < needed {
            return Err(EntryError::NoFunds { free, needed });
        }
        self.change_reserve(&order.home, needed)?;
        let (side, price, quantity, salt) = (order.side, order.price, order.quantity, verified.entry().salt);
        let open = OpenOrder { id: verified.id(), side, price, quantity, reserve, salt };
        let key = (order.interval.index(), order.home.clone());
        let mut mine = self.state.book.get(&key).cloned().unwrap_or_default();
        mine.orders.push(open);
        self.state.book.insert(key, mine);
        Ok(())
    }

    pub(super) fn cancel(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        id: EntryId,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        by(verified, &self.member(home)?.admission.keys.member, "the member")?;
        let interval = self.interval_of(home, id).ok_or(EntryError::NoSuchOrder)?;
        self.accepts_orders(interval, time)?;
        if is_frozen(interval, time) {
            return refuse("no cancel in the last 5 minutes before the gate");
        }
        self.take_back(home, interval, id).map(|_| ())
    }

    /// The interval that an open order of a home is for.
    fn interval_of(&self, home: &HomeId, id: EntryId) -> Option<Interval> {
        let ahead = OPENS_MS.div_euclid(self.state.mtu().ms()).saturating_add(1);
        let indexes = self.state.next_gate..=self.state.next_gate.saturating_add(ahead);
        let holds = |index: &u64| {
            let mine = self.state.book.get(&(*index, home.clone()));
            mine.is_some_and(|mine| mine.orders.iter().any(|open| open.id == id))
        };
        indexes.into_iter().find(holds).map(|index| self.state.interval(index))
    }

    fn accepts_orders(&self, interval: Interval, time: Timestamp) -> Result<(), EntryError> {
        if self.state.rules.genesis.forward == Forward::Off {
            return Err(EntryError::ForwardOff);
        }
        if interval.mtu() != self.state.mtu() {
            return Err(EntryError::WrongMtu);
        }
        let (opens, gate) = (interval.start().minus_ms(OPENS_MS), gate_of(interval));
        // An order in a block after the start would stand there only to be void.
        if time < opens || time > interval.start() || self.is_closed(interval) {
            return Err(EntryError::GateClosed { interval, opens, gate, time });
        }
        Ok(())
    }

    /// True if the gate of an interval has closed. Entries in the gate block itself count: it is the first with a time at or
    /// past the gate, so its parent's time, and not its own, says whether the gate is still to come.
    pub(super) fn is_closed(&self, interval: Interval) -> bool {
        self.state.time >= gate_of(interval) || interval.index() < self.state.next_gate
    }

    /// One side per member and interval, not too many orders, and no more energy than its connection carries. There is one
    /// gate an interval, so while orders are taken there is no position yet that would count too.
    fn fits_in_book(&self, order: &Order) -> Result<(), EntryError> {
        let mine = self.state.book.get(&(order.interval.index(), order.home.clone()));
        let mine = mine.map_or(&[][..], |mine| mine.orders.as_slice());
        if mine.iter().any(|open| open.side != order.side) {
            return refuse("a home buys or sells in one interval, not both");
        }
        if mine.len() >= OPEN_ORDERS_MAX {
            return refuse("a home has at most 4 open orders for one interval");
        }
        let asked = mine.iter().try_fold(order.quantity, |sum, open| sum.add(open.quantity))?;
        let carries = self.state.connection_of(&order.home, self.member(&order.home)?, order.interval);
        let max = of_side(carries, order.side);
        if asked > max { Err(EntryError::ConnectionLimit { asked, max }) } else { Ok(()) }
    }

    /// Takes an open order out of the book and frees its reserve.
    fn take_back(&mut self, home: &HomeId, interval: Interval, id: EntryId) -> Result<OpenOrder, EntryError> {
        let mine =
            self.state.book.get_mut(&(interval.index(), home.clone())).ok_or(EntryError::NoSuchOrder)?;
        let place = mine.orders.iter().position(|open| open.id == id).ok_or(EntryError::NoSuchOrder)?;
        if mine.changes >= CHANGES_MAX {
            return refuse("a home changes its orders for one interval at most 8 times");
        }
        mine.changes = mine.changes.saturating_add(1);
        let open = mine.orders.remove(place);
        self.change_reserve(home, open.reserve.as_money().neg()?)?;
        Ok(open)
    }

    /// Adds to (or takes from) what a home has reserved.
    pub(crate) fn change_reserve(&mut self, home: &HomeId, by: Money) -> Result<(), EntryError> {
        let reserve = self.state.reserves.get(home).copied().unwrap_or_default().credit(by)?;
        if reserve == Balance::ZERO {
            self.state.reserves.remove(home);
        } else {
            self.state.reserves.insert(home.clone(), reserve);
        }
        Ok(())
    }
}

impl State {
    /// The supplier's prices as they arrive at a node in an interval: `(export − F↑, import + F↓)`.
    ///
    /// Prices and fees are known before orders are taken, as published or as the last ones that were valid at that time of
    /// day. What is published after that moves no order's limit and adds nothing to its reserve.
    pub fn price_band(&self, node: NodeIndex, interval: Interval) -> Result<(Price, Price), EntryError> {
        let tariff = self.tariff_at(interval);
        is_tradable(tariff)?;
        band(self.fees_of_path(interval, node)?, tariff)
    }

    /// What a connection may trade in an interval: its certified size, or the operator's cap where that is less.
    pub fn connection_of(&self, home: &HomeId, member: &Member, interval: Interval) -> ConnectionSize {
        let size = member.admission.size;
        self.caps.get(&(interval.index(), home.clone())).map_or(size, |cap| ConnectionSize {
            import: size.import.min(cap.import),
            export: size.export.min(cap.export),
        })
    }
}

/// Gate closure of an interval.
pub(crate) const fn gate_of(interval: Interval) -> Timestamp {
    interval.start().minus_ms(GATE_LEAD_MS)
}

fn refuse<T>(what: &'static str) -> Result<T, EntryError> {
    Err(EntryError::OrderLimits { what })
}

fn is_frozen(interval: Interval, time: Timestamp) -> bool {
    time >= gate_of(interval).minus_ms(FREEZE_MS)
}

/// In the freeze an order may grow and offer more; with less energy or a worse price it would be taken back in all but name.
fn is_no_worse(old: &OpenOrder, new: &Order) -> Result<(), EntryError> {
    if new.quantity < old.quantity {
        return refuse("no reduction in the last 5 minutes before the gate");
    }
    let worse = match new.side {
        _ if new.side != old.side => true,
        Side::Sell => new.price > old.price,
        Side::Buy => new.price < old.price,
    };
    if worse { refuse("no worse limit in the last 5 minutes before the gate") } else { Ok(()) }
}

/// Where the supplier charges less than it pays, everybody is at the supplier.
fn is_tradable(tariff: TariffPoint) -> Result<(), EntryError> {
    if tariff.import_price < tariff.export_price {
        return refuse("the supplier charges less than it pays in this interval, so there is no local trade");
    }
    Ok(())
}

fn is_within((low, high): (Price, Price), price: Price) -> Result<(), EntryError> {
    if (low..=high).contains(&price) { Ok(()) } else { Err(EntryError::PriceBand { price, low, high }) }
}

/// `(export − F↑, import + F↓)` of a node whose fees to and from the root are these.
pub(super) fn band(
    (fees_up, fees_down): (Price, Price),
    tariff: TariffPoint,
) -> Result<(Price, Price), EntryError> {
    Ok((tariff.export_price.sub(fees_up)?, tariff.import_price.add(fees_down)?))
}

/// The most that `quantity` at `value` in all can cost its home, whether it delivers and takes or not: a sell quantity ×
/// max(0, import + F↓) − value, a buy value − quantity × min(0, export − F↑), neither below zero. With value = quantity ×
/// limit these are the reserves of an open order; delivering costs as well where a sale's limit is below zero.
pub(super) fn reserve_of(
    (low, high): (Price, Price),
    side: Side,
    quantity: WattHours,
    value: Money,
) -> Result<Balance, EntryError> {
    let exposure = match side {
        Side::Sell => high.max(Price::ZERO).cost_of(quantity)?.sub(value)?,
        Side::Buy => value.sub(low.min(Price::ZERO).cost_of(quantity)?)?,
    };
    Ok(Balance::ZERO.credit(exposure.max(Money::ZERO))?)
}

/// What a connection carries of a side's energy.
pub(super) const fn of_side(size: ConnectionSize, side: Side) -> WattHours {
    match side {
        Side::Buy => size.import,
        Side::Sell => size.export,
    }
}
