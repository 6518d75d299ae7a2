//! Changing the rules of a running chain: a version that two thirds can run is in force from an epoch's start on.

use energy::HomeId;

use crate::codec::{CodecError, Decode, Encode, Reader};
use crate::crypto::Hash32;
use crate::ledger::Ledger;
use crate::table::Table;

/// A version is in force once more than two thirds of delegates and of members could run it at the end of so many epochs, one
/// after the other.
const EPOCHS: u8 = 2;

/// The state's section of rule versions.
#[derive(Debug, Clone)]
pub(crate) struct Versions {
    /// The rules of the next block.
    pub active: u16,
    /// A later version that enough can run, and at the end of how many epochs they could.
    pub ready: Option<(u16, u8)>,
    /// The highest version that a member's node can run, where it has said so.
    pub signals: Table<HomeId, u16>,
}

impl Versions {
    pub fn new(active: u16) -> Self {
        Self { active, ready: None, signals: Table::default() }
    }

    /// The highest version after the one in force that more than two thirds of each of these groups can run.
    pub fn supported(&self, groups: &[Vec<&HomeId>]) -> Option<u16> {
        let can_run = |home: &HomeId, version: u16| self.signals.get(home).is_some_and(|it| *it >= version);
        let enough = |group: &Vec<&HomeId>, version: u16| {
            let count = group.iter().filter(|home| can_run(home, version)).count();
            count.saturating_mul(3) > group.len().saturating_mul(2)
        };
        let later = self.signals.iter().map(|(_, version)| *version).filter(|version| *version > self.active);
        later.filter(|version| groups.iter().all(|group| enough(group, *version))).max()
    }

    /// An epoch ends, and `supported` is what enough can run.
    pub fn end_epoch(&mut self, supported: Option<u16>) {
        self.ready = match (self.ready, supported) {
            // Who can run a later version can run this one, too.
            (Some((version, epochs)), Some(supported)) if version <= supported => {
                Some((version, epochs.saturating_add(1)))
            }
            (_, Some(supported)) => Some((supported, 1)),
            (_, None) => None,
        };
        if let Some((version, _)) = self.ready.filter(|(_, epochs)| *epochs >= EPOCHS) {
            (self.active, self.ready) = (version, None);
        }
    }

    pub fn digests(&mut self) -> [Hash32; 2] {
        let mut small = Vec::new();
        self.encode_small(&mut small);
        [Hash32::of(&[&small]), self.signals.digest()]
    }

    fn encode_small(&self, out: &mut Vec<u8>) {
        self.active.encode(out);
        self.ready.encode(out);
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_small(out);
        self.signals.encode(out);
    }

    pub fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self { active: Decode::decode(r)?, ready: Decode::decode(r)?, signals: Decode::decode(r)? })
    }
}

impl Ledger {
    /// The rules by which the next block is made.
    #[must_use]
    pub const fn rule_version(&self) -> u16 {
        self.state().versions.active
    }

    /// The rules of the next block, where this program does not have them: it can neither make nor check that block.
    #[must_use]
    pub fn unknown_rules(&self) -> Option<u16> {
        let needed = self.rule_version();
        (needed > self.known_rules()).then_some(needed)
    }

    /// The highest rule version that this program has.
    #[must_use]
    pub fn known_rules(&self) -> u16 {
        self.state().rules.known_up_to
    }

    /// The same ledger in a program that has rules up to `version`: for tests of how a chain changes its rules.
    #[must_use]
    pub fn knowing(mut self, version: u16) -> Self {
        self.know_rules(version);
        self
    }

    /// The highest rule version that a member's node can run, as far as it has said so.
    #[must_use]
    pub fn signalled(&self, home: &HomeId) -> Option<u16> {
        self.state().versions.signals.get(home).copied()
    }

    /// A later rule version that enough can run, which is in force from the next epoch's start on if they still can then.
    #[must_use]
    pub fn coming_rules(&self) -> Option<u16> {
        self.state().versions.ready.map(|(version, _)| version)
    }
}
