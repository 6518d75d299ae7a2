//! The frames of a scan: questions to units that may not be there, and whatever comes back.
//!
//! A scan asks what the reading client must never ask: units that may be absent, one after the other, with short waits.
//! An answer that comes late is then no danger but a find, for it names its unit; so every good frame that is heard
//! counts, whoever it comes from. Nothing of a scan is ever used as a reading.

/// A read of registers, as the frame says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) unit: u8,
    /// 3 (holding) or 4 (input).
    pub(crate) function: u8,
    pub(crate) address: u16,
    /// Registers, 1 to 125.
    pub(crate) count: u16,
}

/// What a unit answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Words(Vec<u16>),
    /// A Modbus exception code.
    Exception(u8),
}

/// A good frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) unit: u8,
    pub(crate) function: u8,
    pub(crate) content: Content,
}

/// Exceptions are told by this bit of the function code (Modbus Application Protocol V1.1b3, section 7).
const EXCEPTION: u8 = 0x80;
/// Most bytes of registers in one answer.
const BYTES_MAX: u8 = 250;

impl Question {
    fn body(self) -> [u8; 6] {
        let [address, count] = [self.address.to_be_bytes(), self.count.to_be_bytes()];
        [self.unit, self.function, address[0], address[1], count[0], count[1]]
    }

    /// As an RTU frame.
    pub(crate) fn rtu(self) -> Vec<u8> {
        let body = self.body();
        [&body[..], &crc(&body).to_le_bytes()].concat()
    }

    /// As a Modbus TCP frame.
    pub(crate) fn tcp(self, transaction: u16) -> Vec<u8> {
        [&transaction.to_be_bytes()[..], &[0, 0, 0, 6], &self.body()].concat()
    }

    /// True if `heard` answers this question and no other.
    pub(crate) fn is_answered_by(self, heard: &Heard) -> bool {
        let fits = match &heard.content {
            Content::Words(words) => words.len() == usize::from(self.count),
            Content::Exception(_) => true,
        };
        fits && heard.unit == self.unit && heard.function == self.function
    }
}

/// CRC-16 of an RTU frame (Modbus over Serial Line V1.02, section 6.2.2), low byte first on the wire.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

/// The first good RTU frame in `bytes` and where it ends; garbage before it is stepped over.
pub(crate) fn find_rtu(bytes: &[u8]) -> Option<(Heard, usize)> {
    (0..bytes.len()).find_map(|start| {
        let rest = bytes.get(start..)?;
        let (heard, length) = rtu_at_start(rest)?;
        Some((heard, start + length))
    })
}

fn rtu_at_start(bytes: &[u8]) -> Option<(Heard, usize)> {
    let &[unit, function, third, ..] = bytes else { return None };
    let length = match function {
        3 | 4 if third % 2 == 0 && (2..=BYTES_MAX).contains(&third) => usize::from(third) + 5,
        0x83 | 0x84 => 5,
        _ => return None,
    };
    let (body, sum) = bytes.get(..length)?.split_at(length - 2);
    if crc(body).to_le_bytes() != *sum {
        return None;
    }
    let content = if function & EXCEPTION == 0 {
        Content::Words(words(body.get(3..)?))
    } else {
        Content::Exception(third)
    };
    Some((Heard { unit, function: function & !EXCEPTION, content }, length))
}

/// The Modbus TCP frame at the start of `bytes`, its transaction and where it ends. `Err`: this is no Modbus TCP.
pub(crate) fn tcp_at_start(bytes: &[u8]) -> Result<Option<(u16, Heard, usize)>, NotModbusTcp> {
    let &[t0, t1, p0, p1, l0, l1, unit, function, third, ..] = bytes else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if [p0, p1] != [0, 0] || !(3..=254).contains(&length) {
        return Err(NotModbusTcp);
    }
    let Some(frame) = bytes.get(..length + 6) else { return Ok(None) };
    let content = match function & !EXCEPTION {
        3 | 4 if function & EXCEPTION != 0 => Content::Exception(third),
        3 | 4 if usize::from(third) + 3 == length => {
            Content::Words(words(frame.get(9..).unwrap_or_default()))
        }
        _ => return Err(NotModbusTcp),
    };
    let heard = Heard { unit, function: function & !EXCEPTION, content };
    Ok(Some((u16::from_be_bytes([t0, t1]), heard, frame.len())))
}

/// Bytes that cannot be the start of a Modbus TCP answer to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotModbusTcp;

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUESTION: Question = Question { unit: 1, function: 4, address: 0x0034, count: 2 };

    /// 569.5 W from unit 1.
    fn answer() -> Vec<u8> {
        let body = [1, 4, 4, 0x44, 0x0E, 0x60, 0];
        [&body[..], &crc(&body).to_le_bytes()].concat()
    }

    #[test]
    fn a_question_has_the_bytes_of_the_standard() {
        // The example of the specification's appendix: 02 07 gives CRC 41 12.
        assert_eq!(crc(&[0x02, 0x07]).to_le_bytes(), [0x41, 0x12]);
        assert_eq!(QUESTION.rtu()[..6], [1, 4, 0, 0x34, 0, 2]);
        assert_eq!(QUESTION.tcp(0x0102), [1, 2, 0, 0, 0, 6, 1, 4, 0, 0x34, 0, 2]);
    }

    #[test]
    fn a_frame_is_found_behind_garbage_and_its_length_must_fit_the_question() {
        let bytes = [&[0xFF, 0x00][..], &answer(), &[0x01]].concat();
        let (heard, end) = find_rtu(&bytes).unwrap();
        assert_eq!((heard.content.clone(), end), (Content::Words(vec![0x440E, 0x6000]), 11));
        assert!(QUESTION.is_answered_by(&heard));
        assert!(!Question { count: 4, ..QUESTION }.is_answered_by(&heard));
        assert!(!Question { unit: 2, ..QUESTION }.is_answered_by(&heard));
    }

    #[test]
    fn a_damaged_or_cut_frame_and_an_echo_are_no_answers() {
        let mut damaged = answer();
        damaged[4] ^= 1;
        assert_eq!(find_rtu(&damaged), None);
        assert_eq!(find_rtu(&answer()[..8]), None);
        assert_eq!(find_rtu(&QUESTION.rtu()), None);
    }

    #[test]
    fn an_exception_is_heard_with_its_code() {
        let body = [9, 0x83, 2];
        let (heard, _) = find_rtu(&[&body[..], &crc(&body).to_le_bytes()].concat()).unwrap();
        assert_eq!(heard, Heard { unit: 9, function: 3, content: Content::Exception(2) });
        let tcp = [0, 7, 0, 0, 0, 3, 9, 0x84, 11];
        let heard = Heard { unit: 9, function: 4, content: Content::Exception(11) };
        assert_eq!(tcp_at_start(&tcp), Ok(Some((7, heard, 9))));
    }

    #[test]
    fn what_is_not_modbus_tcp_is_noticed_at_once() {
        assert_eq!(tcp_at_start(b"HTTP/1.1 400 Bad Request"), Err(NotModbusTcp));
        assert_eq!(tcp_at_start(&[0, 1, 0, 0, 0, 7, 1, 4]), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some((_, end)) = find_rtu(&bytes) {
                prop_assert!(end <= bytes.len());
            }
            if let Ok(Some((_, _, end))) = tcp_at_start(&bytes) {
                prop_assert!(end <= bytes.len());
            }
        }
    }
}
