use energy::{Balance, Price};
use ledger::{Body, EntryError, VerifiedEntry};
use market::{Account, PostingKind, SupplierLeg};

use crate::fixture::*;

fn deposit(street: &mut Fixture, number: u8, amount: i64, others: &[(Use, u8)]) -> VerifiedEntry {
    let body = Body::Deposit {
        home: Some(home(number)),
        amount: Balance::new(amount),
        reference: "REF 1".to_owned(),
    };
    street.verified(body, TREASURER, others)
}

fn withdrawal(street: &mut Fixture, number: u8, amount: i64, others: &[(Use, u8)]) -> VerifiedEntry {
    let body =
        Body::Withdrawal { home: Some(home(number)), amount: Balance::new(amount), reference: String::new() };
    street.verified(body, TREASURER, others)
}

fn bank(street: &mut Fixture, amount: i64, others: &[(Use, u8)]) -> VerifiedEntry {
    street.verified(Body::BankBalance { amount: Balance::new(amount) }, TREASURER, others)
}

/// A street whose homes have `deposits`.
fn street_with(deposits: &[i64], credit: i64) -> Fixture {
    let homes = u8::try_from(deposits.len()).unwrap();
    let mut street = Fixture::with(homes, |genesis| {
        genesis.supplier_credit = Balance::new(credit);
        for (member, deposit) in genesis.members.iter_mut().zip(deposits) {
            member.deposit = Balance::new(*deposit);
        }
    });
    street.baselines(homes);
    street
}

fn claim(street: &Fixture, number: u8) -> i64 {
    street.ledger.claim(&account(number), &Account::Supplier).get()
}

fn claim_on_supplier(street: &Fixture, creditor: &Account<energy::HomeId>) -> i64 {
    street.ledger.claim(&Account::Supplier, creditor).get()
}

#[test]
fn genesis_deposits_stand_on_the_accounts_and_sum_to_zero_with_their_counter_account() {
    let street = Fixture::new(3);
    assert_eq!(street.balance(1), DEPOSIT);
    assert_eq!(street.ledger.balance(&Account::Deposits).get(), -3 * DEPOSIT);
    assert_eq!(ledger::money_on_accounts(&street.ledger), nano(3 * i128::from(DEPOSIT)));
}

#[test]
fn a_deposit_is_the_treasurers_and_above_the_limit_the_auditors_too() {
    let mut street = Fixture::new(2);
    let alone = deposit(&mut street, 1, TRANSFER_MAX, &[]);
    let executed = street.block(at(1), &[alone]);
    let kinds: Vec<_> = executed.postings.iter().map(|of| (of.kind, of.amount)).collect();
    let amount = nano(i128::from(TRANSFER_MAX));
    assert_eq!(kinds, [(PostingKind::Deposit, amount), (PostingKind::Deposit, amount.neg().unwrap())]);
    assert_eq!(street.balance(1), DEPOSIT + TRANSFER_MAX);
    let large = deposit(&mut street, 1, TRANSFER_MAX + 1, &[]);
    assert!(matches!(street.refusal(at(2), &large), EntryError::NotEntitled { kind: "deposit", .. }));
    let large = deposit(&mut street, 1, TRANSFER_MAX + 1, &[OPERATOR]);
    assert!(matches!(street.refusal(at(2), &large), EntryError::NotEntitled { .. }));
    let large = deposit(&mut street, 1, TRANSFER_MAX + 1, &[AUDITOR]);
    assert!(street.ledger.check(&large, at(2)).is_ok());
    for amount in [0, -1, i64::MIN] {
        let nothing = deposit(&mut street, 1, amount, &[]);
        assert_eq!(street.refusal(at(2), &nothing), EntryError::NoAmount);
    }
    let body = Body::Deposit { home: Some(home(1)), amount: Balance::new(5), reference: String::new() };
    let member = street.verified(body, (Use::Member, 1), &[TREASURER]);
    assert!(matches!(
        street.refusal(at(2), &member),
        EntryError::NotEntitled { needed: "the treasurer", .. }
    ));
    let unknown = deposit(&mut street, 9, 5, &[]);
    assert_eq!(street.refusal(at(2), &unknown), EntryError::UnknownHome { home: home(9) });
}

