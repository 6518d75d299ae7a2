//! How far the home's meter can be believed, and how many homes stand at which level.

use api::{Assurance, Evidence, Finding, FindingKind, MeterFacts, SCHEMA_VERSION, Time, Verdict};
use ledger::SILENT_DAYS;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{count, readings, time};

/// The newest statement about each home's present meter: what was stated before a registration is about another one.
const IN_FORCE: &str = "FROM assurance a
    WHERE a.until_ms = (SELECT max(b.until_ms) FROM assurance b WHERE b.home = a.home)
      AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.kind = 'meter-registration' AND e.home = a.home
                      AND (e.height, e.position) > (a.height, a.position))";

/// True while what was settled last is no more than so many days younger than the statement: the ledger's rule of levels.
const LATELY: &str = "coalesce((SELECT max(start_ms) FROM interval) < a.until_ms + ?1, 1)";

/// How long a statement counts, ms.
fn silent_ms() -> i64 {
    i64::try_from(SILENT_DAYS).unwrap_or(i64::MAX).saturating_mul(86_400_000)
}

/// A home's level, and until when its meter was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The level in force.
    pub level: u8,
    /// End of the last interval that was looked at; `None` where nothing was stated about the present meter.
    pub stated_at: Option<Time>,
    /// What was stated is too old to count.
    pub is_old: bool,
}

impl Stated {
    fn standing(&self) -> Standing {
        let level = if self.is_old { 0 } else { self.level };
        Standing { level, stated_at: Some(self.at), is_old: self.is_old }
    }
}

/// The assurance of `home`; of the others only how many stand at which level.
pub fn assurance(connection: &Connection, home: &str) -> rusqlite::Result<Assurance> {
    let stated = stated(connection, home)?;
    let Standing { level, stated_at, is_old } = stated.as_ref().map(Stated::standing).unwrap_or_default();
    let meaning = if is_old { Assurance::NOT_LATELY } else { Assurance::meaning_of(level) };
    let document = Assurance {
        schema_version: SCHEMA_VERSION,
        home: home.to_owned(),
        level,
        meaning: meaning.to_owned(),
        stated_at,
        findings: stated.map_or_else(Vec::new, |stated| stated.findings),
        evidence: evidence(connection, home)?,
        meter: meter(connection, home)?,
        homes_by_level: Some(homes_by_level(connection)?),
    };
    Ok(document.for_members())
}

struct Stated {
    at: Time,
    level: u8,
    is_old: bool,
    findings: Vec<Finding>,
}

fn stated(connection: &Connection, home: &str) -> rusqlite::Result<Option<Stated>> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT a.until_ms, a.level, a.transformer, a.transformer_figure, a.pv, a.pv_figure, a.inverter,
           a.inverter_figure, a.voltage, a.voltage_figure, NOT {LATELY} {IN_FORCE} AND a.home = ?2"
    ))?;
    let stated = |row: &Row<'_>| {
        let findings = FindingKind::ALL.into_iter().enumerate();
        let findings = findings.map(|(place, kind)| finding(row, 2 + 2 * place, kind));
        Ok(Stated {
            at: time(row, 0)?,
            level: row.get(1)?,
            is_old: row.get(10)?,
            findings: findings.collect::<Result<_, _>>()?,
        })
    };
    query.query_row(params![silent_ms(), home], stated).optional()
}

fn finding(row: &Row<'_>, column: usize, kind: FindingKind) -> rusqlite::Result<Finding> {
    let word: String = row.get(column)?;
    let verdict = Verdict::from_word(&word)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(column, "finding".to_owned(), Type::Text))?;
    Ok(Finding::new(kind, verdict, row.get(column + 1)?))
}

fn evidence(connection: &Connection, home: &str) -> rusqlite::Result<Option<Evidence>> {
    let mut query = connection.prepare_cached(
        "SELECT from_ms, voltage_dv, pv_peak_w, pv_storage, inverter_permille FROM evidence
         WHERE home = ?1 ORDER BY from_ms DESC LIMIT 1",
    )?;
    let evidence = |row: &Row<'_>| {
        let voltages = row.get_ref(1)?.as_blob()?.chunks_exact(2);
        let voltage = |pair: &[u8]| match pair {
            [0, 0] => None,
            [high, low] => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        };
        Ok(Evidence {
            from: time(row, 0)?,
            voltage_dv: voltages.map(voltage).collect(),
            pv_peak_w: row.get(2)?,
            pv_storage: row.get(3)?,
            inverter_permille: row.get(4)?,
        })
    };
    query.query_row([home], evidence).optional()
}

/// The home's meter as its newest reading shows it.
pub fn meter(connection: &Connection, home: &str) -> rusqlite::Result<Option<MeterFacts>> {
    let newest = readings(connection, home, i64::MAX, 1)?.pop();
    Ok(newest.map(|reading| MeterFacts {
        serial: reading.serial,
        epoch: reading.epoch,
        quantum_wh: reading.quantum_wh,
        profile: reading.profile,
        quality: reading.quality,
        clock_quality: reading.clock_quality,
        interval_start: reading.interval_start,
    }))
}

/// The home's level alone.
pub fn standing(connection: &Connection, home: &str) -> rusqlite::Result<Standing> {
    Ok(stated(connection, home)?.as_ref().map(Stated::standing).unwrap_or_default())
}

/// Homes at levels 0 to 4; a home of which nothing was stated stands at 0.
fn homes_by_level(connection: &Connection) -> rusqlite::Result<Vec<u32>> {
    let sql = "SELECT count(*) FROM account WHERE name >= 'home:' AND name < 'home;'";
    let homes = connection.prepare_cached(sql)?.query_row([], |row| count(row, 0))?;
    let mut query = connection.prepare_cached(&format!(
        "SELECT a.level, count(*) {IN_FORCE} AND a.level > 0 AND {LATELY} GROUP BY a.level"
    ))?;
    let mut levels = [u32::try_from(homes).unwrap_or(u32::MAX), 0, 0, 0, 0];
    for row in query.query_map([silent_ms()], |row| Ok((row.get::<_, u8>(0)?, row.get::<_, u32>(1)?)))? {
        let (level, homes) = row?;
        let [none, stated @ ..] = &mut levels;
        if let Some(place) = usize::from(level).checked_sub(1).and_then(|place| stated.get_mut(place)) {
            *place = homes;
            *none = none.saturating_sub(homes);
        }
    }
    Ok(levels.to_vec())
}
