//! Which profiles fit one unit: every profile's registers are read and must decode to plausible values.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use energy::{MeterSerial, WattHours};

use super::models::MODEL_REGISTERS;
use super::prober::{Outcome, Prober};
use super::wire::Question;
use crate::profile::{Function, Profile, Span};

/// A phase is alive above this, mV: below it is a phase that is not connected.
const ALIVE_MV: u32 = 80_000;
/// After so many reads without any answer, waits are cut to what this unit needs for its answers.
const SILENT_MAX: u32 = 2;
/// Shortest wait for a unit that answers quickly or not at all.
const WAIT_MIN: Duration = Duration::from_millis(150);
/// Where a `SunSpec` map may begin, its marker, its end, and the common model.
const BASES: [u16; 3] = [40_000, 0, 50_000];
const MARKER: [u16; 2] = [0x5375, 0x6E53];
const END: u16 = 0xFFFF;
const COMMON: u16 = 1;
/// No real map has more models.
const MODELS_MAX: usize = 64;

/// A profile that a unit's registers fit, with what they say by it.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The profile.
    pub profile: Arc<Profile>,
    /// Serial number, where the profile has a register for it.
    pub serial: Option<MeterSerial>,
    /// Cumulative import register, where the profile has it.
    pub import: Option<WattHours>,
    /// Cumulative export register, where the profile has it.
    pub export: Option<WattHours>,
    /// Power in W; positive is import.
    pub power_w: i64,
    /// Voltages in mV.
    pub voltage_mv: [Option<u32>; 3],
    /// Frequency in mHz.
    pub frequency_mhz: Option<u32>,
    /// Header of the `SunSpec` model it reads.
    header: Option<u16>,
    /// What names the model outright, where something does: a model register or the maker's name in `SunSpec`.
    pub named: Option<String>,
}

impl Fit {
    /// Values that could easily be wrong and are not: a live phase, a mains frequency.
    fn evidence(&self) -> usize {
        self.voltage_mv.iter().flatten().filter(|mv| **mv >= ALIVE_MV).count()
            + usize::from(self.frequency_mhz.is_some())
    }

    /// Phases the profile knows and this unit has no voltage on.
    fn dead_phases(&self) -> usize {
        self.voltage_mv.iter().flatten().filter(|mv| **mv < ALIVE_MV).count()
    }

    /// True for a profile of one maker's devices that nothing here says is the maker of this one.
    fn is_of_another_maker(&self) -> bool {
        let any_maker = self.profile.device().starts_with("SunSpec");
        self.header.is_some() && self.named.is_none() && !any_maker
    }

    /// Larger is better.
    fn rank(&self) -> (bool, bool, Reverse<usize>, usize, bool) {
        let named = self.named.is_some();
        let phases = Reverse(self.dead_phases());
        (named, !self.is_of_another_maker(), phases, self.evidence(), self.serial.is_some())
    }

    /// True if it has both registers that a meter at a connection point needs.
    #[must_use]
    pub const fn has_both_registers(&self) -> bool {
        self.import.is_some() && self.export.is_some()
    }
}

/// What is known of one unit.
#[derive(Debug, Clone)]
pub struct FoundUnit {
    /// Its unit id.
    pub unit: u8,
    /// The `SunSpec` model these profiles read: one unit may carry an inverter and a meter.
    pub sunspec_model: Option<u16>,
    /// Profiles that fit equally well: one if the model is clear, none if it is not among the profiles.
    pub fits: Vec<Fit>,
    /// Profiles that fit less well than those: not proposed, named for the doubtful case.
    pub lesser: Vec<Fit>,
    /// False if time ran out before every profile was tried.
    pub complete: bool,
}

impl FoundUnit {
    /// The one profile, if there is no doubt.
    #[must_use]
    pub fn certain(&self) -> Option<&Fit> {
        match self.fits.as_slice() {
            [fit] => Some(fit),
            _ => None,
        }
    }

