//! In which order entries are proposed.
//!
//! Each signer's numbers of a stream ascend: a number is worthless after a larger one. Beside that, members take turns, so
//! that many entries of one do not hold up the first of another; within a turn readings and what concerns delegates come
//! before orders, then goes who came first.

use ledger::{BLOCK_BYTES_MAX, BLOCK_ENTRIES_MAX, Ledger, VerifiedEntry};

use super::{Class, Mempool, Waiting};

/// How many entries of a stream have one turn.
const TURN: u64 = 16;
/// An entry whose number leaves a gap waits so long for the entry that belongs there, in wall ms: with it on the ledger the
/// one before could never follow.
const GAP_MS: u64 = 1000;
/// With so many entries waiting, the newest stay out of a block: the others have not checked their signatures yet, would have
/// to ask for them, and check them twice. Nor is tried before it is proposed whether others' entries are valid.
pub(super) const BUSY: usize = 1000;
/// How long an entry is among the newest, in wall ms.
const RIPE_MS: u64 = 300;
/// What is looked at for a block, in bytes: a block and what may be refused.
const LOOKED_AT_BYTES: usize = BLOCK_BYTES_MAX + BLOCK_BYTES_MAX / 4;

/// Where an entry comes in a block.
type Rank = (u64, Class, u64);

impl Mempool {
    /// What to propose, as much as a block may hold. At a gate or deadline nothing waits for what is missing before it.
    pub fn ordered(&self, ledger: &Ledger, wall_ms: u64, at_deadline: bool) -> Vec<VerifiedEntry> {
        let busy = self.waiting.len() > BUSY;
        let may_follow = |waiting: &Waiting, previous: u64| {
            let age_ms = wall_ms.saturating_sub(waiting.seen_ms);
            let gap = waiting.entry.entry().number > previous.saturating_add(1);
            at_deadline || ((!gap || age_ms >= GAP_MS) && (!busy || age_ms >= RIPE_MS))
        };
        let patient = self.ranked(may_follow, ledger);
        let ranked = if patient.is_empty() { self.ranked(|_, _| true, ledger) } else { patient };
        take_a_block(ranked)
    }

    /// Every stream's entries up to the first that is held back, with their ranks.
    fn ranked(&self, may_follow: impl Fn(&Waiting, u64) -> bool, ledger: &Ledger) -> Vec<(Rank, &Waiting)> {
        let mut ranked = Vec::new();
        let mut stream = None;
        let (mut previous, mut place, mut floor, mut held) = (0, 0, (0, Class::Delegates, 0), false);
        for ((signer, kind, number), id) in &self.places {
            if stream != Some((signer, kind)) {
                stream = Some((signer, kind));
                (previous, place) = (ledger.last_number(signer, *kind), 0);
                (floor, held) = ((0, Class::Delegates, 0), false);
            }
            let Some(waiting) = self.waiting.get(id).filter(|waiting| waiting.includable) else { continue };
            held |= !may_follow(waiting, previous);
            if held {
                continue;
            }
            // Never before its predecessor.
            floor = floor.max((place / TURN, waiting.class, waiting.arrival));
            ranked.push((floor, waiting));
            (previous, place) = (*number, place + 1);
        }
        ranked
    }
}

fn take_a_block(mut ranked: Vec<(Rank, &Waiting)>) -> Vec<VerifiedEntry> {
    // Stable: entries of one stream with one rank stay in their order.
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut bytes = 0;
    let fits = |(_, waiting): &(Rank, &Waiting)| {
        bytes += waiting.entry.bytes().len();
        bytes <= LOOKED_AT_BYTES
    };
    let chosen = ranked.into_iter().take(BLOCK_ENTRIES_MAX).take_while(fits);
    chosen.map(|(_, waiting)| waiting.entry.clone()).collect()
}
