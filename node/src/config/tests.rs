//! Every file in `tests/config/valid_configs` loads; every one in `invalid_configs` gives the report beside it.

use std::fs;
use std::time::Duration;

use super::document::Document;
use super::report::Report;
use super::*;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "toml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// Reads a file under its bare name, so that reports do not depend on where the sources lie.
fn document(path: &Path) -> Document {
    Document::of_text(Path::new(path.file_name().unwrap()), &fs::read_to_string(path).unwrap())
}

#[test]
fn every_valid_configuration_loads() {
    for path in files("valid_configs") {
        if let Err(report) = Config::read(&document(&path)) {
            panic!("{}:\n{report}", path.display());
        }
    }
}

#[test]
fn every_invalid_configuration_gives_its_report() {
    for path in files("invalid_configs") {
        let report = Config::read(&document(&path)).expect_err(&path.display().to_string()).to_string();
        let expected_path = path.with_extension("txt");
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        assert!(
            report.trim() == expected.trim(),
            "{} gives another report than {}:\n{report}",
            path.display(),
            expected_path.display()
        );
    }
}

#[test]
fn a_report_names_file_line_and_column_and_marks_the_place() {
    let path = files("invalid_configs").into_iter().find(|path| path.ends_with("unknown_key.toml")).unwrap();
    let report = Config::read(&document(&path)).unwrap_err().to_string();
    for part in ["unknown_key.toml:5:1", "^^^^^^ did you mean `address`?", "1 error in unknown_key.toml"] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
}

fn read(text: &str) -> Result<Config, Report> {
    Config::read(&Document::of_text(Path::new("/etc/commonwatt/commonwatt.toml"), text))
}

#[test]
fn the_sample_loads_and_its_comments_too() {
    let plain = read(SAMPLE).unwrap();
    assert_eq!(plain.consensus, ConsensusSettings::default());
    assert_eq!(plain.data_dir, Path::new("/etc/commonwatt/data"));
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let full = read(&uncommented).unwrap();
    assert_eq!(full.consensus, ConsensusSettings::default(), "what is commented out shows the defaults");
    assert_eq!(full.meter.unwrap().timeout, Duration::from_millis(500));
    assert_eq!(full.meters[0].name, "roof");
    assert_eq!(full.pv, Some(PvSettings { peak_w: 8_000, storage: false }));
    assert_eq!(full.location.map(|it| (it.latitude, it.longitude)), Some((31.23, 121.47)));
    assert_eq!(full.share.map(|share| share.listen.to_string()), Some("127.0.0.1:1502".to_owned()));
    assert_eq!(full.root_meter.unwrap().key_file, Path::new("/etc/commonwatt/root-meter.key"));
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = read("home = \"h001\"\ndata_dir = \"/var/lib/commonwatt\"\n").unwrap();
    assert_eq!(config.genesis, Path::new("/etc/commonwatt/genesis.toml"));
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:8480");
    assert_eq!(config.network.listen, [any_address(8470)]);
    assert!(config.meter.is_none() && config.meters.is_empty() && config.share.is_none());
    assert_eq!(config.log_level, "info");
}

#[test]
fn an_api_open_to_the_network_is_warned_of() {
    let text = "home = \"h001\"\ndata_dir = \"d\"\n[api]\nlisten = \"0.0.0.0:8480\"\n";
    assert!(read(text).unwrap().warnings()[0].contains("on a LAN you trust"));
    assert!(!read(&text.replace("0.0.0.0", "[::1]")).unwrap().warnings()[0].contains("LAN"));
}

#[test]
fn the_page_is_told_its_names_and_its_clock() {
    let text =
        "home = \"h001\"\ndata_dir = \"d/.\"\n[api]\nhosts = [\"pi.local\"]\nutc_offset_minutes = -300\n";
    let named = text.replace("[api]", "zone = \"Europe/Vienna\"\n[api]");
    let config = read(text).unwrap();
    assert_eq!((config.api.hosts, config.zone), (vec!["pi.local".to_owned()], Zone::of_minutes(-300)));
    assert_eq!(config.data_dir, Path::new("/etc/commonwatt/d"));
    assert_eq!(read(SAMPLE).unwrap().zone.to_string(), "Asia/Shanghai");
    assert_eq!(read("home = \"h001\"\ndata_dir = \"d\"\n").unwrap().zone, Zone::UTC);
    assert!(read(&text.replace("-300", "-721")).is_err());
    let twice = read(&named).unwrap_err().to_string();
    assert!(twice.contains("`zone` says already where clocks are"), "{twice}");
    let config = read(&named.replace("utc_offset_minutes = -300\n", "")).unwrap();
    assert_eq!(config.zone.to_string(), "Europe/Vienna");
    let nowhere = read(&named.replace("Vienna", "Wien")).unwrap_err().to_string();
    assert!(nowhere.contains("\"Europe/Wien\" is no time zone"), "{nowhere}");
}

