//! The real election, with every profile of ballots of a few voters; judged by a plain second implementation in fractions,
//! and by proportional justified representation.
//!
//! Rule: sequential Phragmén (Lackner and Skowron, *Multi-Winner Voting with Approval Preferences*, 2023, section 2.2). That it
//! satisfies proportional justified representation: Brill, Freeman, Janson and Lackner, *Phragmén's Voting Methods and Justified
//! Representation* (2017): of n voters and k seats, whoever agrees on ℓ candidates and is at least ℓ × n / k voters gets at least
//! ℓ seats for somebody that one of them approves.

use std::collections::BTreeSet;

use energy::HomeId;
use ledger::{Ballot, Candidate, Elected, Hash32, NotElected, Voter, elect};

/// Approved candidates as bits; candidate c is voter c's home.
pub type Approval = u8;

/// Ballots of at most three of so many candidates; the first is an abstention.
#[must_use]
pub fn ballots(candidates: u8) -> Vec<Approval> {
    (0..1u8 << candidates).filter(|ballot| ballot.count_ones() <= 3).collect()
}

/// Every way to choose so many ballots, in ascending order: which voter has which does not matter, each owner being another.
pub fn profiles(voters: usize, ballots: &[Approval], mut judge: impl FnMut(&[Approval])) {
    let mut chosen = vec![0; voters];
    loop {
        judge(&chosen.iter().map(|ballot: &usize| ballots[*ballot]).collect::<Vec<_>>());
        let Some(place) = (0..voters).rev().find(|place| chosen[*place] + 1 < ballots.len()) else { return };
        let next = chosen[place] + 1;
        chosen[place..].fill(next);
    }
}

fn home(number: usize) -> HomeId {
    HomeId::new(&format!("h{number:02}")).expect("a valid id")
}

/// As many voters as there are ballots, each with an owner of its own.
#[must_use]
pub fn voters(profile: &[Approval]) -> Vec<Voter> {
    let approves =
        |ballot: Approval| (0..8).filter(|candidate| ballot >> candidate & 1 == 1).map(home).collect();
    let voter = |(number, ballot): (usize, &Approval)| Voter {
        home: home(number),
        owner: format!("owner {number}"),
        shares: 1,
        ballot: Ballot::Approve(approves(*ballot)),
    };
    profile.iter().enumerate().map(voter).collect()
}

/// So many candidates, each with an owner of its own.
#[must_use]
pub fn candidates(count: u8) -> Vec<Candidate> {
    let candidate = |number: usize| Candidate { home: home(number), owner: format!("owner {number}") };
    (0..usize::from(count)).map(candidate).collect()
}

/// Judges one profile: who is elected, in which order, and that nobody is left out who must not be. Returns whether there was
/// an election at all.
///
/// # Panics
/// Where something does not hold.
pub fn judge(profile: &[Approval], count: u8) -> bool {
    let (voters, candidates) = (voters(profile), candidates(count));
    let cast = profile.iter().filter(|ballot| **ballot != 0).count();
    match elect(&voters, &candidates, &Hash32::ZERO) {
        Err(NotElected::Turnout { .. }) => {
            assert!(cast * 2 < profile.len(), "{profile:?}: {cast} votes are enough");
            false
        }
        Err(NotElected::Candidates) => panic!("{profile:?}: there are candidates"),
        Ok(elected) => {
            assert!(cast * 2 >= profile.len(), "{profile:?}: {cast} votes are too few");
            let order: Vec<u8> = ranked(&elected, count);
            is_phragmens(profile, &order);
            is_proportional(profile, &order[..elected.seats.len()]);
            true
        }
    }
}

/// Who was elected, then who stands by, as numbers of candidates.
fn ranked(elected: &Elected, count: u8) -> Vec<u8> {
    let all = elected.seats.iter().chain(&elected.standbys);
    let order: Vec<u8> =
        all.filter_map(|of| (0..count).find(|number| home(usize::from(*number)) == *of)).collect();
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), usize::from(count), "everybody once: {order:?}");
    order
}

