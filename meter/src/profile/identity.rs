//! Where a model keeps its serial number, and how.

use energy::MeterSerial;

use super::document::Section;
use super::{Function, Span};
use crate::decode::WordOrder;

/// The longest text identity, in registers of two characters: what a [`MeterSerial`] holds.
const TEXT_REGISTERS_MAX: u16 = 16;

/// Where the serial number is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    span: Span,
    kind: IdentityKind,
    order: WordOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdentityKind {
    U16,
    U32,
    Text,
}

impl Identity {
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let function = section.required::<Function>("function");
        let address = section.required::<u16>("address");
        let kind = section.required::<String>("type").and_then(|name| IdentityKind::read(section, &name));
        let registers = section.optional::<u16>("registers");
        let order = section.or("words", WordOrder::HighFirst);
        let kind = kind?;
        let count = kind.registers(section, registers)?;
        let address = address?;
        if address.checked_add(count - 1).is_none() {
            section.fault(
                "address",
                "cannot be used: the serial number ends beyond register 0xffff",
                "",
                None,
            );
            return None;
        }
        Some(Self { span: Span { function: function?, address, count }, kind, order })
    }

    pub(crate) const fn span(&self) -> Span {
        self.span
    }

    /// The serial number in `words`; `None` if the device sends none or one that is no [`MeterSerial`].
    pub(crate) fn decode(&self, words: &[u16]) -> Option<MeterSerial> {
        if words.len() != usize::from(self.span.count) {
            return None;
        }
        let bytes: Vec<u8> =
            self.order.high_first(words).iter().flat_map(|word| word.to_be_bytes()).collect();
        if self.kind == IdentityKind::Text {
            let text = String::from_utf8(bytes).ok()?;
            return MeterSerial::new(text.trim_end_matches('\0').trim()).ok();
        }
        let number = bytes.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
        let none = number == 0 || bytes.iter().all(|byte| *byte == 0xFF);
        if none { None } else { MeterSerial::new(&number.to_string()).ok() }
    }

    /// `serial` as the device would send it; `None` if it cannot.
    pub(crate) fn encode(&self, serial: &MeterSerial) -> Option<Vec<u16>> {
        let text = serial.as_str();
        let mut bytes = match self.kind {
            IdentityKind::U16 => text.parse::<u16>().ok()?.to_be_bytes().to_vec(),
            IdentityKind::U32 => text.parse::<u32>().ok()?.to_be_bytes().to_vec(),
            IdentityKind::Text => text.as_bytes().to_vec(),
        };
        let room = usize::from(self.span.count) * 2;
        if bytes.len() > room {
            return None;
        }
        bytes.resize(room, 0);
        let words: Vec<u16> =
            bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        let words = self.order.high_first(&words);
        // "007" would come back as "7": a serial that does not survive is refused, not altered.
        (self.decode(&words).as_ref() == Some(serial)).then_some(words)
    }
}

impl IdentityKind {
    fn read(section: &Section<'_>, name: &str) -> Option<Self> {
        match name {
            "u16" => return Some(Self::U16),
            "u32" => return Some(Self::U32),
            "text" => return Some(Self::Text),
            _ => {}
        }
        let problem = format!("cannot be used: {name:?} is no kind of serial number");
        section.fault("type", &problem, "expected \"u16\", \"u32\" or \"text\"", None);
        None
    }

    /// How many registers it takes; faults in what the file says about it are reported.
    fn registers(self, section: &Section<'_>, said: Option<u16>) -> Option<u16> {
        match (self, said) {
            (Self::U16, None) => return Some(1),
            (Self::U32, None) => return Some(2),
            (Self::Text, Some(registers @ 1..=TEXT_REGISTERS_MAX)) => return Some(registers),
            _ => {}
        }
        let label = format!("a text takes 1 to {TEXT_REGISTERS_MAX} registers, a number names none");
        section.fault("registers", "does not go with the type", &label, None);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    fn serial(text: &str) -> MeterSerial {
        MeterSerial::new(text).unwrap()
    }

    fn identity_of(name: &str) -> Identity {
        Profile::by_name(name).unwrap().identity.clone().unwrap()
    }

    #[test]
    fn a_serial_number_comes_back_as_written_or_is_refused() {
        let sdm = identity_of("eastron-sdm630");
        assert_eq!(sdm.encode(&serial("21040123")), Some(vec![321, 3067]));
        assert_eq!(sdm.decode(&[321, 3067]), Some(serial("21040123")));
        assert_eq!((sdm.encode(&serial("007")), sdm.encode(&serial("SIM-1"))), (None, None));
        assert_eq!((sdm.decode(&[0, 0]), sdm.decode(&[0xFFFF, 0xFFFF])), (None, None));
        let sunspec = identity_of("sunspec-203");
        let words = sunspec.encode(&serial("7E1-B")).unwrap();
        assert_eq!((words.len(), sunspec.decode(&words)), (16, Some(serial("7E1-B"))));
        assert_eq!(sunspec.decode(&[0; 16]), None);
    }

    #[test]
    fn a_number_with_its_low_word_first_and_a_single_register_are_read_as_declared() {
        let of = |kind, count, order| Identity {
            span: Span { function: Function::Holding, address: 0, count },
            kind,
            order,
        };
        let low_first = of(IdentityKind::U32, 2, WordOrder::LowFirst);
        assert_eq!(low_first.decode(&[3067, 321]), Some(serial("21040123")));
        assert_eq!(low_first.encode(&serial("21040123")), Some(vec![3067, 321]));
        let single = of(IdentityKind::U16, 1, WordOrder::HighFirst);
        assert_eq!((single.decode(&[1652]), single.encode(&serial("70000"))), (Some(serial("1652")), None));
    }
}
