//! Why the ledger refuses.

use energy::{Balance, HomeId, Interval, Money, NodeId, Price, Quality, QuantityError, Timestamp, WattHours};
use market::{MarketError, NetworkError};

use crate::block::{BlockId, CertificateError};
use crate::codec::CodecError;
use crate::crypto::{Hash32, PublicKey};
use crate::entry::Stream;
use crate::evidence::EvidenceError;
use crate::recovery::RecoveryError;

/// Why an entry cannot stand on the ledger, now or ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Its number, or a larger one, is already on the ledger: a replay, a double, or out of order.
    #[error(
        "number {number} of stream {stream:?} was used already; the next of this signer must be above {last}"
    )]
    NumberUsed {
        /// Its number.
        number: u64,
        /// The stream it counts in.
        stream: Stream,
        /// The largest on the ledger.
        last: u64,
    },
    /// The signer signed too much this hour.
    #[error("more than {max} entries of this signer within one hour")]
    Quota {
        /// The limit.
        max: u32,
    },
    /// A signature that the rules ask for is missing.
    #[error("a {kind} entry needs the signature of {needed}")]
    NotEntitled {
        /// Its kind.
        kind: &'static str,
        /// Who must sign.
        needed: &'static str,
    },
    /// No such member.
    #[error("home {home} is no member")]
    UnknownHome {
        /// The home named.
        home: HomeId,
    },
    /// Already there.
    #[error("home {home} is a member already")]
    AlreadyMember {
        /// The home named.
        home: HomeId,
    },
    /// A key that somebody uses, or used once.
    #[error("key {key} is or was in use by a member, delegate or role; make a new one")]
    KeyInUse {
        /// The key.
        key: PublicKey,
    },
    /// Something about it cannot be so.
    #[error("{what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// No such node in the network.
    #[error("the network has no node {node}")]
    UnknownNode {
        /// The node named.
        node: NodeId,
    },
    /// The interval counts in another market time unit.
    #[error("the interval's length differs from the community's")]
    WrongMtu,
    /// The reading is of a meter that is not registered here.
    #[error("{}", other_meter(found, registered))]
    OtherMeter {
        /// Serial and epoch in the reading.
        found: String,
        /// Serial and epoch on the ledger.
        registered: String,
    },
    /// The reading claims to be taken in the future.
    #[error("the interval ends at {end}, after the block's time {time}")]
    FromTheFuture {
        /// End of its interval.
        end: Timestamp,
        /// The block's time.
        time: Timestamp,
    },
    /// Only what the meter showed is settled on.
    #[error("a reading of quality {} is not settled on", quality.word())]
    Unusable {
        /// Its quality.
        quality: Quality,
    },
    /// Readings go forward in time.
    #[error("the meter was already read at the end of {last}; this reading is of {interval}")]
    OutOfOrder {
        /// Its interval.
        interval: Interval,
        /// The last one read.
        last: Interval,
    },
    /// Older than the chain.
    #[error("the reading of {interval} is older than the chain, which starts at {start}")]
    BeforeTheStart {
        /// Its interval.
        interval: Interval,
        /// Start of the chain.
        start: Timestamp,
    },
    /// Older than the prices the ledger remembers.
    #[error("{interval} is too old: prices are remembered from {oldest} on")]
    TooOld {
        /// The interval.
        interval: Interval,
        /// The first one remembered.
        oldest: Interval,
    },
    /// More energy than a connection of a low-voltage network carries: a wrong register map, a broken meter, or a lie.
    #[error(
        "the {register} register grew by {grown} where {max} are possible; if the meter was exchanged, register it first"
    )]
    Implausible {
        /// Import or export.
        register: &'static str,
        /// Since the last reading.
        grown: WattHours,
        /// The most that is possible in that time.
        max: WattHours,
    },
    /// The journal's records follow one another.
    #[error("record {number} does not continue the journal: {what}")]
    BrokenChain {
        /// Its record number.
        number: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A cumulative register fell: meter exchanged, reset, or a lie. Never clamped to zero.
    #[error(
        "the {register} register fell from {before} to {after}; if the meter was exchanged, register it first"
    )]
    RegisterFell {
        /// Import or export.
        register: &'static str,
        /// On the ledger.
        before: WattHours,
        /// In the reading.
        after: WattHours,
    },
    /// The old meter cannot have closed below what it was read at.
    #[error(
        "the old meter's closing {register} register is {closing}, below the {last} at which it was read before; give what \
         it showed last"
    )]
    ClosingFell {
        /// Import or export.
        register: &'static str,
        /// On the ledger.
        last: WattHours,
        /// In the registration.
        closing: WattHours,
    },
    /// The old meter closed further from its last reading than a connection carries.
    #[error(
        "the old meter's closing {register} register is {grown} above its last reading, where {max} are possible; give \
         what it showed last"
    )]
    ClosingImplausible {
        /// Import or export.
        register: &'static str,
        /// Since the last reading.
        grown: WattHours,
        /// The most that is possible in that time.
        max: WattHours,
    },
    /// The community has no meter at its transformer.
    #[error("the community has no root meter")]
    NoRootMeter,
    /// One piece of evidence a home and market day.
    #[error("evidence of the day of {from} or a later one is there already, from {last} on")]
    EvidenceGiven {
        /// Its first interval.
        from: Interval,
        /// That of the evidence on the ledger.
        last: Interval,
    },
    /// Levels are stated at most so often.
    #[error(
        "a level of {home} was stated as of {last}; the next statement is {every} intervals later or more"
    )]
    StatedLately {
        /// Whose.
        home: HomeId,
        /// As of then.
        last: Interval,
        /// The distance, in intervals.
        every: u64,
    },
    /// A price outside what the ledger can hold.
    #[error("the price lies beyond 1 000 per kWh")]
    PriceLimit,
    /// Tariffs are never changed backwards.
    #[error("the series starts at {from}, in the past of {time}")]
    Retroactive {
        /// Its first interval.
        from: Interval,
        /// The block's time.
        time: Timestamp,
    },
    /// An amount that is zero or negative.
    #[error("the amount must be above zero")]
    NoAmount,
    /// Not enough on the account.
    #[error("the account has {free} free, which does not cover {needed}")]
    NoFunds {
        /// What is free.
        free: Money,
        /// What it takes.
        needed: Money,
    },
    /// The bank does not cover what the accounts say.
    #[error("pay-outs are stopped: the accounts add up to {accounts}, the bank holds {bank}")]
    BankShort {
        /// Sum of the accounts.
        accounts: Money,
        /// Last attested.
        bank: Balance,
    },
    /// Only what was settled can be corrected.
    #[error("{interval} is not settled yet; a reading is enough")]
    NotSettled {
        /// The interval.
        interval: Interval,
    },
    /// Not yet, or no more.
    #[error("home {home} is no member in {interval}")]
    NoMemberIn {
        /// The home named.
        home: HomeId,
        /// The interval.
        interval: Interval,
    },
    /// What is read late settles at once, and a block takes only so much of that.
    #[error(
        "this block settles as many late readings as a block can; the same entry can stand in a later one"
    )]
    BlockFull,
    /// Only what was read can be corrected.
    #[error(
        "no reading of {home} in {interval} has come yet; nothing of it is settled that could be corrected, so wait for the \
         reading or deliver it"
    )]
    NotRead {
        /// The home named.
        home: HomeId,
        /// The interval.
        interval: Interval,
    },
    /// Each interval settles on one reading.
    #[error(
        "{interval} of {home} is settled on a reading already; what was wrong in it is corrected by a correction"
    )]
    SettledAlready {
        /// The home named.
        home: HomeId,
        /// The interval.
        interval: Interval,
    },
    /// Who delivers readings is written in the genesis.
    #[error(
        "this community settles on what its own nodes read (market.reading_source = \"node\"), not on a metering operator's \
         readings"
    )]
    OtherSource,
    /// More than all of the local generation would be given away.
    #[error(
        "the agreed shares would add up to {sum} of 10 000 from {from} on; another home must give up its part first"
    )]
    Shares {
        /// What they would come to.
        sum: u64,
        /// From when.
        from: Interval,
    },
    /// Fees that nobody could pay.
    #[error(
        "a network fee is at most {max} in this network, so that those of its longest path do not come to more than 1 000 per \
         kWh"
    )]
    FeeLimit {
        /// The limit.
        max: Price,
    },
    /// Money that was never paid in.
    #[error(
        "the accounts add up to {accounts}, which does not cover {needed}: it was never paid in; settle what is owed by a \
         deposit first"
    )]
    NotPaidIn {
        /// Sum of the accounts.
        accounts: Money,
        /// What was to be paid out.
        needed: Money,
    },
    /// This community does not trade forward.
    #[error("forward trading is off in this community")]
    ForwardOff,
    /// Too early, too late.
    #[error("orders for {interval} are taken from {opens} until before {gate}; this block's time is {time}")]
    GateClosed {
        /// Delivery.
        interval: Interval,
        /// First instant.
        opens: Timestamp,
        /// Gate closure.
        gate: Timestamp,
        /// The block's time.
        time: Timestamp,
    },
    /// What protects the network comes in time for the gate that it binds.
    #[error("the gate of {from} closed at {gate}; publish from a later interval on")]
    AfterGate {
        /// First interval of the series.
        from: Interval,
        /// Its gate closure.
        gate: Timestamp,
    },
    /// An order's limit that no supplier's price at its node could ask for.
    #[error(
        "the limit {price} lies outside {low} to {high}, the supplier's prices at this node with network fees; give one in \
         between"
    )]
    PriceBand {
        /// The limit.
        price: Price,
        /// What the supplier pays there.
        low: Price,
        /// What the supplier charges there.
        high: Price,
    },
    /// More than the connection carries.
    #[error(
        "the home's orders for this interval come to {asked}, but its connection carries {max}; order less"
    )]
    ConnectionLimit {
        /// All its open orders for the interval.
        asked: WattHours,
        /// Certified size, or the operator's cap in this interval.
        max: WattHours,
    },
    /// Out of the order limits.
    #[error("{what}")]
    OrderLimits {
        /// Which limit.
        what: &'static str,
    },
    /// More money than the ledger keeps.
    #[error("the deposits would add up to more than {max}")]
    TooMuchMoney {
        /// The limit.
        max: Balance,
    },
    /// No such open order of this home.
    #[error("there is no such open order of this home")]
    NoSuchOrder,
    /// An amount beyond what the ledger can hold.
    #[error("an amount is out of range: {0}")]
    Quantity(#[from] QuantityError),
    /// The market could not compute.
    #[error("the market refused: {0}")]
    Market(#[from] MarketError),
    /// Candidates stand for the next term and no other.
    #[error(
        "the candidacy is for term {term}, but the next election is for term {coming}; stand for that one"
    )]
    OtherTerm {
        /// In the candidacy.
        term: u32,
        /// The one to come.
        coming: u32,
    },
    /// A delegate of its owner contradicted itself.
    #[error(
        "home {home} is barred from being a delegate until {until}: one of its owner's contradicted itself"
    )]
    Barred {
        /// The home named.
        home: HomeId,
        /// Until then.
        until: Timestamp,
    },
    /// Evidence that proves nothing that counts.
    #[error("the evidence is refused: {0}")]
    Evidence(#[from] EvidenceError),
    /// Limits or fees that the network cannot have.
    #[error("the network refused: {0}")]
    Network(#[from] NetworkError),
}

/// Why a reading is not of the meter that is registered; alike in serial number and epoch, only the profile differs.
fn other_meter(found: &str, registered: &str) -> String {
    if found == registered {
        return format!(
            "meter {found} was read with another device profile than it is registered with; register the meter again"
        );
    }
    format!("the reading is of meter {found}, but {registered} is registered; register the new meter first")
}

/// Why a block cannot follow the present state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It belongs to another chain or another place in it.
    #[error("block at height {height} does not follow: {what}")]
    DoesNotFollow {
        /// Its height.
        height: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// What it gives as the certificate of its parent is none.
    #[error("the certificate of the block before does not hold: {0}")]
    LastCommit(#[from] CertificateError),
    /// Beyond the block limits.
    #[error("the block is over the limit of entries or bytes")]
    TooLarge,
    /// An entry that is not valid there.
    #[error("entry {position} is not valid: {error}")]
    Entry {
        /// Its position.
        position: usize,
        /// Why.
        error: EntryError,
    },
    /// The community went over to rules that this program does not have.
    #[error(
        "block {height} is made by rules {needed}, this program has rules up to {known}: update it. Until then it reads its meter \
         on and keeps the readings in its journal"
    )]
    UnknownRules {
        /// Height of the block.
        height: u64,
        /// Its rules.
        needed: u16,
        /// The highest that this program has.
        known: u16,
    },
    /// The header commits to other results.
    #[error("{what} is {found}, but the entries give {expected}")]
    Differs {
        /// Which commitment.
        what: &'static str,
        /// In the header.
        found: Hash32,
        /// By our own computation.
        expected: Hash32,
    },
    /// A recovery that is none.
    #[error("the recovery does not hold: {0}")]
    Recovery(#[from] RecoveryError),
    /// Settlement failed: an amount out of range.
    #[error("settlement failed: {0}")]
    Settlement(EntryError),
    /// What must always hold does not: stop.
    #[error("{0}")]
    Invariant(#[from] InvariantError),
}

/// What must always hold, and does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvariantError {
    /// Money appeared or vanished.
    #[error("all accounts add up to {sum} instead of zero")]
    MoneyNotConserved {
        /// The sum, deposits counted negative.
        sum: Money,
    },
    /// A member in debt, or beyond its credit.
    #[error("the account of {home} stands at {balance}, below its limit")]
    BelowZero {
        /// Whose.
        home: HomeId,
        /// What it says.
        balance: Balance,
    },
    /// Money reserved for nothing, or not reserved for what is owed.
    #[error("{home}: {reserved} reserved, but open orders and positions need {needed}")]
    ReservesDiffer {
        /// Whose.
        home: HomeId,
        /// What is reserved.
        reserved: Money,
        /// Sum of the reserves of its open orders and positions.
        needed: Money,
    },
    /// Energy settled twice or not at all.
    #[error("{home}: {read} read, but {settled} settled and {pending} waiting")]
    EnergyNotConserved {
        /// Whose.
        home: HomeId,
        /// Read from the registers.
        read: WattHours,
        /// Settled.
        settled: WattHours,
        /// Waiting for its deadline.
        pending: WattHours,
    },
}

/// Why a snapshot cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not the bytes of a snapshot.
    #[error("the snapshot is damaged: {0}")]
    Codec(#[from] CodecError),
    /// Of another chain.
    #[error("the snapshot is of chain {found}, not of {expected}")]
    OtherChain {
        /// Its chain.
        found: Hash32,
        /// Ours.
        expected: Hash32,
    },
    /// The state does not have the root it should.
    #[error("the snapshot of block {block} has another state root than it says")]
    Root {
        /// The block it was taken after.
        block: BlockId,
    },
    /// The genesis is not valid.
    #[error(transparent)]
    Genesis(#[from] crate::genesis::GenesisError),
}
