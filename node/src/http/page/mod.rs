//! The household page: one day in plain words, complete in the HTML the server sends.

mod chart;
mod figures;
mod household;
mod market;
mod text;

use super::database::Standing;
use api::{Balance, Flows, Latest, Line, LineKind, MeterCondition, MeterFacts, SeriesPoint, Status, Today};
use maud::{DOCTYPE, Markup, html};

pub use figures::date;
pub use market::MarketView;
pub use text::Language;
use text::{Texts, fill};

use crate::zone::Zone;

/// A power value older than this is not shown as present.
const POWER_STALE_MS: u64 = 60_000;

/// What the page shows.
#[derive(Debug)]
pub struct View {
    /// The node.
    pub status: Status,
    /// The day.
    pub today: Today,
    /// True if the day is the running one.
    pub running_day: bool,
    /// The account, and how long it lasts.
    pub account: Option<Balance>,
    /// The meter at its newest reading on the ledger.
    pub meter: Option<MeterFacts>,
    /// How far it can be believed.
    pub assurance: Standing,
    /// The market, where the node knows it.
    pub market: Option<MarketView>,
    /// The household's plan, if its node plans for devices.
    pub household: Option<api::Household>,
    /// What flows where in the home now, if its meters tell.
    pub flows: Option<Flows>,
    /// The language.
    pub language: Language,
    /// What clocks show at the home, relative to UTC.
    pub zone: Zone,
    /// The date before and, unless the day is the running one, the date after.
    pub other_days: (String, Option<String>),
    /// What is appended to the paths of style and script when they change.
    pub assets: String,
}

/// The whole page.
#[must_use]
pub fn page(view: &View) -> Markup {
    let texts = view.language.texts();
    document(
        view.language,
        &view.assets,
        &view.status.name,
        &html! {
            (header(view, texts))
            p #lost role="status" hidden { (texts.lost) }
            main { (main(view)) }
            footer {
                p { (texts.explain) " " a href=(format!("/rules?lang={}", view.language.tag())) { (texts.rules_link) } }
            }
        },
    )
}

fn header(view: &View, texts: &Texts) -> Markup {
    let other = other(view.language).tag();
    html! {
        header {
            div {
                p.community { (view.status.name) }
                p.home { (fill(texts.home, &[&view.status.home])) }
            }
            a.language href=(format!("?lang={other}")) lang=(other) { (texts.other_language) }
        }
    }
}

/// The part of the page that changes.
#[must_use]
pub fn main(view: &View) -> Markup {
    let texts = view.language.texts();
    html! {
        @if view.status.syncing { p.notice role="status" { (texts.syncing) } }
        (headline(view, texts))
        div.side.left {
            (charts(view, texts))
            (state(view, texts))
        }
        div.side {
            @if view.today.intervals_settled > 0 { (figures_row(view, texts)) }
            (market::section(view, texts))
            (household::section(view, texts))
            @if let Some(latest) = &view.today.latest { (latest_interval(view, latest, texts)) }
        }
    }
}

/// The rules of the market in plain words.
#[must_use]
pub fn rules(view: &View) -> Markup {
    let texts = view.language.texts();
    let body = html! {
        (header(view, texts))
        main data-still="" { (market::rules(view, texts)) }
        footer { p { (texts.explain) } }
    };
    document(view.language, &view.assets, &view.status.name, &body)
}

/// The page for somebody without the link.
#[must_use]
pub fn denied(language: Language, assets: &str) -> Markup {
    let texts = language.texts();
    message(language, assets, texts.denied_title, texts.denied)
}

/// The page while the database does not answer.
#[must_use]
pub fn unavailable(language: Language, assets: &str) -> Markup {
    let texts = language.texts();
    message(language, assets, texts.unavailable_title, texts.unavailable)
}

fn message(language: Language, assets: &str, title: &str, text: &str) -> Markup {
    document(
        language,
        assets,
        "Commonwatt",
        &html! {
            header { p.community { "Commonwatt" } }
            main data-still="" { section.headline { h1 { (title) } p { (text) } } }
        },
    )
}

fn document(language: Language, assets: &str, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Commonwatt" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(format!("/assets/page.css?{assets}"));
                script src=(format!("/assets/page.js?{assets}")) defer {}
            }
            body { (body) }
        }
    }
}

const fn other(language: Language) -> Language {
    match language {
        Language::Chinese => Language::English,
        Language::English => Language::Chinese,
    }
}

