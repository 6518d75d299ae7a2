//! Members: admission, keys, meters, limits, contracts; and the tariffs they live by.

use std::collections::BTreeSet;

use energy::{HomeId, Interval, Price, Timestamp};

use super::meter::Owner;
use super::{Step, by, gate_of, with};
use crate::crypto::PublicKey;
use crate::entry::{Admission, MemberKeys, OwnContract, StandingLimits, TariffPoint, VerifiedEntry};
use crate::error::EntryError;
use crate::genesis::{Forward, MEMBERS_MAX, PRICE_LIMIT, TARIFF_NOTICE_MS};
use crate::state::{Member, Numbers};

impl Step {
    pub(super) fn admission(
        &mut self,
        verified: &VerifiedEntry,
        admission: &Admission,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        by(verified, &self.roles().operator, "the operator")?;
        if !self.is_countersigned_by_delegates(verified) {
            return Err(EntryError::NotEntitled {
                kind: "admission",
                needed: "as many delegates as are more than half of the seats, each with its member key",
            });
        }
        if self.state.members.contains(&admission.home) {
            return Err(EntryError::AlreadyMember { home: admission.home.clone() });
        }
        if self.state.members.len() >= MEMBERS_MAX {
            return Err(EntryError::Malformed { what: "the community has as many members as it can" });
        }
        if !admission.size.is_possible() {
            return Err(EntryError::Malformed { what: "a connection carries at most 1 MWh an interval" });
        }
        if admission.owner.is_empty() {
            return Err(EntryError::Malformed { what: "an admission names the owner" });
        }
        if self.state.rules.network.index_of(&admission.node).is_none() {
            return Err(EntryError::UnknownNode { node: admission.node.clone() });
        }
        self.keys_are_free(&admission.keys, None)?;
        self.serial_is_free(&admission.meter, Owner::Nobody)?;
        let since = Interval::containing(time, self.state.mtu()).index();
        let member = Member::new(admission.clone(), since, verified.entry().salt);
        self.state.members.insert(admission.home.clone(), member);
        Ok(())
    }

    /// More than half as many owners as there are seats signed with the member keys of homes that are delegates or were so
    /// lately. Member keys, because a term's keys are gone before an entry that travels from home to home has come back; owners,
    /// because several homes of one may have been delegates one after the other.
    fn is_countersigned_by_delegates(&self, verified: &VerifiedEntry) -> bool {
        let section = &self.state.delegation;
        let mut owners = BTreeSet::new();
        for home in section.delegates_lately() {
            let Some(member) = self.state.members.get(&home) else { continue };
            if verified.is_signed_by(&member.admission.keys.member) {
                owners.insert(member.admission.owner.as_str());
            }
        }
        owners.len().saturating_mul(2) > section.delegates.len()
    }

    pub(super) fn key_rotation(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        keys: &MemberKeys,
    ) -> Result<(), EntryError> {
        let present = self.member(home)?.admission.keys;
        by(verified, &present.member, "the member's present key")?;
        self.keys_are_free(keys, Some(home))?;
        for (old, new) in all_of(&present).into_iter().zip(all_of(keys)).filter(|(old, new)| old != new) {
            self.carry_quota(old, new);
        }
        self.member_mut(home)?.admission.keys = *keys;
        Ok(())
    }

    /// What a member signed in this hour counts for its new key too: the quota is a member's, not a key's.
    fn carry_quota(&mut self, old: PublicKey, new: PublicKey) {
        let Some(Numbers { hour, in_hour, .. }) = self.state.numbers.get(&old).copied() else { return };
        if in_hour > 0 {
            self.state.numbers.insert(new, Numbers { hour, in_hour, ..Numbers::default() });
        }
    }

