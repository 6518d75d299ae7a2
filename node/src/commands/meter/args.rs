//! What the subcommands of `commonwatt meter` are asked.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use energy::MeterSerial;
use meter::Parity;

pub use super::register::RegisterArgs;

/// Meters: finding, reading and checking them. Nothing here ever writes to a device.
#[derive(Debug, Subcommand)]
pub enum MeterCommand {
    /// Lists the device profiles, or shows one.
    Profiles(ProfilesArgs),
    /// Checks a device profile and shows every fault at its place.
    Check(CheckProfileArgs),
    /// Finds meters: bus settings, unit ids, profiles and serial numbers.
    Scan(ScanArgs),
    /// Reads every quantity of a meter.
    Read(ReadArgs),
    /// Reads a meter for a while and says how well that went.
    Test(TestArgs),
    /// Reads registers as they are.
    Raw(RawArgs),
    /// The kettle check: proves sign, scale and circuit with a load of known size.
    Commission(CommissionArgs),
    /// Serves a meter to other software over Modbus TCP, read-only.
    Serve(ServeArgs),
    /// Registers another meter on the ledger, or the same one after a reset: member and operator sign.
    Register(Box<RegisterArgs>),
}

/// Which profiles.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  commonwatt meter profiles
  commonwatt meter profiles eastron-sdm630
  commonwatt meter profiles --folder /etc/commonwatt/profiles --output json")]
