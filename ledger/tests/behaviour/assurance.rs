//! Evidence and assurance: who may say what of a meter, how often, and that nobody claims more than was found.

use energy::Interval;
use ledger::{
    AssuranceStatement, Body, DemoClock, EntryError, Finding, GenesisError, Ledger, MeterAssurance,
    MeterEvidence, PvDeclaration, SignatureError, VerifiedEntry,
};
use proptest::prelude::*;

use crate::fixture::*;

const AGREES: Finding = Finding::Consistent { figure: 12 };
const CONTRADICTS: Finding = Finding::Contradicts { figure: 700 };

/// A street whose levels may be stated at each interval, with baselines of two homes.
fn lively() -> Fixture {
    stated_every(1)
}

fn stated_every(assurance_every: u32) -> Fixture {
    let mut street = Fixture::with(3, |genesis| {
        genesis.mtu = energy::Mtu::Min60;
        genesis.clock = Some(DemoClock {
            origin: start(),
            wall_origin: start(),
            speed: 3_600,
            assurance_every,
            epoch_every: 24,
        });
    });
    street.baselines(2);
    street
}

fn evidence(street: &Fixture, number: u8, offset: i64) -> MeterEvidence {
    MeterEvidence {
        home: home(number),
        from: street.interval(offset),
        voltage_dv: vec![2_310, 0, 2_295],
        pv: Some(PvDeclaration { peak_w: 5_000, storage: false }),
        inverter_permille: Some(1_001),
    }
}

fn give(street: &mut Fixture, evidence: MeterEvidence) -> VerifiedEntry {
    let number = u8::try_from(evidence.home.as_str()[1..].parse::<u32>().unwrap()).unwrap();
    street.verified(Body::MeterEvidence(evidence), (Use::Reading, number), &[])
}

fn found(number: u8, level: u8, findings: [Finding; 4]) -> MeterAssurance {
    let [transformer, pv, inverter, voltage] = findings;
    MeterAssurance { home: home(number), level, transformer, pv, inverter, voltage }
}

fn state(street: &mut Fixture, offset: i64, meters: Vec<MeterAssurance>) -> VerifiedEntry {
    let until = street.interval(offset);
    street.verified(Body::AssuranceStatement(AssuranceStatement { until, meters }), ROOT_METER, &[])
}

#[test]
fn nothing_said_is_level_zero() {
    let street = Fixture::new(2);
    let assurance = street.ledger.assurance(&home(1));
    assert_eq!((street.ledger.assurance_level(&home(1)), assurance), (0, Default::default()));
}

#[test]
fn evidence_is_signed_by_the_homes_reading_key_and_given_once_a_day() {
    let mut street = Fixture::new(2);
    let first = evidence(&street, 1, 0);
    for signer in [(Use::Member, 1), (Use::Reading, 2), OPERATOR, ROOT_METER] {
        let entry = street.verified(Body::MeterEvidence(first.clone()), signer, &[]);
        assert!(matches!(street.refusal(at(60), &entry), EntryError::NotEntitled { .. }));
    }
    let entry = give(&mut street, first.clone());
    assert!(entry.entry().body.is_sealed());
    street.after(60, &[entry]);
    let kept = street.ledger.assurance(&home(1)).evidence.unwrap();
    let day = Some(first.from);
    assert_eq!((kept.from, kept.voltage, kept.pv, kept.inverter), (first.from, day, day, day));
    let later = evidence(&street, 1, 90);
    let again = give(&mut street, later);
    assert!(matches!(street.refusal(at(24 * 60), &again), EntryError::EvidenceGiven { .. }));
    let other = evidence(&street, 2, 0);
    let other = give(&mut street, other);
    assert!(street.ledger.check(&other, at(61)).is_ok());
    let next_day = evidence(&street, 1, 96);
    let next_day = give(&mut street, next_day);
    assert!(street.ledger.check(&next_day, at(25 * 60)).is_ok());
    assert!(matches!(street.refusal(at(24 * 60 + 44), &next_day), EntryError::FromTheFuture { .. }));
}