    /// What tells the profiles that fit equally well apart, for a person in front of the meter; `None` without doubt.
    #[must_use]
    pub fn apart(&self) -> Option<String> {
        let differs =
            |of: fn(&Fit) -> String| self.fits.iter().any(|fit| Some(of(fit)) != self.fits.first().map(of));
        if self.fits.len() < 2 {
            return None;
        }
        let values: Vec<&str> = [
            (differs(|fit| format!("{:?}", fit.import)), "the import register on its display"),
            (differs(|fit| format!("{:?}", fit.export)), "the export register on its display"),
            (differs(|fit| format!("{:?}", fit.serial)), "the serial number on its label"),
            (differs(|fit| fit.power_w.signum().to_string()), "whether power is drawn or fed in now"),
        ]
        .into_iter()
        .filter_map(|(differs, what)| differs.then_some(what))
        .collect();
        Some(if values.is_empty() {
            "they read the same values now: compare the model on the label with the profile's device"
                .to_owned()
        } else {
            format!("compare {}, and the model on its label", values.join(", "))
        })
    }
}

/// Headers of one `SunSpec` model and of the common model before it.
struct SunSpecModel {
    id: u16,
    length: u16,
    header: u16,
    common: u16,
}

/// The registers of one unit, each read once.
struct Unit<'a> {
    prober: &'a mut Prober,
    unit: u8,
    wait: Duration,
    deadline: Instant,
    read: BTreeMap<(Function, u16, u16), Option<Vec<u16>>>,
    /// Function and count of questions that may still be answered.
    unanswered: Vec<(Function, u16)>,
    silent: u32,
    slowest: Duration,
}

/// Tries every profile on `unit` until `deadline`: one find for each meter the unit carries, at least one.
pub(super) async fn identify(
    prober: &mut Prober,
    unit: u8,
    profiles: &[Arc<Profile>],
    wait: Duration,
    deadline: Instant,
) -> Vec<FoundUnit> {
    let slowest = Duration::ZERO;
    let (read, unanswered) = (BTreeMap::new(), Vec::new());
    let mut on_bus = Unit { prober, unit, wait, deadline, read, unanswered, silent: 0, slowest };
    let mut fits = on_bus.plain_fits(profiles).await;
    fits.extend(on_bus.sunspec_fits(profiles).await);
    let complete = Instant::now() < deadline;
    let mut meters: BTreeMap<Option<u16>, Vec<Fit>> = BTreeMap::new();
    for fit in fits {
        meters.entry(fit.header).or_default().push(fit);
    }
    if meters.is_empty() {
        return vec![FoundUnit { unit, sunspec_model: None, fits: Vec::new(), lesser: Vec::new(), complete }];
    }
    meters.into_values().map(|fits| ranked(unit, fits, complete)).collect()
}

/// The best of `fits` apart from the rest.
fn ranked(unit: u8, mut fits: Vec<Fit>, complete: bool) -> FoundUnit {
    fits.sort_by_key(|fit| Reverse(fit.rank()));
    let best = fits.first().map(Fit::rank);
    let sunspec_model = fits.first().and_then(|fit| fit.profile.sunspec_model());
    let (fits, lesser) = fits.into_iter().partition(|fit| Some(fit.rank()) == best);
    FoundUnit { unit, sunspec_model, fits, lesser, complete }
}

