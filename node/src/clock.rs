//! The two clocks of a node: market time decides, wall time paces.
//!
//! In production they are the same clock. A demo chain's market time runs faster, and in `demo` it can be held at an
//! instant until the neighbourhood is ready to go on: a slow machine is slower, never wrong.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use energy::{ClockQuality, Timestamp};
use ledger::DemoClock;

/// systemd-timesyncd makes this file when it has synchronised the clock (systemd-timesyncd.service(8)).
const TIME_IS_SYNCED: &str = "/run/systemd/timesync/synchronized";

/// What a node asks the time of.
pub trait Clock: Send + Sync + 'static {
    /// Market time.
    fn market(&self) -> Timestamp;

    /// Market milliseconds per wall millisecond; 1 in production.
    fn speed(&self) -> u32;

    /// How far this clock can be trusted.
    fn quality(&self) -> ClockQuality;

    /// Wall time until market time `at`, if nothing holds the clock; zero if it has passed.
    fn wall_until(&self, at: Timestamp) -> Duration {
        Duration::from_millis(at.ms_since(self.market()).div_ceil(u64::from(self.speed().max(1))))
    }
}

/// The machine's clock, accelerated where the chain's genesis says so.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    demo: Option<DemoClock>,
}

impl SystemClock {
    /// The clock of a chain: `demo` as its genesis has it.
    #[must_use]
    pub const fn new(demo: Option<DemoClock>) -> Self {
        Self { demo }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    fn market(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        match self.demo {
            None => wall,
            Some(demo) => {
                demo.origin.plus_ms(wall.ms_since(demo.wall_origin).saturating_mul(u64::from(demo.speed)))
            }
        }
    }

    fn speed(&self) -> u32 {
        self.demo.map_or(1, |demo| demo.speed)
    }

    /// Disciplined where the system's time service says so; otherwise it was set some time, and that is all we know.
    fn quality(&self) -> ClockQuality {
        if Path::new(TIME_IS_SYNCED).exists() { ClockQuality::Synced } else { ClockQuality::Informative }
    }
}

/// An accelerated clock that stops at a limit until it is told to go on.
#[derive(Debug)]
pub struct HeldClock {
    speed: u32,
    run: Mutex<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    from: Timestamp,
    since: Instant,
    until: Timestamp,
}

impl HeldClock {
    /// Stands at `origin`.
    #[must_use]
    pub fn new(origin: Timestamp, speed: u32) -> Self {
        Self { speed, run: Mutex::new(Run { from: origin, since: Instant::now(), until: origin }) }
    }

    /// Goes on, at most to `until`.
    pub fn run_until(&self, until: Timestamp) {
        let from = self.market();
        *self.lock() = Run { from, since: Instant::now(), until: until.max(from) };
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for HeldClock {
    fn market(&self) -> Timestamp {
        let run = *self.lock();
        let elapsed = u64::try_from(run.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        run.from.plus_ms(elapsed.saturating_mul(u64::from(self.speed))).min(run.until)
    }

    fn speed(&self) -> u32 {
        self.speed
    }

    /// It is the reference of everybody who uses it.
    fn quality(&self) -> ClockQuality {
        ClockQuality::Synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_clock_never_passes_its_limit_and_never_goes_back() {
        let origin = Timestamp::from_unix_ms(1_000_000);
        let clock = HeldClock::new(origin, 1_000_000);
        assert_eq!(clock.market(), origin);
        clock.run_until(origin.plus_ms(5_000));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.market(), origin.plus_ms(5_000));
        clock.run_until(origin);
        assert_eq!(clock.market(), origin.plus_ms(5_000));
    }

    #[test]
    fn waiting_for_market_time_takes_less_wall_time_at_speed() {
        let clock = HeldClock::new(Timestamp::EPOCH, 720);
        assert_eq!(clock.wall_until(Timestamp::from_unix_ms(900_000)), Duration::from_millis(1_250));
    }
}
