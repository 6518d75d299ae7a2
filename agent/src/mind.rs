//! The agent of one home as a whole: history → forecast → expected prices → plan → orders, anew each interval.
//!
//! It knows what it is told and no more: its own meter and devices, the tariff that is published, its community's totals, what
//! was settled for itself. The appliance and the simulation run the same one. Everything that it remembers follows from
//! what it was told, so it can be made anew from a record of that.

use energy::{Interval, Money, Mtu, QuantityError, Timestamp, WattHours};

use crate::{
    Account, Action, Ahead, Alike, Band, Battery, Connection, Crowd, Desk, Devices, Exchange, Forecast,
    Forecaster, Guard, HORIZON, Lead, LocalTime, OpenOffer, Paid, Plan, Prices, Quantity, Reach, Roof, Seen,
    Standing, Step, StopLoss, Terms, Totals, Traffic, Wishes, ahead, expect_prices, offers, plan_within,
    settled_prices, unplanned, without_position,
};

/// Devices leave room for so many times what load is usually off, below what the connection may take: errors are about
/// exponential, so one in twenty is larger.
const ROOM: u64 = 3;
/// So many whole days the real devices of a home with a battery are left to themselves before they follow plans: a battery that is
/// filled before anything is known of sun and load costs more than it brings. Vehicle and heat alone need no such day.
const LEARNING_DAYS: u32 = 1;
/// What flexible homes typically move into one interval, as a part of what their devices could: one in ten.
const TYPICAL: u64 = 10;

/// What seldom changes about a home and its community.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Premises {
    /// Length of an interval.
    pub mtu: Mtu,
    /// Its devices.
    pub devices: Devices,
    /// What its household wants.
    pub wishes: Wishes,
    /// Its solar panels.
    pub roof: Option<Roof>,
    /// Homes of the community that are thought to plan as it does.
    pub alike: Alike,
    /// A number of its own, see [`Crowd::taste`].
    pub taste: u64,
}

/// A settled interval, as the home sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settled {
    /// Which.
    pub interval: Interval,
    /// Bought from neighbours, forward or after metering.
    pub bought: WattHours,
    /// Sold to neighbours likewise.
    pub sold: WattHours,
    /// The community's totals, where its members see them.
    pub totals: Option<Totals>,
    /// The home's own part, if it had a forward position.
    pub delivered: Option<Delivered>,
    /// What it came to at the home, if its meter was read in time.
    pub paid: Option<Paid>,
}

/// What a home with a forward position came to in a settled interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delivered {
    /// Taken, at the meter.
    pub import: WattHours,
    /// Given, at the meter.
    pub export: WattHours,
    /// What the home received for it in all (negative: paid).
    pub received: Money,
    /// Prices of the interval.
    pub terms: Terms,
}

/// What the agent is told as an interval begins. `terms`, `connection` and `bands` begin with that interval.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Market time.
    pub now: Timestamp,
    /// The interval that begins.
    pub interval: Interval,
    /// Local time.
    pub local: LocalTime,
    /// How its devices stand.
    pub standing: &'a Standing,
    /// Prices.
    pub terms: &'a [Terms],
    /// Positions and caps.
    pub connection: &'a [Connection],
    /// The market's limits for orders, see [`Desk::bands`].
    pub bands: &'a [Band],
    /// What the market lets it do; `None`: no forward trading. Whether trading may go on is looked up by the agent itself:
    /// `trading` is the household's own switch.
    pub account: Option<&'a Account>,
    /// Its orders in the book.
    pub open: &'a [OpenOffer],
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What devices should do.
    pub plan: Plan,
    /// What the plan was made for.
    pub ahead: Vec<Ahead>,
    /// How much neighbours are expected to exchange with this home.
    pub reach: Vec<Reach>,
    /// Whole days of history that the forecast is made of.
    pub days: u32,
    /// What to sign.
    pub actions: Vec<Action>,
    /// Whether devices are to be left to themselves now, because the home is behind this month ([`Guard`]): the plan then says what
    /// they will probably do by themselves.
    pub rests: bool,
}

/// One home's agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Mind {
    premises: Premises,
    forecaster: Forecaster,
    traffic: Traffic,
    exchange: Exchange,
    crowd: Crowd,
    stop_loss: StopLoss,
    guard: Guard,
}

