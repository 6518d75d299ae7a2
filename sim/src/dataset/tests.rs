//! The data set's promises: totals, order, tree, exactness, and what is said about a damaged folder.

use std::collections::BTreeSet;
use std::fs;

use market::Network;

use super::*;

fn street() -> Dataset {
    Dataset::builtin().unwrap()
}

fn profiles(street: &Dataset, season: Season, n: usize) -> Vec<LoadProfile> {
    let homes = street.homes_for_demo(n).unwrap();
    homes.iter().map(|home| street.profile(season, &home.id).unwrap()).collect()
}

/// The folder that is built in.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/simbench-1-LV-semiurb4--2-sw");

/// Sum of a quantity over its whole fortnight, Wh.
fn window_wh(season: Season, quantity: &str) -> u64 {
    let power = files::read_power(&Source::Folder(Path::new(SHIPPED)), season, quantity).unwrap();
    power.watts.values().flatten().map(|&watts| u64::from(watts)).sum::<u64>() / QUARTERS_PER_WH
}

#[test]
fn the_windows_hold_the_energy_that_their_readme_states() {
    let quantities = ["load_base", "load_hp", "load_ev", "pv", "pvb_out", "pvb_raw"];
    for (season, tenths_of_kwh) in [
        (Season::Summer, [134_906, 1_383, 2_354, 66_059, 83_132, 86_391]),
        (Season::Winter, [181_060, 19_569, 1_666, 12_114, 15_022, 15_842]),
    ] {
        for (quantity, expected) in quantities.into_iter().zip(tenths_of_kwh) {
            assert_eq!((window_wh(season, quantity) + 50) / 100, expected, "{season} {quantity}");
        }
    }
}

#[test]
fn every_home_has_a_whole_day_in_both_seasons_and_never_both_directions_at_once() {
    let street = street();
    for season in Season::ALL {
        for home in street.homes_for_demo(41).unwrap() {
            let day = street.day(season, &home.id).unwrap();
            assert_eq!(day.len(), QUARTERS_PER_DAY);
            assert_eq!(day.first(), season.first_interval());
            assert!(day.import_quarter_wh().iter().sum::<u64>() > 0 || home.has_pv(), "{season} {}", home.id);
            let mut quarters = day.import_quarter_wh().iter().zip(day.export_quarter_wh());
            assert!(quarters.all(|(import, export)| *import == 0 || *export == 0));
            assert!(home.has_pv() || day.export_quarter_wh().iter().all(|export| *export == 0));
        }
    }
    assert_eq!(Season::Summer.first_interval().to_string(), "2016-06-13T00:00:00Z");
    assert_eq!(Season::Winter.first_interval().to_string(), "2016-01-15T00:00:00Z");
}

#[test]
fn net_power_is_load_plus_heat_pump_plus_ev_less_both_kinds_of_pv() {
    // Read by eye in the tables: (season, home, quarter of the day, net W).
    let street = street();
    for (season, home, quarter, net_w) in [
        (Season::Summer, "h008", 0, 245 + 3_679),
        (Season::Summer, "h035", 0, 5_917 - 5_972),
        (Season::Summer, "h002", 2, 223),
        (Season::Winter, "h038", 48, 5_928 - 34_214),
    ] {
        let day = street.day(season, &HomeId::new(home).unwrap()).unwrap();
        let state = day.meter(WattHours::ZERO, WattHours::ZERO).nth(quarter).unwrap();
        assert_eq!(state.power_w, net_w, "{season} {home} {quarter}");
    }
}

#[test]
fn the_order_is_fixed_names_every_home_once_and_brings_pv_homes_early() {
    let street = street();
    let homes = street.homes_for_demo(41).unwrap();
    assert_eq!(street.home_count(), 41);
    assert_eq!(homes.iter().map(|home| &home.id).collect::<BTreeSet<_>>().len(), 41);
    let first: Vec<_> = homes.iter().take(12).map(|home| home.id.as_str()).collect();
    let order = "h003 h001 h015 h010 h027 h034 h004 h030 h013 h037 h008 h012";
    assert_eq!(first.join(" "), order);
    let of = |size: fn(&DemoHome) -> u32| homes.iter().take(12).filter(|home| size(home) > 0).count();
    let kinds =
        [of(|home| home.pv_w), of(|home| home.battery_wh), of(|home| home.ev_w), of(|home| home.heat_pump_w)];
    assert_eq!(kinds, [2, 2, 4, 3], "sun alone, batteries, vehicles, heat pumps");
    assert_eq!(street.homes_for_demo(5).unwrap(), homes[..5]);
}

