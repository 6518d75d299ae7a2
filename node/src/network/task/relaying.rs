//! Connections through relays: reservations at ours, and the change to a direct connection where one can be had.

use std::time::{Duration, Instant};

use ledger::PublicKey;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, dcutr, relay};

use super::{Link, Task, without_loopback};

/// A relayed connection ends so long after a direct one stands beside it: what is on its way may arrive.
const RELAYED_GRACE: Duration = Duration::from_secs(3);

impl Link {
    /// The way to the peer that is shown: the newest connection, a direct one before a relayed one.
    pub(super) fn way(&self) -> Option<&Multiaddr> {
        let newest = |relayed| self.connections.iter().rev().find(|it| it.relayed == relayed);
        newest(false).or_else(|| newest(true)).map(|it| &it.address)
    }

    /// True if every way there leads through a relay.
    pub(super) fn is_relayed(&self) -> bool {
        self.confirmed && self.connections.iter().all(|it| it.relayed)
    }

    /// Relayed connections that a direct one has made needless.
    fn needless(&self, now: Instant) -> Vec<ConnectionId> {
        let stands = |since: Instant| now.duration_since(since) > RELAYED_GRACE;
        if !self.connections.iter().any(|it| !it.relayed && stands(it.since)) {
            return Vec::new();
        }
        self.connections.iter().filter(|it| it.relayed).map(|it| it.id).collect()
    }
}

impl Task {
    /// Asks the relays that are connected to take connections for this home, as far as they do not yet.
    pub(super) fn reserve_due(&mut self, now: Instant) {
        let links = &self.links;
        let directly =
            |key: &PublicKey| links.get(key).is_some_and(|link| link.confirmed && !link.is_relayed());
        let due = self.relays.due(now, directly);
        for (place, address) in due {
            let listener = self.swarm.listen_on(address.clone());
            if let Err(error) = &listener {
                tracing::warn!(%address, %error, "relay cannot be asked");
            }
            self.relays.asked(place, listener.ok(), now);
            self.shared.set_relays(self.relays.report());
        }
    }

    /// True if `listener` stood for a reservation.
    pub(super) fn on_reservation_lost(&mut self, listener: ListenerId) -> bool {
        let relay = self.relays.closed(listener, Instant::now());
        if let Some((key, granted)) = relay {
            if granted {
                tracing::warn!(relay = %key, "relay takes connections for this home no longer, asked again soon");
            } else {
                tracing::debug!(relay = %key, "relay does not take connections for this home, asked again soon");
            }
            self.shared.set_relays(self.relays.report());
        }
        relay.is_some()
    }

    pub(super) fn on_circuit(&mut self, event: &relay::client::Event) {
        match event {
            relay::client::Event::ReservationReqAccepted { relay_peer_id, .. } => {
                if self.relays.accepted(relay_peer_id) {
                    tracing::info!(relay = %relay_peer_id, "relay takes connections for this home");
                    self.note_listening();
                    self.shared.set_relays(self.relays.report());
                    self.tell_record();
                }
            }
            relay::client::Event::OutboundCircuitEstablished { relay_peer_id, .. } => {
                tracing::debug!(relay = %relay_peer_id, "connected through a relay");
            }
            relay::client::Event::InboundCircuitEstablished { src_peer_id, .. } => {
                tracing::debug!(peer_id = %src_peer_id, "reached through a relay");
            }
        }
    }

    pub(super) fn on_served(&mut self, event: &relay::Event) {
        self.relays.on_served(event);
        self.shared.set_relays(self.relays.report());
    }

    pub(super) fn on_hole_punched(event: &dcutr::Event) {
        let peer = event.remote_peer_id;
        match &event.result {
            Ok(_) => tracing::info!(peer_id = %peer, "met directly, the relay is needed no longer"),
            Err(error) => tracing::info!(peer_id = %peer, %error, "no direct way, stays with the relay"),
        }
    }

    /// The addresses that this node, as a relay, tells those who reserve.
    pub(super) fn offer(&mut self, listening: &[Multiaddr]) {
        let own =
            if self.announced.is_empty() { without_loopback(listening) } else { self.announced.clone() };
        for address in own {
            self.swarm.add_external_address(address);
        }
        self.shared.set_relays(self.relays.report());
    }

    /// Closes relayed connections beside which a direct one stands.
    pub(super) fn let_relayed_go(&mut self, now: Instant) {
        for id in self.links.values().flat_map(|link| link.needless(now)).collect::<Vec<_>>() {
            self.swarm.close_connection(id);
        }
    }

    /// Shows the way to a connected peer as it is now.
    pub(super) fn show_way(&self, key: &PublicKey) {
        if let Some(way) = self.links.get(key).filter(|link| link.confirmed).and_then(Link::way) {
            self.shared.moved(key, way.clone());
        }
    }
}

/// True for an address that leads through a relay.
pub(super) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// Where the peer is: of one that came through a relay the way is known, not the address.
pub(super) fn address_behind(endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => local_addr.clone(),
        _ => endpoint.get_remote_address().clone(),
    }
}
