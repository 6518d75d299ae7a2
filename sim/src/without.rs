//! The same homes otherwise: without agents, alone with their supplier, or without forward trading. No ledger is needed for
//! that: what it would settle is what [`market::match_neighbours`] says.

use energy::{Interval, Money, WattHours};
use ledger::TariffPoint;
use market::{MatchHome, Network, NodeIndex, Tariff, match_neighbours};

use crate::SimError;
use crate::home::{Flow, Household, Running};
use crate::options::{Options, WEEK};
use crate::run::Mark;

/// How homes live without agents.
pub(crate) struct Unplanned {
    /// By home, by interval.
    pub(crate) flows: Vec<Vec<Flow>>,
    /// By home, at the end.
    pub(crate) running: Vec<Running>,
    /// At every week's beginning, and at the end.
    #[cfg_attr(not(feature = "optimum"), expect(dead_code, reason = "the optimum is computed between them"))]
    pub(crate) marks: Vec<Mark>,
}

impl Unplanned {
    /// Lives through `intervals`.
    pub(crate) fn live(households: &[Household], intervals: usize) -> Self {
        let mut running: Vec<_> = households.iter().map(Running::new).collect();
        let mut flows = vec![Vec::with_capacity(intervals); households.len()];
        let mut marks = Vec::new();
        for at in 0..=intervals {
            if at % WEEK == 0 || at == intervals {
                marks.push(Mark::of(running.iter()));
            }
            if at == intervals {
                break;
            }
            for ((household, running), flows) in households.iter().zip(&mut running).zip(&mut flows) {
                running.begin(household, at);
                let step = running.carry_on(household, at);
                flows.push(Flow { import: step.import.get(), export: step.export.get() });
            }
        }
        running
            .iter_mut()
            .zip(households)
            .for_each(|(running, household)| running.begin(household, intervals));
        Self { flows, running, marks }
    }
}

/// What a home comes to over a run: received (negative: paid), and from and to neighbours, Wh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Received.
    pub(crate) amount: Money,
    /// Sold to neighbours.
    pub(crate) sold: u64,
    /// Bought from neighbours.
    pub(crate) bought: u64,
}

/// The prices of every interval of a run.
pub(crate) fn prices(options: &Options, first: Interval) -> Vec<TariffPoint> {
    let interval = |at: usize| Interval::from_index(first.index() + at as u64, first.mtu());
    (0..options.intervals).map(|at| options.tariff.at(options.season, interval(at))).collect()
}

/// Every home alone with its supplier: export × (export price − F↑) − import × (import price + F↓).
pub(crate) fn alone(
    network: &Network,
    nodes: &[NodeIndex],
    prices: &[TariffPoint],
    flows: &[Vec<Flow>],
) -> Result<Vec<Money>, SimError> {
    let mut sums = Vec::with_capacity(flows.len());
    for (flows, node) in flows.iter().zip(nodes) {
        let (up, down) = (network.fee_up_to_root(*node), network.fee_down_from_root(*node));
        let mut sum = Money::ZERO;
        for (flow, price) in flows.iter().zip(prices) {
            let received = price.export_price.sub(up)?.cost_of(WattHours::new(flow.export))?;
            let paid = price.import_price.add(down)?.cost_of(WattHours::new(flow.import))?;
            sum = sum.add(received)?.sub(paid)?;
        }
        sums.push(sum);
    }
    Ok(sums)
}

