//! Random histories of random streets, judged by tallies that know nothing of the ledger's own.

use std::collections::{BTreeMap, BTreeSet};

use energy::{Balance, HomeId, Interval, Money, Mtu, NodeId, Price, Quality, WattHours};
use ledger::{
    BlockError, Body, ConnectionSize, EntryId, EnvelopePoint, Forward, GateOutcome, Genesis, Hash32,
    HomeOutcome, Ledger, MeterExchange, Order, OrderOutcome, Outcome, OutcomeKind, OwnContract,
    StandingLimits, VerifiedEntry, sum_by_account,
};
use market::{Account, Side, SupplierLeg};

use crate::fixture::*;

/// Pseudo-random numbers from a seed: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn price(&mut self) -> Price {
        Price::new(i64::try_from(self.roll(350_000)).unwrap() - 20_000)
    }

    /// A limit of an edge, often none.
    fn limit(&mut self) -> Option<WattHours> {
        (!self.one_in(3)).then(|| wh(self.roll(1_000)))
    }

    /// A connection's size.
    fn connection(&mut self) -> ConnectionSize {
        ConnectionSize { import: wh(300 + self.roll(2_500)), export: wh(300 + self.roll(2_500)) }
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.roll(chances) == 0
    }
}

/// What the test itself knows: what each home's accepted registers grew by, and to which interval they were read; and of
/// forward trading what [`Trades`] has.
#[derive(Default)]
struct Tally {
    read: BTreeMap<HomeId, (u64, u64)>,
    last: BTreeMap<HomeId, (u64, u64, u64)>,
    carried: BTreeMap<HomeId, (u64, u64)>,
    intervals: BTreeMap<HomeId, u64>,
    exchanges: usize,
    trades: Trades,
}

/// Forward trading as the entries and outcomes tell it.
#[derive(Default)]
struct Trades {
    /// Taken and not yet at its gate.
    open: BTreeMap<EntryId, Order>,
    /// By interval and home: sold, bought, received.
    positions: BTreeMap<(Interval, HomeId), (u64, u64, i128)>,
    envelopes: BTreeMap<(Interval, NodeId), EnvelopePoint>,
    caps: BTreeMap<(Interval, HomeId), ConnectionSize>,
    /// How often what happened.
    results: BTreeMap<&'static str, usize>,
    breaches: usize,
    /// Gates at which an edge carried all it may, and homes that traded all their connection may.
    tight: usize,
}

impl Trades {
    fn take_entry(&mut self, entry: &VerifiedEntry) {
        match &entry.entry().body {
            Body::Order(order) => {
                if let Some(replaced) = order.replaces {
                    assert!(self.open.remove(&replaced).is_some(), "only an open order is replaced");
                }
                self.open.insert(entry.id(), order.clone());
            }
            Body::Cancel { order, .. } => assert!(self.open.remove(order).is_some()),
            Body::Envelope { node, from, points } => {
                let intervals = std::iter::successors(Some(*from), |interval| Some(interval.next()));
                let rows = intervals.zip(points).map(|(interval, point)| ((interval, node.clone()), *point));
                self.envelopes.extend(rows);
            }
            Body::ConnectionCap { home, from, points } => {
                let intervals = std::iter::successors(Some(*from), |interval| Some(interval.next()));
                let rows = intervals.zip(points).map(|(interval, point)| ((interval, home.clone()), *point));
                self.caps.extend(rows);
            }
            _ => {}
        }
    }

    fn take_result(&mut self, of: &OrderOutcome) {
        let order = self.open.remove(&of.order).expect("an order has one result");
        assert_eq!((&of.home, of.interval, of.side), (&order.home, order.interval, order.side));
        assert_eq!((of.limit, of.quantity), (order.price, order.quantity));
        assert!(of.filled <= of.quantity && (!of.void || of.filled.is_zero()));
        let value = of.limit.cost_of(of.filled).unwrap().get();
        match of.side {
            Side::Sell => assert!(of.amount.get() >= value, "a seller gets its limit at least"),
            Side::Buy => assert!(-of.amount.get() <= value, "a buyer pays its limit at most"),
        }
        *self.results.entry(of.result().word()).or_default() += 1;
        if of.filled.is_zero() {
            return;
        }
        let position = self.positions.entry((of.interval, of.home.clone())).or_default();
        match of.side {
            Side::Sell => position.0 += of.filled.get(),
            Side::Buy => position.1 += of.filled.get(),
        }
        position.2 += of.amount.get();
    }