pub struct ProfilesArgs {
    /// Name of one profile, to see where its register table comes from.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Folder of further profiles.
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Which file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  commonwatt meter check my-meter.toml
  commonwatt meter check my-meter.toml --output json

Exit code 0 if the profile can be used, 1 if it cannot.")]
pub struct CheckProfileArgs {
    /// The profile, TOML.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Where to look.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  commonwatt meter scan                                      every serial port of this machine
  commonwatt meter scan --device /dev/ttyUSB0
  commonwatt meter scan --device /dev/ttyUSB0 --baud 9600 --units 1-20
  commonwatt meter scan --address 192.168.1.20 --address 192.168.1.21:1502 --output json

Prints a [meter] section for the configuration. Exit code 0 if a profile was found, 3 if units answered and no profile
fits them, 5 if nothing answered. No other program may use the port meanwhile.")]
pub struct ScanArgs {
    /// Serial port; repeat it for more.
    #[arg(long = "device", value_name = "PATH")]
    pub devices: Vec<PathBuf>,
    /// Inverter or gateway; without a port the usual ones are tried; repeat it for more.
    #[arg(long = "address", value_name = "HOST[:PORT]")]
    pub addresses: Vec<String>,
    /// Unit ids to look for.
    #[arg(long, value_name = "FROM-TO,…", default_value = "1-247,255", value_parser = parse_units)]
    pub units: Units,
    /// Baud rates to try instead of the usual ones.
    #[arg(long, value_name = "BAUD,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(300..=115_200))]
    pub baud: Vec<u32>,
    /// Parity to try, with every baud rate.
    #[arg(long, value_enum)]
    pub parity: Option<ParityArg>,
    /// Folder of further profiles.
    #[arg(long, value_name = "DIR")]
    pub profiles: Option<PathBuf>,
    /// A scan of one place ends after this long.
    #[arg(long, value_name = "SECONDS", default_value_t = 55, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub seconds: u64,
}

/// Unit ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units(pub Vec<u8>);

/// Reads `1-20,30,255`.
fn parse_units(text: &str) -> Result<Units, String> {
    let number = |text: &str| match text.trim().parse::<u8>() {
        Ok(unit @ (1..=247 | 255)) => Ok(unit),
        _ => Err(format!("{text:?} is no unit id: 1 to 247, or 255")),
    };
    let mut units = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        units.extend((number(from)?..=number(to)?).filter(|unit| !(248..255).contains(unit)));
    }
    units.dedup();
    if units.is_empty() { Err(format!("{text:?} holds no unit id")) } else { Ok(Units(units)) }
}

/// How a meter is reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The meter")]
pub struct ReachArgs {
    /// Configuration that describes it; COMMONWATT_CONFIG if nothing else is said.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "device"])]
    pub config: Option<PathBuf>,
    /// Which meter of the configuration: meter, root_meter, or the name of one of [[meters]].
    #[arg(long = "meter", value_name = "NAME", default_value = "meter")]
    pub name: String,
    /// Host and port; the port that is usual for the device if not said.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "device")]
    pub address: Option<String>,
    /// What is spoken: tcp at an address if not said, serial at a device; rtu-tcp at a gateway that passes RTU frames
    /// through.
    #[arg(long, value_enum, conflicts_with = "config")]
    pub transport: Option<TransportArg>,
    /// Serial port.
    #[arg(long, value_name = "PATH")]
    pub device: Option<PathBuf>,
    /// Baud rate; what is usual for the device if not said.
    #[arg(long, value_name = "BAUD", requires = "device", value_parser = clap::value_parser!(u32).range(300..=115_200))]
    pub baud: Option<u32>,
    /// Parity.
    #[arg(long, value_enum, requires = "device")]
    pub parity: Option<ParityArg>,
    /// Stop bits.
    #[arg(long, value_name = "1|2", requires = "device", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub stop_bits: Option<u8>,
    /// Unit id; what is usual for the device if not said.
    #[arg(long, value_name = "UNIT", value_parser = clap::value_parser!(u8).range(1..))]
    pub unit: Option<u8>,
    /// Device profile.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    pub profile: Option<String>,
    /// Folder of further profiles.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub profiles: Option<PathBuf>,
    /// Serial number on the nameplate, for models that have no register for it.
    #[arg(long, value_name = "SERIAL", value_parser = MeterSerial::new, conflicts_with = "config")]
    pub serial: Option<MeterSerial>,
    /// An answer is awaited this long.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(50..=60_000))]
    pub timeout_ms: Option<u32>,
}

/// What is spoken with the meter, in the words of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TransportArg {
    /// Modbus TCP.
    Tcp,
    /// RTU frames over TCP.
    RtuTcp,
    /// Modbus RTU on a serial port.
    Serial,
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ParityArg {
    /// No parity bit.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

impl From<ParityArg> for Parity {
    fn from(parity: ParityArg) -> Self {
        match parity {
            ParityArg::None => Self::None,
            ParityArg::Even => Self::Even,
            ParityArg::Odd => Self::Odd,
        }
    }
}

/// What to read.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  commonwatt meter read --config /var/lib/commonwatt/commonwatt.toml
  commonwatt meter read --address 192.168.1.20:502 --profile eastron-sdm630
  commonwatt meter read --address 192.168.1.30:8899 --transport rtu-tcp --profile eastron-sdm630 --unit 2
  commonwatt meter read --device /dev/ttyUSB0 --profile abb-b23 --unit 3 --watch
  commonwatt meter read --config commonwatt.toml --output json")]
pub struct ReadArgs {
    /// Reads again and again, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// Pause between two reads of --watch.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every: u64,
    /// The meter.
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// How long to test.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  commonwatt meter test --config /var/lib/commonwatt/commonwatt.toml
  commonwatt meter test --device /dev/ttyUSB0 --profile eastron-sdm630 --seconds 600
  commonwatt meter test --config commonwatt.toml --meter pv --output json

Exit code 0 if all is well, 3 if something is not, 5 if the meter never answered.")]
pub struct TestArgs {
    /// How long.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..=86_400))]
    pub seconds: u64,
    /// Pause between two reads.
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub every_ms: u64,
    /// The meter.
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Which registers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  commonwatt meter raw --address 192.168.1.20:502 --function 4 --register 0x48 --count 4
  commonwatt meter raw --device /dev/ttyUSB0 --baud 9600 --unit 1 --function 3 --register 64512 --count 2
  commonwatt meter raw --config commonwatt.toml --function 3 --register 40000 --count 2 --output json

Registers are counted from 0, as they are sent; many manuals print 1 more, or 30001 or 40001 more.")]
pub struct RawArgs {
    /// 3 reads holding registers, 4 input registers.
    #[arg(long, value_name = "3|4", default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=4))]
    pub function: u8,
    /// First register, decimal or 0x….
    #[arg(long, value_name = "ADDRESS", value_parser = parse_register)]
    pub register: u16,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=125))]
    pub count: u16,
    /// The meter; its profile does not matter here.
    #[command(flatten)]
    pub reach: ReachArgs,
}

fn parse_register(text: &str) -> Result<u16, String> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let parsed = hex.map_or_else(|| text.parse(), |digits| u16::from_str_radix(digits, 16));
    parsed.map_err(|_| format!("{text:?} is no register: 0 to 65535, or 0x0 to 0xffff"))
}

