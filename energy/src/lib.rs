//! The words of Commonwatt: energy, price, money, market time, readings and ids.
//!
//! Every quantity is an integer with its unit in its type, and every operation is checked: it returns
//! [`QuantityError`] instead of wrapping or rounding. Direction is never a sign: import and export (seen from the
//! home) are two fields. A price in µ/kWh times an energy in Wh is a money amount in n, exactly, so nothing that
//! decides money ever rounds (source of the units: the market design, "Units").
//!
//! What is deliberately absent: I/O, a clock, randomness, floating point. `chrono` is linked without its `clock`
//! feature, only to print and parse RFC 3339.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod id;
mod quantity;
mod reading;
mod time;

pub use id::{HomeId, IdError, MeterSerial, NodeId};
pub use quantity::{Balance, Money, Price, QuantityError, WattHours, midpoint_floor};
pub use reading::{ClockQuality, Quality, RAW_REGISTERS_MAX, Reading, TakenAt};
pub use time::{Interval, Mtu, TimeError, Timestamp};
