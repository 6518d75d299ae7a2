//! What the operators publish: network fees, envelopes, caps of connections, metered energy; and changes of a member's part.

use std::collections::BTreeSet;

use energy::{HomeId, Interval, NodeId, Price, Quality, Timestamp, WattHours};
use market::Metered;

use super::{Step, by, gate_of, with};
use crate::entry::{ConnectionSize, EnvelopePoint, FeePoint, Participation, VerifiedEntry};
use crate::error::EntryError;
use crate::genesis::{
    Forward, INTERVAL_ENERGY_MAX, LIMITS_AHEAD_MS, PRICES_AHEAD_MS, ReadingSource, SHARES_MAX,
};
use crate::state::Pending;

impl Step {
    /// The rules of tariffs; and a fee is never below zero, which would pay for moving energy in circles.
    pub(super) fn network_fees(
        &mut self,
        verified: &VerifiedEntry,
        node: &NodeId,
        from: Interval,
        points: &[FeePoint],
        time: Timestamp,
    ) -> Result<(), EntryError> {
        self.is_edge(node)?;
        self.are_prices_ahead(from, points.len(), time)?;
        if points.iter().any(|point| point.up.min(point.down) < Price::ZERO) {
            return Err(EntryError::Malformed { what: "a network fee is never below zero" });
        }
        let max = self.state.rules.fee_max;
        if points.iter().any(|point| point.up.max(point.down) > max) {
            return Err(EntryError::FeeLimit { max });
        }
        let within_caps = points.iter().all(|point| self.state.is_ordinary_fee(point));
        self.may_publish(verified, within_caps && self.is_in_time(from, time))?;
        for (interval, point) in intervals_from(from, points.len()).zip(points) {
            self.state.fees.insert((interval.index(), node.clone()), *point);
        }
        Ok(())
    }

    /// A lower envelope needs no notice: what endangers a feeder is often late news, so it binds until the gate closes. A higher
    /// one does, and one above the edge's rating is out of the ordinary whenever it comes.
    pub(super) fn envelope(
        &mut self,
        verified: &VerifiedEntry,
        node: &NodeId,
        from: Interval,
        points: &[EnvelopePoint],
        time: Timestamp,
    ) -> Result<(), EntryError> {
        if self.state.rules.genesis.forward == Forward::Off {
            return Err(EntryError::ForwardOff);
        }
        self.is_edge(node)?;
        self.are_limits_ahead(from, points.len(), time)?;
        if self.is_closed(from) {
            return Err(EntryError::AfterGate { from, gate: gate_of(from) });
        }
        self.may_publish(verified, self.is_ordinary_envelope(node, from, points, time))?;
        let mut interval = from;
        for point in points {
            self.state.envelopes.insert((interval.index(), node.clone()), *point);
            interval = interval.next();
        }
        Ok(())
    }

    fn is_ordinary_envelope(
        &self,
        node: &NodeId,
        from: Interval,
        points: &[EnvelopePoint],
        time: Timestamp,
    ) -> bool {
        let specs = self.state.rules.network.specs();
        let Some(edge) = specs.iter().find(|spec| spec.id == *node) else { return false };
        let rating = EnvelopePoint { up: edge.up, down: edge.down };
        intervals_from(from, points.len()).zip(points).all(|(interval, point)| {
            let present = self.state.envelope_at(interval.index(), edge);
            is_within(point, &rating) && (self.is_in_time(interval, time) || is_within(point, &present))
        })
    }

    /// A cap needs no notice either, only that its interval has not begun. Orders beyond a cap that comes after them are cut
    /// at the gate; a position is firm, so a cap after the gate binds only what the home's devices do.
    pub(super) fn connection_cap(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        from: Interval,
        points: &[ConnectionSize],
        time: Timestamp,
    ) -> Result<(), EntryError> {
        by(verified, &self.roles().operator, "the operator")?;
        self.member(home)?;
        self.are_limits_ahead(from, points.len(), time)?;
        if !points.iter().all(ConnectionSize::is_possible) {
            return Err(EntryError::Malformed { what: "a connection carries at most 1 MWh an interval" });
        }
        let mut interval = from;
        for point in points {
            self.state.caps.insert((interval.index(), home.clone()), *point);
            interval = interval.next();
        }
        Ok(())
    }