/// The kettle and how the check is done.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  commonwatt meter commission --config /var/lib/commonwatt/commonwatt.toml
  commonwatt meter commission --address 192.168.1.20:502 --profile eastron-sdm630 --watts 2200
  commonwatt meter commission --config commonwatt.toml --display-import 1234.5 --display-export 89.1 --record check.json

Exit code 0 if the meter passed, 3 if it did not, 5 if it never answered.")]
pub struct CommissionArgs {
    /// What the kettle's label says; 1500 to 2500 W pass if not said.
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(200..=20_000))]
    pub watts: Option<u32>,
    /// How long to wait for the kettle after it was asked for.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=600))]
    pub seconds: u64,
    /// Asks nothing: measures, says when the kettle is due, measures again.
    #[arg(long)]
    pub yes: bool,
    /// What the meter's display shows as import, kWh.
    #[arg(long, value_name = "KWH", value_parser = parse_kwh)]
    pub display_import: Option<u64>,
    /// What the meter's display shows as export, kWh.
    #[arg(long, value_name = "KWH", value_parser = parse_kwh)]
    pub display_export: Option<u64>,
    /// Writes the result into this file, JSON; with --config otherwise commissioning.json in its data folder.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// The meter.
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Reads kWh with up to three decimals as Wh, exactly.
pub(super) fn parse_kwh(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no energy in kWh such as 1234.5");
    let text = text.trim();
    let (whole, decimals) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let digits = |part: &str| part.chars().all(|it| it.is_ascii_digit());
    if decimals.len() > 3 || whole.is_empty() || !digits(whole) || !digits(decimals) {
        return Err(wrong());
    }
    let wh: u64 = format!("{decimals:0<3}").parse().map_err(|_| wrong())?;
    let kwh: u64 = whole.parse().map_err(|_| wrong())?;
    kwh.checked_mul(1000).and_then(|it| it.checked_add(wh)).ok_or_else(wrong)
}

/// Where to serve.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  commonwatt meter serve --config /var/lib/commonwatt/commonwatt.toml
  commonwatt meter serve --address 192.168.1.20:1502 --profile solaredge-meter --listen 0.0.0.0:1502

For inverters that talk to one program only. A running node does this by itself where its configuration has [share]. The registers are those of the device; every write is refused. Modbus has no
password: beyond 127.0.0.1, everybody on the network can read the meter.")]
pub struct ServeArgs {
    /// Where to listen; what the configuration says in [share] if not said, else 127.0.0.1:1502.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// The meter.
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_ids_are_ranges_and_numbers() {
        assert_eq!(parse_units("1-3,17,255").unwrap().0, [1, 2, 3, 17, 255]);
        assert_eq!(parse_units("1-247,255").unwrap().0.len(), 248);
        for text in ["", "0", "248", "1-", "a", "3-1", "1,,2"] {
            assert!(parse_units(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_display_value_is_taken_to_the_watt_hour() {
        assert_eq!(parse_kwh("1234.5"), Ok(1_234_500));
        assert_eq!(parse_kwh("0,007"), Ok(7));
        for text in ["", "-1", "1.2345", "1.2.3", ".5", "99999999999999999999"] {
            assert!(parse_kwh(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_register_is_decimal_or_hexadecimal() {
        assert_eq!((parse_register("0x48"), parse_register("64512")), (Ok(0x48), Ok(0xFC00)));
        assert!(parse_register("0x10000").is_err() && parse_register("-1").is_err());
    }
}
