//! What can go wrong between a node and its meter.

use std::io;
use std::path::PathBuf;

use energy::MeterSerial;

use crate::block::BlockError;
use crate::endpoint::Endpoint;

/// No value could be had. Each message says what happened, the likely cause and the next step; the lower-level cause,
/// where there is one, is the [source](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// No connection could be made.
    #[error("no connection to the meter at {endpoint}: {}", connect_hint(cause))]
    Unreachable {
        /// Where the meter should be.
        endpoint: Endpoint,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The serial port may not be opened by this user.
    #[error(
        "no permission to open the serial port {}; add the user this program runs as to the group dialout: sudo usermod -aG dialout NAME, then log in again (restart it if it is a service)",
        path.display()
    )]
    NoPermission {
        /// The serial port.
        path: PathBuf,
    },
    /// There is no such serial port.
    #[error(
        "there is no serial port {}; check that the adapter is plugged in, and its name: ls -l /dev/serial/by-id shows names that outlive a restart",
        path.display()
    )]
    NoPort {
        /// The serial port.
        path: PathBuf,
    },
    /// Another program holds the serial port.
    #[error(
        "another program has the serial port {} open; find it with: sudo fuser -v {}, and stop it, or let it read the meter through this one (commonwatt meter serve)",
        path.display(),
        path.display()
    )]
    PortBusy {
        /// The serial port.
        path: PathBuf,
    },
    /// The serial port exists and cannot be used.
    #[error(
        "the serial port at {endpoint} cannot be used: {cause}; check that it is a serial port, that its adapter is plugged in and that it takes this baud rate"
    )]
    PortUnusable {
        /// The port and its settings.
        endpoint: Endpoint,
        /// What the system said.
        cause: io::Error,
    },
    /// The same socket or port is in use with other settings.
    #[error(
        "{endpoint} cannot be used while {other} is: one bus has one transport and one line setting; give all meters on it the same"
    )]
    Conflict {
        /// What was asked for.
        endpoint: Endpoint,
        /// What it is open as.
        other: Endpoint,
    },
    /// Connected, and nothing at all came.
    #[error(
        "the meter at {endpoint} unit {unit} did not answer within {waited_ms} ms; {}",
        silence_hint(endpoint)
    )]
    Silent {
        /// Where the meter is.
        endpoint: Endpoint,
        /// Its unit id.
        unit: u8,
        /// How long was waited, ms.
        waited_ms: u64,
    },
    /// The question itself came back.
    #[error(
        "{endpoint} sends back what is written to it: its adapter does not mute its receiver while it sends; switch its local echo off or use another adapter (and if unit {unit} is silent without it, check that the meter is connected)"
    )]
    Echo {
        /// The bus.
        endpoint: Endpoint,
        /// The unit asked.
        unit: u8,
    },
    /// Bytes came that are no Modbus.
    #[error("{bytes} bytes came from {endpoint} that are no answer to unit {unit}; {}", noise_hint(endpoint))]
    Noise {
        /// The bus.
        endpoint: Endpoint,
        /// The unit asked.
        unit: u8,
        /// How many.
        bytes: usize,
    },
    /// Bytes keep coming that nobody asked for.
    #[error(
        "bytes keep coming on {endpoint} though nothing is asked; another master (a logger, or an inverter that reads the same meter) is probably on the line, and a line has one master: take it off, or read the meter through it"
    )]
    Unquiet {
        /// The bus.
        endpoint: Endpoint,
    },
    /// The connection ended, or what came is not the answer to the question asked.
    #[error(
        "the connection to the meter at {endpoint} failed in the middle of a read; {}",
        broken_hint(endpoint)
    )]
    Broken {
        /// Where the meter is.
        endpoint: Endpoint,
        /// What was noticed.
        #[source]
        cause: tokio_modbus::Error,
    },
    /// Answers may still be on their way that cannot be told from the one wanted.
    #[error(
        "unit {unit} at {endpoint} answers too late to tell its answers apart; nothing is taken for a value until it is in step again; allow it a longer timeout, or ask it less often"
    )]
    OutOfStep {
        /// The bus.
        endpoint: Endpoint,
        /// The unit.
        unit: u8,
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
    /// More registers asked for than one answer holds, or beyond the last one.
    #[error("{count} registers from {register:#06x} cannot be read at once; ask for 1 to 125, up to 0xffff")]
    BadSpan {
        /// First register.
        register: u16,
        /// How many.
        count: u16,
    },
    /// A function that does not read registers.
    #[error("function {0} does not read registers; use 3 (holding) or 4 (input)")]
    BadFunction(u8),
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
        profile: String,
    },
    /// The answer cannot be, and looks right with the words of its values in the other order.
    #[error(
        "the meter sent an impossible {quantity}: {problem}; the block looks right with {other_order}: the profile's word order is probably wrong; correct it in profile {profile} or choose the profile of this very model"
    )]
    WordOrder {
        /// Which value.
        quantity: &'static str,
        /// What is impossible about it.
        problem: String,
        /// The order in which it looks right.
        other_order: &'static str,
        /// Profile used.
        profile: String,
    },
    /// The meter says that it has no such value.
    #[error("the meter has no value for {quantity}; check that profile {profile} is for this model")]
    Absent {
        /// Which value.
        quantity: &'static str,
        /// Profile used.
        profile: String,
    },
    /// The profile has no serial number register and nobody typed the number in.
    #[error(
        "profile {profile} has no register with the serial number; type the number on the meter's nameplate into its settings (serial = \"...\")"
    )]
    NoSerial {
        /// Profile used.
        profile: String,
    },
    /// No register map of the wanted `SunSpec` model was found.
    #[error(
        "no SunSpec model {model} at {endpoint} unit {unit} (looked at registers 40000, 0 and 50000); check the unit id (a meter behind an inverter has its own) and that SunSpec is switched on"
    )]
    NotFound {
        /// Where the device is.
        endpoint: Endpoint,
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
        "the meter at {endpoint} failed {failures} times in a row; next attempt in {retry_ms} ms; the last failure: {last}"
    )]
    Resting {
        /// Where the meter is.
        endpoint: Endpoint,
        /// Failures since the last success.
        failures: u32,
        /// Time until it is asked again, ms.
        retry_ms: u64,
        /// Text of the last failure.
        last: String,
    },
    /// The deadline passed before the meter could be asked.
    #[error(
        "the deadline passed before the meter at {endpoint} could be asked; allow more time or ask less often"
    )]
    Late {
        /// Where the meter is.
        endpoint: Endpoint,
    },
    /// More requests are waiting than the queue holds.
    #[error("{waiting} requests are already waiting for the meter at {endpoint}; ask less often")]
    Busy {
        /// Where the meter is.
        endpoint: Endpoint,
        /// Length of the queue.
        waiting: usize,
    },
    /// The task that owns the connection has ended.
    #[error("the meter's connection was shut down")]
    Closed,
}

