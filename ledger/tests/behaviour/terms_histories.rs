//! Random communities under every term of the market (sharing, losses, statements, operator's readings, fees, departures),
//! judged by tallies that know nothing of the ledger's own.

use std::collections::{BTreeMap, BTreeSet};

use energy::{Balance, HomeId, Interval, Money, NodeId, Price};
use ledger::{
    Body, FeePoint, Ledger, MoneyMode, Outcome, OutcomeKind, Participation, ReadingSource, VerifiedEntry,
    sum_by_account,
};
use market::{Account, Division, Losses, Metered, Sharing, SupplierLeg, Unused};

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

    fn one_in(&mut self, chances: u64) -> bool {
        self.roll(chances) == 0
    }

    fn money(&mut self, most: u64) -> Balance {
        Balance::new(i64::try_from(self.roll(most)).unwrap())
    }

    fn price(&mut self, most: u64) -> Price {
        Price::new(i64::try_from(self.roll(most)).unwrap())
    }

    fn sharing(&mut self) -> Sharing {
        let price = if self.one_in(3) { None } else { Some(self.price(400_000)) };
        match self.roll(5) {
            0 => Sharing::Neighbour,
            1 => Sharing::StaticKey { price, unused: Unused::Lost },
            2 => Sharing::StaticKey { price, unused: Unused::PassedOn },
            3 => Sharing::DynamicKey { price },
            _ => {
                let division = [Division::Producers, Division::Consumers, Division::Halves];
                let division = division[usize::try_from(self.roll(3)).unwrap()];
                Sharing::Incentive { payment: self.price(200_000), division }
            }
        }
    }
}

