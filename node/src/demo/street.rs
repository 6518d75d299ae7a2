//! Setting the street up: keys, genesis, meters, nodes; and taking it down.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use energy::{Balance, HomeId, Interval, MeterSerial, Mtu, Price, WattHours};
use ledger::codec::Encode;
use ledger::{
    Admission, Body, Caps, Delegate, DemoClock, Entry, Forward, Genesis, GenesisMember, MeterRegistration,
    PublicKey, Roles, RootMeter, TariffPoint,
};
use market::SupplierLeg;
use meter::simulator::SimulatedMeter;
use meter::{BusConfig, Endpoint, MeterConfig, Profile};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::interrupt::Interrupt;
use super::world::{self, Congestion, World};
use crate::cli::{DemoArgs, Switch};
use crate::clock::HeldClock;
use crate::config::{ApiSettings, ConsensusSettings, StorageSettings};
use crate::desk::Which;
use crate::engine::Progress;
use crate::household::device::Device;
use crate::household::plant::Simulated as Controllable;
use crate::household::{HouseholdHandle, HouseholdSetup, Past};
use crate::identity::{Identity, fresh_salt};
use crate::run::{MeterSetup, NodeSetup, RootMeterSetup, RunningNode, start};
use crate::store::export;
use crate::store::orders::OrderFate;
use crate::zone::Zone;
use agent::{Roof, Wishes};
use sim::dataset::{self, Dataset, DemoHome, QUARTERS_PER_DAY, Recording};

/// What each home paid in before the day began: 1 000 CNY, ample for a day of any home on this street.
const DEPOSIT: Balance = Balance::new(1_000_000_000_000);
/// How far the supplier's account may go below zero: 10 000 CNY.
const SUPPLIER_CREDIT: Balance = Balance::new(10_000_000_000_000);
/// The recorded local day is taken as UTC.
const RECORDED: Zone = Zone::UTC;
/// Blocks follow each other no faster than this in the demo, in ms.
const BLOCK_INTERVAL_MS: u64 = 200;
/// Serial numbers of the simulated meters.
const FIRST_SERIAL: usize = 1_000_001;
const ROOT_SERIAL: &str = "9000000";
/// Levels of assurance may be stated each hour of the demo's one day, in intervals.
const ASSURANCE_EVERY: u32 = 4;
const METER_TIMEOUT: Duration = Duration::from_millis(500);
/// From how many homes on there is an auction before delivery.
const AUCTION_FROM: u32 = 30;
/// Orders of a home of which it is known whether they are on the ledger.
const PENDING_MAX: u32 = 64;
/// Quarter-Wh of a Wh, in which simulated meters count.
const QUARTERS: u64 = 4;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running street.
pub struct Street {
    /// The chain's genesis.
    pub genesis: Genesis,
    /// The clock that all nodes share.
    pub clock: Arc<HeldClock>,
    /// The first interval of the day.
    pub first: Interval,
    /// How many intervals the recorded data lasts.
    pub intervals: usize,
    /// The homes with their nodes, delegates first.
    pub homes: Vec<Household>,
    /// The file that tells the console where the homes are.
    pub neighbourhood: PathBuf,
    /// What physically happens.
    world: Mutex<World>,
    /// The same street without agents.
    without: Mutex<World>,
    /// Whether homes with devices have agents.
    pub agents: bool,
    /// The congested feeder, if there is one.
    pub congestion: Option<Congestion>,
    /// Homes whose nodes are not started yet.
    parts: Vec<Part>,
    roles: RoleKeys,
    root: Simulated,
    stop_meters: watch::Sender<bool>,
}

/// One home: what it is, its node, its meter.
pub struct Household {
    /// From the data set.
    pub home: DemoHome,
    /// Its node.
    pub node: RunningNode,
    meter: Simulated,
}

/// A meter of the street.
struct Simulated {
    meter: SimulatedMeter,
    address: SocketAddr,
    serial: MeterSerial,
    /// Its registers, import and export.
    registers: Mutex<(WattHours, WattHours)>,
}

