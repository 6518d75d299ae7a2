//! Homes that nobody can dial: a member with a public address passes connections on, and both ends then try to meet
//! directly.
//!
//! A home behind a router that forwards nothing reserves a place at its configured relays (libp2p circuit relay v2) and
//! writes them into its signed record. Whoever dials it through one of them speaks Noise with the home itself: a relay
//! sees who, when and how much, and nothing of what. As soon as a relayed connection stands, both ends dial each other at
//! the same moment (DCUtR); where their routers let that through, the relayed connection is closed.
//!
//! Only members are connected at all, so only members reserve, and only members are reached. What one of them may take
//! of a relay is limited by its peer id.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use ledger::PublicKey;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, relay};

use super::address_book::{pause, peer_in};
use super::peer_id::key_of;

/// Relays that one home may name. Each one more is a connection and a reservation to keep.
pub const RELAYS_MAX: usize = 4;

/// Homes for which one node passes connections on.
const RESERVATIONS_MAX: usize = 64;
/// Reservations of one home: its present one, and that of the connection it had before its address changed.
const RESERVATIONS_PER_PEER_MAX: usize = 2;
/// Connections passed on at a time.
const CIRCUITS_MAX: usize = 512;
/// Of them, of one home: one to each other home that nobody can dial.
const CIRCUITS_PER_PEER_MAX: usize = 64;
/// A passed-on connection ends after this long; its ends connect anew.
const CIRCUIT_DURATION: Duration = Duration::from_secs(24 * 3600);
/// Or after so many bytes, both ways together: several times what a delegate sends one peer in a day.
const CIRCUIT_BYTES: u64 = 1 << 30;
/// New reservations and circuits of one home: this many at once, after that one in [`REFILL`]. A restart in the largest
/// neighbourhood needs as many circuits as there are homes behind routers.
const BURST: NonZeroU32 = NonZeroU32::new(128).expect("more than none");
/// See [`BURST`].
const REFILL: Duration = Duration::from_secs(10);

/// How this node reaches others through relays, and whether it is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relaying {
    /// Members that take connections for this home, each with its `/p2p/` peer id; at most [`RELAYS_MAX`].
    pub relays: Vec<Multiaddr>,
    /// Whether this node does so for other members.
    pub serves: bool,
    /// Where others reach this node beside the addresses it listens on: those of a router that forwards the port.
    pub announce: Vec<Multiaddr>,
}

/// What stands between this node and its relays, and what it does as a relay itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayReport {
    /// The configured relays.
    pub relays: Vec<RelayState>,
    /// What this node passes on; `None` if it is no relay.
    pub serving: Option<Serving>,
}

/// One configured relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayState {
    /// Its network key.
    pub key: PublicKey,
    /// Its address.
    pub address: Multiaddr,
    /// Whether it takes connections for this home now.
    pub reserved: bool,
}

/// What a relay does for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Serving {
    /// Homes for which it takes connections.
    pub homes: usize,
    /// Connections that it passes on.
    pub circuits: usize,
}

