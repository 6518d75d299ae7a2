//! Opening sockets and serial ports.

mod guard;
mod wire;

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_serial::{DataBits, FlowControl, SerialPortBuilder, SerialStream, StopBits};

pub(crate) use self::guard::{Guard, Next, Shape};
pub(crate) use self::wire::{Heard, Wire};
use crate::endpoint::{Endpoint, HostPort, Line, Parity};
use crate::error::MeterError;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// An open socket or serial port.
#[derive(Debug)]
pub(crate) enum Port {
    Tcp(TcpStream),
    Serial(SerialStream),
}

impl Port {
    /// Opens `endpoint` within `deadline`. A host name is looked up anew every time: addresses change.
    pub(crate) async fn open(endpoint: &Endpoint, deadline: Instant) -> Result<Self, MeterError> {
        match endpoint {
            Endpoint::Tcp(address) | Endpoint::RtuOverTcp(address) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(MeterError::Late { endpoint: endpoint.clone() });
                }
                let unreachable = |cause| MeterError::Unreachable { endpoint: endpoint.clone(), cause };
                let connecting = timeout(CONNECT_MAX.min(left), connect(address));
                let stream = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                stream.map(Self::Tcp).map_err(unreachable)
            }
            Endpoint::Serial { path, line } => {
                let port = SerialStream::open(&builder(path, *line));
                port.map(Self::Serial).map_err(|cause| serial_error(cause, path, endpoint))
            }
        }
    }
}

async fn connect(address: &HostPort) -> io::Result<TcpStream> {
    let found = lookup_host((address.host.as_str(), address.port)).await;
    let found = found.map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for socket in found {
        match TcpStream::connect(socket).await {
            Ok(stream) => {
                // A request is one small segment: it must not wait for the acknowledgement of the last.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn builder(path: &Path, line: Line) -> SerialPortBuilder {
    tokio_serial::new(path.to_string_lossy(), line.baud)
        .data_bits(DataBits::Eight)
        .flow_control(FlowControl::None)
        .exclusive(true)
        .stop_bits(if line.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .parity(match line.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        })
}

/// The serial port crate says `NoDevice` for a port that is locked by another program, and `NotFound` for none.
fn serial_error(cause: tokio_serial::Error, path: &Path, endpoint: &Endpoint) -> MeterError {
    let path = path.to_owned();
    match cause.kind {
        tokio_serial::ErrorKind::NoDevice => MeterError::PortBusy { path },
        tokio_serial::ErrorKind::Io(io::ErrorKind::NotFound) => MeterError::NoPort { path },
        tokio_serial::ErrorKind::Io(io::ErrorKind::PermissionDenied) => MeterError::NoPermission { path },
        _ => MeterError::PortUnusable { endpoint: endpoint.clone(), cause: cause.into() },
    }
}

impl AsyncRead for Port {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Serial(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Serial(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            // The driver sends what was written; waiting for it (tcdrain) would block the whole thread.
            Self::Serial(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Serial(_) => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_a_serial_port_cannot_be_opened_has_its_own_message() {
        let (path, line) = (Path::new("/dev/ttyUSB0"), Line::default());
        let endpoint = Endpoint::Serial { path: path.to_owned(), line };
        let of = |kind| serial_error(tokio_serial::Error::new(kind, "told"), path, &endpoint);
        use tokio_serial::ErrorKind::{Io, NoDevice, Unknown};
        assert!(matches!(of(NoDevice), MeterError::PortBusy { .. }));
        assert!(matches!(of(Io(io::ErrorKind::NotFound)), MeterError::NoPort { .. }));
        assert!(matches!(of(Io(io::ErrorKind::PermissionDenied)), MeterError::NoPermission { .. }));
        let other = of(Unknown).to_string();
        assert!(other.contains("/dev/ttyUSB0 (9600 8N1) cannot be used: told; check that it is"), "{other}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_serial_port_and_one_that_is_not_there_are_told_apart() {
        let open = async |path: &str| {
            let endpoint = Endpoint::Serial { path: path.into(), line: Line::default() };
            Port::open(&endpoint, Instant::now() + CONNECT_MAX).await.unwrap_err()
        };
        assert!(matches!(open("/dev/null").await, MeterError::PortUnusable { .. }));
        assert!(matches!(open("/dev/no-such-port").await, MeterError::NoPort { .. }));
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_told_from_a_device_that_does_not_answer() {
        let endpoint = Endpoint::Tcp("meter.invalid:502".parse().unwrap());
        let error = Port::open(&endpoint, Instant::now() + Duration::from_secs(10)).await.unwrap_err();
        // Without any name server the look-up may also take longer than a connection may.
        let told = error.to_string();
        assert!(
            told.contains("no address is known for that name") || told.contains("nothing answers"),
            "{told}"
        );
    }
}
