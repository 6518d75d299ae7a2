//! A few heights: delegate sets that blocks change, and a proposer that says one thing here and another there.
//!
//! What happens inside a height is for [`crate::rounds`]; here an honest delegate votes once in a height, for a block whose
//! parent is certified, if it has a seat in the set that decides it. One member of the first set is Byzantine: it builds what
//! blocks it likes on any certified block, and its vote counts for each of them. A block may give one seat to a standby.
//!
//! Who votes in a height looks at nothing of later ones, so all votes of a height may come before its successor's first block:
//! heights are gone through in order, and of those behind only what became final is kept.

use std::collections::{BTreeMap, BTreeSet};

use energy::HomeId;
use ledger::{Delegate, DelegateSet, PublicKey};
use stateright::{Model, Property};

/// Homes 0 to 3 are delegates at first, and this one is Byzantine.
const BYZANTINE: u8 = 3;
/// Who takes a seat.
const STANDBY: u8 = 4;
/// Different blocks built in one height.
const BLOCKS_PER_HEIGHT: usize = 2;

/// What is modelled.
#[derive(Debug, Clone, Copy)]
pub struct Sets {
    /// Heights.
    pub heights: u8,
    /// How many heights after its own a block's change of the set holds: two is the rule.
    pub lag: u8,
}

/// A block: where it stands and which seat it gives to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    height: u8,
    /// Place of its parent among the blocks; `None`: genesis.
    parent: Option<u8>,
    /// Who loses a seat, and who gets it.
    change: Option<(u8, u8)>,
    /// Tells two blocks apart that change nothing.
    other: bool,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Those of the last height, and before them the final ones of all others.
    blocks: Vec<Block>,
    /// By block of the last height: the honest homes that voted for it, as bits.
    votes: BTreeMap<u8, u8>,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A block is built.
    Build(Block),
    /// A home votes for the block at this place.
    Vote(u8, u8),
}

impl Sets {
    /// The members of the set that decides a block of `height` whose ancestors, and itself, are given from it downwards.
    fn set(&self, state: &State, height: u8, newest: Option<u8>) -> BTreeSet<u8> {
        let mut chain = Vec::new();
        let mut place = newest;
        while let Some(block) = place.map(|place| state.blocks[usize::from(place)]) {
            chain.push(block);
            place = block.parent;
        }
        let mut set: BTreeSet<u8> = (0..4).collect();
        for block in chain.iter().rev().filter(|block| block.height + self.lag <= height) {
            if let Some((leaving, coming)) = block.change
                && !set.contains(&coming)
                && set.remove(&leaving)
            {
                set.insert(coming);
            }
        }
        set
    }

    fn set_of(&self, state: &State, place: u8) -> BTreeSet<u8> {
        self.set(state, state.blocks[usize::from(place)].height, Some(place))
    }

    fn is_final(&self, state: &State, place: u8) -> bool {
        if state.blocks[usize::from(place)].height < Self::height(state) {
            return true;
        }
        let set = self.set_of(state, place);
        let votes = state.votes.get(&place).copied().unwrap_or_default();
        let signed = |home: &&u8| **home == BYZANTINE || votes >> **home & 1 == 1;
        set.iter().filter(signed).count() >= as_ledger_has_it(&set).quorum()
    }

    /// The last height there are blocks of.
    fn height(state: &State) -> u8 {
        state.blocks.last().map_or(0, |block| block.height)
    }

    fn finals(&self, state: &State) -> Vec<u8> {
        Self::places(state).filter(|place| self.is_final(state, *place)).collect()
    }

    /// Which set decides the height after a block.
    fn next_set(&self, state: &State, place: u8) -> BTreeSet<u8> {
        self.set(state, state.blocks[usize::from(place)].height + 1, Some(place))
    }

    fn places(state: &State) -> impl Iterator<Item = u8> {
        0..u8::try_from(state.blocks.len()).unwrap_or(u8::MAX)
    }

