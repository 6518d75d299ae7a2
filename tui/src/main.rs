//! `commonwatt-tui`: the operator's console as a program of its own.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// A neighbourhood on one screen, from the APIs of its nodes.
#[derive(Parser)]
#[command(name = "commonwatt-tui", version)]
struct Cli {
    #[command(flatten)]
    args: tui::Args,
}

#[tokio::main]
async fn main() -> ExitCode {
    match tui::run(Cli::parse().args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done if even the error stream is closed.
            let _ = writeln!(std::io::stderr(), "commonwatt-tui: {error:#}");
            error.downcast_ref::<tui::TuiError>().map_or(ExitCode::FAILURE, |error| error.exit_code().into())
        }
    }
}
