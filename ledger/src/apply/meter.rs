//! Meters that take the place of others: the registers at an exchange, and what they leave for the next reading.

use energy::{HomeId, Interval, Timestamp, WattHours};
use market::Metered;

use super::{Step, by, with};
use crate::entry::VerifiedEntry;
use crate::error::EntryError;
use crate::genesis::INTERVAL_ENERGY_MAX;
use crate::meter::{MeterExchange, MeterRegistration, Registers};
use crate::state::MeterState;

/// Whose meter one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    /// Not on the ledger yet.
    Nobody,
    Home(&'a HomeId),
    /// The community: at its transformer.
    Root,
}

impl Step {
    /// One meter counts once.
    pub(super) fn serial_is_free(
        &self,
        meter: &MeterRegistration,
        except: Owner<'_>,
    ) -> Result<(), EntryError> {
        let taken = self.state.members.iter().any(|(home, member)| {
            Owner::Home(home) != except && member.admission.meter.serial == meter.serial
        });
        if taken {
            return Err(EntryError::Malformed {
                what: "the meter's serial number is registered for another home",
            });
        }
        let root = self.state.root_meter.registered.as_ref();
        if except != Owner::Root && root.is_some_and(|root| root.serial == meter.serial) {
            return Err(EntryError::Malformed { what: "the meter's serial number is the root meter's" });
        }
        Ok(())
    }

    pub(super) fn meter_registration(
        &mut self,
        verified: &VerifiedEntry,
        home: &HomeId,
        meter: &MeterRegistration,
        exchange: Option<&MeterExchange>,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let operator = self.roles().operator;
        by(verified, &self.member(home)?.admission.keys.member, "the member")?;
        with(verified, &operator, "the operator")?;
        self.serial_is_free(meter, Owner::Home(home))?;
        let member = self.member(home)?;
        is_newer(meter, &member.admission.meter)?;
        let begun = self.begin(member.meter, member.carried, exchange, time)?;
        let now = Interval::containing(time, self.state.mtu()).index();
        let member = self.member_mut(home)?;
        member.admission.meter = meter.clone();
        (member.meter, member.carried) = begun;
        (member.meter_since, member.is_read) = (Some(now), false);
        self.forget_assurance(home);
        Ok(())
    }

    pub(super) fn root_registration(
        &mut self,
        verified: &VerifiedEntry,
        meter: &MeterRegistration,
        exchange: Option<&MeterExchange>,
        time: Timestamp,
    ) -> Result<(), EntryError> {
        let roles = self.roles();
        by(verified, &roles.operator, "the operator")?;
        with(verified, &roles.auditor, "the auditor")?;
        self.serial_is_free(meter, Owner::Root)?;
        let root = &self.state.root_meter;
        is_newer(meter, root.registered.as_ref().ok_or(EntryError::NoRootMeter)?)?;
        let begun = self.begin(root.last, root.carried, exchange, time)?;
        let root = &mut self.state.root_meter;
        root.registered = Some(meter.clone());
        (root.last, root.carried) = begun;
        Ok(())
    }

    /// Where a new meter begins, and what the old one leaves for its first reading. Energy is never differenced across
    /// epochs: without the registers at the exchange the first reading of the new one is a baseline only, which what earlier
    /// exchanges left cannot come with.
    fn begin(
        &self,
        last: Option<MeterState>,
        carried: Metered,
        exchange: Option<&MeterExchange>,
        time: Timestamp,
    ) -> Result<(Option<MeterState>, Metered), EntryError> {
        let Some(MeterExchange { closing, opening }) = exchange else {
            if carried != Metered::default() {
                return Err(EntryError::Malformed {
                    what: "energy of an earlier exchange still waits for a reading and would be lost; give the closing and \
                           opening registers of this exchange too, as closing ones of a meter that was never read those \
                           it began with",
                });
            }
            return Ok((None, Metered::default()));
        };
        let Some(last) = last else {
            return Err(EntryError::Malformed {
                what: "the old meter was never read here, so nothing is left to close; register the new one without \
                       closing and opening registers",
            });
        };
        let now = Interval::containing(time, self.state.mtu()).index();
        let carried = carry(last, carried, closing, now)?;
        let begins = MeterState {
            interval: last.interval,
            import_register: opening.import,
            export_register: opening.export,
        };
        Ok((Some(begins), carried))
    }
}

fn is_newer(meter: &MeterRegistration, old: &MeterRegistration) -> Result<(), EntryError> {
    if meter.epoch > old.epoch {
        Ok(())
    } else {
        Err(EntryError::Malformed { what: "a newly registered meter needs a higher epoch" })
    }
}

/// What the old meter counted from its last reading to its end, on top of what earlier exchanges left.
fn carry(last: MeterState, carried: Metered, closing: &Registers, now: u64) -> Result<Metered, EntryError> {
    // The interval that is not over yet counts as a whole one.
    let intervals = now.saturating_sub(last.interval);
    let max = WattHours::new(INTERVAL_ENERGY_MAX.get().saturating_mul(intervals));
    let left = |register, before: WattHours, closing: WattHours, carried: WattHours| {
        let fell = |_| EntryError::ClosingFell { register, last: before, closing };
        let grown = closing.sub(before).map_err(fell)?.add(carried)?;
        if grown > max { Err(EntryError::ClosingImplausible { register, grown, max }) } else { Ok(grown) }
    };
    Ok(Metered {
        import: left("import", last.import_register, closing.import, carried.import)?,
        export: left("export", last.export_register, closing.export, carried.export)?,
    })
}
