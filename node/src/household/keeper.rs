//! The loop: one turn an interval.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::{
    Ahead, Alike, Control, Decision, Devices, Did, Kind, Mind, Moment, OpenOffer, Plan, Premises, Reach,
    Roof, Seen, Settled, Standing, StopLoss, Summary, Verdict, Wishes, controls,
};
use api::AGENT_PREFIX;
use ed25519_dalek::SigningKey;
use energy::{ClockQuality, HomeId, Interval, Mtu, Timestamp, WattHours};
use ledger::{Body, EntryId, Hash32, Ledger, Order, PublicKey};
use market::ENTRIES_PER_HOUR;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::device::{Channel, Counted, Device, DeviceState};
use super::memory::{self, Records};
use super::outlook::{Outlook, terms_at};
use super::plant::{Plant, SharedPlant, Simulated, lock};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::household::{ChargerSettings, Control as Way, HouseholdSettings};
use crate::desk::{DeskError, DeskHandle, Which};
use crate::engine::{EngineHandle, Progress};
use crate::http::Live;
use crate::store::StoreError;
use crate::store::household::{Done, HouseholdDb};
use crate::zone::Zone;

/// The own reading of the interval before is awaited this long before the next is planned without it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing is traded while the last block is older than this, ms of market time: what the ledger then says of prices, orders
/// and money may be out of date.
const HEAD_AGE_MS: u64 = 600_000;
/// The same on a clock that runs faster, ms of wall time: there blocks take longer than market time allows.
const HEAD_AGE_WALL_MS: u64 = 10_000;
/// How often the clock is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Commands hold this much longer than their interval, as a part of it: a plan that comes late finds devices where it left them.
const GRACE: u64 = 3;
/// What a home is not told of its community it guesses: that one home in so many plans as it does.
const ALIKE_ONE_IN: u32 = 4;
/// The reading of an interval is waited for so many intervals, to learn from it.
const WAIT_INTERVALS: u64 = 96;
/// A vehicle of which nobody can say whether it is there comes at 18:00.
pub(super) const TRIAL_COMES: u32 = 18 * 60;
/// So many of the desk's entries are looked at: more than a home signs in the two hours in which the agent places orders.
const ENTRIES_KNOWN: u32 = ENTRIES_PER_HOUR * 4;
/// Verdicts that are shown.
const VERDICTS_SHOWN: usize = 16;

/// What was lived through and published before the node's chain began; only a demo knows such a past.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// The home's own intervals.
    pub lived: Vec<(Interval, Seen)>,
    /// What was settled.
    pub settled: Vec<Settled>,
}

/// Devices that are simulated beside a real meter: the meter sees nothing of what they do.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The devices.
    pub plant: SharedPlant,
    /// Those that are told what to do as if they were there; the others are only planned for.
    pub commanded: BTreeSet<Kind>,
    /// The vehicle's days, where there is a charger.
    pub vehicle: Option<TrialVehicle>,
}

/// A vehicle that comes and leaves at the same time every day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialVehicle {
    /// What it needs when it comes.
    pub needed: WattHours,
    /// Local time at which it comes, minutes since midnight.
    pub comes: u32,
    /// Local time at which it must be ready, minutes since midnight.
    pub ready_by: u32,
}

/// What a household's agent is started with.
pub struct HouseholdSetup {
    /// The devices.
    pub devices: Devices,
    /// What the household wants.
    pub wishes: Wishes,
    /// Its solar panels.
    pub roof: Option<Roof>,
    /// How many homes plan as it does, if that is known.
    pub alike: Option<Alike>,
    /// Where the home's clocks are.
    pub zone: Zone,
    /// Devices behind the home's meter that it controls.
    pub controlled: Vec<Box<dyn Device>>,
    /// Devices that are not there; then none is controlled.
    pub trial: Option<Trial>,
    /// What was before the chain.
    pub past: Past,
}

