//! Signatures of others' entries are checked here, on threads of their own, before anything reaches the engine: what costs
//! most waits for nobody, and a frame that holds a forged entry is not passed on.
//!
//! Every node judges gossiped frames alike, by their bytes alone, and passes on only those in which all signatures hold. So a
//! neighbour that relays a forged entry made it, or did not look: it is charged for it. The genuine entries beside it are kept
//! all the same: their authors have done nothing.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consensus::message::{self, Message};
use consensus::{Handed, entry_id};
use ledger::codec::Decode as _;
use ledger::{Chain, EntryId, KnownKeys, PublicKey, SignedEntry, VerifiedEntry};

use crate::engine::{Command, EngineHandle};
use crate::network::{Lane, NetworkEvent, NetworkHandle, Offence, Topic, Unjudged};

/// Frames waiting for a thread: a second of the most one peer may send, 4 MiB. Full: the network's queue waits.
const QUEUE_MAX: usize = 64;
/// A full queue is looked at again after this long.
const ROOM_CHECK: Duration = Duration::from_millis(2);
/// So many ids of entries whose signatures held are remembered: one that comes again, from another neighbour or from its
/// author who repeats it, is not checked again. Some seconds of the busiest load, 2 MiB.
const REMEMBERED_MAX: usize = 16_384;

/// A frame of entries.
struct Job {
    from: PublicKey,
    entries: Vec<Vec<u8>>,
    /// Of a gossiped frame: what says whether it is passed on.
    unjudged: Option<Unjudged>,
}

/// The way from the network to the engine.
pub struct Intake {
    jobs: SyncSender<Job>,
    engine: EngineHandle,
    network: NetworkHandle,
}

impl Intake {
    /// Starts the threads: one for each two processors, so that the engine and the network have some.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(chain: Chain, engine: &EngineHandle, network: &NetworkHandle) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let remembered = Arc::new(Mutex::new(Remembered::default()));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for number in 0..processors.div_ceil(2) {
            let mut worker = Worker {
                chain,
                keys: KnownKeys::default(),
                queue: Arc::clone(&queue),
                remembered: Arc::clone(&remembered),
                engine: engine.clone(),
                network: network.clone(),
            };
            std::thread::Builder::new().name(format!("intake-{number}")).spawn(move || worker.run())?;
        }
        Ok(Self { jobs, engine: engine.clone(), network: network.clone() })
    }

    /// Takes what the network reports: entries to the threads, all else to the engine. Waits while there is no room.
    pub async fn take(&self, event: NetworkEvent) {
        match event {
            NetworkEvent::Gossip { topic: Topic::Entries, from, bytes, unjudged } => {
                self.take_frame(from, &bytes, unjudged).await;
            }
            NetworkEvent::Message { from, bytes }
                if message::lane(&bytes) == Some(message::Lane::Entries) =>
            {
                self.take_frame(from, &bytes, None).await;
            }
            NetworkEvent::Gossip { topic, from, bytes, .. } => {
                self.engine.tell(Command::Gossip { from, topic, bytes }).await;
            }
            NetworkEvent::Message { from, bytes } => self.engine.tell(Command::Message { from, bytes }).await,
            NetworkEvent::PeerUp(key) => self.engine.tell(Command::PeerUp(key)).await,
            NetworkEvent::PeerDown(key) => self.engine.tell(Command::PeerDown(key)).await,
            // Nobody asks questions of this kind yet; dropping the reply refuses.
            NetworkEvent::Request { .. } => {}
        }
    }

    async fn take_frame(&self, from: PublicKey, bytes: &[u8], unjudged: Option<Unjudged>) {
        let entries = match Message::from_bytes(bytes) {
            Ok(Message::Entries(entries)) => entries,
            unreadable => {
                let excused = unreadable.is_err_and(|error| message::is_of_another_version(&error));
                return self.refuse(from, unjudged, excused);
            }
        };
        let mut job = Job { from, entries, unjudged };
        while let Err(TrySendError::Full(refused)) = self.jobs.try_send(job) {
            job = refused;
            tokio::time::sleep(ROOM_CHECK).await;
        }
    }
}

impl Intake {
    /// A frame that is none: it is not passed on, and charged to who sent it unless a later program may have made it.
    fn refuse(&self, from: PublicKey, unjudged: Option<Unjudged>, excused: bool) {
        if let Some(message) = unjudged {
            self.network.judge(message, false);
        }
        if !excused {
            self.network.charge(from, Offence::Unreadable);
        }
    }
}

/// The lane of a direct message, for the network's rates.
#[must_use]
pub fn lane_of(bytes: &[u8]) -> Option<Lane> {
    message::lane(bytes).map(|lane| match lane {
        message::Lane::Words => Lane::Words,
        message::Lane::Blocks => Lane::Blocks,
        message::Lane::Entries => Lane::Entries,
        message::Lane::Questions => Lane::Questions,
    })
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// This program cannot read it, a later one may; or it is signed for this chain before or after a recovery.
    Foreign,
    /// Its signatures do not hold.
    Forged,
}

