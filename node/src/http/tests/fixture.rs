//! A node's server on a free port, over a ledger database filled by hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use energy::{HomeId, Mtu, Timestamp};
use ledger::{Genesis, Ledger};
use reqwest::{Client, RequestBuilder, Response, redirect};
use rusqlite::{Connection, params};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::http::{About, HttpState, Language, Live, Role, TokenHash, serve};
use crate::store::fixture::genesis;
use crate::zone::Zone;

/// The token of the node.
pub const TOKEN: &str = "4f1c9d0e7ab2";

/// 2016-06-13T12:00:00Z.
pub const NOON_MS: i64 = 1_465_819_200_000;

/// One settlement as it stands in the database.
#[derive(Clone, Copy)]
pub struct Settled {
    pub home: &'static str,
    pub interval_ms: i64,
    pub kind: &'static str,
    pub height: i64,
    pub leaf: i64,
    pub metered: Option<(i64, i64)>,
    pub sold_bought: (i64, i64),
    pub local_amount_n: i64,
    pub supplier_import_export: (i64, i64),
    pub supplier_amount_n: i64,
    pub baseline_n: i64,
}

/// Import price 0.25, export price 0.08, so neighbours trade at 0.165; grid fees of 0.01 between neighbours and 0.05 from
/// the supplier, paid by who takes.
pub const SOLD_AT_NOON: Settled = Settled {
    home: "h001",
    interval_ms: NOON_MS,
    kind: "settled",
    height: 40,
    leaf: 400,
    metered: Some((100, 500)),
    sold_bought: (400, 0),
    local_amount_n: 400 * 165_000,
    supplier_import_export: (100, 100),
    supplier_amount_n: 100 * 80_000 - 100 * 300_000,
    baseline_n: 500 * 80_000 - 100 * 300_000,
};

/// The interval after it.
pub const BOUGHT_AFTER_NOON: Settled = Settled {
    home: "h001",
    interval_ms: NOON_MS + 900_000,
    kind: "settled",
    height: 41,
    leaf: 412,
    metered: Some((300, 0)),
    sold_bought: (0, 200),
    local_amount_n: -200 * 175_000,
    supplier_import_export: (100, 0),
    supplier_amount_n: -100 * 300_000,
    baseline_n: -300 * 300_000,
};

/// A neighbour's: none of its figures may ever be served.
pub const NEIGHBOUR: Settled = Settled {
    home: "h002",
    interval_ms: NOON_MS,
    kind: "settled",
    height: 40,
    leaf: 401,
    metered: Some((77_777, 0)),
    sold_bought: (0, 400),
    local_amount_n: -77_777_000,
    supplier_import_export: (77_377, 0),
    supplier_amount_n: -77_777_001,
    baseline_n: -77_777_002,
};

/// A server and everything it stands on.
pub struct Node {
    pub live: Arc<Live>,
    pub address: SocketAddr,
    pub entries: mpsc::Receiver<Vec<u8>>,
    pub stop: Option<oneshot::Sender<()>>,
    pub ended: tokio::task::JoinHandle<std::io::Result<()>>,
    pub http: Client,
    folder: TempDir,
}

impl Node {
    /// A node of home h001 in its community of twelve.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fill(&folder.path().join("ledger.db"), 12, &[SOLD_AT_NOON, BOUGHT_AFTER_NOON, NEIGHBOUR]);
        Self::start_in(folder).await
    }

    /// A node over what is in `folder`, shortly before one o'clock.
    pub async fn start_in(folder: TempDir) -> Self {
        Self::start_at(folder, "2016-06-13T12:50:00Z").await
    }

    /// A node over what is in `folder`, at a market time.
    pub async fn start_at(folder: TempDir, market_time: &str) -> Self {
        let market_time = Timestamp::parse(market_time).unwrap();
        let live = Live::new(About {
            name: "Lane <East>".to_owned(),
            home: HomeId::new("h001").unwrap(),
            chain: [7; 32],
            currency: "CNY".to_owned(),
            mtu: Mtu::Min15,
            speed: 1,
            market_time: Box::new(move || market_time),
        });
        live.set_member(Some(api::Member {
            recovery: 0,
            schema_version: api::SCHEMA_VERSION,
            home: "h001".to_owned(),
            chain: "07".repeat(32),
            meter: api::RegisteredMeter {
                serial: "SN-h001".to_owned(),
                epoch: 0,
                quantum_wh: 10,
                profile_hash: "01".repeat(32),
            },
            root_meter: None,
            next_number: 4,
            next_operator_number: 9,
            next_treasurer_number: 6,
        }));
        live.set_ledger(Ledger::genesis(&street_of("h001")).unwrap());
        live.set_role(Role { delegate: true, delegates: 7, syncing: false });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (submit, entries) = mpsc::channel(1);
        let state = HttpState {
            live: Arc::clone(&live),
            database: folder.path().join("ledger.db"),
            home: HomeId::new("h001").unwrap(),
            token: TokenHash::of(TOKEN),
            submit: Some(submit),
            engine: None,
            desk: None,
            household: None,
            language: Language::Chinese,
            hosts: vec!["commonwatt.local".to_owned()],
            zone: Zone::UTC,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(serve(listener, state, async move {
            let _ = stopped.await;
        }));
        let http = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
        Self { live, address, entries, stop: Some(stop), ended, http, folder }
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request with the token.
    pub fn ask(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path)).bearer_auth(TOKEN)
    }

    /// The cookie that the page's link gives.
    pub async fn page_cookie(&self) -> String {
        let response = self.http.get(self.url(&format!("/?token={TOKEN}"))).send().await.unwrap();
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// The page in a language, as its household sees it.
    pub async fn page(&self, path: &str) -> Response {
        let cookie = self.page_cookie().await;
        self.http.get(self.url(path)).header("cookie", cookie).send().await.unwrap()
    }

    pub fn client(&self) -> api::Client {
        api::Client::new(&self.url(""), TOKEN).unwrap()
    }
}

