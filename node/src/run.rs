//! Putting a node together: network, store, engine, meter, API; and taking it apart again in order.

mod stored;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use ed25519_dalek::SigningKey;
use energy::HomeId;
use ledger::{Body, Chain, Genesis, Ledger, PublicKey};
use libp2p::Multiaddr;
use meter::assurance::PvDeclaration;
use meter::{Catalog, CounterLimits, Meter, MeterConfig, Profile};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::assurance::{Assessor, Gatherer};
use crate::clock::{Clock, SystemClock};
use crate::config::meters::{FurtherMeter, LocationSettings, MeterSettings};
use crate::config::{ApiSettings, Config, ConsensusSettings, StorageSettings};
use crate::desk::{self, DeskHandle, DeskParts};
use crate::engine::{Command, EngineHandle, Progress};
use crate::follow::Giving;
use crate::household::{self, HouseholdHandle, HouseholdParts, HouseholdSetup, View};
use crate::http::{self, About, Head, HttpState, Language, Live, TokenHash};
use crate::identity::Identity;
use crate::intake::{Intake, lane_of};
use crate::joining::Giver;
use crate::metering::{self, Fate, MeterOwner, Metering, MeteringParts, OnLedger, Shown};
use crate::meters::{self, FurtherMeterSetup, MeterPanel};
use crate::network::{self, NetworkConfig, NetworkEvent, NetworkHandle, Relaying};
use crate::store::household::HouseholdDb;
use crate::store::log_file::DataLock;
use crate::zone::Zone;
use stored::{Stored, start_engine};

/// Fates of entries that wait for a meter's task at the most.
const FATES_MAX: usize = 1024;
/// Entries besides readings that wait for a meter's task at the most: one a day, and the statements of one day.
const BESIDES_MAX: usize = 32;
/// Entries that wait for the engine from the API at the most.
const SUBMIT_MAX: usize = 256;
/// The most a home's connection carries unless configured, W: three phases of 63 A at 230 V are 43.5 kW, the largest that
/// is metered directly in most homes.
const HOME_POWER_MAX_W: u64 = 45_000;
/// How long a node waits before it starts anew after a recovery.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often the list of peers is brought up to date.
const PEERS_EVERY: Duration = Duration::from_secs(2);

/// Everything a node is made of.
pub struct NodeSetup {
    /// The home it serves.
    pub home: HomeId,
    /// Folder of its databases and keys.
    pub data_dir: PathBuf,
    /// Its keys.
    pub identity: Identity,
    /// The chain's genesis.
    pub genesis: Genesis,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it listens for peers.
    pub listen: Vec<Multiaddr>,
    /// Peers it dials and keeps.
    pub peers: Vec<Multiaddr>,
    /// Whether it looks for members by multicast.
    pub mdns: bool,
    /// Through whom it is reached where nobody can dial it, and whether it is a relay itself.
    pub relaying: Relaying,
    /// Where the home's clocks are.
    pub zone: Zone,
    /// Where and how it serves the API.
    pub api: ApiSettings,
    /// The home's meters.
    pub meters: MeterSetup,
    /// The meter at the transformer, if this node reads it.
    pub root_meter: Option<RootMeterSetup>,
    /// The household's agent, where there is anything to plan.
    pub household: Option<HouseholdSetup>,
    /// Pace and timeouts.
    pub consensus: ConsensusSettings,
    /// How long what is kept.
    pub storage: StorageSettings,
    /// Where the monotonic wall clock counts from.
    pub started: Instant,
}

/// What is known of a home's meters, and of what stands behind them.
#[derive(Debug, Default)]
pub struct MeterSetup {
    /// The one at the connection point; `None`: this node has none to read.
    pub meter: Option<MeterConfig>,
    /// The most the connection carries, W: the main fuse. `None`: 45 kW, or what the profile allows if that is less.
    pub power_max_w: Option<u64>,
    /// Further ones.
    pub further: Vec<FurtherMeterSetup>,
    /// The home's solar panels, as it declares them.
    pub pv: Option<PvDeclaration>,
    /// Where the community is: lets the node at the transformer hold exports against the sun.
    pub place: Option<meter::assurance::Place>,
    /// The device profiles that are known.
    pub catalog: Catalog,
}

