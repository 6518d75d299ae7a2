//! The first state of a chain: who belongs to it, who may sign what, and the rules it starts with.

use std::collections::BTreeSet;

use energy::{Balance, HomeId, MeterSerial, Money, Mtu, Price, Timestamp, WattHours};
use market::{Division, Losses, Network, NetworkError, NodeSpec, Sharing, SupplierLeg, Unused};

use crate::block::{Delegate, DelegateSet};
use crate::codec::{Encode, encode_list, encode_text, record};
use crate::crypto::{Hash32, PublicKey};
use crate::delegation::{EPOCH_HEIGHTS, EPOCH_MS};
use crate::entry::{Admission, Chain, Participation, TEXT_MAX, TariffPoint};
use crate::fees::is_dear;
use crate::meter::MeterRegistration;

/// The most energy a connection takes or gives in one interval: 1 MWh. A low-voltage transformer has 1 MVA at the most, so
/// even an interval of an hour cannot hold more; bounded, so that no reading and no order can break a settlement.
pub const INTERVAL_ENERGY_MAX: WattHours = WattHours::new(1_000_000);
/// The most money on all accounts: 4 billion of the currency, so that no account can leave its 64 bits.
pub const MONEY_MAX: Balance = Balance::new(4_000_000_000_000_000_000);
/// The most credit a supplier can have: 1 billion of the currency.
pub const SUPPLIER_CREDIT_MAX: Balance = Balance::new(1_000_000_000_000_000_000);
/// The most credit a member can have where members pay by statement: 1 million of the currency, so that what all members
/// together spend on credit fits on one account beside all other money.
pub const MEMBER_CREDIT_MAX: Balance = Balance::new(1_000_000_000_000_000);
/// The most members a chain can have.
pub const MEMBERS_MAX: usize = 1024;
/// The most nodes a network can have.
pub const NODES_MAX: usize = 4096;
/// An hour's notice before the first interval of an ordinary tariff series, in ms.
pub const TARIFF_NOTICE_MS: u64 = 3_600_000;
/// How far ahead tariffs and network fees are published at the most, ms: 62 days, so that any two months can be. What is published
/// is kept by every node, and where nothing is, the last prices of that time of day hold.
pub const PRICES_AHEAD_MS: u64 = 5_356_800_000;
/// How far ahead envelopes and caps of connections are published at the most, ms: 8 days, for they follow what is expected to
/// flow.
pub const LIMITS_AHEAD_MS: u64 = 691_200_000;
/// All agreed shares under a static key together: the whole local generation.
pub const SHARES_MAX: u32 = 10_000;
/// No price on the ledger is beyond this: 1 000 of the currency per kWh.
pub const PRICE_LIMIT: Price = Price::new(1_000_000_000);

/// A demo chain's accelerated clock: market time = `origin` + `speed` × (wall time − `wall_origin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoClock {
    /// Market time at `wall_origin`.
    pub origin: Timestamp,
    /// Wall time at which the chain starts.
    pub wall_origin: Timestamp,
    /// Market seconds per wall second, at least 1.
    pub speed: u32,
    /// How many intervals lie between two statements of assurance about a meter, at least: 1 to a market day. On every
    /// other chain it is a market day.
    pub assurance_every: u32,
    /// How many intervals an epoch lasts, at least, and how many blocks: 1 to the intervals of a market day. On every other
    /// chain it is a market day and 96 blocks.
    pub epoch_every: u32,
}

record!(DemoClock { origin, wall_origin, speed, assurance_every, epoch_every });

/// Bounds outside which a tariff or deposit needs a second signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Lowest ordinary price, import or export.
    pub price_min: Price,
    /// Highest ordinary price, import or export.
    pub price_max: Price,
    /// The most a treasurer moves alone in one deposit or withdrawal.
    pub transfer_max: Balance,
}

record!(Caps { price_min, price_max, transfer_max });

/// Keys of those who answer for the community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Publishes tariffs, attests members and meters.
    pub operator: PublicKey,
    /// Attests deposits and withdrawals.
    pub treasurer: PublicKey,
    /// Second signature where caps are exceeded.
    pub auditor: PublicKey,
    /// Keeps records for others, and stands in where operator or auditor cannot sign a recovery.
    pub trustee: Option<PublicKey>,
    /// Reads and corrects in place of the homes, where law gives it to one.
    pub metering_operator: Option<PublicKey>,
}

