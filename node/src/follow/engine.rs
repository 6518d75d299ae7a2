//! The engine of a home that follows: one thread that asks who holds all bodies for what comes next, checks it, stores and shows
//! it, and sends the home's own entries to the delegates until they are final.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consensus::message::{Message, entries_messages};
use energy::{HomeId, Timestamp};
use ledger::codec::Encode as _;
use ledger::{Followed, Genesis, HomeView, Ledger, Outcome, Trail, VerifiedEntry};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::pool::{Pool, WAITING_MAX};
use super::{Answer, Answered, Ask};
use crate::engine::{Command, Common, EngineHandle, Progress, Shell, Stored, unix_ms};
use crate::network::Topic;
use crate::recovery::{self, Promises};
use crate::store::FollowedError;

/// Who holds bodies is asked so often while nothing is heard of new blocks …
const POLL: Duration = Duration::from_secs(5);
/// … and at most so often otherwise.
const PACE: Duration = Duration::from_millis(100);
/// An answer is awaited for so long.
const ANSWER: Duration = Duration::from_secs(10);
/// Who gave no answer, or one that does not hold, is passed over for so long.
const PASSED_OVER: Duration = Duration::from_secs(10);
/// Longest sleep.
const IDLE: Duration = Duration::from_millis(250);
/// A home that is to hold all bodies and got no state to begin with asks for one again after so long.
pub(crate) const HOLD_AGAIN: Duration = Duration::from_secs(60);

/// What the engine of a home that follows works with.
pub struct FollowParts {
    /// What every engine works with.
    pub common: Common,
    /// The chain's genesis.
    pub genesis: Arc<Genesis>,
    /// What is known of the state.
    pub view: HomeView,
    /// How far the chain was followed.
    pub trail: Trail,
    /// What this home promised when it attested recoveries of the chain.
    pub promises: Promises,
    /// When it may end to hold all bodies, where the state says that it does.
    pub hold_from: Instant,
}

/// The engine.
struct Follower {
    shell: Shell,
    genesis: Arc<Genesis>,
    view: HomeView,
    trail: Trail,
    promises: Promises,
    hold_from: Instant,
    pool: Pool,
    /// How many own entries may still be handed in, for [`EngineHandle::submit`].
    room: Arc<AtomicUsize>,
    occupied: usize,
    runtime: Handle,
    /// Where answers come in.
    answers: EngineHandle,
    connected: BTreeSet<HomeId>,
    /// Who was asked, until there is an answer.
    asked: Option<HomeId>,
    last_asked: Option<HomeId>,
    /// When to ask next.
    ask_at: Instant,
    /// The greatest height that was heard of.
    heard: u64,
    passed_over: BTreeMap<HomeId, Instant>,
    /// At some height the home's account does not add up: what people were told.
    contradiction: Option<String>,
}

/// Starts the engine's thread. Must be called inside the async runtime, in which its questions are asked.
///
/// # Errors
/// If the system gives no thread.
pub fn spawn(
    parts: FollowParts,
) -> std::io::Result<(EngineHandle, watch::Receiver<Progress>, JoinHandle<()>)> {
    let FollowParts { common, genesis, view, trail, promises, hold_from } = parts;
    let name = format!("follow-{}", common.home);
    let (handle, inbox, room) = EngineHandle::new(WAITING_MAX);
    let (shell, watching) = Shell::new(common, view.ledger());
    let mut follower = Follower {
        shell,
        genesis,
        view,
        trail,
        promises,
        hold_from,
        pool: Pool::default(),
        room,
        occupied: 0,
        runtime: Handle::current(),
        answers: handle.clone(),
        connected: BTreeSet::new(),
        asked: None,
        last_asked: None,
        ask_at: Instant::now(),
        heard: 0,
        passed_over: BTreeMap::new(),
        contradiction: None,
    };
    let thread = std::thread::Builder::new().name(name).spawn(move || follower.run(&inbox))?;
    Ok((handle, watching, thread))
}