    /// What the metering operator delivers is what settles; before the deadline the newest word counts, after it only what was
    /// missing is still settled, late.
    pub(super) fn operator_reading(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        from: Interval,
        points: &[Metered],
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let by_operator = self.state.rules.genesis.market.reading_source == ReadingSource::MeteringOperator;
        let Some(metering) = self.roles().metering_operator.filter(|_| by_operator) else {
            return Err(EntryError::OtherSource);
        };
        by(verified, &metering, "the metering operator")?;
        self.is_over(from, points.len(), time)?;
        for (interval, metered) in intervals_from(from, points.len()).zip(points) {
            self.can_be_read(home, interval, *metered)?;
        }
        let salt = verified.entry().salt;
        self.state.delegation.count_reading(home, time);
        for (interval, metered) in intervals_from(from, points.len()).zip(points) {
            let pending = Pending { metered: *metered, quality: Quality::Good, salt };
            self.book_operator_reading(home, interval, pending)?;
        }
        Ok(())
    }

    /// Only what was metered can be read.
    fn is_over(&self, from: Interval, points: usize, time: Timestamp) -> Result<(), EntryError> {
        if from.mtu() != self.state.mtu() {
            return Err(EntryError::WrongMtu);
        }
        let Some(last) = intervals_from(from, points).last() else {
            return Err(EntryError::Malformed { what: "a series needs at least one point" });
        };
        if last.end() > time {
            return Err(EntryError::FromTheFuture { end: last.end(), time });
        }
        self.is_remembered(from)
    }

    fn can_be_read(&self, home: &HomeId, interval: Interval, metered: Metered) -> Result<(), EntryError> {
        let max = INTERVAL_ENERGY_MAX;
        for (register, grown) in [("import", metered.import), ("export", metered.export)] {
            if grown > max {
                return Err(EntryError::Implausible { register, grown, max });
            }
        }
        self.was_member(home, interval)?;
        let index = interval.index();
        if index < self.state.next_to_settle && !self.state.is_unread(home, index) {
            return Err(EntryError::SettledAlready { home: home.clone(), interval });
        }
        Ok(())
    }

    fn book_operator_reading(
        &mut self,
        home: &HomeId,
        interval: Interval,
        pending: Pending,
    ) -> Result<(), EntryError> {
        let key = (interval.index(), home.clone());
        let is_late = self.state.take_unread(home, interval.index());
        let replaced = if is_late { None } else { self.state.pending.insert(key, pending) };
        let before = replaced.map(|pending| pending.metered).unwrap_or_default();
        self.count_energy(home, interval, before, pending.metered)?;
        let totals = &mut self.member_mut(home)?.totals;
        let moved = |read: u64, before: WattHours, now: WattHours| {
            read.saturating_sub(before.get()).saturating_add(now.get())
        };
        totals.import_read = moved(totals.import_read, before.import, pending.metered.import);
        totals.export_read = moved(totals.export_read, before.export, pending.metered.export);
        if is_late { self.settle_late(home, interval, Some(&pending)) } else { Ok(()) }
    }

    /// From an interval that has not begun; never backwards. All shares together never come to more than the whole.
    pub(super) fn participation_change(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        from: Interval,
        participation: Participation,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        by(verified, &self.member(home)?.admission.keys.member, "the member")?;
        with(verified, &self.roles().operator, "the operator")?;
        if !participation.is_possible() {
            return Err(EntryError::Malformed {
                what: "a home takes part with at most all of its energy (1 000) and of the shared energy (10 000)",
            });
        }
        self.is_ahead(from, 1, time)?;
        self.was_member(home, from)?;
        let oldest = self.state.oldest_remembered();
        self.member_mut(home)?.participation.set(from.index(), participation, oldest);
        self.shares_fit(from)
    }

