//! Who gets the seats: weights of votes, and proportional approval in integers.
//!
//! The method is Phragmén's sequential rule. Each seat is a load of 1 that those who approve its holder carry together, as
//! evenly as their earlier loads allow; the next seat goes to the candidate that leaves the largest load smallest. So a
//! majority cannot take every seat: a group of a quarter of the votes that agrees gets about a quarter of them. Rule and
//! the examples it is tested against: Lackner and Skowron, *Multi-Winner Voting with Approval Preferences* (2023),
//! section 2.2.
//!
//! Loads are fractions with a fixed denominator of 2⁶⁴, floored: what differs by less counts as equal to within that, the same
//! on every machine. Equal candidates are ordered by a hash of the epoch's seed and their id.

use std::collections::{BTreeMap, BTreeSet};

use energy::HomeId;

use crate::block::DELEGATES_MAX;
use crate::codec::{CodecError, Decode, Encode, Reader, decode_list};
use crate::crypto::Hash32;

/// The most candidates one member approves.
pub const APPROVALS_MAX: usize = 3;
/// A membership share counts so many parts, so that the cap of an owner can be exact to a thousandth of a share.
const SHARE_PARTS: u64 = 1000;
/// All homes of one owner have at most one part in so many of the votes; with fewer owners, an equal part.
const OWNER_PARTS: u64 = 5;
/// A load of 1.
const WHOLE: u128 = 1 << 64;

/// What a member says about who should be a delegate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ballot {
    /// It approves these; none is an abstention.
    Approve(BTreeSet<HomeId>),
    /// It approves whom that member approves. Followers are not followed.
    Follow(HomeId),
}

impl Default for Ballot {
    fn default() -> Self {
        Self::Approve(BTreeSet::new())
    }
}

impl Encode for Ballot {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Approve(homes) => {
                out.push(0);
                u32::try_from(homes.len()).unwrap_or(u32::MAX).encode(out);
                homes.iter().for_each(|home| home.encode(out));
            }
            Self::Follow(home) => {
                out.push(1);
                home.encode(out);
            }
        }
    }
}

impl Decode for Ballot {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match u8::decode(r)? {
            0 => {
                let homes: Vec<HomeId> = decode_list(r, "approved candidates", APPROVALS_MAX)?;
                if !homes.is_sorted_by(|left, right| left < right) {
                    return Err(CodecError::Invalid {
                        what: "ballot with each candidate once, in ascending order",
                    });
                }
                Ok(Self::Approve(homes.into_iter().collect()))
            }
            1 => HomeId::decode(r).map(Self::Follow),
            _ => Err(CodecError::Invalid { what: "ballot" }),
        }
    }
}

/// Somebody who may vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// The home.
    pub home: HomeId,
    /// Whose it is.
    pub owner: String,
    /// Its membership shares, at least 1.
    pub shares: u64,
    /// Its ballot; an empty one if it never voted.
    pub ballot: Ballot,
}

/// Somebody who would take a seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The home.
    pub home: HomeId,
    /// Whose it is; one seat each.
    pub owner: String,
}

/// What came of an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    /// Who takes the seats, in the order of their election.
    pub seats: Vec<HomeId>,
    /// Who steps in when a seat falls vacant, first the first.
    pub standbys: Vec<HomeId>,
}

/// Why the previous delegates stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotElected {
    /// Less than half of the votes were cast.
    Turnout {
        /// Parts of shares cast.
        cast: u64,
        /// Parts of shares there are.
        all: u64,
    },
    /// Nobody stands.
    Candidates,
}

/// How many seats a community of so many homes has: 3f + 1, so that f of them may fail.
#[must_use]
pub const fn seats_of(homes: usize) -> usize {
    match homes {
        0..=8 => 4,
        9..=40 => 7,
        41..=100 => 13,
        101..=200 => 21,
        _ => DELEGATES_MAX,
    }
}

/// The largest 3f + 1 that is neither above `seats` nor above `candidates`; 0 without candidates.
#[must_use]
pub const fn fitting(seats: usize, candidates: usize) -> usize {
    let most = if seats < candidates { seats } else { candidates };
    match most.checked_sub(1) {
        Some(rest) => rest.wrapping_div(3).saturating_mul(3).saturating_add(1),
        None => 0,
    }
}

/// Fills the seats. Each owner holds one at the most. Candidates whom nobody approves come last, in the order of their hashes.
///
/// # Errors
/// [`NotElected`]: the previous delegates stay.
pub fn elect(voters: &[Voter], candidates: &[Candidate], seed: &Hash32) -> Result<Elected, NotElected> {
    let (cast, all) = turnout(voters);
    let weights = weights(voters);
    let ballots = ballots(voters, &weights);
    if cast.saturating_mul(2) < all {
        return Err(NotElected::Turnout { cast, all });
    }
    let mut order = rank(candidates, ballots, seed);
    let seats = fitting(seats_of(voters.len()), order.len());
    if seats == 0 {
        return Err(NotElected::Candidates);
    }
    let standbys = order.split_off(seats.min(order.len()));
    Ok(Elected { seats: order, standbys })
}

/// What was cast, and all there is to cast, in parts of a share.
#[must_use]
pub fn turnout(voters: &[Voter]) -> (u64, u64) {
    let weights = weights(voters);
    let all = weights.values().fold(0u64, |sum, weight| sum.saturating_add(*weight));
    let cast = ballots(voters, &weights).iter().fold(0u64, |sum, ballot| sum.saturating_add(ballot.weight));
    (cast, all)
}

