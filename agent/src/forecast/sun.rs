//! Solar generation: the clear sky over this roof, times what clouds have left of it lately.

use energy::{Interval, Mtu};

use super::history::{History, Slot};
use super::ring::{Ring, Weighted};
use super::{Roof, Site};

/// Days that clouds and the daily shape are learned from. More would mix seasons.
const DAYS: u64 = 21;
/// A day this much older counts half.
const HALF_LIFE_DAYS: f64 = 10.0;
/// Clouds of a quarter-hour are learned from this far around it, the farther the less.
const HALO_MINUTES: u32 = 120;
/// What a roof brings of the clear sky while nothing is known: clouds of a temperate climate and an inverter's losses.
const PRIOR_CLEARNESS: f64 = 0.5;
/// How many days that counts for.
const PRIOR_DAYS: f64 = 0.5;
/// "As cloudy as now" is what the last hour of sun brought, ...
const NOW_MINUTES: u32 = 60;
/// ... sought no farther back than this, ...
const NOW_BACK_MINUTES: u32 = 20 * 60;
/// ... and what is left of it after this long is 1/e.
const FADE_MINUTES: f64 = 480.0;
/// A clear sky brings no more than this of itself: snow and bright clouds exceed it.
const CLEAREST: f64 = 1.1;
/// Now may exceed the usual this many times: the first sun after weeks of fog.
const BRIGHTEST: f64 = 3.0;
/// An interval counts as sunlit above this part of the brightest of the day.
const SUNLIT: f64 = 0.05;

impl Roof {
    /// What a clear sky brings in an interval, Wh; 0 where the site is not known.
    #[must_use]
    pub fn clear_sky(&self, interval: Interval) -> f64 {
        let Some(Site { place, plane }) = self.site else { return 0.0 };
        let middle = interval.start().plus_ms(interval.mtu().ms() / 2);
        let irradiance = crate::solar::Sun::at(place, middle).clear_on(plane);
        irradiance / 1_000.0 * self.most(interval.mtu())
    }

    /// What its rating allows in one interval, Wh.
    fn most(&self, mtu: Mtu) -> f64 {
        f64::from(self.peak_w) * f64::from(mtu.minutes()) / 60.0
    }
}

/// What the last weeks say about the sun at each time of the (UTC) day.
struct Weeks<'a> {
    roof: &'a Roof,
    ring: &'a Ring<Slot>,
    per_day: usize,
    /// By time of day, the most that was seen around it; empty where the clear sky is known from geometry.
    envelope: Vec<f64>,
    /// By time of day: generation, and clear sky, of all days.
    brought: Vec<Weighted>,
}

/// Expected generation of `count` intervals from `from`, Wh, made of what was before `from`.
pub(crate) fn expect_sun(history: &History, from: Interval, count: usize) -> Vec<f64> {
    let Some(roof) = history.roof() else { return vec![0.0; count] };
    let weeks = Weeks::of(roof, &history.ring, from.index());
    let (now, age) = weeks.now(from.index());
    let minutes = f64::from(from.mtu().minutes());
    let mut interval = from;
    let mut coming = Vec::with_capacity(count);
    for step in 0..count {
        let clear = weeks.clear_ahead(interval);
        let left = (-((step as u64 + 1 + age) as f64) * minutes / FADE_MINUTES).exp();
        let part = weeks.usual(weeks.of_day(interval.index()), clear) * (1.0 + (now - 1.0) * left);
        coming.push((clear * part.clamp(0.0, CLEAREST)).min(roof.most(from.mtu())));
        interval = interval.next();
    }
    coming
}

impl<'a> Weeks<'a> {
    fn of(roof: &'a Roof, ring: &'a Ring<Slot>, until: u64) -> Self {
        let per_day = ring.mtu().per_day() as usize;
        let mut weeks = Self { roof, ring, per_day, envelope: vec![], brought: vec![] };
        // Geometry tells what the panels bring; where only the meter's balance is known, part of that stays in the home.
        let metered = ring.back(until, per_day as u64).next().is_none_or(|(_, slot)| slot.metered);
        if roof.site.is_none() || !metered {
            weeks.envelope = weeks.envelope_of(until);
        }
        weeks.brought = weeks.brought_of(until);
        weeks
    }