impl MeterSetup {
    fn of(config: &Config) -> anyhow::Result<Self> {
        let further = |further: &FurtherMeter| FurtherMeterSetup {
            name: further.name.clone(),
            role: further.role,
            meter: further.meter.meter(),
        };
        let place =
            |location: LocationSettings| meter::assurance::Place::new(location.latitude, location.longitude);
        Ok(Self {
            meter: config.meter.as_ref().map(MeterSettings::meter),
            power_max_w: config.meter.as_ref().and_then(|meter| meter.power_max_w),
            further: config.meters.iter().map(further).collect(),
            pv: config.pv.map(|pv| PvDeclaration { peak_w: pv.peak_w, storage: pv.storage }),
            place: config.location.map(place).transpose()?,
            catalog: config.catalog.clone(),
        })
    }
}

/// The meter at the transformer.
pub struct RootMeterSetup {
    /// How it is reached.
    pub meter: MeterConfig,
    /// Signs its readings.
    pub key: SigningKey,
}

/// A node that runs.
pub struct RunningNode {
    /// Where its API listens.
    pub api: SocketAddr,
    /// Opens the API.
    pub token: String,
    /// Where peers reach it, with its peer id.
    pub addresses: Vec<Multiaddr>,
    /// How far it is.
    pub progress: watch::Receiver<Progress>,
    /// Its ledger database.
    pub db: PathBuf,
    /// Takes entries of its own.
    pub engine: EngineHandle,
    /// Signs its orders.
    pub desk: DeskHandle,
    /// The household's agent, if it has one.
    pub household: Option<HouseholdHandle>,
    thread: JoinHandle<()>,
    network: NetworkHandle,
    stop_api: oneshot::Sender<()>,
    api_done: tokio::task::JoinHandle<()>,
    _lock: DataLock,
}

impl RunningNode {
    /// Stops in order: devices are left to themselves, the engine marks its log as cleanly ended, then peers and browsers
    /// are let go.
    pub async fn stop(self) {
        if let Some(household) = self.household {
            household.stop().await;
        }
        self.engine.tell(Command::Stop).await;
        let thread = self.thread;
        let ended = tokio::task::spawn_blocking(move || thread.join());
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::error!("the engine did not end cleanly");
        }
        self.network.shutdown().await;
        // The receiver is gone only if the API has ended already.
        let _ = self.stop_api.send(());
        if let Err(error) = self.api_done.await {
            tracing::error!(%error, "the API did not end cleanly");
        }
    }
}

/// Starts a node and returns when it listens.
///
/// # Errors
/// What could not be opened, bound or started, and why.
pub async fn start(mut setup: NodeSetup) -> anyhow::Result<RunningNode> {
    let lock = DataLock::acquire(&setup.data_dir)?;
    let mut stored = Stored::open(&setup)?;
    // Both listen before anything runs, so that a port in use leaves nothing half started behind.
    let api = bind_api(&setup).await?;
    let (network, mut events) = start_network(&setup, &stored.ledger).await?;
    let connected = stored.begin(&setup, &network, &mut events).await?;
    let chain = *stored.ledger.chain();
    note_membership(&setup, &stored.ledger);
    let live = live_of(&setup, &stored.ledger);
    let (home_fates, home_inbox) = mpsc::channel(FATES_MAX);
    let (root_fates, root_inbox) = mpsc::channel(FATES_MAX);
    let fates = fates_of(&setup, home_fates, root_fates);
    let ledger = stored.ledger.clone();
    let db = setup.data_dir.join("ledger.db");
    let (engine, progress, thread) = start_engine(&setup, stored, (network.clone(), live.clone(), fates))?;
    let intake = Intake::start(chain, &engine, &network)?;
    let giving = Giving::new(&db, &setup.genesis, live.clone());
    let giver = Giver::new(&db, &setup.genesis, giving.clone());
    tokio::spawn(forward_events((connected, events), intake, (giver, giving)));
    let addresses = addresses_of(&network, &setup.identity)?;
    let wiring = MeterWiring { setup: &setup, chain, ledger: &ledger, engine: &engine, live: &live };
    wiring.start(home_inbox, root_inbox)?;
    tokio::spawn(show_peers(network.clone(), ledger.clone(), live.clone()));
    let token = setup.identity.api_token().to_owned();
    let desk = start_desk(&setup, &chain, engine.clone(), progress.clone())?;
    let household = match setup.household.take() {
        Some(household) => {
            let parts = HouseholdParts {
                home: setup.home.clone(),
                key: setup.identity.member().clone(),
                clock: setup.clock.clone(),
                engine: engine.clone(),
                progress: progress.clone(),
                desk: desk.clone(),
                database: db.clone(),
                store: HouseholdDb::open(&setup.data_dir.join("household.db"), &chain)?,
                live: live.clone(),
                ledger,
            };
            Some(household::start(household, parts).await?)
        }
        None => None,
    };
    let view = household.as_ref().map(HouseholdHandle::view);
    let (api, stop_api, api_done) = start_api(&setup, api, live, (engine.clone(), desk.clone(), view))?;
    Ok(RunningNode {
        api,
        token,
        addresses,
        progress,
        db,
        engine,
        desk,
        household,
        thread,
        network,
        stop_api,
        api_done,
        _lock: lock,
    })
}

