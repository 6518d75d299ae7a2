//! Going on after too many delegates were lost.
//!
//! Blocks need more than two thirds of the delegates. With four seats, two cards that break for good would be the end of a
//! chain. So, once there was no block for [`RECOVERY_AFTER_MS`], the members may seat other delegates by a *recovery block*: it
//! names its parent, holds no entries and moves no money, and is valid when more than half of the members and two of
//! {operator, auditor, trustee} have attested it.
//!
//! Why no two chains come of it, as far as people keep to it:
//! - **What is attested is one block.** Its header names parent, time, number and set, so members never sign for something that
//!   turns out differently. Two recovery blocks of one number both need more than half of the members; a member attests one
//!   block of a number only, so at most one of them is ever valid.
//! - **The highest certificate wins.** Each attestation names the highest final block that its signer holds. One above the
//!   block's parent makes it worthless, also where the rest would be enough: build on that one instead.
//! - **An attestation is a promise.** Who attests number *r* signs nothing of a lower number any more: no vote, no proposal.
//!   With f + 1 delegates of 3f + 1 among those who attest, the old set can decide nothing new, whatever happens to the rest.
//! - **The higher number wins.** The number is part of all later signing bytes, so nothing that was signed before counts after:
//!   locks, votes and logs of the old number mean nothing, entries are signed anew. A node at or below the parent follows the
//!   recovery by itself. One that holds later blocks of the lower number (the old set had gone on where nobody saw it) does not
//!   give up final blocks by itself: it stops and calls for people. `docs/recovery.md` says what they do.
//!
//! What a light client knows of the delegates ends at a recovery: it cannot check what members signed, and needs a checkpoint.

use ed25519_dalek::SigningKey;
use energy::{HomeId, Timestamp};

use crate::block::{Block, BlockId, DELEGATES_MAX, Header};
use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list, record};
use crate::crypto::{PublicKey, Signature};
use crate::delegation::TermKeys;
use crate::entry::Chain;
use crate::genesis::{MEMBERS_MAX, Roles};
use crate::ledger::Ledger;

/// A recovery block is at least so much later than its parent, in ms of market time: 24 hours.
pub const RECOVERY_AFTER_MS: u64 = 86_400_000;
/// Two of the three roles that may must attest.
const ROLES_NEEDED: usize = 2;
/// The most attestations: every member and three roles.
const ATTESTATIONS_MAX: usize = MEMBERS_MAX + 3;

/// A home's word that it will hold a seat, with the keys it made for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatOffer {
    /// The home.
    pub home: HomeId,
    /// Its keys for the term that the recovery begins.
    pub keys: TermKeys,
    /// Over the offer, of the member, the consensus and the cosigner key.
    pub signatures: [Signature; 3],
}

impl SeatOffer {
    /// Offers to hold a seat after the recovery that `chain` names.
    #[must_use]
    pub fn sign(
        chain: &Chain,
        home: HomeId,
        member: &SigningKey,
        consensus: &SigningKey,
        cosigner: &SigningKey,
    ) -> Self {
        let keys = TermKeys { consensus: PublicKey::of(consensus), cosigner: PublicKey::of(cosigner) };
        let bytes = offer_bytes(chain, &home, &keys);
        let signatures = [member, consensus, cosigner].map(|key| Signature::sign(key, &bytes));
        Self { home, keys, signatures }
    }

    /// True if the member `key` and both keys signed it for the recovery that `chain` names.
    #[must_use]
    pub fn holds(&self, chain: &Chain, key: &PublicKey) -> bool {
        let bytes = offer_bytes(chain, &self.home, &self.keys);
        let keys = [*key, self.keys.consensus, self.keys.cosigner];
        keys.iter().zip(&self.signatures).all(|(key, signature)| key.verifies(&bytes, signature))
    }
}

fn offer_bytes(chain: &Chain, home: &HomeId, keys: &TermKeys) -> Vec<u8> {
    let mut body = Vec::new();
    home.encode(&mut body);
    keys.encode(&mut body);
    chain.signing_bytes("recovery-seat", &body)
}

impl Encode for SeatOffer {
    fn encode(&self, out: &mut Vec<u8>) {
        self.home.encode(out);
        self.keys.encode(out);
        self.signatures.iter().for_each(|signature| signature.encode(out));
    }
}

