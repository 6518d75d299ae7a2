//! How often orders may be asked for over the API.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many at once …
const BURST: u32 = 20;
/// … and then one in this time: more than a person clicks, and than the ledger takes of one home in an hour.
const EVERY: Duration = Duration::from_secs(2);

/// Lets [`BURST`] requests through, and then one every [`EVERY`].
#[derive(Debug)]
pub struct RateLimit {
    /// When the last place of the burst is free again.
    full_at: Mutex<Instant>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { full_at: Mutex::new(Instant::now()) }
    }
}

impl RateLimit {
    /// Takes one place at `now`.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*full_at).max(now) + EVERY;
        let over = next.saturating_duration_since(now + EVERY * BURST);
        if !over.is_zero() {
            return Err(over);
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let limit = RateLimit::default();
        let start = *limit.full_at.lock().unwrap();
        assert!((0..BURST).all(|_| limit.take(start).is_ok()));
        assert_eq!(limit.take(start), Err(EVERY));
        assert_eq!(limit.take(start + EVERY / 2), Err(EVERY / 2));
        assert_eq!(limit.take(start + EVERY), Ok(()));
        assert!(limit.take(start + EVERY).is_err());
        let later = start + EVERY * (3 * BURST);
        assert!((0..BURST).all(|_| limit.take(later).is_ok()), "a rest brings the whole burst back");
        assert!(limit.take(later).is_err());
    }
}
