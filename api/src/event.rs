//! What a node tells as it happens (server-sent events).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{BlockRow, IntervalRow, Peer, Power};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// An interval was settled.
    Interval(IntervalRow),
    /// A block became final.
    Block(BlockRow),
    /// The meter was read.
    Power(Power),
    /// A peer came or went.
    Peer {
        /// True if it is connected now.
        up: bool,
        /// Which one.
        #[serde(flatten)]
        peer: Peer,
    },
}

impl Event {
    /// Its name in the stream.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Interval(_) => "interval",
            Self::Block(_) => "block",
            Self::Power(_) => "power",
            Self::Peer { .. } => "peer",
        }
    }
}

/// An event with its place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    /// Counts up by one per event since the node started; a client that was away asks for what follows it.
    pub id: u64,
    /// What happened.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_carries_its_name_as_its_type() {
        let event = Event::Power(Power { w: -400, age_ms: 0 });
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(json, r#"{"type":"power","w":-400,"age_ms":0}"#);
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }
}
