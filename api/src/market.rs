//! The market: its rules, the home's own orders and what came of them, and what may be known of the others'.
//!
//! Orders of other homes are sealed. Of them a node tells only totals, and only where the anonymity rule lets it; the
//! price of a gate only where it does not show who traded.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// The longest request id.
pub const REQUEST_ID_MAX: usize = 64;
/// The most days of one [`MarketHistory`].
pub const HISTORY_DAYS_MAX: u32 = 31;
/// The most hours ahead in [`MarketRules`]: orders are taken no earlier.
pub const HOURS_AHEAD_MAX: u32 = 48;

/// Which way energy goes, seen from the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Taken from the network; pays at most its price.
    Buy,
    /// Given to the network; receives at least its price.
    Sell,
}

impl Side {
    /// The word in JSON and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

/// Whether and how energy is traded before delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardMode {
    /// Not at all: neighbours match after metering.
    Off,
    /// Orders that admit the middle of the supplier's prices are matched there at the gate, nearest first.
    Posted,
    /// One sealed auction per interval at its gate.
    Auction,
}

/// What holds in this community, and what this home may do in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MarketRules {
    /// Version of this document.
    pub schema_version: u32,
    /// The home.
    pub home: String,
    /// Node of the network where it is connected.
    pub node: String,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// Market time now.
    pub market_time: Time,
    /// Length of an interval, minutes.
    pub mtu_minutes: u32,
    /// How energy is traded before delivery.
    pub forward: ForwardMode,
    /// Rules of forward orders.
    pub orders: OrderTerms,
    /// The first interval whose gate is still to come; absent where nothing is traded forward.
    pub first_open: Option<Time>,
    /// Rules of settlement and money.
    pub settlement: SettlementTerms,
    /// The network as it is in the interval `next` begins with, the root first.
    pub edges: Vec<Edge>,
    /// The most the home's connection takes in one interval, as certified, Wh.
    pub import_max_wh: u64,
    /// The most it gives, Wh.
    pub export_max_wh: u64,
    /// Its agreed share of local generation under a static key, of 10 000.
    pub share_permyriad: u32,
    /// How much of its energy takes part in sharing, of 1 000.
    pub participation_permille: u32,
    /// What stands on the home's account, n.
    pub balance_n: i64,
    /// What its orders and positions hold back, n.
    pub reserved_n: i64,
    /// What it can spend on further orders, n; with its credit where the community pays after the month.
    pub free_n: i64,
    /// The intervals for which orders are taken now, earliest first; without forward trading the coming intervals.
    pub next: Vec<IntervalTerms>,
}

/// Rules of forward orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderTerms {
    /// Orders are taken from so long before the start of their interval.
    pub opens_ms: u64,
    /// The gate closes so long before the start.
    pub gate_ms: u64,
    /// No order is taken back or reduced in the last so many milliseconds before its gate.
    pub freeze_ms: u64,
    /// The least energy of an order.
    pub min_wh: u64,
    /// Open orders for one interval, at most.
    pub open_max: u32,
    /// Replacements and cancels for one interval, at most.
    pub changes_max: u32,
    /// Orders, cancels and other entries of the home in one hour, at most.
    pub entries_per_hour: u32,
    /// Of them, left in the running hour.
    pub entries_left: u32,
    /// The share of an edge's limit that forward trading may use where the operator published none, in thousandths.
    pub envelope_permille: u32,
}

/// Rules of settlement and money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettlementTerms {
    /// How neighbours share what was metered: `neighbour`, `static-key`, `dynamic-key` or `incentive`.
    pub sharing: String,
    /// With a key: what local energy costs before network fees, absent where it is not paid for. With an incentive: what is
    /// paid on it. µ/kWh.
    pub sharing_price: Option<i64>,
    /// With a static key, what becomes of shares that are not needed: `lost` or `passed-on`.
    pub unused: Option<String>,
    /// With an incentive, who it goes to: `producers`, `consumers` or `halves`.
    pub division: Option<String>,
    /// An interval is settled so long after its end.
    pub due_after_ms: u64,
    /// `ledger`: the supplier is paid on the ledger; `outside`: each home has its own contract, and its part is only shown.
    pub supplier_leg: String,
    /// `prepaid`, or `statement` where members pay after the month.
    pub money: String,
    /// How far an account may go below zero, n; 0 where members prepay.
    pub credit_n: i64,
    /// Whose readings are settled: `node` or `metering-operator`.
    pub reading_source: String,
    /// Who bears what gets lost in the network: `recorded` (nobody on the ledger) or `community`.
    pub losses: String,
    /// No published price is lower without a second signature, µ/kWh.
    pub price_min: i64,
    /// No published price is higher without a second signature, µ/kWh.
    pub price_max: i64,
}

