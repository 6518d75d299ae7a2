//! What each subcommand does: load, hand to the part that knows, print.

pub mod bill;
mod case;
mod check;
pub mod checkpoint;
pub mod community;
pub mod delegates;
mod files;
mod found;
mod hand_in;
mod init;
mod join;
pub(crate) mod join_card;
pub mod ledger;
pub mod market;
pub mod meter;
pub mod money;
pub mod out;
pub mod proof;
mod run;
mod sim;
mod status;
pub mod tariff;

use std::future::Future;

use tracing_subscriber::EnvFilter;

use crate::cli::{BenchCommand, Cli, Command, ConfigCommand, DemoArgs, Exit, LedgerCommand, Output};
use crate::config::{self, report::Report};
use crate::identity::{IdentityError, MembershipError};

/// Chatty parts of the program that are only heard when they warn.
const QUIET: &str =
    "libp2p=warn,libp2p_gossipsub=error,multistream_select=warn,yamux=error,arc_malachitebft=warn,hyper=warn";

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Configuration or genesis.
    #[error("{0}")]
    Report(Box<Report>),
    /// Keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The keys are not those of the home.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Anything else, with the exit code it ends in.
    #[error("{message}")]
    Other {
        /// Exit code.
        exit: Exit,
        /// What, where, and what to do.
        message: String,
    },
    /// Another entry of the same author has the number of what was handed in.
    #[error(
        "number {0} of this signer was used by another entry in the meantime: this one is not on the ledger and never will be; \
         look whether it is still needed, and sign it again"
    )]
    NumberTaken(u64),
}

impl From<Report> for CommandError {
    fn from(report: Report) -> Self {
        Self::Report(Box::new(report))
    }
}

impl CommandError {
    /// Something failed.
    fn failed(message: impl Into<String>) -> Self {
        Self::Other { exit: Exit::Failed, message: message.into() }
    }

    /// What was given cannot be used.
    fn config(message: impl Into<String>) -> Self {
        Self::Other { exit: Exit::Config, message: message.into() }
    }

    /// The code the program ends with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Report(_) | Self::Identity(_) | Self::Membership(_) => Exit::Config,
            Self::Other { exit, .. } => *exit,
            Self::NumberTaken(_) => Exit::Failed,
        }
    }

    /// What the person at the terminal reads.
    #[must_use]
    pub fn render(&self) -> String {
        match self {
            Self::Report(report) => report.render(out::stderr_has_color()),
            other => format!("error: {other}"),
        }
    }
}

/// Does what the command line says.
///
/// # Errors
/// [`CommandError`].
pub fn dispatch(cli: Cli) -> Result<Exit, CommandError> {
    let output = cli.output;
    match cli.command {
        Command::Demo(args) => demo(&args, output),
        Command::Run(args) => run::run(&args),
        Command::Init(args) => init::init(&args, output),
        Command::Check(args) => Ok(check::check(&args, output)),
        Command::Status(args) => block_on(status::status(args, output))?,
        Command::Tui(args) => console(args),
        Command::Sim(args) => sim::sim(&args, output),
        Command::Meter(command) => meter::meter(command, output),
        Command::Market(command) => block_on(market::market(command, output))?,
        Command::Ledger(LedgerCommand::Verify(args)) => ledger::verify(&args, output),
        Command::Ledger(LedgerCommand::Head(args)) => block_on(ledger::look::head(&args, output))?,
        Command::Ledger(LedgerCommand::Block(args)) => block_on(ledger::look::block(&args, output))?,
        Command::Ledger(LedgerCommand::WhyMissed(args)) => block_on(ledger::look::why_missed(&args, output))?,
        Command::Ledger(LedgerCommand::Recover(command)) => {
            block_on(ledger::recover::recover(&command, output))?
        }
        Command::Ledger(LedgerCommand::Proof(args)) => proof::proof(&args),
        Command::Ledger(LedgerCommand::CheckProof(args)) => proof::check_proof(&args, output),
        Command::Ledger(LedgerCommand::Checkpoint(command)) => checkpoint::checkpoint(&command, output),
        Command::Ledger(LedgerCommand::Delegates(args)) => delegates::delegates(&args, output),
        Command::Ledger(LedgerCommand::Vote(args)) => block_on(delegates::vote(&args, output))?,
        Command::Ledger(LedgerCommand::Candidate(args)) => block_on(delegates::candidate(&args, output))?,
        Command::Bill(args) => bill::bill(&args, output),
        Command::Tariff(command) => tariff::tariff(&command, output),
        Command::Money(command) => money::money(&command, output),
        Command::Community(command) => community::community(&command, output),
        Command::Clear(args) => case::clear(&args),
        Command::Match(args) => case::match_neighbours(&args),
        Command::Config(ConfigCommand::Default) => {
            out::text(config::SAMPLE);
            Ok(Exit::Ok)
        }
        Command::Bench(BenchCommand::Year(args)) => {
            start_log("info")?;
            crate::bench::year::run(&args, output)
                .map(|()| Exit::Ok)
                .map_err(|error| CommandError::failed(format!("the bench failed: {error:#}")))
        }
        Command::Bench(BenchCommand::Ledger(args)) => {
            start_log("warn")?;
            let ended = block_on(crate::bench::run_ledger(&args, output))?;
            ended
                .map(|()| Exit::Ok)
                .map_err(|error| CommandError::failed(format!("the bench failed: {error:#}")))
        }
    }
}

fn demo(args: &DemoArgs, output: Output) -> Result<Exit, CommandError> {
    start_log("warn")?;
    let ended = block_on(crate::demo::run(args, output))?;
    ended.map(|()| Exit::Ok).map_err(|error| CommandError::failed(format!("the demo ended early: {error:#}")))
}

fn console(args: tui::Args) -> Result<Exit, CommandError> {
    block_on(tui::run(args))?.map(|()| Exit::Ok).map_err(|error| {
        let exit = match error.downcast_ref() {
            Some(tui::TuiError::Usage(_)) => Exit::Usage,
            Some(tui::TuiError::Unreachable { .. }) => Exit::Unreachable,
            Some(tui::TuiError::File { .. }) => Exit::Config,
            None => Exit::Failed,
        };
        CommandError::Other { exit, message: format!("{error:#}") }
    })
}

/// Runs `future` to its end on a runtime of its own.
fn block_on<F: Future>(future: F) -> Result<F::Output, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::failed(format!("cannot start threads: {error}")))?;
    Ok(runtime.block_on(future))
}

/// Starts the log on stderr. `COMMONWATT_LOG` overrides `level`.
fn start_log(level: &str) -> Result<(), CommandError> {
    let wanted = std::env::var("COMMONWATT_LOG").unwrap_or_else(|_| level.to_owned());
    // What is said last holds, so the person's own words can still make a quiet part speak.
    let filter = EnvFilter::try_new(format!("{QUIET},{wanted}")).map_err(|error| {
        CommandError::config(format!(
            "the log filter {wanted:?} cannot be used: {error}; write e.g. info,node=debug"
        ))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (tests) keeps the first.
    let _ = log.with_ansi(out::stderr_has_color()).try_init();
    Ok(())
}
