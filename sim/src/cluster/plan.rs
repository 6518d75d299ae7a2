//! What a seed does: which neighbourhood, which faults, which homes are dishonest.

use std::collections::BTreeMap;

use ledger::Forward;

use super::clock::Lapse;
use super::dice::Dice;
use super::week::Suburb;

/// How a dishonest delegate behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Face {
    /// Says one thing to half of the delegates and another to the rest when it votes.
    DoubleVoter,
    /// Proposes two blocks in one round, and votes for each before those who have it.
    TwoFacedProposer,
    /// Follows, and says nothing as a delegate.
    Silent,
    /// Sends what it has no right to: votes in others' names, forged evidence, blocks with other entries than their header
    /// commits to, certificates of nobody, noise.
    Forger,
}

impl Face {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::DoubleVoter, Self::TwoFacedProposer, Self::Silent, Self::Forger];

    /// True for one that contradicts itself, and must be proven to.
    #[must_use]
    pub const fn contradicts_itself(self) -> bool {
        matches!(self, Self::DoubleVoter | Self::TwoFacedProposer)
    }

    /// The word shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::DoubleVoter => "double voter",
            Self::TwoFacedProposer => "two-faced proposer",
            Self::Silent => "silent delegate",
            Self::Forger => "forger",
        }
    }
}

/// A safeguard taken away, at a seam of the simulator and never by a switch of the product: a run with one must fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    /// A crash loses the consensus log, and the node believes that it stopped in good order.
    LogOff,
    /// Half of the delegates decide: what is missing to a quorum is signed with the others' keys before it is delivered.
    HalfQuorum,
    /// Signatures are not checked: whatever a forger says in another's name is given that one's signature before it is
    /// delivered.
    NoSignatureCheck,
    /// Syncing does nothing: a crash loses what was written in the last seconds.
    NoFdatasync,
    /// A disk that says it synced and did not: a crash takes the log's last frames, and the node asks the others what it said.
    /// This one may cost progress, but not agreement.
    LyingDisk,
}

impl Control {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::LogOff, Self::HalfQuorum, Self::NoSignatureCheck, Self::NoFdatasync, Self::LyingDisk];

    /// The word of the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LogOff => "log-off",
            Self::HalfQuorum => "half-quorum",
            Self::NoSignatureCheck => "no-signature-check",
            Self::NoFdatasync => "no-fdatasync",
            Self::LyingDisk => "lying-disk",
        }
    }
}

/// What goes wrong. Rates are per thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Messages lost.
    pub loss: u64,
    /// Messages that take up to two seconds, and are overtaken by later ones.
    pub slow: u64,
    /// Messages that arrive twice.
    pub repeat: u64,
    /// The network splits in two.
    pub splits: bool,
    /// A node is heard by another and does not hear it.
    pub one_way: bool,
    /// The network falls into islands, some of a single node.
    pub islands: bool,
    /// Once, when a delegate precommits in round 0, everybody is cut off from everybody for minutes.
    pub lock: bool,
    /// Nodes crash, between any two effects; what they had not synced is lost or torn.
    pub crashes: bool,
    /// A node crashes every so many virtual seconds on average; 0: as often as `crashes` says.
    pub crashes_every_s: u64,
    /// Bits flip in a log while its node is down.
    pub log_flips: bool,
    /// Bits flip in stored blocks.
    pub block_flips: bool,
    /// Clocks jump by up to five minutes.
    pub skew: bool,
    /// Disks take up to two seconds to sync.
    pub slow_disks: bool,
    /// A home signs two entries with one number and sends one to half of the others.
    pub twins: bool,
    /// More than a third of the delegates are gone across a gate and a deadline.
    pub outage: bool,
    /// Homes whose node comes long after the start, with nothing on its disk.
    pub late: Vec<usize>,
    /// A member that sends as many entries as it can sign: its software is its own.
    pub flooder: Option<usize>,
    /// Who begins with an empty disk asks the others for a recent state; otherwise it begins with the first block.
    pub given_states: bool,
    /// When two of four delegates lose everything for ever, disk and keys, in virtual wall ms. Blocks end then, until the
    /// members have seated others.
    pub deleted: Option<u64>,
}

