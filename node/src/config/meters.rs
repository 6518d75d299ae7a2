//! The sections about meters: how each is reached, what it measures, and what is known of the roof above it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use energy::MeterSerial;
use ledger::PEAK_W_MAX;
use meter::{BusConfig, Catalog, Endpoint, HostPort, Line, MeterConfig, Parity, Profile};
use toml::de::DeValue;

use super::document::Section;
use super::value::{FromToml, Mismatch, words};

/// No answer is awaited longer or shorter, ms.
const TIMEOUT_MS: std::ops::RangeInclusive<u32> = 50..=60_000;
/// What the meters at the connection point and at the transformer are called: on the command line, and in what is shown.
const RESERVED_NAMES: [&str; 4] = ["meter", "root_meter", "grid", "root"];
/// Baud rates that meters and serial ports know.
const BAUD: [u32; 10] = [300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 57_600, 115_200];

/// A meter and how it is reached.
#[derive(Debug, Clone)]
pub struct MeterSettings {
    /// Its bus.
    pub endpoint: Endpoint,
    /// Modbus unit, 1 to 247, or 255 for the device itself.
    pub unit: u8,
    /// What is in its registers.
    pub profile: Arc<Profile>,
    /// An answer is awaited this long.
    pub timeout: Duration,
    /// Serial number on its nameplate, for a model that has no register for it.
    pub nameplate: Option<MeterSerial>,
    /// The most the connection carries, W: the main fuse. A register that rises faster is not believed.
    pub power_max_w: Option<u64>,
    /// A gateway before it answers with other transaction or unit ids; only for one that does, and one meter behind it.
    pub lenient_header: bool,
}

impl MeterSettings {
    /// Its bus with the profile's habits and the timeout set here.
    #[must_use]
    pub fn bus(&self) -> BusConfig {
        BusConfig {
            timeout: self.timeout,
            lenient_header: self.lenient_header,
            ..BusConfig::for_profile(self.endpoint.clone(), &self.profile)
        }
    }

    /// What the meter layer needs to read it.
    #[must_use]
    pub fn meter(&self) -> MeterConfig {
        MeterConfig {
            bus: self.bus(),
            unit: self.unit,
            profile: Arc::clone(&self.profile),
            nameplate: self.nameplate.clone(),
        }
    }
}

/// What a further meter of the home measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeterRole {
    /// A meter at the solar panels.
    Pv,
    /// The inverter's own counter.
    Inverter,
    /// A battery.
    Battery,
    /// A charger of electric vehicles.
    Ev,
    /// A heat pump.
    HeatPump,
}

impl MeterRole {
    /// Every role with its word in the configuration.
    const WORDS: [(&'static str, Self); 5] = [
        ("pv", Self::Pv),
        ("inverter", Self::Inverter),
        ("battery", Self::Battery),
        ("ev", Self::Ev),
        ("heat_pump", Self::HeatPump),
    ];

    /// Its word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, role)| *role == self).map_or("", |(word, _)| word)
    }
}

/// A meter of the home besides the one at the connection point. Shown and used as evidence; nothing is settled on it.
#[derive(Debug, Clone)]
pub struct FurtherMeter {
    /// Its name, unlike those of the others.
    pub name: String,
    /// What it measures.
    pub role: MeterRole,
    /// How it is reached.
    pub meter: MeterSettings,
}

/// The meter at the transformer.
#[derive(Debug, Clone)]
pub struct RootMeterSettings {
    /// How it is reached.
    pub meter: MeterSettings,
    /// Holds the key that signs its readings.
    pub key_file: PathBuf,
}

/// The home's solar panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PvSettings {
    /// Peak power of all of them, W.
    pub peak_w: u32,
    /// True if a battery can feed in at night what they made by day.
    pub storage: bool,
}

/// Where the home is, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocationSettings {
    /// North is positive.
    pub latitude: f64,
    /// East is positive.
    pub longitude: f64,
}

/// The meter served to other software, read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareSettings {
    /// Where the Modbus TCP server listens.
    pub listen: SocketAddr,
}

/// How frames travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    RtuTcp,
    Serial,
}

