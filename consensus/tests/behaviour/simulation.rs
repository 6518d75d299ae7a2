//! A whole cluster in one thread, replayable from a seed: a virtual clock, a network that loses, delays, reorders,
//! repeats and splits, disks that forget what was not synced, crashes between any two effects. Every step is checked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use consensus::message::{Message, SignedVote, Statement};
use consensus::{Effect, Input, Now, Origin, Replica, ReplicaConfig, Timeouts, Timer};
use ed25519_dalek::SigningKey;
use energy::{HomeId, Interval, Timestamp};
use ledger::codec::Encode as _;
use ledger::{
    Ballot, BlockId, Body, Certificate, Chain, DemoClock, Genesis, Hash32, Ledger, Outcome, PublicKey,
    SeatFate, SeatLoss, SeatOutcome, Signature, Stream, TermKeys, VoteKind,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::street::{self, Journal, Purpose};

/// Market ms per wall ms.
const SPEED: u32 = 40;

/// What a run is put through.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub delegates: usize,
    pub followers: usize,
    /// How long faults are injected, in virtual ms.
    pub faults_ms: u64,
    /// Messages lost, in a thousand.
    pub loss: u64,
    /// Whether nodes crash.
    pub crashes: bool,
    /// Whether the network splits.
    pub partitions: bool,
    /// A delegate that tells half of the others something else.
    pub two_faced: Option<usize>,
    /// The negative control: a crash loses the log, and the node believes it stopped in good order.
    pub forget_logs: bool,
    /// Homes stand for each term and vote, in epochs of one interval: the delegates change while blocks go on.
    pub elections: bool,
    /// A disk that reports a sync it never made: a crash takes the log's last frames, synced or not.
    pub lying_disks: bool,
}

impl Plan {
    pub fn new(seed: u64, delegates: usize) -> Self {
        Self {
            seed,
            delegates,
            followers: 1,
            faults_ms: 40_000,
            loss: 50,
            crashes: true,
            partitions: true,
            two_faced: None,
            forget_logs: false,
            elections: false,
            lying_disks: false,
        }
    }

    /// Four seats among eight homes, changing hands every epoch.
    pub fn with_elections(seed: u64) -> Self {
        Self { elections: true, followers: 4, faults_ms: 100_000, ..Self::new(seed, 4) }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub trace: String,
    pub height: u64,
    pub crashes: u64,
    pub recovered: u64,
    pub dropped: u64,
    pub rounds_above_zero: u64,
    pub entries: usize,
    /// The term of the last delegates, and the homes that ever decided a block.
    pub term: u32,
    pub decided_by: BTreeSet<HomeId>,
    /// Homes that lost a seat for contradicting themselves.
    pub ejected: BTreeSet<HomeId>,
    /// Who was proven to have signed twice, as nodes reported it.
    pub accused: BTreeSet<PublicKey>,
    /// The first thing that must never happen, if it did.
    pub violation: Option<String>,
}

#[derive(Default, Clone)]
struct Disk {
    blocks: Vec<(Vec<u8>, Certificate)>,
    log: Vec<u8>,
    unsynced: Vec<u8>,
}

/// Where a vote stands, and for what.
type Place = (VoteKind, u64, u32, Option<BlockId>);

struct Node {
    home: HomeId,
    replica: Option<Replica>,
    ledger: Ledger,
    disk: Disk,
    timers: BTreeMap<Timer, u64>,
    journal: Journal,
    /// Keys by term, on the disk.
    term_keys: BTreeMap<u32, SigningKey>,
    /// The last height after which it looked at elections.
    took_part_at: u64,
    /// Votes that the synced log holds.
    logged: BTreeSet<Place>,
    life: u64,
    /// Crashes when so many more effects were carried out.
    crash_in: Option<u64>,
}

enum Event {
    Deliver { from: usize, to: usize, input: Input },
    Timer { node: usize, life: u64, timer: Timer },
    Restart { node: usize },
    Submit { node: usize, bytes: Vec<u8> },
    Tick,
    Work,
}

pub struct Cluster {
    plan: Plan,
    genesis: Genesis,
    chain: Chain,
    random: ChaCha8Rng,
    nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    now: u64,
    blocked: BTreeSet<(usize, usize)>,
    decided: Vec<(BlockId, Hash32)>,
    entries_seen: BTreeSet<Vec<u8>>,
    said: BTreeMap<(PublicKey, VoteKind, u64, u32), Option<BlockId>>,
    read_until: u64,
    healed: bool,
    report: Report,
    trace: Hash32,
}

impl Cluster {
    pub fn new(plan: Plan) -> Self {
        let homes = plan.delegates + plan.followers;
        let mut genesis = street::genesis(homes, plan.delegates);
        if plan.elections {
            let (origin, wall_origin) = (street::start(), street::start());
            genesis.clock =
                Some(DemoClock { origin, wall_origin, speed: SPEED, assurance_every: 96, epoch_every: 1 });
        }
        let ledger = Ledger::genesis(&genesis).expect("a valid genesis");
        let chain = *ledger.chain();
        let node = |number: usize| Node {
            home: street::home(number),
            replica: None,
            ledger: ledger.clone(),
            disk: Disk::default(),
            timers: BTreeMap::new(),
            journal: Journal::new(number, chain),
            term_keys: (number < plan.delegates)
                .then(|| (0, street::key(Purpose::Term, number)))
                .into_iter()
                .collect(),
            took_part_at: 0,
            logged: BTreeSet::new(),
            life: 0,
            crash_in: None,
        };
        Self {
            random: ChaCha8Rng::seed_from_u64(plan.seed),
            nodes: (0..homes).map(node).collect(),
            plan,
            genesis,
            chain,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            now: 0,
            blocked: BTreeSet::new(),
            decided: Vec::new(),
            entries_seen: BTreeSet::new(),
            said: BTreeMap::new(),
            read_until: 0,
            healed: false,
            report: Report::default(),
            trace: Hash32::ZERO,
        }
    }

