//! Orders that follow from a plan: forward trading of the energy that a home controls, and of no other.
//!
//! **What.** What the battery gives beyond the home's own need is sold; what battery, vehicle and heat take from outside is
//! bought. Sun and uncontrolled load are never offered: they flow whether traded or not, and matching serves them.
//!
//! **At which limit.** No trade may be worse than none. A Wh not sold forward is either kept or exported anyway, and a Wh not
//! bought is taken anyway or another one is: so the limit of a sale is what the export would bring without it, or what keeping
//! the energy is worth if that is more; the limit of a purchase is what the import would cost without it, or the dearest
//! way round it if that is less ([`limits`]). The household's own limits hold on top, and the book's band.
//!
//! **When.** All orders of an interval are cleared together at its gate, so an early order gains nothing: orders are
//! placed for gates within [`OFFER_AHEAD_MS`], and replaced only when quantity or price changed materially. In the last five minutes before
//! a gate nothing is done.
//!
//! **How much.** At most the certified maximum less the position, and what the free balance can reserve; nearest gates
//! first. When forward trading has cost the household money this month ([`StopLoss`]), open orders are taken back and none are
//! placed until the next.

mod limits;
mod stop_loss;

use energy::{Interval, Money, Price, Timestamp, WattHours};
use market::{CHANGES_MAX, FREEZE_MS, GATE_LEAD_MS, OPENS_MS, ORDER_MIN, Side};

use crate::home::{Ahead, Devices, Plan, Prices, Standing, Step, Wishes};
use limits::{buy_limit, sell_limit};

pub use stop_loss::{Month, StopLoss, without_position};

const _: () = assert!(OFFER_AHEAD_MS <= OPENS_MS, "the agent places no order before the market takes it");

/// The agent places orders from this long before the start of their interval, ms.
pub const OFFER_AHEAD_MS: u64 = 7_200_000;
/// A price that moved by less is not worth a replacement: half a hundredth of the currency per kWh.
const MATERIAL_PRICE: u64 = 5_000;
/// A quantity that moved by less than this, or less than a tenth, is not either.
const MATERIAL_WH: u64 = 100;

/// An order of this home that waits in the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenOffer {
    /// Its id on the ledger.
    pub id: [u8; 32],
    /// Delivery.
    pub interval: Interval,
    /// Buy or sell.
    pub side: Side,
    /// Limit.
    pub price: Price,
    /// How much.
    pub quantity: WattHours,
    /// How often this home has replaced or taken back orders for that interval. At [`CHANGES_MAX`] the order stays as it is and
    /// none is placed beside it: the market takes no change any more, or it is people's, who look after it themselves.
    pub changes: u8,
}

/// What the market lets this home do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account {
    /// Balance less what is reserved, that of open orders included.
    pub free: Money,
    /// Certified maximum: orders and position of one interval, either way.
    pub maximum: WattHours,
    /// Entries that this member may still sign this hour.
    pub entries_left: u32,
    /// Whether forward trading may go on: [`StopLoss::allows`], and the household's own switch.
    pub trading: bool,
}

/// Between which limits the market takes orders for one interval at the home's node: the community's export price less
/// F↑, its import price and F↓.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Band {
    /// The lowest limit.
    pub low: Price,
    /// The highest.
    pub high: Price,
}

/// All that orders follow from. `ahead` begins where `plan` does.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// What the devices should do.
    pub plan: &'a Plan,
    /// What each interval will probably bring.
    pub ahead: &'a [Ahead],
    /// What stands in the home.
    pub devices: &'a Devices,
    /// How it stands as the plan begins.
    pub standing: &'a Standing,
    /// What the household said.
    pub wishes: &'a Wishes,
    /// What the market allows.
    pub account: &'a Account,
    /// The market's limits, beginning where `plan` does. Where there is none, the home's supplier has the community's tariff,
    /// and its prices are the band.
    pub bands: &'a [Band],
    /// Its orders in the book.
    pub open: &'a [OpenOffer],
}

