//! What the household's agent must not forget: which command each device took last, what became of commands, and what the
//! devices did. Everything else that the agent knows follows from the ledger.

use std::path::{Path, PathBuf};

use agent::{ChannelId, Did, Session, Standing, Verdict};
use energy::{Interval, Mtu, Timestamp, WattHours};
use ledger::Chain;
use rusqlite::{Connection, OptionalExtension};

use super::StoreError;
use super::database::{self, Durability, Schema, int, unsigned};

const SCHEMA: &str = include_str!("household.sql");
const SCHEMA_VERSION: i64 = 1;
/// How devices stood as intervals began. A file of this version may have been made before there was this table.
const STOOD: &str = "CREATE TABLE IF NOT EXISTS stood (
    interval_ms INTEGER PRIMARY KEY,
    battery INTEGER NOT NULL,
    heat INTEGER NOT NULL,
    needed INTEGER, minimum INTEGER, deadline_ms INTEGER -- of the vehicle, where one was there
)";
/// Verdicts that are kept: a fortnight of four devices commanded every quarter-hour.
pub const VERDICTS_MAX: u32 = 5_376;
/// Intervals of which it is kept what devices did: eight weeks of quarter-hours, as long as a forecast looks back.
pub const DID_MAX: u32 = 5_376;

/// The household's database, open for writing.
#[derive(Debug)]
pub struct HouseholdDb {
    connection: Connection,
    path: PathBuf,
}

/// A verdict as it was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// When.
    pub at: Timestamp,
    /// Number of the command.
    pub sequence: u64,
    /// When it ends.
    pub expires: Timestamp,
    /// What it asked for, in words.
    pub control: String,
    /// Why it was not taken; `None`: it was.
    pub refused: Option<String>,
}

/// What the devices did in one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Their energies.
    pub did: Did,
    /// What heat would have taken to stay where it was.
    pub heat_need: WattHours,
    /// Generation, where it is known.
    pub pv: Option<WattHours>,
}

impl HouseholdDb {
    /// Opens the database at `path` or begins it.
    ///
    /// # Errors
    /// [`StoreError`]: another file, of another chain, or the file system refuses.
    pub fn open(path: &Path, chain: &Chain) -> Result<Self, StoreError> {
        let schema = Schema { sql: SCHEMA, own_sql: None, version: SCHEMA_VERSION, chain, home: None };
        // A device must not take a command twice because of a power cut.
        let connection = database::open(path, Durability::Full, &schema, |_| Ok(()))?;
        connection.execute_batch(STOOD).map_err(StoreError::database(path, "make the tables"))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Number of the last command that the device of a channel took; 0: none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn last_taken(&self, channel: &ChannelId) -> Result<u64, StoreError> {
        let sql = "SELECT last FROM channel WHERE id = ?1";
        let found = self.connection.query_row(sql, [channel.0], |row| unsigned(row, 0)).optional();
        Ok(found.map_err(self.fault("read the last command"))?.unwrap_or(0))
    }

    /// Logs what became of a command; one that was taken can then not be taken again. Durable when this returns, and only
    /// then the device acts.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then nothing was logged.
    pub fn log(&mut self, verdict: &Verdict) -> Result<(), StoreError> {
        let fault = |source| StoreError::database(&self.path, "log a command")(source);
        let command = &verdict.command;
        let logged = (|| {
            let transaction = self.connection.transaction()?;
            if verdict.refused.is_none() {
                let sql =
                    "INSERT INTO channel VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET last = excluded.last";
                transaction.execute(sql, (command.channel.0, int(command.sequence)?))?;
            }
            transaction.execute(
                "INSERT INTO verdict (at_ms, channel, sequence, expires_ms, control, refused)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    int(verdict.at.unix_ms())?,
                    command.channel.0,
                    // A stranger may name any number.
                    i64::try_from(command.sequence).unwrap_or(i64::MAX),
                    int(command.expires.unix_ms())?,
                    command.control.to_string(),
                    verdict.refused.map(|refusal| refusal.to_string()),
                ),
            )?;
            let forget = "DELETE FROM verdict WHERE number <= (SELECT max(number) FROM verdict) - ?1";
            transaction.execute(forget, [VERDICTS_MAX])?;
            transaction.commit()
        })();
        logged.map_err(fault)
    }

