//! One interval's money: forward positions, matching and the supplier's leg, as postings that sum to zero.
//!
//! For every home: what it exported and imported after its forward position is shared by the terms' rule
//! ([`crate::Sharing`]), with the part of its meter that takes part; the rest is its supplier's. Nobody in the community goes
//! unpaid: a home buys locally only what its free balance pays for, and what it then cannot pay its supplier is the supplier's
//! claim. So no posting takes a home below zero.
//!
//! The market computes postings; accounts are the ledger's.

mod alone;
mod book;
mod entrant;

use energy::{Money, Price, QuantityError, WattHours};

use crate::matching::{Part, Street};
use crate::network::RankedNode;
use crate::sharing::{incentives, loss_amounts, share};
use crate::{HomeMatch, MarketError, MatchHome, NodeIndex, Terms};

pub use alone::{settle_correction, settle_late};
use book::Book;
use entrant::{check_position, entrant};

/// Whose money it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account<Id> {
    /// A member's.
    Home(Id),
    /// The community's supplier; advances network fees and may be below zero, inside its credit limit.
    Supplier,
    /// Network fees.
    Network,
    /// Congestion rent, the members' own.
    Congestion,
    /// What came in from outside and did not go out again; the counter-account of every deposit.
    Deposits,
}

/// Why money moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PostingKind {
    /// A forward position.
    Forward,
    /// Energy shared with neighbours.
    Local,
    /// Energy from and to the supplier.
    Supplier,
    /// Network fees of an interval's settlement.
    Fee,
    /// Congestion rent of forward trading.
    Rent,
    /// A share of what the network loses.
    Loss,
    /// A reading that came after its interval was settled.
    Late,
    /// A correction of a settled reading.
    Correction,
    /// A supplier's claim paid.
    Claim,
    /// Money paid in.
    Deposit,
    /// Money paid out.
    Withdrawal,
}

impl PostingKind {
    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Local => "local",
            Self::Supplier => "supplier",
            Self::Fee => "fee",
            Self::Rent => "rent",
            Self::Loss => "loss",
            Self::Late => "late",
            Self::Correction => "correction",
            Self::Claim => "claim",
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
        }
    }
}

/// One movement on one account; a credit is positive. At most one per account and kind in one result, none of zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Posting<Id> {
    /// Whose.
    pub account: Account<Id>,
    /// Why.
    pub kind: PostingKind,
    /// How much.
    pub amount: Money,
}

/// Whether the supplier's money moves on the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SupplierLeg {
    /// One supplier with an account (an embedded network): its leg is posted.
    Ledger,
    /// Each home has its own contract: the leg is computed and shown, never posted, and its network fees are on the
    /// supplier's bill.
    Outside,
}

/// What a home's meter says of one interval. Both may be above zero; they are never netted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Metered {
    /// Taken from the network.
    pub import: WattHours,
    /// Given to the network.
    pub export: WattHours,
}

/// What a home traded forward for one interval; one of `sold` and `bought` is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// To deliver.
    pub sold: WattHours,
    /// To take.
    pub bought: WattHours,
    /// What the home receives for it (negative: pays).
    pub amount: Money,
}

impl Position {
    /// What is left of `metered` after this position, as (deficit, surplus): a sale is served first from the export and
    /// what is missing adds to the deficit; a purchase first covers the import and what is left adds to the surplus.
    fn rest(&self, metered: Metered) -> Result<Metered, QuantityError> {
        let missing = self.sold.saturating_sub(metered.export);
        let unused = self.bought.saturating_sub(metered.import);
        Ok(Metered {
            import: metered.import.saturating_sub(self.bought).add(missing)?,
            export: metered.export.saturating_sub(self.sold).add(unused)?,
        })
    }
}

/// One home in one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleHome<Id> {
    /// Its name.
    pub id: Id,
    /// Where it is connected.
    pub node: NodeIndex,
    /// What was metered; `None` where no usable reading came: the position settles alone, as delivered.
    pub metered: Option<Metered>,
    /// Its forward position.
    pub position: Position,
    /// The least it wants to receive locally.
    pub min_sell: Option<Price>,
    /// The most it wants to pay locally.
    pub max_buy: Option<Price>,
    /// What its own supplier charges, if not the community's tariff.
    pub import_price: Option<Price>,
    /// What its own supplier pays, if not the community's tariff.
    pub export_price: Option<Price>,
    /// Its part of an agreed key ([`crate::Sharing::StaticKey`]), of 10 000; all homes' come to at most 10 000.
    pub share_permyriad: u32,
    /// How much of its meter takes part, of 1000, with whatever rule; the rest is its supplier's. The Wh that take part are
    /// floored.
    pub participation_permille: u32,
    /// What it may spend: balance less reserves, the reserve of this interval's position already released. Not below
    /// zero, and enough for the position.
    pub free_balance: Money,
}

/// One home's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HomeSettlement {
    /// As given.
    pub metered: Option<Metered>,
    /// As given.
    pub position: Position,
    /// Its energy after the position, locally and with its supplier.
    pub matched: HomeMatch,
    /// What it receives for the network's losses (negative: pays). With [`SupplierLeg::Outside`] shown, not posted.
    pub loss: Money,
    /// What it is due under [`crate::Sharing::Incentive`], ≥ 0; shown, never posted: it comes from outside, as a deposit.
    pub incentive: Money,
    /// What it owes its supplier beyond its balance, ≥ 0; not posted.
    pub claim: Money,
}