/// The one sentence the page is for.
fn headline(view: &View, texts: &Texts) -> Markup {
    let today = &view.today;
    let day = date(today.day_start.0, view.zone);
    let language = view.language.tag();
    html! {
        section.headline {
            nav.days {
                a rel="prev" href=(format!("?lang={language}&day={}", view.other_days.0)) { "‹ " (texts.previous_day) }
                span { @if view.running_day { (texts.today) " · " } (day) }
                @if let Some(next) = &view.other_days.1 {
                    a rel="next" href=(format!("?lang={language}&day={next}")) { (texts.next_day) " ›" }
                } @else { span.as-of { (fill(texts.as_of, &[&clock(view, view.status.market_time)])) } }
            }
            @if today.intervals_settled == 0 {
                h1 { (texts.nothing_settled) }
                @if view.running_day { p { (texts.first_settlement) } }
            } @else {
                h1 { (traded(today, texts)) " " strong { (saving(today, texts)) } }
            }
        }
    }
}

fn traded(today: &Today, texts: &Texts) -> String {
    let (sold, bought) = (figures::kwh(today.sold_wh), figures::kwh(today.bought_wh));
    match (today.sold_wh > 0, today.bought_wh > 0) {
        (true, true) => fill(texts.headline_both, &[&sold, &bought]),
        (true, false) => fill(texts.headline_sold, &[&sold]),
        (false, true) => fill(texts.headline_bought, &[&bought]),
        (false, false) => texts.headline_none.to_owned(),
    }
}

fn saving(today: &Today, texts: &Texts) -> String {
    let template = if today.saved_n < 0 { texts.headline_extra } else { texts.headline_saved };
    fill(template, &[&figures::money(today.saved_n, &today.currency)])
}

/// Earned, paid, saved, and how each came about.
fn figures_row(view: &View, texts: &Texts) -> Markup {
    let today = &view.today;
    let money = |n| figures::money(n, &today.currency);
    html! {
        section.card.figures {
            dl.tiles {
                div { dt { (texts.earned) } dd { (money(today.earned_n)) } }
                div { dt { (texts.paid) } dd { (money(today.paid_n)) } }
                div.saved { dt { (texts.saved) } dd { @if today.saved_n < 0 { "−" } (money(today.saved_n)) } }
            }
            @if today.incentive_n != 0 {
                p.small { (fill(texts.incentive, &[&money(today.incentive_n)])) }
            }
            details #how-day {
                summary { (texts.how_computed) }
                h2.step { (texts.with_neighbours) }
                (computation(&today.lines, today.amount_n, &today.currency, texts))
                h2.step { (texts.supplier_alone) }
                (computation(&today.baseline_lines, today.baseline_n, &today.currency, texts))
                p.difference {
                    span { (texts.difference) }
                    span.exact { (figures::money_exact(today.saved_n, &today.currency)) }
                }
            }
        }
    }
}

/// Energy × price lines and their sum.
fn computation(lines: &[Line], amount_n: i64, currency: &str, texts: &Texts) -> Markup {
    html! {
        table.computation {
            tbody {
                @for line in lines {
                    tr {
                        th scope="row" { (line_name(line.kind, texts)) }
                        td.product {
                            @if let (Some(wh), Some(price)) = (line.wh, line.price) {
                                (figures::kwh_exact(wh)) " kWh × " (figures::price(price, currency))
                            }
                        }
                        td.exact { (figures::money_exact(line.amount_n, currency)) }
                    }
                }
            }
            tfoot {
                tr { th scope="row" { (texts.amount_today) } td {} td.exact { (figures::money_exact(amount_n, currency)) } }
            }
        }
    }
}

const fn line_name(kind: LineKind, texts: &Texts) -> &'static str {
    match kind {
        LineKind::ForwardSold => texts.line_forward_sold,
        LineKind::ForwardBought => texts.line_forward_bought,
        LineKind::SoldToNeighbours => texts.line_sold_neighbours,
        LineKind::BoughtFromNeighbours => texts.line_bought_neighbours,
        LineKind::FeesToNeighbours => texts.line_fees_neighbours,
        LineKind::SoldToSupplier => texts.line_sold_supplier,
        LineKind::BoughtFromSupplier => texts.line_bought_supplier,
        LineKind::FeesToSupplier => texts.line_fees_supplier,
        LineKind::Losses => texts.line_losses,
        LineKind::Correction => texts.line_correction,
    }
}

