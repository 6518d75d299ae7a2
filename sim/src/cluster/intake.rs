//! Signatures of others' entries are checked before they reach a replica, as `node/src/intake.rs` does it; here once for all
//! nodes, which is the same to each of them: whether a signature holds depends on nothing but the bytes and the chain.

use std::collections::{BTreeMap, VecDeque};

use consensus::message::{self, Lane, Message};
use consensus::{Handed, Input, entry_id};
use energy::HomeId;
use ledger::codec::Decode as _;
use ledger::{Chain, EntryId, SignedEntry, VerifiedEntry};

use super::world::World;

/// So many entries are remembered.
const REMEMBERED_MAX: usize = 16_384;

/// Entries whose signatures held, by the recovery number for which they did.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    held: BTreeMap<(u32, EntryId), VerifiedEntry>,
    in_order: VecDeque<(u32, EntryId)>,
}

impl Intake {
    /// The entry in these bytes; `Err(true)` if it is forged, `Err(false)` if it is of another recovery or no entry.
    fn verify(&mut self, chain: &Chain, bytes: &[u8]) -> Result<VerifiedEntry, bool> {
        let name = (chain.recovery, entry_id(bytes));
        if let Some(held) = self.held.get(&name) {
            return Ok(held.clone());
        }
        let signed = SignedEntry::from_bytes(bytes).map_err(|_| false)?;
        let other =
            || SignedEntry::from_bytes(bytes).is_ok_and(|signed| signed.is_of_another_recovery(chain));
        let entry = signed.verify(chain).map_err(|_| !other())?;
        self.held.insert(name, entry.clone());
        self.in_order.push_back(name);
        if self.in_order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.held.remove(&oldest);
        }
        Ok(entry)
    }
}

impl World {
    /// What reaches the replica of what a node is sent.
    pub(crate) fn take_in(&mut self, to: usize, input: Input) -> Input {
        match input {
            Input::Entries { from, bytes } => match Message::from_bytes(&bytes) {
                Ok(Message::Entries(entries)) => self.hand_over_entries(to, from, &entries, false),
                _ => Input::Entries { from, bytes },
            },
            Input::Message { from, bytes } if message::lane(&bytes) == Some(Lane::Entries) => {
                match Message::from_bytes(&bytes) {
                    Ok(Message::Entries(entries)) => self.hand_over_entries(to, from, &entries, true),
                    _ => Input::Message { from, bytes },
                }
            }
            other => other,
        }
    }

    fn hand_over_entries(&mut self, to: usize, from: HomeId, frame: &[Vec<u8>], directly: bool) -> Input {
        let chain = *self.nodes[to].ledger.chain();
        let mut entries = Vec::with_capacity(frame.len());
        for bytes in frame {
            match self.intake.verify(&chain, bytes) {
                Ok(entry) => entries.push(Handed::Verified(entry)),
                Err(false) => {}
                Err(true) => {
                    let honest = self.number_of(&from).is_none_or(|from| self.nodes[from].face.is_none());
                    self.check(!honest, || format!("node {to} charges {from} with a forged entry"));
                }
            }
        }
        Input::Verified { from, entries, directly }
    }
}
