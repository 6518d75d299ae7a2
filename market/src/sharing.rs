//! Sharing by key, incentives and losses: what is divided among homes by rule and not by who is near.
//!
//! All of it is exact: floors, then the largest remainders, ties to the smaller id.

use energy::{Money, Price, QuantityError, WattHours};

use crate::matching::{Part, Street};
use crate::network::RankedNode;
use crate::pool::Met;
use crate::ration::{Need, by_weight, divide_money, fill_up, pro_rata};
use crate::terms::{by_shares, taking_part};
use crate::{
    Division, ENERGY_MAX, HomeMatch, Losses, MarketError, Matching, Metered, Network, SettleHome, Sharing,
    Terms, Unused, losses,
};

/// Shares one interval's metered energy by the rules.
pub(crate) fn share<Id: Ord>(
    terms: &Terms<'_>,
    street: &Street<'_, Id>,
    homes: &[SettleHome<Id>],
    parts: &[Part],
    around: &RankedNode,
) -> Result<Matching, MarketError> {
    let offered: Vec<u64> = parts.iter().map(|part| part.export.get()).collect();
    let total = sum(&offered);
    let tie = |place| street.place(place);
    let taken = match terms.sharing {
        Sharing::Neighbour => return street.nearest_first(Some(parts)),
        Sharing::StaticKey { unused, .. } => {
            let weights: Vec<u64> = homes.iter().map(|home| home.share_permyriad.into()).collect();
            by_agreed_key(total, &weights, &caps(street, parts), unused, tie)
        }
        Sharing::DynamicKey { .. } => {
            let consumed = parts.iter().map(|part| part.import.get());
            let need = |(weight, cap)| Need { weight, cap };
            fill_up(total, &consumed.zip(caps(street, parts)).map(need).collect::<Vec<_>>(), tie)
        }
        Sharing::Incentive { .. } => vec![0; parts.len()],
    };
    let mut given = vec![];
    pro_rata(sum(&taken), &offered, tie, &mut given);
    let price = terms.local_price().unwrap_or(Price::ZERO);
    let mut met = Met { parties: vec![], matched: vec![WattHours::ZERO; terms.network.len()] };
    for (home, (sold, bought)) in homes.iter().zip(given.into_iter().zip(&taken)) {
        let (sold, bought) = (WattHours::new(sold), WattHours::new(*bought));
        let fees = Fees::between(terms.network, home, around)?;
        let received = price.sub(fees.up)?.cost_of(sold)?;
        let local_amount = received.sub(price.add(fees.down)?.cost_of(bought)?)?;
        met.parties.push(HomeMatch { sold, bought, local_amount, ..HomeMatch::default() });
    }
    if let Some(matched) = met.matched.get_mut(around.index as usize) {
        *matched = WattHours::new(sum(&taken));
    }
    street.conclude(met)
}

/// Network fees of local energy between a home and the node where it is shared.
pub(crate) struct Fees {
    pub(crate) up: Price,
    pub(crate) down: Price,
}

impl Fees {
    pub(crate) fn between<Id>(
        network: &Network,
        home: &SettleHome<Id>,
        around: &RankedNode,
    ) -> Result<Self, QuantityError> {
        // A home that takes no part may stand outside; it trades nothing.
        let beyond = |fees: Price, above: i64| Ok(fees.sub(Price::new(above))?.max(Price::ZERO));
        Ok(Self {
            up: beyond(network.fee_up_to_root(home.node), around.fees_up)?,
            down: beyond(network.fee_down_from_root(home.node), around.fees_down)?,
        })
    }
}

/// The most each home may get: what it needs, inside its means.
fn caps<Id: Ord>(street: &Street<'_, Id>, parts: &[Part]) -> Vec<u64> {
    let cap = |(index, part): (usize, &Part)| {
        street.buy_cap(index).map_or(part.import, |cap| cap.min(part.import)).get()
    };
    parts.iter().enumerate().map(cap).collect()
}

/// Divides `total` by agreed shares. What they leave over of the whole is nobody's and never passed on.
fn by_agreed_key<Tie: Ord>(
    total: u64,
    weights: &[u64],
    caps: &[u64],
    unused: Unused,
    tie: impl Fn(usize) -> Tie,
) -> Vec<u64> {
    let amount = by_shares(total, sum(weights));
    let both = weights.iter().zip(caps);
    match unused {
        Unused::PassedOn => {
            let needs: Vec<Need> = both.map(|(weight, cap)| Need { weight: *weight, cap: *cap }).collect();
            fill_up(amount, &needs, tie)
        }
        Unused::Lost => {
            let mut shares = vec![];
            by_weight(amount, weights, tie, &mut shares);
            shares.iter().zip(caps).map(|(share, cap)| *share.min(cap)).collect()
        }
    }
}

