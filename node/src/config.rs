//! `commonwatt.toml`: what one node is told about its home, its meter and its peers.

pub mod control;
pub mod document;
pub mod household;
pub mod meters;
pub mod report;
pub mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use energy::HomeId;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use document::{Document, Section};
use household::HouseholdSettings;
use meter::{Catalog, CatalogError};
use meters::{FurtherMeter, LocationSettings, MeterSettings, PvSettings, RootMeterSettings, ShareSettings};
use report::Report;
use toml::de::DeValue;
use value::{FromToml, Mismatch};

use crate::network::{RELAYS_MAX, Relaying};
use crate::store::prune::{BODIES_DAYS_MAX, BODIES_DAYS_MIN};
use crate::zone::Zone;

/// No configuration is longer, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// The commented sample that `commonwatt config default` prints.
pub const SAMPLE: &str = include_str!("config/commonwatt.toml");

/// Everything a node is told. Paths are absolute or relative to where the program runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The home this node serves.
    pub home: HomeId,
    /// Folder of its keys, ledger and journal.
    pub data_dir: PathBuf,
    /// The community's genesis file.
    pub genesis: PathBuf,
    /// Where the home's clocks are: its days on the page and its deadlines are theirs.
    pub zone: Zone,
    /// The API and the household page.
    pub api: ApiSettings,
    /// Peer to peer.
    pub network: NetworkSettings,
    /// The device profiles that can be named: those of the program and the user's.
    pub catalog: Catalog,
    /// The meter of the home; `None`: this node has none to read.
    pub meter: Option<MeterSettings>,
    /// Further meters of the home.
    pub meters: Vec<FurtherMeter>,
    /// The home's solar panels, as far as told.
    pub pv: Option<PvSettings>,
    /// Where the community is, as far as told: needed at the node that reads the root meter.
    pub location: Option<LocationSettings>,
    /// Serves the meter to other software; `None`: does not.
    pub share: Option<ShareSettings>,
    /// What the household wants, and its devices.
    pub household: HouseholdSettings,
    /// The meter at the transformer, at the node that reads it.
    pub root_meter: Option<RootMeterSettings>,
    /// Pace and timeouts of consensus.
    pub consensus: ConsensusSettings,
    /// How long what is kept.
    pub storage: StorageSettings,
    /// Filter of the log, e.g. `info,node=debug`.
    pub log_level: String,
}

/// The API of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Where it listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Names by which browsers may call this server besides its IP addresses and `localhost`.
    pub hosts: Vec<String>,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8480)), hosts: Vec::new() }
    }
}

/// Peer to peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Where it listens.
    pub listen: Vec<Multiaddr>,
    /// Members that are dialled and kept, each with its `/p2p/` peer id.
    pub peers: Vec<Multiaddr>,
    /// Finds members on the local network by multicast.
    pub mdns: bool,
    /// Relays, for a home that nobody can dial, and whether this node is one.
    pub relaying: Relaying,
}

/// How long what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageSettings {
    /// Bodies of other homes' entries and results, in days.
    pub bodies_days: u32,
    /// Whether an empty store begins with the first block, where others still have it, and not with a recent state.
    pub from_genesis: bool,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self { bodies_days: BODIES_DAYS_MIN, from_genesis: false }
    }
}

/// Pace and timeouts of consensus, wall-clock ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsensusSettings {
    /// The least time between two blocks.
    pub min_block_interval_ms: u64,
    /// A proposal is awaited this long in round 0.
    pub propose_timeout_ms: u64,
    /// Votes are awaited this long after two thirds came in without agreement.
    pub vote_timeout_ms: u64,
    /// Every further round waits this much longer.
    pub timeout_delta_ms: u64,
    /// Own messages are repeated after this long without progress.
    pub rebroadcast_ms: u64,
}

