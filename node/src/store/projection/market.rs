//! Rows of forward trading: every order, how it ended, and what the gates came to.

use std::collections::BTreeMap;

use energy::{HomeId, Interval};
use ledger::{Body, BreachOutcome, EntryId, GateOutcome, Order, OrderOutcome, Outcome, VerifiedEntry};
use market::Side;
use rusqlite::types::Value;

use super::{Facts, INSERT, Row, Table, blob, money, number, start, text, wh};

pub(super) const MARKET_ORDER: Table = Table {
    name: "market_order",
    columns: &["id", "home", "interval_ms", "side", "price", "quantity_wh", "height", "position"],
    key: 1,
    verb: INSERT,
};
pub(super) const ORDER_END: Table = Table {
    name: "order_end",
    columns: &["id", "home", "how", "filled_wh", "amount_n", "height"],
    key: 1,
    verb: INSERT,
};
pub(super) const GATE: Table = Table {
    name: "gate",
    columns: &[
        "interval_ms",
        "price",
        "volume_wh",
        "orders",
        "fees_n",
        "rent_n",
        "void",
        "public",
        "homes",
        "buyers",
        "sellers",
        "largest_wh",
        "height",
        "leaf",
    ],
    key: 1,
    verb: INSERT,
};
pub(super) const GATE_PRICE: Table =
    Table { name: "gate_price", columns: &["interval_ms", "node", "price", "height"], key: 2, verb: INSERT };
pub(super) const BREACH: Table = Table {
    name: "breach",
    columns: &[
        "home",
        "interval_ms",
        "import_wh",
        "export_wh",
        "import_max_wh",
        "export_max_wh",
        "height",
        "leaf",
    ],
    key: 4,
    verb: INSERT,
};

pub(super) fn market_orders(facts: &Facts<'_>) -> Vec<Row> {
    let height = facts.height();
    let row = |(position, entry): &(u64, &VerifiedEntry)| {
        let Body::Order(order) = &entry.entry().body else { return None };
        let Order { home, interval, side, price, quantity, .. } = order;
        Some(vec![
            blob(&entry.id().0.0),
            text(home.as_str()),
            start(*interval),
            text(side_word(*side)),
            Value::Integer(price.get()),
            wh(*quantity),
            number(height),
            number(*position),
        ])
    };
    facts.entries.iter().filter_map(row).collect()
}

/// An order ends once: replaced, taken back, or at its gate.
pub(super) fn order_ends(facts: &Facts<'_>) -> Vec<Row> {
    let height = facts.height();
    let ended = |order: EntryId, home: &HomeId, how: &str, filled: Value, amount: Value| {
        vec![blob(&order.0.0), text(home.as_str()), text(how), filled, amount, number(height)]
    };
    let by_entry = |(_, entry): &(u64, &VerifiedEntry)| match &entry.entry().body {
        Body::Order(Order { home, replaces: Some(order), .. }) => {
            Some(ended(*order, home, "replaced", number(0), number(0)))
        }
        Body::Cancel { home, order } => Some(ended(*order, home, "cancelled", number(0), number(0))),
        _ => None,
    };
    let at_gate = |(_, outcome): &(u64, &Outcome)| {
        let Outcome::Order(it) = outcome else { return None };
        Some(ended(it.order, &it.home, it.result().word(), wh(it.filled), money(it.amount)))
    };
    let entries = facts.entries.iter().filter_map(by_entry);
    entries.chain(facts.outcomes.iter().filter_map(at_gate)).collect()
}

pub(super) fn gates(facts: &Facts<'_>) -> Vec<Row> {
    let height = facts.height();
    let row = |(leaf, outcome): &(u64, &Outcome)| {
        let Outcome::Gate(gate) = outcome else { return None };
        Some(gate_row(gate, &Parts::of(facts, gate.interval), height, *leaf))
    };
    facts.outcomes.iter().filter_map(row).collect()
}

fn gate_row(gate: &GateOutcome, parts: &Parts, height: u64, leaf: u64) -> Row {
    vec![
        start(gate.interval),
        gate.price.map_or(Value::Null, |price| Value::Integer(price.get())),
        wh(gate.volume),
        number(gate.orders),
        money(gate.fees),
        money(gate.rent),
        number(u8::from(gate.void)),
        number(u8::from(gate.public)),
        number(parts.homes),
        number(parts.buyers),
        number(parts.sellers),
        number(parts.largest_wh),
        number(height),
        number(leaf),
    ]
}

