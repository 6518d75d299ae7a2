//! Behaviour of the replica: alone on a bench, and as a cluster under faults.
#![expect(clippy::panic, reason = "a test that finds what must not be says so by panicking")]

mod bench;
mod cluster;
mod replica;
mod simulation;
mod street;