#[test]
fn evidence_is_of_one_day_of_the_past_and_within_what_can_be() {
    let mut street = Fixture::new(1);
    let good = evidence(&street, 1, 0);
    let mut refused = |change: &dyn Fn(&mut MeterEvidence)| {
        let mut evidence = good.clone();
        change(&mut evidence);
        let entry = give(&mut street, evidence);
        street.refusal(at(26 * 60), &entry)
    };
    let two_days = refused(&|of| of.voltage_dv = vec![2_300; 97]);
    assert!(two_days.to_string().contains("more than one market day"), "{two_days}");
    assert!(refused(&|of| of.voltage_dv[0] = 10_001).to_string().contains("1 000 V"));
    assert!(refused(&|of| of.pv.as_mut().unwrap().peak_w = 0).to_string().contains("peak power"));
    assert!(refused(&|of| of.pv.as_mut().unwrap().peak_w = 1_000_001).to_string().contains("peak power"));
    assert!(refused(&|of| of.inverter_permille = Some(1_000_001)).to_string().contains("thousand times"));
    let hourly = refused(&|of| of.from = Interval::from_index(1, energy::Mtu::Min60));
    assert_eq!(hourly, EntryError::WrongMtu);
    assert!(matches!(
        refused(&|of| of.from = Interval::from_index(1, energy::Mtu::Min15)),
        EntryError::TooOld { .. }
    ));
    let chain = *street.ledger.chain();
    let long = Body::MeterEvidence(MeterEvidence { voltage_dv: vec![0; 289], ..good });
    assert_eq!(street.signed(long, (Use::Reading, 1), &[]).verify(&chain), Err(SignatureError::NotCanonical));
}

#[test]
fn only_the_root_meters_key_states_levels() {
    let mut street = lively();
    let until = street.interval(0);
    let body = Body::AssuranceStatement(AssuranceStatement { until, meters: vec![found(1, 0, [AGREES; 4])] });
    assert!(body.is_sealed());
    for signer in [(Use::Member, 1), (Use::Reading, 1), OPERATOR, AUDITOR] {
        let entry = street.verified(body.clone(), signer, &[]);
        assert!(matches!(
            street.refusal(at(60), &entry),
            EntryError::NotEntitled { needed: "the root meter's key", .. }
        ));
    }
    let entry = street.verified(body.clone(), ROOT_METER, &[]);
    assert!(matches!(street.refusal(at(59), &entry), EntryError::FromTheFuture { .. }));
    assert!(street.ledger.check(&entry, at(60)).is_ok());
    let mut without = Fixture::with(1, |genesis| genesis.root_meter = None);
    let entry = without.verified(body, ROOT_METER, &[]);
    assert_eq!(without.refusal(at(60), &entry), EntryError::NoRootMeter);
}

#[test]
fn a_statement_names_known_homes_once_and_in_order() {
    let mut street = lively();
    let unknown = state(&mut street, 0, vec![found(9, 0, [AGREES; 4])]);
    assert_eq!(street.refusal(at(60), &unknown), EntryError::UnknownHome { home: home(9) });
    for meters in
        [vec![], vec![found(2, 0, [AGREES; 4]), found(1, 0, [AGREES; 4])], vec![found(1, 0, [AGREES; 4]); 2]]
    {
        let entry = state(&mut street, 0, meters);
        assert!(matches!(street.refusal(at(60), &entry), EntryError::Malformed { .. }));
    }
}

#[test]
fn a_full_statement_fits_into_an_entry() {
    let mut street = Fixture::new(1);
    let longest = |number: usize| {
        let home = energy::HomeId::new(&format!("{}-{number:02}", "h".repeat(29))).unwrap();
        MeterAssurance { home, ..found(1, 4, [CONTRADICTS; 4]) }
    };
    let meters: Vec<_> = (0..ledger::ASSURANCES_MAX).map(longest).collect();
    state(&mut street, 0, meters);
}

