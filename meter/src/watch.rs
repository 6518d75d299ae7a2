//! Whether the live values of a meter can be used: their age, registers that no longer move, and whether power and
//! energy registers tell the same story.
//!
//! Pure: values come with the instant of the monotonic clock at which they were read, so that no step of the wall clock
//! can look like energy. Nothing here is settled on. Power integrated over time is the check of what the registers say,
//! and an estimate, marked as such, of what flowed while they could not be read.

use std::fmt;
use std::time::{Duration, Instant};

use energy::WattHours;

use crate::client::{EnergySample, LiveSample};

/// Live values older than so many polls are stale.
const STALE_POLLS: u32 = 3;
/// Live values older than this mean that the meter is away.
const OFFLINE: Duration = Duration::from_secs(60);
/// Power is not integrated across a longer silence: nobody knows what it was.
const STEP_MAX: Duration = Duration::from_secs(15);
/// How long counters may stand still while power flows (research, section 4).
const COUNTERS_STILL: Duration = Duration::from_secs(15 * 60);
/// How long all registers may be identical to the bit while power flows (research, section 4).
const ALL_STILL: Duration = Duration::from_secs(60);
/// Part of a time, in percent, in which power must be known for its integral to be a check.
const COVERED_PERCENT: u128 = 98;
/// Registers and integrated power may differ by so many percent, or by two steps of the register.
const TOLERANCE_PERCENT: u64 = 3;

/// Momentary values as they are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Power in W; positive is import.
    pub power_w: i64,
    /// Voltage of each phase in mV, where the meter has it.
    pub voltage_mv: [Option<u32>; 3],
    /// Grid frequency in mHz, where the meter has it.
    pub frequency_mhz: Option<u32>,
    /// When.
    pub at: Instant,
}

impl From<&LiveSample> for Moment {
    fn from(sample: &LiveSample) -> Self {
        Self {
            power_w: sample.power_w,
            voltage_mv: sample.voltage_mv,
            frequency_mhz: sample.frequency_mhz,
            at: sample.middle,
        }
    }
}

impl Moment {
    fn same_values(&self, other: &Self) -> bool {
        Self { at: self.at, ..*other } == *self
    }

    /// True if there is a value that is never still on a living grid.
    fn has_restless_value(&self) -> bool {
        self.frequency_mhz.is_some() || self.voltage_mv.iter().any(Option::is_some)
    }
}

/// Energy registers as they are watched. A generation meter has only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Cumulative import register.
    pub import: Option<WattHours>,
    /// Cumulative export register.
    pub export: Option<WattHours>,
    /// Their smallest step.
    pub quantum: WattHours,
    /// When.
    pub at: Instant,
}

impl From<&EnergySample> for Counted {
    fn from(sample: &EnergySample) -> Self {
        Self { import: sample.import, export: sample.export, quantum: sample.quantum, at: sample.middle }
    }
}

/// How the live values of a meter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// None was read yet.
    Starting,
    /// Fresh.
    Good,
    /// Older than three polls.
    Stale(Duration),
    /// Older than a minute.
    Offline(Duration),
    /// Fresh by their time, but they do not move.
    Frozen(Freeze),
}

/// What stands still in a frozen meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// The energy registers, while power flows.
    Counters {
        /// For how long.
        since: Duration,
        /// What power integrates to in that time.
        integrated: WattHours,
    },
    /// Every register, to the bit.
    Everything {
        /// For how long.
        since: Duration,
    },
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("the meter was not read yet"),
            Self::Good => f.write_str("the meter answers"),
            Self::Stale(age) => write!(f, "the meter was last read {} s ago", age.as_secs()),
            Self::Offline(age) => write!(
                f,
                "the meter has not answered for {} s; check its power, its cable and that no other program holds its only connection",
                age.as_secs()
            ),
            Self::Frozen(Freeze::Counters { since, integrated }) => write!(
                f,
                "the energy registers have stood still for {} min while power adds up to {integrated}; readings wait until they move; restart the meter or its gateway, and check the profile",
                since.as_secs() / 60
            ),
            Self::Frozen(Freeze::Everything { since }) => write!(
                f,
                "the meter answers, but every register has been the same for {} s while power flows; a gateway probably repeats old values: restart it",
                since.as_secs()
            ),
        }
    }
}

