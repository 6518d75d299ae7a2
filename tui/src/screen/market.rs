//! The forward market: gates on the left, edges on the right.

use api::{ForwardMode, GateRow};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table};

use super::{View, block, cell, dash, dim};
use crate::figures;
use crate::market::{EdgeUse, Market};
use crate::model::Severity;

/// Columns of the gates with their border; the edges have the rest.
const GATES_WIDTH: u16 = 36;

impl View<'_> {
    /// The market's panel.
    pub(super) fn market(&self, frame: &mut Frame<'_>, area: Rect) {
        let [left, right] =
            area.layout(&Layout::horizontal([Constraint::Length(GATES_WIDTH), Constraint::Min(0)]));
        self.gates(frame, left);
        self.edges(frame, right);
    }

    fn gates(&self, frame: &mut Frame<'_>, area: Rect) {
        let market = self.model.forward();
        let title = match market.map(|market| market.rules.forward) {
            Some(ForwardMode::Auction) => " Gates: auction; kWh, per kWh ",
            Some(ForwardMode::Posted) => " Gates: posted; kWh, per kWh ",
            Some(ForwardMode::Off) | None => " Gates ",
        };
        let header = ["interval", "orders", "traded", "price"];
        let header = Row::new(header.iter().enumerate().map(|(at, title)| cell(title, at == 0)));
        let rows = market.into_iter().flat_map(|market| &market.gates).map(|gate| self.gate(gate));
        let table = Table::new(rows, [8, 6, 8, 9].map(Constraint::Length));
        frame.render_widget(table.header(header.style(dim())).block(block(title)), area);
        let none = match market {
            Some(market) if market.gates.is_empty() => "no gate closed in the last day",
            Some(_) => return,
            None if self.model.homes.iter().any(|home| home.market.is_some()) => {
                "nothing is traded ahead here"
            }
            None => "not known yet",
        };
        note(frame, area, none);
    }

    fn gate(&self, gate: &GateRow) -> Row<'static> {
        let start = cell(&figures::clock(gate.interval_start), true);
        if gate.void {
            let late = Line::styled("void", self.style(Severity::Medium)).right_aligned();
            return Row::new([start, cell("", false), cell("", false), late.into()]);
        }
        Row::new([
            start,
            cell(&gate.orders.map_or_else(dash, |orders| orders.to_string()), false),
            cell(&gate.volume_wh.map_or_else(dash, figures::thousands), false),
            cell(&gate.price.map_or_else(dash, figures::price), false),
        ])
    }

    fn edges(&self, frame: &mut Frame<'_>, area: Rect) {
        let interval = self.model.forward().and_then(Market::newest);
        let title = match interval.map(figures::clock) {
            Some(clock) => format!(" Sold ahead for {clock}, kWh of envelope "),
            None => " Edges ".to_owned(),
        };
        let header = ["edge", "to root", "of", "from root", "of"];
        let header = Row::new(header.iter().enumerate().map(|(at, title)| cell(title, at == 0)));
        let rows = self.model.edges().into_iter().map(|edge| self.edge(&edge));
        let widths = [8, 7, 7, 9, 7].map(Constraint::Length);
        frame.render_widget(Table::new(rows, widths).header(header.style(dim())).block(block(&title)), area);
    }

    fn edge(&self, edge: &EdgeUse) -> Row<'static> {
        let most = |most: Option<u64>| most.map_or_else(dash, figures::thousands);
        let cells = [
            cell(&edge.node, true),
            cell(&figures::thousands(edge.up.0), false),
            cell(&most(edge.up.1), false),
            cell(&figures::thousands(edge.down.0), false),
            cell(&most(edge.down.1), false),
        ];
        let row = Row::new(cells);
        if edge.is_over() { row.style(self.style(Severity::High)) } else { row }
    }
}

/// A line below the header of an empty table.
fn note(frame: &mut Frame<'_>, area: Rect, text: &'static str) {
    let inner = Rect { x: area.x + 2, y: area.y + 2, width: area.width.saturating_sub(4), height: 1 };
    frame.render_widget(Paragraph::new(text).style(dim()), inner);
}
