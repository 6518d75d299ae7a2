//! The one task that owns the swarm: libp2p's events in, ours out. This file decides who is connected; what they
//! exchange is in [`traffic`], what concerns relays in [`relaying`].

mod relaying;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ledger::PublicKey;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{InboundRequestId, OutboundRequestId, ResponseChannel};
use libp2p::swarm::{ConnectionDenied, ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, allow_block_list::NotAllowed, identify, mdns};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::address_book::{AddressBook, without_loopback};
use super::behaviour::{Behaviour, BehaviourEvent, protocol_version, swarm};
use super::conduct::Conduct;
use super::limits::{
    CONFIRM_TIMEOUT, DRAIN_TIMEOUT, LogGate, PROBE_INTERVAL, RECORDS_INTERVAL, RateLimit, TICK,
};
use super::peer_id::{key_of, keypair_of, peer_id_of};
use super::queues::Inbox;
use super::relay::Relays;
use super::shared::Shared;
use super::{Lane, NetworkConfig, NetworkError, NetworkEvent, Offence, RequestError, Topic, Unjudged};
use relaying::{address_behind, is_circuit};

/// A connection older than this is dead if its peer dials anew.
const REPLACED_AFTER: Duration = Duration::from_secs(3);

/// How long the start waits for the listeners.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Who waits for the answer to a request.
type Asker = oneshot::Sender<Result<Vec<u8>, RequestError>>;

/// What handles ask of the task.
pub(super) enum Command {
    Gossip { topic: Topic, bytes: Bytes },
    Request { to: PublicKey, bytes: Vec<u8>, reply: Asker },
    Judge { message: Unjudged, good: bool },
    Charge { peer: PublicKey, offence: Offence },
    Shutdown(oneshot::Sender<()>),
}

/// One peer, connected but perhaps not yet confirmed to be of our chain.
struct Link {
    peer: PeerId,
    connections: Vec<Connection>,
    confirmed: bool,
    /// Frames without acknowledgement.
    in_flight: BTreeSet<OutboundRequestId>,
    probe: Option<(OutboundRequestId, Instant)>,
    next_probe: Instant,
    /// Own questions; `None` asks for records.
    asked: BTreeMap<OutboundRequestId, Option<Asker>>,
    /// The peer's questions that are being answered.
    answering: BTreeSet<InboundRequestId>,
}

struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    relayed: bool,
    since: Instant,
}

impl Link {
    fn new(peer: PeerId, now: Instant) -> Self {
        Self {
            peer,
            connections: Vec::new(),
            confirmed: false,
            in_flight: BTreeSet::new(),
            probe: None,
            next_probe: now,
            asked: BTreeMap::new(),
            answering: BTreeSet::new(),
        }
    }

    /// The connections that are dead if the peer opens a new one: a peer that dials has none left, because it
    /// restarted or its network changed. Young ones are spared: both peers may have dialled at once.
    fn replaced_by(&self, endpoint: &ConnectedPoint, now: Instant) -> Vec<ConnectionId> {
        let old = self.connections.iter().filter(|it| now.duration_since(it.since) > REPLACED_AFTER);
        // A direct connection beside a relayed one is what both wanted: that one is let go in its own time.
        old.filter(|it| endpoint.is_listener() && (endpoint.is_relayed() || !it.relayed))
            .map(|it| it.id)
            .collect()
    }

    /// Questions whose asker still waits.
    fn waiting(&self) -> usize {
        self.asked.values().flatten().filter(|reply| !reply.is_closed()).count()
    }
}

/// An answer on its way back to the peer that asked.
struct Answer {
    to: PublicKey,
    id: InboundRequestId,
    channel: ResponseChannel<Vec<u8>>,
    bytes: Option<Vec<u8>>,
}

/// Why the loop ends.
enum Stop {
    Asked(oneshot::Sender<()>),
    /// No handle or no receiver is left.
    Abandoned,
}

pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    keypair: Keypair,
    protocol_version: String,
    members: BTreeSet<PublicKey>,
    links: BTreeMap<PublicKey, Link>,
    rates: BTreeMap<PublicKey, RateLimit>,
    conduct: BTreeMap<PublicKey, Conduct>,
    lane_of: fn(&[u8]) -> Option<Lane>,
    book: AddressBook,
    relays: Relays,
    announced: Vec<Multiaddr>,
    inbox: Inbox,
    answers: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    next_records: Instant,
    last_asked: Option<PublicKey>,
    refusals: LogGate,
    shared: Arc<Shared>,
    events: mpsc::Sender<NetworkEvent>,
    commands: mpsc::Receiver<Command>,
    members_changed: watch::Receiver<Vec<PublicKey>>,
}

impl Task {
    pub(super) fn new(
        config: &NetworkConfig,
        shared: Arc<Shared>,
        events: mpsc::Sender<NetworkEvent>,
        commands: mpsc::Receiver<Command>,
        members_changed: watch::Receiver<Vec<PublicKey>>,
    ) -> Result<Self, NetworkError> {
        let keypair = keypair_of(&config.key).ok_or(NetworkError::Key)?;
        let own = PublicKey::of(&config.key);
        let now = Instant::now();
        let relaying = &config.relaying;
        let mut book = AddressBook::new(own, &config.peers, now);
        book.add_relays(&relaying.relays, now);
        let mut task = Self {
            swarm: swarm(&keypair, &config.chain, (config.mdns, relaying.serves, config.entries), &shared)?,
            keypair,
            protocol_version: protocol_version(&config.chain),
            members: BTreeSet::new(),
            links: BTreeMap::new(),
            rates: BTreeMap::new(),
            conduct: BTreeMap::new(),
            lane_of: config.lane_of,
            book,
            relays: Relays::new(relaying, own, now),
            announced: relaying.announce.clone(),
            inbox: Inbox::default(),
            answers: FuturesUnordered::new(),
            next_records: now + RECORDS_INTERVAL,
            last_asked: None,
            refusals: LogGate::default(),
            shared,
            events,
            commands,
            members_changed,
        };
        task.update_members();
        Ok(task)
    }

