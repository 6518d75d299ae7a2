//! A node of home h1 in a street with forward trading: real entries, real blocks, a real ledger database; only consensus
//! is played by the test, which says when the next block is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use energy::{ClockQuality, Interval, Mtu, Price, Timestamp, WattHours};
use ledger::codec::Decode;
use ledger::{Body, EntryId, Forward, Genesis, Order, SignedEntry, VerifiedEntry};
use market::Side;
use reqwest::{Client, RequestBuilder, redirect};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::fixture::TOKEN;
use crate::clock::Clock;
use crate::desk::{self, DeskHandle, DeskParts};
use crate::engine::{Command, EngineHandle, Progress};
use crate::household::HouseholdParts;
use crate::http::{About, HttpState, Language, Live, Role, TokenHash, member_of, serve};
use crate::store::Durability;
use crate::store::fixture::{MEMBER, Street, genesis, home, key, start};
use crate::store::household::HouseholdDb;
use crate::store::ledger_db::LedgerDb;
use crate::zone::Zone;

/// Market time that stands still until the test moves it.
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn market(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::SeqCst))
    }

    fn speed(&self) -> u32 {
        1
    }

    fn quality(&self) -> ClockQuality {
        ClockQuality::Synced
    }
}

/// What the engine of this node would hold.
struct Chain {
    street: Street,
    db: LedgerDb,
    /// Own entries that wait for the next block.
    submitted: Vec<Vec<u8>>,
}

/// A node and its street.
pub struct MarketNode {
    chain: Arc<Mutex<Chain>>,
    pub live: Arc<Live>,
    progress: watch::Sender<Progress>,
    time: Arc<AtomicU64>,
    pub genesis: Genesis,
    pub desk: DeskHandle,
    engine: EngineHandle,
    url: String,
    http: Client,
    _stop: oneshot::Sender<()>,
    folder: TempDir,
}

impl MarketNode {
    /// Four homes with this kind of forward trading, at the chain's start.
    pub async fn start(forward: Forward) -> Self {
        Self::with(|genesis| genesis.forward = forward).await
    }

    /// Four homes with other terms.
    pub async fn with(change: impl FnOnce(&mut Genesis)) -> Self {
        let mut genesis = genesis();
        change(&mut genesis);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let db = LedgerDb::open(&path, Durability::Normal, &genesis, &home(1)).unwrap();
        let street = Street::of(genesis.clone());
        let chain = Arc::new(Mutex::new(Chain { street, db, submitted: Vec::new() }));
        let engine = play_engine(&chain);
        let time = Arc::new(AtomicU64::new(start().unix_ms()));
        let (progress, watching) = watch::channel(Progress::default());
        let desk = start_desk(&folder, &genesis, &time, (engine.clone(), watching));
        let live = live_of(&genesis, &time);
        let (stop, url) = serve_page(&folder, &live, &desk).await;
        let http = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        let node =
            Self { chain, live, progress, time, genesis, desk, engine, url, http, _stop: stop, folder };
        node.block(1, vec![]).await;
        node
    }

    /// A new desk over the same files, as after a restart; what the old one had submitted is lost.
    pub fn restart_desk(&mut self) {
        self.chain.lock().unwrap().submitted.clear();
        self.engine = play_engine(&self.chain);
        let watching = self.progress.subscribe();
        self.desk = start_desk(&self.folder, &self.genesis, &self.time, (self.engine.clone(), watching));
    }

    /// What a household's agent needs of this node.
    pub fn household_parts(&self) -> HouseholdParts {
        let ledger = self.chain.lock().unwrap().street.ledger.clone();
        let path = self.folder.path().join("household.db");
        HouseholdParts {
            home: home(1),
            key: key(MEMBER, 1),
            clock: Arc::new(Hand(Arc::clone(&self.time))),
            engine: self.engine.clone(),
            progress: self.progress.subscribe(),
            desk: self.desk.clone(),
            database: self.folder.path().join("ledger.db"),
            store: HouseholdDb::open(&path, &self.genesis.chain()).unwrap(),
            live: Arc::clone(&self.live),
            ledger,
        }
    }

    /// The interval that begins so many intervals after the chain's start.
    pub fn interval(&self, ahead: u64) -> Interval {
        let first = Interval::containing(start(), Mtu::Min15);
        Interval::from_index(first.index() + ahead, Mtu::Min15)
    }

    /// Sets market time, in minutes from the start.
    pub fn at(&self, minutes: u64) {
        self.time.store(start().plus_ms(minutes * 60_000).unix_ms(), Ordering::SeqCst);
    }

