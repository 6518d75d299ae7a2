//! What a member gets that does not hold all bodies: nothing of others, all of its own, and nothing that it must believe where it
//! could be proven.

use energy::{Balance, Price};
use ledger::codec::{Decode, Encode};
use ledger::{
    BlockError, BlockParts, Body, Certificate, Executed, FollowError, Followed, FollowedBlock, Forward,
    Hash32, HomeView, Ledger, LightClient, LightError, PostingRecord, Replicas, Signature, Stream, Trail,
    VerifiedEntry, ViewError, VoteKind, vote_signing_bytes,
};
use market::{Account, PostingKind, Side};

use crate::fixture::*;
use crate::forward::{order, street_of, wanted};
use crate::town::Town;

const HOMES: u8 = 6;

/// A street in the middle of things, and of each block why it is final.
struct Told {
    street: Fixture,
    certificates: Vec<Certificate>,
}

impl Told {
    fn new() -> Self {
        let street = street_of(HOMES, Forward::Auction, |genesis| {
            genesis.replicas = Replicas::Delegates { holders: vec![home(5)] };
        });
        let certificates = vec![certificate(&street)];
        let mut told = Self { street, certificates };
        told.trade();
        told.live();
        told
    }

    /// Heartbeats, and a block after so many minutes.
    fn block(&mut self, minutes: u64, entries: &[VerifiedEntry]) {
        while self.street.ledger.head_time().plus_ms(300_000) < at(minutes) {
            self.street.block(self.street.ledger.head_time().plus_ms(300_000), &[]);
            self.certificates.push(certificate(&self.street));
        }
        self.street.block(at(minutes), entries);
        self.certificates.push(certificate(&self.street));
    }

    fn trade(&mut self) {
        let street = &mut self.street;
        let mut entries = vec![
            order(street, &wanted(1, Side::Sell, 100_000, 300)),
            order(street, &wanted(2, Side::Buy, 200_000, 200)),
            order(street, &wanted(3, Side::Buy, 190_000, 100)),
            order(street, &wanted(6, Side::Buy, 110_000, 100)),
        ];
        let series =
            Body::TariffSeries { from: street.interval(20), points: vec![tariff(200_000, 50_000); 3] };
        entries.push(street.verified(series, OPERATOR, &[]));
        let limits = ledger::StandingLimits { min_sell: Some(Price::new(70_000)), max_buy: None };
        entries.push(street.verified(Body::StandingLimits { home: home(6), limits }, (Use::Member, 6), &[]));
        let ballot = ledger::Ballot::Approve([home(6)].into());
        entries.push(street.verified(Body::Vote { home: home(6), ballot }, (Use::Member, 6), &[]));
        self.block(10, &entries);
    }

    fn live(&mut self) {
        let paid = |number| Body::Deposit {
            home: Some(home(number)),
            amount: Balance::new(7_000_000),
            reference: "paid in".to_owned(),
        };
        for offset in 0..5_i64 {
            let minutes = 15 * (u64::try_from(offset).unwrap() + 1);
            let read = |number: u8| (u64::from(number) * 100, u64::from(7 - number) * 70);
            let mut entries: Vec<_> = (1..=HOMES)
                .map(|number| self.street.read(number, offset, read(number).0, read(number).1))
                .collect();
            if offset == 2 {
                entries.extend([1, 6].map(|number| self.street.verified(paid(number), TREASURER, &[])));
            }
            self.block(minutes + 1, &entries);
            if offset == 0 {
                // The gate.
                self.block(26, &[]);
            }
        }
        self.block(91, &[]);
    }

    fn parts(&self, height: u64) -> BlockParts {
        let at = usize::try_from(height).unwrap() - 1;
        parts(&self.street.blocks[at], &self.certificates[at])
    }

    fn block_for(&self, height: u64, number: u8) -> FollowedBlock {
        FollowedBlock::of(self.parts(height), &home(number))
    }

    fn ledger(&self, height: u64) -> Ledger {
        match usize::try_from(height).unwrap().checked_sub(1) {
            Some(at) => self.street.blocks[at].ledger.clone(),
            None => Ledger::genesis(&self.street.genesis).unwrap(),
        }
    }

    fn height(&self) -> u64 {
        self.street.ledger.height()
    }

