//! The rules of the market as they stand for this home.

use api::{
    Edge, EdgeEnvelope, ForwardMode, IntervalTerms, MarketRules, OrderTerms, SCHEMA_VERSION, SettlementTerms,
    Time,
};
use energy::{HomeId, Interval, Price, midpoint_floor};
use ledger::{
    EnvelopePoint, Forward, Genesis, Ledger, Member, MoneyMode, OPEN_ORDERS_MAX, OrderWindow, ReadingSource,
};
use market::{
    Account, CHANGES_MAX, Division, ENTRIES_PER_HOUR, FREEZE_MS, GATE_LEAD_MS, Losses, NodeSpec, OPENS_MS,
    ORDER_MIN, Sharing, SupplierLeg, Unused,
};

use super::Present;
use crate::http::day::OutOfRange;
use crate::http::routes::ApiError;

/// The rules, and the intervals of the coming `hours`.
pub fn rules(present: &Present, hours: u32) -> Result<MarketRules, ApiError> {
    let (ledger, home) = (&present.ledger, &present.home);
    let member = ledger.member(home).ok_or(ApiError::Absent("this home is not on the ledger yet"))?;
    let genesis = ledger.genesis_terms();
    let first = present.first_open();
    let participation = member.participation_at(first);
    let next = intervals(first, hours).map(|interval| interval_terms(ledger, home, interval));
    Ok(MarketRules {
        schema_version: SCHEMA_VERSION,
        home: home.to_string(),
        node: member.admission.node.to_string(),
        currency: genesis.currency.clone(),
        market_time: Time(present.now),
        mtu_minutes: genesis.mtu.minutes(),
        forward: mode(genesis.forward),
        orders: order_terms(present, member),
        first_open: ledger.first_open().map(|first| Time(first.start())),
        settlement: settlement_terms(genesis),
        edges: edges(ledger, member, first),
        import_max_wh: member.admission.size.import.get(),
        export_max_wh: member.admission.size.export.get(),
        share_permyriad: participation.share_permyriad,
        participation_permille: participation.permille,
        balance_n: ledger.balance(&Account::Home(home.clone())).get(),
        reserved_n: ledger.reserved(home).get(),
        free_n: i64::try_from(ledger.free(home).get()).map_err(|_| OutOfRange)?,
        next: next.collect::<Option<_>>().ok_or(OutOfRange)?,
    })
}

/// The intervals that begin within `hours` from the start of `first`.
fn intervals(first: Interval, hours: u32) -> impl Iterator<Item = Interval> {
    let count = u64::from(hours) * 60 / u64::from(first.mtu().minutes());
    (0..count).map(move |ahead| Interval::from_index(first.index().saturating_add(ahead), first.mtu()))
}

/// One interval for the home; `None` if its prices leave their range.
pub fn interval_terms(ledger: &Ledger, home: &HomeId, interval: Interval) -> Option<IntervalTerms> {
    let (window, tariff) = (OrderWindow::of(interval), ledger.tariff_at(interval));
    let (low, high) = community_prices(ledger, home, interval)?;
    let carries = ledger.connection_limit(home, interval)?;
    Some(IntervalTerms {
        start: Time(interval.start()),
        freezes: Time(window.freezes),
        gate: Time(window.gate),
        import_price: tariff.import_price.get(),
        export_price: tariff.export_price.get(),
        local_price: midpoint_floor(tariff.import_price, tariff.export_price).get(),
        lowest: low.get(),
        highest: high.get(),
        import_max_wh: carries.import.get(),
        export_max_wh: carries.export.get(),
        capped: ledger.connection_cap(home, interval).is_some(),
    })
}

/// What the community's tariff leaves a home for a kWh it gives and costs it for one it takes, network fees included.
fn community_prices(ledger: &Ledger, home: &HomeId, interval: Interval) -> Option<(Price, Price)> {
    let tariff = ledger.tariff_at(interval);
    with_fees(ledger, home, interval, tariff.export_price, tariff.import_price)
}

/// What the home's own supplier leaves it and costs it, network fees included: by its own contract where it has one.
pub fn supplier_prices(ledger: &Ledger, home: &HomeId, interval: Interval) -> Option<(Price, Price)> {
    let (tariff, contract) = (ledger.tariff_at(interval), ledger.member(home)?.contract_at(interval));
    let export = contract.export_price.unwrap_or(tariff.export_price);
    let import = contract.import_price.unwrap_or(tariff.import_price);
    with_fees(ledger, home, interval, export, import)
}

fn with_fees(
    ledger: &Ledger,
    home: &HomeId,
    interval: Interval,
    export: Price,
    import: Price,
) -> Option<(Price, Price)> {
    let network = ledger.network_at(interval);
    let node = network.index_of(&ledger.member(home)?.admission.node)?;
    let low = export.sub(network.fee_up_to_root(node)).ok()?;
    Some((low, import.add(network.fee_down_from_root(node)).ok()?))
}

const fn mode(forward: Forward) -> ForwardMode {
    match forward {
        Forward::Off => ForwardMode::Off,
        Forward::Posted => ForwardMode::Posted,
        Forward::Auction => ForwardMode::Auction,
    }
}

