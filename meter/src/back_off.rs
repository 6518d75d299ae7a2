//! How long a failing device is left alone.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
/// A device that is away costs one attempt to connect: it is looked for often enough to be back in use within 5 s of
/// its return, jitter included.
const LONGEST_AWAY: Duration = Duration::from_secs(3);
/// A device that is there and answers badly needs a person, and its bus may have other users.
const LONGEST_ANSWERING_BADLY: Duration = Duration::from_secs(60);

/// Doubling pauses between attempts, 1 s to 60 s, each stretched by up to a quarter so that many nodes do not move in
/// step. The stretch comes from a counter: no random source, and a test can foresee it.
#[derive(Debug)]
pub(crate) struct BackOff {
    failures: u32,
    last: String,
    until: Option<Instant>,
    counter: u64,
}

impl BackOff {
    /// `seed` should differ between meters.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { failures: 0, last: String::new(), until: None, counter: seed }
    }

    /// Failures since the last success.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Text of the last failure.
    pub(crate) fn last(&self) -> &str {
        &self.last
    }

    /// Time left until the next attempt; `None` if it may be made now.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.until = None;
    }

    /// Notes a failure: `away` if the device gave no answer at all.
    pub(crate) fn failed(&mut self, now: Instant, away: bool, last: String) {
        let longest = if away { LONGEST_AWAY } else { LONGEST_ANSWERING_BADLY };
        let doubled = FIRST.saturating_mul(1 << self.failures.min(6)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.counter = self.counter.wrapping_add(1);
        self.last = last;
        self.until = Some(now + doubled + doubled * stretch(self.counter) / 1024);
    }
}

/// 0 to 255 (quarters of 1024ths), well spread over consecutive counters (the finalizer of `SplitMix64`).
fn stretch(counter: u64) -> u32 {
    let mut bits = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    u32::from((bits ^ (bits >> 31)).to_be_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(away: bool) -> Vec<Duration> {
        let (mut back_off, now) = (BackOff::new(7), Instant::now());
        let mut pause = || {
            back_off.failed(now, away, "silent".to_owned());
            back_off.pause(now).unwrap()
        };
        (0..9).map(|_| pause()).collect()
    }

    #[test]
    fn pauses_double_from_one_second_to_a_minute_with_at_most_a_quarter_more() {
        for (pause, wanted) in pauses(false).into_iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
            let wanted = Duration::from_secs(wanted);
            assert!(pause >= wanted && pause < wanted * 5 / 4, "{pause:?} for {wanted:?}");
        }
    }

    #[test]
    fn a_device_that_is_away_is_looked_for_at_least_every_four_seconds() {
        assert!(pauses(true).into_iter().all(|pause| pause < Duration::from_secs(4)));
    }

    #[test]
    fn one_success_ends_the_pause_and_meters_do_not_move_in_step() {
        let now = Instant::now();
        let (mut one, mut other) = (BackOff::new(502), BackOff::new(503));
        one.failed(now, true, String::new());
        other.failed(now, true, String::new());
        assert_ne!(one.pause(now), other.pause(now));
        one.succeeded();
        assert_eq!((one.pause(now), one.failures()), (None, 0));
    }
}
