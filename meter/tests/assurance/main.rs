//! The assurance checks against simulated streets: forged homes are found, honest ones never accused.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a simulation computes in floating point and its meters count whole Wh"
)]

mod street;

use energy::{Interval, WattHours};
use meter::assurance::WINDOW_DAYS_MAX;
use meter::assurance::{
    Assessment, Check, Evidence, Finding, HomeEvidence, LEVEL_4_DAYS, MeterAssurance, PvDeclaration,
    Register, Registers, assess,
};
use street::{PER_DAY, Street, export_more, first, forge};

const DAYS: usize = LEVEL_4_DAYS;

fn month(homes: usize, quantum: u64, seed: u64) -> Evidence {
    Street::new(homes, DAYS, quantum, seed).evidence()
}

/// Places of the homes that anything contradicts.
fn accused(assessment: &Assessment) -> Vec<usize> {
    let contradicted =
        |it: &MeterAssurance| it.findings().iter().any(|(_, finding)| finding.is_contradiction());
    let meters = assessment.meters.iter().enumerate();
    meters.filter(|(_, meter)| contradicted(meter)).map(|(at, _)| at).collect()
}

/// Asserts that the transformer names this home alone, on this register, with about this error, and doubts nobody else.
fn assert_named(assessment: &Assessment, home: usize, register: Register, permille: std::ops::Range<i32>) {
    assert_eq!(accused(assessment), [home], "{:?}", assessment.suspicions);
    let [suspicion] = assessment.suspicions.as_slice() else { panic!("{:?}", assessment.suspicions) };
    assert_eq!(
        (suspicion.home.clone(), suspicion.register),
        (assessment.meters[home].home.clone(), register)
    );
    assert!(permille.contains(&suspicion.permille), "{suspicion:?}");
    assert!(assessment.meters[home].transformer.is_contradiction());
    for (at, meter) in assessment.meters.iter().enumerate() {
        assert_eq!(meter.level == 0, at == home, "{meter:?}");
        assert!(at == home || meter.transformer.is_consistent(), "{meter:?}");
    }
}

fn assert_nobody_accused(homes: usize, quantum: u64, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let assessment = assess(&month(homes, quantum, seed));
        assert!(accused(&assessment).is_empty(), "seed {seed}: {:?}", assessment.suspicions);
        for meter in &assessment.meters {
            assert!(meter.transformer.is_consistent(), "seed {seed}: {meter:?}");
            assert!(meter.voltage.is_consistent(), "seed {seed}: {meter:?}");
            assert!(meter.pv.is_consistent() || meter.pv == Finding::NotApplicable, "seed {seed}: {meter:?}");
            assert_eq!(meter.inverter, Finding::NotApplicable);
        }
        // Coarse meters, and many of them, hide more than level 4 allows.
        let least = if quantum == 1 || (homes == 12 && quantum == 10) { 4 } else { 3 };
        assert!(assessment.meters.iter().all(|meter| meter.level >= least), "seed {seed}");
    }
}

#[test]
fn nobody_is_accused_in_an_honest_street_of_12_homes_whatever_their_quantum() {
    for quantum in [1, 10, 100] {
        assert_nobody_accused(12, quantum, 1..6);
    }
}

#[test]
fn nobody_is_accused_in_an_honest_street_of_118_homes_with_fine_meters() {
    assert_nobody_accused(118, 1, 1..2);
}

#[test]
fn nobody_is_accused_in_an_honest_street_of_118_homes_with_meters_of_10_wh() {
    assert_nobody_accused(118, 10, 2..3);
}

#[test]
fn nobody_is_accused_in_an_honest_street_of_118_homes_with_meters_of_100_wh() {
    assert_nobody_accused(118, 100, 3..5);
}

#[test]
fn a_home_that_reports_a_fifth_too_little_is_named_and_no_other() {
    for quantum in [1, 10] {
        let evidence = month(12, quantum, 7);
        for home in [0, 1, 4, 7] {
            let mut forged = evidence.clone();
            forge(&mut forged.homes[home], 0, 0.8, 1.0);
            // 0.8 is reported, 0.2 is missing: 250 ‰ of what is reported, and losses.
            assert_named(&assess(&forged), home, Register::Import, 200..310);
        }
    }
}

