//! The coming day on the market: its prices, and what this home has sold, bought and offered ahead.

use api::{
    EntryContent, ForwardMode, IntervalTerms, MarketRules, OpenOrder, OpenPosition, OrderEntry, Side, Time,
};
use maud::{Markup, html};

use super::View;
use super::chart;
use super::figures;
use super::text::{Texts, fill};
use crate::zone::Zone;

/// Orders and positions that are told one by one at the most; the rest is counted.
const TOLD_MAX: usize = 8;

/// What the page shows of the market.
#[derive(Debug, Clone)]
pub struct MarketView {
    /// The rules, with the intervals of the coming day.
    pub rules: MarketRules,
    /// Own open orders.
    pub orders: Vec<OpenOrder>,
    /// Own orders that no block holds yet.
    pub pending: Vec<OrderEntry>,
    /// Own positions.
    pub positions: Vec<OpenPosition>,
    /// The last interval in which the home's connection carried more than the operator's cap.
    pub breach: Option<Time>,
}

/// A quantity traded or offered in one interval.
struct Told {
    start: Time,
    side: Side,
    wh: u64,
    text: String,
}

/// The section of the running day's page.
pub fn section(view: &View, texts: &Texts) -> Markup {
    let Some(market) = view.market.as_ref().filter(|_| view.running_day) else { return html! {} };
    let told = told(market, view.zone, texts);
    let marks: Vec<_> = told.iter().map(|told| (told.start, told.side, told.wh)).collect();
    html! {
        section.card.ahead {
            h2 { (texts.market_ahead) }
            @if let Some(at) = market.breach {
                p.notice { (fill(texts.market_breach, &[&figures::clock(at.0, view.zone)])) }
            }
            (chart::ahead(&market.rules, &marks, texts, view.zone))
            @if !told.is_empty() {
                ul.told {
                    @for it in told.iter().take(TOLD_MAX) {
                        li class=(side_class(it.side)) { (it.text) }
                    }
                }
                @if told.len() > TOLD_MAX {
                    p.small { (fill(texts.market_more, &[&(told.len() - TOLD_MAX).to_string()])) }
                }
            } @else {
                p.small { (nothing(market.rules.forward, texts)) }
            }
        }
    }
}

const fn nothing(forward: ForwardMode, texts: &Texts) -> &'static str {
    match forward {
        ForwardMode::Off => texts.market_off,
        _ => texts.market_nothing,
    }
}

const fn side_class(side: Side) -> &'static str {
    match side {
        Side::Sell => "sell",
        Side::Buy => "buy",
    }
}

/// Positions, open orders and those on their way, in words, by interval.
fn told(market: &MarketView, zone: Zone, texts: &Texts) -> Vec<Told> {
    let words = Words { market, zone, texts };
    let positions = market.positions.iter().flat_map(|position| words.position(position));
    let orders = market.orders.iter().map(|order| words.order(order));
    let pending = market.pending.iter().filter_map(|entry| words.pending(entry));
    let mut told: Vec<Told> = positions.chain(orders).chain(pending).collect();
    told.sort_by_key(|told| told.start);
    told
}

struct Words<'a> {
    market: &'a MarketView,
    zone: Zone,
    texts: &'a Texts,
}

