//! Which requests one meter costs, and what all of them cost a serial line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Line;
use crate::profile::{Identity, Profile, Register, Span};

/// Bytes of an RTU request, and of an answer besides its registers: what a hole must not cost more than.
const REQUEST_BYTES: u32 = 8;
const ANSWER_BYTES: u32 = 5;
/// Probes kept per meter: more different lengths are never needed.
const PROBES_MAX: usize = 16;
/// Load of a bus that still leaves room for retries and for reads at the end of an interval.
const LOAD_MAX_PER_MILLE: u32 = 600;

/// The requests that read one meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) identity: Option<Span>,
    pub(crate) energy: Span,
    pub(crate) live: Span,
    /// Both blocks in one request, where that is cheaper than two.
    pub(crate) both: Option<Span>,
    /// Registers that may be read after the energy block, and after the live block.
    pub(crate) spare: (u16, u16),
    /// Short reads that are known to work, or should.
    pub(crate) probes: Arc<[Span]>,
}

impl Plan {
    /// The plan for a device whose blocks count from `base` and whose identity counts from `identity_base`; `None` if
    /// registers would lie beyond 0xffff.
    pub(crate) fn new(profile: &Profile, base: u16, identity_base: u16) -> Option<Self> {
        let identity = identity_span(profile).map(|span| span.counted_from(identity_base));
        let identity = match identity {
            Some(span) => Some(span?),
            None => None,
        };
        let (energy, live) = (profile.energy.span.counted_from(base)?, profile.live.span.counted_from(base)?);
        let both = merged(energy, live, max_hole(profile), profile.registers_per_read());
        let probes = probes(identity, (energy, &energy_registers(profile)), (live, &live_registers(profile)));
        let spare = spare(profile);
        Some(Self { identity, energy, live, both, spare, probes: probes.into() })
    }
}

/// Registers that the device answers after its energy block, and after its live block: two reads in a row of the same
/// block then differ in length without a probe between them.
const fn spare(profile: &Profile) -> (u16, u16) {
    (profile.energy.spare, profile.live.spare)
}

/// Where the serial number is.
fn identity_span(profile: &Profile) -> Option<Span> {
    profile.identity.as_ref().map(Identity::span)
}

/// Registers between two blocks that this device lets one read across.
const fn max_hole(profile: &Profile) -> u16 {
    profile.limits.max_hole
}

fn energy_registers(profile: &Profile) -> Vec<Register> {
    profile.energy.registers().cloned().collect()
}

fn live_registers(profile: &Profile) -> Vec<Register> {
    profile.live.registers().cloned().collect()
}

/// One request for both blocks, if the device answers so many registers at once and the registers between the blocks
/// cost less than a request of their own (and are at most `max_hole`).
fn merged(one: Span, other: Span, max_hole: u16, registers_max: u16) -> Option<Span> {
    let (first, second) = if one.address <= other.address { (one, other) } else { (other, one) };
    let first_end = u32::from(first.address) + u32::from(first.count);
    let end = first_end.max(u32::from(second.address) + u32::from(second.count));
    let hole = u32::from(second.address).saturating_sub(first_end);
    let count = u16::try_from(end - u32::from(first.address)).ok()?;
    let cheap = hole <= u32::from(max_hole) && 2 * hole < REQUEST_BYTES + ANSWER_BYTES;
    let fits = one.function == other.function && count <= registers_max;
    (cheap && fits).then_some(Span { count, ..first })
}

/// Reads of different lengths: first the blocks that work for sure, the shortest first; then the beginnings of blocks,
/// up to the end of some value, for a device may refuse half a value.
fn probes(identity: Option<Span>, energy: (Span, &[Register]), live: (Span, &[Register])) -> Vec<Span> {
    let mut probes: Vec<Span> = identity.into_iter().chain([energy.0, live.0]).collect();
    probes.sort_by_key(|span| span.count);
    let mut beginnings: Vec<Span> =
        [energy, live].into_iter().flat_map(|(span, registers)| beginnings(span, registers)).collect();
    beginnings.sort_by_key(|span| span.count);
    for span in beginnings {
        let is_new = probes.iter().all(|known| (known.function, known.count) != (span.function, span.count));
        if is_new && probes.len() < PROBES_MAX {
            probes.push(span);
        }
    }
    probes
}

