//! Small dense linear algebra: just enough for one least-squares fit.

/// A square matrix, row by row.
pub(super) type Square = Vec<Vec<f64>>;

/// Sum of the outer products of all rows: the normal equations' matrix of a least-squares fit.
pub(super) fn gram(rows: &[Vec<f64>]) -> Square {
    let size = rows.first().map_or(0, Vec::len);
    let mut sum = vec![vec![0.0; size]; size];
    for row in rows {
        for (at, &value) in row.iter().enumerate() {
            // Exports are 0 half of the time, and many homes have none.
            if value != 0.0 {
                sum[at].iter_mut().zip(row).take(at + 1).for_each(|(sum, other)| *sum += value * other);
            }
        }
    }
    let lower = sum.clone();
    for (at, row) in lower.iter().enumerate() {
        for (above, &value) in sum.iter_mut().zip(row).take(at) {
            above[at] = value;
        }
    }
    sum
}

/// Inverse of a symmetric positive definite matrix by Cholesky's decomposition; `None` where it is not one.
pub(super) fn inverse(matrix: &Square) -> Option<Square> {
    let root_inverse = invert_lower(&cholesky(matrix)?);
    let size = matrix.len();
    let mut result = vec![vec![0.0; size]; size];
    // (L Lᵀ)⁻¹ = L⁻ᵀ L⁻¹: the sum of the outer products of the rows of L⁻¹.
    for row in &root_inverse {
        for (at, &value) in row.iter().enumerate() {
            result[at].iter_mut().zip(row).for_each(|(sum, other)| *sum += value * other);
        }
    }
    Some(result)
}

/// L with matrix = L Lᵀ, rows cut at the diagonal.
fn cholesky(matrix: &Square) -> Option<Square> {
    let mut lower: Square = Vec::with_capacity(matrix.len());
    for (at, given) in matrix.iter().enumerate() {
        let mut row: Vec<f64> = Vec::with_capacity(at + 1);
        for other in 0..at {
            let known = dot(&row, &lower[other][..other]);
            row.push((given[other] - known) / lower[other][other]);
        }
        let left = given[at] - dot(&row, &row);
        if left.is_nan() || left <= given[at].abs() * 1e-13 {
            return None;
        }
        row.push(left.sqrt());
        lower.push(row);
    }
    Some(lower)
}

/// Inverse of a lower triangular matrix, rows cut at the diagonal.
fn invert_lower(lower: &Square) -> Square {
    let mut result: Square = Vec::with_capacity(lower.len());
    for (at, row) in lower.iter().enumerate() {
        let mut next = vec![0.0; at + 1];
        for (factor, known) in row.iter().zip(&result) {
            next.iter_mut().zip(known).for_each(|(sum, value)| *sum -= factor * value);
        }
        next.iter_mut().for_each(|value| *value /= row[at]);
        next[at] = 1.0 / row[at];
        result.push(next);
    }
    result
}

/// Inner product, as long as the shorter.
pub(super) fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_matrix_that_is_not_positive_definite_has_no_inverse_here() {
        assert_eq!(inverse(&vec![vec![1.0, 1.0], vec![1.0, 1.0]]), None, "two equal columns");
        assert_eq!(inverse(&vec![vec![0.0]]), None);
        assert_eq!(inverse(&vec![vec![f64::NAN]]), None);
        assert_eq!(inverse(&Vec::new()), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn a_matrix_times_its_inverse_is_one(
            rows in prop::collection::vec(prop::collection::vec(-9.0f64..9.0, 5), 6..20),
        ) {
            let mut matrix = gram(&rows);
            (0..5).for_each(|at| matrix[at][at] += 0.5);
            let inverse = inverse(&matrix).unwrap();
            for (at, row) in matrix.iter().enumerate() {
                for (other, column) in inverse.iter().enumerate() {
                    let product = dot(row, column);
                    let one = f64::from(u8::from(at == other));
                    prop_assert!((product - one).abs() < 1e-6, "{} at {}, {}", product, at, other);
                }
            }
        }
    }
}
