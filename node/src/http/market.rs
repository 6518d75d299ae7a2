//! The market over the API: rules, the home's own orders, gates; and the two addresses that have an order signed.

mod orders;
mod privacy;
mod rate;
mod terms;

use std::sync::Arc;

use api::{
    GateRow, GateState, HISTORY_DAYS_MAX, HOURS_AHEAD_MAX, HistoryTotals, MarketBook, MarketCurve,
    MarketHistory, MarketRules, OpenOrder, OpenPosition, OrderRow, PAGE_DEFAULT, PAGE_MAX, Page,
    SCHEMA_VERSION, Time,
};
use axum::Json;
use axum::extract::State;
use energy::{HomeId, Interval, Timestamp, WattHours, midpoint_floor};
use ledger::{Forward, Ledger, OrderWindow};
use market::Side;
use serde::Deserialize;

use super::Served;
use super::database::{self, OrderPlace, StoredGate, StoredOrder};
use super::day::OutOfRange;
use super::page::MarketView;
use super::routes::{Answer, ApiError, Asked, asked};
use crate::desk::Which;

pub use orders::{cancel, entries, order};
pub use privacy::{DepthCache, Parts};
pub use rate::RateLimit;

/// Milliseconds of an hour and of a day.
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// How many days and hours are told if the request does not say.
const DAYS_DEFAULT: u32 = 7;
const HOURS_DEFAULT: u32 = 24;

/// How far ahead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesQuery {
    hours: Option<u32>,
}

/// Which interval.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalQuery {
    interval: Option<String>,
}

/// How far back, and which page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    days: Option<u32>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// What every answer about the market needs.
pub(in crate::http) struct Present {
    /// The ledger after the last block.
    pub ledger: Arc<Ledger>,
    /// The home.
    pub home: HomeId,
    /// Market time.
    pub now: Timestamp,
}

impl Served {
    /// The market as it stands now.
    pub(in crate::http) fn market(&self) -> Result<Present, ApiError> {
        let live = &self.state.live;
        let ledger = live.ledger().ok_or(ApiError::Busy("the node has not loaded its ledger yet"))?;
        Ok(Present { ledger, home: self.state.home.clone(), now: live.market_time() })
    }
}

impl Present {
    /// The interval that starts at the time named.
    fn interval(&self, text: &str) -> Result<Interval, ApiError> {
        let mtu = self.ledger.genesis_terms().mtu;
        let shown: String = text.chars().take(40).collect();
        Interval::parse(text, mtu)
            .map_err(|error| ApiError::BadRequest(format!("{shown:?} is no interval: {error}")))
    }

    /// The first interval for which orders are taken; without forward trading the one after the present.
    fn first_open(&self) -> Interval {
        let next = || Interval::containing(self.now, self.ledger.genesis_terms().mtu).next();
        self.ledger.first_open().unwrap_or_else(next)
    }
}

/// A number that was asked for, or the usual one.
fn within(name: &str, given: Option<u32>, usual: u32, max: u32) -> Result<u32, ApiError> {
    let number = given.unwrap_or(usual);
    if (1..=max).contains(&number) {
        Ok(number)
    } else {
        Err(ApiError::BadRequest(format!("{name} must be 1 to {max}, not {number}")))
    }
}

/// `GET /api/v1/market/rules`
pub async fn rules(State(served): State<Served>, query: Asked<RulesQuery>) -> Answer<MarketRules> {
    let hours = within("hours", asked(query)?.hours, HOURS_DEFAULT, HOURS_AHEAD_MAX)?;
    terms::rules(&served.market()?, hours).map(Json)
}

