use ledger::codec::{Decode, Encode};
use ledger::tree::{inclusion_proof, root_of, verify_inclusion};
use ledger::{
    Block, BlockError, BlockId, Body, Certificate, CertificateError, Delegate, DelegateSet, Hash32,
    LeafSource, Ledger, Salt, Signature, SignatureError, UnverifiedBlock, VoteKind, vote_signing_bytes,
};

use crate::fixture::*;

/// A street with two settled intervals.
fn street() -> Fixture {
    let mut street = Fixture::new(4);
    street.baselines(4);
    let body = Body::TariffSeries { from: street.interval(9), points: vec![tariff(200_000, 80_000)] };
    let series = street.verified(body, OPERATOR, &[]);
    street.after(2, &[series]);
    for offset in 0..2 {
        let entries =
            [street.read(1, offset, 0, 500), street.read(2, offset, 700, 0), street.read(3, offset, 300, 20)];
        street.after(u64::try_from(offset).unwrap() * 15 + 16, &entries);
    }
    street.after(45, &[]);
    street
}

#[test]
fn the_tree_holds_every_entry_and_outcome_and_each_is_provable() {
    let street = street();
    let leaves: Vec<Hash32> =
        street.blocks.iter().flat_map(|of| of.leaves.iter().map(|leaf| leaf.hash)).collect();
    let head = &street.blocks.last().unwrap().block.header;
    assert_eq!(head.tree_size, leaves.len() as u64);
    assert_eq!(head.tree_root, root_of(&leaves));
    assert_eq!((street.ledger.tree_size(), street.ledger.tree_root()), (head.tree_size, head.tree_root));
    for (index, leaf) in leaves.iter().enumerate() {
        let proof = inclusion_proof(&leaves, index).unwrap();
        assert!(verify_inclusion(*leaf, index as u64, head.tree_size, &proof, &head.tree_root));
    }
    for executed in &street.blocks {
        let entries = (0..executed.block.entries.len()).map(LeafSource::Entry);
        let sources: Vec<_> = entries.chain((0..executed.outcomes.len()).map(LeafSource::Outcome)).collect();
        assert_eq!(executed.leaves.iter().map(|leaf| leaf.source).collect::<Vec<_>>(), sources);
    }
}

#[test]
fn a_sealed_leaf_is_a_salted_commitment_and_a_public_one_its_body() {
    let street = street();
    let (mut sealed, mut public) = (0, 0);
    for executed in &street.blocks {
        for leaf in &executed.leaves {
            let (body, salt, is_sealed) = match leaf.source {
                LeafSource::Entry(at) => {
                    let entry = &executed.block.entries[at];
                    (entry.bytes().to_vec(), entry.entry().salt, entry.entry().body.is_sealed())
                }
                LeafSource::Outcome(at) => {
                    let outcome = &executed.outcomes[at];
                    (outcome.to_bytes(), outcome.salt(), outcome.is_sealed())
                }
            };
            let expected = if is_sealed {
                sealed += 1;
                [&[2][..], &Hash32::of(&[b"commonwatt/leaf/v1", &salt.0, &body]).0].concat()
            } else {
                public += 1;
                [&[1][..], &body].concat()
            };
            assert_eq!(leaf.bytes, expected);
            assert_eq!(leaf.hash, Hash32::of(&[&[0], &leaf.bytes]));
        }
    }
    assert_eq!(
        (sealed, public),
        (4 + 6 + 2 * 5, 1),
        "all but the tariff; four homes are too few for public totals"
    );
}

#[test]
fn totals_are_public_only_where_nobody_stands_out() {
    let public = |homes: u8, exports: &[u64], imports: &[u64]| {
        let mut street = Fixture::new(homes);
        street.baselines(homes);
        let entries: Vec<_> = (1..=homes)
            .map(|number| {
                let at = usize::from(number - 1);
                street.read(number, 0, imports[at % imports.len()], exports[at % exports.len()])
            })
            .collect();
        street.after(30, &entries);
        street.community(0).unwrap().1.public
    };
    assert!(public(16, &[100, 0], &[0, 200]));
    assert!(!public(14, &[100, 0], &[0, 200]), "fewer than 15 homes");
    let mut one_large = vec![200; 16];
    one_large[3] = 2_000;
    assert!(!public(16, &[0], &one_large), "one home has more than 15 %");
    let two_sellers: Vec<u64> = (0..16).map(|home| if home < 2 { 100 } else { 0 }).collect();
    assert!(!public(16, &two_sellers, &[200]), "two sellers, whose price it would show");
}

