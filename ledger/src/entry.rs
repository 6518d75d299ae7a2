//! Entries: everything that happens, signed by who is answerable for it.
//!
//! An entry is public or sealed in the transparency tree by its kind ([`Body::is_sealed`]); its salt is part of its
//! signed bytes. What an entry may do is decided by the state machine; this module says what it is, what its bytes
//! are, and that it was signed: [`SignedEntry::verify`] is the only way to a [`VerifiedEntry`].

use ed25519_dalek::SigningKey;
use energy::{Balance, HomeId, Interval, NodeId, Price, Reading, WattHours};
use market::{Metered, Side};

use crate::assurance::{AssuranceStatement, MeterEvidence};
use crate::codec::{
    CodecError, Decode, Encode, Reader, decode_list, decode_text, encode_list, encode_text, record,
};
use crate::crypto::{Hash32, PublicKey, Salt, Signature};
use crate::delegation::TermKeys;
use crate::election::Ballot;
use crate::evidence::Evidence;
use crate::genesis::INTERVAL_ENERGY_MAX;
use crate::meter::{MeterExchange, MeterRegistration};
pub use crate::signed::{SignatureError, SignedEntry, VerifiedEntry};

/// The longest signed entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 4096;
/// The most signatures on one entry: the author, three roles and 31 delegates.
pub const SIGNATURES_MAX: usize = 35;
/// The most intervals one tariff series covers: two days of 15 minutes fit the size limit.
pub const TARIFF_POINTS_MAX: usize = 192;
/// The longest free text (payment references, owners' names), in bytes.
pub const TEXT_MAX: usize = 64;

/// Which chain signatures are for: its genesis hash and how often it was recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Hash of the genesis file's canonical form.
    pub id: Hash32,
    /// Counts recoveries from the loss of too many delegates.
    pub recovery: u32,
}

record!(Chain { id, recovery });

impl Chain {
    /// What is signed: `commonwatt/<kind>/v1`, this chain, then `body`. Never the same bytes for two kinds or two chains.
    #[must_use]
    pub fn signing_bytes(&self, kind: &str, body: &[u8]) -> Vec<u8> {
        self.versioned_signing_bytes(kind, 1, body)
    }

    /// The same for a format that has changed: `commonwatt/<kind>/v<version>`.
    fn versioned_signing_bytes(&self, kind: &str, version: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len().saturating_add(72));
        encode_text(&format!("commonwatt/{kind}/v{version}"), &mut out);
        self.encode(&mut out);
        out.extend_from_slice(body);
        out
    }
}

/// Hash that names a signed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub Hash32);

record!(EntryId { 0 });

impl std::fmt::Display for EntryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers strictly increase per signer and stream, so that a delayed reading does not hold up an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stream {
    /// Meter readings.
    Readings = 0,
    /// Orders and cancels.
    Orders = 1,
    /// All else.
    Rest = 2,
    /// Votes, candidacies, evidence about delegates, signals of rule versions: a node says these by itself, and must not use up the numbers of what
    /// its member has signed and others are still to countersign.
    Delegates = 3,
}

impl Encode for Stream {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for Stream {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        match u8::decode(reader)? {
            0 => Ok(Self::Readings),
            1 => Ok(Self::Orders),
            2 => Ok(Self::Rest),
            3 => Ok(Self::Delegates),
            _ => Err(CodecError::Invalid { what: "stream" }),
        }
    }
}

/// The keys of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberKeys {
    /// Signs limits, orders and everything the household decides.
    pub member: PublicKey,
    /// Signs readings.
    pub reading: PublicKey,
    /// The node's peer-to-peer identity.
    pub network: PublicKey,
}

record!(MemberKeys { member, reading, network });

/// The most a connection point takes and gives in one interval, as certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionSize {
    /// The most it takes.
    pub import: WattHours,
    /// The most it gives.
    pub export: WattHours,
}

record!(ConnectionSize { import, export });

impl ConnectionSize {
    /// True if it is no more than any connection of a low-voltage network carries.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.import <= INTERVAL_ENERGY_MAX && self.export <= INTERVAL_ENERGY_MAX
    }
}

impl Default for ConnectionSize {
    /// What any connection of a low-voltage network carries.
    fn default() -> Self {
        Self { import: INTERVAL_ENERGY_MAX, export: INTERVAL_ENERGY_MAX }
    }
}

