//! How members reach each other: libp2p over TCP, Noise and Yamux, owned by one task.
//!
//! - **Who**: a member's Ed25519 network key is its peer id. Anyone else is closed at once, before any protocol runs.
//!   A member of another chain is closed as soon as it says so; protocol names carry the chain's id besides, so the two
//!   share no protocol at all.
//! - **Gossip**: entries and final blocks to all members, anonymous, told apart by the hash of their content.
//! - **Direct**: one-way messages between delegates. They leave in order but may overtake each other. A message to a peer
//!   that is not connected, or beyond a queue's bound, is dropped: consensus sends again what matters.
//! - **Sync**: a question and its answer.
//! - **Limits**: every length is compared before anything is allocated, every queue has a bound (`limits`), every peer a
//!   rate. Nothing a peer sends can stop the task.
//!
//! What a peer sends is bytes to this module. It knows neither entries nor blocks; it never logs what it carries.

mod address_book;
mod behaviour;
mod codec;
mod conduct;
mod limits;
mod peer_id;
mod queues;
mod relay;
mod shared;
mod task;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use ledger::{Hash32, PublicKey};
use libp2p::gossipsub::MessageId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot, watch};

pub use conduct::Offence;
pub use limits::Lane;
pub use limits::{DIRECT_BYTES_MAX, GOSSIP_BYTES_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
pub use peer_id::{key_of, peer_id_of};
pub use relay::{RELAYS_MAX, RelayReport, RelayState, Relaying, Serving};
use shared::Shared;
pub use shared::{BannedPeer, NetworkCounters, PeerState};
use task::{Command, Task};

/// See [`crate::outside::reframed`].
pub(crate) fn reframed(frame: &[u8]) -> Option<Vec<u8>> {
    let mut again = Vec::with_capacity(frame.len());
    codec::split(frame)?.into_iter().for_each(|message| codec::append(&mut again, message));
    Some(again)
}

/// See [`crate::outside::addresses_learnt`].
pub(crate) fn addresses_learnt(answer: &[u8]) -> usize {
    let now = std::time::Instant::now();
    address_book::AddressBook::new(PublicKey([0; 32]), &[], now).learn(
        PublicKey([1; 32]),
        answer,
        now,
        |_| true,
    )
}

/// What the network is started with.
pub struct NetworkConfig {
    /// This member's network key; its peer id follows from it.
    pub key: SigningKey,
    /// The chain's id. Peers of another chain are disconnected.
    pub chain: Hash32,
    /// Addresses to listen on, such as `/ip4/0.0.0.0/tcp/7420`; port 0 takes a free one.
    pub listen: Vec<Multiaddr>,
    /// Peers that are dialled and dialled again for ever, with or without `/p2p/<peer id>`.
    pub peers: Vec<Multiaddr>,
    /// Network keys of all admitted members; this node's own may be among them.
    pub members: Vec<PublicKey>,
    /// Whether to look for members on the local network by multicast.
    pub mdns: bool,
    /// Whether it takes part in the gossip of entries: not where some members hold none of others.
    pub entries: bool,
    /// What kind of thing a direct message is, told from its first bytes; `None` if it is nothing that could be read.
    pub lane_of: fn(&[u8]) -> Option<Lane>,
    /// Through whom it is reached where nobody can dial it, and whether it is a relay itself.
    pub relaying: Relaying,
}

/// A gossiped frame of entries that was not passed on yet: what it holds is for the receiver to judge, and this node passes
/// on only what it would answer for itself.
#[derive(Debug)]
pub struct Unjudged {
    id: MessageId,
    relay: PeerId,
}

/// The gossip topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Signed entries on their way into a block.
    Entries,
    /// Final blocks with their certificates.
    Finals,
}

