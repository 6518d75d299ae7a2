use energy::Price;
use ledger::{Body, EntryError};

use crate::fixture::*;

fn series(street: &mut Fixture, from: i64, import: i64, others: &[(Use, u8)]) -> ledger::VerifiedEntry {
    let body = Body::TariffSeries { from: street.interval(from), points: vec![tariff(import, 80_000)] };
    street.verified(body, OPERATOR, others)
}

#[test]
fn a_tariff_inside_its_caps_needs_only_the_operator() {
    let mut street = Fixture::new(2);
    let entry = series(&mut street, 5, 1_000_000, &[]);
    street.block(at(1), &[entry]);
    assert_eq!(street.ledger.tariff_at(street.interval(5)), tariff(1_000_000, 80_000));
    let body = Body::TariffSeries { from: street.interval(9), points: vec![tariff(1, 1)] };
    let member = street.verified(body, (Use::Member, 1), &[OPERATOR]);
    assert!(matches!(street.refusal(at(2), &member), EntryError::NotEntitled { needed: "the operator", .. }));
}

#[test]
fn a_tariff_outside_its_caps_needs_a_second_signature() {
    let mut street = Fixture::new(2);
    let alone = series(&mut street, 5, 1_000_001, &[]);
    assert!(matches!(street.refusal(at(1), &alone), EntryError::NotEntitled { kind: "tariff-series", .. }));
    let member = series(&mut street, 5, 1_000_001, &[(Use::Member, 1)]);
    assert!(matches!(street.refusal(at(1), &member), EntryError::NotEntitled { .. }));
    for second in [TREASURER, AUDITOR] {
        let both = series(&mut street, 5, 1_000_001, &[second]);
        assert!(street.ledger.check(&both, at(1)).is_ok());
    }
    let absurd = series(&mut street, 5, 1_000_000_001, &[TREASURER, AUDITOR]);
    assert_eq!(street.refusal(at(1), &absurd), EntryError::PriceLimit);
}

#[test]
fn treasurer_and_auditor_together_publish_where_the_operator_cannot() {
    let mut street = Fixture::new(2);
    let body = |import: i64, street: &Fixture| Body::TariffSeries {
        from: street.interval(5),
        points: vec![tariff(import, 80_000)],
    };
    for import in [200_000, 2_000_000] {
        let both = street.verified(body(import, &street), TREASURER, &[AUDITOR]);
        assert!(street.ledger.check(&both, at(1)).is_ok());
        for alone in [TREASURER, AUDITOR, METERING] {
            let entry = street.verified(body(import, &street), alone, &[]);
            assert!(matches!(street.refusal(at(1), &entry), EntryError::NotEntitled { .. }));
        }
        // Others' signatures do not make a member's entry the community's.
        let member = street.verified(body(import, &street), (Use::Member, 1), &[TREASURER, AUDITOR]);
        assert!(matches!(street.refusal(at(1), &member), EntryError::NotEntitled { .. }));
    }
}

#[test]
fn less_than_an_hours_notice_needs_a_second_signature() {
    let mut street = Fixture::new(2);
    street.block(at(0).plus_ms(1), &[]);
    let entry = series(&mut street, 4, 200_000, &[]);
    assert!(matches!(street.refusal(at(1), &entry), EntryError::NotEntitled { .. }), "59 minutes");
    let entry = series(&mut street, 5, 200_000, &[]);
    assert!(street.ledger.check(&entry, at(15)).is_ok(), "exactly an hour");
    let entry = series(&mut street, 4, 200_000, &[AUDITOR]);
    assert!(street.ledger.check(&entry, at(1)).is_ok());
}

#[test]
fn with_forward_trading_the_notice_counts_to_the_gate() {
    let mut street = Fixture::with(2, |genesis| genesis.forward = ledger::Forward::Auction);
    let entry = series(&mut street, 5, 200_000, &[]);
    assert!(street.ledger.check(&entry, at(10)).is_ok());
    assert!(matches!(street.refusal(at(11), &entry), EntryError::NotEntitled { .. }));
}

