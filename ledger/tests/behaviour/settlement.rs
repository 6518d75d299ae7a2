use energy::{Mtu, Price, Quality, WattHours};
use ledger::{Body, DemoClock, EntryError, OutcomeKind, OwnContract, StandingLimits, sum_by_account};
use market::{
    Account, Losses, Metered, PostingKind, SettleHome, Sharing, SupplierLeg, Tariff, Terms, settle,
    settle_correction, settle_late,
};

use crate::fixture::*;

const M: i128 = 165_000;

fn terms(street: &Fixture) -> Terms<'_> {
    Terms {
        network: street.ledger.network(),
        tariff: Tariff { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        leg: SupplierLeg::Ledger,
        sharing: Sharing::Neighbour,
        losses: Losses::Recorded,
    }
}

/// What the market says of homes 1, 2, …, all with the opening deposit and no limits.
fn by_the_market(street: &Fixture, metered: &[Option<(u64, u64)>]) -> market::Settlement<energy::HomeId> {
    let network = street.ledger.network();
    let homes: Vec<_> = (1..)
        .zip(metered)
        .map(|(number, metered)| SettleHome {
            id: home(number),
            node: network.index_of(&admission(number).node).unwrap(),
            metered: metered.map(|(import, export)| Metered { import: wh(import), export: wh(export) }),
            position: market::Position::default(),
            min_sell: None,
            max_buy: None,
            import_price: None,
            export_price: None,
            share_permyriad: 0,
            participation_permille: 1000,
            free_balance: nano(i128::from(DEPOSIT)),
        })
        .collect();
    settle(&terms(street), &homes, nano(0), nano(0), None).unwrap()
}

#[test]
fn an_interval_settles_in_the_first_block_at_its_deadline_and_not_before() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let entries = [street.read(1, 0, 400, 0), street.read(2, 0, 0, 300)];
    street.after(16, &entries);
    street.idle_until(30);
    assert_eq!(street.ledger.next_deadline(), at(30));
    let before = at(30).minus_ms(1);
    assert!(!street.ledger.deadline_at(before) && street.ledger.deadline_at(at(30)));
    let executed = street.block(before, &[]);
    assert!(executed.outcomes.is_empty());
    let executed = street.block(at(30), &[]);
    assert_eq!(executed.outcomes.len(), 3, "two homes and the community");
    assert_eq!(street.ledger.next_deadline(), at(45));
}

#[test]
fn a_reading_in_the_deadline_block_itself_still_counts() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let entries = [street.read(1, 0, 400, 0), street.read(2, 0, 0, 300)];
    street.after(30, &entries);
    assert_eq!(street.settled(1, 0).matched.bought, wh(300));
}

#[test]
fn neighbours_trade_at_the_middle_and_every_amount_is_the_markets() {
    let mut street = Fixture::new(4);
    street.baselines(4);
    // Homes 1 and 3 share a feeder: 1 sells to 3 for one fee, the rest goes up to lv.
    let metered = [Some((0, 500)), Some((700, 0)), Some((300, 20)), None];
    let entries = [street.read(1, 0, 0, 500), street.read(2, 0, 700, 0), street.read(3, 0, 300, 20)];
    street.after(16, &entries);
    let executed = street.after(30, &[]).clone();
    let expected = by_the_market(&street, &metered);
    for (number, expected) in (1..).zip(&expected.homes) {
        let settled = street.settled(number, 0);
        assert_eq!((settled.metered, settled.matched), (expected.metered, expected.matched), "home {number}");
        assert_eq!(settled.amount, expected.amount().unwrap());
        assert_eq!(i128::from(street.balance(number)), i128::from(DEPOSIT) + settled.amount.get());
    }
    let posted: Vec<_> =
        executed.postings.iter().map(|of| (of.account.clone(), of.kind, of.amount)).collect();
    let market: Vec<_> =
        expected.postings.iter().map(|of| (of.account.clone(), of.kind, of.amount)).collect();
    assert_eq!(posted, market);
    assert!(executed.postings.iter().all(|posting| posting.interval == Some(street.interval(0))));
    // By hand: at f1, 320 (home 3 takes 300) of 520 Wh stay … and home 1 sells the rest at lv, at M without fee_up.
    let (seller, buyer) = (street.settled(1, 0), street.settled(3, 0));
    assert_eq!(buyer.matched.bought, wh(300));
    assert_eq!(seller.matched.local_amount, nano(M * i128::from(seller.matched.sold.get())));
    // Home 3 bought and sold in one interval: the two are never netted.
    let sold = i128::from(buyer.matched.sold.get());
    assert!(sold > 0);
    assert_eq!(buyer.matched.local_amount, nano(M * sold - M * 300));
    let total = sum_by_account(&executed.postings).into_values().map(energy::Money::get).sum::<i128>();
    assert_eq!(total, 0);
    let (_, community) = street.community(0).unwrap();
    assert_eq!((community.matched, community.homes, community.missing), (wh(520), 4, 1));
    assert_eq!((community.supplier_import, community.supplier_export), (wh(480), wh(0)));
}

