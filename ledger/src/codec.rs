//! The canonical binary encoding of everything that is signed or hashed.
//!
//! Integers are big-endian and of fixed width, sequences carry a 32-bit count, options and enums one byte. Every value
//! has exactly one encoding, and decoding accepts only that one. Formats are versioned by the domain string of what is
//! signed (`commonwatt/<kind>/v1`) and pinned by golden files in `tests/golden`; changing one is a new version.

use energy::{Balance, HomeId, Interval, MeterSerial, Money, Mtu, NodeId, Price, Timestamp, WattHours};

/// Bytes that are not the canonical encoding of what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes ended early.
    #[error("the bytes end inside {what}")]
    TooShort {
        /// What was being read.
        what: &'static str,
    },
    /// Something follows the end.
    #[error("{count} bytes follow the end")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// More than the limit.
    #[error("{what} is longer than the limit of {max}")]
    TooLong {
        /// What was being read.
        what: &'static str,
        /// The limit, in elements or bytes.
        max: usize,
    },
    /// A value that does not exist, or not in its one canonical form.
    #[error("not a valid {what}")]
    Invalid {
        /// What was being read.
        what: &'static str,
    },
}

/// A cursor over bytes that are being decoded.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`CodecError::TooShort`].
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CodecError::TooShort { what })?;
        self.rest = rest;
        Ok(taken)
    }

    /// A count of elements, each at least one byte long, refused above `max` before anything is allocated.
    ///
    /// # Errors
    /// [`CodecError::TooShort`], [`CodecError::TooLong`].
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, CodecError> {
        let count = u32::decode(self)? as usize;
        if count > max {
            return Err(CodecError::TooLong { what, max });
        }
        if count > self.rest.len() {
            return Err(CodecError::TooShort { what });
        }
        Ok(count)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`CodecError::Trailing`] if bytes are left.
    pub const fn finish(self) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(CodecError::Trailing { count }),
        }
    }
}

/// Has one canonical encoding.
pub trait Encode {
    /// Appends it to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The encoding alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Can be read back from its canonical encoding.
pub trait Decode: Sized {
    /// Reads one value.
    ///
    /// # Errors
    /// [`CodecError`] where the bytes are not its encoding.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError>;

    /// Reads one value that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`CodecError`], also for trailing bytes.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// Implements both directions for a struct, field by field in the order given.
macro_rules! record {
    ($name:ty { $($field:tt),+ $(,)? }) => {
        impl $crate::codec::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::codec::Encode::encode(&self.$field, out);)+
            }
        }
        impl $crate::codec::Decode for $name {
            fn decode(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::CodecError> {
                Ok(Self { $($field: $crate::codec::Decode::decode(reader)?,)+ })
            }
        }
    };
}
pub(crate) use record;

/// Implements both directions for a type that wraps one integer.
macro_rules! wrapper {
    ($($name:ty, $inner:ty, $get:ident, $new:path;)+) => {$(
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                self.$get().encode(out);
            }
        }
        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
                <$inner>::decode(reader).map($new)
            }
        }
    )+};
}

macro_rules! integer {
    ($($name:ty),+) => {$(
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
                let bytes = reader.take(size_of::<Self>(), stringify!($name))?;
                let bytes = bytes.try_into().map_err(|_| CodecError::TooShort { what: stringify!($name) })?;
                Ok(Self::from_be_bytes(bytes))
            }
        }
    )+};
}

macro_rules! text_id {
    ($($name:ty, $what:literal;)+) => {$(
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                encode_text(self.as_str(), out);
            }
        }
        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
                let text = decode_text(reader, $what, Self::MAX)?;
                Self::new(&text).map_err(|_| CodecError::Invalid { what: $what })
            }
        }
    )+};
}

impl Encode for () {
    fn encode(&self, _: &mut Vec<u8>) {}
}

impl Decode for () {
    fn decode(_: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(())
    }
}

