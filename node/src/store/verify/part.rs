//! What is stored where the home does not hold all bodies: its own part of each block, and nothing of others.

use energy::HomeId;
use ledger::codec::Decode;
use ledger::{Genesis, Outcome, SignedEntry};
use market::Account;
use rusqlite::Connection;

use super::super::bodies::Gone;
use super::super::error::Damage;
use super::super::followed;
use super::super::hashed;
use super::super::holding::OF_HOMES;
use super::super::projection::account_name;
use super::{From, VerifyError, VerifyReport, check_structure, unreadable};

/// Checks headers, certificates, leaves and kept bodies up to `last`, the view, the home's account, and that there is nothing of
/// another home.
pub(super) fn verify(
    connection: &Connection,
    genesis: &Genesis,
    last: u64,
) -> Result<VerifyReport, VerifyError> {
    let fault = |what: &str| VerifyError::Found(Damage::new("meta", "home", what));
    let home = followed::owner(connection).map_err(unreadable("table", "meta"))?;
    let home = home.ok_or_else(|| fault("does not say whose the database is"))?;
    let gone = Gone::read(connection).map_err(unreadable("table", "meta"))?;
    let end = hashed::check_until(connection, genesis, gone, last).map_err(VerifyError::Found)?;
    let view = followed::view(connection, genesis, &home).map_err(VerifyError::Found)?;
    let view = view.ok_or_else(|| fault("has no view of the state"))?;
    check_structure(connection)?;
    hashed::check_tiles(connection, end.tree.size()).map_err(VerifyError::Found)?;
    let balance = check_account(connection, &home)?;
    let viewed = view.ledger().balance(&Account::Home(home.clone())).get();
    if view.ledger().height() == last && viewed != balance {
        let what = "is not what the view of the state says";
        return Err(VerifyError::Found(Damage::new("account", "balance_n", what)));
    }
    has_nothing_of_others(connection, &home)?;
    Ok(VerifyReport {
        from: From::Leaves,
        height: last,
        head: end.head,
        hashed: end.hashed,
        blocks: 0,
        entries: 0,
        leaves: 0,
        root: view.ledger().state_root(),
        tree_root: end.tree.root(),
    })
}

/// What stands on the home's account, which its movements add up to.
fn check_account(connection: &Connection, home: &HomeId) -> Result<i64, VerifyError> {
    let sql = "SELECT balance_n, opening_n + gone_n +
               (SELECT coalesce(sum(amount_n), 0) FROM posting WHERE account = ?1 AND height > 0)
               FROM account WHERE name = ?1";
    let name = account_name(&Account::Home(home.clone()));
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let sums: (i64, i64) =
        connection.query_row(sql, [&name], row).map_err(unreadable(format!("account {name}"), "row"))?;
    if sums.0 == sums.1 {
        return Ok(sums.0);
    }
    let what = "is not what its movements add up to";
    Err(VerifyError::Found(Damage::new(format!("account {name}"), "balance_n", what)))
}

fn has_nothing_of_others(connection: &Connection, home: &HomeId) -> Result<(), VerifyError> {
    let foreign = |place: String, part: &str| {
        VerifyError::Found(Damage::new(place, part, "is another home's, which this node does not hold"))
    };
    for table in OF_HOMES {
        let sql = format!("SELECT count(*) FROM {table} WHERE home <> ?1");
        let count = connection.query_row(&sql, [home.as_str()], |row| row.get::<_, i64>(0));
        if count.map_err(unreadable("table", table))? > 0 {
            return Err(foreign(format!("table {table}"), "home"));
        }
    }
    let unread = || unreadable("table", "body");
    let mut statement = connection.prepare("SELECT leaf, outcome, bytes FROM body").map_err(unread())?;
    let mut rows = statement.query([]).map_err(unread())?;
    while let Some(row) = rows.next().map_err(unread())? {
        let read =
            || -> rusqlite::Result<(i64, bool, Vec<u8>)> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
        let (leaf, is_outcome, bytes) = read().map_err(unread())?;
        if !is_own(home, is_outcome, &bytes) {
            return Err(foreign(format!("leaf {leaf}"), "body"));
        }
    }
    Ok(())
}

/// True for a body that is public or the home's own.
fn is_own(home: &HomeId, is_outcome: bool, bytes: &[u8]) -> bool {
    if is_outcome {
        return Outcome::from_bytes(bytes)
            .is_ok_and(|outcome| !outcome.is_sealed() || outcome.home() == Some(home));
    }
    SignedEntry::from_bytes(bytes).is_ok_and(|entry| {
        let body = &entry.unchecked().body;
        !body.is_sealed() || body.home() == Some(home)
    })
}