impl Unit<'_> {
    async fn plain_fits(&mut self, profiles: &[Arc<Profile>]) -> Vec<Fit> {
        let mut fits = Vec::new();
        for profile in profiles.iter().filter(|profile| profile.sunspec_model().is_none()) {
            if let Some(fit) = self.fit(profile, None).await {
                fits.push(fit);
            }
        }
        for register in &MODEL_REGISTERS {
            let named = |fit: &Fit| register.profiles.contains(&fit.profile.name());
            if fits.iter().any(named) && self.read(register.span).await.is_some_and(|it| register.names(&it))
            {
                for fit in fits.iter_mut().filter(|fit| named(fit)) {
                    fit.named = Some(format!("its model register says {}", register.model));
                }
            }
        }
        fits
    }

    async fn sunspec_fits(&mut self, profiles: &[Arc<Profile>]) -> Vec<Fit> {
        let mut fits = Vec::new();
        for model in self.sunspec_models().await {
            let maker = self.maker(model.common).await.unwrap_or_default();
            for profile in profiles {
                let wanted = profile.sunspec_model() == Some(model.id)
                    && profile.words_from_base() <= u32::from(model.length) + 2;
                if !wanted {
                    continue;
                }
                if let Some(mut fit) = self.fit(profile, Some(&model)).await {
                    fit.named = is_of(profile, &maker).then(|| format!("SunSpec names its maker {maker}"));
                    fits.push(fit);
                }
            }
        }
        fits
    }

    /// The values of `profile` on this unit, if all of them are plausible.
    async fn fit(&mut self, profile: &Arc<Profile>, model: Option<&SunSpecModel>) -> Option<Fit> {
        let (base, common) = model.map_or((0, 0), |model| (model.header, model.common));
        let live = self.read(profile.live.span.counted_from(base)?).await?;
        let live = profile.live.decode(&live).ok()?;
        let energy = self.read(profile.energy.span.counted_from(base)?).await?;
        let energy = profile.energy.decode(&energy).ok()?;
        let serial = match &profile.identity {
            Some(identity) => {
                Some(identity.decode(&self.read(identity.span().counted_from(common)?).await?)?)
            }
            None => None,
        };
        Some(Fit {
            profile: Arc::clone(profile),
            serial,
            import: energy.import,
            export: energy.export,
            power_w: live.power_w,
            voltage_mv: live.voltage_mv,
            frequency_mhz: live.frequency_mhz,
            header: model.map(|model| model.header),
            named: None,
        })
    }

    /// Every model of the unit's `SunSpec` map; none if it has no such map.
    async fn sunspec_models(&mut self) -> Vec<SunSpecModel> {
        let mut models = Vec::new();
        let mut first = None;
        for base in BASES {
            if self.pair(base).await == Some(MARKER) {
                first = base.checked_add(2);
                break;
            }
        }
        let (mut next, mut common) = (first, None);
        while let Some(header) = next
            && models.len() < MODELS_MAX
        {
            let Some([id, length]) = self.pair(header).await else { break };
            if id == END {
                break;
            }
            if id == COMMON {
                common = Some(header);
            }
            models.extend(common.map(|common| SunSpecModel { id, length, header, common }));
            next = header.checked_add(2).and_then(|body| body.checked_add(length));
        }
        models
    }

    /// The maker's name in the common model at `common`: 16 registers from its third on (`sunspec/models` 7abdf898,
    /// json/model_1.json).
    async fn maker(&mut self, common: u16) -> Option<String> {
        let words = self
            .read(Span { function: Function::Holding, address: common.checked_add(2)?, count: 16 })
            .await?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let text = String::from_utf8(bytes).ok()?;
        let text = text.trim_matches(|it: char| it == '\0' || it.is_whitespace());
        text.chars().all(|it| it.is_ascii_graphic() || it == ' ').then(|| text.to_owned())
    }

    async fn pair(&mut self, address: u16) -> Option<[u16; 2]> {
        self.read(Span { function: Function::Holding, address, count: 2 }).await?.try_into().ok()
    }

    /// The registers of `span`, or `None` where this unit has none.
    async fn read(&mut self, span: Span) -> Option<Vec<u16>> {
        let key = (span.function, span.address, span.count);
        if let Some(read) = self.read.get(&key) {
            return read.clone();
        }
        if Instant::now() >= self.deadline {
            return None;
        }
        let words = self.ask(span).await;
        self.read.insert(key, words.clone());
        words
    }

    async fn ask(&mut self, span: Span) -> Option<Vec<u16>> {
        let Span { function, address, count } = span;
        // A late answer of the same length could be taken for the answer to this question.
        if self.unanswered.contains(&(function, count)) {
            self.prober.settle().await;
            self.unanswered.clear();
        }
        let question = Question { unit: self.unit, function: function.code(), address, count };
        let asked = Instant::now();
        let outcome = self.prober.ask(question, self.wait).await;
        if matches!(outcome, Outcome::Words(_) | Outcome::Exception(_)) {
            self.slowest = self.slowest.max(asked.elapsed());
        }
        match outcome {
            Outcome::Words(words) => return Some(words),
            Outcome::Exception(_) => {}
            Outcome::Closed => self.prober.reopen().await,
            Outcome::Noise => self.prober.settle().await,
            Outcome::Silent | Outcome::Echo => self.stayed_silent(function, count),
        }
        None
    }

    /// Some devices say nothing where they have no register: waiting long for each would take all the time there is.
    fn stayed_silent(&mut self, function: Function, count: u16) {
        self.unanswered.push((function, count));
        self.silent += 1;
        if self.silent >= SILENT_MAX && !self.slowest.is_zero() {
            self.wait = self.wait.min((self.slowest * 3).max(WAIT_MIN));
        }
    }
}

/// True if the profile says in its device's name that it is for `maker`.
fn is_of(profile: &Profile, maker: &str) -> bool {
    let brand = maker.split_whitespace().next().unwrap_or_default().to_lowercase();
    brand.len() >= 3 && profile.device().to_lowercase().contains(&brand)
}
