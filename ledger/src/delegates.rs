//! What the ledger knows of its delegates, for those who show it or stand for a seat. Nothing here changes anything.

use energy::{HomeId, Timestamp};

use crate::crypto::PublicKey;
use crate::delegation::{Delegation, Epoch, TermKeys};
use crate::election::Ballot;
use crate::genesis::Stake;
use crate::ledger::Ledger;

/// A member's ballot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BallotState {
    /// What counts in the next election.
    pub counted: Ballot,
    /// What it said last, and in which epoch; counts from the election after the next where it is of this epoch.
    pub last: Ballot,
    /// The epoch of its last word.
    pub cast_in: u32,
}

impl Ledger {
    const fn delegation(&self) -> &Delegation {
        &self.state().delegation
    }

    /// The present epoch.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.delegation().epoch
    }

    /// The earliest market time of the next election.
    #[must_use]
    pub fn next_election(&self) -> Timestamp {
        self.epoch().start.plus_ms(self.genesis_terms().epoch_ms())
    }

    /// The term for which candidates stand now.
    #[must_use]
    pub const fn coming_term(&self) -> u32 {
        self.delegation().coming_term()
    }

    /// A member's keys for a term, if it stands for it: the seated one, or the one to come.
    #[must_use]
    pub fn candidacy(&self, home: &HomeId, term: u32) -> Option<TermKeys> {
        self.delegation().candidacies.get(&(term, home.clone())).map(|candidacy| candidacy.keys)
    }

    /// Who stands for the coming term, in ascending order.
    #[must_use]
    pub fn candidates(&self) -> Vec<HomeId> {
        let coming = self.coming_term();
        let rows = self.delegation().candidacies.sorted().into_iter();
        rows.filter(|((term, _), _)| *term == coming).map(|((_, home), _)| home.clone()).collect()
    }

    /// True if a member said that it does not want to be a delegate.
    #[must_use]
    pub fn has_opted_out(&self, home: &HomeId) -> bool {
        self.delegation().opted_out.contains(home)
    }

    /// Who takes a seat that falls vacant, first the first.
    #[must_use]
    pub fn standbys(&self) -> &[HomeId] {
        &self.delegation().standbys
    }

    /// A member's ballot; `None` if it never voted.
    #[must_use]
    pub fn ballot(&self, home: &HomeId) -> Option<BallotState> {
        let ballots = self.delegation().ballots.get(home)?;
        Some(BallotState {
            counted: ballots.counted(self.epoch().number).clone(),
            last: ballots.last.clone(),
            cast_in: ballots.cast_in,
        })
    }

    /// True if a member's vote counts: it was read on enough days, and lately.
    #[must_use]
    pub fn has_stake(&self, home: &HomeId) -> bool {
        self.delegation().in_stake(home)
    }

    /// What a member's vote counts where it does, in shares.
    #[must_use]
    pub fn shares(&self, home: &HomeId) -> u64 {
        match self.genesis_terms().stake {
            Stake::Membership => 1,
            Stake::Certified => Delegation::shares_of(self.delegation().energy_of(home)),
        }
    }

    /// Until when a member may not be a delegate, if it may not.
    #[must_use]
    pub fn barred_until(&self, home: &HomeId) -> Option<Timestamp> {
        let owner = &self.member(home)?.admission.owner;
        self.delegation().barred_until(owner, self.head_time())
    }

    /// Blocks of the last day, and how many of them a delegate signed; `None` before the first that was counted.
    #[must_use]
    pub fn signed_lately(&self, home: &HomeId) -> Option<(u64, u64)> {
        self.delegation().signing.get(home).map(crate::delegation::Signing::sums)
    }

    /// How many seats changed hands in this epoch, and how many can at the most.
    #[must_use]
    pub const fn seats_changed(&self) -> (u32, u32) {
        (self.delegation().changed, self.delegation().faults)
    }

    /// Whose consensus key of a term a key is or was, as far as is remembered.
    #[must_use]
    pub fn home_of_term_key(&self, key: &PublicKey) -> Option<&HomeId> {
        self.delegation().term_keys.get(key).filter(|row| row.consensus).map(|row| &row.home)
    }

    /// True if it is on the ledger that this consensus key contradicted itself.
    #[must_use]
    pub fn is_convicted(&self, key: &PublicKey) -> bool {
        self.delegation().term_keys.get(key).is_some_and(|row| row.convicted)
    }
}