/// Registers and integrated power over one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Import less export by the registers, Wh.
    pub registers_wh: i64,
    /// Import less export by integrated power, Wh.
    pub integrated_wh: i64,
    /// The most they may differ by, Wh.
    pub allowed_wh: u64,
    /// How long.
    pub over: Duration,
}

/// Power and registers tell different stories. Energy is still that of the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "over the last {} s the energy registers say {} Wh and the power adds up to {} Wh: {likely}",
    check.over.as_secs(),
    check.registers_wh,
    check.integrated_wh
)]
pub struct Mismatch {
    /// Both figures.
    pub check: Check,
    /// What it probably is.
    pub likely: Likely,
}

/// The likely cause of a [`Mismatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likely {
    /// Equal amounts, other direction.
    SwappedSign,
    /// The registers do not move.
    CountersStandStill,
    /// One is about a power of ten of the other.
    Scale(u64),
    /// One is about a whole multiple of the other.
    Transformer(u64),
    /// None of these.
    Unknown,
}

impl fmt::Display for Likely {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SwappedSign => f.write_str(
                "the same amount in the other direction, so power or registers have the wrong sign; turn the current transformer round or choose the profile with the other sign, then switch on a kettle: import must rise",
            ),
            Self::CountersStandStill => f.write_str(
                "the registers do not move, so the meter is frozen or the profile reads the wrong registers",
            ),
            Self::Scale(factor) => {
                write!(f, "about {factor} times apart, so the profile has the wrong scale for one of them")
            }
            Self::Transformer(ratio) => write!(
                f,
                "about {ratio} times apart, so the current transformer ratio set in the meter is probably wrong, or the profile is of another model"
            ),
            Self::Unknown => f.write_str(
                "check the current transformer ratio, that each phase's transformer is on the phase of its voltage, and the profile",
            ),
        }
    }
}

/// What flowed by integrated power: for showing beside a gap, never settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// From the grid.
    pub import: WattHours,
    /// To the grid.
    pub export: WattHours,
    /// In how much of the time power was known.
    pub known: Duration,
}

/// Watches one meter.
#[derive(Debug, Clone)]
pub struct Watch {
    poll: Duration,
    latest: Option<Moment>,
    /// Since when all momentary values are the same.
    same_since: Option<Instant>,
    /// Up to when power is integrated.
    integrated_to: Option<Instant>,
    /// The registers when the interval began, and power since.
    opened: Option<Counted>,
    interval: Integral,
    /// The registers when they last moved, when they were last read, and power since they moved.
    still: Option<(Counted, Instant)>,
    since_still: Integral,
}

impl Watch {
    /// Watches a meter whose live values are read every `poll`.
    #[must_use]
    pub fn new(poll: Duration) -> Self {
        Self {
            poll,
            latest: None,
            same_since: None,
            integrated_to: None,
            opened: None,
            interval: Integral::default(),
            still: None,
            since_still: Integral::default(),
        }
    }

    /// Takes momentary values. Those that are not newer than the latest are passed over.
    pub fn live(&mut self, moment: impl Into<Moment>) {
        let moment = moment.into();
        match self.latest {
            Some(latest) if moment.at <= latest.at => return,
            Some(latest) => {
                self.integrate(latest.power_w, moment.power_w, moment.at);
                if !latest.same_values(&moment) {
                    self.same_since = Some(moment.at);
                }
            }
            None => (self.same_since, self.integrated_to) = (Some(moment.at), Some(moment.at)),
        }
        self.latest = Some(moment);
    }

    /// Takes energy registers.
    pub fn energy(&mut self, counted: impl Into<Counted>) {
        let counted = counted.into();
        match &mut self.still {
            Some((still, read)) if (still.import, still.export) == (counted.import, counted.export) => {
                *read = counted.at;
            }
            still => {
                *still = Some((counted, counted.at));
                self.since_still = Integral::default();
            }
        }
    }

