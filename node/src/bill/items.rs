//! What one outcome of the ledger is on a bill: energy × price = charge, item by item.
//!
//! This is the one place that takes outcomes apart. Energy stands at the supplier's prices, or at the middle between
//! them for what neighbours share; what then remains of a stored amount is the network fees, an item of its own. So the
//! items of an outcome always add up to what the ledger booked, and an item never shows a product that is not one.
//!
//! A charge is positive where the home pays. Prices of what the home sells are therefore negative.

use energy::{Interval, Price, midpoint_floor};
use ledger::{OutcomeKind, OwnContract};

use crate::store::billing::OutcomeRow;

/// Money on a bill, n (10⁻⁹ of the currency); wide enough for any sum.
pub type Nano = i128;

/// Whose energy it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The neighbours'.
    Community,
    /// The supplier's.
    Grid,
}

/// Which way energy flowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Into the home.
    Import,
    /// Out of it.
    Export,
}

/// What an item is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Bought from neighbours ahead of delivery, network fees included.
    BoughtForward,
    /// Bought from neighbours as metered.
    Bought,
    /// Network fees on energy shared with neighbours, as who takes it pays them.
    BoughtFees,
    /// Taken from the supplier.
    GridImport,
    /// Network fees on it.
    GridImportFees,
    /// A corrected import.
    CorrectedImport,
    /// The home's part of what the network loses, where the community pays for it: bought from the supplier.
    Losses,
    /// Sold to neighbours ahead of delivery, network fees included.
    SoldForward,
    /// Sold to neighbours as metered.
    Sold,
    /// Network fees on it.
    SoldFees,
    /// Given to the supplier.
    GridExport,
    /// Network fees on it.
    GridExportFees,
    /// A corrected export.
    CorrectedExport,
    /// What the ledger booked beside all of these.
    Other,
}

impl What {
    /// All of them, in the order of a bill.
    pub const ALL: [Self; 14] = [
        Self::BoughtForward,
        Self::Bought,
        Self::BoughtFees,
        Self::GridImport,
        Self::GridImportFees,
        Self::CorrectedImport,
        Self::Losses,
        Self::SoldForward,
        Self::Sold,
        Self::SoldFees,
        Self::GridExport,
        Self::GridExportFees,
        Self::CorrectedExport,
        Self::Other,
    ];

    /// The word in CSV and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BoughtForward => "bought-forward",
            Self::Bought => "bought",
            Self::BoughtFees => "bought-fees",
            Self::GridImport => "grid-import",
            Self::GridImportFees => "grid-import-fees",
            Self::CorrectedImport => "corrected-import",
            Self::Losses => "losses",
            Self::SoldForward => "sold-forward",
            Self::Sold => "sold",
            Self::SoldFees => "sold-fees",
            Self::GridExport => "grid-export",
            Self::GridExportFees => "grid-export-fees",
            Self::CorrectedExport => "corrected-export",
            Self::Other => "other",
        }
    }

    /// Which column it stands in.
    #[must_use]
    pub const fn part(self) -> Part {
        match self {
            Self::GridImport
            | Self::GridImportFees
            | Self::CorrectedImport
            | Self::Losses
            | Self::GridExport
            | Self::GridExportFees
            | Self::CorrectedExport => Part::Grid,
            _ => Part::Community,
        }
    }

    /// Which way the energy flowed that it is for.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::SoldForward
            | Self::Sold
            | Self::SoldFees
            | Self::GridExport
            | Self::GridExportFees
            | Self::CorrectedExport => Direction::Export,
            _ => Direction::Import,
        }
    }

    /// True for network fees, whose energy is counted by another item already.
    #[must_use]
    pub const fn is_fee(self) -> bool {
        matches!(self, Self::BoughtFees | Self::GridImportFees | Self::SoldFees | Self::GridExportFees)
    }
}

impl Part {
    /// The word in CSV and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Community => "community",
            Self::Grid => "grid",
        }
    }
}

/// One item of one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is for.
    pub what: What,
    /// Energy, Wh; below zero where a correction takes some back.
    pub wh: i64,
    /// µ/kWh, positive where the home pays: `wh` × `price` = `charge`. `None` where no whole price makes the charge,
    /// since energy went over several distances, or both ways, in one interval.
    pub price: Option<i64>,
    /// What the home pays (receives, if negative), n.
    pub charge: Nano,
}

