//! What goes wrong, second by second, and how it heals.

use std::collections::BTreeSet;

use consensus::Input;
use consensus::message::Message;
use ledger::VoteKind;

use super::node::{CrashPoint, Kind};
use super::plan::Control;
use super::street;
use super::world::{Event, World};

/// A clock is wrong by up to so much, in wall ms.
const SKEW_MAX_MS: u64 = 300_000;
/// After a lock everybody is cut off for so long, in ms: minutes.
const LOCK_MS: u64 = 120_000;

/// What a run has in store.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// A planned cut: nothing is mended before it ends.
    cut_until: u64,
    /// The next precommit of round 0 is followed by a partition.
    lock_armed: bool,
    /// When more than a third of the delegates go, and when they come back.
    outage: Option<(u64, u64)>,
    away: BTreeSet<usize>,
    /// The one node whose log, and the one whose blocks, lose bits.
    log_victim: usize,
    block_victim: usize,
    /// The nodes whose clocks are wrong: as many as the neighbourhood bears.
    skewed: Vec<usize>,
}

impl World {
    /// Decides who is hit.
    pub(crate) fn plan_weather(&mut self) {
        let honest: Vec<usize> =
            (0..self.nodes.len()).filter(|number| self.nodes[*number].face.is_none()).collect();
        let pick = |world: &mut Self| honest[world.dice.pick(honest.len())];
        self.weather.log_victim = pick(self);
        self.weather.block_victim = pick(self);
        let bears = (self.plan.delegates - 1) / 3;
        self.weather.skewed = (0..bears).map(|_| pick(self)).collect();
        self.weather.lock_armed = self.plan.faults.lock;
        if self.plan.faults.outage {
            // An interval and its gate pass, and its deadline.
            let interval_ms = self.genesis.mtu.ms() / u64::from(self.plan.speed);
            let from = 5000 + self.dice.below(self.plan.faults_ms / 3);
            self.weather.outage = Some((from, from + interval_ms + self.dice.below(interval_ms)));
        }
    }

    /// One throw for faults.
    pub(crate) fn throw_faults(&mut self) {
        if self.healed {
            return;
        }
        self.pass_outage();
        self.throw_for_crash();
        self.throw_for_cut();
        self.throw_for_clocks();
        self.throw_for_disks();
        self.misbehave();
    }

    fn pass_outage(&mut self) {
        let Some((from, until)) = self.weather.outage else { return };
        if self.now >= until {
            self.weather.outage = None;
            self.weather.away.clear();
            self.report.cuts += 1;
        } else if self.now >= from && self.weather.away.is_empty() {
            let gone = (self.plan.delegates - 1) / 3 + 1;
            let first = self.dice.pick(self.plan.delegates);
            self.weather.away = (0..gone).map(|step| (first + step) % self.plan.delegates).collect();
            for number in self.weather.away.clone() {
                if self.nodes[number].replica.is_some() {
                    self.crash(number);
                }
            }
        }
    }

    /// True while a node cannot start.
    pub(crate) fn is_away(&self, number: usize) -> bool {
        self.weather.away.contains(&number)
    }

    fn throw_for_crash(&mut self) {
        let every_s = self.plan.faults.crashes_every_s;
        let due = match self.plan.faults.crashes {
            true => self.dice.chance(350),
            false => every_s > 0 && self.dice.below(every_s) == 0,
        };
        if !due {
            return;
        }
        let hit = self.plan.faults.log_flips && self.dice.chance(200);
        let number = if hit { self.weather.log_victim } else { self.dice.pick(self.nodes.len()) };
        let kind = Kind::ALL[self.dice.pick(Kind::ALL.len())];
        let point = match self.dice.below(4) {
            0 => CrashPoint::Before(kind),
            1 => CrashPoint::After(kind),
            _ => CrashPoint::In(self.dice.below(40)),
        };
        if self.nodes[number].replica.is_some() {
            self.nodes[number].crash_at = Some(point);
        }
    }

    fn throw_for_cut(&mut self) {
        if self.now < self.weather.cut_until || self.is_somebody_apart() {
            return;
        }
        if self.plan.control == Some(Control::HalfQuorum) {
            return self.halve();
        }
        let faults = &self.plan.faults;
        let (splits, one_way, islands) = (faults.splits, faults.one_way, faults.islands);
        let dice = self.dice.below(100);
        if splits && dice < 10 {
            self.cut_into(2);
        } else if islands && dice < 17 {
            let parts = 3 + self.dice.pick(self.nodes.len());
            self.cut_into(parts);
        } else if one_way && dice < 25 {
            let (from, to) = (self.dice.pick(self.nodes.len()), self.dice.pick(self.nodes.len()));
            self.blocked.insert((from, to));
            self.report.cuts += 1;
        } else if dice < 50 {
            self.blocked.clear();
        }
    }