/// A node of the network and the edge to its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Edge {
    /// The node.
    pub node: String,
    /// Its parent; absent at the root.
    pub parent: Option<String>,
    /// Fee for energy toward the root, µ/kWh.
    pub fee_up: i64,
    /// Fee for energy away from the root, µ/kWh.
    pub fee_down: i64,
    /// The most energy toward the root in one interval; absent: unlimited.
    pub up_wh: Option<u64>,
    /// The most energy away from the root in one interval; absent: unlimited.
    pub down_wh: Option<u64>,
    /// True for the edges between this home and the root: their fees are what its energy pays.
    pub own: bool,
}

/// One coming interval, as it stands for this home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntervalTerms {
    /// First instant of delivery.
    pub start: Time,
    /// From when on orders for it are not taken back or reduced.
    pub freezes: Time,
    /// When its gate closes.
    pub gate: Time,
    /// What the supplier charges, µ/kWh, before network fees.
    pub import_price: i64,
    /// What the supplier pays, µ/kWh, before network fees.
    pub export_price: i64,
    /// The middle between the two, at which neighbours trade before network fees, µ/kWh.
    pub local_price: i64,
    /// What the supplier leaves this home for a kWh after fees: the lowest limit an order may have, µ/kWh.
    pub lowest: i64,
    /// What the supplier costs this home for a kWh with fees: the highest limit an order may have, µ/kWh.
    pub highest: i64,
    /// The most the home may take, with the operator's cap, Wh.
    pub import_max_wh: u64,
    /// The most the home may give, with the operator's cap, Wh.
    pub export_max_wh: u64,
    /// True where the operator published a cap for the home's connection.
    pub capped: bool,
}

/// The home's own orders and positions, and what may be known of the community's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MarketBook {
    /// Version of this document.
    pub schema_version: u32,
    /// Market time now.
    pub market_time: Time,
    /// The interval that was asked about; absent: every one.
    pub interval: Option<Time>,
    /// Own open orders, by interval.
    pub orders: Vec<OpenOrder>,
    /// Own orders and cancels that no final block holds yet.
    pub pending: Vec<OrderEntry>,
    /// Own positions that wait for settlement, by interval.
    pub positions: Vec<OpenPosition>,
    /// The whole community in the interval that was asked about, else in the first that is open.
    pub community: Option<CommunityBook>,
}

/// An own order in the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenOrder {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Start of its interval.
    pub interval_start: Time,
    /// Buy or sell.
    pub side: Side,
    /// Limit price, µ/kWh.
    pub price: i64,
    /// How much.
    pub quantity_wh: u64,
    /// What it holds back of the balance, n.
    pub reserve_n: i64,
    /// It can be replaced by a larger one until then.
    pub gate: Time,
    /// It can be taken back or reduced until then.
    pub freezes: Time,
    /// How many changes to orders for its interval are left.
    pub changes_left: u32,
}

/// A firm position of this home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenPosition {
    /// Start of its interval.
    pub interval_start: Time,
    /// Sold ahead.
    pub sold_wh: u64,
    /// Bought ahead.
    pub bought_wh: u64,
    /// What it comes to if delivered, n; positive: the home receives it.
    pub amount_n: i64,
    /// What it holds back of the balance until settlement, n.
    pub reserve_n: i64,
}

/// Totals of everybody's open orders for one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommunityBook {
    /// Start of the interval.
    pub interval_start: Time,
    /// Orders to buy; absent with fewer than 5 other homes in it, or one of them above 15 % of theirs.
    pub buy: Option<Depth>,
    /// Orders to sell; absent likewise.
    pub sell: Option<Depth>,
    /// As of when, the older of the two; a side is renewed only when at least 5 other homes changed it, so that nobody's
    /// order is the difference.
    pub as_of: Time,
}

/// How much waits on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Depth {
    /// Of how many homes.
    pub homes: u32,
    /// Energy in all.
    pub quantity_wh: u64,
}

/// How far a gate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// Orders are not taken yet.
    Early,
    /// Orders are taken.
    Open,
    /// It has closed and its orders were cleared.
    Cleared,
    /// Its block came after the start of delivery: nothing was traded, every order ended unfilled.
    Void,
    /// It has closed, and there was no order.
    Empty,
}