/// What one direction's meter showed, by whose energy it was, Wh; below zero where a correction took some back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    /// With neighbours.
    pub community: i64,
    /// With the supplier.
    pub grid: i64,
}

/// Both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Energy {
    /// Into the home.
    pub import: Split,
    /// Out of it.
    pub export: Split,
}

/// One outcome as it stands on a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed {
    /// Which interval.
    pub interval: Interval,
    /// How it was settled.
    pub kind: OutcomeKind,
    /// The block that booked it.
    pub height: u64,
    /// The block that settled the interval for everybody.
    pub settled_by: u64,
    /// Whether a usable reading was there.
    pub is_read: bool,
    /// What the meter showed.
    pub energy: Energy,
    /// What it came to.
    pub items: Vec<Item>,
    /// What of it the home could not pay its supplier, n.
    pub claim: Nano,
    /// What it is due from outside under a sharing incentive, n: in no item and no amount.
    pub incentive: Nano,
    /// What the ledger moved for it on the home's account where the supplier's leg is posted: less than nothing where
    /// the home paid, n.
    pub booked: Nano,
    /// The same where the supplier's leg is outside.
    pub booked_community: Nano,
}

/// Network fees per kWh between a home and each node above it, nearest first, the root last, µ/kWh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distances {
    /// For energy that comes to the home.
    pub down: Vec<i64>,
    /// For energy that leaves it.
    pub up: Vec<i64>,
}

impl Distances {
    /// The whole way between the home and the supplier: to the home, and from it.
    fn to_root(&self) -> (Nano, Nano) {
        let last = |fees: &[i64]| Nano::from(fees.last().copied().unwrap_or(0));
        (last(&self.down), last(&self.up))
    }
}

/// What is known of the home in an interval beside its outcome.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Network fees.
    pub distances: &'a Distances,
    /// Its own supply contract.
    pub contract: OwnContract,
    /// What neighbours share at, where the community fixed a price, µ/kWh; `None`: the middle of the two prices.
    pub local_price: Option<i64>,
    /// For a correction: import and export more than was settled, Wh.
    pub deltas: Option<(i64, i64)>,
}

/// Takes one outcome apart.
#[must_use]
pub fn billed(row: &OutcomeRow, known: &Known<'_>) -> Billed {
    let mut items = Vec::new();
    if row.kind == OutcomeKind::Correction {
        correction(row, known.deltas, &mut items);
    } else {
        forward(row, &mut items);
        neighbours(row, known, &mut items);
        supplier(row, known, &mut items);
        losses(row, &mut items);
    }
    let explained: Nano = items.iter().map(|item| item.charge).sum();
    let rest = -Nano::from(row.amount) - explained;
    if rest != 0 {
        items.push(Item { what: What::Other, wh: 0, price: None, charge: rest });
    }
    Billed {
        interval: row.interval,
        kind: row.kind,
        height: row.height,
        settled_by: row.settled_by,
        is_read: row.metered.is_some(),
        energy: energy(row, known.deltas),
        items,
        claim: row.claim.into(),
        incentive: row.incentive.into(),
        booked: Nano::from(row.amount) + Nano::from(row.claim),
        // Losses go to the supplier, as its energy does.
        booked_community: Nano::from(row.amount) - Nano::from(row.supplier_amount) - Nano::from(row.loss),
    }
}

fn forward(row: &OutcomeRow, items: &mut Vec<Item>) {
    if row.forward_wh == 0 && row.forward_amount == 0 {
        return;
    }
    let what = if row.forward_wh < 0 { What::BoughtForward } else { What::SoldForward };
    let wh = i64::try_from(row.forward_wh.unsigned_abs()).unwrap_or(i64::MAX);
    items.push(priced(what, wh, -Nano::from(row.forward_amount)));
}

