//! How far meters can be believed, and on what evidence.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{COMMUNITY_MIN, Time};

/// How far this home's meter can be believed, and how many of the community's homes stand at which level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assurance {
    /// Version of this document.
    pub schema_version: u32,
    /// The home.
    pub home: String,
    /// The level in force, 0 to 4; below 2 energy is as stated by the home.
    pub level: u8,
    /// What the level says, in words.
    pub meaning: String,
    /// End of the last interval that was looked at; absent where nothing was stated about the present meter.
    pub stated_at: Option<Time>,
    /// What was found; empty where nothing was stated.
    pub findings: Vec<Finding>,
    /// The newest evidence the home gave; absent before the first.
    pub evidence: Option<Evidence>,
    /// The meter at its newest reading on the ledger; absent before the first.
    pub meter: Option<MeterFacts>,
    /// How many homes stand at levels 0, 1, 2, 3, 4; absent with fewer than 5 homes.
    pub homes_by_level: Option<Vec<u32>>,
}

impl Assurance {
    /// What stands in place of a level's meaning where the statement is too old to count.
    pub const NOT_LATELY: &'static str =
        "nothing was stated lately: what is given here is of the time that it was stated for";

    /// What a level says.
    #[must_use]
    pub const fn meaning_of(level: u8) -> &'static str {
        match level {
            0 => "nothing independent stands behind the readings, or something contradicts them",
            1 => "signed, chained readings of the registered meter",
            2 => "the transformer's meter agrees with the sum of the homes",
            3 => "the transformer's meter and one more independent finding agree",
            _ => "all that applies has agreed for at least 30 days",
        }
    }

    /// The document as members may see it: without the counts of fewer than [`COMMUNITY_MIN`] homes, since of so few the
    /// own level gives away the others'.
    #[must_use]
    pub fn for_members(mut self) -> Self {
        let homes = |levels: &Vec<u32>| levels.iter().fold(0_u32, |sum, homes| sum.saturating_add(*homes));
        self.homes_by_level = self.homes_by_level.filter(|levels| homes(levels) >= COMMUNITY_MIN);
        self
    }
}

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The transformer's meter with the sum of the homes.
    Transformer,
    /// Exports with what the sun and the peak power allow.
    Pv,
    /// The inverter with the PV meter.
    Inverter,
    /// The voltage with the neighbours'.
    Voltage,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Transformer, Self::Pv, Self::Inverter, Self::Voltage];
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is nothing of this kind to compare.
    NotApplicable,
    /// Too little to compare, so far.
    Unknown,
    /// It agrees.
    Consistent,
    /// It does not.
    Contradicts,
}

impl Verdict {
    /// The verdict of the ledger's word for it.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "not applicable" => Some(Self::NotApplicable),
            "unknown" => Some(Self::Unknown),
            "consistent" => Some(Self::Consistent),
            "contradicts" => Some(Self::Contradicts),
            _ => None,
        }
    }
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Of what.
    pub kind: FindingKind,
    /// What it came to.
    pub verdict: Verdict,
    /// What was measured: transformer and PV in ‰, inverter in ‰ of its meter, voltage as correlation × 1000.
    pub figure: Option<i32>,
    /// The same in words.
    pub text: String,
}

impl Finding {
    /// The finding with its words.
    #[must_use]
    pub fn new(kind: FindingKind, verdict: Verdict, figure: Option<i32>) -> Self {
        Self { kind, verdict, figure, text: in_words(kind, verdict, figure.unwrap_or(0)) }
    }
}

