//! Elections: any ballots, owners, shares and candidates.

use std::collections::{BTreeMap, BTreeSet};

use energy::HomeId;
use ledger::{Ballot, Candidate, Elected, Hash32, NotElected, Voter, elect, fitting, seats_of, turnout};

use crate::Choices;

/// The most voters: enough for every size of set up to 13 seats.
const VOTERS_MAX: u64 = 45;

/// One election, judged by its result alone and by what the order of voters and candidates changes: nothing.
pub fn election(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let (voters, candidates) = electorate(&mut choices);
    let seed = Hash32([choices.byte(); 32]);
    let elected = elect(&voters, &candidates, &seed);
    judge(&voters, &candidates, &elected);
    let (mut turned, mut others) = (voters.clone(), candidates);
    turned.rotate_left(usize::from(choices.byte()).checked_rem(voters.len()).unwrap_or_default());
    others.reverse();
    assert_eq!(elect(&turned, &others, &seed), elected, "the order in which they are given changes nothing");
}

fn home(number: usize) -> HomeId {
    HomeId::new(&format!("h{number:03}")).unwrap()
}

fn electorate(choices: &mut Choices<'_>) -> (Vec<Voter>, Vec<Candidate>) {
    let count = usize::try_from(choices.below(VOTERS_MAX)).unwrap();
    let owners = 1 + choices.one_of(50);
    let voter = |number: usize, choices: &mut Choices<'_>| Voter {
        home: home(number),
        owner: format!("owner {}", choices.one_of(owners)),
        shares: choices.pick(&[1, 2, 3, 4, 5, 0, u64::from(u32::MAX), u64::MAX]),
        ballot: ballot(choices, count),
    };
    let voters: Vec<_> = (0..count).map(|number| voter(number, choices)).collect();
    let standing: Vec<bool> = voters.iter().map(|_| !choices.one_in(4)).collect();
    let candidate = |voter: &Voter| Candidate { home: voter.home.clone(), owner: voter.owner.clone() };
    let candidates =
        voters.iter().zip(standing).filter(|(_, stands)| *stands).map(|(voter, _)| candidate(voter));
    let candidates = candidates.collect();
    (voters, candidates)
}

fn ballot(choices: &mut Choices<'_>, voters: usize) -> Ballot {
    match choices.one_of(8) {
        0 => Ballot::Follow(home(choices.one_of(voters + 1))),
        1 => Ballot::default(),
        kind => Ballot::Approve((0..=kind % 3).map(|_| home(choices.one_of(voters))).collect()),
    }
}

fn judge(voters: &[Voter], candidates: &[Candidate], elected: &Result<Elected, NotElected>) {
    let (cast, all) = turnout(voters);
    assert!(cast <= all, "{cast} of {all} were cast");
    let owners: BTreeMap<_, _> = candidates.iter().map(|of| (&of.home, &of.owner)).collect();
    let distinct = owners.values().collect::<BTreeSet<_>>().len();
    match elected {
        Err(NotElected::Turnout { cast: of_cast, all: of_all }) => {
            assert_eq!((*of_cast, *of_all), (cast, all));
            assert!(u128::from(cast) * 2 < u128::from(all));
        }
        Err(NotElected::Candidates) => assert!(candidates.is_empty()),
        Ok(elected) => {
            assert!(u128::from(cast) * 2 >= u128::from(all));
            assert_eq!(elected.seats.len(), fitting(seats_of(voters.len()), distinct));
            assert_eq!(elected.seats.len() % 3, 1, "a set has 3f + 1 seats");
            let ranked: Vec<_> = elected.seats.iter().chain(&elected.standbys).collect();
            assert_eq!(ranked.len(), distinct, "one of each owner, in a seat or standing by");
            let seated: BTreeSet<_> = ranked.iter().map(|home| owners[home]).collect();
            assert_eq!(seated.len(), distinct);
        }
    }
}
