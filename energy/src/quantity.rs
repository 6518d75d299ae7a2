//! Energy, price and money.

use std::fmt;
use std::iter::Sum;

/// An operation on quantities left the range of its type. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{operation} leaves the range of its type")]
pub struct QuantityError {
    /// The operation that overflowed, e.g. `price * energy`.
    pub operation: &'static str,
}

const fn overflow(operation: &'static str) -> QuantityError {
    QuantityError { operation }
}

/// Energy in whole watt-hours (Wh), never negative. Its direction is the field it sits in, not a sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WattHours(u64);

#[expect(clippy::should_implement_trait, reason = "the operators cannot say that a sum may not exist")]
impl WattHours {
    /// No energy.
    pub const ZERO: Self = Self(0);

    /// `wh` watt-hours.
    #[must_use]
    pub const fn new(wh: u64) -> Self {
        Self(wh)
    }

    /// The number of watt-hours.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// True for 0 Wh.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Sum.
    ///
    /// # Errors
    /// [`QuantityError`] above `u64::MAX` Wh.
    pub fn add(self, other: Self) -> Result<Self, QuantityError> {
        self.0.checked_add(other.0).map(Self).ok_or(overflow("energy + energy"))
    }

    /// Difference of two amounts of the same direction, e.g. of two states of one register.
    ///
    /// # Errors
    /// [`QuantityError`] if `other` is larger: a register that fell is never clamped to zero.
    pub fn sub(self, other: Self) -> Result<Self, QuantityError> {
        self.0.checked_sub(other.0).map(Self).ok_or(overflow("energy - energy"))
    }

    /// Difference, or 0 Wh where `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Signed difference `self - other` in Wh.
    ///
    /// # Errors
    /// [`QuantityError`] if it does not fit an `i64`.
    pub fn signed_sub(self, other: Self) -> Result<i64, QuantityError> {
        let wide = i128::from(self.0).checked_sub(i128::from(other.0)).ok_or(overflow("energy - energy"))?;
        i64::try_from(wide).map_err(|_| overflow("energy - energy"))
    }

    /// This energy divided over `parts` consecutive intervals: equal shares, odd watt-hours to the earliest.
    /// `position` counts from 0 (the earliest). The shares of all positions add up to `self` exactly.
    #[must_use]
    pub const fn share(self, parts: u64, position: u64) -> Self {
        match (self.0.checked_div(parts), self.0.checked_rem(parts)) {
            (Some(each), Some(odd)) => Self(each.saturating_add((position < odd) as u64)),
            _ => Self(0),
        }
    }
}

impl fmt::Display for WattHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Wh", self.0)
    }
}

/// Price in µ per kWh: millionths of the settlement currency per kilowatt-hour (1 CNY/kWh = 1 000 000). May be
/// negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

#[expect(clippy::should_implement_trait, reason = "the operators cannot say that a sum may not exist")]
impl Price {
    /// Free of charge.
    pub const ZERO: Self = Self(0);

    /// `micro` µ/kWh.
    #[must_use]
    pub const fn new(micro: i64) -> Self {
        Self(micro)
    }

    /// The number of µ/kWh.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Sum, e.g. a price plus a network fee.
    ///
    /// # Errors
    /// [`QuantityError`] outside `i64`.
    pub fn add(self, other: Self) -> Result<Self, QuantityError> {
        self.0.checked_add(other.0).map(Self).ok_or(overflow("price + price"))
    }

    /// Difference, e.g. a price less a network fee.
    ///
    /// # Errors
    /// [`QuantityError`] outside `i64`.
    pub fn sub(self, other: Self) -> Result<Self, QuantityError> {
        self.0.checked_sub(other.0).map(Self).ok_or(overflow("price - price"))
    }

    /// What `energy` costs at this price: µ/kWh × Wh = n exactly, never rounded.
    ///
    /// # Errors
    /// [`QuantityError`] if the product leaves `i128`.
    pub fn cost_of(self, energy: WattHours) -> Result<Money, QuantityError> {
        i128::from(self.0).checked_mul(i128::from(energy.0)).map(Money).ok_or(overflow("price * energy"))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} µ/kWh", self.0)
    }
}

/// ⌊(a + b) / 2⌋, floored toward minus infinity; cannot overflow.
#[must_use]
pub fn midpoint_floor(a: Price, b: Price) -> Price {
    // The mean of two i64 always fits an i64; the shift floors, also below zero.
    let sum = i128::from(a.0).saturating_add(i128::from(b.0));
    Price(i64::try_from(sum >> 1).unwrap_or(i64::MAX))
}

