//! The command line: what the program is asked to do, and how it answers.
//!
//! Data goes to stdout, everything else to stderr; the exit code says how it went ([`Exit`]).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use energy::{HomeId, MeterSerial, NodeId, Timestamp};
use libp2p::Multiaddr;

use crate::commands;
use crate::commands::bill::BillArgs;
use crate::commands::community::CommunityCommand;
use crate::commands::market::args::MarketCommand;
use crate::commands::meter::args::MeterCommand;
use crate::commands::money::MoneyCommand;
use crate::commands::out;
use crate::commands::tariff::TariffCommand;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something failed.
    Failed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// A verification went through and found exceptions.
    Exceptions = 3,
    /// A verification failed: what is stored is not what was agreed on.
    Unverified = 4,
    /// A node or a meter could not be reached.
    Unreachable = 5,
    /// The node is not ready yet.
    NotReady = 6,
    /// Configuration, genesis or keys cannot be used (`EX_CONFIG` of sysexits.h).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// How tables are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object.
    Json,
}

/// A neighbourhood energy market that the homes themselves run.
#[derive(Debug, Parser)]
#[command(
    name = "commonwatt",
    version,
    after_help = "\
Examples:
  commonwatt demo                                     a whole neighbourhood on this machine
  commonwatt init --data-dir /var/lib/commonwatt --home h001
  commonwatt run --config /var/lib/commonwatt/commonwatt.toml

Exit codes: 0 ok, 1 failed, 2 usage, 3 verification found exceptions, 4 verification failed, 5 unreachable,
6 not ready, 78 configuration. COMMONWATT_LOG sets the log filter, e.g. COMMONWATT_LOG=debug."
)]
pub struct Cli {
    /// How to print what is found.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts a whole neighbourhood on this machine, on recorded household data.
    Demo(DemoArgs),
    /// Runs the node of one home.
    Run(RunArgs),
    /// Makes the keys of a home, founds a community, or joins one.
    Init(Box<InitArgs>),
    /// Checks configuration, genesis and keys and names everything that is wrong.
    Check(CheckArgs),
    /// Shows how a running node is doing.
    Status(StatusArgs),
    /// The operator's console.
    #[command(after_help = "\
Examples:
  commonwatt tui --neighbourhood neighbourhood.json
  commonwatt tui --connect http://127.0.0.1:8480 --token-file /var/lib/commonwatt/api.token")]
    Tui(tui::Args),
    /// Lives through weeks of recorded households in one go, on the real ledger, and sums up what they came to.
    Sim(SimArgs),
    /// Finds, reads and checks meters.
    #[command(subcommand)]
    Meter(MeterCommand),
    /// Shows the market of a running node, and trades in it.
    #[command(subcommand)]
    Market(MarketCommand),
    /// Shows and verifies the ledger, votes for delegates, recovers the chain.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Makes the bills of a home, or of all homes of an owner, for a month.
    Bill(Box<BillArgs>),
    /// Makes explicit prices of a schedule, and publishes them.
    #[command(subcommand)]
    Tariff(Box<TariffCommand>),
    /// Limits, contracts, the metering operator's readings, and what was shared.
    #[command(subcommand)]
    Community(Box<CommunityCommand>),
    /// Books money in and out, and lists accounts and claims.
    #[command(subcommand)]
    Money(Box<MoneyCommand>),
    /// Clears the auction of a case file and prints prices, flows and fills.
    #[command(after_help = "\
Examples:
  commonwatt clear case.json
  commonwatt clear - < case.json")]
    Clear(CaseArgs),
    /// Matches the neighbours of a case file and prints what each sold, bought and paid.
    #[command(after_help = "\
Examples:
  commonwatt match case.json
  commonwatt match - < case.json")]
    Match(CaseArgs),
    /// Shows configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measures what only real nodes can show, on this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Signed orders through real delegates on loopback: entries per second and finality.
    Ledger(crate::bench::LedgerArgs),
    /// Months of a neighbourhood through ledger and store: time, size of the database, bytes written.
    Year(crate::bench::year::YearArgs),
}

/// A day of the recorded data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Season {
    /// 20 June 2016, after a week that is known.
    #[default]
    Summer,
    /// 15 January 2016, after four days that are known.
    Winter,
}

/// What the demo shows.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt demo                                     12 homes, a day in two minutes, until Ctrl-C
  commonwatt demo --homes 41 --season winter
  commonwatt demo --once --export results             one day, then a summary and CSV files
  commonwatt demo --once --output json")]
