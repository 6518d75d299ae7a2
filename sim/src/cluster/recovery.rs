//! Two of four delegates lose everything for ever, and people do what `docs/recovery.md` says: after a day without a block
//! homes offer to hold a seat, somebody makes the block, members and roles attest it, somebody hands it in. Files go from hand
//! to hand, whatever the network does; what a home is asked, its own node answers, as `node/src/recovery.rs` does.

use std::collections::BTreeSet;

use consensus::Input;
use consensus::message::Message;
use ed25519_dalek::SigningKey;
use energy::Timestamp;
use ledger::codec::Encode as _;
use ledger::{
    Attestation, Block, BlockError, Certificate, Chain, Ledger, RECOVERY_AFTER_MS, RecoveryError, SeatOffer,
    VoteKind,
};

use super::street::{self, AUDITOR, OPERATOR, Purpose, TRUSTEE};
use super::world::{Event, World};

/// The smallest set that bears a failure.
const SEATS: usize = 4;
/// So many people are asked in a second.
const ASKED_AT_ONCE: usize = 2;
/// A block's time may lie so far ahead of the clock of a node that is to attest it, in ms of market time.
const AHEAD_MS: u64 = 300_000;
/// Messages of so many ms before and after the loss arrive again, after the recovery …
const KEPT_MS: u64 = 3000;
/// … at most so many.
const KEPT_MAX: usize = 400;
/// A block that enough attested is handed in again after so long, where nothing came of it.
const HAND_IN_AGAIN_MS: u64 = 5000;

/// So long before the loss those who will be lost are heard of only in part, in ms.
const LAST_WORDS_MS: u64 = 2000;
/// They are chosen within so long, in ms, or nobody is lost.
const DOOM_MS: u64 = 1500;
/// Who holds more than the others is apart for so long after the day without blocks, in ms: people draft without it.
const APART_MS: u64 = 12_000;

/// What people do about the loss.
#[derive(Debug, Default)]
pub(crate) struct Ceremony {
    /// Who will lose everything, and when.
    doomed: Option<([usize; 2], u64)>,
    /// True if of the last block which the doomed decide nobody else hears but `apart`.
    are_muted: bool,
    /// A delegate that holds it, if it came about, and is cut off from all others until after the day.
    apart: Option<usize>,
    /// Who lost everything, and when the new card comes; `None`: never.
    lost: Vec<(usize, Option<u64>)>,
    /// Members that nobody can reach.
    absent: BTreeSet<usize>,
    /// The number that was tried last.
    number: u32,
    draft: Option<Draft>,
    /// Whose node holds more than the last draft followed from.
    highest: Option<usize>,
    /// When a block was handed in last.
    handed_in: Option<u64>,
    /// Direct messages and final blocks of the former number: from, to.
    kept: Vec<(usize, usize, Input)>,
}

/// A recovery block on its way from hand to hand.
#[derive(Debug)]
struct Draft {
    /// The ledger it follows from.
    ledger: Ledger,
    block: Block,
    /// Homes and roles that are still to be asked.
    homes: Vec<usize>,
    roles: Vec<usize>,
}

/// What somebody who was asked says.
enum Answer {
    Attested,
    /// The node is not there, fetches blocks, or its clock does not allow it.
    NotNow,
    /// The node holds a block above the one that the recovery follows from.
    HoldsMore,
}

impl World {
    /// True while a home has no card, or for ever.
    pub(crate) fn is_lost(&self, number: usize) -> bool {
        let lost = self.ceremony.lost.iter().find(|(of, _)| *of == number);
        lost.is_some_and(|(_, back)| back.is_none_or(|back| self.now < back))
    }

    /// True for a home that never has a card again.
    pub(crate) fn is_gone(&self, number: usize) -> bool {
        self.ceremony.lost.contains(&(number, None))
    }

    /// True while blocks can only go on by a recovery.
    pub(crate) fn awaits_recovery(&self) -> bool {
        !self.ceremony.lost.is_empty() && !self.checks.goes_on_after_recovery()
    }