struct History {
    street: Fixture,
    dice: Dice,
    homes: u8,
    offset: i64,
    /// What the operator delivered last and was taken, by home and interval.
    delivered: BTreeMap<(HomeId, Interval), (u64, u64)>,
    left: BTreeMap<HomeId, Interval>,
    refused: usize,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let homes = u8::try_from(3 + dice.roll(5)).unwrap();
        let mut street = Fixture::with(homes, |genesis| {
            genesis.market.reading_source = ReadingSource::MeteringOperator;
            genesis.market.sharing = dice.sharing();
            genesis.market.losses = if dice.one_in(2) { Losses::Community } else { Losses::Recorded };
            if dice.one_in(2) {
                let credit = Balance::new(1 + dice.money(300_000_000).get());
                genesis.market.money = MoneyMode::Statement { credit };
            }
            genesis.due_after_ms = [900_000, 2_700_000, 7_200_000][usize::try_from(dice.roll(3)).unwrap()];
            genesis.supplier_leg = if dice.one_in(4) { SupplierLeg::Outside } else { SupplierLeg::Ledger };
            genesis.supplier_credit = dice.money(1_000_000_000);
            for member in &mut genesis.members {
                member.deposit = dice.money(400_000_000);
                member.participation = Participation {
                    share_permyriad: u32::try_from(dice.roll(10_000 / u64::from(homes))).unwrap(),
                    permille: u32::try_from(dice.roll(1_001)).unwrap(),
                };
            }
        });
        street.baselines(homes);
        let root = street.read(0, -1, 0, 0);
        street.block(at(2), &[root]);
        let (delivered, left) = (BTreeMap::new(), BTreeMap::new());
        Self { street, dice, homes, offset: 0, delivered, left, refused: 0 }
    }

    fn someone(&mut self) -> u8 {
        1 + u8::try_from(self.dice.roll(u64::from(self.homes))).unwrap()
    }

    /// A delivery of a few intervals that are over: new, again, late or with holes.
    fn delivery(&mut self, number: u8) -> VerifiedEntry {
        let back = i64::try_from(self.dice.roll(6)).unwrap();
        let count = 1 + self.dice.roll(3);
        let points = (0..count)
            .map(|_| Metered { import: wh(self.dice.roll(1_500)), export: wh(self.dice.roll(1_500)) })
            .collect();
        let from = self.street.interval(self.offset - back);
        let body = Body::OperatorReading { home: home(number), from, points };
        self.street.verified(body, METERING, &[])
    }

    fn other(&mut self) -> VerifiedEntry {
        let number = self.someone();
        let (member, home) = ((Use::Member, number), home(number));
        let ahead = 1 + i64::try_from(self.dice.roll(6)).unwrap();
        let from = self.street.interval(self.offset + ahead);
        let (amount, reference) = (self.dice.money(500_000_000), String::new());
        let (body, signer, others): (Body, _, Vec<_>) = match self.dice.roll(12) {
            0..=2 => {
                let node = ["lv", "f1", "f2"][usize::try_from(self.dice.roll(3)).unwrap()];
                let point = FeePoint { up: self.dice.price(20_000), down: self.dice.price(90_000) };
                let node = NodeId::new(node).unwrap();
                (Body::NetworkFees { node, from, points: vec![point; 3] }, OPERATOR, vec![AUDITOR])
            }
            3..=5 => {
                let participation = Participation {
                    share_permyriad: u32::try_from(self.dice.roll(6_000)).unwrap(),
                    permille: u32::try_from(self.dice.roll(1_001)).unwrap(),
                };
                (Body::ParticipationChange { home, from, participation }, member, vec![OPERATOR])
            }
            6 => (Body::Departure { home, from }, member, vec![OPERATOR]),
            7 | 8 => (Body::Deposit { home: Some(home), amount, reference }, TREASURER, vec![]),
            9 | 10 => (Body::Withdrawal { home: Some(home), amount, reference }, TREASURER, vec![member]),
            _ => {
                let (first, second) = (self.dice.price(400_000).get(), self.dice.price(200_000).get());
                let points = vec![tariff(first, second), tariff(second, first)];
                (Body::TariffSeries { from, points }, OPERATOR, vec![AUDITOR])
            }
        };
        self.street.verified(body, signer, &others)
    }

    /// The root meter, as late as it can be in time: then most homes' deliveries are known, and a little more is lost.
    fn root_reading(&mut self) -> Option<VerifiedEntry> {
        let waits = self.street.genesis.due_after_ms / 900_000;
        let offset = self.offset + 1 - i64::try_from(waits).unwrap();
        let interval = self.street.interval(offset);
        let of_homes = self.delivered.iter().filter(|((_, of), _)| *of == interval);
        let net = of_homes.fold(0, |sum: i64, (_, (import, export))| {
            sum + i64::try_from(*import).unwrap() - i64::try_from(*export).unwrap()
        });
        let net = net + i64::try_from(self.dice.roll(200)).unwrap() - 20;
        let (import, export) = (u64::try_from(net).unwrap_or(0), u64::try_from(-net).unwrap_or(0));
        (offset >= 0 && !self.dice.one_in(6)).then(|| self.street.read(0, offset, import, export))
    }

    fn block(&mut self, entries: &[VerifiedEntry]) {
        let time = self.street.ledger.head_time().plus_ms(1 + self.dice.roll(5_000));
        self.refused += self.street.propose(time, entries).refused.len();
        let executed = self.street.blocks.last().unwrap();
        for entry in &executed.block.entries {
            match &entry.entry().body {
                Body::OperatorReading { home, from, points } => {
                    for (after, point) in (0..).zip(points) {
                        let interval = Interval::from_index(from.index() + after, from.mtu());
                        let energy = (point.import.get(), point.export.get());
                        self.delivered.insert((home.clone(), interval), energy);
                    }
                }
                Body::Departure { home, from } => {
                    self.left.insert(home.clone(), *from);
                }
                _ => {}
            }
        }
    }

    fn live(&mut self) {
        let end = self.street.interval(self.offset).end();
        while self.street.ledger.head_time().plus_ms(300_000) < end {
            let next = self.street.ledger.head_time().plus_ms(300_000);
            self.street.block(next, &[]);
        }
        self.street.block(end.max(self.street.ledger.head_time().plus_ms(1)), &[]);
        let mut entries = Vec::new();
        for number in 0..=self.homes {
            let is_here =
                self.left.get(&home(number)).is_none_or(|left| self.street.interval(self.offset) < *left);
            if number == 0 {
                entries.extend(self.root_reading());
            } else if is_here && !self.dice.one_in(4) {
                let (import, export) = (self.dice.roll(2_000), self.dice.roll(500));
                entries.push(self.street.read(number, self.offset, import, export));
            }
            if number > 0 && !self.dice.one_in(3) {
                entries.push(self.delivery(number));
            }
        }
        while !self.dice.one_in(3) {
            let entry = self.other();
            entries.push(entry);
        }
        self.block(&entries);
        self.offset += 1;
    }

    fn end(&mut self) {
        let last = self.street.interval(self.offset);
        while self.street.ledger.next_to_settle() <= last {
            let next = self.street.ledger.head_time().plus_ms(300_000);
            self.street.block(next, &[]);
        }
    }
}

