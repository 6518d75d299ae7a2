//! What the ledger does, rule by rule: each test is named after the behaviour it protects.

mod assurance;
mod blocks;
mod decoders;
mod fixture;
mod forward;
mod golden;
mod histories;
mod members;
mod meters;
mod money;
mod readings;
mod settlement;
mod snapshots;
mod tariffs;