impl Mind {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(premises: Premises) -> Self {
        let Premises { mtu, devices, roof, alike, taste, .. } = premises;
        let powers = [
            devices.battery.map(|battery| battery.charge),
            devices.charger.map(|charger| charger.power),
            devices.heat.map(|heat| heat.power),
        ];
        let power = powers.into_iter().flatten().fold(0_u64, |sum, power| sum.saturating_add(power.get()));
        let energy = WattHours::new(power / TYPICAL);
        Self {
            forecaster: Forecaster::new(mtu, roof),
            traffic: Traffic::new(mtu),
            exchange: Exchange::new(mtu, &devices),
            crowd: Crowd { energy, alike: alike.taking, taste },
            stop_loss: StopLoss::default(),
            guard: Guard::new(mtu, devices),
            premises,
        }
    }

    /// What was said about the home.
    #[must_use]
    pub fn premises(&self) -> &Premises {
        &self.premises
    }

    /// Plans from now on with these of its devices only: a device that does not answer is no part of a plan.
    pub fn plan_with(&mut self, devices: Devices) {
        self.premises.devices = devices;
    }

    /// What it learned of load and sun, and how far it was off.
    #[must_use]
    pub fn forecaster(&self) -> &Forecaster {
        &self.forecaster
    }

    /// What forward positions brought this month.
    #[must_use]
    pub fn stop_loss(&self) -> &StopLoss {
        &self.stop_loss
    }

    /// How the home stands this month against the same home without an agent.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Is told how the real devices stood as an interval began. A home of which this is never said is not compared with itself
    /// without an agent, and its agent never rests.
    pub fn stood(&mut self, interval: Interval, standing: &Standing, local: &LocalTime) {
        self.guard.stood(interval, standing, local.month(interval.start()));
    }

    /// Takes in an interval that the home lived through. `false`: not taken, see [`crate::History::record`].
    pub fn lived(&mut self, interval: Interval, seen: &Seen, local: &LocalTime) -> bool {
        self.guard.lived(interval, seen);
        self.forecaster.learn(interval, seen, local)
    }

    /// A forecast made only to measure its error: what was once said about the time from `from` on is said again while history
    /// is taken in anew.
    pub fn recall(&mut self, from: Interval, local: &LocalTime) -> Forecast {
        self.forecaster.forecast(from, HORIZON, local)
    }

    /// Takes in a settled interval.
    ///
    /// # Errors
    /// [`QuantityError`] where what the interval came to is beyond the range of money: it is then not compared with what it would
    /// have been without an agent, and where a forward position is, trading stops for the month.
    pub fn settled(&mut self, settled: &Settled, local: &LocalTime) -> Result<(), QuantityError> {
        let Settled { interval, bought, sold, totals, delivered, paid } = settled;
        if let Some(totals) = totals {
            self.traffic.record(*interval, totals, local);
        }
        self.exchange.record(*interval, (*bought, *sold), totals.as_ref(), local);
        let compared = paid.map_or(Ok(false), |paid| self.guard.settled(*interval, &paid));
        if let Some(Delivered { import, export, received, terms }) = delivered {
            let without = without_position(*import, *export, &settled_prices(terms, totals.as_ref()))?;
            self.stop_loss.settle(local.month(interval.start()), *received, without)?;
        }
        compared.map(drop)
    }

    /// By how much the home's load was off in an interval that began an hour after it was foreseen; nothing before that was
    /// measured.
    fn doubt(&self) -> WattHours {
        let error = self.forecaster.errors().of(Quantity::Load, Lead::Hour);
        let an_hour = error.map_or(0, |error| error.mean_absolute);
        WattHours::new(an_hour.saturating_mul(self.premises.mtu.minutes().into()) / 60)
    }