#[test]
fn levels_are_stated_once_a_market_day_except_where_a_demo_says_otherwise() {
    let mut street = Fixture::new(1);
    let first = state(&mut street, 10, vec![found(1, 0, [Finding::Unknown; 4])]);
    street.after(11 * 15, &[first]);
    let early = state(&mut street, 105, vec![found(1, 0, [Finding::Unknown; 4])]);
    let error = street.refusal(at(107 * 15), &early);
    assert!(matches!(error, EntryError::StatedLately { every: 96, .. }), "{error}");
    let next = state(&mut street, 106, vec![found(1, 0, [Finding::Unknown; 4])]);
    assert!(street.ledger.check(&next, at(107 * 15)).is_ok());

    let mut demo = lively();
    let entries = [0, 1].map(|offset| state(&mut demo, offset, vec![found(1, 1, [Finding::Unknown; 4])]));
    assert_eq!((demo.ledger.assurance_every(), demo.ledger.last_stated(&home(1))), (1, None));
    demo.after(120, &entries);
    assert_eq!(demo.ledger.last_stated(&home(1)), Some(demo.interval(1)));
    assert_eq!(demo.ledger.last_stated(&home(2)), None, "of each home its own");
    assert_eq!(street.ledger.assurance_every(), 96);
    let mut wrong = demo.genesis.clone();
    for every in [0, 25] {
        wrong.clock.as_mut().unwrap().assurance_every = every;
        assert!(matches!(Ledger::genesis(&wrong), Err(GenesisError::Term { .. })), "{every}");
    }
}

#[test]
fn readings_alone_give_level_one_and_no_reading_none() {
    let mut street = lively();
    let unknown = |number, level| found(number, level, [Finding::Unknown; 4]);
    let entry = state(&mut street, 0, vec![unknown(1, 1), unknown(2, 2), unknown(3, 1)]);
    street.after(60, &[entry]);
    assert_eq!([1, 2, 3].map(|number| street.ledger.assurance_level(&home(number))), [1, 1, 0]);
}

#[test]
fn one_home_that_lost_its_ground_does_not_void_what_is_stated_of_the_others() {
    let mut street = lively();
    let given = [evidence(&street, 1, 0), evidence(&street, 2, 0)].map(|of| give(&mut street, of));
    street.after(190, &given);
    // While the statement is under way, home 1 registers another meter.
    let entry = state(&mut street, 3, vec![found(1, 3, [AGREES; 4]), found(2, 3, [AGREES; 4])]);
    let register = street.register_exchange(1, 1, 0, 0);
    street.after(239, &[register]);
    let executed = street.after(245, &[entry]);
    let booked: Vec<_> = executed.statements.iter().flat_map(|it| &it.meters).collect();
    assert_eq!(booked.iter().map(|it| it.level).collect::<Vec<_>>(), [0, 3]);
    assert!(booked.iter().all(|it| it.findings() == [AGREES; 4]), "what was found stays what it was");
    assert_eq!([1, 2].map(|number| street.ledger.assurance_level(&home(number))), [0, 3]);
}

#[test]
fn a_level_expires_after_three_settled_days_without_a_statement() {
    let mut street = stated_every(24);
    let entry = state(&mut street, 23, vec![found(1, 1, [Finding::Unknown; 4])]);
    street.block(street.interval(23).end(), &[entry]);
    let end = street.interval(4 * 24).start();
    let mut last = 1;
    while street.ledger.next_to_settle().start() <= end {
        let time = street.ledger.head_time().plus_ms(300_000);
        street.block(time, &[]);
        let level = street.ledger.assurance_level(&home(1));
        assert_eq!(level, u8::from(street.ledger.next_to_settle().start() <= end));
        last = level;
    }
    assert_eq!(last, 0);
    let stated = street.ledger.assurance(&home(1)).stated.unwrap();
    assert_eq!(
        (stated.until, stated.found.level),
        (street.interval(23), 1),
        "what was stated stays to be seen"
    );
}

