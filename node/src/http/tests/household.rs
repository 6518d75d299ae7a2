//! The household's agent beside a real order desk, a real ledger and a real API.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::{
    Alike, Battery, Charger, Control, Devices, Kind, Seen, Session, Settled, Standing, Totals, Wishes,
};
use energy::{ClockQuality, Interval, Mtu, Price, Timestamp, WattHours};
use ledger::{Body, Forward, Order};

use super::street::MarketNode;
use crate::clock::Clock;
use crate::desk::Which;
use crate::household::device::{Answer, Device, DeviceError, DeviceState};
use crate::household::plant::{Plant, SharedPlant, Simulated, lock};
use crate::household::{HouseholdHandle, HouseholdParts, HouseholdSetup, Past, View, start};
use crate::store::orders::OrderBody;
use crate::zone::Zone;

fn wh(energy: u64) -> WattHours {
    WattHours::new(energy)
}

fn devices() -> Devices {
    let battery = Battery {
        capacity: wh(10_000),
        charge: wh(1_000),
        discharge: wh(1_000),
        efficiency_permille: 950,
        reserve: wh(1_000),
        wear: Price::new(20_000),
    };
    Devices { battery: Some(battery), charger: Some(Charger { power: wh(2_000) }), ..Devices::default() }
}

/// A home whose car leaves six hours later.
fn plant(node: &MarketNode) -> SharedPlant {
    let session = Session { needed: wh(8_000), minimum: wh(0), deadline: node.interval(24) };
    let standing = Standing { battery: wh(1_000), session: Some(session), heat: wh(0) };
    Arc::new(Mutex::new(Plant::new(devices(), standing, Mtu::Min15)))
}

/// A week in which neighbours had energy to spare from an hour after this time of the day on.
fn past(node: &MarketNode) -> Past {
    let first = node.interval(0).index();
    let mut past = Past::default();
    for back in (1..=7 * 96).rev() {
        let interval = Interval::from_index(first - back, Mtu::Min15);
        let spare = (4..90).contains(&(96 - (back - 1) % 96 - 1));
        let totals = Totals {
            matched: wh(100),
            supplier_import: wh(if spare { 0 } else { 20_000 }),
            supplier_export: wh(if spare { 20_000 } else { 0 }),
            forward: None,
        };
        past.lived.push((interval, Seen { import: wh(50), ..Seen::default() }));
        let (bought, sold, totals) = (wh(0), wh(0), Some(totals));
        past.settled.push(Settled { interval, bought, sold, totals, delivered: None, paid: None });
    }
    past
}

async fn household(node: &MarketNode, plant: &SharedPlant) -> HouseholdHandle {
    household_with(node, plant, node.household_parts()).await
}

async fn household_with(node: &MarketNode, plant: &SharedPlant, parts: HouseholdParts) -> HouseholdHandle {
    let controlled = Simulated::all(plant).into_iter().map(|device| Box::new(device) as Box<dyn Device>);
    let setup = HouseholdSetup {
        devices: devices(),
        wishes: Wishes::default(),
        roof: None,
        alike: Some(Alike { taking: 1, giving: 1 }),
        zone: Zone::UTC,
        controlled: controlled.collect(),
        trial: None,
        past: past(node),
    };
    start(setup, parts).await.unwrap()
}

/// A clock that a time service may set or lose.
struct Set {
    now: Timestamp,
    quality: Arc<AtomicU8>,
}

impl Clock for Set {
    fn market(&self) -> Timestamp {
        self.now
    }

    fn speed(&self) -> u32 {
        1
    }

    fn quality(&self) -> ClockQuality {
        ClockQuality::from_code(self.quality.load(Ordering::SeqCst)).unwrap()
    }
}

async fn planned(household: &HouseholdHandle) -> Arc<View> {
    let mut view = household.view();
    let planned = view.wait_for(Option::is_some).await.unwrap().clone();
    planned.unwrap()
}

async fn signed(node: &MarketNode) -> Vec<String> {
    let kept = node.desk.entries(Which::Newest(100)).await.unwrap();
    kept.into_iter().map(|kept| kept.request).collect()
}

