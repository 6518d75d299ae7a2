//! Final readings and evidence of every home over a window: what the node at the transformer assesses meters by.

use std::path::Path;

use energy::{ClockQuality, HomeId, Interval, Mtu, Quality, Timestamp, WattHours};
use ledger::{Genesis, MeterEvidence, PvDeclaration};
use rusqlite::types::{FromSql, Type};
use rusqlite::{Connection, Row};

use super::StoreError;
use super::database::{int, unsigned};
use super::ledger_db::open_read_only;

/// One final reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReading {
    /// Whose meter; `None`: the root meter's.
    pub home: Option<HomeId>,
    /// The interval at whose end the registers stood so.
    pub interval: Interval,
    /// Counts the meters of the connection point and their resets.
    pub epoch: u32,
    /// Import register.
    pub import: WattHours,
    /// Export register.
    pub export: WattHours,
    /// Smallest step of the registers.
    pub quantum: WattHours,
    /// How good the registers are.
    pub quality: Quality,
    /// How good their time is.
    pub clock_quality: ClockQuality,
}

/// One home's evidence of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvidence {
    /// The interval in which it was put on the ledger.
    pub given: Interval,
    /// The evidence.
    pub evidence: MeterEvidence,
}

/// One row of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeriesRow {
    /// A reading.
    Reading(StoredReading),
    /// A day's evidence.
    Evidence(StoredEvidence),
}

/// Gives every reading and then all evidence of the intervals from `from` to `until`, both included, from the ledger
/// database at `db_path` to `take`, one by one: each by home and time, the root meter's first. Reads the state of one
/// instant, also beside a running node.
///
/// # Errors
/// [`StoreError`]: the database cannot be read, or is of another chain.
pub fn series(
    db_path: &Path,
    genesis: &Genesis,
    from: Interval,
    until: Interval,
    mut take: impl FnMut(SeriesRow),
) -> Result<(), StoreError> {
    let chain = genesis.chain();
    let connection = open_read_only(db_path, &chain)?;
    let fault = |source| StoreError::database(db_path, "read the readings")(source);
    let connection = connection.unchecked_transaction().map_err(fault)?;
    let range = (from.start().unix_ms(), until.end().unix_ms());
    readings(&connection, genesis.mtu, range, |row| take(SeriesRow::Reading(row))).map_err(fault)?;
    evidence(&connection, genesis.mtu, range, |row| take(SeriesRow::Evidence(row))).map_err(fault)
}

fn readings(
    connection: &Connection,
    mtu: Mtu,
    (from, to): (u64, u64),
    mut take: impl FnMut(StoredReading),
) -> rusqlite::Result<()> {
    let mut query = connection.prepare(
        "SELECT home, interval_ms, epoch, import_register_wh, export_register_wh, quantum_wh, quality, clock_quality
         FROM reading WHERE interval_ms >= ?1 AND interval_ms < ?2 ORDER BY home, interval_ms",
    )?;
    let reading = |row: &Row<'_>| {
        let home: String = row.get(0)?;
        Ok(StoredReading {
            home: if home.is_empty() { None } else { Some(home_of(&home)?) },
            interval: interval(row, 1, mtu)?,
            epoch: row.get(2)?,
            import: WattHours::new(unsigned(row, 3)?),
            export: WattHours::new(unsigned(row, 4)?),
            quantum: WattHours::new(unsigned(row, 5)?),
            quality: word(row, 6, Quality::from_word)?,
            clock_quality: word(row, 7, ClockQuality::from_word)?,
        })
    };
    query.query_map((int(from)?, int(to)?), reading)?.try_for_each(|row| row.map(&mut take))
}