/// Whatever is done to a file, reading it ends in a configuration or a report that can be printed.
#[test]
fn no_damage_to_a_file_makes_reading_it_panic() {
    let path = files("valid_configs").into_iter().find(|path| path.ends_with("inline_tables.toml")).unwrap();
    let text = fs::read_to_string(path).unwrap();
    let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
    let mut reported = 0;
    for (position, &place) in places.iter().enumerate() {
        let next = places.get(position + 1).copied().unwrap_or(text.len());
        for put in ["", "\"", "¥", "\n", "[", "=", "\u{1b}", "😀 = {", "'''", "9e99"] {
            for rest in [&text[place..], &text[next..], ""] {
                if let Err(report) = read(&format!("{}{put}{rest}", &text[..place])) {
                    assert!(!report.render(true).is_empty());
                    reported += 1;
                }
            }
        }
    }
    assert!(reported > places.len(), "most damage is noticed");
}

#[test]
fn deep_nesting_and_control_characters_are_reported_harmlessly() {
    let deep = read(&format!("home = {}", "[".repeat(100_000))).unwrap_err();
    assert!(!deep.faults().is_empty());
    let text = "home = \"h001\"\ndata_dir = \"d\"\n\"\\u001b[2J\" = 1\n[log]\nlevel = \"\\u001b[31m\"\n";
    let printed = read(text).unwrap_err().to_string();
    assert!(!printed.contains('\u{1b}'), "a file must not steer the terminal: {printed:?}");
}

const HOME: &str = "home = \"h001\"\ndata_dir = \"d\"\n";

fn meter_of(section: &str) -> MeterSettings {
    read(&format!("{HOME}[meter]\n{section}")).unwrap().meter.unwrap()
}

#[test]
fn a_meter_is_reached_as_its_section_says_and_else_as_is_usual_for_the_device() {
    let sdm = "profile = \"eastron-sdm630\"\n";
    let at = |text: &str| meter_of(&format!("{sdm}{text}")).endpoint.to_string();
    assert_eq!(at("address = \"meter.lan\""), "meter.lan:502");
    assert_eq!(at("address = \"[fe80::1]:1502\"\ntransport = \"tcp\""), "[fe80::1]:1502");
    assert_eq!(at("address = \"10.0.0.7:8899\"\ntransport = \"rtu-tcp\""), "10.0.0.7:8899 (RTU over TCP)");
    assert_eq!(at("device = \"/dev/ttyUSB0\""), "/dev/ttyUSB0 (9600 8N1)");
    let line =
        "device = \"/dev/ttyUSB0\"\ntransport = \"serial\"\nbaud = 19200\nparity = \"even\"\nstop_bits = 1";
    assert_eq!(at(line), "/dev/ttyUSB0 (19200 8E1)");
    let huawei = meter_of("address = \"inverter.lan\"\nprofile = \"huawei-sun2000-meter\"\n");
    assert!(huawei.bus().connect_delay >= Duration::from_secs(1) && huawei.timeout >= Duration::from_secs(1));
}

#[test]
fn a_model_without_a_serial_register_takes_the_number_on_its_nameplate() {
    let meter = meter_of("address = \"meter.lan\"\nprofile = \"eastron-sdm72d-m\"\nserial = \"1234567\"\n");
    assert_eq!(meter.meter().nameplate.unwrap().as_str(), "1234567");
}

#[test]
fn a_profile_of_the_users_folder_can_be_named_and_a_bad_one_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let own = meter::Profile::by_name("abb-b23").unwrap();
    let text = include_str!("../../../meter/profiles/abb-b23.toml");
    fs::write(dir.path().join("mine.toml"), text.replacen(own.name(), "my-meter", 1)).unwrap();
    let config = format!(
        "{HOME}profiles = {:?}\n[meter]\naddress = \"m\"\nprofile = \"my-meter\"\n",
        dir.path().display().to_string()
    );
    assert_eq!(read(&config).unwrap().meter.unwrap().profile.name(), "my-meter");
    fs::write(dir.path().join("bad.toml"), "name = 1").unwrap();
    let report = read(&config).unwrap_err().to_string();
    for part in ["`profiles` cannot be used", "bad.toml", "`commonwatt meter check FILE`"] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
}

#[test]
fn sharing_beyond_this_machine_is_warned_of() {
    let text = format!(
        "{HOME}[meter]\naddress = \"m\"\nprofile = \"abb-b23\"\n[share]\nlisten = \"0.0.0.0:1502\"\n"
    );
    let warnings = read(&text).unwrap().warnings();
    assert!(warnings[0].contains("Modbus has no password"), "{warnings:?}");
    assert!(!read(&text.replace("0.0.0.0", "127.0.0.1")).unwrap().warnings()[0].contains("password"));
}