fn charts(view: &View, texts: &Texts) -> Markup {
    let today = &view.today;
    if today.series.is_empty() {
        return html! {};
    }
    html! {
        section.card.charts {
            h2 { (texts.energy_chart) }
            (chart::energy(today, texts, view.zone))
            p.legend {
                span.key.neighbours { (texts.neighbours) }
                span.key.supplier { (texts.supplier) }
            }
            h2 { (texts.price_chart) }
            (chart::prices(today, texts, view.zone))
            details #table {
                summary { (texts.as_table) }
                (series_table(view, texts))
            }
        }
    }
}

fn series_table(view: &View, texts: &Texts) -> Markup {
    let cell = |wh: u64| if wh == 0 { String::new() } else { figures::kwh_exact(wh) };
    let row = |it: &SeriesPoint| {
        html! {
            tr {
                th scope="row" { (clock(view, it.start)) }
                td { (cell(it.sold_wh)) }
                td { (cell(it.bought_wh)) }
                td { (cell(it.supplier_export_wh)) }
                td { (cell(it.supplier_import_wh)) }
                td { (figures::money_exact(it.amount_n, &view.today.currency)) }
            }
        }
    };
    html! {
        div.scroll tabindex="0" role="group" aria-label=(texts.as_table) {
            table.series {
                thead {
                    tr {
                        th scope="col" { (texts.interval) }
                        th scope="col" { (texts.line_sold_neighbours) " kWh" }
                        th scope="col" { (texts.line_bought_neighbours) " kWh" }
                        th scope="col" { (texts.line_sold_supplier) " kWh" }
                        th scope="col" { (texts.line_bought_supplier) " kWh" }
                        th scope="col" { (texts.result) }
                    }
                }
                tbody { @for point in view.today.series.iter().rev() { (row(point)) } }
            }
        }
    }
}

fn latest_interval(view: &View, latest: &Latest, texts: &Texts) -> Markup {
    let it = &latest.settlement;
    let currency = &view.today.currency;
    let template = if it.amount_n < 0 { texts.you_paid } else { texts.you_received };
    let exact = figures::money_exact(it.amount_n.saturating_abs(), currency);
    html! {
        section.card {
            h2 { (texts.latest_interval) " · " (clock(view, it.interval_start)) }
            p.result { (fill(template, &[&exact])) }
            p.small {
                @if let (Some(import), Some(export)) = (it.import_wh, it.export_wh) {
                    (fill(texts.metered, &[
                        &format!("{} kWh", figures::kwh_exact(import)),
                        &format!("{} kWh", figures::kwh_exact(export)),
                    ]))
                } @else { (texts.no_reading) }
                " · " (fill(texts.in_block, &[&it.height.to_string()]))
            }
            details #how-interval {
                summary { (texts.how_computed) }
                (computation(&latest.lines, it.amount_n, currency, texts))
            }
        }
    }
}

/// Power, meter, account, ledger: is it working?
fn state(view: &View, texts: &Texts) -> Markup {
    let status = &view.status;
    html! {
        section.card.last {
            dl.state {
                (power(view, texts))
                (house(view, texts))
                (meter(view, texts))
                div {
                    dt { (texts.account) }
                    dd {
                        @if let Some(account) = &view.account { (balance(account, texts)) } @else { "--" }
                    }
                }
                div {
                    dt { (texts.ledger) }
                    dd {
                        (fill(texts.block, &[&status.height.to_string()]))
                        span.small {
                            // Who does not decide learns of most entries together with their block.
                            @match &status.finality {
                                Some(finality) if finality.p50_ms > 0 => {
                                    (fill(texts.finality, &[&finality.p50_ms.to_string()])) " · "
                                }
                                Some(_) => {}
                                None => { (texts.finality_unknown) " · " }
                            }
                            (fill(texts.peers, &[&status.peers.to_string()]))
                        }
                    }
                }
            }
        }
    }
}

/// What stands on the account, how long it lasts, and what is owed.
fn balance(account: &Balance, texts: &Texts) -> Markup {
    let money = |amount| figures::money(amount, &account.currency);
    html! {
        @if account.balance_n < 0 { "−" } (money(account.balance_n))
        @if let Some(days) = account.days_left {
            span.small { (fill(texts.account_lasts, &[&days.to_string()])) }
        }
        @if account.low { span.small role="status" { strong { (texts.account_low) } } }
        @if account.claim_n > 0 {
            span.small { (fill(texts.account_claim, &[&money(account.claim_n)])) }
        }
    }
}

