//! The monthly stop-loss of zero: forward trading that costs the household money stops for the rest of the month.

use std::fmt;

use chrono::{DateTime, Datelike, Utc};
use energy::{Money, Price, QuantityError, Timestamp, WattHours};

use crate::forecast::LocalTime;
use crate::home::Prices;

/// A calendar month of local time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    /// The year, e.g. 2026.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl LocalTime {
    /// The local month of an instant.
    #[must_use]
    pub fn month(&self, time: Timestamp) -> Month {
        let east_ms = i64::from(self.east_s(time)) * 1_000;
        let local = i64::try_from(time.unix_ms()).unwrap_or(i64::MAX).saturating_add(east_ms);
        let date = DateTime::<Utc>::from_timestamp_millis(local).unwrap_or_default();
        let month = u8::try_from(date.month()).unwrap_or(1);
        Month { year: u16::try_from(date.year()).unwrap_or_default(), month }
    }
}

/// What forward positions brought this month. All fields are plain: who calls the agent stores them and hands them in again.
///
/// Whenever an interval with a position settles, what the home received for it is compared with what the same metered energy
/// would have brought without the position ([`without_position`]). Once the sum of a month is a loss, no orders follow until the
/// month ends, even if positions that were already taken make up for it: the household was promised that trading costs
/// nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StopLoss {
    /// The month it counts.
    pub month: Month,
    /// What positions brought so far, less what would have come without them.
    pub result: Money,
    /// How many intervals with a position have settled.
    pub positions: u64,
    /// Whether the sum was ever below zero.
    pub stopped: bool,
}

impl StopLoss {
    /// Counts a settled interval of `month` that had a position: what was received for it in all (negative: paid), and what
    /// would have been without the position. An interval of an earlier month that settles late no longer counts.
    ///
    /// # Errors
    /// [`QuantityError`] beyond the range of money; nothing is counted then, and trading stops.
    pub fn settle(&mut self, month: Month, with: Money, without: Money) -> Result<(), QuantityError> {
        if month < self.month {
            return Ok(());
        }
        if month > self.month {
            *self = Self { month, ..Self::default() };
        }
        let sum = with.sub(without).and_then(|gained| self.result.add(gained));
        self.stopped |= !sum.as_ref().is_ok_and(|sum| !sum.is_negative());
        self.result = sum?;
        self.positions = self.positions.saturating_add(1);
        Ok(())
    }

    /// Whether orders may be placed in `month`.
    #[must_use]
    pub fn allows(&self, month: Month) -> bool {
        month > self.month || !self.stopped
    }
}

/// What metered energy would have brought without a position, at an interval's settled prices
/// ([`crate::settled_prices`]); negative: cost. Exact to the n, the fraction below dropped.
///
/// # Errors
/// [`QuantityError`] beyond the range of money.
pub fn without_position(
    import: WattHours,
    export: WattHours,
    prices: &Prices,
) -> Result<Money, QuantityError> {
    // Both are thousandths of n.
    let received = mixed(prices.local_export, prices.supplier_export, prices.export_permille, export)?;
    let paid = mixed(prices.local_import, prices.supplier_import, prices.import_permille, import)?;
    Ok(Money::new(received.sub(paid)?.get().div_euclid(1_000)))
}

/// A thousand times what energy costs of which neighbours serve a share.
fn mixed(
    local: Price,
    supplier: Price,
    local_permille: u32,
    energy: WattHours,
) -> Result<Money, QuantityError> {
    let share = |permille: u32| {
        let parts = u64::from(permille).checked_mul(energy.get());
        parts.map(WattHours::new).ok_or(QuantityError { operation: "share * energy" })
    };
    let local_permille = local_permille.min(1_000);
    local.cost_of(share(local_permille)?)?.add(supplier.cost_of(share(1_000 - local_permille)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JULY: Month = Month { year: 2026, month: 7 };
    const AUGUST: Month = Month { year: 2026, month: 8 };

    fn n(nano: i128) -> Money {
        Money::new(nano)
    }

    fn after(settled: &[(Month, i128, i128)]) -> StopLoss {
        let mut state = StopLoss::default();
        for (month, with, without) in settled {
            state.settle(*month, n(*with), n(*without)).unwrap();
        }
        state
    }

    #[test]
    fn a_month_with_gains_goes_on_and_nothing_gained_is_no_loss() {
        assert!(StopLoss::default().allows(JULY));
        let state = after(&[(JULY, 500, 400), (JULY, -300, -300), (JULY, 0, 90)]);
        assert_eq!((state.result, state.positions, state.stopped), (n(10), 3, false));
        assert!(state.allows(JULY));
    }

    #[test]
    fn a_loss_stops_the_month_for_good_and_the_next_begins_anew() {
        let state = after(&[(JULY, 500, 400), (JULY, 0, 101), (JULY, 1_000, 0)]);
        assert_eq!((state.result, state.stopped), (n(999), true), "made up for, and stopped all the same");
        assert!(!state.allows(JULY) && state.allows(AUGUST));
        let state = after(&[(JULY, 0, 101), (AUGUST, 5, 0)]);
        assert_eq!(state, StopLoss { month: AUGUST, result: n(5), positions: 1, stopped: false });
    }

    #[test]
    fn what_settles_late_for_an_earlier_month_does_not_touch_this_one() {
        let state = after(&[(AUGUST, 5, 0), (JULY, 0, 1_000)]);
        assert_eq!((state.month, state.result), (AUGUST, n(5)));
    }

    #[test]
    fn beyond_the_range_of_money_trading_stops() {
        let mut state = StopLoss::default();
        assert!(state.settle(JULY, n(i128::MAX), n(-1)).is_err());
        assert!(!state.allows(JULY));
    }

    #[test]
    fn the_state_is_plain_fields_that_a_caller_can_store() {
        let state = after(&[(JULY, 0, 101)]);
        let StopLoss { month: Month { year, month }, result, positions, stopped } = state;
        let restored = StopLoss { month: Month { year, month }, result: n(result.get()), positions, stopped };
        assert_eq!(restored, state);
        assert_eq!(JULY.to_string(), "2026-07");
    }

    #[test]
    fn months_are_those_of_local_time() {
        let time = Timestamp::parse("2026-06-30T22:30:00Z").unwrap();
        assert_eq!(LocalTime { east_s: 7_200, change: None }.month(time), JULY);
        let zone = LocalTime { east_s: 3_600, change: Some((time, 7_200)) };
        assert_eq!((zone.month(time).month, zone.month(time.minus_ms(1)).month), (7, 6));
    }

    #[test]
    fn without_a_position_energy_costs_what_neighbours_and_supplier_would_have_charged() {
        let price = Price::new;
        let prices = Prices {
            supplier_import: price(300_000),
            supplier_export: price(80_000),
            local_import: price(175_000),
            local_export: price(165_000),
            import_permille: 250,
            export_permille: 1_000,
        };
        let (none, kwh) = (WattHours::ZERO, WattHours::new(1_000));
        assert_eq!(without_position(kwh, none, &prices), Ok(n(-268_750_000)));
        assert_eq!(without_position(none, kwh, &prices), Ok(n(165_000_000)));
        let odd = Prices { import_permille: 333, ..prices };
        // 999 Wh × (0.333 × 175 000 + 0.667 × 300 000) µ = 258 116 625 n exactly.
        assert_eq!(without_position(WattHours::new(999), none, &odd), Ok(n(-258_116_625)));
        assert!(without_position(WattHours::new(u64::MAX), none, &prices).is_err());
    }
}
