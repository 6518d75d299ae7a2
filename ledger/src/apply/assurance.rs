//! Evidence about meters, and the statements that rest on it.

use energy::{HomeId, Interval, Timestamp};

use super::{Step, by};
use crate::assurance::{
    AssuranceStatement, EvidenceState, Ground, INVERTER_PERMILLE_MAX, MeterAssurance, MeterEvidence,
    PEAK_W_MAX, Stated, VOLTAGE_DV_MAX,
};
use crate::entry::{Entry, VerifiedEntry};
use crate::error::EntryError;
use crate::state::State;

impl Step {
    pub(super) fn meter_evidence(
        &mut self,
        entry: &Entry,
        evidence: &MeterEvidence,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let member = self.member(&evidence.home)?;
        if entry.signer != member.admission.keys.reading {
            return Err(EntryError::NotEntitled {
                kind: "meter-evidence",
                needed: "the member's reading key",
            });
        }
        self.is_of_one_day(evidence, time)?;
        is_possible(evidence)?;
        let mut assurance = self.state.assurance.get(&evidence.home).cloned().unwrap_or_default();
        let last = assurance.evidence.map(|last| last.from);
        if let Some(last) = last.filter(|last| day_of(evidence.from) <= day_of(*last)) {
            return Err(EntryError::EvidenceGiven { from: evidence.from, last });
        }
        assurance.evidence = Some(EvidenceState::with(assurance.evidence, evidence));
        self.state.assurance.insert(evidence.home.clone(), assurance);
        Ok(())
    }

    /// Evidence is of the past, of days the ledger remembers, and of one day alone.
    fn is_of_one_day(&self, evidence: &MeterEvidence, time: Timestamp) -> Result<(), EntryError> {
        let from = evidence.from;
        if from.mtu() != self.state.mtu() {
            return Err(EntryError::WrongMtu);
        }
        let count = u64::try_from(evidence.voltage_dv.len()).unwrap_or(u64::MAX).max(1);
        let last = Interval::from_index(from.index().saturating_add(count.saturating_sub(1)), from.mtu());
        if day_of(last) != day_of(from) {
            return Err(EntryError::Malformed { what: "the evidence is of more than one market day" });
        }
        if last.end() > time {
            return Err(EntryError::FromTheFuture { end: last.end(), time });
        }
        self.is_remembered(from)
    }

    pub(super) fn assurance_statement(
        &mut self,
        verified: &VerifiedEntry,
        statement: &AssuranceStatement,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let Some(root) = &self.state.rules.genesis.root_meter else {
            return Err(EntryError::NoRootMeter);
        };
        by(verified, &root.key, "the root meter's key")?;
        let until = statement.until;
        if until.mtu() != self.state.mtu() {
            return Err(EntryError::WrongMtu);
        }
        if until.end() > time {
            return Err(EntryError::FromTheFuture { end: until.end(), time });
        }
        self.is_remembered(until)?;
        if statement.meters.is_empty() {
            return Err(EntryError::Malformed { what: "a statement is about at least one meter" });
        }
        if !statement.meters.is_sorted_by(|left, right| left.home < right.home) {
            return Err(EntryError::Malformed {
                what: "a statement names its homes in ascending order, each once",
            });
        }
        let booked = statement.meters.iter().map(|found| self.state_assurance(until, found));
        let meters = booked.collect::<Result<_, _>>()?;
        self.statements.push(AssuranceStatement { until, meters });
        Ok(())
    }

    /// Books what was found of one home's meter, at the highest level its findings and the ledger give if it claims more:
    /// what a home did since the statement was made (evidence that grew old, another meter) is no fault of the other homes.
    fn state_assurance(
        &mut self,
        until: Interval,
        found: &MeterAssurance,
    ) -> Result<MeterAssurance, EntryError> {
        self.member(&found.home)?;
        let mut assurance = self.state.assurance.get(&found.home).cloned().unwrap_or_default();
        let ground = self.state.ground(&found.home, until);
        let early = |last: &u64| until.index() < last.saturating_add(ground.every);
        if let Some(last) = assurance.stated_until.filter(early) {
            return Err(EntryError::StatedLately {
                home: found.home.clone(),
                last: self.state.interval(last),
                every: ground.every,
            });
        }
        let booked =
            MeterAssurance { level: found.level.min(assurance.ceiling(found, ground)), ..found.clone() };
        let whole_since = assurance.whole_since(found, ground);
        assurance.stated = Some(Stated { until, found: booked.clone(), whole_since });
        assurance.stated_until = Some(until.index());
        self.state.assurance.insert(found.home.clone(), assurance);
        Ok(booked)
    }

    /// What was stated is about the meter that was there.
    pub(super) fn forget_assurance(&mut self, home: &HomeId) {
        if let Some(mut assurance) = self.state.assurance.get(home).cloned() {
            assurance.stated = None;
            self.state.assurance.insert(home.clone(), assurance);
        }
    }
}

impl State {
    /// Intervals between two statements about a meter, at least.
    pub(crate) fn assurance_every(&self) -> u64 {
        let clock = self.rules.genesis.clock;
        u64::from(clock.map_or(self.mtu().per_day(), |clock| clock.assurance_every))
    }

    /// What a statement about a home's meter stands on.
    pub(crate) fn ground(&self, home: &HomeId, until: Interval) -> Ground {
        Ground {
            until,
            every: self.assurance_every(),
            is_read: self.members.get(home).is_some_and(|member| {
                member.is_read && member.meter_since.is_none_or(|since| until.index() > since)
            }),
        }
    }
}

/// Market days are counted in UTC.
fn day_of(interval: Interval) -> u64 {
    interval.index().div_euclid(u64::from(interval.mtu().per_day()))
}

fn is_possible(evidence: &MeterEvidence) -> Result<(), EntryError> {
    let fault = |what| Err(EntryError::Malformed { what });
    if evidence.voltage_dv.iter().any(|voltage| *voltage > VOLTAGE_DV_MAX) {
        return fault("a voltage is above 1 000 V");
    }
    if evidence.pv.is_some_and(|pv| !(1..=PEAK_W_MAX).contains(&pv.peak_w)) {
        return fault("the peak power of a PV plant must lie between 1 W and 1 MW");
    }
    if evidence.inverter_permille.is_some_and(|ratio| ratio > INVERTER_PERMILLE_MAX) {
        return fault("the inverter's energy is more than a thousand times its meter's");
    }
    Ok(())
}
