//! What a counter must not forget when its program ends: the last registers believed, looks in doubt and changes that
//! wait for their registration. Small text, to be kept beside the journal; losing it costs resolution and, if the meter
//! was reset meanwhile, the energy since the last reading, but never books any.

use energy::ClockQuality;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Baseline, CHANGES_MAX, Counter, CounterLimits, Doubt, EnergyRegisters, EpochChange, Look, Pending,
};

/// Longest text read: a full memory has less than 10 KiB.
const TEXT_MAX: usize = 64 * 1024;

/// What [`Counter`] needs to go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Epoch whose readings were published.
    pub(crate) meter_epoch: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    good: Option<Baseline>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doubt: Option<Doubt>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unregistered: Vec<Pending>,
}

/// A memory cannot be read or written; the counter goes on from the last reading instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Longer than any memory is.
    #[error("{0} bytes are too long for the memory of a counter; delete the file")]
    TooLong(usize),
    /// Cut off, altered, or of another version.
    #[error("the memory of the counter is damaged or of another version: {0}")]
    Damaged(String),
    /// A register beyond what the format holds.
    #[error("the memory of the counter cannot be written: {0}")]
    Unwritable(String),
}

impl Memory {
    /// As text that begins with its own hash: a power cut may leave half of it.
    ///
    /// # Errors
    /// [`MemoryError::Unwritable`].
    pub fn to_text(&self) -> Result<String, MemoryError> {
        let text = toml::to_string(self).map_err(|error| MemoryError::Unwritable(error.to_string()))?;
        Ok(format!("{}\n{text}", hash_of(&text)))
    }

    /// From text.
    ///
    /// # Errors
    /// [`MemoryError::TooLong`], [`MemoryError::Damaged`].
    pub fn parse(text: &str) -> Result<Self, MemoryError> {
        if text.len() > TEXT_MAX {
            return Err(MemoryError::TooLong(text.len()));
        }
        let body = text.split_once('\n').filter(|(hash, body)| *hash == hash_of(body));
        let (_, body) = body.ok_or_else(|| MemoryError::Damaged("it is not whole".to_owned()))?;
        let memory: Self =
            toml::from_str(body).map_err(|error| MemoryError::Damaged(error.message().to_owned()))?;
        if memory.unregistered.len() > CHANGES_MAX {
            return Err(MemoryError::Damaged("more changes than can wait".to_owned()));
        }
        Ok(memory)
    }

    /// True while registers are held: each further look counts, and a restart must not forget it.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// The changes that wait to be registered, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &EpochChange> {
        self.unregistered.iter().map(|pending| &pending.change)
    }

    /// The last registers believed of the published epoch.
    pub(crate) fn published(&self) -> Option<(&Look, EnergyRegisters)> {
        let baseline = self.unregistered.first().map(|pending| &pending.closed).or(self.good.as_ref())?;
        Some((&baseline.look, baseline.look.registers))
    }
}

fn hash_of(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Counter {
    /// What to keep, published under `meter_epoch`.
    #[must_use]
    pub fn memory(&self, meter_epoch: u32) -> Memory {
        Memory {
            meter_epoch,
            good: self.good.clone(),
            doubt: self.doubt.clone(),
            unregistered: self.unregistered.iter().cloned().collect(),
        }
    }

    /// The counter as it was.
    #[must_use]
    pub fn from_memory(limits: CounterLimits, memory: Memory) -> Self {
        let series = u64::try_from(memory.unregistered.len()).unwrap_or(u64::MAX);
        let Memory { good, doubt, unregistered, .. } = memory;
        Self { limits, good, doubt, unregistered: unregistered.into(), series }
    }
}

/// Energy as a number of Wh.
pub(super) mod wh {
    use energy::WattHours;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &WattHours, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.get())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WattHours, D::Error> {
        u64::deserialize(deserializer).map(WattHours::new)
    }
}

/// Energy that is not always known, as a number of Wh.
pub(super) mod some_wh {
    use energy::WattHours;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands fields over like this")]
    pub fn serialize<S: Serializer>(value: &Option<WattHours>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(WattHours::get).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WattHours>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(WattHours::new))
    }
}

/// A serial number as text.
pub(super) mod serial {
    use energy::MeterSerial;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &MeterSerial, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MeterSerial, D::Error> {
        MeterSerial::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A time as [market time in ms, monotonic ms, bytes of the boot].
pub(super) mod taken_at {
    use energy::{TakenAt, Timestamp};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &TakenAt, serializer: S) -> Result<S::Ok, S::Error> {
        (value.time.unix_ms(), value.monotonic_ms, value.boot_id).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TakenAt, D::Error> {
        let (ms, monotonic_ms, boot_id) = <(u64, u64, [u8; 16])>::deserialize(deserializer)?;
        Ok(TakenAt { time: Timestamp::from_unix_ms(ms), monotonic_ms, boot_id })
    }
}

/// A clock quality as its code.
pub(super) mod clock {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::{ClockQuality, Deserialize};

    pub fn serialize<S: Serializer>(value: &ClockQuality, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*value as u8)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClockQuality, D::Error> {
        let code = u8::deserialize(deserializer)?;
        ClockQuality::from_code(code).ok_or_else(|| D::Error::custom("no clock quality has this code"))
    }
}
