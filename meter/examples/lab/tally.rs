//! What a soak counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use meter::MeterError;
use serde_json::{Value, json};

/// Wrong values kept as text; the count goes on.
const EXAMPLES_MAX: usize = 10;

#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub right: u64,
    pub wrong: u64,
    /// Reads that gave no value.
    pub absent: u64,
    /// What the client said instead of a value, by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Faults that the server made, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Time from the return of a device to the next right value, by kind of outage.
    pub recoveries: Vec<(&'static str, Duration)>,
    pub examples: Vec<String>,
    /// Right and wrong values of a client without guards at the same server, beside the count.
    pub naive: Option<(u64, u64)>,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.absent += other.absent;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        self.recoveries.extend(&other.recoveries);
        self.examples.extend(other.examples.iter().take(EXAMPLES_MAX - self.examples.len()).cloned());
    }

    pub fn slowest(&self) -> Duration {
        self.recoveries.iter().map(|(_, took)| *took).max().unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        json!({
            "right": self.right,
            "wrong": self.wrong,
            "absent": self.absent,
            "recoveries": self.recoveries.len(),
            "slowest_recovery_ms": self.slowest().as_millis(),
            "errors": self.errors,
            "faults": self.faults,
            "wrong_examples": self.examples,
            "without_guards": self.naive.map(|(right, wrong)| json!({"right": right, "wrong": wrong})),
        })
    }
}

/// A tally that several readers write to.
#[derive(Debug, Default, Clone)]
pub struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub fn with<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was counted in a phase that is over; without a single right value it proved nothing.
    pub fn of(&self, phase: &str) -> anyhow::Result<Tally> {
        let tally = self.with(|tally| tally.clone());
        eprintln!("  {phase}: {} right, {} wrong, {} absent", tally.right, tally.wrong, tally.absent);
        ensure!(tally.right > 0, "{phase}: no right value at all was read; errors: {:?}", tally.errors);
        Ok(tally)
    }

    pub fn value(&self, verdict: Result<(), String>) -> bool {
        self.with(|tally| match verdict {
            Ok(()) => {
                tally.right += 1;
                true
            }
            Err(why) => {
                tally.wrong += 1;
                if tally.examples.len() < EXAMPLES_MAX {
                    tally.examples.push(why);
                }
                false
            }
        })
    }

    pub fn absent(&self, error: &MeterError) {
        self.with(|tally| {
            tally.absent += 1;
            *tally.errors.entry(kind(error)).or_default() += 1;
        });
    }

    pub fn recovered(&self, outage: &'static str, took: Duration) {
        self.with(|tally| tally.recoveries.push((outage, took)));
    }
}

const fn kind(error: &MeterError) -> &'static str {
    match error {
        MeterError::Unreachable { .. } => "unreachable",
        MeterError::Silent { .. } => "silent",
        MeterError::Broken { .. } => "broken",
        MeterError::NoPort { .. } | MeterError::PortUnusable { .. } => "no_port",
        MeterError::Echo { .. } => "echo",
        MeterError::Noise { .. } => "noise",
        MeterError::OutOfStep { .. } => "out_of_step",
        MeterError::WordOrder { .. } => "word_order",
        MeterError::NoSerial { .. } => "no_serial",
        MeterError::Refused { .. } => "refused",
        MeterError::BadLength { .. } => "bad_length",
        MeterError::Implausible { .. } => "implausible",
        MeterError::Absent { .. } => "no_value",
        MeterError::WrongSerial { .. } => "wrong_serial",
        MeterError::Resting { .. } => "resting",
        MeterError::Late { .. } => "late",
        MeterError::Busy { .. } => "busy",
        _ => "other",
    }
}
