//! By which rules an interval's metered energy is shared and paid.
//!
//! # Sharing by law
//! Neighbour matching is this project's own rule. Where a law says how an energy community must share, the community chooses
//! one of the keys:
//!
//! - **Austria** (energy communities and shared plants, ElWOG 2010 §§ 16a to 16e and the law that follows it; described by
//!   the coordination office on energiegemeinschaften.gv.at): per quarter-hour, *static* (an agreed fixed share; what a
//!   member does not consume of it counts as fed into the grid: [`Unused::Lost`]) or *dynamic* (in relation to the
//!   consumption measured). A participation factor says with how much of its measured energy a meter takes part, whatever
//!   the key.
//! - **Spain** (Real Decreto 244/2019, annex I, as changed by Orden TED/1247/2021): agreed coefficients β, written down in
//!   advance, that come to 1: a static key. What a member does not consume of its part is surplus, never another member's:
//!   [`Unused::Lost`]. The decree counts hours.
//! - **France** (Code de l'énergie, D315-4 and D315-6): coefficients named by the organiser for each step of measurement,
//!   nobody getting more than it consumed; without any, pro rata to consumption: [`Sharing::DynamicKey`].
//! - **Germany** (EnWG § 42c, shared use across the public grid from June 2026; § 42b inside a building): a key agreed by
//!   contract, static or dynamic, per quarter-hour and at an agreed price.
//! - **Italy** (D.Lgs. 199/2021, DM 414 of 7 December 2023, ARERA's TIAD 727/2022/R/eel): nobody's supply changes; a
//!   premium is paid on shared energy, the lesser of what all members fed in and took in the same hour under one primary
//!   substation: [`Sharing::Incentive`] with intervals of 60 minutes.

use energy::{Price, QuantityError, WattHours};

use crate::error::check_price;
use crate::matching::check_tariff;
use crate::network::RankedNode;
use crate::{MarketError, Network, SettleHome, SupplierLeg, Tariff};

/// The whole of an agreed key.
const WHOLE_KEY: u32 = 10_000;
/// The whole of a meter.
const WHOLE_METER: u32 = 1_000;

/// How metered energy is shared among homes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sharing {
    /// Nearest first, at the middle of the supplier's two prices ([`crate::match_neighbours`]).
    Neighbour,
    /// Each interval's local generation is divided by agreed shares ([`SettleHome::share_permyriad`]); a home's part is
    /// capped at its own deficit.
    StaticKey {
        /// What local energy costs before network fees; `None` where energy is allocated but not paid for.
        price: Option<Price>,
        /// What becomes of a part that a home does not need.
        unused: Unused,
    },
    /// Each interval's local generation is divided pro rata to what homes consumed.
    DynamicKey {
        /// What local energy costs before network fees; `None` where energy is allocated but not paid for.
        price: Option<Price>,
    },
    /// No energy and no money changes hands; a payment on the lesser of generation and consumption is computed for each home,
    /// and comes from outside.
    Incentive {
        /// Per kWh; not below zero.
        payment: Price,
        /// Who it goes to.
        division: Division,
    },
}

/// What becomes of the part of a static key that a home does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unused {
    /// It stays the producers' surplus, with their supplier.
    Lost,
    /// It goes to those who still need energy, by their shares again, until nothing moves.
    PassedOn,
}

/// Who an incentive goes to, in each case pro rata to what each gave or took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Division {
    /// Those who fed in.
    Producers,
    /// Those who took.
    Consumers,
    /// Half to each side; an odd n to the producers.
    Halves,
}

/// Whether money moves for what the network loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Losses {
    /// Losses are recorded and shown.
    Recorded,
    /// The community pays for them: shared pro rata to metered imports, at the community tariff's import price.
    Community,
}

/// The rules of one interval.
///
/// With a fixed or no internal price the law decides and not the market: a home's standing limits (`min_sell`, `max_buy`) and
/// its supplier's price play no part, and a home can be worse off than with its supplier alone. Its means still count:
/// nobody in the community goes unpaid.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The network, with the fees of this interval.
    pub network: &'a Network,
    /// The community's tariff.
    pub tariff: Tariff,
    /// Whether the supplier's money moves on the ledger.
    pub leg: SupplierLeg,
    /// How metered energy is shared.
    pub sharing: Sharing,
    /// Whether losses are paid for.
    pub losses: Losses,
}

impl Terms<'_> {
    /// Refuses prices out of range.
    pub(crate) fn check(&self) -> Result<(), MarketError> {
        check_tariff(&self.tariff)?;
        let price = match self.sharing {
            Sharing::Neighbour => Price::ZERO,
            Sharing::StaticKey { price, .. } | Sharing::DynamicKey { price } => price.unwrap_or(Price::ZERO),
            Sharing::Incentive { payment, .. } => payment,
        };
        check_price("sharing", 0, "price", price)?;
        match self.sharing {
            Sharing::Incentive { payment, .. } if payment < Price::ZERO => {
                Err(MarketError::NegativePayment { payment })
            }
            _ => Ok(()),
        }
    }

    /// Refuses homes that take part with more than there is.
    pub(crate) fn check_shares<Id>(&self, homes: &[SettleHome<Id>]) -> Result<(), MarketError> {
        for (index, home) in homes.iter().enumerate() {
            let permille = home.participation_permille;
            if permille > WHOLE_METER {
                return Err(MarketError::ParticipationTooHigh { index, permille });
            }
        }
        let sum = homes.iter().fold(0u64, |sum, home| sum.saturating_add(home.share_permyriad.into()));
        match self.sharing {
            Sharing::StaticKey { .. } if sum > u64::from(WHOLE_KEY) => {
                Err(MarketError::SharesTooHigh { sum })
            }
            _ => Ok(()),
        }
    }

    /// What energy costs between homes before network fees: zero where it is allocated without a price, `None` where none
    /// changes hands.
    pub(crate) fn local_price(&self) -> Option<Price> {
        match self.sharing {
            Sharing::Neighbour => Some(self.tariff.middle()),
            Sharing::StaticKey { price, .. } | Sharing::DynamicKey { price } => {
                Some(price.unwrap_or(Price::ZERO))
            }
            Sharing::Incentive { .. } => None,
        }
    }

    /// The node up to which local energy pays network fees: where neighbours meet is not known beforehand, so the root; with
    /// a key the lowest node above all homes that take part.
    pub(crate) fn meeting_point<Id>(&self, homes: &[SettleHome<Id>]) -> RankedNode {
        match self.sharing {
            Sharing::Neighbour => self.network.ranked(0),
            _ => {
                let part = homes.iter().filter(|home| home.participation_permille > 0);
                self.network.lowest_above(part.filter_map(|home| self.network.rank_of(home.node)))
            }
        }
    }
}

/// The part of a home's energy that takes part, floored.
pub(crate) fn taking_part(energy: WattHours, permille: u32) -> Result<WattHours, QuantityError> {
    // Never more than the energy, so it fits.
    let part = u128::from(energy.get()).saturating_mul(u128::from(permille));
    let part = part.checked_div(u128::from(WHOLE_METER)).and_then(|part| u64::try_from(part).ok());
    part.map(WattHours::new).ok_or(QuantityError { operation: "part of a meter's energy" })
}

/// What `shares` of the whole key come to of `energy`, floored.
pub(crate) fn by_shares(energy: u64, shares: u64) -> u64 {
    let part = u128::from(energy).saturating_mul(u128::from(shares)).checked_div(u128::from(WHOLE_KEY));
    part.and_then(|part| u64::try_from(part).ok()).unwrap_or(energy)
}
