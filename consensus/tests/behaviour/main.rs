//! Behaviour of the replica: alone on a bench, and as a cluster under faults.

mod bench;
mod certificates;
mod cluster;
mod entries;
mod full_block;
mod replica;
mod simulation;
mod street;
