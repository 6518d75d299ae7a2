//! Hashes, keys and signatures. Every hash and every signature names what it is for, so that bytes made for one
//! purpose are worthless for another.

use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::codec::{CodecError, Decode, Encode, Reader, record};

/// A SHA-256 digest.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash32(pub [u8; 32]);

impl Hash32 {
    /// All zero: "nothing before".
    pub const ZERO: Self = Self([0; 32]);

    /// SHA-256 of the concatenated parts.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Lower-case hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Parses 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

impl fmt::Display for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Hash32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

record!(Hash32 { 0 });

/// Algorithm byte of Ed25519 in keys and signatures; others can follow.
const ED25519: u8 = 1;

/// A public key: algorithm and 32 bytes. Holding one does not prove that it is a valid point; checking a signature does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The public half of `key`.
    #[must_use]
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }

    /// Lower-case hexadecimal of the 32 bytes.
    #[must_use]
    pub fn hex(&self) -> String {
        Hash32(self.0).hex()
    }

    /// Parses 64 hexadecimal digits; says nothing of the point's validity.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }

    /// True if `signature` over `message` was made with this key.
    ///
    /// `verify_strict` on every path: the lax check accepts keys of small order, and one signature then fits many
    /// messages; two nodes that used different checks could disagree on a block.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        #[cfg(feature = "remembered-signatures")]
        return crate::remembered::or_check(self, message, signature, || self.checks(message, signature));
        #[cfg(not(feature = "remembered-signatures"))]
        self.checks(message, signature)
    }

    fn checks(&self, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| is_strictly_of(&key, message, signature))
    }
}

fn is_strictly_of(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
}

/// So many keys are kept: those of a thousand homes, each with a member's and a reading's; 0.5 MB.
const KNOWN_KEYS_MAX: usize = 2048;

/// Public keys taken apart: working out the point of a key from its bytes is a tenth of a check, and the same members sign
/// again and again. The answers are those of [`PublicKey::verifies`].
#[derive(Debug, Clone, Default)]
pub struct KnownKeys(BTreeMap<PublicKey, VerifyingKey>);

impl KnownKeys {
    /// True if `signature` over `message` was made with `key`.
    pub fn verifies(&mut self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        #[cfg(feature = "remembered-signatures")]
        return crate::remembered::or_check(key, message, signature, || self.checks(key, message, signature));
        #[cfg(not(feature = "remembered-signatures"))]
        self.checks(key, message, signature)
    }

    fn checks(&mut self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        if let Some(known) = self.0.get(key) {
            return is_strictly_of(known, message, signature);
        }
        let Ok(taken_apart) = VerifyingKey::from_bytes(&key.0) else { return false };
        let holds = is_strictly_of(&taken_apart, message, signature);
        if holds {
            // Keys that anybody can make may fill it: then it begins anew, and no check costs more than without it.
            if self.0.len() >= KNOWN_KEYS_MAX {
                self.0.clear();
            }
            self.0.insert(*key, taken_apart);
        }
        holds
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Encode for PublicKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(ED25519);
        self.0.encode(out);
    }
}

impl Decode for PublicKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        if u8::decode(reader)? != ED25519 {
            return Err(CodecError::Invalid { what: "key algorithm" });
        }
        Decode::decode(reader).map(Self)
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

record!(Signature { 0 });

impl Signature {
    /// Signs `message`.
    #[must_use]
    pub fn sign(key: &SigningKey, message: &[u8]) -> Self {
        Self(key.sign(message).to_bytes())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signature({}…)",
            self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>()
        )
    }
}

/// 16 random bytes that hide a sealed leaf's content until they are shown. Never printed: whoever has a salt can open
/// the commitment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Salt(pub [u8; 16]);

record!(Salt { 0 });

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(hidden)")
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        // The identity point: the lax check would accept R = identity, s = 0 for any message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!PublicKey(identity).verifies(b"any message", &Signature(signature)));
        assert!(!KnownKeys::default().verifies(&PublicKey(identity), b"any message", &Signature(signature)));
    }

    #[test]
    fn a_known_key_answers_as_a_new_one_and_no_flood_of_keys_keeps_more_than_the_limit() {
        let mut keys = KnownKeys::default();
        for number in 0..KNOWN_KEYS_MAX + 2 {
            let secret = SigningKey::from_bytes(&Hash32::of(&[&number.to_be_bytes()]).0);
            let (key, signature) = (PublicKey::of(&secret), Signature::sign(&secret, b"said"));
            if number > 0 {
                assert!(keys.verifies(&key, b"said", &signature));
                assert!(keys.verifies(&key, b"said", &signature), "now it is known");
            }
            assert!(!keys.verifies(&key, b"not said", &signature));
            assert!(keys.0.len() <= KNOWN_KEYS_MAX);
            assert_eq!(keys.0.contains_key(&key), number > 0, "kept once it has signed");
        }
    }

    #[test]
    fn hexadecimal_parses_only_64_digits() {
        let hash = Hash32::of(&[b"x"]);
        assert_eq!(Hash32::from_hex(&hash.hex()), Some(hash));
        assert_eq!(Hash32::from_hex("+f"), None);
        assert_eq!(Hash32::from_hex(&"+f".repeat(32)), None);
    }
}
