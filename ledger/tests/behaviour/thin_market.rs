//! What one order can do in a small market: to a posted price nothing, to an auction's price a bounded thing (the bounds, and
//! why, are those of the market's own tests; here they hold on the ledger, with its gates, freezes and cancels).

use energy::{NodeId, Price, WattHours};
use ledger::{EntryError, Forward, OrderOutcome, VerifiedEntry};
use market::Side;

use crate::fixture::*;
use crate::forward::{MIDDLE, Wanted, cancel, gate, limit, order, orders, result_of, street_of, wanted};
use crate::histories::Dice;

/// One order of each of `homes` homes, the fixture's 80 000 to 300 000 as limits.
fn book(dice: &mut Dice, homes: u8) -> Vec<Wanted> {
    let one = |number| {
        let side = if dice.one_in(2) { Side::Buy } else { Side::Sell };
        let price = 80_000 + i64::try_from(dice.roll(221)).unwrap() * 1_000;
        wanted(number, side, price, 100 + 50 * dice.roll(11))
    };
    (1..=homes).map(one).collect()
}

/// What is tried: an order placed early and taken back as late as that is allowed, one in the gate block itself, or none.
#[derive(Debug, Clone, Copy)]
enum Trick {
    None,
    Decoy(Wanted),
    LastSecond(Wanted),
}

/// Homes 1 to `homes` trade by `book` and one more tries its trick; the results of the orders in the book.
fn played(
    forward: Forward,
    homes: u8,
    one_feeder: bool,
    book: &[Wanted],
    trick: Trick,
) -> (Fixture, Vec<OrderOutcome>) {
    let mut street = street_of(homes + 1, forward, |genesis| {
        for member in genesis.members.iter_mut().filter(|_| one_feeder) {
            member.admission.node = NodeId::new("f1").unwrap();
        }
    });
    // Signed first, so that ids, which break ties, are the same whatever the trick.
    let entries = orders(&mut street, book);
    let gate_block: Vec<VerifiedEntry> = match trick {
        Trick::Decoy(decoy) => {
            let decoy = order(&mut street, &decoy);
            street.after(3, &[&entries[..], std::slice::from_ref(&decoy)].concat());
            let back = cancel(&mut street, homes + 1, decoy.id());
            assert!(
                limit(&street.refusal(at(20), &back)).starts_with("no cancel"),
                "a moment later it is firm"
            );
            street.after(19, &[back]);
            vec![]
        }
        Trick::LastSecond(late) => {
            street.after(3, &entries);
            vec![order(&mut street, &late)]
        }
        Trick::None => {
            street.after(3, &entries);
            vec![]
        }
    };
    street.after(25, &gate_block);
    let results = entries.iter().map(|order| result_of(&street, order)).collect();
    (street, results)
}

/// Every seller has M of the interval; every buyer pays it, and its feeder's fee for what came from the other one.
fn check_posted_price(street: &Fixture, results: &[OrderOutcome], one_feeder: bool) {
    assert_eq!(gate(street, 2).unwrap().price, Some(Price::new(MIDDLE)));
    for of in results {
        let (filled, middle) = (i128::from(of.filled.get()), i128::from(MIDDLE));
        if of.side == Side::Sell {
            assert_eq!(of.amount.get(), filled * middle);
        } else {
            let fees = -of.amount.get() - filled * middle;
            assert_eq!(fees % 10_000, 0);
            assert!((0..=filled * 10_000).contains(&fees) && (!one_feeder || fees == 0), "{of:?}");
        }
    }
}