    /// Faults for the planned time, then healing; checks along the way and at the end.
    pub fn run(mut self) -> Report {
        for node in 0..self.nodes.len() {
            self.boot(node);
        }
        self.push(1000, Event::Tick);
        self.push(300, Event::Work);
        self.run_until(self.plan.faults_ms);
        if self.report.violation.is_none() {
            self.heal();
            let before = self.decided.len() as u64;
            self.run_until(self.now + 30_000);
            self.check_progress(before);
        }
        self.report.height = self.decided.len() as u64;
        self.report.entries = self.entries_seen.len();
        self.report.trace = self.trace.hex();
        self.report
    }

    fn run_until(&mut self, end: u64) {
        while self.report.violation.is_none() {
            match self.queue.peek() {
                Some(Reverse((at, _))) if *at <= end => {}
                _ => break,
            }
            let Some(Reverse((at, sequence))) = self.queue.pop() else { break };
            self.now = at;
            if let Some(event) = self.events.remove(&sequence) {
                self.handle(event);
            }
        }
        self.now = end;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, input } => {
                if !self.blocked.contains(&(from, to)) {
                    self.step(to, input);
                }
            }
            Event::Timer { node, life, timer } => {
                if self.nodes[node].life == life {
                    self.nodes[node].timers.remove(&timer);
                    self.step(node, Input::Timer(timer));
                }
            }
            Event::Restart { node } => self.boot(node),
            Event::Submit { node, bytes } => self.step(node, Input::Entry { bytes, origin: Origin::Own }),
            Event::Tick => self.tick(),
            Event::Work => self.work(),
        }
    }

    fn market(&self, node: usize) -> Timestamp {
        // Clocks differ by up to a quarter of a second.
        let skew = (node as u64 * 83) % 250;
        street::start().plus_ms((self.now + skew) * u64::from(SPEED))
    }

    fn boot(&mut self, number: usize) {
        let term_keys = self.nodes[number].term_keys.values().cloned().collect();
        let config = ReplicaConfig {
            home: street::home(number),
            term_keys,
            last_certificate: self.nodes[number]
                .disk
                .blocks
                .last()
                .map(|(_, certificate)| certificate.clone()),
            timeouts: Timeouts {
                propose_ms: 1000,
                prevote_ms: 300,
                precommit_ms: 300,
                delta_ms: 150,
                rebroadcast_ms: 1000,
            },
            min_block_interval_ms: 200,
            speed: SPEED,
        };
        let node = &mut self.nodes[number];
        let replica =
            Replica::new(config, node.ledger.clone(), &node.disk.log).expect("a valid configuration");
        node.replica = Some(replica);
        self.step(number, Input::Start);
        for peer in 0..self.nodes.len() {
            if peer != number && self.nodes[peer].replica.is_some() {
                self.step(number, Input::PeerUp(street::home(peer)));
                self.step(peer, Input::PeerUp(street::home(number)));
            }
        }
        let unconfirmed: Vec<_> =
            self.nodes[number].journal.entries.iter().map(|(_, _, bytes)| bytes.clone()).collect();
        let last = |node: &Node, stream| {
            let purpose = if stream == Stream::Readings { Purpose::Reading } else { Purpose::Member };
            node.ledger.last_number(&PublicKey::of(&street::key(purpose, number)), stream)
        };
        for (position, bytes) in unconfirmed.into_iter().enumerate() {
            let (entry, stream, _) = self.nodes[number].journal.entries[position];
            if entry > last(&self.nodes[number], stream) {
                self.step(number, Input::Entry { bytes, origin: Origin::Own });
            }
        }
    }

    /// What a node does for elections after each block: a key for the coming term, kept before it is published, and a
    /// candidacy; a vote for the two homes after those of the last epoch; keys of past terms are destroyed.
    fn take_part(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let ledger = &node.ledger;
        let (term, seated, barred) =
            (ledger.coming_term(), ledger.last_delegates().term(), ledger.barred_until(&node.home).is_some());
        node.term_keys.retain(|term, _| *term >= seated);
        let kept: Vec<_> = node.term_keys.values().map(PublicKey::of).collect();
        let Some(replica) = &mut node.replica else { return };
        replica.forget_term_keys(|key| kept.contains(key));
        if node.term_keys.contains_key(&term) || barred {
            return;
        }
        let (key, cosigner) = (street::term_key(number, term, false), street::term_key(number, term, true));
        node.term_keys.insert(term, key.clone());
        replica.learn_term_key(key.clone());
        let keys = TermKeys { consensus: PublicKey::of(&key), cosigner: PublicKey::of(&cosigner) };
        let candidacy = Body::Candidacy { home: node.home.clone(), term, keys: Some(keys) };
        let first = term as usize * 2;
        let approved = [first, first + 1].map(|of| street::home(of % 8));
        let vote = Body::Vote { home: node.home.clone(), ballot: Ballot::Approve(approved.into()) };
        let entries = [node.journal.say(candidacy, &[key, cosigner]), node.journal.say(vote, &[])];
        for bytes in entries {
            self.step(number, Input::Entry { bytes, origin: Origin::Own });
        }
    }

    fn step(&mut self, number: usize, input: Input) {
        let now = Now { market: self.market(number), wall_ms: self.now };
        let Some(replica) = &mut self.nodes[number].replica else { return };
        for effect in replica.step(now, input) {
            if self.nodes[number].crash_in == Some(0) {
                self.crash(number);
                return;
            }
            if let Some(left) = &mut self.nodes[number].crash_in {
                *left -= 1;
            }
            self.carry_out(number, effect);
        }
        let height = self.nodes[number].ledger.height();
        if self.plan.elections && height > self.nodes[number].took_part_at {
            self.nodes[number].took_part_at = height;
            self.take_part(number);
        }
    }

    fn carry_out(&mut self, number: usize, effect: Effect) {
        self.record(number, &effect);
        match effect {
            Effect::AppendLog(bytes) => self.nodes[number].disk.unsynced.extend(bytes),
            Effect::SyncLog => {
                let node = &mut self.nodes[number];
                node.logged.extend(votes_in(&node.disk.unsynced));
                node.disk.log.append(&mut node.disk.unsynced);
            }
            Effect::TrimLog(bytes) => {
                let node = &mut self.nodes[number];
                node.disk.unsynced.clear();
                node.logged = votes_in(&bytes);
                node.disk.log = bytes;
            }
            Effect::SendTo { to, bytes } => {
                let to = self.number_of(&to);
                self.send(number, to, &bytes);
            }
            Effect::ToDelegates(bytes) => self.send_to_delegates(number, &bytes),
            Effect::GossipEntry(bytes) => {
                self.gossip(number, &|from| Input::Entry {
                    bytes: bytes.clone(),
                    origin: Origin::Peer(from),
                });
            }
            Effect::GossipFinal(bytes) => {
                self.gossip(number, &|from| Input::Final { from, bytes: bytes.clone() });
            }
            Effect::ServeBlocks { to, from_height, max_bytes } => {
                self.serve(number, &to, from_height, max_bytes);
            }
            Effect::SetTimer { timer, after_ms } => self.set_timer(number, timer, after_ms),
            Effect::ClearTimer(timer) => {
                if let Some(sequence) = self.nodes[number].timers.remove(&timer) {
                    self.events.remove(&sequence);
                }
            }
            Effect::Commit(commit) => self.commit(number, &commit),
            Effect::Refused { .. } | Effect::Note { .. } => {}
            Effect::Evidence(evidence) => {
                self.check(evidence.first.holds(&self.chain) && evidence.second.holds(&self.chain), || {
                    "forged evidence".to_owned()
                });
                self.report.accused.insert(*evidence.culprit());
                if self.plan.elections {
                    let bytes = self.nodes[number].journal.say(Body::Misbehaviour(*evidence), &[]);
                    self.push(1, Event::Submit { node: number, bytes });
                }
            }
            // Who signs twice may find its own lie in its log; it has itself to blame.
            Effect::Halt { .. } if self.plan.two_faced == Some(number) => {}
            Effect::Halt { reason } => self.violate(&format!("node {number} halted: {reason}")),
        }
    }

    fn set_timer(&mut self, number: usize, timer: Timer, after_ms: u64) {
        let life = self.nodes[number].life;
        let sequence = self.push(after_ms, Event::Timer { node: number, life, timer });
        if let Some(old) = self.nodes[number].timers.insert(timer, sequence) {
            self.events.remove(&old);
        }
    }

    fn send_to_delegates(&mut self, number: usize, bytes: &[u8]) {
        let message = Message::from_bytes(bytes).expect("a replica sends what can be read");
        self.check_said(number, &message);
        let ledger = &self.nodes[number].ledger;
        let sets = [ledger.delegates(), ledger.next_delegates()];
        let seated = |to: &usize| sets.iter().any(|set| set.of_home(&street::home(*to)).is_some());
        let delegates: Vec<_> = (0..self.nodes.len()).filter(seated).filter(|to| *to != number).collect();
        for to in delegates {
            match (&message, self.plan.two_faced) {
                (Message::Vote(vote), Some(liar)) if liar == number && to % 2 == 1 => {
                    let lie = self.lie(number, vote);
                    self.send(number, to, &lie);
                    if self.chance(200) {
                        self.send(number, to, bytes);
                    }
                }
                _ => self.send(number, to, bytes),
            }
        }
    }

    fn lie(&mut self, number: usize, vote: &SignedVote) -> Vec<u8> {
        let block = if vote.block.is_some() { None } else { Some(BlockId(Hash32::of(&[b"another"]))) };
        let mut lie = SignedVote { block, ..vote.clone() };
        let mut keys = self.nodes[number].term_keys.values();
        let key = keys.find(|key| PublicKey::of(key) == vote.voter).expect("its own key");
        lie.signature = Signature::sign(key, &lie.signing_bytes(&self.chain));
        Message::Vote(lie).to_bytes()
    }

    fn gossip(&mut self, number: usize, input: &dyn Fn(HomeId) -> Input) {
        for to in (0..self.nodes.len()).filter(|to| *to != number) {
            let input = input(self.nodes[number].home.clone());
            self.deliver(number, to, input);
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: &[u8]) {
        let input = Input::Message { from: self.nodes[from].home.clone(), bytes: bytes.to_vec() };
        self.deliver(from, to, input);
    }

    fn deliver(&mut self, from: usize, to: usize, input: Input) {
        let faulty = !self.healed;
        if self.blocked.contains(&(from, to)) || (faulty && self.chance(self.plan.loss)) {
            self.report.dropped += 1;
            return;
        }
        let slow = if faulty && self.chance(20) { 2000 } else { 60 };
        let delay = 2 + self.below(slow);
        if faulty && self.chance(20) {
            let again = delay + self.below(500);
            self.push(again, Event::Deliver { from, to, input: input.clone() });
        }
        self.push(delay, Event::Deliver { from, to, input });
    }

    fn serve(&mut self, number: usize, to: &HomeId, from_height: u64, max_bytes: u32) {
        let first = usize::try_from(from_height - 1).expect("a small height");
        let mut left = max_bytes as usize;
        let mut blocks = Vec::new();
        for (bytes, certificate) in self.nodes[number].disk.blocks.iter().skip(first).take(20) {
            if !blocks.is_empty() && bytes.len() > left {
                break;
            }
            left = left.saturating_sub(bytes.len());
            blocks.push((bytes.clone(), certificate.clone()));
        }
        let to = self.number_of(to);
        self.send(number, to, &Message::SyncResponse(blocks).to_bytes());
    }

    fn commit(&mut self, number: usize, commit: &consensus::Commit) {
        let header = &commit.executed.block.header;
        let id = commit.executed.block.id();
        let node = &self.nodes[number];
        let (height, expected) = (header.height, node.ledger.height() + 1);
        let verdict = commit.certificate.verify(&self.chain, node.ledger.delegates());
        self.check(height == expected, || format!("node {number} committed {height}, not {expected}"));
        self.check(verdict.is_ok() && commit.certificate.block == id, || {
            format!("bad certificate at {height}")
        });
        let place = usize::try_from(height - 1).expect("a small height");
        if place == self.decided.len() {
            self.decided.push((id, header.state_root));
            self.report.rounds_above_zero += u64::from(commit.certificate.round > 0);
            self.note_delegates(commit);
            for entry in &commit.executed.block.entries {
                let fresh = self.entries_seen.insert(entry.bytes().to_vec());
                self.check(fresh, || format!("an entry stands twice, again at {height}"));
            }
        }
        let same = self.decided.get(place) == Some(&(id, header.state_root));
        self.check(same, || format!("disagreement at height {height}: node {number} decided {id}"));
        let sound = commit.executed.ledger.check_invariants();
        self.check(sound.is_ok(), || format!("an invariant broke at {height}"));
        let node = &mut self.nodes[number];
        node.ledger = commit.executed.ledger.clone();
        node.disk.blocks.push((commit.executed.block.to_bytes(), commit.certificate.clone()));
    }

    /// Who signed the block, and who lost a seat in it.
    fn note_delegates(&mut self, commit: &consensus::Commit) {
        let set = commit.executed.ledger.last_delegates();
        self.report.term = set.term();
        let signed = commit.certificate.signatures.iter();
        let homes = signed.map(|(seat, _)| set.as_slice()[usize::from(*seat)].home.clone());
        self.report.decided_by.extend(homes);
        for outcome in &commit.executed.outcomes {
            if let Outcome::Seat(SeatOutcome { key, reason: SeatLoss::Equivocation, fate }) = outcome
                && *fate != SeatFate::Kept
            {
                let home = commit.executed.ledger.home_of_term_key(key).expect("a term key").clone();
                self.report.ejected.insert(home);
            }
        }
    }

    /// Nothing that binds a delegate leaves before it is on its disk, and no honest delegate says two things.
    fn check_said(&mut self, number: usize, message: &Message) {
        let (author, vote) = match message {
            Message::Vote(vote) => (vote.voter, Some(vote)),
            Message::Proposal(proposal, _) => (proposal.proposer, None),
            _ => return,
        };
        if !self.nodes[number].term_keys.values().any(|key| PublicKey::of(key) == author) {
            return;
        }
        let synced = self.nodes[number].disk.unsynced.is_empty();
        self.check(synced, || format!("node {number} spoke before its log was synced"));
        if let (Some(vote), true) = (vote, self.plan.two_faced != Some(number)) {
            let place = (vote.voter, vote.kind, vote.height, vote.round);
            let before = *self.said.entry(place).or_insert(vote.block);
            // What a lying disk forgot and no peer heard cannot be known again; it can harm nobody either.
            self.check(before == vote.block || self.plan.lying_disks, || {
                format!("node {number} double-signed {:?} at {}/{}", vote.kind, vote.height, vote.round)
            });
            let on_disk = self.nodes[number].logged.contains(&place_of(vote));
            let settled = self.nodes[number].ledger.height() >= vote.height;
            self.check(on_disk || settled, || {
                format!("node {number} sent a vote that its log does not hold")
            });
        }
    }

    fn crash(&mut self, number: usize) {
        self.report.crashes += 1;
        let torn = self.nodes[number].disk.unsynced.len() as u64;
        let kept = usize::try_from(self.below(torn + 1)).expect("a small length");
        let node = &mut self.nodes[number];
        let unsynced = std::mem::take(&mut node.disk.unsynced);
        node.disk.log.extend_from_slice(&unsynced[..kept]);
        if self.plan.lying_disks {
            node.disk.log = without_last_frames(&node.disk.log, 3);
        }
        if self.plan.forget_logs && number < self.plan.delegates {
            node.disk.log = forgotten_log(self.chain, number, node.ledger.height() + 1);
        }
        node.replica = None;
        node.crash_in = None;
        node.life += 1;
        for (_, sequence) in std::mem::take(&mut node.timers) {
            self.events.remove(&sequence);
        }
        for peer in 0..self.nodes.len() {
            self.step(peer, Input::PeerDown(street::home(number)));
        }
        let after = 100 + self.below(5000);
        self.push(after, Event::Restart { node: number });
    }

    fn tick(&mut self) {
        if !self.healed {
            let dice = self.below(100);
            if self.plan.crashes && dice < 35 {
                let number = self.pick(self.nodes.len());
                let countdown = self.below(40);
                if self.nodes[number].replica.is_some() {
                    self.nodes[number].crash_in = Some(countdown);
                }
            } else if self.plan.partitions && dice < 45 {
                self.split();
            } else if self.plan.partitions && dice < 50 {
                let (from, to) = (self.pick(self.nodes.len()), self.pick(self.nodes.len()));
                self.blocked.insert((from, to));
            } else if dice < 75 {
                self.blocked.clear();
            }
        }
        self.push(1000, Event::Tick);
    }

    fn split(&mut self) {
        let sides: Vec<bool> = self.nodes.iter().map(|_| self.random.next_u32().is_multiple_of(2)).collect();
        let count = self.nodes.len();
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        self.blocked = pairs.filter(|(from, to)| sides[*from] != sides[*to]).collect();
    }

    /// Readings at each interval's end, and now and then a home changes its limits.
    fn work(&mut self) {
        let interval = Interval::containing(self.market(0), self.genesis.mtu);
        let first = Interval::containing(street::start(), self.genesis.mtu).index();
        let ended = interval.index() - first;
        while self.read_until < ended {
            let done = Interval::from_index(first + self.read_until, self.genesis.mtu);
            self.read_until += 1;
            for number in 0..self.nodes.len() {
                let bytes = self.nodes[number].journal.read(done);
                self.step(number, Input::Entry { bytes, origin: Origin::Own });
            }
        }
        if self.chance(400) && !self.healed {
            let number = self.pick(self.nodes.len());
            let bytes = self.nodes[number].journal.limit();
            self.step(number, Input::Entry { bytes, origin: Origin::Own });
        }
        self.push(300, Event::Work);
    }

    fn heal(&mut self) {
        self.healed = true;
        self.blocked.clear();
        for node in &mut self.nodes {
            node.crash_in = None;
        }
        for number in 0..self.nodes.len() {
            for peer in (0..self.nodes.len()).filter(|peer| *peer != number) {
                self.step(number, Input::PeerUp(street::home(peer)));
            }
        }
    }

    fn check_progress(&mut self, before: u64) {
        let decided = self.decided.len() as u64;
        self.check(decided >= before + 3, || format!("stalled at height {decided} after healing"));
        let liar = self.plan.two_faced;
        for number in (0..self.nodes.len()).filter(|number| liar != Some(*number)) {
            let node = &self.nodes[number];
            let height = node.ledger.height();
            let head = node.ledger.state_root();
            self.check(height + 1 >= decided, || format!("node {number} is at {height} of {decided}"));
            let same =
                usize::try_from(height).ok().and_then(|at| self.decided.get(at - 1)).map(|(_, root)| *root);
            self.check(same == Some(head), || format!("node {number} has another state root"));
            self.check_acknowledged(number);
        }
    }

    /// What a home signed before the last interval is final by now.
    fn check_acknowledged(&mut self, number: usize) {
        let node = &self.nodes[number];
        let key = PublicKey::of(&street::key(Purpose::Reading, number));
        let taken = node.ledger.last_number(&key, Stream::Readings);
        let readings = node.journal.entries.iter().filter(|(_, stream, _)| *stream == Stream::Readings);
        let last = readings.rev().nth(1).map_or(0, |(entry, _, _)| *entry);
        self.check(taken >= last, || format!("home {number}: reading {taken} of {last} is final"));
    }

    fn record(&mut self, number: usize, effect: &Effect) {
        let line = format!("{} {number} {}", self.now, summary(effect));
        if matches!(effect, Effect::Note { text } if text.contains("had lost")) {
            self.report.recovered += 1;
        }
        self.trace = Hash32::of(&[&self.trace.0, line.as_bytes()]);
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violate(&what());
        }
    }

    fn violate(&mut self, what: &str) {
        let at = self.now;
        self.report.violation.get_or_insert_with(|| format!("at {at} ms: {what}"));
    }

    fn push(&mut self, after: u64, event: Event) -> u64 {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + after, self.sequence)));
        self.events.insert(self.sequence, event);
        self.sequence
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("a small number")
    }

    fn chance(&mut self, in_a_thousand: u64) -> bool {
        self.below(1000) < in_a_thousand
    }

    fn number_of(&self, home: &HomeId) -> usize {
        self.nodes.iter().position(|node| node.home == *home).expect("a member")
    }
}