/// Present power in words; a dash and its age when it is old, never a made-up zero.
fn power(view: &View, texts: &Texts) -> Markup {
    let Some(power) = view.status.power else {
        return html! { div { dt { (texts.now) } dd { "--" span.small { (texts.age_never) } } } };
    };
    let direction = match power.w {
        1.. => texts.drawing,
        0 => texts.balanced,
        _ => texts.feeding,
    };
    let seconds = power.age_ms / 1_000;
    let age = match seconds {
        ..120 => fill(texts.age_seconds, &[&seconds.to_string()]),
        _ => fill(texts.age_minutes, &[&(seconds / 60).to_string()]),
    };
    let fresh = power.age_ms <= POWER_STALE_MS;
    html! {
        div {
            dt { (texts.now) }
            dd {
                @if fresh { (figures::kwh_exact(power.w.unsigned_abs())) " kW" } @else { "--" }
                span.small {
                    @if fresh { (direction) } @else { (texts.power_unknown) }
                    " · "
                    span data-age=(power.age_ms) data-seconds=(texts.age_seconds) data-minutes=(texts.age_minutes) {
                        (age)
                    }
                }
            }
        }
    }
}

/// What the house uses and where it comes from; only with more meters than the one at the connection point.
fn house(view: &View, texts: &Texts) -> Markup {
    let Some(flows) = view.flows else { return html! {} };
    let kw = |w: i64| format!("{} kW", figures::kwh_exact(w.unsigned_abs()));
    let battery = if flows.battery_w < Some(0) { texts.battery_takes } else { texts.battery_gives };
    let parts = [
        (texts.solar, flows.pv_w),
        (battery, flows.battery_w),
        (texts.car, flows.ev_w),
        (texts.heat_pump, flows.heat_pump_w),
    ];
    let parts: Vec<String> = parts.iter().filter_map(|(text, w)| w.map(|w| fill(text, &[&kw(w)]))).collect();
    if parts.is_empty() {
        return html! {};
    }
    html! {
        div {
            dt { (texts.house_uses) }
            dd { (kw(flows.house_w)) span.small { (parts.join(" · ")) } }
        }
    }
}

/// How the meter does, how finely it counts, how good its newest reading is, and what stands behind it.
fn meter(view: &View, texts: &Texts) -> Markup {
    html! {
        div {
            dt { (texts.meter) }
            dd {
                (condition(view.status.meter.state, texts))
                @if let Some(meter) = &view.meter {
                    span.small {
                        (fill(texts.meter_quantum, &[&meter.quantum_wh.to_string()]))
                        " · "
                        (fill(texts.meter_quality, &[quality(&meter.quality, texts)]))
                    }
                }
            }
        }
        div {
            dt { (texts.assurance) }
            dd {
                (fill(texts.assurance_level, &[&view.assurance.level.to_string()]))
                span.small {
                    (assurance(view.assurance, texts))
                    @if let Some(until) = view.assurance.stated_at {
                        " · "
                        (fill(texts.assurance_until, &[&date(until.0, view.zone)]))
                    }
                }
            }
        }
    }
}

/// Only these qualities are settled on; another one is shown by its own word.
fn quality<'a>(word: &'a str, texts: &'a Texts) -> &'a str {
    match word {
        "good" => texts.quality_good,
        "estimated" => texts.quality_estimated,
        "gap" => texts.quality_gap,
        other => other,
    }
}

const fn assurance(standing: Standing, texts: &Texts) -> &'static str {
    match standing.level {
        _ if standing.is_old => texts.assurance_old,
        0 => texts.assurance_0,
        1 => texts.assurance_1,
        2 => texts.assurance_2,
        3 => texts.assurance_3,
        _ => texts.assurance_4,
    }
}

const fn condition(condition: MeterCondition, texts: &Texts) -> &'static str {
    match condition {
        MeterCondition::Good => texts.meter_good,
        MeterCondition::Uncertain => texts.meter_uncertain,
        MeterCondition::Silent => texts.meter_silent,
        MeterCondition::Starting => texts.meter_starting,
        MeterCondition::Absent => texts.meter_absent,
    }
}

fn clock(view: &View, time: api::Time) -> String {
    figures::clock(time.0, view.zone)
}
