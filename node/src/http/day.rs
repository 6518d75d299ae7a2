//! One day of the home: its figures, and how every amount came about.
//!
//! A line is energy × price = amount, exactly. Sales and purchases stand at the supplier's prices and at the middle
//! between them (where a key divides local energy, at its fixed price); what then remains of an amount is the network fees, a line of its own. So the lines of an amount
//! always sum to it, whatever was settled, and a line never shows a product that is not one.

use std::collections::BTreeMap;

use api::{Latest, Line, LineKind, SCHEMA_VERSION, SeriesPoint, SettlementKind, SettlementRow, Time, Today};
use chrono::{Days, NaiveDate};
use energy::{Price, Timestamp, midpoint_floor};
use market::Sharing;

use super::database::DayRow;
use crate::zone::Zone;

/// A sum left the range of 64 bits: ±9.2 billion of the currency in one day of one home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the figures of the day leave their range")]
pub struct OutOfRange;

/// Bounds of a local day in market time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayBounds {
    /// First instant.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
}

impl DayBounds {
    /// A civil day: 23 or 25 hours where clocks change on it.
    #[must_use]
    pub fn of(date: NaiveDate, zone: Zone) -> Self {
        Self { start: zone.midnight(date), end: zone.midnight(date + Days::new(1)) }
    }

    /// The civil day that contains `time`.
    #[must_use]
    pub fn containing(time: Timestamp, zone: Zone) -> Self {
        Self::of(zone.date(time), zone)
    }
}

/// What a day is about.
#[derive(Debug, Clone)]
pub struct DayHead {
    /// The home.
    pub home: String,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// The day.
    pub bounds: DayBounds,
    /// Market time now.
    pub market_time: Timestamp,
    /// What local energy stands at.
    pub local: LocalPrice,
}

/// What energy between neighbours stands at before network fees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LocalPrice {
    /// The middle of the supplier's two prices.
    #[default]
    Middle,
    /// Always this, µ/kWh; 0 where a key divides energy and no money moves.
    Fixed(i64),
}

impl LocalPrice {
    /// As the community shares.
    #[must_use]
    pub fn of(sharing: Sharing) -> Self {
        match sharing {
            Sharing::Neighbour | Sharing::Incentive { .. } => Self::Middle,
            Sharing::StaticKey { price, .. } | Sharing::DynamicKey { price } => {
                Self::Fixed(price.map_or(0, Price::get))
            }
        }
    }

    /// With these prices of the supplier.
    #[must_use]
    pub fn at(self, import: i64, export: i64) -> i64 {
        match self {
            Self::Middle => midpoint_floor(Price::new(import), Price::new(export)).get(),
            Self::Fixed(price) => price,
        }
    }
}

/// The figures of the day from its settlements, oldest first.
///
/// # Errors
/// [`OutOfRange`].
pub fn today(head: DayHead, rows: &[DayRow]) -> Result<Today, OutOfRange> {
    let lines = collect(rows.iter().map(|row| lines_of(row, head.local)))?;
    let baseline_lines = collect(rows.iter().map(baseline_lines_of))?;
    let settled = || rows.iter().map(|row| &row.settlement);
    let wh = |of: fn(&SettlementRow) -> u64| sum(settled().map(|row| i128::from(of(row)))).and_then(unsigned);
    let amounts = |of: fn(&SettlementRow) -> i64| sum(settled().map(|row| i128::from(of(row))));
    let part = |sign: i128| sum(lines.iter().map(|line| (i128::from(line.amount_n) * sign).max(0)));
    let series = series(rows, head.local);
    Ok(Today {
        schema_version: SCHEMA_VERSION,
        home: head.home,
        currency: head.currency,
        day_start: Time(head.bounds.start),
        day_end: Time(head.bounds.end),
        market_time: Time(head.market_time),
        intervals_settled: u32::try_from(series.len()).map_err(|_| OutOfRange)?,
        import_wh: wh(|row| row.import_wh.unwrap_or(0))?,
        export_wh: wh(|row| row.export_wh.unwrap_or(0))?,
        sold_wh: wh(|row| row.sold_wh)?,
        bought_wh: wh(|row| row.bought_wh)?,
        supplier_import_wh: wh(|row| row.supplier_import_wh)?,
        supplier_export_wh: wh(|row| row.supplier_export_wh)?,
        earned_n: part(1)?,
        paid_n: part(-1)?,
        amount_n: amounts(|row| row.amount_n)?,
        baseline_n: amounts(|row| row.baseline_n)?,
        saved_n: amounts(|row| row.saved_n)?,
        incentive_n: amounts(|row| row.incentive_n)?,
        latest: rows
            .iter()
            .rfind(|row| row.settlement.kind == SettlementKind::Settled)
            .map(|row| latest(row, head.local))
            .transpose()?,
        lines,
        baseline_lines,
        series,
    })
}