    /// The trail of a home up to a height, and what it followed.
    fn trail(&self, number: u8, height: u64) -> (Trail, Vec<Followed>) {
        let mut trail = beginning(&self.street, number);
        let followed = (1..=height).map(|height| {
            trail
                .follow(self.block_for(height, number), &self.ledger(height - 1), std::iter::empty())
                .unwrap()
        });
        let followed = followed.collect();
        (trail, followed)
    }
}

fn beginning(street: &Fixture, number: u8) -> Trail {
    let (client, start) = (LightClient::new(&street.genesis).unwrap(), street.genesis.start);
    let head = Ledger::genesis(&street.genesis).unwrap().head();
    Trail::new(home(number), client, (0, head, start), ledger::tree::Frontier::new())
}

fn parts(executed: &Executed, certificate: &Certificate) -> BlockParts {
    let header = executed.block.header.clone();
    let places = 0..;
    BlockParts {
        certificate: certificate.clone(),
        delegates: (header.delegates != header.next_delegates).then(|| executed.ledger.delegates().clone()),
        recovery: executed.block.recovery.clone(),
        leaves: executed.leaves.iter().map(|leaf| leaf.bytes.clone()).collect(),
        entries: executed
            .block
            .entries
            .iter()
            .map(|entry| ledger::SignedEntry::from_bytes(entry.bytes()).unwrap())
            .collect(),
        outcomes: executed.outcomes.clone(),
        postings: places.zip(executed.postings.clone()).collect(),
        statements: Vec::new(),
        header,
    }
}

fn certificate(street: &Fixture) -> Certificate {
    let (block, height, round) = (street.ledger.head(), street.ledger.height(), 0);
    let message = vote_signing_bytes(street.ledger.chain(), VoteKind::Precommit, height, round, Some(&block));
    let seats = street.ledger.last_delegates().as_slice().iter().enumerate();
    let signatures = seats.map(|(seat, delegate)| {
        let number = (1..=4).find(|number| key((Use::Term, *number)).public() == delegate.key).unwrap();
        (u8::try_from(seat).unwrap(), Signature::sign(&key((Use::Term, number)).signing(), &message))
    });
    Certificate { height, round, block, signatures: signatures.collect() }
}

#[test]
fn a_home_gets_all_of_its_own_and_what_is_public_and_nothing_else() {
    let told = Told::new();
    for number in 1..=HOMES {
        let (trail, followed) = told.trail(number, told.height());
        assert_eq!((trail.height(), trail.head()), (told.height(), told.street.ledger.head()));
        assert_eq!(trail.tree_size(), told.street.ledger.tree_size());
        for (of, executed) in followed.iter().zip(&told.street.blocks) {
            let own = |entry: &&VerifiedEntry| {
                let body = &entry.entry().body;
                !body.is_sealed() || body.home() == Some(&home(number))
            };
            let expected: Vec<_> = executed.block.entries.iter().filter(own).cloned().collect();
            let found: Vec<_> = of.entries.iter().map(|(_, entry)| entry.clone()).collect();
            assert_eq!(found, expected);
            for (position, entry) in &of.entries {
                assert_eq!(&executed.block.entries[usize::try_from(*position).unwrap()], entry);
            }
            let own =
                |outcome: &&ledger::Outcome| !outcome.is_sealed() || outcome.home() == Some(&home(number));
            let expected: Vec<_> = executed.outcomes.iter().filter(own).cloned().collect();
            assert_eq!(of.outcomes.iter().map(|(_, outcome)| outcome.clone()).collect::<Vec<_>>(), expected);
            assert_eq!(of.leaves, executed.leaves);
            let own = |reading: &&ledger::ReadingRecord| reading.home == Some(home(number));
            assert_eq!(of.readings, executed.readings.iter().filter(own).cloned().collect::<Vec<_>>());
        }
        let opening = Ledger::genesis(&told.street.genesis).unwrap().balance(&account(number)).as_money();
        let moved = followed.iter().fold(opening, |sum, of| sum.add(of.moved()).unwrap());
        assert_eq!(moved, told.street.ledger.balance(&account(number)).as_money());
    }
    let traded = told.street.outcomes().filter(|(_, of)| matches!(of, ledger::Outcome::Order(_))).count();
    let bought = |of: &ledger::Outcome| matches!(of, ledger::Outcome::Home(it) if it.position.bought > wh(0));
    assert!(traded >= 3 && told.street.outcomes().any(|(_, of)| bought(of)));
}

#[test]
fn a_followed_block_reads_back_from_its_bytes() {
    let told = Told::new();
    for height in 1..=told.height() {
        let block = told.block_for(height, 6);
        assert_eq!(FollowedBlock::from_bytes(&block.to_bytes()).as_ref(), Ok(&block));
    }
    assert!(FollowedBlock::from_bytes(&[0; 40]).is_err());
}

