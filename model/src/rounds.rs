//! One height: four delegates, one of them Byzantine, some rounds, one crash.
//!
//! Votes are a set that only grows; whoever acts may have received any part of it. That covers every delay, loss, duplication
//! and reordering. The Byzantine delegate has said everything to everybody at any time, so its vote is simply added to every
//! count: whatever it says to whom, no honest delegate sees more than that. Time-outs may elapse whenever the votes they wait
//! for could be there. What is left out only makes more happen than can happen.
//!
//! Delegate 0 is the one that crashes. What it says goes from its memory to its log and then to the others; a crash leaves what
//! the log holds, and it goes on from its own statements alone. A vote that is in the log and a vote that is published are one
//! thing here: nobody has to act on what is published, and after a crash the log is published again. When no crash is to come,
//! nothing is kept back. The two values are alike, so of two states that differ by their names only one is looked at.

use energy::HomeId;
use ledger::{Delegate, DelegateSet, PublicKey};
use stateright::{Model, Property};

/// The most rounds there can be.
pub const ROUNDS_MAX: usize = 3;
const HONEST: usize = 3;
const VALUES: [u8; 2] = [1, 2];
const NIL: u8 = 4;
const PREVOTE: usize = 0;
const PRECOMMIT: usize = 1;

/// What becomes of what the crashing delegate said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// The rule: what is published is in the log before, and the log survives.
    Kept,
    /// The rule for a log that is lost: the key does not vote any more.
    LostAndBarred,
    /// Control: no log at all; it begins again.
    Off,
    /// Control: published at once and written later.
    WrittenAfterwards,
    /// Control: the log is lost, and what two of the three others hold of its statements takes its place. Each of them holds
    /// what reached it; one of them may be the Byzantine delegate, which says that it holds nothing.
    LostAndAsked,
}

/// How many votes decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// More than two thirds, as [`DelegateSet::quorum`] has it.
    TwoThirds,
    /// Control: half.
    Half,
}

/// What is modelled.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    rounds: usize,
    log: Log,
    quorum: usize,
    crashes: u8,
}

/// What one delegate said: by round, prevotes and precommits as sets of values and nil; and proposals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Said {
    votes: [[u8; 2]; ROUNDS_MAX],
    /// By round: fresh values in the low bits, values of an earlier round r in bits 2 + 2r and 3 + 2r.
    proposals: [u8; ROUNDS_MAX],
}

/// Where a delegate is in its round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Waits for a proposal.
    #[default]
    Propose,
    /// Has prevoted.
    Prevote,
    /// Has precommitted.
    Precommit,
}

/// An honest delegate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    round: usize,
    stage: Stage,
    /// Value and round of the last precommit for a value.
    locked: Option<(u8, usize)>,
}

/// All of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    /// Seat that proposes in round 0; seat 3 is Byzantine.
    first: usize,
    nodes: [Node; HONEST],
    /// What reached, or may reach, others.
    published: [Said; HONEST],
    /// Of delegate 0: in memory, and on disk.
    said: Said,
    durable: Said,
    /// Of delegate 0, with delegates 1 and 2; only where that matters.
    received: [Said; 2],
    crashes: u8,
    barred: bool,
    /// It crashed and has not asked yet.
    asks: bool,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it; the number is a delegate's")]
pub enum Action {
    Propose(usize, u8),
    Prevote(usize, u8),
    Precommit(usize, u8),
    NextRound(usize),
    Persist,
    Receive(usize),
    Crash,
    Answered([bool; 2]),
}

impl Said {
    fn union(self, other: Self) -> Self {
        let mut both = self;
        for round in 0..ROUNDS_MAX {
            both.proposals[round] |= other.proposals[round];
            for kind in [PREVOTE, PRECOMMIT] {
                both.votes[round][kind] |= other.votes[round][kind];
            }
        }
        both
    }

    /// The same with the two values swapped.
    fn swapped(self) -> Self {
        let votes = self.votes.map(|kinds| kinds.map(|of| of & NIL | (of & 1) << 1 | (of & 2) >> 1));
        let proposals = self.proposals.map(|of| (of & 0b01_0101) << 1 | (of & 0b10_1010) >> 1);
        Self { votes, proposals }
    }

    /// True if two of its statements exclude one another.
    fn contradicts_itself(&self) -> bool {
        let votes = self.votes.iter().flatten();
        votes.chain(&self.proposals).any(|said| said.count_ones() > 1)
    }

    /// Where a delegate goes on that knows of itself only this.
    fn node(&self) -> Node {
        let mut node = Node::default();
        for (round, votes) in self.votes.iter().enumerate() {
            if *votes != [0, 0] || self.proposals[round] != 0 {
                node.round = round;
                node.stage = match votes {
                    [0, 0] => Stage::Propose,
                    [_, 0] => Stage::Prevote,
                    _ => Stage::Precommit,
                };
            }
            if let Some(value) = VALUES.into_iter().find(|value| votes[PRECOMMIT] & value != 0) {
                node.locked = Some((value, round));
            }
        }
        node
    }
}