impl Faults {
    /// The names of those that are on.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let all = [
            ("loss", self.loss > 0),
            ("delay and reordering", self.slow > 0),
            ("duplication", self.repeat > 0),
            ("partition in two", self.splits),
            ("one-way partition", self.one_way),
            ("islands", self.islands),
            ("lock, then partition", self.lock),
            ("crash", self.crashes || self.crashes_every_s > 0),
            ("flipped bit in a log", self.log_flips),
            ("flipped bit in a block", self.block_flips),
            ("clock skew", self.skew),
            ("slow disk", self.slow_disks),
            ("twin entries", self.twins),
            ("outage over gate and deadline", self.outage),
            ("joining late", !self.late.is_empty()),
            ("flood of entries", self.flooder.is_some()),
            ("joining with a given state", self.given_states),
            ("recovery with two of four deleted", self.deleted.is_some()),
        ];
        all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }
}

/// What a run is put through. It decides every byte of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Gives every choice of the run.
    pub seed: u64,
    /// Founding delegates: the first homes.
    pub delegates: usize,
    /// Further homes that found the community, each with a whole node.
    pub followers: usize,
    /// Market ms in a wall ms.
    pub speed: u32,
    /// An epoch has so many intervals; 96 is a day.
    pub epoch_every: u32,
    /// How long faults are injected, in virtual wall ms.
    pub faults_ms: u64,
    /// How energy is traded ahead.
    pub forward: Forward,
    /// Homes with devices follow their agents; otherwise loads follow a rule, and orders too.
    pub agents: bool,
    /// So often in a thousand looks at the homes one of them changes its price limits.
    pub limits_in_1000: u64,
    /// Homes stand for each term and vote.
    pub elections: bool,
    /// What goes wrong.
    pub faults: Faults,
    /// Dishonest homes.
    pub faces: BTreeMap<usize, Face>,
    /// Homes without a node.
    pub suburb: Suburb,
    /// A safeguard that is taken away.
    pub control: Option<Control>,
}

/// One seed in so many has agents in its homes.
const AGENTS_EVERY: u64 = 8;
/// Of a thousand seeds so many have a member that floods.
const FLOODED_IN_1000: u64 = 50;
/// One seed in so many has elections in each interval.
const ELECTIONS_EVERY: u64 = 4;
/// Of a thousand seeds with four delegates so many lose two of them for ever.
const DELETED_IN_1000: u64 = 80;
/// Between that loss and the time when the day without blocks begins to pass more quickly, in wall ms: what is under way then
/// still arrives.
const DELETED_REST_MS: u64 = 4000;
/// The day of market time without blocks, and half an hour more, passes in so many wall ms …
const LAPSE_MS: u64 = 92_000;
/// … because so many market ms are added to each.
const LAPSE_EXTRA: u32 = 960;
/// From the loss until healing at the least, in wall ms: the day, and what comes of it under faults.
const DELETED_MS: u64 = DELETED_REST_MS + LAPSE_MS + 40_000;

impl Plan {
    /// A quiet street: everybody honest, nothing fails, forty times as fast as life.
    #[must_use]
    pub fn quiet(seed: u64, delegates: usize, followers: usize) -> Self {
        Self {
            seed,
            delegates,
            followers,
            speed: 40,
            epoch_every: 96,
            faults_ms: 30_000,
            forward: Forward::Posted,
            agents: false,
            limits_in_1000: 300,
            elections: false,
            faults: Faults::default(),
            faces: BTreeMap::new(),
            suburb: Suburb::default(),
            control: None,
        }
    }

    /// The same under loss, delays, partitions and crashes.
    #[must_use]
    pub fn rough(seed: u64, delegates: usize, followers: usize) -> Self {
        let faults = Faults {
            loss: 50,
            slow: 20,
            repeat: 20,
            splits: true,
            one_way: true,
            crashes: true,
            ..Faults::default()
        };
        Self { faults, ..Self::quiet(seed, delegates, followers) }
    }

    /// Eight homes, four of which hold a seat, with an election in every interval.
    #[must_use]
    pub fn with_elections(self) -> Self {
        Self { elections: true, epoch_every: 1, delegates: 4, followers: 4, faults_ms: 80_000, ..self }
    }

