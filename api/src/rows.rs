//! Lists: what happened, one row each.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{COMMUNITY_MIN, SCHEMA_VERSION, Time};

/// How many rows a page has if the request does not say.
pub const PAGE_DEFAULT: u32 = 100;

/// The most rows one page may have.
pub const PAGE_MAX: u32 = 500;

/// Rows, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// Version of this document.
    pub schema_version: u32,
    /// The rows.
    pub items: Vec<T>,
    /// Give this as `cursor` to get the rows that follow; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of the first `limit` of `rows`; `cursor_after` names the place behind a row. Ask the source for one row
    /// more than `limit`, so that the end is known.
    #[must_use]
    pub fn cut(mut rows: Vec<T>, limit: u32, cursor_after: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = if more { rows.last().map(cursor_after) } else { None };
        Self { schema_version: SCHEMA_VERSION, items: rows, next_cursor }
    }

    /// The same page of other rows.
    #[must_use]
    pub fn map<U>(self, to: impl FnMut(T) -> U) -> Page<U> {
        let items = self.items.into_iter().map(to).collect();
        Page { schema_version: self.schema_version, items, next_cursor: self.next_cursor }
    }
}

/// One settled interval of the whole community.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntervalRow {
    /// First instant.
    pub start: Time,
    /// What the supplier charges, µ/kWh.
    pub import_price: i64,
    /// What the supplier pays, µ/kWh.
    pub export_price: i64,
    /// The middle between the two, at which neighbours trade before network fees, µ/kWh.
    pub local_price: i64,
    /// Energy matched among neighbours; absent with fewer than 5 metered homes.
    pub matched_wh: Option<u64>,
    /// Energy taken from the supplier; absent with fewer than 5 metered homes.
    pub supplier_import_wh: Option<u64>,
    /// Energy given to the supplier; absent with fewer than 5 metered homes.
    pub supplier_export_wh: Option<u64>,
    /// Losses of the network; absent if unknown or with fewer than 5 metered homes.
    pub losses_wh: Option<i64>,
    /// How many homes were settled.
    pub homes: u32,
    /// How many of them without a reading.
    pub missing: u32,
    /// Height of the block that settled it.
    pub height: u64,
    /// Market time of that block.
    pub settled_at: Time,
}

impl IntervalRow {
    /// The row as members may see it: without totals if fewer than [`COMMUNITY_MIN`] metered homes are in them, since
    /// from such a total a neighbour's consumption could be read.
    #[must_use]
    pub fn for_members(mut self) -> Self {
        if self.homes.saturating_sub(self.missing) < COMMUNITY_MIN {
            self.matched_wh = None;
            self.supplier_import_wh = None;
            self.supplier_export_wh = None;
            self.losses_wh = None;
        }
        self
    }
}

/// Why a home was settled for an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettlementKind {
    /// With everybody else, when it was due.
    Settled,
    /// Alone, when its late reading came.
    Late,
    /// A correction that the operator countersigned.
    Correction,
}

impl SettlementKind {
    /// The word in JSON and in the database.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Late => "late",
            Self::Correction => "correction",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Settled, Self::Late, Self::Correction].into_iter().find(|kind| kind.word() == word)
    }
}

/// What one interval came to for this home. Amounts are positive when the home receives them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettlementRow {
    /// Start of the interval.
    pub interval_start: Time,
    /// Why it was settled.
    pub kind: SettlementKind,
    /// Height of the block that settled it.
    pub height: u64,
    /// Metered import; absent without a reading.
    pub import_wh: Option<u64>,
    /// Metered export; absent without a reading.
    pub export_wh: Option<u64>,
    /// Position traded beforehand, export positive.
    pub forward_wh: i64,
    /// What the position came to.
    pub forward_amount_n: i64,
    /// Sold to neighbours.
    pub sold_wh: u64,
    /// Bought from neighbours.
    pub bought_wh: u64,
    /// What trade with neighbours came to, after network fees.
    pub local_amount_n: i64,
    /// Taken from the supplier.
    pub supplier_import_wh: u64,
    /// Given to the supplier.
    pub supplier_export_wh: u64,
    /// What the supplier's part came to, after network fees.
    pub supplier_amount_n: i64,
    /// Everything together.
    pub amount_n: i64,
    /// What the supplier alone would have come to.
    pub baseline_n: i64,
    /// `amount_n - baseline_n`: never below zero through matching.
    pub saved_n: i64,
    /// The part the home could not pay, booked as the supplier's claim.
    pub claim_n: i64,
    /// Its part of what the network lost, in `amount_n`; 0 where the community does not pay for losses.
    pub loss_n: i64,
    /// What is due to it from outside for sharing, not in `amount_n`; 0 without such an incentive.
    pub incentive_n: i64,
    /// Quality of the reading; absent without one.
    pub quality: Option<String>,
    /// Smallest step of the registers of the home's meter: the energy is known no finer.
    pub quantum_wh: u64,
}

