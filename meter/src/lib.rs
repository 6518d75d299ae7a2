//! Modbus meters to readings: device profiles as data, a client that never returns a wrong value, a simulator.
//!
//! The way of one value: a [`Profile`] says which registers to read; [`Meter`] owns the one connection to a device
//! and answers with an [`EnergySample`] or a [`LiveSample`]; a [`BoundaryTracker`] turns the samples taken at the ends
//! of intervals into [`energy::Reading`]s. A [`simulator::SimulatedMeter`] is a Modbus TCP server with the register
//! map of a real model.
//!
//! Rules that hold everywhere (each has a test named after it):
//! - A failed read is an error, never 0 and never the last value. What a device sends for "no value" is absent.
//! - Both energy registers come from one request; a block is plausible as a whole or discarded as a whole.
//! - After every transport error, time-out or answer that does not fit, the connection is dropped: a late answer can
//!   then never be taken for the answer to a later question.
//! - A cumulative register that fell is refused, never clamped; energy is never differenced across two serial numbers.
//!
//! What is deliberately absent: any way to write to a device, a wall clock (time of day is handed in), knowledge of
//! markets and ledgers.

mod back_off;
mod block;
mod boundary;
mod client;
mod decode;
mod error;
mod link;
mod profile;
pub mod simulator;
mod sunspec;

pub use block::{EncodeError, RegisterImage, Registers};
pub use boundary::{BOUNDARY_TOLERANCE_MS, BoundaryError, BoundaryTracker, IntervalEnergy, LastRecord};
pub use client::{EnergySample, LiveSample, Meter, MeterConfig};
pub use error::MeterError;
pub use profile::{Profile, ProfileError};