    /// The newest verdicts on a channel's commands, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where it is damaged.
    pub fn verdicts(&self, channel: &ChannelId, max: u32) -> Result<Vec<Logged>, StoreError> {
        let sql = "SELECT at_ms, sequence, expires_ms, control, refused FROM verdict WHERE channel = ?1
                   ORDER BY number DESC LIMIT ?2";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Logged {
                at: Timestamp::from_unix_ms(unsigned(row, 0)?),
                sequence: unsigned(row, 1)?,
                expires: Timestamp::from_unix_ms(unsigned(row, 2)?),
                control: row.get(3)?,
                refused: row.get(4)?,
            })
        };
        let rows: rusqlite::Result<_> = (|| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map((channel.0, max), read)?.collect()
        })();
        rows.map_err(self.fault("read the log of commands"))
    }

    /// Writes down what devices did in an interval; what was written of it before is replaced.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn record(&mut self, interval: Interval, done: &Done) -> Result<(), StoreError> {
        let fault = |source| StoreError::database(&self.path, "record what devices did")(source);
        let recorded = (|| {
            let transaction = self.connection.transaction()?;
            transaction.execute(
                "INSERT OR REPLACE INTO did VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                (
                    int(interval.start().unix_ms())?,
                    int(done.did.charge.get())?,
                    int(done.did.discharge.get())?,
                    int(done.did.vehicle.get())?,
                    int(done.did.heat.get())?,
                    done.did.curtailed,
                    int(done.heat_need.get())?,
                    done.pv.map(|pv| int(pv.get())).transpose()?,
                ),
            )?;
            let forget = "DELETE FROM did WHERE interval_ms < (SELECT max(interval_ms) FROM did) - ?1";
            let span = u64::from(DID_MAX).saturating_mul(interval.mtu().ms());
            transaction.execute(forget, [int(span)?])?;
            transaction.commit()
        })();
        recorded.map_err(fault)
    }

    /// What devices did, by the start of the interval, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where it is damaged.
    pub fn done(&self) -> Result<Vec<(Timestamp, Done)>, StoreError> {
        let sql = "SELECT interval_ms, charge, discharge, vehicle, heat, curtailed, heat_need, pv FROM did
                   ORDER BY interval_ms";
        let read = |row: &rusqlite::Row<'_>| {
            let energy = |index| unsigned(row, index).map(WattHours::new);
            let did = Did {
                charge: energy(1)?,
                discharge: energy(2)?,
                vehicle: energy(3)?,
                heat: energy(4)?,
                curtailed: row.get(5)?,
            };
            let pv = row.get::<_, Option<i64>>(7)?.map(|_| energy(7)).transpose()?;
            let done = Done { did, heat_need: energy(6)?, pv };
            Ok((Timestamp::from_unix_ms(unsigned(row, 0)?), done))
        };
        let rows: rusqlite::Result<_> = (|| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map([], read)?.collect()
        })();
        rows.map_err(self.fault("read what devices did"))
    }

    /// Writes down how devices stood as an interval began; what was written of it before is replaced. As old as what devices
    /// did, it is forgotten.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn stand(&mut self, interval: Interval, standing: &Standing) -> Result<(), StoreError> {
        let fault = |source| StoreError::database(&self.path, "record how devices stood")(source);
        let recorded = (|| {
            let transaction = self.connection.transaction()?;
            let energy = |energy: WattHours| int(energy.get());
            let session = standing.session;
            transaction.execute(
                "INSERT OR REPLACE INTO stood VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                (
                    int(interval.start().unix_ms())?,
                    energy(standing.battery)?,
                    energy(standing.heat)?,
                    session.map(|session| energy(session.needed)).transpose()?,
                    session.map(|session| energy(session.minimum)).transpose()?,
                    session.map(|session| int(session.deadline.start().unix_ms())).transpose()?,
                ),
            )?;
            let forget = "DELETE FROM stood WHERE interval_ms < (SELECT max(interval_ms) FROM stood) - ?1";
            let span = u64::from(DID_MAX).saturating_mul(interval.mtu().ms());
            transaction.execute(forget, [int(span)?])?;
            transaction.commit()
        })();
        recorded.map_err(fault)
    }

    /// How devices stood, by the start of the interval, oldest first; intervals are `mtu` long.
    ///
    /// # Errors
    /// [`StoreError::Database`], also where it is damaged.
    pub fn stood(&self, mtu: Mtu) -> Result<Vec<(Timestamp, Standing)>, StoreError> {
        let sql =
            "SELECT interval_ms, battery, heat, needed, minimum, deadline_ms FROM stood ORDER BY interval_ms";
        let read = |row: &rusqlite::Row<'_>| {
            let energy = |index| unsigned(row, index).map(WattHours::new);
            let session = row.get::<_, Option<i64>>(5)?.map(|_| {
                let deadline = Interval::containing(Timestamp::from_unix_ms(unsigned(row, 5)?), mtu);
                Ok::<_, rusqlite::Error>(Session { needed: energy(3)?, minimum: energy(4)?, deadline })
            });
            let standing = Standing { battery: energy(1)?, heat: energy(2)?, session: session.transpose()? };
            Ok((Timestamp::from_unix_ms(unsigned(row, 0)?), standing))
        };
        let rows: rusqlite::Result<_> = (|| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map([], read)?.collect()
        })();
        rows.map_err(self.fault("read how devices stood"))
    }

    fn fault(&self, what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError + '_ {
        StoreError::database(&self.path, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::{Command, Control, Refusal};
    use energy::Mtu;
    use ledger::Hash32;

    const CHAIN: Chain = Chain { id: Hash32([3; 32]), recovery: 0 };
    const CHANNEL: ChannelId = ChannelId([5; 32]);

    fn verdict(sequence: u64, refused: Option<Refusal>) -> Verdict {
        let at = Timestamp::from_unix_ms(1_465_776_000_000);
        let command = Command {
            channel: CHANNEL,
            sequence,
            expires: at.plus_ms(900_000),
            signer: [9; 32],
            control: Control::Charge(3_000),
        };
        Verdict { at, command, refused }
    }

    #[test]
    fn a_command_that_was_taken_is_known_after_a_restart_and_a_refused_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("household.db");
        {
            let mut db = HouseholdDb::open(&path, &CHAIN).unwrap();
            assert_eq!(db.last_taken(&CHANNEL).unwrap(), 0);
            db.log(&verdict(7, None)).unwrap();
            db.log(&verdict(u64::MAX, Some(Refusal::WrongSigner))).unwrap();
        }
        let db = HouseholdDb::open(&path, &CHAIN).unwrap();
        assert_eq!(db.last_taken(&CHANNEL).unwrap(), 7);
        let log = db.verdicts(&CHANNEL, 10).unwrap();
        assert_eq!((log.len(), log[1].sequence, log[1].refused.as_deref()), (2, 7, None));
        assert_eq!(log[1].control, "charge the battery with 3000 W");
        assert!(log[0].refused.as_deref().unwrap().contains("not paired"));
        assert!(db.verdicts(&ChannelId([6; 32]), 10).unwrap().is_empty());
    }

    #[test]
    fn the_log_of_commands_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = HouseholdDb::open(&dir.path().join("household.db"), &CHAIN).unwrap();
        let fill = "INSERT INTO verdict SELECT value, 0, zeroblob(32), 0, 0, '', NULL
                    FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?1)
                    SELECT value FROM n)";
        db.connection.execute(fill, [VERDICTS_MAX + 100]).unwrap();
        db.log(&verdict(1, None)).unwrap();
        let count: u32 =
            db.connection.query_row("SELECT count(*) FROM verdict", [], |row| row.get(0)).unwrap();
        assert_eq!(count, VERDICTS_MAX);
    }

    #[test]
    fn how_devices_stood_is_known_after_a_restart_with_and_without_a_vehicle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("household.db");
        let first = Interval::from_index(1_628_640, Mtu::Min15);
        let stood = |needed: Option<u64>| Standing {
            battery: WattHours::new(4_000),
            heat: WattHours::new(300),
            session: needed.map(|needed| Session {
                needed: WattHours::new(needed),
                minimum: WattHours::new(50),
                deadline: Interval::from_index(first.index() + 30, Mtu::Min15),
            }),
        };
        {
            let mut db = HouseholdDb::open(&path, &CHAIN).unwrap();
            db.stand(first, &Standing::default()).unwrap();
            db.stand(first, &stood(Some(9_000))).unwrap();
            db.stand(first.next(), &stood(None)).unwrap();
        }
        let db = HouseholdDb::open(&path, &CHAIN).unwrap();
        let expected = [(first.start(), stood(Some(9_000))), (first.next().start(), stood(None))];
        assert_eq!(db.stood(Mtu::Min15).unwrap(), expected);
    }

    #[test]
    fn what_devices_did_is_kept_for_as_long_as_forecasts_look_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = HouseholdDb::open(&dir.path().join("household.db"), &CHAIN).unwrap();
        let first = Interval::from_index(1_628_640, Mtu::Min15);
        let did = Did { charge: WattHours::new(500), curtailed: true, ..Did::default() };
        let done = Done { did, heat_need: WattHours::new(70), pv: None };
        db.record(first, &done).unwrap();
        let sunny = Done { pv: Some(WattHours::new(800)), ..done };
        db.record(first.next(), &sunny).unwrap();
        let later = Interval::from_index(first.index() + u64::from(DID_MAX) + 1, Mtu::Min15);
        db.record(later, &Done::default()).unwrap();
        assert_eq!(db.done().unwrap(), [(first.next().start(), sunny), (later.start(), Done::default())]);
    }
}
