//! The home's signed orders and cancels: what was signed for which request, and what became of it.
//!
//! As in the journal, an entry and its number are stored in one durable transaction before anyone sees the entry, and a
//! number is used once. The request it was signed for is stored with it, so that a request that is sent again, also to a
//! node that was killed in between, finds its entry instead of making a second one.

use std::path::{Path, PathBuf};

use energy::Timestamp;
use ledger::codec::Decode;
use ledger::{Body, Chain, EntryId, Order, SignedEntry, VerifiedEntry};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};

use super::StoreError;
use super::database::{self, Durability, Schema, decoded, int, unsigned};

const SCHEMA: &str = include_str!("orders.sql");
const SCHEMA_VERSION: i64 = 1;
/// Entries are kept for so long after they were signed, in ms of market time: 40 days, longer than any history that is
/// asked for.
const KEPT_MS: u64 = 40 * 86_400_000;

/// What became of a signed entry, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderFate {
    /// It is sent until it is final.
    Pending,
    /// It stands in the final block at this height.
    Final(u64),
    /// The ledger did not take it, and why.
    Refused(String),
}

/// What an entry of this store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderBody {
    /// An order.
    Order(Order),
    /// Takes one back.
    Cancel(EntryId),
}

impl OrderBody {
    /// That of an entry's body; `None` if it is neither.
    #[must_use]
    pub fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Order(order) => Some(Self::Order(order.clone())),
            Body::Cancel { order, .. } => Some(Self::Cancel(*order)),
            _ => None,
        }
    }
}

/// An order or cancel that was signed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOrder {
    /// Its id.
    pub id: EntryId,
    /// What it says.
    pub body: OrderBody,
    /// What it was signed for.
    pub request: String,
    /// Market time at which it was signed.
    pub signed: Timestamp,
    /// What became of it.
    pub fate: OrderFate,
}

/// An entry that no final block is known to hold.
#[derive(Debug)]
pub struct Unsettled {
    /// Its id.
    pub id: EntryId,
    /// As it was signed.
    pub signed: SignedEntry,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
    /// False once it was given up.
    pub open: bool,
}

/// The orders of one home, open for writing by its one desk.
#[derive(Debug)]
pub struct OrderStore {
    connection: Connection,
    path: PathBuf,
    chain: Chain,
}

const KEPT: &str = "SELECT id, bytes, request, signed_ms, open, height, refused FROM entry";

impl OrderStore {
    /// Opens the file at `path` or begins it. Entries in it are signed for `chain`.
    ///
    /// # Errors
    /// [`StoreError`]: another file, of another chain, or the file system refuses.
    pub fn open(path: &Path, chain: &Chain) -> Result<Self, StoreError> {
        let schema = Schema { sql: SCHEMA, own_sql: None, version: SCHEMA_VERSION, chain, home: None };
        let connection = database::open(path, Durability::Full, &schema, |_| Ok(()))?;
        Ok(Self { connection, path: path.to_owned(), chain: *chain })
    }