impl Decode for SeatOffer {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            home: Decode::decode(r)?,
            keys: Decode::decode(r)?,
            signatures: [Decode::decode(r)?, Decode::decode(r)?, Decode::decode(r)?],
        })
    }
}

/// Somebody's consent to one recovery block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// A member's key, or the operator's, auditor's or trustee's.
    pub signer: PublicKey,
    /// Height of the highest final block that the signer holds.
    pub height: u64,
    /// That block; at height 0 the chain's id stands in its place.
    pub head: BlockId,
    /// Over the recovery block's id and the two before.
    pub signature: Signature,
}

record!(Attestation { signer, height, head, signature });

impl Attestation {
    /// Attests the recovery block with this header, as one who holds `head` at `height` and nothing above.
    #[must_use]
    pub fn sign(header: &Header, height: u64, head: BlockId, key: &SigningKey) -> Self {
        let bytes = attestation_bytes(header, height, &head);
        Self { signer: PublicKey::of(key), height, head, signature: Signature::sign(key, &bytes) }
    }

    fn is_of(&self, header: &Header) -> bool {
        self.signer.verifies(&attestation_bytes(header, self.height, &self.head), &self.signature)
    }
}

fn attestation_bytes(header: &Header, height: u64, head: &BlockId) -> Vec<u8> {
    let mut body = Vec::new();
    header.id().encode(&mut body);
    height.encode(&mut body);
    head.encode(&mut body);
    header.chain.signing_bytes("recovery", &body)
}

/// What a recovery block holds beside its header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Who decides from now on.
    pub seats: Vec<SeatOffer>,
    /// Who agreed, in ascending order of their keys.
    pub attestations: Vec<Attestation>,
}

impl Recovery {
    /// Adds an attestation in its place; one of the same signer is replaced.
    pub fn attest(&mut self, attestation: Attestation) {
        match self.attestations.binary_search_by_key(&attestation.signer, |held| held.signer) {
            Ok(place) => {
                if let Some(held) = self.attestations.get_mut(place) {
                    *held = attestation;
                }
            }
            Err(place) => self.attestations.insert(place, attestation),
        }
    }
}

impl Encode for Recovery {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_list(&self.seats, out);
        encode_list(&self.attestations, out);
    }
}

impl Decode for Recovery {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            seats: decode_list(r, "recovery seats", DELEGATES_MAX)?,
            attestations: decode_list(r, "attestations", ATTESTATIONS_MAX)?,
        })
    }
}

/// Who attested a recovery block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// Members that did, ascending.
    pub members: Vec<HomeId>,
    /// Members that did not yet.
    pub others: Vec<HomeId>,
    /// Roles that did.
    pub roles: Vec<&'static str>,
    /// Delegates of the last set whose homes did not attest, and so did not promise to decide nothing any more.
    pub unbound: Vec<HomeId>,
    /// So many of those could still decide blocks together, if they are not lost.
    pub quorum: usize,
}

impl Support {
    /// True if more than half of the members and two of the roles attested.
    #[must_use]
    pub const fn is_enough(&self) -> bool {
        self.members.len() > self.others.len() && self.roles.len() >= ROLES_NEEDED
    }

    /// How many members it takes.
    #[must_use]
    pub const fn needed(&self) -> usize {
        self.members.len().saturating_add(self.others.len()).wrapping_div(2).saturating_add(1)
    }

    /// True if those who did not attest are enough to go on deciding blocks somewhere, should they only be cut off.
    #[must_use]
    pub const fn may_be_contested(&self) -> bool {
        self.unbound.len() >= self.quorum
    }
}

