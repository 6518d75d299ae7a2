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
    largest_remainder(amount, claims, total, tie, shares);
}

/// Divides `amount` by `weights`, exact to one unit like [`pro_rata`], but however large the amount is: a weight is no
/// limit. Nothing is given where all weights are zero.
pub(crate) fn by_weight<Tie: Ord>(
    amount: u64,
    weights: &[u64],
    tie: impl Fn(usize) -> Tie,
    shares: &mut Vec<u64>,
) {
    shares.clear();
    let total = weights.iter().fold(0u64, |sum, weight| sum.saturating_add(*weight));
    if total == 0 {
        shares.resize(weights.len(), 0);
        return;
    }
    largest_remainder(amount, weights, total, tie, shares);
}

/// Divides an amount of money by `weights`, exact to the n: floors, then the largest remainders, ties to the smaller
/// `tie`. All zero where all weights are zero.
pub(crate) fn divide_money<Tie: Ord>(amount: u128, weights: &[u64], tie: impl Fn(usize) -> Tie) -> Vec<u128> {
    let total = weights.iter().fold(0u64, |sum, weight| sum.saturating_add(*weight));
    // amount = whole × total + rest, and only the rest leaves remainders: no product needs more than 128 bits.
    let whole = amount.checked_div(u128::from(total)).unwrap_or(0);
    let rest = amount.checked_rem(u128::from(total)).and_then(|rest| u64::try_from(rest).ok()).unwrap_or(0);
    let mut shares = vec![];
    by_weight(rest, weights, tie, &mut shares);
    let share =
        |(weight, share): (&u64, u64)| whole.saturating_mul(u128::from(*weight)).saturating_add(share.into());
    weights.iter().zip(shares).map(share).collect()
}

/// One that takes part in [`fill_up`].
#[derive(Clone, Copy)]
pub(crate) struct Need {
    /// Its part of the amount, relative to the others' weights.
    pub(crate) weight: u64,
    /// The most it takes.
    pub(crate) cap: u64,
}

/// Divides `amount` by weight, where nobody gets more than its cap and what a capped one leaves is passed on to the others,
/// by weight again, until nothing moves. The end of that repetition is found at once: everyone gets its cap or one common
/// multiple of its weight, so those with the least cap per weight are served first. Rounded once, by [`by_weight`]; what
/// nobody with a weight can take is not given.
pub(crate) fn fill_up<Tie: Ord>(amount: u64, needs: &[Need], tie: impl Fn(usize) -> Tie) -> Vec<u64> {
    let mut given = vec![0; needs.len()];
    let mut open: Vec<(usize, Need)> =
        needs.iter().copied().enumerate().filter(|it| it.1.weight > 0).collect();
    let product = |a: u64, b: u64| u128::from(a).saturating_mul(u128::from(b));
    open.sort_unstable_by(|(_, a), (_, b)| product(a.cap, b.weight).cmp(&product(b.cap, a.weight)));
    let mut weights = open.iter().fold(0u64, |sum, (_, need)| sum.saturating_add(need.weight));
    let (mut left, mut capped) = (amount, 0usize);
    for (place, need) in &open {
        if product(need.cap, weights) > product(left, need.weight) {
            break;
        }
        give(&mut given, *place, need.cap);
        left = left.saturating_sub(need.cap);
        weights = weights.saturating_sub(need.weight);
        capped = capped.saturating_add(1);
    }
    // The others' exact shares are below their caps, so that one more never exceeds them.
    let open = open.get(capped..).unwrap_or_default();
    let weights: Vec<u64> = open.iter().map(|(_, need)| need.weight).collect();
    let mut shares = vec![];
    by_weight(left, &weights, |at| open.get(at).map(|(place, _)| tie(*place)), &mut shares);
    open.iter().zip(shares).for_each(|((place, _), share)| give(&mut given, *place, share));
    given
}

fn give(given: &mut [u64], place: usize, share: u64) {
    if let Some(slot) = given.get_mut(place) {
        *slot = share;
    }
}

