//! Questions about forward trading: the home's own orders, and what gates came to.

use api::{BreachRow, NodePrice, OrderState, Side, Time};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::{count, optional_count, time};
use crate::http::market::Parts;
use crate::store::quoted;

/// An order as the ledger holds it, before it is compared with the supplier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrder {
    /// Its id.
    pub id: [u8; 32],
    /// Start of delivery.
    pub interval_start: Time,
    /// Buy or sell.
    pub side: Side,
    /// Its limit, µ/kWh.
    pub price: i64,
    /// What it was for, Wh.
    pub quantity_wh: u64,
    /// Height of the block that holds it.
    pub height: u64,
    /// What became of it.
    pub state: OrderState,
    /// What was traded, Wh.
    pub filled_wh: u64,
    /// What that comes to, n.
    pub amount_n: i64,
}

/// Where a page of orders begins: behind this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderPlace {
    /// Start of its interval.
    pub interval_ms: i64,
    /// Height of its block.
    pub height: i64,
    /// Its position there.
    pub position: i64,
}

const ORDER: &str = "SELECT o.id, o.interval_ms, o.side, o.price, o.quantity_wh, o.height, e.how, \
     coalesce(e.filled_wh, 0), coalesce(e.amount_n, 0), o.position \
     FROM market_order o LEFT JOIN order_end e ON e.id = o.id WHERE o.home = ";

/// Orders of `home` for intervals from `since_ms` on, behind `place`, newest first, each with the place behind it.
pub fn orders(
    connection: &Connection,
    home: &str,
    since_ms: i64,
    place: OrderPlace,
    limit: u32,
) -> rusqlite::Result<Vec<(StoredOrder, OrderPlace)>> {
    let mut query = connection.prepare_cached(&format!(
        "{ORDER} {} AND o.interval_ms >= ?1 AND (o.interval_ms, o.height, o.position) < (?2, ?3, ?4) \
         ORDER BY o.interval_ms DESC, o.height DESC, o.position DESC LIMIT ?5",
        quoted(home)
    ))?;
    let bounds = params![since_ms, place.interval_ms, place.height, place.position, limit];
    let placed = |row: &Row<'_>| {
        let place = OrderPlace { interval_ms: row.get(1)?, height: row.get(5)?, position: row.get(9)? };
        Ok((stored_order(row)?, place))
    };
    query.query_map(bounds, placed)?.collect()
}

/// Orders of `home` for one interval, in the order in which they were recorded.
pub fn orders_of(
    connection: &Connection,
    home: &str,
    interval_ms: i64,
) -> rusqlite::Result<Vec<StoredOrder>> {
    let mut query = connection.prepare_cached(&format!(
        "{ORDER} {} AND o.interval_ms = ?1 ORDER BY o.height, o.position",
        quoted(home)
    ))?;
    query.query_map([interval_ms], stored_order)?.collect()
}

/// Orders of `home` that were traded, whole or in part, for intervals from `since_ms` on; and how many orders there were in
/// all.
pub fn trades(
    connection: &Connection,
    home: &str,
    since_ms: i64,
) -> rusqlite::Result<(u64, Vec<StoredOrder>)> {
    let home = quoted(home);
    let sql = format!("SELECT count(*) FROM market_order WHERE home = {home} AND interval_ms >= ?1");
    let all = connection.prepare_cached(&sql)?.query_row([since_ms], |row| count(row, 0))?;
    let sql = format!("{ORDER} {home} AND o.interval_ms >= ?1 AND e.filled_wh > 0");
    let mut query = connection.prepare_cached(&sql)?;
    let traded = query.query_map([since_ms], stored_order)?.collect::<rusqlite::Result<_>>()?;
    Ok((all, traded))
}

