//! What stands between a simulated home and its agent: what the agent is told, and what it answers.

use agent::{Ahead, Alike, Devices, Standing, Step, Wishes};
use energy::{Interval, Money, Price, Timestamp, WattHours};
use ledger::{EntryId, HomeOutcome, TariffPoint};
use market::{Position, Side};

use crate::home::Given;

/// An interval that a home lived through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lived {
    /// Load, sun and heat as they were.
    pub(crate) given: Given,
    /// What devices did.
    pub(crate) step: Step,
}

/// What the ledger said of an interval that was settled.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    /// The home's own part.
    pub(crate) outcome: HomeOutcome,
    /// The supplier's prices in it.
    pub(crate) tariff: TariffPoint,
    /// The community's totals, where its members see them.
    pub(crate) totals: Option<Totals>,
    /// What the home's own order traded ahead of it, if anything.
    pub(crate) traded: Option<Traded>,
}

/// What an order came to at its gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traded {
    /// Delivery.
    pub(crate) interval: Interval,
    /// Buy or sell.
    pub(crate) side: Side,
    /// How much.
    pub(crate) filled: WattHours,
    /// What the home receives for it (negative: pays).
    pub(crate) amount: Money,
}

/// The community's totals of an interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    /// Matched between neighbours.
    pub(crate) matched: WattHours,
    /// Taken from the supplier.
    pub(crate) supplier_import: WattHours,
    /// Given to the supplier.
    pub(crate) supplier_export: WattHours,
    /// What the gate cleared before, where that is public.
    pub(crate) forward: Option<agent::Cleared>,
}

/// What an agent is told as an interval begins.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    /// Market time.
    pub(crate) now: Timestamp,
    /// The interval that begins.
    pub(crate) interval: Interval,
    /// How its devices stand.
    pub(crate) standing: Standing,
    /// Its forward position in this interval; the gates of later ones are still to close.
    pub(crate) position: Position,
    /// What it can spend.
    pub(crate) free: Money,
    /// The supplier's prices from this interval on.
    pub(crate) tariff: &'a [TariffPoint],
    /// The interval before.
    pub(crate) lived: Option<Lived>,
    /// What was settled since the last time.
    pub(crate) settled: Option<Settled>,
}

/// What never changes in a run about a home and its community.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its devices.
    pub(crate) devices: Devices,
    /// What its household wants.
    pub(crate) wishes: Wishes,
    /// What its connection carries.
    pub(crate) connection: WattHours,
    /// Network fees from the root to it.
    pub(crate) fee_down: Price,
    /// Network fees from it to the root.
    pub(crate) fee_up: Price,
    /// The same on the usual way of energy from neighbours …
    pub(crate) local_fee_down: Price,
    /// … and to them.
    pub(crate) local_fee_up: Price,
    /// Rating of its sun, W.
    pub(crate) peak_w: u32,
    /// Homes of the community that plan as it does.
    pub(crate) alike: Alike,
    /// A number of its own.
    pub(crate) taste: u64,
    /// Whether orders are taken at all.
    pub(crate) trades: bool,
}

/// What an agent wants of the order book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A new order, instead of an open one if it says so.
    Place { interval: Interval, side: Side, price: Price, quantity: WattHours, replaces: Option<EntryId> },
    /// An open order taken back.
    Cancel { order: EntryId },
}

/// What an agent answers.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// What devices should do in the interval that begins.
    pub(crate) step: Step,
    /// What it expects of that interval.
    pub(crate) expected: Ahead,
    /// What it wants of the order book.
    pub(crate) wishes: Vec<Wish>,
    /// Whether devices are left to themselves instead.
    pub(crate) rests: bool,
}

/// Mean absolute errors of a home's forecasts 1, 6 and 24 hours ahead, Wh per hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForecastErrors {
    /// Of load.
    pub(crate) load: [u64; 3],
    /// Of sun; `None` without any.
    pub(crate) sun: Option<[u64; 3]>,
}

/// An agent, as a simulated home sees it.
pub(crate) trait Brain: Send {
    /// Plans anew; `None` if nothing at all is known of the interval.
    fn decide(&mut self, moment: &Moment<'_>) -> Option<Decision>;

    /// The names under which its wishes went out, in their order.
    fn sent(&mut self, entries: &[EntryId]);

    /// One of them was not taken.
    fn refused(&mut self, entry: EntryId);

    /// How well it foresaw; `None` before it could be measured.
    fn errors(&self) -> Option<ForecastErrors>;
}
