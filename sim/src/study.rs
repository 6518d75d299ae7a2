//! One recording lived through three times: alone, with neighbours, and on the ledger; and what came of it.

use agent::{Goal, Standing};
use energy::{Money, Price, WattHours, midpoint_floor};
use ledger::TariffPoint;
use market::{Network, NodeIndex};

use crate::SimError;
use crate::dataset::Recording;
use crate::desk::Desk;
use crate::home::{Flow, Household, Running, Tally, WEAR};
use crate::options::{Forward, Options, WEEK};
use crate::report::{Checks, Foresight, HomeReport, Made, OptimumWeek, Passive, Report, Way};
use crate::run::{Brains, Ran, run};
use crate::without::{Sum, Unplanned, alone, neighbours, prices};

/// Intervals of two days, as far as agents plan.
const TWO_DAYS: u64 = agent::HORIZON as u64;

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
        let worth = Worth::of(&prices, network.fee_down_from_root(nodes[number]), &unplanned.flows[number])?;
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

/// What energy is worth that is left at the end. It is the same whichever way the home lived.
#[derive(Debug, Clone, Copy, Default)]
struct Worth {
    /// What the home needs from outside in two days, Wh: as much as it took without an agent in two mean days of the last week.
    need: u64,
    /// What a kWh of that saves it: its supplier's mean price of the last week, fees included.
    saved: Price,
    /// What neighbours pay for a kWh beyond that: the middle of the supplier's mean prices.
    sold: Price,
}

impl Worth {
    fn of(prices: &[TariffPoint], fee_down: Price, unplanned: &[Flow]) -> Result<Self, SimError> {
        let week = prices.get(prices.len().saturating_sub(WEEK)..).unwrap_or(prices);
        let mean = |price: fn(&TariffPoint) -> Price| -> Price {
            let sum: i64 = week.iter().map(|point| price(point).get()).sum();
            Price::new(sum / i64::try_from(week.len().max(1)).unwrap_or(i64::MAX))
        };
        let (import, export) = (mean(|point| point.import_price), mean(|point| point.export_price));
        let flows = unplanned.get(unplanned.len().saturating_sub(WEEK)..).unwrap_or(unplanned);
        let taken: u64 = flows.iter().map(|flow| flow.import).sum();
        Ok(Self {
            need: taken * TWO_DAYS / (flows.len() as u64).max(1),
            saved: import.add(fee_down)?,
            sold: midpoint_floor(import, export),
        })
    }

    /// Of what a battery holds, less the wear of giving it.
    fn of_stored(&self, stored: WattHours) -> Result<Money, SimError> {
        let used = WattHours::new(stored.get().min(self.need));
        let given = stored.saturating_sub(used);
        Ok(self.saved.sub(WEAR)?.cost_of(used)?.add(self.sold.sub(WEAR)?.cost_of(given)?)?)
    }

    /// Of what devices hold.
    fn of_all(&self, standing: &Standing) -> Result<Money, SimError> {
        Ok(self.of_stored(standing.battery)?.add(self.saved.cost_of(standing.heat)?)?)
    }
}

fn way_of(
    household: &Household,
    running: &Running,
    flows: &[Flow],
    sum: Sum,
    worth: Worth,
) -> Result<Way, SimError> {
    let Tally { discharged, curtailed, .. } = running.tally;
    let began = worth.of_all(&Running::new(household).standing)?;
    let cost = sum.amount.neg()?;
    let stored = worth.of_all(&running.standing)?.sub(began)?;
    let net = cost.add(WEAR.cost_of(WattHours::new(discharged))?)?.sub(stored)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_in_a_battery_saves_what_its_home_takes_from_outside_and_the_rest_is_sold() {
        let point = |import, export| TariffPoint {
            import_price: Price::new(import),
            export_price: Price::new(export),
        };
        // What was longer ago than a week says nothing about the next days.
        let mut prices = vec![point(900_000, 0); 4];
        prices.extend([point(250_000, 80_000); WEEK]);
        let flow = |import| Flow { import, export: 0 };
        let mut flows = vec![flow(1_000_000); 4];
        flows.extend([flow(0), flow(20)].repeat(WEEK / 2));
        let worth = Worth::of(&prices, Price::new(50_000), &flows).unwrap();
        assert_eq!(worth.need, 10 * TWO_DAYS, "of two mean days");
        let of = |wh| worth.of_stored(WattHours::new(wh)).unwrap().get();
        assert_eq!(of(1_000), 270_000 * 1_000, "0.30 less 0.03 of wear");
        assert_eq!(of(2_920), 270_000 * 1_920 + 135_000 * 1_000, "0.165 less 0.03");
        let warm = Standing { heat: WattHours::new(100), ..Standing::default() };
        assert_eq!(worth.of_all(&warm).unwrap().get(), 300_000 * 100);
    }
}
