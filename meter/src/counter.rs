//! The counter state machine: which registers of a meter may be believed.
//!
//! Pure: looks are handed in with their time. Both registers come from one request, so they stand or fall together.
//!
//! | the look | what becomes of it |
//! |---|---|
//! | both registers rose by no more than the connection carries | accepted: the baseline of the next |
//! | a register fell, leapt, or another meter answers | held; nothing is published and the baseline stays |
//! | held, then back where it belongs | accepted; it was a glitch, and nothing of it is booked |
//! | risen while nobody looked for a minute, or nobody knows how long | held until a second look within 30 s agrees |
//! | lower, and a register that fell counts up there: 3 looks over 60 s | an [`EpochChange`]: the counter was reset |
//! | another serial number: 3 looks over 30 s | an [`EpochChange`]: the meter was exchanged |
//! | from above 90 % of the declared modulus to below 10 %, counting on | accepted, unrolled: modulus − last + new |
//! | higher than can be, and staying there | held until a person says what happened: never booked by itself |
//!
//! After an [`EpochChange`] the new counter is followed as before, but nothing of it may be published until the epoch
//! is registered: a home that could open epochs alone could hide energy. If the old counter comes back before that,
//! the change is taken back.

mod hold;
mod memory;

use std::collections::VecDeque;

use energy::{ClockQuality, MeterSerial, TakenAt, WattHours};
use serde::{Deserialize, Serialize};

pub use hold::{EpochChange, Evidence, Hold, Register, Stand, Suspicion};
pub use memory::{Memory, MemoryError};

/// Looks at a new counter before it is believed (research on counter faults, section 4).
const CONFIRM_LOOKS: u32 = 3;
/// How long a lower counter must have counted up before it is a reset, ms.
const RESET_MS: u64 = 60_000;
/// How long another serial number must have answered before it is an exchange, ms.
const EXCHANGE_MS: u64 = 30_000;
/// How long, and in how many further looks, a leap must stay before a person is asked.
const LEAP_MS: u64 = 30_000;
/// Epoch changes that may wait for registration; a meter that resets more often is broken.
const CHANGES_MAX: usize = 8;
/// The rise of a time whose length is unknown (another boot, no trusted clock) is judged as that of a year, ms.
const UNKNOWN_MS: u64 = 366 * 86_400_000;
/// After so long without a look that was believed, ms, one look alone is not: the gate has become so wide that a glitch
/// may pass it. A rise that this time explains is believed at once.
const UNWATCHED_MS: u64 = 60_000;
/// Within this time, ms, a second look must agree with the first after such an outage.
const AGREE_MS: u64 = 30_000;

/// Both cumulative registers of a meter at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyRegisters {
    /// From the grid.
    #[serde(with = "memory::wh")]
    pub import: WattHours,
    /// To the grid.
    #[serde(with = "memory::wh")]
    pub export: WattHours,
}

/// What a meter said at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Who answered.
    #[serde(with = "memory::serial")]
    pub serial: MeterSerial,
    /// Its registers.
    pub registers: EnergyRegisters,
    /// Their smallest step.
    #[serde(with = "memory::wh")]
    pub quantum: WattHours,
    /// Where they begin again at 0, if that is declared; they always show less.
    #[serde(default, with = "memory::some_wh", skip_serializing_if = "Option::is_none")]
    pub modulus: Option<WattHours>,
    /// When.
    #[serde(with = "memory::taken_at")]
    pub at: TakenAt,
    /// How far its time of day can be trusted.
    #[serde(with = "memory::clock")]
    pub clock: ClockQuality,
}

/// What is declared about a meter and its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterLimits {
    /// The most the connection carries, W (main fuse or device limit); `None`: no gate against leaps.
    pub power_max_w: Option<u64>,
    /// Market time per monotonic time: 1 except on demo chains.
    pub speed: u32,
}

impl Default for CounterLimits {
    fn default() -> Self {
        Self { power_max_w: None, speed: 1 }
    }
}

/// A look that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The registers, counting on across rollovers.
    pub registers: EnergyRegisters,
    /// How many looks were held before it as a glitch.
    pub glitch: u32,
}

/// The counter of one connection point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    limits: CounterLimits,
    good: Option<Baseline>,
    doubt: Option<Doubt>,
    /// Oldest first.
    unregistered: VecDeque<Pending>,
    /// Counts the epochs seen here, registered or not.
    series: u64,
}

