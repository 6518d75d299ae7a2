//! Programs with and without the next rules in one community: those that have them go on, the other one stops before their first
//! block, and says so.

use std::collections::{BTreeMap, VecDeque};

use consensus::message::Message;
use consensus::{Effect, Input, Now, Origin, Replica, ReplicaConfig, Timeouts, Timer, new_log};
use ledger::codec::Encode as _;
use ledger::{Body, Certificate, DemoClock, Entry, Genesis, Ledger, PublicKey, RULE_VERSION, Salt};

use crate::street::{self, Purpose, home, key};

const NEXT: u16 = RULE_VERSION + 1;
const HOMES: usize = 4;
/// Market ms per wall ms: an epoch of a quarter-hour passes in 15 seconds.
const SPEED: u32 = 60;

fn genesis() -> Genesis {
    let mut genesis = street::genesis(HOMES, HOMES);
    genesis.clock = Some(DemoClock {
        origin: genesis.start,
        wall_origin: genesis.start,
        speed: SPEED,
        assurance_every: 96,
        epoch_every: 1,
    });
    genesis
}

struct Node {
    replica: Replica,
    timers: BTreeMap<Timer, u64>,
    blocks: Vec<(Vec<u8>, Certificate)>,
    notes: Vec<String>,
    halted: bool,
}

impl Node {
    fn new(number: usize, genesis: &Genesis, knows: u16) -> Self {
        let term = key(Purpose::Term, number);
        let ledger = Ledger::genesis(genesis).unwrap().knowing(knows);
        let log = new_log(*ledger.chain(), PublicKey::of(&term));
        let config = ReplicaConfig {
            home: home(number),
            term_keys: vec![term],
            last_certificate: None,
            timeouts: Timeouts::default(),
            min_block_interval_ms: 1000,
            speed: SPEED,
        };
        let replica = Replica::new(config, ledger, &log).unwrap();
        Self { replica, timers: BTreeMap::new(), blocks: Vec::new(), notes: Vec::new(), halted: false }
    }
}

/// Nodes that hear one another at once and lose nothing.
struct Community {
    genesis: Genesis,
    nodes: Vec<Node>,
    queue: VecDeque<(usize, Input)>,
    wall_ms: u64,
}

impl Community {
    fn new(knows: [u16; HOMES]) -> Self {
        let genesis = genesis();
        let nodes = (0..HOMES).map(|number| Node::new(number, &genesis, knows[number])).collect();
        let mut queue: VecDeque<_> = (0..HOMES).map(|number| (number, Input::Start)).collect();
        for to in 0..HOMES {
            queue.extend((0..HOMES).filter(|of| *of != to).map(|of| (to, Input::PeerUp(home(of)))));
        }
        Self { genesis, nodes, queue, wall_ms: 0 }
    }

    fn signal(&mut self, number: usize, version: u16) {
        let member = key(Purpose::Member, number);
        let body = Body::RuleSignal { home: home(number), version };
        let entry = Entry { signer: PublicKey::of(&member), number: 1, salt: Salt([7; 16]), body };
        let bytes = entry.sign(&self.genesis.chain(), &member).to_bytes();
        self.queue.push_back((number, Input::Entry { bytes, origin: Origin::Own }));
    }

    fn run_until(&mut self, wall_ms: u64) {
        while self.wall_ms < wall_ms {
            while let Some((to, input)) = self.queue.pop_front() {
                self.step(to, input);
            }
            let next = self.nodes.iter().flat_map(|node| node.timers.values()).min().copied();
            self.wall_ms = next.unwrap_or(wall_ms).clamp(self.wall_ms, wall_ms);
            for number in 0..HOMES {
                let due = |(_, at): &(&Timer, &u64)| **at <= self.wall_ms;
                let due: Vec<Timer> =
                    self.nodes[number].timers.iter().filter(due).map(|(timer, _)| *timer).collect();
                for timer in due {
                    self.nodes[number].timers.remove(&timer);
                    self.queue.push_back((number, Input::Timer(timer)));
                }
            }
        }
    }

    fn step(&mut self, number: usize, input: Input) {
        let market = self.genesis.start.plus_ms(self.wall_ms * u64::from(SPEED));
        let now = Now { market, wall_ms: self.wall_ms };
        for effect in self.nodes[number].replica.step(now, input) {
            self.carry_out(number, effect);
        }
    }

