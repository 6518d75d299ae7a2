//! A client of the API.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{
    Assurance, Balance, BlockRow, CancelRequest, Event, Health, Household, IntervalRow, MarketBook,
    MarketCurve, MarketHistory, MarketRules, Member, Meters, NumberedEvent, OrderEntries, OrderEntry,
    OrderRequest, Page, Peers, Problem, ReadingRow, SettlementRow, Status, Submitted, Time, Today,
};

/// The longest answer that is read: far above any page, so that no server can fill the memory.
const ANSWER_MAX: usize = 4 << 20;

/// The longest single event that is read.
const EVENT_MAX: usize = 256 << 10;

/// How long a node may take to accept a connection, and to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered. Trying again later may help.
    #[error("no answer from {url}; is the node running?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        cause: reqwest::Error,
    },
    /// The node answered, and refused.
    #[error("{url} refused: {problem}")]
    Refused {
        /// What was asked.
        url: String,
        /// Its reasons.
        problem: Problem,
    },
    /// Somebody answered, but not as a node of this version does.
    #[error("{url} gave no answer of a node: {reason}")]
    Unexpected {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The address is none.
    #[error("{url:?} is not the address of a node, such as http://127.0.0.1:8480")]
    BadAddress {
        /// The address given.
        url: String,
    },
}

