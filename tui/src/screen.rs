//! The one screen: the community on top, its homes, its last settlements, the keys.

use std::time::Instant;

use api::{IntervalRow, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState};

use crate::figures;
use crate::model::{Abnormal, Home, Model, POWER_LOST, STALE, Severity};

/// The smallest screen that shows everything.
const COLUMNS_MIN: u16 = 80;
const ROWS_MIN: u16 = 24;

/// Two settlements, their header and their border.
const SETTLEMENT_ROWS_MIN: u16 = 5;

/// From here on there is room for every column.
const COLUMNS_WIDE: u16 = 110;

/// Draws the screen. Without `colour` every sign is a letter or a shade only.
pub fn draw(frame: &mut Frame<'_>, model: &Model, now: Instant, colour: bool) {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        let text = format!("need {COLUMNS_MIN}x{ROWS_MIN}, have {}x{}", area.width, area.height);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let view = View { model, now, colour, wide: area.width >= COLUMNS_WIDE };
    let homes_max = u16::try_from(model.homes.len()).unwrap_or(u16::MAX).saturating_add(3);
    let [top, state, homes, settlements, keys] = area.layout(&Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Max(homes_max),
        Constraint::Min(SETTLEMENT_ROWS_MIN),
        Constraint::Length(1),
    ]));
    frame.render_widget(Paragraph::new(view.community()), top);
    frame.render_widget(Paragraph::new(view.worst()), state);
    view.homes(frame, homes);
    if model.market {
        view.market(frame, settlements);
    } else {
        view.settlements(frame, settlements);
    }
    frame.render_widget(Paragraph::new(view.keys()).style(dim()), keys);
    if model.help {
        help(frame, area);
    }
}

struct View<'a> {
    model: &'a Model,
    now: Instant,
    colour: bool,
    wide: bool,
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