#[test]
fn nobody_is_worse_off_than_with_the_supplier_alone() {
    let mut street = Fixture::new(3);
    street.baselines(3);
    let entries = [street.read(1, 0, 0, 500), street.read(2, 0, 700, 0), street.read(3, 0, 300, 20)];
    street.after(30, &entries);
    for number in 1..=3 {
        let settled = street.settled(number, 0);
        assert!(settled.amount >= settled.baseline);
    }
    assert_eq!(street.settled(2, 0).baseline, nano(-700 * 300_000));
    assert_eq!(street.settled(3, 0).baseline, nano(20 * 80_000 - 300 * 300_000));
}

#[test]
fn a_missing_home_settles_as_nothing_and_later_with_the_supplier_alone() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let seller = street.read(1, 0, 0, 400);
    street.after(30, &[seller]);
    assert_eq!((street.settled(2, 0).metered, street.settled(2, 0).amount), (None, nano(0)));
    assert_eq!(street.settled(1, 0).matched.supplier_export, wh(400));
    let late = street.read(2, 0, 150, 0);
    let executed = street.block(at(31), &[late]);
    assert!(executed.postings.iter().all(|posting| posting.kind == PostingKind::Late));
    let outcome = street.late(2, 0);
    assert_eq!((outcome.metered.unwrap().import, outcome.matched.bought), (wh(150), wh(0)));
    assert_eq!(outcome.amount, nano(-150 * 300_000));
    assert_eq!(outcome.amount, outcome.baseline);
    assert_eq!(street.balance(2), DEPOSIT - 150 * 300_000);
}

#[test]
fn a_lump_is_spread_with_odd_watt_hours_first_and_each_share_has_its_own_tariff() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let points = vec![tariff(300_000, 100_000), tariff(310_000, 100_000), tariff(320_000, 100_000)];
    let series = Body::TariffSeries { from: street.interval(5), points };
    let series = street.verified(series, OPERATOR, &[]);
    street.after(2, &[series]);
    // Silent from interval 4 to 7; 5, 6 and 7 have tariffs of their own. 4 and 5 are settled by 107, 6 and 7 wait.
    let entries: Vec<_> = (0..4).map(|offset| street.read(1, offset, 0, 0)).collect();
    street.after(61, &entries);
    let lump = street.read(1, 7, 1_003, 0);
    street.after(121, &[lump]);
    street.after(135, &[]);
    let shares = [
        (street.late(1, 4), 251, 250_000),
        (street.late(1, 5), 251, 300_000),
        (street.settled(1, 6), 251, 310_000),
        (street.settled(1, 7), 250, 320_000),
    ];
    for (outcome, energy, price) in shares {
        assert_eq!(outcome.metered.unwrap().import, wh(energy), "{}", outcome.interval);
        assert_eq!(outcome.quality, Some(Quality::Gap));
        assert_eq!(outcome.amount, nano(-i128::from(energy) * (price + 50_000)));
    }
}