    /// Positions sum to the fees, no edge carries more than its envelope, no home trades more than its connection carries.
    fn check_gate(&mut self, genesis: &Genesis, of: &GateOutcome) {
        let positions: Vec<_> =
            self.positions.iter().filter(|((interval, _), _)| *interval == of.interval).collect();
        let sum: i128 = positions.iter().map(|(_, position)| position.2).sum();
        assert_eq!(sum + of.fees.get() + of.rent.get(), 0);
        assert!(of.fees >= Money::ZERO && of.rent >= Money::ZERO);
        let sold: u64 = positions.iter().map(|(_, position)| position.0).sum();
        let bought: u64 = positions.iter().map(|(_, position)| position.1).sum();
        assert_eq!((sold, bought), (of.volume.get(), of.volume.get()));
        let mut flows: BTreeMap<&NodeId, i64> = BTreeMap::new();
        for ((_, home), (sold, bought, _)) in &positions {
            assert!(*sold == 0 || *bought == 0, "one side in one interval");
            let admission = &genesis.members.iter().find(|of| of.admission.home == *home).unwrap().admission;
            let cap = self.caps.get(&(of.interval, home.clone()));
            let cap = cap.copied().unwrap_or_default();
            let (give, take) = (admission.size.export.min(cap.export), admission.size.import.min(cap.import));
            assert!(wh(*sold) <= give && wh(*bought) <= take, "{home} beyond its connection");
            self.tight += usize::from(wh(*sold) == give || wh(*bought) == take);
            let net = i64::try_from(*sold).unwrap() - i64::try_from(*bought).unwrap();
            let mut node = genesis.network.iter().find(|spec| spec.id == admission.node);
            while let Some(spec) = node {
                *flows.entry(&spec.id).or_default() += net;
                node = genesis.network.iter().find(|of| spec.parent.as_ref() == Some(&of.id));
            }
        }
        for spec in genesis.network.iter().filter(|spec| spec.parent.is_some()) {
            let share = |limit: Option<WattHours>| {
                limit.map(|limit| wh(limit.get() * u64::from(genesis.market.envelope_permille) / 1000))
            };
            let usual = EnvelopePoint { up: share(spec.up), down: share(spec.down) };
            let may = self.envelopes.get(&(of.interval, spec.id.clone())).copied().unwrap_or(usual);
            let flow = flows.get(&spec.id).copied().unwrap_or_default();
            let inside = |limit: Option<WattHours>, flow: i64| {
                limit.is_none_or(|limit| flow <= i64::try_from(limit.get()).unwrap())
            };
            assert!(inside(may.up, flow) && inside(may.down, -flow), "{} beyond {may:?}: {flow}", spec.id);
            self.tight +=
                usize::from(flow != 0 && (!inside(may.up, flow + 1) || !inside(may.down, 1 - flow)));
        }
    }

    /// What settles is what was traded, once; and every breach of a cap is said, and nothing else.
    fn take_settled(&mut self, of: &HomeOutcome, remembered: bool) -> Option<(HomeId, Interval)> {
        let key = (of.interval, of.home.clone());
        if of.kind == OutcomeKind::Settled {
            let (sold, bought, amount) = self.positions.remove(&key).unwrap_or_default();
            let position = market::Position { sold: wh(sold), bought: wh(bought), amount: nano(amount) };
            assert_eq!(of.position, position, "{} in {}", of.home, of.interval);
        }
        let (cap, metered) = (self.caps.get(&key).filter(|_| remembered)?, of.metered?);
        let over = metered.import > cap.import || metered.export > cap.export;
        (over && of.quality != Some(Quality::Gap)).then(|| (of.home.clone(), of.interval))
    }
}

impl Tally {
    fn take(&mut self, entries: &[VerifiedEntry]) {
        for entry in entries {
            self.trades.take_entry(entry);
            match &entry.entry().body {
                Body::Reading { home: Some(home), reading } => self.take_reading(home, reading),
                Body::MeterRegistration { home: Some(home), exchange, .. } => {
                    self.take_exchange(home, &exchange.unwrap());
                }
                _ => {}
            }
        }
    }