    /// What people do in a second.
    pub(crate) fn see_to_recovery(&mut self) {
        let Some(at) = self.plan.faults.deleted else { return };
        match self.ceremony.doomed {
            // Later the day would pass while blocks still come.
            None if (at..at + DOOM_MS).contains(&self.now) => return self.choose_two(),
            Some((doomed, at)) if self.ceremony.lost.is_empty() && self.now >= at => self.delete_two(doomed),
            Some(_) => {}
            None => return,
        }
        self.keep_apart();
        if self.checks.goes_on_after_recovery() {
            return self.repeat_old_words();
        }
        if self.now < self.plan.lapse().until {
            return;
        }
        match self.ceremony.draft.take() {
            None => self.draft_recovery(),
            Some(draft) => self.pass_round(draft),
        }
    }

    /// Two delegates will be lost, once the set is the same for the next blocks: else another one might go on without them.
    fn choose_two(&mut self) {
        let ledger = self.checks.ledger();
        let seats: Vec<_> = ledger.delegates().as_slice().iter().map(|seat| seat.home.clone()).collect();
        let next: Vec<_> = ledger.next_delegates().as_slice().iter().map(|seat| seat.home.clone()).collect();
        if seats != next || seats.len() != SEATS {
            return;
        }
        let mut seated: Vec<usize> = seats.iter().filter_map(|home| self.number_of(home)).collect();
        self.shuffle(&mut seated);
        let &[first, second, third, fourth] = seated.as_slice() else { return };
        let doomed = [first, second];
        self.ceremony.doomed = Some((doomed, self.now + LAST_WORDS_MS));
        // Their last block may be known to them alone, or to one other home.
        self.ceremony.are_muted = self.dice.chance(750);
        if self.ceremony.are_muted && self.dice.chance(650) {
            let honest = |of: &usize| self.nodes[*of].face.is_none();
            self.ceremony.apart = [third, fourth].into_iter().find(honest);
        }
    }

    fn delete_two(&mut self, doomed: [usize; 2]) {
        // Where somebody may be barred, everybody else is needed for four seats.
        let may_spare = self.may_spare();
        for number in doomed {
            let back = self.now + 5000 + self.dice.below(110_000);
            let back = (!may_spare || self.dice.chance(700)).then_some(back);
            self.tell(number, "loses everything for ever");
            if self.nodes[number].replica.is_some() {
                self.crash(number);
            }
            let genesis = Ledger::genesis(&self.genesis).expect("the genesis of the run is sound");
            self.nodes[number].lose_everything(&genesis);
            self.ceremony.lost.push((number, back));
        }
        self.ceremony.are_muted = false;
        self.choose_absent();
    }

    /// The home that is to hold a block which nobody else has but the doomed, if there is one.
    pub(crate) const fn apart(&self) -> Option<usize> {
        self.ceremony.apart
    }

    /// True while a home is cut off that knows more than the others.
    pub(crate) const fn is_somebody_apart(&self) -> bool {
        self.ceremony.apart.is_some() && !self.ceremony.lost.is_empty()
    }

    /// True if nobody else is dishonest or may have to be barred.
    pub(crate) fn may_spare(&self) -> bool {
        self.plan.faces.is_empty() && !self.plan.faults.log_flips
    }

    /// True for words by which others would learn of the block that only the doomed are to know.
    pub(crate) fn is_muted(&self, from: usize, to: usize, input: &Input) -> bool {
        let Some((doomed, _)) = self.ceremony.doomed.filter(|_| self.ceremony.are_muted) else {
            return false;
        };
        let heard = doomed.contains(&to) || self.ceremony.apart == Some(to);
        let knows = doomed.contains(&from) || self.ceremony.apart == Some(from);
        if heard || !knows {
            return false;
        }
        let (Input::Message { bytes, .. } | Input::Final { bytes, .. }) = input else { return false };
        match Message::from_bytes(bytes) {
            Ok(Message::Vote(vote)) => vote.kind == VoteKind::Precommit && doomed.contains(&from),
            Ok(
                Message::SyncResponse(_) | Message::Status { .. } | Message::Final(..) | Message::Round(_),
            ) => true,
            _ => false,
        }
    }

