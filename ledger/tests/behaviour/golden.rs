//! The bytes of everything that is signed, hashed or stored, pinned field by field in `tests/golden`.

use std::fmt::Write as _;
use std::path::PathBuf;

use energy::{Balance, ClockQuality, MeterSerial, NodeId, Price, Quality, Reading, TakenAt};
use ledger::codec::Encode;
use ledger::{
    AssuranceStatement, Attestation, Ballot, Block, BlockId, Body, BreachOutcome, Certificate, Chain,
    ConnectionSize, ElectionOutcome, ElectionResult, EntryId, EnvelopePoint, Evidence, FeePoint, Finding,
    GateOutcome, Hash32, HomeOutcome, IntervalOutcome, Leaf, LeafSource, MemberKeys, MeterAssurance,
    MeterEvidence, MeterExchange, Order, OrderOutcome, Outcome, OutcomeKind, OwnContract, Participation,
    PvDeclaration, RECOVERY_AFTER_MS, Recovery, Registers, Salt, SeatFate, SeatLoss, SeatOffer, SeatOutcome,
    Signature, SignedEntry, SignedProposal, SignedVote, StandingLimits, Statement, TermKeys, VoteKind,
    reading_hash, vote_signing_bytes,
};
use market::{HomeMatch, Metered, Position, Side};

use crate::fixture::*;