/// A home's part in sharing by keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participation {
    /// Its agreed share of the local generation under a static key, of 10 000.
    pub share_permyriad: u32,
    /// How much of what its meter shows takes part, of 1 000; the rest is its supplier's as always.
    pub permille: u32,
}

record!(Participation { share_permyriad, permille });

impl Participation {
    /// True if neither is more than all.
    #[must_use]
    pub const fn is_possible(&self) -> bool {
        self.share_permyriad <= 10_000 && self.permille <= 1000
    }
}

impl Default for Participation {
    /// With all of its energy, and no agreed share.
    fn default() -> Self {
        Self { share_permyriad: 0, permille: 1000 }
    }
}

/// Network fees of one edge in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeePoint {
    /// For energy that crosses it toward the root.
    pub up: Price,
    /// For energy that crosses it away from the root.
    pub down: Price,
}

record!(FeePoint { up, down });

/// What forward trading may send over one edge in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvelopePoint {
    /// Toward the root; `None`: as much as it likes.
    pub up: Option<WattHours>,
    /// Away from the root; `None`: as much as it likes.
    pub down: Option<WattHours>,
}

record!(EnvelopePoint { up, down });

/// A home as it is admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The home: one connection point.
    pub home: HomeId,
    /// Who owns it; all homes of one owner count together.
    pub owner: String,
    /// Where it is connected.
    pub node: NodeId,
    /// How much its connection carries.
    pub size: ConnectionSize,
    /// Its keys.
    pub keys: MemberKeys,
    /// Its meter.
    pub meter: MeterRegistration,
}

impl Encode for Admission {
    fn encode(&self, out: &mut Vec<u8>) {
        self.home.encode(out);
        encode_text(&self.owner, out);
        self.node.encode(out);
        self.size.encode(out);
        self.keys.encode(out);
        self.meter.encode(out);
    }
}

impl Decode for Admission {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            home: Decode::decode(reader)?,
            owner: decode_text(reader, "owner", TEXT_MAX)?,
            node: Decode::decode(reader)?,
            size: Decode::decode(reader)?,
            keys: Decode::decode(reader)?,
            meter: Decode::decode(reader)?,
        })
    }
}

/// The supplier's two prices in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TariffPoint {
    /// What a kWh from the supplier costs.
    pub import_price: Price,
    /// What the supplier pays for a kWh.
    pub export_price: Price,
}

record!(TariffPoint { import_price, export_price });

/// Price limits a home sets once: it sits out of neighbour matching beyond them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StandingLimits {
    /// Sells to neighbours at no less; `None`: at whatever beats its supplier.
    pub min_sell: Option<Price>,
    /// Buys from neighbours at no more.
    pub max_buy: Option<Price>,
}

record!(StandingLimits { min_sell, max_buy });

/// A home's own supply contract: its prices replace the community tariff for its baseline and supplier leg.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnContract {
    /// Instead of the community's import price.
    pub import_price: Option<Price>,
    /// Instead of the community's export price.
    pub export_price: Option<Price>,
}

