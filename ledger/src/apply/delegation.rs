//! Votes, candidacies, and proof that a delegate contradicted itself.

use energy::{HomeId, Interval, Timestamp};

use super::{Step, by, is_role, with};
use crate::block::Delegate;
use crate::crypto::PublicKey;
use crate::delegation::{BARRED_MS, CANDIDACIES_MAX, Candidacy, TermKeys, owner_hash};
use crate::election::Ballot;
use crate::entry::{MemberKeys, VerifiedEntry};
use crate::error::EntryError;
use crate::evidence::{Evidence, EvidenceError};
use crate::outcome::Outcome;
use crate::seats::{SeatFate, SeatLoss, SeatOutcome};
use crate::state::Member;

/// No seat is given up without a standby below so many that stay: the smallest set that bears a failure.
pub(super) const SEATS_MIN: usize = 4;

impl Step {
    /// Counts two elections later; until then the member's former ballot does.
    pub(super) fn vote(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        ballot: &Ballot,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        by(verified, &self.member_now(home, time)?.admission.keys.member, "the member")?;
        match ballot {
            Ballot::Approve(homes) => homes.iter().try_for_each(|home| self.member(home).map(drop))?,
            Ballot::Follow(other) if other == home => {
                return Err(EntryError::Malformed {
                    what: "a member cannot follow itself; approve candidates",
                });
            }
            Ballot::Follow(other) => self.member(other).map(drop)?,
        }
        let epoch = self.state.delegation.epoch.number;
        let mut ballots = self.state.delegation.ballots.get(home).cloned().unwrap_or_default();
        ballots.cast(epoch, ballot.clone());
        self.state.delegation.ballots.insert(home.clone(), ballots);
        Ok(())
    }

    /// Stands for the coming term with keys that were never used; signed with them too, so that nobody registers another's.
    /// Without keys: stands for no term until it says otherwise. A seat it holds stays its own until the next election.
    pub(super) fn candidacy(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        term: u32,
        keys: Option<&TermKeys>,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let member = self.member_now(home, time)?;
        by(verified, &member.admission.keys.member, "the member")?;
        let coming = self.state.delegation.coming_term();
        if term != coming {
            return Err(EntryError::OtherTerm { term, coming });
        }
        if let Some(until) = self.state.delegation.barred_until(&member.admission.owner, time) {
            return Err(EntryError::Barred { home: home.clone(), until });
        }
        let place = (term, home.clone());
        let Some(keys) = keys else {
            self.state.delegation.candidacies.remove(&place);
            self.state.delegation.opted_out.insert(home.clone(), ());
            return Ok(());
        };
        with(verified, &keys.consensus, "the new consensus key")?;
        with(verified, &keys.cosigner, "the new cosigner key")?;
        self.is_new_key(&keys.consensus)?;
        self.is_new_key(&keys.cosigner)?;
        let before = self.state.delegation.candidacies.get(&place);
        let changes = before.map_or(0, |before| before.changes.saturating_add(1));
        if changes > CANDIDACIES_MAX {
            return Err(EntryError::Malformed {
                what: "a candidate changes its keys for one term at most 8 times; stand again in the next epoch",
            });
        }
        self.state.delegation.opted_out.remove(home);
        self.state.delegation.candidacies.insert(place, Candidacy { keys: *keys, changes });
        self.state.delegation.remember_key(keys.consensus, home, time, true);
        self.state.delegation.remember_key(keys.cosigner, home, time, false);
        Ok(())
    }

    fn is_new_key(&self, key: &PublicKey) -> Result<(), EntryError> {
        if self.is_key_in_use(key) { Err(EntryError::KeyInUse { key: *key }) } else { Ok(()) }
    }

    /// True if anybody uses a key, or used it once for something that is remembered.
    pub(super) fn is_key_in_use(&self, key: &PublicKey) -> bool {
        let root_meter = self.state.rules.genesis.root_meter.as_ref().map(|meter| meter.key);
        let is_member = |member: &Member| {
            let MemberKeys { member, reading, network } = member.admission.keys;
            [member, reading, network].contains(key)
        };
        is_role(&self.roles(), key)
            || root_meter == Some(*key)
            || self.state.numbers.contains(key)
            || self.state.delegation.knows_key(key)
            || self.state.members.iter().any(|(_, member)| is_member(member))
    }

