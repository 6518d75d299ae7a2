//! `commonwatt bench`: what only real nodes can show, measured on this machine.

use std::io::{Write, stdout};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ed25519_dalek::SigningKey;
use energy::{Balance, HomeId, Interval, MeterSerial, Mtu, NodeId, Price, WattHours};
use ledger::codec::Encode;
use ledger::{
    Admission, Body, Caps, Chain, Delegate, DemoClock, Entry, Forward, Genesis, GenesisMember, Hash32,
    MemberKeys, MeterRegistration, Order, PublicKey, Roles, Salt, TariffPoint,
};
use market::{NodeSpec, Side, SupplierLeg};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use crate::cli::Output;
use crate::clock::HeldClock;
use crate::config::{ApiSettings, ConsensusSettings};
use crate::demo::proc_figure;
use crate::demo::summary::Percentiles;
use crate::engine::Command;
use crate::folder::Folder;
use crate::identity::Identity;
use crate::run::{MeterSetup, NodeSetup, RunningNode, start};
use crate::zone::Zone;

/// Members that sign the load: enough that none meets its hourly quota.
const AUTHORS: usize = 1000;
/// Orders of one member at the most; the quota is 64 entries an hour.
const ORDERS_EACH: usize = 60;
/// Orders of one member for one interval.
const ORDERS_PER_INTERVAL: usize = 4;
/// Load is handed over in slices of this length.
const SLICE: Duration = Duration::from_millis(50);
/// After the load ends, entries have this long to become final.
const PATIENCE: Duration = Duration::from_secs(60);

/// What load to make.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Example:
  commonwatt bench ledger --delegates 4 --seconds 10 --rate 2000")]
pub struct LedgerArgs {
    /// How many delegates, all on this machine.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=31))]
    pub delegates: u32,
    /// How long orders are handed over, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,
    /// Signed orders a second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub rate: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct LedgerFigures {
    /// Version of this object.
    pub schema_version: u32,
    /// Delegates, each a real node with libp2p on loopback and a synced database.
    pub delegates: u32,
    /// Orders handed over a second.
    pub offered_per_s: u32,
    /// Orders handed over in all.
    pub offered: u64,
    /// Of them, final at the first delegate.
    pub finalised: u64,
    /// From the first hand-over to the last decision.
    pub entries_per_s: f64,
    /// From receipt of a block's oldest entry to its durable decision, over all delegates.
    pub finality_ms: Percentiles,
    /// Blocks with entries.
    pub blocks: u64,
    /// The most memory of the process, divided by the delegates.
    pub rss_bytes: Option<u64>,
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
        bail!(
            "{} of {} orders became final: more load than this machine takes; the others found no room or were \
             overtaken by later numbers of their authors",
            figures.finalised,
            figures.offered
        );
    }
    Ok(())
}

