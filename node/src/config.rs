//! `commonwatt.toml`: what one node is told about its home, its meter and its peers.

pub mod document;
pub mod report;
pub mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use energy::HomeId;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use document::{Document, Section, nearest};
use report::Report;
use toml::de::DeValue;
use value::{FromToml, Mismatch};

/// No configuration is longer, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// The commented sample that `commonwatt config default` prints.
pub const SAMPLE: &str = include_str!("config/commonwatt.toml");

/// Everything a node is told. Paths are absolute or relative to where the program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The home this node serves.
    pub home: HomeId,
    /// Folder of its keys, ledger and journal.
    pub data_dir: PathBuf,
    /// The community's genesis file.
    pub genesis: PathBuf,
    /// The API and the household page.
    pub api: ApiSettings,
    /// Peer to peer.
    pub network: NetworkSettings,
    /// The meter of the home; `None`: this node has none to read.
    pub meter: Option<MeterSettings>,
    /// The meter at the transformer, at the node that reads it.
    pub root_meter: Option<RootMeterSettings>,
    /// Pace and timeouts of consensus.
    pub consensus: ConsensusSettings,
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
    /// What clocks show at the home, in minutes ahead of UTC: where the page's days begin.
    pub utc_offset_minutes: i32,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8480)), hosts: Vec::new(), utc_offset_minutes: 0 }
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
}

/// A meter on Modbus TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterSettings {
    /// Host and port.
    pub address: String,
    /// Modbus unit, 1 to 247, or 255 for the device itself.
    pub unit: u8,
    /// Name of the device profile.
    pub profile: String,
    /// An answer is awaited this long, ms.
    pub timeout_ms: u32,
}

/// The meter at the transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootMeterSettings {
    /// How it is reached.
    pub meter: MeterSettings,
    /// Holds the key that signs its readings.
    pub key_file: PathBuf,
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
            let api = top.section("api").map(|section| read_api(&section)).unwrap_or_default();
            let network = read_network(top.section("network").as_ref());
            let meter = top.section("meter").map(|section| read_meter(&section));
            let root_meter = top.section("root_meter").map(|section| read_root_meter(&section, &folder));
            let consensus =
                top.section("consensus").map(|section| read_consensus(&section)).unwrap_or_default();
            let log_level = read_log(top.section("log").as_ref());
            let (meter, root_meter) = (swap(meter)?, swap(root_meter)?);
            Some(Self {
                home: home?,
                data_dir: data_dir?,
                genesis,
                api,
                network,
                meter,
                root_meter,
                consensus,
                log_level,
            })
        })
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
        if self.meter.is_none() {
            warnings.push("no [meter]: this home's readings will be missing".to_owned());
        }
        if self.network.peers.is_empty() && !self.network.mdns {
            warnings.push("network.peers is empty and mdns is off: this node waits to be dialled".to_owned());
        }
        warnings
    }
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

fn read_api(section: &Section<'_>) -> ApiSettings {
    let default = ApiSettings::default();
    ApiSettings {
        listen: section.or("listen", default.listen),
        hosts: section.list("hosts").unwrap_or(default.hosts),
        // The clocks of the world: from Baker Island to Kiribati.
        utc_offset_minutes: section.within("utc_offset_minutes", default.utc_offset_minutes, -720..=840),
    }
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

fn read_meter(section: &Section<'_>) -> Option<MeterSettings> {
    let address = section.required::<HostAndPort>("address");
    let unit = section.within("unit", 1, 1..=255);
    let profile = section.required::<String>("profile");
    let timeout_ms = section.within("timeout_ms", 1000, 50..=60_000);
    if (248..255).contains(&unit) {
        section.fault("unit", format!("Modbus unit {unit} is reserved"), "expected 1 to 247, or 255", None);
    }
    if let Some(profile) = &profile {
        check_profile(section, profile);
    }
    Some(MeterSettings { address: address?.0, unit, profile: profile?, timeout_ms })
}

/// Where a server of this or another machine listens; the host may be a name.
struct HostAndPort(String);

impl FromToml for HostAndPort {
    fn expected() -> String {
        "host and port such as \"192.168.1.20:502\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = value.as_str().ok_or(Mismatch::Type)?;
        match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(1..))) if !host.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(Mismatch::Value("it has no host or no usable port".to_owned())),
        }
    }
}

fn check_profile(section: &Section<'_>, profile: &str) {
    if meter::Profile::by_name(profile).is_some() {
        return;
    }
    let names: Vec<&str> = meter::Profile::builtin().iter().map(meter::Profile::name).collect();
    let label = match nearest(profile, names.iter().copied()) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => "not a profile".to_owned(),
    };
    let help = format!("profiles: {}", names.join(", "));
    section.fault("profile", format!("there is no meter profile \"{profile}\""), &label, Some(help));
}

fn read_root_meter(section: &Section<'_>, folder: &Path) -> Option<RootMeterSettings> {
    let key_file = section.required::<PathBuf>("key_file");
    let meter = read_meter(section);
    Some(RootMeterSettings { meter: meter?, key_file: folder.join(key_file?) })
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
