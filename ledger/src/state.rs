//! The state: who belongs, who has what, what was metered and not yet settled. Sections with digests, and the root.

use std::sync::Arc;

use energy::{
    Balance, ClockQuality, HomeId, Interval, Money, Mtu, NodeId, Price, Quality, Timestamp, WattHours,
};
use market::{Account, Metered, Network, NodeIndex, Position, Side};

use crate::assurance::Assurance;
use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list, record};
use crate::crypto::{Hash32, PublicKey, Salt};
use crate::delegation::Delegation;
use crate::entry::{
    Admission, Chain, ConnectionSize, EntryId, EnvelopePoint, FeePoint, MemberKeys, OwnContract,
    Participation, StandingLimits, TariffPoint,
};
use crate::gaps::Gaps;
use crate::genesis::Genesis;
use crate::meter::MeterRegistration;
use crate::table::Table;
use crate::versions::Versions;

/// Settled intervals whose prices, contracts and positions are remembered for late readings and corrections, in days.
pub(crate) const MEMORY_DAYS: u64 = 60;
/// Open orders of one member for one interval, at the most.
pub const OPEN_ORDERS_MAX: usize = 4;

/// What never changes after genesis; not part of the state's bytes, but named by the chain id.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub chain: Chain,
    pub genesis: Genesis,
    /// With the fees of genesis; [`State::network_at`] has those of an interval.
    pub network: Arc<Network>,
    /// The highest fee that can be published for one edge.
    pub fee_max: Price,
    /// The highest rule version that this program has.
    pub known_up_to: u16,
}

/// Where a meter stood when it was last read; just after its exchange: where it began, as of the last reading of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterState {
    /// Index of the interval at whose end it was read.
    pub interval: u64,
    /// Import register, Wh.
    pub import_register: WattHours,
    /// Export register, Wh.
    pub export_register: WattHours,
}

record!(MeterState { interval, import_register, export_register });

/// Wh that were metered and where they went: the proof that each is settled once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MeteredTotals {
    /// Read since the first baseline, over all meter epochs.
    pub import_read: u64,
    pub export_read: u64,
    /// Settled so far.
    pub import_settled: u64,
    pub export_settled: u64,
    /// Import and export of them together that had been settled when congestion rent was returned last.
    pub returned: u64,
}

record!(MeteredTotals { import_read, export_read, import_settled, export_settled, returned });

impl MeteredTotals {
    /// Import and export together, settled since congestion rent was returned last.
    pub const fn since_return(&self) -> u64 {
        self.import_settled.saturating_add(self.export_settled).saturating_sub(self.returned)
    }
}

/// A value that holds from an interval on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since<T> {
    pub index: u64,
    pub value: T,
}

impl<T: Encode> Encode for Since<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.index.encode(out);
        self.value.encode(out);
    }
}

impl<T: Decode> Decode for Since<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self { index: Decode::decode(reader)?, value: Decode::decode(reader)? })
    }
}

/// A value that changes at interval boundaries, never backwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series<T>(Vec<Since<T>>);

impl<T: Copy + Default> Series<T> {
    /// The value in force in the interval.
    pub fn at(&self, index: u64) -> T {
        self.0.iter().rev().find(|from| from.index <= index).map(|from| from.value).unwrap_or_default()
    }

    /// The indexes after `index` at which the value may change.
    pub fn changes_after(&self, index: u64) -> impl Iterator<Item = u64> {
        self.0.iter().map(|from| from.index).filter(move |from| *from > index)
    }

    /// Sets the value from an interval on, and forgets what no interval from `oldest` on needs any more. The last word
    /// counts: what was set before for later intervals holds no more.
    pub fn set(&mut self, from: u64, value: T, oldest: u64) {
        self.0.retain(|old| old.index != from);
        self.0.push(Since { index: from, value });
        let in_force = self.0.iter().rposition(|from| from.index <= oldest).unwrap_or(0);
        self.0.drain(..in_force);
    }
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Encode> Encode for Series<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_list(&self.0, out);
    }
}

impl<T: Decode> Decode for Series<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        decode_list(reader, "series", usize::MAX).map(Self)
    }
}

