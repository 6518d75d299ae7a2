//! Figures of a bill as people read them: exact, with as many digits as there are.

use super::items::Nano;

/// The fewest digits behind the point of an amount.
const PLACES_MIN: usize = 2;
/// n are the ninth digit.
const NANO_PLACES: usize = 9;

/// How many digits behind the point show every one of `amounts` (n) exactly.
#[must_use]
pub fn places(amounts: impl Iterator<Item = Nano>) -> usize {
    let needed = |amount: Nano| {
        let digits = format!("{:09}", amount.unsigned_abs() % 1_000_000_000);
        digits.trim_end_matches('0').len()
    };
    amounts.map(needed).max().unwrap_or(0).max(PLACES_MIN)
}

/// An amount in n with `places` digits behind the point, cut after them: `−1,234.50`.
#[must_use]
pub fn amount(amount: Nano, places: usize) -> String {
    let unit = 1_000_000_000;
    let fraction = format!("{:09}", amount.unsigned_abs() % unit);
    let shown = fraction.get(..places.min(NANO_PLACES)).unwrap_or(&fraction);
    let point = if shown.is_empty() { "" } else { "." };
    format!("{}{}{point}{shown}", sign(amount < 0), grouped(amount.unsigned_abs() / unit))
}

/// An amount in n with all its digits, at least two.
#[must_use]
pub fn exact(n: Nano) -> String {
    amount(n, places(std::iter::once(n)))
}

/// Energy in Wh as kWh: `1,234.567`.
#[must_use]
pub fn kwh(wh: i64) -> String {
    let wh_abs = wh.unsigned_abs();
    format!("{}{}.{:03}", sign(wh < 0), grouped((wh_abs / 1_000).into()), wh_abs % 1_000)
}

/// A price in µ/kWh per kWh: `0.165`.
#[must_use]
pub fn price(micro: i64) -> String {
    exact(Nano::from(micro) * 1_000)
}

/// The sign people write before an amount; the code where there is none.
#[must_use]
pub fn symbol(currency: &str) -> &str {
    match currency {
        "CNY" | "JPY" => "¥",
        "EUR" => "€",
        "GBP" => "£",
        "USD" => "$",
        other => other,
    }
}

/// How many columns of a terminal a text takes: East Asian wide characters take two (Unicode, UAX #11).
#[must_use]
pub fn width(text: &str) -> usize {
    let wide = |char: char| {
        matches!(char, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}')
    };
    text.chars().map(|char| if wide(char) { 2 } else { 1 }).sum()
}

/// `text` with spaces behind it up to `columns`.
#[must_use]
pub fn left(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `text` with spaces before it up to `columns`.
#[must_use]
pub fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

const fn sign(is_negative: bool) -> &'static str {
    if is_negative { "−" } else { "" }
}

/// Digits in groups of three.
fn grouped(value: u128) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_shows_every_digit_it_has() {
        assert_eq!(exact(1_234_567_890_123), "1,234.567890123");
        assert_eq!(exact(-50_000_000), "−0.05");
        assert_eq!(exact(0), "0.00");
        assert_eq!(amount(12_300_000_000, 4), "12.3000");
        assert_eq!(amount(12_000_000_000, 0), "12");
        assert_eq!(places([1_500_000_000, 1_230_000].into_iter()), 5);
    }

    #[test]
    fn energy_and_prices_are_exact_too() {
        assert_eq!(kwh(1_234_567), "1,234.567");
        assert_eq!(kwh(-7), "−0.007");
        assert_eq!(
            (price(165_000), price(-80_000), price(1)),
            ("0.165".into(), "−0.08".into(), "0.000001".into())
        );
    }

    #[test]
    fn columns_stand_under_one_another_in_chinese_too() {
        assert_eq!(width("电费 bill"), 9);
        assert_eq!(width(&left("电费", 10)), width(&left("bill", 10)));
        assert_eq!(right("−1.00", 8), "   −1.00");
    }
}