    /// The number of the next entry, where the ledger holds `on_ledger` already: a file that was lost goes on there.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn next_number(&self, on_ledger: u64) -> Result<u64, StoreError> {
        let sql = "SELECT last FROM number";
        let last = self.connection.query_row(sql, [], |row| unsigned(row, 0));
        let last = last.map_err(StoreError::database(&self.path, "read the last number"))?;
        Ok(last.max(on_ledger).saturating_add(1))
    }

    /// Stores an entry signed for `request` and uses up its number. It is durable when this returns, and only then may it
    /// be sent. Entries that are far in the past are forgotten.
    ///
    /// # Errors
    /// [`StoreError::NotAsAssigned`] if its number was used or it is no order; [`StoreError::Database`], also where the
    /// request was used.
    pub fn keep(&mut self, entry: &VerifiedEntry, request: &str, now: Timestamp) -> Result<(), StoreError> {
        if OrderBody::of(&entry.entry().body).is_none() {
            return Err(StoreError::NotAsAssigned { what: "content is no order" });
        }
        let stored = self.store(entry, request, now);
        match stored.map_err(StoreError::database(&self.path, "keep an order"))? {
            true => Ok(()),
            false => Err(StoreError::NotAsAssigned { what: "number is not the one assigned" }),
        }
    }

    fn store(&mut self, entry: &VerifiedEntry, request: &str, now: Timestamp) -> rusqlite::Result<bool> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let number = int(entry.entry().number)?;
        let taken = transaction.execute("UPDATE number SET last = ?1 WHERE last < ?1", [number])?;
        if taken == 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM entry WHERE signed_ms < ?1";
        transaction.prepare_cached(sql)?.execute([int(now.minus_ms(KEPT_MS).unix_ms())?])?;
        let sql = "INSERT INTO entry (number, id, bytes, request, signed_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = (number, entry.id().0.0, entry.bytes(), request, int(now.unix_ms())?);
        transaction.prepare_cached(sql)?.execute(values)?;
        transaction.commit()?;
        Ok(true)
    }

    /// What was signed for a request.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where it is damaged.
    pub fn of_request(&self, request: &str) -> Result<Option<KeptOrder>, StoreError> {
        let sql = format!("{KEPT} WHERE request = ?1");
        let found = self.connection.query_row(&sql, [request], kept).optional();
        found.map_err(StoreError::database(&self.path, "look for a request"))
    }

    /// The entry of this id.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where it is damaged.
    pub fn of_id(&self, id: &EntryId) -> Result<Option<KeptOrder>, StoreError> {
        let sql = format!("{KEPT} WHERE id = ?1");
        let found = self.connection.query_row(&sql, [id.0.0], kept).optional();
        found.map_err(StoreError::database(&self.path, "look for an order"))
    }

    /// The newest entries, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where one is damaged.
    pub fn newest(&self, limit: u32) -> Result<Vec<KeptOrder>, StoreError> {
        let read = || -> rusqlite::Result<Vec<KeptOrder>> {
            let mut statement =
                self.connection.prepare_cached(&format!("{KEPT} ORDER BY number DESC LIMIT ?1"))?;
            statement.query_map([limit], kept)?.collect()
        };
        read().map_err(StoreError::database(&self.path, "list the orders"))
    }

    /// Entries that no block is known to hold: first those that are sent, then also those given up since `since`, for
    /// another node may have brought them into a block all the same; each in the order of their numbers. However many were
    /// given up, they keep none that is sent out of the list.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where one is damaged.
    pub fn unsettled(&self, since: Timestamp, limit: u32) -> Result<Vec<Unsettled>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Unsettled>> {
            let sql = "SELECT id, bytes, open FROM entry
                       WHERE height IS NULL AND (open OR signed_ms >= ?1) ORDER BY open DESC, number LIMIT ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            let unsettled = |row: &Row<'_>| {
                Ok(Unsettled {
                    id: id(row, 0)?,
                    signed: decoded(row, 1, SignedEntry::from_bytes)?,
                    bytes: row.get(1)?,
                    open: row.get(2)?,
                })
            };
            statement.query_map((int(since.unix_ms())?, limit), unsettled)?.collect()
        };
        read().map_err(StoreError::database(&self.path, "read what is not final"))
    }

    /// The chain its entries are signed for.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The entry stands in the final block at `height`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn confirm(&mut self, id: &EntryId, height: u64) -> Result<(), StoreError> {
        let sql = "UPDATE entry SET open = 0, height = ?2, refused = NULL WHERE id = ?1";
        let done = int(height).and_then(|height| self.connection.execute(sql, (id.0.0, height)));
        done.map(drop).map_err(StoreError::database(&self.path, "confirm an order"))
    }

    /// The ledger does not take the entry, and `reason` says why: it is kept, but no longer sent.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn give_up(&mut self, id: &EntryId, reason: &str) -> Result<(), StoreError> {
        let sql = "UPDATE entry SET open = 0, refused = ?2 WHERE id = ?1 AND open";
        let done = self.connection.execute(sql, (id.0.0, reason));
        done.map(drop).map_err(StoreError::database(&self.path, "give an order up"))
    }
}

fn id(row: &Row<'_>, index: usize) -> rusqlite::Result<EntryId> {
    row.get(index).map(|bytes| EntryId(ledger::Hash32(bytes)))
}

fn no_order() -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        1,
        rusqlite::types::Type::Blob,
        "an entry that is no order".into(),
    )
}

fn kept(row: &Row<'_>) -> rusqlite::Result<KeptOrder> {
    let signed = decoded(row, 1, SignedEntry::from_bytes)?;
    let (open, height, refused): (bool, Option<i64>, Option<String>) =
        (row.get(4)?, row.get(5)?, row.get(6)?);
    let fate = match height {
        Some(_) => OrderFate::Final(unsigned(row, 5)?),
        None if open => OrderFate::Pending,
        None => OrderFate::Refused(refused.unwrap_or_default()),
    };
    Ok(KeptOrder {
        id: id(row, 0)?,
        body: OrderBody::of(&signed.unchecked().body).ok_or_else(no_order)?,
        request: row.get(2)?,
        signed: Timestamp::from_unix_ms(unsigned(row, 3)?),
        fate,
    })
}

#[cfg(test)]
mod tests {
    use energy::HomeId;
    use ledger::{Entry, Hash32, PublicKey, Salt};

    use super::super::fixture::{MEMBER, key};
    use super::*;

    fn chain() -> Chain {
        Chain { id: Hash32([4; 32]), recovery: 0 }
    }

    fn cancel(number: u64) -> VerifiedEntry {
        let signer = key(MEMBER, 1);
        let body = Body::Cancel {
            home: HomeId::new("h1").unwrap(),
            order: EntryId(Hash32([number.to_le_bytes()[0]; 32])),
        };
        let entry = Entry { signer: PublicKey::of(&signer), number, salt: Salt([1; 16]), body };
        entry.sign(&chain(), &signer).verify(&chain()).unwrap()
    }

