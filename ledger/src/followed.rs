//! A block as a member gets it that does not hold all bodies: every leaf of it, what is public, and what is the member's own.
//!
//! Whoever gives it is not believed. The header needs its certificate, the leaves must give the tree that the header commits to,
//! and every body must be that of its leaf. What no leaf says (the movements on the home's account, how a sealed interval was
//! priced) is believed as far as it does not contradict what is proven.

use energy::{HomeId, Interval, Money, Timestamp, WattHours};
use market::{Account, PostingKind};

use crate::assurance::AssuranceStatement;
use crate::block::{Block, BlockId, Certificate, DelegateSet, Header};
use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};
use crate::crypto::Salt;
use crate::entry::{Body, ENTRY_BYTES_MAX, EntryId, SignatureError, SignedEntry, VerifiedEntry};
use crate::ledger::Ledger;
use crate::light::{LightClient, LightError, SetChange};
use crate::outcome::{IntervalOutcome, Leaf, LeafSource, Outcome, PostingRecord, ReadingRecord};
use crate::recovery::{Recovery, RecoveryError};
use crate::tree::Frontier;

/// The longest followed block, in bytes.
pub const FOLLOWED_BYTES_MAX: usize = 4 << 20;
/// The longest leaf: a gate with a price for each node of the network.
const LEAF_BYTES_MAX: usize = 1 << 20;
/// First byte of a sealed leaf.
const SEALED: u8 = 2;
/// Bytes of a sealed leaf after the first.
const SEALED_BYTES: usize = 32;

/// All there is to say of a block, from which each home's part is taken.
#[derive(Debug, Clone)]
pub struct BlockParts {
    /// Its header.
    pub header: Header,
    /// Why it is final.
    pub certificate: Certificate,
    /// Who decides from the next height on, where those are others.
    pub delegates: Option<DelegateSet>,
    /// Of a recovery block: who attested it.
    pub recovery: Option<Recovery>,
    /// The bytes of its leaves.
    pub leaves: Vec<Vec<u8>>,
    /// Its entries, whose leaves come first.
    pub entries: Vec<SignedEntry>,
    /// Its outcomes, whose leaves follow.
    pub outcomes: Vec<Outcome>,
    /// Every movement of money, with its place among them.
    pub postings: Vec<(u32, PostingRecord)>,
    /// Statements of assurance as booked, with the positions of their entries.
    pub statements: Vec<(u32, AssuranceStatement)>,
}

/// A home's part of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedBlock {
    /// Its header.
    pub header: Header,
    /// Why it is final.
    pub certificate: Certificate,
    /// Who decides from the next height on, where those are others.
    pub delegates: Option<DelegateSet>,
    /// Of a recovery block: who attested it.
    pub recovery: Option<Recovery>,
    /// How many of the leaves are entries'.
    pub entries: u32,
    /// The bytes of all its leaves; a public one holds its body.
    pub leaves: Vec<Vec<u8>>,
    /// Bodies of the home's own sealed leaves, by position in the block.
    pub bodies: Vec<(u32, Vec<u8>)>,
    /// Movements on the home's account, with their places among all of the block.
    pub postings: Vec<(u32, PostingRecord)>,
    /// What was booked of the home's meter, with the positions of the entries.
    pub statements: Vec<(u32, AssuranceStatement)>,
    /// Intervals whose totals are sealed, without the totals.
    pub intervals: Vec<IntervalOutcome>,
}