#[test]
fn standing_limits_hold_from_the_next_interval_and_not_backwards() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let limits = StandingLimits { min_sell: None, max_buy: Some(Price::new(100_000)) };
    let entry = street.verified(Body::StandingLimits { home: home(2), limits }, (Use::Member, 2), &[]);
    street.after(5, &[entry]);
    let entries = [
        street.read(1, 0, 0, 100),
        street.read(2, 0, 100, 0),
        street.read(1, 1, 0, 100),
        street.read(2, 1, 100, 0),
    ];
    street.after(30, &entries[..]);
    street.after(45, &[]);
    assert_eq!(street.settled(2, 0).matched.bought, wh(100), "the block came inside interval 0");
    assert_eq!(street.settled(2, 1).matched.bought, wh(0), "175 000 is above its limit");
    let wrong = street.verified(Body::StandingLimits { home: home(2), limits }, (Use::Member, 1), &[]);
    assert!(matches!(street.refusal(at(50), &wrong), EntryError::NotEntitled { needed: "the member", .. }));
    let dear = StandingLimits { min_sell: Some(Price::new(1_000_000_001)), max_buy: None };
    let dear = street.verified(Body::StandingLimits { home: home(2), limits: dear }, (Use::Member, 2), &[]);
    assert_eq!(street.refusal(at(50), &dear), EntryError::PriceLimit);
}

#[test]
fn an_own_contract_needs_the_operator_and_is_remembered_for_late_readings() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let contract = |price| Body::OwnContract {
        home: home(2),
        contract: OwnContract { import_price: Some(Price::new(price)), export_price: None },
    };
    let alone = street.verified(contract(200_000), (Use::Member, 2), &[]);
    assert!(matches!(street.refusal(at(2), &alone), EntryError::NotEntitled { needed: "the operator", .. }));
    let first = street.verified(contract(200_000), (Use::Member, 2), &[OPERATOR]);
    street.after(2, &[first]);
    let second = street.verified(contract(270_000), (Use::Member, 2), &[OPERATOR]);
    street.after(62, &[second]);
    let third = street.verified(contract(290_000), (Use::Member, 2), &[OPERATOR]);
    street.after(122, &[third]);
    // Everything up to interval 7 is settled without home 2; now it catches up.
    let entries: Vec<_> = (0..8).map(|offset| street.read(2, offset, 10, 0)).collect();
    street.after(135, &[]);
    street.after(137, &entries);
    let price = |offset| -street.late(2, offset).amount.get() / 10 - 50_000;
    assert_eq!([0, 1, 4, 5, 7].map(price), [250_000, 200_000, 200_000, 270_000, 270_000]);
}

#[test]
fn a_correction_settles_at_the_price_that_is_worse_for_the_home() {
    // Import: 300 000 from the supplier, local M 165 000 (next door) to 215 000; export: 80 000, local 165 000.
    let cases = [
        ((100, 0), -100 * 300_000),
        ((-100, 0), 100 * 165_000),
        ((0, 100), 100 * 80_000),
        ((0, -100), -100 * 165_000),
    ];
    for ((import_delta, export_delta), expected) in cases {
        let mut street = Fixture::new(2);
        street.baselines(2);
        let entries = [street.read(1, 0, 500, 200), street.read(2, 0, 0, 200)];
        street.after(30, &entries);
        let before = street.balance(1);
        let interval = street.interval(0);
        let body = Body::Correction { home: home(1), interval, import_delta, export_delta };
        let entry = street.verified(body, METERING, &[OPERATOR]);
        let executed = street.block(at(31), &[entry]).clone();
        let outcome = street.outcome(1, 0, OutcomeKind::Correction);
        assert_eq!(outcome.amount, nano(expected), "import {import_delta:+} Wh, export {export_delta:+} Wh");
        assert_eq!(i128::from(street.balance(1) - before), expected);
        assert!(executed.postings.iter().all(|posting| posting.kind == PostingKind::Correction));
        let input = SettleHome {
            id: home(1),
            node: street.ledger.network().index_of(&admission(1).node).unwrap(),
            metered: None,
            position: market::Position::default(),
            min_sell: None,
            max_buy: None,
            import_price: None,
            export_price: None,
            share_permyriad: 0,
            participation_permille: 1000,
            free_balance: nano(i128::from(before)),
        };
        let (amount, claim, _) =
            settle_correction(&terms(&street), &input, import_delta, export_delta).unwrap();
        assert_eq!((amount, claim), (outcome.amount, nano(0)));
    }
}

