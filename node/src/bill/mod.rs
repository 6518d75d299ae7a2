//! Bills: one home, one month, every line recomputable from the ledger.
//!
//! The ledger settles energy to the n and never rounds. A bill takes each outcome apart ([`items`]), says on which month
//! it stands ([`calendar`]) and whose it is ([`parties`]), adds the levies, taxes and fixed charges that are configured
//! ([`terms`]), and rounds once, at the very end, to what can be paid ([`sheet::Due`]). What rounding left over is
//! carried to the next bill. `csv`, `html`, `text` and `json` show one and the same [`sheet::Sheet`].

pub mod account;
pub mod calendar;
pub mod csv;
pub mod fees;
pub mod figures;
pub mod html;
pub mod items;
pub mod json;
pub mod lines;
pub mod make;
pub mod parties;
pub mod prepaid;
pub mod sheet;
pub mod table;
pub mod terms;
pub mod text;
pub mod words;
