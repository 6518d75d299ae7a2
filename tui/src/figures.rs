//! Figures in columns.

use std::time::Duration;

use api::Time;

/// Energy or power of `thousandths` in thousands, three digits: `0.305`.
pub fn thousands(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// An amount of n in the currency with `digits` (up to 9) after the point, rounded half away from zero.
pub fn amount(n: i64, digits: u32) -> String {
    let unit = 10_u64.pow(9_u32.saturating_sub(digits));
    let rounded = (n.unsigned_abs() + unit / 2) / unit;
    let sign = if n < 0 && rounded > 0 { "-" } else { "" };
    let whole = 10_u64.pow(digits);
    format!("{sign}{}.{:0width$}", rounded / whole, rounded % whole, width = digits as usize)
}

/// A price of µ/kWh in the currency: `0.1650`.
pub fn price(micro: i64) -> String {
    amount(micro.saturating_mul(1_000), 4)
}

/// An age in the largest unit that is not zero: `3s`, `12m`, `5h`.
pub fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ ..100 => format!("{seconds}s"),
        seconds @ 100..6_000 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3_600),
    }
}

/// Date and clock in UTC: `2016-06-13 12:15`.
pub fn date_and_clock(time: Time) -> String {
    time.to_string().chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// The clock in UTC: `12:15`.
pub fn clock(time: Time) -> String {
    time.to_string().chars().skip(11).take(5).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_away_from_zero_and_never_minus_zero() {
        assert_eq!(thousands(12_045), "12.045");
        assert_eq!(amount(-59_000_000, 2), "-0.06");
        assert_eq!(amount(-4_000_000, 2), "0.00");
        assert_eq!(amount(1_234_567_891, 4), "1.2346");
        assert_eq!(price(165_000), "0.1650");
        assert_eq!(price(-80_000), "-0.0800");
    }

    #[test]
    fn ages_and_times_are_short() {
        assert_eq!(
            [0, 99, 100, 5_999, 7_200].map(|s| age(Duration::from_secs(s))),
            ["0s", "99s", "1m", "99m", "2h"]
        );
        let time = Time::from_unix_ms(1_465_820_100_000);
        assert_eq!((date_and_clock(time).as_str(), clock(time).as_str()), ("2016-06-13 12:15", "12:15"));
    }
}
