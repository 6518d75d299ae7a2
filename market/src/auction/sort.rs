//! Sorting and merging by key, the auction's main cost.
//!
//! Orders' keys are prices of one market: they differ in few bits, so counting by digits beats comparing. Curves are already
//! sorted when they meet: they are merged from both ends at once, without a branch that depends on the data.

use std::hint::select_unpredictable;

/// Something ordered by an integer.
pub(super) trait Keyed: Copy {
    /// Below `i64::MAX`.
    fn key(&self) -> i64;
}

/// Bits of one digit: its counters fit the nearest cache.
const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 1 << DIGIT_BITS;
const DIGIT_MASK: u64 = (1 << DIGIT_BITS) - 1;

/// Keys that differ in more bits than this are compared instead.
const RADIX_BITS_MAX: u32 = 3 * DIGIT_BITS;

/// Below this many items counters cost more than comparing.
const RADIX_ITEMS_MIN: usize = 256;

/// Sorts by key; equal keys keep their order or not. `spare` is as long as `items`; the result is left there if the answer is
/// true.
pub(super) fn sort<'a, Item: Keyed>(mut items: &'a mut [Item], mut spare: &'a mut [Item]) -> bool {
    let keys = items.iter().map(Keyed::key);
    let (least, most) = keys.fold((i64::MAX, i64::MIN), |(least, most), key| (least.min(key), most.max(key)));
    let bits = u64::BITS.saturating_sub(most.abs_diff(least).leading_zeros());
    if items.len() < RADIX_ITEMS_MIN || bits > RADIX_BITS_MAX {
        items.sort_unstable_by_key(Keyed::key);
        return false;
    }
    let digits = bits.div_ceil(DIGIT_BITS);
    for digit in 0..digits {
        let shift = digit.saturating_mul(DIGIT_BITS);
        let digit_of = |item: &Item| (item.key().wrapping_sub(least).cast_unsigned() >> shift) & DIGIT_MASK;
        sort_by_digit(items, spare, |item| usize::try_from(digit_of(item)).unwrap_or(0));
        std::mem::swap(&mut items, &mut spare);
    }
    digits % 2 == 1
}

/// Writes `items` to `sorted` (of the same length) by ascending digit, equal digits in their order.
fn sort_by_digit<Item: Copy>(items: &[Item], sorted: &mut [Item], digit_of: impl Fn(&Item) -> usize) {
    let mut places = [0usize; DIGITS];
    for item in items {
        if let Some(count) = places.get_mut(digit_of(item)) {
            *count = count.wrapping_add(1);
        }
    }
    let mut next = 0usize;
    for place in &mut places {
        (*place, next) = (next, next.wrapping_add(*place));
    }
    for item in items {
        if let Some(place) = places.get_mut(digit_of(item)) {
            if let Some(slot) = sorted.get_mut(*place) {
                *slot = *item;
            }
            *place = place.wrapping_add(1);
        }
    }
}

/// Sorted runs beyond this many are first merged in pairs; fewer, the shortest neighbours first.
const RUNS_MAX: usize = 16;

/// Merges the sorted runs of `items` that begin at `starts` (ascending, the first at 0) into one. `spare` is room to work in, at
/// least as long as `items`.
pub(super) fn merge_runs<Item: Keyed>(items: &mut [Item], starts: &mut Vec<usize>, spare: &mut [Item]) {
    while starts.len() > 1 {
        if starts.len() > RUNS_MAX {
            for pair in (1..starts.len()).step_by(2) {
                merge_at(items, starts, pair, spare);
            }
            let mut place = 0usize..;
            starts.retain(|_| place.next().is_some_and(|place| place % 2 == 0));
        } else {
            let end_of = |run: usize| starts.get(run.saturating_add(1)).copied().unwrap_or(items.len());
            let length = |run: &usize| {
                let before = run.checked_sub(1).and_then(|before| starts.get(before)).copied().unwrap_or(0);
                end_of(*run).saturating_sub(before)
            };
            let shortest = (1..starts.len()).min_by_key(length).unwrap_or(1);
            merge_at(items, starts, shortest, spare);
            starts.remove(shortest);
        }
    }
}

