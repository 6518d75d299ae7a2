//! `commonwatt bench year`: months of a whole neighbourhood through the ledger and the store of one node, as fast as they go:
//! how long a replay takes, how large the database gets, and what an SD card has to bear.
//!
//! Synthetic, but with everything in it that a day of a real chain has: every home read each quarter-hour, its evidence once a
//! day, some homes that trade ahead, heartbeats, certificates of all seats, the consensus log with its syncs.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use ed25519_dalek::SigningKey;
use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, Mtu, Price, Quality, Reading, TakenAt, WattHours,
};
use ledger::codec::Encode;
use ledger::{
    Admission, Body, Certificate, Delegate, Entry, Executed, Genesis, GenesisMember, Hash32, Ledger,
    MemberKeys, MeterEvidence, MeterRegistration, Order, PublicKey, Salt, Signature, VerifiedEntry, VoteKind,
    reading_hash, vote_signing_bytes,
};
use market::Side;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::street::{root, terms};
use crate::cli::Output;
use crate::demo::proc_figure;
use crate::folder::Folder;
use crate::store::Durability;
use crate::store::ledger_db::LedgerDb;
use crate::store::log_file::LogFile;
use crate::store::prune::Retention;

/// A quarter-hour's readings come in over so many blocks, one a second.
const BURST: u64 = 10;
/// Then blocks come at least so often.
const HEARTBEAT_MS: u64 = 300_000;
/// What a vote takes in the consensus log.
const VOTE_BYTES: usize = 150;
/// The log is written anew after so many bytes, as a delegate does.
const LOG_TRIM_BYTES: usize = 1 << 20;
/// Progress is told after so many days.
const TELL_DAYS: u64 = 10;

/// How much to replay.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Example:
  commonwatt bench year --days 365 --homes 118 --trading 12 --delegates 21")]
pub struct YearArgs {
    /// How many days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub days: u32,
    /// How many homes.
    #[arg(long, default_value_t = 118, value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub homes: u32,
    /// How many of them trade ahead, with two orders in each quarter-hour.
    #[arg(long, default_value_t = 12)]
    pub trading: u32,
    /// How many seats sign each block.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(4..=31))]
    pub delegates: u32,
    /// Keeps the database in this folder; otherwise it is temporary.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<std::path::PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct YearFigures {
    schema_version: u32,
    days: u32,
    homes: u32,
    trading: u32,
    delegates: u32,
    blocks: u64,
    entries: u64,
    leaves: u64,
    /// Whole time, and what of it went into making and checking signatures, into the state machine, and into the store.
    seconds: f64,
    signing_seconds: f64,
    ledger_seconds: f64,
    store_seconds: f64,
    /// The database with everything in it, after letting go of what is older than it is kept, and what that leaves for each day
    /// for ever.
    database_bytes: u64,
    pruned_database_bytes: u64,
    kept_bytes_per_day: Option<u64>,
    /// Bytes handed to the disk: by the kernel's count, which counts a page again each time it goes out, and by system calls.
    written_bytes_per_day: Option<u64>,
    write_calls_bytes_per_day: Option<u64>,
    /// Of the former, letting go of a day.
    pruning_bytes_per_day: Option<u64>,
    /// The newest snapshot, and how long a start takes from opening the database to the ledger being ready to vote.
    snapshot_bytes: u64,
    restart_seconds: f64,
    rss_bytes: Option<u64>,
}

/// Runs it and prints the figures.
///
/// # Errors
/// If the folder cannot be written, or a block is not what it should be.
pub fn run(args: &YearArgs, output: Output) -> anyhow::Result<()> {
    let folder = Folder::new("year", args.data_dir.as_deref())?;
    let figures = measure(args, folder.path())?;
    let text = match output {
        Output::Json => serde_json::to_string(&figures)?,
        Output::Text => serde_json::to_string_pretty(&figures)?,
    };
    writeln!(stdout().lock(), "{text}")?;
    Ok(())
}