impl State {
    /// The same with the two values swapped.
    fn swapped(&self) -> Self {
        let node = |node: Node| Node { locked: node.locked.map(|(value, round)| (3 - value, round)), ..node };
        Self {
            nodes: self.nodes.map(node),
            published: self.published.map(Said::swapped),
            said: self.said.swapped(),
            durable: self.durable.swapped(),
            received: self.received.map(Said::swapped),
            ..*self
        }
    }
}

impl Rounds {
    /// So many rounds, 1 to [`ROUNDS_MAX`], in which delegate 0 may crash so often.
    #[must_use]
    pub fn new(rounds: usize, crashes: u8, log: Log, quorum: Quorum) -> Self {
        let quorum = match quorum {
            Quorum::TwoThirds => four().quorum(),
            Quorum::Half => 2,
        };
        Self { rounds: rounds.clamp(1, ROUNDS_MAX), log, quorum, crashes }
    }

    /// What delegate `viewer` may have received of delegate `of`.
    fn seen(&self, state: &State, viewer: usize, of: usize) -> Said {
        match (of, viewer) {
            (0, 0) => state.said,
            (0, _) if self.log == Log::LostAndAsked => state.received[viewer - 1],
            _ => state.published[of],
        }
    }

    /// True if so many votes that fit `wanted` may be there, the Byzantine one among them.
    fn has_quorum(&self, state: &State, viewer: usize, round: usize, kind: usize, wanted: u8) -> bool {
        let votes = (0..HONEST).filter(|of| self.seen(state, viewer, *of).votes[round][kind] & wanted != 0);
        votes.count() + 1 >= self.quorum
    }

    /// Whether some delegate may decide on a value. Delegate 0 may count what it has in its log before it is published.
    fn decides(&self, state: &State, value: u8) -> bool {
        let own = state.published[0].union(state.durable);
        let said = [own, state.published[1], state.published[2]];
        let votes = |round: usize| said.iter().filter(move |said| said.votes[round][PRECOMMIT] & value != 0);
        (0..self.rounds).any(|round| votes(round).count() + 1 >= self.quorum)
    }

    fn proposer(&self, state: &State, round: usize) -> usize {
        (state.first + round) % (HONEST + 1)
    }

    /// Fresh, unless an earlier round bound it; then with that round.
    fn proposals(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        let Node { round, locked, .. } = state.nodes[node];
        for value in VALUES {
            if locked.is_none() {
                actions.push(Action::Propose(node, value));
            }
            let bound = (0..round).filter(|earlier| self.has_quorum(state, node, *earlier, PREVOTE, value));
            actions.extend(bound.map(|earlier| Action::Propose(node, value << (2 + 2 * earlier))));
        }
    }

    /// A value can be prevoted if it is proposed and the lock allows it.
    fn may_prevote(&self, state: &State, node: usize, value: u8) -> bool {
        let Node { round, locked, .. } = state.nodes[node];
        let proposer = self.proposer(state, round);
        let proposed =
            if proposer < HONEST { self.seen(state, node, proposer).proposals[round] } else { u8::MAX };
        let fits = |since: Option<usize>| match (locked, since) {
            (None, _) => true,
            (Some((own, _)), _) if own == value => true,
            (Some((_, locked)), Some(since)) => locked <= since,
            (Some(_), None) => false,
        };
        let fresh = proposed & value != 0 && fits(None);
        let again = (0..round).any(|earlier| {
            let named = proposed & value << (2 + 2 * earlier) != 0;
            named && self.has_quorum(state, node, earlier, PREVOTE, value) && fits(Some(earlier))
        });
        fresh || again
    }

    fn may_go_on(&self, state: &State, node: usize) -> bool {
        let round = state.nodes[node].round;
        let others_are_ahead = (round + 1..self.rounds).any(|later| {
            (0..HONEST).any(|of| of != node && self.seen(state, node, of).votes[later] != [0, 0])
        });
        let decided_nothing = self.has_quorum(state, node, round, PRECOMMIT, u8::MAX);
        round + 1 < self.rounds && (others_are_ahead || decided_nothing)
    }

    fn of_node(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        let Node { round, stage, .. } = state.nodes[node];
        let own = self.seen(state, node, node);
        match stage {
            Stage::Propose => {
                if self.proposer(state, round) == node && own.proposals[round] == 0 {
                    self.proposals(state, node, actions);
                }
                actions.push(Action::Prevote(node, NIL));
                let fitting = VALUES.into_iter().filter(|value| self.may_prevote(state, node, *value));
                actions.extend(fitting.map(|value| Action::Prevote(node, value)));
            }
            Stage::Prevote => {
                let quorum = |wanted| self.has_quorum(state, node, round, PREVOTE, wanted);
                if quorum(u8::MAX) {
                    actions.push(Action::Precommit(node, NIL));
                }
                let bound = VALUES.into_iter().filter(|value| quorum(*value));
                actions.extend(bound.map(|value| Action::Precommit(node, value)));
            }
            Stage::Precommit => {}
        }
        if self.may_go_on(state, node) {
            actions.push(Action::NextRound(node));
        }
    }

