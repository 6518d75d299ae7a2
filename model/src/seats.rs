//! The real ledger: every sequence of a few blocks in which delegates are convicted, fall silent, are elected or leave.
//!
//! A state is a [`Ledger`]; what can happen is one whole block with what it holds, who signed its parent, and when it comes.
//! Nothing of the rules is written here a second time: this module only builds blocks and asks the ledger what came of them.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use energy::{Balance, HomeId, MeterSerial, Mtu, NodeId, Price, Timestamp, WattHours};
use ledger::{
    Admission, Ballot, BlockId, Body, Caps, Certificate, ConnectionSize, Delegate, DelegateSet, DemoClock,
    Entry, Evidence, Forward, Genesis, GenesisMember, Hash32, Ledger, MarketTerms, MemberKeys,
    MeterRegistration, Participation, PublicKey, Roles, Salt, SeatFate, SeatLoss, SeatOutcome, Signature,
    SignedVote, Stake, Statement, TariffPoint, TermKeys, VerifiedEntry, VoteKind, vote_signing_bytes,
};
use market::{NodeSpec, SupplierLeg};
use stateright::{Model, Property};

/// Homes of the community; the first four are its founding delegates.
const HOMES: u8 = 7;
/// Terms there are keys for.
const TERMS: u32 = 8;

/// What a key is for.
#[derive(Debug, Clone, Copy)]
enum Use {
    Member = 1,
    Reading = 2,
    Network = 3,
    Role = 4,
    Term = 16,
    Cosigner = 32,
}

/// What is modelled.
#[derive(Debug, Clone, Copy)]
pub struct Seats {
    /// Where it begins.
    pub start: Start,
    /// Blocks in a row, at the most.
    pub blocks: u64,
}

/// Where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the founding delegates, for whom nobody stands by.
    Genesis,
    /// When the first elected set decides blocks, and others stand by.
    Elected,
}

/// A ledger, and what the last block did to the seats.
#[derive(Debug, Clone)]
pub struct State {
    ledger: Ledger,
    /// The sets of the block before: who decided it, who decides the next, who the one after.
    before: Option<[DelegateSet; 3]>,
    changed_hands: Vec<SeatOutcome>,
    elected: bool,
    /// Entries were refused that should not have been.
    refused: usize,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.ledger.head() == other.ledger.head()
    }
}

impl Eq for State {}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.ledger.head().hash(hasher);
    }
}

/// One block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Action {
    /// When it comes.
    pub pause: Pause,
    /// Which seat of its parent's set did not sign, if one did not.
    pub silent: Option<u8>,
    /// What it holds.
    pub content: Content,
}

/// How long after its parent a block comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pause {
    /// A second.
    Short,
    /// So long that an epoch is over, if it has blocks enough.
    Epoch,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// Nothing.
    Nothing,
    /// Every home stands for the coming term and approves three.
    Candidacies,
    /// Proof that the delegate with this seat contradicted itself.
    Evidence(u8),
    /// Such proof of the two delegates with the first seats at once.
    TwoAtOnce,
    /// The first standby does not want to be a delegate.
    OptOut,
}

impl Seats {
    fn contents() -> [Content; 6] {
        [
            Content::Nothing,
            Content::Candidacies,
            Content::Evidence(0),
            Content::Evidence(3),
            Content::TwoAtOnce,
            Content::OptOut,
        ]
    }
}