#[test]
fn a_meter_that_was_replaced_passes_no_level_on_before_it_is_read_itself() {
    let mut street = lively();
    let given = evidence(&street, 1, 0);
    let given = give(&mut street, given);
    street.after(190, &[given]);
    let ceiling = |street: &Fixture, offset| {
        street.ledger.assurance_ceiling(&found(1, 0, [AGREES; 4]), street.interval(offset))
    };
    assert_eq!(ceiling(&street, 3), 3);
    // In interval 4, with the registers of both: the ledger knows where the new meter began.
    let register = street.register_exchange(1, 1, 0, 0);
    street.after(4 * 60 + 30, &[register]);
    assert_eq!([3, 4, 5].map(|offset| ceiling(&street, offset)), [0, 0, 0], "nothing was read of it");
    let first = street.read(1, 4, 10, 0);
    street.after(5 * 60, &[first]);
    assert_eq!([3, 4, 5].map(|offset| ceiling(&street, offset)), [0, 0, 3], "nor is what was before");
}

#[test]
fn a_finding_rests_on_the_newest_evidence_of_its_own_kind() {
    let mut street = lively();
    let full = evidence(&street, 1, 0);
    let full = give(&mut street, full);
    street.after(190, &[full]);
    // On the second day the inverter alone was heard of.
    let inverter_only = MeterEvidence { voltage_dv: vec![], pv: None, ..evidence(&street, 1, 24) };
    let inverter_only = give(&mut street, inverter_only);
    street.block(street.interval(25).end(), &[inverter_only]);
    let ceiling = |place: usize, offset| {
        let mut findings = [AGREES, Finding::Unknown, Finding::Unknown, Finding::Unknown];
        findings[place] = AGREES;
        street.ledger.assurance_ceiling(&found(1, 0, findings), street.interval(offset))
    };
    assert_eq!([1, 2, 3].map(|place| ceiling(place, 7 * 24)), [3, 3, 3], "the first day's still counts");
    assert_eq!([1, 2, 3].map(|place| ceiling(place, 7 * 24 + 1)), [2, 3, 2], "each for seven days");
    assert_eq!([1, 2, 3].map(|place| ceiling(place, 8 * 24 + 1)), [2, 2, 2]);
}

#[test]
fn a_further_finding_counts_only_on_evidence_the_home_gave_lately() {
    let mut street = lively();
    let claims = [AGREES, AGREES, AGREES, AGREES];
    let ceiling = |street: &Fixture, findings: [Finding; 4], offset| {
        street.ledger.assurance_ceiling(&found(1, 0, findings), street.interval(offset))
    };
    assert_eq!(ceiling(&street, claims, 3), 2, "nothing was given that could agree");
    let voltage_only = MeterEvidence { pv: None, inverter_permille: None, ..evidence(&street, 1, 0) };
    let given = give(&mut street, voltage_only);
    street.after(200, &[given]);
    assert_eq!(ceiling(&street, [AGREES, AGREES, AGREES, Finding::Unknown], 3), 2);
    assert_eq!(ceiling(&street, [AGREES, Finding::Unknown, Finding::Unknown, AGREES], 3), 3);
    assert_eq!(ceiling(&street, claims, 7 * 24), 3);
    assert_eq!(ceiling(&street, claims, 7 * 24 + 1), 2, "a week old");
}

#[test]
fn thirty_days_of_agreement_give_level_four_and_a_new_meter_starts_again() {
    let mut street = stated_every(24);
    let findings = [AGREES, AGREES, Finding::NotApplicable, AGREES];
    for day in 0..30_i64 {
        let until = day * 24 + 23;
        let given = evidence(&street, 1, day * 24);
        let level = if day == 29 { 4 } else { 3 };
        let entries = [give(&mut street, given), state(&mut street, until, vec![found(1, 4, findings)])];
        // Level 4 is claimed from the first day on, and booked on the thirtieth.
        let executed = street.block(street.interval(until).end(), &entries);
        assert_eq!(executed.statements[0].meters[0].level, level, "day {day}");
    }
    assert_eq!(street.ledger.assurance_level(&home(1)), 4);
    let register = street.register_exchange(1, 1, 0, 0);
    street.block(street.interval(30 * 24).end(), &[register]);
    assert_eq!(street.ledger.assurance_level(&home(1)), 0);
    let read = street.read(1, 30 * 24, 5, 0);
    street.block(street.interval(30 * 24 + 1).end(), &[read]);
    let next = street.interval(30 * 24 + 23);
    assert_eq!(street.ledger.assurance_ceiling(&found(1, 0, findings), next), 3);
}

