//! Congestion rent is the members' money: once a year it goes back to them, pro rata to what they metered.

use std::cmp::Reverse;

use energy::{HomeId, Interval, Money};
use market::{Account, PostingKind};

use crate::apply::Step;
use crate::error::EntryError;

impl Step {
    /// As the first interval of a UTC year settles: pays what stands on the congestion account to all who metered energy since
    /// the last return, also those who left meanwhile, pro rata to import and export together. Never to whoever sets limits.
    pub(crate) fn return_rent(&mut self, interval: Interval) -> Result<(), EntryError> {
        let year = |interval: Interval| interval.start().year();
        let begins = interval.previous().is_none_or(|before| year(before) != year(interval));
        let rent = self.state.balance(&Account::Congestion).get();
        let Some(rent) = u64::try_from(rent).ok().filter(|rent| begins && *rent > 0) else { return Ok(()) };
        let metered: Vec<(HomeId, u64)> = {
            let members = self.state.members.sorted().into_iter();
            members.map(|(home, member)| (home.clone(), member.totals.since_return())).collect()
        };
        // Nothing metered: it stays for the next year.
        let Some(shares) = divide(rent, &metered) else { return Ok(()) };
        self.post(Some(interval), Account::Congestion, PostingKind::Rent, Money::new(rent.into()).neg()?)?;
        for ((home, metered), share) in metered.into_iter().zip(shares) {
            self.post(
                Some(interval),
                Account::Home(home.clone()),
                PostingKind::Rent,
                Money::new(share.into()),
            )?;
            if let Some(member) = self.state.members.get_mut(&home) {
                member.totals.returned = member.totals.returned.saturating_add(metered);
            }
        }
        Ok(())
    }
}

/// Divides `amount` pro rata: the floor of each exact share, then 1 n more to the largest remainders, ties to the earlier home.
/// `None` where there is nothing to divide by.
fn divide(amount: u64, parts: &[(HomeId, u64)]) -> Option<Vec<u64>> {
    let total: u128 = parts.iter().map(|(_, part)| u128::from(*part)).sum();
    if total == 0 {
        return None;
    }
    let exact = |part: u64| {
        // 64 bits times 64 bits fit, and a share is no more than the amount.
        let product = u128::from(amount).saturating_mul(u128::from(part));
        Some((u64::try_from(product.checked_div(total)?).ok()?, product.checked_rem(total)?))
    };
    let exact: Vec<(u64, u128)> = parts.iter().map(|(_, part)| exact(*part)).collect::<Option<_>>()?;
    let mut shares: Vec<u64> = exact.iter().map(|(floor, _)| *floor).collect();
    let left = shares.iter().fold(amount, |left, share| left.saturating_sub(*share));
    let mut places: Vec<usize> = (0..shares.len()).collect();
    places.sort_by_key(|place| Reverse(exact.get(*place).map(|(_, remainder)| *remainder)));
    for place in places.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        if let Some(share) = shares.get_mut(place) {
            *share = share.saturating_add(1);
        }
    }
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(parts: &[u64]) -> Vec<(HomeId, u64)> {
        (1..).zip(parts).map(|(number, part)| (HomeId::new(&format!("h{number}")).unwrap(), *part)).collect()
    }

    #[test]
    fn a_division_is_exact_and_what_is_left_goes_to_the_largest_remainders_first() {
        assert_eq!(divide(10, &parts(&[1, 1, 1])), Some(vec![4, 3, 3]), "ties to the earlier home");
        assert_eq!(divide(10, &parts(&[1, 2, 4])), Some(vec![1, 3, 6]), "1.43, 2.86, 5.71");
        assert_eq!(divide(1, &parts(&[0, 0, 5])), Some(vec![0, 0, 1]));
        assert_eq!(divide(7, &parts(&[0, 0])), None);
        assert_eq!(divide(7, &parts(&[])), None);
        let all = divide(u64::MAX, &parts(&[u64::MAX, u64::MAX, 1])).unwrap();
        assert_eq!(all.iter().map(|share| u128::from(*share)).sum::<u128>(), u128::from(u64::MAX));
    }
}
