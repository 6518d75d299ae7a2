//! How far a meter can be believed: what a home offers as evidence, what the root meter's node found, and which level may
//! be stated on the strength of it.
//!
//! Whoever has root on a home's node can forge its readings; only what others measured binds it. The levels:
//!
//! | level | what stands behind the energy |
//! |---|---|
//! | 0 | nothing independent, nobody has stated anything, or something contradicts it |
//! | 1 | signed, chained readings of the registered meter, identified by its serial number |
//! | 2 | and the transformer's meter agrees with the sum of the homes |
//! | 3 | and one more independent finding agrees: the PV bound, the inverter or the voltage |
//! | 4 | and everything that applies has agreed for at least 30 days |
//!
//! A statement may claim less than its findings give (a meter whose serial number was typed in, say). Where it claims more
//! the ledger books what they give ([`Assurance::ceiling`]), so that one home cannot void what is stated of the others.

use energy::{HomeId, Interval, Timestamp};

use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list, record};

/// The highest level.
pub const LEVEL_MAX: u8 = 4;
/// Level 4 takes agreement for this many days.
pub const FULL_DAYS: u64 = 30;
/// That agreement is broken by a time without statements longer than this, in days; nor does a statement count for longer.
pub const SILENT_DAYS: u64 = 3;
const DAY_MS: u64 = 86_400_000;
/// Findings rest on evidence of their own kind that is no older than this, in days: voltages are compared over a week.
const EVIDENCE_DAYS: u64 = 7;
/// The most voltages in one entry: a day of 5-minute intervals.
pub const VOLTAGES_MAX: usize = 288;
/// The highest mean phase voltage, in 0.1 V: beyond 1 000 V it is no low voltage (IEC 60038).
pub const VOLTAGE_DV_MAX: u16 = 10_000;
/// The most peak power of a PV plant, in W: that of a low-voltage transformer.
pub const PEAK_W_MAX: u32 = 1_000_000;
/// The largest ratio of an inverter's energy to its meter's: a thousand times as much.
pub const INVERTER_PERMILLE_MAX: u32 = 1_000_000;
/// The most meters in one statement, so that it fits into an entry; a larger community makes several.
pub const ASSURANCES_MAX: usize = 64;

/// What a home says of its PV plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PvDeclaration {
    /// Peak power of its modules, W.
    pub peak_w: u32,
    /// Whether a battery can export at night.
    pub storage: bool,
}

record!(PvDeclaration { peak_w, storage });

/// What a home can say of its meter beside its registers, of one market day. No generation: beside the exchange with the
/// network, which is known, it would give away what the home consumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterEvidence {
    /// Whose.
    pub home: HomeId,
    /// The interval of the first voltage; names the day also where there is none.
    pub from: Interval,
    /// Mean phase voltage of consecutive intervals of one day, 0.1 V; 0 where it is not known.
    pub voltage_dv: Vec<u16>,
    /// Its PV plant, if it has one.
    pub pv: Option<PvDeclaration>,
    /// What the inverter counted in the day × 1000 / what the PV meter counted.
    pub inverter_permille: Option<u32>,
}

impl Encode for MeterEvidence {
    fn encode(&self, out: &mut Vec<u8>) {
        self.home.encode(out);
        self.from.encode(out);
        encode_list(&self.voltage_dv, out);
        self.pv.encode(out);
        self.inverter_permille.encode(out);
    }
}

impl Decode for MeterEvidence {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            home: Decode::decode(r)?,
            from: Decode::decode(r)?,
            voltage_dv: decode_list(r, "voltages", VOLTAGES_MAX)?,
            pv: Decode::decode(r)?,
            inverter_permille: Decode::decode(r)?,
        })
    }
}

/// What one comparison came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Finding {
    /// There is nothing of this kind to compare.
    NotApplicable,
    /// Too little to compare, so far.
    #[default]
    Unknown,
    /// It agrees.
    Consistent {
        /// How closely, in the unit of its field.
        figure: i32,
    },
    /// It does not.
    Contradicts {
        /// How far off, in the unit of its field.
        figure: i32,
    },
}