fn latest(row: &DayRow, local: LocalPrice) -> Result<Latest, OutOfRange> {
    Ok(Latest { settlement: row.settlement.clone(), lines: collect([lines_of(row, local)])? })
}

/// A line before it is checked against 64 bits.
type Part = (LineKind, Option<(u64, i64)>, i128);

/// How the amount of one settlement came about.
fn lines_of(row: &DayRow, local: LocalPrice) -> Vec<Part> {
    let it = &row.settlement;
    let mut lines = Vec::new();
    if let (Some((import, export)), false) = (row.tariff, it.kind == SettlementKind::Correction) {
        forward_line(it, &mut lines);
        let price = local.at(import, export);
        let local = Leg {
            sold: (LineKind::SoldToNeighbours, it.sold_wh, price),
            bought: (LineKind::BoughtFromNeighbours, it.bought_wh, price),
            fees: LineKind::FeesToNeighbours,
        };
        local.lines(it.local_amount_n, &mut lines);
        supplier(it.supplier_export_wh, it.supplier_import_wh, export, import)
            .lines(it.supplier_amount_n, &mut lines);
    }
    if it.loss_n != 0 {
        lines.push((LineKind::Losses, None, i128::from(it.loss_n)));
    }
    rest(LineKind::Correction, it.amount_n, &mut lines);
    lines
}

/// How the supplier alone would have come to its amount.
fn baseline_lines_of(row: &DayRow) -> Vec<Part> {
    let it = &row.settlement;
    let mut lines = Vec::new();
    if let (Some((import, export)), Some(taken), Some(given), SettlementKind::Settled) =
        (row.tariff, it.import_wh, it.export_wh, it.kind)
    {
        supplier(given, taken, export, import).lines(it.baseline_n, &mut lines);
    }
    rest(LineKind::Correction, it.baseline_n, &mut lines);
    lines
}

const fn supplier(sold_wh: u64, bought_wh: u64, export_price: i64, import_price: i64) -> Leg {
    Leg {
        sold: (LineKind::SoldToSupplier, sold_wh, export_price),
        bought: (LineKind::BoughtFromSupplier, bought_wh, import_price),
        fees: LineKind::FeesToSupplier,
    }
}

fn forward_line(row: &SettlementRow, lines: &mut Vec<Part>) {
    if row.forward_wh == 0 && row.forward_amount_n == 0 {
        return;
    }
    let kind = if row.forward_wh < 0 { LineKind::ForwardBought } else { LineKind::ForwardSold };
    let amount = i128::from(row.forward_amount_n);
    lines.push((kind, exact(row.forward_wh.unsigned_abs(), amount), amount));
}

/// Trade with one counterparty: what was sold and bought at which price, and the fees for its way.
struct Leg {
    sold: (LineKind, u64, i64),
    bought: (LineKind, u64, i64),
    fees: LineKind,
}