/// Every home with its neighbours, nothing traded forward.
pub(crate) fn neighbours(
    network: &Network,
    homes: &[Household],
    nodes: &[NodeIndex],
    prices: &[TariffPoint],
    flows: &[Vec<Flow>],
) -> Result<Vec<Sum>, SimError> {
    let mut sums = vec![Sum::default(); homes.len()];
    let empty = |(household, node): (&Household, &NodeIndex)| MatchHome {
        id: household.home.id.clone(),
        node: *node,
        import: WattHours::ZERO,
        export: WattHours::ZERO,
        min_sell: None,
        max_buy: None,
        import_price: None,
        export_price: None,
        buy_cap: None,
    };
    let mut matched: Vec<_> = homes.iter().zip(nodes).map(empty).collect();
    for (at, price) in prices.iter().enumerate() {
        for (home, flows) in matched.iter_mut().zip(flows) {
            let flow = flows.get(at).copied().unwrap_or_default();
            (home.import, home.export) = (WattHours::new(flow.import), WattHours::new(flow.export));
        }
        let tariff = Tariff { import_price: price.import_price, export_price: price.export_price };
        let result = match_neighbours(network, &tariff, &matched)?;
        for (sum, home) in sums.iter_mut().zip(&result.homes) {
            sum.amount = sum.amount.add(home.amount()?)?;
            sum.sold += home.sold.get();
            sum.bought += home.bought.get();
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Recording, Season};
    use crate::study::Scene;

    /// Of all surplus of a season without batteries, what neighbours take, in thousandths.
    fn local_permille(season: Season) -> u64 {
        let recording = Recording::builtin(season).unwrap();
        let options = Options { batteries: false, ..Options::new(season, 2) };
        let scene = Scene::new(&recording, &options).unwrap();
        let lived = Unplanned::live(&scene.households, options.intervals);
        let prices = prices(&options, recording.first);
        let sums =
            neighbours(&scene.network, &scene.households, &scene.nodes, &prices, &lived.flows).unwrap();
        let sold: u64 = sums.iter().map(|sum| sum.sold).sum();
        let surplus: u64 = lived.flows.iter().flatten().map(|flow| flow.export).sum();
        assert_eq!(sold, sums.iter().map(|sum| sum.bought).sum::<u64>());
        sold * 1000 / surplus
    }

    #[test]
    fn without_batteries_two_fifths_of_summer_surplus_find_a_local_buyer() {
        // Measured for the street by other means beforehand: 39 %; 42 % on the second recorded grid.
        assert_eq!(local_permille(Season::Summer), 390);
        assert!(local_permille(Season::Winter) > 900, "in winter nearly all of it");
    }

    #[test]
    fn the_shadow_that_an_agent_keeps_stands_where_its_home_would_without_an_agent() {
        let recording = Recording::builtin(Season::Summer).unwrap();
        let options = Options { intervals: 288, ..Options::new(Season::Summer, 1) };
        let Scene { households, .. } = Scene::new(&recording, &options).unwrap();
        let local = agent::LocalTime { east_s: 0, change: None };
        let mut compared = 0;
        for household in households.iter().filter(|household| household.is_flexible()) {
            let mut guard = agent::Guard::new(recording.first.mtu(), household.devices);
            let (mut idle, mut real) = (Running::new(household), Running::new(household));
            for at in 0..options.intervals {
                idle.begin(household, at);
                real.begin(household, at);
                let interval =
                    Interval::from_index(recording.first.index() + at as u64, recording.first.mtu());
                guard.stood(interval, &real.standing, local.month(interval.start()));
                idle.carry_on(household, at);
                // Really the battery stands still, and the vehicle waits.
                let given = household.given(at);
                let certain = household.certain(at);
                let heat = given.heat;
                let net = given.load.get() + heat.get();
                let import = WattHours::new(net.saturating_sub(given.pv.get()));
                let export = WattHours::new(given.pv.get().saturating_sub(net));
                let still = agent::Step { heat, import, export, ..agent::Step::default() };
                real.standing = agent::advance(&household.devices, &real.standing, &still, certain.heat);
                let did = agent::Did { heat, ..agent::Did::default() };
                let seen = agent::Seen { import, export, pv: None, did, heat_need: heat };
                guard.lived(interval, &seen);
                assert_eq!(*guard.shadow(), idle.standing, "{} in {at}", household.home.id);
                compared += usize::from(real.standing != idle.standing);
            }
        }
        assert!(compared > 1_000, "{compared} intervals in which they stood otherwise");
    }

    #[test]
    fn matching_leaves_no_home_worse_off_in_any_interval() {
        let recording = Recording::builtin(Season::Winter).unwrap();
        let options = Options { intervals: 96, ..Options::new(Season::Winter, 1) };
        let Scene { households, nodes, network } = Scene::new(&recording, &options).unwrap();
        let flows = Unplanned::live(&households, options.intervals).flows;
        let prices = prices(&options, recording.first);
        for (at, price) in prices.iter().enumerate() {
            let one: Vec<Vec<Flow>> = flows.iter().map(|flows| vec![flows[at]]).collect();
            let price = std::slice::from_ref(price);
            let alone = alone(&network, &nodes, price, &one).unwrap();
            let matched = neighbours(&network, &households, &nodes, price, &one).unwrap();
            assert!(alone.iter().zip(&matched).all(|(alone, matched)| matched.amount >= *alone), "{at}");
        }
    }
}
