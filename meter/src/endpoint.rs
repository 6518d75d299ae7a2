//! Where a meter is: a network address or a serial line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A text that names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `host:port`.
    #[error(
        "{0:?} is no address of the form host:port, for example 192.168.1.20:502 (IPv6: [fe80::1]:502); a port is 1 to 65535"
    )]
    HostPort(String),
    /// Not a line setting.
    #[error(
        "{0:?} is no line setting of the form \"9600 8N1\": baud rate, 8 data bits, N, E or O, 1 or 2 stop bits"
    )]
    Line(String),
}

/// A host (name, IPv4 or IPv6 address without brackets) and a TCP port. A name is looked up at every connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The longest host name (RFC 1035, section 2.3.4), and longer than any address.
const HOST_MAX: usize = 253;

impl FromStr for HostPort {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::HostPort(text.chars().take(HOST_MAX).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(address) if address.contains(':') => address,
            None if !host.contains([':', '[', ']', '/', ' ']) => host,
            _ => return Err(wrong()),
        };
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || host.len() > HOST_MAX || port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl From<std::net::SocketAddr> for HostPort {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Parity bit of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// Settings of a serial line; always 8 data bits, as Modbus RTU demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Line {
    /// Bits per second.
    pub baud: u32,
    /// Parity bit.
    pub parity: Parity,
    /// Stop bits: 1 or 2.
    pub stop_bits: u8,
}

impl Line {
    /// Bits that one byte takes on the wire: start, data, parity and stop bits.
    #[must_use]
    pub const fn bits_per_byte(&self) -> u32 {
        let parity = if matches!(self.parity, Parity::None) { 0 } else { 1 };
        let stop = if self.stop_bits == 2 { 2 } else { 1 };
        9 + parity + stop
    }

    /// How long `bytes` take on the wire.
    #[must_use]
    pub fn time_of(&self, bytes: u32) -> Duration {
        let bits = u64::from(bytes) * u64::from(self.bits_per_byte());
        Duration::from_micros((bits * 1_000_000).div_ceil(u64::from(self.baud.max(1))))
    }

    /// The silence that ends a frame: 3.5 characters, and 1.75 ms above 19 200 Bd (Modbus over Serial Line V1.02,
    /// section 2.5.1.1).
    #[must_use]
    pub fn silence(&self) -> Duration {
        if self.baud > 19_200 { Duration::from_micros(1_750) } else { self.time_of(7) / 2 }
    }
}

impl Default for Line {
    /// 9600 8N1, what most meters leave the factory with.
    fn default() -> Self {
        Self { baud: 9600, parity: Parity::None, stop_bits: 1 }
    }
}

/// What serial drivers take and meters use.
const BAUD: std::ops::RangeInclusive<u32> = 300..=921_600;

impl FromStr for Line {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Line(text.chars().take(40).collect());
        let (baud, frame) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let baud: u32 = baud.parse().map_err(|_| wrong())?;
        let (parity, stop_bits) = match frame.trim_start().as_bytes() {
            [b'8', parity, stop @ (b'1' | b'2')] => (*parity, stop - b'0'),
            _ => return Err(wrong()),
        };
        let parity = match parity.to_ascii_uppercase() {
            b'N' => Parity::None,
            b'E' => Parity::Even,
            b'O' => Parity::Odd,
            _ => return Err(wrong()),
        };
        if BAUD.contains(&baud) { Ok(Self { baud, parity, stop_bits }) } else { Err(wrong()) }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        write!(f, "{} 8{parity}{}", self.baud, self.stop_bits)
    }
}

/// Where a bus is and how frames travel on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Modbus TCP: frames with transaction ids.
    Tcp(HostPort),
    /// Modbus RTU frames over TCP: a gateway that passes the serial line through.
    RtuOverTcp(HostPort),
    /// Modbus RTU on a serial port of this machine.
    Serial {
        /// The device, for example `/dev/ttyUSB0`.
        path: PathBuf,
        /// Its settings.
        line: Line,
    },
}

impl Endpoint {
    /// True if frames carry no transaction id: an answer is told from another only by unit, function and length.
    #[must_use]
    pub const fn is_rtu(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::RtuOverTcp(address) => write!(f, "{address} (RTU over TCP)"),
            Self::Serial { path, line } => write!(f, "{} ({line})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_written() {
        for text in ["192.168.1.20:502", "inverter.local:1502", "[fe80::1]:502", "[::1]:1"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:502".parse::<HostPort>().unwrap().host, "::1");
        let of_socket =
            |text: &str| HostPort::from(text.parse::<std::net::SocketAddr>().unwrap()).to_string();
        assert_eq!(
            (of_socket("[::1]:502"), of_socket("127.0.0.1:7")),
            ("[::1]:502".into(), "127.0.0.1:7".into())
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_form() {
        let long = format!("{}:1", "a".repeat(254));
        for text in
            ["", "host", ":502", "host:", "host:0", "host:65536", "::1:502", "[host]:502", "a b:1", &long]
        {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains("of the form host:port"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_line_setting_comes_back_as_written() {
        for text in ["9600 8N1", "2400 8E1", "19200 8O2", "115200 8N2"] {
            assert_eq!(text.parse::<Line>().unwrap().to_string(), text);
        }
        for text in ["", "9600", "9600 7E1", "9600 8N3", "9600 8X1", "299 8N1", "9600 8N10", "1000000 8N1"] {
            assert!(text.parse::<Line>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_byte_takes_ten_to_twelve_bits_and_a_frame_ends_with_three_and_a_half_characters() {
        let line = |text: &str| text.parse::<Line>().unwrap();
        assert_eq!(["9600 8N1", "9600 8E1", "9600 8E2"].map(|text| line(text).bits_per_byte()), [10, 11, 12]);
        assert_eq!(line("9600 8N1").time_of(169).as_millis(), 176, "a whole SDM630 and its request");
        assert_eq!(line("9600 8N1").silence().as_micros(), 3_646);
        assert_eq!(line("115200 8N1").silence().as_micros(), 1_750);
    }

    #[test]
    fn an_endpoint_is_written_with_what_is_spoken_there() {
        let address = || "meter:502".parse::<HostPort>().unwrap();
        let serial = Endpoint::Serial { path: "/dev/ttyUSB0".into(), line: Line::default() };
        assert_eq!(
            [Endpoint::Tcp(address()), Endpoint::RtuOverTcp(address()), serial].map(|it| it.to_string()),
            ["meter:502", "meter:502 (RTU over TCP)", "/dev/ttyUSB0 (9600 8N1)"]
        );
    }
}
