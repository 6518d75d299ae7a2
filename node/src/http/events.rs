//! The stream of server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::NumberedEvent;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::ready;
use futures::stream::{self, StreamExt};
use tokio_stream::wrappers::BroadcastStream;

use super::routes::ApiError;
use super::{EVENT_STREAMS_MAX, Served};

/// A comment so often keeps the connection from being taken for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /api/v1/events`: what was missed since `Last-Event-ID`, then everything as it happens. Ends when the listener
/// falls too far behind (it comes back and asks for what it missed) or the node stops.
pub(super) async fn stream(State(served): State<Served>, headers: HeaderMap) -> Response {
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let Ok(permit) = Arc::clone(&served.streams).try_acquire_owned() else {
        tracing::info!(limit = EVENT_STREAMS_MAX, "a listener was refused: too many streams of events");
        return ApiError::Busy("too many streams of events are open; close some").into_response();
    };
    let Some(listening) = served.state.live.listen(after) else {
        return ApiError::Busy("the node is stopping").into_response();
    };
    let following = BroadcastStream::new(listening.following)
        .take_while(|received| ready(received.is_ok()))
        .filter_map(|received| ready(received.ok()));
    let events = stream::iter(listening.missed).chain(following).map(move |event| {
        let _held_while_streaming = &permit;
        Ok::<_, Infallible>(encode(&event))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn encode(event: &NumberedEvent) -> Event {
    let encoded = Event::default().event(event.event.name()).id(event.id.to_string()).json_data(&event.event);
    // Plain numbers and text always encode; a comment keeps the place otherwise.
    encoded.unwrap_or_else(|_| Event::default().comment("not encodable"))
}