/// Why a recovery block is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Numbers only grow.
    #[error("its number {found} is not above {present}, the number that this chain has")]
    Number {
        /// The number found.
        found: u32,
        /// The present one.
        present: u32,
    },
    /// The chain may still live.
    #[error("its time {time} is less than 24 hours after {last}, the time of the last block")]
    TooEarly {
        /// Time of the block before.
        last: Timestamp,
        /// Its own.
        time: Timestamp,
    },
    /// It holds what a recovery block must not, or lacks what it must hold.
    #[error("{what}")]
    Form {
        /// What.
        what: &'static str,
    },
    /// A seat that cannot be.
    #[error("home {home} cannot hold a seat: {what}")]
    Seat {
        /// The home.
        home: HomeId,
        /// Why not.
        what: &'static str,
    },
    /// Not a member's or a role's key.
    #[error("key {key} attested, but is neither a member's nor that of operator, auditor or trustee")]
    Unknown {
        /// The key.
        key: PublicKey,
    },
    /// Made for another block, or not by this key.
    #[error("the attestation of key {key} is not of this block")]
    Forged {
        /// The key.
        key: PublicKey,
    },
    /// The highest wins.
    #[error(
        "key {key} holds block {height}, which this recovery would give up; make one that follows from it"
    )]
    Higher {
        /// Who holds it.
        key: PublicKey,
        /// Its height.
        height: u64,
    },
    /// Not enough people agreed.
    #[error(
        "{members} members attested where {needed} are needed, and {roles} of operator, auditor and trustee where 2 are"
    )]
    TooFew {
        /// Members that did.
        members: usize,
        /// Members it takes.
        needed: usize,
        /// Roles that did.
        roles: usize,
    },
}

impl Ledger {
    /// Counts who attested the recovery block with this header, which follows from this ledger.
    ///
    /// # Errors
    /// [`RecoveryError`]: an attestation that must not be there.
    pub fn support(&self, header: &Header, attestations: &[Attestation]) -> Result<Support, RecoveryError> {
        let fault = |what| Err(RecoveryError::Form { what });
        if !attestations.is_sorted_by(|left, right| left.signer < right.signer) {
            return fault("the attestations are not in ascending order of their keys or repeat one");
        }
        let roles = attesting_roles(&self.genesis_terms().roles);
        let members = self.present_members();
        let (mut attested, mut by_roles) = (Vec::new(), Vec::new());
        for attestation in attestations {
            let key = attestation.signer;
            if !attestation.is_of(header) {
                return Err(RecoveryError::Forged { key });
            }
            self.is_not_above(attestation)?;
            if let Some((name, _)) = roles.iter().find(|(_, role)| *role == key) {
                by_roles.push(*name);
            } else if let Some((home, _)) = members.iter().find(|(_, member)| *member == key) {
                attested.push(home.clone());
            } else {
                return Err(RecoveryError::Unknown { key });
            }
        }
        attested.sort_unstable();
        let others =
            members.into_iter().map(|(home, _)| home).filter(|home| !attested.contains(home)).collect();
        let seats = self.delegates().as_slice().iter().map(|seat| seat.home.clone());
        let mut unbound: Vec<_> = seats.filter(|home| !attested.contains(home)).collect();
        unbound.sort_unstable();
        let quorum = self.delegates().quorum();
        Ok(Support { members: attested, others, roles: by_roles, unbound, quorum })
    }

    fn is_not_above(&self, attestation: &Attestation) -> Result<(), RecoveryError> {
        let Attestation { signer: key, height, head, .. } = *attestation;
        if height > self.height() {
            return Err(RecoveryError::Higher { key, height });
        }
        if height == self.height() && head != self.head() {
            return Err(RecoveryError::Form {
                what: "an attestation names another block at the parent's height",
            });
        }
        Ok(())
    }

    /// Homes that are members now, and their keys.
    fn present_members(&self) -> Vec<(HomeId, PublicKey)> {
        let interval = self.head_interval();
        let members = self.members().into_iter().filter(|(_, member)| member.is_member_in(interval));
        members.map(|(home, member)| (home.clone(), member.admission.keys.member)).collect()
    }

    /// That enough people attested `block`, which follows from this ledger.
    pub(crate) fn is_attested(&self, block: &Block, recovery: &Recovery) -> Result<(), RecoveryError> {
        let support = self.support(&block.header, &recovery.attestations)?;
        if support.is_enough() {
            return Ok(());
        }
        let (members, roles) = (support.members.len(), support.roles.len());
        Err(RecoveryError::TooFew { members, needed: support.needed(), roles })
    }
}

/// Those of whom two must attest.
fn attesting_roles(roles: &Roles) -> Vec<(&'static str, PublicKey)> {
    let named = [("operator", roles.operator), ("auditor", roles.auditor)];
    named.into_iter().chain(roles.trustee.map(|key| ("trustee", key))).collect()
}