#[test]
fn more_money_than_accounts_can_hold_is_refused() {
    let mut street = Fixture::new(2);
    let all = 4_000_000_000_000_000_000 - 2 * DEPOSIT;
    let over = deposit(&mut street, 1, all + 1, &[AUDITOR]);
    assert!(matches!(street.refusal(at(1), &over), EntryError::TooMuchMoney { .. }));
    let just = deposit(&mut street, 1, all, &[AUDITOR]);
    street.block(at(1), &[just]);
}

#[test]
fn a_withdrawal_needs_treasurer_and_member_and_the_money() {
    let mut street = Fixture::new(2);
    let alone = withdrawal(&mut street, 1, 5, &[]);
    assert!(matches!(street.refusal(at(1), &alone), EntryError::NotEntitled { needed: "the member", .. }));
    let neighbour = withdrawal(&mut street, 1, 5, &[(Use::Member, 2)]);
    assert!(matches!(
        street.refusal(at(1), &neighbour),
        EntryError::NotEntitled { needed: "the member", .. }
    ));
    let large = withdrawal(&mut street, 1, DEPOSIT, &[(Use::Member, 1)]);
    assert!(matches!(street.refusal(at(1), &large), EntryError::NotEntitled { kind: "withdrawal", .. }));
    let over = withdrawal(&mut street, 1, DEPOSIT + 1, &[(Use::Member, 1), AUDITOR]);
    let (free, needed) = (nano(i128::from(DEPOSIT)), nano(i128::from(DEPOSIT) + 1));
    assert_eq!(street.refusal(at(1), &over), EntryError::NoFunds { free, needed });
    let all = withdrawal(&mut street, 1, DEPOSIT, &[(Use::Member, 1), AUDITOR]);
    street.block(at(1), &[all]);
    assert_eq!((street.balance(1), street.ledger.balance(&Account::Deposits).get()), (0, -DEPOSIT));
}

#[test]
fn the_supplier_is_paid_out_with_the_operator_and_never_from_its_credit() {
    let mut street = Fixture::new(2);
    let body =
        |amount| Body::Withdrawal { home: None, amount: Balance::new(amount), reference: String::new() };
    let borrowed = street.verified(body(1), TREASURER, &[OPERATOR]);
    assert!(matches!(street.refusal(at(1), &borrowed), EntryError::NoFunds { .. }));
    street.baselines(2);
    let entry = street.read(1, 0, 100, 0);
    street.after(30, &[entry]);
    let earned = street.ledger.balance(&Account::Supplier).get();
    assert_eq!(earned, 100 * 250_000);
    let alone = street.verified(body(earned), TREASURER, &[]);
    assert!(matches!(street.refusal(at(31), &alone), EntryError::NotEntitled { needed: "the operator", .. }));
    let both = street.verified(body(earned), TREASURER, &[OPERATOR]);
    street.block(at(31), &[both]);
    assert_eq!(street.ledger.balance(&Account::Supplier).get(), 0);
}

#[test]
fn a_bank_balance_below_the_accounts_stops_withdrawals_until_it_is_attested_again() {
    let mut street = Fixture::new(2);
    let alone = bank(&mut street, 0, &[]);
    assert!(matches!(street.refusal(at(1), &alone), EntryError::NotEntitled { needed: "the auditor", .. }));
    let short = bank(&mut street, 2 * DEPOSIT - 1, &[AUDITOR]);
    assert_eq!(street.ledger.bank_shortfall(), None, "nothing was attested yet");
    street.block(at(1), &[short]);
    assert_eq!(street.ledger.bank_shortfall(), Some(nano(1)));
    let out = withdrawal(&mut street, 1, 5, &[(Use::Member, 1)]);
    assert_eq!(
        street.refusal(at(2), &out).to_string(),
        "pay-outs are stopped: the accounts add up to 2000000000000 n, the bank holds 1999999999999 n"
    );
    let whole = bank(&mut street, 2 * DEPOSIT, &[AUDITOR]);
    let out = withdrawal(&mut street, 1, 5, &[(Use::Member, 1)]);
    street.block(at(2), &[whole, out]);
    assert_eq!(street.ledger.bank_shortfall(), None);
    assert_eq!(street.balance(1), DEPOSIT - 5);
}

