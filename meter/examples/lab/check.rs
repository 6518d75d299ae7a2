//! Whether a value is the one that the server had between question and answer: anything else is wrong.

use std::ops::RangeInclusive;
use std::time::Instant;

use energy::WattHours;
use meter::{EnergySample, LiveSample};

use crate::peers::Clock;

/// Rounding of two clocks to ms, and half of the quickest exchange between them.
const SLACK_MS: u64 = 2;
/// Power in W follows the server's clock in ms modulo this.
const POWER_MODULUS: u64 = 4_000_000;

/// When a value was asked for and had.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub clock: Clock,
    pub from: Instant,
    pub to: Instant,
}

impl Asked {
    /// The readings of the server's clock that a right value can carry.
    fn window(&self) -> RangeInclusive<u64> {
        self.clock.ms_at(self.from).saturating_sub(SLACK_MS)..=self.clock.ms_at(self.to) + SLACK_MS
    }
}

/// The register of the fault server at an address without a meaning of its own.
pub const fn plain_word(unit: u8, address: u16) -> u16 {
    address.wrapping_mul(0x9E37).wrapping_add((unit as u16).wrapping_mul(0x1F35))
}

pub fn energy(unit: u8, sample: &EnergySample, asked: Asked) -> Result<(), String> {
    let unit = u64::from(unit);
    let raw =
        |energy: Option<WattHours>| energy.map(|energy| energy.get() / 10).ok_or("an energy is missing");
    let (import, export) = (raw(sample.import)?, raw(sample.export)?);
    same("serial number", sample.serial.as_str(), &(5_000 + unit).to_string())?;
    same("export for this import", &export, &(import * 2 + 7))?;
    let half = sample.round_trip / 2;
    let said = Asked { from: sample.middle - half, to: sample.middle + half, ..asked };
    let window = overlap(&asked.window(), &said.window());
    let stamp = import.checked_sub(unit * 10_000_000_000).filter(|stamp| window.contains(stamp));
    if stamp.is_some() { Ok(()) } else { Err(format!("import {import} is of another time than {window:?}")) }
}

/// What both the caller and the sample itself say about its time.
fn overlap(one: &RangeInclusive<u64>, other: &RangeInclusive<u64>) -> RangeInclusive<u64> {
    *one.start().max(other.start())..=*one.end().min(other.end())
}

pub fn live(unit: u8, sample: &LiveSample, asked: Asked) -> Result<(), String> {
    let window = asked.window();
    let power = u64::try_from(sample.power_w).map_err(|_| format!("power {} W", sample.power_w))?;
    let mv = |tenths: u64| u32::try_from(230_000 + tenths * 100).ok();
    same("voltage of this unit", &sample.voltage_mv[0], &mv(u64::from(unit)))?;
    same("voltage for this power", &sample.voltage_mv[1], &mv(power % 50))?;
    let behind = (power + POWER_MODULUS - window.start() % POWER_MODULUS) % POWER_MODULUS;
    let in_window = power < POWER_MODULUS && behind <= window.end() - window.start();
    if in_window { Ok(()) } else { Err(format!("power {power} is of another time than {window:?}")) }
}

pub fn plain(unit: u8, address: u16, count: u16, words: &[u16]) -> Result<(), String> {
    let wanted: Vec<u16> = (0..count).map(|offset| plain_word(unit, address + offset)).collect();
    same("registers", words, &wanted[..])
}

/// The holding registers of libmodbus' unit-test server, as filled by `libmodbus_place.h`.
pub fn libmodbus(address: u16, count: u16, words: &[u16]) -> Result<(), String> {
    let wanted: Vec<u16> = (0..count).map(|offset| 0x4000 + address + offset).collect();
    same("registers", words, &wanted[..])
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, got: &T, wanted: &T) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what}: {got:?} instead of {wanted:?}")) }
}
