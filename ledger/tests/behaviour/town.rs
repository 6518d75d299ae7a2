//! A community whose delegates sign what they decide: blocks with certificates, candidates with keys for each term.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use energy::HomeId;
use ledger::{
    Ballot, Block, BlockId, Body, Certificate, DemoClock, ElectionOutcome, Evidence, Executed, Genesis,
    Hash32, Ledger, Outcome, PublicKey, SeatOutcome, Signature, SignedVote, Statement, TermKeys,
    VerifiedEntry, VoteKind, vote_signing_bytes,
};

use crate::fixture::*;

/// Blocks are a quarter of an hour apart, and four of them make an epoch.
pub const EPOCH: usize = 4;
const BLOCK_MS: u64 = 900_000;

pub struct Town {
    pub street: Fixture,
    /// Every term key that was ever made.
    pub keys: BTreeMap<PublicKey, SigningKey>,
    /// Delegates that sign nothing.
    pub silent: BTreeSet<HomeId>,
    /// The set that decides each height, from 1 on, as it was known before.
    pub sets: Vec<Hash32>,
}

/// A key that depends on whose it is, for which term, for what and how often it was changed.
pub fn term_key(number: u8, term: u32, purpose: u8, change: u8) -> SigningKey {
    let [high, low] = u16::try_from(term).unwrap().to_be_bytes();
    let mut seed = [77; 32];
    seed[..5].copy_from_slice(&[number, high, low, purpose, change]);
    SigningKey::from_bytes(&seed)
}

impl Town {
    pub fn new(homes: u8) -> Self {
        Self::with(homes, |_| {})
    }

    pub fn with(homes: u8, change: impl FnOnce(&mut Genesis)) -> Self {
        let clock = DemoClock {
            origin: start(),
            wall_origin: start(),
            speed: 1,
            assurance_every: 96,
            epoch_every: 4,
        };
        let street = Fixture::with(homes, |genesis| {
            genesis.clock = Some(clock);
            change(genesis);
        });
        let founders = (1..=31).map(|number| key((Use::Term, number)).signing());
        let keys = founders.map(|key| (PublicKey::of(&key), key)).collect();
        let sets = vec![street.ledger.delegates().hash()];
        Self { street, keys, silent: BTreeSet::new(), sets }
    }

    pub fn ledger(&self) -> &Ledger {
        &self.street.ledger
    }

    /// Why the last block is final, signed by all seats that are not silent, unless those decide nothing; `None` at the chain's
    /// start.
    pub fn certificate(&self) -> Option<Certificate> {
        let ledger = self.ledger();
        let (height, block) = (ledger.height(), ledger.head());
        let message = vote_signing_bytes(ledger.chain(), VoteKind::Precommit, height, 0, Some(&block));
        let set = ledger.last_delegates();
        let is_heard = |home: &HomeId| !self.silent.contains(home);
        let decides = set.as_slice().iter().filter(|seat| is_heard(&seat.home)).count() >= set.quorum();
        let seats = set.as_slice().iter().enumerate();
        let signing = seats.filter(|(_, seat)| !decides || is_heard(&seat.home));
        let signatures = signing
            .map(|(position, seat)| {
                (u8::try_from(position).unwrap(), Signature::sign(&self.keys[&seat.key], &message))
            })
            .collect();
        (height > 0).then_some(Certificate { height, round: 0, block, signatures })
    }

    /// The next block, a quarter of an hour later, carried out as every other delegate does.
    pub fn block(&mut self, entries: &[VerifiedEntry]) -> &Executed {
        self.block_after(BLOCK_MS, entries)
    }

    pub fn block_after(&mut self, ms: u64, entries: &[VerifiedEntry]) -> &Executed {
        let ledger = self.ledger().clone();
        let time = ledger.head_time().plus_ms(ms);
        let proposed = ledger.propose_after(self.certificate().as_ref(), time, entries).unwrap();
        assert_eq!(proposed.refused, vec![], "all entries are valid");
        let executed = ledger.execute(&proposed.executed.block).unwrap();
        assert_same(&executed, &proposed.executed);
        self.check_sets(&executed.block, &executed.ledger);
        self.street.ledger = executed.ledger.clone();
        self.street.blocks.push(executed);
        self.street.blocks.last().unwrap()
    }

    /// Headers name the set that decides them and the next one, as it was known two heights before.
    fn check_sets(&mut self, block: &Block, after: &Ledger) {
        let height = usize::try_from(block.header.height).unwrap();
        if height == 1 {
            self.sets.push(self.sets[0]);
        }
        assert_eq!(block.header.delegates, self.sets[height - 1], "the set of height {height}");
        assert_eq!(block.header.next_delegates, self.sets[height], "the set after height {height}");
        assert_eq!(after.delegates().hash(), self.sets[height]);
        assert_eq!(after.last_delegates().hash(), self.sets[height - 1]);
        self.sets.push(after.next_delegates().hash());
    }

