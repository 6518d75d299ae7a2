//! The order desk: signs the home's orders and cancels, sees them to the ledger, and knows what became of them.
//!
//! Whoever trades for the home, a person over the API or the household's agent, does it here: the member key's numbers
//! have one source. A request names itself, and the same request is answered with the same entry for weeks, whatever was
//! killed in between. What the ledger would refuse is answered with its reason; nothing is signed, stored or sent then.
//!
//! A signed entry is stored before it is sent ([`OrderStore`]) and sent again until a final block holds it or the ledger
//! refuses it. The desk believes only what `ledger.db` holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use energy::Timestamp;
use ledger::{Body, Chain, Entry, EntryError, EntryId, Ledger, PublicKey, Stream, VerifiedEntry};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};

use crate::clock::Clock;
use crate::engine::{EngineHandle, Progress};
use crate::identity::{IdentityError, fresh_salt};
use crate::store::StoreError;
use crate::store::orders::{KeptOrder, OrderBody, OrderStore, Unsettled};

/// Requests that wait for the desk at the most.
const REQUESTS_MAX: usize = 32;
/// What is not final is handed to the engine again so often: it may have been busy, or restarted.
const RESUBMIT_EVERY: Duration = Duration::from_secs(10);
/// Entries that are looked after at once: more than a home signs in two hours.
const UNSETTLED_MAX: u32 = 256;
/// What was given up is still looked for in blocks so long after it was signed, in ms of market time: orders are for
/// intervals of the next two days.
const LOOKED_FOR_MS: u64 = 49 * 3_600_000;
/// The most entries that are listed at once.
pub const ENTRIES_MAX: u32 = 500;
/// How long SQLite waits for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the desk did not sign.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The request's name was used for something else.
    #[error("the request id {request:?} was used for another order; choose a new one for each order")]
    RequestUsed {
        /// Its name.
        request: String,
    },
    /// The ledger would refuse it.
    #[error("{0}")]
    Refused(String),
    /// It is about an order that no block holds yet.
    #[error("order {order} waits for its block; try again when it is recorded, in a few seconds")]
    OrderPending {
        /// The order.
        order: EntryId,
    },
    /// Too much of this home waits already.
    #[error("{0} orders of this home wait for a block; try again when they are recorded")]
    TooManyPending(u32),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The disk.
    #[error("the orders of this home cannot be stored")]
    Store(#[from] StoreError),
    /// No randomness for the salt.
    #[error(transparent)]
    Salt(#[from] IdentityError),
}

/// What the desk works with.
pub struct DeskParts {
    /// The home's member key.
    pub key: SigningKey,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Takes its entries, and knows the ledger.
    pub engine: EngineHandle,
    /// Tells of every final block.
    pub progress: watch::Receiver<Progress>,
    /// Path of `ledger.db`.
    pub database: PathBuf,
    /// Where its entries are kept.
    pub store: OrderStore,
}

/// The way to the desk. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeskHandle {
    requests: mpsc::Sender<Request>,
}

/// Which entries are asked for.
#[derive(Debug, Clone)]
pub enum Which {
    /// The newest, at most so many.
    Newest(u32),
    /// The one signed for this request.
    OfRequest(String),
    /// The one of this id.
    OfId(EntryId),
}

#[derive(Debug)]
enum Request {
    Sign { request: String, body: Box<Body>, answer: oneshot::Sender<Result<KeptOrder, DeskError>> },
    List { which: Which, answer: oneshot::Sender<Result<Vec<KeptOrder>, DeskError>> },
}

impl DeskHandle {
    /// Has an order or a cancel of this home signed, stored and sent for the request of this name. The same request again
    /// gives the same entry, and what has become of it.
    ///
    /// # Errors
    /// [`DeskError`]: why nothing was signed.
    pub async fn sign(&self, request: String, body: Body) -> Result<KeptOrder, DeskError> {
        let (answer, asked) = oneshot::channel();
        self.ask(Request::Sign { request, body: Box::new(body), answer }, asked).await
    }

    /// Entries that were signed here, newest first.
    ///
    /// # Errors
    /// [`DeskError::Store`], [`DeskError::Stopping`].
    pub async fn entries(&self, which: Which) -> Result<Vec<KeptOrder>, DeskError> {
        let (answer, asked) = oneshot::channel();
        self.ask(Request::List { which, answer }, asked).await
    }

    async fn ask<T>(
        &self,
        request: Request,
        asked: oneshot::Receiver<Result<T, DeskError>>,
    ) -> Result<T, DeskError> {
        self.requests.send(request).await.map_err(|_| DeskError::Stopping)?;
        asked.await.map_err(|_| DeskError::Stopping)?
    }
}