/// Everything of an effect that two runs must have in common.
fn summary(effect: &Effect) -> String {
    match effect {
        Effect::Commit(commit) => {
            let header = &commit.executed.block.header;
            format!(
                "commit {} {} {:?} {}",
                header.height,
                header.id(),
                commit.certificate,
                commit.finality_ms
            )
        }
        Effect::AppendLog(bytes) => format!("append {}", Hash32::of(&[bytes])),
        Effect::TrimLog(bytes) => format!("trim {}", Hash32::of(&[bytes])),
        Effect::SendTo { to, bytes } => format!("send {to} {}", Hash32::of(&[bytes])),
        Effect::ToDelegates(bytes) => format!("delegates {}", Hash32::of(&[bytes])),
        Effect::GossipFinal(bytes) => format!("final {}", Hash32::of(&[bytes])),
        Effect::GossipEntry(bytes) => format!("entry {}", Hash32::of(&[bytes])),
        other => format!("{other:?}"),
    }
}

const fn place_of(vote: &SignedVote) -> Place {
    (vote.kind, vote.height, vote.round, vote.block)
}

fn votes_in(log: &[u8]) -> BTreeSet<Place> {
    use consensus::log::Record;
    let votes = consensus::read_records(log).records.into_iter().filter_map(|record| match record {
        Record::Vote(vote) | Record::Pinned(Statement::Vote(vote)) => Some(place_of(&vote)),
        _ => None,
    });
    votes.collect()
}

/// The log without its last frames; the first, which the node wrote anew at its start, stays.
fn without_last_frames(log: &[u8], count: usize) -> Vec<u8> {
    let starts: Vec<usize> = (0..log.len()).filter(|at| log[*at..].starts_with(b"CWL\x01")).collect();
    let keep = starts.len().saturating_sub(count).max(1);
    log[..starts.get(keep).copied().unwrap_or(log.len())].to_vec()
}

/// What a disk that forgot everything but a clean stop would show.
fn forgotten_log(chain: Chain, number: usize, height: u64) -> Vec<u8> {
    use consensus::log::{Record, encode_frame};
    let key = PublicKey::of(&street::key(Purpose::Term, number));
    encode_frame(&[Record::Opened { chain, key }, Record::CleanStop(height)])
}
