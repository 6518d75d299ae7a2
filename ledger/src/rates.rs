//! What an interval settles by: prices and fees of that interval, and the community's rules.

use std::sync::Arc;

use energy::Interval;
use market::{Losses, Network, Sharing, SupplierLeg, Tariff, Terms};

use crate::entry::TariffPoint;
use crate::state::State;

/// Everything an interval settles by, late readings and corrections of it included.
#[derive(Debug, Clone)]
pub(crate) struct Rates {
    pub interval: Interval,
    /// The supplier's prices.
    pub tariff: TariffPoint,
    /// With the fees of the interval.
    pub network: Arc<Network>,
    pub leg: SupplierLeg,
    sharing: Sharing,
    losses: Losses,
}

impl Rates {
    /// The same for the market.
    pub fn terms(&self) -> Terms<'_> {
        let TariffPoint { import_price, export_price } = self.tariff;
        Terms {
            network: &self.network,
            tariff: Tariff { import_price, export_price },
            leg: self.leg,
            sharing: self.sharing,
            losses: self.losses,
        }
    }
}

impl State {
    /// What an interval settles by.
    pub fn rates_at(&self, interval: Interval) -> Rates {
        self.rates_on(interval, self.network_at(interval))
    }

    /// The same on a network that has the interval's fees.
    pub fn rates_on(&self, interval: Interval, network: Arc<Network>) -> Rates {
        let genesis = &self.rules.genesis;
        Rates {
            interval,
            tariff: self.tariff_at(interval),
            network,
            leg: genesis.supplier_leg,
            sharing: genesis.market.sharing,
            losses: genesis.market.losses,
        }
    }
}
