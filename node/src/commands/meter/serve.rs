//! `commonwatt meter serve`: one meter for more than one program.

use tokio::signal::unix::{SignalKind, signal};

use super::args::ServeArgs;
use super::reach::reach;
use crate::cli::Exit;
use crate::commands::{CommandError, out};
use crate::share;

/// Serves until it is told to stop.
///
/// # Errors
/// [`CommandError`] if nobody can listen there.
pub(super) async fn serve(args: ServeArgs) -> Result<Exit, CommandError> {
    let reached = reach(&args.reach)?;
    let configured = reached.config.as_ref().and_then(|config| config.share).map(|share| share.listen);
    let listen = args.listen.or(configured).unwrap_or(meter::serve::DEFAULT_LISTEN);
    let bound = share::bind(listen).await.map_err(|error| CommandError::failed(format!("{error:#}")))?;
    // No market, no boundaries: this program settles on nothing.
    let sharing = share::serve(bound, &reached.meter, None);
    let refused = |error: std::io::Error| CommandError::failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    out::line(&format!(
        "serving unit {} of {} at {}, read-only",
        reached.meter.unit, reached.meter.endpoint, sharing.address
    ));
    if !sharing.address.ip().is_loopback() {
        out::note("warning: Modbus has no password; everybody who reaches this address can read the meter");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(Exit::Ok)
}
