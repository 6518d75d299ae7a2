//! A home that settles without its neighbours: late readings and corrections.

use energy::{Money, Price, WattHours};

use super::book::Book;
use super::{
    Account, HomeSettlement, Metered, Posting, PostingKind, SettleHome, SupplierLeg, check_position,
};
use crate::error::check_price;
use crate::matching::{SupplierBill, own_tariff};
use crate::{HomeMatch, MarketError, Sharing, Terms};

/// Settles a reading that came after its interval was settled without it: what it says beyond the position, with the
/// supplier alone, whatever the rule of sharing; no incentive and no losses. The position is not posted again. Without a
/// reading nothing moves.
///
/// With neighbour matching being late never pays, since no home is worse off with its neighbours. A key at a fixed price (or
/// none) can leave a home worse off than its supplier does; there, readings had better come from the metering operator, whose
/// time of delivery a home cannot choose.
///
/// # Errors
/// [`MarketError`]: a price out of range, a position with two sides, a free balance below zero.
pub fn settle_late<Id: Ord + Clone>(
    terms: &Terms<'_>,
    home: &SettleHome<Id>,
) -> Result<(HomeSettlement, Vec<Posting<Id>>), MarketError> {
    check_alone(terms, home)?;
    check_position(home, 0)?;
    let rest = home.metered.map_or(Ok(Metered::default()), |metered| home.position.rest(metered))?;
    let own = own_tariff(&terms.tariff, home.import_price, home.export_price);
    let bill = SupplierBill::of(terms.network, home.node, &own, rest.import, rest.export)?;
    let (claim, postings) = post_alone(terms.leg, home, PostingKind::Late, bill.home, bill.fees)?;
    let matched = HomeMatch {
        supplier_import: rest.import,
        supplier_export: rest.export,
        supplier_amount: bill.home,
        ..HomeMatch::default()
    };
    let (metered, position, loss, incentive) = (home.metered, home.position, Money::ZERO, Money::ZERO);
    Ok((HomeSettlement { metered, position, matched, loss, incentive, claim }, postings))
}

/// Settles the difference that a correction makes to a settled interval, with the supplier, at the price worse for the
/// home: otherwise correcting would pay. Returns what the home receives, what of it remains a claim, and the postings. Terms
/// and home are those of the corrected interval.
///
/// More import costs the dearer of the supplier's and the local price at the far end of the network; less is refunded at
/// the cheaper of the supplier's and the local price next door. More export earns the worse, less pays back the better.
/// Network fees are charged on energy added and stay with the network on energy taken back.
///
/// The local price is M between neighbours, and with a key its fixed price, or zero without one: energy that cost nothing is
/// not refunded. It counts only where the home could have had it: not with a meter that takes no part, not for import where
/// its agreed share is zero, and not with an incentive. An incentive and losses are not computed again.
///
/// # Errors
/// [`MarketError`]: a price out of range, a free balance below zero.
pub fn settle_correction<Id: Ord + Clone>(
    terms: &Terms<'_>,
    home: &SettleHome<Id>,
    import_delta: i64,
    export_delta: i64,
) -> Result<(Money, Money, Vec<Posting<Id>>), MarketError> {
    check_alone(terms, home)?;
    let network = terms.network;
    let (fee_up, fee_down) = (network.fee_up_to_root(home.node), network.fee_down_from_root(home.node));
    let own = own_tariff(&terms.tariff, home.import_price, home.export_price);
    let (import, export) = (own.import_price.add(fee_down)?, own.export_price.sub(fee_up)?);
    let import_energy = WattHours::new(import_delta.unsigned_abs());
    let export_energy = WattHours::new(export_delta.unsigned_abs());
    let (buys_at, sells_at) = local_prices(terms, home);
    let (for_import, import_fee) = if import_delta > 0 {
        let local = buys_at.map_or(Ok(import), |local| local.add(fee_down))?;
        (import.max(local).cost_of(import_energy)?.neg()?, fee_down.cost_of(import_energy)?)
    } else {
        (import.min(buys_at.unwrap_or(import)).cost_of(import_energy)?, Money::ZERO)
    };
    let (for_export, export_fee) = if export_delta > 0 {
        let local = sells_at.map_or(Ok(export), |local| local.sub(fee_up))?;
        (export.min(local).cost_of(export_energy)?, fee_up.cost_of(export_energy)?)
    } else {
        (export.max(sells_at.unwrap_or(export)).cost_of(export_energy)?.neg()?, Money::ZERO)
    };
    let amount = for_import.add(for_export)?;
    let fees = import_fee.add(export_fee)?;
    let (claim, postings) = post_alone(terms.leg, home, PostingKind::Correction, amount, fees)?;
    Ok((amount, claim, postings))
}

/// The local price at which a home could have bought, and sold; `None` where it could not.
fn local_prices<Id>(terms: &Terms<'_>, home: &SettleHome<Id>) -> (Option<Price>, Option<Price>) {
    let local = terms.local_price().filter(|_| home.participation_permille > 0);
    let has_share = !matches!(terms.sharing, Sharing::StaticKey { .. }) || home.share_permyriad > 0;
    (local.filter(|_| has_share), local)
}

/// Checks a home that settles without its neighbours.
fn check_alone<Id>(terms: &Terms<'_>, home: &SettleHome<Id>) -> Result<(), MarketError> {
    terms.check()?;
    for (field, price) in [("import_price", home.import_price), ("export_price", home.export_price)] {
        check_price("home", 0, field, price.unwrap_or(Price::ZERO))?;
    }
    if terms.network.rank_of(home.node).is_none() {
        let (node, nodes) = (home.node.get(), terms.network.len());
        return Err(MarketError::UnknownNode { what: "home", index: 0, node, nodes });
    }
    if home.free_balance.is_negative() {
        return Err(MarketError::NegativeBalance { index: 0 });
    }
    Ok(())
}

/// Posts what one home settles with its supplier alone; `fees` of it go to the network. Returns the claim too.
fn post_alone<Id: Ord + Clone>(
    leg: SupplierLeg,
    home: &SettleHome<Id>,
    kind: PostingKind,
    amount: Money,
    fees: Money,
) -> Result<(Money, Vec<Posting<Id>>), MarketError> {
    if leg == SupplierLeg::Outside {
        return Ok((Money::ZERO, vec![]));
    }
    let mut book = Book::default();
    let claim = book.post_due(&home.id, kind, amount, home.free_balance)?;
    let supplier = book.paid(kind)?.sub(fees)?;
    book.post(Account::Network, kind, fees);
    book.post(Account::Supplier, kind, supplier);
    Ok((claim, book.close()))
}
