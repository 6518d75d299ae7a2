//! What a profile may say, and what is told when it says something else.

use proptest::prelude::*;

use super::*;
use crate::Parity;

const SDM630: &str = builtin::TEXTS[0];

/// The faults of the SDM630 profile with one change, each with its place.
fn faults_of(from: &str, to: &str) -> Vec<(ProfileFault, String)> {
    assert!(SDM630.contains(from), "{from}");
    let text = SDM630.replacen(from, to, 1);
    let error = Profile::parse(&text).unwrap_err();
    let marked = |fault: &ProfileFault| text[fault.span.clone().unwrap()].to_owned();
    error.faults().iter().map(|fault| (fault.clone(), marked(fault))).collect()
}

/// The only fault of the changed profile: title and label hold `told`, and `marked` is what is shown.
fn refused(from: &str, to: &str, marked: &str, told: &str) {
    let faults = faults_of(from, to);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let (fault, place) = &faults[0];
    assert_eq!(place, marked, "{fault}");
    assert!(fault.to_string().contains(told), "{fault}");
}

#[test]
fn every_built_in_profile_parses_and_is_found_by_its_own_name() {
    for (text, profile) in builtin::TEXTS.iter().zip(Profile::builtin()) {
        if let Err(error) = Profile::parse(text) {
            panic!("{error:#?}");
        }
        assert_eq!(Profile::by_name(profile.name()).unwrap().hash(), profile.hash());
        assert!(!profile.source().is_empty() && !profile.device().is_empty());
        for quantity in profile.quantities() {
            assert!(quantity.registers > 0 && !quantity.obis.is_empty());
        }
    }
    assert!(Profile::by_name("nobody").is_none());
    assert_eq!(Profile::builtin()[0].name(), "eastron-sdm630", "what the simulator serves");
}

#[test]
fn the_hash_is_the_sha_256_of_the_text() {
    let (one, other) = (Profile::parse(SDM630).unwrap(), Profile::parse(&format!("{SDM630}\n")).unwrap());
    assert_eq!(one.hash().as_slice(), Sha256::digest(SDM630.as_bytes()).as_slice());
    assert_ne!(one.hash(), other.hash());
}

#[test]
fn a_profile_says_how_the_device_is_reached_and_what_it_counts() {
    let sdm = Profile::by_name("eastron-sdm630").unwrap();
    let line = Line { baud: 9600, parity: Parity::None, stop_bits: 1 };
    assert_eq!((sdm.bus().line, sdm.bus().unit, sdm.bus().port), (Some(line), 1, 502));
    assert_eq!(sdm.bus().frame_gap, Duration::from_millis(60));
    assert_eq!((sdm.modulus(), sdm.has_serial(), sdm.sunspec_model()), (None, true, None));
    assert_eq!(sdm.energy_obis(), (Some("1-0:1.8.0"), Some("1-0:2.8.0")));
    let energies: Vec<_> = sdm.quantities().into_iter().take(2).collect();
    assert_eq!((energies[0].name, energies[0].function, energies[0].register), ("import", 4, 0x48));
    assert_eq!((energies[1].offset, sdm.quantities()[2].offset), (2, 0x34));
    assert_eq!((energies[1].name, energies[1].registers, energies[1].register), ("export", 2, 0x4A));
    let sunspec = Profile::by_name("sunspec-203").unwrap();
    assert_eq!(sunspec.modulus(), Some(WattHours::new(1 << 32)));
    assert_eq!(sunspec.sunspec_model(), Some(203));
}

#[test]
fn a_profile_that_contradicts_itself_is_refused_at_the_field() {
    refused("name = \"eastron-sdm630\"", "name = \"Eastron\"", "\"Eastron\"", "expected 1 to 40 characters");
    refused("registers_per_read = 80", "registers_per_read = 126", "126", "126 is out of range");
    refused(
        "import = { address = 0x0048, type = \"f32\"",
        "import = { address = 0x0048, absent = 0x1_0000_0000, type = \"f32\"",
        "0x1_0000_0000",
        "`energy.import.absent` can never be sent (the value has 2 registers of 16 bits)",
    );
    refused("count = 78", "count = 81", "81", "`live.count` cannot be used: 81 is out of range");
    refused(
        "import = { address = 0x0048",
        "import = { address = 0x004B",
        "0x004B",
        "`energy.import.address` is not inside the block (the block is 4 registers from 0x0048)",
    );
    refused("unit = \"kWh\"", "unit = \"kW\"", "\"kW\"", "expected a step of a unit such as \"Wh\"");
    refused("1-0:1.8.0", "1.8.0", "\"1.8.0\"", "expected an OBIS code such as \"1-0:1.8.0\"");
    refused("quantum_wh = 1", "quantum_wh = 0", "0", "expected an integer from 1 to 1000000");
    refused("9600 8N1", "9600 7N1", "\"9600 7N1\"", "expected a serial line such as \"9600 8N1\"");
    refused(
        "export = { address = 0x004A,",
        "export = { address = 0x004A, invert = true,",
        "true",
        "`energy.export.invert` is for power and current only",
    );
    refused(
        "power = { address = 0x0034,",
        "power = { address = 0x0034, invert = true, absolute = true,",
        "true",
        "`live.power.absolute` contradicts `invert`",
    );
    refused(
        "count = 78\nspare = 2",
        "count = 78\nspare = 3",
        "3",
        "makes the block too long (with these the block has 81",
    );
    refused(
        "frequency = { address = 0x0046",
        "frequency = { address = 0x0034",
        "{ address = 0x0034, type = \"f32\", unit = \"Hz\", obis = \"1-0:14.7.0\" }",
        "`live.frequency` has the same registers as `live.power`",
    );
    refused(
        "import = { address = 0x0048, type = \"f32\", unit = \"kWh\"",
        "import = { address = 0x0048, type = \"u32\", unit = \"0.01 kWh\"",
        "\"0.01 kWh\"",
        "coarser than the quantum (one step is 10 Wh, but quantum_wh is 1)",
    );
}