    /// Half of the delegates hear nothing of the other half, for fifteen of every twenty seconds.
    fn halve(&mut self) {
        let second = self.now / 1000 % 20;
        if second == 15 {
            self.blocked.clear();
        } else if second == 0 {
            let half = self.plan.delegates / 2;
            self.separate(|number| usize::from(number < half));
        }
    }

    /// Deals the nodes to so many islands.
    fn cut_into(&mut self, islands: usize) {
        let sides: Vec<usize> = (0..self.nodes.len()).map(|_| self.dice.pick(islands)).collect();
        self.separate(|number| sides[number]);
    }

    /// Nodes hear only those on their own side.
    fn separate(&mut self, side: impl Fn(usize) -> usize) {
        self.report.cuts += 1;
        let count = self.nodes.len();
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        self.blocked = pairs.filter(|(from, to)| side(*from) != side(*to)).collect();
    }

    /// A delegate that precommits has locked: now nobody hears of it, for minutes.
    pub(crate) fn watch_for_lock(&mut self, message: &Message) {
        let Message::Vote(vote) = message else { return };
        let locks = vote.kind == VoteKind::Precommit && vote.round == 0 && vote.block.is_some();
        if self.healed || !self.weather.lock_armed || !locks || self.now < self.plan.faults_ms / 8 {
            return;
        }
        self.weather.lock_armed = false;
        self.weather.cut_until = (self.now + LOCK_MS).min(self.plan.faults_ms);
        let islands = if self.dice.chance(500) { self.nodes.len() * 4 } else { 2 };
        self.cut_into(islands);
    }

    fn throw_for_clocks(&mut self) {
        if !self.plan.faults.skew || !self.dice.chance(100) {
            return;
        }
        let Some(number) = self.weather.skewed.get(self.dice.pick(self.weather.skewed.len())).copied() else {
            return;
        };
        let skew = i64::try_from(self.dice.below(2 * SKEW_MAX_MS)).unwrap_or_default();
        let skew = skew - i64::try_from(SKEW_MAX_MS).unwrap_or_default();
        // Now and then somebody sets it right.
        let skew = if self.dice.chance(300) { 0 } else { skew };
        let disciplined = skew == 0 || self.dice.chance(300);
        self.nodes[number].clock.set(skew, disciplined);
        self.report.jumps += 1;
        self.tell(number, &format!("its clock is {skew} ms ahead"));
    }

    fn throw_for_disks(&mut self) {
        if self.plan.faults.slow_disks && self.dice.chance(100) {
            let number = self.dice.pick(self.nodes.len());
            let node = &mut self.nodes[number];
            node.slow_disk = !node.slow_disk;
        }
        // Who alone holds a block that others gave up their disks with is to hand it out.
        let victim = self.weather.block_victim;
        let is_spared = self.apart() == Some(victim);
        if self.plan.faults.block_flips && !is_spared && self.dice.chance(100) {
            self.flip_block(victim);
        }
    }

    fn flip_block(&mut self, number: usize) {
        let stored = self.nodes[number].disk.blocks().len();
        let (pick, bit) = (self.dice.pick(stored), self.dice.pick(1 << 20));
        if self.nodes[number].disk.flip_block(pick, bit) {
            self.report.block_flips += 1;
            self.tell(number, &format!("a bit of stored block {} flips", pick + 1));
        }
    }

    /// What a disk suffers while its node is down.
    pub(crate) fn damage(&mut self, number: usize) {
        if self.healed || number != self.weather.log_victim || !self.plan.faults.log_flips {
            return;
        }
        if self.dice.chance(700) {
            let (place, bit) = (self.dice.pick(1 << 20), self.dice.pick(8));
            if self.nodes[number].disk.flip_log(place, bit) {
                self.report.log_flips += 1;
                self.tell(number, "a bit of its log flips");
            }
        }
    }

    /// Everything works from now on.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.blocked.clear();
        self.weather.away.clear();
        for node in &mut self.nodes {
            node.crash_at = None;
            node.slow_disk = false;
            node.clock.set(0, true);
        }
        for number in 0..self.nodes.len() {
            self.push(1, Event::Restart { node: number });
            for peer in (0..self.nodes.len()).filter(|peer| *peer != number) {
                self.step(number, Input::PeerUp(street::home(peer)));
            }
        }
    }
}