/// An amount of money in n: 10⁻⁹ of the settlement currency, signed; wide enough for any sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i128);

#[expect(clippy::should_implement_trait, reason = "the operators cannot say that a sum may not exist")]
impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `nano` n.
    #[must_use]
    pub const fn new(nano: i128) -> Self {
        Self(nano)
    }

    /// The number of n.
    #[must_use]
    pub const fn get(self) -> i128 {
        self.0
    }

    /// Sum.
    ///
    /// # Errors
    /// [`QuantityError`] outside `i128`.
    pub fn add(self, other: Self) -> Result<Self, QuantityError> {
        self.0.checked_add(other.0).map(Self).ok_or(overflow("money + money"))
    }

    /// Difference.
    ///
    /// # Errors
    /// [`QuantityError`] outside `i128`.
    pub fn sub(self, other: Self) -> Result<Self, QuantityError> {
        self.0.checked_sub(other.0).map(Self).ok_or(overflow("money - money"))
    }

    /// The same amount with the other sign.
    ///
    /// # Errors
    /// [`QuantityError`] for the one value without an opposite.
    pub fn neg(self) -> Result<Self, QuantityError> {
        self.0.checked_neg().map(Self).ok_or(overflow("- money"))
    }

    /// True below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Sum of many amounts.
    ///
    /// # Errors
    /// [`QuantityError`] outside `i128`.
    pub fn sum<I: IntoIterator<Item = Self>>(amounts: I) -> Result<Self, QuantityError> {
        amounts.into_iter().try_fold(Self::ZERO, Self::add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} n", self.0)
    }
}

/// What stands on one account, in n; fits 64 bits (±9.2 billion of the currency) and is stored so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Balance(i64);

impl Balance {
    /// An empty account.
    pub const ZERO: Self = Self(0);

    /// A balance of `nano` n.
    #[must_use]
    pub const fn new(nano: i64) -> Self {
        Self(nano)
    }

    /// The number of n.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The balance after `amount` is credited (or debited, if negative).
    ///
    /// # Errors
    /// [`QuantityError`] outside `i64`.
    pub fn credit(self, amount: Money) -> Result<Self, QuantityError> {
        i128::from(self.0)
            .checked_add(amount.0)
            .and_then(|sum| i64::try_from(sum).ok())
            .map(Self)
            .ok_or(overflow("balance + money"))
    }

    /// As an amount that can be summed.
    #[must_use]
    pub const fn as_money(self) -> Money {
        Money(self.0 as i128)
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} n", self.0)
    }
}

impl Sum<Balance> for Money {
    /// Cannot overflow: more than 2⁶³ balances would be needed.
    fn sum<I: Iterator<Item = Balance>>(balances: I) -> Self {
        balances.fold(Self::ZERO, |sum, balance| Self(sum.0.saturating_add(i128::from(balance.0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_price_times_an_energy_is_exact_in_nano_units() {
        // 0.25 CNY/kWh for 1 Wh is 0.000 25 CNY = 250 000 n.
        assert_eq!(Price::new(250_000).cost_of(WattHours::new(1)), Ok(Money::new(250_000)));
        assert_eq!(Price::new(-3).cost_of(WattHours::new(7)), Ok(Money::new(-21)));
    }

    #[test]
    fn energy_never_goes_below_zero() {
        assert_eq!(
            WattHours::new(1).sub(WattHours::new(2)),
            Err(QuantityError { operation: "energy - energy" })
        );
    }

    #[test]
    fn the_midpoint_floors_below_zero_too() {
        assert_eq!(midpoint_floor(Price::new(-3), Price::new(0)), Price::new(-2));
        assert_eq!(midpoint_floor(Price::new(3), Price::new(0)), Price::new(1));
        assert_eq!(midpoint_floor(Price::new(i64::MAX), Price::new(i64::MAX)), Price::new(i64::MAX));
    }

    proptest! {
        #[test]
        fn shares_of_a_lump_add_up_and_odd_watt_hours_come_first(wh in 0u64..1_000_000, parts in 1u64..200) {
            let shares: Vec<u64> = (0..parts).map(|i| WattHours::new(wh).share(parts, i).get()).collect();
            prop_assert_eq!(shares.iter().sum::<u64>(), wh);
            prop_assert!(shares.windows(2).all(|pair| pair[0] >= pair[1] && pair[0] - pair[1] <= 1));
        }

        #[test]
        fn no_product_of_a_price_and_an_energy_overflows(price: i64, wh: u64) {
            prop_assert_eq!(
                Price::new(price).cost_of(WattHours::new(wh)).unwrap().get(),
                i128::from(price) * i128::from(wh)
            );
        }
    }
}