impl Words<'_> {
    fn when(&self, start: Time) -> String {
        let end = start.0.plus_ms(u64::from(self.market.rules.mtu_minutes) * 60_000);
        format!("{}–{}", figures::clock(start.0, self.zone), figures::clock(end, self.zone))
    }

    fn price(&self, price: i64) -> String {
        signed(figures::price(price, &self.market.rules.currency), price)
    }

    /// A home is on one side of an interval, so all of the amount belongs to that side.
    fn position(&self, position: &OpenPosition) -> Option<Told> {
        let (side, wh, template) = match (position.sold_wh, position.bought_wh) {
            (0, 0) => return None,
            (0, bought) => (Side::Buy, bought, self.texts.market_bought),
            (sold, _) => (Side::Sell, sold, self.texts.market_sold),
        };
        let received =
            if side == Side::Sell { position.amount_n } else { position.amount_n.saturating_neg() };
        let exact = i64::try_from(wh).ok().filter(|wh| received % wh == 0).map(|wh| received / wh);
        let at = match exact {
            Some(price) => self.price(price),
            // Parts of it at several prices: what all of it comes to.
            None => {
                let all = figures::money_exact(received, &self.market.rules.currency);
                fill(self.texts.market_in_all, &[&all])
            }
        };
        let start = position.interval_start;
        let text = fill(template, &[&figures::kwh(wh), &self.when(start), &at]);
        Some(Told { start, side, wh, text })
    }

    fn order(&self, order: &OpenOrder) -> Told {
        let (start, side, wh) = (order.interval_start, order.side, order.quantity_wh);
        let text =
            fill(self.offered(side), &[&figures::kwh(wh), &self.when(start), &self.price(order.price)]);
        let until = fill(self.texts.market_until, &[&figures::clock(order.freezes.0, self.zone)]);
        Told { start, side, wh, text: format!("{text} {until}") }
    }

    fn pending(&self, entry: &OrderEntry) -> Option<Told> {
        let EntryContent::Order { interval_start: start, side, price, quantity_wh: wh, .. } = entry.content
        else {
            return None;
        };
        let text = fill(self.offered(side), &[&figures::kwh(wh), &self.when(start), &self.price(price)]);
        Some(Told { start, side, wh, text: format!("{text} {}", self.texts.market_pending) })
    }

    const fn offered(&self, side: Side) -> &'static str {
        match side {
            Side::Sell => self.texts.market_offer,
            Side::Buy => self.texts.market_wanted,
        }
    }
}

fn signed(text: String, value: i64) -> String {
    if value < 0 { format!("−{text}") } else { text }
}

/// The rules in plain words, for people who want to know how it works.
pub fn rules(view: &View, texts: &Texts) -> Markup {
    let Some(market) = &view.market else {
        return html! { section.headline { h1 { (texts.unavailable_title) } } };
    };
    let rules = &market.rules;
    html! {
        section.headline {
            nav.days { a rel="prev" href=(format!("/?lang={}", view.language.tag())) { "‹ " (texts.today) } }
            h1 { (texts.rules_title) }
        }
        section.card { h2 { (texts.rules_price) } (price_rules(view, rules, texts)) }
        section.card { h2 { (texts.rules_forward) } (forward_rules(rules, texts)) }
        section.card { h2 { (texts.rules_home) } (home_rules(rules, texts)) }
        section.card { h2 { (texts.rules_settlement) } (settlement_rules(rules, texts)) }
        section.card { h2 { (texts.rules_way) } (way(rules, texts)) }
        section.card { h2 { (texts.rules_privacy) } p { (texts.rules_privacy_text) } }
    }
}

fn price_rules(view: &View, rules: &MarketRules, texts: &Texts) -> Markup {
    let price = |micro: i64| signed(figures::price(micro, &rules.currency), micro);
    let now = |it: &IntervalTerms| {
        let at = figures::clock(it.start.0, view.zone);
        let supplier = fill(texts.rules_price_now, &[&at, &price(it.highest), &price(it.lowest)]);
        let local = local_price(rules, it).map(|local| fill(texts.rules_price_local, &[&price(local)]));
        format!("{supplier} {}", local.unwrap_or_default())
    };
    html! {
        p { (sharing(&rules.settlement.sharing, texts)) }
        @if let Some(it) = rules.next.first() { p { (now(it)) } }
        p.small { (fill(texts.rules_caps, &[&price(rules.settlement.price_min), &price(rules.settlement.price_max)])) }
    }
}

/// What local energy stands at in an interval before network fees; `None` where no money moves between homes.
pub fn local_price(rules: &MarketRules, interval: &IntervalTerms) -> Option<i64> {
    match rules.settlement.sharing.as_str() {
        "neighbour" => Some(interval.local_price),
        "incentive" => None,
        _ => rules.settlement.sharing_price,
    }
}

fn sharing<'a>(word: &str, texts: &'a Texts) -> &'a str {
    match word {
        "static-key" => texts.rules_sharing_static,
        "dynamic-key" => texts.rules_sharing_dynamic,
        "incentive" => texts.rules_sharing_incentive,
        _ => texts.explain,
    }
}

fn forward_rules(rules: &MarketRules, texts: &Texts) -> Markup {
    let orders = &rules.orders;
    let minutes = |ms: u64| (ms / 60_000).to_string();
    let how = match rules.forward {
        ForwardMode::Off => return html! { p { (texts.market_off) } },
        ForwardMode::Posted => texts.rules_posted,
        ForwardMode::Auction => texts.rules_auction,
    };
    html! {
        p { (how) }
        ul.rules {
            li { (fill(texts.rules_window, &[&(orders.opens_ms / 3_600_000).to_string(), &minutes(orders.gate_ms)])) }
            li { (fill(texts.rules_freeze, &[&minutes(orders.freeze_ms)])) }
            li { (fill(texts.rules_minimum, &[&orders.min_wh.to_string()])) }
            li { (fill(texts.rules_quota, &[&orders.open_max.to_string(), &orders.changes_max.to_string(), &orders.entries_per_hour.to_string()])) }
            li { (texts.rules_band) }
            li { (fill(texts.rules_envelope, &[&percent(orders.envelope_permille)])) }
        }
    }
}

