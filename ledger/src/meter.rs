//! Meters as the ledger knows them: their registration, the exchange of one for another, and the record of a reading.

use energy::{ClockQuality, MeterSerial, Quality, RAW_REGISTERS_MAX, Reading, TakenAt, WattHours};

use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list, record};
use crate::crypto::Hash32;

/// The meter at a connection point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterRegistration {
    /// Its serial number.
    pub serial: MeterSerial,
    /// Counts the meters of this connection point and their resets, from 0.
    pub epoch: u32,
    /// SHA-256 of the device profile that decodes it.
    pub profile_hash: [u8; 32],
    /// Smallest step of its registers.
    pub quantum: WattHours,
}

record!(MeterRegistration { serial, epoch, profile_hash, quantum });

/// A meter's two cumulative registers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Import register, Wh.
    pub import: WattHours,
    /// Export register, Wh.
    pub export: WattHours,
}

record!(Registers { import, export });

/// What the old meter showed last and the new one first, at an exchange or a reset. With both no Wh is lost: what was
/// metered since the last reading is (`closing` − last reading) + (next reading − `opening`), each difference within one
/// meter's own registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterExchange {
    /// The old meter's registers as it was taken off, or before its reset.
    pub closing: Registers,
    /// The new meter's registers as it was put in, or after the reset.
    pub opening: Registers,
}

record!(MeterExchange { closing, opening });

impl Encode for Reading {
    fn encode(&self, out: &mut Vec<u8>) {
        self.serial.encode(out);
        self.meter_epoch.encode(out);
        self.interval.encode(out);
        self.import_register.encode(out);
        self.export_register.encode(out);
        encode_list(&self.raw_registers, out);
        self.quantum.encode(out);
        self.profile_hash.encode(out);
        out.push(self.quality as u8);
        out.push(self.clock_quality as u8);
        self.taken_at.time.encode(out);
        self.taken_at.monotonic_ms.encode(out);
        self.taken_at.boot_id.encode(out);
        self.record_number.encode(out);
        self.previous_hash.encode(out);
    }
}

impl Decode for Reading {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            serial: Decode::decode(r)?,
            meter_epoch: Decode::decode(r)?,
            interval: Decode::decode(r)?,
            import_register: Decode::decode(r)?,
            export_register: Decode::decode(r)?,
            raw_registers: decode_list(r, "raw registers", RAW_REGISTERS_MAX)?,
            quantum: Decode::decode(r)?,
            profile_hash: Decode::decode(r)?,
            quality: Quality::from_code(u8::decode(r)?).ok_or(CodecError::Invalid { what: "quality" })?,
            clock_quality: ClockQuality::from_code(u8::decode(r)?)
                .ok_or(CodecError::Invalid { what: "clock quality" })?,
            taken_at: TakenAt {
                time: Decode::decode(r)?,
                monotonic_ms: Decode::decode(r)?,
                boot_id: Decode::decode(r)?,
            },
            record_number: Decode::decode(r)?,
            previous_hash: Decode::decode(r)?,
        })
    }
}

/// Hash of one reading record: what the next record of the home's journal points back to.
#[must_use]
pub fn reading_hash(reading: &Reading) -> [u8; 32] {
    Hash32::of(&[b"commonwatt/record/v1", &reading.to_bytes()]).0
}
