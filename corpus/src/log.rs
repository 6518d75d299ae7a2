//! The consensus log as it is found on a disk.

use consensus::log::{Record, Records, encode_frame, read_records};
use ledger::codec::{Decode, Encode, Reader};

use crate::Choices;

/// A log of whole frames and of frames that are broken, cut or flipped.
pub fn log(bytes: &[u8]) {
    judge(bytes);
    if let Ok(record) = Record::from_bytes(bytes) {
        assert_eq!(record.to_bytes(), bytes, "two encodings of one record");
        assert_eq!(read_records(&encode_frame(std::slice::from_ref(&record))).records, [record]);
    }
    let mut choices = Choices::new(bytes);
    let (cut, flip) = (choices.number(), choices.byte());
    let mut file = framed(&mut choices);
    let whole = judge(&file);
    file.truncate(usize::try_from(cut).unwrap_or(usize::MAX).min(file.len()));
    let cut = judge(&file);
    assert!(whole.records.starts_with(&cut.records), "what is cut off changes nothing before it");
    assert!(cut.damaged_at.is_none() || cut.damaged_at == whole.damaged_at, "a torn tail is no damage");
    if let Some(last) = file.len().checked_sub(1) {
        file[usize::from(flip).min(last)] ^= 1 | flip;
        let flipped = judge(&file);
        assert!(cut.records.starts_with(&flipped.records), "a flipped byte adds no record");
    }
}

/// Frames as a node writes them, around payloads that may be anything.
fn framed(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    while choices.more() {
        let length = usize::from(choices.byte()) | usize::from(choices.byte() & 3) << 8;
        let rest = choices.rest();
        let (payload, after) = rest.split_at(length.min(rest.len()));
        file.extend(frame(payload));
        *choices = Choices::new(after);
    }
    file
}

/// Magic, length, checksum of both length and payload, payload.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut sum = crc32fast::Hasher::new();
    sum.update(&length);
    sum.update(payload);
    [b"CWL\x01", &length[..], &sum.finalize().to_be_bytes(), payload].concat()
}

/// Reads a log; what it says of it must hang together.
fn judge(file: &[u8]) -> Records {
    let found = read_records(file);
    assert!(found.torn_at.is_none() || found.damaged_at.is_none(), "torn or damaged, never both");
    let broken = found.torn_at.or(found.damaged_at);
    assert!(broken.is_none_or(|at| at < file.len()));
    assert!(found.clean_stop.is_none() || found.damaged_at.is_none());
    if found.clean_stop.is_some() {
        assert!(matches!(found.records.last(), Some(Record::CleanStop(_))));
    }
    let whole = broken.unwrap_or(file.len());
    let again = read_records(&file[..whole]);
    assert_eq!((&again.records, again.torn_at, again.damaged_at), (&found.records, None, None));
    // What was read was written in this one way.
    let mut reader = Reader::new(&file[..whole]);
    let mut written = Vec::new();
    while reader.remaining() > 0 {
        reader.take(4, "magic").unwrap();
        let length = u32::decode(&mut reader).unwrap();
        reader.take(4, "checksum").unwrap();
        written.extend_from_slice(reader.take(length as usize, "payload").unwrap());
    }
    let records: Vec<u8> = found.records.iter().flat_map(Encode::to_bytes).collect();
    assert_eq!(records, written);
    found
}