    /// The next block, at so many minutes: with what was submitted and `others`. Returns who was refused.
    pub async fn block(&self, minutes: u64, others: Vec<VerifiedEntry>) -> Vec<EntryId> {
        self.at(minutes);
        // What was handed to the engine before is taken before it answers.
        self.engine.ledger().await.unwrap();
        let mut chain = self.chain.lock().unwrap();
        let submitted = std::mem::take(&mut chain.submitted);
        let ledger_chain = *chain.street.ledger.chain();
        let own = submitted
            .iter()
            .map(|bytes| SignedEntry::from_bytes(bytes).unwrap().verify(&ledger_chain).unwrap());
        let entries: Vec<_> = own.chain(others).collect();
        let proposed = chain.street.ledger.propose(start().plus_ms(minutes * 60_000), &entries).unwrap();
        let certificate = chain.street.certify(&proposed.executed);
        chain.db.commit(&proposed.executed, &certificate, 40, 0).unwrap();
        let ledger = proposed.executed.ledger;
        chain.street.ledger = ledger.clone();
        self.live.set_member(member_of(&ledger, &home(1)));
        let height = ledger.height();
        self.live.set_ledger(ledger);
        // Readings come at once in this street.
        self.progress.send_replace(Progress { height, read_until: u64::MAX, ..Progress::default() });
        proposed.refused.into_iter().map(|(id, _)| id).collect()
    }

    /// A neighbour's order for the interval `ahead`.
    pub fn order_of(&self, number: u8, ahead: u64, side: Side, price: i64, quantity: u64) -> VerifiedEntry {
        let order = Order {
            home: home(number),
            interval: self.interval(ahead),
            side,
            price: Price::new(price),
            quantity: WattHours::new(quantity),
            replaces: None,
        };
        let mut chain = self.chain.lock().unwrap();
        let signed = chain.street.sign(&key(MEMBER, number), Body::Order(order));
        signed.verify(chain.street.ledger.chain()).unwrap()
    }

    /// How many own entries wait for the next block.
    pub async fn submitted(&self) -> usize {
        self.engine.ledger().await.unwrap();
        self.chain.lock().unwrap().submitted.len()
    }

    /// Forgets own entries on their way to a block.
    pub async fn lose_submitted(&self) {
        self.engine.ledger().await.unwrap();
        self.chain.lock().unwrap().submitted.clear();
    }

    /// Height and state root: what a refused order must not change.
    pub fn state(&self) -> (u64, ledger::Hash32) {
        let chain = self.chain.lock().unwrap();
        (chain.street.ledger.height(), chain.street.ledger.state_root())
    }

    pub fn client(&self) -> api::Client {
        api::Client::new(&self.url, TOKEN).unwrap()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    /// The page in a language.
    pub async fn page(&self, path: &str) -> String {
        let link = self.get(&format!("/?token={TOKEN}")).send().await.unwrap();
        let cookie = link.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        self.get(path).header("cookie", cookie).send().await.unwrap().text().await.unwrap()
    }

    /// Waits until the desk says something else of the request than that it is pending.
    pub async fn settled(&self, request: &str) -> api::OrderEntry {
        loop {
            let entry = self.client().market_entry(request).await.unwrap().unwrap();
            if entry.state != api::EntryState::Pending {
                return entry;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

/// Answers the desk as the engine does, on a thread of its own.
fn play_engine(chain: &Arc<Mutex<Chain>>) -> EngineHandle {
    let (engine, inbox) = EngineHandle::for_test();
    let chain = Arc::clone(chain);
    std::thread::spawn(move || {
        for command in inbox {
            let mut chain = chain.lock().unwrap();
            match command {
                Command::Ledger(answer) => drop(answer.send(Box::new(chain.street.ledger.clone()))),
                Command::Submit(bytes) if !chain.submitted.contains(&bytes) => chain.submitted.push(bytes),
                _ => {}
            }
        }
    });
    engine
}

fn start_desk(
    folder: &TempDir,
    genesis: &Genesis,
    time: &Arc<AtomicU64>,
    (engine, progress): (EngineHandle, watch::Receiver<Progress>),
) -> DeskHandle {
    desk::spawn(DeskParts {
        key: key(MEMBER, 1),
        clock: Arc::new(Hand(Arc::clone(time))),
        engine,
        progress,
        database: folder.path().join("ledger.db"),
        store: desk::open_store(folder.path(), &genesis.chain()).unwrap(),
    })
}

fn live_of(genesis: &Genesis, time: &Arc<AtomicU64>) -> Arc<Live> {
    let hand = Hand(Arc::clone(time));
    let live = Live::new(About {
        name: genesis.name.clone(),
        home: home(1),
        chain: genesis.chain().id.0,
        currency: genesis.currency.clone(),
        mtu: genesis.mtu,
        speed: 1,
        market_time: Box::new(move || hand.market()),
    });
    live.set_role(Role { delegate: true, delegates: 4, syncing: false });
    live
}

async fn serve_page(folder: &TempDir, live: &Arc<Live>, desk: &DeskHandle) -> (oneshot::Sender<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let state = HttpState {
        household: None,
        live: Arc::clone(live),
        database: folder.path().join("ledger.db"),
        home: home(1),
        token: TokenHash::of(TOKEN),
        submit: None,
        engine: None,
        desk: Some(desk.clone()),
        language: Language::Chinese,
        hosts: vec![],
        zone: Zone::UTC,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, state, async move {
        // An error means that the test is over, which is a stop as well.
        let _ = stopped.await;
    }));
    (stop, url)
}
