//! What is wrong with a meter, for the person who repairs it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use api::{MeterCondition, MeterStatus};
use meter::Estimate;

use super::Shown;

/// What is shown of a meter whose task has ended: nothing of it is recorded any more.
const STOPPED: &str = "reading stopped; restart the node";

/// Everything that is wrong now, each in the words of its error.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    /// Its energy registers could not be read.
    pub(super) silent: Option<String>,
    /// What it said is not published.
    pub(super) held: Option<String>,
    /// Its registers do not move.
    pub(super) frozen: Option<String>,
    /// The journal takes no reading.
    pub(super) journal: Option<String>,
    /// The ledger takes no reading.
    pub(super) refused: Option<String>,
    /// Power and registers contradict each other.
    pub(super) mismatch: Option<String>,
    /// What flowed since the last reading, by power.
    pub(super) estimate: Option<Estimate>,
    /// When its energy registers were read last.
    pub(super) read: Option<Instant>,
    /// How the reads of momentary power fare, which the [`Board`] knows.
    pub(super) power: Power,
}

/// How the reads of momentary power fare.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Power {
    /// None was made yet.
    #[default]
    Unknown,
    /// The last one was answered.
    Answers,
    /// None was answered since.
    Silent {
        /// The text of the last failure.
        why: String,
        /// When the first of them failed.
        since: Instant,
    },
}

impl Trouble {
    /// True if something is wrong.
    pub(super) const fn is_known(&self) -> bool {
        self.silent.is_some()
            || self.held.is_some()
            || self.frozen.is_some()
            || self.journal.is_some()
            || self.refused.is_some()
            || self.mismatch.is_some()
    }

    /// The gravest of it. A meter is silent if neither registers nor power of it can be read; if one of them can, what
    /// it says is uncertain. What waits for a person is never left out for a failure that passes by itself.
    pub(super) fn status(&self) -> MeterStatus {
        let doubts = [&self.journal, &self.refused, &self.frozen, &self.held, &self.mismatch];
        let doubt = doubts.into_iter().flatten().next();
        let (state, detail) = match (&self.silent, doubt, &self.power) {
            (Some(why), None, Power::Answers) => (MeterCondition::Uncertain, why.clone()),
            (Some(why), Some(doubt), Power::Answers) => {
                (MeterCondition::Uncertain, format!("{doubt}; besides, {why}"))
            }
            (Some(why), Some(doubt), _) => (MeterCondition::Silent, format!("{why}; before, {doubt}")),
            (Some(why), None, _) => (MeterCondition::Silent, why.clone()),
            (None, Some(doubt), _) => (MeterCondition::Uncertain, doubt.clone()),
            (None, None, Power::Silent { why, since }) => {
                let is_read = self.read.is_some_and(|read| read > *since);
                let state = if is_read { MeterCondition::Uncertain } else { MeterCondition::Silent };
                (state, why.clone())
            }
            (None, None, Power::Unknown | Power::Answers) => (MeterCondition::Good, String::new()),
        };
        MeterStatus { state, detail: self.with_estimate(state, detail) }
    }

    fn with_estimate(&self, state: MeterCondition, detail: String) -> String {
        match &self.estimate {
            Some(estimate) if state != MeterCondition::Good => format!(
                "{detail} (by its power about {} were imported and {} exported since the last reading: an estimate, never settled)",
                estimate.import, estimate.export
            ),
            _ => detail,
        }
    }
}

/// What the tasks that read one meter know of its condition, put together and shown: each sets its own part only.
#[derive(Debug, Clone)]
pub(super) struct Board {
    label: String,
    shown: Option<Shown>,
    state: Arc<Mutex<Parts>>,
}

#[derive(Debug, Default)]
struct Parts {
    trouble: Trouble,
    is_stopped: bool,
    told: MeterCondition,
}

impl Board {
    /// Shows the meter called `label` in the log, and at `shown`.
    pub(super) fn new(label: String, shown: Option<Shown>) -> Self {
        Self { label, shown, state: Arc::default() }
    }

    /// What the task of the energy registers knows.
    pub(super) fn registers(&self, trouble: &Trouble) {
        let mut parts = self.lock();
        let power = std::mem::take(&mut parts.trouble.power);
        parts.trouble = Trouble { power, ..trouble.clone() };
        self.show(&mut parts);
    }

    /// Momentary power was read.
    pub(super) fn power_answers(&self) {
        let mut parts = self.lock();
        parts.trouble.power = Power::Answers;
        self.show(&mut parts);
    }

