//! The ledger: what is signed, who has what, and which block says so.
//!
//! An [`Entry`] is signed by who is answerable for it and checked once ([`SignedEntry::verify`]). A [`Ledger`] is the state
//! after some block: [`Ledger::propose`] makes the next block from what is valid, [`Ledger::execute`] carries one out as
//! every other delegate does and compares every commitment of its header. Both apply the entries in order and then do what
//! market time has made due: gates are cleared, intervals settled. So a proposer can neither choose nor misstate a price.
//!
//! Every entry and every [`Outcome`] is a [`Leaf`] of one append-only [`tree`]; what concerns a person is sealed there.
//! What must always hold is checked after every block ([`Ledger::check_invariants`]): accounts sum to zero, no member is
//! below zero (or its credit, where members pay by statement), every metered Wh is settled once or waits. Whatever an entry says, it must not be able to break that for
//! everybody else: energy, money, prices and lists are bounded where they come in.
//!
//! What is deliberately absent: I/O, a clock, randomness, floating point, unordered maps. Time, signatures and salts come in
//! with entries and blocks.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod apply;
mod assurance;
mod block;
mod checkpoint;
pub mod codec;
mod crypto;
mod delegates;
mod delegation;
mod election;
mod entry;
mod error;
mod evidence;
mod fees;
mod followed;
mod gaps;
mod genesis;
mod home_view;
mod ledger;
mod light;
mod meter;
mod outcome;
mod provisional;
mod rates;
mod recovery;
#[cfg(feature = "remembered-signatures")]
mod remembered;
mod rent;
mod replicas;
mod room;
mod seats;
mod settle;
mod signed;
mod state;
mod table;
mod trade;
pub mod tree;
mod versions;
mod view;

/// True in a build for simulators, in which a signature that held is not checked again. The program refuses to be built so.
pub const REMEMBERS_SIGNATURES: bool = cfg!(feature = "remembered-signatures");

pub use assurance::{
    ASSURANCES_MAX, Assurance, AssuranceStatement, EvidenceState, FULL_DAYS, Finding, INVERTER_PERMILLE_MAX,
    LEVEL_MAX, MeterAssurance, MeterEvidence, PEAK_W_MAX, PvDeclaration, SILENT_DAYS, Stated, VOLTAGE_DV_MAX,
    VOLTAGES_MAX,
};
pub use block::*;
pub use checkpoint::*;
pub use crypto::{Hash32, KnownKeys, PublicKey, Salt, Signature};
pub use delegates::BallotState;
pub use delegation::{BARRED_MS, EPOCH_HEIGHTS, EPOCH_MS, Epoch, STAKE_DAYS, TermKeys};
pub use election::{
    APPROVALS_MAX, Ballot, Candidate, Elected, NotElected, Voter, elect, fitting, seats_of, turnout,
};
pub use entry::*;
pub use error::{BlockError, EntryError, InvariantError, SnapshotError};
pub use evidence::{Evidence, EvidenceError, SignedProposal, SignedVote, Statement};
pub use followed::*;
pub use genesis::*;
pub use home_view::{HomeView, VIEW_BYTES_MAX, ViewError};
pub use ledger::{Executed, HEARTBEAT_MS, Ledger, Proposed, money_on_accounts};
pub use light::*;
pub use meter::*;
pub use outcome::*;
pub use recovery::{Attestation, RECOVERY_AFTER_MS, Recovery, RecoveryError, SeatOffer, Support};
pub use seats::{ElectionOutcome, ElectionResult, SeatFate, SeatLoss, SeatOutcome};
pub use settle::sum_by_account;
pub use state::{Member, MeterState, OPEN_ORDERS_MAX, OpenOrder};
pub use table::Table;
pub use trade::{BreachOutcome, GateOutcome, OrderOutcome, OrderResult};
pub use view::{FirmPosition, OrderWindow};