/// What the network reports.
#[derive(Debug)]
pub enum NetworkEvent {
    /// A gossiped message, once per content within some seconds.
    Gossip {
        /// Where it was published.
        topic: Topic,
        /// The neighbour that relayed it, not its author.
        from: PublicKey,
        /// At most [`GOSSIP_BYTES_MAX`].
        bytes: Vec<u8>,
        /// For [`NetworkHandle::judge`]; `None` for what is passed on whatever it says.
        unjudged: Option<Unjudged>,
    },
    /// A one-way direct message.
    Message {
        /// Its sender, proven by the connection.
        from: PublicKey,
        /// At most [`DIRECT_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// A question that waits for an answer.
    Request {
        /// Who asks, proven by the connection.
        from: PublicKey,
        /// At most [`REQUEST_BYTES_MAX`].
        bytes: Vec<u8>,
        /// Takes the answer; dropped, it refuses.
        reply: Reply,
    },
    /// A member of this chain is connected. Precedes everything that comes from it.
    PeerUp(PublicKey),
    /// It no longer is. What was queued for it is gone.
    PeerDown(PublicKey),
}

/// Takes the answer to one request.
pub struct Reply(oneshot::Sender<Vec<u8>>);

impl Reply {
    /// Answers with at most [`RESPONSE_BYTES_MAX`] bytes; a longer answer is not sent and the asker is told that there
    /// is none.
    pub fn send(self, bytes: Vec<u8>) {
        // Nobody listens any more if the peer has gone meanwhile.
        let _ = self.0.send(bytes);
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The signing key is not usable.
    #[error("network key cannot be used as a libp2p identity, create the node's keys anew")]
    Key,
    /// An address cannot be listened on.
    #[error("cannot listen on {address}, see that the port is free and the address one of this machine's")]
    Listen {
        /// The configured address.
        address: Multiaddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A listening address never became ready.
    #[error("no address to listen on within {seconds} s, check the configured listen addresses")]
    NotListening {
        /// How long it was waited.
        seconds: u64,
    },
    /// A protocol could not be set up.
    #[error("cannot set up {what}: {reason}")]
    Setup {
        /// Which part.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No connection with this member.
    #[error("member is not connected")]
    NotConnected,
    /// Too many requests wait already, at this peer or in this node.
    #[error("too many requests are waiting, ask again later or another member")]
    Busy,
    /// The request is over [`REQUEST_BYTES_MAX`].
    #[error("request of {length} bytes is over the limit of {REQUEST_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// No answer in time.
    #[error("no answer within {timeout_ms} ms, ask another member")]
    Timeout {
        /// How long it was waited.
        timeout_ms: u64,
    },
    /// The peer refused, disconnected, or answered over the limit.
    #[error("member gave no answer, ask another one")]
    Refused,
    /// The network has stopped.
    #[error("network has stopped")]
    Stopped,
}

/// The way to the network task. Cheap to clone; the task ends with [`NetworkHandle::shutdown`] or with the last handle.
#[derive(Clone)]
pub struct NetworkHandle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    members: Arc<watch::Sender<Vec<PublicKey>>>,
}

impl NetworkHandle {
    /// Publishes `bytes` to all members, waiting for room if much waits already. Longer than [`GOSSIP_BYTES_MAX`]: dropped
    /// and counted. The same bytes again within 15 s are not sent again.
    pub async fn gossip(&self, topic: Topic, bytes: impl Into<Bytes>) {
        if let Some(command) = self.gossip_command(topic, bytes.into()) {
            // Closed only after a stop, when nothing is published any more.
            let _ = self.commands.send(command).await;
        }
    }

    /// As [`NetworkHandle::gossip`], but false instead of waiting.
    #[must_use]
    pub fn try_gossip(&self, topic: Topic, bytes: impl Into<Bytes>) -> bool {
        self.gossip_command(topic, bytes.into())
            .is_some_and(|command| self.commands.try_send(command).is_ok())
    }

    fn gossip_command(&self, topic: Topic, bytes: Bytes) -> Option<Command> {
        let fits = !bytes.is_empty() && bytes.len() <= GOSSIP_BYTES_MAX;
        if !fits {
            self.shared.count(|it| &it.too_long);
        }
        fits.then_some(Command::Gossip { topic, bytes })
    }

    /// Queues a one-way message for `to`; false if it is not connected or the message is empty or longer than
    /// [`DIRECT_BYTES_MAX`]. True does not promise delivery: a full queue drops its oldest messages.
    #[must_use]
    pub fn try_send(&self, to: PublicKey, message: impl Into<Bytes>) -> bool {
        let message = message.into();
        if message.is_empty() || message.len() > DIRECT_BYTES_MAX {
            self.shared.count(|it| &it.too_long);
            return false;
        }
        self.shared.enqueue(&to, message)
    }

    /// Says whether a gossiped message is passed on to others. Whoever relays what is not is charged by
    /// [`NetworkHandle::charge`].
    pub fn judge(&self, message: Unjudged, good: bool) {
        // Not judged in time is not passed on, which is all that happens if the task is too busy.
        let _ = self.commands.try_send(Command::Judge { message, good });
    }

    /// Charges a peer with an offence. Too many of them, and it is disconnected and refused for a while.
    pub fn charge(&self, peer: PublicKey, offence: Offence) {
        // A task that is too busy to hear of one offence hears of the next.
        let _ = self.commands.try_send(Command::Charge { peer, offence });
    }

    /// Members that are refused at present, and why.
    #[must_use]
    pub fn banned(&self) -> Vec<BannedPeer> {
        self.shared.banned()
    }

    /// Asks `to` and waits for its answer.
    ///
    /// # Errors
    /// [`RequestError`]: not connected, too long, too many waiting, refused, too late, or stopped.
    pub async fn request(
        &self,
        to: PublicKey,
        bytes: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RequestError> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong { length: bytes.len() });
        }
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command::Request { to, bytes, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RequestError::Busy,
            mpsc::error::TrySendError::Closed(_) => RequestError::Stopped,
        })?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(RequestError::Refused),
            Err(_) => {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Err(RequestError::Timeout { timeout_ms })
            }
        }
    }

    /// Replaces the admitted members. Connections with those who are no longer among them are closed.
    pub fn set_members(&self, members: Vec<PublicKey>) {
        self.members.send_replace(members);
    }

    /// The connected members of this chain, by key.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerState> {
        self.shared.peers()
    }

    /// The addresses listened on, with the ports really taken.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.shared.listening()
    }

    /// What stands between this node and its relays, and what it passes on itself.
    #[must_use]
    pub fn relays(&self) -> RelayReport {
        self.shared.relays()
    }

    /// What was dropped or refused so far, by reason.
    #[must_use]
    pub fn counters(&self) -> NetworkCounters {
        self.shared.counters()
    }

    /// Stops: what is on its way may take half a second to arrive, then all connections are closed.
    pub async fn shutdown(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            // An error says that the task ended before it could answer: stopped all the same.
            let _ = stopped.await;
        }
    }
}

/// Starts the network and returns when it listens.
///
/// # Errors
/// [`NetworkError`] if the key is unusable, an address cannot be listened on, or a protocol not set up.
pub async fn spawn(
    config: NetworkConfig,
) -> Result<(NetworkHandle, mpsc::Receiver<NetworkEvent>), NetworkError> {
    let shared = Arc::new(Shared::default());
    let (commands, command_receiver) = mpsc::channel(limits::COMMANDS_MAX);
    let (events, event_receiver) = mpsc::channel(limits::EVENTS_MAX);
    let (members, members_changed) = watch::channel(config.members.clone());
    let mut task = Task::new(&config, Arc::clone(&shared), events, command_receiver, members_changed)?;
    task.listen(config.listen).await?;
    tokio::spawn(task.run());
    Ok((NetworkHandle { shared, commands, members: Arc::new(members) }, event_receiver))
}
