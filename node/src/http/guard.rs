//! Who may ask, and what every answer carries.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use api::{PROBLEM_MEDIA_TYPE, Problem};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use energy::HomeId;
use sha2::{Digest, Sha256};

use super::Served;

/// How long a request may take; the streams of events have begun by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Only what this server itself serves may be loaded, by name of the kind; nothing is written into the page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The bearer token of a node as the server keeps it: only its hash, so that no dump of memory or log shows it.
#[derive(Clone)]
pub struct TokenHash {
    bearer: [u8; 32],
    page: [u8; 32],
}

impl TokenHash {
    /// The hash of `token` (the text of the token file; white space around it does not count).
    #[must_use]
    pub fn of(token: &str) -> Self {
        let page = page_key(token);
        Self { bearer: Sha256::digest(token.trim()).into(), page: Sha256::digest(&page).into() }
    }

    fn is_bearer(&self, token: &str) -> bool {
        equal(&self.bearer, &Sha256::digest(token.trim()).into())
    }

    fn is_page_key(&self, key: &str) -> bool {
        equal(&self.page, &Sha256::digest(key).into())
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// What the browser keeps instead of the token: it opens the page and reads, and does not give the token away.
fn page_key(token: &str) -> String {
    hex::encode(Sha256::new().chain_update("commonwatt/page/v1").chain_update(token.trim()).finalize())
}

/// Compares without telling by its duration where the difference is.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

/// Name of the page's cookie. The home is in it because cookies do not tell ports apart: several nodes on one machine
/// would overwrite each other's.
fn cookie_name(home: &HomeId) -> String {
    format!("commonwatt_{home}")
}

/// The cookie that opens the page for the holder of `token`; `None` if the token is not the node's.
pub(super) fn page_cookie(served: &Served, token: &str) -> Option<HeaderValue> {
    if !served.state.token.is_bearer(token) {
        return None;
    }
    let (name, key) = (cookie_name(&served.state.home), page_key(token));
    let cookie = format!("{name}={key}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000");
    HeaderValue::from_str(&cookie).ok()
}

/// True if the request brings the page's cookie.
pub(super) fn has_page_cookie(served: &Served, headers: &HeaderMap) -> bool {
    let name = cookie_name(&served.state.home);
    cookie(headers, &name).is_some_and(|key| served.state.token.is_page_key(key))
}

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Lets through who brings the bearer token, or, for reading, the page's cookie.
pub(super) async fn authorise(State(served): State<Served>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    // SameSite=Strict and a checked Host keep other sites from using the cookie; it never changes anything.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let allowed = match bearer {
        Some(token) => served.state.token.is_bearer(token),
        None => reads && has_page_cookie(&served, headers),
    };
    if allowed {
        return next.run(request).await;
    }
    let detail =
        "send the header `Authorization: Bearer <token>` with the content of the node's file api.token";
    let mut response = refuse(401, "unauthorized", "a valid token is needed", detail);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Lets through requests for this server by a name it goes by. A web page of somebody else whose name was made to
/// resolve to this machine (DNS rebinding) carries that name here. An IP address cannot be rebound.
pub(super) async fn check_host(State(served): State<Served>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    if host.is_some_and(|host| is_own_host(host, &served.state.hosts)) {
        return next.run(request).await;
    }
    let detail = "ask for the node by its IP address, as localhost, or by a host name from its configuration";
    refuse(421, "unknown-host", "this node does not go by that name", detail)
}

fn is_own_host(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || port.starts_with(':') => address,
            _ => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Ends requests that take too long.
pub(super) async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(
            503,
            "timeout",
            "the request took too long",
            "the node is busy; try again in a few seconds",
        ),
    }
}

/// What every answer carries.
pub(super) async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// An answer that tells a problem.
pub(super) fn refuse(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Response {
    let problem = Problem::new(status, code, title, detail);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE))];
    (status, media_type, Json(problem)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_known_names_are_own_hosts() {
        let names = ["commonwatt.local".to_owned()];
        for own in
            ["127.0.0.1:8480", "192.168.1.7", "[::1]:8480", "localhost", "LOCALHOST:1", "Commonwatt.local:80"]
        {
            assert!(is_own_host(own, &names), "{own}");
        }
        for foreign in
            ["", "evil.example", "evil.example:8480", "127.0.0.1.evil.example", "[::1", "[::1]x", "[evil]"]
        {
            assert!(!is_own_host(foreign, &names), "{foreign}");
        }
    }

    #[test]
    fn the_page_key_is_not_the_token_and_opens_only_the_page() {
        let hash = TokenHash::of("secret\n");
        assert!(hash.is_bearer("secret") && !hash.is_bearer("Secret") && !hash.is_bearer(""));
        let key = page_key("secret");
        assert!(hash.is_page_key(&key) && !hash.is_bearer(&key) && !hash.is_page_key("secret"));
        assert!(!format!("{hash:?}").contains("[1"), "the hash is not shown");
    }
}
