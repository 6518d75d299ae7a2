//! Who holds the bodies of all entries and results, as the state says it.

use energy::HomeId;

use crate::apply::Step;
use crate::block::Block;
use crate::codec::Encode;
use crate::error::BlockError;
use crate::genesis::Replicas;
use crate::ledger::Ledger;
use crate::outcome::{Leaf, LeafSource};
use crate::recovery::{RECOVERY_AFTER_MS, RecoveryError};

/// Who held a seat goes on holding bodies for so many epochs: who is elected again need not fetch them again.
const AFTERWARDS_EPOCHS: u32 = 1;

impl Ledger {
    /// True for a member that holds the bodies of all entries and results: with `replicas = "all"` everybody; else the homes that
    /// genesis names, who holds a seat in this epoch or held one in the one before, who is about to, and as many of the
    /// standbys as seats can change hands between two elections.
    #[must_use]
    pub fn holds_bodies(&self, home: &HomeId) -> bool {
        let Replicas::Delegates { holders } = &self.genesis_terms().replicas else { return true };
        let section = &self.state().delegation;
        let seated = |last: &u32| last.saturating_add(AFTERWARDS_EPOCHS) >= section.epoch.number;
        let first = usize::try_from(section.next.faults().max(1)).unwrap_or(usize::MAX);
        holders.contains(home)
            || section.seated.get(home).is_some_and(seated)
            || section.sets().iter().any(|set| set.of_home(home).is_some())
            || section.standbys.iter().take(first).any(|standby| standby == home)
    }

    /// The last height of which a member may have the block whole: who held a seat until an epoch before must see the block with
    /// which it ceased to hold, to know that it did. 0: none.
    #[must_use]
    pub fn holds_until(&self, home: &HomeId) -> u64 {
        let section = &self.state().delegation;
        let over = AFTERWARDS_EPOCHS.saturating_add(1);
        let just_ceased = |last: &u32| last.saturating_add(over) == section.epoch.number;
        if self.holds_bodies(home) {
            u64::MAX
        } else if section.seated.get(home).is_some_and(just_ceased) {
            section.epoch.after
        } else {
            0
        }
    }

    /// Every member that holds them, in ascending order.
    #[must_use]
    pub fn holders(&self) -> Vec<HomeId> {
        let members = self.members().into_iter().map(|(home, _)| home);
        members.filter(|home| self.holds_bodies(home)).cloned().collect()
    }

    /// True where not every member holds them.
    #[must_use]
    pub fn has_followers(&self) -> bool {
        matches!(self.genesis_terms().replicas, Replicas::Delegates { .. })
    }

    /// That a recovery block follows from here, whoever attested it. Who knows one home's part of the state checks all but the
    /// state's root, which those check who hold the whole: parent, time and number, every offer, who decides next.
    ///
    /// # Errors
    /// [`BlockError`]: the first thing that does not hold.
    pub fn follows_recovery(&self, block: &Block) -> Result<(), BlockError> {
        if !self.is_view() {
            return self.rehearse_recovery(block).map(drop);
        }
        let (header, Some(recovery)) = (&block.header, &block.recovery) else {
            return Err(RecoveryError::Form { what: "it is no recovery block" }.into());
        };
        let fault = |what| Err(BlockError::DoesNotFollow { height: header.height, what });
        if (header.height, header.parent) != (self.height().saturating_add(1), self.head()) {
            return fault("its parent is another block");
        }
        if header.chain.id != self.chain().id || !block.entries.is_empty() {
            return fault("it is of another chain, or holds entries");
        }
        let (found, present) = (header.chain.recovery, self.chain().recovery);
        if found <= present {
            return Err(RecoveryError::Number { found, present }.into());
        }
        if header.time < self.head_time().plus_ms(RECOVERY_AFTER_MS) {
            return Err(RecoveryError::TooEarly { last: self.head_time(), time: header.time }.into());
        }
        let mut step = Step::new(self.state().clone());
        step.recover(header.chain, &recovery.seats, header.time)?;
        let mut tree = self.tree().clone();
        for outcome in &step.outcomes {
            let leaf =
                Leaf::new(outcome.is_sealed(), &outcome.salt(), &outcome.to_bytes(), LeafSource::Outcome(0));
            tree.push(leaf.hash);
        }
        if (header.tree_size, header.tree_root) != (tree.size(), tree.root()) {
            return fault("its tree is not what it gives");
        }
        let next = step.state.delegation.delegates.hash();
        if (header.delegates, header.next_delegates) != (self.delegates().hash(), next) {
            return fault("its delegates are not those who offered");
        }
        Ok(())
    }
}