struct Worker {
    chain: Chain,
    keys: KnownKeys,
    queue: Arc<Mutex<Receiver<Job>>>,
    remembered: Arc<Mutex<Remembered>>,
    engine: EngineHandle,
    network: NetworkHandle,
}

impl Worker {
    /// Until nobody hands in frames any more, or the engine is gone.
    fn run(&mut self) {
        loop {
            // One thread waits for the next frame while the others work.
            let job = lock(&self.queue).recv();
            let Ok(Job { from, entries, unjudged }) = job else { return };
            let directly = unjudged.is_none();
            let (entries, fault) = self.check(entries);
            if let Some(message) = unjudged {
                self.network.judge(message, fault.is_none());
            }
            if fault == Some(Fault::Forged) {
                self.network.charge(from, Offence::Forged);
            }
            if entries.is_empty() {
                continue;
            }
            if !self.engine.tell_from_thread(Command::Entries { from, entries, directly }) {
                return;
            }
        }
    }

    /// The entries whose signatures hold, and the worst that is wrong with one of the others.
    fn check(&mut self, entries: Vec<Vec<u8>>) -> (Vec<Handed>, Option<Fault>) {
        let mut checked = Vec::with_capacity(entries.len());
        let (mut fresh, mut worst) = (Vec::new(), None);
        for bytes in entries {
            let id = entry_id(&bytes);
            if lock(&self.remembered).ids.contains(&id) {
                checked.push(Handed::Known(bytes));
                continue;
            }
            match verify(&self.chain, &mut self.keys, &bytes, worst) {
                Ok(entry) => {
                    fresh.push(id);
                    checked.push(Handed::Verified(entry));
                }
                Err(fault) => worst = worst.max(Some(fault)),
            }
        }
        lock(&self.remembered).keep(fresh);
        (checked, worst)
    }
}

/// `worst`: what was wrong with entries before it in its frame. Behind a forged one nothing more is tried than the signature.
fn verify(
    chain: &Chain,
    keys: &mut KnownKeys,
    bytes: &[u8],
    worst: Option<Fault>,
) -> Result<VerifiedEntry, Fault> {
    let signed = SignedEntry::from_bytes(bytes).map_err(|_| Fault::Foreign)?;
    let is_other = || {
        worst != Some(Fault::Forged)
            && SignedEntry::from_bytes(bytes).is_ok_and(|signed| signed.is_of_another_recovery(chain))
    };
    signed.verify_among(chain, keys).map_err(|_| if is_other() { Fault::Foreign } else { Fault::Forged })
}

/// Ids of entries whose signatures held.
#[derive(Default)]
struct Remembered {
    ids: BTreeSet<EntryId>,
    in_order: VecDeque<EntryId>,
}

impl Remembered {
    fn keep(&mut self, fresh: Vec<EntryId>) {
        for id in fresh {
            if self.ids.insert(id) {
                self.in_order.push_back(id);
            }
        }
        while self.in_order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.in_order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
    }
}

