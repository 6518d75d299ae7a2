//! Local days of 23 and 25 hours: the ledger counts in UTC, so neither exists for it; what follows local time comes as
//! explicit series.

use energy::{Interval, Timestamp};
use ledger::{Body, TariffPoint};

use crate::fixture::*;

/// Day and night prices by local time of central Europe.
const DAY: (i64, i64) = (300_000, 80_000);
const NIGHT: (i64, i64) = (200_000, 60_000);

/// A local day and the UTC instant in it at which clocks change, with the offsets before and after, in hours.
struct LocalDay {
    start: &'static str,
    changes: &'static str,
    offsets: (u64, u64),
    quarters: i64,
}

const SPRING: LocalDay = LocalDay {
    start: "2026-03-28T23:00:00Z",
    changes: "2026-03-29T01:00:00Z",
    offsets: (1, 2),
    quarters: 92,
};
const AUTUMN: LocalDay = LocalDay {
    start: "2026-10-24T22:00:00Z",
    changes: "2026-10-25T01:00:00Z",
    offsets: (2, 1),
    quarters: 100,
};

impl LocalDay {
    fn price(&self, interval: Interval) -> TariffPoint {
        let changed = interval.start() >= Timestamp::parse(self.changes).unwrap();
        let offset = if changed { self.offsets.1 } else { self.offsets.0 };
        let local_hour = (interval.start().unix_ms() / 3_600_000 + offset) % 24;
        let (import, export) = if (6..22).contains(&local_hour) { DAY } else { NIGHT };
        tariff(import, export)
    }
}

/// Settles a whole local day by its own tariff, in which home 1 takes 100 Wh and home 2 gives 40 Wh a quarter-hour.
fn live(day: &LocalDay) -> Fixture {
    // The chain starts three hours earlier, so that the day's tariff has its notice.
    let start = Timestamp::parse(day.start).unwrap().minus_ms(3 * 3_600_000);
    let mut street = Fixture::with(2, |genesis| genesis.start = start);
    street.baselines(2);
    let points = (0..day.quarters).map(|quarter| day.price(street.interval(12 + quarter))).collect();
    let body = Body::TariffSeries { from: street.interval(12), points };
    let series = street.verified(body, OPERATOR, &[]);
    street.after(2, &[series]);
    for offset in 0..12 + day.quarters {
        let entries = [street.read(1, offset, 100, 0), street.read(2, offset, 0, 40)];
        street.after(u64::try_from(offset).unwrap() * 15 + 16, &entries);
    }
    street.idle_until(u64::try_from(14 + day.quarters).unwrap() * 15);
    street
}

#[test]
fn days_of_92_and_100_quarter_hours_settle_each_quarter_hour_once_at_its_local_price() {
    for day in [SPRING, AUTUMN] {
        let street = live(&day);
        let (mut nights, mut bill) = (0, 0);
        for quarter in 0..day.quarters {
            let interval = street.interval(12 + quarter);
            let settled = street.settled(1, 12 + quarter);
            let price = day.price(interval);
            assert_eq!(street.community(12 + quarter).unwrap().1.tariff, price, "{interval}");
            let (import, export) = (price.import_price.get(), price.export_price.get());
            let middle = (import + export) / 2;
            let expected = -(40 * (middle + 10_000) + 60 * (import + 50_000));
            assert_eq!(settled.amount.get(), i128::from(expected), "{interval}");
            bill += expected;
            nights += i64::from(price == tariff(NIGHT.0, NIGHT.1));
        }
        // Wherever clocks were changed, one quarter-hour follows the other.
        let all: Vec<_> = (0..day.quarters).map(|quarter| street.settled(1, 12 + quarter).interval).collect();
        assert!(all.windows(2).all(|pair| pair[0].next() == pair[1]));
        assert_eq!(day.price(all[0]), day.price(street.interval(12 + day.quarters)), "midnight to midnight");
        // 22 to 24 h and 0 to 6 h by the clock on the wall: an hour less in spring, an hour more in autumn.
        assert_eq!(nights, day.quarters - 64);
        let before: i128 = (0..12).map(|offset| street.settled(1, offset).amount.get()).sum();
        assert_eq!(i128::from(street.balance(1) - DEPOSIT), before + i128::from(bill));
    }
}
