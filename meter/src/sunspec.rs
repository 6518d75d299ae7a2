//! Finding a `SunSpec` model: the marker, then model after model to the end.

use std::time::Instant;

use crate::error::MeterError;
use crate::link::Link;
use crate::profile::{Function, Profile, Span};

/// Where the map of a device may begin.
const BASES: [u16; 3] = [40_000, 0, 50_000];
/// "SunS".
const MARKER: [u16; 2] = [0x5375, 0x6E53];
/// The id after the last model.
const END: u16 = 0xFFFF;
/// The common model, which holds the serial number of the device described by the models after it.
const COMMON: u16 = 1;
/// No real map has more models; a map that goes round in circles ends here.
const MODELS_MAX: usize = 64;

/// Headers of the wanted model and of the common model before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) model: u16,
    pub(crate) common: u16,
}

/// Finds the first `model` on the device; `None` if it has none.
pub(crate) async fn find(
    link: &mut Link,
    model: u16,
    profile: &Profile,
    deadline: Instant,
) -> Result<Option<Place>, MeterError> {
    for base in BASES {
        if pair(link, base, deadline).await? == Some(MARKER) {
            return walk(link, base + 2, model, profile, deadline).await;
        }
    }
    Ok(None)
}

async fn walk(
    link: &mut Link,
    first: u16,
    wanted: u16,
    profile: &Profile,
    deadline: Instant,
) -> Result<Option<Place>, MeterError> {
    let (mut header, mut common) = (first, None);
    for _ in 0..MODELS_MAX {
        let Some([id, length]) = pair(link, header, deadline).await? else { return Ok(None) };
        match id {
            END => return Ok(None),
            COMMON => common = Some(header),
            // A model cut short does not hold the registers of the profile.
            id if id == wanted && profile.words_from_base() <= u32::from(length) + 2 => {
                return Ok(common.map(|common| Place { model: header, common }));
            }
            _ => {}
        }
        // A map that leaves the register space has no further model.
        let next = header.checked_add(2).and_then(|body| body.checked_add(length));
        let Some(next) = next else { return Ok(None) };
        header = next;
    }
    Ok(None)
}

/// Two registers, or `None` where the device has none: looking is not an error.
async fn pair(link: &mut Link, address: u16, deadline: Instant) -> Result<Option<[u16; 2]>, MeterError> {
    let span = Span { function: Function::Holding, address, count: 2 };
    match link.read(span, deadline).await {
        Ok(answer) => Ok(answer.words.try_into().ok()),
        Err(MeterError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