#[test]
fn two_equal_corrections_of_one_interval_make_two_different_leaves() {
    let mut street = street();
    let interval = street.interval(0);
    let body = Body::Correction { home: home(1), interval, import_delta: 5, export_delta: 0 };
    let entries = [0, 1].map(|_| street.verified(body.clone(), METERING, &[OPERATOR]));
    let executed = street.block(at(47), &entries);
    let salts: Vec<Salt> = executed.outcomes.iter().map(ledger::Outcome::salt).collect();
    assert!(salts.len() == 2 && salts[0] != salts[1]);
    assert_ne!(executed.leaves[2].hash, executed.leaves[3].hash);
}

#[test]
fn salts_are_never_printed() {
    let street = street();
    let printed = format!("{:?}", street.blocks);
    assert!(printed.contains("Salt(hidden)"));
    let salt = street.outcomes().next().unwrap().1.salt();
    assert!(!printed.contains(&format!("{:?}", salt.0)));
}

#[test]
fn outcomes_of_one_reading_have_different_salts() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    street.after(60, &[]);
    let lump = street.read(1, 3, 1_000, 0);
    street.after(61, &[lump]);
    street.after(75, &[]);
    let mut salts: Vec<Salt> = street.outcomes().map(|(_, outcome)| outcome.salt()).collect();
    let count = salts.len();
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), count);
}

#[test]
fn the_block_id_is_the_hash_of_the_header_alone() {
    let street = street();
    let block = &street.blocks.last().unwrap().block;
    let without = Block { header: block.header.clone(), last_commit: None, recovery: None, entries: vec![] };
    assert_eq!(without.id(), block.id());
    assert_eq!(block.id().0, Hash32::of(&[b"commonwatt/block/v2", &block.header.to_bytes()]));
    assert_eq!(street.ledger.head(), block.id());
}