/// The floors of the exact shares, then one more to each of the largest remainders. `weights` add up to `total`, not zero.
fn largest_remainder<Tie: Ord>(
    amount: u64,
    weights: &[u64],
    total: u64,
    tie: impl Fn(usize) -> Tie,
    shares: &mut Vec<u64>,
) {
    let mut left = amount;
    let mut remainders: Vec<(u64, Tie, usize)> = Vec::with_capacity(weights.len());
    for (place, &weight) in weights.iter().enumerate() {
        let (floor, remainder) = divide(amount, weight, total);
        shares.push(floor);
        left = left.saturating_sub(floor);
        remainders.push((u64::MAX.saturating_sub(remainder), tie(place), place));
    }
    // Fewer are left than there are weights, since every floor lost less than one.
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
    // Both fit 64 bits: the claim is part of the total, so its share is part of the amount; a remainder is below the total.
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

    #[test]
    fn a_weight_is_no_limit() {
        let mut shares = vec![];
        by_weight(10, &[1, 2, 0], |place| place, &mut shares);
        assert_eq!(shares, [3, 7, 0]);
        by_weight(10, &[0, 0], |place| place, &mut shares);
        assert_eq!(shares, [0, 0]);
        assert_eq!(divide_money(10, &[], |place| place), Vec::<u128>::new());
        assert_eq!(divide_money(7, &[0, 0], |place| place), [0, 0]);
        assert_eq!(divide_money(1 << 100, &[1 << 59, 1 << 59], |place| place), [1 << 99, 1 << 99]);
    }

    #[test]
    fn what_a_capped_one_leaves_is_passed_on_until_nothing_moves() {
        let fill = |amount, needs: &[(u64, u64)]| {
            let needs: Vec<Need> = needs.iter().map(|&(weight, cap)| Need { weight, cap }).collect();
            fill_up(amount, &needs, |place| place)
        };
        // 60 and 40 are offered; 20 stay over and go to the second and third by 3 : 1.
        assert_eq!(fill(100, &[(60, 40), (30, 99), (10, 99)]), [40, 45, 15]);
        // What the second leaves of that goes on to the third.
        assert_eq!(fill(100, &[(60, 40), (30, 35), (10, 99)]), [40, 35, 25]);
        assert_eq!(fill(100, &[(60, 40), (30, 35), (10, 9)]), [40, 35, 9]);
        assert_eq!(fill(100, &[(1, 40), (0, 35)]), [40, 0]);
        assert_eq!(fill(5, &[(1, 9), (1, 9)]), [3, 2]);
        assert_eq!(fill(0, &[(1, 9), (1, 0)]), [0, 0]);
        assert_eq!(fill(7, &[]), Vec::<u64>::new());
    }

    proptest! {
        #[test]
        fn filling_up_gives_everyone_its_cap_or_the_same_multiple_of_its_weight(
            needs in prop::collection::vec((prop_oneof![0u64..5, 0u64..=1 << 56], prop_oneof![0u64..50, 0u64..=1 << 56]), 1..12),
            amount in prop_oneof![0u64..200, 0u64..=1 << 58],
        ) {
            let needs: Vec<Need> = needs.into_iter().map(|(weight, cap)| Need { weight, cap }).collect();
            let given = fill_up(amount, &needs, |place| place);
            let taken: u64 = needs.iter().filter(|need| need.weight > 0).map(|need| need.cap).sum();
            prop_assert_eq!(given.iter().sum::<u64>(), amount.min(taken));
            for (need, share) in needs.iter().zip(&given) {
                prop_assert!(*share <= need.cap && (need.weight > 0 || *share == 0));
            }
            // Whoever is below its cap has at least as much per weight as anybody else, to one unit on either side.
            for (low, few) in needs.iter().zip(&given).filter(|(need, share)| need.weight > 0 && **share < need.cap) {
                for (high, many) in needs.iter().zip(&given) {
                    let few = u128::from(*few + 1) * u128::from(high.weight);
                    prop_assert!(u128::from(many.saturating_sub(1)) * u128::from(low.weight) <= few);
                }
            }
        }

        #[test]
        fn divided_money_is_exact_to_the_nano(
            weights in prop::collection::vec(prop_oneof![0u64..50, 0u64..=1 << 58], 1..12),
            amount in prop_oneof![0u128..1000, 0u128..=1 << 100],
        ) {
            let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            let shares = divide_money(amount, &weights, |place| place);
            prop_assert_eq!(shares.iter().sum::<u128>(), if total == 0 { 0 } else { amount });
            for (share, weight) in shares.iter().zip(&weights).filter(|_| total > 0) {
                let rest = (amount % total) * u128::from(*weight);
                let floor = (amount / total) * u128::from(*weight) + rest / total;
                prop_assert!(*share == floor || (*share == floor + 1 && !rest.is_multiple_of(total)));
            }
        }

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
