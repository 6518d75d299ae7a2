//! What the console knows, and what is abnormal about it. No I/O, no clock: the present is handed in.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use api::{IntervalRow, MeterCondition, Status, Today};

use crate::market::Market;

/// A value that is older is dimmed.
pub const STALE: Duration = Duration::from_secs(5);

/// Power that is older counts as lost and is not shown.
pub const POWER_LOST: Duration = Duration::from_secs(60);

/// So many blocks behind the highest node is abnormal; less is only the moment at which each was asked.
const LAG_MAX: u64 = 10;

/// What a node answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The node at a glance.
    pub status: Status,
    /// Its home's day, if it changed since the last answer.
    pub today: Option<Today>,
    /// Settled intervals of the community, if they were asked for.
    pub intervals: Option<Vec<IntervalRow>>,
    /// Trading ahead, if it was asked for.
    pub market: Option<Box<Market>>,
}

/// One home.
#[derive(Debug, Clone)]
pub struct Home {
    label: String,
    /// The last answer's status.
    pub status: Option<Status>,
    /// The last known day.
    pub today: Option<Today>,
    /// What is traded ahead, as far as known.
    pub market: Option<Box<Market>>,
    /// When the node last answered.
    pub answered: Option<Instant>,
    /// Why it does not answer now.
    pub error: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Needs attention.
    Medium,
    /// Needs it now.
    High,
}

/// Something abnormal about a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abnormal {
    /// How bad.
    pub severity: Severity,
    /// Its letter: colour is never the only sign.
    pub letter: char,
    /// In words.
    pub words: String,
}

/// What the homes are ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// The home's name.
    #[default]
    Home,
    /// What is abnormal, worst first.
    State,
    /// Money saved today, most first.
    Saved,
    /// Blocks behind, most first.
    Lag,
}

impl Sort {
    /// The next one, in a circle.
    pub const fn next(self) -> Self {
        match self {
            Self::Home => Self::State,
            Self::State => Self::Saved,
            Self::Saved => Self::Lag,
            Self::Lag => Self::Home,
        }
    }

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::State => "state",
            Self::Saved => "saved",
            Self::Lag => "lag",
        }
    }
}

/// Everything the screen shows.
#[derive(Debug, Clone)]
pub struct Model {
    /// The homes, as they were named.
    pub homes: Vec<Home>,
    /// The latest settled intervals, newest first.
    pub intervals: Vec<IntervalRow>,
    /// The order of the homes.
    pub sort: Sort,
    /// Index of the selected home.
    pub selected: usize,
    /// True while the forward market is shown in place of the last settlements.
    pub market: bool,
    /// True while the help is shown.
    pub help: bool,
}

impl Home {
    /// Its name: what its node says, else what it was called by.
    pub fn name(&self) -> &str {
        self.status.as_ref().map_or(&self.label, |status| &status.home)
    }

    /// How long ago its node answered.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.answered.map(|at| now.saturating_duration_since(at))
    }

    /// Age of the power value now: as old as it was, and what has passed since.
    pub fn power_age(&self, now: Instant) -> Option<Duration> {
        let power = self.status.as_ref()?.power?;
        Some(Duration::from_millis(power.age_ms).saturating_add(self.age(now)?))
    }

    /// What is abnormal, worst first.
    fn abnormal(&self, now: Instant, highest: u64) -> Option<Abnormal> {
        let because = |severity, letter, words: String| Some(Abnormal { severity, letter, words });
        let Some(status) = &self.status else {
            return match self.error {
                Some(_) => because(Severity::High, 'U', "no answer yet".to_owned()),
                None => because(Severity::Low, '-', "asking".to_owned()),
            };
        };
        if self.error.is_some() {
            let age = self.age(now).map(crate::figures::age).unwrap_or_default();
            return because(Severity::High, 'U', format!("no answer {age}"));
        }
        let lag = highest.saturating_sub(status.height);
        match status.meter.state {
            MeterCondition::Silent => return because(Severity::Medium, 'M', "meter silent".to_owned()),
            MeterCondition::Uncertain => return because(Severity::Medium, 'Q', "meter uncertain".to_owned()),
            MeterCondition::Starting | MeterCondition::Good | MeterCondition::Absent => {}
        }
        if status.syncing {
            return because(Severity::Low, 'S', "syncing".to_owned());
        }
        if lag > LAG_MAX {
            return because(Severity::Medium, 'L', format!("{lag} blocks behind"));
        }
        if self.power_age(now).is_some_and(|age| age > POWER_LOST) {
            return because(Severity::Medium, 'P', "power is old".to_owned());
        }
        if let Some(breach) = self.market.as_ref().and_then(|market| market.breaches.first()) {
            let words = format!("over cap {}", crate::figures::clock(breach.interval_start));
            return because(Severity::Medium, 'B', words);
        }
        if self.unmetered() {
            return because(Severity::Low, 'N', "no reading".to_owned());
        }
        None
    }

    /// True if its last settled interval had no reading.
    fn unmetered(&self) -> bool {
        let latest = self.today.as_ref().and_then(|today| today.latest.as_ref());
        latest.is_some_and(|latest| latest.settlement.import_wh.is_none())
    }

    fn saved_n(&self) -> i64 {
        self.today.as_ref().map_or(0, |today| today.saved_n)
    }
}