#[test]
fn what_was_not_read_yet_and_who_was_no_member_then_is_not_corrected() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.after(46, &[]);
    let correction = |street: &mut Fixture, number, offset| {
        let interval = street.interval(offset);
        let body = Body::Correction { home: home(number), interval, import_delta: 5, export_delta: 0 };
        street.verified(body, METERING, &[OPERATOR])
    };
    let unread = correction(&mut street, 1, 0);
    let error = EntryError::NotRead { home: home(1), interval: street.interval(0) };
    assert_eq!(street.refusal(at(47), &unread), error);
    let late = street.read(1, 0, 10, 0);
    street.block(at(47), &[late, unread]);
    let next = correction(&mut street, 1, 1);
    assert!(matches!(street.refusal(at(48), &next), EntryError::NotRead { .. }), "only interval 0 was read");
    let body = Body::Departure { home: home(2), from: street.interval(5) };
    let departure = street.verified(body, (Use::Member, 2), &[OPERATOR]);
    street.block(at(48), &[departure]);
    street.after(106, &[]);
    let gone = correction(&mut street, 2, 5);
    let error = EntryError::NoMemberIn { home: home(2), interval: street.interval(5) };
    assert_eq!(street.refusal(at(107), &gone), error);
}

#[test]
fn a_correction_needs_two_signatures_and_a_settled_interval() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let read = street.read(1, 0, 10, 0);
    street.after(30, &[read]);
    let correct = |street: &Fixture, offset, import_delta| Body::Correction {
        home: home(1),
        interval: street.interval(offset),
        import_delta,
        export_delta: 0,
    };
    let body = correct(&street, 0, 5);
    let alone = street.verified(body.clone(), (Use::Member, 1), &[]);
    assert!(matches!(street.refusal(at(31), &alone), EntryError::NotEntitled { needed: "the operator", .. }));
    let neighbour = street.verified(body.clone(), (Use::Member, 2), &[OPERATOR]);
    assert!(matches!(street.refusal(at(31), &neighbour), EntryError::NotEntitled { .. }));
    let both = street.verified(body, (Use::Member, 1), &[OPERATOR]);
    assert!(street.ledger.check(&both, at(31)).is_ok());
    let body = correct(&street, 1, 5);
    let early = street.verified(body, METERING, &[OPERATOR]);
    assert_eq!(street.refusal(at(31), &early), EntryError::NotSettled { interval: street.interval(1) });
    let body = correct(&street, -1, 5);
    let before = street.verified(body, METERING, &[OPERATOR]);
    assert!(
        matches!(street.refusal(at(31), &before), EntryError::TooOld { .. }),
        "before the chain nothing settled"
    );
    let body = correct(&street, 0, 0);
    let nothing = street.verified(body, METERING, &[OPERATOR]);
    assert_eq!(street.refusal(at(31), &nothing), EntryError::NoAmount);
    let body = correct(&street, 0, i64::MIN);
    let absurd = street.verified(body, METERING, &[OPERATOR]);
    assert!(street.ledger.check(&absurd, at(31)).is_err(), "out of range, but no panic");
}

#[test]
fn after_an_outage_readings_have_ten_minutes_to_arrive() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.idle_until(14);
    // No block for two hours: intervals 0 to 6 are past their deadlines.
    assert!(!street.ledger.deadline_at(at(135)), "the first block after an outage settles nothing");
    let executed = street.block(at(135), &[]);
    assert!(executed.outcomes.is_empty());
    assert_eq!(street.ledger.next_deadline(), at(145));
    let entries = [
        street.read(1, 0, 0, 100),
        street.read(2, 0, 100, 0),
        street.read(1, 8, 0, 100),
        street.read(2, 8, 100, 0),
    ];
    street.after(144, &entries);
    assert!(street.community(0).is_none());
    street.block(at(145), &[]);
    assert_eq!(street.settled(2, 0).matched.bought, wh(100), "still matched with the neighbours");
    assert!(street.community(7).is_some() && street.community(8).is_none());
}

#[test]
fn a_gap_of_ten_minutes_is_no_outage() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.idle_until(26);
    let last = street.ledger.head_time();
    assert!(street.ledger.deadline_at(last.plus_ms(600_000)));
    assert!(!street.block(last.plus_ms(600_000), &[]).outcomes.is_empty());
}

