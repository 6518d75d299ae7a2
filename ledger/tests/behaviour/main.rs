//! What the ledger does, rule by rule: each test is named after the behaviour it protects.

mod assurance;
mod blocks;
mod decoders;
mod departures;
mod dst;
mod envelopes;
mod fees;
mod fixture;
mod forward;
mod golden;
mod histories;
mod members;
mod meters;
mod money;
mod operator_readings;
mod readings;
mod refusals;
mod rent;
mod settlement;
mod sharing;
mod snapshots;
mod statement;
mod tariffs;
mod terms_histories;
mod thin_market;
