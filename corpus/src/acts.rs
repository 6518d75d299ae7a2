//! Entries of every kind, mostly as they should be.

use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, NodeId, Price, Quality, Reading, TakenAt, WattHours,
};
use ledger::{
    AssuranceStatement, Ballot, BlockId, Body, ConnectionSize, Entry, EntryId, EnvelopePoint, Evidence,
    FeePoint, Finding, Genesis, Hash32, Ledger, MemberKeys, MeterAssurance, MeterEvidence, MeterExchange,
    Order, OwnContract, Participation, PvDeclaration, Registers, Salt, Signature, SignedProposal, SignedVote,
    StandingLimits, Statement, TariffPoint, TermKeys, VerifiedEntry, VoteKind, reading_hash,
};
use market::{Metered, Side};

use crate::chain::energy;
use crate::keys::{self, AUDITOR, KeyName, METERING, OPERATOR, ROOT_METER, TREASURER};
use crate::street::{self, HOMES, home, registration};
use crate::{Choices, keys::member};

/// A meter with its home's journal; number 0 is the root meter.
#[derive(Debug, Clone, Default)]
struct Meter {
    epoch: u32,
    import: u64,
    export: u64,
    record: u64,
    previous: [u8; 32],
}

/// An entry's body, who signs it, and who countersigns.
type Act = (Body, KeyName, Vec<KeyName>);

/// Makes entries: what meters show, and how often anybody signed.
pub struct Acts {
    first: Interval,
    meters: Vec<Meter>,
    number: u64,
    orders: Vec<(u8, EntryId)>,
}

impl Acts {
    pub fn new(genesis: &Genesis) -> Self {
        Self {
            first: Interval::containing(genesis.start, genesis.mtu),
            meters: vec![Meter::default(); usize::from(HOMES) + 1],
            number: 0,
            orders: Vec::new(),
        }
    }

    /// The next entry that the choices stand for; `None` where nobody could even sign it.
    pub fn entry(&mut self, choices: &mut Choices<'_>, ledger: &Ledger) -> Option<VerifiedEntry> {
        let number = 1 + u8::try_from(choices.one_of(usize::from(HOMES))).unwrap();
        let (body, mut signer, mut others) = self.act(choices, ledger, number);
        if choices.one_in(24) {
            signer = choices.pick(&[OPERATOR, TREASURER, METERING, ROOT_METER, member(1), keys::reader(1)]);
        }
        if choices.one_in(24) {
            others = choices.pick(&[&[][..], &[AUDITOR], &[OPERATOR]]).to_vec();
        }
        self.number += 1;
        let number_used = if choices.one_in(24) { choices.number() } else { self.number };
        let salt = Salt([u8::try_from(self.number % 251).unwrap(); 16]);
        let entry = Entry { signer: keys::public(signer), number: number_used, salt, body };
        let is_order = matches!(entry.body, Body::Order(_));
        let chain = ledger.chain();
        let signed = entry.sign(chain, &keys::signing(signer));
        let signed = others.iter().fold(signed, |signed, of| signed.countersign(chain, &keys::signing(*of)));
        let verified = signed.verify(chain).ok()?;
        if is_order {
            self.orders.push((number, verified.id()));
        }
        Some(verified)
    }