impl Leg {
    fn lines(&self, amount_n: i64, lines: &mut Vec<Part>) {
        let mut explained = 0;
        for ((kind, wh, price), sign) in [(self.sold, 1), (self.bought, -1)] {
            let price = price.saturating_mul(sign);
            let amount = i128::from(wh) * i128::from(price);
            if wh > 0 {
                lines.push((kind, Some((wh, price)), amount));
                explained += amount;
            }
        }
        let fees = i128::from(amount_n) - explained;
        if fees != 0 {
            // Fees belong to one energy only where the home did not trade in both directions.
            let energy =
                if self.sold.1 == 0 || self.bought.1 == 0 { self.sold.1.max(self.bought.1) } else { 0 };
            lines.push((self.fees, exact(energy, fees), fees));
        }
    }
}

/// The price that makes `amount` of `wh`, if one does so exactly.
fn exact(wh: u64, amount: i128) -> Option<(u64, i64)> {
    let energy = i128::from(wh);
    let price = amount.checked_div(energy)?;
    (price * energy == amount).then_some((wh, i64::try_from(price).ok()?))
}

/// What the lines do not explain of `amount_n` becomes a line of its own, so that they always sum to it.
fn rest(kind: LineKind, amount_n: i64, lines: &mut Vec<Part>) {
    let explained: i128 = lines.iter().map(|(_, _, amount)| amount).sum();
    let rest = i128::from(amount_n) - explained;
    if rest != 0 {
        lines.push((kind, None, rest));
    }
}

/// Lines of the same kind at the same price become one.
fn collect(parts: impl IntoIterator<Item = Vec<Part>>) -> Result<Vec<Line>, OutOfRange> {
    let mut sums: BTreeMap<(LineKind, Option<i64>), (u128, i128)> = BTreeMap::new();
    for (kind, product, amount) in parts.into_iter().flatten() {
        let (wh, price) = product.unzip();
        let sum = sums.entry((kind, price)).or_default();
        sum.0 += u128::from(wh.unwrap_or(0));
        sum.1 += amount;
    }
    let line = |((kind, price), (wh, amount)): ((LineKind, Option<i64>), (u128, i128))| {
        Ok(Line {
            kind,
            wh: price.map(|_| u64::try_from(wh)).transpose().map_err(|_| OutOfRange)?,
            price,
            amount_n: i64::try_from(amount).map_err(|_| OutOfRange)?,
        })
    };
    sums.into_iter().map(line).collect()
}

/// The day by intervals: what came late or was corrected is added to its interval.
fn series(rows: &[DayRow], local: LocalPrice) -> Vec<SeriesPoint> {
    let mut points: BTreeMap<Time, SeriesPoint> = BTreeMap::new();
    for row in rows {
        let it = &row.settlement;
        let point = points
            .entry(it.interval_start)
            .or_insert_with(|| empty_point(it.interval_start, row.tariff, local));
        point.sold_wh = point.sold_wh.saturating_add(it.sold_wh);
        point.bought_wh = point.bought_wh.saturating_add(it.bought_wh);
        point.supplier_import_wh = point.supplier_import_wh.saturating_add(it.supplier_import_wh);
        point.supplier_export_wh = point.supplier_export_wh.saturating_add(it.supplier_export_wh);
        point.amount_n = point.amount_n.saturating_add(it.amount_n);
        point.saved_n = point.saved_n.saturating_add(it.saved_n);
        point.metered |= it.import_wh.is_some();
    }
    points.into_values().collect()
}

fn empty_point(start: Time, tariff: Option<(i64, i64)>, local: LocalPrice) -> SeriesPoint {
    let (import_price, export_price) = tariff.unwrap_or_default();
    SeriesPoint {
        start,
        sold_wh: 0,
        bought_wh: 0,
        supplier_import_wh: 0,
        supplier_export_wh: 0,
        amount_n: 0,
        saved_n: 0,
        import_price,
        export_price,
        local_price: local.at(import_price, export_price),
        metered: false,
    }
}

