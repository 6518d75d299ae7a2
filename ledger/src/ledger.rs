//! The pure state machine of a chain: blocks in, the next state and everything that follows out.

use std::sync::Arc;

use energy::{Balance, HomeId, Interval, Money, NodeId, Price, Timestamp};
use market::{Account, CHANGES_MAX, Network, Position};

use crate::apply::{Closing, Step, gate_of};
use crate::assurance::{Assurance, AssuranceStatement, MeterAssurance};
use crate::block::{Block, BlockId, Certificate, DelegateSet, Header, RULE_VERSION};
use crate::codec::{Decode, Encode, Reader};
use crate::crypto::Hash32;
use crate::delegation::Delegation;
use crate::entry::{
    Chain, ConnectionSize, Entry, EntryId, EnvelopePoint, Stream, TariffPoint, VerifiedEntry,
};
use crate::error::{BlockError, EntryError, InvariantError, SnapshotError};
use crate::fees::fee_max;
use crate::genesis::{Genesis, GenesisError, RootMeter};
use crate::meter::MeterRegistration;
use crate::outcome::{Leaf, LeafSource, Outcome, PostingRecord, ReadingRecord};
use crate::recovery::{RECOVERY_AFTER_MS, Recovery, RecoveryError, SeatOffer};
use crate::room::Filled;
use crate::state::{Member, OpenOrder, OpenOrders, RootState, Rules, State};
use crate::tree::Frontier;
use crate::versions::Versions;

/// Blocks come at least this often, even with nothing to do, in ms of market time.
pub const HEARTBEAT_MS: u64 = 300_000;

/// The ledger after some block. Cloning is cheap: copies share what they have in common.
#[derive(Debug, Clone)]
pub struct Ledger {
    chain: Chain,
    height: u64,
    head: BlockId,
    tree: Frontier,
    state_root: Hash32,
    state: State,
    /// Only what one home may know of the state is in it.
    is_view: bool,
}

/// A block that was carried out, and everything that came of it.
#[derive(Debug, Clone)]
pub struct Executed {
    /// The block.
    pub block: Block,
    /// The ledger after it.
    pub ledger: Ledger,
    /// The leaves it adds to the transparency tree, in order.
    pub leaves: Vec<Leaf>,
    /// What the state machine has to say, in order.
    pub outcomes: Vec<Outcome>,
    /// How many of them, the first ones, the entries had; the others became due with the block's time.
    pub outcomes_of_entries: usize,
    /// Every movement of money, in order.
    pub postings: Vec<PostingRecord>,
    /// The readings it accepted.
    pub readings: Vec<ReadingRecord>,
    /// The statements of assurance it accepted, in the order of their entries, with the levels that were booked.
    pub statements: Vec<AssuranceStatement>,
}

/// A block of our own.
#[derive(Debug, Clone)]
pub struct Proposed {
    /// The block and what comes of it.
    pub executed: Executed,
    /// Entries that are not valid there.
    pub refused: Vec<(EntryId, EntryError)>,
}

