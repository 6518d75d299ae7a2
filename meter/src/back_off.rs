//! How long a failing device is left alone.

use std::time::{Duration, Instant};

/// How long a device that fell silent is looked for often.
const SOON: Duration = Duration::from_secs(300);

/// Doubling pauses between attempts, each stretched by up to a quarter so that many nodes do not move in step. The
/// stretch comes from a counter: no random source, and a test can foresee it.
///
/// The design asks for pauses of 1 to 60 s and for a device to be read again within 5 s of its return. Both hold like
/// this: a device that is *silent* is looked for at least every 3 s for the first five minutes, which covers a restart,
/// a pulled cable and a tripped fuse; 3 s of pause, one connection and one drained line are less than 5 s. After five
/// minutes it costs its neighbours on the bus too much (a time-out and a drained line each time), and the pause grows
/// to a minute. A device that is *there and answers badly* needs a person: its pause grows at once. Reads at the end
/// of an interval do not wait for any pause.
#[derive(Debug)]
pub(crate) struct BackOff {
    first: Duration,
    /// The longest pause of a silent device in its first minutes, and of any other.
    longest_soon: Duration,
    longest: Duration,
    failures: u32,
    since: Option<Instant>,
    last: String,
    until: Option<Instant>,
    counter: u64,
}

impl BackOff {
    /// Of one device: 1 s to 60 s. `seed` should differ between devices.
    pub(crate) const fn of_unit(seed: u64) -> Self {
        Self::new(seed, Duration::from_secs(1), Duration::from_millis(2_400), Duration::from_secs(60))
    }

    /// Of connecting to a bus: 0.1 s to 5 s.
    pub(crate) const fn of_bus(seed: u64) -> Self {
        Self::new(seed, Duration::from_millis(100), Duration::from_millis(1_600), Duration::from_secs(4))
    }

    const fn new(seed: u64, first: Duration, longest_soon: Duration, longest: Duration) -> Self {
        let last = String::new();
        Self { first, longest_soon, longest, failures: 0, since: None, last, until: None, counter: seed }
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

    /// When the next attempt may be made; `None` after a success.
    pub(crate) const fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.since = None;
        self.until = None;
    }

    /// Notes a failure: `away` if the device gave no answer at all.
    pub(crate) fn failed(&mut self, now: Instant, away: bool, last: String) {
        let since = *self.since.get_or_insert(now);
        let soon = away && now.saturating_duration_since(since) < SOON;
        let longest = if soon { self.longest_soon } else { self.longest };
        let doubled = self.first.saturating_mul(1 << self.failures.min(6)).min(longest);
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

    /// The pauses of a device whose attempts fail one after the other, and when each began.
    fn pauses(mut back_off: BackOff, away: bool, attempts: usize) -> Vec<(Duration, Duration)> {
        let began = Instant::now();
        let mut now = began;
        let mut pause = || {
            back_off.failed(now, away, "silent".to_owned());
            let pause = back_off.pause(now).unwrap();
            let at = now - began;
            now += pause;
            (at, pause)
        };
        (0..attempts).map(|_| pause()).collect()
    }

    #[test]
    fn pauses_double_from_one_second_to_a_minute_with_at_most_a_quarter_more() {
        let pauses = pauses(BackOff::of_unit(7), false, 9).into_iter().map(|(_, pause)| pause);
        for (pause, wanted) in pauses.zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
            let wanted = Duration::from_secs(wanted);
            assert!(pause >= wanted && pause < wanted * 5 / 4, "{pause:?} for {wanted:?}");
        }
    }

    #[test]
    fn a_silent_device_is_looked_for_every_three_seconds_for_five_minutes_and_then_left_to_its_neighbours() {
        let pauses = pauses(BackOff::of_unit(7), true, 200);
        for (at, pause) in &pauses {
            let is_short = *pause <= Duration::from_secs(3);
            assert_eq!(is_short, *at < SOON, "{pause:?} at {at:?}");
        }
        assert!(pauses.last().unwrap().1 >= Duration::from_secs(60));
    }

    #[test]
    fn a_bus_is_connected_to_again_after_a_tenth_of_a_second_and_never_later_than_five() {
        let pauses = pauses(BackOff::of_bus(7), true, 400);
        assert!(pauses[0].1 < Duration::from_millis(126));
        assert!(
            pauses.iter().all(|(at, pause)| *pause <= Duration::from_secs(if *at < SOON { 2 } else { 5 }))
        );
    }

    #[test]
    fn one_success_ends_the_pause_and_meters_do_not_move_in_step() {
        let now = Instant::now();
        let (mut one, mut other) = (BackOff::of_unit(502), BackOff::of_unit(503));
        one.failed(now, true, String::new());
        other.failed(now, true, String::new());
        assert_ne!(one.pause(now), other.pause(now));
        one.succeeded();
        assert_eq!((one.pause(now), one.failures()), (None, 0));
    }
}