#[test]
fn from_two_homes_on_neighbours_can_trade_in_both_seasons() {
    let street = street();
    for season in Season::ALL {
        for n in 2..=41 {
            let days: Vec<_> = profiles(&street, season, n);
            let tradable = (0..QUARTERS_PER_DAY).filter(|&quarter| {
                days.iter().any(|day| day.export_quarter_wh()[quarter] >= 400)
                    && days.iter().any(|day| day.import_quarter_wh()[quarter] >= 400)
            });
            assert!(tradable.count() >= 10, "{season} {n}");
        }
    }
}

#[test]
fn the_network_is_the_recorded_tree_below_the_external_grid() {
    let street = street();
    let nodes = street.network();
    let network = Network::new(&nodes).unwrap();
    assert_eq!(nodes.len(), 44);
    assert_eq!(nodes.iter().filter(|node| node.parent.is_none()).count(), 1);
    for home in street.homes_for_demo(41).unwrap() {
        assert!(network.index_of(&NodeId::new(home.node.as_str()).unwrap()).is_some(), "{}", home.node);
    }
    let node = |id: &str| nodes.iter().find(|node| node.id.as_str() == id).unwrap();
    let edge = |id| (node(id).parent.as_ref().map(NodeId::as_str), node(id).fee_down.get(), node(id).down);
    assert_eq!(edge("grid"), (None, 0, None));
    assert_eq!(edge("bus15"), (Some("grid"), 40_000, Some(WattHours::new(100_000))));
    assert_eq!(edge("bus29"), (Some("bus15"), 10_000, Some(WattHours::new(46_775))));
    assert_eq!(edge("bus26"), (Some("bus20"), 0, Some(WattHours::new(46_775))));
    assert!(nodes.iter().all(|node| node.fee_up == Price::ZERO && node.up == node.down));
    let fees: i64 = nodes.iter().map(|node| node.fee_down.get()).sum();
    assert_eq!(fees, 40_000 + 3 * 10_000);
}

/// What a float register in kWh says, rounded to Wh: as the profile of an SDM630 is read.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the meter's own float is the subject"
)]
fn through_float_kwh(register: WattHours) -> WattHours {
    let kwh = (register.get() as f64 / 1000.0) as f32;
    WattHours::new((f64::from(kwh) * 1000.0).round() as u64)
}

#[test]
fn every_register_of_either_fortnight_survives_a_float_in_kwh() {
    let street = street();
    for season in Season::ALL {
        for home in street.homes_for_demo(41).unwrap() {
            let profile = street.profile(season, &home.id).unwrap();
            for state in profile.meter(home.import_start, home.export_start) {
                for register in [state.import_register(), state.export_register()] {
                    assert!(register < REGISTER_LIMIT, "{season} {} {}", home.id, state.interval);
                    assert_eq!(through_float_kwh(register), register);
                }
            }
        }
    }
}

#[test]
fn first_registers_differ_so_that_a_swapped_meter_shows() {
    let homes = street().homes_for_demo(41).unwrap();
    let starts: BTreeSet<_> = homes.iter().map(|home| home.import_start).collect();
    assert_eq!(starts.len(), 41);
    assert!(homes.iter().all(|home| home.has_pv() != home.export_start.is_zero()));
}

#[test]
fn a_meter_floors_its_registers_and_carries_the_fractions() {
    let first = Season::Summer.first_interval();
    let profile = LoadProfile::from_net(first, &[3, 3, -2, 2, -7]);
    let states: Vec<_> = profile.meter(WattHours::new(10), WattHours::new(20)).collect();
    let shown = states.iter().map(|state| (state.import_register().get(), state.export_register().get()));
    assert_eq!(shown.collect::<Vec<_>>(), [(10, 20), (11, 20), (11, 20), (12, 20), (12, 22)]);
    assert_eq!(states[4].interval.index(), first.index() + 4);
    assert_eq!(states[4].power_w, -7);
}