impl FollowedBlock {
    /// The part of `home`.
    #[must_use]
    pub fn of(parts: BlockParts, home: &HomeId) -> Self {
        let entries = u32::try_from(parts.entries.len()).unwrap_or(u32::MAX);
        let own_entries = (0..).zip(&parts.entries).filter(|(_, entry)| {
            let body = &entry.unchecked().body;
            body.is_sealed() && body.home() == Some(home)
        });
        let own_outcomes = (entries..)
            .zip(&parts.outcomes)
            .filter(|(_, outcome)| outcome.is_sealed() && outcome.home() == Some(home));
        let bodies = own_entries.map(|(position, entry)| (position, entry.to_bytes()));
        let bodies = bodies.chain(own_outcomes.map(|(position, outcome)| (position, outcome.to_bytes())));
        let bodies = bodies.collect();
        let intervals = parts.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Interval(interval) if !interval.public => Some(interval.without_totals()),
            _ => None,
        });
        let intervals = intervals.collect();
        let own_account =
            |posting: &PostingRecord| matches!(&posting.account, Account::Home(of) if of == home);
        let of_meter = |statement: AssuranceStatement| {
            let meters: Vec<_> = statement.meters.into_iter().filter(|found| found.home == *home).collect();
            (!meters.is_empty()).then_some(AssuranceStatement { meters, ..statement })
        };
        Self {
            header: parts.header,
            certificate: parts.certificate,
            delegates: parts.delegates,
            recovery: parts.recovery,
            entries,
            leaves: parts.leaves,
            bodies,
            postings: parts.postings.into_iter().filter(|(_, posting)| own_account(posting)).collect(),
            statements: parts
                .statements
                .into_iter()
                .filter_map(|(position, statement)| Some((position, of_meter(statement)?)))
                .collect(),
            intervals,
        }
    }
}

impl Outcome {
    /// The home it is about.
    #[must_use]
    pub const fn home(&self) -> Option<&HomeId> {
        match self {
            Self::Home(of) => Some(&of.home),
            Self::Order(of) => Some(&of.home),
            Self::Breach(of) => Some(&of.home),
            Self::Interval(_) | Self::Gate(_) | Self::Election(_) | Self::Seat(_) => None,
        }
    }
}

impl IntervalOutcome {
    /// What every member may know of an interval whose totals are sealed.
    #[must_use]
    pub const fn without_totals(&self) -> Self {
        let nothing = WattHours::ZERO;
        Self {
            interval: self.interval,
            tariff: self.tariff,
            matched: nothing,
            supplier_import: nothing,
            supplier_export: nothing,
            homes: self.homes,
            missing: self.missing,
            losses: None,
            public: false,
            salt: Salt([0; 16]),
        }
    }
}

/// Why a followed block is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// It is not the next one.
    #[error("block {height} does not follow: {what}")]
    DoesNotFollow {
        /// Its height.
        height: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// Nobody decided it who may.
    #[error(transparent)]
    Light(#[from] LightError),
    /// It is a recovery that too few attested.
    #[error("the recovery does not hold: {0}")]
    Recovery(#[from] RecoveryError),
    /// Its leaves are not those of the tree.
    #[error("the leaves do not give the tree of block {height}")]
    OtherTree {
        /// Its height.
        height: u64,
    },
    /// A body that is not that of the leaf at its place.
    #[error("what is given for leaf {position} of block {height} is something else")]
    OtherBody {
        /// The block.
        height: u64,
        /// Position in the block.
        position: u32,
    },
    /// What is another home's.
    #[error("block {height} was given with what is another home's")]
    Foreign {
        /// The block.
        height: u64,
    },
    /// A public body that cannot be read.
    #[error("leaf {position} of block {height} cannot be read: {error}")]
    Unreadable {
        /// The block.
        height: u64,
        /// Position in the block.
        position: u32,
        /// Why.
        error: CodecError,
    },
    /// An entry whose signatures do not hold.
    #[error("an entry of block {height} is not genuine: {error}")]
    Entry {
        /// The block.
        height: u64,
        /// Why.
        error: SignatureError,
    },
    /// An entry of the home is in the block, and what was given leaves it out.
    #[error("block {height} holds entry {entry} of this home, and who gave the block left it out")]
    Omitted {
        /// The block.
        height: u64,
        /// The entry.
        entry: EntryId,
    },
    /// The movements on the account are not what is proven.
    #[error(
        "the movements on the account in block {height} do not add up to what its entries and results say"
    )]
    Money {
        /// The block.
        height: u64,
    },
}

/// A followed block that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its header.
    pub header: Header,
    /// Why it is final.
    pub certificate: Certificate,
    /// What a light client must know of it, if other delegates decide after it.
    pub change: Option<SetChange>,
    /// How many entries the block has.
    pub entry_count: u32,
    /// Entries that are public or the home's own, with their positions.
    pub entries: Vec<(u32, VerifiedEntry)>,
    /// All leaves; those of outcomes are told by their position.
    pub leaves: Vec<Leaf>,
    /// Outcomes that are public or the home's own, with the positions of their leaves in the block.
    pub outcomes: Vec<(u32, Outcome)>,
    /// The readings of the home.
    pub readings: Vec<ReadingRecord>,
    /// As in [`FollowedBlock::postings`].
    pub postings: Vec<(u32, PostingRecord)>,
    /// As in [`FollowedBlock::statements`].
    pub statements: Vec<(u32, AssuranceStatement)>,
    /// As in [`FollowedBlock::intervals`].
    pub intervals: Vec<IntervalOutcome>,
}