/// A fraction in lowest terms; loads of a few voters fit by far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fraction(i128, i128);

impl Fraction {
    const fn new(over: i128, under: i128) -> Self {
        let (mut one, mut two) = (over, under);
        while two != 0 {
            (one, two) = (two, one % two);
        }
        Self(over / one, under / one)
    }

    const fn plus(self, other: Self) -> Self {
        Self::new(self.0 * other.1 + other.0 * self.1, self.1 * other.1)
    }

    const fn over(self, number: i128) -> Self {
        Self::new(self.0, self.1 * number)
    }

    const fn is_more_than(self, other: Self) -> bool {
        self.0 * other.1 > other.0 * self.1
    }
}

/// Whoever came next left the largest load smallest; whom nobody approves comes last.
fn is_phragmens(profile: &[Approval], order: &[u8]) {
    let mut loads = vec![Fraction(0, 1); profile.len()];
    let load_with = |loads: &[Fraction], candidate: u8| {
        let with = || profile.iter().zip(loads).filter(|(ballot, _)| **ballot >> candidate & 1 == 1);
        let sum = with().fold(Fraction(1, 1), |sum, (_, load)| sum.plus(*load));
        i128::try_from(with().count()).ok().filter(|count| *count > 0).map(|count| sum.over(count))
    };
    for (place, candidate) in order.iter().enumerate() {
        let taken = load_with(&loads, *candidate);
        for other in &order[place + 1..] {
            let better = match (taken, load_with(&loads, *other)) {
                (Some(taken), Some(other)) => taken.is_more_than(other),
                (None, Some(_)) => true,
                (_, None) => false,
            };
            assert!(!better, "{profile:?}: {other} should come before {candidate} in {order:?}");
        }
        if let Some(load) = taken {
            let carry = profile.iter().zip(&mut loads).filter(|(ballot, _)| **ballot >> candidate & 1 == 1);
            carry.for_each(|(_, carried)| *carried = load);
        }
    }
}

/// Proportional justified representation among those who voted.
fn is_proportional(profile: &[Approval], seats: &[u8]) {
    let cast: Vec<Approval> = profile.iter().copied().filter(|ballot| *ballot != 0).collect();
    let elected: Approval = seats.iter().fold(0, |all, seat| all | 1 << seat);
    for group in 1..1u32 << cast.len() {
        let of_group =
            || cast.iter().enumerate().filter(|(voter, _)| group >> voter & 1 == 1).map(|(_, it)| *it);
        let agreed = of_group().fold(Approval::MAX, |all, ballot| all & ballot).count_ones();
        let due = usize::try_from(group.count_ones()).unwrap_or(0) * seats.len() / cast.len();
        let due = due.min(agreed as usize);
        let represented = of_group().fold(0, |all, ballot| all | ballot) & elected;
        assert!(
            represented.count_ones() as usize >= due,
            "{profile:?}: a group that is due {due} seats has {represented:b} in {elected:b}"
        );
    }
}

/// Every way to give so many homes to owners: by home, the number of its owner; a new owner has the next number.
pub fn ownerships(homes: usize, mut judge: impl FnMut(&[usize])) {
    fn fill(owners: &mut Vec<usize>, homes: usize, judge: &mut impl FnMut(&[usize])) {
        if owners.len() == homes {
            judge(owners);
            return;
        }
        let next = owners.iter().max().map_or(0, |most| most + 1);
        for owner in 0..=next {
            owners.push(owner);
            fill(owners, homes, judge);
            owners.pop();
        }
    }
    fill(&mut Vec::new(), homes, &mut judge);
}

/// Homes of these owners, of which `ballot` says whom each approves.
pub fn owned(owners: &[usize], ballot: impl Fn(usize) -> Approval) -> Vec<Voter> {
    let profile: Vec<_> = (0..owners.len()).map(ballot).collect();
    let mut all = voters(&profile);
    for (voter, owner) in all.iter_mut().zip(owners) {
        voter.owner = format!("owner {owner}");
    }
    all
}