impl MeterError {
    pub(crate) fn of_block(error: BlockError, profile: &str) -> Self {
        let profile = profile.to_owned();
        match error {
            BlockError::Absent(quantity) => Self::Absent { quantity, profile },
            BlockError::Implausible { quantity, problem } => Self::Implausible { quantity, problem, profile },
            BlockError::WordOrder { quantity, problem, other_order } => {
                Self::WordOrder { quantity, problem, other_order, profile }
            }
        }
    }

    /// True if one lost, late or garbled answer could be the reason: worth one more try at once.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. }
                | Self::Silent { .. }
                | Self::Echo { .. }
                | Self::Noise { .. }
                | Self::BadLength { .. }
                | Self::OutOfStep { .. }
        )
    }

    /// True if the device is away, rather than there and answering badly.
    pub(crate) const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Broken { .. }
                | Self::Silent { .. }
                | Self::Noise { .. }
                | Self::Unquiet { .. }
                | Self::OutOfStep { .. }
                | Self::NoPort { .. }
                | Self::PortUnusable { .. }
                | Self::Refused { code: 0x0A | 0x0B, .. }
        )
    }

    /// True if the device was away or said to be, so that another one may answer next.
    pub(crate) const fn may_be_exchanged(&self) -> bool {
        self.is_outage() || matches!(self, Self::Refused { code: 0x04, .. })
    }

    /// True if the request never reached the device: that says nothing about it.
    #[must_use]
    pub const fn is_not_asked(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::Busy { .. } | Self::Resting { .. } | Self::Closed)
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
        io::ErrorKind::NotFound => {
            "no address is known for that name; check its spelling, or use the IP address"
        }
        _ => "check its address, its power and the network",
    }
}

