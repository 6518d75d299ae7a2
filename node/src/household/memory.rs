//! What the agent of a home remembers, made anew from what is on the disk: `ledger.db` holds what its meter said and what was
//! settled, `household.db` what its devices did. So a kill at any instant loses nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::{Cleared, Delivered, ERROR_DAYS, LocalTime, Mind, Paid, Seen, Settled, Standing, Terms, Totals};
use energy::{HomeId, Interval, Money, Mtu, Price, Timestamp, WattHours};
use market::{Side, Tariff};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use crate::store::household::Done;
use crate::store::quoted;
use crate::zone::Zone;

/// From how many metered homes up the members of a community see its totals.
const TOTALS_FROM_HOMES: i64 = 5;
/// How far back totals tell about what is to come, ms: four weeks.
const TOTALS_MS: u64 = 28 * 86_400_000;
/// How far back a forecast looks, ms: eight weeks.
const HISTORY_MS: u64 = 56 * 86_400_000;
/// No plan looks farther ahead, ms: 192 intervals of an hour, with a day to spare.
const AHEAD_MS: u64 = 9 * 86_400_000;
/// How long SQLite waits for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A settled interval as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub struct SettledRow {
    /// Which.
    pub interval: Interval,
    /// The community's tariff in it.
    pub tariff: Tariff,
    /// The community's totals, where its members see them.
    pub totals: Option<Totals>,
    /// Bought from neighbours, forward or after metering.
    pub bought: WattHours,
    /// Sold to them.
    pub sold: WattHours,
    /// What the home came to, if it had a forward position: taken, given, received; its part of the network's losses left out.
    pub delivered: Option<(WattHours, WattHours, Money)>,
    /// What the home received in all, if its meter was read in time (negative: paid): with what it is due from outside under a sharing
    /// incentive, without its part of the network's losses.
    pub received: Option<Money>,
    /// What its own orders traded for it, and what it receives for that (negative: pays).
    pub traded: Option<(Side, WattHours, Money)>,
}

/// The ledger database of this node, read only.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    home: HomeId,
    mtu: Mtu,
    connection: Option<Connection>,
}

impl Records {
    /// Of `home`, in the database at `path`; it is opened when first asked.
    #[must_use]
    pub fn new(path: &Path, home: &HomeId, mtu: Mtu) -> Self {
        Self { path: path.to_owned(), home: home.clone(), mtu, connection: None }
    }

    fn ask<T>(
        &mut self,
        question: impl Fn(&Connection, &Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                connection.busy_timeout(BUSY_TIMEOUT)?;
                connection
            }
        };
        // A connection that failed is dropped: the next question opens a fresh one.
        let answer = question(&connection, self)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// What the home's meter counted in each interval from `from` on of which both ends were read, in order.
    ///
    /// # Errors
    /// What the database says.
    pub fn metered(&mut self, from: Interval) -> rusqlite::Result<Vec<(Interval, WattHours, WattHours)>> {
        self.ask(|connection, this| {
            let mut query = connection.prepare_cached(&format!(
                "SELECT n.interval_ms, n.import_register_wh - b.import_register_wh,
                        n.export_register_wh - b.export_register_wh
                 FROM reading n JOIN reading b ON b.home = n.home AND b.interval_ms = n.interval_ms - ?2
                 WHERE n.home = {} AND n.interval_ms >= ?1 AND b.epoch = n.epoch ORDER BY n.interval_ms",
                quoted(this.home.as_str())
            ))?;
            let row = |row: &Row<'_>| Ok((this.interval(row, 0)?, energy(row, 1)?, energy(row, 2)?));
            query.query_map(params![whole(from.start()), whole_ms(this.mtu.ms())], row)?.collect()
        })
    }

    /// What was settled from `from` on, in order.
    ///
    /// # Errors
    /// What the database says.
    pub fn settled(&mut self, from: Interval) -> rusqlite::Result<Vec<SettledRow>> {
        self.ask(|connection, this| {
            let mut query = connection.prepare_cached(
                "SELECT i.start_ms, i.import_price, i.export_price, i.matched_wh, i.supplier_import_wh,
                        i.supplier_export_wh, i.homes, s.import_wh, s.export_wh, s.amount_n, s.forward_wh,
                        s.bought_wh, s.sold_wh, s.loss_n, g.volume_wh, g.price,
                        (SELECT sum(e.filled_wh) FROM market_order o JOIN order_end e ON e.id = o.id
                         WHERE o.home = ?1 AND o.interval_ms = i.start_ms),
                        (SELECT sum(e.amount_n) FROM market_order o JOIN order_end e ON e.id = o.id
                         WHERE o.home = ?1 AND o.interval_ms = i.start_ms),
                        s.incentive_n
                 FROM interval i LEFT JOIN settlement s
                 ON s.interval_ms = i.start_ms AND s.home = ?1 AND s.kind = 'settled'
                 LEFT JOIN gate g ON g.interval_ms = i.start_ms AND g.public = 1 AND g.void = 0
                 WHERE i.start_ms >= ?2 ORDER BY i.start_ms",
            )?;
            let rows =
                query.query_map(params![this.home.as_str(), whole(from.start())], |row| this.row(row))?;
            rows.collect()
        })
    }