    /// Two statements of one term key that exclude one another: its owner is barred, and every seat it holds goes to a standby.
    pub(super) fn misbehaviour(
        &mut self,
        verified: &VerifiedEntry,
        evidence: &Evidence,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let author = verified.entry().signer;
        if !self.state.members.iter().any(|(_, member)| member.admission.keys.member == author) {
            return Err(EntryError::NotEntitled { kind: "misbehaviour", needed: "a member" });
        }
        let (key, height) = (*evidence.culprit(), evidence.height());
        let section = &self.state.delegation;
        let Some(term_key) = section.term_keys.get(&key).filter(|known| known.consensus).cloned() else {
            return Err(EvidenceError::UnknownKey { key }.into());
        };
        if term_key.convicted {
            return Err(EvidenceError::Known { key }.into());
        }
        let (after, next) = (section.evidence_after(), section.height.saturating_add(1));
        if height <= after {
            return Err(EvidenceError::Expired { height, after }.into());
        }
        if height > next {
            return Err(EvidenceError::Ahead { height, next }.into());
        }
        evidence.verify(&self.state.rules.chain)?;
        if let Some(row) = self.state.delegation.term_keys.get_mut(&key) {
            row.convicted = true;
        }
        let owner = self.member(&term_key.home)?.admission.owner.clone();
        self.state.delegation.barred.insert(owner_hash(&owner), time.plus_ms(BARRED_MS));
        self.eject(&owner, time);
        Ok(())
    }

    /// Takes the seats of an owner: one at the most, unless the founders gave it more.
    fn eject(&mut self, owner: &str, time: Timestamp) {
        let mut seats = self.state.delegation.coming.as_slice().to_vec();
        seats.retain(|seat| self.owner_of(&seat.home) == Some(owner));
        for seat in seats {
            self.vacate(&seat, SeatLoss::Equivocation, time);
        }
    }

    pub(super) fn owner_of(&self, home: &HomeId) -> Option<&str> {
        self.state.members.get(home).map(|member| member.admission.owner.as_str())
    }

    /// Gives a seat to the first standby, two heights later.
    ///
    /// At most as many seats as may fail change hands between two elections, so that what is proven of single delegates never
    /// changes the majority. Where nobody stands by, one who contradicted itself loses the seat all the same if four remain;
    /// one who is only silent keeps it.
    pub(super) fn vacate(&mut self, seat: &Delegate, reason: SeatLoss, time: Timestamp) {
        let may_change = self.state.delegation.changed < self.state.delegation.faults;
        let standby = if may_change { self.take_standby(seat, time) } else { None };
        let mut seats = self.state.delegation.coming.as_slice().to_vec();
        seats.retain(|held| held.key != seat.key);
        let fate = match &standby {
            Some(standby) => {
                seats.push(standby.clone());
                SeatFate::Replaced(standby.key)
            }
            None if may_change && reason == SeatLoss::Equivocation && seats.len() >= SEATS_MIN => {
                SeatFate::Removed
            }
            None => SeatFate::Kept,
        };
        if fate != SeatFate::Kept {
            self.state.delegation.seat(seats);
        }
        self.outcomes.push(Outcome::Seat(SeatOutcome { key: seat.key, reason, fate }));
    }

    /// The first of those who stand by and may still be delegates; who may not is passed over for the rest of the term.
    fn take_standby(&mut self, leaving: &Delegate, time: Timestamp) -> Option<Delegate> {
        let term = self.state.delegation.coming.term();
        let interval = Interval::containing(time, self.state.mtu());
        while !self.state.delegation.standbys.is_empty() {
            let home = self.state.delegation.standbys.remove(0);
            let section = &self.state.delegation;
            let Some(member) = self.state.members.get(&home) else { continue };
            let owner = &member.admission.owner;
            let others = section.coming.as_slice().iter().filter(|seat| seat.key != leaving.key);
            let fits = member.is_member_in(interval)
                && section.in_stake(&home)
                && !section.opted_out.contains(&home)
                && section.barred_until(owner, time).is_none()
                && others.into_iter().all(|seat| self.owner_of(&seat.home) != Some(owner.as_str()));
            if let Some(candidacy) = section.candidacies.get(&(term, home.clone())).filter(|_| fits) {
                return Some(Delegate { key: candidacy.keys.consensus, home });
            }
        }
        None
    }

    /// A member that has not left by now.
    pub(super) fn member_now(&self, home: &HomeId, time: Timestamp) -> Result<&Member, EntryError> {
        let interval = Interval::containing(time, self.state.mtu());
        let member = self.member(home)?;
        if member.is_member_in(interval) {
            Ok(member)
        } else {
            Err(EntryError::NoMemberIn { home: home.clone(), interval })
        }
    }
}
