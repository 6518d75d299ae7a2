//! Histories of a small community on its ledger: whatever is signed, whenever it comes, what must always hold does.

use std::collections::{BTreeMap, BTreeSet};

use energy::{Balance, HomeId, Interval, Money, Mtu, Price, WattHours};
use ledger::codec::{Decode, Encode};
use ledger::{
    BlockId, Certificate, EntryId, Executed, Forward, Genesis, Ledger, MoneyMode, Outcome, OutcomeKind,
    Participation, ReadingSource, Signature, Stake, UnverifiedBlock, VerifiedEntry, VoteKind, sum_by_account,
    vote_signing_bytes,
};
use market::{Account, Division, Losses, Sharing, SupplierLeg, Unused};

use crate::acts::Acts;
use crate::street::{self, FOUNDERS};
use crate::{Choices, keys};

/// The longest history: what matters shows in a few epochs.
const BLOCKS_MAX: usize = 24;
/// The other node takes up a snapshot after so many blocks.
const RESTART_EVERY: usize = 8;
/// The most entries between two blocks.
const ENTRIES_MAX: usize = 12;

/// A chain and what can be known of it without believing it.
struct History {
    genesis: Genesis,
    /// Of who proposes every block.
    ledger: Ledger,
    /// Of another node, which reads blocks from their bytes, and starts from a snapshot now and then.
    other: Ledger,
    blocks: Vec<Executed>,
    balances: BTreeMap<Account<HomeId>, i128>,
    /// Intervals of a home that were settled, and how often money or energy of a metered one was.
    closed: BTreeSet<(HomeId, Interval)>,
    metered: BTreeSet<(HomeId, Interval)>,
    used: BTreeSet<EntryId>,
}

/// One history, judged after every block and at its end.
pub fn chain(bytes: &[u8]) {
    blocks_of(bytes);
}

/// One history: terms, then entries and blocks until the bytes end. Returns the blocks.
pub fn blocks_of(bytes: &[u8]) -> Vec<Executed> {
    let mut choices = Choices::new(bytes);
    let genesis = terms(&mut choices);
    let Ok(ledger) = Ledger::genesis(&genesis) else { return Vec::new() };
    ledger.check_invariants().unwrap();
    let mut acts = Acts::new(&genesis);
    let mut history = History::new(genesis, ledger);
    while choices.more() && history.blocks.len() < BLOCKS_MAX {
        let mut entries = Vec::new();
        while choices.more() && entries.len() < ENTRIES_MAX && !choices.one_in(4) {
            entries.extend(acts.entry(&mut choices, &history.ledger));
        }
        history.block(&mut choices, &entries);
    }
    history.judge_the_end();
    history.blocks
}

/// A community under any terms that genesis allows, and now and then some it does not.
fn terms(choices: &mut Choices<'_>) -> Genesis {
    let mut genesis = street::genesis();
    genesis.mtu = choices.pick(&[Mtu::Min15, Mtu::Min5, Mtu::Min30, Mtu::Min60]);
    genesis.forward = choices.pick(&[Forward::Off, Forward::Auction, Forward::Posted]);
    genesis.stake = choices.pick(&[Stake::Membership, Stake::Certified]);
    genesis.supplier_leg = choices.pick(&[SupplierLeg::Ledger, SupplierLeg::Outside]);
    genesis.supplier_credit =
        Balance::new(choices.pick(&[1_000_000_000_000, 0, 1_000, 1_000_000_000_000_000_000]));
    genesis.due_after_ms = choices.pick(&[900_000, 2_700_000, 86_400_000]);
    genesis.market.reading_source = choices.pick(&[ReadingSource::Node, ReadingSource::MeteringOperator]);
    genesis.market.losses = choices.pick(&[Losses::Recorded, Losses::Community]);
    genesis.market.envelope_permille = choices.pick(&[500, 0, 1000]);
    genesis.market.sharing = sharing(choices);
    if choices.one_in(3) {
        let credit = Balance::new(choices.pick(&[300_000_000, 1, 1_000_000_000_000_000]));
        genesis.market.money = MoneyMode::Statement { credit };
    }
    if choices.one_in(8) {
        genesis.clock = None;
    }
    if choices.one_in(8) {
        genesis.root_meter = None;
    }
    for member in &mut genesis.members {
        member.deposit =
            Balance::new(choices.pick(&[1_000_000_000_000, 0, 1, 300_000_000, 1_000_000_000_000_000_000]));
        let share_permyriad = u32::from(choices.byte()) * 10;
        member.participation = Participation { share_permyriad, permille: choices.pick(&[1000, 1, 999, 0]) };
    }
    let seats = choices.pick(&[FOUNDERS, 1, 2, 3]);
    genesis.delegates.truncate(usize::from(seats));
    genesis
}