impl Finding {
    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotApplicable => "not applicable",
            Self::Unknown => "unknown",
            Self::Consistent { .. } => "consistent",
            Self::Contradicts { .. } => "contradicts",
        }
    }

    /// What was measured, if anything was.
    #[must_use]
    pub const fn figure(self) -> Option<i32> {
        match self {
            Self::NotApplicable | Self::Unknown => None,
            Self::Consistent { figure } | Self::Contradicts { figure } => Some(figure),
        }
    }

    const fn agrees(self) -> bool {
        matches!(self, Self::Consistent { .. })
    }
}

impl Encode for Finding {
    fn encode(&self, out: &mut Vec<u8>) {
        let code: u8 = match self {
            Self::NotApplicable => 0,
            Self::Unknown => 1,
            Self::Consistent { .. } => 2,
            Self::Contradicts { .. } => 3,
        };
        code.encode(out);
        if let Some(figure) = self.figure() {
            figure.encode(out);
        }
    }
}

impl Decode for Finding {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match u8::decode(r)? {
            0 => Self::NotApplicable,
            1 => Self::Unknown,
            2 => Self::Consistent { figure: Decode::decode(r)? },
            3 => Self::Contradicts { figure: Decode::decode(r)? },
            _ => return Err(CodecError::Invalid { what: "finding" }),
        })
    }
}

/// What was found about one home's meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterAssurance {
    /// Whose.
    pub home: HomeId,
    /// The level claimed, 0 to [`LEVEL_MAX`].
    pub level: u8,
    /// The transformer's meter against the sum of the homes; the figure is what is left over, ‰ of the transformer's energy.
    pub transformer: Finding,
    /// Exports against what the sun and the peak power allow; the figure is the export, ‰ of that bound.
    pub pv: Finding,
    /// The inverter's energy against the PV meter's; the figure is the one, ‰ of the other.
    pub inverter: Finding,
    /// The voltage against the neighbours'; the figure is the correlation × 1000.
    pub voltage: Finding,
}

impl MeterAssurance {
    /// Every finding.
    #[must_use]
    pub const fn findings(&self) -> [Finding; 4] {
        [self.transformer, self.pv, self.inverter, self.voltage]
    }
}

impl Encode for MeterAssurance {
    fn encode(&self, out: &mut Vec<u8>) {
        self.home.encode(out);
        self.level.encode(out);
        self.findings().iter().for_each(|finding| finding.encode(out));
    }
}

impl Decode for MeterAssurance {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let home = Decode::decode(r)?;
        let level = u8::decode(r)?;
        if level > LEVEL_MAX {
            return Err(CodecError::Invalid { what: "assurance level" });
        }
        Ok(Self {
            home,
            level,
            transformer: Decode::decode(r)?,
            pv: Decode::decode(r)?,
            inverter: Decode::decode(r)?,
            voltage: Decode::decode(r)?,
        })
    }
}

/// How far some homes' meters can be believed, as of the end of an interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssuranceStatement {
    /// The last interval that was looked at.
    pub until: Interval,
    /// One row a home, in ascending order of the homes, at most [`ASSURANCES_MAX`].
    pub meters: Vec<MeterAssurance>,
}

impl Encode for AssuranceStatement {
    fn encode(&self, out: &mut Vec<u8>) {
        self.until.encode(out);
        encode_list(&self.meters, out);
    }
}

impl Decode for AssuranceStatement {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self { until: Decode::decode(r)?, meters: decode_list(r, "meters", ASSURANCES_MAX)? })
    }
}

/// What the ledger keeps of a home's evidence: the first interval of the newest of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvidenceState {
    /// Of whatever kind.
    pub from: Interval,
    /// That had voltages.
    pub voltage: Option<Interval>,
    /// That declared a PV plant.
    pub pv: Option<Interval>,
    /// That had an inverter's figure.
    pub inverter: Option<Interval>,
}

record!(EvidenceState { from, voltage, pv, inverter });

impl EvidenceState {
    /// The state once `evidence`, which is newer than any before, has been given.
    pub(crate) fn with(before: Option<Self>, evidence: &MeterEvidence) -> Self {
        let from = evidence.from;
        let newest = |given: bool, of: fn(Self) -> Option<Interval>| {
            if given { Some(from) } else { before.and_then(of) }
        };
        Self {
            from,
            voltage: newest(evidence.voltage_dv.iter().any(|voltage| *voltage > 0), |it| it.voltage),
            pv: newest(evidence.pv.is_some(), |it| it.pv),
            inverter: newest(evidence.inverter_permille.is_some(), |it| it.inverter),
        }
    }
}

