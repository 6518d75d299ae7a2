//! The HTTP API of a node: its JSON types, its OpenAPI document and a client.
//!
//! Conventions, the same everywhere:
//!
//! - energy is an integer in Wh, direction is the name of the field (`import_wh`, `export_wh`, `sold_wh`,
//!   `bought_wh`); the one signed energy is `forward_wh`, with export positive;
//! - a price is an integer in µ/kWh, an amount an integer in n (10⁻⁹ of the currency); an amount is positive when the
//!   home receives it;
//! - a time is RFC 3339 in UTC ([`Time`]); durations are milliseconds and say so in their names;
//! - a list is a [`Page`], newest first, continued by its opaque `next_cursor`;
//! - every error is a [`Problem`] (RFC 9457) and every document carries `schema_version`.
//!
//! A node serves its own home: settlements, readings and the balance of other homes never leave it here, and totals
//! of the community only where at least [`COMMUNITY_MIN`] homes are in them (the anonymity rule for members).
//! Orders of other homes are sealed; two addresses make the node sign an order or a cancel of its own home.
//! Of the assurance of other homes' meters it serves only how many stand at which level.
//!
//! What is deliberately absent: any knowledge of how a node stores or computes these things.

mod assurance;
mod chain;
mod client;
mod delegates;
mod endpoint;
mod event;
mod household;
mod ledger;
mod market;
mod member;
mod meters;
mod problem;
mod rows;
mod status;
mod time;
mod today;

pub use assurance::{Assurance, Evidence, Finding, FindingKind, MeterFacts, Verdict};
pub use chain::{ChainProof, Holdings};
pub use client::{Client, ClientError, EventStream};
pub use delegates::{Delegates, Seat};
pub use endpoint::{ENDPOINTS, Endpoint, openapi};
pub use event::{Event, NumberedEvent};
pub use household::{
    CommandRow, ForecastFigures, Household, HouseholdDevices, HouseholdTrading, PlanStep, PlannedOrder,
};
pub use ledger::{
    EntryName, LedgerBlock, LedgerHead, Missed, MissedBlock, MissedSeat, NodeNote, RecoveryAnswer,
    RecoveryRequest, RecoveryStep,
};
pub use market::{
    AGENT_PREFIX, BreachRow, CancelRequest, CommunityBook, Depth, Edge, EdgeEnvelope, EntryContent,
    EntryState, ForwardMode, GateRow, GateState, HISTORY_DAYS_MAX, HOURS_AHEAD_MAX, HistoryTotals,
    IntervalTerms, MarketBook, MarketCurve, MarketHistory, MarketRules, NodePrice, OpenOrder, OpenPosition,
    OrderEntries, OrderEntry, OrderEntryKind, OrderRequest, OrderRow, OrderState, OrderTerms, REQUEST_ID_MAX,
    SettlementTerms, Side, is_request_id,
};
pub use member::{Member, RegisteredMeter};
pub use meters::{Flows, MeterRow, Meters};
pub use problem::{PROBLEM_MEDIA_TYPE, Problem};
pub use rows::{
    Balance, BlockRow, IntervalRow, PAGE_DEFAULT, PAGE_MAX, Page, Peer, Peers, ReadingRow, Relay, Relaying,
    Serving, SettlementKind, SettlementRow, Submitted,
};
pub use status::{CheckState, Finality, Health, LiveInterval, MeterCondition, MeterStatus, Power, Status};
pub use time::Time;
pub use today::{Latest, Line, LineKind, SeriesPoint, Today};

/// Version of the JSON documents: raised when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// From how many metered homes up members see the totals of their community (audit design, "Anonymity rule").
pub const COMMUNITY_MIN: u32 = 5;