impl HomeSettlement {
    /// What the home receives for the interval in all, before any claim: position + local + supplier + loss. The incentive comes
    /// on top, from outside.
    ///
    /// # Errors
    /// [`QuantityError`] outside the range of [`Money`], which results of this crate never are.
    pub fn amount(&self) -> Result<Money, QuantityError> {
        self.position.amount.add(self.matched.amount()?)?.add(self.loss)
    }
}

/// One interval's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement<Id> {
    /// By home, in the order given.
    pub homes: Vec<HomeSettlement>,
    /// Energy matched at each node, in the order of the network's nodes.
    pub matched: Vec<WattHours>,
    /// Network fees on metered energy: local, and the supplier's leg. The latter are not posted where the leg is
    /// outside.
    pub fees: Money,
    /// Sorted by account and kind; they sum to zero.
    pub postings: Vec<Posting<Id>>,
    /// Taken from suppliers by all homes.
    pub supplier_import: WattHours,
    /// Given to suppliers by all homes.
    pub supplier_export: WattHours,
    /// What all homes receive for the network's losses (negative: pay).
    pub loss: Money,
    /// What all homes are due under an incentive.
    pub incentive: Money,
}

/// Settles one interval. `forward_fees` and `forward_rent` are what buyers of forward positions paid more than sellers
/// received; with the positions' amounts they sum to zero. `root` is the reading of the network's head, where there is one and
/// every connection below it is a home given here: without it losses are unknown and nobody pays for them.
///
/// # Errors
/// [`MarketError`]: what [`crate::match_neighbours`] refuses; a position with two sides; a free balance below zero or short of
/// the position; forward amounts that do not balance; a part of a meter above the whole; agreed shares that come to more than
/// the whole, where they count; an incentive below zero.
pub fn settle<Id: Ord + Clone>(
    terms: &Terms<'_>,
    homes: &[SettleHome<Id>],
    forward_fees: Money,
    forward_rent: Money,
    root: Option<Metered>,
) -> Result<Settlement<Id>, MarketError> {
    terms.check()?;
    terms.check_shares(homes)?;
    check_forward(homes, forward_fees, forward_rent)?;
    let around = terms.meeting_point(homes);
    let (entrants, parts) = entrants(terms, &around, homes)?;
    let street = Street::check(terms.network, &terms.tariff, &entrants)?;
    let matching = share(terms, &street, homes, &parts, &around)?;
    let lost = loss_amounts(terms, &street, homes, root)?;
    let incentives = incentives(terms, &street, homes)?;
    let (loss, incentive) = (Money::sum(lost.iter().copied())?, Money::sum(incentives.iter().copied())?);
    let mut book = Book::default();
    let mut settled = Vec::with_capacity(homes.len());
    for (home, ((matched, loss), incentive)) in
        homes.iter().zip(matching.homes.iter().copied().zip(lost).zip(incentives))
    {
        let (metered, position) = (home.metered, home.position);
        let result = HomeSettlement { metered, position, matched, loss, incentive, claim: Money::ZERO };
        let claim = book.post_home(terms.leg, home, &result)?;
        settled.push(HomeSettlement { claim, ..result });
    }
    book.post_totals(terms.leg, &matching, forward_fees, forward_rent)?;
    Ok(Settlement {
        homes: settled,
        matched: matching.matched,
        fees: matching.fees,
        postings: book.close(),
        supplier_import: matching.supplier_import,
        supplier_export: matching.supplier_export,
        loss,
        incentive,
    })
}

/// Every home's energy and what of it takes part.
fn entrants<Id: Clone>(
    terms: &Terms<'_>,
    around: &RankedNode,
    homes: &[SettleHome<Id>],
) -> Result<(Vec<MatchHome<Id>>, Vec<Part>), MarketError> {
    let entrants = homes.iter().enumerate().map(|(index, home)| entrant(terms, around, home, index));
    entrants.collect::<Result<Vec<_>, _>>().map(|entrants| entrants.into_iter().unzip())
}

/// Losses of one interval: the root meter's net import less all homes' net import, in Wh; below zero where the homes'
/// meters say more than the root's. `None` if any reading is missing or the difference leaves 64 bits.
pub fn losses(root: Option<Metered>, homes: impl Iterator<Item = Option<Metered>>) -> Option<i64> {
    let net = |metered: Metered| metered.import.signed_sub(metered.export).ok();
    let mut losses = net(root?)?;
    for home in homes {
        losses = losses.checked_sub(net(home?)?)?;
    }
    Some(losses)
}

fn check_forward<Id>(homes: &[SettleHome<Id>], fees: Money, rent: Money) -> Result<(), MarketError> {
    let amounts = homes.iter().map(|home| home.position.amount).chain([fees, rent]);
    match Money::sum(amounts)? {
        Money::ZERO => Ok(()),
        sum => Err(MarketError::ForwardUnbalanced(sum.get())),
    }
}