/// Starts the desk's task, which runs until the engine is gone or nobody can ask any more.
#[must_use]
pub fn spawn(parts: DeskParts) -> DeskHandle {
    let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
    tokio::spawn(Desk { parts }.run(inbox));
    DeskHandle { requests }
}

struct Desk {
    parts: DeskParts,
}

impl Desk {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut resubmit = skipping(RESUBMIT_EVERY);
        self.look_after().await;
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(request) => self.answer(request).await,
                    None => return,
                },
                changed = self.parts.progress.changed() => match changed {
                    Ok(()) => self.look_after().await,
                    Err(_) => return,
                },
                _ = resubmit.tick() => self.resubmit(),
            }
        }
    }

    async fn answer(&mut self, request: Request) {
        // Whoever asked may be gone; what was signed is signed.
        match request {
            Request::Sign { request, body, answer } => {
                let _ = answer.send(self.sign(request, *body).await);
            }
            Request::List { which, answer } => {
                let _ = answer.send(self.list(&which));
            }
        }
    }

    fn list(&self, which: &Which) -> Result<Vec<KeptOrder>, DeskError> {
        let store = &self.parts.store;
        Ok(match which {
            Which::Newest(limit) => store.newest((*limit).min(ENTRIES_MAX))?,
            Which::OfRequest(request) => store.of_request(request)?.into_iter().collect(),
            Which::OfId(id) => store.of_id(id)?.into_iter().collect(),
        })
    }

    async fn sign(&mut self, request: String, body: Body) -> Result<KeptOrder, DeskError> {
        if let Some(kept) = self.parts.store.of_request(&request)? {
            return if Some(&kept.body) == OrderBody::of(&body).as_ref() {
                Ok(kept)
            } else {
                Err(DeskError::RequestUsed { request })
            };
        }
        let ledger = self.parts.engine.ledger().await.ok_or(DeskError::Stopping)?;
        let now = after(&ledger, self.parts.clock.market());
        let waiting = self.waiting(&ledger, now)?;
        self.is_recorded(&body, &waiting)?;
        let key = &self.parts.key;
        let number = self.parts.store.next_number(ledger.last_number(&PublicKey::of(key), Stream::Orders))?;
        let entry = Entry { signer: PublicKey::of(key), number, salt: fresh_salt()?, body };
        let entry = entry.sign(ledger.chain(), key).verify(ledger.chain()).map_err(StoreError::from)?;
        would_hold(&ledger, &waiting, &entry, now)?;
        self.parts.store.keep(&entry, &request, now)?;
        self.hand_over(entry.bytes().to_vec());
        // It was stored a moment ago.
        self.parts.store.of_request(&request)?.ok_or(DeskError::Stopping)
    }

    /// Own entries that wait for a block, in the order of their numbers.
    fn waiting(&self, ledger: &Ledger, now: Timestamp) -> Result<Vec<VerifiedEntry>, DeskError> {
        let unsettled = self.parts.store.unsettled(now, UNSETTLED_MAX)?;
        let open = unsettled.into_iter().filter(|entry| entry.open);
        let entries: Vec<_> = open.filter_map(|entry| entry.signed.verify(ledger.chain()).ok()).collect();
        match u32::try_from(entries.len()) {
            Ok(count) if count < UNSETTLED_MAX => {
                Ok(entries.into_iter().filter(|entry| !ledger.is_used(entry.entry())).collect())
            }
            _ => Err(DeskError::TooManyPending(UNSETTLED_MAX)),
        }
    }

    /// An order that no block holds cannot be replaced or taken back: every delegate would refuse that for good.
    fn is_recorded(&self, body: &Body, waiting: &[VerifiedEntry]) -> Result<(), DeskError> {
        let meant = match body {
            Body::Order(order) => order.replaces,
            Body::Cancel { order, .. } => Some(*order),
            _ => None,
        };
        match meant.filter(|order| waiting.iter().any(|entry| entry.id() == *order)) {
            Some(order) => Err(DeskError::OrderPending { order }),
            None => Ok(()),
        }
    }

    fn hand_over(&self, entry: Vec<u8>) {
        if !self.parts.engine.submit(entry) {
            tracing::debug!("the engine has too much to do; the order is handed over again");
        }
    }

    fn resubmit(&self) {
        match self.parts.store.unsettled(self.parts.clock.market(), UNSETTLED_MAX) {
            Ok(entries) => {
                entries.into_iter().filter(|entry| entry.open).for_each(|entry| self.hand_over(entry.bytes));
            }
            Err(error) => tracing::error!(%error, "the orders of this home cannot be read"),
        }
    }

    /// After a block: which entries it holds, and which can never be on the ledger.
    async fn look_after(&mut self) {
        if let Err(error) = self.try_look_after().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the orders of this home are not followed"
            );
        }
    }

    async fn try_look_after(&mut self) -> Result<(), DeskError> {
        let now = self.parts.clock.market();
        let unsettled = self.parts.store.unsettled(now.minus_ms(LOOKED_FOR_MS), UNSETTLED_MAX)?;
        if unsettled.is_empty() {
            return Ok(());
        }
        let ledger = self.parts.engine.ledger().await.ok_or(DeskError::Stopping)?;
        let Some(stored) = Recorded::of(&self.parts.database, &unsettled) else { return Ok(()) };
        for (entry, height) in unsettled.into_iter().zip(&stored.heights) {
            match height {
                Some(height) => self.parts.store.confirm(&entry.id, *height)?,
                // Only a ledger that the database has caught up with says that an entry is not on it.
                None if entry.open && stored.head >= ledger.height() => {
                    if let Some(reason) = never(&ledger, &entry, after(&ledger, now)) {
                        tracing::info!(entry = %entry.id, reason, "the ledger does not take an order of this home");
                        self.parts.store.give_up(&entry.id, &reason)?;
                    }
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// A time at which the next block can be: the ledger goes forward only.
fn after(ledger: &Ledger, now: Timestamp) -> Timestamp {
    now.max(ledger.head_time().plus_ms(1))
}

/// Whether the next block would take the entry, also after what waits already.
fn would_hold(
    ledger: &Ledger,
    waiting: &[VerifiedEntry],
    entry: &VerifiedEntry,
    now: Timestamp,
) -> Result<(), DeskError> {
    let refused = |error: &EntryError| DeskError::Refused(error.to_string());
    ledger.check(entry, now).map_err(|error| refused(&error))?;
    if waiting.is_empty() {
        return Ok(());
    }
    let entries: Vec<_> = waiting.iter().chain([entry]).cloned().collect();
    // A block that cannot be made at all says nothing about the entry.
    let Ok(proposed) = ledger.propose(now, &entries) else { return Ok(()) };
    match proposed.refused.iter().find(|(id, _)| *id == entry.id()) {
        Some((_, error)) => Err(refused(error)),
        None => Ok(()),
    }
}

/// Why the entry can never be on this ledger, if so.
fn never(ledger: &Ledger, entry: &Unsettled, now: Timestamp) -> Option<String> {
    if ledger.is_used(entry.signed.unchecked()) {
        return Some("a later order of this home was recorded before it; order again".to_owned());
    }
    let verified = match entry.signed.clone().verify(ledger.chain()) {
        Ok(verified) => verified,
        Err(error) => return Some(error.to_string()),
    };
    match ledger.check(&verified, now) {
        // Time alone lifts this.
        Ok(()) | Err(EntryError::Quota { .. }) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// What `ledger.db` holds of some entries.
struct Recorded {
    /// Height of its last block.
    head: u64,
    /// The blocks that hold them, in their order.
    heights: Vec<Option<u64>>,
}

impl Recorded {
    /// `None` while the database does not answer: the next block asks again.
    fn of(database: &Path, entries: &[Unsettled]) -> Option<Self> {
        let read = || -> rusqlite::Result<Self> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(database, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // One view for all questions.
            let view = connection.transaction()?;
            let whole = |value: i64| u64::try_from(value).unwrap_or(0);
            let head = view.query_row("SELECT coalesce(max(height), 0) FROM block", [], |row| row.get(0))?;
            let mut statement =
                view.prepare("SELECT height FROM entry WHERE id = ?1 AND kind <> 'reading'")?;
            let height = |entry: &Unsettled| statement.query_row([entry.id.0.0], |row| row.get(0)).optional();
            let heights: Vec<Option<i64>> = entries.iter().map(height).collect::<rusqlite::Result<_>>()?;
            let heights = heights.into_iter().map(|height| height.map(whole)).collect();
            Ok(Self { head: whole(head), heights })
        };
        read()
            .inspect_err(|error| tracing::warn!(%error, "the ledger database does not answer the order desk"))
            .ok()
    }
}

fn skipping(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Opens the file of a home's orders in its data folder.
///
/// # Errors
/// [`StoreError`].
pub fn open_store(data_dir: &Path, chain: &Chain) -> Result<OrderStore, StoreError> {
    OrderStore::open(&data_dir.join("orders.db"), chain)
}
