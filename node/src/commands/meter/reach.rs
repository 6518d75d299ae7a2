//! From what was said on the command line to a meter that can be asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meter::{BusConfig, Catalog, Endpoint, HostPort, Line, MeterError, Profile};

use super::args::{ReachArgs, TransportArg};
use crate::cli::Exit;
use crate::commands::CommandError;
use crate::config::Config;
use crate::config::meters::MeterSettings;

/// Names the configuration where nothing else is said.
const CONFIG_VARIABLE: &str = "COMMONWATT_CONFIG";

/// A meter and the configuration it comes from, if one was named.
pub(super) struct Reached {
    pub(super) meter: MeterSettings,
    pub(super) config: Option<Config>,
}

/// The meter that `args` describe.
///
/// # Errors
/// [`CommandError`] if the configuration has faults or has no such meter, or if the arguments leave it open.
pub(super) fn reach(args: &ReachArgs) -> Result<Reached, CommandError> {
    check_transport(args)?;
    if let Some(path) = config_path(args) {
        let config = Config::load(&path)?;
        let meter = with_options(of_config(&config, &args.name)?, args);
        return Ok(Reached { meter, config: Some(config) });
    }
    let catalog = catalog(args.profiles.as_deref())?;
    let Some(name) = &args.profile else {
        return Err(usage(
            "--profile is missing; `commonwatt meter scan` finds it, `commonwatt meter profiles` lists them",
        ));
    };
    let profile = find(&catalog, name)?;
    if !profile.has_serial() && args.serial.is_none() {
        return Err(usage(&format!(
            "profile {name} has no register for the serial number; say --serial with the number on the meter's nameplate"
        )));
    }
    let defaults = profile.bus();
    let meter = MeterSettings {
        endpoint: endpoint(args, Some(&profile))?,
        unit: args.unit.unwrap_or(defaults.unit),
        timeout: defaults.timeout,
        nameplate: if profile.has_serial() { None } else { args.serial.clone() },
        profile,
        power_max_w: None,
        lenient_header: false,
    };
    Ok(Reached { meter: with_options(meter, args), config: None })
}

/// The bus and unit that `args` describe; without a configuration no profile is needed.
///
/// # Errors
/// As [`reach`].
pub(super) fn reach_bus(args: &ReachArgs) -> Result<(BusConfig, u8), CommandError> {
    if config_path(args).is_some() || args.profile.is_some() {
        let reached = reach(args)?.meter;
        return Ok((reached.bus(), reached.unit));
    }
    check_transport(args)?;
    let mut bus = BusConfig::new(endpoint(args, None)?);
    bus.timeout = args.timeout_ms.map_or(bus.timeout, |ms| Duration::from_millis(ms.into()));
    Ok((bus, args.unit.unwrap_or(1)))
}

/// The built-in profiles and those of `folder`.
///
/// # Errors
/// [`CommandError`] with every file that cannot be used.
pub(super) fn catalog(folder: Option<&std::path::Path>) -> Result<Catalog, CommandError> {
    let Some(folder) = folder else { return Ok(Catalog::builtin()) };
    Catalog::with_folder(folder).map_err(|error| {
        CommandError::config(format!("{error}\n`commonwatt meter check FILE` shows every fault at its place"))
    })
}

/// The profile called `name`.
///
/// # Errors
/// [`CommandError`] with the name that was probably meant.
pub(super) fn find(catalog: &Catalog, name: &str) -> Result<Arc<Profile>, CommandError> {
    catalog.get(name).ok_or_else(|| {
        let meant = catalog.nearest(name).map(|it| format!("did you mean {it:?}? ")).unwrap_or_default();
        CommandError::config(format!(
            "there is no meter profile {name:?}; {meant}`commonwatt meter profiles` lists them, `commonwatt meter scan` \
             finds the right one"
        ))
    })
}

/// How a command ends that could not read its meter.
pub(super) fn refused(error: &MeterError) -> CommandError {
    CommandError::Other { exit: exit_of(error), message: told(error) }
}

/// The error with what the lower levels said, and the command that helps where one does.
pub(super) fn told(error: &MeterError) -> String {
    let source = std::error::Error::source(error).map(|source| format!("\n  {source}")).unwrap_or_default();
    format!("{error}{source}{}", next_step(error))
}

fn next_step(error: &MeterError) -> &'static str {
    match kind_of(error) {
        "refused" | "bad_length" | "implausible" | "word_order" | "absent" | "not_found" => {
            "\n  `commonwatt meter scan` says which profile fits, `commonwatt meter raw` shows the registers"
        }
        "silent" | "noise" => "\n  `commonwatt meter scan` finds the unit ids and line settings that answer",
        _ => "",
    }
}