impl HouseholdSetup {
    /// What a home's configuration says; `None` where it names no device.
    #[must_use]
    pub fn of(config: &Config, mtu: Mtu, clock: &Arc<dyn Clock>) -> Option<Self> {
        let settings = &config.household;
        let devices = settings.devices(mtu);
        if devices.is_empty() {
            return None;
        }
        let empty = devices.battery.map_or(WattHours::ZERO, |battery| battery.reserve);
        let standing = Standing { battery: empty, ..Standing::default() };
        let controls = [
            (Kind::Battery, settings.battery.as_ref().map(|battery| battery.control)),
            (Kind::Charger, settings.charger.as_ref().map(|charger| charger.control)),
            (Kind::Heat, settings.heat.as_ref().map(|heat| heat.control)),
        ];
        let controlled = controlled(settings, mtu, config.zone, clock);
        let simulated = |control: &Option<Way>| *control == Some(Way::Simulated);
        let commanded = controls.iter().filter(|(_, control)| simulated(control)).map(|(kind, _)| *kind);
        let trial = Trial {
            plant: Arc::new(Mutex::new(Plant::new(devices, standing, mtu))),
            commanded: commanded.collect(),
            vehicle: settings.charger.as_ref().map(TrialVehicle::of),
        };
        Some(Self {
            devices,
            wishes: settings.wishes,
            roof: config.pv.map(|pv| Roof { peak_w: pv.peak_w, site: None }),
            alike: None,
            zone: config.zone,
            // All devices are controlled or none is.
            trial: controlled.is_empty().then_some(trial),
            controlled,
            past: Past::default(),
        })
    }
}

/// The devices that are really there and controlled.
#[cfg(feature = "control-modbus")]
fn controlled(
    settings: &HouseholdSettings,
    mtu: Mtu,
    zone: Zone,
    clock: &Arc<dyn Clock>,
) -> Vec<Box<dyn Device>> {
    super::modbus::devices(settings, mtu, zone, clock)
}

/// None: this program cannot write to devices, and a configuration that asks for it was refused.
#[cfg(not(feature = "control-modbus"))]
fn controlled(_: &HouseholdSettings, _: Mtu, _: Zone, _: &Arc<dyn Clock>) -> Vec<Box<dyn Device>> {
    Vec::new()
}

/// What of the node the agent works with.
pub struct HouseholdParts {
    /// Its home.
    pub home: HomeId,
    /// The member key: signs commands.
    pub key: SigningKey,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Knows the ledger.
    pub engine: EngineHandle,
    /// Tells of every final block.
    pub progress: watch::Receiver<Progress>,
    /// Signs orders.
    pub desk: DeskHandle,
    /// Path of `ledger.db`.
    pub database: PathBuf,
    /// `household.db`.
    pub store: HouseholdDb,
    /// Knows whether the node is fetching blocks.
    pub live: Arc<Live>,
    /// The ledger as the node starts.
    pub ledger: Ledger,
}

/// What the agent shows of its last turn.
#[derive(Debug, Clone)]
pub struct View {
    /// The interval that it planned last, which is the plan's first.
    pub interval: Interval,
    /// What the household wants.
    pub wishes: Wishes,
    /// The devices.
    pub devices: Devices,
    /// True if the devices are not there, or not controlled.
    pub trial: bool,
    /// How the devices stood.
    pub standing: Standing,
    /// What they do in the coming 48 hours.
    pub plan: Plan,
    /// What the plan was made for.
    pub ahead: Vec<Ahead>,
    /// How much neighbours are expected to exchange with the home.
    pub reach: Vec<Reach>,
    /// Whole days of history that forecasts are made of.
    pub days: u32,
    /// How far forecasts were off.
    pub errors: Summary,
    /// What forward trading brought this month.
    pub stop_loss: StopLoss,
    /// Whether devices are left to themselves until the month ends, because the home was behind what it would have been without an
    /// agent.
    pub rests: bool,
    /// Whether there is forward trading for this home.
    pub trading: bool,
    /// Open orders, as the turn began.
    pub open: Vec<OpenOffer>,
    /// What became of the newest commands, newest first.
    pub verdicts: Vec<Verdict>,
    /// What went wrong in that turn, in words.
    pub troubles: Vec<String>,
}

/// The way to a household's agent.
#[derive(Debug)]
pub struct HouseholdHandle {
    view: watch::Receiver<Option<Arc<View>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl HouseholdHandle {
    /// What it shows; `None` before the first turn.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.view.clone()
    }