/// Energy shared with neighbours at the community's price, and the network's fees for its way.
fn neighbours(row: &OutcomeRow, known: &Known<'_>, items: &mut Vec<Item>) {
    let middle = midpoint_floor(Price::new(row.import_price), Price::new(row.export_price)).get();
    let middle = known.local_price.unwrap_or(middle);
    let charge = -Nano::from(row.local_amount);
    let fees =
        charge - trade(What::Bought, row.bought, middle, items) - trade(What::Sold, row.sold, -middle, items);
    // Fees belong to one energy only where the home did not trade both ways.
    let (what, wh) = match (row.bought, row.sold) {
        (bought, 0) => (What::BoughtFees, bought),
        (0, sold) => (What::SoldFees, sold),
        _ => (What::BoughtFees, 0),
    };
    push_fees(what, wh, fees, items);
    // Over several distances at once the mean is nobody's fee, even where it is a whole number.
    let agreed = if what == What::SoldFees { &known.distances.up } else { &known.distances.down };
    if let Some(item) = items.last_mut().filter(|item| item.what == what) {
        item.price = item.price.filter(|price| agreed.contains(price));
    }
}

/// Energy with the supplier at its prices, the home's own contract before the community's tariff.
fn supplier(row: &OutcomeRow, known: &Known<'_>, items: &mut Vec<Item>) {
    let import = known.contract.import_price.map_or(row.import_price, Price::get);
    let export = known.contract.export_price.map_or(row.export_price, Price::get);
    let charge = -Nano::from(row.supplier_amount);
    let (taken, given) = (row.supplier_import, row.supplier_export);
    let fees = charge
        - trade(What::GridImport, taken, import, items)
        - trade(What::GridExport, given, -export, items);
    let (down, up) = known.distances.to_root();
    match (taken, given) {
        (taken, 0) => push_fees(What::GridImportFees, taken, fees, items),
        (0, given) => push_fees(What::GridExportFees, given, fees, items),
        // Both ways in one interval: split by the fees of the network, if it is they.
        (taken, given) if fees == Nano::from(taken) * down + Nano::from(given) * up => {
            push_fees(What::GridImportFees, taken, Nano::from(taken) * down, items);
            push_fees(What::GridExportFees, given, Nano::from(given) * up, items);
        }
        _ => push_fees(What::GridImportFees, 0, fees, items),
    }
}

/// The home's part of the network's losses, at the community tariff's import price.
fn losses(row: &OutcomeRow, items: &mut Vec<Item>) {
    let charge = -Nano::from(row.loss);
    if charge == 0 {
        return;
    }
    let price = Nano::from(row.import_price);
    let wh = charge.checked_div(price).filter(|wh| wh * price == charge);
    let wh = wh.and_then(|wh| i64::try_from(wh).ok());
    let price = wh.map(|_| row.import_price);
    items.push(Item { what: What::Losses, wh: wh.unwrap_or(0), price, charge });
}

fn correction(row: &OutcomeRow, deltas: Option<(i64, i64)>, items: &mut Vec<Item>) {
    let charge = -Nano::from(row.supplier_amount);
    match deltas {
        Some((0, export)) => items.push(priced(What::CorrectedExport, export, charge)),
        Some((import, 0)) => items.push(priced(What::CorrectedImport, import, charge)),
        // Both at once have one amount.
        _ => items.push(Item { what: What::CorrectedImport, wh: 0, price: None, charge }),
    }
}

/// Adds energy at a price, if there is any; returns what it costs.
fn trade(what: What, wh: u64, price: i64, items: &mut Vec<Item>) -> Nano {
    let charge = Nano::from(wh) * Nano::from(price);
    if wh > 0 {
        let wh = i64::try_from(wh).unwrap_or(i64::MAX);
        items.push(Item { what, wh, price: Some(price), charge });
    }
    charge
}

fn push_fees(what: What, wh: u64, fees: Nano, items: &mut Vec<Item>) {
    if fees != 0 {
        items.push(priced(what, i64::try_from(wh).unwrap_or(i64::MAX), fees));
    }
}

/// An item with the price that makes its charge, if one does so exactly.
fn priced(what: What, wh: i64, charge: Nano) -> Item {
    let energy = Nano::from(wh);
    let price = charge.checked_div(energy).filter(|price| price * energy == charge);
    Item { what, wh, price: price.and_then(|price| i64::try_from(price).ok()), charge }
}