    /// A home that knows more is cut off: until people have begun, or, where nobody reaches it, until others decide blocks.
    fn keep_apart(&mut self) {
        let Some(apart) = self.ceremony.apart.filter(|_| self.is_somebody_apart()) else { return };
        let is_over = if self.ceremony.absent.contains(&apart) {
            self.checks.goes_on_after_recovery()
        } else {
            self.now >= self.plan.lapse().until + APART_MS
        };
        if is_over || self.healed {
            self.ceremony.apart = None;
            self.blocked.clear();
            return;
        }
        let others = (0..self.nodes.len()).filter(|of| *of != apart);
        self.blocked.extend(others.flat_map(|of| [(apart, of), (of, apart)]));
    }

    /// Some members cannot be reached; more than half of them and four homes can.
    fn choose_absent(&mut self) {
        let gone = self.ceremony.lost.iter().filter(|(_, back)| back.is_none()).count();
        let needed = (self.nodes.len() / 2 + 1).max(SEATS);
        let spare = self.nodes.len().saturating_sub(gone + needed);
        let count = self.dice.pick(spare + 1);
        let mut others: Vec<usize> = (0..self.nodes.len()).filter(|of| !self.is_lost(*of)).collect();
        self.shuffle(&mut others);
        // Who knows more may be one of them.
        let apart = self.ceremony.apart.filter(|_| self.dice.chance(500));
        if self.may_spare() {
            self.ceremony.absent = apart.into_iter().chain(others).take(count).collect();
        }
    }

    fn shuffle(&mut self, numbers: &mut [usize]) {
        for at in (1..numbers.len()).rev() {
            let other = self.dice.pick(at + 1);
            numbers.swap(at, other);
        }
    }

    /// Homes that can be reached, in any order.
    fn reachable(&mut self) -> Vec<usize> {
        let absent = |of: &usize| !self.healed && self.ceremony.absent.contains(of);
        let mut homes: Vec<usize> =
            (0..self.nodes.len()).filter(|of| !absent(of) && !self.is_gone(*of)).collect();
        self.shuffle(&mut homes);
        homes
    }

    /// True if a node can do a step of a recovery.
    fn is_there(&self, number: usize) -> bool {
        self.nodes[number].replica.as_ref().is_some_and(|replica| !replica.is_syncing())
    }

    /// Somebody gathers offers and makes the block.
    fn draft_recovery(&mut self) {
        let homes = self.reachable();
        let anybody = homes.iter().copied().find(|of| self.is_there(*of));
        let highest = self.ceremony.highest.filter(|of| self.is_there(*of));
        let Some(maker) = highest.or(anybody) else { return };
        let ledger = self.nodes[maker].ledger.clone();
        let time = self.nodes[maker].clock.market(self.now);
        // People see by their own clocks that a node's is far ahead: nobody could attest its block for hours.
        if !is_silent(&ledger, time) || time > self.market().plus_ms(AHEAD_MS) {
            return;
        }
        let number = self.ceremony.number.max(ledger.chain().recovery) + 1;
        let chain = Chain { recovery: number, ..*ledger.chain() };
        let offers = homes.iter().filter_map(|home| self.offer(*home, &chain)).collect();
        let certificate = self.nodes[maker].disk.last_certificate();
        let Some(block) = first_that_holds(&ledger, certificate.as_ref(), (number, time), offers) else {
            return;
        };
        self.ceremony.number = number;
        self.tell(maker, &format!("makes recovery {number} after block {}", ledger.height()));
        let mut roles = vec![OPERATOR, AUDITOR, TRUSTEE];
        self.shuffle(&mut roles);
        self.ceremony.draft = Some(Draft { ledger, block, homes, roles });
    }

