//! `commonwatt bench`: what only real nodes can show, measured on this machine.

mod measure;
mod street;
pub mod year;

use std::io::{Write, stdout};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ed25519_dalek::SigningKey;
use energy::{HomeId, Interval, Mtu};
use ledger::codec::Decode;
use ledger::{Certificate, Chain, Genesis};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use crate::cli::Output;
use crate::clock::HeldClock;
use crate::config::{ApiSettings, ConsensusSettings, StorageSettings};
use crate::demo::summary::Percentiles;
use crate::folder::Folder;
use crate::identity::Identity;
use crate::run::{MeterSetup, NodeSetup, RunningNode, start};
use crate::zone::Zone;
pub use measure::Usage;
use measure::{Used, peak_rss_bytes, rss_bytes};
use street::{Household, genesis, key_of, orders};

/// Members that sign the load: enough that none meets its hourly quota, and with the others no more than a community may have.
const AUTHORS: usize = 960;
/// Members that sign what a delegate votes on after it was started again.
const SPARE: usize = 30;
/// Orders of one member at the most; the quota is 64 entries an hour.
const ORDERS_EACH: usize = 60;
/// Load is handed over in slices of this length.
const SLICE: Duration = Duration::from_millis(50);
/// After the load ends, entries have this long to become final.
const PATIENCE: Duration = Duration::from_secs(60);
/// The mesh is up when a first heartbeat could be decided; a second is ample on loopback.
const MESH: Duration = Duration::from_secs(1);
/// How fast market time goes with `--homes`: an interval of 15 minutes takes five seconds.
const HOMES_SPEED: u32 = 180;
/// Orders of each home in an interval.
const HOMES_ORDERS: usize = 2;
/// Blocks are at least so far apart.
const SPACING_MS: u64 = 200;

/// What load to make.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  commonwatt bench ledger --delegates 4 --seconds 10 --rate 5000
  commonwatt bench ledger --delegates 7 --seconds 60 --homes 100")]
pub struct LedgerArgs {
    /// How many delegates, all on this machine.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=31))]
    pub delegates: u32,
    /// How long load is handed over, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Signed orders a second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub rate: u32,
    /// Instead of orders at a rate: so many homes, each with a reading and two orders in every interval of five seconds.
    #[arg(long, conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=900))]
    pub homes: Option<u32>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct LedgerFigures {
    /// Version of this object.
    pub schema_version: u32,
    /// Delegates, each a real node with libp2p on loopback and a synced database.
    pub delegates: u32,
    /// Entries handed over a second.
    pub offered_per_s: f64,
    /// Entries handed over in all.
    pub offered: u64,
    /// Of them, final at the first delegate.
    pub finalised: u64,
    /// From the first hand-over to the last decision.
    pub entries_per_s: f64,
    /// From receipt of a block's oldest entry to its durable decision, over all delegates.
    pub finality_ms: Percentiles,
    /// Blocks with entries.
    pub blocks: u64,
    /// Memory of the process before the load, divided by the delegates.
    pub rss_idle_bytes: Option<u64>,
    /// The most memory of the process, divided by the delegates.
    pub rss_bytes: Option<u64>,
    /// What the delegates together used while the load lasted.
    pub usage: Usage,
    /// Processor seconds of all delegates for a thousand final entries.
    pub cpu_s_per_1000: f64,
    /// Processor milliseconds that one delegate takes for a thousand final entries.
    pub cpu_ms_per_1000_per_delegate: f64,
    /// Bytes one delegate gives to the disk for a final entry.
    pub written_bytes_per_entry: f64,
    /// From the start of a stopped delegate to the first block that bears its vote.
    pub restart_ms: Option<u64>,
    /// True if all delegates hold the same last block.
    pub heads_equal: bool,
}

/// Runs the load in a temporary folder and prints the figures.
///
/// # Errors
/// If a node cannot start or stops, not all entries become final, or the delegates do not agree.
pub async fn run_ledger(args: &LedgerArgs, output: Output) -> anyhow::Result<()> {
    let folder = Folder::new("bench", None)?;
    let figures = ledger(args, folder.path()).await?;
    let text = match output {
        Output::Json => serde_json::to_string(&figures)?,
        Output::Text => serde_json::to_string_pretty(&figures)?,
    };
    writeln!(stdout().lock(), "{text}")?;
    if !figures.heads_equal {
        bail!("the delegates do not hold the same block");
    }
    if figures.finalised < figures.offered {
        bail!("{} of {} entries became final", figures.finalised, figures.offered);
    }
    Ok(())
}

/// Delegates, and who signs the load.
struct Field {
    folder: std::path::PathBuf,
    genesis: Genesis,
    clock: Arc<HeldClock>,
    first: Interval,
    /// The last [`SPARE`] of them sign no load.
    authors: Vec<SigningKey>,
    started: Instant,
}

impl Field {
    fn new(args: &LedgerArgs, folder: &Path) -> anyhow::Result<Self> {
        let authors = args.homes.map_or(AUTHORS, |homes| usize::try_from(homes).unwrap_or(AUTHORS));
        let authors: Vec<SigningKey> = (0..authors + SPARE).map(|number| key_of("author", number)).collect();
        let first = Interval::parse("2016-06-13T00:00:00Z", Mtu::Min15)?;
        let identities = (0..args.delegates)
            .map(|number| Identity::create(&folder.join(format!("d{number}"))))
            .collect::<Result<Vec<_>, _>>()?;
        let speed = args.homes.map_or(1, |_| HOMES_SPEED);
        let genesis = genesis(&authors, &identities, first, speed)?;
        let clock = Arc::new(HeldClock::new(first.start(), speed));
        Ok(Self { folder: folder.to_owned(), genesis, clock, first, authors, started: Instant::now() })
    }

