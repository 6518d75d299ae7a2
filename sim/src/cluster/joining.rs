//! A home with an empty disk begins with the state after a recent block, from whoever gives one that holds. As
//! `node/src/joining.rs` and `node/src/store/joined.rs` do it: one member after the other is asked and none believed, the
//! state must follow from the genesis. Who gives something else is passed over. Where nobody gives one, the home begins with
//! the first block.

use ledger::{Certificate, Genesis, Header, Ledger, LightClient, PublicKey, SetChange};

use super::street;
use super::world::World;

/// The state after a block, and what proves it.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// Every change of the delegates before the block.
    pub(crate) changes: Vec<SetChange>,
    /// The block after which it is, and why that is final.
    pub(crate) header: Header,
    pub(crate) certificate: Certificate,
    pub(crate) snapshot: Vec<u8>,
}

impl Package {
    /// The ledger in it, when everything follows from the genesis.
    fn check(&self, genesis: &Genesis) -> Result<Ledger, String> {
        let mut client = LightClient::new(genesis).map_err(|error| error.to_string())?;
        for change in &self.changes {
            client.follow(change).map_err(|error| error.to_string())?;
        }
        let Self { header, certificate, snapshot, .. } = self;
        let trusted = client.trust(header.clone(), certificate).map_err(|error| error.to_string())?;
        let ledger = Ledger::restore(genesis, snapshot).map_err(|error| error.to_string())?;
        if trusted.is_of(&ledger) { Ok(ledger) } else { Err("it is another state".to_owned()) }
    }
}

impl World {
    /// An empty disk begins with what another member gives, where this run has it so.
    pub(crate) fn begin_with_a_state(&mut self, number: usize) {
        let asks = self.plan.faults.given_states && self.nodes[number].disk.is_empty();
        if !asks || self.would_be_missed(number) {
            return;
        }
        let first = self.dice.pick(self.nodes.len());
        for step in 0..self.nodes.len() {
            let giver = (first + step) % self.nodes.len();
            let cut = [(giver, number), (number, giver)].iter().any(|pair| self.blocked.contains(pair));
            if giver == number || cut || self.nodes[giver].replica.is_none() {
                continue;
            }
            let Some(package) = self.nodes[giver].disk.package() else { continue };
            // A home that has not heard of a recovery follows from the genesis, too, to blocks that the community has given up.
            // Whom to ask is what people tell who joins.
            if self.checks.given_up.contains(&package.header.id()) {
                continue;
            }
            if self.nodes[giver].face.is_some() {
                self.refuse_spoilt(number, package);
            } else if self.take_state(number, &package) {
                return;
            }
        }
    }

    /// A key that holds a seat and finds a chain but no log does not vote. That is one delegate less, which the seats bear only
    /// where nobody else is dishonest or forgetful.
    fn would_be_missed(&self, number: usize) -> bool {
        let key = PublicKey::of(&street::card_key(number, self.nodes[number].card));
        let holds_seat = self.checks.ledger().delegates().seat_of(&key).is_some();
        holds_seat && !self.may_spare()
    }

    /// Takes what an honest member gives; false where only people could vouch for it, after a recovery.
    fn take_state(&mut self, number: usize, package: &Package) -> bool {
        match package.check(&self.genesis) {
            Ok(ledger) => {
                let height = ledger.height();
                let same =
                    self.checks.at(height).is_some_and(|decided| decided.state_root == ledger.state_root());
                self.check(same, || {
                    format!("node {number} was given another state than that of block {height}")
                });
                self.tell(number, &format!("begins with the state after block {height}"));
                self.report.given_states += 1;
                self.nodes[number].disk.begin_with(package, ledger);
                true
            }
            Err(reason) => {
                let recovered = package.changes.iter().any(SetChange::is_recovery);
                self.check(recovered, || format!("node {number} refused an honest member's state: {reason}"));
                false
            }
        }
    }

    /// What a dishonest member gives is never taken.
    fn refuse_spoilt(&mut self, number: usize, mut package: Package) {
        let kind = self.spoil(&mut package);
        let refused = package.check(&self.genesis).is_err();
        self.check(refused, || format!("node {number} took a spoilt state, kind {kind}"));
        self.report.spoilt_states += 1;
    }

    /// Makes something else of a package; says which of the ways.
    fn spoil(&mut self, package: &mut Package) -> u64 {
        let (place, bit) = (self.dice.pick(package.snapshot.len()), self.dice.pick(8));
        let kind = self.dice.below(5);
        let Package { header, certificate, snapshot, .. } = package;
        match kind {
            // Another state under the right header.
            0 => snapshot[place] ^= 1 << bit,
            // A header of its own, under the certificate of the right one.
            1 => header.state_root.0[place % 32] ^= 1 << bit,
            // A certificate with too few signatures, for a header of its own as for the right one.
            2 => certificate.signatures.truncate(certificate.signatures.len() / 2),
            3 => {
                header.state_root.0[place % 32] ^= 1 << bit;
                certificate.block = header.id();
            }
            // A state before or after the block.
            _ => header.height += 1,
        }
        kind
    }
}
