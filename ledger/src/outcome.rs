//! What the state machine itself has to say: results, and the leaves they make in the tree.

use energy::{ClockQuality, HomeId, Interval, MeterSerial, Money, Quality, Reading, WattHours};
use market::{Account, HomeMatch, Metered, Position, PostingKind};

use crate::codec::{CodecError, Decode, Encode, Reader, record};
use crate::crypto::{Hash32, Salt};
use crate::entry::TariffPoint;
use crate::seats::{ElectionOutcome, SeatOutcome};
use crate::trade::{BreachOutcome, GateOutcome, OrderOutcome};
use crate::tree::leaf_hash;

/// How a home's interval came to its amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum OutcomeKind {
    /// At its deadline, with the neighbours.
    Settled = 0,
    /// After it, with the supplier alone.
    Late = 1,
    /// A correction of what was settled.
    Correction = 2,
    /// By the home's own node, where the metering operator's readings settle: nothing moves, and it is replaced once by what
    /// is settled. Never to be added to settled results.
    Provisional = 3,
}

impl OutcomeKind {
    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Late => "late",
            Self::Correction => "correction",
            Self::Provisional => "provisional",
        }
    }
}

/// One home's interval, settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeOutcome {
    /// Whose.
    pub home: HomeId,
    /// Which.
    pub interval: Interval,
    /// How.
    pub kind: OutcomeKind,
    /// What its meter showed; `None` where no usable reading came in time. For a correction: `None`.
    pub metered: Option<Metered>,
    /// Its forward position.
    pub position: Position,
    /// Its part with neighbours and supplier.
    pub matched: HomeMatch,
    /// What it receives for the interval (pays, if negative).
    pub amount: Money,
    /// What the supplier alone would have come to.
    pub baseline: Money,
    /// What it could not pay its supplier.
    pub claim: Money,
    /// Its part of the network's losses, in `amount` (negative: pays).
    pub loss: Money,
    /// What it is due from outside under a sharing incentive; shown, not in `amount`, and paid in as a deposit.
    pub incentive: Money,
    /// Quality of the reading.
    pub quality: Option<Quality>,
    /// Hides the leaf.
    pub salt: Salt,
}

/// One interval of the whole community, settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalOutcome {
    /// Which.
    pub interval: Interval,
    /// The supplier's prices.
    pub tariff: TariffPoint,
    /// Energy matched between neighbours.
    pub matched: WattHours,
    /// Energy bought from the supplier.
    pub supplier_import: WattHours,
    /// Energy sold to the supplier.
    pub supplier_export: WattHours,
    /// Homes settled.
    pub homes: u32,
    /// Of them, without a usable reading.
    pub missing: u32,
    /// Root meter's net import less the homes'; `None` where one is missing.
    pub losses: Option<i64>,
    /// True where the anonymity rule lets the leaf be public.
    pub public: bool,
    /// Hides the leaf otherwise.
    pub salt: Salt,
}

/// What the state machine appends to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A home's interval.
    Home(HomeOutcome),
    /// A community's interval.
    Interval(IntervalOutcome),
    /// A gate of forward trading.
    Gate(GateOutcome),
    /// An order at its gate.
    Order(OrderOutcome),
    /// A connection beyond its cap.
    Breach(BreachOutcome),
    /// An election of delegates.
    Election(ElectionOutcome),
    /// A delegate that lost its seat between two elections, or should have.
    Seat(SeatOutcome),
}

impl Outcome {
    /// Hides its leaf where it is sealed.
    #[must_use]
    pub const fn salt(&self) -> Salt {
        match self {
            Self::Home(home) => home.salt,
            Self::Interval(interval) => interval.salt,
            Self::Gate(gate) => gate.salt,
            Self::Order(order) => order.salt,
            Self::Breach(breach) => breach.salt,
            // Never sealed.
            Self::Election(_) | Self::Seat(_) => Salt([0; 16]),
        }
    }

    /// True where its leaf is only a commitment.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        match self {
            Self::Home(_) | Self::Order(_) | Self::Breach(_) => true,
            Self::Interval(interval) => !interval.public,
            Self::Gate(gate) => !gate.public,
            Self::Election(_) | Self::Seat(_) => false,
        }
    }
}

record!(Metered { import, export });
record!(Position { sold, bought, amount });
record!(HomeMatch { sold, bought, local_amount, supplier_import, supplier_export, supplier_amount });

impl Encode for Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Home(home) => {
                out.push(1);
                home.home.encode(out);
                home.interval.encode(out);
                out.push(home.kind as u8);
                home.metered.encode(out);
                home.position.encode(out);
                home.matched.encode(out);
                home.amount.encode(out);
                home.baseline.encode(out);
                home.claim.encode(out);
                home.loss.encode(out);
                home.incentive.encode(out);
                home.quality.map(|quality| quality as u8).encode(out);
                home.salt.encode(out);
            }
            Self::Interval(interval) => {
                out.push(2);
                interval.interval.encode(out);
                interval.tariff.encode(out);
                interval.matched.encode(out);
                interval.supplier_import.encode(out);
                interval.supplier_export.encode(out);
                interval.homes.encode(out);
                interval.missing.encode(out);
                interval.losses.encode(out);
                interval.public.encode(out);
                interval.salt.encode(out);
            }
            Self::Gate(gate) => {
                out.push(3);
                gate.encode(out);
            }
            Self::Order(order) => {
                out.push(4);
                order.encode(out);
            }
            Self::Breach(breach) => {
                out.push(5);
                breach.encode(out);
            }
            Self::Election(election) => {
                out.push(6);
                election.encode(out);
            }
            Self::Seat(seat) => {
                out.push(7);
                seat.encode(out);
            }
        }
    }
}

