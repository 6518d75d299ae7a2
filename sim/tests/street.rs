//! What a simulated street promises, on a few homes and days of the one that comes with the program.
#![expect(clippy::unwrap_used, reason = "a test that cannot look must fail")]

use sim::dataset::{Recording, Season};
use sim::{Forward, Goals, Options, Report, SimError, TariffKind, simulate};

/// A day and a half: nights, a day's sun, and prices published the day before.
fn short(season: Season) -> Options {
    Options { intervals: 144, homes: Some(12), ..Options::new(season, 1) }
}

fn run(options: &Options) -> Report {
    simulate(&Recording::builtin(options.season).unwrap(), options).unwrap()
}

/// What holds in every run.
fn assert_sound(report: &Report) {
    let checks = &report.checks;
    assert!(checks.hold(), "{checks:?}");
    assert_eq!((checks.refused, &checks.reasons), (0, &vec![]));
    for way in [&report.alone, &report.neighbours, &report.run] {
        assert_eq!(way.bought_wh, way.sold_wh, "what neighbours sell, neighbours buy");
    }
    // Homes' meters and devices account for every Wh but what batteries lose, and that is no gain.
    assert!(report.run.export_wh + report.run.curtailed_wh <= report.generation_wh + report.run.import_wh);
}

#[test]
fn without_agents_the_ledger_settles_what_matching_says_to_the_unit() {
    for season in Season::ALL {
        let report = run(&Options { agents: false, ..short(season) });
        assert_sound(&report);
        assert_eq!(report.made.agents, 0);
        for home in &report.homes {
            assert_eq!(home.run, home.neighbours, "{}", home.home);
            assert!(home.neighbours.cost_n <= home.alone.cost_n);
        }
        assert!(report.run.sold_wh > 0 || season == Season::Winter);
    }
}

#[test]
fn with_every_tariff_and_goal_the_books_agree_and_vehicles_are_charged_in_time() {
    for tariff in [TariffKind::Flat, TariffKind::TimeOfUse, TariffKind::Dynamic] {
        let report = run(&Options { tariff, goals: Goals::Mixed, ..short(Season::Summer) });
        assert_sound(&report);
        assert!(report.checks.deadlines_met > 0 && report.made.agents > 0);
        let goals = report.homes.iter().filter_map(|home| home.goal);
        assert_eq!(goals.collect::<std::collections::BTreeSet<_>>().len(), 3);
    }
}

#[test]
fn prices_on_the_ledger_are_those_of_the_tariff() {
    // What the run cost before any neighbour came in is computed from the tariff, what it cost with them is settled by
    // the ledger from published prices: without agents both agree to the unit.
    for tariff in [TariffKind::TimeOfUse, TariffKind::Dynamic] {
        let options =
            Options { tariff, agents: false, intervals: 288, homes: Some(4), ..short(Season::Summer) };
        let report = run(&options);
        assert_eq!(report.run, report.neighbours, "{tariff}");
        assert_ne!(report.run.cost_n, run(&Options { tariff: TariffKind::Flat, ..options }).run.cost_n);
    }
}

#[test]
fn a_run_is_a_pure_function_of_data_options_and_seed() {
    let options = Options { forward: Forward::Posted, ..short(Season::Summer) };
    let once = run(&options);
    assert_eq!(once, run(&options));
    assert_eq!(once, run(&Options { threads: 3, ..options }), "on however many threads");
    let other = run(&Options { seed: 2, ..options });
    assert_ne!(once.checks.hash, other.checks.hash);
}

#[test]
fn agents_cost_their_street_less_than_devices_left_alone() {
    // In summer there is sun to shift; in winter none is left over, but the evening is dear.
    for (season, tariff) in [(Season::Summer, TariffKind::Flat), (Season::Winter, TariffKind::TimeOfUse)] {
        let report = run(&Options { homes: None, intervals: 192, tariff, ..Options::new(season, 1) });
        assert_sound(&report);
        let Report { run, neighbours, alone, .. } = &report;
        assert!(run.net_n < neighbours.net_n, "{season}: {run:?} {neighbours:?}");
        assert!(neighbours.net_n <= alone.net_n);
    }
}

#[test]
fn forward_trading_moves_money_among_homes_and_loses_none() {
    for forward in [Forward::Posted, Forward::Auction] {
        // It takes days until batteries know that neighbours buy at night.
        let options = Options { homes: None, intervals: 432, forward, ..short(Season::Summer) };
        let report = run(&options);
        assert!(report.checks.hold(), "{:?}", report.checks);
        assert_eq!(report.run.bought_wh, report.run.sold_wh);
        assert_eq!((report.checks.refused, &report.checks.reasons), (0, &vec![]));
        assert!(report.checks.orders > 0 && report.forward_wh > 0, "{forward}: {:?}", report.checks);
    }
}

#[test]
fn more_than_was_recorded_is_refused_with_what_there_is() {
    let recording = Recording::builtin(Season::Summer).unwrap();
    let refused = |options: &Options| simulate(&recording, options).unwrap_err();
    let error = refused(&Options::new(Season::Summer, 3));
    assert_eq!(
        error.to_string(),
        "a run of 2016 intervals cannot be made: the recording has 1344; ask for fewer weeks"
    );
    for homes in [0, 42] {
        let error = refused(&Options { homes: Some(homes), ..short(Season::Summer) });
        assert!(matches!(error, SimError::Homes { available: 41, .. }), "{error}");
    }
    assert!(matches!(refused(&Options { intervals: 0, ..short(Season::Summer) }), SimError::Length { .. }));
}
