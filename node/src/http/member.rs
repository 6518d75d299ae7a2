//! The home as the ledger knows it, for programs that sign for it.

use api::{Member, RegisteredMeter, SCHEMA_VERSION};
use energy::HomeId;
use ledger::{Ledger, MeterRegistration, Stream};

/// What the ledger knows of `home`; `None` if it is no member.
#[must_use]
pub fn member_of(ledger: &Ledger, home: &HomeId) -> Option<Member> {
    let member = ledger.member(home)?;
    let next = |key| ledger.last_number(key, Stream::Rest).saturating_add(1);
    Some(Member {
        schema_version: SCHEMA_VERSION,
        home: home.to_string(),
        chain: ledger.chain().id.hex(),
        recovery: ledger.chain().recovery,
        meter: registered(&member.admission.meter),
        root_meter: ledger.root_meter().map(registered),
        next_number: next(&member.admission.keys.member),
        next_operator_number: next(&ledger.genesis_terms().roles.operator),
        next_treasurer_number: next(&ledger.genesis_terms().roles.treasurer),
    })
}

fn registered(meter: &MeterRegistration) -> RegisteredMeter {
    RegisteredMeter {
        serial: meter.serial.to_string(),
        epoch: meter.epoch,
        quantum_wh: meter.quantum.get(),
        profile_hash: hex::encode(meter.profile_hash),
    }
}