#[test]
fn in_a_posted_market_no_decoy_withheld_or_last_second_order_moves_the_price() {
    let (mut dice, mut traded) = (Dice::new(7), 0);
    for turn in 0..10 {
        let (homes, one_feeder) = (4 + turn % 5, turn % 2 == 0);
        let book = book(&mut dice, homes);
        let (street, plain) = played(Forward::Posted, homes, one_feeder, &book, Trick::None);
        check_posted_price(&street, &plain, one_feeder);
        traded += usize::from(plain.iter().any(|of| of.filled > WattHours::ZERO));
        for (side, price) in
            [(Side::Sell, 80_000), (Side::Buy, 300_000), (Side::Sell, 300_000), (Side::Buy, 80_000)]
        {
            for quantity in [100, 1_000_000] {
                let extra = wanted(homes + 1, side, price, quantity);
                let (street, results) =
                    played(Forward::Posted, homes, one_feeder, &book, Trick::LastSecond(extra));
                check_posted_price(&street, &results, one_feeder);
                let (_, results) = played(Forward::Posted, homes, one_feeder, &book, Trick::Decoy(extra));
                assert_eq!(results, plain, "what was taken back in time leaves nothing behind");
            }
        }
        let (street, less) = played(Forward::Posted, homes, one_feeder, &book[1..], Trick::None);
        check_posted_price(&street, &less, one_feeder);
    }
    assert!(traded > 4, "{traded}");
}

#[test]
fn an_order_of_one_watt_hour_does_not_exist() {
    let mut street = street_of(2, Forward::Auction, |_| ());
    let tiny = order(&mut street, &wanted(1, Side::Sell, 80_000, 1));
    let refused = EntryError::OrderLimits { what: "an order is for at least 100 Wh" };
    assert_eq!(street.refusal(at(3), &tiny), refused);
}

/// A book at one node, Wh by Wh: what sellers ask and what buyers would give up for, in order. The first of them are used, as
/// many as buyers want.
struct UnitBook {
    prices: Vec<i64>,
    used: usize,
}

impl UnitBook {
    fn of(book: &[Wanted]) -> Self {
        let count = |of: &Wanted| usize::try_from(of.quantity).unwrap();
        let each = book.iter().flat_map(|of| std::iter::repeat_n(of.price, count(of)));
        let mut prices: Vec<i64> = each.collect();
        prices.sort_unstable();
        Self { prices, used: book.iter().filter(|of| of.side == Side::Buy).map(count).sum() }
    }

    /// The price of the last Wh used but `skip`.
    fn used(&self, skip: usize) -> Option<i64> {
        self.used.checked_sub(1 + skip).and_then(|place| self.prices.get(place)).copied()
    }

    /// The price of the first Wh unused after `skip`.
    fn unused(&self, skip: usize) -> Option<i64> {
        self.prices.get(self.used + skip).copied()
    }
}

fn auction_price(street: &Fixture) -> Option<i64> {
    let feeder = street.ledger.network().index_of(&NodeId::new("f1").unwrap()).unwrap();
    gate(street, 2).unwrap().node_prices[feeder.get()].map(Price::get)
}

#[test]
fn in_an_auction_an_order_moves_the_price_no_further_than_its_own_energy_reaches() {
    let (mut dice, mut moved) = (Dice::new(11), 0);
    for turn in 0..24 {
        let homes = 3 + turn % 6;
        let book = book(&mut dice, homes);
        let units = UnitBook::of(&book);
        let (street, plain) = played(Forward::Auction, homes, true, &book, Trick::None);
        let before = auction_price(&street).unwrap();
        let price = [80_000, 300_000, 80_000 + i64::try_from(dice.roll(220_000)).unwrap()];
        let quantity = 100 + dice.roll(300);
        let reach = usize::try_from(quantity).unwrap();
        for (side, price) in
            [Side::Buy, Side::Sell].into_iter().flat_map(|side| price.map(|price| (side, price)))
        {
            let extra = wanted(homes + 1, side, price, quantity);
            let (street, _) = played(Forward::Auction, homes, true, &book, Trick::LastSecond(extra));
            let after = auction_price(&street).unwrap();
            let (down, up) = if side == Side::Buy { (0, reach) } else { (reach, 0) };
            assert!(units.used(down).is_none_or(|lowest| lowest <= after), "{turn} {extra:?} {after}");
            assert!(units.unused(up).is_none_or(|highest| after <= highest), "{turn} {extra:?} {after}");
            moved += usize::from(after != before);
            let (_, results) = played(Forward::Auction, homes, true, &book, Trick::Decoy(extra));
            assert_eq!(results, plain);
        }
        for of in &plain {
            let value = i128::from(of.filled.get()) * i128::from(before);
            assert_eq!(of.amount.get(), if of.side == Side::Sell { value } else { -value });
        }
    }
    // That it can be moved is why small communities post their price.
    assert!(moved > 20, "{moved}");
}
