//! Whatever arrives from outside and is decoded.

use std::fmt::Debug;

use consensus::message::{Message, Statement};
use ledger::codec::{Decode, Encode};
use ledger::{
    Admission, Assurance, Ballot, Body, Certificate, DelegateSet, Entry, Evidence, FollowedBlock,
    GenesisMember, Header, HomeView, Ledger, Outcome, OwnContract, Proof, Recovery, RootMeter, SeatOffer,
    SetChange, SignedCheckpoint, SignedEntry, SignedProposal, SignedVote, StandingLimits, TermKeys,
    UnverifiedBlock,
};

use crate::{keys, street};

/// Decodes bytes; what is accepted must be the one canonical encoding, and read back as the same value.
fn canonical<T: Decode + Encode + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value = T::from_bytes(bytes).ok()?;
    assert_eq!(value.to_bytes(), bytes, "two encodings of one value: {value:?}");
    assert_eq!(T::from_bytes(&value.to_bytes()).as_ref(), Ok(&value));
    Some(value)
}

/// Entries and what they are made of.
pub fn entries(bytes: &[u8]) {
    let chain = street::chain();
    if let Some(signed) = canonical::<SignedEntry>(bytes) {
        let whole = signed.clone().verify(&chain);
        assert!(whole.is_err() || whole.is_ok_and(|verified| verified.bytes() == bytes));
        let again = signed.countersign(&chain, &keys::signing(keys::OPERATOR));
        // Too many signatures, or one twice, are refused; never a panic, and never something that cannot be read again.
        if let Ok(verified) = again.verify(&chain) {
            assert!(canonical::<SignedEntry>(verified.bytes()).is_some());
        }
    }
    if let Some(entry) = canonical::<Entry>(bytes) {
        let body = &entry.body;
        let _ = (body.kind(), body.version(), body.stream(), body.is_sealed(), body.home());
        assert!(entry.signing_bytes(&chain).len() > bytes.len());
    }
    canonical::<Body>(bytes);
    canonical::<Admission>(bytes);
    canonical::<GenesisMember>(bytes);
    canonical::<RootMeter>(bytes);
    canonical::<StandingLimits>(bytes);
    canonical::<OwnContract>(bytes);
    canonical::<TermKeys>(bytes);
    canonical::<Ballot>(bytes);
    if let Some(evidence) = canonical::<Evidence>(bytes) {
        let _ = (evidence.culprit(), evidence.height(), evidence.verify(&chain));
    }
}

/// Blocks, headers, certificates, delegate sets, outcomes.
pub fn blocks(bytes: &[u8]) {
    canonical::<Header>(bytes);
    canonical::<Outcome>(bytes);
    canonical::<Assurance>(bytes);
    canonical::<Recovery>(bytes);
    canonical::<SeatOffer>(bytes);
    canonical::<SetChange>(bytes);
    canonical::<SignedCheckpoint>(bytes);
    canonical::<FollowedBlock>(bytes);
    if let Some(proof) = canonical::<Proof>(bytes) {
        let _ = proof.check(&street::genesis());
    }
    if let Some(set) = canonical::<DelegateSet>(bytes) {
        let faults = usize::try_from(set.faults()).unwrap();
        assert!(set.len() > 3 * faults && set.quorum() * 3 > set.len() * 2 && set.quorum() <= set.len());
    }
    if let Some(certificate) = canonical::<Certificate>(bytes) {
        let ledger = street::ledger();
        assert!(certificate.verify(ledger.chain(), ledger.delegates()).is_err(), "nobody signed this");
    }
    if let Ok(block) = UnverifiedBlock::from_bytes(bytes) {
        assert_eq!(encoding_of(&block), bytes, "two encodings of one block");
        if let Ok(block) = block.verify(&street::chain(), |_| None) {
            assert_eq!(block.to_bytes(), bytes);
            let ledger = street::ledger();
            if let Ok(executed) = ledger.execute(&block) {
                assert_eq!(executed.block, block);
                executed.ledger.check_invariants().unwrap();
            }
        }
    }
}

fn encoding_of(block: &UnverifiedBlock) -> Vec<u8> {
    let mut out = block.header.to_bytes();
    block.last_commit.encode(&mut out);
    block.recovery.encode(&mut out);
    out.extend(u32::try_from(block.entries.len()).unwrap().to_be_bytes());
    for entry in &block.entries {
        let entry = entry.to_bytes();
        out.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
        out.extend(entry);
    }
    out
}

/// What nodes say to one another, and what is inside of it.
pub fn messages(bytes: &[u8]) {
    canonical::<SignedVote>(bytes);
    canonical::<SignedProposal>(bytes);
    canonical::<Statement>(bytes);
    let Ok(message) = Message::from_bytes(bytes) else { return };
    assert_eq!(message.to_bytes(), bytes, "two encodings of one message");
    match message {
        Message::Proposal(_, body) | Message::Final(body, _) => blocks(&body),
        Message::SyncResponse(of) => of.iter().for_each(|(body, _)| blocks(body)),
        Message::Entries(of) => of.iter().for_each(|entry| entries(entry)),
        Message::RecoverResponse { statements, .. } => {
            let chain = street::chain();
            for statement in statements {
                let _ = (statement.author(), statement.height(), statement.round(), statement.holds(&chain));
            }
        }
        _ => {}
    }
}

/// Snapshots of a state, as handed over by another node: behind the chain's name, which a first check compares.
pub fn snapshot(bytes: &[u8]) {
    let genesis = street::genesis();
    let chain = street::chain();
    for snapshot in [bytes.to_vec(), [&chain.to_bytes(), bytes].concat()] {
        let _ = HomeView::from_bytes(&genesis, &street::home(1), &snapshot, None);
        let Ok(restored) = Ledger::restore(&genesis, &snapshot) else { continue };
        assert_eq!(restored.snapshot(), snapshot, "two encodings of one state");
        // Height, head and tree stand outside the state's root; whatever they say, the next block must not panic.
        let next = restored.propose(restored.head_time().plus_ms(1_000), &[]);
        if let Ok(next) = next {
            assert_eq!(restored.execute(&next.executed.block).unwrap().leaves, next.executed.leaves);
        }
    }
}