#[test]
fn what_is_missing_unknown_or_misspelt_is_told_with_what_was_probably_meant() {
    refused(
        "registers_per_read",
        "registers_pre_read",
        "registers_pre_read",
        "did you mean `registers_per_read`?",
    );
    refused("function = 4", "function = 6", "6", "function 6 does not read registers");
    refused("type = \"f32\"", "type = \"f64\"", "\"f64\"", "expected one of \"u16\", \"i16\"");
    refused("[limits]", "[limit]", "limit", "did you mean `limits`?");
    refused("type = \"u32\"", "type = \"text\"", "[identity]", "a text takes 1 to 16 registers");
    refused("port = 502", "port = 502\ncolour = \"red\"", "colour", "unknown key `colour` in `bus`");
}

#[test]
fn a_wrong_test_vector_is_refused_at_its_line_with_what_came_out() {
    refused(
        "import_wh = 12_345_670",
        "import_wh = 12_345_671",
        "12_345_671",
        "`vector.energy.import_wh` is not what the words say: they decode to 12345670",
    );
    let (fault, _) = faults_of("4640 e6ae 460b 14ec\"", "4640 e6ae 460b 14\"").remove(0);
    assert!(fault.title.contains("\"14\" is not a register of four hex digits"), "{fault}");
    refused(
        "4640 e6ae 460b 14ec\"",
        "4640 e6ae\"",
        "\"4640 e6ae\"",
        "`vector.energy.words` has 2 registers, its block 4",
    );
    let (fault, _) = faults_of("4640 e6ae 460b", "4640 e6ae c60b").remove(0);
    assert!(fault.title.contains("does not decode: impossible export: -8901230 Wh"), "{fault}");
    refused("frequency_mhz = 49_980", "", "[vector.live]", "`vector.live.frequency_mhz` is missing");
}

#[test]
fn all_faults_are_told_in_one_go_in_the_order_of_the_text() {
    let text = SDM630
        .replacen("name = \"eastron-sdm630\"", "name = \"\"", 1)
        .replacen("port = 502", "port = 0", 1)
        .replacen("quantum_wh = 1", "quantum = 1", 1)
        .replacen("power_w = -570", "power_w = -57", 1);
    let error = Profile::parse(&text).unwrap_err();
    let titles: Vec<&str> = error.faults().iter().map(|fault| fault.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "`name` cannot be used: \"\" is no name",
            "`bus.port` cannot be used: 0 is out of range",
            "`energy.quantum_wh` is missing",
            "unknown key `quantum` in `energy`",
            "`vector.live.power_w` is not what the words say: they decode to -570",
        ],
    );
    let line = text.lines().position(|line| line.starts_with("name")).unwrap() + 1;
    let message = error.to_string();
    assert!(
        message.starts_with(&format!("profile is not valid: line {line}, column 8: `name`")),
        "{message}"
    );
    assert!(message.ends_with("; 4 more"), "{message}");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(
        position in 0..SDM630.len(),
        removed in 0usize..40,
        inserted in "[ -~\\n]{0,12}",
        cut in any::<bool>(),
    ) {
        prop_assume!(SDM630.is_ascii());
        let end = if cut { SDM630.len() } else { (position + removed).min(SDM630.len()) };
        let text = format!("{}{inserted}{}", &SDM630[..position], &SDM630[end..]);
        if let Err(error) = Profile::parse(&text) {
            prop_assert!(!error.faults().is_empty());
            for fault in error.faults() {
                prop_assert!(fault.span.as_ref().is_none_or(|span| text.get(span.clone()).is_some()), "{}", fault);
            }
        }
    }
}