impl Model for Seats {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let ledger = Ledger::genesis(&genesis()).expect("a valid genesis");
        let genesis = State { ledger, before: None, changed_hands: vec![], elected: false, refused: 0 };
        if self.start == Start::Genesis {
            return vec![genesis];
        }
        // Votes count at the end of the epoch after theirs; what that seats decides two heights later.
        let (stand, wait) = ((Pause::Short, Content::Candidacies), (Pause::Epoch, Content::Nothing));
        let blocks = [stand, wait, stand, wait, (Pause::Short, Content::Nothing), stand];
        let after = blocks
            .into_iter()
            .fold(genesis, |state, (pause, content)| next(&state, Action { pause, silent: None, content }));
        vec![after]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let first = if self.start == Start::Genesis { 0 } else { 6 };
        if state.ledger.height() == first + self.blocks {
            return;
        }
        for pause in [Pause::Short, Pause::Epoch] {
            actions.extend(Self::contents().map(|content| Action { pause, silent: None, content }));
            let beside = [Content::Nothing, Content::Candidacies];
            actions.extend(beside.map(|content| Action { pause, silent: Some(1), content }));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        Some(next(last, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = always();
        all.extend(sometimes(self.start));
        all
    }
}

/// The ledger after one block, proposed by one node and carried out by another.
fn next(last: &State, action: Action) -> State {
    let ledger = &last.ledger;
    let time = ledger.head_time().plus_ms(match action.pause {
        Pause::Short => 1_000,
        Pause::Epoch => 1_800_000,
    });
    let entries = entries_of(ledger, action.content);
    let commit = (ledger.height() > 0).then(|| certificate(ledger, ledger.last_delegates(), action.silent));
    let proposed = ledger.propose_after(commit.as_ref(), time, &entries).expect("a block can follow");
    let executed = ledger.execute(&proposed.executed.block).expect("others come to the same");
    assert_eq!(executed.ledger.state_root(), proposed.executed.ledger.state_root());
    let seat_of = |outcome: &ledger::Outcome| match outcome {
        ledger::Outcome::Seat(seat) => Some(seat.clone()),
        _ => None,
    };
    let sets = [ledger.last_delegates(), ledger.delegates(), ledger.next_delegates()];
    State {
        before: Some(sets.map(DelegateSet::clone)),
        changed_hands: executed.outcomes.iter().filter_map(seat_of).collect(),
        elected: executed.outcomes.iter().any(|of| matches!(of, ledger::Outcome::Election(_))),
        refused: proposed.refused.len(),
        ledger: executed.ledger,
    }
}

fn always() -> Vec<Property<Seats>> {
    vec![
        Property::always("what a block changes holds two heights later", |_, state: &State| {
            let now = &state.ledger;
            let moved = |[_, delegates, next]: &[DelegateSet; 3]| {
                now.last_delegates() == delegates && now.delegates() == next
            };
            state.before.as_ref().is_none_or(moved)
        }),
        Property::always("no more seats change hands in an epoch than may fail", |_, state: &State| {
            let (changed, most) = state.ledger.seats_changed();
            changed <= most
        }),
        Property::always(
            "two sets in a row share a quorum unless there was an election",
            |_, state: &State| {
                let (one, two) = (state.ledger.delegates(), state.ledger.next_delegates());
                let shared = one.as_slice().iter().filter(|seat| two.seat_of(&seat.key).is_some()).count();
                state.elected || one.term() != two.term() || shared + changes_at_once(state) >= one.len()
            },
        ),
        Property::always("each owner has one seat", |_, state: &State| {
            let set = state.ledger.next_delegates().as_slice();
            let mut owners: Vec<_> = set.iter().map(|seat| owner(&state.ledger, &seat.home)).collect();
            owners.sort();
            owners.is_sorted_by(|one, two| one < two)
        }),
        Property::always("only an election makes a set smaller than four", |_, state: &State| {
            let set = state.ledger.next_delegates();
            let former = state.before.as_ref().map(|[.., next]| next);
            set.len() >= 4 || former.is_none_or(|next| next.term() != set.term() || next.len() == set.len())
        }),
        Property::always(
            "who is convicted has no seat in the coming set unless it was kept",
            |_, state: &State| {
                let (changed, most) = state.ledger.seats_changed();
                let is_full = state.ledger.next_delegates().len() <= 4 && state.ledger.standbys().is_empty();
                let mut seats = state.ledger.next_delegates().as_slice().iter();
                let nobody_is_barred = seats.all(|seat| state.ledger.barred_until(&seat.home).is_none());
                nobody_is_barred || changed >= most || is_full
            },
        ),
        Property::always("a certificate by another set is refused", |_, state: &State| {
            refuses_others(&state.ledger)
        }),
        Property::always("what is valid is not refused", |_, state: &State| state.refused == 0),
        Property::always("invariants", |_, state: &State| state.ledger.check_invariants().is_ok()),
    ]
}

/// That the cases the rules are for are among the states.
fn sometimes(start: Start) -> Vec<Property<Seats>> {
    let kept = Property::sometimes("a seat is kept because enough changed hands", |_, state: &State| {
        state.changed_hands.iter().any(|of| of.fate == SeatFate::Kept)
    });
    if start == Start::Genesis {
        return vec![kept];
    }
    vec![
        kept,
        Property::sometimes("a standby takes the seat of one who contradicted itself", |_, state: &State| {
            let by_standby = |of: &SeatOutcome| {
                of.reason == SeatLoss::Equivocation && matches!(of.fate, SeatFate::Replaced(_))
            };
            state.changed_hands.iter().any(by_standby)
        }),
        Property::sometimes("a silent delegate loses its seat", |_, state: &State| {
            let silent = |of: &SeatOutcome| of.reason == SeatLoss::Silence && of.fate != SeatFate::Kept;
            state.changed_hands.iter().any(silent)
        }),
        Property::sometimes("an election seats another set", |_, state: &State| {
            state.elected && state.ledger.next_delegates().term() != state.ledger.delegates().term()
        }),
    ]
}

/// Seats that the last block gave away.
fn changes_at_once(state: &State) -> usize {
    state.changed_hands.iter().filter(|of| of.fate != SeatFate::Kept).count()
}

fn owner<'l>(ledger: &'l Ledger, home: &HomeId) -> &'l str {
    ledger.member(home).map_or("", |member| &member.admission.owner)
}

