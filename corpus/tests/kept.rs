//! The kept inputs of every fuzz target, judged again; and the golden files of the ledger, which are inputs too.

use std::fs;
use std::path::{Path, PathBuf};

/// What all kept inputs may take, in bytes and files: they are part of every clone and every test run.
const KEPT_BYTES_MAX: u64 = 300_000;
const KEPT_FILES_MAX: usize = 200;

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kept")
}

/// A golden file's bytes: hexadecimal between lines that say what they are.
fn golden(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with(['#', '='])).collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[test]
fn every_kept_input_of_every_target_is_judged_well() {
    for (target, judge) in corpus::TARGETS {
        let files = files_in(&kept().join(target));
        assert!(files.len() >= 3, "{target} has {} kept inputs", files.len());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let outcome = std::panic::catch_unwind(|| judge(&bytes));
            assert!(outcome.is_ok(), "{target} does not hold for {}", file.display());
        }
    }
}

#[test]
fn there_is_a_folder_for_each_target_and_no_other_and_all_are_small() {
    let mut names: Vec<_> = corpus::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    let folders = files_in(&kept());
    let found: Vec<_> =
        folders.iter().map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(found, names);
    let files: Vec<_> = folders.iter().flat_map(|folder| files_in(folder)).collect();
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(files.len() <= KEPT_FILES_MAX && bytes <= KEPT_BYTES_MAX, "{} files, {bytes} bytes", files.len());
}

#[test]
fn golden_files_are_judged_well_as_whatever_they_are_taken_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ledger/tests/golden");
    let files = files_in(&folder).into_iter().filter(|file| file.extension().is_some_and(|it| it == "txt"));
    let mut judged = 0;
    for file in files {
        let bytes = golden(&fs::read_to_string(file).unwrap());
        for target in ["entries", "blocks", "messages", "log", "snapshot"] {
            corpus::judge(target, &bytes);
        }
        judged += 1;
    }
    assert!(judged > 30, "{judged} golden files");
}

#[test]
fn real_encodings_are_judged_well_and_there_are_some_of_every_kind() {
    for (target, judge) in corpus::TARGETS {
        let seeds = corpus::seeds(target);
        seeds.iter().for_each(|seed| judge(seed));
        assert!(seeds.len() >= 4, "{target} has {} seeds", seeds.len());
    }
    let kinds = corpus::seeds("entries").len();
    assert!(kinds >= 24, "{kinds} kinds of entries");
}

#[test]
fn noise_is_judged_well_by_every_target() {
    for (target, judge) in corpus::TARGETS {
        for seed in 0..40 {
            let bytes = corpus::noise(seed, 200 + usize::try_from(seed).unwrap() * 20);
            let outcome = std::panic::catch_unwind(|| judge(&bytes));
            assert!(outcome.is_ok(), "{target} does not hold for the noise of seed {seed}");
        }
    }
}