record!(Roles { operator, treasurer, auditor, trustee, metering_operator });

/// A home admitted at the start, with what it has paid in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisMember {
    /// As if admitted by an entry.
    pub admission: Admission,
    /// Its part in sharing by keys.
    pub participation: Participation,
    /// Treasurer's deposit.
    pub deposit: Balance,
}

record!(GenesisMember { admission, participation, deposit });

/// The meter at the transformer, if the community has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootMeter {
    /// Signs its readings.
    pub key: PublicKey,
    /// Its serial number.
    pub serial: MeterSerial,
    /// SHA-256 of its device profile.
    pub profile_hash: [u8; 32],
    /// Smallest step of its registers.
    pub quantum: WattHours,
}

record!(RootMeter { key, serial, profile_hash, quantum });

impl RootMeter {
    /// The meter the chain starts with, as if registered.
    #[must_use]
    pub fn registration(&self) -> MeterRegistration {
        let Self { serial, profile_hash, quantum, .. } = self.clone();
        MeterRegistration { serial, epoch: 0, profile_hash, quantum }
    }
}

/// Whether and how energy is traded before delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Forward {
    /// Not at all: neighbours match after metering.
    Off = 0,
    /// One sealed auction per interval at its gate.
    Auction = 1,
    /// Orders that admit the middle of the supplier's prices are matched there at the gate, nearest first: a single order
    /// cannot move that price, so it fits a small community.
    Posted = 2,
}

impl Encode for Forward {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

/// How members pay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MoneyMode {
    /// From what they paid in before: no account ever goes below zero.
    #[default]
    Prepaid,
    /// After the month, by a statement of the billing party, where prepayment is not allowed: an account may go below zero by
    /// the member's credit limit.
    Statement {
        /// How far, above zero.
        credit: Balance,
    },
}

impl MoneyMode {
    /// How far a member's account may go below zero.
    #[must_use]
    pub const fn credit(self) -> Balance {
        match self {
            Self::Prepaid => Balance::ZERO,
            Self::Statement { credit } => credit,
        }
    }
}

impl Encode for MoneyMode {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Prepaid => out.push(0),
            Self::Statement { credit } => {
                out.push(1);
                credit.encode(out);
            }
        }
    }
}

/// Whose readings are settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ReadingSource {
    /// The homes' own nodes.
    #[default]
    Node = 0,
    /// The metering operator's, where law gives metering to one; the nodes' own readings give a provisional result.
    MeteringOperator = 1,
}

impl Encode for ReadingSource {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

/// What a member's vote for delegates counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Stake {
    /// One share for each home.
    #[default]
    Membership = 0,
    /// One share for the home, and up to four more by what it metered in 90 days: 1 + min(4, ⌊log₂(1 + kWh / 50)⌋).
    Certified = 1,
}

impl Encode for Stake {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

/// Who holds the bodies of entries and results. Everybody holds all leaves, what is public and what is their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Replicas {
    /// Every member, with the members' consent.
    #[default]
    All,
    /// The delegates, those who stand by first, and these homes, whose nodes are the operator's and the auditor's.
    Delegates {
        /// Members that always hold them.
        holders: Vec<HomeId>,
    },
}

impl Encode for Replicas {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::All => out.push(0),
            Self::Delegates { holders } => {
                out.push(1);
                encode_list(holders, out);
            }
        }
    }
}

/// The share of an edge's rating that forward trading may use in one interval where the operator published no envelope, in
/// thousandths, if genesis does not say.
pub const ENVELOPE_PERMILLE: u32 = 500;

/// How the market works beside its forward trading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarketTerms {
    /// The share of an edge's rating that forward trading may use where no envelope is published, 0 to 1 000 thousandths.
    pub envelope_permille: u32,
    /// How members pay.
    pub money: MoneyMode,
    /// Whose readings are settled.
    pub reading_source: ReadingSource,
    /// How metered energy is shared.
    pub sharing: Sharing,
    /// Whether the community pays for what the network loses. Only where every connection under the root meter is a member's.
    pub losses: Losses,
}