    fn act(&mut self, choices: &mut Choices<'_>, ledger: &Ledger, number: u8) -> Act {
        let home = home(number);
        let by_member = member(number);
        match choices.one_of(40) {
            0..=11 => self.reading(choices, ledger, number),
            12..=14 => self.operator_reading(choices, ledger, home),
            15..=18 => self.order(choices, ledger, number),
            19 => (self.cancel(choices, number), by_member, vec![]),
            20 => (standing_limits(choices, home), by_member, vec![]),
            21 => (own_contract(choices, home), by_member, vec![OPERATOR]),
            22 => (self.tariff(choices, ledger), OPERATOR, vec![AUDITOR]),
            23 => (self.fees(choices, ledger), OPERATOR, vec![AUDITOR]),
            24 => (self.envelope(choices, ledger), OPERATOR, vec![]),
            25 => (self.cap(choices, ledger, home), OPERATOR, vec![]),
            26 => admission(ledger, number),
            27 => self.exchange(choices, number),
            28 => (rotation(choices, number), by_member, vec![]),
            29 => (self.correction(choices, ledger, home), METERING, vec![OPERATOR]),
            30 => (self.deposit(choices, home), TREASURER, vec![AUDITOR]),
            31 => withdrawal(choices, number),
            32 => (Body::BankBalance { amount: balance(choices) }, TREASURER, vec![AUDITOR]),
            33 => (self.evidence_of_meter(choices, ledger, home), keys::reader(number), vec![]),
            34 => (self.assurance(choices, ledger), ROOT_METER, vec![]),
            35 => self.participation(choices, ledger, number),
            36 if choices.one_in(4) => {
                let from = self.interval(choices, ledger);
                (Body::Departure { home, from }, by_member, vec![OPERATOR])
            }
            36 | 37 => (vote(choices, home), by_member, vec![]),
            38 => candidacy(choices, ledger, number),
            _ => misbehaviour(choices, ledger, number),
        }
    }

    /// An interval near the present, at times far from it.
    fn interval(&self, choices: &mut Choices<'_>, ledger: &Ledger) -> Interval {
        let now = Interval::containing(ledger.head_time(), self.first.mtu()).index();
        let near = u64::from(choices.byte() % 24);
        let index = match choices.one_of(16) {
            0..=6 => (now + near).saturating_sub(8),
            7..=11 => now + near + 1,
            12 => now.saturating_sub(near * 200),
            13 => now + near * 300,
            14 => self.first.index().saturating_sub(near),
            _ => choices.number() & 0xffff_ffff,
        };
        Interval::from_index(index, self.first.mtu())
    }

    /// The interval that ended last, mostly.
    fn ended(&self, choices: &mut Choices<'_>, ledger: &Ledger) -> Interval {
        if choices.one_in(5) {
            return self.interval(choices, ledger);
        }
        let now = Interval::containing(ledger.head_time(), self.first.mtu()).index();
        Interval::from_index(now.saturating_sub(1), self.first.mtu())
    }

    fn reading(&mut self, choices: &mut Choices<'_>, ledger: &Ledger, number: u8) -> Act {
        let number = if choices.one_in(8) { 0 } else { number };
        let interval = self.ended(choices, ledger);
        let reading = self.record(choices, number, interval);
        let home = (number > 0).then(|| home(number));
        let signer = if number == 0 { ROOT_METER } else { keys::reader(number) };
        (Body::Reading { home, reading }, signer, vec![])
    }

    fn record(&mut self, choices: &mut Choices<'_>, number: u8, interval: Interval) -> Reading {
        let meter = &mut self.meters[usize::from(number)];
        meter.import = meter.import.wrapping_add(energy(choices).get());
        meter.export = meter.export.wrapping_add(energy(choices).get());
        meter.record += 1;
        let serial = if number == 0 { "ROOT".to_owned() } else { format!("M-{number}") };
        let reading = Reading {
            serial: MeterSerial::new(&serial).unwrap(),
            meter_epoch: meter.epoch,
            interval,
            import_register: WattHours::new(meter.import),
            export_register: WattHours::new(meter.export),
            raw_registers: vec![],
            quantum: WattHours::new(1),
            profile_hash: [9; 32],
            quality: choices.pick(&[
                Quality::Good,
                Quality::Good,
                Quality::Good,
                Quality::Gap,
                Quality::Stale,
            ]),
            clock_quality: ClockQuality::Synced,
            taken_at: TakenAt { time: interval.end(), monotonic_ms: 0, boot_id: [0; 16] },
            record_number: meter.record,
            previous_hash: meter.previous,
        };
        meter.previous = reading_hash(&reading);
        reading
    }

    fn operator_reading(&self, choices: &mut Choices<'_>, ledger: &Ledger, home: HomeId) -> Act {
        let from = self.ended(choices, ledger);
        let points = points(choices, |choices| Metered { import: energy(choices), export: energy(choices) });
        (Body::OperatorReading { home, from, points }, METERING, vec![])
    }