impl Followed {
    /// By how much the block changed what stands on the home's account.
    #[must_use]
    pub fn moved(&self) -> Money {
        // That they add up was seen before.
        Money::sum(self.postings.iter().map(|(_, posting)| posting.amount)).unwrap_or(Money::ZERO)
    }
}

/// How far a member has followed a chain.
#[derive(Debug, Clone)]
pub struct Trail {
    home: HomeId,
    client: LightClient,
    height: u64,
    head: BlockId,
    time: Timestamp,
    tree: Frontier,
}

impl Trail {
    /// Goes on after the block of `header`, or at the genesis, which is `ledger`'s. `client` knows who decides next, `tree` is the
    /// transparency tree after the block.
    #[must_use]
    pub const fn new(
        home: HomeId,
        client: LightClient,
        (height, head, time): (u64, BlockId, Timestamp),
        tree: Frontier,
    ) -> Self {
        Self { home, client, height, head, time, tree }
    }

    /// Height of the last block.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// The last block.
    #[must_use]
    pub const fn head(&self) -> BlockId {
        self.head
    }

    /// Leaves of the tree after it.
    #[must_use]
    pub const fn tree_size(&self) -> u64 {
        self.tree.size()
    }

    /// Takes the next block, or nothing. `view` is what is known of the state before it, which a recovery is judged by; `waiting`
    /// are the home's entries that no block had yet.
    ///
    /// # Errors
    /// [`FollowError`].
    pub fn follow<'w>(
        &mut self,
        block: FollowedBlock,
        view: &Ledger,
        waiting: impl Iterator<Item = &'w VerifiedEntry>,
    ) -> Result<Followed, FollowError> {
        let mut next = self.clone();
        let followed = next.take(block, view, waiting)?;
        *self = next;
        Ok(followed)
    }

    fn take<'w>(
        &mut self,
        block: FollowedBlock,
        view: &Ledger,
        waiting: impl Iterator<Item = &'w VerifiedEntry>,
    ) -> Result<Followed, FollowError> {
        self.is_next(&block.header)?;
        let change = self.trust(&block, view)?;
        let leaves = self.grow(&block)?;
        let opened = Opened::of(&block, &leaves, &self.home)?;
        let height = block.header.height;
        for entry in waiting {
            let leaf = Leaf::new(
                entry.entry().body.is_sealed(),
                &entry.entry().salt,
                entry.bytes(),
                LeafSource::Entry(0),
            );
            let stands = leaves.iter().any(|of| of.hash == leaf.hash);
            if stands && !opened.entries.iter().any(|(_, known)| known.id() == entry.id()) {
                return Err(FollowError::Omitted { height, entry: entry.id() });
            }
        }
        is_own(&block, &self.home)?;
        let known = adds_up(&block.postings, &opened.entries, &opened.outcomes);
        known.ok_or(FollowError::Money { height })?;
        (self.height, self.head, self.time) = (height, block.header.id(), block.header.time);
        Ok(Followed {
            header: block.header,
            certificate: block.certificate,
            change,
            entry_count: block.entries,
            readings: opened.readings(&self.home),
            entries: opened.entries,
            leaves,
            outcomes: opened.outcomes,
            postings: block.postings,
            statements: block.statements,
            intervals: block.intervals,
        })
    }

    fn is_next(&self, header: &Header) -> Result<(), FollowError> {
        let fault = |what| Err(FollowError::DoesNotFollow { height: header.height, what });
        if header.height != self.height.saturating_add(1) {
            return fault("its height is not the next");
        }
        if header.parent != self.head {
            return fault("its parent is another block");
        }
        if header.time <= self.time {
            return fault("its time is not after its parent's");
        }
        Ok(())
    }

    /// That those decided it who may; says who decides next, where that changes.
    fn trust(&mut self, block: &FollowedBlock, view: &Ledger) -> Result<Option<SetChange>, FollowError> {
        let change = block.delegates.clone().map(|delegates| SetChange {
            header: block.header.clone(),
            certificate: block.certificate.clone(),
            delegates,
        });
        match (&block.recovery, &change) {
            (Some(recovery), Some(change)) => {
                self.is_attested(block, recovery, view)?;
                self.client.follow_recovery(change)?;
            }
            (None, Some(change)) => self.client.follow(change)?,
            _ => {
                self.client.trust(block.header.clone(), &block.certificate)?;
                if block.header.delegates != block.header.next_delegates {
                    return Err(LightError::OtherNextSet { height: block.header.height }.into());
                }
            }
        }
        Ok(change)
    }

    fn is_attested(
        &self,
        block: &FollowedBlock,
        recovery: &Recovery,
        view: &Ledger,
    ) -> Result<(), FollowError> {
        let height = block.header.height;
        if (view.height(), view.head()) != (self.height, self.head) {
            return Err(FollowError::DoesNotFollow {
                height,
                what: "who belongs before this recovery is not known here",
            });
        }
        let (header, recovery) = (block.header.clone(), recovery.clone());
        let whole =
            Block { header, last_commit: None, recovery: Some(recovery.clone()), entries: Vec::new() };
        Ok(view.is_attested(&whole, &recovery)?)
    }

    fn grow(&mut self, block: &FollowedBlock) -> Result<Vec<Leaf>, FollowError> {
        let (header, entries) = (&block.header, usize::try_from(block.entries).unwrap_or(usize::MAX));
        let fault = || FollowError::OtherTree { height: header.height };
        let added = header.tree_size.checked_sub(self.tree.size()).ok_or_else(fault)?;
        if added != block.leaves.len() as u64 || entries > block.leaves.len() {
            return Err(fault());
        }
        let leaf = |(position, bytes): (usize, &Vec<u8>)| {
            let source = match position.checked_sub(entries) {
                Some(outcome) => LeafSource::Outcome(outcome),
                None => LeafSource::Entry(position),
            };
            Leaf { hash: crate::tree::leaf_hash(bytes), bytes: bytes.clone(), source }
        };
        let leaves: Vec<Leaf> = block.leaves.iter().enumerate().map(leaf).collect();
        leaves.iter().for_each(|leaf| self.tree.push(leaf.hash));
        if self.tree.root() == header.tree_root { Ok(leaves) } else { Err(fault()) }
    }
}