/// `GET /api/v1/market/book`
pub async fn book(State(served): State<Served>, query: Asked<IntervalQuery>) -> Answer<MarketBook> {
    let present = served.market()?;
    let interval = asked(query)?.interval.map(|text| present.interval(&text)).transpose()?;
    let is_meant = |of: Interval| interval.is_none_or(|meant| meant == of);
    let pending = match &served.state.desk {
        Some(desk) => orders::pending(desk.entries(Which::Newest(PAGE_DEFAULT)).await?, is_meant),
        None => Vec::new(),
    };
    let about = interval.unwrap_or_else(|| present.first_open());
    let community = present
        .ledger
        .first_open()
        .filter(|first| about >= *first)
        .map(|_| served.depth.show(about, present.ledger.book(about), &present.home, present.now));
    Ok(Json(MarketBook {
        schema_version: SCHEMA_VERSION,
        market_time: Time(present.now),
        interval: interval.map(|interval| Time(interval.start())),
        orders: present.open_orders(is_meant),
        pending,
        positions: present.positions(is_meant)?,
        community,
    }))
}

/// What the page shows of the market.
pub(in crate::http) async fn view(served: &Served) -> Result<MarketView, ApiError> {
    let present = served.market()?;
    let pending = match &served.state.desk {
        Some(desk) => orders::pending(desk.entries(Which::Newest(PAGE_DEFAULT)).await?, |_| true),
        None => Vec::new(),
    };
    let (home, since_ms) = (present.home.to_string(), signed(present.now.minus_ms(DAY_MS)));
    let breaches = served.database.ask(move |db| database::breaches(db, &home, since_ms, 1)).await?;
    Ok(MarketView {
        rules: terms::rules(&present, HOURS_DEFAULT)?,
        orders: present.open_orders(|_| true),
        pending,
        positions: present.positions(|_| true)?,
        breach: breaches.first().map(|breach| breach.interval_start),
    })
}

impl Present {
    /// Own open orders of the intervals meant.
    fn open_orders(&self, is_meant: impl Fn(Interval) -> bool) -> Vec<OpenOrder> {
        let orders = self.ledger.open_orders(&self.home).into_iter();
        let row = |(interval, order): (Interval, ledger::OpenOrder)| {
            let window = OrderWindow::of(interval);
            OpenOrder {
                id: order.id.to_string(),
                interval_start: Time(interval.start()),
                side: side_of(order.side),
                price: order.price.get(),
                quantity_wh: order.quantity.get(),
                reserve_n: order.reserve.get(),
                gate: Time(window.gate),
                freezes: Time(window.freezes),
                changes_left: self.ledger.changes_left(&self.home, interval).into(),
            }
        };
        orders.filter(|(interval, _)| is_meant(*interval)).map(row).collect()
    }

    /// Own positions of the intervals meant.
    fn positions(&self, is_meant: impl Fn(Interval) -> bool) -> Result<Vec<OpenPosition>, OutOfRange> {
        let rows = self.ledger.positions(&self.home).into_iter().filter(|row| is_meant(row.interval));
        rows.map(|row| {
            Ok(OpenPosition {
                interval_start: Time(row.interval.start()),
                sold_wh: row.position.sold.get(),
                bought_wh: row.position.bought.get(),
                amount_n: i64::try_from(row.position.amount.get()).map_err(|_| OutOfRange)?,
                reserve_n: row.reserve.get(),
            })
        })
        .collect()
    }

    /// An order with what its trade would have come to at the home's supplier.
    fn order_row(&self, order: &StoredOrder) -> Result<OrderRow, OutOfRange> {
        Ok(OrderRow {
            supplier_n: self.with_supplier(order)?,
            fill_price: fill_price(order),
            id: hex::encode(order.id),
            interval_start: order.interval_start,
            side: order.side,
            price: order.price,
            quantity_wh: order.quantity_wh,
            height: order.height,
            state: order.state,
            filled_wh: order.filled_wh,
            amount_n: order.amount_n,
        })
    }