impl View<'_> {
    /// Two lines about the whole community, from the node that is furthest.
    fn community(&self) -> Vec<Line<'static>> {
        let leader = self.model.leader().and_then(|index| self.model.homes.get(index));
        let Some((home, status)) = leader.and_then(|home| Some((home, home.status.as_ref()?))) else {
            return vec![Line::from(" COMMONWATT  no node answers yet"), Line::from("")];
        };
        let stale = home.age(self.now).is_some_and(|age| age > STALE);
        let style = if stale { dim() } else { Style::new() };
        let first = format!(
            " {}  {} UTC  x{}  interval {}-{}",
            status.name.to_uppercase(),
            figures::date_and_clock(status.market_time),
            status.speed,
            figures::clock(status.interval.start),
            figures::clock(status.interval.end)
        );
        let second = format!(" {}  {}  {}", self.heights(), finality(status), self.connections());
        vec![Line::styled(first, style.add_modifier(Modifier::BOLD)), Line::styled(second, style)]
    }

    fn heights(&self) -> String {
        match (self.model.lowest(), self.model.highest()) {
            (low, high) if low == high => format!("height {high}"),
            (low, high) => format!("height {low}..{high}"),
        }
    }

    fn connections(&self) -> String {
        let peers = || self.model.answering().map(|(_, status)| status.peers);
        let (low, high) = (peers().min().unwrap_or(0), peers().max().unwrap_or(0));
        let peers = if low == high { format!("{high}") } else { format!("{low}..{high}") };
        format!("peers {peers}  nodes {}/{}", self.model.answering().count(), self.model.homes.len())
    }

    /// The worst of what is abnormal, on top of every screen.
    fn worst(&self) -> Line<'static> {
        let mut found: Vec<(usize, Abnormal)> = (0..self.model.homes.len())
            .filter_map(|index| Some((index, self.model.abnormal(index, self.now)?)))
            .collect();
        // A stable sort: among equals the first home stays first.
        found.sort_by_key(|(_, abnormal)| std::cmp::Reverse(abnormal.severity));
        let Some((index, worst)) = found.first() else {
            return Line::styled(" all nodes as they should be", dim());
        };
        let home = self.model.homes.get(*index).map(Home::name).unwrap_or_default();
        let reason = self.model.homes.get(*index).and_then(|home| home.error.as_deref()).unwrap_or_default();
        let others = if found.len() > 1 { format!("  and {} more", found.len() - 1) } else { String::new() };
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Line::from(vec![
            Span::styled(format!(" {} {home} {}", worst.letter, worst.words), self.style(worst.severity)),
            Span::raw(others),
            Span::styled(reason, dim()),
        ])
    }

    const fn style(&self, severity: Severity) -> Style {
        if !self.colour {
            return Style::new().add_modifier(Modifier::BOLD);
        }
        match severity {
            Severity::High => Style::new().fg(Color::Red),
            Severity::Medium => Style::new().fg(Color::Yellow),
            Severity::Low => Style::new().fg(Color::Cyan),
        }
    }

    fn homes(&self, frame: &mut Frame<'_>, area: Rect) {
        let order = self.model.order(self.now);
        let highest = self.model.highest();
        let rows =
            order.iter().filter_map(|index| Some(self.home(*index, self.model.homes.get(*index)?, highest)));
        let widths: &[u16] = if self.wide {
            &[1, 9, 8, 9, 4, 7, 7, 7, 7, 9, 9, 7, 4, 16]
        } else {
            &[1, 5, 1, 9, 3, 6, 6, 6, 6, 7, 6, 6, 4]
        };
        let header = if self.wide {
            [
                "", "home", "role", "power kW", "age", "import", "export", "sold", "bought", "amount",
                "saved", "height", "lag", "state",
            ]
            .as_slice()
        } else {
            &[
                "", "home", "", "power kW", "age", "import", "export", "sold", "bought", "amount", "saved",
                "height", "lag",
            ]
        };
        let count = self.model.homes.len();
        let title = format!(" {count} homes: last settled interval in kWh, its amount, saved today ");
        let table = Table::new(rows, widths.iter().map(|width| Constraint::Length(*width)))
            .header(
                Row::new(header.iter().enumerate().map(|(column, title)| {
                    let left = column <= if self.wide { 2 } else { 1 } || *title == "state";
                    cell(title, left)
                }))
                .style(dim()),
            )
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(block(&title));
        let place = order.iter().position(|index| *index == self.model.selected);
        let mut state = TableState::new().with_selected(place);
        frame.render_stateful_widget(table, area, &mut state);
    }

    /// One home in a row; what is old is dimmed, what is not known is a dash.
    fn home(&self, index: usize, home: &Home, highest: u64) -> Row<'static> {
        let abnormal = self.model.abnormal(index, self.now);
        let mut cells = vec![match &abnormal {
            Some(it) => Cell::from(Span::styled(it.letter.to_string(), self.style(it.severity))),
            None => Cell::from(""),
        }];
        cells.push(cell(home.name(), true));
        let status = home.status.as_ref();
        cells.push(cell(status.map_or("--", |status| self.role(status)), true));
        cells.extend(self.power(home).map(|text| cell(&text, false)));
        cells.extend(settlement(home).map(|text| cell(&text, false)));
        cells.push(cell(&status.map_or_else(dash, |status| status.height.to_string()), false));
        cells.push(cell(
            &status.map_or_else(dash, |status| highest.saturating_sub(status.height).to_string()),
            false,
        ));
        if self.wide {
            let words =
                abnormal.map(|it| Span::styled(it.words, self.style(it.severity))).unwrap_or_default();
            cells.push(Cell::from(words));
        }
        let stale = home.error.is_some() || home.age(self.now).is_none_or(|age| age > STALE);
        Row::new(cells).style(if stale { dim() } else { Style::new() })
    }

    const fn role(&self, status: &Status) -> &'static str {
        match (status.delegate, self.wide) {
            (true, true) => "delegate",
            (true, false) => "D",
            (false, true) => "follower",
            (false, false) => "F",
        }
    }

    /// Power with its direction in a word, and its age.
    fn power(&self, home: &Home) -> [String; 2] {
        let power = home.status.as_ref().and_then(|status| status.power);
        let (Some(power), Some(age)) = (power, home.power_age(self.now)) else { return [dash(), dash()] };
        if age > POWER_LOST {
            return [dash(), figures::age(age)];
        }
        let direction = if power.w < 0 { "exp" } else { "imp" };
        [format!("{direction} {}", figures::thousands(power.w.unsigned_abs())), figures::age(age)]
    }

    fn settlements(&self, frame: &mut Frame<'_>, area: Rect) {
        let titles = [
            "interval", "matched", "from sup", "to sup", "local", "middle", "charged", "paid", "homes",
            "block",
        ];
        let widths = if self.wide { [9, 9, 9, 9, 7, 9, 9, 9, 8, 9] } else { [8, 8, 8, 7, 5, 7, 7, 7, 6, 6] };
        let hidden = self.model.intervals.iter().any(|row| row.matched_wh.is_none());
        let title = if hidden {
            " Last settlements: totals only from 5 metered homes up "
        } else {
            " Last settlements: kWh; price per kWh, charged and paid by the supplier "
        };
        let header =
            Row::new(titles.iter().enumerate().map(|(column, title)| cell(title, column == 0))).style(dim());
        let table = Table::new(self.model.intervals.iter().map(interval), widths.map(Constraint::Length))
            .header(header)
            .block(block(title));
        frame.render_widget(table, area);
        if self.model.intervals.is_empty() {
            let inner = Rect { x: area.x + 2, y: area.y + 2, width: area.width.saturating_sub(4), height: 1 };
            let text = "none yet: an interval is settled about 15 minutes of market time after its end";
            frame.render_widget(Paragraph::new(text).style(dim()), inner);
        }
    }

    fn keys(&self) -> String {
        let sort = self.model.sort.word();
        let lower = if self.model.market { "settlements" } else { "market" };
        format!(" q quit  j/k move  s sort: {sort}  m {lower}  ? help")
    }
}