    /// A home offers to hold a seat, with keys for the coming term that are on its disk.
    fn offer(&mut self, number: usize, chain: &Chain) -> Option<SeatOffer> {
        let node = &mut self.nodes[number];
        let replica = node.replica.as_mut().filter(|replica| !replica.is_syncing())?;
        let term = node.ledger.coming_term();
        let [key, cosigner] = street::term_keys(number, node.card, term);
        if node.term_keys.insert(term, key.clone()).is_none() {
            replica.learn_term_key(key.clone());
        }
        let member = street::key(Purpose::Member, number);
        Some(SeatOffer::sign(chain, node.home.clone(), &member, &key, &cosigner))
    }

    /// The block goes to the next people; once enough have attested it, somebody hands it in.
    fn pass_round(&mut self, mut draft: Draft) {
        if self.ceremony.handed_in.is_some() {
            return self.hand_in_again(draft);
        }
        for _ in 0..ASKED_AT_ONCE {
            let Some(home) = draft.homes.pop() else { break };
            match self.attest(&mut draft.block, home) {
                Answer::Attested => {}
                Answer::NotNow => draft.homes.insert(0, home),
                Answer::HoldsMore => {
                    self.tell(home, "holds more than the recovery follows from");
                    self.report.abandoned += 1;
                    self.ceremony.highest = Some(home);
                    return;
                }
            }
        }
        if let Some(role) = draft.roles.pop()
            && !self.attest_as_role(&mut draft.block, role)
        {
            draft.roles.insert(0, role);
        }
        let attestations = draft.block.recovery.as_ref().map(|held| held.attestations.clone());
        let support = draft.ledger.support(&draft.block.header, &attestations.unwrap_or_default());
        match support {
            Ok(support) if support.is_enough() => {
                self.hand_in(&draft.block);
            }
            Ok(_) => self.hand_in_too_early(&draft),
            Err(error) => self.check(false, || format!("an attestation must not be there: {error}")),
        }
        self.ceremony.draft = Some(draft);
    }

    /// What the node of a home does that is asked to attest: see `node/src/recovery.rs`.
    fn attest(&mut self, block: &mut Block, number: usize) -> Answer {
        match self.may_attest(block, number) {
            Answer::Attested => {}
            other => return other,
        }
        let (recovery, id) = (block.header.chain.recovery, block.id());
        let node = &mut self.nodes[number];
        let promised = node.promise.is_none_or(|(last, of)| last < recovery || (last, of) == (recovery, id));
        // Who lies promises nothing.
        if !node.face.is_some_and(super::Face::contradicts_itself) {
            if !promised {
                return Answer::NotNow;
            }
            node.promise = Some((recovery, id));
            if let Some(replica) = &mut node.replica {
                replica.promise(recovery);
            }
        }
        self.sign(block, number, &street::key(Purpose::Member, number));
        self.tell(number, &format!("attests recovery {recovery}, block {id}"));
        Answer::Attested
    }

    fn may_attest(&self, block: &Block, number: usize) -> Answer {
        let (node, header) = (&self.nodes[number], &block.header);
        let now = node.clock.market(self.now);
        let named = header.height - 1;
        if named < node.ledger.height() && self.is_there(number) {
            return Answer::HoldsMore;
        }
        let may = self.is_there(number)
            && named == node.ledger.height()
            && is_silent(&node.ledger, now)
            && header.time <= now.plus_ms(AHEAD_MS)
            && node.ledger.rehearse_recovery(block).is_ok();
        if may { Answer::Attested } else { Answer::NotNow }
    }

    /// A role attests with what the node of some home holds.
    fn attest_as_role(&mut self, block: &mut Block, role: usize) -> bool {
        let holder =
            self.reachable().into_iter().find(|of| matches!(self.may_attest(block, *of), Answer::Attested));
        if let Some(holder) = holder {
            self.sign(block, holder, &street::key(Purpose::Role, role));
        }
        holder.is_some()
    }