async fn ledger(args: &LedgerArgs, folder: &Path) -> anyhow::Result<LedgerFigures> {
    let authors: Vec<SigningKey> = (0..AUTHORS).map(|number| key_of("author", number)).collect();
    let interval = Interval::parse("2016-06-13T00:00:00Z", Mtu::Min15)?;
    let identities = (0..args.delegates)
        .map(|number| Identity::create(&folder.join(format!("d{number}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let genesis = genesis(&authors, &identities, interval)?;
    let clock = Arc::new(HeldClock::new(interval.start(), 1));
    clock.run_until(interval.end());
    let started = Instant::now();
    let mut nodes: Vec<RunningNode> = Vec::new();
    for (number, identity) in identities.into_iter().enumerate() {
        let setup = NodeSetup {
            home: HomeId::new(&format!("d{number}"))?,
            data_dir: folder.join(format!("d{number}")),
            identity,
            genesis: genesis.clone(),
            clock: clock.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            peers: nodes.iter().flat_map(|node| node.addresses.clone()).collect(),
            mdns: false,
            relaying: crate::network::Relaying::default(),
            zone: Zone::UTC,
            api: ApiSettings { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..ApiSettings::default() },
            meters: MeterSetup::default(),
            root_meter: None,
            household: None,
            consensus: ConsensusSettings { min_block_interval_ms: 200, ..Default::default() },
            started,
        };
        nodes.push(start(setup).await?);
    }
    let load = orders(&genesis.chain(), &authors, interval, args);
    // The mesh is up when a first heartbeat could be decided; a second is ample on loopback.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = Instant::now();
    let offered = u64::try_from(load.len())?;
    offer(&nodes, load, args.rate).await;
    let db = nodes.first().context("there is no delegate")?.db.clone();
    let taken = wait_for(&db, offered, first).await?;
    let figures = sum_up(args, &nodes, offered, taken)?;
    for node in nodes {
        node.stop().await;
    }
    Ok(figures)
}

/// Hands the load over evenly, each entry to one of the nodes as its author's own.
async fn offer(nodes: &[RunningNode], load: Vec<Vec<u8>>, rate: u32) {
    let mut ticks = tokio::time::interval(SLICE);
    let slice = usize::try_from(rate).unwrap_or(1).div_ceil(20);
    let mut waiting = load.into_iter().enumerate();
    loop {
        ticks.tick().await;
        for _ in 0..slice {
            let Some((number, entry)) = waiting.next() else { return };
            let node = &nodes[number % nodes.len()];
            node.engine.tell(Command::Submit(entry)).await;
        }
    }
}

/// Waits until all are final, or none has become so for a while; how many are, and after how long.
async fn wait_for(db: &Path, offered: u64, first: Instant) -> anyhow::Result<(u64, Duration)> {
    let reader = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (mut seen, mut last) = (0, Instant::now());
    loop {
        let now: i64 = reader.query_row("SELECT count(*) FROM entry", [], |row| row.get(0))?;
        let now = u64::try_from(now)?;
        if now > seen {
            (seen, last) = (now, Instant::now());
        }
        if seen >= offered || last.elapsed() > PATIENCE {
            return Ok((seen, last.duration_since(first)));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn sum_up(
    args: &LedgerArgs,
    nodes: &[RunningNode],
    offered: u64,
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
    let peak = proc_figure("/proc/self/status", "VmHWM:").map(|kib| kib * 1024);
    Ok(LedgerFigures {
        schema_version: 1,
        delegates: args.delegates,
        offered_per_s: args.rate,
        offered,
        finalised,
        entries_per_s: (u32::try_from(finalised).map_or(0.0, f64::from) / took.as_secs_f64()).round(),
        finality_ms: Percentiles::of(samples),
        blocks: u64::try_from(blocks)?,
        rss_bytes: peak.map(|bytes| bytes / u64::from(args.delegates)),
        heads_equal: heads.windows(2).all(|pair| pair[0] == pair[1]),
    })
}

/// Signed orders, dealt round the authors so that none is early with its quota.
fn orders(chain: &Chain, authors: &[SigningKey], first: Interval, args: &LedgerArgs) -> Vec<Vec<u8>> {
    let wanted = usize::try_from(args.rate).unwrap_or(0) * usize::try_from(args.seconds).unwrap_or(0);
    let mut load = Vec::with_capacity(wanted.min(AUTHORS * ORDERS_EACH));
    for round in 0..ORDERS_EACH {
        for (number, key) in authors.iter().enumerate() {
            if load.len() == wanted {
                return load;
            }
            let mut interval = first.next().next();
            for _ in 0..round / ORDERS_PER_INTERVAL {
                interval = interval.next();
            }
            let order = Order {
                home: author(number),
                interval,
                side: if number % 2 == 0 { Side::Buy } else { Side::Sell },
                price: Price::new(100_000 + 10 * i64::try_from(number).unwrap_or(0)),
                quantity: WattHours::new(100),
                replaces: None,
            };
            let salt = Hash32::of(&[b"bench", &number.to_be_bytes(), &round.to_be_bytes()]).0;
            let mut short = [0; 16];
            short.copy_from_slice(&salt[..16]);
            let entry = Entry {
                signer: PublicKey::of(key),
                number: u64::try_from(round).unwrap_or(0) + 1,
                salt: Salt(short),
                body: Body::Order(order),
            };
            load.push(entry.sign(chain, key).to_bytes());
        }
    }
    load
}

fn author(number: usize) -> HomeId {
    HomeId::new(&format!("m{number:04}")).unwrap_or_else(|_| unreachable!("m and digits make an id"))
}

/// Keys of the load's authors follow from their number: they hold no money but a bench's.
fn key_of(purpose: &str, number: usize) -> SigningKey {
    SigningKey::from_bytes(&Hash32::of(&[b"bench", purpose.as_bytes(), &number.to_be_bytes()]).0)
}

fn genesis(authors: &[SigningKey], delegates: &[Identity], first: Interval) -> anyhow::Result<Genesis> {
    let root = NodeId::new("grid")?;
    let meter = |number: usize| -> anyhow::Result<MeterRegistration> {
        let serial = MeterSerial::new(&(number + 1).to_string())?;
        Ok(MeterRegistration { serial, epoch: 0, profile_hash: [0; 32], quantum: WattHours::new(1) })
    };
    let mut members = Vec::new();
    for (number, key) in authors.iter().enumerate() {
        let keys = MemberKeys {
            member: PublicKey::of(key),
            reading: PublicKey::of(&key_of("reading", number)),
            network: PublicKey::of(&key_of("network", number)),
        };
        members.push((author(number), keys, number));
    }
    for (number, identity) in delegates.iter().enumerate() {
        members.push((HomeId::new(&format!("d{number}"))?, identity.keys(), authors.len() + number));
    }
    let members = members
        .into_iter()
        .map(|(home, keys, number)| {
            let owner = home.to_string();
            let admission = Admission {
                home,
                owner,
                node: root.clone(),
                size: ledger::ConnectionSize::default(),
                keys,
                meter: meter(number)?,
            };
            Ok(GenesisMember {
                admission,
                participation: ledger::Participation::default(),
                deposit: Balance::new(1_000_000_000_000),
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let seats = delegates.iter().enumerate().map(|(number, identity)| {
        Ok(Delegate { key: identity.consensus_public(), home: HomeId::new(&format!("d{number}"))? })
    });
    let role = |name| PublicKey::of(&key_of(name, 0));
    let genesis = Genesis {
        name: "bench".to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start: first.start(),
        clock: Some(DemoClock {
            origin: first.start(),
            wall_origin: first.start(),
            speed: 1,
            assurance_every: Mtu::Min15.per_day(),
            epoch_every: Mtu::Min15.per_day(),
        }),
        due_after_ms: Mtu::Min15.ms(),
        forward: Forward::Auction,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::ZERO,
        network: vec![NodeSpec {
            id: root,
            parent: None,
            fee_up: Price::ZERO,
            fee_down: Price::ZERO,
            up: None,
            down: None,
        }],
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(1_000_000_000_000),
        },
        roles: Roles {
            operator: role("operator"),
            treasurer: role("treasurer"),
            auditor: role("auditor"),
            metering_operator: None,
        },
        root_meter: None,
        members,
        delegates: seats.collect::<anyhow::Result<Vec<_>>>()?,
        stake: ledger::Stake::Membership,
    };
    genesis.validate()?;
    Ok(genesis)
}
