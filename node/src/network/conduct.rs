//! How peers behave: points for what no honest node sends, and a ban for a while beyond a bound.
//!
//! Points are given only for what the bytes alone prove against who sent them. Nothing is given for being behind, for being
//! slow, or for a burst after an outage: what is over a rate is dropped, and only a peer that stays over it is charged.

use std::time::{Duration, Instant};

/// Beyond so many points a peer is banned.
const POINTS_MAX: u64 = 100;
/// One point is forgiven in so long.
const FORGIVEN_EVERY: Duration = Duration::from_secs(2);
/// The first ban; each further one within a day is twice as long.
const BAN_FIRST: Duration = Duration::from_secs(60);
/// No ban is longer: a node that was repaired must not wait a day for its neighbours.
const BAN_LONGEST: Duration = Duration::from_secs(3600);
/// Bans are forgotten after so long without another.
const BANS_FORGOTTEN: Duration = Duration::from_secs(86_400);
/// A peer over its rate is charged at most so often.
const EXCESS_EVERY: Duration = Duration::from_secs(1);

/// What a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// A frame that is no sequence of messages, or a gossiped message over the limit.
    Malformed,
    /// A message that cannot be read.
    Unreadable,
    /// An entry whose signatures do not hold, handed on as if they did.
    Forged,
    /// More than its rate for a second.
    Excess,
}

impl Offence {
    /// Four unreadable messages within a minute, or three minutes over the rate, are a ban: no transmission error gets
    /// through the encryption, and no queue of ours takes so long to drain.
    const fn points(self) -> u64 {
        match self {
            Self::Malformed => 50,
            Self::Unreadable | Self::Forged => 26,
            Self::Excess => 1,
        }
    }

    /// In words, for whoever looks at a node's status.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "it sent malformed frames",
            Self::Unreadable => "it sent messages that cannot be read",
            Self::Forged => "it handed on entries whose signatures do not hold",
            Self::Excess => "it kept sending more than its rate",
        }
    }
}

/// What is remembered of one peer.
pub(super) struct Conduct {
    points: u64,
    since: Instant,
    last_excess: Option<Instant>,
    bans: u32,
    banned_until: Option<Instant>,
}

impl Conduct {
    pub(super) const fn new(now: Instant) -> Self {
        Self { points: 0, since: now, last_excess: None, bans: 0, banned_until: None }
    }

    /// Charges an offence; for how long the peer is banned for it, if it is.
    pub(super) fn charge(&mut self, offence: Offence, now: Instant) -> Option<Duration> {
        if offence == Offence::Excess {
            let recent = self.last_excess.is_some_and(|last| now.duration_since(last) < EXCESS_EVERY);
            if recent {
                return None;
            }
            self.last_excess = Some(now);
        }
        self.forgive(now);
        self.points = self.points.saturating_add(offence.points());
        if self.points <= POINTS_MAX || self.is_banned(now) {
            return None;
        }
        let ban = BAN_FIRST.saturating_mul(1 << self.bans.min(6)).min(BAN_LONGEST);
        self.bans = self.bans.saturating_add(1);
        self.points = 0;
        self.banned_until = Some(now + ban);
        Some(ban)
    }

    fn forgive(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let forgiven = elapsed.as_millis() / FORGIVEN_EVERY.as_millis();
        let forgiven = u64::try_from(forgiven).unwrap_or(u64::MAX);
        if forgiven > 0 {
            self.points = self.points.saturating_sub(forgiven);
            self.since = now;
        }
        if self.banned_until.is_some_and(|until| now.saturating_duration_since(until) > BANS_FORGOTTEN) {
            self.bans = 0;
        }
    }

    pub(super) fn is_banned(&self, now: Instant) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn four_forged_entries_at_once_are_a_ban_and_the_next_one_is_longer() {
        let start = Instant::now();
        let mut conduct = Conduct::new(start);
        let verdicts: Vec<_> = (0..4).map(|_| conduct.charge(Offence::Forged, start)).collect();
        assert_eq!(verdicts, [None, None, None, Some(BAN_FIRST)]);
        assert!(conduct.is_banned(after(start, 59)) && !conduct.is_banned(after(start, 60)));
        let again = after(start, 100);
        let longer = (0..4).filter_map(|_| conduct.charge(Offence::Unreadable, again)).next();
        assert_eq!(longer, Some(BAN_FIRST * 2));
    }

    #[test]
    fn one_mistake_every_minute_is_never_a_ban() {
        let start = Instant::now();
        let mut conduct = Conduct::new(start);
        let verdicts = (0..500).map(|minute| conduct.charge(Offence::Unreadable, after(start, 60 * minute)));
        assert_eq!(verdicts.flatten().count(), 0);
    }

    #[test]
    fn a_burst_over_the_rate_is_no_ban_and_minutes_of_it_are() {
        let start = Instant::now();
        let mut conduct = Conduct::new(start);
        let burst = (0..100_000).filter_map(|_| conduct.charge(Offence::Excess, after(start, 1))).count();
        assert_eq!(burst, 0, "however much it was, it was one second");
        let banned = (2..400).find(|second| conduct.charge(Offence::Excess, after(start, *second)).is_some());
        assert!(banned.is_some_and(|second| second > 120), "{banned:?}");
    }

    #[test]
    fn no_ban_is_longer_than_an_hour_and_a_good_day_clears_the_record() {
        let start = Instant::now();
        let mut conduct = Conduct::new(start);
        let ban = |conduct: &mut Conduct, at| (0..9).find_map(|_| conduct.charge(Offence::Malformed, at));
        let bans: Vec<_> = (0..8).filter_map(|turn| ban(&mut conduct, after(start, turn * 4_000))).collect();
        assert_eq!((bans[0], bans[7]), (BAN_FIRST, BAN_LONGEST));
        assert_eq!(ban(&mut conduct, after(start, 200_000)), Some(BAN_FIRST));
    }
}