    /// The first interval that is not settled; `None`: none is.
    ///
    /// # Errors
    /// What the database says.
    pub fn next_to_settle(&mut self) -> rusqlite::Result<Option<Interval>> {
        self.ask(|connection, this| {
            let sql = "SELECT max(start_ms) FROM interval";
            let last = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).optional()?;
            Ok(last.flatten().and_then(|ms| u64::try_from(ms).ok()).map(|ms| this.at(ms).next()))
        })
    }

    fn row(&self, row: &Row<'_>) -> rusqlite::Result<SettledRow> {
        let totals = Totals {
            matched: energy(row, 3)?,
            supplier_import: energy(row, 4)?,
            supplier_export: energy(row, 5)?,
            forward: cleared(row)?,
        };
        let seen = row.get::<_, i64>(6)? >= TOTALS_FROM_HOMES;
        // No row of the home, or no usable reading of it: all of these are absent or nothing.
        let (import, export) = (energy_or_none(row, 7)?, energy_or_none(row, 8)?);
        let forward = row.get::<_, Option<i64>>(10)?.unwrap_or(0);
        let ahead = |forward: i64| WattHours::new(forward.max(0).unsigned_abs());
        let sum = |matched: WattHours, forward: WattHours| {
            WattHours::new(matched.get().saturating_add(forward.get()))
        };
        let metered = row.get::<_, Option<i64>>(7)?.is_some();
        let side = if forward < 0 { Side::Buy } else { Side::Sell };
        let amount = row.get::<_, Option<i64>>(17)?.unwrap_or(0);
        // A home's part of the network's losses has nothing to do with what it did.
        let came = || -> rusqlite::Result<i128> {
            Ok(i128::from(row.get::<_, i64>(9)?).saturating_sub(i128::from(row.get::<_, i64>(13)?)))
        };
        let came = metered.then(came).transpose()?;
        let incentive = i128::from(row.get::<_, Option<i64>>(18)?.unwrap_or(0));
        let delivered = came.filter(|_| forward != 0).map(|came| (import, export, Money::new(came)));
        Ok(SettledRow {
            interval: self.interval(row, 0)?,
            tariff: Tariff { import_price: Price::new(row.get(1)?), export_price: Price::new(row.get(2)?) },
            totals: seen.then_some(totals),
            bought: sum(energy_or_none(row, 11)?, ahead(-forward).min(import)),
            sold: sum(energy_or_none(row, 12)?, ahead(forward).min(export)),
            delivered,
            received: came.map(|came| Money::new(came.saturating_add(incentive))),
            traded: (forward != 0).then_some((
                side,
                energy_or_none(row, 16)?,
                Money::new(i128::from(amount)),
            )),
        })
    }

    fn interval(&self, row: &Row<'_>, column: usize) -> rusqlite::Result<Interval> {
        let ms: i64 = row.get(column)?;
        u64::try_from(ms)
            .map(|ms| self.at(ms))
            .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, ms))
    }

    fn at(&self, ms: u64) -> Interval {
        Interval::containing(Timestamp::from_unix_ms(ms), self.mtu)
    }
}