record!(OwnContract { import_price, export_price });

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A home's meter at an interval's end. Signed by its reading key.
    Reading {
        /// Whose meter; `None`: the root meter of the community.
        home: Option<HomeId>,
        /// What it showed.
        reading: Reading,
    },
    /// Price limits, from the first interval that starts after the block. Signed by the member.
    StandingLimits {
        /// Whose.
        home: HomeId,
        /// The limits.
        limits: StandingLimits,
    },
    /// A supply contract of its own, from the first interval that starts after the block. Signed by the member and the
    /// operator, since it moves the supplier's money.
    OwnContract {
        /// Whose.
        home: HomeId,
        /// The prices.
        contract: OwnContract,
    },
    /// Supplier prices of consecutive intervals. Signed by the operator; outside the caps or with less than an hour's
    /// notice also by treasurer or auditor.
    TariffSeries {
        /// The first interval.
        from: Interval,
        /// One point an interval.
        points: Vec<TariffPoint>,
    },
    /// A new member. Signed by the operator, and by more than half as many delegates of this epoch or the two before as there
    /// are seats, with their member keys.
    Admission(Admission),
    /// Another meter, or the same one after a reset, from the next reading. Signed by the member and the operator; for the
    /// root meter by the operator and the auditor.
    MeterRegistration {
        /// Whose; `None`: the root meter of the community.
        home: Option<HomeId>,
        /// The meter.
        meter: MeterRegistration,
        /// Where the old one ended and this one began; without it the first reading is a baseline only, and what was
        /// metered between the two meters' readings is settled by nobody.
        exchange: Option<MeterExchange>,
    },
    /// New keys for a member. Signed by its present member key.
    KeyRotation {
        /// Whose.
        home: HomeId,
        /// The keys that replace the present ones.
        keys: MemberKeys,
    },
    /// A settled interval was metered wrongly. Signed by the member or the metering operator, and the operator.
    Correction {
        /// Whose.
        home: HomeId,
        /// Which interval.
        interval: Interval,
        /// Right import minus settled import, Wh.
        import_delta: i64,
        /// Right export minus settled export, Wh.
        export_delta: i64,
    },
    /// Money arrived at the bank. Signed by the treasurer; above the genesis limit also by the auditor.
    Deposit {
        /// Whose; `None`: the supplier's.
        home: Option<HomeId>,
        /// How much, above zero.
        amount: Balance,
        /// The bank's reference.
        reference: String,
    },
    /// Money is paid out. Signed by the treasurer and the member (for the supplier: the operator); above the genesis
    /// limit also by the auditor.
    Withdrawal {
        /// Whose; `None`: the supplier's.
        home: Option<HomeId>,
        /// How much, above zero.
        amount: Balance,
        /// The bank's reference.
        reference: String,
    },
    /// The community's bank account as of today. Signed by treasurer and auditor.
    BankBalance {
        /// What stands on it.
        amount: Balance,
    },
    /// A forward order. Signed by the member.
    Order(Order),
    /// Takes an open order back. Signed by the member.
    Cancel {
        /// Whose.
        home: HomeId,
        /// The order.
        order: EntryId,
    },
    /// What a home can say of its meter beside its registers. Signed by its reading key, at most once a market day.
    MeterEvidence(MeterEvidence),
    /// How far meters can be believed. Signed by the root meter's key, the only meter that is no home's own.
    AssuranceStatement(AssuranceStatement),
    /// Network fees of one edge in consecutive intervals. Signed by the operator, with the rules of a tariff series.
    NetworkFees {
        /// The node whose edge to its parent it is.
        node: NodeId,
        /// The first interval.
        from: Interval,
        /// One point an interval.
        points: Vec<FeePoint>,
    },
    /// What forward trading may send over one edge in consecutive intervals. Signed by the operator.
    Envelope {
        /// The node whose edge to its parent it is.
        node: NodeId,
        /// The first interval.
        from: Interval,
        /// One point an interval.
        points: Vec<EnvelopePoint>,
    },
    /// What one connection may carry in consecutive intervals with its flexible devices on. Signed by the operator.
    ConnectionCap {
        /// Whose.
        home: HomeId,
        /// The first interval.
        from: Interval,
        /// One point an interval.
        points: Vec<ConnectionSize>,
    },
    /// What the metering operator metered in consecutive intervals. Signed by the metering operator.
    OperatorReading {
        /// Whose.
        home: HomeId,
        /// The first interval.
        from: Interval,
        /// Energy of one interval each.
        points: Vec<Metered>,
    },
    /// A home's part in sharing by keys, from an interval on. Signed by the member and the operator.
    ParticipationChange {
        /// Whose.
        home: HomeId,
        /// The first interval.
        from: Interval,
        /// Its part.
        participation: Participation,
    },
    /// A member leaves. Signed by the member and the operator.
    Departure {
        /// Whose.
        home: HomeId,
        /// The first interval in which it is none.
        from: Interval,
    },
    /// Who should be delegates, in a member's eyes. Signed by the member.
    Vote {
        /// Whose.
        home: HomeId,
        /// Whom it approves or follows.
        ballot: Ballot,
    },
    /// A member stands for the coming term, or for none until it says otherwise. Signed by the member and, where it stands, by
    /// both new keys.
    Candidacy {
        /// Whose.
        home: HomeId,
        /// The coming term.
        term: u32,
        /// Its keys for that term; `None`: it does not stand.
        keys: Option<TermKeys>,
    },
    /// Proof that a delegate contradicted itself. Signed by any member.
    Misbehaviour(Evidence),
    /// The highest version of the rules that a member's node can run. Signed by the member.
    RuleSignal {
        /// Whose.
        home: HomeId,
        /// The version.
        version: u16,
    },
}

