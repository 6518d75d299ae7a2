//! What must hold across a recovery of the chain. Nobody's money changes; blocks that were final stay, but for those that only
//! nodes held whose disks are lost or whom nobody reached. What only such blocks held is the loss that the design accepts:
//! `docs/recovery.md`. Their readings must come back from the journals of homes that still have theirs.

use std::collections::BTreeSet;

use consensus::Commit;
use ledger::codec::Encode as _;
use ledger::{Block, Ledger, PublicKey, RECOVERY_AFTER_MS, Recovery};
use market::Account;

use super::street::{self, AUDITOR, OPERATOR, Purpose, TRUSTEE};
use super::world::World;

/// How the stop is worded of a node that holds blocks which the community gave up.
const ASKS_FOR_PEOPLE: &str = "commonwatt ledger recover follow";

impl World {
    /// A node takes a recovery up; true if enough people attested it.
    pub(super) fn take_recovery(&mut self, number: usize, commit: &Commit) -> bool {
        let block = &commit.executed.block;
        let Some(recovery) = block.recovery.clone() else { return false };
        let before = self.nodes[number].ledger.clone();
        self.check_recovery(&before, block, &recovery, &commit.executed.ledger);
        self.checks.forget_heard(number);
        if !self.checks.holds(block.id()) {
            self.report.recoveries += 1;
            self.give_up_after(block, &recovery);
        }
        commit.certificate.signatures.is_empty() && commit.certificate.height == block.header.height
    }

    /// By other arithmetic than the ledger's: who attested, when, and that no money moved.
    fn check_recovery(&mut self, before: &Ledger, block: &Block, recovery: &Recovery, after: &Ledger) {
        let header = &block.header;
        let interval = before.head_interval();
        let members = before.members().into_iter().filter(|(_, member)| member.is_member_in(interval));
        let members: BTreeSet<_> = members.map(|(_, member)| member.admission.keys.member).collect();
        let roles: BTreeSet<_> =
            [OPERATOR, AUDITOR, TRUSTEE].map(|role| street::public(Purpose::Role, role)).into();
        let mut signed = BTreeSet::new();
        for held in &recovery.attestations {
            let mut body = header.id().to_bytes();
            held.height.encode(&mut body);
            held.head.encode(&mut body);
            let genuine =
                held.signer.verifies(&header.chain.signing_bytes("recovery", &body), &held.signature);
            let fits = held.height < header.height;
            self.check(genuine && fits, || format!("{} did not attest this recovery", held.signer));
            signed.insert(held.signer);
        }
        let by = |of: &BTreeSet<PublicKey>| signed.intersection(of).count();
        let (homes, by_roles) = (by(&members), by(&roles));
        self.check(homes * 2 > members.len() && by_roles >= 2, || {
            format!("{homes} of {} members and {by_roles} roles recovered the chain", members.len())
        });
        let late = header.time.ms_since(before.head_time()) >= RECOVERY_AFTER_MS;
        self.check(late && header.chain.recovery > before.chain().recovery, || {
            "a recovery before its time, or of an old number".to_owned()
        });
        let balances = |ledger: &Ledger| {
            let homes = self.nodes.iter().map(|node| Account::Home(node.home.clone()));
            homes.map(|account| ledger.balance(&account)).collect::<Vec<_>>()
        };
        let same = balances(before) == balances(after) && block.entries.is_empty();
        self.check(same, || "a recovery moved money".to_owned());
    }

    /// Blocks above the one that a recovery follows from: nobody who attested may hold them, and whoever else does must be asked.
    fn give_up_after(&mut self, block: &Block, recovery: &Recovery) {
        let parent = block.header.height - 1;
        let honest = self.nodes.iter().filter(|node| node.face.is_none());
        let attested = |number: usize| {
            let key = street::public(Purpose::Member, number);
            recovery.attestations.iter().any(|held| held.signer == key)
        };
        let (number, id) = (block.header.chain.recovery, block.id());
        let broken = honest
            .filter(|node| attested(node.number))
            .find(|node| node.promise.is_none_or(|(last, of)| last < number || (last == number && of != id)));
        let broken = broken.map(|node| node.number);
        self.check(broken.is_none(), || format!("home {broken:?} attested what it does not keep to"));
        let surplus = self.checks.height().saturating_sub(parent);
        if surplus > 0 {
            self.tell(0, &format!("{surplus} blocks are given up"));
            self.report.given_up += surplus;
            let genesis = Ledger::genesis(&self.genesis).expect("the genesis of the run is sound");
            self.checks.roll_back(&genesis, parent);
        }
    }

    /// True for a block of a former number that a node finds final although the community went on without it: one that promised
    /// nothing, and has not heard of the recovery.
    pub(super) fn is_contested(&mut self, number: usize, commit: &Commit) -> bool {
        let (node, id) = (&self.nodes[number], commit.executed.block.id());
        let of = commit.executed.ledger.chain().recovery;
        let is_bound = node.face.is_none() && node.promise.is_some_and(|(promised, _)| promised > of);
        let contested = of < self.checks.recovery() && (!is_bound || self.checks.given_up.contains(&id));
        if contested && self.checks.given_up.insert(id) {
            self.report.given_up += 1;
        }
        contested
    }

    /// True if a node stopped for a good reason: it holds blocks that the community gave up.
    pub(crate) fn is_given_up(&self, number: usize, reason: &str) -> bool {
        reason.contains(ASKS_FOR_PEOPLE) && self.checks.given_up.contains(&self.nodes[number].ledger.head())
    }

    /// The operator confirms it, and its person tells the node to follow.
    pub(crate) fn follow_others(&mut self, number: usize) {
        self.report.followed += 1;
        self.tell(number, "puts its ledger aside, to follow the recovery");
        let genesis = Ledger::genesis(&self.genesis).expect("the genesis of the run is sound");
        self.nodes[number].put_ledger_aside(&genesis);
        self.start_anew(number);
    }
}
