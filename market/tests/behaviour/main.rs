//! What the market's rules must do: on random networks, books and streets, against second implementations and solvers, and on
//! examples to check by hand.
#![expect(clippy::unwrap_used, reason = "a test that cannot build its input has failed")]

mod auction;
mod books;
mod cases;
mod examples;
mod forward;
mod matching;
mod one_order;
mod plain;
mod posted;
mod random;
mod settlement;
mod sharing;
mod streets;