/// A lock that outlives a panic of its holder: nothing behind it is left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use ed25519_dalek::SigningKey;
    use energy::HomeId;
    use ledger::codec::Encode as _;
    use ledger::{Body, Entry, Hash32, Salt, StandingLimits};
    use libp2p::Multiaddr;
    use tokio::sync::mpsc;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::network::{NetworkConfig, Relaying, spawn};

    const CHAIN: Chain = Chain { id: Hash32([7; 32]), recovery: 1 };
    const PATIENCE: Duration = Duration::from_secs(20);

    fn signing(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn key(seed: u8) -> PublicKey {
        PublicKey::of(&signing(seed))
    }

    /// What somebody says under a number, signed for a chain.
    fn entry(number: u64, chain: &Chain) -> Vec<u8> {
        let home = HomeId::new("h001").unwrap();
        let body = Body::StandingLimits { home, limits: StandingLimits::default() };
        Entry { signer: key(9), number, salt: Salt([1; 16]), body }.sign(chain, &signing(9)).to_bytes()
    }

    fn forged(number: u64) -> Vec<u8> {
        let mut bytes = entry(number, &CHAIN);
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    }

    fn frame(entries: &[Vec<u8>]) -> Vec<u8> {
        Message::Entries(entries.to_vec()).to_bytes()
    }

    async fn host(
        seed: u8,
        admitted: &[u8],
        peers: Vec<Multiaddr>,
    ) -> (NetworkHandle, mpsc::Receiver<NetworkEvent>) {
        spawn(NetworkConfig {
            key: signing(seed),
            chain: CHAIN.id,
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            peers,
            members: admitted.iter().map(|seed| key(*seed)).collect(),
            mdns: false,
            entries: true,
            lane_of,
            relaying: Relaying::default(),
        })
        .await
        .unwrap()
    }

    /// Tries until something comes of it: gossip may be lost, above all before a neighbour has subscribed.
    async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
        let tries = async {
            loop {
                if let Some(found) = attempt().await {
                    return found;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, tries).await.unwrap_or_else(|_| panic!("never {what}"))
    }

    /// A relayer and a listener that do not admit each other, and between them a node with its intake.
    struct Line {
        relayer: NetworkHandle,
        judge: NetworkHandle,
        engine: Receiver<Command>,
        heard: mpsc::Receiver<NetworkEvent>,
        number: u64,
        /// What runs only as long as somebody listens to it.
        _kept: (NetworkHandle, mpsc::Receiver<NetworkEvent>),
    }

    impl Line {
        async fn new() -> Self {
            let (judge, mut events) = host(2, &[1, 2, 3], vec![]).await;
            let at = judge.listen_addresses().remove(0);
            let (relayer, relayed) = host(1, &[1, 2], vec![at.clone()]).await;
            let (listener, heard) = host(3, &[2, 3], vec![at]).await;
            let (engine, inbox) = EngineHandle::for_test();
            let intake = Intake::start(CHAIN, &engine, &judge).unwrap();
            tokio::spawn(async move {
                while let Some(event) = events.recv().await {
                    intake.take(event).await;
                }
            });
            until("connected", || async { (judge.peers().len() == 2).then_some(()) }).await;
            Self { relayer, judge, engine: inbox, heard, number: 0, _kept: (listener, relayed) }
        }

        /// Gossips a frame of two new genuine entries with `between` among them. Returns the genuine ones.
        fn gossip(&mut self, between: &[Vec<u8>]) -> Vec<Vec<u8>> {
            let genuine = [entry(self.number + 1, &CHAIN), entry(self.number + 2, &CHAIN)];
            self.number += 2;
            let entries = [&genuine[..1], between, &genuine[1..]].concat();
            assert!(self.relayer.try_gossip(Topic::Entries, frame(&entries)));
            genuine.to_vec()
        }

        /// The same, and waits for what the engine is handed of it: the genuine ones alone.
        async fn relay(&mut self, between: &[Vec<u8>]) {
            let genuine = self.gossip(between);
            let engine = &self.engine;
            let handed = until("handed over", || async {
                let frames = engine.try_iter().filter_map(entries_of);
                frames.into_iter().find(|entries| entries.contains(&genuine[0]))
            });
            assert_eq!(handed.await, genuine);
        }

        /// Until a frame went all the way: what is gossiped before a neighbour has subscribed is lost.
        async fn open(&mut self) {
            for _ in 0..1000 {
                self.gossip(&[]);
                sleep(Duration::from_millis(20)).await;
                if self.engine.try_iter().count() > 0 && !self.passed_on().is_empty() {
                    return;
                }
            }
            panic!("no frame went all the way");
        }

        /// Frames that reached the listener so far.
        fn passed_on(&mut self) -> Vec<Vec<u8>> {
            let mut frames = Vec::new();
            while let Ok(event) = self.heard.try_recv() {
                if let NetworkEvent::Gossip { bytes, .. } = event {
                    frames.push(bytes.to_vec());
                }
            }
            frames
        }
    }

    fn entries_of(command: Command) -> Option<Vec<Vec<u8>>> {
        let Command::Entries { entries, .. } = command else { return None };
        let bytes = |handed| match handed {
            Handed::Verified(entry) => entry.bytes().to_vec(),
            Handed::Known(bytes) => bytes,
        };
        Some(entries.into_iter().map(bytes).collect())
    }

    #[tokio::test]
    async fn beside_a_forged_entry_the_genuine_ones_pass_and_the_relayer_is_charged_until_it_is_refused() {
        let mut line = Line::new().await;
        line.open().await;
        for number in 0..4 {
            assert_eq!(line.judge.banned(), [], "{number} forged entries are not enough");
            line.relay(&[forged(1_000_000 + number)]).await;
        }
        let banned = until("refused", || {
            let banned = line.judge.banned();
            async move { banned.first().map(|banned| (banned.key, banned.offence)) }
        });
        assert_eq!(banned.await, (key(1), Offence::Forged));
        let frames = line.passed_on();
        let spoilt = |bytes: &&Vec<u8>| matches!(Message::from_bytes(bytes), Ok(Message::Entries(entries)) if entries.len() > 2);
        assert_eq!(
            frames.iter().filter(spoilt).count(),
            0,
            "a frame with a forged entry is passed on to nobody"
        );
    }

    /// Who has not heard of a recovery signs for the chain before it, who has for the one after: neither is a forger.
    #[tokio::test]
    async fn an_entry_of_another_recovery_is_not_taken_and_nobody_is_charged() {
        let mut line = Line::new().await;
        line.open().await;
        for recovery in [0, 2, 0, 2, 3] {
            let other = entry(2_000_000 + line.number, &Chain { recovery, ..CHAIN });
            line.relay(&[other]).await;
        }
        assert_eq!(line.judge.banned(), []);
    }
}