#[tokio::test]
async fn a_car_waits_for_the_neighbours_and_a_turn_made_again_after_a_kill_orders_nothing_twice() {
    let node = MarketNode::start(Forward::Posted).await;
    let plant = plant(&node);
    let first = household(&node, &plant).await;
    let view = planned(&first).await;
    assert_eq!(view.plan.steps[0].vehicle, wh(0), "nobody has energy to spare yet");
    let charged: u64 = view.plan.steps[..24].iter().map(|step| step.vehicle.get()).sum();
    assert_eq!(charged, 8_000, "it is charged when it leaves");
    assert!(view.plan.cost < view.plan.cost_unplanned && view.troubles.is_empty(), "{:?}", view.troubles);
    let requests = signed(&node).await;
    assert!(!requests.is_empty() && requests.iter().all(|request| request.ends_with("-buy")), "{requests:?}");
    assert!(view.verdicts.iter().all(|verdict| verdict.refused.is_none()));
    let last = view.verdicts[0].command.sequence;
    the_document_says_it(&view);

    first.kill().await;
    let second = household(&node, &plant).await;
    let again = planned(&second).await;
    assert_eq!(signed(&node).await, requests, "the same turn asks for the same orders");
    assert!(again.verdicts[0].command.sequence > last, "numbers go on");
    assert!(again.verdicts.iter().all(|verdict| verdict.refused.is_none()));

    let refused = node.block(2, vec![]).await;
    assert!(refused.is_empty(), "the ledger takes them: {refused:?}");
    second.stop().await;
    // Left to itself, the vehicle charges at once.
    let step = lock(&plant).live(sim::home::Given::default());
    assert_eq!(step.vehicle, wh(2_000));
}

/// What programs and the page are told of a turn.
fn the_document_says_it(view: &View) {
    let told = crate::http::household::document(view, "CNY");
    assert_eq!((told.goal.as_str(), told.trial, told.trading.on), ("save-money", false, true));
    assert_eq!((told.devices.battery_wh, told.devices.vehicle_needs_wh), (Some(1_000), Some(8_000)));
    assert_eq!((told.plan.len(), told.planned_from.0), (agent::HORIZON, view.interval.start()));
    assert_eq!(told.plan.iter().take(24).map(|step| step.vehicle_wh).sum::<u64>(), 8_000);
    assert!(told.expected_cost_n < told.expected_cost_unplanned_n && told.forecast.days == 7);
    assert!(told.commands.iter().any(|command| command.control == "charge the vehicle with 0 W"));
}

#[tokio::test]
async fn without_the_time_nothing_is_planned_and_devices_are_left_to_themselves() {
    let node = MarketNode::start(Forward::Posted).await;
    let plant = plant(&node);
    let parts = node.household_parts();
    let quality = Arc::new(AtomicU8::new(ClockQuality::Unsynced as u8));
    let clock = Arc::new(Set { now: parts.clock.market(), quality: Arc::clone(&quality) });
    let agent = household_with(&node, &plant, HouseholdParts { clock, ..parts }).await;
    let vehicle = || lock(&plant).clone().live(sim::home::Given::default()).vehicle;
    quality.store(ClockQuality::Synced as u8, Ordering::SeqCst);
    planned(&agent).await;
    assert_eq!(vehicle(), wh(0), "it waits for the neighbours");
    let orders = signed(&node).await;

    quality.store(ClockQuality::Unsynced as u8, Ordering::SeqCst);
    agent.view().wait_for(Option::is_none).await.unwrap();
    assert_eq!(vehicle(), wh(2_000), "left to itself it charges at once");
    quality.store(ClockQuality::Synced as u8, Ordering::SeqCst);
    planned(&agent).await;
    assert_eq!(vehicle(), wh(0));
    assert_eq!(signed(&node).await, orders, "the turn made again asks for the same orders");
    agent.stop().await;
}

#[tokio::test]
async fn a_node_whose_ledger_is_behind_plans_and_does_not_trade() {
    for (minutes, syncing) in [(2, true), (12, false)] {
        let node = MarketNode::start(Forward::Posted).await;
        node.live.set_role(crate::http::Role { delegate: true, delegates: 4, syncing });
        // The last block is of minute 1.
        node.at(minutes);
        let agent = household(&node, &plant(&node)).await;
        let view = planned(&agent).await;
        assert_eq!((view.plan.steps.len(), view.trading), (agent::HORIZON, false));
        assert!(view.troubles[0].contains("not up to date"), "{:?}", view.troubles);
        assert_eq!(signed(&node).await, Vec::<String>::new());
        agent.stop().await;
    }
}

#[tokio::test]
async fn an_interval_that_was_under_way_at_the_start_is_not_counted() {
    let node = MarketNode::start(Forward::Posted).await;
    let plant = plant(&node);
    let parts = node.household_parts();
    let agent = household_with(&node, &plant, parts).await;
    planned(&agent).await;
    for begins in [1, 2] {
        lock(&plant).live(sim::home::Given::default());
        let first = node.interval(begins);
        node.block(begins * 15, vec![]).await;
        agent.view().wait_for(|view| view.as_ref().is_some_and(|view| view.interval == first)).await.unwrap();
    }
    agent.stop().await;
    let counted: Vec<_> =
        node.household_parts().store.done().unwrap().into_iter().map(|(start, _)| start).collect();
    assert_eq!(counted, [node.interval(1).start()], "the second interval is the first whole one");
}

