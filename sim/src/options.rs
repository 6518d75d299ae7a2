//! What a run is made of.

use std::fmt;
use std::str::FromStr;

use agent::{Goal, Wishes};

use crate::dataset::Season;
use crate::tariff::TariffKind;

/// Intervals of a week.
pub const WEEK: usize = 7 * crate::dataset::QUARTERS_PER_DAY;
/// A word of the command line that means nothing there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what}; use {choices}")]
pub struct UnknownWord {
    /// What was written, cut.
    pub word: String,
    /// What it should have been.
    pub what: &'static str,
    /// What there is.
    pub choices: &'static str,
}

impl UnknownWord {
    pub(crate) fn new(word: &str, what: &'static str, choices: &'static str) -> Self {
        Self { word: word.chars().take(40).collect(), what, choices }
    }
}

/// Whether and how energy is traded before delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Forward {
    /// Not at all: neighbours match after metering.
    #[default]
    Off,
    /// Matched at the gate like neighbours, at the middle of the supplier's prices.
    Posted,
    /// One sealed auction per interval at its gate.
    Auction,
}

impl Forward {
    /// The word of the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Posted => "posted",
            Self::Auction => "auction",
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Forward {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let known = [Self::Off, Self::Posted, Self::Auction].into_iter().find(|known| known.word() == word);
        known.ok_or_else(|| UnknownWord::new(word, "way of forward trading", "off, posted or auction"))
    }
}

/// Which goals the agents have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Goals {
    /// All save money.
    #[default]
    Save,
    /// The three goals in turn, in the order of homes.
    Mixed,
}

impl Goals {
    /// What the household of the `number`-th agent wants.
    #[must_use]
    pub fn of(self, number: usize) -> Wishes {
        let goal = match (self, number % 3) {
            (Self::Save, _) | (Self::Mixed, 0) => Goal::SaveMoney,
            (Self::Mixed, 1) => Goal::StayGreen,
            (Self::Mixed, _) => Goal::StayIndependent,
        };
        Wishes { goal, ..Wishes::default() }
    }
}

impl FromStr for Goals {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "save" => Ok(Self::Save),
            "mixed" => Ok(Self::Mixed),
            _ => Err(UnknownWord::new(word, "set of goals", "save or mixed")),
        }
    }
}

/// What a run is made of. With a [`crate::dataset::Recording`] it decides every byte of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Which fortnight the recording is of; only the dynamic tariff looks at it.
    pub season: Season,
    /// How long, from the recording's first interval.
    pub intervals: usize,
    /// How many homes, the first of the recording's order; `None` for all.
    pub homes: Option<usize>,
    /// Forward trading.
    pub forward: Forward,
    /// Whether homes with devices have an agent.
    pub agents: bool,
    /// What their households want.
    pub goals: Goals,
    /// The supplier's prices.
    pub tariff: TariffKind,
    /// Whether the recorded batteries stand there. Without them their sun is the home's directly.
    pub batteries: bool,
    /// Makes keys and salts, and with them the ids that break ties.
    pub seed: u64,
    /// How many threads work on the homes, from 1; it does not change a result.
    pub threads: usize,
}

impl Options {
    /// `weeks` of a season with agents and without forward trading, at the flat tariff.
    #[must_use]
    pub const fn new(season: Season, weeks: usize) -> Self {
        Self {
            season,
            intervals: weeks.saturating_mul(WEEK),
            homes: None,
            forward: Forward::Off,
            agents: true,
            goals: Goals::Save,
            tariff: TariffKind::Flat,
            batteries: true,
            seed: 1,
            threads: 2,
        }
    }
}