/// Who had a part in a gate: what decides whether its figures may be shown.
#[derive(Debug, Default)]
struct Parts {
    /// Homes with an order.
    homes: usize,
    /// Homes that bought something.
    buyers: usize,
    /// Homes that sold something.
    sellers: usize,
    /// The most that one home traded.
    largest_wh: u64,
}

impl Parts {
    fn of(facts: &Facts<'_>, interval: Interval) -> Self {
        let mut by_home: BTreeMap<&HomeId, (Side, u64)> = BTreeMap::new();
        for (_, outcome) in &facts.outcomes {
            if let Outcome::Order(OrderOutcome { home, interval: of, side, filled, .. }) = outcome
                && *of == interval
            {
                let (_, traded) = by_home.entry(home).or_insert((*side, 0));
                *traded = traded.saturating_add(filled.get());
            }
        }
        let traders = |side| by_home.values().filter(|(of, traded)| *of == side && *traded > 0).count();
        Self {
            homes: by_home.len(),
            buyers: traders(Side::Buy),
            sellers: traders(Side::Sell),
            largest_wh: by_home.values().map(|(_, traded)| *traded).max().unwrap_or(0),
        }
    }
}

/// The prices of an auction where the ledger itself made them public. Others can be what one neighbour asked, and none are
/// kept: who traded at its node has that price from the amount of its own order.
pub(super) fn gate_prices(facts: &Facts<'_>) -> Vec<Row> {
    let height = facts.height();
    let nodes = facts.ledger.network().specs();
    let rows = |(_, outcome): &(u64, &Outcome)| -> Vec<Row> {
        let Outcome::Gate(gate) = outcome else { return Vec::new() };
        if !gate.public {
            return Vec::new();
        }
        let priced = nodes.iter().zip(&gate.node_prices);
        let row = |(node, price): (&market::NodeSpec, &Option<energy::Price>)| {
            let price = (*price)?.get();
            Some(vec![start(gate.interval), text(node.id.as_str()), Value::Integer(price), number(height)])
        };
        priced.filter_map(row).collect()
    };
    facts.outcomes.iter().flat_map(rows).collect()
}

pub(super) fn breaches(facts: &Facts<'_>) -> Vec<Row> {
    let height = facts.height();
    let row = |(leaf, outcome): &(u64, &Outcome)| {
        let Outcome::Breach(BreachOutcome { home, interval, metered, cap, .. }) = outcome else {
            return None;
        };
        Some(vec![
            text(home.as_str()),
            start(*interval),
            wh(metered.import),
            wh(metered.export),
            wh(cap.import),
            wh(cap.export),
            number(height),
            number(*leaf),
        ])
    };
    facts.outcomes.iter().filter_map(row).collect()
}

