//! Signatures of others' entries are checked here, on threads of their own, before anything reaches the engine: what costs
//! most waits for nobody, and a frame that holds a forged entry is neither kept nor passed on.
//!
//! Every node judges gossiped frames alike, by their bytes alone, and passes on only those in which all signatures hold. So a
//! neighbour that relays a forged entry made it, or did not look: it is charged for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consensus::message::{self, Message};
use consensus::{Handed, entry_id};
use ledger::codec::Decode as _;
use ledger::{Chain, EntryId, PublicKey, SignedEntry};

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
            let worker = Worker {
                chain,
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

/// Why a frame is not taken.
enum Fault {
    /// It holds something that this program cannot read; a later one may.
    Foreign,
    /// It holds an entry whose signatures do not hold.
    Forged,
}

struct Worker {
    chain: Chain,
    queue: Arc<Mutex<Receiver<Job>>>,
    remembered: Arc<Mutex<Remembered>>,
    engine: EngineHandle,
    network: NetworkHandle,
}

impl Worker {
    /// Until nobody hands in frames any more, or the engine is gone.
    fn run(&self) {
        loop {
            // One thread waits for the next frame while the others work.
            let job = lock(&self.queue).recv();
            let Ok(Job { from, entries, unjudged }) = job else { return };
            let directly = unjudged.is_none();
            let checked = self.check(entries);
            if let Some(message) = unjudged {
                self.network.judge(message, checked.is_ok());
            }
            let entries = match checked {
                Ok(entries) => entries,
                Err(Fault::Foreign) => continue,
                Err(Fault::Forged) => {
                    self.network.charge(from, Offence::Forged);
                    continue;
                }
            };
            if !self.engine.tell_from_thread(Command::Entries { from, entries, directly }) {
                return;
            }
        }
    }

    /// All entries with their signatures checked.
    fn check(&self, entries: Vec<Vec<u8>>) -> Result<Vec<Handed>, Fault> {
        let mut checked = Vec::with_capacity(entries.len());
        let mut fresh = Vec::new();
        for bytes in entries {
            let id = entry_id(&bytes);
            if lock(&self.remembered).ids.contains(&id) {
                checked.push(Handed::Known(bytes));
                continue;
            }
            let signed = SignedEntry::from_bytes(&bytes).map_err(|_| Fault::Foreign)?;
            let entry = signed.verify(&self.chain).map_err(|_| Fault::Forged)?;
            fresh.push(id);
            checked.push(Handed::Verified(entry));
        }
        lock(&self.remembered).keep(fresh);
        Ok(checked)
    }
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