#[test]
fn one_home_of_118_that_reports_a_fifth_too_little_is_named() {
    let mut evidence = month(118, 10, 8);
    forge(&mut evidence.homes[60], 0, 0.8, 1.0);
    assert_named(&assess(&evidence), 60, Register::Import, 200..310);
}

#[test]
fn a_forgery_that_begins_within_the_month_is_dated() {
    let mut evidence = month(12, 10, 7);
    forge(&mut evidence.homes[0], 20 * PER_DAY, 0.8, 1.0);
    let assessment = assess(&evidence);
    assert_named(&assessment, 0, Register::Import, 180..310);
    let since = assessment.suspicions[0].since.index() - first().index();
    assert!((19 * 96..23 * 96).contains(&since), "day {}", since / 96);
}

#[test]
fn a_home_that_reports_a_quarter_too_much_export_is_named() {
    let mut evidence = month(12, 1, 7);
    forge(&mut evidence.homes[4], 0, 1.0, 1.25);
    assert_named(&assess(&evidence), 4, Register::Export, 150..250);
}

#[test]
fn a_meter_that_harms_its_own_home_is_shown_to_the_operator_and_not_accused() {
    let mut evidence = month(12, 1, 7);
    forge(&mut evidence.homes[5], 0, 1.25, 1.0);
    let assessment = assess(&evidence);
    assert!(accused(&assessment).is_empty());
    let [suspicion] = assessment.suspicions.as_slice() else { panic!("{:?}", assessment.suspicions) };
    assert_eq!((suspicion.home.as_str(), suspicion.register), ("h005", Register::Import));
    assert!((-250..-130).contains(&suspicion.permille), "{suspicion:?}");
    let unknown = |at: usize| assessment.meters[at].transformer == Finding::Unknown;
    assert!((0..12).all(|at| unknown(at) == (at == 5)));
}

#[test]
fn an_error_well_above_what_the_assessment_says_would_show_does_show() {
    for quantum in [1, 100] {
        let evidence = month(12, quantum, 9);
        let watched = assess(&evidence).watched;
        let mut shown = 0;
        for (home, limit) in
            watched.iter().enumerate().filter_map(|(at, it)| Some((at, it.detectable_permille?)))
        {
            let missing = 1.4 * f64::from(limit) / 1000.0;
            let mut forged = evidence.clone();
            forge(&mut forged.homes[home], 0, 1.0 / (1.0 + missing), 1.0);
            assert!(accused(&assess(&forged)).contains(&home), "home {home}, {limit} ‰ at {quantum} Wh");
            shown += 1;
        }
        assert!(shown >= 5, "too few homes are watched at {quantum} Wh");
    }
}

#[test]
fn homes_that_always_do_the_same_cannot_be_told_apart_and_neither_is_named() {
    let twins = |homes: &mut Vec<street::Home>| {
        homes[2].import_w = homes[0].import_w.clone();
        homes[2].export_w = homes[0].export_w.clone();
    };
    let mut evidence = Street::changed(12, DAYS, 1, 3, twins).evidence();
    forge(&mut evidence.homes[2], 0, 0.7, 1.0);
    let assessment = assess(&evidence);
    assert!(accused(&assessment).is_empty(), "{:?}", assessment.suspicions);
    assert_eq!(assessment.watched[0].detectable_permille, None);
    assert!(assessment.meters[0].level < 4 && assessment.meters[2].level < 4);
}

#[test]
fn what_nobody_below_the_transformer_reports_accuses_nobody_and_leaves_the_sum_open() {
    // A household, a roof, a roof and a car without a meter of the community.
    for (unmetered, seed) in [(0, 1), (1, 2), (4, 3), (4, 5), (7, 5), (10, 4)] {
        let mut evidence = month(12, 1, seed);
        evidence.homes.remove(unmetered);
        let assessment = assess(&evidence);
        assert!(accused(&assessment).is_empty(), "{unmetered}, {seed}: {:?}", assessment.suspicions);
        assert!(assessment.sum.unwrap().fitting_permille < 950, "{unmetered}, {seed}");
        assert!(assessment.meters.iter().all(|it| it.transformer == Finding::Unknown && it.level == 1));
    }
}

