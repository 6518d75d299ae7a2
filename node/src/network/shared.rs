//! What handles and the network task share: connected peers with their outboxes, addresses, counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ledger::PublicKey;
use libp2p::Multiaddr;
use tokio::sync::Notify;

use super::conduct::Offence;
use super::queues::Outbox;
use super::relay::RelayReport;

/// A connected member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Its network key.
    pub key: PublicKey,
    /// The address at its end of the connection; with `p2p-circuit` in it, the way through a relay.
    pub address: Multiaddr,
    /// Wall time in milliseconds since 1970 at which it was found to be of this chain; for display.
    pub connected_since_ms: u64,
    /// The last measured round trip, none before the first.
    pub rtt: Option<Duration>,
}

/// A member that is refused for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BannedPeer {
    /// Its network key.
    pub key: PublicKey,
    /// Wall time in milliseconds since 1970 until which it is refused; for display.
    pub until_ms: u64,
    /// What it did last.
    pub offence: Offence,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was dropped or refused since the start, by reason. Each would be zero on a good day.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct NetworkCounters { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Default)]
        pub(super) struct Counters { $(pub(super) $name: AtomicU64,)* }

        impl Counters {
            fn snapshot(&self) -> NetworkCounters {
                NetworkCounters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Own messages that were empty or over their limit.
    too_long,
    /// Own direct messages dropped because the peer's queue was full.
    outbox_dropped,
    /// Own frames of direct messages that were never acknowledged.
    unacknowledged,
    /// Own gossip that found no subscriber or only full queues.
    gossip_unsent,
    /// Received messages dropped because this node did not keep up.
    inbox_dropped,
    /// Received messages over the sender's rate.
    rate_dropped,
    /// Received messages or frames over a limit or malformed.
    malformed,
    /// Requests refused because their sender had too many waiting.
    requests_refused,
    /// Connections of peers that are not members.
    strangers,
    /// Connections of members on another chain.
    other_chain,
    /// Times a member was banned for a while.
    bans,
}

/// A connected peer and what waits for it.
struct Peer {
    state: PeerState,
    outbox: Outbox,
}

/// State behind the handles.
#[derive(Default)]
pub(super) struct Shared {
    peers: Mutex<BTreeMap<PublicKey, Peer>>,
    banned: Mutex<BTreeMap<PublicKey, BannedPeer>>,
    listening: Mutex<Vec<Multiaddr>>,
    relays: Mutex<RelayReport>,
    counters: Counters,
    /// Wakes the task when an outbox got its first message.
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn connected(&self, key: PublicKey, address: Multiaddr) {
        let state = PeerState { key, address, connected_since_ms: wall_ms(), rtt: None };
        lock(&self.peers).insert(key, Peer { state, outbox: Outbox::default() });
    }

    pub(super) fn disconnected(&self, key: &PublicKey) {
        lock(&self.peers).remove(key);
    }

    /// The connection with a connected peer is another one now.
    pub(super) fn moved(&self, key: &PublicKey, address: Multiaddr) {
        if let Some(peer) = lock(&self.peers).get_mut(key) {
            peer.state.address = address;
        }
    }

    pub(super) fn measured(&self, key: &PublicKey, rtt: Duration) {
        if let Some(peer) = lock(&self.peers).get_mut(key) {
            peer.state.rtt = Some(rtt);
        }
    }

    /// Queues a message for a connected peer; false if it is none.
    pub(super) fn enqueue(&self, to: &PublicKey, message: Bytes) -> bool {
        let mut peers = lock(&self.peers);
        let Some(peer) = peers.get_mut(to) else { return false };
        let dropped = peer.outbox.push(message);
        drop(peers);
        self.counters.outbox_dropped.fetch_add(dropped, Ordering::Relaxed);
        self.wake.notify_one();
        true
    }

    /// The next frame of messages for `to`.
    pub(super) fn next_frame(&self, to: &PublicKey) -> Option<Vec<u8>> {
        lock(&self.peers).get_mut(to)?.outbox.next_frame()
    }

    /// Peers for which something waits.
    pub(super) fn waiting(&self) -> Vec<PublicKey> {
        lock(&self.peers).iter().filter(|(_, peer)| !peer.outbox.is_empty()).map(|(key, _)| *key).collect()
    }

    pub(super) fn peers(&self) -> Vec<PeerState> {
        lock(&self.peers).values().map(|peer| peer.state.clone()).collect()
    }

    pub(super) fn ban(&self, key: PublicKey, time: Duration, offence: Offence) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until_ms = wall_ms().saturating_add(time_ms);
        lock(&self.banned).insert(key, BannedPeer { key, until_ms, offence });
    }

    pub(super) fn lift_ban(&self, key: &PublicKey) {
        lock(&self.banned).remove(key);
    }

    pub(super) fn banned(&self) -> Vec<BannedPeer> {
        lock(&self.banned).values().cloned().collect()
    }

    pub(super) fn set_listening(&self, addresses: Vec<Multiaddr>) {
        *lock(&self.listening) = addresses;
    }

    pub(super) fn listening(&self) -> Vec<Multiaddr> {
        lock(&self.listening).clone()
    }

    pub(super) fn set_relays(&self, report: RelayReport) {
        *lock(&self.relays) = report;
    }

    pub(super) fn relays(&self) -> RelayReport {
        lock(&self.relays).clone()
    }

    pub(super) fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64) {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> NetworkCounters {
        self.counters.snapshot()
    }
}

/// A lock that outlives a panic of its holder: nothing here is left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For display only: nothing is decided by it, and the market's clock is another one in a demo.
#[expect(clippy::disallowed_methods, reason = "shown to people, never compared or signed")]
fn wall_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
