//! All meters of a home, as they are shown: what each is, how it does, and what flows where.
//!
//! The meter at the connection point is read by [`crate::metering`], which settles on it; further ones (panels, battery,
//! car) are read here, for showing and as evidence. Flows are sums of values of one moment only
//! ([`meter::Household`]): where a meter is silent there is a reason instead of a sum.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::{MeterCondition, MeterRow};
use energy::WattHours;
use meter::{
    ALIGNED_WITHIN, BusLoad, Condition, Endpoint, EnergySample, FRESH_WITHIN, Household, Identity, Line,
    LiveSample, Meter, MeterConfig, MeterId, Poll, Role, Watch,
};

use crate::config::meters::MeterRole;
use crate::http::Live;
use crate::metering::SAMPLE_EVERY;

/// How often momentary power is read, unless a slow line needs a longer time.
const LIVE_EVERY: Duration = Duration::from_secs(1);
/// Longer times between two reads of power, for a line that is too slow for the shorter ones.
const SLOWER: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(8)];
/// How often energy registers of a further meter are read.
const ENERGY_EVERY: Duration = Duration::from_secs(60);
/// How soon after one that failed.
const ENERGY_AGAIN: Duration = Duration::from_secs(10);
/// How long one attempt may take.
const READ_DEADLINE: Duration = Duration::from_millis(1_500);
/// What a meter takes to answer, besides the characters on the line (meter research, section 7: 10 to 100 ms).
const TURNAROUND: Duration = Duration::from_millis(50);

/// A meter of the home besides the one at the connection point.
#[derive(Debug, Clone)]
pub struct FurtherMeterSetup {
    /// Its name at this home.
    pub name: String,
    /// What it measures.
    pub role: MeterRole,
    /// How it is reached.
    pub meter: MeterConfig,
}

/// Names one meter on the [`MeterPanel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(usize);

/// Energy registers of the inverter and of the meter beside it, as read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// What the inverter says it generated.
    pub inverter: WattHours,
    /// What the meter counted.
    pub meter: WattHours,
    /// The coarser step of the two.
    pub quantum: WattHours,
}

/// The meters of one home as they stand. Whoever reads one tells the panel; the panel tells [`Live`].
#[derive(Debug)]
pub struct MeterPanel {
    live: Arc<Live>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    household: Household,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    role: Option<MeterRole>,
    flow: Option<MeterId>,
    row: MeterRow,
    read: Option<Instant>,
    /// Generated energy and its step, with the time it was read.
    generated: Option<(WattHours, WattHours, Instant)>,
}

impl MeterPanel {
    /// An empty panel.
    #[must_use]
    pub fn new(live: Arc<Live>) -> Arc<Self> {
        let household = Household::new(ALIGNED_WITHIN, FRESH_WITHIN);
        Arc::new(Self { live, state: Mutex::new(State { household, slots: Vec::new() }) })
    }

    /// Adds the meter at the connection point.
    pub fn add_grid(&self, config: &MeterConfig) -> Place {
        self.add(("grid", "grid"), None, config, Some(Role::Grid))
    }

    /// Adds the meter at the transformer, which is no meter of the home: nothing of it flows there.
    pub fn add_root(&self, config: &MeterConfig) -> Place {
        self.add(("root", "root"), None, config, None)
    }

    /// Adds a further meter. Where there is a meter at the panels, the inverter's own figures are not counted again.
    fn add_further(&self, setup: &FurtherMeterSetup, has_pv_meter: bool) -> Place {
        let flow = match setup.role {
            MeterRole::Pv => Some(Role::Pv),
            MeterRole::Inverter => (!has_pv_meter).then_some(Role::Pv),
            MeterRole::Battery => Some(Role::Battery),
            MeterRole::Ev => Some(Role::Ev),
            MeterRole::HeatPump => Some(Role::HeatPump),
        };
        self.add((&setup.name, setup.role.word()), Some(setup.role), &setup.meter, flow)
    }

    fn add(
        &self,
        (name, word): (&str, &str),
        role: Option<MeterRole>,
        config: &MeterConfig,
        flow: Option<Role>,
    ) -> Place {
        let row = MeterRow {
            name: name.to_owned(),
            role: word.to_owned(),
            endpoint: config.bus.endpoint.to_string(),
            unit: config.unit,
            profile: config.profile.name().to_owned(),
            quantum_wh: config.profile.quantum().get(),
            ..MeterRow::default()
        };
        let mut state = self.lock();
        let flow = flow.map(|flow| state.household.add(flow, name));
        self.live.set_meter_row(row.clone(), None);
        state.slots.push(Slot { role, flow, row, read: None, generated: None });
        Place(state.slots.len() - 1)
    }