/// What a gate came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MarketCurve {
    /// Version of this document.
    pub schema_version: u32,
    /// Start of the interval.
    pub interval_start: Time,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// How far its gate is.
    pub state: GateState,
    /// When its gate closes or closed.
    pub gate: Time,
    /// What the supplier leaves this home for a kWh after fees, µ/kWh.
    pub lowest: i64,
    /// What the supplier costs this home for a kWh with fees, µ/kWh.
    pub highest: i64,
    /// The middle of the supplier's prices, before network fees, µ/kWh.
    pub local_price: i64,
    /// The gate, where it has closed.
    pub result: Option<GateRow>,
    /// What trading ahead may send over each edge in the interval; empty once it is settled.
    #[serde(default)]
    pub envelopes: Vec<EdgeEnvelope>,
    /// This home's orders for the interval and what came of them.
    pub own: Vec<OrderRow>,
}

/// What trading ahead may send over the edge of a node in one interval: what the operator published, else a share of the
/// edge's limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EdgeEnvelope {
    /// The node.
    pub node: String,
    /// The most toward the root, Wh; absent: unlimited.
    pub up_wh: Option<u64>,
    /// The most away from the root, Wh; absent: unlimited.
    pub down_wh: Option<u64>,
}

/// One gate that has closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateRow {
    /// Start of its interval.
    pub interval_start: Time,
    /// True if its block came after the start of delivery, so that nothing was traded.
    pub void: bool,
    /// Energy traded; absent where the anonymity rule hides it.
    pub volume_wh: Option<u64>,
    /// How many orders there were; absent where the anonymity rule hides it.
    pub orders: Option<u32>,
    /// The price before network fees, µ/kWh: posted, the middle of the supplier's; in an auction that at the network's root.
    /// Absent where there is none or the anonymity rule hides it.
    pub price: Option<i64>,
    /// Of an auction whose node prices are public: those at the network's root and at this home's node; empty otherwise, and
    /// without a node that has fewer than five homes.
    pub prices: Vec<NodePrice>,
    /// Of an auction: the price at this home's node, where it is public or the home itself traded at it, µ/kWh.
    pub own_price: Option<i64>,
    /// Height of the block that closed it.
    pub height: u64,
}

/// The price at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePrice {
    /// The node.
    pub node: String,
    /// µ/kWh.
    pub price: i64,
}

/// What became of an order on the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Waits for its gate.
    Open,
    /// Another order took its place.
    Replaced,
    /// Taken back.
    Cancelled,
    /// Traded whole.
    Filled,
    /// Traded in part.
    Partly,
    /// Not traded.
    Unfilled,
    /// The gate's block came too late: nothing was traded.
    Void,
}

impl OrderState {
    /// Every one but [`OrderState::Open`].
    pub const ENDED: [Self; 6] =
        [Self::Replaced, Self::Cancelled, Self::Filled, Self::Partly, Self::Unfilled, Self::Void];

    /// The word in JSON and in tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replaced => "replaced",
            Self::Cancelled => "cancelled",
            Self::Filled => "filled",
            Self::Partly => "partly",
            Self::Unfilled => "unfilled",
            Self::Void => "void",
        }
    }
}

/// One order of this home on the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderRow {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Start of its interval.
    pub interval_start: Time,
    /// Buy or sell.
    pub side: Side,
    /// Limit price, µ/kWh.
    pub price: i64,
    /// How much.
    pub quantity_wh: u64,
    /// Height of the block that holds it.
    pub height: u64,
    /// What became of it.
    pub state: OrderState,
    /// How much of it was traded.
    pub filled_wh: u64,
    /// At which price, fees included, µ/kWh; absent if nothing was traded, or parts of it at several prices.
    pub fill_price: Option<i64>,
    /// What the trade comes to, n; positive: the home receives it.
    pub amount_n: i64,
    /// What the same energy would have come to with the supplier alone, n.
    pub supplier_n: i64,
}

/// The home's forward trading in past and coming intervals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MarketHistory {
    /// Version of this document.
    pub schema_version: u32,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// Intervals from then on.
    pub since: Time,
    /// Own orders, newest interval first.
    pub orders: Vec<OrderRow>,
    /// Give this as `cursor` to get the orders that follow; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// The gates of the newest intervals, newest first, as many as rows were asked for.
    pub gates: Vec<GateRow>,
    /// Intervals in which the home's connection carried more than the operator's cap, newest first.
    pub breaches: Vec<BreachRow>,
    /// Everything since then together.
    pub totals: HistoryTotals,
}

/// The home's connection carried more than the operator's cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreachRow {
    /// Start of the interval.
    pub interval_start: Time,
    /// What it took.
    pub import_wh: u64,
    /// What it gave.
    pub export_wh: u64,
    /// The most it was to take.
    pub import_max_wh: u64,
    /// The most it was to give.
    pub export_max_wh: u64,
}

