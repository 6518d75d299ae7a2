//! The household page over HTTP: who may see it, in which language, and its two assets.

use std::sync::LazyLock;

use api::Today;
use axum::extract::{Query, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use maud::Markup;
use serde::Deserialize;

use super::day::DayBounds;
use super::page::{self, Language, MarketView, View};
use super::routes::{self, ApiError};
use super::{Served, database, guard, household, market};

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");

/// Changes with the content of the assets, so that browsers may keep them for ever.
static ASSETS: LazyLock<String> = LazyLock::new(|| {
    format!("{:08x}", crc32fast::hash(STYLE.as_bytes()) ^ crc32fast::hash(SCRIPT.as_bytes()))
});

const LANGUAGE_COOKIE: &str = "commonwatt_lang";

/// What may be asked of the page. Unknown parameters do not matter to people.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageQuery {
    token: Option<String>,
    lang: Option<String>,
    day: Option<String>,
}

/// `GET /`
pub(super) async fn page(State(served): State<Served>, uri: Uri, headers: HeaderMap) -> Response {
    let query = query_of(&uri);
    let language = language(&served, &query, &headers);
    if let Some(token) = &query.token {
        return match guard::page_cookie(&served, token) {
            // Away from the address with the token, so that it stays out of the history.
            Some(cookie) => {
                (AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to(&without_token(&query)))
                    .into_response()
            }
            None => denied(language),
        };
    }
    if !guard::has_page_cookie(&served, &headers) {
        return denied(language);
    }
    let mut response = show(&served, &query, language, page::page).await;
    if query.lang.as_deref().and_then(Language::from_tag).is_some() {
        let cookie =
            format!("{LANGUAGE_COOKIE}={}; Path=/; SameSite=Strict; Max-Age=31536000", language.tag());
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// `GET /rules`
pub(super) async fn rules(State(served): State<Served>, uri: Uri, headers: HeaderMap) -> Response {
    let query = query_of(&uri);
    let language = language(&served, &query, &headers);
    if !guard::has_page_cookie(&served, &headers) {
        return denied(language);
    }
    show(&served, &query, language, page::rules).await
}

/// `GET /today`: the part of the page that changes.
pub(super) async fn fragment(State(served): State<Served>, uri: Uri, headers: HeaderMap) -> Response {
    let query = query_of(&uri);
    let language = language(&served, &query, &headers);
    if !guard::has_page_cookie(&served, &headers) {
        return denied(language);
    }
    show(&served, &query, language, page::main).await
}

/// `GET /assets/page.css`
pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

/// `GET /assets/page.js`
pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

fn asset(media_type: &'static str, content: &'static str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, content).into_response()
}

/// A query that cannot be read counts as none: a mistyped address still shows the day.
fn query_of(uri: &Uri) -> PageQuery {
    Query::try_from_uri(uri).map(|Query(query)| query).unwrap_or_default()
}

fn without_token(query: &PageQuery) -> String {
    match query.lang.as_deref().and_then(Language::from_tag) {
        Some(language) => format!("/?lang={}", language.tag()),
        None => "/".to_owned(),
    }
}

/// As asked in the address, else as chosen before, else as the browser prefers, else as configured.
fn language(served: &Served, query: &PageQuery, headers: &HeaderMap) -> Language {
    let asked = query.lang.as_deref().and_then(Language::from_tag);
    let chosen = || guard::cookie(headers, LANGUAGE_COOKIE).and_then(Language::from_tag);
    let preferred = || headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok().and_then(Language::accepted);
    asked.or_else(chosen).or_else(preferred).unwrap_or(served.state.language)
}

fn denied(language: Language) -> Response {
    (StatusCode::UNAUTHORIZED, page::denied(language, &ASSETS)).into_response()
}

async fn show(
    served: &Served,
    query: &PageQuery,
    language: Language,
    render: fn(&View) -> Markup,
) -> Response {
    match view(served, query, language).await {
        Ok(view) => render(&view).into_response(),
        Err(ApiError::BadRequest(_)) => Redirect::to("/").into_response(),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the page could not be made");
            (StatusCode::SERVICE_UNAVAILABLE, page::unavailable(language, &ASSETS)).into_response()
        }
    }
}

async fn view(served: &Served, query: &PageQuery, language: Language) -> Result<View, ApiError> {
    let (bounds, today) = shown_day(served, query.day.as_deref()).await?;
    let home = served.state.home.to_string();
    let of_home =
        move |db: &rusqlite::Connection| Ok((database::meter(db, &home)?, database::standing(db, &home)?));
    let (meter, assurance) = served.database.ask(of_home).await?;
    let account = routes::balance_of(served).await?;
    let running = served.day_bounds(None)?;
    Ok(View {
        status: served.state.live.snapshot(),
        today,
        running_day: bounds == running,
        account,
        meter,
        assurance,
        market: market_view(served).await,
        household: household::shown(served),
        flows: served.state.live.meters().flows,
        language,
        zone: served.state.zone,
        other_days: other_days(served, bounds, running),
        assets: ASSETS.clone(),
    })
}

/// The market; `None` while the node has not loaded its ledger, or the home is not on it.
async fn market_view(served: &Served) -> Option<MarketView> {
    market::view(served).await.inspect_err(|error| tracing::debug!(%error, "the page shows no market")).ok()
}

/// The day asked for, else the running one; shortly after midnight, while nothing of it is settled, the day before.
async fn shown_day(served: &Served, asked: Option<&str>) -> Result<(DayBounds, Today), ApiError> {
    let bounds = served.day_bounds(asked)?;
    let today = routes::day_of(served, bounds).await?;
    if asked.is_some() || today.intervals_settled > 0 {
        return Ok((bounds, today));
    }
    let before = DayBounds::containing(bounds.start.minus_ms(1), served.state.zone);
    let yesterday = routes::day_of(served, before).await?;
    Ok(if yesterday.intervals_settled > 0 { (before, yesterday) } else { (bounds, today) })
}

/// The day before, and the day after if it has begun.
fn other_days(served: &Served, bounds: DayBounds, running: DayBounds) -> (String, Option<String>) {
    let date = |time| page::date(time, served.state.zone);
    (date(bounds.start.minus_ms(1)), (bounds.end <= running.start).then(|| date(bounds.end)))
}
