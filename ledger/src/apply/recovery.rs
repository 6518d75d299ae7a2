//! What a recovery does to the state: other delegates decide, nothing else changes.

use energy::{HomeId, Timestamp};

use super::Step;
use crate::block::{Delegate, DelegateSet};
use crate::delegation::TermKeys;
use crate::entry::Chain;
use crate::outcome::Outcome;
use crate::recovery::{RecoveryError, SeatOffer};
use crate::seats::{ElectionOutcome, ElectionResult};
use crate::state::Rules;

impl Step {
    /// Seats those who offered, from the next block on, and goes on as `chain`. Nothing settles and no gate closes: the time
    /// without blocks is an outage like any other, and the next block treats it as one.
    pub fn recover(
        &mut self,
        chain: Chain,
        seats: &[SeatOffer],
        time: Timestamp,
    ) -> Result<(), RecoveryError> {
        let epoch = self.state.delegation.epoch.number;
        for offer in seats {
            self.is_fit(&chain, offer, time)?;
        }
        self.owners_are_distinct(seats)?;
        let term = self.state.delegation.coming_term();
        let delegate = |offer: &SeatOffer| Delegate { key: offer.keys.consensus, home: offer.home.clone() };
        let set = DelegateSet::new(term, seats.iter().map(delegate).collect());
        let set = set.ok_or(RecoveryError::Form {
            what: "a recovery seats 1 to 31 homes, each with a key of its own",
        })?;
        self.outcomes.push(Outcome::Election(ElectionOutcome {
            epoch,
            result: ElectionResult::Recovered,
            turnout_permille: 0,
            candidates: u32::try_from(seats.len()).unwrap_or(u32::MAX),
            term,
            faults: set.faults(),
            seats: set.as_slice().iter().map(|delegate| delegate.key).collect(),
        }));
        let keys: Vec<(HomeId, TermKeys)> =
            seats.iter().map(|offer| (offer.home.clone(), offer.keys)).collect();
        self.state.grace_until = self.state.grace_from(time);
        self.state.time = time;
        self.state.delegation.recover(set, keys, time);
        self.state.rules = Rules { chain, ..(*self.state.rules).clone() }.into();
        Ok(())
    }

    /// A member that is not barred, with keys that were never used for anything but its candidacy for the same term.
    fn is_fit(&self, chain: &Chain, offer: &SeatOffer, time: Timestamp) -> Result<(), RecoveryError> {
        let fault = |what| Err(RecoveryError::Seat { home: offer.home.clone(), what });
        let Ok(member) = self.member_now(&offer.home, time) else { return fault("it is no member") };
        if !offer.holds(chain, &member.admission.keys.member) {
            return fault("its offer is not signed by its member key and both new keys, for this recovery");
        }
        let section = &self.state.delegation;
        if section.barred_until(&member.admission.owner, time).is_some() {
            return fault("its owner is barred, for one of its delegates contradicted itself");
        }
        let place = (section.coming_term(), offer.home.clone());
        let stood_with = section.candidacies.get(&place).map(|candidacy| candidacy.keys);
        let TermKeys { consensus, cosigner } = offer.keys;
        let is_used = |key| self.is_key_in_use(key);
        if consensus == cosigner
            || (stood_with != Some(offer.keys) && (is_used(&consensus) || is_used(&cosigner)))
        {
            return fault("one of its keys was used before");
        }
        Ok(())
    }

    fn owners_are_distinct(&self, seats: &[SeatOffer]) -> Result<(), RecoveryError> {
        let mut owners = Vec::new();
        let mut cosigners = Vec::new();
        for SeatOffer { home, keys, .. } in seats {
            let owner = self.owner_of(home);
            if owners.contains(&owner) {
                return Err(RecoveryError::Seat { home: home.clone(), what: "its owner has a seat already" });
            }
            if cosigners.contains(&keys.cosigner) || seats.iter().any(|of| of.keys.consensus == keys.cosigner)
            {
                return Err(RecoveryError::Seat {
                    home: home.clone(),
                    what: "another home has one of its keys",
                });
            }
            owners.push(owner);
            cosigners.push(keys.cosigner);
        }
        Ok(())
    }
}
