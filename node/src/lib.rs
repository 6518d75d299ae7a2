//! The appliance: everything a home node does with the world.

pub mod allocation;
pub mod assurance;
mod away;
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
pub mod follow;
pub mod genesis_file;
pub mod household;
pub mod http;
pub mod identity;
mod intake;
mod joining;
pub mod metering;
pub mod meters;
pub mod network;
pub mod outside;
pub mod recovery;
pub mod run;
pub mod share;
pub mod store;
pub mod tariff;
pub mod terms;
pub mod zone;

// What only simulators may do never gets into the appliance, whatever it is built together with.
const _: () = assert!(
    !ledger::REMEMBERS_SIGNATURES,
    "the program checks every signature: build it without that feature"
);
