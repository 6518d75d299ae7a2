//! What must hold of any bytes from outside, as functions that panic where it does not.
//!
//! Each function of [`TARGETS`] is the body of one fuzz target in `fuzz/`, and runs over the inputs kept in `kept/` in every
//! test run. Decoders: no panic, and what is accepted has exactly this one encoding. State machine, elections, auction and
//! matching: bytes are read as choices ([`Choices`]), so that every input is a history worth judging.

mod acts;
mod chain;
mod choices;
mod decoders;
mod elections;
mod keys;
mod log;
mod markets;
mod meters;
mod outside;
mod seeds;
mod street;

pub use choices::Choices;
pub use seeds::{noise, seeds};
pub use street::genesis;

/// Judges one input.
pub type Judge = fn(&[u8]);

/// Every target by name: what judges its inputs.
pub const TARGETS: &[(&str, Judge)] = &[
    ("entries", decoders::entries),
    ("blocks", decoders::blocks),
    ("chain", chain::chain),
    ("election", elections::election),
    ("auction", markets::auction),
    ("settlement", markets::settlement),
    ("messages", decoders::messages),
    ("log", log::log),
    ("snapshot", decoders::snapshot),
    ("modbus", meters::modbus),
    ("counter", meters::counter),
    ("profile", meters::profile),
    ("texts", outside::texts),
    ("frames", outside::frames),
];

/// Judges one input of a target.
///
/// # Panics
/// Where something does not hold, and if there is no such target.
pub fn judge(target: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, judge) = found.unwrap_or_else(|| panic!("there is no target {target}"));
    judge(bytes);
}