impl Default for MarketTerms {
    fn default() -> Self {
        Self {
            envelope_permille: ENVELOPE_PERMILLE,
            money: MoneyMode::default(),
            reading_source: ReadingSource::default(),
            sharing: Sharing::Neighbour,
            losses: Losses::Recorded,
        }
    }
}

impl Encode for MarketTerms {
    fn encode(&self, out: &mut Vec<u8>) {
        self.envelope_permille.encode(out);
        self.money.encode(out);
        self.reading_source.encode(out);
        self.sharing.encode(out);
        matches!(self.losses, Losses::Community).encode(out);
    }
}

impl Encode for Sharing {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Neighbour => out.push(0),
            Self::StaticKey { price, unused } => {
                out.push(1);
                price.encode(out);
                matches!(unused, Unused::PassedOn).encode(out);
            }
            Self::DynamicKey { price } => {
                out.push(2);
                price.encode(out);
            }
            Self::Incentive { payment, division } => {
                out.push(3);
                payment.encode(out);
                out.push(match division {
                    Division::Producers => 0,
                    Division::Consumers => 1,
                    Division::Halves => 2,
                });
            }
        }
    }
}

/// Everything a chain starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// Name of the community.
    pub name: String,
    /// Length of an interval.
    pub mtu: Mtu,
    /// ISO 4217 code of the money.
    pub currency: String,
    /// Time of the genesis block.
    pub start: Timestamp,
    /// Present on a demo chain only.
    pub clock: Option<DemoClock>,
    /// Readings of an interval are awaited this long after its end, in ms (15 min … 5 days).
    pub due_after_ms: u64,
    /// Forward trading.
    pub forward: Forward,
    /// The market's other terms.
    pub market: MarketTerms,
    /// Whether the supplier leg moves money on the ledger.
    pub supplier_leg: SupplierLeg,
    /// How far below zero the supplier's account may go.
    pub supplier_credit: Balance,
    /// The network tree.
    pub network: Vec<NodeSpec>,
    /// Supplier prices until a tariff series says otherwise.
    pub tariff: TariffPoint,
    /// Bounds.
    pub caps: Caps,
    /// Keys of the roles.
    pub roles: Roles,
    /// The meter at the transformer.
    pub root_meter: Option<RootMeter>,
    /// The founding homes.
    pub members: Vec<GenesisMember>,
    /// The first delegates.
    pub delegates: Vec<Delegate>,
    /// What a vote for the later ones counts.
    pub stake: Stake,
    /// Who holds all bodies.
    pub replicas: Replicas,
}

impl Genesis {
    /// Checks everything that must hold.
    ///
    /// # Errors
    /// [`GenesisError`]: the first fault, named.
    pub fn validate(&self) -> Result<Network, GenesisError> {
        self.validate_terms()?;
        self.validate_market()?;
        self.validate_roles()?;
        if self.network.len() > NODES_MAX {
            return Err(GenesisError::TooMany { what: "network nodes", max: NODES_MAX });
        }
        let network = Network::new(&self.network)?;
        if is_dear(&network) {
            return Err(GenesisError::Term {
                what: "the network fees of a path add up to more than 1 000 per kWh",
            });
        }
        self.validate_members(&network)?;
        self.validate_holders()?;
        self.delegate_set()?;
        Ok(network)
    }

    fn validate_terms(&self) -> Result<(), GenesisError> {
        let fault = |what: &'static str| Err(GenesisError::Term { what });
        if self.name.is_empty() || self.name.len() > 64 {
            return fault("name must have 1 to 64 bytes");
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|letter| letter.is_ascii_uppercase()) {
            return fault("currency must be an ISO 4217 code such as CNY");
        }
        if !(900_000..=432_000_000).contains(&self.due_after_ms) {
            return fault("due_after must lie between 15 minutes and 5 days");
        }
        let within = |price: Price| (self.caps.price_min..=self.caps.price_max).contains(&price);
        let bounded = Price::new(PRICE_LIMIT.get().saturating_neg()) <= self.caps.price_min
            && self.caps.price_max <= PRICE_LIMIT;
        if !bounded || self.caps.price_min > self.caps.price_max {
            return fault("caps.price_min and caps.price_max must be in order and within 1 000 per kWh");
        }
        if !within(self.tariff.import_price) || !within(self.tariff.export_price) {
            return fault("the tariff lies outside caps.price_min and caps.price_max");
        }
        if self.tariff.import_price < self.tariff.export_price {
            return fault("the tariff's import_price is below its export_price");
        }
        if self.caps.transfer_max < Balance::ZERO {
            return fault("caps.transfer_max must not be negative");
        }
        if !(Balance::ZERO..=SUPPLIER_CREDIT_MAX).contains(&self.supplier_credit) {
            return fault("supplier_credit must lie between 0 and 1 billion of the currency");
        }
        if self.clock.is_some_and(|clock| clock.speed == 0) {
            return fault("clock.speed must be at least 1");
        }
        if self.clock.is_some_and(|clock| !(1..=self.mtu.per_day()).contains(&clock.assurance_every)) {
            return fault("clock.assurance_every must lie between 1 and the intervals of a day");
        }
        if self.clock.is_some_and(|clock| !(1..=self.mtu.per_day()).contains(&clock.epoch_every)) {
            return fault("clock.epoch_every must lie between 1 and the intervals of a day");
        }
        Ok(())
    }

