//! What must hold at the end of a run, when everything has healed.

use std::collections::BTreeSet;

use ledger::{Ledger, PublicKey};

use super::checks::PROVABLE;
use super::disk::replay;
use super::world::World;

impl World {
    /// Blocks go on after healing.
    pub(crate) fn check_progress(&mut self, before: u64) {
        let height = self.checks.height();
        self.check(height > before, || format!("stalled at height {height} for 30 s after healing"));
    }

    /// Everybody has the same chain, nothing was lost, and it can be carried out again.
    pub(crate) fn check_end(&mut self) {
        for number in 0..self.nodes.len() {
            if self.nodes[number].face.is_none() && !self.is_gone(number) {
                if !self.nodes[number].is_light {
                    self.check_chain_of(number);
                }
                self.check_own_entries(number);
            }
        }
        let energy = self.checks.energy();
        self.check(energy.is_ok(), || energy.err().unwrap_or_default());
        self.check_meters();
        self.check_replay();
        self.check_convictions();
    }

    /// A node's stored chain is the one that was decided, whole but for a last block under way.
    fn check_chain_of(&mut self, number: usize) {
        let node = &self.nodes[number];
        let (height, decided) = (node.ledger.height(), self.checks.height());
        let root = node.ledger.state_root();
        let (stored, base) = (node.disk.blocks(), node.disk.base_height());
        let decided_after = self.checks.decided.iter().skip(usize::try_from(base).unwrap_or(usize::MAX));
        let differs =
            stored.iter().zip(decided_after).position(|(stored, decided)| stored.bytes != decided.bytes);
        let flipped = self.report.block_flips > 0;
        let all = base + stored.len() as u64 == height;
        let same = self.checks.at(height).is_some_and(|decided| decided.state_root == root);
        self.check(height + 2 >= decided, || format!("node {number} is at {height} of {decided}"));
        self.check(same, || format!("node {number} has another state root"));
        // Where a bit flipped, the checksum says so, and the block is not handed out.
        self.check(all && (differs.is_none() || flipped), || {
            format!("node {number} stores another block {differs:?}")
        });
    }

    /// What a home read until shortly before the end is final.
    fn check_own_entries(&mut self, number: usize) {
        let before = self.now.saturating_sub(10_000);
        let node = &self.nodes[number];
        if self.checks.ledger().leaves(&node.home).is_some() {
            return;
        }
        let overdue = node.journal.overdue(self.checks.ledger(), before);
        let what = overdue
            .map(|kept| format!("home {number}: reading {} of {} ms is not final", kept.number, kept.at));
        self.check(what.is_none(), || what.unwrap_or_default());
    }

    /// The registers on the ledger are those that the meters showed.
    fn check_meters(&mut self) {
        let mut wrong = None;
        for node in &self.nodes {
            let Some(member) = self.checks.ledger().member(&node.home) else { continue };
            let Some((record, _)) = member.last_record else { continue };
            let shown = node.journal.taken.get(&record);
            let mut shown = shown.into_iter().flatten().map(|flow| (flow.import, flow.export));
            let read = self.checks.last_read.get(&node.home).map(|(_, shown)| *shown);
            if !shown.any(|shown| Some(shown) == read) {
                wrong = Some(format!("{}: its meter never showed {read:?}, record {record}", node.home));
            }
        }
        self.check(wrong.is_none(), || wrong.unwrap_or_default());
    }

    /// The whole chain again from its genesis, with every signature.
    fn check_replay(&mut self) {
        let genesis = Ledger::genesis(&self.genesis).ok();
        let blocks = self.checks.decided.iter();
        let again = blocks.fold(genesis, |ledger, decided| replay(&ledger?, &decided.bytes));
        let (root, tree) = (self.checks.ledger().state_root(), self.checks.ledger().tree_root());
        let same = again.is_some_and(|again| again.state_root() == root && again.tree_root() == tree);
        self.check(same, || "a replay from the genesis gives another state".to_owned());
    }

    /// Who contradicted itself before somebody honest is convicted, and nobody else is.
    fn check_convictions(&mut self) {
        let ledger = self.checks.ledger().clone();
        let mut wrong = None;
        let proven = self.checks.provable.iter().filter(|(_, heights)| heights.len() >= PROVABLE);
        let keys: BTreeSet<_> = proven.clone().map(|((_, key), _)| *key).collect();
        self.report.provable = keys.len() as u64;
        for ((to, key), heights) in proven {
            if !ledger.is_convicted(key) {
                wrong = Some(format!("node {to} heard {key} contradict itself at {heights:?}, unproven"));
            }
        }
        let controlled = self.plan.control.is_some();
        self.check(wrong.is_none() || controlled, || wrong.unwrap_or_default());
        for number in 0..self.nodes.len() {
            let node = &self.nodes[number];
            let keys = node.term_keys.values().map(PublicKey::of);
            let convicted = keys.into_iter().any(|key| ledger.is_convicted(&key))
                || ledger.barred_until(&node.home).is_some();
            if convicted {
                self.report.convicted.insert(node.home.clone());
            }
            let fair = !convicted || node.face.is_some_and(super::Face::contradicts_itself) || controlled;
            self.check(fair, || format!("home {number} was convicted and is honest"));
        }
    }
}