/// The account of this home, in n.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Balance {
    /// Version of this document.
    pub schema_version: u32,
    /// ISO 4217 code of the currency.
    pub currency: String,
    /// What stands on the account.
    pub balance_n: i64,
    /// What the home owes its supplier; paid first from the next deposit.
    pub claim_n: i64,
    /// What its open orders and positions hold back.
    pub reserved_n: i64,
    /// `balance_n - reserved_n`: what it can spend.
    pub free_n: i64,
    /// What a day of its average consumption of the last 14 days costs at present prices; absent before the first reading.
    pub daily_cost_n: Option<i64>,
    /// How many whole days the free balance lasts so; absent where a day costs nothing.
    pub days_left: Option<i64>,
    /// True if that is less than three days: time for a deposit.
    pub low: bool,
}

/// One reading of this home's meter that is on the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadingRow {
    /// Start of the interval at whose end it was taken.
    pub interval_start: Time,
    /// Cumulative import.
    pub import_register_wh: u64,
    /// Cumulative export.
    pub export_register_wh: u64,
    /// How good the registers are.
    pub quality: String,
    /// How good its time is: `unsynced`, `informative` or `synced`.
    pub clock_quality: String,
    /// Serial number of the meter.
    pub serial: String,
    /// Counts the meters of the connection point and their resets, from 0; registers are never differenced across it.
    pub epoch: u32,
    /// Smallest step of the registers.
    pub quantum_wh: u64,
    /// First 16 hexadecimal digits of the SHA-256 of the device profile that decoded them.
    pub profile: String,
    /// Height of the block that holds it.
    pub height: u64,
}

/// One final block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockRow {
    /// Its height, from 1.
    pub height: u64,
    /// Its id, 64 hex digits.
    pub id: String,
    /// Its market time.
    pub time: Time,
    /// Consensus round it was decided in.
    pub round: u32,
    /// How many entries it holds.
    pub entries: u32,
    /// Wall time from receipt of its oldest entry to its durable decision on this node.
    pub finality_ms: u64,
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its home, where the membership names it.
    pub home: Option<String>,
    /// Its network key, 64 hex digits.
    pub key: String,
    /// Its network address; with `/p2p-circuit` in it, the way there leads through a relay.
    pub address: String,
    /// Since when it is connected, wall time.
    pub connected_since: Time,
    /// Round-trip time of the last ping; absent before the first.
    pub rtt_ms: Option<u64>,
}

/// The connected peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peers {
    /// Version of this document.
    pub schema_version: u32,
    /// The peers.
    pub items: Vec<Peer>,
    /// Relays, of this node and for others.
    #[serde(default)]
    pub relaying: Relaying,
}

/// How homes that nobody can dial are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Relaying {
    /// The relays that this node is told of.
    pub relays: Vec<Relay>,
    /// What this node passes on for others; absent if it is no relay.
    pub serving: Option<Serving>,
}

/// A relay of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Relay {
    /// Its home, where the membership names it.
    pub home: Option<String>,
    /// Its network address.
    pub address: String,
    /// Whether it takes connections for this home now.
    pub reserved: bool,
}

/// What a relay does for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Serving {
    /// Homes for which it takes connections.
    pub homes: u32,
    /// Connections that it passes on now.
    pub circuits: u32,
}

/// A ledger entry was taken. It is acknowledged only when a final block holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// Version of this document.
    pub schema_version: u32,
    /// How many bytes were taken.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(homes: u32, missing: u32) -> IntervalRow {
        IntervalRow {
            start: Time::from_unix_ms(0),
            import_price: 250_000,
            export_price: 80_000,
            local_price: 165_000,
            matched_wh: Some(7),
            supplier_import_wh: Some(1),
            supplier_export_wh: Some(0),
            losses_wh: Some(-2),
            homes,
            missing,
            height: 9,
            settled_at: Time::from_unix_ms(1_800_000),
        }
    }

    #[test]
    fn members_see_totals_only_of_five_metered_homes_or_more() {
        assert_eq!(row(5, 0).for_members(), row(5, 0));
        for (homes, missing) in [(4, 0), (5, 1), (12, 8)] {
            let shown = row(homes, missing).for_members();
            assert_eq!(
                (shown.matched_wh, shown.supplier_import_wh, shown.supplier_export_wh, shown.losses_wh),
                (None, None, None, None),
                "{homes} homes, {missing} missing"
            );
            assert_eq!(shown.import_price, 250_000, "prices are public");
        }
    }

    #[test]
    fn a_page_is_continued_only_if_there_is_more() {
        let page = Page::cut(vec![5, 4, 3], 2, ToString::to_string);
        assert_eq!((page.items, page.next_cursor.as_deref()), (vec![5, 4], Some("4")));
        let last = Page::cut(vec![3, 2], 2, ToString::to_string);
        assert_eq!((last.items, last.next_cursor), (vec![3, 2], None));
    }

    #[test]
    fn a_settlement_kind_has_one_word() {
        for kind in [SettlementKind::Settled, SettlementKind::Late, SettlementKind::Correction] {
            assert_eq!(SettlementKind::from_word(kind.word()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.word()));
        }
        assert_eq!(SettlementKind::from_word("guessed"), None);
    }
}
