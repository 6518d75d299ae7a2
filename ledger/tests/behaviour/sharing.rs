use energy::{Balance, Money, Price};
use ledger::{Body, EntryError, Genesis, GenesisError, Ledger, Participation, VerifiedEntry, sum_by_account};
use market::{Account, Division, Losses, PostingKind, Sharing, SupplierLeg, Unused};

use crate::fixture::*;

const PRICE: i128 = 120_000;
const SUPPLIER: i128 = 300_000;

fn part(share_permyriad: u32, permille: u32) -> Participation {
    Participation { share_permyriad, permille }
}

/// Home 1 gives; homes 2, 3, 4 take and have 50, 30 and 20 % by a static key.
fn street(sharing: Sharing) -> Fixture {
    let mut street = Fixture::with(4, |genesis| {
        genesis.market.sharing = sharing;
        for (member, share) in genesis.members.iter_mut().zip([0, 5_000, 3_000, 2_000]) {
            member.participation = part(share, 1_000);
        }
    });
    street.baselines(4);
    street
}

/// 1 000 Wh from home 1; 300, 400 and 500 Wh to the others.
fn readings(street: &mut Fixture, offset: i64) -> Vec<VerifiedEntry> {
    let given = [(1, 0, 1_000), (2, 300, 0), (3, 400, 0), (4, 500, 0)];
    given.into_iter().map(|(number, import, export)| street.read(number, offset, import, export)).collect()
}

fn bought(street: &Fixture, offset: i64) -> [u64; 3] {
    [2, 3, 4].map(|number| street.settled(number, offset).matched.bought.get())
}

fn change(street: &mut Fixture, number: u8, from: i64, participation: Participation) -> VerifiedEntry {
    let body = Body::ParticipationChange { home: home(number), from: street.interval(from), participation };
    street.verified(body, (Use::Member, number), &[OPERATOR])
}

#[test]
fn a_static_key_divides_the_generation_and_what_a_home_does_not_need_is_lost_or_passed_on() {
    let price = Some(Price::new(120_000));
    for (unused, expected) in [(Unused::Lost, [300, 300, 200]), (Unused::PassedOn, [300, 400, 300])] {
        let mut street = street(Sharing::StaticKey { price, unused });
        let entries = readings(&mut street, 0);
        let executed = street.after(30, &entries).clone();
        assert_eq!(bought(&street, 0), expected, "{unused:?}");
        let sold: u64 = expected.iter().sum();
        let seller = street.settled(1, 0);
        assert_eq!((seller.matched.sold, seller.matched.supplier_export), (wh(sold), wh(1_000 - sold)));
        assert_eq!(seller.matched.local_amount, nano(PRICE * i128::from(sold)));
        // All homes meet at lv: each buyer pays its feeder's fee.
        let third = street.settled(4, 0);
        assert_eq!(third.matched.local_amount, nano(-(PRICE + 10_000) * i128::from(expected[2])));
        assert_eq!(third.matched.supplier_amount, nano(-SUPPLIER * i128::from(500 - expected[2])));
        let sum: i128 = sum_by_account(&executed.postings).into_values().map(Money::get).sum();
        assert_eq!(sum, 0);
    }
}

#[test]
fn a_dynamic_key_divides_pro_rata_to_consumption_and_without_a_price_only_fees_are_paid() {
    let mut street = street(Sharing::DynamicKey { price: None });
    let entries = readings(&mut street, 0);
    street.after(30, &entries);
    assert_eq!(bought(&street, 0), [250, 333, 417]);
    assert_eq!(street.settled(1, 0).matched.local_amount, nano(0));
    assert_eq!(street.settled(2, 0).matched.local_amount, nano(-250 * 10_000));
}

#[test]
fn an_incentive_is_shown_and_never_posted() {
    let sharing = Sharing::Incentive { payment: Price::new(110_000), division: Division::Halves };
    let mut street = street(sharing);
    let entries = readings(&mut street, 0);
    street.after(30, &entries);
    let incentive = [1, 2, 3, 4].map(|number| street.settled(number, 0).incentive.get());
    assert_eq!(incentive, [55_000_000, 13_750_000, 18_333_333, 22_916_667]);
    for number in 1..=4 {
        let settled = street.settled(number, 0);
        assert_eq!(settled.amount, settled.baseline, "its supply is as before");
        assert_eq!(i128::from(street.balance(number) - DEPOSIT), settled.amount.get());
    }
}

#[test]
fn only_the_part_of_a_meter_that_takes_part_is_shared() {
    let mut street = street(Sharing::DynamicKey { price: Some(Price::new(120_000)) });
    let half = change(&mut street, 1, 1, part(0, 500));
    let none = change(&mut street, 4, 1, part(2_000, 0));
    street.after(2, &[half, none]);
    let mut entries = readings(&mut street, 0);
    entries.extend(readings(&mut street, 1));
    street.after(31, &entries);
    street.after(45, &[]);
    assert_eq!(bought(&street, 0), [250, 333, 417], "the interval of the change is shared as before");
    assert_eq!(bought(&street, 1), [214, 286, 0]);
    let seller = street.settled(1, 1);
    assert_eq!((seller.matched.sold, seller.matched.supplier_export), (wh(500), wh(500)));
}