    /// Opens the listeners and waits until each has its address.
    pub(super) async fn listen(&mut self, addresses: Vec<Multiaddr>) -> Result<(), NetworkError> {
        for address in &addresses {
            check_free(address)
                .map_err(|source| NetworkError::Listen { address: address.clone(), source })?;
        }
        let mut waiting = BTreeSet::new();
        for address in addresses {
            match self.swarm.listen_on(address.clone()) {
                Ok(listener) => waiting.insert(listener.to_string()),
                Err(error) => {
                    let source = io::Error::other(error);
                    return Err(NetworkError::Listen { address, source });
                }
            };
        }
        let ready = async {
            while !waiting.is_empty() {
                let event = self.swarm.select_next_some().await;
                if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                    waiting.remove(&listener_id.to_string());
                }
                self.on_swarm(event);
            }
        };
        let ready = tokio::time::timeout(LISTEN_TIMEOUT, ready).await;
        self.note_listening();
        ready.map_err(|_| NetworkError::NotListening { seconds: LISTEN_TIMEOUT.as_secs() })
    }

    /// Runs until asked to stop, or until no handle or no receiver of events is left.
    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = loop {
            let stop = tokio::select! {
                event = self.swarm.select_next_some() => { self.on_swarm(event); None }
                command = self.commands.recv() => match command {
                    Some(Command::Shutdown(done)) => Some(Stop::Asked(done)),
                    Some(Command::Gossip { topic, bytes }) => { self.publish(topic, &bytes); None }
                    Some(Command::Request { to, bytes, reply }) => { self.ask(to, &bytes, reply); None }
                    Some(Command::Judge { message, good }) => { self.judge(&message, good); None }
                    Some(Command::Charge { peer, offence }) => { self.charge(peer, offence); None }
                    None => Some(Stop::Abandoned),
                },
                Ok(()) = self.members_changed.changed() => { self.update_members(); None }
                () = self.shared.wake.notified() => { self.flush_all(); None }
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => { self.answer(answer); None }
                lost = async { self.events.reserve().await.is_err() }, if !self.inbox.is_empty() => lost.then_some(Stop::Abandoned),
                _ = tick.tick() => { self.on_tick(); self.events.is_closed().then_some(Stop::Abandoned) }
            };
            self.deliver();
            if let Some(stop) = stop {
                break stop;
            }
        };
        self.close().await;
        // The listening ports are free again before anybody hears of the stop.
        drop(self);
        if let Stop::Asked(done) = stop {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// Hands waiting events to the receiver as long as it has room.
    fn deliver(&mut self) {
        while !self.inbox.is_empty() {
            let Ok(permit) = self.events.try_reserve() else { return };
            if let Some(event) = self.inbox.pop() {
                permit.send(event);
            }
        }
    }

    /// Lets what is on its way arrive, then closes every connection.
    async fn close(&mut self) {
        self.flush_all();
        let drained = async {
            while !self.shared.waiting().is_empty()
                || self.links.values().any(|link| !link.in_flight.is_empty())
            {
                let event = self.swarm.select_next_some().await;
                self.on_swarm(event);
            }
        };
        // Nobody takes what is left after this.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error says that it is disconnected already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                let event = self.swarm.select_next_some().await;
                self.on_swarm(event);
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, closed).await;
        for key in self.links.keys() {
            self.shared.disconnected(key);
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.on_disconnected(peer_id, connection_id);
            }
            SwarmEvent::IncomingConnectionError { peer_id, send_back_addr, error, .. } => {
                self.on_refused(peer_id, &send_back_addr, error);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_error(connection_id, peer_id, error);
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => self.note_listening(),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                if !self.on_reservation_lost(listener_id) {
                    tracing::error!(?addresses, ?reason, "stopped listening");
                }
                self.note_listening();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener failed once"),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, &info.protocol_version);
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_gossip(propagation_source, &message_id, message);
            }
            BehaviourEvent::Gossip(gossipsub::Event::SlowPeer { peer_id, .. }) => {
                tracing::debug!(%peer_id, "peer does not keep up with gossip");
            }
            BehaviourEvent::Direct(event) => self.on_direct(event),
            BehaviourEvent::Sync(event) => self.on_sync(event),
            BehaviourEvent::Circuits(event) => self.on_circuit(&event),
            BehaviourEvent::Relay(event) => self.on_served(&event),
            BehaviourEvent::HolePunching(event) => Self::on_hole_punched(&event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    if let Some(key) = key_of(&peer).filter(|key| self.members.contains(key)) {
                        self.book.heard(key, address, Instant::now());
                    }
                }
            }
            _ => {}
        }
    }

    fn note_listening(&mut self) {
        let listening: Vec<Multiaddr> =
            self.swarm.listeners().filter(|it| !is_circuit(it)).cloned().collect();
        let told: Vec<Multiaddr> = self.announced.iter().cloned().chain(self.relays.addresses()).collect();
        self.book.sign_own(&self.keypair, told.clone(), &listening);
        if self.relays.serves() {
            self.offer(&listening);
        }
        self.shared.set_listening(listening.into_iter().chain(told).collect());
    }

    /// Admits the new members and closes connections with those who no longer are.
    fn update_members(&mut self) {
        let members: BTreeSet<PublicKey> = self.members_changed.borrow_and_update().iter().copied().collect();
        let gate = &mut self.swarm.behaviour_mut().members;
        for removed in self.members.difference(&members).filter_map(peer_id_of) {
            tracing::info!(peer_id = %removed, "no longer a member, connections are closed");
            gate.disallow_peer(removed);
        }
        let now = Instant::now();
        let is_banned = |key: &PublicKey| self.conduct.get(key).is_some_and(|conduct| conduct.is_banned(now));
        for admitted in members.difference(&self.members).filter(|key| !is_banned(key)) {
            match peer_id_of(admitted) {
                Some(peer) => {
                    gate.allow_peer(peer);
                }
                None => {
                    tracing::warn!(key = %admitted, "network key of a member is no valid key, it cannot connect");
                }
            }
        }
        self.rates.retain(|key, _| members.contains(key));
        // A ban outlives a membership that ends and begins anew.
        self.conduct.retain(|key, conduct| members.contains(key) || conduct.is_banned(now));
        self.members = members;
    }

    /// Counts an offence, and parts with a peer that has too many.
    pub(super) fn charge(&mut self, key: PublicKey, offence: Offence) {
        let now = Instant::now();
        let conduct = self.conduct.entry(key).or_insert_with(|| Conduct::new(now));
        let Some(time) = conduct.charge(offence, now) else { return };
        let Some(peer) = peer_id_of(&key) else { return };
        self.shared.count(|it| &it.bans);
        self.shared.ban(key, time, offence);
        let seconds = time.as_secs();
        tracing::warn!(peer_id = %peer, seconds, why = offence.text(), "member is refused for a while");
        // Closes its connections as well.
        self.swarm.behaviour_mut().members.disallow_peer(peer);
    }

    fn is_banned(&self, key: &PublicKey, now: Instant) -> bool {
        self.conduct.get(key).is_some_and(|conduct| conduct.is_banned(now))
    }

    /// Admits again whose time is over.
    fn lift_bans(&mut self, now: Instant) {
        for banned in self.shared.banned() {
            if self.is_banned(&banned.key, now) {
                continue;
            }
            self.shared.lift_ban(&banned.key);
            let peer = peer_id_of(&banned.key).filter(|_| self.members.contains(&banned.key));
            if let Some(peer) = peer {
                self.swarm.behaviour_mut().members.allow_peer(peer);
            }
        }
    }

    fn on_connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let now = Instant::now();
        let Some(key) = key_of(&peer).filter(|key| self.members.contains(key)) else {
            // The gate lets only members through; this one was removed a moment ago.
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        };
        tracing::debug!(peer_id = %peer, address = %endpoint.get_remote_address(), "connected");
        let link = self.links.entry(key).or_insert_with(|| Link::new(peer, now));
        let dead: Vec<ConnectionId> = link.replaced_by(endpoint, now);
        if !dead.is_empty() {
            dead.into_iter().for_each(|id| {
                self.swarm.close_connection(id);
            });
            // A new session of the same peer: it has to say its chain again, and the receiver hears of both ends.
            if std::mem::take(&mut link.confirmed) {
                self.shared.disconnected(&key);
                self.inbox.push_presence(NetworkEvent::PeerDown(key));
            }
        }
        let (address, relayed) = (address_behind(endpoint), endpoint.is_relayed());
        link.connections.push(Connection { id, address, relayed, since: now });
        self.book.established(key, id, now);
        self.show_way(&key);
    }

    fn on_disconnected(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(key) = key_of(&peer) else { return };
        let Some(link) = self.links.get_mut(&key) else { return };
        link.connections.retain(|connection| connection.id != id);
        if !link.connections.is_empty() {
            self.show_way(&key);
            return;
        }
        let confirmed = link.confirmed;
        // Dropping the link refuses all questions that waited for an answer.
        self.links.remove(&key);
        self.book.disconnected(key, Instant::now());
        if confirmed {
            tracing::info!(peer_id = %peer, "peer down");
            self.shared.disconnected(&key);
            self.inbox.push_presence(NetworkEvent::PeerDown(key));
        }
    }

    fn on_refused(&mut self, peer: Option<PeerId>, address: &Multiaddr, error: ListenError) {
        match (peer, error) {
            (Some(peer), ListenError::Denied { cause }) => self.on_denied(peer, address, cause),
            (_, error) => tracing::debug!(%address, %error, "incoming connection failed"),
        }
    }

    /// A connection was closed at once: usually a stranger's.
    fn on_denied(&mut self, peer: PeerId, address: &Multiaddr, cause: ConnectionDenied) {
        let now = Instant::now();
        match cause.downcast::<NotAllowed>() {
            Ok(_) if key_of(&peer).is_some_and(|key| self.is_banned(&key, now)) => {
                tracing::debug!(peer_id = %peer, "member is still refused");
            }
            Ok(_) => {
                self.shared.count(|it| &it.strangers);
                if let Some(suppressed) = self.refusals.open(Instant::now()) {
                    tracing::warn!(peer_id = %peer, %address, suppressed, "peer is not a member, connection closed");
                }
            }
            Err(cause) => tracing::debug!(peer_id = %peer, %address, %cause, "connection refused"),
        }
    }

    fn on_dial_error(&mut self, id: ConnectionId, peer: Option<PeerId>, error: DialError) {
        let own = matches!(error, DialError::LocalPeerId { .. });
        tracing::debug!(peer_id = ?peer, %error, "dial failed");
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            return;
        }
        self.book.dial_failed(id, peer, own, Instant::now());
        if let (Some(peer), DialError::Denied { cause }) = (peer, error) {
            self.on_denied(peer, &Multiaddr::empty(), cause);
        }
    }

    fn on_identified(&mut self, peer: PeerId, version: &str) {
        let Some(key) = key_of(&peer) else { return };
        if version == self.protocol_version {
            self.confirm(key);
            return;
        }
        self.shared.count(|it| &it.other_chain);
        if let Some(suppressed) = self.refusals.open(Instant::now()) {
            // A stranger's text is cut before it is logged.
            let theirs: String = version.chars().take(64).collect();
            let ours = &self.protocol_version;
            tracing::warn!(peer_id = %peer, ?theirs, ours, suppressed, "member is on another chain, disconnected");
        }
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    /// The peer has shown that it is of our chain, by identifying itself or by using a protocol that names the chain.
    /// Returns false if it is not connected any more.
    fn confirm(&mut self, key: PublicKey) -> bool {
        let Some(link) = self.links.get_mut(&key) else { return false };
        if link.confirmed {
            return true;
        }
        let Some(address) = link.way().cloned() else { return false };
        link.confirmed = true;
        tracing::info!(peer_id = %link.peer, %address, "peer up");
        self.shared.connected(key, address);
        self.inbox.push_presence(NetworkEvent::PeerUp(key));
        self.book.confirmed(key, Instant::now());
        self.ask_records(key);
        true
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.lift_bans(now);
        self.dial_due(now);
        self.close_unconfirmed(now);
        self.probe_due(now);
        self.reserve_due(now);
        self.let_relayed_go(now);
        if now >= self.next_records {
            self.next_records = now + RECORDS_INTERVAL;
            self.ask_next_for_records();
        }
    }

    fn dial_due(&mut self, now: Instant) {
        let (links, members, conduct) = (&self.links, &self.members, &self.conduct);
        let is_banned = |key: &PublicKey| conduct.get(key).is_some_and(|conduct| conduct.is_banned(now));
        let is_wanted =
            |key: &PublicKey| members.contains(key) && !links.contains_key(key) && !is_banned(key);
        let dials = self.book.due(now, is_wanted);
        let relayed = |key: &PublicKey| links.get(key).is_some_and(Link::is_relayed);
        let directly = self.book.due_directly(now, relayed);
        for dial in dials.into_iter().chain(directly) {
            if let Err(error) = self.swarm.dial(dial.options) {
                tracing::debug!(whom = ?dial.whom, %error, "not dialled");
                self.book.not_begun(dial.whom, now);
            }
        }
    }

    fn close_unconfirmed(&mut self, now: Instant) {
        let unconfirmed = self.links.values().filter(|link| !link.confirmed);
        let late = unconfirmed
            .filter(|link| link.connections.iter().all(|it| now.duration_since(it.since) > CONFIRM_TIMEOUT));
        for peer in late.map(|link| link.peer).collect::<Vec<_>>() {
            tracing::info!(peer_id = %peer, "peer did not say which chain it is on, disconnected");
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    fn probe_due(&mut self, now: Instant) {
        let due = |link: &&mut Link| link.confirmed && link.probe.is_none() && link.next_probe <= now;
        for link in self.links.values_mut().filter(due) {
            let id = self.swarm.behaviour_mut().direct.send_request(&link.peer, Vec::new());
            link.probe = Some((id, now));
            link.next_probe = now + PROBE_INTERVAL;
        }
    }

    /// Asks one connected peer after the other.
    fn ask_next_for_records(&mut self) {
        let after_last = |key: &&PublicKey| self.last_asked.is_none_or(|last| **key > last);
        let confirmed = || self.links.iter().filter(|(_, link)| link.confirmed).map(|(key, _)| key);
        if let Some(next) = confirmed().find(after_last).or_else(|| confirmed().next()).copied() {
            self.last_asked = Some(next);
            self.ask_records(next);
        }
    }
}

/// Binds `address` once for a moment. libp2p itself shares listening ports (SO_REUSEPORT), so that a second node with
/// the same port would start without a word and take half of the first one's connections.
fn check_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "not an IP address")),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "not TCP")),
    }
}
