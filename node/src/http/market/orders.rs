//! Orders and cancels that the node signs for its home when it is asked over the API.
//!
//! Whoever brings the bearer token may trade for the home, as it may read everything of it. A browser cannot be made to:
//! the page's cookie only reads, the token is sent in a header, and only JSON is taken.

use std::time::Instant;

use api::{
    CancelRequest, EntryContent, EntryState, OrderEntries, OrderEntry, OrderEntryKind, OrderRequest,
    PAGE_DEFAULT, SCHEMA_VERSION, Time, is_request_id,
};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use energy::{Interval, Price, WattHours};
use ledger::{Body, EntryId, Hash32, Order};
use market::Side;
use serde::Deserialize;

use super::{Present, side_of};
use crate::desk::{DeskHandle, Which};
use crate::http::Served;
use crate::http::routes::{Answer, ApiError, Asked, asked};
use crate::store::orders::{KeptOrder, OrderBody, OrderFate};

type Signed = Result<(StatusCode, Json<OrderEntry>), ApiError>;

/// Which entries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesQuery {
    id: Option<String>,
    request_id: Option<String>,
}

/// `POST /api/v1/market/order`
pub async fn order(State(served): State<Served>, body: Result<Json<OrderRequest>, JsonRejection>) -> Signed {
    let request = json(body)?;
    let present = served.market()?;
    let replaces = request.replaces.as_deref().map(entry_id).transpose()?;
    let order = Order {
        home: present.home.clone(),
        interval: interval_of(&present, request.interval)?,
        side: match request.side {
            api::Side::Buy => Side::Buy,
            api::Side::Sell => Side::Sell,
        },
        price: Price::new(request.price),
        quantity: WattHours::new(request.quantity_wh),
        replaces,
    };
    sign(&served, request.request_id, Body::Order(order)).await
}

/// `POST /api/v1/market/cancel`
pub async fn cancel(
    State(served): State<Served>,
    body: Result<Json<CancelRequest>, JsonRejection>,
) -> Signed {
    let request = json(body)?;
    let order = entry_id(&request.order)?;
    let home = served.state.home.clone();
    sign(&served, request.request_id, Body::Cancel { home, order }).await
}

/// `GET /api/v1/market/entries`
pub async fn entries(State(served): State<Served>, query: Asked<EntriesQuery>) -> Answer<OrderEntries> {
    let which = match asked(query)? {
        EntriesQuery { id: Some(id), request_id: None } => Which::OfId(entry_id(&id)?),
        EntriesQuery { id: None, request_id: Some(request) } => Which::OfRequest(request),
        EntriesQuery { id: None, request_id: None } => Which::Newest(PAGE_DEFAULT),
        EntriesQuery { .. } => {
            return Err(ApiError::BadRequest("give id or request_id, not both".to_owned()));
        }
    };
    let kept = match &served.state.desk {
        Some(desk) => desk.entries(which).await?,
        None => Vec::new(),
    };
    let items = kept.into_iter().map(entry_row).collect();
    Ok(Json(OrderEntries { schema_version: SCHEMA_VERSION, items }))
}

async fn sign(served: &Served, request: String, body: Body) -> Signed {
    if !is_request_id(&request) {
        let what = "request_id must be 1 to 64 letters, digits, -, _ or ., and not begin with agent-";
        return Err(ApiError::BadRequest(what.to_owned()));
    }
    let desk = desk(served)?;
    served.orders.take(Instant::now()).map_err(ApiError::TooOften)?;
    // The ledger of a node that is behind says nothing about what the others would take.
    if served.state.live.snapshot().syncing {
        return Err(ApiError::Busy("the node is still fetching blocks; try again when it has caught up"));
    }
    let kept = desk.sign(request, body).await?;
    Ok((StatusCode::ACCEPTED, Json(entry_row(kept))))
}

fn desk(served: &Served) -> Result<&DeskHandle, ApiError> {
    served.state.desk.as_ref().ok_or(ApiError::Busy("this node signs no orders"))
}

/// The document in the body.
fn json<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    body.map(|Json(body)| body).map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLong,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ApiError::NotJson,
        _ => ApiError::BadRequest(rejection.body_text()),
    })
}

fn interval_of(present: &Present, start: Time) -> Result<Interval, ApiError> {
    Interval::starting_at(start.0, present.ledger.genesis_terms().mtu)
        .map_err(|error| ApiError::BadRequest(format!("interval: {error}")))
}

fn entry_id(text: &str) -> Result<EntryId, ApiError> {
    let mut id = [0; 32];
    let is_hex = hex::decode_to_slice(text, &mut id).is_ok();
    let what = "an order goes by its id, 64 hexadecimal digits";
    if is_hex { Ok(EntryId(Hash32(id))) } else { Err(ApiError::BadRequest(what.to_owned())) }
}

/// Entries that no block holds yet, of the intervals meant; a cancel is about no interval that is known here.
pub(super) fn pending(kept: Vec<KeptOrder>, is_meant: impl Fn(Interval) -> bool) -> Vec<OrderEntry> {
    let waits = |kept: &KeptOrder| kept.fate == OrderFate::Pending;
    let meant = |kept: &KeptOrder| match &kept.body {
        OrderBody::Order(order) => is_meant(order.interval),
        OrderBody::Cancel(_) => true,
    };
    kept.into_iter().filter(|kept| waits(kept) && meant(kept)).map(entry_row).collect()
}

fn entry_row(kept: KeptOrder) -> OrderEntry {
    let (state, height, reason) = match kept.fate {
        OrderFate::Pending => (EntryState::Pending, None, None),
        OrderFate::Final(height) => (EntryState::Final, Some(height), None),
        OrderFate::Refused(reason) => (EntryState::Refused, None, Some(reason)),
    };
    let (kind, content) = content_of(kept.body);
    OrderEntry {
        id: kept.id.to_string(),
        request_id: kept.request,
        kind,
        state,
        height,
        reason,
        signed_at: Time(kept.signed),
        content,
    }
}

fn content_of(body: OrderBody) -> (OrderEntryKind, EntryContent) {
    match body {
        OrderBody::Cancel(order) => {
            (OrderEntryKind::Cancel, EntryContent::Cancel { order: order.to_string() })
        }
        OrderBody::Order(order) => {
            let content = EntryContent::Order {
                interval_start: Time(order.interval.start()),
                side: side_of(order.side),
                price: order.price.get(),
                quantity_wh: order.quantity.get(),
                replaces: order.replaces.map(|order| order.to_string()),
            };
            (OrderEntryKind::Order, content)
        }
    }
}
