//! `commonwatt meter raw`: registers as they are, in every way that meters use.

use std::time::Duration;

use meter::Bus;
use serde_json::{Value, json};

use super::args::RawArgs;
use super::reach::{reach_bus, refused};
use super::table::table;
use crate::cli::{Exit, Output};
use crate::commands::{CommandError, out};

/// Longest wait, connecting and repeated tries included.
const DEADLINE: Duration = Duration::from_secs(15);

/// Reads and prints the registers.
///
/// # Errors
/// [`CommandError`] if they cannot be read.
pub(super) async fn raw(args: RawArgs, output: Output) -> Result<Exit, CommandError> {
    let (config, unit) = reach_bus(&args.reach)?;
    let bus = Bus::open(config);
    let read = bus.read_raw(unit, args.function, args.register, args.count, DEADLINE).await;
    let words = read.map_err(|error| refused(&error))?;
    match output {
        Output::Json => {
            let registers: Vec<Value> =
                (args.register..).zip(readings(&words)).map(|(at, it)| it.json(at)).collect();
            out::json(
                &json!({ "schema_version": 1, "unit": unit, "function": args.function, "registers": registers }),
            );
        }
        Output::Text => {
            let rows: Vec<[String; 9]> =
                (args.register..).zip(readings(&words)).map(|(at, it)| it.row(at)).collect();
            let head =
                ["REGISTER", "HEX", "U16", "I16", "U32", "I32", "F32", "U32 LOW FIRST", "F32 LOW FIRST"];
            table(head, &rows).iter().for_each(|line| out::line(line));
            out::note(
                "\nThe 32-bit columns read a register and the next one: high word first, then low word first.",
            );
        }
    }
    Ok(Exit::Ok)
}

/// One register and, with the next one, what the two say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    word: u16,
    next: Option<u16>,
}

fn readings(words: &[u16]) -> impl Iterator<Item = Reading> {
    (0..words.len())
        .filter_map(|at| Some(Reading { word: *words.get(at)?, next: words.get(at + 1).copied() }))
}

const fn joined(high: u16, low: u16) -> u32 {
    (high as u32) << 16 | low as u32
}

/// A float as people read it: short where it is exact enough, in powers of ten where it is huge or tiny.
fn float(bits: u32) -> String {
    let value = f32::from_bits(bits);
    let plain = value == 0.0 || (1e-3..1e7).contains(&value.abs()) || !value.is_finite();
    if plain { value.to_string() } else { format!("{value:e}") }
}

impl Reading {
    fn high_first(self) -> Option<u32> {
        self.next.map(|next| joined(self.word, next))
    }

    fn low_first(self) -> Option<u32> {
        self.next.map(|next| joined(next, self.word))
    }

    fn row(self, at: u16) -> [String; 9] {
        let of = |bits: Option<u32>, told: fn(u32) -> String| bits.map(told).unwrap_or_default();
        [
            format!("{at:#06x} {at}"),
            format!("{:04x}", self.word),
            self.word.to_string(),
            self.word.cast_signed().to_string(),
            of(self.high_first(), |bits| bits.to_string()),
            of(self.high_first(), |bits| bits.cast_signed().to_string()),
            of(self.high_first(), float),
            of(self.low_first(), |bits| bits.to_string()),
            of(self.low_first(), float),
        ]
    }

    fn json(self, at: u16) -> Value {
        let pair = |bits: Option<u32>| {
            bits.map(|bits| {
                // JSON has no NaN: such a float is null.
                json!({ "u32": bits, "i32": bits.cast_signed(), "f32": f32::from_bits(bits) })
            })
        };
        json!({
            "register": at,
            "hex": format!("{:04x}", self.word),
            "u16": self.word,
            "i16": self.word.cast_signed(),
            "high_first": pair(self.high_first()),
            "low_first": pair(self.low_first()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_and_the_next_are_read_in_both_orders() {
        // 12345.67 as a single precision number, and -570 in two words.
        let rows: Vec<_> = readings(&[0x4640, 0xE6AE]).map(|it| it.row(0x48)).collect();
        assert_eq!(rows[0][..3], ["0x0048 72", "4640", "17984"]);
        assert_eq!((rows[0][6].as_str(), rows[1][6].as_str()), ("12345.67", ""));
        let low_first: Vec<_> = readings(&[0xFDC6, 0xFFFF]).map(|it| it.json(0)).collect();
        assert_eq!(low_first[0]["low_first"]["i32"], -570);
        assert_eq!(low_first[0]["low_first"]["f32"], Value::Null);
        assert_eq!(low_first[1]["high_first"], Value::Null);
        assert_eq!(float(0x0000_0001), "1e-45");
    }
}