pub struct DemoArgs {
    /// How many homes.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(4..=41))]
    pub homes: u32,
    /// Folder of a recorded grid in SimBench format, instead of the one that comes with the program.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Market seconds per second.
    #[arg(long, default_value_t = 720, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub speed: u32,
    /// Whether batteries, cars and heat pumps are planned for by their homes' agents, which also trade ahead.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub agents: Switch,
    /// Congests one feeder: the grid operator lowers what its homes' connections may carry, and agents keep to it.
    #[arg(long)]
    pub stress: bool,
    /// Ends after one day, when its last interval is settled.
    #[arg(long)]
    pub once: bool,
    /// Which day.
    #[arg(long, value_enum, default_value_t)]
    pub season: Season,
    /// Writes everything needed to recompute the day into this folder, as CSV and JSON.
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
    /// Keeps the homes' databases and keys in this folder; otherwise they are temporary.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// First TCP port of the homes' pages; otherwise any free ones.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=60_000))]
    pub port_base: Option<u16>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// What is simulated.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt sim                                      two summer weeks of the street that comes with the program
  commonwatt sim --season winter --weeks 1 --agents off
  commonwatt sim --data recorded-grid --forward posted --output json
  commonwatt sim --tariff tou --goals mixed")]
pub struct SimArgs {
    /// Folder of a recorded grid in SimBench format, or builtin.
    #[arg(long, value_name = "DIR|builtin", default_value = "builtin")]
    pub data: PathBuf,
    /// Which recorded fortnight.
    #[arg(long, value_enum, default_value_t)]
    pub season: Season,
    /// How many weeks of it.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=52))]
    pub weeks: u32,
    /// How many homes, in the order of the demo; all if not said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub homes: Option<u32>,
    /// Trading before delivery: off, posted or auction.
    #[arg(long, default_value_t)]
    pub forward: sim::Forward,
    /// Whether homes with a battery, a vehicle or a heat pump have an agent.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub agents: Switch,
    /// What their households want: save (money, all of them) or mixed (the three goals in turn).
    #[arg(long, default_value = "save")]
    pub goals: sim::Goals,
    /// The supplier's prices: flat, tou (by time of use) or dynamic (by hour).
    #[arg(long, default_value_t)]
    pub tariff: sim::TariffKind,
    /// Whether the recorded batteries stand there; without them their sun goes straight to the home.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub batteries: Switch,
    /// Makes the keys; one seed, one result.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Compares each week with what perfect foresight could have made of it; takes a while longer.
    #[cfg(feature = "optimum")]
    #[arg(long)]
    pub optimum: bool,
}

/// Which node to run.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt run --config /var/lib/commonwatt/commonwatt.toml
  COMMONWATT_LOG=info,node=debug commonwatt run --config commonwatt.toml")]
pub struct RunArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "COMMONWATT_CONFIG")]
    pub config: PathBuf,
}

/// What to check.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt check --config /var/lib/commonwatt/commonwatt.toml
  commonwatt check --config commonwatt.toml --output json")]
pub struct CheckArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "COMMONWATT_CONFIG")]
    pub config: PathBuf,
}

/// Three steps: `init` on each device, `--found` once, `--join` on each device.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A community starts in three steps. Each can be repeated; keys are never overwritten.
  1. Each home makes its keys and its join card:
       commonwatt init --data-dir /var/lib/commonwatt --home h001 --node n3 --meter-serial 21045123 \\
         --meter-address 192.168.1.20:502 --address /ip4/192.168.1.10/tcp/8470
  2. One person collects the cards and founds the community:
       commonwatt init --found --name \"Lane East\" --network network.json --tariff 250000,80000 \\
         --card h001/join.json --card h002/join.json --card h003/join.json --card h004/join.json \\
         --deposit 100000000000 --out genesis.toml
  3. Each home joins it:
       commonwatt init --data-dir /var/lib/commonwatt --join genesis.toml --card h002/join.json
A home that comes later makes its card, is admitted (commonwatt community admit), and joins with --admitted.")]
pub struct InitArgs {
    /// Folder of the home's keys and ledger.
    #[arg(long, value_name = "DIR", required_unless_present = "found")]
    pub data_dir: Option<PathBuf>,
    /// Id of the home.
    #[arg(long, value_name = "ID", value_parser = HomeId::new, required_unless_present_any = ["found", "join"])]
    pub home: Option<HomeId>,
    /// A join card; repeat it for each home.
    #[arg(long = "card", value_name = "FILE")]
    pub cards: Vec<PathBuf>,
    /// What this home says of itself.
    #[command(flatten)]
    pub card: CardArgs,
    /// Founding.
    #[command(flatten)]
    pub found: FoundArgs,
    /// Joins the community of this genesis file.
    #[arg(long, value_name = "FILE", conflicts_with = "found")]
    pub join: Option<PathBuf>,
    /// The home was admitted, or its keys were changed, after the founding: the genesis does not know them, the ledger does.
    #[arg(long, requires = "join")]
    pub admitted: bool,
    /// Address of another member, ending in /p2p/ and its peer id; repeat it for more.
    #[arg(long = "peer", value_name = "ADDRESS", requires = "join")]
    pub peers: Vec<Multiaddr>,
}