/// Says whether this device's keys are those that the ledger has for the home. A home that was admitted, or changed its keys,
/// after the last block here learns that only with the blocks it fetches, so it starts all the same.
fn note_membership(setup: &NodeSetup, ledger: &Ledger) {
    let (home, height) = (&setup.home, ledger.height());
    match ledger.member(home).map(|member| member.admission.keys) {
        Some(keys) if keys == setup.identity.keys() => {}
        Some(_) => tracing::warn!(
            %home, height,
            "the ledger up to this block has other keys for this home: others speak to this node once the ledger has its keys"
        ),
        None => tracing::warn!(
            %home, height,
            "this home is no member in the ledger up to this block: others speak to this node once it is admitted"
        ),
    }
}

fn live_of(setup: &NodeSetup, ledger: &Ledger) -> Arc<Live> {
    let clock = setup.clock.clone();
    let live = Live::new(About {
        name: setup.genesis.name.clone(),
        home: setup.home.clone(),
        chain: ledger.chain().id.0,
        currency: setup.genesis.currency.clone(),
        mtu: setup.genesis.mtu,
        speed: clock.speed(),
        market_time: Box::new(move || clock.market()),
    });
    live.set_head(Head {
        height: ledger.height(),
        block_id: ledger.head().0.0,
        time: ledger.head_time(),
        round: 0,
    });
    if setup.meters.meter.is_none() {
        live.set_meter(api::MeterStatus { state: api::MeterCondition::Absent, detail: String::new() });
    }
    live
}

async fn start_network(
    setup: &NodeSetup,
    ledger: &Ledger,
) -> anyhow::Result<(NetworkHandle, mpsc::Receiver<NetworkEvent>)> {
    let config = NetworkConfig {
        key: setup.identity.network().clone(),
        chain: ledger.chain().id,
        listen: setup.listen.clone(),
        peers: setup.peers.clone(),
        members: member_keys(ledger),
        mdns: setup.mdns,
        entries: !ledger.has_followers(),
        lane_of,
        relaying: setup.relaying.clone(),
    };
    Ok(network::spawn(config).await?)
}

fn member_keys(ledger: &Ledger) -> Vec<PublicKey> {
    ledger.members().iter().map(|(_, member)| member.admission.keys.network).collect()
}

fn addresses_of(network: &NetworkHandle, identity: &Identity) -> anyhow::Result<Vec<Multiaddr>> {
    let id =
        network::peer_id_of(&PublicKey::of(identity.network())).context("the network key has no peer id")?;
    Ok(network.listen_addresses().into_iter().filter_map(|address| address.with_p2p(id).ok()).collect())
}

fn fates_of(
    setup: &NodeSetup,
    home: mpsc::Sender<Fate>,
    root: mpsc::Sender<Fate>,
) -> Vec<(PublicKey, mpsc::Sender<Fate>)> {
    let mut fates = Vec::new();
    if setup.meters.meter.is_some() {
        fates.push((PublicKey::of(setup.identity.reading()), home));
    }
    if let Some(meter) = &setup.root_meter {
        fates.push((PublicKey::of(&meter.key), root));
    }
    fates
}

