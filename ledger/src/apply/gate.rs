//! Gates: the book of one interval cleared inside the operator's envelope, and what each order comes to.

use std::collections::BTreeMap;

use energy::{Balance, HomeId, Interval, Money, Price, Timestamp, WattHours, midpoint_floor};
use market::{Network, NodeIndex, Position, Side, Tariff};

use super::Step;
use super::forward::{band, of_side, reserve_of};
use crate::crypto::{Hash32, Salt};
use crate::entry::{EntryId, EnvelopePoint};
use crate::error::EntryError;
use crate::genesis::Forward;
use crate::outcome::Outcome;
use crate::settle::{ANONYMITY_HOMES, derived_salt, is_dominated, is_few};
use crate::state::{ForwardTotals, OpenOrder, OpenPosition, State};
use crate::trade::{GateOutcome, OrderOutcome};

/// Outcomes of one entry's salt are told apart by a number; settlements count from 0.
const ORDER_SALT: u8 = 0xf0;
const GATE_SALT: u8 = 0xf1;
/// A gate is public only with orders of so many homes on each side …
const SIDE_HOMES: usize = 3;
/// … and then the price of a node only with so many homes there.
const NODE_HOMES: usize = 5;

/// An order at its gate.
struct Waiting {
    home: HomeId,
    node: NodeIndex,
    order: OpenOrder,
    /// What of it takes part: all, unless the connection was capped, or its home leaves.
    admitted: WattHours,
}

/// What a gate made of the orders.
struct Cleared {
    fills: Vec<WattHours>,
    /// What each home receives (pays, if negative).
    amounts: Vec<Money>,
    price: Option<Price>,
    node_prices: Vec<Option<Price>>,
    totals: ForwardTotals,
    void: bool,
}

impl Cleared {
    fn nothing(orders: usize) -> Self {
        Self {
            fills: vec![WattHours::ZERO; orders],
            amounts: vec![Money::ZERO; orders],
            price: None,
            node_prices: Vec::new(),
            totals: ForwardTotals::default(),
            void: false,
        }
    }

    fn void(orders: usize) -> Self {
        Self { void: true, ..Self::nothing(orders) }
    }

    /// True if buyers pay exactly what sellers, the network and the congestion account receive.
    fn is_balanced(&self) -> bool {
        let ForwardTotals { fees, rent } = self.totals;
        let sum = Money::sum(self.amounts.iter().copied().chain([fees, rent]));
        sum.is_ok_and(|sum| sum == Money::ZERO)
    }

    /// Void, unless its money balances: what does not could never be settled, and no block would get past its deadline.
    fn or_void(self) -> Self {
        if self.is_balanced() { self } else { Self::void(self.fills.len()) }
    }
}

impl Step {
    /// Clears the orders of an interval at its gate; void if the block comes after the interval's start. Every order gets its
    /// result, and what it does not need any more is released.
    pub(crate) fn close_gate(&mut self, interval: Interval, time: Timestamp) -> Result<(), EntryError> {
        let waiting = self.take_book(interval)?;
        if waiting.is_empty() {
            return Ok(());
        }
        let network = self.state.network_at(interval);
        let cleared = if time > interval.start() {
            Cleared::void(waiting.len())
        } else {
            self.state.clear(interval, &network, &waiting)?.or_void()
        };
        self.take_positions(interval, &network, &waiting, &cleared)?;
        self.report(interval, &waiting, cleared)
    }

    /// Takes an interval's orders out of the book and frees their reserves; in ascending order of their ids.
    fn take_book(&mut self, interval: Interval) -> Result<Vec<Waiting>, EntryError> {
        let mut waiting = Vec::new();
        for ((_, home), mine) in self.state.book.extract(|(index, _)| *index == interval.index()) {
            let member = self.member(&home)?;
            let node = self.state.node_of(member);
            let has_left = member.leaves.is_some_and(|left| interval.index() >= left);
            let carries = self.state.connection_of(&home, member, interval);
            // A cap may come after the orders; what came first is kept first.
            let mut room = None;
            for order in mine.orders {
                let left = if has_left { WattHours::ZERO } else { of_side(carries, order.side) };
                let room = room.get_or_insert(left);
                let admitted = order.quantity.min(*room);
                *room = room.saturating_sub(admitted);
                self.change_reserve(&home, order.reserve.as_money().neg()?)?;
                waiting.push(Waiting { home: home.clone(), node, order, admitted });
            }
        }
        waiting.sort_unstable_by_key(|waiting| waiting.order.id);
        Ok(waiting)
    }

    fn take_positions(
        &mut self,
        interval: Interval,
        network: &Network,
        waiting: &[Waiting],
        cleared: &Cleared,
    ) -> Result<(), EntryError> {
        let tariff = self.state.tariff_at(interval);
        for ((of, fill), amount) in waiting.iter().zip(&cleared.fills).zip(&cleared.amounts) {
            if fill.is_zero() {
                continue;
            }
            let side = of.order.side;
            let value = if side == Side::Sell { *amount } else { amount.neg()? };
            // Filled at no worse than its limit, an order needs no more than before; a tariff that changed meanwhile must not
            // reserve what its home may not have. The payment itself is always covered.
            let fees = (network.fee_up_to_root(of.node), network.fee_down_from_root(of.node));
            let band = band(fees, tariff)?;
            let reserve = reserve_of(band, side, *fill, value)?.min(of.order.reserve);
            self.change_reserve(&of.home, reserve.as_money())?;
            self.add_position(interval, &of.home, side, *fill, *amount, reserve)?;
        }
        if cleared.totals != ForwardTotals::default() {
            self.state.forward.insert(interval.index(), cleared.totals);
        }
        Ok(())
    }

