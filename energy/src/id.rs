//! Names of things: short ASCII text, so that ordering by bytes is ordering by eye.

use std::fmt;

/// A name is not usable as an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} must be 1 to {max} characters of a-z, A-Z, 0-9, '-', '_' or '.'")]
pub struct IdError {
    /// What it should have named, e.g. `home id`.
    pub kind: &'static str,
    /// The text given.
    pub text: String,
    /// The longest allowed.
    pub max: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The longest allowed, in bytes.
            pub const MAX: usize = $max;

            /// Checks and wraps `text`.
            ///
            /// # Errors
            /// [`IdError`] if it is empty, too long or has other characters.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
                if (1..=Self::MAX).contains(&text.len()) && text.bytes().all(plain) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { kind: $kind, text: text.chars().take(80).collect(), max: Self::MAX })
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

id!(
    /// One home: a member with one connection point.
    HomeId, "home id", 32
);
id!(
    /// One node of the network tree: a bus, a feeder, the transformer.
    NodeId, "node id", 32
);
id!(
    /// The serial number printed on a meter.
    MeterSerial, "meter serial", 32
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_plain_text_and_order_by_bytes() {
        assert!(HomeId::new("h001").unwrap() < HomeId::new("h002").unwrap());
        for bad in ["", "h 1", "hé", "a/b", &"x".repeat(33)] {
            assert!(HomeId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            NodeId::new("").unwrap_err().to_string(),
            "node id \"\" must be 1 to 32 characters of a-z, A-Z, 0-9, '-', '_' or '.'"
        );
    }
}