fn sum(values: impl Iterator<Item = i128>) -> Result<i64, OutOfRange> {
    i64::try_from(values.sum::<i128>()).map_err(|_| OutOfRange)
}

fn unsigned(value: i64) -> Result<u64, OutOfRange> {
    u64::try_from(value).map_err(|_| OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 400 Wh sold to neighbours at 0.12 less a fee of 0.01, 100 Wh to the supplier, 3 of the network's losses.
    fn row() -> DayRow {
        let local = 400 * 110_000;
        let supplier = 100 * 80_000;
        let amount_n = local + supplier - 3;
        let settlement = SettlementRow {
            interval_start: Time::from_unix_ms(1_465_819_200_000),
            kind: SettlementKind::Settled,
            height: 7,
            import_wh: Some(0),
            export_wh: Some(500),
            forward_wh: 0,
            forward_amount_n: 0,
            sold_wh: 400,
            bought_wh: 0,
            local_amount_n: local,
            supplier_import_wh: 0,
            supplier_export_wh: 100,
            supplier_amount_n: supplier,
            amount_n,
            baseline_n: 500 * 80_000,
            saved_n: amount_n - 500 * 80_000,
            claim_n: 0,
            loss_n: -3,
            incentive_n: 9,
            quality: None,
            quantum_wh: 1,
        };
        DayRow { settlement, tariff: Some((250_000, 80_000)) }
    }

    #[test]
    fn energy_that_a_key_divides_stands_at_the_keys_price_and_losses_are_a_line_of_their_own() {
        let head = DayHead {
            home: "h1".to_owned(),
            currency: "EUR".to_owned(),
            bounds: DayBounds::containing(Timestamp::from_unix_ms(1_465_819_200_000), Zone::UTC),
            market_time: Timestamp::from_unix_ms(1_465_819_300_000),
            local: LocalPrice::Fixed(120_000),
        };
        let today = today(head, &[row()]).unwrap();
        let line = |kind| today.lines.iter().find(|line| line.kind == kind).cloned().unwrap();
        let sold = line(LineKind::SoldToNeighbours);
        assert_eq!((sold.wh, sold.price, sold.amount_n), (Some(400), Some(120_000), 48_000_000));
        assert_eq!(line(LineKind::FeesToNeighbours).price, Some(-10_000));
        assert_eq!(line(LineKind::Losses).amount_n, -3);
        assert!(today.lines.iter().all(|line| line.kind != LineKind::Correction), "everything is explained");
        assert_eq!(today.lines.iter().map(|line| line.amount_n).sum::<i64>(), today.amount_n);
        assert_eq!((today.incentive_n, today.series[0].local_price), (9, 120_000));
    }

    #[test]
    fn a_day_is_that_of_the_homes_clocks_also_when_they_change() {
        let vienna = Zone::parse("Europe/Vienna").unwrap();
        for (inside, start, hours) in [
            ("2026-03-28T23:30:00Z", "2026-03-28T23:00:00Z", 23),
            ("2026-10-25T22:59:59Z", "2026-10-24T22:00:00Z", 25),
            ("2026-07-14T21:59:59Z", "2026-07-13T22:00:00Z", 24),
        ] {
            let day = DayBounds::containing(Timestamp::parse(inside).unwrap(), vienna);
            assert_eq!(
                (day.start.to_string().as_str(), day.end.ms_since(day.start)),
                (start, hours * 3_600_000)
            );
            let next = DayBounds::containing(day.end, vienna);
            assert_eq!(next.start, day.end, "days follow one another");
        }
    }

    #[test]
    fn a_key_without_a_price_moves_energy_and_no_money() {
        let free = LocalPrice::of(Sharing::DynamicKey { price: None });
        assert_eq!((free, free.at(250_000, 80_000)), (LocalPrice::Fixed(0), 0));
        assert_eq!(LocalPrice::of(Sharing::Neighbour).at(250_000, 80_000), 165_000);
    }
}