/// The relay's side, with its limits.
pub(super) fn server(own: PeerId) -> relay::Behaviour {
    let config = relay::Config {
        max_reservations: RESERVATIONS_MAX,
        max_reservations_per_peer: RESERVATIONS_PER_PEER_MAX,
        reservation_rate_limiters: Vec::new(),
        max_circuits: CIRCUITS_MAX,
        max_circuits_per_peer: CIRCUITS_PER_PEER_MAX,
        max_circuit_duration: CIRCUIT_DURATION,
        max_circuit_bytes: CIRCUIT_BYTES,
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    // By peer id only: homes of one street often share the address of their provider's translator.
    relay::Behaviour::new(
        own,
        config.reservation_rate_per_peer(BURST, REFILL).circuit_src_per_peer(BURST, REFILL),
    )
}

/// The relay in the middle of `address`, if it leads through one: an IP address, TCP, the relay, the circuit, and behind
/// it at the most the peer itself.
pub(super) fn relay_in(address: &Multiaddr) -> Option<PublicKey> {
    let mut parts = address.iter();
    let (Protocol::Ip4(_) | Protocol::Ip6(_)) = parts.next()? else { return None };
    let Protocol::Tcp(_) = parts.next()? else { return None };
    let Protocol::P2p(relay) = parts.next()? else { return None };
    let Protocol::P2pCircuit = parts.next()? else { return None };
    let ends = matches!(parts.next(), None | Some(Protocol::P2p(_))) && parts.next().is_none();
    key_of(&relay).filter(|_| ends)
}

/// The configured relays, and what this node serves as one.
pub(super) struct Relays {
    relays: Vec<Relay>,
    serving: Option<Clients>,
}

struct Relay {
    key: PublicKey,
    address: Multiaddr,
    /// The listener that stands for the reservation, asked for or granted.
    listener: Option<ListenerId>,
    reserved: bool,
    failures: u32,
    next: Instant,
}

#[derive(Default)]
struct Clients {
    homes: BTreeSet<PeerId>,
    circuits: usize,
}

impl Relays {
    pub(super) fn new(relaying: &Relaying, own: PublicKey, now: Instant) -> Self {
        let relay = |address: &Multiaddr| {
            let key = peer_in(address).and_then(|peer| key_of(&peer)).filter(|key| *key != own)?;
            let address = address.clone();
            Some(Relay { key, address, listener: None, reserved: false, failures: 0, next: now })
        };
        let relays = relaying.relays.iter().filter_map(relay).take(RELAYS_MAX).collect();
        Self { relays, serving: relaying.serves.then(Clients::default) }
    }

    pub(super) fn serves(&self) -> bool {
        self.serving.is_some()
    }

    /// Addresses to listen on now, each with the place of its relay: of those that are `connected` and hold nothing yet.
    pub(super) fn due(
        &self,
        now: Instant,
        connected: impl Fn(&PublicKey) -> bool,
    ) -> Vec<(usize, Multiaddr)> {
        let due = |relay: &Relay| relay.listener.is_none() && relay.next <= now && connected(&relay.key);
        let relays = self.relays.iter().enumerate().filter(|(_, relay)| due(relay));
        relays.map(|(place, relay)| (place, relay.circuit())).collect()
    }

    /// The reservation at `place` was asked for; `None` if that was not even possible.
    pub(super) fn asked(&mut self, place: usize, listener: Option<ListenerId>, now: Instant) {
        if let Some(relay) = self.relays.get_mut(place) {
            relay.listener = listener;
            if listener.is_none() {
                relay.failed(now);
            }
        }
    }

    /// `peer` takes connections for this home from now on, or goes on doing so. True if that is new.
    pub(super) fn accepted(&mut self, peer: &PeerId) -> bool {
        let key = key_of(peer);
        let relay = self.relays.iter_mut().find(|relay| Some(relay.key) == key);
        relay.is_some_and(|relay| {
            relay.failures = 0;
            !std::mem::replace(&mut relay.reserved, true)
        })
    }

    /// A listener closed. If it stood for a reservation, it is asked for again after a pause; this is its relay, and whether
    /// that had ever granted it.
    pub(super) fn closed(&mut self, listener: ListenerId, now: Instant) -> Option<(PublicKey, bool)> {
        let relay = self.relays.iter_mut().find(|relay| relay.listener == Some(listener))?;
        relay.listener = None;
        relay.failed(now);
        Some((relay.key, std::mem::take(&mut relay.reserved)))
    }

    /// Addresses at which this home is reached through its relays.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Multiaddr> {
        self.relays.iter().filter(|relay| relay.reserved).map(Relay::circuit)
    }

    /// Keeps count of what this node does as a relay.
    pub(super) fn on_served(&mut self, event: &relay::Event) {
        let Some(clients) = &mut self.serving else { return };
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, renewed: false } => {
                tracing::info!(peer_id = %src_peer_id, "takes connections for a member");
                clients.homes.insert(*src_peer_id);
            }
            relay::Event::ReservationClosed { src_peer_id }
            | relay::Event::ReservationTimedOut { src_peer_id } => {
                clients.homes.remove(src_peer_id);
            }
            relay::Event::CircuitReqAccepted { .. } => clients.circuits = clients.circuits.saturating_add(1),
            relay::Event::CircuitClosed { .. } => clients.circuits = clients.circuits.saturating_sub(1),
            relay::Event::ReservationReqDenied { src_peer_id, status } => {
                tracing::debug!(peer_id = %src_peer_id, ?status, "reservation denied");
            }
            relay::Event::CircuitReqDenied { src_peer_id, dst_peer_id, status } => {
                tracing::debug!(from = %src_peer_id, to = %dst_peer_id, ?status, "connection not passed on");
            }
            _ => {}
        }
    }

    pub(super) fn report(&self) -> RelayReport {
        let state = |relay: &Relay| RelayState {
            key: relay.key,
            address: relay.address.clone(),
            reserved: relay.reserved,
        };
        let serving = |clients: &Clients| Serving { homes: clients.homes.len(), circuits: clients.circuits };
        RelayReport {
            relays: self.relays.iter().map(state).collect(),
            serving: self.serving.as_ref().map(serving),
        }
    }
}

