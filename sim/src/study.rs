//! One recording lived through three times: alone, with neighbours, and on the ledger; and what came of it.

use agent::Goal;
use energy::{Money, Price, midpoint_floor};
use ledger::TariffPoint;
use market::{Network, NodeIndex};

use crate::SimError;
use crate::dataset::Recording;
use crate::desk::Desk;
use crate::home::{Flow, Household, Running, Tally, WEAR};
use crate::options::{Forward, Options};
use crate::report::{Checks, Foresight, HomeReport, Made, OptimumWeek, Passive, Report, Way};
use crate::run::{Brains, Ran, run};
use crate::without::{Sum, Unplanned, alone, neighbours, prices};

/// Everything a run works on.
pub(crate) struct Scene {
    pub(crate) households: Vec<Household>,
    pub(crate) nodes: Vec<NodeIndex>,
    pub(crate) network: Network,
}

impl Scene {
    /// The homes that `options` ask for.
    pub(crate) fn new(recording: &Recording, options: &Options) -> Result<Self, SimError> {
        let (asked, available) = (options.intervals, recording.intervals);
        if asked == 0 || asked > available {
            return Err(SimError::Length { asked, available });
        }
        let available = recording.homes.len();
        let count = options.homes.unwrap_or(available);
        let homes = recording.homes.get(..count).filter(|homes| !homes.is_empty());
        let homes = homes.ok_or(SimError::Homes { asked: count, available })?;
        let network = Network::new(&recording.network)?;
        let household = |home| Household::new(home, recording.first, options.intervals, options.batteries);
        let households: Vec<_> = homes.iter().map(household).collect();
        let node = |home: &Household| {
            let node = &home.home.node;
            network.index_of(node).ok_or_else(|| SimError::UnknownNode(node.clone()))
        };
        let nodes = households.iter().map(node).collect::<Result<_, _>>()?;
        Ok(Self { households, nodes, network })
    }
}

/// Compares a run with what could have been.
pub(crate) type Judge<'j> =
    &'j dyn Fn(&Options, &Scene, &[TariffPoint], &Unplanned, &Ran<'_>) -> Result<Vec<OptimumWeek>, SimError>;

/// Lives through a recording with agents made by `brains`.
pub(crate) fn study(
    recording: &Recording,
    options: &Options,
    brains: Brains<'_>,
    judge: Judge<'_>,
) -> Result<Report, SimError> {
    let scene = Scene::new(recording, options)?;
    let Scene { households, nodes, network } = &scene;
    let prices = prices(options, recording.first);
    let unplanned = Unplanned::live(households, options.intervals);
    let alone = alone(network, nodes, &prices, &unplanned.flows)?;
    let with_neighbours = neighbours(network, households, nodes, &prices, &unplanned.flows)?;
    let ran = run(options, households, network, recording.first, brains)?;
    let last = prices.last().copied().unwrap_or(options.tariff.at(options.season, recording.first));
    let mut homes = Vec::with_capacity(households.len());
    for (number, (household, desk)) in households.iter().zip(&ran.desks).enumerate() {
        let sums = [
            Sum { amount: alone[number], ..Sum::default() },
            with_neighbours[number],
            Sum {
                amount: desk.account.amount,
                sold: desk.account.sold + desk.account.forward_sold,
                bought: desk.account.bought + desk.account.forward_bought,
            },
        ];
        let idle = (&unplanned.running[number], unplanned.flows[number].as_slice());
        let lived = [idle, idle, (&desk.running, desk.flows.as_slice())];
        let worth = Worth {
            stored: midpoint_floor(last.import_price, last.export_price),
            heat: last.import_price.add(network.fee_down_from_root(nodes[number]))?,
        };
        let mut ways = [Way::default(); 3];
        for ((way, sum), (running, flows)) in ways.iter_mut().zip(sums).zip(lived) {
            *way = way_of(household, running, flows, sum, worth)?;
        }
        homes.push(home_report(household, desk, ways));
    }
    let passive = passive(options, &scene, &prices, &ran)?;
    let optimum = judge(options, &scene, &prices, &unplanned, &ran)?;
    Ok(sum_up(recording, options, homes, &ran, passive, optimum))
}

/// An amount in the 64 bits of a balance; none of a run is larger, its deposits being smaller.
pub(crate) fn n(amount: Money) -> i64 {
    i64::try_from(amount.get()).unwrap_or(if amount.is_negative() { i64::MIN } else { i64::MAX })
}

/// What a kWh is worth that is left at the end.
#[derive(Debug, Clone, Copy)]
struct Worth {
    /// In a battery: what neighbours pay for it.
    stored: Price,
    /// Ahead in heat: what the home need not take from its supplier.
    heat: Price,
}

fn way_of(
    household: &Household,
    running: &Running,
    flows: &[Flow],
    sum: Sum,
    worth: Worth,
) -> Result<Way, SimError> {
    let Tally { discharged, curtailed, .. } = running.tally;
    let [began, ended] = [Running::new(household).standing, running.standing]
        .map(|standing| worth.stored.cost_of(standing.battery)?.add(worth.heat.cost_of(standing.heat)?));
    let cost = sum.amount.neg()?;
    let stored = ended?.sub(began?)?;
    let net = cost.add(WEAR.cost_of(energy::WattHours::new(discharged))?)?.sub(stored)?;
    Ok(Way {
        cost_n: n(cost),
        net_n: n(net),
        import_wh: flows.iter().map(|flow| flow.import).sum(),
        export_wh: flows.iter().map(|flow| flow.export).sum(),
        bought_wh: sum.bought,
        sold_wh: sum.sold,
        curtailed_wh: curtailed,
        stored_wh: running.standing.battery.get() + running.standing.heat.get(),
    })
}

