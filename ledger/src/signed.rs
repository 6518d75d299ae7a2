//! Entries with their signatures: as they arrive, and after every signature was checked, once.

use std::sync::Arc;

use ed25519_dalek::SigningKey;

use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};
use crate::crypto::{Hash32, KnownKeys, PublicKey, Signature};
use crate::entry::{Chain, ENTRY_BYTES_MAX, Entry, EntryId, SIGNATURES_MAX};

/// How far apart two honest nodes may be in recoveries before one takes the other for a forger: a recovery that is begun anew,
/// because somebody holds more, takes the next number each time. Each is checked for at the cost of a signature, only where the
/// present one does not hold.
const RECOVERIES_NEAR: u32 = 8;

/// An entry with signatures that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEntry {
    pub(crate) entry: Entry,
    /// The author's first, then countersignatures over the same bytes in ascending key order.
    pub(crate) signatures: Vec<(PublicKey, Signature)>,
}

impl SignedEntry {
    /// The claim, unchecked.
    #[must_use]
    pub const fn unchecked(&self) -> &Entry {
        &self.entry
    }

    /// What nobody has signed yet.
    #[must_use]
    pub const fn unsigned(entry: Entry) -> Self {
        Self { entry, signatures: Vec::new() }
    }

    /// Adds a signature: the author's own or another's, in whatever order they come.
    #[must_use]
    pub fn countersign(mut self, chain: &Chain, key: &SigningKey) -> Self {
        let bytes = self.entry.signing_bytes(chain);
        self.signatures.push((PublicKey::of(key), Signature::sign(key, &bytes)));
        self.signatures.sort_unstable_by_key(|(key, _)| (*key != self.entry.signer, *key));
        self
    }

    /// Joins the signatures of two copies of one entry, which several signed side by side; `None` if they are of two entries.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Option<Self> {
        if self.entry != other.entry {
            return None;
        }
        for (key, signature) in other.signatures {
            if !self.signatures.iter().any(|(held, _)| *held == key) {
                self.signatures.push((key, signature));
            }
        }
        self.signatures.sort_unstable_by_key(|(key, _)| (*key != self.entry.signer, *key));
        Some(self)
    }

    /// Who signed, unchecked.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.signatures.iter().map(|(key, _)| key)
    }

    /// True if its author signed it for another recovery of this chain, some before or after: it counts for nothing here,
    /// but is no forgery. Its author has not heard of the last recovery yet, or this node has not.
    #[must_use]
    pub fn is_of_another_recovery(&self, chain: &Chain) -> bool {
        let Some((author, signature)) = self.signatures.first() else { return false };
        let near =
            chain.recovery.saturating_sub(RECOVERIES_NEAR)..=chain.recovery.saturating_add(RECOVERIES_NEAR);
        near.filter(|recovery| *recovery != chain.recovery).any(|recovery| {
            author.verifies(&self.entry.signing_bytes(&Chain { recovery, ..*chain }), signature)
        })
    }

    /// Checks every signature.
    ///
    /// # Errors
    /// [`SignatureError`]: wrong chain, forged, the author missing, a signature twice, too long, or with a field that
    /// nobody else could decode.
    pub fn verify(self, chain: &Chain) -> Result<VerifiedEntry, SignatureError> {
        self.verify_by(chain, PublicKey::verifies)
    }

    /// As [`SignedEntry::verify`], where entries of the same keys are checked again and again.
    ///
    /// # Errors
    /// The same.
    pub fn verify_among(self, chain: &Chain, keys: &mut KnownKeys) -> Result<VerifiedEntry, SignatureError> {
        self.verify_by(chain, |key, message, signature| keys.verifies(key, message, signature))
    }

    fn verify_by(
        self,
        chain: &Chain,
        mut verifies: impl FnMut(&PublicKey, &[u8], &Signature) -> bool,
    ) -> Result<VerifiedEntry, SignatureError> {
        let bytes = self.to_bytes();
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(SignatureError::TooLong { bytes: bytes.len() });
        }
        let Some(((author, _), counter)) = self.signatures.split_first() else {
            return Err(SignatureError::NoAuthor);
        };
        if *author != self.entry.signer {
            return Err(SignatureError::NoAuthor);
        }
        let ascending = counter.is_sorted_by(|(left, _), (right, _)| left < right);
        if !ascending || counter.iter().any(|(key, _)| key == author) {
            return Err(SignatureError::Disordered);
        }
        // An entry built here, not decoded, may break a limit of the format. Signed and proposed, no other node could read
        // the block it stands in.
        if Self::from_bytes(&bytes).as_ref() != Ok(&self) {
            return Err(SignatureError::NotCanonical);
        }
        let message = self.entry.signing_bytes(chain);
        for (key, signature) in &self.signatures {
            if !verifies(key, &message, signature) {
                return Err(SignatureError::Forged { key: *key });
            }
        }
        let id = EntryId(Hash32::of(&[b"commonwatt/entry/v1", &bytes]));
        Ok(VerifiedEntry { inner: Arc::new(Inner { id, signed: self, bytes }) })
    }
}

impl Encode for SignedEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.entry.encode(out);
        encode_list(&self.signatures, out);
    }
}

impl Decode for SignedEntry {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            entry: Decode::decode(reader)?,
            signatures: decode_list(reader, "signatures", SIGNATURES_MAX)?,
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(CodecError::TooLong { what: "entry", max: ENTRY_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let entry = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(entry)
    }
}

/// Why an entry's signatures do not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A signature does not fit these bytes, this chain and this key.
    #[error("the signature of key {key} is forged, or made for another chain or content")]
    Forged {
        /// The key that did not sign this.
        key: PublicKey,
    },
    /// The first signature must be the author's.
    #[error("the entry is not signed by its author")]
    NoAuthor,
    /// Countersignatures stand in ascending key order, each once.
    #[error("the countersignatures are not in ascending order or repeat a key")]
    Disordered,
    /// A field is beyond a limit of the format: a text too long, too many points or signatures.
    #[error("a field of the entry is outside the limits of its format; nobody else could decode it")]
    NotCanonical,
    /// Over the size limit.
    #[error("the entry has {bytes} bytes; the limit is {ENTRY_BYTES_MAX}")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    id: EntryId,
    signed: SignedEntry,
    bytes: Vec<u8>,
}

/// An entry whose every signature was checked, once; cheap to clone and pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEntry {
    inner: Arc<Inner>,
}

impl VerifiedEntry {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.inner.id
    }

    /// What was signed.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.inner.signed.entry
    }

    /// Its canonical bytes with signatures: what travels, what is stored, and the content of its leaf.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.inner.bytes
    }

    /// True if `key` signed it, as author or countersigner.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.inner.signed.signatures.iter().any(|(signer, _)| signer == key)
    }

    /// How many of `keys` signed it.
    #[must_use]
    pub fn count_signers<'k>(&self, keys: impl IntoIterator<Item = &'k PublicKey>) -> usize {
        keys.into_iter().filter(|key| self.is_signed_by(key)).count()
    }
}
