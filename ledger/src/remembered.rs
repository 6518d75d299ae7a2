//! Signatures that held, remembered. Compiled with the feature `remembered-signatures` only, which no build of the program has:
//! in a simulator dozens of nodes share a thread, and each checks the same votes and entries. What is asked is the same
//! question with the same answer, so nothing but time is saved.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::crypto::{Hash32, PublicKey, Signature};

/// So many are remembered at least: what is said within minutes.
const REMEMBERED: usize = 1 << 16;

/// The newer ones, and those before them; the latter go when the former are full.
#[derive(Default)]
struct Generations {
    newer: BTreeSet<Hash32>,
    older: BTreeSet<Hash32>,
}

thread_local! {
    static HELD: RefCell<Generations> = RefCell::default();
}

/// The answer of `check` to whether this key made this signature; asked again only if it did not hold, or long ago.
pub fn or_check(
    key: &PublicKey,
    message: &[u8],
    signature: &Signature,
    check: impl FnOnce() -> bool,
) -> bool {
    // Key and signature have fixed lengths, so no two questions have one name.
    let name = Hash32::of(&[&key.0, &signature.0, message]);
    if HELD.with_borrow(|held| held.newer.contains(&name) || held.older.contains(&name)) {
        return true;
    }
    let holds = check();
    if holds {
        HELD.with_borrow_mut(|held| {
            held.newer.insert(name);
            if held.newer.len() >= REMEMBERED {
                held.older = std::mem::take(&mut held.newer);
            }
        });
    }
    holds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_held_is_remembered_and_for_the_same_key_message_and_signature_alone() {
        let (key, signature) = (PublicKey([1; 32]), Signature([2; 64]));
        assert!(!or_check(&key, b"said", &signature, || false));
        assert!(or_check(&key, b"said", &signature, || true));
        assert!(or_check(&key, b"said", &signature, || panic!("it is remembered")));
        assert!(!or_check(&key, b"not said", &signature, || false));
        assert!(!or_check(&PublicKey([3; 32]), b"said", &signature, || false));
        assert!(!or_check(&key, b"said", &Signature([4; 64]), || false));
    }
}