    fn take_reading(&mut self, home: &HomeId, reading: &energy::Reading) {
        let now = (reading.interval.index(), reading.import_register.get(), reading.export_register.get());
        if let Some(before) = self.last.insert(home.clone(), now) {
            let carried = self.carried.remove(home).unwrap_or_default();
            let read = self.read.entry(home.clone()).or_default();
            read.0 += now.1 - before.1 + carried.0;
            read.1 += now.2 - before.2 + carried.1;
            *self.intervals.entry(home.clone()).or_default() += now.0 - before.0;
        }
    }

    /// The old meter's rest comes with the next reading, which counts from where the new meter began.
    fn take_exchange(&mut self, home: &HomeId, exchange: &MeterExchange) {
        let last = self.last.get_mut(home).expect("only a meter that was read is exchanged");
        let carried = self.carried.entry(home.clone()).or_default();
        carried.0 += exchange.closing.import.get() - last.1;
        carried.1 += exchange.closing.export.get() - last.2;
        (last.1, last.2) = (exchange.opening.import.get(), exchange.opening.export.get());
        self.exchanges += 1;
    }
}

struct History {
    street: Fixture,
    dice: Dice,
    homes: u8,
    offset: i64,
    tally: Tally,
    refused: usize,
    /// Index of the first interval not settled after the last block.
    settled: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let homes = u8::try_from(3 + dice.roll(6)).unwrap();
        let mtu = [Mtu::Min5, Mtu::Min15, Mtu::Min30, Mtu::Min60][usize::try_from(dice.roll(4)).unwrap()];
        let forward = [Forward::Off, Forward::Posted, Forward::Auction, Forward::Posted, Forward::Auction];
        let forward = forward[usize::try_from(dice.roll(5)).unwrap()];
        let (outside, credit) = (dice.one_in(4), dice.roll(2_000_000_000));
        let street = Fixture::with(homes, |genesis| {
            genesis.mtu = mtu;
            genesis.forward = forward;
            genesis.market.envelope_permille = u32::try_from(dice.roll(1_001)).unwrap();
            for node in &mut genesis.network {
                (node.up, node.down) = (dice.limit(), dice.limit());
            }
            genesis.supplier_leg = if outside { SupplierLeg::Outside } else { SupplierLeg::Ledger };
            genesis.supplier_credit = Balance::new(i64::try_from(credit).unwrap());
            genesis.caps.price_min = Price::new(-100_000);
            for member in &mut genesis.members {
                let money = if dice.one_in(3) { dice.roll(100_000_000) } else { dice.roll(10_000_000_000) };
                member.deposit = Balance::new(i64::try_from(money).unwrap());
                member.admission.size = dice.connection();
            }
        });
        Self { street, dice, homes, offset: 0, tally: Tally::default(), refused: 0, settled: 0 }
    }

    fn someone(&mut self) -> u8 {
        1 + u8::try_from(self.dice.roll(u64::from(self.homes))).unwrap()
    }

    /// Each home reads its meter, forgets to (a gap; a lump later), or is sent on only later.
    fn readings(&mut self, waiting: &mut Vec<VerifiedEntry>) -> Vec<VerifiedEntry> {
        let mut now = Vec::new();
        for number in 0..=self.homes {
            if self.dice.one_in(5) {
                continue;
            }
            let (import, export) = (self.dice.roll(3_000), self.dice.roll(3_000));
            let (import, export) = if self.dice.one_in(4) {
                (import, export)
            } else if number % 2 == 0 {
                (0, export)
            } else {
                (import, 0)
            };
            if self.offset > 3 && self.dice.one_in(12) {
                now.push(self.exchange(number));
            }
            let entry = self.street.read(number, self.offset, import, export);
            if self.dice.one_in(6) { waiting.push(entry) } else { now.push(entry) }
        }
        if self.dice.one_in(3) {
            now.splice(0..0, waiting.drain(..));
        }
        now
    }

    /// A meter counts on, is taken off, and another one takes its place.
    fn exchange(&mut self, number: u8) -> VerifiedEntry {
        let (import, export) = (self.dice.roll(700), self.dice.roll(700));
        self.street.count(number, import, export);
        let epoch = self.street.epoch(number) + 1;
        self.street.register_exchange(number, epoch, self.dice.roll(1 << 40), self.dice.roll(1 << 40))
    }

    fn others(&mut self) -> Vec<VerifiedEntry> {
        let mut entries = Vec::new();
        while !self.dice.one_in(3) {
            let entry = self.other();
            entries.push(entry);
        }
        entries
    }

    fn other(&mut self) -> VerifiedEntry {
        let number = self.someone();
        let member = (Use::Member, number);
        let home = home(number);
        let (first, second) = (self.dice.price(), self.dice.price());
        let amount = Balance::new(i64::try_from(self.dice.roll(3_000_000_000)).unwrap());
        let reference = String::new();
        let ahead = i64::try_from(self.dice.roll(8)).unwrap();
        let (body, signer, others): (Body, _, Vec<_>) = match self.dice.roll(26) {
            0 => {
                let limits = StandingLimits { min_sell: Some(first), max_buy: Some(second) };
                (Body::StandingLimits { home, limits }, member, vec![])
            }
            1 => {
                let contract = OwnContract { import_price: Some(first), export_price: Some(second) };
                (Body::OwnContract { home, contract }, member, vec![OPERATOR])
            }
            2 => {
                let from = self.street.interval(self.offset + ahead);
                let points = vec![tariff(first.get(), second.get()), tariff(second.get(), first.get())];
                (Body::TariffSeries { from, points }, OPERATOR, vec![AUDITOR])
            }
            3 => (Body::Deposit { home: Some(home), amount, reference }, TREASURER, vec![]),
            4 => (Body::Withdrawal { home: Some(home), amount, reference }, TREASURER, vec![member]),
            5 => {
                let delta = |dice: &mut Dice| i64::try_from(dice.roll(2_000)).unwrap() - 1_000;
                let (import_delta, export_delta) = (delta(&mut self.dice), delta(&mut self.dice));
                let interval = self.street.interval(self.offset - ahead);
                (Body::Correction { home, interval, import_delta, export_delta }, METERING, vec![OPERATOR])
            }
            6 | 7 => {
                let from = self.street.interval(self.offset + 1 + ahead);
                let node =
                    NodeId::new(["lv", "f1", "f2"][usize::try_from(self.dice.roll(3)).unwrap()]).unwrap();
                let mut point = || EnvelopePoint { up: self.dice.limit(), down: self.dice.limit() };
                let points = vec![point(), point()];
                (Body::Envelope { node, from, points }, OPERATOR, vec![])
            }
            8..12 => {
                // Of somebody who has ordered already.
                let (_, Order { home, interval: from, .. }) = self.some_open_order();
                let mut cap =
                    || ConnectionSize { import: wh(self.dice.roll(900)), export: wh(self.dice.roll(900)) };
                let points = vec![cap(), cap()];
                (Body::ConnectionCap { home, from, points }, OPERATOR, vec![])
            }
            12 | 13 => {
                let (order, _) = self.some_open_order();
                (Body::Cancel { home, order }, member, vec![])
            }
            14 | 15 => {
                // Its own, mostly.
                let (replaces, old) = self.some_open_order();
                let member = self.number_of(&old.home);
                let quantity = wh(100 + self.dice.roll(3_000));
                let order = Order { quantity, replaces: Some(replaces), ..old };
                (Body::Order(order), (Use::Member, member), vec![])
            }
            _ => {
                let interval = self.street.interval(self.offset + 2 + ahead % 4);
                let order = self.new_order(home, interval);
                (Body::Order(order), member, vec![])
            }
        };
        self.street.verified(body, signer, &others)
    }

    fn new_order(&mut self, home: HomeId, interval: Interval) -> Order {
        let side = if self.dice.one_in(2) { Side::Buy } else { Side::Sell };
        let quantity = wh(100 + self.dice.roll(2_000));
        // Where they often meet.
        let least = if side == Side::Buy { 140_000 } else { 80_000 };
        let price = Price::new(least + i64::try_from(self.dice.roll(110_000)).unwrap());
        Order { home, interval, side, price, quantity, replaces: None }
    }

    /// An order that somebody has in the book, or one that nobody has.
    fn some_open_order(&mut self) -> (EntryId, Order) {
        let open = &self.tally.trades.open;
        let place = self.dice.roll(open.len().max(1) as u64);
        if let Some((id, order)) = open.iter().nth(usize::try_from(place).unwrap()) {
            return (*id, order.clone());
        }
        let interval = self.street.interval(self.offset + 3);
        (EntryId(Hash32::ZERO), self.new_order(home(1), interval))
    }

    fn number_of(&self, of: &HomeId) -> u8 {
        (1..=self.homes).find(|number| home(*number) == *of).unwrap()
    }

    /// Each home orders, or not, for some interval to come.
    fn orders(&mut self) -> Vec<VerifiedEntry> {
        let mut entries = Vec::new();
        for number in 1..=self.homes {
            if self.dice.one_in(2) {
                let ahead = 2 + i64::try_from(self.dice.roll(2)).unwrap();
                let order = self.new_order(home(number), self.street.interval(self.offset + ahead));
                entries.push(self.street.verified(Body::Order(order), (Use::Member, number), &[]));
            }
        }
        entries
    }

    fn block(&mut self, entries: &[VerifiedEntry]) {
        let time = self.street.ledger.head_time().plus_ms(1 + self.dice.roll(5_000));
        self.refused += self.street.propose(time, entries).refused.len();
        self.check_last();
    }

    fn check_last(&mut self) {
        let executed = self.street.blocks.last().unwrap();
        let sum: i128 = sum_by_account(&executed.postings).into_values().map(Money::get).sum();
        assert_eq!(sum, 0, "postings of a block sum to zero");
        self.tally.take(&executed.block.entries);
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        // A cap is remembered for a day after its interval, as of the block before.
        let remembered_from = self.settled.saturating_sub(u64::from(self.street.genesis.mtu.per_day()));
        for outcome in &executed.outcomes {
            match outcome {
                Outcome::Order(of) => self.tally.trades.take_result(of),
                Outcome::Gate(of) => self.tally.trades.check_gate(&self.street.genesis, of),
                Outcome::Home(of) => {
                    let remembered = of.interval.index() >= remembered_from;
                    expected.extend(self.tally.trades.take_settled(of, remembered));
                }
                Outcome::Breach(of) => found.push((of.home.clone(), of.interval)),
                Outcome::Interval(_) | Outcome::Election(_) | Outcome::Seat(_) => {}
            }
        }
        assert_eq!(found, expected, "breaches of caps");
        self.tally.trades.breaches += found.len();
        self.settled = executed.ledger.next_to_settle().index();
        for (home, _) in executed.ledger.members() {
            let (balance, reserved) =
                (executed.ledger.balance(&Account::Home(home.clone())), executed.ledger.reserved(home));
            assert!(Balance::ZERO <= reserved && reserved <= balance, "{home}: what is reserved is there");
        }
    }

    /// One interval: heartbeats, then what came in, in one or two blocks. Now and then an outage, of some intervals even.
    fn live(&mut self, waiting: &mut Vec<VerifiedEntry>) {
        let long = self.dice.one_in(15);
        if long {
            self.offset += i64::try_from(1 + self.dice.roll(4)).unwrap();
        }
        let end = self.street.interval(self.offset).end();
        let outage = long || self.dice.one_in(12);
        loop {
            let next = self.street.ledger.head_time().plus_ms(300_000);
            if next >= end {
                break;
            }
            if outage {
                break;
            }
            self.street.block(next, &[]);
            self.check_last();
        }
        self.street.block(end.max(self.street.ledger.head_time().plus_ms(1)), &[]);
        self.check_last();
        let readings = self.readings(waiting);
        let others = [self.others(), self.orders()].concat();
        self.block(&readings);
        self.block(&others);
        self.offset += 1;
    }

    /// Settles everything that still waits.
    fn end(&mut self) {
        // Orders reach some intervals ahead.
        let last = self.street.interval(self.offset + 6);
        while self.street.ledger.next_to_settle() <= last {
            let time = self.street.ledger.head_time().plus_ms(300_000);
            self.street.block(time, &[]);
            self.check_last();
        }
        self.check_released();
    }

    /// Every order had its result, every position was settled, and nothing is reserved any more but for positions whose
    /// reading never came.
    fn check_released(&self) {
        let ledger = &self.street.ledger;
        let trades = &self.tally.trades;
        assert_eq!((trades.open.len(), trades.positions.len()), (0, 0));
        for (home, _) in ledger.members() {
            assert_eq!(ledger.open_orders(home), vec![]);
            let is_silent = self.street.outcomes().any(|(_, outcome)| {
                matches!(outcome, Outcome::Home(of) if of.home == *home && of.kind == OutcomeKind::Settled
                    && of.metered.is_none() && of.position != market::Position::default())
            });
            assert!(is_silent || ledger.reserved(home) == Balance::ZERO, "{home}");
        }
    }
}

