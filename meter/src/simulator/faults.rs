//! What a simulated meter can do wrong on the wire, on demand or by a seeded schedule.

use std::collections::VecDeque;
use std::time::Duration;

/// One thing that goes wrong with one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The right answer, after this long; nobody else on the connection is served meanwhile.
    Late(Duration),
    /// No answer.
    Lost,
    /// The answer without its last two bytes.
    Cut,
    /// A damaged byte: in the values on a serial line (the checksum tells), in the header on TCP (where the network's
    /// own checksum guards the values).
    Corrupted,
    /// The answer to another transaction; RTU has none and answers from another unit.
    WrongTransaction,
    /// The answer under another unit id.
    WrongUnit,
    /// Two registers fewer than asked for, in a frame that is right otherwise.
    Short,
    /// Two registers more than asked for, in a frame that is right otherwise.
    Long,
    /// Exception 0x06.
    Busy,
    /// The right answer byte by byte, with this pause before each.
    Trickled(Duration),
    /// The right answer twice.
    Twice,
    /// The request itself, then the answer: an RS-485 adapter that hears what it sends.
    Echoed,
    /// The connection is closed instead of an answer.
    Closed,
}

/// Faults that happen by chance, the same for the same seed: the n-th answer always has the same fate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    state: u64,
    faults: Vec<(Fault, u16)>,
}

impl FaultPlan {
    /// A plan without faults yet.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self { state: seed, faults: Vec::new() }
    }

    /// Lets `fault` happen to `per_mille` of 1 000 answers, beside the faults named before. What exceeds 1 000 together
    /// never happens.
    #[must_use]
    pub fn with(mut self, fault: Fault, per_mille: u16) -> Self {
        self.faults.push((fault, per_mille));
        self
    }

    /// The fate of the next answer.
    fn next(&mut self) -> Option<Fault> {
        if self.faults.is_empty() {
            return None;
        }
        let mut lot = split_mix(&mut self.state) % 1_000;
        self.faults.iter().find_map(|(fault, per_mille)| match lot.checked_sub(u64::from(*per_mille)) {
            None => Some(*fault),
            Some(rest) => {
                lot = rest;
                None
            }
        })
    }
}

/// The next number of the `SplitMix64` generator (Steele, Lea and Flood, OOPSLA 2014).
const fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The faults of one meter: those ordered first, then those of the plan.
#[derive(Debug, Default)]
pub(super) struct Faults {
    ordered: VecDeque<Fault>,
    plan: FaultPlan,
}

impl Faults {
    pub(super) fn order(&mut self, fault: Fault) {
        self.ordered.push_back(fault);
    }

    pub(super) fn follow(&mut self, plan: FaultPlan) {
        self.plan = plan;
    }

    pub(super) fn next(&mut self) -> Option<Fault> {
        self.ordered.pop_front().or_else(|| self.plan.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(plan: &FaultPlan, count: usize) -> Vec<Option<Fault>> {
        let mut plan = plan.clone();
        (0..count).map(|_| plan.next()).collect()
    }

    #[test]
    fn a_plan_repeats_with_its_seed_and_keeps_its_shares() {
        let plan = |seed| FaultPlan::seeded(seed).with(Fault::Lost, 100).with(Fault::Busy, 50);
        let all = fates(&plan(7), 20_000);
        assert_eq!(all, fates(&plan(7), 20_000));
        assert_ne!(all, fates(&plan(8), 20_000));
        let share = |wanted| all.iter().filter(|fate| **fate == wanted).count();
        assert!((1_800..2_200).contains(&share(Some(Fault::Lost))), "{}", share(Some(Fault::Lost)));
        assert!((850..1_150).contains(&share(Some(Fault::Busy))), "{}", share(Some(Fault::Busy)));
    }

    #[test]
    fn ordered_faults_go_first_and_once() {
        let mut faults = Faults::default();
        faults.follow(FaultPlan::seeded(1).with(Fault::Lost, 1_000));
        faults.order(Fault::Cut);
        assert_eq!([faults.next(), faults.next()], [Some(Fault::Cut), Some(Fault::Lost)]);
        faults.follow(FaultPlan::default());
        assert_eq!(faults.next(), None);
    }
}