fn home_report(household: &Household, desk: &Desk<'_>, [alone, neighbours, run]: [Way; 3]) -> HomeReport {
    let generation = household.generation();
    let kept = generation.saturating_sub(run.export_wh + run.curtailed_wh);
    let devices = &household.devices;
    let has = [
        (generation > 0, "sun"),
        (devices.battery.is_some(), "battery"),
        (devices.charger.is_some(), "vehicle"),
        (devices.heat.is_some(), "heat"),
    ];
    HomeReport {
        home: household.home.id.to_string(),
        node: household.home.node.to_string(),
        devices: has.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect(),
        goal: desk.goal.map(|goal| match goal {
            Goal::SaveMoney => "save-money",
            Goal::StayGreen => "stay-green",
            Goal::StayIndependent => "stay-independent",
        }),
        alone,
        neighbours,
        run,
        generation_wh: generation,
        self_consumption_permille: (kept * 1000).checked_div(generation).unwrap_or_default(),
        forward_sold_wh: desk.account.forward_sold,
        forward_bought_wh: desk.account.forward_bought,
        deadlines_met: desk.running.tally.deadlines_met,
        deadlines_missed: desk.running.tally.deadlines_missed,
    }
}

/// Homes without an agent, and what the same meters would have come to without forward positions.
fn passive(
    options: &Options,
    scene: &Scene,
    prices: &[TariffPoint],
    ran: &Ran<'_>,
) -> Result<Passive, SimError> {
    let passive = || ran.desks.iter().enumerate().filter(|(_, desk)| desk.agent.is_none());
    let paid = |amounts: Money| Ok::<_, SimError>(n(amounts.neg()?));
    let cost_n = paid(Money::sum(passive().map(|(_, desk)| desk.account.amount))?)?;
    let cost_without_forward_n = if options.forward == Forward::Off {
        cost_n
    } else {
        let flows: Vec<_> = ran.desks.iter().map(|desk| desk.flows.clone()).collect();
        let sums = neighbours(&scene.network, &scene.households, &scene.nodes, prices, &flows)?;
        paid(Money::sum(passive().map(|(number, _)| sums[number].amount))?)?
    };
    let worse = (cost_n - cost_without_forward_n) * 1000;
    let worse_permille = worse.checked_div(cost_without_forward_n.abs()).unwrap_or_default();
    Ok(Passive { homes: passive().count(), cost_n, cost_without_forward_n, worse_permille })
}

fn foresight(desks: &[Desk<'_>]) -> Option<Foresight> {
    let errors: Vec<_> = desks.iter().filter_map(|desk| desk.agent.as_ref()?.errors()).collect();
    let loads: Vec<_> = errors.iter().map(|home| home.load).collect();
    let suns: Vec<_> = errors.iter().filter_map(|home| home.sun).collect();
    let mean = |homes: &[[u64; 3]]| {
        [0, 1, 2].map(|ahead| homes.iter().map(|home| home[ahead]).sum::<u64>() / homes.len().max(1) as u64)
    };
    (!errors.is_empty()).then(|| Foresight {
        homes: loads.len(),
        load_w: mean(&loads),
        homes_with_sun: suns.len(),
        sun_w: mean(&suns),
    })
}

fn sum_up(
    recording: &Recording,
    options: &Options,
    homes: Vec<HomeReport>,
    ran: &Ran<'_>,
    passive: Passive,
    optimum: Vec<OptimumWeek>,
) -> Report {
    let total = |of: fn(&HomeReport) -> &Way| {
        homes.iter().fold(Way::default(), |mut sum, home| {
            sum.add(of(home));
            sum
        })
    };
    let [alone, neighbours, run] =
        [total(|home| &home.alone), total(|home| &home.neighbours), total(|home| &home.run)];
    let generation: u64 = homes.iter().map(|home| home.generation_wh).sum();
    let used_here = |way: &Way| {
        let left = (way.export_wh - way.sold_wh) + way.curtailed_wh;
        (generation.saturating_sub(left) * 1000).checked_div(generation).unwrap_or_default()
    };
    let worse = homes.iter().filter(|home| home.goal.is_some() && home.run.net_n > home.alone.net_n);
    let checks = Checks {
        intervals_worse_off: ran.desks.iter().map(|desk| desk.account.worse_off).sum(),
        homes_worse_off: worse.map(|home| home.home.clone()).collect(),
        books_agree: ran.books_agree,
        deadlines_met: homes.iter().map(|home| home.deadlines_met).sum(),
        deadlines_missed: homes.iter().map(|home| home.deadlines_missed).sum(),
        refused: ran.refused,
        reasons: ran.reasons.clone(),
        blocks: ran.blocks,
        orders: ran.desks.iter().map(|desk| desk.orders).sum(),
        hash: ran.hash.clone(),
    };
    Report {
        made: Made {
            homes: homes.len(),
            agents: homes.iter().filter(|home| home.goal.is_some()).count(),
            first: recording.first.to_string(),
            intervals: options.intervals,
            season: options.season.word(),
            tariff: options.tariff.word(),
            forward: options.forward.word(),
            batteries: options.batteries,
            seed: options.seed,
        },
        local_permille_neighbours: neighbours.local_permille(),
        local_permille_run: run.local_permille(),
        generation_wh: generation,
        used_here_permille_neighbours: used_here(&neighbours),
        used_here_permille_run: used_here(&run),
        forward_wh: homes.iter().map(|home| home.forward_sold_wh).sum(),
        foresight: foresight(&ran.desks),
        homes,
        alone,
        neighbours,
        run,
        passive,
        checks,
        optimum,
        wall_s: 0.0,
    }
}
