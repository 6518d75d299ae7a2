//! Setting the street up: keys, genesis, meters, nodes; and taking it down.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use energy::{Balance, HomeId, Interval, MeterSerial, Mtu, Price, WattHours};
use ledger::{
    Admission, Caps, Delegate, DemoClock, Forward, Genesis, GenesisMember, MeterRegistration, PublicKey,
    Roles, RootMeter, TariffPoint,
};
use market::SupplierLeg;
use meter::simulator::SimulatedMeter;
use meter::{BusConfig, Endpoint, MeterConfig, Profile};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::dataset::{self, Dataset, DemoHome, LoadProfile, MeterState, QUARTERS_PER_DAY};
use super::interrupt::Interrupt;
use crate::cli::DemoArgs;
use crate::clock::HeldClock;
use crate::config::{ApiSettings, ConsensusSettings};
use crate::engine::Progress;
use crate::identity::Identity;
use crate::run::{MeterSetup, NodeSetup, RootMeterSetup, RunningNode, start};
use crate::store::export;

/// What each home paid in before the day began: 1 000 CNY, ample for a day of any home on this street.
const DEPOSIT: Balance = Balance::new(1_000_000_000_000);
/// How far the supplier's account may go below zero: 10 000 CNY.
const SUPPLIER_CREDIT: Balance = Balance::new(10_000_000_000_000);
/// Blocks follow each other no faster than this in the demo, in ms.
const BLOCK_INTERVAL_MS: u64 = 200;
/// Serial numbers of the simulated meters.
const FIRST_SERIAL: usize = 1_000_001;
const ROOT_SERIAL: &str = "9000000";
/// Levels of assurance may be stated each hour of the demo's one day, in intervals.
const ASSURANCE_EVERY: u32 = 4;
const METER_TIMEOUT: Duration = Duration::from_millis(500);
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

/// A meter that replays a profile.
struct Simulated {
    meter: SimulatedMeter,
    address: SocketAddr,
    serial: MeterSerial,
    states: Vec<MeterState>,
}

impl Simulated {
    /// Starts the Modbus server with the registers as they stand before the first interval.
    async fn start(
        serial: String,
        profile: &LoadProfile,
        starts: (WattHours, WattHours),
        stop: &watch::Sender<bool>,
    ) -> anyhow::Result<Self> {
        let serial = MeterSerial::new(&serial)?;
        let meter = SimulatedMeter::new(serial.clone());
        let states: Vec<_> = profile.meter(starts.0, starts.1).collect();
        let power = states.first().map_or(0, |state| state.power_w);
        meter.set(starts.0.get() * 4, starts.1.get() * 4, power);
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
        Ok(Self { meter, address, serial, states })
    }

    /// Shows the registers of the end of the `position`-th interval, and the power of the one that follows.
    fn latch(&self, position: usize) {
        let Some(state) = self.states.get(position) else { return };
        let power = self.states.get(position + 1).map_or(0, |next| next.power_w);
        self.meter.set(state.import_quarter_wh, state.export_quarter_wh, power);
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
}

impl Part {
    async fn prepare(
        dataset: &Dataset,
        season: dataset::Season,
        (position, home): (usize, DemoHome),
        folder: &Path,
        stop: &watch::Sender<bool>,
    ) -> anyhow::Result<Self> {
        let profile = dataset.profile(season, &home.id)?;
        let serial = (FIRST_SERIAL + position).to_string();
        let starts = (home.import_start, home.export_start);
        let meter = Simulated::start(serial, &profile, starts, stop).await?;
        let data_dir = folder.join(home.id.as_str());
        let identity = Identity::create(&data_dir)?;
        Ok(Self { home, identity, meter, data_dir })
    }
}

impl Street {
    /// Sets up keys, genesis and meters; no node runs yet.
    pub async fn prepare(dataset: &Dataset, args: &DemoArgs, folder: &Path) -> anyhow::Result<Self> {
        let season = match args.season {
            crate::cli::Season::Summer => dataset::Season::Summer,
            crate::cli::Season::Winter => dataset::Season::Winter,
        };
        let homes = dataset.homes_for_demo(usize::try_from(args.homes)?)?;
        let (stop_meters, _) = watch::channel(false);
        let profile = dataset.root_meter(season, &homes)?;
        let zero = (WattHours::ZERO, WattHours::ZERO);
        let root = Simulated::start(ROOT_SERIAL.to_owned(), &profile, zero, &stop_meters).await?;
        let mut parts = Vec::new();
        for home in homes.into_iter().enumerate() {
            parts.push(Part::prepare(dataset, season, home, folder, &stop_meters).await?);
        }
        let roles = RoleKeys::create(&folder.join("roles"))?;
        let first = season.first_interval();
        let genesis = genesis(dataset, args, first, &parts, &root, &roles)?;
        std::fs::write(folder.join("genesis.toml"), crate::genesis_file::render(&genesis))?;
        Ok(Self {
            genesis,
            clock: Arc::new(HeldClock::new(first.start(), args.speed)),
            first,
            intervals: root.states.len(),
            homes: Vec::new(),
            neighbourhood: folder.join("neighbourhood.json"),
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
        self.write_neighbourhood()
    }

    /// Starts the next home's node. The first one reads the root meter as well.
    async fn start_node(
        &mut self,
        part: Part,
        port_base: Option<u16>,
        started: Instant,
    ) -> anyhow::Result<()> {
        let Part { home, identity, meter, data_dir } = part;
        let position = self.homes.len();
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
            api: ApiSettings {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                ..ApiSettings::default()
            },
            meters: MeterSetup { meter: Some(meter.config()), ..MeterSetup::default() },
            root_meter: (position == 0).then_some(root),
            consensus: ConsensusSettings { min_block_interval_ms: BLOCK_INTERVAL_MS, ..Default::default() },
            started,
        };
        let node = start(setup).await.with_context(|| format!("the node of {} cannot start", home.id))?;
        self.homes.push(Household { home, node, meter });
        Ok(())
    }

    /// Every meter shows the end of the `position`-th interval of the day.
    pub fn latch(&self, position: usize) {
        self.root.latch(position);
        self.homes.iter().for_each(|home| home.meter.latch(position));
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
        Ok(Stopped { genesis: self.genesis, first: self.first, nodes, halted })
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
    operator: PublicKey,
    treasurer: PublicKey,
    auditor: PublicKey,
    root_meter: ed25519_dalek::SigningKey,
}

impl RoleKeys {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        crate::identity::make_private_dir(folder)?;
        let key = |name: &str| crate::identity::load_or_create_key(&folder.join(name));
        Ok(Self {
            operator: PublicKey::of(&key("operator.key")?),
            treasurer: PublicKey::of(&key("treasurer.key")?),
            auditor: PublicKey::of(&key("auditor.key")?),
            root_meter: key("root-meter.key")?,
        })
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
            keys: part.identity.keys(),
            meter: registration(&part.meter.serial),
        },
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
        }),
        due_after_ms: Mtu::Min15.ms(),
        forward: Forward::Off,
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: SUPPLIER_CREDIT,
        network: dataset.network(),
        tariff: TariffPoint { import_price: dataset::IMPORT_PRICE, export_price: dataset::EXPORT_PRICE },
        caps: Caps { price_min: Price::ZERO, price_max: Price::new(1_000_000), transfer_max: DEPOSIT },
        roles: Roles {
            operator: roles.operator,
            treasurer: roles.treasurer,
            auditor: roles.auditor,
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
            .map(|part| Delegate { key: part.identity.consensus_public(), home: part.home.id.clone() })
            .collect(),
    };
    genesis.validate()?;
    Ok(genesis)
}
