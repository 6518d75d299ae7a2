//! One interval's money: forward positions, matching and the supplier's leg, as postings that sum to zero.
//!
//! For every home: what it exported and imported after its forward position is matched with its neighbours
//! ([`crate::match_neighbours`]); the rest is its supplier's. Nobody in the community goes unpaid: a home buys locally only what its
//! free balance pays for, and what it then cannot pay its supplier is the supplier's claim. So no posting takes a home
//! below zero.
//!
//! The market computes postings; accounts are the ledger's.

use energy::{Money, Price, QuantityError, WattHours};

use crate::error::check_price;
use crate::matching::{SupplierBill, check_tariff, own_tariff};
use crate::{HomeMatch, MarketError, MatchHome, Network, NodeIndex, Tariff, match_neighbours};

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
    /// What it owes its supplier beyond its balance, ≥ 0; not posted.
    pub claim: Money,
}

impl HomeSettlement {
    /// What the home receives for the interval in all, before any claim: position + local + supplier.
    ///
    /// # Errors
    /// [`QuantityError`] outside the range of [`Money`], which results of this crate never are.
    pub fn amount(&self) -> Result<Money, QuantityError> {
        self.position.amount.add(self.matched.amount()?)
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
}

/// Settles one interval. `forward_fees` and `forward_rent` are what buyers of forward positions paid more than sellers
/// received; with the positions' amounts they sum to zero.
///
/// # Errors
/// [`MarketError`]: what [`match_neighbours`] refuses; a position with two sides; a free balance below zero or short of
/// the position; forward amounts that do not balance.
pub fn settle<Id: Ord + Clone>(
    network: &Network,
    tariff: &Tariff,
    leg: SupplierLeg,
    homes: &[SettleHome<Id>],
    forward_fees: Money,
    forward_rent: Money,
) -> Result<Settlement<Id>, MarketError> {
    check_tariff(tariff)?;
    check_forward(homes, forward_fees, forward_rent)?;
    let pool = homes
        .iter()
        .enumerate()
        .map(|(index, home)| match_home(network, tariff, home, index))
        .collect::<Result<Vec<_>, _>>()?;
    let matching = match_neighbours(network, tariff, &pool)?;
    let mut book = Book::default();
    let mut settled = Vec::with_capacity(homes.len());
    for (home, matched) in homes.iter().zip(matching.homes) {
        let means = home.free_balance.add(home.position.amount)?.add(matched.local_amount)?;
        let account = || Account::Home(home.id.clone());
        book.post(account(), PostingKind::Forward, home.position.amount);
        book.post(account(), PostingKind::Local, matched.local_amount);
        let claim =
            book.post_supplier(leg, account(), PostingKind::Supplier, matched.supplier_amount, means)?;
        settled.push(HomeSettlement { metered: home.metered, position: home.position, matched, claim });
    }
    book.fees = book.fees.add(forward_fees)?.add(matching.local_fees)?;
    if leg == SupplierLeg::Ledger {
        let advanced = matching.fees.sub(matching.local_fees)?;
        book.fees = book.fees.add(advanced)?;
        book.supplier = book.supplier.sub(advanced)?;
    }
    let (fees, supplier) = (book.fees, book.supplier);
    book.post(Account::Network, PostingKind::Fee, fees);
    book.post(Account::Supplier, PostingKind::Supplier, supplier);
    book.post(Account::Congestion, PostingKind::Rent, forward_rent);
    Ok(Settlement {
        homes: settled,
        matched: matching.matched,
        fees: matching.fees,
        postings: book.close(),
        supplier_import: matching.supplier_import,
        supplier_export: matching.supplier_export,
    })
}

/// Settles a reading that came after its interval was settled without it: what it says beyond the position, with the
/// supplier alone. The position is not posted again. Without a reading nothing moves.
///
/// # Errors
/// [`MarketError`]: a price out of range, a position with two sides, a free balance below zero.
pub fn settle_late<Id: Ord + Clone>(
    network: &Network,
    tariff: &Tariff,
    leg: SupplierLeg,
    home: &SettleHome<Id>,
) -> Result<(HomeSettlement, Vec<Posting<Id>>), MarketError> {
    check_alone(network, tariff, home)?;
    check_position(home, 0)?;
    let rest = home.metered.map_or(Ok(Metered::default()), |metered| home.position.rest(metered))?;
    let own = own_tariff(tariff, home.import_price, home.export_price);
    let bill = SupplierBill::of(network, home.node, &own, rest.import, rest.export)?;
    let (claim, postings) = post_alone(leg, home, PostingKind::Late, bill.home, bill.fees)?;
    let matched = HomeMatch {
        supplier_import: rest.import,
        supplier_export: rest.export,
        supplier_amount: bill.home,
        ..HomeMatch::default()
    };
    Ok((HomeSettlement { metered: home.metered, position: home.position, matched, claim }, postings))
}

/// Settles the difference that a correction makes to a settled interval, with the supplier, at the price worse for the
/// home: otherwise correcting would pay. Returns what the home receives, what of it remains a claim, and the postings.
///
/// More import costs the dearer of the supplier's and the local price at the far end of the network; less is refunded at
/// the cheaper of the supplier's and the local price next door. More export earns the worse, less pays back the better.
/// Network fees are charged on energy added and stay with the network on energy taken back.
///
/// # Errors
/// [`MarketError`]: a price out of range, a free balance below zero.
pub fn settle_correction<Id: Ord + Clone>(
    network: &Network,
    tariff: &Tariff,
    leg: SupplierLeg,
    home: &SettleHome<Id>,
    import_delta: i64,
    export_delta: i64,
) -> Result<(Money, Money, Vec<Posting<Id>>), MarketError> {
    check_alone(network, tariff, home)?;
    let (fee_up, fee_down) = (network.fee_up_to_root(home.node), network.fee_down_from_root(home.node));
    let own = own_tariff(tariff, home.import_price, home.export_price);
    let (import, export, local) =
        (own.import_price.add(fee_down)?, own.export_price.sub(fee_up)?, tariff.middle());
    let import_energy = WattHours::new(import_delta.unsigned_abs());
    let export_energy = WattHours::new(export_delta.unsigned_abs());
    let (for_import, import_fee) = if import_delta > 0 {
        (import.max(local.add(fee_down)?).cost_of(import_energy)?.neg()?, fee_down.cost_of(import_energy)?)
    } else {
        (import.min(local).cost_of(import_energy)?, Money::ZERO)
    };
    let (for_export, export_fee) = if export_delta > 0 {
        (export.min(local.sub(fee_up)?).cost_of(export_energy)?, fee_up.cost_of(export_energy)?)
    } else {
        (export.max(local).cost_of(export_energy)?.neg()?, Money::ZERO)
    };
    let amount = for_import.add(for_export)?;
    let (claim, postings) =
        post_alone(leg, home, PostingKind::Correction, amount, import_fee.add(export_fee)?)?;
    Ok((amount, claim, postings))
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

/// A home's part in matching: what its position leaves, inside its means.
fn match_home<Id: Clone>(
    network: &Network,
    tariff: &Tariff,
    home: &SettleHome<Id>,
    index: usize,
) -> Result<MatchHome<Id>, MarketError> {
    check_position(home, index)?;
    let means = home.free_balance.add(home.position.amount)?;
    if home.free_balance.is_negative() || means.is_negative() {
        return Err(MarketError::NegativeBalance { index });
    }
    let rest = home.metered.map_or(Ok(Metered::default()), |metered| home.position.rest(metered))?;
    let middle = tariff.middle();
    // Selling over a long way may cost: with a low M the fees can exceed it.
    let costliest_sale =
        network.fee_up_to_root(home.node).sub(middle)?.max(Price::ZERO).cost_of(rest.export)?;
    let affords_sale = costliest_sale <= means;
    let left = if affords_sale { means.sub(costliest_sale)? } else { means };
    let min_sell = if affords_sale { home.min_sell } else { home.min_sell.max(Some(Price::ZERO)) };
    Ok(MatchHome {
        id: home.id.clone(),
        node: home.node,
        import: rest.import,
        export: rest.export,
        min_sell,
        max_buy: home.max_buy,
        import_price: home.import_price,
        export_price: home.export_price,
        buy_cap: affordable(left, middle.add(network.fee_down_from_root(home.node))?),
    })
}

/// How much `means` pays for at `price`; `None` is any amount.
fn affordable(means: Money, price: Price) -> Option<WattHours> {
    if price <= Price::ZERO {
        return None;
    }
    let energy = means.get().checked_div(i128::from(price.get()))?;
    Some(WattHours::new(u64::try_from(energy).unwrap_or(u64::MAX)))
}

fn check_position<Id>(home: &SettleHome<Id>, index: usize) -> Result<(), MarketError> {
    if !home.position.sold.is_zero() && !home.position.bought.is_zero() {
        return Err(MarketError::TwoSidedPosition { index });
    }
    Ok(())
}

fn check_forward<Id>(homes: &[SettleHome<Id>], fees: Money, rent: Money) -> Result<(), MarketError> {
    let amounts = homes.iter().map(|home| home.position.amount).chain([fees, rent]);
    match Money::sum(amounts)? {
        Money::ZERO => Ok(()),
        sum => Err(MarketError::ForwardUnbalanced(sum.get())),
    }
}

/// Checks a home that settles without its neighbours.
fn check_alone<Id>(network: &Network, tariff: &Tariff, home: &SettleHome<Id>) -> Result<(), MarketError> {
    check_tariff(tariff)?;
    for (field, price) in [("import_price", home.import_price), ("export_price", home.export_price)] {
        check_price("home", 0, field, price.unwrap_or(Price::ZERO))?;
    }
    if network.rank_of(home.node).is_none() {
        let (node, nodes) = (home.node.get(), network.len());
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
    let mut book = Book::default();
    let claim = book.post_supplier(leg, Account::Home(home.id.clone()), kind, amount, home.free_balance)?;
    if leg == SupplierLeg::Ledger {
        let supplier = book.supplier.sub(fees)?;
        book.post(Account::Network, kind, fees);
        book.post(Account::Supplier, kind, supplier);
    }
    Ok((claim, book.close()))
}

/// Postings being collected.
struct Book<Id> {
    postings: Vec<Posting<Id>>,
    /// What the supplier received from homes, less what it advanced.
    supplier: Money,
    /// What the network received.
    fees: Money,
}

impl<Id> Default for Book<Id> {
    fn default() -> Self {
        Self { postings: vec![], supplier: Money::ZERO, fees: Money::ZERO }
    }
}

impl<Id: Ord> Book<Id> {
    fn post(&mut self, account: Account<Id>, kind: PostingKind, amount: Money) {
        if amount != Money::ZERO {
            self.postings.push(Posting { account, kind, amount });
        }
    }

    /// Posts a home's leg with its supplier as far as its `means` go, and returns the claim that remains.
    fn post_supplier(
        &mut self,
        leg: SupplierLeg,
        account: Account<Id>,
        kind: PostingKind,
        amount: Money,
        means: Money,
    ) -> Result<Money, QuantityError> {
        if leg == SupplierLeg::Outside {
            return Ok(Money::ZERO);
        }
        let posted = amount.max(means.neg()?);
        self.supplier = self.supplier.sub(posted)?;
        self.post(account, kind, posted);
        posted.sub(amount)
    }

    fn close(mut self) -> Vec<Posting<Id>> {
        self.postings.sort_unstable();
        self.postings
    }
}