    fn order(&mut self, choices: &mut Choices<'_>, ledger: &Ledger, number: u8) -> Act {
        let gate = ledger.next_gate();
        let near = choices.one_of(6) as u64;
        let interval = if choices.one_in(8) {
            self.interval(choices, ledger)
        } else {
            Interval::from_index(gate.index() + near, gate.mtu())
        };
        let replaces = if choices.one_in(4) { self.own_order(choices, number) } else { None };
        let order = Order {
            home: home(number),
            interval,
            side: choices.pick(&[Side::Sell, Side::Buy]),
            price: price(choices),
            quantity: energy(choices),
            replaces,
        };
        (Body::Order(order), member(number), vec![])
    }

    fn own_order(&self, choices: &mut Choices<'_>, number: u8) -> Option<EntryId> {
        let mine: Vec<_> = self.orders.iter().filter(|(of, _)| *of == number).map(|(_, id)| *id).collect();
        mine.len().checked_sub(1 + choices.one_of(4)).map(|at| mine[at])
    }

    fn cancel(&self, choices: &mut Choices<'_>, number: u8) -> Body {
        let order = self.own_order(choices, number).unwrap_or(EntryId(Hash32::ZERO));
        Body::Cancel { home: home(number), order }
    }

    fn tariff(&self, choices: &mut Choices<'_>, ledger: &Ledger) -> Body {
        let from = self.interval(choices, ledger);
        let point = |choices: &mut Choices<'_>| {
            let (one, two) = (price(choices), price(choices));
            TariffPoint {
                import_price: one.max(two),
                export_price: if choices.one_in(16) { one } else { one.min(two) },
            }
        };
        Body::TariffSeries { from, points: points(choices, point) }
    }

    fn fees(&self, choices: &mut Choices<'_>, ledger: &Ledger) -> Body {
        let (node, from) = (node(choices), self.interval(choices, ledger));
        Body::NetworkFees {
            node,
            from,
            points: points(choices, |choices| FeePoint { up: price(choices), down: price(choices) }),
        }
    }

    fn envelope(&self, choices: &mut Choices<'_>, ledger: &Ledger) -> Body {
        let (node, from) = (node(choices), self.interval(choices, ledger));
        let limit = |choices: &mut Choices<'_>| (!choices.one_in(3)).then(|| energy(choices));
        let point = |choices: &mut Choices<'_>| EnvelopePoint { up: limit(choices), down: limit(choices) };
        Body::Envelope { node, from, points: points(choices, point) }
    }

    fn cap(&self, choices: &mut Choices<'_>, ledger: &Ledger, home: HomeId) -> Body {
        let from = self.interval(choices, ledger);
        let point =
            |choices: &mut Choices<'_>| ConnectionSize { import: energy(choices), export: energy(choices) };
        Body::ConnectionCap { home, from, points: points(choices, point) }
    }

    fn exchange(&mut self, choices: &mut Choices<'_>, number: u8) -> Act {
        let number = if choices.one_in(6) { 0 } else { number };
        let meter = &mut self.meters[usize::from(number)];
        meter.import = meter.import.wrapping_add(energy(choices).get());
        let registers = |meter: &Meter| Registers {
            import: WattHours::new(meter.import),
            export: WattHours::new(meter.export),
        };
        let closing = registers(meter);
        meter.epoch += 1;
        (meter.import, meter.export) = (energy(choices).get(), energy(choices).get());
        let exchange = (!choices.one_in(4)).then(|| MeterExchange { closing, opening: registers(meter) });
        if number == 0 {
            let serial = MeterSerial::new("ROOT").unwrap();
            let meter = ledger::MeterRegistration { serial, ..registration(0, meter.epoch) };
            return (Body::MeterRegistration { home: None, meter, exchange }, OPERATOR, vec![AUDITOR]);
        }
        let meter = registration(number, meter.epoch);
        let body = Body::MeterRegistration { home: Some(home(number)), meter, exchange };
        (body, member(number), vec![OPERATOR])
    }

    fn correction(&self, choices: &mut Choices<'_>, ledger: &Ledger, home: HomeId) -> Body {
        let interval = self.ended(choices, ledger);
        let delta = |choices: &mut Choices<'_>| {
            let by = energy(choices).get().cast_signed();
            if choices.one_in(2) { by.wrapping_neg() } else { by }
        };
        Body::Correction { home, interval, import_delta: delta(choices), export_delta: delta(choices) }
    }

    fn deposit(&self, choices: &mut Choices<'_>, home: HomeId) -> Body {
        let home = (!choices.one_in(4)).then_some(home);
        Body::Deposit { home, amount: balance(choices), reference: self.number.to_string() }
    }

    fn evidence_of_meter(&self, choices: &mut Choices<'_>, ledger: &Ledger, home: HomeId) -> Body {
        let from = self.ended(choices, ledger);
        let voltage_dv = points(choices, |choices| u16::from(choices.byte()) * 40);
        let pv = (!choices.one_in(2)).then_some(PvDeclaration { peak_w: 5_000, storage: false });
        let inverter_permille = (!choices.one_in(2)).then(|| u32::from(choices.byte()) * 8);
        Body::MeterEvidence(MeterEvidence { home, from, voltage_dv, pv, inverter_permille })
    }

    fn assurance(&self, choices: &mut Choices<'_>, ledger: &Ledger) -> Body {
        let until = self.ended(choices, ledger);
        let finding = |choices: &mut Choices<'_>| {
            let figure = i32::from(choices.byte());
            choices.pick(&[
                Finding::Unknown,
                Finding::NotApplicable,
                Finding::Consistent { figure },
                Finding::Contradicts { figure },
            ])
        };
        let row = |choices: &mut Choices<'_>, number: u8| MeterAssurance {
            home: home(number),
            level: choices.byte() % 4,
            transformer: finding(choices),
            pv: finding(choices),
            inverter: finding(choices),
            voltage: finding(choices),
        };
        let meters = (1..=1 + choices.byte() % HOMES).map(|number| row(choices, number)).collect();
        Body::AssuranceStatement(AssuranceStatement { until, meters })
    }

    fn participation(&self, choices: &mut Choices<'_>, ledger: &Ledger, number: u8) -> Act {
        let from = self.interval(choices, ledger);
        let share_permyriad = u32::from(choices.byte()) * 40;
        let participation = Participation { share_permyriad, permille: choices.pick(&[1000, 0, 500, 1001]) };
        let body = Body::ParticipationChange { home: home(number), from, participation };
        (body, member(number), vec![OPERATOR])
    }
}