fn measure(args: &YearArgs, folder: &Path) -> anyhow::Result<YearFigures> {
    let started = Instant::now();
    let path = folder.join("ledger.db");
    let mut run = Run::new(args, folder, &path)?;
    let before = Written::now();
    for day in 0..u64::from(args.days) {
        run.day(day)?;
        if (day + 1).is_multiple_of(TELL_DAYS) {
            tracing::info!(day = day + 1, height = run.ledger.height(), "replayed");
        }
    }
    let replayed = Written::now();
    let seconds = started.elapsed().as_secs_f64();
    let database_bytes = size(&path)?;
    run.db.set_retention(Retention::default());
    while run.db.prune()? {}
    let pruned = Written::now();
    let days_pruned = run.days_gone()?;
    let (entries, spent, ledger) = (run.entries, run.spent, run.ledger.clone());
    let genesis = run.genesis.clone();
    drop(run);
    let pruned_database_bytes = in_use(&path)?;
    let opened = Instant::now();
    let db = LedgerDb::open(&path, Durability::Full, &genesis, &home(0)?)?;
    anyhow::ensure!(db.load(&genesis)?.state_root() == ledger.state_root(), "the restart ends elsewhere");
    let restart_seconds = opened.elapsed().as_secs_f64();
    let days = u64::from(args.days);
    let per_day = |from: Option<u64>, to: Option<u64>, days: u64| {
        to.zip(from).and_then(|(to, from)| (to - from).checked_div(days))
    };
    Ok(YearFigures {
        schema_version: 1,
        days: args.days,
        homes: args.homes,
        trading: args.trading,
        delegates: args.delegates,
        blocks: ledger.height(),
        entries,
        leaves: ledger.tree_size(),
        seconds,
        signing_seconds: spent.signing.as_secs_f64(),
        ledger_seconds: spent.ledger.as_secs_f64(),
        store_seconds: spent.store.as_secs_f64(),
        database_bytes,
        pruned_database_bytes,
        kept_bytes_per_day: kept(database_bytes, pruned_database_bytes, days, days_pruned),
        written_bytes_per_day: per_day(before.disk, replayed.disk, days),
        write_calls_bytes_per_day: per_day(before.calls, replayed.calls, days),
        pruning_bytes_per_day: per_day(replayed.disk, pruned.disk, days_pruned),
        snapshot_bytes: ledger.snapshot().len() as u64,
        restart_seconds,
        rss_bytes: proc_figure("/proc/self/status", "VmHWM:").map(|kib| kib * 1024),
    })
}

/// What a day leaves that was let go of: a whole day's bytes less what went with it.
fn kept(database: u64, pruned: u64, days: u64, gone: u64) -> Option<u64> {
    let whole = database.checked_div(days)?;
    Some(whole.saturating_sub(database.saturating_sub(pruned).checked_div(gone)?))
}

/// Database and the side file that becomes part of it.
fn size(path: &Path) -> anyhow::Result<u64> {
    Ok(path.metadata().context("there is no database")?.len())
}

/// What of it holds something: pages that are free are used again, or given back with time.
fn in_use(path: &Path) -> anyhow::Result<u64> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let figure = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (pages, free, bytes) = (figure("page_count")?, figure("freelist_count")?, figure("page_size")?);
    Ok(u64::try_from((pages - free) * bytes)?)
}

/// What this process has written so far.
struct Written {
    disk: Option<u64>,
    calls: Option<u64>,
}

impl Written {
    fn now() -> Self {
        let figure = |name| proc_figure("/proc/self/io", name);
        Self { disk: figure("write_bytes:"), calls: figure("wchar:") }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    signing: Duration,
    ledger: Duration,
    store: Duration,
}

/// Whose meter, and what it showed last.
struct Home {
    id: HomeId,
    member: SigningKey,
    reading: SigningKey,
    number: u64,
    last: Option<Reading>,
}

struct Run {
    genesis: Genesis,
    ledger: Ledger,
    db: LedgerDb,
    log: LogFile,
    log_grown: usize,
    homes: Vec<Home>,
    trading: usize,
    seats: BTreeMap<PublicKey, SigningKey>,
    last: Option<Certificate>,
    entries: u64,
    spent: Spent,
}

impl Run {
    fn new(args: &YearArgs, folder: &Path, path: &Path) -> anyhow::Result<Self> {
        let homes = (0..args.homes).map(|at| Home::new(u64::from(at))).collect::<anyhow::Result<Vec<_>>>()?;
        let seats: Vec<SigningKey> = (0..args.delegates).map(|at| key("seat", u64::from(at))).collect();
        let genesis = genesis(&homes, &seats)?;
        let ledger = Ledger::genesis(&genesis)?;
        let mut db = LedgerDb::open(path, Durability::Full, &genesis, &home(0)?)?;
        // Everything stays until the end, so that the file is measured with and without it.
        db.set_retention(Retention::days(u32::MAX));
        let (log, _) = LogFile::open(folder)?;
        Ok(Self {
            genesis,
            ledger,
            db,
            log,
            log_grown: 0,
            homes,
            trading: usize::try_from(args.trading)?,
            seats: seats.into_iter().map(|key| (PublicKey::of(&key), key)).collect(),
            last: None,
            entries: 0,
            spent: Spent::default(),
        })
    }

    fn day(&mut self, day: u64) -> anyhow::Result<()> {
        let per_day = u64::from(self.genesis.mtu.per_day());
        let first = Interval::containing(self.genesis.start, self.genesis.mtu).index() + day * per_day;
        for index in first..first + per_day {
            self.interval(Interval::from_index(index, self.genesis.mtu), index - first)?;
        }
        Ok(())
    }