/// A forward order for one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Whose.
    pub home: HomeId,
    /// Delivery.
    pub interval: Interval,
    /// Buy or sell.
    pub side: Side,
    /// Limit price.
    pub price: Price,
    /// How much.
    pub quantity: WattHours,
    /// The open order it takes the place of.
    pub replaces: Option<EntryId>,
}

record!(Order { home, interval, side, price, quantity, replaces });

impl Encode for Side {
    fn encode(&self, out: &mut Vec<u8>) {
        matches!(self, Self::Sell).encode(out);
    }
}

impl Decode for Side {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(if bool::decode(reader)? { Self::Sell } else { Self::Buy })
    }
}

impl Body {
    /// The word for this kind; also the domain its signature is separated by.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Reading { .. } => "reading",
            Self::StandingLimits { .. } => "standing-limits",
            Self::OwnContract { .. } => "own-contract",
            Self::TariffSeries { .. } => "tariff-series",
            Self::Admission(_) => "admission",
            Self::MeterRegistration { .. } => "meter-registration",
            Self::KeyRotation { .. } => "key-rotation",
            Self::Correction { .. } => "correction",
            Self::Deposit { .. } => "deposit",
            Self::Withdrawal { .. } => "withdrawal",
            Self::BankBalance { .. } => "bank-balance",
            Self::Order(_) => "order",
            Self::Cancel { .. } => "cancel",
            Self::MeterEvidence(_) => "meter-evidence",
            Self::AssuranceStatement(_) => "assurance-statement",
            Self::NetworkFees { .. } => "network-fees",
            Self::Envelope { .. } => "envelope",
            Self::ConnectionCap { .. } => "connection-cap",
            Self::OperatorReading { .. } => "operator-reading",
            Self::ParticipationChange { .. } => "participation-change",
            Self::Departure { .. } => "departure",
            Self::Vote { .. } => "ballot",
            Self::Candidacy { .. } => "candidacy",
            Self::Misbehaviour(_) => "misbehaviour",
            Self::RuleSignal { .. } => "rule-signal",
        }
    }

    /// The version of this kind's format; the other part of its signature's domain.
    #[must_use]
    pub const fn version(&self) -> u8 {
        match self {
            // 2: of the root meter too, and with the registers at the exchange.
            Self::MeterRegistration { .. } => 2,
            // 2: with the size of the connection.
            Self::Admission(_) => 2,
            _ => 1,
        }
    }

    /// Which numbers it counts in.
    #[must_use]
    pub const fn stream(&self) -> Stream {
        match self {
            Self::Reading { .. } | Self::OperatorReading { .. } => Stream::Readings,
            Self::Order(_) | Self::Cancel { .. } => Stream::Orders,
            Self::Vote { .. } | Self::Candidacy { .. } | Self::Misbehaviour(_) | Self::RuleSignal { .. } => {
                Stream::Delegates
            }
            _ => Stream::Rest,
        }
    }

    /// True where the tree holds only a salted commitment: everything about a person, home, meter or account. The root
    /// meter's readings too: they are a total that the anonymity rule of outcomes may hide.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        !matches!(
            self,
            Self::TariffSeries { .. }
                | Self::BankBalance { .. }
                | Self::NetworkFees { .. }
                | Self::Envelope { .. }
                | Self::Candidacy { .. }
                | Self::Misbehaviour(_)
        )
    }

    /// The home it is about.
    #[must_use]
    pub const fn home(&self) -> Option<&HomeId> {
        match self {
            Self::Reading { home, .. }
            | Self::MeterRegistration { home, .. }
            | Self::Deposit { home, .. }
            | Self::Withdrawal { home, .. } => home.as_ref(),
            Self::StandingLimits { home, .. }
            | Self::OwnContract { home, .. }
            | Self::KeyRotation { home, .. }
            | Self::Correction { home, .. }
            | Self::ConnectionCap { home, .. }
            | Self::OperatorReading { home, .. }
            | Self::ParticipationChange { home, .. }
            | Self::Departure { home, .. }
            | Self::Vote { home, .. }
            | Self::Candidacy { home, .. }
            | Self::RuleSignal { home, .. }
            | Self::Cancel { home, .. } => Some(home),
            Self::Admission(admission) => Some(&admission.home),
            Self::Order(order) => Some(&order.home),
            Self::MeterEvidence(evidence) => Some(&evidence.home),
            Self::TariffSeries { .. }
            | Self::BankBalance { .. }
            | Self::AssuranceStatement(_)
            | Self::NetworkFees { .. }
            | Self::Envelope { .. }
            | Self::Misbehaviour(_) => None,
        }
    }

    const fn code(&self) -> u8 {
        match self {
            Self::Reading { .. } => 1,
            Self::StandingLimits { .. } => 2,
            Self::OwnContract { .. } => 3,
            Self::TariffSeries { .. } => 4,
            Self::Admission(_) => 5,
            Self::MeterRegistration { .. } => 6,
            Self::KeyRotation { .. } => 7,
            Self::Correction { .. } => 8,
            Self::Deposit { .. } => 9,
            Self::Withdrawal { .. } => 10,
            Self::BankBalance { .. } => 11,
            Self::Order(_) => 12,
            Self::Cancel { .. } => 13,
            Self::MeterEvidence(_) => 14,
            Self::AssuranceStatement(_) => 15,
            Self::NetworkFees { .. } => 16,
            Self::Envelope { .. } => 17,
            Self::ConnectionCap { .. } => 18,
            Self::OperatorReading { .. } => 19,
            Self::ParticipationChange { .. } => 20,
            Self::Departure { .. } => 21,
            Self::Vote { .. } => 22,
            Self::Candidacy { .. } => 23,
            Self::Misbehaviour(_) => 24,
            Self::RuleSignal { .. } => 25,
        }
    }
}

