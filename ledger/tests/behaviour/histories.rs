//! Random histories of random streets, judged by tallies that know nothing of the ledger's own.

use std::collections::{BTreeMap, BTreeSet};

use energy::{Balance, HomeId, Interval, Money, Mtu, Price};
use ledger::{
    BlockError, Body, Forward, Hash32, Ledger, MeterExchange, Order, Outcome, OutcomeKind, OwnContract,
    StandingLimits, VerifiedEntry, sum_by_account,
};
use market::{Account, Side, SupplierLeg};

use crate::fixture::*;

/// Pseudo-random numbers from a seed: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn price(&mut self) -> Price {
        Price::new(i64::try_from(self.roll(350_000)).unwrap() - 20_000)
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.roll(chances) == 0
    }
}

/// What the test itself knows: what each home's accepted registers grew by, and to which interval they were read.
#[derive(Default)]
struct Tally {
    read: BTreeMap<HomeId, (u64, u64)>,
    last: BTreeMap<HomeId, (u64, u64, u64)>,
    carried: BTreeMap<HomeId, (u64, u64)>,
    intervals: BTreeMap<HomeId, u64>,
    exchanges: usize,
}

impl Tally {
    fn take(&mut self, entries: &[VerifiedEntry]) {
        for entry in entries {
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
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let homes = u8::try_from(3 + dice.roll(6)).unwrap();
        let mtu = [Mtu::Min5, Mtu::Min15, Mtu::Min30, Mtu::Min60][usize::try_from(dice.roll(4)).unwrap()];
        let (forward, outside, credit) = (dice.one_in(2), dice.one_in(4), dice.roll(2_000_000_000));
        let street = Fixture::with(homes, |genesis| {
            genesis.mtu = mtu;
            genesis.forward = if forward { Forward::Auction } else { Forward::Off };
            genesis.supplier_leg = if outside { SupplierLeg::Outside } else { SupplierLeg::Ledger };
            genesis.supplier_credit = Balance::new(i64::try_from(credit).unwrap());
            genesis.caps.price_min = Price::new(-100_000);
            for member in &mut genesis.members {
                let money = if dice.one_in(3) { dice.roll(100_000_000) } else { dice.roll(10_000_000_000) };
                member.deposit = Balance::new(i64::try_from(money).unwrap());
            }
        });
        Self { street, dice, homes, offset: 0, tally: Tally::default(), refused: 0 }
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
        let (body, signer, others): (Body, _, Vec<_>) = match self.dice.roll(14) {
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
            _ => {
                let side = if self.dice.one_in(2) { Side::Buy } else { Side::Sell };
                let quantity = wh(100 + self.dice.roll(3_000));
                let interval = self.street.interval(self.offset + 2 + ahead % 2);
                let price = Price::new(80_000 + i64::try_from(self.dice.roll(170_000)).unwrap());
                (Body::Order(Order { home, interval, side, price, quantity, replaces: None }), member, vec![])
            }
        };
        self.street.verified(body, signer, &others)
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
    }

    /// One interval: heartbeats, then what came in, in one or two blocks.
    fn live(&mut self, waiting: &mut Vec<VerifiedEntry>) {
        let end = self.street.interval(self.offset).end();
        let outage = self.dice.one_in(12);
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
        let others = self.others();
        self.block(&readings);
        self.block(&others);
        self.offset += 1;
    }

    /// Settles everything that still waits.
    fn end(&mut self) {
        let last = self.street.interval(self.offset);
        while self.street.ledger.next_to_settle() <= last {
            let time = self.street.ledger.head_time().plus_ms(300_000);
            self.street.block(time, &[]);
            self.check_last();
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
    }
    // The histories have in them what they are meant to try.
    assert!(late > 100 && claims > 100 && traded > 20 && refused > 100, "{late} {claims} {traded} {refused}");
    assert!(exchanges > 100, "{exchanges}");
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