fn evidence(
    connection: &Connection,
    mtu: Mtu,
    (from, to): (u64, u64),
    mut take: impl FnMut(StoredEvidence),
) -> rusqlite::Result<()> {
    let mut query = connection.prepare(
        "SELECT e.home, e.from_ms, e.voltage_dv, e.pv_peak_w, e.pv_storage, e.inverter_permille, b.time_ms
         FROM evidence e JOIN block b ON b.height = e.height
         WHERE e.from_ms >= ?1 AND e.from_ms < ?2 ORDER BY e.home, e.from_ms",
    )?;
    let evidence = |row: &Row<'_>| {
        let voltages = row.get_ref(2)?.as_blob()?.chunks_exact(2);
        let pv = optional::<u32>(row, 3)?.zip(optional::<bool>(row, 4)?);
        let given = interval(row, 6, mtu)?;
        let evidence = MeterEvidence {
            home: home_of(&row.get::<_, String>(0)?)?,
            from: interval(row, 1, mtu)?,
            voltage_dv: voltages
                .map(|pair| pair.iter().fold(0, |sum: u16, byte| sum << 8 | u16::from(*byte)))
                .collect(),
            pv: pv.map(|(peak_w, storage)| PvDeclaration { peak_w, storage }),
            inverter_permille: row.get(5)?,
        };
        Ok(StoredEvidence { given, evidence })
    };
    query.query_map((int(from)?, int(to)?), evidence)?.try_for_each(|row| row.map(&mut take))
}

fn optional<T: FromSql>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    row.get(column)
}

fn interval(row: &Row<'_>, column: usize, mtu: Mtu) -> rusqlite::Result<Interval> {
    Ok(Interval::containing(Timestamp::from_unix_ms(unsigned(row, column)?), mtu))
}

fn home_of(text: &str) -> rusqlite::Result<HomeId> {
    HomeId::new(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

fn word<T>(row: &Row<'_>, column: usize, known: fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let word: String = row.get(column)?;
    known(&word).ok_or_else(|| rusqlite::Error::InvalidColumnType(column, word, Type::Text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;
    use crate::store::fixture::{Street, first_interval, home, store};
    use crate::store::ledger_db::LedgerDb;

    #[test]
    fn a_window_holds_what_the_ledger_took_in_it_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut street = Street::new();
        let blocks = street.run(4);
        let mut db = LedgerDb::open(&path, Durability::Normal, &street.genesis, &home(1)).unwrap();
        store(&mut db, &blocks);
        let first = first_interval();
        let window = |from: Interval, until: Interval| {
            let (mut readings, mut evidence) = (Vec::new(), Vec::new());
            let take = |row| match row {
                SeriesRow::Reading(row) => readings.push(row),
                SeriesRow::Evidence(row) => evidence.push(row),
            };
            series(&path, &street.genesis, from, until, take).unwrap();
            (readings, evidence)
        };
        let (readings, evidence) = window(first, first.next());
        let taken = blocks.iter().flat_map(|(executed, _)| &executed.readings);
        let inside = taken.filter(|reading| (first..=first.next()).contains(&reading.interval)).count();
        assert_eq!((inside, readings.len()), (10, 10), "five meters in two intervals");
        assert!(readings[..2].iter().all(|reading| reading.home.is_none()));
        for reading in &readings {
            let of = |record: &&ledger::ReadingRecord| {
                record.home == reading.home && record.interval == reading.interval
            };
            let record = blocks.iter().flat_map(|(executed, _)| &executed.readings).find(of).unwrap();
            assert_eq!((reading.import, reading.export), (record.import_register, record.export_register));
            assert_eq!((reading.quantum, reading.epoch), (record.quantum, record.epoch));
            assert_eq!((reading.quality, reading.clock_quality), (record.quality, record.clock_quality));
        }
        let [StoredEvidence { given, evidence }] = &evidence[..] else { panic!("{evidence:?}") };
        assert_eq!(*given, first.next(), "on the ledger once its interval was over");
        assert_eq!((&evidence.home, evidence.from), (&home(2), first));
        assert_eq!(evidence.voltage_dv, [2_310]);
        assert_eq!(evidence.pv, Some(PvDeclaration { peak_w: 5_000, storage: false }));
        let (readings, evidence) = window(first.next(), first.next());
        assert_eq!((readings.len(), evidence.len()), (5, 0));
    }
}
