//! The API for programs: each function answers one address.

use std::sync::LazyLock;
use std::time::Duration;

use api::{
    Balance, CheckState, Health, MeterCondition, PAGE_DEFAULT, PAGE_MAX, Page, Peers, SCHEMA_VERSION, Status,
    Submitted, Today,
};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ledger::SignedEntry;
use ledger::codec::Decode;
use serde::Deserialize;
use tokio::sync::mpsc::error::TrySendError;

use super::database::{self, DatabaseError, SettlementPlace};
use super::day::{self, DayBounds, DayHead, LocalPrice, OutOfRange};
use super::{Served, guard};
use crate::bill::prepaid::{self, Consumption};
use crate::desk::DeskError;
use crate::store::billing;
use crate::zone;

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The request itself is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// The body is longer than any entry.
    #[error("an entry has at most {} bytes", ledger::ENTRY_BYTES_MAX)]
    TooLong,
    /// There is no such thing.
    #[error("{0}")]
    Absent(&'static str),
    /// Not now.
    #[error("{0}")]
    Busy(&'static str),
    /// The body is no JSON document.
    #[error("send a JSON document with the header `Content-Type: application/json`")]
    NotJson,
    /// Too many orders in too short a time.
    #[error("more orders than this node takes in that time; try again in {} s", after_s(*.0))]
    TooOften(Duration),
    /// The order desk did not sign.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The database does not answer.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Figures that cannot be shown.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let told = self.to_string();
        match self {
            Self::BadRequest(_) => {
                guard::refuse(400, "bad-request", "the request cannot be understood", told)
            }
            Self::TooLong => guard::refuse(413, "too-long", "the body is too long", told),
            Self::Absent(_) => guard::refuse(404, "not-found", "there is no such thing", told),
            Self::Busy(_) => guard::refuse(503, "busy", "not now", told),
            Self::NotJson => guard::refuse(415, "not-json", "the body is no JSON document", told),
            Self::TooOften(wait) => {
                let mut response = guard::refuse(429, "too-often", "too many orders", told);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after_s(wait)));
                response
            }
            Self::Desk(error) => not_signed(&error),
            Self::OutOfRange(_) => guard::refuse(500, "internal", "the node failed", told),
            Self::Database(error) => {
                // The cause is for the log of the node, not for the one who asks.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a question to the ledger database failed"
                );
                guard::refuse(
                    503,
                    "database",
                    "the ledger database does not answer",
                    "try again in a few seconds",
                )
            }
        }
    }
}

/// Whole seconds until something can be tried again.
fn after_s(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(1)
}

/// Why an order was not signed.
fn not_signed(error: &DeskError) -> Response {
    let told = error.to_string();
    match error {
        DeskError::Refused(_) => guard::refuse(422, "refused", "the ledger would refuse the order", told),
        DeskError::RequestUsed { .. } => guard::refuse(409, "request-used", "the request id is taken", told),
        DeskError::OrderPending { .. } | DeskError::TooManyPending(_) => {
            guard::refuse(409, "pending", "orders wait for a block", told)
        }
        DeskError::Stopping => guard::refuse(503, "busy", "not now", told),
        DeskError::Store(_) | DeskError::Salt(_) => {
            // The cause is for the log of the node, not for the one who asks.
            tracing::error!(error = error as &dyn std::error::Error, "an order could not be signed");
            guard::refuse(500, "internal", "the node failed", told)
        }
    }
}

pub(super) type Answer<T> = Result<Json<T>, ApiError>;

/// Which page of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    limit: Option<u32>,
    cursor: Option<String>,
}

pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;

/// The query of a request, or what is wrong with it.
pub(super) fn asked<T>(query: Asked<T>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|rejection| ApiError::BadRequest(rejection.body_text()))
}

impl PageQuery {
    /// How many rows, and the numbers of its cursor; the largest ones at the beginning of the list.
    fn place<const N: usize>(query: Asked<Self>) -> Result<(u32, [i64; N]), ApiError> {
        let query = asked(query)?;
        let limit = query.limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(ApiError::BadRequest(format!("limit must be 1 to {PAGE_MAX}, not {limit}")));
        }
        Ok((limit, cursor_numbers(query.cursor.as_deref())?))
    }
}

/// The numbers of a cursor; the largest ones at the beginning of the list.
pub(super) fn cursor_numbers<const N: usize>(cursor: Option<&str>) -> Result<[i64; N], ApiError> {
    let Some(cursor) = cursor else { return Ok([i64::MAX; N]) };
    let numbers: Option<Vec<i64>> = cursor.split('-').take(N + 1).map(|part| part.parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| <[i64; N]>::try_from(numbers).ok());
    let unknown = || ApiError::BadRequest("cursor must be the next_cursor of a page of this list".to_owned());
    numbers.ok_or_else(unknown)
}

