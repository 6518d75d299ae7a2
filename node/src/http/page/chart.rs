//! The charts of the day, drawn on the server as SVG: they need no script and print as they are.
//!
//! Sold stands above the line, bought below it, each stacked with the neighbours' part next to the line. Both sides
//! have one scale. Every chart says in words what it shows; the figures are in the table beside it.

use api::{IntervalTerms, MarketRules, SeriesPoint, Side, Time, Today};
use energy::Timestamp;
use maud::{Markup, PreEscaped, html};

use super::figures;
use super::market::local_price;
use super::text::{Texts, fill};
use crate::zone::Zone;

/// Size of the drawing in its own units; the browser scales it to the column.
const WIDTH: f64 = 400.0;
const LEFT: f64 = 34.0;
const RIGHT: f64 = 4.0;

/// Where things are along the day.
struct TimeAxis {
    start_ms: u64,
    day_ms: u64,
    zone: Zone,
}

impl TimeAxis {
    const fn of(today: &Today, zone: Zone) -> Self {
        let (start_ms, end_ms) = (today.day_start.unix_ms(), today.day_end.unix_ms());
        Self { start_ms, day_ms: end_ms.saturating_sub(start_ms), zone }
    }

    fn x(&self, ms: u64) -> f64 {
        let share = ms.saturating_sub(self.start_ms) as f64 / self.day_ms.max(1) as f64;
        LEFT + share.min(1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Hours written below the drawing of one day, every six by its clocks.
    fn labels(&self, y: f64) -> Markup {
        let day = self.zone.date(Timestamp::from_unix_ms(self.start_ms));
        html! {
            @for (hour, anchor) in (0..=24).step_by(6).zip(["start", "middle", "middle", "middle", "end"]) {
                @let at = self.zone.first_at(day, hour * 60).unix_ms();
                text class="axis" x=(unit(self.x(at))) y=(unit(y)) text-anchor=(anchor) {
                    (format!("{hour:02}:00"))
                }
            }
        }
    }

    fn clock(&self, ms: u64) -> String {
        figures::clock(Timestamp::from_unix_ms(ms), self.zone)
    }
}

/// Energy per interval: sold above, bought below.
pub fn energy(today: &Today, texts: &Texts, zone: Zone) -> Markup {
    const TOP: f64 = 18.0;
    const BOTTOM: f64 = 170.0;
    let axis = TimeAxis::of(today, zone);
    let up = today.series.iter().map(|it| it.sold_wh + it.supplier_export_wh).max().unwrap_or(0);
    let down = today.series.iter().map(|it| it.bought_wh + it.supplier_import_wh).max().unwrap_or(0);
    let tick = tick_wh(up.max(down));
    let (up, down) = (up.div_ceil(tick).max(1) * tick, down.div_ceil(tick).max(1) * tick);
    let scale = (BOTTOM - TOP) / (up + down) as f64;
    let zero = TOP + up as f64 * scale;
    let sold = figures::kwh(today.sold_wh + today.supplier_export_wh);
    let bought = figures::kwh(today.bought_wh + today.supplier_import_wh);
    html! {
        svg viewBox="0 0 400 190" role="img" aria-label=(fill(texts.energy_chart_summary, &[&sold, &bought])) {
            @for (wh, y) in ticks(up, tick).map(|wh| (wh, zero - wh as f64 * scale))
                .chain(ticks(down, tick).map(|wh| (wh, zero + wh as f64 * scale)))
            {
                line class="grid" x1=(unit(LEFT)) x2=(unit(WIDTH - RIGHT)) y1=(unit(y)) y2=(unit(y)) {}
                text class="axis" x=(unit(LEFT - 4.0)) y=(unit(y + 3.5)) text-anchor="end" { (figures::kwh_short(wh)) }
            }
            (bars(&today.series, &axis, zero, scale))
            line class="zero" x1=(unit(LEFT)) x2=(unit(WIDTH - RIGHT)) y1=(unit(zero)) y2=(unit(zero)) {}
            text class="axis" x=(unit(LEFT - 4.0)) y=(unit(zero + 3.5)) text-anchor="end" { "0" }
            text class="side" x=(unit(LEFT + 4.0)) y="13" { "↑ " (texts.chart_sold) }
            text class="side" x=(unit(LEFT + 4.0)) y=(unit(BOTTOM - 4.0)) { "↓ " (texts.chart_bought) }
            text class="axis" x=(unit(WIDTH - RIGHT)) y="13" text-anchor="end" { (texts.per_interval) }
            (axis.labels(BOTTOM + 15.0))
        }
    }
}

/// One bar up and one down per interval, the neighbours' part next to the line.
fn bars(series: &[SeriesPoint], axis: &TimeAxis, zero: f64, scale: f64) -> Markup {
    let mut paths = [const { String::new() }; 4];
    for (index, point) in series.iter().enumerate() {
        let start = point.start.unix_ms();
        // The last interval is as long as the others.
        let length = match series {
            [first, second, ..] => second.start.unix_ms() - first.start.unix_ms(),
            _ => 900_000,
        };
        let next = series.get(index + 1).map_or(start + length, |next| next.start.unix_ms());
        let x = axis.x(start);
        let width = ((axis.x(next.min(start + length)) - x) * 0.84).max(0.6);
        let mut stack = |path: usize, from_wh: u64, wh: u64, up: bool| {
            let sign = if up { -1.0 } else { 1.0 };
            let from = zero + sign * from_wh as f64 * scale;
            if let (true, Some(path)) = (wh > 0, paths.get_mut(path)) {
                let height = sign * wh as f64 * scale;
                path.push_str(&format!(
                    "M{} {}h{}v{}h-{}z",
                    unit(x),
                    unit(from),
                    unit(width),
                    unit(height),
                    unit(width)
                ));
            }
        };
        stack(0, 0, point.sold_wh, true);
        stack(1, point.sold_wh, point.supplier_export_wh, true);
        stack(2, 0, point.bought_wh, false);
        stack(3, point.bought_wh, point.supplier_import_wh, false);
    }
    html! {
        @for (class, path) in ["sold", "to-supplier", "bought", "from-supplier"].into_iter().zip(paths) {
            @if !path.is_empty() { path class=(class) d=(PreEscaped(path)) {} }
        }
    }
}

/// Which price of an interval.
type PriceOf = fn(&SeriesPoint) -> i64;

/// The day's three prices as steps.
pub fn prices(today: &Today, texts: &Texts, zone: Zone) -> Markup {
    const TOP: f64 = 22.0;
    const BOTTOM: f64 = 92.0;
    let Some(last) = today.series.last() else { return html! {} };
    let axis = TimeAxis::of(today, zone);
    let values = || today.series.iter().flat_map(|it| [it.import_price, it.export_price, it.local_price]);
    let (low, high) = (values().min().unwrap_or(0).min(0), values().max().unwrap_or(0).max(1));
    let y = |price: i64| {
        BOTTOM - (price.saturating_sub(low)) as f64 / (high.saturating_sub(low)) as f64 * (BOTTOM - TOP)
    };
    let show = |price: i64| {
        format!("{}{}", if price < 0 { "−" } else { "" }, figures::price(price, &today.currency))
    };
    let kinds: [(&str, &str, PriceOf); 3] = [
        ("price-import", texts.price_supplier_charges, |it| it.import_price),
        ("price-local", texts.price_neighbours, |it| it.local_price),
        ("price-export", texts.price_supplier_pays, |it| it.export_price),
    ];
    let summary = fill(
        texts.price_chart_summary,
        &[&show(last.import_price), &show(last.local_price), &show(last.export_price)],
    );
    html! {
        svg viewBox="0 0 400 112" role="img" aria-label=(summary) {
            @for (class, name, of) in kinds {
                path class=(class) d=(PreEscaped(steps(&today.series, &axis, |it| y(of(it))))) {}
                text class="side" x=(unit(LEFT + 4.0)) y=(unit(y(of(last)) - 4.0)) { (name) " " (show(of(last))) }
            }
            line class="zero" x1=(unit(LEFT)) x2=(unit(WIDTH - RIGHT)) y1=(unit(y(0))) y2=(unit(y(0))) {}
            text class="axis" x=(unit(LEFT - 4.0)) y=(unit(y(0) + 3.5)) text-anchor="end" { "0" }
            text class="axis" x=(unit(WIDTH - RIGHT)) y="10" text-anchor="end" { (texts.per_kwh) }
            (axis.labels(BOTTOM + 15.0))
        }
    }
}

/// The coming hours: the supplier's two prices and the middle as steps, and own trades as marks at their intervals.
pub fn ahead(rules: &MarketRules, marks: &[(Time, Side, u64)], texts: &Texts, zone: Zone) -> Markup {
    const TOP: f64 = 22.0;
    const BOTTOM: f64 = 92.0;
    let (Some(first), Some(last)) = (rules.next.first(), rules.next.last()) else { return html! {} };
    let length = u64::from(rules.mtu_minutes) * 60_000;
    let (start_ms, end_ms) = (first.start.unix_ms(), last.start.unix_ms() + length);
    let axis = TimeAxis { start_ms, day_ms: end_ms - start_ms, zone };
    let values = || rules.next.iter().flat_map(|it| [it.highest, it.lowest]).chain(local_price(rules, first));
    let (low, high) = (values().min().unwrap_or(0).min(0), values().max().unwrap_or(0).max(1));
    let y = |price: i64| {
        BOTTOM - (price.saturating_sub(low)) as f64 / (high.saturating_sub(low)) as f64 * (BOTTOM - TOP)
    };
    let show = |price: i64| {
        format!("{}{}", if price < 0 { "−" } else { "" }, figures::price(price, &rules.currency))
    };
    let local = local_price(rules, first);
    let fixed = rules.settlement.sharing_price;
    let kinds = [
        ("price-import", texts.price_supplier_charges, Some(first.highest)),
        ("price-local", texts.price_neighbours, local),
        ("price-export", texts.price_supplier_pays, Some(first.lowest)),
    ];
    let of = |class: &str, it: &IntervalTerms| match class {
        "price-import" => it.highest,
        "price-export" => it.lowest,
        _ => fixed.unwrap_or(it.local_price),
    };
    let summary = fill(
        texts.market_chart_summary,
        &[&show(first.highest), &local.map_or_else(|| "--".to_owned(), show), &show(first.lowest)],
    );
    html! {
        svg viewBox="0 0 400 116" role="img" aria-label=(summary) {
            (own_trades(marks, &axis, length, (TOP, BOTTOM)))
            @for (class, name, now) in kinds {
                @if let Some(now) = now {
                    path class=(class) d=(PreEscaped(coming_steps(&rules.next, &axis, end_ms, |it| y(of(class, it))))) {}
                    text class="side" x=(unit(LEFT + 4.0)) y=(unit(y(now) - 4.0)) { (name) " " (show(now)) }
                }
            }
            line class="zero" x1=(unit(LEFT)) x2=(unit(WIDTH - RIGHT)) y1=(unit(y(0))) y2=(unit(y(0))) {}
            text class="axis" x=(unit(LEFT - 4.0)) y=(unit(y(0) + 3.5)) text-anchor="end" { "0" }
            text class="axis" x=(unit(WIDTH - RIGHT)) y="10" text-anchor="end" { (texts.per_kwh) }
            @for (step, anchor) in ["start", "middle", "middle", "middle", "end"].into_iter().enumerate() {
                @let at = start_ms + axis.day_ms / 4 * step as u64;
                text class="axis" x=(unit(axis.x(at))) y=(unit(BOTTOM + 15.0)) text-anchor=(anchor) { (axis.clock(at)) }
            }
        }
    }
}

/// A band over every interval with an own trade or order.
fn own_trades(
    marks: &[(Time, Side, u64)],
    axis: &TimeAxis,
    length: u64,
    (top, bottom): (f64, f64),
) -> Markup {
    let end = axis.start_ms + axis.day_ms;
    let shown = marks.iter().filter(|(start, ..)| (axis.start_ms..end).contains(&start.unix_ms()));
    html! {
        @for (start, side, _) in shown {
            @let x = axis.x(start.unix_ms());
            @let width = (axis.x(start.unix_ms() + length) - x).max(1.5);
            rect class=(if *side == Side::Sell { "mark sold" } else { "mark bought" })
                x=(unit(x)) y=(unit(top)) width=(unit(width)) height=(unit(bottom - top)) {}
        }
    }
}

fn coming_steps(
    next: &[IntervalTerms],
    axis: &TimeAxis,
    end_ms: u64,
    y: impl Fn(&IntervalTerms) -> f64,
) -> String {
    let mut path = String::new();
    let mut last = None;
    for it in next {
        let at = unit(y(it));
        // A price that stays draws nothing new: the path is as long as there are changes.
        if last.as_ref() == Some(&at) {
            continue;
        }
        let x = unit(axis.x(it.start.unix_ms()));
        path.push_str(&if last.is_none() { format!("M{x} {at}") } else { format!("H{x}V{at}") });
        last = Some(at);
    }
    path.push_str(&format!("H{}", unit(axis.x(end_ms))));
    path
}

fn steps(series: &[SeriesPoint], axis: &TimeAxis, y: impl Fn(&SeriesPoint) -> f64) -> String {
    let mut path = String::new();
    for (index, point) in series.iter().enumerate() {
        let start = axis.x(point.start.unix_ms());
        let command = if index == 0 { 'M' } else { 'L' };
        path.push_str(&format!("{command}{} {}", unit(start), unit(y(point))));
        // A known price holds until the next interval; the last one to the end of the day.
        let end = series.get(index + 1).map_or(WIDTH - RIGHT, |next| axis.x(next.start.unix_ms()));
        path.push_str(&format!("H{}", unit(end)));
    }
    path
}

/// The marks of one side, without the zero.
fn ticks(max: u64, tick: u64) -> impl Iterator<Item = u64> {
    (1..=max / tick).map(move |count| count * tick)
}

/// A round distance between marks (1, 2 or 5 times a power of ten) that gives at most three on the longer side.
fn tick_wh(max: u64) -> u64 {
    let mut unit = 10;
    loop {
        for factor in [1, 2, 5] {
            let tick: u64 = factor * unit;
            if max.div_ceil(tick) <= 3 || tick > u64::MAX / 100 {
                return tick;
            }
        }
        unit *= 10;
    }
}

fn unit(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_below_the_chart_are_those_of_the_clocks_also_when_they_change() {
        let zone = Zone::parse("Europe/Vienna").unwrap();
        // Noon lies in the middle of the axis, but 11 of 23 and 13 of 25 hours along it when clocks change.
        for (midnight, hours, noon) in [
            ("2026-07-13T22:00:00Z", 24, 12.0 / 24.0),
            ("2026-03-28T23:00:00Z", 23, 11.0 / 23.0),
            ("2026-10-24T22:00:00Z", 25, 13.0 / 25.0),
        ] {
            let start_ms = Timestamp::parse(midnight).unwrap().unix_ms();
            let axis = TimeAxis { start_ms, day_ms: hours * 3_600_000, zone };
            let drawn = axis.labels(100.0).into_string();
            let x = |hour: &str| {
                let (before, _) = drawn.split_once(&format!(">{hour}<")).unwrap();
                before.rsplit_once(" x=\"").unwrap().1.split('"').next().unwrap().to_owned()
            };
            let at = LEFT + noon * (WIDTH - LEFT - RIGHT);
            assert_eq!([x("00:00"), x("12:00"), x("24:00")], [unit(LEFT), unit(at), unit(WIDTH - RIGHT)]);
        }
    }

    #[test]
    fn the_scale_has_round_marks_and_at_most_three_of_them() {
        for (max, tick) in [(0, 10), (30, 10), (31, 20), (299, 100), (301, 200), (1_400, 500), (1_501, 1_000)]
        {
            assert_eq!(tick_wh(max), tick, "{max}");
        }
        assert!(tick_wh(u64::MAX) > 0);
        assert_eq!(figures::kwh_short(500), "0.5");
        assert_eq!(figures::kwh_short(20_000), "20");
    }
}