    /// What the energy of a trade would have come to with the supplier alone, n; positive: the home receives it.
    fn with_supplier(&self, order: &StoredOrder) -> Result<i64, OutOfRange> {
        if order.filled_wh == 0 {
            return Ok(0);
        }
        let interval = Interval::containing(order.interval_start.0, self.ledger.genesis_terms().mtu);
        let band = terms::supplier_prices(&self.ledger, &self.home, interval).ok_or(OutOfRange)?;
        let (price, sign) = match order.side {
            api::Side::Sell => (band.0, 1),
            api::Side::Buy => (band.1, -1),
        };
        let amount = price.cost_of(WattHours::new(order.filled_wh)).map_err(|_| OutOfRange)?;
        i64::try_from(amount.get() * sign).map_err(|_| OutOfRange)
    }

    /// A gate as members see it. Its own node's price a home knows where it is public, or from what it traded there itself.
    fn gate_row(&self, gate: StoredGate, traded_at: Option<i64>) -> GateRow {
        let forward = self.ledger.genesis_terms().forward;
        let shows_prices = gate.parts.shows_prices(forward);
        let node = self.ledger.member(&self.home).map(|member| member.admission.node.to_string());
        let public =
            gate.prices.iter().find(|price| Some(&price.node) == node.as_ref()).map(|price| price.price);
        GateRow {
            interval_start: gate.interval_start,
            void: gate.void,
            volume_wh: gate.parts.shows_volume().then_some(gate.parts.volume_wh),
            orders: gate.parts.shows_orders().then_some(gate.orders),
            price: gate.price.filter(|_| shows_prices),
            // Matched at posted prices, what is paid at one node differs by how far the neighbours were.
            own_price: public.or(traded_at.filter(|_| forward == Forward::Auction)),
            prices: privacy::prices_for(gate.prices, self.ledger.network(), node.as_deref()),
            height: gate.height,
        }
    }
}

/// The price that makes the amount of what was traded, if one does so exactly.
fn fill_price(order: &StoredOrder) -> Option<i64> {
    let (amount, energy) = (i128::from(order.amount_n), i128::from(order.filled_wh));
    let sign = if order.side == api::Side::Sell { 1 } else { -1 };
    let price = amount.checked_div(energy)?;
    (price * energy == amount).then(|| i64::try_from(price * sign).ok()).flatten()
}

/// The word of the API for a side.
pub(in crate::http) const fn side_of(side: Side) -> api::Side {
    match side {
        Side::Buy => api::Side::Buy,
        Side::Sell => api::Side::Sell,
    }
}

/// `GET /api/v1/market/curve`
pub async fn curve(State(served): State<Served>, query: Asked<IntervalQuery>) -> Answer<MarketCurve> {
    let present = served.market()?;
    let interval = match asked(query)?.interval {
        Some(text) => present.interval(&text)?,
        None => present.first_open(),
    };
    let (home, start) = (present.home.to_string(), signed(interval.start()));
    let read = move |db: &rusqlite::Connection| {
        let gate = database::gates(db, start, start.saturating_add(1), 1)?.into_iter().next();
        Ok((gate, database::orders_of(db, &home, start)?))
    };
    let (gate, own) = served.database.ask(read).await?;
    let own = own.into_iter().map(|order| present.order_row(&order)).collect::<Result<Vec<_>, _>>()?;
    let traded_at = own.iter().find_map(|order| order.fill_price);
    let result = gate.map(|gate| present.gate_row(gate, traded_at));
    let window = OrderWindow::of(interval);
    let (low, high) = terms::supplier_prices(&present.ledger, &present.home, interval).ok_or(OutOfRange)?;
    let tariff = present.ledger.tariff_at(interval);
    Ok(Json(MarketCurve {
        schema_version: SCHEMA_VERSION,
        interval_start: Time(interval.start()),
        currency: present.ledger.genesis_terms().currency.clone(),
        state: present.gate_state(interval, result.as_ref()),
        gate: Time(window.gate),
        lowest: low.get(),
        highest: high.get(),
        local_price: midpoint_floor(tariff.import_price, tariff.export_price).get(),
        result,
        envelopes: terms::envelopes(&present.ledger, interval),
        own,
    }))
}