    /// Plans anew, and says what to trade.
    pub fn decide(&mut self, moment: &Moment<'_>) -> Decision {
        let Moment { interval, local, standing, terms, connection, .. } = *moment;
        let forecast = self.forecaster.forecast(interval, HORIZON, &local);
        let mut prices = expect_prices(terms, &self.traffic, &self.crowd, interval, &local);
        // How much is within reach says more than a share does: within it all is served.
        for prices in &mut prices {
            (prices.import_permille, prices.export_permille) = (1_000, 1_000);
        }
        let doubt = self.doubt();
        let connection: Vec<_> = connection.iter().map(|connection| with_room(*connection, doubt)).collect();
        let ahead = ahead(&forecast, &prices, &connection);
        let Premises { devices, wishes, alike, .. } = &self.premises;
        let reach = self.exchange.reach(interval, HORIZON, *alike, &local);
        let mut plan = plan_within(devices, wishes, standing, interval, &ahead, &reach);
        let learns = self.guard.watches() && devices.battery.is_some() && forecast.days < LEARNING_DAYS;
        let resting = learns || self.guard.rests(local.month(interval.start()));
        // A position is firm: what was sold or bought ahead is delivered all the same.
        let rests = resting && ahead.first().is_none_or(|now| now.bought.is_zero() && now.sold.is_zero());
        if rests {
            plan = Plan { steps: unplanned(devices, standing, &ahead), cost: plan.cost_unplanned, ..plan };
        }
        if let (Some(step), Some(ahead), Some(battery)) =
            (plan.steps.first_mut().filter(|_| !rests), ahead.first(), &devices.battery)
        {
            *step = without_trifles(step, ahead, battery, standing.battery, doubt);
        }
        let actions = moment.account.map_or_else(Vec::new, |account| {
            let trading = account.trading && !resting && self.stop_loss.allows(local.month(moment.now));
            let account = Account { trading, ..*account };
            let margins = at_the_margin(&ahead, &plan, &reach);
            let desk = Desk {
                plan: &plan,
                ahead: &margins,
                devices,
                standing,
                wishes,
                account: &account,
                bands: moment.bands,
                open: moment.open,
            };
            offers(&desk, moment.now)
        });
        Decision { plan, ahead, reach, days: forecast.days, actions, rests }
    }
}

/// The connection with room for load that nobody foresees, so that devices do not fill a cap which a kettle then breaks: as many
/// times `doubt` as [`ROOM`] says, and half of the cap at the most.
fn with_room(connection: Connection, doubt: WattHours) -> Connection {
    let cap = connection.import_cap.get();
    let room = doubt.get().saturating_mul(ROOM).min(cap / 2);
    Connection { import_cap: WattHours::new(cap.saturating_sub(room)), ..connection }
}

/// The step without flows that are smaller than what nobody can foresee, `doubt`: there the battery follows the home's own meter.
///
/// A battery that buys or lets pass a few Wh is told a fixed amount, whatever load and sun turn out to be, and what they
/// are off then comes from the supplier or goes to it: some Wh of neighbours' energy at the risk of ten times as many at the
/// supplier's price. So nothing is bought on top of the home's own surplus where that is the lesser part of what the battery takes,
/// and no surplus of that size is given away beside a battery with room for it.
fn without_trifles(step: &Step, ahead: &Ahead, battery: &Battery, held: WattHours, doubt: WattHours) -> Step {
    if ahead.bought != ahead.sold || !step.curtailed.is_zero() || !step.discharge.is_zero() {
        return *step;
    }
    let Step { charge, import, export, .. } = *step;
    if !import.is_zero() && import <= charge && import <= doubt.max(WattHours::new(charge.get() / 2)) {
        return Step { charge: charge.saturating_sub(import), import: WattHours::ZERO, ..*step };
    }
    let room = battery.charge.min(battery.capacity.saturating_sub(held)).saturating_sub(charge);
    if export <= doubt.min(room) && import.is_zero() {
        let charge = WattHours::new(charge.get().saturating_add(export.get()));
        return Step { charge, export: WattHours::ZERO, ..*step };
    }
    *step
}

/// What a Wh more or less costs and brings where the plan leaves the home: the neighbours' price within their reach, else the
/// supplier's. Limits of orders follow from that.
fn at_the_margin(ahead: &[Ahead], plan: &Plan, reach: &[Reach]) -> Vec<Ahead> {
    // A Wh less into the battery, or more out of a home that gives nothing yet, is given on top; else the last one counts.
    let given = |step: &Step, reach: &Reach| {
        let on_top = !step.charge.is_zero() || step.export.is_zero();
        if on_top { step.export < reach.export } else { step.export <= reach.export }
    };
    let taken = |step: &Step, reach: &Reach| {
        if step.import.is_zero() { !reach.import.is_zero() } else { step.import <= reach.import }
    };
    let all_or_nothing = |within: bool| if within { 1_000 } else { 0 };
    let margin = |((ahead, step), reach): ((&Ahead, &Step), &Reach)| {
        let prices = Prices {
            import_permille: all_or_nothing(taken(step, reach)),
            export_permille: all_or_nothing(given(step, reach)),
            ..ahead.prices
        };
        Ahead { prices, ..*ahead }
    };
    ahead.iter().zip(&plan.steps).zip(reach).map(margin).collect()
}