/// A certificate of the head by the set that decides the next block, where that is another one, proves nothing.
fn refuses_others(ledger: &Ledger) -> bool {
    let others = ledger.delegates();
    if ledger.height() == 0 || others == ledger.last_delegates() {
        return true;
    }
    let forged = certificate(ledger, others, None);
    ledger.propose_after(Some(&forged), ledger.head_time().plus_ms(1), &[]).is_err()
}

fn signing(of: u8, number: u8) -> SigningKey {
    let mut seed = [0; 32];
    (seed[0], seed[1]) = (of, number);
    SigningKey::from_bytes(&seed)
}

fn key(of: Use, number: u8) -> SigningKey {
    signing(of as u8, number)
}

/// A home's key for a term.
fn term_key(of: Use, term: u32, number: u8) -> SigningKey {
    signing(of as u8 + u8::try_from(term.min(TERMS)).unwrap_or_default(), number)
}

/// Every consensus key of every home: making one costs as much as a signature.
static SECRETS: LazyLock<BTreeMap<PublicKey, SigningKey>> = LazyLock::new(|| {
    let all = (0..=TERMS).flat_map(|term| (1..=HOMES).map(move |number| term_key(Use::Term, term, number)));
    all.map(|key| (PublicKey::of(&key), key)).collect()
});

fn secret_of(public: &PublicKey) -> &'static SigningKey {
    SECRETS.get(public).expect("a key of one of the homes")
}

fn home(number: u8) -> HomeId {
    HomeId::new(&format!("h{number:03}")).expect("a valid id")
}

fn certificate(ledger: &Ledger, set: &DelegateSet, silent: Option<u8>) -> Certificate {
    let (height, block) = (ledger.height(), ledger.head());
    let message = vote_signing_bytes(ledger.chain(), VoteKind::Precommit, height, 0, Some(&block));
    let seats = (0..).zip(set.as_slice()).filter(|(seat, _)| Some(*seat) != silent);
    let signatures = seats.map(|(seat, of)| (seat, Signature::sign(secret_of(&of.key), &message))).collect();
    Certificate { height, round: 0, block, signatures }
}

fn entries_of(ledger: &Ledger, content: Content) -> Vec<VerifiedEntry> {
    match content {
        Content::Nothing => vec![],
        Content::Candidacies => (1..=HOMES).flat_map(|number| stands(ledger, number)).collect(),
        Content::Evidence(seat) => convicts(ledger, seat).into_iter().collect(),
        Content::TwoAtOnce => (0..2).filter_map(|seat| convicts(ledger, seat)).collect(),
        Content::OptOut => {
            ledger.standbys().first().and_then(|home| opts_out(ledger, home)).into_iter().collect()
        }
    }
}

/// Signs an entry with a number that its signer has not used.
fn entry(ledger: &Ledger, body: Body, author: &SigningKey, others: &[SigningKey]) -> VerifiedEntry {
    let signer = PublicKey::of(author);
    let number = ledger.last_number(&signer, body.stream()) + 1;
    let entry = Entry { signer, number, salt: Salt([7; 16]), body };
    let signed = entry.sign(ledger.chain(), author);
    let signed = others.iter().fold(signed, |signed, key| signed.countersign(ledger.chain(), key));
    signed.verify(ledger.chain()).expect("signed by those it names")
}