/// The last look believed, its registers counting on across rollovers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    look: Look,
    /// Since when its registers stood so. Some meters refresh them only every few minutes, so a rise is judged by the
    /// time since the last one.
    #[serde(with = "memory::taken_at")]
    since: TakenAt,
    /// False while it is the first look of an epoch and no second one agreed.
    confirmed: bool,
}

/// Looks that agree with each other, but not with the baseline. Registers as the meter showed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Doubt {
    looks: u32,
    why: Suspicion,
    first: Look,
    latest: Look,
}

/// A change that waits for its registration, and what it would go back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    change: EpochChange,
    closed: Baseline,
}

impl Counter {
    /// A counter nobody has looked at.
    #[must_use]
    pub const fn new(limits: CounterLimits) -> Self {
        Self { limits, good: None, doubt: None, unregistered: VecDeque::new(), series: 0 }
    }

    /// Goes on from registers that a reading holds.
    #[must_use]
    pub fn after(limits: CounterLimits, look: Look) -> Self {
        let since = look.at;
        let good = Some(Baseline { look, since, confirmed: true });
        Self { good, ..Self::new(limits) }
    }

    /// Judges a look.
    ///
    /// # Errors
    /// [`Hold`] if it is not to be believed now.
    pub fn observe(&mut self, look: Look) -> Result<Accepted, Hold> {
        let Some(good) = &self.good else { return self.begin(look) };
        match (self.judge(good, &look), self.leap_going_on(good, &look)) {
            (Ok(registers), None) => Ok(self.accept(look, registers)),
            (Err(_), _) if !good.confirmed => self.begin(look),
            (Err(why), leap) => {
                self.back_to_old(&look).map_or_else(|| self.doubt_on(leap.unwrap_or(why), look), Ok)
            }
            (Ok(_), Some(why)) => self.doubt_on(why, look),
        }
    }

    /// The oldest change that waits for its registration.
    #[must_use]
    pub fn awaiting(&self) -> Option<&EpochChange> {
        self.unregistered.front().map(|pending| &pending.change)
    }

    /// Counts the epochs seen: looks accepted under different values belong to different epochs. Falls by 1 when a
    /// change is taken back.
    #[must_use]
    pub const fn series(&self) -> u64 {
        self.series
    }

    /// The series whose registers may be published.
    #[must_use]
    pub fn published_series(&self) -> u64 {
        let waiting = u64::try_from(self.unregistered.len()).unwrap_or(u64::MAX);
        self.series.saturating_sub(waiting)
    }

    /// A new epoch of meter `serial` is registered: that of the first change waiting that leads to it, else that of the
    /// looks in doubt, else one that begins with its next look.
    pub fn registered(&mut self, serial: &MeterSerial) {
        if let Some(reached) = self.unregistered.iter().position(|it| it.change.new_serial == *serial) {
            self.unregistered.drain(..=reached);
            return;
        }
        self.unregistered.clear();
        self.series = self.series.saturating_add(1);
        let doubt = self.doubt.take().filter(|doubt| doubt.latest.serial == *serial);
        self.good = doubt.map(|doubt| Baseline {
            since: doubt.latest.at,
            look: doubt.latest,
            confirmed: doubt.looks > 1,
        });
    }

    /// The meter whose registers may be published: that of the baseline before any change that waits.
    #[must_use]
    pub fn published_serial(&self) -> Option<&MeterSerial> {
        let closed = self.unregistered.front().map(|pending| &pending.closed);
        closed.or(self.good.as_ref()).map(|baseline| &baseline.look.serial)
    }

    fn begin(&mut self, look: Look) -> Result<Accepted, Hold> {
        let since = look.at;
        self.good = Some(Baseline { look, since, confirmed: false });
        Err(Hold::First)
    }

    /// What `look` says on top of `good`, counting on across rollovers, and if it needs no second look.
    fn judge(&self, good: &Baseline, look: &Look) -> Result<EnergyRegisters, Suspicion> {
        self.possible(good, look).and_then(|registers| self.watched(good, look, registers))
    }

    /// What `look` says on top of `good`, counting on across rollovers.
    fn possible(&self, good: &Baseline, look: &Look) -> Result<EnergyRegisters, Suspicion> {
        let (was, is) = (good.look.registers, look.registers);
        if good.look.serial != look.serial {
            let (expected, found) = (good.look.serial.clone(), look.serial.clone());
            return Err(Suspicion::OtherMeter { expected, found });
        }
        let most = self.most(good, look);
        let end = End::between(&good.look, look);
        let import = end.judge(Register::Import, was.import, is.import, most);
        let export = end.judge(Register::Export, was.export, is.export, most);
        match (import, export) {
            (Ok(import), Ok(export)) => Ok(EnergyRegisters { import, export }),
            (Err(one), Err(other)) => Err(if other.gravity() > one.gravity() { other } else { one }),
            (Err(why), Ok(_)) | (Ok(_), Err(why)) => Err(why),
        }
    }