/// What the meter showed, by whose it was. What a forward position took from the supplier beyond the meter (a sale that
/// was not delivered) is no energy of the home.
fn energy(row: &OutcomeRow, deltas: Option<(i64, i64)>) -> Energy {
    if let Some((import, export)) = deltas.filter(|_| row.kind == OutcomeKind::Correction) {
        let grid = |wh| Split { community: 0, grid: wh };
        return Energy { import: grid(import), export: grid(export) };
    }
    let split = |metered: u64, with_supplier: u64| {
        let grid = metered.min(with_supplier);
        let wh = |wh: u64| i64::try_from(wh).unwrap_or(i64::MAX);
        Split { community: wh(metered - grid), grid: wh(grid) }
    };
    let (import, export) = row.metered.unwrap_or_default();
    Energy { import: split(import, row.supplier_import), export: split(export, row.supplier_export) }
}

impl Split {
    /// Both together.
    #[must_use]
    pub const fn total(self) -> i64 {
        self.community.saturating_add(self.grid)
    }

    fn add(&mut self, other: Self) {
        self.community = self.community.saturating_add(other.community);
        self.grid = self.grid.saturating_add(other.grid);
    }
}

impl Energy {
    /// Adds another interval's.
    pub fn add(&mut self, other: &Self) {
        self.import.add(other.import);
        self.export.add(other.export);
    }
}

#[cfg(test)]
mod tests {
    use energy::{Mtu, Price};

    use super::*;

    /// Import at 0.25, export at 0.08: neighbours at 0.165.
    fn row() -> OutcomeRow {
        OutcomeRow {
            interval: Interval::from_index(100, Mtu::Min15),
            kind: OutcomeKind::Settled,
            height: 9,
            settled_by: 9,
            metered: Some((0, 0)),
            forward_wh: 0,
            forward_amount: 0,
            sold: 0,
            bought: 0,
            local_amount: 0,
            supplier_import: 0,
            supplier_export: 0,
            supplier_amount: 0,
            amount: 0,
            claim: 0,
            loss: 0,
            incentive: 0,
            import_price: 250_000,
            export_price: 80_000,
        }
    }

    fn distances(down: &[i64], up: &[i64]) -> Distances {
        Distances { down: down.to_vec(), up: up.to_vec() }
    }