#[cfg(test)]
mod tests {
    use energy::Price;
    use market::Tariff;

    use super::*;
    use crate::{Charger, Session};

    const UTC: LocalTime = LocalTime { east_s: 0, change: None };

    fn wh(energy: u64) -> WattHours {
        WattHours::new(energy)
    }

    fn at(index: u64) -> Interval {
        Interval::from_index(index, Mtu::Min15)
    }

    fn premises(alike: u32) -> Premises {
        let battery = Battery {
            capacity: wh(8_000),
            charge: wh(1_000),
            discharge: wh(1_000),
            efficiency_permille: 950,
            reserve: wh(800),
            wear: Price::new(20_000),
        };
        let devices = Devices {
            battery: Some(battery),
            charger: Some(Charger { power: wh(2_750) }),
            ..Devices::default()
        };
        let alike = Alike { taking: alike, giving: alike };
        Premises { mtu: Mtu::Min15, devices, wishes: Wishes::default(), roof: None, alike, taste: 1 }
    }

    fn terms() -> Terms {
        Terms {
            tariff: Tariff { import_price: Price::new(250_000), export_price: Price::new(80_000) },
            supplier_import: Price::new(300_000),
            supplier_export: Price::new(80_000),
            fee_down: Price::new(10_000),
            fee_up: Price::ZERO,
        }
    }

    fn settled(index: u64, totals: Option<Totals>, delivered: Option<Delivered>) -> Settled {
        Settled { interval: at(index), bought: wh(0), sold: wh(0), totals, delivered, paid: None }
    }

    /// A week in which neighbours have sun to spare from 9:00 to 15:00 and nothing else.
    fn after_a_sunny_week(alike: u32) -> Mind {
        let mut mind = Mind::new(premises(alike));
        for index in 0..7 * 96 {
            let sunny = (36..60).contains(&(index % 96));
            let totals = Totals {
                matched: wh(1_000),
                supplier_import: wh(if sunny { 0 } else { 9_000 }),
                supplier_export: wh(if sunny { 9_000 } else { 0 }),
                forward: None,
            };
            mind.settled(&settled(index, Some(totals), None), &UTC).unwrap();
            assert!(mind.lived(at(index), &Seen { import: wh(100), ..Seen::default() }, &UTC));
        }
        mind
    }

    fn decide(mind: &mut Mind, trading: bool) -> Decision {
        decide_at(mind, 28, trading)
    }

    fn decide_at(mind: &mut Mind, quarter: u64, trading: bool) -> Decision {
        let connection =
            Connection { bought: wh(0), sold: wh(0), import_cap: wh(5_000), export_cap: wh(5_000) };
        // A car comes at 7:00 and leaves at 17:00.
        let from = at(7 * 96 + quarter);
        let session = Session { needed: wh(8_000), minimum: wh(0), deadline: at(7 * 96 + 68) };
        let standing = Standing { battery: wh(800), session: Some(session), heat: wh(0) };
        let account =
            Account { free: Money::new(1 << 60), maximum: wh(5_000), entries_left: 64, trading: true };
        let moment = Moment {
            now: from.start(),
            interval: from,
            local: UTC,
            standing: &standing,
            terms: &[terms(); HORIZON],
            connection: &[connection; HORIZON],
            bands: &[],
            account: trading.then_some(&account),
            open: &[],
        };
        mind.decide(&moment)
    }

    #[test]
    fn a_car_waits_for_the_neighbours_sun_and_is_bought_for_ahead_when_its_gate_is_near() {
        let decision = decide(&mut after_a_sunny_week(1), true);
        let before: u64 = decision.plan.steps[..4].iter().map(|step| step.vehicle.get()).sum();
        let sunny: u64 = decision.plan.steps[4..36].iter().map(|step| step.vehicle.get()).sum();
        assert_eq!((before, sunny), (0, 8_000));
        assert_eq!(decision.days, 7);
        assert!(decision.plan.cost < decision.plan.cost_unplanned);
        let near = |trading| decide_at(&mut after_a_sunny_week(1), 35, trading).actions;
        assert!(near(true).iter().any(|action| matches!(action, Action::Place { .. })));
        assert!(near(false).is_empty(), "nothing is traded unasked");
    }