#[test]
fn a_transformers_meter_that_counts_a_quarter_too_much_accuses_nobody() {
    for (homes, quantum) in [(3, 1), (12, 1), (12, 100)] {
        let mut evidence = month(homes, quantum, 5);
        for reading in evidence.root.iter_mut().flat_map(|root| root.readings.iter_mut().flatten()) {
            reading.import = WattHours::new(reading.import.get() * 5 / 4);
            reading.export = WattHours::new(reading.export.get() * 5 / 4);
        }
        let assessment = assess(&evidence);
        assert!(accused(&assessment).is_empty(), "{homes} homes: {:?}", assessment.suspicions);
        assert!(assessment.meters.iter().all(|it| it.transformer == Finding::Unknown), "{homes} homes");
    }
}

#[test]
fn one_home_without_readings_leaves_the_sum_open_for_all() {
    let mut evidence = month(12, 1, 5);
    evidence.homes[3].meter.readings.fill(None);
    let assessment = assess(&evidence);
    assert!(assessment.meters.iter().all(|meter| meter.transformer == Finding::Unknown && meter.level <= 1));
    evidence.root = None;
    assert_eq!(assess(&evidence).meters[0].transformer, Finding::NotApplicable);
}

#[test]
fn a_home_that_gives_estimates_only_after_an_honest_day_keeps_nobodys_good_word_alive() {
    let mut evidence = month(12, 1, 5);
    evidence.homes[3].meter.readings[PER_DAY..].fill(None);
    let assessment = assess(&evidence);
    assert!(assessment.sum.unwrap().steps >= 48, "there were steps enough for a word");
    assert!(assessment.meters.iter().all(|it| it.transformer == Finding::Unknown && it.level == 1));
    // One exact reading at the end makes one step of a month: as long as it fits, it speaks for the others.
    let mut evidence = month(12, 1, 5);
    let (first, last) = (PER_DAY, DAYS * PER_DAY - 1);
    evidence.homes[4].meter.readings[first..last].fill(None);
    let assessment = assess(&evidence);
    let consistent = |at: usize| assessment.meters[at].transformer.is_consistent();
    assert!((0..12).all(|at| consistent(at) == (at != 4)), "{:?}", assessment.meters);
    // As one step of many it would be within the twentieth that need not fit.
    forge(&mut evidence.homes[4], first - 1, 0.0, 3.0);
    let assessment = assess(&evidence);
    assert!(assessment.meters.iter().all(|it| !it.transformer.is_consistent()), "{:?}", assessment.meters);
}

#[test]
fn a_home_read_too_seldom_lately_is_unknown_and_only_it() {
    let mut evidence = month(12, 1, 5);
    let end = DAYS * PER_DAY;
    for (at, reading) in evidence.homes[3].meter.readings.iter_mut().enumerate() {
        // On the last day every other boundary, which makes longer steps.
        if at >= end - PER_DAY && at % 2 == 0 {
            *reading = None;
        }
    }
    let assessment = assess(&evidence);
    for (at, meter) in assessment.meters.iter().enumerate() {
        assert_eq!(meter.transformer.is_consistent(), at != 3, "{meter:?}");
        assert_eq!(meter.level == 1, at == 3, "{meter:?}");
    }
}

#[test]
fn going_silent_takes_no_contradiction_back() {
    let mut evidence = month(12, 1, 7);
    forge(&mut evidence.homes[0], 0, 0.8, 1.0);
    evidence.homes[0].meter.readings[25 * PER_DAY..].fill(None);
    let assessment = assess(&evidence);
    assert_eq!(accused(&assessment), [0], "{:?}", assessment.suspicions);
    assert!((1..12).all(|at| assessment.meters[at].transformer == Finding::Unknown));
}

#[test]
fn half_a_day_says_nothing_about_anybody() {
    let mut evidence = month(12, 1, 5);
    evidence.intervals = PER_DAY / 2;
    for meter in assess(&evidence).meters {
        assert_eq!((meter.level, meter.transformer, meter.voltage), (1, Finding::Unknown, Finding::Unknown));
    }
}

#[test]
fn a_meter_that_was_exchanged_is_assessed_across_the_exchange() {
    let mut evidence = month(12, 1, 6);
    for reading in evidence.homes[5].meter.readings.iter_mut().skip(1000).flatten() {
        *reading = Registers { epoch: 1, ..*reading };
    }
    let assessment = assess(&evidence);
    assert!(assessment.meters.iter().all(|meter| meter.level == 4), "{:?}", assessment.meters);
}