#[test]
fn on_an_accelerated_chain_a_gap_is_an_outage_only_after_two_seconds_of_wall_time() {
    let clock =
        DemoClock { origin: start(), wall_origin: start(), speed: 720, assurance_every: 96, epoch_every: 96 };
    for (gap_ms, outage) in [(1_440_000, false), (1_440_001, true)] {
        let mut street = Fixture::with(2, |genesis| genesis.clock = Some(clock));
        street.baselines(2);
        street.idle_until(26);
        let time = street.ledger.head_time().plus_ms(gap_ms);
        assert_eq!(street.ledger.deadline_at(time), !outage, "{gap_ms} ms of market time");
        assert_eq!(street.block(time, &[]).outcomes.is_empty(), outage);
    }
}

#[test]
fn more_than_a_day_overdue_settles_at_the_suppliers_tariff() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    // Due at 30 min; a day later it is 1 470. Interval 0 and 1 are past that when settlement resumes, 2 is not.
    street.block(at(1_485), &[]);
    let mut entries = Vec::new();
    for offset in 0..3 {
        entries.push(street.read(1, offset, 0, 100));
        entries.push(street.read(2, offset, 100, 0));
    }
    street.block(at(1_486), &entries);
    street.block(at(1_495), &[]);
    for offset in 0..2 {
        let (seller, buyer) = (street.settled(1, offset), street.settled(2, offset));
        assert_eq!((buyer.metered.unwrap().import, buyer.matched.bought), (wh(100), wh(0)));
        assert_eq!((seller.amount, buyer.amount), (nano(8_000_000), nano(-30_000_000)));
        assert_eq!(street.community(offset).unwrap().1.matched, wh(0));
    }
    assert_eq!(street.settled(2, 2).matched.bought, wh(100));
}

#[test]
fn a_deadline_of_days_still_matches_neighbours() {
    let mut street = Fixture::with(2, |genesis| genesis.due_after_ms = 5 * 86_400_000);
    street.baselines(2);
    let entries = [street.read(1, 0, 0, 100), street.read(2, 0, 100, 0)];
    street.after(16, &entries);
    let due = 15 + 5 * 24 * 60;
    street.block(at(due - 15), &[]);
    street.block(at(due - 6), &[]);
    street.block(at(due).plus_ms(1_000), &[]);
    assert_eq!(street.settled(2, 0).matched.bought, wh(100));
}

#[test]
fn after_a_year_of_silence_settlement_is_spread_over_blocks() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let year = 365 * 24 * 60;
    street.block(at(year), &[]);
    let mut blocks = 0;
    let mut time = at(year + 10);
    while street.ledger.deadline_at(time) {
        let executed = street.block(time, &[]);
        assert!((1..=16_384).contains(&executed.outcomes.len()));
        (blocks, time) = (blocks + 1, time.plus_ms(1_000));
    }
    assert_eq!(blocks, 7);
    assert_eq!(street.ledger.next_to_settle(), street.interval(365 * 96 - 1));
}

#[test]
fn losses_are_recorded_and_unknown_where_a_home_is_missing() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let root = street.read(0, -1, 0, 0);
    street.after(2, &[root]);
    let entries = [street.read(1, 0, 400, 0), street.read(2, 0, 0, 100), street.read(0, 0, 310, 2)];
    street.after(16, &entries);
    let entries = [street.read(1, 1, 400, 0), street.read(0, 1, 400, 0)];
    street.after(31, &entries);
    // Interval 3 has no root reading of its own: the next one covers two.
    let entries = [street.read(1, 2, 0, 0), street.read(2, 2, 0, 0)];
    street.after(45, &[]);
    street.after(46, &entries);
    let entries = [street.read(1, 3, 0, 0), street.read(2, 3, 0, 0), street.read(0, 3, 0, 9)];
    street.after(61, &entries);
    street.after(75, &[]);
    let losses = [0, 1, 2, 3].map(|offset| street.community(offset).unwrap().1.losses);
    assert_eq!(losses, [Some(308 - 300), None, None, None]);
    assert!(street.ledger.balance(&Account::Network).get() > 0);
}