    /// Momentary power could not be read.
    pub(super) fn power_fails(&self, why: String) {
        let mut parts = self.lock();
        let since = match &parts.trouble.power {
            Power::Silent { since, .. } => *since,
            Power::Unknown | Power::Answers => Instant::now(),
        };
        parts.trouble.power = Power::Silent { why, since };
        self.show(&mut parts);
    }

    /// The task that records readings has ended without being asked to.
    pub(super) fn stopped(&self) {
        let mut parts = self.lock();
        parts.is_stopped = true;
        self.show(&mut parts);
    }

    fn show(&self, parts: &mut Parts) {
        let status = parts.status();
        let label = self.label.as_str();
        if status.state != parts.told {
            match status.state {
                MeterCondition::Good => tracing::info!(meter = label, "the meter is read"),
                _ => tracing::warn!(meter = label, "the meter is {:?}: {}", status.state, status.detail),
            }
            parts.told = status.state;
        }
        if let Some(Shown { live, panel, place }) = &self.shown {
            panel.set_condition(*place, status.state, status.detail.clone());
            if let Some(live) = live {
                live.set_meter(status);
            }
        }
    }

    /// The parts hold whole values only, so they are usable even if another thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    fn status(&self) -> MeterStatus {
        if self.is_stopped {
            return MeterStatus { state: MeterCondition::Uncertain, detail: STOPPED.to_owned() };
        }
        self.trouble.status()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use energy::WattHours;

    use super::*;

    fn silent_power() -> Power {
        Power::Silent { why: "no power".to_owned(), since: Instant::now() }
    }

    #[test]
    fn the_gravest_trouble_is_shown_in_its_own_words_and_an_estimate_says_that_it_is_one() {
        let mut trouble = Trouble::default();
        assert_eq!((trouble.status().state, trouble.is_known()), (MeterCondition::Good, false));
        trouble.mismatch = Some("registers say 1 and power 2".to_owned());
        trouble.held = Some("the import register fell".to_owned());
        assert_eq!(trouble.status().detail, "the import register fell");
        assert_eq!(trouble.status().state, MeterCondition::Uncertain);
        (trouble.silent, trouble.held, trouble.mismatch) = (Some("no answer".to_owned()), None, None);
        let (import, export) = (WattHours::new(230), WattHours::ZERO);
        trouble.estimate = Some(Estimate { import, export, known: Duration::from_secs(900) });
        assert_eq!(
            trouble.status(),
            MeterStatus {
                state: MeterCondition::Silent,
                detail: "no answer (by its power about 230 Wh were imported and 0 Wh exported since the last reading: an \
                         estimate, never settled)"
                    .to_owned()
            }
        );
    }

    #[test]
    fn registers_that_cannot_be_read_are_told_while_power_is_answered_and_make_a_meter_silent_only_without_it()
     {
        let silent = Some("block refused".to_owned());
        let mut trouble = Trouble { silent, power: Power::Answers, ..Trouble::default() };
        let alive = trouble.status();
        assert_eq!((alive.state, alive.detail.as_str()), (MeterCondition::Uncertain, "block refused"));
        trouble.power = silent_power();
        assert_eq!(trouble.status().state, MeterCondition::Silent);
    }

    #[test]
    fn power_that_cannot_be_read_takes_nothing_away_that_a_person_must_do() {
        let held = Some("register m2".to_owned());
        let mut trouble = Trouble { held, power: silent_power(), ..Trouble::default() };
        let held = trouble.status();
        assert_eq!((held.state, held.detail.as_str()), (MeterCondition::Uncertain, "register m2"));
        trouble.silent = Some("no answer".to_owned());
        let away = trouble.status();
        assert_eq!(
            (away.state, away.detail.as_str()),
            (MeterCondition::Silent, "no answer; before, register m2")
        );
    }

    #[test]
    fn power_that_cannot_be_read_makes_a_meter_silent_until_its_registers_are_read_all_the_same() {
        let mut trouble = Trouble { power: silent_power(), ..Trouble::default() };
        assert_eq!(trouble.status().state, MeterCondition::Silent);
        trouble.read = Some(Instant::now() + Duration::from_secs(1));
        let status = trouble.status();
        assert_eq!((status.state, status.detail.as_str()), (MeterCondition::Uncertain, "no power"));
    }

    #[test]
    fn a_task_that_ended_is_told_whatever_else_is_read() {
        let board = Board::new("h1".to_owned(), None);
        board.power_answers();
        assert_eq!(board.lock().status().state, MeterCondition::Good);
        board.stopped();
        board.power_answers();
        board.registers(&Trouble::default());
        let status = board.lock().status();
        assert_eq!((status.state, status.detail.as_str()), (MeterCondition::Uncertain, STOPPED));
    }
}