#[test]
fn a_meter_whose_serial_number_somebody_typed_stays_at_level_0() {
    let mut evidence = month(12, 1, 6);
    evidence.homes[5].identified = false;
    assert_eq!(assess(&evidence).meters[5].level, 0);
}

/// Midnight to two in the morning, UTC: dark at any time of the year where the street is.
fn at_night(position: usize) -> bool {
    position % PER_DAY < 8
}

/// What a home of the simulated street declares.
fn declared(home: &HomeEvidence) -> PvDeclaration {
    home.pv[0].1.unwrap()
}

#[test]
fn exporting_at_night_without_storage_contradicts_the_sun_whatever_the_quantum() {
    for quantum in [1, 10, 100] {
        let mut evidence = month(12, quantum, 7);
        export_more(&mut evidence.homes[1], 300.0, at_night);
        let assessment = assess(&evidence);
        assert_eq!(accused(&assessment), [1], "{quantum} Wh");
        assert!(assessment.meters[1].pv.is_contradiction(), "{:?}", assessment.meters[1]);
        assert_eq!(assessment.meters[1].level, 0);
    }
}

#[test]
fn a_battery_may_export_at_night_but_not_more_than_a_day_of_sun() {
    let mut evidence = month(12, 10, 7);
    let home = &mut evidence.homes[1];
    home.pv = vec![(0, Some(PvDeclaration { storage: true, ..declared(home) }))];
    export_more(home, 1000.0, at_night);
    assert!(assess(&evidence).meters[1].pv.is_consistent());
    export_more(&mut evidence.homes[1], 100_000.0, at_night);
    assert!(assess(&evidence).meters[1].pv.is_contradiction());
}

#[test]
fn exporting_more_than_the_declared_modules_can_contradicts_the_sun() {
    let mut evidence = month(12, 1, 7);
    let home = &mut evidence.homes[4];
    let quarter = PvDeclaration { peak_w: declared(home).peak_w / 4, storage: false };
    home.pv = vec![(0, Some(quarter))];
    let pv = assess(&evidence).meters[4].pv;
    assert!(matches!(pv, Finding::Contradicts { figure } if figure > 1000), "{pv:?}");
}

#[test]
fn a_declaration_that_is_raised_never_applies_to_the_days_before() {
    let mut evidence = month(12, 1, 7);
    let honest = declared(&evidence.homes[4]);
    let quarter = PvDeclaration { peak_w: honest.peak_w / 4, ..honest };
    let mut said = |history: &[(usize, Option<PvDeclaration>)]| {
        evidence.homes[4].pv = history.to_vec();
        assess(&evidence).meters[4].pv
    };
    let raised = said(&[(0, Some(quarter)), (25 * PER_DAY, Some(honest))]);
    assert!(raised.is_contradiction(), "{raised:?}");
    let with_battery = PvDeclaration { storage: true, ..honest };
    assert!(said(&[(0, Some(quarter)), (25 * PER_DAY, Some(with_battery))]).is_contradiction());
    assert!(said(&[(0, Some(quarter)), (25 * PER_DAY, None)]).is_contradiction(), "nor is it taken back");
    // A smaller plant from now on does not make what was exported before too much.
    let lowered = PvDeclaration { peak_w: honest.peak_w * 10, ..honest };
    assert!(said(&[(0, Some(lowered)), (25 * PER_DAY, Some(honest))]).is_consistent());
    assert!(said(&[(0, None), (20 * PER_DAY, Some(honest))]).is_consistent(), "judged since it was said");
    assert_eq!(said(&[(DAYS * PER_DAY, Some(honest))]), Finding::Unknown, "no day has come since");
    assert_eq!(
        said(&[(0, Some(honest)), (20 * PER_DAY, None)]),
        Finding::Unknown,
        "it says nothing any more"
    );
}

#[test]
fn nothing_is_held_against_the_sun_without_a_place_or_a_declaration() {
    let mut evidence = month(12, 1, 7);
    evidence.homes[4].pv.clear();
    assert_eq!(assess(&evidence).meters[4].pv, Finding::Unknown, "it exports and does not say from what");
    assert_eq!(assess(&evidence).meters[0].pv, Finding::NotApplicable);
    evidence.place = None;
    assert_eq!(assess(&evidence).meters[1].pv, Finding::Unknown);
}