impl Encode for Body {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code());
        match self {
            Self::Reading { home, reading } => {
                home.encode(out);
                reading.encode(out);
            }
            Self::StandingLimits { home, limits } => {
                home.encode(out);
                limits.encode(out);
            }
            Self::OwnContract { home, contract } => {
                home.encode(out);
                contract.encode(out);
            }
            Self::TariffSeries { from, points } => {
                from.encode(out);
                encode_list(points, out);
            }
            Self::Admission(admission) => admission.encode(out),
            Self::MeterRegistration { home, meter, exchange } => {
                home.encode(out);
                meter.encode(out);
                exchange.encode(out);
            }
            Self::KeyRotation { home, keys } => {
                home.encode(out);
                keys.encode(out);
            }
            Self::Correction { home, interval, import_delta, export_delta } => {
                home.encode(out);
                interval.encode(out);
                import_delta.encode(out);
                export_delta.encode(out);
            }
            Self::Deposit { home, amount, reference } | Self::Withdrawal { home, amount, reference } => {
                home.encode(out);
                amount.encode(out);
                encode_text(reference, out);
            }
            Self::BankBalance { amount } => amount.encode(out),
            Self::Order(order) => order.encode(out),
            Self::Cancel { home, order } => {
                home.encode(out);
                order.encode(out);
            }
            Self::MeterEvidence(evidence) => evidence.encode(out),
            Self::AssuranceStatement(statement) => statement.encode(out),
            Self::NetworkFees { node, from, points } => encode_series(node, from, points, out),
            Self::Envelope { node, from, points } => encode_series(node, from, points, out),
            Self::ConnectionCap { home, from, points } => encode_series(home, from, points, out),
            Self::OperatorReading { home, from, points } => encode_series(home, from, points, out),
            Self::ParticipationChange { home, from, participation } => {
                home.encode(out);
                from.encode(out);
                participation.encode(out);
            }
            Self::Departure { home, from } => {
                home.encode(out);
                from.encode(out);
            }
            Self::Vote { home, ballot } => {
                home.encode(out);
                ballot.encode(out);
            }
            Self::Candidacy { home, term, keys } => {
                home.encode(out);
                term.encode(out);
                keys.encode(out);
            }
            Self::Misbehaviour(evidence) => evidence.encode(out),
            Self::RuleSignal { home, version } => {
                home.encode(out);
                version.encode(out);
            }
        }
    }
}

fn encode_series<Of: Encode, T: Encode>(of: &Of, from: &Interval, points: &[T], out: &mut Vec<u8>) {
    of.encode(out);
    from.encode(out);
    encode_list(points, out);
}