    #[test]
    fn after_a_month_of_losses_nothing_is_traded_and_the_plan_stays() {
        let mut mind = after_a_sunny_week(1);
        let received = Money::new(-400_000_000);
        let lost = Delivered { import: wh(1_000), export: wh(0), received, terms: terms() };
        let before = decide_at(&mut mind.clone(), 35, true);
        mind.settled(&settled(7 * 96, None, Some(lost)), &UTC).unwrap();
        assert!(mind.stop_loss().stopped);
        let after = decide_at(&mut mind, 35, true);
        assert!(!before.actions.is_empty() && after.actions.is_empty());
        assert_eq!(before.plan, after.plan);
    }

    #[test]
    fn a_home_that_is_behind_is_left_to_itself_and_trades_nothing() {
        let mut mind = after_a_sunny_week(1);
        for index in 7 * 96..11 * 96 {
            mind.stood(at(index), &Standing { battery: wh(800), ..Standing::default() }, &UTC);
            mind.lived(at(index), &Seen { import: wh(100), ..Seen::default() }, &UTC);
        }
        let before = decide_at(&mut mind.clone(), 35, true);
        assert!(!before.rests && !before.actions.is_empty());
        for index in 7 * 96..11 * 96 {
            // 0.001 more than its supplier would have charged.
            let paid = Paid { received: Money::new(-31_000_000), terms: terms() };
            mind.settled(&Settled { paid: Some(paid), ..settled(index, None, None) }, &UTC).unwrap();
        }
        let after = decide_at(&mut mind, 35, true);
        assert!(after.rests && after.actions.is_empty());
        assert_eq!(after.plan.cost, before.plan.cost_unplanned);
        assert!(after.plan.steps[0].vehicle > wh(0), "the vehicle charges as soon as it is there");
    }

    #[test]
    fn a_battery_of_which_nothing_is_known_yet_is_left_to_itself() {
        let mut mind = Mind::new(premises(1));
        assert!(!decide(&mut mind.clone(), true).rests, "nobody said that its devices are real");
        mind.stood(at(0), &Standing::default(), &UTC);
        assert!(decide(&mut mind, true).rests);
    }

    #[test]
    fn what_it_remembers_is_the_same_when_it_is_told_again() {
        assert_eq!(after_a_sunny_week(3), after_a_sunny_week(3));
        let [mut one, mut two] = [after_a_sunny_week(3), after_a_sunny_week(3)];
        assert_eq!(decide(&mut one, true), decide(&mut two, true));
    }

    #[test]
    fn devices_leave_room_below_a_cap_for_load_that_nobody_foresees() {
        let mut mind = after_a_sunny_week(1);
        assert_eq!(mind.doubt(), wh(0), "nothing was measured yet");
        for index in 7 * 96..9 * 96 {
            mind.recall(at(index), &UTC);
            let import = wh(if index % 3 == 0 { 400 } else { 100 });
            assert!(mind.lived(at(index), &Seen { import, ..Seen::default() }, &UTC));
        }
        let doubt = mind.doubt().get();
        assert!((60..300).contains(&doubt), "{doubt}");
        let capped = |cap: u64| {
            let all = Connection { bought: wh(0), sold: wh(0), import_cap: wh(cap), export_cap: wh(cap) };
            with_room(all, mind.doubt())
        };
        assert_eq!(capped(2_000).import_cap, wh(2_000 - 3 * doubt));
        assert_eq!(capped(200).import_cap, wh(100), "half of it stays for devices");
        assert_eq!(capped(2_000).export_cap, wh(2_000), "sun is given up as it comes");
    }

    fn ahead_of(bought: u64) -> Ahead {
        let none = Price::ZERO;
        let prices = Prices {
            supplier_import: none,
            supplier_export: none,
            local_import: none,
            local_export: none,
            import_permille: 0,
            export_permille: 0,
        };
        let (import_cap, export_cap) = (wh(5_000), wh(5_000));
        let (load, pv, heat, bought, sold) = (wh(0), wh(0), wh(0), wh(bought), wh(0));
        Ahead { load, pv, heat, prices, bought, sold, import_cap, export_cap }
    }