#[test]
fn no_tariff_is_retroactive_whoever_signs() {
    let mut street = Fixture::new(2);
    let entry = series(&mut street, 1, 200_000, &[TREASURER, AUDITOR]);
    assert!(street.ledger.check(&entry, at(15).minus_ms(1)).is_ok());
    assert_eq!(
        street.refusal(at(15), &entry).to_string(),
        "the series starts at 2026-06-01T00:15:00Z, in the past of 2026-06-01T00:15:00Z"
    );
}

#[test]
fn an_empty_series_and_another_market_time_unit_are_refused() {
    let mut street = Fixture::new(2);
    let body = Body::TariffSeries { from: street.interval(5), points: vec![] };
    let empty = street.verified(body, OPERATOR, &[]);
    assert!(matches!(street.refusal(at(1), &empty), EntryError::Malformed { .. }));
    let from = energy::Interval::containing(at(600), energy::Mtu::Min60);
    let hourly = street.verified(Body::TariffSeries { from, points: vec![tariff(1, 1)] }, OPERATOR, &[]);
    assert_eq!(street.refusal(at(1), &hourly), EntryError::WrongMtu);
}

#[test]
fn where_no_tariff_arrives_the_last_one_of_that_quarter_hour_holds() {
    let mut street = Fixture::new(2);
    let entry = series(&mut street, 5, 200_000, &[]);
    street.block(at(1), &[entry]);
    let price = |street: &Fixture, offset| street.ledger.tariff_at(street.interval(offset)).import_price;
    for settled in [false, true] {
        assert_eq!(price(&street, 5), Price::new(200_000));
        assert_eq!(price(&street, 6), Price::new(250_000), "genesis");
        assert_eq!(price(&street, 5 + 96), Price::new(200_000), "the next day");
        assert_eq!(price(&street, 5 + 3 * 96), Price::new(200_000));
        assert_eq!(
            price(&street, 5 + 365 * 96),
            if settled { Price::new(200_000) } else { Price::new(250_000) }
        );
        street.idle_until(150);
    }
    // A later series for the next day changes that day and what follows it, not the day before.
    let entry = series(&mut street, 5 + 96, 220_000, &[]);
    street.block(at(151), &[entry]);
    assert_eq!(price(&street, 5), Price::new(200_000));
    assert_eq!(price(&street, 5 + 96), Price::new(220_000));
    assert_eq!(price(&street, 5 + 2 * 96), Price::new(220_000));
}

#[test]
fn asettled_interval_keeps_its_price_for_late_readings() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let entry = series(&mut street, 5, 200_000, &[]);
    street.after(2, &[entry]);
    street.idle_until(106);
    let again = series(&mut street, 5 + 96, 900_000, &[]);
    street.after(107, &[again]);
    let entries: Vec<_> = (0..6).map(|offset| street.read(2, offset, 10, 0)).collect();
    street.after(108, &entries);
    assert_eq!(street.late(2, 4).amount, nano(-10 * 300_000));
    assert_eq!(street.late(2, 5).amount, nano(-10 * 250_000));
}

#[test]
fn a_tariff_reaches_at_most_62_days_ahead_so_that_nodes_keep_no_more() {
    let mut street = Fixture::new(2);
    let ahead = 62 * 96;
    let last = series(&mut street, ahead - 1, 200_000, &[]);
    assert!(street.ledger.check(&last, at(1)).is_ok());
    // Whoever signs: the limit is what nodes can keep, not what is right.
    let beyond = series(&mut street, ahead, 200_000, &[TREASURER, AUDITOR]);
    assert_eq!(
        street.refusal(at(1), &beyond).to_string(),
        "tariffs and network fees reach at most 62 days ahead; publish the rest later"
    );
    let points = vec![tariff(200_000, 80_000); 192];
    for (from, fits) in [(ahead - 192, true), (ahead - 191, false), (400 * 96, false)] {
        let body = Body::TariffSeries { from: street.interval(from), points: points.clone() };
        let entry = street.verified(body, OPERATOR, &[]);
        assert_eq!(street.ledger.check(&entry, at(1)).is_ok(), fits, "{from}");
    }
    let later = series(&mut street, ahead, 200_000, &[]);
    assert!(street.ledger.check(&later, at(16)).is_ok(), "a quarter of an hour later");
}