/// An entry to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Places an order, in the place of another if `replaces` names one.
    Place {
        /// Delivery.
        interval: Interval,
        /// Buy or sell.
        side: Side,
        /// Limit, µ/kWh at this home's node.
        price: Price,
        /// How much.
        quantity: WattHours,
        /// The open order it takes the place of.
        replaces: Option<[u8; 32]>,
    },
    /// Takes an open order back.
    Cancel {
        /// The order.
        id: [u8; 32],
    },
}

/// An order that the home would have now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    side: Side,
    price: Price,
    quantity: WattHours,
}

/// What to place, replace and take back at `now`, nearest gate first.
#[must_use]
pub fn offers(desk: &Desk<'_>, now: Timestamp) -> Vec<Action> {
    let mut book = Bookkeeping { free: desk.account.free, left: desk.account.entries_left, actions: vec![] };
    for (place, (step, ahead)) in desk.plan.steps.iter().zip(desk.ahead).enumerate() {
        let interval =
            Interval::from_index(desk.plan.from.index().saturating_add(place as u64), desk.plan.from.mtu());
        if now >= frozen_from(interval) {
            continue;
        }
        let mine: Vec<&OpenOffer> = desk.open.iter().filter(|open| open.interval == interval).collect();
        if mine.is_empty() && interval.start() > now.plus_ms(OFFER_AHEAD_MS) {
            continue;
        }
        let band = desk.band(place, ahead);
        let wanted = desk.account.trading.then(|| desk.wanted(place, step, ahead, band)).flatten();
        book.settle(interval, wanted, &mine, band);
    }
    // Where the plan does not reach, nothing is wanted; what such an order reserves is not counted on.
    let end = desk.plan.from.index().saturating_add(desk.plan.steps.len().min(desk.ahead.len()) as u64);
    for beyond in
        desk.open.iter().filter(|open| open.interval.index() >= end && now < frozen_from(open.interval))
    {
        book.cancel(beyond, Money::ZERO);
    }
    book.actions
}

/// From here on nothing is done about an interval.
const fn frozen_from(interval: Interval) -> Timestamp {
    interval.start().minus_ms(GATE_LEAD_MS + FREEZE_MS)
}

impl Desk<'_> {
    fn band(&self, place: usize, ahead: &Ahead) -> Band {
        let Prices { supplier_export, supplier_import, .. } = ahead.prices;
        self.bands.get(place).copied().unwrap_or(Band { low: supplier_export, high: supplier_import })
    }

    /// What of a step is controlled, crosses the connection and is not traded yet; at which limit.
    fn wanted(&self, place: usize, step: &Step, ahead: &Ahead, band: Band) -> Option<Wanted> {
        let flexible = step.charge.get().saturating_add(step.vehicle.get()).saturating_add(step.heat.get());
        let sale = step.discharge.min(step.export);
        let purchase = WattHours::new(flexible).min(step.import);
        let (side, energy, position, against, price) = if !sale.is_zero() {
            let price = sell_limit(self, place)?.max(band.low);
            (Side::Sell, sale, ahead.sold, ahead.bought, Some(price).filter(|price| *price <= band.high)?)
        } else {
            let price = buy_limit(self, place)?.min(band.high);
            (Side::Buy, purchase, ahead.bought, ahead.sold, Some(price).filter(|price| *price >= band.low)?)
        };
        let room = self.account.maximum.saturating_sub(position);
        let quantity = energy.saturating_sub(position).min(room);
        // One side per interval: who sold does not buy.
        (against.is_zero() && quantity >= ORDER_MIN).then_some(Wanted { side, price, quantity })
    }
}

/// What is left of balance and quota while actions are chosen.
struct Bookkeeping {
    free: Money,
    left: u32,
    actions: Vec<Action>,
}