/// A member as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As admitted, with its present keys and meter.
    pub admission: Admission,
    /// Its meter at the last accepted reading of the present epoch, or where it began at its exchange.
    pub meter: Option<MeterState>,
    /// Index of the interval in which its meter was registered; `None`: it is the one it was admitted with.
    pub(crate) meter_since: Option<u64>,
    /// Whether its meter was read since it was registered.
    pub(crate) is_read: bool,
    /// What meters taken off since the last accepted reading had counted after theirs; goes with the next reading.
    pub(crate) carried: Metered,
    /// Number and hash of the last accepted record of its journal.
    pub last_record: Option<(u64, [u8; 32])>,
    /// Index of the last interval that was read, over all its meters: no interval is read twice.
    pub(crate) read_until: Option<u64>,
    /// Salt of its last reading (at first: of its admission); outcomes about it derive theirs from it.
    pub(crate) salt: Salt,
    pub(crate) limits: Series<StandingLimits>,
    pub(crate) contract: Series<OwnContract>,
    pub(crate) participation: Series<Participation>,
    /// Index of the first interval in which it is a member: the one in which it was admitted.
    pub(crate) since: u64,
    /// Index of the first interval in which it is no member any more.
    pub(crate) leaves: Option<u64>,
    pub(crate) totals: MeteredTotals,
}

record!(Member {
    admission,
    meter,
    meter_since,
    is_read,
    carried,
    last_record,
    read_until,
    salt,
    limits,
    contract,
    participation,
    since,
    leaves,
    totals,
});

impl Member {
    pub(crate) fn new(admission: Admission, since: u64, salt: Salt) -> Self {
        Self {
            admission,
            meter: None,
            meter_since: None,
            is_read: false,
            carried: Metered::default(),
            last_record: None,
            read_until: None,
            salt,
            limits: Series::default(),
            contract: Series::default(),
            participation: Series::default(),
            since,
            leaves: None,
            totals: MeteredTotals::default(),
        }
    }

    pub(crate) const fn listing(&self) -> Listing {
        Listing { keys: self.admission.keys, since: self.since, leaves: self.leaves }
    }

    /// Its price limits in an interval.
    #[must_use]
    pub fn limits_at(&self, interval: Interval) -> StandingLimits {
        self.limits.at(interval.index())
    }

    /// Its own supply contract in an interval.
    #[must_use]
    pub fn contract_at(&self, interval: Interval) -> OwnContract {
        self.contract.at(interval.index())
    }

    /// Its part in sharing by keys in an interval.
    #[must_use]
    pub fn participation_at(&self, interval: Interval) -> Participation {
        self.participation.at(interval.index())
    }

    /// True if it belongs to the community in an interval: admitted by then, and not gone.
    #[must_use]
    pub fn is_member_in(&self, interval: Interval) -> bool {
        let index = interval.index();
        self.since <= index && self.leaves.is_none_or(|leaves| index < leaves)
    }
}

/// What every member may know of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listing {
    pub keys: MemberKeys,
    pub since: u64,
    pub leaves: Option<u64>,
}

record!(Listing { keys, since, leaves });

/// Position of a section's digest among those that the state's root is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Section {
    Small = 0,
    Tariff = 5,
    LastTariff = 6,
    Fees = 15,
    LastFees = 16,
    Envelopes = 17,
    Delegation = 20,
    Candidacies = 22,
    OptedOut = 23,
    Barred = 24,
    TermKeys = 25,
    Seated = 26,
    Signing = 27,
    Versions = 30,
    Roster = 33,
}

impl Section {
    /// Those that every member may know.
    pub const PUBLIC: [Self; 15] = [
        Self::Small,
        Self::Tariff,
        Self::LastTariff,
        Self::Fees,
        Self::LastFees,
        Self::Envelopes,
        Self::Delegation,
        Self::Candidacies,
        Self::OptedOut,
        Self::Barred,
        Self::TermKeys,
        Self::Seated,
        Self::Signing,
        Self::Versions,
        Self::Roster,
    ];
    /// How many there are in all.
    pub const COUNT: usize = 34;
}

/// The root over the digests of all sections.
pub(crate) fn root_of_digests(digests: &[Hash32]) -> Hash32 {
    let parts: Vec<&[u8]> = digests.iter().map(|digest| digest.0.as_slice()).collect();
    Hash32::of(&[b"commonwatt/state/v5", &parts.concat()])
}

/// Metered energy of one interval that waits for its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    pub metered: Metered,
    pub quality: Quality,
    pub salt: Salt,
}

record!(Pending { metered, quality, salt });