    pub fn vote(&mut self, number: u8, ballot: Ballot) -> VerifiedEntry {
        self.street.verified(Body::Vote { home: home(number), ballot }, (Use::Member, number), &[])
    }

    pub fn approve(&mut self, number: u8, homes: &[u8]) -> VerifiedEntry {
        self.vote(number, Ballot::Approve(homes.iter().map(|of| home(*of)).collect()))
    }

    /// A candidacy for the coming term with the keys of a change.
    pub fn stand(&mut self, number: u8, change: u8) -> VerifiedEntry {
        let term = self.ledger().coming_term();
        let signers = [1, 2].map(|purpose| term_key(number, term, purpose, change));
        self.stand_with(number, term, &signers)
    }

    pub fn stand_with(&mut self, number: u8, term: u32, signers: &[SigningKey; 2]) -> VerifiedEntry {
        let [consensus, cosigner] = signers.each_ref().map(PublicKey::of);
        let keys = TermKeys { consensus, cosigner };
        self.keys.insert(consensus, signers[0].clone());
        let chain = *self.ledger().chain();
        let body = Body::Candidacy { home: home(number), term, keys: Some(keys) };
        let signed = self.street.signed(body, (Use::Member, number), &[]);
        let signed = signers.iter().fold(signed, |signed, key| signed.countersign(&chain, key));
        signed.verify(&chain).unwrap()
    }

    pub fn opt_out(&mut self, number: u8) -> VerifiedEntry {
        let body = Body::Candidacy { home: home(number), term: self.ledger().coming_term(), keys: None };
        self.street.verified(body, (Use::Member, number), &[])
    }

    /// An epoch in which these stand; ends with its election.
    pub fn epoch(&mut self, standing: &[u8]) -> ElectionOutcome {
        let entries: Vec<_> = standing.iter().map(|number| self.stand(*number, 0)).collect();
        self.epoch_of(&entries)
    }

    pub fn epoch_of(&mut self, entries: &[VerifiedEntry]) -> ElectionOutcome {
        let before = self.ledger().epoch().number;
        self.block(entries);
        for _ in 0..2 * EPOCH {
            if let Some(held) = self.last_election() {
                assert_eq!(held.epoch, before);
                return held;
            }
            self.block(&[]);
        }
        panic!("no election");
    }

    fn last_election(&self) -> Option<ElectionOutcome> {
        self.street.blocks.last().unwrap().outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Election(held) => Some(held.clone()),
            _ => None,
        })
    }

    /// What became of seats in the last block.
    pub fn seat_outcomes(&self) -> Vec<SeatOutcome> {
        let outcomes = self.street.blocks.last().unwrap().outcomes.iter();
        outcomes
            .filter_map(|outcome| match outcome {
                Outcome::Seat(seat) => Some(seat.clone()),
                _ => None,
            })
            .collect()
    }

    /// Homes that decide from two heights on.
    pub fn seated(&self) -> BTreeSet<HomeId> {
        self.ledger().next_delegates().as_slice().iter().map(|seat| seat.home.clone()).collect()
    }

    /// A vote of a term key for a block, or for nil.
    pub fn statement(&self, key: &PublicKey, height: u64, block: Option<u8>) -> Statement {
        let block = block.map(|byte| BlockId(Hash32([byte; 32])));
        let unsigned = SignedVote {
            kind: VoteKind::Prevote,
            height,
            round: 1,
            block,
            voter: *key,
            signature: Signature([0; 64]),
        };
        let signature = Signature::sign(&self.keys[key], &unsigned.signing_bytes(self.ledger().chain()));
        Statement::Vote(SignedVote { signature, ..unsigned })
    }

    /// Proof that a term key voted for a block and for nil.
    pub fn evidence(&self, key: &PublicKey, height: u64) -> Evidence {
        Evidence { first: self.statement(key, height, Some(1)), second: self.statement(key, height, None) }
    }

    pub fn report(&mut self, by: u8, evidence: Evidence) -> VerifiedEntry {
        self.street.verified(Body::Misbehaviour(evidence), (Use::Member, by), &[])
    }

    pub fn key_of(&self, number: u8) -> PublicKey {
        self.ledger().next_delegates().of_home(&home(number)).unwrap().key
    }

    /// Every member approves these.
    pub fn all_approve(&mut self, homes: u8, approved: &[u8]) -> Vec<VerifiedEntry> {
        (1..=homes).map(|number| self.approve(number, approved)).collect()
    }

    /// Every block again from genesis, as a newcomer carries them out; and from a snapshot after each.
    pub fn replay(&self) {
        let mut ledger = Ledger::genesis(&self.street.genesis).unwrap();
        for executed in &self.street.blocks {
            let again = ledger.execute(&executed.block).unwrap();
            assert_same(&again, executed);
            let snapshot = again.ledger.snapshot();
            let restored = Ledger::restore(&self.street.genesis, &snapshot).unwrap();
            assert_eq!(restored.snapshot(), snapshot);
            ledger = restored;
        }
    }
}
