//! What the node speaks over a connection, and with whom it has one at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ledger::Hash32;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use libp2p::gossipsub::{IdentityTransform, WhitelistSubscriptionFilter};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, allow_block_list, connection_limits, dcutr, identify, mdns,
};
use libp2p::{noise, relay, tcp, yamux};

use super::codec::{DIRECT_FRAME_MAX, FrameCodec};
use super::limits::{
    CONNECT_TIMEOUT, CONNECTION_STREAMS_MAX, CONNECTIONS_PER_PEER_MAX, DIRECT_TIMEOUT, GOSSIP_BYTES_MAX,
    GOSSIP_OVERHEAD, PENDING_INCOMING_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, SEEN_FOR, STREAMS_MAX,
    SYNC_TIMEOUT,
};
use super::relay::server;
use super::shared::Shared;
use super::{NetworkError, Topic};

/// Gossip without authors (entries and blocks carry their own signatures) on two topics and no others.
pub(super) type Gossip = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// The protocols of a node. The first two decide whether a connection may exist; they must stay first, so that a
/// refused peer reaches no other.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(super) members: allow_block_list::Behaviour<allow_block_list::AllowedPeers>,
    identify: identify::Behaviour,
    pub(super) gossip: Gossip,
    pub(super) direct: request_response::Behaviour<FrameCodec>,
    pub(super) sync: request_response::Behaviour<FrameCodec>,
    mdns: Toggle<mdns::tokio::Behaviour>,
    relay: Toggle<relay::Behaviour>,
    circuits: relay::client::Behaviour,
    hole_punching: dcutr::Behaviour,
}

/// What a node says of itself first, with the beginning of its chain's id: nodes of different chains part there.
pub(super) fn protocol_version(chain: &Hash32) -> String {
    let chain: String = chain.hex().chars().take(16).collect();
    format!("/commonwatt/1/{chain}")
}

/// One-way messages, acknowledged by an empty answer.
pub(super) fn direct_protocol(chain: &Hash32) -> String {
    format!("{}/direct/1", protocol_version(chain))
}

/// Questions and answers.
fn sync_protocol(chain: &Hash32) -> String {
    format!("{}/sync/1", protocol_version(chain))
}

/// The swarm of one node: TCP, Noise, Yamux, and the protocols above.
pub(super) fn swarm(
    keypair: &Keypair,
    chain: &Hash32,
    (mdns, serves, entries): (bool, bool, bool),
    shared: &Arc<Shared>,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let swarm = SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, multiplexer)
        .map_err(|error| NetworkError::Setup { what: "noise", reason: error.to_string() })?
        .with_relay_client(noise::Config::new, multiplexer)
        .map_err(|error| NetworkError::Setup { what: "noise", reason: error.to_string() })?
        .with_behaviour(|_, circuits| {
            behaviour(keypair, chain, (mdns, serves, entries), shared, circuits)
                .map_err(|error| error.to_string().into())
        })
        .map_err(|error| NetworkError::Setup { what: "protocols", reason: error.to_string() })?
        // Members stay connected; only a failure, a stop or a change of membership ends a connection.
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(u64::MAX)))
        .with_connection_timeout(CONNECT_TIMEOUT)
        .build();
    Ok(swarm)
}

fn multiplexer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(CONNECTION_STREAMS_MAX);
    config
}

fn behaviour(
    keypair: &Keypair,
    chain: &Hash32,
    (mdns, serves, entries): (bool, bool, bool),
    shared: &Arc<Shared>,
    circuits: relay::client::Behaviour,
) -> Result<Behaviour, NetworkError> {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_INCOMING_MAX))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
    let codec =
        |request_max, response_max| FrameCodec { request_max, response_max, shared: Arc::clone(shared) };
    let own = keypair.public().to_peer_id();
    let identify = identify::Config::new(protocol_version(chain), keypair.public())
        .with_agent_version(concat!("commonwatt/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_cache_size(0);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        members: allow_block_list::Behaviour::default(),
        identify: identify::Behaviour::new(identify),
        gossip: gossip(chain, entries)?,
        direct: exchange(direct_protocol(chain), codec(DIRECT_FRAME_MAX, 0), DIRECT_TIMEOUT)?,
        sync: exchange(sync_protocol(chain), codec(REQUEST_BYTES_MAX + 1, RESPONSE_BYTES_MAX), SYNC_TIMEOUT)?,
        mdns: mdns.then(|| multicast(keypair)).transpose()?.into(),
        relay: serves.then(|| server(own)).into(),
        circuits,
        hole_punching: dcutr::Behaviour::new(own),
    })
}