fn history(seed: u64) -> History {
    let mut history = History::new(seed);
    let mut waiting = Vec::new();
    for _ in 0..18 {
        history.live(&mut waiting);
    }
    history.end();
    history
}

/// Every metered Wh is settled once: by home and interval at most one outcome with metered energy, in sum what the
/// registers grew by.
fn check_energy(history: &History) {
    let mut settled: BTreeMap<HomeId, (u64, u64)> = BTreeMap::new();
    let mut intervals: BTreeSet<(HomeId, Interval)> = BTreeSet::new();
    let mut closed: BTreeSet<(HomeId, Interval)> = BTreeSet::new();
    for (_, outcome) in history.street.outcomes() {
        let Outcome::Home(of) = outcome else { continue };
        if of.kind == OutcomeKind::Settled {
            assert!(closed.insert((of.home.clone(), of.interval)), "an interval closes once");
        }
        if let Some(metered) = of.metered {
            assert!(intervals.insert((of.home.clone(), of.interval)), "energy of an interval settles once");
            let sums = settled.entry(of.home.clone()).or_default();
            sums.0 += metered.import.get();
            sums.1 += metered.export.get();
            let (taken, given) = (
                of.matched.bought.get() + of.matched.supplier_import.get(),
                of.matched.sold.get() + of.matched.supplier_export.get(),
            );
            let position = if of.kind == OutcomeKind::Late { None } else { Some(of.position) };
            if position.is_none_or(|position| position == market::Position::default())
                && of.kind == OutcomeKind::Settled
            {
                assert_eq!((taken, given), (metered.import.get(), metered.export.get()));
            }
        }
    }
    for (home, read) in &history.tally.read {
        let sums = settled.get(home).copied().unwrap_or_default();
        assert_eq!(sums, *read, "{home}");
        let count = intervals.iter().filter(|(of, _)| of == home).count();
        assert_eq!(count as u64, history.tally.intervals[home], "{home}");
    }
}

