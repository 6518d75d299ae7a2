//! Keys from fixed bytes. Making one costs as much as a signature, so all are made once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use ledger::PublicKey;

/// What a key is for, and whose it is; the first bytes of its seed.
pub type KeyName = (u8, u8);

const MEMBER: u8 = 1;
const READING: u8 = 2;
const NETWORK: u8 = 3;
const TERM: u8 = 4;
const ROLE: u8 = 5;
const COSIGNER: u8 = 6;
/// Keys of each use.
const EACH: u8 = 128;
/// Homes with keys of their own in each term.
const HOMES: u8 = 16;

pub const OPERATOR: KeyName = (ROLE, 1);
pub const TREASURER: KeyName = (ROLE, 2);
pub const AUDITOR: KeyName = (ROLE, 3);
pub const METERING: KeyName = (ROLE, 4);
pub const ROOT_METER: KeyName = (ROLE, 5);
pub const TRUSTEE: KeyName = (ROLE, 6);

static KEYS: LazyLock<Vec<Vec<(SigningKey, PublicKey)>>> = LazyLock::new(|| {
    let key = |of: u8, number: u8| {
        let mut seed = [0; 32];
        (seed[0], seed[1]) = (of, number);
        let key = SigningKey::from_bytes(&seed);
        let public = PublicKey::of(&key);
        (key, public)
    };
    (0..=COSIGNER).map(|of| (0..EACH).map(|number| key(of, number)).collect()).collect()
});

static OF_TERMS: LazyLock<BTreeMap<PublicKey, KeyName>> =
    LazyLock::new(|| (0..EACH).map(|number| (public((TERM, number)), (TERM, number))).collect());

pub const fn member(number: u8) -> KeyName {
    (MEMBER, number)
}

pub const fn reader(number: u8) -> KeyName {
    (READING, number)
}

pub const fn network(number: u8) -> KeyName {
    (NETWORK, number)
}

/// A home's consensus key for a term; terms far apart share theirs.
pub fn term(number: u8, term: u32) -> KeyName {
    (TERM, of_term_number(number, term))
}

/// A home's cosigner key for a term.
pub fn cosigner(number: u8, term: u32) -> KeyName {
    (COSIGNER, of_term_number(number, term))
}

fn of_term_number(number: u8, term: u32) -> u8 {
    let turn = u8::try_from(term % u32::from(EACH / HOMES)).unwrap_or_default();
    turn * HOMES + number % HOMES
}

pub fn signing(name: KeyName) -> SigningKey {
    KEYS[usize::from(name.0)][usize::from(name.1 % EACH)].0.clone()
}

pub fn public(name: KeyName) -> PublicKey {
    KEYS[usize::from(name.0)][usize::from(name.1 % EACH)].1
}

/// Which consensus key it is, if it is one of these.
pub fn name_of_term(public: &PublicKey) -> Option<KeyName> {
    OF_TERMS.get(public).copied()
}