/// What stands on a home's join card beside its keys.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The home's join card")]
pub struct CardArgs {
    /// Who owns the home; its id if not said.
    #[arg(long, value_name = "TEXT")]
    pub owner: Option<String>,
    /// Node of the network where the home is connected.
    #[arg(long, value_name = "ID", value_parser = NodeId::new)]
    pub node: Option<NodeId>,
    /// Serial number of its meter.
    #[arg(long, value_name = "SERIAL", value_parser = MeterSerial::new)]
    pub meter_serial: Option<MeterSerial>,
    /// Device profile of its meter.
    #[arg(long, value_name = "NAME")]
    pub meter_profile: Option<String>,
    /// Host and port of the meter.
    #[arg(long, value_name = "HOST:PORT")]
    pub meter_address: Option<String>,
    /// Address at which other members reach this node.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<Multiaddr>,
    /// Where the node's own page and API listen.
    #[arg(long, value_name = "IP:PORT")]
    pub api_listen: Option<SocketAddr>,
}

/// What a community starts with.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Founding a community")]
pub struct FoundArgs {
    /// Founds a community from join cards.
    #[arg(long, requires_all = ["name", "network", "tariff", "cards", "out"], conflicts_with_all = ["data_dir", "home"])]
    pub found: bool,
    /// Name of the community.
    #[arg(long, value_name = "TEXT", requires = "found")]
    pub name: Option<String>,
    /// The network tree with its fees and limits, JSON.
    #[arg(long, value_name = "FILE", requires = "found")]
    pub network: Option<PathBuf>,
    /// The supplier's import and export price, µ/kWh.
    #[arg(
        long,
        value_name = "IMPORT,EXPORT",
        requires = "found",
        allow_hyphen_values = true,
        value_delimiter = ',',
        num_args = 1
    )]
    pub tariff: Vec<i64>,
    /// Homes that decide blocks; without it the first 4 by id, from 9 homes on 7, from 41 on 13.
    #[arg(long, value_name = "HOME,HOME,…", value_parser = HomeId::new, value_delimiter = ',', requires = "found")]
    pub delegates: Vec<HomeId>,
    /// Who holds the bodies of all entries and results; with `delegates` the others hold their own part and what is public.
    #[arg(long, value_enum, default_value_t = ReplicasArg::All)]
    pub replicas: ReplicasArg,
    /// With `--replicas delegates`: homes that hold them besides, such as those of operator and auditor.
    #[arg(long, value_name = "HOME,HOME,…", value_parser = HomeId::new, value_delimiter = ',', requires = "found")]
    pub holders: Vec<HomeId>,
    /// What each home has paid in, n.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub deposit: i64,
    /// ISO 4217 code of the money.
    #[arg(long, value_name = "CODE", default_value = "CNY")]
    pub currency: String,
    /// Length of an interval, minutes.
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    pub mtu: u32,
    /// How far below zero the supplier's account may go, n; with 0 it pays homes only what homes have paid it.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub supplier_credit: i64,
    /// Time of the genesis block; now if not said.
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    pub start: Option<Timestamp>,
    /// Serial number of the meter at the transformer, if there is one.
    #[arg(long, value_name = "SERIAL", value_parser = MeterSerial::new)]
    pub root_meter: Option<MeterSerial>,
    /// Where the genesis is written; the roles' keys go into the folder `roles` beside it.
    #[arg(long, value_name = "FILE", requires = "found")]
    pub out: Option<PathBuf>,
}

/// Who holds the bodies of all entries and results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReplicasArg {
    /// Every member.
    #[default]
    All,
    /// Delegates, first standbys and the homes named besides.
    Delegates,
}

/// Which node to ask.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt status --config /var/lib/commonwatt/commonwatt.toml
  commonwatt status --page --config /var/lib/commonwatt/commonwatt.toml
  commonwatt status --connect http://127.0.0.1:8480 --token-file api.token --output json")]
