//! What the ledger says of the coming intervals to one home: prices, fees, positions, caps, orders, money.

use std::collections::BTreeSet;

use agent::{Account, Band, Connection, HORIZON, OpenOffer, Terms};
use api::AGENT_PREFIX;
use energy::{HomeId, Interval, Price};
use ledger::{Forward, Ledger};
use market::{CHANGES_MAX, NodeIndex, NodeSpec, Tariff};

use crate::store::orders::{KeptOrder, OrderBody, OrderFate};

/// Network fees between the root and a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// All the way down.
    pub down: Price,
    /// All the way up.
    pub up: Price,
    /// On the usual way of energy from neighbours: over the busbar, without the edge to the grid above.
    pub local_down: Price,
    /// On the usual way to them.
    pub local_up: Price,
}

impl Fees {
    /// Those of a home in an interval; none for one that is no member.
    #[must_use]
    pub fn of(ledger: &Ledger, home: &HomeId, interval: Interval) -> Self {
        let network = &*ledger.network_at(interval);
        let node = ledger.member(home).and_then(|member| network.index_of(&member.admission.node));
        let none = Price::ZERO;
        node.map_or(Self { down: none, up: none, local_down: none, local_up: none }, |node| Self {
            down: network.fee_down_from_root(node),
            up: network.fee_up_to_root(node),
            local_down: local_fee(network, node, |node| node.fee_down),
            local_up: local_fee(network, node, |node| node.fee_up),
        })
    }

    /// What the community's tariff comes to with them for a home whose own supplier has `contract`. Prices and fees of a
    /// ledger are bounded far inside their type.
    #[must_use]
    pub fn terms_of(&self, tariff: Tariff, contract: Tariff) -> Terms {
        let Tariff { import_price, export_price } = contract;
        Terms {
            tariff,
            supplier_import: import_price.add(self.down).unwrap_or(import_price),
            supplier_export: export_price.sub(self.up).unwrap_or(export_price),
            fee_down: self.local_down,
            fee_up: self.local_up,
        }
    }
}

/// What the community's `tariff` in an interval comes to at a home: with the fees of that interval, and at the home's own
/// contract where it has one.
#[must_use]
pub fn terms_at(ledger: &Ledger, home: &HomeId, interval: Interval, tariff: Tariff) -> Terms {
    let contract = ledger.member(home).map(|member| member.contract_at(interval));
    let own = Tariff {
        import_price: contract.and_then(|own| own.import_price).unwrap_or(tariff.import_price),
        export_price: contract.and_then(|own| own.export_price).unwrap_or(tariff.export_price),
    };
    Fees::of(ledger, home, interval).terms_of(tariff, own)
}

/// The fees between a node and the first one below the root.
fn local_fee(network: &market::Network, node: NodeIndex, fee: fn(&NodeSpec) -> Price) -> Price {
    let (mut sum, mut at) = (Price::ZERO, network.specs().get(node.get()));
    while let Some(spec) = at {
        let above = spec.parent.as_ref().and_then(|parent| network.index_of(parent));
        at = above.and_then(|above| network.specs().get(above.get())).filter(|above| above.parent.is_some());
        if at.is_some() {
            sum = sum.add(fee(spec)).unwrap_or(sum);
        }
    }
    sum
}

/// What one home looks up before it plans; the lists begin with one interval and are as long as a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Prices.
    pub terms: Vec<Terms>,
    /// Positions and caps.
    pub connection: Vec<Connection>,
    /// Limits of orders.
    pub bands: Vec<Band>,
    /// Its orders: those in the book, and those on their way there. Where people have one in an interval, no order of that
    /// interval has a change left, so the agent does nothing about it.
    pub open: Vec<OpenOffer>,
    /// What the market lets it do; `None`: there is no forward trading.
    pub account: Option<Account>,
}

impl Outlook {
    /// Of `home` from `from` on. `kept` are the entries of its order desk, newest first; `trades`: whether it may trade at all.
    #[must_use]
    pub fn of(ledger: &Ledger, home: &HomeId, from: Interval, kept: &[KeptOrder], trades: bool) -> Self {
        let coming = (0..HORIZON as u64)
            .map(|ahead| Interval::from_index(from.index().saturating_add(ahead), from.mtu()));
        let mut outlook = Self {
            terms: Vec::with_capacity(HORIZON),
            connection: Vec::with_capacity(HORIZON),
            bands: Vec::with_capacity(HORIZON),
            open: open_offers(ledger, home, kept),
            account: None,
        };
        for interval in coming {
            let (terms, connection, band) = interval_of(ledger, home, interval);
            outlook.terms.push(terms);
            outlook.connection.push(connection);
            outlook.bands.push(band);
        }
        if trades && ledger.genesis_terms().forward != Forward::Off {
            outlook.account = Some(account(ledger, home, from, kept));
        }
        outlook
    }
}