#[test]
fn the_place_is_missed_where_exports_are_held_against_the_sun_and_nowhere_else() {
    let pv = format!("{HOME}[pv]\npeak_w = 5000\n");
    let warns = |text: &str| read(text).unwrap().warnings().iter().any(|it| it.contains("against the sun"));
    assert!(!warns(&pv), "a home with panels does not judge its own export");
    let root = format!("{pv}[root_meter]\naddress = \"m\"\nprofile = \"abb-b23\"\nkey_file = \"root.key\"\n");
    assert!(warns(&root));
    assert!(!warns(&format!("{root}[location]\nlatitude = 31.23\nlongitude = 121.47\n")));
}

#[test]
fn a_peak_power_that_the_ledger_would_refuse_is_refused_here() {
    let of = |peak_w: u32| read(&format!("{HOME}[pv]\npeak_w = {peak_w}\n"));
    assert_eq!(of(ledger::PEAK_W_MAX).unwrap().pv.map(|pv| pv.peak_w), Some(ledger::PEAK_W_MAX));
    let report = of(ledger::PEAK_W_MAX + 1).unwrap_err().to_string();
    assert!(report.contains("expected 1 to 1000000 W"), "{report}");
}

#[test]
fn a_further_meter_cannot_take_the_name_under_which_another_is_shown_or_called() {
    let named = |name: &str| {
        let meter = "address = \"m\"\nprofile = \"abb-b23\"";
        read(&format!("{HOME}[[meters]]\nrole = \"pv\"\nname = \"{name}\"\n{meter}\n"))
    };
    for name in ["grid", "meter", "root_meter"] {
        let report = named(name).unwrap_err().to_string();
        assert!(report.contains("choose another name"), "{report}");
    }
    assert_eq!(named("grid-2").unwrap().meters[0].name, "grid-2");
}

#[cfg(not(feature = "control-modbus"))]
#[test]
fn a_program_that_cannot_write_to_devices_says_which_can() {
    let text = format!(
        "{HOME}[device.battery]\ncontrol = \"modbus\"\ncapacity_wh = 1\ncharge_w = 1\ndischarge_w = 1\n\
         [device.battery.modbus]\naddress = \"inverter\"\nmap = \"sunspec\"\n"
    );
    let report = read(&text).unwrap_err().to_string();
    for part in
        ["built without the control", "not in this program", "`--features control-modbus`", "1 error in"]
    {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
}

#[test]
fn a_device_over_modbus_has_the_documented_defaults() {
    use crate::config::control::ControlMap;
    let text = format!(
        "{HOME}[device.battery]\ncapacity_wh = 1\ncharge_w = 1\ndischarge_w = 1\n\
         [device.battery.modbus]\naddress = \"inverter\"\nmap = \"sunspec\"\n"
    );
    let modbus = |text: &str| read(text).unwrap().household.battery.unwrap().modbus.unwrap();
    let read = modbus(&text);
    assert_eq!((read.at.to_string().as_str(), read.unit), ("inverter:502", 1));
    assert_eq!((read.timeout, read.map), (Duration::from_secs(1), ControlMap::Sunspec { revert_s: 300 }));
    assert_eq!(modbus(&format!("{text}revert_s = 0\n")).map, ControlMap::Sunspec { revert_s: 0 });
}

#[test]
fn relays_are_read_and_a_single_one_is_warned_of() {
    let relay = |last: u8| {
        format!("\"/ip4/203.0.113.{last}/tcp/8470/p2p/12D3KooWNbGStuRvcA1e6mpJaefMhBXvdpL8Zd3YqL7KZQhAGdbD\"")
    };
    let config = |network: &str| read(&format!("home = \"h1\"\ndata_dir = \".\"\n[network]\n{network}\n"));
    let two = config(&format!("relays = [{}, {}]", relay(11), relay(12))).unwrap();
    assert_eq!((two.network.relaying.relays.len(), two.network.relaying.serves), (2, false));
    let warned =
        |config: &Config| config.warnings().iter().any(|it| it.contains("name two, of different owners"));
    assert!(!warned(&two) && !two.warnings().iter().any(|it| it.contains("waits to be dialled")));
    assert!(warned(&config(&format!("relays = [{}]", relay(11))).unwrap()));
    let serving = config("relay = true\nannounce = [\"/ip4/203.0.113.7/tcp/8470\"]").unwrap();
    assert!(serving.network.relaying.serves && serving.network.relaying.announce.len() == 1);
    let many: Vec<String> = (11..16).map(relay).collect();
    let report = config(&format!("relays = [{}]", many.join(", "))).unwrap_err().to_string();
    assert!(report.contains("more than 4 relays"), "{report}");
    assert!(
        config("relays = [\"/ip4/203.0.113.7/tcp/8470\"]").is_err(),
        "an address without an id could be anybody's"
    );
}