    fn validate_market(&self) -> Result<(), GenesisError> {
        let fault = |what: &'static str| Err(GenesisError::Term { what });
        let terms = &self.market;
        if terms.envelope_permille > 1000 {
            return fault("market.envelope_permille must lie between 0 and 1000");
        }
        if let MoneyMode::Statement { credit } = terms.money
            && !(Balance::new(1)..=MEMBER_CREDIT_MAX).contains(&credit)
        {
            return fault("market.credit must lie between 1 n and 1 million of the currency");
        }
        if terms.reading_source == ReadingSource::MeteringOperator && self.roles.metering_operator.is_none() {
            return fault("market.reading_source is the metering operator, but roles names none");
        }
        let price = match terms.sharing {
            Sharing::Neighbour => Price::ZERO,
            Sharing::StaticKey { price, .. } | Sharing::DynamicKey { price } => price.unwrap_or(Price::ZERO),
            Sharing::Incentive { payment, .. } => payment,
        };
        if !(Price::ZERO..=PRICE_LIMIT).contains(&price) {
            return fault("market.sharing_price must lie between 0 and 1 000 per kWh");
        }
        if terms.losses == Losses::Community && self.root_meter.is_none() {
            return fault("market.losses are the community's, but there is no root_meter to find them with");
        }
        Ok(())
    }

    /// The keys of everybody who is not a home.
    pub(crate) fn role_keys(&self) -> impl Iterator<Item = PublicKey> {
        let Roles { operator, treasurer, auditor, trustee, metering_operator } = self.roles;
        let root_meter = self.root_meter.as_ref().map(|meter| meter.key);
        [operator, treasurer, auditor].into_iter().chain(trustee).chain(metering_operator).chain(root_meter)
    }

    /// A second signature means nothing if it is made with the first one's key.
    fn validate_roles(&self) -> Result<(), GenesisError> {
        let mut keys = BTreeSet::new();
        if self.role_keys().all(|key| keys.insert(key)) {
            Ok(())
        } else {
            Err(GenesisError::Term {
                what: "operator, treasurer, auditor, trustee, metering operator and root meter need different keys",
            })
        }
    }

    fn validate_members(&self, network: &Network) -> Result<(), GenesisError> {
        if self.members.len() > MEMBERS_MAX {
            return Err(GenesisError::TooMany { what: "members", max: MEMBERS_MAX });
        }
        let mut homes = BTreeSet::new();
        let mut serials: BTreeSet<_> = self.root_meter.iter().map(|meter| &meter.serial).collect();
        let mut keys: BTreeSet<PublicKey> = self.role_keys().collect();
        let mut deposits = Money::ZERO;
        let mut shares = 0u32;
        for member in &self.members {
            let admission = &member.admission;
            let home = admission.home.clone();
            let fault = |what| Err(GenesisError::Member { home: home.clone(), what });
            if !homes.insert(&admission.home) {
                return fault("stands twice");
            }
            if network.index_of(&admission.node).is_none() {
                return fault("is connected to a network node that does not exist");
            }
            if admission.owner.is_empty() || admission.owner.len() > TEXT_MAX {
                return fault("must name its owner in 1 to 64 bytes");
            }
            if !serials.insert(&admission.meter.serial) {
                return fault("has the meter serial of another home or of the root meter");
            }
            if !admission.size.is_possible() {
                return fault("has a connection of more than 1 MWh an interval");
            }
            if !member.participation.is_possible() {
                return fault("takes part with more than all of its energy or of the shared energy");
            }
            shares = shares.saturating_add(member.participation.share_permyriad);
            if shares > SHARES_MAX {
                return fault("has an agreed share with which all add up to more than 10 000");
            }
            if member.deposit < Balance::ZERO {
                return fault("has a negative deposit");
            }
            deposits = Money::sum([deposits, member.deposit.as_money()]).unwrap_or(MONEY_MAX.as_money());
            if deposits > MONEY_MAX.as_money() {
                return fault("has a deposit with which all add up to more than 4 billion of the currency");
            }
            let of_member = admission.keys;
            if ![of_member.member, of_member.reading, of_member.network]
                .into_iter()
                .all(|key| keys.insert(key))
            {
                return fault("uses a key that stands elsewhere");
            }
        }
        Ok(())
    }