impl Follower {
    fn run(&mut self, inbox: &Receiver<Command>) {
        self.show();
        let connected = self.shell.wait_for_checkpoint(inbox, self.view.ledger());
        self.show();
        let Some(connected) = connected.filter(|_| !self.shell.halted) else { return };
        self.connected = connected;
        while !self.shell.halted {
            match inbox.recv_timeout(IDLE.min(self.ask_at.saturating_duration_since(Instant::now()))) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.ask();
            self.send_due();
            self.say_own();
            self.give_room();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::PeerUp(key) => {
                if let Some(home) = self.shell.members.home_of(&key) {
                    self.on_peer(home);
                }
            }
            Command::PeerDown(key) => {
                if let Some(home) = self.shell.members.home_of(&key) {
                    self.connected.remove(&home);
                }
            }
            Command::Message { bytes, .. } | Command::Gossip { topic: Topic::Finals, bytes, .. } => {
                self.hear(&bytes);
            }
            Command::Submit(bytes) => {
                self.occupied += 1;
                self.submit(&bytes);
            }
            Command::Followed(answered) => self.on_answer(*answered),
            // Who asked may be gone, here and below.
            Command::Ledger(answer) => drop(answer.send(Box::new(self.view.ledger().clone()))),
            Command::Recovery(step, answer) => drop(answer.send(self.recovery(step))),
            // Others' entries are not for this node.
            Command::Gossip { topic: Topic::Entries, .. } | Command::Entries { .. } | Command::Stop => {}
        }
    }

    /// Somebody who may know more is within reach; a delegate may never have had what waits here.
    fn on_peer(&mut self, home: HomeId) {
        let ledger = self.view.ledger();
        if ledger.delegates().of_home(&home).is_some() {
            for message in entries_messages(self.pool.entries().map(VerifiedEntry::bytes)) {
                self.shell.send(&home, message);
            }
        }
        if ledger.holds_bodies(&home) {
            self.passed_over.remove(&home);
            self.ask_at = Instant::now();
        }
        self.connected.insert(home);
    }

    /// Somebody says how far it is. That may be a lie: it is a reason to ask, and nothing else.
    fn hear(&mut self, bytes: &[u8]) {
        let height = match Message::from_bytes(bytes) {
            Ok(Message::Status { height } | Message::Recovered { height, .. }) => height,
            Ok(Message::Final(_, certificate)) => certificate.height,
            _ => return,
        };
        if height > self.trail.height() && height > self.heard {
            self.heard = height;
            self.ask_at = self.ask_at.min(Instant::now() + PACE);
        }
    }

    /// Asks one of those who hold all bodies, each in turn.
    fn ask(&mut self) {
        let now = Instant::now();
        if self.asked.is_some() || now < self.ask_at {
            return;
        }
        self.ask_at = now + POLL;
        self.passed_over.retain(|_, until| *until > now);
        let Some(holder) = self.choose() else { return };
        let Some(key) = self.shell.members.key_of(&holder) else { return };
        let ask = Ask {
            from_height: self.trail.height().saturating_add(1),
            view_height: self.view.ledger().height(),
            known: self.view.digests().to_vec(),
        };
        self.asked = Some(holder.clone());
        self.last_asked = Some(holder.clone());
        let (network, answers) = (self.shell.parts.network.clone(), self.answers.clone());
        self.runtime.spawn(async move {
            let answer = network.request(key, ask.to_bytes(), ANSWER).await;
            let answered = Answered { from: holder, answer: answer.map_err(|error| error.to_string()) };
            answers.tell(Command::Followed(Box::new(answered))).await;
        });
    }

    fn choose(&self) -> Option<HomeId> {
        let ledger = self.view.ledger();
        let fit = |home: &&HomeId| ledger.holds_bodies(home) && !self.passed_over.contains_key(*home);
        let holders: Vec<&HomeId> = self.connected.iter().filter(fit).collect();
        let after = holders.iter().find(|home| self.last_asked.as_ref().is_none_or(|last| **home > last));
        after.or(holders.first()).map(|home| (*home).clone())
    }

