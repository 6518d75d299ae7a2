//! Members who leave: from an interval on they are none, and what came before is settled as ever.

use energy::{HomeId, Interval, Money, Timestamp, WattHours};

use super::gate::{Traded, order_outcome};
use super::{Step, by, gate_of, with};
use crate::entry::VerifiedEntry;
use crate::error::EntryError;
use crate::genesis::Forward;
use crate::outcome::Outcome;

impl Step {
    /// From `from` on no reading of it is taken, and no order; its open ones for then end unfilled. Its balance stays until it
    /// is withdrawn, its claims until they are paid; its keys and the serial number of its meter are never used again. A
    /// delegate keeps its seat: that is another duty, and only an election can fill it.
    pub(super) fn departure(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        from: Interval,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let member = self.member(home)?;
        by(verified, &member.admission.keys.member, "the member")?;
        with(verified, &self.roles().operator, "the operator")?;
        if let Some(leaves) = member.leaves {
            return Err(EntryError::NoMemberIn { home: home.clone(), interval: self.state.interval(leaves) });
        }
        self.is_ahead(from, 1, time)?;
        if self.state.rules.genesis.forward != Forward::Off && gate_of(from) <= time {
            return Err(EntryError::Malformed {
                what: "the gate of the first interval without the member has closed; leave from a later one",
            });
        }
        self.drop_orders(home, from)?;
        self.member_mut(home)?.leaves = Some(from.index());
        Ok(())
    }

    /// Takes a home's open orders back, for `from` and later. They end here and not at their gates, where they stand no more.
    fn drop_orders(&mut self, home: &HomeId, from: Interval) -> Result<(), EntryError> {
        let dropped = self.state.book.extract(|(index, of)| of == home && *index >= from.index());
        for ((index, _), mine) in dropped {
            let interval = self.state.interval(index);
            for order in mine.orders {
                self.change_reserve(home, order.reserve.as_money().neg()?)?;
                let nothing = Traded { void: false, filled: WattHours::ZERO, amount: Money::ZERO };
                self.outcomes.push(Outcome::Order(order_outcome(interval, home, &order, nothing)));
            }
        }
        Ok(())
    }
}