    /// `registers`, if they need no second look: see [`UNWATCHED_MS`].
    fn watched(
        &self,
        good: &Baseline,
        look: &Look,
        registers: EnergyRegisters,
    ) -> Result<EnergyRegisters, Suspicion> {
        let Some(watts) = self.limits.power_max_w else { return Ok(registers) };
        if self.limits.elapsed_between(&good.look, look).is_some_and(|ms| ms <= UNWATCHED_MS) {
            return Ok(registers);
        }
        let explained = most_energy(watts, UNWATCHED_MS, look.quantum);
        let rise =
            |register: Register| register.of(registers).saturating_sub(register.of(good.look.registers));
        let risen = [Register::Import, Register::Export].into_iter().find(|it| rise(*it) > explained);
        match risen {
            Some(register) => Err(Suspicion::Unwatched { register, rise: rise(register) }),
            None => Ok(registers),
        }
    }

    /// The most a register can have risen from `good` to `look`.
    fn most(&self, good: &Baseline, look: &Look) -> Option<WattHours> {
        let ms = self.limits.elapsed_ms((&good.since, good.look.clock), (&look.at, look.clock));
        let ms = ms.unwrap_or(UNKNOWN_MS);
        self.limits.power_max_w.map(|watts| most_energy(watts, ms, look.quantum))
    }

    /// The leap in doubt, if `look` counts on from there: time alone does not make a leap possible. If the clock was set
    /// meanwhile, the leap is judged by what the time was in truth.
    fn leap_going_on(&self, good: &Baseline, look: &Look) -> Option<Suspicion> {
        let doubt = self.doubt.as_ref().filter(|doubt| matches!(doubt.why, Suspicion::Leapt { .. }))?;
        let first = match self.limits.elapsed_between(&doubt.first, look) {
            Some(ago) => {
                let at = TakenAt { time: look.at.time.minus_ms(ago), ..doubt.first.at };
                Look { at, clock: look.clock, ..doubt.first.clone() }
            }
            None => doubt.first.clone(),
        };
        let leapt = matches!(self.judge(good, &first), Err(Suspicion::Leapt { .. }));
        (leapt && self.goes_on(doubt, look)).then(|| doubt.why.clone())
    }

    /// True if `look` is of the same counter as the looks in doubt.
    fn goes_on(&self, doubt: &Doubt, look: &Look) -> bool {
        let (was, is) = (doubt.latest.registers, look.registers);
        let latest = Baseline { look: doubt.latest.clone(), since: doubt.latest.at, confirmed: true };
        let plain = End(None);
        let most = self.most(&latest, look);
        doubt.latest.serial == look.serial
            && plain.judge(Register::Import, was.import, is.import, most).is_ok()
            && plain.judge(Register::Export, was.export, is.export, most).is_ok()
    }

    fn accept(&mut self, look: Look, registers: EnergyRegisters) -> Accepted {
        let since = self
            .good
            .as_ref()
            .filter(|good| good.look.registers == registers)
            .map_or(look.at, |good| good.since);
        self.good = Some(Baseline { look: Look { registers, ..look }, since, confirmed: true });
        let glitch = self.doubt.take().map_or(0, |doubt| doubt.looks);
        Accepted { registers, glitch }
    }

    /// True if `look` is of the same counter as the looks in doubt, and near enough to them to say so.
    fn agrees(&self, doubt: &Doubt, look: &Look) -> bool {
        let near = match (&doubt.why, self.limits.elapsed_between(&doubt.first, look)) {
            (Suspicion::Unwatched { .. }, since) => since.is_some_and(|ms| ms <= AGREE_MS),
            // Whoever loses track of time must not forget a leap, nor take others for having lasted.
            (Suspicion::Leapt { .. }, _) | (_, Some(_)) => true,
            (_, None) => false,
        };
        near && self.goes_on(doubt, look)
    }

    /// The counter of before the last change is back: the change is taken back, and what came between was a glitch.
    fn back_to_old(&mut self, look: &Look) -> Option<Accepted> {
        let closed = self.unregistered.back()?.closed.clone();
        let registers = self.possible(&closed, look).ok()?;
        self.unregistered.pop_back();
        self.series = self.series.saturating_sub(1);
        self.good = Some(closed);
        Some(self.accept(look.clone(), registers))
    }

