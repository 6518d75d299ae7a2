//! Sharing a quantity among claims of one price.

/// Divides `amount` among `claims` pro rata: each gets the floor of its exact share, then one more goes to the largest
/// remainders, ties to the claim with the smaller `tie` (by its place, which must differ between claims). The shares
/// replace the content of `shares`, add up to `amount` and never exceed their claim.
///
/// `amount` must not exceed the sum of the claims, which must fit `u64`; more is given out only up to the claims.
pub(crate) fn pro_rata<Tie: Ord>(
    amount: u64,
    claims: &[u64],
    tie: impl Fn(usize) -> Tie,
    shares: &mut Vec<u64>,
) {
    shares.clear();
    let total = claims.iter().fold(0u64, |sum, claim| sum.saturating_add(*claim));
    if amount >= total {
        shares.extend_from_slice(claims);
        return;
    }
    let mut left = amount;
    let mut remainders: Vec<(u64, Tie, usize)> = Vec::with_capacity(claims.len());
    for (place, &claim) in claims.iter().enumerate() {
        let (floor, remainder) = divide(amount, claim, total);
        shares.push(floor);
        left = left.saturating_sub(floor);
        remainders.push((u64::MAX.saturating_sub(remainder), tie(place), place));
    }
    // Fewer are left than there are claims, since every floor lost less than one.
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    if left == 0 {
        return;
    }
    if left < remainders.len() {
        remainders.select_nth_unstable(left);
    }
    for (_, _, place) in remainders.into_iter().take(left) {
        if let Some(share) = shares.get_mut(place) {
            *share = share.saturating_add(1);
        }
    }
}

/// ⌊amount × claim / total⌋ and its remainder; 64 bits where they suffice, which is nearly always and much faster.
fn divide(amount: u64, claim: u64, total: u64) -> (u64, u64) {
    if let Some(product) = amount.checked_mul(claim) {
        return (product.checked_div(total).unwrap_or(0), product.checked_rem(total).unwrap_or(0));
    }
    // Both fit 64 bits: the claim is part of the total, and a remainder is below it.
    let product = u128::from(amount).saturating_mul(u128::from(claim));
    let narrow = |wide: Option<u128>| wide.and_then(|wide| u64::try_from(wide).ok()).unwrap_or(0);
    (narrow(product.checked_div(u128::from(total))), narrow(product.checked_rem(u128::from(total))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(amount: u64, claims: &[u64]) -> Vec<u64> {
        let mut shares = vec![];
        pro_rata(amount, claims, |place| place, &mut shares);
        shares
    }

    #[test]
    fn remainders_go_to_the_largest_then_to_the_earliest() {
        assert_eq!(shares(100, &[100, 100, 100]), [34, 33, 33]);
        assert_eq!(shares(200, &[100, 100, 100]), [67, 67, 66]);
        assert_eq!(shares(10, &[1, 2, 97]), [0, 0, 10]);
        assert_eq!(shares(3, &[5, 10]), [1, 2]);
        assert_eq!(shares(1, &[0, 7, 7]), [0, 1, 0]);
        assert_eq!(shares(0, &[3, 4]), [0, 0]);
        assert_eq!(shares(9, &[3, 4]), [3, 4]);
        assert_eq!(shares(0, &[]), Vec::<u64>::new());
    }

    proptest! {
        #[test]
        fn shares_are_exact_to_one_and_use_the_amount_up(
            claims in prop::collection::vec(prop_oneof![0u64..50, 0u64..=1 << 58], 1..12),
            part in 0u64..=1000,
        ) {
            let total: u64 = claims.iter().sum();
            let amount = u64::try_from(u128::from(total) * u128::from(part) / 1000).unwrap();
            let shares = shares(amount, &claims);
            prop_assert_eq!(shares.iter().sum::<u64>(), amount);
            for (share, claim) in shares.iter().zip(&claims) {
                prop_assert!(share <= claim);
                let exact = u128::from(amount) * u128::from(*claim);
                let given = u128::from(*share) * u128::from(total.max(1));
                prop_assert!(given.abs_diff(exact) < u128::from(total.max(1)));
            }
        }
    }
}