#[test]
fn arrays_in_arrays_without_end_are_refused_and_not_followed() {
    for deep in ["[".repeat(60_000), "a.".repeat(30_000)] {
        assert!(Profile::parse(&format!("name = {deep}")).is_err());
        assert!(Profile::parse(&format!("{deep}b = 1")).is_err());
    }
}

#[test]
fn a_text_that_is_no_toml_or_too_long_is_refused() {
    let error = Profile::parse("name = \"a\nb\"").unwrap_err();
    assert!(error.to_string().contains("line 1, column "), "{error}");
    let error = Profile::parse(&" ".repeat(70_000)).unwrap_err();
    assert_eq!(error.to_string(), "profile is not valid: 70000 bytes are more than the limit of 65536");
}

/// The guide for users who add a model.
const GUIDE: &str = include_str!("../../../docs/meters.md");

#[test]
fn the_example_of_the_guide_is_a_profile_and_the_guide_lists_every_built_in_one() {
    let (_, rest) = GUIDE.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let profile = Profile::parse(example).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((profile.name(), profile.quantum()), ("my-meter", WattHours::new(10)));
    for profile in Profile::builtin() {
        assert!(GUIDE.contains(&format!("| `{}`", profile.name())), "{}", profile.name());
    }
}

#[test]
fn an_accumulator_without_its_modulus_is_refused() {
    let text = builtin::TEXTS.iter().find(|text| text.contains("name = \"sunspec-203\"")).unwrap();
    let error = Profile::parse(&text.replacen("modulus_wh = ", "# ", 1)).unwrap_err();
    assert_eq!(error.faults().len(), 2, "import and export: {error}");
    assert!(error.faults()[0].help.as_ref().unwrap().contains("add modulus_wh"));
    let error = Profile::parse(&text.replacen("length = 105", "length = 40", 1)).unwrap_err();
    assert!(error.to_string().contains("`energy.count` reaches beyond the model"), "{error}");
}

/// Profile, function, and first register of import, export and the first power register, typed a second time from the sources of
/// each profile: a slip of the pen in a profile shows here. `None` where the model has no such register.
type Typed = (&'static str, u8, Option<u16>, Option<u16>, u16);

const SOURCES: [Typed; 24] = [
    ("eastron-sdm630", 4, Some(0x48), Some(0x4A), 0x34),
    ("eastron-sdm72d-m", 4, Some(0x48), Some(0x4A), 0x34),
    ("eastron-sdm120", 4, Some(0x48), Some(0x4A), 0x0C),
    ("carlo-gavazzi-em24-rs485", 4, Some(0x3E), Some(0x5C), 0x28),
    ("carlo-gavazzi-em24-ethernet", 4, Some(0x34), Some(0x4E), 0x28),
    ("carlo-gavazzi-em340", 4, Some(0x34), Some(0x4E), 0x28),
    ("abb-b23", 3, Some(0x5000), Some(0x5004), 0x5B14),
    ("schneider-iem3000", 3, Some(0x0C83), Some(0x0C87), 0x0BF3),
    ("janitza-b23", 3, Some(0x4A7C), Some(0x4A84), 0x4A52),
    ("janitza-umg604", 3, Some(9_851), Some(9_863), 1_369),
    ("janitza-umg96rm", 3, Some(19_068), Some(19_076), 19_026),
    ("chint-dtsu666", 3, Some(0x101E), Some(0x1028), 0x2012),
    ("acrel-adw300", 3, Some(62), Some(64), 36),
    ("acrel-adl3000-e", 3, Some(10), Some(20), 106),
    ("huawei-sun2000-meter", 3, Some(37_121), Some(37_119), 37_113),
    ("sungrow-sg", 4, Some(5_098), Some(5_094), 5_082),
    ("sungrow-sh", 4, Some(13_036), Some(13_045), 13_009),
    ("sma-inverter-meter", 3, Some(30_581), Some(30_583), 30_865),
    ("deye-hybrid-3p", 3, Some(522), Some(524), 625),
    ("growatt-hybrid", 4, Some(1_046), Some(1_050), 1_021),
    ("goodwe-et", 3, Some(36_017), Some(36_015), 36_025),
    ("victron-grid", 3, Some(2_634), Some(2_636), 2_638),
    ("solaredge-meter", 3, Some(46), Some(38), 18),
    ("sunspec-103", 3, None, Some(24), 14),
];

#[test]
fn the_registers_are_those_of_the_sources() {
    for (name, function, import, export, power) in SOURCES {
        let profile = Profile::by_name(name).unwrap();
        let quantities = profile.quantities();
        let register = |of: &str| quantities.iter().find(|it| it.name == of).map(|it| it.register);
        assert_eq!(
            (register("import"), register("export"), register("power")),
            (import, export, Some(power)),
            "{name}"
        );
        assert!(quantities.iter().all(|quantity| quantity.function == function), "{name}");
    }
}
