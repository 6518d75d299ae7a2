use std::sync::LazyLock;

use ledger::codec::{Decode, Encode, Reader};
use ledger::{
    Admission, Assurance, Body, Certificate, DelegateSet, Entry, GenesisMember, Header, Ledger, Outcome,
    OwnContract, RootMeter, SignedEntry, StandingLimits, UnverifiedBlock,
};
use proptest::prelude::*;

use crate::fixture::*;
use crate::golden;

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(golden::encodings);

/// Decodes bytes; what is accepted must be the one canonical encoding.
fn canonical<T: Decode + Encode>(bytes: &[u8]) -> bool {
    match T::from_bytes(bytes) {
        Ok(value) => {
            assert_eq!(value.to_bytes(), bytes, "two encodings of one value");
            true
        }
        Err(_) => false,
    }
}

fn decode_everything(bytes: &[u8]) {
    canonical::<SignedEntry>(bytes);
    canonical::<Entry>(bytes);
    canonical::<Body>(bytes);
    canonical::<Admission>(bytes);
    canonical::<GenesisMember>(bytes);
    canonical::<RootMeter>(bytes);
    canonical::<StandingLimits>(bytes);
    canonical::<OwnContract>(bytes);
    canonical::<Assurance>(bytes);
    canonical::<DelegateSet>(bytes);
    canonical::<Header>(bytes);
    canonical::<Certificate>(bytes);
    canonical::<Outcome>(bytes);
    canonical::<ledger::Ballot>(bytes);
    canonical::<ledger::Evidence>(bytes);
    canonical::<ledger::Recovery>(bytes);
    if let Ok(block) = UnverifiedBlock::from_bytes(bytes) {
        // Its parts re-encode to the same bytes.
        let mut out = block.header.to_bytes();
        out.extend_from_slice(&block.last_commit.to_bytes());
        out.extend_from_slice(&block.recovery.to_bytes());
        out.extend_from_slice(&u32::try_from(block.entries.len()).unwrap().to_be_bytes());
        for entry in &block.entries {
            let entry = entry.to_bytes();
            out.extend_from_slice(&u32::try_from(entry.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&entry);
        }
        assert_eq!(out, bytes);
    }
}

#[test]
fn every_kind_survives_encoding_and_decoding() {
    for (kind, signed) in golden::signed_entries() {
        assert_eq!(SignedEntry::from_bytes(&signed.to_bytes()).as_ref(), Ok(&signed), "{kind}");
        assert!(canonical::<SignedEntry>(&signed.to_bytes()));
        let longer = [&signed.to_bytes()[..], &[0]].concat();
        assert!(SignedEntry::from_bytes(&longer).is_err(), "{kind} with a byte after it");
        for length in 0..signed.to_bytes().len() {
            assert!(SignedEntry::from_bytes(&signed.to_bytes()[..length]).is_err(), "{kind} cut to {length}");
        }
    }
}

#[test]
fn what_is_longer_than_its_limit_is_refused_before_it_is_decoded() {
    let long = vec![0; ledger::ENTRY_BYTES_MAX + 1];
    assert!(matches!(
        SignedEntry::from_bytes(&long),
        Err(ledger::codec::CodecError::TooLong { what: "entry", .. })
    ));
    let long = vec![0; ledger::BLOCK_BYTES_MAX + 1];
    assert!(matches!(
        UnverifiedBlock::from_bytes(&long),
        Err(ledger::codec::CodecError::TooLong { what: "block", .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        decode_everything(&bytes);
        prop_assert!(Reader::new(&bytes).take(601, "bytes").is_err());
    }

    #[test]
    fn arbitrary_bytes_are_no_snapshot(bytes in prop::collection::vec(any::<u8>(), 0..600), chain in any::<bool>()) {
        let genesis = genesis(2);
        let start = if chain { genesis.chain().to_bytes() } else { vec![] };
        prop_assert!(Ledger::restore(&genesis, &[&start[..], &bytes].concat()).is_err());
    }

    #[test]
    fn damaged_bytes_never_panic_and_never_pass_for_another_encoding(
        pick in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = pick.get(&SAMPLES).clone();
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        decode_everything(&bytes);
    }
}
