//! The household's agent in the node: its devices, what it remembers, and the loop that plans anew each interval.
//!
//! As an interval begins: what the devices did is written down, the own reading and what was settled are taken in
//! ([`memory`]), the ledger is asked for prices, positions and caps ([`outlook`]), the agent plans ([`agent::Mind`]), each
//! device is told its part over its own line ([`device`]), and the order desk signs what is to be traded.
//!
//! The agent gives orders for energy of devices that it really controls, and of no other: with simulated devices, or ones that are
//! only planned for, it trades nothing.

pub mod device;
pub mod keeper;
pub mod memory;
#[cfg(feature = "control-modbus")]
pub mod modbus;
mod obey;
pub mod outlook;
pub mod plant;

pub use keeper::{HouseholdHandle, HouseholdParts, HouseholdSetup, Past, Trial, View, start};
