//! Money that enters and leaves: deposits, withdrawals, the bank's balance, claims.

use energy::{Balance, HomeId, Interval, Money};
use market::{Account, PostingKind};

use super::{Step, by, with};
use crate::entry::VerifiedEntry;
use crate::error::EntryError;
use crate::genesis::MONEY_MAX;

impl Step {
    pub(super) fn deposit(
        &mut self,
        verified: &VerifiedEntry,
        home: Option<&HomeId>,
        amount: Balance,
    ) -> Result<(), EntryError> {
        by(verified, &self.roles().treasurer, "the treasurer")?;
        self.transfer_limits(verified, amount)?;
        let account = self.account_of(home)?;
        let deposits = amount.as_money().sub(self.state.balance(&Account::Deposits).as_money())?;
        if deposits > MONEY_MAX.as_money() {
            return Err(EntryError::TooMuchMoney { max: MONEY_MAX });
        }
        self.credit_deposit(&account, amount.as_money())
    }

    /// Books a deposit and pays with it what its owner owes.
    pub fn credit_deposit(&mut self, account: &Account<HomeId>, amount: Money) -> Result<(), EntryError> {
        self.post(None, account.clone(), PostingKind::Deposit, amount)?;
        self.post(None, Account::Deposits, PostingKind::Deposit, amount.neg()?)?;
        self.pay_claims(account)
    }

    pub(super) fn withdrawal(
        &mut self,
        verified: &VerifiedEntry,
        home: Option<&HomeId>,
        amount: Balance,
    ) -> Result<(), EntryError> {
        let roles = self.roles();
        by(verified, &roles.treasurer, "the treasurer")?;
        self.transfer_limits(verified, amount)?;
        match home {
            Some(home) => with(verified, &self.member(home)?.admission.keys.member, "the member")?,
            None => with(verified, &roles.operator, "the operator")?,
        }
        let account = self.account_of(home)?;
        if let Some(bank) = self.state.bank {
            let accounts = self.money_on_accounts()?;
            if accounts > bank.as_money() {
                return Err(EntryError::BankShort { accounts, bank });
            }
        }
        // Whoever owes is paid before anything is paid out.
        self.pay_claims(&account)?;
        let (free, needed) = (self.own_funds(&account)?, amount.as_money());
        if free < needed {
            return Err(EntryError::NoFunds { free, needed });
        }
        // What others owe on credit stands on this account, but not at the bank.
        let accounts = self.money_on_accounts()?;
        if accounts < needed {
            return Err(EntryError::NotPaidIn { accounts, needed });
        }
        self.post(None, account, PostingKind::Withdrawal, needed.neg()?)?;
        self.post(None, Account::Deposits, PostingKind::Withdrawal, needed)
    }

    pub(super) fn bank_balance(
        &mut self,
        verified: &VerifiedEntry,
        amount: Balance,
    ) -> Result<(), EntryError> {
        let roles = self.roles();
        by(verified, &roles.treasurer, "the treasurer")?;
        with(verified, &roles.auditor, "the auditor")?;
        self.state.bank = Some(amount);
        Ok(())
    }

    fn transfer_limits(&self, verified: &VerifiedEntry, amount: Balance) -> Result<(), EntryError> {
        if amount <= Balance::ZERO {
            return Err(EntryError::NoAmount);
        }
        if amount > self.state.rules.genesis.caps.transfer_max {
            with(verified, &self.roles().auditor, "the auditor as well, being above the transfer limit")?;
        }
        Ok(())
    }

    fn account_of(&self, home: Option<&HomeId>) -> Result<Account<HomeId>, EntryError> {
        match home {
            Some(home) => self.member(home).map(|_| Account::Home(home.clone())),
            None => Ok(Account::Supplier),
        }
    }