    fn sign(&self, block: &mut Block, holder: usize, key: &SigningKey) {
        let ledger = &self.nodes[holder].ledger;
        let attestation = Attestation::sign(&block.header, ledger.height(), ledger.head(), key);
        if let Some(recovery) = &mut block.recovery {
            recovery.attest(attestation);
        }
    }

    /// Somebody hands the block in; false if there is nobody whose node can take it up.
    fn hand_in(&mut self, block: &Block) -> bool {
        let homes = self.reachable();
        let can = |of: &usize| self.is_there(*of) && self.nodes[*of].ledger.execute(block).is_ok();
        let by = homes.into_iter().find(can);
        if let Some(by) = by {
            self.ceremony.handed_in = Some(self.now);
            self.tell(by, "hands the recovery in");
            self.step(by, Input::Recover(block.to_bytes()));
        }
        by.is_some()
    }

    /// Where nothing came of it, because power failed or nobody heard of it, somebody hands it in again. Where everybody has
    /// gone on from where it begins, it is given up and people agree on another one.
    fn hand_in_again(&mut self, draft: Draft) {
        let waits = self.ceremony.handed_in.is_some_and(|at| self.now < at + HAND_IN_AGAIN_MS);
        if waits || self.hand_in(&draft.block) || self.checks.holds(draft.block.id()) {
            self.ceremony.draft = Some(draft);
        } else {
            self.report.abandoned += 1;
            self.ceremony.handed_in = None;
        }
    }

    /// Somebody has no patience, or means ill: a block that too few have attested yet is told to everybody.
    fn hand_in_too_early(&mut self, draft: &Draft) {
        if !self.dice.chance(150) {
            return;
        }
        let Some(by) = self.reachable().into_iter().find(|of| self.nodes[*of].replica.is_some()) else {
            return;
        };
        let certificate = Certificate::of_recovery(draft.block.header.height, draft.block.id());
        let bytes = Message::Final(draft.block.to_bytes(), certificate).to_bytes();
        self.gossip(by, &|from| Input::Final { from, bytes: bytes.clone() });
    }

    /// Keeps what is said around the loss.
    pub(crate) fn keep_old_words(&mut self, from: usize, to: usize, input: &Input) {
        let Some(at) = self.plan.faults.deleted else { return };
        let is_near = self.now + KEPT_MS >= at && self.now <= at + KEPT_MS;
        let is_word = matches!(input, Input::Message { .. } | Input::Final { .. });
        if is_near && is_word && self.ceremony.kept.len() < KEPT_MAX {
            self.ceremony.kept.push((from, to, input.clone()));
        }
    }

    /// Words of the former number, many of delegates that are no more, arrive after the recovery.
    fn repeat_old_words(&mut self) {
        for (from, to, input) in std::mem::take(&mut self.ceremony.kept) {
            let after = 1 + self.dice.below(4000);
            self.report.late_words += 1;
            self.push(after, Event::Deliver { from, to, input });
        }
    }
}

/// True if there was no block for so long that a recovery is possible.
fn is_silent(ledger: &Ledger, now: Timestamp) -> bool {
    now.ms_since(ledger.head_time()) >= RECOVERY_AFTER_MS
}

/// The block with the first four offers that can be; `None` if there are not so many.
fn first_that_holds(
    ledger: &Ledger,
    certificate: Option<&Certificate>,
    of: (u32, Timestamp),
    mut offers: Vec<SeatOffer>,
) -> Option<Block> {
    while offers.len() >= SEATS {
        let seats = offers.iter().take(SEATS).cloned().collect();
        match ledger.propose_recovery(certificate, of, seats) {
            Ok(executed) => return Some(executed.block),
            Err(BlockError::Recovery(RecoveryError::Seat { home, .. })) => {
                offers.retain(|offer| offer.home != home);
            }
            Err(_) => return None,
        }
    }
    None
}
