//! Forward orders: taken against reserves, cleared at the gate, firm until settlement.

use energy::{Balance, HomeId, Interval, Money, Price, Timestamp, WattHours};
use market::{Account, Clearing, Network, NodeIndex, Position, Side};

use super::{Step, by};
use crate::entry::{EntryId, Order, TariffPoint, VerifiedEntry};
use crate::error::EntryError;
use crate::genesis::{Forward, INTERVAL_ENERGY_MAX};
use crate::state::{ForwardTotals, OPEN_ORDERS_MAX, OpenOrder, OpenPosition};

/// Gate closure before the start of the interval, ms.
pub(crate) const GATE_LEAD_MS: u64 = 300_000;
/// Orders are taken from this long before the start, ms.
const OPENS_MS: u64 = 172_800_000;
/// No cancel or reduction this long before the gate, ms.
const FREEZE_MS: u64 = 300_000;
/// The least energy of an order.
const ORDER_MIN: WattHours = WattHours::new(100);
/// Replacements and cancels of one member for one interval.
const CHANGES_MAX: u8 = 8;

impl Step {
    pub(super) fn order(
        &mut self,
        verified: &VerifiedEntry,
        order: &Order,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let member = self.member(&order.home)?;
        by(verified, &member.admission.keys.member, "the member")?;
        let node = self.state.node_of(member);
        self.accepts_orders(order.interval, time)?;
        if order.quantity < ORDER_MIN {
            return Err(EntryError::OrderLimits { what: "an order is for at least 100 Wh" });
        }
        let tariff = self.state.tariff_at(order.interval);
        let band = price_band(&self.state.rules.network, node, tariff)?;
        if !(band.0..=band.1).contains(&order.price) {
            return Err(EntryError::OrderLimits {
                what: "an order's limit lies between the supplier's prices at its node",
            });
        }
        if let Some(replaced) = order.replaces {
            let old = self.take_back(&order.home, order.interval, replaced)?;
            if self.is_frozen(order.interval, time) && order.quantity < old.quantity {
                return Err(EntryError::OrderLimits {
                    what: "no reduction in the last 5 minutes before the gate",
                });
            }
        }
        self.fits_in_book(order)?;
        let reserve = reserve_of(&self.state.rules.network, node, tariff, order)?;
        let (free, needed) = (self.free_balance(&Account::Home(order.home.clone()))?, reserve.as_money());
        if free < needed {
            return Err(EntryError::NoFunds { free, needed });
        }
        self.change_reserve(&order.home, needed)?;
        let (side, price, quantity) = (order.side, order.price, order.quantity);
        let open = OpenOrder { id: verified.id(), side, price, quantity, reserve };
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
        if self.is_frozen(interval, time) {
            return Err(EntryError::OrderLimits { what: "no cancel in the last 5 minutes before the gate" });
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
        // Orders in the gate block itself count: it is the first with a time at or past the gate, so its parent's time,
        // and not its own, says whether the gate is still to come.
        if time < opens || self.state.time >= gate || interval.index() < self.state.next_gate {
            return Err(EntryError::GateClosed { interval, opens, gate, time });
        }
        Ok(())
    }

    fn is_frozen(&self, interval: Interval, time: Timestamp) -> bool {
        time >= gate_of(interval).minus_ms(FREEZE_MS)
    }

    /// One side per member and interval, not too many orders, and no more energy than its connection carries.
    fn fits_in_book(&self, order: &Order) -> Result<(), EntryError> {
        let refuse = |what| Err(EntryError::OrderLimits { what });
        let mine = self.state.book.get(&(order.interval.index(), order.home.clone()));
        let mine = mine.map_or(&[][..], |mine| mine.orders.as_slice());
        if mine.iter().any(|open| open.side != order.side) {
            return refuse("a home buys or sells in one interval, not both");
        }
        if mine.len() >= OPEN_ORDERS_MAX {
            return refuse("a home has at most 4 open orders for one interval");
        }
        let open = mine.iter().fold(0u64, |sum, open| sum.saturating_add(open.quantity.get()));
        if open.saturating_add(order.quantity.get()) > INTERVAL_ENERGY_MAX.get() {
            return refuse("a home's orders for one interval come to at most 1 MWh");
        }
        Ok(())
    }

    /// Takes an open order out of the book and frees its reserve.
    fn take_back(&mut self, home: &HomeId, interval: Interval, id: EntryId) -> Result<OpenOrder, EntryError> {
        let mine =
            self.state.book.get_mut(&(interval.index(), home.clone())).ok_or(EntryError::NoSuchOrder)?;
        let place = mine.orders.iter().position(|open| open.id == id).ok_or(EntryError::NoSuchOrder)?;
        if mine.changes >= CHANGES_MAX {
            return Err(EntryError::OrderLimits {
                what: "a home changes its orders for one interval at most 8 times",
            });
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

    /// Clears the orders of an interval at its gate; void if the block comes after the interval's start.
    pub(crate) fn close_gate(&mut self, interval: Interval, time: Timestamp) -> Result<(), EntryError> {
        let mut open = Vec::new();
        for ((_, home), mine) in self.state.book.extract(|(index, _)| *index == interval.index()) {
            for order in mine.orders {
                self.change_reserve(&home, order.reserve.as_money().neg()?)?;
                open.push((home.clone(), order));
            }
        }
        if open.is_empty() || time > interval.start() {
            return Ok(());
        }
        open.sort_unstable_by_key(|(_, order)| order.id);
        let orders = self.as_orders(&open)?;
        let clearing = market::clear(&self.state.rules.network, &orders, None)?;
        self.take_positions(interval, &open, &orders, &clearing)?;
        let totals = ForwardTotals { fees: clearing.fees, rent: clearing.congestion_rent };
        self.state.forward.insert(interval.index(), totals);
        Ok(())
    }

    fn as_orders(&self, open: &[(HomeId, OpenOrder)]) -> Result<Vec<market::Order<EntryId>>, EntryError> {
        open.iter()
            .map(|(home, open)| {
                let node = self.state.node_of(self.member(home)?);
                let (id, side, price, quantity) = (open.id, open.side, open.price, open.quantity);
                Ok(market::Order { id, node, side, price, quantity })
            })
            .collect()
    }

    fn take_positions(
        &mut self,
        interval: Interval,
        open: &[(HomeId, OpenOrder)],
        orders: &[market::Order<EntryId>],
        clearing: &Clearing,
    ) -> Result<(), EntryError> {
        let tariff = self.state.tariff_at(interval);
        for (((home, open), order), fill) in open.iter().zip(orders).zip(&clearing.fills) {
            let Some(Some(price)) = clearing.prices.get(order.node.get()).filter(|_| !fill.is_zero()) else {
                continue;
            };
            let filled = Order {
                home: home.clone(),
                interval,
                side: open.side,
                price: *price,
                quantity: *fill,
                replaces: None,
            };
            // Filled at no worse than its limit, an order needs no more than before; a tariff that changed meanwhile must not
            // reserve what its home may not have. The payment itself is always covered.
            let reserve =
                reserve_of(&self.state.rules.network, order.node, tariff, &filled)?.min(open.reserve);
            self.change_reserve(home, reserve.as_money())?;
            self.add_position(interval, &filled, reserve)?;
        }
        Ok(())
    }

    fn add_position(
        &mut self,
        interval: Interval,
        filled: &Order,
        reserve: Balance,
    ) -> Result<(), EntryError> {
        let key = (interval.index(), filled.home.clone());
        let empty = OpenPosition { position: Position::default(), reserve: Balance::ZERO };
        let mut open = self.state.positions.get(&key).copied().unwrap_or(empty);
        let money = filled.price.cost_of(filled.quantity)?;
        match filled.side {
            Side::Sell => {
                open.position.sold = open.position.sold.add(filled.quantity)?;
                open.position.amount = open.position.amount.add(money)?;
            }
            Side::Buy => {
                open.position.bought = open.position.bought.add(filled.quantity)?;
                open.position.amount = open.position.amount.sub(money)?;
            }
        }
        open.reserve = open.reserve.credit(reserve.as_money())?;
        self.state.positions.insert(key, open);
        Ok(())
    }
}

/// Gate closure of an interval.
pub(crate) const fn gate_of(interval: Interval) -> Timestamp {
    interval.start().minus_ms(GATE_LEAD_MS)
}

/// The supplier's prices as they arrive at a node: `[export − F↑, import + F↓]`.
fn price_band(network: &Network, node: NodeIndex, tariff: TariffPoint) -> Result<(Price, Price), EntryError> {
    let low = tariff.export_price.sub(network.fee_up_to_root(node))?;
    let high = tariff.import_price.add(network.fee_down_from_root(node))?;
    Ok((low, high))
}

/// The most an order can cost its home, whether it delivers and takes or not: a sell qty × max(0, max(0, import + F↓) −
/// limit), a buy qty × max(0, limit − min(0, export − F↑)).
fn reserve_of(
    network: &Network,
    node: NodeIndex,
    tariff: TariffPoint,
    order: &Order,
) -> Result<Balance, EntryError> {
    let (low, high) = price_band(network, node, tariff)?;
    let exposure = match order.side {
        // Delivering costs as well where the limit is below zero.
        Side::Sell => high.max(Price::ZERO).sub(order.price)?,
        Side::Buy => order.price.sub(low.min(Price::ZERO))?,
    };
    Ok(Balance::ZERO.credit(exposure.max(Price::ZERO).cost_of(order.quantity)?)?)
}