/// One to a few of something.
fn points<T>(choices: &mut Choices<'_>, mut point: impl FnMut(&mut Choices<'_>) -> T) -> Vec<T> {
    let count = choices.one_of(5);
    (0..count).map(|_| point(choices)).collect()
}

fn price(choices: &mut Choices<'_>) -> Price {
    let shape = choices.byte();
    let small = i64::from(choices.byte()) * 2_000;
    Price::new(match shape {
        0..=219 => small,
        220..=239 => -small,
        240..=249 => 1_000_000_000 - small,
        250..=253 => 1_000_000_001,
        _ => i64::MAX - small,
    })
}

fn balance(choices: &mut Choices<'_>) -> Balance {
    let small = i64::from(choices.byte()) * 1_000_000;
    let amounts = [small, 0, -small, 600_000_000_000, 4_000_000_000_000_000_000, i64::MAX, i64::MIN];
    Balance::new(choices.pick(&amounts))
}

fn node(choices: &mut Choices<'_>) -> NodeId {
    NodeId::new(choices.pick(&["lv", "f1", "f2", "grid", "none"])).unwrap()
}

fn standing_limits(choices: &mut Choices<'_>, home: HomeId) -> Body {
    let limits = StandingLimits {
        min_sell: (!choices.one_in(3)).then(|| price(choices)),
        max_buy: (!choices.one_in(3)).then(|| price(choices)),
    };
    Body::StandingLimits { home, limits }
}

fn own_contract(choices: &mut Choices<'_>, home: HomeId) -> Body {
    let contract = OwnContract {
        import_price: (!choices.one_in(3)).then(|| price(choices)),
        export_price: (!choices.one_in(3)).then(|| price(choices)),
    };
    Body::OwnContract { home, contract }
}