fn sharing(choices: &mut Choices<'_>) -> Sharing {
    let price =
        choices.pick(&[Some(Price::new(150_000)), None, Some(Price::ZERO), Some(Price::new(400_000))]);
    match choices.one_of(6) {
        0 | 1 => Sharing::Neighbour,
        2 => Sharing::StaticKey { price, unused: Unused::Lost },
        3 => Sharing::StaticKey { price, unused: Unused::PassedOn },
        4 => Sharing::DynamicKey { price },
        _ => Sharing::Incentive {
            payment: price.unwrap_or_default(),
            division: choices.pick(&[Division::Producers, Division::Consumers, Division::Halves]),
        },
    }
}

impl History {
    fn new(genesis: Genesis, ledger: Ledger) -> Self {
        let mut balances = BTreeMap::new();
        for member in &genesis.members {
            let deposit = i128::from(member.deposit.get());
            *balances.entry(Account::Home(member.admission.home.clone())).or_default() += deposit;
            *balances.entry(Account::Deposits).or_default() -= deposit;
        }
        Self {
            genesis,
            other: ledger.clone(),
            ledger,
            blocks: Vec::new(),
            balances,
            closed: BTreeSet::new(),
            metered: BTreeSet::new(),
            used: BTreeSet::new(),
        }
    }

    /// Proposes a block, carries it out from its bytes as another node would, and judges what came of it.
    fn block(&mut self, choices: &mut Choices<'_>, entries: &[VerifiedEntry]) {
        let commit = self.certificate(choices);
        let time = self.ledger.head_time().plus_ms(pause(choices, self.genesis.mtu));
        let proposed = self.ledger.propose_after(commit.as_ref(), time, entries);
        let proposed = proposed.unwrap_or_else(|error| panic!("no block can follow: {error}"));
        assert_eq!(proposed.executed.block.entries.len() + proposed.refused.len(), entries.len());
        let bytes = proposed.executed.block.to_bytes();
        let read = UnverifiedBlock::from_bytes(&bytes).unwrap();
        let known = |signed: &ledger::SignedEntry| {
            let bytes = signed.to_bytes();
            entries.iter().find(|entry| entry.bytes() == bytes).cloned()
        };
        let read = read.verify(self.ledger.chain(), known).unwrap();
        let executed = self.other.execute(&read).unwrap();
        assert_same(&executed, &proposed.executed);
        let looks = self.blocks.len().is_multiple_of(4);
        if let Some((refused, _)) = proposed.refused.first().filter(|_| looks) {
            self.refuses_a_block_with(&executed, entries, *refused);
        }
        self.judge(&executed);
        self.other = executed.ledger;
        self.ledger = proposed.executed.ledger.clone();
        self.blocks.push(proposed.executed);
        if self.blocks.len().is_multiple_of(RESTART_EVERY) {
            self.restart();
        }
    }

    /// The other node takes up a snapshot of the chain and goes on from there.
    fn restart(&mut self) {
        let snapshot = self.ledger.snapshot();
        assert_eq!(self.other.snapshot(), snapshot);
        self.other = Ledger::restore(&self.genesis, &snapshot).unwrap();
        assert_eq!(self.other.snapshot(), snapshot);
    }

    /// A block that holds, behind the valid ones, an entry that was refused among them is not carried out. Its entry may be
    /// valid behind all of them; then the header does not fit it.
    fn refuses_a_block_with(&self, valid: &Executed, entries: &[VerifiedEntry], refused: EntryId) {
        let mut block = valid.block.clone();
        block.entries.extend(entries.iter().find(|entry| entry.id() == refused).cloned());
        assert!(self.ledger.execute(&block).is_err(), "{refused} slipped into a block");
    }

    /// Why the last block is final, signed by a choice of those who decided it; sometimes it is left out.
    fn certificate(&self, choices: &mut Choices<'_>) -> Option<Certificate> {
        let who = choices.byte();
        if self.ledger.height() == 0 || who >= 128 {
            return None;
        }
        let (chain, set) = (self.ledger.chain(), self.ledger.last_delegates());
        let (height, block): (u64, BlockId) = (self.ledger.height(), self.ledger.head());
        let message = vote_signing_bytes(chain, VoteKind::Precommit, height, 0, Some(&block));
        let mut signatures = Vec::new();
        let spare = set.len() - set.quorum();
        let mut left_out = 0;
        for (seat, delegate) in set.as_slice().iter().enumerate() {
            if left_out < spare && who >> (seat % 8) & 1 == 1 {
                left_out += 1;
                continue;
            }
            let key = keys::name_of_term(&delegate.key).unwrap();
            signatures.push((u8::try_from(seat).unwrap(), Signature::sign(&keys::signing(key), &message)));
        }
        Some(Certificate { height, round: 0, block, signatures })
    }