/// What a node's meters are started with.
struct MeterWiring<'a> {
    setup: &'a NodeSetup,
    chain: Chain,
    ledger: &'a Ledger,
    engine: &'a EngineHandle,
    live: &'a Arc<Live>,
}

impl MeterWiring<'_> {
    /// Starts the tasks of the home's meters and of the root meter, as far as this node reads them.
    fn start(
        &self,
        home_inbox: mpsc::Receiver<Fate>,
        root_inbox: mpsc::Receiver<Fate>,
    ) -> anyhow::Result<()> {
        self.setup.clock.saw_block(self.ledger.head_time(), false);
        let panel = MeterPanel::new(self.live.clone());
        if let Some(meter) = &self.setup.meters.meter {
            self.start_home_meter(meter, &panel, home_inbox)?;
        }
        meters::start_further(&panel, &self.settled(), &self.setup.meters.further);
        if let Some(root) = &self.setup.root_meter {
            self.start_root_meter(root, &panel, root_inbox)?;
        }
        Ok(())
    }

    fn start_home_meter(
        &self,
        meter: &MeterConfig,
        panel: &Arc<MeterPanel>,
        fates: mpsc::Receiver<Fate>,
    ) -> anyhow::Result<()> {
        let setup = self.setup;
        let member = self.ledger.member(&setup.home);
        let owner = MeterOwner {
            home: Some(setup.home.clone()),
            key: setup.identity.reading().clone(),
            registered: member.map(|member| metering::registered(&member.admission.meter)),
        };
        let (besides, inbox) = mpsc::channel(BESIDES_MAX);
        let gatherer = Gatherer::new(
            setup.home.clone(),
            setup.meters.pv,
            setup.clock.clone(),
            panel.clone(),
            (setup.genesis.mtu, self.live_every(meter)),
            besides,
        );
        let shown =
            Shown { live: Some(self.live.clone()), panel: panel.clone(), place: panel.add_grid(meter) };
        let power_max_w = setup.meters.power_max_w.unwrap_or_else(|| home_power_max_w(&meter.profile));
        let parts = self.parts(owner, meter, power_max_w);
        let parts = MeteringParts { shown: Some(shown), gatherer: Some(gatherer), ..parts };
        self.spawn(parts, "journal.db", (fates, inbox))
    }

    fn start_root_meter(
        &self,
        root: &RootMeterSetup,
        panel: &Arc<MeterPanel>,
        fates: mpsc::Receiver<Fate>,
    ) -> anyhow::Result<()> {
        let registered = self.ledger.root_meter().map(metering::registered);
        let owner = MeterOwner { home: None, key: root.key.clone(), registered };
        let (entries, inbox) = mpsc::channel(BESIDES_MAX);
        let assessor = Assessor {
            database: self.setup.data_dir.join("ledger.db"),
            engine: self.engine.clone(),
            clock: self.setup.clock.clone(),
            place: self.setup.meters.place,
            catalog: self.setup.meters.catalog.clone(),
            entries,
            live: self.live.clone(),
        };
        tokio::spawn(assessor.run());
        let shown = Shown { live: None, panel: panel.clone(), place: panel.add_root(&root.meter) };
        let parts = self.parts(owner, &root.meter, root.meter.profile.power_max_w());
        let parts = MeteringParts { shown: Some(shown), ..parts };
        self.spawn(parts, "root-journal.db", (fates, inbox))
    }

    /// The meters that are settled on.
    fn settled(&self) -> Vec<&MeterConfig> {
        let root = self.setup.root_meter.iter().map(|root| &root.meter);
        self.setup.meters.meter.iter().chain(root).collect()
    }

    /// How often momentary power of a meter that is settled on is read.
    fn live_every(&self, meter: &MeterConfig) -> Duration {
        meters::poll_every(meter, &self.settled(), &self.setup.meters.further)
    }

    fn parts(&self, owner: MeterOwner, meter: &MeterConfig, power_max_w: u64) -> MeteringParts {
        let limits = CounterLimits { power_max_w: Some(power_max_w), ..CounterLimits::default() };
        MeteringParts {
            owner,
            chain: self.chain,
            mtu: self.setup.genesis.mtu,
            clock: self.setup.clock.clone(),
            meter: Meter::spawn(meter.clone()),
            limits,
            live_every: self.live_every(meter),
            engine: self.engine.clone(),
            shown: None,
            gatherer: None,
        }
    }

    fn spawn(
        &self,
        parts: MeteringParts,
        journal: &str,
        (fates, besides): (mpsc::Receiver<Fate>, mpsc::Receiver<Body>),
    ) -> anyhow::Result<()> {
        let key = PublicKey::of(&parts.owner.key);
        let mut metering = Metering::open(parts, &self.setup.data_dir.join(journal))?;
        metering.catch_up(OnLedger::of(self.ledger, &self.setup.home, &key))?;
        metering.spawn(fates, besides);
        Ok(())
    }
}