    /// What stands on an account and is not reserved: what can be paid out. Credit is no part of it, neither the supplier's nor
    /// a member's: borrowed money is not paid out.
    fn own_funds(&self, account: &Account<HomeId>) -> Result<Money, EntryError> {
        let reserved = match account {
            Account::Home(home) => self.state.reserves.get(home).copied().unwrap_or_default(),
            _ => Balance::ZERO,
        };
        Ok(self.state.balance(account).as_money().sub(reserved.as_money())?)
    }

    /// What a home can spend: what stands on its account, less reserves, and where members pay by statement its credit. The
    /// supplier's credit counts only in settlement.
    pub fn free_balance(&self, account: &Account<HomeId>) -> Result<Money, EntryError> {
        let credit = match account {
            Account::Home(_) => self.state.rules.genesis.market.money.credit(),
            _ => Balance::ZERO,
        };
        Ok(self.own_funds(account)?.add(credit.as_money())?)
    }

    fn money_on_accounts(&self) -> Result<Money, EntryError> {
        let ours = self.state.accounts.iter().filter(|(account, _)| **account != Account::Deposits);
        Ok(Money::sum(ours.map(|(_, balance)| balance.as_money()))?)
    }

    /// Writes down that `debtor` owes `creditor`; paid first from whatever it receives next.
    pub fn owe(
        &mut self,
        debtor: Account<HomeId>,
        creditor: Account<HomeId>,
        amount: Money,
    ) -> Result<(), EntryError> {
        if amount <= Money::ZERO {
            return Ok(());
        }
        let key = (debtor, creditor);
        let before = self.state.claims.get(&key).copied().unwrap_or_default();
        // A debt that nobody will ever pay must not stop the settlement of everybody else.
        let claim = before.credit(amount).unwrap_or(Balance::new(i64::MAX));
        self.state.claims.insert(key, claim);
        Ok(())
    }

    /// Pays what `debtor` owes from its free balance (the supplier: inside its credit), in ascending order of the creditors.
    pub fn pay_claims(&mut self, debtor: &Account<HomeId>) -> Result<(), EntryError> {
        let credit = match debtor {
            Account::Supplier => self.state.rules.genesis.supplier_credit.as_money(),
            _ => Money::ZERO,
        };
        let claims = self.state.claims.iter().filter(|((theirs, _), _)| theirs == debtor);
        let mut owed: Vec<_> = claims.map(|(key, claim)| (key.clone(), claim.as_money())).collect();
        owed.sort_unstable();
        for (key, claim) in owed {
            let paid = self.free_balance(debtor)?.add(credit)?.min(claim);
            if paid <= Money::ZERO {
                break;
            }
            self.post(None, key.0.clone(), PostingKind::Claim, paid.neg()?)?;
            self.post(None, key.1.clone(), PostingKind::Claim, paid)?;
            match Balance::ZERO.credit(claim.sub(paid)?)? {
                Balance::ZERO => self.state.claims.remove(&key),
                rest => self.state.claims.insert(key, rest),
            };
        }
        Ok(())
    }

    pub(super) fn correction(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        interval: Interval,
        import_delta: i64,
        export_delta: i64,
    ) -> Result<(), EntryError> {
        let roles = self.roles();
        let member = self.member(home)?.admission.keys.member;
        match roles.metering_operator {
            Some(metering) if verified.entry().signer == metering => {}
            _ => by(verified, &member, "the member or the metering operator")?,
        }
        with(verified, &roles.operator, "the operator")?;
        if interval.mtu() != self.state.mtu() {
            return Err(EntryError::WrongMtu);
        }
        if interval.index() >= self.state.next_to_settle {
            return Err(EntryError::NotSettled { interval });
        }
        self.is_remembered(interval)?;
        self.was_member(home, interval)?;
        if self.is_unread(home, interval)? {
            return Err(EntryError::NotRead { home: home.clone(), interval });
        }
        if import_delta == 0 && export_delta == 0 {
            return Err(EntryError::NoAmount);
        }
        self.settle_correction(home, interval, import_delta, export_delta, verified.entry().salt)
    }
}