/// Balances are the sum of all postings, the genesis deposits included; nobody is below zero.
fn check_money(history: &History) {
    let mut sums: BTreeMap<Account<HomeId>, i128> = BTreeMap::new();
    for member in &history.street.genesis.members {
        let deposit = i128::from(member.deposit.get());
        *sums.entry(Account::Home(member.admission.home.clone())).or_default() += deposit;
        *sums.entry(Account::Deposits).or_default() -= deposit;
    }
    for posting in history.street.blocks.iter().flat_map(|executed| &executed.postings) {
        *sums.entry(posting.account.clone()).or_default() += posting.amount.get();
    }
    assert_eq!(sums.values().sum::<i128>(), 0);
    for (account, sum) in &sums {
        assert_eq!(i128::from(history.street.ledger.balance(account).get()), *sum, "{account:?}");
        assert!(!matches!(account, Account::Home(_)) || *sum >= 0, "{account:?} is below zero");
    }
    assert!(sums[&Account::Deposits] <= 0);
    let credit = history.street.genesis.supplier_credit.get();
    assert!(history.street.ledger.balance(&Account::Supplier).get() >= -credit, "the supplier's credit");
}

/// The same blocks from genesis give the same roots.
fn check_replay(history: &History) {
    let mut replayed = Ledger::genesis(&history.street.genesis).unwrap();
    for executed in &history.street.blocks {
        replayed = replayed.execute(&executed.block).unwrap().ledger;
        assert_eq!(replayed.state_root(), executed.block.header.state_root);
    }
    assert_eq!(replayed.snapshot(), history.street.ledger.snapshot());
}

