//! One day of one home: what the household page shows.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{SettlementRow, Time};

/// A day of this home. All figures are about the intervals of the day that are settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Today {
    /// Version of this document.
    pub schema_version: u32,
    /// The home.
    pub home: String,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// First instant of the day.
    pub day_start: Time,
    /// First instant after it.
    pub day_end: Time,
    /// Market time now.
    pub market_time: Time,
    /// How many intervals of the day are settled for this home.
    pub intervals_settled: u32,
    /// Metered import.
    pub import_wh: u64,
    /// Metered export.
    pub export_wh: u64,
    /// Sold to neighbours.
    pub sold_wh: u64,
    /// Bought from neighbours.
    pub bought_wh: u64,
    /// Taken from the supplier.
    pub supplier_import_wh: u64,
    /// Given to the supplier.
    pub supplier_export_wh: u64,
    /// Sum of the positive lines, n.
    pub earned_n: i64,
    /// Sum of the negative lines, n, without its sign.
    pub paid_n: i64,
    /// `earned_n - paid_n`.
    pub amount_n: i64,
    /// What the supplier alone would have come to, n.
    pub baseline_n: i64,
    /// `amount_n - baseline_n`.
    pub saved_n: i64,
    /// What is due to the home from outside for sharing, n, not in `amount_n`; 0 without such an incentive.
    pub incentive_n: i64,
    /// How `amount_n` came about; the lines sum to it exactly.
    pub lines: Vec<Line>,
    /// How `baseline_n` came about; the lines sum to it exactly.
    pub baseline_lines: Vec<Line>,
    /// The latest settled interval and how its amount came about.
    pub latest: Option<Latest>,
    /// The day by intervals, oldest first; empty if the request said `series=false`.
    pub series: Vec<SeriesPoint>,
}

/// The latest settled interval of this home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Latest {
    /// The settlement.
    pub settlement: SettlementRow,
    /// How its `amount_n` came about; the lines sum to it exactly.
    pub lines: Vec<Line>,
}

/// One line of a computation: energy times price is the amount, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// What it is for.
    pub kind: LineKind,
    /// The energy; absent where several distances are in one line.
    pub wh: Option<u64>,
    /// The price in µ/kWh: positive if the home receives it. Absent where several are in one line.
    pub price: Option<i64>,
    /// The amount in n, positive if the home receives it. Equals `wh * price` where both are given.
    pub amount_n: i64,
}

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// A position sold beforehand.
    ForwardSold,
    /// A position bought beforehand.
    ForwardBought,
    /// Sold to neighbours, at the middle of the supplier's two prices; where a key divides local energy, at its price.
    SoldToNeighbours,
    /// Bought from neighbours, at the same price.
    BoughtFromNeighbours,
    /// Network fees for the way between neighbours.
    FeesToNeighbours,
    /// Sold to the supplier, at its export price.
    SoldToSupplier,
    /// Bought from the supplier, at its import price.
    BoughtFromSupplier,
    /// Network fees for the way from and to the supplier, and, for a home with a supply contract of its own, the
    /// difference between its prices and the community's.
    FeesToSupplier,
    /// Its part of what the network lost.
    Losses,
    /// A correction, settled at the price that is worse for the corrected home.
    Correction,
}

/// One interval of the day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeriesPoint {
    /// First instant.
    pub start: Time,
    /// Sold to neighbours.
    pub sold_wh: u64,
    /// Bought from neighbours.
    pub bought_wh: u64,
    /// Taken from the supplier.
    pub supplier_import_wh: u64,
    /// Given to the supplier.
    pub supplier_export_wh: u64,
    /// What the interval came to, n.
    pub amount_n: i64,
    /// `amount_n` less what the supplier alone would have come to, n.
    pub saved_n: i64,
    /// What the supplier charges, µ/kWh.
    pub import_price: i64,
    /// What the supplier pays, µ/kWh.
    pub export_price: i64,
    /// What neighbours trade at before network fees: the middle, or the price of the key that divides local energy, µ/kWh.
    pub local_price: i64,
    /// False if the home had no reading.
    pub metered: bool,
}