fn in_words(kind: FindingKind, verdict: Verdict, figure: i32) -> String {
    let agrees = match verdict {
        Verdict::NotApplicable => return "there is nothing of this kind to compare".to_owned(),
        Verdict::Unknown => return "too little to compare so far".to_owned(),
        Verdict::Consistent => true,
        Verdict::Contradicts => false,
    };
    let percent = thousandths(figure, 10);
    match (kind, agrees) {
        (FindingKind::Transformer, true) => {
            format!(
                "the transformer's meter and the sum of the homes differ by {percent} %, which losses explain"
            )
        }
        (FindingKind::Transformer, false) => format!(
            "this home's readings alone explain a difference of {percent} % of the transformer's energy"
        ),
        (FindingKind::Pv, true) => {
            format!("exports are {percent} % of what the sun and the peak power allow at the most")
        }
        (FindingKind::Pv, false) => {
            format!("exports are {percent} % of what the sun and the peak power allow at the most: too much")
        }
        (FindingKind::Inverter, true) => {
            format!("the inverter counted {percent} % of what its meter counted")
        }
        (FindingKind::Inverter, false) => {
            format!("the inverter counted {percent} % of what its meter counted: too far apart")
        }
        (FindingKind::Voltage, agrees) => format!(
            "the voltage {} the neighbours' (correlation {})",
            if agrees { "follows" } else { "does not follow" },
            thousandths(figure, 1000)
        ),
    }
}

/// `figure / per`, where `per` is 10 or 1000, with all its digits.
fn thousandths(figure: i32, per: u32) -> String {
    let (whole, rest) = (figure.unsigned_abs() / per, figure.unsigned_abs() % per);
    let (sign, digits) = (if figure < 0 { "-" } else { "" }, if per == 10 { 1 } else { 3 });
    format!("{sign}{whole}.{rest:0digits$}")
}

/// What the home said of its meter beside its registers, of one market day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// Start of the interval of the first voltage.
    pub from: Time,
    /// Mean phase voltage of consecutive intervals, 0.1 V; `null` where it is not known.
    pub voltage_dv: Vec<Option<u16>>,
    /// Declared peak power of the PV plant; absent without one.
    pub pv_peak_w: Option<u32>,
    /// Whether its storage can export at night; absent without a plant.
    pub pv_storage: Option<bool>,
    /// The inverter's energy × 1000 / the PV meter's; absent where one of them is not there.
    pub inverter_permille: Option<u32>,
}

/// A meter as its newest reading on the ledger shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeterFacts {
    /// Serial number.
    pub serial: String,
    /// Counts the meters of the connection point and their resets, from 0.
    pub epoch: u32,
    /// Smallest step of its registers: energy is settled no finer.
    pub quantum_wh: u64,
    /// First 16 hexadecimal digits of the device profile's SHA-256.
    pub profile: String,
    /// How good the newest reading is.
    pub quality: String,
    /// How good its time is: `unsynced`, `informative` or `synced`.
    pub clock_quality: String,
    /// Start of the interval at whose end it was taken.
    pub interval_start: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_in_words_what_was_measured() {
        let words = |kind, verdict, figure| Finding::new(kind, verdict, Some(figure)).text;
        let transformer = words(FindingKind::Transformer, Verdict::Consistent, 18);
        assert_eq!(
            transformer,
            "the transformer's meter and the sum of the homes differ by 1.8 %, which losses explain"
        );
        let voltage = words(FindingKind::Voltage, Verdict::Contradicts, -50);
        assert_eq!(voltage, "the voltage does not follow the neighbours' (correlation -0.050)");
        assert!(words(FindingKind::Inverter, Verdict::Consistent, 1_003).contains("100.3 %"));
        assert!(words(FindingKind::Pv, Verdict::Contradicts, 1_400).contains("140.0 %"));
        for kind in FindingKind::ALL {
            assert_eq!(Finding::new(kind, Verdict::Unknown, None).text, "too little to compare so far");
            let (good, bad) = (words(kind, Verdict::Consistent, 7), words(kind, Verdict::Contradicts, 7));
            assert_ne!(good, bad);
        }
    }

    #[test]
    fn every_word_of_the_ledger_has_its_verdict() {
        for (word, verdict) in [
            ("not applicable", Verdict::NotApplicable),
            ("unknown", Verdict::Unknown),
            ("consistent", Verdict::Consistent),
            ("contradicts", Verdict::Contradicts),
        ] {
            assert_eq!(Verdict::from_word(word), Some(verdict));
        }
        assert_eq!(Verdict::from_word("probably"), None);
    }
}