#[test]
fn in_random_histories_money_and_energy_are_conserved_and_replay_gives_the_same_roots() {
    let (mut late, mut claims, mut traded, mut refused, mut exchanges) = (0, 0, 0, 0, 0);
    let (mut results, mut breaches, mut tight) = (BTreeMap::<_, usize>::new(), 0, 0);
    for seed in 0..40 {
        let outcome = std::panic::catch_unwind(|| {
            let history = history(seed);
            check_energy(&history);
            check_money(&history);
            check_replay(&history);
            history
        });
        let Ok(history) = outcome else { panic!("seed {seed}") };
        for (_, outcome) in history.street.outcomes() {
            let Outcome::Home(of) = outcome else { continue };
            late += usize::from(of.kind == OutcomeKind::Late);
            claims += usize::from(of.claim > Money::ZERO);
            traded += usize::from(of.position != market::Position::default());
        }
        refused += history.refused;
        exchanges += history.tally.exchanges;
        let trades = &history.tally.trades;
        (breaches, tight) = (breaches + trades.breaches, tight + trades.tight);
        trades.results.iter().for_each(|(word, count)| *results.entry(*word).or_default() += count);
    }
    // The histories have in them what they are meant to try.
    assert!(late > 100 && claims > 100 && traded > 20 && refused > 100, "{late} {claims} {traded} {refused}");
    assert!(exchanges > 100, "{exchanges}");
    for word in ["filled", "partly", "unfilled", "void"] {
        assert!(results[word] > 40, "{results:?}");
    }
    assert!(breaches > 20 && tight > 20, "{breaches} {tight} {results:?}");
}

