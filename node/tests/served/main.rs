//! Commands of the program against a served API behind which a ledger really takes, or refuses, what is handed in.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot do its work must fail")]

mod community;
mod money;
mod street;
