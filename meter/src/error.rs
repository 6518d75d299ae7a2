//! What can go wrong between a node and its meter.

use std::io;
use std::net::SocketAddr;

use energy::MeterSerial;

use crate::block::BlockError;

/// No value could be had. Each message says what happened, the likely cause and the next step; the lower-level cause,
/// where there is one, is the [source](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// No connection could be made.
    #[error("no connection to the meter at {address}: {}", connect_hint(cause))]
    Unreachable {
        /// Where the meter should be.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Connected, and no answer came.
    #[error(
        "the meter at {address} unit {unit} did not answer within {waited_ms} ms; check the unit id, the bus cable \
         and that no other program holds its only connection"
    )]
    Silent {
        /// Where the meter is.
        address: SocketAddr,
        /// Its unit id.
        unit: u8,
        /// How long was waited, ms.
        waited_ms: u64,
    },
    /// The connection ended, or what came is not the answer to the question asked.
    #[error(
        "the connection to the meter at {address} failed in the middle of a read; if it goes on, look for a second \
         client, a gateway that alters transaction or unit ids, or a device that does not speak Modbus TCP"
    )]
    Broken {
        /// Where the meter is.
        address: SocketAddr,
        /// What was noticed.
        #[source]
        cause: tokio_modbus::Error,
    },
    /// The meter answered, and refused.
    #[error("the meter refused to read register {register:#06x} (function {function}): exception {code:#04x}, {}", exception_hint(*code))]
    Refused {
        /// Modbus function asked for.
        function: u8,
        /// First register asked for.
        register: u16,
        /// Modbus exception code (Modbus Application Protocol V1.1b3, section 7).
        code: u8,
    },
    /// The answer has another length than the question.
    #[error(
        "the meter sent {got} registers from {register:#06x} where {asked} were asked for; the answer is discarded, \
         and if it goes on the profile or the gateway is wrong"
    )]
    BadLength {
        /// First register asked for.
        register: u16,
        /// Registers asked for.
        asked: usize,
        /// Registers sent.
        got: usize,
    },
    /// The answer cannot be: the whole block is discarded.
    #[error(
        "the meter sent an impossible {quantity}: {problem}; the block is discarded; check that profile {profile} is for this model"
    )]
    Implausible {
        /// Which value.
        quantity: &'static str,
        /// What is impossible about it.
        problem: String,
        /// Profile used.
        profile: &'static str,
    },
    /// The meter says that it has no such value.
    #[error("the meter has no value for {quantity}; check that profile {profile} is for this model")]
    Absent {
        /// Which value.
        quantity: &'static str,
        /// Profile used.
        profile: &'static str,
    },
    /// No register map of the wanted `SunSpec` model was found.
    #[error(
        "no SunSpec model {model} at {address} unit {unit} (looked at registers 40000, 0 and 50000); check the unit id (a meter behind an inverter has its own) and that SunSpec is switched on"
    )]
    NotFound {
        /// Where the device is.
        address: SocketAddr,
        /// Its unit id.
        unit: u8,
        /// The model looked for.
        model: u16,
    },
    /// Another meter answers than the one this connection began with.
    #[error(
        "meter {found} answers where meter {expected} was; if it was exchanged, commission the new one (a new meter epoch), else check address and unit id"
    )]
    WrongSerial {
        /// The serial number read first.
        expected: MeterSerial,
        /// The serial number read now.
        found: MeterSerial,
    },
    /// The device failed lately and is left alone for a while.
    #[error(
        "the meter at {address} failed {failures} times in a row; next attempt in {retry_ms} ms; the last failure: {last}"
    )]
    Resting {
        /// Where the meter is.
        address: SocketAddr,
        /// Failures since the last success.
        failures: u32,
        /// Time until it is asked again, ms.
        retry_ms: u64,
        /// Text of the last failure.
        last: String,
    },
    /// The deadline passed before the meter could be asked.
    #[error(
        "the deadline passed before the meter at {address} could be asked; allow more time or ask less often"
    )]
    Late {
        /// Where the meter is.
        address: SocketAddr,
    },
    /// More requests are waiting than the queue holds.
    #[error("{waiting} requests are already waiting for the meter at {address}; ask less often")]
    Busy {
        /// Where the meter is.
        address: SocketAddr,
        /// Length of the queue.
        waiting: usize,
    },
    /// The task that owns the connection has ended.
    #[error("the meter's connection was shut down")]
    Closed,
}

impl MeterError {
    pub(crate) fn of_block(error: BlockError, profile: &'static str) -> Self {
        match error {
            BlockError::Absent(quantity) => Self::Absent { quantity, profile },
            BlockError::Implausible { quantity, problem } => Self::Implausible { quantity, problem, profile },
        }
    }

    /// True if the device answered this very question in good order, so that the connection is still in step.
    pub(crate) const fn keeps_connection(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// True if a connection that died unnoticed could be the reason: worth one try on a fresh one.
    pub(crate) const fn may_be_stale_connection(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::Silent { .. })
    }

    /// True if the device is away, rather than there and answering badly.
    pub(crate) const fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. })
    }
}

fn connect_hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => {
            "the device is there but nothing listens on that port; switch Modbus TCP on in it, or correct the port"
        }
        io::ErrorKind::TimedOut => {
            "nothing answers at that address; check that it is powered and on this network, and the address"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no way to that address; check this node's network and the address"
        }
        io::ErrorKind::PermissionDenied => "the system does not permit it; check firewall rules",
        _ => "check its address, its power and the network",
    }
}

/// What each exception of the Modbus specification usually means with meters.
const fn exception_hint(code: u8) -> &'static str {
    match code {
        0x01 => "illegal function: the profile is probably for another model",
        0x02 => "illegal data address: the profile is probably for another model",
        0x03 => "illegal data value: the block is probably longer than this model reads at once",
        0x04 => "device failure: check the unit id and the display of the meter",
        0x05 | 0x06 => "busy: another client keeps it working; ask less often",
        0x0A | 0x0B => "the gateway cannot reach that unit: check the unit id and the bus behind the gateway",
        _ => "see the manual of the device for this code",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_likely_cause_and_the_next_step() {
        let address: SocketAddr = "192.0.2.7:502".parse().unwrap();
        let unreachable =
            |kind| MeterError::Unreachable { address, cause: io::Error::from(kind) }.to_string();
        assert_eq!(
            unreachable(io::ErrorKind::ConnectionRefused),
            "no connection to the meter at 192.0.2.7:502: the device is there but nothing listens on that port; \
             switch Modbus TCP on in it, or correct the port"
        );
        assert!(unreachable(io::ErrorKind::TimedOut).contains("check that it is powered"));
        assert_eq!(
            MeterError::Refused { function: 4, register: 0x48, code: 2 }.to_string(),
            "the meter refused to read register 0x0048 (function 4): exception 0x02, illegal data address: the profile \
             is probably for another model"
        );
        assert_eq!(
            MeterError::Silent { address, unit: 3, waited_ms: 500 }.to_string(),
            "the meter at 192.0.2.7:502 unit 3 did not answer within 500 ms; check the unit id, the bus cable and that \
             no other program holds its only connection"
        );
    }
}