impl Ledger {
    /// The ledger at height 0.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn genesis(genesis: &Genesis) -> Result<Self, GenesisError> {
        let network = genesis.validate()?;
        let chain = genesis.chain();
        let founders = genesis.delegate_set()?;
        let first = Interval::containing(genesis.start, genesis.mtu);
        let rules = rules_of(genesis, network, chain);
        let mut step = Step::new(State {
            time: genesis.start,
            grace_until: Timestamp::EPOCH,
            next_to_settle: first.index(),
            // The gate of the first interval lies before the chain's start.
            next_gate: first.next().index(),
            next_provisional: first.index(),
            delegation: Delegation::new(founders, genesis.start),
            bank: None,
            root_meter: RootState {
                registered: genesis.root_meter.as_ref().map(RootMeter::registration),
                ..RootState::default()
            },
            members: Default::default(),
            accounts: Default::default(),
            reserves: Default::default(),
            claims: Default::default(),
            tariff: Default::default(),
            last_tariff: Default::default(),
            pending: Default::default(),
            pending_root: Default::default(),
            provisional: Default::default(),
            unread: Default::default(),
            numbers: Default::default(),
            book: Default::default(),
            positions: Default::default(),
            forward: Default::default(),
            fees: Default::default(),
            last_fees: Default::default(),
            envelopes: Default::default(),
            caps: Default::default(),
            assurance: Default::default(),
            versions: Versions::new(RULE_VERSION),
            rules,
        });
        for member in &genesis.members {
            let admission = member.admission.clone();
            let home = admission.home.clone();
            // Nothing is hidden about a founder that genesis does not show, so its first salt need not be random.
            let salt = first_salt(&chain, &home);
            let mut founder = Member::new(admission, first.index(), salt);
            founder.participation.set(first.index(), member.participation, first.index());
            step.state.members.insert(home.clone(), founder);
            step.state.delegation.found_stake(&home);
            step.credit_deposit(&Account::Home(home.clone()), member.deposit.as_money()).map_err(|_| {
                GenesisError::Member { home, what: "has a deposit beyond what accounts can hold" }
            })?;
        }
        let state_root = step.state.root();
        let head = BlockId(chain.id);
        let (tree, state) = (Frontier::new(), step.state);
        Ok(Self { chain, height: 0, head, tree, state_root, state, is_view: false })
    }

    /// Takes up a snapshot of the same chain. It proves itself only in so far as its state has the root it says; that height,
    /// head, tree and state root are the chain's is for the caller to compare with a certified header.
    ///
    /// # Errors
    /// [`SnapshotError`]: damaged, of another chain, or with another root than it says.
    pub fn restore(genesis: &Genesis, snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let expected = genesis.chain();
        let mut reader = Reader::new(snapshot);
        let chain = Chain::decode(&mut reader)?;
        let rules = Self::rules(genesis, chain)?;
        if chain.id != expected.id {
            return Err(SnapshotError::OtherChain { found: chain.id, expected: expected.id });
        }
        let height = u64::decode(&mut reader)?;
        let head = BlockId::decode(&mut reader)?;
        let tree = Frontier::decode(&mut reader)?;
        let state_root = Hash32::decode(&mut reader)?;
        let mut state = State::decode(rules, &mut reader)?;
        reader.finish()?;
        if state.root() != state_root {
            return Err(SnapshotError::Root { block: head });
        }
        Ok(Self { chain, height, head, tree, state_root, state, is_view: false })
    }

    /// What never changes on the chain of a genesis.
    pub(crate) fn rules(genesis: &Genesis, chain: Chain) -> Result<Arc<Rules>, GenesisError> {
        Ok(rules_of(genesis, genesis.validate()?, chain))
    }

    /// The same place of the chain, with a part of the state.
    pub(crate) fn with_state(&self, state: State) -> Self {
        Self { state, is_view: true, ..self.clone() }
    }

    /// A place of the chain with a part of the state after it.
    pub(crate) const fn of_view(
        chain: Chain,
        (height, head): (u64, BlockId),
        tree: Frontier,
        state_root: Hash32,
        state: State,
    ) -> Self {
        Self { chain, height, head, tree, state_root, state, is_view: true }
    }

    /// True if it is a [`HomeView`](crate::HomeView)'s: it knows one home's rows and what is public, and carries out no blocks.
    #[must_use]
    pub const fn is_view(&self) -> bool {
        self.is_view
    }

    /// The right edge of the transparency tree.
    #[must_use]
    pub const fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// The whole ledger as bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.chain.encode(&mut out);
        self.height.encode(&mut out);
        self.head.encode(&mut out);
        self.tree.encode(&mut out);
        self.state_root.encode(&mut out);
        self.state.encode(&mut out);
        out
    }

    pub(crate) fn know_rules(&mut self, version: u16) {
        Arc::make_mut(&mut self.state.rules).known_up_to = version;
    }

    /// What stands behind every question.
    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// Which chain.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Height of the last block; 0 at genesis.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// The last block; at height 0 the chain's id stands in its place.
    #[must_use]
    pub const fn head(&self) -> BlockId {
        self.head
    }

    /// True if the last block was a recovery: no delegates decided it, so the next one carries no certificate of it.
    #[must_use]
    pub const fn is_recovered(&self) -> bool {
        self.height > 0 && self.state.delegation.recovered == self.height
    }

    /// The interval in which the last block is.
    #[must_use]
    pub fn head_interval(&self) -> Interval {
        Interval::containing(self.state.time, self.state.mtu())
    }

    /// Market time of the last block.
    #[must_use]
    pub const fn head_time(&self) -> Timestamp {
        self.state.time
    }

    /// Root of the state.
    #[must_use]
    pub const fn state_root(&self) -> Hash32 {
        self.state_root
    }

    /// Leaves in the transparency tree.
    #[must_use]
    pub const fn tree_size(&self) -> u64 {
        self.tree.size()
    }

    /// Root of the transparency tree.
    #[must_use]
    pub fn tree_root(&self) -> Hash32 {
        self.tree.root()
    }

    /// The delegates that decide the next block.
    #[must_use]
    pub fn delegates(&self) -> &DelegateSet {
        &self.state.delegation.delegates
    }

    /// The delegates that decide the block after the next one.
    #[must_use]
    pub fn next_delegates(&self) -> &DelegateSet {
        &self.state.delegation.next
    }

    /// The delegates that decided the last block.
    #[must_use]
    pub fn last_delegates(&self) -> &DelegateSet {
        &self.state.delegation.last
    }

    /// The network with the fees of genesis.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.state.rules.network
    }

    /// The network with the fees of an interval: as published, else the last ordinary ones of that time of day, else those of
    /// genesis.
    #[must_use]
    pub fn network_at(&self, interval: Interval) -> Arc<Network> {
        self.state.network_at(interval)
    }

    /// The first interval in which a home is no member any more, if it has said so.
    #[must_use]
    pub fn leaves(&self, home: &HomeId) -> Option<Interval> {
        let leaves = self.member(home)?.leaves?;
        Some(self.state.interval(leaves))
    }

    /// What the chain started from.
    #[must_use]
    pub fn genesis_terms(&self) -> &Genesis {
        &self.state.rules.genesis
    }

    /// By how much the accounts add up to more than treasurer and auditor last said stands at the bank, if they do: then nothing
    /// is paid out, and people must look.
    #[must_use]
    pub fn bank_shortfall(&self) -> Option<Money> {
        // Who knows only its own account knows no sum.
        let bank = self.state.bank.filter(|_| !self.is_view)?.as_money();
        money_on_accounts(self).sub(bank).ok().filter(|short| *short > Money::ZERO)
    }

    /// What stands on an account.
    #[must_use]
    pub fn balance(&self, account: &Account<HomeId>) -> Balance {
        self.state.balance(account)
    }

    /// What of a home's balance is reserved for forward orders and positions.
    #[must_use]
    pub fn reserved(&self, home: &HomeId) -> Balance {
        self.state.reserves.get(home).copied().unwrap_or_default()
    }

    /// A home's open orders, by interval, in the order in which they were taken.
    #[must_use]
    pub fn open_orders(&self, home: &HomeId) -> Vec<(Interval, OpenOrder)> {
        let book = self.state.book.iter().filter(|((_, of), _)| of == home);
        let mut rows: Vec<_> = book.map(|((index, _), mine)| (*index, mine)).collect();
        rows.sort_unstable_by_key(|(index, _)| *index);
        let orders = |(index, mine): (u64, &OpenOrders)| {
            let interval = self.state.interval(index);
            mine.orders.iter().map(move |order| (interval, order.clone())).collect::<Vec<_>>()
        };
        rows.into_iter().flat_map(orders).collect()
    }

    /// How often a home may still replace or take back its orders for an interval.
    #[must_use]
    pub fn changes_left(&self, home: &HomeId, interval: Interval) -> u8 {
        let mine = self.state.book.get(&(interval.index(), home.clone()));
        CHANGES_MAX.saturating_sub(mine.map_or(0, |mine| mine.changes))
    }

    /// What a home traded forward for an interval that is not settled yet, or was settled without its reading.
    #[must_use]
    pub fn position(&self, home: &HomeId, interval: Interval) -> Position {
        let open = self.state.positions.get(&(interval.index(), home.clone()));
        open.map(|open| open.position).unwrap_or_default()
    }

    /// The limits between which a home's orders for an interval lie: what its supplier pays and charges at its node by the
    /// community's tariff, with network fees.
    ///
    /// # Errors
    /// [`EntryError`]: no such home, or no local trade because the supplier charges less than it pays.
    pub fn price_band(&self, home: &HomeId, interval: Interval) -> Result<(Price, Price), EntryError> {
        let member = self.member(home).ok_or_else(|| EntryError::UnknownHome { home: home.clone() })?;
        self.state.price_band(self.state.node_of(member), interval)
    }

    /// The most a home may trade in an interval: its connection's certified size, or the operator's cap where that is less.
    #[must_use]
    pub fn connection_limit(&self, home: &HomeId, interval: Interval) -> Option<ConnectionSize> {
        self.member(home).map(|member| self.state.connection_of(home, member, interval))
    }

    /// The operator's cap of a home's connection in an interval, for its flexible devices, traded or not.
    #[must_use]
    pub fn connection_cap(&self, home: &HomeId, interval: Interval) -> Option<ConnectionSize> {
        self.state.caps.get(&(interval.index(), home.clone())).copied()
    }

    /// What forward trading may send over the edge from a node to its parent in an interval; `None`: no such node.
    #[must_use]
    pub fn envelope(&self, node: &NodeId, interval: Interval) -> Option<EnvelopePoint> {
        let specs = self.state.rules.network.specs();
        let spec = specs.iter().find(|spec| spec.id == *node)?;
        Some(self.state.envelope_at(interval.index(), spec))
    }

    /// The first interval whose gate has not closed; orders are for it or a later one.
    #[must_use]
    pub fn next_gate(&self) -> Interval {
        self.state.interval(self.state.next_gate)
    }

    /// What `debtor` owes `creditor`.
    #[must_use]
    pub fn claim(&self, debtor: &Account<HomeId>, creditor: &Account<HomeId>) -> Balance {
        self.state.claims.get(&(debtor.clone(), creditor.clone())).copied().unwrap_or_default()
    }

    /// A member.
    #[must_use]
    pub fn member(&self, home: &HomeId) -> Option<&Member> {
        self.state.members.get(home)
    }

    /// Every member, in ascending order.
    #[must_use]
    pub fn members(&self) -> Vec<(&HomeId, &Member)> {
        self.state.members.sorted()
    }

    /// The root meter as it is registered; `None` where the community has none.
    #[must_use]
    pub const fn root_meter(&self) -> Option<&MeterRegistration> {
        self.state.root_meter.registered.as_ref()
    }

    /// What is known of how far a home's meter can be believed.
    #[must_use]
    pub fn assurance(&self, home: &HomeId) -> Assurance {
        self.state.assurance.get(home).cloned().unwrap_or_default()
    }

    /// How many intervals lie between two statements about a meter, at least: a market day, on a demo chain what it says.
    #[must_use]
    pub fn assurance_every(&self) -> u64 {
        self.state.assurance_every()
    }

    /// The level in force of a home's meter: as stated last, 0 where nothing was of the [`SILENT_DAYS`](crate::SILENT_DAYS)
    /// that were settled last.
    #[must_use]
    pub fn assurance_level(&self, home: &HomeId) -> u8 {
        let settled = self.next_to_settle().start();
        self.state.assurance.get(home).map_or(0, |assurance| assurance.level(settled))
    }

    /// The last interval until which a home's meter was looked at in a statement, whichever meter it had then.
    #[must_use]
    pub fn last_stated(&self, home: &HomeId) -> Option<Interval> {
        let stated = self.state.assurance.get(home).and_then(|assurance| assurance.stated_until);
        stated.map(|index| self.state.interval(index))
    }

    /// The highest level that a statement as of the end of `until` is booked at for what was found, whatever it claims.
    #[must_use]
    pub fn assurance_ceiling(&self, found: &MeterAssurance, until: Interval) -> u8 {
        self.assurance(&found.home).ceiling(found, self.state.ground(&found.home, until))
    }

    /// The supplier's prices in an interval.
    #[must_use]
    pub fn tariff_at(&self, interval: Interval) -> TariffPoint {
        self.state.tariff_at(interval)
    }

    /// The first interval that is not settled yet.
    #[must_use]
    pub fn next_to_settle(&self) -> Interval {
        self.state.interval(self.state.next_to_settle)
    }

    /// When that interval settles, as things stand.
    #[must_use]
    pub fn next_deadline(&self) -> Timestamp {
        self.state.due(self.state.next_to_settle)
    }

    /// True if the entry's number, or a larger one, was used: it can never stand on this ledger.
    #[must_use]
    pub fn is_used(&self, entry: &Entry) -> bool {
        self.state.numbers.get(&entry.signer).is_some_and(|numbers| {
            let last = match entry.body.stream() {
                Stream::Readings => numbers.readings,
                Stream::Orders => numbers.orders,
                Stream::Rest => numbers.rest,
                Stream::Delegates => numbers.delegates,
            };
            entry.number <= last
        })
    }

    /// The largest number `signer` has used in a stream.
    #[must_use]
    pub fn last_number(&self, signer: &crate::crypto::PublicKey, stream: Stream) -> u64 {
        let numbers = self.state.numbers.get(signer).copied().unwrap_or_default();
        match stream {
            Stream::Readings => numbers.readings,
            Stream::Orders => numbers.orders,
            Stream::Rest => numbers.rest,
            Stream::Delegates => numbers.delegates,
        }
    }

    /// Number and hash of the last accepted record of the root meter's journal.
    #[must_use]
    pub fn root_record(&self) -> Option<(u64, [u8; 32])> {
        self.state.root_meter.last_record
    }

    /// Whether the entry would be valid, alone, in the next block at `time`.
    ///
    /// # Errors
    /// [`EntryError`]: why not.
    pub fn check(&self, entry: &VerifiedEntry, time: Timestamp) -> Result<(), EntryError> {
        Step::new(self.state.clone()).apply(entry, time)
    }

    /// Market time from which a block is due even if no entry waits.
    #[must_use]
    pub fn next_due(&self) -> Timestamp {
        let heartbeat = self.state.time.plus_ms(HEARTBEAT_MS);
        let due = self.next_deadline();
        let gate = self.state.next_gate_time().unwrap_or(heartbeat);
        let provisional = self.state.next_provisional_time().unwrap_or(heartbeat);
        heartbeat.min(due).min(gate).min(provisional)
    }

    /// True if a block at `time` is the gate or deadline block of some interval.
    #[must_use]
    pub fn deadline_at(&self, time: Timestamp) -> bool {
        self.state.has_due(time)
    }

    /// The gate of an interval, if a block at `time` closes it: with forward trading, orders for it count in this block
    /// and in no later one.
    #[must_use]
    pub fn gate_closed_by(&self, interval: Interval, time: Timestamp) -> Option<Timestamp> {
        let ahead = self.state.next_gate_time().is_some() && interval.index() >= self.state.next_gate;
        Some(gate_of(interval)).filter(|gate| ahead && *gate <= time)
    }

    /// What must always hold.
    ///
    /// # Errors
    /// [`InvariantError`].
    pub fn check_invariants(&self) -> Result<(), InvariantError> {
        self.state.check_invariants()
    }

    /// Makes the next block from what is valid among `entries`, in their order, without a certificate of the last one: for
    /// chains that one process carries on alone.
    ///
    /// # Errors
    /// [`BlockError`] if what is due cannot be settled, or `time` is not after the head's.
    pub fn propose(&self, time: Timestamp, entries: &[VerifiedEntry]) -> Result<Proposed, BlockError> {
        self.propose_after(None, time, entries)
    }

    /// Makes the next block from what is valid among `entries`, in their order; `last_commit` is why the last one is final.
    ///
    /// # Errors
    /// [`BlockError`] if what is due cannot be settled, `time` is not after the head's, or the certificate does not hold.
    pub fn propose_after(
        &self,
        last_commit: Option<&Certificate>,
        time: Timestamp,
        entries: &[VerifiedEntry],
    ) -> Result<Proposed, BlockError> {
        self.has_rules()?;
        self.follows(time)?;
        self.is_certified(last_commit)?;
        let mut step = Step::new(self.state.clone());
        let (mut taken, mut refused, mut filled) = (Vec::new(), Vec::new(), Filled::beside(last_commit));
        for entry in entries {
            let Some(with) = filled.with(entry) else { break };
            match apply_whole(&mut step, entry, time) {
                Ok(()) => {
                    filled = with;
                    taken.push(entry.clone());
                }
                Err(error) => refused.push((entry.id(), error)),
            }
        }
        let finished = self.finish(step, time, last_commit, &taken)?;
        let executed = finished.into_executed(last_commit.cloned(), taken);
        Ok(Proposed { executed, refused })
    }

    /// Carries out a block and compares everything its header commits to.
    ///
    /// # Errors
    /// [`BlockError`]: the first thing that does not hold.
    pub fn execute(&self, block: &Block) -> Result<Executed, BlockError> {
        let header = &block.header;
        if let Some(recovery) = &block.recovery {
            return self.execute_recovery(block, recovery);
        }
        if header.chain != self.chain {
            let (height, what) = (header.height, "it is of another chain");
            return Err(BlockError::DoesNotFollow { height, what });
        }
        self.is_next(header)?;
        let last_commit = block.last_commit.as_ref();
        self.is_certified(last_commit)?;
        Filled::of(last_commit, &block.entries).ok_or(BlockError::TooLarge)?;
        let mut step = Step::new(self.state.clone());
        for (position, entry) in block.entries.iter().enumerate() {
            step.apply(entry, header.time).map_err(|error| BlockError::Entry { position, error })?;
        }
        let finished = self.finish(step, header.time, last_commit, &block.entries)?;
        compare(header, &finished.header)?;
        Ok(finished.into_executed(block.last_commit.clone(), block.entries.clone()))
    }

    /// Makes the block of a recovery with this number and time, which seats those who offered; nobody has attested it yet.
    ///
    /// # Errors
    /// [`BlockError`]: it would not follow.
    pub fn propose_recovery(
        &self,
        last_commit: Option<&Certificate>,
        (number, time): (u32, Timestamp),
        seats: Vec<SeatOffer>,
    ) -> Result<Executed, BlockError> {
        self.has_rules()?;
        self.is_certified(last_commit)?;
        let recovery = Recovery { seats, attestations: Vec::new() };
        let finished =
            self.finish_recovery(Chain { recovery: number, ..self.chain }, time, last_commit, &recovery)?;
        let mut executed = finished.into_executed(last_commit.cloned(), Vec::new());
        executed.block.recovery = Some(recovery);
        Ok(executed)
    }

    /// Carries out a recovery block, whoever attested it: what its header commits to is right. [`Ledger::execute`] demands that
    /// enough people attested it, too.
    ///
    /// # Errors
    /// [`BlockError`]: the first thing that does not hold.
    pub fn rehearse_recovery(&self, block: &Block) -> Result<Executed, BlockError> {
        let (header, Some(recovery)) = (&block.header, &block.recovery) else {
            return Err(RecoveryError::Form { what: "it is no recovery block" }.into());
        };
        if header.chain.id != self.chain.id {
            let (height, what) = (header.height, "it is of another chain");
            return Err(BlockError::DoesNotFollow { height, what });
        }
        self.is_next(header)?;
        if !block.entries.is_empty() {
            return Err(RecoveryError::Form { what: "a recovery block holds no entries" }.into());
        }
        let last_commit = block.last_commit.as_ref();
        self.is_certified(last_commit)?;
        let finished = self.finish_recovery(header.chain, header.time, last_commit, recovery)?;
        compare(header, &finished.header)?;
        let mut executed = finished.into_executed(block.last_commit.clone(), Vec::new());
        executed.block.recovery = block.recovery.clone();
        Ok(executed)
    }

    fn execute_recovery(&self, block: &Block, recovery: &Recovery) -> Result<Executed, BlockError> {
        let executed = self.rehearse_recovery(block)?;
        self.is_attested(block, recovery)?;
        Ok(executed)
    }

    fn finish_recovery(
        &self,
        chain: Chain,
        time: Timestamp,
        last_commit: Option<&Certificate>,
        recovery: &Recovery,
    ) -> Result<Finished, BlockError> {
        let (found, present) = (chain.recovery, self.chain.recovery);
        if found <= present {
            return Err(RecoveryError::Number { found, present }.into());
        }
        if time < self.state.time.plus_ms(RECOVERY_AFTER_MS) {
            return Err(RecoveryError::TooEarly { last: self.state.time, time }.into());
        }
        let mut step = Step::new(self.state.clone());
        step.recover(chain, &recovery.seats, time)?;
        let next_delegates = step.state.delegation.delegates.hash();
        let mut finished = self.conclude(step, time, last_commit, &[])?;
        finished.header.chain = chain;
        finished.header.next_delegates = next_delegates;
        Ok(finished)
    }

    /// That a header names the next height, this head, a later time and rules that are known.
    fn is_next(&self, header: &Header) -> Result<(), BlockError> {
        let fault = |what| Err(BlockError::DoesNotFollow { height: header.height, what });
        self.has_rules()?;
        if header.rule_version != self.rule_version() {
            return fault(
                "it is made by other rules than those in force; where others take it, this program is too old: update it",
            );
        }
        if header.height != self.height.saturating_add(1) {
            return fault("its height is not the next");
        }
        if header.parent != self.head {
            return fault("its parent is another block");
        }
        self.follows(header.time)
    }

    /// That this program has the rules of the next block, and the whole state before it.
    fn has_rules(&self) -> Result<(), BlockError> {
        if self.is_view {
            let height = self.height.saturating_add(1);
            return Err(BlockError::DoesNotFollow {
                height,
                what: "only one home's part of the state is known here",
            });
        }
        self.unknown_rules().map_or(Ok(()), |needed| {
            let (height, known) = (self.height.saturating_add(1), self.known_rules());
            Err(BlockError::UnknownRules { height, needed, known })
        })
    }

    fn follows(&self, time: Timestamp) -> Result<(), BlockError> {
        if time > self.state.time {
            Ok(())
        } else {
            let height = self.height.saturating_add(1);
            Err(BlockError::DoesNotFollow { height, what: "its time is not after its parent's" })
        }
    }

    /// A certificate of the last block, by the delegates who decided it; the first block has none to give.
    fn is_certified(&self, last_commit: Option<&Certificate>) -> Result<(), BlockError> {
        let Some(certificate) = last_commit else { return Ok(()) };
        if self.height == 0 || (certificate.height, certificate.block) != (self.height, self.head) {
            let height = self.height.saturating_add(1);
            return Err(BlockError::DoesNotFollow { height, what: "its certificate is not of its parent" });
        }
        Ok(certificate.verify(&self.chain, self.last_delegates())?)
    }

    /// Does what is due and computes every commitment.
    fn finish(
        &self,
        mut step: Step,
        time: Timestamp,
        last_commit: Option<&Certificate>,
        entries: &[VerifiedEntry],
    ) -> Result<Finished, BlockError> {
        let outcomes_of_entries = step.outcomes.len();
        step.advance(time).map_err(BlockError::Settlement)?;
        step.close(&Closing { chain: &self.chain, parent: self.head, time, last_commit });
        let finished = self.conclude(step, time, last_commit, entries)?;
        Ok(Finished { outcomes_of_entries, ..finished })
    }

    /// Computes every commitment of a block that did all it does.
    fn conclude(
        &self,
        mut step: Step,
        time: Timestamp,
        last_commit: Option<&Certificate>,
        entries: &[VerifiedEntry],
    ) -> Result<Finished, BlockError> {
        step.check_invariants()?;
        let leaves = leaves_of(entries, &step.outcomes);
        let mut tree = self.tree.clone();
        leaves.iter().for_each(|leaf| tree.push(leaf.hash));
        let header = Header {
            chain: self.chain,
            rule_version: self.rule_version(),
            height: self.height.saturating_add(1),
            parent: self.head,
            time,
            tree_size: tree.size(),
            tree_root: tree.root(),
            state_root: step.state.root(),
            delegates: self.delegates().hash(),
            next_delegates: self.next_delegates().hash(),
            last_commit: last_commit.map_or(Hash32::ZERO, Certificate::hash),
        };
        Ok(Finished { step, tree, leaves, header, outcomes_of_entries: 0 })
    }
}