impl Simulated {
    /// Starts the Modbus server with the registers as they stand before the first interval.
    async fn start(
        serial: String,
        starts: (WattHours, WattHours),
        stop: &watch::Sender<bool>,
    ) -> anyhow::Result<Self> {
        let serial = MeterSerial::new(&serial)?;
        let meter = SimulatedMeter::new(serial.clone());
        meter.set(starts.0.get() * QUARTERS, starts.1.get() * QUARTERS, 0);
        let listener = TcpListener::bind(LOOPBACK).await.context("a meter cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let mut stopped = stop.subscribe();
        let server = meter.clone();
        tokio::spawn(async move {
            let shutdown = async move {
                // An error means that the sender is gone, which is a stop as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            if let Err(error) = server.serve(listener, shutdown).await {
                tracing::error!(%error, "a simulated meter stopped");
            }
        });
        Ok(Self { meter, address, serial, registers: Mutex::new(starts) })
    }

    /// Counts an interval, and shows it.
    fn count(&self, import: WattHours, export: WattHours, power_w: i64) {
        let mut registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
        registers.0 = WattHours::new(registers.0.get() + import.get());
        registers.1 = WattHours::new(registers.1.get() + export.get());
        self.meter.set(registers.0.get() * QUARTERS, registers.1.get() * QUARTERS, power_w);
    }

    /// Shows the power of the interval that runs.
    fn draw(&self, power_w: i64) {
        self.count(WattHours::ZERO, WattHours::ZERO, power_w);
    }

    fn config(&self) -> MeterConfig {
        let profile = demo_profile();
        let bus = BusConfig { timeout: METER_TIMEOUT, ..BusConfig::new(Endpoint::Tcp(self.address.into())) };
        MeterConfig { bus, unit: 1, profile, nameplate: None }
    }
}

/// The simulator speaks the SDM630's registers.
fn demo_profile() -> Arc<Profile> {
    Arc::clone(&Profile::builtin()[0])
}

/// What a home needs before its node can start.
struct Part {
    home: DemoHome,
    identity: Identity,
    meter: Simulated,
    data_dir: PathBuf,
    /// What its connection carries.
    size: ledger::ConnectionSize,
    /// What it knows of the days before.
    past: Past,
}

impl Part {
    async fn prepare(
        (position, home): (usize, DemoHome),
        (physical, past): (&sim::home::Household, Past),
        folder: &Path,
        stop: &watch::Sender<bool>,
    ) -> anyhow::Result<Self> {
        let serial = (FIRST_SERIAL + position).to_string();
        let starts = (home.import_start, home.export_start);
        let meter = Simulated::start(serial, starts, stop).await?;
        let data_dir = folder.join(home.id.as_str());
        let identity = Identity::create(&data_dir)?;
        let size = ledger::ConnectionSize { import: physical.connection, export: physical.connection };
        Ok(Self { home, identity, meter, data_dir, size, past })
    }
}

impl Street {
    /// Sets up keys, genesis and meters; no node runs yet.
    pub async fn prepare(
        (dataset, recording): (&Dataset, &Recording),
        args: &DemoArgs,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let homes = dataset.homes_for_demo(usize::try_from(args.homes)?)?;
        let first = world::first_of_demo(recording, season_of(args).first_interval());
        let (world, pasts) = World::new(recording, &homes, first)?;
        let (stop_meters, _) = watch::channel(false);
        let zero = (WattHours::ZERO, WattHours::ZERO);
        let root = Simulated::start(ROOT_SERIAL.to_owned(), zero, &stop_meters).await?;
        let mut parts = Vec::new();
        for (position, (home, past)) in homes.into_iter().zip(pasts).enumerate() {
            let physical = world.household(position).context("a home without its description")?;
            let home = (position, home);
            parts.push(Part::prepare(home, (physical, past), folder, &stop_meters).await?);
        }
        let roles = RoleKeys::create(&folder.join("roles"))?;
        let genesis = genesis(dataset, args, first, &parts, &root, &roles)?;
        std::fs::write(folder.join("genesis.toml"), crate::genesis_file::render(&genesis))?;
        let passed = usize::try_from(first.index() - recording.first.index())?;
        Ok(Self {
            genesis,
            clock: Arc::new(HeldClock::new(first.start(), args.speed)),
            first,
            intervals: recording.intervals - passed,
            homes: Vec::new(),
            neighbourhood: folder.join("neighbourhood.json"),
            without: Mutex::new(world.without_agents()),
            agents: args.agents == Switch::On,
            congestion: None,
            world: Mutex::new(world),
            parts,
            roles,
            root,
            stop_meters,
        })
    }

