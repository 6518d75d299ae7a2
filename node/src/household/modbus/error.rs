//! Why a device could not be asked or told over Modbus.

use std::io;

use meter::HostPort;
use tokio_modbus::ExceptionCode;

/// What went wrong, where, and what to look at.
#[derive(Debug, thiserror::Error)]
pub(super) enum ModbusError {
    /// No connection.
    #[error(
        "{at} cannot be reached: {cause}; look whether the device is on, in this network, and has Modbus TCP enabled"
    )]
    Unreachable { at: HostPort, cause: io::Error },
    /// No answer.
    #[error(
        "{at} unit {unit} did not answer within {waited_ms} ms; look at the unit number, and whether another program holds \
         the device's only connection"
    )]
    Silent { at: HostPort, unit: u8, waited_ms: u128 },
    /// The connection broke, or what came is no answer.
    #[error("{at} unit {unit} broke off: {cause}; it is tried again, look at the network if this goes on")]
    Broken { at: HostPort, unit: u8, cause: tokio_modbus::Error },
    /// An answer to something else.
    #[error(
        "{at} unit {unit} answered something else than was asked at register {register}; is it Modbus TCP"
    )]
    Odd { at: HostPort, unit: u8, register: u16 },
    /// A Modbus exception.
    #[error(
        "{at} unit {unit} refuses to {what} register {register} (exception {code}, {says}); compare the register with the \
         maker's list, and permit control over Modbus in the device's menu"
    )]
    Refused { at: HostPort, unit: u8, what: &'static str, register: u16, code: u8, says: ExceptionCode },
    /// No value.
    #[error(
        "{at} unit {unit} has no value in register {register}; the sensor may be missing, or the register is another"
    )]
    Absent { at: HostPort, unit: u8, register: u16 },
    /// A value that cannot be.
    #[error(
        "{at} unit {unit} says {value} in register {register}, and only {least} to {most} can be; compare its kind, words \
         and scale with the maker's list"
    )]
    Impossible { at: HostPort, unit: u8, register: u16, value: i64, least: i64, most: i64 },
    /// What was written is not what is there.
    #[error(
        "{at} unit {unit} did not keep what was written to register {register}: {wrote:?} became {read:?}; the device may \
         limit it, or another program writes there; for a register that cannot be read back write verify = false"
    )]
    NotKept { at: HostPort, unit: u8, register: u16, wrote: Vec<u16>, read: Vec<u16> },
    /// More than the device can do, as configured.
    #[error(
        "{watts} W are more than the {rated} W that the configuration says it can do; nothing was written"
    )]
    BeyondRating { watts: u32, rated: u32 },
    /// More than the inverter says it can do.
    #[error(
        "{watts} W are more than the {most} W that the inverter says it can do (WChaMax); correct charge_w and discharge_w; \
         nothing was written"
    )]
    BeyondInverter { watts: i64, most: i64 },
    /// More than the register may hold.
    #[error("{watts} W would be {value} in register {register}, which takes {limit}; nothing was written")]
    BeyondRegister { watts: i64, value: i128, register: u16, limit: String },
    /// Meant for another device.
    #[error("this device cannot be told to {0}")]
    Foreign(agent::Control),
    /// No `SunSpec`.
    #[error(
        "{at} unit {unit} has no SunSpec map at 40000, 0 or 50000; enable SunSpec in its menu, or describe its registers \
         with map = \"registers\""
    )]
    NoSunspec { at: HostPort, unit: u8 },
    /// No storage model.
    #[error("{at} unit {unit} has no SunSpec model 124 (storage); is a battery connected to this inverter")]
    NoStorage { at: HostPort, unit: u8 },
    /// No way back.
    #[error(
        "{at} unit {unit} does not keep a revert time (InOutWRte_RvrtTms): it would go on with the last command if this \
         node dies; nothing else was written; write revert_s = 0 to accept that"
    )]
    NoRevert { at: HostPort, unit: u8 },
}