    fn on_answer(&mut self, answered: Answered) {
        let Answered { from, answer } = answered;
        self.asked = None;
        let read = answer.and_then(|bytes| Answer::from_bytes(&bytes).map_err(|error| error.to_string()));
        match read.and_then(|answer| self.follow(answer)) {
            Ok(more) => {
                if more {
                    self.ask_at = Instant::now();
                }
            }
            Err(reason) => {
                tracing::info!(%from, reason, "what this member gives is not taken; the next one is asked");
                self.shell.parts.live.note(
                    self.trail.height().saturating_add(1),
                    format!("what {from} gives is not taken: {reason}"),
                );
                self.passed_over.insert(from, Instant::now() + PASSED_OVER);
                self.ask_at = Instant::now() + PACE;
            }
        }
    }

    /// Takes what follows, wholly or not at all. True if there is more.
    fn follow(&mut self, answer: Answer) -> Result<bool, String> {
        if answer.gone {
            return Err("it no longer holds the next block whole; if nobody does, move ledger.db away and start the node \
                        again: it begins anew with a recent state"
                .to_owned());
        }
        let mut trail = self.trail.clone();
        let mut followed = Vec::with_capacity(answer.blocks.len());
        for block in answer.blocks {
            let next = trail.follow(block, self.view.ledger(), self.pool.entries());
            let next = next.map_err(|error| error.to_string())?;
            // Only of a block that is certified: whoever gives another one must not be able to stop this node.
            if !self.shell.is_vouched_for(next.header.height, next.header.id()) {
                return Ok(false);
            }
            followed.push(next);
        }
        let view = answer.view.map(|bytes| self.view_after(&bytes, &trail, followed.last())).transpose()?;
        self.store(&followed, view.as_ref())?;
        let fresh = answer.height <= trail.height();
        self.trail = trail;
        self.heard = self.heard.max(answer.height);
        if let Some(view) = view {
            self.view = view;
        }
        self.tell(&followed, fresh);
        Ok(!fresh)
    }

    /// A view that is what the last block left, in all that is public.
    fn view_after(&self, bytes: &[u8], trail: &Trail, last: Option<&Followed>) -> Result<HomeView, String> {
        let home = &self.shell.parts.home;
        let view = HomeView::from_bytes(&self.genesis, home, bytes, Some(&self.view));
        let view = view.map_err(|error| error.to_string())?;
        let header = match last {
            Some(followed) => Some(followed.header.clone()),
            None => self.shell.parts.db.header_at(trail.height()).map_err(|error| error.to_string())?,
        };
        let header = header.ok_or("its view is of a block that is not known here")?;
        view.follows_from(&header).map_err(|error| error.to_string())?;
        Ok(view)
    }

    fn store(&mut self, followed: &[Followed], view: Option<&HomeView>) -> Result<(), String> {
        if followed.is_empty() && view.is_none() {
            return Ok(());
        }
        let stored = self.shell.parts.db.follow(followed, view, self.view.ledger(), unix_ms());
        match stored {
            Ok(()) => {
                if view.is_some() {
                    self.contradiction = None;
                }
                Ok(())
            }
            Err(error @ FollowedError::Balance { .. }) => {
                let text = error.to_string();
                if self.contradiction.as_ref() != Some(&text) {
                    tracing::error!(home = %self.shell.parts.home, error = text, "the home's account is contradicted");
                    self.contradiction = Some(text.clone());
                }
                Err(text)
            }
            Err(error) => {
                let text = format!("{:#}", anyhow::Error::from(error));
                self.shell.halt(text.clone());
                Err(text)
            }
        }
    }

    /// Tells everybody who waits for what was stored.
    fn tell(&mut self, followed: &[Followed], fresh: bool) {
        let ledger = self.view.ledger().clone();
        self.shell.know_members(&ledger);
        for block in followed {
            self.shell.parts.clock.saw_block(block.header.time, fresh);
            let stored = stored_of(block);
            self.pool.are_final(stored.entries.iter().copied());
            self.shell.tell_fates(&stored, &ledger);
            self.shell.tell_of_meter(&stored, &ledger);
            self.shell.publish(&stored);
        }
        self.show();
        if followed.is_empty() || !fresh {
            return;
        }
        self.shell.let_go();
        self.judge_own(&ledger);
        // The key of a candidacy is on the disk by now; who is elected finds it there.
        if let Err(error) = self.shell.take_part(&ledger, true) {
            self.shell.halt(format!("{:#}", anyhow::Error::from(error)));
        }
        self.look_at_role(&ledger);
    }