    /// A meter was read: power and what goes with it.
    pub fn read_live(&self, place: Place, sample: &LiveSample) {
        self.update(place, |household, slot| {
            slot.row.power_w = Some(sample.power_w);
            slot.read = Some(sample.middle);
            if let Some(flow) = slot.flow {
                household.observe(flow, sample.power_w, sample.middle);
            }
        });
    }

    /// What the meter says is not of this moment: its power is not known.
    pub fn lose_power(&self, place: Place) {
        self.update(place, |_, slot| slot.row.power_w = None);
    }

    /// A meter was read: its registers and who it is.
    pub fn read_energy(&self, place: Place, sample: &EnergySample) {
        self.update(place, |_, slot| {
            slot.row.serial = Some(sample.serial.to_string());
            let identity = match sample.identity {
                Identity::Read => "read",
                Identity::Nameplate => "nameplate",
            };
            slot.row.identity = Some(identity.to_owned());
            slot.row.quantum_wh = sample.quantum.get();
            slot.row.import_wh = sample.import.map(WattHours::get);
            slot.row.export_wh = sample.export.map(WattHours::get);
            slot.generated = sample.export.map(|export| (export, sample.quantum, sample.middle));
        });
    }

    /// How a meter does, in one word and in detail.
    pub fn set_condition(&self, place: Place, condition: MeterCondition, detail: String) {
        self.update(place, |_, slot| (slot.row.state, slot.row.detail) = (condition, detail));
    }