#[test]
fn what_is_given_to_one_home_names_no_other() {
    let told = Told::new();
    for height in 1..=told.height() {
        let mut block = told.block_for(height, 6);
        // Public entries may name homes: what is beside them may not.
        block.leaves.clear();
        block.delegates = None;
        let text = String::from_utf8_lossy(&block.to_bytes()).into_owned();
        assert!((1..6).all(|number| !text.contains(home(number).as_str())), "block {height}");
    }
}

/// Why home 6 refuses the block at `height` after `spoil`.
fn refused(told: &Told, height: u64, spoil: impl FnOnce(&mut FollowedBlock)) -> FollowError {
    let (mut trail, _) = told.trail(6, height - 1);
    let mut block = told.block_for(height, 6);
    spoil(&mut block);
    let (before, ledger) = ((trail.height(), trail.tree_size()), told.ledger(height - 1));
    let error = trail.follow(block, &ledger, std::iter::empty()).unwrap_err();
    assert_eq!((trail.height(), trail.tree_size()), before, "nothing is followed then");
    trail.follow(told.block_for(height, 6), &ledger, std::iter::empty()).unwrap();
    error
}

#[test]
fn a_block_with_anything_changed_is_not_followed() {
    let told = Told::new();
    // The one with the deposits, readings and a settled interval.
    let height = told
        .street
        .blocks
        .iter()
        .find(|of| of.block.entries.iter().any(|entry| matches!(entry.entry().body, Body::Deposit { .. })))
        .unwrap()
        .block
        .header
        .height;
    let is = |spoil: fn(&mut FollowedBlock)| refused(&told, height, spoil);
    assert!(matches!(is(|block| drop(block.leaves.pop())), FollowError::OtherTree { .. }));
    assert!(matches!(is(|block| block.leaves.swap(0, 1)), FollowError::OtherTree { .. }));
    assert!(matches!(is(|block| block.leaves[0][5] ^= 1), FollowError::OtherTree { .. }));
    assert!(matches!(is(|block| block.bodies[0].0 -= 1), FollowError::OtherBody { .. }));
    assert!(matches!(is(|block| block.bodies[0].0 = 9_999), FollowError::OtherBody { .. }));
    assert!(matches!(
        is(|block| block.bodies[0].1[3] ^= 1),
        FollowError::Entry { .. } | FollowError::Unreadable { .. }
    ));
    assert!(matches!(is(|block| block.bodies.extend_from_within(..1)), FollowError::OtherTree { .. }));
    assert!(matches!(is(|block| block.certificate.signatures.truncate(2)), FollowError::Light(_)));
    assert!(matches!(
        is(|block| block.certificate.round = 7),
        FollowError::Light(LightError::Certificate { .. })
    ));
    assert!(matches!(is(|block| block.header.state_root = Hash32::ZERO), FollowError::Light(_)));
    assert!(matches!(is(|block| block.header.height += 1), FollowError::DoesNotFollow { .. }));
    assert!(matches!(is(|block| block.header.parent.0 = Hash32::ZERO), FollowError::DoesNotFollow { .. }));
    assert!(matches!(is(|block| block.postings[0].1.amount = nano(1)), FollowError::Money { .. }));
    assert!(matches!(is(|block| block.postings.clear()), FollowError::Money { .. }));
    let deposit = |posting: &PostingRecord| posting.kind == PostingKind::Deposit;
    assert!(matches!(
        refused(&told, height, |block| block.postings.retain(|(_, posting)| !deposit(posting))),
        FollowError::Money { .. }
    ));
    let of_another = |block: &mut FollowedBlock| block.postings[0].1.account = Account::Home(home(1));
    assert!(matches!(refused(&told, height, of_another), FollowError::Foreign { .. }));
    let foreign = told.block_for(height, 1);
    let with_foreign = |block: &mut FollowedBlock| block.bodies.push(foreign.bodies[0].clone());
    assert!(matches!(refused(&told, height, with_foreign), FollowError::Foreign { .. }));
    let others = |block: &mut FollowedBlock| block.delegates = Some(told.street.ledger.delegates().clone());
    assert!(matches!(refused(&told, height, others), FollowError::Light(LightError::OtherNextSet { .. })));
}