    fn judge(&mut self, executed: &Executed) {
        executed.ledger.check_invariants().unwrap();
        for entry in &executed.block.entries {
            assert!(self.used.insert(entry.id()), "an entry stands in the chain once");
        }
        for outcome in &executed.outcomes {
            assert_eq!(Outcome::from_bytes(&outcome.to_bytes()).as_ref(), Ok(outcome));
            if let Outcome::Home(of) = outcome {
                self.judge_home(of);
            }
        }
        let of_block: i128 = sum_by_account(&executed.postings).into_values().map(Money::get).sum();
        assert_eq!(of_block, 0, "postings of a block sum to zero");
        for posting in &executed.postings {
            *self.balances.entry(posting.account.clone()).or_default() += posting.amount.get();
        }
        let lowest = -i128::from(self.genesis.market.money.credit().get());
        for (account, sum) in &self.balances {
            assert_eq!(i128::from(executed.ledger.balance(account).get()), *sum, "{account:?}");
            assert!(!matches!(account, Account::Home(_)) || *sum >= lowest, "{account:?} at {sum}");
        }
        self.judge_delegates(executed);
    }

    fn judge_home(&mut self, of: &ledger::HomeOutcome) {
        let key = (of.home.clone(), of.interval);
        match of.kind {
            OutcomeKind::Settled => assert!(self.closed.insert(key.clone()), "an interval settles once"),
            OutcomeKind::Provisional => return,
            OutcomeKind::Late | OutcomeKind::Correction => {}
        }
        if of.metered.is_some() {
            assert!(self.metered.insert(key), "energy of {} in {} settles once", of.home, of.interval);
        }
        assert!(of.claim >= Money::ZERO && of.incentive >= Money::ZERO);
    }

    /// What is decided now holds two heights later, and no more seats change hands than may fail.
    fn judge_delegates(&self, executed: &Executed) {
        let (before, after) = (&self.ledger, &executed.ledger);
        assert_eq!(after.delegates(), before.next_delegates());
        assert_eq!(after.last_delegates(), before.delegates());
        let (changed, most) = after.seats_changed();
        assert!(changed <= most, "{changed} seats changed hands where {most} may");
        let owners: Vec<_> = after.next_delegates().as_slice().iter().map(|seat| &seat.home).collect();
        assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), owners.len(), "a home has one seat");
        if after.epoch().number > 0 && after.epoch().number == after.next_delegates().term() {
            let seated: BTreeSet<_> =
                owners.iter().map(|home| &after.member(home).unwrap().admission.owner).collect();
            assert_eq!(seated.len(), owners.len(), "an owner has one seat");
        }
    }

    /// Two nodes that saw the same blocks hold the same, and nothing was paid out that was not paid in.
    fn judge_the_end(&self) {
        assert_eq!(self.other.snapshot(), self.ledger.snapshot());
        let open = self.balances.get(&Account::Deposits).copied().unwrap_or_default();
        assert!(open <= 0, "nothing is paid out that was not paid in");
    }
}

/// How long until the next block: mostly what a community lives by, at times an outage, at times next to nothing.
fn pause(choices: &mut Choices<'_>, mtu: Mtu) -> u64 {
    let outage = choices.byte() == u8::MAX;
    let of = [300_000, 1, 1_000, 60_000, mtu.ms(), mtu.ms(), mtu.ms() * 2, mtu.ms() * 4, mtu.ms() * 9];
    let outages = [86_400_000, 86_400_000 * 3, 86_400_000 * 40];
    if outage { choices.pick(&outages) } else { choices.pick(&of) + choices.below(1_000) }
}

/// Two nodes that came to the same.
fn assert_same(left: &Executed, right: &Executed) {
    assert_eq!(left.block, right.block);
    assert_eq!(left.leaves, right.leaves);
    assert_eq!(left.outcomes, right.outcomes);
    assert_eq!(left.postings, right.postings);
    assert_eq!(left.readings, right.readings);
    assert_eq!(left.statements, right.statements);
    assert_eq!(left.ledger.state_root(), right.ledger.state_root());
}

/// A small amount of energy, or one at the edge of what is possible.
pub fn energy(choices: &mut Choices<'_>) -> WattHours {
    let shape = choices.byte();
    let small = u64::from(choices.byte()) * 8;
    WattHours::new(match shape {
        0..=239 => small,
        240..=247 => small * 1_000,
        248..=251 => 1_000_000,
        252..=254 => 1_000_001,
        255 => u64::MAX - small,
    })
}