/// What each voter's word counts, in parts of a share: its shares, cut so that no owner has more than a fifth.
fn weights(voters: &[Voter]) -> BTreeMap<&HomeId, u64> {
    let mut owners: BTreeMap<&str, u64> = BTreeMap::new();
    for voter in voters {
        let sum = owners.entry(&voter.owner).or_default();
        *sum = sum.saturating_add(voter.shares.max(1).saturating_mul(SHARE_PARTS));
    }
    let cap = owner_cap(owners.values().copied().collect());
    let weight = |voter: &Voter| {
        let own = voter.shares.max(1).saturating_mul(SHARE_PARTS);
        let of_owner = owners.get(voter.owner.as_str()).copied().unwrap_or(own);
        if of_owner <= cap { own } else { scaled(own, cap, of_owner) }
    };
    voters.iter().map(|voter| (&voter.home, weight(voter))).collect()
}

/// ⌊value × part / whole⌋.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(value).saturating_mul(u128::from(part));
    u64::try_from(product.checked_div(u128::from(whole)).unwrap_or_default()).unwrap_or(u64::MAX)
}

/// The most one owner may count for so that nobody has more than a fifth of what all count for then; with fewer than
/// five owners, the least of them.
fn owner_cap(mut owners: Vec<u64>) -> u64 {
    owners.sort_unstable_by(|left, right| right.cmp(left));
    let mut rest = owners.iter().fold(0u64, |sum, owner| sum.saturating_add(*owner));
    // With the k largest cut to c, all count for k × c + rest; c is a fifth of it where c = rest / (5 − k).
    for (capped, owner) in owners.iter().enumerate() {
        let divisor = OWNER_PARTS.saturating_sub(u64::try_from(capped).unwrap_or(u64::MAX));
        let Some(cap) = rest.checked_div(divisor) else { break };
        if *owner <= cap {
            return cap;
        }
        rest = rest.saturating_sub(*owner);
    }
    owners.last().copied().unwrap_or_default()
}

/// A ballot as it is counted: those who say nothing have none.
struct Counted<'a> {
    weight: u64,
    approves: &'a BTreeSet<HomeId>,
    /// In 2⁻⁶⁴ of a seat per part of a share.
    load: u128,
}

fn ballots<'a>(voters: &'a [Voter], weights: &BTreeMap<&HomeId, u64>) -> Vec<Counted<'a>> {
    let approvals: BTreeMap<&HomeId, &BTreeSet<HomeId>> = voters
        .iter()
        .filter_map(|voter| match &voter.ballot {
            Ballot::Approve(homes) => Some((&voter.home, homes)),
            Ballot::Follow(_) => None,
        })
        .collect();
    let counted = voters.iter().filter_map(|voter| {
        let approves = match &voter.ballot {
            Ballot::Approve(homes) => homes,
            Ballot::Follow(home) => *approvals.get(home)?,
        };
        let weight = weights.get(&voter.home).copied().unwrap_or_default();
        (!approves.is_empty()).then_some(Counted { weight, approves, load: 0 })
    });
    counted.collect()
}

/// All candidates in the order of Phragmén's sequential rule, one of each owner.
fn rank(candidates: &[Candidate], mut ballots: Vec<Counted<'_>>, seed: &Hash32) -> Vec<HomeId> {
    let mut waiting: Vec<(&Candidate, Hash32)> =
        candidates.iter().map(|candidate| (candidate, tie(seed, &candidate.home))).collect();
    let mut order = Vec::new();
    loop {
        let loads = loads(&ballots);
        let best = waiting.iter().min_by_key(|(candidate, hash)| {
            (loads.get(&candidate.home).copied().unwrap_or(u128::MAX), *hash, &candidate.home)
        });
        let Some((next, _)) = best.copied() else { return order };
        if let Some(load) = loads.get(&next.home).copied() {
            for ballot in ballots.iter_mut().filter(|ballot| ballot.approves.contains(&next.home)) {
                ballot.load = load;
            }
        }
        waiting.retain(|(candidate, _)| candidate.home != next.home && candidate.owner != next.owner);
        order.push(next.home.clone());
    }
}

/// The load of those who approve each candidate if it got the next seat: (1 + Σ weight × load) / Σ weight.
fn loads(ballots: &[Counted<'_>]) -> BTreeMap<HomeId, u128> {
    let mut sums: BTreeMap<&HomeId, (u128, u128)> = BTreeMap::new();
    for ballot in ballots {
        let weight = u128::from(ballot.weight);
        for home in ballot.approves {
            let (weights, loads) = sums.entry(home).or_default();
            *weights = weights.saturating_add(weight);
            *loads = loads.saturating_add(weight.saturating_mul(ballot.load));
        }
    }
    let load = |(home, (weights, loads)): (&HomeId, (u128, u128))| {
        Some((home.clone(), WHOLE.saturating_add(loads).checked_div(weights)?))
    };
    sums.into_iter().filter_map(load).collect()
}

/// Orders equal candidates: nobody chooses it, everybody can compute it.
fn tie(seed: &Hash32, home: &HomeId) -> Hash32 {
    Hash32::of(&[b"commonwatt/tie/v1", &seed.0, &home.to_bytes()])
}

#[cfg(test)]
mod tests;
