//! The record a home signs at each interval boundary.

use crate::{Interval, MeterSerial, Timestamp, WattHours};

/// The most 16-bit registers a reading may carry as evidence: the largest answer of one Modbus request (Modbus
/// Application Protocol V1.1b3, section 6.3).
pub const RAW_REGISTERS_MAX: usize = 125;

/// How good the registers of a reading are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Quality {
    /// Read whole from the meter within 2 s of the boundary.
    Good = 0,
    /// Interpolated or substituted from the home's own measurements.
    Estimated = 1,
    /// The last reading taken before the meter fell silent, older than the boundary allows.
    Stale = 2,
    /// The meter answers but its registers have stopped moving.
    Frozen = 3,
    /// Taken without a trusted clock.
    Unsynced = 4,
    /// Implausible: outside a range gate or under re-check.
    Suspect = 5,
    /// The first reading after a time without any: its energy covers several intervals.
    Gap = 6,
}

impl Quality {
    /// Every quality, in the order of its code.
    pub const ALL: [Self; 7] =
        [Self::Good, Self::Estimated, Self::Stale, Self::Frozen, Self::Unsynced, Self::Suspect, Self::Gap];

    /// The quality of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quality| quality.word() == word)
    }

    /// The quality with this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Estimated => "estimated",
            Self::Stale => "stale",
            Self::Frozen => "frozen",
            Self::Unsynced => "unsynced",
            Self::Suspect => "suspect",
            Self::Gap => "gap",
        }
    }
}

/// How far the node's clock could be trusted when it read the meter (after OCMF's sync letter).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ClockQuality {
    /// Never set since boot.
    Unsynced = 0,
    /// Set once, not disciplined.
    Informative = 1,
    /// Disciplined by a time source, offset below 1 s.
    Synced = 2,
}

impl ClockQuality {
    /// The quality with this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Unsynced),
            1 => Some(Self::Informative),
            2 => Some(Self::Synced),
            _ => None,
        }
    }

    /// The quality of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Unsynced, Self::Informative, Self::Synced].into_iter().find(|quality| quality.word() == word)
    }

    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unsynced => "unsynced",
            Self::Informative => "informative",
            Self::Synced => "synced",
        }
    }
}

/// When the meter was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TakenAt {
    /// Market time of the middle of the request.
    pub time: Timestamp,
    /// Milliseconds on the monotonic clock since the boot named by `boot_id`; maps an unsynced reading later.
    pub monotonic_ms: u64,
    /// Random name of the boot (or start) the monotonic clock counts from.
    pub boot_id: [u8; 16],
}

/// One home's meter at the end of one interval: the whole record that is signed, chained and settled on. What it
/// claims is who says it, not that it is true.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Serial number of the meter read.
    pub serial: MeterSerial,
    /// Counts the meters of this connection point and their resets, from 0; energy is never differenced across it.
    pub meter_epoch: u32,
    /// The interval at whose end the registers stood so.
    pub interval: Interval,
    /// Cumulative import register at the interval's end, Wh.
    pub import_register: WattHours,
    /// Cumulative export register at the interval's end, Wh.
    pub export_register: WattHours,
    /// The energy block as the meter sent it, at most [`RAW_REGISTERS_MAX`] words: a decoder error can be corrected.
    pub raw_registers: Vec<u16>,
    /// Smallest step of the meter's registers.
    pub quantum: WattHours,
    /// SHA-256 of the device profile that decoded the raw registers.
    pub profile_hash: [u8; 32],
    /// How good the registers are.
    pub quality: Quality,
    /// How good the time is.
    pub clock_quality: ClockQuality,
    /// When they were read.
    pub taken_at: TakenAt,
    /// Page counter of the home's journal: strictly increasing, so a removed record shows.
    pub record_number: u64,
    /// Hash of the record before; all zero for the first.
    pub previous_hash: [u8; 32],
}
