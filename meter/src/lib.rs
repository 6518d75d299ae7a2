//! Modbus meters to readings: device profiles as data, a client that never returns a wrong value, a simulator.
//!
//! The way of one value: a [`Profile`] says which registers to read; a [`Bus`] owns the one connection to a device, a
//! gateway or a serial line; a [`Meter`] on it answers with an [`EnergySample`] or a [`LiveSample`]; a
//! [`BoundaryTracker`] turns the samples its [`Counter`] believes into [`energy::Reading`]s, a [`Watch`] says whether
//! live values can be used, and a [`Household`] what flows where in a home with several meters. A
//! [`simulator::SimulatedMeter`] is a Modbus server with the register
//! map of a real model.
//!
//! Rules that hold everywhere (each has a test named after it):
//! - A failed read is an error, never 0 and never the last value. What a device sends for "no value" is absent.
//! - Both energy registers come from one request; a block is plausible as a whole or discarded as a whole.
//! - After every transport error, time-out or answer that does not fit, the connection is dropped: a late answer can
//!   then never be taken for the answer to a later question.
//! - A cumulative register that fell is held, never clamped; energy is never differenced across two meter epochs.
//!
//! What is deliberately absent: any way to write to a device, a wall clock (time of day is handed in), knowledge of
//! markets and ledgers.

pub mod assurance;
mod back_off;
mod block;
mod boundary;
mod bus;
mod catalog;
mod client;
pub mod commission;
mod counter;
mod decode;
mod endpoint;
mod error;
mod frame;
mod household;
mod image;
mod link;
mod plan;
mod profile;
pub mod scan;
pub mod serve;
pub mod simulator;
mod sunspec;
mod transport;
#[doc(hidden)]
pub mod trial;
mod watch;

pub use boundary::{
    BOUNDARY_TOLERANCE_MS, BoundaryError, BoundaryTracker, INTERPOLATION_MS, IntervalEnergy, LastRecord,
    Observation, RegisteredMeter, TrackerConfig,
};
pub use bus::{Bus, BusConfig, BusReport};
pub use catalog::{Catalog, CatalogCause, CatalogError, CatalogFault};
pub use client::{EnergySample, Identity, LiveSample, Meter, MeterConfig};
pub use counter::{
    Accepted, Counter, CounterLimits, EnergyRegisters, EpochChange, Evidence, Hold, Look, Memory,
    MemoryError, Register, Stand, Suspicion,
};
pub use endpoint::{Endpoint, EndpointError, HostPort, Line, Parity};
pub use error::MeterError;
pub use household::{ALIGNED_WITHIN, FRESH_WITHIN, Flows, Household, MeterId, Misaligned, Role};
pub use image::{EncodeError, RegisterImage, Registers};
pub use plan::{BusLoad, Poll};
pub use profile::{BusDefaults, Netting, Profile, ProfileError, ProfileFault, Quantity};
pub use watch::{Check, Condition, Counted, Estimate, Freeze, Likely, Mismatch, Moment, Watch};
