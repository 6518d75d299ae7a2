//! The node's HTTP server: the API for programs and the household page for people.
//!
//! - Everything under `/api/v1` needs the bearer token made at init. `/healthz` and `/readyz` do not; they tell nothing
//!   about the home.
//! - The page is opened once with `/?token=…`, the link that `commonwatt status --page` prints. The browser then keeps a cookie
//!   (`HttpOnly`, `SameSite=Strict`) that opens the page and reads, but is not the token.
//! - A request must name this server by IP address, `localhost` or a configured name, so that no foreign web page can
//!   reach it through a rebound name. Bodies, durations, connections and streams are limited.
//! - The server only reads: `ledger.db` through connections opened read-only, the present through [`Live`]. There are three
//!   ways in: a signed ledger entry, handed to the engine; an order or cancel of this home, which the order desk
//!   signs; and a step of a recovery of the chain. All need the bearer token in a header, which no foreign page can make a browser send; a cookie only reads.
//! - It serves its own home. Rows of other homes are never read but to count who had a part in a gate; totals of the
//!   community are of five homes or more.
//!
//! What is deliberately absent: any computation of money. Amounts come from the ledger; the page only shows how they
//! add up, and how long a balance would last at recent use. The one exception: what a forward trade would have come to at
//! the supplier's prices, a product of two figures that are shown beside it.

mod chain;
mod database;
mod day;
mod delegates;
mod events;
mod guard;
mod household;
mod ledger;
mod live;
mod market;
mod member;
mod page;
mod page_routes;
mod routes;
mod server;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use ::ledger::ENTRY_BYTES_MAX;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use energy::HomeId;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::desk::DeskHandle;
use crate::engine::EngineHandle;
use crate::household::View;
use crate::zone::Zone;
use database::Database;
pub use guard::TokenHash;
pub use live::{About, Head, Live, Role};
use market::{DepthCache, RateLimit};
pub use member::member_of;
pub use page::Language;
pub use server::serve;

/// How many streams of events are served at once.
const EVENT_STREAMS_MAX: usize = 32;

/// What the server is made of.
#[derive(Debug)]
pub struct HttpState {
    /// The present.
    pub live: Arc<Live>,
    /// Path of `ledger.db`; it may appear later.
    pub database: PathBuf,
    /// The home whose rows are served.
    pub home: HomeId,
    /// The token that opens the API.
    pub token: TokenHash,
    /// Where signed entries go, in their canonical encoding; `None` if this node takes none.
    pub submit: Option<mpsc::Sender<Vec<u8>>>,
    /// Takes part in recoveries of the chain; `None` if this node does not.
    pub engine: Option<EngineHandle>,
    /// Signs orders of the home; `None` if this node signs none.
    pub desk: Option<DeskHandle>,
    /// What the household's agent shows; `None` where there is none.
    pub household: Option<watch::Receiver<Option<Arc<View>>>>,
    /// Language of the page where the browser asks for none that exists.
    pub language: Language,
    /// Host names of this server besides IP addresses and `localhost`, e.g. `commonwatt.local`.
    pub hosts: Vec<String>,
    /// Where the home's clocks are: its days are theirs.
    pub zone: Zone,
}

/// Shared by all requests.
#[derive(Clone)]
struct Served {
    state: Arc<HttpState>,
    database: Database,
    streams: Arc<Semaphore>,
    depth: DepthCache,
    orders: Arc<RateLimit>,
}

/// The routes of the server.
pub fn router(state: HttpState) -> Router {
    let served = Served {
        database: Database::new(state.database.clone()),
        state: Arc::new(state),
        streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
        depth: DepthCache::default(),
        orders: Arc::default(),
    };
    let guarded = Router::new()
        .route("/status", get(routes::status))
        .route("/today", get(routes::today))
        .route("/intervals", get(routes::intervals))
        .route("/settlements", get(routes::settlements))
        .route("/member", get(routes::member))
        .route("/balance", get(routes::balance))
        .route("/readings", get(routes::readings))
        .route("/assurance", get(routes::assurance))
        .route("/blocks", get(routes::blocks))
        .route("/ledger/delegates", get(delegates::delegates))
        .route("/ledger/head", get(ledger::head))
        .route("/ledger/block", get(ledger::block))
        .route("/ledger/missed", get(ledger::missed))
        .route(
            "/ledger/recovery",
            post(ledger::recovery).layer(DefaultBodyLimit::max(ledger::RECOVERY_BYTES_MAX)),
        )
        .route("/ledger/holdings", get(chain::holdings_of_node))
        .route("/ledger/proof", get(chain::proof))
        .route("/peers", get(routes::peers))
        .route("/meters", get(routes::meters))
        .route("/household", get(household::household))
        .route("/events", get(events::stream))
        .route("/entries", post(routes::submit))
        .route("/market/rules", get(market::rules))
        .route("/market/book", get(market::book))
        .route("/market/curve", get(market::curve))
        .route("/market/history", get(market::history))
        .route("/market/entries", get(market::entries))
        .route("/market/order", post(market::order))
        .route("/market/cancel", post(market::cancel))
        .route("/openapi.json", get(routes::openapi))
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        // Outside the fallbacks too: without the token nobody learns which addresses exist.
        .layer(from_fn_with_state(served.clone(), guard::authorise));
    Router::new()
        .nest("/api/v1", guarded)
        .route("/healthz", get(routes::alive))
        .route("/readyz", get(routes::ready))
        .route("/", get(page_routes::page))
        .route("/today", get(page_routes::fragment))
        .route("/rules", get(page_routes::rules))
        .route("/assets/page.css", get(page_routes::style))
        .route("/assets/page.js", get(page_routes::script))
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .layer(DefaultBodyLimit::max(ENTRY_BYTES_MAX))
        .layer(from_fn(guard::limit_time))
        .layer(from_fn_with_state(served.clone(), guard::check_host))
        .layer(from_fn(guard::add_headers))
        .with_state(served)
}
