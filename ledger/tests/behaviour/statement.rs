use energy::Balance;
use ledger::{Body, EntryError, Genesis, Ledger, MoneyMode};
use market::Account;

use crate::fixture::*;

/// Homes without any money, and so much credit.
fn street(homes: u8, credit: i64) -> Fixture {
    let mut street = Fixture::with(homes, |genesis| {
        genesis.market.money = MoneyMode::Statement { credit: Balance::new(credit) };
        genesis.members.iter_mut().for_each(|member| member.deposit = Balance::ZERO);
    });
    street.baselines(homes);
    street
}

fn transfer(street: &mut Fixture, number: u8, amount: i64) -> ledger::VerifiedEntry {
    let (home, reference) = (Some(home(number)), "July".to_owned());
    if amount > 0 {
        let body = Body::Deposit { home, amount: Balance::new(amount), reference };
        return street.verified(body, TREASURER, &[AUDITOR]);
    }
    let body = Body::Withdrawal { home, amount: Balance::new(-amount), reference };
    street.verified(body, TREASURER, &[(Use::Member, number), AUDITOR])
}

#[test]
fn a_home_buys_on_credit_and_only_what_is_beyond_it_becomes_a_claim() {
    // Enough credit for 100 Wh of a neighbour's energy wherever it comes from (215 000 a kWh), and 1 n.
    let credit = 100 * 215_000 + 1;
    let mut street = street(2, credit);
    let entries = [street.read(1, 0, 0, 1_000), street.read(2, 0, 1_000, 0)];
    street.after(30, &entries);
    let buyer = street.settled(2, 0);
    assert_eq!((buyer.matched.bought, street.balance(2)), (wh(100), -credit));
    let owed = 900 * 300_000 - 100 * 40_000 - 1;
    assert_eq!(street.ledger.claim(&account(2), &Account::Supplier).get(), owed);
    assert_eq!(street.balance(1), 100 * 165_000 + 900 * 80_000, "whoever sold is paid in full");
    // Nothing is left of the credit.
    let entries = [street.read(1, 1, 0, 1_000), street.read(2, 1, 10, 0)];
    street.after(45, &entries);
    assert_eq!((street.settled(2, 1).matched.bought, street.balance(2)), (wh(0), -credit));
    // What is paid in pays the claim first, then the credit.
    let claim = owed + 10 * 300_000;
    let first = transfer(&mut street, 2, claim);
    street.after(46, &[first]);
    assert_eq!((street.balance(2), street.ledger.claim(&account(2), &Account::Supplier).get()), (-credit, 0));
    let second = transfer(&mut street, 2, credit);
    street.after(47, &[second]);
    assert_eq!(street.balance(2), 0);
}

#[test]
fn a_months_netting_is_a_deposit_from_each_debtor_and_a_withdrawal_to_each_creditor() {
    let mut street = street(2, 1_000_000_000_000);
    let entries = [street.read(1, 0, 0, 1_000), street.read(2, 0, 1_000, 0)];
    street.after(30, &entries);
    let (due, debt) = (street.balance(1), -street.balance(2));
    assert_eq!((due, debt), (1_000 * 165_000, 1_000 * 175_000));
    // Nobody has paid in yet: there is nothing to pay out from.
    let early = transfer(&mut street, 1, -due);
    assert!(matches!(street.refusal(at(31), &early), EntryError::NotPaidIn { .. }));
    let settle = [transfer(&mut street, 2, debt), transfer(&mut street, 1, -due)];
    street.after(31, &settle);
    assert_eq!((street.balance(1), street.balance(2)), (0, 0));
    assert_eq!(street.ledger.balance(&Account::Network).get(), 1_000 * 10_000);
    assert_eq!(street.ledger.balance(&Account::Deposits).get(), -1_000 * 10_000);
}

#[test]
fn credit_is_for_energy_and_is_never_paid_out() {
    let mut street = street(2, 1_000_000_000);
    let paid_in = transfer(&mut street, 1, 500);
    street.after(2, &[paid_in]);
    let over = transfer(&mut street, 1, -501);
    let (free, needed) = (nano(500), nano(501));
    assert_eq!(street.refusal(at(3), &over), EntryError::NoFunds { free, needed });
    let own = transfer(&mut street, 1, -500);
    street.after(3, &[own]);
}

#[test]
fn orders_are_taken_against_credit_and_no_further() {
    let mut street = Fixture::with(2, |genesis| {
        genesis.forward = ledger::Forward::Auction;
        genesis.market.money = MoneyMode::Statement { credit: Balance::new(200_000_000) };
        genesis.members.iter_mut().for_each(|member| member.deposit = Balance::ZERO);
    });
    street.baselines(2);
    let buy = |street: &mut Fixture, quantity| {
        let order = ledger::Order {
            home: home(2),
            interval: street.interval(3),
            side: market::Side::Buy,
            price: energy::Price::new(200_000),
            quantity: wh(quantity),
            replaces: None,
        };
        street.verified(Body::Order(order), (Use::Member, 2), &[])
    };
    let over = buy(&mut street, 1_001);
    assert!(matches!(street.refusal(at(2), &over), EntryError::NoFunds { .. }));
    let whole = buy(&mut street, 1_000);
    street.after(2, &[whole]);
    assert_eq!(street.ledger.reserved(&home(2)).get(), 200_000_000);
}

#[test]
fn credit_has_its_bounds_in_genesis_and_prepaid_members_have_none() {
    let fault = |credit: i64| {
        let mut genesis: Genesis = genesis(2);
        genesis.market.money = MoneyMode::Statement { credit: Balance::new(credit) };
        Ledger::genesis(&genesis)
    };
    for credit in [0, -1, 1_000_000_000_000_001] {
        assert!(fault(credit).unwrap_err().to_string().contains("market.credit"));
    }
    assert!(fault(1_000_000_000_000_000).is_ok());
    assert_eq!(MoneyMode::Prepaid.credit(), Balance::ZERO);
}