/// The newest statement about a home's present meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// As of the end of this interval.
    pub until: Interval,
    /// What was stated; the level is no higher than the ledger's rule allowed.
    pub found: MeterAssurance,
    /// Index of the interval since which all that applies has agreed.
    pub(crate) whole_since: Option<u64>,
}

record!(Stated { until, found, whole_since });

/// What the ledger knows of how far a home's meter can be believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assurance {
    /// The newest statement; `None` where there is none about the present meter.
    pub stated: Option<Stated>,
    /// The home's newest evidence.
    pub evidence: Option<EvidenceState>,
    /// Index of the interval until which a statement was made last, about whichever meter.
    pub(crate) stated_until: Option<u64>,
}

record!(Assurance { stated, evidence, stated_until });

/// What stands behind a finding of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground {
    /// Until when the statement looked.
    pub until: Interval,
    /// Intervals it covers, at least.
    pub every: u64,
    /// Whether the ledger has readings of the present meter, and `until` is after its registration.
    pub is_read: bool,
}

impl Assurance {
    /// The level in force once everything before `settled` has settled: as stated last, 0 where nothing was about the last
    /// [`SILENT_DAYS`]. A day is stated only once it is settled, which may take days, so the clock alone says nothing.
    #[must_use]
    pub fn level(&self, settled: Timestamp) -> u8 {
        let silent_ms = SILENT_DAYS.saturating_mul(DAY_MS);
        let lately = |stated: &&Stated| settled <= stated.until.end().plus_ms(silent_ms);
        self.stated.as_ref().filter(lately).map_or(0, |stated| stated.found.level)
    }

    /// The highest level that `found` gives on this ground.
    pub(crate) fn ceiling(&self, found: &MeterAssurance, ground: Ground) -> u8 {
        let contradicted = found.findings().iter().any(|of| matches!(of, Finding::Contradicts { .. }));
        if contradicted || !ground.is_read {
            return 0;
        }
        if !found.transformer.agrees() {
            return 1;
        }
        if !self.has_further(found, ground.until) {
            return 2;
        }
        let day = u64::from(ground.until.mtu().per_day());
        let whole =
            self.whole_since(found, ground).map(|since| ground.until.next().index().saturating_sub(since));
        if whole.is_some_and(|whole| whole >= FULL_DAYS.saturating_mul(day)) { 4 } else { 3 }
    }

    /// Whether a finding beside the transformer's agrees, and rests on evidence of its kind that the home gave lately.
    fn has_further(&self, found: &MeterAssurance, until: Interval) -> bool {
        let limit = EVIDENCE_DAYS.saturating_mul(u64::from(until.mtu().per_day()));
        let lately = |given: Option<Interval>| {
            given.is_some_and(|from| until.index().saturating_sub(from.index()) <= limit)
        };
        self.evidence.is_some_and(|evidence| {
            (found.pv.agrees() && lately(evidence.pv))
                || (found.inverter.agrees() && lately(evidence.inverter))
                || (found.voltage.agrees() && lately(evidence.voltage))
        })
    }

    /// Since when all that applies has agreed, `found` included; `None` if it does not.
    pub(crate) fn whole_since(&self, found: &MeterAssurance, ground: Ground) -> Option<u64> {
        let Ground { until, every, .. } = ground;
        let applies = |finding: &Finding| *finding != Finding::NotApplicable;
        let whole = found.transformer.agrees()
            && found.findings().iter().filter(|finding| applies(finding)).all(|finding| finding.agrees())
            && self.has_further(found, until);
        let silent = SILENT_DAYS.saturating_mul(u64::from(until.mtu().per_day()));
        let before = self
            .stated
            .as_ref()
            .filter(|stated| until.index().saturating_sub(stated.until.index()) <= silent)
            .and_then(|stated| stated.whole_since);
        let first = until.next().index().saturating_sub(every);
        whole.then(|| before.unwrap_or(first))
    }
}
