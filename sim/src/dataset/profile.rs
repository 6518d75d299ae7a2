//! Energy per quarter-hour, and the meter that counts it.

use energy::{Interval, WattHours};

use super::QUARTERS_PER_WH;

/// The street's losses are one part in this many of what passes its root (2 %).
const LOSS_DIVISOR: u64 = 50;

/// Energy per quarter-hour of one meter, from a first interval on, in quarter-Wh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadProfile {
    first: Interval,
    import_quarter_wh: Vec<u64>,
    export_quarter_wh: Vec<u64>,
}

impl LoadProfile {
    /// The interval of the first quarter.
    #[must_use]
    pub const fn first(&self) -> Interval {
        self.first
    }

    /// Imported per quarter, quarter-Wh (= the mean W).
    #[must_use]
    pub fn import_quarter_wh(&self) -> &[u64] {
        &self.import_quarter_wh
    }

    /// Exported per quarter, quarter-Wh (= the mean W).
    #[must_use]
    pub fn export_quarter_wh(&self) -> &[u64] {
        &self.export_quarter_wh
    }

    /// How many quarters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.import_quarter_wh.len()
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.import_quarter_wh.is_empty()
    }

    /// The same, cut after `quarters`.
    #[must_use]
    pub fn truncated(mut self, quarters: usize) -> Self {
        self.import_quarter_wh.truncate(quarters);
        self.export_quarter_wh.truncate(quarters);
        self
    }

    /// What a meter that begins at these registers shows at the end of every quarter, in order. The fractions of a Wh
    /// carry over, so that its whole Wh never drift from the energy.
    pub fn meter(
        &self,
        import_start: WattHours,
        export_start: WattHours,
    ) -> impl Iterator<Item = MeterState> + '_ {
        let mut state = MeterState {
            interval: self.first,
            import_quarter_wh: import_start.get() * QUARTERS_PER_WH,
            export_quarter_wh: export_start.get() * QUARTERS_PER_WH,
            power_w: 0,
        };
        let quarters = self.import_quarter_wh.iter().zip(&self.export_quarter_wh);
        quarters.enumerate().map(move |(position, (&import, &export))| {
            if position > 0 {
                state.interval = state.interval.next();
            }
            state.import_quarter_wh += import;
            state.export_quarter_wh += export;
            state.power_w = import.cast_signed() - export.cast_signed();
            state
        })
    }

    /// The quarters of a net power in W, positive = import.
    pub(super) fn from_net(first: Interval, net_w: &[i64]) -> Self {
        Self {
            first,
            import_quarter_wh: net_w.iter().map(|net| net.max(&0).unsigned_abs()).collect(),
            export_quarter_wh: net_w.iter().map(|net| net.min(&0).unsigned_abs()).collect(),
        }
    }

    /// What the meter above a street with this sum counts: one part in [`LOSS_DIVISOR`] more of what is imported, one
    /// less of what is exported.
    pub(super) fn with_losses(&self) -> Self {
        Self {
            first: self.first,
            import_quarter_wh: scaled(&self.import_quarter_wh, LOSS_DIVISOR + 1),
            export_quarter_wh: scaled(&self.export_quarter_wh, LOSS_DIVISOR - 1),
        }
    }
}

/// A meter at the end of one quarter-hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterState {
    /// The quarter-hour that ends.
    pub interval: Interval,
    /// Cumulative import, quarter-Wh.
    pub import_quarter_wh: u64,
    /// Cumulative export, quarter-Wh.
    pub export_quarter_wh: u64,
    /// Mean power of the quarter, W; positive = import.
    pub power_w: i64,
}

impl MeterState {
    /// The import register, whole Wh.
    #[must_use]
    pub const fn import_register(&self) -> WattHours {
        WattHours::new(self.import_quarter_wh / QUARTERS_PER_WH)
    }

    /// The export register, whole Wh.
    #[must_use]
    pub const fn export_register(&self) -> WattHours {
        WattHours::new(self.export_quarter_wh / QUARTERS_PER_WH)
    }
}

/// Each value × `parts` / [`LOSS_DIVISOR`]; what the division leaves is carried to the next.
fn scaled(quarter_wh: &[u64], parts: u64) -> Vec<u64> {
    let mut carried = 0;
    let scale = |&energy: &u64| {
        let total = energy * parts + carried;
        carried = total % LOSS_DIVISOR;
        total / LOSS_DIVISOR
    };
    quarter_wh.iter().map(scale).collect()
}