words! {
    Transport: "one of", [("tcp", Transport::Tcp), ("rtu-tcp", Transport::RtuTcp), ("serial", Transport::Serial)];
    Parity: "one of", [("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];
    MeterRole: "one of", MeterRole::WORDS;
}

/// A host with or without a port.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl FromToml for Address {
    fn expected() -> String {
        "host and port such as \"192.168.1.20:502\"".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = value.as_str().ok_or(Mismatch::Type)?;
        // A bare name or IPv4 address takes the port that is usual for the device.
        let bare = !text.is_empty() && !text.contains([':', '/', ' ', '[', ']']);
        match text.parse::<HostPort>() {
            Ok(HostPort { host, port }) => Ok(Self { host, port: Some(port) }),
            Err(_) if bare => Ok(Self { host: text.to_owned(), port: None }),
            Err(_) => Err(Mismatch::Value("it has no host or no usable port".to_owned())),
        }
    }
}

/// Baud rate of a serial port.
struct Baud(u32);

impl FromToml for Baud {
    fn expected() -> String {
        let known: Vec<String> = BAUD.iter().map(ToString::to_string).collect();
        format!("one of {}", known.join(", "))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let baud = u32::from_toml(value)?;
        let known = BAUD.contains(&baud);
        known.then_some(Self(baud)).ok_or_else(|| Mismatch::Value(format!("{baud} is no usual baud rate")))
    }
}

/// An angle in degrees.
struct Degrees(f64);

impl FromToml for Degrees {
    fn expected() -> String {
        "degrees such as 52.52".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = match value {
            DeValue::Float(float) => float.as_str().to_owned(),
            DeValue::Integer(_) => return i64::from_toml(value).and_then(Self::whole),
            _ => return Err(Mismatch::Type),
        };
        match text.parse::<f64>() {
            Ok(degrees) if degrees.is_finite() => Ok(Self(degrees)),
            _ => Err(Mismatch::Value(format!("{text} is no angle"))),
        }
    }
}

impl Degrees {
    fn whole(degrees: i64) -> Result<Self, Mismatch> {
        let degrees =
            i16::try_from(degrees).map_err(|_| Mismatch::Value(format!("{degrees} is out of range")))?;
        Ok(Self(f64::from(degrees)))
    }
}

/// Reads `[meter]` and what is written like it.
pub(super) fn read_meter(section: &Section<'_>, catalog: &Catalog) -> Option<MeterSettings> {
    let endpoint = Reach::ask(section);
    let unit = section.ask_within::<u8>("unit", 1..=255);
    let profile = section.required::<String>("profile");
    let timeout_ms = section.ask_within("timeout_ms", TIMEOUT_MS);
    let nameplate = section.optional::<MeterSerial>("serial");
    let power_max_w = section.ask_within("power_max_w", 1_000..=10_000_000);
    let lenient_header = section.or("lenient_header", false);
    if let Some(unit) = unit {
        check_unit(section, unit);
    }
    let profile = profile.and_then(|name| find_profile(section, catalog, &name));
    if let Some(profile) = &profile {
        check_serial(section, profile, nameplate.as_ref());
    }
    let endpoint = endpoint.decide(section, profile.as_deref());
    let profile = profile?;
    let defaults = profile.bus();
    Some(MeterSettings {
        endpoint: endpoint?,
        unit: unit.unwrap_or(defaults.unit),
        timeout: timeout_ms.map_or(defaults.timeout, |ms| Duration::from_millis(ms.into())),
        profile,
        nameplate,
        power_max_w,
        lenient_header,
    })
}

pub(super) fn check_unit(section: &Section<'_>, unit: u8) {
    if (248..255).contains(&unit) {
        section.fault("unit", format!("Modbus unit {unit} is reserved"), "expected 1 to 247, or 255", None);
    }
}

fn find_profile(section: &Section<'_>, catalog: &Catalog, name: &str) -> Option<Arc<Profile>> {
    let found = catalog.get(name);
    if found.is_none() {
        let label = catalog
            .nearest(name)
            .map_or_else(|| "not a profile".to_owned(), |name| format!("did you mean \"{name}\"?"));
        let help = "`commonwatt meter profiles` lists them, `commonwatt meter scan` finds the right one";
        section.fault(
            "profile",
            format!("there is no meter profile \"{name}\""),
            &label,
            Some(help.to_owned()),
        );
    }
    found
}

/// The serial number comes from the meter or from its nameplate: exactly one of them.
fn check_serial(section: &Section<'_>, profile: &Profile, nameplate: Option<&MeterSerial>) {
    match (profile.has_serial(), nameplate) {
        (true, Some(_)) => {
            let title = format!("profile \"{}\" reads the serial number from the meter", profile.name());
            section.fault("serial", title, "remove this", None);
        }
        (false, None) => {
            let title = format!("profile \"{}\" has no register for the serial number", profile.name());
            let help = "a reading must say whose it is: the number is on the meter's nameplate".to_owned();
            section.fault("profile", title, "add `serial = \"…\"` to this section", Some(help));
        }
        _ => {}
    }
}

/// What a section says about the way to a meter, before it is known whether that fits together.
struct Reach {
    transport: Option<Transport>,
    address: Option<Address>,
    has_address: bool,
    device: Option<PathBuf>,
    baud: Option<Baud>,
    parity: Option<Parity>,
    stop_bits: Option<u8>,
}

impl Reach {
    fn ask(section: &Section<'_>) -> Self {
        let transport = section.optional::<Transport>("transport");
        let (has_address, has_device) = (section.has("address"), section.has("device"));
        // Without either, an address is what most people forgot.
        let network = !has_device && !matches!(transport, Some(Transport::Serial));
        let address = if network { section.required("address") } else { section.optional("address") };
        let serial = matches!(transport, Some(Transport::Serial));
        let device = if serial { section.required("device") } else { section.optional("device") };
        Self {
            transport,
            address,
            has_address,
            device,
            baud: section.optional("baud"),
            parity: section.optional("parity"),
            stop_bits: section.ask_within("stop_bits", 1..=2),
        }
    }

    /// The endpoint, unless what was said contradicts itself.
    fn decide(self, section: &Section<'_>, profile: Option<&Profile>) -> Option<Endpoint> {
        let (transport, has_device) = (self.transport, section.has("device"));
        if self.has_address && has_device {
            self.both(section);
            return None;
        }
        if matches!(transport, Some(Transport::Serial)) && self.has_address {
            let title = "a serial port has no address".to_owned();
            section.fault("address", title, "write `device = \"/dev/ttyUSB0\"` instead", None);
            return None;
        }
        if has_device && matches!(transport, Some(Transport::Tcp | Transport::RtuTcp)) {
            let title = "a device is a serial port, and `transport` says TCP".to_owned();
            section.fault(
                "device",
                title,
                "set `transport = \"serial\"`, or write an `address` instead",
                None,
            );
            return None;
        }
        if has_device { self.serial(profile) } else { self.network(section, profile) }
    }

    fn both(&self, section: &Section<'_>) {
        let (key, label) = match self.transport {
            Some(Transport::Serial) => ("address", "remove this, since `transport` is \"serial\""),
            Some(_) => ("device", "remove this, since `transport` is over TCP"),
            None => ("device", "keep this or `address`"),
        };
        let title = "a meter has either an address or a serial port".to_owned();
        let help = "a gateway (address) has the serial line's settings in its own menu".to_owned();
        section.fault(key, title, label, Some(help));
    }

    fn serial(self, profile: Option<&Profile>) -> Option<Endpoint> {
        let usual = profile.and_then(|profile| profile.bus().line).unwrap_or_default();
        let line = Line {
            baud: self.baud.map_or(usual.baud, |baud| baud.0),
            parity: self.parity.unwrap_or(usual.parity),
            stop_bits: self.stop_bits.unwrap_or(usual.stop_bits),
        };
        Some(Endpoint::Serial { path: self.device?, line })
    }

    fn network(self, section: &Section<'_>, profile: Option<&Profile>) -> Option<Endpoint> {
        for key in ["baud", "parity", "stop_bits"].into_iter().filter(|key| section.has(key)) {
            let title =
                format!("`{key}` is a setting of a serial port, and this meter is reached over the network");
            let help =
                "where a gateway carries the serial line, this is set in the gateway's menu".to_owned();
            section.fault(key, title, "remove this, or write a `device`", Some(help));
        }
        let Address { host, port } = self.address?;
        let port = port.or_else(|| profile.map(|profile| profile.bus().port))?;
        let at = HostPort { host, port };
        Some(match self.transport {
            Some(Transport::RtuTcp) => Endpoint::RtuOverTcp(at),
            _ => Endpoint::Tcp(at),
        })
    }
}

/// Reads `[root_meter]`.
pub(super) fn read_root_meter(
    section: &Section<'_>,
    catalog: &Catalog,
    folder: &std::path::Path,
) -> Option<RootMeterSettings> {
    let key_file = section.required::<PathBuf>("key_file");
    let meter = read_meter(section, catalog);
    Some(RootMeterSettings { meter: meter?, key_file: folder.join(key_file?) })
}

/// Reads every `[[meters]]`, whose names and places must differ from each other and from `meter`. `None` if one of them
/// cannot be used.
pub(super) fn read_further(
    sections: &[Section<'_>],
    meter: Option<&MeterSettings>,
    catalog: &Catalog,
) -> Option<Vec<FurtherMeter>> {
    let mut further: Vec<FurtherMeter> = Vec::new();
    for section in sections {
        let role = section.required::<MeterRole>("role");
        let name = section.optional::<String>("name");
        let read = read_meter(section, catalog);
        let (Some(role), Some(read)) = (role, read) else { continue };
        let name = name.unwrap_or_else(|| role.word().to_owned());
        check_name(section, &name, &further);
        let others = further.iter().map(|other| (other.name.as_str(), &other.meter));
        check_place(section, &read, meter.map(|meter| ("meter", meter)).into_iter().chain(others));
        further.push(FurtherMeter { name, role, meter: read });
    }
    (further.len() == sections.len()).then_some(further)
}

fn check_name(section: &Section<'_>, name: &str, others: &[FurtherMeter]) {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
        let label = "expected 1 to 32 letters, digits, '-', '_' or '.'";
        section.fault("name", format!("a meter cannot be called {name:?}"), label, None);
    } else if RESERVED_NAMES.contains(&name) {
        let title = format!("\"{name}\" is the name of another meter, whether there is one or not");
        section.fault("name", title, "choose another name", None);
    } else if others.iter().any(|other| other.name == name) {
        let key = if section.has("name") { "name" } else { "role" };
        section.fault(
            key,
            format!("there is another meter called \"{name}\""),
            "add a `name` of its own",
            None,
        );
    }
}

/// One unit on one bus is one meter, and one bus has one set of settings.
fn check_place<'a>(
    section: &Section<'_>,
    meter: &MeterSettings,
    others: impl Iterator<Item = (&'a str, &'a MeterSettings)>,
) {
    let key = if section.has("device") { "device" } else { "address" };
    for (name, other) in others.filter(|(_, other)| place(&other.endpoint) == place(&meter.endpoint)) {
        if other.endpoint != meter.endpoint {
            let title = format!("\"{name}\" is on the same bus with other settings: {}", other.endpoint);
            section.fault(key, title, &format!("here it is {}", meter.endpoint), None);
        } else if other.unit == meter.unit && other.profile.name() == meter.profile.name() {
            let title =
                format!("this is the same meter as \"{name}\": {} unit {}", other.endpoint, other.unit);
            section.fault(key, title, "another address or `unit` is needed", None);
        } else {
            continue;
        }
        return;
    }
}

