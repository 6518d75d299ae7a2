//! A whole neighbourhood over days: elections every day, homes that join and leave, delegates that contradict themselves and
//! are ejected. Most homes have no node of their own here: their meters, journals, votes and limits are real, what they sign
//! goes to two delegates, as it goes to all from a home with a node.

use std::collections::BTreeMap;

use consensus::{Input, Origin};
use ed25519_dalek::SigningKey;
use energy::{HomeId, Interval};
use ledger::codec::Encode as _;
use ledger::{Ballot, Body, Entry, Hash32, PublicKey, Salt};

use super::plan::{Face, Faults, Plan};
use super::street::{self, OPERATOR, Purpose};
use super::world::World;

/// What the members and the operator see to, they look at so often, in virtual ms.
const OFFICE_MS: u64 = 15_000;
/// A member that has said so leaves from the interval after so many.
const NOTICE_INTERVALS: u64 = 4;

/// Homes without a node, and what becomes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suburb {
    /// How many; their numbers follow those of the homes with a node.
    pub homes: usize,
    /// The last so many join after the beginning.
    pub joins: usize,
    /// The first so many leave before the end.
    pub leaves: usize,
    /// The first so many homes of all stand for election.
    pub candidates: usize,
    /// When a dishonest home is so, in virtual ms: at other times it is honest.
    pub lies: BTreeMap<usize, (u64, u64)>,
}

/// What the operator has signed.
#[derive(Debug, Default)]
pub(crate) struct Office {
    number: u64,
    looked: u64,
}

impl Plan {
    /// `homes` homes for `days`, of which `whole` have a node and two more than `delegates` stand for election; three join,
    /// three leave, two contradict themselves, each for a day.
    #[must_use]
    pub fn days(days: u64, homes: usize, whole: usize, delegates: usize) -> Self {
        let quiet = Self::quiet(118, delegates, whole - delegates);
        let suburb = Suburb {
            homes: homes - whole,
            joins: 3,
            leaves: 3,
            candidates: delegates + 2,
            lies: BTreeMap::new(),
        };
        let plan = Self {
            faults: Faults { loss: 10, crashes_every_s: 600, ..Faults::default() },
            faces: [(0, Face::DoubleVoter), (1, Face::DoubleVoter)].into(),
            elections: true,
            // One home in five market minutes.
            limits_in_1000: 40,
            suburb,
            ..quiet
        };
        plan.for_days(days)
    }

    /// The same for so many days of `epoch_every` intervals each.
    #[must_use]
    pub fn for_days(mut self, days: u64) -> Self {
        let day_ms = self.day_ms();
        self.faults_ms = days * day_ms;
        let from = [(0, days * day_ms / 4), (1, days * day_ms / 2)];
        self.suburb.lies = from.into_iter().map(|(home, from)| (home, (from, from + day_ms))).collect();
        self
    }

    /// A market day, in virtual ms.
    fn day_ms(&self) -> u64 {
        u64::from(self.epoch_every) * 900_000 / u64::from(self.speed)
    }
}

impl World {
    /// True while a dishonest home is so.
    pub(crate) fn lies_now(&self, number: usize) -> bool {
        let window = self.plan.suburb.lies.get(&number);
        window.is_none_or(|(from, until)| (*from..*until).contains(&self.now))
    }

    /// Hands on what a home signed: to its own node, or to two delegates.
    pub(crate) fn hand_over(&mut self, number: usize, bytes: Vec<u8>) {
        if !self.nodes[number].is_light {
            self.step(number, Input::Entry { bytes, origin: Origin::Own });
            return;
        }
        let home = self.nodes[number].home.clone();
        let seats = self.checks.ledger().delegates().clone();
        for _ in 0..2 {
            let seat = &seats.as_slice()[self.dice.pick(seats.len())].home;
            let Some(to) = self.number_of(seat) else { continue };
            let origin = Origin::Peer(home.clone());
            self.deliver(number, to, Input::Entry { bytes: bytes.clone(), origin });
        }
    }