    /// What the homes sign at the end of an interval, in a burst of blocks; then heartbeats.
    fn interval(&mut self, ended: Interval, of_day: u64) -> anyhow::Result<()> {
        let end = ended.end();
        let mut waiting = self.entries_of(ended, of_day)?;
        let share = waiting.len().div_ceil(usize::try_from(BURST)?);
        for at in 0..BURST {
            let rest = waiting.split_off(share.min(waiting.len()));
            self.block(end.plus_ms(2_000 + at * 1_000), &waiting)?;
            waiting = rest;
        }
        for at in 1..3 {
            self.block(end.plus_ms(2_000 + at * HEARTBEAT_MS), &[])?;
        }
        Ok(())
    }

    fn entries_of(&mut self, ended: Interval, of_day: u64) -> anyhow::Result<Vec<VerifiedEntry>> {
        let begun = Instant::now();
        let chain = *self.ledger.chain();
        let mut signed = Vec::new();
        for (at, home) in self.homes.iter_mut().enumerate() {
            signed.push(home.read(ended)?);
            // Evidence of the day before, spread over the day.
            if of_day == at as u64 % 96 && self.ledger.height() > 1_500 {
                signed.push(home.evidence(ended)?);
            }
            if at < self.trading {
                signed.extend(home.orders(ended, at));
            }
        }
        let verify = |(key, entry): (SigningKey, Entry)| Ok(entry.sign(&chain, &key).verify(&chain)?);
        let entries = signed.into_iter().map(verify).collect::<anyhow::Result<Vec<_>>>()?;
        self.spent.signing += begun.elapsed();
        Ok(entries)
    }

    fn block(&mut self, time: energy::Timestamp, entries: &[VerifiedEntry]) -> anyhow::Result<()> {
        let begun = Instant::now();
        let proposed = self.ledger.propose_after(self.last.as_ref(), time, entries)?;
        if let Some((id, error)) = proposed.refused.first() {
            anyhow::bail!("entry {id} at height {}: {error}", self.ledger.height() + 1);
        }
        let decided = Instant::now();
        self.spent.ledger += decided.duration_since(begun);
        let executed = proposed.executed;
        self.log(&executed)?;
        let certificate = self.certify(&executed)?;
        self.db.commit(&executed, &certificate, 500, time.unix_ms())?;
        self.db.prune()?;
        self.spent.store += decided.elapsed();
        self.entries += entries.len() as u64;
        (self.ledger, self.last) = (executed.ledger, Some(certificate));
        Ok(())
    }

    /// What a delegate's log takes for a height: the block, then the votes of two rounds of them, each synced before it speaks.
    fn log(&mut self, executed: &Executed) -> anyhow::Result<()> {
        let votes = vec![0; self.seats.len() * VOTE_BYTES];
        for record in [&executed.block.to_bytes(), &votes, &votes] {
            self.log.append(record)?;
            self.log.sync()?;
            self.log_grown += record.len();
        }
        if self.log_grown > LOG_TRIM_BYTES {
            self.log.trim(&votes)?;
            self.log_grown = 0;
        }
        Ok(())
    }

    /// Signed by as many seats as it takes.
    fn certify(&self, executed: &Executed) -> anyhow::Result<Certificate> {
        let (height, block) = (executed.block.header.height, executed.block.id());
        let message = vote_signing_bytes(self.ledger.chain(), VoteKind::Precommit, height, 0, Some(&block));
        let set = self.ledger.delegates();
        let seats = set.as_slice().iter().enumerate().take(set.quorum());
        let signatures = seats
            .map(|(seat, delegate)| {
                let key = self.seats.get(&delegate.key).context("a seat without a key")?;
                Ok((u8::try_from(seat)?, Signature::sign(key, &message)))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Certificate { height, round: 0, block, signatures })
    }

    /// How many whole days were let go of.
    fn days_gone(&self) -> anyhow::Result<u64> {
        let per_day = u64::from(self.genesis.mtu.per_day()) * (BURST + 2);
        Ok(self.db.gone().bodies / per_day)
    }
}

impl Home {
    fn new(at: u64) -> anyhow::Result<Self> {
        let id = home(at)?;
        let (member, reading) = (key("member", at), key("reading", at));
        Ok(Self { id, member, reading, number: 0, last: None })
    }

    fn entry(&mut self, body: Body) -> (SigningKey, Entry) {
        self.number += 1;
        let salt = Hash32::of(&[self.id.as_str().as_bytes(), &self.number.to_be_bytes()]).0;
        let mut short = [0; 16];
        short.copy_from_slice(&salt[..16]);
        let key = match body {
            Body::Order(_) => &self.member,
            _ => &self.reading,
        };
        (key.clone(), Entry { signer: PublicKey::of(key), number: self.number, salt: Salt(short), body })
    }

