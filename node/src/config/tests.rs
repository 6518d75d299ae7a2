//! Every file in `tests/config/valid_configs` loads; every one in `invalid_configs` gives the report beside it.

use std::fs;

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
    assert_eq!(full.meter.unwrap().timeout_ms, 1000);
    assert_eq!(full.root_meter.unwrap().key_file, Path::new("/etc/commonwatt/root-meter.key"));
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let config = read("home = \"h001\"\ndata_dir = \"/var/lib/commonwatt\"\n").unwrap();
    assert_eq!(config.genesis, Path::new("/etc/commonwatt/genesis.toml"));
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:8480");
    assert_eq!(config.network.listen, [any_address(8470)]);
    assert_eq!((config.meter, config.log_level.as_str()), (None, "info"));
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
    let config = read(text).unwrap();
    assert_eq!((config.api.hosts, config.api.utc_offset_minutes), (vec!["pi.local".to_owned()], -300));
    assert_eq!(config.data_dir, Path::new("/etc/commonwatt/d"));
    assert_eq!(read(SAMPLE).unwrap().api.utc_offset_minutes, 480);
    assert!(read(&text.replace("-300", "-721")).is_err());
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