    /// Starts one node after the other.
    pub async fn open(
        &mut self,
        args: &DemoArgs,
        interrupt: &Interrupt,
        started: Instant,
    ) -> anyhow::Result<()> {
        for part in std::mem::take(&mut self.parts) {
            if interrupt.is_set() {
                bail!("interrupted while the street was starting; nothing was settled");
            }
            self.start_node(part, args.port_base, started).await?;
        }
        if args.stress {
            self.congest()?;
        }
        self.write_neighbourhood()
    }

    /// The operator lowers what connections of one feeder may carry, for the demo's day.
    fn congest(&mut self) -> anyhow::Result<()> {
        let congestion = lock(&self.world).congestion();
        let engine = &self.homes.first().context("there is no node")?.node.engine;
        let (chain, key) = (self.genesis.chain(), &self.roles.operator);
        for (number, cap) in (1..).zip(&congestion.caps) {
            let body = Body::ConnectionCap {
                home: cap.home.clone(),
                // A cap is for intervals that have not begun.
                from: self.first.next(),
                points: vec![cap.carries; QUARTERS_PER_DAY],
            };
            let entry = Entry { signer: PublicKey::of(key), number, salt: fresh_salt()?, body };
            if !engine.submit(entry.sign(&chain, key).to_bytes()) {
                bail!("the first node does not take the operator's caps");
            }
        }
        self.congestion = Some(congestion);
        Ok(())
    }

    /// Starts the next home's node. The first one reads the root meter as well.
    async fn start_node(
        &mut self,
        part: Part,
        port_base: Option<u16>,
        started: Instant,
    ) -> anyhow::Result<()> {
        let Part { home, identity, meter, data_dir, past, .. } = part;
        let position = self.homes.len();
        let household = self.household_of(position, past);
        let port = port_base.map_or(0, |base| base.saturating_add(u16::try_from(position).unwrap_or(0)));
        let root = RootMeterSetup { meter: self.root.config(), key: self.roles.root_meter.clone() };
        let delegates = self.homes.iter().take(self.genesis.delegates.len());
        let setup = NodeSetup {
            home: home.id.clone(),
            data_dir,
            identity,
            genesis: self.genesis.clone(),
            clock: self.clock.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            // Each node dials the delegates that stand already; members tell each other of the rest.
            peers: delegates.flat_map(|other| other.node.addresses.clone()).collect(),
            mdns: false,
            relaying: crate::network::Relaying::default(),
            zone: RECORDED,
            api: ApiSettings {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                ..ApiSettings::default()
            },
            meters: MeterSetup { meter: Some(meter.config()), ..MeterSetup::default() },
            root_meter: (position == 0).then_some(root),
            household,
            consensus: ConsensusSettings { min_block_interval_ms: BLOCK_INTERVAL_MS, ..Default::default() },
            storage: StorageSettings::default(),
            started,
        };
        let node = start(setup).await.with_context(|| format!("the node of {} cannot start", home.id))?;
        self.homes.push(Household { home, node, meter });
        Ok(())
    }

    /// The agent of the home at `position`, if it has devices and there are to be agents.
    fn household_of(&self, position: usize, past: Past) -> Option<HouseholdSetup> {
        let world = lock(&self.world);
        let household = world.household(position).filter(|home| self.agents && home.is_flexible())?;
        let peak_w = household.home.pv_w + household.home.battery_pv_w;
        let devices = Controllable::all(&world.plant(position)?);
        Some(HouseholdSetup {
            devices: household.devices,
            wishes: Wishes::default(),
            roof: (peak_w > 0).then_some(Roof { peak_w, site: None }),
            alike: Some(world.alike()),
            zone: RECORDED,
            controlled: devices.into_iter().map(|device| Box::new(device) as Box<dyn Device>).collect(),
            trial: None,
            past,
        })
    }