#[test]
fn an_own_entry_that_is_left_out_is_missed() {
    let told = Told::new();
    let own_of = |of: &Executed| -> Vec<VerifiedEntry> {
        let own = |entry: &&VerifiedEntry| entry.entry().body.home() == Some(&home(6));
        of.block.entries.iter().filter(own).cloned().collect()
    };
    let at = told.street.blocks.iter().position(|of| own_of(of).len() >= 3).unwrap();
    let (height, own) = (at as u64 + 1, own_of(&told.street.blocks[at]));
    assert!(own.len() >= 3);
    let (trail, _) = told.trail(6, height - 1);
    let mut block = told.block_for(height, 6);
    let whole = trail.clone().follow(block.clone(), &told.ledger(height - 1), own.iter());
    assert!(whole.is_ok());
    block.bodies.remove(1);
    let mut trail = trail;
    let error = trail.follow(block, &told.ledger(height - 1), own.iter()).unwrap_err();
    assert!(matches!(error, FollowError::Omitted { entry, .. } if entry == own[1].id()), "{error}");
}

#[test]
fn changes_of_the_delegates_are_followed_and_a_missing_or_false_one_is_not() {
    let mut town = Town::new(8);
    let all = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut entries = town.all_approve(8, &[5, 6, 7]);
    entries.extend(all.map(|number| town.stand(number, 0)));
    town.block(&entries);
    let mut certificates = vec![town.certificate().unwrap()];
    for _ in 0..14 {
        let term = town.ledger().coming_term();
        let standing = |number: &u8| town.ledger().candidacy(&home(*number), term).is_none();
        let missing: Vec<u8> = all.into_iter().filter(standing).collect();
        let entries: Vec<_> = missing.into_iter().map(|number| town.stand(number, 0)).collect();
        town.block(&entries);
        certificates.push(town.certificate().unwrap());
    }
    let street = &town.street;
    let mut trail = beginning(street, 8);
    let (mut changes, mut before) = (0, Ledger::genesis(&street.genesis).unwrap());
    for (executed, certificate) in street.blocks.iter().zip(&certificates) {
        let block = FollowedBlock::of(parts(executed, certificate), &home(8));
        if block.delegates.is_some() {
            changes += 1;
            let without = FollowedBlock { delegates: None, ..block.clone() };
            let error = trail.clone().follow(without, &before, std::iter::empty()).unwrap_err();
            assert!(matches!(error, FollowError::Light(LightError::OtherNextSet { .. })), "{error}");
            let old = FollowedBlock { delegates: Some(before.last_delegates().clone()), ..block.clone() };
            assert!(trail.clone().follow(old, &before, std::iter::empty()).is_err());
        }
        let followed = trail.follow(block, &before, std::iter::empty()).unwrap();
        assert_eq!(
            followed.change.is_some(),
            executed.block.header.delegates != executed.block.header.next_delegates
        );
        before = executed.ledger.clone();
    }
    assert!(changes >= 1);
    assert_eq!(trail.head(), street.ledger.head());
}

fn view(told: &Told, number: u8) -> HomeView {
    let bytes = HomeView::of(&told.street.ledger, &home(number)).to_bytes(&[]);
    HomeView::from_bytes(&told.street.genesis, &home(number), &bytes, None).unwrap()
}

#[test]
fn a_view_answers_what_the_whole_ledger_answers_about_its_home() {
    let told = Told::new();
    let whole = &told.street.ledger;
    for number in 1..=HOMES {
        let view = view(&told, number);
        view.follows_from(&told.street.blocks.last().unwrap().block.header).unwrap();
        let (part, home) = (view.ledger(), home(number));
        assert_eq!(part.balance(&account(number)), whole.balance(&account(number)));
        assert_eq!(part.reserved(&home), whole.reserved(&home));
        assert_eq!(part.free(&home), whole.free(&home));
        assert_eq!(part.open_orders(&home), whole.open_orders(&home));
        assert_eq!(part.positions(&home), whole.positions(&home));
        assert_eq!(part.member(&home), whole.member(&home));
        assert_eq!(part.ballot(&home), whole.ballot(&home));
        assert_eq!(part.assurance(&home), whole.assurance(&home));
        assert_eq!(
            (part.has_stake(&home), part.shares(&home)),
            (whole.has_stake(&home), whole.shares(&home))
        );
        for stream in [Stream::Readings, Stream::Orders, Stream::Rest, Stream::Delegates] {
            for key in
                [key((Use::Member, number)), key((Use::Reading, number)), key(OPERATOR)].map(|it| it.public())
            {
                assert_eq!(part.last_number(&key, stream), whole.last_number(&key, stream));
            }
        }
        for offset in 0..24 {
            let interval = told.street.interval(offset);
            assert_eq!(part.tariff_at(interval), whole.tariff_at(interval));
            assert_eq!(part.price_band(&home, interval), whole.price_band(&home, interval));
            assert_eq!(part.connection_limit(&home, interval), whole.connection_limit(&home, interval));
        }
        assert_eq!((part.height(), part.head()), (whole.height(), whole.head()));
        assert_eq!((part.state_root(), part.tree_root()), (whole.state_root(), whole.tree_root()));
        assert_eq!(part.delegates(), whole.delegates());
        assert_eq!((part.standbys(), part.epoch()), (whole.standbys(), whole.epoch()));
        assert_eq!(part.candidates(), whole.candidates());
        assert_eq!((part.next_gate(), part.next_to_settle()), (whole.next_gate(), whole.next_to_settle()));
        assert_eq!(part.holders(), whole.holders());
        assert_eq!(part.next_due(), whole.next_due());
    }
}