    /// Charge, import and export of a step of which nobody can foresee 50 Wh.
    fn without_trifles_of(step: Step, ahead: &Ahead, held: u64) -> [u64; 3] {
        let battery = premises(1).devices.battery.unwrap();
        let Step { charge, import, export, discharge, .. } =
            without_trifles(&step, ahead, &battery, wh(held), wh(50));
        assert_eq!(discharge, step.discharge);
        [charge, import, export].map(WattHours::get)
    }

    #[test]
    fn a_battery_buys_nothing_on_top_of_its_own_sun_for_a_few_watt_hours_of_the_neighbours() {
        let charges = |charge, import| Step { charge: wh(charge), import: wh(import), ..Step::default() };
        let of = |charge, import| without_trifles_of(charges(charge, import), &ahead_of(0), 4_000);
        assert_eq!(of(277, 32), [245, 0, 0], "245 of its own sun");
        assert_eq!(of(300, 150), [150, 0, 0], "the lesser part");
        assert_eq!(of(300, 200), [300, 200, 0], "a purchase worth making");
        assert_eq!(of(100, 400), [100, 400, 0], "all of it is bought, beside a load that is served");
        assert_eq!(of(60, 45), [15, 0, 0], "less than the load may be off");
        let bought = without_trifles_of(charges(300, 100), &ahead_of(100), 4_000);
        assert_eq!(bought, [300, 100, 0], "what was bought ahead is taken");
        let waits = Step { import: wh(30), ..Step::default() };
        assert_eq!(without_trifles_of(waits, &ahead_of(0), 4_000), [0, 30, 0], "kept for a dearer time");
    }

    #[test]
    fn no_trifle_of_sun_is_given_away_beside_a_battery_with_room() {
        let gives = |export| Step { export: wh(export), ..Step::default() };
        let of = |step, held| without_trifles_of(step, &ahead_of(0), held);
        assert_eq!(of(gives(1), 4_000), [1, 0, 0]);
        assert_eq!(of(gives(51), 4_000), [0, 0, 51]);
        assert_eq!(of(gives(40), 7_980), [0, 0, 40], "it is full");
        let sells = Step { discharge: wh(100), ..gives(40) };
        assert_eq!(of(sells, 4_000), [0, 0, 40], "a sale is a sale");
        let curtails = Step { curtailed: wh(5), ..gives(40) };
        assert_eq!(of(curtails, 4_000), [0, 0, 40]);
    }

    #[test]
    fn orders_are_priced_where_the_plan_leaves_the_home_within_the_neighbours_reach_or_beyond() {
        let prices = Prices {
            supplier_import: Price::new(300_000),
            supplier_export: Price::new(80_000),
            local_import: Price::new(175_000),
            local_export: Price::new(165_000),
            import_permille: 1_000,
            export_permille: 1_000,
        };
        let ahead = Ahead {
            load: wh(0),
            pv: wh(0),
            heat: wh(0),
            prices,
            bought: wh(0),
            sold: wh(0),
            import_cap: wh(5_000),
            export_cap: wh(5_000),
        };
        let reach = Reach { import: wh(500), export: wh(500) };
        let shares = |step: Step, reach: Reach| {
            let plan =
                Plan { from: at(0), steps: vec![step], cost: Money::ZERO, cost_unplanned: Money::ZERO };
            let prices = at_the_margin(&[ahead], &plan, &[reach])[0].prices;
            (prices.import_permille, prices.export_permille)
        };
        let sells = Step { discharge: wh(500), export: wh(500), ..Step::default() };
        assert_eq!(shares(sells, reach).1, 1_000, "the last Wh sold is a neighbour's");
        let stores = Step { charge: wh(900), export: wh(500), ..Step::default() };
        assert_eq!(shares(stores, reach).1, 0, "neighbours have enough: a Wh less stored is the supplier's");
        assert_eq!(shares(Step { export: wh(400), ..stores }, reach).1, 1_000);
        assert_eq!(shares(Step { import: wh(501), ..Step::default() }, reach).0, 0);
        assert_eq!(shares(Step { import: wh(500), ..Step::default() }, reach).0, 1_000);
        let none = Reach { import: wh(0), export: wh(0) };
        assert_eq!(shares(Step::default(), none), (0, 0));
    }
}