/// What each home is due from outside for what the community's meters gave and took in the same interval, each with the part
/// that takes part. Forward positions play no part: the law looks at meters. Zero but for [`Sharing::Incentive`].
pub(crate) fn incentives<Id: Ord>(
    terms: &Terms<'_>,
    street: &Street<'_, Id>,
    homes: &[SettleHome<Id>],
) -> Result<Vec<Money>, MarketError> {
    let Sharing::Incentive { payment, division } = terms.sharing else {
        return Ok(vec![Money::ZERO; homes.len()]);
    };
    let of_each = |energy: fn(Metered) -> WattHours| {
        let part = |home: &SettleHome<Id>| {
            let metered = energy(home.metered.unwrap_or_default());
            taking_part(metered, home.participation_permille).map(WattHours::get)
        };
        homes.iter().map(part).collect::<Result<Vec<u64>, _>>()
    };
    let (gave, took) = (of_each(|metered| metered.export)?, of_each(|metered| metered.import)?);
    let all = payment.cost_of(WattHours::new(metered_total(&gave)?.min(metered_total(&took)?)))?;
    // Not below zero, like the payment.
    let all = u128::try_from(all.get()).unwrap_or(0);
    let (producers, consumers) = match division {
        Division::Producers => (all, 0),
        Division::Consumers => (0, all),
        Division::Halves => (all.div_ceil(2), all.checked_div(2).unwrap_or(0)),
    };
    let tie = |place| street.place(place);
    let halves = divide_money(producers, &gave, tie).into_iter().zip(divide_money(consumers, &took, tie));
    let money = |amount: u128| i128::try_from(amount).map(Money::new);
    halves
        .map(|(gave, took)| {
            money(gave.saturating_add(took))
                .map_err(|_| QuantityError { operation: "incentive of a home" }.into())
        })
        .collect()
}

/// Homes pay for losses up to so many percent of what their meters imported. Low-voltage networks and their transformers lose
/// less than a tenth of what they carry even at their worst; beyond it a broken root meter, a wrong register map or an
/// unmetered connection is likelier. That is recorded and an alarm, but nobody's bill.
pub const LOSSES_MAX_PERCENT: u64 = 10;

/// What each home receives for the network's losses (below zero: pays): pro rata to metered imports, at the community tariff's
/// import price. Zero where losses are only recorded, unknown, not above zero, or more than [`LOSSES_MAX_PERCENT`] of the imports.
pub(crate) fn loss_amounts<Id: Ord>(
    terms: &Terms<'_>,
    street: &Street<'_, Id>,
    homes: &[SettleHome<Id>],
    root: Option<Metered>,
) -> Result<Vec<Money>, MarketError> {
    let lost = match terms.losses {
        Losses::Recorded => None,
        Losses::Community => losses(root, homes.iter().map(|home| home.metered)),
    };
    let imports: Vec<u64> = homes.iter().map(|home| home.metered.unwrap_or_default().import.get()).collect();
    let most = metered_total(&imports)?.saturating_mul(LOSSES_MAX_PERCENT).div_euclid(100);
    let lost = lost.and_then(|lost| u64::try_from(lost).ok()).filter(|lost| *lost <= most).unwrap_or(0);
    let mut shares = vec![];
    by_weight(lost, &imports, |place| street.place(place), &mut shares);
    let cost = |share: u64| Ok(terms.tariff.import_price.cost_of(WattHours::new(share))?.neg()?);
    shares.into_iter().map(cost).collect()
}

/// The sum of what meters say, which positions may cover and matching has then not bounded.
fn metered_total(quantities: &[u64]) -> Result<u64, MarketError> {
    let mut total = 0u64;
    for (index, quantity) in quantities.iter().enumerate() {
        total = total
            .checked_add(*quantity)
            .filter(|total| *total <= ENERGY_MAX.get())
            .ok_or(MarketError::TooMuchEnergy { what: "homes", index })?;
    }
    Ok(total)
}

/// The sum of quantities that matching has bounded.
fn sum(quantities: &[u64]) -> u64 {
    quantities.iter().fold(0u64, |sum, quantity| sum.saturating_add(*quantity))
}