    /// Holds `look`, and concludes from it and those before what there is to conclude.
    fn doubt_on(&mut self, why: Suspicion, look: Look) -> Result<Accepted, Hold> {
        let doubt = match self.doubt.take() {
            Some(doubt) if doubt.why.is_like(&why) && self.agrees(&doubt, &look) => {
                Doubt { looks: doubt.looks.saturating_add(1), latest: look, ..doubt }
            }
            _ => Doubt { looks: 1, why, first: look.clone(), latest: look },
        };
        let held = Hold::Suspect { why: doubt.why.clone(), looks: doubt.looks };
        let over_ms = self.limits.elapsed_between(&doubt.first, &doubt.latest).unwrap_or(UNKNOWN_MS);
        let looks = doubt.looks;
        let (first, latest) = (doubt.first.registers, doubt.latest.registers);
        let steady = |ms| looks >= CONFIRM_LOOKS && over_ms >= ms;
        match doubt.why {
            Suspicion::OtherMeter { .. } if steady(EXCHANGE_MS) => {
                self.change(doubt, Evidence::OtherSerial { looks, over_ms }, held)
            }
            Suspicion::Fell { .. } if steady(RESET_MS) && self.fell_and_counts_on(&doubt) => {
                self.change(doubt, Evidence::CountsOnLower { looks, over_ms }, held)
            }
            // A register that merely shows 0 for a while does not count on.
            Suspicion::RollingOver { register, .. } if register.of(first) < register.of(latest) => {
                self.believe(doubt, held)
            }
            Suspicion::Unwatched { .. } if looks > 1 => self.believe(doubt, held),
            Suspicion::Leapt { .. } if looks > CONFIRM_LOOKS && over_ms >= LEAP_MS => {
                Err(self.ask_a_person(doubt, Evidence::CountsOnHigher { looks, over_ms }, held))
            }
            _ => {
                self.doubt = Some(doubt);
                Err(held)
            }
        }
    }

    /// Follows the new counter and has the change wait for its registration.
    fn change(&mut self, doubt: Doubt, evidence: Evidence, held: Hold) -> Result<Accepted, Hold> {
        match self.good.take() {
            Some(closed) if self.unregistered.len() < CHANGES_MAX => {
                let change = change_of(&closed, &doubt, evidence);
                let (registers, glitch) = (doubt.latest.registers, 0);
                self.good = Some(Baseline { since: doubt.latest.at, look: doubt.latest, confirmed: true });
                self.unregistered.push_back(Pending { change, closed });
                self.series = self.series.saturating_add(1);
                Ok(Accepted { registers, glitch })
            }
            good => {
                self.good = good;
                self.doubt = Some(doubt);
                Err(held)
            }
        }
    }

    /// True if a register that fell has counted on since; that another one did says nothing of it.
    fn fell_and_counts_on(&self, doubt: &Doubt) -> bool {
        let Some(good) = &self.good else { return false };
        let (first, latest) = (doubt.first.registers, doubt.latest.registers);
        [Register::Import, Register::Export].into_iter().any(|register| {
            let before = End::between(&good.look, &doubt.latest).shown(register.of(good.look.registers));
            register.of(latest) < before && register.of(first) < register.of(latest)
        })
    }

    /// Believes the registers in doubt: they rose as they show, or passed their end.
    fn believe(&mut self, doubt: Doubt, held: Hold) -> Result<Accepted, Hold> {
        let unrolled = self.good.as_ref().map(|good| {
            let (was, is) = (good.look.registers, doubt.latest.registers);
            let end = End::between(&good.look, &doubt.latest);
            EnergyRegisters {
                import: end.unrolled(was.import, is.import),
                export: end.unrolled(was.export, is.export),
            }
        });
        match unrolled {
            Some(registers) => Ok(Accepted { glitch: 0, ..self.accept(doubt.latest, registers) }),
            None => {
                self.doubt = Some(doubt);
                Err(held)
            }
        }
    }

    fn ask_a_person(&mut self, doubt: Doubt, evidence: Evidence, held: Hold) -> Hold {
        let asked = self.good.as_ref().map(|good| Hold::Leapt {
            why: doubt.why.clone(),
            change: Box::new(change_of(good, &doubt, evidence)),
        });
        self.doubt = Some(doubt);
        asked.unwrap_or(held)
    }
}

