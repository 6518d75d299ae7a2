//! Decoding without a device, for tests that hand in any bytes: frames of both directions, and blocks of registers.

use std::time::Duration;

use crate::Profile;
use crate::frame::{Answer, Framing, Requests};
use crate::scan::wire::{Content, Heard, find_rtu, tcp_at_start};

/// A request that our server cut out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Which unit it is for.
    pub unit: u8,
    /// As it would come on an RTU line.
    pub rtu: Vec<u8>,
    /// The registers it asks for (function, address, count), or the exception it is answered with.
    pub read: Result<(u8, u16, u16), u8>,
    /// The frame of an answer with as many registers of 0, or with that exception.
    pub answer: Vec<u8>,
}

/// Every request in a stream that ends after `bytes`.
pub async fn requests_in(rtu: bool, bytes: &[u8]) -> Vec<Cut> {
    let framing = if rtu { Framing::Rtu } else { Framing::Tcp };
    let (mut requests, mut stream) = (Requests::new(framing, Duration::from_secs(1)), bytes);
    let mut all = Vec::new();
    while let Ok(request) = requests.next(&mut stream).await {
        let read = request.read();
        let words = read.map(|read| vec![0; usize::from(read.count)]);
        all.push(Cut {
            unit: request.unit,
            rtu: request.rtu_bytes(),
            read: read.map(|read| (read.function, read.address, read.count)),
            answer: Answer::to(&request, words).frame(framing),
        });
    }
    all
}

/// An answer that a scan heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Which unit answered.
    pub unit: u8,
    /// To which function.
    pub function: u8,
    /// Registers, or an exception.
    pub result: Result<Vec<u16>, u8>,
    /// Where it ends.
    pub end: usize,
}

/// What a scan hears first in `bytes`.
#[must_use]
pub fn heard_in(rtu: bool, bytes: &[u8]) -> Option<Answered> {
    let (Heard { unit, function, content }, end) = if rtu {
        find_rtu(bytes)?
    } else {
        let (_, heard, end) = tcp_at_start(bytes).ok()??;
        (heard, end)
    };
    let result = match content {
        Content::Words(words) => Ok(words),
        Content::Exception(code) => Err(code),
    };
    Some(Answered { unit, function, result, end })
}

/// What the energy and the live block of a profile say where they are read as `words`: the import and export registers, Wh,
/// and power, W; `None` where the block is not believed.
#[must_use]
pub fn blocks_of(profile: &Profile, words: &[u16]) -> (Option<[Option<u64>; 2]>, Option<i64>) {
    let energy = profile.energy.decode(words).ok();
    let energy = energy.map(|values| [values.import, values.export].map(|it| it.map(energy::WattHours::get)));
    (energy, profile.live.decode(words).ok().map(|values| values.power_w))
}
