//! What is in a simulated meter: its counters, its registers, and the ways in which they can be wrong.

use std::sync::Arc;

use energy::{MeterSerial, WattHours};

use crate::frame::{Read, exception};
use crate::image::{EncodeError, MODEL_BASE, RegisterImage, Registers};
use crate::profile::{Profile, Span};

/// A grid without trouble.
const VOLTAGE_MV: [u32; 3] = [230_000; 3];
const FREQUENCY_MHZ: u32 = 50_000;
/// A living grid's frequency is never still: after so many reads it has moved, by 10 mHz, between these offsets.
const WANDER_AFTER: u32 = 16;
const WANDER_MHZ: [u32; 4] = [0, 10, 20, 10];
/// Energy in both directions, Wh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) import: u64,
    pub(super) export: u64,
}

#[derive(Debug)]
pub(super) struct Device {
    profile: Arc<Profile>,
    serial: MeterSerial,
    /// What went through the connection, whatever the meter shows.
    passed: Counters,
    power_w: i64,
    /// What the registers showed when `since` had passed.
    shown: Counters,
    since: Counters,
    frozen: bool,
    /// Reads of the energy registers that still show zero.
    zero_reads: u32,
    /// Reads of anything.
    reads: u32,
    image: Result<RegisterImage, EncodeError>,
}

impl Device {
    pub(super) fn new(profile: Arc<Profile>, serial: MeterSerial) -> Self {
        let image = profile.encode(&registers(serial.clone(), Counters::default(), 0, 0));
        Self {
            profile,
            serial,
            passed: Counters::default(),
            power_w: 0,
            shown: Counters::default(),
            since: Counters::default(),
            frozen: false,
            zero_reads: 0,
            reads: 0,
            image,
        }
    }

    /// Why it cannot be served.
    pub(super) fn problem(&self) -> Option<EncodeError> {
        self.image.as_ref().err().cloned()
    }

    pub(super) fn set(&mut self, passed: Counters, power_w: i64) {
        (self.passed, self.power_w) = (passed, power_w);
        self.latch();
    }

    pub(super) fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
        self.latch();
    }

    pub(super) const fn show_zero(&mut self, reads: u32) {
        self.zero_reads = reads;
    }

    /// From now on the registers count from `shown`.
    pub(super) fn restart(&mut self, shown: Counters) {
        (self.shown, self.since) = (shown, self.passed);
        self.latch();
    }

    pub(super) fn exchange(&mut self, serial: MeterSerial, shown: Counters) {
        (self.serial, self.frozen) = (serial, false);
        self.restart(shown);
    }

    fn latch(&mut self) {
        if self.frozen {
            return;
        }
        let count = |shown: u64, passed: u64, since: u64| shown.saturating_add(passed.saturating_sub(since));
        let counters = Counters {
            import: count(self.shown.import, self.passed.import, self.since.import),
            export: count(self.shown.export, self.passed.export, self.since.export),
        };
        self.image = self.encode(counters);
    }

    fn encode(&self, counters: Counters) -> Result<RegisterImage, EncodeError> {
        self.profile.encode(&registers(self.serial.clone(), counters, self.power_w, self.reads))
    }

    /// The registers asked for, or the exception code that this model answers with.
    pub(super) fn read(&mut self, read: Read) -> Result<Vec<u16>, u8> {
        if read.count > self.profile.registers_per_read() {
            return Err(exception::ILLEGAL_VALUE);
        }
        self.reads = self.reads.wrapping_add(1);
        if self.reads.is_multiple_of(WANDER_AFTER) {
            self.latch();
        }
        let zeroed;
        let image = if self.zero_reads > 0 && self.holds_energy(read) {
            self.zero_reads -= 1;
            zeroed = self.encode(Counters::default());
            &zeroed
        } else {
            &self.image
        };
        let image = image.as_ref().map_err(|_| exception::DEVICE_FAILURE)?;
        image.read(read.function, read.address, read.count).ok_or(exception::ILLEGAL_ADDRESS)
    }

    fn holds_energy(&self, read: Read) -> bool {
        let base = if self.profile.discover.is_some() { MODEL_BASE } else { 0 };
        let Span { function, address, count } = self.profile.energy.span;
        let (first, asked) = (u32::from(base) + u32::from(address), u32::from(read.address));
        let overlap = first < asked + u32::from(read.count) && asked < first + u32::from(count);
        function.code() == read.function && overlap
    }
}