impl Decode for Outcome {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let invalid = |what| CodecError::Invalid { what };
        match u8::decode(r)? {
            1 => Ok(Self::Home(HomeOutcome {
                home: Decode::decode(r)?,
                interval: Decode::decode(r)?,
                kind: match u8::decode(r)? {
                    0 => OutcomeKind::Settled,
                    1 => OutcomeKind::Late,
                    2 => OutcomeKind::Correction,
                    3 => OutcomeKind::Provisional,
                    _ => return Err(invalid("outcome kind")),
                },
                metered: Decode::decode(r)?,
                position: Decode::decode(r)?,
                matched: Decode::decode(r)?,
                amount: Decode::decode(r)?,
                baseline: Decode::decode(r)?,
                claim: Decode::decode(r)?,
                loss: Decode::decode(r)?,
                incentive: Decode::decode(r)?,
                quality: match Option::<u8>::decode(r)? {
                    None => None,
                    Some(code) => Some(Quality::from_code(code).ok_or(invalid("quality"))?),
                },
                salt: Decode::decode(r)?,
            })),
            2 => Ok(Self::Interval(IntervalOutcome {
                interval: Decode::decode(r)?,
                tariff: Decode::decode(r)?,
                matched: Decode::decode(r)?,
                supplier_import: Decode::decode(r)?,
                supplier_export: Decode::decode(r)?,
                homes: Decode::decode(r)?,
                missing: Decode::decode(r)?,
                losses: Decode::decode(r)?,
                public: Decode::decode(r)?,
                salt: Decode::decode(r)?,
            })),
            3 => Decode::decode(r).map(Self::Gate),
            4 => Decode::decode(r).map(Self::Order),
            5 => Decode::decode(r).map(Self::Breach),
            6 => Decode::decode(r).map(Self::Election),
            7 => Decode::decode(r).map(Self::Seat),
            _ => Err(invalid("outcome")),
        }
    }
}

/// Where a leaf comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafSource {
    /// The entry at this position of the block.
    Entry(usize),
    /// The outcome at this position of the block's outcomes.
    Outcome(usize),
}

/// One leaf of the transparency tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its bytes: `0x01 ‖ body`, or `0x02 ‖ SHA-256("commonwatt/leaf/v1" ‖ salt ‖ body)`.
    pub bytes: Vec<u8>,
    /// Its hash in the tree.
    pub hash: Hash32,
    /// What it stands for.
    pub source: LeafSource,
}

impl Leaf {
    /// The leaf of `body`, sealed with `salt` or public.
    #[must_use]
    pub fn new(sealed: bool, salt: &Salt, body: &[u8], source: LeafSource) -> Self {
        let mut bytes = Vec::with_capacity(33);
        if sealed {
            bytes.push(2);
            bytes.extend_from_slice(&Hash32::of(&[b"commonwatt/leaf/v1", &salt.0, body]).0);
        } else {
            bytes.push(1);
            bytes.extend_from_slice(body);
        }
        Self { hash: leaf_hash(&bytes), bytes, source }
    }
}

/// One movement on one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostingRecord {
    /// The interval it belongs to, if any.
    pub interval: Option<Interval>,
    /// The account.
    pub account: Account<HomeId>,
    /// Why.
    pub kind: PostingKind,
    /// How much is credited (debited, if negative).
    pub amount: Money,
}

/// A reading that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingRecord {
    /// Whose; `None`: the root meter's.
    pub home: Option<HomeId>,
    /// The interval at whose end the registers stood so.
    pub interval: Interval,
    /// Import register, Wh.
    pub import_register: WattHours,
    /// Export register, Wh.
    pub export_register: WattHours,
    /// How good it is.
    pub quality: Quality,
    /// How good its time is.
    pub clock_quality: ClockQuality,
    /// Serial number of the meter.
    pub serial: MeterSerial,
    /// Epoch of the meter: registers are never differenced across it.
    pub epoch: u32,
    /// Smallest step of the registers.
    pub quantum: WattHours,
    /// SHA-256 of the device profile that decoded them.
    pub profile_hash: [u8; 32],
}

impl ReadingRecord {
    /// The record of `reading`, accepted for `home`.
    pub(crate) fn new(home: Option<HomeId>, reading: &Reading) -> Self {
        Self {
            home,
            interval: reading.interval,
            import_register: reading.import_register,
            export_register: reading.export_register,
            quality: reading.quality,
            clock_quality: reading.clock_quality,
            serial: reading.serial.clone(),
            epoch: reading.meter_epoch,
            quantum: reading.quantum,
            profile_hash: reading.profile_hash,
        }
    }
}