    /// How the live values are at `now`.
    #[must_use]
    pub fn condition(&self, now: Instant) -> Condition {
        let Some(latest) = &self.latest else { return Condition::Starting };
        let age = now.saturating_duration_since(latest.at);
        if age > OFFLINE {
            return Condition::Offline(age);
        }
        if age > self.poll.saturating_mul(STALE_POLLS) {
            return Condition::Stale(age);
        }
        self.freeze(latest).map_or(Condition::Good, Condition::Frozen)
    }

    /// Power in W, positive is import; `None` unless it is known now.
    #[must_use]
    pub fn power_w(&self, now: Instant) -> Option<i64> {
        let usable = match self.condition(now) {
            Condition::Good | Condition::Frozen(Freeze::Counters { .. }) => true,
            Condition::Starting
            | Condition::Stale(_)
            | Condition::Offline(_)
            | Condition::Frozen(Freeze::Everything { .. }) => false,
        };
        self.latest.filter(|_| usable).map(|latest| latest.power_w)
    }

    /// Ends an interval at these registers and begins the next. Gives the check of the one that ended; `None` if power
    /// was not known through all of it.
    ///
    /// # Errors
    /// [`Mismatch`] if registers and power differ too much.
    pub fn close_interval(&mut self, counted: impl Into<Counted>) -> Result<Option<Check>, Mismatch> {
        let counted = counted.into();
        if let Some(latest) = self.latest {
            self.integrate(latest.power_w, latest.power_w, counted.at);
        }
        let integral = std::mem::take(&mut self.interval);
        let Some(opened) = self.opened.replace(counted) else { return Ok(None) };
        match check_of(&opened, &counted, &integral) {
            Some(check) => check.judged().map(Some),
            None => Ok(None),
        }
    }

    /// What flowed by integrated power since the last interval that was closed.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        let Integral { import, export, known_ms } = self.interval;
        let known = Duration::from_millis(known_ms);
        Estimate { import: watt_hours(import), export: watt_hours(export), known }
    }

    /// Adds power from where it is integrated to up to `to`, unless too much time passed.
    fn integrate(&mut self, from_w: i64, to_w: i64, to: Instant) {
        let Some(from) = self.integrated_to.filter(|from| *from < to) else { return };
        let step = to.saturating_duration_since(from);
        if step <= STEP_MAX {
            self.interval.add(from_w, to_w, step);
            self.since_still.add(from_w, to_w, step);
        }
        self.integrated_to = Some(to);
    }

    fn freeze(&self, latest: &Moment) -> Option<Freeze> {
        self.counters_still().or_else(|| self.everything_still(latest))
    }

    /// The counters, if they miss more than two steps of what power adds up to in a direction they count.
    fn counters_still(&self) -> Option<Freeze> {
        let (still, read) = self.still.as_ref()?;
        let since = read.saturating_duration_since(still.at);
        let known = Duration::from_millis(self.since_still.known_ms);
        let counted = self.since_still.counted_by(still);
        let integrated = watt_hours(counted.import.saturating_add(counted.export));
        let noticed = integrated.get() > still.quantum.get().saturating_mul(2);
        (since >= COUNTERS_STILL && known >= COUNTERS_STILL && noticed)
            .then_some(Freeze::Counters { since, integrated })
    }

    fn everything_still(&self, latest: &Moment) -> Option<Freeze> {
        let since = latest.at.saturating_duration_since(self.same_since?);
        let counters_too = self.still.as_ref().is_none_or(|(still, read)| {
            let ago = |at: Instant| latest.at.saturating_duration_since(at);
            ago(still.at) >= ALL_STILL && ago(*read) < ALL_STILL
        });
        (latest.power_w != 0 && latest.has_restless_value() && since >= ALL_STILL && counters_too)
            .then_some(Freeze::Everything { since })
    }
}

/// Power over time, each direction for itself, in half watt-milliseconds so that no step is rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Integral {
    import: u128,
    export: u128,
    known_ms: u64,
}