struct Finished {
    step: Step,
    tree: Frontier,
    leaves: Vec<Leaf>,
    header: Header,
    outcomes_of_entries: usize,
}

impl Finished {
    fn into_executed(self, last_commit: Option<Certificate>, entries: Vec<VerifiedEntry>) -> Executed {
        let Self { step, tree, leaves, header, outcomes_of_entries } = self;
        let ledger = Ledger {
            chain: header.chain,
            height: header.height,
            head: header.id(),
            tree,
            state_root: header.state_root,
            state: step.state,
            is_view: false,
        };
        Executed {
            block: Block { header, last_commit, recovery: None, entries },
            ledger,
            leaves,
            outcomes: step.outcomes,
            outcomes_of_entries,
            postings: step.postings,
            readings: step.readings,
            statements: step.statements,
        }
    }
}

/// Applies an entry wholly or not at all.
fn apply_whole(step: &mut Step, entry: &VerifiedEntry, time: Timestamp) -> Result<(), EntryError> {
    let state = step.state.clone();
    let mark = [step.outcomes.len(), step.postings.len(), step.readings.len(), step.statements.len()];
    step.apply(entry, time).inspect_err(|_| step.rewind(state, mark))
}

fn leaves_of(entries: &[VerifiedEntry], outcomes: &[Outcome]) -> Vec<Leaf> {
    let of_entries = entries.iter().enumerate().map(|(position, verified)| {
        let entry = verified.entry();
        Leaf::new(entry.body.is_sealed(), &entry.salt, verified.bytes(), LeafSource::Entry(position))
    });
    let of_outcomes = outcomes.iter().enumerate().map(|(position, outcome)| {
        Leaf::new(outcome.is_sealed(), &outcome.salt(), &outcome.to_bytes(), LeafSource::Outcome(position))
    });
    of_entries.chain(of_outcomes).collect()
}