fn admission(ledger: &Ledger, number: u8) -> Act {
    let seats = ledger.delegates().as_slice().iter();
    let by_delegates = seats.filter_map(|seat| Some(member(street::number_of(&seat.home)?))).collect();
    (Body::Admission(street::admission(number)), OPERATOR, by_delegates)
}

fn rotation(choices: &mut Choices<'_>, number: u8) -> Body {
    let turned = number + 16 * (1 + choices.byte() % 4);
    let member = if choices.one_in(4) { turned } else { number };
    let keys = MemberKeys {
        member: keys::public(keys::member(member)),
        reading: keys::public(keys::reader(number)),
        network: keys::public(keys::network(turned)),
    };
    Body::KeyRotation { home: home(number), keys }
}

fn withdrawal(choices: &mut Choices<'_>, number: u8) -> Act {
    let of_supplier = choices.one_in(4);
    let body = Body::Withdrawal {
        home: (!of_supplier).then(|| home(number)),
        amount: balance(choices),
        reference: String::new(),
    };
    let consents = if of_supplier { OPERATOR } else { member(number) };
    (body, TREASURER, vec![AUDITOR, consents])
}

fn vote(choices: &mut Choices<'_>, of: HomeId) -> Body {
    let someone = |choices: &mut Choices<'_>| home(1 + choices.byte() % (HOMES + 1));
    let ballot = if choices.one_in(4) {
        Ballot::Follow(someone(choices))
    } else {
        let count = choices.one_of(4);
        Ballot::Approve((0..count).map(|_| someone(choices)).collect())
    };
    Body::Vote { home: of, ballot }
}

fn candidacy(choices: &mut Choices<'_>, ledger: &Ledger, number: u8) -> Act {
    let coming = ledger.coming_term();
    let term = if choices.one_in(12) { coming + 1 } else { coming };
    let (consensus, cosigner) = (keys::term(number, term), keys::cosigner(number, term));
    let stands = !choices.one_in(8);
    let of_term = TermKeys { consensus: keys::public(consensus), cosigner: keys::public(cosigner) };
    let others = if stands { vec![consensus, cosigner] } else { vec![] };
    let body = Body::Candidacy { home: home(number), term, keys: stands.then_some(of_term) };
    (body, member(number), others)
}

/// Two statements of a delegate, or of somebody who is none; contradictory, mostly.
fn misbehaviour(choices: &mut Choices<'_>, ledger: &Ledger, number: u8) -> Act {
    let seats = ledger.delegates().as_slice();
    let seat = &seats[choices.one_of(seats.len())];
    let culprit = keys::name_of_term(&seat.key).unwrap_or(keys::term(number, 0));
    let height = match choices.one_of(4) {
        0 | 1 => ledger.height().max(1),
        2 => ledger.height() + 1,
        _ => choices.below(1 << 20),
    };
    let (one, two) = (choices.byte() % 3, choices.byte() % 3);
    let is_vote = !choices.one_in(3);
    let statement = |what: u8| {
        if is_vote {
            vote_of(ledger, culprit, height, what)
        } else {
            proposal_of(ledger, culprit, height, what)
        }
    };
    let evidence = Evidence { first: statement(one), second: statement(two) };
    (Body::Misbehaviour(evidence), member(number), vec![])
}

fn vote_of(ledger: &Ledger, culprit: KeyName, height: u64, what: u8) -> Statement {
    let mut vote = SignedVote {
        kind: VoteKind::Precommit,
        height,
        round: 0,
        block: (what > 0).then_some(BlockId(Hash32([what; 32]))),
        voter: keys::public(culprit),
        signature: Signature([0; 64]),
    };
    vote.signature = Signature::sign(&keys::signing(culprit), &vote.signing_bytes(ledger.chain()));
    Statement::Vote(vote)
}

fn proposal_of(ledger: &Ledger, culprit: KeyName, height: u64, what: u8) -> Statement {
    let mut proposal = SignedProposal {
        height,
        round: 2,
        block: BlockId(Hash32([what / 2; 32])),
        valid_round: (what == 2).then_some(1),
        proposer: keys::public(culprit),
        signature: Signature([0; 64]),
    };
    proposal.signature = Signature::sign(&keys::signing(culprit), &proposal.signing_bytes(ledger.chain()));
    Statement::Proposal(proposal)
}