/// What is known of a block's bodies.
struct Opened {
    entries: Vec<(u32, VerifiedEntry)>,
    outcomes: Vec<(u32, Outcome)>,
}

impl Opened {
    fn of(block: &FollowedBlock, leaves: &[Leaf], home: &HomeId) -> Result<Self, FollowError> {
        let mut opened = Self { entries: Vec::new(), outcomes: Vec::new() };
        let public = (0..).zip(leaves).filter(|(_, leaf)| leaf.bytes.first() != Some(&SEALED));
        for (position, leaf) in public {
            opened.open(block, (position, leaf), leaf.bytes.get(1..).unwrap_or_default(), None)?;
        }
        for (position, body) in &block.bodies {
            let at = usize::try_from(*position).unwrap_or(usize::MAX);
            let other = FollowError::OtherBody { height: block.header.height, position: *position };
            let leaf = leaves.get(at).ok_or(other)?;
            opened.open(block, (*position, leaf), body, Some(home))?;
        }
        opened.entries.sort_by_key(|(position, _)| *position);
        opened.outcomes.sort_by_key(|(position, _)| *position);
        let twice =
            opened.entries.windows(2).any(|pair| matches!(pair, [(left, _), (right, _)] if left == right))
                || opened
                    .outcomes
                    .windows(2)
                    .any(|pair| matches!(pair, [(left, _), (right, _)] if left == right));
        if twice { Err(FollowError::OtherTree { height: block.header.height }) } else { Ok(opened) }
    }