fn registers(serial: MeterSerial, counters: Counters, power_w: i64, reads: u32) -> Registers {
    let wander = WANDER_MHZ.get(usize::try_from(reads / WANDER_AFTER % 4).unwrap_or(0)).copied().unwrap_or(0);
    Registers {
        serial,
        import: WattHours::new(counters.import),
        export: WattHours::new(counters.export),
        power_w,
        voltage_mv: VOLTAGE_MV,
        frequency_mhz: FREQUENCY_MHZ + wander,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(profile: &str) -> Device {
        let profile = Profile::by_name(profile).unwrap();
        Device::new(profile, MeterSerial::new("21040123").unwrap())
    }

    fn set(device: &mut Device, import: u64, export: u64) {
        device.set(Counters { import, export }, 500);
    }

    /// What its energy registers show.
    fn shown(device: &mut Device) -> (u64, u64) {
        let span = device.profile.energy.span;
        let read = Read { function: span.function.code(), address: span.address, count: span.count };
        let values = device.read(read).map(|words| device.profile.energy.decode(&words).unwrap()).unwrap();
        (values.import.unwrap().get(), values.export.unwrap().get())
    }

    #[test]
    fn its_frequency_moves_unless_it_is_frozen() {
        let mut device = device("eastron-sdm630");
        let seen = |device: &mut Device| {
            let read = Read { function: 4, address: 0x46, count: 2 };
            (0..4 * WANDER_AFTER)
                .map(|_| device.read(read).unwrap())
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(seen(&mut device).len(), 3);
        device.freeze(true);
        assert_eq!(seen(&mut device).len(), 1);
    }

    #[test]
    fn a_reset_counts_from_zero_and_an_exchange_from_what_the_new_meter_shows() {
        let mut device = device("eastron-sdm630");
        set(&mut device, 5_000, 700);
        assert_eq!(shown(&mut device), (5_000, 700));
        device.restart(Counters::default());
        set(&mut device, 5_040, 700);
        assert_eq!(shown(&mut device), (40, 0));
        device.exchange(MeterSerial::new("7").unwrap(), Counters { import: 90, export: 10 });
        set(&mut device, 5_041, 702);
        assert_eq!(shown(&mut device), (91, 12));
        let serial = device.read(Read { function: 3, address: 0xFC00, count: 2 });
        assert_eq!(serial, Ok(vec![0, 7]));
    }

    #[test]
    fn a_glitch_shows_zero_for_so_many_energy_reads_only() {
        let mut device = device("abb-b23");
        set(&mut device, 5_000, 700);
        device.show_zero(2);
        assert!(device.read(Read { function: 3, address: 0x8900, count: 2 }).is_ok());
        assert_eq!(
            [shown(&mut device), shown(&mut device), shown(&mut device)],
            [(0, 0), (0, 0), (5_000, 700)]
        );
    }

    #[test]
    fn a_frozen_meter_shows_what_it_showed_and_catches_up_when_it_thaws() {
        let mut device = device("eastron-sdm630");
        set(&mut device, 5_000, 0);
        device.freeze(true);
        set(&mut device, 6_000, 0);
        assert_eq!(shown(&mut device), (5_000, 0));
        device.freeze(false);
        assert_eq!(shown(&mut device), (6_000, 0));
    }

    #[test]
    fn a_sunspec_map_is_walked_from_the_marker_to_the_end() {
        let mut device = device("sunspec-203");
        let mut pair = |address| device.read(Read { function: 3, address, count: 2 });
        assert_eq!(pair(40_000), Ok(vec![0x5375, 0x6E53]));
        assert_eq!(pair(40_002), Ok(vec![1, 66]));
        let Ok([model, words]) = pair(40_070).map(|it| <[u16; 2]>::try_from(it).unwrap()) else { panic!() };
        assert_eq!(model, 203);
        assert_eq!(pair(40_072 + words), Ok(vec![0xFFFF, 0]));
        assert_eq!(pair(40_073 + words), Err(exception::ILLEGAL_ADDRESS));
        assert_eq!(pair(0), Err(exception::ILLEGAL_ADDRESS));
        let serial = device.read(Read { function: 3, address: 40_052, count: 16 }).unwrap();
        assert_eq!(serial[..4], [0x3231, 0x3034, 0x3031, 0x3233]);
    }
}
