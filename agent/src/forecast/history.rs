//! What a home metered and what its devices did, as the forecasts need it.

use energy::{Interval, Mtu, WattHours};

use super::{LocalTime, Roof, ring::Ring};

/// How far a history goes back.
const DAYS: u32 = 56;

/// What devices that the agent controls did in one interval; all at the home's side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Did {
    /// Into the battery.
    pub charge: WattHours,
    /// Out of the battery.
    pub discharge: WattHours,
    /// Into the vehicle.
    pub vehicle: WattHours,
    /// Into heat.
    pub heat: WattHours,
    /// Whether the inverter was told to generate less: such an interval says nothing about the sun.
    pub curtailed: bool,
}

/// One interval as a home saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Taken, at the meter.
    pub import: WattHours,
    /// Given, at the meter.
    pub export: WattHours,
    /// Solar generation where it has a meter of its own, else `None`.
    pub pv: Option<WattHours>,
    /// What controlled devices did.
    pub did: Did,
    /// Electricity that heat would have taken to stay where it was: what it took, less what that put ahead of need.
    pub heat_need: WattHours,
}

/// One remembered interval, Wh. A home's quarter-hour never needs 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) load: u32,
    pub(crate) pv: u32,
    pub(crate) heat: u32,
    /// What a clear sky would have brought; 0 where nothing is known of the roof.
    pub(crate) clear: u32,
    pub(crate) curtailed: bool,
    /// Whether `pv` comes from a meter of its own.
    pub(crate) metered: bool,
}

/// A home's last eight weeks: uncontrolled load, sun and the need of heat.
///
/// Uncontrolled load = import − export + generation − what devices took + what the battery gave. Where generation has no meter of
/// its own, only the difference is known: what is left over counts as sun, what is missing as load. Their difference is
/// then right, each alone too small.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    roof: Option<Roof>,
    /// Whether heat ever took anything.
    heat: bool,
    pub(crate) ring: Ring<Slot>,
}

/// What one past interval was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Was {
    /// Uncontrolled load.
    pub load: WattHours,
    /// Solar generation.
    pub pv: WattHours,
    /// Need of heat.
    pub heat: WattHours,
}

impl History {
    /// An empty history of a home with (or without) solar panels.
    #[must_use]
    pub fn new(mtu: Mtu, roof: Option<Roof>) -> Self {
        Self { roof, heat: false, ring: Ring::new(mtu, DAYS) }
    }

    /// The roof it was made for.
    #[must_use]
    pub fn roof(&self) -> Option<&Roof> {
        self.roof.as_ref()
    }

    /// The market time unit it counts in.
    #[must_use]
    pub fn mtu(&self) -> Mtu {
        self.ring.mtu()
    }

    /// Remembers one interval; a later word on the same interval replaces it. `false`: not taken, because it is of another
    /// market time unit or more than eight weeks older than the newest.
    pub fn record(&mut self, interval: Interval, seen: &Seen, local: &LocalTime) -> bool {
        let (load, pv) = self.load_and_sun(seen);
        let slot = Slot {
            load,
            pv,
            heat: small(i128::from(seen.heat_need.get())),
            clear: self.roof.map_or(0, |roof| super::to_wh(roof.clear_sky(interval))),
            curtailed: seen.did.curtailed,
            metered: seen.pv.is_some(),
        };
        self.heat |= slot.heat > 0;
        self.ring.record(interval, local, slot)
    }

    pub(crate) fn has_heat(&self) -> bool {
        self.heat
    }

    fn load_and_sun(&self, seen: &Seen) -> (u32, u32) {
        let wide = |energy: WattHours| i128::from(energy.get());
        let did = &seen.did;
        let taken = wide(did.charge) + wide(did.vehicle) + wide(did.heat) - wide(did.discharge);
        let net = wide(seen.import) - wide(seen.export) - taken;
        match (seen.pv, &self.roof) {
            (Some(pv), _) => (small(net + wide(pv)), small(wide(pv))),
            (None, Some(_)) => (small(net), small(-net)),
            (None, None) => (small(net), 0),
        }
    }

    /// What an interval was, if it is remembered.
    #[must_use]
    pub fn at(&self, interval: Interval) -> Option<Was> {
        let slot = self.ring.at(interval.index()).filter(|_| interval.mtu() == self.mtu())?;
        let energy = |wh: u32| WattHours::new(u64::from(wh));
        Some(Was { load: energy(slot.load), pv: energy(slot.pv), heat: energy(slot.heat) })
    }
}

/// Negative (two meters that do not agree to the Wh) counts as nothing.
fn small(wh: i128) -> u32 {
    u32::try_from(wh.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: LocalTime = LocalTime { east_s: 0, change: None };
    const ROOF: Roof = Roof { peak_w: 5_000, site: None };

    fn wh(energy: u64) -> WattHours {
        WattHours::new(energy)
    }

    fn was(roof: Option<Roof>, seen: Seen) -> (u64, u64) {
        let mut history = History::new(Mtu::Min15, roof);
        let interval = Interval::from_index(1_000, Mtu::Min15);
        assert!(history.record(interval, &seen, &UTC));
        let was = history.at(interval).unwrap();
        (was.load.get(), was.pv.get())
    }

    #[test]
    fn uncontrolled_load_is_what_no_device_and_no_sun_explains() {
        let did =
            Did { discharge: wh(0), charge: wh(200), vehicle: wh(1_000), heat: wh(300), curtailed: false };
        let seen = Seen { import: wh(1_350), pv: Some(wh(400)), did, ..Seen::default() };
        assert_eq!(was(Some(ROOF), seen), (250, 400));
        let did = Did { discharge: wh(500), ..Did::default() };
        let seen = Seen { export: wh(320), pv: Some(wh(10)), did, ..Seen::default() };
        assert_eq!(was(Some(ROOF), seen), (190, 10));
    }

    #[test]
    fn without_a_meter_for_the_sun_the_rest_is_either_sun_or_load() {
        let seen = Seen { export: wh(700), ..Seen::default() };
        assert_eq!(was(Some(ROOF), seen), (0, 700));
        let seen = Seen { import: wh(120), ..Seen::default() };
        assert_eq!(was(Some(ROOF), seen), (120, 0));
        let did = Did { discharge: wh(50), ..Did::default() };
        let seen = Seen { export: wh(60), did, ..Seen::default() };
        assert_eq!(was(None, seen), (0, 0), "without a roof it is no sun");
    }

    #[test]
    fn eight_weeks_of_quarter_hours_fit_into_a_few_hundred_kilobytes() {
        assert!(size_of::<Option<(i16, Slot)>>() * 56 * 96 < 200_000);
    }
}
