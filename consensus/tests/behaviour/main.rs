//! Behaviour of the replica on a bench; whole neighbourhoods under faults are in the crate `sim`.

mod bench;
mod certificates;
mod entries;
mod floods;
mod full_block;
mod proposals;
mod recovery;
mod replica;
mod street;
mod versions;