    /// Ends as a kill would: devices are left with what they were told.
    #[cfg(test)]
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Leaves the devices to themselves and ends.
    pub async fn stop(self) {
        // The receiver is gone only if the task has ended already.
        let _ = self.stop.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the household's agent did not end cleanly");
        }
    }
}

/// Starts the agent of a household.
///
/// # Errors
/// [`StoreError`]: what devices did cannot be read.
pub async fn start(setup: HouseholdSetup, parts: HouseholdParts) -> Result<HouseholdHandle, StoreError> {
    let keeper = Keeper::open(setup, parts).await?;
    let (sender, view) = watch::channel(None);
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(keeper.run(sender, stopped));
    Ok(HouseholdHandle { view, stop, task })
}

struct Keeper {
    parts: HouseholdParts,
    mtu: Mtu,
    zone: Zone,
    /// All devices, also those that do not answer.
    devices: Devices,
    mind: Mind,
    records: Records,
    channels: Vec<Channel>,
    trial: Option<Trial>,
    /// How the devices stood last, for those that do not answer.
    standing: Standing,
    /// What had passed the devices as an interval began.
    counted: Option<(Interval, Passed)>,
    /// What devices did in intervals whose reading is not known yet.
    waiting: BTreeMap<Timestamp, Done>,
    next_settled: Interval,
    /// True while nobody knows what time it is: devices are left to themselves.
    timeless: bool,
    verdicts: Vec<Verdict>,
    troubles: Vec<String>,
}

/// What had passed each device at an instant, and how far heat was ahead.
#[derive(Debug, Clone, Default)]
struct Passed {
    counted: BTreeMap<Kind, Counted>,
    heat_ahead: WattHours,
    /// What devices were told then: taken for what they did, where they do not count.
    told: BTreeMap<Kind, Control>,
    curtailed: bool,
}