impl Encode for Quality {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for Quality {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Self::from_code(u8::decode(reader)?).ok_or(CodecError::Invalid { what: "quality" })
    }
}

impl Encode for ClockQuality {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

/// The root meter at its last reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RootState {
    /// As registered last; `None` where the community has none.
    pub registered: Option<MeterRegistration>,
    pub last: Option<MeterState>,
    /// As a home's.
    pub carried: Metered,
    pub last_record: Option<(u64, [u8; 32])>,
    pub read_until: Option<u64>,
}

record!(RootState { registered, last, carried, last_record, read_until });

/// Numbers and quota of one signer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub readings: u64,
    pub orders: u64,
    pub rest: u64,
    pub delegates: u64,
    /// Hours since the epoch, and the orders and other entries signed in that hour.
    pub hour: u64,
    pub in_hour: u32,
}

record!(Numbers { readings, orders, rest, delegates, hour, in_hour });

/// An order that waits for its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    /// Its entry.
    pub id: EntryId,
    /// Buy or sell.
    pub side: Side,
    /// Its limit.
    pub price: Price,
    /// What it is for.
    pub quantity: WattHours,
    /// What it keeps reserved of its home's balance.
    pub reserve: Balance,
    /// The entry's; hides what becomes of it.
    pub(crate) salt: Salt,
}

record!(OpenOrder { id, side, price, quantity, reserve, salt });

/// A home's open orders for one interval.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenOrders {
    pub orders: Vec<OpenOrder>,
    /// How often one was replaced or taken back.
    pub changes: u8,
}

impl Encode for OpenOrders {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_list(&self.orders, out);
        self.changes.encode(out);
    }
}

impl Decode for OpenOrders {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let orders = decode_list(reader, "open orders", OPEN_ORDERS_MAX)?;
        Ok(Self { orders, changes: Decode::decode(reader)? })
    }
}

/// A firm forward position, with what it keeps reserved until settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenPosition {
    pub position: Position,
    pub reserve: Balance,
}

record!(OpenPosition { position, reserve });

/// What a gate's clearing owes the network and the congestion account at settlement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ForwardTotals {
    pub fees: Money,
    pub rent: Money,
}

record!(ForwardTotals { fees, rent });

/// An amount one account owes another: `(debtor, creditor)`.
pub(crate) type ClaimKey = (Account<HomeId>, Account<HomeId>);

impl Encode for Account<HomeId> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Home(home) => {
                out.push(0);
                home.encode(out);
            }
            Self::Supplier => out.push(1),
            Self::Network => out.push(2),
            Self::Congestion => out.push(3),
            Self::Deposits => out.push(4),
        }
    }
}

impl Decode for Account<HomeId> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match u8::decode(reader)? {
            0 => Self::Home(Decode::decode(reader)?),
            1 => Self::Supplier,
            2 => Self::Network,
            3 => Self::Congestion,
            4 => Self::Deposits,
            _ => return Err(CodecError::Invalid { what: "account" }),
        })
    }
}

/// The whole state between two blocks.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub rules: Arc<Rules>,
    pub time: Timestamp,
    /// After an outage nothing settles before this.
    pub grace_until: Timestamp,
    /// Index of the first interval not yet settled.
    pub next_to_settle: u64,
    /// Index of the first interval whose gate has not passed.
    pub next_gate: u64,
    /// Index of the first interval without a provisional result; moves only where the metering operator's readings settle.
    pub next_provisional: u64,
    pub delegation: Delegation,
    /// What treasurer and auditor last said stands at the bank.
    pub bank: Option<Balance>,
    pub root_meter: RootState,
    pub members: Table<HomeId, Member>,
    pub accounts: Table<Account<HomeId>, Balance>,
    pub reserves: Table<HomeId, Balance>,
    pub claims: Table<ClaimKey, Balance>,
    pub tariff: Table<u64, TariffPoint>,
    /// By quarter-hour of the day: the last price that was valid there.
    pub last_tariff: Table<u32, TariffPoint>,
    pub pending: Table<(u64, HomeId), Pending>,
    /// What the root meter showed in intervals that wait for their deadline.
    pub pending_root: Table<u64, Metered>,
    /// What the homes' own nodes read where the metering operator's readings settle, until its provisional result.
    pub provisional: Table<(u64, HomeId), Pending>,
    /// There too: intervals of homes that were settled without the operator's reading, which may still come; no row where there
    /// is none.
    pub unread: Table<HomeId, Gaps>,
    pub numbers: Table<PublicKey, Numbers>,
    pub book: Table<(u64, HomeId), OpenOrders>,
    pub positions: Table<(u64, HomeId), OpenPosition>,
    pub forward: Table<u64, ForwardTotals>,
    /// Published network fees of edges, by interval.
    pub fees: Table<(u64, NodeId), FeePoint>,
    /// By quarter-hour of the day: the last fees that were valid there.
    pub last_fees: Table<(u32, NodeId), FeePoint>,
    /// The operator's forward envelopes of edges, by interval.
    pub envelopes: Table<(u64, NodeId), EnvelopePoint>,
    /// What connections may carry, by interval.
    pub caps: Table<(u64, HomeId), ConnectionSize>,
    /// How far each home's meter can be believed; no row where nothing was said.
    pub assurance: Table<HomeId, Assurance>,
    pub versions: Versions,
}