/// `GET /api/v1/status`
pub(super) async fn status(State(served): State<Served>) -> Json<Status> {
    let mut status = served.state.live.snapshot();
    // The status is answered even while the database is not: what is known is known.
    status.last_settled = served.database.ask(database::last_settled).await.unwrap_or_default();
    Json(status)
}

/// Which day, and how much of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TodayQuery {
    day: Option<String>,
    series: Option<bool>,
}

/// `GET /api/v1/today`
pub(super) async fn today(State(served): State<Served>, query: Asked<TodayQuery>) -> Answer<Today> {
    let query = asked(query)?;
    let mut today = day_of(&served, served.day_bounds(query.day.as_deref())?).await?;
    if query.series == Some(false) {
        today.series.clear();
    }
    Ok(Json(today))
}

impl Served {
    /// The bounds of the day `YYYY-MM-DD`, or of the running one.
    pub(super) fn day_bounds(&self, day: Option<&str>) -> Result<DayBounds, ApiError> {
        let zone = self.state.zone;
        let Some(day) = day else { return Ok(DayBounds::containing(self.state.live.market_time(), zone)) };
        let bad = |_| ApiError::BadRequest(format!("{:?} is not a day such as 2016-06-13", shortened(day)));
        Ok(DayBounds::of(zone::date(day).map_err(bad)?, zone))
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The figures of one day of this node's home.
pub(super) async fn day_of(served: &Served, bounds: DayBounds) -> Result<Today, ApiError> {
    let live = &served.state.live;
    let home = served.state.home.to_string();
    let rows = {
        let home = home.clone();
        served.database.ask(move |db| database::day(db, &home, bounds.start, bounds.end)).await?
    };
    let sharing = live.ledger().map(|ledger| ledger.genesis_terms().market.sharing);
    let head = DayHead {
        home,
        currency: live.about().currency.clone(),
        bounds,
        market_time: live.market_time(),
        local: sharing.map(LocalPrice::of).unwrap_or_default(),
    };
    Ok(day::today(head, &rows)?)
}

/// `GET /api/v1/intervals`
pub(super) async fn intervals(
    State(served): State<Served>,
    query: Asked<PageQuery>,
) -> Answer<Page<api::IntervalRow>> {
    let (limit, [before]) = PageQuery::place(query)?;
    let rows = served.database.ask(move |db| database::intervals(db, before, limit + 1)).await?;
    Ok(Json(Page::cut(rows, limit, |row| row.start.unix_ms().to_string())))
}

/// `GET /api/v1/settlements`
pub(super) async fn settlements(
    State(served): State<Served>,
    query: Asked<PageQuery>,
) -> Answer<Page<api::SettlementRow>> {
    let (limit, [interval_ms, height, leaf]) = PageQuery::place(query)?;
    let (home, place) = (served.state.home.to_string(), SettlementPlace { interval_ms, height, leaf });
    let rows = served.database.ask(move |db| database::settlements(db, &home, place, limit + 1)).await?;
    let page =
        Page::cut(rows, limit, |(_, place)| format!("{}-{}-{}", place.interval_ms, place.height, place.leaf));
    Ok(Json(page.map(|(row, _)| row)))
}

/// `GET /api/v1/member`
pub(super) async fn member(State(served): State<Served>) -> Answer<api::Member> {
    let member = served.state.live.member();
    member.map(Json).ok_or(ApiError::Absent("this home is not on the ledger yet"))
}

/// `GET /api/v1/balance`
pub(super) async fn balance(State(served): State<Served>) -> Answer<Balance> {
    let balance = balance_of(&served).await?;
    balance.map(Json).ok_or(ApiError::Absent("this home has no account on the ledger yet"))
}

/// The account of this node's home and how long it lasts; `None` if it has none.
pub(super) async fn balance_of(served: &Served) -> Result<Option<Balance>, ApiError> {
    let (live, home) = (&served.state.live, served.state.home.to_string());
    let since = prepaid::look_back(live.market_time());
    let question = move |db: &rusqlite::Connection| {
        Ok((database::balance(db, &home)?, billing::consumption(db, &home, since)?))
    };
    let (Some(balance_n), (import_wh, intervals)) = served.database.ask(question).await? else {
        return Ok(None);
    };
    let (claim_n, reserved_n) = live.obligations();
    let free_n = balance_n.saturating_sub(reserved_n);
    // Without a price nobody is warned: it is known with the first block.
    let consumption = Consumption { import_wh, intervals, price: live.import_price().unwrap_or(0) };
    let lasting = prepaid::lasting(free_n, consumption, live.about().mtu);
    Ok(Some(Balance {
        schema_version: SCHEMA_VERSION,
        currency: live.about().currency.clone(),
        balance_n,
        claim_n,
        reserved_n,
        free_n,
        daily_cost_n: lasting.daily_cost,
        days_left: lasting.days,
        low: lasting.is_low,
    }))
}

/// `GET /api/v1/readings`
pub(super) async fn readings(
    State(served): State<Served>,
    query: Asked<PageQuery>,
) -> Answer<Page<api::ReadingRow>> {
    let (limit, [before]) = PageQuery::place(query)?;
    let home = served.state.home.to_string();
    let rows = served.database.ask(move |db| database::readings(db, &home, before, limit + 1)).await?;
    Ok(Json(Page::cut(rows, limit, |row| row.interval_start.unix_ms().to_string())))
}

/// `GET /api/v1/assurance`
pub(super) async fn assurance(State(served): State<Served>) -> Answer<api::Assurance> {
    let home = served.state.home.to_string();
    Ok(Json(served.database.ask(move |db| database::assurance(db, &home)).await?))
}

/// `GET /api/v1/blocks`
pub(super) async fn blocks(
    State(served): State<Served>,
    query: Asked<PageQuery>,
) -> Answer<Page<api::BlockRow>> {
    let (limit, [below]) = PageQuery::place(query)?;
    let rows = served.database.ask(move |db| database::blocks(db, below, limit + 1)).await?;
    Ok(Json(Page::cut(rows, limit, |row| row.height.to_string())))
}

/// `GET /api/v1/peers`
pub(super) async fn peers(State(served): State<Served>) -> Json<Peers> {
    let live = &served.state.live;
    Json(Peers { schema_version: SCHEMA_VERSION, items: live.peers(), relaying: live.relays() })
}

/// `GET /api/v1/meters`
pub(super) async fn meters(State(served): State<Served>) -> Json<api::Meters> {
    Json(served.state.live.meters())
}

/// `POST /api/v1/entries`: whoever may sign is checked by the ledger; here only that it is an entry at all.
pub(super) async fn submit(
    State(served): State<Served>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Submitted>), ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLong,
        _ => ApiError::BadRequest("the body did not arrive whole".to_owned()),
    })?;
    SignedEntry::from_bytes(&body)
        .map_err(|error| ApiError::BadRequest(format!("the body is not a signed entry: {error}")))?;
    let submit =
        served.state.submit.as_ref().ok_or(ApiError::Busy("this node takes no entries over its API"))?;
    submit.try_send(body.to_vec()).map_err(|error| match error {
        TrySendError::Full(_) => ApiError::Busy("too many entries wait; try again in a few seconds"),
        TrySendError::Closed(_) => ApiError::Busy("the node is stopping"),
    })?;
    let bytes = body.len() as u64;
    Ok((StatusCode::ACCEPTED, Json(Submitted { schema_version: SCHEMA_VERSION, bytes })))
}

