//! The meter of a home: two registers that count whatever happens to the node beside it.

use energy::{Interval, Timestamp};

use crate::home::Flow;

/// Registers over true market time.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    /// At the start of `interval`.
    before: Flow,
    interval: Interval,
    /// What flows in it.
    flow: Flow,
}

impl Meter {
    /// A meter that showed `before` when `interval` began.
    pub(crate) const fn new(interval: Interval, before: Flow) -> Self {
        Self { before, interval, flow: Flow { import: 0, export: 0 } }
    }

    /// What flows in the first interval.
    pub(crate) const fn flow(&mut self, flow: Flow) {
        self.flow = flow;
    }

    /// The next interval begins, in which so much will flow.
    pub(crate) const fn begin(&mut self, flow: Flow) {
        self.before.import += self.flow.import;
        self.before.export += self.flow.export;
        self.interval = self.interval.next();
        self.flow = flow;
    }

    /// The registers at an instant of the present interval, or at its end.
    pub(crate) fn at(&self, time: Timestamp) -> Flow {
        let length = self.interval.mtu().ms();
        let elapsed = time.ms_since(self.interval.start()).min(length);
        let part = |energy: u64| energy * elapsed / length;
        Flow {
            import: self.before.import + part(self.flow.import),
            export: self.before.export + part(self.flow.export),
        }
    }
}

#[cfg(test)]
mod tests {
    use energy::Mtu;

    use super::*;

    #[test]
    fn registers_never_fall_and_hold_every_watt_hour() {
        let first = Interval::from_index(1_000_000, Mtu::Min15);
        let mut meter = Meter::new(first, Flow { import: 5, export: 0 });
        let mut last = Flow { import: 5, export: 0 };
        for step in 0..10_u64 {
            meter.begin(Flow { import: 100 + step, export: 7 });
            for part in 0..=10_u64 {
                let now = meter.at(meter.interval.start().plus_ms(part * 90_000));
                assert!(now.import >= last.import && now.export >= last.export);
                last = now;
            }
        }
        assert_eq!(last, Flow { import: 5 + 1000 + 45, export: 70 });
    }
}