fn change_of(closed: &Baseline, doubt: &Doubt, evidence: Evidence) -> EpochChange {
    EpochChange {
        old_serial: closed.look.serial.clone(),
        closing: Stand { registers: closed.look.registers, at: closed.look.at },
        new_serial: doubt.first.serial.clone(),
        opening: Stand { registers: doubt.first.registers, at: doubt.first.at },
        evidence,
    }
}

/// Where the registers begin again at 0, if they do.
#[derive(Debug, Clone, Copy)]
struct End(Option<WattHours>);

impl End {
    /// What was declared when `before` was shown; a baseline from the journal does not know it.
    fn between(before: &Look, now: &Look) -> Self {
        Self(before.modulus.or(now.modulus))
    }

    /// What a register shows as `shown` stands at, counting on across rollovers from `before`, whose energy is at
    /// least 0 and at most `most`.
    fn judge(
        &self,
        register: Register,
        before: WattHours,
        shown: WattHours,
        most: Option<WattHours>,
    ) -> Result<WattHours, Suspicion> {
        if let Some(modulus) = self.0.filter(|modulus| shown >= *modulus) {
            return Err(Suspicion::BeyondModulus { register, value: shown, modulus });
        }
        let last = self.shown(before);
        let now = self.unrolled(before, shown);
        let possible = |rise: WattHours| most.is_none_or(|most| rise <= most);
        let rise = now.saturating_sub(before);
        if shown < last {
            return Err(if self.near_the_end(last, shown) && possible(rise) {
                Suspicion::RollingOver { register, before: last, after: shown }
            } else {
                Suspicion::Fell { register, before: last, after: shown }
            });
        }
        match most {
            Some(most) if rise > most => Err(Suspicion::Leapt { register, rise, most }),
            _ => Ok(now),
        }
    }

    /// What the meter shows where its register, counting on across rollovers, stands at `value`.
    fn shown(&self, value: WattHours) -> WattHours {
        let modulus = self.0.map_or(0, WattHours::get);
        WattHours::new(value.get().checked_rem(modulus).unwrap_or(value.get()))
    }

    /// `shown`, counted on from `before`: a fall is a rollover where a modulus is declared.
    fn unrolled(&self, before: WattHours, shown: WattHours) -> WattHours {
        let last = self.shown(before);
        let rolled = if shown < last { self.0.map_or(0, WattHours::get) } else { 0 };
        let begun = before.get().saturating_sub(last.get());
        WattHours::new(begun.saturating_add(rolled).saturating_add(shown.get()))
    }

    /// A rollover is believed only from above 90 % of the modulus to below 10 %.
    fn near_the_end(&self, last: WattHours, shown: WattHours) -> bool {
        self.0.is_some_and(|modulus| {
            let tenths = |wh: WattHours, tenths: u64| u128::from(wh.get()).saturating_mul(u128::from(tenths));
            tenths(last, 10) > tenths(modulus, 9) && tenths(shown, 10) < tenths(modulus, 1)
        })
    }
}

impl CounterLimits {
    /// Market time between two looks, ms; by the monotonic clock where both are of one boot. `None` if nobody knows: one
    /// of the clocks was not trusted, or was set back.
    fn elapsed_ms(&self, from: (&TakenAt, ClockQuality), to: (&TakenAt, ClockQuality)) -> Option<u64> {
        let ((from, from_clock), (to, to_clock)) = (from, to);
        if from.boot_id == to.boot_id {
            let ms = to.monotonic_ms.saturating_sub(from.monotonic_ms);
            return Some(ms.saturating_mul(u64::from(self.speed)));
        }
        let known = ![from_clock, to_clock].contains(&ClockQuality::Unsynced) && from.time <= to.time;
        known.then(|| to.time.ms_since(from.time))
    }

    fn elapsed_between(&self, from: &Look, to: &Look) -> Option<u64> {
        self.elapsed_ms((&from.at, from.clock), (&to.at, to.clock))
    }
}

/// What `watts` and a fifth more carry in `ms`, plus one step of the register.
fn most_energy(watts: u64, ms: u64, quantum: WattHours) -> WattHours {
    const MS_PER_HOUR: u128 = 3_600_000;
    let watt_ms = u128::from(watts).saturating_mul(u128::from(ms)).saturating_mul(6) / 5;
    let wh = watt_ms.div_ceil(MS_PER_HOUR).saturating_add(u128::from(quantum.get()));
    WattHours::new(u64::try_from(wh).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