fn stored_order(row: &Row<'_>) -> rusqlite::Result<StoredOrder> {
    let unknown =
        |column: usize, name: &str| rusqlite::Error::InvalidColumnType(column, name.to_owned(), Type::Text);
    let (side, how): (String, Option<String>) = (row.get(2)?, row.get(6)?);
    let side = [Side::Buy, Side::Sell].into_iter().find(|of| of.word() == side);
    let state = match how {
        None => Some(OrderState::Open),
        Some(how) => OrderState::ENDED.into_iter().find(|state| state.word() == how),
    };
    Ok(StoredOrder {
        id: row.get(0)?,
        interval_start: time(row, 1)?,
        side: side.ok_or_else(|| unknown(2, "side"))?,
        price: row.get(3)?,
        quantity_wh: count(row, 4)?,
        height: count(row, 5)?,
        state: state.ok_or_else(|| unknown(6, "how"))?,
        filled_wh: count(row, 7)?,
        amount_n: row.get(8)?,
    })
}

/// A gate as it was stored: not to be shown whole.
#[derive(Debug, Clone)]
pub struct StoredGate {
    /// Start of its interval.
    pub interval_start: Time,
    /// The price before network fees, µ/kWh.
    pub price: Option<i64>,
    /// How many orders.
    pub orders: u32,
    /// True if it came too late.
    pub void: bool,
    /// Height of its block.
    pub height: u64,
    /// Who had a part in it.
    pub parts: Parts,
    /// Price at each node, where it is public.
    pub prices: Vec<NodePrice>,
}

/// Gates of intervals from `since_ms` to before `before_ms`, newest first.
pub fn gates(
    connection: &Connection,
    since_ms: i64,
    before_ms: i64,
    limit: u32,
) -> rusqlite::Result<Vec<StoredGate>> {
    let mut query = connection.prepare_cached(
        "SELECT interval_ms, price, orders, void, height, public, homes, buyers, sellers, largest_wh, volume_wh \
         FROM gate WHERE interval_ms >= ?1 AND interval_ms < ?2 ORDER BY interval_ms DESC LIMIT ?3",
    )?;
    let rows = query.query_map(params![since_ms, before_ms, limit], stored_gate)?;
    let mut gates = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let sql = "SELECT node, price FROM gate_price WHERE interval_ms = ?1 ORDER BY node";
    let mut query = connection.prepare_cached(sql)?;
    for gate in &mut gates {
        let start = super::signed(gate.interval_start.0);
        let price = |row: &Row<'_>| Ok(NodePrice { node: row.get(0)?, price: row.get(1)? });
        gate.prices = query.query_map([start], price)?.collect::<rusqlite::Result<_>>()?;
    }
    Ok(gates)
}

fn stored_gate(row: &Row<'_>) -> rusqlite::Result<StoredGate> {
    Ok(StoredGate {
        interval_start: time(row, 0)?,
        price: row.get(1)?,
        orders: row.get(2)?,
        void: row.get(3)?,
        height: count(row, 4)?,
        parts: Parts {
            public: row.get(5)?,
            homes: row.get(6)?,
            buyers: row.get(7)?,
            sellers: row.get(8)?,
            largest_wh: count(row, 9)?,
            volume_wh: optional_count(row, 10)?.unwrap_or(0),
        },
        prices: Vec::new(),
    })
}

/// Intervals from `since_ms` on in which the connection of `home` carried more than its cap, newest first.
pub fn breaches(
    connection: &Connection,
    home: &str,
    since_ms: i64,
    limit: u32,
) -> rusqlite::Result<Vec<BreachRow>> {
    let mut query = connection.prepare_cached(
        "SELECT interval_ms, import_wh, export_wh, import_max_wh, export_max_wh FROM breach \
         WHERE home = ?1 AND interval_ms >= ?2 ORDER BY interval_ms DESC LIMIT ?3",
    )?;
    let breach = |row: &Row<'_>| {
        Ok(BreachRow {
            interval_start: time(row, 0)?,
            import_wh: count(row, 1)?,
            export_wh: count(row, 2)?,
            import_max_wh: count(row, 3)?,
            export_max_wh: count(row, 4)?,
        })
    };
    query.query_map(params![home, since_ms, limit], breach)?.collect()
}
