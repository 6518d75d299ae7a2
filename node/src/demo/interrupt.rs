//! Ctrl-C and SIGTERM, heard from the first moment on: what the demo has made by then is put away again.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Becomes set when somebody asks the demo to stop, and stays so.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Hears SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> std::io::Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            sender.send_replace(true);
            // Kept, so that a listener can tell a stop from an end.
            sender.closed().await;
        });
        Ok(Self(receiver))
    }

    /// True once somebody asked.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until somebody asks.
    pub async fn wait(&self) {
        // An error means that nobody hears signals any more, which only happens at the end of the program.
        let _ = self.0.clone().wait_for(|set| *set).await;
    }
}
