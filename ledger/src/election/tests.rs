use proptest::prelude::*;

use super::*;

fn home(name: &str) -> HomeId {
    HomeId::new(name).unwrap()
}

/// Voters `times` × the candidates of `approves` (one letter each), all of different owners.
fn profile(groups: &[(usize, &str)]) -> Vec<Voter> {
    let ballots = groups.iter().flat_map(|(times, approves)| std::iter::repeat_n(*approves, *times));
    let voter = |(number, approves): (usize, &str)| Voter {
        home: home(&format!("voter{number}")),
        owner: format!("owner{number}"),
        shares: 1,
        ballot: Ballot::Approve(approves.chars().map(|letter| home(&letter.to_string())).collect()),
    };
    ballots.enumerate().map(voter).collect()
}

fn candidates(letters: &str) -> Vec<Candidate> {
    letters
        .chars()
        .map(|letter| Candidate { home: home(&letter.to_string()), owner: letter.to_string() })
        .collect()
}

/// The order of election, and each load in seats per vote.
fn order(groups: &[(usize, &str)], letters: &str) -> (String, Vec<f64>) {
    let voters = profile(groups);
    let weights = weights(&voters);
    let mut counted = ballots(&voters, &weights);
    let candidates = candidates(letters);
    let mut found = String::new();
    let mut max = Vec::new();
    for home in rank(&candidates, ballots(&voters, &weights), &Hash32::ZERO) {
        found.push_str(home.as_str());
        if let Some(load) = loads(&counted).get(&home).copied() {
            counted
                .iter_mut()
                .filter(|ballot| ballot.approves.contains(&home))
                .for_each(|ballot| ballot.load = load);
            max.push(load as f64 * SHARE_PARTS as f64 / WHOLE as f64);
        }
    }
    (found, max)
}

fn assert_loads(found: &[f64], published: &[(u32, u32)]) {
    for (place, (over, under)) in published.iter().enumerate() {
        let wanted = f64::from(*over) / f64::from(*under);
        assert!(
            (found[place] - wanted).abs() < 1e-9,
            "seat {place}: {} instead of {over}/{under}",
            found[place]
        );
    }
}

#[test]
fn the_running_example_of_lackner_and_skowron_fills_its_seats_with_the_published_loads() {
    let groups = [(3, "ab"), (3, "ac"), (2, "ad"), (1, "bcf"), (1, "e"), (1, "f"), (1, "g")];
    let (found, loads) = order(&groups, "abcdefgh");
    assert!(found.starts_with("abcdf") || found.starts_with("acbdf"), "{found}: b and c are tied, then f");
    assert!(found.ends_with('h'), "nobody approves h: {found}");
    assert_loads(&loads, &[(1, 8), (11, 32), (55, 128), (5, 8)]);
}

#[test]
fn the_example_on_rule_x_of_lackner_and_skowron_elects_c_b_d() {
    let groups = [(3, "cd"), (2, "ab"), (2, "ac"), (1, "bd")];
    let (found, loads) = order(&groups, "abcd");
    assert!(found.starts_with("cbd"), "{found}");
    assert_loads(&loads, &[(1, 5), (1, 3), (29, 60)]);
}

#[test]
fn phragmens_own_example_of_1894_elects_a_q_b() {
    // 1034 ABC, 519 PQR, 90 ABQ, 47 APQ: first A, then Q with 0.0017027, then B.
    let (found, loads) = order(&[(1034, "ABC"), (519, "PQR"), (90, "ABQ"), (47, "APQ")], "ABCPQR");
    assert!(found.starts_with("AQB"), "{found}");
    assert_loads(&loads, &[(1, 1171), (1308, 768_176)]);
}

fn distinct(voters: usize, approve: impl Fn(usize) -> Vec<usize>) -> Vec<Voter> {
    let voter = |number: usize| Voter {
        home: home(&format!("h{number:03}")),
        owner: format!("owner{number}"),
        shares: 1,
        ballot: Ballot::Approve(approve(number).into_iter().map(|of| home(&format!("h{of:03}"))).collect()),
    };
    (0..voters).map(voter).collect()
}

fn standing(voters: &[Voter]) -> Vec<Candidate> {
    voters.iter().map(|voter| Candidate { home: voter.home.clone(), owner: voter.owner.clone() }).collect()
}

#[test]
fn a_majority_cannot_take_every_seat() {
    // 40 homes, 7 seats; 28 approve among 0..9, 12 among 30..33: 70 % and 30 % of the votes.
    let voters = distinct(40, |number| {
        if number < 28 { (0..3).map(|of| (number + of) % 9).collect() } else { vec![30, 31, 32] }
    });
    let elected = elect(&voters, &standing(&voters), &Hash32::ZERO).unwrap();
    assert_eq!(elected.seats.len(), 7);
    let minority = elected.seats.iter().filter(|home| home.as_str() >= "h030").count();
    assert_eq!(minority, 2, "{:?}", elected.seats);
    assert_eq!(elected.seats.len() + elected.standbys.len(), 40, "everybody else stands by");
}