    /// How many homes have devices that an agent could plan for.
    #[must_use]
    pub fn flexible(&self) -> usize {
        lock(&self.world).flexible()
    }

    /// An interval passes: every meter shows its end.
    pub fn latch(&self) {
        let mut world = lock(&self.world);
        let steps = world.live();
        for (home, step) in self.homes.iter().zip(&steps) {
            home.meter.count(step.import, step.export, 0);
        }
        let (import, export) = world.at_root(&steps);
        self.root.count(import, export, 0);
        lock(&self.without).live();
    }

    /// Every meter shows what its home draws now.
    pub fn draw(&self) {
        let power = lock(&self.world).power_w();
        self.homes.iter().zip(&power).for_each(|(home, power)| home.meter.draw(*power));
        let sum: i64 = power.iter().sum();
        self.root.draw(sum + sum.abs() / 50);
    }

    /// True once every agent has planned `interval`.
    #[must_use]
    pub fn is_planned(&self, interval: Interval) -> bool {
        self.agents()
            .all(|agent| agent.view().borrow().as_ref().is_some_and(|view| view.interval >= interval))
    }

    fn agents(&self) -> impl Iterator<Item = &HouseholdHandle> {
        self.homes.iter().filter_map(|home| home.node.household.as_ref())
    }

    /// True once every order that was signed is on the ledger, or never will be.
    pub async fn is_recorded(&self) -> bool {
        for home in self.homes.iter().filter(|home| home.node.household.is_some()) {
            let kept = home.node.desk.entries(Which::Newest(PENDING_MAX)).await;
            if kept.is_ok_and(|kept| kept.iter().any(|entry| entry.fate == OrderFate::Pending)) {
                return false;
            }
        }
        true
    }

    /// How far every node is.
    pub fn progress(&self) -> impl Iterator<Item = Progress> + '_ {
        self.homes.iter().map(|home| home.node.progress.borrow().clone())
    }

    /// Where the console finds every home; readable by this user only, since it holds the tokens.
    fn write_neighbourhood(&self) -> anyhow::Result<()> {
        let homes: Vec<_> = self
            .homes
            .iter()
            .map(|home| {
                let url = format!("http://{}", home.node.api);
                serde_json::json!({ "home": home.home.id.as_str(), "url": url, "token": home.node.token })
            })
            .collect();
        crate::identity::write_private(
            &self.neighbourhood,
            serde_json::to_string_pretty(&homes)?.as_bytes(),
        )?;
        Ok(())
    }

    /// Stops every node and every meter, and keeps what is needed to sum the day up.
    pub async fn stop(self) -> anyhow::Result<Stopped> {
        let (mut nodes, mut halted, mut stopping) = (Vec::new(), Vec::new(), Vec::new());
        for household in self.homes {
            let progress = household.node.progress.borrow().clone();
            if let Some(reason) = progress.halted {
                halted.push(format!("{}: {reason}", household.home.id));
            }
            nodes.push((household.home.id.clone(), household.node.db.clone()));
            stopping.push(household.node.stop());
        }
        futures::future::join_all(stopping).await;
        self.stop_meters.send_replace(true);
        let unlock = |world: Mutex<World>| world.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Stopped {
            genesis: self.genesis,
            first: self.first,
            nodes,
            halted,
            agents: self.agents,
            world: unlock(self.world),
            without: unlock(self.without),
        })
    }
}

/// A street at rest: its databases.
pub struct Stopped {
    /// The chain's genesis.
    pub genesis: Genesis,
    /// The first interval of the day.
    pub first: Interval,
    /// Every home and where its ledger is, delegates first.
    pub nodes: Vec<(HomeId, PathBuf)>,
    /// Nodes that stopped by themselves, and why.
    pub halted: Vec<String>,
    /// Whether homes with devices had agents.
    pub agents: bool,
    /// What physically happened.
    pub world: World,
    /// The same without agents.
    pub without: World,
}