    /// What a seed stands for in the long run: a mix in which every fault comes with every other sooner or later.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x70_6c_61_6e);
        let delegates = if dice.chance(200) { 7 } else { 4 };
        let followers = if delegates == 7 { 2 } else { 1 + dice.pick(2) };
        let plan = Self::quiet(seed, delegates, followers);
        let plan = if seed.is_multiple_of(ELECTIONS_EVERY) { plan.with_elections() } else { plan };
        let faults = faults_of(&mut dice, plan.homes(), plan.delegates);
        let forward = match dice.below(3) {
            0 => Forward::Off,
            1 => Forward::Auction,
            _ => Forward::Posted,
        };
        let longer = if faults.lock || faults.outage { 50_000 } else { 0 };
        let faces = faces_of(&mut dice, plan.homes(), plan.delegates, &faults);
        let mut plan = Self {
            agents: seed % AGENTS_EVERY == 1,
            faults_ms: plan.faults_ms + longer,
            forward,
            faults,
            faces,
            ..plan
        };
        if plan.delegates == 4 && !plan.agents && dice.chance(DELETED_IN_1000) {
            let at = 12_000 + dice.below(15_000);
            plan = plan.with_two_deleted(at);
        }
        let joins = !plan.faults.late.is_empty() || plan.faults.deleted.is_some();
        plan.faults.given_states = joins && dice.chance(500);
        let flooder = dice.pick(plan.homes());
        plan.faults.flooder = Some(flooder).filter(|_| dice.chance(FLOODED_IN_1000));
        plan
    }

    /// Two of four delegates lose everything for ever after so many virtual wall ms; there are homes enough to seat others.
    #[must_use]
    pub fn with_two_deleted(mut self, at: u64) -> Self {
        self.followers = self.followers.max(2);
        self.faults_ms = self.faults_ms.max(at + DELETED_MS);
        self.faults.deleted = Some(at);
        self
    }

    /// When market time runs faster than usual.
    pub(crate) fn lapse(&self) -> Lapse {
        self.faults.deleted.map_or_else(Lapse::default, |at| {
            let from = at + DELETED_REST_MS;
            Lapse { from, until: from + LAPSE_MS, extra: LAPSE_EXTRA }
        })
    }

    /// With a safeguard taken away, and what brings to light that it is missing.
    #[must_use]
    pub fn without(self, control: Control) -> Self {
        let mut plan = Self { control: Some(control), faults_ms: 40_000, ..self };
        match control {
            Control::NoSignatureCheck => plan.faces = BTreeMap::from([(0, Face::Forger)]),
            // What is signed in others' names here must not come back to them by another way than a decision.
            Control::HalfQuorum => plan.faults = Faults { splits: true, ..Faults::default() },
            Control::LogOff | Control::NoFdatasync | Control::LyingDisk => {}
        }
        plan
    }

    /// Homes with a node.
    #[must_use]
    pub const fn homes(&self) -> usize {
        self.delegates + self.followers
    }

    /// Homes that found the community.
    pub(crate) const fn founders(&self) -> usize {
        self.homes() + self.suburb.homes - self.suburb.joins
    }
}

fn faults_of(dice: &mut Dice, homes: usize, delegates: usize) -> Faults {
    let mut on = |in_a_thousand| dice.chance(in_a_thousand);
    let mut faults = Faults {
        splits: on(500),
        one_way: on(400),
        islands: on(250),
        lock: on(150),
        crashes: on(700),
        log_flips: on(150),
        block_flips: on(250),
        skew: on(250),
        slow_disks: on(250),
        twins: on(300),
        outage: on(200),
        ..Faults::default()
    };
    faults.log_flips &= faults.crashes;
    faults.block_flips &= faults.crashes;
    faults.loss = [0, 20, 50, 100, 200][dice.pick(5)];
    faults.slow = [0, 20, 20, 100][dice.pick(4)];
    faults.repeat = [0, 20, 20, 100][dice.pick(4)];
    if dice.chance(250) {
        // A follower, or a delegate that is not needed at first.
        let late = if dice.chance(500) { delegates } else { delegates - 1 };
        faults.late.push(late.min(homes - 1));
    }
    faults
}

/// No more dishonest and forgetful delegates than a neighbourhood bears.
fn faces_of(dice: &mut Dice, homes: usize, delegates: usize, faults: &Faults) -> BTreeMap<usize, Face> {
    let bears = (delegates - 1) / 3 - usize::from(faults.log_flips).min((delegates - 1) / 3);
    let count = if bears > 0 && dice.chance(600) { 1 + dice.pick(bears) } else { 0 };
    let mut faces = BTreeMap::new();
    while faces.len() < count {
        let among = if dice.chance(900) { delegates } else { homes };
        let home = dice.pick(among);
        faces.insert(home, Face::ALL[dice.pick(Face::ALL.len())]);
    }
    faces
}