const fn silence_hint(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Tcp(_) => {
            "check the unit id, the bus cable and that no other program holds its only connection"
        }
        Endpoint::RtuOverTcp(_) => {
            "check the unit id, the cable between gateway and meter (A and B not swapped), the gateway's baud rate and parity, and that it passes RTU frames through (a gateway that speaks Modbus TCP needs transport = \"tcp\")"
        }
        Endpoint::Serial { .. } => {
            "not one byte came: check that the meter is powered, the cable (A and B not swapped), the unit id, and baud rate and parity in the meter's menu"
        }
    }
}

const fn noise_hint(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Tcp(_) => {
            "it does not speak Modbus TCP there; correct the port, or set transport = \"rtu-tcp\" if it is a gateway that passes the serial line through"
        }
        Endpoint::RtuOverTcp(_) => {
            "the gateway's baud rate or parity is probably not the meter's; else two meters have one unit id, or it speaks Modbus TCP (transport = \"tcp\")"
        }
        Endpoint::Serial { .. } => {
            "the baud rate or parity is probably not the meter's (commonwatt meter scan finds them); else two meters have one unit id, A and B are swapped, or the line is disturbed"
        }
    }
}

const fn broken_hint(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Tcp(_) => {
            "if it goes on, look for a second client, a gateway that alters transaction or unit ids, or a device that does not speak Modbus TCP"
        }
        Endpoint::RtuOverTcp(_) => {
            "if it goes on, look for a second client of the gateway, or a second meter with the same unit id"
        }
        Endpoint::Serial { .. } => {
            "if it goes on, check plug and power of the adapter, and look for a second master or a second meter with the same unit id on the bus"
        }
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

    fn tcp() -> Endpoint {
        Endpoint::Tcp("192.0.2.7:502".parse().unwrap())
    }

    fn serial() -> Endpoint {
        Endpoint::Serial { path: "/dev/ttyUSB0".into(), line: "9600 8N1".parse().unwrap() }
    }

    #[test]
    fn a_message_names_the_likely_cause_and_the_next_step() {
        let unreachable =
            |kind| MeterError::Unreachable { endpoint: tcp(), cause: io::Error::from(kind) }.to_string();
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
            MeterError::Silent { endpoint: tcp(), unit: 3, waited_ms: 500 }.to_string(),
            "the meter at 192.0.2.7:502 unit 3 did not answer within 500 ms; check the unit id, the bus cable and that \
             no other program holds its only connection"
        );
    }

    #[test]
    fn a_serial_port_that_may_not_be_opened_says_how_to_get_the_permission() {
        assert_eq!(
            MeterError::NoPermission { path: "/dev/ttyUSB0".into() }.to_string(),
            "no permission to open the serial port /dev/ttyUSB0; add the user this program runs as to the group \
             dialout: sudo usermod -aG dialout NAME, then log in again (restart it if it is a service)"
        );
        let missing = MeterError::NoPort { path: "/dev/ttyUSB7".into() }.to_string();
        assert!(missing.contains("plugged in") && missing.contains("/dev/serial/by-id"), "{missing}");
        let busy = MeterError::PortBusy { path: "/dev/ttyUSB0".into() }.to_string();
        assert!(busy.contains("fuser -v /dev/ttyUSB0"), "{busy}");
    }

    #[test]
    fn nothing_echo_and_noise_on_a_serial_line_have_three_different_causes() {
        let (endpoint, unit) = (serial, 3);
        let silent = MeterError::Silent { endpoint: endpoint(), unit, waited_ms: 500 }.to_string();
        let echo = MeterError::Echo { endpoint: endpoint(), unit }.to_string();
        let noise = MeterError::Noise { endpoint: endpoint(), unit, bytes: 7 }.to_string();
        assert!(silent.contains("not one byte came") && silent.contains("A and B not swapped"), "{silent}");
        assert!(echo.contains("does not mute its receiver"), "{echo}");
        assert!(noise.starts_with("7 bytes came from /dev/ttyUSB0 (9600 8N1)"), "{noise}");
        assert!(noise.contains("baud rate or parity is probably not the meter's"), "{noise}");
    }
}
