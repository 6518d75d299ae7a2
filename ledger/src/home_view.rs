//! What a member that does not hold all bodies knows of the state: what is public whole, and its own rows.
//!
//! The state's root is over the digests of its sections. A view carries all digests, so that the public sections in it are
//! proven by any certified header; the home's own rows cannot be, since the sections they lie in hold other homes' rows, and are
//! believed of who gave the view as far as what the home sees itself does not contradict them.

use energy::HomeId;
use market::Account;

use crate::assurance::Assurance;
use crate::block::{BlockId, Header};
use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};
use crate::crypto::{Hash32, PublicKey, Salt};
use crate::delegation::Delegation;
use crate::entry::{Admission, Chain, ConnectionSize};
use crate::error::SnapshotError;
use crate::genesis::Genesis;
use crate::ledger::Ledger;
use crate::light::TrustedHeader;
use crate::meter::MeterRegistration;
use crate::state::{ClaimKey, Listing, Member, RootState, Rules, Section, State, root_of_digests};
use crate::table::Table;
use crate::tree::Frontier;
use crate::versions::Versions;

/// The longest view, in bytes.
pub const VIEW_BYTES_MAX: usize = 3 << 20;
/// What stands where another home's meter would: nobody's serial number.
const NO_SERIAL: &str = "-";

/// Why a view is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// Not the bytes of one.
    #[error("the view is damaged: {0}")]
    Codec(#[from] CodecError),
    /// It cannot be taken up at all.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It is of another block.
    #[error("the view is not of block {height}")]
    OtherBlock {
        /// The block it should be of.
        height: u64,
    },
    /// What is public in it is not what the block commits to.
    #[error("a public part of the view is not what block {height} commits to")]
    Public {
        /// The block.
        height: u64,
    },
    /// It holds what is another home's.
    #[error("the view holds rows of other homes")]
    Foreign,
    /// It leaves out a section that is not known yet.
    #[error("the view leaves out what is not known here yet")]
    Unknown,
}

/// The state after a block, as far as one home knows it. Its [`Ledger`] answers questions about that home and about what is
/// public; it can neither make nor carry out blocks.
#[derive(Debug, Clone)]
pub struct HomeView {
    home: HomeId,
    ledger: Ledger,
    digests: Vec<Hash32>,
}

impl HomeView {
    /// What `ledger` holds for `home`.
    #[must_use]
    pub fn of(ledger: &Ledger, home: &HomeId) -> Self {
        let mut state = ledger.state().clone();
        let digests = state.digests();
        Self { home: home.clone(), ledger: ledger.with_state(restrict(&state, home)), digests }
    }

    /// What it knows.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The digests of all sections of the state, which say what of it another view need not repeat.
    #[must_use]
    pub fn digests(&self) -> &[Hash32] {
        &self.digests
    }

    /// As bytes, without the public sections whose digests are among `known`.
    #[must_use]
    pub fn to_bytes(&self, known: &[Hash32]) -> Vec<u8> {
        let mut out = Vec::new();
        let ledger = &self.ledger;
        ledger.chain().encode(&mut out);
        ledger.height().encode(&mut out);
        ledger.head().encode(&mut out);
        ledger.tree().encode(&mut out);
        encode_list(&self.digests, &mut out);
        let mut writer = Writer { home: &self.home, known, digests: &self.digests, out };
        writer.state(ledger.state());
        writer.out
    }

