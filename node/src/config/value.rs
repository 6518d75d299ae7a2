//! How one TOML value becomes one of our types, and what is expected where it does not.

use std::net::SocketAddr;
use std::path::PathBuf;

use energy::{Balance, HomeId, MeterSerial, Mtu, NodeId, Price, Timestamp, WattHours};
use ledger::{Hash32, PublicKey};
use libp2p::Multiaddr;
use toml::de::DeValue;

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// Another type of TOML value.
    Type,
    /// The right type, but what it says cannot be; the reason.
    Value(String),
}

/// Can be written as one TOML value.
pub trait FromToml: Sized {
    /// What to write, as the end of "expected …".
    fn expected() -> String;

    /// Takes the value.
    ///
    /// # Errors
    /// [`Mismatch`].
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch>;
}

/// Reads a type from one of a few words, each given with its value.
macro_rules! words {
    ($($kind:ty: $what:literal, $known:expr;)*) => {$(
        impl FromToml for $kind {
            fn expected() -> String {
                let words: Vec<String> = $known.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                format!("{} {}", $what, words.join(", "))
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
                let text = value.as_str().ok_or(Mismatch::Type)?;
                let known = $known.iter().find(|(word, _)| *word == text);
                known.map(|(_, value)| *value).ok_or_else(|| Mismatch::Value(format!("{text:?} is none of the words known here")))
            }
        }
    )*};
}
pub(super) use words;

/// The name of a value's type as people say it.
#[must_use]
pub const fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a decimal point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

impl FromToml for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        value.as_bool().ok_or(Mismatch::Type)
    }
}

impl FromToml for String {
    fn expected() -> String {
        "text in quotes".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        value.as_str().map(str::to_owned).ok_or(Mismatch::Type)
    }
}

impl FromToml for PathBuf {
    fn expected() -> String {
        "a path in quotes".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        match value.as_str() {
            Some("") => Err(Mismatch::Value("the path is empty".to_owned())),
            Some(path) => Ok(Self::from(path)),
            None => Err(Mismatch::Type),
        }
    }
}

macro_rules! integers {
    ($($integer:ident),*) => {$(
        impl FromToml for $integer {
            fn expected() -> String {
                format!("an integer from {} to {}", Self::MIN, Self::MAX)
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
                let DeValue::Integer(integer) = value else { return Err(Mismatch::Type) };
                Self::from_str_radix(integer.as_str(), integer.radix())
                    .map_err(|_| Mismatch::Value(format!("{integer} is out of range")))
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i8, i32, i64);

macro_rules! quantities {
    ($($quantity:ident($integer:ident) = $expected:literal),* $(,)?) => {$(
        impl FromToml for $quantity {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
                $integer::from_toml(value).map(Self::new)
            }
        }
    )*};
}

quantities! {
    WattHours(u64) = "whole watt-hours, 0 or more",
    Price(i64) = "a price in µ/kWh, an integer (250000 is 0.25 per kWh)",
    Balance(i64) = "an amount in n, an integer (1000000000 is 1 of the currency)",
}

macro_rules! texts {
    ($($kind:ident: $parse:expr, $expected:literal;)*) => {$(
        impl FromToml for $kind {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
                let text = value.as_str().ok_or(Mismatch::Type)?;
                let parse: fn(&str) -> Result<Self, String> = $parse;
                parse(text).map_err(Mismatch::Value)
            }
        }
    )*};
}

const NOT_HEX: &str = "it is not 64 hexadecimal digits";

texts! {
    HomeId: |text| Self::new(text).map_err(|error| error.to_string()), "the id of a home such as \"h001\"";
    NodeId: |text| Self::new(text).map_err(|error| error.to_string()), "the id of a network node";
    MeterSerial: |text| Self::new(text).map_err(|error| error.to_string()), "the serial number of a meter in quotes";
    PublicKey: |text| Self::from_hex(text).ok_or_else(|| NOT_HEX.to_owned()), "a public key as 64 hexadecimal digits";
    Hash32: |text| Self::from_hex(text).ok_or_else(|| NOT_HEX.to_owned()), "a hash as 64 hexadecimal digits";
    Multiaddr: |text| text.parse().map_err(|error: libp2p::multiaddr::Error| error.to_string()),
        "an address such as \"/ip4/192.168.1.20/tcp/8470\"";
    SocketAddr: |text| text.parse().map_err(|_| "it is no IP address with a port".to_owned()),
        "an IP address and port such as \"127.0.0.1:8480\"";
}

impl FromToml for Timestamp {
    fn expected() -> String {
        "a time with its offset such as 2026-07-14T12:30:00Z".to_owned()
    }

    /// Takes TOML's own date-time and RFC 3339 in quotes.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let text = match value {
            DeValue::Datetime(time) => time.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => return Err(Mismatch::Type),
        };
        Self::parse(&text).map_err(|error| Mismatch::Value(error.to_string()))
    }
}

impl FromToml for Mtu {
    fn expected() -> String {
        "5, 15, 30 or 60".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        let minutes = u32::from_toml(value)?;
        Self::from_minutes(minutes).map_err(|error| Mismatch::Value(error.to_string()))
    }
}