impl Stopped {
    /// Writes the files from which anybody can recompute the day.
    pub fn export(&self, target: &Path, intervals: usize) -> anyhow::Result<()> {
        let (_, db) = self.nodes.first().context("there is no node to export from")?;
        let count = intervals.min(QUARTERS_PER_DAY);
        export::export(db, &self.genesis, target, self.first, count)
            .with_context(|| format!("the day cannot be exported to {}", target.display()))?;
        Ok(())
    }
}

/// Keys of those who answer for the demo's community; kept beside the homes, since nobody else plays these roles.
struct RoleKeys {
    operator: ed25519_dalek::SigningKey,
    treasurer: PublicKey,
    auditor: PublicKey,
    root_meter: ed25519_dalek::SigningKey,
}

impl RoleKeys {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        crate::identity::make_private_dir(folder)?;
        let key = |name: &str| crate::identity::load_or_create_key(&folder.join(name));
        Ok(Self {
            operator: key("operator.key")?,
            treasurer: PublicKey::of(&key("treasurer.key")?),
            auditor: PublicKey::of(&key("auditor.key")?),
            root_meter: key("root-meter.key")?,
        })
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The recorded season.
pub fn season_of(args: &DemoArgs) -> dataset::Season {
    match args.season {
        crate::cli::Season::Summer => dataset::Season::Summer,
        crate::cli::Season::Winter => dataset::Season::Winter,
    }
}

/// A single order could set the price of a small community's auction.
fn forward_of(args: &DemoArgs) -> Forward {
    match (args.agents, args.homes) {
        (Switch::Off, _) => Forward::Off,
        (Switch::On, ..AUCTION_FROM) => Forward::Posted,
        (Switch::On, _) => Forward::Auction,
    }
}

fn genesis(
    dataset: &Dataset,
    args: &DemoArgs,
    first: Interval,
    parts: &[Part],
    root: &Simulated,
    roles: &RoleKeys,
) -> anyhow::Result<Genesis> {
    let profile = demo_profile();
    let registration = |serial: &MeterSerial| MeterRegistration {
        serial: serial.clone(),
        epoch: 0,
        profile_hash: profile.hash(),
        quantum: profile.quantum(),
    };
    let member = |part: &Part| GenesisMember {
        admission: Admission {
            home: part.home.id.clone(),
            owner: part.home.id.to_string(),
            node: part.home.node.clone(),
            size: part.size,
            keys: part.identity.keys(),
            meter: registration(&part.meter.serial),
        },
        participation: ledger::Participation::default(),
        deposit: DEPOSIT,
    };
    let seats = if parts.len() <= 8 { 4 } else { 7 };
    let genesis = Genesis {
        name: "SimBench semi-urban street".to_owned(),
        mtu: Mtu::Min15,
        currency: dataset::CURRENCY.to_owned(),
        start: first.start(),
        // The demo's clock is handed to its nodes; these terms say what it is and keep the chain out of `run`'s way.
        clock: Some(DemoClock {
            origin: first.start(),
            wall_origin: first.start(),
            speed: args.speed,
            assurance_every: ASSURANCE_EVERY,
            epoch_every: Mtu::Min15.per_day(),
        }),
        due_after_ms: Mtu::Min15.ms(),
        forward: forward_of(args),
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: SUPPLIER_CREDIT,
        network: dataset.network(),
        tariff: TariffPoint { import_price: dataset::IMPORT_PRICE, export_price: dataset::EXPORT_PRICE },
        caps: Caps { price_min: Price::ZERO, price_max: Price::new(1_000_000), transfer_max: DEPOSIT },
        roles: Roles {
            operator: PublicKey::of(&roles.operator),
            treasurer: roles.treasurer,
            auditor: roles.auditor,
            trustee: None,
            metering_operator: None,
        },
        root_meter: Some(RootMeter {
            key: PublicKey::of(&roles.root_meter),
            serial: root.serial.clone(),
            profile_hash: profile.hash(),
            quantum: profile.quantum(),
        }),
        members: parts.iter().map(member).collect(),
        delegates: parts
            .iter()
            .take(seats)
            .map(|part| Delegate {
                key: part.identity.consensus_public().unwrap_or(PublicKey([0; 32])),
                home: part.home.id.clone(),
            })
            .collect(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    };
    genesis.validate()?;
    Ok(genesis)
}