/// What a home's connection carries where its configuration does not say.
fn home_power_max_w(profile: &Profile) -> u64 {
    HOME_POWER_MAX_W.min(profile.power_max_w())
}

/// Hands what the network reports to the engine, first who is connected already; questions are answered from what is stored.
async fn forward_events(
    (connected, mut events): (BTreeSet<PublicKey>, mpsc::Receiver<NetworkEvent>),
    intake: Intake,
    (giver, giving): (Giver, Giving),
) {
    for peer in connected {
        intake.take(NetworkEvent::PeerUp(peer)).await;
    }
    while let Some(event) = events.recv().await {
        match event {
            NetworkEvent::Request { from, bytes, reply } if Giving::is_asked(&bytes) => {
                giving.answer(from, &bytes, reply);
            }
            NetworkEvent::Request { from, bytes, reply } => giver.answer(from, &bytes, reply),
            event => intake.take(event).await,
        }
    }
}

/// Keeps the list of peers that is shown up to date.
async fn show_peers(network: NetworkHandle, ledger: Ledger, live: Arc<Live>) {
    let homes: std::collections::BTreeMap<_, _> = ledger
        .members()
        .into_iter()
        .map(|(home, member)| (member.admission.keys.network, home.to_string()))
        .collect();
    while !live.is_closed() {
        let peers = network.peers().into_iter().map(|peer| api::Peer {
            home: homes.get(&peer.key).cloned(),
            key: peer.key.hex(),
            address: peer.address.to_string(),
            connected_since: api::Time::from_unix_ms(peer.connected_since_ms),
            rtt_ms: peer.rtt.map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)),
        });
        live.set_peers(peers.collect());
        let name = |key: &PublicKey| homes.get(key).cloned().unwrap_or_else(|| key.hex());
        let refused = network.banned().into_iter().map(|banned| {
            let until = api::Time::from_unix_ms(banned.until_ms);
            format!("{} is refused until {until}: {}", name(&banned.key), banned.offence.text())
        });
        live.set_notices(refused.collect());
        live.set_relays(shown_relays(&network.relays(), &homes));
        tokio::time::sleep(PEERS_EVERY).await;
    }
}

fn shown_relays(
    report: &network::RelayReport,
    homes: &std::collections::BTreeMap<PublicKey, String>,
) -> api::Relaying {
    let relay = |relay: &network::RelayState| api::Relay {
        home: homes.get(&relay.key).cloned(),
        address: relay.address.to_string(),
        reserved: relay.reserved,
    };
    let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    api::Relaying {
        relays: report.relays.iter().map(relay).collect(),
        serving: report
            .serving
            .map(|serving| api::Serving { homes: count(serving.homes), circuits: count(serving.circuits) }),
    }
}

async fn bind_api(setup: &NodeSetup) -> anyhow::Result<TcpListener> {
    TcpListener::bind(setup.api.listen)
        .await
        .with_context(|| format!("the API cannot listen on {}", setup.api.listen))
}

/// Starts the desk that signs the home's orders with its member key.
fn start_desk(
    setup: &NodeSetup,
    chain: &Chain,
    engine: EngineHandle,
    progress: watch::Receiver<Progress>,
) -> anyhow::Result<DeskHandle> {
    Ok(desk::spawn(DeskParts {
        key: setup.identity.member().clone(),
        clock: setup.clock.clone(),
        engine,
        progress,
        database: setup.data_dir.join("ledger.db"),
        store: desk::open_store(&setup.data_dir, chain)?,
    }))
}

