//! How long a prepaid balance lasts: a member is warned before it is used up.

use energy::{HomeId, Interval, Mtu, Price, Timestamp};
use ledger::{Ledger, MoneyMode};

use super::items::Nano;

/// A balance that does not last so many days is low (docs/bills.md).
pub const LOW_DAYS: i64 = 3;
/// The consumption of so many days says how long it lasts.
pub const LOOK_BACK_DAYS: u64 = 14;
const DAY_MS: u64 = 86_400_000;

/// What a home takes on average, at present prices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consumption {
    /// Taken in the last [`LOOK_BACK_DAYS`] days, Wh.
    pub import_wh: u64,
    /// In how many intervals it was metered.
    pub intervals: u64,
    /// What a kWh from the supplier costs at present, network fees included, µ/kWh.
    pub price: i64,
}

/// How long a balance lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lasting {
    /// What a day costs on average, rounded up, n; `None` where nothing was metered yet.
    pub daily_cost: Option<i64>,
    /// Whole days that the balance lasts; `None` where a day costs nothing.
    pub days: Option<i64>,
    /// True if it falls under [`LOW_DAYS`] days.
    pub is_low: bool,
}

/// From when on consumption counts.
#[must_use]
pub const fn look_back(now: Timestamp) -> Timestamp {
    now.minus_ms(LOOK_BACK_DAYS * DAY_MS)
}

/// How long `free` (n) lasts where intervals have length `mtu`. Nothing is rounded in the comparison.
#[must_use]
pub fn lasting(free: i64, consumption: Consumption, mtu: Mtu) -> Lasting {
    if consumption.intervals == 0 {
        return Lasting::default();
    }
    let intervals = Nano::from(consumption.intervals);
    // What all metered intervals would cost, times the intervals of a day: `intervals` times a day's cost.
    let cost = Nano::from(consumption.import_wh).saturating_mul(Nano::from(consumption.price));
    let cost = cost.saturating_mul(Nano::from(mtu.per_day()));
    let daily_cost = i64::try_from(super::sheet::ceiling(cost, intervals)).ok();
    let scaled = Nano::from(free) * intervals;
    if cost <= 0 {
        return Lasting { daily_cost, days: None, is_low: false };
    }
    let days = i64::try_from(scaled.div_euclid(cost)).ok().map(|days| days.max(0));
    Lasting { daily_cost, days, is_low: scaled < cost.saturating_mul(Nano::from(LOW_DAYS)) }
}

/// What a kWh from the home's supplier costs on average over the next day, network fees included; `None` if the home is
/// no member, or where members pay by statement: then no balance runs out.
#[must_use]
pub fn present_price(ledger: &Ledger, home: &HomeId) -> Option<i64> {
    let member = ledger.member(home)?;
    if ledger.genesis_terms().market.money != MoneyMode::Prepaid {
        return None;
    }
    let first = ledger.next_to_settle();
    let count = u64::from(first.mtu().per_day());
    let price = |at: u64| {
        let interval = Interval::from_index(first.index().saturating_add(at), first.mtu());
        let own = member.contract_at(interval).import_price;
        let network = ledger.network_at(interval);
        let node = network.index_of(&member.admission.node);
        let fee = node.map_or(Price::ZERO, |node| network.fee_down_from_root(node));
        let price = own.unwrap_or_else(|| ledger.tariff_at(interval).import_price);
        Nano::from(price.get()) + Nano::from(fee.get())
    };
    let sum: Nano = (0..count).map(price).sum();
    i64::try_from(super::sheet::ceiling(sum, Nano::from(count))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 9.6 kWh a day at 0.30: 2.88 a day.
    fn usual() -> Consumption {
        Consumption { import_wh: 14 * 9_600, intervals: 14 * 96, price: 300_000 }
    }

    #[test]
    fn a_balance_under_three_days_is_low_and_three_days_are_enough() {
        let enough = lasting(3 * 2_880_000_000, usual(), Mtu::Min15);
        assert_eq!(enough, Lasting { daily_cost: Some(2_880_000_000), days: Some(3), is_low: false });
        let one_less = lasting(3 * 2_880_000_000 - 1, usual(), Mtu::Min15);
        assert_eq!((one_less.days, one_less.is_low), (Some(2), true));
        assert_eq!(lasting(-5, usual(), Mtu::Min15).days, Some(0), "all is reserved");
    }

    #[test]
    fn the_average_is_over_what_was_metered_and_not_over_the_calendar() {
        // Two days only since it joined, the same a day.
        let joined = Consumption { import_wh: 2 * 9_600, intervals: 2 * 96, ..usual() };
        assert_eq!(lasting(9_000_000_000, joined, Mtu::Min15), lasting(9_000_000_000, usual(), Mtu::Min15));
        let hourly = Consumption { intervals: 14 * 24, ..usual() };
        assert_eq!(lasting(9_000_000_000, hourly, Mtu::Min60).daily_cost, Some(2_880_000_000));
    }

    #[test]
    fn nobody_is_warned_who_takes_nothing_or_is_paid_for_taking() {
        assert_eq!(lasting(0, Consumption::default(), Mtu::Min15), Lasting::default());
        let nothing = Consumption { import_wh: 0, ..usual() };
        assert_eq!(
            (lasting(0, nothing, Mtu::Min15).days, lasting(0, nothing, Mtu::Min15).is_low),
            (None, false)
        );
        let paid = Consumption { price: -10_000, ..usual() };
        assert!(!lasting(0, paid, Mtu::Min15).is_low);
    }

    #[test]
    fn the_largest_figures_do_not_overflow() {
        let most = Consumption { import_wh: u64::MAX, intervals: 1, price: i64::MAX };
        let least = lasting(i64::MAX, Consumption { intervals: u64::MAX, ..most }, Mtu::Min5);
        assert!(least.is_low, "an absurd consumption empties any account");
    }
}