#[test]
fn a_home_without_funds_buys_what_it_can_pay_and_owes_its_supplier_the_rest() {
    // Enough for 100 Wh of a neighbour's energy wherever it comes from (215 000 a kWh from the root), and 1 n.
    let mut street = street_with(&[DEPOSIT, 100 * 215_000 + 1], DEPOSIT);
    let entries = [street.read(1, 0, 0, 1_000), street.read(2, 0, 1_000, 0)];
    street.after(30, &entries);
    let poor = street.settled(2, 0);
    // They come from the next feeder, for 175 000. What is left pays part of the supplier's 900 Wh at 300 000.
    let owed = 900 * 300_000 - 100 * 40_000 - 1;
    assert_eq!((poor.matched.bought, poor.matched.supplier_import), (wh(100), wh(900)));
    assert_eq!(poor.claim, nano(i128::from(owed)));
    assert_eq!((street.balance(2), claim(&street, 2)), (0, owed));
    assert_eq!(street.settled(1, 0).matched.sold, wh(100));
    // Next interval it can buy nothing.
    let entries = [street.read(1, 1, 0, 1_000), street.read(2, 1, 10, 0)];
    street.after(45, &entries);
    assert_eq!((street.settled(2, 1).matched.bought, claim(&street, 2)), (wh(0), owed + 10 * 300_000));
    // A deposit pays the claim first, part of it …
    let first = deposit(&mut street, 2, owed, &[]);
    let supplier = street.ledger.balance(&Account::Supplier).get();
    street.after(46, &[first]);
    assert_eq!((street.balance(2), claim(&street, 2)), (0, 10 * 300_000));
    assert_eq!(street.ledger.balance(&Account::Supplier).get(), supplier + owed);
    // … and the rest, before anything stays on the account.
    let second = deposit(&mut street, 2, 10 * 300_000 + 7, &[]);
    street.block(at(47), &[second]);
    assert_eq!((street.balance(2), claim(&street, 2)), (7, 0));
}

#[test]
fn whoever_owes_its_supplier_pays_that_before_it_takes_money_out() {
    let mut street = street_with(&[DEPOSIT, 0], DEPOSIT);
    let entries = [street.read(1, 0, 0, 0), street.read(2, 0, 100, 0)];
    street.after(30, &entries);
    let owed = 100 * 300_000;
    assert_eq!(claim(&street, 2), owed);
    let entries = [street.read(1, 1, 500, 0), street.read(2, 1, 0, 500)];
    street.after(45, &entries);
    let earned = 500 * 165_000;
    assert_eq!((street.balance(2), claim(&street, 2)), (earned, owed));
    let all = withdrawal(&mut street, 2, earned, &[(Use::Member, 2)]);
    let (free, needed) = (nano(i128::from(earned - owed)), nano(i128::from(earned)));
    assert_eq!(street.refusal(at(46), &all), EntryError::NoFunds { free, needed });
    let rest = withdrawal(&mut street, 2, earned - owed, &[(Use::Member, 2)]);
    street.after(46, &[rest]);
    assert_eq!((street.balance(2), claim(&street, 2)), (0, 0));
}

