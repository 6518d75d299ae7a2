//! How a node with an empty store begins: with the state after a recent block, from whichever member gives one that holds.
//!
//! It asks one connected member after the other for a [`Package`], in parts, and believes none of them: the package must follow
//! from the genesis. Who holds all bodies is given the whole state, who does not what it may know of it; who gives decides by its
//! own ledger, and a home takes what it is given. What comes after the package it fetches block by block like everybody else. If nobody gives one in time, it
//! begins with the first block.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use energy::HomeId;
use ledger::codec::{Decode, Encode, Reader};
use ledger::{Checkpoint, Genesis, PublicKey};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::follow::Giving;
use crate::network::{NetworkEvent, NetworkHandle, Reply};
use crate::store::StoreError;
use crate::store::joined::{Held, PACKAGE_BYTES_MAX, Package};

/// First bytes of a request: what is asked, and the version.
const MAGIC: [u8; 4] = *b"cwj1";
/// Bytes of a package in one answer.
const PART_BYTES: usize = 1 << 20;
/// One part is awaited for so long.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// The most packages that are handed out at a time.
const MADE_MAX: usize = 8;
/// A member that gives a package is awaited for so long after the start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for a part of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    /// Height of its block; 0: of the newest one.
    height: u64,
    /// Which part.
    part: u32,
}

impl Request {
    fn to_bytes(self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        self.height.encode(&mut out);
        self.part.encode(&mut out);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.strip_prefix(&MAGIC)?);
        let request = Self { height: u64::decode(&mut reader).ok()?, part: u32::decode(&mut reader).ok()? };
        reader.finish().ok().map(|()| request)
    }
}

/// A part of a package.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    height: u64,
    /// Bytes of the whole package.
    total: u64,
    bytes: Vec<u8>,
}

impl Part {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len() + 16);
        self.height.encode(&mut out);
        self.total.encode(&mut out);
        out.extend_from_slice(&self.bytes);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (height, total) = (u64::decode(&mut reader).ok()?, u64::decode(&mut reader).ok()?);
        let rest = reader.take(reader.remaining(), "part").ok()?;
        (rest.len() <= PART_BYTES).then(|| Self { height, total, bytes: rest.to_vec() })
    }
}

/// See [`crate::outside::rewritten`].
pub(crate) fn rewritten(bytes: &[u8]) -> Option<Vec<u8>> {
    let request = Request::from_bytes(bytes).map(Request::to_bytes);
    request.or_else(|| Part::from_bytes(bytes).map(|part| part.to_bytes()))
}

/// Height and bytes of a package.
type Made = (u64, Arc<Vec<u8>>);

/// Hands out packages. Cheap to clone.
#[derive(Clone)]
pub struct Giver {
    database: PathBuf,
    genesis: Arc<Genesis>,
    /// What each home may get.
    giving: Giving,
    /// The packages being handed out: that of all bodies, and those of homes.
    made: Arc<Mutex<BTreeMap<Option<PublicKey>, Made>>>,
}

impl Giver {
    /// Gives what is in the ledger database at `database`.
    #[must_use]
    pub fn new(database: &Path, genesis: &Genesis, giving: Giving) -> Self {
        let genesis = Arc::new(genesis.clone());
        Self { database: database.to_owned(), genesis, giving, made: Arc::default() }
    }

    /// Answers a member's question on a thread of its own; a question of another kind, or one that cannot be answered, is
    /// refused.
    pub fn answer(&self, from: PublicKey, bytes: &[u8], reply: Reply) {
        let Some(request) = Request::from_bytes(bytes) else { return };
        let giver = self.clone();
        tokio::task::spawn_blocking(move || match giver.part(from, request) {
            Ok(Some(part)) => reply.send(part.to_bytes()),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no snapshot is handed out"),
        });
    }