    fn known(distances: &Distances) -> Known<'_> {
        Known { distances, contract: OwnContract::default(), local_price: None, deltas: None }
    }

    /// 0 at home, 0.01 to the feeder's end, 0.05 to the root; 0.002 for what leaves.
    fn usual() -> Distances {
        distances(&[0, 10_000, 50_000], &[0, 2_000, 2_000])
    }

    fn with(mut row: OutcomeRow) -> OutcomeRow {
        row.amount = row.forward_amount + row.local_amount + row.supplier_amount + row.loss;
        row
    }

    fn shown(row: &OutcomeRow, known: &Known<'_>) -> Vec<(What, i64, Option<i64>, Nano)> {
        let billed = billed(row, known);
        let charges: Nano = billed.items.iter().map(|item| item.charge).sum();
        assert_eq!(charges, -Nano::from(row.amount), "the items are what the ledger booked");
        for item in &billed.items {
            if let Some(price) = item.price {
                assert_eq!(Nano::from(item.wh) * Nano::from(price), item.charge);
            }
        }
        billed.items.iter().map(|item| (item.what, item.wh, item.price, item.charge)).collect()
    }

    #[test]
    fn what_was_bought_stands_at_its_price_and_its_fees_beside_it() {
        let row = with(OutcomeRow {
            metered: Some((300, 0)),
            bought: 200,
            local_amount: -200 * 175_000,
            supplier_import: 100,
            supplier_amount: -100 * 300_000,
            ..row()
        });
        let expected = [
            (What::Bought, 200, Some(165_000), 33_000_000),
            (What::BoughtFees, 200, Some(10_000), 2_000_000),
            (What::GridImport, 100, Some(250_000), 25_000_000),
            (What::GridImportFees, 100, Some(50_000), 5_000_000),
        ];
        assert_eq!(shown(&row, &known(&usual())), expected);
        let billed = billed(&row, &known(&usual()));
        assert_eq!(billed.energy.import, Split { community: 200, grid: 100 });
        assert_eq!((billed.booked, billed.booked_community), (-65_000_000, -35_000_000));
    }

    #[test]
    fn what_was_sold_is_a_charge_below_zero() {
        let row = with(OutcomeRow {
            metered: Some((0, 500)),
            sold: 400,
            local_amount: 400 * (165_000 - 2_000),
            supplier_export: 100,
            supplier_amount: 100 * 78_000,
            ..row()
        });
        let expected = [
            (What::Sold, 400, Some(-165_000), -66_000_000),
            (What::SoldFees, 400, Some(2_000), 800_000),
            (What::GridExport, 100, Some(-80_000), -8_000_000),
            (What::GridExportFees, 100, Some(2_000), 200_000),
        ];
        assert_eq!(shown(&row, &known(&usual())), expected);
    }

    #[test]
    fn fees_over_several_distances_show_no_price_that_is_none() {
        // 100 Wh from next door at 10 000 and 101 Wh from further away at 60 000.
        let fees = 100 * 10_000 + 101 * 60_000;
        let row = with(OutcomeRow {
            metered: Some((201, 0)),
            bought: 201,
            local_amount: -201 * 165_000 - fees,
            ..row()
        });
        let items = shown(&row, &known(&usual()));
        assert_eq!(items[1], (What::BoughtFees, 201, None, fees.into()));
        // 100 Wh from next door for nothing and 100 from further away: the mean of 5 000 is no fee that anybody agreed on.
        let row = with(OutcomeRow {
            metered: Some((200, 0)),
            bought: 200,
            local_amount: -200 * 165_000 - 1_000_000,
            ..row
        });
        assert_eq!(shown(&row, &known(&usual()))[1], (What::BoughtFees, 200, None, 1_000_000));
    }

    #[test]
    fn both_ways_with_the_supplier_are_split_by_the_fees_of_the_network() {
        let amount = 40 * (80_000 - 2_000) - 30 * (250_000 + 50_000);
        let row = with(OutcomeRow {
            metered: Some((30, 40)),
            supplier_import: 30,
            supplier_export: 40,
            supplier_amount: amount,
            ..row()
        });
        let items = shown(&row, &known(&usual()));
        assert_eq!(
            items[2..],
            [
                (What::GridImportFees, 30, Some(50_000), 1_500_000),
                (What::GridExportFees, 40, Some(2_000), 80_000),
            ]
        );
        // Other fees than the genesis says: one item, without a price that nobody agreed on.
        let other = distances(&[0, 1], &[0, 2_000]);
        assert_eq!(shown(&row, &known(&other))[2..], [(What::GridImportFees, 0, None, 1_580_000)]);
    }

    #[test]
    fn a_contract_of_its_own_prices_the_supplier_and_not_the_neighbours() {
        let row = with(OutcomeRow {
            metered: Some((300, 0)),
            bought: 200,
            local_amount: -200 * 165_000,
            supplier_import: 100,
            supplier_amount: -100 * 220_000,
            ..row()
        });
        let contract = OwnContract { import_price: Some(Price::new(220_000)), export_price: None };
        let items = shown(&row, &Known { contract, ..known(&usual()) });
        assert_eq!(
            items,
            [
                (What::Bought, 200, Some(165_000), 33_000_000),
                (What::GridImport, 100, Some(220_000), 22_000_000),
            ]
        );
    }

    #[test]
    fn a_forward_sale_that_was_not_delivered_adds_no_energy_to_the_home() {
        // Sold 50 Wh ahead, exported 30, imported 100: the missing 20 came from the supplier.
        let row = with(OutcomeRow {
            metered: Some((100, 30)),
            forward_wh: 50,
            forward_amount: 50 * 170_000,
            supplier_import: 120,
            supplier_amount: -120 * 250_000,
            ..row()
        });
        let items = shown(&row, &known(&usual()));
        assert_eq!(items[0], (What::SoldForward, 50, Some(-170_000), -8_500_000));
        let energy = billed(&row, &known(&usual())).energy;
        assert_eq!(energy.import, Split { community: 0, grid: 100 });
        assert_eq!(energy.export, Split { community: 30, grid: 0 });
    }

    #[test]
    fn a_forward_purchase_covers_the_import_first() {
        let row = with(OutcomeRow {
            metered: Some((60, 0)),
            forward_wh: -100,
            forward_amount: -100 * 150_000,
            sold: 40,
            local_amount: 40 * 165_000,
            ..row()
        });
        let items = shown(&row, &known(&usual()));
        assert_eq!(
            items,
            [
                (What::BoughtForward, 100, Some(150_000), 15_000_000),
                (What::Sold, 40, Some(-165_000), -6_600_000),
            ]
        );
        assert_eq!(billed(&row, &known(&usual())).energy.import, Split { community: 60, grid: 0 });
    }

    #[test]
    fn a_correction_stands_with_its_energy_and_the_supplier() {
        let row = with(OutcomeRow {
            kind: OutcomeKind::Correction,
            metered: None,
            supplier_amount: 7 * 165_000,
            ..row()
        });
        let usual = usual();
        let one = Known { deltas: Some((-7, 0)), ..known(&usual) };
        assert_eq!(shown(&row, &one), [(What::CorrectedImport, -7, Some(165_000), -1_155_000)]);
        assert_eq!(billed(&row, &one).energy.import, Split { community: 0, grid: -7 });
        let both = Known { deltas: Some((-7, 3)), ..known(&usual) };
        assert_eq!(shown(&row, &both), [(What::CorrectedImport, 0, None, -1_155_000)]);
    }

    #[test]
    fn losses_are_the_suppliers_energy_and_an_incentive_is_in_no_amount() {
        let row = with(OutcomeRow { metered: Some((5, 0)), loss: -1_250, incentive: 700, ..row() });
        assert_eq!(shown(&row, &known(&usual())), [(What::Losses, 0, None, 1_250)]);
        let billed = billed(&row, &known(&usual()));
        assert_eq!((billed.booked, billed.booked_community, billed.incentive), (-1_250, 0, 700));
    }

    #[test]
    fn energy_shared_by_law_stands_at_the_price_that_was_agreed_on() {
        let row = with(OutcomeRow {
            metered: Some((200, 0)),
            bought: 200,
            local_amount: -200 * (120_000 + 10_000),
            ..row()
        });
        let usual = usual();
        let agreed = Known { local_price: Some(120_000), ..known(&usual) };
        let expected = [
            (What::Bought, 200, Some(120_000), 24_000_000),
            (What::BoughtFees, 200, Some(10_000), 2_000_000),
        ];
        assert_eq!(shown(&row, &agreed), expected);
    }

    #[test]
    fn what_the_ledger_booked_beside_is_shown_and_not_lost() {
        let row = OutcomeRow { amount: -5, ..row() };
        assert_eq!(shown(&row, &known(&usual())), [(What::Other, 0, None, 5)]);
    }

    #[test]
    fn losses_stand_at_the_community_tariff_beside_the_suppliers_energy() {
        let row = with(OutcomeRow {
            metered: Some((100, 0)),
            supplier_import: 100,
            supplier_amount: -100 * 220_000,
            loss: -7 * 250_000,
            incentive: 12_345,
            ..row()
        });
        let contract = OwnContract { import_price: Some(Price::new(220_000)), export_price: None };
        let usual = usual();
        let known = Known { contract, ..known(&usual) };
        let items = shown(&row, &known);
        assert_eq!(items[1], (What::Losses, 7, Some(250_000), 1_750_000));
        assert_eq!(items.len(), 2, "an incentive is due from outside and charged to nobody");
        let billed = billed(&row, &known);
        assert_eq!((billed.incentive, billed.booked_community), (12_345, 0));
        assert_eq!(What::Losses.part(), Part::Grid);
    }

    #[test]
    fn what_is_shared_at_a_fixed_price_stands_at_it() {
        let row =
            with(OutcomeRow { metered: Some((200, 0)), bought: 200, local_amount: -200 * 110_000, ..row() });
        let usual = usual();
        let items = shown(&row, &Known { local_price: Some(100_000), ..known(&usual) });
        let expected = [
            (What::Bought, 200, Some(100_000), 20_000_000),
            (What::BoughtFees, 200, Some(10_000), 2_000_000),
        ];
        assert_eq!(items, expected);
    }

    #[test]
    fn a_negative_price_pays_whoever_takes() {
        let row = with(OutcomeRow {
            metered: Some((10, 0)),
            supplier_import: 10,
            supplier_amount: 10 * 30_000,
            import_price: -40_000,
            export_price: -60_000,
            ..row()
        });
        let items = shown(&row, &known(&usual()));
        assert_eq!(items[0], (What::GridImport, 10, Some(-40_000), -400_000));
        assert_eq!(items[1], (What::GridImportFees, 10, Some(10_000), 100_000));
    }
}
