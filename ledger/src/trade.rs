//! What forward trading has to say: what became of each order, what a gate cleared, which connection went over its cap.

use energy::{HomeId, Interval, Money, Price, WattHours};
use market::{Metered, Side};

use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list, record};
use crate::crypto::Salt;
use crate::entry::{ConnectionSize, EntryId};
use crate::genesis::NODES_MAX;

/// How an order ended at its gate, or before it as its home left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderResult {
    /// All of it traded.
    Filled,
    /// Some of it traded; the rest was released.
    Partly,
    /// None of it traded; all was released. So end also the orders of a home that leaves before they could be delivered.
    Unfilled,
    /// The block that closed the gate came after the interval had begun, or the clearing's money would not have balanced:
    /// nothing traded, all was released.
    Void,
}

impl OrderResult {
    /// The word shown to people and machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Filled => "filled",
            Self::Partly => "partly",
            Self::Unfilled => "unfilled",
            Self::Void => "void",
        }
    }
}

/// What became of one order that stood in the book when its gate closed, or when its home left. Each has one such result,
/// unless its home replaced or cancelled it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderOutcome {
    /// Whose.
    pub home: HomeId,
    /// Delivery.
    pub interval: Interval,
    /// The order.
    pub order: EntryId,
    /// Buy or sell.
    pub side: Side,
    /// Its limit.
    pub limit: Price,
    /// What it was for.
    pub quantity: WattHours,
    /// What of it traded.
    pub filled: WattHours,
    /// What the home receives for that at settlement (pays, if negative), network fees included.
    pub amount: Money,
    /// True if the gate's clearing was void: too late, or its money would not have balanced.
    pub void: bool,
    /// Hides the leaf.
    pub salt: Salt,
}

record!(OrderOutcome { home, interval, order, side, limit, quantity, filled, amount, void, salt });

impl OrderOutcome {
    /// How it ended.
    #[must_use]
    pub fn result(&self) -> OrderResult {
        if self.void {
            OrderResult::Void
        } else if self.filled == WattHours::ZERO {
            OrderResult::Unfilled
        } else if self.filled < self.quantity {
            OrderResult::Partly
        } else {
            OrderResult::Filled
        }
    }
}

/// What a gate cleared, if there were orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateOutcome {
    /// Delivery.
    pub interval: Interval,
    /// The price before network fees: posted, the middle of the supplier's two; in an auction that of the network's root.
    /// `None` where nothing can be traded.
    pub price: Option<Price>,
    /// Of an auction: the price at each node, in the order of the network's nodes; empty otherwise. Everybody at a node
    /// trades at it. Where the leaf is public, `None` also for nodes with fewer than five homes.
    pub node_prices: Vec<Option<Price>>,
    /// Energy sold, which is the energy bought.
    pub volume: WattHours,
    /// Orders that stood in the book.
    pub orders: u32,
    /// Network fees on what was traded, due at settlement.
    pub fees: Money,
    /// Congestion rent, due at settlement.
    pub rent: Money,
    /// True if the block that closed the gate came after the interval had begun, or if the clearing's money would not have
    /// balanced; nothing traded then.
    pub void: bool,
    /// True where the anonymity rule lets the leaf be public.
    pub public: bool,
    /// Hides the leaf otherwise.
    pub salt: Salt,
}

impl Encode for GateOutcome {
    fn encode(&self, out: &mut Vec<u8>) {
        self.interval.encode(out);
        self.price.encode(out);
        encode_list(&self.node_prices, out);
        self.volume.encode(out);
        self.orders.encode(out);
        self.fees.encode(out);
        self.rent.encode(out);
        self.void.encode(out);
        self.public.encode(out);
        self.salt.encode(out);
    }
}

impl Decode for GateOutcome {
    fn decode(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            interval: Decode::decode(r)?,
            price: Decode::decode(r)?,
            node_prices: decode_list(r, "node prices", NODES_MAX)?,
            volume: Decode::decode(r)?,
            orders: Decode::decode(r)?,
            fees: Decode::decode(r)?,
            rent: Decode::decode(r)?,
            void: Decode::decode(r)?,
            public: Decode::decode(r)?,
            salt: Decode::decode(r)?,
        })
    }
}

/// A connection carried more than the operator's cap: an alarm for the operator and the home. Only a reading of that one
/// interval says so, in time or at most a day late; a lump over several does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachOutcome {
    /// Whose.
    pub home: HomeId,
    /// When.
    pub interval: Interval,
    /// What its meter showed.
    pub metered: Metered,
    /// The cap.
    pub cap: ConnectionSize,
    /// Hides the leaf.
    pub salt: Salt,
}

record!(BreachOutcome { home, interval, metered, cap, salt });
