//! What a block's end does to the delegates: who signed is counted, the silent lose their seats, an epoch ends with an election.

use energy::{HomeId, Interval, Timestamp};

use super::Step;
use super::delegation::SEATS_MIN;
use crate::block::{BlockId, Certificate, Delegate, DelegateSet};
use crate::codec::Encode;
use crate::crypto::Hash32;
use crate::delegation::{Delegation, Epoch, KEY_MEMORY_MS, Signing, slot_ms};
use crate::election::{Candidate, Elected, NotElected, Voter, elect, turnout};
use crate::entry::Chain;
use crate::genesis::Stake;
use crate::outcome::Outcome;
use crate::seats::{ElectionOutcome, ElectionResult, SeatLoss};

/// A block that is about to be complete.
pub(crate) struct Closing<'b> {
    pub chain: &'b Chain,
    pub parent: BlockId,
    pub time: Timestamp,
    pub last_commit: Option<&'b Certificate>,
}

impl Step {
    /// Ends a block whose entries were applied.
    pub fn close(&mut self, closing: &Closing<'_>) {
        let time = closing.time;
        self.state.delegation.count_day(time);
        if let Some(certificate) = closing.last_commit {
            self.count_signatures(certificate, time);
            self.replace_the_silent(time);
        }
        if self.is_epoch_over(time) {
            self.hold_election(closing);
        }
        self.state.delegation.move_up();
    }

    fn count_signatures(&mut self, certificate: &Certificate, time: Timestamp) {
        let slot_ms = slot_ms(self.state.rules.genesis.epoch_ms());
        let section = &mut self.state.delegation;
        let seats = section.last.clone();
        for (position, seat) in seats.as_slice().iter().enumerate() {
            let signed = certificate.signatures.iter().any(|(signer, _)| usize::from(*signer) == position);
            let mut row = section.signing.remove(&seat.home).unwrap_or_else(|| Signing::new(time));
            row.count(time, slot_ms, signed);
            section.signing.insert(seat.home.clone(), row);
        }
    }

    /// Who signed less than half of a whole day's blocks gives its seat to a standby, if there is one.
    fn replace_the_silent(&mut self, time: Timestamp) {
        let (epoch_ms, heights) =
            (self.state.rules.genesis.epoch_ms(), self.state.rules.genesis.epoch_heights());
        let seats = self.state.delegation.coming.as_slice().to_vec();
        for seat in seats {
            let Some(row) = self.state.delegation.signing.get(&seat.home) else { continue };
            let (blocks, signed) = row.sums();
            let a_day = time.ms_since(row.since) >= epoch_ms && blocks >= heights;
            if a_day && signed.saturating_mul(2) < blocks {
                // Looked at again a day later if nobody can take its place.
                self.state.delegation.signing.insert(seat.home.clone(), Signing::new(time));
                self.vacate(&seat, SeatLoss::Silence, time);
            }
        }
    }

    fn is_epoch_over(&self, time: Timestamp) -> bool {
        let genesis = &self.state.rules.genesis;
        let Epoch { after, start, .. } = self.state.delegation.epoch;
        let heights = self.state.delegation.height.saturating_add(1).saturating_sub(after);
        time.ms_since(start) >= genesis.epoch_ms() && heights >= genesis.epoch_heights()
    }

    fn hold_election(&mut self, closing: &Closing<'_>) {
        let (time, epoch) = (closing.time, self.state.delegation.epoch.number);
        let seed = Hash32::of(&[
            b"commonwatt/epoch-seed/v1",
            &closing.chain.to_bytes(),
            &epoch.to_bytes(),
            &closing.parent.to_bytes(),
        ]);
        let voters = self.voters(time);
        let candidates = self.candidates(&voters, time);
        let elected = elect(&voters, &candidates, &seed);
        let result = match elected {
            Ok(elected) if self.would_lose_its_fault(&elected, voters.len()) => ElectionResult::Few,
            Ok(elected) => self.seat_elected(elected),
            Err(NotElected::Turnout { .. }) => ElectionResult::Turnout,
            Err(NotElected::Candidates) => ElectionResult::Candidates,
        };
        let (cast, all) = turnout(&voters);
        let permille = cast.saturating_mul(1000).checked_div(all).unwrap_or_default();
        self.count_signals(time);
        self.begin_epoch(time);
        let set = &self.state.delegation.coming;
        self.outcomes.push(Outcome::Election(ElectionOutcome {
            epoch,
            result,
            turnout_permille: u32::try_from(permille).unwrap_or(1000),
            candidates: u32::try_from(candidates.len()).unwrap_or(u32::MAX),
            term: set.term(),
            faults: set.faults(),
            seats: set.as_slice().iter().map(|delegate| delegate.key).collect(),
        }));
        if result != ElectionResult::Elected {
            self.eject_barred(time);
        }
    }