impl Relay {
    fn circuit(&self) -> Multiaddr {
        self.address.clone().with(Protocol::P2pCircuit)
    }

    fn failed(&mut self, now: Instant) {
        self.next = now + pause(self.failures);
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::super::peer_id::peer_id_of;
    use super::*;

    fn key(seed: u8) -> PublicKey {
        PublicKey::of(&SigningKey::from_bytes(&[seed; 32]))
    }

    fn at(seed: u8) -> Multiaddr {
        format!("/ip4/203.0.113.{seed}/tcp/8470/p2p/{}", peer_id_of(&key(seed)).unwrap()).parse().unwrap()
    }

    fn relays(seeds: &[u8], now: Instant) -> Relays {
        let relaying =
            Relaying { relays: seeds.iter().map(|seed| at(*seed)).collect(), ..Relaying::default() };
        Relays::new(&relaying, key(1), now)
    }

    #[test]
    fn a_lost_reservation_is_asked_for_again_after_a_pause_and_not_told_to_others_meanwhile() {
        let now = Instant::now();
        let mut relays = relays(&[2, 3], now);
        assert!(relays.due(now, |_| false).is_empty(), "nothing before the relay is connected");
        let due = relays.due(now, |it| *it == key(2));
        assert_eq!(due, [(0, at(2).with(Protocol::P2pCircuit))]);
        let listener = ListenerId::next();
        relays.asked(0, Some(listener), now);
        assert!(relays.due(now, |it| *it == key(2)).is_empty(), "asked once");
        assert_eq!(relays.addresses().count(), 0, "not granted yet");
        let peer = peer_id_of(&key(2)).unwrap();
        assert!(relays.accepted(&peer) && !relays.accepted(&peer), "a renewal is nothing new");
        assert_eq!(relays.addresses().collect::<Vec<_>>(), [at(2).with(Protocol::P2pCircuit)]);
        assert_eq!(relays.closed(ListenerId::next(), now), None, "another listener");
        assert_eq!(relays.closed(listener, now), Some((key(2), true)));
        assert_eq!(relays.addresses().count(), 0);
        assert!(relays.due(now, |it| *it == key(2)).is_empty(), "not at once");
        assert_eq!(relays.due(now + super::super::limits::REDIAL_MAX, |it| *it == key(2)).len(), 1);
    }

    #[test]
    fn only_a_plain_way_through_one_relay_is_a_circuit() {
        let (relay, home) = (at(2), peer_id_of(&key(3)).unwrap());
        let circuit = relay.clone().with(Protocol::P2pCircuit);
        assert_eq!(relay_in(&circuit), Some(key(2)));
        assert_eq!(relay_in(&circuit.clone().with(Protocol::P2p(home))), Some(key(2)));
        let twice = circuit.clone().with(Protocol::P2p(home)).with(Protocol::P2pCircuit);
        let named = "/dns4/example.org/tcp/1/p2p-circuit".parse().unwrap();
        for other in [relay, twice, named, circuit.with(Protocol::Tcp(1))] {
            assert_eq!(relay_in(&other), None, "{other}");
        }
    }

    #[test]
    fn this_node_is_not_its_own_relay_and_has_no_more_than_a_few() {
        let relays = relays(&[1, 2, 3, 4, 5, 6], Instant::now());
        assert_eq!(relays.report().relays.len(), RELAYS_MAX);
        assert!(relays.report().relays.iter().all(|relay| relay.key != key(1) && !relay.reserved));
        assert_eq!(relays.report().serving, None);
    }
}