    fn add_position(
        &mut self,
        interval: Interval,
        home: &HomeId,
        side: Side,
        filled: WattHours,
        amount: Money,
        reserve: Balance,
    ) -> Result<(), EntryError> {
        let key = (interval.index(), home.clone());
        let empty = OpenPosition { position: Position::default(), reserve: Balance::ZERO };
        let mut open = self.state.positions.get(&key).copied().unwrap_or(empty);
        match side {
            Side::Sell => open.position.sold = open.position.sold.add(filled)?,
            Side::Buy => open.position.bought = open.position.bought.add(filled)?,
        }
        open.position.amount = open.position.amount.add(amount)?;
        open.reserve = open.reserve.credit(reserve.as_money())?;
        self.state.positions.insert(key, open);
        Ok(())
    }

    fn report(
        &mut self,
        interval: Interval,
        waiting: &[Waiting],
        mut cleared: Cleared,
    ) -> Result<(), EntryError> {
        let (void, public) = (cleared.void, self.state.may_publish(interval, waiting, &cleared.fills));
        if public {
            self.state.hide_thin_nodes(interval, &mut cleared.node_prices);
        }
        let mut salts = Vec::new();
        let mut volume = WattHours::ZERO;
        for ((of, filled), amount) in waiting.iter().zip(&cleared.fills).zip(&cleared.amounts) {
            salts.extend_from_slice(&of.order.salt.0);
            if of.order.side == Side::Sell {
                volume = volume.add(*filled)?;
            }
            let traded = Traded { void, filled: *filled, amount: *amount };
            self.outcomes.push(Outcome::Order(order_outcome(interval, &of.home, &of.order, traded)));
        }
        let outcome = GateOutcome {
            interval,
            price: cleared.price,
            volume,
            orders: u32::try_from(waiting.len()).unwrap_or(u32::MAX),
            fees: cleared.totals.fees,
            rent: cleared.totals.rent,
            void,
            public,
            salt: derived_salt(&Hash32::of(&[&salts]).0, interval, GATE_SALT),
            node_prices: cleared.node_prices,
        };
        self.outcomes.push(Outcome::Gate(outcome));
        Ok(())
    }
}

impl State {
    fn clear(
        &self,
        interval: Interval,
        network: &Network,
        waiting: &[Waiting],
    ) -> Result<Cleared, EntryError> {
        let tariff = self.tariff_at(interval);
        if tariff.import_price < tariff.export_price {
            return Ok(Cleared::nothing(waiting.len()));
        }
        let network = self.envelope_network(interval, network)?;
        let orders: Vec<_> = waiting.iter().map(Waiting::as_order).collect();
        match self.rules.genesis.forward {
            Forward::Off => Ok(Cleared::nothing(waiting.len())),
            Forward::Posted => {
                let (import_price, export_price) = (tariff.import_price, tariff.export_price);
                clear_posted(&network, Tariff { import_price, export_price }, &orders)
            }
            Forward::Auction => clear_auction(&network, &orders),
        }
    }

    /// The network as forward trading may use it in an interval: what trading adds must leave room for all other energy.
    fn envelope_network(&self, interval: Interval, network: &Network) -> Result<Network, EntryError> {
        let edges = network.specs().iter().filter_map(|spec| {
            let node = network.index_of(&spec.id).filter(|node| *node != network.root())?;
            let EnvelopePoint { up, down } = self.envelope_at(interval.index(), spec);
            Some((node, up, down))
        });
        Ok(network.with_limits(&edges.collect::<Vec<_>>())?)
    }

    /// What forward trading may send over an edge: the operator's envelope, else the genesis share of the edge's rating.
    pub fn envelope_at(&self, index: u64, edge: &market::NodeSpec) -> EnvelopePoint {
        let permille = u64::from(self.rules.genesis.market.envelope_permille);
        let share = |rating: Option<WattHours>| {
            // A rating so large that this saturates limits nothing anyway.
            rating.map(|wh| WattHours::new(wh.get().saturating_mul(permille).div_euclid(1000)))
        };
        let published = self.envelopes.get(&(index, edge.id.clone())).copied();
        published.unwrap_or_else(|| EnvelopePoint { up: share(edge.up), down: share(edge.down) })
    }