#[test]
fn the_root_meter_counts_the_street_and_two_percent() {
    let net = LoadProfile::from_net(Season::Summer.first_interval(), &[1_000, -1_000, 0, 26, 24, -26, -24]);
    let root = net.with_losses();
    // 26 × 1.02 = 26.52 and 24 × 1.02 = 24.48 add up to 51; 26 × 0.98 = 25.48 and 24 × 0.98 = 23.52 to 49.
    assert_eq!(root.import_quarter_wh(), [1_020, 0, 0, 26, 25, 0, 0]);
    assert_eq!(root.export_quarter_wh(), [0, 980, 0, 0, 0, 25, 24]);
}

#[test]
fn the_root_meter_agrees_with_the_homes_and_stays_exact_for_as_long_as_is_said() {
    let street = street();
    for (n, season, days) in [
        (12, Season::Summer, 14),
        (12, Season::Winter, 8),
        (41, Season::Summer, 8),
        (41, Season::Winter, 3),
        (1, Season::Winter, 10),
    ] {
        let homes = street.homes_for_demo(n).unwrap();
        let root = street.root_meter(season, &homes).unwrap();
        let of_homes = profiles(&street, season, n);
        for (quarter, state) in root.meter(WattHours::ZERO, WattHours::ZERO).enumerate() {
            let import: u64 = of_homes.iter().map(|home| home.import_quarter_wh()[quarter]).sum();
            let export: u64 = of_homes.iter().map(|home| home.export_quarter_wh()[quarter]).sum();
            let net = import.cast_signed() - export.cast_signed();
            // In fiftieths: the root is the net and 2 % of it, less than one quarter-Wh of carry apart.
            assert!(
                (state.power_w * 50 - net * 50 - net.abs()).abs() < 50,
                "{season} {n} {}",
                state.interval
            );
            let exact = state.import_register() < REGISTER_LIMIT && state.export_register() < REGISTER_LIMIT;
            assert!(exact || quarter >= days * QUARTERS_PER_DAY, "{season} {n} {}", state.interval);
        }
    }
}

#[test]
fn a_street_of_no_or_too_many_homes_is_refused() {
    for asked in [0, 42] {
        let error = street().homes_for_demo(asked).unwrap_err();
        let expected = format!("a street of {asked} homes cannot be made: this data set has 1 to 41");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(
        "autumn".parse::<Season>().unwrap_err().to_string(),
        "\"autumn\" is no season; use summer or winter"
    );
    assert_eq!("winter".parse::<Season>().unwrap(), Season::Winter);
}

/// A copy of the built-in files to damage.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files::BUILTIN {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn a_folder_of_the_same_files_is_the_same_street() {
    assert_eq!(Dataset::load(Path::new(SHIPPED)).unwrap(), street());
}

/// The original layout: kW in a column per home and a row per quarter-hour.
fn as_original(season: Season, quantity: &str) -> String {
    let power = files::read_power(&Source::Builtin, season, quantity).unwrap();
    let names: Vec<_> = power.watts.keys().map(HomeId::as_str).collect();
    let mut text = format!("time,{}\n", names.join(","));
    let mut time = power.first;
    for quarter in 0..power.watts.values().next().unwrap().len() {
        text += time.to_string().trim_end_matches(":00Z");
        for watts in power.watts.values() {
            let kilowatts = format!(",{}.{:03}", watts[quarter] / 1000, watts[quarter] % 1000);
            text += kilowatts.trim_end_matches('0').trim_end_matches('.');
        }
        text += "\n";
        time = time.next();
    }
    text
}

#[test]
fn the_original_layout_in_kw_is_read_to_the_same_watt() {
    let folder = copy();
    for season in Season::ALL {
        for quantity in ["load_base", "load_hp", "load_ev", "pv", "pvb_out"] {
            fs::remove_file(folder.path().join(format!("{season}_{quantity}_w.csv"))).unwrap();
            let original = folder.path().join(format!("{season}_{quantity}_kw.csv"));
            fs::write(original, as_original(season, quantity)).unwrap();
        }
    }
    assert_eq!(Dataset::load(folder.path()).unwrap(), street());
}