#[test]
fn a_view_judges_entries_of_its_home_as_the_whole_ledger_does() {
    let mut told = Told::new();
    let later = |quantity| crate::forward::Wanted { offset: 12, ..wanted(6, Side::Buy, 150_000, quantity) };
    let mut entries: Vec<_> =
        [100, 99, 5_000_000].map(|quantity| order(&mut told.street, &later(quantity))).into();
    entries.push(order(&mut told.street, &wanted(6, Side::Buy, 150_000, 100)));
    entries.push(told.street.read(6, 5, 10, 10));
    entries.push(told.street.read(6, 7, 10, 10));
    let ballot = ledger::Ballot::Approve([home(1)].into());
    entries.push(told.street.verified(Body::Vote { home: home(6), ballot }, (Use::Member, 6), &[]));
    let (view, whole) = (view(&told, 6), &told.street.ledger);
    let (mut taken, mut refused) = (0, 0);
    for entry in entries {
        let found = view.ledger().check(&entry, at(92));
        assert_eq!(found, whole.check(&entry, at(92)));
        if found.is_ok() { taken += 1 } else { refused += 1 }
    }
    assert!(taken >= 3 && refused >= 3, "{taken} {refused}");
}

#[test]
fn a_view_holds_nothing_of_others_but_who_they_are() {
    let told = Told::new();
    let view = view(&told, 6);
    let (part, whole) = (view.ledger(), &told.street.ledger);
    for number in 1..=5 {
        let (home, account) = (home(number), account(number));
        assert!(whole.balance(&account) != Balance::ZERO && part.balance(&account) == Balance::ZERO);
        assert_eq!(part.reserved(&home), Balance::ZERO);
        assert!(part.positions(&home).is_empty() && part.open_orders(&home).is_empty());
        let (known, all) = (part.member(&home).unwrap(), whole.member(&home).unwrap());
        assert_eq!(known.admission.keys, all.admission.keys);
        assert!(
            known.meter.is_none() && known.last_record.is_none() && known.admission.owner == home.as_str()
        );
        assert!(all.meter.is_some() && part.ballot(&home).is_none() && !part.has_stake(&home));
        assert_eq!(part.last_number(&key((Use::Reading, number)).public(), Stream::Readings), 0);
    }
    for common in [Account::Supplier, Account::Network, Account::Congestion, Account::Deposits] {
        assert_eq!(part.balance(&common), Balance::ZERO);
    }
    let text = String::from_utf8_lossy(&view.to_bytes(&[])).into_owned();
    assert!(
        (1..=5).all(
            |number| !text.contains(&format!("owner {number}")) && !text.contains(&format!("M-{number}"))
        )
    );
    assert!(text.contains("owner 6") && text.contains("M-6") && !text.contains("ROOT"));
}

#[test]
fn a_view_that_is_changed_where_it_is_public_is_not_taken() {
    let told = Told::new();
    let header = told.street.blocks.last().unwrap().block.header.clone();
    let whole = HomeView::of(&told.street.ledger, &home(6));
    let bytes = whole.to_bytes(&[]);
    let (mut refused, mut own) = (0, 0);
    for at in (0..bytes.len()).step_by(3) {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 1;
        match HomeView::from_bytes(&told.street.genesis, &home(6), &spoilt, None) {
            Err(_) => refused += 1,
            Ok(view) if view.follows_from(&header).is_err() => refused += 1,
            // The home's own rows are believed.
            Ok(view) => {
                own += 1;
                let same = view.ledger().delegates() == told.street.ledger.delegates()
                    && view.ledger().tariff_at(told.street.interval(21)) == tariff(200_000, 50_000);
                assert!(same && view.ledger().member(&home(1)).unwrap().admission.keys == admission(1).keys);
            }
        }
    }
    assert!(refused > own && own > 0, "{refused} refused, {own} believed");
}