    fn part(&self, from: PublicKey, request: Request) -> Result<Option<Part>, StoreError> {
        let whose = (!self.giving.may_hold_all(&from)).then_some(from);
        let made = self.lock().get(&whose).cloned();
        let (height, package) = match made {
            Some(made) if made.0 == request.height => made,
            _ if request.height == 0 => match self.make(whose)? {
                Some(package) => (package.header.height, Arc::new(package.to_bytes())),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let from = usize::try_from(request.part).unwrap_or(usize::MAX).saturating_mul(PART_BYTES);
        let until = from.saturating_add(PART_BYTES).min(package.len());
        let bytes = package.get(from..until).map(<[u8]>::to_vec);
        let mut made = self.lock();
        // Nothing is kept once somebody has it all: who comes later gets a newer one.
        made.remove(&whose);
        if until < package.len() && made.len() < MADE_MAX {
            made.insert(whose, (height, package.clone()));
        }
        Ok(bytes.map(|bytes| Part { height, total: package.len() as u64, bytes }))
    }

    fn make(&self, whose: Option<PublicKey>) -> Result<Option<Package>, StoreError> {
        let Some(key) = whose else { return Package::newest(&self.database, &self.genesis) };
        match self.giving.view_of(&key) {
            Some((view, _)) => Package::for_home(&self.database, &self.genesis, &view),
            None => Ok(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<PublicKey>, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is needed to begin.
pub struct Beginning<'a> {
    /// The way to the other members.
    pub network: &'a NetworkHandle,
    /// What the network reports; only who comes and goes is of interest until then.
    pub events: &'a mut mpsc::Receiver<NetworkEvent>,
    /// The chain's genesis.
    pub genesis: &'a Genesis,
    /// Whose node it is.
    pub home: &'a HomeId,
    /// Vouched for by people, where there is one.
    pub checkpoint: Option<&'a Checkpoint>,
}

impl Beginning<'_> {
    /// A package that holds and what it holds, if any member gives one in time; and who is connected by then.
    pub async fn fetch(mut self) -> (Option<(Package, Held)>, BTreeSet<PublicKey>) {
        let until = Instant::now() + PATIENCE;
        let (mut connected, mut waiting) = (BTreeSet::new(), VecDeque::new());
        loop {
            let Some(peer) = waiting.pop_front() else {
                match timeout_at(until, self.events.recv()).await {
                    Ok(Some(event)) => note(&event, &mut connected, &mut waiting),
                    Ok(None) | Err(_) => return (None, connected),
                }
                continue;
            };
            match self.fetch_from(peer, &mut connected, &mut waiting).await {
                Ok(taken) => return (Some(taken), connected),
                Err(reason) => {
                    tracing::info!(%peer, reason, "no snapshot from this member; the next is asked");
                }
            }
        }
    }

    async fn fetch_from(
        &mut self,
        peer: PublicKey,
        connected: &mut BTreeSet<PublicKey>,
        waiting: &mut VecDeque<PublicKey>,
    ) -> Result<(Package, Held), String> {
        let (mut bytes, mut height, mut part) = (Vec::new(), 0, 0);
        loop {
            let request = Request { height, part }.to_bytes();
            let asked = self.network.request(peer, request, PART_TIMEOUT);
            tokio::pin!(asked);
            // What happens meanwhile must not fill the queue: the answer comes the same way.
            let answer = loop {
                tokio::select! {
                    answer = &mut asked => break answer,
                    event = self.events.recv() => match event {
                        Some(event) => note(&event, connected, waiting),
                        None => return Err("the network has stopped".to_owned()),
                    },
                }
            };
            let answer = answer.map_err(|error| error.to_string())?;
            let got = Part::from_bytes(&answer).ok_or("its answer cannot be read")?;
            let fits = part == 0 || got.height == height;
            if !fits || got.bytes.is_empty() || got.total > PACKAGE_BYTES_MAX as u64 {
                return Err("its answer is of something else".to_owned());
            }
            bytes.extend_from_slice(&got.bytes);
            match (bytes.len() as u64).cmp(&got.total) {
                std::cmp::Ordering::Less => (height, part) = (got.height, part + 1),
                std::cmp::Ordering::Equal => break,
                std::cmp::Ordering::Greater => return Err("its answer is too long".to_owned()),
            }
        }
        self.check(bytes).await
    }

    async fn check(&self, bytes: Vec<u8>) -> Result<(Package, Held), String> {
        let (genesis, home, checkpoint) = (self.genesis.clone(), self.home.clone(), self.checkpoint.copied());
        let check = move || {
            let package = Package::from_bytes(&bytes).map_err(|error| error.to_string())?;
            let held = package.check(&genesis, checkpoint.as_ref(), &home);
            held.map(|held| (package, held)).map_err(|error| error.to_string())
        };
        let checked = tokio::task::spawn_blocking(check).await;
        checked.unwrap_or_else(|error| Err(format!("it could not be checked: {error}")))
    }
}

/// Keeps who is connected; everything else is said again later.
fn note(event: &NetworkEvent, connected: &mut BTreeSet<PublicKey>, waiting: &mut VecDeque<PublicKey>) {
    match event {
        NetworkEvent::PeerUp(peer) => {
            connected.insert(*peer);
            waiting.push_back(*peer);
        }
        NetworkEvent::PeerDown(peer) => {
            connected.remove(peer);
            waiting.retain(|waiting| waiting != peer);
        }
        // Dropping the reply of a request refuses it: there is nothing to give here yet.
        NetworkEvent::Gossip { .. } | NetworkEvent::Message { .. } | NetworkEvent::Request { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use libp2p::Multiaddr;

    use super::*;
    use crate::http::{About, Live};
    use crate::network::{NetworkConfig, spawn};
    use crate::store::Durability;
    use crate::store::fixture::{Street, genesis, home, store};
    use crate::store::ledger_db::LedgerDb;

    async fn host(seed: u8, peers: Vec<Multiaddr>) -> (NetworkHandle, mpsc::Receiver<NetworkEvent>) {
        let signing = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
        let config = NetworkConfig {
            key: signing(seed),
            chain: genesis().chain().id,
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            peers,
            members: (1..=3).map(|seed| PublicKey::of(&signing(seed))).collect(),
            mdns: false,
            entries: true,
            lane_of: |_| Some(crate::network::Lane::Words),
            relaying: crate::network::Relaying::default(),
        };
        spawn(config).await.unwrap()
    }

    const PEER: PublicKey = PublicKey([7; 32]);

    fn giver(path: &Path) -> Giver {
        let live = Live::new(About {
            name: String::new(),
            home: home(1),
            chain: genesis().chain().id.0,
            currency: "CNY".to_owned(),
            mtu: genesis().mtu,
            speed: 1,
            market_time: Box::new(|| energy::Timestamp::EPOCH),
        });
        Giver::new(path, &genesis(), Giving::new(path, &genesis(), live))
    }

    fn stored(folder: &Path) -> PathBuf {
        let path = folder.join("ledger.db");
        let mut db = LedgerDb::open(&path, Durability::Normal, &genesis(), &home(1)).unwrap();
        store(&mut db, &Street::new().run(8));
        path
    }

    #[tokio::test]
    async fn who_gives_something_else_is_passed_over_and_the_next_member_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = stored(folder.path());
        let giver = giver(&path);
        let (liar, mut liar_events) = host(1, vec![]).await;
        let (honest, mut honest_events) = host(2, vec![]).await;
        let peers = [&liar, &honest].map(|host| host.listen_addresses().remove(0)).to_vec();
        let (network, mut events) = host(3, peers).await;
        // One sends another snapshot under the right header, and waits for nobody.
        let spoilt = giver.clone();
        tokio::spawn(async move {
            while let Some(event) = liar_events.recv().await {
                if let NetworkEvent::Request { bytes, reply, .. } = event {
                    let mut part = spoilt.part(PEER, Request::from_bytes(&bytes).unwrap()).unwrap().unwrap();
                    let middle = part.bytes.len() / 2;
                    part.bytes[middle] ^= 1;
                    reply.send(part.to_bytes());
                }
            }
        });
        tokio::spawn(async move {
            while let Some(event) = honest_events.recv().await {
                if let NetworkEvent::Request { from, bytes, reply } = event {
                    giver.answer(from, &bytes, reply);
                }
            }
        });
        let genesis = genesis();
        let beginning = Beginning {
            network: &network,
            events: &mut events,
            genesis: &genesis,
            home: &home(3),
            checkpoint: None,
        };
        let (taken, connected) = beginning.fetch().await;
        let (package, held) = taken.unwrap();
        assert_eq!(package.header.id(), held.ledger().head());
        assert!(!connected.is_empty());
    }

    #[test]
    fn a_package_is_handed_out_in_parts_and_forgotten_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let giver = giver(&stored(folder.path()));
        let first = giver.part(PEER, Request { height: 0, part: 0 }).unwrap().unwrap();
        assert_eq!(first.bytes.len() as u64, first.total, "one part is enough for a small one");
        assert!(giver.lock().is_empty());
        assert_eq!(giver.part(PEER, Request { height: first.height, part: 1 }).unwrap(), None);
        assert_eq!(Part::from_bytes(&first.to_bytes()), Some(first));
        let request = Request { height: 9, part: 2 };
        assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        assert_eq!(Request::from_bytes(b"cwj2aaaaaaaaaaaa"), None);
    }

    #[test]
    fn nothing_is_handed_out_before_the_first_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        drop(LedgerDb::open(&path, Durability::Normal, &genesis(), &home(1)).unwrap());
        let giver = giver(&path);
        assert_eq!(giver.part(PEER, Request { height: 0, part: 0 }).unwrap(), None);
    }
}