/// [`Exit::Unreachable`] if the device is away, [`Exit::Failed`] if it answers and something is wrong with that.
pub(super) fn exit_of(error: &MeterError) -> Exit {
    match kind_of(error) {
        "unreachable" | "silent" | "echo" | "noise" | "broken" | "out_of_step" | "serial_port" | "late" => {
            Exit::Unreachable
        }
        _ => Exit::Failed,
    }
}

/// One word for a kind of failure, for counting.
pub(super) const fn kind_of(error: &MeterError) -> &'static str {
    match error {
        MeterError::Unreachable { .. } => "unreachable",
        MeterError::NoPermission { .. }
        | MeterError::NoPort { .. }
        | MeterError::PortBusy { .. }
        | MeterError::PortUnusable { .. } => "serial_port",
        MeterError::Silent { .. } => "silent",
        MeterError::Echo { .. } => "echo",
        MeterError::Noise { .. } => "noise",
        MeterError::Broken { .. } => "broken",
        MeterError::OutOfStep { .. } => "out_of_step",
        MeterError::Refused { .. } => "refused",
        MeterError::BadLength { .. } => "bad_length",
        MeterError::Implausible { .. } => "implausible",
        MeterError::WordOrder { .. } => "word_order",
        MeterError::Absent { .. } => "absent",
        MeterError::NotFound { .. } => "not_found",
        MeterError::WrongSerial { .. } => "wrong_serial",
        MeterError::Resting { .. } => "resting",
        MeterError::Late { .. } | MeterError::Busy { .. } => "late",
        _ => "other",
    }
}

fn config_path(args: &ReachArgs) -> Option<PathBuf> {
    if args.address.is_some() || args.device.is_some() {
        return None;
    }
    args.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from))
}

fn of_config(config: &Config, name: &str) -> Result<MeterSettings, CommandError> {
    config.meter_named(name).cloned().ok_or_else(|| {
        let further = config.meters.iter().map(|further| further.name.as_str());
        let names = ["meter", "root_meter"]
            .into_iter()
            .filter(|name| config.meter_named(name).is_some())
            .chain(further);
        let names: Vec<&str> = names.collect();
        let known =
            if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        CommandError::config(format!("the configuration has no meter {name:?}; {known}"))
    })
}

/// What the command line says goes before the configuration.
fn with_options(mut meter: MeterSettings, args: &ReachArgs) -> MeterSettings {
    meter.unit = args.unit.unwrap_or(meter.unit);
    meter.timeout = args.timeout_ms.map_or(meter.timeout, |ms| Duration::from_millis(ms.into()));
    meter
}

/// A transport goes with the place that speaks it.
fn check_transport(args: &ReachArgs) -> Result<(), CommandError> {
    match args.transport {
        Some(TransportArg::Serial) if args.device.is_none() => {
            Err(usage("--transport serial is spoken on a serial port: say --device PATH"))
        }
        Some(TransportArg::Tcp | TransportArg::RtuTcp) if args.address.is_none() => Err(usage(
            "--transport tcp and rtu-tcp are spoken with a host: say --address HOST:PORT, or serial for a --device",
        )),
        _ => Ok(()),
    }
}

fn endpoint(args: &ReachArgs, profile: Option<&Profile>) -> Result<Endpoint, CommandError> {
    if let Some(path) = &args.device {
        let usual = profile.and_then(|profile| profile.bus().line).unwrap_or_default();
        let line = Line {
            baud: args.baud.unwrap_or(usual.baud),
            parity: args.parity.map_or(usual.parity, Into::into),
            stop_bits: args.stop_bits.unwrap_or(usual.stop_bits),
        };
        return Ok(Endpoint::Serial { path: path.clone(), line });
    }
    let Some(address) = &args.address else {
        return Err(usage("which meter? say --config FILE, --address HOST:PORT or --device PATH"));
    };
    let at = host_port(address, profile.map_or(502, |profile| profile.bus().port))?;
    Ok(match args.transport {
        Some(TransportArg::RtuTcp) => Endpoint::RtuOverTcp(at),
        _ => Endpoint::Tcp(at),
    })
}

/// Host and port, or a host alone with `port`.
fn host_port(text: &str, port: u16) -> Result<HostPort, CommandError> {
    let bare = !text.is_empty() && !text.contains([':', '/', ' ', '[', ']']);
    if bare {
        return Ok(HostPort { host: text.to_owned(), port });
    }
    text.parse().map_err(|error| usage(&format!("--address: {error}")))
}

/// The command line leaves something open or contradicts itself.
pub(super) fn usage(message: &str) -> CommandError {
    CommandError::Other { exit: Exit::Usage, message: message.to_owned() }
}
