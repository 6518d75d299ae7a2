//! The appliance: everything a home node does with the world.

pub mod allocation;
pub mod assurance;
pub mod bench;
pub mod bill;
pub mod case;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod demo;
pub mod desk;
pub mod engine;
pub mod folder;
pub mod genesis_file;
pub mod household;
pub mod http;
pub mod identity;
mod intake;
pub mod metering;
pub mod meters;
pub mod network;
pub mod run;
pub mod share;
pub mod store;
pub mod tariff;
pub mod terms;
pub mod zone;
