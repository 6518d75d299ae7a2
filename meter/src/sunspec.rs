//! Finding a `SunSpec` model: the marker, then model after model to the end.

use crate::bus::Denied;
use crate::client::Asker;
use crate::profile::{Function, Span};

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

/// Finds the first `model` on the device that has at least `words` registers, its header among them; `None` if it has
/// none.
pub(crate) async fn find(asker: &mut Asker, model: u16, words: u32) -> Result<Option<Place>, Denied> {
    for base in BASES {
        if pair(asker, base).await? == Some(MARKER) {
            return walk(asker, base + 2, model, words).await;
        }
    }
    Ok(None)
}

/// True if the models are still where they were found.
pub(crate) async fn is_still_at(asker: &mut Asker, place: Place, model: u16) -> Result<bool, Denied> {
    let Place { model: header, common } = place;
    let begins = async |asker: &mut Asker, at: u16, id: u16| {
        pair(asker, at).await.map(|found| found.is_some_and(|[found, _]| found == id))
    };
    Ok(begins(asker, header, model).await? && begins(asker, common, COMMON).await?)
}

async fn walk(asker: &mut Asker, first: u16, wanted: u16, words: u32) -> Result<Option<Place>, Denied> {
    let (mut header, mut common) = (first, None);
    for _ in 0..MODELS_MAX {
        let Some([id, length]) = pair(asker, header).await? else { return Ok(None) };
        match id {
            END => return Ok(None),
            COMMON => common = Some(header),
            // A model cut short does not hold the registers of the profile.
            id if id == wanted && words <= u32::from(length) + 2 => {
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
async fn pair(asker: &mut Asker, address: u16) -> Result<Option<[u16; 2]>, Denied> {
    // Behind every header but the last come registers: on an RTU line two headers in a row are read with lengths that
    // differ.
    match asker.read(Span { function: Function::Holding, address, count: 2 }, 1).await {
        Ok(answer) => Ok(answer.words.try_into().ok()),
        Err(Denied::Refused { code: 0x01..=0x04, .. }) => Ok(None),
        Err(denied) => Err(denied),
    }
}
