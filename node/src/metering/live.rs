//! Momentary power, for showing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meter::{LiveSample, Meter, MeterError, Watch};

use super::trouble::Board;
use super::{READ_DEADLINE, Shown, skipping};
use crate::assurance::Gatherer;

/// Where the power of one meter goes.
pub(super) struct Sinks {
    pub(super) shown: Shown,
    pub(super) board: Board,
    pub(super) watch: Arc<Mutex<Watch>>,
    pub(super) gatherer: Option<Gatherer>,
}

/// Reads momentary power beside the boundaries until the node has stopped. What is not known now is not shown.
pub(super) async fn show_power(meter: Meter, every: Duration, mut to: Sinks) {
    let mut ticks = skipping(every);
    loop {
        ticks.tick().await;
        if to.shown.panel.is_closed() {
            return;
        }
        match meter.read_live(READ_DEADLINE).await {
            Ok(sample) => to.take(&sample),
            Err(error) => to.fail(&error),
        }
    }
}

impl Sinks {
    pub(super) fn take(&mut self, sample: &LiveSample) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.live(sample);
        let power_w = watch.power_w(sample.middle);
        drop(watch);
        self.board.power_answers();
        // What a gateway repeats is neither shown as present nor evidence of anything.
        if power_w.is_none() {
            return self.lose(sample.middle);
        }
        if let Some(live) = &self.shown.live {
            live.set_power(power_w, sample.middle);
        }
        self.shown.panel.read_live(self.shown.place, sample);
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.take(sample);
        }
    }

    fn fail(&mut self, error: &MeterError) {
        tracing::debug!(%error, "no live power");
        let now = Instant::now();
        let power_w = self.watch.lock().unwrap_or_else(PoisonError::into_inner).power_w(now);
        // One that was left alone for a moment, or came too late in the queue, did not fail.
        if !error.is_not_asked() || power_w.is_none() {
            self.board.power_fails(error.to_string());
        }
        if power_w.is_none() {
            self.lose(now);
        }
    }

    /// Power is not known now.
    fn lose(&mut self, now: Instant) {
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.look_at_the_clock();
        }
        if let Some(live) = &self.shown.live {
            live.set_power(None, now);
        }
        self.shown.panel.lose_power(self.shown.place);
    }
}