/// A candidacy for the coming term, where it is allowed and not there yet; and a ballot.
fn stands(ledger: &Ledger, number: u8) -> Vec<VerifiedEntry> {
    let (of, term) = (home(number), ledger.coming_term());
    if ledger.barred_until(&of).is_some() || ledger.candidacy(&of, term).is_some() {
        return vec![];
    }
    let (consensus, cosigner) = (term_key(Use::Term, term, number), term_key(Use::Cosigner, term, number));
    let keys = TermKeys { consensus: PublicKey::of(&consensus), cosigner: PublicKey::of(&cosigner) };
    if ledger.home_of_term_key(&keys.consensus).is_some() {
        // It stood with these keys before and opted out; a key is registered once.
        return vec![];
    }
    let author = key(Use::Member, number);
    let candidacy = Body::Candidacy { home: of.clone(), term, keys: Some(keys) };
    let candidacy = entry(ledger, candidacy, &author, &[consensus, cosigner]);
    // Next numbers of one stream: the vote comes after the candidacy.
    let approves = [number, number % HOMES + 1, (number + 1) % HOMES + 1].map(home);
    let vote = Body::Vote { home: of, ballot: Ballot::Approve(approves.into_iter().collect()) };
    let signer = PublicKey::of(&author);
    let number = candidacy.entry().number + 1;
    let vote = Entry { signer, number, salt: Salt([7; 16]), body: vote }.sign(ledger.chain(), &author);
    vec![candidacy, vote.verify(ledger.chain()).expect("signed by its author")]
}

/// Two votes of one delegate for different blocks, unless that is known already.
fn convicts(ledger: &Ledger, seat: u8) -> Option<VerifiedEntry> {
    let culprit = ledger.delegates().as_slice().get(usize::from(seat))?;
    if ledger.is_convicted(&culprit.key) {
        return None;
    }
    let secret = secret_of(&culprit.key);
    let vote = |what: u8| {
        let mut vote = SignedVote {
            kind: VoteKind::Prevote,
            height: ledger.height() + 1,
            round: 0,
            block: Some(BlockId(Hash32([what; 32]))),
            voter: culprit.key,
            signature: Signature([0; 64]),
        };
        vote.signature = Signature::sign(secret, &vote.signing_bytes(ledger.chain()));
        Statement::Vote(vote)
    };
    let body = Body::Misbehaviour(Evidence { first: vote(1), second: vote(2) });
    let reporter = key(Use::Member, 5 + seat % 2);
    Some(entry(ledger, body, &reporter, &[]))
}

fn opts_out(ledger: &Ledger, of: &HomeId) -> Option<VerifiedEntry> {
    let number = (1..=HOMES).find(|number| home(*number) == *of)?;
    if ledger.barred_until(of).is_some() {
        return None;
    }
    let body = Body::Candidacy { home: of.clone(), term: ledger.coming_term(), keys: None };
    Some(entry(ledger, body, &key(Use::Member, number), &[]))
}

fn member(number: u8) -> GenesisMember {
    let public = |of: Use| PublicKey::of(&key(of, number));
    let keys = MemberKeys {
        member: public(Use::Member),
        reading: public(Use::Reading),
        network: public(Use::Network),
    };
    let meter = MeterRegistration {
        serial: MeterSerial::new(&format!("M-{number}")).expect("a valid serial"),
        epoch: 0,
        profile_hash: [9; 32],
        quantum: WattHours::new(1),
    };
    let admission = Admission {
        home: home(number),
        // The last two homes are of one owner.
        owner: format!("owner {}", number.min(HOMES - 1)),
        node: NodeId::new("grid").expect("a valid id"),
        size: ConnectionSize::default(),
        keys,
        meter,
    };
    GenesisMember { admission, participation: Participation::default(), deposit: Balance::ZERO }
}

/// Seven homes, six owners, epochs of two intervals and two blocks.
fn genesis() -> Genesis {
    let start = Timestamp::parse("2026-06-01T00:00:00Z").expect("a valid time");
    let role = |number: u8| PublicKey::of(&key(Use::Role, number));
    let root = NodeSpec {
        id: NodeId::new("grid").expect("a valid id"),
        parent: None,
        fee_up: Price::ZERO,
        fee_down: Price::ZERO,
        up: None,
        down: None,
    };
    Genesis {
        name: "Small street".to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start,
        clock: Some(DemoClock {
            origin: start,
            wall_origin: start,
            speed: 1,
            assurance_every: 2,
            epoch_every: 2,
        }),
        due_after_ms: 900_000,
        forward: Forward::Off,
        market: MarketTerms::default(),
        supplier_leg: SupplierLeg::Outside,
        supplier_credit: Balance::ZERO,
        network: vec![root],
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps { price_min: Price::ZERO, price_max: Price::new(1_000_000), transfer_max: Balance::ZERO },
        roles: Roles {
            operator: role(1),
            treasurer: role(2),
            auditor: role(3),
            trustee: Some(role(4)),
            metering_operator: None,
        },
        root_meter: None,
        members: (1..=HOMES).map(member).collect(),
        delegates: (1..=4)
            .map(|number| Delegate {
                key: PublicKey::of(&term_key(Use::Term, 0, number)),
                home: home(number),
            })
            .collect(),
        stake: Stake::Membership,
        replicas: ledger::Replicas::All,
    }
}
