//! What every engine does, whether it carries out blocks or follows them: it stores, shows, and tells who waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use api::{BlockRow, Event, IntervalRow, Time};
use consensus::NUMBER_ON_LEDGER;
use ed25519_dalek::SigningKey;
use energy::{HomeId, midpoint_floor};
use ledger::{
    BlockId, Body, EntryId, Header, IntervalOutcome, Ledger, MeterRegistration, PublicKey, VerifiedEntry,
};
use market::Account;
use tokio::sync::{mpsc, watch};

use super::{Command, Members, Progress, durability_of};
use crate::away::{Away, AwayError};
use crate::bill::prepaid::present_price;
use crate::clock::Clock;
use crate::http::{Live, Role, member_of};
use crate::metering::{Fate, OnLedger, registered};
use crate::network::{NetworkHandle, Topic};
use crate::recovery;
use crate::store::ledger_db::LedgerDb;
use crate::store::{Durability, StoreError};
use crate::terms::Terms;

/// A checkpoint that is waited for is looked for so often.
const CHECKPOINT_LOOK: Duration = Duration::from_secs(2);

/// What every engine works with.
pub struct Common {
    /// Where blocks are kept.
    pub db: LedgerDb,
    /// The other members.
    pub network: NetworkHandle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is shown.
    pub live: Arc<Live>,
    /// This home.
    pub home: HomeId,
    /// Its keys for terms as a delegate.
    pub terms: Terms,
    /// Where to tell the fate of entries, by the key that signed them.
    pub fates: Vec<(PublicKey, mpsc::Sender<Fate>)>,
    /// What it knows of checkpoints.
    pub away: Away,
}

/// A block that was stored, as far as it is known here.
pub(crate) struct Stored<'a> {
    pub header: &'a Header,
    pub round: u32,
    /// How many entries it has in all.
    pub entry_count: usize,
    pub finality_ms: u64,
    /// Those that are known.
    pub entries: Vec<&'a VerifiedEntry>,
    pub intervals: Vec<&'a IntervalOutcome>,
}

/// The part of an engine that all engines have.
pub(crate) struct Shell {
    pub parts: Common,
    pub members: Members,
    pub progress: watch::Sender<Progress>,
    /// Entries of its own about delegates, to be handed on once everything else is said.
    pub own: Vec<Vec<u8>>,
    pub halted: bool,
    /// For each of the keys in `fates`: index after the last interval read and final.
    read_until: Vec<u64>,
    /// How durably blocks are stored.
    durability: Durability,
    /// Term keys that are known to who signs with them.
    pub known_term_keys: BTreeSet<PublicKey>,
    /// The accounts exceeded what stands at the bank, after the last block.
    bank_short: bool,
    /// False once that has failed.
    lets_go: bool,
}

impl Shell {
    pub fn new(parts: Common, ledger: &Ledger) -> (Self, watch::Receiver<Progress>) {
        let (progress, watching) = watch::channel(Progress::default());
        let shell = Self {
            members: Members::of(ledger),
            progress,
            own: Vec::new(),
            halted: false,
            read_until: vec![0; parts.fates.len()],
            durability: durability_of(ledger, &parts.home),
            known_term_keys: parts.terms.consensus_keys().iter().map(PublicKey::of).collect(),
            bank_short: false,
            lets_go: true,
            parts,
        };
        (shell, watching)
    }