#[test]
fn exports_of_one_street_look_alike_on_most_days_and_invented_ones_do_not() {
    let mut evidence = month(30, 1, 7);
    // Same energy, but at the time of breakfast every day.
    let invented = &mut evidence.homes[1];
    forge(invented, 0, 1.0, 0.0);
    export_more(invented, 2000.0, |at| (20..32).contains(&(at % PER_DAY)));
    let support = assess(&evidence).support;
    let share = |at: usize| f64::from(support[at].alike) / f64::from(support[at].days);
    assert_eq!(support.len(), 10);
    assert!(share(0) < 0.1, "{:?}", support[0]);
    assert!((1..10).all(|at| support[at].days >= 25 && share(at) > 0.5), "{support:?}");
}

#[test]
fn a_home_on_another_feeder_does_not_move_with_the_voltage_of_this_one() {
    let (here, elsewhere) = (month(12, 1, 7), month(12, 1, 77));
    for home in 0..12 {
        let mut evidence = here.clone();
        evidence.homes[home].voltage_dv = elsewhere.homes[home].voltage_dv.clone();
        let assessment = assess(&evidence);
        assert_eq!(accused(&assessment), [home]);
        assert!(assessment.meters[home].voltage.is_contradiction(), "{:?}", assessment.meters[home]);
    }
}

#[test]
fn less_than_a_week_of_voltage_may_confirm_but_accuses_nobody() {
    let (mut evidence, elsewhere) = (month(12, 1, 7), month(12, 1, 77));
    evidence.homes[2].voltage_dv = elsewhere.homes[2].voltage_dv.clone();
    evidence.intervals = 2 * PER_DAY;
    let assessment = assess(&evidence);
    assert_eq!(assessment.meters[2].voltage, Finding::Unknown);
    assert!(assessment.meters[3].voltage.is_consistent());
}

#[test]
fn an_invented_constant_voltage_proves_nothing() {
    let mut evidence = month(12, 1, 7);
    evidence.homes[2].voltage_dv.fill(Some(2300));
    evidence.homes[3].voltage_dv.fill(None);
    let assessment = assess(&evidence);
    assert_eq!(assessment.meters[2].voltage, Finding::Unknown);
    assert_eq!(assessment.meters[3].voltage, Finding::NotApplicable);
    assert!(assessment.meters[4].voltage.is_consistent(), "one forger does not move the median");
}

#[test]
fn an_inverter_that_does_not_match_its_meter_is_found() {
    let mut evidence = month(12, 1, 7);
    evidence.homes[1].inverter_permille = vec![1008; DAYS];
    evidence.homes[4].inverter_permille = vec![1080; DAYS];
    let assessment = assess(&evidence);
    assert_eq!(accused(&assessment), [4]);
    assert_eq!(assessment.meters[4].inverter, Finding::Contradicts { figure: 1080 });
    assert_eq!(assessment.meters[1].inverter, Finding::Consistent { figure: 1008 });
    let words = Check::Inverter.words(assessment.meters[4].inverter).to_string();
    assert_eq!(words, "the inverter counted 1080 ‰ of what its meter counted, more than 3 % apart");
}

#[test]
fn evidence_beyond_the_longest_window_is_left_out() {
    let mut evidence = month(3, 1, 7);
    evidence.intervals = WINDOW_DAYS_MAX * PER_DAY;
    let longest = assess(&evidence);
    // Nothing is known of its second half, so nothing good is said of today.
    assert!(longest.meters.iter().all(|meter| meter.transformer == Finding::Unknown && meter.level == 1));
    evidence.intervals = usize::MAX;
    assert_eq!(assess(&evidence), longest);
}

#[test]
fn an_empty_community_is_assessed_as_nothing() {
    let mut evidence = month(3, 1, 7);
    evidence.homes.clear();
    assert!(assess(&evidence).meters.is_empty());
    evidence.intervals = 0;
    evidence.from = Interval::from_index(0, evidence.from.mtu());
    assert!(assess(&evidence).meters.is_empty());
}