fn finality(status: &Status) -> String {
    match &status.finality {
        Some(it) => format!("finality p50 {} p99 {} ms", it.p50_ms, it.p99_ms),
        None => "finality --".to_owned(),
    }
}

fn dash() -> String {
    "--".to_owned()
}

fn cell(text: &str, left: bool) -> Cell<'static> {
    let line = Line::from(text.to_owned());
    Cell::from(if left { line } else { line.right_aligned() })
}

fn block(title: &str) -> Block<'_> {
    Block::bordered().border_style(dim()).title(title)
}

/// Import, export, sold, bought and amount of the last settled interval, and what today saved.
fn settlement(home: &Home) -> [String; 6] {
    let Some(today) = &home.today else { return [const { String::new() }; 6].map(|_| dash()) };
    let saved = figures::amount(today.saved_n, 2);
    let Some(latest) = &today.latest else { return [dash(), dash(), dash(), dash(), dash(), saved] };
    let it = &latest.settlement;
    let metered = |wh: Option<u64>| wh.map_or_else(dash, figures::thousands);
    [
        metered(it.import_wh),
        metered(it.export_wh),
        figures::thousands(it.sold_wh),
        figures::thousands(it.bought_wh),
        figures::amount(it.amount_n, 4),
        saved,
    ]
}

fn interval(row: &IntervalRow) -> Row<'static> {
    let total = |wh: Option<u64>| wh.map_or_else(dash, figures::thousands);
    let homes = match row.missing {
        0 => row.homes.to_string(),
        missing => format!("{}-{missing}", row.homes),
    };
    let cells = [
        total(row.matched_wh),
        total(row.supplier_import_wh),
        total(row.supplier_export_wh),
        local_share(row),
        figures::price(row.local_price),
        figures::price(row.import_price),
        figures::price(row.export_price),
        homes,
        row.height.to_string(),
    ];
    let start = cell(&figures::clock(row.start), true);
    Row::new(std::iter::once(start).chain(cells.iter().map(|text| cell(text, false))))
}

/// Which part of what the homes took came from neighbours.
fn local_share(row: &IntervalRow) -> String {
    let (Some(matched), Some(supplied)) = (row.matched_wh, row.supplier_import_wh) else { return dash() };
    let taken = u128::from(matched) + u128::from(supplied);
    (u128::from(matched) * 100).checked_div(taken).map_or_else(dash, |percent| format!("{percent} %"))
}

const HELP: &[&str] = &[
    "q quit           j/k or arrows  move",
    "s sort           g/G            first, last home",
    "m market, settlements below        ? close help",
    "",
    "imp/exp   power taken from / given to the grid",
    "D, F      delegate, follower",
    "age       since power was read; dimmed: since the node answered",
    "lag       blocks behind the node that is furthest",
    "",
    "U no answer      M meter silent      Q meter uncertain",
    "L blocks behind  P power is old      S syncing",
    "N no reading for the last settled interval",
    "B carried more than the operator's cap in the last day",
];

fn help(frame: &mut Frame<'_>, area: Rect) {
    let height = u16::try_from(HELP.len()).unwrap_or(u16::MAX).saturating_add(2);
    let popup = area.centered(Constraint::Length(68), Constraint::Length(height));
    frame.render_widget(Clear, popup);
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Paragraph::new(lines).block(block(" Help ")), popup);
}

mod market;
#[cfg(test)]
mod tests;