/// What trading ahead may send over each edge in an interval; nothing once it is settled, for then the ledger has forgotten
/// what was published.
pub fn envelopes(ledger: &Ledger, interval: Interval) -> Vec<EdgeEnvelope> {
    if interval < ledger.next_to_settle() {
        return Vec::new();
    }
    let network = ledger.network_at(interval);
    let edges = network.specs().iter().filter(|spec| spec.parent.is_some());
    let envelope = |spec: &NodeSpec| {
        let EnvelopePoint { up, down } = ledger.envelope(&spec.id, interval)?;
        let (up_wh, down_wh) = (up.map(energy::WattHours::get), down.map(energy::WattHours::get));
        Some(EdgeEnvelope { node: spec.id.to_string(), up_wh, down_wh })
    };
    edges.filter_map(envelope).collect()
}

fn order_terms(present: &Present, member: &Member) -> OrderTerms {
    OrderTerms {
        opens_ms: OPENS_MS,
        gate_ms: GATE_LEAD_MS,
        freeze_ms: FREEZE_MS,
        min_wh: ORDER_MIN.get(),
        open_max: u32::try_from(OPEN_ORDERS_MAX).unwrap_or(u32::MAX),
        changes_max: CHANGES_MAX.into(),
        entries_per_hour: ENTRIES_PER_HOUR,
        entries_left: present.ledger.entries_left(&member.admission.keys.member, present.now),
        envelope_permille: present.ledger.genesis_terms().market.envelope_permille,
    }
}

fn settlement_terms(genesis: &Genesis) -> SettlementTerms {
    let leg = if genesis.supplier_leg == SupplierLeg::Ledger { "ledger" } else { "outside" };
    let (money, credit) = match genesis.market.money {
        MoneyMode::Prepaid => ("prepaid", 0),
        MoneyMode::Statement { credit } => ("statement", credit.get()),
    };
    let source = match genesis.market.reading_source {
        ReadingSource::Node => "node",
        ReadingSource::MeteringOperator => "metering-operator",
    };
    let (sharing, price) = sharing(genesis.market.sharing);
    let losses = match genesis.market.losses {
        Losses::Recorded => "recorded",
        Losses::Community => "community",
    };
    let (unused, division) = details(genesis.market.sharing);
    SettlementTerms {
        sharing: sharing.to_owned(),
        sharing_price: price.map(Price::get),
        unused: unused.map(str::to_owned),
        division: division.map(str::to_owned),
        due_after_ms: genesis.due_after_ms,
        supplier_leg: leg.to_owned(),
        money: money.to_owned(),
        credit_n: credit,
        reading_source: source.to_owned(),
        losses: losses.to_owned(),
        price_min: genesis.caps.price_min.get(),
        price_max: genesis.caps.price_max.get(),
    }
}

/// The word for how neighbours share, and the price that goes with it.
const fn sharing(sharing: Sharing) -> (&'static str, Option<Price>) {
    match sharing {
        Sharing::Neighbour => ("neighbour", None),
        Sharing::StaticKey { price, .. } => ("static-key", price),
        Sharing::DynamicKey { price } => ("dynamic-key", price),
        Sharing::Incentive { payment, .. } => ("incentive", Some(payment)),
    }
}

/// What becomes of unused shares, and who an incentive goes to.
const fn details(sharing: Sharing) -> (Option<&'static str>, Option<&'static str>) {
    match sharing {
        Sharing::StaticKey { unused: Unused::Lost, .. } => (Some("lost"), None),
        Sharing::StaticKey { unused: Unused::PassedOn, .. } => (Some("passed-on"), None),
        Sharing::Incentive { division: Division::Producers, .. } => (None, Some("producers")),
        Sharing::Incentive { division: Division::Consumers, .. } => (None, Some("consumers")),
        Sharing::Incentive { division: Division::Halves, .. } => (None, Some("halves")),
        Sharing::Neighbour | Sharing::DynamicKey { .. } => (None, None),
    }
}

/// The network in an interval, the root first, with the way of this home marked.
fn edges(ledger: &Ledger, member: &Member, interval: Interval) -> Vec<Edge> {
    let network = ledger.network_at(interval);
    let specs = network.specs();
    let mut own = Vec::new();
    let mut at = Some(&member.admission.node);
    // A tree has no cycle, and no way in it is longer than all its nodes.
    while let (Some(id), true) = (at, own.len() <= specs.len()) {
        own.push(id);
        at = specs.iter().find(|spec| spec.id == *id).and_then(|spec| spec.parent.as_ref());
    }
    let edge = |spec: &NodeSpec| Edge {
        node: spec.id.to_string(),
        parent: spec.parent.as_ref().map(ToString::to_string),
        fee_up: spec.fee_up.get(),
        fee_down: spec.fee_down.get(),
        up_wh: spec.up.map(energy::WattHours::get),
        down_wh: spec.down.map(energy::WattHours::get),
        own: spec.parent.is_some() && own.contains(&&spec.id),
    };
    let mut edges: Vec<Edge> = specs.iter().map(edge).collect();
    edges.sort_by_key(|edge| edge.parent.is_some());
    edges
}