fn compare(found: &Header, expected: &Header) -> Result<(), BlockError> {
    let size = |header: &Header| Hash32::of(&[&header.tree_size.to_be_bytes()]);
    for (what, found, expected) in [
        ("the delegate set", found.delegates, expected.delegates),
        ("the next delegate set", found.next_delegates, expected.next_delegates),
        ("the tree size", size(found), size(expected)),
        ("the tree root", found.tree_root, expected.tree_root),
        ("the state root", found.state_root, expected.state_root),
        ("the certificate of the block before", found.last_commit, expected.last_commit),
    ] {
        if found != expected {
            return Err(BlockError::Differs { what, found, expected });
        }
    }
    Ok(())
}

fn rules_of(genesis: &Genesis, network: Network, chain: Chain) -> Arc<Rules> {
    let fee_max = fee_max(&network);
    let network = Arc::new(network);
    Arc::new(Rules { chain, genesis: genesis.clone(), network, fee_max, known_up_to: RULE_VERSION })
}

fn first_salt(chain: &Chain, home: &HomeId) -> crate::crypto::Salt {
    let digest = Hash32::of(&[b"commonwatt/first-salt/v1", &chain.id.0, home.as_str().as_bytes()]).0;
    let mut salt = [0; 16];
    salt.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    crate::crypto::Salt(salt)
}

/// Sum of all accounts but the counter-account of deposits: what the bank must hold.
#[must_use]
pub fn money_on_accounts(ledger: &Ledger) -> Money {
    ledger
        .state
        .accounts
        .iter()
        .filter(|(account, _)| **account != Account::Deposits)
        .map(|(_, balance)| *balance)
        .sum()
}
