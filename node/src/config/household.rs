//! What the household wants and which of its devices the node may control: `[household]` and `[device.*]`.

use agent::{Battery, Charger, Devices, Goal, Heat, Kind, Wishes};
use energy::{Mtu, Price, WattHours};
use toml::de::DeValue;

use super::control::{self, ModbusSettings};
use super::document::Section;
use super::value::{FromToml, Mismatch, words};

/// No device of a home has more power, W: three phases of 63 A.
const POWER_MAX_W: u64 = 45_000;
/// No device of a home stores more, Wh.
const STORE_MAX_WH: u64 = 1_000_000;

/// Everything the agent of this home is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HouseholdSettings {
    /// Goal and price limits.
    pub wishes: Wishes,
    /// The battery.
    pub battery: Option<BatterySettings>,
    /// The charger.
    pub charger: Option<ChargerSettings>,
    /// Heat pump or boiler.
    pub heat: Option<HeatSettings>,
}

impl HouseholdSettings {
    /// The devices as the agent sees them in intervals of `mtu`.
    #[must_use]
    pub fn devices(&self, mtu: Mtu) -> Devices {
        Devices {
            battery: self.battery.as_ref().map(|battery| battery.battery(mtu)),
            charger: self
                .charger
                .as_ref()
                .map(|charger| Charger { power: in_interval(charger.power_w, mtu) }),
            heat: self
                .heat
                .as_ref()
                .map(|heat| Heat { power: in_interval(heat.power_w, mtu), store: heat.store }),
            curtailable: false,
        }
    }
}

/// The energy of constant power over one interval, floored.
fn in_interval(power_w: u64, mtu: Mtu) -> WattHours {
    WattHours::new(power_w * u64::from(mtu.minutes()) / 60)
}

/// How a device is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Control {
    /// Not at all: plans are shown, nobody carries them out.
    #[default]
    None,
    /// A simulated one, for trying things out.
    Simulated,
    /// Over Modbus; the program must be built with the feature `control-modbus`.
    Modbus,
}

impl Control {
    const WORDS: [(&'static str, Self); 3] =
        [("none", Self::None), ("simulated", Self::Simulated), ("modbus", Self::Modbus)];
}

/// A battery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatterySettings {
    /// How it is reached.
    pub control: Control,
    /// Where it is and what its registers mean, if that is said.
    pub modbus: Option<ModbusSettings>,
    /// What it stores when full.
    pub capacity: WattHours,
    /// The most it takes, W.
    pub charge_w: u64,
    /// The most it gives, W.
    pub discharge_w: u64,
    /// Of what goes in, so much comes out again, percent.
    pub efficiency_percent: u32,
    /// The plan never goes below so much of the capacity, percent.
    pub reserve_percent: u32,
    /// What a kWh that it gives costs in wear.
    pub wear: Price,
}

impl BatterySettings {
    fn battery(&self, mtu: Mtu) -> Battery {
        Battery {
            capacity: self.capacity,
            charge: in_interval(self.charge_w, mtu),
            discharge: in_interval(self.discharge_w, mtu),
            efficiency_permille: self.efficiency_percent * 10,
            reserve: WattHours::new(self.capacity.get() * u64::from(self.reserve_percent) / 100),
            wear: self.wear,
        }
    }
}

/// A charger with the vehicle that is usually at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargerSettings {
    /// How it is reached.
    pub control: Control,
    /// Where it is and what its registers mean, if that is said.
    pub modbus: Option<ModbusSettings>,
    /// The most it gives, W.
    pub power_w: u64,
    /// What the vehicle stores when full.
    pub capacity: WattHours,
    /// So much is charged at once, whatever it costs, percent.
    pub minimum_percent: u32,
    /// So much is wanted by `ready_by`, percent.
    pub target_percent: u32,
    /// When it must be ready, by the clocks of the home.
    pub ready_by: TimeOfDay,
}

/// A heat pump or boiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeatSettings {
    /// How it is reached.
    pub control: Control,
    /// Where it is and what its registers mean, if that is said.
    pub modbus: Option<ModbusSettings>,
    /// The most it takes, W.
    pub power_w: u64,
    /// How far it may run ahead of need, in Wh of its own electricity.
    pub store: WattHours,
}

/// A time of day by the clocks of the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay {
    /// Minutes since midnight, below 1 440.
    pub minutes: u32,
}

impl FromToml for TimeOfDay {
    fn expected() -> String {
        "a time of day such as \"07:00\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = value.as_str().ok_or(Mismatch::Type)?;
        let parts = text.split_once(':').and_then(|(hours, minutes)| {
            let two = |digits: &str| (digits.len() == 2).then(|| digits.parse::<u32>().ok()).flatten();
            Some((two(hours)?, two(minutes)?))
        });
        match parts {
            Some((hours, minutes)) if hours < 24 && minutes < 60 => {
                Ok(Self { minutes: hours * 60 + minutes })
            }
            _ => Err(Mismatch::Value(format!("{text:?} is no time of day"))),
        }
    }
}

words! {
    Goal: "one of", GOALS;
    Control: "one of", Self::WORDS;
}

/// Every goal with its word in the configuration.
pub const GOALS: [(&str, Goal); 3] = [
    ("save-money", Goal::SaveMoney),
    ("stay-green", Goal::StayGreen),
    ("stay-independent", Goal::StayIndependent),
];