#[test]
fn agreed_shares_never_come_to_more_than_the_whole() {
    let mut street = street(Sharing::StaticKey { price: None, unused: Unused::Lost });
    let more = change(&mut street, 2, 5, part(5_001, 1_000));
    assert_eq!(street.refusal(at(2), &more), EntryError::Shares { sum: 10_001, from: street.interval(5) });
    // What another home gives up from an interval on is free from there on, and not before.
    let less = change(&mut street, 3, 8, part(1_000, 1_000));
    street.after(2, &[less]);
    let early = change(&mut street, 2, 7, part(7_000, 1_000));
    assert_eq!(street.refusal(at(3), &early), EntryError::Shares { sum: 12_000, from: street.interval(7) });
    let right = change(&mut street, 2, 8, part(7_000, 1_000));
    street.after(3, &[right]);
    // And what somebody takes later stands in the way of what is changed now.
    let before = change(&mut street, 4, 6, part(2_001, 1_000));
    assert_eq!(street.refusal(at(4), &before), EntryError::Shares { sum: 10_001, from: street.interval(6) });
    let give = change(&mut street, 2, 6, part(4_000, 1_000));
    street.after(4, &[give]);
    let taken = change(&mut street, 4, 6, part(3_000, 1_000));
    street.after(5, &[taken]);
    let at_interval = |street: &Fixture, offset| {
        [2, 3, 4].map(|number| {
            let member = street.ledger.member(&home(number)).unwrap().clone();
            member.participation_at(street.interval(offset)).share_permyriad
        })
    };
    assert_eq!(at_interval(&street, 5), [5_000, 3_000, 2_000]);
    assert_eq!(at_interval(&street, 6), [4_000, 3_000, 3_000]);
    assert_eq!(at_interval(&street, 9), [4_000, 1_000, 3_000], "the last word of home 2 counts");
}

#[test]
fn a_change_of_shares_needs_both_signatures_and_is_never_backwards() {
    let mut street = street(Sharing::StaticKey { price: None, unused: Unused::Lost });
    let body = |street: &Fixture, from, participation| Body::ParticipationChange {
        home: home(2),
        from: street.interval(from),
        participation,
    };
    let alone = street.verified(body(&street, 5, part(1, 1)), (Use::Member, 2), &[]);
    assert!(matches!(street.refusal(at(2), &alone), EntryError::NotEntitled { needed: "the operator", .. }));
    let foreign = street.verified(body(&street, 5, part(1, 1)), (Use::Member, 3), &[OPERATOR]);
    assert!(matches!(street.refusal(at(2), &foreign), EntryError::NotEntitled { needed: "the member", .. }));
    let backwards = change(&mut street, 2, 0, part(1, 1));
    assert!(matches!(street.refusal(at(2), &backwards), EntryError::Retroactive { .. }));
    for too_much in [part(10_001, 1_000), part(0, 1_001)] {
        let entry = change(&mut street, 2, 5, too_much);
        assert!(matches!(street.refusal(at(2), &entry), EntryError::Malformed { .. }));
    }
}

#[test]
fn a_late_reading_is_the_suppliers_under_a_key_too() {
    let mut street = street(Sharing::DynamicKey { price: Some(Price::new(120_000)) });
    let mut entries = readings(&mut street, 0);
    let late = entries.pop().unwrap();
    street.after(30, &entries);
    assert_eq!(bought(&street, 0), [300, 400, 0]);
    street.after(31, &[late]);
    assert_eq!(street.late(4, 0).amount, nano(-500 * SUPPLIER));
    assert_eq!(street.late(4, 0).incentive, nano(0));
}

/// Two homes that take 500 Wh each, and the root meter's 1 040.
fn lossy(change: impl FnOnce(&mut Genesis)) -> Fixture {
    let mut street = Fixture::with(2, |genesis| {
        genesis.market.losses = Losses::Community;
        change(genesis);
    });
    let entries = [street.read(0, -1, 9_000, 0), street.read(1, -1, 0, 0), street.read(2, -1, 0, 0)];
    street.block(at(1), &entries);
    street
}

#[test]
fn the_community_pays_for_losses_pro_rata_to_imports_where_genesis_says_so() {
    let mut street = lossy(|_| {});
    let entries = [street.read(0, 0, 1_040, 0), street.read(1, 0, 750, 0), street.read(2, 0, 250, 0)];
    let executed = street.after(30, &entries).clone();
    assert_eq!(street.community(0).unwrap().1.losses, Some(40));
    let losses = [1, 2].map(|number| street.settled(number, 0).loss);
    assert_eq!(losses, [nano(-30 * 250_000), nano(-10 * 250_000)]);
    let first = street.settled(1, 0);
    assert_eq!(first.amount, nano(-750 * SUPPLIER - 30 * 250_000));
    assert_eq!(i128::from(street.balance(1) - DEPOSIT), first.amount.get());
    let of_losses = executed.postings.iter().filter(|posting| posting.kind == PostingKind::Loss);
    let amounts: Vec<_> = of_losses.map(|posting| (posting.account.clone(), posting.amount)).collect();
    assert!(amounts.contains(&(Account::Supplier, nano(40 * 250_000))));
    assert_eq!(amounts.len(), 3);
}