fn energy(row: &Row<'_>, column: usize) -> rusqlite::Result<WattHours> {
    let value: i64 = row.get(column)?;
    u64::try_from(value)
        .map(WattHours::new)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

/// What the interval's gate cleared, where that is public.
fn cleared(row: &Row<'_>) -> rusqlite::Result<Option<Cleared>> {
    let Some(price) = row.get::<_, Option<i64>>(15)? else { return Ok(None) };
    Ok(Some(Cleared { volume: energy(row, 14)?, price: Price::new(price) }))
}

fn energy_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<WattHours> {
    if row.get::<_, Option<i64>>(column)?.is_some() { energy(row, column) } else { Ok(WattHours::ZERO) }
}

fn whole(time: Timestamp) -> i64 {
    whole_ms(time.unix_ms())
}

fn whole_ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// One interval as the home lived through it: what its meter counted and what its devices did.
#[must_use]
pub fn seen(import: WattHours, export: WattHours, done: &Done) -> Seen {
    Seen { import, export, pv: done.pv, did: done.did, heat_need: done.heat_need }
}

/// Local time from `time` on for as long as an agent plans ahead.
#[must_use]
pub fn local_at(zone: Zone, time: Timestamp) -> LocalTime {
    let change = zone.next_change(time, AHEAD_MS);
    LocalTime { east_s: zone.seconds_east(time), change: change.map(|at| (at, zone.seconds_east(at))) }
}

/// Takes in what is recorded before `now`: how devices stood as intervals began (`stood`), what the home lived through, with the errors of what would have been forecast,
/// and its community's totals; and the forward positions of the month. `terms` says what the community's tariff in an interval
/// comes to at this home.
/// Returns the first interval that is not settled.
///
/// # Errors
/// What the database says.
pub fn recollect(
    mind: &mut Mind,
    records: &mut Records,
    (done, stood): (&BTreeMap<Timestamp, Done>, &[(Timestamp, Standing)]),
    (now, zone): (Timestamp, Zone),
    terms: impl Fn(Interval, Tariff) -> Terms,
) -> rusqlite::Result<Option<Interval>> {
    let mtu = mind.premises().mtu;
    let before = |ms| Interval::containing(now.minus_ms(ms), mtu);
    let measured = before(u64::from(ERROR_DAYS) * 86_400_000);
    for (start, standing) in stood {
        mind.stood(Interval::containing(*start, mtu), standing, &local_at(zone, *start));
    }
    for (interval, import, export) in records.metered(before(HISTORY_MS))? {
        let Some(done) = done.get(&interval.start()) else { continue };
        let local = local_at(zone, interval.start());
        if interval >= measured {
            mind.recall(interval, &local);
        }
        mind.lived(interval, &seen(import, export, done), &local);
    }
    for settled in records.settled(before(TOTALS_MS.max(31 * 86_400_000)))? {
        take_in(mind, &settled, zone, &terms);
    }
    records.next_to_settle()
}

/// Takes in a settled interval.
pub fn take_in(mind: &mut Mind, row: &SettledRow, zone: Zone, terms: impl Fn(Interval, Tariff) -> Terms) {
    let SettledRow { interval, tariff, mut totals, bought, sold, delivered, received, traded } = *row;
    let terms = terms(interval, tariff);
    let delivered = delivered.map(|(import, export, received)| Delivered { import, export, received, terms });
    if let Some(totals) = &mut totals {
        let own = traded.and_then(|(side, filled, amount)| Cleared::own(side, filled, amount, &terms));
        totals.forward = totals.forward.or(own);
    }
    let paid = received.map(|received| Paid { received, terms });
    let settled = Settled { interval, bought, sold, totals, delivered, paid };
    let local = local_at(zone, interval.start());
    let month = local.month(interval.start());
    let rested = mind.guard().rests(month);
    if let Err(error) = mind.settled(&settled, &local) {
        tracing::error!(%interval, %error, "what an interval brought cannot be counted; if it was traded ahead, trading stops");
    }
    if mind.guard().rests(month) && !rested {
        let behind_n = mind.guard().gained().get();
        tracing::warn!(%interval, behind_n, "the home is behind what it would have been without its agent; devices are left to \
                       themselves until the month ends");
    }
}

#[cfg(test)]
mod tests {
    use agent::{Devices, Did, Premises, Wishes};

    use super::*;
    use crate::store::Durability;
    use crate::store::fixture::{Street, first_interval, home, store};
    use crate::store::ledger_db::LedgerDb;

    fn terms(_: Interval, tariff: Tariff) -> Terms {
        let Tariff { import_price, export_price } = tariff;
        let none = Price::ZERO;
        Terms {
            tariff,
            supplier_import: import_price,
            supplier_export: export_price,
            fee_down: none,
            fee_up: none,
        }
    }

    fn mind() -> Mind {
        let devices = Devices { curtailable: true, ..Devices::default() };
        let wishes = Wishes::default();
        let alike = agent::Alike { taking: 1, giving: 1 };
        Mind::new(Premises { mtu: Mtu::Min15, devices, wishes, roof: None, alike, taste: 0 })
    }

    #[test]
    fn the_agents_local_time_is_that_of_the_zone_before_and_after_clocks_change() {
        let vienna = Zone::parse("Europe/Vienna").unwrap();
        let time = |text: &str| Timestamp::parse(text).unwrap();
        for (noon, change, east) in [
            ("2026-03-28T11:00:00Z", "2026-03-29T01:00:00Z", (3_600, 7_200)),
            ("2026-10-24T10:00:00Z", "2026-10-25T01:00:00Z", (7_200, 3_600)),
        ] {
            let local = local_at(vienna, time(noon));
            assert_eq!(local, LocalTime { east_s: east.0, change: Some((time(change), east.1)) });
            assert_eq!(local_at(vienna, time(change)), LocalTime { east_s: east.1, change: None });
        }
        assert_eq!(local_at(vienna, time("2026-07-14T12:00:00Z")).change, None);
    }

    #[test]
    fn what_was_metered_and_settled_is_known_again_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(4);
        let mut db = LedgerDb::open(&path, Durability::Normal, &street.genesis, &home(1)).unwrap();
        store(&mut db, &blocks);
        let mut records = Records::new(&path, &home(1), street.genesis.mtu);
        let metered = records.metered(first_interval()).unwrap();
        assert!(metered.len() >= 2, "both ends of some intervals were read: {metered:?}");
        let settled = records.settled(first_interval()).unwrap();
        assert!(!settled.is_empty());
        assert_eq!(records.next_to_settle().unwrap(), settled.last().map(|settled| settled.interval.next()));
        let homes = street.genesis.members.len();
        assert_eq!(settled.iter().all(|row| row.totals.is_some()), homes >= 5, "{homes} homes");

        let did = Did::default();
        let done: BTreeMap<_, _> = metered
            .iter()
            .map(|(interval, ..)| (interval.start(), Done { did, ..Done::default() }))
            .collect();
        let now = first_interval().start().plus_ms(86_400_000);
        let mut mind = mind();
        recollect(&mut mind, &mut records, (&done, &[]), (now, Zone::UTC), terms).unwrap();
        let (interval, import, _) = metered[0];
        assert_eq!(mind.forecaster().history().at(interval).unwrap().load, import);
        let mut other = self::mind();
        recollect(&mut other, &mut records, (&BTreeMap::new(), &[]), (now, Zone::UTC), terms).unwrap();
        assert_eq!(other.forecaster().history().at(interval), None, "what devices did is not known of it");
    }

    #[test]
    fn what_a_position_brought_is_told_without_the_losses_of_the_network() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(4);
        let mut db = LedgerDb::open(&path, Durability::Normal, &street.genesis, &home(1)).unwrap();
        store(&mut db, &blocks);
        drop(db);
        // A settlement with a position, of which 300 n are the home's part of the losses.
        let connection = Connection::open(&path).unwrap();
        let sql =
            "UPDATE settlement SET import_wh = 500, export_wh = 0, forward_wh = -100, amount_n = -50300,
                   loss_n = -300 WHERE home = ?1";
        assert!(connection.execute(sql, [home(1).as_str()]).unwrap() > 0);
        let mut records = Records::new(&path, &home(1), street.genesis.mtu);
        let settled = records.settled(first_interval()).unwrap();
        let delivered = settled.iter().find_map(|row| row.delivered).unwrap();
        assert_eq!(delivered, (WattHours::new(500), WattHours::ZERO, Money::new(-50_000)));
    }

    #[test]
    fn a_public_gate_is_known_with_its_price_and_another_by_what_the_home_traded_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(4);
        let mut db = LedgerDb::open(&path, Durability::Normal, &street.genesis, &home(1)).unwrap();
        store(&mut db, &blocks);
        drop(db);
        let connection = Connection::open(&path).unwrap();
        let mut records = Records::new(&path, &home(1), street.genesis.mtu);
        let of_home = "SELECT min(interval_ms) FROM settlement WHERE home = ?1 AND kind = 'settled'";
        let start: i64 = connection.query_row(of_home, [home(1).as_str()], |row| row.get(0)).unwrap();
        let first = records.at(start.unsigned_abs());
        let gate =
            "INSERT OR REPLACE INTO gate VALUES (?1, 171000, 900, 20, 0, 0, 0, ?2, 12, 6, 6, 200, 1, 1)";
        let mut known = |public: i64| {
            connection.execute(gate, params![start, public]).unwrap();
            let row = records.settled(first).unwrap().swap_remove(0);
            (row.totals.and_then(|totals| totals.forward), row.traded)
        };
        let public = Some(Cleared { volume: WattHours::new(900), price: Price::new(171_000) });
        let seen = street.genesis.members.len() >= 5;
        assert_eq!(known(1), (public.filter(|_| seen), None));
        assert_eq!(known(0), (None, None), "what is not public is nobody's business");
        let sql = "UPDATE settlement SET forward_wh = -100 WHERE home = ?1 AND interval_ms = ?2";
        assert_eq!(connection.execute(sql, params![home(1).as_str(), start]).unwrap(), 1);
        let order = "INSERT INTO market_order VALUES (x'01', ?1, ?2, 'buy', 180000, 100, 1, 0)";
        connection.execute(order, params![home(1).as_str(), start]).unwrap();
        let end = "INSERT INTO order_end VALUES (x'01', ?1, 'filled', 100, -17500000, 1)";
        connection.execute(end, [home(1).as_str()]).unwrap();
        let own = (Side::Buy, WattHours::new(100), Money::new(-17_500_000));
        assert_eq!(known(0), (None, Some(own)));
    }
}