fn beginnings<'a>(span: Span, registers: &'a [Register]) -> impl Iterator<Item = Span> + 'a {
    registers.iter().filter_map(move |register| {
        let count = u16::try_from(register.offset).ok()?.checked_add(register.kind.words())?;
        (count < span.count).then_some(Span { count, ..span })
    })
}

/// One meter of a serial bus and how often it is to be read.
#[derive(Debug, Clone)]
pub struct Poll<'a> {
    /// What it is.
    pub profile: &'a Profile,
    /// How often its power is read.
    pub live_every: Duration,
    /// How often its energy registers are read besides.
    pub energy_every: Duration,
}

/// How much of a serial bus a set of polls takes. Its text says so, and what to change if it is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusLoad {
    /// The line.
    pub line: Line,
    /// Share of the time the line would be in use, in thousandths; above 1000 the polls do not fit.
    pub per_mille: u32,
    /// The same at the next higher usual baud rate.
    faster: Option<(u32, u32)>,
    /// The shortest of all intervals, and what it would have to be.
    every: Duration,
    every_wanted: Duration,
}

impl BusLoad {
    /// The load of `polls` on `line`, if each meter takes `turnaround` to answer (10 to 100 ms with most).
    #[must_use]
    pub fn of(line: Line, turnaround: Duration, polls: &[Poll<'_>]) -> Self {
        let per_mille = load(line, turnaround, polls);
        let every = polls.iter().map(|poll| poll.live_every).min().unwrap_or(Duration::from_secs(1));
        let stretch = per_mille.div_ceil(LOAD_MAX_PER_MILLE).max(1);
        let faster = [9600, 19_200, 38_400].into_iter().find(|baud| *baud > line.baud);
        let faster = faster.map(|baud| (baud, load(Line { baud, ..line }, turnaround, polls)));
        Self { line, per_mille, faster, every, every_wanted: every.saturating_mul(stretch) }
    }

    /// True if the polls leave room for retries and for reads at the end of an interval.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.per_mille <= LOAD_MAX_PER_MILLE
    }
}

impl fmt::Display for BusLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |per_mille: u32| per_mille.div_ceil(10);
        write!(f, "the polls take {} % of the bus at {}", percent(self.per_mille), self.line)?;
        if self.fits() {
            return Ok(());
        }
        write!(
            f,
            "; more than {} % leaves no room for retries: read the power every {} s instead of every {} s",
            percent(LOAD_MAX_PER_MILLE),
            self.every_wanted.as_secs_f32(),
            self.every.as_secs_f32()
        )?;
        match self.faster {
            Some((baud, per_mille)) => {
                write!(f, ", or set meters and bus to {baud} Bd ({} %)", percent(per_mille))
            }
            None => write!(f, ", or put some of the meters on a bus of their own"),
        }
    }
}

fn load(line: Line, turnaround: Duration, polls: &[Poll<'_>]) -> u32 {
    // Two requests in a row to a lone meter differ in length by every other one reading spare registers too (two bytes
    // each, half the time), or else by a short probe between them.
    let between = |spare: u16| match (polls.len(), spare) {
        (1, 0) => request_time(line, turnaround, 2),
        (1, spare) => line.time_of(u32::from(spare)),
        _ => Duration::ZERO,
    };
    let share = |count: u16, spare: u16, every: Duration| {
        let time = request_time(line, turnaround, count) + between(spare);
        time.as_micros() * 1_000 / every.as_micros().max(1)
    };
    let of_poll = |poll: &Poll<'_>| {
        let (energy, live) = (&poll.profile.energy, &poll.profile.live);
        share(live.span.count, live.spare, poll.live_every)
            + share(energy.span.count, energy.spare, poll.energy_every)
    };
    u32::try_from(polls.iter().map(of_poll).sum::<u128>()).unwrap_or(u32::MAX)
}