impl Default for ConsensusSettings {
    fn default() -> Self {
        Self {
            min_block_interval_ms: 1000,
            propose_timeout_ms: 3000,
            vote_timeout_ms: 1000,
            timeout_delta_ms: 500,
            rebroadcast_ms: 5000,
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`; relative paths in it count from its folder.
    ///
    /// # Errors
    /// [`Report`] with every fault in it.
    pub fn load(path: &Path) -> Result<Self, Report> {
        Self::read(&Document::open(path, CONFIG_BYTES_MAX)?)
    }

    /// Reads a configuration that is already in memory.
    ///
    /// # Errors
    /// [`Report`] with every fault in it.
    pub fn read(document: &Document) -> Result<Self, Report> {
        let folder = document.path().parent().unwrap_or(Path::new("")).to_owned();
        document.read(|top| {
            let home = top.required("home");
            let data_dir = top.required::<PathBuf>("data_dir").map(|path| tidy(&folder.join(path)));
            let genesis = folder.join(top.or("genesis", PathBuf::from("genesis.toml")));
            let catalog = read_catalog(top, &folder);
            let zone = top.optional::<Zone>("zone");
            let api = top.section("api").map(|section| read_api(&section, top.has("zone")));
            let (api, fixed) = api.unwrap_or_default();
            let network = read_network(top.section("network").as_ref());
            let home_meters = HomeMeters::read(top, &catalog);
            let household = household::read(top);
            let root_meter =
                top.section("root_meter").map(|section| meters::read_root_meter(&section, &catalog, &folder));
            let consensus =
                top.section("consensus").map(|section| read_consensus(&section)).unwrap_or_default();
            let storage = top.section("storage").map(|section| read_storage(&section)).unwrap_or_default();
            let log_level = read_log(top.section("log").as_ref());
            let (home_meters, root_meter) = (home_meters?, swap(root_meter)?);
            let HomeMeters { meter, meters, pv, location, share } = home_meters;
            Some(Self {
                home: home?,
                data_dir: data_dir?,
                genesis,
                zone: zone.or(fixed).unwrap_or(Zone::UTC),
                api,
                network,
                catalog,
                meter,
                meters,
                pv,
                location,
                share,
                household: household?,
                root_meter,
                consensus,
                storage,
                log_level,
            })
        })
    }

    /// The meter of this name: `meter`, `root_meter`, or the name of a further one.
    #[must_use]
    pub fn meter_named(&self, name: &str) -> Option<&MeterSettings> {
        match name {
            "meter" => self.meter.as_ref(),
            "root_meter" => self.root_meter.as_ref().map(|root| &root.meter),
            name => self.meters.iter().find(|further| further.name == name).map(|further| &further.meter),
        }
    }

    /// What works but should be known, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let listen = self.api.listen;
        if !listen.ip().is_loopback() {
            warnings.push(format!(
                "api.listen {listen} can be reached from the network, and the connection is not encrypted: only \
                 use it on a LAN you trust, never on one open to the internet"
            ));
        }
        if let Some(share) = self.share
            && !share.listen.ip().is_loopback()
        {
            warnings.push(format!(
                "share.listen {} can be reached from the network, and Modbus has no password: everybody there can read \
                 this home's consumption (nobody can write)",
                share.listen
            ));
        }
        if self.root_meter.is_some() && self.location.is_none() {
            warnings.push(
                "[root_meter] without [location]: this node assesses the community's meters, and where the sun stands \
                 is not known, so exports cannot be held against the sun"
                    .to_owned(),
            );
        }
        if self.meter.is_none() {
            warnings.push("no [meter]: this home's readings will be missing".to_owned());
        }
        if let [relay] = self.network.relaying.relays.as_slice() {
            warnings.push(format!(
                "network.relays names {relay} alone: while that node is off, homes behind other routers do not reach this \
                 one; name two, of different owners"
            ));
        }
        if self.network.peers.is_empty() && self.network.relaying.relays.is_empty() && !self.network.mdns {
            warnings.push("network.peers is empty and mdns is off: this node waits to be dialled".to_owned());
        }
        warnings
    }
}

/// Everything that is told about the home's own meters.
struct HomeMeters {
    meter: Option<MeterSettings>,
    meters: Vec<FurtherMeter>,
    pv: Option<PvSettings>,
    location: Option<LocationSettings>,
    share: Option<ShareSettings>,
}

impl HomeMeters {
    /// `None` if there was a fault.
    fn read(top: &Section<'_>, catalog: &Catalog) -> Option<Self> {
        let meter = top.section("meter").map(|section| meters::read_meter(&section, catalog));
        let has_meter = meter.is_some();
        let meter = swap(meter);
        let known = meter.as_ref().and_then(Option::as_ref);
        let meters = meters::read_further(&top.sections("meters"), known, catalog);
        let pv = swap(top.section("pv").map(|section| meters::read_pv(&section)));
        let location = swap(top.section("location").map(|section| meters::read_location(&section)));
        let share = top.section("share").map(|section| meters::read_share(&section, has_meter));
        Some(Self { meter: meter?, meters: meters?, pv: pv?, location: location?, share })
    }
}

/// The built-in profiles and those of the folder `profiles`, if one is named.
fn read_catalog(top: &Section<'_>, folder: &Path) -> Catalog {
    let Some(profiles) = top.optional::<PathBuf>("profiles") else { return Catalog::builtin() };
    Catalog::with_folder(&folder.join(profiles)).unwrap_or_else(|error| {
        report_catalog(top, &error);
        Catalog::builtin()
    })
}

fn report_catalog(top: &Section<'_>, error: &CatalogError) {
    let help = "`commonwatt meter check FILE` shows every fault of a profile at its place".to_owned();
    top.fault("profiles", format!("`profiles` cannot be used: {error}"), "this folder", Some(help));
}

/// The same path without `.` in the middle of it.
fn tidy(path: &Path) -> PathBuf {
    path.components().collect()
}

/// `None` outside if there was a fault, `None` inside if there is no such section.
#[expect(clippy::option_option, reason = "a faulty section and an absent one must differ")]
fn swap<T>(section: Option<Option<T>>) -> Option<Option<T>> {
    match section {
        Some(None) => None,
        Some(read) => Some(read),
        None => Some(None),
    }
}

/// The settings, and the fixed distance from UTC that may stand here in place of `zone`; it knows no summer time.
fn read_api(section: &Section<'_>, has_zone: bool) -> (ApiSettings, Option<Zone>) {
    const FIXED: &str = "utc_offset_minutes";
    let default = ApiSettings::default();
    let settings = ApiSettings {
        listen: section.or("listen", default.listen),
        hosts: section.list("hosts").unwrap_or(default.hosts),
    };
    if !section.has(FIXED) {
        return (settings, None);
    }
    // The clocks of the world: from Baker Island to Kiribati.
    let minutes = section.within(FIXED, 0, -720..=840);
    if has_zone {
        let title = "`zone` says already where clocks are".to_owned();
        section.fault(FIXED, title, "of no use beside it", Some(format!("leave {FIXED} out")));
    }
    (settings, Some(Zone::of_minutes(minutes)))
}

fn read_network(section: Option<&Section<'_>>) -> NetworkSettings {
    let listen = section.and_then(|section| section.list::<ListenAddress>("listen"));
    let peers = section.and_then(|section| section.list::<PeerAddress>("peers")).unwrap_or_default();
    NetworkSettings {
        listen: listen.map_or_else(
            || vec![any_address(8470)],
            |listen| listen.into_iter().map(|address| address.0).collect(),
        ),
        peers: peers.into_iter().map(|peer| peer.0).collect(),
        mdns: section.is_some_and(|section| section.or("mdns", false)),
        relaying: section.map(read_relaying).unwrap_or_default(),
    }
}

fn read_relaying(section: &Section<'_>) -> Relaying {
    let relays = section.list::<PeerAddress>("relays").unwrap_or_default();
    if relays.len() > RELAYS_MAX {
        let help = Some("two, of different owners, are enough".to_owned());
        section.fault("relays", format!("more than {RELAYS_MAX} relays"), "too many", help);
    }
    let announce = section.list::<ListenAddress>("announce").unwrap_or_default();
    Relaying {
        relays: relays.into_iter().map(|relay| relay.0).collect(),
        serves: section.or("relay", false),
        announce: announce.into_iter().map(|address| address.0).collect(),
    }
}

/// Every IPv4 interface of this machine.
fn any_address(port: u16) -> Multiaddr {
    Multiaddr::empty().with(Protocol::Ip4(std::net::Ipv4Addr::UNSPECIFIED)).with(Protocol::Tcp(port))
}

/// A TCP address of this machine.
struct ListenAddress(Multiaddr);

impl FromToml for ListenAddress {
    fn expected() -> String {
        "an address of this machine such as \"/ip4/0.0.0.0/tcp/8470\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let address = tcp_address(value)?;
        match address.iter().last() {
            Some(Protocol::P2p(_)) => Err(Mismatch::Value("it names a peer".to_owned())),
            _ => Ok(Self(address)),
        }
    }
}

/// A TCP address of another member.
struct PeerAddress(Multiaddr);

impl FromToml for PeerAddress {
    fn expected() -> String {
        "an address with /p2p/ and the member's peer id at the end".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let address = tcp_address(value)?;
        match address.iter().last() {
            Some(Protocol::P2p(_)) => Ok(Self(address)),
            // An address without an id could be anybody's.
            _ => Err(Mismatch::Value("it does not say whose address it is".to_owned())),
        }
    }
}

fn tcp_address(value: &DeValue<'_>) -> Result<Multiaddr, Mismatch> {
    let address = Multiaddr::from_toml(value)?;
    if address.iter().any(|part| matches!(part, Protocol::Tcp(_))) {
        return Ok(address);
    }
    Err(Mismatch::Value(format!("{address} is no TCP address")))
}

fn read_consensus(section: &Section<'_>) -> ConsensusSettings {
    let default = ConsensusSettings::default();
    let milliseconds = |key, default| section.within(key, default, 10..=600_000);
    ConsensusSettings {
        min_block_interval_ms: milliseconds("min_block_interval_ms", default.min_block_interval_ms),
        propose_timeout_ms: milliseconds("propose_timeout_ms", default.propose_timeout_ms),
        vote_timeout_ms: milliseconds("vote_timeout_ms", default.vote_timeout_ms),
        timeout_delta_ms: milliseconds("timeout_delta_ms", default.timeout_delta_ms),
        rebroadcast_ms: milliseconds("rebroadcast_ms", default.rebroadcast_ms),
    }
}

fn read_storage(section: &Section<'_>) -> StorageSettings {
    let least = BODIES_DAYS_MIN;
    StorageSettings {
        bodies_days: section.within("bodies_days", least, least..=BODIES_DAYS_MAX),
        from_genesis: section.optional("from_genesis").unwrap_or(false),
    }
}

fn read_log(section: Option<&Section<'_>>) -> String {
    let level = section.and_then(|section| section.optional::<String>("level")).unwrap_or("info".to_owned());
    if let (Some(section), Err(error)) = (section, tracing_subscriber::EnvFilter::try_new(&level)) {
        let label = "expected error, warn, info, debug or trace, or a list such as \"info,node=debug\"";
        section.fault("level", format!("`log.level` cannot be used: {error}"), label, None);
    }
    level
}

#[cfg(test)]
mod tests;