/// What forward trading came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryTotals {
    /// Own orders on the ledger.
    pub orders: u64,
    /// Of them traded, whole or in part.
    pub filled: u64,
    /// Sold ahead.
    pub sold_wh: u64,
    /// Bought ahead.
    pub bought_wh: u64,
    /// What the trades come to, n; positive: the home receives it.
    pub amount_n: i64,
    /// What the same energy would have come to with the supplier alone, n.
    pub supplier_n: i64,
    /// `amount_n - supplier_n`: what trading ahead brought, if everything is delivered as sold and taken as bought.
    pub gain_n: i64,
}

/// An order that the node is asked to sign for its home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// Chosen by who asks, 1 to 64 letters, digits, `-`, `_` and `.`: the same request sent again is answered with the same
    /// order and never makes a second one.
    pub request_id: String,
    /// Start of the interval of delivery.
    pub interval: Time,
    /// Buy or sell.
    pub side: Side,
    /// Limit price, µ/kWh.
    pub price: i64,
    /// How much, Wh.
    pub quantity_wh: u64,
    /// Id of the open order whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// An order that the node is asked to take back for its home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// As in an order's request.
    pub request_id: String,
    /// Id of the order.
    pub order: String,
}

/// What an entry of the home's order desk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderEntryKind {
    /// An order.
    Order,
    /// Takes one back.
    Cancel,
}

/// How far an entry is on its way to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Signed and sent; no final block holds it yet.
    Pending,
    /// A final block holds it.
    Final,
    /// The ledger did not take it, and why is said.
    Refused,
}

/// One order or cancel that this node signed for its home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderEntry {
    /// Id of the entry, 64 hexadecimal digits; an order goes by it.
    pub id: String,
    /// The request it was signed for.
    pub request_id: String,
    /// What it is.
    pub kind: OrderEntryKind,
    /// How far it is.
    pub state: EntryState,
    /// Height of the block that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Why the ledger did not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Market time at which it was signed.
    pub signed_at: Time,
    /// The order; for a cancel the id of the one it takes back.
    pub content: EntryContent,
}

/// What an entry of the order desk says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EntryContent {
    /// An order.
    Order {
        /// Start of its interval.
        interval_start: Time,
        /// Buy or sell.
        side: Side,
        /// Limit price, µ/kWh.
        price: i64,
        /// How much.
        quantity_wh: u64,
        /// The order whose place it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<String>,
    },
    /// A cancel.
    Cancel {
        /// The order it takes back.
        order: String,
    },
}

/// Orders and cancels that this node signed, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderEntries {
    /// Version of this document.
    pub schema_version: u32,
    /// The entries, at most 500.
    pub items: Vec<OrderEntry>,
}

/// What the requests of the household's agent begin with. People's do not: so the agent tells its orders from theirs, which
/// it leaves alone.
pub const AGENT_PREFIX: &str = "agent-";

/// True if `id` may name a request of people or their programs: 1 to [`REQUEST_ID_MAX`] letters, digits, `-`, `_` and `.`,
/// and it does not begin with [`AGENT_PREFIX`].
#[must_use]
pub fn is_request_id(id: &str) -> bool {
    let fits = (1..=REQUEST_ID_MAX).contains(&id.len()) && !id.starts_with(AGENT_PREFIX);
    fits && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_plain_words_of_bounded_length() {
        for id in ["a", "order-2016.06.13_4", &"x".repeat(REQUEST_ID_MAX)] {
            assert!(is_request_id(id), "{id}");
        }
        for id in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(REQUEST_ID_MAX + 1), "agent-1-2-buy", "agent-"]
        {
            assert!(!is_request_id(id), "{id:?}");
        }
    }

    #[test]
    fn an_order_with_an_unknown_or_a_negative_field_is_none() {
        let order = |quantity: &str, more: &str| {
            let text = format!(
                r#"{{"request_id":"r1","interval":"2016-06-13T12:15:00Z","side":"sell","price":-5,"quantity_wh":{quantity}{more}}}"#
            );
            serde_json::from_str::<OrderRequest>(&text)
        };
        assert_eq!(order("100", "").unwrap().replaces, None);
        for (quantity, more) in
            [("-100", ""), ("1.5", ""), ("1e3", ""), ("\"100\"", ""), ("100", r#","home":"h2""#)]
        {
            assert!(order(quantity, more).is_err(), "{quantity} {more}");
        }
    }

    #[test]
    fn every_state_has_one_word() {
        for state in OrderState::ENDED.into_iter().chain([OrderState::Open]) {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("{:?}", state.word()));
        }
        assert_eq!(serde_json::to_string(&Side::Sell).unwrap(), format!("{:?}", Side::Sell.word()));
    }
}