fn multicast(keypair: &Keypair) -> Result<mdns::tokio::Behaviour, NetworkError> {
    mdns::tokio::Behaviour::new(mdns::Config::default(), keypair.public().to_peer_id())
        .map_err(|error| NetworkError::Setup { what: "mdns", reason: error.to_string() })
}

fn exchange(
    protocol: String,
    codec: FrameCodec,
    timeout: Duration,
) -> Result<request_response::Behaviour<FrameCodec>, NetworkError> {
    let protocol = StreamProtocol::try_from_owned(protocol)
        .map_err(|error| NetworkError::Setup { what: "protocol name", reason: error.to_string() })?;
    let config = request_response::Config::default()
        .with_request_timeout(timeout)
        .with_max_concurrent_streams(STREAMS_MAX);
    Ok(request_response::Behaviour::with_codec(codec, [(protocol, ProtocolSupport::Full)], config))
}

/// `entries`: whether the node takes part in the gossip of entries.
fn gossip(chain: &Hash32, entries: bool) -> Result<Gossip, NetworkError> {
    let failed = |reason: String| NetworkError::Setup { what: "gossip", reason };
    let config = gossip_config(chain).map_err(|error| failed(error.to_string()))?;
    let topics = HashSet::from_iter(Topic::ALL.map(|topic| topic.ident().hash()));
    let filter = WhitelistSubscriptionFilter(topics);
    let mut gossip = Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)
        .map_err(|error| failed(error.to_owned()))?;
    for topic in Topic::ALL.into_iter().filter(|topic| entries || *topic == Topic::Finals) {
        gossip.subscribe(&topic.ident()).map_err(|error| failed(error.to_string()))?;
    }
    Ok(gossip)
}

/// Up to 41 members are all connected with each other, and a publisher sends to all of them at once (flood publish).
/// The mesh only repairs what that missed, so it is thin: each member passes a message on to four others.
fn gossip_config(chain: &Hash32) -> Result<gossipsub::Config, gossipsub::ConfigBuilderError> {
    gossipsub::ConfigBuilder::default()
        .protocol_id(format!("{}/gossip/1", protocol_version(chain)), gossipsub::Version::V1_1)
        .validation_mode(ValidationMode::Anonymous)
        // Forwarded only after the size and rate checks of the network task.
        .validate_messages()
        .message_id_fn(|message| MessageId::new(&Hash32::of(&[&message.data]).0))
        .max_transmit_size(GOSSIP_BYTES_MAX + GOSSIP_OVERHEAD)
        .duplicate_cache_time(SEEN_FOR)
        .flood_publish(true)
        .mesh_n(4)
        .mesh_n_low(3)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        .gossip_lazy(3)
        // 400 hashes of 32 bytes stay below the codec's limit of 16 KiB for control messages.
        .max_control_messages_sent(400)
        .max_publish_messages(64)
        .connection_handler_queue_len(256)
        .heartbeat_initial_delay(Duration::from_millis(200))
        .heartbeat_interval(Duration::from_secs(1))
        .build()
}

impl Topic {
    /// Every topic there is.
    pub(super) const ALL: [Self; 2] = [Self::Entries, Self::Finals];

    pub(super) fn ident(self) -> IdentTopic {
        IdentTopic::new(match self {
            Self::Entries => "commonwatt/entries/1",
            Self::Finals => "commonwatt/finals/1",
        })
    }

    pub(super) fn from_hash(hash: &gossipsub::TopicHash) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.ident().hash() == *hash)
    }
}