fn decode_series<Of: Decode, T: Decode>(
    r: &mut Reader<'_>,
    what: &'static str,
) -> Result<(Of, Interval, Vec<T>), CodecError> {
    Ok((Decode::decode(r)?, Decode::decode(r)?, decode_list(r, what, TARIFF_POINTS_MAX)?))
}

impl Decode for Body {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match u8::decode(r)? {
            1 => Self::Reading { home: Decode::decode(r)?, reading: Decode::decode(r)? },
            2 => Self::StandingLimits { home: Decode::decode(r)?, limits: Decode::decode(r)? },
            3 => Self::OwnContract { home: Decode::decode(r)?, contract: Decode::decode(r)? },
            4 => Self::TariffSeries {
                from: Decode::decode(r)?,
                points: decode_list(r, "tariff points", TARIFF_POINTS_MAX)?,
            },
            5 => Self::Admission(Decode::decode(r)?),
            6 => Self::MeterRegistration {
                home: Decode::decode(r)?,
                meter: Decode::decode(r)?,
                exchange: Decode::decode(r)?,
            },
            7 => Self::KeyRotation { home: Decode::decode(r)?, keys: Decode::decode(r)? },
            8 => Self::Correction {
                home: Decode::decode(r)?,
                interval: Decode::decode(r)?,
                import_delta: Decode::decode(r)?,
                export_delta: Decode::decode(r)?,
            },
            9 => Self::Deposit {
                home: Decode::decode(r)?,
                amount: Decode::decode(r)?,
                reference: decode_text(r, "reference", TEXT_MAX)?,
            },
            10 => Self::Withdrawal {
                home: Decode::decode(r)?,
                amount: Decode::decode(r)?,
                reference: decode_text(r, "reference", TEXT_MAX)?,
            },
            11 => Self::BankBalance { amount: Decode::decode(r)? },
            12 => Self::Order(Decode::decode(r)?),
            13 => Self::Cancel { home: Decode::decode(r)?, order: Decode::decode(r)? },
            14 => Self::MeterEvidence(Decode::decode(r)?),
            15 => Self::AssuranceStatement(Decode::decode(r)?),
            16 => {
                let (node, from, points) = decode_series(r, "fee points")?;
                Self::NetworkFees { node, from, points }
            }
            17 => {
                let (node, from, points) = decode_series(r, "envelope points")?;
                Self::Envelope { node, from, points }
            }
            18 => {
                let (home, from, points) = decode_series(r, "cap points")?;
                Self::ConnectionCap { home, from, points }
            }
            19 => {
                let (home, from, points) = decode_series(r, "metered points")?;
                Self::OperatorReading { home, from, points }
            }
            20 => Self::ParticipationChange {
                home: Decode::decode(r)?,
                from: Decode::decode(r)?,
                participation: Decode::decode(r)?,
            },
            21 => Self::Departure { home: Decode::decode(r)?, from: Decode::decode(r)? },
            22 => Self::Vote { home: Decode::decode(r)?, ballot: Decode::decode(r)? },
            23 => Self::Candidacy {
                home: Decode::decode(r)?,
                term: Decode::decode(r)?,
                keys: Decode::decode(r)?,
            },
            24 => Self::Misbehaviour(Decode::decode(r)?),
            25 => Self::RuleSignal { home: Decode::decode(r)?, version: Decode::decode(r)? },
            _ => return Err(CodecError::Invalid { what: "entry kind" }),
        })
    }
}

/// One entry before it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key of its author.
    pub signer: PublicKey,
    /// Larger than every number of this signer and stream that is on the ledger.
    pub number: u64,
    /// Fresh random bytes; hide a sealed body.
    pub salt: Salt,
    /// What it says.
    pub body: Body,
}

record!(Entry { signer, number, salt, body });

impl Entry {
    /// What its author and countersigners sign: the domain of its kind and format, the chain, its canonical bytes.
    #[must_use]
    pub fn signing_bytes(&self, chain: &Chain) -> Vec<u8> {
        chain.versioned_signing_bytes(self.body.kind(), self.body.version(), &self.to_bytes())
    }

    /// Signs as its author. `key` must belong to `signer`, else nobody accepts the result.
    #[must_use]
    pub fn sign(self, chain: &Chain, key: &SigningKey) -> SignedEntry {
        let signature = Signature::sign(key, &self.signing_bytes(chain));
        SignedEntry { signatures: vec![(self.signer, signature)], entry: self }
    }
}