#[tokio::test]
async fn orders_of_people_are_neither_replaced_nor_taken_back_nor_joined() {
    // What the agent would order by itself.
    let other = MarketNode::start(Forward::Posted).await;
    let agent = household(&other, &plant(&other)).await;
    planned(&agent).await;
    let orders = other.desk.entries(Which::Newest(100)).await.unwrap();
    let wanted = orders.iter().find_map(|kept| match &kept.body {
        OrderBody::Order(order) => Some(order.clone()),
        OrderBody::Cancel(_) => None,
    });
    agent.stop().await;
    let order = Order { quantity: wh(100), ..wanted.unwrap() };
    let interval = order.interval;

    let node = MarketNode::start(Forward::Posted).await;
    node.desk.sign("mine".to_owned(), Body::Order(order)).await.unwrap();
    assert_eq!(node.block(2, vec![]).await, []);
    let agent = household(&node, &plant(&node)).await;
    let view = planned(&agent).await;
    assert!(view.open.iter().any(|open| open.interval == interval), "{:?}", view.open);
    let kept = node.desk.entries(Which::Newest(100)).await.unwrap();
    assert!(kept.len() > 1, "it orders for other intervals");
    for kept in kept.iter().filter(|kept| kept.request != "mine") {
        let OrderBody::Order(order) = &kept.body else { panic!("{kept:?}") };
        assert_ne!(order.interval, interval);
    }
    agent.stop().await;
}

#[tokio::test]
async fn devices_that_are_not_there_are_planned_for_and_nothing_is_traded() {
    let node = MarketNode::start(Forward::Posted).await;
    let plant = plant(&node);
    let trial =
        crate::household::Trial { plant, commanded: std::collections::BTreeSet::new(), vehicle: None };
    let setup = HouseholdSetup {
        devices: devices(),
        wishes: Wishes::default(),
        roof: None,
        alike: Some(Alike { taking: 1, giving: 1 }),
        zone: Zone::UTC,
        controlled: Vec::new(),
        trial: Some(trial),
        past: past(&node),
    };
    let household = start(setup, node.household_parts()).await.unwrap();
    let view = planned(&household).await;
    assert!(view.trial && !view.trading && view.plan.steps.len() == agent::HORIZON);
    assert!(signed(&node).await.is_empty() && view.verdicts.is_empty());
    tokio::time::timeout(Duration::from_secs(60), household.stop()).await.unwrap();
}

/// A battery whose line is cut.
struct Gone;

impl Gone {
    fn error(what: &'static str) -> DeviceError {
        DeviceError { device: "battery", what, why: "it cannot be reached".to_owned() }
    }
}

impl Device for Gone {
    fn kind(&self) -> Kind {
        Kind::Battery
    }

    fn rated_w(&self) -> u32 {
        4_000
    }

    fn state(&mut self) -> Answer<'_, DeviceState> {
        Box::pin(async { Err(Self::error("asked")) })
    }

    fn set(&mut self, _: Control) -> Answer<'_, ()> {
        Box::pin(async { Err(Self::error("told")) })
    }
}

#[tokio::test]
async fn a_plan_goes_on_without_a_device_that_does_not_answer() {
    let node = MarketNode::start(Forward::Posted).await;
    let plant = plant(&node);
    let there = Simulated::all(&plant).into_iter().filter(|device| device.kind() == Kind::Charger);
    let there = there.map(|device| Box::new(device) as Box<dyn Device>);
    let setup = HouseholdSetup {
        devices: devices(),
        wishes: Wishes::default(),
        roof: None,
        alike: Some(Alike { taking: 1, giving: 1 }),
        zone: Zone::UTC,
        controlled: there.chain([Box::new(Gone) as Box<dyn Device>]).collect(),
        trial: None,
        past: past(&node),
    };
    let household = start(setup, node.household_parts()).await.unwrap();
    let view = planned(&household).await;
    assert!(view.plan.steps.iter().all(|step| step.charge.is_zero() && step.discharge.is_zero()));
    assert!(view.plan.steps.iter().any(|step| !step.vehicle.is_zero()), "the car is planned for");
    assert!(view.trading && view.devices.battery.is_some());
    let kinds: Vec<Kind> = view.verdicts.iter().map(|verdict| verdict.command.control.kind()).collect();
    assert_eq!(kinds, [Kind::Charger], "what does not answer is told nothing new");
    let said = "the battery cannot be asked: it cannot be reached; the plan goes on without it";
    assert!(view.troubles.iter().any(|trouble| trouble == said), "{:?}", view.troubles);
    tokio::time::timeout(Duration::from_secs(60), household.stop()).await.unwrap();
}