    /// Whether the engine has to end for this home's part in keeping the ledger, or since the chain was recovered.
    fn look_at_role(&mut self, ledger: &Ledger) {
        let recovered = ledger.chain().recovery;
        if ledger.is_recovered() {
            tracing::warn!(home = %self.shell.parts.home, recovered, "the chain is recovered; this node starts anew on it");
            self.shell.halted = true;
            self.shell.progress.send_modify(|progress| progress.recovered = Some(recovered));
        } else if ledger.holds_bodies(&self.shell.parts.home) && Instant::now() >= self.hold_from {
            self.shell.end_for_role(true);
        }
    }

    fn show(&self) {
        let syncing = self.heard > self.trail.height() || self.view.ledger().height() < self.trail.height();
        self.shell.show(self.view.ledger(), syncing);
    }

    fn time(&self) -> Timestamp {
        self.shell.parts.clock.market().max(self.view.ledger().head_time().plus_ms(1))
    }

    fn submit(&mut self, bytes: &[u8]) {
        let time = self.time();
        match self.pool.take(bytes, self.view.ledger(), time) {
            Ok(Some(entry)) => self.send_entries(&[entry]),
            Ok(None) => {}
            Err((id, reason)) => self.shell.refused(id, &reason, self.view.ledger()),
        }
    }

    fn judge_own(&mut self, ledger: &Ledger) {
        let time = self.time();
        for (id, reason) in self.pool.judge(ledger, time) {
            self.shell.refused(id, &reason, ledger);
        }
    }

    fn send_due(&mut self) {
        let due = self.pool.due();
        self.send_entries(&due);
    }

    /// To every delegate: any of them can put an entry into a block, and any may be silent.
    fn send_entries(&self, entries: &[VerifiedEntry]) {
        for message in entries_messages(entries.iter().map(VerifiedEntry::bytes)) {
            self.shell.to_delegates(self.view.ledger(), &message);
        }
    }

    fn say_own(&mut self) {
        for bytes in std::mem::take(&mut self.shell.own) {
            self.submit(&bytes);
        }
    }

    /// Gives back the room of entries that wait no more.
    fn give_room(&mut self) {
        let free = self.occupied.saturating_sub(self.pool.len());
        self.occupied -= free;
        self.room.fetch_add(free, Ordering::Relaxed);
    }

    /// Does what a person asks for in a recovery, as far as it takes no more than is known here.
    fn recovery(&mut self, step: recovery::Step) -> Result<Vec<u8>, recovery::Refusal> {
        let ledger = self.view.ledger();
        if self.heard > self.trail.height() || ledger.height() != self.trail.height() {
            return Err(recovery::Refusal::NotNow(
                "the node is still fetching blocks; try again when it has them",
            ));
        }
        match step {
            recovery::Step::Offer(number) => {
                let number = recovery::number_of(ledger, number)?;
                let Some((offer, _)) = self.shell.parts.terms.offer(ledger, number)? else {
                    return Err(recovery::Refusal::NotNow("the keys of the coming term are not there"));
                };
                Ok(offer.to_bytes())
            }
            recovery::Step::Attest(bytes) => {
                let now = self.shell.parts.clock.market();
                let key = self.shell.parts.terms.member();
                let block = recovery::attest(ledger, &bytes, now, &mut self.promises, key)?;
                Ok(block.to_bytes())
            }
            recovery::Step::Propose(..) | recovery::Step::Publish(_) => Err(recovery::Refusal::Refused(
                "this node does not hold all bodies: make and publish the recovery at a node that does, such as the \
                 operator's; offers and attestations can be made here"
                    .to_owned(),
            )),
        }
    }
}

fn stored_of(followed: &Followed) -> Stored<'_> {
    let public = followed.outcomes.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Interval(interval) => Some(interval),
        _ => None,
    });
    Stored {
        header: &followed.header,
        round: followed.certificate.round,
        entry_count: usize::try_from(followed.entry_count).unwrap_or(usize::MAX),
        finality_ms: 0,
        entries: followed.entries.iter().map(|(_, entry)| entry).collect(),
        intervals: public.chain(&followed.intervals).collect(),
    }
}
