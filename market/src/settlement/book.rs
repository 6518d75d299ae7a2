//! Postings being collected.

use energy::{Money, QuantityError};

use super::{Account, HomeSettlement, Posting, PostingKind, SettleHome, SupplierLeg};
use crate::Matching;

/// Postings of one result.
pub(super) struct Book<Id> {
    postings: Vec<Posting<Id>>,
}

impl<Id> Default for Book<Id> {
    fn default() -> Self {
        Self { postings: vec![] }
    }
}

impl<Id: Ord + Clone> Book<Id> {
    pub(super) fn post(&mut self, account: Account<Id>, kind: PostingKind, amount: Money) {
        if amount != Money::ZERO {
            self.postings.push(Posting { account, kind, amount });
        }
    }

    /// Posts what a home settles with the supplier as far as its `means` go, and returns the claim that remains.
    pub(super) fn post_due(
        &mut self,
        home: &Id,
        kind: PostingKind,
        amount: Money,
        means: Money,
    ) -> Result<Money, QuantityError> {
        let posted = amount.max(means.neg()?);
        self.post(Account::Home(home.clone()), kind, posted);
        posted.sub(amount)
    }

    /// Posts one home's interval and returns the claim that remains: of its supplier's leg, and of its share of losses.
    pub(super) fn post_home(
        &mut self,
        leg: SupplierLeg,
        home: &SettleHome<Id>,
        result: &HomeSettlement,
    ) -> Result<Money, QuantityError> {
        let account = || Account::Home(home.id.clone());
        let (position, local) = (result.position.amount, result.matched.local_amount);
        self.post(account(), PostingKind::Forward, position);
        self.post(account(), PostingKind::Local, local);
        if leg == SupplierLeg::Outside {
            return Ok(Money::ZERO);
        }
        let energy = (PostingKind::Supplier, result.matched.supplier_amount);
        let loss = (PostingKind::Loss, result.loss);
        // Energy first, unless a negative price turns losses into means.
        let dues = if result.loss > Money::ZERO { [loss, energy] } else { [energy, loss] };
        let mut means = home.free_balance.add(position)?.add(local)?;
        let mut claim = Money::ZERO;
        for (kind, amount) in dues {
            let owed = self.post_due(&home.id, kind, amount, means)?;
            means = means.add(amount)?.add(owed)?;
            claim = claim.add(owed)?;
        }
        Ok(claim)
    }

    /// Posts what all homes together leave for the other accounts.
    pub(super) fn post_totals(
        &mut self,
        leg: SupplierLeg,
        matching: &Matching,
        forward_fees: Money,
        forward_rent: Money,
    ) -> Result<(), QuantityError> {
        let mut fees = forward_fees.add(matching.local_fees)?;
        if leg == SupplierLeg::Ledger {
            // The supplier advances the network fees on its energy.
            let advanced = matching.fees.sub(matching.local_fees)?;
            fees = fees.add(advanced)?;
            let supplier = self.paid(PostingKind::Supplier)?.sub(advanced)?;
            self.post(Account::Supplier, PostingKind::Supplier, supplier);
            let lost = self.paid(PostingKind::Loss)?;
            self.post(Account::Supplier, PostingKind::Loss, lost);
        }
        self.post(Account::Network, PostingKind::Fee, fees);
        self.post(Account::Congestion, PostingKind::Rent, forward_rent);
        Ok(())
    }

    /// What was paid so far, less what was received.
    pub(super) fn paid(&self, kind: PostingKind) -> Result<Money, QuantityError> {
        let of_kind = self.postings.iter().filter(|posting| posting.kind == kind);
        Money::sum(of_kind.map(|posting| posting.amount))?.neg()
    }

    pub(super) fn close(mut self) -> Vec<Posting<Id>> {
        self.postings.sort_unstable();
        self.postings
    }
}
