//! Figures as people read them. Exact where a sum is shown, rounded half away from zero where a sentence is.

use energy::Timestamp;

use crate::zone::Zone;

/// Energy in kWh with all its digits: `0.305`.
#[must_use]
pub fn kwh_exact(wh: u64) -> String {
    format!("{}.{:03}", wh / 1_000, wh % 1_000)
}

/// Energy in kWh without the zeros at its end: `0.3`, `40`.
#[must_use]
pub fn kwh_short(wh: u64) -> String {
    let text = kwh_exact(wh);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Energy in kWh for a sentence: two digits.
#[must_use]
pub fn kwh(wh: u64) -> String {
    let hundredths = (wh + 5) / 10;
    // A line break never comes between a figure and its unit.
    format!("{}.{:02}\u{a0}kWh", hundredths / 100, hundredths % 100)
}

/// An amount for a sentence, without its sign: `¥3.20`.
#[must_use]
pub fn money(amount_n: i64, currency: &str) -> String {
    let cents = (amount_n.unsigned_abs() + 5_000_000) / 10_000_000;
    format!("{}{}.{:02}", symbol(currency), cents / 100, cents % 100)
}

/// An amount with its sign and all its digits, at least two: `−¥0.0185`.
#[must_use]
pub fn money_exact(amount_n: i64, currency: &str) -> String {
    let sign = if amount_n < 0 { "−" } else { "" };
    format!("{sign}{}{}", symbol(currency), decimal(amount_n.unsigned_abs(), 9))
}

/// A price per kWh without its sign: `¥0.165`.
#[must_use]
pub fn price(micro: i64, currency: &str) -> String {
    format!("{}{}", symbol(currency), decimal(micro.unsigned_abs(), 6))
}

/// The clock where the home is: `14:15`.
#[must_use]
pub fn clock(time: Timestamp, zone: Zone) -> String {
    let minutes = zone.minute(time);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The date where the home is: `2016-06-13`.
#[must_use]
pub fn date(time: Timestamp, zone: Zone) -> String {
    zone.date(time).to_string()
}

/// The sign people write before an amount; the code where there is none.
fn symbol(currency: &str) -> &str {
    match currency {
        "CNY" => "¥",
        "EUR" => "€",
        "GBP" => "£",
        "USD" => "$",
        other => other,
    }
}

/// `value` × 10^-`digits`, without the zeros at its end but with at least two digits.
fn decimal(value: u64, digits: usize) -> String {
    let unit = 10_u64.pow(u32::try_from(digits).unwrap_or(9));
    let fraction = format!("{:0digits$}", value % unit);
    let shown = fraction.trim_end_matches('0').len().max(2);
    format!("{}.{}", value / unit, fraction.get(..shown).unwrap_or(&fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_rounded_and_sums_are_not() {
        assert_eq!(kwh(6_204), "6.20\u{a0}kWh");
        assert_eq!(kwh(6_205), "6.21\u{a0}kWh");
        assert_eq!(kwh_exact(6_204), "6.204");
        assert_eq!(money(3_204_999_999, "CNY"), "¥3.20");
        assert_eq!(money(-3_205_000_000, "CNY"), "¥3.21");
        assert_eq!(money_exact(-18_500_000, "CNY"), "−¥0.0185");
        assert_eq!(money_exact(1, "EUR"), "€0.000000001");
        assert_eq!(money_exact(2_000_000_000, "CHF"), "CHF2.00");
        assert_eq!(price(165_000, "CNY"), "¥0.165");
        assert_eq!(price(-80_000, "CNY"), "¥0.08");
    }

    #[test]
    fn clocks_show_the_time_where_the_home_is() {
        let time = Timestamp::parse("2016-06-13T23:50:00Z").unwrap();
        let at = |zone: &str| {
            let zone = Zone::parse(zone).unwrap();
            (clock(time, zone), date(time, zone))
        };
        assert_eq!(at("UTC"), ("23:50".to_owned(), "2016-06-13".to_owned()));
        assert_eq!(at("Asia/Shanghai"), ("07:50".to_owned(), "2016-06-14".to_owned()));
        assert_eq!(at("Europe/Vienna"), ("01:50".to_owned(), "2016-06-14".to_owned()), "in summer");
    }
}
