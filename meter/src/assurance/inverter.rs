//! Inverter against PV meter: two devices that counted the same energy.
//!
//! Both stand in one house and are read by one node, so this binds a fault (a meter behind the wrong wire, a wrong
//! transformer ratio, a wrong scale), and a forger only as far as he forgets one of the two.

use super::Finding;
use super::statistics::{figure, median};

/// Days needed for any word.
const DAYS_MIN: usize = 3;
/// How far apart the two may be: ‰ of the meter.
const TOLERANCE_PERMILLE: u32 = 30;
/// Days outside the tolerance contradict only if they are more than this share: a single odd day does not, …
const OUTSIDE_SHARE: usize = 10;

/// One finding of the ratios of the window's days.
pub(super) fn check(permille: &[u32]) -> Finding {
    if permille.is_empty() {
        return Finding::NotApplicable;
    }
    if permille.len() < DAYS_MIN {
        return Finding::Unknown;
    }
    let outside: Vec<u32> =
        permille.iter().copied().filter(|ratio| ratio.abs_diff(1000) > TOLERANCE_PERMILLE).collect();
    if outside.len() >= DAYS_MIN && outside.len() * OUTSIDE_SHARE > permille.len() {
        return Finding::Contradicts { figure: middle(&outside) };
    }
    // … nor does it prove the rest: many such days within few leave the question open.
    if outside.len() * OUTSIDE_SHARE > permille.len() {
        return Finding::Unknown;
    }
    Finding::Consistent { figure: middle(permille) }
}

fn middle(permille: &[u32]) -> i32 {
    let mut values: Vec<f64> = permille.iter().map(|&ratio| f64::from(ratio)).collect();
    figure(median(&mut values).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_percent_apart_is_one_device_and_more_is_two() {
        assert_eq!(check(&[970, 1000, 1030]), Finding::Consistent { figure: 1000 });
        assert_eq!(check(&[969; 3]), Finding::Contradicts { figure: 969 });
        assert_eq!(check(&[1031; 30]), Finding::Contradicts { figure: 1031 });
    }

    #[test]
    fn few_days_say_nothing_and_one_odd_day_accuses_nobody() {
        assert_eq!(check(&[]), Finding::NotApplicable);
        assert_eq!(check(&[1500, 1500]), Finding::Unknown);
        assert_eq!(check(&[1000, 1001, 1500]), Finding::Unknown);
        let mut month = vec![1004; 29];
        month.push(0);
        assert_eq!(check(&month), Finding::Consistent { figure: 1004 });
    }

    #[test]
    fn a_mismatch_that_begins_within_the_month_is_found() {
        let mut month = vec![1000; 26];
        month.extend([1100; 4]);
        assert_eq!(check(&month), Finding::Contradicts { figure: 1100 });
    }
}
