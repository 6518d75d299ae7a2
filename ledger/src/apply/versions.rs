//! Which rules a member's node can run, and what comes of it at an epoch's end.

use energy::{HomeId, Interval, Timestamp};

use super::{Step, by};
use crate::entry::VerifiedEntry;
use crate::error::EntryError;

impl Step {
    /// Holds until the member says otherwise.
    pub(super) fn rule_signal(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        version: u16,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        by(verified, &self.member_now(home, time)?.admission.keys.member, "the member")?;
        if self.state.versions.signals.get(home) == Some(&version) {
            return Err(EntryError::Malformed { what: "this version was signalled already" });
        }
        self.state.versions.signals.insert(home.clone(), version);
        Ok(())
    }

    /// At the end of an epoch: delegates are those who decided in it.
    pub(super) fn count_signals(&mut self, time: Timestamp) {
        let interval = Interval::containing(time, self.state.mtu());
        let members = self.state.members.sorted().into_iter();
        let members = members.filter(|(_, member)| member.is_member_in(interval)).map(|(home, _)| home);
        let seats = self.state.delegation.delegates.clone();
        let delegates = seats.as_slice().iter().map(|seat| &seat.home);
        let supported = self.state.versions.supported(&[members.collect(), delegates.collect()]);
        self.state.versions.end_epoch(supported);
    }
}
