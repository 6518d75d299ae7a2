//! Behaviour of the replica: alone on a bench, and as a cluster under faults.

mod bench;
mod cluster;
mod replica;
mod simulation;
mod street;
