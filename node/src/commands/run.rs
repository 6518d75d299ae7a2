//! `commonwatt run`: the node of one home until it is told to stop.

use ledger::Genesis;
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, block_on, check, start_log};
use crate::cli::{Exit, RunArgs};
use crate::config::Config;
use crate::genesis_file;
use crate::identity::Identity;

/// Loads everything, then runs the node.
///
/// # Errors
/// [`CommandError`].
pub(super) fn run(args: &RunArgs) -> Result<Exit, CommandError> {
    let config = Config::load(&args.config)?;
    start_log(&config.log_level)?;
    let genesis = genesis_file::load(&config.genesis)?;
    let identity = Identity::load(&config.data_dir)?;
    check::check_meters(&config, &genesis)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    block_on(serve(&config, identity, genesis))??;
    Ok(Exit::Ok)
}

async fn serve(config: &Config, identity: Identity, genesis: Genesis) -> Result<(), CommandError> {
    let refused = |error: std::io::Error| CommandError::failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("told to stop (SIGTERM)"),
            _ = interrupt.recv() => tracing::info!("told to stop (SIGINT)"),
        }
    };
    crate::run::run(config, identity, genesis, shutdown)
        .await
        .map_err(|error| CommandError::failed(format!("the node stopped: {error:#}")))
}