fn start_api(
    setup: &NodeSetup,
    listener: TcpListener,
    live: Arc<Live>,
    (engine, desk, household): (EngineHandle, DeskHandle, Option<watch::Receiver<Option<Arc<View>>>>),
) -> anyhow::Result<(SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>)> {
    let address = listener.local_addr()?;
    let (submit, mut submitted) = mpsc::channel::<Vec<u8>>(SUBMIT_MAX);
    let recovering = engine.clone();
    tokio::spawn(async move {
        while let Some(entry) = submitted.recv().await {
            engine.submit_in_time(entry).await;
        }
    });
    let state = HttpState {
        live,
        database: setup.data_dir.join("ledger.db"),
        home: setup.home.clone(),
        token: TokenHash::of(setup.identity.api_token()),
        submit: Some(submit),
        engine: Some(recovering),
        desk: Some(desk),
        household,
        language: Language::default(),
        hosts: setup.api.hosts.clone(),
        zone: setup.zone,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let done = tokio::spawn(async move {
        let shutdown = async move {
            // An error means that the node is gone, which is a stop as well.
            let _ = stopped.await;
        };
        if let Err(error) = http::serve(listener, state, shutdown).await {
            tracing::error!(%error, "the API stopped");
        }
    });
    Ok((address, stop, done))
}

/// Runs the node of one home until `shutdown` is done or its engine stops by itself.
///
/// # Errors
/// What could not be started, or why the engine stopped.
pub async fn run(
    config: &Config,
    identity: Identity,
    genesis: Genesis,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(genesis.clock));
    // Taken before anything runs, so that a port in use leaves nothing half started behind.
    let shared = match (&config.meter, config.share) {
        (Some(meter), Some(settings)) => Some((meter, crate::share::bind(settings.listen).await?)),
        _ => None,
    };
    let quiet = crate::share::quiet_at_boundaries(Arc::clone(&clock), genesis.mtu);
    let mut node = start(setup_of(config, identity, genesis.clone(), clock.clone())?).await?;
    let sharing = shared.map(|(meter, bound)| crate::share::serve(bound, meter, quiet));
    let shared = sharing.as_ref().map(|sharing| tracing::field::display(sharing.address));
    tracing::info!(home = %config.home, api = %node.api, shared_meter = shared, "the node runs");
    tokio::pin!(shutdown);
    loop {
        let ended = tokio::select! {
            () = &mut shutdown => None,
            ended = why_it_ended(node.progress.clone()) => Some(ended),
        };
        if matches!(ended, Some(Ended::Recovered(_) | Ended::Role(_))) {
            // What the engine said last is still on its way to the peers.
            tokio::time::sleep(LAST_WORDS).await;
        }
        node.stop().await;
        match ended {
            None => return Ok(()),
            Some(Ended::Broken(reason)) => anyhow::bail!("the node stopped taking part: {reason}"),
            Some(Ended::Recovered(number)) => {
                node = start_again(config, &genesis, &clock).await?;
                tracing::info!(home = %config.home, number, "the node runs on the recovered chain");
            }
            Some(Ended::Role(holds)) => {
                node = start_again(config, &genesis, &clock).await?;
                tracing::info!(home = %config.home, holds, "the node runs in its other role");
            }
        }
    }
}