    /// Takes the body of a leaf: a public one, or a sealed one of `owner`.
    fn open(
        &mut self,
        block: &FollowedBlock,
        (position, leaf): (u32, &Leaf),
        bytes: &[u8],
        owner: Option<&HomeId>,
    ) -> Result<(), FollowError> {
        let height = block.header.height;
        let unreadable = |error| FollowError::Unreadable { height, position, error };
        let (sealed, salt, home) = if position < block.entries {
            let signed = SignedEntry::from_bytes(bytes).map_err(unreadable)?;
            let entry = signed.verify(&block.header.chain);
            let entry = entry.map_err(|error| FollowError::Entry { height, error })?;
            let about =
                (entry.entry().body.is_sealed(), entry.entry().salt, entry.entry().body.home().cloned());
            self.entries.push((position, entry));
            about
        } else {
            let outcome = Outcome::from_bytes(bytes).map_err(unreadable)?;
            let about = (outcome.is_sealed(), outcome.salt(), outcome.home().cloned());
            self.outcomes.push((position, outcome));
            about
        };
        if Leaf::new(sealed, &salt, bytes, leaf.source).bytes != leaf.bytes {
            return Err(FollowError::OtherBody { height, position });
        }
        if owner.is_some_and(|owner| sealed && home.as_ref() != Some(owner)) {
            return Err(FollowError::Foreign { height });
        }
        Ok(())
    }

    fn readings(&self, home: &HomeId) -> Vec<ReadingRecord> {
        let own = self.entries.iter().filter_map(|(_, entry)| match &entry.entry().body {
            Body::Reading { home: Some(of), reading } if of == home => {
                Some(ReadingRecord::new(Some(of.clone()), reading))
            }
            _ => None,
        });
        own.collect()
    }
}

/// What is believed is about this home alone, and says nothing that is sealed.
fn is_own(block: &FollowedBlock, home: &HomeId) -> Result<(), FollowError> {
    let account = Account::Home(home.clone());
    let holds = block.postings.iter().all(|(_, posting)| posting.account == account)
        && block.statements.iter().all(|(_, of)| of.meters.iter().all(|found| found.home == *home))
        && block.intervals.iter().all(|interval| *interval == interval.without_totals());
    if holds { Ok(()) } else { Err(FollowError::Foreign { height: block.header.height }) }
}

/// Movements for which there is an entry or a result are those it says: what was paid in and out, forward positions and what was
/// shared with neighbours. What goes to and from the supplier depends on what it could pay.
pub(crate) fn adds_up(
    postings: &[(u32, PostingRecord)],
    entries: &[(u32, VerifiedEntry)],
    outcomes: &[(u32, Outcome)],
) -> Option<()> {
    let posted = |wanted: &dyn Fn(PostingKind) -> bool| {
        let of_kind = postings.iter().filter(|(_, posting)| wanted(posting.kind));
        Money::sum(of_kind.map(|(_, posting)| posting.amount)).ok()
    };
    posted(&|_| true)?;
    let mut expected = [Money::ZERO; 4];
    let [deposits, withdrawals, forward, local] = &mut expected;
    for (_, entry) in entries {
        match &entry.entry().body {
            Body::Deposit { home: Some(_), amount, .. } => {
                *deposits = deposits.add(amount.as_money()).ok()?;
            }
            Body::Withdrawal { home: Some(_), amount, .. } => {
                *withdrawals = withdrawals.sub(amount.as_money()).ok()?;
            }
            _ => {}
        }
    }
    for (_, outcome) in outcomes {
        if let Outcome::Home(of) = outcome
            && of.kind == crate::outcome::OutcomeKind::Settled
        {
            *forward = forward.add(of.position.amount).ok()?;
            *local = local.add(of.matched.local_amount).ok()?;
        }
    }
    let kinds = [PostingKind::Deposit, PostingKind::Withdrawal, PostingKind::Forward, PostingKind::Local];
    let same = |(kind, expected): (PostingKind, Money)| posted(&|of| of == kind) == Some(expected);
    kinds.into_iter().zip(expected).all(same).then_some(())
}

const KINDS: [PostingKind; 11] = [
    PostingKind::Forward,
    PostingKind::Local,
    PostingKind::Supplier,
    PostingKind::Fee,
    PostingKind::Rent,
    PostingKind::Loss,
    PostingKind::Late,
    PostingKind::Correction,
    PostingKind::Claim,
    PostingKind::Deposit,
    PostingKind::Withdrawal,
];

impl PostingRecord {
    /// The kind that a word of [`PostingKind::word`] stands for.
    #[must_use]
    pub fn kind_of(word: &str) -> Option<PostingKind> {
        KINDS.into_iter().find(|kind| kind.word() == word)
    }
}