    fn carry_out(&mut self, number: usize, effect: Effect) {
        let from = home(number);
        let others = (0..HOMES).filter(|other| *other != number);
        match effect {
            Effect::SendTo { to, bytes } => {
                let to = (0..HOMES).find(|number| home(*number) == to).unwrap();
                self.queue.push_back((to, Input::Message { from, bytes }));
            }
            Effect::ToDelegates(bytes) => {
                let said = |to| (to, Input::Message { from: from.clone(), bytes: bytes.clone() });
                self.queue.extend(others.map(said));
            }
            Effect::GossipEntries(bytes) => {
                let said = |to| (to, Input::Entries { from: from.clone(), bytes: bytes.clone() });
                self.queue.extend(others.map(said));
            }
            Effect::GossipFinal(bytes) => {
                let said = |to| (to, Input::Final { from: from.clone(), bytes: bytes.clone() });
                self.queue.extend(others.map(said));
            }
            Effect::SetTimer { timer, after_ms } => {
                self.nodes[number].timers.insert(timer, self.wall_ms + after_ms);
            }
            Effect::ClearTimer(timer) => {
                self.nodes[number].timers.remove(&timer);
            }
            Effect::Commit(commit) => {
                let block = commit.executed.block.to_bytes();
                self.nodes[number].blocks.push((block, commit.certificate));
            }
            Effect::ServeBlocks { to, from_height, .. } => {
                let first = usize::try_from(from_height).unwrap() - 1;
                let blocks = self.nodes[number].blocks[first..].iter().take(16).cloned().collect();
                let to = (0..HOMES).find(|number| home(*number) == to).unwrap();
                let bytes = Message::SyncResponse(blocks).to_bytes();
                self.queue.push_back((to, Input::Message { from, bytes }));
            }
            Effect::Halt { .. } => self.nodes[number].halted = true,
            Effect::Note { text } => self.nodes[number].notes.push(text),
            _ => {}
        }
    }

    fn heights(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.replica.height()).collect()
    }
}

#[test]
fn programs_with_the_next_rules_go_on_and_the_one_without_stops_before_their_first_block() {
    let mut community = Community::new([NEXT, NEXT, NEXT, RULE_VERSION]);
    (0..3).for_each(|number| community.signal(number, NEXT));
    community.run_until(60_000);
    let older = &community.nodes[3];
    let last = older.replica.height();
    assert_eq!(older.replica.ledger().unknown_rules(), Some(NEXT));
    assert!(!older.halted, "its home meters on");
    assert!(!older.replica.is_voting());
    let said: Vec<_> = older.notes.iter().filter(|note| note.contains("until it is updated")).collect();
    assert_eq!(said.len(), 1, "once: {:?}", older.notes);
    let heights = community.heights();
    for (number, node) in community.nodes[..3].iter().enumerate() {
        assert!(node.replica.height() > last + 3, "{heights:?}");
        assert_eq!(node.replica.ledger().rule_version(), NEXT);
        let version = |height: u64| {
            let (bytes, _) = &node.blocks[usize::try_from(height).unwrap() - 1];
            let block = <ledger::UnverifiedBlock as ledger::codec::Decode>::from_bytes(bytes).unwrap();
            block.header.rule_version
        };
        assert_eq!((version(last), version(last + 1)), (RULE_VERSION, NEXT), "node {number}");
    }
    assert!(!community.nodes.iter().any(|node| node.halted));
    // It still hands out what it holds, and an update goes on where it stopped.
    let (wall_ms, market) = (community.wall_ms, community.genesis.start.plus_ms(community.wall_ms * 60));
    let request = Message::SyncRequest { from_height: 1, max_bytes: 1 << 20 }.to_bytes();
    let asked = Input::Message { from: home(0), bytes: request };
    let effects = community.nodes[3].replica.step(Now { market, wall_ms }, asked);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ServeBlocks { .. })));
    let stopped = community.nodes[3].replica.ledger().clone();
    let (next, certificate) = community.nodes[0].blocks[usize::try_from(last).unwrap()].clone();
    let block = <ledger::UnverifiedBlock as ledger::codec::Decode>::from_bytes(&next).unwrap();
    let block = block.verify(stopped.chain(), |_| None).unwrap();
    certificate.verify(stopped.chain(), stopped.delegates()).unwrap();
    assert!(stopped.execute(&block).is_err());
    assert!(stopped.knowing(NEXT).execute(&block).is_ok());
}

#[test]
fn where_too_few_signal_nobody_stops() {
    let mut community = Community::new([NEXT, NEXT, RULE_VERSION, RULE_VERSION]);
    (0..2).for_each(|number| community.signal(number, NEXT));
    community.run_until(60_000);
    let heights = community.heights();
    assert!(heights.iter().all(|height| *height > 10), "{heights:?}");
    for node in &community.nodes {
        assert_eq!(node.replica.ledger().rule_version(), RULE_VERSION);
        assert!(node.replica.is_voting());
    }
}