    /// True once the node is stopping.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.live.is_closed()
    }

    /// How busy the meter's bus is, ‰.
    pub fn set_bus_load(&self, place: Place, permille: u32) {
        self.update(place, |_, slot| slot.row.bus_load_permille = Some(permille));
    }

    /// Registers of the inverter and of the meter beside it, if both were read lately and close enough to each other.
    /// `None` unless there is exactly one of each: with two roofs nothing says which meter belongs to which inverter.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        let state = self.lock();
        let of = |wanted: MeterRole| {
            let mut slots = state.slots.iter().filter(|slot| slot.role == Some(wanted));
            let only = slots.next().filter(|_| slots.next().is_none());
            only.and_then(|slot| slot.generated)
        };
        let (inverter, inverter_step, inverter_at) = of(MeterRole::Inverter)?;
        let (meter, meter_step, meter_at) = of(MeterRole::Pv)?;
        let apart = inverter_at.max(meter_at).duration_since(inverter_at.min(meter_at));
        let age = inverter_at.min(meter_at).elapsed();
        let together = apart <= FRESH_WITHIN && age <= ENERGY_EVERY + FRESH_WITHIN;
        together.then_some(Generation { inverter, meter, quantum: inverter_step.max(meter_step) })
    }

    fn update(&self, place: Place, change: impl FnOnce(&mut Household, &mut Slot)) {
        let mut guard = self.lock();
        let State { household, slots } = &mut *guard;
        if let Some(slot) = slots.get_mut(place.0) {
            change(household, slot);
            self.live.set_meter_row(slot.row.clone(), slot.read);
            self.live.set_flows(flows(household));
        }
    }

    /// The state holds whole values only, so it is usable even if another thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn flows(household: &Household) -> Result<api::Flows, String> {
    let flows = household.sample(Instant::now()).map_err(|error| error.to_string())?;
    Ok(api::Flows {
        house_w: flows.house_w,
        rest_w: flows.rest_w,
        grid_w: flows.grid_w,
        pv_w: flows.pv_w,
        battery_w: flows.battery_w,
        ev_w: flows.ev_w,
        heat_pump_w: flows.heat_pump_w,
        window_ms: u64::try_from(flows.spread.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Starts reading the further meters, each until the node stops. `settled` are those that [`crate::metering`] reads.
pub fn start_further(panel: &Arc<MeterPanel>, settled: &[&MeterConfig], further: &[FurtherMeterSetup]) {
    let has_pv_meter = further.iter().any(|setup| setup.role == MeterRole::Pv);
    for setup in further {
        let place = panel.add_further(setup, has_pv_meter);
        let every = poll_every(&setup.meter, settled, further);
        let meter = Meter::spawn(setup.meter.clone());
        let reader = Further::new(Arc::clone(panel), place, meter, every);
        tokio::spawn(reader.run(every));
    }
}

/// How often the power of `meter` is read: each second, or as often as its serial line carries the polls of all on it,
/// those for the energy registers of the `settled` ones and of the `further` ones included.
pub fn poll_every(meter: &MeterConfig, settled: &[&MeterConfig], further: &[FurtherMeterSetup]) -> Duration {
    let Some(line) = line_of(meter) else { return LIVE_EVERY };
    let settled = settled.iter().map(|config| (*config, SAMPLE_EVERY));
    let further = further.iter().map(|setup| (&setup.meter, ENERGY_EVERY));
    let is_neighbour = |(other, _): &(&MeterConfig, Duration)| other.bus.endpoint == meter.bus.endpoint;
    let neighbours: Vec<_> = settled.chain(further).filter(is_neighbour).collect();
    let load = |live_every| {
        let poll = |(config, energy_every)| {
            let config: &MeterConfig = config;
            Poll { profile: &config.profile, live_every, energy_every }
        };
        BusLoad::of(line, TURNAROUND, &neighbours.iter().copied().map(poll).collect::<Vec<_>>())
    };
    let planned = load(LIVE_EVERY);
    if planned.fits() {
        return LIVE_EVERY;
    }
    tracing::warn!(bus = %meter.bus.endpoint, "{planned}");
    let [.., slowest] = SLOWER;
    SLOWER.into_iter().find(|every| load(*every).fits()).unwrap_or(slowest)
}

/// The serial line a meter is on, as far as it is known: behind a gateway it is probably set as the meter comes.
fn line_of(meter: &MeterConfig) -> Option<Line> {
    match &meter.bus.endpoint {
        Endpoint::Serial { line, .. } => Some(*line),
        Endpoint::RtuOverTcp(_) => meter.profile.bus().line,
        Endpoint::Tcp(_) => None,
    }
}

/// Reads one further meter. Its line may be that of the meter that is settled on: nothing here goes before that one's
/// reads, and a meter that fails is left alone.
struct Further {
    panel: Arc<MeterPanel>,
    place: Place,
    meter: Meter,
    watch: Watch,
    /// When its energy registers are read next; at once if `None`.
    energy_next: Option<Instant>,
    /// Why they could not be read.
    energy_failure: Option<String>,
}

impl Further {
    fn new(panel: Arc<MeterPanel>, place: Place, meter: Meter, every: Duration) -> Self {
        let (watch, energy_next, energy_failure) = (Watch::new(every), None, None);
        Self { panel, place, meter, watch, energy_next, energy_failure }
    }

    async fn run(mut self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while !self.panel.is_closed() {
            ticks.tick().await;
            if self.energy_next.is_none_or(|next| next <= Instant::now()) {
                self.read_energy().await;
            }
            self.read_power().await;
        }
    }

    async fn read_energy(&mut self) {
        let read = self.meter.read_energy_calmly(READ_DEADLINE).await;
        self.energy_next = Some(Instant::now() + if read.is_ok() { ENERGY_EVERY } else { ENERGY_AGAIN });
        match read {
            Ok(sample) => {
                self.energy_failure = None;
                self.watch.energy(&sample);
                self.panel.read_energy(self.place, &sample);
                self.panel.set_bus_load(self.place, self.meter.bus().report().load_per_mille());
            }
            Err(error) if error.is_not_asked() => {}
            Err(error) => self.energy_failure = Some(error.to_string()),
        }
    }

    async fn read_power(&mut self) {
        match self.meter.read_live(READ_DEADLINE).await {
            Ok(sample) => {
                self.watch.live(&sample);
                if self.watch.power_w(sample.middle).is_some() {
                    self.panel.read_live(self.place, &sample);
                } else {
                    self.panel.lose_power(self.place);
                }
                self.show_condition(sample.middle);
            }
            // One that was left alone for a moment, or came too late in the queue, did not fail.
            Err(error) if error.is_not_asked() && self.watch.power_w(Instant::now()).is_some() => {}
            Err(error) => self.panel.set_condition(self.place, MeterCondition::Silent, error.to_string()),
        }
    }

    /// Shows how a meter does whose power was read at `now`.
    fn show_condition(&self, now: Instant) {
        let (condition, detail) = match (self.watch.condition(now), &self.energy_failure) {
            (frozen @ Condition::Frozen(_), _) => (MeterCondition::Uncertain, frozen.to_string()),
            (_, Some(why)) => (MeterCondition::Uncertain, why.clone()),
            (_, None) => (MeterCondition::Good, String::new()),
        };
        self.panel.set_condition(self.place, condition, detail);
    }
}

#[cfg(test)]
mod tests;