    /// Reads a view of `home`. What it leaves out is taken from `before`, the view that was known before it.
    ///
    /// # Errors
    /// [`ViewError`]: damaged, of another chain, with rows of others, or its public sections are not those of its digests.
    pub fn from_bytes(
        genesis: &Genesis,
        home: &HomeId,
        bytes: &[u8],
        before: Option<&Self>,
    ) -> Result<Self, ViewError> {
        let mut reader = Reader::new(bytes);
        let chain = Chain::decode(&mut reader)?;
        let expected = genesis.chain();
        if chain.id != expected.id {
            return Err(SnapshotError::OtherChain { found: chain.id, expected: expected.id }.into());
        }
        let (height, head) = (u64::decode(&mut reader)?, BlockId::decode(&mut reader)?);
        let tree = Frontier::decode(&mut reader)?;
        let digests: Vec<Hash32> = decode_list(&mut reader, "digests", Section::COUNT)?;
        let before = before.map(|view| (view.ledger.state(), view.digests.as_slice()));
        let rules = match before {
            Some((state, _)) if state.rules.chain == chain => state.rules.clone(),
            _ => Ledger::rules(genesis, chain).map_err(SnapshotError::from)?,
        };
        let mut source = Source { reader, before, digests: &digests, home };
        let mut state = source.state(rules)?;
        source.reader.finish()?;
        let found = state.digests();
        let holds = |section: &Section| {
            let at = *section as usize;
            found.get(at).is_some_and(|digest| digests.get(at) == Some(digest))
        };
        if digests.len() != Section::COUNT || !Section::PUBLIC.iter().all(holds) {
            return Err(ViewError::Public { height });
        }
        let state_root = root_of_digests(&digests);
        let ledger = Ledger::of_view(chain, (height, head), tree, state_root, state);
        Ok(Self { home: home.clone(), ledger, digests })
    }

    /// That it is what the block of a certified header left, in all that every member may know.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn is_of(&self, trusted: &TrustedHeader) -> Result<(), ViewError> {
        self.follows_from(trusted.header())
    }

    /// The same of a header that is known to be right.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn follows_from(&self, header: &Header) -> Result<(), ViewError> {
        let (ledger, height) = (&self.ledger, header.height);
        if ledger.chain() != &header.chain || (ledger.height(), ledger.head()) != (height, header.id()) {
            return Err(ViewError::OtherBlock { height });
        }
        let same = ledger.state_root() == header.state_root
            && (ledger.tree_size(), ledger.tree_root()) == (header.tree_size, header.tree_root);
        if same { Ok(()) } else { Err(ViewError::Public { height }) }
    }
}

/// The parts of a state that a home may know.
fn restrict(state: &State, home: &HomeId) -> State {
    let own = |of: &HomeId| of == home;
    let own_interval = |(_, of): &(u64, HomeId)| of == home;
    let own_claim =
        |(debtor, creditor): &ClaimKey| is_own_account(debtor, home) || is_own_account(creditor, home);
    let keys = keys_of(state, home);
    State {
        root_meter: RootState::default(),
        members: members_for(state, home),
        accounts: state.accounts.filtered(|account| is_own_account(account, home)),
        reserves: state.reserves.filtered(own),
        claims: state.claims.filtered(own_claim),
        pending: state.pending.filtered(own_interval),
        pending_root: Table::default(),
        provisional: state.provisional.filtered(own_interval),
        unread: state.unread.filtered(own),
        numbers: state.numbers.filtered(|key| keys.contains(key)),
        book: state.book.filtered(own_interval),
        positions: state.positions.filtered(own_interval),
        forward: Table::default(),
        caps: state.caps.filtered(own_interval),
        assurance: state.assurance.filtered(own),
        delegation: Delegation {
            ballots: state.delegation.ballots.filtered(own),
            read_days: state.delegation.read_days.filtered(own),
            energy: state.delegation.energy.filtered(own_interval),
            ..state.delegation.clone()
        },
        versions: Versions { signals: state.versions.signals.filtered(own), ..state.versions.clone() },
        ..state.clone()
    }
}

fn is_own_account(account: &Account<HomeId>, home: &HomeId) -> bool {
    matches!(account, Account::Home(of) if of == home)
}

/// The keys whose numbers a home may know: its own, and those of the roles, with which its person may sign.
fn keys_of(state: &State, home: &HomeId) -> Vec<PublicKey> {
    let genesis = &state.rules.genesis;
    let own = state.members.get(home).map(|member| member.admission.keys);
    let own = own.into_iter().flat_map(|keys| [keys.member, keys.reading, keys.network]);
    own.chain(genesis.role_keys()).collect()
}

/// The home itself as it is; of the others, who they are.
fn members_for(state: &State, home: &HomeId) -> Table<HomeId, Member> {
    let mut members = Table::default();
    for (of, member) in state.members.iter() {
        let known =
            if of == home { Some(member.clone()) } else { listed(of, &member.listing(), &state.rules) };
        if let Some(known) = known {
            members.insert(of.clone(), known);
        }
    }
    members
}