    fn validate_holders(&self) -> Result<(), GenesisError> {
        let Replicas::Delegates { holders } = &self.replicas else { return Ok(()) };
        let mut known = BTreeSet::new();
        for home in holders {
            let fault = |what| Err(GenesisError::Member { home: home.clone(), what });
            if !self.members.iter().any(|member| member.admission.home == *home) {
                return fault("is a holder of all bodies but no member");
            }
            if !known.insert(home) {
                return fault("stands twice among the holders of all bodies");
            }
        }
        Ok(())
    }

    /// The first delegates as a set.
    ///
    /// # Errors
    /// [`GenesisError::Delegates`] or [`GenesisError::Member`] for one who is no member.
    pub fn delegate_set(&self) -> Result<DelegateSet, GenesisError> {
        for delegate in &self.delegates {
            if !self.members.iter().any(|member| member.admission.home == delegate.home) {
                return Err(GenesisError::Member {
                    home: delegate.home.clone(),
                    what: "is a delegate but no member",
                });
            }
        }
        DelegateSet::new(0, self.delegates.clone()).ok_or(GenesisError::Delegates)
    }

    /// How long an epoch lasts at least, in ms of market time.
    #[must_use]
    pub fn epoch_ms(&self) -> u64 {
        self.clock.map_or(EPOCH_MS, |clock| self.mtu.ms().saturating_mul(u64::from(clock.epoch_every)))
    }

    /// How many blocks it has at least.
    #[must_use]
    pub fn epoch_heights(&self) -> u64 {
        self.clock.map_or(EPOCH_HEIGHTS, |clock| u64::from(clock.epoch_every).min(EPOCH_HEIGHTS))
    }

    /// The chain this genesis founds.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain { id: Hash32::of(&[b"commonwatt/genesis/v2", &self.to_bytes()]), recovery: 0 }
    }
}

impl Encode for Genesis {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(&self.name, out);
        self.mtu.encode(out);
        encode_text(&self.currency, out);
        self.start.encode(out);
        self.clock.encode(out);
        self.due_after_ms.encode(out);
        self.forward.encode(out);
        self.market.encode(out);
        matches!(self.supplier_leg, SupplierLeg::Ledger).encode(out);
        self.supplier_credit.encode(out);
        encode_list(&self.network, out);
        self.tariff.encode(out);
        self.caps.encode(out);
        self.roles.encode(out);
        self.root_meter.encode(out);
        encode_list(&self.members, out);
        encode_list(&self.delegates, out);
        self.stake.encode(out);
        self.replicas.encode(out);
    }
}

impl Encode for NodeSpec {
    fn encode(&self, out: &mut Vec<u8>) {
        self.id.encode(out);
        self.parent.encode(out);
        self.fee_up.encode(out);
        self.fee_down.encode(out);
        self.up.encode(out);
        self.down.encode(out);
    }
}

/// What is wrong with a genesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// A term outside its bounds.
    #[error("{what}")]
    Term {
        /// Which, and what it must be.
        what: &'static str,
    },
    /// Over a limit.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The network is no tree.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A home that cannot be.
    #[error("home {home} {what}")]
    Member {
        /// The home.
        home: HomeId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Not a set of delegates.
    #[error("the delegates must be 1 to 31 homes with distinct consensus keys")]
    Delegates,
}