#[test]
fn the_root_meter_has_its_own_key_and_its_readings_are_sealed() {
    let mut street = Fixture::new(2);
    let reading = street.record(0, -1);
    let body = Body::Reading { home: None, reading };
    assert!(body.is_sealed(), "the total of a small street says who is at home");
    let foreign = street.verified(body, (Use::Reading, 1), &[]);
    assert!(matches!(
        street.refusal(at(1), &foreign),
        EntryError::NotEntitled { needed: "the root meter's key", .. }
    ));
}

#[test]
fn every_market_time_unit_settles_alike() {
    for mtu in [Mtu::Min5, Mtu::Min15, Mtu::Min30, Mtu::Min60] {
        let mut street = Fixture::with(2, |genesis| genesis.mtu = mtu);
        street.baselines(2);
        let minutes = u64::from(mtu.minutes());
        let entries = [street.read(1, 0, 0, 100), street.read(2, 0, 100, 0)];
        street.after(minutes + 1, &entries);
        assert_eq!(street.ledger.next_deadline(), at(minutes + 15));
        street.after(minutes + 15, &[]);
        assert_eq!(street.settled(2, 0).matched.bought, wh(100), "{mtu:?}");
        assert_eq!(street.settled(2, 0).amount, nano(-100 * (165_000 + 10_000)), "{mtu:?}");
    }
}

#[test]
fn an_interval_that_begins_when_clocks_change_is_an_interval_like_any_other() {
    // In central Europe 2026-10-25 has 25 local hours; in UTC it has 96 quarters.
    let start = energy::Timestamp::parse("2026-10-25T00:00:00+00:00").unwrap();
    let mut street = Fixture::with(2, |genesis| genesis.start = start);
    let entry = street.read(1, -1, 0, 0);
    street.block(start.plus_ms(60_000), &[entry]);
    let mut time = start.plus_ms(60_000);
    let mut settled = Vec::new();
    for offset in 0..8 {
        for _ in 0..3 {
            time = time.plus_ms(300_000);
            let entries = if time == street.interval(offset).end().plus_ms(60_000) {
                vec![street.read(1, offset, 10, 0)]
            } else {
                vec![]
            };
            settled.extend(street.block(time, &entries).outcomes.iter().filter_map(
                |outcome| match outcome {
                    ledger::Outcome::Interval(of) => Some(of.interval.start()),
                    _ => None,
                },
            ));
        }
    }
    let expected: Vec<_> = (0..7).map(|quarter| start.plus_ms(quarter * 900_000)).collect();
    assert_eq!(settled, expected);
}

#[test]
fn where_each_home_has_its_own_supplier_only_local_money_moves() {
    let mut street = Fixture::with(2, |genesis| genesis.supplier_leg = SupplierLeg::Outside);
    street.baselines(2);
    let entries = [street.read(1, 0, 0, 100), street.read(2, 0, 150, 0)];
    let executed = street.after(30, &entries);
    assert!(executed.postings.iter().all(|of| matches!(of.kind, PostingKind::Local | PostingKind::Fee)));
    assert_eq!(street.settled(2, 0).matched.supplier_amount, nano(-50 * 300_000), "computed and shown");
    assert_eq!(street.balance(2), DEPOSIT - 100 * 175_000);
    assert_eq!(street.ledger.balance(&Account::Supplier).get(), 0);
}

#[test]
fn a_late_reading_is_the_markets_late_settlement() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.after(30, &[]);
    let late = street.read(2, 0, 150, 40);
    street.block(at(31), &[late]);
    let input = SettleHome {
        id: home(2),
        node: street.ledger.network().index_of(&admission(2).node).unwrap(),
        metered: Some(Metered { import: WattHours::new(150), export: WattHours::new(40) }),
        position: market::Position::default(),
        min_sell: None,
        max_buy: None,
        import_price: None,
        export_price: None,
        share_permyriad: 0,
        participation_permille: 1000,
        free_balance: nano(i128::from(DEPOSIT)),
    };
    let (expected, _) = settle_late(&terms(&street), &input).unwrap();
    assert_eq!(street.late(2, 0).matched, expected.matched);
}