/// A member of whom nothing is known but its listing.
fn listed(home: &HomeId, listing: &Listing, rules: &Rules) -> Option<Member> {
    let node = rules.genesis.network.first()?.id.clone();
    let meter = MeterRegistration {
        serial: energy::MeterSerial::new(NO_SERIAL).ok()?,
        epoch: 0,
        profile_hash: [0; 32],
        quantum: energy::WattHours::ZERO,
    };
    let admission = Admission {
        home: home.clone(),
        // Its owner is not known here; a name of its own keeps homes apart.
        owner: home.as_str().to_owned(),
        node,
        size: ConnectionSize::default(),
        keys: listing.keys,
        meter,
    };
    let mut member = Member::new(admission, listing.since, Salt([0; 16]));
    member.leaves = listing.leaves;
    Some(member)
}

struct Writer<'a> {
    home: &'a HomeId,
    known: &'a [Hash32],
    digests: &'a [Hash32],
    out: Vec<u8>,
}

impl Writer<'_> {
    /// A public section, or that it is the one that is known.
    fn public(&mut self, section: Section, write: impl FnOnce(&mut Vec<u8>)) {
        let at = section as usize;
        let is_news = self.known.get(at).is_none_or(|known| self.digests.get(at) != Some(known));
        self.out.push(u8::from(is_news));
        if is_news {
            write(&mut self.out);
        }
    }

    fn state(&mut self, state: &State) {
        state.encode_small(&mut self.out);
        self.public(Section::Roster, |out| roster(state).encode(out));
        // Of the others there is nothing but their listings.
        state.members.filtered(|of| of == self.home).encode(&mut self.out);
        state.accounts.encode(&mut self.out);
        state.reserves.encode(&mut self.out);
        state.claims.encode(&mut self.out);
        self.public(Section::Tariff, |out| state.tariff.encode(out));
        self.public(Section::LastTariff, |out| state.last_tariff.encode(out));
        state.pending.encode(&mut self.out);
        state.provisional.encode(&mut self.out);
        state.unread.encode(&mut self.out);
        state.numbers.encode(&mut self.out);
        state.book.encode(&mut self.out);
        state.positions.encode(&mut self.out);
        self.public(Section::Fees, |out| state.fees.encode(out));
        self.public(Section::LastFees, |out| state.last_fees.encode(out));
        self.public(Section::Envelopes, |out| state.envelopes.encode(out));
        state.caps.encode(&mut self.out);
        state.assurance.encode(&mut self.out);
        self.delegation(&state.delegation);
        state.versions.encode(&mut self.out);
    }

    fn delegation(&mut self, section: &Delegation) {
        section.encode_small(&mut self.out);
        section.ballots.encode(&mut self.out);
        self.public(Section::Candidacies, |out| section.candidacies.encode(out));
        self.public(Section::OptedOut, |out| section.opted_out.encode(out));
        self.public(Section::Barred, |out| section.barred.encode(out));
        self.public(Section::TermKeys, |out| section.term_keys.encode(out));
        self.public(Section::Seated, |out| section.seated.encode(out));
        self.public(Section::Signing, |out| section.signing.encode(out));
        section.read_days.encode(&mut self.out);
        section.energy.encode(&mut self.out);
    }
}

/// The listings of all members.
fn roster(state: &State) -> Table<HomeId, Listing> {
    let mut roster = Table::default();
    for (home, member) in state.members.iter() {
        roster.insert(home.clone(), member.listing());
    }
    roster
}

struct Source<'a> {
    reader: Reader<'a>,
    before: Option<(&'a State, &'a [Hash32])>,
    digests: &'a [Hash32],
    home: &'a HomeId,
}