/// Talks to one node. Cheap to clone; connections are kept.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl fmt::Debug for Client {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the node at `base` (e.g. `http://127.0.0.1:8480`), with the bearer token of that node.
    ///
    /// # Errors
    /// [`ClientError::BadAddress`] if `base` is no HTTP address.
    pub fn new(base: &str, token: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadAddress { url: base.to_owned() };
        let url = reqwest::Url::parse(base).map_err(|_| bad())?;
        if url.scheme() != "http" || !url.has_host() {
            return Err(bad());
        }
        // No proxy: a node is on this machine or on the home's own network.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|_| bad())?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), token: token.trim().to_owned() })
    }

    /// The address of the node.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The node at a glance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/api/v1/status").await
    }

    /// The running day of the node's home, with its intervals if `series`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn today(&self, series: bool) -> Result<Today, ClientError> {
        self.get(&format!("/api/v1/today?series={series}")).await
    }

    /// Settled intervals of the community, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn intervals(
        &self,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<IntervalRow>, ClientError> {
        self.page("intervals", limit, cursor).await
    }

    /// Settlements of the node's home, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn settlements(
        &self,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<SettlementRow>, ClientError> {
        self.page("settlements", limit, cursor).await
    }

    /// The node's home as the ledger knows it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn member(&self) -> Result<Member, ClientError> {
        self.get("/api/v1/member").await
    }

    /// The account of the node's home.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn balance(&self) -> Result<Balance, ClientError> {
        self.get("/api/v1/balance").await
    }

    /// Readings of the node's home on the ledger, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn readings(&self, limit: u32, cursor: Option<&str>) -> Result<Page<ReadingRow>, ClientError> {
        self.page("readings", limit, cursor).await
    }

    /// How far the home's meter can be believed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn assurance(&self) -> Result<Assurance, ClientError> {
        self.get("/api/v1/assurance").await
    }

    /// Final blocks, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn blocks(&self, limit: u32, cursor: Option<&str>) -> Result<Page<BlockRow>, ClientError> {
        self.page("blocks", limit, cursor).await
    }

    /// Who decides blocks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delegates(&self) -> Result<crate::Delegates, ClientError> {
        self.get("/api/v1/ledger/delegates").await
    }

    /// The last final block.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ledger_head(&self) -> Result<crate::LedgerHead, ClientError> {
        self.get("/api/v1/ledger/head").await
    }

    /// One final block by its height.
    ///
    /// # Errors
    /// [`ClientError`]; refused as not found where the node holds none.
    pub async fn ledger_block(&self, height: u64) -> Result<crate::LedgerBlock, ClientError> {
        self.get(&format!("/api/v1/ledger/block?height={height}")).await
    }

    /// Blocks between two market times that came late or lack signatures.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn missed(&self, from: Time, until: Time) -> Result<crate::Missed, ClientError> {
        self.get(&format!("/api/v1/ledger/missed?from={from}&until={until}")).await
    }

    /// Does a step of a recovery of the chain.
    ///
    /// # Errors
    /// [`ClientError`]; refused with the reason.
    pub async fn recover(
        &self,
        request: &crate::RecoveryRequest,
    ) -> Result<crate::RecoveryAnswer, ClientError> {
        self.post("/api/v1/ledger/recovery", request).await
    }

    /// What of the chain the node holds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn holdings(&self) -> Result<crate::Holdings, ClientError> {
        self.get("/api/v1/ledger/holdings").await
    }

    /// Proof that an entry, named by 64 hexadecimal digits, is on the chain.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn proof(&self, entry: &str) -> Result<crate::ChainProof, ClientError> {
        self.get(&format!("/api/v1/ledger/proof?entry={entry}")).await
    }

    /// The peers of the node.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peers(&self) -> Result<Peers, ClientError> {
        self.get("/api/v1/peers").await
    }

    /// The meters of the home.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn meters(&self) -> Result<Meters, ClientError> {
        self.get("/api/v1/meters").await
    }

    /// What the household's agent plans, and what it told the devices.
    ///
    /// # Errors
    /// [`ClientError`]; refused as not found where there is no device to plan for.
    pub async fn household(&self) -> Result<Household, ClientError> {
        self.get("/api/v1/household").await
    }

    /// Whether the node does its work; a node that does not is an answer, not an error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ready(&self) -> Result<Health, ClientError> {
        let url = format!("{}/readyz", self.base);
        let response = send(self.http.get(&url).timeout(ANSWER_TIMEOUT), &url).await?;
        decode(&url, &body(response, &url).await?)
    }

    /// Hands in one signed ledger entry in its canonical encoding.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn submit(&self, entry: Vec<u8>) -> Result<Submitted, ClientError> {
        let url = format!("{}/api/v1/entries", self.base);
        let request = self.http.post(&url).bearer_auth(&self.token).timeout(ANSWER_TIMEOUT).body(entry);
        let response = accepted(send(request, &url).await?, &url).await?;
        decode(&url, &body(response, &url).await?)
    }

    /// The rules of the market and the coming `hours` of it, as they are for the node's home.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn market_rules(&self, hours: u32) -> Result<MarketRules, ClientError> {
        self.get(&format!("/api/v1/market/rules?hours={hours}")).await
    }

    /// The home's open orders and positions, of one interval or of all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn market_book(&self, interval: Option<Time>) -> Result<MarketBook, ClientError> {
        self.get(&format!("/api/v1/market/book{}", of_interval(interval))).await
    }

    /// What the gate of an interval came to; of the first that is open if none is named.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn market_curve(&self, interval: Option<Time>) -> Result<MarketCurve, ClientError> {
        self.get(&format!("/api/v1/market/curve{}", of_interval(interval))).await
    }

    /// The home's orders and fills of the last `days`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn market_history(
        &self,
        days: u32,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<MarketHistory, ClientError> {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        self.get(&format!("/api/v1/market/history?days={days}&limit={limit}{cursor}")).await
    }

    /// What the node signed for this request, and how far it is; `None` if it knows no such request.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn market_entry(&self, request_id: &str) -> Result<Option<OrderEntry>, ClientError> {
        let path = format!("/api/v1/market/entries?request_id={request_id}");
        let entries: OrderEntries = self.get(&path).await?;
        Ok(entries.items.into_iter().next())
    }

    /// Has the node sign an order for its home. The same request again is answered with the same order.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] says why the ledger would not take it.
    pub async fn order(&self, order: &OrderRequest) -> Result<OrderEntry, ClientError> {
        self.post("/api/v1/market/order", order).await
    }

    /// Has the node take an order of its home back.
    ///
    /// # Errors
    /// As [`Client::order`].
    pub async fn cancel(&self, cancel: &CancelRequest) -> Result<OrderEntry, ClientError> {
        self.post("/api/v1/market/cancel", cancel).await
    }

    /// Events as they happen, first those that followed number `after`, as far as the node still has them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, after: Option<u64>) -> Result<EventStream, ClientError> {
        let url = format!("{}/api/v1/events", self.base);
        let mut request = self.http.get(&url).bearer_auth(&self.token);
        if let Some(id) = after {
            request = request.header("last-event-id", id.to_string());
        }
        let response = accepted(send(request, &url).await?, &url).await?;
        Ok(EventStream { response, url, rest: Vec::new(), ready: VecDeque::new() })
    }

    async fn page<T: DeserializeOwned>(
        &self,
        what: &str,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<T>, ClientError> {
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        self.get(&format!("/api/v1/{what}?limit={limit}{cursor}")).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.base);
        let request = self.http.post(&url).bearer_auth(&self.token).timeout(ANSWER_TIMEOUT).json(body);
        let response = accepted(send(request, &url).await?, &url).await?;
        decode(&url, &self::body(response, &url).await?)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.base);
        let request = self.http.get(&url).bearer_auth(&self.token).timeout(ANSWER_TIMEOUT);
        let response = accepted(send(request, &url).await?, &url).await?;
        decode(&url, &body(response, &url).await?)
    }
}