impl Bookkeeping {
    /// Brings the open orders of one interval to what is wanted.
    fn settle(&mut self, interval: Interval, wanted: Option<Wanted>, mine: &[&OpenOffer], band: Band) {
        let mut mine = mine.iter();
        let kept = mine.next();
        // The agent has one order an interval; more can only be left from another program.
        mine.for_each(|surplus| self.cancel(surplus, reserve_of(surplus, band)));
        match (wanted, kept) {
            (Some(wanted), None) => self.place(interval, wanted, None, band),
            (Some(wanted), Some(open)) if differs(&wanted, open) => {
                self.place(interval, wanted, Some(open), band);
            }
            (None, Some(open)) => self.cancel(open, reserve_of(open, band)),
            _ => {}
        }
    }

    /// Places as much of `wanted` as the balance reserves. A replacement that the balance or the quota does not allow leaves
    /// the old order as it is.
    fn place(&mut self, interval: Interval, wanted: Wanted, old: Option<&&OpenOffer>, band: Band) {
        // The last change is kept for a cancel.
        if self.left == 0 || old.is_some_and(|open| open.changes.saturating_add(1) >= CHANGES_MAX) {
            return;
        }
        let freed = old.map_or(Money::ZERO, |open| reserve_of(open, band));
        let Ok(free) = self.free.add(freed) else { return };
        let each = exposure(wanted.side, wanted.price, band);
        let quantity = affordable(free, each).min(wanted.quantity);
        let wanted = Wanted { quantity, ..wanted };
        if quantity < ORDER_MIN || old.is_some_and(|open| !differs(&wanted, open)) {
            return;
        }
        let Some(rest) = each.cost_of(quantity).and_then(|reserve| free.sub(reserve)).ok() else { return };
        let Wanted { side, price, .. } = wanted;
        self.act(Action::Place { interval, side, price, quantity, replaces: old.map(|open| open.id) }, rest);
    }

    fn cancel(&mut self, open: &OpenOffer, freed: Money) {
        if self.left > 0 && open.changes < CHANGES_MAX {
            let free = self.free.add(freed).unwrap_or(self.free);
            self.act(Action::Cancel { id: open.id }, free);
        }
    }

    fn act(&mut self, action: Action, free: Money) {
        self.actions.push(action);
        self.left = self.left.saturating_sub(1);
        self.free = free;
    }
}

/// Whether a new order would say something materially else than the open one.
fn differs(wanted: &Wanted, open: &OpenOffer) -> bool {
    let moved = wanted.quantity.get().abs_diff(open.quantity.get());
    wanted.side != open.side
        || wanted.price.get().abs_diff(open.price.get()) >= MATERIAL_PRICE
        || moved >= (open.quantity.get() / 10).max(MATERIAL_WH)
}

/// What the market reserves of an order per kWh: of a sale max(0, import + F↓ − limit), where import costs anything, of a
/// purchase max(0, limit − min(0, export − F↑)).
fn exposure(side: Side, limit: Price, band: Band) -> Price {
    let exposure = match side {
        Side::Sell => band.high.max(Price::ZERO).sub(limit),
        Side::Buy => limit.sub(band.low.min(Price::ZERO)),
    };
    // Beyond the range of prices nothing is affordable.
    exposure.unwrap_or(Price::new(i64::MAX)).max(Price::ZERO)
}

/// What an open order reserves.
fn reserve_of(open: &OpenOffer, band: Band) -> Money {
    exposure(open.side, open.price, band).cost_of(open.quantity).unwrap_or(Money::ZERO)
}

/// How much `free` can reserve at `each` per kWh.
fn affordable(free: Money, each: Price) -> WattHours {
    let energy = free.get().max(0).checked_div(i128::from(each.get()));
    energy
        .map_or(WattHours::new(u64::MAX), |energy| WattHours::new(u64::try_from(energy).unwrap_or(u64::MAX)))
}
