//! The clocks of a node: the monotonic one, which every node shares with the run, and the one that says what time it is,
//! which may be wrong by minutes and jump. What a node thinks of it follows `node/src/clock.rs`.

use energy::{ClockQuality, Timestamp};

use super::street;

/// How far behind the newest block a trusted clock may be, ms of market time.
const BEHIND_MAX_MS: u64 = 60_000;
/// How far ahead of a block that was decided just now, ms of wall time.
const AHEAD_MAX_MS: u64 = 60_000;

/// A stretch of the run in which market time runs faster still: while a community without delegates waits for the day after
/// which it may seat others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lapse {
    /// From when until when, in wall ms of the run.
    pub(crate) from: u64,
    /// See `from`.
    pub(crate) until: u64,
    /// How many market ms pass in a wall ms beyond those that do at any time.
    pub(crate) extra: u32,
}

impl Lapse {
    /// Market ms that it has added by `now`.
    fn added_ms(&self, now: u64) -> u64 {
        now.min(self.until).saturating_sub(self.from) * u64::from(self.extra)
    }

    /// Market ms in a wall ms at `now`, where there are `speed` outside of it.
    pub(crate) fn speed_at(&self, now: u64, speed: u32) -> u32 {
        if (self.from..self.until).contains(&now) { speed + self.extra } else { speed }
    }
}

/// True market time, so many wall ms after the chain's start.
pub(crate) fn market_at(now: u64, speed: u32, lapse: Lapse) -> Timestamp {
    street::start().plus_ms(now * u64::from(speed) + lapse.added_ms(now))
}

/// One node's clock.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    speed: u32,
    lapse: Lapse,
    /// Wall ms that it is ahead; below zero: behind.
    skew_ms: i64,
    /// A time service says that it is right, and may be wrong itself.
    disciplined: bool,
    newest_block: Timestamp,
    ahead: bool,
}

impl Clock {
    pub(crate) const fn new(speed: u32, lapse: Lapse, skew_ms: i64) -> Self {
        Self { speed, lapse, skew_ms, disciplined: true, newest_block: street::start(), ahead: false }
    }

    /// Market time at a true instant, in wall ms since the chain's start.
    pub(crate) fn market(&self, now: u64) -> Timestamp {
        let wall = now.saturating_add_signed(self.skew_ms);
        let added = self.lapse.added_ms(now);
        street::start().plus_ms(wall.saturating_mul(u64::from(self.speed)).saturating_add(added))
    }

    /// Market ms in a wall ms now.
    pub(crate) fn speed_at(&self, now: u64) -> u32 {
        self.lapse.speed_at(now, self.speed)
    }

    /// Jumps. `disciplined`: a time service says so.
    pub(crate) const fn set(&mut self, skew_ms: i64, disciplined: bool) {
        (self.skew_ms, self.disciplined) = (skew_ms, disciplined);
    }

    /// A block of `time` is final; a `fresh` one was decided just now.
    pub(crate) fn saw_block(&mut self, time: Timestamp, fresh: bool, now: u64) {
        self.newest_block = self.newest_block.max(time);
        if fresh {
            let most = AHEAD_MAX_MS.saturating_mul(u64::from(self.speed));
            self.ahead = self.market(now).ms_since(time) > most;
        }
    }

    pub(crate) fn quality(&self, now: u64) -> ClockQuality {
        if self.newest_block.ms_since(self.market(now)) > BEHIND_MAX_MS.max(u64::from(self.speed) * 1000) {
            ClockQuality::Unsynced
        } else if self.disciplined {
            ClockQuality::Synced
        } else if self.ahead {
            ClockQuality::Unsynced
        } else {
            ClockQuality::Informative
        }
    }
}