    /// Where the node was away for long it listens to nobody until people vouch for a block. Says who is connected by then;
    /// `None`: told to stop.
    pub fn wait_for_checkpoint(
        &mut self,
        inbox: &Receiver<Command>,
        ledger: &Ledger,
    ) -> Option<BTreeSet<HomeId>> {
        let mut connected = BTreeSet::new();
        if let Some(reason) = self.parts.away.waits() {
            tracing::error!(home = %self.parts.home, reason, "the node waits");
        }
        while !self.parts.away.look(self.parts.clock.market()) {
            match inbox.recv_timeout(CHECKPOINT_LOOK) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(Command::PeerUp(key)) => connected.extend(self.members.home_of(&key)),
                Ok(Command::PeerDown(key)) => {
                    if let Some(home) = self.members.home_of(&key) {
                        connected.remove(&home);
                    }
                }
                Ok(Command::Ledger(answer)) => {
                    // Who asked may be gone.
                    drop(answer.send(Box::new(ledger.clone())));
                }
                Ok(Command::Recovery(_, answer)) => {
                    // Who does not know where the chain stands attests nothing; nobody may wait for the answer any more.
                    drop(answer.send(Err(recovery::Refusal::NotNow("the node waits for a checkpoint"))));
                }
                Ok(
                    Command::Message { .. }
                    | Command::Gossip { .. }
                    | Command::Entries { .. }
                    | Command::Followed(_)
                    | Command::Submit(_),
                )
                | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        if let Err(error) = self.holds_checkpoint() {
            self.halt(error.to_string());
        }
        Some(connected)
    }

    /// That the block stored at the height of the checkpoint is the one vouched for.
    fn holds_checkpoint(&self) -> Result<(), AwayError> {
        let Some(height) = self.parts.away.checkpoint().map(|checkpoint| checkpoint.height) else {
            return Ok(());
        };
        match self.parts.db.id_at(height) {
            Ok(Some(found)) => self.parts.away.contradicts(height, found).map_or(Ok(()), Err),
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "the block of the checkpoint cannot be read");
                Ok(())
            }
        }
    }

    /// False where people vouched for another block of this height: the node stops.
    pub fn is_vouched_for(&mut self, height: u64, id: BlockId) -> bool {
        let contradiction = self.parts.away.contradicts(height, id);
        if let Some(error) = &contradiction {
            self.halt(error.to_string());
        }
        contradiction.is_none()
    }

    /// Brings who belongs up to date with the ledger.
    pub fn know_members(&mut self, ledger: &Ledger) {
        let members = Members::of(ledger);
        if members != self.members {
            self.members = members;
            self.parts.network.set_members(self.members.keys());
        }
    }

    /// What a home does about delegates after a block: it stores more durably where it becomes one, stands for the coming term,
    /// and destroys the keys of past ones. A key that cannot be made or destroyed now is tried again after the next block.
    /// Gives a key that was made just now.
    pub fn take_part(&mut self, ledger: &Ledger, fresh: bool) -> Result<Option<SigningKey>, StoreError> {
        let durability = durability_of(ledger, &self.parts.home);
        if durability != self.durability {
            self.parts.db.set_durability(durability)?;
            self.durability = durability;
        }
        if !fresh {
            return Ok(None);
        }
        match self.parts.terms.after_block(ledger) {
            Ok(steps) => {
                self.own.extend(steps.entries);
                let new = |key: &SigningKey| self.known_term_keys.insert(PublicKey::of(key));
                Ok(steps.new_key.filter(new))
            }
            Err(error) => {
                tracing::error!(%error, "this node cannot stand as a delegate");
                Ok(None)
            }
        }
    }

    /// Calls people once when the accounts begin to exceed what stands at the bank, and once when that is over.
    pub fn raise_alarm(&mut self, ledger: &Ledger) {
        let short = ledger.bank_shortfall();
        match (short, self.bank_short) {
            (Some(short), false) => tracing::error!(
                %short,
                "the accounts add up to more than the bank holds by the last attestation: nothing is paid out"
            ),
            (None, true) => tracing::info!("the bank holds again what the accounts add up to"),
            _ => {}
        }
        self.bank_short = short.is_some();
    }

    /// Lets go of a little of what is old. A block that is damaged is named once, and nothing is let go of from then on: the
    /// chain goes on without that.
    pub fn let_go(&mut self) {
        if !self.lets_go {
            return;
        }
        if let Err(error) = self.parts.db.prune() {
            tracing::error!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "old blocks are not let go of"
            );
            self.lets_go = false;
        }
    }

    /// Tells the meters' tasks which of their entries are final.
    pub fn tell_fates(&mut self, block: &Stored<'_>, ledger: &Ledger) {
        for (position, (key, fates)) in self.parts.fates.iter().enumerate() {
            let own = block.entries.iter().filter(|entry| entry.entry().signer == *key);
            let mut ids = Vec::new();
            for entry in own {
                ids.push(entry.id());
                if let (Body::Reading { reading, .. }, Some(until)) =
                    (&entry.entry().body, self.read_until.get_mut(position))
                {
                    *until = (*until).max(reading.interval.index().saturating_add(1));
                }
            }
            if !ids.is_empty() {
                let on_ledger = OnLedger::of(ledger, &self.parts.home, key);
                let fate = Fate::Final { height: block.header.height, ids, on_ledger };
                if fates.try_send(fate).is_err() {
                    tracing::debug!("the meter's task is busy; its journal hears of it when it asks again");
                }
            }
        }
    }

    /// Tells the tasks of the home's meter and of the root meter of the meters that were registered for them.
    pub fn tell_of_meter(&self, block: &Stored<'_>, ledger: &Ledger) {
        for entry in &block.entries {
            let home = match &entry.entry().body {
                Body::MeterRegistration { home, .. } => home.as_ref(),
                Body::Admission(admission) => Some(&admission.home),
                _ => continue,
            };
            let (key, meter) = match home {
                Some(home) if *home == self.parts.home => {
                    let Some(member) = ledger.member(home) else { continue };
                    (member.admission.keys.reading, &member.admission.meter)
                }
                Some(_) => continue,
                None => {
                    let (Some(root), Some(meter)) = (&ledger.genesis_terms().root_meter, ledger.root_meter())
                    else {
                        continue;
                    };
                    (root.key, meter)
                }
            };
            self.tell_registered(key, meter);
        }
    }

    fn tell_registered(&self, key: PublicKey, meter: &MeterRegistration) {
        let fates = &self.parts.fates;
        for (_, fates) in fates.iter().filter(|(reading, _)| *reading == key) {
            if fates.try_send(Fate::Registered(registered(meter))).is_err() {
                tracing::warn!(
                    "the meter's task is busy; restart the node to read the newly registered meter"
                );
            }
        }
    }

    /// Shows the block and what it settled.
    pub fn publish(&self, block: &Stored<'_>) {
        let live = &self.parts.live;
        live.publish(Event::Block(BlockRow {
            height: block.header.height,
            id: block.header.id().to_string(),
            time: Time(block.header.time),
            round: block.round,
            entries: u32::try_from(block.entry_count).unwrap_or(u32::MAX),
            finality_ms: block.finality_ms,
        }));
        for interval in &block.intervals {
            live.publish(Event::Interval(interval_row(interval, block.header)));
        }
    }

    /// Brings what is shown and waited for up to date with what is stored.
    pub fn show(&self, ledger: &Ledger, syncing: bool) {
        let (home, live) = (&self.parts.home, &self.parts.live);
        let account = Account::Home(home.clone());
        live.set_obligations(ledger.claim(&account, &Account::Supplier).get(), ledger.reserved(home).get());
        live.set_import_price(present_price(ledger, home));
        let waiting = self.waiting(ledger);
        let checkpoint = self.parts.away.checkpoint().map(|checkpoint| checkpoint.height);
        live.set_waiting(waiting.clone(), checkpoint);
        live.set_member(member_of(ledger, home));
        live.set_ledger(ledger.clone());
        live.set_role(Role {
            delegate: ledger.delegates().of_home(home).is_some(),
            delegates: u32::try_from(ledger.delegates().len()).unwrap_or(u32::MAX),
            syncing,
        });
        self.progress.send_replace(Progress {
            height: ledger.height(),
            head_time: ledger.head_time(),
            next_to_settle: ledger.next_to_settle().index(),
            next_deadline: ledger.next_deadline(),
            next_gate: ledger.next_gate().index(),
            read_until: self.read_until.iter().copied().min().unwrap_or(u64::MAX),
            waiting,
            ..Progress::default()
        });
    }

    /// Why this node takes no part at present, where it does not.
    fn waiting(&self, ledger: &Ledger) -> Option<String> {
        let update = |needed: u16| {
            format!(
                "the community went over to rules {needed}, and this program has rules up to {}: update it. The meter is read on, \
                 and its readings wait in the journal",
                ledger.known_rules()
            )
        };
        self.parts.away.waits().or_else(|| ledger.unknown_rules().map(update))
    }

    /// An entry of ours can never stand on the ledger.
    pub fn refused(&self, id: EntryId, reason: &str, ledger: &Ledger) {
        // A number that is taken up means no harm: most likely the entry itself is final.
        if reason != NUMBER_ON_LEDGER {
            tracing::error!(entry = %id, reason, "the ledger refused an entry of ours");
        }
        for (key, fates) in &self.parts.fates {
            let on_ledger = OnLedger::of(ledger, &self.parts.home, key);
            if fates.try_send(Fate::Refused { id, reason: reason.to_owned(), on_ledger }).is_err() {
                tracing::debug!("the meter's task is busy; its journal hears of it when it asks again");
            }
        }
    }

    pub fn send(&self, to: &HomeId, bytes: Vec<u8>) {
        let Some(key) = self.members.key_of(to) else { return };
        if !self.parts.network.try_send(key, bytes) {
            tracing::trace!(%to, "a message was not sent; what matters is repeated");
        }
    }

    /// To every other delegate of the present set and the next one.
    pub fn to_delegates(&self, ledger: &Ledger, bytes: &[u8]) {
        let shared = bytes::Bytes::copy_from_slice(bytes);
        let sets = [ledger.delegates(), ledger.next_delegates()];
        let homes: BTreeSet<&HomeId> =
            sets.iter().flat_map(|set| set.as_slice()).map(|seat| &seat.home).collect();
        for home in homes.into_iter().filter(|home| **home != self.parts.home) {
            let Some(key) = self.members.key_of(home) else { continue };
            if !self.parts.network.try_send(key, shared.clone()) {
                tracing::trace!(to = %home, "a message was not sent; what matters is repeated");
            }
        }
    }

    pub fn gossip(&self, topic: Topic, bytes: Vec<u8>) {
        if !self.parts.network.try_gossip(topic, bytes) {
            tracing::trace!(?topic, "nothing was gossiped; what matters is repeated");
        }
    }

    pub fn halt(&mut self, reason: String) {
        tracing::error!(home = %self.parts.home, reason, "the node stops; what its meter showed and nobody has yet stays in its journal");
        self.halted = true;
        self.progress.send_modify(|progress| progress.halted = Some(reason));
    }

    /// The home came to hold all bodies, or ceased to: the engine ends, and the node starts anew in its other role.
    pub fn end_for_role(&mut self, holds: bool) {
        tracing::info!(home = %self.parts.home, holds, "this home's part in keeping the ledger changes; the node starts anew");
        self.halted = true;
        self.progress.send_modify(|progress| progress.role = Some(holds));
    }
}

#[expect(clippy::disallowed_methods, reason = "when a block was decided is noted for people, in wall time")]
pub(crate) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn interval_row(interval: &IntervalOutcome, header: &Header) -> IntervalRow {
    let tariff = interval.tariff;
    IntervalRow {
        start: Time(interval.interval.start()),
        import_price: tariff.import_price.get(),
        export_price: tariff.export_price.get(),
        local_price: midpoint_floor(tariff.import_price, tariff.export_price).get(),
        matched_wh: Some(interval.matched.get()),
        supplier_import_wh: Some(interval.supplier_import.get()),
        supplier_export_wh: Some(interval.supplier_export.get()),
        losses_wh: interval.losses,
        homes: interval.homes,
        missing: interval.missing,
        height: header.height,
        settled_at: Time(header.time),
    }
}
