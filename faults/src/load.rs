//! People who trade: orders handed in at every node that answers, and a list of those that were acknowledged.
//!
//! An order is acknowledged when the node says at which height it is final. Whoever gets no answer asks again under the
//! same name, as a person would: that must never make a second order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Client, ClientError, OrderRequest, Side};
use tokio::task::JoinHandle;

use crate::random::Random;
use crate::street::{Home, Street};

/// A home hands in an order so often.
const EVERY: Duration = Duration::from_millis(2500);
/// No answer within this is none.
const PATIENCE: Duration = Duration::from_secs(3);
/// Orders without an answer that are asked about again at once.
const AGAIN_MAX: usize = 16;

/// An order that a node called final.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acknowledged {
    /// Id of its entry, 64 hexadecimal digits.
    pub id: String,
    /// At whose node.
    pub home: Home,
    /// Height of its block, as the node said.
    pub height: u64,
}

/// What came of the orders.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Orders handed in.
    pub asked: u64,
    /// Those that the ledger would refuse.
    pub refused: u64,
    /// Times that no answer came.
    pub unanswered: u64,
    /// By request: those called final.
    pub acknowledged: BTreeMap<String, Acknowledged>,
    /// By request: contradictions of a node with what it said before.
    pub contradictions: Vec<String>,
}

/// The traders, until stopped.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    traders: Vec<JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
}

impl Load {
    /// Begins to trade at every node of the street.
    ///
    /// # Errors
    /// If a node has no API token.
    pub fn begin(street: &Street, seed: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (tally, stop) = (Arc::<Mutex<Tally>>::default(), Arc::<AtomicBool>::default());
        let mut traders = Vec::new();
        for home in street.homes() {
            let trader = Trader {
                client: street.client(home)?,
                home,
                random: Random::new(seed.wrapping_add(u64::from(home) << 32)),
                waiting: Vec::new(),
                number: 0,
                tally: Arc::clone(&tally),
                stop: Arc::clone(&stop),
            };
            traders.push(runtime.spawn(trader.trade()));
        }
        Ok(Self { tally, stop, traders, runtime })
    }

    /// How many orders have been acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        lock(&self.tally).acknowledged.len()
    }

    /// Ends the trade and tells what came of it; orders without an answer are asked about once more.
    ///
    /// # Errors
    /// If a trader broke off.
    pub fn end(self) -> anyhow::Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        for trader in self.traders {
            self.runtime.block_on(trader)?;
        }
        Ok(lock(&self.tally).clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Trader {
    client: Client,
    home: Home,
    random: Random,
    /// Orders that are not known to be final, nor refused.
    waiting: Vec<OrderRequest>,
    number: u64,
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
}

impl Trader {
    async fn trade(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.hand_in().await;
            self.look_after().await;
            let jitter = Duration::from_millis(self.random.below(1000));
            tokio::time::sleep(EVERY + jitter).await;
        }
        self.look_after().await;
    }

    async fn hand_in(&mut self) {
        let Some(order) = self.next_order().await else { return };
        lock(&self.tally).asked += 1;
        self.waiting.push(order.clone());
        self.ask(order).await;
    }

    /// An order for one of the open intervals whose gate is not the very next.
    async fn next_order(&mut self) -> Option<OrderRequest> {
        let rules = tokio::time::timeout(PATIENCE, self.client.market_rules(2)).await.ok()?.ok()?;
        let open = rules.next.get(2..).filter(|open| !open.is_empty())?;
        let at = usize::try_from(self.random.below(open.len() as u64)).ok()?;
        let terms = open.get(at)?;
        self.number += 1;
        let side = if self.home.is_multiple_of(2) { Side::Sell } else { Side::Buy };
        Some(OrderRequest {
            request_id: format!("load-{}-{}", self.home, self.number),
            interval: terms.start,
            side,
            price: terms.local_price.clamp(terms.lowest, terms.highest),
            quantity_wh: rules.orders.min_wh + self.random.below(50),
            replaces: None,
        })
    }

    async fn ask(&mut self, order: OrderRequest) {
        match tokio::time::timeout(PATIENCE, self.client.order(&order)).await {
            Ok(Ok(entry)) => self.hear(&order.request_id, &entry),
            Ok(Err(ClientError::Refused { .. })) => {
                lock(&self.tally).refused += 1;
                self.waiting.retain(|waits| waits.request_id != order.request_id);
            }
            Ok(Err(_)) | Err(_) => lock(&self.tally).unanswered += 1,
        }
    }

    /// Asks about orders that are not final yet, and hands in again those that the node does not know.
    async fn look_after(&mut self) {
        for order in self.waiting.iter().take(AGAIN_MAX).cloned().collect::<Vec<_>>() {
            match tokio::time::timeout(PATIENCE, self.client.market_entry(&order.request_id)).await {
                Ok(Ok(Some(entry))) => self.hear(&order.request_id, &entry),
                Ok(Ok(None)) => self.ask(order).await,
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    fn hear(&mut self, request: &str, entry: &api::OrderEntry) {
        let mut tally = lock(&self.tally);
        if let Some(height) = entry.height {
            let heard = Acknowledged { id: entry.id.clone(), home: self.home, height };
            if let Some(before) = tally.acknowledged.insert(request.to_owned(), heard.clone())
                && before != heard
            {
                tally.contradictions.push(format!("{request}: {before:?}, then {heard:?}"));
            }
        }
        drop(tally);
        if entry.height.is_some() || entry.reason.is_some() {
            self.waiting.retain(|waits| waits.request_id != request);
        }
    }
}