/// Named pieces that follow one another.
type Parts = Vec<(&'static str, Vec<u8>)>;

/// A body, its bytes field by field, who signs it and who countersigns.
type Sample = (Body, Parts, (Use, u8), Vec<(Use, u8)>);

/// One piece per field, in the order given.
macro_rules! parts {
    ($value:expr; $($field:tt),+ $(,)?) => { vec![$((stringify!($field), $value.$field.to_bytes())),+] };
}

/// Pieces of an enum: the code that names the variant, then its fields.
fn tagged(code: u8, fields: Parts) -> Parts {
    std::iter::once(("kind", vec![code])).chain(fields).collect()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn list<T: Encode>(items: &[T]) -> Vec<u8> {
    let mut bytes = u32::try_from(items.len()).unwrap().to_be_bytes().to_vec();
    items.iter().for_each(|item| item.encode(&mut bytes));
    bytes
}

fn reading() -> Reading {
    let interval = Fixture::new(4).interval(3);
    Reading {
        serial: MeterSerial::new("M-1").unwrap(),
        meter_epoch: 2,
        interval,
        import_register: wh(123_456),
        export_register: wh(7_890),
        raw_registers: vec![0x4711, 0x0815],
        quantum: wh(1),
        profile_hash: [9; 32],
        quality: Quality::Gap,
        clock_quality: ClockQuality::Synced,
        taken_at: TakenAt { time: interval.end().plus_ms(250), monotonic_ms: 77_000, boot_id: [0xb0; 16] },
        record_number: 42,
        previous_hash: [0xaa; 32],
    }
}

fn reading_parts(of: &Reading) -> Parts {
    vec![
        ("serial", text(of.serial.as_str())),
        ("meter_epoch", of.meter_epoch.to_bytes()),
        ("interval: minutes of the market time unit, index", of.interval.to_bytes()),
        ("import_register, Wh", of.import_register.to_bytes()),
        ("export_register, Wh", of.export_register.to_bytes()),
        ("raw_registers", list(&of.raw_registers)),
        ("quantum, Wh", of.quantum.to_bytes()),
        ("profile_hash", of.profile_hash.to_vec()),
        ("quality", vec![of.quality as u8]),
        ("clock_quality", vec![of.clock_quality as u8]),
        ("taken_at.time, ms", of.taken_at.time.to_bytes()),
        ("taken_at.monotonic_ms", of.taken_at.monotonic_ms.to_bytes()),
        ("taken_at.boot_id", of.taken_at.boot_id.to_vec()),
        ("record_number", of.record_number.to_bytes()),
        ("previous_hash", of.previous_hash.to_vec()),
    ]
}

/// A vote and a proposal; they prove nothing, but have every field.
fn statements() -> (SignedVote, SignedProposal) {
    let (block, signature) = (BlockId(Hash32([0xdd; 32])), Signature([0xee; 64]));
    let key = key((Use::Term, 1)).public();
    let vote = SignedVote {
        kind: VoteKind::Precommit,
        height: 7,
        round: 2,
        block: Some(block),
        voter: key,
        signature,
    };
    let proposal =
        SignedProposal { height: 7, round: 2, block, valid_round: Some(1), proposer: key, signature };
    (vote, proposal)
}

/// One body of each kind.
fn bodies() -> Vec<Sample> {
    let street = Fixture::new(4);
    let (home, interval) = (home(1), street.interval(3));
    let member = (Use::Member, 1);
    let limits = StandingLimits { min_sell: Some(Price::new(-5)), max_buy: None };
    let contract = OwnContract { import_price: Some(Price::new(240_000)), export_price: None };
    let points = vec![tariff(250_000, 80_000), tariff(260_000, -1)];
    let admitted = admission(5);
    let meter = registration(1, 1);
    let keys = MemberKeys { member: key((Use::Member, 101)).public(), ..admission(1).keys };
    let exchange = MeterExchange {
        closing: Registers { import: wh(123_456), export: wh(7_890) },
        opening: Registers { import: wh(3), export: wh(0) },
    };
    let evidence = MeterEvidence {
        home: home.clone(),
        from: interval,
        voltage_dv: vec![2_314, 0, 2_297],
        pv: Some(PvDeclaration { peak_w: 9_800, storage: true }),
        inverter_permille: Some(1_003),
    };
    let statement = AssuranceStatement {
        until: interval,
        meters: vec![
            MeterAssurance {
                home: home.clone(),
                level: 3,
                transformer: Finding::Consistent { figure: 18 },
                pv: Finding::Unknown,
                inverter: Finding::Consistent { figure: 1_003 },
                voltage: Finding::NotApplicable,
            },
            MeterAssurance {
                home: crate::fixture::home(2),
                level: 0,
                transformer: Finding::Unknown,
                pv: Finding::NotApplicable,
                inverter: Finding::NotApplicable,
                voltage: Finding::Contradicts { figure: -50 },
            },
        ],
    };
    let (amount, reference) = (Balance::new(1_500_000_000), "INV 7".to_owned());
    let order = Order {
        home: home.clone(),
        interval,
        side: Side::Sell,
        price: Price::new(120_000),
        quantity: wh(500),
        replaces: Some(EntryId(Hash32([0xcc; 32]))),
    };
    let transfer = || {
        vec![
            ("home, optional", Some(home.clone()).to_bytes()),
            ("amount, n", amount.to_bytes()),
            ("reference", text(&reference)),
        ]
    };
    let reading = reading();
    let mut of_reading = vec![("home, optional", Some(home.clone()).to_bytes())];
    of_reading.extend(reading_parts(&reading));
    let mut of_order = parts!(order; home, interval);
    of_order.push(("side", vec![1]));
    of_order.extend(parts!(order; price, quantity, replaces));
    let mut of_admission = parts!(admitted; home);
    of_admission.push(("owner", text(&admitted.owner)));
    of_admission.extend(parts!(admitted; node));
    of_admission.push(("size: most import, export in an interval, Wh", admitted.size.to_bytes()));
    of_admission.extend(parts!(admitted; keys, meter));
    let mut of_registration = vec![("home, optional", Some(home.clone()).to_bytes())];
    of_registration.extend(parts!(meter; serial, epoch, profile_hash, quantum));
    of_registration.push(("exchange, optional", vec![1]));
    of_registration.extend(parts!(exchange; closing, opening));
    let mut of_evidence = parts!(evidence; home, from);
    of_evidence.push(("voltage_dv", list(&evidence.voltage_dv)));
    of_evidence.extend(vec![
        ("pv, optional", vec![1]),
        ("pv.peak_w", 9_800_u32.to_bytes()),
        ("pv.storage", vec![1]),
        ("inverter_permille, optional", evidence.inverter_permille.to_bytes()),
    ]);
    let of_statement = vec![
        ("until", interval.to_bytes()),
        ("count of meters", 2_u32.to_bytes()),
        ("home", home.to_bytes()),
        ("level", vec![3]),
        ("transformer: consistent, figure", [&[2][..], &18_i32.to_bytes()].concat()),
        ("pv: unknown", vec![1]),
        ("inverter: consistent, figure", [&[2][..], &1_003_i32.to_bytes()].concat()),
        ("voltage: not applicable", vec![0]),
        ("home", crate::fixture::home(2).to_bytes()),
        ("level", vec![0]),
        ("transformer: unknown", vec![1]),
        ("pv: not applicable", vec![0]),
        ("inverter: not applicable", vec![0]),
        ("voltage: contradicts, figure", [&[3][..], &(-50_i32).to_bytes()].concat()),
    ];
    let feeder = NodeId::new("f1").unwrap();
    let fees = vec![
        FeePoint { up: Price::new(5_000), down: Price::new(12_000) },
        FeePoint { up: Price::ZERO, down: Price::new(7) },
    ];
    let envelopes = vec![
        EnvelopePoint { up: Some(wh(4_000)), down: None },
        EnvelopePoint { up: None, down: Some(wh(0)) },
    ];
    let caps = vec![ConnectionSize { import: wh(2_750), export: wh(1_500) }];
    let metered =
        vec![Metered { import: wh(700), export: wh(20) }, Metered { import: wh(0), export: wh(1_000_000) }];
    let participation = Participation { share_permyriad: 2_500, permille: 900 };
    let series = |node: Vec<u8>, points: Vec<u8>, note: &'static str| {
        vec![("of", node), ("from", interval.to_bytes()), (note, points)]
    };
    let of_participation = vec![
        ("home", home.to_bytes()),
        ("from", interval.to_bytes()),
        ("share_permyriad", 2_500_u32.to_bytes()),
        ("permille", 900_u32.to_bytes()),
    ];
    let of_home = |mut fields: Parts| {
        fields.insert(0, ("home", home.to_bytes()));
        fields
    };
    let (import_delta, export_delta) = (-12_i64, 34_i64);
    let (two, three) = (crate::fixture::home(2), crate::fixture::home(3));
    let term_keys =
        TermKeys { consensus: key((Use::Term, 101)).public(), cosigner: key((Use::Term, 102)).public() };
    let (vote, proposal) = statements();
    let mut of_misbehaviour =
        vec![("first: 0 vote, 1 proposal", vec![0]), ("kind: 0 prevote, 1 precommit", vec![1])];
    of_misbehaviour.extend(parts!(vote; height, round, block, voter, signature));
    of_misbehaviour.push(("second: 0 vote, 1 proposal", vec![1]));
    of_misbehaviour.extend(parts!(proposal; height, round, block, valid_round, proposer, signature));
    vec![
        (
            Body::Reading { home: Some(home.clone()), reading },
            tagged(1, of_reading),
            (Use::Reading, 1),
            vec![],
        ),
        (
            Body::StandingLimits { home: home.clone(), limits },
            tagged(2, of_home(parts!(limits; min_sell, max_buy))),
            member,
            vec![],
        ),
        (
            Body::OwnContract { home: home.clone(), contract },
            tagged(3, of_home(parts!(contract; import_price, export_price))),
            member,
            vec![OPERATOR],
        ),
        (
            Body::TariffSeries { from: interval, points: points.clone() },
            tagged(4, vec![("from", interval.to_bytes()), ("points: import, export price", list(&points))]),
            OPERATOR,
            vec![AUDITOR],
        ),
        (
            Body::Admission(admitted),
            tagged(5, of_admission),
            OPERATOR,
            vec![(Use::Member, 1), (Use::Member, 2), (Use::Member, 3)],
        ),
        (
            Body::MeterRegistration { home: Some(home.clone()), meter, exchange: Some(exchange) },
            tagged(6, of_registration),
            member,
            vec![OPERATOR],
        ),
        (
            Body::KeyRotation { home: home.clone(), keys },
            tagged(7, of_home(parts!(keys; member, reading, network))),
            member,
            vec![],
        ),
        (
            Body::Correction { home: home.clone(), interval, import_delta, export_delta },
            tagged(
                8,
                of_home(vec![
                    ("interval", interval.to_bytes()),
                    ("import_delta, Wh", import_delta.to_bytes()),
                    ("export_delta, Wh", export_delta.to_bytes()),
                ]),
            ),
            METERING,
            vec![OPERATOR],
        ),
        (
            Body::Deposit { home: Some(home.clone()), amount, reference: reference.clone() },
            tagged(9, transfer()),
            TREASURER,
            vec![AUDITOR],
        ),
        (
            Body::Withdrawal { home: Some(home.clone()), amount, reference: reference.clone() },
            tagged(10, transfer()),
            TREASURER,
            vec![member],
        ),
        (
            Body::BankBalance { amount },
            tagged(11, vec![("amount, n", amount.to_bytes())]),
            TREASURER,
            vec![AUDITOR],
        ),
        (Body::Order(order), tagged(12, of_order), member, vec![]),
        (
            Body::Cancel { home: home.clone(), order: EntryId(Hash32([0xcc; 32])) },
            tagged(13, of_home(vec![("order", vec![0xcc; 32])])),
            member,
            vec![],
        ),
        (Body::MeterEvidence(evidence), tagged(14, of_evidence), (Use::Reading, 1), vec![]),
        (Body::AssuranceStatement(statement), tagged(15, of_statement), ROOT_METER, vec![]),
        (
            Body::NetworkFees { node: feeder.clone(), from: interval, points: fees.clone() },
            tagged(16, series(feeder.to_bytes(), list(&fees), "points: fee up, down")),
            OPERATOR,
            vec![AUDITOR],
        ),
        (
            Body::Envelope { node: feeder.clone(), from: interval, points: envelopes.clone() },
            tagged(17, series(feeder.to_bytes(), list(&envelopes), "points: up, down, both optional")),
            OPERATOR,
            vec![],
        ),
        (
            Body::ConnectionCap { home: home.clone(), from: interval, points: caps.clone() },
            tagged(18, series(home.to_bytes(), list(&caps), "points: most import, export, Wh")),
            OPERATOR,
            vec![],
        ),
        (
            Body::OperatorReading { home: home.clone(), from: interval, points: metered.clone() },
            tagged(19, series(home.to_bytes(), list(&metered), "points: import, export, Wh")),
            METERING,
            vec![],
        ),
        (
            Body::ParticipationChange { home: home.clone(), from: interval, participation },
            tagged(20, of_participation),
            member,
            vec![OPERATOR],
        ),
        (
            Body::Departure { home: home.clone(), from: interval },
            tagged(21, of_home(vec![("from", interval.to_bytes())])),
            member,
            vec![OPERATOR],
        ),
        (
            Body::Vote { home: home.clone(), ballot: Ballot::Approve([two.clone(), three.clone()].into()) },
            tagged(
                22,
                of_home(vec![("ballot: 0 approve, 1 follow", vec![0]), ("approved", list(&[two, three]))]),
            ),
            member,
            vec![],
        ),
        (
            Body::Candidacy { home: home.clone(), term: 7, keys: Some(term_keys) },
            tagged(
                23,
                of_home(vec![
                    ("term", 7_u32.to_bytes()),
                    ("keys, optional: consensus, cosigner", Some(term_keys).to_bytes()),
                ]),
            ),
            member,
            vec![(Use::Term, 101), (Use::Term, 102)],
        ),
        (
            Body::Misbehaviour(Evidence {
                first: Statement::Vote(vote),
                second: Statement::Proposal(proposal),
            }),
            tagged(24, of_misbehaviour),
            member,
            vec![],
        ),
        (
            Body::RuleSignal { home: home.clone(), version: 7 },
            tagged(25, of_home(vec![("version", 7_u16.to_bytes())])),
            member,
            vec![],
        ),
    ]
}

/// One signed entry of each kind.
pub fn signed_entries() -> Vec<(&'static str, SignedEntry)> {
    let mut street = Fixture::new(4);
    bodies()
        .into_iter()
        .map(|(body, _, signer, others)| (body.kind(), street.signed(body, signer, &others)))
        .collect()
}

/// Bytes of everything that is decoded anywhere.
pub fn encodings() -> Vec<Vec<u8>> {
    let street = small_chain();
    let block = &street.blocks[0].block;
    let mut all: Vec<_> = signed_entries().into_iter().map(|(_, entry)| entry.to_bytes()).collect();
    all.push(block.header.to_bytes());
    all.push(block.to_bytes());
    all.push(certificate(&street).to_bytes());
    all.push(street.ledger.delegates().to_bytes());
    all.extend(outcomes().into_iter().map(|(outcome, _)| outcome.to_bytes()));
    all.extend(trade_outcomes().into_iter().map(|(_, outcome, _)| outcome.to_bytes()));
    all.extend(seat_outcomes().into_iter().map(|(_, outcome, _)| outcome.to_bytes()));
    all.push(Block { last_commit: Some(certificate(&street)), ..block.clone() }.to_bytes());
    all.extend(street.genesis.members.iter().map(Encode::to_bytes));
    all.push(Block { recovery: Some(Recovery::default()), ..block.clone() }.to_bytes());
    all
}

/// Three blocks: baselines, readings, the settlement of interval 0.
fn small_chain() -> Fixture {
    let mut street = Fixture::new(2);
    street.baselines(2);
    let entries = [street.read(1, 0, 0, 500), street.read(2, 0, 700, 0)];
    street.block(at(8), &entries[..0]);
    street.block(at(16), &entries);
    street.block(at(23), &[]);
    street.block(at(30), &[]);
    street
}

fn certificate(street: &Fixture) -> Certificate {
    let block = street.ledger.head();
    let (height, round) = (street.ledger.height(), 1);
    let message = vote_signing_bytes(street.ledger.chain(), VoteKind::Precommit, height, round, Some(&block));
    let seats = street.ledger.delegates().as_slice().iter().enumerate();
    let signatures = seats
        .map(|(seat, delegate)| {
            let number = (1..=4).find(|n| key((Use::Term, *n)).public() == delegate.key).unwrap();
            (u8::try_from(seat).unwrap(), Signature::sign(&key((Use::Term, number)).signing(), &message))
        })
        .collect();
    Certificate { height, round, block, signatures }
}

/// One outcome of each kind with its bytes field by field.
fn outcomes() -> Vec<(Outcome, Parts)> {
    let interval = Fixture::new(2).interval(3);
    let home = HomeOutcome {
        home: home(1),
        interval,
        kind: OutcomeKind::Settled,
        metered: Some(Metered { import: wh(700), export: wh(20) }),
        position: Position { sold: wh(0), bought: wh(100), amount: nano(-17_000_000) },
        matched: HomeMatch {
            sold: wh(20),
            bought: wh(400),
            local_amount: nano(-66_700_000),
            supplier_import: wh(200),
            supplier_export: wh(0),
            supplier_amount: nano(-60_000_000),
        },
        amount: nano(-143_700_000),
        baseline: nano(-208_400_000),
        claim: nano(5),
        loss: nano(-1_250_000),
        incentive: nano(42_000_000),
        quality: Some(Quality::Estimated),
        salt: Salt([0x51; 16]),
    };
    let mut of_home = parts!(home; home, interval);
    of_home.push(("kind", vec![home.kind as u8]));
    of_home.push(("metered, optional: import, export", home.metered.to_bytes()));
    of_home.push(("position: sold, bought, amount", home.position.to_bytes()));
    of_home.push(("matched: sold, bought, amount, supplier import, export, amount", home.matched.to_bytes()));
    of_home.extend(parts!(home; amount, baseline, claim, loss, incentive));
    of_home.push(("quality, optional", vec![1, Quality::Estimated as u8]));
    of_home.extend(parts!(home; salt));
    let community = IntervalOutcome {
        interval,
        tariff: tariff(250_000, 80_000),
        matched: wh(420),
        supplier_import: wh(200),
        supplier_export: wh(3),
        homes: 12,
        missing: 1,
        losses: Some(-7),
        public: false,
        salt: Salt([0x52; 16]),
    };
    let of_community = parts!(
        community; interval, tariff, matched, supplier_import, supplier_export, homes, missing, losses, public, salt
    );
    vec![(Outcome::Home(home), tagged(1, of_home)), (Outcome::Interval(community), tagged(2, of_community))]
}

/// The same of forward trading.
fn trade_outcomes() -> Vec<(&'static str, Outcome, Parts)> {
    let interval = Fixture::new(2).interval(3);
    let order = OrderOutcome {
        home: home(1),
        interval,
        order: EntryId(Hash32([0xcc; 32])),
        side: Side::Sell,
        limit: Price::new(120_000),
        quantity: wh(500),
        filled: wh(300),
        amount: nano(49_500_000),
        void: false,
        salt: Salt([0x53; 16]),
    };
    let mut of_order = parts!(order; home, interval, order);
    of_order.push(("side: 0 buy, 1 sell", vec![1]));
    of_order.extend(parts!(order; limit, quantity, filled, amount, void, salt));
    let gate = GateOutcome {
        interval,
        price: Some(Price::new(165_000)),
        node_prices: vec![Some(Price::new(165_000)), None],
        volume: wh(300),
        orders: 2,
        fees: nano(3_000_000),
        rent: nano(-1),
        void: false,
        public: true,
        salt: Salt([0x54; 16]),
    };
    let mut of_gate = parts!(gate; interval, price);
    of_gate.push(("node_prices", list(&gate.node_prices)));
    of_gate.extend(parts!(gate; volume, orders, fees, rent, void, public, salt));
    let breach = BreachOutcome {
        home: home(1),
        interval,
        metered: Metered { import: wh(700), export: wh(20) },
        cap: ConnectionSize { import: wh(600), export: wh(500) },
        salt: Salt([0x55; 16]),
    };
    let of_breach = parts!(breach; home, interval, metered, cap, salt);
    vec![
        ("outcome-gate", Outcome::Gate(gate), tagged(3, of_gate)),
        ("outcome-order", Outcome::Order(order), tagged(4, of_order)),
        ("outcome-breach", Outcome::Breach(breach), tagged(5, of_breach)),
    ]
}

/// The same of delegates; never sealed.
fn seat_outcomes() -> Vec<(&'static str, Outcome, Parts)> {
    let keys = [key((Use::Term, 1)).public(), key((Use::Term, 2)).public()];
    let election = ElectionOutcome {
        epoch: 6,
        result: ElectionResult::Elected,
        turnout_permille: 812,
        candidates: 9,
        term: 7,
        faults: 1,
        seats: keys.to_vec(),
    };
    let mut of_election = parts!(election; epoch);
    of_election.push(("result: 0 elected, 1 turnout, 2 candidates", vec![0]));
    of_election.extend(parts!(election; turnout_permille, candidates, term, faults));
    of_election.push(("seats", list(&election.seats)));
    let seat = SeatOutcome { key: keys[0], reason: SeatLoss::Silence, fate: SeatFate::Replaced(keys[1]) };
    let of_seat = vec![
        ("key", keys[0].to_bytes()),
        ("reason: 0 equivocation, 1 silence", vec![1]),
        ("fate: 0 replaced and by whom, 1 removed, 2 kept", vec![0]),
        ("key of the standby", keys[1].to_bytes()),
    ];
    vec![
        ("outcome-election", Outcome::Election(election), tagged(6, of_election)),
        ("outcome-seat", Outcome::Seat(seat), tagged(7, of_seat)),
    ]
}

/// Compares the parts with the value's own bytes and with the golden file; `facts` are hashes that follow from them.
fn check(name: &str, bytes: &[u8], parts: &Parts, facts: &[(&str, String)]) {
    let joined: Vec<u8> = parts.iter().flat_map(|(_, part)| part.clone()).collect();
    assert_eq!(
        hex::encode(&joined),
        hex::encode(bytes),
        "{name}: the fields, one by one, are not the encoding"
    );
    let mut file = String::new();
    for (note, part) in parts {
        writeln!(file, "# {note}").unwrap();
        for line in part.chunks(48) {
            writeln!(file, "{}", hex::encode(line)).unwrap();
        }
    }
    for (note, fact) in facts {
        writeln!(file, "= {note}: {fact}").unwrap();
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, &file).unwrap();
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; see tests/golden/README.md", path.display()));
    assert_eq!(golden, file, "{name}: the format changed; see tests/golden/README.md before anything else");
}

#[test]
fn entries_have_the_bytes_of_their_golden_files() {
    let chain = *Fixture::new(4).ledger.chain();
    for ((body, fields, _, _), (kind, signed)) in bodies().into_iter().zip(signed_entries()) {
        let entry = signed.unchecked().clone();
        assert_eq!(entry.body, body);
        let mut parts = parts!(entry; signer, number, salt);
        parts.extend(fields);
        let unsigned = entry.to_bytes();
        parts.push((
            "signatures: key, signature; the author's first",
            signed.to_bytes()[unsigned.len()..].to_vec(),
        ));
        let verified = signed.clone().verify(&chain).unwrap();
        let message = entry.signing_bytes(&chain);
        // The exchange of a meter came with its second format, and so did the size of a connection.
        let version = if ["meter-registration", "admission"].contains(&kind) { 2 } else { 1 };
        let mut expected = text(&format!("commonwatt/{kind}/v{version}"));
        expected.extend_from_slice(&chain.id.0);
        expected.extend_from_slice(&[0; 4]);
        expected.extend_from_slice(&unsigned);
        assert_eq!(message, expected, "what is signed: domain, chain, recovery, entry");
        let facts = [
            ("entry id", verified.id().to_string()),
            ("SHA-256 of what is signed", Hash32::of(&[&message]).hex()),
            ("sealed", entry.body.is_sealed().to_string()),
        ];
        check(&format!("entry-{kind}"), &signed.to_bytes(), &parts, &facts);
    }
}

#[test]
fn header_block_certificate_and_votes_have_the_bytes_of_their_golden_files() {
    let street = small_chain();
    let block = street.blocks[0].block.clone();
    let header = &block.header;
    let of_header = parts!(
        header; chain, rule_version, height, parent, time, tree_size, tree_root, state_root, delegates,
        next_delegates, last_commit
    );
    check("header", &header.to_bytes(), &of_header, &[("block id", header.id().to_string())]);
    let mut of_block =
        vec![("header", header.to_bytes()), ("certificate of the block before, optional", vec![0])];
    of_block.push(("recovery, optional", vec![0]));
    of_block.push(("count of entries", 2_u32.to_bytes()));
    for entry in &block.entries {
        of_block.push(("length of an entry", u32::try_from(entry.bytes().len()).unwrap().to_bytes()));
        of_block.push(("entry", entry.bytes().to_vec()));
    }
    check("block", &block.to_bytes(), &of_block, &[("block id", block.id().to_string())]);
    let certificate = certificate(&street);
    let mut of_certificate = parts!(certificate; height, round, block);
    of_certificate.push(("signatures: seat, signature", list(&certificate.signatures)));
    check("certificate", &certificate.to_bytes(), &of_certificate, &[]);
    let chain = street.ledger.chain();
    let vote = |kind, block| vote_signing_bytes(chain, kind, 7, 2, block);
    let of_vote = vec![
        ("domain", text("commonwatt/vote/v1")),
        ("chain: id, recovery", chain.to_bytes()),
        ("kind: precommit", vec![1]),
        ("height", 7_u64.to_bytes()),
        ("round", 2_u32.to_bytes()),
        ("block, optional", Some(certificate.block).to_bytes()),
    ];
    let nil = ("prevote for nil", hex::encode(vote(VoteKind::Prevote, None)));
    check("vote", &vote(VoteKind::Precommit, Some(&certificate.block)), &of_vote, &[nil]);
    let set = street.ledger.delegates();
    let of_set = vec![("term", set.term().to_bytes()), ("delegates: key, home", list(set.as_slice()))];
    check("delegates", &set.to_bytes(), &of_set, &[("hash", set.hash().hex())]);
}

#[test]
fn a_recovery_has_the_bytes_of_its_golden_file() {
    let street = small_chain();
    let chain = Chain { recovery: 1, ..*street.ledger.chain() };
    let [member, consensus, cosigner] =
        [(Use::Member, 1), (Use::Term, 91), (Use::Term, 92)].map(|of| key(of).signing());
    let offer = SeatOffer::sign(&chain, home(1), &member, &consensus, &cosigner);
    let of_offer = vec![
        ("home", offer.home.to_bytes()),
        ("keys: consensus, cosigner", offer.keys.to_bytes()),
        (
            "signatures: member, consensus, cosigner",
            offer.signatures.iter().flat_map(Encode::to_bytes).collect(),
        ),
    ];
    check("recovery-seat", &offer.to_bytes(), &of_offer, &[]);
    let time = street.ledger.head_time().plus_ms(RECOVERY_AFTER_MS);
    let block = street.ledger.propose_recovery(None, (1, time), vec![offer.clone()]).unwrap().block;
    let height = street.ledger.height();
    let attestation = Attestation::sign(&block.header, height, street.ledger.head(), &member);
    let of_attestation = parts!(attestation; signer, height, head, signature);
    let id = [("recovery block id", block.id().to_string())];
    check("recovery-attestation", &attestation.to_bytes(), &of_attestation, &id);
    let recovery = Recovery { seats: vec![offer], attestations: vec![attestation] };
    let of_recovery = vec![("seats", list(&recovery.seats)), ("attestations", list(&recovery.attestations))];
    check("recovery", &recovery.to_bytes(), &of_recovery, &[]);
}

#[test]
fn outcomes_and_leaves_have_the_bytes_of_their_golden_files() {
    let settled = outcomes().into_iter().zip(["outcome-home", "outcome-interval"]);
    let settled = settled.map(|((outcome, parts), name)| (name, outcome, parts));
    for (name, outcome, parts) in settled.chain(trade_outcomes()).chain(seat_outcomes()) {
        let bytes = outcome.to_bytes();
        let leaf = |sealed| Leaf::new(sealed, &outcome.salt(), &bytes, LeafSource::Outcome(0));
        let facts = [
            ("sealed leaf", hex::encode(leaf(true).bytes)),
            ("its hash in the tree", leaf(true).hash.hex()),
            ("hash of a public leaf", leaf(false).hash.hex()),
        ];
        check(name, &bytes, &parts, &facts);
    }
    let record = reading();
    check(
        "record",
        &record.to_bytes(),
        &reading_parts(&record),
        &[("record hash", Hash32(reading_hash(&record)).hex())],
    );
}

#[test]
fn a_genesis_has_the_bytes_of_its_golden_file() {
    let genesis = genesis(2);
    let parts = vec![
        ("name", text(&genesis.name)),
        ("mtu, minutes", genesis.mtu.to_bytes()),
        ("currency", text(&genesis.currency)),
        ("start, ms", genesis.start.to_bytes()),
        ("clock, optional: origin, wall origin, speed, assurance and epoch every", genesis.clock.to_bytes()),
        ("due_after_ms", genesis.due_after_ms.to_bytes()),
        ("forward: 0 off, 1 auction, 2 posted", vec![0]),
        ("market.envelope_permille", 500_u32.to_bytes()),
        ("market.money: 0 prepaid, 1 statement and credit", vec![0]),
        ("market.reading_source: 0 node, 1 metering operator", vec![0]),
        ("market.sharing: 0 neighbour, 1 static key, 2 dynamic key, 3 incentive", vec![0]),
        ("market.losses: 0 recorded, 1 community", vec![0]),
        ("supplier_leg: 1 on the ledger, 0 outside", vec![1]),
        ("supplier_credit, n", genesis.supplier_credit.to_bytes()),
        ("network: id, parent, fee up, fee down, limit up, limit down", list(&genesis.network)),
        ("tariff: import, export price", genesis.tariff.to_bytes()),
        ("caps: lowest and highest price, transfer limit", genesis.caps.to_bytes()),
        ("roles: operator, treasurer, auditor, metering operator", genesis.roles.to_bytes()),
        ("root_meter, optional: key, serial, profile hash, quantum", genesis.root_meter.to_bytes()),
        ("members: admission, participation, deposit", list(&genesis.members)),
        ("delegates: key, home", list(&genesis.delegates)),
        ("stake: 0 membership, 1 certified", vec![0]),
        ("replicas: 0 all, 1 delegates and the homes that hold bodies besides", vec![0]),
    ];
    let ledger = ledger::Ledger::genesis(&genesis).unwrap();
    let facts =
        [("chain id", genesis.chain().id.hex()), ("state root at height 0", ledger.state_root().hex())];
    check("genesis", &genesis.to_bytes(), &parts, &facts);
}

#[test]
fn a_snapshot_has_the_bytes_of_its_golden_file() {
    let street = small_chain();
    let snapshot = street.ledger.snapshot();
    let peaks = usize::try_from(street.ledger.tree_size().count_ones()).unwrap();
    let (tree, rest) = (12 + 32 * peaks, 36 + 8 + 32 + 12 + 32 * peaks + 32);
    let state = "state: time, grace, next to settle, next gate, next provisional, bank, root meter; then members, \
                 accounts, reserves, claims, tariff, last tariff, pending, pending root, provisional, unread, numbers, book, \
                 positions, forward, fees, last fees, envelopes, caps, assurance; of the delegates: height, epoch, epochs before, \
                 faults, seats changed, last, present and next set, standbys, days, day, ballots, candidacies, opted out, \
                 barred, term keys, signing, read days, energy";
    let parts = vec![
        ("chain: id, recovery", street.ledger.chain().to_bytes()),
        ("height", street.ledger.height().to_bytes()),
        ("head", street.ledger.head().to_bytes()),
        ("tree: size, peaks", snapshot[36 + 8 + 32..][..tree].to_vec()),
        ("state root", street.ledger.state_root().to_bytes()),
        (state, snapshot[rest..].to_vec()),
    ];
    let roots = street.blocks.iter().map(|of| of.block.header.state_root.hex()).collect::<Vec<_>>().join(" ");
    check("snapshot", &snapshot, &parts, &[("state roots of the chain", roots)]);
}