impl Keeper {
    async fn open(setup: HouseholdSetup, parts: HouseholdParts) -> Result<Self, StoreError> {
        let mtu = parts.ledger.genesis_terms().mtu;
        let HouseholdSetup { devices, wishes, roof, alike, zone, controlled, trial, past } = setup;
        let guessed = u32::try_from(parts.ledger.members().len()).unwrap_or(u32::MAX) / ALIKE_ONE_IN;
        let alike = alike.unwrap_or(Alike { taking: guessed.max(1), giving: guessed.max(1) });
        let taste = taste_of(&parts.home);
        let mut mind = Mind::new(Premises { mtu, devices, wishes, roof, alike, taste });
        remember(&mut mind, &past, zone);
        let mut records = Records::new(&parts.database, &parts.home, mtu);
        let done: BTreeMap<_, _> = parts.store.done()?.into_iter().collect();
        let stood = parts.store.stood(mtu)?;
        let now = parts.clock.market();
        let (ledger, home) = (parts.ledger.clone(), parts.home.clone());
        let recollected = tokio::task::spawn_blocking(move || {
            let terms = |interval, tariff| terms_at(&ledger, &home, interval, tariff);
            let since = memory::recollect(&mut mind, &mut records, (&done, &stood), (now, zone), terms);
            let since = since.unwrap_or_else(|error| {
                tracing::warn!(%error, "the ledger database does not tell the agent of the past");
                None
            });
            // What was done in intervals whose reading was not final yet is taken in when it is.
            let history = mind.forecaster().history();
            let known = |start| history.at(Interval::containing(start, mtu)).is_some();
            let yesterday = now.minus_ms(WAIT_INTERVALS * mtu.ms());
            let waiting: BTreeMap<_, _> =
                done.into_iter().filter(|(start, _)| *start >= yesterday && !known(*start)).collect();
            (mind, records, since, waiting)
        });
        let (mind, records, since, waiting) = match recollected.await {
            Ok(recollected) => recollected,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let signer = PublicKey::of(&parts.key);
        let commanded = trial.iter().flat_map(|trial| {
            let all = Simulated::all(&trial.plant).into_iter();
            all.filter(|device| trial.commanded.contains(&device.kind()))
        });
        let commanded = commanded.map(|device| Box::new(device) as Box<dyn Device>);
        let channels = controlled.into_iter().chain(commanded);
        let channels = channels.map(|device| Channel::open(device, &parts.home, signer, &parts.store));
        let empty = devices.battery.map_or(WattHours::ZERO, |battery| battery.reserve);
        Ok(Self {
            channels: channels.collect::<Result<_, _>>()?,
            next_settled: since.unwrap_or_else(|| Interval::containing(now.minus_ms(4 * mtu.ms()), mtu)),
            parts,
            mtu,
            zone,
            devices,
            mind,
            records,
            trial,
            standing: Standing { battery: empty, ..Standing::default() },
            counted: None,
            waiting,
            timeless: false,
            verdicts: Vec::new(),
            troubles: Vec::new(),
        })
    }

    async fn run(mut self, view: watch::Sender<Option<Arc<View>>>, mut stopped: oneshot::Receiver<()>) {
        let mut begun: Option<(Interval, Instant)> = None;
        let mut planned: Option<Interval> = None;
        loop {
            if self.knows_time().await {
                let interval = Interval::containing(self.parts.clock.market(), self.mtu);
                if begun.is_none_or(|(known, _)| known != interval) {
                    let is_whole = begun.is_some();
                    begun = Some((interval, Instant::now()));
                    self.begin(interval, is_whole).await;
                }
                let patient = begun.is_some_and(|(_, since)| since.elapsed() < PATIENCE);
                if planned != Some(interval)
                    && (self.is_read(interval) || !patient)
                    && let Some(shown) = self.turn(interval).await
                {
                    planned = Some(interval);
                    view.send_replace(Some(Arc::new(shown)));
                }
                self.settle_channels().await;
            } else if begun.take().is_some() {
                // What was planned was for a time that was none.
                planned = None;
                self.counted = None;
                view.send_replace(None);
            }
            tokio::select! {
                _ = &mut stopped => break,
                changed = self.parts.progress.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        self.release().await;
    }

    /// Whether the clock can be trusted. While it cannot, nothing is planned or traded, and devices are left to themselves: the
    /// ends of their commands mean nothing then.
    async fn knows_time(&mut self) -> bool {
        let timeless = self.parts.clock.quality() == ClockQuality::Unsynced;
        if timeless && !self.timeless {
            tracing::warn!("the clock is not synchronised; devices are left to themselves until it is");
            self.release().await;
        }
        self.timeless = timeless;
        !timeless
    }

    /// Leaves every device to itself.
    async fn release(&mut self) {
        for channel in &mut self.channels {
            if let Err(error) = channel.release().await {
                tracing::warn!(%error, "a device could not be left to itself; its command ends by itself");
            }
        }
    }

    /// Whether the ledger is up to date: a node that is behind plans, but what it would order may be wrong.
    fn is_current(&self, ledger: &Ledger) -> bool {
        let clock = &self.parts.clock;
        let allowed = HEAD_AGE_MS.max(HEAD_AGE_WALL_MS.saturating_mul(u64::from(clock.speed())));
        clock.market().ms_since(ledger.head_time()) <= allowed && !self.parts.live.snapshot().syncing
    }

    /// True once the own reading of the interval before is final.
    fn is_read(&self, interval: Interval) -> bool {
        self.parts.progress.borrow().read_until >= interval.index()
    }

    /// Looks at the devices as an interval begins. One that was under way when the node started is not counted: what passed a
    /// device in a part of it says nothing about the whole. Devices that are only simulated have nothing to be counted.
    async fn begin(&mut self, interval: Interval, is_whole: bool) {
        if !is_whole && self.trial.is_none() {
            return;
        }
        let passed = self.passed().await;
        if let Some((before, then)) = self.counted.replace((interval, passed.clone()))
            && Some(before) == interval.previous()
        {
            let done = if self.trial.is_some() { Done::default() } else { self.done_between(&then, &passed) };
            if let Err(error) = self.parts.store.record(before, &done) {
                self.trouble("what devices did cannot be kept", &error);
            }
            self.waiting.insert(before.start(), done);
        }
    }

    async fn passed(&mut self) -> Passed {
        let mut passed = Passed::default();
        for channel in &mut self.channels {
            let kind = channel.kind();
            match channel.counted().await {
                Ok(Some(counted)) => drop(passed.counted.insert(kind, counted)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "what passed a device is not known"),
            }
            if let Some(control) = channel.told() {
                passed.told.insert(kind, control);
                passed.curtailed |= matches!(control, Control::PvLimit(_) | Control::ExportLimit(_));
            }
            if let Ok(DeviceState::Heat { ahead }) = channel.state().await {
                passed.heat_ahead = ahead;
            }
        }
        passed
    }

    fn done_between(&self, then: &Passed, now: &Passed) -> Done {
        let passed = |kind| match (then.counted.get(&kind), now.counted.get(&kind)) {
            (Some(then), Some(now)) if self.is_possible(kind, &now.since(then)) => now.since(then),
            _ => self.as_told(now.told.get(&kind)),
        };
        let (battery, heat) = (passed(Kind::Battery), passed(Kind::Heat).taken);
        // What heat took, less what that put ahead of need.
        let need = heat.get().saturating_add(then.heat_ahead.get()).saturating_sub(now.heat_ahead.get());
        let counts = now.counted.contains_key(&Kind::Inverter) && then.counted.contains_key(&Kind::Inverter);
        Done {
            did: Did {
                charge: battery.taken,
                discharge: battery.given,
                vehicle: passed(Kind::Charger).taken,
                heat,
                curtailed: now.curtailed,
            },
            heat_need: WattHours::new(need),
            pv: counts.then(|| passed(Kind::Inverter).given),
        }
    }

    /// Whether so much can have passed a device in one interval: a register that leapt says nothing. Twice the rating leaves
    /// room for counters that move in steps.
    fn is_possible(&self, kind: Kind, counted: &Counted) -> bool {
        let of = |most: Option<WattHours>| most.map_or(u64::MAX, |most| most.get().saturating_mul(2));
        let (taken, given) = match kind {
            Kind::Battery => {
                let battery = self.devices.battery;
                (of(battery.map(|battery| battery.charge)), of(battery.map(|battery| battery.discharge)))
            }
            Kind::Charger => (of(self.devices.charger.map(|charger| charger.power)), u64::MAX),
            Kind::Heat => (of(self.devices.heat.map(|heat| heat.power)), u64::MAX),
            Kind::Inverter => (u64::MAX, u64::MAX),
        };
        counted.taken.get() <= taken && counted.given.get() <= given
    }

    /// What a device that does not count is taken to have done.
    fn as_told(&self, told: Option<&Control>) -> Counted {
        let energy = |watts: u32| WattHours::new(u64::from(watts) * u64::from(self.mtu.minutes()) / 60);
        match told {
            Some(Control::Charge(watts) | Control::ChargeAtLeast(watts) | Control::ChargeAtMost(watts))
            | Some(Control::Vehicle(watts) | Control::Heat(watts)) => {
                Counted { taken: energy(*watts), given: WattHours::ZERO }
            }
            Some(
                Control::Discharge(watts)
                | Control::DischargeAtLeast(watts)
                | Control::DischargeAtMost(watts),
            ) => Counted { taken: WattHours::ZERO, given: energy(*watts) },
            _ => Counted::default(),
        }
    }

    /// Plans an interval; `None` if the engine is gone.
    async fn turn(&mut self, interval: Interval) -> Option<View> {
        let ledger = self.parts.engine.ledger().await?;
        self.take_in(interval, &ledger);
        self.look_at_devices().await;
        let kept = match self.parts.desk.entries(Which::Newest(ENTRIES_KNOWN)).await {
            Ok(kept) => kept,
            Err(error) => {
                self.trouble("the order desk does not answer", &error);
                Vec::new()
            }
        };
        let current = self.is_current(&ledger);
        if !current {
            self.troubles.push("the ledger is not up to date here; nothing is traded until it is".to_owned());
        }
        let trades = self.trial.is_none() && current;
        let outlook = Outlook::of(&ledger, &self.parts.home, interval, &kept, trades);
        let standing = self.standing;
        self.note_standing(interval, &standing);
        let decision = self.mind.decide(&Moment {
            now: self.parts.clock.market(),
            interval,
            local: memory::local_at(self.zone, interval.start()),
            standing: &standing,
            terms: &outlook.terms,
            connection: &outlook.connection,
            bands: &outlook.bands,
            account: outlook.account.as_ref(),
            open: &outlook.open,
        });
        let cap = ledger.connection_cap(&self.parts.home, interval).map(|cap| cap.export);
        self.command(interval, &decision, cap).await;
        self.trade(interval, &decision).await;
        Some(self.view(interval, outlook, decision))
    }

    /// Takes in what was read and settled since the last turn.
    fn take_in(&mut self, interval: Interval, ledger: &Ledger) {
        let oldest = self.waiting.keys().next().map(|start| Interval::containing(*start, self.mtu));
        match oldest.map(|oldest| self.records.metered(oldest)) {
            None => {}
            Some(Err(error)) => self.trouble("the own readings cannot be read", &error),
            Some(Ok(metered)) => {
                for (read, import, export) in metered {
                    let Some(done) = self.waiting.remove(&read.start()) else { continue };
                    let local = memory::local_at(self.zone, read.start());
                    self.mind.lived(read, &memory::seen(import, export, &done), &local);
                    self.live_beside(read, import, export);
                }
            }
        }
        // A reading that never came is waited for no longer than its settlement.
        let forgotten = interval.start().minus_ms(WAIT_INTERVALS * self.mtu.ms());
        self.waiting.retain(|start, _| *start >= forgotten);
        let home = &self.parts.home;
        let terms = |interval, tariff| terms_at(ledger, home, interval, tariff);
        match self.records.settled(self.next_settled) {
            Err(error) => self.trouble("what was settled cannot be read", &error),
            Ok(settled) => {
                for settled in &settled {
                    memory::take_in(&mut self.mind, settled, self.zone, terms);
                    self.next_settled = settled.interval.next();
                }
            }
        }
    }

    /// Lets simulated devices live through an interval of the real home.
    fn live_beside(&mut self, interval: Interval, import: WattHours, export: WattHours) {
        let Some(trial) = &self.trial else { return };
        let mut plant = lock(&trial.plant);
        let heat = plant.usual_heat();
        plant.live(sim::home::Given { load: import, pv: export, heat });
        if let Some(vehicle) = &trial.vehicle {
            vehicle.come_and_leave(&mut plant, interval.next(), self.zone);
        }
    }

    /// Looks how the devices stand. One that does not answer is left out of the plan until it does: what nobody knows the state
    /// of, or can tell anything, must not be counted on.
    async fn look_at_devices(&mut self) {
        if let Some(trial) = &self.trial {
            self.standing = lock(&trial.plant).standing;
            return;
        }
        let (mut troubles, mut devices) = (Vec::new(), self.devices);
        for channel in &mut self.channels {
            match channel.state().await {
                Ok(DeviceState::Battery { stored }) => self.standing.battery = stored,
                Ok(DeviceState::Charger { session }) => self.standing.session = session,
                Ok(DeviceState::Heat { ahead }) => self.standing.heat = ahead,
                Ok(DeviceState::Inverter) => {}
                Err(error) => {
                    leave_out(&mut devices, channel.kind());
                    tracing::warn!(home = %self.parts.home, %error, "the plan goes on without a device");
                    troubles.push(format!("{error}; the plan goes on without it"));
                }
            }
        }
        self.troubles.extend(troubles);
        self.mind.plan_with(devices);
    }

    /// Remembers how the devices stand as an interval begins, so that the agent can say what the home would have paid without it.
    /// Devices that are only simulated move no meter: there is nothing to compare.
    fn note_standing(&mut self, interval: Interval, standing: &Standing) {
        if self.trial.is_some() {
            return;
        }
        self.mind.stood(interval, standing, &memory::local_at(self.zone, interval.start()));
        if let Err(error) = self.parts.store.stand(interval, standing) {
            self.trouble("how devices stood cannot be kept", &error);
        }
    }

    /// Tells every device its part of the plan's first step; while the agent rests, to do as without it. `cap` is what the operator
    /// lets the connection give; that holds either way.
    async fn command(&mut self, interval: Interval, decision: &Decision, cap: Option<WattHours>) {
        let Some(step) = decision.plan.steps.first() else { return };
        let expires = interval.end().plus_ms(self.mtu.ms() / GRACE);
        for control in controls(step, &self.mind.premises().devices, self.mtu, cap) {
            let capped = cap.is_some() && control.kind() == Kind::Inverter;
            let control = if decision.rests && !capped { Control::Release(control.kind()) } else { control };
            if let Some(trial) = &self.trial
                && !trial.commanded.contains(&control.kind())
            {
                lock(&trial.plant).tell(control);
                continue;
            }
            let Some(channel) = self.channels.iter_mut().find(|channel| channel.kind() == control.kind())
            else {
                continue;
            };
            let now = self.parts.clock.market();
            let signed = channel.command(control, expires, &self.parts.key);
            match channel.hear(&signed, now, &mut self.parts.store).await {
                Ok(verdict) => self.verdicts.insert(0, verdict),
                Err(error) => self.troubles.push(error.to_string()),
            }
        }
        self.verdicts.truncate(VERDICTS_SHOWN);
    }

    /// Has the desk sign what is to be traded. A turn that is made again after a kill names the same requests.
    async fn trade(&mut self, interval: Interval, decision: &Decision) {
        for action in &decision.actions {
            let (request, body) = request_of(&self.parts.home, interval, action);
            match self.parts.desk.sign(request, body).await {
                Ok(_) | Err(DeskError::OrderPending { .. } | DeskError::RequestUsed { .. }) => {}
                Err(error) => self.trouble("an order was not signed", &error),
            }
        }
    }

    fn view(&mut self, interval: Interval, outlook: Outlook, decision: Decision) -> View {
        View {
            interval,
            wishes: self.mind.premises().wishes,
            devices: self.devices,
            trial: self.trial.is_some(),
            standing: self.standing,
            plan: decision.plan,
            ahead: decision.ahead,
            reach: decision.reach,
            days: decision.days,
            errors: self.mind.forecaster().errors().summary(),
            stop_loss: *self.mind.stop_loss(),
            rests: self
                .mind
                .guard()
                .rests(memory::local_at(self.zone, interval.start()).month(interval.start())),
            trading: outlook.account.is_some(),
            open: outlook.open,
            verdicts: self.verdicts.clone(),
            troubles: std::mem::take(&mut self.troubles),
        }
    }

    /// Devices whose command has ended fall back.
    async fn settle_channels(&mut self) {
        let now = self.parts.clock.market();
        for channel in &mut self.channels {
            match channel.settle(now).await {
                // One line says it: it is told again and again.
                Err(error) if channel.failures() == 1 => {
                    tracing::warn!(%error, "a device does not do what it was told; it is told again");
                }
                Err(error) => tracing::debug!(%error, "a device still does not do what it was told"),
                Ok(()) => {}
            }
        }
    }

    fn trouble(&mut self, what: &str, error: &(dyn std::error::Error + 'static)) {
        tracing::warn!(home = %self.parts.home, error, "{what}");
        self.troubles.push(format!("{what}: {error}"));
    }
}

/// Fills an agent with what was before the chain.
fn remember(mind: &mut Mind, past: &Past, zone: Zone) {
    for settled in &past.settled {
        if let Err(error) = mind.settled(settled, &memory::local_at(zone, settled.interval.start())) {
            tracing::error!(%error, "what was before the chain cannot be counted");
        }
    }
    for (interval, seen) in &past.lived {
        let local = memory::local_at(zone, interval.start());
        mind.recall(*interval, &local);
        mind.lived(*interval, seen, &local);
    }
}

/// Takes a device out of a plan.
const fn leave_out(devices: &mut Devices, kind: Kind) {
    match kind {
        Kind::Battery => devices.battery = None,
        Kind::Charger => devices.charger = None,
        Kind::Heat => devices.heat = None,
        Kind::Inverter => devices.curtailable = false,
    }
}

/// A number of the home's own.
fn taste_of(home: &HomeId) -> u64 {
    let hash = Hash32::of(&[b"commonwatt/taste/v1", home.as_str().as_bytes()]);
    hash.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The name and the content of an entry that the agent wants signed in the turn of an interval.
fn request_of(home: &HomeId, turn: Interval, action: &agent::Action) -> (String, Body) {
    let (home, turn) = (home.clone(), turn.index());
    match *action {
        agent::Action::Place { interval, side, price, quantity, replaces } => {
            let replaces = replaces.map(|id| EntryId(Hash32(id)));
            let request = format!("{AGENT_PREFIX}{turn}-{}-{}", interval.index(), side_word(side));
            (request, Body::Order(Order { home, interval, side, price, quantity, replaces }))
        }
        agent::Action::Cancel { id } => {
            let order = EntryId(Hash32(id));
            let name: String = order.0.hex().chars().take(16).collect();
            (format!("{AGENT_PREFIX}{turn}-cancel-{name}"), Body::Cancel { home, order })
        }
    }
}

const fn side_word(side: market::Side) -> &'static str {
    match side {
        market::Side::Buy => "buy",
        market::Side::Sell => "sell",
    }
}

impl TrialVehicle {
    /// It comes with its minimum and wants its target.
    fn of(charger: &ChargerSettings) -> Self {
        let percent = charger.target_percent.saturating_sub(charger.minimum_percent);
        Self {
            needed: WattHours::new(charger.capacity.get() * u64::from(percent) / 100),
            comes: TRIAL_COMES,
            ready_by: charger.ready_by.minutes,
        }
    }

    /// Lets the vehicle come or leave as `interval` begins.
    fn come_and_leave(&self, plant: &mut Plant, interval: Interval, zone: Zone) {
        plant.standing.session.take_if(|session| session.deadline <= interval);
        let per_interval = interval.mtu().minutes();
        let comes = zone.minute(interval.start()) / per_interval == self.comes / per_interval;
        if comes && plant.standing.session.is_none() {
            let ready_by = zone.next_at(self.ready_by, interval.start());
            let deadline = Interval::containing(ready_by, interval.mtu()).max(interval.next());
            plant.standing.session =
                Some(agent::Session { needed: self.needed, minimum: WattHours::ZERO, deadline });
        }
    }
}

#[cfg(test)]
mod tests {
    use agent::Charger;

    use super::*;

    /// How long a vehicle that comes at 18:00 on this day may stay, in quarter-hours; and when it must be ready.
    fn stay(zone: &str, comes: &str) -> (u64, String) {
        let zone = Zone::parse(zone).unwrap();
        let vehicle = TrialVehicle { needed: WattHours::new(8_000), comes: TRIAL_COMES, ready_by: 7 * 60 };
        let charger = Some(Charger { power: WattHours::new(2_750) });
        let devices = Devices { charger, ..Devices::default() };
        let mut plant = Plant::new(devices, Standing::default(), Mtu::Min15);
        let interval = Interval::parse(comes, Mtu::Min15).unwrap();
        vehicle.come_and_leave(&mut plant, interval.previous().unwrap(), zone);
        assert_eq!(plant.standing.session, None, "not before it comes");
        vehicle.come_and_leave(&mut plant, interval, zone);
        let deadline = plant.standing.session.unwrap().deadline;
        vehicle.come_and_leave(&mut plant, deadline, zone);
        assert_eq!(plant.standing.session, None, "it has left");
        (deadline.index() - interval.index(), zone.rfc3339(deadline.start()))
    }

    #[test]
    fn a_vehicle_must_be_ready_by_the_clocks_of_the_home_also_when_they_change() {
        let hours = |hours: u64, ready: &str| (hours * 4, ready.to_owned());
        let vienna = |comes| stay("Europe/Vienna", comes);
        assert_eq!(vienna("2026-07-14T16:00:00Z"), hours(13, "2026-07-15T07:00:00+02:00"));
        assert_eq!(vienna("2026-03-28T17:00:00Z"), hours(12, "2026-03-29T07:00:00+02:00"));
        assert_eq!(vienna("2026-10-24T16:00:00Z"), hours(14, "2026-10-25T07:00:00+01:00"));
        assert_eq!(stay("+01:00", "2026-03-28T17:00:00Z"), hours(13, "2026-03-29T07:00:00+01:00"));
    }
}