/// What is said when `file` has `before` replaced by `after` once.
fn error_after(file: &str, before: &str, after: &str) -> String {
    let folder = copy();
    let path = folder.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(before), "{file} has no {before:?}");
    fs::write(&path, text.replacen(before, after, 1)).unwrap();
    Dataset::load(folder.path()).unwrap_err().to_string()
}

#[test]
fn a_damaged_folder_is_refused_with_the_place_of_the_damage() {
    for (file, before, after, expected) in [
        ("homes.csv", "h002,", "h001,", "homes.csv: a home comes twice"),
        ("homes.csv", "pv_kwp", "pv", "homes.csv has no column \"pv_kwp\""),
        (
            "homes.csv",
            "Load 1,32,",
            "Load 1,99,",
            "homes.csv: home h001 hangs on bus99, which buses.csv does not list",
        ),
        (
            "homes.csv",
            "household,H0-A,3.0",
            "castle,H0-A,3.0",
            "homes.csv line 3, column \"kind\": \"castle\" is not household, commercial or farm",
        ),
        (
            "buses.csv",
            "15,LV4.101 Bus 32,0.4,,",
            "15,LV4.101 Bus 32,0.4,29,",
            "buses.csv: bus15: only the busbar has depth 0 and no parent",
        ),
        (
            "buses.csv",
            "29,LV4.101 Bus 15,0.4,15,",
            "29,LV4.101 Bus 15,0.4,7,",
            "buses.csv: bus29 comes twice, or before its parent bus7",
        ),
        (
            "buses.csv",
            "15,9,F1",
            "15,99,F1",
            "buses.csv line 3, column \"via_line\": \"99\" is not a line of lines.csv or transformer",
        ),
        (
            "summer_pv_w.csv",
            ",0,0,",
            ",0,-1,",
            "summer_pv_w.csv line 2, column \"00:15\": \"-1\" is not a whole number of watts from 0 to 10 000 000",
        ),
        (
            "summer_pv_w.csv",
            "2016-06-14",
            "2016-06-15",
            "summer_pv_w.csv: the day from 2016-06-15T00:00:00Z is not in its place",
        ),
        (
            "winter_load_ev_w.csv",
            "h008,2016-01-11",
            "h999,2016-01-11",
            "winter_load_ev_w.csv: the day from 2016-01-12T00:00:00Z is not in its place",
        ),
    ] {
        assert_eq!(error_after(file, before, after), expected);
    }
}

#[test]
fn an_original_table_with_a_gap_or_a_home_twice_is_refused() {
    let folder = copy();
    fs::remove_file(folder.path().join("winter_load_ev_w.csv")).unwrap();
    let sound = as_original(Season::Winter, "load_ev");
    for (before, after, expected) in [
        ("h010", "h008", "home h008 comes twice"),
        (
            "\n2016-01-11T00:30",
            "\n2016-01-11T00:45",
            "the quarter-hour 2016-01-11T00:45:00Z is not in its place",
        ),
    ] {
        fs::write(folder.path().join("winter_load_ev_kw.csv"), sound.replacen(before, after, 1)).unwrap();
        let error = Dataset::load(folder.path()).unwrap_err().to_string();
        assert_eq!(error, format!("winter_load_ev_kw.csv: {expected}"));
    }
}

#[test]
fn a_missing_or_endless_file_is_named() {
    let folder = copy();
    let base = folder.path().join("winter_load_base_w.csv");
    fs::remove_file(&base).unwrap();
    let error = Dataset::load(folder.path()).unwrap_err().to_string();
    assert!(
        error.starts_with("the data set has no winter_load_base_w.csv (or winter_load_base_kw.csv);"),
        "{error}"
    );
    fs::File::create(&base).unwrap().set_len(1 << 30).unwrap();
    let error = Dataset::load(folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("winter_load_base_w.csv is larger than 16777216 bytes"), "{error}");
    let error = Dataset::load(&folder.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, DatasetError::Missing { file } if file == "lines.csv"));
}