    fn of_day(&self, index: u64) -> usize {
        usize::try_from(index).unwrap_or_default() % self.per_day
    }

    fn days(&self, until: u64) -> impl Iterator<Item = (u64, Slot)> + '_ {
        self.ring.back(until, DAYS * self.per_day as u64).filter(|(_, slot)| !slot.curtailed)
    }

    /// The most seen at each time of day and right beside it.
    fn envelope_of(&self, until: u64) -> Vec<f64> {
        let mut most = vec![0.0f64; self.per_day];
        for (index, slot) in self.days(until) {
            let at = self.of_day(index);
            for near in [at + self.per_day - 1, at, at + 1] {
                if let Some(most) = most.get_mut(near % self.per_day) {
                    *most = most.max(f64::from(slot.pv));
                }
            }
        }
        most
    }

    /// The clear sky of a remembered interval.
    fn clear_of(&self, at: usize, slot: &Slot) -> f64 {
        self.envelope.get(at).copied().unwrap_or(f64::from(slot.clear))
    }

    /// The clear sky of a coming interval.
    fn clear_ahead(&self, interval: Interval) -> f64 {
        let learned = self.envelope.get(self.of_day(interval.index()));
        learned.copied().unwrap_or_else(|| self.roof.clear_sky(interval))
    }

    /// By time of day: what came, as a sum, and the clear sky, as its weight; recent days and near times count most.
    fn brought_of(&self, until: u64) -> Vec<Weighted> {
        let mut raw = vec![Weighted::default(); self.per_day];
        for (index, slot) in self.days(until) {
            let at = self.of_day(index);
            let age_days = (until - index) as f64 / self.per_day as f64;
            let weight = 0.5f64.powf(age_days / HALF_LIFE_DAYS);
            if let Some(sum) = raw.get_mut(at) {
                sum.sums[0] += weight * f64::from(slot.pv);
                sum.weight += weight * self.clear_of(at, &slot);
            }
        }
        let halo = (HALO_MINUTES / self.ring.mtu().minutes()) as usize;
        let around = |at: usize| {
            let mut all = Weighted::default();
            for offset in 0..=2 * halo {
                let share = 1.0 - halo.abs_diff(offset) as f64 / (halo + 1) as f64;
                let near = raw.get((at + self.per_day + offset - halo) % self.per_day);
                near.into_iter().for_each(|near| all.merge(near, share));
            }
            all
        };
        (0..self.per_day).map(around).collect()
    }

    /// The part of a clear sky that this time of day usually brings.
    fn usual(&self, at: usize, clear: f64) -> f64 {
        let prior = if self.envelope.is_empty() { PRIOR_DAYS * clear } else { 0.0 };
        self.brought.get(at).copied().unwrap_or_default().mean([PRIOR_CLEARNESS], prior)[0]
    }

    /// How the last hour of sun compares with the usual, and how many intervals ago it ended.
    fn now(&self, until: u64) -> (f64, u64) {
        let minutes = self.ring.mtu().minutes();
        let day = self.ring.back(until, self.per_day as u64);
        let brightest = day.map(|(index, slot)| self.clear_of(self.of_day(index), &slot)).fold(0.0, f64::max);
        let sunlit = self.ring.back(until, u64::from(NOW_BACK_MINUTES / minutes)).filter(|(index, slot)| {
            !slot.curtailed && self.clear_of(self.of_day(*index), slot) > SUNLIT * brightest
        });
        let (mut came, mut usual, mut newest) = (0.0, 0.0, None);
        for (index, slot) in sunlit.take(usize::max(1, (NOW_MINUTES / minutes) as usize)) {
            let at = self.of_day(index);
            let clear = self.clear_of(at, &slot);
            came += f64::from(slot.pv);
            usual += clear * self.usual(at, clear);
            newest = newest.or(Some(index));
        }
        match newest {
            Some(index) if usual > 0.0 => ((came / usual).min(BRIGHTEST), until - index - 1),
            _ => (1.0, 0),
        }
    }
}