/// Thousandths as percent: `50`, `12.5`.
fn percent(permille: u32) -> String {
    match permille % 10 {
        0 => (permille / 10).to_string(),
        tenth => format!("{}.{tenth}", permille / 10),
    }
}

fn home_rules(rules: &MarketRules, texts: &Texts) -> Markup {
    let money = |n: i64| signed(figures::money(n, &rules.currency), n);
    let kwh = |wh: u64| figures::kwh(wh);
    let capped = rules.next.iter().filter(|it| it.capped).count();
    html! {
        ul.rules {
            li { (fill(texts.rules_connection, &[&kwh(rules.import_max_wh), &kwh(rules.export_max_wh)])) }
            @if capped > 0 { li { (fill(texts.rules_capped, &[&capped.to_string()])) } }
            @if rules.settlement.sharing != "neighbour" { li { (part(rules, texts)) } }
            li { (fill(texts.rules_account, &[&money(rules.balance_n), &money(rules.reserved_n), &money(rules.free_n)])) }
            @if rules.settlement.credit_n > 0 {
                li { (fill(texts.rules_statement, &[&money(rules.settlement.credit_n)])) }
            } @else { li { (texts.rules_prepaid) } }
        }
    }
}

/// The home's part in sharing by keys.
fn part(rules: &MarketRules, texts: &Texts) -> String {
    let takes_part = percent(rules.participation_permille);
    if rules.settlement.sharing == "static-key" {
        let share = format!("{}.{:02}", rules.share_permyriad / 100, rules.share_permyriad % 100);
        fill(texts.rules_share, &[&share, &takes_part])
    } else {
        fill(texts.rules_part, &[&takes_part])
    }
}

fn settlement_rules(rules: &MarketRules, texts: &Texts) -> Markup {
    let settlement = &rules.settlement;
    let due = settlement.due_after_ms / 60_000;
    let due = if due >= 120 && due.is_multiple_of(60) {
        fill(texts.hours, &[&(due / 60).to_string()])
    } else {
        fill(texts.minutes, &[&due.to_string()])
    };
    let by_operator = settlement.reading_source == "metering-operator";
    let supplier =
        if settlement.supplier_leg == "ledger" { texts.rules_leg_ledger } else { texts.rules_leg_outside };
    let losses = if settlement.losses == "community" {
        texts.rules_losses_shared
    } else {
        texts.rules_losses_recorded
    };
    html! {
        ul.rules {
            li { (fill(texts.rules_due, &[&rules.mtu_minutes.to_string(), &due])) }
            li { @if by_operator { (texts.rules_readings_operator) } @else { (texts.rules_readings_node) } }
            li { (supplier) }
            li { (losses) }
        }
    }
}

fn way(rules: &MarketRules, texts: &Texts) -> Markup {
    let price = |micro: i64| figures::price(micro, &rules.currency);
    let limit = |wh: Option<u64>| wh.map_or_else(|| texts.unlimited.to_owned(), figures::kwh_short);
    let own = || rules.edges.iter().filter(|edge| edge.own);
    html! {
        @if own().count() == 0 { p { (texts.rules_way_none) } } @else {
            div.scroll tabindex="0" role="group" aria-label=(texts.rules_way) {
                table.series {
                    thead { tr {
                        th scope="col" { (texts.rules_edge) }
                        th scope="col" { (texts.rules_fee_up) }
                        th scope="col" { (texts.rules_fee_down) }
                        th scope="col" { (texts.rules_limit_up) " kWh" }
                        th scope="col" { (texts.rules_limit_down) " kWh" }
                    } }
                    tbody {
                        @for edge in own() {
                            tr {
                                th scope="row" { (edge.node) " → " (edge.parent.as_deref().unwrap_or("")) }
                                td { (price(edge.fee_up)) }
                                td { (price(edge.fee_down)) }
                                td { (limit(edge.up_wh)) }
                                td { (limit(edge.down_wh)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
