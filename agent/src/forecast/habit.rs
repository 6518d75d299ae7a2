//! Load and heat: what the home does at this time on such days, and how today differs.

use energy::Interval;

use super::LocalTime;
use super::ring::{Likeness, Ring};

/// How something that repeats from day to day is expected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habit {
    /// Which days tell about which.
    pub(crate) like: Likeness,
    /// Mean power while nothing at all is known, W.
    pub(crate) default_w: f64,
}

/// The mean of the last day counts as much as half a like day: few days are believed a little less than many.
const PRIOR_WEIGHT: f64 = 0.5;
/// Today's difference is the mean of the last hour's ...
const TODAY_MINUTES: u32 = 60;
/// ... and what is left of it after this long is 1/e.
const FADE_MINUTES: f64 = 90.0;

impl Habit {
    /// Mean energies of `count` intervals from `from`, Wh, made of what was before `from`.
    pub(crate) fn expect<T: Copy>(
        &self,
        ring: &Ring<T>,
        (from, count): (Interval, usize),
        local: &LocalTime,
        pick: impl Fn(&T) -> f64,
    ) -> Vec<f64> {
        let (now, mtu) = (from.index(), ring.mtu());
        let window = usize::max(1, (TODAY_MINUTES / mtu.minutes()) as usize);
        let start = now.saturating_sub(window as u64);
        let prior = self.prior(ring, now, &pick);
        let usual: Vec<f64> = ring
            .pattern(&self.like, (start, window + count), now, local, |value| Some([pick(value)]))
            .into_iter()
            .map(|like| like.mean([prior], PRIOR_WEIGHT)[0])
            .collect();
        let differs = usual.iter().take(window).zip(start..).filter_map(|(usual, index)| {
            let value = ring.at(index).filter(|_| index < now)?;
            Some(pick(&value) - usual)
        });
        let differs: Vec<f64> = differs.collect();
        let today = differs.iter().sum::<f64>() / differs.len().max(1) as f64;
        let left = |step: usize| (-((step + 1) as f64) * f64::from(mtu.minutes()) / FADE_MINUTES).exp();
        let coming = usual.iter().skip(window).enumerate();
        coming.map(|(step, usual)| (usual + today * left(step)).max(0.0)).collect()
    }

    /// The mean of the last 24 hours, as far as they are known.
    fn prior<T: Copy>(&self, ring: &Ring<T>, now: u64, pick: &impl Fn(&T) -> f64) -> f64 {
        let mtu = ring.mtu();
        let last: Vec<f64> =
            ring.back(now, u64::from(mtu.per_day())).map(|(_, value)| pick(&value)).collect();
        if last.is_empty() {
            self.default_w * f64::from(mtu.minutes()) / 60.0
        } else {
            last.iter().sum::<f64>() / last.len() as f64
        }
    }
}
