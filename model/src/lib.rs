//! The rules that decide who decides, checked in every state of small cases.
//!
//! [`rounds`]: votes, locks, crashes and the log within one height. [`sets`]: delegate sets that blocks change. [`seats`]: the
//! real ledger, with every sequence of a few blocks that convict, fall silent, elect. [`elections`]: the real election, with
//! every profile of ballots of a few voters. `docs/model.md` says what is left out, and how many states there are.

pub mod elections;
pub mod rounds;
pub mod seats;
pub mod sets;
