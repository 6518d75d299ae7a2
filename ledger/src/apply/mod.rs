//! What an entry does to the state: every rule of who may sign what, and when.
//!
//! A rule looks at everything before it changes anything; the caller applies an entry to a clone of the state all the
//! same, so that a refused entry leaves no trace.

mod assurance;
mod delegation;
mod departure;
mod epoch;
mod forward;
mod gate;
mod member;
mod meter;
mod money;
mod operator;
mod reading;
mod recovery;
mod versions;

use energy::{HomeId, Interval, Money, Timestamp};
use market::{Account, ENTRIES_PER_HOUR, Posting, PostingKind};

use crate::assurance::AssuranceStatement;
use crate::crypto::PublicKey;
use crate::entry::{Body, Entry, Stream, VerifiedEntry};
use crate::error::EntryError;
use crate::genesis::Roles;
use crate::outcome::{Outcome, PostingRecord, ReadingRecord};
use crate::room::waits_after;
use crate::state::{Member, State};

pub(crate) use epoch::Closing;
pub(crate) use forward::gate_of;

const HOUR_MS: u64 = 3_600_000;

/// A state that is being moved on, and what came of it.
#[derive(Debug)]
pub(crate) struct Step {
    pub state: State,
    pub outcomes: Vec<Outcome>,
    pub postings: Vec<PostingRecord>,
    pub readings: Vec<ReadingRecord>,
    pub statements: Vec<AssuranceStatement>,
}

impl Step {
    pub fn new(state: State) -> Self {
        Self {
            state,
            outcomes: Vec::new(),
            postings: Vec::new(),
            readings: Vec::new(),
            statements: Vec::new(),
        }
    }

    /// Applies one entry in a block of market time `time`.
    ///
    /// On an error the step may be half-changed; the caller drops it.
    pub fn apply(&mut self, verified: &VerifiedEntry, time: Timestamp) -> Result<(), EntryError> {
        let entry = verified.entry();
        if waits_after(self.outcomes.len(), entry) {
            return Err(EntryError::BlockFull);
        }
        self.count(entry, time)?;
        match &entry.body {
            Body::Reading { home: Some(home), reading } => self.home_reading(entry, home, reading, time),
            Body::Reading { home: None, reading } => self.root_reading(entry, reading, time),
            Body::StandingLimits { home, limits } => self.standing_limits(verified, home, *limits, time),
            Body::OwnContract { home, contract } => self.own_contract(verified, home, *contract, time),
            Body::TariffSeries { from, points } => self.tariff_series(verified, *from, points, time),
            Body::Admission(admission) => self.admission(verified, admission, time),
            Body::MeterRegistration { home: Some(home), meter, exchange } => {
                self.meter_registration(verified, home, meter, exchange.as_ref(), time)
            }
            Body::MeterRegistration { home: None, meter, exchange } => {
                self.root_registration(verified, meter, exchange.as_ref(), time)
            }
            Body::KeyRotation { home, keys } => self.key_rotation(verified, home, keys),
            Body::Correction { home, interval, import_delta, export_delta } => {
                self.correction(verified, home, *interval, *import_delta, *export_delta)
            }
            Body::Deposit { home, amount, .. } => self.deposit(verified, home.as_ref(), *amount),
            Body::Withdrawal { home, amount, .. } => self.withdrawal(verified, home.as_ref(), *amount),
            Body::BankBalance { amount } => self.bank_balance(verified, *amount),
            Body::Order(order) => self.order(verified, order, time),
            Body::Cancel { home, order } => self.cancel(verified, home, *order, time),
            Body::MeterEvidence(evidence) => self.meter_evidence(entry, evidence, time),
            Body::AssuranceStatement(statement) => self.assurance_statement(verified, statement, time),
            Body::NetworkFees { node, from, points } => {
                self.network_fees(verified, node, *from, points, time)
            }
            Body::Envelope { node, from, points } => self.envelope(verified, node, *from, points, time),
            Body::ConnectionCap { home, from, points } => {
                self.connection_cap(verified, home, *from, points, time)
            }
            Body::OperatorReading { home, from, points } => {
                self.operator_reading(verified, home, *from, points, time)
            }
            Body::ParticipationChange { home, from, participation } => {
                self.participation_change(verified, home, *from, *participation, time)
            }
            Body::Departure { home, from } => self.departure(verified, home, *from, time),
            Body::Vote { home, ballot } => self.vote(verified, home, ballot, time),
            Body::Candidacy { home, term, keys } => {
                self.candidacy(verified, home, *term, keys.as_ref(), time)
            }
            Body::Misbehaviour(evidence) => self.misbehaviour(verified, evidence, time),
            Body::RuleSignal { home, version } => self.rule_signal(verified, home, *version, time),
        }
    }