/// The query that names an interval. Its text has no character that would need escaping.
fn of_interval(interval: Option<Time>) -> String {
    interval.map(|start| format!("?interval={start}")).unwrap_or_default()
}

/// Events of one node, in order.
#[derive(Debug)]
pub struct EventStream {
    response: Response,
    url: String,
    rest: Vec<u8>,
    ready: VecDeque<NumberedEvent>,
}

impl EventStream {
    /// The next event; `None` when the node ended the stream.
    ///
    /// # Errors
    /// [`ClientError`] if the connection broke or the stream is not one of events.
    pub async fn next(&mut self) -> Result<Option<NumberedEvent>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|cause| ClientError::Unreachable { url: self.url.clone(), cause })? {
                Some(chunk) => self.take(&chunk)?,
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), ClientError> {
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            if let Some(event) = parse_event(&self.url, &block)? {
                self.ready.push_back(event);
            }
        }
        if self.rest.len() > EVENT_MAX {
            return Err(unexpected(&self.url, format!("an event is longer than {EVENT_MAX} bytes")));
        }
        Ok(())
    }
}

/// One block of lines of a stream (WHATWG HTML, "Server-sent events"); `None` for comments.
fn parse_event(url: &str, block: &[u8]) -> Result<Option<NumberedEvent>, ClientError> {
    let text = std::str::from_utf8(block).map_err(|_| unexpected(url, "an event is not UTF-8"))?;
    let (mut id, mut data) = (0, None);
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => id = value.parse().map_err(|_| unexpected(url, "an event without a number"))?,
            "data" => data = Some(value),
            _ => {}
        }
    }
    let Some(data) = data else { return Ok(None) };
    let event: Event = decode(url, data.as_bytes())?;
    Ok(Some(NumberedEvent { id, event }))
}

fn unexpected(url: &str, reason: impl Into<String>) -> ClientError {
    ClientError::Unexpected { url: url.to_owned(), reason: reason.into() }
}

async fn send(request: RequestBuilder, url: &str) -> Result<Response, ClientError> {
    request.send().await.map_err(|cause| ClientError::Unreachable { url: url.to_owned(), cause })
}

/// The answer if it is a success, otherwise the problem it tells.
async fn accepted(response: Response, url: &str) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = body(response, url).await?;
    let problem = serde_json::from_slice(&bytes).map_err(|_| unexpected(url, format!("status {status}")))?;
    Err(ClientError::Refused { url: url.to_owned(), problem })
}

async fn body(mut response: Response, url: &str) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    let broken = |cause| ClientError::Unreachable { url: url.to_owned(), cause };
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > ANSWER_MAX {
            return Err(unexpected(url, format!("the answer is longer than {ANSWER_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(url: &str, bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| unexpected(url, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Power;

    #[test]
    fn an_address_must_be_http() {
        for bad in ["", "127.0.0.1:8480", "https://127.0.0.1:8480", "unix:/run/api.sock"] {
            assert!(matches!(Client::new(bad, "t"), Err(ClientError::BadAddress { .. })), "{bad}");
        }
        assert_eq!(Client::new("http://127.0.0.1:8480/", "t").unwrap().base(), "http://127.0.0.1:8480");
    }

    #[test]
    fn a_client_never_shows_its_token() {
        let client = Client::new("http://127.0.0.1:1", "secret-token").unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }

    #[test]
    fn an_event_is_read_from_its_lines_and_a_comment_is_none() {
        let block = b"event: power\nid: 7\ndata: {\"type\":\"power\",\"w\":12,\"age_ms\":0}\n\n";
        let event = parse_event("u", block).unwrap().unwrap();
        assert_eq!(event, NumberedEvent { id: 7, event: Event::Power(Power { w: 12, age_ms: 0 }) });
        assert_eq!(parse_event("u", b": keep alive\n\n").unwrap(), None);
        assert!(parse_event("u", b"data: {}\n\n").is_err());
    }
}