#[test]
fn the_supplier_pays_to_its_credit_limit_and_the_rest_from_what_it_receives_next() {
    let mut street = street_with(&[DEPOSIT, DEPOSIT], 5_000_000);
    let entries = [street.read(1, 0, 0, 100), street.read(2, 0, 0, 0)];
    street.after(30, &entries);
    let owed = 100 * 80_000 - 5_000_000;
    assert_eq!(street.settled(1, 0).amount, nano(8_000_000), "what it is due does not depend on who can pay");
    assert_eq!(street.ledger.balance(&Account::Supplier).get(), -5_000_000);
    assert_eq!((street.balance(1), claim_on_supplier(&street, &account(1))), (DEPOSIT + 5_000_000, owed));
    // Ten Wh bought by home 2 bring the supplier 2 500 000 net of fees: it goes to home 1, not into the supplier's pocket.
    let entries = [street.read(1, 1, 0, 0), street.read(2, 1, 10, 0)];
    street.after(45, &entries);
    assert_eq!(street.ledger.balance(&Account::Supplier).get(), -5_000_000);
    assert_eq!(claim_on_supplier(&street, &account(1)), owed - 2_500_000);
    let body = Body::Deposit { home: None, amount: Balance::new(10_000_000), reference: String::new() };
    let paid_in = street.verified(body, TREASURER, &[]);
    street.after(46, &[paid_in]);
    assert_eq!(claim_on_supplier(&street, &account(1)), 0);
    assert_eq!(street.balance(1), DEPOSIT + 8_000_000);
    assert_eq!(street.ledger.balance(&Account::Supplier).get(), 4_500_000);
}

#[test]
fn the_credit_limit_holds_for_late_readings_and_corrections_too() {
    let mut street = street_with(&[DEPOSIT, DEPOSIT], 1_000_000);
    street.after(30, &[]);
    let late = street.read(1, 0, 0, 100);
    street.block(at(31), &[late]);
    assert_eq!(street.ledger.balance(&Account::Supplier).get(), -1_000_000);
    assert_eq!(claim_on_supplier(&street, &account(1)), 7_000_000);
    let interval = street.interval(0);
    let body = Body::Correction { home: home(2), interval, import_delta: 0, export_delta: 10 };
    let correction = street.verified(body, METERING, &[OPERATOR]);
    let nothing = street.read(2, 0, 0, 0);
    street.block(at(32), &[nothing, correction]);
    assert_eq!(street.ledger.balance(&Account::Supplier).get(), -1_000_000);
    assert_eq!(claim_on_supplier(&street, &account(2)), 800_000);
    assert_eq!(street.outcome(2, 0, ledger::OutcomeKind::Correction).amount, nano(800_000));
}

#[test]
fn fees_on_local_energy_are_the_networks_whatever_the_supplier_can_pay() {
    let mut street = street_with(&[DEPOSIT, DEPOSIT], 0);
    let entries = [street.read(1, 0, 0, 300), street.read(2, 0, 100, 0)];
    street.after(30, &entries);
    assert_eq!(street.ledger.balance(&Account::Network).get(), 100 * 10_000);
    assert_eq!(claim_on_supplier(&street, &account(1)), 200 * 80_000);
    assert_eq!(street.balance(1), DEPOSIT + 100 * 165_000);
}

#[test]
fn an_absurd_bill_stops_nobody_elses_settlement() {
    // The dearest price, the most energy, no money: claims grow, everything else goes on.
    let mut street = Fixture::with(3, |genesis| {
        genesis.supplier_leg = SupplierLeg::Ledger;
        genesis.caps.price_max = Price::new(1_000_000_000);
        genesis.tariff = tariff(1_000_000_000, 0);
        genesis.members[2].deposit = Balance::ZERO;
    });
    street.baselines(3);
    for offset in 0..3 {
        let entries = [
            street.read(1, offset, 0, 1),
            street.read(2, offset, 1, 0),
            street.read(3, offset, 1_000_000, 0),
        ];
        street.after(u64::try_from(offset).unwrap() * 15 + 30, &entries);
    }
    assert_eq!(claim(&street, 3), 3 * 1_000_000 * 1_000_050_000);
    assert_eq!(street.settled(2, 2).matched.bought, wh(1));
}