impl Model {
    /// Homes that were not asked yet.
    pub fn new(labels: impl IntoIterator<Item = String>) -> Self {
        let home =
            |label| Home { label, status: None, today: None, market: None, answered: None, error: None };
        Self {
            homes: labels.into_iter().map(home).collect(),
            intervals: Vec::new(),
            sort: Sort::default(),
            selected: 0,
            market: false,
            help: false,
        }
    }

    /// What the node at `index` answered, or why it did not.
    pub fn take(&mut self, index: usize, answer: Result<Answer, String>, now: Instant) {
        let Some(home) = self.homes.get_mut(index) else { return };
        match answer {
            Ok(answer) => {
                home.status = Some(answer.status);
                home.today = answer.today.or_else(|| home.today.take());
                home.market = answer.market.or_else(|| home.market.take());
                home.answered = Some(now);
                home.error = None;
                self.intervals = answer.intervals.unwrap_or_else(|| std::mem::take(&mut self.intervals));
            }
            Err(reason) => home.error = Some(reason),
        }
    }

    /// The greatest height any node told.
    pub fn highest(&self) -> u64 {
        self.heights().max().unwrap_or(0)
    }

    /// The smallest height any answering node told.
    pub fn lowest(&self) -> u64 {
        self.heights().min().unwrap_or(0)
    }

    fn heights(&self) -> impl Iterator<Item = u64> {
        self.answering().map(|(_, status)| status.height)
    }

    /// Homes whose nodes answer, with their status.
    pub fn answering(&self) -> impl Iterator<Item = (usize, &Status)> {
        let answering = self.homes.iter().enumerate().filter(|(_, home)| home.error.is_none());
        answering.filter_map(|(index, home)| Some((index, home.status.as_ref()?)))
    }

    /// The node to ask about the whole community: the answering one with the most blocks.
    pub fn leader(&self) -> Option<usize> {
        self.answering()
            .max_by_key(|(index, status)| (status.height, Reverse(*index)))
            .map(|(index, _)| index)
    }

    /// What is abnormal about the home at `index`.
    pub fn abnormal(&self, index: usize, now: Instant) -> Option<Abnormal> {
        self.homes.get(index)?.abnormal(now, self.highest())
    }

    /// The homes in the order they are shown in, as indices.
    pub fn order(&self, now: Instant) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.homes.len()).collect();
        let home = |index: &usize| self.homes.get(*index);
        let name = |index: &usize| home(index).map(|home| home.name().to_owned());
        let lag = |index: &usize| {
            home(index).and_then(|home| home.status.as_ref()).map_or(0, |status| status.height)
        };
        match self.sort {
            Sort::Home => order.sort_by_key(name),
            Sort::State => {
                order.sort_by_key(|index| {
                    (Reverse(self.abnormal(*index, now).map(|it| it.severity)), name(index))
                });
            }
            Sort::Saved => order.sort_by_key(|index| (Reverse(home(index).map(Home::saved_n)), name(index))),
            Sort::Lag => order.sort_by_key(|index| (lag(index), name(index))),
        }
        order
    }

    /// Moves the selection by `steps` in the order shown, stopping at the ends.
    pub fn move_selection(&mut self, steps: isize, now: Instant) {
        let order = self.order(now);
        let place = order.iter().position(|index| *index == self.selected).unwrap_or(0);
        let place = place.saturating_add_signed(steps).min(order.len().saturating_sub(1));
        self.selected = order.get(place).copied().unwrap_or(0);
    }
}