    fn at(minutes: u64) -> Timestamp {
        Timestamp::parse("2026-06-01T00:00:00Z").unwrap().plus_ms(minutes * 60_000)
    }

    #[test]
    fn a_number_is_used_once_also_after_a_restart_and_above_what_the_ledger_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let mut store = OrderStore::open(&path, &chain()).unwrap();
        assert_eq!(store.next_number(0).unwrap(), 1);
        store.keep(&cancel(1), "a", at(0)).unwrap();
        let again = store.keep(&cancel(1), "b", at(1)).unwrap_err();
        assert!(matches!(again, StoreError::NotAsAssigned { .. }), "{again}");
        drop(store);
        let mut store = OrderStore::open(&path, &chain()).unwrap();
        assert_eq!((store.next_number(0).unwrap(), store.next_number(41).unwrap()), (2, 42));
        store.keep(&cancel(42), "c", at(2)).unwrap();
        assert_eq!(store.next_number(7).unwrap(), 43);
    }

    #[test]
    fn a_request_leads_to_its_one_entry_and_to_what_became_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = OrderStore::open(&folder.path().join("orders.db"), &chain()).unwrap();
        let entries: Vec<_> = (1..=3).map(cancel).collect();
        for (entry, request) in entries.iter().zip(["a", "b", "c"]) {
            store.keep(entry, request, at(entry.entry().number)).unwrap();
        }
        assert!(store.keep(&cancel(4), "b", at(4)).is_err(), "a request makes one entry");
        assert_eq!(store.next_number(0).unwrap(), 4, "what was not kept uses up no number");
        store.confirm(&entries[0].id(), 12).unwrap();
        store.give_up(&entries[1].id(), "too late").unwrap();
        let fate = |request: &str| store.of_request(request).unwrap().unwrap().fate;
        assert_eq!(fate("a"), OrderFate::Final(12));
        assert_eq!(fate("b"), OrderFate::Refused("too late".to_owned()));
        assert_eq!(fate("c"), OrderFate::Pending);
        assert_eq!(store.of_request("d").unwrap(), None);
        let newest: Vec<_> =
            store.newest(2).unwrap().into_iter().map(|kept| (kept.request, kept.signed)).collect();
        assert_eq!(newest, [("c".to_owned(), at(3)), ("b".to_owned(), at(2))]);
        let body = OrderBody::Cancel(EntryId(Hash32([3; 32])));
        assert_eq!(store.of_id(&entries[2].id()).unwrap().unwrap().body, body);
    }

    #[test]
    fn an_entry_given_up_that_a_block_holds_all_the_same_is_final() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = OrderStore::open(&folder.path().join("orders.db"), &chain()).unwrap();
        store.keep(&cancel(1), "a", at(0)).unwrap();
        store.keep(&cancel(2), "b", at(50)).unwrap();
        store.give_up(&cancel(1).id(), "not enough money").unwrap();
        let ids = |since| -> Vec<_> {
            let unsettled = store.unsettled(since, 10).unwrap();
            unsettled.into_iter().map(|entry| (entry.id, entry.open)).collect()
        };
        assert_eq!(ids(at(0)), [(cancel(2).id(), true), (cancel(1).id(), false)]);
        assert_eq!(ids(at(1)), [(cancel(2).id(), true)], "what was given up long ago is not looked for");
        store.confirm(&cancel(1).id(), 9).unwrap();
        assert_eq!(store.of_request("a").unwrap().unwrap().fate, OrderFate::Final(9));
        store.give_up(&cancel(1).id(), "late news").unwrap();
        assert_eq!(store.of_request("a").unwrap().unwrap().fate, OrderFate::Final(9));
    }

    #[test]
    fn an_entry_that_is_sent_is_listed_behind_however_many_were_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = OrderStore::open(&folder.path().join("orders.db"), &chain()).unwrap();
        for number in 1..=300 {
            let refused = cancel(number);
            store.keep(&refused, &number.to_string(), at(0)).unwrap();
            store.give_up(&refused.id(), "not enough money").unwrap();
        }
        for number in [301, 302] {
            store.keep(&cancel(number), &number.to_string(), at(1)).unwrap();
        }
        let unsettled = store.unsettled(at(0), 256).unwrap();
        let first: Vec<_> = unsettled.iter().take(3).map(|entry| (entry.id, entry.open)).collect();
        let expected = [(cancel(301).id(), true), (cancel(302).id(), true), (cancel(1).id(), false)];
        assert_eq!((unsettled.len(), first.as_slice()), (256, expected.as_slice()));
    }

    #[test]
    fn old_entries_go_and_their_numbers_stay_used() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = OrderStore::open(&folder.path().join("orders.db"), &chain()).unwrap();
        store.keep(&cancel(5), "old", at(0)).unwrap();
        let later = at(0).plus_ms(KEPT_MS + 1);
        store.keep(&cancel(6), "new", later).unwrap();
        assert_eq!(store.of_request("old").unwrap(), None);
        assert_eq!((store.newest(9).unwrap().len(), store.next_number(0).unwrap()), (1, 7));
    }
}