    /// Numbers count per key, so a key means one purpose of one member, for ever. A member may keep keys it has, each for
    /// its purpose.
    fn keys_are_free(&self, keys: &MemberKeys, except: Option<&HomeId>) -> Result<(), EntryError> {
        let all = all_of;
        let new = all(keys);
        let present =
            except.map(|home| self.member(home)).transpose()?.map(|member| all(&member.admission.keys));
        let is_kept =
            |place: usize, key: &PublicKey| present.is_some_and(|keys| keys.get(place) == Some(key));
        if let Some((_, key)) =
            new.into_iter().enumerate().find(|(place, key)| !is_kept(*place, key) && self.is_key_in_use(key))
        {
            return Err(EntryError::KeyInUse { key });
        }
        let [member, reading, network] = new;
        if member == reading || member == network || reading == network {
            return Err(EntryError::KeyInUse { key: reading });
        }
        Ok(())
    }

    pub(super) fn standing_limits(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        limits: StandingLimits,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        prices_within_limit(&[limits.min_sell, limits.max_buy])?;
        by(verified, &self.member(home)?.admission.keys.member, "the member")?;
        let (from, next_to_settle) = (self.next_interval(time), self.state.next_to_settle);
        self.member_mut(home)?.limits.set(from, limits, next_to_settle);
        Ok(())
    }

    pub(super) fn own_contract(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        contract: OwnContract,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        prices_within_limit(&[contract.import_price, contract.export_price])?;
        by(verified, &self.member(home)?.admission.keys.member, "the member")?;
        with(verified, &self.roles().operator, "the operator")?;
        // Late readings settle at the contract of their interval.
        let (from, oldest) = (self.next_interval(time), self.state.oldest_remembered());
        self.member_mut(home)?.contract.set(from, contract, oldest);
        Ok(())
    }

    /// Index of the first interval that starts after `time`.
    fn next_interval(&self, time: Timestamp) -> u64 {
        Interval::containing(time, self.state.mtu()).next().index()
    }

    /// When an interval's prices are first relied on: at its gate, where there is forward trading.
    fn first_use(&self, interval: Interval) -> Timestamp {
        match self.state.rules.genesis.forward {
            Forward::Off => interval.start(),
            Forward::Auction | Forward::Posted => gate_of(interval),
        }
    }

    /// True if an interval is first relied on in an hour or later.
    pub(super) fn is_in_time(&self, from: Interval, time: Timestamp) -> bool {
        self.first_use(from).ms_since(time) >= TARIFF_NOTICE_MS
    }

    /// What is published for the community comes from the operator. What is out of the ordinary takes two of operator, treasurer
    /// and auditor; these two together can publish also where the operator cannot.
    pub(super) fn may_publish(&self, verified: &VerifiedEntry, is_ordinary: bool) -> Result<(), EntryError> {
        let roles = self.roles();
        let answerable = [&roles.operator, &roles.treasurer, &roles.auditor];
        let signers = verified.count_signers(answerable);
        let author = &verified.entry().signer;
        if signers >= 2 && answerable.contains(&author) {
            return Ok(());
        }
        by(verified, &roles.operator, "the operator")?;
        if is_ordinary {
            return Ok(());
        }
        Err(EntryError::NotEntitled {
            kind: verified.entry().body.kind(),
            needed: "treasurer or auditor as well, being outside the caps or at less than an hour's notice",
        })
    }

    pub(super) fn tariff_series(
        &mut self,
        verified: &VerifiedEntry,
        from: Interval,
        points: &[TariffPoint],
        time: Timestamp,
    ) -> Result<(), EntryError> {
        self.are_prices_ahead(from, points.len(), time)?;
        let within_caps = points.iter().all(|point| self.state.is_ordinary_tariff(point));
        self.may_publish(verified, within_caps && self.is_in_time(from, time))?;
        for point in points {
            prices_within_limit(&[Some(point.import_price), Some(point.export_price)])?;
        }
        let mut interval = from;
        for point in points {
            self.state.tariff.insert(interval.index(), *point);
            interval = interval.next();
        }
        Ok(())
    }
}

const fn all_of(keys: &MemberKeys) -> [PublicKey; 3] {
    [keys.member, keys.reading, keys.network]
}

fn prices_within_limit(prices: &[Option<Price>]) -> Result<(), EntryError> {
    let low = Price::new(PRICE_LIMIT.get().saturating_neg());
    let beyond = |price: &Price| !(low..=PRICE_LIMIT).contains(price);
    if prices.iter().flatten().any(beyond) { Err(EntryError::PriceLimit) } else { Ok(()) }
}