    /// The anonymity rule of totals for a gate: enough members; at least three homes with orders to sell and three with orders
    /// to buy, for without both sides a price is somebody's limit; not one or two who sold or bought; none with too large a
    /// part.
    fn may_publish(&self, interval: Interval, waiting: &[Waiting], fills: &[WattHours]) -> bool {
        let here = |leaves: Option<u64>| leaves.is_none_or(|left| interval.index() < left);
        let members = self.members.iter().filter(|(_, member)| here(member.leaves)).count();
        let mut parts: [BTreeMap<&HomeId, u64>; 4] = Default::default();
        let [asks, bids, sold, bought] = &mut parts;
        for (of, fill) in waiting.iter().zip(fills) {
            let (ordered, traded) = if of.order.side == Side::Sell {
                (&mut *asks, &mut *sold)
            } else {
                (&mut *bids, &mut *bought)
            };
            for (part, quantity) in [(ordered, of.order.quantity), (traded, *fill)] {
                let sum = part.entry(&of.home).or_default();
                *sum = sum.saturating_add(quantity.get());
            }
        }
        if asks.len().min(bids.len()) < SIDE_HOMES {
            return false;
        }
        let hides = |part: BTreeMap<&HomeId, u64>| {
            let quantities: Vec<u64> = part.into_values().collect();
            is_few(&quantities) || is_dominated(&quantities)
        };
        members >= ANONYMITY_HOMES && !parts.into_iter().any(hides)
    }

    /// Takes the prices of nodes with few homes out of a public gate: there one is the limit of a neighbour's order. Who traded
    /// at such a node has its price from its own order's amount.
    fn hide_thin_nodes(&self, interval: Interval, prices: &mut [Option<Price>]) {
        let mut homes = vec![0_usize; prices.len()];
        for (_, member) in self.members.iter().filter(|(_, member)| member.is_member_in(interval)) {
            if let Some(count) = homes.get_mut(self.node_of(member).get()) {
                *count = count.saturating_add(1);
            }
        }
        let thin = prices.iter_mut().zip(homes).filter(|(_, homes)| *homes < NODE_HOMES);
        thin.for_each(|(price, _)| *price = None);
    }
}

impl Waiting {
    fn as_order(&self) -> market::Order<EntryId> {
        let OpenOrder { id, side, price, .. } = self.order;
        market::Order { id, node: self.node, side, price, quantity: self.admitted }
    }
}

fn clear_posted(
    network: &Network,
    tariff: Tariff,
    orders: &[market::Order<EntryId>],
) -> Result<Cleared, EntryError> {
    let matched = market::match_forward(network, &tariff, orders)?;
    Ok(Cleared {
        fills: matched.fills,
        amounts: matched.amounts,
        price: Some(midpoint_floor(tariff.import_price, tariff.export_price)),
        node_prices: Vec::new(),
        totals: ForwardTotals { fees: matched.fees, rent: Money::ZERO },
        void: false,
    })
}

fn clear_auction(network: &Network, orders: &[market::Order<EntryId>]) -> Result<Cleared, EntryError> {
    let clearing = market::clear(network, orders, None)?;
    let price_at = |node: NodeIndex| clearing.prices.get(node.get()).copied().flatten();
    let amounts = orders.iter().zip(&clearing.fills).map(|(order, fill)| {
        // Nobody fills where there is no price.
        let value = price_at(order.node).unwrap_or(Price::ZERO).cost_of(*fill)?;
        if order.side == Side::Sell { Ok(value) } else { Ok(value.neg()?) }
    });
    Ok(Cleared {
        amounts: amounts.collect::<Result<_, EntryError>>()?,
        price: price_at(network.root()),
        totals: ForwardTotals { fees: clearing.fees, rent: clearing.congestion_rent },
        fills: clearing.fills,
        node_prices: clearing.prices,
        void: false,
    })
}

/// What an order came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traded {
    pub void: bool,
    pub filled: WattHours,
    /// What its home receives (pays, if negative).
    pub amount: Money,
}

/// The one result of an order of `home`.
pub(super) fn order_outcome(
    interval: Interval,
    home: &HomeId,
    order: &OpenOrder,
    traded: Traded,
) -> OrderOutcome {
    let OpenOrder { id, side, price, quantity, salt: Salt(secret), .. } = order;
    let Traded { void, filled, amount } = traded;
    OrderOutcome {
        home: home.clone(),
        interval,
        order: *id,
        side: *side,
        limit: *price,
        quantity: *quantity,
        filled,
        amount,
        void,
        salt: derived_salt(secret, interval, ORDER_SALT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clearing_whose_money_does_not_balance_is_void() {
        let amounts = vec![Money::new(500), Money::new(-530)];
        let totals = ForwardTotals { fees: Money::new(20), rent: Money::new(10) };
        let fills = vec![WattHours::new(5); 2];
        let cleared =
            || Cleared { fills: fills.clone(), amounts: amounts.clone(), totals, ..Cleared::nothing(0) };
        let kept = cleared().or_void();
        assert_eq!((kept.void, &kept.fills, &kept.amounts), (false, &fills, &amounts));
        for amount in [-529, -531, i128::MIN] {
            let void = Cleared { amounts: vec![Money::new(500), Money::new(amount)], ..cleared() }.or_void();
            assert!(void.void && void.totals == ForwardTotals::default());
            assert_eq!((void.fills, void.amounts), (vec![WattHours::ZERO; 2], vec![Money::ZERO; 2]));
        }
    }
}