impl Encode for PostingRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        self.interval.encode(out);
        self.account.encode(out);
        let kind = KINDS.iter().position(|kind| *kind == self.kind).unwrap_or(KINDS.len());
        out.push(u8::try_from(kind).unwrap_or(u8::MAX));
        self.amount.encode(out);
    }
}

impl Decode for PostingRecord {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let interval = Option::<Interval>::decode(reader)?;
        let account = Account::decode(reader)?;
        let kind = KINDS.get(usize::from(u8::decode(reader)?)).copied();
        let kind = kind.ok_or(CodecError::Invalid { what: "posting" })?;
        Ok(Self { interval, account, kind, amount: Decode::decode(reader)? })
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).encode(out);
    out.extend_from_slice(bytes);
}

/// A sealed leaf has one length.
fn encode_leaf(leaf: &[u8], out: &mut Vec<u8>) {
    match leaf.split_first() {
        Some((&SEALED, rest)) if rest.len() == SEALED_BYTES => {
            out.push(SEALED);
            out.extend_from_slice(rest);
        }
        _ => {
            out.push(1);
            encode_bytes(leaf.get(1..).unwrap_or_default(), out);
        }
    }
}

fn decode_leaf(reader: &mut Reader<'_>) -> Result<Vec<u8>, CodecError> {
    let kind = u8::decode(reader)?;
    let rest = match kind {
        1 => {
            let length = reader.count("leaf", LEAF_BYTES_MAX)?;
            reader.take(length, "leaf")?
        }
        SEALED => reader.take(SEALED_BYTES, "leaf")?,
        _ => return Err(CodecError::Invalid { what: "leaf" }),
    };
    let mut leaf = vec![kind];
    leaf.extend_from_slice(rest);
    Ok(leaf)
}

fn decode_body(reader: &mut Reader<'_>) -> Result<(u32, Vec<u8>), CodecError> {
    let position = u32::decode(reader)?;
    let length = reader.count("body", ENTRY_BYTES_MAX)?;
    Ok((position, reader.take(length, "body")?.to_vec()))
}

/// So many of something, each at least a byte.
fn decode_each<T>(
    reader: &mut Reader<'_>,
    what: &'static str,
    one: impl Fn(&mut Reader<'_>) -> Result<T, CodecError>,
) -> Result<Vec<T>, CodecError> {
    let count = reader.count(what, FOLLOWED_BYTES_MAX)?;
    (0..count).map(|_| one(reader)).collect()
}

impl Encode for FollowedBlock {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.certificate.encode(out);
        self.delegates.encode(out);
        self.recovery.encode(out);
        self.entries.encode(out);
        u32::try_from(self.leaves.len()).unwrap_or(u32::MAX).encode(out);
        self.leaves.iter().for_each(|leaf| encode_leaf(leaf, out));
        u32::try_from(self.bodies.len()).unwrap_or(u32::MAX).encode(out);
        for (position, body) in &self.bodies {
            position.encode(out);
            encode_bytes(body, out);
        }
        encode_list(&self.postings, out);
        encode_list(&self.statements, out);
        let intervals = self.intervals.iter().cloned().map(Outcome::Interval).collect::<Vec<_>>();
        encode_list(&intervals, out);
    }
}

impl Decode for FollowedBlock {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let interval = |reader: &mut Reader<'_>| match Outcome::decode(reader)? {
            Outcome::Interval(interval) => Ok(interval),
            _ => Err(CodecError::Invalid { what: "interval" }),
        };
        Ok(Self {
            header: Decode::decode(reader)?,
            certificate: Decode::decode(reader)?,
            delegates: Decode::decode(reader)?,
            recovery: Decode::decode(reader)?,
            entries: Decode::decode(reader)?,
            leaves: decode_each(reader, "leaves", decode_leaf)?,
            bodies: decode_each(reader, "bodies", decode_body)?,
            postings: decode_list(reader, "postings", FOLLOWED_BYTES_MAX)?,
            statements: decode_list(reader, "statements", FOLLOWED_BYTES_MAX)?,
            intervals: decode_each(reader, "intervals", interval)?,
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > FOLLOWED_BYTES_MAX {
            return Err(CodecError::TooLong { what: "followed block", max: FOLLOWED_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let block = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(block)
    }
}