/// Merges run `run` into the one before it.
fn merge_at<Item: Keyed>(items: &mut [Item], starts: &[usize], run: usize, spare: &mut [Item]) {
    let start_of = |run: usize| starts.get(run).copied().unwrap_or(items.len());
    let (start, middle, end) =
        (start_of(run.saturating_sub(1)), start_of(run), start_of(run.saturating_add(1)));
    let Some(both) = items.get_mut(start..end) else { return };
    let Some(merged) = spare.get_mut(..both.len()) else { return };
    let (left, right) = both.split_at(middle.saturating_sub(start));
    match (left.last(), right.first()) {
        (Some(last), Some(first)) if last.key() > first.key() => {}
        _ => return,
    }
    merge(left, right, merged);
    both.copy_from_slice(merged);
}

/// Merges two sorted runs into `merged`, as long as both together. The front half is filled from the runs' beginnings and the
/// back half from their ends: two independent chains of loads instead of one. Of equals the front takes the left first and the
/// back the right, so the halves meet without taking an item twice.
fn merge<Item: Keyed>(mut left: &[Item], mut right: &[Item], mut merged: &mut [Item]) {
    // While both have two items, each gives up at most one at either end, so neither return is ever taken: they stand for
    // bounds that the processor predicts, where a default would make every load wait for its check.
    while let ([l_first, .., l_last], [r_first, .., r_last]) = (left, right) {
        let [front, between @ .., back] = merged else { return };
        let (first_right, last_right) = (r_first.key() < l_first.key(), r_last.key() >= l_last.key());
        *front = *select_unpredictable(first_right, r_first, l_first);
        *back = *select_unpredictable(last_right, r_last, l_last);
        let l_rest = left.get(usize::from(!first_right)..left.len().wrapping_sub(usize::from(!last_right)));
        let r_rest = right.get(usize::from(first_right)..right.len().wrapping_sub(usize::from(last_right)));
        let (Some(l_rest), Some(r_rest)) = (l_rest, r_rest) else { return };
        (left, right) = (l_rest, r_rest);
        merged = between;
    }
    insert(left, right, merged);
}

/// Merges two sorted runs of which one has at most one item.
fn insert<Item: Keyed>(left: &[Item], right: &[Item], merged: &mut [Item]) {
    let (one, many) = if left.len() < 2 { (left, right) } else { (right, left) };
    let place = one.first().map_or(0, |one| many.partition_point(|item| item.key() < one.key()));
    let (before, after) = many.split_at_checked(place).unwrap_or_default();
    merged.iter_mut().zip(before.iter().chain(one).chain(after)).for_each(|(slot, item)| *slot = *item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Keyed for i64 {
        fn key(&self) -> i64 {
            *self
        }
    }

    fn keys() -> impl Strategy<Value = Vec<i64>> {
        let span = prop_oneof![Just(1i64), Just(3), Just(1_000), Just(1 << 20), Just(1 << 33), Just(1 << 61)];
        span.prop_flat_map(|span| prop::collection::vec(-span..span, 0..700))
    }

    proptest! {
        #[test]
        fn sorting_by_digits_is_sorting(mut items in keys()) {
            let mut expected = items.clone();
            expected.sort_unstable();
            let mut spare = items.clone();
            let moved = sort(&mut items, &mut spare);
            prop_assert_eq!(if moved { spare } else { items }, expected);
        }

        #[test]
        fn merging_runs_is_sorting(mut items in keys(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
            let mut expected = items.clone();
            expected.sort_unstable();
            let mut starts: Vec<usize> = cuts.iter().map(|cut| cut.index(items.len() + 1)).collect();
            starts.push(0);
            starts.sort_unstable();
            let mut ends = starts[1..].to_vec();
            ends.push(items.len());
            starts.iter().zip(&ends).for_each(|(start, end)| items[*start..*end].sort_unstable());
            let mut spare = items.clone();
            merge_runs(&mut items, &mut starts, &mut spare);
            prop_assert_eq!(items, expected);
        }
    }
}