impl State {
    /// Root over the digests of all sections.
    pub fn root(&mut self) -> Hash32 {
        root_of_digests(&self.digests())
    }

    /// The digests of all sections, in the fixed order of [`Section`].
    pub fn digests(&mut self) -> Vec<Hash32> {
        let mut small = Vec::new();
        self.encode_small(&mut small);
        let of_whole = [Hash32::of(&[&self.root_meter.to_bytes()]), self.roster_digest()];
        let digests = [
            Hash32::of(&[&small]),
            self.members.digest(),
            self.accounts.digest(),
            self.reserves.digest(),
            self.claims.digest(),
            self.tariff.digest(),
            self.last_tariff.digest(),
            self.pending.digest(),
            self.pending_root.digest(),
            self.provisional.digest(),
            self.unread.digest(),
            self.numbers.digest(),
            self.book.digest(),
            self.positions.digest(),
            self.forward.digest(),
            self.fees.digest(),
            self.last_fees.digest(),
            self.envelopes.digest(),
            self.caps.digest(),
            self.assurance.digest(),
        ];
        let versions = self.versions.digests();
        digests.into_iter().chain(self.delegation.digests()).chain(versions).chain(of_whole).collect()
    }

    /// What every member may know of every other: who belongs from when to when, with which keys.
    fn roster_digest(&self) -> Hash32 {
        let mut roster = Vec::new();
        for (home, member) in self.members.sorted() {
            home.encode(&mut roster);
            member.listing().encode(&mut roster);
        }
        Hash32::of(&[&roster])
    }

    pub fn encode_small(&self, out: &mut Vec<u8>) {
        self.time.encode(out);
        self.grace_until.encode(out);
        self.next_to_settle.encode(out);
        self.next_gate.encode(out);
        self.next_provisional.encode(out);
        self.bank.encode(out);
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_small(out);
        self.root_meter.encode(out);
        self.members.encode(out);
        self.accounts.encode(out);
        self.reserves.encode(out);
        self.claims.encode(out);
        self.tariff.encode(out);
        self.last_tariff.encode(out);
        self.pending.encode(out);
        self.pending_root.encode(out);
        self.provisional.encode(out);
        self.unread.encode(out);
        self.numbers.encode(out);
        self.book.encode(out);
        self.positions.encode(out);
        self.forward.encode(out);
        self.fees.encode(out);
        self.last_fees.encode(out);
        self.envelopes.encode(out);
        self.caps.encode(out);
        self.assurance.encode(out);
        self.delegation.encode(out);
        self.versions.encode(out);
    }