fn interval_of(ledger: &Ledger, home: &HomeId, interval: Interval) -> (Terms, Connection, Band) {
    let point = ledger.tariff_at(interval);
    let tariff = Tariff { import_price: point.import_price, export_price: point.export_price };
    let position = ledger.position(home, interval);
    let size = ledger.connection_limit(home, interval).unwrap_or_default();
    let connection = Connection {
        bought: position.bought,
        sold: position.sold,
        import_cap: size.import,
        export_cap: size.export,
    };
    let terms = terms_at(ledger, home, interval, tariff);
    // Where nothing is traded locally no order is taken: the band then only keeps its place in the list.
    let band = ledger.price_band(home, interval).unwrap_or((terms.supplier_export, terms.supplier_import));
    (terms, connection, Band { low: band.0, high: band.1 })
}

/// The orders of a home in the book, and those that were signed and not recorded yet.
///
/// An order is the agent's own only if its request says so; any other, also one that the desk does not know, is people's, whom
/// the agent neither replaces nor outbids: no order of such an interval has a change left.
fn open_offers(ledger: &Ledger, home: &HomeId, kept: &[KeptOrder]) -> Vec<OpenOffer> {
    let changes = |interval| CHANGES_MAX.saturating_sub(ledger.changes_left(home, interval));
    let recorded = ledger.open_orders(home).into_iter().map(|(interval, order)| OpenOffer {
        id: order.id.0.0,
        interval,
        side: order.side,
        price: order.price,
        quantity: order.quantity,
        changes: changes(interval),
    });
    let mut open: Vec<OpenOffer> = recorded.collect();
    for pending in kept.iter().filter(|kept| kept.fate == OrderFate::Pending) {
        let OrderBody::Order(order) = &pending.body else { continue };
        if open.iter().all(|known| known.id != pending.id.0.0) && ledger.next_gate() <= order.interval {
            open.push(OpenOffer {
                id: pending.id.0.0,
                interval: order.interval,
                side: order.side,
                price: order.price,
                quantity: order.quantity,
                changes: changes(order.interval),
            });
        }
    }
    let of_agent: BTreeSet<_> =
        kept.iter().filter(|kept| kept.request.starts_with(AGENT_PREFIX)).map(|kept| kept.id.0.0).collect();
    leave_to_people(&mut open, |id| of_agent.contains(id));
    open
}

/// Takes from the agent the intervals in which there is an order that is not its own.
fn leave_to_people(open: &mut [OpenOffer], is_own: impl Fn(&[u8; 32]) -> bool) {
    let foreign = open.iter().filter(|offer| !is_own(&offer.id));
    let taken: BTreeSet<_> = foreign.map(|offer| offer.interval).collect();
    for offer in open.iter_mut().filter(|offer| taken.contains(&offer.interval)) {
        offer.changes = CHANGES_MAX;
    }
}

fn account(ledger: &Ledger, home: &HomeId, from: Interval, kept: &[KeptOrder]) -> Account {
    let size = ledger.connection_limit(home, from).unwrap_or_default();
    let left = ledger
        .member(home)
        .map_or(0, |member| ledger.entries_left(&member.admission.keys.member, from.start()));
    // Signed and not recorded yet, of which the ledger does not know.
    let under_way = kept.iter().filter(|kept| kept.fate == OrderFate::Pending).count();
    Account {
        free: ledger.free(home),
        maximum: size.import.min(size.export),
        entries_left: left.saturating_sub(u32::try_from(under_way).unwrap_or(u32::MAX)),
        trading: true,
    }
}

#[cfg(test)]
mod tests {
    use energy::{Mtu, WattHours};
    use market::Side;

    use super::*;

    fn offer(id: u8, index: u64) -> OpenOffer {
        OpenOffer {
            id: [id; 32],
            interval: Interval::from_index(index, Mtu::Min15),
            side: Side::Sell,
            price: Price::new(100_000),
            quantity: WattHours::new(500),
            changes: 1,
        }
    }

    #[test]
    fn an_interval_in_which_people_have_an_order_is_left_to_them() {
        let mut open = [offer(1, 7), offer(2, 7), offer(3, 8), offer(4, 9)];
        // The second and the fourth are people's.
        leave_to_people(&mut open, |id| [1, 3].contains(&id[0]));
        assert_eq!(open.map(|offer| offer.changes), [CHANGES_MAX, CHANGES_MAX, 1, CHANGES_MAX]);
    }
}