    /// Who signs the load.
    fn busy(&self) -> &[SigningKey] {
        &self.authors[..self.authors.len() - SPARE]
    }

    fn chain(&self) -> Chain {
        self.genesis.chain()
    }

    /// Starts delegate `number`, which dials those that run.
    async fn start(&self, number: usize, running: &[RunningNode]) -> anyhow::Result<RunningNode> {
        let data_dir = self.folder.join(format!("d{number}"));
        start(NodeSetup {
            home: HomeId::new(&format!("d{number}"))?,
            identity: Identity::load(&data_dir)?,
            data_dir,
            genesis: self.genesis.clone(),
            clock: self.clock.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            peers: running.iter().flat_map(|node| node.addresses.clone()).collect(),
            mdns: false,
            relaying: crate::network::Relaying::default(),
            zone: Zone::UTC,
            api: ApiSettings { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..ApiSettings::default() },
            meters: MeterSetup::default(),
            root_meter: None,
            household: None,
            consensus: ConsensusSettings { min_block_interval_ms: SPACING_MS, ..Default::default() },
            storage: StorageSettings::default(),
            started: self.started,
        })
        .await
    }
}

async fn ledger(args: &LedgerArgs, folder: &Path) -> anyhow::Result<LedgerFigures> {
    let field = Field::new(args, folder)?;
    let mut nodes: Vec<RunningNode> = Vec::new();
    for number in 0..usize::try_from(args.delegates)? {
        nodes.push(field.start(number, &nodes).await?);
    }
    tokio::time::sleep(MESH).await;
    let rss_idle = rss_bytes();
    let (before, first) = (Used::now(), Instant::now());
    let offered = match args.homes {
        Some(_) => offer_of_homes(&field, &nodes, args.seconds).await?,
        None => {
            let wanted = usize::try_from(args.rate)? * usize::try_from(args.seconds)?;
            field.clock.run_until(field.first.end());
            let load = orders(&field.chain(), field.busy(), field.first, wanted.min(AUTHORS * ORDERS_EACH));
            offer(&nodes, load, args.rate).await
        }
    };
    let db = nodes.first().context("there is no delegate")?.db.clone();
    let taken = wait_for(&db, offered.count, offered.since).await?;
    let usage = before.since();
    tracing::debug!(seconds = first.elapsed().as_secs(), "the load is over");
    let mut figures = sum_up(args, &nodes, &offered, taken)?;
    figures.rss_idle_bytes = rss_idle.map(|bytes| bytes / u64::from(args.delegates));
    figures.account(usage);
    if nodes.len() > 1 {
        figures.restart_ms = Some(restart(&field, &mut nodes).await?);
    }
    for node in nodes {
        node.stop().await;
    }
    Ok(figures)
}

impl LedgerFigures {
    fn account(&mut self, usage: Usage) {
        let thousands = u32::try_from(self.finalised).map_or(1.0, f64::from) / 1000.0;
        let delegates = f64::from(self.delegates);
        let written = u32::try_from(usage.written_bytes / 1024).map_or(0.0, f64::from) * 1024.0;
        self.cpu_s_per_1000 = usage.cpu_s / thousands;
        self.cpu_ms_per_1000_per_delegate = (usage.cpu_s * 1000.0 / thousands / delegates).round();
        self.written_bytes_per_entry = (written / thousands / 1000.0 / delegates).round();
        self.usage = usage;
    }
}

/// What was handed over, and when that began.
struct Offered {
    count: u64,
    since: Instant,
    lasted: Duration,
}

/// Hands orders over evenly. Each author has its node, as every home has: what it signs arrives in its order.
async fn offer(nodes: &[RunningNode], load: Vec<(usize, Vec<u8>)>, rate: u32) -> Offered {
    let since = Instant::now();
    let mut ticks = tokio::time::interval(SLICE);
    let slice = usize::try_from(rate).unwrap_or(1).div_ceil(20);
    let count = u64::try_from(load.len()).unwrap_or(u64::MAX);
    let mut waiting = load.into_iter();
    'load: loop {
        ticks.tick().await;
        for _ in 0..slice {
            let Some((author, entry)) = waiting.next() else { break 'load };
            nodes[author % nodes.len()].engine.submit_in_time(entry).await;
        }
    }
    Offered { count, since, lasted: since.elapsed() }
}

/// Homes live through intervals of five seconds: each trades for the interval after the next, and is read at the end.
async fn offer_of_homes(field: &Field, nodes: &[RunningNode], seconds: u32) -> anyhow::Result<Offered> {
    let chain = field.chain();
    let keys = field.busy().iter().cloned().enumerate();
    let mut homes: Vec<Household> = keys.map(|(number, key)| Household::new(number, key)).collect();
    let lasts = Duration::from_millis(Mtu::Min15.ms() / u64::from(HOMES_SPEED));
    let intervals = (Duration::from_secs(u64::from(seconds)).as_millis() / lasts.as_millis()).max(1);
    let (since, mut count, mut interval) = (Instant::now(), 0, field.first);
    for _ in 0..intervals {
        field.clock.run_until(interval.end().plus_ms(1));
        let traded = Interval::from_index(interval.index() + 2, Mtu::Min15);
        let pause = lasts / u32::try_from(homes.len() + 1)?;
        for (number, home) in homes.iter_mut().enumerate() {
            for order in home.trade(&chain, traded, HOMES_ORDERS) {
                nodes[number % nodes.len()].engine.submit_in_time(order).await;
                count += 1;
            }
            tokio::time::sleep(pause).await;
        }
        tokio::time::sleep(lasts.saturating_sub(pause * u32::try_from(homes.len())?)).await;
        for (number, home) in homes.iter_mut().enumerate() {
            let reading = home.read(&chain, interval)?;
            nodes[number % nodes.len()].engine.submit_in_time(reading).await;
            count += 1;
        }
        interval = interval.next();
    }
    // What was read last settles after its deadline.
    field.clock.run_until(interval.end());
    Ok(Offered { count, since, lasted: since.elapsed() })
}

/// Waits until all are final, or none has become so for a while; how many are, and after how long.
async fn wait_for(db: &Path, offered: u64, first: Instant) -> anyhow::Result<(u64, Duration)> {
    let reader = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (mut seen, mut last) = (0, Instant::now());
    loop {
        let now: i64 =
            reader.query_row("SELECT coalesce(sum(entry_count), 0) FROM block", [], |row| row.get(0))?;
        let now = u64::try_from(now)?;
        if now > seen {
            (seen, last) = (now, Instant::now());
        }
        if seen >= offered || last.elapsed() > PATIENCE {
            return Ok((seen, last.duration_since(first)));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn sum_up(
    args: &LedgerArgs,
    nodes: &[RunningNode],
    offered: &Offered,
    (finalised, took): (u64, Duration),
) -> anyhow::Result<LedgerFigures> {
    let (mut samples, mut heads, mut blocks) = (Vec::new(), Vec::new(), 0_i64);
    let lowest = nodes.iter().map(|node| node.progress.borrow().height).min().unwrap_or(0);
    for node in nodes {
        if let Some(reason) = node.progress.borrow().halted.clone() {
            bail!("a delegate stopped: {reason}");
        }
        let reader = Connection::open_with_flags(&node.db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = reader.prepare("SELECT finality_ms FROM block WHERE entry_count > 0")?;
        let finality = statement.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
        blocks = blocks.max(i64::try_from(finality.len())?);
        samples.extend(finality.into_iter().filter_map(|ms| u64::try_from(ms).ok()));
        let head: Vec<u8> =
            reader.query_row("SELECT id FROM block WHERE height = ?1", [i64::try_from(lowest)?], |row| {
                row.get(0)
            })?;
        heads.push(head);
    }
    let a_second = |count: u64, time: Duration| {
        (u32::try_from(count).map_or(0.0, f64::from) / time.as_secs_f64().max(0.001)).round()
    };
    Ok(LedgerFigures {
        schema_version: 2,
        delegates: args.delegates,
        offered_per_s: a_second(offered.count, offered.lasted),
        offered: offered.count,
        finalised,
        entries_per_s: a_second(finalised, took),
        finality_ms: Percentiles::of(samples),
        blocks: u64::try_from(blocks)?,
        rss_idle_bytes: None,
        rss_bytes: peak_rss_bytes().map(|bytes| bytes / u64::from(args.delegates)),
        usage: Usage::default(),
        cpu_s_per_1000: 0.0,
        cpu_ms_per_1000_per_delegate: 0.0,
        written_bytes_per_entry: 0.0,
        restart_ms: None,
        heads_equal: heads.windows(2).all(|pair| pair[0] == pair[1]),
    })
}

/// Stops the first delegate and starts it again while others sign orders; how long until a block bears its vote.
async fn restart(field: &Field, nodes: &mut Vec<RunningNode>) -> anyhow::Result<u64> {
    let identity = Identity::load(&field.folder.join("d0"))?;
    let key = identity.consensus_public().context("it has no consensus key")?;
    nodes.remove(0).stop().await;
    let busy = field.busy().len();
    let spare: Vec<_> = field.authors.iter().cloned().enumerate().skip(busy).collect();
    let last = nodes.last().context("another delegate")?.engine.clone();
    let work = tokio::spawn(work(field.chain(), field.clock.clone(), spare, last));
    let began = Instant::now();
    let node = field.start(0, nodes).await?;
    let reader = Connection::open_with_flags(&node.db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let set = field.genesis.delegate_set()?;
    let seat = set.seat_of(&key).and_then(|seat| u8::try_from(seat).ok()).context("it holds no seat")?;
    let found = node.progress.borrow().height;
    nodes.insert(0, node);
    while !has_voted(&reader, found, seat)? {
        if began.elapsed() > PATIENCE {
            bail!("the delegate that was started again does not vote");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    work.abort();
    Ok(u64::try_from(began.elapsed().as_millis())?)
}

/// Hands in an order ten times a second, so that there is always something to decide.
async fn work(
    chain: Chain,
    clock: Arc<HeldClock>,
    authors: Vec<(usize, SigningKey)>,
    engine: crate::engine::EngineHandle,
) {
    use crate::clock::Clock as _;
    let mut traders: Vec<_> = authors.into_iter().map(|(number, key)| Household::new(number, key)).collect();
    for ahead in 2.. {
        for trader in &mut traders {
            let present = Interval::containing(clock.market(), Mtu::Min15).index();
            for order in trader.trade(&chain, Interval::from_index(present + ahead, Mtu::Min15), 1) {
                engine.submit_in_time(order).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// True if the certificate of a block after `height` holds the vote of this seat.
fn has_voted(reader: &Connection, height: u64, seat: u8) -> anyhow::Result<bool> {
    let mut statement = reader.prepare_cached("SELECT certificate FROM block WHERE height > ?1")?;
    let rows = statement.query_map([i64::try_from(height)?], |row| row.get::<_, Vec<u8>>(0))?;
    for bytes in rows {
        let certificate = Certificate::from_bytes(&bytes?)?;
        if certificate.signatures.iter().any(|(of, _)| *of == seat) {
            return Ok(true);
        }
    }
    Ok(false)
}
