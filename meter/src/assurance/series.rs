//! A meter's cumulative registers on a grid of intervals.

use energy::WattHours;

/// Both registers at the end of one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// Counts meters and resets; nothing is differenced across it.
    pub epoch: u32,
    /// Cumulative import.
    pub import: WattHours,
    /// Cumulative export.
    pub export: WattHours,
}

/// A meter over a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterSeries {
    /// Smallest step of its registers.
    pub quantum: WattHours,
    /// Registers at the end of each interval; `None` where it was not read well at the boundary.
    pub readings: Vec<Option<Registers>>,
}

/// Import and export between two boundaries, Wh.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Flow {
    pub import: f64,
    pub export: f64,
}

impl Flow {
    /// Import less export.
    pub fn net(self) -> f64 {
        self.import - self.export
    }

    /// Both, whatever their direction.
    pub fn gross(self) -> f64 {
        self.import + self.export
    }

    /// How many of the two registers moved: one that stood still has no rounding error.
    pub fn moving(self) -> f64 {
        f64::from(u8::from(self.import > 0.0) + u8::from(self.export > 0.0))
    }
}

impl MeterSeries {
    /// Quantum in Wh; a meter that names none counts in steps of 1 Wh.
    pub(super) fn quantum_wh(&self) -> f64 {
        self.quantum.get().max(1) as f64
    }

    /// True if it was read at this boundary.
    pub(super) fn has(&self, position: usize) -> bool {
        self.readings.get(position).is_some_and(Option::is_some)
    }

    /// What flowed between two boundaries; `None` across an epoch, and where a register fell.
    pub(super) fn flow(&self, from: usize, to: usize) -> Option<Flow> {
        let first = (*self.readings.get(from)?)?;
        let last = (*self.readings.get(to)?)?;
        if first.epoch != last.epoch {
            return None;
        }
        let import = last.import.sub(first.import).ok()?;
        let export = last.export.sub(first.export).ok()?;
        Some(Flow { import: import.get() as f64, export: export.get() as f64 })
    }

    /// Consecutive boundaries that were read, before `end`, with what flowed between them.
    pub(super) fn flows(&self, end: usize) -> impl Iterator<Item = (usize, usize, Flow)> + '_ {
        let read: Vec<usize> =
            (0..end.min(self.readings.len())).filter(|&position| self.has(position)).collect();
        let pairs: Vec<_> = read.windows(2).map(|pair| (pair[0], pair[1])).collect();
        pairs.into_iter().filter_map(|(from, to)| Some((from, to, self.flow(from, to)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, import: u64, export: u64) -> Option<Registers> {
        Some(Registers { epoch, import: WattHours::new(import), export: WattHours::new(export) })
    }

    #[test]
    fn a_missed_boundary_makes_one_longer_step_and_loses_nothing() {
        let readings = vec![at(0, 100, 7), None, at(0, 160, 7), at(0, 170, 9)];
        let series = MeterSeries { quantum: WattHours::new(1), readings };
        let flows: Vec<_> = series.flows(9).collect();
        assert_eq!(flows[0], (0, 2, Flow { import: 60.0, export: 0.0 }));
        assert_eq!(flows[1], (2, 3, Flow { import: 10.0, export: 2.0 }));
        assert_eq!(flows.len(), 2);
        assert_eq!(series.flows(3).count(), 1, "nothing beyond the window");
    }

    #[test]
    fn nothing_is_differenced_across_an_epoch_or_a_fall() {
        let readings = vec![at(0, 100, 7), at(1, 160, 7), at(1, 150, 9)];
        let series = MeterSeries { quantum: WattHours::new(1), readings };
        assert_eq!((series.flow(0, 1), series.flow(1, 2), series.flow(0, 9)), (None, None, None));
    }
}
