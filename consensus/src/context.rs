//! Our words in the core's terms: what a vote, a proposal and a delegate are to the sans-IO Tendermint core.
//!
//! The core decides on block ids; the blocks themselves travel beside the proposals. All seats have equal power and
//! the proposer of a round is seat (height + round) mod n. Nothing outside `tendermint` sees these types.

use std::fmt;
use std::sync::Arc;

use ledger::{BlockId, DelegateSet, PublicKey, Signature, VoteKind};
use malachitebft_core_types as bft;

/// Marker that ties the types below together for the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbourhood;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Height(pub u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl bft::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    fn decrement_by(&self, count: u64) -> Option<Self> {
        self.0.checked_sub(count).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A delegate is addressed by its consensus key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub PublicKey);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl bft::Address for Address {}

/// What is decided on: a block, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub BlockId);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl bft::Value for Value {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    address: Address,
}

impl bft::Validator<Neighbourhood> for Seat {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.address.0
    }

    fn voting_power(&self) -> u64 {
        1
    }
}

/// The delegates of a height. Never empty: a [`DelegateSet`] is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seats(Arc<[Seat]>);

impl Seats {
    pub(crate) fn of(delegates: &DelegateSet) -> Self {
        Self(delegates.as_slice().iter().map(|delegate| Seat { address: Address(delegate.key) }).collect())
    }
}

impl bft::ValidatorSet<Neighbourhood> for Seats {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.0.len() as u64
    }

    fn get_by_address(&self, address: &Address) -> Option<&Seat> {
        let position = self.0.binary_search_by_key(address, |seat| seat.address).ok()?;
        self.0.get(position)
    }

    fn get_by_index(&self, index: usize) -> Option<&Seat> {
        self.0.get(index)
    }
}

/// The seat that proposes in a round.
pub(crate) fn proposer_seat(count: usize, height: u64, round: u32) -> usize {
    let count = count as u64;
    let seat = (height % count + u64::from(round) % count) % count;
    usize::try_from(seat).unwrap_or(0)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote {
    pub kind: VoteKind,
    pub height: Height,
    pub round: bft::Round,
    pub value: bft::NilOrVal<Value>,
    pub voter: Address,
}

impl Vote {
    pub(crate) fn block(&self) -> Option<BlockId> {
        match &self.value {
            bft::NilOrVal::Val(value) => Some(value.0),
            bft::NilOrVal::Nil => None,
        }
    }
}

impl bft::Vote<Neighbourhood> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> bft::Round {
        self.round
    }

    fn value(&self) -> &bft::NilOrVal<Value> {
        &self.value
    }

    fn take_value(self) -> bft::NilOrVal<Value> {
        self.value
    }

    fn vote_type(&self) -> bft::VoteType {
        match self.kind {
            VoteKind::Prevote => bft::VoteType::Prevote,
            VoteKind::Precommit => bft::VoteType::Precommit,
        }
    }

    fn validator_address(&self) -> &Address {
        &self.voter
    }

    fn extension(&self) -> Option<&bft::SignedExtension<Neighbourhood>> {
        None
    }

    fn take_extension(&mut self) -> Option<bft::SignedExtension<Neighbourhood>> {
        None
    }

    fn extend(self, _: bft::SignedExtension<Neighbourhood>) -> Self {
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub height: Height,
    pub round: bft::Round,
    pub value: Value,
    pub valid_round: bft::Round,
    pub proposer: Address,
}

impl bft::Proposal<Neighbourhood> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> bft::Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> bft::Round {
        self.valid_round
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

/// Blocks do not travel in the core's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoPart;

impl bft::ProposalPart<Neighbourhood> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

/// The signature scheme: Ed25519 with our own types. The core never signs or verifies by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ed25519;

impl bft::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = Signature;
    type PublicKey = PublicKey;
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, &'static str> {
        bytes.try_into().map(Signature).map_err(|_| "a signature has 64 bytes")
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        bytes.try_into().map(PublicKey).map_err(|_| "a key has 32 bytes")
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

impl bft::Context for Neighbourhood {
    type Address = Address;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = Proposal;
    type Validator = Seat;
    type ValidatorSet = Seats;
    type Timeouts = bft::LinearTimeouts;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, seats: &'a Seats, height: Height, round: bft::Round) -> &'a Seat {
        &seats.0[proposer_seat(seats.0.len(), height.0, round.as_u32().unwrap_or(0))]
    }

    fn new_proposal(
        &self,
        height: Height,
        round: bft::Round,
        value: Value,
        valid_round: bft::Round,
        proposer: Address,
    ) -> Proposal {
        Proposal { height, round, value, valid_round, proposer }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: bft::Round,
        value: bft::NilOrVal<Value>,
        voter: Address,
    ) -> Vote {
        Vote { kind: VoteKind::Prevote, height, round, value, voter }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: bft::Round,
        value: bft::NilOrVal<Value>,
        voter: Address,
    ) -> Vote {
        Vote { kind: VoteKind::Precommit, height, round, value, voter }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proposer_moves_on_with_height_and_round_without_overflow() {
        assert_eq!(proposer_seat(4, 1, 0), 1);
        assert_eq!(proposer_seat(4, 1, 3), 0);
        assert_eq!(proposer_seat(4, u64::MAX, u32::MAX), 2);
        assert_eq!(proposer_seat(1, 7, 9), 0);
    }
}