pub struct StatusArgs {
    /// Address of its API.
    #[arg(long, value_name = "URL", requires = "token_file", required_unless_present = "config")]
    pub connect: Option<String>,
    /// File that holds the token of its API.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Its configuration file, which names both.
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    pub config: Option<PathBuf>,
    /// Prints the link that opens the home's page in a browser, and nothing else. Who has it can read everything.
    #[arg(long)]
    pub page: bool,
}

/// The ledger of a node.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Replays the stored chain and compares every hash, signature and settlement.
    #[command(after_help = "\
Examples:
  commonwatt ledger verify --config /var/lib/commonwatt/commonwatt.toml
  commonwatt ledger verify --data-dir demo/h001 --genesis demo/genesis.toml

Exit code 0 if everything holds, 4 if something does not; the block and what is wrong with it are named.")]
    Verify(VerifyArgs),
    /// Shows the last final block and where the ledger stands.
    Head(commands::ledger::look::HeadArgs),
    /// Shows one final block: who signed it, and kinds and ids of its entries.
    Block(commands::ledger::look::BlockArgs),
    /// Explains which blocks came late, which rounds failed and who did not sign.
    WhyMissed(commands::ledger::look::WhyMissedArgs),
    /// Seats other delegates after too many were lost.
    #[command(subcommand)]
    Recover(commands::ledger::recover::RecoverCommand),
    /// Writes the proof that an entry is on the chain, for whoever has the community's genesis.
    Proof(commands::proof::ProofArgs),
    /// Checks such a proof, without a node.
    CheckProof(commands::proof::CheckProofArgs),
    /// What people vouch for, where a node was away for long.
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::CheckpointCommand),
    /// Shows who decides blocks, who stands by and who stands for the coming term.
    #[command(
        after_help = "Example:\n  commonwatt ledger delegates --config /var/lib/commonwatt/commonwatt.toml"
    )]
    Delegates(commands::delegates::DelegatesArgs),
    /// Says who should be delegates.
    Vote(commands::delegates::VoteArgs),
    /// Says whether this home stands as a delegate.
    Candidate(commands::delegates::CandidateArgs),
}

/// Which ledger to verify.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir", conflicts_with = "data_dir")]
    pub config: Option<PathBuf>,
    /// The node's data folder.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The genesis file; `genesis.toml` in the data folder if not said.
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    pub genesis: Option<PathBuf>,
}

/// A case to compute.
#[derive(Debug, Clone, Args)]
pub struct CaseArgs {
    /// The case file, or - for standard input.
    #[arg(value_name = "CASE.json")]
    pub case: PathBuf,
}

/// Configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Prints a commented configuration file to start from.
    #[command(after_help = "Example:\n  commonwatt config default > commonwatt.toml")]
    Default,
}

/// The whole program: parses `args` (the program's name first), does what they say and returns how it went.
pub fn main_with<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" too, printed to stdout with code 0.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(Exit::Usage.into(), ExitCode::from);
        }
    };
    match commands::dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            out::note(&error.render());
            error.exit().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_explains_itself_with_an_example() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_none() {
                let help = command.clone().render_long_help().to_string();
                assert!(help.contains("Example") || help.contains("commonwatt init --"), "{path}: {help}");
                assert!(command.get_about().is_some(), "{path} says nothing");
            }
            command.get_subcommands().for_each(|sub| visit(sub, &path));
        }
        visit(&Cli::command(), "");
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_demo_has_its_defaults_and_limits() {
        let Command::Demo(args) = parse("commonwatt demo").unwrap().command else { panic!() };
        assert_eq!((args.homes, args.speed, args.once, args.season), (12, 720, false, Season::Summer));
        assert!(parse("commonwatt demo --homes 42").is_err());
        assert!(parse("commonwatt demo --speed 0").is_err());
        let cli = parse("commonwatt demo --once --output json --season winter").unwrap();
        assert_eq!(cli.output, Output::Json);
    }

    #[test]
    fn init_wants_exactly_what_its_step_needs() {
        assert!(parse("commonwatt init --data-dir d").is_err(), "whose keys?");
        assert!(parse("commonwatt init --home h001").is_err(), "where?");
        assert!(parse("commonwatt init --data-dir d --home h/1").is_err());
        assert!(parse("commonwatt init --data-dir d --home h001").is_ok());
        assert!(parse("commonwatt init --found --name x").is_err());
        assert!(parse("commonwatt init --data-dir d --join genesis.toml").is_ok());
        let found = "commonwatt init --found --name x --network n --tariff 250000,-80000 --card a --out g";
        let Command::Init(args) = parse(found).unwrap().command else { panic!() };
        assert_eq!(args.found.tariff, [250_000, -80_000]);
        assert!(parse(&format!("{found} --join g")).is_err());
    }
}