integer!(u8, u16, u32, u64, i32, i64, i128);
wrapper! {
    WattHours, u64, get, WattHours::new;
    Price, i64, get, Price::new;
    Money, i128, get, Money::new;
    Balance, i64, get, Balance::new;
}
text_id! {
    HomeId, "home id";
    NodeId, "node id";
    MeterSerial, "meter serial";
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        match u8::decode(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Invalid { what: "truth value" }),
        }
    }
}

impl Encode for Timestamp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.unix_ms().encode(out);
    }
}

impl Decode for Timestamp {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let ms = u64::decode(reader)?;
        let time = Self::from_unix_ms(ms);
        if time.unix_ms() == ms { Ok(time) } else { Err(CodecError::Invalid { what: "time" }) }
    }
}

impl Encode for Mtu {
    fn encode(&self, out: &mut Vec<u8>) {
        self.minutes().encode(out);
    }
}

impl Decode for Mtu {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Self::from_minutes(u32::decode(reader)?).map_err(|_| CodecError::Invalid { what: "market time unit" })
    }
}

impl Encode for Interval {
    fn encode(&self, out: &mut Vec<u8>) {
        self.mtu().encode(out);
        self.index().encode(out);
    }
}

impl Decode for Interval {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mtu = Mtu::decode(reader)?;
        let interval = Self::from_index(u64::decode(reader)?, mtu);
        // Past the end of the calendar two indexes would share a start.
        if Self::containing(interval.start(), mtu) == interval {
            Ok(interval)
        } else {
            Err(CodecError::Invalid { what: "interval" })
        }
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        if bool::decode(reader)? { T::decode(reader).map(Some) } else { Ok(None) }
    }
}

impl<const N: usize> Encode for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let bytes = reader.take(N, "bytes of fixed length")?;
        bytes.try_into().map_err(|_| CodecError::TooShort { what: "bytes of fixed length" })
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok((A::decode(reader)?, B::decode(reader)?))
    }
}

/// Appends a count and the elements.
pub fn encode_list<T: Encode>(list: &[T], out: &mut Vec<u8>) {
    // No list that is encoded anywhere exceeds its limit, all of which are far below 2³².
    u32::try_from(list.len()).unwrap_or(u32::MAX).encode(out);
    for item in list {
        item.encode(out);
    }
}

/// Reads a list of at most `max` elements.
///
/// # Errors
/// [`CodecError`].
pub fn decode_list<T: Decode>(
    reader: &mut Reader<'_>,
    what: &'static str,
    max: usize,
) -> Result<Vec<T>, CodecError> {
    let count = reader.count(what, max)?;
    (0..count).map(|_| T::decode(reader)).collect()
}

/// Appends text as a count of bytes and UTF-8.
pub fn encode_text(text: &str, out: &mut Vec<u8>) {
    u32::try_from(text.len()).unwrap_or(u32::MAX).encode(out);
    out.extend_from_slice(text.as_bytes());
}

/// Reads text of at most `max` bytes.
///
/// # Errors
/// [`CodecError`], also where it is not UTF-8.
pub fn decode_text(reader: &mut Reader<'_>, what: &'static str, max: usize) -> Result<String, CodecError> {
    let count = reader.count(what, max)?;
    let bytes = reader.take(count, what)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| CodecError::Invalid { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_bytes_is_refused_before_anything_is_allocated() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0];
        assert_eq!(
            decode_list::<u8>(&mut Reader::new(&bytes), "list", usize::MAX),
            Err(CodecError::TooShort { what: "list" })
        );
        assert_eq!(
            decode_list::<u8>(&mut Reader::new(&bytes), "list", 9),
            Err(CodecError::TooLong { what: "list", max: 9 })
        );
    }

    #[test]
    fn only_the_canonical_form_is_accepted() {
        assert!(bool::from_bytes(&[2]).is_err());
        assert!(Option::<u8>::from_bytes(&[0, 7]).is_err());
        assert!(
            Interval::from_bytes(&[0, 0, 0, 15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err()
        );
        assert_eq!(u16::from_bytes(&[1, 2, 3]), Err(CodecError::Trailing { count: 1 }));
    }
}
