//! Decoders of what comes from outside that no other crate can reach by itself. `corpus` judges them by any bytes; nothing else
//! uses this module.

use energy::NodeId;
use ledger::Admission;

use crate::commands::join_card::JoinCard;
use crate::{follow, joining, network};

/// The messages of a direct frame, put together again; `None` if `frame` is none.
#[must_use]
pub fn reframed(frame: &[u8]) -> Option<Vec<u8>> {
    network::reframed(frame)
}

/// How many members' addresses a node learns that is given this answer by one of them: signed records behind their lengths.
#[must_use]
pub fn addresses_learnt(answer: &[u8]) -> usize {
    network::addresses_learnt(answer)
}

/// A question for a recent state or for what comes next, or an answer to one, written again; `None` if it is neither.
#[must_use]
pub fn rewritten(bytes: &[u8]) -> Option<Vec<u8>> {
    follow::rewritten(bytes).or_else(|| joining::rewritten(bytes))
}

/// What a join card says of a home.
///
/// # Errors
/// What is wrong with it, for people.
pub fn join_card(text: &str) -> Result<Admission, String> {
    let card = JoinCard::parse("join.json", text).map_err(|error| error.to_string())?;
    card.admission(NodeId::new("lv").ok()).map_err(|error| error.to_string())
}
