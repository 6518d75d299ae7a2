//! The few statistics the checks need, and the one way from floating point to a published figure.

/// A figure as it is published: rounded, cut at ±1 000 000; 0 for what is no number.
#[expect(clippy::cast_possible_truncation, reason = "cut to a range that every i32 holds")]
pub(super) fn figure(value: f64) -> i32 {
    if value.is_nan() { 0 } else { value.round().clamp(-1e6, 1e6) as i32 }
}

/// The middle value, the mean of the two middle ones of an even number; `None` of none.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

/// Pearson's correlation of pairs; `None` of fewer than two, or where one side never moves.
pub(super) fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let count = pairs.len() as f64;
    let mean_x = pairs.iter().map(|pair| pair.0).sum::<f64>() / count;
    let mean_y = pairs.iter().map(|pair| pair.1).sum::<f64>() / count;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (x, y) = (x - mean_x, y - mean_y);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    // Relative to the size of the values, so that rounding of a constant is not taken for movement.
    let still = |spread: f64, mean: f64| spread <= 1e-12 * count * (mean * mean + 1e-6);
    (pairs.len() > 1 && !still(xx, mean_x) && !still(yy, mean_y)).then(|| xy / (xx * yy).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_and_never_out_of_range() {
        assert_eq!((figure(1.5), figure(-1.4)), (2, -1));
        assert_eq!((figure(f64::INFINITY), figure(f64::NAN), figure(-1e300)), (1_000_000, 0, -1_000_000));
    }

    #[test]
    fn the_median_ignores_outliers_and_order() {
        assert_eq!(median(&mut [9.0, 1.0, 1e9]), Some(9.0));
        assert_eq!(median(&mut [4.0, 2.0]), Some(3.0));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn correlation_is_that_of_the_textbook() {
        // Anscombe's first quartet (1973): r = 0.816.
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let pairs: Vec<_> = x.into_iter().zip(y).collect();
        assert!((correlation(&pairs).unwrap() - 0.816_42).abs() < 1e-4);
        assert_eq!(correlation(&[(1.0, 2.0), (1.0, 3.0)]), None, "a side that never moves");
        assert_eq!(correlation(&[(1.0, 2.0)]), None);
        assert_eq!(correlation(&[]), None);
    }
}