#[test]
fn a_contradiction_or_a_long_silence_begins_the_thirty_days_anew() {
    for gap in [false, true] {
        let mut street = lively();
        let findings = [AGREES, AGREES, AGREES, AGREES];
        for day in 0..32_i64 {
            let until = day * 24 + 23;
            let given = evidence(&street, 1, day * 24);
            let mut entries = vec![give(&mut street, given)];
            if day == 15 && !gap {
                entries.push(state(
                    &mut street,
                    until,
                    vec![found(1, 0, [AGREES, CONTRADICTS, AGREES, AGREES])],
                ));
            } else if !(gap && (15..18).contains(&day)) {
                entries.push(state(&mut street, until, vec![found(1, 3, findings)]));
            }
            street.block(street.interval(until).end(), &entries);
        }
        let next = street.interval(32 * 24 + 23);
        assert_eq!(street.ledger.assurance_ceiling(&found(1, 0, findings), next), 3, "gap: {gap}");
    }
}

/// The rule as the table of levels says it, apart from the ledger's own.
fn expected(findings: [Finding; 4], is_read: bool, has_evidence: bool, whole_days: u32) -> u8 {
    let [transformer, rest @ ..] = findings;
    let agrees = |finding: &Finding| matches!(finding, Finding::Consistent { .. });
    if findings.iter().any(|finding| matches!(finding, Finding::Contradicts { .. })) || !is_read {
        return 0;
    }
    match (agrees(&transformer), has_evidence && rest.iter().any(agrees)) {
        (false, _) => 1,
        (true, false) => 2,
        (true, true) if whole_days >= 30 && !rest.contains(&Finding::Unknown) => 4,
        (true, true) => 3,
    }
}

fn finding() -> impl Strategy<Value = Finding> {
    prop_oneof![
        Just(Finding::NotApplicable),
        Just(Finding::Unknown),
        any::<i32>().prop_map(|figure| Finding::Consistent { figure }),
        any::<i32>().prop_map(|figure| Finding::Contradicts { figure }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the findings are, no level is booked above what they give.
    #[test]
    fn a_statement_is_booked_at_most_at_what_its_findings_give(
        findings in prop::array::uniform4(finding()), level in 0_u8..=4, is_read: bool, has_evidence: bool,
    ) {
        let mut street = lively();
        let number = if is_read { 1 } else { 3 };
        if has_evidence {
            let given = evidence(&street, number, 0);
            let given = give(&mut street, given);
            street.after(190, &[given]);
        }
        let entry = state(&mut street, 2, vec![found(number, level, findings)]);
        let ceiling = expected(findings, is_read, has_evidence, 0);
        street.after(191, &[entry]);
        prop_assert_eq!(street.ledger.assurance_level(&home(number)), level.min(ceiling));
    }

    /// The run of days towards level 4 is as long as the last unbroken row of whole days.
    #[test]
    fn level_four_takes_thirty_days_in_a_row(breaks in prop::collection::btree_set(0_i64..40, 0..3)) {
        let mut street = lively();
        let whole = [AGREES, Finding::NotApplicable, AGREES, AGREES];
        let mut row = 0;
        for day in 0..40_i64 {
            let until = day * 24 + 23;
            let given = evidence(&street, 1, day * 24);
            let given = give(&mut street, given);
            let time = street.interval(until).end();
            street.block(time, &[given]);
            let findings = if breaks.contains(&day) { [AGREES, Finding::Unknown, AGREES, AGREES] } else { whole };
            let ceiling = street.ledger.assurance_ceiling(&found(1, 0, findings), street.interval(until));
            // A row's first statement covers one interval only, so it is full after 31 of them.
            row = if breaks.contains(&day) { 0 } else { row + 1 };
            prop_assert_eq!(ceiling, expected(findings, true, true, if row > 30 { 30 } else { 0 }), "day {}", day);
            let entry = state(&mut street, until, vec![found(1, ceiling, findings)]);
            street.block(time.plus_ms(1), &[entry]);
        }
    }
}