    pub fn decode(rules: Arc<Rules>, r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            rules,
            time: Decode::decode(r)?,
            grace_until: Decode::decode(r)?,
            next_to_settle: Decode::decode(r)?,
            next_gate: Decode::decode(r)?,
            next_provisional: Decode::decode(r)?,
            bank: Decode::decode(r)?,
            root_meter: Decode::decode(r)?,
            members: Decode::decode(r)?,
            accounts: Decode::decode(r)?,
            reserves: Decode::decode(r)?,
            claims: Decode::decode(r)?,
            tariff: Decode::decode(r)?,
            last_tariff: Decode::decode(r)?,
            pending: Decode::decode(r)?,
            pending_root: Decode::decode(r)?,
            provisional: Decode::decode(r)?,
            unread: Decode::decode(r)?,
            numbers: Decode::decode(r)?,
            book: Decode::decode(r)?,
            positions: Decode::decode(r)?,
            forward: Decode::decode(r)?,
            fees: Decode::decode(r)?,
            last_fees: Decode::decode(r)?,
            envelopes: Decode::decode(r)?,
            caps: Decode::decode(r)?,
            assurance: Decode::decode(r)?,
            delegation: Delegation::decode(r)?,
            versions: Versions::decode(r)?,
        })
    }

    pub fn mtu(&self) -> Mtu {
        self.rules.genesis.mtu
    }

    pub fn interval(&self, index: u64) -> Interval {
        Interval::from_index(index, self.mtu())
    }

    /// Index of the first interval that can still be read late or corrected.
    pub fn oldest_remembered(&self) -> u64 {
        let memory = u64::from(self.mtu().per_day()).saturating_mul(MEMORY_DAYS);
        let first = Interval::containing(self.rules.genesis.start, self.mtu()).index();
        self.next_to_settle.saturating_sub(memory).max(first)
    }

    /// True between the lowest and the highest ordinary price. What lies beyond was countersigned for its own intervals alone,
    /// and does not hold where nothing is published.
    pub fn is_ordinary(&self, price: Price) -> bool {
        let caps = self.rules.genesis.caps;
        (caps.price_min..=caps.price_max).contains(&price)
    }

    /// The same of both prices of a tariff.
    pub fn is_ordinary_tariff(&self, point: &TariffPoint) -> bool {
        self.is_ordinary(point.import_price) && self.is_ordinary(point.export_price)
    }

    /// The supplier's prices in an interval: as published, else the last ordinary ones that were valid before it at that time
    /// of day.
    pub fn tariff_at(&self, interval: Interval) -> TariffPoint {
        // Days that are not settled yet first, at most as many as are remembered.
        let day = u64::from(self.mtu().per_day());
        let days = (0..=MEMORY_DAYS).map_while(|days| interval.index().checked_sub(days.saturating_mul(day)));
        let ahead = days.enumerate().take_while(|(days, index)| *days == 0 || *index >= self.next_to_settle);
        ahead
            .filter_map(|(days, index)| Some((days, self.tariff.get(&index)?)))
            .filter(|(days, point)| *days == 0 || self.is_ordinary_tariff(point))
            .map(|(_, point)| point)
            .chain(self.last_tariff.get(&interval.of_day()))
            .next()
            .copied()
            .unwrap_or(self.rules.genesis.tariff)
    }

    pub fn node_of(&self, member: &Member) -> NodeIndex {
        let network = &self.rules.network;
        // Admission checked that the node exists, and the network does not change.
        network.index_of(&member.admission.node).unwrap_or_else(|| network.root())
    }

    /// True if an interval was settled without the operator's reading of a home, which may still come.
    pub fn is_unread(&self, home: &HomeId, index: u64) -> bool {
        self.unread.get(home).is_some_and(|gaps| gaps.contains(index))
    }

    /// Writes down that an interval settles without the operator's reading of a home.
    pub fn set_unread(&mut self, home: &HomeId, index: u64) {
        let mut gaps = self.unread.get(home).cloned().unwrap_or_default();
        gaps.push(index);
        self.unread.insert(home.clone(), gaps);
    }

    /// The reading came; false if none was missing.
    pub fn take_unread(&mut self, home: &HomeId, index: u64) -> bool {
        let Some(mut gaps) = self.unread.get(home).cloned() else { return false };
        let was_unread = gaps.remove(index);
        self.keep_gaps(home, gaps);
        was_unread
    }

    /// Waits no more for readings of intervals before `oldest`.
    pub fn forget_unread(&mut self, oldest: u64) {
        let is_old = |gaps: &Gaps| gaps.first().is_some_and(|first| first < oldest);
        let old: Vec<_> = self.unread.iter().filter(|(_, gaps)| is_old(gaps)).collect();
        let old: Vec<_> = old.into_iter().map(|(home, gaps)| (home.clone(), gaps.clone())).collect();
        for (home, mut gaps) in old {
            gaps.forget(oldest);
            self.keep_gaps(&home, gaps);
        }
    }

    fn keep_gaps(&mut self, home: &HomeId, gaps: Gaps) {
        if gaps.first().is_none() {
            self.unread.remove(home);
        } else {
            self.unread.insert(home.clone(), gaps);
        }
    }

    pub fn balance(&self, account: &Account<HomeId>) -> Balance {
        self.accounts.get(account).copied().unwrap_or_default()
    }
}