#[test]
fn less_than_half_of_the_votes_elects_nobody() {
    let voters = distinct(8, |number| if number < 3 { vec![0, 1, 2] } else { vec![] });
    assert!(matches!(elect(&voters, &standing(&voters), &Hash32::ZERO), Err(NotElected::Turnout { .. })));
    let voters = distinct(8, |number| if number < 4 { vec![0, 1, 2] } else { vec![] });
    let elected = elect(&voters, &standing(&voters), &Hash32::ZERO).unwrap();
    assert_eq!(elected.seats.len(), 4, "the fourth seat goes to one whom nobody approves");
    assert!(elect(&voters, &[], &Hash32::ZERO) == Err(NotElected::Candidates));
}

#[test]
fn who_follows_somebody_votes_as_that_member_does_and_followers_are_not_followed() {
    let mut voters = distinct(8, |_| vec![1]);
    voters[0].ballot = Ballot::Follow(home("h001"));
    voters[2].ballot = Ballot::Follow(home("h000"));
    let weights = weights(&voters);
    let counted = ballots(&voters, &weights);
    assert_eq!(counted.len(), 7, "the follower of a follower abstains");
    assert!(counted.iter().all(|ballot| ballot.approves.contains(&home("h001"))));
}

#[test]
fn an_owner_of_many_homes_has_a_fifth_of_the_votes_and_one_seat() {
    let mut voters = distinct(20, |number| if number < 12 { vec![0, 1, 2] } else { vec![15, 16, 17] });
    for voter in voters.iter_mut().take(12) {
        voter.owner = "landlord".to_owned();
    }
    let weights = weights(&voters);
    let of_landlord: u64 = voters[..12].iter().map(|voter| weights[&voter.home]).sum();
    let all: u64 = weights.values().sum();
    assert!(of_landlord * 5 <= all && of_landlord * 5 > all - 100, "{of_landlord} of {all}");
    let elected = elect(&voters, &standing(&voters), &Hash32::ZERO).unwrap();
    assert_eq!(elected.seats.iter().filter(|home| home.as_str() < "h012").count(), 1);
}

#[test]
fn seats_follow_the_size_and_shrink_to_what_can_be_filled() {
    let sizes =
        [(4, 4), (8, 4), (9, 7), (40, 7), (41, 13), (100, 13), (101, 21), (200, 21), (201, 31), (1000, 31)];
    assert!(sizes.iter().all(|(homes, seats)| seats_of(*homes) == *seats));
    let cases = [(7, 12, 7), (7, 7, 7), (7, 6, 4), (7, 4, 4), (4, 3, 1), (4, 1, 1), (4, 0, 0), (21, 20, 19)];
    for (seats, candidates, fit) in cases {
        assert_eq!(fitting(seats, candidates), fit, "{candidates} candidates for {seats} seats");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_owner_counts_for_more_than_a_fifth_or_an_equal_part(owners in prop::collection::vec((0..9u8, 1..6u64), 1..60)) {
        let voter = |(number, (owner, shares)): (usize, &(u8, u64))| Voter {
            home: home(&format!("h{number:03}")),
            owner: owner.to_string(),
            shares: *shares,
            ballot: Ballot::default(),
        };
        let voters: Vec<_> = owners.iter().enumerate().map(voter).collect();
        let weights = weights(&voters);
        let all: u64 = weights.values().sum();
        let mut of_owner: BTreeMap<&str, u64> = BTreeMap::new();
        for voter in &voters {
            *of_owner.entry(&voter.owner).or_default() += weights[&voter.home];
        }
        let parts = OWNER_PARTS.min(u64::try_from(of_owner.len()).unwrap());
        for (owner, weight) in of_owner {
            // Floors take up to a part from each home.
            prop_assert!(weight * parts <= all + parts * 60, "{owner} counts {weight} of {all}");
        }
    }

    #[test]
    fn the_same_ballots_in_any_order_elect_the_same(
        approvals in prop::collection::vec(prop::collection::btree_set(0..30usize, 0..4), 30),
        seed in any::<[u8; 32]>(),
        turn in 0..30usize,
    ) {
        let voters = distinct(30, |number| approvals[number].iter().copied().collect());
        let mut turned = voters.clone();
        turned.rotate_left(turn);
        let seed = Hash32(seed);
        prop_assert_eq!(elect(&voters, &standing(&voters), &seed), elect(&turned, &standing(&turned), &seed));
    }
}