#[test]
fn a_view_of_another_home_or_with_rows_of_one_is_not_taken() {
    let told = Told::new();
    let genesis = &told.street.genesis;
    let of_first = HomeView::of(&told.street.ledger, &home(1)).to_bytes(&[]);
    let error = HomeView::from_bytes(genesis, &home(6), &of_first, None).unwrap_err();
    assert_eq!(error, ViewError::Foreign);
    let other = Fixture::with(HOMES, |genesis| genesis.name = "another street".to_owned());
    let bytes = HomeView::of(&told.street.ledger, &home(6)).to_bytes(&[]);
    assert!(matches!(
        HomeView::from_bytes(&other.genesis, &home(6), &bytes, None),
        Err(ViewError::Snapshot(_))
    ));
}

#[test]
fn what_is_known_of_what_is_public_is_not_said_again() {
    let mut told = Told::new();
    let genesis = told.street.genesis.clone();
    let before = view(&told, 6);
    let entry = told.street.read(6, 5, 40, 30);
    told.block(106, &[entry]);
    let header = told.street.blocks.last().unwrap().block.header.clone();
    let now = HomeView::of(&told.street.ledger, &home(6));
    let (whole, short) = (now.to_bytes(&[]), now.to_bytes(before.digests()));
    assert!(short.len() + 800 < whole.len(), "{} of {}", short.len(), whole.len());
    let taken = HomeView::from_bytes(&genesis, &home(6), &short, Some(&before)).unwrap();
    taken.follows_from(&header).unwrap();
    assert_eq!(taken.to_bytes(&[]), whole);
    assert_eq!(HomeView::from_bytes(&genesis, &home(6), &short, None).unwrap_err(), ViewError::Unknown);
}

#[test]
fn a_view_makes_and_carries_out_no_blocks() {
    let told = Told::new();
    let view = view(&told, 6);
    let time = at(120);
    assert!(matches!(view.ledger().propose(time, &[]), Err(BlockError::DoesNotFollow { .. })));
    let next = told.street.ledger.propose(time, &[]).unwrap().executed.block;
    assert!(matches!(view.ledger().execute(&next), Err(BlockError::DoesNotFollow { .. })));
    assert!(view.ledger().is_view() && view.ledger().bank_shortfall().is_none());
}

#[test]
fn delegates_first_standbys_and_named_homes_hold_bodies_and_who_had_a_seat_goes_on_for_an_epoch() {
    let everybody = Fixture::new(HOMES);
    assert!((1..=HOMES).all(|number| everybody.ledger.holds_bodies(&home(number))));
    let told = Told::new();
    let holders = |ledger: &Ledger| ledger.holders();
    assert_eq!(holders(&told.street.ledger), [1, 2, 3, 4, 5].map(home));
    let mut town = Town::with(8, |genesis| genesis.replicas = Replicas::Delegates { holders: vec![] });
    let mut entries = town.all_approve(8, &[5, 6, 7]);
    entries.extend([5, 6, 7, 8, 1, 2].map(|number| town.stand(number, 0)));
    town.block(&entries);
    let epoch = town.ledger().epoch().number;
    let founder = home(3);
    while town.ledger().epoch().number < epoch + 5 {
        let ledger = town.ledger();
        let lately = ledger.epoch().number < epoch + 3;
        // The founders stay until others are elected, with the second election.
        assert!(!lately || ledger.holds_bodies(&founder));
        let until = ledger.holds_until(&founder);
        assert_eq!(until == u64::MAX, ledger.holds_bodies(&founder));
        assert!(until == u64::MAX || until == 0 || until == ledger.epoch().after);
        assert!(ledger.delegates().as_slice().iter().all(|seat| ledger.holds_bodies(&seat.home)));
        assert!(ledger.next_delegates().as_slice().iter().all(|seat| ledger.holds_bodies(&seat.home)));
        assert!(ledger.standbys().first().is_none_or(|first| ledger.holds_bodies(first)));
        town.block(&[]);
    }
}