fn request_time(line: Line, turnaround: Duration, registers: u16) -> Duration {
    line.time_of(REQUEST_BYTES + ANSWER_BYTES + 2 * u32::from(registers)) + turnaround + line.silence() * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Function;
    use proptest::prelude::*;

    fn plan(name: &str) -> Plan {
        Plan::new(&Profile::by_name(name).unwrap(), 0, 0).unwrap()
    }

    const fn span(address: u16, count: u16) -> Span {
        Span { function: Function::Holding, address, count }
    }

    #[test]
    fn blocks_that_overlap_are_read_with_one_request_and_distant_ones_with_two() {
        let sdm = plan("eastron-sdm630");
        assert_eq!(sdm.both, Some(sdm.live), "its energy registers lie inside the live block");
        assert_eq!(plan("abb-b23").both, None, "0x5000 and 0x5b00");
    }

    #[test]
    fn a_hole_is_read_across_if_the_device_allows_it_and_a_request_costs_more() {
        let (one, other) = (span(10, 4), span(20, 6));
        assert_eq!(merged(one, other, 6, 125), Some(span(10, 16)));
        assert_eq!(merged(other, one, 6, 125), Some(span(10, 16)));
        assert_eq!(merged(one, other, 5, 125), None, "the profile does not allow it");
        assert_eq!(merged(one, other, 6, 15), None, "the device does not read so many");
        assert_eq!(merged(one, span(21, 6), 125, 125), None, "14 bytes are more than a request");
        assert_eq!(merged(one, Span { function: Function::Input, ..other }, 125, 125), None);
    }

    #[test]
    fn every_profile_has_a_probe_for_each_of_its_reads() {
        for profile in Profile::builtin() {
            let plan = plan(profile.name());
            for read in [plan.energy, plan.live].into_iter().chain(plan.identity) {
                let differs = |probe: &&Span| (probe.function, probe.count) != (read.function, read.count);
                assert!(plan.probes.iter().filter(differs).count() >= 1, "{}: {read:?}", profile.name());
            }
        }
    }

    fn load_of(baud: u32, meters: usize, live_every: u64) -> BusLoad {
        let profile = Profile::by_name("eastron-sdm630").unwrap();
        let (live_every, energy_every) = (Duration::from_secs(live_every), Duration::from_secs(900));
        let polls = vec![Poll { profile: &profile, live_every, energy_every }; meters];
        BusLoad::of(Line { baud, ..Line::default() }, Duration::from_millis(20), &polls)
    }

    #[test]
    fn the_load_of_a_bus_is_the_time_of_its_characters_and_turnarounds() {
        let load = load_of(9600, 2, 1);
        // 169 characters, 20 ms of turnaround and two silences of 3.6 ms: 203 ms for each meter.
        assert!((406..=410).contains(&load.per_mille), "{}", load.per_mille);
        assert!(load.fits());
        assert_eq!(load.to_string(), "the polls take 41 % of the bus at 9600 8N1");
    }

    #[test]
    fn an_overloaded_bus_says_what_to_change() {
        let load = load_of(2400, 2, 1);
        assert!(!load.fits());
        let told = load.to_string();
        assert!(told.contains("read the power every 3 s instead of every 1 s"), "{told}");
        assert!(told.contains("or set meters and bus to 9600 Bd (41 %)"), "{told}");
        assert!(load_of(2400, 2, 3).fits(), "what it advises fits");
        assert!(load_of(115_200, 80, 1).to_string().contains("on a bus of their own"));
    }

    fn spans() -> impl Strategy<Value = Span> {
        (0u16..200, 1u16..=125).prop_map(|(address, count)| span(address, count))
    }

    fn covers(outer: Span, inner: Span) -> bool {
        let end = |span: Span| u32::from(span.address) + u32::from(span.count);
        outer.address <= inner.address && end(outer) >= end(inner)
    }

    proptest! {
        #[test]
        fn a_merged_request_covers_both_blocks_and_is_never_too_long(
            one in spans(), other in spans(), hole in 0u16..20, most in 1u16..=125,
        ) {
            if let Some(both) = merged(one, other, hole, most) {
                prop_assert!(covers(both, one) && covers(both, other) && both.count <= most);
                prop_assert!(both.count <= one.count + other.count + hole);
            }
        }
    }
}
