//! A home on its way into an interval's sharing: what its position leaves, what of it takes part, inside its means.

use energy::{Money, Price, WattHours};

use super::{Metered, SettleHome};
use crate::matching::Part;
use crate::network::RankedNode;
use crate::sharing::Fees;
use crate::terms::taking_part;
use crate::{MarketError, MatchHome, Sharing, Terms};

/// A home's energy after its position, and what of it takes part. Local energy costs network fees up to `around`.
pub(super) fn entrant<Id: Clone>(
    terms: &Terms<'_>,
    around: &RankedNode,
    home: &SettleHome<Id>,
    index: usize,
) -> Result<(MatchHome<Id>, Part), MarketError> {
    check_position(home, index)?;
    let means = home.free_balance.add(home.position.amount)?;
    if home.free_balance.is_negative() || means.is_negative() {
        return Err(MarketError::NegativeBalance { index });
    }
    let rest = home.metered.map_or(Ok(Metered::default()), |metered| home.position.rest(metered))?;
    let mut entrant = MatchHome {
        id: home.id.clone(),
        node: home.node,
        import: rest.import,
        export: rest.export,
        min_sell: home.min_sell,
        max_buy: home.max_buy,
        import_price: home.import_price,
        export_price: home.export_price,
        buy_cap: None,
    };
    let permille = home.participation_permille;
    let mut part =
        Part { export: taking_part(rest.export, permille)?, import: taking_part(rest.import, permille)? };
    let Some(price) = terms.local_price() else { return Ok((entrant, part)) };
    let fees = Fees::between(terms.network, home, around)?;
    // Selling may cost: over a long way the fees can exceed a low price.
    let costliest_sale = fees.up.sub(price)?.max(Price::ZERO).cost_of(part.export)?;
    let mut left = means;
    if costliest_sale <= means {
        left = means.sub(costliest_sale)?;
    } else if terms.sharing == Sharing::Neighbour {
        // A shorter way may still pay.
        entrant.min_sell = entrant.min_sell.max(Some(Price::ZERO));
    } else {
        part.export = WattHours::ZERO;
    }
    entrant.buy_cap = affordable(left, price.add(fees.down)?);
    Ok((entrant, part))
}

/// How much `means` pays for at `price`; `None` is any amount.
fn affordable(means: Money, price: Price) -> Option<WattHours> {
    if price <= Price::ZERO {
        return None;
    }
    let energy = means.get().checked_div(i128::from(price.get()))?;
    Some(WattHours::new(u64::try_from(energy).unwrap_or(u64::MAX)))
}

pub(super) fn check_position<Id>(home: &SettleHome<Id>, index: usize) -> Result<(), MarketError> {
    if !home.position.sold.is_zero() && !home.position.bought.is_zero() {
        return Err(MarketError::TwoSidedPosition { index });
    }
    Ok(())
}