#[test]
fn an_order_of_entries_that_a_proposer_chooses_never_breaks_an_invariant() {
    for seed in 100..115 {
        let mut history = History::new(seed);
        let mut waiting = Vec::new();
        for _ in 0..6 {
            history.live(&mut waiting);
        }
        let readings = history.readings(&mut waiting);
        let mut entries = readings;
        for _ in 0..4 {
            entries.extend(history.others());
        }
        let time = history.street.interval(history.offset).end().plus_ms(1);
        let time = time.max(history.street.ledger.head_time().plus_ms(1));
        let mut roots: BTreeSet<Hash32> = BTreeSet::new();
        for _ in 0..6 {
            // Any order: what no longer fits its signer's numbers is refused.
            for at in (1..entries.len()).rev() {
                let other = usize::try_from(history.dice.roll(at as u64 + 1)).unwrap();
                entries.swap(at, other);
            }
            let executed = history.street.ledger.propose(time, &entries).unwrap().executed;
            executed.ledger.check_invariants().unwrap();
            let due = executed.ledger.propose(time.plus_ms(7_200_000), &[]).unwrap().executed.ledger;
            let due = due.propose(time.plus_ms(7_800_000), &[]).unwrap().executed;
            due.ledger.check_invariants().unwrap();
            roots.insert(executed.ledger.state_root());
        }
        assert!(!roots.is_empty(), "seed {seed}");
    }
}

#[test]
fn the_order_of_readings_of_different_homes_does_not_change_the_state() {
    let mut street = Fixture::new(6);
    street.baselines(6);
    let mut entries: Vec<_> =
        (1..=6).map(|number| street.read(number, 0, 100, u64::from(number) * 30)).collect();
    street.idle_until(16);
    let root = street.ledger.propose(at(16), &entries).unwrap().executed.ledger.state_root();
    for _ in 0..6 {
        entries.rotate_left(1);
        assert_eq!(street.ledger.propose(at(16), &entries).unwrap().executed.ledger.state_root(), root);
    }
}

#[test]
fn a_block_that_settles_falsely_is_voted_down() {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let entries = [street.read(1, 0, 0, 400), street.read(2, 0, 300, 0)];
    street.after(16, &entries);
    street.idle_until(30);
    let honest = street.ledger.propose(at(30), &[]).unwrap().executed.block;
    // The proposer claims the block of a moment earlier, before the deadline, for this time.
    let mut false_block = street.ledger.propose(at(30).minus_ms(1), &[]).unwrap().executed.block;
    false_block.header.time = at(30);
    assert!(matches!(street.ledger.execute(&false_block), Err(BlockError::Differs { .. })));
    assert!(street.ledger.execute(&honest).is_ok());
}