    /// Delegate 0's way from memory to the others.
    fn of_log(&self, state: &State, actions: &mut Vec<Action>) {
        if state.durable != state.said && !matches!(self.log, Log::Off) {
            actions.push(Action::Persist);
        }
        if self.log == Log::LostAndAsked {
            let missing = (0..2).filter(|of| state.received[*of] != state.published[0]);
            actions.extend(missing.map(|of| Action::Receive(of + 1)));
        }
        if state.crashes < self.crashes {
            actions.push(Action::Crash);
        }
    }

    /// What delegate 0 just said is with the others before it is in the log, or nothing can be lost any more.
    fn publish(&self, state: &mut State) {
        let nothing_to_lose = state.crashes == self.crashes;
        if nothing_to_lose {
            state.durable = state.said;
        }
        if nothing_to_lose || matches!(self.log, Log::Off | Log::WrittenAfterwards) {
            state.published[0] = state.published[0].union(state.said);
        }
    }

    fn crash(&self, state: &mut State) {
        state.crashes += 1;
        match self.log {
            Log::Kept | Log::WrittenAfterwards => state.said = state.durable,
            Log::Off => state.said = Said::default(),
            Log::LostAndBarred => state.barred = true,
            Log::LostAndAsked => {
                (state.said, state.durable) = (Said::default(), Said::default());
                state.asks = true;
            }
        }
        state.nodes[0] = state.said.node();
    }

    fn say(state: &mut State, node: usize, add: impl Fn(&mut Said)) {
        if node == 0 { add(&mut state.said) } else { add(&mut state.published[node]) }
    }
}

/// Four delegates as the ledger has them.
fn four() -> DelegateSet {
    let delegate = |number: u8| Delegate {
        key: PublicKey([number; 32]),
        home: HomeId::new(&format!("h{number:03}")).expect("a valid id"),
    };
    DelegateSet::new(0, (0..4).map(delegate).collect()).expect("four different delegates")
}

impl Model for Rounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = |first| State {
            first,
            nodes: [Node::default(); HONEST],
            published: [Said::default(); HONEST],
            said: Said::default(),
            durable: Said::default(),
            received: [Said::default(); 2],
            crashes: 0,
            barred: false,
            asks: false,
        };
        (0..=HONEST).map(state).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.asks {
            // Any two of the three others: the Byzantine one stands for nothing.
            let answers = [[true, true], [true, false], [false, true]];
            actions.extend(answers.map(Action::Answered));
        } else if !state.barred {
            self.of_node(state, 0, actions);
            self.of_log(state, actions);
        }
        (1..HONEST).for_each(|node| self.of_node(state, node, actions));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Propose(node, proposal) => {
                let round = state.nodes[node].round;
                Self::say(&mut state, node, |said| said.proposals[round] |= proposal);
            }
            Action::Prevote(node, vote) => {
                let round = state.nodes[node].round;
                state.nodes[node].stage = Stage::Prevote;
                Self::say(&mut state, node, |said| said.votes[round][PREVOTE] |= vote);
            }
            Action::Precommit(node, vote) => {
                let round = state.nodes[node].round;
                state.nodes[node].stage = Stage::Precommit;
                if vote != NIL {
                    state.nodes[node].locked = Some((vote, round));
                }
                Self::say(&mut state, node, |said| said.votes[round][PRECOMMIT] |= vote);
            }
            Action::NextRound(node) => {
                state.nodes[node].round += 1;
                state.nodes[node].stage = Stage::Propose;
            }
            Action::Persist => {
                state.durable = state.said;
                state.published[0] = state.published[0].union(state.said);
            }
            Action::Receive(by) => state.received[by - 1] = state.published[0],
            Action::Crash => self.crash(&mut state),
            Action::Answered(by) => {
                let held = state.received.iter().zip(by).filter(|(_, answers)| *answers);
                let own = held.fold(Said::default(), |all, (held, _)| all.union(*held));
                (state.said, state.durable, state.nodes[0]) = (own, own, own.node());
                state.asks = false;
            }
        }
        self.publish(&mut state);
        Some(state.min(state.swapped()))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("agreement", |model: &Self, state: &State| {
                !VALUES.into_iter().all(|value| model.decides(state, value))
            }),
            Property::always("no honest delegate contradicts itself", |_, state: &State| {
                !state.published.iter().any(Said::contradicts_itself)
            }),
            Property::sometimes("a value is decided", |model: &Self, state: &State| {
                VALUES.into_iter().any(|value| model.decides(state, value))
            }),
            Property::sometimes("after the crash a value is decided", |model: &Self, state: &State| {
                state.crashes > 0 && VALUES.into_iter().any(|value| model.decides(state, value))
            }),
        ]
    }
}
