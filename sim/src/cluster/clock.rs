//! The clocks of a node: the monotonic one, which every node shares with the run, and the one that says what time it is,
//! which may be wrong by minutes and jump. What a node thinks of it follows `node/src/clock.rs`.

use energy::{ClockQuality, Timestamp};

use super::street;

/// How far behind the newest block a trusted clock may be, ms of market time.
const BEHIND_MAX_MS: u64 = 60_000;
/// How far ahead of a block that was decided just now, ms of wall time.
const AHEAD_MAX_MS: u64 = 60_000;

/// One node's clock.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    speed: u32,
    /// Wall ms that it is ahead; below zero: behind.
    skew_ms: i64,
    /// A time service says that it is right, and may be wrong itself.
    disciplined: bool,
    newest_block: Timestamp,
    ahead: bool,
}

impl Clock {
    pub(crate) const fn new(speed: u32, skew_ms: i64) -> Self {
        Self { speed, skew_ms, disciplined: true, newest_block: street::start(), ahead: false }
    }

    /// Market time at a true instant, in wall ms since the chain's start.
    pub(crate) fn market(&self, now: u64) -> Timestamp {
        let wall = now.saturating_add_signed(self.skew_ms);
        street::start().plus_ms(wall.saturating_mul(u64::from(self.speed)))
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
