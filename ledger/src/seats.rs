//! What the state machine says of seats: elections, and seats that changed hands between them. Both are public.

use crate::block::DELEGATES_MAX;
use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list, record};
use crate::crypto::PublicKey;

/// How an election ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ElectionResult {
    /// The seats are filled anew.
    Elected = 0,
    /// Less than half of the votes were cast: the delegates stay.
    Turnout = 1,
    /// Nobody who may be a delegate stood: the delegates stay.
    Candidates = 2,
    /// Fewer than four candidates for a set of four or more: the delegates stay.
    Few = 4,
    /// None was held: a recovery seated others, after too many delegates were lost.
    Recovered = 3,
}

impl ElectionResult {
    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Elected => "elected",
            Self::Turnout => "turnout below half",
            Self::Candidates => "no candidates",
            Self::Few => "too few candidates",
            Self::Recovered => "recovered",
        }
    }
}

impl Encode for ElectionResult {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for ElectionResult {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        match u8::decode(reader)? {
            0 => Ok(Self::Elected),
            1 => Ok(Self::Turnout),
            2 => Ok(Self::Candidates),
            3 => Ok(Self::Recovered),
            4 => Ok(Self::Few),
            _ => Err(CodecError::Invalid { what: "election result" }),
        }
    }
}

/// An election at the end of an epoch. It says nothing of any single vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectionOutcome {
    /// The epoch that ends.
    pub epoch: u32,
    /// How it ended.
    pub result: ElectionResult,
    /// Votes cast, of a thousand.
    pub turnout_permille: u32,
    /// Candidates who stood and may be delegates.
    pub candidates: u32,
    /// The term of those who hold the seats from now on.
    pub term: u32,
    /// How many of them may fail.
    pub faults: u32,
    /// Their consensus keys, ascending. After a failed election, seats of convicted delegates may change hands at once: the
    /// [`SeatOutcome`]s behind this one say so.
    pub seats: Vec<PublicKey>,
}

impl Encode for ElectionOutcome {
    fn encode(&self, out: &mut Vec<u8>) {
        self.epoch.encode(out);
        self.result.encode(out);
        self.turnout_permille.encode(out);
        self.candidates.encode(out);
        self.term.encode(out);
        self.faults.encode(out);
        encode_list(&self.seats, out);
    }
}

impl Decode for ElectionOutcome {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            epoch: Decode::decode(r)?,
            result: Decode::decode(r)?,
            turnout_permille: Decode::decode(r)?,
            candidates: Decode::decode(r)?,
            term: Decode::decode(r)?,
            faults: Decode::decode(r)?,
            seats: decode_list(r, "seats", DELEGATES_MAX)?,
        })
    }
}

/// Why a delegate is to lose its seat before its term ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SeatLoss {
    /// It signed two statements that exclude one another.
    Equivocation = 0,
    /// It signed less than half of a day's blocks.
    Silence = 1,
}

impl SeatLoss {
    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Equivocation => "equivocation",
            Self::Silence => "silence",
        }
    }
}

impl Encode for SeatLoss {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for SeatLoss {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        match u8::decode(reader)? {
            0 => Ok(Self::Equivocation),
            1 => Ok(Self::Silence),
            _ => Err(CodecError::Invalid { what: "seat loss" }),
        }
    }
}

/// What became of such a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatFate {
    /// A standby takes it, with this consensus key.
    Replaced(PublicKey),
    /// Nobody stands by, and the rest bears a failure without it.
    Removed,
    /// It stays as it is, because too many changed in this epoch already or the set would get too small: people must look.
    /// A convicted delegate's seat is tried again after an election that fails.
    Kept,
}

impl SeatFate {
    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Replaced(_) => "replaced",
            Self::Removed => "removed",
            Self::Kept => "kept",
        }
    }
}

impl Encode for SeatFate {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Replaced(key) => {
                out.push(0);
                key.encode(out);
            }
            Self::Removed => out.push(1),
            Self::Kept => out.push(2),
        }
    }
}

impl Decode for SeatFate {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        match u8::decode(r)? {
            0 => PublicKey::decode(r).map(Self::Replaced),
            1 => Ok(Self::Removed),
            2 => Ok(Self::Kept),
            _ => Err(CodecError::Invalid { what: "fate of a seat" }),
        }
    }
}

/// A seat between two elections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatOutcome {
    /// Consensus key of who is to lose it.
    pub key: PublicKey,
    /// Why.
    pub reason: SeatLoss,
    /// What became of it.
    pub fate: SeatFate,
}

record!(SeatOutcome { key, reason, fate });