/// Reads `[household]` and `[device]`; `None` if there was a fault.
pub(super) fn read(top: &Section<'_>) -> Option<HouseholdSettings> {
    let wishes = top.section("household").map(|section| read_wishes(&section)).unwrap_or_default();
    let Some(devices) = top.section("device") else {
        return Some(HouseholdSettings { wishes, ..HouseholdSettings::default() });
    };
    let battery = devices.section("battery").map(|section| read_battery(&section));
    let charger = devices.section("charger").map(|section| read_charger(&section));
    let heat = devices.section("heat").map(|section| read_heat(&section));
    let (battery, charger, heat) = (super::swap(battery)?, super::swap(charger)?, super::swap(heat)?);
    let settings = HouseholdSettings { wishes, battery, charger, heat };
    check_all_or_none(&devices, &settings);
    Some(settings)
}

fn read_wishes(section: &Section<'_>) -> Wishes {
    Wishes {
        goal: section.or("goal", Goal::default()),
        max_buy: section.optional("max_buy"),
        min_sell: section.optional("min_sell"),
    }
}

fn read_battery(section: &Section<'_>) -> Option<BatterySettings> {
    let (control, modbus) = read_control(section, Kind::Battery);
    let capacity = stored(section, "capacity_wh");
    let charge_w = power(section, "charge_w");
    let discharge_w = power(section, "discharge_w");
    let efficiency_percent = section.within("efficiency_percent", 90, 1..=100);
    let reserve_percent = section.within("reserve_percent", 10, 0..=100);
    let wear = section.or("wear", Price::new(20_000));
    if wear < Price::ZERO {
        section.fault("wear", "wear is below zero".to_owned(), "expected µ/kWh, 0 or more", None);
    }
    Some(BatterySettings {
        control,
        modbus,
        capacity: capacity?,
        charge_w: charge_w?,
        discharge_w: discharge_w?,
        efficiency_percent,
        reserve_percent,
        wear,
    })
}

fn read_charger(section: &Section<'_>) -> Option<ChargerSettings> {
    let (control, modbus) = read_control(section, Kind::Charger);
    let power_w = power(section, "power_w");
    let capacity = stored(section, "capacity_wh");
    let minimum_percent = section.within("minimum_percent", 20, 0..=100);
    let target_percent = section.within("target_percent", 80, 0..=100);
    let ready_by = section.or("ready_by", TimeOfDay { minutes: 7 * 60 });
    if minimum_percent > target_percent {
        let title = format!("minimum_percent is {minimum_percent}, above target_percent, {target_percent}");
        section.fault("minimum_percent", title, "expected at most target_percent", None);
    }
    let (power_w, capacity) = (power_w?, capacity?);
    Some(ChargerSettings { control, modbus, power_w, capacity, minimum_percent, target_percent, ready_by })
}

fn read_heat(section: &Section<'_>) -> Option<HeatSettings> {
    let (control, modbus) = read_control(section, Kind::Heat);
    let (power_w, store) = (power(section, "power_w"), stored(section, "store_wh"));
    Some(HeatSettings { control, modbus, power_w: power_w?, store: store? })
}

/// How the device is reached; a way that this program does not have is a fault. What the file says about its registers is
/// checked also while it is not used.
fn read_control(section: &Section<'_>, kind: Kind) -> (Control, Option<ModbusSettings>) {
    let control = section.or("control", Control::None);
    if control == Control::Modbus && !cfg!(feature = "control-modbus") {
        let title = "this program was built without the control of devices over Modbus".to_owned();
        let help = "build it with `--features control-modbus`, or write control = \"none\"".to_owned();
        section.fault("control", title, "not in this program", Some(help));
    }
    let modbus = match control {
        Control::Modbus => section.required_section("modbus"),
        Control::None | Control::Simulated => section.section("modbus"),
    };
    (control, modbus.and_then(|section| control::read(&section, kind)))
}

/// A plan is one for all devices, and nothing may be traded for one that nobody controls: so all are, or none is.
fn check_all_or_none(devices: &Section<'_>, settings: &HouseholdSettings) {
    let ways = [
        ("battery", settings.battery.as_ref().map(|battery| battery.control)),
        ("charger", settings.charger.as_ref().map(|charger| charger.control)),
        ("heat", settings.heat.as_ref().map(|heat| heat.control)),
    ];
    if !ways.iter().any(|(_, way)| *way == Some(Control::Modbus)) {
        return;
    }
    for (name, way) in ways.into_iter().filter(|(_, way)| way.is_some_and(|way| way != Control::Modbus)) {
        let word = if way == Some(Control::Simulated) { "simulated" } else { "not controlled" };
        let title = format!("this device is {word} while another is controlled over Modbus");
        let help = "all devices of a home are planned together, and the plan of what is controlled is traded: what is not \
                    belongs to the rest of the home's load"
            .to_owned();
        devices.fault(name, title, "write control = \"modbus\" here too, or remove this section", Some(help));
    }
}

fn power(section: &Section<'_>, key: &'static str) -> Option<u64> {
    bounded(section, key, POWER_MAX_W)
}

fn stored(section: &Section<'_>, key: &'static str) -> Option<WattHours> {
    bounded(section, key, STORE_MAX_WH).map(WattHours::new)
}

/// A number above zero, which must be there.
fn bounded(section: &Section<'_>, key: &'static str, max: u64) -> Option<u64> {
    if !section.has(key) {
        return section.required::<u64>(key);
    }
    section.ask_within(key, 1..=max)
}
