//! The listening side: a bounded number of connections, and an orderly end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use super::{HttpState, router};

/// How many connections are served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 128;

/// A connection on which nothing moves for so long is closed, so that nobody holds all places by staying silent.
/// Streams of events carry a sign of life four times as often.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long requests may take to end once the node is stopping.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the API and the page on `listener` until `shutdown` is done; then ends the streams of events and waits a
/// few seconds for requests that are under way.
///
/// # Errors
/// [`io::Error`] if the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let live = Arc::clone(&state.live);
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let listener = Bounded { listener, permits, idle: IDLE_TIMEOUT };
    let server = axum::serve(listener, router(state)).with_graceful_shutdown(async move {
        shutdown.await;
        live.close();
        drop(stopping);
    });
    let deadline = async {
        // Resolves when the other end is dropped: there is no message.
        let _ = stopped.await;
        sleep(STOP_TIMEOUT).await;
    };
    tokio::select! {
        ended = server => ended,
        () = deadline => Ok(()),
    }
}

/// A listener that accepts only while there is room.
struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    idle: Duration,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        // axum's own listener logs and retries what can go wrong here.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, permit, self.idle), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection; its end makes room for another.
struct Connection {
    stream: TcpStream,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: TcpStream, permit: Option<OwnedSemaphorePermit>, idle: Duration) -> Self {
        Self { stream, idle, silence: Box::pin(sleep(idle)), _permit: permit }
    }

    /// What came of reading or writing; an error once nothing has moved for too long.
    fn moved<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            let deadline = Instant::now() + self.idle;
            self.silence.as_mut().reset(deadline);
            return poll;
        }
        self.silence.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.moved(cx, poll)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.moved(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_silent_connection_is_closed_and_makes_room_for_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let idle = Duration::from_millis(200);
        let mut bounded = Bounded { listener, permits: Arc::new(Semaphore::new(1)), idle };
        let mut silent = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        silent.write_all(b"GET").await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(connection.read(&mut buffer).await.unwrap(), 3);
        let ended = connection.read(&mut buffer).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(connection);
        let _second = TcpStream::connect(address).await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), bounded.accept()).await.expect("there is room again");
    }
}