    /// What the homes without a node and the operator do now and then.
    pub(crate) fn see_to_members(&mut self) {
        if self.plan.suburb.homes == 0 || self.now < self.office.looked + OFFICE_MS {
            return;
        }
        self.office.looked = self.now;
        let first = self.plan.homes();
        for number in first..self.nodes.len() {
            if self.checks.ledger().member(&self.nodes[number].home).is_none() {
                self.admit(number);
                continue;
            }
            for bytes in self.nodes[number].journal.unconfirmed(self.checks.ledger()) {
                self.hand_over(number, bytes);
            }
            self.vote_as_light(number);
            if number < first + self.plan.suburb.leaves && self.now > self.plan.faults_ms / 2 {
                self.leave(number);
            }
        }
    }

    /// The operator attests who joins, more than half of the delegates countersign.
    fn admit(&mut self, number: usize) {
        let place = (number + self.plan.suburb.joins).saturating_sub(self.nodes.len()) as u64 + 1;
        if self.now < self.plan.faults_ms * place / (self.plan.suburb.joins as u64 + 2) {
            return;
        }
        self.office.number += 1;
        let operator = street::key(Purpose::Role, OPERATOR);
        let digest = Hash32::of(&[b"admission", &self.office.number.to_be_bytes()]).0;
        let mut salt = [0; 16];
        salt.copy_from_slice(&digest[..16]);
        let body = Body::Admission(street::admission(number));
        let (signer, salt) = (PublicKey::of(&operator), Salt(salt));
        let entry = Entry { signer, number: self.office.number, salt, body };
        let keys = self.seated_keys();
        let signed = entry.sign(&self.chain, &operator);
        let signed = keys.iter().fold(signed, |signed, key| signed.countersign(&self.chain, key));
        self.hand_over(number, signed.to_bytes());
    }

    /// Member keys of the homes that hold a seat.
    fn seated_keys(&self) -> Vec<SigningKey> {
        let seats = self.checks.ledger().delegates();
        let nodes = self.nodes.iter().enumerate();
        let seated = nodes.filter(|(_, node)| seats.of_home(&node.home).is_some());
        seated.map(|(number, _)| street::key(Purpose::Member, number)).collect()
    }

    fn vote_as_light(&mut self, number: usize) {
        let term = self.checks.ledger().coming_term();
        if self.nodes[number].voted_for >= term {
            return;
        }
        self.nodes[number].voted_for = term;
        let home = self.nodes[number].home.clone();
        let ballot = Ballot::Approve(self.approved_by(number, term));
        let bytes = self.nodes[number].journal.say(Body::Vote { home, ballot }, &[], self.now);
        self.hand_over(number, bytes);
    }

    fn leave(&mut self, number: usize) {
        let home = self.nodes[number].home.clone();
        let ledger = self.checks.ledger();
        if ledger.leaves(&home).is_some() || self.nodes[number].is_leaving {
            return;
        }
        self.nodes[number].is_leaving = true;
        let now = Interval::containing(self.market(), self.genesis.mtu).index();
        let from = Interval::from_index(now + NOTICE_INTERVALS, self.genesis.mtu);
        let operator = street::key(Purpose::Role, OPERATOR);
        let body = Body::Departure { home, from };
        let bytes = self.nodes[number].journal.say(body, &[operator], self.now);
        self.hand_over(number, bytes);
    }

    /// Whom a home approves: in a plan with a suburb three of the candidates, each home others; else everybody the two after
    /// those of the term before, so that seats change hands in each.
    pub(crate) fn approved_by(&self, number: usize, term: u32) -> std::collections::BTreeSet<HomeId> {
        let (candidates, first) = (self.plan.suburb.candidates, term as usize * 2);
        if candidates == 0 {
            let homes = self.plan.homes();
            return [first, first + 1].into_iter().map(|of| street::home(of % homes)).collect();
        }
        (0..3).map(|step| street::home((first + number * 3 + step) % candidates)).collect()
    }

    /// True if a home takes part in elections as a candidate.
    pub(crate) const fn stands(&self, number: usize) -> bool {
        self.plan.suburb.candidates == 0 || number < self.plan.suburb.candidates
    }

    /// True if a home without a node reads its meter for the community in an interval: not before it joined, nor after it left.
    pub(crate) fn is_read(&self, number: usize, interval: Interval) -> bool {
        let ledger = self.checks.ledger();
        let home = &self.nodes[number].home;
        !self.nodes[number].is_light
            || ledger.member(home).is_some_and(|member| member.is_member_in(interval))
    }
}