impl Present {
    fn gate_state(&self, interval: Interval, gate: Option<&GateRow>) -> GateState {
        match gate {
            Some(gate) if gate.void => GateState::Void,
            Some(_) => GateState::Cleared,
            None if self.ledger.first_open().is_none_or(|first| interval < first) => GateState::Empty,
            None if self.now < OrderWindow::of(interval).opens => GateState::Early,
            None => GateState::Open,
        }
    }
}

/// `GET /api/v1/market/history`
pub async fn history(State(served): State<Served>, query: Asked<HistoryQuery>) -> Answer<MarketHistory> {
    let query = asked(query)?;
    let days = within("days", query.days, DAYS_DEFAULT, HISTORY_DAYS_MAX)?;
    let limit = within("limit", query.limit, PAGE_DEFAULT, PAGE_MAX)?;
    let [interval_ms, height, position] = super::routes::cursor_numbers(query.cursor.as_deref())?;
    let place = OrderPlace { interval_ms, height, position };
    let present = served.market()?;
    let since = present.now.minus_ms(u64::from(days) * DAY_MS);
    let (home, since_ms) = (present.home.to_string(), signed(since));
    let read = move |db: &rusqlite::Connection| {
        Ok(Stored {
            orders: database::orders(db, &home, since_ms, place, limit + 1)?,
            gates: database::gates(db, since_ms, i64::MAX, limit)?,
            breaches: database::breaches(db, &home, since_ms, limit)?,
            trades: database::trades(db, &home, since_ms)?,
        })
    };
    let stored = served.database.ask(read).await?;
    present.history(since, stored, limit).map(Json)
}

/// What the database holds of the days asked for.
struct Stored {
    orders: Vec<(StoredOrder, OrderPlace)>,
    gates: Vec<StoredGate>,
    breaches: Vec<api::BreachRow>,
    trades: (u64, Vec<StoredOrder>),
}

impl Present {
    fn history(&self, since: Timestamp, stored: Stored, limit: u32) -> Result<MarketHistory, ApiError> {
        let totals = self.totals(stored.trades.0, &stored.trades.1)?;
        let priced = |order: &StoredOrder| Some((order.interval_start, fill_price(order)?));
        let traded: std::collections::BTreeMap<Time, i64> =
            stored.trades.1.iter().filter_map(priced).collect();
        let page = Page::cut(stored.orders, limit, |(_, place)| {
            format!("{}-{}-{}", place.interval_ms, place.height, place.position)
        });
        let orders = page.items.into_iter().map(|(order, _)| self.order_row(&order));
        let gates = stored.gates.into_iter().map(|gate| {
            let traded_at = traded.get(&gate.interval_start).copied();
            self.gate_row(gate, traded_at)
        });
        Ok(MarketHistory {
            schema_version: SCHEMA_VERSION,
            currency: self.ledger.genesis_terms().currency.clone(),
            since: Time(since),
            orders: orders.collect::<Result<_, _>>()?,
            next_cursor: page.next_cursor,
            gates: gates.collect(),
            breaches: stored.breaches,
            totals,
        })
    }

    fn totals(&self, orders: u64, trades: &[StoredOrder]) -> Result<HistoryTotals, OutOfRange> {
        let (mut amount, mut supplier) = (0_i128, 0_i128);
        for order in trades {
            amount += i128::from(order.amount_n);
            supplier += i128::from(self.with_supplier(order)?);
        }
        let energy = |side| {
            let of_side = trades.iter().filter(|order| order.side == side);
            of_side.map(|order| order.filled_wh).fold(0_u64, u64::saturating_add)
        };
        let narrow = |value: i128| i64::try_from(value).map_err(|_| OutOfRange);
        Ok(HistoryTotals {
            orders,
            filled: trades.len() as u64,
            sold_wh: energy(api::Side::Sell),
            bought_wh: energy(api::Side::Buy),
            amount_n: narrow(amount)?,
            supplier_n: narrow(supplier)?,
            gain_n: narrow(amount - supplier)?,
        })
    }
}

fn signed(time: Timestamp) -> i64 {
    i64::try_from(time.unix_ms()).unwrap_or(i64::MAX)
}