/// What was delivered last of each interval before it settled, or first after it, is what settled; once.
fn check_energy(history: &History) {
    let mut settled: BTreeMap<(HomeId, Interval), (u64, u64)> = BTreeMap::new();
    let (mut closed, mut provisional) = (BTreeSet::new(), BTreeSet::new());
    for (_, outcome) in history.street.outcomes() {
        let Outcome::Home(of) = outcome else { continue };
        let key = (of.home.clone(), of.interval);
        match of.kind {
            OutcomeKind::Provisional => {
                assert!(provisional.insert(key.clone()), "a provisional result is given once");
                assert!(!closed.contains(&key), "and never after the settled one");
            }
            OutcomeKind::Settled => assert!(closed.insert(key.clone()), "an interval closes once"),
            OutcomeKind::Late | OutcomeKind::Correction => {}
        }
        if let (Some(metered), true) = (of.metered, of.kind != OutcomeKind::Provisional) {
            let energy = (metered.import.get(), metered.export.get());
            assert!(settled.insert(key, energy).is_none(), "energy of an interval settles once");
        }
        assert!(history.left.get(&of.home).is_none_or(|left| of.interval < *left), "it had left");
    }
    assert_eq!(settled, history.delivered);
    let next = history.street.ledger.next_to_settle();
    assert!(provisional.iter().filter(|(_, interval)| *interval < next).all(|key| closed.contains(key)));
}

fn check_money(history: &History) {
    let genesis = &history.street.genesis;
    let mut sums: BTreeMap<Account<HomeId>, i128> = BTreeMap::new();
    for member in &genesis.members {
        let deposit = i128::from(member.deposit.get());
        *sums.entry(Account::Home(member.admission.home.clone())).or_default() += deposit;
        *sums.entry(Account::Deposits).or_default() -= deposit;
    }
    let lowest = -i128::from(genesis.market.money.credit().get());
    for executed in &history.street.blocks {
        let of_block: i128 = sum_by_account(&executed.postings).into_values().map(Money::get).sum();
        assert_eq!(of_block, 0, "postings of a block sum to zero");
        for posting in &executed.postings {
            *sums.entry(posting.account.clone()).or_default() += posting.amount.get();
        }
        for (account, sum) in &sums {
            assert!(!matches!(account, Account::Home(_)) || *sum >= lowest, "{account:?} at {sum}");
        }
    }
    for (account, sum) in &sums {
        assert_eq!(i128::from(history.street.ledger.balance(account).get()), *sum, "{account:?}");
    }
    assert!(sums[&Account::Deposits] <= 0, "nothing is paid out that was not paid in");
    assert!(history.street.ledger.balance(&Account::Supplier).get() >= -genesis.supplier_credit.get());
}

#[test]
fn under_every_term_of_the_market_energy_and_money_are_conserved() {
    let (mut late, mut claims, mut lost, mut incentives, mut gone, mut refused, mut below) =
        (0, 0, 0, 0, 0, 0, 0);
    for seed in 0..40 {
        let outcome = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            for _ in 0..14 {
                history.live();
            }
            history.end();
            check_energy(&history);
            check_money(&history);
            let mut replayed = Ledger::genesis(&history.street.genesis).unwrap();
            for executed in &history.street.blocks {
                replayed = replayed.execute(&executed.block).unwrap().ledger;
            }
            assert_eq!(replayed.snapshot(), history.street.ledger.snapshot());
            history
        });
        let Ok(history) = outcome else { panic!("seed {seed}") };
        for (_, outcome) in history.street.outcomes() {
            let Outcome::Home(of) = outcome else { continue };
            late += usize::from(of.kind == OutcomeKind::Late);
            claims += usize::from(of.claim > Money::ZERO);
            lost += usize::from(of.loss != Money::ZERO);
            incentives += usize::from(of.incentive != Money::ZERO);
        }
        gone += history.left.len();
        refused += history.refused;
        below += (1..=history.homes).filter(|number| history.street.balance(*number) < 0).count();
    }
    // The histories have in them what they are meant to try.
    assert!(
        late > 100 && claims > 100 && lost > 10 && incentives > 50,
        "{late} {claims} {lost} {incentives}"
    );
    assert!(gone > 10 && refused > 100 && below > 5, "{gone} {refused} {below}");
}