/// `GET /api/v1/openapi.json`
pub(super) async fn openapi() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| api::openapi().to_json().unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

/// `GET /healthz`: that it answers is the answer.
pub(super) async fn alive() -> Json<Health> {
    Json(health(Vec::new()))
}

/// `GET /readyz`
pub(super) async fn ready(State(served): State<Served>) -> (StatusCode, Json<Health>) {
    let status = served.state.live.snapshot();
    let database = served.database.ask(database::last_settled).await;
    let reasons = [
        (status.syncing, "syncing: blocks that peers have are still being fetched"),
        (status.meter.state == MeterCondition::Starting, "meter: not tried yet"),
        (database.is_err(), "database: does not answer"),
    ];
    let reasons: Vec<String> =
        reasons.iter().filter(|(fails, _)| *fails).map(|(_, reason)| (*reason).to_owned()).collect();
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health(reasons)))
}

fn health(reasons: Vec<String>) -> Health {
    let status = if reasons.is_empty() { CheckState::Pass } else { CheckState::Fail };
    Health { schema_version: SCHEMA_VERSION, status, reasons }
}

/// Any other address.
pub(super) async fn not_found(uri: Uri) -> Response {
    let detail = format!("nothing at {}; /api/v1/openapi.json lists what there is", shortened(uri.path()));
    guard::refuse(404, "not-found", "there is no such thing", detail)
}

/// An address that exists, asked in another way.
pub(super) async fn method_not_allowed(uri: Uri) -> Response {
    let detail =
        format!("{} does not take that method; /api/v1/openapi.json lists them", shortened(uri.path()));
    guard::refuse(405, "method-not-allowed", "the method is not allowed here", detail)
}