    /// Uses up the entry's number, and the signer's quota.
    fn count(&mut self, entry: &Entry, time: Timestamp) -> Result<(), EntryError> {
        let mut numbers = self.state.numbers.get(&entry.signer).copied().unwrap_or_default();
        let stream = entry.body.stream();
        let last = match stream {
            Stream::Readings => &mut numbers.readings,
            Stream::Orders => &mut numbers.orders,
            Stream::Rest => &mut numbers.rest,
            Stream::Delegates => &mut numbers.delegates,
        };
        if entry.number <= *last {
            return Err(EntryError::NumberUsed { number: entry.number, stream, last: *last });
        }
        *last = entry.number;
        if stream != Stream::Readings && !is_role(&self.state.rules.genesis.roles, &entry.signer) {
            let hour = time.unix_ms().wrapping_div(HOUR_MS);
            if numbers.hour != hour {
                (numbers.hour, numbers.in_hour) = (hour, 0);
            }
            if numbers.in_hour >= ENTRIES_PER_HOUR {
                return Err(EntryError::Quota { max: ENTRIES_PER_HOUR });
            }
            numbers.in_hour = numbers.in_hour.saturating_add(1);
        }
        self.state.numbers.insert(entry.signer, numbers);
        Ok(())
    }

    fn roles(&self) -> Roles {
        self.state.rules.genesis.roles
    }

    fn member(&self, home: &HomeId) -> Result<&Member, EntryError> {
        self.state.members.get(home).ok_or_else(|| EntryError::UnknownHome { home: home.clone() })
    }

    fn member_mut(&mut self, home: &HomeId) -> Result<&mut Member, EntryError> {
        self.state.members.get_mut(home).ok_or_else(|| EntryError::UnknownHome { home: home.clone() })
    }

    /// Moves money and writes it down; zero amounts are left out.
    pub fn post(
        &mut self,
        interval: Option<Interval>,
        account: Account<HomeId>,
        kind: PostingKind,
        amount: Money,
    ) -> Result<(), EntryError> {
        if amount == Money::ZERO {
            return Ok(());
        }
        let balance = self.state.balance(&account).credit(amount)?;
        self.state.accounts.insert(account.clone(), balance);
        self.postings.push(PostingRecord { interval, account, kind, amount });
        Ok(())
    }

    /// Posts what the market returned for an interval.
    pub fn post_all(&mut self, interval: Interval, postings: Vec<Posting<HomeId>>) -> Result<(), EntryError> {
        for posting in postings {
            self.post(Some(interval), posting.account, posting.kind, posting.amount)?;
        }
        Ok(())
    }
}

fn is_role(roles: &Roles, key: &PublicKey) -> bool {
    [roles.operator, roles.treasurer, roles.auditor].contains(key)
        || [roles.trustee, roles.metering_operator].contains(&Some(*key))
}

/// The author must be `key`.
fn by(verified: &VerifiedEntry, key: &PublicKey, needed: &'static str) -> Result<(), EntryError> {
    let entry = verified.entry();
    if entry.signer == *key {
        Ok(())
    } else {
        Err(EntryError::NotEntitled { kind: entry.body.kind(), needed })
    }
}

/// `key` must be among the signers.
fn with(verified: &VerifiedEntry, key: &PublicKey, needed: &'static str) -> Result<(), EntryError> {
    if verified.is_signed_by(key) {
        Ok(())
    } else {
        Err(EntryError::NotEntitled { kind: verified.entry().body.kind(), needed })
    }
}
