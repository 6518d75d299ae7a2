use energy::{Balance, Price, Timestamp};
use ledger::{Body, Forward, Order, VerifiedEntry};
use market::{Account, PostingKind, Side};

use crate::fixture::*;

/// Feeder f1 may export little; the chain starts two hours before a new year.
fn street() -> Fixture {
    let mut street = Fixture::with(4, |genesis| {
        genesis.start = Timestamp::parse("2026-12-31T22:00:00Z").unwrap();
        genesis.forward = Forward::Auction;
        genesis.network[2].up = Some(wh(400));
    });
    street.baselines(4);
    street
}

fn order(street: &mut Fixture, number: u8, side: Side, price: i64) -> VerifiedEntry {
    let (interval, price) = (street.interval(3), Price::new(price));
    let order = Order { home: home(number), interval, side, price, quantity: wh(2_000), replaces: None };
    street.verified(Body::Order(order), (Use::Member, number), &[])
}

/// Home 1 sells to home 2 across the limit, so that rent arises; three homes meter.
fn with_rent() -> Fixture {
    let mut street = street();
    let entries = [order(&mut street, 1, Side::Sell, 100_000), order(&mut street, 2, Side::Buy, 200_000)];
    street.after(2, &entries);
    let energy = [(1, 0, 700), (2, 200, 0), (3, 100, 0)];
    let readings: Vec<_> = (0..8)
        .flat_map(|offset| energy.map(|(number, import, export)| (number, offset, import, export)))
        .map(|(number, offset, import, export)| street.read(number, offset, import, export))
        .collect();
    street.after(121, &readings);
    street
}

#[test]
fn congestion_rent_goes_back_to_the_members_when_a_year_begins_pro_rata_to_what_they_metered() {
    let mut street = with_rent();
    street.idle_until(149);
    let rent = street.ledger.balance(&Account::Congestion).get();
    assert!(rent > 0);
    let before = [1, 2, 3, 4].map(|number| street.balance(number));
    // Interval 8 is the first of the new year and settles at 150 minutes.
    let executed = street.after(150, &[]).clone();
    assert_eq!(street.ledger.balance(&Account::Congestion), Balance::ZERO);
    let back = [1, 2, 3, 4].map(|number| {
        let of = |posting: &&ledger::PostingRecord| {
            posting.kind == PostingKind::Rent && posting.account == account(number)
        };
        executed.postings.iter().filter(of).map(|posting| posting.amount.get()).sum::<i128>()
    });
    // 5 600, 1 600 and 800 of 8 000 Wh; home 4 has metered nothing.
    let rent = i128::from(rent);
    assert_eq!(back.iter().sum::<i128>(), rent, "to the n");
    assert!((back[0] - rent * 7 / 10).abs() <= 1 && (back[1] - rent * 2 / 10).abs() <= 1);
    assert_eq!(back[3], 0);
    for (number, (before, back)) in (1..).zip(before.into_iter().zip(back)) {
        let settled = street.settled(number, 8).amount.get();
        assert_eq!(i128::from(street.balance(number) - before), back + settled);
    }
}

#[test]
fn rent_is_returned_once_and_to_those_who_left_too() {
    let mut street = with_rent();
    let body = Body::Departure { home: home(3), from: street.interval(9) };
    let leave = street.verified(body, (Use::Member, 3), &[OPERATOR]);
    street.after(122, &[leave]);
    street.idle_until(300);
    let returns = |street: &Fixture| {
        let postings = street.blocks.iter().flat_map(|executed| &executed.postings);
        postings
            .filter(|posting| posting.kind == PostingKind::Rent && posting.amount.is_negative())
            .map(|posting| (posting.account.clone(), posting.interval))
            .collect::<Vec<_>>()
    };
    assert_eq!(returns(&street), [(Account::Congestion, Some(street.interval(8)))]);
}

#[test]
fn where_nothing_was_metered_the_rent_stays() {
    let mut street = street();
    let entries = [order(&mut street, 1, Side::Sell, 100_000), order(&mut street, 2, Side::Buy, 200_000)];
    street.after(2, &entries);
    street.idle_until(200);
    assert!(street.ledger.balance(&Account::Congestion).get() > 0);
}