#[test]
fn losses_are_only_recorded_where_genesis_does_not_say_so() {
    let mut street = lossy(|genesis| genesis.market.losses = Losses::Recorded);
    let entries = [street.read(0, 0, 1_040, 0), street.read(1, 0, 750, 0), street.read(2, 0, 250, 0)];
    street.after(30, &entries);
    assert_eq!(street.community(0).unwrap().1.losses, Some(40));
    assert_eq!((street.settled(1, 0).loss, street.settled(1, 0).amount), (nano(0), nano(-750 * SUPPLIER)));
}

#[test]
fn with_the_supplier_outside_losses_are_shown_and_not_posted() {
    let mut street = lossy(|genesis| genesis.supplier_leg = SupplierLeg::Outside);
    let entries = [street.read(0, 0, 1_040, 0), street.read(1, 0, 750, 0), street.read(2, 0, 250, 0)];
    let executed = street.after(30, &entries).clone();
    assert_eq!(street.settled(1, 0).loss, nano(-30 * 250_000));
    assert!(executed.postings.is_empty());
}

#[test]
fn nobody_pays_for_losses_that_are_unknown() {
    // A home without a reading …
    let mut street = lossy(|_| {});
    let entries = [street.read(0, 0, 1_040, 0), street.read(1, 0, 750, 0)];
    street.after(30, &entries);
    assert_eq!((street.community(0).unwrap().1.losses, street.settled(1, 0).loss), (None, nano(0)));
    // … or one that left, whose connection is still behind the root meter.
    let mut street = lossy(|_| {});
    let body = Body::Departure { home: home(2), from: street.interval(1) };
    let leaving = street.verified(body, (Use::Member, 2), &[OPERATOR]);
    street.after(2, &[leaving]);
    let entries = [
        street.read(0, 0, 1_040, 0),
        street.read(1, 0, 750, 0),
        street.read(2, 0, 250, 0),
        street.read(0, 1, 1_040, 0),
        street.read(1, 1, 750, 0),
    ];
    street.after(31, &entries);
    street.after(45, &[]);
    assert_eq!(
        (street.community(0).unwrap().1.losses, street.community(1).unwrap().1.losses),
        (Some(40), None)
    );
    assert_eq!(street.settled(1, 1).loss, nano(0));
}

#[test]
fn who_cannot_pay_for_losses_owes_them_to_the_supplier() {
    let mut street = lossy(|genesis| genesis.members[1].deposit = Balance::new(250 * 300_000 + 1));
    let entries = [street.read(0, 0, 1_040, 0), street.read(1, 0, 750, 0), street.read(2, 0, 250, 0)];
    street.after(30, &entries);
    let poor = street.settled(2, 0);
    assert_eq!((poor.claim, street.balance(2)), (nano(10 * 250_000 - 1), 0));
    let owed = street.ledger.claim(&account(2), &Account::Supplier).get();
    assert_eq!(i128::from(owed), poor.claim.get());
}

#[test]
fn terms_of_sharing_that_cannot_be_are_refused_in_genesis() {
    let fault = |change: &dyn Fn(&mut Genesis)| {
        let mut genesis = genesis(4);
        change(&mut genesis);
        Ledger::genesis(&genesis).unwrap_err()
    };
    let says = |error: &GenesisError, text: &str| assert!(error.to_string().contains(text), "{error}");
    for sharing in [
        Sharing::StaticKey { price: Some(Price::new(-1)), unused: Unused::Lost },
        Sharing::DynamicKey { price: Some(Price::new(1_000_000_001)) },
        Sharing::Incentive { payment: Price::new(-1), division: Division::Producers },
    ] {
        says(&fault(&|genesis| genesis.market.sharing = sharing), "market.sharing_price");
    }
    says(
        &fault(&|genesis| {
            genesis.market.losses = Losses::Community;
            genesis.root_meter = None;
        }),
        "no root_meter",
    );
    says(
        &fault(&|genesis| {
            genesis.members.iter_mut().for_each(|member| member.participation = part(2_501, 1_000));
        }),
        "home h004 has an agreed share with which all add up to more than 10 000",
    );
    says(&fault(&|genesis| genesis.members[1].participation = part(0, 1_001)), "more than all");
}

#[test]
fn the_order_of_entries_of_different_homes_does_not_change_what_is_shared() {
    let mut street =
        street(Sharing::StaticKey { price: Some(Price::new(120_000)), unused: Unused::PassedOn });
    let mut entries = vec![
        change(&mut street, 2, 1, part(4_000, 900)),
        change(&mut street, 3, 1, part(3_000, 800)),
        change(&mut street, 4, 1, part(1_500, 1_000)),
    ];
    let root = street.ledger.propose(at(5), &entries).unwrap().executed.ledger.state_root();
    for _ in 0..3 {
        entries.rotate_left(1);
        assert_eq!(street.ledger.propose(at(5), &entries).unwrap().executed.ledger.state_root(), root);
    }
}