#[test]
fn every_field_of_the_header_is_checked_and_the_wrong_one_named() {
    let street = street();
    let last = street.blocks.last().unwrap();
    let before = &street.blocks[street.blocks.len() - 2].ledger;
    let error = |change: &dyn Fn(&mut ledger::Header)| {
        let mut block = last.block.clone();
        change(&mut block.header);
        before.execute(&block).unwrap_err()
    };
    let differs = |change: &dyn Fn(&mut ledger::Header)| match error(change) {
        BlockError::Differs { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(differs(&|header| header.tree_size += 1), "the tree size");
    assert_eq!(differs(&|header| header.tree_root = Hash32::ZERO), "the tree root");
    assert_eq!(differs(&|header| header.state_root = Hash32::ZERO), "the state root");
    assert_eq!(differs(&|header| header.delegates = Hash32::ZERO), "the delegate set");
    assert_eq!(differs(&|header| header.next_delegates = Hash32::ZERO), "the next delegate set");
    assert_eq!(differs(&|header| header.time = header.time.plus_ms(1)), "the state root");
    let follows = |change: &dyn Fn(&mut ledger::Header)| match error(change) {
        BlockError::DoesNotFollow { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(follows(&|header| header.chain.recovery = 1), "it is of another chain");
    assert_eq!(follows(&|header| header.height += 1), "its height is not the next");
    assert_eq!(follows(&|header| header.parent = BlockId(Hash32::ZERO)), "its parent is another block");
    assert_eq!(follows(&|header| header.time = before.head_time()), "its time is not after its parent's");
    assert!(follows(&|header| header.rule_version += 1).contains("update it"));
}

#[test]
fn a_proposer_can_neither_leave_out_nor_reorder_what_it_committed_to() {
    let mut street = Fixture::new(4);
    street.baselines(4);
    let entries = [street.read(1, 0, 0, 500), street.read(2, 0, 700, 0)];
    let proposed = street.ledger.propose(at(16), &entries).unwrap().executed.block;
    let mut fewer = proposed.clone();
    fewer.entries.pop();
    assert!(matches!(street.ledger.execute(&fewer), Err(BlockError::Differs { .. })));
    let mut swapped = proposed;
    swapped.entries.swap(0, 1);
    assert!(matches!(
        street.ledger.execute(&swapped),
        Err(BlockError::Differs { what: "the tree root", .. })
    ));
}

#[test]
fn a_block_takes_what_fits_and_leaves_the_rest() {
    let mut street = Fixture::new(1);
    let deposit = |n: u32| Body::Deposit {
        home: Some(home(1)),
        amount: energy::Balance::new(1),
        reference: format!("{n:064}"),
    };
    let entries: Vec<_> = (0..4_400).map(|n| street.verified(deposit(n), TREASURER, &[])).collect();
    let proposed = street.ledger.propose(at(1), &entries).unwrap();
    let block = &proposed.executed.block;
    let bytes = block.to_bytes().len();
    assert!(proposed.refused.is_empty());
    assert!(bytes <= ledger::BLOCK_BYTES_MAX && bytes + 600 > ledger::BLOCK_BYTES_MAX, "{bytes}");
    assert!(block.entries.len() < entries.len());
    assert!(UnverifiedBlock::from_bytes(&block.to_bytes()).is_ok());
    let mut over = block.clone();
    over.entries = entries;
    assert_eq!(street.ledger.execute(&over).unwrap_err(), BlockError::TooLarge);
}

#[test]
fn a_received_block_is_verified_once_and_the_forged_entry_named() {
    let street = street();
    let chain = *street.ledger.chain();
    for executed in &street.blocks {
        let received = UnverifiedBlock::from_bytes(&executed.block.to_bytes()).unwrap();
        assert_eq!(received.clone().verify(&chain, |_| None).unwrap(), executed.block);
        let known = |signed: &ledger::SignedEntry| {
            executed.block.entries.iter().find(|entry| entry.bytes() == signed.to_bytes()).cloned()
        };
        assert_eq!(received.verify(&chain, known).unwrap(), executed.block);
    }
    let with_entries = street.blocks.iter().rfind(|of| !of.block.entries.is_empty()).unwrap();
    let mut bytes = with_entries.block.to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    let position = with_entries.block.entries.len() - 1;
    let received = UnverifiedBlock::from_bytes(&bytes).unwrap();
    let (at, error) = received.verify(&chain, |_| None).unwrap_err();
    assert!(at == position && matches!(error, SignatureError::Forged { .. }));
}

fn delegates(count: u8) -> DelegateSet {
    let seats = (1..=count).map(|n| Delegate { key: key((Use::Term, n)).public(), home: home(n) });
    DelegateSet::new(0, seats.collect()).unwrap()
}

/// Precommits of `signers` for a block.
fn certificate(street: &Fixture, set: &DelegateSet, signers: &[u8]) -> Certificate {
    let block = street.ledger.head();
    let (height, round) = (street.ledger.height(), 3);
    let message = vote_signing_bytes(street.ledger.chain(), VoteKind::Precommit, height, round, Some(&block));
    let seat = |n: u8| u8::try_from(set.seat_of(&key((Use::Term, n)).public()).unwrap()).unwrap();
    let mut signatures: Vec<_> = signers
        .iter()
        .map(|n| (seat(*n), Signature::sign(&key((Use::Term, *n)).signing(), &message)))
        .collect();
    signatures.sort_unstable();
    Certificate { height, round, block, signatures }
}

#[test]
fn more_than_two_thirds_of_the_seats_make_a_certificate() {
    let street = street();
    let chain = *street.ledger.chain();
    assert_eq!(
        [1, 2, 3, 4, 5, 6, 7, 13, 21, 31].map(|n| delegates(n).quorum()),
        [1, 2, 3, 3, 4, 5, 5, 9, 15, 21]
    );
    let set = delegates(4);
    assert_eq!(street.ledger.delegates(), &set);
    let good = certificate(&street, &set, &[1, 3, 4]);
    assert_eq!(good.verify(&chain, &set), Ok(()));
    assert_eq!(Certificate::from_bytes(&good.to_bytes()), Ok(good.clone()));
    let few = certificate(&street, &set, &[1, 3]);
    assert_eq!(few.verify(&chain, &set), Err(CertificateError::TooFew { present: 2, needed: 3 }));
    let mut twice = good.clone();
    twice.signatures[1] = twice.signatures[0];
    assert_eq!(twice.verify(&chain, &set), Err(CertificateError::Disordered));
    let mut swapped = good.clone();
    (swapped.signatures[0].0, swapped.signatures[1].0) = (0, 1);
    (swapped.signatures[0].1, swapped.signatures[1].1) = (good.signatures[1].1, good.signatures[0].1);
    assert_eq!(swapped.verify(&chain, &set), Err(CertificateError::Forged { seat: 0 }));
    let mut nowhere = good;
    nowhere.signatures[2].0 = 4;
    assert_eq!(nowhere.verify(&chain, &set), Err(CertificateError::NoSuchSeat { seat: 4 }));
}

#[test]
fn a_certificate_is_for_one_block_height_round_chain_and_set() {
    let street = street();
    let chain = *street.ledger.chain();
    let set = delegates(4);
    let good = certificate(&street, &set, &[1, 2, 3, 4]);
    let refused = |change: &dyn Fn(&mut Certificate)| {
        let mut other = good.clone();
        change(&mut other);
        matches!(other.verify(&chain, &set), Err(CertificateError::Forged { .. }))
    };
    assert!(refused(&|of| of.block = BlockId(Hash32::ZERO)));
    assert!(refused(&|of| of.round = 2));
    assert!(refused(&|of| of.height += 1));
    let recovered = ledger::Chain { recovery: 1, ..chain };
    assert!(good.verify(&recovered, &set).is_err());
    assert!(good.verify(&chain, &delegates(7)).is_err());
    // A prevote, or a vote for nil, is no precommit.
    let block = good.block;
    let bytes = |kind, block| vote_signing_bytes(&chain, kind, good.height, good.round, block);
    let precommit = bytes(VoteKind::Precommit, Some(&block));
    assert!(
        precommit != bytes(VoteKind::Prevote, Some(&block)) && precommit != bytes(VoteKind::Precommit, None)
    );
}

#[test]
fn a_delegate_set_has_each_key_and_home_once() {
    let seat =
        |key_of: u8, home_of: u8| Delegate { key: key((Use::Term, key_of)).public(), home: home(home_of) };
    assert_eq!(DelegateSet::new(0, vec![]), None);
    assert_eq!(DelegateSet::new(0, vec![seat(1, 1), seat(1, 2)]), None);
    assert_eq!(DelegateSet::new(0, vec![seat(1, 1), seat(2, 1)]), None);
    assert_eq!(DelegateSet::new(0, (1..=32).map(|n| seat(n, n)).collect()), None);
    let set = delegates(31);
    let mut reversed = set.as_slice().to_vec();
    reversed.reverse();
    assert_eq!(DelegateSet::new(0, reversed), Some(set.clone()));
    assert_ne!(DelegateSet::new(1, set.as_slice().to_vec()).unwrap().hash(), set.hash());
    assert_eq!(set.of_home(&home(7)).unwrap().key, key((Use::Term, 7)).public());
}

#[test]
fn two_genesis_files_that_differ_found_two_chains() {
    let base = genesis(4);
    let id = |genesis: &ledger::Genesis| genesis.chain().id;
    let mut other = base.clone();
    other.members[0].deposit = energy::Balance::new(1);
    assert_ne!(id(&base), id(&other));
    assert_eq!(Ledger::genesis(&base).unwrap().head().0, id(&base));
}