    /// Another block of the last height, or the first of the next.
    fn building(&self, state: &State, actions: &mut Vec<Action>) {
        let last = Self::height(state);
        let built = state.blocks.iter().filter(|block| block.height == last).count();
        for parent in self.finals(state).into_iter().map(Some).chain([None]) {
            let height = parent.map_or(0, |place| state.blocks[usize::from(place)].height) + 1;
            let has_room = height == last + 1 || height == last && built < BLOCKS_PER_HEIGHT;
            if height > self.heights || !has_room {
                continue;
            }
            let plain = [false, true].map(|other| Block { height, parent, change: None, other });
            let swaps = (0..BYZANTINE).map(|leaving| Block { change: Some((leaving, STANDBY)), ..plain[0] });
            // A change that comes into effect beyond the last height is none.
            let swaps = swaps.filter(|_| height + self.lag <= self.heights.max(self.lag));
            let new = plain.into_iter().chain(swaps).filter(|block| !state.blocks.contains(block));
            actions.extend(new.map(Action::Build));
        }
    }

    fn voting(&self, state: &State, actions: &mut Vec<Action>) {
        let voted = state.votes.values().fold(0, |all, votes| all | votes);
        let last = Self::height(state);
        for place in Self::places(state).filter(|place| state.blocks[usize::from(*place)].height == last) {
            let set = self.set_of(state, place);
            let free = set.into_iter().filter(|home| *home != BYZANTINE && voted >> home & 1 == 0);
            actions.extend(free.map(|home| Action::Vote(home, place)));
        }
    }

    /// The same with only what is final, its places counted anew: the next height begins.
    fn settled(&self, state: &State) -> (State, BTreeMap<u8, u8>) {
        let finals = self.finals(state);
        let moved: BTreeMap<u8, u8> = finals.iter().copied().zip(0..).collect();
        let block = |place: &u8| {
            let block = state.blocks[usize::from(*place)];
            Block { parent: block.parent.and_then(|parent| moved.get(&parent).copied()), ..block }
        };
        (State { blocks: finals.iter().map(block).collect(), votes: BTreeMap::new() }, moved)
    }
}

fn as_ledger_has_it(set: &BTreeSet<u8>) -> DelegateSet {
    let delegate = |home: &u8| Delegate {
        key: PublicKey([*home; 32]),
        home: HomeId::new(&format!("h{home:03}")).expect("a valid id"),
    };
    DelegateSet::new(0, set.iter().map(delegate).collect()).expect("different homes")
}

impl Model for Sets {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { blocks: Vec::new(), votes: BTreeMap::new() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.building(state, actions);
        self.voting(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Build(mut block) => {
                if block.height > Self::height(last) {
                    let (settled, moved) = self.settled(last);
                    block.parent = block.parent.and_then(|parent| moved.get(&parent).copied());
                    state = settled;
                }
                state.blocks.push(block);
            }
            Action::Vote(home, place) => *state.votes.entry(place).or_default() |= 1 << home,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one block is final in each height", |model: &Self, state: &State| {
                let finals = model.finals(state);
                let heights = finals.iter().map(|place| state.blocks[usize::from(*place)].height);
                heights.collect::<BTreeSet<_>>().len() == finals.len()
            }),
            Property::always(
                "whoever works on a height knows the set of the next",
                |model: &Self, state: &State| {
                    let pairs =
                        Self::places(state).flat_map(|one| Self::places(state).map(move |two| (one, two)));
                    let mut brothers = pairs.filter(|(one, two)| {
                        state.blocks[usize::from(*one)].parent == state.blocks[usize::from(*two)].parent
                    });
                    brothers.all(|(one, two)| model.next_set(state, one) == model.next_set(state, two))
                },
            ),
            Property::sometimes("a set with a standby in it decides", |model: &Self, state: &State| {
                model.finals(state).into_iter().any(|place| model.set_of(state, place).contains(&STANDBY))
            }),
        ]
    }
}