impl Source<'_> {
    /// A public section, or the one that was known before.
    fn public<T: Decode + Clone>(
        &mut self,
        section: Section,
        known: impl FnOnce(&State) -> T,
    ) -> Result<T, ViewError> {
        if bool::decode(&mut self.reader)? {
            return Ok(T::decode(&mut self.reader)?);
        }
        let at = section as usize;
        let (state, digests) = self.before.ok_or(ViewError::Unknown)?;
        if digests.get(at).is_none_or(|digest| self.digests.get(at) != Some(digest)) {
            return Err(ViewError::Unknown);
        }
        Ok(known(state))
    }

    /// A section of which only own rows may be there.
    fn own<K, V>(&mut self, is_own: impl Fn(&K, &HomeId) -> bool) -> Result<Table<K, V>, ViewError>
    where
        K: Ord + Clone + Encode + Decode,
        V: Clone + Encode + Decode,
    {
        let table = Table::<K, V>::decode(&mut self.reader)?;
        let all_own = table.iter().all(|(key, _)| is_own(key, self.home));
        if all_own { Ok(table) } else { Err(ViewError::Foreign) }
    }

    fn of_home<V: Clone + Encode + Decode>(&mut self) -> Result<Table<HomeId, V>, ViewError> {
        self.own(|of: &HomeId, home| of == home)
    }

    fn of_intervals<V: Clone + Encode + Decode>(&mut self) -> Result<Table<(u64, HomeId), V>, ViewError> {
        self.own(|(_, of): &(u64, HomeId), home| of == home)
    }

    fn members(&mut self, rules: &Rules) -> Result<Table<HomeId, Member>, ViewError> {
        let roster: Table<HomeId, Listing> = self.public(Section::Roster, roster)?;
        let own: Table<HomeId, Member> = self.of_home()?;
        let mut members = Table::default();
        for (home, listing) in roster.iter() {
            if let Some(member) = own.get(home).cloned().or_else(|| listed(home, listing, rules)) {
                members.insert(home.clone(), member);
            }
        }
        Ok(members)
    }

    fn state(&mut self, rules: std::sync::Arc<Rules>) -> Result<State, ViewError> {
        let reader = &mut self.reader;
        let (time, grace_until) = (Decode::decode(reader)?, Decode::decode(reader)?);
        let (next_to_settle, next_gate) = (Decode::decode(reader)?, Decode::decode(reader)?);
        let (next_provisional, bank) = (Decode::decode(reader)?, Decode::decode(reader)?);
        let members = self.members(&rules)?;
        Ok(State {
            rules,
            time,
            grace_until,
            next_to_settle,
            next_gate,
            next_provisional,
            bank,
            root_meter: RootState::default(),
            members,
            accounts: self.own(is_own_account)?,
            reserves: self.of_home()?,
            claims: self.own(|(debtor, creditor): &ClaimKey, home| {
                is_own_account(debtor, home) || is_own_account(creditor, home)
            })?,
            tariff: self.public(Section::Tariff, |before| before.tariff.clone())?,
            last_tariff: self.public(Section::LastTariff, |before| before.last_tariff.clone())?,
            pending: self.of_intervals()?,
            pending_root: Table::default(),
            provisional: self.of_intervals()?,
            unread: self.of_home()?,
            numbers: Decode::decode(&mut self.reader)?,
            book: self.of_intervals()?,
            positions: self.of_intervals()?,
            forward: Table::default(),
            fees: self.public(Section::Fees, |before| before.fees.clone())?,
            last_fees: self.public(Section::LastFees, |before| before.last_fees.clone())?,
            envelopes: self.public(Section::Envelopes, |before| before.envelopes.clone())?,
            caps: self.of_intervals()?,
            assurance: self.of_home::<Assurance>()?,
            delegation: self.delegation()?,
            versions: Versions::decode(&mut self.reader)?,
        })
    }

    fn delegation(&mut self) -> Result<Delegation, ViewError> {
        let small = Delegation::decode_small(&mut self.reader)?;
        Ok(Delegation {
            ballots: self.of_home()?,
            candidacies: self.public(Section::Candidacies, |before| before.delegation.candidacies.clone())?,
            opted_out: self.public(Section::OptedOut, |before| before.delegation.opted_out.clone())?,
            barred: self.public(Section::Barred, |before| before.delegation.barred.clone())?,
            term_keys: self.public(Section::TermKeys, |before| before.delegation.term_keys.clone())?,
            seated: self.public(Section::Seated, |before| before.delegation.seated.clone())?,
            signing: self.public(Section::Signing, |before| before.delegation.signing.clone())?,
            read_days: self.of_home()?,
            energy: self.of_intervals()?,
            ..small
        })
    }
}