impl Integral {
    /// Adds a straight line from `from_w` to `to_w`.
    fn add(&mut self, from_w: i64, to_w: i64, step: Duration) {
        let ms = step.as_millis();
        self.known_ms = self.known_ms.saturating_add(u64::try_from(ms).unwrap_or(u64::MAX));
        let (from, to) = (u128::from(from_w.unsigned_abs()), u128::from(to_w.unsigned_abs()));
        if (from_w < 0) == (to_w < 0) || from == 0 || to == 0 {
            let area = from.saturating_add(to).saturating_mul(ms);
            self.add_to(from_w < 0 || to_w < 0, area);
        } else {
            // Two triangles that meet where the line crosses zero.
            let all = from.saturating_add(to);
            let triangle = |side: u128| side.saturating_mul(side).saturating_mul(ms).checked_div(all);
            self.add_to(from_w < 0, triangle(from).unwrap_or(0));
            self.add_to(to_w < 0, triangle(to).unwrap_or(0));
        }
    }

    fn add_to(&mut self, exported: bool, area: u128) {
        let side = if exported { &mut self.export } else { &mut self.import };
        *side = side.saturating_add(area);
    }

    /// Only the directions that `counted` has a register for.
    fn counted_by(&self, counted: &Counted) -> Self {
        Self {
            import: if counted.import.is_some() { self.import } else { 0 },
            export: if counted.export.is_some() { self.export } else { 0 },
            ..*self
        }
    }
}

/// Half watt-milliseconds in whole Wh, rounded to the nearest.
fn watt_hours(area: u128) -> WattHours {
    const PER_WH: u128 = 2 * 3_600_000;
    WattHours::new(u64::try_from(area.saturating_add(PER_WH / 2) / PER_WH).unwrap_or(u64::MAX))
}

/// `None` if power was not known throughout, or a register fell or went away: that is the counter's affair.
fn check_of(opened: &Counted, closed: &Counted, integral: &Integral) -> Option<Check> {
    let over = closed.at.saturating_duration_since(opened.at);
    if u128::from(integral.known_ms).saturating_mul(100) < over.as_millis().saturating_mul(COVERED_PERCENT) {
        return None;
    }
    let grown = |before: Option<WattHours>, after: Option<WattHours>| match (before, after) {
        (Some(before), Some(after)) => after.sub(before).ok(),
        (None, None) => Some(WattHours::ZERO),
        _ => None,
    };
    let (import, export) = (grown(opened.import, closed.import)?, grown(opened.export, closed.export)?);
    let counted = integral.counted_by(closed);
    let (drawn, fed) = (watt_hours(counted.import), watt_hours(counted.export));
    let gross = drawn.get().saturating_add(fed.get());
    let share = gross.saturating_mul(TOLERANCE_PERCENT) / 100;
    Some(Check {
        registers_wh: import.signed_sub(export).ok()?,
        integrated_wh: drawn.signed_sub(fed).ok()?,
        allowed_wh: share.max(closed.quantum.get().saturating_mul(2)),
        over,
    })
}

impl Check {
    fn judged(self) -> Result<Self, Mismatch> {
        if self.registers_wh.abs_diff(self.integrated_wh) <= self.allowed_wh {
            Ok(self)
        } else {
            Err(Mismatch { check: self, likely: self.likely() })
        }
    }

    fn likely(&self) -> Likely {
        let (registers, integrated) = (self.registers_wh.unsigned_abs(), self.integrated_wh.unsigned_abs());
        if self.registers_wh.saturating_neg().abs_diff(self.integrated_wh) <= self.allowed_wh {
            return Likely::SwappedSign;
        }
        let (small, large) = (registers.min(integrated), registers.max(integrated));
        if registers == 0 {
            return Likely::CountersStandStill;
        }
        // Too little energy tells nothing of a ratio.
        let Some(ratio) = large.saturating_add(small / 2).checked_div(small).filter(|_| small >= 20) else {
            return Likely::Unknown;
        };
        let near =
            large.abs_diff(small.saturating_mul(ratio)) <= large.saturating_mul(TOLERANCE_PERCENT) / 100;
        match ratio {
            10 | 100 | 1_000 | 10_000 if near => Likely::Scale(ratio),
            2..=5_000 if near => Likely::Transformer(ratio),
            _ => Likely::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