/// A community whose first home has this id.
fn street_of(home: &str) -> Genesis {
    let mut genesis = genesis();
    let home = HomeId::new(home).unwrap();
    genesis.members[0].admission.home = home.clone();
    genesis.delegates[0].home = home;
    genesis
}

/// Creates the database with `homes` settled homes and the given settlements, one reading each.
pub fn fill(path: &std::path::Path, homes: u32, settlements: &[Settled]) {
    let db = Connection::open(path).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.execute_batch(include_str!("../../store/ledger_db.sql")).unwrap();
    db.execute_batch(include_str!("../../store/ledger_tables.sql")).unwrap();
    for it in settlements {
        settle(&db, it);
        interval(&db, it, homes);
        let reading = "INSERT OR IGNORE INTO reading VALUES \
                       (?2, ?1, 1000, 2000, 'good', 'synced', 'SN-' || ?1, 0, 10, '0123456789abcdef', ?3)";
        db.execute(reading, params![it.home, it.interval_ms, it.height]).unwrap();
    }
    for number in 1..=homes.max(2) {
        let (home, balance) = (format!("h{number:03}"), if number == 1 { 9_000_000_000_i64 } else { 77_777 });
        let account = "INSERT INTO account VALUES ('home:' || ?1, 10000000000, ?2, 0)";
        db.execute(account, params![home, balance]).unwrap();
    }
    // Of the neighbour, 77777 stands for what nobody else may see.
    for (home, level, figure) in [("h001", 3, 18), ("h002", 2, 77_777)] {
        let stated = "INSERT INTO assurance VALUES (?1, ?2, ?3, 'consistent', ?4, 'not applicable', NULL, \
                      'unknown', NULL, 'consistent', 870, 40, 3)";
        db.execute(stated, params![home, NOON_MS, level, figure]).unwrap();
        let evidence = "INSERT INTO evidence VALUES (?1, ?2, x'090600000910', ?3, 1, 1003, 39)";
        db.execute(evidence, params![home, NOON_MS - 86_400_000, figure]).unwrap();
    }
    for height in 1..=45_i64 {
        let block = "INSERT INTO block VALUES (?1, ?2, ?3, 0, 12, x'', x'', x'', 0, 80, x'')";
        db.execute(block, params![height, [0xab_u8; 32], NOON_MS + height * 1_000]).unwrap();
    }
}

fn settle(db: &Connection, it: &Settled) {
    let (import, export) = it.metered.unzip();
    let amount = it.local_amount_n + it.supplier_amount_n;
    db.execute(
        "INSERT INTO settlement (home, interval_ms, kind, height, leaf, import_wh, export_wh, forward_wh, \
         forward_amount_n, sold_wh, bought_wh, local_amount_n, supplier_import_wh, supplier_export_wh, \
         supplier_amount_n, amount_n, baseline_n, claim_n, loss_n, incentive_n, quality, quantum_wh) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, 0, 0, 0, 'good', 10)",
        params![
            it.home,
            it.interval_ms,
            it.kind,
            it.height,
            it.leaf,
            import,
            export,
            it.sold_bought.0,
            it.sold_bought.1,
            it.local_amount_n,
            it.supplier_import_export.0,
            it.supplier_import_export.1,
            it.supplier_amount_n,
            amount,
            it.baseline_n
        ],
    )
    .unwrap();
}

fn interval(db: &Connection, it: &Settled, homes: u32) {
    db.execute(
        "INSERT OR IGNORE INTO interval (start_ms, import_price, export_price, matched_wh, supplier_import_wh, \
         supplier_export_wh, homes, missing, losses_wh, height, settled_ms) \
         VALUES (?1, 250000, 80000, 4321, 1234, 100, ?2, 0, NULL, ?3, ?4)",
        params![it.interval_ms, homes, it.height, it.interval_ms + 1_800_000],
    )
    .unwrap();
}