async fn start_again(
    config: &Config,
    genesis: &Genesis,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<RunningNode> {
    let identity = Identity::load(&config.data_dir)?;
    start(setup_of(config, identity, genesis.clone(), clock.clone())?).await
}

fn setup_of(
    config: &Config,
    identity: Identity,
    genesis: Genesis,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<NodeSetup> {
    let root_meter = match &config.root_meter {
        Some(root) => Some(RootMeterSetup {
            meter: root.meter.meter(),
            key: crate::identity::load_key(&root.key_file)?,
        }),
        None => None,
    };
    let household = HouseholdSetup::of(config, genesis.mtu, &clock);
    Ok(NodeSetup {
        home: config.home.clone(),
        data_dir: config.data_dir.clone(),
        identity,
        genesis,
        clock,
        listen: config.network.listen.clone(),
        peers: config.network.peers.clone(),
        mdns: config.network.mdns,
        relaying: config.network.relaying.clone(),
        zone: config.zone,
        api: config.api.clone(),
        meters: MeterSetup::of(config)?,
        root_meter,
        household,
        consensus: config.consensus.clone(),
        storage: config.storage,
        started: Instant::now(),
    })
}

/// Why the engine is not there any more.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The chain was recovered: the node starts anew on it.
    Recovered(u32),
    /// The home came to hold all bodies, or ceased to: the node starts anew in its other role.
    Role(bool),
    /// It stopped by itself, for this reason.
    Broken(String),
}

/// Waits until the engine ends by itself, and says why.
async fn why_it_ended(mut progress: watch::Receiver<Progress>) -> Ended {
    let has_ended = |progress: &Progress| {
        progress.halted.is_some() || progress.recovered.is_some() || progress.role.is_some()
    };
    match progress.wait_for(has_ended).await {
        Ok(progress) => match (progress.recovered, progress.role) {
            (Some(number), _) => Ended::Recovered(number),
            (None, Some(holds)) => Ended::Role(holds),
            (None, None) => Ended::Broken(progress.halted.clone().unwrap_or_default()),
        },
        // Its thread is gone and took the sender with it: a panic, which must not look like a stop in good order.
        Err(_) => Ended::Broken("its engine broke off; the log says where".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a founding home's node that shares its meter at `share`, and stops it as soon as it runs.
    async fn run_sharing(share: SocketAddr, data_dir: &std::path::Path) -> anyhow::Result<()> {
        let identity = Identity::create(data_dir)?;
        let mut genesis = crate::store::fixture::genesis();
        genesis.members[0].admission.keys = identity.keys();
        genesis.delegates[0].key = identity.consensus_public().unwrap();
        let text = format!(
            "home = \"h1\"\ndata_dir = {:?}\n[api]\nlisten = \"127.0.0.1:0\"\n\
             [network]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n\
             [meter]\naddress = \"127.0.0.1:1\"\nprofile = \"abb-b23\"\n[share]\nlisten = \"{share}\"\n",
            data_dir.display().to_string()
        );
        let document = crate::config::document::Document::of_text(std::path::Path::new("c.toml"), &text);
        let config = Config::read(&document).unwrap();
        run(&config, identity, genesis, std::future::ready(())).await
    }

    #[tokio::test]
    async fn a_share_port_in_use_ends_the_start_before_anything_runs() {
        let folder = tempfile::tempdir().unwrap();
        let (refused, runs) = (folder.path().join("refused"), folder.path().join("runs"));
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let told = run_sharing(taken.local_addr().unwrap(), &refused).await.unwrap_err().to_string();
        assert!(told.contains("another program listens there"), "{told}");
        assert!(!refused.join("ledger.db").exists(), "nothing was opened, so nothing is left half started");
        run_sharing(SocketAddr::from(([127, 0, 0, 1], 0)), &runs).await.unwrap();
        assert!(runs.join("ledger.db").exists());
    }

    #[test]
    fn a_home_that_does_not_say_what_its_fuse_carries_has_the_gate_of_a_large_one() {
        let of = |name| home_power_max_w(&Profile::by_name(name).unwrap());
        assert_eq!(of("abb-b23"), HOME_POWER_MAX_W);
        for profile in Profile::builtin() {
            assert!(home_power_max_w(profile) <= profile.power_max_w());
        }
    }

    #[tokio::test]
    async fn an_engine_that_panics_is_a_failure_like_one_that_halts() {
        let (engine, progress) = watch::channel(Progress::default());
        let halted = Progress { halted: Some("the disk is full".to_owned()), ..Progress::default() };
        engine.send_replace(halted);
        assert_eq!(why_it_ended(progress).await, Ended::Broken("the disk is full".to_owned()));
        let (_engine, progress) = watch::channel(Progress { recovered: Some(1), ..Progress::default() });
        assert_eq!(why_it_ended(progress).await, Ended::Recovered(1));
        let (engine, progress) = watch::channel(Progress::default());
        let panicked = std::thread::spawn(move || {
            let _held = engine;
            std::panic::resume_unwind(Box::new("as a defect would"));
        });
        assert!(panicked.join().is_err());
        let broke_off = Ended::Broken("its engine broke off; the log says where".to_owned());
        assert_eq!(why_it_ended(progress).await, broke_off);
    }
}