    /// Some energy, different at every home and time of day.
    fn read(&mut self, interval: Interval) -> anyhow::Result<(SigningKey, Entry)> {
        let last = self.last.take();
        let noise = Hash32::of(&[self.id.as_str().as_bytes(), &interval.index().to_be_bytes()]).0;
        let (used, made) = (u64::from(noise[0]), u64::from(noise[1]) * u64::from(noise[2] % 2));
        let (import, export) =
            last.as_ref().map_or((1_000, 0), |last| (last.import_register.get(), last.export_register.get()));
        let reading = Reading {
            serial: MeterSerial::new(self.id.as_str())?,
            meter_epoch: 0,
            interval,
            import_register: WattHours::new(import + used),
            export_register: WattHours::new(export + made),
            raw_registers: noise
                .chunks(2)
                .take(8)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect(),
            quantum: WattHours::new(1),
            profile_hash: [7; 32],
            quality: Quality::Good,
            clock_quality: ClockQuality::Synced,
            taken_at: TakenAt { time: interval.end(), monotonic_ms: interval.index(), boot_id: [9; 16] },
            record_number: last.as_ref().map_or(1, |last| last.record_number + 1),
            previous_hash: last.as_ref().map_or([0; 32], reading_hash),
        };
        self.last = Some(reading.clone());
        let home = Some(self.id.clone());
        Ok(self.entry(Body::Reading { home, reading }))
    }

    /// Its voltages of the day that ended before `ended`.
    fn evidence(&mut self, ended: Interval) -> anyhow::Result<(SigningKey, Entry)> {
        let per_day = u64::from(ended.mtu().per_day());
        let day = ended.index() / per_day;
        let from = Interval::from_index((day - 1) * per_day, ended.mtu());
        let voltage_dv = vec![2_310; usize::try_from(per_day)?];
        let evidence =
            MeterEvidence { home: self.id.clone(), from, voltage_dv, pv: None, inverter_permille: None };
        Ok(self.entry(Body::MeterEvidence(evidence)))
    }

    /// Half of the traders sell, half of them buy, two hours ahead.
    fn orders(&mut self, ended: Interval, at: usize) -> Vec<(SigningKey, Entry)> {
        let interval = Interval::from_index(ended.index() + 9, ended.mtu());
        let (side, price) = if at.is_multiple_of(2) { (Side::Sell, 110_000) } else { (Side::Buy, 190_000) };
        let order = |step: i64| Order {
            home: self.id.clone(),
            interval,
            side,
            price: Price::new(price + step * 1_000),
            quantity: WattHours::new(100),
            replaces: None,
        };
        let orders = [order(0), order(1)];
        orders.map(|order| self.entry(Body::Order(order))).to_vec()
    }
}

fn home(at: u64) -> anyhow::Result<HomeId> {
    Ok(HomeId::new(&format!("h{:03}", at + 1))?)
}

/// Keys that follow from their number: they hold no money but a bench's.
fn key(purpose: &str, at: u64) -> SigningKey {
    SigningKey::from_bytes(&Hash32::of(&[b"year", purpose.as_bytes(), &at.to_be_bytes()]).0)
}

fn genesis(homes: &[Home], seats: &[SigningKey]) -> anyhow::Result<Genesis> {
    let root = root()?;
    let member = |(at, home): (usize, &Home)| -> anyhow::Result<GenesisMember> {
        let admission = Admission {
            home: home.id.clone(),
            owner: home.id.to_string(),
            node: root.clone(),
            size: ledger::ConnectionSize::default(),
            keys: MemberKeys {
                member: PublicKey::of(&home.member),
                reading: PublicKey::of(&home.reading),
                network: PublicKey::of(&key("network", at as u64)),
            },
            meter: MeterRegistration {
                serial: MeterSerial::new(home.id.as_str())?,
                epoch: 0,
                profile_hash: [7; 32],
                quantum: WattHours::new(1),
            },
        };
        let deposit = Balance::new(100_000_000_000_000);
        Ok(GenesisMember { admission, participation: ledger::Participation::default(), deposit })
    };
    let seat =
        |(seat, home): (&SigningKey, &Home)| Delegate { key: PublicKey::of(seat), home: home.id.clone() };
    let genesis = Genesis {
        supplier_credit: Balance::new(i64::MAX / 1_000),
        members: homes.iter().enumerate().map(member).collect::<anyhow::Result<_>>()?,
        delegates: seats.iter().zip(homes).map(seat).collect(),
        ..terms("year", Interval::parse("2025-01-01T00:00:00Z", Mtu::Min15)?.start())?
    };
    genesis.validate()?;
    Ok(genesis)
}
