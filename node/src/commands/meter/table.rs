//! Columns for people.

/// `rows` under `head`, each column as wide as its widest cell, the last one as it is.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let head = head.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

/// Whole watt-hours as kWh with three decimals.
pub(super) fn kwh(wh: u64) -> String {
    format!("{}.{:03}", wh / 1000, wh % 1000)
}

/// Thousandths of a unit with `decimals` (0 to 3) of them shown, rounded half away from zero.
pub(super) fn thousandths(value: i64, decimals: u32) -> String {
    let step = 10u64.pow(3 - decimals.min(3));
    let rounded = (value.unsigned_abs() + step / 2) / step;
    let (one, sign) = (1000 / step, if value < 0 && rounded > 0 { "-" } else { "" });
    match usize::try_from(decimals) {
        Ok(decimals @ 1..) => format!("{sign}{}.{:0decimals$}", rounded / one, rounded % one),
        _ => format!("{sign}{rounded}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_figures_are_exact() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), "2".to_owned()]];
        assert_eq!(table(["name", "n"], &rows), ["name  n", "a     1", "long  2"]);
        assert_eq!(kwh(12_345_007), "12345.007");
        assert_eq!(
            [thousandths(230_149, 1), thousandths(-1_550, 1), thousandths(-4, 2)],
            ["230.1", "-1.6", "0.00"]
        );
        assert_eq!([thousandths(49_980, 2), thousandths(1_500, 0)], ["49.98", "2"]);
    }
}