    /// From `from` on no interval may have agreed shares of more than 10 000 of 10 000.
    fn shares_fit(&self, from: Interval) -> Result<(), EntryError> {
        let of_members =
            self.state.members.iter().flat_map(|(_, of)| of.participation.changes_after(from.index()));
        let changes: BTreeSet<u64> = of_members.chain([from.index()]).collect();
        for interval in changes.into_iter().map(|index| self.state.interval(index)) {
            let present = self.state.members.iter().filter(|(_, member)| member.is_member_in(interval));
            let shares = present.map(|(_, member)| member.participation_at(interval).share_permyriad);
            let sum: u64 = shares.map(u64::from).sum();
            if sum > u64::from(SHARES_MAX) {
                return Err(EntryError::Shares { sum, from: interval });
            }
        }
        Ok(())
    }

    fn is_edge(&self, node: &NodeId) -> Result<(), EntryError> {
        let network = &self.state.rules.network;
        match network.index_of(node) {
            Some(index) if index != network.root() => Ok(()),
            Some(_) => Err(EntryError::Malformed { what: "the root has no edge to a parent" }),
            None => Err(EntryError::UnknownNode { node: node.clone() }),
        }
    }

    /// A series for intervals of this community that have not begun.
    pub(super) fn is_ahead(&self, from: Interval, points: usize, time: Timestamp) -> Result<(), EntryError> {
        if from.mtu() != self.state.mtu() {
            return Err(EntryError::WrongMtu);
        }
        if points == 0 {
            return Err(EntryError::Malformed { what: "a series needs at least one point" });
        }
        if from.start() <= time {
            return Err(EntryError::Retroactive { from, time });
        }
        Ok(())
    }

    /// The same for tariffs and network fees, which reach only so far.
    pub(super) fn are_prices_ahead(
        &self,
        from: Interval,
        points: usize,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        self.is_ahead(from, points, time)?;
        if is_near(from, points, time, PRICES_AHEAD_MS) {
            return Ok(());
        }
        Err(EntryError::Malformed {
            what: "tariffs and network fees reach at most 62 days ahead; publish the rest later",
        })
    }

    /// And for envelopes and caps.
    fn are_limits_ahead(&self, from: Interval, points: usize, time: Timestamp) -> Result<(), EntryError> {
        self.is_ahead(from, points, time)?;
        if is_near(from, points, time, LIMITS_AHEAD_MS) {
            return Ok(());
        }
        Err(EntryError::Malformed {
            what: "envelopes and caps reach at most 8 days ahead; publish the rest later",
        })
    }
}

/// True if an envelope allows no more than another, either way.
fn is_within(point: &EnvelopePoint, limit: &EnvelopePoint) -> bool {
    let within = |wanted: Option<WattHours>, most: Option<WattHours>| match (wanted, most) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(wanted), Some(most)) => wanted <= most,
    };
    within(point.up, limit.up) && within(point.down, limit.down)
}

/// `count` intervals from `from` on.
fn intervals_from(from: Interval, count: usize) -> impl Iterator<Item = Interval> {
    let ends = u64::try_from(count).unwrap_or(u64::MAX);
    (0..ends).map(move |after| Interval::from_index(from.index().saturating_add(after), from.mtu()))
}

/// Bounds what one operator can make every node keep.
fn is_near(from: Interval, points: usize, time: Timestamp, ahead_ms: u64) -> bool {
    let length = from.mtu().ms().saturating_mul(u64::try_from(points).unwrap_or(u64::MAX));
    from.start().plus_ms(length).ms_since(time) <= ahead_ms
}