    /// Looks again at who was convicted and kept its seat, since in the new epoch seats may change hands anew.
    fn eject_barred(&mut self, time: Timestamp) {
        for seat in self.state.delegation.coming.as_slice().to_vec() {
            let owner = self.owner_of(&seat.home);
            if owner.is_some_and(|owner| self.state.delegation.barred_until(owner, time).is_some()) {
                self.vacate(&seat, SeatLoss::Equivocation, time);
            }
        }
    }

    /// Every member whose word counts, with the ballot that does.
    fn voters(&self, time: Timestamp) -> Vec<Voter> {
        let interval = Interval::containing(time, self.state.mtu());
        let section = &self.state.delegation;
        let members = self.state.members.sorted().into_iter();
        let in_stake =
            members.filter(|(home, member)| member.is_member_in(interval) && section.in_stake(home));
        let voter = |(home, owner): (&HomeId, &String)| Voter {
            home: home.clone(),
            owner: owner.clone(),
            shares: self.shares(home),
            ballot: section
                .ballots
                .get(home)
                .map(|ballots| ballots.counted(section.epoch.number).clone())
                .unwrap_or_default(),
        };
        in_stake.map(|(home, member)| voter((home, &member.admission.owner))).collect()
    }

    fn shares(&self, home: &HomeId) -> u64 {
        match self.state.rules.genesis.stake {
            Stake::Membership => 1,
            Stake::Certified => Delegation::shares_of(self.state.delegation.energy_of(home)),
        }
    }

    /// Those of the voters who stand for the coming term and may.
    fn candidates(&self, voters: &[Voter], time: Timestamp) -> Vec<Candidate> {
        let section = &self.state.delegation;
        let term = section.coming_term();
        let stands = |voter: &&Voter| {
            section.candidacies.contains(&(term, voter.home.clone()))
                && section.barred_until(&voter.owner, time).is_none()
        };
        let standing = voters.iter().filter(stands);
        standing.map(|voter| Candidate { home: voter.home.clone(), owner: voter.owner.clone() }).collect()
    }

    /// True if a set that bears a failure would give way to one that bears none, although there are members enough.
    fn would_lose_its_fault(&self, elected: &Elected, voters: usize) -> bool {
        let present = self.state.delegation.coming.len();
        elected.seats.len() < SEATS_MIN && present >= SEATS_MIN && voters >= SEATS_MIN
    }

    fn seat_elected(&mut self, elected: Elected) -> ElectionResult {
        let section = &mut self.state.delegation;
        let term = section.coming_term();
        let seat = |home: &HomeId| {
            let candidacy = section.candidacies.get(&(term, home.clone()))?;
            Some(Delegate { key: candidacy.keys.consensus, home: home.clone() })
        };
        let seats = elected.seats.iter().filter_map(seat).collect();
        // Keys and homes are each there once, and candidates have keys, so this is a set.
        let Some(set) = DelegateSet::new(term, seats) else { return ElectionResult::Candidates };
        section.coming = set.into();
        section.standbys = elected.standbys;
        ElectionResult::Elected
    }

    /// Turns to the next epoch and forgets what neither the seated term nor evidence needs any more.
    fn begin_epoch(&mut self, time: Timestamp) {
        let section = &mut self.state.delegation;
        section.earlier = (section.earlier.1, section.epoch.after);
        let height = section.height.saturating_add(1);
        section.epoch = Epoch { number: section.coming_term(), after: height, start: time };
        (section.faults, section.changed) = (section.coming.faults(), 0);
        let seated = section.coming.term();
        section.candidacies.extract(|(term, _)| *term != seated);
        let barred: Vec<_> =
            section.barred.iter().filter(|(_, until)| **until <= time).map(|(of, _)| *of).collect();
        for owner in barred {
            section.barred.remove(&owner);
        }
        let is_old = |registered: Timestamp| time.ms_since(registered) > KEY_MEMORY_MS;
        let sets =
            [section.last.clone(), section.delegates.clone(), section.next.clone(), section.coming.clone()];
        let old = section.term_keys.iter().filter(|(key, row)| {
            let standing = section.candidacies.contains(&(seated, row.home.clone()));
            is_old(row.registered) && !standing && sets.iter().all(|set| set.seat_of(key).is_none())
        });
        let old: Vec<_> = old.map(|(key, _)| *key).collect();
        for key in old {
            section.term_keys.remove(&key);
        }
    }
}