/// What two endpoints share if they are one bus.
fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(at) | Endpoint::RtuOverTcp(at) => at.to_string(),
        Endpoint::Serial { path, .. } => path.display().to_string(),
    }
}

/// Reads `[pv]`.
pub(super) fn read_pv(section: &Section<'_>) -> Option<PvSettings> {
    let peak_w = section.required::<u32>("peak_w");
    let storage = section.or("storage", false);
    if peak_w.is_some_and(|peak_w| peak_w == 0 || peak_w > PEAK_W_MAX) {
        let label = format!("expected 1 to {PEAK_W_MAX} W");
        section.fault("peak_w", "this is no peak power of a home's panels".to_owned(), &label, None);
    }
    Some(PvSettings { peak_w: peak_w?, storage })
}

/// Reads `[location]`.
pub(super) fn read_location(section: &Section<'_>) -> Option<LocationSettings> {
    let latitude = degrees(section, "latitude", 90.0);
    let longitude = degrees(section, "longitude", 180.0);
    Some(LocationSettings { latitude: latitude?, longitude: longitude? })
}

fn degrees(section: &Section<'_>, key: &'static str, limit: f64) -> Option<f64> {
    let Degrees(degrees) = section.required(key)?;
    if degrees.abs() <= limit {
        return Some(degrees);
    }
    let label = format!("expected -{limit} to {limit}");
    section.fault(key, format!("{degrees} degrees are no {key}"), &label, None);
    None
}

/// Reads `[share]`.
pub(super) fn read_share(section: &Section<'_>, has_meter: bool) -> ShareSettings {
    if !has_meter {
        section.fault_here("there is no [meter] to share".to_owned(), "remove this, or add a [meter]", None);
    }
    ShareSettings { listen: section.or("listen", SocketAddr::from(([127, 0, 0, 1], 1502))) }
}