const fn side_word(side: Side) -> &'static str {
    match side {
        Side::Buy => "buy",
        Side::Sell => "sell",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use energy::{Interval, Mtu, Price, WattHours};
    use ledger::{Certificate, ConnectionSize, Executed, Forward, Genesis};
    use rusqlite::Connection;

    use super::super::super::Durability;
    use super::super::super::fixture::{MEMBER, ROLE, Street, genesis, home, key, start, store};
    use super::super::super::ledger_db::LedgerDb;
    use super::super::super::verify::verify;
    use super::*;

    fn auction() -> Genesis {
        Genesis { forward: Forward::Auction, ..genesis() }
    }

    fn interval(ahead: u64) -> Interval {
        Interval::from_index(Interval::containing(start(), Mtu::Min15).index() + ahead, Mtu::Min15)
    }

    fn order(
        street: &mut Street,
        number: u8,
        of: (u64, Side, i64, u64),
        replaces: Option<EntryId>,
    ) -> VerifiedEntry {
        let (ahead, side, price, quantity) = of;
        let order = Order {
            home: home(number),
            interval: interval(ahead),
            side,
            price: Price::new(price),
            quantity: WattHours::new(quantity),
            replaces,
        };
        let signed = street.sign(&key(MEMBER, number), Body::Order(order));
        signed.verify(street.ledger.chain()).unwrap()
    }

    fn cancel(street: &mut Street, number: u8, order: EntryId) -> VerifiedEntry {
        let signed = street.sign(&key(MEMBER, number), Body::Cancel { home: home(number), order });
        signed.verify(street.ledger.chain()).unwrap()
    }

    /// h1 sells what h2 and h3 buy; one order is replaced, one taken back, one left over, one void; and h1's connection is
    /// capped below what it gives.
    fn traded() -> (Genesis, Vec<(Executed, Certificate)>) {
        let genesis = auction();
        let mut street = Street::of(genesis.clone());
        let at = |minutes: u64| start().plus_ms(minutes * 60_000);
        let mut blocks = street.run(0);
        let small = ConnectionSize { import: WattHours::new(1_000_000), export: WattHours::new(600) };
        let cap = Body::ConnectionCap { home: home(1), from: interval(2), points: vec![small] };
        let cap = street.sign(&key(ROLE, 1), cap).verify(street.ledger.chain()).unwrap();
        let first = order(&mut street, 1, (4, Side::Sell, 90_000, 500), None);
        let taken = order(&mut street, 2, (4, Side::Buy, 240_000, 100), None);
        let buy = order(&mut street, 3, (4, Side::Buy, 200_000, 300), None);
        let void = order(&mut street, 2, (5, Side::Buy, 200_000, 300), None);
        let entries = [cap, first.clone(), taken.clone(), buy, void];
        blocks.push(street.block(at(16), &entries));
        let second = order(&mut street, 1, (4, Side::Sell, 90_000, 700), Some(first.id()));
        let back = cancel(&mut street, 2, taken.id());
        let again = order(&mut street, 2, (4, Side::Buy, 240_000, 200), None);
        let idle = order(&mut street, 4, (4, Side::Buy, 80_000, 100), None);
        blocks.push(street.block(at(17), &[second, back, again, idle]));
        for (minutes, ended) in [(31, 0), (32, 1), (46, 2)] {
            let readings = street.readings(interval(ended));
            blocks.push(street.block(at(minutes), &readings));
        }
        blocks.push(street.block(at(55), &[]));
        blocks.push(street.block(at(65), &[]));
        blocks.push(street.block(at(76), &[]));
        (genesis, blocks)
    }

    fn open(path: &Path, genesis: &Genesis) -> LedgerDb {
        LedgerDb::open(path, Durability::Normal, genesis, &home(1)).unwrap()
    }

    /// Every row of the tables of trading, as text.
    fn dump(path: &Path) -> Vec<String> {
        let db = Connection::open(path).unwrap();
        let tables = [MARKET_ORDER, ORDER_END, GATE, GATE_PRICE, BREACH];
        let rows = |table: &Table| -> Vec<String> {
            let columns = table.columns.join(", ");
            let mut query =
                db.prepare(&format!("SELECT {columns} FROM {} ORDER BY {columns}", table.name)).unwrap();
            let text = |row: &rusqlite::Row<'_>| -> rusqlite::Result<String> {
                let values: Result<Vec<Value>, _> = (0..table.columns.len()).map(|at| row.get(at)).collect();
                Ok(format!("{} {:?}", table.name, values?))
            };
            query.query_map([], text).unwrap().collect::<Result<_, _>>().unwrap()
        };
        tables.iter().flat_map(rows).collect()
    }

    #[test]
    fn every_order_ends_once_and_its_gate_says_what_was_traded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let (genesis, blocks) = traded();
        store(&mut open(&path, &genesis), &blocks);
        let db = Connection::open(&path).unwrap();
        let mut query = db
            .prepare(
                "SELECT o.home, e.how, e.filled_wh FROM market_order o LEFT JOIN order_end e ON e.id = o.id \
                 ORDER BY o.height, o.position",
            )
            .unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let ends: Vec<(String, String, i64)> =
            query.query_map([], row).unwrap().map(Result::unwrap).collect();
        let expected = [
            ("h1", "replaced", 0),
            ("h2", "cancelled", 0),
            ("h3", "filled", 300),
            ("h2", "void", 0),
            ("h1", "partly", 500),
            ("h2", "filled", 200),
            ("h4", "unfilled", 0),
        ];
        assert_eq!(ends, expected.map(|(home, how, filled)| (home.to_owned(), how.to_owned(), filled)));
        let gates: Vec<(i64, i64, i64, i64, i64, i64)> = db
            .prepare(
                "SELECT volume_wh, orders, homes, buyers, sellers, largest_wh FROM gate ORDER BY interval_ms",
            )
            .unwrap()
            .query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(gates, [(500, 4, 4, 2, 1, 500), (0, 1, 1, 0, 0, 0)]);
        let breach: (String, i64, i64) = db
            .query_row("SELECT home, export_wh, export_max_wh FROM breach", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!((breach.0.as_str(), breach.1 > 600, breach.2), ("h1", true, 600));
        let prices: i64 = db.query_row("SELECT count(*) FROM gate_price", [], |row| row.get(0)).unwrap();
        assert_eq!(prices, 0, "of four homes with orders no node's price is public");
    }

    #[test]
    fn an_order_of_a_home_that_leaves_ends_unfilled_and_waits_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let genesis = auction();
        let mut street = Street::of(genesis.clone());
        let mut blocks = street.run(0);
        let open_order = order(&mut street, 4, (6, Side::Buy, 200_000, 300), None);
        blocks.push(street.block(start().plus_ms(16 * 60_000), std::slice::from_ref(&open_order)));
        let body = Body::Departure { home: home(4), from: interval(5) };
        let chain = *street.ledger.chain();
        let leaving = street.sign(&key(MEMBER, 4), body).countersign(&chain, &key(ROLE, 1));
        blocks.push(street.block(start().plus_ms(17 * 60_000), &[leaving.verify(&chain).unwrap()]));
        store(&mut open(&path, &genesis), &blocks);
        let db = Connection::open(&path).unwrap();
        let ended: Vec<(Vec<u8>, String, i64, i64)> = db
            .prepare("SELECT id, how, filled_wh, height FROM order_end")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let height = i64::try_from(blocks.len()).unwrap();
        assert_eq!(ended, [(open_order.id().0.0.to_vec(), "unfilled".to_owned(), 0, height)]);
        verify(&path, &genesis, |_, _| {}).unwrap();
    }

    #[test]
    fn a_gates_prices_are_kept_where_its_leaf_is_public_and_nowhere_else() {
        let (_, mut blocks) = traded();
        let cleared = |executed: &Executed| executed.outcomes.iter().any(is_cleared);
        let at = blocks.iter().position(|(executed, _)| cleared(executed)).unwrap();
        let executed = &mut blocks[at].0;
        let interval = gate_of(executed).interval;
        assert!(gate_of(executed).node_prices.iter().flatten().count() == 3 && !gate_of(executed).public);
        assert_eq!(gate_prices(&Facts::of(executed)), Vec::<Row>::new());
        // The same gate with so many homes that its leaf is public; of its nodes one has few.
        let gate = gate_of(executed);
        gate.public = true;
        gate.node_prices[1] = None;
        let prices: Vec<_> =
            gate.node_prices.iter().flatten().map(|price| Value::Integer(price.get())).collect();
        let rows = gate_prices(&Facts::of(executed));
        assert_eq!(
            rows.iter().map(|row| row[1].clone()).collect::<Vec<_>>(),
            [text("grid"), text("feeder-2")]
        );
        assert_eq!(rows.iter().map(|row| row[2].clone()).collect::<Vec<_>>(), prices);
        assert!(rows.iter().all(|row| row[0] == super::start(interval)));
    }

    fn is_cleared(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Gate(gate) if gate.price.is_some())
    }

    fn gate_of(executed: &mut Executed) -> &mut GateOutcome {
        let of = executed.outcomes.iter_mut().filter(|outcome| is_cleared(outcome)).find_map(|outcome| {
            match outcome {
                Outcome::Gate(gate) => Some(gate),
                _ => None,
            }
        });
        of.unwrap()
    }

    #[test]
    fn a_rebuild_from_the_blocks_gives_the_same_rows_and_another_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first.db"), folder.path().join("second.db"));
        let (genesis, blocks) = traded();
        store(&mut open(&first, &genesis), &blocks);
        let mut ledger = ledger::Ledger::genesis(&genesis).unwrap();
        let mut rebuilt = open(&second, &genesis);
        for (executed, certificate) in &blocks {
            let again = ledger.execute(&executed.block).unwrap();
            rebuilt.commit(&again, certificate, 1, 1).unwrap();
            ledger = again.ledger;
        }
        drop(rebuilt);
        assert!(dump(&first).len() > 15);
        assert_eq!(dump(&first), dump(&second));
        verify(&first, &genesis, |_, _| {}).unwrap();
        for (spoil, named) in [
            ("UPDATE order_end SET filled_wh = 301 WHERE home = 'h3'", "order_end.filled_wh"),
            ("UPDATE market_order SET price = 1 WHERE home = 'h3'", "market_order.price"),
            ("UPDATE gate SET volume_wh = 1", "gate.volume_wh"),
            ("INSERT INTO gate_price VALUES (0, 'feeder-1', 90000, 5)", "table: gate_price: has "),
            ("DELETE FROM order_end WHERE how = 'void'", "order_end.id"),
            ("INSERT INTO breach VALUES ('h2', 0, 1, 1, 0, 0, 5, 9)", "table: breach: has "),
        ] {
            let copy = folder.path().join("copy.db");
            std::fs::copy(&second, &copy).unwrap();
            Connection::open(&copy).unwrap().execute_batch(spoil).unwrap();
            let fault = verify(&copy, &genesis, |_, _| {}).unwrap_err().to_string();
            assert!(fault.contains(named), "{spoil}: {fault}");
        }
    }
}
